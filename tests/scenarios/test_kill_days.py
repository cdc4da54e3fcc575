"""Days on which everything has to stop."""

from decimal import Decimal

import pytest

from tests.fakes.live import LOST_ANSWER, LOST_REQUEST, MS, SECOND_NS, LiveWorld, world
from tests.unit.kernel.worlds import BTC, ETH, Hand, by_bar, contract, exits, orders, spec
from tidegate.domain.messages import Halt, HaltCause, Operation, Severity, TakeSnapshot, VenueState, VenueStatus
from tidegate.domain.orders import ApprovedOrder, CancelOrder, RejectCause, Side
from tidegate.domain.signals import Signal
from tidegate.kernel.lifecycle import State

LONG = Signal(1.0)


def held(*wishes: Signal | None) -> LiveWorld:
    it = world(LONG, *wishes).start()
    it.bar()
    it.run(2)
    it.sound()
    return it


def flat(it: LiveWorld) -> None:
    assert it.positions[BTC] == it.qty == 0
    assert it.listed() == []
    assert not it.kernel.sweeping
    assert [each for each in it.alerts("kill") if "flat after" in each.text]


def test_kill_latches_cancels_reads_closes_and_reads_again() -> None:
    it = held(LONG)
    began = it.now_ns
    said = it.operate(Operation.KILL, "by hand")
    assert isinstance(said[0], Halt)
    assert (said[0].cause, said[0].reason) == (HaltCause.KILL, "by hand")
    assert [type(each) for each in said[1:3]] == [CancelOrder, TakeSnapshot]
    assert orders(said) == []  # nothing is closed on sizes from before
    it.run(1)
    (close,) = exits(it.sent)
    assert (close.side, close.qty, close.reduce_only) == (Side.SELL, 1, True)
    flat(it)
    assert it.kernel.state is State.HALTED
    at = next(event.recv_ns for event, said in it.log if close in said)
    assert at - began <= 2 * SECOND_NS
    it.bar()
    it.run(2)
    assert len(exits(it.sent)) == 1
    assert it.qty == 0


def test_kill_twice_is_one_sweep() -> None:
    it = held()
    it.operate(Operation.KILL)
    it.run(0.01)
    said = it.operate(Operation.KILL)
    assert [type(each).__name__ for each in said] == ["Alert"]
    it.run(2)
    assert len(exits(it.sent)) == 1
    flat(it)


@pytest.mark.parametrize("after_ms", [0, 10, 25, 45, 70, 300])
def test_a_restart_in_the_middle_goes_on_from_a_fresh_reading(after_ms: int) -> None:
    it = held()
    it.operate(Operation.KILL)
    it.run_until(it.now_ns + after_ms * MS)
    it.restart()
    it.run(20)
    flat(it)
    assert it.kernel.state is State.HALTED
    assert sum(each.qty for each in it.trades if each.side is Side.SELL) == 1


def test_the_size_is_that_of_the_reading() -> None:
    it = held()
    it.by_hand(Side.SELL, "0.4", tell=False)
    it.operate(Operation.KILL)
    it.run(3)
    (close,) = exits(it.sent)
    assert close.qty == Decimal("0.6")
    flat(it)


@pytest.mark.parametrize("fault", [LOST_REQUEST, LOST_ANSWER, RejectCause.OVERLOADED])
def test_a_close_that_fails_is_repeated_until_a_reading_says_flat(fault: str | RejectCause) -> None:
    it = held()
    left = [3]

    def failing(request: ApprovedOrder | CancelOrder | TakeSnapshot) -> str | RejectCause | None:
        if isinstance(request, ApprovedOrder) and left[0]:
            left[0] -= 1
            return fault
        return None

    it.faults = failing
    it.operate(Operation.KILL)
    it.run(40)
    flat(it)
    assert sum(each.qty for each in it.trades if each.side is Side.SELL) == 1


def test_not_flat_after_ten_seconds_calls_a_person_once() -> None:
    it = held()
    it.faults = lambda request: RejectCause.OVERLOADED if isinstance(request, ApprovedOrder) else None
    it.operate(Operation.KILL)
    it.run(60)
    (alarm,) = [each for each in it.alerts("kill", Severity.CRITICAL) if "not flat" in each.text]
    assert BTC in alarm.text
    it.faults = lambda request: None
    it.run(10)
    flat(it)


def test_an_entry_in_doubt_is_part_of_the_sweep() -> None:
    it = world(LONG, faults=lambda request: "late" if isinstance(request, ApprovedOrder) else None).start()
    it.bar()
    it.run(0.1)
    it.faults = lambda request: None
    it.operate(Operation.KILL)
    it.run(20)
    flat(it)
    assert len(it.trades) == 2


def test_what_is_foreign_is_not_touched() -> None:
    listed = (contract(), contract(ETH))
    it = world(LONG, instruments=listed)
    it.by_hand(Side.BUY, "3", ETH, tell=False)
    it.start()
    it.bar()
    it.run(2)
    it.operate(Operation.KILL)
    it.run(5)
    assert it.positions[ETH] == 3
    assert it.positions[BTC] == 0
    assert not it.kernel.sweeping


def test_only_a_person_lifts_the_latch_and_only_when_it_is_done() -> None:
    it = held(None, LONG)
    it.operate(Operation.KILL)
    for operation in (Operation.RESET, Operation.RESUME, Operation.START, Operation.PAUSE):
        it.operate(operation)
        assert it.kernel.state is State.HALTED
    it.run(5)
    it.restart().run(2)
    assert it.kernel.state is State.HALTED
    it.operate(Operation.RESET)
    assert it.kernel.state is State.RECONCILING
    it.run(1)
    assert it.kernel.state is State.READY
    assert it.kernel.latch is None
    it.bar()
    it.run(2)
    it.sound()


def test_other_halts_cancel_entries_and_keep_stops() -> None:
    it = held(Signal(0.5))
    it.give(VenueStatus(VenueState.REFUSED, "-2015 key", it.now_ns, it.now_ns))
    (latch,) = it.of(Halt)
    assert latch.cause is HaltCause.AUTH
    it.bar()
    it.run(30)
    assert len(it.stops()) == 1
    assert it.qty == 1
    it.operate(Operation.KILL)
    it.run(5)
    flat(it)


def test_a_sweep_before_a_simulated_venue() -> None:
    """Paper and demo: the same sweep, told by the simulator's own snapshot."""
    hand = Hand.ready(spec(by_bar(LONG)))
    stop = hand.open()
    said = hand.operate(Operation.KILL)
    assert [each.id for each in said if isinstance(each, CancelOrder)] == [stop.id]
    assert any(isinstance(each, TakeSnapshot) for each in said)
    assert hand.kernel.state is State.HALTED


def test_a_reading_from_before_the_kill_sizes_nothing() -> None:
    """An audit is under way, its answer already stale, when the switch is thrown."""
    it = held()
    asked = it.requests
    while it.requests == asked:
        it.run(0.001)
    it.by_hand(Side.SELL, "0.4", tell=False)
    it.operate(Operation.KILL)
    it.run(3)
    assert [close.qty for close in exits(it.sent)] == [Decimal("0.6")]
    flat(it)
