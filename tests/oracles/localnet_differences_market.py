"""Where the market side of the local exchange differs from published examples, each difference reviewed.

The notation is that of ``localnet_differences_account``. Files are named by their path under ``oracles/binance``.
"""

from tests.oracles.localnet_differences_account import Difference

_REST = "official_examples/rest_api/"
_STREAMS = "official_examples/websocket_streams/"
_PAGES = "documented_events/"
_NAUTILUS = "nautilus_trader/"
_HTTP = _NAUTILUS + "py_http_responses__http_futures_market_"
_RUST = _NAUTILUS + "rust_market_data_json__"
_PY_WS = _NAUTILUS + "py_ws_messages__ws_futures_"

LIVE = "the venue sends it, the example leaves it out (live exchangeInfo and fundingInfo of July 2026)"
ONE_OBJECT = "the example melts the seven filters into one object"
NO_FILTERS = "the example shows an empty text as the only exchange filter"
WS_API = "the example of the WebSocket API has it, the one of REST leaves it out; one handler answers both"
MERGED = "st and ps came when COIN-M was merged in June 2026; the example is older or leaves one out"
RPI = "nq and isRPITrade came with retail price improvement in November 2025; the example is older"
RATES = "markPrice and rateType came later than the example"
AVERAGE = "ap came in March 2026; the example is older"
CAPTURED = "as in captured streams; no page describes @trade"

_INFO = "GET /fapi/v1/exchangeInfo"
_TICKER = "GET /fapi/v1/ticker/bookTicker"
_FILTER_FIELDS = ("maxQty", "minQty", "stepSize", "limit", "notional", "multiplierUp", "multiplierDown")
_MERGED_IN_BOTH = {
    _STREAMS + "kline_candlestick_streams.json": "btcusdt@kline_1m",
    _STREAMS + "liquidation_order_streams.json": "btcusdt@forceOrder",
    _PAGES + "Aggregate-Trade-Streams.json": "btcusdt@aggTrade",
    _PAGES + "All-Market-Liquidation-Order-Streams.json": "!forceOrder@arr",
    _PAGES + "Diff-Book-Depth-Streams.json": "btcusdt@depth@100ms",
    _PAGES + "Diff-Book-Depth-Streams-RPI.json": "btcusdt@rpiDepth@500ms",
    _PAGES + "Individual-Symbol-Ticker-Streams.json": "btcusdt@ticker",
    _PAGES + "Kline-Candlestick-Streams.json": "btcusdt@kline_1m",
    _RUST + "kline_stream_open.json": "btcusdt@kline_1m",
    _RUST + "liquidation_stream.json": "btcusdt@forceOrder",
    _RUST + "trade_stream.json": "btcusdt@trade",
    _PY_WS + "depth_diff_update.json": "btcusdt@depth",
}

MARKET_DIFFERENCES = [
    Difference(_INFO, _REST + "exchange_information.json", "+futuresType", LIVE),
    Difference(_INFO, _REST + "exchange_information.json", "exchangeFilters: list/empty", NO_FILTERS),
    Difference(_INFO, _REST + "exchange_information.json", "+symbols[].maxMoveOrderLimit", LIVE),
    Difference(_INFO, _REST + "exchange_information.json", "+symbols[].permissionSets", LIVE),
    *(
        Difference(_INFO, _REST + "exchange_information.json", f"-symbols[].filters[].{name}", ONE_OBJECT)
        for name in (*_FILTER_FIELDS, "multiplierDecimal")
    ),
    Difference(_INFO, _HTTP + "exchange_info.json", "+symbols[].maxMoveOrderLimit", LIVE),
    Difference(_INFO, _HTTP + "exchange_info.json", "+symbols[].permissionSets", LIVE),
    Difference("GET /fapi/v1/fundingInfo", _REST + "get_funding_rate_info.json", "+[].updateTime", LIVE),
    Difference("GET /fapi/v1/fundingRate", _HTTP + "funding_rate.json", "+[].rateType", RATES),
    Difference("GET /fapi/v1/fundingRate", _HTTP + "funding_rate.json", "+[].markPrice", RATES),
    Difference("GET /fapi/v1/aggTrades", _HTTP + "agg_trades.json", "+[].nq", RPI),
    Difference("GET /fapi/v1/historicalTrades", _HTTP + "historical_trades.json", "+[].isRPITrade", RPI),
    Difference("GET /fapi/v1/trades", _HTTP + "trades.json", "+[].isRPITrade", RPI),
    Difference(_TICKER, _REST + "symbol_order_book_ticker.json", "+lastUpdateId", WS_API),
    Difference(_TICKER, _HTTP + "book_ticker.json", "+lastUpdateId", WS_API),
    *(
        Difference(stream, file, f"+{name}", MERGED)
        for file, stream in _MERGED_IN_BOTH.items()
        for name in ("st", "ps")
    ),
    Difference("!miniTicker@arr", _PAGES + "All-Market-Mini-Tickers-Stream.json", "+[].st", MERGED),
    Difference("!miniTicker@arr", _PAGES + "All-Market-Mini-Tickers-Stream.json", "+[].ps", MERGED),
    Difference(
        "btcusdt_perpetual@continuousKline_1m",
        _PAGES + "Continuous-Contract-Kline-Candlestick-Streams.json",
        "+st",
        MERGED,
    ),
    Difference("!markPrice@arr", _PAGES + "Mark-Price-Stream-for-All-market.json", "+[].st", MERGED),
    Difference("!markPrice@arr", _PAGES + "Mark-Price-Stream-for-All-market.json", "+[].ap", AVERAGE),
    Difference("btcusdt@ticker", _RUST + "ticker_stream.json", "+ps", MERGED),
    Difference("btcusdt@ticker", _PY_WS + "ticker_24hr.json", "+ps", MERGED),
    Difference("btcusdt@trade", _RUST + "trade_stream.json", "+X", CAPTURED),
]

OUT_OF_SCOPE = {
    _REST + "asset_index.json": "multi-assets mode is refused by name",
    _REST + "composite_index_symbol_information.json": "no composite index is listed",
    _REST + "query_insurance_fund_balance_snapshot.json": "the insurance fund is not kept",
    _REST + "long_short_ratio.json": "statistics under /futures/data are not served",
    _REST + "taker_buy_sell_volume.json": "statistics under /futures/data are not served",
    _REST + "top_trader_long_short_ratio_accounts.json": "statistics under /futures/data are not served",
    _REST + "top_trader_long_short_ratio_positions.json": "statistics under /futures/data are not served",
    _STREAMS + "asset_index.json": "multi-assets mode is refused by name",
    _STREAMS + "composite_index_symbol_information_streams.json": "no composite index is listed",
    _STREAMS + "trading_session_stream.json": "no contract on equities is listed",
    _PAGES + "Multi-Assets-Mode-Asset-Index.json": "multi-assets mode is refused by name",
    _PAGES + "Composite-Index-Symbol-Information-Streams.json": "no composite index is listed",
    _HTTP + "index_info.json": "no composite index is listed",
    _HTTP + "open_interest_historical.json": "statistics under /futures/data are not served",
    _HTTP + "top_long_short_position_ratio.json": "statistics under /futures/data are not served",
}
"""Files of the market side that nothing of ours answers."""
