"""The verbs over our books: positions, orders, fills, balance, income. They read the database, and nothing else."""

import csv
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.app.cli_options import Config, app
from tidegate.domain.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.app.books_view import Choice, View
    from tidegate.ports import TradingRepository

Account = Annotated[str | None, typer.Option("--account", help="Account; else that of the newest session.")]
Session = Annotated[str | None, typer.Option("--session", help="Session; else the newest one.")]
Symbol = Annotated[str | None, typer.Option("--symbol", help="One contract, like BTCUSDT.")]
From = Annotated[str | None, typer.Option("--from", help="First day or time, UTC: 2026-01-01.")]
To = Annotated[str | None, typer.Option("--to", help="Last day (all of it), or the time to stop before.")]
JsonRows = Annotated[bool, typer.Option("--json", help="Print a JSON list of rows on stdout and nothing else.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV on stdout and nothing else.")]

_COLUMNS = {
    "positions": "symbol qty entry_price cost_usdt realised_pnl_usdt fees_usdt funding_usdt updated",
    "orders": "created order symbol side type purpose qty filled avg_price limit trigger reduce_only state reason",
    "fills": "time symbol trade_id order side qty price fee fee_asset realised_pnl_usdt maker cause",
    "balance": "asset venue_wallet venue_time wallet unrealised_pnl equity time",
    "income": "time_utc kind asset amount symbol reference usdt_value session",
}
"""The columns of each verb, so that no rows are a header too."""


@app.command()
def positions(
    config: Config = None,
    account: Account = None,
    session: Session = None,
    symbol: Symbol = None,
    everything: Annotated[bool, typer.Option("--all", help="Contracts that are flat too.")] = False,
    as_json: JsonRows = False,
    as_csv: Csv = False,
) -> None:
    """What the account holds, and what came of each contract."""
    _show("positions", config, as_json, as_csv, account, session, symbol, state="all" if everything else None)


@app.command()
def orders(
    config: Config = None,
    account: Account = None,
    session: Session = None,
    symbol: Symbol = None,
    state: Annotated[str | None, typer.Option("--state", help="WORKING FILLED CANCELED REJECTED ...")] = None,
    from_: From = None,
    to: To = None,
    as_json: JsonRows = False,
    as_csv: Csv = False,
) -> None:
    """The orders of a session, and what became of them."""
    from tidegate.domain.orders import OrderState

    words = [each.value for each in OrderState]
    if state is not None and state.upper() not in words:
        raise ConfigError(f"--state {state!r}: it must be one of {' '.join(words)}")
    state = None if state is None else state.upper()
    _show("orders", config, as_json, as_csv, account, session, symbol, from_, to, state=state)


@app.command()
def fills(
    config: Config = None,
    account: Account = None,
    session: Session = None,
    symbol: Symbol = None,
    from_: From = None,
    to: To = None,
    as_json: JsonRows = False,
    as_csv: Csv = False,
) -> None:
    """The executions of a session."""
    _show("fills", config, as_json, as_csv, account, session, symbol, from_, to)


@app.command()
def balance(
    config: Config = None,
    account: Account = None,
    session: Session = None,
    as_json: JsonRows = False,
    as_csv: Csv = False,
) -> None:
    """The wallets: as the venue said last, and by our own lines at the last close."""
    _show("balance", config, as_json, as_csv, account, session)


@app.command()
def income(
    config: Config = None,
    account: Account = None,
    session: Session = None,
    symbol: Symbol = None,
    from_: From = None,
    to: To = None,
    as_json: JsonRows = False,
    as_csv: Csv = False,
) -> None:
    """Every change of a wallet, exact, one line each: results, commissions, funding, transfers. For books and taxes.

    Before a real venue of all sessions together, unless one is named; each demo and backtest has money of its own.
    """
    _show("income", config, as_json, as_csv, account, session, symbol, from_, to)


def _show(
    what: str,
    config: Path | None,
    as_json: bool,
    as_csv: bool,
    account: str | None,
    session: str | None,
    symbol: str | None = None,
    from_: str | None = None,
    to: str | None = None,
    *,
    state: str | None = None,
) -> None:
    from tidegate.app import books_view
    from tidegate.app.cli_times import span_of
    from tidegate.app.daemon import run_on_loop

    if as_json and as_csv:
        raise ConfigError("--json and --csv: give one or the other")
    start_ns, end_ns = span_of(from_, to, None)
    symbol = None if symbol is None else symbol.upper()
    choice = books_view.Choice(account, session, symbol, state, start_ns, end_ns)
    rows, found = run_on_loop(_read(config, choice, getattr(books_view, what)))
    if as_json:
        print(json.dumps(rows))
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, _COLUMNS[what].split(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _table(what, rows, found)


async def _read(
    config: Path | None,
    choice: "Choice",
    query: "Callable[[TradingRepository, Mapping[str, Any], Choice], Awaitable[View]]",
) -> "tuple[View, Mapping[str, Any]]":
    from tidegate.app.books_view import chosen_session
    from tidegate.app.bootstrap_database import connected
    from tidegate.app.cli_db import database_settings

    async with connected(database_settings(config)) as database:
        session = await chosen_session(database.trading, choice)
        return await query(database.trading, session, choice), session


def _table(what: str, rows: "View", session: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    about = f"account {session['account_id']}, {session['mode']}, {session['session_id']}"
    table = Table(title=f"{what.capitalize()}: {about}", title_justify="left")
    for name in _COLUMNS[what].split():
        table.add_column(name.replace("_", " "), justify="right" if _is_number(name, rows) else "left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table)
    if not rows:
        print("nothing there", file=sys.stderr)


def _is_number(name: str, rows: "View") -> bool:
    values = [str(row[name]) for row in rows if row[name] is not None]
    return bool(values) and all(value.lstrip("-").replace(".", "", 1).isdigit() for value in values)
