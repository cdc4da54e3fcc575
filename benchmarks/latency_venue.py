"""The other side of ``benchmarks.latency``: as much of a venue as one daemon asks of it, in a process of its own.

One contract at one price: every market order fills at once and at no fee, so the wallet never moves and the account is
told truthfully whenever it is read. Closed one-minute bars are sent one at a time, each ``pause_s`` after the fill of
the order that the one before led to was told; the market's minutes pass faster than the clock's.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from multiprocessing.connection import Connection
from time import perf_counter_ns, time_ns
from typing import Any, Final

from aiohttp import WSMsgType, web

SYMBOL: Final = "BTCUSDT"
PRICE: Final = "60000.00"
MINUTE_MS: Final = 60_000
ORDER_WAIT_S: Final = 2.0
_ENOUGH: Final = 3
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_FILTERS: Final = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.10", "maxPrice": "1000000", "tickSize": "0.10"},
    {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
    {"filterType": "MIN_NOTIONAL", "notional": "5"},
]
_LIMITS: Final = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 10_000_000},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 10_000_000},
    {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 10_000_000},
]
_CONTRACT: Final = {
    "symbol": SYMBOL,
    "status": "TRADING",
    "contractType": "PERPETUAL",
    "quoteAsset": "USDT",
    "marginAsset": "USDT",
    "baseAsset": "BTC",
    "filters": _FILTERS,
}
_BRACKET: Final = {
    "bracket": 1,
    "initialLeverage": 20,
    "notionalCap": 1_000_000_000,
    "notionalFloor": 0,
    "maintMarginRatio": 0.004,
    "cum": 0,
}
_FACTS: Final[dict[str, Any]] = {
    "/fapi/v1/ping": {},
    "/fapi/v1/exchangeInfo": {"symbols": [_CONTRACT], "rateLimits": _LIMITS},
    "/fapi/v1/leverageBracket": [{"symbol": SYMBOL, "brackets": [_BRACKET]}],
    "/fapi/v1/commissionRate": {"symbol": SYMBOL, "makerCommissionRate": "0", "takerCommissionRate": "0"},
    "/fapi/v1/symbolConfig": [{"symbol": SYMBOL, "marginType": "CROSSED", "leverage": 5}],
    "/fapi/v1/accountConfig": {"dualSidePosition": False, "multiAssetsMargin": False},
    "/fapi/v3/balance": [{"asset": "USDT", "balance": "10000000"}],
    "/fapi/v1/openOrders": [],
    "/fapi/v1/openAlgoOrders": [],
    "/fapi/v1/allAlgoOrders": [],
    "/fapi/v1/income": [],
    "/fapi/v1/listenKey": {"listenKey": "benchmark"},
    "/fapi/v2/ticker/price": {"symbol": "BNBUSDT", "price": "600"},
    "/sapi/v1/account/apiRestrictions": {"enableFutures": True, "enableWithdrawals": False, "ipRestrict": True},
}


def candle(open_ms: int) -> str:
    """The message of a closed one-minute bar, as it is on the wire."""
    prices = dict.fromkeys("oclh", PRICE)
    times = {"t": open_ms, "T": open_ms + MINUTE_MS - 1, "s": SYMBOL, "i": "1m", "f": 100, "L": 200}
    volumes = {"v": "12.345", "n": 101, "x": True, "q": "740700.00", "V": "6.000", "Q": "360000.00", "B": "0"}
    data = {"e": "kline", "E": open_ms + MINUTE_MS, "s": SYMBOL, "k": {**times, **prices, **volumes}}
    return json.dumps({"stream": f"{SYMBOL.lower()}@kline_1m", "data": data}, separators=(",", ":"))


class Venue:
    """The account, its two kinds of streams, and the stopwatch from a bar sent to its order received."""

    def __init__(self) -> None:
        self.trips_ns: list[int] = []
        self._position = Decimal(0)
        self._trades: list[dict[str, Any]] = []
        self._sent_ns = 0
        self._next_ms = 0
        self._filled = asyncio.Event()
        self._market: web.WebSocketResponse | None = None
        self._private: web.WebSocketResponse | None = None
        self._telling: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/market/stream", self._market_stream)
        app.router.add_get("/private/ws", self._user_stream)
        app.router.add_post("/fapi/v1/order", self._order)
        app.router.add_route("*", "/{path:.*}", self._fact)
        return app

    async def bars(self, count: int, pause_s: float) -> int:
        """Send so many bars; how many of them no order answered in time."""
        missed = 0
        assert self._market is not None
        for _ in range(count):
            await asyncio.sleep(pause_s)
            text = candle(self._next_ms)
            self._next_ms += MINUTE_MS
            self._filled.clear()
            self._sent_ns = perf_counter_ns()
            await self._market.send_str(text)
            try:
                async with asyncio.timeout(ORDER_WAIT_S):
                    await self._filled.wait()
            except TimeoutError:
                missed += 1
                if missed == _ENOUGH:
                    break
        return missed

    # ---- streams ------------------------------------------------------------------------------------------------

    async def _market_stream(self, request: web.Request) -> web.StreamResponse:
        self._market = socket = web.WebSocketResponse()
        await socket.prepare(request)
        now_ms = time_ns() // 1_000_000
        self._next_ms = self._next_ms or now_ms - now_ms % MINUTE_MS
        await self._acknowledge(socket)
        return socket

    async def _user_stream(self, request: web.Request) -> web.StreamResponse:
        self._private = socket = web.WebSocketResponse()
        await socket.prepare(request)
        await self._acknowledge(socket)
        return socket

    @staticmethod
    async def _acknowledge(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(json.dumps({"result": None, "id": json.loads(message.data)["id"]}))

    # ---- requests -----------------------------------------------------------------------------------------------

    async def _order(self, request: web.Request) -> web.StreamResponse:
        self.trips_ns.append(perf_counter_ns() - self._sent_ns)
        asked = request.query
        number = len(self._trades) + 1
        qty = Decimal(asked["quantity"])
        self._position += qty if asked["side"] == "BUY" else -qty
        now_ms = time_ns() // 1_000_000
        trade = {"symbol": SYMBOL, "id": number, "orderId": number, "side": asked["side"], "price": PRICE}
        self._trades.append({**trade, "qty": asked["quantity"], "commission": "0", "time": now_ms})
        task = asyncio.create_task(self._tell(number, dict(asked), now_ms))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        row = {"symbol": SYMBOL, "orderId": number, "clientOrderId": asked["newClientOrderId"], "status": "FILLED"}
        more = {"origQty": asked["quantity"], "executedQty": asked["quantity"], "updateTime": now_ms}
        used = {"X-MBX-USED-WEIGHT-1M": "1", "X-MBX-ORDER-COUNT-10S": "1", "X-MBX-ORDER-COUNT-1M": "1"}
        return web.json_response({**row, **more, "side": asked["side"], "type": asked["type"]}, headers=used)

    async def _tell(self, number: int, asked: dict[str, str], now_ms: int) -> None:
        """The fill, on the user stream, and the word that the next bar may come."""
        await asyncio.sleep(0.001)
        qty, side = asked["quantity"], asked["side"]
        detail = {"s": SYMBOL, "c": asked["newClientOrderId"], "S": side, "o": "MARKET", "q": qty, "x": "TRADE"}
        more = {"X": "FILLED", "i": number, "l": qty, "z": qty, "L": PRICE, "n": "0", "N": "USDT", "T": now_ms}
        event = {"e": "ORDER_TRADE_UPDATE", "E": now_ms, "T": now_ms, "o": {**detail, **more, "t": number, "m": False}}
        if self._private is not None:
            await self._private.send_str(json.dumps(event))
        self._filled.set()

    async def _fact(self, request: web.Request) -> web.StreamResponse:
        body: Any
        match request.path:
            case "/fapi/v1/time":
                body = {"serverTime": time_ns() // 1_000_000}
            case "/fapi/v3/positionRisk":
                held = {"symbol": SYMBOL, "positionSide": "BOTH", "positionAmt": str(self._position)}
                body = [{**held, "entryPrice": PRICE}] if self._position else []
            case "/fapi/v1/userTrades":
                first = int(request.query.get("fromId", 1))
                body = self._trades[first - 1 :][:1_000]
            case "/fapi/v1/klines":
                body = []
            case path:
                body = _FACTS.get(path)
        if body is None:
            return web.json_response({"code": -1, "msg": f"{request.path} is not asked for here"}, status=400)
        return web.json_response(body)


async def serve(pipe: Connection) -> None:
    """Serve, and do what the pipe says: ``(count, pause_s)`` sends bars and answers ``(missed, trips_ns)``."""
    venue = Venue()
    runner = web.AppRunner(venue.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    pipe.send(runner.addresses[0][1])
    with suppress(EOFError):
        while (wish := await asyncio.to_thread(pipe.recv)) is not None:
            venue.trips_ns.clear()
            missed = await venue.bars(*wish)
            pipe.send((missed, list(venue.trips_ns)))


def venue_process(pipe: Connection) -> None:
    """The other process."""
    asyncio.run(serve(pipe))
