"""The kernel's whole state as opaque bytes, and back."""

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from tidegate.domain.errors import InvariantBroken
from tidegate.domain.ids import InstrumentId, Nanos, StrategyId
from tidegate.domain.ledger import Ledger
from tidegate.domain.market import Bar
from tidegate.domain.messages import KernelSnapshot
from tidegate.domain.orders import Order
from tidegate.domain.signals import Signal
from tidegate.execution.protection import Guard
from tidegate.kernel.desk import DeskState
from tidegate.kernel.halting import Halting, SweepState
from tidegate.kernel.lifecycle import LifecycleState
from tidegate.kernel.reconciling import Reconciling, ReconcilingState
from tidegate.kernel.resolving import Doubt, Resolving
from tidegate.kernel.trading import Trading
from tidegate.portfolio.positions import Booked, Lines
from tidegate.risk.brake import RiskMemory

if TYPE_CHECKING:
    from tidegate.kernel.book import Book

SNAPSHOT_VERSION = 3


class _BarrierState(msgspec.Struct):
    close_ns: Nanos
    seen: dict[InstrumentId, Nanos]
    arrived: int
    done: bool


class _PositionsState(msgspec.Struct):
    ledger: Ledger
    booked: dict[InstrumentId, Booked]
    lines: Lines
    units: float
    slippage: dict[InstrumentId, Decimal]


class _GateState(msgspec.Struct):
    sequence: int
    recent: list[Nanos]


class _SlotState(msgspec.Struct):
    id: StrategyId
    instrument: InstrumentId
    feed: object
    wish: Signal | None
    spent_side: int
    fault: str | None
    trail: float | None
    budget: float
    bar: Bar | None


class _MarksState(msgspec.Struct):
    last: dict[InstrumentId, float]
    mark: dict[InstrumentId, float]
    funding: dict[InstrumentId, float]
    funding_ns: dict[InstrumentId, Nanos]


class _State(msgspec.Struct):
    now_ns: Nanos
    seq: int
    down_ns: Nanos
    venue_up: bool
    blind: bool
    lifecycle: LifecycleState
    marks: _MarksState
    barrier: _BarrierState
    positions: _PositionsState
    wishes: list[_SlotState]
    sections: dict[StrategyId, bytes | None]
    gate: _GateState
    blotter: list[Order]
    router: int
    protection: dict[InstrumentId, Guard]
    desks: dict[InstrumentId, DeskState]
    foreign_counted: tuple[float, float]
    brake: RiskMemory | None
    book: msgspec.Raw
    sweep: SweepState | None
    doubts: list[Doubt]
    reconciling: ReconcilingState


def dump(
    seq: int, down_ns: Nanos, trading: Trading, halting: Halting, resolving: Resolving, reconciling: Reconciling
) -> KernelSnapshot:
    """Everything that the parts know."""
    state = {
        "now_ns": trading.now_ns,
        "seq": seq,
        "down_ns": down_ns,
        "venue_up": trading.venue_up,
        "blind": trading.blind,
        "lifecycle": trading.lifecycle.dump(),
        "marks": trading.marks.dump(),
        "barrier": trading.barrier.dump(),
        "positions": trading.positions.dump(),
        "wishes": trading.wishes.dump(),
        "sections": trading.wishes.dump_sections(),
        "gate": trading.gate.dump(),
        "blotter": trading.blotter.dump(),
        "router": trading.router.dump(),
        "protection": trading.protection.dump(),
        "desks": {name: desk.dump() for name, desk in trading.desks.items()},
        "foreign_counted": trading.foreign_counted,
        "brake": None if trading.brake is None else trading.brake.dump(),
        "book": None if trading.book is None else trading.book.dump(trading.desks),
        "sweep": halting.dump(),
        "doubts": resolving.dump(),
        "reconciling": reconciling.dump(),
    }
    return KernelSnapshot(SNAPSHOT_VERSION, seq, msgspec.msgpack.encode(state))


def load(
    snapshot: KernelSnapshot,
    trading: Trading,
    halting: Halting,
    resolving: Resolving,
    reconciling: Reconciling,
    *,
    whole: bool = True,
) -> tuple[int, Nanos]:
    """Give the parts their state back; returns ``(seq, down_ns)``. Raises ``InvariantBroken``.

    Not ``whole``, it is taken into a kernel of other strategies or contracts: wishes and bars begin anew, orders and
    stops of contracts that are not configured any more are left to themselves.
    """
    if snapshot.version != SNAPSHOT_VERSION:
        raise InvariantBroken(f"snapshot of version {snapshot.version}; this program reads {SNAPSHOT_VERSION}")
    try:
        state = msgspec.msgpack.decode(snapshot.data, type=_State)
    except msgspec.MsgspecError as error:
        raise InvariantBroken(f"the snapshot cannot be read: {error}") from error
    trading.now_ns, trading.venue_up, trading.blind = state.now_ns, state.venue_up, state.blind
    trading.lifecycle.load(state.lifecycle)
    marks = state.marks
    trading.marks.load(marks.last, marks.mark, marks.funding, marks.funding_ns)
    trading.known_equity = None
    barrier, positions, desks = state.barrier, state.positions, trading.desks
    if whole:
        _load_wishes(state, trading)
        if state.desks.keys() != desks.keys():
            raise InvariantBroken("the snapshot is of other instruments than are configured")
        trading.barrier.load(barrier.close_ns, barrier.seen, barrier.arrived, barrier.done)
    trading.positions.load(positions.ledger, positions.booked, positions.lines, positions.units, positions.slippage)
    trading.gate.load(state.gate.sequence, state.gate.recent)
    trading.blotter.load([order for order in state.blotter if order.approved.instrument in desks])
    trading.router.load(state.router)
    trading.protection.load({name: guard for name, guard in state.protection.items() if name in desks})
    for name, desk in desks.items():
        desk.load(state.desks.get(name, DeskState()), trading.positions.holding(name))
    trading.count_foreign(*state.foreign_counted)
    if trading.brake is not None and state.brake is not None:
        trading.brake.load(state.brake)
    if whole and trading.book is not None:
        _load_book(bytes(state.book), trading.book, trading)
    halting.load(state.sweep)
    resolving.load(state.doubts)
    reconciling.load(state.reconciling)
    return state.seq, state.down_ns


def _load_book(data: bytes, book: "Book", trading: Trading) -> None:
    from tidegate.kernel.book import BookState

    try:
        stored = msgspec.msgpack.decode(data, type=BookState | None)
    except msgspec.MsgspecError as error:
        raise InvariantBroken(f"the snapshot's book cannot be read: {error}") from error
    if stored is None:
        raise InvariantBroken("the snapshot is of a configuration without a book of several strategies")
    book.load(stored, trading.desks)
    trading.regime = book.probabilities


def _load_wishes(state: _State, trading: Trading) -> None:
    for each in state.wishes:
        slot = trading.wishes.slot(each.id, each.instrument)
        if slot is None:
            raise InvariantBroken(f"the snapshot has a strategy {each.id} on {each.instrument}, we have none")
        slot.feed.load(each.feed)
        slot.wish, slot.spent_side, slot.fault = each.wish, each.spent_side, each.fault
        slot.budget, slot.bar = each.budget, each.bar
        slot.restate()
        slot.trail = each.trail
    if len(state.wishes) != sum(map(len, trading.wishes.slots.values())):
        raise InvariantBroken("the snapshot is of other strategies than are configured")
    try:
        trading.wishes.load_sections(state.sections)
    except (KeyError, ValueError) as error:
        raise InvariantBroken(f"the snapshot is of other strategies than are configured: {error}") from error
