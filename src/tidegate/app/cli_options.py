"""The command line's root, and the options that many verbs share."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Automated trading on Binance USD-M futures: one kernel for backtest, demo, paper, testnet and live.",
)

account_app = typer.Typer(no_args_is_help=True, help="How the account at the venue is set.")
sim_app = typer.Typer(no_args_is_help=True, help="The whole daemon under simulated time.")
db_app = typer.Typer(no_args_is_help=True, help="The database: its schema, its backups, a shell.")
app.add_typer(account_app, name="account")
app.add_typer(db_app, name="db")
app.add_typer(sim_app, name="sim")

Config = Annotated[Path | None, typer.Option("--config", "-c", help="YAML configuration file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Symbols = Annotated[str | None, typer.Option("--symbols", help="Comma-separated, for example BTCUSDT,ETHUSDT.")]
NoDatabase = Annotated[bool, typer.Option("--no-db", help="Without a database: the same as database.url memory.")]


NO_DATABASE = "none: everything is in the journal, and nothing is kept for queries"


def talk_of_database(line: str) -> None:
    """One line on stderr: what a person should know, and no program reads."""
    print(f"database: {' '.join(line.split())}", file=sys.stderr)


def fail(code: int, error: Exception) -> NoReturn:
    """Say what is wrong in one line on stderr, and leave with ``code``."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(code)
