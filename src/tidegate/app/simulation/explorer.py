"""The crash explorer: one scripted run over the order path, killed at every boundary where it has an effect.

Two contracts are flipped, cut and grown at every bar while half of the order requests are struck by a fault of unknown
outcome. The run is made once to count the effect boundaries of the daemon; then the same seed is run again and the
daemon killed at boundary 1, 2, 3, ..., restarted, and left alone until faults and script are over. The oracles judge.
"""

import multiprocessing
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from tidegate.app.live import Rhythm
from tidegate.app.simulation.clock import EPOCH_NS
from tidegate.app.simulation.oracles import conditional_doubts, judge
from tidegate.app.simulation.scenarios import half_faulty, scripted
from tidegate.app.simulation.world import DAEMON, SimPlan, SimWorld, simulate
from tidegate.kernel.lifecycle import State

BARS: Final = 3
_FAULTY_S: Final = 20.0 + 60.0 * BARS + 20.0
_CALM_S: Final = 70.0
"""From the end of the faults on, until everything is judged: more than the minute of O2."""
_DOWN_S: Final = (0.2, 3.0)
_READY_WITHIN_S: Final = 60.0
_RUNS_PER_PROCESS: Final = 200


@dataclass(frozen=True, slots=True)
class Crash:
    """One run of the explorer. ``boundary`` 0 is the run without a kill. ``ready_s``: from the restart to READY."""

    seed: int
    boundary: int
    effects: int
    findings: tuple[str, ...]
    executions: int
    injected: int
    ready_s: float | None
    longest_gap_s: float
    conditional_doubts: int
    digest: str = ""


@dataclass(slots=True)
class Figures:
    """The sum of many runs."""

    runs: int = 0
    boundaries: dict[int, int] = field(default_factory=dict)
    findings: dict[str, int] = field(default_factory=dict)
    failed: list[Crash] = field(default_factory=list)
    executions: int = 0
    injected: int = 0
    conditional_doubts: int = 0
    ready_s: list[float] = field(default_factory=list)
    barest: Crash | None = None

    def take(self, crash: Crash) -> None:
        """Add a run."""
        self.runs += 1
        self.executions += crash.executions
        self.injected += crash.injected
        self.conditional_doubts += crash.conditional_doubts
        if self.barest is None or crash.longest_gap_s > self.barest.longest_gap_s:
            self.barest = crash
        if crash.boundary == 0:
            self.boundaries[crash.seed] = crash.effects
        if crash.ready_s is not None:
            self.ready_s.append(crash.ready_s)
        for kind in sorted({finding.split()[0] for finding in crash.findings}):
            self.findings[kind] = self.findings.get(kind, 0) + 1
        if crash.findings:
            self.failed.append(crash)

    def count(self, kind: str) -> int:
        """Findings of a kind, over all runs: ``O1`` are duplicates, ``O5`` lost fills, ``O2`` unresolved intents."""
        return sum(finding.startswith(kind) for crash in self.failed for finding in crash.findings)

    def as_dict(self) -> dict[str, object]:
        """The figures as plain data."""
        ready = sorted(self.ready_s)
        return {
            "runs": self.runs,
            "seeds": len(self.boundaries),
            "boundaries": sum(self.boundaries.values()),
            "executions": self.executions,
            "faults_injected": self.injected,
            "duplicates": self.count("O1"),
            "lost_fills": self.count("O5"),
            "unresolved_intents": self.count("O2"),
            "conditional_doubts": self.conditional_doubts,
            "failed_runs": len(self.failed),
            "findings": dict(sorted(self.findings.items())),
            "longest_bare_s": 0.0 if self.barest is None else self.barest.longest_gap_s,
            "longest_bare_at": ""
            if self.barest is None
            else f"seed {self.barest.seed} boundary {self.barest.boundary}",
            "ready_p50_s": round(_quantile(ready, 0.5), 3),
            "ready_p99_s": round(_quantile(ready, 0.99), 3),
            "first_failures": [
                {"seed": each.seed, "boundary": each.boundary, "findings": list(each.findings)}
                for each in self.failed[:10]
            ],
        }


def plan_of(seed: int) -> SimPlan:
    """The scripted run of a seed."""
    return SimPlan(
        seed,
        scripted(EPOCH_NS, BARS),
        half_faulty(_FAULTY_S),
        tick_ms=2_000,
        history_bars=60,
        rhythm=Rhythm(beat_s=5.0, look_every_s=5.0, quotes=False, marks=False),
    )


def crash_at(seed: int, boundary: int) -> Crash:
    """Run a seed, kill the daemon at ``boundary`` (never when it is 0), restart it, and judge what came of it."""
    rng = random.Random(f"{seed}:{boundary}:down")

    async def script(world: SimWorld) -> Crash:
        if boundary:
            world.loop.kill_at(DAEMON, boundary)
        world.start_daemon()
        end_s = _FAULTY_S + _CALM_S
        ready_s = None
        died = await world.until(lambda: world.node.dead, end_s)
        effects = world.node.effects
        if died:
            await world.run_for(rng.uniform(*_DOWN_S))
            world.start_daemon()
            ready_s = await _ready_after(world)
            await world.run_for(max(_CALM_S, end_s - world.loop.time()))
        findings, _ = judge(world)
        return Crash(
            seed,
            boundary,
            effects,
            tuple(findings),
            len(world.venue.trades()),
            sum(world.venue.injected.values()),
            ready_s,
            max((gap.seconds for gap in world.witness.gaps), default=0.0),
            len(conditional_doubts(world)) if world.parts is not None else 0,
        )

    outcome = simulate(plan_of(seed), script)
    findings = (*outcome.result.findings, *(f"task: {text}" for text in outcome.errors))
    return replace(outcome.result, findings=findings, digest=outcome.digest)


async def _ready_after(world: SimWorld) -> float | None:
    """Seconds from now until the daemon is READY; None when it takes too long."""
    began_s = world.loop.time()
    if await world.until(lambda: world.parts is not None and world.kernel.state is State.READY, _READY_WITHIN_S):
        return world.loop.time() - began_s
    return None


def points(seed: int, effects: int, most: int) -> list[int]:
    """The boundaries to kill at: all of them, or ``most`` spread over them, drawn from the seed."""
    if effects <= most:
        return list(range(1, effects + 1))
    return sorted(random.Random(f"{seed}:points").sample(range(1, effects + 1), most))


def explore(seeds: Sequence[int], runs: int, processes: int = 1) -> Iterator[Crash]:
    """Make at least ``runs`` runs, as evenly over ``seeds`` as their boundaries allow, in any order."""
    with _workers(processes) as work:
        firsts = sorted(work([(seed, 0) for seed in seeds]), key=lambda first: first.seed)
        yield from firsts
        left = max(0, runs - len(firsts))
        jobs: list[Job] = []
        for index, first in enumerate(firsts):
            share = -(-left // (len(firsts) - index))
            chosen = points(first.seed, first.effects, share)
            jobs += [(first.seed, boundary) for boundary in chosen]
            left = max(0, left - len(chosen))
        yield from work(jobs)


Job = tuple[int, int]


@contextmanager
def _workers(processes: int) -> Iterator[Callable[[Iterable[Job]], Iterator[Crash]]]:
    """What makes runs of jobs: here, or in several processes, where they come as they end."""
    if processes == 1:
        yield lambda jobs: map(_made, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=_RUNS_PER_PROCESS) as pool:
        yield lambda jobs: pool.imap_unordered(_made, jobs)


def _made(job: Job) -> Crash:
    return crash_at(*job)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
