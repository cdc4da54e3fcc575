"""User data events, as they are on the wire, and the one function that reads them.

Every field is optional, unknown ones are ignored and counted. Short names are the venue's, the long ones ours
(binance-futures.md 15).
"""

from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import field

from tidegate.adapters.binance.account_schemas import BadEvent, Count, Whole, Wire


class OrderTradeDetail(Wire):
    """``o`` of ORDER_TRADE_UPDATE."""

    symbol: str | None = field(default=None, name="s")
    client_id: str | None = field(default=None, name="c")
    side: str | None = field(default=None, name="S")
    type: str | None = field(default=None, name="o")
    orig_type: str | None = field(default=None, name="ot")
    qty: Decimal | None = field(default=None, name="q")
    price: Decimal | None = field(default=None, name="p")
    stop_price: Decimal | None = field(default=None, name="sp")
    execution: str | None = field(default=None, name="x")
    status: str | None = field(default=None, name="X")
    order_id: Whole = field(default=None, name="i")
    last_qty: Decimal | None = field(default=None, name="l")
    filled_qty: Decimal | None = field(default=None, name="z")
    last_price: Decimal | None = field(default=None, name="L")
    fee: Decimal | None = field(default=None, name="n")
    fee_asset: str | None = field(default=None, name="N")
    trade_time_ms: int | None = field(default=None, name="T")
    trade_id: Whole = field(default=None, name="t")
    maker: bool | None = field(default=None, name="m")
    reduce_only: bool | None = field(default=None, name="R")
    position_side: str | None = field(default=None, name="ps")
    expiry_reason: Whole = field(default=None, name="er")


class OrderTradeUpdate(Wire):
    event_ms: int | None = field(default=None, name="E")
    trade_ms: int | None = field(default=None, name="T")
    order: OrderTradeDetail = field(default_factory=OrderTradeDetail, name="o")


class BalanceChange(Wire):
    asset: str | None = field(default=None, name="a")
    wallet: Decimal | None = field(default=None, name="wb")
    change: Decimal | None = field(default=None, name="bc")


class PositionChange(Wire):
    symbol: str | None = field(default=None, name="s")
    qty: Decimal | None = field(default=None, name="pa")
    entry_price: Decimal | None = field(default=None, name="ep")
    position_side: str | None = field(default=None, name="ps")


class AccountChange(Wire):
    """``a`` of ACCOUNT_UPDATE; ``symbol`` names the contract of a funding fee."""

    reason: str | None = field(default=None, name="m")
    symbol: str | None = field(default=None, name="S")
    balances: tuple[BalanceChange, ...] = field(default=(), name="B")
    positions: tuple[PositionChange, ...] = field(default=(), name="P")


class AccountUpdate(Wire):
    event_ms: int | None = field(default=None, name="E")
    trade_ms: int | None = field(default=None, name="T")
    account: AccountChange = field(default_factory=AccountChange, name="a")


class AlgoDetail(Wire):
    """``o`` of ALGO_UPDATE. ``actual_order_id`` is the child's; ``reason`` says why it was refused or cancelled."""

    client_id: str | None = field(default=None, name="caid")
    algo_id: Whole = field(default=None, name="aid")
    type: str | None = field(default=None, name="o")
    symbol: str | None = field(default=None, name="s")
    side: str | None = field(default=None, name="S")
    position_side: str | None = field(default=None, name="ps")
    qty: Decimal | None = field(default=None, name="q")
    status: str | None = field(default=None, name="X")
    actual_order_id: Whole = field(default=None, name="ai")
    trigger_price: Decimal | None = field(default=None, name="tp")
    reason: str | None = field(default=None, name="rm")


class AlgoUpdate(Wire):
    event_ms: int | None = field(default=None, name="E")
    trade_ms: int | None = field(default=None, name="T")
    order: AlgoDetail = field(default_factory=AlgoDetail, name="o")


class TradeLite(Wire):
    """A quick word of a fill without its fee: good for measuring the delay and nothing else."""

    event_ms: int | None = field(default=None, name="E")
    trade_ms: int | None = field(default=None, name="T")
    symbol: str | None = field(default=None, name="s")
    client_id: str | None = field(default=None, name="c")
    order_id: Whole = field(default=None, name="i")
    trade_id: Whole = field(default=None, name="t")


class MarginCallPosition(Wire):
    symbol: str | None = field(default=None, name="s")
    position_side: str | None = field(default=None, name="ps")
    qty: Decimal | None = field(default=None, name="pa")
    maintenance: Decimal | None = field(default=None, name="mm")


class MarginCall(Wire):
    event_ms: int | None = field(default=None, name="E")
    cross_wallet: Decimal | None = field(default=None, name="cw")
    positions: tuple[MarginCallPosition, ...] = field(default=(), name="p")


class LeverageChange(Wire):
    symbol: str | None = field(default=None, name="s")
    leverage: int | None = field(default=None, name="l")


class ModeChange(Wire):
    multi_assets: bool | None = field(default=None, name="j")


class ConfigUpdate(Wire):
    event_ms: int | None = field(default=None, name="E")
    leverage: LeverageChange | None = field(default=None, name="ac")
    mode: ModeChange | None = field(default=None, name="ai")


class TriggerRejectDetail(Wire):
    symbol: str | None = field(default=None, name="s")
    order_id: Whole = field(default=None, name="i")
    reason: str | None = field(default=None, name="r")


class TriggerReject(Wire):
    """No longer sent since December 2025; ALGO_UPDATE says it now."""

    event_ms: int | None = field(default=None, name="E")
    order: TriggerRejectDetail = field(default_factory=TriggerRejectDetail, name="or")


class ListenKeyExpired(Wire):
    event_ms: int | None = field(default=None, name="E")


class Ignored(Wire):
    """An event that means nothing to us: of grids and strategies of the venue, or of a type that is not known."""

    event: str
    known: bool


class ControlAnswer(Wire):
    """The answer to a request that was sent over the stream: the connection is alive."""


UserEvent = (
    OrderTradeUpdate
    | AccountUpdate
    | AlgoUpdate
    | TradeLite
    | MarginCall
    | ConfigUpdate
    | TriggerReject
    | ListenKeyExpired
    | Ignored
    | ControlAnswer
)
"""Everything that the user stream can bring."""

_EVENTS: Final[dict[str, type[Any]]] = {
    "ORDER_TRADE_UPDATE": OrderTradeUpdate,
    "ACCOUNT_UPDATE": AccountUpdate,
    "ALGO_UPDATE": AlgoUpdate,
    "TRADE_LITE": TradeLite,
    "MARGIN_CALL": MarginCall,
    "ACCOUNT_CONFIG_UPDATE": ConfigUpdate,
    "CONDITIONAL_ORDER_TRIGGER_REJECT": TriggerReject,
    "listenKeyExpired": ListenKeyExpired,
}
_MEANINGLESS: Final = frozenset({"STRATEGY_UPDATE", "GRID_UPDATE"})
_UNUSED: Final[dict[str, frozenset[str]]] = {
    "ORDER_TRADE_UPDATE": frozenset(
        ("f", "ap", "M", "b", "a", "wt", "cp", "AP", "cr", "pP", "si", "ss", "rp", "V", "pm")
    )
    | {"gtd", "W", "st", "ia", "ma"},
    "ALGO_UPDATE": frozenset(("at", "f", "ap", "aq", "act", "p", "V", "wt", "pm", "cp", "pP", "R", "tt", "gtd", "ia")),
}
_KNOWN: Final = {
    "ORDER_TRADE_UPDATE": _UNUSED["ORDER_TRADE_UPDATE"] | frozenset(OrderTradeDetail.__struct_encode_fields__),
    "ALGO_UPDATE": _UNUSED["ALGO_UPDATE"] | frozenset(AlgoDetail.__struct_encode_fields__),
}
"""Fields inside of ``o`` that are documented: all others are counted as unknown."""


def decode_event(payload: bytes, count: Count) -> UserEvent:
    """One message of the user stream, enveloped or bare. Raises ``BadEvent`` when it is none.

    What is unknown is counted by name: ``event X`` for a type, ``field X.o.y`` for a field of an order.
    """
    try:
        raw = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadEvent(f"a message of {len(payload)} bytes on the user stream is not JSON") from None
    if isinstance(raw, dict) and "data" in raw and "stream" in raw:
        raw = raw["data"]
    if not isinstance(raw, dict):
        raise BadEvent(f"a message on the user stream is a {type(raw).__name__}, not an object")
    name = raw.get("e")
    if name is None:
        return ControlAnswer() if "id" in raw or "code" in raw else Ignored(event="", known=False)
    kind = _EVENTS.get(name) if isinstance(name, str) else None
    if kind is None:
        known = name in _MEANINGLESS
        if not known:
            count(f"event {str(name)[:40]}")
        return Ignored(event=str(name), known=known)
    _count_fields(name, raw.get("o"), count)
    try:
        event: UserEvent = msgspec.convert(raw, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadEvent(f"{name} cannot be read: {error}") from None
    return event


def _count_fields(name: str, detail: Any, count: Count) -> None:
    known = _KNOWN.get(name)
    if known is not None and isinstance(detail, dict):
        for field in detail:
            if field not in known:
                count(f"field {name}.o.{str(field)[:20]}")
