"""Market data of Binance USD-M as it comes over the wire: streams and REST answers.

A field has a default unless something here relies on it; unknown fields are ignored. Numbers in quotes are decoded
into float64 (market data are observations), which needs decoders that are not strict. Field names on the wire are one
letter long: the attribute has the word, ``field(name=...)`` the letter. Source: the venue's stream and REST pages.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct, field

T = TypeVar("T")
Level = tuple[float, float]
NAN: Final = float("nan")

USD_M: Final = 1
"""``st`` of USD-margined contracts; since the merge of both markets, all-market streams carry others too."""


class Counters:
    """Odd things that were tolerated, counted by name: unknown events, dropped doubles, refused data."""

    def __init__(self, on_first: Callable[[str], None] | None = None) -> None:
        self._counts: dict[str, int] = {}
        self._on_first = on_first

    def add(self, name: str, count: int = 1) -> None:
        """Count ``name``; the first time it is also told to ``on_first``, for the log."""
        before = self._counts.get(name, 0)
        self._counts[name] = before + count
        if not before and self._on_first is not None:
            self._on_first(name)

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    def all(self) -> dict[str, int]:
        """A copy, by name."""
        return dict(sorted(self._counts.items()))


class Envelope(Struct, Generic[T], gc=False):
    """How a combined stream wraps a payload; ``stream`` is read by eye, not by the decoder."""

    data: T


class Head(Struct, gc=False):
    """Just enough of any payload to know what it is."""

    e: str = ""
    s: str = ""
    st: int = USD_M


class AggTrade(Struct, gc=False):
    """``<symbol>@aggTrade``: fills of one taker at one price within 100 ms."""

    id: int = field(name="a")
    price: float = field(name="p")
    qty: float = field(name="q")
    time_ms: int = field(name="T")
    buyer_is_maker: bool = field(name="m")
    symbol: str = field(name="s")
    event_ms: int = field(name="E", default=0)
    first_id: int = field(name="f", default=0)
    last_id: int = field(name="l", default=0)
    qty_without_rpi: float = field(name="nq", default=NAN)
    st: int = USD_M


class RawTrade(Struct, gc=False):
    """``<symbol>@trade``: one match. ``kind`` other than MARKET is the insurance fund's or a deleveraging."""

    id: int = field(name="t")
    price: float = field(name="p")
    qty: float = field(name="q")
    time_ms: int = field(name="T")
    buyer_is_maker: bool = field(name="m")
    symbol: str = field(name="s")
    event_ms: int = field(name="E", default=0)
    kind: str = field(name="X", default="MARKET")
    st: int = USD_M


class MarkUpdate(Struct, gc=False):
    """``<symbol>@markPrice[@1s]``. ``rate`` is the running estimate for the settlement at ``next_funding_ms``."""

    event_ms: int = field(name="E")
    symbol: str = field(name="s")
    mark: float = field(name="p")
    index: float = field(name="i", default=NAN)
    settle: float = field(name="P", default=NAN)
    rate: float | str = field(name="r", default=NAN)  # an empty text for delivery contracts
    average: float = field(name="ap", default=NAN)
    next_funding_ms: int = field(name="T", default=0)
    st: int = USD_M


class Candle(Struct, gc=False):
    """The ``k`` of both kline streams. ``close_ms`` is the last millisecond that belongs to the interval."""

    open_ms: int = field(name="t")
    close_ms: int = field(name="T")
    interval: str = field(name="i")
    open: float = field(name="o")
    high: float = field(name="h")
    low: float = field(name="l")
    close: float = field(name="c")
    volume: float = field(name="v")
    closed: bool = field(name="x")
    symbol: str = field(name="s", default="")
    quote_volume: float = field(name="q", default=NAN)
    trades: int = field(name="n", default=0)
    taker_volume: float = field(name="V", default=NAN)
    taker_quote_volume: float = field(name="Q", default=NAN)


class Kline(Struct, gc=False):
    """``<symbol>@kline_<interval>``, every 250 ms while there are trades."""

    symbol: str = field(name="s")
    candle: Candle = field(name="k")
    event_ms: int = field(name="E", default=0)
    st: int = USD_M


class ContinuousKline(Struct, gc=False):
    """``<pair>_<contract type>@continuousKline_<interval>``."""

    pair: str = field(name="ps")
    candle: Candle = field(name="k")
    contract: str = field(name="ct", default="")
    event_ms: int = field(name="E", default=0)


class BookTicker(Struct, gc=False):
    """``<symbol>@bookTicker``: the best of both sides, in real time."""

    id: int = field(name="u")
    symbol: str = field(name="s")
    bid: float = field(name="b")
    bid_qty: float = field(name="B")
    ask: float = field(name="a")
    ask_qty: float = field(name="A")
    time_ms: int = field(name="T", default=0)
    event_ms: int = field(name="E", default=0)
    st: int = USD_M


class DepthUpdate(Struct, gc=False):
    """``<symbol>@depth``: absolute quantities of changed levels; the partial streams look alike but are whole."""

    first_id: int = field(name="U")
    last_id: int = field(name="u")
    previous_id: int = field(name="pu")
    bids: list[Level] = field(name="b")
    asks: list[Level] = field(name="a")
    symbol: str = field(name="s", default="")
    time_ms: int = field(name="T", default=0)
    event_ms: int = field(name="E", default=0)
    st: int = USD_M


class Liquidation(Struct, gc=False):
    """The ``o`` of a forced order."""

    symbol: str = field(name="s")
    side: str = field(name="S")
    qty: float = field(name="q")
    price: float = field(name="p")
    average: float = field(name="ap", default=NAN)
    status: str = field(name="X", default="")
    last_qty: float = field(name="l", default=NAN)
    filled_qty: float = field(name="z", default=NAN)
    time_ms: int = field(name="T", default=0)


class ForceOrder(Struct, gc=False):
    """``<symbol>@forceOrder``: the largest liquidation of each second."""

    order: Liquidation = field(name="o")
    event_ms: int = field(name="E", default=0)
    st: int = USD_M


class Ticker(Struct, gc=False):
    """``@ticker`` and ``@miniTicker``: rolling 24 hours; the small one has no change, weight and last quantity."""

    symbol: str = field(name="s")
    close: float = field(name="c")
    open: float = field(name="o", default=NAN)
    high: float = field(name="h", default=NAN)
    low: float = field(name="l", default=NAN)
    volume: float = field(name="v", default=NAN)
    quote_volume: float = field(name="q", default=NAN)
    change: float = field(name="p", default=NAN)
    weighted: float = field(name="w", default=NAN)
    last_qty: float = field(name="Q", default=NAN)
    event_ms: int = field(name="E", default=0)
    st: int = USD_M


class ContractStep(Struct, gc=False):
    """One margin bracket in a contract's news."""

    number: int = field(name="bs", default=0)
    floor: float = field(name="bnf", default=NAN)
    cap: float = field(name="bnc", default=NAN)
    maintenance: float = field(name="mmr", default=NAN)
    cum: float = field(name="cf", default=NAN)
    min_leverage: float = field(name="mi", default=NAN)
    max_leverage: float = field(name="ma", default=NAN)


class ContractInfo(Struct):
    """``!contractInfo``: a contract was listed, settled or delisted, or its brackets changed."""

    symbol: str = field(name="s")
    status: str = field(name="cs", default="")
    contract: str = field(name="ct", default="")
    delivery_ms: int = field(name="dt", default=0)
    onboard_ms: int = field(name="ot", default=0)
    steps: list[ContractStep] = field(name="bks", default_factory=list)
    event_ms: int = field(name="E", default=0)
    st: int = USD_M


class IndexPart(Struct, gc=False):
    base: str = field(name="b", default="")
    quote: str = field(name="q", default="")
    weight_qty: float = field(name="w", default=NAN)
    weight_frac: float = field(name="W", default=NAN)
    price: float = field(name="i", default=NAN)


class CompositeIndex(Struct):
    """``<symbol>@compositeIndex``."""

    symbol: str = field(name="s")
    price: float = field(name="p", default=NAN)
    parts: list[IndexPart] = field(name="c", default_factory=list)
    event_ms: int = field(name="E", default=0)


class AssetIndex(Struct, gc=False):
    """``!assetIndex@arr``: collateral rates of multi-assets mode."""

    symbol: str = field(name="s")
    index: float = field(name="i", default=NAN)
    event_ms: int = field(name="E", default=0)


class TradingSession(Struct, gc=False):
    """``tradingSession``: opening hours of contracts on shares."""

    session: str = field(name="S", default="")
    start_ms: int = field(name="t", default=0)
    end_ms: int = field(name="T", default=0)
    event_ms: int = field(name="E", default=0)


STREAM_TYPES: Final[dict[str, type[Struct]]] = {
    "aggTrade": AggTrade,
    "trade": RawTrade,
    "markPriceUpdate": MarkUpdate,
    "kline": Kline,
    "continuous_kline": ContinuousKline,
    "bookTicker": BookTicker,
    "depthUpdate": DepthUpdate,
    "forceOrder": ForceOrder,
    "24hrTicker": Ticker,
    "24hrMiniTicker": Ticker,
    "contractInfo": ContractInfo,
    "compositeIndex": CompositeIndex,
    "assetIndexUpdate": AssetIndex,
    "EquityUpdate": TradingSession,
}
"""What each value of ``e`` decodes into; other values are unknown, and tolerated."""


class ServerTime(Struct, rename="camel"):
    server_time: int


class RateLimit(Struct, rename="camel"):
    rate_limit_type: str = ""
    interval: str = ""
    interval_num: int = 1
    limit: int = 0


class SymbolInfo(Struct, rename="camel"):
    """One contract. Precisions are not grids: those are in ``filters``, one object per filter."""

    symbol: str
    status: str = ""
    contract_type: str = ""
    pair: str = ""
    base_asset: str = ""
    quote_asset: str = ""
    margin_asset: str = ""
    delivery_date: int = 0
    onboard_date: int = 0
    liquidation_fee: str | float = "0.0125"
    market_take_bound: str | float = "0.05"
    trigger_protect: str | float = "0.05"
    filters: list[dict[str, Any]] | dict[str, Any] = field(default_factory=list)
    order_types: list[str] | str = field(default_factory=list)
    underlying_type: str = ""


class ExchangeInfo(Struct, rename="camel"):
    symbols: list[SymbolInfo]
    rate_limits: list[RateLimit] = field(default_factory=list)
    server_time: int = 0


class DepthSnapshot(Struct, rename="camel", gc=False):
    """``/fapi/v1/depth``: both sides best first."""

    last_update_id: int
    bids: list[Level]
    asks: list[Level]
    event_ms: int = field(name="E", default=0)
    time_ms: int = field(name="T", default=0)


KlineRow = tuple[int, float, float, float, float, float, int, float, int, float, float, Any]
"""open_ms, open, high, low, close, volume, close_ms, quote volume, trades, taker base, taker quote, ignore."""


class PremiumIndex(Struct, rename="camel"):
    symbol: str
    mark_price: float
    index_price: float = NAN
    last_funding_rate: float | str = NAN  # running estimate of the coming settlement; empty for delivery contracts
    next_funding_time: int = 0
    time: int = 0


class FundingRow(Struct, rename="camel"):
    """``/fapi/v1/fundingRate``: one settlement; ``rate_type`` Special settlements come beside the regular ones."""

    symbol: str
    funding_time: int
    funding_rate: float
    mark_price: float | str = NAN
    rate_type: str = "Regular"


class FundingInfo(Struct, rename="camel"):
    """``/fapi/v1/fundingInfo``: only contracts whose settings differ from the usual 8 hours."""

    symbol: str
    funding_interval_hours: int = 8
    adjusted_funding_rate_cap: float = NAN
    adjusted_funding_rate_floor: float = NAN


class RestTrade(Struct, rename="camel", gc=False):
    id: int
    price: float
    qty: float
    time: int
    is_buyer_maker: bool
    quote_qty: float = NAN
    is_rpi_trade: bool = field(name="isRPITrade", default=False)


class RestAggTrade(Struct, gc=False):
    id: int = field(name="a")
    price: float = field(name="p")
    qty: float = field(name="q")
    time_ms: int = field(name="T")
    buyer_is_maker: bool = field(name="m")
    first_id: int = field(name="f", default=0)
    last_id: int = field(name="l", default=0)


class RestBookTicker(Struct, rename="camel"):
    symbol: str
    bid_price: float
    bid_qty: float
    ask_price: float
    ask_qty: float
    time: int = 0


class PriceTicker(Struct, rename="camel"):
    symbol: str
    price: float
    time: int = 0


class DayTicker(Struct, rename="camel"):
    """``/fapi/v1/ticker/24hr``."""

    symbol: str
    last_price: float = NAN
    open_price: float = NAN
    high_price: float = NAN
    low_price: float = NAN
    volume: float = NAN
    quote_volume: float = NAN
    close_time: int = 0


class OpenInterest(Struct, rename="camel"):
    symbol: str
    open_interest: float
    time: int = 0


class Tier(Struct, rename="camel"):
    """One maintenance bracket; the venue writes plain numbers here."""

    bracket: int
    initial_leverage: int
    notional_cap: float
    notional_floor: float
    maint_margin_ratio: float
    cum: float = 0.0


class Tiers(Struct, rename="camel"):
    symbol: str
    brackets: list[Tier] = field(default_factory=list)
    notional_coef: float = 1.0


BracketAnswer = list[Tiers] | Tiers
"""``/fapi/v1/leverageBracket``: a list, or a bare object when one symbol was asked for."""


def decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    """A decoder that reads numbers in quotes as numbers."""
    return msgspec.json.Decoder(kind, strict=False)
