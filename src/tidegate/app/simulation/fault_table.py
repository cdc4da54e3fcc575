"""The fault table: every fault of the catalogue struck into a running daemon, with and without what guards it.

A run is warm start, fault, and a minute of truth in which the daemon must get well; the oracles judge it, and the
journals tell how long it took. With the guard removed the same runs must be judged badly in at least one seed: a guard
whose absence nobody notices is no guard.
"""

import math
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tidegate.app.live import Rhythm
from tidegate.app.simulation.fault_batch import place_batch
from tidegate.app.simulation.fault_cases import CASES, Drill
from tidegate.app.simulation.guards import GUARDS, removed
from tidegate.app.simulation.net import Piece, Rule, Strike
from tidegate.app.simulation.oracles import Evidence, judge
from tidegate.app.simulation.recovery import (
    Kind,
    Recovery,
    Timeline,
    data_recoveries,
    denials,
    given_up,
    order_recoveries,
    quantile,
    stale_entries,
    stop_recoveries,
    stream_recoveries,
    unnoticed,
)
from tidegate.app.simulation.scenarios import scripted
from tidegate.app.simulation.world import DAEMON, SimPlan, SimWorld, simulate
from tidegate.domain.market import MINUTE_NS

ENTRY_BOUND_S: Final = 5.0
REDUCING_BOUND_S: Final = 8.0
READY_WITHIN_S: Final = 60.0
_LOOK_S: Final = 0.1
_GIVEN_BACK_S: Final = 10.0
_REQUESTS: Final = (b"GET /fapi", b"POST /fapi", b"PUT /fapi", b"DELETE /fapi")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run. ``injected`` counts the strikes; ``ready_s`` is from the truth until it stood where it should."""

    fault: str
    seed: int
    guarded: bool
    what: str
    injected: int
    findings: tuple[str, ...]
    recoveries: tuple[Recovery, ...]
    ready_s: float
    digest: str

    @property
    def seconds(self) -> float:
        """The time to recover: until the last of all that was lost was there again."""
        return max([self.ready_s, *(each.seconds for each in self.recoveries)])


def try_fault(fault: str, seed: int, *, guarded: bool = True) -> Trial:
    """Strike one fault into one run, with its guard or without."""
    drill = CASES[fault].drill(seed)
    if guarded:
        return _run(fault, seed, drill, guarded=True)
    with removed(GUARDS[fault]):
        return _run(fault, seed, drill, guarded=False)


def plan_of(drill: Drill, seed: int) -> SimPlan:
    """The world of a drill."""
    return SimPlan(
        seed,
        scripted(drill.start_ns, drill.bars),
        drill.faults,
        start_ns=drill.start_ns,
        tick_ms=drill.tick_ms,
        history_bars=60,
        rhythm=Rhythm(beat_s=5.0, look_every_s=5.0, quotes=drill.quotes, depth=drill.depth),
    )


def _run(fault: str, seed: int, drill: Drill, *, guarded: bool) -> Trial:
    async def script(world: SimWorld) -> Trial:
        watch = _Watch(world, fault, drill)
        world.start_daemon()
        if drill.batch:
            await world.run_for(drill.truth_s)
            watch.findings += await place_batch(world)
        await watch.until(drill.end_s)
        if world.crashes:
            return watch.ended(seed, guarded, tuple(f"crash at {text}" for text in world.crashes))
        findings, seen = judge(world)
        return watch.judged(seed, guarded, findings, seen)

    try:
        outcome = simulate(plan_of(drill, seed), script, limit_s=drill.end_s + 60.0)
    except Exception as error:  # a world that breaks is a finding like any other
        return Trial(fault, seed, guarded, drill.what, 0, (f"broke: {type(error).__name__}: {error}",), (), 0.0, "")
    found = outcome.result
    errors = tuple(f"task: {text}" for text in outcome.errors)
    return Trial(
        fault, seed, guarded, found.what, found.injected, (*found.findings, *errors), found.recoveries, found.ready_s,
        outcome.digest,
    )  # fmt: skip


class _Watch:
    """Looks at a run while it goes on: when the fault struck, and when the daemon stood where it should."""

    def __init__(self, world: SimWorld, fault: str, drill: Drill) -> None:
        self.findings: list[str] = []
        self._world, self._fault, self._drill = world, fault, drill
        self._struck_s: float | None = None
        self._last_s = 0.0
        self._strikes = 0
        self._well_s = math.inf
        self._requests: list[float] = []
        self._held_s = 0.0
        self._killed = False
        world.loop.network.inject(Rule(self._look, source=DAEMON, from_client=True))

    async def until(self, end_s: float) -> None:
        """Let time pass."""
        world, loop = self._world, self._world.loop
        while loop.time() < end_s:
            await world.run_for(_LOOK_S)
            if world.venue.coverage():
                self._held_s = loop.time()
            if loop.time() >= self._drill.kill_s and not self._killed and world.parts is not None:
                self._killed = True
                (world.parts.state / "KILL").touch()
            if (strikes := world.venue.injected.get(self._fault, 0)) > self._strikes:
                self._strikes, self._last_s = strikes, loop.time()
                self._struck_s = self._last_s if self._struck_s is None else self._struck_s
            if not (world.parts is not None and world.kernel.state is self._drill.state and self._calm()):
                self._well_s = math.inf
            elif math.isinf(self._well_s):
                self._well_s = loop.time()

    def _calm(self) -> bool:
        kernel = self._world.kernel
        doubtful = [order for order in kernel.open_orders if not order.approved.order_type.conditional]
        return not any(order.approved.id in kernel.unresolved for order in doubtful)

    def _look(self, pieces: list[Piece], at: Strike) -> list[Piece]:
        """A rule of the network that changes nothing: when requests leave."""
        if any(isinstance(piece.payload, bytes) and piece.payload.startswith(_REQUESTS) for piece in pieces):
            self._requests.append(at.now_s)
        return pieces

    def judged(self, seed: int, guarded: bool, findings: Sequence[str], seen: Evidence) -> Trial:
        """What came of it."""
        world, drill = self._world, self._drill
        struck_s = self._struck_s if self._struck_s is not None else drill.truth_s
        once = all("for_s" not in rule for rule in drill.faults)
        truth_s = max(drill.truth_s, self._last_s) if once else drill.truth_s
        line = Timeline.of(world.folder, drill.start_ns)
        gaps = [(gap.symbol, gap.from_s, gap.until_s) for gap in world.witness.gaps]
        recoveries = (
            *order_recoveries(line, truth_s),
            *stop_recoveries(gaps, truth_s),
            *stream_recoveries(line, truth_s),
            *data_recoveries(line, truth_s),
        )
        ready_s = max(0.0, self._well_s - truth_s)
        found = [*findings, *self.findings, *line.broken, *stale_entries(line), *given_up(line)]
        found += denials(line, seen.executed)
        found += self._late(recoveries, ready_s)
        if drill.noticed is not None and not (drill.what == "duplicate" and drill.depth):
            found += unnoticed(line, drill.noticed[0], struck_s - _LOOK_S, drill.noticed[1])
        if drill.flat:
            found += [f"end: {name} {qty} is held, and nothing is wished" for name, qty in self._held(seen).items()]
        if not drill.banned and any("banned" in rule.memory for rule in world.venue.exchange.faults.rules()):
            found.append("rate: the venue had to ban us")
        loud = sum(struck_s + 0.5 < at_s < struck_s + drill.silent_s for at_s in self._requests)
        if loud:
            found.append(f"rate: {loud} requests left while we were banned")
        if self._held_s > truth_s + drill.flat_within_s:
            found.append(f"late exit: held until {self._held_s - truth_s:.1f} s after the truth")
        found += line.kept(_GIVEN_BACK_S)
        if drill.told and line.risen and not any(alert.subject == drill.told for _, alert in line.alerts):
            found.append(f"told: nobody was told of {drill.told}")
        kept = tuple(each for each in dict.fromkeys(found) if not each.startswith(drill.allowed or ("\0",)))
        injected = world.venue.injected.get(self._fault, 0)
        return Trial(self._fault, seed, guarded, drill.what, injected, kept, recoveries, ready_s, "")

    def ended(self, seed: int, guarded: bool, findings: tuple[str, ...]) -> Trial:
        """The daemon did not live to be judged."""
        injected = self._world.venue.injected.get(self._fault, 0)
        return Trial(self._fault, seed, guarded, self._drill.what, injected, findings, (), math.inf, "")

    def _late(self, recoveries: Iterable[Recovery], ready_s: float) -> Iterator[str]:
        drill = self._drill
        bounds = {Kind.ENTRY: READY_WITHIN_S, Kind.REDUCING: READY_WITHIN_S, Kind.STOP: 13.0}
        for each in recoveries:
            bound_s = bounds.get(each.kind, drill.within_s)
            if each.seconds > bound_s and not (each.kind is Kind.STOP and "E2" in drill.allowed):
                yield f"late {each.kind.value}: {each.what} after {each.seconds:.1f} s, bound {bound_s:g} s"
        if ready_s > READY_WITHIN_S:
            state = self._world.kernel.state.value if self._world.parts is not None else "never up"
            yield f"late ready: {state}, not {drill.state.value}, {READY_WITHIN_S:g} s after the truth"

    @staticmethod
    def _held(seen: Evidence) -> dict[str, Any]:
        return dict(seen.books["positions"])


# ---- the table ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Row:
    """All trials of one fault."""

    fault: str
    trials: list[Trial] = field(default_factory=list)
    unguarded: list[Trial] = field(default_factory=list)

    def take(self, trial: Trial) -> None:
        """Add a run."""
        (self.trials if trial.guarded else self.unguarded).append(trial)

    @property
    def injected(self) -> int:
        """Strikes in the guarded runs."""
        return sum(trial.injected for trial in self.trials)

    @property
    def survived(self) -> int:
        """Guarded runs in which the fault struck and no oracle found anything."""
        return sum(trial.injected > 0 and not trial.findings for trial in self.trials)

    @property
    def bites(self) -> Trial | None:
        """The first run without the guard in which something was found."""
        return next((trial for trial in self.unguarded if trial.findings), None)

    @property
    def passed(self) -> bool:
        """Struck in every guarded run, and survived."""
        return bool(self.trials) and self.survived == len(self.trials)

    def count(self, promise: str) -> int:
        """Findings of a promise in the guarded runs: O1 are duplicates, O5 lost fills."""
        return sum(finding.startswith(promise) for trial in self.trials for finding in trial.findings)

    def seconds(self, kind: Kind | None = None) -> list[float]:
        """Times to recover: of each run, or of each thing of a kind."""
        if kind is None:
            return [trial.seconds for trial in self.trials if trial.injected]
        return [each.seconds for trial in self.trials for each in trial.recoveries if each.kind is kind]

    def as_dict(self) -> dict[str, object]:
        """The row as plain data."""
        bites = self.bites
        return {
            "fault": self.fault,
            "runs": len(self.trials),
            "injected": self.injected,
            "survived": self.survived,
            "guard": GUARDS[self.fault].name,
            "guard_removed": len(self.unguarded),
            "noticed": None if bites is None else {"seed": bites.seed, "finding": bites.findings[0]},
            "recovery_s": _figures(self.seconds()),
            **{f"{kind.value}_s": _figures(self.seconds(kind)) for kind in Kind if self.seconds(kind)},
            "duplicates": self.count("O1"),
            "lost_fills": self.count("O5"),
            "failures": [
                {"seed": trial.seed, "what": trial.what, "findings": list(trial.findings) or ["not injected"]}
                for trial in self.trials
                if trial.findings or not trial.injected
            ],
        }


def _figures(seconds: Sequence[float]) -> dict[str, float | None]:
    found = {"p50": quantile(seconds, 0.5), "p99": quantile(seconds, 0.99), "max": max(seconds, default=0.0)}
    return {name: None if math.isinf(value) else round(value, 3) for name, value in found.items()}


def bounds_of(rows: Iterable[Row]) -> dict[str, float]:
    """The p99 of the recovery of entries and of reducing orders, over the faults that the bounds hold for."""
    ordinary = [row for row in rows if not CASES[row.fault].long]
    return {
        kind.value: quantile([value for row in ordinary for value in row.seconds(kind)], 0.99)
        for kind in (Kind.ENTRY, Kind.REDUCING)
    }


Job = tuple[str, int, bool]


def jobs_of(faults: Sequence[str], seeds: int, unguarded: int) -> list[Job]:
    """Every fault with ``seeds`` seeds, and without its guard with at most ``unguarded``."""
    with_guard = [(fault, seed, True) for seed in range(1, seeds + 1) for fault in faults]
    return with_guard + [(fault, seed, False) for seed in range(1, unguarded + 1) for fault in faults]


def run_table(jobs: Sequence[Job], processes: int = 1) -> Iterator[Trial]:
    """Make the runs, in any order. A fault whose unguarded run has been noticed is not run unguarded again."""
    noticed: set[str] = set()

    def wanted() -> Iterator[Job]:
        return (job for job in jobs if job[2] or job[0] not in noticed)

    if processes <= 1:
        for job in wanted():
            trial = _job(job)
            if not trial.guarded and trial.findings:
                noticed.add(trial.fault)
            yield trial
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(_job, [job for job in jobs if job[2]], chunksize=1)
        for seed in sorted({job[1] for job in jobs if not job[2]}):
            wave = [job for job in wanted() if job[1] == seed and not job[2]]
            for trial in pool.imap_unordered(_job, wave, chunksize=1):
                if trial.findings:
                    noticed.add(trial.fault)
                yield trial


def _job(job: Job) -> Trial:
    fault, seed, guarded = job
    return try_fault(fault, seed, guarded=guarded)


__all__ = ["CASES", "GUARDS", "MINUTE_NS", "Row", "Trial", "bounds_of", "jobs_of", "run_table", "try_fault"]
