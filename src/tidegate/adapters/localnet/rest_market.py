"""Market data over REST: what everybody may ask without a key."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tidegate.adapters.localnet.candles import INTERVALS
from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.line import INTEREST_RATE, Line, Print
from tidegate.adapters.localnet.market import LocalMarket
from tidegate.adapters.localnet.routes import ApiRequest, ApiResponse, Route, Routes, Security
from tidegate.adapters.localnet.ticker import DayStats
from tidegate.adapters.localnet.wire import Params
from tidegate.ports import Clock

Json = dict[str, Any]
_Weight = int | Callable[[Mapping[str, str]], int]

MAX_KLINES: Final = 1_500
_DEPTH_WEIGHTS: Final = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1_000: 20}
_AGG_TRADES_WINDOW_MS: Final = 3_600_000
_ASSETS: Final = (("USDT", "-10000"), ("BTC", "-0.10000000"), ("BNB", "0"), ("ETH", "0"), ("USDC", "-10000"))


class MarketRest:
    """The handlers. ``rate_limits`` is the list that ``exchangeInfo`` shows."""

    def __init__(self, market: LocalMarket, clock: Clock, rate_limits: list[Json]) -> None:
        self._market = market
        self._clock = clock
        self._rate_limits = rate_limits

    def routes(self) -> Routes:
        """Endpoints by method and path."""
        table: dict[str, tuple[Callable[[Params], object], _Weight]] = {
            "/fapi/v1/ping": (lambda _: {}, 1),
            "/fapi/v1/time": (lambda _: {"serverTime": self._now_ms()}, 1),
            "/fapi/v1/exchangeInfo": (self.exchange_info, 1),
            "/fapi/v1/depth": (self.depth, _depth_weight),
            "/fapi/v1/rpiDepth": (self.depth, 20),
            "/fapi/v1/trades": (self.trades, 5),
            "/fapi/v1/aggTrades": (self.agg_trades, 20),
            "/fapi/v1/klines": (self.klines, _klines_weight),
            "/fapi/v1/continuousKlines": (self.continuous_klines, _klines_weight),
            "/fapi/v1/markPriceKlines": (self.mark_klines, _klines_weight),
            "/fapi/v1/indexPriceKlines": (self.index_klines, _klines_weight),
            "/fapi/v1/premiumIndexKlines": (self.premium_klines, _klines_weight),
            "/fapi/v1/premiumIndex": (self.premium_index, _by_symbol(1, 10)),
            "/fapi/v1/fundingRate": (self.funding_rate, 0),
            "/fapi/v1/fundingInfo": (self.funding_info, 0),
            "/fapi/v1/ticker/24hr": (self.day_ticker, _by_symbol(1, 40)),
            "/fapi/v1/ticker/price": (self.price_ticker, _by_symbol(1, 2)),
            "/fapi/v2/ticker/price": (self.price_ticker, _by_symbol(1, 2)),
            "/fapi/v1/ticker/bookTicker": (self.book_ticker, _by_symbol(2, 5)),
            "/fapi/v1/openInterest": (self.open_interest, 1),
            "/fapi/v1/constituents": (self.constituents, 2),
            "/fapi/v1/symbolAdlRisk": (self.adl_risk, 1),
        }
        routes = {("GET", path): Route(_handler(answer), weight) for path, (answer, weight) in table.items()}
        routes["GET", "/fapi/v1/historicalTrades"] = Route(_handler(self.trades), 200, Security.KEY)
        return routes

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    def _line(self, params: Params, name: str = "symbol") -> Line:
        line = self._market.lines.get(params.text(name).upper())
        if line is None:
            raise ApiError(-1121)
        return line

    def _each(self, params: Params, tell: Callable[[Line], Json]) -> Json | list[Json]:
        """One object with ``symbol``, a list of all without."""
        if "symbol" in params:
            return tell(self._line(params))
        return [tell(line) for line in self._market.lines.values()]

    # -- contracts -----------------------------------------------------------------------------------------------------

    def exchange_info(self, _: Params) -> Json:
        """Contracts, their filters, and the limits."""
        return {
            "timezone": "UTC",
            "serverTime": self._now_ms(),
            "futuresType": "U_MARGINED",
            "rateLimits": self._rate_limits,
            "exchangeFilters": [],
            "assets": [
                {"asset": asset, "marginAvailable": True, "autoAssetExchange": limit} for asset, limit in _ASSETS
            ],
            "symbols": [listed.info for listed in self._market.symbols.values()],
        }

    def funding_info(self, _: Params) -> list[Json]:
        """Only contracts that do not settle every eight hours."""
        return [
            {
                "symbol": line.name,
                "adjustedFundingRateCap": "0.02000000",
                "adjustedFundingRateFloor": "-0.02000000",
                "fundingIntervalHours": line.funding_hours,
                "disclaimer": False,
                "updateTime": self._now_ms(),
            }
            for line in self._market.lines.values()
            if line.funding_hours != 8
        ]

    def constituents(self, params: Params) -> Json:
        """What the index price is made of: this market alone."""
        line = self._line(params)
        price = f"{line.index:.8f}"
        only = {"exchange": "binance", "symbol": line.name, "price": price, "weight": "1.00000000"}
        return {"symbol": line.name, "time": self._now_ms(), "constituents": [only]}

    def adl_risk(self, params: Params) -> Json | list[Json]:
        """Always low: deleveraging comes here by command only."""
        return self._each(params, lambda line: {"symbol": line.name, "adlRisk": "low", "updateTime": self._now_ms()})

    # -- book and trades -----------------------------------------------------------------------------------------------

    def depth(self, params: Params) -> Json:
        """The book; its id begins the coming depth event."""
        line = self._line(params)
        limit = params.integer("limit")
        limit = 500 if limit is None else limit
        if limit not in _DEPTH_WEIGHTS:
            raise ApiError(-4021, msg=f"{limit} is not valid depth limit.")
        line.refresh()
        price, qty = line.tick_grid.text, line.step_grid.text
        bids, asks = ([[price(p), qty(q)] for p, q in side] for side in line.ladder.top(limit))
        ids = {"lastUpdateId": line.ladder.next_id, "E": self._now_ms(), "T": line.traded_ms}
        return {**ids, "bids": bids, "asks": asks}

    def trades(self, params: Params) -> list[Json]:
        """The newest trades, or those from ``fromId`` on."""
        line = self._line(params)
        limit = params.limit(500, 1_000)
        from_id = params.integer("fromId")
        found = [each for each in line.trades if from_id is None or each.id >= from_id]
        return [_trade(line, each) for each in (found[-limit:] if from_id is None else found[:limit])]

    def agg_trades(self, params: Params) -> list[Json]:
        """Aggregates, each of one trade."""
        line, limit = self._line(params), params.limit(500, 1_000)
        from_id, start, end = (params.integer(name) for name in ("fromId", "startTime", "endTime"))
        if start is not None and end is not None and end - start > _AGG_TRADES_WINDOW_MS:
            raise ApiError(-4166, msg="Search window is restricted to recent 1 hour only.")
        found = [
            each
            for each in line.trades
            if (from_id is None or each.id >= from_id)
            and (start is None or each.at_ms >= start)
            and (end is None or each.at_ms <= end)
        ]
        oldest_first = from_id is not None or start is not None
        return [_agg_trade(line, each) for each in (found[:limit] if oldest_first else found[-limit:])]

    # -- candles -------------------------------------------------------------------------------------------------------

    def klines(self, params: Params) -> list[list[object]]:
        """Candles of trades; the newest is still open."""
        return self._candles(self._line(params), params)

    def continuous_klines(self, params: Params) -> list[list[object]]:
        """The same by pair and contract type."""
        line = self._line(params, "pair")
        if params.text("contractType") != "PERPETUAL":
            raise ApiError(-1130, "contractType")
        return self._candles(line, params)

    def mark_klines(self, params: Params) -> list[list[object]]:
        """Candles of the mark price, which keeps close to the trades."""
        return self._candles(self._line(params), params, lambda prices: prices, "{:.8f}")

    def index_klines(self, params: Params) -> list[list[object]]:
        """Candles of the index price."""
        line = self._line(params, "pair")
        premium = line.mark / line.index
        return self._candles(line, params, lambda prices: prices / premium, "{:.8f}")

    def premium_klines(self, params: Params) -> list[list[object]]:
        """Candles of the premium: what it is now."""
        line = self._line(params)
        premium = line.mark / line.index - 1
        return self._candles(line, params, lambda prices: np.full_like(prices, premium), "{:.8f}")

    def _candles(
        self,
        line: Line,
        params: Params,
        change: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
        form: str = "",
    ) -> list[list[object]]:
        interval, limit = params.text("interval"), params.integer("limit")
        limit = 500 if limit is None else limit
        if interval not in INTERVALS:
            raise ApiError(-1120, msg="Invalid interval.")
        if not 0 < limit <= MAX_KLINES:
            raise ApiError(-1130, "limit")
        start, end = params.integer("startTime"), params.integer("endTime")
        rows = line.candles.rows(interval, limit if start is None and end is None else None)
        rows = rows[(rows[:, 0] >= (start or 0)) & (rows[:, 0] <= (np.inf if end is None else end))]
        rows = rows[-limit:] if start is None else rows[:limit]
        if change is None:
            return [_row(line, row) for row in rows.tolist()]
        prices = change(rows[:, 1:5])
        return [_bare_row(row, told, form) for row, told in zip(rows.tolist(), prices.tolist(), strict=True)]

    # -- prices --------------------------------------------------------------------------------------------------------

    def premium_index(self, params: Params) -> Json | list[Json]:
        """Mark, index, and the running funding rate."""
        return self._each(params, self._premium)

    def _premium(self, line: Line) -> Json:
        index = f"{line.index:.8f}"
        prices = {"markPrice": f"{line.mark:.8f}", "indexPrice": index, "estimatedSettlePrice": index}
        rates = {"lastFundingRate": f"{line.rate:.8f}", "interestRate": f"{INTEREST_RATE:.8f}"}
        times = {"nextFundingTime": line.next_funding_ms, "time": self._now_ms()}
        return {"symbol": line.name, **prices, **rates, **times}

    def funding_rate(self, params: Params) -> list[Json]:
        """Settlements, oldest first; the newest when no time is given."""
        limit = params.limit(100, 1_000)
        start, end = params.integer("startTime"), params.integer("endTime")
        lines = [self._line(params)] if "symbol" in params else list(self._market.lines.values())
        found = [
            (each.at_ms, line.name, f"{each.rate:.8f}", f"{each.mark:.8f}")
            for line in lines
            for each in line.settled()
            if (start or 0) <= each.at_ms and (end is None or each.at_ms <= end)
        ]
        found.sort()
        return [
            {"symbol": name, "fundingTime": at_ms, "fundingRate": rate, "markPrice": mark, "rateType": "Regular"}
            for at_ms, name, rate, mark in (found[-limit:] if start is None else found[:limit])
        ]

    def day_ticker(self, params: Params) -> Json | list[Json]:
        """The last 24 hours."""
        return self._each(params, lambda line: _day(line, self._now_ms()))

    def price_ticker(self, params: Params) -> Json | list[Json]:
        """The last price."""
        return self._each(
            params,
            lambda line: {"symbol": line.name, "price": line.tick_grid.text(line.last), "time": line.traded_ms},
        )

    def book_ticker(self, params: Params) -> Json | list[Json]:
        """The touch."""
        return self._each(params, _touch)

    def open_interest(self, params: Params) -> Json:
        """Invented: a day's usual turnover in base units."""
        line = self._line(params)
        interest = float(line.candles.rows("1m", 60)[:, 5].mean()) * 1_440
        return {"symbol": line.name, "openInterest": line.step_grid.text_of(interest), "time": self._now_ms()}


def _handler(answer: Callable[[Params], object]) -> Callable[[ApiRequest], Any]:
    async def handle(request: ApiRequest) -> ApiResponse:
        return ApiResponse.of(answer(Params(request.params)))

    return handle


def _by_symbol(one: int, every: int) -> Callable[[Mapping[str, str]], int]:
    return lambda params: one if "symbol" in params else every


def _depth_weight(params: Mapping[str, str]) -> int:
    limit = params.get("limit", "500")
    return _DEPTH_WEIGHTS.get(int(limit), 10) if limit.isdigit() else 10


def _klines_weight(params: Mapping[str, str]) -> int:
    text = params.get("limit", "500")
    limit = int(text) if text.isdigit() else 500
    return next((weight for below, weight in ((100, 1), (500, 2), (1_001, 5)) if limit < below), 10)


def _row(line: Line, row: list[float]) -> list[object]:
    opened, *prices, volume, closed, quote, trades, taker, taker_quote = row
    price, qty = line.tick_grid.text_of, line.step_grid.text_of
    flow = [qty(volume), int(closed), f"{quote:.5f}", int(trades), qty(taker), f"{taker_quote:.5f}", "0"]
    return [int(opened), *map(price, prices), *flow]


def _bare_row(row: list[float], prices: list[float], form: str) -> list[object]:
    """A candle of something that is not traded: its columns of volume mean nothing."""
    return [int(row[0]), *map(form.format, prices), "0", int(row[6]), "0", int(row[8]), "0", "0", "0"]


def _trade(line: Line, each: Print) -> Json:
    price, qty = line.tick_grid.decimal(each.price), line.step_grid.decimal(each.qty)
    head = {"id": each.id, "price": line.tick_grid.text(each.price), "qty": line.step_grid.text(each.qty)}
    tail = {"quoteQty": f"{price * qty:.5f}", "time": each.at_ms}
    return {**head, **tail, "isBuyerMaker": each.buyer_is_maker, "isRPITrade": False}


def _agg_trade(line: Line, each: Print) -> Json:
    price, qty = line.tick_grid.text(each.price), line.step_grid.text(each.qty)
    head = {"a": each.id, "p": price, "q": qty, "nq": qty}
    return {**head, "f": each.id, "l": each.id, "T": each.at_ms, "m": each.buyer_is_maker}


def _touch(line: Line) -> Json:
    price, qty = line.tick_grid.text, line.step_grid.text
    bid = {"bidPrice": price(line.bid), "bidQty": qty(line.bid_qty)}
    ask = {"askPrice": price(line.ask), "askQty": qty(line.ask_qty)}
    return {"symbol": line.name, **bid, **ask, "time": line.traded_ms, "lastUpdateId": line.ladder.last_id}


def _day(line: Line, now_ms: int) -> Json:
    day = DayStats.of(line, now_ms)
    return {
        "symbol": line.name,
        "priceChange": day.change,
        "priceChangePercent": day.change_percent,
        "weightedAvgPrice": day.weighted,
        "lastPrice": day.last,
        "lastQty": day.last_qty,
        "openPrice": day.open,
        "highPrice": day.high,
        "lowPrice": day.low,
        "volume": day.volume,
        "quoteVolume": day.quote_volume,
        "openTime": day.open_ms,
        "closeTime": day.close_ms,
        "firstId": day.first_id,
        "lastId": day.last_id,
        "count": day.count,
    }
