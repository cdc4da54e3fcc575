"""The moving-average crossover: which side, which stop, and when it has no opinion."""

import pytest

from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import HOUR_NS, Bar
from tidegate.domain.signals import Signal
from tidegate.strategies.base import View
from tidegate.strategies.trend_following import TrendFollowing


def decide(fast: float, slow: float, atr: float, close: float = 100.0, **params: float) -> Signal | None:
    strategy = TrendFollowing(**params)  # type: ignore[arg-type]
    strategy.prepare()
    strategy.fast.now, strategy.slow.now, strategy.atr.now = fast, slow, atr
    return strategy.decide(View(Bar(InstrumentId("X"), HOUR_NS, HOUR_NS, 0, close, close, close, close, 1.0)))


def test_long_above_short_below_with_a_stop_in_atrs_from_the_close() -> None:
    assert decide(fast=101.0, slow=99.0, atr=2.0) == Signal(strength=1.0, stop=94.0)
    assert decide(fast=99.0, slow=101.0, atr=2.0) == Signal(strength=-1.0, stop=106.0)
    assert decide(fast=101.0, slow=99.0, atr=2.0, stop_atrs=1.5) == Signal(strength=1.0, stop=97.0)


def test_no_opinion_inside_the_dead_band() -> None:
    assert decide(fast=100.4, slow=100.0, atr=2.0) is None
    assert decide(fast=100.5, slow=100.0, atr=2.0) == Signal(strength=1.0, stop=94.0)
    assert decide(fast=100.4, slow=100.0, atr=2.0, dead_band_atrs=0.0) == Signal(strength=1.0, stop=94.0)
    assert decide(fast=100.0, slow=100.0, atr=2.0, dead_band_atrs=0.0) is None


@pytest.mark.parametrize("atr", [0.0, float("nan")])
def test_no_opinion_on_a_market_without_a_range(atr: float) -> None:
    assert decide(fast=101.0, slow=100.0, atr=atr) is None


def test_a_stop_below_zero_is_no_stop() -> None:
    assert decide(fast=101.0, slow=99.0, atr=50.0, dead_band_atrs=0.0) == Signal(strength=1.0, stop=None)


def test_the_fast_average_must_be_the_faster_one() -> None:
    with pytest.raises(ValueError, match="fast_bars must be below slow_bars, not 50 against 50"):
        TrendFollowing(fast_bars=50, slow_bars=50).prepare()


def test_it_is_warm_when_the_slow_average_is() -> None:
    assert TrendFollowing().warmup_bars(HOUR_NS) == 100
