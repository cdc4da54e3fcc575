"""Reconciliation: our books against the venue's snapshot, as a pure function to actions.

1. Executions that are not booked are missing; they count before positions are compared.
2. Orders that the venue lists: ours that were in doubt are accepted; ours that we have forgotten are recovered (their
   id says that they are ours); ours that we took for ended have risen; the rest is foreign, those of a session that
   began after ours too. Every id of our pattern that is unknown here is noted: it may be a second daemon's.
3. Orders that we hold for live and the venue does not list are asked for, unless they are too young to be listed.
4. Positions: what is booked, plus what is known to be foreign, against what the venue says.
5. Stops: of those listed, each position keeps what its guard knows, or the best one; others are duplicates or orphans.
   Where positions differ no stop is touched. A position that our books lack and that a stop of ours protects is ours:
   the journal that knew it is lost.
6. Settings and account mode against the configuration: compared, never changed.

Nothing here changes anything, and what is found on books that are made equal is nothing at all.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256

import msgspec

from tidegate.domain.account import AccountSnapshot, ContractSetting, OpenOrder, Position
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos, OrderName, parse_client_order_id
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.market import SECOND_NS
from tidegate.domain.messages import Adjustment
from tidegate.domain.orders import CancelOrder, Order, OrderFilled, OrderState, Purpose
from tidegate.execution.protection import Guard

YOUNG_NS = 3 * SECOND_NS
"""An order younger than this may be missing from a listing, or still stand in one, without meaning anything."""


class ExpectedAccount(msgspec.Struct, frozen=True):
    """How the account is configured to be: position mode, and leverage and margin type of contracts."""

    hedge: bool = False
    contracts: tuple[ContractSetting, ...] = ()


@dataclass(frozen=True, slots=True)
class Ours:
    """Our books at the moment of the comparison. ``asked_ns`` is when the snapshot was asked for, ``gen`` the newest
    session whose orders are ours: this one's, or a later one that has ended.
    """

    account: str
    gen: int
    asked_ns: Nanos
    held: Mapping[InstrumentId, Decimal]
    foreign: Mapping[InstrumentId, Decimal]
    orders: Iterable[Order]
    find: Callable[[ClientOrderId], Order | None]
    is_booked: Callable[[OrderFilled], bool]
    guard: Callable[[InstrumentId], Guard]
    expected: ExpectedAccount


class Difference(msgspec.Struct, frozen=True, gc=False):
    """The venue holds another quantity than is booked; ``qty`` is what is missing in our books, signed."""

    instrument: InstrumentId
    qty: Decimal
    venue_qty: Decimal
    entry_price: Decimal


class KeptStop(msgspec.Struct, frozen=True, gc=False):
    """A listed stop that no guard knows, and that is the best there is for its position."""

    order: OpenOrder
    side: int


@dataclass(slots=True)
class Findings:
    """What differs, and so what is to be done."""

    fills: list[OrderFilled] = field(default_factory=list)
    accepted: list[OpenOrder] = field(default_factory=list)
    recovered: list[OpenOrder] = field(default_factory=list)
    risen: list[OpenOrder] = field(default_factory=list)
    missing: list[Order] = field(default_factory=list)
    foreign_orders: list[OpenOrder] = field(default_factory=list)
    unknown_ids: list[OpenOrder] = field(default_factory=list)  # of our pattern, and not known here
    foreign_positions: list[Position] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    protected: dict[InstrumentId, ClientOrderId] = field(default_factory=dict)  # by a stop of ours, where they differ
    kept_stops: list[KeptStop] = field(default_factory=list)
    cancels: list[CancelOrder] = field(default_factory=list)
    settings: dict[InstrumentId, str] = field(default_factory=dict)
    halt: str | None = None

    def leave_alone(self, names: Collection[ClientOrderId]) -> None:
        """These orders belong to somebody else: nothing is recovered, kept or cancelled of them."""
        if names:
            self.recovered = [each for each in self.recovered if each.id not in names]
            self.kept_stops = [each for each in self.kept_stops if each.order.id not in names]
            self.cancels = [each for each in self.cancels if each.id not in names]

    @property
    def empty(self) -> bool:
        """True when ours and the venue's are the same. What is foreign and how the account is set do not count."""
        return self.halt is None and not (
            self.fills
            or self.accepted
            or self.recovered
            or self.risen
            or self.missing
            or self.differences
            or self.kept_stops
            or self.cancels
        )


def reconcile(ours: Ours, snapshot: AccountSnapshot) -> Findings:
    """Compare. See the steps above."""
    found = Findings()
    found.fills = [fill for fill in snapshot.fills if not ours.is_booked(fill)]
    _review_orders(ours, snapshot, found)
    held = dict(ours.held)
    for fill in found.fills:
        if fill.instrument in held:
            held[fill.instrument] = EXACT.add(held[fill.instrument], fill.side.sign * fill.qty)
    _review_positions(ours, held, snapshot, found)
    _review_stops(ours, held, snapshot, found)
    _review_settings(ours, snapshot, found)
    return found


# ---- orders -------------------------------------------------------------------------------------------------------


def _review_orders(ours: Ours, snapshot: AccountSnapshot, found: Findings) -> None:
    old_ns = ours.asked_ns - YOUNG_NS
    listed = set()
    for each in snapshot.open_orders:
        listed.add(each.id)
        known = ours.find(each.id)
        name = parse_client_order_id(each.id)
        if known is None and name is not None:
            found.unknown_ids.append(each)
        if known is not None:
            if known.state in (OrderState.IN_FLIGHT, OrderState.UNCERTAIN):
                found.accepted.append(each)
            elif known.state is OrderState.REJECTED and known.ended_ns <= old_ns:
                found.accepted.append(each)  # a refusal that was none
            elif not known.open and known.state is not OrderState.FILLED and known.ended_ns <= old_ns:
                found.risen.append(each)
        elif name is not None and each.instrument in ours.held and _is_ours(name, each, ours):
            found.recovered.append(each)
        else:
            found.foreign_orders.append(each)
    for order in ours.orders:
        if order.approved.id not in listed and order.entered_ns <= old_ns and order.state is not OrderState.UNCERTAIN:
            found.missing.append(order)


def _review_positions(
    ours: Ours, held: Mapping[InstrumentId, Decimal], snapshot: AccountSnapshot, found: Findings
) -> None:
    there: dict[InstrumentId, Position] = {}
    for position in snapshot.positions:
        if position.instrument not in held:
            found.foreign_positions.append(position)
            continue
        other = there.get(position.instrument)  # the other leg of a hedged account: the net counts
        if other is None:
            there[position.instrument] = position
        else:
            qty = EXACT.add(position.qty, other.qty)
            larger = position if abs(position.qty) >= abs(other.qty) else other
            there[position.instrument] = Position(position.instrument, qty, larger.entry_price)
    for name, booked in held.items():
        at_venue = there.get(name)
        venue_qty = ZERO if at_venue is None else at_venue.qty
        qty = EXACT.subtract(EXACT.subtract(venue_qty, booked), ours.foreign.get(name, ZERO))
        if qty:
            entry = ZERO if at_venue is None else at_venue.entry_price
            found.differences.append(Difference(name, qty, venue_qty, entry))


# ---- stops --------------------------------------------------------------------------------------------------------


def _review_stops(ours: Ours, held: Mapping[InstrumentId, Decimal], snapshot: AccountSnapshot, found: Findings) -> None:
    recovered = {each.id for each in found.recovered}
    risen = {each.id for each in found.risen}
    stops: dict[InstrumentId, list[OpenOrder]] = {}
    for each in snapshot.open_orders:
        known = ours.find(each.id)
        if each.id in risen or (each.id in recovered and not _protects(each)):
            found.cancels.append(CancelOrder(each.id, each.instrument, each.order_type.conditional))
        elif _protects(each) and (each.id in recovered or (known is not None and _is_protection(known))):
            stops.setdefault(each.instrument, []).append(each)
    differing = {each.instrument for each in found.differences}
    for name, listed in stops.items():
        if name not in differing:
            _choose(ours, name, held[name], listed, found)
    for difference in found.differences:
        side = difference.venue_qty.compare(ZERO)
        for each in stops.get(difference.instrument, ()):
            if side * each.side.sign < 0:
                found.protected[difference.instrument] = each.id


def _protects(order: OpenOrder) -> bool:
    return order.order_type.conditional and order.reduce_only


def _is_ours(name: OrderName, order: OpenOrder, ours: Ours) -> bool:
    """By its name; a stop under another label of ours is a stop of ours still."""
    return name[1] <= ours.gen and (name[0] == ours.account or _protects(order))


def _is_protection(order: Order) -> bool:
    return order.approved.purpose is Purpose.PROTECTION


def _choose(ours: Ours, name: InstrumentId, qty: Decimal, listed: list[OpenOrder], found: Findings) -> None:
    """Keep what the guard knows, or the best; the others go. Young ones are left alone while nothing is held."""
    guard = ours.guard(name)
    side = (qty > 0) - (qty < 0)
    unknown = [each for each in listed if not guard.knows(each.id)]
    if side and guard.side in (0, side) and guard.resting is None and guard.pending is None and not guard.triggered:
        best = max(
            (each for each in unknown if each.side.sign == -side and each.trigger is not None),
            key=lambda each: _fitness(each, qty, side),
            default=None,
        )
        if best is not None:
            found.kept_stops.append(KeptStop(best, side))
            unknown.remove(best)
    found.cancels.extend(CancelOrder(each.id, name, conditional=True) for each in unknown)


def _fitness(stop: OpenOrder, qty: Decimal, side: int) -> tuple[bool, bool, Decimal]:
    """The right size first, then one that covers, then the nearest."""
    size = stop.qty - stop.filled
    return size == abs(qty), size >= abs(qty), side * (stop.trigger or ZERO)


# ---- settings -----------------------------------------------------------------------------------------------------


def _review_settings(ours: Ours, snapshot: AccountSnapshot, found: Findings) -> None:
    mode = snapshot.mode
    if mode is not None and found.halt is None:
        if mode.portfolio_margin:
            found.halt = "the account is in portfolio margin, which is not supported"
        elif mode.multi_assets:
            found.halt = "the account is in multi-assets mode, which is not supported"
        elif mode.hedge != ours.expected.hedge:
            is_, wanted = ("hedge", "one-way") if mode.hedge else ("one-way", "hedge")
            found.halt = f"the account is in {is_} mode, the configuration says {wanted}"
    there = {each.instrument: each for each in snapshot.settings}
    for wish in ours.expected.contracts:
        has = there.get(wish.instrument)
        if has is not None and has != wish:
            found.settings[wish.instrument] = f"the venue has {_text(has)}, the configuration says {_text(wish)}"


def _text(setting: ContractSetting) -> str:
    return f"leverage {setting.leverage} {'isolated' if setting.isolated else 'cross'}"


# ---- what no execution explains -----------------------------------------------------------------------------------


def adjustment(difference: Difference, price: Decimal, ts_ns: Nanos, reason: str, *, adopted: bool) -> Adjustment:
    """The line that makes ours equal to the venue's. Its id follows from its content."""
    text = f"{difference.instrument} {difference.qty:f} {difference.venue_qty:f} {ts_ns}"
    name = f"adj-{sha256(text.encode()).hexdigest()[:16]}"
    return Adjustment(name, difference.instrument, difference.qty, price, reason, ts_ns, adopted)
