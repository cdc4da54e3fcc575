"""``tidegate sim faults``: runs the fault table, shows how far it is, and prints it for people or as JSON."""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from tidegate.app.simulation.fault_cases import CASES
from tidegate.app.simulation.fault_table import ENTRY_BOUND_S, REDUCING_BOUND_S, Row, bounds_of, jobs_of, run_table
from tidegate.app.simulation.guards import GUARDS
from tidegate.app.simulation.recovery import quantile
from tidegate.domain.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH: Final = 180
"""Of the table in a file."""
_BOUNDS: Final = {"entry": ENTRY_BOUND_S, "reducing": REDUCING_BOUND_S}


def known_faults(names: Sequence[str]) -> list[str]:
    """The faults of these names, or all. Raises ``ConfigError`` for one that is not in the catalogue."""
    for name in names:
        if name.upper() not in CASES:
            near = get_close_matches(name.upper(), CASES, 1, 0.0)[0]
            raise ConfigError(f"--fault: {name} is not a fault of the catalogue; did you mean {near}?")
    return [name.upper() for name in names] or list(CASES)


def run_faults(faults: Sequence[str], seeds: int, unguarded: int, jobs: int, *, as_json: bool) -> int:
    """Run, print, and return the exit code: 1 when a fault was not injected, not survived, or recovered from late."""
    rows = {fault: Row(fault) for fault in faults}
    work = jobs_of(faults, seeds, unguarded)
    with _progress(len(work), shown=not as_json and sys.stderr.isatty()) as advance:
        for trial in run_table(work, jobs):
            rows[trial.fault].take(trial)
            advance()
    bounds = bounds_of(rows.values())
    passed = all(row.passed for row in rows.values()) and all(bounds[name] <= _BOUNDS[name] for name in bounds)
    if as_json:
        print(json.dumps(_plain(list(rows.values()), bounds, passed)))
    else:
        _print(list(rows.values()), bounds)
    return 0 if passed else 1


def _plain(rows: Sequence[Row], bounds: dict[str, float], passed: bool) -> dict[str, Any]:
    noticed = sum(row.bites is not None for row in rows)
    return {
        "passed": passed,
        "faults": len(rows),
        "survived": sum(row.passed for row in rows),
        "guards_noticed": noticed,
        "runs": sum(len(row.trials) for row in rows),
        "recovery_p99_s": {
            name: {"p99": None if math.isinf(value) else round(value, 3), "bound": _BOUNDS[name]}
            for name, value in bounds.items()
        },
        "table": [row.as_dict() for row in rows if not CASES[row.fault].long],
        "long": [row.as_dict() for row in rows if CASES[row.fault].long],
    }


@contextmanager
def _progress(total: int, *, shown: bool) -> Iterator[Any]:
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("runs", total=total)
        yield lambda: bar.advance(task)


def _print(rows: Sequence[Row], bounds: dict[str, float]) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    for title, long in (("Faults", False), ("Long outages, beyond the recovery bounds", True)):
        chosen = [row for row in rows if CASES[row.fault].long is long]
        if chosen:
            console.print(_table(title, chosen))
    for name, value in bounds.items():
        verdict = "holds" if value <= _BOUNDS[name] else "BROKEN"
        console.print(f"recovery p99, {name}: {_seconds(value)}, bound {_BOUNDS[name]:g} s: {verdict}")
    survived, noticed = sum(row.passed for row in rows), sum(row.bites is not None for row in rows)
    console.print(f"survived: {survived} of {len(rows)} faults; removed guards noticed: {noticed} of {len(rows)}")
    for row in rows:
        for trial in row.trials:
            if trial.findings or not trial.injected:
                text = "; ".join(trial.findings[:3]) or "not injected"
                console.print(f"{row.fault} seed {trial.seed} ({trial.what}): {text}", markup=False, soft_wrap=True)


def _table(title: str, rows: Sequence[Row]) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in ("fault", "injected", "survived", "p50", "p99", "max", "duplicates", "lost", "guard", "without it"):
        table.add_column(name, justify="left" if name in ("fault", "guard", "without it") else "right", overflow="fold")
    for row in rows:
        seconds, bites = row.seconds(), row.bites
        noticed = f"seed {bites.seed}: {bites.findings[0]}" if bites is not None else "removal not noticed"
        table.add_row(
            row.fault,
            str(row.injected),
            f"{row.survived} of {len(row.trials)}",
            *(
                _seconds(value)
                for value in (quantile(seconds, 0.5), quantile(seconds, 0.99), max(seconds, default=0.0))
            ),
            str(row.count("O1")),
            str(row.count("O5")),
            GUARDS[row.fault].name,
            noticed if row.unguarded else "NOT RUN",
        )
    return table


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.1f} s"
