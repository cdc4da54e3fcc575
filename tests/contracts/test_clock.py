"""The Clock port: the same promises from the machine's clock, the market's, a simulated loop's, and the test's."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.venue import FakeClock
from tidegate.adapters.sim.clock import SimClock
from tidegate.adapters.system.clock import SystemClock
from tidegate.app.simulation import EPOCH_NS, VirtualClock, VirtualLoop, run
from tidegate.ports import Clock

SHORT_NS = 5_000_000


@dataclass
class Case:
    clock: Clock
    move_to: Callable[[int], None]  # where time is not ours to move, it moves by itself


Scenario = Callable[[Case], Coroutine[Any, Any, None]]
Play = Callable[[Scenario], None]


def of_the_machine() -> Case:
    return Case(SystemClock(), lambda _: None)


def of_the_market() -> Case:
    clock = SimClock(1_000)
    return Case(clock, clock.advance)


def of_the_test() -> Case:
    clock = FakeClock(1_000)
    return Case(clock, clock.move_to)


MAKERS = {"SystemClock": of_the_machine, "SimClock": of_the_market, "FakeClock": of_the_test}


def on_a_virtual_loop(scenario: Scenario) -> None:
    def main(loop: VirtualLoop) -> Coroutine[Any, Any, None]:
        return scenario(Case(VirtualClock(loop), lambda _: None))

    assert run(main, 1).errors == ()


@pytest.fixture(params=[*MAKERS, "VirtualClock"])
def play(request: pytest.FixtureRequest) -> Play:
    """Plays a scenario with the clock under test, on the loop that this clock needs."""
    if request.param == "VirtualClock":
        return on_a_virtual_loop

    async def on_a_real_loop(scenario: Scenario) -> None:
        await scenario(MAKERS[request.param]())

    return lambda scenario: asyncio.run(on_a_real_loop(scenario))


def test_what_has_passed_is_not_waited_for(play: Play) -> None:
    async def scenario(case: Case) -> None:
        now_ns = case.clock.now_ns()
        for at_ns in (0, now_ns - 1, now_ns):
            await case.clock.sleep_until(at_ns)

    play(scenario)


def test_a_sleeper_wakes_when_the_clock_has_reached_the_time_and_not_before(play: Play) -> None:
    async def scenario(case: Case) -> None:
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

    play(scenario)


def test_a_sleeper_that_gives_up_disturbs_nobody(play: Play) -> None:
    async def scenario(case: Case) -> None:
        begin_ns = case.clock.now_ns()
        quitter = asyncio.ensure_future(case.clock.sleep_until(begin_ns + SHORT_NS))
        stayer = asyncio.ensure_future(case.clock.sleep_until(begin_ns + SHORT_NS))
        await asyncio.sleep(0)
        quitter.cancel()
        await asyncio.sleep(0)
        case.move_to(begin_ns + SHORT_NS)
        await stayer
        assert quitter.cancelled()

    play(scenario)


def test_durations_do_not_run_backwards(play: Play) -> None:
    async def scenario(case: Case) -> None:
        before_ns, begin_ns = case.clock.monotonic_ns(), case.clock.now_ns()
        case.move_to(begin_ns + SHORT_NS)
        await case.clock.sleep_until(begin_ns + SHORT_NS)
        assert case.clock.monotonic_ns() > before_ns

    play(scenario)


def test_the_market_clock_never_runs_backwards() -> None:
    clock = SimClock(10)
    clock.advance(5)
    assert clock.now_ns() == 10


def test_a_wall_clock_that_is_set_wakes_its_sleepers_and_moves_no_duration() -> None:
    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        sleeper = asyncio.ensure_future(clock.sleep_until(EPOCH_NS + 60_000 * SHORT_NS))
        await asyncio.sleep(0)
        clock.jump(60_000 * SHORT_NS)
        await sleeper
        assert clock.monotonic_ns() == 0

    run(main, 1)
