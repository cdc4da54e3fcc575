"""The verbs of the database: what it is, its revisions, its backups, and a shell."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.app.cli_options import Config, Json, db_app, talk_of_database

if TYPE_CHECKING:
    from tidegate.app.config_database import DatabaseSettings


def database_settings(config: Path | None) -> "DatabaseSettings":
    """The section ``database``; a configuration that has nothing else to say need not be there."""
    from tidegate.app.config import load_settings

    return load_settings(config, None, {"symbols": ["BTCUSDT"], "strategies": ["TrendFollowing"]}).database


@db_app.command("status")
def db_status(config: Config = None, as_json: Json = False) -> None:
    """Tier, versions, size, and what is there."""
    from tidegate.app.bootstrap_database import status
    from tidegate.app.daemon import run_on_loop

    told = run_on_loop(status(database_settings(config)))
    if as_json:
        print(json.dumps(told))
        return
    for key, value in told.items():
        shown = f"{len(value)}: {' '.join(value)}" if isinstance(value, list) else value
        print(f"{key.replace('_', ' '):<22}{'none' if shown is None else shown}")
    if told["revision"] != told["head"]:
        print("the schema is not the one that this program needs: run tidegate db migrate", file=sys.stderr)


@db_app.command("migrate")
def db_migrate(config: Config = None, as_json: Json = False) -> None:
    """Lead the database to the newest revision; rows are kept."""
    from tidegate.app.bootstrap_database import lead_up
    from tidegate.app.daemon import run_on_loop

    before, after = run_on_loop(lead_up(database_settings(config)))
    _say_revisions(before, after, as_json)


@db_app.command("downgrade")
def db_downgrade(
    revision: Annotated[str, typer.Argument(help="A revision, like 0002, or base for an empty database.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Go back to a revision. Tables and columns that came later are dropped with their rows: take a backup first."""
    from tidegate.app.bootstrap_database import lead_down
    from tidegate.app.daemon import run_on_loop

    before, after = run_on_loop(lead_down(database_settings(config), revision))
    _say_revisions(before, after, as_json)


def _say_revisions(before: str | None, after: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"before": before, "after": after}))
    else:
        print(f"revision {after}" + (" already" if before == after else f", before {before or 'none'}"))


@db_app.command("backup")
def db_backup(
    file: Annotated[Path, typer.Argument(help="Where to write it; one that is there is replaced when all is well.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write the whole database to one file, while it is in use."""
    from tidegate.app.bootstrap_database import back_up
    from tidegate.app.daemon import run_on_loop

    size = run_on_loop(back_up(database_settings(config), file))
    print(json.dumps({"file": str(file), "size_bytes": size}) if as_json else f"{file}: {size:,} bytes")


@db_app.command("restore")
def db_restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    config: Config = None,
    force: Annotated[bool, typer.Option("--force", help="Empty a database that is not.")] = False,
    as_json: Json = False,
) -> None:
    """Fill an empty database from a backup."""
    from tidegate.app.bootstrap_database import restore
    from tidegate.app.daemon import run_on_loop

    report = run_on_loop(restore(database_settings(config), file, force=force))
    if as_json:
        print(json.dumps({"revision": report.revision, "tables": report.tables}))
    else:
        print(f"revision {report.revision}, {len(report.tables)} tables")


@db_app.command("shell")
def db_shell(config: Config = None) -> None:
    """Open psql on the database."""
    from tidegate.app.bootstrap_database import open_place
    from tidegate.app.daemon import run_on_loop

    async def run() -> int:
        async with open_place(database_settings(config)) as place:
            return place.programs().shell()

    sys.exit(run_on_loop(run()))


@db_app.command("rebuild")
def db_rebuild(
    config: Config = None,
    session: Annotated[str | None, typer.Option("--session", help="One session; else all that have a journal.")] = None,
    as_json: Json = False,
) -> None:
    """Make the rows anew from the journals: what is there stays until the new rows are whole, session by session.

    Before a real venue the sessions after the named one are made anew too: their books go on from it.
    """
    from tidegate.app.bootstrap_database import journal_folders, rebuild
    from tidegate.app.config import load_settings
    from tidegate.app.daemon import run_on_loop

    settings = load_settings(config, None, {"symbols": ["BTCUSDT"], "strategies": ["TrendFollowing"]})
    with _counting_sessions(quiet=as_json) as advance:
        done = run_on_loop(rebuild(settings.database, journal_folders(settings), session, advance, talk_of_database))
    if as_json:
        print(json.dumps(done))
    else:
        for name, records in done.items():
            print(f"{name}: {records:,} records")
        print(f"{len(done)} sessions made anew")


@contextmanager
def _counting_sessions(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar over sessions on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rebuild", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)
