"""The filters of a symbol, applied to an order in the venue's codes. Read from its ``exchangeInfo`` entry each time,
so that a filter that is changed while running holds for the next order."""

from decimal import Decimal
from typing import Any

from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.wire import fixed
from tidegate.domain.orders import Side

Json = dict[str, Any]


def _filter(info: Json, name: str) -> Json:
    return next((each for each in info["filters"] if each["filterType"] == name), {})


def check_price(info: Json, price: Decimal) -> None:
    """PRICE_FILTER and the price precision."""
    if price <= 0:
        raise ApiError(-4001)
    _check_places(price, info["pricePrecision"])
    limits = _filter(info, "PRICE_FILTER")
    if Decimal(limits["minPrice"]) and price < Decimal(limits["minPrice"]):
        raise ApiError(-4013)
    if Decimal(limits["maxPrice"]) and price > Decimal(limits["maxPrice"]):
        raise ApiError(-4002)
    tick = Decimal(limits["tickSize"])
    if tick and price % tick:
        raise ApiError(-4014)


def check_qty(info: Json, qty: Decimal, *, market: bool) -> None:
    """LOT_SIZE, or MARKET_LOT_SIZE, and the quantity precision."""
    if qty <= 0:
        raise ApiError(-4003)
    _check_places(qty, info["quantityPrecision"])
    limits = _filter(info, "MARKET_LOT_SIZE" if market else "LOT_SIZE")
    if qty < Decimal(limits["minQty"]):
        raise ApiError(-4004)
    if qty > Decimal(limits["maxQty"]):
        raise ApiError(-4005)
    step = Decimal(limits["stepSize"])
    if step and qty % step:
        raise ApiError(-4023)


def check_band(info: Json, side: Side, price: Decimal, mark: Decimal) -> None:
    """PERCENT_PRICE, on the aggressive side of the mark price only."""
    limits = _filter(info, "PERCENT_PRICE")
    up, down = mark * Decimal(limits["multiplierUp"]), mark * Decimal(limits["multiplierDown"])
    if side is Side.BUY and price > up:
        raise ApiError(-4016, fixed(up, info["pricePrecision"]))
    if side is Side.SELL and price < down:
        raise ApiError(-4024, fixed(down, info["pricePrecision"]))


def check_notional(info: Json, qty: Decimal, price: Decimal, code: int = -4164) -> None:
    """MIN_NOTIONAL."""
    least = _filter(info, "MIN_NOTIONAL")["notional"]
    if qty * price < Decimal(least):
        raise ApiError(code, least)


def max_orders(info: Json) -> int:
    """MAX_NUM_ORDERS: open orders of the symbol."""
    return int(_filter(info, "MAX_NUM_ORDERS").get("limit", 200))


def _check_places(value: Decimal, places: int) -> None:
    if -int(value.normalize().as_tuple().exponent) > places:
        raise ApiError(-1111)
