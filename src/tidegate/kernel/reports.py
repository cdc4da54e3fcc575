"""The path of an execution report: the blotter moves the order on; a fill is booked once; protection is reviewed at
once, so that a position has its stop from the moment it is filled; a stop that fills spends the wishes it protected.

What a rejection means depends on its cause. An entry waits for the next close, at most. What reduces is tried again,
with growing pauses, under a new id and sized from what is held then. A stop that the price has passed, or that the
venue cannot take, closes the position instead; one that is refused while an older one covers leaves that one in place.
"""

from collections.abc import Sequence

from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos, parse_client_order_id
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.market import HOUR_NS, MINUTE_NS, SECOND_NS
from tidegate.domain.messages import Alert, Command, HaltCause, SetTimer, Severity
from tidegate.domain.orders import (
    FillCause,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderNotFound,
    OrderRejected,
    OrderReport,
    OrderState,
    OrderTriggered,
    OrderUncertain,
    Purpose,
    RejectCause,
)
from tidegate.kernel.desk import FOREIGN, Desk
from tidegate.kernel.halting import Halting
from tidegate.kernel.lifecycle import State
from tidegate.kernel.resolving import Resolving, fence_of
from tidegate.kernel.sessions import OtherSessions
from tidegate.kernel.trading import NOTHING, Trading

RETRY_TIMER = "retry:"
REJECTIONS_IN_A_ROW = 3
_LONGEST_CIRCUIT = 6
"""How often the pause between two probes of a contract that refuses us doubles: from a minute to an hour."""
NOT_TRADING = "not trading"
"""The block of journals from before refusals were probed; it is lifted at the next start."""
REFUSED = "refused"
UNPROTECTABLE = "unprotectable"
FENCE = "fence"

_FIRST_RETRY_NS = SECOND_NS // 5
_LONGEST_RETRY_NS = 10 * SECOND_NS
_FOR_NOW = frozenset((RejectCause.NOT_SENT, RejectCause.CLOCK, RejectCause.RATE, RejectCause.OVERLOADED))
"""Refusals that say nothing about the order itself."""

# Members by plain names: looking one up on its class costs ten times as much, and these are asked all the time.
_PROTECTION, _ORDER = Purpose.PROTECTION, FillCause.ORDER


class Reports:
    """Works execution reports in. The kernel asks for a snapshot when ``wants_snapshot``."""

    def __init__(self, trading: Trading, resolving: Resolving, halting: Halting, sessions: OtherSessions) -> None:
        self._trading, self._resolving, self._halting, self._sessions = trading, resolving, halting, sessions
        self.wants_snapshot = False

    # ---- fills --------------------------------------------------------------------------------------------------

    def on_fill(self, fill: OrderFilled) -> Sequence[Command]:
        """An execution: booked once, protected at once."""
        trading = self._trading
        desk = trading.desks.get(fill.instrument)
        if desk is None:
            text = f"{fill.instrument} {fill.side.value} {fill.qty} at {fill.price}: not traded by us, not booked"
            return (Alert(Severity.WARNING, "foreign fill", text, fill.ts_ns),)
        if trading.positions.is_booked(fill):
            return self._claimed(desk, fill)
        if self.is_history(desk, fill):
            trading.positions.pass_over(fill)
            return NOTHING
        out: list[Command] = []
        order = self._book(desk, fill, out)
        trading.marks.last.setdefault(fill.instrument, float(fill.price))
        protective = order is not None and order.approved.purpose is _PROTECTION
        if protective or fill.cause is not _ORDER:
            trading.spend(desk, -fill.side.sign, out, _level(order))
        if protective and order is not None:
            if order.open:
                return out
            trading.protection.gone(fill.instrument, fill.id)
        if fill.cause is not _ORDER:
            out.append(
                Alert(Severity.CRITICAL, fill.cause.value, f"{fill.instrument} {fill.qty} at {fill.price}", fill.ts_ns)
            )
        price = float(fill.price)
        if trading.settings.protection.enabled and not desk.delisted:
            trading.protect(desk, price, out)
        trading.reroute(desk, price, out)
        return out

    def _claimed(self, desk: Desk, fill: OrderFilled) -> Sequence[Command]:
        """An execution that was booked while nobody knew whose it was: it settles the order in doubt that had it."""
        trading = self._trading
        order = trading.blotter.find(fill.id)
        if order is None or not order.open or (order.filled and not order.trade_ids):
            return NOTHING  # one that was recovered knows how much it has, not by which executions
        if trading.blotter.apply(fill) is None:
            return NOTHING
        out: list[Command] = []
        self._resolving.settled(order)
        filled = order.state is OrderState.FILLED
        if filled and not desk.foreign_qty:
            desk.unblock(FOREIGN)
        if filled and order.approved.purpose is _PROTECTION:
            trading.protection.gone(fill.instrument, fill.id)
        trading.reroute(desk, trading.last_price(desk), out)
        return out

    def is_history(self, desk: Desk, fill: OrderFilled) -> bool:
        """True for an execution from before we first looked at the contract, by an order that we do not know."""
        return fill.ts_ns <= desk.seen_from_ns and self._trading.blotter.find(fill.id) is None

    def book_missing(self, fill: OrderFilled, out: list[Command]) -> None:
        """An execution that only a snapshot told of: booked, with what follows from it but protection, which is
        reviewed when all of them are booked."""
        trading = self._trading
        desk = trading.desks[fill.instrument]
        order = self._book(desk, fill, out)
        if (order is not None and order.approved.purpose is _PROTECTION) or fill.cause is not _ORDER:
            trading.spend(desk, -fill.side.sign, out, _level(order))
        if order is not None and not order.open:
            trading.protection.gone(fill.instrument, fill.id)

    def _book(self, desk: Desk, fill: OrderFilled, out: list[Command]) -> Order | None:
        """Book an execution that was not booked before; the order that it belongs to, when that is ours."""
        trading = self._trading
        known = trading.blotter.find(fill.id)
        if known is None and desk.foreign_qty and fill.cause is _ORDER:
            trading.positions.pass_over(fill)
            desk.foreign_qty = EXACT.add(desk.foreign_qty, fill.side.sign * fill.qty)
            if not desk.foreign_qty:
                desk.unblock(FOREIGN)
            return None
        if known is not None and known.state is OrderState.NOT_PLACED:
            self._fence_broken(desk, known, out)
        if known is not None and known.state is OrderState.REJECTED:
            self._refused_but_live(known, out)
        order = trading.blotter.apply(fill)
        held = desk.holding.exact.qty
        trading.positions.book_fill(fill)
        if trading.book is not None:
            trading.book.filled(fill, None if order is None else order.approved.purpose)
        trading.known_equity = None
        desk.filled_ns = trading.now_ns
        if order is None and fill.cause is _ORDER:
            out.append(
                Alert(
                    Severity.WARNING,
                    "fill",
                    f"{fill.id} on {fill.instrument}: a fill of an order that is not ours",
                    fill.ts_ns,
                )
            )
            if known is None:
                self._sessions.seen(fill.id, fill.ts_ns, out)
            if parse_client_order_id(fill.id) is None:
                self._by_hand(desk, held * fill.side.sign < 0, 1 if held > 0 else -1, out)
        self.forgive(desk)
        if not desk.holding.exact.qty:
            desk.leaving, desk.retries = False, 0
        if order is not None:
            self._resolving.settled(order)
        return order

    def _by_hand(self, desk: Desk, reduced: bool, side: int, out: list[Command]) -> None:
        """Somebody trades a contract of ours: what they close stays closed; what they open is guarded, and else left
        alone until a person gives it to us."""
        if reduced:
            self._trading.spend(desk, side, out)
        else:
            desk.block(FOREIGN, f"{desk.instrument.id} was traded by hand")
        if not desk.holding.exact.qty:
            desk.unblock(FOREIGN)

    # ---- the life of an order -----------------------------------------------------------------------------------

    def on_report(self, report: OrderReport) -> Sequence[Command]:
        """Anything but a fill."""
        trading = self._trading
        order = trading.blotter.apply(report)
        if order is None:
            return self._nothing_new(report)
        out: list[Command] = []
        name = report.instrument
        desk = trading.desks[name]
        if order.state is not OrderState.UNCERTAIN:
            self._resolving.settled(order)
        protective = order.approved.purpose is _PROTECTION
        match report:
            case OrderAccepted() if protective:
                self._on_stop_accepted(desk, order, out)
            case OrderTriggered() if protective:
                trading.protection.triggered(name, report.id)
            case OrderUncertain():
                fence_ns = report.fence_ns or fence_of(order)
                self._resolving.doubt(order, fence_ns, report.detail, out)
            case OrderRejected():
                self._on_rejection(desk, order, report, out)
            case OrderCanceled() | OrderExpired():
                self._on_end(desk, order, out)
        return out

    def _nothing_new(self, report: OrderReport) -> Sequence[Command]:
        """The report says nothing about an order of ours that we did not know; or it is about another's."""
        order = self._trading.blotter.find(report.id)
        out: list[Command] = []
        if order is None:
            if not isinstance(report, OrderNotFound) and not self._sessions.seen(report.id, report.ts_ns, out):
                text = f"{report.id}: {type(report).__name__} of an order that is not ours"
                out.append(Alert(Severity.WARNING, "order", text, report.ts_ns))
        elif isinstance(report, OrderNotFound):
            self._resolving.on_not_found(report)
        elif isinstance(report, OrderUncertain) and order.open and order.state is not OrderState.UNCERTAIN:
            out.append(order.query())  # a cancel or an amend of it, of which nobody knows
        elif isinstance(report, OrderAccepted | OrderTriggered) and order.state is OrderState.NOT_PLACED:
            self.risen(report.id, report.instrument, out)
        elif isinstance(report, OrderAccepted | OrderTriggered) and order.state is OrderState.REJECTED:
            self._adopt_refused(order, report, out)
        return out

    def risen(self, name: ClientOrderId, instrument: InstrumentId, out: list[Command]) -> None:
        """An order that we took for ended is live: it is called back, and never taken for ours to build upon."""
        order = self._trading.blotter.find(name)
        if order is None:
            return
        if order.state is OrderState.NOT_PLACED:
            self._fence_broken(self._trading.desks[instrument], order, out)
        out.append(order.cancel())

    def _refused_but_live(self, order: Order, out: list[Command]) -> None:
        text = f"{order.approved.id} was refused ({order.reason}), and the venue has it all the same: it is ours"
        out.append(Alert(Severity.CRITICAL, "adopted", text, self._trading.now_ns))

    def _adopt_refused(self, order: Order, report: OrderAccepted | OrderTriggered, out: list[Command]) -> None:
        """A refusal that was none: the order is ours again; a stop guards, an entry counts until the next close."""
        trading = self._trading
        self._refused_but_live(order, out)
        desk = trading.desks[report.instrument]
        again = trading.blotter.reopen(order, trading.now_ns)
        again.apply(report)
        guard = trading.protection.guard(report.instrument)
        trigger, side = order.approved.trigger, -order.approved.side.sign
        if order.approved.purpose is _PROTECTION:
            if desk.holding.qty * side <= 0 or guard.resting is not None or trigger is None:
                out.append(again.cancel())
            else:
                trading.protection.adopt(report.instrument, order.approved.id, side, again.remaining, float(trigger))
                trading.protect_again(desk, out)

    def _fence_broken(self, desk: Desk, order: Order, out: list[Command]) -> None:
        """The venue accepted an order after it could not have: what we build on does not hold."""
        text = f"fence violation: {order.approved.id} was accepted after its fence"
        if desk.block(FENCE, text):
            out.append(Alert(Severity.CRITICAL, FENCE, text, self._trading.now_ns))
        desk.reroute = True  # whatever it fills beyond the target is taken off again

    def _on_stop_accepted(self, desk: Desk, order: Order, out: list[Command]) -> None:
        trading, name = self._trading, desk.instrument.id
        guard = trading.protection.guard(name)
        out.extend(trading.protection.confirmed(name, order.approved.id))
        if order.approved.id in guard.stale and guard.resting is None and order.approved.trigger is not None:
            side = -order.approved.side.sign  # the one in doubt came before its spare: it will do until then
            if guard.side == side:
                trading.protection.adopt(name, order.approved.id, side, order.remaining, float(order.approved.trigger))
        desk.retries = 0
        if trading.live:
            trading.watch(desk, out)

    def _on_end(self, desk: Desk, order: Order, out: list[Command]) -> None:
        """An order ended without filling: what it guarded or was leaving is guarded again, a target is routed again
        if we asked for it."""
        trading = self._trading
        price = trading.last_price(desk)
        purpose = order.approved.purpose
        bare = purpose is _PROTECTION and trading.protection.gone(desk.instrument.id, order.approved.id)
        if desk.holding.qty and (bare or purpose is Purpose.FLATTEN):
            trading.protect_again(desk, out)
        if purpose is Purpose.FLATTEN and not self._decides():
            self._retry_later(desk, out)
        trading.reroute(desk, price, out)

    def never_placed(self, order: Order, out: list[Command]) -> None:
        """It is proved that an order never reached the market: what it was for is decided anew."""
        trading = self._trading
        desk = trading.desks[order.approved.instrument]
        if order.approved.purpose is Purpose.FLATTEN:
            self.retry(desk, out)
            return
        if order.approved.purpose is Purpose.TARGET:
            if order.approved.reduce_only:
                desk.reroute = True  # less is wanted than is held: that does not wait for the next close
            else:
                trading.forget_target(desk)
            trading.reroute(desk, trading.last_price(desk), out)

    # ---- rejections ---------------------------------------------------------------------------------------------

    def _on_rejection(self, desk: Desk, order: Order, report: OrderRejected, out: list[Command]) -> None:
        """The venue said no. Three times in a row, or once to trading there at all, takes new risk away for a minute;
        every probe that is refused doubles the pause, up to an hour. A fill, RESUME and a restart end it."""
        cause = report.cause
        out.append(
            Alert(Severity.WARNING, f"rejected {order.approved.id}", f"{report.code} {report.reason}", report.ts_ns)
        )
        desk.rejections += 1
        if cause is RejectCause.NOT_TRADING:
            desk.rejections = max(desk.rejections, REJECTIONS_IN_A_ROW)
        if desk.rejections >= REJECTIONS_IN_A_ROW:
            self._open_circuit(desk, report, out)
        if cause is RejectCause.POSITION_MODE:
            text = f"the venue's position mode is not as configured: {report.code} {report.reason}"
            self._halting.halt(HaltCause.INVARIANT, text, out)
        purpose = order.approved.purpose
        if purpose is _PROTECTION:
            self._on_stop_refused(desk, order, cause, out)
        elif purpose is Purpose.FLATTEN:
            self._on_exit_refused(desk, cause, out)
        else:
            self._on_target_refused(desk, order, cause, out)

    def _open_circuit(self, desk: Desk, report: OrderRejected, out: list[Command]) -> None:
        """Take no new risk until the next probe; a person hears of each new reason once."""
        trading, doublings = self._trading, min(desk.rejections - REJECTIONS_IN_A_ROW, _LONGEST_CIRCUIT)
        desk.blocked_until_ns = trading.now_ns + min(MINUTE_NS * 2**doublings, HOUR_NS)
        minutes = (desk.blocked_until_ns - trading.now_ns) // MINUTE_NS
        why = f"{report.code} {report.reason}"
        news = desk.refusal != why
        desk.refusal = why
        if news:
            text = f"{desk.instrument.id} takes no new risk for {minutes} min, then it is probed: {why}"
            out.append(Alert(Severity.CRITICAL, REFUSED, text, report.ts_ns))

    def forgive(self, desk: Desk) -> bool:
        """After a fill, RESUME, a start, or the word that it trades: what was refused may be tried at once; False when
        nothing was."""
        refused = bool(desk.refusal)
        desk.rejections, desk.blocked_until_ns, desk.refusal = 0, 0, ""
        return refused

    def _on_target_refused(self, desk: Desk, order: Order, cause: RejectCause, out: list[Command]) -> None:
        trading = self._trading
        if order.approved.reduce_only and cause in _FOR_NOW:
            self._retry_later(desk, out)  # the target stays: less is wanted than is held
            return
        if cause is RejectCause.CLOCK and not desk.clock_retried and trading.lifecycle.trades:
            desk.clock_retried = True
            trading.route(desk, trading.view_now(desk), out)
            return
        if cause is RejectCause.REDUCE_ONLY:
            self.wants_snapshot = trading.live
        trading.forget_target(desk)

    def _on_exit_refused(self, desk: Desk, cause: RejectCause, out: list[Command]) -> None:
        trading = self._trading
        trading.forget_target(desk)
        if cause is RejectCause.REDUCE_ONLY and trading.live:
            self.wants_snapshot = True
            out.extend(order.cancel() for order in trading.blotter.working(desk.instrument.id, Purpose.TARGET))
        if cause in _FOR_NOW or not self._decides():
            self._retry_later(desk, out)

    def _on_stop_refused(self, desk: Desk, order: Order, cause: RejectCause, out: list[Command]) -> None:
        trading, name = self._trading, desk.instrument.id
        trading.protection.gone(name, order.approved.id)
        held = desk.holding.exact.qty
        if cause is RejectCause.UNSUPPORTED:
            text = f"the venue takes no stops of this kind ({name}): positions cannot be protected"
            trading.lifecycle.hold(UNPROTECTABLE, text)
            out.append(Alert(Severity.CRITICAL, UNPROTECTABLE, text, trading.now_ns))
        if not held:
            return
        if cause not in (RejectCause.WOULD_TRIGGER, RejectCause.UNSUPPORTED) and trading.protection.covers(name, held):
            desk.stop_barred_until_ns = trading.now_ns + MINUTE_NS
        elif cause in _FOR_NOW:
            self._retry_later(desk, out)
        elif cause is RejectCause.REDUCE_ONLY and trading.live:
            self.wants_snapshot = True
        else:
            trading.close(desk, out)
        if trading.live:
            trading.watch(desk, out)

    # ---- trying again -------------------------------------------------------------------------------------------

    def _decides(self) -> bool:
        """True while a simulated market's next close will see to it: there, nothing is tried again before."""
        return not self._trading.live and self._trading.lifecycle.state is State.READY

    def _retry_later(self, desk: Desk, out: list[Command]) -> None:
        trading = self._trading
        if not desk.holding.exact.qty or trading.sweeping:
            return
        wait_ns = min(_FIRST_RETRY_NS * 2 ** min(desk.retries, 10), _LONGEST_RETRY_NS)
        desk.retries += 1
        desk.retry_at_ns = trading.now_ns + wait_ns
        out.append(SetTimer(f"{RETRY_TIMER}{desk.instrument.id}", desk.retry_at_ns))

    def on_retry_timer(self, desk: Desk, out: list[Command]) -> None:
        """The pause is over."""
        if not desk.retry_at_ns or self._trading.now_ns < desk.retry_at_ns:
            return
        desk.retry_at_ns = 0
        self.retry(desk, out)

    def retry(self, desk: Desk, out: list[Command]) -> None:
        """Try again what reduces, sized from what is held now."""
        trading = self._trading
        held = desk.holding.exact.qty
        if not held or trading.sweeping or trading.blind:
            return
        if desk.leaving or trading.lifecycle.flattening:
            trading.close(desk, out)
            return
        trading.protect_again(desk, out)
        shrinks = desk.target * held >= ZERO and abs(desk.target) < abs(held)
        if shrinks and trading.lifecycle.trades:
            trading.route(desk, trading.view_now(desk), out)

    def rearm(self, now_ns: Nanos, out: list[Command]) -> None:
        """After a restart: the pauses that were running."""
        for name, desk in self._trading.desks.items():
            if desk.retry_at_ns:
                out.append(SetTimer(f"{RETRY_TIMER}{name}", max(now_ns, desk.retry_at_ns)))


def _level(order: Order | None) -> float | None:
    """Where a stop of ours was triggered."""
    stop = order is not None and order.approved.purpose is _PROTECTION
    return float(order.approved.trigger) if stop and order is not None and order.approved.trigger is not None else None
