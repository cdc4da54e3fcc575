"""Range trading: which bar at which level opens a trade, where it ends, and when a range is none."""

import pytest

from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import HOUR_NS, Bar
from tidegate.domain.signals import Signal
from tidegate.strategies.base import View
from tidegate.strategies.range_trading import RangeTrading


def prepared(**params: float) -> RangeTrading:
    strategy = RangeTrading(**params)  # type: ignore[arg-type]
    strategy.prepare()
    return strategy


def bar(
    strategy: RangeTrading,
    low: float,
    high: float,
    close: float,
    *,
    levels: tuple[float, float] = (90.0, 110.0),
    adx: float = 15.0,
    atr: float = 2.0,
) -> Signal | None:
    strategy.levels["support"].now, strategy.levels["resistance"].now = levels
    strategy.adx.now, strategy.atr.now = adx, atr
    return strategy.decide(View(Bar(InstrumentId("X"), HOUR_NS, HOUR_NS, 0, close, high, low, close, 1.0)))


DIP, PEAK = (90.5, 93.0, 92.5), (107.0, 109.5, 107.5)
"""A bar that has dipped to support and closed in its upper half; its mirror at resistance."""


def test_long_after_a_dip_to_support_short_after_a_visit_to_resistance() -> None:
    assert bar(prepared(), *DIP) == Signal(1.0, stop=90.0 - 2.0)
    assert bar(prepared(), *PEAK) == Signal(-1.0, stop=110.0 + 2.0)
    assert bar(prepared(stop_atrs=2.0), *DIP) == Signal(1.0, stop=86.0)


@pytest.mark.parametrize(
    ("low", "high", "close"),
    [
        (91.1, 93.0, 92.5),  # not near: half an ATR is 1
        (90.5, 93.0, 91.7),  # closed in its lower half
        (88.0, 91.0, 89.9),  # closed below support
        (107.0, 108.9, 107.5),
        (107.0, 109.5, 108.3),
        (109.0, 112.0, 110.1),
    ],
)
def test_a_level_that_is_not_reached_or_not_defended_is_no_entry(low: float, high: float, close: float) -> None:
    assert bar(prepared(), low, high, close) is None


def test_near_is_in_atrs() -> None:
    assert bar(prepared(near_atrs=0.6), 91.1, 93.0, 92.5) is not None
    assert bar(prepared(near_atrs=0.2), *DIP) is None


@pytest.mark.parametrize("levels", [(float("nan"), 110.0), (90.0, float("nan"))])
def test_a_range_needs_both_levels(levels: tuple[float, float]) -> None:
    assert bar(prepared(), *DIP, levels=levels) is None
    assert bar(prepared(), *PEAK, levels=levels) is None


def test_a_range_must_be_worth_its_costs() -> None:
    """Three round trips of 14 bp on a close of 90.4 are 0.38."""
    small = (90.3, 90.5, 90.42)
    assert bar(prepared(), *small, levels=(90.0, 90.7), atr=0.7) is not None
    assert bar(prepared(least_costs=6.0), *small, levels=(90.0, 90.7), atr=0.7) is None
    assert bar(prepared(round_trip_bps=28.0), *small, levels=(90.0, 90.7), atr=0.7) is None


@pytest.mark.parametrize("adx", [25.0, 60.0, float("nan")])
def test_nothing_is_opened_in_a_trend(adx: float) -> None:
    assert bar(prepared(), *DIP, adx=adx) is None


@pytest.mark.parametrize("atr", [0.0, float("nan")])
def test_nothing_is_opened_without_a_range_of_bars(atr: float) -> None:
    assert bar(prepared(), *DIP, atr=atr) is None


def test_nothing_is_opened_whose_stop_is_no_price_or_whose_target_is_behind() -> None:
    assert bar(prepared(stop_atrs=10.0), *DIP, atr=9.5) is None
    assert bar(prepared(target_frac=0.3), 90.5, 97.0, 96.5) is None  # the target is 96


@pytest.mark.parametrize(("entry", "before", "at"), [(DIP, 103.9, 104.0), (PEAK, 96.1, 96.0)])
def test_the_target_is_a_share_of_the_range(entry: tuple[float, float, float], before: float, at: float) -> None:
    strategy = prepared()
    assert bar(strategy, *entry) is not None
    assert bar(strategy, before, before, before) is None
    assert bar(strategy, at, at, at, levels=(float("nan"), float("nan"))) == Signal(0.0)  # where it was at the entry
    assert bar(strategy, at, at, at) is None


def test_a_trade_is_given_up_after_its_bars() -> None:
    strategy = prepared(hold_bars=2)
    assert bar(strategy, *DIP) is not None
    assert [bar(strategy, 99.0, 99.0, 99.0) for _ in range(2)] == [None, Signal(0.0)]
    assert bar(strategy, *DIP) is not None


def test_it_can_run_on_bars_of_its_own() -> None:
    assert {each.every.name for each in RangeTrading(every="4h").prepare() if each.every} == {"4h"}
    assert not any(each.every for each in RangeTrading().prepare())
