"""What an account's stream says: the events of the user data stream, built from orders and positions."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from tidegate.adapters.localnet.algo_orders import AlgoOrder
from tidegate.adapters.localnet.orders import Order
from tidegate.adapters.localnet.wire import fixed, money, plain
from tidegate.domain.ledger import ZERO
from tidegate.domain.orders import PositionSide
from tidegate.simulator.margins import LegMargin

Json = dict[str, Any]


class Fill:
    """One execution of an order, as the stream tells it."""

    __slots__ = ("asset", "fee", "maker", "price", "qty", "realised", "trade_id")

    def __init__(
        self, trade_id: int, qty: Decimal, price: Decimal, fee: Decimal, asset: str, realised: Decimal, *, maker: bool
    ) -> None:
        self.trade_id = trade_id
        self.qty = qty
        self.price = price
        self.fee = fee
        self.asset = asset
        self.realised = realised
        self.maker = maker


def order_update(
    order: Order, execution: str, now_ms: int, leg: LegMargin, fill: Fill | None = None, reason: str = "0"
) -> Json:
    """ORDER_TRADE_UPDATE. ``execution`` is what happened, ``reason`` why it expired."""
    body: Json = {
        "s": order.symbol,
        "c": order.client_id,
        "S": order.side.value,
        "o": order.kind,
        "f": order.tif,
        "q": order.q(order.qty),
        "p": order.p(order.price),
        "ap": plain(order.average.quantize(Decimal("1E-8"))),
        "sp": order.p(order.stop_price),
        "x": execution,
        "X": order.status,
        "i": order.order_id,
        "l": order.q(ZERO if fill is None else fill.qty),
        "z": order.q(order.executed),
        "L": order.p(ZERO if fill is None else fill.price),
        "n": "0" if fill is None else money(fill.fee),
        "N": "USDT" if fill is None else fill.asset,
        "T": now_ms,
        "t": 0 if fill is None else fill.trade_id,
        "b": plain(leg.buy_notional),
        "a": plain(leg.sell_notional),
        "m": fill is not None and fill.maker,
        "R": order.sent_reduce_only,
        "wt": order.working_type,
        "ot": order.original_kind or order.kind,
        "ps": order.position_side.value,
        "cp": order.close_position,
        "rp": "0" if fill is None else money(fill.realised),
        "pP": order.price_protect,
        "si": 0,
        "ss": 0,
        "V": order.stp,
        "pm": order.price_match,
        "gtd": order.good_till_ms,
        "er": reason,
    }
    if order.original_kind == "TRAILING_STOP_MARKET":
        body["AP"], body["cr"] = order.p(order.activate_price), str(order.callback_rate)
    if order.modify_id is not None:
        body["M"] = order.modify_id
    return {"e": "ORDER_TRADE_UPDATE", "E": now_ms, "T": now_ms, "o": body}


def trade_lite(order: Order, fill: Fill, now_ms: int) -> Json:
    """TRADE_LITE: the quick and thin notice of an execution."""
    return {
        "e": "TRADE_LITE",
        "E": now_ms,
        "T": now_ms,
        "s": order.symbol,
        "q": order.q(order.qty),
        "p": order.p(order.price),
        "m": fill.maker,
        "c": order.client_id,
        "S": order.side.value,
        "L": order.p(fill.price),
        "l": order.q(fill.qty),
        "t": fill.trade_id,
        "i": order.order_id,
    }


def balance_row(asset: str, wallet: Decimal, cross: Decimal, change: Decimal = ZERO) -> Json:
    """A row of ``B``: ``change`` is what trading and fees do not explain."""
    return {"a": asset, "wb": money(wallet), "cw": money(cross), "bc": plain(change)}


def position_row(
    symbol: str, side: PositionSide, leg: LegMargin, entry: Decimal, break_even: Decimal, realised: Decimal
) -> Json:
    """A row of ``P``."""
    return {
        "s": symbol,
        "pa": plain(leg.qty),
        "ep": plain(entry.quantize(Decimal("1E-8"))),
        "bep": plain(break_even.quantize(Decimal("1E-8"))),
        "cr": plain(realised),
        "up": money(leg.unrealised),
        "mt": "isolated" if leg.isolated else "cross",
        "iw": money(leg.isolated_wallet) if leg.isolated_wallet else "0",
        "ps": side.value,
        "ma": "USDT",
    }


def account_update(
    reason: str, now_ms: int, balances: Sequence[Json], positions: Sequence[Json], symbol: str = ""
) -> Json:
    """ACCOUNT_UPDATE: only what changed."""
    body: Json = {"B": list(balances), "P": list(positions), "m": reason}
    if symbol:
        body["S"] = symbol
    return {"e": "ACCOUNT_UPDATE", "T": now_ms, "E": now_ms, "a": body}


def leverage_update(symbol: str, leverage: int, now_ms: int) -> Json:
    """ACCOUNT_CONFIG_UPDATE of a leverage."""
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms, "ac": {"s": symbol, "l": leverage}}


def multi_assets_update(on: bool, now_ms: int) -> Json:
    """ACCOUNT_CONFIG_UPDATE of the multi-assets mode."""
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms, "ai": {"j": on}}


def margin_call(now_ms: int, cross_wallet: Decimal, rows: Sequence[Json]) -> Json:
    """MARGIN_CALL."""
    return {"e": "MARGIN_CALL", "E": now_ms, "cw": money(cross_wallet), "p": list(rows)}


def margin_call_row(symbol: str, side: PositionSide, leg: LegMargin) -> Json:
    """A position in a MARGIN_CALL."""
    return {
        "s": symbol,
        "ps": side.value,
        "pa": plain(leg.qty),
        "mt": "ISOLATED" if leg.isolated else "CROSSED",
        "iw": money(leg.isolated_wallet),
        "mp": plain(leg.mark),
        "up": money(leg.unrealised),
        "mm": money(leg.maintenance),
    }


def listen_key_expired(key: str, now_ms: int) -> Json:
    """listenKeyExpired; its time is a text."""
    return {"e": "listenKeyExpired", "E": str(now_ms), "listenKey": key}


def algo_update(order: AlgoOrder, now_ms: int) -> Json:
    """ALGO_UPDATE."""
    places = order.places
    body: Json = {
        "caid": order.client_id,
        "aid": order.algo_id,
        "at": "CONDITIONAL",
        "o": order.kind,
        "s": order.symbol,
        "S": order.side.value,
        "ps": order.position_side.value,
        "f": order.tif,
        "q": fixed(order.qty, places.qty),
        "X": order.status,
        "ai": "" if order.child is None else str(order.child.order_id),
        "ap": fixed(order.actual_price, places.price),
        "aq": fixed(order.actual_qty, places.qty),
        "act": "0" if order.child is None else order.child.kind,
        "tp": fixed(order.trigger, places.price),
        "p": fixed(order.price, places.price),
        "V": order.stp,
        "wt": order.working_type,
        "pm": order.price_match,
        "cp": order.close_position,
        "pP": order.price_protect,
        "R": order.sent_reduce_only,
        "tt": order.triggered_ms,
        "gtd": order.good_till_ms,
        "rm": order.failure,
    }
    if order.kind == "TRAILING_STOP_MARKET":
        body["ia"] = order.activated
    return {"e": "ALGO_UPDATE", "T": now_ms, "E": now_ms, "o": body}
