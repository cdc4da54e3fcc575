"""The command line. stdout is data, stderr is talk; heavy modules load inside the verbs, so that ``--help`` is instant.

Exit codes: 0 ok; 1 unexpected; 2 usage, configuration or data; 130 Ctrl-C. ``replay`` exits 1 when it finds a
difference.
"""

import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.app.cli_options import NO_DATABASE, Config, Json, NoDatabase, Symbols, app, fail, talk_of_database
from tidegate.app.cli_times import span_of
from tidegate.domain.errors import (
    ConfigError,
    DataError,
    Interrupted,
    JournalError,
    NotAuthorised,
    NotRunning,
    TidegateError,
)

if TYPE_CHECKING:
    from tidegate.app.bootstrap import Backtest, Demo
    from tidegate.app.demo import DemoResult


def main() -> None:
    """Run the command line; every expected failure is one line on stderr."""
    import tidegate.app.cli_books
    import tidegate.app.cli_data
    import tidegate.app.cli_db
    import tidegate.app.cli_explain
    import tidegate.app.cli_live
    import tidegate.app.cli_sim  # noqa: F401  registers its verbs

    try:
        app(prog_name="tidegate")
    except (ConfigError, DataError, JournalError) as error:
        fail(2, error)
    except NotRunning as error:
        fail(3, error)
    except TimeoutError as error:
        fail(5, error)
    except Interrupted:
        sys.exit(130)
    except NotAuthorised as error:
        fail(4, error)
    except TidegateError as error:
        fail(1, error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        print(installed("tidegate"))
    except PackageNotFoundError:
        print("from a source tree")


@app.command()
def backtest(
    config: Config = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", help="TrendFollowing, package.module:Class or folder/file.py:Class; repeatable."),
    ] = None,
    symbols: Symbols = None,
    timeframe: Annotated[str | None, typer.Option("--timeframe", "-t", help="1m 5m 15m 1h 4h 1d ...")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="First day or time, UTC: 2020-01-01.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Last day (all of it), or the time to stop before.")] = None,
    timerange: Annotated[
        str | None, typer.Option("--timerange", help="20200101-20240831, instead of --from --to.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with SYMBOL/interval.parquet, csv or json.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a self-contained HTML report here.")] = None,
    capital: Annotated[float | None, typer.Option("--capital", help="Opening balance in USDT.")] = None,
    no_db: NoDatabase = False,
    as_json: Json = False,
) -> None:
    """Run strategies over stored data."""
    from tidegate.app.bootstrap import Backtest
    from tidegate.app.config import load_settings

    start_ns, end_ns = span_of(from_, to, timerange)
    overrides: dict[str, object] = {
        "strategies": [{"class": each} for each in strategy] if strategy else None,
        "symbols": symbols,
        "timeframe": timeframe,
    }
    if data is not None:
        overrides["data.dir"] = str(data)
    if capital is not None:
        overrides["risk.initial_capital_usdt"] = capital
    if no_db:
        overrides["database.url"] = "memory"
    if report is not None:
        _check_place(report)
    settings, began_ns = load_settings(config, overrides), time_ns()
    run = Backtest(settings, start_ns, end_ns)
    with _progress("backtest", start_ns, end_ns, quiet=as_json) as advance:
        result = run.run(advance, keep=settings.database.url != "memory")
    if report is not None:
        from tidegate.app.report import write_report

        try:
            write_report(result, report)
        except OSError as error:
            raise ConfigError(f"--report: {report} cannot be written ({error.strerror})") from error
    if (session := _keep_backtest(run, began_ns, quiet=as_json)) is not None:
        result.summary["database"] = {"session": session}
    if as_json:
        print(json.dumps(result.summary))
    else:
        from tidegate.app.tear_sheet import print_summary

        print_summary(result, report)


def _keep_backtest(run: "Backtest", began_ns: int, *, quiet: bool) -> str | None:
    """Write the run into the database; without one, or when it fails, the result is the result all the same."""
    if run.settings.database.url == "memory":
        if not quiet:
            talk_of_database(NO_DATABASE)
        return None
    from tidegate.app.bootstrap_database import write_backtest
    from tidegate.app.daemon import run_on_loop

    try:
        return run_on_loop(write_backtest(run.settings, run.kept, began_ns))
    except (TidegateError, TimeoutError, OSError) as error:
        talk_of_database(f"this run is not in it: {error}")
        return None


def _check_place(report: Path) -> None:
    """Refuse, before anything runs, a place where no report can be written."""
    if report.is_dir():
        raise ConfigError(f"--report: {report} is a folder; name a file in it, like {report / 'report.html'}")
    if not report.parent.is_dir():
        raise ConfigError(f"--report: the folder {report.parent} is not there")


@app.command()
def demo(
    config: Config = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.0, help="Stop by itself after this time.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The same seed invents the same market.")] = None,
    speed: Annotated[float | None, typer.Option("--speed", help="Market seconds per second.")] = None,
    replay: Annotated[Path | None, typer.Option("--replay", help="Data folder: real bars instead of invented.")] = None,
    symbols: Symbols = None,
    timeframe: Annotated[str | None, typer.Option("--timeframe", "-t", help="1m 5m 15m 1h 4h 1d ...")] = None,
    journal: Annotated[Path | None, typer.Option("--journal", help="Folder for the journal; made anew.")] = None,
    no_db: NoDatabase = False,
    as_json: Json = False,
) -> None:
    """Trade a simulated market with invented money; nothing to set up. Ctrl-C stops in good order."""
    from tidegate.app.bootstrap import DEMO_DEFAULTS, REPLAY_BARS_PER_SECOND, REPLAY_TIMEFRAME, Demo
    from tidegate.app.bootstrap_database import data_folder
    from tidegate.app.config import load_settings
    from tidegate.app.daemon import run_on_loop
    from tidegate.app.demo import run_demo
    from tidegate.app.keeping import check_room, remove_old_journals
    from tidegate.app.observability import RecordLog, configure_logging, get_logger
    from tidegate.domain.market import SECOND_NS, BarSpec

    defaults = dict(DEMO_DEFAULTS) if config is None else {}
    if replay is not None and config is None:
        defaults["timeframe"] = REPLAY_TIMEFRAME
    given = {"symbols": symbols, "timeframe": timeframe, "seed": seed, "demo.speed": speed}
    given["database.url"] = "memory" if no_db else None
    overrides = {key: value for key, value in given.items() if value is not None}
    settings = load_settings(config, overrides, defaults)
    if replay is not None and speed is None:
        bar_s = BarSpec.of(settings.timeframe).interval_ns / SECOND_NS
        settings = load_settings(config, overrides | {"demo.speed": REPLAY_BARS_PER_SECOND * bar_s}, defaults)
    folder = journal or _journal_folder(settings.journal.dir)
    check_room(settings, folder.parent if journal is None else folder, data_folder(settings.database))
    built = Demo(settings, replay, folder)
    watched = not as_json and sys.stdout.isatty()
    configure_logging("error" if watched or as_json else settings.logging.level, settings.logging.format)
    observers: list[Any] = [RecordLog(get_logger(), built.started_ns + built.history_ns)]
    companions: list[Any] = []
    on_alert: Callable[[Any], None] = lambda _: None  # noqa: E731
    if watched:
        from rich.console import Console

        from tidegate.app.board import Board
        from tidegate.app.view import LiveView

        board = Board(built.kernel, built.instruments, settings.risk.initial_capital_usdt)
        title = "demo: invented prices" if replay is None else "demo: replayed prices"
        observers.append(board)
        companions.append(LiveView(board, Console(), title, settings.demo.speed).run)
        on_alert = board.alert
    demo_run = run_demo(built.parts, seconds=seconds, observers=observers, companions=companions, on_alert=on_alert)
    result, kept = run_on_loop(_projected(built, demo_run, quiet=as_json))
    if journal is None and (kept is None or not kept["records_behind"]):
        remove_old_journals(folder.parent, settings.database.keep.journal_days, time.time_ns())
    if kept is not None:
        result.summary["database"] = kept
    if as_json:
        print(json.dumps(result.summary))
    else:
        _print_demo(result.summary)
    sys.exit(result.exit_code)


async def _projected(
    built: "Demo", demo_run: "Coroutine[Any, Any, DemoResult]", *, quiet: bool
) -> "tuple[DemoResult, dict[str, object] | None]":
    """A demo with its journal going into the database beside it, and what is there at the end."""
    if built.settings.database.url == "memory":
        if not quiet:
            talk_of_database(NO_DATABASE)
        return await demo_run, None
    from tidegate.app.bootstrap_database import projecting, session_journal

    folder = built.parts.journal_path
    journals = [] if folder is None else [session_journal(folder, new=True)]
    async with projecting(built.settings.database, journals, talk_of_database, now_ns=time.time_ns()) as projector:
        result = await demo_run
    if projector is None or projector.given_up:
        return result, None
    behind = int(str(result.summary["events"])) - projector.projected_seq
    return result, {"session": journals[-1].session.session_id, "records_behind": behind}


def _journal_folder(configured: str | None) -> Path:
    """A folder of its own for this run: under the configured one, else under the platform's state folder."""
    from platformdirs import user_state_path

    root = Path(configured) if configured else user_state_path("tidegate", appauthor=False) / "demo"
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    return root / name


@app.command()
def replay(
    journal: Annotated[Path, typer.Argument(help="A journal folder, or any file in it.")],
    from_seq: Annotated[int, typer.Option("--from-seq", min=0, help="Start at the snapshot before this record.")] = 0,
    as_json: Json = False,
) -> None:
    """Run a journal through a fresh kernel and report the first difference; there must be none. Exits 1 on one."""
    from tidegate.app.bootstrap import journal_reader
    from tidegate.app.replay import replay as replay_records

    reader, kernel = journal_reader(journal)
    with _counting("replay", quiet=as_json) as advance:
        report = replay_records(reader, kernel, from_seq=from_seq, progress=advance)
    if as_json:
        print(json.dumps({**report.as_dict(), "same": report.same, "notes": reader.notes}, default=str))
    elif report.same:
        print(f"no difference: {report.records:,} records, {report.commands:,} commands, {report.snapshots} snapshots")
    else:
        print(f"first difference: {report.difference}")
    for note in () if as_json else reader.notes:
        print(f"note: {note}", file=sys.stderr)
    sys.exit(0 if report.same else 1)


@contextmanager
def _counting(title: str, *, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A running count on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status(title) as status:
        yield lambda count: status.update(f"{title}: record {count:,}")


@contextmanager
def _progress(
    title: str, start_ns: int | None, end_ns: int | None, *, quiet: bool
) -> Iterator[Callable[[int], None] | None]:
    """A progress bar by market time on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}")]
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        span_ns = end_ns - start_ns if start_ns is not None and end_ns is not None else None
        task = bar.add_task(title, total=span_ns, at="")

        def advance(now_ns: int) -> None:
            at = datetime.fromtimestamp(now_ns / 1e9, UTC).strftime("%Y-%m-%d")
            bar.update(task, completed=now_ns - (start_ns or now_ns), at=at)

        yield advance


def _print_demo(summary: dict[str, object]) -> None:
    """The end of a demo, for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Demo: invented money", show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for key, value in summary.items():
        if key != "warnings" and value is not None:
            shown = value["session"] if isinstance(value, dict) else value
            table.add_row(key.replace("_", " "), f"{shown:,}" if isinstance(shown, int) else str(shown))
    Console().print(table)
    warnings = summary["warnings"]
    for warning in warnings if isinstance(warnings, list) else ():
        print(f"warning: {warning}", file=sys.stderr)
