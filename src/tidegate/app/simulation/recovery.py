"""What a simulated run tells about a fault: how long until all was well, and promises that were broken on the way.

Everything is read from the journals of the run, which hold each event with the time at which it became known and what
was decided on it. Times are virtual seconds since the run began.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Final

from tidegate.app.bootstrap_live import journals
from tidegate.domain.account import AccountSnapshot
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.market import Bar, Family, FeedState, MarkPrice, Quote
from tidegate.domain.messages import Alert, NotPlaced, Record, VenueState, VenueStatus
from tidegate.domain.orders import (
    ApprovedOrder,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderTriggered,
    OrderUncertain,
    Purpose,
)

STALE_MARK_S: Final = 6.5
"""No entry on a mark price older than this: the bound of five seconds, and one message more."""
_ABSURD: Final = 5.0
_CLOCKS_S: Final = 0.5
"""How far the times of venue and daemon may be apart."""
_WORDS = (OrderAccepted, OrderFilled, OrderCanceled, OrderExpired, OrderRejected, OrderTriggered)


class Kind(Enum):
    """What recovers: an order whose outcome was not known, a stop, the way to the venue, the data."""

    ENTRY = "entry"
    REDUCING = "reducing"
    STOP = "stop"
    STREAM = "stream"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Recovery:
    """``seconds`` from the first moment of truth until it was well again; infinite when it never was."""

    kind: Kind
    seconds: float
    what: str


@dataclass(slots=True)
class _Fate:
    order: ApprovedOrder
    doubted_s: float = math.inf
    known_s: float = math.inf
    denied: str = ""
    gone_s: float = math.inf


@dataclass(slots=True)
class Timeline:
    """The journals of a run, in order. ``entries`` are the orders that took risk, with the age of the mark price."""

    start_ns: Nanos
    fates: dict[ClientOrderId, _Fate] = field(default_factory=dict)
    entries: list[tuple[float, ClientOrderId, float]] = field(default_factory=list)
    feed: list[tuple[float, FeedState]] = field(default_factory=list)
    venue: list[tuple[float, VenueStatus]] = field(default_factory=list)
    alerts: list[tuple[float, Alert]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    _late: list[tuple[float, OrderFilled]] = field(default_factory=list)
    _fills: list[tuple[float, OrderFilled]] = field(default_factory=list)
    _marks: dict[InstrumentId, Nanos] = field(default_factory=dict)
    _bars: dict[InstrumentId, Nanos] = field(default_factory=dict)
    _prices: dict[InstrumentId, float] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, start_ns: Nanos) -> "Timeline":
        """Read every journal under the state folder of a daemon."""
        line = cls(start_ns)
        for account in sorted(each / "journal" for each in folder.iterdir() if each.is_dir()):
            for reader in journals(account):
                line._bars.clear()  # a start hears again what its features need
                for record in reader.records():
                    line._take(record)
        return line

    def _take(self, record: Record) -> None:
        event, at_s = record.event, (record.event.recv_ns - self.start_ns) / 1e9
        match event:
            case Bar() | MarkPrice() | Quote():
                self._market(event, at_s)
            case FeedState():
                self.feed.append((at_s, event))
            case VenueStatus():
                self.venue.append((at_s, event))
            case OrderUncertain() if (fate := self.fates.get(event.id)) is not None:
                if fate.known_s > at_s:
                    fate.doubted_s = min(fate.doubted_s, at_s)
            case AccountSnapshot():
                for each in event.open_orders:
                    self._known(each.id, at_s)
                    self._there(each.id)
            case _ if isinstance(event, _WORDS):
                self._known(event.id, at_s)
                self._ended(event, at_s)
        for command in record.commands:
            match command:
                case ApprovedOrder():
                    self._sent(command, at_s)
                case NotPlaced():
                    self._known(command.id, at_s)
                    if command.id in self.fates:
                        self.fates[command.id].denied = "never placed"
                case Alert():
                    self.alerts.append((at_s, command))

    def _there(self, name: ClientOrderId) -> None:
        if name in self.fates and self.fates[name].denied:
            self.broken.append(f"O1 {name}: the venue has it, though it was taken for {self.fates[name].denied}")

    @property
    def risen(self) -> list[ClientOrderId]:
        """The orders that took risk after they were taken for ended."""
        return [fill.id for _, fill in self._late]

    def kept(self, within_s: float) -> Iterator[str]:
        """E1: an order that was taken for ended filled, and more than before was still held when time was up."""
        for at_s, late in self._late:
            before, after = self._held(late, at_s - 1e-9), self._held(late, at_s + within_s)
            if abs(after) > abs(before):
                yield f"E1 {late.id}: filled late at {at_s:.1f} s; {after} held {within_s:g} s later, {before} before"

    def _held(self, of: OrderFilled, at_s: float) -> Decimal:
        told = (fill for when_s, fill in self._fills if when_s <= at_s and fill.instrument == of.instrument)
        return sum((fill.side.sign * fill.qty for fill in told), Decimal(0))

    def _ended(self, event: object, at_s: float) -> None:
        """What the end of an order says, and an execution that comes too late for it."""
        if isinstance(event, OrderAccepted | OrderTriggered | OrderFilled):
            self._there(event.id)
        told = any(
            isinstance(event, OrderFilled) and (fill.instrument, fill.trade_id) == (event.instrument, event.trade_id)
            for _, fill in self._fills
        )
        if isinstance(event, OrderFilled) and event.id in self.fates and not told:
            self._fills.append((at_s, event))
            fate = self.fates[event.id]
            if fate.denied and not fate.order.reduce_only:
                self._late.append((at_s, event))
        match event:
            case OrderRejected() if event.id in self.fates:
                self.fates[event.id].denied = f"rejected ({event.code})"
            case OrderCanceled() | OrderExpired() if event.id in self.fates:
                self.fates[event.id].gone_s = min(self.fates[event.id].gone_s, at_s)
            case OrderFilled() if event.id in self.fates:
                if (event.ts_ns - self.start_ns) / 1e9 > self.fates[event.id].gone_s + _CLOCKS_S:
                    self.broken.append(f"O6 {event.id}: executed at {at_s:.1f} s, though it was taken for ended")

    def _known(self, name: ClientOrderId, at_s: float) -> None:
        if (fate := self.fates.get(name)) is not None:
            fate.known_s = min(fate.known_s, at_s)

    def _sent(self, order: ApprovedOrder, at_s: float) -> None:
        self.fates[order.id] = _Fate(order)
        if order.purpose is Purpose.TARGET and not order.reduce_only:
            mark_ns = self._marks.get(order.instrument, self.start_ns)
            self.entries.append((at_s, order.id, at_s - (mark_ns - self.start_ns) / 1e9))

    def _market(self, event: Bar | MarkPrice | Quote, at_s: float) -> None:
        name = event.instrument
        if isinstance(event, Bar):
            last_ns = self._bars.get(name)
            if last_ns is not None and event.ts_ns != last_ns + event.interval_ns:
                self.broken.append(f"D3 {name}: a bar ends at {event.ts_ns} after one at {last_ns}")
            self._bars[name] = event.ts_ns
            return
        if isinstance(event, MarkPrice):
            self._marks[name] = event.ts_ns
            price = event.price
        else:
            price = event.bid
            if not (0.0 < event.bid < event.ask and event.bid_qty > 0.0 and event.ask_qty > 0.0):
                self.broken.append(f"D2 {name}: a quote of {event.bid} to {event.ask} was believed at {at_s:.1f} s")
        last = self._prices.setdefault(name, price)
        if not last / _ABSURD < price < last * _ABSURD:
            self.broken.append(f"D2 {name}: a price of {price} after {last} was believed at {at_s:.1f} s")
        else:
            self._prices[name] = price


# ---- how long it took -------------------------------------------------------------------------------------------


def order_recoveries(line: Timeline, truth_s: float) -> Iterator[Recovery]:
    """Every order whose outcome was in doubt: from the doubt, or the first truth after it, until it was known (O4).

    A conditional order of which only the market can tell has no such time; what counts then is that the position is
    covered: ``stop_recoveries``.
    """
    for name, fate in line.fates.items():
        if math.isinf(fate.doubted_s) or fate.order.order_type.conditional:
            continue
        reducing = fate.order.reduce_only or fate.order.purpose is not Purpose.TARGET
        seconds = max(0.0, fate.known_s - max(fate.doubted_s, truth_s))
        yield Recovery(Kind.REDUCING if reducing else Kind.ENTRY, seconds, name)


def stop_recoveries(gaps: Sequence[tuple[str, float, float]], truth_s: float) -> Iterator[Recovery]:
    """Times ``(symbol, from, until)`` in which a position was bare, counted from the first truth on (E2)."""
    for symbol, from_s, until_s in gaps:
        yield Recovery(Kind.STOP, max(0.0, until_s - max(from_s, truth_s)), symbol)


def stream_recoveries(line: Timeline, truth_s: float) -> Iterator[Recovery]:
    """From each loss of the venue, or the first truth after it, until it was there again."""
    down_s: float | None = None
    for at_s, status in line.venue:
        if status.state is not VenueState.UP:
            down_s = at_s if down_s is None else down_s
        elif down_s is not None:
            yield Recovery(Kind.STREAM, max(0.0, at_s - max(down_s, truth_s)), status.detail)
            down_s = None
    if down_s is not None:
        yield Recovery(Kind.STREAM, math.inf, "the venue was never there again")


def data_recoveries(line: Timeline, truth_s: float) -> Iterator[Recovery]:
    """From each family's going stale, or the first truth after it, until it was fresh again (D1, D2)."""
    stale: dict[tuple[InstrumentId | None, Family], float] = {}
    for at_s, state in line.feed:
        key = state.instrument, state.family
        if not state.fresh:
            stale.setdefault(key, at_s)
        elif (since_s := stale.pop(key, None)) is not None:
            yield Recovery(Kind.DATA, max(0.0, at_s - max(since_s, truth_s)), f"{key[0]} {key[1].value}")
    for name, family in stale:
        yield Recovery(Kind.DATA, math.inf, f"{name} {family.value} was never fresh again")


# ---- what was broken ----------------------------------------------------------------------------------------------


def denials(line: Timeline, executed: Mapping[str, object]) -> Iterator[str]:
    """O1: an order that was taken for refused or never placed, and was executed."""
    for name, fate in line.fates.items():
        if fate.denied and name in executed:
            yield f"O1 {name}: the venue has it, though it was taken for {fate.denied}"


def given_up(line: Timeline) -> Iterator[str]:
    """E2: a position that was closed because it had no confirmed stop in time."""
    for at_s, alert in line.alerts:
        if alert.subject == "unprotected":
            yield f"E2 at {at_s:.1f} s: {alert.text}"


def stale_entries(line: Timeline) -> Iterator[str]:
    """D1: an entry that was decided without a mark price of late."""
    for at_s, name, age_s in line.entries:
        if age_s > STALE_MARK_S:
            yield f"D1 {name}: an entry at {at_s:.1f} s on a mark price {age_s:.1f} s old"


def unnoticed(line: Timeline, family: Family | None, from_s: float, within_s: float) -> Iterator[str]:
    """D1, D2, D4: a loss that nobody spoke of in time: of a family, or (None) of the user stream."""
    if family is None:
        said = any(from_s <= at_s <= from_s + within_s and s.state is not VenueState.UP for at_s, s in line.venue)
    else:
        said = any(
            from_s <= at_s <= from_s + within_s and not state.fresh and state.family is family
            for at_s, state in line.feed
        )
    if not said:
        what = "the user stream" if family is None else family.value.lower()
        promise = "D4" if family is None else "D2" if family is Family.BOOK else "D1"
        yield f"{promise} the loss of {what} at {from_s:.1f} s was not noticed within {within_s:g} s"


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of ``values`` lies (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
