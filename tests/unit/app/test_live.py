"""The live daemon's own parts: the seam between stored and live bars, operator verbs, the latch in the exit code."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.journal import MemoryJournal
from tests.fakes.small_demo import CAPITAL, INTERVAL_NS, fresh_kernel, settings
from tests.fakes.venue import FakeClock, FakeFeed, FakeTimers, FakeVenue
from tidegate.adapters.system.clock import SystemClock
from tidegate.app.bootstrap_live import _bars_from, _dead_man, newest_journal, recovered_kernel
from tidegate.app.config_live import VenueSettings
from tidegate.app.control import ask
from tidegate.app.daemon import Connections
from tidegate.app.inbox import Observer
from tidegate.app.live import EXIT_LATCHED, GroupCommit, LiveParts, LiveResult, Seamless, run_live
from tidegate.domain.account import AccountSnapshot, Balance
from tidegate.domain.errors import NotRunning, VenueUnavailable
from tidegate.domain.ids import InstrumentId, Nanos, StrategyId
from tidegate.domain.market import Bar, BarSpec, Family, FeedState, MarketEvent, MarkPrice
from tidegate.domain.messages import Record, Subscription
from tidegate.domain.signals import Signal
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import Kernel, KernelSettings
from tidegate.kernel.lifecycle import State
from tidegate.kernel.wishes import StrategySpec
from tidegate.quant.bars import BarTable
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE
from tidegate.strategies.base import BaseStrategy, View

BTC, ETH = InstrumentId("BTCUSDT"), InstrumentId("ETHUSDT")
SPEC = BarSpec.of("5m")


def a_bar(number: int, name: InstrumentId = BTC) -> Bar:
    ts_ns = number * INTERVAL_NS
    return Bar(name, INTERVAL_NS, ts_ns, ts_ns, 1.0, 1.0, 1.0, 1.0, 1.0)


def ends(events: list[MarketEvent]) -> list[tuple[str, int]]:
    return [(each.instrument, each.ts_ns // INTERVAL_NS) for each in events if isinstance(each, Bar)]


# ---- Seamless ------------------------------------------------------------------------------------------------------


class Store:
    """Stored bars of every time, and who asked for which."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []

    async def __call__(self, name: InstrumentId, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> BarTable:
        self.asked.append((name, start_ns // INTERVAL_NS, end_ns // INTERVAL_NS))
        ts_ns = np.arange(start_ns, end_ns, bar.interval_ns, dtype=np.int64) + bar.interval_ns
        return BarTable(bar.interval_ns, ts_ns, *(np.ones(len(ts_ns)) for _ in range(5)))


async def streamed(seamless: Seamless) -> list[MarketEvent]:
    return [event async for event in seamless.stream([Subscription(BTC, INTERVAL_NS)])]


def fed(*events: MarketEvent) -> FakeFeed:
    feed = FakeFeed(events)
    feed.queue.put_nowait(None)
    return feed


async def test_warm_up_tells_the_bars_of_all_instruments_in_the_order_of_their_ends() -> None:
    seamless = Seamless(fed(), Store(), SPEC, FakeClock(4 * INTERVAL_NS))
    bars = [bar async for bar in seamless.warm_up({ETH: INTERVAL_NS, BTC: 2 * INTERVAL_NS})]
    assert ends(list(bars)) == [(ETH, 2), (BTC, 3), (ETH, 3), (BTC, 4), (ETH, 4)]
    assert all(bar.recv_ns >= bar.ts_ns for bar in bars)


async def test_warm_up_asks_for_nothing_when_nothing_lacks() -> None:
    store = Store()
    seamless = Seamless(fed(), store, SPEC, FakeClock(4 * INTERVAL_NS))
    assert [bar async for bar in seamless.warm_up({BTC: 4 * INTERVAL_NS})] == []
    assert store.asked == []


@pytest.mark.parametrize(
    ("said", "heard", "asked"),
    [
        ([3, 4, 5], [4, 5], []),  # what was stored is not told again
        ([4, 4, 5, 4], [4, 5], []),  # nor is a bar that comes twice
        ([6, 7], [4, 5, 6, 7], [(BTC, 3, 5)]),  # what lies between is fetched
        ([4, 7], [4, 5, 6, 7], [(BTC, 4, 6)]),
    ],
)
async def test_the_seam_shows_each_bar_once_in_order_and_without_a_hole(
    said: list[int], heard: list[int], asked: list[tuple[str, int, int]]
) -> None:
    store = Store()
    seamless = Seamless(fed(*map(a_bar, said)), store, SPEC, FakeClock(3 * INTERVAL_NS))
    assert [bar.ts_ns // INTERVAL_NS async for bar in seamless.warm_up({BTC: 0})] == [1, 2, 3]
    store.asked.clear()
    assert ends(await streamed(seamless)) == [(BTC, n) for n in heard]
    assert store.asked == asked


async def test_a_first_bar_without_a_warm_up_begins_the_row_and_other_events_pass() -> None:
    mark = MarkPrice(BTC, 1, 1, 5.0)
    store = Store()
    events = await streamed(Seamless(fed(mark, a_bar(9), a_bar(11)), store, SPEC, FakeClock(0)))
    assert events[0] is mark
    assert ends(events) == [(BTC, 9), (BTC, 10), (BTC, 11)]


# ---- a daemon and its verbs ----------------------------------------------------------------------------------------


class Live:
    """A live daemon between fakes: kernel and control socket are real, the clock is the machine's."""

    def __init__(self, state: Path, *, dead_man_s: float | None = None, observers: Sequence[Observer] = ()) -> None:
        self.observers = observers
        state.mkdir(parents=True, exist_ok=True)
        self.state = state
        self.journal = MemoryJournal()
        self.kernel = fresh_kernel()
        self.feed = FakeFeed()
        self.flushes = 0
        self.venue = FakeVenue(DEFAULT_UNIVERSE, AccountSnapshot(1, 1, (Balance("USDT", CAPITAL),), (), ()))
        configured = settings().model_copy(update={"venue": VenueSettings(dead_man_s=dead_man_s)})
        connections = Connections(self.feed, self.venue, FakeTimers(), SystemClock(), linger_s=0.0)
        self.parts = LiveParts(
            configured,
            "testnet",
            self.kernel,
            self.journal,
            connections,
            state,
            "17",
            0,
            self.flush,
            companions=_dead_man(configured, self.venue),  # type: ignore[arg-type]
            notes=["the key is not bound to an address"],
        )

    def flush(self) -> None:
        self.flushes += 1

    async def __aenter__(self) -> "Live":
        self.running = asyncio.ensure_future(run_live(self.parts, observers=self.observers))
        await self.until(lambda: self.kernel.state is State.READY)
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.running.done():
            await self.say("stop")
        await self.running

    async def say(self, verb: str, **more: object) -> dict[str, Any]:
        """What the daemon answers to a verb."""
        async with asyncio.timeout(20):
            while True:
                try:
                    return await asyncio.to_thread(ask, self.state, verb, more)
                except NotRunning:  # the socket opens beside the start
                    await asyncio.sleep(0.01)

    async def until(self, reached: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not reached():  # noqa: ASYNC110  nobody tells when it is
                await asyncio.sleep(0.005)


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async with Live(tmp_path / "state") as made:
        yield made


async def test_status_tells_what_an_operator_looks_at(live: Live) -> None:
    live.feed.queue.put_nowait(FeedState(BTC, Family.MARKS, False, 5, 5, "stale: nothing for 5.0 s"))
    await live.until(lambda: len(live.journal.records) >= 4)
    status = await live.say("status")
    assert status["ok"] is True
    assert (status["mode"], status["account"], status["state"]) == ("testnet", "demo", "READY")
    assert status["equity_usdt"] == 10_000.0
    assert status["stale"] == {"BTCUSDT marks": "stale: nothing for 5.0 s"}
    assert status["latch"] is None
    assert status["positions"] == status["orders"] == []
    assert [each["subject"] for each in status["alerts"]] == ["feed"]
    live.feed.queue.put_nowait(FeedState(BTC, Family.MARKS, True, 6, 6))
    await live.until(lambda: len(live.journal.records) >= 5)
    assert (await live.say("status"))["stale"] == {}


async def test_pause_flatten_and_resume(live: Live) -> None:
    assert (await live.say("pause"))["state"] == "REDUCE_ONLY"
    assert (await live.say("resume"))["state"] == "READY"
    assert (await live.say("flatten"))["state"] == "REDUCE_ONLY"
    assert (await live.say("resume"))["state"] == "READY"


async def left(live: Live) -> LiveResult:
    async with asyncio.timeout(20):
        return await live.running


async def test_a_latched_process_stays_up_and_says_so_when_it_leaves(live: Live) -> None:
    assert (await live.say("kill"))["state"] == "HALTED"
    refused = await live.say("resume")
    assert refused["ok"] is False
    assert "--reset" in refused["error"]
    status = await live.say("status")
    assert status["latch"]["cause"] == "KILL"
    assert not live.running.done()
    await live.say("stop")
    result = await left(live)
    assert result.exit_code == EXIT_LATCHED == 6
    assert result.summary["latch"] == status["latch"]


async def test_a_daemon_that_was_asked_to_stop_leaves_with_nought(live: Live) -> None:
    await live.until(lambda: live.flushes)
    await live.say("stop")
    result = await left(live)
    assert (result.exit_code, result.summary["stopped"], result.summary["state"]) == (0, "asked to stop", "STOPPED")


async def test_the_kill_file_latches_once_and_holds_the_latch_while_it_lies_there(live: Live) -> None:
    (live.state / "KILL").touch()
    await live.until(lambda: live.kernel.state is State.HALTED)
    refused = await live.say("resume", reset=True)
    assert refused["ok"] is False
    assert "KILL is still in the state folder" in refused["error"]
    assert "the file KILL" in (await live.say("status"))["latch"]["reason"]


async def test_what_is_no_verb_is_answered_with_those_that_are(live: Live) -> None:
    answer = await live.say("dance")
    assert answer["ok"] is False
    for verb in ("status", "pause", "resume", "flatten", "kill", "stop"):
        assert verb in answer["error"]


async def test_the_dead_man_is_renewed_four_times_in_its_time_even_when_the_venue_is_away(tmp_path: Path) -> None:
    venue = FakeVenue((), AccountSnapshot(1, 1, (), (), ()))
    renew = venue.keep_alive

    async def away(ttl_ms: int) -> None:
        await renew(ttl_ms)
        raise VenueUnavailable("no route")

    venue.keep_alive = away  # type: ignore[method-assign]
    # The least that a configuration takes is ten seconds; here time is dear.
    configured = settings().model_copy(update={"venue": VenueSettings().model_copy(update={"dead_man_s": 0.04})})
    (companion,) = _dead_man(configured, venue)  # type: ignore[arg-type]
    running = asyncio.ensure_future(companion())
    async with asyncio.timeout(20):
        while len(venue.renewals) < 3:  # noqa: ASYNC110  nobody tells when it is
            await asyncio.sleep(0.005)
    running.cancel()
    assert set(venue.renewals) == {40}
    assert _dead_man(settings(), venue) == ()  # type: ignore[arg-type]


async def test_what_was_written_is_handed_over_soon_and_once() -> None:
    flushes: list[int] = []
    commit = GroupCommit(lambda: flushes.append(1))
    running = asyncio.ensure_future(commit.run())
    record = Record(1, a_bar(1), ())
    for _ in range(5):
        commit(record)
    await asyncio.sleep(0.1)
    assert flushes == [1], "one group, and nothing when nothing was written"
    running.cancel()


# ---- the way back from a journal -----------------------------------------------------------------------------------


def test_each_start_has_a_generation_above_all_before_it(tmp_path: Path) -> None:
    instruments = {each.id: each for each in DEFAULT_UNIVERSE}
    now_ns = 1_000 * 10**9
    kernel, gen, notes = recovered_kernel(settings(), instruments, tmp_path / "journal", now_ns)
    assert (gen, notes, kernel.state) == (1_000, [], State.STARTING)
    assert newest_journal(tmp_path / "journal") is None
    (tmp_path / "journal" / "000000001000").mkdir(parents=True)  # a crash came before its journal
    _, gen, notes = recovered_kernel(settings(), instruments, tmp_path / "journal", now_ns)
    assert (gen, notes) == (1_001, [])


class Featureless(BaseStrategy):
    """Remembers nothing."""

    def decide(self, view: View) -> Signal | None:
        return None


def test_every_contract_is_warmed_up_with_one_bar_at_least() -> None:
    """A contract counts from its first bar on: without one, the first close would not wait for it."""
    instruments = {each.id: each for each in DEFAULT_UNIVERSE}
    spec = StrategySpec(StrategyId("Featureless"), Featureless(), (BTC,))
    kernel = Kernel(KernelSettings(INTERVAL_NS), instruments, (spec,), StepFeeder())
    now_ns = 10 * INTERVAL_NS + 7
    for name in (BTC, ETH):
        assert _bars_from(kernel, name, SPEC, now_ns) == 9 * INTERVAL_NS
    kernel.handle(a_bar(9))
    assert _bars_from(kernel, BTC, SPEC, now_ns) == 9 * INTERVAL_NS, "after the last bar that it knows"
    kernel.handle(a_bar(10))
    assert _bars_from(kernel, BTC, SPEC, now_ns) == 10 * INTERVAL_NS, "nothing lacks"


async def test_an_observer_that_raises_is_told_and_the_daemon_stays_ready(tmp_path: Path) -> None:
    def broken(_: Record) -> None:
        raise OSError(28, "no space left")

    async with Live(tmp_path / "state", observers=[broken]) as live:
        status = await live.say("status")
    told = [each["text"] for each in status["alerts"] if each["subject"] == "observer"]
    assert told == ["function raised and is switched off: OSError: [Errno 28] no space left"]
