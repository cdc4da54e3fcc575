"""The laws of the live path: whatever requests, answers, events and the process itself suffer, the books become the
venue's, every position is guarded once, nothing is executed twice, and nothing is forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest

from tests.fakes.live import HIDDEN, LATE, LOST_ANSWER, LOST_REQUEST, NOT_SENT, Fault, LiveWorld, world
from tests.unit.kernel.worlds import BTC
from tidegate.domain.market import SECOND_NS
from tidegate.domain.messages import (
    BookedUpTo,
    Event,
    NotPlaced,
    OperatorCommand,
    TakeSnapshot,
    VenueState,
    VenueStatus,
)
from tidegate.domain.orders import ApprovedOrder, CancelOrder, OrderState, OrderUncertain, RejectCause
from tidegate.domain.signals import Signal
from tidegate.execution.reconcile import reconcile
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import Kernel
from tidegate.kernel.lifecycle import State

WISHES = [None, None, Signal(1.0), Signal(-1.0), Signal(0.0), Signal(1.0, 97.0), Signal(-1.0, 103.0)]
FAULTS = [None, None, None, LOST_ANSWER, LOST_REQUEST, LATE, NOT_SENT, RejectCause.OVERLOADED, RejectCause.CLOCK]
STEPS = ["bar", "bar", "bar", "move", "wait", "restart", "restart", "lose", "down", "liquidation"]
PRICES = [84.0, 96.0, 99.0, 101.0, 104.0, 116.0, 100.0]
WAITS_S = [0.005, 0.03, 0.3, 2.5, 9.0, 70.0]


@dataclass
class Trouble:
    """Seeded trouble: what becomes of each request, and whether events are lost."""

    dice: Random
    on: bool = True
    losing: bool = False

    def fault(self, request: ApprovedOrder | CancelOrder | TakeSnapshot) -> Fault:
        if not self.on:
            return None
        if isinstance(request, TakeSnapshot):
            return self.dice.choice([None, None, None, LOST_REQUEST])
        found = self.dice.choice(FAULTS)
        if isinstance(request, CancelOrder):
            return found if found in (LOST_ANSWER, LOST_REQUEST) else None
        return HIDDEN if request.order_type.conditional and found == LATE else found

    def dies(self, event: Any) -> int | None:
        """The process dies now and then, with some of its commands carried out; not in the middle of coming back."""
        if not self.on or isinstance(event, OperatorCommand) or self.dice.random() > 0.01:
            return None
        return self.dice.randint(0, 3)

    def lost(self, event: Any) -> bool:
        return self.losing and type(event).__name__ in ("OrderFilled", "OrderCanceled", "OrderTriggered")


def within(it: LiveWorld) -> None:
    """Never more than one flip that a stop has overtaken: nothing was executed twice."""
    assert abs(it.positions[BTC]) <= 2, it.positions


def troubled_days(seed: int, *, one_process: bool = False) -> LiveWorld:
    """Days full of trouble; the end of it is announced."""
    dice = Random(seed)
    trouble = Trouble(dice)
    it = world(*dice.choices(WISHES, k=dice.randint(4, 12)), faults=trouble.fault)
    it.events_lost = trouble.lost
    if not one_process:
        it.dies = trouble.dies
    it.start(dice.choice([0.0, 0.01, 1.0]))
    for _ in range(dice.randint(1, 14)):
        match dice.choice(STEPS):
            case "bar":
                it.bar()
            case "move":
                it.move(dice.choice(PRICES))
            case "wait":
                it.run(dice.choice(WAITS_S))
            case "restart" if not one_process:
                it.restart()
                it.run(dice.choice([0.0, 0.03, 1.0, 12.0]))
            case "lose":
                trouble.losing = not trouble.losing
            case "down":
                state = dice.choice([VenueState.DOWN, VenueState.UP])
                it.give(VenueStatus(state, "", it.now_ns, it.now_ns))
            case "liquidation" if it.positions[BTC]:
                it.liquidate(tell=dice.choice([True, False]))
        within(it)
    trouble.on = trouble.losing = False
    it.give(VenueStatus(VenueState.UP, "", it.now_ns, it.now_ns))
    return it


def settled(it: LiveWorld) -> None:
    it.sound()
    assert abs(it.positions[BTC]) <= 1, it.positions
    assert it.kernel.state is State.READY, it.kernel.holds
    assert it.kernel.unresolved == ()
    assert all(order.state is OrderState.WORKING for order in it.kernel.open_orders)
    assert all(each.id not in it.orders for each in it.of(NotPlaced))
    assert sum((trade.side.sign * trade.qty for trade in it.trades), Decimal(0)) == it.positions[BTC]


@pytest.mark.parametrize("part", range(8))
def test_whatever_happens_the_books_become_the_venues_and_nothing_is_done_twice(part: int) -> None:
    for seed in range(part * 40, part * 40 + 40):
        it = troubled_days(seed)
        it.run(3800)
        settled(it)
        it.bar()
        it.run(20)
        it.sound()


def test_the_days_are_troubled_enough() -> None:
    proved = recovered = restarts = 0
    for seed in range(60):
        it = troubled_days(seed)
        proved += len(it.of(NotPlaced))
        recovered += len(it.alerts("recovered"))
        restarts += it.gen - it.settings.gen
    assert proved >= 4
    assert restarts > 200


def answers(kernel: Kernel, events: Sequence[Event]) -> list[bytes]:
    return [msgspec.msgpack.encode(list(kernel.handle(event))) for event in events]


@pytest.mark.parametrize("seed", range(12))
def test_a_snapshot_anywhere_and_a_replay_continue_bit_for_bit(seed: int) -> None:
    it = troubled_days(seed, one_process=True)
    it.run(60)
    events = [event for event, _ in it.log]
    said = [msgspec.msgpack.encode(list(commands)) for _, commands in it.log]
    assert answers(original(it), events) == said
    dice = Random(seed)
    for cut in dice.choices(range(len(events)), k=8):
        first, second = original(it), original(it)
        answers(first, events[:cut])
        second.load(first.snapshot())
        assert answers(second, events[cut : cut + 200]) == said[cut : cut + 200]


def original(it: LiveWorld) -> Kernel:
    """A kernel as the world's was at its birth."""
    return Kernel(it.settings, {each.id: each for each in it.instruments}, it.strategies, StepFeeder())


def test_never_placed_is_never_said_before_fence_and_grace_nor_of_a_stop() -> None:
    proofs = 0
    for seed in range(200):
        it = troubled_days(seed, one_process=True)
        it.run(30)
        fences = {event.id: event.fence_ns for event, _ in it.log if isinstance(event, OrderUncertain)}
        orders = {order.id: order for order in it.sent}
        for proof in it.of(NotPlaced):
            proofs += 1
            assert proof.ts_ns > fences[proof.id] + 2 * SECOND_NS
            assert not orders[proof.id].order_type.conditional
            assert proof.id not in it.orders
    assert proofs > 20


def test_reconciling_what_was_reconciled_finds_nothing() -> None:
    looked = 0
    for seed in range(40):
        it = troubled_days(seed)
        it.run(3800)
        asked = TakeSnapshot("again", tuple(BookedUpTo(each.id, -1) for each in it.instruments), 0, "law")
        found = reconcile(it.kernel._reconciling._ours(it.now_ns), it.snapshot(asked))
        assert found.empty, found
        looked += len(it.trades)
    assert looked > 20
