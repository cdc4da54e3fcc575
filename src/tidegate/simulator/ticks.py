"""The matching core moved by quotes instead of bars: for paper trading and for the local exchange.

The same books, filters and ledger as under ``exchange``; the market comes as a ``Touch`` (best bid and ask, last and
mark price) and is met at once:

1. A market order fills at the other side's price when it arrives; what the touch cannot fill goes on at the next one.
2. A limit order that crosses takes at the touch. One that rests is a maker: it fills at its limit when the other side
   reaches it. IOC ends after its first meeting; FOK and GTX are refused when they could not keep their word.
3. Stops and take-profits trigger on the last or the mark price and become market orders.
4. After a fill, reduce-only orders that the rest of the position does not cover end (``REDUCE_ONLY``).
5. The margin is looked at after every touch, on mark prices: cross positions together, isolated ones each alone.

Every contract may have its own leverage and its own isolated wallet. Two legs of a hedge are two contracts here.
Money is booked to the venue's cent, so that what is shown is what is held. Reports reach the listener one by one,
with the account as it was right after each.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from tidegate.domain.account import FundingPaid, Transfer
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.ledger import CENT, EXACT, ROUNDED, ZERO, Ledger
from tidegate.domain.market import FundingRate
from tidegate.domain.messages import ExecutionReport
from tidegate.domain.orders import (
    FillCause,
    OrderAmended,
    OrderFilled,
    OrderRejected,
    OrderTriggered,
    OrderType,
    Side,
    TimeInForce,
)
from tidegate.simulator.exchange import (
    QUOTE,
    VENUE_NAMES,
    Exchange,
    MarketState,
    RestingOrder,
    exact,
    expire,
    trigger_passed,
)
from tidegate.simulator.frictions import Frictions
from tidegate.simulator.liquidation import MarginState, margin_used_up
from tidegate.simulator.margins import LegMargin, Margins, max_notional
from tidegate.simulator.tickets import AnyChange, AnyOrder, Ticket

Listener = Callable[[ExecutionReport], None]
FeePayer = Callable[[Decimal], tuple[str, Decimal] | None]
"""Pays a fee of so many USDT in another asset: which, and how much of it; ``None`` when it cannot."""

_AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)
_MARKET_BOUND = Decimal("1.0015")  # a short is charged for at least this much of the last price


@dataclass(frozen=True, slots=True)
class Touch:
    """The market of one contract at one instant. Quantities that are ``None`` are unlimited."""

    bid: Decimal
    ask: Decimal
    last: Decimal
    mark: Decimal | None = None
    bid_qty: Decimal | None = None
    ask_qty: Decimal | None = None

    @property
    def valuation(self) -> Decimal:
        """The price that positions are valued at."""
        return self.last if self.mark is None else self.mark


@dataclass(slots=True)
class Terms:
    """What the account has set for one contract, and the isolated wallet of its position."""

    leverage: int = 20
    isolated: bool = False
    wallet: Decimal = ZERO


class RestingState(msgspec.Struct, frozen=True):
    """An order that rests, as it is kept: what was handed in, and what became of it so far."""

    ticket: Ticket
    venue_id: int
    qty: Decimal
    limit: Decimal | None
    trigger: Decimal | None
    filled: Decimal
    late: bool
    clipped: bool


class TickExchangeState(msgspec.Struct, frozen=True):
    """Everything of an exchange that the market does not say again: books, settings, and the orders that rest."""

    ledger: Ledger
    terms: dict[InstrumentId, Terms]
    closed: list[InstrumentId]
    resting: list[RestingState]
    venue_ids: int
    trade_ids: int


class Reports(list[ExecutionReport]):
    """A list of reports that tells each one to a listener as it happens."""

    def __init__(self, listener: Listener | None) -> None:
        super().__init__()
        self._listener = listener

    def append(self, report: ExecutionReport) -> None:
        super().append(report)
        if self._listener is not None:
            self._listener(report)

    def extend(self, reports: Iterable[ExecutionReport]) -> None:
        for report in reports:
            self.append(report)


class TickExchange(Exchange):
    """The simulated venue under quotes.

    ``listener`` hears every report. ``triggers_on_mark`` chooses the price that stops look at. ``visible_only`` keeps
    the fills of one touch to its visible quantities, ``most_per_touch`` every order to that much a touch (``None``: no
    such limit). ``fee_payer`` may pay fees in another asset.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        deposit: Decimal,
        listener: Listener | None = None,
        *,
        leverage: int = 20,
        triggers_on_mark: bool = False,
        visible_only: bool = False,
        fee_payer: FeePayer | None = None,
    ) -> None:
        super().__init__(instruments, deposit, Frictions(), leverage)
        self._listener = listener
        self._triggers_on_mark = triggers_on_mark
        self._visible_only = visible_only
        self._fee_payer = fee_payer
        self._touches: dict[InstrumentId, Touch] = {}
        self._terms = {
            name: Terms(min(leverage, max(bracket.max_leverage for bracket in market.instrument.brackets)))
            for name, market in self._markets.items()
        }
        self._visible: dict[tuple[InstrumentId, Side], Decimal | None] = {}
        self.most_per_touch: Decimal | None = None

    # ---- requests -----------------------------------------------------------------------------------------------

    def submit(self, order: AnyOrder, now_ns: Nanos) -> list[ExecutionReport]:
        """Take an order in; what it trades at once is reported after its acceptance."""
        reports = self._reports()
        answer = super().submit(order, now_ns)
        reports.extend(answer)
        if not isinstance(answer[0], OrderRejected) and order.instrument in self._touches:
            market = self._markets[order.instrument]
            self._match(market, now_ns, reports)
            self._check_margins(now_ns, reports)
        return reports

    def amend(self, request: AnyChange, now_ns: Nanos) -> list[ExecutionReport]:
        """Change a resting order; it loses its place, and may take at its new price. A refused change changes nothing:
        ask ``change_refusal`` for the reason."""
        reports = self._reports()
        resting = self._find(request.instrument, request.id) if request.instrument in self._markets else None
        if resting is None or self.change_refusal(request) is not None:
            return reports
        market = self._markets[request.instrument]
        for queue in market.queues():
            if resting in queue:
                queue.remove(resting)
                queue.append(resting)
        resting.qty, resting.limit, resting.trigger = request.qty, request.limit, request.trigger
        resting.late = False
        reports.append(
            OrderAmended(request.id, request.instrument, request.qty, request.limit, request.trigger, now_ns, now_ns)
        )
        if request.instrument in self._touches:
            self._match(market, now_ns, reports)
        return reports

    def change_refusal(self, request: AnyChange) -> tuple[str, str] | None:
        """Why a change of a resting order is refused; ``None`` when it is not, or nothing rests under its id."""
        resting = self._find(request.instrument, request.id)
        if resting is None:
            return None
        if request.qty <= resting.filled:
            return "LOT_SIZE", f"quantity {request.qty} is already filled"
        refused = self._refuse_change(request, resting)
        if refused is not None:
            return refused
        market, order = self._markets[request.instrument], resting.order
        if order.tif is TimeInForce.GTX and request.limit is not None and self._reaches(market, order, request.limit):
            return "GTX", "the new price would take"
        if order.reduce_only:
            return None
        notional = EXACT.multiply(request.qty, request.limit or self._touches[request.instrument].valuation)
        if notional < market.instrument.min_notional:
            return "MIN_NOTIONAL", f"notional {notional} is below {market.instrument.min_notional}"
        left, resting.qty = resting.qty, resting.filled  # as if the old one were gone
        try:
            return self._refuse_exposure(market, order.side, EXACT.subtract(request.qty, resting.filled), request.limit)
        finally:
            resting.qty = left

    def expire_order(self, instrument: InstrumentId, name: ClientOrderId, reason: str, now_ns: Nanos) -> bool:
        """End a resting order by the venue's own act; False when it does not rest here."""
        resting = self._take(instrument, name)
        if resting is None:
            return False
        expire(resting, reason, now_ns, self._reports())
        return True

    # ---- the market ---------------------------------------------------------------------------------------------

    def touch(self, instrument: InstrumentId, touch: Touch, now_ns: Nanos) -> list[ExecutionReport]:
        """The market moves: orders meet it, and the margin is checked."""
        self.see(instrument, touch)
        return self.act(instrument, now_ns)

    def see(self, instrument: InstrumentId, touch: Touch) -> None:
        """Take prices in without acting on them."""
        market = self._markets[instrument]
        self._touches[instrument] = touch
        market.last = float(touch.last)
        market.mark = None if touch.mark is None else float(touch.mark)
        if self._visible_only:
            self._visible[instrument, Side.BUY], self._visible[instrument, Side.SELL] = touch.ask_qty, touch.bid_qty

    def act(self, instrument: InstrumentId, now_ns: Nanos) -> list[ExecutionReport]:
        """Let the orders of a contract meet the prices seen last, and check the margin."""
        market = self._markets[instrument]
        reports = self._reports()
        if market.waiting or market.limits or market.stops:
            self._trigger(market, self._touches[instrument], now_ns, reports)
            self._match(market, now_ns, reports)
        if self._held:
            self._check_margins(now_ns, reports)
        return reports

    def fund(self, event: FundingRate) -> list[ExecutionReport]:
        """Pay a settlement; that of an isolated position comes out of its own wallet."""
        reports = self._reports()
        for report in super().fund(event):
            terms = self._terms[event.instrument]
            if terms.isolated and isinstance(report, FundingPaid):
                terms.wallet = EXACT.add(terms.wallet, report.amount)
            reports.append(report)
        return reports

    def settle(self, instrument: InstrumentId, now_ns: Nanos) -> list[ExecutionReport]:
        """A contract ends: its orders expire, its position is closed at the last price."""
        market = self._markets[instrument]
        market.closed = True
        reports = self._reports()
        self._expire_all(market, "DELISTED", now_ns, reports)
        if market.position.qty:
            self._venue_fill(market, exact(market.last), FillCause.SETTLEMENT, ZERO, now_ns, reports)
        self._cover_deficit(now_ns, reports)
        return reports

    def take_over(
        self,
        instrument: InstrumentId,
        cause: FillCause,
        now_ns: Nanos,
        *,
        qty: Decimal | None = None,
        price: Decimal | None = None,
    ) -> list[ExecutionReport]:
        """The venue closes a position, or ``qty`` of it: by liquidation (whose orders end first) or deleveraging."""
        market, reports = self._markets[instrument], self._reports()
        held = abs(market.position.qty)
        if not held:
            return reports
        if cause is FillCause.LIQUIDATION:
            self._expire_all(market, "LIQUIDATION", now_ns, reports)
        extra = market.instrument.liquidation_fee if cause is FillCause.LIQUIDATION else ZERO
        at = price or self._on_tick(market)
        self._venue_fill(market, at, cause, extra, now_ns, reports, qty=None if qty is None else min(qty, held))
        self._knock_out(market, now_ns, reports)
        self._cover_deficit(now_ns, reports)
        return reports

    # ---- the account --------------------------------------------------------------------------------------------

    @property
    def wallet(self) -> Decimal:
        """Deposits and everything realised."""
        return self._wallet

    @property
    def cross_wallet(self) -> Decimal:
        """The wallet without what isolated positions hold."""
        return self._wallet - sum((terms.wallet for terms in self._terms.values()), ZERO)

    @property
    def margin_ratio(self) -> float:
        """Maintenance margin over balance of the cross positions: one is liquidation."""
        if not self._held:
            return 0.0
        state = self._margin_state()
        return state.maintenance / state.balance if state.balance > 0 else 1.0

    def deposit(self, amount: Decimal, now_ns: Nanos) -> list[ExecutionReport]:
        """Money put in, or taken out when negative."""
        reports = self._reports()
        self._put(amount, now_ns, reports)
        return reports

    def terms(self, instrument: InstrumentId) -> Terms:
        """The account's settings of a contract; to be changed in place."""
        return self._terms[instrument]

    def last_touch(self, instrument: InstrumentId) -> Touch | None:
        """The market as it was seen last."""
        return self._touches.get(instrument)

    def relist(self, instrument: Instrument) -> None:
        """The contract's filters, fees or brackets have changed; open orders stay as they are."""
        market = self._markets[instrument.id]
        market.instrument = instrument
        market.__post_init__()

    def reopen(self, instrument: InstrumentId, *, closed: bool) -> None:
        """Take a contract's orders, or refuse them."""
        self._markets[instrument].closed = closed

    def leg_margin(self, instrument: InstrumentId) -> LegMargin:
        """Position, orders and margins of one contract."""
        market, terms = self._markets[instrument], self._terms[instrument]
        touch = self._touches.get(instrument)
        buys = sells = buy_notional = sell_notional = ZERO
        for queue in (market.waiting, market.limits):
            for resting in queue:
                if resting.order.reduce_only:
                    continue
                price = resting.limit or (ZERO if touch is None else touch.valuation)
                if resting.order.side is Side.BUY:
                    buys += resting.left
                    buy_notional += resting.left * price
                else:
                    sells += resting.left
                    sell_notional += resting.left * price
        return LegMargin(
            brackets=market.instrument.brackets,
            qty=market.position.qty,
            cost=market.position.cost,
            mark=ZERO if touch is None else touch.valuation,
            leverage=terms.leverage,
            isolated=terms.isolated,
            isolated_wallet=terms.wallet,
            buys=buys,
            sells=sells,
            buy_notional=buy_notional,
            sell_notional=sell_notional,
        )

    def margins(self) -> Margins:
        """Those of the whole account."""
        return Margins(
            self._wallet,
            {
                name: self.leg_margin(name)
                for name, market in self._markets.items()
                if market.position.qty or market.waiting or market.limits
            },
        )

    # ---- state --------------------------------------------------------------------------------------------------

    def dump(self) -> TickExchangeState:
        """What ``load`` makes the same exchange of. Only tickets rest here, never our approved orders."""
        resting = [
            RestingState(
                each.order, each.venue_id, each.qty, each.limit, each.trigger, each.filled, each.late, each.clipped
            )
            for market in self._markets.values()
            for queue in market.queues()
            for each in queue
            if isinstance(each.order, Ticket)
        ]
        closed = [name for name, market in self._markets.items() if market.closed]
        return TickExchangeState(self._ledger, self._terms, closed, resting, self._venue_ids, self._trade_ids)

    def load(self, state: TickExchangeState) -> None:
        """Become the exchange that was kept; its contracts must be those of this one. Nothing is reported."""
        self._ledger.deposits, self._ledger.income = state.ledger.deposits, state.ledger.income
        self._ledger.other.update(state.ledger.other)
        for name, held in state.ledger.positions.items():
            market = self._markets[name]
            for amount in ("qty", "cost", "realised", "fees", "funding", "other_fees"):
                setattr(market.position, amount, getattr(held, amount))
            market.shadow()
        self._terms.update(state.terms)
        for name in state.closed:
            self._markets[name].closed = True
        for kept in state.resting:
            market = self._markets[kept.ticket.instrument]
            order = RestingOrder(
                kept.ticket, kept.venue_id, kept.qty, kept.limit, kept.trigger, kept.filled, kept.late, kept.clipped
            )
            conditional = kept.ticket.order_type not in (OrderType.MARKET, OrderType.LIMIT)
            queue = market.stops if conditional else market.waiting if kept.limit is None else market.limits
            queue.append(order)
        self._venue_ids, self._trade_ids = state.venue_ids, state.trade_ids
        self._held = [each for each in self._markets.values() if each.qty]
        self._wallet = self._ledger.wallet
        self._wallet_changed()

    # ---- matching -----------------------------------------------------------------------------------------------

    def _reports(self) -> Reports:
        return Reports(self._listener)

    def _refuse(self, order: AnyOrder, market: MarketState) -> tuple[str, str] | None:
        refused = super()._refuse(order, market)
        if refused is not None:
            return refused
        conditional = order.order_type not in (OrderType.MARKET, OrderType.LIMIT)
        if conditional and order.qty > market.instrument.market_max_qty:
            return "LOT_SIZE", f"quantity {order.qty} is above the {market.instrument.market_max_qty} of a market order"
        if order.limit is None or order.instrument not in self._touches:
            return None
        reaches = self._reaches(market, order, order.limit)
        if order.tif is TimeInForce.GTX and reaches:
            return "GTX", "a post-only order would take"
        if order.tif is TimeInForce.FOK and not (reaches and self._fillable(market, order, order.qty) == order.qty):
            return "FOK", "the order could not be filled whole at once"
        return None

    def _refuse_margin(self, order: AnyOrder, market: MarketState, price: float) -> tuple[str, str] | None:  # noqa: ARG002
        if order.order_type not in (OrderType.MARKET, OrderType.LIMIT):
            return None  # a conditional order is looked at when it triggers
        return self._refuse_exposure(market, order.side, order.qty, order.limit)

    def _refuse_exposure(
        self, market: MarketState, side: Side, qty: Decimal, limit: Decimal | None
    ) -> tuple[str, str] | None:
        name = market.instrument.id
        touch = self._touches.get(name)
        if touch is None:
            return None
        leg = self.leg_margin(name)
        added = leg.exposure_with(side, qty) - leg.exposure
        if added <= 0:
            return None
        largest = max_notional(leg.brackets, leg.leverage)
        if leg.exposure_with(side, qty) * touch.valuation > largest:
            return "MAX_POSITION", f"at {leg.leverage}x a position of {name} ends at {largest} {QUOTE}"
        if side is Side.BUY:
            price = touch.ask if limit is None else limit
            loss = max(ZERO, price - touch.valuation)
        else:
            limit = limit or touch.bid
            price = max(touch.last * _MARKET_BOUND, touch.valuation, limit)
            loss = max(ZERO, touch.valuation - limit)
        needed = added * price / leg.leverage + qty * loss
        free = self.margins().available
        if needed > free:
            return "MARGIN", f"needs {needed:.2f} {QUOTE} of margin, has {free:.2f}"
        return None

    def _reaches(self, market: MarketState, order: AnyOrder, limit: Decimal) -> bool:
        touch = self._touches[market.instrument.id]
        return touch.ask <= limit if order.side is Side.BUY else touch.bid >= limit

    def _fillable(self, market: MarketState, order: AnyOrder, qty: Decimal) -> Decimal:
        if self.most_per_touch is not None:
            qty = min(qty, self.most_per_touch)
        visible = self._visible.get((market.instrument.id, order.side)) if self._visible_only else None
        return qty if visible is None else min(qty, visible)

    def _trigger(self, market: MarketState, touch: Touch, now_ns: Nanos, reports: Reports) -> None:
        price = touch.valuation if self._triggers_on_mark else touch.last
        for resting in [each for each in market.stops if trigger_passed(each, price)]:
            market.stops.remove(resting)
            reports.append(OrderTriggered(resting.order.id, resting.order.instrument, now_ns, now_ns))
            market.waiting.append(resting)

    def _match(self, market: MarketState, now_ns: Nanos, reports: Reports) -> None:
        for resting in [*market.waiting, *market.limits]:
            if resting.left > 0:
                self._meet(market, resting, now_ns, reports)
        market.waiting = [resting for resting in market.waiting if resting.left > 0]
        market.limits = [resting for resting in market.limits if resting.left > 0]
        self._cover_deficit(now_ns, reports)

    def _meet(self, market: MarketState, resting: RestingOrder, now_ns: Nanos, reports: Reports) -> None:
        order, limit, touch = resting.order, resting.limit, self._touches[market.instrument.id]
        maker = resting.late and limit is not None
        resting.late = True
        if limit is None or self._reaches(market, order, limit):
            if order.reduce_only and not self._clip(market, resting, now_ns, reports):
                return
            qty = self._fillable(market, order, resting.left)
            if qty > 0:
                price = limit if maker and limit is not None else touch.ask if order.side is Side.BUY else touch.bid
                if self._visible_only:
                    self._use_up(market, order.side, qty)
                self._fill(market, resting, qty, price, price, maker=maker, now_ns=now_ns, reports=reports)
        if limit is not None and order.tif in _AT_ONCE and resting.left > 0:
            expire(resting, order.tif.value, now_ns, reports)

    def _use_up(self, market: MarketState, side: Side, qty: Decimal) -> None:
        visible = self._visible.get((market.instrument.id, side))
        if visible is not None:
            self._visible[market.instrument.id, side] = visible - qty

    def _fill(
        self,
        market: MarketState,
        resting: RestingOrder,
        qty: Decimal,
        price: Decimal,
        reference: Decimal,
        *,
        maker: bool,
        now_ns: Nanos,
        reports: list[ExecutionReport],
    ) -> None:
        order, instrument = resting.order, market.instrument
        rate = instrument.maker_fee if maker else instrument.taker_fee
        fee, asset = ROUNDED.quantize(EXACT.multiply(EXACT.multiply(qty, price), rate), CENT), QUOTE
        paid = None if self._fee_payer is None or fee <= 0 else self._fee_payer(fee)
        if paid is not None:
            asset, shown = paid
            fee = ZERO
        else:
            shown = fee
        resting.filled += qty
        self._book(market, order.side, qty, price, fee)
        reports.append(
            OrderFilled(
                order.id,
                order.instrument,
                order.side,
                qty,
                price,
                shown,
                asset,
                self._trade_ids,
                maker,
                now_ns,
                now_ns,
                FillCause.ORDER,
                reference,
            )
        )
        if resting.clipped and resting.left == 0:
            expire(resting, "REDUCE_ONLY", now_ns, reports)
        self._knock_out(market, now_ns, reports)

    def _knock_out(self, market: MarketState, now_ns: Nanos, reports: list[ExecutionReport]) -> None:
        """End the resting reduce-only orders that find nothing left to reduce, the nearest to the market served first.

        The last one that is served in part stays, and is cut when it fills."""
        room = market.position.qty
        side = Side.SELL if room > 0 else Side.BUY
        covered, reducing = ZERO, [each for each in market.limits if each.order.reduce_only and each.left > 0]
        for resting in sorted(reducing, key=lambda each: side.sign * -(each.limit or ZERO)):
            if resting.order.side is not side or covered >= abs(room):
                expire(resting, "REDUCE_ONLY", now_ns, reports)
            else:
                covered += resting.left

    # ---- money --------------------------------------------------------------------------------------------------

    def _book(self, market: MarketState, side: Side, qty: Decimal, price: Decimal, fee: Decimal) -> None:
        before = market.position.qty
        super()._book(market, side, qty, price, fee)
        terms, after = self._terms[market.instrument.id], market.position.qty
        if not terms.isolated or after == 0:
            terms.wallet = ZERO
        elif before == 0 or (before > 0) is not (after > 0):
            terms.wallet = _cent(abs(after) * price / terms.leverage)
        elif abs(after) > abs(before):
            terms.wallet += _cent(qty * price / terms.leverage)
        else:
            terms.wallet = _cent(terms.wallet * after / before)

    def _margin_state(self, moved: MarketState | None = None, price: float = 0.0) -> MarginState:
        """Of the cross positions together; what isolated ones hold is not theirs."""
        balance, needed = self._wallet_float, 0.0
        for market in self._held:
            terms = self._terms[market.instrument.id]
            if terms.isolated:
                balance -= float(terms.wallet)
                continue
            at = price if market is moved else market.valuation
            balance += market.qty * at - market.cost
            needed += MarginState.of_position(market.instrument, market.qty, at)
        return MarginState(balance, needed)

    def _check_margins(self, now_ns: Nanos, reports: Reports) -> None:
        for market in [each for each in self._held if self._terms[each.instrument.id].isolated]:
            wallet, price = self._terms[market.instrument.id].wallet, market.valuation
            needed = MarginState.of_position(market.instrument, market.qty, price)
            if margin_used_up(MarginState(float(wallet) + market.qty * price - market.cost, needed)):
                before = self._wallet
                self._liquidate([market], now_ns, reports)
                lost = before - self._wallet
                if lost > wallet:  # beyond its own wallet the insurance fund bears the loss
                    self._put(lost - wallet, now_ns, reports)
        cross = [each for each in self._held if not self._terms[each.instrument.id].isolated]
        if cross and margin_used_up(self._margin_state()):
            self._liquidate(cross, now_ns, reports)

    def _liquidate(self, markets: list[MarketState], now_ns: Nanos, reports: Reports) -> None:
        self.liquidations += 1
        for market in markets:
            self._expire_all(market, "LIQUIDATION", now_ns, reports)
        for market in markets:
            fee = market.instrument.liquidation_fee
            self._venue_fill(market, self._on_tick(market), FillCause.LIQUIDATION, fee, now_ns, reports)
        self._cover_deficit(now_ns, reports)

    def _put(self, amount: Decimal, now_ns: Nanos, reports: Reports) -> None:
        self._ledger.transfer(amount)
        self._wallet = EXACT.add(self._wallet, amount)
        self._wallet_changed()
        reports.append(Transfer(QUOTE, amount, now_ns, now_ns))

    def _on_tick(self, market: MarketState) -> Decimal:
        tick = market.instrument.tick
        touch = self._touches[market.instrument.id]
        return max(tick, ROUNDED.multiply(ROUNDED.quantize(touch.valuation / tick, Decimal(1)), tick))

    def _expire_all(self, market: MarketState, reason: str, now_ns: Nanos, reports: Reports) -> None:
        for queue in market.queues():
            for resting in [each for each in queue if each.left > 0]:
                expire(resting, reason, now_ns, reports)
            queue.clear()

    def _venue_fill(
        self,
        market: MarketState,
        price: Decimal,
        cause: FillCause,
        extra_fee_frac: Decimal,
        now_ns: Nanos,
        reports: list[ExecutionReport],
        qty: Decimal | None = None,
    ) -> None:
        instrument, held = market.instrument, market.position.qty
        side, qty = (Side.SELL if held > 0 else Side.BUY), abs(held) if qty is None else qty
        fee = _cent(qty * price * (instrument.taker_fee + extra_fee_frac))
        self._book(market, side, qty, price, fee)
        name = ClientOrderId(f"{VENUE_NAMES[cause]}-{self._trade_ids}")
        reports.append(
            OrderFilled(
                name, instrument.id, side, qty, price, fee, QUOTE, self._trade_ids, False, now_ns, now_ns, cause, price
            )
        )


def _cent(amount: Decimal) -> Decimal:
    return ROUNDED.quantize(amount, CENT)
