"""The order path survives a kill at any boundary with half of its requests faulty; without the fence it does not."""

from dataclasses import replace
from typing import Any

import pytest

from tidegate.app.simulation.explorer import Crash, Figures, crash_at, explore, plan_of, points
from tidegate.app.simulation.oracles import conditional_doubts, judge
from tidegate.app.simulation.world import SimWorld, simulate
from tidegate.kernel.resolving import Doubt, Resolving

SEEDS = (4, 6, 9)
SAMPLE = 30
"""``tidegate sim explore`` makes the 1,500 runs and more."""


def test_no_kill_at_any_boundary_duplicates_loses_or_forgets_an_order() -> None:
    figures = Figures()
    for crash in explore(SEEDS, SAMPLE):
        figures.take(crash)
    told = figures.as_dict()
    assert figures.runs >= SAMPLE
    assert told["first_failures"] == []
    assert (told["duplicates"], told["lost_fills"], told["unresolved_intents"]) == (0, 0, 0)
    assert figures.injected > 3 * figures.runs  # the faults were there
    assert figures.executions > 3 * figures.runs  # and so was the trading
    assert len(figures.ready_s) == figures.runs - len(SEEDS)  # every killed daemon came back


def test_without_the_fence_the_same_harness_finds_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    def believed_at_once(_self: Resolving, _doubt: Doubt) -> int:
        return 0

    monkeypatch.setattr(Resolving, "_proof_ns", believed_at_once)
    figures = Figures()
    for seed in range(1, 13):
        figures.take(crash_at(seed, 0))
        if figures.count("O1"):
            break
    assert figures.count("O1") > 0


def test_boundaries_are_all_taken_or_spread() -> None:
    assert points(1, 5, 10) == [1, 2, 3, 4, 5]
    chosen = points(1, 1_000, 10)
    assert len(set(chosen)) == 10
    assert chosen == points(1, 1_000, 10)
    assert min(chosen) >= 1
    assert max(chosen) <= 1_000


def test_figures_count_findings_by_kind_and_keep_the_first_failures() -> None:
    def crash(boundary: int, *findings: str, **more: Any) -> Crash:
        return Crash(1, boundary, 30, findings, 2, 1, 0.5, 0.0, 0, **more)

    figures = Figures()
    for each in (crash(0), crash(1, "O1 a: twice", "O1 b: twice"), crash(2, "O5 c: lost")):
        figures.take(each)
    told = figures.as_dict()
    assert (told["runs"], told["boundaries"], told["failed_runs"]) == (3, 30, 2)
    assert (told["duplicates"], told["lost_fills"], told["unresolved_intents"]) == (2, 1, 0)
    assert told["findings"] == {"O1": 1, "O5": 1}


def test_stops_of_unknown_fate_are_given_up_within_the_hour() -> None:
    """They are apart from the promise on open intents, but not for ever."""

    async def script(world: SimWorld) -> tuple[int, list[str], list[str]]:
        world.start_daemon()
        await world.run_for(300.0)
        before = len(conditional_doubts(world))
        await world.run_for(3_700.0)
        return before, conditional_doubts(world), judge(world)[0]

    lost_stop = replace(plan_of(1), faults=[{"fault": "V02", "on": "algo", "count": 1}])
    before, after, findings = simulate(lost_stop, script).result
    assert before == 1
    assert (after, findings) == ([], [])
