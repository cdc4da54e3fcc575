"""The composition root of the database: the embedded server or a configured one, its schema, programs and projection.

An embedded database is ours alone and is migrated when it is opened. A configured one may be shared, so it is only
checked, and the refusal names ``tidegate db migrate``.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tidegate.adapters.database.binaries import EmbeddedUnavailable, find_binaries
from tidegate.adapters.database.connecting import (
    admin_engine,
    close_pool,
    connect,
    open_engine,
    open_pool,
    without_password,
)
from tidegate.adapters.database.embedded import EmbeddedServer
from tidegate.adapters.database.programs import Programs
from tidegate.adapters.database.projection import Projection, SessionInfo
from tidegate.adapters.database.projector import Connected, Pace, Projector, SessionJournal
from tidegate.adapters.database.schema import (
    SchemaMismatch,
    SchemaReport,
    check_revision,
    downgrade,
    head_revision,
    read_report,
)
from tidegate.adapters.database.schema import migrate as lead_to_head
from tidegate.adapters.files.journal_follower import JournalFollower
from tidegate.adapters.files.journal_lines import JournalHeader
from tidegate.adapters.files.journal_reader import read_journal
from tidegate.app.config_database import EMBEDDED, MEMORY, DatabaseSettings
from tidegate.app.config_live import VenueSettings
from tidegate.domain.errors import ConfigError, DatabaseError, DataError, JournalError, NotRunning
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import INTERVALS_NS, SECOND_NS, BarSpec
from tidegate.domain.messages import Command, Record

if TYPE_CHECKING:
    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tidegate.app.backtest import Kept
    from tidegate.app.bar_exchange import BarFile
    from tidegate.app.config import Settings
    from tidegate.ports import BarRepository, TradingRepository

__all__ = [
    "Database",
    "EmbeddedUnavailable",
    "Place",
    "SchemaMismatch",
    "back_up",
    "connected",
    "journal_folders",
    "bar_files",
    "export_bars",
    "lead_down",
    "lead_up",
    "open_bars",
    "open_database",
    "open_place",
    "projecting",
    "rebuild",
    "restore",
    "session_journal",
    "session_journals",
    "status",
    "write_backtest",
]

_FOREVER_NS = 4_102_444_800 * SECOND_NS  # the year 2100
_CONTRACT = re.compile(r"[A-Z0-9]+(USDT|USDC|BUSD)(_\d{6})?")  # as the folders of market data are named
TIER_NOTES = {
    "plain": "no compression: about 2 to 3 times the disk of TimescaleDB's full edition",
    "apache": "no compression, policies or continuous aggregates: the licence of this TimescaleDB has none",
    "timescale": "compression and continuous aggregates by the server",
}
FULL_TIER = "not run"
"""What the project's tests say of TimescaleDB's full edition: Debian's packages, which they use, do not have it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A server that answers. ``url`` holds the password; ``shown`` does not."""

    url: str
    embedded: bool
    server: EmbeddedServer | None
    pg_bin: Path | None

    @property
    def shown(self) -> str:
        """The address as it may be shown."""
        return f"embedded in {self.server.data_dir}" if self.server else without_password(self.url)

    def programs(self) -> Programs:
        """``pg_dump`` and its kin, for this database."""
        return Programs(self.server.tools if self.server else find_binaries(self.pg_bin), self.url)

    def __repr__(self) -> str:
        return f"Place({self.shown})"


@dataclass(frozen=True, slots=True)
class Database:
    """An open database of the right revision.

    ``engine`` is for SQLAlchemy, ``pool`` for what only asyncpg can (COPY, LISTEN); both are small, and a statement
    ends after a minute. ``note`` is one line about where and what it is.
    """

    engine: "AsyncEngine"
    pool: "asyncpg.Pool[Any]"
    tier: str
    place: Place
    note: str

    @property
    def embedded(self) -> bool:
        """Whether the server is our own."""
        return self.place.embedded

    def connect(self) -> Any:
        """``async with database.connect() as connection``: one connection of asyncpg."""
        return self.pool.acquire()

    async def ensure(self) -> None:
        """Return when the server answers; an embedded one that died is started again."""
        if self.place.server is not None:
            await self.place.server.ensure()


def data_folder(settings: DatabaseSettings) -> Path:
    """Where the embedded database lies; as root it may have to be elsewhere, see ``EmbeddedServer.data_dir``."""
    from platformdirs import user_data_path

    return Path(settings.dir) if settings.dir else user_data_path("tidegate", appauthor=False) / "pg"


@asynccontextmanager
async def open_place(settings: DatabaseSettings) -> AsyncIterator[Place]:
    """The configured server, started if it is the embedded one; whatever its schema.

    Raises ``ConfigError``, ``EmbeddedUnavailable`` (one of them) when no PostgreSQL can be started.
    """
    pg_bin = Path(settings.pg_bin) if settings.pg_bin else None
    if settings.url == MEMORY:
        raise ConfigError("database.url is memory: there is no database; say embedded or postgresql://user@host/name")
    if settings.url != EMBEDDED:
        yield Place(settings.url.revealed(), False, None, pg_bin)
        return
    server = await EmbeddedServer.start(data_folder(settings), pg_bin=pg_bin)
    try:
        yield Place(server.url, True, server, pg_bin)
    finally:
        await server.stop()


@asynccontextmanager
async def open_database(settings: DatabaseSettings, *, migrate: bool | None = None) -> AsyncIterator[Database]:
    """Open the database at the revision that this program needs.

    ``migrate`` says whether it is led there; None means: an embedded one is, a configured one is only checked.
    Raises ``SchemaMismatch`` for another revision, ``NotRunning`` when no server answers, ``ConfigError`` when it
    refuses us, ``EmbeddedUnavailable`` when none can be started, ``DatabaseError`` for a migration that failed.
    """
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(open_place(settings))
        if place.embedded if migrate is None else migrate:
            await lead_to_head(place.url, tier=settings.tier)
        report = await _report(place)
        check_revision(report.revision)
        engine = open_engine(place.url)
        stack.push_async_callback(engine.dispose)
        pool = await open_pool(place.url)
        stack.push_async_callback(close_pool, pool)
        tier = str(report.tier)
        note = f"database: {place.shown}, PostgreSQL {report.server_version}, {tier} ({TIER_NOTES[tier]})"
        yield Database(engine, pool, tier, place, note)


# ---- the projection -------------------------------------------------------------------------------------------------

DEMO, REAL = "demo", ("testnet", "live")
_BATCH_ROWS = 5_000
_SOURCES = {"demo": "demo", "testnet": "testnet", "paper": "binance", "live": "binance"}


@dataclass(frozen=True, slots=True)
class _Connected:
    """What a projector sees of an open database."""

    trading: "TradingRepository"
    database: Database

    async def ensure(self) -> None:
        """Return when the server answers; an embedded one that died is started again."""
        await self.database.ensure()


@asynccontextmanager
async def connected(settings: DatabaseSettings, *, migrate: bool | None = None) -> AsyncIterator[Connected]:
    """Open the database for the projection. Raises like ``open_database``."""
    from tidegate.adapters.database.trading import PostgresTrading

    async with open_database(settings, migrate=migrate) as database:
        yield _Connected(PostgresTrading(database.engine), database)


# ---- bars -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_bars(settings: DatabaseSettings) -> AsyncIterator["BarRepository"]:
    """The database's bars. Raises like ``open_database``."""
    from tidegate.adapters.database.bars import PostgresBars

    async with open_database(settings) as database:
        yield PostgresBars(database.engine)


def bar_files(path: Path, source: str, symbols: Sequence[str] | None, bar: BarSpec | None) -> "list[BarFile]":
    """The bar files of a folder, or the one file. Raises ``DataError``; their rows are checked when they are read."""
    from tidegate.adapters.files.history import DataFolder, infer_interval, load_bar_file
    from tidegate.app.bar_exchange import BarFile
    from tidegate.ports import BarSeries

    if path.is_file():
        spec = bar or infer_interval(path)
        if len(symbols or ()) > 1:
            raise ConfigError(f"--symbols: {path} is one file and holds one contract")
        if spec.name not in INTERVALS_NS:
            raise DataError(f"{path}: bars of {spec.name} are not stored; use one of {' '.join(INTERVALS_NS)}")
        folder_name = path.resolve().parent.name
        if not symbols and not _CONTRACT.fullmatch(folder_name):
            raise ConfigError(f"{path}: its folder {folder_name!r} is no contract; name it: --symbols BTCUSDT")
        name = InstrumentId(symbols[0] if symbols else folder_name)
        return [BarFile(BarSeries(source, name, spec), partial(load_bar_file, path, spec, 0, _FOREVER_NS))]
    folder = DataFolder(path)
    specs = [bar] if bar else [BarSpec.of(each) for each in INTERVALS_NS]
    wanted = [(name, spec) for spec in specs for name in (symbols or folder.instruments(spec))]
    if symbols and not bar:
        wanted = [(name, spec) for name, spec in wanted if name in folder.instruments(spec)]
    if not wanted:
        raise DataError(f"{path}: no bars{' of ' + ' '.join(symbols) if symbols else ''} there; want SYMBOL/1m.parquet")
    return [
        BarFile(
            BarSeries(source, InstrumentId(name), spec), partial(folder.bars, InstrumentId(name), spec, 0, _FOREVER_NS)
        )
        for name, spec in wanted
    ]


async def export_bars(
    settings: DatabaseSettings,
    file: Path,
    symbol: str,
    bar: BarSpec,
    source: str | None,
    session_id: str | None,
    span: tuple[int | None, int | None],
    advance: Callable[[int], None],
) -> int:
    """Write a stored series to a file; returns how many bars. Raises ``DataError`` also when the range has none."""
    from tidegate.adapters.files.bar_writer import WRITTEN, write_bars
    from tidegate.app.bar_exchange import find_series, ranges

    if file.suffix not in WRITTEN:
        raise ConfigError(f"{file}: bars are written as {' or '.join(WRITTEN)}")
    async with open_bars(settings) as bars:
        found = await find_series(bars, symbol, bar, source, session_id)
        tables = []
        async for table in ranges(bars, found, *span):
            tables.append(table)
            advance(len(table))
    if not tables:
        raise DataError(
            f"{symbol} {bar.name}: the database has no bar of this range; tidegate data list says what it has"
        )
    return await asyncio.to_thread(write_bars, file, tables)


def session_of(folder: Path, header: JournalHeader) -> SessionInfo:
    """Whose session a journal is. A demo has no generation, and is named by its folder.

    A real venue's executions have ids for ever, so its sessions share their books; those of a local exchange belong to
    the folder that the daemon keeps its journals in.
    """
    configuration, folder = header.configuration, folder.resolve()
    if header.gen == 0:
        mode, session_id = DEMO, f"{DEMO}-{folder.name}-{_mark(folder)}"
    else:
        mode, session_id = str(configuration["mode"]), f"{configuration['mode']}-{header.gen}"
    realm = session_id
    if mode in REAL:
        rest = VenueSettings.model_validate(configuration.get("venue", {})).endpoints(mode).rest
        realm = mode if rest.startswith("https://") else f"{mode}-{_mark(folder.parent)}"
    return SessionInfo(
        header.account,
        session_id,
        realm,
        mode,
        header.gen,
        header.gen * SECOND_NS or _began_ns(folder),
        configuration,
        header.configuration_sha256,
        str(folder),
        BarSpec.of(str(configuration["timeframe"])).interval_ns,
        tuple(each.id for each in header.instruments),
        _SOURCES[mode],
        mode in REAL,
    )


def _mark(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:8]


def _began_ns(folder: Path) -> int:
    """When a demo began: its folder says so where nobody named it."""
    try:
        return round(datetime.strptime(f"{folder.name}Z", "%Y%m%dT%H%M%S%f%z").timestamp() * SECOND_NS)
    except ValueError:
        return (folder / "ledger-000001.log").stat().st_mtime_ns


def session_journal(folder: Path, *, new: bool = False) -> SessionJournal:
    """A journal for the projector; a ``new`` one was made by this process. Raises ``JournalError``."""
    session = session_of(folder, read_journal(folder).header)
    return SessionJournal(session, lambda after_seq: JournalFollower(folder, after_seq), new)


def session_journals(root: Path, say: Callable[[str], None]) -> list[SessionJournal]:
    """The journals of a daemon, oldest first. What was never begun is passed over; what cannot be read, with a word."""
    return list(_readable(sorted(root.iterdir()) if root.is_dir() else [], say))


@asynccontextmanager
async def projecting(
    settings: DatabaseSettings,
    journals: Sequence[SessionJournal],
    say: Callable[[str], None],
    *,
    now_ns: Nanos,
    patience_s: float = 15.0,
    pace: Pace | None = None,
) -> AsyncIterator[Projector | None]:
    """Project ``journals`` while the block runs, and for ``patience_s`` after it; None without a database.

    The block begins at once, whatever the database does; nothing of that is raised, ``say`` hears of it, one line each.
    What is older than its days before ``now_ns`` is dropped at the end, when everything is there.
    """
    if settings.url == MEMORY or not journals:
        yield None
        return
    forgo = (EmbeddedUnavailable,)
    projector = Projector(lambda: connected(settings), journals, say, pace or Pace(), gives_up_on=forgo)
    projector.start()
    try:
        yield projector
    except BaseException:
        await projector.finish(0.0)
        raise
    if await projector.finish(patience_s):
        await _trim(settings, now_ns, say)
    elif not projector.given_up:
        name = journals[-1].session.session_id
        say(f"the database is behind: tidegate db rebuild --session {name} brings it up to the journal")


async def _trim(settings: DatabaseSettings, now_ns: Nanos, say: Callable[[str], None]) -> None:
    """Drop what is older than its days. A database that will not do so says it, and keeps them."""
    from tidegate.adapters.database.upkeep import apply_retention

    days = {"market_data": settings.keep.market_data_days, "risk_metrics": settings.keep.risk_metrics_days}
    if not any(days.values()):
        return
    try:
        async with open_database(settings, migrate=False) as database:
            dropped = await apply_retention(database.engine, days, now_ns)
    except (ConfigError, DatabaseError) as error:
        say(f"nothing old was dropped: {error}")
        return
    if names := [name for pieces in dropped.values() for name in pieces]:
        say(f"dropped what is older than its days: {', '.join(names)}")


async def write_backtest(settings: "Settings", kept: Iterable["Kept"], started_ns: Nanos) -> str:
    """Write what a backtest kept as a session of its own, and return its name; its bars are where they came from.

    Raises like ``open_database``, and ``DatabaseError``.
    """
    began = datetime.fromtimestamp(started_ns / SECOND_NS, UTC)
    session_id = f"backtest-{began:%Y%m%dT%H%M%S%f}"
    session = SessionInfo(
        settings.account,
        session_id,
        session_id,
        "backtest",
        0,
        started_ns,
        settings.as_dict(),
        settings.digest(),
        None,
        BarSpec.of(settings.timeframe).interval_ns,
        tuple(settings.symbols),
        "backtest",
        live=False,
    )
    scope = (session.account_id, session.session_id)
    async with connected(settings.database) as database:
        trading = database.trading
        await trading.begin_session(session.row())
        projection, seq, after_seq = Projection(session, bars=False), 0, 0
        for what, answer in kept:
            if isinstance(what, int):
                projection.close(what, cast(dict[InstrumentId, float], answer))
                continue
            seq += 1
            projection.fold(Record(seq, what, tuple(cast(Sequence[Command], answer))))
            if projection.waiting >= _BATCH_ROWS:
                await trading.write(*scope, projection.take(), seq, projection.dump(), after_seq=after_seq)
                after_seq = seq
        await trading.write(*scope, projection.take(), seq, projection.dump(), after_seq=after_seq)
    return session_id


def journal_folders(settings: "Settings") -> list[Path]:
    """Where journals of this configuration may lie: those of its demos, and of its daemons in every mode."""
    from platformdirs import user_state_path

    user = user_state_path("tidegate", appauthor=False)
    roots = [Path(settings.journal.dir) if settings.journal.dir else user / "demo"]
    state = Path(settings.state.dir) if settings.state.dir else user
    roots += sorted(state.glob("*/journal")) if state.is_dir() else []
    return [each for root in roots if root.is_dir() for each in sorted(root.iterdir()) if each.is_dir()]


async def rebuild(
    settings: DatabaseSettings,
    folders: Iterable[Path],
    session_id: str | None,
    advance: Callable[[str, int, int], None],
    say: Callable[[str], None],
) -> dict[str, int]:
    """Make the rows of sessions anew from their journals: those in ``folders``, and those that the database knows of.

    All sessions of one realm are one transaction: others see the old rows or the new ones. Returns their records by
    name. Raises ``NotRunning`` when there is no such session.
    """
    from tidegate.adapters.database.trading import PostgresTrading
    from tidegate.adapters.database.transaction import one_transaction

    async with open_database(settings) as database:
        known = await PostgresTrading(database.engine).sessions()
        places = {Path(each["journal"]) for each in known if each["journal"]} | {each.resolve() for each in folders}
        groups: dict[tuple[str, str], list[SessionJournal]] = {}
        for journal in _readable(sorted(places), say):
            session = journal.session
            groups.setdefault((session.account_id, session.realm), []).append(journal)
        wanted = [_from_session(sorted(group, key=_age), session_id) for group in groups.values()]
        if session_id is not None and not any(wanted):
            raise NotRunning(f"no journal of a session {session_id} is there")
        done: dict[str, int] = {}
        total = sum(map(len, wanted))
        for group in wanted:
            async with one_transaction(database.engine) as trading:
                for journal in reversed(group):
                    await trading.delete_session(journal.session.account_id, journal.session.session_id)
                for journal in group:
                    advance(journal.session.session_id, len(done), total)
                    done[journal.session.session_id] = await Projector.project(trading, journal)
        return done


def _readable(folders: Iterable[Path], say: Callable[[str], None]) -> Iterator[SessionJournal]:
    for folder in folders:
        if folder.is_dir() and any(folder.glob("ledger-*.log*")):
            try:
                yield session_journal(folder)
            except (JournalError, ValueError, KeyError) as error:
                say(f"{folder} is left out of the database: {error}")


def _age(journal: SessionJournal) -> tuple[int, int]:
    return journal.session.gen, journal.session.started_ns


def _from_session(group: list[SessionJournal], session_id: str | None) -> list[SessionJournal]:
    names = [each.session.session_id for each in group]
    if session_id is None:
        return group
    return group[names.index(session_id) :] if session_id in names else []


async def _report(place: Place) -> SchemaReport:
    engine = admin_engine(place.url)
    try:
        async with engine.connect() as connection:
            return await read_report(connection)
    finally:
        await engine.dispose()


# ---- the verbs ------------------------------------------------------------------------------------------------------


async def status(settings: DatabaseSettings) -> dict[str, Any]:
    """What ``tidegate db status`` tells."""
    async with open_place(settings) as place:
        report = await _report(place)
        return {
            "url": place.shown,
            "tier": report.tier,
            "server_version": report.server_version,
            "revision": report.revision,
            "head": head_revision(),
            "size_bytes": report.size_bytes,
            "tables": report.tables,
            "views": report.views,
            "enums": report.enums,
            "indexes": report.indexes,
            "timescale_tier_tested": FULL_TIER,
        }


async def lead_up(settings: DatabaseSettings) -> tuple[str | None, str]:
    """Migrate to the newest revision; returns those before and after."""
    async with open_place(settings) as place:
        return await lead_to_head(place.url, tier=settings.tier)


async def lead_down(settings: DatabaseSettings, to: str) -> tuple[str | None, str]:
    """Go back to a revision; what came later is dropped with its rows."""
    async with open_place(settings) as place:
        return await downgrade(place.url, to)


async def back_up(settings: DatabaseSettings, target: Path) -> int:
    """Write a backup; returns its size in bytes."""
    async with open_place(settings) as place:
        report, programs = await _report(place), place.programs()
        if report.revision is None:
            raise ConfigError(f"{place.shown} has no schema: there is nothing to back up")
        major, tools = _major(report), await asyncio.to_thread(programs.major)
        if major > tools:
            raise ConfigError(
                f"the server is PostgreSQL {major} and pg_dump in {programs.folder} is {tools}: set database.pg_bin to "
                f"programs of version {major} or newer"
            )
        return await asyncio.to_thread(programs.dump, target)


async def restore(settings: DatabaseSettings, source: Path, *, force: bool) -> SchemaReport:
    """Fill the database from a backup. One that has a schema is refused, or emptied first with ``force``."""
    async with open_place(settings) as place:
        programs = place.programs()
        archive = await asyncio.to_thread(programs.inspect, source)
        report = await _report(place)
        if archive.server_major > _major(report):
            raise ConfigError(
                f"{source} is from PostgreSQL {archive.server_major} and the server is {report.server_version}: "
                "restore it into a server of that version or newer"
            )
        if report.tables and not force:
            raise ConfigError(f"{place.shown} is not empty ({len(report.tables)} tables); --force empties it first")
        if report.tables and report.revision is None:
            raise ConfigError(f"{place.shown} has tables that are not tidegate's: restore into a database of its own")
        if archive.needs_timescale:
            await _timescale(place, "create extension if not exists timescaledb")
        if report.tables:
            await downgrade(place.url, "base")
        if archive.needs_timescale:
            await _timescale(place, "select timescaledb_pre_restore()")
        try:
            await _empty_version_table(place)
            await asyncio.to_thread(programs.restore, source)
        finally:
            if archive.needs_timescale:
                await _timescale(place, "select timescaledb_post_restore()")
        return await _report(place)


async def _timescale(place: Place, statement: str) -> None:
    connection = await connect(place.url)
    try:
        await connection.execute(statement)
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise DatabaseError(f"the backup needs TimescaleDB, and the server says: {said}") from None
    finally:
        await connection.close()


async def _empty_version_table(place: Place) -> None:
    """Alembic leaves its own table behind; the backup brings it along."""
    connection = await connect(place.url)
    try:
        await connection.execute("drop table if exists alembic_version")
    finally:
        await connection.close()


def _major(report: SchemaReport) -> int:
    return int(report.server_version.partition(".")[0])
