"""What ``tidegate sim`` does: run a named run, run it again, explore crashes."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import msgspec

from tidegate.app.bootstrap_localnet import read_faults
from tidegate.app.config import Settings, load_settings
from tidegate.app.live import Rhythm
from tidegate.app.simulation.explorer import Figures, explore
from tidegate.app.simulation.oracles import judge
from tidegate.app.simulation.scenarios import SETTINGS
from tidegate.app.simulation.world import SimPlan, SimWorld, simulate
from tidegate.domain.errors import ConfigError

_DAY_S: Final = 86_400.0
_CALM_S: Final = 120.0
"""Without faults, at the end: what is judged has come to rest."""

_FAST: Final[dict[str, Any]] = {
    "tick_ms": 30_000,
    "watch_every_s": 10.0,
    "ping_s": 300.0,
    "rhythm": Rhythm(beat_s=60.0, look_every_s=60.0, quotes=False, marks=False),
}
_FAST_AUDITS: Final = {"venue.audit_busy_s": 120.0, "venue.audit_idle_s": 300.0}
_FULL: Final[dict[str, Any]] = {"tick_ms": 1_000, "watch_every_s": 1.0}
PACES: Final = ("fast", "full")


class RunSpec(msgspec.Struct, frozen=True):
    """What names a run, as it is written down: with the same program, the same digest comes out of it.

    ``settings`` is the whole configuration of the daemon. ``pace`` fast brings closed bars only and audits the account
    every two minutes, for runs over many days; full is as in production.
    """

    seed: int
    days: float
    pace: str
    faults: list[dict[str, Any]]
    settings: dict[str, Any]
    digest: str = ""

    @property
    def name(self) -> str:
        """Seed, scenario and configuration."""
        config = {"days": self.days, "pace": self.pace, "settings": self.settings}
        return f"{self.seed}-{_short(self.faults)}-{_short(config)}"


def _short(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class SimReport:
    """What a run came to. ``messages`` are the chunks that arrived on a wire, ``records`` what the kernel handled.

    ``wall_s`` and ``cpu_s`` are of this machine: they differ where others work on it.
    """

    name: str
    seed: int
    days: float
    wall_s: float
    cpu_s: float
    messages: int
    records: int
    orders: int
    fills: int
    equity_usdt: float
    state: str
    injected: dict[str, int]
    longest_bare_s: float
    alerts: dict[str, int]
    findings: list[str]
    digest: str

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def spec_of(seed: int, days: float, pace: str, scenario: Path | None, config: Path | None) -> RunSpec:
    """The run that the options name. Raises ``ConfigError``."""
    if pace not in PACES:
        raise ConfigError(f"--pace {pace!r}: it must be {' or '.join(PACES)}")
    if not 0 < days <= 3650:
        raise ConfigError(f"--days {days:g}: it must be above 0 and at most 3650")
    faults = read_faults(scenario) if scenario is not None else []
    audits = _FAST_AUDITS if pace == "fast" else {}
    settings = load_settings(config, {"mode": "testnet", **audits}, SETTINGS)
    return RunSpec(seed, days, pace, faults, _portable(settings))


def _portable(settings: Settings) -> dict[str, Any]:
    """The configuration without the places of this machine."""
    content = settings.as_dict()
    for section in ("keys", "state", "journal", "logging", "data"):
        del content[section]
    return content


def run_spec(spec: RunSpec) -> SimReport:
    """Simulate it and judge it."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    pace = _FAST if spec.pace == "fast" else _FULL
    plan = SimPlan(spec.seed, spec.settings, spec.faults, **pace)

    async def script(world: SimWorld) -> dict[str, Any]:
        world.start_daemon()
        await world.run_for(spec.days * _DAY_S)
        world.venue.clear_faults()
        await world.run_for(_CALM_S)
        findings, _ = judge(world, past_gaps=not spec.faults)
        return _told(world) | {"findings": findings}

    outcome = simulate(plan, script)
    told = outcome.result
    told["findings"] += [f"task: {text}" for text in outcome.errors]
    return SimReport(
        name=spec.name,
        seed=spec.seed,
        days=spec.days,
        wall_s=round(time.perf_counter() - began_s, 2),
        cpu_s=round(time.process_time() - began_cpu_s, 2),
        messages=outcome.chunks,
        digest=outcome.digest,
        **told,
    )


def _told(world: SimWorld) -> dict[str, Any]:
    alerts: dict[str, int] = {}
    for said in world.alerts:
        key = f"{said.alert.severity.value} {said.alert.subject}"
        alerts[key] = alerts.get(key, 0) + 1
    kernel = world.parts.kernel if world.parts is not None else None
    return {
        "records": world.records,
        "orders": len(world.witness.sent),
        "fills": len(world.venue.trades()),
        "equity_usdt": round(kernel.equity_usdt, 2) if kernel is not None else 0.0,
        "state": kernel.state.value if kernel is not None else "not started",
        "injected": world.venue.injected,
        "longest_bare_s": max((gap.seconds for gap in world.witness.gaps), default=0.0),
        "alerts": dict(sorted(alerts.items())),
    }


# ---- runs by name ---------------------------------------------------------------------------------------------------


def runs_folder(given: Path | None) -> Path:
    """Where the names of runs are kept."""
    from platformdirs import user_state_path

    return given or user_state_path("tidegate", appauthor=False) / "sim-runs"


def keep(spec: RunSpec, report: SimReport, folder: Path) -> Path:
    """Write a run down, so that it can be run again by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{spec.name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(spec, digest=report.digest))))
    return path


def recall(name: str, folder: Path) -> RunSpec:
    """The run of this name, or in this file. Raises ``ConfigError``."""
    path = Path(name) if name.endswith(".json") else folder / f"{name}.json"
    if not path.is_file():
        known = sorted(each.stem for each in folder.glob("*.json")) if folder.is_dir() else []
        near = get_close_matches(name, known, 1, 0.3) or known[:1]
        raise ConfigError(f"sim: no run {name} in {folder}" + (f"; did you mean {near[0]}?" if near else ""))
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunSpec)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: is no simulated run: {error}") from None


def replay(spec: RunSpec) -> SimReport:
    """Run it again; another digest than is written down is a finding."""
    report = run_spec(spec)
    if spec.digest and report.digest != spec.digest:
        text = f"digest {report.digest[:16]} is not the {spec.digest[:16]} of the first run: the program has changed"
        report.findings.append(text)
    return report


# ---- crashes --------------------------------------------------------------------------------------------------------


def explore_crashes(
    seeds: Sequence[int], runs: int, processes: int, progress: Callable[[int, int], None] = lambda _, __: None
) -> Mapping[str, object]:
    """The figures of the crash explorer; ``findings`` is empty when every run was sound.

    ``progress`` is told, after every run, how many were made and how many of them failed.
    """
    began_s = time.perf_counter()
    figures = Figures()
    for crash in explore(seeds, runs, processes):
        figures.take(crash)
        progress(figures.runs, len(figures.failed))
    return figures.as_dict() | {"wall_s": round(time.perf_counter() - began_s, 1)}
