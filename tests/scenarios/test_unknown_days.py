"""Days on which nobody knows what became of an order, and days on which the venue says no."""

from decimal import Decimal

import pytest

from tests.fakes.live import (
    HIDDEN,
    LATE,
    LOST_ANSWER,
    LOST_REQUEST,
    MS,
    NOT_SENT,
    SECOND_NS,
    Fault,
    LiveWorld,
    world,
)
from tests.unit.kernel.worlds import BTC, exits, stops, targets
from tidegate.domain.market import MINUTE_NS
from tidegate.domain.messages import Halt, HaltCause, NotPlaced, Operation, Severity, TakeSnapshot
from tidegate.domain.orders import (
    ApprovedOrder,
    CancelOrder,
    OrderAccepted,
    OrderNotFound,
    OrderState,
    OrderUncertain,
    QueryOrder,
    RejectCause,
    Side,
)
from tidegate.domain.signals import Signal
from tidegate.kernel.lifecycle import State

LONG, FLAT = Signal(1.0), Signal(0.0)


class Once:
    """The faults of the first orders of each purpose, one each; then none."""

    def __init__(self, **faults: Fault | list[Fault]) -> None:
        self.left = {name: list(each) if isinstance(each, list) else [each] for name, each in faults.items()}

    def __call__(self, request: ApprovedOrder | CancelOrder | TakeSnapshot) -> Fault:
        if isinstance(request, ApprovedOrder):
            name = request.purpose.value.lower()
        else:
            name = type(request).__name__.removesuffix("Order").lower()
        waiting = self.left.get(name)
        return waiting.pop(0) if waiting else None


def opening(fault: Fault, *wishes: Signal | None) -> LiveWorld:
    it = world(LONG, *wishes, faults=Once(target=fault)).start()
    it.bar()
    return it


# ---- entries --------------------------------------------------------------------------------------------------------


def test_an_order_that_acted_and_was_not_answered_is_adopted_once() -> None:
    it = opening(LOST_ANSWER, LONG)
    it.run(1)
    assert (it.qty, it.kernel.unresolved) == (1, ())
    it.bar()
    it.run(1)
    assert len(targets(it.sent)) == 1
    it.sound()


@pytest.mark.parametrize("again", [False, True])
def test_an_order_that_never_came_is_proved_so_after_fence_and_grace_and_decided_anew(again: bool) -> None:
    it = opening(LOST_REQUEST, *([LONG] if again else []))
    sent_ns = it.now_ns
    it.run(3.9)
    assert it.of(NotPlaced) == []
    assert it.kernel.unresolved == (it.sent[0].id,)
    assert list(it.kernel.blocked[BTC]) == [f"unresolved {it.sent[0].id}"]
    it.run(2)
    (proof,) = it.of(NotPlaced)
    assert sent_ns + 4 * SECOND_NS < proof.ts_ns <= sent_ns + 5 * SECOND_NS + 100 * MS
    assert it.kernel.blocked == {}
    it.bar()
    it.run(1)
    assert len({each.id for each in targets(it.sent)}) == 2
    assert it.qty == 1
    it.sound()


def test_an_order_that_acts_late_in_its_window_is_adopted() -> None:
    it = opening(LATE)
    it.run(1.5)
    assert len(it.kernel.unresolved) == 1
    it.run(5)
    assert (it.qty, it.of(NotPlaced)) == (1, [])
    assert len(targets(it.sent)) == 1


def test_not_found_alone_proves_nothing_when_the_snapshot_disagrees() -> None:
    """Found nowhere, but the position has moved."""
    it = opening(LOST_REQUEST)
    it.run(4)
    it.positions[BTC] += 1
    it.run(1.2)
    assert it.of(NotPlaced) == []
    assert it.kernel.unresolved == (it.sent[0].id,)
    it.run(20)
    assert it.alerts("adjusted", Severity.CRITICAL)
    assert "adjusted" in it.kernel.blocked[BTC]


def test_an_order_that_stays_unknown_calls_a_person() -> None:
    it = opening(LOST_REQUEST)
    it.faults = lambda request: "lost" if isinstance(request, TakeSnapshot) else None
    it.run(40)
    assert len(it.alerts("unresolved", Severity.CRITICAL)) == 1
    assert it.of(NotPlaced) == []
    it.faults = lambda request: None
    it.run(40)
    assert len(it.of(NotPlaced)) == 1


def test_what_was_in_flight_at_a_crash_is_in_doubt_until_its_expiry_has_passed() -> None:
    it = world(LONG, faults=Once(target=LOST_REQUEST)).start()
    it.bar()
    sent_ns = it.now_ns
    it.restart()
    it.run(9)
    assert it.kernel.state is State.RECONCILING
    assert it.of(NotPlaced) == []
    it.run(3)
    (proof,) = it.of(NotPlaced)
    assert proof.ts_ns > sent_ns + 9 * SECOND_NS
    assert it.kernel.state is State.READY


def test_what_had_acted_before_a_crash_is_found_after_it() -> None:
    it = world(LONG, faults=Once(target=LOST_ANSWER)).start()
    it.bar()
    it.restart()
    it.run(1)
    assert (it.qty, it.kernel.state) == (1, State.READY)
    it.sound()
    assert len(targets(it.sent)) == 1


def test_an_order_found_after_it_was_proved_absent_is_a_fence_violation() -> None:
    it = opening(LOST_REQUEST, LONG)
    it.run(6)
    (proof,) = it.of(NotPlaced)
    lost = next(each for each in it.sent if each.id == proof.id)
    it.execute(lost)
    it.run(1)
    assert len(it.alerts("fence", Severity.CRITICAL)) == 1
    assert "fence" in it.kernel.blocked[BTC]
    it.run(5)
    assert it.qty == it.positions[BTC] == 0  # nothing was aimed at: what it bought is sold
    it.operate(Operation.RESUME)
    it.run(1)
    assert it.kernel.blocked == {}


def test_a_cancel_of_which_nobody_knows_is_asked_about() -> None:
    it = world(LONG).start()
    it.bar()
    it.run(2)
    (stop,) = stops(it.sent)
    it.orders[stop.id].state = "canceled"
    (asked,) = it.give(OrderUncertain(stop.id, BTC, "CancelOrder: no answer", it.now_ns, it.now_ns))
    assert asked == QueryOrder(stop.id, BTC, conditional=True)
    it.run(2)
    it.sound()  # a new one stands where the old one was


# ---- stops ----------------------------------------------------------------------------------------------------------


def test_a_stop_in_doubt_is_never_taken_for_not_placed_and_one_spare_stands_in() -> None:
    it = world(LONG, faults=Once(protection=LOST_REQUEST)).start()
    it.bar()
    it.run(4)
    assert len(stops(it.sent)) == 2
    it.sound()
    it.run(1800)
    assert len(it.kernel.unresolved) == 1
    assert it.of(NotPlaced) == []
    assert len(stops(it.sent)) == 2
    it.run(2000)
    assert it.kernel.unresolved == ()
    assert len(it.alerts("abandoned")) == 1
    it.sound()


def test_a_stop_that_was_invisible_for_forty_minutes_is_cancelled_when_it_shows() -> None:
    it = world(LONG, faults=Once(protection=HIDDEN)).start()
    it.bar()
    it.run(30)
    assert it.kernel.state is State.READY
    it.run(2500)
    it.sound()
    assert it.kernel.unresolved == ()
    assert len(stops(it.sent)) == 2


def test_a_position_without_a_confirmed_stop_is_closed_after_ten_seconds() -> None:
    it = world(LONG, faults=Once(protection=[LOST_REQUEST, LOST_REQUEST])).start()
    it.bar()
    it.run(9)
    assert it.qty == 1
    it.run(3)
    assert it.qty == 0
    assert len(exits(it.sent)) == 1
    assert len(it.alerts("unprotected", Severity.CRITICAL)) == 1


@pytest.mark.parametrize("cause", [RejectCause.WOULD_TRIGGER, RejectCause.UNSUPPORTED, RejectCause.RULES])
def test_a_stop_that_cannot_be_placed_closes_the_position(cause: RejectCause) -> None:
    it = world(LONG, LONG, faults=Once(protection=cause)).start()
    it.bar()
    it.run(2)
    assert it.qty == 0
    assert len(exits(it.sent)) == 1
    if cause is RejectCause.UNSUPPORTED:
        assert it.kernel.state is State.REDUCE_ONLY
        assert it.alerts("unprotectable", Severity.CRITICAL)
        it.operate(Operation.RESUME)
        it.run(1)
    assert it.kernel.state is State.READY


@pytest.mark.parametrize("cause", [RejectCause.OVERLOADED, RejectCause.RATE, RejectCause.CLOCK, RejectCause.NOT_SENT])
def test_a_stop_refused_for_now_is_tried_again(cause: RejectCause) -> None:
    it = world(LONG, faults=Once(protection=[cause, cause])).start()
    it.bar()
    it.run(2)
    it.sound()
    assert it.qty == 1
    assert len({each.id for each in stops(it.sent)}) == 3


def test_a_better_stop_that_is_refused_leaves_the_old_one() -> None:
    it = world(Signal(1.0, 90.0), Signal(1.0, 95.0), faults=Once(protection=[None, RejectCause.RULES])).start()
    it.bar()
    it.run(2)
    it.bar()
    it.run(2)
    assert it.qty == 1
    assert exits(it.sent) == []
    assert [each.trigger for each in it.stops()] == [Decimal("90.0")]


# ---- exits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [None, Operation.PAUSE])
def test_an_exit_goes_on_through_a_storm_with_growing_pauses(operation: Operation | None) -> None:
    """Two hours of -1008 on everything: entries are off, exits are tried on."""
    it = world(Signal(1.0, 95.0)).start()
    it.bar()
    it.run(2)
    if operation is not None:
        it.operate(operation)
    storm = [True]
    it.faults = lambda request: RejectCause.OVERLOADED if storm[0] and isinstance(request, ApprovedOrder) else None
    it.operate(Operation.FLATTEN)
    it.run(600)
    tried = exits(it.sent)
    assert 50 <= len(tried) <= 80
    assert len({each.id for each in tried}) == len(tried)
    assert it.qty == 1
    it.operate(Operation.STOP)
    it.run(30)
    storm[0] = False
    it.run(11)
    assert it.qty == 0
    it.sound()


def test_an_exit_of_which_nobody_knows_is_proved_and_sent_anew() -> None:
    it = world(LONG, faults=Once(flatten=LOST_REQUEST)).start()
    it.bar()
    it.run(2)
    it.operate(Operation.FLATTEN)
    it.run(6.9)
    assert len(exits(it.sent)) == 1
    it.run(3)
    assert it.qty == 0
    assert len(exits(it.sent)) == 2


def test_an_exit_that_is_sized_by_a_wrong_book_is_sized_anew() -> None:
    it = world(LONG).start()
    it.bar()
    it.run(2)
    it.by_hand(Side.SELL, "1", tell=False)
    it.operate(Operation.FLATTEN)
    it.run(8)
    assert it.qty == 0
    assert len(exits(it.sent)) <= 3
    it.sound()


# ---- entries that are refused ---------------------------------------------------------------------------------------


def test_a_clock_error_is_decided_anew_once_and_at_once() -> None:
    it = opening([RejectCause.CLOCK, RejectCause.CLOCK])
    it.run(2)
    assert len({each.id for each in targets(it.sent)}) == 2
    assert it.qty == 0
    it.bar()
    it.run(2)
    assert it.qty == 1


@pytest.mark.parametrize("fault", [NOT_SENT, RejectCause.RATE, RejectCause.MARGIN, RejectCause.OVERLOADED])
def test_a_refused_entry_waits_for_the_next_close(fault: Fault) -> None:
    it = opening(fault)
    it.run(60)
    assert len(targets(it.sent)) == 1
    assert it.kernel.open_orders == []
    it.bar()
    it.run(1)
    assert it.qty == 1


def test_not_sent_is_not_placed_at_once() -> None:
    it = opening(NOT_SENT)
    it.run(1)
    order = it.kernel._trading.order_of(it.sent[0].id)
    assert order is not None
    assert order.state is OrderState.NOT_PLACED
    assert it.kernel.unresolved == ()


def test_the_wrong_position_mode_halts() -> None:
    it = opening(RejectCause.POSITION_MODE)
    it.run(1)
    (latch,) = it.of(Halt)
    assert latch.cause is HaltCause.INVARIANT


def test_a_contract_that_is_not_trading_takes_no_new_risk() -> None:
    it = opening(RejectCause.NOT_TRADING, LONG)
    it.run(1)
    assert "refused" in it.kernel.blocked[BTC]
    assert len(it.alerts("refused", Severity.CRITICAL)) == 1
    it.run(61)
    assert it.kernel.blocked == {}  # nobody announces the end of it: the next close probes
    it.bar()
    assert len(targets(it.sent)) == 2


def test_every_refused_probe_doubles_the_pause_up_to_an_hour() -> None:
    it = opening(RejectCause.NOT_TRADING, *[LONG] * 9)
    it.faults = lambda request: RejectCause.NOT_TRADING if isinstance(request, ApprovedOrder) else None
    pauses = []
    for _ in range(8):
        it.run(1)
        began_ns = it.now_ns
        while it.kernel.blocked:
            it.run(30)
        pauses.append(round((it.now_ns - began_ns) / MINUTE_NS))
        it.bar()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(it.alerts("refused", Severity.CRITICAL)) == 1


@pytest.mark.parametrize("how", ["RESUME", "restart"])
def test_a_person_or_a_restart_ends_the_pause_at_once(how: str) -> None:
    it = opening(RejectCause.NOT_TRADING, LONG)
    it.run(1)
    assert it.kernel.blocked
    if how == "RESUME":
        it.operate(Operation.RESUME)
    else:
        it.restart()
    it.run(5)
    assert it.kernel.blocked == {}
    assert it.kernel.state is State.READY


def test_a_refused_entry_that_the_venue_fills_all_the_same_is_ours() -> None:
    it = opening(RejectCause.OTHER, LONG)
    it.run(1)
    (entry,) = targets(it.sent)
    it.execute(entry)
    it.run(5)
    assert it.qty == 1
    assert len(it.alerts("adopted", Severity.CRITICAL)) >= 1
    assert it.alerts("second daemon") == []
    it.sound()


def test_a_wish_whose_stop_is_passed_already_does_not_open() -> None:
    it = world(None, Signal(1.0, 105.0), Signal(-1.0, 95.0), Signal(1.0, 95.0)).start()
    for _ in range(3):
        it.bar()
        it.run(2)
    assert it.sent == []
    assert [each.binding_limit for each in it.said if getattr(each, "binding_limit", None)] == ["stop_passed"]
    it.bar()
    it.run(2)
    assert it.qty == 1


def test_unknown_reports_of_unknown_orders_do_not_disturb() -> None:
    it = opening(None)
    it.run(1)
    name = it.sent[0].id
    assert it.give(OrderNotFound(name, BTC, it.now_ns, it.now_ns)) == []
    assert it.give(OrderAccepted(name, BTC, 1, it.now_ns, it.now_ns)) == []
