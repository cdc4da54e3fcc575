"""The matching core: a venue made of arithmetic, one for backtest, demo, paper and the local exchange.

Synchronous and deterministic; it reads no clock and draws no number. The caller brings the market in the order of one
instant and passes our orders in; reports come out.

1. ``submit`` checks an order against the filters, the margin and the price; market orders wait, others rest.
2. ``open(bar)``: waiting market orders fill at the printed open plus slippage and latency, never re-rounded, up to a
   share of the volume of the bar before. What is left waits for the end of the bar. New limit orders that the open
   is through trade there too, as takers; the others rest.
3. ``range(bar)``: what the bar did between its open and its end, the adverse first:
   stops (at the trigger, or at the open when it gapped through), then liquidation at the mark price (before a stop
   that comes too late to save the account), then limits at their limit, then what the open left over, at the close.
4. ``fund`` pays a settlement on the position held, at the mark price, or at the last price when no mark is known.
5. ``settle`` closes a delisted contract at its last price.

Prices are compared as whole numbers of 1e-9, so that a float that is one ulp off a Decimal limit still touches it.
One wallet, cross margin, one-way positions. Its ledger is its own: that the kernel's agrees with it is checked, not
assumed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import nan

from tidegate.domain.account import AccountSnapshot, Balance, FundingPaid, OpenOrder, Position, Transfer
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.ledger import CENT, EXACT, ROUNDED, ZERO, Ledger, PositionLedger
from tidegate.domain.market import Bar, FundingRate
from tidegate.domain.messages import ExecutionReport
from tidegate.domain.orders import (
    CancelOrder,
    FillCause,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderTriggered,
    OrderType,
    QueryOrder,
    Side,
    TimeInForce,
)
from tidegate.simulator.frictions import Frictions
from tidegate.simulator.liquidation import MarginState, margin_used_up, takeover_price
from tidegate.simulator.tickets import AnyChange, AnyOrder

_UNITS = 1_000_000_000
QUOTE = "USDT"
NOTHING: tuple[ExecutionReport, ...] = ()

# Members by plain names: looking one up on its class costs ten times as much, and these are asked all the time.
_MARKET, _LIMIT, _BUY, _ORDER = OrderType.MARKET, OrderType.LIMIT, Side.BUY, FillCause.ORDER


def _units(price: float) -> int:
    return round(price * _UNITS)


def _units_of(price: Decimal) -> int:
    return int(price * _UNITS)


def exact(value: float) -> Decimal:
    """The decimal number that a float is printed as."""
    return Decimal(repr(value))


@dataclass(slots=True)
class RestingOrder:
    """An order at the venue. ``late`` when it has met the market at an open: what is left of a market order then
    fills at the end of bars, a limit order rests. ``clipped`` when it was cut to the position that it reduces."""

    order: AnyOrder
    venue_id: int
    qty: Decimal
    limit: Decimal | None
    trigger: Decimal | None
    filled: Decimal = ZERO
    late: bool = False
    clipped: bool = False

    @property
    def left(self) -> Decimal:
        return self.qty - self.filled


@dataclass(slots=True)
class MarketState:
    """One contract: its last prices, its orders, our position, and the floats that shadow it for margin checks."""

    instrument: Instrument
    position: PositionLedger
    qty: float = 0.0
    cost: float = 0.0
    previous: Bar | None = None
    last: float = 0.0
    mark: float | None = None
    half_spread_frac: float = 0.0
    waiting: list[RestingOrder] = field(default_factory=list)
    stops: list[RestingOrder] = field(default_factory=list)
    limits: list[RestingOrder] = field(default_factory=list)
    opened_ns: Nanos = 0
    open_budget: float | None = None
    closed: bool = False
    top_rate: float = 0.0
    safe_price: float = nan
    slip_unit: Decimal = CENT

    def __post_init__(self) -> None:
        self.top_rate = max(bracket.maintenance_frac for bracket in self.instrument.brackets)
        self.slip_unit = min(CENT, self.instrument.tick.scaleb(-4))

    @property
    def valuation(self) -> float:
        return self.last if self.mark is None else self.mark

    def shadow(self) -> None:
        """The floats follow the position."""
        self.qty, self.cost = float(self.position.qty), float(self.position.cost)

    def queues(self) -> tuple[list[RestingOrder], list[RestingOrder], list[RestingOrder]]:
        return self.waiting, self.stops, self.limits


class Exchange:
    """The simulated venue. ``leverage`` is the account's setting, for the initial margin of new orders."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        deposit: Decimal,
        frictions: Frictions,
        leverage: float = 20.0,
    ) -> None:
        self._ledger = Ledger()
        self._ledger.transfer(deposit)
        self._wallet = deposit
        self._wallet_float = float(deposit)
        self._held: list[MarketState] = []
        self._markets: dict[InstrumentId, MarketState] = {
            instrument.id: MarketState(instrument, self._ledger.position(instrument.id)) for instrument in instruments
        }
        self._frictions = frictions
        self._leverage = leverage
        self._venue_ids = 0
        self._trade_ids = 0
        self.mark_stand_ins = 0
        self.liquidations = 0

    # ---- our requests -------------------------------------------------------------------------------------------

    def submit(self, order: AnyOrder, now_ns: Nanos) -> list[ExecutionReport]:
        """Take an order in; answers with its acceptance or its rejection."""
        refused = self.refusal(order)
        if refused is not None:
            code, reason = refused
            return [OrderRejected(order.id, order.instrument, code, reason, now_ns, now_ns)]
        market = self._markets[order.instrument]
        self._venue_ids += 1
        resting = RestingOrder(order, self._venue_ids, order.qty, order.limit, order.trigger)
        match order.order_type:
            case OrderType.MARKET:
                market.waiting.append(resting)
            case OrderType.LIMIT:
                market.limits.append(resting)
            case OrderType.STOP_MARKET | OrderType.TAKE_PROFIT_MARKET:
                market.stops.append(resting)
        return [OrderAccepted(order.id, order.instrument, self._venue_ids, now_ns, now_ns)]

    def refusal(self, order: AnyOrder) -> tuple[str, str] | None:
        """Why an order would not be taken in now, as a code and a reason; ``None`` when it would."""
        market = self._markets.get(order.instrument)
        if market is None:
            return "SYMBOL", f"{order.instrument} is not listed"
        return self._refuse(order, market)

    def cancel(self, request: CancelOrder, now_ns: Nanos) -> list[ExecutionReport]:
        """Cancel a resting order; an order that is not here any more gives no report."""
        found = self._take(request.instrument, request.id)
        return [] if found is None else [OrderCanceled(request.id, request.instrument, now_ns, now_ns)]

    def amend(self, request: AnyChange, now_ns: Nanos) -> list[ExecutionReport]:
        """Change quantity and prices of a resting order; it keeps its place. What a filter refuses changes nothing."""
        resting = self._find(request.instrument, request.id)
        if resting is None or request.qty <= resting.filled or self._refuse_change(request, resting) is not None:
            return []
        resting.qty, resting.limit, resting.trigger = request.qty, request.limit, request.trigger
        return [
            OrderAmended(request.id, request.instrument, request.qty, request.limit, request.trigger, now_ns, now_ns)
        ]

    def query(self, request: QueryOrder, now_ns: Nanos) -> list[ExecutionReport]:
        """Report a resting order once more; silence means that it is not resting here."""
        resting = self._find(request.instrument, request.id)
        if resting is None:
            return []
        return [OrderAccepted(request.id, request.instrument, resting.venue_id, now_ns, now_ns)]

    def snapshot(self, now_ns: Nanos) -> AccountSnapshot:
        """The account as it is."""
        positions = tuple(
            Position(name, market.position.qty, entry)
            for name, market in self._markets.items()
            if (entry := market.position.entry_price) is not None
        )
        orders = tuple(
            OpenOrder(
                resting.order.id,
                resting.venue_id,
                name,
                resting.order.side,
                resting.qty,
                resting.filled,
                resting.order.order_type,
                resting.limit,
                resting.trigger,
                resting.order.reduce_only,
            )
            for name, market in self._markets.items()
            for queue in market.queues()
            for resting in queue
        )
        return AccountSnapshot(now_ns, now_ns, (Balance(QUOTE, self._wallet),), positions, orders)

    # ---- the market ---------------------------------------------------------------------------------------------

    def open(self, bar: Bar, half_spread_frac: float = 0.0) -> Iterable[ExecutionReport]:
        """The bar begins: waiting market orders fill at its open. Reports carry the time of the open.

        ``half_spread_frac`` is the half spread of this bar, where the market knows one. Orders that answer the reports
        fill when the same open is called again; all calls together keep to one share of volume.
        """
        market = self._markets[bar.instrument]
        market.half_spread_frac = half_spread_frac
        market.last = bar.open
        if not (market.waiting or market.limits) or not self._tradable(bar):
            return NOTHING
        now_ns = bar.ts_ns - bar.interval_ns
        if market.opened_ns != now_ns:
            market.opened_ns = now_ns
            market.open_budget = self._share_of(market.previous.volume if market.previous else 0.0)
        reports: list[ExecutionReport] = []
        for resting in [each for queue in (market.waiting, market.limits) for each in queue if not each.late]:
            resting.late = True
            adverse = self._frictions.latency.adverse_frac(bar, resting.order.side.sign)
            if resting.limit is None or self._crosses(market, resting, bar.open, now_ns, reports):
                market.open_budget = self._take_market(
                    market, resting, bar.open, adverse, market.open_budget, now_ns, reports
                )
            if resting.order.tif in _AT_ONCE and resting.limit is not None and resting.left > 0:
                expire(resting, resting.order.tif.value, now_ns, reports)
        market.waiting = [resting for resting in market.waiting if resting.left > 0]
        market.limits = [resting for resting in market.limits if resting.left > 0]
        self._cover_deficit(now_ns, reports)
        return reports

    def range(self, bar: Bar, mark: Bar | None = None) -> Iterable[ExecutionReport]:
        """Everything between the open and the end of a bar; ``mark`` is the mark price bar of the same interval."""
        market = self._markets[bar.instrument]
        reports: Iterable[ExecutionReport] = NOTHING
        if market.stops or market.limits or market.waiting:
            self._within(market, bar, mark or bar, reports := [])
        elif market.qty:
            seen = mark or bar
            if not (seen.low > market.safe_price if market.qty > 0.0 else seen.high < market.safe_price):
                self._liquidate_if_due(market, seen, reports := [], bar.ts_ns)
        market.previous = bar
        market.last = bar.close
        market.mark = None if mark is None else mark.close
        return reports

    def set_mark(self, instrument: InstrumentId, price: float) -> None:
        """The mark price from now until the next bar."""
        self._markets[instrument].mark = price

    def fund(self, event: FundingRate) -> Iterable[ExecutionReport]:
        """Pay a settlement on the position held: ``-q mark rate``, to the venue's cent."""
        market = self._markets[event.instrument]
        if not market.position.qty:
            return NOTHING
        stand_in = market.mark is None
        self.mark_stand_ins += stand_in
        price = market.valuation
        due = EXACT.multiply(EXACT.multiply(market.position.qty, exact(price)), exact(event.rate))
        amount = EXACT.minus(ROUNDED.quantize(due, CENT))
        market.position.pay_funding(amount)
        self._wallet = EXACT.add(self._wallet, amount)
        self._wallet_changed()
        return [FundingPaid(event.instrument, amount, event.rate, price, event.ts_ns, event.ts_ns, stand_in)]

    def settle(self, instrument: InstrumentId, now_ns: Nanos) -> Iterable[ExecutionReport]:
        """A contract ends: its orders are cancelled, its position is closed at the last price."""
        market = self._markets[instrument]
        market.closed = True
        reports = self._cancel_all(market, now_ns)
        if market.position.qty:
            self._venue_fill(market, exact(market.last), FillCause.SETTLEMENT, ZERO, now_ns, reports)
        self._cover_deficit(now_ns, reports)
        return reports

    # ---- accounts -----------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The venue's own books."""
        return self._ledger

    def equity(self, marks: Mapping[InstrumentId, float]) -> Decimal:
        """Wallet plus open results at ``marks``, exactly."""
        return self._ledger.equity({name: exact(price) for name, price in marks.items()})

    # ---- orders against the filters -----------------------------------------------------------------------------

    def _refuse(self, order: AnyOrder, market: MarketState) -> tuple[str, str] | None:
        instrument = market.instrument
        most = instrument.market_max_qty if order.order_type is _MARKET else instrument.max_qty
        price = market.valuation
        if market.closed:
            return "STATUS", f"{instrument.id} is not trading"
        if (market.waiting or market.stops or market.limits) and self._find(instrument.id, order.id) is not None:
            return "DUPLICATE_ID", f"an open order has the id {order.id}"
        off_grid = _off_grid(instrument, order.qty, most, order.limit, order.trigger)
        if off_grid is not None:
            return off_grid
        if (order.order_type is _LIMIT) is (order.limit is None):
            return "PRICE", "a limit order has a limit and no other order has one"
        if (order.order_type in _CONDITIONAL) is (order.trigger is None):
            return "PRICE", "a conditional order has a trigger and no other order has one"
        if order.trigger is not None and market.last and _passed(order, order.trigger, _units(market.last)):
            return "WOULD_TRIGGER", f"trigger {order.trigger} is already passed at {market.last}"
        beyond = _beyond_band(instrument, order.side, order.limit, price)
        if beyond is not None:
            return beyond
        if order.reduce_only:
            return self._refuse_reduction(order, market)
        notional = float(order.qty) * (float(order.limit) if order.limit is not None else price)
        if price and notional < float(instrument.min_notional):
            return "MIN_NOTIONAL", f"notional {notional:.2f} is below {instrument.min_notional}"
        return self._refuse_margin(order, market, price)

    def _refuse_change(self, request: AnyChange, resting: RestingOrder) -> tuple[str, str] | None:
        market = self._markets[request.instrument]
        instrument, order = market.instrument, resting.order
        most = instrument.market_max_qty if order.order_type is _MARKET else instrument.max_qty
        refused = _off_grid(instrument, request.qty, most, request.limit, request.trigger)
        return refused or _beyond_band(instrument, order.side, request.limit, market.valuation)

    def _refuse_reduction(self, order: AnyOrder, market: MarketState) -> tuple[str, str] | None:
        if order.order_type in _CONDITIONAL:
            return None
        held = market.position.qty
        if held == 0 or (held > 0) is (order.side is _BUY):
            return "REDUCE_ONLY", f"there is no position that this {order.side.value} reduces"
        return None

    def _refuse_margin(self, order: AnyOrder, market: MarketState, price: float) -> tuple[str, str] | None:
        added = _exposure(market, order.side.sign * float(order.qty)) - _exposure(market)
        if added <= 0.0:
            return None
        gross = 0.0
        for each in self._markets.values():
            if each.qty or each.waiting or each.limits:
                gross += _exposure(each) * each.valuation
        needed = (gross + added * price) / self._leverage
        balance = self._wallet_float + sum(each.qty * each.valuation - each.cost for each in self._held)
        if needed > balance:
            return "MARGIN", f"needs {needed:.2f} {QUOTE} of margin, has {balance:.2f}"
        return None

    # ---- inside a bar -------------------------------------------------------------------------------------------

    def _within(self, market: MarketState, bar: Bar, mark: Bar, reports: list[ExecutionReport]) -> None:
        tradable = self._tradable(bar)
        budget = self._share_of(bar.volume)
        left_over = list(market.waiting)
        if tradable and market.stops:
            budget = self._stops(market, bar, mark, budget, reports)
        if market.qty:
            self._liquidate_if_due(market, mark, reports, bar.ts_ns)
        if tradable and market.limits:
            budget = self._limits(market, bar, budget, reports)
        if tradable and market.waiting:
            for resting in left_over:
                budget = self._take_market(market, resting, bar.close, 0.0, budget, bar.ts_ns, reports)
            market.waiting = [resting for resting in market.waiting if resting.left > 0]
        self._cover_deficit(bar.ts_ns, reports)

    def _tradable(self, bar: Bar) -> bool:
        return bar.volume > 0.0 or self._frictions.trade_empty_bars

    def _share_of(self, volume: float) -> float | None:
        share = self._frictions.volume_share
        return None if share is None else share * volume

    def _stops(
        self, market: MarketState, bar: Bar, mark: Bar, budget: float | None, reports: list[ExecutionReport]
    ) -> float | None:
        high, low, opened = _units(bar.high), _units(bar.low), _units(bar.open)
        for resting in sorted(market.stops, key=lambda stop: _reach(stop, opened)):
            order, trigger = resting.order, resting.trigger
            assert trigger is not None
            if not (_passed(order, trigger, low) or _passed(order, trigger, high)):
                continue
            gapped = _passed(order, trigger, opened)
            price = bar.open if gapped else float(trigger)
            if market.qty and self._liquidate_if_due(market, mark, reports, bar.ts_ns, instead_of=price):
                return budget
            market.stops.remove(resting)
            reports.append(OrderTriggered(order.id, order.instrument, bar.ts_ns, bar.ts_ns))
            if order.reduce_only and not self._clip(market, resting, bar.ts_ns, reports):
                continue
            budget = self._take_market(market, resting, price, 0.0, budget, bar.ts_ns, reports)
            if resting.left > 0:
                resting.late = True
                market.waiting.append(resting)
        return budget

    def _limits(
        self, market: MarketState, bar: Bar, budget: float | None, reports: list[ExecutionReport]
    ) -> float | None:
        high, low = _units(bar.high), _units(bar.low)
        for resting in market.limits:
            order, limit = resting.order, resting.limit
            assert limit is not None
            at = _units_of(limit)
            touched = low <= at if order.side is _BUY else high >= at
            if not touched or order.tif in _AT_ONCE:
                continue
            if order.reduce_only and not self._clip(market, resting, bar.ts_ns, reports):
                continue
            qty = self._affordable(market, resting.left, budget)
            if qty > 0:
                self._fill(market, resting, qty, limit, limit, maker=True, now_ns=bar.ts_ns, reports=reports)
                budget = None if budget is None else budget - float(qty)
        market.limits = [resting for resting in market.limits if resting.left > 0]
        return budget

    def _crosses(
        self, market: MarketState, resting: RestingOrder, opened: float, now_ns: Nanos, reports: list[ExecutionReport]
    ) -> bool:
        """True when a new limit order may take at the open; one that must not take, or not in part, expires."""
        order, limit = resting.order, resting.limit
        assert limit is not None
        at, price = _units_of(limit), _units(opened)
        if price > at if order.side is _BUY else price < at:
            return False
        if order.tif is TimeInForce.GTX:
            expire(resting, "GTX", now_ns, reports)
            return False
        whole = self._affordable(market, resting.left, market.open_budget) == resting.left
        return whole or order.tif is not TimeInForce.FOK

    def _take_market(
        self,
        market: MarketState,
        resting: RestingOrder,
        price: float,
        adverse_frac: float,
        budget: float | None,
        now_ns: Nanos,
        reports: list[ExecutionReport],
    ) -> float | None:
        """Fill a taker order at ``price`` plus frictions, as far as the volume allows; returns what is left of it."""
        order = resting.order
        if order.reduce_only and not self._clip(market, resting, now_ns, reports):
            return budget
        qty = self._affordable(market, resting.left, budget)
        if qty <= 0:
            return budget
        slip = self._frictions.slippage.adverse_frac(float(qty), market.previous, market.half_spread_frac)
        reference = exact(price)
        paid = reference
        if slip or adverse_frac:
            move = ROUNDED.quantize(Decimal(price * (slip + adverse_frac)), market.slip_unit)
            paid = max(reference + order.side.sign * move, market.slip_unit)
            if resting.limit is not None:
                paid = min(paid, resting.limit) if order.side is _BUY else max(paid, resting.limit)
        self._fill(market, resting, qty, paid, reference, maker=False, now_ns=now_ns, reports=reports)
        return None if budget is None else budget - float(qty)

    def _affordable(self, market: MarketState, qty: Decimal, budget: float | None) -> Decimal:
        if budget is None or float(qty) <= budget:
            return qty
        return market.instrument.qty(max(budget, 0.0))

    def _clip(self, market: MarketState, resting: RestingOrder, now_ns: Nanos, reports: list[ExecutionReport]) -> bool:
        """Cut a reducing order to the position; without one to reduce it expires."""
        order, held = resting.order, market.position.qty
        if held == 0 or (held > 0) is (order.side is _BUY):
            expire(resting, "REDUCE_ONLY", now_ns, reports)
            return False
        most = resting.filled + abs(held)
        if resting.qty > most:
            resting.qty, resting.clipped = most, True
        return True

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
        fee = EXACT.multiply(EXACT.multiply(qty, price), rate)
        resting.filled += qty
        self._book(market, order.side, qty, price, fee)
        reports.append(
            OrderFilled(
                order.id,
                order.instrument,
                order.side,
                qty,
                price,
                fee,
                QUOTE,
                self._trade_ids,
                maker,
                now_ns,
                now_ns,
                _ORDER,
                reference,
            )
        )
        if resting.clipped and resting.left == 0:
            expire(resting, "REDUCE_ONLY", now_ns, reports)

    def _book(self, market: MarketState, side: Side, qty: Decimal, price: Decimal, fee: Decimal) -> None:
        realised = market.position.fill(side, qty, price, fee)
        self._wallet = EXACT.subtract(EXACT.add(self._wallet, realised), fee)
        was_flat = market.qty == 0.0
        market.shadow()
        if was_flat or market.qty == 0.0:
            self._held = [each for each in self._markets.values() if each.qty]
        self._wallet_changed()
        self._trade_ids += 1

    def _wallet_changed(self) -> None:
        """Shadow the wallet, and work out what a lone position may fall to without being looked at closely.

        Even in its highest bracket it survives while ``wallet + q p - cost - |q| p rate > 0``.
        """
        self._wallet_float = float(self._wallet)
        for market in self._held:
            market.safe_price = nan
        if len(self._held) == 1:
            (market,) = self._held
            rate = market.top_rate if market.qty > 0.0 else -market.top_rate
            market.safe_price = (market.cost - self._wallet_float) / (market.qty * (1.0 - rate))

    # ---- liquidation --------------------------------------------------------------------------------------------

    def _margin_state(self, moved: MarketState | None = None, price: float = 0.0) -> MarginState:
        """Margin balance and maintenance of the account, with one contract at another price."""
        balance, needed = self._wallet_float, 0.0
        for market in self._held:
            at = price if market is moved else market.valuation
            balance += market.qty * at - market.cost
            needed += MarginState.of_position(market.instrument, market.qty, at)
        return MarginState(balance, needed)

    def _liquidate_if_due(
        self,
        market: MarketState,
        mark: Bar,
        reports: list[ExecutionReport],
        now_ns: Nanos,
        instead_of: float | None = None,
    ) -> bool:
        """Liquidate the account if the mark price used up its margin; ``instead_of`` a stop that would fill at this
        price only when that price is past saving."""
        worst = mark.low if market.qty > 0.0 else mark.high
        if not margin_used_up(self._margin_state(market, worst)):
            return False
        if instead_of is not None and not margin_used_up(self._margin_state(market, instead_of)):
            return False
        price = takeover_price(lambda at: self._margin_state(market, at), mark.open, worst)
        self.liquidations += 1
        for each in self._markets.values():
            reports.extend(self._cancel_all(each, now_ns))
        for each in self._markets.values():
            if each.position.qty:
                at = price if each is market else each.valuation
                self._venue_fill(
                    each, exact(at), FillCause.LIQUIDATION, each.instrument.liquidation_fee, now_ns, reports
                )
        self._cover_deficit(now_ns, reports)
        return True

    def _cover_deficit(self, now_ns: Nanos, reports: list[ExecutionReport]) -> None:
        """The insurance fund fills up what an account without positions owes."""
        if self._held or self._wallet >= 0:
            return
        deficit = EXACT.minus(self._wallet)
        self._ledger.transfer(deficit)
        self._wallet, self._wallet_float = ZERO, 0.0
        reports.append(Transfer(QUOTE, deficit, now_ns, now_ns))

    def _venue_fill(
        self,
        market: MarketState,
        price: Decimal,
        cause: FillCause,
        extra_fee_frac: Decimal,
        now_ns: Nanos,
        reports: list[ExecutionReport],
    ) -> None:
        """Close a position by the venue's own act."""
        instrument, held = market.instrument, market.position.qty
        side, qty = (Side.SELL if held > 0 else _BUY), abs(held)
        fee = EXACT.multiply(EXACT.multiply(qty, price), EXACT.add(instrument.taker_fee, extra_fee_frac))
        self._book(market, side, qty, price, fee)
        name = ClientOrderId(f"{VENUE_NAMES[cause]}-{self._trade_ids}")
        reports.append(
            OrderFilled(
                name, instrument.id, side, qty, price, fee, QUOTE, self._trade_ids, False, now_ns, now_ns, cause, price
            )
        )

    def _cancel_all(self, market: MarketState, now_ns: Nanos) -> list[ExecutionReport]:
        reports: list[ExecutionReport] = []
        for queue in market.queues():
            reports.extend(
                OrderCanceled(resting.order.id, resting.order.instrument, now_ns, now_ns) for resting in queue
            )
            queue.clear()
        return reports

    def _find(self, instrument: InstrumentId, name: ClientOrderId) -> RestingOrder | None:
        for queue in self._markets[instrument].queues():
            for resting in queue:
                if resting.order.id == name:
                    return resting
        return None

    def _take(self, instrument: InstrumentId, name: ClientOrderId) -> RestingOrder | None:
        resting = self._find(instrument, name)
        if resting is not None:
            for queue in self._markets[instrument].queues():
                if resting in queue:
                    queue.remove(resting)
        return resting


_CONDITIONAL = (OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET)
_AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)


def expire(resting: RestingOrder, reason: str, now_ns: Nanos, reports: list[ExecutionReport]) -> None:
    """End what is left of an order."""
    resting.qty = resting.filled
    reports.append(OrderExpired(resting.order.id, resting.order.instrument, reason, now_ns, now_ns))


def _off_grid(
    instrument: Instrument, qty: Decimal, most: Decimal, limit: Decimal | None, trigger: Decimal | None
) -> tuple[str, str] | None:
    if qty < instrument.min_qty or qty > most or qty % instrument.step:
        return "LOT_SIZE", f"quantity {qty} is not a lot of {instrument.step} up to {most}"
    for name, value in (("limit", limit), ("trigger", trigger)):
        if value is None:
            continue
        if value <= 0 or value % instrument.tick:
            return "PRICE_FILTER", f"{name} {value} is not on the tick of {instrument.tick}"
        if not instrument.min_price <= value <= instrument.max_price:
            return "PRICE_FILTER", f"{name} {value} is not in {instrument.min_price} to {instrument.max_price}"
    return None


def _beyond_band(instrument: Instrument, side: Side, limit: Decimal | None, price: float) -> tuple[str, str] | None:
    if limit is None or not price:
        return None
    beyond = (float(limit) / price - 1.0) * side.sign
    if beyond > instrument.price_band_frac + 1e-9:
        return "PERCENT_PRICE", f"limit {limit} is {beyond:.1%} through the price {price}"
    return None


def _exposure(market: MarketState, extra: float = 0.0) -> float:
    """The larger of what the position becomes if all buys, or all sells, fill, with one more order of ``extra``."""
    if not (market.waiting or market.limits):
        return max(abs(market.qty), abs(market.qty + extra))
    buys, sells = max(extra, 0.0), max(-extra, 0.0)
    for queue in (market.waiting, market.limits):
        for resting in queue:
            if not resting.order.reduce_only:
                if resting.order.side is _BUY:
                    buys += float(resting.left)
                else:
                    sells += float(resting.left)
    return max(abs(market.qty + buys), abs(market.qty - sells))


def _reach(stop: RestingOrder, opened: int) -> tuple[bool, int]:
    """Stops before take-profits, the nearest to the open first: of two in one bar the worse is assumed."""
    assert stop.trigger is not None
    return stop.order.order_type is OrderType.TAKE_PROFIT_MARKET, abs(_units_of(stop.trigger) - opened)


VENUE_NAMES = {
    FillCause.LIQUIDATION: "autoclose",
    FillCause.DELEVERAGING: "adl_autoclose",
    FillCause.SETTLEMENT: "settlement",
}


def trigger_passed(resting: RestingOrder, price: Decimal) -> bool:
    """True when ``price`` has reached the trigger of a conditional order."""
    return resting.trigger is not None and _passed(resting.order, resting.trigger, _units_of(price))


def _passed(order: AnyOrder, trigger: Decimal, price_units: int) -> bool:
    """True when a price has reached the trigger from the side on which the order waits."""
    above = (order.side is _BUY) is (order.order_type is OrderType.STOP_MARKET)
    at = _units_of(trigger)
    return price_units >= at if above else price_units <= at
