"""The stream of our account: one listen key, one connection, remade whenever it cannot be trusted.

A stream of user events is silent by nature, and nothing is replayed on it. So it is not believed alive because its
socket is open: after every acknowledgement over REST the matching event must come (``expect``), a connection that is
silent is asked to say something, and whatever shows that an event was missed ends it (``suspect``). Each new
connection after a loss is announced, so that the account is read anew; a planned change before the venue's daily cut
overlaps with the old connection and loses nothing. (binance-futures.md 11, 12, 15; reliability.md A5, D4, U01-U04)
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tidegate.adapters.binance.account_schemas import BadEvent, Count, ListenKeyRow
from tidegate.adapters.binance.errors import Refused
from tidegate.adapters.binance.limits import Lane
from tidegate.adapters.binance.order_names import Remembered
from tidegate.adapters.binance.rest import BinanceRest, Security
from tidegate.adapters.binance.user_events import (
    AlgoUpdate,
    ControlAnswer,
    ListenKeyExpired,
    OrderTradeUpdate,
    UserEvent,
    decode_event,
)
from tidegate.adapters.binance.ws_transport import LinkLost, WsConnection, WsTransport
from tidegate.domain.errors import NotAuthorised, VenueError
from tidegate.domain.ids import Nanos
from tidegate.domain.messages import VenueState
from tidegate.ports import Clock

_EVENTS: Final = (
    "ORDER_TRADE_UPDATE",
    "ACCOUNT_UPDATE",
    "ALGO_UPDATE",
    "TRADE_LITE",
    "MARGIN_CALL",
    "ACCOUNT_CONFIG_UPDATE",
    "listenKeyExpired",
)
_PATH: Final = "/fapi/v1/listenKey"
_PROBE: Final = '{"method":"LIST_SUBSCRIPTIONS","id":1}'
_KEY_IS_GONE: Final = -1125
_SEEN: Final = 5_000

OnEvent = Callable[[UserEvent, Nanos], None]
OnState = Callable[[VenueState, str], None]


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """How patient the stream is; all in seconds."""

    keep_alive_s: float = 25 * 60.0
    keep_alive_retry_s: float = 60.0
    rotate_s: float = 23 * 3600.0
    overlap_s: float = 5.0
    acknowledged_s: float = 3.0
    probe_s: float = 7.0
    probe_answer_s: float = 3.0
    backoff_first_s: float = 0.2
    backoff_last_s: float = 30.0
    refused_s: float = 300.0


class _Link:
    """One connection, and the reason why it is over, once it is."""

    def __init__(self, connection: WsConnection) -> None:
        self.connection = connection
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.tasks: list[asyncio.Task[None]] = []

    def end(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)


class UserStream:
    """Brings every event of our account to ``on_event``, and says by ``on_state`` when it was lost and is back.

    ``base_url`` is ``ws(s)://host[:port]``; the paths ``/private/...`` are used when ``routed``, else the legacy ones.
    ``fail`` hears of a defect that ended a task of the stream.
    """

    def __init__(
        self,
        rest: BinanceRest,
        transport: WsTransport,
        base_url: str,
        clock: Clock,
        rng: random.Random,
        *,
        on_event: OnEvent,
        on_state: OnState,
        count: Count,
        fail: Callable[[BaseException], None],
        routed: bool = True,
        timing: StreamTiming | None = None,
    ) -> None:
        self._rest, self._transport, self._base_url = rest, transport, base_url.rstrip("/")
        self._clock, self._rng, self._routed = clock, rng, routed
        self._on_event, self._on_state, self._count, self._fail = on_event, on_state, count, fail
        self._timing = timing or StreamTiming()
        self._key = ""
        self._link: _Link | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._first: asyncio.Future[None] | None = None
        self._lost = False
        self._answers_probes = False
        self._heard_mono_ns = 0
        self._expected: dict[str, asyncio.TimerHandle] = {}
        self._seen: Remembered[str, Nanos] = Remembered(_SEEN)

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Return when the first connection is open, however long that takes. Raises ``NotAuthorised``."""
        self._first = asyncio.get_running_loop().create_future()
        self._tasks = [self._task(self._run()), self._task(self._keep_alive())]
        await self._first

    async def stop(self) -> None:
        """Close the connection. The key is left to lapse: another process may be using it."""
        tasks, self._tasks = self._tasks, []
        await _cancelled(tasks)
        self._forget_expected()
        if self._link is not None:
            link, self._link = self._link, None
            await _drop(link)

    @property
    def connected(self) -> bool:
        """Whether a connection stands that nothing speaks against."""
        return self._link is not None

    # ---- what others know of it --------------------------------------------------------------------------------------

    def expect(self, client_id: str, since_mono_ns: Nanos) -> None:
        """The venue has acknowledged a request that was made at ``since_mono_ns``: its event must come soon."""
        if self._link is None or (self._seen.get(client_id) or -1) >= since_mono_ns:
            return
        self._satisfy(client_id)
        loop = asyncio.get_running_loop()
        why = f"no event of {client_id} came {self._timing.acknowledged_s:g} s after its acknowledgement"
        self._expected[client_id] = loop.call_later(self._timing.acknowledged_s, self.suspect, why)

    def suspect(self, why: str) -> None:
        """Something shows that this connection has missed an event: it is replaced."""
        if self._link is not None:
            self._link.end(why)

    # ---- connections -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        while True:
            link = await self._try_to_open()
            if link is not None:
                heard_before = self._heard_mono_ns
                self._take(link)
                why = await self._serve(link)
                failures = 0 if self._heard_mono_ns > heard_before else failures
                self._announce_loss(why)
            await asyncio.sleep(self._backoff_s(failures))
            failures += 1

    async def _try_to_open(self) -> _Link | None:
        try:
            return await self._open()
        except NotAuthorised as error:
            if self._first is not None and not self._first.done():
                self._first.set_exception(error)
            self._announce_loss(str(error), VenueState.REFUSED)
            await asyncio.sleep(self._timing.refused_s)
        except VenueError as error:
            self._announce_loss(f"user stream: {error}")
        return None

    async def _open(self) -> _Link:
        self._key = await self._make_key()
        connection = await self._transport.connect(self._url(self._key))
        link = _Link(connection)
        link.tasks = [self._task(self._read(link)), self._task(self._probe(link))]
        return link

    async def _make_key(self) -> str:
        row = await self._rest.call(
            "POST", _PATH, (), answer=ListenKeyRow, weight=1, lane=Lane.CANCEL, security=Security.KEY
        )
        if not row.listen_key:
            raise LinkLost("the venue's answer has no listen key")
        return row.listen_key

    def _url(self, key: str) -> str:
        if self._routed:
            return f"{self._base_url}/private/ws?listenKey={key}&events={'/'.join(_EVENTS)}"
        return f"{self._base_url}/ws/{key}"

    def _take(self, link: _Link) -> None:
        self._link = link
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        if self._lost:
            self._lost = False
            self._on_state(VenueState.UP, "user stream connected")

    def _announce_loss(self, why: str, state: VenueState = VenueState.DOWN) -> None:
        if not self._lost or state is VenueState.REFUSED:
            self._lost = True
            self._on_state(state, why)

    async def _serve(self, link: _Link) -> str:
        """Until the connection is over; changed for a fresh one before the venue cuts it. Returns why it ended."""
        wait_s = self._timing.rotate_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    why = await asyncio.shield(link.over)
                    break
            try:
                fresh = await self._open()
            except VenueError as error:
                self._count(f"rotation failed: {type(error).__name__}")
                wait_s = self._timing.keep_alive_retry_s
                continue
            self._link, old, link = fresh, link, fresh
            self._tasks.append(self._task(self._retire(old)))
            wait_s = self._timing.rotate_s
        self._link = None
        self._forget_expected()
        await _drop(link)
        return why

    async def _retire(self, old: _Link) -> None:
        """Both connections are read for a while; what comes twice is told apart by its trade id."""
        await asyncio.sleep(self._timing.overlap_s)
        await _drop(old)
        self._tasks = [task for task in self._tasks if not task.done() and task is not asyncio.current_task()]

    def _backoff_s(self, failures: int) -> float:
        timing = self._timing
        bound_s = min(timing.backoff_first_s * 2.0 ** min(failures, 20), timing.backoff_last_s)
        return bound_s * (0.5 + self._rng.random() / 2)

    async def _keep_alive(self) -> None:
        wait_s = self._timing.keep_alive_s
        while True:
            await asyncio.sleep(wait_s)
            if self._link is None:
                continue
            try:
                row = await self._rest.call(
                    "PUT", _PATH, (), answer=ListenKeyRow, weight=1, lane=Lane.CANCEL, security=Security.KEY
                )
            except Refused as error:
                if error.code == _KEY_IS_GONE:
                    self.suspect("the listen key is gone")
                wait_s = self._timing.keep_alive_retry_s
            except VenueError:
                self._count("keep-alive failed")
                wait_s = self._timing.keep_alive_retry_s
            else:
                if row.listen_key and row.listen_key != self._key:
                    self.suspect("the listen key has changed")
                wait_s = self._timing.keep_alive_s

    # ---- messages ----------------------------------------------------------------------------------------------------

    async def _read(self, link: _Link) -> None:
        try:
            while True:
                for payload in await link.connection.recv_batch():
                    self._receive(link, decode_event(payload, self._count))
        except (LinkLost, BadEvent) as error:
            link.end(f"user stream: {error}")

    def _receive(self, link: _Link, event: UserEvent) -> None:
        self._heard_mono_ns = self._clock.monotonic_ns()
        match event:
            case ControlAnswer():
                self._answers_probes = True
                return
            case ListenKeyExpired():
                link.end("the listen key has expired")
                return
            case OrderTradeUpdate() | AlgoUpdate() if event.order.client_id:
                self._seen.put(event.order.client_id, self._heard_mono_ns)
                self._satisfy(event.order.client_id)
        self._on_event(event, self._clock.now_ns())

    async def _probe(self, link: _Link) -> None:
        """Ask a silent connection for a word. Its silence counts once the venue is known to answer at all."""
        while True:
            await asyncio.sleep(self._timing.probe_s)
            asked_ns = self._clock.monotonic_ns()
            if asked_ns - self._heard_mono_ns < self._timing.probe_s * 1e9:
                continue
            try:
                await link.connection.send(_PROBE)
            except LinkLost as error:
                link.end(f"user stream: {error}")
                return
            await asyncio.sleep(self._timing.probe_answer_s)
            if self._answers_probes and self._heard_mono_ns < asked_ns:
                link.end("the user stream does not answer")

    def _satisfy(self, client_id: str) -> None:
        if (timer := self._expected.pop(client_id, None)) is not None:
            timer.cancel()

    def _forget_expected(self) -> None:
        for timer in self._expected.values():
            timer.cancel()
        self._expected.clear()

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)


async def _drop(link: _Link) -> None:
    await _cancelled(link.tasks)
    await link.connection.close()


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
