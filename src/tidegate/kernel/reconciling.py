"""Ours made equal to the venue's: at the start, after every doubt, and all the time by audit.

1. A snapshot is asked for (``TakeSnapshot``); one that does not come is asked for again. Each has a number, and only
   newer ones count.
2. Its executions are booked by trade id, its income by line, its orders taken in, positions compared
   (``execution/reconcile``). A difference is read again after 250 ms, 500 ms and 1 s; one that stays the same three
   times becomes a single ``Adjustment``, its instrument takes no new risk, and a person is told.
3. What is there at the very first look and is not ours is adopted where the configuration says so; else it is foreign:
   never touched, counted against the limits, and its instrument is left alone.
4. Stops are put right; then doubts and a sweep look at the same snapshot.
5. When nothing is left to explain, the reconciliation has passed. One that cannot pass three times asks a person.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from tidegate.domain.account import AccountSnapshot, FundingPaid, Income, OpenOrder, Transfer
from tidegate.domain.ids import InstrumentId, Nanos, parse_client_order_id
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.market import SECOND_NS
from tidegate.domain.messages import (
    Alert,
    BookedUpTo,
    Command,
    HaltCause,
    SetTimer,
    Severity,
    TakeSnapshot,
)
from tidegate.domain.orders import FillCause, OrderAccepted, OrderState
from tidegate.execution.reconcile import Findings, Ours, reconcile
from tidegate.kernel.desk import Desk
from tidegate.kernel.differences import Differences, Foreign
from tidegate.kernel.halting import Halting
from tidegate.kernel.reports import Reports
from tidegate.kernel.resolving import Resolving, fence_of
from tidegate.kernel.sessions import OtherSessions, SessionsState
from tidegate.kernel.settings import KernelSettings
from tidegate.kernel.trading import Trading
from tidegate.portfolio.positions import QUOTE_ASSET

SNAPSHOT_TIMER, AGAIN_TIMER, AUDIT_TIMER = "snapshot", "reconcile", "audit"
RECONCILING = "reconciling"

MOST_ROUNDS = 10
MOST_ATTEMPTS = 3
UNANSWERED_ALARM = 3
_ROUND_WAITS_NS = (SECOND_NS // 4, SECOND_NS // 2, SECOND_NS)
_ATTEMPT_WAIT_NS = 5 * SECOND_NS
_STUCK_NS = 10 * SECOND_NS
_MOST_UNDER_WAY = 4
_ORPHANS_NS = 4 * SECOND_NS
_INCOME_OVERLAP_NS = 600 * SECOND_NS


@dataclass(slots=True)
class ReconcilingState:
    """What a snapshot keeps. ``number`` is that of the last request, ``answered`` of the newest answer."""

    number: int = 0
    answered: int = 0
    asked_ns: dict[int, Nanos] = field(default_factory=dict)
    full: dict[int, bool] = field(default_factory=dict)
    again: str = ""  # another snapshot is wanted when the one under way is there: its kind
    unanswered: int = 0
    waits_for_doubts: bool = False
    gave_up: bool = False
    goal: bool = False  # a passed reconciliation is being worked for
    rounds: int = 0
    attempts: int = 0
    booked_fills: int = 0
    recovered: int = 0
    last_full_ns: Nanos = 0
    last_reconciled_ns: Nanos = 0
    income_from_ns: Nanos = 0
    audit_at_ns: Nanos = 0
    exposed: bool = False
    verified: dict[InstrumentId, int] = field(default_factory=dict)
    foreign: list[Foreign] = field(default_factory=list)
    wallet_said: Decimal = ZERO
    sessions: SessionsState = field(default_factory=SessionsState)


class Reconciling:
    """Asks for snapshots and works them in. ``enabled`` where the venue is a real one."""

    def __init__(
        self,
        trading: Trading,
        reports: Reports,
        resolving: Resolving,
        halting: Halting,
        sessions: OtherSessions,
        settings: KernelSettings,
    ) -> None:
        self._trading, self._reports, self._resolving, self._halting = trading, reports, resolving, halting
        self._sessions = sessions
        self._settings, self._timing = settings, settings.reconcile
        self._differences = Differences(trading, settings.adopt)
        self.state = ReconcilingState()

    def dump(self) -> ReconcilingState:
        self.state.sessions = self._sessions.state
        return self.state

    def load(self, state: ReconcilingState) -> None:
        self.state = state
        self._sessions.state = state.sessions

    def restart(self) -> None:
        """Another process: what was asked for will not be answered to us."""
        state = self.state
        state.asked_ns, state.full, state.again, state.unanswered = {}, {}, "", 0

    # ---- asking -------------------------------------------------------------------------------------------------

    def begin(self, reason: str, out: list[Command]) -> None:
        """Work for a passed reconciliation; until then no new risk."""
        self._trading.lifecycle.hold(RECONCILING, reason)
        self.state.goal, self.state.rounds, self.state.attempts, self.state.gave_up = True, 0, 0, False
        if self.state.asked_ns.get(self.state.number) != self._trading.now_ns:
            self._emit(RECONCILING, reason, out, full=True)  # what is under way may have been asked of a dead stream

    def ask(self, kind: str, reason: str, out: list[Command], *, full: bool = True) -> int:
        """Ask for a snapshot that is read from now on; returns its number. One at a time is under way."""
        state = self.state
        if state.asked_ns:
            if state.asked_ns.get(state.number) == self._trading.now_ns and full <= state.full[state.number]:
                return state.number  # asked for by this very event
            state.again = kind if full or not state.again else state.again
            return state.number + 1
        return self._emit(kind, reason, out, full=full)

    def _emit(self, kind: str, reason: str, out: list[Command], *, full: bool) -> int:
        state, now_ns = self.state, self._trading.now_ns
        state.number += 1
        state.asked_ns[state.number], state.full[state.number] = now_ns, full
        for number in sorted(state.asked_ns)[:-_MOST_UNDER_WAY]:
            del state.asked_ns[number], state.full[number]
        since: tuple[BookedUpTo, ...] = ()
        if full:
            since = tuple(BookedUpTo(name, state.verified.get(name, -1)) for name in self._trading.desks)
            state.last_full_ns = now_ns
        income_ns = max(1, state.income_from_ns - _INCOME_OVERLAP_NS) if full and state.income_from_ns else 0
        name = "reconcile" if kind == RECONCILING else kind
        out.append(TakeSnapshot(f"{name}-{state.number}", since, income_ns, reason))
        out.append(SetTimer(SNAPSHOT_TIMER, now_ns + self._timing.timeout_ns * 2 ** min(state.unanswered, 3)))
        return state.number

    def on_unanswered(self, out: list[Command]) -> None:
        """The snapshot did not come: ask again."""
        state = self.state
        if not state.asked_ns:
            return
        self._differences.overdue(out)
        state.unanswered += 1
        if state.unanswered == UNANSWERED_ALARM:
            text = f"{UNANSWERED_ALARM} snapshots in a row were not answered; asking on"
            out.append(Alert(Severity.CRITICAL, RECONCILING, text, self._trading.now_ns))
        full = any(state.full.values()) or bool(state.again)
        kind = state.again or (RECONCILING if state.goal else "audit")
        state.again = ""
        self._emit(kind, "the one before was not answered", out, full=full)

    def on_again(self, out: list[Command]) -> None:
        """The time between two rounds is over."""
        self.ask(RECONCILING, "read again", out)

    def on_audit(self, out: list[Command]) -> None:
        """Time to look whether ours is still the venue's."""
        if not self.state.asked_ns:
            full = self._trading.now_ns - self.state.last_full_ns >= self._timing.full_ns
            self.ask("audit", "hourly" if full else "audit", out, full=full)
        self.wind(out)

    def wind(self, out: list[Command]) -> None:
        """Set the next audit: soon while anything is at stake."""
        busy = bool(self._trading.positions.open) or any(True for _ in self._trading.blotter)
        self._audit_in(self._timing.audit_busy_ns if busy else self._timing.audit_idle_ns, out)

    def _audit_in(self, wait_ns: Nanos, out: list[Command]) -> None:
        self.state.audit_at_ns = self._trading.now_ns + wait_ns
        out.append(SetTimer(AUDIT_TIMER, self.state.audit_at_ns))

    def _hurry(self, out: list[Command]) -> None:
        """The first order brings the audit nearer; when the last position is gone, soon no stop may be left."""
        state, trading = self.state, self._trading
        exposed = bool(trading.positions.open)
        if state.exposed and not exposed:
            self._audit_in(_ORPHANS_NS, out)
        elif state.audit_at_ns > trading.now_ns + self._timing.audit_busy_ns and any(True for _ in trading.blotter):
            self._audit_in(self._timing.audit_busy_ns, out)
        state.exposed = exposed

    def wanted(self, out: list[Command]) -> None:
        """Ask for what doubts, a sweep or a refused exit wish to see."""
        if self._timing.enabled:
            self._hurry(out)
        if self._halting.wants_snapshot:
            self._halting.snapshot_asked(self.ask("kill", "sweep", out))
        if self._resolving.wants_snapshot:
            self._resolving.snapshot_asked(self.ask("resolve", "is an order there", out))
        if self._reports.wants_snapshot:
            self._reports.wants_snapshot = False
            self.ask("audit", "a reducing order was refused", out)
        if self.state.waits_for_doubts and not self._resolving.holds_up():
            self.state.waits_for_doubts = False
            self.ask(RECONCILING, "every doubt is settled", out)

    # ---- an answer ----------------------------------------------------------------------------------------------

    def on_snapshot(self, snapshot: AccountSnapshot, out: list[Command]) -> None:
        """Take the venue's truth in. One that we did not ask for, or an older one than we have, says nothing."""
        state = self.state
        number = _number(snapshot.name)
        if number not in state.asked_ns:
            return
        asked_ns, full = state.asked_ns[number], state.full[number]
        state.asked_ns = {n: at for n, at in state.asked_ns.items() if n > number}
        state.full = {n: each for n, each in state.full.items() if n > number}
        state.answered, state.unanswered = number, 0
        if not self._trading.lifecycle.funded:
            self._fund(snapshot)
        self._work_in(number, snapshot, asked_ns, full=full, out=out)
        if state.again and not state.asked_ns:
            kind, state.again = state.again, ""
            self._emit(kind, "asked for meanwhile", out, full=True)

    def _fund(self, snapshot: AccountSnapshot) -> None:
        """The first look ever: the wallets are what they are, and all that was before is in them."""
        trading = self._trading
        trading.positions.fund({each.asset: each.wallet for each in snapshot.balances}, snapshot.wallets_ns)
        self.state.income_from_ns = snapshot.wallets_ns
        trading.lifecycle.funded = True
        trading.known_equity = None

    def _work_in(
        self,
        number: int,
        snapshot: AccountSnapshot,
        asked_ns: Nanos,
        *,
        full: bool,
        out: list[Command],
    ) -> None:
        trading = self._trading
        new = {name for name, desk in trading.desks.items() if not desk.seen_from_ns} if full else set()
        for name in new:
            trading.desks[name].seen_from_ns = snapshot.ts_ns
        self._pass_history_over(snapshot)
        for position in snapshot.positions:
            if position.entry_price > 0:  # any price is better than none: without one no order could leave
                trading.marks.last.setdefault(position.instrument, float(position.entry_price))
        found = reconcile(self._ours(asked_ns), snapshot)
        unexplained = self._book(found, snapshot, full=full, out=out)
        others = self._sessions.audited([each.id for each in found.unknown_ids], out)
        found.leave_alone(others)
        self._take_orders_in(found, snapshot, out)
        differing = self._differences.compare(found, asked_ns, new, out)
        if found.differences and len(differing) < len(found.differences):
            now_equal = reconcile(self._ours(asked_ns), snapshot)  # what was taken over may have stops already
            found.kept_stops += now_equal.kept_stops
            found.cancels += [each for each in now_equal.cancels if each not in found.cancels]
            found.leave_alone(others)
        if full and not differing:
            self._audit_wallet(snapshot, out)
        self.state.foreign = self._differences.foreign(found)
        self._differences.review_settings(found, snapshot, out)
        trading.blind = False
        if found.halt is not None:
            self._halting.halt(HaltCause.INVARIANT, found.halt, out)
        for kept in found.kept_stops:
            stop = kept.order
            trading.protection.adopt(
                stop.instrument, stop.id, kept.side, stop.qty - stop.filled, float(stop.trigger or ZERO)
            )
        out.extend(found.cancels)
        proved = self._resolving.on_snapshot(number, snapshot, differing, unexplained, out)
        self._halting.on_snapshot(number, snapshot, out)
        for order in proved:
            self._reports.never_placed(order, out)
        for name, desk in trading.desks.items():
            if name not in differing:
                trading.protect_again(desk, out)
                trading.reroute(desk, trading.last_price(desk), out)
        self._conclude(differing, out)

    def _ours(self, asked_ns: Nanos) -> Ours:
        trading = self._trading
        return Ours(
            trading.gate.account,
            self._sessions.newest_of_ours,
            asked_ns,
            {name: desk.holding.exact.qty for name, desk in trading.desks.items()},
            {name: desk.foreign_qty for name, desk in trading.desks.items() if desk.foreign_qty},
            list(trading.blotter),
            trading.blotter.find,
            trading.positions.is_booked,
            trading.protection.guard,
            self._settings.expected,
        )

    # ---- executions and income ----------------------------------------------------------------------------------

    def _pass_history_over(self, snapshot: AccountSnapshot) -> None:
        """Executions from before we first looked at a contract are in the wallet and in the position already, unless an
        order that we know had them."""
        for fill in snapshot.fills:
            desk = self._trading.desks.get(fill.instrument)
            if desk is not None and self._reports.is_history(desk, fill):
                self._trading.positions.pass_over(fill)

    def _book(self, found: Findings, snapshot: AccountSnapshot, *, full: bool, out: list[Command]) -> set[InstrumentId]:
        """Book what is missing; returns the instruments with an execution that no order of ours explains."""
        state, trading = self.state, self._trading
        unexplained = set()
        for fill in found.fills:
            if fill.instrument in trading.desks:
                named = trading.order_of(fill.id) is not None or parse_client_order_id(fill.id) is not None
                if not named and fill.cause is FillCause.ORDER:
                    unexplained.add(fill.instrument)
                self._reports.book_missing(fill, out)
                state.booked_fills += 1
        if full:  # all up to the newest of the list is booked now
            for name in trading.desks:
                state.verified.setdefault(name, -1)
            for fill in snapshot.fills:
                if fill.instrument in state.verified:
                    state.verified[fill.instrument] = max(state.verified[fill.instrument], fill.trade_id)
        for line in snapshot.income:
            self.book_income(line)
        return unexplained

    def book_income(self, line: FundingPaid | Transfer | Income) -> None:
        """Book a payment, once."""
        trading = self._trading
        match line:
            case FundingPaid():
                if trading.positions.book_funding(line) and trading.book is not None:
                    trading.book.funded(line.instrument, line.amount)
            case Transfer():
                trading.positions.book_transfer(line, trading.equity())
            case Income():
                trading.positions.book_income(line)
        trading.known_equity = None
        if line.line:
            self.state.income_from_ns = max(self.state.income_from_ns, line.ts_ns)

    def _audit_wallet(self, snapshot: AccountSnapshot, out: list[Command]) -> None:
        """The venue's wallet against the sum of all lines: a difference is told, never booked away."""
        there = sum((each.wallet for each in snapshot.balances if each.asset == QUOTE_ASSET), ZERO)
        difference = EXACT.subtract(there, self._trading.positions.wallet)
        if difference != self.state.wallet_said:
            self.state.wallet_said = difference
            text = f"the venue's wallet is {there:f} {QUOTE_ASSET}, {difference:+f} against our lines"
            severity = Severity.WARNING if difference else Severity.INFO
            out.append(Alert(severity, "wallet", text, self._trading.now_ns))

    # ---- orders -------------------------------------------------------------------------------------------------

    def _take_orders_in(self, found: Findings, snapshot: AccountSnapshot, out: list[Command]) -> None:
        trading = self._trading
        for each in found.recovered:
            order = trading.blotter.enter(trading.gate.recover(each, trading.now_ns), trading.now_ns)
            order.filled = each.filled
            trading.blotter.apply(_accepted(each, snapshot))
            self.state.recovered += 1
            text = f"{each.id} on {each.instrument} is ours by its name, and was forgotten"
            out.append(Alert(Severity.WARNING, "recovered", text, trading.now_ns))
        for each in found.accepted:
            out.extend(self._reports.on_report(_accepted(each, snapshot)))
        for each in found.risen:
            self._reports.risen(each.id, each.instrument, out)
        for order in found.missing:
            if order.state is not OrderState.IN_FLIGHT:
                out.append(order.query())
            elif trading.now_ns - order.entered_ns >= _STUCK_NS:
                order.conclude(OrderState.UNCERTAIN)
                self._resolving.doubt(order, fence_of(order), "no word of its request", out)

    def adopt(self, desk: Desk, out: list[Command]) -> bool:
        """Take over what is foreign in a contract, at the venue's entry price; False when there is nothing."""
        name = desk.instrument.id
        self.state.foreign = [each for each in self.state.foreign if each.order or each.instrument != name]
        return self._differences.adopt(desk, out)

    # ---- passed, again, or given up -----------------------------------------------------------------------------

    def _conclude(self, differing: set[InstrumentId], out: list[Command]) -> None:
        state, now_ns = self.state, self._trading.now_ns
        self._differences.overdue(out)
        if differing:
            self._next_round(out)
            return
        state.rounds = 0
        if not state.goal:
            state.last_reconciled_ns = now_ns
            return
        if self._resolving.holds_up():
            state.waits_for_doubts = True  # each asks for a snapshot of its own when it can be proved
            return
        state.goal, state.attempts, state.last_reconciled_ns = False, 0, now_ns
        self._trading.lifecycle.passed()
        self._sessions.passed()
        self._trading.lifecycle.release(RECONCILING)
        text = (
            f"{self._trading.lifecycle.state.value}: {state.booked_fills} fills booked, {state.recovered} orders "
            f"recovered, {len(state.foreign)} things that are not ours, {len(self._resolving.unresolved)} unresolved"
        )
        out.append(Alert(Severity.INFO, "reconciled", text, now_ns))
        state.booked_fills = state.recovered = 0
        for desk in self._trading.desks.values():
            self._trading.reroute(desk, self._trading.last_price(desk), out)
        self.wind(out)

    def _next_round(self, out: list[Command]) -> None:
        state, now_ns = self.state, self._trading.now_ns
        if state.gave_up:
            return
        state.rounds += 1
        wait_ns = _ROUND_WAITS_NS[min(state.rounds, len(_ROUND_WAITS_NS)) - 1]
        if state.rounds >= MOST_ROUNDS:
            state.rounds = 0
            state.attempts += 1
            wait_ns = _ATTEMPT_WAIT_NS
            if state.attempts >= MOST_ATTEMPTS:
                self._trading.lifecycle.hold(RECONCILING, "a reconciliation failed three times the same way")
                state.goal, state.gave_up = False, True
                text = "failed three times the same way: it is not tried again before RESUME"
                out.append(Alert(Severity.CRITICAL, RECONCILING, text, now_ns))
                return
        out.append(SetTimer(AGAIN_TIMER, now_ns + wait_ns))


def _accepted(order: OpenOrder, snapshot: AccountSnapshot) -> OrderAccepted:
    return OrderAccepted(order.id, order.instrument, order.venue_id, snapshot.ts_ns, snapshot.recv_ns)


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1
