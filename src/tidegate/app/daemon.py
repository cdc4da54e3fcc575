"""The daemon: one event loop that pumps feed, reports and timers through the inbox, and stops in good order.

Start, all through the one door: the account's stream is opened, so that nothing is missed; BOOT brings the kernel,
fresh or recovered, to its start; the bars that its features lack are handled; then START. A simulated venue says first
what we have; for a real one the kernel asks, and trades when ours and the venue's agree.

Stop, on a deadline, a signal or the end of the data: FLATTEN if configured, then STOP; wait until no entry is working;
let the venue deliver what is under way; close the journal. A second signal leaves at once. An exception anywhere ends
the daemon: entries are cancelled, protective stops stay at the venue, the journal is closed, and the error goes to the
caller.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from tidegate.app.dispatch import Dispatcher, OnAlert
from tidegate.app.inbox import Inbox, Observer
from tidegate.domain.errors import Interrupted, JournalError, VenueError
from tidegate.domain.market import MarketEvent
from tidegate.domain.messages import Alert, Event, Operation, OperatorCommand, Severity, Subscription, TakeSnapshot
from tidegate.domain.orders import CancelOrder, Purpose
from tidegate.kernel.kernel import Kernel
from tidegate.ports import Clock, ExecutionVenue, Journal, MarketDataFeed, ModelWorker, Timers

_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def _nothing() -> None:
    """Nothing to open or to shut."""


@dataclass(frozen=True, slots=True)
class Connections:
    """The world, as the daemon sees it.

    ``open`` is awaited before anything is asked of the venue. ``warm_up`` gives the bars that the kernel lacks.
    ``reconciles`` says that the kernel asks for snapshots by itself; else the first one comes before START.
    ``worker`` fits models; without one they keep the parameters that they have.
    ``hurry`` is called when the stop begins, ``close`` when nothing more is wanted: the streams end when what is under
    way was delivered, or are cut off after ``linger_s``. ``shut`` is awaited at the very end, whatever happened.
    """

    feed: MarketDataFeed
    venue: ExecutionVenue
    timers: Timers
    clock: Clock
    hurry: Callable[[], None] = lambda: None
    close: Callable[[], None] = lambda: None
    patience_s: float = 10.0
    linger_s: float = 10.0
    open: Callable[[], Awaitable[None]] = _nothing
    warm_up: Callable[[], AsyncIterator[MarketEvent]] | None = None
    reconciles: bool = False
    worker: ModelWorker | None = None
    shut: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True, slots=True)
class DaemonSummary:
    """Why the daemon stopped, the records it made, the latch if one fell, and what was left undone.

    ``left_to_another``: an older daemon trades on the account, and this one gave way.
    """

    reason: str
    records: int
    halted: str | None
    warnings: tuple[str, ...]
    left_to_another: bool = False


class Daemon:
    """One kernel behind its door. ``observers`` see every record, ``on_alert`` every alert.

    ``companions`` are coroutines that run as long as the daemon does, supervised like everything else.
    """

    def __init__(
        self,
        kernel: Kernel,
        journal: Journal,
        connections: Connections,
        subscriptions: Sequence[Subscription],
        *,
        observers: Sequence[Observer] = (),
        on_alert: OnAlert = lambda _: None,
        companions: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        flatten_on_stop: bool = False,
        deadline_s: float | None = None,
        lock_step: bool = True,
        last_seq: int = 0,
        boot: str = "",
    ) -> None:
        self._boot = boot
        self._kernel, self._journal, self._to = kernel, journal, connections
        self._subscriptions = tuple(subscriptions)
        self._on_alert = on_alert
        self._companions = tuple(companions)
        self._flatten_on_stop, self._deadline_s = flatten_on_stop, deadline_s
        self.dispatcher = Dispatcher(
            connections.venue,
            connections.timers,
            connections.clock,
            lambda event: self.inbox.post(event),
            on_alert,
            connections.worker,
            self.stop,
        )
        self.inbox = Inbox(kernel, journal, self.dispatcher, observers, last_seq=last_seq, lock_step=lock_step)
        self.inbox.observe(lambda _: self._progress.set())
        self._progress, self._stopping = asyncio.Event(), asyncio.Event()
        self._pumps: list[asyncio.Task[None]] = []
        self._reason = ""
        self._warnings: list[str] = []
        self._forced = False

    def accompany(self, companions: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
        """Choose the companions before the start, for those that need the daemon itself."""
        self._companions = tuple(companions)

    def stop(self, reason: str) -> None:
        """Ask for a graceful stop; only the first reason counts."""
        if not self._stopping.is_set():
            self._reason = reason
            self._stopping.set()

    async def run(self) -> DaemonSummary:
        """Trade until something asks to stop. Raises ``Interrupted`` on a second signal, and whatever broke."""
        try:
            return await self._run()
        finally:
            await self._to.shut()

    async def _run(self) -> DaemonSummary:
        first = self.inbox.last_seq
        try:
            with self._signals(asyncio.current_task()):
                await self._supervised()
        except asyncio.CancelledError:
            await self._emergency("the daemon was cancelled")
            if self._forced:
                raise Interrupted("interrupted twice: left without waiting for the venue") from None
            raise
        except BaseExceptionGroup as group:
            error = _first(group)
            await self._emergency(f"{type(error).__name__}: {error}")
            raise error from None
        except Exception as error:
            await self._emergency(f"{type(error).__name__}: {error}")
            raise
        await self._journal.close()
        halted = self.dispatcher.halted
        return DaemonSummary(
            self._reason,
            self.inbox.last_seq - first,
            halted.reason if halted else None,
            tuple(self._warnings),
            self.dispatcher.left_to_another,
        )

    # ---- from start to stop -------------------------------------------------------------------------------------

    async def _supervised(self) -> None:
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self.inbox.run()), group.create_task(self.dispatcher.watch())]
            others += [group.create_task(companion()) for companion in self._companions]
            if self._deadline_s is not None:
                others.append(group.create_task(self._deadline(self._deadline_s)))
            await self._begin()
            streams = (self._to.feed.stream(self._subscriptions), self._to.venue.reports(), self._to.timers.fired())
            self._pumps = [group.create_task(self._pump(stream)) for stream in streams]
            self._pumps[0].add_done_callback(lambda _: self.stop("the market data ended"))
            await self._stopping.wait()
            await self._wind_down()
            for task in (*self._pumps, *others):
                task.cancel()

    async def _begin(self) -> None:
        """The one start-up path, after a crash or not."""
        await self._to.open()
        if self._boot:
            await self.operate(Operation.BOOT, self._boot)
        if self._to.warm_up is not None:
            async for event in self._to.warm_up():
                await self.inbox.deliver(event)
                await self.dispatcher.drained()  # a model that stored bars ask for counts from its own bar on
                await self.inbox.answered()
        if not self._to.reconciles:
            await self.inbox.deliver(await self._to.venue.snapshot(TakeSnapshot("start", (), 0, "start")))
        await self.operate(Operation.START, "")

    async def _pump(self, stream: AsyncIterator[Event]) -> None:
        put = self.inbox.put
        async for event in stream:
            await put(event)

    async def _deadline(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.stop(f"{seconds:g} s are over")

    async def operate(self, operation: Operation, detail: str) -> None:
        """Have an operator's wish handled; it goes past whatever is queued."""
        now_ns = self._to.clock.now_ns()
        await self.inbox.deliver(OperatorCommand(operation, now_ns, now_ns, detail))

    async def _wind_down(self) -> None:
        self._to.hurry()
        if self._flatten_on_stop:
            await self.operate(Operation.FLATTEN, self._reason)
            await self._until(self._flat, "positions are still open")
        await self.operate(Operation.STOP, self._reason)
        await self._until(self._quiet, "orders are still working")
        self._to.close()
        if self._alive():
            await asyncio.wait(self._alive(), timeout=self._to.linger_s)

    async def _until(self, settled: Callable[[], bool], complaint: str) -> None:
        """Let the venue answer until ``settled``; say so when it does not, in time or because the market has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._to.patience_s):
                while not settled() and self._alive():
                    self._progress.clear()
                    changed = asyncio.ensure_future(self._progress.wait())
                    await asyncio.wait([changed, *self._alive()], return_when=asyncio.FIRST_COMPLETED)
                    changed.cancel()
        if not settled():
            self._warnings.append(f"stopped while {complaint}")

    def _alive(self) -> list[asyncio.Task[None]]:
        return [pump for pump in self._pumps if not pump.done()]

    def _quiet(self) -> bool:
        """No order of ours works toward anything but protection."""
        return all(order.approved.purpose is Purpose.PROTECTION for order in self._kernel.open_orders)

    def _flat(self) -> bool:
        """Nothing is held, and no order is left."""
        return not self._kernel.open_orders and not any(held.qty for held in self._kernel.ledger.positions.values())

    # ---- when something breaks ----------------------------------------------------------------------------------

    async def _emergency(self, why: str) -> None:
        """Cancel what would add risk, leave the protective stops, tell someone, and close the journal."""
        self._on_alert(Alert(Severity.CRITICAL, "daemon", f"stopped: {why}", self._to.clock.now_ns()))
        for order in self._kernel.open_orders:
            if order.approved.purpose is not Purpose.PROTECTION:
                with suppress(VenueError):
                    await self._to.venue.cancel(CancelOrder(order.approved.id, order.approved.instrument))
        with suppress(JournalError):
            await self._journal.close()

    @contextmanager
    def _signals(self, main: "asyncio.Task[Any] | None") -> Iterator[None]:
        """The first signal stops in good order, the second leaves."""

        def signalled(name: str) -> None:
            received.append(name)
            if len(received) > 1 and main is not None:
                self._forced = True
                main.cancel()
            self.stop(name)

        loop = asyncio.get_running_loop()
        received: list[str] = []
        installed = []
        for number in _SIGNALS:
            with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
                loop.add_signal_handler(number, signalled, number.name)
                installed.append(number)
        try:
            yield
        finally:
            for number in installed:
                loop.remove_signal_handler(number)


def run_on_loop(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on a fresh event loop: uvloop's where it is present."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def calm_collector() -> None:
    """Have the cycle collector leave alone what stands, and look less often: a full pass in an order's way costs ms.

    For a process that is about to do one thing for long. What is alive here is never looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
