"""The one door to the kernel: numbers every event, has it handled, journals it, and only then lets its commands out.

1. An event gets a ``recv_ns`` that never runs backwards and the next sequence number.
2. The kernel answers with commands.
3. The record is appended to the journal: on disk before step 4 when it holds an order or a halt, else in its group.
4. The commands are dispatched; what failed comes back as an event, through the same door.
5. Observers see the record.

Events are handled one at a time. ``deliver`` takes one and returns when all of this is done: lock-step, for a
simulated market. ``offer`` is for a venue that does not wait: it handles an event at once when nothing is before it,
one in a turn of the loop, and queues it for ``run`` otherwise. A waiting quote is replaced by the next one of its
instrument; nothing else is ever dropped, a full queue makes the feed wait.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

import msgspec

from tidegate.domain.errors import InvariantBroken
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import Quote
from tidegate.domain.messages import Command, Event, Halt, NotPlaced, Record
from tidegate.domain.orders import ApprovedOrder
from tidegate.ports import Journal

Observer = Callable[[Record], None]

_OBLIGING = (ApprovedOrder, Halt, NotPlaced)
"""Commands that are on disk before anything builds upon them."""


class Handler(Protocol):
    """What the inbox needs of a kernel."""

    def handle(self, event: Event) -> Sequence[Command]: ...


class Outbox(Protocol):
    """What the inbox needs of a dispatcher."""

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Begin to carry out commands, in order."""
        ...

    async def drained(self) -> None:
        """Return when every request that was begun has returned."""
        ...


class Inbox:
    """The door. ``last_seq`` is the number of the last record of the kernel's past, 0 for a fresh one.

    With ``lock_step`` an event is done only when the venue has taken all of its commands. An exception of the kernel
    or of the journal closes the door for good: it is raised as it is, or as ``InvariantBroken`` from it.
    """

    def __init__(
        self,
        kernel: Handler,
        journal: Journal,
        outbox: Outbox,
        observers: Sequence[Observer] = (),
        *,
        last_seq: int = 0,
        lock_step: bool = True,
        capacity: int = 4096,
    ) -> None:
        self._kernel, self._journal, self._outbox = kernel, journal, outbox
        self._observers = list(observers)
        self._seq = last_seq
        self._recv_ns: Nanos = 0
        self._lock_step = lock_step
        self._capacity = capacity
        self._lock = asyncio.Lock()
        self._waiting: OrderedDict[int, Event] = OrderedDict()
        self._tickets = count()
        self._quotes: dict[InstrumentId, int] = {}
        self._answers: deque[Event] = deque()
        self._filled, self._emptied = asyncio.Event(), asyncio.Event()
        self._broken: Exception | None = None
        self._running = False
        self._turn_taken = False

    @property
    def last_seq(self) -> int:
        """The number of the last event handled."""
        return self._seq

    @property
    def last_recv_ns(self) -> Nanos:
        """The time at which the last event became known."""
        return self._recv_ns

    def observe(self, observer: Observer) -> None:
        """Show every record to ``observer`` from now on, after its commands were dispatched."""
        self._observers.append(observer)

    async def put(self, event: Event) -> None:
        """``deliver`` in lock-step, ``offer`` otherwise."""
        if self._lock_step:
            await self.deliver(event)
        else:
            await self.offer(event)

    async def deliver(self, event: Event) -> None:
        """Handle an event, and what came of it; return when it is journaled and dispatched."""
        async with self._lock:
            await self._take(event)
            while self._answers:
                await self._take(self._answers.popleft())

    async def offer(self, event: Event) -> None:
        """Handle an event now if it is its turn, else queue it for ``run``; wait for room when the queue is full."""
        if self._running and not (self._turn_taken or self._waiting or self._answers or self._lock.locked()):
            self._turn_taken = True  # the next one waits until the loop has looked after everybody else
            asyncio.get_running_loop().call_soon(self._end_turn)
            async with self._lock:
                await self._take(event)
            return
        quoted = event.instrument if type(event) is Quote else None
        while len(self._waiting) >= self._capacity and quoted not in self._quotes:
            self._emptied.clear()
            await self._emptied.wait()
        ticket = next(self._tickets)
        if quoted is not None:
            self._waiting.pop(self._quotes.get(quoted, -1), None)
            self._quotes[quoted] = ticket
        self._waiting[ticket] = event
        self._filled.set()

    def post(self, event: Event) -> None:
        """Bring back, without waiting, what became of a command; it goes before what is queued."""
        self._answers.append(event)
        self._filled.set()

    async def answered(self) -> None:
        """Handle what was posted so far."""
        async with self._lock:
            while self._answers:
                await self._take(self._answers.popleft())

    async def run(self) -> None:
        """Handle what is queued or posted, until cancelled."""
        self._running = True
        try:
            await self._run()
        finally:
            self._running = False

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            async with self._lock:
                while self._answers:
                    await self._take(self._answers.popleft())
                if self._waiting:
                    _, event = self._waiting.popitem(last=False)
                    if type(event) is Quote:
                        del self._quotes[event.instrument]
                    self._emptied.set()
                    await self._take(event)
                if not self._waiting and not self._answers:
                    self._filled.clear()

    def _end_turn(self) -> None:
        self._turn_taken = False

    async def _take(self, event: Event) -> None:
        if self._broken is not None:
            raise InvariantBroken(f"event after the end: {self._broken}") from self._broken
        if event.recv_ns < self._recv_ns:
            event = msgspec.structs.replace(event, recv_ns=self._recv_ns)
        self._recv_ns = event.recv_ns
        self._seq += 1
        try:
            commands = tuple(self._kernel.handle(event))
        except Exception as error:
            await self._broke(event, error)
            raise InvariantBroken(f"the kernel raised on event {self._seq}, {_name(event)}: {_text(error)}") from error
        record = Record(self._seq, event, commands)
        try:
            await self._journal.append(record, durable=_obliges(commands))
        except Exception as error:
            self._broken = error
            raise
        if commands:
            self._outbox.dispatch(commands)
            if self._lock_step:
                await self._outbox.drained()
        for observer in self._observers:
            observer(record)

    async def _broke(self, event: Event, error: Exception) -> None:
        """Keep the event that the kernel could not stand: it is the last record, and the way to reproduce it."""
        self._broken = error
        try:
            await self._journal.append(Record(self._seq, event, ()), durable=True)
        except Exception as second:  # the kernel's error is the news; that the journal failed too is noted beside it
            error.add_note(f"and the journal could not keep the event: {_text(second)}")


def _obliges(commands: Sequence[Command]) -> bool:
    """Whether the commands must be on disk before they take effect."""
    return any(type(each) in _OBLIGING for each in commands)


def _name(event: Event) -> str:
    return f"{type(event).__name__} of {event.ts_ns}"


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
