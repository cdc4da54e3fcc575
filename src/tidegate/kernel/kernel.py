"""The kernel: ``handle(event) -> commands``. It never awaits, logs, or reads a clock, a file or a random number.

The path of a closed bar, top to bottom:

1. observe: the bar's close is the last price (``marks``);
2. features: the folds of every strategy on this instrument advance (``feeders``);
3. wish: warm strategies decide; a changed wish is kept (``wishes``);
4. once per close, when every live instrument has its bar or the grace timer fired (``barrier``), for each instrument:
   blend the standing wishes (``portfolio``), size (``risk/sizing``), leave it inside the no-trade band,
   review the target (``risk/gate``), route what is missing (``execution/router``), approve each order (``risk/gate``)
   and enter it in the blotter as in flight; then see that the protective stop fits (``execution/protection``).

The path of an execution report: the blotter moves the order on; a fill is booked once; protection is reviewed at once,
so that a position has its stop from the moment it is filled; a stop that fills spends the wishes it protected.

``Decision`` commands are emitted when something changed, never twice the same. "Now" is the time at which the event
was known. Nothing to say is the shared empty tuple.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from tidegate.domain.account import AccountSnapshot, FundingPaid, Transfer
from tidegate.domain.errors import InvariantBroken
from tidegate.domain.ids import InstrumentId, Nanos, StrategyId
from tidegate.domain.instrument import Instrument
from tidegate.domain.ledger import EXACT, Ledger
from tidegate.domain.margin import maintenance
from tidegate.domain.market import (
    MINUTE_NS,
    SECOND_NS,
    Bar,
    Depth,
    FeedGap,
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
    KernelSnapshot,
    ModelFitted,
    Operation,
    OperatorCommand,
    SetTimer,
    Severity,
    TimerFired,
    VenueState,
    VenueStatus,
)
from tidegate.domain.orders import (
    CancelOrder,
    FillCause,
    Order,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderIntent,
    OrderRejected,
    OrderReport,
    OrderTriggered,
    OrderUncertain,
    Purpose,
    QueryOrder,
)
from tidegate.domain.signals import Decision, Reason, Refusal, Signal, TargetWeight
from tidegate.execution.algos.immediate import Immediate
from tidegate.execution.blotter import Blotter
from tidegate.execution.protection import Guard, Protection, ProtectionSettings, closing
from tidegate.execution.router import Route, SmartOrderRouter
from tidegate.kernel.barrier import COMPLETE, FIRST, Barrier
from tidegate.kernel.lifecycle import Lifecycle, State
from tidegate.kernel.marks import Marks
from tidegate.kernel.wishes import Feeder, Slot, StrategyManager, StrategySpec
from tidegate.portfolio.construction import PortfolioSettings, blend, worth_trading
from tidegate.portfolio.positions import Booked, Holding, PositionManager
from tidegate.risk.gate import RiskGate, standard_rules
from tidegate.risk.sizing import PositionSizer, SizingSettings
from tidegate.risk.view import RiskLimits, RiskView
from tidegate.strategies.base import View

SNAPSHOT_VERSION = 1
NOTHING: tuple[Command, ...] = ()
QUOTE_ASSET = "USDT"
REJECTIONS_IN_A_ROW = 3
ZERO = Decimal(0)

# Members by plain names: looking one up on its class costs ten times as much, and these are asked all the time.
_PROTECTION, _ORDER = Purpose.PROTECTION, FillCause.ORDER


class KernelSettings(msgspec.Struct, frozen=True):
    """What the kernel is configured with. ``account`` and ``gen`` name our orders; ``interval_ns`` is the bar that
    strategies decide on; ``grace_ns`` is how long a close waits for missing bars."""

    interval_ns: Nanos
    account: str = "demo"
    gen: int = 0
    grace_ns: Nanos = 5 * SECOND_NS
    limits: RiskLimits = RiskLimits()
    sizing: SizingSettings = SizingSettings()
    portfolio: PortfolioSettings = PortfolioSettings()
    protection: ProtectionSettings = ProtectionSettings()


@dataclass(slots=True)
class _Desk:
    """One instrument: who trades it, what is held, what is aimed at, and what was last said about it."""

    instrument: Instrument
    holding: Holding
    slots: list[Slot]
    target: Decimal = ZERO
    aim: float = 0.0
    weight: TargetWeight | None = None
    said: tuple[Decimal, str, str] | None = None
    refused: tuple[Decimal, str, str] | None = None
    rejections: int = 0
    blocked_until_ns: Nanos = 0
    reroute: bool = False
    delisted: bool = False


@dataclass(slots=True)
class _DeskState:
    """What of a desk cannot be learned again."""

    target: Decimal
    aim: float
    said: tuple[Decimal, str, str] | None
    refused: tuple[Decimal, str, str] | None
    rejections: int
    blocked_until_ns: Nanos
    reroute: bool
    delisted: bool


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
        self._portfolio = settings.portfolio
        self._gross_leverage = settings.portfolio.gross_leverage
        self._protects = settings.protection.enabled
        self._interval_ns = settings.interval_ns
        self._marks = Marks()
        self._barrier = Barrier()
        self._lifecycle = Lifecycle()
        self._venue_up = True
        self._positions = PositionManager()
        self._wishes = StrategyManager(strategies, feeder, settings.interval_ns)
        self._sizer = PositionSizer(settings.sizing, settings.limits, settings.protection.disaster_stop_frac)
        self._gate = RiskGate(standard_rules(settings.limits), settings.account, settings.gen)
        self._blotter = Blotter()
        self._router = SmartOrderRouter(Immediate(), self._blotter)
        self._protection = Protection(settings.protection)
        self._now_ns: Nanos = 0
        self._seq = 0
        self._desks: dict[InstrumentId, _Desk] = {
            name: _Desk(instrument, self._positions.holding(name), self._wishes.slots.get(name, []))
            for name, instrument in instruments.items()
        }
        self._traded = [desk for desk in self._desks.values() if desk.slots]
        self._alone = len(self._desks) == 1
        self._known_equity: float | None = None

    # ---- the one door in ----------------------------------------------------------------------------------------

    def handle(self, event: Event) -> Sequence[Command]:
        """Take one event in and answer with commands, in the order in which they should be carried out."""
        self._seq += 1
        if event.recv_ns > self._now_ns:
            self._now_ns = event.recv_ns
        if type(event) is Bar:
            return self._on_bar(event)
        match event:
            case OrderFilled():
                return self._on_fill(event)
            case (
                OrderAccepted()
                | OrderTriggered()
                | OrderAmended()
                | OrderRejected()
                | OrderCanceled()
                | OrderExpired()
                | OrderUncertain()
            ):
                return self._on_report(event)
            case MarkPrice():
                self._marks.observe_mark(event)
            case Quote():
                self._marks.observe_quote(event)
                self._known_equity = None
            case FundingRate():
                self._marks.observe_funding(event)
            case FundingPaid():
                self._positions.book_funding(event)
                self._known_equity = None
            case TimerFired():
                return self._on_timer(event)
            case Transfer():
                self._positions.book_transfer(event.amount)
                self._known_equity = None
            case AccountSnapshot():
                return self._on_snapshot(event)
            case OperatorCommand():
                return self._on_operator(event)
            case InstrumentStatus():
                return self._on_status(event)
            case FeedGap():
                return (Alert(Severity.WARNING, "feed", f"{event.instrument or 'all'}: {event.detail}", event.ts_ns),)
            case VenueStatus():
                return self._on_venue(event)
            case Trade() | Depth() | ModelFitted():
                pass
        return NOTHING

    # ---- bars ---------------------------------------------------------------------------------------------------

    def _on_bar(self, bar: Bar) -> Sequence[Command]:
        instrument = bar.instrument
        self._marks.last[instrument] = bar.close
        self._known_equity = None
        desk = self._desks.get(instrument)
        if desk is None or bar.interval_ns != self._interval_ns or desk.delisted:
            return NOTHING
        out: list[Command] = []
        decide = self._wishes.decide
        for slot in desk.slots:
            if slot.feed.advance(bar) and decide(slot, self._view(desk, slot, bar)):
                self._changed_wish(desk, slot, bar, out)
        arrival = self._barrier.arrive(instrument, bar.ts_ns)
        if arrival is COMPLETE:
            self._portfolio_step(out)
        elif arrival is FIRST:
            out.append(SetTimer(GRACE_TIMER, bar.ts_ns + self._settings.grace_ns))
        return out

    def _view(self, desk: _Desk, slot: Slot, bar: Bar) -> View:
        """What the strategy may know besides its features."""
        held = desk.holding
        funding = self._marks.funding.get(bar.instrument)
        if held.qty == 0.0:
            return View(bar, 0.0, None, funding)
        equity = self._known_equity
        if equity is None:
            equity = self._equity()
        scale = equity * slot.budget * self._gross_leverage
        position = held.qty * bar.close / scale if scale > 0.0 else 0.0
        return View(bar, position, held.cost / held.qty, funding)

    def _changed_wish(self, desk: _Desk, slot: Slot, bar: Bar, out: list[Command]) -> None:
        desk.weight = None
        if slot.fault is not None:
            out.append(Alert(Severity.CRITICAL, f"strategy {slot.id}", f"switched off: {slot.fault}", bar.ts_ns))
            out.append(Decision(slot.id, bar.instrument, bar.ts_ns, Signal(0.0)))
        else:
            out.append(Decision(slot.id, bar.instrument, bar.ts_ns, slot.wish))

    # ---- the portfolio step -------------------------------------------------------------------------------------

    def _portfolio_step(self, out: list[Command]) -> None:
        """Once per close: blend, size, review and route every instrument, then look after its stop."""
        if not self._lifecycle.trades:
            return
        last = self._marks.last
        equity = self._known_equity
        if equity is None:
            equity = self._equity()
        alone = self._alone
        protects = self._protects
        flattening = self._lifecycle.flattening
        for desk in self._traded:
            if desk.delisted:
                continue
            weight = desk.weight
            if weight is None:
                weight = desk.weight = self._blend(desk)
            held = desk.holding.qty
            if weight.conviction == 0.0 and held == 0.0 and desk.aim == 0.0:
                continue
            price = last.get(desk.instrument.id, 0.0)
            notional, needed = (0.0, 0.0) if alone else self._others(desk)
            if flattening:
                qty, binding = 0.0, "flatten"
            else:
                qty, binding = self._sizer.size(weight, desk.instrument, price, equity, notional, needed)
            if qty != held or qty != desk.aim:
                self._consider(desk, weight, qty, binding, price, equity, out)
            if protects and held != 0.0:
                self._protect(desk, price, out)

    def _equity(self) -> float:
        """Equity at the last prices; computed once until a price, a fill or a payment changes it."""
        if self._known_equity is None:
            self._known_equity = self._positions.equity(self._marks.last)
        return self._known_equity

    def _blend(self, desk: _Desk) -> TargetWeight:
        return blend(desk.instrument.id, [slot.standing for slot in desk.slots], self._portfolio)

    def _consider(
        self,
        desk: _Desk,
        weight: TargetWeight,
        qty: float,
        binding: str,
        price: float,
        equity: float,
        out: list[Command],
    ) -> None:
        """Aim at a sized quantity unless it lies within the band of what is held, or is aimed at already."""
        held = desk.holding.qty
        changed_mind = desk.aim != held and (desk.aim * qty < 0.0 or (qty == 0.0) != (desk.aim == 0.0))
        if changed_mind or worth_trading(held, qty, self._portfolio):
            self._aim(desk, weight, qty, binding, self._risk_view(desk, price, equity), out)

    def _aim(
        self, desk: _Desk, weight: TargetWeight, qty: float, binding: str, view: RiskView, out: list[Command]
    ) -> None:
        """Make a sized quantity the target, as far as the rules allow it, and say so when it is news."""
        target, refusal = self._gate.review(self._sizer.on_grid(weight, qty, view), view)
        desk.target, desk.aim = target.qty, float(target.qty)
        said = (target.qty, binding, "" if refusal is None else refusal.reason.value)
        if said != desk.said:
            desk.said, desk.refused = said, None
            out.append(Decision(None, desk.instrument.id, self._now_ns, None, target.qty, binding, refusal))
        self._route(desk, view, out)

    def _route(self, desk: _Desk, view: RiskView, out: list[Command], purpose: Purpose = Purpose.TARGET) -> None:
        """Orders for what is missing between the target and what is held or under way."""
        route = self._router.route(
            desk.instrument, desk.target, desk.holding.exact.qty, view.price, self._now_ns, purpose
        )
        self._carry_out(desk, route, view, out)

    def _carry_out(self, desk: _Desk, route: Route, view: RiskView, out: list[Command]) -> None:
        if route.cancels:
            desk.reroute = True
            out.extend(route.cancels)
        for piece, intent in enumerate(route.intents):
            if piece:  # the pieces before this one are under way now
                view = self._risk_view(desk, view.price, view.equity)
            self._send(desk, intent, view, out)

    def _send(self, desk: _Desk, intent: OrderIntent, view: RiskView, out: list[Command]) -> Order | None:
        """Through the gate and into the blotter; a refusal is said once."""
        approved = self._gate.approve(intent, view)
        if isinstance(approved, Refusal):
            said = (desk.target, approved.rule, approved.reason.value)
            if said != desk.refused:
                desk.refused = said
                out.append(Decision(None, desk.instrument.id, self._now_ns, None, desk.target, approved.rule, approved))
            return None
        out.append(approved)
        return self._blotter.enter(approved)

    def _risk_view(self, desk: _Desk, price: float, equity: float) -> RiskView:
        """The account as the rules see it from one instrument."""
        notional, needed = (0.0, 0.0) if self._alone else self._others(desk)
        reducing = (
            self._lifecycle.reducing_only
            or not self._venue_up
            or self._now_ns < desk.blocked_until_ns
            or self._barrier.missing(desk.instrument.id)
        )
        return RiskView(
            desk.instrument,
            self._now_ns,
            price,
            equity,
            desk.holding.exact.qty,
            notional,
            needed,
            self._gate.recent_orders(self._now_ns),
            reducing,
            desk.holding.qty + float(self._blotter.working_qty(desk.instrument.id)),
        )

    def _others(self, desk: _Desk) -> tuple[float, float]:
        """Gross notional and maintenance margin of the other instruments, as held or as aimed at, the larger."""
        notional = needed = 0.0
        last = self._marks.last
        for name, other in self._desks.items():
            if other is desk:
                continue
            size = max(abs(other.holding.qty), abs(other.aim))
            if size:
                value = size * last.get(name, 0.0)
                notional += value
                needed += maintenance(other.instrument.brackets, value)
        return notional, needed

    # ---- protection ---------------------------------------------------------------------------------------------

    def _protect(self, desk: _Desk, price: float, out: list[Command]) -> None:
        """See that the position has the stop that it should have."""
        held = desk.holding
        if desk.weight is None:
            desk.weight = self._blend(desk)
        stop = desk.weight.stop if desk.weight.conviction * held.qty > 0.0 else None
        need = self._protection.review(desk.instrument, held.exact.qty, held.entry_price, stop, price)
        out.extend(need.cancels)
        view = self._risk_view(desk, price, self._equity())
        if need.place is not None:
            order = self._send(desk, need.place, view, out)
            if order is not None:
                self._protection.placed(desk.instrument.id, order.approved.id, order.qty)
        if need.flatten is not None:
            self._close(desk, need.flatten, view, out)

    def _close(self, desk: _Desk, intent: OrderIntent, view: RiskView, out: list[Command]) -> None:
        """Leave a position that cannot be protected, unless that is under way."""
        if self._blotter.working(desk.instrument.id, Purpose.FLATTEN):
            return
        self._spend(desk, 1 if desk.holding.qty > 0.0 else -1, out)
        self._carry_out(desk, Route(intents=tuple(self._router.pieces(desk.instrument, (intent,)))), view, out)

    def _spend(self, desk: _Desk, side: int, out: list[Command]) -> None:
        """The stop was hit: the wishes that it protected are spent, nothing is aimed at until a new one comes, and
        what is under way to the old aim is called back, for it would open a position anew."""
        name = desk.instrument.id
        self._wishes.spend(name, side)
        desk.weight = None
        if desk.aim != 0.0:
            working = self._blotter.working(name, Purpose.TARGET)
            out.extend(CancelOrder(order.approved.id, name) for order in working)
            desk.reroute = desk.reroute or bool(working)
        desk.target, desk.aim = ZERO, 0.0

    # ---- reports ------------------------------------------------------------------------------------------------

    def _on_fill(self, fill: OrderFilled) -> Sequence[Command]:
        desk = self._desk_of(fill.instrument)
        order = self._blotter.apply(fill)
        if not self._positions.book_fill(fill):
            return NOTHING
        self._known_equity = None
        out: list[Command] = []
        if order is None and fill.cause is _ORDER:
            out.append(Alert(Severity.WARNING, "fill", f"{fill.id}: a fill of an order that is not ours", fill.ts_ns))
        desk.rejections = 0
        self._marks.last.setdefault(fill.instrument, float(fill.price))
        protective = order is not None and order.approved.purpose is _PROTECTION
        if protective or fill.cause is not _ORDER:
            self._spend(desk, -fill.side.sign, out)
        if protective and order is not None:
            if order.open:
                return out
            self._protection.gone(fill.instrument, fill.id)
        if fill.cause is not _ORDER:
            out.append(
                Alert(Severity.CRITICAL, fill.cause.value, f"{fill.instrument} {fill.qty} at {fill.price}", fill.ts_ns)
            )
        self._protect_if_enabled(desk, float(fill.price), out)
        self._reroute(desk, float(fill.price), out)
        return out

    def _protect_if_enabled(self, desk: _Desk, price: float, out: list[Command]) -> None:
        if self._settings.protection.enabled and not desk.delisted:
            self._protect(desk, price, out)

    def _on_report(self, report: OrderReport) -> Sequence[Command]:
        order = self._blotter.apply(report)
        if order is None:
            if self._blotter.find(report.id) is not None:
                return NOTHING
            text = f"{report.id}: {type(report).__name__} of an order that is not ours"
            return (Alert(Severity.WARNING, "order", text, report.ts_ns),)
        out: list[Command] = []
        desk = self._desk_of(report.instrument)
        protective = order.approved.purpose is _PROTECTION
        match report:
            case OrderAccepted() if protective:
                out.extend(self._protection.confirmed(report.instrument, report.id))
            case OrderTriggered() if protective:
                self._protection.triggered(report.instrument, report.id)
            case OrderUncertain():
                out.append(QueryOrder(report.id, report.instrument))
            case OrderRejected():
                self._on_rejection(desk, order, report, out)
            case OrderCanceled() | OrderExpired():
                self._on_end(desk, order, out)
        return out

    def _on_rejection(self, desk: _Desk, order: Order, report: OrderRejected, out: list[Command]) -> None:
        """The venue said no. Three times in a row blocks new risk in the instrument for a minute."""
        out.append(
            Alert(Severity.WARNING, f"rejected {order.approved.id}", f"{report.code} {report.reason}", report.ts_ns)
        )
        desk.rejections += 1
        if desk.rejections >= REJECTIONS_IN_A_ROW:
            desk.blocked_until_ns = self._now_ns + MINUTE_NS
        if order.approved.purpose is not _PROTECTION:
            desk.target, desk.aim = desk.holding.exact.qty, desk.holding.qty
            return
        self._protection.gone(report.instrument, report.id)
        held = desk.holding
        if held.qty:
            view = self._risk_view(desk, self._marks.last.get(report.instrument, 0.0), self._equity())
            self._close(desk, closing(report.instrument, held.exact.qty), view, out)

    def _on_end(self, desk: _Desk, order: Order, out: list[Command]) -> None:
        """An order ended without filling: what it guarded or was leaving is guarded again, a target is routed again
        if we asked for it."""
        price = self._marks.last.get(desk.instrument.id, 0.0)
        purpose = order.approved.purpose
        bare = purpose is _PROTECTION and self._protection.gone(desk.instrument.id, order.approved.id)
        if desk.holding.qty and (bare or purpose is Purpose.FLATTEN):
            self._protect_if_enabled(desk, price, out)
        self._reroute(desk, price, out)

    def _reroute(self, desk: _Desk, price: float, out: list[Command]) -> None:
        """What had to be out of the way first is gone, cancelled or filled: route the target again."""
        if not desk.reroute or self._blotter.working(desk.instrument.id, Purpose.TARGET):
            return
        desk.reroute = False
        if self._lifecycle.trades:
            self._route(desk, self._risk_view(desk, price, self._equity()), out)

    # ---- everything else ----------------------------------------------------------------------------------------

    def _on_timer(self, timer: TimerFired) -> Sequence[Command]:
        out: list[Command] = []
        if timer.name == GRACE_TIMER and self._barrier.give_up():
            self._portfolio_step(out)
        return out

    def _on_snapshot(self, snapshot: AccountSnapshot) -> Sequence[Command]:
        """The first one brings the wallet; positions that are not ours cannot be taken over yet."""
        if self._lifecycle.funded:
            return NOTHING
        if snapshot.positions or snapshot.open_orders:
            self._lifecycle.halt()
            names = sorted(
                {each.instrument for each in snapshot.positions} | {each.instrument for each in snapshot.open_orders}
            )
            return (
                Halt(f"the account holds positions or orders that are not ours: {' '.join(names)}", snapshot.ts_ns),
            )
        for balance in snapshot.balances:
            if balance.asset == QUOTE_ASSET:
                self._positions.book_transfer(balance.wallet)
        self._lifecycle.funded = True
        self._known_equity = None
        return NOTHING

    def _on_operator(self, event: OperatorCommand) -> Sequence[Command]:
        if not self._lifecycle.operate(event.operation):
            text = f"{event.operation.value} is not possible in state {self._lifecycle.state.value}"
            return (Alert(Severity.WARNING, "operator", text, event.ts_ns),)
        out: list[Command] = []
        if event.operation in (Operation.PAUSE, Operation.STOP, Operation.FLATTEN):
            out.extend(self._cancel_entries())
        if event.operation is Operation.FLATTEN:
            equity = self._equity()
            for name, desk in self._desks.items():
                desk.target, desk.aim = ZERO, 0.0
                if desk.holding.qty and not self._blotter.working(name, Purpose.TARGET):
                    view = self._risk_view(desk, self._marks.last.get(name, 0.0), equity)
                    self._route(desk, view, out, Purpose.FLATTEN)
                elif desk.holding.qty:
                    desk.reroute = True
        return out

    def _cancel_entries(self) -> list[Command]:
        """Cancel every order that is working toward a target; protective stops stay."""
        return [
            CancelOrder(order.approved.id, order.approved.instrument)
            for order in self._blotter
            if order.approved.purpose is Purpose.TARGET
        ]

    def _on_status(self, event: InstrumentStatus) -> Sequence[Command]:
        desk = self._desks.get(event.instrument)
        if desk is None or desk.delisted or event.status is not TradingStatus.DELISTED:
            return NOTHING
        desk.delisted = True
        desk.target, desk.aim = ZERO, 0.0
        refusal = Refusal(event.instrument, "status", Reason.NOT_TRADING, "the contract is not traded any more")
        out: list[Command] = [Decision(None, event.instrument, event.ts_ns, None, ZERO, "delisted", refusal)]
        if self._barrier.leave(event.instrument):
            self._portfolio_step(out)
        return out

    def _on_venue(self, event: VenueStatus) -> Sequence[Command]:
        up = event.state is VenueState.UP
        if up == self._venue_up:
            return NOTHING
        self._venue_up = up
        severity = Severity.INFO if up else Severity.CRITICAL
        return (Alert(severity, "venue", f"{event.state.value} {event.detail}", event.ts_ns),)

    def _desk_of(self, instrument: InstrumentId) -> _Desk:
        desk = self._desks.get(instrument)
        if desk is None:
            raise InvariantBroken(f"a report for {instrument}, which is not configured")
        return desk

    # ---- what a reader may ask -----------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the life cycle stands."""
        return self._lifecycle.state

    @property
    def ledger(self) -> Ledger:
        """The exact books."""
        return self._positions.ledger

    @property
    def equity_usdt(self) -> float:
        """Wallet and open results at the last prices."""
        return self._equity()

    def equity_at(self, marks: Mapping[InstrumentId, Decimal]) -> Decimal:
        """Equity to the last digit at given prices."""
        total = self._positions.wallet
        for name, held in self._positions.open:
            total = EXACT.add(total, held.exact.unrealised(marks[name]))
        return total

    @property
    def last_prices(self) -> Mapping[InstrumentId, float]:
        """The last price seen of each instrument."""
        return self._marks.last

    @property
    def open_orders(self) -> list[Order]:
        """Orders that may still trade."""
        return list(self._blotter)

    def protection_level(self, instrument: InstrumentId) -> float | None:
        """The price at which a position is protected now."""
        return self._protection.level(instrument)

    def standing_wish(self, strategy: StrategyId, instrument: InstrumentId) -> Signal | None:
        """The wish of a strategy that counts now."""
        slot = self._wishes.slot(strategy, instrument)
        return None if slot is None or slot.spent_side or slot.fault is not None else slot.wish

    # ---- snapshots ----------------------------------------------------------------------------------------------

    def snapshot(self) -> KernelSnapshot:
        """The whole state; a fresh kernel that loads it continues bit for bit."""
        state = {
            "now_ns": self._now_ns,
            "seq": self._seq,
            "venue_up": self._venue_up,
            "state": self._lifecycle.state,
            "funded": self._lifecycle.funded,
            "flattening": self._lifecycle.flattening,
            "marks": self._marks.dump(),
            "barrier": self._barrier.dump(),
            "positions": self._positions.dump(),
            "wishes": self._wishes.dump(),
            "gate": self._gate.dump(),
            "blotter": self._blotter.dump(),
            "router": self._router.dump(),
            "protection": self._protection.dump(),
            "desks": {
                name: _DeskState(
                    desk.target,
                    desk.aim,
                    desk.said,
                    desk.refused,
                    desk.rejections,
                    desk.blocked_until_ns,
                    desk.reroute,
                    desk.delisted,
                )
                for name, desk in self._desks.items()
            },
        }
        return KernelSnapshot(SNAPSHOT_VERSION, self._seq, msgspec.msgpack.encode(state))

    def load(self, snapshot: KernelSnapshot) -> None:
        """Continue from a snapshot of a kernel with the same configuration. Raises ``InvariantBroken``."""
        if snapshot.version != SNAPSHOT_VERSION:
            raise InvariantBroken(f"snapshot of version {snapshot.version}; this program reads {SNAPSHOT_VERSION}")
        try:
            state = msgspec.msgpack.decode(snapshot.data, type=_State)
        except msgspec.MsgspecError as error:
            raise InvariantBroken(f"the snapshot cannot be read: {error}") from error
        self._now_ns, self._seq, self._venue_up = state.now_ns, state.seq, state.venue_up
        self._lifecycle.enter(state.state)
        self._lifecycle.funded, self._lifecycle.flattening = state.funded, state.flattening
        self._marks.load(**state.marks)
        self._known_equity = None
        barrier = state.barrier
        self._barrier.load(barrier.close_ns, barrier.seen, barrier.arrived, barrier.done)
        self._positions.load(state.positions.ledger, state.positions.booked)
        self._gate.load(state.gate.sequence, state.gate.recent)
        self._blotter.load(state.blotter)
        self._router.load(state.router)
        self._protection.load(state.protection)
        for each in state.wishes:
            slot = self._wishes.slot(each.id, each.instrument)
            if slot is None:
                raise InvariantBroken(f"the snapshot has a strategy {each.id} on {each.instrument}, we have none")
            slot.feed.load(each.feed)
            slot.wish, slot.spent_side, slot.fault = each.wish, each.spent_side, each.fault
            slot.restate()
        if len(state.wishes) != sum(map(len, self._wishes.slots.values())) or state.desks.keys() != self._desks.keys():
            raise InvariantBroken("the snapshot is of other strategies or instruments than are configured")
        for name, kept in state.desks.items():
            desk = self._desks[name]
            desk.holding, desk.weight = self._positions.holding(name), None
            desk.target, desk.aim, desk.said, desk.refused = kept.target, kept.aim, kept.said, kept.refused
            desk.rejections, desk.blocked_until_ns = kept.rejections, kept.blocked_until_ns
            desk.reroute, desk.delisted = kept.reroute, kept.delisted


class _BarrierState(msgspec.Struct):
    close_ns: Nanos
    seen: dict[InstrumentId, Nanos]
    arrived: int
    done: bool


class _PositionsState(msgspec.Struct):
    ledger: Ledger
    booked: dict[InstrumentId, Booked]


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


class _State(msgspec.Struct):
    now_ns: Nanos
    seq: int
    venue_up: bool
    state: State
    funded: bool
    flattening: bool
    marks: dict[str, dict[InstrumentId, float]]
    barrier: _BarrierState
    positions: _PositionsState
    wishes: list[_SlotState]
    gate: _GateState
    blotter: list[Order]
    router: int
    protection: dict[InstrumentId, Guard]
    desks: dict[InstrumentId, _DeskState]
