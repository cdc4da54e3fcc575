"""Order entry: what a client sends becomes an order of the account, or a refusal in the venue's codes."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from tidegate.adapters.localnet.account import Account
from tidegate.adapters.localnet.algo_orders import KINDS, TRAILING, WITH_LIMIT, AlgoOrder
from tidegate.adapters.localnet.books import leg_of
from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.filters import check_band, check_notional, check_price, check_qty, max_orders
from tidegate.adapters.localnet.orders import Order, Places
from tidegate.adapters.localnet.symbols import SymbolInfo
from tidegate.adapters.localnet.wire import CLIENT_ID, Params
from tidegate.domain.ids import InstrumentId
from tidegate.domain.ledger import ZERO
from tidegate.domain.orders import PositionSide, Side
from tidegate.simulator.ticks import Touch

Json = dict[str, Any]

TIMES: Final = ("GTC", "IOC", "FOK", "GTX", "GTD", "RPI")
_MATCHES: Final = {
    f"{side}{suffix}": level
    for side in ("OPPONENT", "QUEUE")
    for suffix, level in (("", 1), ("_5", 5), ("_10", 10), ("_20", 20))
}
_STP: Final = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")
_LAST_DATE_MS: Final = 253_402_300_799_000
_LEAST_GTD_MS: Final = 600_000
_CHANGES: Final = 10_000


def place(account: Account, values: Mapping[str, str]) -> Order:
    """POST order. Raises ``ApiError``; the order may be final on return."""
    order = parse(account, values)
    return account.submit(order)


def parse(account: Account, values: Mapping[str, str]) -> Order:
    """An ordinary order out of its parameters, checked up to the matching core. Raises ``ApiError``."""
    params = Params(values)
    symbol = params.text("symbol")
    listed = account.symbol(symbol)
    side = _side(params)
    kind = params.text("type")
    if kind in KINDS:
        raise ApiError(-4120)
    if kind not in ("LIMIT", "MARKET"):
        raise ApiError(-1116)
    tif, good_till_ms = _time_in_force(account, params, kind)
    position_side, reduce_only = _direction(account, params, side)
    if params.flag("closePosition"):
        raise ApiError(-4136, msg="Target strategy invalid for orderType LIMIT or MARKET,closePosition true.")
    qty, touch = params.needed("quantity"), _touch(account, symbol)
    price, match = _limit(params, listed, kind, side, touch)
    market = kind == "MARKET"
    check_qty(listed.info, qty, market=market)
    _check_status(listed)
    client_id = _client_id(account, params, "newClientOrderId")
    if account.orders.is_open_client(symbol, client_id):
        raise ApiError(-4116)
    if len(account.orders.open_orders(symbol)) >= max_orders(listed.info):
        raise ApiError(-2025)
    if not market:
        check_price(listed.info, price)
        check_band(listed.info, side, price, touch.valuation)
    leg = leg_of(symbol, position_side)
    if reduce_only:
        _check_reduction(account, leg, side, qty, hedged=position_side is not PositionSide.BOTH)
    else:
        check_notional(listed.info, qty, touch.valuation if market else price)
    now_ms = account.now_ms
    return Order(
        account.ids.order(),
        client_id,
        symbol,
        leg,
        side,
        position_side,
        kind,
        tif,
        qty,
        price,
        Places.of(listed.info),
        now_ms,
        now_ms,
        reduce_only=reduce_only,
        sent_reduce_only=params.flag("reduceOnly"),
        stp=_stp(params),
        price_match=match,
        good_till_ms=good_till_ms,
    )


def modify(account: Account, values: Mapping[str, str]) -> Order:
    """PUT order: a new price and quantity for an open limit order. Raises ``ApiError``."""
    params = Params(values)
    listed = account.symbol(params.text("symbol"))
    order = _found(account, params, -2013)
    if not order.open:
        raise ApiError(-2013)
    if order.kind != "LIMIT":
        raise ApiError(-5025)
    if _side(params) is not order.side:
        raise ApiError(-1117)
    if listed.info["status"] != "TRADING":
        raise ApiError(-5024)
    if params.flag("reduceOnly") and not order.sent_reduce_only:
        raise ApiError(-5047)
    if len(order.amendments) >= _CHANGES:
        raise ApiError(-5026)
    qty, touch = params.needed("quantity"), _touch(account, order.symbol)
    price, match = _limit(params, listed, "LIMIT", order.side, touch)
    check_qty(listed.info, qty, market=False)
    check_price(listed.info, price)
    check_band(listed.info, order.side, price, touch.valuation)
    if (qty, price) == (order.qty, order.price):
        raise ApiError(-5027)
    if not order.reduce_only:
        check_notional(listed.info, qty, price, -5029)
    takes = touch.ask <= price if order.side is Side.BUY else touch.bid >= price
    if qty <= order.executed or (order.tif == "GTX" and takes):
        account.cancel(order)
        return order
    before = order.price, order.qty
    order.stp, order.price_match, order.modify_id = "NONE", match, params.integer("modifyId")
    account.amend(order, qty, price)
    _note_change(order, before, account)
    return order


def _note_change(order: Order, before: tuple[Decimal, Decimal], account: Account) -> None:
    change: Json = {
        "price": {"before": order.p(before[0]), "after": order.p(order.price)},
        "origQty": {"before": order.q(before[1]), "after": order.q(order.qty)},
        "count": len(order.amendments) + 1,
    }
    if order.modify_id is not None:
        change["modifyId"] = order.modify_id
    order.amendments.append(
        {
            "amendmentId": account.ids.transaction(),
            "symbol": order.symbol,
            "pair": order.symbol,
            "orderId": order.order_id,
            "clientOrderId": order.client_id,
            "time": account.now_ms,
            "amendment": change,
        }
    )


def cancel(account: Account, values: Mapping[str, str]) -> Order:
    """DELETE order. Raises ``ApiError`` -2011 when it is not open."""
    params = Params(values)
    account.symbol(params.text("symbol"))
    order = _found(account, params, -2011)
    if not order.open:
        raise ApiError(-2011)
    account.cancel(order)
    return order


def query(account: Account, values: Mapping[str, str], *, open_only: bool = False) -> Order:
    """GET order, or openOrder. Raises ``ApiError`` -2013."""
    params = Params(values)
    account.symbol(params.text("symbol"))
    order = _found(account, params, -2013)
    if open_only and not order.open:
        raise ApiError(-2013)
    return order


def place_algo(account: Account, values: Mapping[str, str]) -> AlgoOrder:
    """POST algoOrder. Raises ``ApiError``."""
    params = Params(values)
    if params.text("algoType") != "CONDITIONAL":
        raise ApiError(-1130, "algoType")
    symbol, kind = params.text("symbol"), params.text("type")
    listed, side = account.symbol(symbol), _side(params)
    if kind not in KINDS:
        raise ApiError(-1116)
    position_side, reduce_only = _direction(account, params, side)
    closing = params.flag("closePosition")
    _check_closing(params, kind, position_side, side, closing=closing)
    touch = _touch(account, symbol)
    price, match = _limit(params, listed, "LIMIT", side, touch) if kind in WITH_LIMIT else (ZERO, "NONE")
    qty = ZERO if closing else params.needed("quantity")
    if not closing:
        check_qty(listed.info, qty, market=kind not in WITH_LIMIT)
    trigger = ZERO if kind == TRAILING else params.needed("triggerPrice")
    for value in [trigger] * (kind != TRAILING) + [price] * (kind in WITH_LIMIT):
        check_price(listed.info, value)
    activate, rate = _trailing(params, listed) if kind == TRAILING else (ZERO, ZERO)
    _check_status(listed)
    name = "clientAlgoId" if "clientAlgoId" in params else "newClientOrderId"
    tif, good_till_ms = _algo_time(account, params)
    now_ms = account.now_ms
    order = AlgoOrder(
        account.ids.algo(),
        _client_id(account, params, name),
        symbol,
        leg_of(symbol, position_side),
        side,
        position_side,
        kind,
        tif,
        qty,
        price,
        trigger,
        Places.of(listed.info),
        now_ms,
        now_ms,
        sent_reduce_only=params.flag("reduceOnly"),
        reduce_only=reduce_only,
        close_position=closing,
        working_type=_working_type(params),
        price_protect=params.flag("priceProtect"),
        price_match=match,
        stp=_stp(params),
        good_till_ms=good_till_ms,
        activate=activate,
        callback_rate=rate,
    )
    return account.algo.place(order, touch)


def find_algo(account: Account, values: Mapping[str, str], code: int) -> AlgoOrder:
    """The conditional order that ``algoId`` or ``clientAlgoId`` names. Raises ``ApiError`` with ``code``."""
    params = Params(values)
    if "algoId" not in params and "clientAlgoId" not in params:
        raise ApiError(-1102, "algoId")
    order = account.algo.find(params.integer("algoId"), params.get("clientAlgoId"))
    if order is None:
        raise ApiError(code)
    return order


# ---- the parts of an order ------------------------------------------------------------------------------------------


def _side(params: Params) -> Side:
    side = params.text("side")
    if side not in ("BUY", "SELL"):
        raise ApiError(-1117)
    return Side(side)


def _time_in_force(account: Account, params: Params, kind: str) -> tuple[str, int]:
    if kind == "MARKET":
        if "timeInForce" in params:
            raise ApiError(-1106, "timeInForce")
        return "GTC", 0
    tif = params.text("timeInForce")
    if tif not in TIMES:
        raise ApiError(-1115)
    return ("GTX" if tif == "RPI" else tif), _good_till(account, params) if tif == "GTD" else 0


def _algo_time(account: Account, params: Params) -> tuple[str, int]:
    tif = params.get("timeInForce", "GTC")
    if tif not in TIMES and tif != "GTE_GTC":
        raise ApiError(-1115)
    return ("GTC" if tif == "GTE_GTC" else tif), _good_till(account, params) if tif == "GTD" else 0


def _good_till(account: Account, params: Params) -> int:
    date_ms = params.integer("goodTillDate")
    if date_ms is None:
        raise ApiError(-1102, "goodTillDate")
    if not account.now_ms + _LEAST_GTD_MS < date_ms < _LAST_DATE_MS:
        raise ApiError(-5040)
    return date_ms // 1000 * 1000


def _direction(account: Account, params: Params, side: Side) -> tuple[PositionSide, bool]:
    """The position an order is for, and whether it may only reduce it."""
    name = params.get("positionSide", "BOTH")
    if name not in ("BOTH", "LONG", "SHORT"):
        raise ApiError(-1130, "positionSide")
    position_side = PositionSide(name)
    if (position_side is PositionSide.BOTH) is account.dual_side:
        raise ApiError(-4061)
    reduce_only = params.flag("reduceOnly")
    if position_side is PositionSide.BOTH:
        return position_side, reduce_only
    if "reduceOnly" in params:
        raise ApiError(-1106, "reduceonly")
    return position_side, (position_side is PositionSide.LONG) is (side is Side.SELL)


def _check_reduction(account: Account, leg: InstrumentId, side: Side, qty: Decimal, *, hedged: bool) -> None:
    held = account.exchange.ledger.position(leg).qty
    if held == 0 or (held > 0) is (side is Side.BUY) or (hedged and qty > abs(held)):
        raise ApiError(-2022)


def _limit(params: Params, listed: SymbolInfo, kind: str, side: Side, touch: Touch) -> tuple[Decimal, str]:
    """The limit price, sent or matched to the book."""
    match = params.get("priceMatch", "NONE")
    if match == "NONE":
        if kind == "MARKET":
            if "price" in params:
                raise ApiError(-1106, "price")
            return ZERO, match
        return params.needed("price"), match
    if match not in _MATCHES:
        raise ApiError(-1130, "priceMatch")
    if kind != "LIMIT":
        raise ApiError(-5038)
    if "price" in params:
        raise ApiError(-5039)
    away = (_MATCHES[match] - 1) * listed.instrument.tick
    if match.startswith("QUEUE"):
        return (touch.bid - away if side is Side.BUY else touch.ask + away), match
    return (touch.ask + away if side is Side.BUY else touch.bid - away), match


def _client_id(account: Account, params: Params, name: str) -> str:
    client_id = params.get(name) or account.ids.text(22)
    if not CLIENT_ID.fullmatch(client_id):
        raise ApiError(-4015)
    return client_id


def _stp(params: Params) -> str:
    mode = params.get("selfTradePreventionMode", "EXPIRE_MAKER")
    if mode not in _STP:
        raise ApiError(-1130, "selfTradePreventionMode")
    return mode


def _working_type(params: Params) -> str:
    working_type = params.get("workingType", "CONTRACT_PRICE")
    if working_type not in ("CONTRACT_PRICE", "MARK_PRICE"):
        raise ApiError(-1130, "workingType")
    return working_type


def _trailing(params: Params, listed: SymbolInfo) -> tuple[Decimal, Decimal]:
    rate = params.needed("callbackRate")
    if not Decimal("0.1") <= rate <= 10:
        raise ApiError(-1130, "callbackRate")
    activate = params.number("activatePrice") or ZERO
    if activate:
        check_price(listed.info, activate)
    return activate, rate


def _check_closing(params: Params, kind: str, position_side: PositionSide, side: Side, *, closing: bool) -> None:
    if not closing:
        return
    if kind not in ("STOP_MARKET", "TAKE_PROFIT_MARKET"):
        raise ApiError(-1128)
    if "quantity" in params:
        raise ApiError(-4137)
    if "reduceOnly" in params:
        raise ApiError(-1106, "reduceonly")
    if position_side is not PositionSide.BOTH and (position_side is PositionSide.LONG) is (side is Side.BUY):
        raise ApiError(-1128)


def _check_status(listed: SymbolInfo) -> None:
    if listed.info["status"] != "TRADING":
        raise ApiError(-1122)


def _found(account: Account, params: Params, code: int) -> Order:
    if "orderId" not in params and "origClientOrderId" not in params:
        raise ApiError(-1102, "orderId")
    order = account.orders.find(params.text("symbol"), params.integer("orderId"), params.get("origClientOrderId"))
    if order is None:
        raise ApiError(code)
    return order


def _touch(account: Account, symbol: str) -> Touch:
    leg = account.legs(symbol)[0]
    touch = account.exchange.last_touch(leg)
    assert touch is not None
    return touch
