"""A venue that serves market data only: REST and routed streams on one port, with switches for its bad habits.

It trades one contract by arithmetic from the venue's time, so that what it says can be known beforehand: the close of
the bar that opens at minute ``n`` is ``bar_close(n)``.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

SYMBOL = "BTCUSDT"
MINUTE_MS = 60_000


def bar_close(open_ms: int) -> float:
    """The close of the bar that opens then."""
    return 1_000.0 + (open_ms // MINUTE_MS) % 100


class Client:
    """One stream connection."""

    def __init__(self, path: str, socket: web.WebSocketResponse) -> None:
        self.path = path
        self.socket = socket
        self.streams: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.mute = False


class MarketVenue:
    """Start with ``await start()``; ``now_ms`` tells the venue's time."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms
        self.clients: list[Client] = []
        self.opened: list[Client] = []
        self.silent: set[str] = set()  # families, by the part after "@"
        self.frozen: set[str] = set()  # families that repeat their last payload
        self.mute_new = False
        self.lost_closes = 0  # so many closing candles are not pushed
        self.no_rows: set[int] = set()  # opens of bars that REST does not have
        self.down = False
        self.book: dict[str, dict[str, str]] = {"b": {"999.90": "1.000"}, "a": {"1200.00": "1.000"}}
        self.update_id = 1_000
        self.skip_depth = 0
        self.rest_calls: list[str] = []
        self.funding_at_ms = 0
        self.port = 0
        self._last: dict[str, dict[str, Any]] = {}
        self._trade_id = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port, and let the market run."""
        app = web.Application()
        app.router.add_get("/fapi/v1/klines", self._klines)
        app.router.add_get("/fapi/v1/depth", self._snapshot)
        for path in ("/public/stream", "/market/stream", "/stream"):
            app.router.add_get(path, self._stream)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._tasks = [asyncio.create_task(self._market())]

    async def stop(self) -> None:
        """Close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.cut()
        assert self._runner is not None
        await self._runner.cleanup()

    async def cut(self, code: int = WSCloseCode.GOING_AWAY) -> None:
        """Close all connections."""
        for client in list(self.clients):
            await client.socket.close(code=code)

    async def push(self, stream: str, data: Any) -> None:
        """Send a payload to whoever subscribed."""
        text = json.dumps({"stream": stream, "data": data}, separators=(",", ":"))
        await self.push_raw(stream, text)

    async def push_raw(self, stream: str, text: str | bytes) -> None:
        """Send anything to whoever subscribed."""
        for client in list(self.clients):
            if stream in client.streams and not client.mute:
                try:
                    if isinstance(text, bytes):
                        await client.socket.send_bytes(text)
                    else:
                        await client.socket.send_str(text)
                except ConnectionError:
                    continue

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        if self.down:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse(timeout=1.0)
        await socket.prepare(request)
        client = Client(request.path, socket)
        client.mute = self.mute_new
        self.clients.append(client)
        self.opened.append(client)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._request(client, json.loads(message.data))
        finally:
            self.clients.remove(client)
        return socket

    async def _request(self, client: Client, asked: dict[str, Any]) -> None:
        client.requests.append(asked)
        if asked["method"] == "SUBSCRIBE":
            client.streams += asked["params"]
        else:
            client.streams = [name for name in client.streams if name not in asked["params"]]
        await client.socket.send_str(json.dumps({"result": None, "id": asked["id"]}))

    # the market

    async def _market(self) -> None:
        """Ten ticks a second: depth and quotes on each, a trade, a mark and a candle on the tenth."""
        tick = 0
        while True:
            await asyncio.sleep(0.1)
            tick += 1
            now = self.now_ms()
            if self.down:
                continue
            await self._depth(now)
            await self._say(
                "bookTicker",
                {"e": "bookTicker", "u": now, "b": "1050.00", "B": "1", "a": "1050.10", "A": "2", "T": now, "E": now},
            )
            if tick % 10 == 0:
                await self._second(now)

    async def _second(self, now: int) -> None:
        self._trade_id += 1
        number = self._trade_id
        await self._say(
            "aggTrade",
            {"e": "aggTrade", "a": number, "p": "1050.0", "q": "1", "T": now, "E": now, "m": False, "st": 1},
        )
        due = self.funding_at_ms if self.funding_at_ms > now else self.funding_at_ms + 8 * 3_600_000
        mark = {"e": "markPriceUpdate", "p": "1050.5", "r": "0.00012", "T": due, "E": now, "st": 1}
        await self._say("markPrice@1s", mark)
        await self._candles(now)

    async def _candles(self, now: int) -> None:
        open_ms = now - now % MINUTE_MS
        before = open_ms - MINUTE_MS
        if self._last.get("closed", {}).get("t") != before:
            self._last["closed"] = {"t": before}
            if self.lost_closes:
                self.lost_closes -= 1
            else:
                await self._say("kline_1m", self.candle(before, closed=True, now=now))
        await self._say("kline_1m", self.candle(open_ms, closed=False, now=now))

    def candle(self, open_ms: int, *, closed: bool, now: int) -> dict[str, Any]:
        """A kline payload."""
        close = f"{bar_close(open_ms):.2f}"
        candle = {"t": open_ms, "T": open_ms + MINUTE_MS - 1, "s": SYMBOL, "i": "1m", "x": closed, "n": 3}
        return {"e": "kline", "E": now, "k": {**candle, "o": close, "h": close, "l": close, "c": close, "v": "5"}}

    async def _depth(self, now: int) -> None:
        before = self.update_id
        self.update_id += 7
        price = f"{1_000 + self.update_id % 13:.2f}"
        self.book["b"][price] = "2.500"
        gone = f"{1_000 + (self.update_id + 5) % 13:.2f}"
        self.book["b"].pop(gone, None)
        if self.skip_depth:
            self.skip_depth -= 1
            return
        ids = {"U": before + 2, "u": self.update_id, "pu": before}
        changes = [[gone, "0"]] if gone != price else []
        await self._say(
            "depth@100ms",
            {"e": "depthUpdate", "E": now, "T": now, **ids, "b": [[price, "2.500"], *changes], "a": []},
        )

    async def _say(self, family: str, payload: dict[str, Any]) -> None:
        if family in self.silent:
            return
        if family in self.frozen and family in self._last:
            payload = self._last[family]
        self._last[family] = payload
        await self.push(f"{SYMBOL.lower()}@{family}", {"s": SYMBOL, **payload})

    # REST

    async def _klines(self, request: web.Request) -> web.Response:
        self.rest_calls.append(request.path_qs)
        if self.down:
            raise web.HTTPServiceUnavailable(text="Service Unavailable.")
        start, end = int(request.query["startTime"]), int(request.query["endTime"])
        first = -(-start // MINUTE_MS) * MINUTE_MS
        limit = int(request.query["limit"])
        opens = [ms for ms in range(first, min(end, self.now_ms()) + 1, MINUTE_MS) if ms not in self.no_rows][:limit]
        return web.json_response([self._row(ms) for ms in opens])

    def _row(self, open_ms: int) -> list[Any]:
        close = f"{bar_close(open_ms):.2f}"
        return [open_ms, close, close, close, close, "5", open_ms + MINUTE_MS - 1, "5000", 3, "2", "2000", "0"]

    async def _snapshot(self, request: web.Request) -> web.Response:
        self.rest_calls.append(request.path_qs)
        if self.down:
            raise web.HTTPServiceUnavailable(text="Service Unavailable.")
        bids, asks = (list(map(list, self.book[side].items())) for side in "ba")
        return web.json_response({"lastUpdateId": self.update_id, "E": 1, "T": 1, "bids": bids, "asks": asks})
