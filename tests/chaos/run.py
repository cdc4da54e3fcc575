"""A chaos run: acts drawn by a seed, a verdict after each, and a table at the end."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType

from tests.chaos.acts import ACTS, Act
from tests.chaos.judge import ProtectionWatch, ids_twice, verdict
from tests.chaos.stage import Stage

_CALM_S = (1.0, 6.0)
_FIRST_POSITION_S = 130.0
_CLOSE_IS_NEAR_S = 25.0


@dataclass
class Done:
    """One act that was done: what it was, how long until everything was right again, and what was not."""

    name: str
    detail: str
    settled_s: float
    findings: list[str]


@dataclass
class Report:
    """A whole run. ``not_run``: acts that this machine cannot do, with the reason."""

    seed: int
    minutes: float
    settings: str = ""
    done: list[Done] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    longest_unprotected_s: float = 0.0


def chaos(
    minutes: float,
    seed: int,
    *,
    only: str = "",
    left_out: Mapping[str, str] = MappingProxyType({}),
    keep: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Run it. ``left_out``: acts that are not run, with the reason.

    The acts hang on the seed alone; what they meet hangs on the clock, so a run is never quite the same.
    """
    report = Report(seed, minutes)
    with Stage(seed, keep=keep) as stage:
        say(f"seed {seed}, folder {stage.folder}, orders over {stage.order_entry}")
        report.settings = f"orders over {stage.order_entry}"
        if not stage.wait("READY", lambda: (stage.status() or {}).get("state") == "READY", 60.0):
            report.findings.append(f"not READY within 60 s: {stage.daemon.said()}")
            return report
        stage.wait("a position", lambda: bool(stage.reader.glance().positions), _FIRST_POSITION_S)
        with ProtectionWatch(stage) as watch:
            ends_s = time.monotonic() + 60.0 * minutes
            for act in _drawn(stage, report, only, left_out, Random(seed)):
                if time.monotonic() >= ends_s:
                    break
                done = _one(act, stage)
                report.done.append(done)
                report.findings += [f"{len(report.done)} {act.name} ({done.detail}): {each}" for each in done.findings]
                say(f"{len(report.done):3d} {act.name}, {done.detail}: {done.settled_s:.1f} s  {done.findings or ''}")
        report.longest_unprotected_s = watch.longest_s
        report.findings += watch.findings
    return report


def _drawn(stage: Stage, report: Report, only: str, left_out: Mapping[str, str], rng: Random) -> Iterator[Act]:
    able = []
    for act in ACTS:
        if only and only not in act.name:
            continue
        if act.name in left_out:
            report.not_run[act.name] = left_out[act.name]
        elif act.needs in stage.missing:
            report.not_run[act.name] = stage.missing[act.needs]
        else:
            able.append(act)
    while able:
        yield rng.choices(able, [act.weight for act in able])[0]


def _one(act: Act, stage: Stage) -> Done:
    time.sleep(stage.rng.uniform(*_CALM_S))
    _wait_for_a_close(stage.rng)
    findings: list[str] = []
    with stage.acting():
        try:
            detail = act.do(stage)
        except AssertionError as error:
            detail, findings = "failed", [str(error)]
    began_s = time.monotonic()
    findings += verdict(stage)
    settled_s = time.monotonic() - began_s
    findings += ids_twice(stage)
    return Done(act.name, detail, settled_s, findings)


def _wait_for_a_close(rng: Random) -> None:
    """As often as not, strike while the orders of a close are under way."""
    to_close_s = 60.0 - time.time() % 60.0
    if to_close_s < _CLOSE_IS_NEAR_S and rng.random() < 0.7:
        time.sleep(to_close_s + rng.uniform(-0.3, 1.5))


def table(report: Report) -> str:
    """For a person: a line for each kind of act, then every finding."""
    lines = [f"chaos, seed {report.seed}, {report.minutes:g} minutes, {report.settings}", ""]
    lines.append(f"{'act':34} {'done':>5} {'held':>5} {'settled p50':>12} {'longest':>8}")
    for name in dict.fromkeys(each.name for each in sorted(report.done, key=lambda each: each.name)):
        mine = [each for each in report.done if each.name == name]
        times = sorted(each.settled_s for each in mine)
        held = sum(not each.findings for each in mine)
        lines.append(f"{name:34} {len(mine):5d} {held:5d} {times[len(times) // 2]:10.1f} s {times[-1]:6.1f} s")
    lines += [f"{name:34} NOT RUN: {why}" for name, why in report.not_run.items()]
    held = sum(not each.findings for each in report.done)
    longest_s = report.longest_unprotected_s
    lines += ["", f"{len(report.done)} acts, {held} held; longest stretch without a full stop {longest_s:.1f} s"]
    lines += [f"FOUND {each}" for each in report.findings]
    return "\n".join(lines)
