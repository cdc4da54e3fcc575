"""The shapes of our market side (names and JSON types) against official examples, documented events and captures."""

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.oracles.localnet_differences_market import MARKET_DIFFERENCES, OUT_OF_SCOPE
from tests.oracles.test_localnet_shapes_account import differences
from tidegate.adapters.localnet import payloads
from tidegate.adapters.localnet.feeds import Catalogue
from tidegate.adapters.localnet.market import LocalMarket, MarketConfig
from tidegate.adapters.localnet.ratelimits import Limits
from tidegate.adapters.localnet.rest_market import MarketRest
from tidegate.adapters.localnet.routes import ApiRequest
from tidegate.domain.market import DAY_NS, MINUTE_NS

_REST, _STREAMS, _PAGES = "official_examples/rest_api/", "official_examples/websocket_streams/", "documented_events/"
_HTTP, _RUST, _WS = (
    f"nautilus_trader/{kind}"
    for kind in ("py_http_responses__http_futures_market_", "rust_market_data_json__", "py_ws_messages__ws_futures_")
)
_SYMBOL = {"symbol": "BTCUSDT"}
_KLINES = {"interval": "1h", "limit": "2"}
_PAIR = {"pair": "BTCUSDT", "contractType": "PERPETUAL", **_KLINES}

ENDPOINTS: dict[str, tuple[str, dict[str, str]]] = {
    _REST + "check_server_time.json": ("/fapi/v1/time", {}),
    _REST + "exchange_information.json": ("/fapi/v1/exchangeInfo", {}),
    _REST + "order_book.json": ("/fapi/v1/depth", _SYMBOL),
    _REST + "rpi_order_book.json": ("/fapi/v1/rpiDepth", _SYMBOL),
    _REST + "old_trades_lookup.json": ("/fapi/v1/historicalTrades", _SYMBOL),
    _REST + "continuous_contract_kline_candlestick_data.json": ("/fapi/v1/continuousKlines", _PAIR),
    _REST + "index_price_kline_candlestick_data.json": ("/fapi/v1/indexPriceKlines", _PAIR),
    _REST + "premium_index_kline_data.json": ("/fapi/v1/premiumIndexKlines", {**_SYMBOL, **_KLINES}),
    _REST + "mark_price.json": ("/fapi/v1/premiumIndex", _SYMBOL),
    _REST + "get_funding_rate_info.json": ("/fapi/v1/fundingInfo", {}),
    _REST + "open_interest.json": ("/fapi/v1/openInterest", _SYMBOL),
    _REST + "query_index_price_constituents.json": ("/fapi/v1/constituents", _SYMBOL),
    _REST + "adl_risk.json": ("/fapi/v1/symbolAdlRisk", _SYMBOL),
    _REST + "symbol_order_book_ticker.json": ("/fapi/v1/ticker/bookTicker", _SYMBOL),
    _REST + "symbol_price_ticker_v2.json": ("/fapi/v2/ticker/price", _SYMBOL),
    _HTTP + "agg_trades.json": ("/fapi/v1/aggTrades", _SYMBOL),
    _HTTP + "book_ticker.json": ("/fapi/v1/ticker/bookTicker", _SYMBOL),
    _HTTP + "continuous_klines.json": ("/fapi/v1/continuousKlines", _PAIR),
    _HTTP + "exchange_info.json": ("/fapi/v1/exchangeInfo", {}),
    _HTTP + "funding_rate.json": ("/fapi/v1/fundingRate", _SYMBOL),
    _HTTP + "historical_trades.json": ("/fapi/v1/historicalTrades", _SYMBOL),
    _HTTP + "klines.json": ("/fapi/v1/klines", {**_SYMBOL, **_KLINES}),
    _HTTP + "mark_price_klines.json": ("/fapi/v1/markPriceKlines", {**_SYMBOL, **_KLINES}),
    _HTTP + "premium_index.json": ("/fapi/v1/premiumIndex", _SYMBOL),
    _HTTP + "ticker_24hr.json": ("/fapi/v1/ticker/24hr", _SYMBOL),
    _HTTP + "ticker_price.json": ("/fapi/v1/ticker/price", _SYMBOL),
    _HTTP + "trades.json": ("/fapi/v1/trades", _SYMBOL),
}

MESSAGES: dict[str, str] = {
    _STREAMS + "all_market_liquidation_order_streams.json": "!forceOrder@arr",
    _STREAMS + "all_market_mini_tickers_stream.json": "!miniTicker@arr",
    _STREAMS + "contract_info_stream.json": "!contractInfo",
    _STREAMS + "diff_book_depth_streams.json": "btcusdt@depth@100ms",
    _STREAMS + "individual_symbol_book_ticker_streams.json": "btcusdt@bookTicker",
    _STREAMS + "individual_symbol_mini_ticker_stream.json": "btcusdt@miniTicker",
    _STREAMS + "kline_candlestick_streams.json": "btcusdt@kline_1m",
    _STREAMS + "liquidation_order_streams.json": "btcusdt@forceOrder",
    _STREAMS + "mark_price_stream_for_all_market.json": "!markPrice@arr",
    _STREAMS + "rpi_diff_book_depth_streams.json": "btcusdt@rpiDepth@500ms",
    _PAGES + "Aggregate-Trade-Streams.json": "btcusdt@aggTrade",
    _PAGES + "All-Market-Liquidation-Order-Streams.json": "!forceOrder@arr",
    _PAGES + "All-Market-Mini-Tickers-Stream.json": "!miniTicker@arr",
    _PAGES + "Continuous-Contract-Kline-Candlestick-Streams.json": "btcusdt_perpetual@continuousKline_1m",
    _PAGES + "Diff-Book-Depth-Streams.json": "btcusdt@depth@100ms",
    _PAGES + "Diff-Book-Depth-Streams-RPI.json": "btcusdt@rpiDepth@500ms",
    _PAGES + "Individual-Symbol-Ticker-Streams.json": "btcusdt@ticker",
    _PAGES + "Kline-Candlestick-Streams.json": "btcusdt@kline_1m",
    _PAGES + "Mark-Price-Stream-for-All-market.json": "!markPrice@arr",
    _RUST + "book_ticker_stream.json": "btcusdt@bookTicker",
    _RUST + "depth_update_stream.json": "btcusdt@depth",
    _RUST + "kline_stream_open.json": "btcusdt@kline_1m",
    _RUST + "liquidation_stream.json": "btcusdt@forceOrder",
    _RUST + "ticker_stream.json": "btcusdt@ticker",
    _RUST + "trade_stream.json": "btcusdt@trade",
    _WS + "book_ticker.json": "btcusdt@bookTicker",
    _WS + "depth_diff_update.json": "btcusdt@depth",
    _WS + "ticker_24hr.json": "btcusdt@ticker",
}

LIQUIDATED = dict.fromkeys(("s", "S", "o", "f", "q", "p", "ap", "X", "l", "z"), "text") | {"T": 1, "c": "autoclose-1"}


class Hand:
    """A clock moved by hand."""

    at_ns = 19_700 * DAY_NS + 5 * MINUTE_NS

    def now_ns(self) -> int:
        return self.at_ns

    def monotonic_ns(self) -> int:
        return self.at_ns

    async def sleep_until(self, at_ns: int) -> None:
        self.at_ns = max(self.at_ns, at_ns)


@pytest.fixture(scope="module")
def market() -> LocalMarket:
    made = LocalMarket(Hand(), Random(1), MarketConfig(history_bars=20))
    made.set_funding("BTCUSDT", None, 4)
    return made


def example(path: Path) -> Any:
    """The example of a file, whatever its wrapping."""
    held = json.loads(path.read_text())
    if isinstance(held, dict):
        held = held.get("expected_response", held.get("payloads", held))
    return held[0] if "documented_events" in path.parts else held


async def answer(market: LocalMarket, path: str, params: dict[str, str]) -> Any:
    routes = MarketRest(market, Hand(), Limits().rows()).routes()
    request = ApiRequest("GET", path, b"", b"", {}, "127.0.0.1", params)
    return json.loads((await routes["GET", path].handler(request)).body)


def message(market: LocalMarket, stream: str) -> Any:
    """The first message of a stream."""
    line = market.lines["BTCUSDT"]
    if "forceOrder" in stream:
        return payloads.force_order(1, LIQUIDATED)
    if stream == "!contractInfo":
        return payloads.contract_info(line, 1, "TRADING")
    topic = Catalogue(market).topic(stream)
    assert topic is not None, stream
    clock = market._clock
    assert isinstance(clock, Hand)
    clock.at_ns += 5_000_000_000
    market.tick()
    told = list(topic.messages(market.now_ms))
    topic.close()
    return json.loads(json.dumps(told[0]))


def allowed(file: str) -> set[str]:
    return {entry.difference for entry in MARKET_DIFFERENCES if entry.file == file}


@pytest.mark.parametrize("file", ENDPOINTS)
async def test_answers_have_the_shape_of_the_examples(shared: Path, market: LocalMarket, file: str) -> None:
    path, params = ENDPOINTS[file]
    theirs, ours = example(shared / "oracles/binance" / file), await answer(market, path, params)
    assert set(differences(theirs, ours)) == allowed(file)
    assert {entry.endpoint for entry in MARKET_DIFFERENCES if entry.file == file} <= {f"GET {path}"}


@pytest.mark.parametrize("file", MESSAGES)
def test_messages_have_the_shape_of_the_examples(shared: Path, market: LocalMarket, file: str) -> None:
    theirs, ours = example(shared / "oracles/binance" / file), message(market, MESSAGES[file])
    assert set(differences(theirs, ours)) == allowed(file)
    assert {entry.endpoint for entry in MARKET_DIFFERENCES if entry.file == file} <= {MESSAGES[file]}


def test_every_example_of_the_market_side_is_looked_at(shared: Path) -> None:
    folder = shared / "oracles/binance"
    official = [
        path
        for path in (folder / "official_examples").glob("*/*.json")
        if path.parent.name == "websocket_streams"
        or (path.parent.name == "rest_api" and "market_data" in json.loads(path.read_text())["source"])
    ]
    pages = [path for path in (folder / "documented_events").glob("*.json") if not path.name.startswith("Event-")]
    nautilus = [path for path in (folder / "nautilus_trader").glob("*.json") if "market" in path.name]
    files = {path.relative_to(folder).as_posix() for path in (*official, *pages, *nautilus)}
    known = {*ENDPOINTS, *MESSAGES, *OUT_OF_SCOPE}
    assert files <= known
    assert all((folder / file).is_file() for file in known), "a name that is no file"
    assert {entry.file for entry in MARKET_DIFFERENCES} <= {*ENDPOINTS, *MESSAGES}


def test_our_contracts_read_like_the_listed_ones(shared: Path, market: LocalMarket) -> None:
    packed = (shared / "data/reference/um_exchangeInfo_20260704.json.gz").read_bytes()
    listed = json.loads(gzip.decompress(packed))["symbols"]
    theirs = next(entry for entry in listed if entry["symbol"] == "BTCUSDT")
    ours = market.symbols["BTCUSDT"].info
    assert set(differences(theirs, ours)) <= {"+settlePlan"}
    by_type = {entry["filterType"]: entry for entry in ours["filters"]}
    for entry in theirs["filters"]:
        assert set(differences(entry, by_type[entry["filterType"]])) == set()
    assert ours["orderTypes"] == theirs["orderTypes"]
    assert ours["timeInForce"] == theirs["timeInForce"]


CAPTURES = {
    "btcusdt@bookTicker": ("bookTicker", {"+st", "+ps"}),
    "btcusdt@trade": ("trade", {"+st", "+ps"}),
    "btcusdt@depth": ("depthUpdate", {"+st", "+ps"}),
}


@pytest.mark.parametrize("stream", CAPTURES)
def test_messages_read_like_captured_ones(shared: Path, market: LocalMarket, stream: str) -> None:
    kind, newer = CAPTURES[stream]
    captured = None
    for path in sorted((shared / "data/um/BTCUSDT").glob("ws_*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            for line in lines:
                data = json.loads(line.partition(" ")[2]).get("data", {})
                if data.get("e") == kind and (kind != "depthUpdate" or (data["b"] and data["a"])):
                    captured = data
                    break
        if captured:
            break
    assert captured is not None
    assert set(differences(captured, message(market, stream))) == newer
