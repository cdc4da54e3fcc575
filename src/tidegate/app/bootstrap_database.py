"""The composition root of the database: the embedded server or a configured one, its schema, programs and projection.

An embedded database is ours alone and is migrated when it is opened. A configured one may be shared, so it is only
checked, and the refusal names ``tidegate db migrate``.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from tidegate.adapters.database.projection import SessionInfo
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
from tidegate.domain.errors import ConfigError, DatabaseError
from tidegate.domain.market import SECOND_NS, BarSpec

if TYPE_CHECKING:
    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tidegate.ports import TradingRepository

__all__ = [
    "Database",
    "EmbeddedUnavailable",
    "Place",
    "SchemaMismatch",
    "back_up",
    "lead_down",
    "lead_up",
    "open_database",
    "open_place",
    "projecting",
    "restore",
    "session_journal",
    "session_journals",
    "status",
]

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


def session_journals(root: Path) -> list[SessionJournal]:
    """The journals of a daemon, oldest first; one that was never begun is passed over. Raises ``JournalError``."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [session_journal(each) for each in folders if each.is_dir() and any(each.glob("ledger-*.log"))]


@asynccontextmanager
async def projecting(
    settings: DatabaseSettings,
    journals: Sequence[SessionJournal],
    say: Callable[[str], None],
    *,
    patience_s: float = 15.0,
    pace: Pace | None = None,
) -> AsyncIterator[Projector | None]:
    """Project ``journals`` while the block runs, and for ``patience_s`` after it; None without a database.

    Nothing that the database does is raised; ``say`` hears of it, one line each.
    """
    if settings.url == MEMORY:
        say("no database (database.url is memory): everything is in the journal, and nothing is kept for queries")
        yield None
        return
    projector = Projector(
        lambda: connected(settings), journals, say, pace or Pace(), gives_up_on=(EmbeddedUnavailable,)
    )
    projector.start()
    try:
        yield projector
    finally:
        if not await projector.finish(patience_s):
            name = journals[-1].session.session_id
            say(f"the database is behind: tidegate db rebuild --session {name} brings it up to the journal")


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
