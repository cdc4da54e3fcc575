"""The faults that localnet can inject: one entry per line N01-N08, V01-V14, U01-U10 and B01-B06 of the catalogue.

An entry says where the fault is injected, what it hits unless told otherwise, when it ends by itself, and which
parameters it takes. A parameter's default also gives its type; a tuple of words lists the choices, the first being
the default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

Param = float | int | bool | str | tuple[str, ...]


class Layer(Enum):
    """Where a fault is put in."""

    WIRE = "wire"
    REQUEST = "request"
    USER = "user"
    MARKET = "market"
    ACT = "act"


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One line of the catalogue. ``count`` and ``for_s`` hold when the rule gives neither of them."""

    id: str
    layer: Layer
    title: str
    how: str
    on: str = "any"
    count: int | None = None
    for_s: float | None = None
    params: Mapping[str, Param] = field(default_factory=dict)
    ordinary: bool = True
    """Whether the recovery bound holds; the others are long outages with a table of their own."""


_ANSWERS = ("503", "hang", "reset", "-1000", "-1006", "-1007")
_SAY: Mapping[str, Param] = {"answer": _ANSWERS, "hang_s": 60.0}

_WIRE = (
    FaultKind(
        "N01",
        Layer.WIRE,
        "latency with jitter",
        "each chunk of bytes waits low_s to high_s, in order, both ways",
        for_s=60.0,
        params={"low_s": 0.05, "high_s": 3.0},
    ),
    FaultKind(
        "N02",
        Layer.WIRE,
        "stall, then burst",
        "everything is held for low_s to high_s, then comes at once, in order",
        count=1,
        params={"low_s": 0.2, "high_s": 60.0},
    ),
    FaultKind(
        "N03",
        Layer.WIRE,
        "half-open connection",
        "the connections that stand go dead both ways, without FIN; new ones work",
        for_s=30.0,
    ),
    FaultKind(
        "N04",
        Layer.WIRE,
        "one-way partition",
        "what the client sends arrives; nothing comes back, on new connections neither",
        for_s=10.0,
    ),
    FaultKind(
        "N05",
        Layer.WIRE,
        "connection reset",
        "before the request, within it, after it, or within the answer; at_byte is the byte, -1 draws one",
        on="trade",
        count=1,
        params={"where": ("after", "before", "request", "response"), "at_byte": -1},
    ),
    FaultKind(
        "N06",
        Layer.WIRE,
        "broken HTTP answer",
        "the answer is cut short, has a wrong length, a broken gzip body, or is a page of HTML with status 200",
        on="trade",
        count=1,
        params={"mode": ("truncated", "long_length", "short_length", "gzip", "html")},
    ),
    FaultKind(
        "N07",
        Layer.WIRE,
        "broken stream frames",
        "frames are split, coalesced, oversized, of invalid UTF-8, binary, fragmented, or a close of a bad code",
        on="streams",
        count=1,
        params={
            "mode": ("invalid_utf8", "split", "coalesced", "oversized", "binary", "fragmented", "bad_close"),
            "hold_s": 0.2,
        },
    ),
    FaultKind(
        "N08",
        Layer.WIRE,
        "flood: the rate times a hundred",
        "every frame of the market streams is sent rate times",
        on="stream",
        for_s=10.0,
        params={"rate": 100},
    ),
)

_OUTCOMES = (
    FaultKind(
        "V01",
        Layer.REQUEST,
        "answered as unknown, executed",
        "the request executes, the answer is 503 unknown (or another that says nothing)",
        on="submit",
        count=1,
        params=_SAY,
    ),
    FaultKind(
        "V02",
        Layer.REQUEST,
        "answered as unknown, not executed",
        "the answer is 503 unknown, nothing happens",
        on="submit",
        count=1,
        params=_SAY,
    ),
    FaultKind(
        "V03",
        Layer.REQUEST,
        "no answer, executed",
        "the request executes, the answer never comes",
        on="submit",
        count=1,
        params={"hang_s": 60.0},
    ),
    FaultKind(
        "V04",
        Layer.REQUEST,
        "no answer, not executed",
        "nothing happens and no answer comes",
        on="submit",
        count=1,
        params={"hang_s": 60.0},
    ),
    FaultKind(
        "V05",
        Layer.REQUEST,
        "executed late, inside the window",
        "the client hears 503 unknown at once; late_s later the request executes",
        on="submit",
        count=1,
        params={"late_s": 1.5, **_SAY},
    ),
    FaultKind(
        "V06",
        Layer.REQUEST,
        "executed after the window",
        "as V05, later than any window allows",
        on="submit",
        count=1,
        params={"late_s": 10.0, **_SAY},
        ordinary=False,
    ),
    FaultKind(
        "V07",
        Layer.REQUEST,
        "overload: -1008 on everything",
        "every request is throttled, reducing ones and cancels included",
        for_s=7200.0,
        ordinary=False,
    ),
    FaultKind(
        "V08",
        Layer.REQUEST,
        "an error code",
        "the answer is the code (of Binance, or a bare HTTP status); it executes only when told to",
        on="submit",
        count=1,
        params={"code": -2010, "executes": False},
    ),
    FaultKind(
        "V09",
        Layer.REQUEST,
        "429, then 418",
        "429 for retry_after_s; more than patience requests meanwhile mean a ban of ban_s; patience -1: never",
        count=1,
        params={"retry_after_s": 10.0, "ban_s": 120.0, "patience": 5, "header": True},
        ordinary=False,
    ),
    FaultKind(
        "V10",
        Layer.REQUEST,
        "maintenance",
        "all REST answers 503, streams are closed, open orders cancelled",
        for_s=1800.0,
        params={"code": ("-1016", "503"), "cancel_orders": True},
        ordinary=False,
    ),
    FaultKind(
        "V11",
        Layer.REQUEST,
        "accepted order invisible",
        "queries and listings do not know the order for hide_s, its events are withheld, the answer says nothing",
        on="submit",
        count=1,
        params={"hide_s": 2400.0, "events": False, "answer": ("503", "truth", "hang"), "hang_s": 60.0},
        ordinary=False,
    ),
    FaultKind(
        "V12",
        Layer.REQUEST,
        "cancel or amend races a fill",
        "the order fills as the cancel or amend arrives; or the cancel is denied with -2011 while the order lives",
        on="cancel|amend",
        count=1,
        params={"mode": ("fill", "partial", "deny")},
    ),
    FaultKind(
        "V13",
        Layer.REQUEST,
        "partial fills, then cancel",
        "the order fills in up to fills small parts, the rest is cancelled; dust leaves less than the minimum",
        on="order",
        count=1,
        params={"fills": 50, "dust": True, "every_s": 0.05, "fee_asset": "BNB"},
    ),
    FaultKind(
        "V14",
        Layer.REQUEST,
        "one of a batch fails",
        "one item of the batch is refused with the code, the others execute",
        on="batch|cancel",
        count=1,
        params={"code": -2019, "item": -1},
    ),
)

_EVENTS = (
    FaultKind(
        "U01",
        Layer.ACT,
        "listen key expires, with its event",
        "the key lapses, listenKeyExpired is pushed, then silence",
        count=1,
        params={"key": "demo-key"},
    ),
    FaultKind(
        "U02",
        Layer.ACT,
        "listen key expires silently",
        "the key lapses and the stream says nothing any more",
        count=1,
        params={"key": "demo-key"},
    ),
    FaultKind(
        "U03",
        Layer.REQUEST,
        "keep-alive of the listen key fails",
        "PUT listenKey is answered -1125 (or 503) and the key lapses",
        on="listen_key",
        count=1,
        params={"answer": ("-1125", "503"), "lapse": True, "key": "demo-key"},
    ),
    FaultKind(
        "U04",
        Layer.USER,
        "user events missing, doubled, delayed, out of order",
        "each event struck is dropped, sent twice, held for delay_s, or sent after the next one",
        for_s=60.0,
        params={"mode": ("mix", "missing", "duplicate", "delayed", "reorder"), "delay_s": 30.0},
    ),
    FaultKind(
        "U05",
        Layer.REQUEST,
        "fill before the acknowledgement",
        "the order executes and its events go out; the answer follows late_s after",
        on="order",
        count=1,
        params={"late_s": 1.0},
    ),
    FaultKind(
        "U06",
        Layer.USER,
        "an old FILLED event again",
        "with a later event the last FILLED one is delivered once more",
        count=1,
    ),
    FaultKind(
        "U07",
        Layer.ACT,
        "liquidation, ADL, insurance, settlement",
        "the venue acts on the account by itself",
        count=1,
        params={
            "act": ("liquidate", "partial_liquidation", "adl", "insurance", "settle"),
            "key": "demo-key",
            "symbol": "",
        },
    ),
    FaultKind(
        "U08",
        Layer.USER,
        "one event of the pair missing",
        "of a fill, the account event or the order event is dropped",
        count=1,
        params={"drop": ("ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE")},
    ),
    FaultKind(
        "U09",
        Layer.REQUEST,
        "stop triggers under its cancel or replacement",
        "as the cancel of a resting stop (or a new stop) arrives, the stop of that symbol triggers",
        on="cancel|algo",
        count=1,
    ),
    FaultKind(
        "U10",
        Layer.ACT,
        "position changed by hand",
        "another hand opens, closes or flips a position in the account, or changes its leverage",
        count=1,
        params={
            "mode": ("open", "close", "flip", "leverage"),
            "key": "demo-key",
            "symbol": "",
            "quantity": "",
            "leverage": 3,
        },
    ),
)

_MARKET = (
    FaultKind(
        "B01",
        Layer.MARKET,
        "depth: gap, duplicate, reorder, old snapshot",
        "diffs are dropped, sent twice or swapped; or the REST snapshot is older than every buffer",
        on="depth",
        count=1,
        params={"mode": ("gap", "duplicate", "reorder", "old_snapshot")},
    ),
    FaultKind(
        "B02",
        Layer.MARKET,
        "absurd quotes",
        "quotes crossed, locked, of zero or negative quantity, or at a hundred times the price",
        on="depth|bookTicker",
        count=1,
        params={"mode": ("crossed", "locked", "zero", "negative", "absurd")},
    ),
    FaultKind(
        "B03",
        Layer.MARKET,
        "silence, or the same payload again",
        "subscriptions are acknowledged and pings answered, but no data comes, or always the same",
        for_s=30.0,
        params={"mode": ("silent", "repeat")},
    ),
    FaultKind(
        "B04",
        Layer.MARKET,
        "one family silent",
        "the family named by on is silent, the others live",
        on="depth",
        for_s=30.0,
    ),
    FaultKind(
        "B05",
        Layer.MARKET,
        "bars missing, revised, late; the venue down",
        "closing bars are dropped, sent again revised, or come late_s late; or everything is down for for_s",
        on="kline",
        count=1,
        params={"mode": ("missing", "revised", "late", "down"), "late_s": 20.0, "down_s": 7200.0},
    ),
    FaultKind(
        "B06",
        Layer.MARKET,
        "funding negative, extreme, of another interval",
        "mark price streams and REST show the rate and the next time; with settle the venue pays by it",
        on="markPrice",
        for_s=3600.0,
        params={"rate": -0.02, "interval_h": 1, "symbol": ""},
    ),
)

CATALOGUE: Mapping[str, FaultKind] = MappingProxyType(
    {kind.id: kind for kind in (*_WIRE, *_OUTCOMES, *_EVENTS, *_MARKET)}
)
"""Every fault by its id."""
