"""The Timers port: what is set fires once, not before its time, in the order of the times."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from tests.fakes.journal import MemoryJournal
from tests.fakes.small_demo import rig
from tests.fakes.venue import FakeClock, FakeTimers
from tidegate.adapters.system.clock import ClockTimers
from tidegate.domain.messages import SetTimer, TimerFired
from tidegate.ports import Timers
from tidegate.simulator.synthetic import DEFAULT_START_NS

HOUR_NS = 3_600_000_000_000


@dataclass
class Case:
    timers: Timers
    move_to: Callable[[int], None]


async def drop(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


@pytest.fixture(params=["SimVenue", "ClockTimers", "FakeTimers"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    clock, fake = FakeClock(DEFAULT_START_NS), FakeTimers()
    match request.param:
        case "SimVenue":
            venue = rig(lambda _: MemoryJournal()).venue
            others = [asyncio.ensure_future(drop(each)) for each in (venue.stream(()), venue.reports())]
            yield Case(venue, lambda _: None)
            for other in others:
                other.cancel()
        case "ClockTimers":
            yield Case(ClockTimers(clock), clock.move_to)
        case _:
            yield Case(fake, fake.reach)


async def take(case: Case, count: int, *steps: int) -> list[TimerFired]:
    """The next timers; meanwhile the time moves to each step."""
    found: list[TimerFired] = []

    async def read() -> None:
        async with aclosing(case.timers.fired()) as fired:  # type: ignore[type-var]
            async for timer in fired:
                found.append(timer)
                if len(found) == count:
                    return

    reading = asyncio.ensure_future(read())
    for step in steps:
        await asyncio.sleep(0)
        case.move_to(DEFAULT_START_NS + step * HOUR_NS)
        for _ in range(5):
            await asyncio.sleep(0)
    await asyncio.wait_for(reading, 60)
    return found


def at(hours: int) -> int:
    return DEFAULT_START_NS + hours * HOUR_NS


async def test_timers_fire_in_the_order_of_their_times_and_not_before(case: Case) -> None:
    for name, hours in (("late", 30), ("early", 10), ("middle", 20)):
        case.timers.set(SetTimer(name, at(hours)))
    fired = await take(case, 3, 9, 10, 20, 30)
    assert [(each.name, each.ts_ns) for each in fired] == [("early", at(10)), ("middle", at(20)), ("late", at(30))]
    assert all(each.recv_ns >= each.ts_ns for each in fired)


async def test_a_timer_that_is_set_again_moves(case: Case) -> None:
    case.timers.set(SetTimer("moved", at(10)))
    case.timers.set(SetTimer("other", at(20)))
    case.timers.set(SetTimer("moved", at(30)))
    fired = await take(case, 2, 10, 20, 30)
    assert [(each.name, each.ts_ns) for each in fired] == [("other", at(20)), ("moved", at(30))]


async def test_a_timer_of_the_past_fires_at_once(case: Case) -> None:
    case.timers.set(SetTimer("past", at(0)))
    (fired,) = await take(case, 1, 1)
    assert fired.name == "past"


async def test_a_timer_set_while_another_is_waited_for_counts() -> None:
    clock = FakeClock(at(0))
    timers = ClockTimers(clock)
    timers.set(SetTimer("late", at(9)))
    reading = asyncio.ensure_future(anext(timers.fired()))
    await asyncio.sleep(0)
    timers.set(SetTimer("soon", at(1)))
    await asyncio.sleep(0)
    clock.move_to(at(1))
    assert (await reading).name == "soon"
