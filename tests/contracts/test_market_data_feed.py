"""The MarketDataFeed port: events in the order in which they became known, no bar twice and none left out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest

from tests.fakes.journal import MemoryJournal
from tests.fakes.local_exchange import local_exchange
from tests.fakes.small_demo import CAPITAL, INTERVAL_NS, SYMBOLS, CutMarket, fresh_kernel, rig
from tests.fakes.venue import FakeClock, FakeFeed
from tidegate.adapters.sim.paper import PaperVenue
from tidegate.adapters.sim.venue import SimVenue
from tidegate.app.live import Seamless
from tidegate.app.reconciling import Silence
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import MINUTE_NS, Bar, BarSpec, MarketEvent, Quote
from tidegate.domain.messages import Operation, OperatorCommand, Subscription
from tidegate.ports import MarketDataFeed
from tidegate.quant.bars import BarTable
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE

NAME = InstrumentId(SYMBOLS[0])
SUBSCRIPTIONS = [Subscription(InstrumentId(name), INTERVAL_NS) for name in SYMBOLS]
SPEED = 40.0


@dataclass
class Case:
    """A feed, how many bars it has, and whether it ends then; one that never ends is read up to them."""

    feed: MarketDataFeed
    bars: int
    subscriptions: list[Subscription]
    ends: bool = True

    async def events(self) -> list[MarketEvent]:
        """What it says."""
        found: list[MarketEvent] = []
        bars = 0
        async with aclosing(self.feed.stream(self.subscriptions)) as stream:  # type: ignore[type-var]
            async for event in stream:
                found.append(event)
                bars += isinstance(event, Bar)
                if not self.ends and bars == self.bars:
                    break
        return found


def a_bar(number: int) -> Bar:
    ts_ns = number * INTERVAL_NS
    return Bar(NAME, INTERVAL_NS, ts_ns, ts_ns, 1.0, 1.0, 1.0, 1.0, 1.0)


def given(*events: MarketEvent) -> FakeFeed:
    feed = FakeFeed(events)
    feed.queue.put_nowait(None)
    return feed


async def stored(_: InstrumentId, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> BarTable:
    """The bars that open in the range, whatever it is."""
    ts_ns = np.arange(start_ns, end_ns, bar.interval_ns, dtype=np.int64) + bar.interval_ns
    return BarTable(bar.interval_ns, ts_ns, *(np.ones(len(ts_ns)) for _ in range(5)))


@asynccontextmanager
async def simulated() -> AsyncIterator[Case]:
    venue = rig(lambda _: MemoryJournal(), source=CutMarket()).venue

    async def drop(events: AsyncIterator[object]) -> None:
        async for _ in events:
            pass

    others = [asyncio.ensure_future(drop(each)) for each in (venue.reports(), venue.fired())]
    yield Case(venue, 512 * len(SYMBOLS), SUBSCRIPTIONS)
    await asyncio.gather(*others)


@asynccontextmanager
async def fake() -> AsyncIterator[Case]:
    yield Case(given(*(a_bar(n) for n in range(1, 11))), 10, SUBSCRIPTIONS)


@asynccontextmanager
async def seamless() -> AsyncIterator[Case]:
    """Of bars 1 to 3 it is told before; the feed says 3 again, leaves 5 and 6 out, and says 7 twice."""
    feed, clock = given(*(a_bar(n) for n in (3, 4, 7, 7, 8))), FakeClock(3 * INTERVAL_NS)
    joined = Seamless(feed, stored, BarSpec.of("5m"), clock)
    assert [bar.ts_ns // INTERVAL_NS async for bar in joined.warm_up({NAME: 0})] == [1, 2, 3]
    clock.move_to(4 * INTERVAL_NS)
    yield Case(joined, 5, SUBSCRIPTIONS)


@asynccontextmanager
async def paper() -> AsyncIterator[Case]:
    quotes = [Quote(NAME, n * INTERVAL_NS, n * INTERVAL_NS, 0.9, 1.1, 5.0, 5.0) for n in range(1, 11)]
    events = [event for n, quote in enumerate(quotes, 1) for event in (a_bar(n), quote)]
    yield Case(PaperVenue(given(*events), DEFAULT_UNIVERSE, CAPITAL, FakeClock(1)), 10, SUBSCRIPTIONS)


@asynccontextmanager
async def silent() -> AsyncIterator[Case]:
    kernel = fresh_kernel()
    kernel.handle(OperatorCommand(Operation.KILL, 1, 1))  # it will not get any further
    yield Case(Silence(kernel), 0, SUBSCRIPTIONS)


@asynccontextmanager
async def real() -> AsyncIterator[Case]:
    """Over loopback, at a venue whose minutes last a second and a half."""
    async with local_exchange(SPEED) as local:
        yield Case(await local.feed(), 3, [Subscription(NAME, MINUTE_NS)], ends=False)


MAKERS: dict[str, Callable[[], AbstractAsyncContextManager[Case]]] = {
    "SimVenue": simulated,
    "FakeFeed": fake,
    "Seamless": seamless,
    "PaperVenue": paper,
    "Silence": silent,
    "BinanceFeed": real,
}


@pytest.fixture(params=MAKERS)
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async with MAKERS[request.param]() as made:
        yield made


async def test_the_stream_is_in_order_and_no_bar_is_left_out_or_told_twice(case: Case) -> None:
    events = await case.events()
    assert all(isinstance(event, get_args(MarketEvent)) for event in events)
    times = [event.recv_ns for event in events]
    assert times == sorted(times)
    assert all(event.recv_ns >= event.ts_ns for event in events if isinstance(event, Bar))
    bars = [event for event in events if isinstance(event, Bar)]
    assert len(bars) == case.bars
    for name in {bar.instrument for bar in bars}:
        (interval_ns,) = {bar.interval_ns for bar in bars}
        ends = [bar.ts_ns for bar in bars if bar.instrument == name]
        assert ends == list(range(ends[0], ends[0] + len(ends) * interval_ns, interval_ns))


def test_the_simulated_market_refuses_what_it_does_not_have() -> None:
    venue: SimVenue = rig(lambda _: MemoryJournal()).venue
    with pytest.raises(DataError, match="DOGEUSDT is not in the simulated market"):
        venue.stream([Subscription(InstrumentId("DOGEUSDT"), INTERVAL_NS)])
