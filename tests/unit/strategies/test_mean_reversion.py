"""Mean reversion: what opens a trade, what ends it, and what keeps it from being opened."""

import pytest

from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import HOUR_NS, Bar
from tidegate.domain.signals import Signal
from tidegate.strategies.base import View
from tidegate.strategies.mean_reversion import MeanReversion


def prepared(**params: float) -> MeanReversion:
    strategy = MeanReversion(**params)  # type: ignore[arg-type]
    strategy.prepare()
    return strategy


def bar(strategy: MeanReversion, close: float, rsi: float = 50.0, adx: float = 15.0, atr: float = 2.0) -> Signal | None:
    """A close beside bands of 95, 100 and 105."""
    strategy.bands["lower"].now, strategy.bands["middle"].now, strategy.bands["upper"].now = 95.0, 100.0, 105.0
    strategy.rsi.now, strategy.adx.now, strategy.atr.now = rsi, adx, atr
    return strategy.decide(View(Bar(InstrumentId("X"), HOUR_NS, HOUR_NS, 0, close, close, close, close, 1.0)))


def test_long_below_the_lower_band_when_oversold_short_is_the_mirror() -> None:
    assert bar(prepared(), 94.0, rsi=29.0) == Signal(1.0, stop=94.0 - 2.5 * 2.0)
    assert bar(prepared(), 106.0, rsi=71.0) == Signal(-1.0, stop=106.0 + 2.5 * 2.0)
    assert bar(prepared(stop_atrs=1.0), 94.0, rsi=29.0) == Signal(1.0, stop=92.0)


@pytest.mark.parametrize(
    ("close", "rsi"), [(95.0, 29.0), (94.0, 30.0), (106.0, 70.0), (105.0, 71.0), (94.0, 71.0), (106.0, 29.0)]
)
def test_the_band_and_the_oscillator_must_both_say_so(close: float, rsi: float) -> None:
    assert bar(prepared(), close, rsi=rsi) is None


def test_oversold_is_a_parameter_and_its_mirror_is_overbought() -> None:
    assert bar(prepared(oversold=40.0), 94.0, rsi=39.0) is not None
    assert bar(prepared(oversold=40.0), 106.0, rsi=61.0) is not None
    assert bar(prepared(oversold=20.0), 94.0, rsi=29.0) is None


@pytest.mark.parametrize("adx", [20.0, 35.0, float("nan")])
def test_nothing_is_opened_in_a_trend(adx: float) -> None:
    assert bar(prepared(), 94.0, rsi=20.0, adx=adx) is None


@pytest.mark.parametrize("atr", [0.0, float("nan")])
def test_nothing_is_opened_without_a_range(atr: float) -> None:
    assert bar(prepared(), 94.0, rsi=20.0, atr=atr) is None


def test_nothing_is_opened_whose_stop_is_no_price_or_whose_rsi_is_undefined() -> None:
    assert bar(prepared(), 94.0, rsi=20.0, atr=40.0) is None
    assert bar(prepared(), 94.0, rsi=float("nan")) is None


@pytest.mark.parametrize(("entry", "rsi", "still", "middle"), [(94.0, 20.0, 99.9, 100.0), (106.0, 80.0, 100.1, 100.0)])
def test_the_middle_band_ends_a_trade(entry: float, rsi: float, still: float, middle: float) -> None:
    strategy = prepared()
    assert bar(strategy, entry, rsi=rsi) is not None
    assert bar(strategy, still) is None
    assert bar(strategy, still, adx=50.0) is None  # a trend that begins later leaves it to the stop
    assert bar(strategy, middle) == Signal(0.0)
    assert bar(strategy, middle) is None


def test_a_trade_is_given_up_after_its_bars() -> None:
    strategy = prepared(hold_bars=3)
    assert bar(strategy, 94.0, rsi=20.0) is not None
    assert [bar(strategy, 96.0) for _ in range(3)] == [None, None, Signal(0.0)]
    assert bar(strategy, 94.0, rsi=20.0) is not None  # and may be opened again


def test_it_can_run_on_bars_of_its_own() -> None:
    assert {each.every.name for each in MeanReversion(every="4h").prepare() if each.every} == {"4h"}
    assert not any(each.every for each in MeanReversion().prepare())
