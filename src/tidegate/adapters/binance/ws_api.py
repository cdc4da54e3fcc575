"""Order entry over the venue's WebSocket API: the same requests, the same three kinds of failure, one connection.

An Ed25519 key logs on once per connection; any other key signs every request. A request that was written and not
answered is unknown, whatever ended the wait. (binance-futures.md 16)

A connection that cannot be opened in ``_CONNECT_S`` is opened again in the background; until it is there every request
is told at once that it cannot go this way (``LinkDown``), so that it can take the other one.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeVar

import msgspec

from tidegate.adapters.binance.background import Background
from tidegate.adapters.binance.clock import NS_PER_MS, NS_PER_S
from tidegate.adapters.binance.errors import Banned, Context, Fate, LinkDown, NotSent, Unknown, classify, clean
from tidegate.adapters.binance.limits import Lane
from tidegate.adapters.binance.rest import BinanceRest
from tidegate.adapters.binance.signing import Ed25519Signer, Signer, wsapi_payload
from tidegate.adapters.binance.ws_transport import LinkLost, WsConnection, WsTransport
from tidegate.domain.errors import VenueError
from tidegate.domain.ids import Nanos
from tidegate.domain.secret import Secret

T = TypeVar("T")

METHODS: Final[Mapping[tuple[str, str], str]] = {
    ("POST", "/fapi/v1/order"): "order.place",
    ("PUT", "/fapi/v1/order"): "order.modify",
    ("DELETE", "/fapi/v1/order"): "order.cancel",
    ("POST", "/fapi/v1/algoOrder"): "algoOrder.place",
    ("DELETE", "/fapi/v1/algoOrder"): "algoOrder.cancel",
}
"""What can be asked here, by the REST request that it stands for."""

_ANSWER_S: Final = 3.0
_CONNECT_S: Final = 1.0
_REOPEN_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
_HANDSHAKE_WEIGHT: Final = 5
_LOG_ON_WINDOW_MS: Final = 5000


class _Answer(msgspec.Struct, gc=False):
    """The envelope of every answer; ``result`` and ``error`` are read by what was asked."""

    id: str | int | None = None
    status: int = 0
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"")


@dataclass(frozen=True, slots=True)
class Ask:
    """How a request is made: urgency, time window, expiry, and who hears its timestamp before it leaves."""

    lane: Lane
    context: Context
    recv_window_ms: int = 5000
    orders: int = 0
    expires_ns: Nanos | None = None
    on_sent: Callable[[Nanos], None] | None = None


class WsApi:
    """One connection, opened by the first request and again after a loss. ``url`` ends in ``/ws-fapi/v1``.

    Clock and weights are those of ``rest``: the venue counts both ways together. ``fail`` hears of a defect that
    ended the reading, ``on_state`` why no request can go this way, and ``""`` when it can again.
    """

    def __init__(
        self,
        transport: WsTransport,
        url: str,
        signer: Signer,
        rest: BinanceRest,
        fail: Callable[[BaseException], None],
        on_state: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._on_state = on_state
        self._why_down = ""
        self._transport, self._url, self._signer = transport, url, signer
        self._clock, self._governor = rest.clock, rest.governor
        self._background = Background(fail)
        self._connection: WsConnection | None = None
        self._opening = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[_Answer]] = {}
        self._number = 0
        self._logged_on = False

    async def call(self, method: str, path: str, params: Sequence[tuple[str, str]], *, answer: type[T], ask: Ask) -> T:
        """The request that ``method`` and ``path`` stand for, once. Raises as ``BinanceRest.call`` does."""
        connection = await self._ready()
        await self._admit(ask)
        if (doubt := self._clock.doubt) is not None:
            raise NotSent(doubt)
        if ask.expires_ns is not None and self._clock.now_ns() >= ask.expires_ns:
            raise NotSent("expired before it was signed")
        stamp_ms = self._clock.now_ms()
        verb = METHODS[method, path]
        name, request = self._written(verb, dict(params), ask.recv_window_ms, stamp_ms, signed=not self._logged_on)
        if ask.on_sent is not None:
            ask.on_sent(stamp_ms * NS_PER_MS)
        found = await self._ask(connection, verb, name, request)
        return self._read(found, answer, ask.context)

    async def close(self) -> None:
        """Close the connection."""
        await self._background.cancel()
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _admit(self, ask: Ask) -> None:
        left_s = None
        if ask.expires_ns is not None and self._clock.synced:
            left_s = max((ask.expires_ns - self._clock.now_ns()) / NS_PER_S, 0.0)
        try:
            async with asyncio.timeout(left_s):
                weight = 0 if ask.orders else 1
                await self._governor.take(weight, ask.lane, orders_10s=ask.orders, orders_1m=ask.orders)
        except TimeoutError:
            raise NotSent("expired while it waited for its weight") from None

    async def _ready(self) -> WsConnection:
        """The connection, opened if need be. Raises ``LinkDown`` at once while it is being opened again."""
        if self._why_down:
            raise LinkDown(self._why_down)
        try:
            async with asyncio.timeout(_CONNECT_S), self._opening:
                return await self._connected()
        except TimeoutError:
            self._down(f"order entry: no connection in {_CONNECT_S:g} s")
        except VenueError as error:
            self._down(f"order entry: {error}")
        raise LinkDown(self._why_down)

    async def _connected(self) -> WsConnection:
        if self._connection is not None:
            return self._connection
        await self._governor.take(_HANDSHAKE_WEIGHT, Lane.CANCEL)
        try:
            connection = await self._transport.connect(self._url)
        except LinkLost as error:
            raise NotSent(str(error)) from None
        self._connection, self._logged_on = connection, False
        self._background.spawn(self._receive(connection))
        if isinstance(self._signer, Ed25519Signer):
            try:
                await self._log_on(connection)
            except BaseException:
                await self._lose(connection, "not logged on")
                raise
        return connection

    def _down(self, why: str) -> None:
        if not self._why_down:
            self._why_down = why
            self._on_state(why)
            self._background.spawn(self._reopen())

    async def _reopen(self) -> None:
        """Try until the connection is there; nobody waits for it."""
        for attempt in count():
            await asyncio.sleep(_REOPEN_S[min(attempt, len(_REOPEN_S) - 1)])
            with suppress(VenueError, TimeoutError):
                async with asyncio.timeout(_ANSWER_S), self._opening:
                    await self._connected()
                self._why_down = ""
                self._on_state("")
                return

    async def _log_on(self, connection: WsConnection) -> None:
        name, request = self._written("session.logon", {}, _LOG_ON_WINDOW_MS, self._clock.now_ms(), signed=True)
        try:
            found = await self._ask(connection, "session.logon", name, request)
            self._read(found, dict[str, Any], Context.QUERY)
        except VenueError as error:
            raise NotSent(f"log-on: {error}") from None
        self._logged_on = True

    def _written(
        self, verb: str, fields: dict[str, str | int | bool], window_ms: int, stamp_ms: int, *, signed: bool
    ) -> tuple[str, Secret]:
        """The name of a request, and its text: hidden, for it holds our key."""
        self._number += 1
        name = f"t{self._number}"
        fields |= {"recvWindow": window_ms, "timestamp": stamp_ms}
        if signed:
            fields["apiKey"] = self._signer.api_key
            fields["signature"] = self._signer.sign_plain(wsapi_payload(fields))
        return name, Secret(msgspec.json.encode({"id": name, "method": verb, "params": fields}).decode())

    async def _ask(self, connection: WsConnection, verb: str, name: str, request: Secret) -> _Answer:
        """Write one request and wait for its answer. Once it was handed over, its failure is unknown.

        A connection that leaves a request without an answer is not used again.
        """
        waiting: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting[name] = waiting
        try:
            async with asyncio.timeout(_ANSWER_S):
                await connection.send(request.reveal())
                return await waiting
        except TimeoutError:
            self._down(f"order entry: {verb} had no answer")
            self._background.spawn(self._lose(connection, "a request had no answer"))
            raise Unknown(f"{verb}: no answer in {_ANSWER_S:g} s") from None
        except LinkLost as error:
            raise Unknown(f"{verb}: {error}") from None
        finally:
            self._waiting.pop(name, None)

    def _read(self, found: _Answer, answer: type[T], context: Context) -> T:
        """The result, or what the error means: read by the same catalogue as over REST."""
        ok = 200 <= found.status < 300
        outcome = classify(found.status, bytes(found.result if ok else found.error), context)
        if outcome.fate is Fate.BANNED:
            self._governor.ban(outcome.banned_until_ms)
            raise Banned(self._governor.banned_until_ns or 0, why=f"status {found.status}: {outcome.message}; shut out")
        if outcome.fate is Fate.LIMITED or (outcome.fate is Fate.UNKNOWN and found.status == 429):
            self._governor.limited(outcome.code or -1003)
        if outcome.fate is Fate.UNKNOWN and found.status == 418:
            self._governor.ban(outcome.banned_until_ms)
        if outcome.fate is not Fate.DONE:
            raise outcome.error()
        try:
            return msgspec.json.decode(found.result, type=answer)
        except msgspec.DecodeError as error:
            raise Unknown(f"an answer of another shape: {clean(str(error))}", status=found.status) from None

    async def _receive(self, connection: WsConnection) -> None:
        try:
            while True:
                found = msgspec.json.decode(await connection.recv(), type=_Answer)
                waiting = self._waiting.get(str(found.id))
                if waiting is not None and not waiting.done():
                    waiting.set_result(found)
        except LinkLost as error:
            await self._lose(connection, str(error))
        except msgspec.DecodeError:
            await self._lose(connection, "an answer is not what the venue documents")

    async def _lose(self, connection: WsConnection, why: str) -> None:
        if self._connection is connection:
            self._connection, self._logged_on = None, False
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(LinkLost(why))
        await connection.close()


def is_taken(method: str, path: str) -> bool:
    """Whether the WebSocket API takes this request."""
    return (method, path) in METHODS
