"""A stub of the exchange on a real socket: it answers what a test tells it to, and pushes what a test hands it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

Answer = tuple[int, Any]
HANG: Answer = (0, None)
"""Never answered."""

LISTEN_KEY = "stub-listen-key"


async def _taken() -> web.Response | None:
    """The handshake of the order WebSocket succeeds."""
    return None


def refusal(code: int, message: str = "no", status: int = 400) -> Answer:
    return status, {"code": code, "msg": message}


class StubExchange:
    """``answers`` by method and path: an answer, a list of answers used in turn (the last stays), or a function of the
    parameters. ``ws_handshake`` may answer the order WebSocket's handshake. ``calls`` has every request. User streams
    are under ``/private/ws`` and ``/ws/KEY``."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {
            ("GET", "/fapi/v1/ping"): (200, {}),
            ("POST", "/fapi/v1/listenKey"): (200, {"listenKey": LISTEN_KEY}),
            ("PUT", "/fapi/v1/listenKey"): (200, {"listenKey": LISTEN_KEY}),
            ("GET", "/fapi/v2/ticker/price"): (200, {"symbol": "BNBUSDT", "price": "600.5", "time": 1}),
            ("GET", "/fapi/v1/openOrders"): (200, []),
            ("GET", "/fapi/v1/openAlgoOrders"): (200, []),
            ("GET", "/fapi/v1/allAlgoOrders"): (200, []),
            ("GET", "/fapi/v3/positionRisk"): (200, []),
            ("GET", "/fapi/v3/balance"): (200, [{"asset": "USDT", "balance": "10000.00"}]),
            ("GET", "/fapi/v1/symbolConfig"): (200, [{"symbol": "BTCUSDT", "marginType": "CROSSED", "leverage": 5}]),
            ("GET", "/fapi/v1/accountConfig"): (200, {"dualSidePosition": False, "multiAssetsMargin": False}),
            ("GET", "/fapi/v1/userTrades"): (200, []),
            ("GET", "/fapi/v1/income"): (200, []),
        }
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.urls: list[str] = []
        self.answers_probes = True
        self.ws_api: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: None
        self.ws_handshake: Callable[[], Awaitable[web.Response | None]] = _taken
        self.url = ""
        self._connected = asyncio.Event()

    def asked(self, method: str, path: str) -> list[dict[str, str]]:
        """The parameters of every request of this kind."""
        return [params for how, where, params in self.calls if (how, where) == (method, path)]

    async def push(self, event: dict[str, Any]) -> None:
        """To every open user stream."""
        for socket in self.sockets:
            if not socket.closed:
                await socket.send_str(json.dumps(event))

    async def connections(self, number: int) -> None:
        """Return when so many user streams have been opened."""
        while len(self.sockets) < number:
            self._connected.clear()
            await self._connected.wait()

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        params = dict(request.query)
        if request.path == "/fapi/v1/time":
            return web.json_response({"serverTime": time.time_ns() // 1_000_000})
        self.calls.append((request.method, request.path, params))
        status, body = self._answer((request.method, request.path), params)
        if status == 0:
            await asyncio.sleep(60)
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html")
        return web.json_response(body, status=status)

    def _answer(self, key: tuple[str, str], params: dict[str, str]) -> Answer:
        found = self.answers.get(key, refusal(-2013, "nothing is prepared for this"))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        answer: Answer = found(params) if callable(found) else found
        return answer

    async def _user_stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        self.urls.append(request.path_qs)
        self._connected.set()
        async for message in socket:
            if message.type is WSMsgType.TEXT and self.answers_probes:
                await socket.send_str(json.dumps({"result": [], "id": json.loads(message.data)["id"]}))
        return socket

    async def _order_entry(self, request: web.Request) -> web.StreamResponse:
        if (refused := await self.ws_handshake()) is not None:
            return refused
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            asked = json.loads(message.data)
            self.calls.append(("WS", asked["method"], asked["params"]))
            if (answer := self.ws_api(asked)) is not None:
                await socket.send_str(json.dumps({"id": asked["id"], **answer}))
        return socket

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["StubExchange"]:
        app = web.Application()
        app.router.add_get("/private/ws", self._user_stream)
        app.router.add_get("/ws/{key}", self._user_stream)
        app.router.add_get("/ws-fapi/v1", self._order_entry)
        app.router.add_route("*", "/{path:.*}", self._rest)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            for socket in self.sockets:
                await socket.close()
            await runner.cleanup()

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)
