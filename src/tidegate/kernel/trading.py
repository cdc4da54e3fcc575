"""From bars to orders, and the few acts that everything else is made of: send, route, protect, close, spend.

The portfolio step, once per close and for each instrument: blend the standing wishes (``portfolio``), size
(``risk/sizing``), leave it inside the no-trade band, review the target (``risk/gate``), route what is missing
(``execution/router``), approve each order (``risk/gate``) and enter it in the blotter as in flight; then see that the
protective stop fits (``execution/protection``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.ledger import ZERO
from tidegate.domain.margin import maintenance
from tidegate.domain.market import DAY_NS, Bar
from tidegate.domain.messages import GRACE_TIMER, Alert, Command, SetTimer, Severity
from tidegate.domain.orders import Order, OrderIntent, OrderState, Purpose
from tidegate.domain.signals import Decision, Refusal, Signal, TargetWeight
from tidegate.execution.algos.immediate import Immediate
from tidegate.execution.blotter import Blotter
from tidegate.execution.protection import Protection, closing
from tidegate.execution.router import Route, SmartOrderRouter
from tidegate.kernel.barrier import COMPLETE, FIRST, Barrier
from tidegate.kernel.desk import Desk
from tidegate.kernel.lifecycle import Lifecycle, State
from tidegate.kernel.marks import Marks
from tidegate.kernel.settings import KernelSettings
from tidegate.kernel.wishes import Feeder, Section, Slot, StrategyManager, StrategySpec
from tidegate.portfolio.construction import blend, nearest_stop, worth_trading
from tidegate.portfolio.positions import PositionManager
from tidegate.risk.brake import DrawdownBrake
from tidegate.risk.gate import RiskGate, standard_rules
from tidegate.risk.sizing import PositionSizer
from tidegate.risk.view import RiskView
from tidegate.strategies.base import View

if TYPE_CHECKING:
    from tidegate.kernel.book import Book

NOTHING: tuple[Command, ...] = ()
GUARD_TIMER = "guard:"
STOP_PASSED = "stop_passed"


class Trading:
    """The desks and the parts that they work with. ``now_ns`` is set by the kernel before each event.

    ``blind`` while the venue's truth is not known yet, ``sweeping`` while everything is being closed: no stop is placed
    then. ``live`` where the venue is a real one.
    """

    def __init__(
        self,
        settings: KernelSettings,
        instruments: Mapping[InstrumentId, Instrument],
        strategies: Sequence[StrategySpec],
        feeder: Feeder,
    ) -> None:
        self.settings = settings
        self.live = settings.reconcile.enabled
        self._portfolio = settings.portfolio
        self._gross_leverage = settings.portfolio.gross_leverage
        self._protects = settings.protection.enabled
        self._interval_ns = settings.interval_ns
        self.now_ns: Nanos = 0
        self.venue_up = True
        self.blind = False
        self.sweeping = False
        self.marks = Marks()
        self.barrier = Barrier()
        self.lifecycle = Lifecycle()
        self.positions = PositionManager()
        self.wishes = StrategyManager(strategies, feeder, settings.interval_ns)
        self._sizer = PositionSizer(settings.sizing, settings.limits, settings.protection.disaster_stop_frac)
        self.gate = RiskGate(standard_rules(settings.limits), settings.account, settings.gen)
        self.blotter = Blotter()
        self.router = SmartOrderRouter(Immediate(), self.blotter)
        self.protection = Protection(settings.protection)
        self.desks: dict[InstrumentId, Desk] = {
            name: Desk(
                instrument=instrument,
                holding=self.positions.holding(name),
                slots=self.wishes.slots.get(name, []),
            )
            for name, instrument in instruments.items()
        }
        self._traded = [desk for desk in self.desks.values() if desk.slots]
        self.foreign_counted = (0.0, 0.0)
        self._alone = len(self.desks) == 1
        self.known_equity: float | None = None
        self.regime: tuple[float, ...] = ()
        self.brake = None if settings.brake is None else DrawdownBrake(settings.limits, settings.brake)
        self.on_breach: Callable[[str, list[Command]], object] = lambda _, __: None
        self.book: Book | None = None
        if settings.weighing is not None or len(strategies) > 1:
            from tidegate.kernel import book  # its models are heavy, and a lone strategy needs none of them

            self.book = book.Book(settings, instruments, strategies, self.wishes)

    # ---- bars ---------------------------------------------------------------------------------------------------

    def on_bar(self, bar: Bar) -> Sequence[Command]:
        """A bar has closed."""
        instrument = bar.instrument
        self.marks.last[instrument] = bar.close
        self.known_equity = None
        desk = self.desks.get(instrument)
        if desk is None or bar.interval_ns != self._interval_ns or desk.delisted:
            return NOTHING
        out: list[Command] = []
        if self.book is not None:
            self.book.traded(instrument, bar.volume * bar.close)
        decide = self.wishes.decide
        for slot in desk.slots:
            if not slot.feed.advance(bar):
                continue
            if slot.across:
                slot.bar = bar
            elif decide(slot, self._view(desk, slot, bar)):
                self._changed_wish(desk, slot, bar.ts_ns, out)
        arrival = self.barrier.arrive(instrument, bar.ts_ns)
        if arrival is COMPLETE:
            self.close_bars(out)
        elif arrival is FIRST:
            out.append(SetTimer(GRACE_TIMER, bar.ts_ns + self.settings.grace_ns))
        return out

    def _view(self, desk: Desk, slot: Slot, bar: Bar, *, stale: bool = False) -> View:
        """What the strategy may know besides its features."""
        held = desk.holding
        funding = self.marks.funding.get(bar.instrument)
        funding_ns = self.marks.funding_ns.get(bar.instrument, 0)
        own = held.qty if self.book is None else self.book.own(slot.id, bar.instrument)
        entry = held.cost / held.qty if held.qty else None
        if own == 0.0:
            return View(bar, 0.0, entry, funding, funding_ns, self.regime, stale)
        equity = self.known_equity
        if equity is None:
            equity = self.equity()
        scale = equity * slot.budget * self._gross_leverage
        position = own * bar.close / scale if scale > 0.0 else 0.0
        return View(bar, position, entry, funding, funding_ns, self.regime, stale)

    def _changed_wish(self, desk: Desk, slot: Slot, ts_ns: Nanos, out: list[Command]) -> None:
        desk.weight = None
        if slot.fault is not None:
            out.append(Alert(Severity.CRITICAL, f"strategy {slot.id}", f"switched off: {slot.fault}", ts_ns))
            out.append(Decision(slot.id, slot.instrument, ts_ns, Signal(0.0)))
        else:
            out.append(Decision(slot.id, slot.instrument, ts_ns, slot.wish))

    # ---- the close ----------------------------------------------------------------------------------------------

    def close_bars(self, out: list[Command]) -> None:
        """Every live instrument has closed the bar, or is not waited for any more: what looks at all of them, then the
        portfolio step."""
        close_ns, book = self.barrier.close_ns, self.book
        if book is not None:
            closed = {name: self.marks.last[name] for name in self.barrier.closed()}
            if book.close(close_ns, closed, out):
                for desk in self._traded:
                    desk.weight = None
            self.regime = book.probabilities
        for section in self.wishes.sections:
            self._decide_section(section, close_ns, out)
        if self.brake is not None and self.lifecycle.trades:
            self._brake(self.brake, close_ns, out)
        if book is not None and close_ns % DAY_NS == 0:
            book.day(close_ns, self.marks.last, self.positions, self.equity(), self.brake, out)
        self.portfolio_step(out)

    def _decide_section(self, section: Section, close_ns: Nanos, out: list[Command]) -> None:
        views = {
            name: self._view(self.desks[name], slot, slot.bar, stale=slot.bar.ts_ns < close_ns)
            for name, slot in section.slots.items()
            if slot.bar is not None and not self.desks[name].delisted
        }
        for slot in self.wishes.decide_section(section, views):
            self._changed_wish(self.desks[slot.instrument], slot, close_ns, out)

    def _brake(self, brake: DrawdownBrake, close_ns: Nanos, out: list[Command]) -> None:
        """See what the book has lost; at the limit everything is closed, until a person has looked."""
        before = brake.state.reason
        units = self.positions.units
        if not units > 0.0:
            return
        state = brake.observe(close_ns, self.equity() / units)
        if state.reason and state.reason != before:
            out.append(Alert(Severity.WARNING, "risk", state.reason, self.now_ns))
        if state.latched and self.lifecycle.latch is None:
            self.on_breach(f"{state.reason} (drawdown {state.drawdown_frac:.2%})", out)

    # ---- the portfolio step -------------------------------------------------------------------------------------

    def portfolio_step(self, out: list[Command]) -> None:
        """Once per close: blend, size, review and route every instrument, then look after its stop."""
        if not self.lifecycle.trades:
            return
        last = self.marks.last
        equity = self.known_equity
        if equity is None:
            equity = self.equity()
        alone = self._alone
        protects = self._protects
        flattening = self.lifecycle.flattening
        book, exposure = self.book, 1.0 if self.brake is None else self.brake.state.exposure_multiplier
        weighs = book is not None and book.weighing is not None
        if weighs and book is not None:
            book.weigh(self._traded, last, equity, exposure, self.barrier.close_ns, out)
        for desk in self._traded:
            if desk.hands_off:
                self.protect_again(desk, out)
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
                qty, binding = self._sizer.size(weight, desk.instrument, price, equity, notional, needed, desk.inputs)
                if exposure < 1.0 and not weighs:
                    qty, binding = qty * exposure, "drawdown"
            if qty != held or qty != desk.aim:
                self._consider(desk, weight, qty, binding, price, equity, out)
            if book is not None:
                book.divide(desk, price)
            if protects and held != 0.0:
                self.protect(desk, price, out)

    def equity(self) -> float:
        """Equity at the last prices; computed once until a price, a fill or a payment changes it."""
        if self.known_equity is None:
            self.known_equity = self.positions.equity(self.marks.last)
        return self.known_equity

    def _blend(self, desk: Desk) -> TargetWeight:
        return blend(desk.instrument.id, [slot.standing for slot in desk.slots], self._portfolio)

    def _consider(
        self,
        desk: Desk,
        weight: TargetWeight,
        qty: float,
        binding: str,
        price: float,
        equity: float,
        out: list[Command],
    ) -> None:
        """Aim at a sized quantity unless it lies within the band of what is held, or is aimed at already."""
        held = desk.holding.qty
        unsaid = False
        if weight.stop is not None and (price - weight.stop) * qty <= 0.0 and (qty - held) * qty > 0.0:
            qty, binding = (held if held * qty > 0.0 else 0.0), STOP_PASSED  # it would be left at once
            unsaid = held == 0.0 and (desk.said is None or desk.said[1] != STOP_PASSED)
        changed_mind = desk.aim != held and (desk.aim * qty < 0.0 or (qty == 0.0) != (desk.aim == 0.0))
        if changed_mind or unsaid or worth_trading(held, qty, self._portfolio):
            self._aim(desk, weight, qty, binding, self.risk_view(desk, price, equity), out)

    def _aim(
        self, desk: Desk, weight: TargetWeight, qty: float, binding: str, view: RiskView, out: list[Command]
    ) -> None:
        """Make a sized quantity the target, as far as the rules allow it, and say so when it is news."""
        target, refusal = self.gate.review(self._sizer.on_grid(weight, qty, view), view)
        desk.target, desk.aim = target.qty, float(target.qty)
        desk.clock_retried = False
        said = (target.qty, binding, "" if refusal is None else refusal.reason.value)
        if said != desk.said:
            desk.said, desk.refused = said, None
            out.append(Decision(None, desk.instrument.id, self.now_ns, None, target.qty, binding, refusal))
        self.route(desk, view, out)

    # ---- the acts -----------------------------------------------------------------------------------------------

    def route(self, desk: Desk, view: RiskView, out: list[Command], purpose: Purpose = Purpose.TARGET) -> None:
        """Orders for what is missing between the target and what is held or under way."""
        route = self.router.route(
            desk.instrument, desk.target, desk.holding.exact.qty, view.price, self.now_ns, purpose
        )
        self._carry_out(desk, route, view, out)

    def _carry_out(self, desk: Desk, route: Route, view: RiskView, out: list[Command]) -> None:
        if route.cancels:
            desk.reroute = True
            out.extend(route.cancels)
        for piece, intent in enumerate(route.intents):
            if piece:  # the pieces before this one are under way now
                view = self.risk_view(desk, view.price, view.equity)
            self.send(desk, intent, view, out)

    def send(self, desk: Desk, intent: OrderIntent, view: RiskView, out: list[Command]) -> Order | None:
        """Through the gate and into the blotter; a refusal is said once."""
        approved = self.gate.approve(intent, view)
        if isinstance(approved, Refusal):
            said = (desk.target, approved.rule, approved.reason.value)
            if said != desk.refused:
                desk.refused = said
                out.append(Decision(None, desk.instrument.id, self.now_ns, None, desk.target, approved.rule, approved))
            return None
        out.append(approved)
        return self.blotter.enter(approved, self.now_ns)

    def view_now(self, desk: Desk) -> RiskView:
        """The account as the rules see it from one instrument, at the last price."""
        return self.risk_view(desk, self.last_price(desk), self.equity())

    def last_price(self, desk: Desk) -> float:
        """The last price seen; 0 when none was."""
        return self.marks.last.get(desk.instrument.id, 0.0)

    def risk_view(self, desk: Desk, price: float, equity: float) -> RiskView:
        """The account as the rules see it from one instrument."""
        notional, needed = (0.0, 0.0) if self._alone else self._others(desk)
        reducing = (
            self.lifecycle.reducing_only
            or not self.venue_up
            or bool(desk.blocks)
            or self.now_ns < desk.blocked_until_ns
            or self.barrier.missing(desk.instrument.id)
        )
        return RiskView(
            desk.instrument,
            self.now_ns,
            price,
            equity,
            desk.holding.exact.qty,
            notional,
            needed,
            self.gate.recent_orders(self.now_ns),
            reducing,
            desk.holding.qty + float(self.blotter.working_qty(desk.instrument.id)),
            self.brake is not None and self.brake.state.no_new_risk,
            "" if self.brake is None else self.brake.state.reason,
            *desk.risk,
        )

    def _others(self, desk: Desk) -> tuple[float, float]:
        """Gross notional and maintenance margin of the other instruments, as held or as aimed at, the larger; and of
        what the account holds besides ours."""
        notional, needed = self.foreign_counted
        last = self.marks.last
        for name, other in self.desks.items():
            if other is desk:
                continue
            size = max(abs(other.holding.qty), abs(other.aim))
            if size:
                value = size * last.get(name, 0.0)
                notional += value
                needed += maintenance(other.instrument.brackets, value)
        return notional, needed

    def count_foreign(self, notional: float, needed: float) -> None:
        """Notional and maintenance margin, in USDT, of positions in our account that are not ours."""
        self.foreign_counted = (notional, needed)
        self._alone = len(self.desks) == 1 and not notional

    # ---- protection ---------------------------------------------------------------------------------------------

    def protect(self, desk: Desk, price: float, out: list[Command]) -> None:
        """See that the position has the stop that it should have."""
        if self.blind or self.sweeping:
            return
        held = desk.holding
        if desk.weight is None:
            desk.weight = self._blend(desk)
        shared = len(desk.slots) > 1
        if shared:
            stop = nearest_stop([(slot.standing.strength, slot.trail) for slot in desk.slots], held.qty)
        else:
            stop = desk.weight.stop if desk.weight.conviction * held.qty > 0.0 else None
        need = self.protection.review(desk.instrument, held.exact.qty, held.entry_price, stop, price, trailed=shared)
        out.extend(need.cancels)
        if need.place is not None:
            self._place(desk, need.place, price, out)
        if need.flatten is not None:
            self.close(desk, out, need.flatten)
        if self.live:
            self.watch(desk, out)

    def _place(self, desk: Desk, stop: OrderIntent, price: float, out: list[Command]) -> None:
        name = desk.instrument.id
        if self.now_ns < desk.stop_barred_until_ns and self.protection.covers(name, desk.holding.exact.qty):
            return  # the venue refused a better one, and the old one still covers
        before = desk.refused
        order = self.send(desk, stop, self.risk_view(desk, price, self.equity()), out)
        if order is not None:
            self.protection.placed(name, order.approved.id, order.qty)
        elif desk.refused != before:
            text = f"{name} {desk.holding.exact.qty}: our own gate refuses its stop of {stop.qty} at {stop.trigger}"
            out.append(Alert(Severity.CRITICAL, "unprotected", text, self.now_ns))

    def protect_again(self, desk: Desk, out: list[Command]) -> None:
        """Look after the stop at the last price, where stops are used and the contract is still traded."""
        if self._protects and not desk.delisted:
            self.protect(desk, self.last_price(desk), out)

    def watch(self, desk: Desk, out: list[Command]) -> None:
        """Count the time in which a position has no confirmed stop."""
        if not self._protects or desk.delisted or self.protection.covers(desk.instrument.id, desk.holding.exact.qty):
            desk.bare_since_ns = 0
        elif not desk.bare_since_ns:
            desk.bare_since_ns = self.now_ns
            out.append(SetTimer(f"{GUARD_TIMER}{desk.instrument.id}", self.now_ns + self.settings.reconcile.bare_ns))

    def on_guard_timer(self, desk: Desk, out: list[Command]) -> None:
        """A position was too long without a confirmed stop: it is left, reduce-only."""
        self.watch(desk, out)
        bare_ns = self.settings.reconcile.bare_ns
        if not desk.bare_since_ns or self.sweeping or self.blind:
            return
        if self.now_ns >= desk.bare_since_ns + bare_ns:
            text = f"{desk.instrument.id}: no confirmed stop for {bare_ns / 1e9:g} s, the position is closed"
            out.append(Alert(Severity.CRITICAL, "unprotected", text, self.now_ns))
            self.close(desk, out)
            desk.bare_since_ns = self.now_ns
        out.append(SetTimer(f"{GUARD_TIMER}{desk.instrument.id}", desk.bare_since_ns + bare_ns))

    def rearm(self, out: list[Command]) -> None:
        """After a restart: the times without a stop that were running."""
        for name, desk in self.desks.items():
            if desk.bare_since_ns:
                due_ns = desk.bare_since_ns + self.settings.reconcile.bare_ns
                out.append(SetTimer(f"{GUARD_TIMER}{name}", max(self.now_ns, due_ns)))

    def close(self, desk: Desk, out: list[Command], intent: OrderIntent | None = None) -> None:
        """Leave a position at the market, whatever the strategies wish, unless that is under way."""
        held = desk.holding.exact.qty
        if not held or self.blotter.working(desk.instrument.id, Purpose.FLATTEN):
            return
        self.spend(desk, 1 if held > 0 else -1, out)
        desk.leaving = True
        self.send_pieces(desk, intent or closing(desk.instrument.id, held), out)

    def send_pieces(self, desk: Desk, intent: OrderIntent, out: list[Command]) -> None:
        """Send a market intent, cut where it is larger than the venue takes at once."""
        pieces = tuple(self.router.pieces(desk.instrument, (intent,)))
        self._carry_out(desk, Route(intents=pieces), self.view_now(desk), out)

    def spend(self, desk: Desk, side: int, out: list[Command], level: float | None = None) -> None:
        """The stop was hit: the wishes that it protected are spent, nothing is aimed at until a new one comes, and
        what is under way to the old aim is called back, for it would open a position anew."""
        name = desk.instrument.id
        self.wishes.spend(name, side, level)
        desk.weight = None
        if desk.aim != 0.0:
            working = self.blotter.working(name, Purpose.TARGET)
            out.extend(order.cancel() for order in working)
            desk.reroute = desk.reroute or bool(working)
        desk.target, desk.aim = ZERO, 0.0

    def reroute(self, desk: Desk, price: float, out: list[Command]) -> None:
        """What had to be out of the way first is gone, cancelled or filled: route the target again."""
        if not desk.reroute or self.blotter.working(desk.instrument.id, Purpose.TARGET):
            return
        if self.live and self.lifecycle.state is State.RECONCILING:
            return  # as soon as it has passed
        desk.reroute = False
        if self.lifecycle.trades:
            self.route(desk, self.risk_view(desk, price, self.equity()), out)

    def cancel_entries(self) -> Iterator[Command]:
        """Cancel every order that is working toward a target; protective stops stay."""
        return (order.cancel() for order in self.blotter if order.approved.purpose is Purpose.TARGET)

    def forget_target(self, desk: Desk) -> None:
        """Aim at what is held: the next close decides anew."""
        desk.target, desk.aim = desk.holding.exact.qty, desk.holding.qty

    def order_of(self, name: ClientOrderId) -> Order | None:
        """One of our orders, live or lately done."""
        return self.blotter.find(name)

    def unsettled(self, states: tuple[OrderState, ...]) -> list[Order]:
        """Open orders in one of these states, oldest first."""
        return [order for order in self.blotter if order.state in states]
