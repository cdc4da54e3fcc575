"""Days on which the book loses: the brake, the day's limit, the latch that a person has to lift, and a restart."""

from decimal import Decimal

import pytest

from tests.fakes.live import LiveWorld, world
from tests.unit.kernel.worlds import BTC, exits, orders
from tidegate.domain.messages import Halt, HaltCause, Operation, TakeSnapshot
from tidegate.domain.orders import Side
from tidegate.domain.signals import Signal
from tidegate.kernel.lifecycle import State
from tidegate.risk.sizing import SizingSettings

LONG, LARGE = Signal(1.0), SizingSettings("fixed_qty", fixed_qty=Decimal(900))
"""Nine tenths of the account in one contract."""


def held(*wishes: Signal | None, **changes: object) -> LiveWorld:
    it = world(LONG, *wishes, brake="grossman_zhou", sizing=LARGE, **changes).start()
    it.bar()
    it.run(2)
    assert it.positions[BTC] == 900
    return it


def entries(it: LiveWorld) -> list:
    return [each for each in it.sent if each.side is Side.BUY and not each.reduce_only]


def test_at_the_limit_everything_is_closed_and_stays_so_until_a_person_has_looked() -> None:
    it = held(LONG, LONG, LONG, LONG)
    said = it.bar(86.0)
    halt = next(each for each in said if isinstance(each, Halt))
    assert halt.cause is HaltCause.DRAWDOWN
    assert "12.60%" in halt.reason
    assert any(isinstance(each, TakeSnapshot) for each in said)
    assert orders(said) == []  # nothing is closed on sizes from before
    it.run(3)
    assert it.positions[BTC] == 0
    assert it.kernel.state is State.HALTED
    (close,) = exits(it.sent)
    assert (close.side, close.qty, close.reduce_only) == (Side.SELL, 900, True)
    before = len(it.sent)
    for _ in range(3):
        it.bar(100.0)
        it.run(2)
    assert len(it.sent) == before
    it.operate(Operation.RESET)
    it.run(2)
    assert it.kernel.state is State.READY
    it.bar(100.0)
    it.run(2)
    assert not [each for each in it.said if isinstance(each, Halt)][1:]


def test_the_latch_survives_a_restart_and_the_peak_does_too() -> None:
    it = held(LONG, LONG, LONG)
    it.bar(86.0)
    it.run(3)
    it.restart()
    it.run(5)
    assert it.kernel.state is State.HALTED
    latch = it.kernel.latch
    assert latch is not None
    assert latch.cause is HaltCause.DRAWDOWN
    assert it.positions[BTC] == 0


def test_on_the_way_there_the_exposure_is_cut_at_once() -> None:
    it = held(LONG, LONG, LONG)
    it.bar(99.0)
    it.run(2)
    assert it.positions[BTC] == 900  # a cut of 7 % lies within the band in which nothing is traded
    it.bar(97.5)
    it.run(2)
    lost = 0.9 * 0.025
    assert float(it.positions[BTC]) == pytest.approx(900 * (0.12 - lost) / (0.12 * (1.0 - lost)), abs=0.001)


def test_after_a_day_of_losses_nothing_grows_before_the_next_one() -> None:
    it = held(Signal(0.3), LONG, LONG)
    it.bar(96.0)  # 3.6 % of the account, most of it sold
    it.run(2)
    left = it.positions[BTC]
    assert 0 < left < 900
    bought = len(entries(it))
    it.bar(96.0)
    it.run(2)
    assert len(entries(it)) == bought
    assert it.positions[BTC] <= left
    assert any("daily loss limit" in each.text for each in it.alerts("risk"))
    while it.now_ns % (24 * 3600 * 10**9):
        it.bar(96.0)
    it.bar(96.0)
    it.run(2)
    assert len(entries(it)) >= bought


def test_without_a_brake_the_same_day_halts_nothing() -> None:
    it = world(LONG, LONG, LONG, sizing=LARGE).start()
    it.bar()
    it.run(2)
    it.bar(86.0)
    it.run(3)
    assert it.kernel.latch is None
    assert it.positions[BTC] == 900
