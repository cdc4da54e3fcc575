"""Unknown outcomes: an order of which nobody knows whether the market has it is asked for, never sent again.

1. A doubt begins with an ``OrderUncertain``, or with an order that a restart found in flight. The order is asked for at
   once, after 250 ms, 500 ms, then every second; its notional stays reserved, its instrument takes no new risk.
2. Any word of the venue about the order settles the doubt: an event, an answer to the query, a listing, a fill.
3. "Not found" proves nothing before the fence (after which the venue cannot accept it) and the grace. After them a
   snapshot is asked for, and when it says the same (the order is in neither list, no execution is unexplained, the
   position is as booked) the order is proved never placed: ``NotPlaced``, and what it was for is decided anew under a
   new id. When it does not agree the doubt stays, and after 30 s a person is told.
4. A conditional order is never taken for not placed by time: the venue's own listing of stops can lag by many minutes.
   After a second one spare stop may stand in. Unsettled for an hour where nothing depends on it, it is given up.
"""

from collections.abc import Collection
from dataclasses import dataclass

from tidegate.domain.account import AccountSnapshot
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.market import SECOND_NS
from tidegate.domain.messages import Alert, Command, NotPlaced, SetTimer, Severity
from tidegate.domain.orders import Order, OrderNotFound, OrderState, Purpose
from tidegate.kernel.settings import ReconcileSettings
from tidegate.kernel.trading import Trading

RESOLVE_TIMER = "resolve:"
SPARE_AFTER_NS = SECOND_NS
ALARM_AFTER_NS = 30 * SECOND_NS
CLOCK_ERROR_NS = SECOND_NS // 4
WINDOW_NS = 2 * SECOND_NS
REDUCING_WINDOW_NS = 5 * SECOND_NS
"""The venue's receive window of entries, and of orders that only reduce."""

_FIRST_WAITS_NS = (SECOND_NS // 4, SECOND_NS // 2)
_SLOW_AFTER_NS = 60 * SECOND_NS
_SLOW_NS = 30 * SECOND_NS
NO_SNAPSHOT = 1 << 62
UNEXPLAINED = "an execution that no order explains"


@dataclass(slots=True)
class Doubt:
    """One order in doubt. ``not_found`` once a query found nothing after the fence and the grace; ``snapshot`` is the
    number of the first snapshot that may prove it."""

    id: ClientOrderId
    instrument: InstrumentId
    since_ns: Nanos
    fence_ns: Nanos
    conditional: bool
    tries: int = 0
    not_found: bool = False
    snapshot: int = NO_SNAPSHOT
    disputed: str = ""
    alarmed: bool = False


class Resolving:
    """The doubts. What a proof needs of the venue is asked for by the kernel: see ``wants_snapshot``."""

    def __init__(self, trading: Trading, settings: ReconcileSettings) -> None:
        self._trading, self._settings = trading, settings
        self._doubts: dict[ClientOrderId, Doubt] = {}
        self.wants_snapshot = False

    @property
    def unresolved(self) -> tuple[ClientOrderId, ...]:
        """Orders in doubt, oldest first."""
        return tuple(self._doubts)

    def holds_up(self) -> bool:
        """True while a doubt is open that time will settle: not a conditional one, not a disputed one."""
        return any(not doubt.conditional and not doubt.disputed for doubt in self._doubts.values())

    # ---- begin and end ------------------------------------------------------------------------------------------

    def doubt(self, order: Order, fence_ns: Nanos, why: str, out: list[Command]) -> None:
        """The outcome of an order is not known."""
        name, now_ns = order.approved.id, self._trading.now_ns
        if name not in self._doubts:
            conditional = order.approved.order_type.conditional
            self._doubts[name] = Doubt(name, order.approved.instrument, now_ns, fence_ns, conditional)
            if not conditional:
                self._trading.desks[order.approved.instrument].block(_block(name), why)
        out.append(order.query())
        self._wait(self._doubts[name], out)

    def resume(self, out: list[Command]) -> None:
        """After a restart: what was in flight is in doubt, and what was in doubt is asked for again."""
        for order in self._trading.unsettled((OrderState.IN_FLIGHT, OrderState.UNCERTAIN)):
            order.conclude(OrderState.UNCERTAIN)
            known = self._doubts.get(order.approved.id)
            self.doubt(order, known.fence_ns if known else fence_of(order), "in flight at a restart", out)

    def settled(self, order: Order) -> bool:
        """The venue has spoken; False when there was no doubt."""
        doubt = self._doubts.pop(order.approved.id, None)
        if doubt is None:
            return False
        self._trading.desks[doubt.instrument].unblock(_block(doubt.id))
        return True

    def forgive(self) -> None:
        """A person has looked: what was disputed may be proved by the next snapshot that agrees."""
        for doubt in self._doubts.values():
            doubt.disputed = ""

    # ---- asking -------------------------------------------------------------------------------------------------

    def on_timer(self, name: ClientOrderId, out: list[Command]) -> None:
        """Time to ask again."""
        doubt, order = self._doubts.get(name), self._trading.order_of(name)
        if doubt is None or order is None:
            return
        if order.state is not OrderState.UNCERTAIN:
            self.settled(order)
            return
        doubt.tries += 1
        if doubt.conditional:
            self._stand_in(doubt, out)
            if self._give_up(doubt, order, out):
                return
        self._alarm(doubt, out)
        out.append(order.query())
        self._wait(doubt, out)

    def on_not_found(self, report: OrderNotFound) -> None:
        """A query found nothing. After the fence and the grace, by the venue's time, that counts."""
        doubt = self._doubts.get(report.id)
        if doubt is None or doubt.conditional or report.ts_ns <= self._proof_ns(doubt):
            return
        doubt.not_found = True
        self.wants_snapshot |= doubt.snapshot == NO_SNAPSHOT

    def snapshot_asked(self, number: int) -> None:
        """The snapshot that ``wants_snapshot`` wished for has this number."""
        self.wants_snapshot = False
        for doubt in self._doubts.values():
            if doubt.not_found and doubt.snapshot == NO_SNAPSHOT:
                doubt.snapshot = number

    # ---- proof --------------------------------------------------------------------------------------------------

    def on_snapshot(
        self,
        number: int,
        snapshot: AccountSnapshot,
        differing: Collection[InstrumentId],
        unexplained: Collection[InstrumentId],
        out: list[Command],
    ) -> list[Order]:
        """Checks 2 to 4 against a snapshot whose executions are booked and whose orders are taken in.

        ``differing`` are the instruments whose position is not as booked, ``unexplained`` those with an execution that
        was not booked before and whose order nobody knows. Returns the orders that are proved never placed.
        """
        listed = {each.id for each in snapshot.open_orders}
        proved = []
        for sent in self._trading.unsettled((OrderState.IN_FLIGHT,)):
            if sent.approved.instrument in unexplained and not sent.approved.order_type.conditional:
                sent.conclude(OrderState.UNCERTAIN)  # its answer has not come, and something was executed
                self.doubt(sent, fence_of(sent), UNEXPLAINED, out)
        for doubt in list(self._doubts.values()):
            if doubt.instrument in unexplained and not doubt.conditional:
                doubt.disputed = UNEXPLAINED  # whatever reading told of it: it may be what this order did
            if doubt.conditional or number < doubt.snapshot:
                continue
            doubt.snapshot, doubt.not_found = NO_SNAPSHOT, False
            if snapshot.ts_ns <= self._proof_ns(doubt) or doubt.id in listed:
                continue
            if doubt.disputed == UNEXPLAINED:
                continue
            if doubt.instrument in differing:
                doubt.disputed = "the position is not as booked"
            else:
                order = self._trading.order_of(doubt.id)
                if order is not None:
                    self._never_placed(doubt, order, out)
                    proved.append(order)
        return proved

    def _never_placed(self, doubt: Doubt, order: Order, out: list[Command]) -> None:
        out.append(NotPlaced(doubt.id, doubt.instrument, self._trading.now_ns))
        self._trading.blotter.conclude(order, OrderState.NOT_PLACED, self._trading.now_ns)
        self.settled(order)

    def _proof_ns(self, doubt: Doubt) -> Nanos:
        return doubt.fence_ns + self._settings.grace_ns

    # ---- waiting ------------------------------------------------------------------------------------------------

    def _wait(self, doubt: Doubt, out: list[Command]) -> None:
        now_ns = self._trading.now_ns
        if doubt.tries < len(_FIRST_WAITS_NS):
            wait_ns = _FIRST_WAITS_NS[doubt.tries]
        else:
            wait_ns = SECOND_NS if now_ns - doubt.since_ns < _SLOW_AFTER_NS else _SLOW_NS
        out.append(SetTimer(f"{RESOLVE_TIMER}{doubt.id}", now_ns + wait_ns))

    def _alarm(self, doubt: Doubt, out: list[Command]) -> None:
        now_ns = self._trading.now_ns
        if not doubt.alarmed and now_ns - doubt.since_ns >= ALARM_AFTER_NS:
            doubt.alarmed = True
            text = (
                f"{doubt.id} on {doubt.instrument}: not known for 30 s whether it was placed. {doubt.disputed}".strip()
            )
            out.append(Alert(Severity.CRITICAL, "unresolved", text, now_ns))

    def _stand_in(self, doubt: Doubt, out: list[Command]) -> None:
        """One spare stop may protect the position while nobody knows about the first."""
        if self._trading.now_ns - doubt.since_ns < SPARE_AFTER_NS:
            return
        desk = self._trading.desks[doubt.instrument]
        covered = self._trading.protection.covers(doubt.instrument, desk.holding.exact.qty)
        if not covered and self._trading.protection.doubt(doubt.instrument, doubt.id):
            self._trading.protect_again(desk, out)

    def _give_up(self, doubt: Doubt, order: Order, out: list[Command]) -> bool:
        desk = self._trading.desks[doubt.instrument]
        if self._trading.now_ns - doubt.since_ns < self._settings.abandon_ns:
            return False
        if not self._trading.protection.covers(doubt.instrument, desk.holding.exact.qty):
            return False
        self._trading.blotter.conclude(order, OrderState.ABANDONED, self._trading.now_ns)
        self._trading.protection.gone(doubt.instrument, doubt.id)
        self.settled(order)
        text = f"{doubt.id} on {doubt.instrument}: unsettled for an hour, and nothing depends on it"
        out.append(Alert(Severity.WARNING, "abandoned", text, self._trading.now_ns))
        return True

    # ---- state --------------------------------------------------------------------------------------------------

    def dump(self) -> list[Doubt]:
        return list(self._doubts.values())

    def load(self, doubts: list[Doubt]) -> None:
        self._doubts = {doubt.id: doubt for doubt in doubts if doubt.instrument in self._trading.desks}


def fence_of(order: Order) -> Nanos:
    """When an order of which nobody knows when it was sent cannot be accepted any more; 0 for a conditional one."""
    approved = order.approved
    if approved.order_type.conditional:
        return 0
    reducing = approved.reduce_only or approved.purpose is Purpose.FLATTEN
    return approved.expires_ns + (REDUCING_WINDOW_NS if reducing else WINDOW_NS) + CLOCK_ERROR_NS


def _block(name: ClientOrderId) -> str:
    return f"unresolved {name}"
