"""What faults can be told to strike: operations, families of market streams, kinds of user events."""

from collections.abc import Mapping
from types import MappingProxyType

from tidegate.adapters.localnet.fault_catalogue import Layer

OPERATIONS = ("order", "algo", "batch", "amend", "cancel", "query", "account", "settings", "listen_key", "market")
"""What a request does, as ``operation_of`` tells it from method and path."""

ADMIN = "admin"
"""What a request to the admin endpoint does; no rule can name it."""

GROUPS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "any": frozenset((*OPERATIONS, "private", "stream")),
        "rest": frozenset(OPERATIONS),
        "submit": frozenset(("order", "algo", "batch")),
        "trade": frozenset(("order", "algo", "batch", "amend", "cancel")),
        "streams": frozenset(("private", "stream")),
    }
)
"""Names for several operations at once. ``private`` and ``stream`` are connections: the user stream, market streams."""

FAMILIES = ("depth", "bookTicker", "aggTrade", "trade", "kline", "markPrice", "ticker", "forceOrder", "contractInfo")
USER_EVENTS = (
    "ORDER_TRADE_UPDATE",
    "ACCOUNT_UPDATE",
    "TRADE_LITE",
    "ALGO_UPDATE",
    "MARGIN_CALL",
    "ACCOUNT_CONFIG_UPDATE",
    "listenKeyExpired",
)

WORDS: Mapping[Layer, tuple[str, ...]] = MappingProxyType(
    {
        Layer.WIRE: (*GROUPS, *OPERATIONS, "private", "stream"),
        Layer.REQUEST: (*(name for name in GROUPS if name != "streams"), *OPERATIONS),
        Layer.USER: ("any", *USER_EVENTS),
        Layer.MARKET: ("any", *FAMILIES),
        Layer.ACT: ("any",),
    }
)
"""What ``on`` of a fault may name, by layer."""
