"""The kernel: ``handle(event) -> commands``. It never awaits, logs, or reads a clock, a file or a random number.

The path of a closed bar, top to bottom:

1. observe: the bar's close is the last price (``marks``);
2. features: the folds of every strategy on this instrument advance (``feeders``);
3. wish: warm strategies decide; a changed wish is kept (``wishes``);
4. once per close, when every live instrument has its bar or the grace timer fired (``barrier``): the portfolio step
   (``trading``).

The path of an execution report is in ``reports``; what nobody knows is found out in ``resolving``; the venue's truth is
worked in by ``reconciling``; a latch falls, and a sweep runs, in ``halting``. They share the desks of ``trading``, and
what one of them wishes to be read from the venue is asked for at the end of the event, once.

``Decision`` commands are emitted when something changed, never twice the same. "Now" is the time at which the event
was known. Nothing to say is the shared empty tuple.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from tidegate.domain.account import AccountSnapshot, FundingPaid, Income, Transfer
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos, StrategyId
from tidegate.domain.instrument import Instrument
from tidegate.domain.ledger import EXACT, ZERO, Ledger
from tidegate.domain.market import (
    Bar,
    Depth,
    FeedGap,
    FeedState,
    FundingRate,
    InstrumentStatus,
    MarkPrice,
    Quote,
    Trade,
    TradingStatus,
)
from tidegate.domain.messages import (
    GRACE_TIMER,
    Alert,
    Command,
    Event,
    Halt,
    HaltCause,
    KernelSnapshot,
    ModelFitted,
    Operation,
    OperatorCommand,
    Severity,
    TimerFired,
    VenueState,
    VenueStatus,
)
from tidegate.domain.orders import (
    Order,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderNotFound,
    OrderRejected,
    OrderTriggered,
    OrderUncertain,
    Purpose,
)
from tidegate.domain.signals import Decision, Reason, Refusal, Signal
from tidegate.kernel.desk import STICKY
from tidegate.kernel.differences import Foreign
from tidegate.kernel.halting import KILL_TIMER, Halting
from tidegate.kernel.lifecycle import OPERATOR, State
from tidegate.kernel.reconciling import AGAIN_TIMER, AUDIT_TIMER, RECONCILING, SNAPSHOT_TIMER, Reconciling
from tidegate.kernel.reports import NOT_TRADING, REFUSED, RETRY_TIMER, UNPROTECTABLE, Reports
from tidegate.kernel.resolving import RESOLVE_TIMER, Resolving
from tidegate.kernel.sessions import OtherSessions
from tidegate.kernel.settings import KernelSettings, ReconcileSettings
from tidegate.kernel.snapshots import SNAPSHOT_VERSION, dump, load
from tidegate.kernel.trading import GUARD_TIMER, NOTHING, Trading
from tidegate.kernel.wishes import Feeder, StrategySpec
from tidegate.portfolio.positions import QUOTE_ASSET

__all__ = ["SNAPSHOT_VERSION", "Foreign", "Kernel", "KernelSettings", "ReconcileSettings"]

VENUE, STATUS = "venue", "status"
SILENCE_NS = 60_000_000_000
"""How long after its last "down" a venue that answers us may leave its "up" unsaid."""


class Kernel:
    """One account, one bar interval, any number of instruments and strategies."""

    def __init__(
        self,
        settings: KernelSettings,
        instruments: Mapping[InstrumentId, Instrument],
        strategies: Sequence[StrategySpec],
        feeder: Feeder,
    ) -> None:
        self._settings = settings
        self._live = settings.reconcile.enabled
        self._seq = 0
        self._down_ns: Nanos = 0
        self._trading = Trading(settings, instruments, strategies, feeder)
        self._lifecycle = self._trading.lifecycle
        self._halting = Halting(self._trading)
        self._trading.on_breach = lambda reason, out: self._halting.halt(HaltCause.DRAWDOWN, reason, out)
        self._resolving = Resolving(self._trading, settings.reconcile)
        self._sessions = OtherSessions(self._trading, settings.gen)
        self._reports = Reports(self._trading, self._resolving, self._halting, self._sessions)
        self._reconciling = Reconciling(
            self._trading, self._reports, self._resolving, self._halting, self._sessions, settings
        )
        self._on_bar = self._trading.on_bar

    # ---- the one door in ----------------------------------------------------------------------------------------

    def handle(self, event: Event) -> Sequence[Command]:
        """Take one event in and answer with commands, in the order in which they should be carried out."""
        self._seq += 1
        trading = self._trading
        if event.recv_ns > trading.now_ns:
            trading.now_ns = event.recv_ns
        if type(event) is Bar:
            answer = self._on_bar(event)
            return self._asking(answer) if answer and self._halting.wants_snapshot else answer
        match event:
            case OrderFilled():
                return self._asking(self._reports.on_fill(event))
            case (
                OrderAccepted()
                | OrderTriggered()
                | OrderAmended()
                | OrderRejected()
                | OrderCanceled()
                | OrderExpired()
                | OrderUncertain()
                | OrderNotFound()
            ):
                return self._asking(self._reports.on_report(event))
            case MarkPrice():
                trading.marks.observe_mark(event)
            case Quote():
                trading.marks.observe_quote(event)
                trading.known_equity = None
            case FundingRate():
                trading.marks.observe_funding(event)
            case FundingPaid() | Transfer() | Income():
                self._reconciling.book_income(event)
            case TimerFired():
                return self._asking(self._on_timer(event))
            case AccountSnapshot():
                return self._asking(self._on_snapshot(event))
            case OperatorCommand():
                return self._asking(self._on_operator(event))
            case InstrumentStatus():
                return self._on_status(event)
            case FeedGap():
                return (Alert(Severity.WARNING, "feed", f"{event.instrument or 'all'}: {event.detail}", event.ts_ns),)
            case FeedState():
                return self._on_feed_state(event)
            case VenueStatus():
                return self._asking(self._on_venue(event))
            case ModelFitted():
                return self._on_model(event)
            case Trade() | Depth():
                pass
        return NOTHING

    def _asking(self, answer: Sequence[Command]) -> Sequence[Command]:
        """The answer, and what the parts wish to be read from the venue."""
        if not (self._live or self._halting.wants_snapshot):
            return answer
        out = list(answer)
        self._reconciling.wanted(out)
        return out

    # ---- time ---------------------------------------------------------------------------------------------------

    def _on_timer(self, timer: TimerFired) -> Sequence[Command]:
        out: list[Command] = []
        kind, colon, name = timer.name.partition(":")
        desk = self._trading.desks.get(InstrumentId(name))
        match kind + colon:
            case str(kind) if kind == GRACE_TIMER:
                if self._trading.barrier.give_up():
                    self._trading.close_bars(out)
            case str(kind) if kind == SNAPSHOT_TIMER:
                self._reconciling.on_unanswered(out)
            case str(kind) if kind == AGAIN_TIMER:
                self._reconciling.on_again(out)
            case str(kind) if kind == AUDIT_TIMER and self._live:
                self._reconciling.on_audit(out)
            case str(kind) if kind == KILL_TIMER:
                self._halting.on_timer()
            case str(kind) if kind == RESOLVE_TIMER:
                self._resolving.on_timer(ClientOrderId(name), out)
            case str(kind) if kind == GUARD_TIMER and desk is not None:
                self._trading.on_guard_timer(desk, out)
            case str(kind) if kind == RETRY_TIMER and desk is not None:
                self._reports.on_retry_timer(desk, out)
        return out

    def _on_model(self, event: ModelFitted) -> Sequence[Command]:
        out: list[Command] = []
        if self._trading.book is not None:
            self._trading.book.fitted(event, out)
        return out

    # ---- the account --------------------------------------------------------------------------------------------

    def _on_snapshot(self, snapshot: AccountSnapshot) -> Sequence[Command]:
        """Where the venue is simulated the first one brings the wallet, and nothing may be there before us."""
        out: list[Command] = []
        if self._live or self._lifecycle.funded:
            self._reconciling.on_snapshot(snapshot, out)
            self._unsaid(out)
            return out
        if snapshot.positions or snapshot.open_orders:
            names = sorted(
                {each.instrument for each in snapshot.positions} | {each.instrument for each in snapshot.open_orders}
            )
            text = f"the account holds positions or orders that are not ours: {' '.join(names)}"
            self._halting.halt(HaltCause.INVARIANT, text, out)
            return out
        wallets = {each.asset: each.wallet for each in snapshot.balances if each.asset == QUOTE_ASSET}
        self._trading.positions.fund(wallets, 0)
        self._lifecycle.funded = True
        self._trading.known_equity = None
        return NOTHING

    def _unsaid(self, out: list[Command]) -> None:
        """A venue that answers is not down, even when nobody says that it is up."""
        silent = self._trading.now_ns - self._down_ns >= SILENCE_NS
        if VENUE in self._lifecycle.holds and silent and not self._reconciling.state.goal:
            text = "it answers, though nobody has said that it is up: trading on"
            out.append(Alert(Severity.WARNING, VENUE, text, self._trading.now_ns))
            self._venue_is(up=True)

    def _on_venue(self, event: VenueStatus) -> Sequence[Command]:
        """DOWN takes new risk away; UP brings it back after what happened in between was read."""
        out: list[Command] = []
        if event.state is VenueState.REFUSED:
            self._halting.halt(HaltCause.AUTH, f"the venue refuses us: {event.detail}", out)
            return out
        up = event.state is VenueState.UP
        if not up:
            self._down_ns = self._trading.now_ns
        if up != self._trading.venue_up:
            self._venue_is(up=up)
            severity = Severity.INFO if up else Severity.CRITICAL
            out.append(Alert(severity, VENUE, f"{event.state.value} {event.detail}", event.ts_ns))
        if self._live and self._lifecycle.started and (up or out):
            self._reconciling.begin(f"venue {event.state.value}: {event.detail}", out)
        return out

    def _venue_is(self, *, up: bool) -> None:
        self._trading.venue_up = up
        if up:
            self._lifecycle.release(VENUE)
        else:
            self._lifecycle.hold(VENUE, "down")

    # ---- the operator -------------------------------------------------------------------------------------------

    def _on_operator(self, event: OperatorCommand) -> Sequence[Command]:
        out: list[Command] = []
        match event.operation:
            case Operation.BOOT:
                self._lifecycle.boot()
                possible = True
            case Operation.START:
                possible = self._start(out)
            case Operation.KILL:
                possible = self._halting.halt(HaltCause.KILL, event.detail or "the kill switch", out)
            case Operation.RESET:
                possible = self._reset(out)
            case Operation.ADOPT:
                possible = self._adopt(InstrumentId(event.detail), out)
            case Operation.RESUME:
                possible = self._resume(out)
            case _:
                possible = self._lifecycle.operate(event.operation)
                if possible:
                    self._wind_down(event.operation, out)
        if not possible:
            text = f"{event.operation.value} is not possible in state {self._lifecycle.state.value}"
            out.append(Alert(Severity.WARNING, OPERATOR, text, event.ts_ns))
        return out

    def _start(self, out: list[Command]) -> bool:
        """Trade, after a reconciliation where the venue is a real one; the way in after a crash is the same one."""
        lifecycle = self._lifecycle
        if not self._live:
            if lifecycle.state is not State.STARTING or not lifecycle.funded:
                return False
            lifecycle.begin(reconciled=True)
            return True
        lifecycle.begin(reconciled=False)
        self._trading.blind, self._trading.venue_up = True, True
        lifecycle.release(VENUE)
        self._reconciling.restart()
        self._sessions.begin()
        for desk in self._trading.desks.values():
            desk.unblock(NOT_TRADING)
            self._reports.forgive(desk)
        self._resolving.resume(out)
        self._halting.resume(out)
        self._reports.rearm(self._trading.now_ns, out)
        self._trading.rearm(out)
        self._reconciling.begin("start", out)
        self._reconciling.wind(out)
        return True

    def _resume(self, out: list[Command]) -> bool:
        """A person has looked: what was held down by hand, or waits for a person, may come up again."""
        lifecycle = self._lifecycle
        eased = lifecycle.operate(Operation.RESUME)
        if lifecycle.state in (State.READY, State.REDUCE_ONLY):
            eased |= lifecycle.release(UNPROTECTABLE)
            eased |= self._sessions.resume()
            eased |= RECONCILING in lifecycle.holds
            for desk in self._trading.desks.values():
                eased |= self._reports.forgive(desk)
                for name in STICKY:
                    eased |= desk.unblock(name)
            self._resolving.forgive()
        if eased and self._live:
            self._reconciling.begin("RESUME", out)
        return eased

    def _reset(self, out: list[Command]) -> bool:
        """Lift the latch. Not while everything is still being closed, and not before the account was seen at all."""
        lifecycle = self._lifecycle
        if lifecycle.latch is None or not (self._live or lifecycle.funded) or not self._halting.lift():
            return False
        lifecycle.reset()
        if self._trading.brake is not None:
            self._trading.brake.reset()
        if self._live:
            self._reconciling.begin("RESET", out)
        else:
            lifecycle.passed()
        return True

    def _adopt(self, name: InstrumentId, out: list[Command]) -> bool:
        """Take over what is foreign in one instrument, or in all when none is named."""
        desks = [desk for each, desk in self._trading.desks.items() if name in (each, "")]
        foreign = [desk for desk in desks if desk.hands_off and not desk.delisted]
        for desk in foreign:
            self._reconciling.adopt(desk, out)
            self._trading.protect_again(desk, out)
        return bool(foreign)

    def _wind_down(self, operation: Operation, out: list[Command]) -> None:
        """PAUSE, STOP and FLATTEN call entries back; FLATTEN closes what is held."""
        trading = self._trading
        out.extend(trading.cancel_entries())
        if operation is not Operation.FLATTEN:
            return
        equity = trading.equity()
        for name, desk in trading.desks.items():
            desk.target, desk.aim = ZERO, 0.0
            if desk.holding.qty and not trading.blotter.working(name, Purpose.TARGET):
                view = trading.risk_view(desk, trading.last_price(desk), equity)
                trading.route(desk, view, out, Purpose.FLATTEN)
            elif desk.holding.qty:
                desk.reroute = True

    # ---- the market's state -------------------------------------------------------------------------------------

    def _on_status(self, event: InstrumentStatus) -> Sequence[Command]:
        desk = self._trading.desks.get(event.instrument)
        if desk is None or desk.delisted:
            return NOTHING
        if event.status is TradingStatus.HALTED:
            desk.block(STATUS, "the contract is halted")
            return NOTHING
        if event.status is TradingStatus.TRADING:
            desk.unblock(STATUS)
            self._reports.forgive(desk)
            return NOTHING
        desk.delisted = True
        desk.settle()
        desk.target, desk.aim = ZERO, 0.0
        refusal = Refusal(event.instrument, STATUS, Reason.NOT_TRADING, "the contract is not traded any more")
        out: list[Command] = [Decision(None, event.instrument, event.ts_ns, None, ZERO, "delisted", refusal)]
        if self._trading.barrier.leave(event.instrument):
            self._trading.close_bars(out)
        return out

    def _on_feed_state(self, event: FeedState) -> Sequence[Command]:
        """Stale data closes the entries of its instrument; exits are always allowed."""
        name = f"stale {event.family.value}"
        changed = False
        for instrument, desk in self._trading.desks.items():
            if event.instrument in (None, instrument):
                text = event.detail or f"no fresh {event.family.value} of {instrument}"
                changed |= desk.unblock(name) if event.fresh else desk.block(name, text)
        if not changed:
            return NOTHING
        text = f"{event.instrument or 'all'} {event.family.value} {'fresh again' if event.fresh else 'stale'}"
        severity = Severity.INFO if event.fresh else Severity.WARNING
        return (Alert(severity, "feed", f"{text} {event.detail}".strip(), event.ts_ns),)

    # ---- what a reader may ask -----------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the life cycle stands."""
        return self._lifecycle.state

    @property
    def latch(self) -> Halt | None:
        """The halt that a person has to lift, if one fell."""
        return self._lifecycle.latch

    @property
    def holds(self) -> Mapping[str, str]:
        """Why the whole book takes no new risk now, by name."""
        return self._lifecycle.holds

    @property
    def blocked(self) -> dict[InstrumentId, dict[str, str]]:
        """The instruments that take no new risk now, and why, by name."""
        found = {name: dict(desk.blocks) for name, desk in self._trading.desks.items()}
        for name, desk in self._trading.desks.items():
            if desk.refusal and self._trading.now_ns < desk.blocked_until_ns:
                found[name][REFUSED] = desk.refusal
        return {name: blocks for name, blocks in found.items() if blocks}

    @property
    def foreign(self) -> tuple[Foreign, ...]:
        """Positions and orders in our account that are not ours, as last seen."""
        return tuple(self._reconciling.state.foreign)

    @property
    def unresolved(self) -> tuple[ClientOrderId, ...]:
        """Orders of which nobody knows yet whether the market has them."""
        return self._resolving.unresolved

    @property
    def last_reconciled_ns(self) -> Nanos:
        """When our books were last seen to be the venue's; 0 before the first time."""
        return self._reconciling.state.last_reconciled_ns

    @property
    def sweeping(self) -> bool:
        """True while everything is being closed and the venue has not yet said flat."""
        return self._halting.sweeping

    @property
    def ledger(self) -> Ledger:
        """The exact books."""
        return self._trading.positions.ledger

    @property
    def equity_usdt(self) -> float:
        """Wallet and open results at the last prices."""
        return self._trading.equity()

    @property
    def unit_value(self) -> float:
        """Equity per unit: what performance is measured on, untouched by deposits and withdrawals."""
        return self._trading.positions.unit_value(self._trading.equity())

    def equity_at(self, marks: Mapping[InstrumentId, Decimal]) -> Decimal:
        """Equity to the last digit at given prices."""
        total = self._trading.positions.wallet
        for name, held in self._trading.positions.open:
            total = EXACT.add(total, held.exact.unrealised(marks[name]))
        return total

    @property
    def last_prices(self) -> Mapping[InstrumentId, float]:
        """The last price seen of each instrument."""
        return self._trading.marks.last

    @property
    def open_orders(self) -> list[Order]:
        """Orders that may still trade."""
        return list(self._trading.blotter)

    def protection_level(self, instrument: InstrumentId) -> float | None:
        """The price at which a position is protected now."""
        return self._trading.protection.level(instrument)

    def bars_known(self, instrument: InstrumentId) -> tuple[Nanos, int]:
        """The end of the last bar of an instrument (0 when there was none), and how many bars its features remember."""
        last_ns, needed = self._trading.wishes.bars_known(instrument, self._settings.interval_ns)
        book = self._trading.book
        return last_ns, needed if book is None else max(needed, book.memory_bars())

    def standing_wish(self, strategy: StrategyId, instrument: InstrumentId) -> Signal | None:
        """The wish of a strategy that counts now."""
        slot = self._trading.wishes.slot(strategy, instrument)
        return None if slot is None or slot.spent_side or slot.fault is not None else slot.wish

    @property
    def divides(self) -> bool:
        """True where the book is divided among strategies, in virtual ledgers."""
        return self._trading.book is not None

    def settle(self, now_ns: Nanos) -> Sequence[Command]:
        """A run is over: what the strategies have earned since their last line."""
        return () if self._trading.book is None else self._trading.book.settle(now_ns, self._trading.marks.last)

    # ---- snapshots ----------------------------------------------------------------------------------------------

    def snapshot(self) -> KernelSnapshot:
        """The whole state; a fresh kernel that loads it continues bit for bit."""
        parts = (self._trading, self._halting, self._resolving, self._reconciling)
        return dump(self._seq, self._down_ns, *parts)

    def load_account(self, snapshot: KernelSnapshot) -> None:
        """Continue the books, orders and doubts of a kernel with other strategies or contracts. Wishes begin anew.

        Positions of contracts that are not configured any more stay in the books, and are left alone.
        """
        parts = (self._trading, self._halting, self._resolving, self._reconciling)
        self._seq, self._down_ns = load(snapshot, *parts, whole=False)

    def load(self, snapshot: KernelSnapshot) -> None:
        """Continue from a snapshot of a kernel with the same configuration. Raises ``InvariantBroken``.

        Our orders are named anew from here on when the generation is another one.
        """
        parts = (self._trading, self._halting, self._resolving, self._reconciling)
        self._seq, self._down_ns = load(snapshot, *parts)
