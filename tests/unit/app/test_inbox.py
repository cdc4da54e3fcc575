"""The one door: numbers, order, write-ahead, lock-step, conflation, and what happens when the kernel breaks."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from tests.fakes.journal import MemoryJournal
from tests.fakes.orders import MARKET_BUY
from tidegate.app.inbox import Inbox
from tidegate.domain.errors import InvariantBroken, JournalError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import Bar, Quote
from tidegate.domain.messages import Command, Event, Halt, SetTimer, TimerFired
from tidegate.domain.orders import (
    CancelOrder,
)

BTC, ETH = InstrumentId("BTCUSDT"), InstrumentId("ETHUSDT")


def timer(ts_ns: int, name: str = "t") -> TimerFired:
    return TimerFired(name, ts_ns, ts_ns)


def bar(ts_ns: int) -> Bar:
    return Bar(BTC, 1, ts_ns, ts_ns, 1.0, 1.0, 1.0, 1.0, 1.0)


def quote(ts_ns: int, instrument: InstrumentId = BTC, bid: float = 1.0) -> Quote:
    return Quote(instrument, ts_ns, ts_ns, bid, bid + 1.0, 1.0, 1.0)


class Script:
    """A kernel that answers what a test says, and remembers what it heard."""

    def __init__(self, answer: Callable[[Event], Sequence[Command]] = lambda _: ()) -> None:
        self.heard: list[Event] = []
        self._answer = answer

    def handle(self, event: Event) -> Sequence[Command]:
        self.heard.append(event)
        return self._answer(event)


class Outbox:
    """Remembers what was sent, and how much of the journal was on disk by then; ``drain`` runs in ``drained``."""

    def __init__(self, journal: MemoryJournal) -> None:
        self.sent: list[tuple[Command, ...]] = []
        self.durable_then: list[int] = []
        self.drain: Callable[[], None] = lambda: None
        self._journal = journal

    def dispatch(self, commands: Sequence[Command]) -> None:
        self.sent.append(tuple(commands))
        self.durable_then.append(len(self._journal.durable))

    async def drained(self) -> None:
        self.drain()


async def test_events_are_numbered_journaled_and_dispatched_in_order() -> None:
    journal, kernel = MemoryJournal(4), Script(lambda event: (SetTimer("x", event.ts_ns),))
    outbox = Outbox(journal)
    inbox = Inbox(kernel, journal, outbox, last_seq=4)
    for ts_ns in (10, 20, 30):
        await inbox.deliver(bar(ts_ns))
    assert [record.seq for record in journal.records] == [5, 6, 7]
    assert [record.event for record in journal.records] == kernel.heard == [bar(10), bar(20), bar(30)]
    assert outbox.sent == [(SetTimer("x", ts_ns),) for ts_ns in (10, 20, 30)]
    assert inbox.last_seq == 7


@pytest.mark.parametrize("obliging", [MARKET_BUY, Halt("enough", 1)])
async def test_an_order_or_a_halt_is_on_disk_before_it_takes_effect(obliging: Command) -> None:
    journal = MemoryJournal()
    outbox = Outbox(journal)
    inbox = Inbox(Script(lambda _: (SetTimer("x", 1), obliging)), journal, outbox)
    await inbox.deliver(timer(1))
    assert outbox.durable_then == [1]


@pytest.mark.parametrize("light", [SetTimer("x", 1), CancelOrder(MARKET_BUY.id, BTC)])
async def test_what_can_be_learned_again_does_not_wait_for_the_disk(light: Command) -> None:
    journal = MemoryJournal()
    outbox = Outbox(journal)
    await Inbox(Script(lambda _: (light,)), journal, outbox).deliver(timer(1))
    assert outbox.durable_then == [0]
    assert len(journal.records) == 1


async def test_the_time_of_arrival_never_runs_backwards() -> None:
    kernel, journal = Script(), MemoryJournal()
    inbox = Inbox(kernel, journal, Outbox(journal))
    await inbox.deliver(timer(20))
    await inbox.deliver(timer(10))
    await inbox.deliver(timer(30))
    assert [(event.ts_ns, event.recv_ns) for event in kernel.heard] == [(20, 20), (10, 20), (30, 30)]
    assert [record.event for record in journal.records] == kernel.heard


async def test_what_was_posted_is_handled_when_it_is_waited_for() -> None:
    kernel, journal = Script(), MemoryJournal()
    inbox = Inbox(kernel, journal, Outbox(journal))
    inbox.post(timer(1))
    inbox.post(timer(2))
    assert kernel.heard == []
    await inbox.answered()
    assert kernel.heard == [timer(1), timer(2)]
    await inbox.answered()
    assert len(journal.records) == 2


async def test_what_became_of_a_command_is_handled_before_deliver_returns() -> None:
    journal = MemoryJournal()
    kernel = Script(lambda event: (CancelOrder(MARKET_BUY.id, BTC),) if event.ts_ns == 1 else ())
    outbox = Outbox(journal)
    inbox = Inbox(kernel, journal, outbox)
    outbox.drain = lambda: inbox.post(timer(2, "answer"))
    await inbox.deliver(timer(1))
    assert kernel.heard == [timer(1), timer(2, "answer")]


async def test_observers_see_a_record_after_it_was_dispatched() -> None:
    journal = MemoryJournal()
    outbox = Outbox(journal)
    seen: list[tuple[int, int]] = []
    inbox = Inbox(Script(lambda _: (SetTimer("x", 1),)), journal, outbox)
    inbox.observe(lambda record: seen.append((record.seq, len(outbox.sent))))
    await inbox.deliver(timer(1))
    await inbox.deliver(timer(2))
    assert seen == [(1, 1), (2, 2)]


async def test_a_kernel_that_raises_closes_the_door_and_leaves_the_event_in_the_journal() -> None:
    def answer(event: Event) -> Sequence[Command]:
        if event.ts_ns == 2:
            raise ZeroDivisionError("half of it")
        return (MARKET_BUY,)

    journal = MemoryJournal()
    outbox = Outbox(journal)
    inbox = Inbox(Script(answer), journal, outbox)
    await inbox.deliver(timer(1))
    with pytest.raises(InvariantBroken, match="raised on event 2, TimerFired of 2: ZeroDivisionError: half of it"):
        await inbox.deliver(timer(2))
    assert [(record.event, record.commands) for record in journal.durable] == [
        (timer(1), (MARKET_BUY,)),
        (timer(2), ()),
    ]
    with pytest.raises(InvariantBroken, match="event after the end"):
        await inbox.deliver(timer(3))
    assert len(journal.records) == 2
    assert len(outbox.sent) == 1


async def test_nothing_is_sent_that_the_journal_could_not_keep() -> None:
    journal = MemoryJournal(fail_after=1)
    outbox = Outbox(journal)
    inbox = Inbox(Script(lambda _: (MARKET_BUY,)), journal, outbox)
    await inbox.deliver(timer(1))
    with pytest.raises(JournalError, match="no space left"):
        await inbox.deliver(timer(2))
    assert len(outbox.sent) == 1
    with pytest.raises(InvariantBroken, match="event after the end"):
        await inbox.deliver(timer(3))


async def drain(inbox: Inbox) -> None:
    running = asyncio.ensure_future(inbox.run())
    for _ in range(200):
        await asyncio.sleep(0)
    running.cancel()


async def test_waiting_quotes_conflate_and_nothing_else_does() -> None:
    kernel, journal = Script(), MemoryJournal()
    inbox = Inbox(kernel, journal, Outbox(journal), lock_step=False)
    queued = [quote(1), bar(2), quote(3, ETH), bar(3), quote(4, bid=2.0), timer(5), quote(6, bid=3.0)]
    for event in queued:
        await inbox.put(event)
    await drain(inbox)
    assert kernel.heard == [bar(2), quote(3, ETH), bar(3), timer(5), quote(6, bid=3.0)]
    await inbox.put(quote(7))
    await drain(inbox)
    assert kernel.heard[-1] == quote(7)


async def test_a_full_queue_makes_the_feed_wait_and_drops_nothing() -> None:
    kernel, journal = Script(), MemoryJournal()
    inbox = Inbox(kernel, journal, Outbox(journal), lock_step=False, capacity=2)

    async def feed() -> None:
        for ts_ns in range(1, 8):
            await inbox.offer(bar(ts_ns))

    feeding = asyncio.ensure_future(feed())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not feeding.done()
    await drain(inbox)
    assert feeding.done()
    assert kernel.heard == [bar(ts_ns) for ts_ns in range(1, 8)]


async def test_quotes_that_wait_for_room_together_leave_one() -> None:
    kernel, journal = Script(), MemoryJournal()
    inbox = Inbox(kernel, journal, Outbox(journal), lock_step=False, capacity=2)
    await inbox.offer(bar(1))
    await inbox.offer(bar(2))
    waiting = [asyncio.ensure_future(inbox.offer(each)) for each in (quote(3), quote(4))]
    await asyncio.sleep(0)
    await drain(inbox)
    await asyncio.gather(*waiting)
    assert kernel.heard[:2] == [bar(1), bar(2)]
    assert kernel.heard[-1] == quote(4)
    await inbox.offer(quote(9))
    await drain(inbox)
    assert kernel.heard[-1] == quote(9)


async def test_a_full_queue_still_takes_a_newer_quote_in_the_place_of_one_that_waits() -> None:
    kernel, journal = Script(), MemoryJournal()
    inbox = Inbox(kernel, journal, Outbox(journal), lock_step=False, capacity=2)
    for event in (quote(1), bar(2), quote(3)):
        await inbox.offer(event)
    await drain(inbox)
    assert kernel.heard == [bar(2), quote(3)]


async def test_posted_answers_go_before_the_queue() -> None:
    kernel, journal = Script(), MemoryJournal()
    inbox = Inbox(kernel, journal, Outbox(journal), lock_step=False)
    await inbox.offer(bar(1))
    inbox.post(timer(0, "answer"))
    await drain(inbox)
    assert kernel.heard == [timer(0, "answer"), bar(1)]
