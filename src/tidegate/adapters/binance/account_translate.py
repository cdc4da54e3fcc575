"""From the wire of the account side to our words: pure functions, but for the names of orders that they learn.

Nothing here decides what an event means for the account: fills are keyed by trade id, and may come twice.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final

from tidegate.adapters.binance.account_schemas import (
    AlgoRow,
    BadEvent,
    BalanceRow,
    Count,
    IncomeRow,
    OrderRow,
    PositionRow,
    SymbolConfigRow,
    TradeRow,
    flag,
    integer,
)
from tidegate.adapters.binance.order_names import OrderNames
from tidegate.adapters.binance.user_events import AlgoUpdate, OrderTradeDetail, OrderTradeUpdate
from tidegate.domain.account import Balance, ContractSetting, FundingPaid, Income, OpenOrder, Position, Transfer
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.orders import (
    FillCause,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderReport,
    OrderTriggered,
    OrderType,
    PositionSide,
    RejectCause,
    Side,
)

MS: Final = 1_000_000
"""Nanoseconds in a millisecond."""

QUOTE_ASSET: Final = "USDT"
FeePrice = Callable[[str], Decimal | None]
"""USDT for one unit of an asset, as far as it is known."""

_ZERO: Final = Decimal(0)
_CAUSES: Final = (
    ("autoclose-", FillCause.LIQUIDATION),
    ("adl_autoclose", FillCause.DELEVERAGING),
    ("settlement_autoclose", FillCause.SETTLEMENT),
    ("delivery_autoclose", FillCause.SETTLEMENT),
)
_EXPIRY: Final = {
    "0": "expired",
    "1": "self-trade prevention",
    "2": "rest of an immediate order",
    "3": "immediate order and self-trade prevention",
    "4": "knocked out reduce-only",
    "5": "liquidation",
    "6": "its position is gone",
    "7": "delisting",
    "8": "stop order after its trigger",
    "9": "rest of a market order",
}
_TYPES: Final = {
    "LIMIT": OrderType.LIMIT,
    "MARKET": OrderType.MARKET,
    "STOP": OrderType.STOP_MARKET,
    "STOP_MARKET": OrderType.STOP_MARKET,
    "TRAILING_STOP_MARKET": OrderType.STOP_MARKET,
    "TAKE_PROFIT": OrderType.TAKE_PROFIT_MARKET,
    "TAKE_PROFIT_MARKET": OrderType.TAKE_PROFIT_MARKET,
}
_FUNDING: Final = frozenset({"FUNDING_FEE", "SPECIAL_FUNDING_FEE"})
_TRANSFERS: Final = frozenset({"TRANSFER", "INTERNAL_TRANSFER"})
_IN_FILLS: Final = frozenset({"COMMISSION", "REALIZED_PNL"})

# ---- orders ----------------------------------------------------------------------------------------------------------


def fill_cause(client_id: str) -> FillCause:
    """Why an order of this client id exists: the venue's own orders have names of their own."""
    for prefix, cause in _CAUSES:
        if client_id.startswith(prefix):
            return cause
    return FillCause.ORDER


def order_reports(
    event: OrderTradeUpdate, names: OrderNames, recv_ns: Nanos, fee_price: FeePrice, count: Count
) -> list[OrderReport]:
    """What ORDER_TRADE_UPDATE says: usually one report, none for an event that changes nothing."""
    order = event.order
    symbol, order_id = order.symbol or "", integer(order.order_id)
    ts_ns = (order.trade_time_ms or event.trade_ms or event.event_ms or 0) * MS
    own = order.client_id or f"venue-{order_id}"
    id_ = names.parent(symbol, order_id) or ClientOrderId(own)
    instrument = InstrumentId(symbol)
    if order_id is not None:
        names.placed(symbol, order_id, own)
    if order.last_qty and integer(order.trade_id) and order.execution not in _NO_FILL:
        if order.execution not in _FILLS:
            count(f"execution type {order.execution}")
        return [_event_fill(order, id_, ts_ns, recv_ns, fee_price)]
    child = names.parent(symbol, order_id) is not None or _is_conditional(names, id_)
    match order.execution:
        case "NEW" if order.status == "REJECTED":
            return [
                OrderRejected(id_, instrument, "REJECTED", "rejected by the venue", ts_ns, recv_ns, RejectCause.OTHER)
            ]
        case "NEW" if child:
            return [OrderTriggered(id_, instrument, ts_ns, recv_ns)]
        case "NEW":
            return [OrderAccepted(id_, instrument, order_id or 0, ts_ns, recv_ns)]
        case "CANCELED":
            return [OrderCanceled(id_, instrument, ts_ns, recv_ns)]
        case "EXPIRED":
            return [OrderExpired(id_, instrument, _expiry(order.expiry_reason), ts_ns, recv_ns)]
        case "AMENDMENT":
            qty, limit, trigger = order.qty or _ZERO, order.price or None, order.stop_price or None
            return [OrderAmended(id_, instrument, qty, limit, trigger, ts_ns, recv_ns)]
        case "TRADE" | "CALCULATED":
            count(f"{order.execution} without a quantity")
            return []
        case unknown:
            count(f"execution type {unknown}")
            return _by_status(order, id_, ts_ns, recv_ns)


_FILLS: Final = frozenset({"TRADE", "CALCULATED"})
_NO_FILL: Final = frozenset({"NEW", "CANCELED", "EXPIRED", "AMENDMENT"})


def _is_conditional(names: OrderNames, id_: ClientOrderId) -> bool:
    known = names.known(id_)
    return known is not None and known.conditional


def _expiry(reason: int | str | None) -> str:
    text = str(reason) if reason is not None else "0"
    return _EXPIRY.get(text, f"expired, reason {text}")


def _by_status(order: OrderTradeDetail, id_: ClientOrderId, ts_ns: Nanos, recv_ns: Nanos) -> list[OrderReport]:
    """An execution type that nobody has told us of: the status speaks."""
    instrument = InstrumentId(order.symbol or "")
    match order.status:
        case "CANCELED":
            return [OrderCanceled(id_, instrument, ts_ns, recv_ns)]
        case "EXPIRED" | "EXPIRED_IN_MATCH":
            return [OrderExpired(id_, instrument, _expiry(order.expiry_reason), ts_ns, recv_ns)]
        case "REJECTED":
            return [
                OrderRejected(id_, instrument, "REJECTED", "rejected by the venue", ts_ns, recv_ns, RejectCause.OTHER)
            ]
        case _:
            return []


def _event_fill(
    order: OrderTradeDetail, id_: ClientOrderId, ts_ns: Nanos, recv_ns: Nanos, fee_price: FeePrice
) -> OrderFilled:
    cause = fill_cause(order.client_id or "")
    if cause is FillCause.ORDER and order.execution == "CALCULATED":
        cause = FillCause.LIQUIDATION
    asset = order.fee_asset or QUOTE_ASSET
    return OrderFilled(
        id_,
        InstrumentId(order.symbol or ""),
        side(order.side),
        order.last_qty or _ZERO,
        order.last_price or _ZERO,
        order.fee or _ZERO,
        asset,
        integer(order.trade_id) or 0,
        bool(order.maker),
        ts_ns,
        recv_ns,
        cause,
        None,
        position_side(order.position_side),
        None if asset == QUOTE_ASSET else fee_price(asset),
    )


def trade_fill(row: TradeRow, id_: ClientOrderId, cause: FillCause, recv_ns: Nanos, fee_price: FeePrice) -> OrderFilled:
    """An execution of the trade list, under the client id that its order has."""
    asset = row.commission_asset or QUOTE_ASSET
    return OrderFilled(
        id_,
        InstrumentId(row.symbol or ""),
        side(row.side),
        row.qty or _ZERO,
        row.price or _ZERO,
        row.commission or _ZERO,
        asset,
        integer(row.id) or 0,
        flag(row.maker),
        (integer(row.time) or 0) * MS,
        recv_ns,
        cause,
        None,
        position_side(row.position_side),
        None if asset == QUOTE_ASSET else fee_price(asset),
    )


def algo_reports(event: AlgoUpdate, names: OrderNames, recv_ns: Nanos, count: Count) -> list[OrderReport]:
    """What ALGO_UPDATE says of a conditional order. FINISHED says nothing by itself: its child tells how it ended."""
    order = event.order
    ts_ns = max(event.event_ms or 0, event.trade_ms or 0) * MS
    row = AlgoRow(
        symbol=order.symbol,
        algo_id=order.algo_id,
        client_algo_id=order.client_id,
        algo_status=order.status,
        actual_order_id=order.actual_order_id,
        msg=order.reason,
    )
    return algo_row_reports(row, names, ts_ns, recv_ns, count)


def algo_row_reports(row: AlgoRow, names: OrderNames, ts_ns: Nanos, recv_ns: Nanos, count: Count) -> list[OrderReport]:
    """Where a conditional order stands. A child that is named is remembered; its own state is asked for elsewhere."""
    symbol, id_ = row.symbol or "", ClientOrderId(row.client_algo_id or f"venue-{row.algo_id}")
    instrument = InstrumentId(symbol)
    child = integer(row.actual_order_id)
    if child:
        names.triggered(symbol, child, id_)
    match row.algo_status:
        case "NEW":
            return [OrderAccepted(id_, instrument, integer(row.algo_id) or 0, ts_ns, recv_ns)]
        case "TRIGGERING" | "TRIGGERED" | "FINISHED":
            return [OrderTriggered(id_, instrument, ts_ns, recv_ns)]
        case "CANCELED":
            names.closed(id_)
            return [OrderCanceled(id_, instrument, ts_ns, recv_ns)]
        case "EXPIRED":
            names.closed(id_)
            return [OrderExpired(id_, instrument, row.msg or "expired", ts_ns, recv_ns)]
        case "REJECTED":
            names.closed(id_)
            reason = row.msg or "rejected at its trigger"
            return [OrderRejected(id_, instrument, "REJECTED", reason, ts_ns, recv_ns, _trigger_cause(reason))]
        case unknown:
            count(f"algo status {unknown}")
            return []


def _trigger_cause(reason: str) -> RejectCause:
    text = reason.lower()
    if "reduce" in text:
        return RejectCause.REDUCE_ONLY
    return RejectCause.MARGIN if "margin" in text else RejectCause.OTHER


def row_end(row: OrderRow, id_: ClientOrderId, ts_ns: Nanos, recv_ns: Nanos, count: Count) -> OrderReport | None:
    """The end that an ordinary order came to, other than by fills; ``None`` while it works and when it is filled."""
    instrument = InstrumentId(row.symbol or "")
    match row.status:
        case "NEW" | "PARTIALLY_FILLED" | "FILLED" | "PENDING_CANCEL":
            return None
        case "CANCELED":
            return OrderCanceled(id_, instrument, ts_ns, recv_ns)
        case "EXPIRED" | "EXPIRED_IN_MATCH":
            return OrderExpired(id_, instrument, "expired", ts_ns, recv_ns)
        case "REJECTED":
            return OrderRejected(id_, instrument, "REJECTED", "rejected", ts_ns, recv_ns, RejectCause.OTHER)
        case unknown:
            count(f"order status {unknown}")
            return None


def side(text: str | None) -> Side:
    """BUY or SELL. Raises ``BadEvent`` for anything else: there is no third."""
    if text not in ("BUY", "SELL"):
        raise BadEvent(f"an order has the side {text!r}, which is neither BUY nor SELL")
    return Side(text)


def position_side(text: str | None) -> PositionSide:
    """LONG or SHORT in hedge mode; BOTH for everything else."""
    return PositionSide(text) if text in ("LONG", "SHORT") else PositionSide.BOTH


# ---- the account -----------------------------------------------------------------------------------------------------


def open_order(row: OrderRow, count: Count) -> OpenOrder:
    """An ordinary order that rests."""
    return OpenOrder(
        ClientOrderId(row.client_order_id or f"venue-{row.order_id}"),
        integer(row.order_id) or 0,
        InstrumentId(row.symbol or ""),
        side(row.side),
        row.orig_qty or _ZERO,
        row.executed_qty or _ZERO,
        _order_type(row.type, count),
        row.price or None,
        row.stop_price or None,
        flag(row.reduce_only) or flag(row.close_position),
        position_side(row.position_side),
    )


def open_algo(row: AlgoRow, count: Count) -> OpenOrder:
    """A conditional order that waits. One that closes the whole position has no quantity of its own: 0."""
    return OpenOrder(
        ClientOrderId(row.client_algo_id or f"venue-{row.algo_id}"),
        integer(row.algo_id) or 0,
        InstrumentId(row.symbol or ""),
        side(row.side),
        row.quantity or _ZERO,
        _ZERO,
        _order_type(row.order_type, count),
        row.price or None,
        row.trigger_price or None,
        flag(row.reduce_only) or flag(row.close_position),
        position_side(row.position_side),
    )


def _order_type(text: str | None, count: Count) -> OrderType:
    """The nearest of our four types; a conditional type that trails or has a limit counts as the plain stop."""
    known = _TYPES.get(text or "")
    if known is None:
        count(f"order type {text}")
    return known or OrderType.LIMIT


def positions(rows: Iterable[PositionRow]) -> tuple[Position, ...]:
    """Holdings, without the empty ones."""
    return tuple(
        Position(
            InstrumentId(row.symbol or ""), row.position_amt, row.entry_price or _ZERO, position_side(row.position_side)
        )
        for row in rows
        if row.position_amt
    )


def balances(rows: Iterable[BalanceRow]) -> tuple[Balance, ...]:
    """Wallets that hold something, and that of USDT always."""
    return tuple(
        Balance(row.asset or "", row.balance or _ZERO, (integer(row.update_time) or 0) * MS)
        for row in rows
        if row.balance or row.asset == QUOTE_ASSET
    )


def settings(rows: Iterable[SymbolConfigRow], wanted: Iterable[InstrumentId]) -> tuple[ContractSetting, ...]:
    """Leverage and margin type of the contracts in ``wanted``."""
    names = frozenset(wanted)
    return tuple(
        ContractSetting(
            InstrumentId(row.symbol or ""), integer(row.leverage) or 0, (row.margin_type or "").upper() == "ISOLATED"
        )
        for row in rows
        if row.symbol in names
    )


def income_line(row: IncomeRow) -> str:
    """The name of a line of the income list: its transaction id is unique within one type only."""
    return f"{row.income_type or ''}:{'' if row.tran_id is None else row.tran_id}:{row.trade_id or ''}"


def income(
    row: IncomeRow, recv_ns: Nanos, rates: Callable[[InstrumentId], tuple[float, float] | None]
) -> FundingPaid | Transfer | Income | None:
    """A line of the income list; ``None`` for what the fills have told already.

    ``rates`` gives the funding rate and mark price of an instrument, where they are known.
    """
    kind = row.income_type or ""
    if kind in _IN_FILLS:
        return None
    amount, asset, ts_ns, line = (
        row.income or _ZERO,
        row.asset or QUOTE_ASSET,
        (integer(row.time) or 0) * MS,
        income_line(row),
    )
    instrument = InstrumentId(row.symbol) if row.symbol else None
    if kind in _FUNDING and instrument is not None and asset == QUOTE_ASSET:
        rate, mark = rates(instrument) or (0.0, 0.0)
        return FundingPaid(instrument, amount, rate, mark, ts_ns, recv_ns, line=line)
    if kind in _TRANSFERS:
        return Transfer(asset, amount, ts_ns, recv_ns, line)
    return Income(kind, asset, amount, instrument, line, ts_ns, recv_ns)
