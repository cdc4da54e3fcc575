"""One managed stream connection: it subscribes, reconnects, rotates before the venue cuts it, and never gives up.

1. Open, under a limit of connections per time; subscribe in batches, in the order of the streams, each acknowledged.
2. Hand every payload to the handler. What the handler cannot read (``LinkLost``) replaces the connection.
3. When it ends, tell the handler, wait (exponential back-off with jitter), open again. A connection that brought a
   payload counts as a success and resets the back-off; an acknowledgement alone does not.
4. Before its 24 hours are over, open a second one beside it. When the new one has brought payload of every stream of
   which the old one still did, the old one is closed. While both are open the handler drops doubles by id.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Any, Final, Protocol

import msgspec

from tidegate.adapters.binance.market_schemas import Counters
from tidegate.adapters.binance.ws_transport import LinkLost, WsConnection, WsTransport

PAYLOAD: Final = b'{"stream":"'
"""How every payload of a combined stream begins; the name that follows ends with the next quotation mark."""


def stream_name(raw: bytes) -> bytes:
    """The stream of a payload that begins with ``PAYLOAD``."""
    return raw[11 : raw.find(b'"', 11)]


class WsSettings(msgspec.Struct, frozen=True):
    """How a connection behaves. The venue allows 10 messages a second, 24 hours, 1024 streams."""

    subscribe_batch: int = 50
    messages_per_s: float = 4.0
    ack_timeout_s: float = 10.0
    first_delay_s: float = 0.2
    longest_delay_s: float = 30.0
    rotate_after_s: float = 23 * 3600.0
    rotate_retry_s: float = 300.0
    overlap_s: float = 60.0
    connects: int = 100
    connects_window_s: float = 300.0


class StreamHandler(Protocol):
    """What a connection feeds. All methods are called from the event loop."""

    @property
    def full(self) -> bool:
        """Whether ``room`` must be awaited before more is read."""
        ...

    def stamp(self) -> None:
        """A batch of messages has arrived: read the clocks."""
        ...

    def message(self, raw: bytes) -> None:
        """One payload. Raises ``LinkLost`` when it shows that the connection is broken."""
        ...

    def opened(self) -> None:
        """A connection stands; nothing has been proven yet."""
        ...

    def up(self) -> None:
        """The first payload after an interruption has come."""
        ...

    def down(self, why: str) -> None:
        """The connection is gone; what is sent now is lost."""
        ...

    def overlap(self, both: bool) -> None:
        """Two connections carry the same streams from now on, or do so no more."""
        ...

    async def room(self) -> None:
        """Return when ``full`` is false again: until then nothing is read, and the sender feels it."""
        ...


class ConnectLimit:
    """At most so many connections in a sliding window; shared by all connections of a process."""

    def __init__(self, connects: int, window_s: float) -> None:
        self._connects = connects
        self._window_s = window_s
        self._opened: deque[float] = deque()

    async def take(self) -> None:
        """Return when one more connection may be opened."""
        now = asyncio.get_running_loop().time
        while len(self._opened) >= self._connects:
            left_s = self._opened[0] + self._window_s - now()
            if left_s > 0:
                await asyncio.sleep(left_s)
            else:
                self._opened.popleft()
        self._opened.append(now())


class _Reply(msgspec.Struct):
    """The answer to a request; ``code`` or ``error`` when it was refused."""

    id: int | str | None = None
    code: int | None = None
    error: Any = None
    result: Any = msgspec.UNSET


_REPLIES: Final = msgspec.json.Decoder(_Reply)


class _Session:
    """One connection, from its opening to its end."""

    def __init__(self, owner: "ManagedConnection") -> None:
        self._owner = owner
        self._connection: WsConnection | None = None
        self._ids = count(1)
        self._pending: dict[int, asyncio.Future[None]] = {}
        self._refresh: asyncio.Queue[str] = asyncio.Queue()
        self.subscribed = False
        self.proven = False
        self.seen: set[bytes] | None = None
        self.why = "stopped"
        self.task = asyncio.create_task(self._run(), name=f"stream {owner.name}")

    def refresh(self, stream: str) -> None:
        self._refresh.put_nowait(stream)

    async def stop(self, why: str) -> None:
        """End the session; returns when its connection is closed."""
        self.kill(why)
        await asyncio.wait((self.task,))

    def kill(self, why: str) -> None:
        self.why = why
        self.task.cancel()

    async def _run(self) -> None:
        """Ends by ``LinkLost``, which is kept in ``why``."""
        try:
            self._connection = await self._owner.transport.connect(self._owner.url)
            try:
                await self._serve(self._connection)
            finally:
                await self._connection.close()
        except LinkLost as error:
            self.why = str(error)

    async def _serve(self, connection: WsConnection) -> None:
        self._owner.handler.opened()
        parts = (asyncio.create_task(self._read(connection)), asyncio.create_task(self._subscribe(connection)))
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in parts:
                if part.done():
                    part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _read(self, connection: WsConnection) -> None:
        handler = self._owner.handler
        message = handler.message
        while True:
            batch = await connection.recv_batch()
            handler.stamp()
            for raw in batch:
                if raw.startswith(PAYLOAD):
                    message(raw)
                    if not self.proven:
                        self.proven = True
                        self._owner.on_payload()
                    if self.seen is not None:
                        self.seen.add(stream_name(raw))
                else:
                    self._control(raw)
            if handler.full:
                await handler.room()

    def _control(self, raw: bytes) -> None:
        """An answer to a request, or something unknown, which is the handler's to count."""
        try:
            reply = _REPLIES.decode(raw)
        except msgspec.ValidationError:
            reply = _Reply()
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise LinkLost("a message is not JSON") from None
        if reply.code is not None or reply.error is not None:
            self._owner.counters.add("subscription refused")
            raise LinkLost(f"a subscription was refused with code {reply.code}")
        waiting = self._pending.pop(reply.id, None) if isinstance(reply.id, int) else None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        elif reply.result is msgspec.UNSET:
            self._owner.handler.message(raw)

    async def _subscribe(self, connection: WsConnection) -> None:
        settings = self._owner.settings
        names = tuple(self._owner.streams)
        for start in range(0, len(names), settings.subscribe_batch):
            await self._request(connection, "SUBSCRIBE", names[start : start + settings.subscribe_batch])
        self.subscribed = True
        while True:
            stream = await self._refresh.get()
            await self._request(connection, "UNSUBSCRIBE", (stream,))
            await self._request(connection, "SUBSCRIBE", (stream,))

    async def _request(self, connection: WsConnection, method: str, names: Sequence[str]) -> None:
        """Send one request and wait for its answer, then as long as the limit of messages asks for."""
        number = next(self._ids)
        answered = self._pending[number] = asyncio.get_running_loop().create_future()
        request = {"method": method, "params": list(names), "id": number}
        await connection.send(msgspec.json.encode(request).decode())
        while not answered.done():
            await asyncio.wait((answered,), timeout=self._owner.settings.ack_timeout_s)
            if not answered.done() and not self._owner.handler.full:  # what is not read cannot be answered
                raise LinkLost("a subscription was not acknowledged")
        await asyncio.sleep(1 / self._owner.settings.messages_per_s)


class ManagedConnection:
    """Streams of one path, kept alive. ``run`` never returns; cancel it to stop."""

    def __init__(
        self,
        name: str,
        url: str,
        streams: Sequence[str],
        transport: WsTransport,
        handler: StreamHandler,
        limit: ConnectLimit,
        rng: random.Random,
        settings: WsSettings,
        counters: Counters,
    ) -> None:
        self.name = name
        self.url = url
        self.streams = tuple(streams)
        self.transport = transport
        self.handler = handler
        self.settings = settings
        self.counters = counters
        self._limit = limit
        self._rng = rng
        self._session: _Session | None = None
        self._other: _Session | None = None
        self._is_up = False

    def replace(self, why: str) -> None:
        """Close what is open and connect anew."""
        for session in (self._session, self._other):
            if session is not None:
                session.kill(why)

    def refresh(self, stream: str) -> None:
        """Ask for one stream again, which has fallen silent while others have not."""
        if self._session is not None:
            self.counters.add("stream asked for again")
            self._session.refresh(stream)

    def on_payload(self) -> None:
        """A session has brought its first payload."""
        if not self._is_up:
            self._is_up = True
            self.handler.up()

    async def run(self) -> None:
        """Connect, serve, and connect again."""
        failures = 0
        try:
            while True:
                await self._limit.take()
                self._session = _Session(self)
                why = await self._keep()
                failures = 0 if self._is_up else failures + 1
                self._is_up = False
                self.counters.add("connection lost")
                self.handler.down(why)
                await asyncio.sleep(self._delay_s(failures))
        finally:
            for session in (self._session, self._other):
                if session is not None:
                    await session.stop("stopped")

    def _delay_s(self, failures: int) -> float:
        longest_s = min(self.settings.longest_delay_s, self.settings.first_delay_s * 2.0 ** min(failures, 16))
        return longest_s * self._rng.uniform(0.5, 1.0)

    async def _keep(self) -> str:
        """Serve, rotating in time, until no session is left. Returns why the last one ended."""
        rest_s = self.settings.rotate_after_s * self._rng.uniform(0.9, 1.0)
        while True:
            session = self._session
            assert session is not None
            await asyncio.wait((session.task,), timeout=rest_s)
            if session.task.done():
                if not session.task.cancelled():
                    session.task.result()  # an unforeseen failure is raised, not waited out
                return session.why
            rotated = await self._rotate(session)
            rest_s = self.settings.rotate_after_s if rotated else self.settings.rotate_retry_s
            rest_s *= self._rng.uniform(0.9, 1.0)

    async def _rotate(self, old: _Session) -> bool:
        """Put a new session in the place of ``old``; False when the new one did not prove itself."""
        await self._limit.take()
        new = self._other = _Session(self)
        self.handler.overlap(True)
        try:
            proven = await self._prove(old, new)
            if proven:
                self._session = new
                self.counters.add("connection rotated")
                await old.stop("rotated")
            else:
                self.counters.add("rotation failed")
                await new.stop("not proven")
            return proven
        finally:
            old.seen = new.seen = None
            self._other = None
            self.handler.overlap(False)

    async def _prove(self, old: _Session, new: _Session) -> bool:
        """Wait until ``new`` brings all that ``old`` brings. Also true when ``old`` ends and ``new`` has a payload."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.settings.overlap_s
        watching_s = 0.0
        while loop.time() < deadline_s and not new.task.done():
            await asyncio.sleep(0.25)
            if old.task.done():
                return new.proven
            if not new.subscribed:
                continue
            if old.seen is None or new.seen is None:
                old.seen, new.seen = set(), set()
                watching_s = loop.time()
            elif new.seen and new.seen >= old.seen and loop.time() - watching_s >= 1.0:
                return True
        return False
