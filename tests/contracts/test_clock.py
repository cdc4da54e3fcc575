"""The Clock port: the same promises from the machine's clock, the market's, and the test's."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.fakes.venue import FakeClock
from tidegate.adapters.sim.clock import SimClock
from tidegate.adapters.system.clock import SystemClock
from tidegate.ports import Clock

SHORT_NS = 5_000_000


@dataclass
class Case:
    clock: Clock
    move_to: Callable[[int], None]  # where time is not ours to move, it moves by itself


@pytest.fixture(params=["SystemClock", "SimClock", "FakeClock"])
def case(request: pytest.FixtureRequest) -> Case:
    sim, fake = SimClock(1_000), FakeClock(1_000)
    cases = {
        "SystemClock": Case(SystemClock(), lambda _: None),
        "SimClock": Case(sim, sim.advance),
        "FakeClock": Case(fake, fake.move_to),
    }
    return cases[request.param]


async def test_what_has_passed_is_not_waited_for(case: Case) -> None:
    now_ns = case.clock.now_ns()
    for at_ns in (0, now_ns - 1, now_ns):
        await case.clock.sleep_until(at_ns)


async def test_a_sleeper_wakes_when_the_clock_has_reached_the_time_and_not_before(case: Case) -> None:
    begin_ns = case.clock.now_ns()
    seen: list[int] = []

    async def sleep(by_ns: int) -> None:
        await case.clock.sleep_until(begin_ns + by_ns)
        seen.append(by_ns)
        assert case.clock.now_ns() >= begin_ns + by_ns

    sleepers = asyncio.gather(sleep(3 * SHORT_NS), sleep(SHORT_NS))
    await asyncio.sleep(0)
    assert seen == []
    for step in (1, 2, 3):
        case.move_to(begin_ns + step * SHORT_NS)
        await asyncio.sleep(0)
    await sleepers
    assert seen == [SHORT_NS, 3 * SHORT_NS]


async def test_a_sleeper_that_gives_up_disturbs_nobody(case: Case) -> None:
    begin_ns = case.clock.now_ns()
    quitter = asyncio.ensure_future(case.clock.sleep_until(begin_ns + SHORT_NS))
    stayer = asyncio.ensure_future(case.clock.sleep_until(begin_ns + SHORT_NS))
    await asyncio.sleep(0)
    quitter.cancel()
    await asyncio.sleep(0)
    case.move_to(begin_ns + SHORT_NS)
    await stayer
    assert quitter.cancelled()


def test_the_market_clock_never_runs_backwards() -> None:
    clock = SimClock(10)
    clock.advance(5)
    assert clock.now_ns() == 10
