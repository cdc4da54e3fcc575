"""The WebSocket API: the same handlers as REST, asked by messages, with sessions logged on by Ed25519."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from tidegate.adapters.localnet.accounts import Account, Accounts
from tidegate.adapters.localnet.auth import as_text, check_time, session_message
from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.pipeline import FaultHook
from tidegate.adapters.localnet.ratelimits import RateLimits
from tidegate.adapters.localnet.request_faults import CutConnection
from tidegate.adapters.localnet.routes import ApiRequest, ApiResponse, Route, Routes
from tidegate.ports import Clock

Json = dict[str, Any]

HANDSHAKE_WEIGHT: Final = 5
METHODS: Final = {
    "order.place": ("POST", "/fapi/v1/order"),
    "order.modify": ("PUT", "/fapi/v1/order"),
    "order.cancel": ("DELETE", "/fapi/v1/order"),
    "order.status": ("GET", "/fapi/v1/order"),
    "algoOrder.place": ("POST", "/fapi/v1/algoOrder"),
    "algoOrder.cancel": ("DELETE", "/fapi/v1/algoOrder"),
    "account.status": ("GET", "/fapi/v2/account"),
    "v2/account.status": ("GET", "/fapi/v3/account"),
    "account.balance": ("GET", "/fapi/v2/balance"),
    "v2/account.balance": ("GET", "/fapi/v3/balance"),
    "account.position": ("GET", "/fapi/v2/positionRisk"),
    "v2/account.position": ("GET", "/fapi/v3/positionRisk"),
    "userDataStream.start": ("POST", "/fapi/v1/listenKey"),
    "userDataStream.ping": ("PUT", "/fapi/v1/listenKey"),
    "userDataStream.stop": ("DELETE", "/fapi/v1/listenKey"),
    "depth": ("GET", "/fapi/v1/depth"),
    "ticker.price": ("GET", "/fapi/v2/ticker/price"),
    "ticker.book": ("GET", "/fapi/v1/ticker/bookTicker"),
}
"""Each method and the endpoint that answers it."""

_PUBLIC: Final = ("depth", "ticker.price", "ticker.book")
_KEY_ONLY: Final = ("userDataStream.start", "userDataStream.ping", "userDataStream.stop")
_CONTROL: Final = ("signature", "apiKey", "returnRateLimits")


@dataclass(slots=True)
class _Session:
    """One connection: who logged on, since when, and whether it wants the limits told."""

    remote: str
    tells_limits: bool
    connected_ms: int
    account: Account | None = None
    logged_on_ms: int | None = None


class WsApi:
    """The endpoint ``/ws-fapi/v1``: mount ``handle``."""

    def __init__(
        self, accounts: Accounts, routes: Routes, limits: RateLimits, clock: Clock, faults: FaultHook | None = None
    ) -> None:
        self._accounts = accounts
        self._routes = routes
        self._limits = limits
        self._clock = clock
        self._faults = faults
        self._sockets: list[web.WebSocketResponse] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it ends. Requests of a connection run side by side."""
        remote = request.remote or "127.0.0.1"
        try:
            self._limits.take(remote, request.path, HANDSHAKE_WEIGHT)
        except ApiError as error:
            return web.json_response(error.body, status=error.status)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.append(socket)
        session = _Session(remote, request.query.get("returnRateLimits", "true") != "false", self._now_ms)
        running: dict[int, asyncio.Task[None]] = {}
        count = 0
        try:
            async for message in socket:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    continue
                count += 1
                running = {number: task for number, task in running.items() if not task.done()}
                running[count] = asyncio.ensure_future(self._reply(request, socket, session, message.data))
        finally:
            self._sockets.remove(socket)
            for task in running.values():
                task.cancel()
        return socket

    async def close(self) -> None:
        """End all connections."""
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    async def _reply(
        self, request: web.Request, socket: web.WebSocketResponse, session: _Session, raw: str | bytes
    ) -> None:
        try:
            answer = await self.answer(session, raw)
        except CutConnection:
            if request.transport is not None:
                request.transport.abort()
            return
        if not socket.closed:
            with suppress(ConnectionError):
                await socket.send_str(json.dumps(answer, separators=(",", ":")))

    def session(self, remote: str = "127.0.0.1") -> _Session:
        """A session without a socket, for ``answer``."""
        return _Session(remote, True, self._now_ms)

    async def answer(self, session: _Session, raw: str | bytes) -> Json:
        """The answer to one message. Numbers are read as text, so that they are signed as they were sent."""
        request_id: Any = None
        tells = session.tells_limits
        try:
            message = json.loads(raw, parse_float=str)
            if not isinstance(message, dict):
                raise ValueError
            request_id = message.get("id")
            params = message.get("params", {})
            if not isinstance(params, dict):
                raise ValueError
            tells = as_text(params.get("returnRateLimits", tells)).lower() == "true"
            body = await self._run(session, str(message.get("method")), params)
        except ApiError as error:
            body = {"status": error.status, "error": error.body}
        except ValueError:
            body = {"status": 400, "error": {"code": -1135, "msg": "Invalid JSON Request"}}
        limits = {"rateLimits": self._counts(session)} if tells else {}
        return {"id": request_id, **body, **limits}

    async def _run(self, session: _Session, method: str, params: Json) -> Json:
        if method.startswith("session."):
            return {"status": 200, "result": self._session_method(session, method, params)}
        if method not in METHODS:
            raise ApiError(-1101, msg=f"Method '{method}' is not known.")
        verb, path = METHODS[method]
        route = self._routes[verb, path]
        values = {name: as_text(value) for name, value in params.items() if name not in _CONTROL and value is not None}
        values = {name: value for name, value in values.items() if value != ""}
        weight = route.weight(values) if callable(route.weight) else route.weight
        self._limits.take(session.remote, path, weight)
        account = None if method in _PUBLIC else self._admit(session, method, params)
        if account is not None:
            self._limits.take_orders(account.key, route.orders)
        headers = {} if account is None else {"x-mbx-apikey": account.key}
        request = ApiRequest(verb, path, b"", b"", headers, session.remote, values)
        execute = _answering(route)
        response = await (execute(request) if self._faults is None else self._faults.run(request, execute))
        content = json.loads(response.body)
        if response.status != 200:
            return {"status": response.status, "error": content}
        return {"status": 200, "result": content}

    def _admit(self, session: _Session, method: str, params: Json) -> Account:
        if session.account is not None and "signature" not in params:
            if method not in _KEY_ONLY:
                check_time(_texts(params), self._clock.now_ns())
            return session.account
        account = self._accounts.by_key(str(params.get("apiKey", "")))
        if account is None:
            raise ApiError(-2015, session.remote)
        if method not in _KEY_ONLY:
            self._verify(account, params)
        return account

    def _verify(self, account: Account, params: Json) -> None:
        signature = str(params.get("signature", ""))
        if not signature:
            raise ApiError(-1102, "signature")
        if not account.credentials.verifies(session_message(params), signature):
            raise ApiError(-1022)
        check_time(_texts(params), self._clock.now_ns())

    # ---- sessions -----------------------------------------------------------------------------------------------

    def _session_method(self, session: _Session, method: str, params: Json) -> Json:
        match method:
            case "session.logon":
                account = self._accounts.by_key(str(params.get("apiKey", "")))
                if account is None:
                    raise ApiError(-2015, session.remote)
                if not account.credentials.is_ed25519:
                    raise ApiError(-4056, msg="HMAC_SHA256 API key is not supported.")
                self._verify(account, params)
                session.account, session.logged_on_ms = account, self._now_ms
            case "session.logout":
                session.account, session.logged_on_ms = None, None
            case "session.status":
                pass
            case _:
                raise ApiError(-1101, msg=f"Method '{method}' is not known.")
        return {
            "apiKey": None if session.account is None else session.account.key,
            "authorizedSince": session.logged_on_ms,
            "connectedSince": session.connected_ms,
            "returnRateLimits": session.tells_limits,
            "serverTime": self._now_ms,
        }

    # ---- limits -------------------------------------------------------------------------------------------------

    def _counts(self, session: _Session) -> list[Json]:
        return [
            {
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": self._limits.limits.weight_1m,
                "count": self._limits.used_weight(session.remote),
            }
        ]

    @property
    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000


def _texts(params: Json) -> Mapping[str, str]:
    return {name: as_text(value) for name, value in params.items()}


def _answering(route: Route) -> Callable[[ApiRequest], Awaitable[ApiResponse]]:
    async def execute(request: ApiRequest) -> ApiResponse:
        try:
            return await route.handler(request)
        except ApiError as error:
            return error.response

    return execute
