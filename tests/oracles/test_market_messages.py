"""Every published or recorded market message decodes into our wire structs, with its values, and translates."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidegate.adapters.binance import market_schemas as wire
from tidegate.adapters.binance import market_translate as translate
from tidegate.domain.errors import DataError, InvalidBar
from tidegate.domain.market import Bar, Depth, FundingRate, InstrumentStatus, MarkPrice, Quote, Trade

RECV = 5

STREAM_FILES = {
    "documented_events": (
        "Aggregate-Trade-Streams",
        "All-Market-Liquidation-Order-Streams",
        "All-Market-Mini-Tickers-Stream",
        "Composite-Index-Symbol-Information-Streams",
        "Continuous-Contract-Kline-Candlestick-Streams",
        "Diff-Book-Depth-Streams-RPI",
        "Diff-Book-Depth-Streams",
        "Individual-Symbol-Ticker-Streams",
        "Kline-Candlestick-Streams",
        "Mark-Price-Stream-for-All-market",
        "Multi-Assets-Mode-Asset-Index",
    ),
    "official_examples/websocket_streams": (
        "all_market_liquidation_order_streams",
        "all_market_mini_tickers_stream",
        "asset_index",
        "composite_index_symbol_information_streams",
        "contract_info_stream",
        "diff_book_depth_streams",
        "individual_symbol_book_ticker_streams",
        "individual_symbol_mini_ticker_stream",
        "kline_candlestick_streams",
        "liquidation_order_streams",
        "mark_price_stream_for_all_market",
        "rpi_diff_book_depth_streams",
        "trading_session_stream",
    ),
    "nautilus_trader": (
        "py_ws_messages__ws_futures_book_ticker",
        "py_ws_messages__ws_futures_depth_diff_update",
        "py_ws_messages__ws_futures_ticker_24hr",
        "rust_market_data_json__book_ticker_stream",
        "rust_market_data_json__depth_update_stream",
        "rust_market_data_json__kline_stream_open",
        "rust_market_data_json__liquidation_stream",
        "rust_market_data_json__ticker_stream",
        "rust_market_data_json__trade_stream",
    ),
}

_HTTP = "nautilus_trader/py_http_responses__http_futures_market_"
_OFFICIAL = "official_examples/rest_api/"
REST_FILES: dict[str, Any] = {
    f"{_HTTP}agg_trades": list[wire.RestAggTrade],
    f"{_HTTP}book_ticker": wire.RestBookTicker,
    f"{_HTTP}continuous_klines": list[wire.KlineRow],
    f"{_HTTP}exchange_info": wire.ExchangeInfo,
    f"{_HTTP}funding_rate": list[wire.FundingRow],
    f"{_HTTP}historical_trades": list[wire.RestTrade],
    f"{_HTTP}klines": list[wire.KlineRow],
    f"{_HTTP}mark_price_klines": list[wire.KlineRow],
    f"{_HTTP}premium_index": wire.PremiumIndex,
    f"{_HTTP}ticker_24hr": wire.DayTicker,
    f"{_HTTP}ticker_price": wire.PriceTicker,
    f"{_HTTP}trades": list[wire.RestTrade],
    f"{_OFFICIAL}check_server_time": wire.ServerTime,
    f"{_OFFICIAL}exchange_information": wire.ExchangeInfo,
    f"{_OFFICIAL}get_funding_rate_info": list[wire.FundingInfo],
    f"{_OFFICIAL}mark_price": wire.PremiumIndex,
    f"{_OFFICIAL}notional_and_leverage_brackets": wire.BracketAnswer,
    f"{_OFFICIAL}old_trades_lookup": list[wire.RestTrade],
    f"{_OFFICIAL}open_interest": wire.OpenInterest,
    f"{_OFFICIAL}order_book": wire.DepthSnapshot,
    f"{_OFFICIAL}rpi_order_book": wire.DepthSnapshot,
    f"{_OFFICIAL}symbol_order_book_ticker": wire.RestBookTicker,
    f"{_OFFICIAL}symbol_price_ticker_v2": wire.PriceTicker,
}

NOT_READ = {
    f"{_HTTP}index_info": "composition of an index: not traded",
    f"{_HTTP}open_interest_historical": "statistics of accounts: no strategy asks for them",
    f"{_HTTP}top_long_short_position_ratio": "statistics of accounts: no strategy asks for them",
    f"{_OFFICIAL}composite_index_symbol_information": "composition of an index: not traded",
    f"{_OFFICIAL}query_index_price_constituents": "composition of an index: not traded",
    f"{_OFFICIAL}query_insurance_fund_balance_snapshot": "the venue's own account",
    f"{_OFFICIAL}adl_risk": "statistics of accounts: no strategy asks for them",
    f"{_OFFICIAL}asset_index": "multi-assets mode is refused by name",
    f"{_OFFICIAL}long_short_ratio": "statistics of accounts: no strategy asks for them",
    f"{_OFFICIAL}taker_buy_sell_volume": "statistics of accounts: no strategy asks for them",
    f"{_OFFICIAL}top_trader_long_short_ratio_accounts": "statistics of accounts: no strategy asks for them",
    f"{_OFFICIAL}top_trader_long_short_ratio_positions": "statistics of accounts: no strategy asks for them",
    f"{_OFFICIAL}index_price_kline_candlestick_data": "the published rows are cut to one number",
    f"{_OFFICIAL}premium_index_kline_data": "the published rows are cut to one number",
    f"{_OFFICIAL}continuous_contract_kline_candlestick_data": "the published rows are cut to one number",
}


def payloads(file: Path) -> list[dict[str, Any]]:
    """The payloads of a file, whatever it wraps them in; lists are taken apart."""
    content = json.loads(file.read_text())
    if isinstance(content, dict) and "expected_response" in content:
        content = content["expected_response"]
    elif isinstance(content, dict) and "payloads" in content:
        content = content["payloads"]
    flat: list[dict[str, Any]] = []
    for entry in content if isinstance(content, list) else [content]:
        flat += entry if isinstance(entry, list) else [entry]
    return flat


def body(file: Path) -> Any:
    """The answer in a file."""
    content = json.loads(file.read_text())
    return content["expected_response"] if isinstance(content, dict) and "expected_response" in content else content


def same(sent: Any, read: Any) -> None:
    """Every field that we name has the value that was sent, by the name on the wire."""
    if isinstance(read, msgspec.Struct):
        for field in msgspec.structs.fields(read):
            if field.encode_name in sent:
                same(sent[field.encode_name], getattr(read, field.name))
    elif isinstance(read, list | tuple) and isinstance(sent, list):
        assert len(read) == len(sent)
        for one, other in zip(sent, read, strict=True):
            same(one, other)
    elif isinstance(read, float) and isinstance(sent, str | int | float):
        assert read == float(sent)
    else:
        assert read == sent


STREAMS = [f"{folder}/{name}" for folder, names in STREAM_FILES.items() for name in names]


@pytest.mark.parametrize("name", STREAMS)
def test_stream_payloads_decode_with_their_values(shared: Path, name: str) -> None:
    found = payloads(shared / "oracles" / "binance" / f"{name}.json")
    assert found
    for payload in found:
        raw = json.dumps({"stream": "x", "data": payload}).encode()
        kind = wire.STREAM_TYPES[payload["e"]]
        event = wire.decoder(wire.Envelope[kind]).decode(raw).data  # type: ignore[valid-type]
        same(payload, event)
        assert translated(event) is not None


def translated(event: Any) -> Any:
    """The domain's message, or the event itself where the domain has none."""
    match event:
        case wire.BookTicker():
            found = translate.quote(event, RECV)
            assert isinstance(found, Quote)
            assert (found.bid, found.ask) == (25.3519, 25.3652)
        case wire.AggTrade() | wire.RawTrade():
            found = translate.trade(event, RECV)
            assert isinstance(found, Trade)
            assert (found.price, found.qty, found.ts_ns) == (0.001, 100.0, 123456785 * 10**6)
        case wire.MarkUpdate():
            found = translate.mark_price(event, RECV)
            assert isinstance(found, MarkPrice)
            assert found.price == 11185.87786614
            assert translate.running_rate(event) == 0.0003
            assert translate.next_funding_ns(event) == 1562306400000 * 10**6
        case wire.Kline():
            with pytest.raises(DataError, match="still open"):
                translate.kline_bar(event, RECV)
            return closed_candle(event.symbol, event.candle)
        case wire.ContinuousKline():
            return closed_candle(event.pair, event.candle)
        case wire.DepthUpdate():
            found = translate.partial_depth(event, RECV)
            assert isinstance(found, Depth)
            assert (found.bids, found.asks) == (((0.0024, 10.0),), ((0.0026, 100.0),))
        case wire.ContractInfo():
            found = translate.contract_status(event, RECV)
            assert isinstance(found, InstrumentStatus)
        case _:
            return event
    assert found.recv_ns == RECV
    return found


def closed_candle(instrument: str, candle: wire.Candle) -> Bar:
    """The candle, had it closed. The published one opens below its low: that is refused, and repaired here."""
    if candle.open < candle.low:
        with pytest.raises(InvalidBar, match=r"low 0\.0015"):
            translate.candle_bar(instrument, msgspec.structs.replace(candle, closed=True), RECV)
        candle = msgspec.structs.replace(candle, low=candle.open)
    bar = translate.candle_bar(instrument, msgspec.structs.replace(candle, closed=True), RECV)
    assert bar.ts_ns == (candle.close_ms + 1) * 10**6 == candle.open_ms * 10**6 + bar.interval_ns
    return bar


@pytest.mark.parametrize("name", REST_FILES)
def test_rest_answers_decode_with_their_values(shared: Path, name: str) -> None:
    sent = body(shared / "oracles" / "binance" / f"{name}.json")
    read = wire.decoder(REST_FILES[name]).decode(json.dumps(sent))
    same(sent, read)
    for row in read if isinstance(read, list) else [read]:
        match row:
            case wire.RestTrade() | wire.RestAggTrade():
                assert isinstance(translate.rest_trade("BTCUSDT", row, RECV), Trade)
            case wire.RestBookTicker():
                assert translate.rest_quote(row, RECV).bid == 4.0
            case wire.DepthSnapshot():
                assert translate.snapshot_depth("BTCUSDT", row, RECV).asks == ((4.000002, 12.0),)
            case wire.PremiumIndex():
                assert translate.premium_mark(row, RECV).price == 11793.63104562
            case wire.FundingRow():
                assert isinstance(translate.funding(row, RECV), FundingRate)


def test_rows_of_klines_become_bars(shared: Path) -> None:
    folder = shared / "oracles" / "binance"
    for name in ("continuous_klines", "mark_price_klines"):
        rows = wire.decoder(list[wire.KlineRow]).decode((folder / f"{_HTTP}{name}.json").read_bytes())
        bar = translate.row_bar("BTCUSDT", 60 * 10**9, rows[0], RECV)
        assert bar.ts_ns == (rows[0][6] + 1) * 10**6
    odd = wire.decoder(list[wire.KlineRow]).decode((folder / f"{_HTTP}klines.json").read_bytes())
    with pytest.raises(DataError, match="not one interval"):  # the published example ends a week after it begins
        translate.row_bar("BTCUSDT", 60 * 10**9, odd[0], RECV)


def test_contracts_of_the_recorded_exchange(shared: Path) -> None:
    info = wire.decoder(wire.ExchangeInfo).decode(
        (shared / "oracles" / "binance" / f"{_HTTP}exchange_info.json").read_bytes()
    )
    found, refused = translate.perpetuals(info)
    assert found
    assert not refused
    assert info.rate_limits


def test_the_published_description_with_its_slip_is_refused(shared: Path) -> None:
    sent = body(shared / "oracles" / "binance" / f"{_OFFICIAL}exchange_information.json")
    info = wire.decoder(wire.ExchangeInfo).decode(json.dumps(sent))
    _, refused = translate.perpetuals(info)
    assert list(refused) == ["BLZUSDT"]


def test_recorded_brackets_are_continuous(shared: Path) -> None:
    recorded = json.loads((shared / "oracles" / "binance" / "leverage_brackets_2024-10.json").read_text())
    read = wire.decoder(list[wire.Tier])
    for symbol, steps in recorded.items():
        found = translate.brackets(wire.Tiers(symbol, read.decode(json.dumps(steps))))
        assert found[0].floor_usdt == 0
        for lower, upper in pairwise(found):
            edge = upper.floor_usdt
            margin = edge * lower.maintenance_frac - lower.cum_usdt
            assert math.isclose(margin, edge * upper.maintenance_frac - upper.cum_usdt)
            assert lower.max_leverage >= upper.max_leverage


def test_no_market_file_is_forgotten(shared: Path) -> None:
    """Every file that is market data is read above, or named with a reason."""
    folder = shared / "oracles" / "binance"
    known = {*STREAMS, *REST_FILES, *NOT_READ}
    files = [path for part in ("documented_events", "nautilus_trader") for path in (folder / part).glob("*.json")]
    files += (folder / "official_examples" / "websocket_streams").glob("*.json")
    names = {str(path.relative_to(folder).with_suffix("")) for path in files}
    market = {
        name
        for name in names
        if "market" in name.lower() or "Stream" in name or "websocket_streams" in name or "_ws_futures_" in name
    }
    account = {name for name in market if "order_update" in name or "algo_update" in name or "Event-" in name}
    assert market - account - known == set()
    assert {name for name in known if not (folder / f"{name}.json").exists()} == set()


def test_what_is_unknown_is_ignored() -> None:
    raw = b'{"stream":"x","data":{"e":"bookTicker","u":1,"s":"A","b":"1","B":"1","a":"2","A":"1","new":{"x":[1]}}}'
    event = wire.decoder(wire.Envelope[wire.BookTicker]).decode(raw).data
    assert event.st == wire.USD_M
    assert math.isclose(event.ask, 2.0)
