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


# ---- several speeds --------------------------------------------------------------------------------------------------


def many(**params: float) -> TrendFollowing:
    strategy = TrendFollowing(multi_speed=True, **params)  # type: ignore[arg-type]
    strategy.prepare()
    return strategy


def read(
    strategy: TrendFollowing,
    crossings: tuple[float, float, float],
    places: tuple[float, float, float],
    *,
    close: float = 100.0,
    atr: float = 2.0,
    height: float = 10.0,
    scale: float = 2.0,
) -> Signal | None:
    """Crossovers in ATRs, and the places of the last long close in its channels, from 0 (floor) to 1 (ceiling)."""
    for (fast, slow, range_), gap in zip(strategy.crossings, crossings, strict=True):
        fast.now, slow.now, range_.now = 100.0 + 2.0 * gap, 100.0, scale
    strategy.last.now = 100.0
    for channel, place in zip(strategy.channels, places, strict=True):
        channel["lower"].now, channel["upper"].now = 100.0 - height * place, 100.0 + height * (1.0 - place)
    strategy.atr.now = atr
    return strategy.decide(View(Bar(InstrumentId("X"), HOUR_NS, HOUR_NS, 0, close, close, close, close, 1.0)))


def test_the_robust_form_is_the_mean_of_three_crossings_and_three_channels() -> None:
    said = read(many(step=0.01), (0.5, 1.0, 0.2), (0.75, 0.5, 1.0))
    assert said is not None
    assert said.strength == pytest.approx(round((0.5 + 1.0 + 0.2 + 0.5 + 0.0 + 1.0) / 6.0, 2))
    assert said.stop == pytest.approx(94.0)
    short = read(many(step=0.01), (-0.5, -1.0, -0.2), (0.25, 0.5, 0.0))
    assert short is not None
    assert (short.strength, short.stop) == pytest.approx((-said.strength, 106.0))


def test_each_crossing_is_clipped_and_a_flat_channel_says_nothing() -> None:
    said = read(many(step=0.01), (9.0, 0.0, 0.0), (0.5, 0.5, 0.5))
    assert said is not None
    assert said.strength == pytest.approx(0.17)
    assert read(many(), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5), height=0.0) == Signal(0.5, 94.0)


@pytest.mark.parametrize("scale", [0.0, float("nan")])
def test_a_crossing_without_a_range_says_nothing(scale: float) -> None:
    said = read(many(), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), scale=scale)
    assert said is not None
    assert said.strength == 0.5  # the channels alone


def test_strength_goes_by_steps_and_is_flat_below_the_least() -> None:
    said = read(many(step=0.25), (1.0, 0.6, 0.0), (0.9, 0.5, 0.5))
    assert said is not None
    assert said.strength == 0.5  # the mean is 0.4
    assert read(many(), (0.5, 0.0, 0.0), (0.5, 0.5, 0.5)) is None  # a mean of 0.083 is not the least
    assert read(many(least=0.05), (0.5, 0.0, 0.0), (0.5, 0.5, 0.5)) is not None


def test_a_wish_is_said_again_when_it_has_moved_by_a_step_or_its_stop_can_be_tightened() -> None:
    strategy = many()
    level = (0.5, 0.5, 0.5)
    assert read(strategy, (1.0, 1.0, 1.0), level) == Signal(0.5, 94.0)
    assert read(strategy, (1.0, 1.0, 0.6), level) is None  # 0.43 is less than a step away
    assert read(strategy, (1.0, 1.0, 1.0), level, close=100.4) is None  # a stop 0.2 ATRs nearer is not worth saying
    assert read(strategy, (1.0, 1.0, 1.0), level, close=100.6) == Signal(0.5, pytest.approx(94.6))
    assert read(strategy, (1.0, 1.0, 1.0), level, close=97.0) is None  # never wider
    weaker = read(strategy, (1.0, 0.5, 0.3), level, close=97.0)
    assert weaker is not None
    assert (weaker.strength, weaker.stop) == (pytest.approx(0.3), pytest.approx(94.6))
    assert read(strategy, (0.2, 0.0, 0.0), level) == Signal(0.0)
    assert read(strategy, (-1.0, -1.0, -1.0), level) == Signal(-0.5, 106.0)  # a new side has a stop of its own


def test_the_robust_form_runs_on_bars_of_its_unit_and_needs_a_range() -> None:
    declared = TrendFollowing(multi_speed=True, speed_unit="4h").prepare()
    assert {each.every.name for each in declared if each.every} == {"4h"}
    assert all(each.every for each in declared)
    assert read(many(), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), atr=float("nan")) is None
    with pytest.raises(ValueError, match="unknown interval '5h'"):
        TrendFollowing(multi_speed=True, speed_unit="5h").prepare()
