"""The verbs of stored market data: files into the database, the database into files, and what there is."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.app.cli_options import Config, Json, Symbols, app
from tidegate.domain.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.domain.market import BarSpec
    from tidegate.ports import BarCoverage

data_app = typer.Typer(no_args_is_help=True, help="Market data in the database: import, export, list.")
app.add_typer(data_app, name="data")

_PIPE_COLUMNS = 160  # a pipe has no width, and nothing may be cut

Timeframe = Annotated[str | None, typer.Option("--timeframe", "-t", help="1m 5m 15m 1h 4h 1d ...")]


@data_app.command("import")
def data_import(
    path: Annotated[Path, typer.Argument(help="A folder with SYMBOL/interval files, or one file of bars.")],
    config: Config = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    source: Annotated[str, typer.Option("--source", help="The name under which the bars are kept.")] = "file",
    as_json: Json = False,
) -> None:
    """Put bars of Parquet, CSV or JSON files into the database.

    Rows are checked as in a backtest. Each file is stored whole or not at all; bars that are there are overwritten.
    """
    from tidegate.app.bar_exchange import import_files
    from tidegate.app.bootstrap_database import bar_files, open_bars
    from tidegate.app.cli_db import database_settings
    from tidegate.app.daemon import run_on_loop

    names = _symbols(symbols)
    files = bar_files(path, source, names, _spec(timeframe))

    async def run() -> Any:
        async with open_bars(database_settings(config)) as bars:
            with _counting("import", quiet=as_json) as advance:
                return await import_files(bars, files, advance)

    done = run_on_loop(run())
    if as_json:
        rows = [{"symbol": series.instrument, "interval": series.bar.name, "bars": count} for series, count in done]
        print(json.dumps({"source": source, "imported": rows, "bars": sum(count for _, count in done)}))
        return
    for series, count in done:
        print(f"{series.instrument} {series.bar.name}: {count:,} bars")


@data_app.command("export")
def data_export(
    symbol: Annotated[str, typer.Argument(help="For example BTCUSDT.")],
    file: Annotated[Path, typer.Argument(help="Where to: FILE.parquet or FILE.csv; replaced when all is well.")],
    timeframe: Annotated[str, typer.Option("--timeframe", "-t", help="1m 5m 15m 1h 4h 1d ...")],
    config: Config = None,
    source: Annotated[str | None, typer.Option("--source", help="Where the bars came from.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="The run that the bars belong to.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="First day or time, UTC: 2020-01-01.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Last day (all of it), or the time to stop before.")] = None,
    as_json: Json = False,
) -> None:
    """Write bars of the database to a file that every verb can read."""
    from tidegate.app.bootstrap_database import export_bars
    from tidegate.app.cli_db import database_settings
    from tidegate.app.cli_times import span_of
    from tidegate.app.daemon import run_on_loop

    (name,) = _symbols(symbol) or ()
    spec = _spec(timeframe)
    assert spec is not None
    span = span_of(from_, to, None)
    with _counting("export", quiet=as_json) as advance:
        exporting = export_bars(database_settings(config), file, name, spec, source, session, span, advance)
        count = run_on_loop(exporting)
    print(json.dumps({"file": str(file), "bars": count}) if as_json else f"{file}: {count:,} bars")


@data_app.command("list")
def data_list(config: Config = None, as_json: Json = False) -> None:
    """What the database has: source, symbol, interval, first, last, bars and gaps."""
    from tidegate.app.bootstrap_database import open_bars
    from tidegate.app.cli_db import database_settings
    from tidegate.app.daemon import run_on_loop

    async def run() -> "list[BarCoverage]":
        async with open_bars(database_settings(config)) as bars:
            return await bars.coverage()

    rows = [_listed(each) for each in run_on_loop(run())]
    if as_json:
        print(json.dumps({"series": rows}))
        return
    if not rows:
        print("no bars in the database; tidegate data import FOLDER puts some there", file=sys.stderr)
        return
    _print_table(rows)


def _listed(found: "BarCoverage") -> dict[str, object]:
    series = found.series
    run = {"account": series.account_id, "session": series.session_id} if series.session_id else {}
    return {
        "source": series.source,
        "symbol": series.instrument,
        "interval": series.bar.name,
        "first": _utc(found.first_open_ns),
        "last": _utc(found.last_open_ns),
        "bars": found.bars,
        "gaps": found.gaps,
        "missing": found.missing,
        **run,
    }


def _print_table(rows: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    names = ("source", "symbol", "interval", "first", "last", "bars", "gaps", "missing", "session")
    for name in names:
        table.add_column(name, justify="right" if name in ("bars", "gaps", "missing") else "left", no_wrap=True)
    for row in rows:
        shown = [row.get(name, "") for name in names]
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in shown))
    Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS).print(table)


def _utc(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _symbols(text: str | None) -> tuple[str, ...] | None:
    from tidegate.app.config_fields import normalise_symbol

    if text is None:
        return None
    try:
        return tuple(normalise_symbol(each) for each in text.split(","))
    except ValueError as error:
        raise ConfigError(f"symbol {text!r}: {error}") from None


def _spec(timeframe: str | None) -> "BarSpec | None":
    from tidegate.domain.market import BarSpec

    try:
        return None if timeframe is None else BarSpec.of(timeframe)
    except ValueError as error:
        raise ConfigError(f"--timeframe: {error}") from None


@contextmanager
def _counting(title: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar of bars on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    shape = [SpinnerColumn(), TextColumn(title), BarColumn(), TextColumn("{task.completed:,} bars")]
    with Progress(*shape, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda count: progress.update(task, advance=count)
