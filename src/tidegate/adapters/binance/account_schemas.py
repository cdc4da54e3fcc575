"""What account and order calls answer, as it is on the wire; over REST and over the WebSocket API alike.

Every field is optional, for none may be relied upon before it was looked at, and unknown fields are ignored. Numbers
come as texts or as JSON numbers; both are taken, money as ``Decimal``. Times are milliseconds. Field names are the
venue's (binance-futures.md 8-11).
"""

from collections.abc import Callable
from decimal import Decimal

import msgspec

from tidegate.domain.errors import VenueError

Count = Callable[[str], None]
"""Hears the name of everything unknown that was met."""


Whole = int | str | None
"""A whole number that may come as a text: read it with ``integer``."""

Truth = bool | str | None
"""A truth value that may come as a text: read it with ``flag``."""


class BadEvent(VenueError):
    """A message cannot be what it claims to be: what brought it is not to be trusted."""


class Wire(msgspec.Struct, gc=False, kw_only=True):
    """Base of all wire shapes."""


class OrderRow(Wire, rename="camel"):
    """An ordinary order: as placed, changed, cancelled, listed or asked for. In a batch, an error may stand instead."""

    symbol: str | None = None
    order_id: Whole = None
    client_order_id: str | None = None
    status: str | None = None
    side: str | None = None
    position_side: str | None = None
    type: str | None = None
    orig_type: str | None = None
    time_in_force: str | None = None
    orig_qty: Decimal | None = None
    executed_qty: Decimal | None = None
    avg_price: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    reduce_only: Truth = None
    close_position: Truth = None
    time: Whole = None
    update_time: Whole = None
    code: Whole = None
    msg: str | None = None


class AlgoRow(Wire, rename="camel"):
    """A conditional order. ``actual_order_id`` is the ordinary order that its trigger made; empty before."""

    symbol: str | None = None
    algo_id: Whole = None
    client_algo_id: str | None = None
    algo_status: str | None = None
    order_type: str | None = None
    side: str | None = None
    position_side: str | None = None
    quantity: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    reduce_only: Truth = None
    close_position: Truth = None
    actual_order_id: Whole = None
    create_time: Whole = None
    update_time: Whole = None
    code: Whole = None
    msg: str | None = None


class TradeRow(Wire, rename="camel"):
    """One of our executions."""

    symbol: str | None = None
    id: Whole = None
    order_id: Whole = None
    side: str | None = None
    position_side: str | None = None
    price: Decimal | None = None
    qty: Decimal | None = None
    commission: Decimal | None = None
    commission_asset: str | None = None
    maker: Truth = None
    time: Whole = None


class IncomeRow(Wire, rename="camel"):
    """One line of the income list; (``income_type``, ``tran_id``, ``trade_id``) names it."""

    symbol: str | None = None
    income_type: str | None = None
    income: Decimal | None = None
    asset: str | None = None
    info: str | None = None
    time: Whole = None
    tran_id: Whole = None
    trade_id: Whole = None


class PositionRow(Wire, rename="camel"):
    """A holding of positionRisk, version 2 or 3."""

    symbol: str | None = None
    position_side: str | None = None
    position_amt: Decimal | None = None
    entry_price: Decimal | None = None
    mark_price: Decimal | None = None
    update_time: Whole = None


class BalanceRow(Wire, rename="camel"):
    """The wallet of one asset."""

    asset: str | None = None
    balance: Decimal | None = None
    cross_wallet_balance: Decimal | None = None
    update_time: Whole = None


class AccountConfigRow(Wire, rename="camel"):
    """Settings of the whole account."""

    dual_side_position: Truth = None
    multi_assets_margin: Truth = None
    can_trade: Truth = None


class SymbolConfigRow(Wire, rename="camel"):
    """Settings of one contract."""

    symbol: str | None = None
    margin_type: str | None = None
    leverage: Whole = None


class CommissionRow(Wire, rename="camel"):
    """Our fees on one contract, as fractions."""

    symbol: str | None = None
    maker_commission_rate: Decimal | None = None
    taker_commission_rate: Decimal | None = None


class ListenKeyRow(Wire, rename="camel"):
    """The key of the user stream; a renewal may leave it out."""

    listen_key: str | None = None


class PriceRow(Wire):
    """The last price of a symbol."""

    symbol: str | None = None
    price: Decimal | None = None


class DoneRow(Wire, rename="camel"):
    """A bare success. ``code`` is a number, or a text for conditional orders."""

    code: Whole = None
    msg: str | None = None


class CountdownRow(Wire, rename="camel"):
    """The answer of the dead man's switch."""

    symbol: str | None = None
    countdown_time: Whole = None


def integer(value: Whole) -> int | None:
    """A venue's number that may come as a text; ``None`` for an empty or unreadable one."""
    if isinstance(value, int):
        return value
    return int(value) if value and value.isascii() and value.isdigit() else None


def flag(value: Truth) -> bool:
    """A truth value that may come as a text."""
    return value is True or (isinstance(value, str) and value.lower() == "true")
