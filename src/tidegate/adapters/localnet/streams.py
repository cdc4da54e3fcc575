"""WebSocket endpoints of the streams: paths, control messages, limits, pings, the 24-hour cut, slow consumers."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from tidegate.adapters.localnet.feeds import Route
from tidegate.adapters.localnet.hub import Hub
from tidegate.ports import Clock

log = logging.getLogger(__name__)

_METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Limits of a connection. ``strict_routing``: un-routed paths push public streams only, as production does."""

    strict_routing: bool = False
    max_streams: int = 1_024
    max_messages_per_s: int = 10
    ping_s: float = 180.0
    pong_timeout_s: float = 600.0
    lifetime_s: float = 86_400.0
    max_queue: int = 20_000  # messages that wait for a slow consumer before it is dropped


class _Refused(Exception):
    """A control message that is answered with ``{"code", "msg"}``."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.code, self.msg = code, msg


class Connection:
    """One WebSocket of a subscriber."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        hub: Hub,
        clock: Clock,
        config: StreamConfig,
        routes: tuple[Route, ...],
        *,
        combined: bool,
    ) -> None:
        self._ws, self._transport, self._hub = ws, transport, hub
        self._clock, self._config, self._routes = clock, config, routes
        self._combined = combined
        self._streams: dict[str, None] = {}
        self._queue: deque[str] = deque()
        self._filled = asyncio.Event()
        self._received: deque[int] = deque(maxlen=config.max_messages_per_s + 1)
        self._ponged_ns = clock.monotonic_ns()

    # -- what the hub gives --------------------------------------------------------------------------------------------

    def serves(self, routes: Iterable[Route]) -> bool:
        """Whether one of these routes is served on this path."""
        return any(route in self._routes for route in routes)

    def deliver(self, stream: str, raw: bytes) -> None:
        """Queue a message of a stream, enveloped when that is asked for."""
        if self._combined:
            raw = b'{"stream":' + msgspec.json.encode(stream) + b',"data":' + raw + b"}"
        self._push(raw.decode("utf-8", "replace"))

    def _push(self, text: str) -> None:
        if len(self._queue) >= self._config.max_queue:
            log.warning("slow consumer dropped: %d messages waited", len(self._queue))
            self._queue.clear()
            self.abort()
            return
        self._queue.append(text)
        self._filled.set()

    def abort(self) -> None:
        """Break the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self, code: int = WSCloseCode.GOING_AWAY) -> None:
        """Close it properly."""
        await self._ws.close(code=code)

    # -- life ----------------------------------------------------------------------------------------------------------

    async def run(self, streams: Iterable[str], events: frozenset[str]) -> None:
        """Serve until either side ends it."""
        for stream in streams:
            self._add(stream, events)
        tasks = [asyncio.ensure_future(self._write()), asyncio.ensure_future(self._watch())]
        try:
            await self._read()
        finally:
            self._hub.drop(self, list(self._streams))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                try:
                    await self._ws.send_str(self._queue.popleft())
                except ConnectionError:
                    return

    async def _watch(self) -> None:
        """Ping, notice a dead peer, and end the connection when its time is over."""
        ends_ns = self._clock.monotonic_ns() + round(self._config.lifetime_s * _SECOND_NS)
        while (left_ns := ends_ns - self._clock.monotonic_ns()) > 0:
            await asyncio.sleep(min(self._config.ping_s, left_ns / _SECOND_NS))
            silent_ns = self._clock.monotonic_ns() - self._ponged_ns
            if silent_ns > self._config.pong_timeout_s * _SECOND_NS:
                self.abort()
                return
            await self._ws.ping(str(self._clock.now_ns() // 1_000_000).encode())
        await self.close()

    async def _read(self) -> None:
        while True:
            message = await self._ws.receive()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return
            if self._floods():
                await self.close(WSCloseCode.POLICY_VIOLATION)
                return
            if message.type is WSMsgType.PING:
                await self._ws.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._ponged_ns = self._clock.monotonic_ns()
            else:
                self._push(msgspec.json.encode(self._answer(message.data)).decode())

    def _floods(self) -> bool:
        """Whether more messages came within a second than are allowed."""
        self._received.append(now_ns := self._clock.monotonic_ns())
        full = len(self._received) == self._received.maxlen
        return full and now_ns - self._received[0] < _SECOND_NS

    # -- control messages ----------------------------------------------------------------------------------------------

    def _answer(self, data: str | bytes) -> dict[str, Any]:
        try:
            message = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return {"code": 3, "msg": f"Invalid JSON: {error}"}
        number = message.get("id") if isinstance(message, dict) else None
        try:
            result = self._execute(message)
        except _Refused as error:
            answer: dict[str, Any] = {"code": error.code, "msg": error.msg}
            return answer if number is None else {**answer, "id": number}
        return {"result": result, "id": number}

    def _execute(self, message: Any) -> Any:
        if not isinstance(message, dict) or "method" not in message:
            raise _Refused(2, "Invalid request: missing field `method`")
        if not isinstance(message.get("id"), int | str | None) or isinstance(message.get("id"), bool):
            raise _Refused(2, "Invalid request: request ID must be an unsigned integer")
        method, params = message["method"], message.get("params", [])
        if method not in _METHODS:
            known = ", ".join(f"`{name}`" for name in _METHODS)
            raise _Refused(2, f"Invalid request: unknown variant `{method}`, expected one of {known}")
        if method == "LIST_SUBSCRIPTIONS":
            return list(self._streams)
        if not isinstance(params, list):
            raise _Refused(2, "Invalid request: params must be a list")
        if method in ("SET_PROPERTY", "GET_PROPERTY"):
            return self._property(method, params)
        if not all(isinstance(name, str) for name in params):
            raise _Refused(2, "Invalid request: stream names must be strings")
        return self._change(method, params)

    def _property(self, method: str, params: list[Any]) -> bool | None:
        if not params or params[0] != "combined":
            raise _Refused(0, "Unknown property")
        if method == "GET_PROPERTY":
            return self._combined
        if len(params) != 2 or not isinstance(params[1], bool):
            raise _Refused(1, "Invalid value type: expected Boolean")
        self._combined = params[1]
        return None

    def _change(self, method: str, names: list[str]) -> None:
        if method == "UNSUBSCRIBE":
            for name in names:
                self._streams.pop(name, None)
                self._hub.unsubscribe(self, name)
            return
        if len(self._streams.keys() | set(names)) > self._config.max_streams:
            raise _Refused(2, f"Invalid request: more than {self._config.max_streams} streams on one connection")
        for name in names:
            self._add(name)

    def _add(self, name: str, events: frozenset[str] = frozenset()) -> None:
        self._streams[name] = None
        self._hub.subscribe(self, name, events)


class Streams:
    """The endpoints. ``routes`` are to be added to the application before its catch-all."""

    def __init__(self, hub: Hub, clock: Clock, config: StreamConfig | None = None) -> None:
        self._hub, self._clock, self._config = hub, clock, config or StreamConfig()
        self._connections: dict[Connection, None] = {}

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def routes(self) -> list[web.RouteDef]:
        """Every path of the streams."""
        paths = [f"{prefix}/{kind}" for prefix in ("/public", "/market", "/private", "") for kind in ("ws", "stream")]
        return [web.get(path + tail, self._serve) for path in paths for tail in ("", "/{streams:.*}")]

    async def close(self) -> None:
        """Say goodbye to every connection."""
        await asyncio.gather(*(connection.close() for connection in list(self._connections)))

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=1 << 20)
        if not ws.can_prepare(request):
            told = '{"code":-1000,"msg":"This path takes WebSocket connections."}'
            raise web.HTTPBadRequest(text=told, content_type="application/json")
        await ws.prepare(request)
        prefix, _, rest = request.path.strip("/").partition("/")
        combined = "stream" in (prefix, rest.partition("/")[0])
        routes = self._routes_of(prefix)
        connection = Connection(ws, request.transport, self._hub, self._clock, self._config, routes, combined=combined)
        names = [*request.match_info.get("streams", "").split("/"), *request.query.get("streams", "").split("/")]
        names.append(request.query.get("listenKey", ""))
        events = frozenset(filter(None, request.query.get("events", "").split("/")))
        self._connections[connection] = None
        try:
            await connection.run([name for name in names if name], events)
        finally:
            del self._connections[connection]
        return ws

    def _routes_of(self, prefix: str) -> tuple[Route, ...]:
        try:
            return (Route(prefix),)
        except ValueError:
            return (Route.PUBLIC,) if self._config.strict_routing else tuple(Route)
