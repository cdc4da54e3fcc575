"""A venue, a feed, timers and a clock that do what a test tells them to."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence

import msgspec

from tidegate.domain.account import AccountSnapshot
from tidegate.domain.ids import Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import MarketEvent
from tidegate.domain.messages import ExecutionReport, SetTimer, Subscription, TakeSnapshot, TimerFired
from tidegate.domain.orders import (
    AmendOrder,
    ApprovedOrder,
    CancelOrder,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    QueryOrder,
)


class FakeClock:
    """Shows what it was last set to."""

    def __init__(self, now_ns: Nanos = 0) -> None:
        self.time_ns = now_ns
        self._moved = asyncio.Event()

    def monotonic_ns(self) -> Nanos:
        return self.now_ns()

    def now_ns(self) -> Nanos:
        return self.time_ns

    async def sleep_until(self, at_ns: Nanos) -> None:
        while self.time_ns < at_ns:
            self._moved.clear()
            await self._moved.wait()

    def move_to(self, now_ns: Nanos) -> None:
        self.time_ns = now_ns
        self._moved.set()


class FakeTimers:
    """Fires when told to."""

    def __init__(self) -> None:
        self.due: dict[str, Nanos] = {}
        self._fired: asyncio.Queue[TimerFired | None] = asyncio.Queue()

    def set(self, timer: SetTimer) -> None:
        self.due[timer.name] = timer.at_ns

    def reach(self, now_ns: Nanos) -> None:
        for at_ns, name in sorted((at_ns, name) for name, at_ns in self.due.items() if at_ns <= now_ns):
            del self.due[name]
            self._fired.put_nowait(TimerFired(name, at_ns, now_ns))

    async def fired(self) -> AsyncIterator[TimerFired]:
        while (timer := await self._fired.get()) is not None:
            yield timer


class FakeFeed:
    """Hands out what was put in; ``None`` ends it. ``failure`` is raised at the end instead."""

    def __init__(self, events: Sequence[MarketEvent] = (), failure: Exception | None = None) -> None:
        self.queue: asyncio.Queue[MarketEvent | None] = asyncio.Queue()
        self.subscriptions: tuple[Subscription, ...] = ()
        self._failure = failure
        for event in events:
            self.queue.put_nowait(event)

    async def stream(self, subscriptions: Collection[Subscription]) -> AsyncIterator[MarketEvent]:
        self.subscriptions = tuple(subscriptions)
        while (event := await self.queue.get()) is not None:
            yield event
        if self._failure is not None:
            raise self._failure


class FakeVenue:
    """Takes everything and answers as a venue does. ``failures`` are raised by the next requests, one each.

    ``requests`` is what was asked for, in the order in which it came in; ``gate`` holds requests up while it is clear.
    ``unreadable`` is raised by every snapshot; ``renewals`` are those of the dead man's switch.
    """

    def __init__(self, instruments: Sequence[Instrument], account: AccountSnapshot) -> None:
        self.requests: list[ApprovedOrder | AmendOrder | CancelOrder | QueryOrder] = []
        self.snapshots: list[TakeSnapshot] = []
        self.renewals: list[int] = []
        self.failures: list[Exception | None] = []
        self.unreadable: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.silent = False
        self._instruments, self._account = tuple(instruments), account
        self._resting: dict[str, int] = {}
        self._reports: asyncio.Queue[ExecutionReport | None] = asyncio.Queue()

    def say(self, report: ExecutionReport | None) -> None:
        self._reports.put_nowait(report)

    async def instruments(self) -> Sequence[Instrument]:
        return self._instruments

    async def snapshot(self, request: TakeSnapshot) -> AccountSnapshot:
        self.snapshots.append(request)
        if self.unreadable is not None:
            raise self.unreadable
        return msgspec.structs.replace(self._account, name=request.name)

    async def submit(self, order: ApprovedOrder) -> None:
        await self._ask(order)
        self._resting[order.id] = len(self.requests)
        self._answer(OrderAccepted(order.id, order.instrument, self._resting[order.id], 0, 0))

    async def amend(self, order: AmendOrder) -> None:
        await self._ask(order)
        if order.id in self._resting:
            self._answer(OrderAmended(order.id, order.instrument, order.qty, order.limit, order.trigger, 0, 0))

    async def cancel(self, order: CancelOrder) -> None:
        await self._ask(order)
        if self._resting.pop(order.id, None) is not None:
            self._answer(OrderCanceled(order.id, order.instrument, 0, 0))

    async def query(self, order: QueryOrder) -> None:
        await self._ask(order)
        if order.id in self._resting:
            self._answer(OrderAccepted(order.id, order.instrument, self._resting[order.id], 0, 0))

    async def keep_alive(self, ttl_ms: int) -> None:
        self.renewals.append(ttl_ms)

    async def reports(self) -> AsyncIterator[ExecutionReport]:
        while (report := await self._reports.get()) is not None:
            yield report

    async def _ask(self, request: ApprovedOrder | AmendOrder | CancelOrder | QueryOrder) -> None:
        self.requests.append(request)
        await self.gate.wait()
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure

    def _answer(self, report: ExecutionReport) -> None:
        if not self.silent:
            self.say(report)
