"""Judges of a simulated run: the venue's own books, and what was seen on wire and disk, against the daemon's books.

Each oracle returns findings, one line each, that begin with the id of the promise that was broken
(reliability.md section 2). They hold when the venue has answered truthfully for a while.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from tidegate.app.bootstrap_live import journals, state_folder
from tidegate.app.simulation.world import SimWorld
from tidegate.domain.market import MINUTE_NS
from tidegate.domain.messages import NotPlaced
from tidegate.domain.orders import ApprovedOrder, OrderState

_ZERO: Final = Decimal(0)
_BARE_S: Final = 18.5
"""Ten seconds until the position is given up (E2), and eight for an exit of which the outcome was unknown (O4)."""
_PREFIX: Final = "p1-"

Finding = str


@dataclass(slots=True)
class Journaled:
    """What all the journals of a run hold about orders: quantity by id, and those that were proved never placed."""

    ordered: dict[str, Decimal] = field(default_factory=dict)
    not_placed: dict[str, None] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "Journaled":
        """Read every journal of a daemon."""
        found = cls()
        for reader in journals(folder):
            for record in reader.records():
                for command in record.commands:
                    if isinstance(command, ApprovedOrder):
                        found.ordered[command.id] = command.qty
                    elif isinstance(command, NotPlaced):
                        found.not_placed[command.id] = None
        return found


@dataclass(slots=True)
class Evidence:
    """A world that has come to rest, its venue's books, and its journals."""

    world: SimWorld
    books: dict[str, Any]
    journaled: Journaled
    executed: dict[str, Decimal]

    @classmethod
    def of(cls, world: SimWorld) -> "Evidence":
        """Gather it."""
        executed: dict[str, Decimal] = {}
        for _, _, name, qty in world.venue.trades():
            executed[name] = executed.get(name, _ZERO) + qty
        if world.parts is not None:
            world.parts.write_out()
        journaled = Journaled.of(state_folder(world.settings, "testnet") / "journal")
        return cls(world, world.venue.books(), journaled, executed)


def duplicates(seen: Evidence) -> Iterator[Finding]:
    """O1: nothing executes beyond its order, twice, or after it was taken for never placed and ordered anew."""
    for name, qty in seen.executed.items():
        if name.startswith(_PREFIX) and qty > seen.journaled.ordered.get(name, _ZERO):
            yield f"O1 {name}: {qty} executed of {seen.journaled.ordered.get(name, 'nothing')} ordered"
        if name in seen.journaled.not_placed:
            yield f"O1 {name}: {qty} executed, though it was taken for never placed"
    for name, count in seen.books["placed"].items():
        if name.startswith(_PREFIX) and count > 1:
            yield f"O1 {name}: placed {count} times"


def unresolved(seen: Evidence) -> Iterator[Finding]:
    """O2: no order is open longer than 60 s unless the venue has it; conditional ones in doubt are counted apart."""
    kernel, now_ns = seen.world.kernel, seen.world.clock.now_ns()
    live = {each["clientOrderId"] for each in seen.books["open_orders"]}
    live |= {each["clientAlgoId"] for each in seen.books["open_algo_orders"]}
    for order in kernel.open_orders:
        approved = order.approved
        doubtful = approved.order_type.conditional and order.state is OrderState.UNCERTAIN
        if approved.id not in live and not doubtful and now_ns - order.entered_ns > MINUTE_NS:
            yield f"O2 {approved.id} on {approved.instrument}: {order.state.value}, and the venue has no such order"


def conditional_doubts(world: SimWorld) -> list[str]:
    """The stops of which nobody knows yet whether they were placed: by name, apart from O2 (reliability.md 3.3)."""
    return [
        order.approved.id
        for order in world.kernel.open_orders
        if order.approved.order_type.conditional and order.state is OrderState.UNCERTAIN
    ]


def undurable(seen: Evidence) -> Iterator[Finding]:
    """O3: no order left the process before its record was on disk, and none left twice."""
    yield from (f"O3 {text}" for text in seen.world.witness.undurable)
    for name in seen.executed:
        if name.startswith(_PREFIX) and name not in seen.journaled.ordered:
            yield f"O3 {name}: executed, and in no journal"


def lost_fills(seen: Evidence) -> Iterator[Finding]:
    """O5: what the daemon has booked is what the venue has executed."""
    state = msgspec.msgpack.decode(seen.world.kernel.snapshot().data)
    booked: Mapping[str, Any] = state["positions"]["booked"]
    there: dict[str, set[int]] = {}
    for symbol, trade_id, name, qty in seen.world.venue.trades():
        there.setdefault(symbol, set()).add(trade_id)
        of = booked.get(symbol, {"floor": -1, "ids": ()})
        if trade_id > of["floor"] and trade_id not in of["ids"]:
            yield f"O5 {symbol}: execution {trade_id} of {name} over {qty} is not booked"
    for symbol, of in booked.items():
        for trade_id in sorted(of["ids"]):
            if trade_id not in there.get(symbol, ()):
                yield f"O5 {symbol}: execution {trade_id} is booked, and the venue has none such"


def positions(seen: Evidence) -> Iterator[Finding]:
    """E1: what the daemon holds is what the venue says."""
    ours = {str(name): held.qty for name, held in seen.world.kernel.ledger.positions.items() if held.qty}
    theirs = {name: Decimal(qty) for name, qty in seen.books["positions"].items()}
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name, _ZERO) != theirs.get(name, _ZERO):
            yield f"E1 {name}: {ours.get(name, _ZERO)} booked, {theirs.get(name, _ZERO)} at the venue"


def protection(seen: Evidence) -> Iterator[Finding]:
    """E2: no position is bare now."""
    for gap in seen.world.witness.open_gaps:
        if gap.seconds > _BARE_S:
            yield f"E2 {gap.symbol}: bare since {gap.from_s:.2f} s"


def past_protection(seen: Evidence) -> Iterator[Finding]:
    """E2: none was bare for longer than it takes to give it up, but while the daemon was dead."""
    for gap in seen.world.witness.gaps:
        if gap.seconds > _BARE_S and not gap.down and gap not in seen.world.witness.open_gaps:
            yield f"E2 {gap.symbol}: bare from {gap.from_s:.2f} s for {gap.seconds:.2f} s"


def orphans(seen: Evidence) -> Iterator[Finding]:
    """E3: where nothing is held no stop is left."""
    for order in seen.books["open_algo_orders"]:
        if order["symbol"] not in seen.books["positions"]:
            yield f"E3 {order['clientAlgoId']} on {order['symbol']}: rests, and nothing is held"


def money(seen: Evidence) -> Iterator[Finding]:
    """M1: the wallet is the sum of our lines, to the last digit, in every asset."""
    ledger = seen.world.kernel.ledger
    for asset, amount in sorted(seen.books["wallet"].items()):
        ours = ledger.wallet if asset == "USDT" else ledger.other.get(asset, _ZERO)
        if ours != Decimal(amount):
            yield f"M1 {asset}: {ours} by our lines, {amount} at the venue"


def crashes(seen: Evidence) -> Iterator[Finding]:
    """No life of the daemon ended by an error, and the venue could do what it was told."""
    yield from (f"crash at {text}" for text in seen.world.crashes)
    yield from (f"venue: {text}" for text in seen.world.venue.errors)
    yield from (f"task: {text}" for text in seen.world.loop.errors)


Oracle = Callable[[Evidence], Iterator[Finding]]
ORACLES: Final[tuple[Oracle, ...]] = (
    duplicates,
    unresolved,
    undurable,
    lost_fills,
    positions,
    protection,
    orphans,
    money,
    crashes,
)


def judge(world: SimWorld, *, past_gaps: bool = True) -> tuple[list[Finding], Evidence]:
    """The findings of all oracles, and what they were shown. A daemon without a kernel is a finding of its own.

    Not ``past_gaps``: the venue could not take stops for a while, so only what is bare now is counted.
    """
    seen = Evidence.of(world)
    if world.parts is None:
        return [*crashes(seen), "E4: the daemon has not come up"], seen
    oracles = (*ORACLES, past_protection) if past_gaps else ORACLES
    return [finding for oracle in oracles for finding in oracle(seen)], seen
