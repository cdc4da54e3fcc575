"""One account of the local exchange: a wallet and a matching core of its own, its orders, its books, its stream.

What the core reports becomes the venue's orders, trades, income lines and user events here, with the account as it
was right after each.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from tidegate.adapters.localnet import events
from tidegate.adapters.localnet.algo import AlgoBook
from tidegate.adapters.localnet.algo_orders import AlgoOrder
from tidegate.adapters.localnet.auth import Credentials
from tidegate.adapters.localnet.books import Ids, Income, Prices, Trade, leg_of, split_leg, touch_of
from tidegate.adapters.localnet.errors import ApiError, from_core
from tidegate.adapters.localnet.events import Fill
from tidegate.adapters.localnet.orders import Order, OrderStore, Places
from tidegate.adapters.localnet.symbols import SymbolInfo
from tidegate.adapters.localnet.wire import millis
from tidegate.domain.account import FundingPaid, Transfer
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.ledger import CENT, EXACT, ROUNDED, ZERO
from tidegate.domain.market import FundingRate
from tidegate.domain.messages import ExecutionReport
from tidegate.domain.orders import (
    CancelOrder,
    FillCause,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderType,
    PositionSide,
    TimeInForce,
)
from tidegate.ports import Clock
from tidegate.simulator.tickets import Change, Ticket
from tidegate.simulator.ticks import TickExchange, TickExchangeState, Touch

Json = dict[str, Any]
Listener = Callable[[Json], None]

_BNB_DISCOUNT: Final = Decimal("0.9")
_EXPIRY: Final = {"IOC": "2", "FOK": "2", "REDUCE_ONLY": "4", "LIQUIDATION": "5", "DELISTED": "7", "MARKET": "9"}
_CALL_AT, _CALM_AT = 0.8, 0.7  # maintenance over balance at which a margin call goes out, and is armed again


class AccountState(msgspec.Struct, kw_only=True):
    """An account as it is kept. The algo orders hold their children; the store has them too."""

    orders: list[Order]
    algo_orders: list[AlgoOrder]
    trades: list[Trade]
    income: list[Income]
    margin_changes: list[Json]
    dual_side: bool
    multi_assets: bool
    fee_burn: bool
    assets: dict[str, Decimal]
    permissions: dict[str, bool]
    created_ms: int
    exchange: TickExchangeState
    realised: dict[InstrumentId, Decimal]
    open_fees: dict[InstrumentId, Decimal]
    updated_ms: dict[InstrumentId, int]


class Account:
    """One account. Change its settings through the methods; read its fields freely."""

    def __init__(
        self, credentials: Credentials, prices: Prices, ids: Ids, clock: Clock, deposit: Decimal, leverage: int = 20
    ) -> None:
        self.credentials = credentials
        self.key = credentials.key
        self.prices = prices
        self.ids = ids
        self.clock = clock
        self.orders = OrderStore()
        self.trades: list[Trade] = []
        self.income: list[Income] = []
        self.margin_changes: list[Json] = []
        self.dual_side = False
        self.multi_assets = False
        self.fee_burn = True
        self.assets: dict[str, Decimal] = {"BNB": ZERO}
        self.permissions: dict[str, bool] = {"enableReading": True, "enableFutures": True, "enableWithdrawals": False}
        self.created_ms = millis(clock.now_ns())
        legs = [
            msgspec.structs.replace(listed.instrument, id=leg_of(symbol, side))
            for symbol, listed in prices.symbols.items()
            for side in PositionSide
        ]
        self.exchange = TickExchange(legs, deposit, self._heard, leverage=leverage, fee_payer=self._pay_fee)
        self.algo = AlgoBook(self)
        self._listeners: list[Listener] = []
        self._realised: dict[InstrumentId, Decimal] = {}
        self.open_fees: dict[InstrumentId, Decimal] = {}
        self.updated_ms: dict[InstrumentId, int] = {}
        self._transfer = ("INSURANCE_CLEAR", "INSURANCE_CLEAR")
        self._called = False
        self._countdowns: dict[str, asyncio.TimerHandle] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        for symbol in prices.symbols:
            self.see(symbol, touch_of(prices, symbol))
        self._book_income("", "TRANSFER", deposit, "USDT", "TRANSFER")

    # ---- the stream ---------------------------------------------------------------------------------------------

    def subscribe(self, callback: Listener) -> Callable[[], None]:
        """Hear every user event; returns what ends it."""
        self._listeners.append(callback)

        def end() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return end

    def events(self, event: Json) -> None:
        """Tell all listeners one event."""
        for listener in list(self._listeners):
            listener(event)

    # ---- state --------------------------------------------------------------------------------------------------

    def dump(self) -> AccountState:
        """Everything that a later process needs to be the same account."""
        return AccountState(
            orders=list(self.orders.all()),
            algo_orders=self.algo.dump(),
            trades=self.trades,
            income=self.income,
            margin_changes=self.margin_changes,
            dual_side=self.dual_side,
            multi_assets=self.multi_assets,
            fee_burn=self.fee_burn,
            assets=self.assets,
            permissions=self.permissions,
            created_ms=self.created_ms,
            exchange=self.exchange.dump(),
            realised=self._realised,
            open_fees=self.open_fees,
            updated_ms=self.updated_ms,
        )

    def load(self, state: AccountState) -> None:
        """Become the account that was kept. Timers of good-till-date orders and countdowns begin anew."""
        self.orders.load(state.orders)
        for order in state.algo_orders:
            if order.child is not None:  # the same object as in the store
                order.child = self.orders.number(order.child.order_id)
        self.algo.load(state.algo_orders)
        self.trades[:], self.income[:], self.margin_changes[:] = state.trades, state.income, state.margin_changes
        self.dual_side, self.multi_assets, self.fee_burn = state.dual_side, state.multi_assets, state.fee_burn
        self.assets, self.permissions, self.created_ms = state.assets, state.permissions, state.created_ms
        self.exchange.load(state.exchange)
        self._realised, self.open_fees, self.updated_ms = state.realised, state.open_fees, state.updated_ms
        for symbol in self.prices.symbols:
            self.see(symbol, touch_of(self.prices, symbol))

    # ---- the market ---------------------------------------------------------------------------------------------

    def legs(self, symbol: str) -> tuple[InstrumentId, ...]:
        """The positions of a symbol that the position mode knows."""
        if self.dual_side:
            return leg_of(symbol, PositionSide.LONG), leg_of(symbol, PositionSide.SHORT)
        return (leg_of(symbol, PositionSide.BOTH),)

    def see(self, symbol: str, touch: Touch) -> None:
        """Take prices in, without acting on them."""
        for leg in self.legs(symbol):
            self.exchange.see(leg, touch)

    def on_price(self, symbol: str, touch: Touch, now_ns: Nanos) -> None:
        """The market moved: conditional orders trigger, resting orders fill, the margin is checked."""
        self.see(symbol, touch)
        self.algo.on_price(symbol, touch)
        for leg in self.legs(symbol):
            self.exchange.act(leg, now_ns)
        self._warn(now_ns)

    def fund(self, symbol: str, rate: Decimal, mark: Decimal, now_ns: Nanos) -> None:
        """Pay a funding settlement on what is held of a symbol."""
        for leg in self.legs(symbol):
            self.exchange.set_mark(leg, float(mark))
            self.exchange.fund(FundingRate(leg, now_ns, now_ns, float(rate)))

    def _warn(self, now_ns: Nanos) -> None:
        ratio = self.exchange.margin_ratio
        if ratio < _CALM_AT:
            self._called = False
        elif ratio >= _CALL_AT and not self._called:
            self._called = True
            rows = [
                events.margin_call_row(*split_leg(leg), margin)
                for leg, margin in self.exchange.margins().legs.items()
                if margin.qty
            ]
            self.events(events.margin_call(millis(now_ns), self.exchange.margins().cross_wallet, rows))

    # ---- orders -------------------------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """The venue's time."""
        return millis(self.clock.now_ns())

    def symbol(self, name: str) -> SymbolInfo:
        """A listed contract. Raises ``ApiError`` -1121."""
        listed = self.prices.symbols.get(name)
        if listed is None:
            raise ApiError(-1121)
        return listed

    def check(self, order: Order) -> None:
        """Raise ``ApiError`` when the matching core would refuse an order now."""
        refused = self.exchange.refusal(_ticket(order))
        if refused is not None:
            raise from_core(*refused)

    def submit(self, order: Order) -> Order:
        """Hand an order to the matching core; it may be final on return. Raises ``ApiError``, then it never was."""
        self.check(order)
        self.orders.add(order)
        self.exchange.submit(_ticket(order), self.clock.now_ns())
        if order.good_till_ms and order.open:
            delay_s = (order.good_till_ms - self.now_ms) / 1000
            self._timers[order.order_id] = asyncio.get_running_loop().call_later(delay_s, self._lapse, order)
        return order

    def cancel(self, order: Order) -> None:
        """Cancel an open order."""
        self.exchange.cancel(CancelOrder(order.core_id, order.instrument), self.clock.now_ns())
        if order.open:  # the core had nothing of it left
            self._close(order, "CANCELED", "CANCELED")

    def amend(self, order: Order, qty: Decimal, price: Decimal) -> None:
        """Change an open order. Raises ``ApiError`` and leaves it as it is when the core refuses."""
        change = Change(order.core_id, order.instrument, qty, price)
        refused = self.exchange.change_refusal(change)
        if refused is not None:
            raise from_core(*refused)
        self.exchange.amend(change, self.clock.now_ns())

    def cancel_all(self, symbol: str | None = None) -> int:
        """Cancel every open ordinary order (of a symbol); says how many."""
        gone = self.orders.open_orders(symbol)
        for order in gone:
            self.cancel(order)
        return len(gone)

    def countdown(self, symbol: str, after_ms: int) -> None:
        """Cancel all ordinary orders of a symbol after a time, unless called again before; zero stops the timer."""
        running = self._countdowns.pop(symbol, None)
        if running is not None:
            running.cancel()
        if after_ms > 0:
            loop = asyncio.get_running_loop()
            self._countdowns[symbol] = loop.call_later(after_ms / 1000, self._count_down, symbol)

    def _count_down(self, symbol: str) -> None:
        self._countdowns.pop(symbol, None)
        self.cancel_all(symbol)

    def _lapse(self, order: Order) -> None:
        self._timers.pop(order.order_id, None)
        if order.open:
            self.exchange.expire_order(order.instrument, order.core_id, "GTD", self.clock.now_ns())

    def close(self) -> None:
        """Stop all timers."""
        for timer in (*self._countdowns.values(), *self._timers.values()):
            timer.cancel()
        self._countdowns.clear()
        self._timers.clear()

    # ---- the venue's own acts -----------------------------------------------------------------------------------

    def take_over(
        self, symbol: str, cause: FillCause, *, qty: Decimal | None = None, price: Decimal | None = None
    ) -> bool:
        """Liquidate, deleverage or settle what is held of a symbol, or ``qty`` of it; False when nothing is held."""
        held = [leg for leg in self.legs(symbol) if self.exchange.leg_margin(leg).qty]
        for leg in held:
            self.exchange.take_over(leg, cause, self.clock.now_ns(), qty=qty, price=price)
        return bool(held)

    def settle(self, symbol: str) -> None:
        """The contract ends: orders expire, positions are closed at the last price."""
        for leg in self.legs(symbol):
            self.exchange.settle(leg, self.clock.now_ns())
        self.algo.expire_all(symbol)

    def deposit(self, asset: str, amount: Decimal) -> None:
        """Money put in, or taken out when negative."""
        if asset == "USDT":
            self._transfer = ("DEPOSIT" if amount >= 0 else "WITHDRAW", "TRANSFER")
            try:
                self.exchange.deposit(amount, self.clock.now_ns())
            finally:
                self._transfer = ("INSURANCE_CLEAR", "INSURANCE_CLEAR")
            return
        self.assets[asset] = held = EXACT.add(self.assets.get(asset, ZERO), amount)
        self._book_income("", "TRANSFER", amount, asset, "TRANSFER")
        reason = "DEPOSIT" if amount >= 0 else "WITHDRAW"
        self.events(events.account_update(reason, self.now_ms, [events.balance_row(asset, held, held, amount)], []))

    # ---- settings -----------------------------------------------------------------------------------------------

    def set_leverage(self, symbol: str, leverage: int) -> None:
        """Set the leverage of a symbol."""
        for side in PositionSide:
            self.exchange.terms(leg_of(symbol, side)).leverage = leverage
        self.events(events.leverage_update(symbol, leverage, self.now_ms))

    def set_isolated(self, symbol: str, isolated: bool) -> None:
        """Set the margin type of a symbol that has neither position nor orders."""
        for side in PositionSide:
            self.exchange.terms(leg_of(symbol, side)).isolated = isolated

    def set_dual_side(self, dual_side: bool) -> None:
        """Set the position mode of an account without positions and orders."""
        self.dual_side = dual_side
        for symbol in self.prices.symbols:
            self.see(symbol, touch_of(self.prices, symbol))

    def relist(self, symbol: str, instrument: Instrument, *, trading: bool = True) -> None:
        """The contract's filters, fees, brackets or status have changed."""
        for side in PositionSide:
            leg = leg_of(symbol, side)
            self.exchange.relist(msgspec.structs.replace(instrument, id=leg))
            self.exchange.reopen(leg, closed=not trading)

    def move_margin(self, leg: InstrumentId, amount: Decimal) -> None:
        """Put money into an isolated position, or take it out when negative."""
        symbol, side = split_leg(leg)
        terms = self.exchange.terms(leg)
        terms.wallet = EXACT.add(terms.wallet, amount)
        self.margin_changes.append(
            {
                "symbol": symbol,
                "type": 1 if amount > 0 else 2,
                "deltaType": "USER_ADJUST",
                "amount": str(abs(amount)),
                "asset": "USDT",
                "time": self.now_ms,
                "positionSide": side.value,
            }
        )
        self._tell_account("MARGIN_TRANSFER", leg)

    # ---- what the core reports ----------------------------------------------------------------------------------

    def _heard(self, report: ExecutionReport) -> None:
        match report:
            case OrderFilled():
                self._filled(report)
            case OrderAccepted():
                self._tell_order(self._order(report.id), "NEW")
            case OrderCanceled():
                self._close(self._order(report.id), "CANCELED", "CANCELED")
            case OrderExpired():
                order = self._order(report.id)
                if order.open:
                    self._close(order, "EXPIRED", "EXPIRED", _EXPIRY.get(report.reason, "0"))
            case OrderAmended():
                order = self._order(report.id)
                order.qty, order.price = report.qty, report.limit or order.price
                order.updated_ms = self.now_ms
                self._tell_order(order, "AMENDMENT")
            case FundingPaid():
                self._funded(report)
            case Transfer():
                reason, kind = self._transfer
                self._book_income("", kind, report.amount, "USDT", kind)
                self._tell_account(reason, change=report.amount)
            case _:
                pass

    def _order(self, core_id: str) -> Order:
        order = self.orders.number(int(core_id))
        assert order is not None
        return order

    def _filled(self, report: OrderFilled) -> None:
        by_venue = report.cause is not FillCause.ORDER
        order = self._venue_order(report) if by_venue else self._order(report.id)
        leg, now_ms = report.instrument, self.now_ms
        held = self.exchange.ledger.position(leg)
        realised = held.realised - self._realised.get(leg, ZERO)
        self._realised[leg] = held.realised
        self.updated_ms[leg] = order.updated_ms = now_ms
        self.open_fees[leg] = self.open_fees.get(leg, ZERO) + (report.fee if report.fee_asset == "USDT" else ZERO)
        if not held.qty:
            self.open_fees[leg] = ZERO
        order.executed += report.qty
        order.quote += report.qty * report.price
        order.status = "FILLED" if order.executed >= order.qty else "PARTIALLY_FILLED"
        fill = Fill(
            self.ids.trade(order.symbol),
            report.qty,
            report.price,
            report.fee,
            report.fee_asset,
            ROUNDED.quantize(realised, CENT),
            maker=report.maker,
        )
        self._book_trade(order, fill, report.cause, now_ms)
        if not by_venue:
            self.events(events.trade_lite(order, fill, now_ms))
        self._tell_account("ORDER", leg, assets=() if fill.asset == "USDT" else (fill.asset,))
        called = report.cause in (FillCause.LIQUIDATION, FillCause.DELEVERAGING)
        self._tell_order(order, "CALCULATED" if called else "TRADE", fill)
        if not order.open:
            self._ended(order)

    def _venue_order(self, report: OrderFilled) -> Order:
        """The order by which the venue itself closes a position."""
        symbol, side = split_leg(report.instrument)
        now_ms, order_id = self.now_ms, self.ids.order()
        client_id = {
            FillCause.LIQUIDATION: f"autoclose-{order_id}",
            FillCause.DELEVERAGING: "adl_autoclose",
            FillCause.SETTLEMENT: f"settlement_autoclose-{order_id}",
        }[report.cause]
        order = Order(
            order_id,
            client_id,
            symbol,
            report.instrument,
            report.side,
            side,
            "LIMIT",
            "IOC",
            report.qty,
            report.price,
            Places.of(self.prices.symbols[symbol].info),
            now_ms,
            now_ms,
        )
        self.orders.add(order)
        self._tell_order(order, "NEW")
        return order

    def _book_trade(self, order: Order, fill: Fill, cause: FillCause, now_ms: int) -> None:
        self.trades.append(
            Trade(
                order.symbol,
                fill.trade_id,
                order.order_id,
                order.client_id,
                order.side,
                order.position_side,
                fill.price,
                fill.qty,
                fill.realised,
                fill.fee,
                fill.asset,
                fill.maker,
                now_ms,
                cause,
            )
        )
        trade_id = str(fill.trade_id)
        if fill.realised:
            self._book_income(order.symbol, "REALIZED_PNL", fill.realised, "USDT", trade_id, trade_id)
        clearance = ZERO
        if cause is FillCause.LIQUIDATION:
            rate = self.prices.symbols[order.symbol].instrument.liquidation_fee
            clearance = ROUNDED.quantize(fill.qty * fill.price * rate, CENT)
            self._book_income(order.symbol, "INSURANCE_CLEAR", -clearance, "USDT", trade_id, trade_id)
        if fill.fee - clearance:
            self._book_income(order.symbol, "COMMISSION", clearance - fill.fee, fill.asset, trade_id, trade_id)

    def _funded(self, report: FundingPaid) -> None:
        symbol, _ = split_leg(report.instrument)
        self._book_income(symbol, "FUNDING_FEE", report.amount, "USDT", "FUNDING_FEE")
        isolated = self.exchange.terms(report.instrument).isolated
        self._tell_account("FUNDING_FEE", report.instrument if isolated else None, change=report.amount, symbol=symbol)

    def _book_income(self, symbol: str, kind: str, amount: Decimal, asset: str, info: str, trade_id: str = "") -> None:
        line = Income(symbol, kind, amount, asset, info, self.now_ms, self.ids.transaction(), trade_id)
        self.income.append(line)

    def _pay_fee(self, fee: Decimal) -> tuple[str, Decimal] | None:
        """Pay a fee in BNB with the discount, when burning is on and enough is held."""
        if not self.fee_burn or not self.assets["BNB"] or "BNBUSDT" not in self.prices.symbols:
            return None
        due = ROUNDED.quantize(fee * _BNB_DISCOUNT / self.prices.last("BNBUSDT"), CENT)
        if due > self.assets["BNB"]:
            return None
        self.assets["BNB"] -= due
        return "BNB", due

    def _close(self, order: Order, status: str, execution: str, reason: str = "0") -> None:
        order.status = status
        order.updated_ms = self.now_ms
        self._tell_order(order, execution, reason=reason)
        self._ended(order)

    def _ended(self, order: Order) -> None:
        self.orders.closed(order)
        timer = self._timers.pop(order.order_id, None)
        if timer is not None:
            timer.cancel()
        self.algo.child_ended(order)

    def _tell_order(self, order: Order, execution: str, fill: Fill | None = None, reason: str = "0") -> None:
        leg = self.exchange.leg_margin(order.instrument)
        self.events(events.order_update(order, execution, self.now_ms, leg, fill, reason))

    def _tell_account(
        self,
        reason: str,
        leg: InstrumentId | None = None,
        *,
        change: Decimal = ZERO,
        assets: tuple[str, ...] = (),
        symbol: str = "",
    ) -> None:
        cross = self.exchange.cross_wallet
        balances = [events.balance_row("USDT", self.exchange.wallet, cross, change)]
        balances += [events.balance_row(asset, self.assets[asset], self.assets[asset]) for asset in assets]
        positions = [] if leg is None else [self.position_row(leg)]
        self.events(events.account_update(reason, self.now_ms, balances, positions, symbol))

    def position_row(self, leg: InstrumentId) -> Json:
        """A position as ACCOUNT_UPDATE tells it."""
        symbol, side = split_leg(leg)
        held, margin = self.exchange.ledger.position(leg), self.exchange.leg_margin(leg)
        entry = held.entry_price or ZERO
        return events.position_row(symbol, side, margin, entry, self.break_even(leg), held.realised)

    def break_even(self, leg: InstrumentId) -> Decimal:
        """Entry price shifted by the fees paid for the position; zero without one."""
        held = self.exchange.ledger.position(leg)
        if not held.qty:
            return ZERO
        return ROUNDED.divide(held.cost + self.open_fees.get(leg, ZERO), held.qty)


def _ticket(order: Order) -> Ticket:
    tif = TimeInForce.GTC if order.tif == "GTD" else TimeInForce(order.tif)
    market = order.kind == "MARKET"
    return Ticket(
        order.core_id,
        order.instrument,
        order.side,
        order.qty,
        OrderType.MARKET if market else OrderType.LIMIT,
        None if market else order.price,
        None,
        tif,
        order.reduce_only,
    )
