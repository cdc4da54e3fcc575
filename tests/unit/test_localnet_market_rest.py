"""Market data over REST of the local exchange: limits, windows, errors, weights, over the whole pipeline."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any

import aiohttp
import pytest

from tidegate.adapters.localnet.market import MarketConfig
from tidegate.adapters.localnet.ratelimits import Limits
from tidegate.adapters.localnet.server import LocalExchange, LocalnetConfig
from tidegate.adapters.system.clock import SystemClock

MINUTE_MS = 60_000


class Venue:
    """A running exchange whose market stands still, and a client."""

    def __init__(self, running: LocalExchange, address: str, http: aiohttp.ClientSession) -> None:
        self.running, self._address, self._http = running, address, http
        self.used: list[int] = []

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        async with self._http.get(f"{self._address}/fapi/{path}", params=params) as reply:
            assert reply.status == status, (await reply.text())[:300]
            assert reply.headers["Content-Type"] == "application/json"
            if used := reply.headers.get("X-MBX-USED-WEIGHT-1M"):
                self.used.append(int(used))
            return await reply.json()


@asynccontextmanager
async def venue(limits: Limits | None = None) -> AsyncIterator[Venue]:
    market = MarketConfig(tick_ms=86_400_000, history_bars=60, levels=30)
    running = LocalExchange(LocalnetConfig(market, limits=limits or Limits()), SystemClock(), Random(1))
    port = await running.start()
    try:
        async with aiohttp.ClientSession() as http:
            yield Venue(running, f"http://127.0.0.1:{port}", http)
    finally:
        await running.close()


async def test_candles_by_limit_and_window() -> None:
    async with venue() as v:
        newest = await v.get("v1/klines", symbol="BTCUSDT", interval="1m", limit=50)
        assert len(newest) == 50
        assert [later[0] - earlier[0] for earlier, later in pairwise(newest)] == [MINUTE_MS] * 49
        assert newest[-1][6] > (await v.get("v1/time"))["serverTime"], "the last one is open"
        window = {"startTime": newest[10][0], "endTime": newest[20][0]}
        assert await v.get("v1/klines", symbol="BTCUSDT", interval="1m", **window) == newest[10:21]
        assert await v.get("v1/klines", symbol="BTCUSDT", interval="1m", limit=3, **window) == newest[10:13]
        until = await v.get("v1/klines", symbol="BTCUSDT", interval="1m", limit=3, endTime=newest[20][0])
        assert until == newest[18:21]
        pair = await v.get("v1/continuousKlines", pair="BTCUSDT", contractType="PERPETUAL", interval="1m", limit=50)
        assert pair == newest


async def test_enough_history_of_every_interval_to_warm_up() -> None:
    async with venue() as v:
        for interval in ("1m", "5m", "15m", "1h", "4h", "1d"):
            rows = await v.get("v1/klines", symbol="ETHUSDT", interval=interval, limit=61)
            assert len(rows) == 61
            prices = [[Decimal(price) for price in row[1:5]] for row in rows]
            tick = Decimal("0.01")
            assert all(not price % tick for row in prices for price in row)
            assert all(low <= min(opened, close) <= max(opened, close) <= high for opened, high, low, close in prices)


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("v1/klines", {"symbol": "BTCUSDT", "interval": "1s"}, -1120),
        ("v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1501}, -1130),
        ("v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 0}, -1130),
        ("v1/klines", {"interval": "1m"}, -1102),
        ("v1/klines", {"symbol": "NOPE", "interval": "1m"}, -1121),
        ("v1/continuousKlines", {"pair": "BTCUSDT", "contractType": "CURRENT_QUARTER", "interval": "1m"}, -1130),
        ("v1/depth", {"symbol": "BTCUSDT", "limit": 7}, -4021),
        ("v1/trades", {"symbol": "BTCUSDT", "limit": -1}, -1130),
        ("v1/aggTrades", {"symbol": "BTCUSDT", "startTime": 1, "endTime": 3_600_002}, -4166),
        ("v2/ticker/price", {"symbol": "nope"}, -1121),
    ],
)
async def test_refusals_have_the_venues_codes(path: str, params: dict[str, str | int], code: int) -> None:
    async with venue() as v:
        assert (await v.get(path, 400, **params))["code"] == code


async def test_one_object_with_a_symbol_and_a_list_without() -> None:
    async with venue() as v:
        for path in ("v1/premiumIndex", "v1/ticker/24hr", "v1/ticker/price", "v2/ticker/price", "v1/ticker/bookTicker"):
            one, every = await v.get(path, symbol="ETHUSDT"), await v.get(path)
            assert one["symbol"] == "ETHUSDT"
            assert [entry["symbol"] for entry in every] == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT"]


async def test_prices_of_all_endpoints_agree() -> None:
    async with venue() as v:
        touch = await v.get("v1/ticker/bookTicker", symbol="BTCUSDT")
        book = await v.get("v1/depth", symbol="BTCUSDT", limit=5)
        last = (await v.get("v2/ticker/price", symbol="BTCUSDT"))["price"]
        assert book["bids"][0] == [touch["bidPrice"], touch["bidQty"]]
        assert book["asks"][0] == [touch["askPrice"], touch["askQty"]]
        assert last in (touch["bidPrice"], touch["askPrice"])
        trades = await v.get("v1/trades", symbol="BTCUSDT", limit=1)
        candle = (await v.get("v1/klines", symbol="BTCUSDT", interval="1d", limit=1))[0]
        day = await v.get("v1/ticker/24hr", symbol="BTCUSDT")
        assert trades[0]["price"] == candle[4] == day["lastPrice"] == last
        assert len(book["bids"]) == len(book["asks"]) == 5
        aggregates = await v.get("v1/aggTrades", symbol="BTCUSDT", fromId=trades[0]["id"])
        assert [each["p"] for each in aggregates] == [last]


async def test_funding_settlements_in_order_and_windows() -> None:
    async with venue() as v:
        rows = await v.get("v1/fundingRate", symbol="BTCUSDT", limit=10)
        times = [row["fundingTime"] for row in rows]
        assert times == sorted(times)
        assert len(times) == 10
        assert {later - earlier for earlier, later in pairwise(times)} == {8 * 3_600_000}
        assert await v.get("v1/fundingRate", symbol="BTCUSDT", startTime=times[2], endTime=times[5]) == rows[2:6]
        assert await v.get("v1/fundingRate", symbol="BTCUSDT", startTime=times[2], limit=2) == rows[2:4]
        assert await v.get("v1/fundingInfo") == []
        v.running.market.set_funding("ETHUSDT", None, 4)
        assert [(row["symbol"], row["fundingIntervalHours"]) for row in await v.get("v1/fundingInfo")] == [
            ("ETHUSDT", 4)
        ]


async def test_weights_are_those_of_the_venue() -> None:
    async with venue() as v:
        asked: list[tuple[str, dict[str, Any], int]] = [
            ("v1/ping", {}, 1),
            ("v1/exchangeInfo", {}, 1),
            ("v1/depth", {"symbol": "BTCUSDT", "limit": 50}, 2),
            ("v1/depth", {"symbol": "BTCUSDT", "limit": 1000}, 20),
            ("v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 99}, 1),
            ("v1/klines", {"symbol": "BTCUSDT", "interval": "1m"}, 5),
            ("v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1500}, 10),
            ("v1/premiumIndex", {"symbol": "BTCUSDT"}, 1),
            ("v1/premiumIndex", {}, 10),
            ("v1/ticker/24hr", {}, 40),
            ("v1/aggTrades", {"symbol": "BTCUSDT"}, 20),
        ]
        for path, params, _ in asked:
            await v.get(path, **params)
        if v.used == sorted(v.used):  # else a full minute passed and the count began anew
            costs = [later - earlier for earlier, later in zip([0, *v.used[:-1]], v.used, strict=True)]
            assert costs == [weight for _, _, weight in asked]


async def test_too_much_is_429_and_then_418() -> None:
    async with venue(Limits(weight_1m=20, tolerated=2)) as v:
        for _ in range(2):
            await v.get("v1/depth", symbol="BTCUSDT", limit=500)
        statuses: list[int] = []
        while 418 not in statuses and len(statuses) < 200:
            async with v._http.get(f"{v._address}/fapi/v1/depth?symbol=BTCUSDT&limit=1000") as reply:
                statuses.append(reply.status)
                told = await reply.json()
        assert set(statuses) <= {200, 429, 418}
        assert 429 in statuses
        assert told["code"] == -1003
        assert "banned until" in told["msg"]


async def test_status_and_filters_change_at_run_time() -> None:
    async with venue() as v:
        v.running.market.set_status("BTCUSDT", "PENDING_TRADING")
        v.running.market.set_contract("ETHUSDT", {"min_notional": Decimal(77)})
        listed = {entry["symbol"]: entry for entry in (await v.get("v1/exchangeInfo"))["symbols"]}
        assert listed["BTCUSDT"]["status"] == "PENDING_TRADING"
        assert {"filterType": "MIN_NOTIONAL", "notional": "77"} in listed["ETHUSDT"]["filters"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /fapi/v1/order?signature=CANARY HTTP/1.1\r\nHost: x\r\nX-MBX-APIKEY: CANARY\r\n\r\n",
        b"GET /fapi/v1/order?signature=CANARY HTTP/9.9\r\nHost: x\r\nX-MBX-APIKEY: CANARY\r\n\r\n",
        b"GET /fapi/v1/order?signature=CANARY HTTP/1.1\r\nX-MBX-APIKEY CANARY\r\n\r\n",
        b"POST /fapi/v1/order HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\nsignature=CANARY",
        b"GET /private/ws?listenKey=CANARY HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_the_log_never_quotes_a_request(request_bytes: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with venue() as v:
        host, _, port = v._address.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_bytes)
        assert (await reader.readline()).split()[1].startswith(b"4")
        writer.close()
    assert "CANARY" not in caplog.text
