"""What the market says. Observations are float64; every message has the venue's time and ours."""

from enum import Enum
from typing import Final

import msgspec

from tidegate.domain.ids import InstrumentId, Nanos

SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS

INTERVALS_NS: Final[dict[str, Nanos]] = {
    "1m": MINUTE_NS,
    "3m": 3 * MINUTE_NS,
    "5m": 5 * MINUTE_NS,
    "15m": 15 * MINUTE_NS,
    "30m": 30 * MINUTE_NS,
    "1h": HOUR_NS,
    "2h": 2 * HOUR_NS,
    "4h": 4 * HOUR_NS,
    "6h": 6 * HOUR_NS,
    "8h": 8 * HOUR_NS,
    "12h": 12 * HOUR_NS,
    "1d": DAY_NS,
    "3d": 3 * DAY_NS,
    "1w": 7 * DAY_NS,
}
"""Bar intervals of fixed length, as the venue spells them. ``1M`` has no fixed length and is not traded."""

WEEK_ORIGIN_NS: Final = 4 * DAY_NS
"""1970-01-05, a Monday: where weekly bars are counted from."""


class BarSpec(msgspec.Struct, frozen=True):
    """A bar interval: its name as the venue spells it, and its length."""

    name: str
    interval_ns: Nanos

    @classmethod
    def of(cls, name: str) -> "BarSpec":
        """The interval called ``name``; ``1D`` is read as ``1d``. Raises ``ValueError`` for any other name."""
        known = {"1D": "1d", "3D": "3d", "1W": "1w", "1H": "1h", "4H": "4h"}.get(name, name)
        if known not in INTERVALS_NS:
            raise ValueError(f"unknown interval {name!r}; use one of {' '.join(INTERVALS_NS)}")
        return cls(known, INTERVALS_NS[known])

    @property
    def origin_ns(self) -> Nanos:
        """A time at which a bar opens; all others lie a whole number of intervals from it."""
        return WEEK_ORIGIN_NS if self.name == "1w" else 0


class Bar(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A closed OHLCV interval. ``ts_ns`` is its exclusive end, the first instant at which it is known."""

    instrument: InstrumentId
    interval_ns: Nanos
    ts_ns: Nanos
    recv_ns: Nanos
    open: float
    high: float
    low: float
    close: float
    volume: float  # base units


class Quote(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Best bid and ask."""

    instrument: InstrumentId
    ts_ns: Nanos
    recv_ns: Nanos
    bid: float
    ask: float
    bid_qty: float
    ask_qty: float


class Trade(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A print of the market, not ours."""

    instrument: InstrumentId
    ts_ns: Nanos
    recv_ns: Nanos
    price: float
    qty: float
    buyer_is_maker: bool


class Depth(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The visible ladder, best level first, each level ``(price, qty)``."""

    instrument: InstrumentId
    ts_ns: Nanos
    recv_ns: Nanos
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]


class MarkPrice(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The price that the venue values positions with."""

    instrument: InstrumentId
    ts_ns: Nanos
    recv_ns: Nanos
    price: float


class FundingRate(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A settled funding rate, as a fraction of notional per settlement."""

    instrument: InstrumentId
    ts_ns: Nanos
    recv_ns: Nanos
    rate: float


class TradingStatus(Enum):
    """Whether a contract can be traded."""

    TRADING = "TRADING"
    HALTED = "HALTED"
    DELISTED = "DELISTED"


class InstrumentStatus(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A contract changed its trading status."""

    instrument: InstrumentId
    ts_ns: Nanos
    recv_ns: Nanos
    status: TradingStatus


class FeedGap(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Data of one instrument (or of all, when ``None``) was lost between two times."""

    instrument: InstrumentId | None
    ts_ns: Nanos
    recv_ns: Nanos
    from_ns: Nanos
    detail: str


class Family(Enum):
    """A kind of market data, whose freshness is watched by itself."""

    BARS = "BARS"
    MARKS = "MARKS"
    QUOTES = "QUOTES"
    BOOK = "BOOK"


class FeedState(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A family of one instrument's data (of all, when ``None``) went stale, or is fresh again."""

    instrument: InstrumentId | None
    family: Family
    fresh: bool
    ts_ns: Nanos
    recv_ns: Nanos
    detail: str = ""


MarketEvent = Bar | Quote | Trade | Depth | MarkPrice | FundingRate | InstrumentStatus | FeedGap | FeedState
"""Everything a feed can say."""
