"""The MarketDataFeed port: events in the order in which they became known, until the feed ends."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import get_args

import pytest

from tests.fakes.journal import MemoryJournal
from tests.fakes.small_demo import INTERVAL_NS, SYMBOLS, CutMarket, rig
from tests.fakes.venue import FakeFeed
from tidegate.adapters.sim.venue import SimVenue
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import Bar, MarketEvent
from tidegate.domain.messages import Subscription
from tidegate.ports import MarketDataFeed

SUBSCRIPTIONS = [Subscription(InstrumentId(name), INTERVAL_NS) for name in SYMBOLS]


@dataclass
class Case:
    feed: MarketDataFeed
    bars: int


async def drop(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


def a_bar(number: int) -> Bar:
    name, ts_ns = InstrumentId(SYMBOLS[0]), number * INTERVAL_NS
    return Bar(name, INTERVAL_NS, ts_ns, ts_ns, 1.0, 1.0, 1.0, 1.0, 1.0)


@pytest.fixture(params=["SimVenue", "FakeFeed"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    if request.param == "FakeFeed":
        feed = FakeFeed([a_bar(n) for n in range(1, 11)])
        feed.queue.put_nowait(None)
        yield Case(feed, 10)
        return
    venue = rig(lambda _: MemoryJournal(), source=CutMarket()).venue
    others = [asyncio.ensure_future(drop(each)) for each in (venue.reports(), venue.fired())]
    yield Case(venue, 512 * len(SYMBOLS))
    await asyncio.gather(*others)


async def test_the_stream_is_in_order_and_ends_with_the_feed(case: Case) -> None:
    events = [event async for event in case.feed.stream(SUBSCRIPTIONS)]
    assert all(isinstance(event, get_args(MarketEvent)) for event in events)
    times = [event.recv_ns for event in events]
    assert times == sorted(times)
    assert sum(isinstance(event, Bar) for event in events) == case.bars
    closes = [(event.instrument, event.ts_ns) for event in events if isinstance(event, Bar)]
    assert len(set(closes)) == len(closes)


async def test_every_event_became_known_when_it_happened_or_later(case: Case) -> None:
    assert all([event.recv_ns >= event.ts_ns async for event in case.feed.stream(SUBSCRIPTIONS)])


def test_the_simulated_market_refuses_what_it_does_not_have() -> None:
    venue: SimVenue = rig(lambda _: MemoryJournal()).venue
    with pytest.raises(DataError, match="DOGEUSDT is not in the simulated market"):
        venue.stream([Subscription(InstrumentId("DOGEUSDT"), INTERVAL_NS)])
