"""Translation of market data: the venue's -1 ms, and everything that must be refused."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.binance import market_schemas as wire
from tidegate.adapters.binance import market_translate as translate
from tidegate.domain.errors import DataError, InvalidBar
from tidegate.domain.market import DAY_NS, HOUR_NS, INTERVALS_NS, MINUTE_NS, TradingStatus

NAN, INF = float("nan"), float("inf")
MONDAY_MS = 1_699_833_600_000


def candle(**changes: Any) -> wire.Candle:
    """A good five-minute candle."""
    values: dict[str, Any] = {
        "open_ms": 1_700_000_100_000,
        "close_ms": 1_700_000_399_999,
        "interval": "5m",
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": 11.0,
        "volume": 3.0,
        "closed": True,
    }
    return wire.Candle(**{**values, **changes})


def test_a_bar_ends_where_the_next_begins() -> None:
    bar = translate.candle_bar("BTCUSDT", candle(), 7)
    assert (bar.ts_ns, bar.interval_ns, bar.recv_ns) == (1_700_000_400_000 * 10**6, 5 * MINUTE_NS, 7)
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (10.0, 12.0, 9.0, 11.0, 3.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"closed": False},
        {"interval": "7m"},
        {"close_ms": 1_700_000_400_000},
        {"open_ms": 1_700_000_100_001, "close_ms": 1_700_000_400_000},
        {"open": NAN},
        {"high": INF},
        {"low": 0.0},
        {"low": -1.0},
        {"close": 12.5},
        {"open": 8.0},
        {"high": 8.0, "low": 9.0},
        {"volume": -1.0},
        {"volume": NAN},
    ],
)
def test_a_contradictory_bar_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidBar, match="BTCUSDT"):
        translate.candle_bar("BTCUSDT", candle(**changes), 0)


@pytest.mark.parametrize("name", INTERVALS_NS)
def test_every_interval_has_its_grid(name: str) -> None:
    length_ms = INTERVALS_NS[name] // 10**6
    good = candle(interval=name, open_ms=MONDAY_MS, close_ms=MONDAY_MS + length_ms - 1)
    assert translate.candle_bar("A", good, 0).ts_ns == (MONDAY_MS + length_ms) * 10**6
    if name not in ("1m", "3d"):
        shifted = MONDAY_MS + 60_000
        with pytest.raises(InvalidBar):
            translate.candle_bar("A", candle(interval=name, open_ms=shifted, close_ms=shifted + length_ms - 1), 0)


@given(st.tuples(*[st.one_of(st.floats(), st.just(0.0), st.just(5.0))] * 4))
def test_a_quote_is_a_market_or_is_refused(numbers: tuple[float, float, float, float]) -> None:
    bid, bid_qty, ask, ask_qty = numbers
    event = wire.BookTicker(1, "BTCUSDT", bid, bid_qty, ask, ask_qty, time_ms=5)
    if 0 < bid < ask < INF and 0 < bid_qty < INF and 0 < ask_qty < INF:
        quote = translate.quote(event, 9)
        assert (quote.bid, quote.ask, quote.ts_ns) == (bid, ask, 5 * 10**6)
    else:
        with pytest.raises(DataError, match="BTCUSDT"):
            translate.quote(event, 9)


@pytest.mark.parametrize(("price", "qty"), [(0.0, 1.0), (-1.0, 1.0), (NAN, 1.0), (INF, 1.0), (1.0, 0.0), (1.0, NAN)])
def test_a_trade_without_price_or_quantity_is_refused(price: float, qty: float) -> None:
    with pytest.raises(DataError, match="a trade of"):
        translate.trade(wire.AggTrade(1, price, qty, 5, True, "BTCUSDT"), 0)


def test_prints_of_the_insurance_fund_are_not_of_the_market() -> None:
    assert translate.of_the_market(wire.RawTrade(1, 1.0, 1.0, 5, True, "A"))
    assert not translate.of_the_market(wire.RawTrade(1, 1.0, 1.0, 5, True, "A", kind="INSURANCE_FUND"))


@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        ([(10.0, 1.0)], [(10.0, 1.0)]),
        ([(9.0, 1.0), (10.0, 1.0)], [(11.0, 1.0)]),
        ([(9.0, 1.0)], [(12.0, 1.0), (11.0, 1.0)]),
        ([(9.0, 0.0)], [(11.0, 1.0)]),
        ([(NAN, 1.0)], [(11.0, 1.0)]),
    ],
)
def test_a_ladder_that_is_none_is_refused(bids: list[wire.Level], asks: list[wire.Level]) -> None:
    with pytest.raises(DataError, match="a ladder"):
        translate.ladder("A", 1, 0, bids, asks)


def test_rates_and_when_they_are_due() -> None:
    event = wire.MarkUpdate(5, "A", 10.0, rate="-0.0375", next_funding_ms=3_600_000)
    assert translate.running_rate(event) == -0.0375
    assert translate.next_funding_ns(event) == HOUR_NS
    none = wire.MarkUpdate(5, "A", 10.0, rate="", next_funding_ms=0)
    assert translate.running_rate(none) is None
    assert translate.next_funding_ns(none) is None
    for rate in ("abc", "0.51", "inf"):
        with pytest.raises(DataError, match="funding rate"):
            translate.running_rate(wire.MarkUpdate(5, "A", 10.0, rate=rate))
    row = wire.FundingRow("A", 28_800_007, 0.0001)
    assert translate.funding(row, 0).ts_ns == 28_800_000 * 10**6
    for mark in (0.0, -1.0, NAN, INF):
        with pytest.raises(DataError, match="mark price"):
            translate.mark_price(wire.MarkUpdate(5, "A", mark), 0)


def test_status_words() -> None:
    assert translate.trading_status("TRADING") is TradingStatus.TRADING
    assert translate.trading_status("SETTLING") is TradingStatus.HALTED
    assert translate.trading_status("CLOSE") is TradingStatus.DELISTED
    assert translate.trading_status("SOMETHING_NEW") is TradingStatus.HALTED
    assert not translate.known_status("SOMETHING_NEW")


FILTERS = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.10", "maxPrice": "100000", "tickSize": "0.10"},
    {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "120", "stepSize": "0.001"},
    {"filterType": "MIN_NOTIONAL", "notional": "50"},
    {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": 4},
    {"filterType": "SOMETHING_NEW", "x": 1},
]


def listed(**changes: Any) -> wire.SymbolInfo:
    """A contract, one filter changed by ``filters=(type, key, value)``."""
    filters = [dict(entry) for entry in FILTERS]
    if "filters" in changes:
        kind, key, value = changes.pop("filters")
        next(entry for entry in filters if entry["filterType"] == kind)[key] = value
    values = {"symbol": "币安USDT", "contract_type": "PERPETUAL", "base_asset": "币安", "quote_asset": "USDT"}
    return wire.SymbolInfo(**values, filters=filters, **changes)


def test_a_contract_comes_from_its_filters() -> None:
    found = translate.instrument(listed(), fees=(Decimal("0.0001"), Decimal("0.0004")))
    assert (found.tick, found.step, found.min_notional) == (Decimal("0.10"), Decimal("0.001"), Decimal(50))
    assert (found.market_max_qty, found.max_qty) == (Decimal(120), Decimal(1000))
    assert (found.maker_fee, found.taker_fee) == (Decimal("0.0001"), Decimal("0.0004"))
    assert found.price_band_frac == pytest.approx(0.05)
    assert found.id == "币安USDT"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (("PRICE_FILTER", "tickSize", "0"), "must be positive"),
        (("PRICE_FILTER", "minPrice", "0.15"), "off its grid"),
        (("LOT_SIZE", "stepSize", "NaN"), "no number"),
        (("LOT_SIZE", "maxQty", "many"), "no number"),
        (("LOT_SIZE", "filterType", "LOT"), "no LOT_SIZE among its filters"),
        (("PERCENT_PRICE", "multiplierUp", "1"), "price band"),
    ],
)
def test_a_contract_that_cannot_be_understood_is_refused(changed: tuple[str, str, str], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        translate.instrument(listed(filters=changed))
    _, refused = translate.perpetuals(wire.ExchangeInfo([listed(filters=changed)]))
    assert reason in refused["币安USDT"]


def test_only_perpetuals_are_listed() -> None:
    quarter = msgspec.structs.replace(listed(), contract_type="CURRENT_QUARTER")
    shares = msgspec.structs.replace(listed(), symbol="TSLAUSDT", contract_type="TRADIFI_PERPETUAL")
    found, _ = translate.perpetuals(wire.ExchangeInfo([quarter, shares]))
    assert list(found) == ["TSLAUSDT"]


def test_brackets_with_a_hole_are_refused() -> None:
    tiers = wire.Tiers("A", [wire.Tier(1, 20, 100.0, 0.0, 0.01), wire.Tier(2, 10, 300.0, 200.0, 0.02)])
    with pytest.raises(DataError, match="do not follow"):
        translate.brackets(tiers)
    with pytest.raises(DataError, match="do not follow"):
        translate.brackets(wire.Tiers("A"))


def test_columns_of_bars() -> None:
    bars = [translate.candle_bar("A", candle(), 0)]
    table = translate.bar_table(5 * MINUTE_NS, bars)
    assert table.rows().tolist() == [[10.0, 12.0, 9.0, 11.0, 3.0]]
    assert len(translate.bar_table(DAY_NS, [])) == 0
