"""The verb that explains an order."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tidegate.app.cli_options import Config, Json, app
from tidegate.domain.errors import JournalError


@app.command()
def explain(
    order: Annotated[str, typer.Argument(help="An order's id, or a contract: its last order.")],
    journal: Annotated[
        Path | None, typer.Option("--journal", help="A journal folder, or any file in it; else the newest one.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Why an order was sent and what became of it, from a journal: wishes, regime, target, limits, fills, stop.

    Exits 3 when the journal has no such order.
    """
    from tidegate.app.bootstrap import journal_records
    from tidegate.app.cli_options import fail
    from tidegate.app.explain import UnknownOrder
    from tidegate.app.explain import explain as explain_order
    from tidegate.app.explain_text import sentences

    folder = journal or _newest(config)
    try:
        found = explain_order(journal_records(folder), order)
    except UnknownOrder as error:
        fail(3, error)
    if as_json:
        print(json.dumps({"journal": str(folder), **found.as_dict()}))
        return
    if journal is None:
        print(f"journal: {folder}", file=sys.stderr)
    print("\n".join(sentences(found)))


def _newest(config: Path | None) -> Path:
    """The journal that was written to last. Raises ``JournalError`` when there is none."""
    from tidegate.app.bootstrap import DEMO_DEFAULTS
    from tidegate.app.bootstrap_database import journal_folders
    from tidegate.app.config import load_settings

    written: list[tuple[int, Path]] = []
    for folder in journal_folders(load_settings(config, {}, DEMO_DEFAULTS)):
        written += [(each.stat().st_mtime_ns, folder) for each in folder.glob("ledger-*.log*")]
    if not written:
        raise JournalError("no journal was found; name one with --journal FOLDER")
    return max(written)[1]
