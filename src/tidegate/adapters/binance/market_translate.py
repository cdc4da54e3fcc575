"""Wire shapes to domain messages: pure functions, and the one place where the venue's habits are undone.

The venue ends a bar at open + interval - 1 ms; ours is known at open + interval. Data that contradict themselves raise
``DataError``: not finite, not positive, crossed, off their grid.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from math import inf, isfinite
from typing import Any, Final

import numpy as np

from tidegate.adapters.binance.market_schemas import (
    AggTrade,
    BookTicker,
    Candle,
    ContractInfo,
    DepthSnapshot,
    DepthUpdate,
    ExchangeInfo,
    FundingRow,
    Kline,
    KlineRow,
    Level,
    MarkUpdate,
    PremiumIndex,
    RawTrade,
    RestAggTrade,
    RestBookTicker,
    RestTrade,
    SymbolInfo,
    Tiers,
)
from tidegate.domain.errors import DataError, InvalidBar
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import DEFAULT_BRACKETS, Bracket
from tidegate.domain.market import (
    INTERVALS_NS,
    MINUTE_NS,
    WEEK_ORIGIN_NS,
    Bar,
    Depth,
    FundingRate,
    InstrumentStatus,
    MarkPrice,
    Quote,
    Trade,
    TradingStatus,
)
from tidegate.quant.bars import BarTable

MS_NS: Final = 1_000_000
MAX_FUNDING_FRAC: Final = 0.05
"""No contract has a cap on its funding above this."""

INTERVAL_NAMES: Final = {length_ns: name for name, length_ns in INTERVALS_NS.items()}

_STATUS: Final = {
    "TRADING": TradingStatus.TRADING,
    "PENDING_TRADING": TradingStatus.HALTED,
    "PRE_SETTLE": TradingStatus.HALTED,
    "SETTLING": TradingStatus.HALTED,
    "PRE_DELIVERING": TradingStatus.HALTED,
    "DELIVERING": TradingStatus.HALTED,
    "DELIVERED": TradingStatus.DELISTED,
    "CLOSE": TradingStatus.DELISTED,
}


def trading_status(status: str) -> TradingStatus:
    """The venue's status as ours; one that nobody knows yet is not traded."""
    return _STATUS.get(status, TradingStatus.HALTED)


def known_status(status: str) -> bool:
    """Whether the venue's pages name this status."""
    return status in _STATUS


def _bar(
    instrument: str, interval_ns: Nanos, open_ms: int, close_ms: int, ohlcv: tuple[float, ...], recv_ns: Nanos
) -> Bar:
    o, h, lo, c, volume = ohlcv
    open_ns = open_ms * MS_NS
    if interval_ns == INTERVALS_NS["3d"]:  # where three-day bars are counted from is the venue's affair
        origin_ns = open_ns
    else:
        origin_ns = WEEK_ORIGIN_NS if interval_ns == INTERVALS_NS["1w"] else 0
    where = f"{instrument} bar of {open_ms} ms"
    if (close_ms + 1 - open_ms) * MS_NS != interval_ns or (open_ns - origin_ns) % interval_ns:
        raise InvalidBar(f"{where}: ends at {close_ms} ms, not one interval of {INTERVAL_NAMES[interval_ns]} later")
    if not (0 < lo <= o <= h < inf and lo <= c <= h and 0 <= volume < inf):
        raise InvalidBar(f"{where}: open {o!r}, high {h!r}, low {lo!r}, close {c!r}, volume {volume!r}")
    return Bar(InstrumentId(instrument), interval_ns, open_ns + interval_ns, recv_ns, o, h, lo, c, volume)


def candle_bar(instrument: str, candle: Candle, recv_ns: Nanos) -> Bar:
    """A closed candle. Raises ``InvalidBar`` for one that is still open, of unknown interval, or contradictory."""
    if not candle.closed:
        raise InvalidBar(f"{instrument} bar of {candle.open_ms} ms is still open")
    if candle.interval not in INTERVALS_NS:
        raise InvalidBar(f"{instrument}: unknown interval {candle.interval!r}")
    k = candle
    ohlcv = (k.open, k.high, k.low, k.close, k.volume)
    return _bar(instrument, INTERVALS_NS[k.interval], k.open_ms, k.close_ms, ohlcv, recv_ns)


def kline_bar(event: Kline, recv_ns: Nanos) -> Bar:
    """The bar of a closed kline event."""
    return candle_bar(event.symbol, event.candle, recv_ns)


def row_bar(instrument: str, interval_ns: Nanos, row: KlineRow, recv_ns: Nanos) -> Bar:
    """A row of ``/fapi/v1/klines`` as a bar. Whether it has closed is for the caller to know."""
    return _bar(instrument, interval_ns, row[0], row[6], row[1:6], recv_ns)


def bar_table(interval_ns: Nanos, bars: Sequence[Bar]) -> BarTable:
    """Bars in order of time as columns."""
    rows = np.array([(b.open, b.high, b.low, b.close, b.volume) for b in bars], dtype=np.float64).reshape(-1, 5)
    o, h, lo, c, v = (np.ascontiguousarray(column) for column in rows.T)
    return BarTable(interval_ns, np.array([b.ts_ns for b in bars], dtype=np.int64), o, h, lo, c, v)


def _best(instrument: str, ts_ms: int, recv_ns: Nanos, bid: Level, ask: Level) -> Quote:
    if not (0 < bid[0] < ask[0] < inf and 0 < bid[1] < inf and 0 < ask[1] < inf):
        raise DataError(f"{instrument}: a quote of bid {bid[0]!r} ({bid[1]!r}), ask {ask[0]!r} ({ask[1]!r})")
    return Quote(InstrumentId(instrument), ts_ms * MS_NS, recv_ns, bid[0], ask[0], bid[1], ask[1])


def quote(event: BookTicker, recv_ns: Nanos) -> Quote:
    """Best bid and ask of a stream event; crossed, locked or empty sides raise ``DataError``."""
    ts_ms = event.time_ms or event.event_ms
    return _best(event.symbol, ts_ms, recv_ns, (event.bid, event.bid_qty), (event.ask, event.ask_qty))


def rest_quote(row: RestBookTicker, recv_ns: Nanos) -> Quote:
    """Best bid and ask of ``/fapi/v1/ticker/bookTicker``."""
    return _best(row.symbol, row.time, recv_ns, (row.bid_price, row.bid_qty), (row.ask_price, row.ask_qty))


def _trade(instrument: str, ts_ms: int, recv_ns: Nanos, price: float, qty: float, buyer_is_maker: bool) -> Trade:
    if not (0 < price < inf and 0 < qty < inf):
        raise DataError(f"{instrument}: a trade of {qty!r} at {price!r}")
    return Trade(InstrumentId(instrument), ts_ms * MS_NS, recv_ns, price, qty, buyer_is_maker)


def trade(event: AggTrade | RawTrade, recv_ns: Nanos) -> Trade:
    """A print of the market."""
    return _trade(event.symbol, event.time_ms, recv_ns, event.price, event.qty, event.buyer_is_maker)


def rest_trade(instrument: str, row: RestTrade | RestAggTrade, recv_ns: Nanos) -> Trade:
    """A print from ``/fapi/v1/trades`` or ``/fapi/v1/aggTrades``."""
    if isinstance(row, RestTrade):
        return _trade(instrument, row.time, recv_ns, row.price, row.qty, row.is_buyer_maker)
    return _trade(instrument, row.time_ms, recv_ns, row.price, row.qty, row.buyer_is_maker)


def of_the_market(event: RawTrade) -> bool:
    """False for prints that no bar counts: the insurance fund's and those of deleveraging."""
    return event.kind == "MARKET"


def ladder(
    instrument: str, ts_ms: int, recv_ns: Nanos, bids: Sequence[Level], asks: Sequence[Level], levels: int = 20
) -> Depth:
    """Both sides, best first, as far as ``levels``. Raises ``DataError`` when they cross or are not in order."""
    best_bids, best_asks = tuple(bids[:levels]), tuple(asks[:levels])
    good = all(0 < price < inf and 0 < qty < inf for price, qty in (*best_bids, *best_asks))
    falling = all(one[0] > two[0] for one, two in pairwise(best_bids))
    rising = all(one[0] < two[0] for one, two in pairwise(best_asks))
    crossed = bool(best_bids and best_asks and best_bids[0][0] >= best_asks[0][0])
    if not (good and falling and rising) or crossed:
        raise DataError(f"{instrument}: a ladder of bids {best_bids[:2]} and asks {best_asks[:2]}")
    return Depth(InstrumentId(instrument), ts_ms * MS_NS, recv_ns, best_bids, best_asks)


def partial_depth(event: DepthUpdate, recv_ns: Nanos) -> Depth:
    """The whole ladder of a partial depth stream (``@depth5``, ``10``, ``20``)."""
    return ladder(event.symbol, event.time_ms or event.event_ms, recv_ns, event.bids, event.asks)


def snapshot_depth(instrument: str, snapshot: DepthSnapshot, recv_ns: Nanos) -> Depth:
    """The best of ``/fapi/v1/depth``."""
    return ladder(instrument, snapshot.time_ms or snapshot.event_ms, recv_ns, snapshot.bids, snapshot.asks)


def mark_price(event: MarkUpdate, recv_ns: Nanos) -> MarkPrice:
    """The mark of a stream event."""
    return _mark(event.symbol, event.event_ms, recv_ns, event.mark)


def premium_mark(row: PremiumIndex, recv_ns: Nanos) -> MarkPrice:
    """The mark of ``/fapi/v1/premiumIndex``."""
    return _mark(row.symbol, row.time, recv_ns, row.mark_price)


def _mark(instrument: str, ts_ms: int, recv_ns: Nanos, price: float) -> MarkPrice:
    if not 0 < price < inf:
        raise DataError(f"{instrument}: a mark price of {price!r}")
    return MarkPrice(InstrumentId(instrument), ts_ms * MS_NS, recv_ns, price)


def next_funding_ns(event: MarkUpdate) -> Nanos | None:
    """When the coming settlement is due; ``None`` for contracts without funding. It can move at any time."""
    return event.next_funding_ms * MS_NS or None


def running_rate(event: MarkUpdate) -> float | None:
    """The estimate of the coming settlement's rate; ``None`` when there is none. Raises ``DataError``."""
    if event.rate == "" or event.rate != event.rate:
        return None
    return _rate(event.symbol, event.rate)


def funding(row: FundingRow, recv_ns: Nanos) -> FundingRate:
    """A settlement of ``/fapi/v1/fundingRate``; its stamp, some ms late, is floored to the minute."""
    ts_ns = row.funding_time * MS_NS
    rate = _rate(row.symbol, row.funding_rate)
    return FundingRate(InstrumentId(row.symbol), ts_ns - ts_ns % MINUTE_NS, recv_ns, rate)


def _rate(instrument: str, text: float | str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = inf
    if not abs(rate) <= MAX_FUNDING_FRAC:
        raise DataError(f"{instrument}: a funding rate of {text!r} is beyond any cap ({MAX_FUNDING_FRAC:g})")
    return rate


def contract_status(event: ContractInfo, recv_ns: Nanos) -> InstrumentStatus:
    """A contract's news."""
    ts_ns = event.event_ms * MS_NS
    return InstrumentStatus(InstrumentId(event.symbol), ts_ns, recv_ns, trading_status(event.status))


def brackets(entry: Tiers) -> tuple[Bracket, ...]:
    """Maintenance brackets, lowest first. Raises ``DataError`` when they do not follow on one another from zero."""
    tiers = sorted(entry.brackets, key=lambda tier: tier.notional_floor)
    edges = [0.0, *(tier.notional_cap for tier in tiers)]
    rising = all(one < two for one, two in pairwise(edges))
    if not tiers or [tier.notional_floor for tier in tiers] != edges[:-1] or not rising:
        raise DataError(f"{entry.symbol}: the leverage brackets do not follow on one another from zero")
    return tuple(
        Bracket(tier.notional_floor, tier.notional_cap, tier.maint_margin_ratio, tier.cum, tier.initial_leverage)
        for tier in tiers
    )


def instrument(
    info: SymbolInfo,
    steps: tuple[Bracket, ...] = DEFAULT_BRACKETS,
    fees: tuple[Decimal, Decimal] = (Decimal("0.0002"), Decimal("0.0005")),
) -> Instrument:
    """A contract from its description; ``fees`` are maker and taker, as fractions. Raises ``DataError``.

    The grids come from the filters, never from the precisions. A minimum off the grid is refused: then the two ways
    of reading the venue's rule (multiples from zero, or from the minimum) would differ.
    """
    if isinstance(info.filters, dict):
        raise DataError(f"{info.symbol}: its filters are one object, not a list")
    filters = {str(entry.get("filterType")): entry for entry in info.filters}
    try:
        found = _contract(info, filters, steps, fees)
    except KeyError as error:
        raise DataError(f"{info.symbol}: no {error.args[0]} among its filters") from None
    except (InvalidOperation, TypeError, ValueError):
        raise DataError(f"{info.symbol}: a filter holds something that is no number") from None
    _on_grid(found)
    return found


def _contract(
    info: SymbolInfo,
    filters: Mapping[str, Mapping[str, Any]],
    steps: tuple[Bracket, ...],
    fees: tuple[Decimal, Decimal],
) -> Instrument:
    price, lot = filters["PRICE_FILTER"], filters["LOT_SIZE"]
    market = filters.get("MARKET_LOT_SIZE", lot)
    notional = filters.get("MIN_NOTIONAL", {"notional": "0"})
    band = _number(filters["PERCENT_PRICE"]["multiplierUp"]) - 1 if "PERCENT_PRICE" in filters else Decimal("0.05")
    return Instrument(
        id=InstrumentId(info.symbol),
        base=info.base_asset,
        quote=info.quote_asset,
        tick=_number(price["tickSize"]),
        step=_number(lot["stepSize"]),
        min_qty=_number(lot["minQty"]),
        max_qty=_number(lot["maxQty"]),
        market_max_qty=_number(market["maxQty"]),
        min_notional=_number(notional["notional"]),
        min_price=_number(price["minPrice"]),
        max_price=_number(price["maxPrice"]),
        brackets=steps,
        maker_fee=fees[0],
        taker_fee=fees[1],
        liquidation_fee=_number(info.liquidation_fee),
        price_band_frac=float(band),
    )


def _number(text: Any) -> Decimal:
    number = Decimal(str(text))
    if not number.is_finite() or number < 0:
        raise ValueError
    return number


def _on_grid(found: Instrument) -> None:
    if not (found.tick > 0 and found.step > 0):
        raise DataError(f"{found.id}: tick {found.tick} and step {found.step} must be positive")
    if found.min_price % found.tick or found.min_qty % found.step:
        raise DataError(f"{found.id}: its smallest price {found.min_price} or quantity {found.min_qty} is off its grid")
    if not isfinite(found.price_band_frac) or found.price_band_frac <= 0:
        raise DataError(f"{found.id}: a price band of {found.price_band_frac!r}")


def perpetuals(
    info: ExchangeInfo,
    tiers: Mapping[str, tuple[Bracket, ...]] | None = None,
    fees: Mapping[str, tuple[Decimal, Decimal]] | None = None,
) -> tuple[dict[InstrumentId, Instrument], dict[str, str]]:
    """The perpetual contracts that can be understood, by name, and why each of the others cannot."""
    found: dict[InstrumentId, Instrument] = {}
    refused: dict[str, str] = {}
    for symbol in info.symbols:
        if not symbol.contract_type.endswith("PERPETUAL"):
            continue
        steps = (tiers or {}).get(symbol.symbol, DEFAULT_BRACKETS)
        try:
            if fees is not None and symbol.symbol in fees:
                entry = instrument(symbol, steps, fees[symbol.symbol])
            else:
                entry = instrument(symbol, steps)
        except DataError as error:
            refused[symbol.symbol] = str(error)
        else:
            found[entry.id] = entry
    return found, refused
