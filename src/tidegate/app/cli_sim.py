"""The verbs of the simulation harness: ``tidegate sim run|replay|explore|faults``. Exit code 1 on findings."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.app.cli_options import Config, Json, sim_app

if TYPE_CHECKING:
    from tidegate.app.simulation.verbs import SimReport

_TELL_EVERY = 100

Runs = Annotated[Path | None, typer.Option("--runs-dir", help="Folder of the runs' names; else the user's state.")]


@sim_app.command("run")
def sim_run(
    seed: Annotated[int, typer.Option("--seed", min=0, help="What everything random hangs on.")] = 1,
    days: Annotated[float, typer.Option("--days", help="Virtual days.")] = 1.0,
    scenario: Annotated[Path | None, typer.Option("--scenario", help="Faults, as for localnet --faults.")] = None,
    pace: Annotated[str, typer.Option("--pace", help="fast (closed bars only, for many days) | full")] = "fast",
    config: Config = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Run the whole daemon against the local exchange under simulated time, and judge what came of it."""
    from tidegate.app.simulation.verbs import keep, run_spec, runs_folder, spec_of

    spec = spec_of(seed, days, pace, scenario, config)
    report = run_spec(spec)
    path = keep(spec, report, runs_folder(runs))
    _told(report, as_json)
    print(f"run again: tidegate sim replay {path.stem}", file=sys.stderr)
    sys.exit(1 if report.findings else 0)


@sim_app.command("replay")
def sim_replay(
    name: Annotated[str, typer.Argument(help="The name of a run, or its file.")],
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Run a named run again; the same program gives the same digest."""
    from tidegate.app.simulation.verbs import recall, replay, runs_folder

    report = replay(recall(name, runs_folder(runs)))
    _told(report, as_json)
    sys.exit(1 if report.findings else 0)


@sim_app.command("explore")
def sim_explore(
    runs: Annotated[int, typer.Option("--runs", min=1, help="At least so many runs.")] = 1_500,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Scripts to spread them over.")] = 16,
    first: Annotated[int, typer.Option("--first-seed", min=0, help="The first of the seeds.")] = 1,
    processes: Annotated[int, typer.Option("--processes", min=1, max=64, help="At the same time.")] = 2,
    as_json: Json = False,
) -> None:
    """Kill the daemon at the boundaries of its effects while half of its orders meet a fault, and judge every run."""
    from tidegate.app.simulation.verbs import explore_crashes

    def progress(done: int, failed: int) -> None:
        if done % _TELL_EVERY == 0:
            print(f"{done} runs, {failed} failed", file=sys.stderr, flush=True)

    figures = explore_crashes(range(first, first + seeds), runs, processes, progress)
    if as_json:
        print(json.dumps(figures))
    else:
        _table("Crash explorer", figures)
    sys.exit(1 if figures["failed_runs"] else 0)


@sim_app.command("faults")
def sim_faults(
    fault: Annotated[list[str] | None, typer.Option("--fault", help="Only this one, as V01; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Situations of each fault.")] = 25,
    unguarded: Annotated[int, typer.Option("--unguarded", min=0, help="At most so many without the guard.")] = 12,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes.")] = 2,
    as_json: Json = False,
) -> None:
    """Strike every fault into a running daemon, with its guard and without, and print how it recovers."""
    from tidegate.app.simulation.fault_report import known_faults, run_faults

    sys.exit(run_faults(known_faults(fault or []), seeds, unguarded, jobs, as_json=as_json))


def _told(report: "SimReport", as_json: bool) -> None:
    told = report.as_dict()
    if as_json:
        print(json.dumps(told))
        return
    findings: list[str] = told.pop("findings")
    _table("Simulated run", told | {"findings": len(findings)})
    for finding in findings:
        print(finding)


def _table(title: str, rows: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows.items():
        if isinstance(value, dict):
            value = "\n".join(f"{name} {count}" for name, count in value.items())
        elif isinstance(value, list):
            value = "\n".join(map(str, value))
        if value != "":
            table.add_row(key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)
