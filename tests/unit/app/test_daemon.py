"""The daemon: the events of a backtest in the same order, good stops and bad ones."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal

import msgspec
import pytest

from tests.fakes.journal import MemoryJournal
from tests.fakes.small_demo import CAPITAL, INTERVAL_NS, SYMBOLS, CutMarket, Rig, fresh_kernel, plan, rig
from tests.fakes.venue import FakeClock, FakeFeed, FakeTimers, FakeVenue
from tidegate.app.backtest import BacktestEngine
from tidegate.app.daemon import Connections, Daemon, DaemonSummary, run_on_loop
from tidegate.domain.account import AccountSnapshot, Balance, Position
from tidegate.domain.errors import (
    DataError,
    Interrupted,
    InvariantBroken,
    JournalError,
    NotAuthorised,
    VenueUnavailable,
)
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import Bar
from tidegate.domain.messages import (
    Alert,
    Command,
    Event,
    Halt,
    HaltCause,
    Operation,
    OperatorCommand,
    Record,
    Severity,
    Subscription,
    VenueState,
    VenueStatus,
)
from tidegate.domain.orders import ApprovedOrder, CancelOrder, OrderFilled, Purpose
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import Kernel, KernelSettings, ReconcileSettings
from tidegate.kernel.lifecycle import State
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE

BTC = InstrumentId("BTCUSDT")
SUBSCRIPTIONS = [Subscription(InstrumentId(name), INTERVAL_NS) for name in SYMBOLS]


def daemon_over(of: Rig, **options: object) -> Daemon:
    parts = of.parts
    return Daemon(parts.kernel, parts.journal, parts.connections, SUBSCRIPTIONS, **options)  # type: ignore[arg-type]


def in_memory(journal: MemoryJournal) -> Callable[[object], MemoryJournal]:
    return lambda _: journal


def operations(records: Sequence[Record]) -> list[Operation]:
    return [each.event.operation for each in records if isinstance(each.event, OperatorCommand)]


# ---- the same as a backtest ----------------------------------------------------------------------------------------


def backtest(source: CutMarket) -> list[tuple[Event, tuple[Command, ...]]]:
    engine = BacktestEngine(plan(source=source))
    handle, steps = engine.kernel.handle, []

    def recorded(event: Event) -> Sequence[Command]:
        commands = handle(event)
        steps.append((event, tuple(commands)))
        return commands

    engine.kernel.handle = recorded  # type: ignore[method-assign]
    engine.run()
    return steps


def unnamed(event: Event) -> Event:
    """A snapshot that was asked for has a name; the first one of a session has none."""
    return msgspec.structs.replace(event, name="") if isinstance(event, AccountSnapshot) else event


async def test_the_daemon_hears_and_does_exactly_what_the_backtest_does() -> None:
    journal = MemoryJournal()
    summary = await daemon_over(rig(in_memory(journal), source=CutMarket(chunks=2))).run()
    expected = backtest(CutMarket(chunks=2))
    steps = [(unnamed(each.event), each.commands) for each in journal.records]
    assert len(expected) > 10_000
    assert sum(isinstance(event, OrderFilled) for event, _ in expected) > 20
    assert steps[:-1] == expected
    assert operations(journal.records) == [Operation.START, Operation.STOP]
    assert summary.reason == "the market data ended"
    assert summary.records == len(steps)


# ---- good stops ----------------------------------------------------------------------------------------------------


async def until_filled(daemon: Daemon, fills: int) -> None:
    """Ask to stop when so many fills were seen."""
    seen = iter(range(1, 10**9))

    def watch(record: Record) -> None:
        if isinstance(record.event, OrderFilled) and next(seen) == fills:
            daemon.stop("enough")

    daemon.inbox.observe(watch)


@pytest.mark.parametrize("fills", [1, 5, 12])
async def test_a_stop_leaves_no_entry_working_and_both_books_equal(fills: int) -> None:
    of = rig(in_memory(MemoryJournal()))
    daemon = daemon_over(of)
    await until_filled(daemon, fills)
    summary = await daemon.run()
    assert summary.reason == "enough"
    assert summary.warnings == ()
    assert of.kernel.state is State.STOPPED
    assert await asyncio.wait_for(anext(of.venue.fired(), None), 5) is None, "the streams have ended"
    assert all(order.approved.purpose is Purpose.PROTECTION for order in of.kernel.open_orders)
    assert of.kernel.ledger == of.parts.session.exchange.ledger


async def test_a_stop_can_flatten_first() -> None:
    journal = MemoryJournal()
    of = rig(in_memory(journal))
    daemon = daemon_over(of, flatten_on_stop=True)
    await until_filled(daemon, 1)
    summary = await daemon.run()
    assert summary.warnings == ()
    assert operations(journal.records) == [Operation.START, Operation.FLATTEN, Operation.STOP]
    assert of.kernel.open_orders == []
    assert all(not held.qty for held in of.kernel.ledger.positions.values())
    assert of.kernel.ledger == of.parts.session.exchange.ledger


async def test_the_deadline_stops_even_a_market_that_never_rests() -> None:
    of = rig(in_memory(MemoryJournal()))
    summary = await daemon_over(of, deadline_s=0.05).run()
    assert summary.reason == "0.05 s are over"
    assert of.kernel.state is State.STOPPED


async def test_the_deadline_stops_a_market_that_hardly_moves() -> None:
    of = rig(in_memory(MemoryJournal()), speed=0.001)
    assert (await daemon_over(of, deadline_s=0.05).run()).reason == "0.05 s are over"


async def test_one_signal_is_a_graceful_stop() -> None:
    journal = MemoryJournal()
    daemon = daemon_over(rig(in_memory(journal)))
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    assert (await daemon.run()).reason == "SIGINT"
    assert operations(journal.records)[-1] is Operation.STOP
    with pytest.raises(JournalError, match="closed"):
        await journal.append(journal.records[0], durable=False)


def fakes(
    feed: FakeFeed, account: AccountSnapshot | None = None, patience_s: float = 0.2
) -> tuple[Connections, FakeVenue]:
    opening = AccountSnapshot(1, 1, (Balance("USDT", CAPITAL),), (), ())
    venue = FakeVenue(DEFAULT_UNIVERSE, account or opening)
    return Connections(feed, venue, FakeTimers(), FakeClock(1), patience_s=patience_s), venue


def fake_daemon(connections: Connections, journal: MemoryJournal, **options: object) -> Daemon:
    return Daemon(fresh_kernel(), journal, connections, SUBSCRIPTIONS, **options)  # type: ignore[arg-type]


def test_a_second_signal_leaves_without_waiting() -> None:
    journal = MemoryJournal()
    connections, _ = fakes(FakeFeed(), patience_s=1000.0)  # the streams never end: it would wait for them

    async def main() -> DaemonSummary:
        for delay_s, number in ((0.05, signal.SIGTERM), (0.15, signal.SIGINT)):
            asyncio.get_running_loop().call_later(delay_s, os.kill, os.getpid(), number)
        return await fake_daemon(connections, journal).run()

    with pytest.raises(Interrupted):
        run_on_loop(main())
    assert operations(journal.records) == [Operation.START, Operation.STOP]


async def test_a_venue_that_does_not_end_is_cut_off() -> None:
    connections, _ = fakes(FakeFeed(), patience_s=0.01)
    assert (await fake_daemon(connections, MemoryJournal(), deadline_s=0.01).run()).warnings == ()


async def test_an_account_that_is_not_ours_latches() -> None:
    foreign = AccountSnapshot(1, 1, (Balance("USDT", CAPITAL),), (Position(BTC, Decimal(1), Decimal(40_000)),), ())
    connections, _ = fakes(FakeFeed(), foreign)
    alerts: list[Alert] = []
    summary = await fake_daemon(connections, MemoryJournal(), deadline_s=0.01, on_alert=alerts.append).run()
    assert summary.halted is not None
    assert "not ours: BTCUSDT" in summary.halted
    assert any(each.severity is Severity.CRITICAL for each in alerts)


# ---- bad stops -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [DataError("bar 7 is no bar"), KeyError("a bug")])
async def test_a_feed_that_fails_stops_the_daemon_with_its_error(failure: Exception) -> None:
    feed = FakeFeed(failure=failure)
    feed.queue.put_nowait(None)
    connections, _ = fakes(feed)
    journal, alerts = MemoryJournal(), list[Alert]()
    with pytest.raises(type(failure)) as caught:
        await fake_daemon(connections, journal, on_alert=alerts.append).run()
    assert caught.value is failure
    assert alerts[-1].severity is Severity.CRITICAL
    with pytest.raises(JournalError, match="closed"):
        await journal.append(journal.records[0], durable=False)


async def test_a_companion_that_fails_stops_the_daemon() -> None:
    async def falls_over() -> None:
        raise RuntimeError("no terminal")

    connections, _ = fakes(FakeFeed())
    with pytest.raises(RuntimeError, match="no terminal"):
        await fake_daemon(connections, MemoryJournal(), companions=[falls_over]).run()


async def broken_at(fills: int, of: Rig, alerts: list[Alert]) -> list[CancelOrder]:
    """Run until the kernel breaks after so many fills; what was cancelled at the venue then."""
    handle, seen, cancelled = of.kernel.handle, iter(range(1, 10**9)), list[CancelOrder]()
    cancel = of.venue.cancel

    def breaks(event: Event) -> Sequence[Command]:
        if isinstance(event, Bar) and of.kernel.open_orders and next(seen) >= fills:
            raise ZeroDivisionError("a bug")
        return handle(event)

    async def watched(order: CancelOrder) -> None:
        cancelled.append(order)
        await cancel(order)

    of.kernel.handle = breaks  # type: ignore[method-assign]
    of.venue.cancel = watched  # type: ignore[method-assign]
    with pytest.raises(InvariantBroken, match="ZeroDivisionError: a bug"):
        await daemon_over(of, on_alert=alerts.append).run()
    return cancelled


async def test_a_kernel_that_breaks_cancels_entries_and_leaves_the_stops() -> None:
    alerts: list[Alert] = []
    journal = MemoryJournal()
    of = rig(in_memory(journal))
    cancelled = await broken_at(40, of, alerts)
    resting = of.parts.session.exchange.snapshot(0).open_orders
    stops = {each.approved.id for each in of.kernel.open_orders if each.approved.purpose is Purpose.PROTECTION}
    assert stops
    assert {each.id for each in resting} == stops
    assert not {each.id for each in cancelled} & stops
    assert "a bug" in alerts[-1].text
    assert isinstance(journal.durable[-1].event, Bar)


async def test_a_journal_that_fails_stops_the_daemon_before_the_order_goes_out() -> None:
    whole = MemoryJournal()
    await daemon_over(rig(in_memory(whole), source=CutMarket())).run()
    first = next(each for each in whole.records if any(isinstance(c, ApprovedOrder) for c in each.commands))
    of = rig(in_memory(MemoryJournal(fail_after=first.seq - 1)))
    with pytest.raises(JournalError, match="no space left"):
        await daemon_over(of).run()
    assert of.parts.session.exchange.snapshot(0).open_orders == ()


async def test_a_withdrawn_key_halts_and_the_process_stays_up() -> None:
    journal, alerts = MemoryJournal(), list[Alert]()
    of = rig(in_memory(journal))
    daemon = daemon_over(of, on_alert=alerts.append)

    async def refused(_: ApprovedOrder) -> None:
        raise NotAuthorised("the key was withdrawn")

    def bars_after_the_halt(record: Record) -> None:
        if of.kernel.state is State.HALTED and isinstance(record.event, Bar):
            daemon.stop("it went on listening")

    of.venue.submit = refused  # type: ignore[method-assign]
    daemon.inbox.observe(bars_after_the_halt)
    summary = await daemon.run()
    assert summary.reason == "it went on listening"
    assert summary.halted is not None
    assert "the key was withdrawn" in summary.halted
    assert of.kernel.latch is not None
    assert of.kernel.latch.cause is HaltCause.AUTH
    first = next(each for each in journal.records if isinstance(each.event, VenueStatus))
    assert isinstance(first.event, VenueStatus)
    assert first.event.state is VenueState.REFUSED
    assert any(isinstance(each, Halt) for each in first.commands)
    assert first in journal.durable
    later = [command for each in journal.records if each.seq > first.seq for command in each.commands]
    assert not any(isinstance(command, ApprovedOrder) for command in later), "nothing is tried with a refused key"
    assert [each.severity for each in alerts if each.subject == "halt"] == [Severity.CRITICAL]


# ---- the live path: open, BOOT, warm up, START, shut ---------------------------------------------------------------


class Stages:
    """Notes the order in which a daemon opens and closes its world."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.feed = FakeFeed()
        self.venue = FakeVenue(DEFAULT_UNIVERSE, AccountSnapshot(1, 1, (Balance("USDT", CAPITAL),), (), ()))
        self.bars = [Bar(BTC, INTERVAL_NS, n * INTERVAL_NS, n * INTERVAL_NS, 1.0, 1.0, 1.0, 1.0, 1.0) for n in (1, 2)]

    async def open(self) -> None:
        self.log.append("open")

    async def shut(self) -> None:
        self.log.append("shut")

    async def warm_up(self) -> AsyncIterator[Bar]:
        for bar in self.bars:
            yield bar

    def seen(self, record: Record) -> None:
        event = record.event
        self.log.append(event.operation.value if isinstance(event, OperatorCommand) else type(event).__name__)

    def connections(self, *, reconciles: bool) -> Connections:
        return Connections(
            self.feed,
            self.venue,
            FakeTimers(),
            FakeClock(1),
            linger_s=0.0,
            open=self.open,
            warm_up=self.warm_up,
            reconciles=reconciles,
            shut=self.shut,
        )


async def test_a_start_opens_boots_warms_up_and_only_then_trades() -> None:
    stages, journal = Stages(), MemoryJournal()
    daemon = fake_daemon(stages.connections(reconciles=False), journal, observers=[stages.seen], boot="17")
    asyncio.get_running_loop().call_later(0.05, daemon.stop, "enough")
    await daemon.run()
    assert stages.log == ["open", "BOOT", "Bar", "Bar", "AccountSnapshot", "START", "STOP", "shut"]
    boot = journal.records[0].event
    assert isinstance(boot, OperatorCommand)
    assert boot.detail == "17"
    assert stages.venue.requests == [], "what is warmed up with is no reason to trade"


async def test_before_a_real_venue_the_kernel_asks_for_the_snapshot_itself() -> None:
    stages = Stages()
    kernel = Kernel(
        KernelSettings(INTERVAL_NS, reconcile=ReconcileSettings(enabled=True)),
        {each.id: each for each in DEFAULT_UNIVERSE},
        plan().strategies,
        StepFeeder(),
    )
    daemon = Daemon(
        kernel,
        MemoryJournal(),
        stages.connections(reconciles=True),
        SUBSCRIPTIONS,
        observers=[stages.seen],
        boot="17",
        lock_step=False,
    )

    def looked(record: Record) -> None:
        if isinstance(record.event, AccountSnapshot):
            daemon.stop("it has looked")

    daemon.inbox.observe(looked)
    await daemon.run()
    assert stages.log == ["open", "BOOT", "Bar", "Bar", "START", "AccountSnapshot", "STOP", "shut"]
    assert [each.name for each in stages.venue.snapshots] == ["reconcile-1"]


async def test_whatever_was_opened_is_shut_when_the_start_fails() -> None:
    stages = Stages()
    stages.venue.unreadable = VenueUnavailable("no route")
    with pytest.raises(VenueUnavailable):
        await fake_daemon(stages.connections(reconciles=False), MemoryJournal(), observers=[stages.seen]).run()
    assert stages.log[-1] == "shut"


async def test_an_operators_word_goes_past_a_full_inbox() -> None:
    """A feed that says more than is handled fills the queue; KILL is the next thing that is handled all the same."""
    stages, journal = Stages(), MemoryJournal()
    daemon = fake_daemon(stages.connections(reconciles=False), journal, lock_step=False)
    flood = 20_000
    for n in range(flood):
        stages.feed.queue.put_nowait(msgspec.structs.replace(stages.bars[0], ts_ns=(n + 3) * INTERVAL_NS))
    running = asyncio.ensure_future(daemon.run())
    while daemon.inbox.last_seq < 10:  # noqa: ASYNC110  the start is over
        await asyncio.sleep(0)
    before = daemon.inbox.last_seq
    await daemon.operate(Operation.KILL, "now")
    after = daemon.inbox.last_seq
    daemon.stop("enough")
    await running
    kill = next(each for each in journal.records if each.seq > before and isinstance(each.event, OperatorCommand))
    assert isinstance(kill.event, OperatorCommand)
    assert kill.event.operation is Operation.KILL
    assert kill.seq <= after < flood, "the flood was still waiting"
