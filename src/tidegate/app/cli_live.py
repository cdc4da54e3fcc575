"""The verbs of the live path: the daemon, the words to it, the local exchange, and what looks at an account."""

import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tidegate.app.cli_options import NO_DATABASE, Config, Json, NoDatabase, Symbols, account_app, app, talk_of_database
from tidegate.domain.errors import ConfigError, NotAuthorised, VenueError

if TYPE_CHECKING:
    from tidegate.app.config import Settings

Mode = Annotated[str | None, typer.Option("--mode", help="paper | testnet | live; else what the configuration says.")]
_CATCH_UP_WITHIN_S = 3.0  # the database at a stop: with the venue's part less than the ten seconds of C5
_MODES = ("paper", "testnet", "live")
_T = TypeVar("_T")


def _settings(
    config: Path | None, mode: str | None, overrides: dict[str, object] | None = None
) -> "tuple[Settings, str]":
    from tidegate.app.bootstrap_live import mode_of
    from tidegate.app.config import load_settings

    if mode is not None and mode not in _MODES:
        raise ConfigError(
            f"--mode {mode!r}: it must be one of {', '.join(_MODES)}; tidegate demo and tidegate backtest "
            "are commands of their own"
        )
    settings = load_settings(config, overrides or {}, {"symbols": ["BTCUSDT"], "strategies": ["TrendFollowing"]})
    return settings, mode_of(settings, mode)


def _at_venue(settings: "Settings", mode: str, main: Coroutine[Any, Any, _T]) -> _T:
    """Run something that speaks with a venue; an error of it says which one. Raises ``VenueError``."""
    from tidegate.app.daemon import run_on_loop

    try:
        return run_on_loop(main)
    except NotAuthorised:
        raise
    except VenueError as error:
        raise VenueError(f"{settings.venue.endpoints(mode).rest}: {error}") from error


@app.command()
def run(
    config: Config = None,
    mode: Mode = None,
    symbols: Symbols = None,
    timeframe: Annotated[str | None, typer.Option("--timeframe", "-t", help="1m 5m 15m 1h 4h 1d ...")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.0, help="Stop by itself after this time.")] = None,
    state: Annotated[Path | None, typer.Option("--state", help="Folder for journal, latch and socket.")] = None,
    no_db: NoDatabase = False,
    as_json: Json = False,
) -> None:
    """Run the daemon: paper (live prices, invented money), testnet or live. Ctrl-C stops in good order."""
    from tidegate.app.observability import RecordLog, alert_log, configure_logging, get_logger

    given = {"symbols": symbols, "timeframe": timeframe, "state.dir": str(state) if state else None}
    given["database.url"] = "memory" if no_db else None
    settings, chosen = _settings(config, mode, {key: value for key, value in given.items() if value is not None})
    configure_logging(settings.logging.level, settings.logging.format)
    log = get_logger()
    observers = [RecordLog(log, alerts=False)]
    result = _at_venue(settings, chosen, _run(settings, chosen, seconds, observers, alert_log(log)))
    if as_json:
        print(json.dumps(result.summary, default=str))
    else:
        _table(f"Run: {chosen}", result.summary)
    sys.exit(result.exit_code)


async def _run(
    settings: "Settings", mode: str, seconds: float | None, observers: list[Any], on_alert: Callable[[Any], None]
) -> Any:
    """Trade, with the journal going into the database beside it."""
    from tidegate.app.bootstrap_database import data_folder
    from tidegate.app.bootstrap_live import World, live_parts, state_folder
    from tidegate.app.daemon import calm_collector
    from tidegate.app.keeping import check_room, remove_old_journals
    from tidegate.app.live import run_live

    root = state_folder(settings, mode) / "journal"
    check_room(settings, root, data_folder(settings.database))
    async with live_parts(settings, mode, World(), on_alert) as parts, _projecting(settings, parts.state) as kept:
        calm_collector()
        result = await run_live(parts, observers=observers, on_alert=on_alert, seconds=seconds)
    if (database := kept()) is not None:
        result.summary["database"] = database
    if settings.database.url == "memory" or (database is not None and database["complete"]):
        remove_old_journals(root, settings.database.keep.journal_days, time.time_ns())
    return result


@asynccontextmanager
async def _projecting(settings: "Settings", state: Path) -> AsyncIterator[Callable[[], dict[str, object] | None]]:
    """The daemon's journals go into the database beside it; one that is down is waited for, and stops nothing."""
    if settings.database.url == "memory":
        talk_of_database(NO_DATABASE)
        yield lambda: None
        return
    from tidegate.app.bootstrap_database import projecting, session_journals

    journals = session_journals(state / "journal", talk_of_database)
    now_ns = time.time_ns()
    async with projecting(
        settings.database,
        journals,
        talk_of_database,
        now_ns=now_ns,
        patience_s=_CATCH_UP_WITHIN_S,
    ) as projector:

        def kept() -> dict[str, object] | None:
            if projector is None or projector.given_up:
                return None
            session = journals[-1].session.session_id
            return {"session": session, "trouble": projector.trouble, "complete": projector.complete}

        yield kept


# ---- words to a running daemon --------------------------------------------------------------------------------------

State = Annotated[Path | None, typer.Option("--state", help="The daemon's state folder; else by the configuration.")]


def _folder(config: Path | None, mode: str | None, state: Path | None) -> Path:
    """The state folder of the daemon that is meant: the named one, else the configured one, else the only one."""
    from platformdirs import user_state_path

    from tidegate.app.bootstrap_live import state_folder
    from tidegate.app.control import socket_path

    if state is not None and socket_path(state).exists():
        return state
    if config is not None or mode is not None:
        overrides: dict[str, object] = {"state.dir": str(state)} if state is not None else {}
        settings, chosen = _settings(config, mode, overrides)
        return state_folder(settings, chosen)
    root = state or user_state_path("tidegate", appauthor=False)
    folders = [each for each in sorted(root.iterdir()) if each.is_dir()] if root.is_dir() else []
    running = [each for each in folders if socket_path(each).exists()]
    if len(running) > 1:
        names = ", ".join(each.name for each in running)
        raise ConfigError(f"several daemons run here ({names}): say which with --config and --mode, or --state")
    return running[0] if running else root


def _ask(
    verb: str, config: Path | None, mode: str | None, state: Path | None, as_json: bool, **more: object
) -> dict[str, Any]:
    from tidegate.app.control import ask

    answer = ask(_folder(config, mode, state), verb, more)
    if not answer.pop("ok"):
        raise ConfigError(str(answer.get("error")))
    if as_json:
        print(json.dumps(answer))
    return answer


def _word(verb: str, config: Path | None, mode: str | None, state: Path | None, as_json: bool, **more: object) -> None:
    answer = _ask(verb, config, mode, state, as_json, **more)
    if not as_json:
        print(f"{verb}: the daemon is {answer['state']}")


@app.command()
def pause(config: Config = None, mode: Mode = None, state: State = None, as_json: Json = False) -> None:
    """Ask the running daemon to take no new risk; exits go on."""
    _word("pause", config, mode, state, as_json)


@app.command()
def resume(
    config: Config = None,
    mode: Mode = None,
    state: State = None,
    reset: Annotated[bool, typer.Option("--reset", help="Lift a latch: you have looked at what happened.")] = False,
    as_json: Json = False,
) -> None:
    """Ask the running daemon to trade again."""
    _word("resume", config, mode, state, as_json, reset=reset)


@app.command()
def flatten(config: Config = None, mode: Mode = None, state: State = None, as_json: Json = False) -> None:
    """Ask the running daemon to cancel all entries and close all positions now; it stays flat until resume."""
    _word("flatten", config, mode, state, as_json)


@app.command()
def kill(config: Config = None, mode: Mode = None, state: State = None, as_json: Json = False) -> None:
    """The kill switch: latch, cancel everything, close everything, stay down until a person resumes with --reset."""
    _word("kill", config, mode, state, as_json)


@app.command()
def stop(config: Config = None, mode: Mode = None, state: State = None, as_json: Json = False) -> None:
    """Ask the running daemon to stop in good order; protective stops stay at the venue."""
    _word("stop", config, mode, state, as_json)


@app.command()
def status(
    config: Config = None,
    mode: Mode = None,
    state: State = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """What the running daemon is doing: state, equity, positions, orders, what is stale, the last alerts."""
    answer = _ask("status", config, mode, state, as_json)
    if as_json:
        return
    from rich.console import Console

    from tidegate.app.status_view import status_page

    if not watch:
        Console().print(status_page(answer))
        return
    from time import sleep

    from rich.live import Live

    with Live(status_page(answer), console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            sleep(1.0)
            live.update(status_page(_ask("status", config, mode, state, as_json=False)), refresh=True)


# ---- the local exchange ---------------------------------------------------------------------------------------------


@app.command()
def localnet(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8800,
    market: Annotated[str, typer.Option("--market", help="synthetic | replay")] = "synthetic",
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed makes the same market.")] = 7,
    speed: Annotated[float, typer.Option("--speed", min=0.001, help="How fast prices move; time stays true.")] = 1.0,
    data: Annotated[Path | None, typer.Option("--data", help="Data folder, for --market replay.")] = None,
    symbols: Symbols = None,
    timeframe: Annotated[str, typer.Option("--timeframe", "-t", help="Bars to replay.")] = "1h",
    faults: Annotated[Path | None, typer.Option("--faults", help="Scenario file of faults.")] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Keep the exchange in this file, and go on from it.")
    ] = None,
    strict_routing: Annotated[bool, typer.Option(help="Un-routed stream paths carry public data only.")] = False,
    lenient_signatures: Annotated[bool, typer.Option(help="Take signatures over decoded parameters too.")] = False,
) -> None:
    """A local exchange that speaks the protocol of Binance USD-M futures; Ctrl-C ends it."""
    from tidegate.app.bootstrap_localnet import LocalnetOptions, run_localnet
    from tidegate.app.daemon import run_on_loop

    if market not in ("synthetic", "replay"):
        raise ConfigError(f"--market {market!r}: it must be synthetic or replay")
    if (market == "replay") is (data is None):
        raise ConfigError("--market replay needs --data DIR, and only replay takes it")
    options = LocalnetOptions(
        port=port,
        seed=seed,
        speed=speed,
        data=data,
        symbols=symbols,
        timeframe=timeframe,
        faults=faults,
        strict_routing=strict_routing,
        lenient_signatures=lenient_signatures,
        state=state,
    )
    run_on_loop(run_localnet(options, lambda line: print(line, flush=True)))


# ---- looking at an account ------------------------------------------------------------------------------------------


@app.command()
def reconcile(
    config: Config = None,
    mode: Mode = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without, it is only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Show our books against the venue's, position by position and order by order, and what would be done."""
    from tidegate.app.bootstrap_live import World
    from tidegate.app.reconciling import reconcile_account

    settings, chosen = _settings(config, mode)
    lines = _at_venue(settings, chosen, reconcile_account(settings, chosen, World(), apply=apply))
    if as_json:
        print(json.dumps([line.as_dict() for line in lines], default=str))
        return
    _rows("Reconcile" + ("" if apply else " (nothing was changed)"), [line.as_dict() for line in lines])


@account_app.command("setup")
def account_setup(
    config: Config = None,
    mode: Mode = None,
    apply: Annotated[bool, typer.Option("--apply", help="Set it; without, it is only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Compare leverage, margin type and position mode with the configuration, and set them with --apply."""
    from tidegate.app.bootstrap_live import World
    from tidegate.app.checkup import set_up_account

    settings, chosen = _settings(config, mode)
    differences = _at_venue(settings, chosen, set_up_account(settings, chosen, World(), apply=apply))
    if as_json:
        print(json.dumps({"applied": apply, "differences": differences}))
    elif differences:
        for each in differences:
            print(each)
    else:
        print("the account is set as configured")
    sys.exit(1 if apply and differences else 0)


@app.command()
def doctor(config: Config = None, mode: Mode = None, as_json: Json = False) -> None:
    """Check clock, reachability, key, account modes, filters, disk and journal; exits 0 when all is well."""
    from tidegate.app.bootstrap_live import World
    from tidegate.app.checkup import examine
    from tidegate.app.daemon import run_on_loop

    settings, chosen = _settings(config, mode)
    report = run_on_loop(examine(settings, chosen, World()))
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        _rows(f"Doctor: {chosen}", report.rows())
    sys.exit(report.exit_code)


def _table(title: str, summary: dict[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for key, value in summary.items():
        if value not in (None, [], ()):
            table.add_row(key.replace("_", " "), str(value))
    Console().print(table)


def _rows(title: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for key in rows[0] if rows else ("nothing",):
        table.add_column(key.replace("_", " "))
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table)
