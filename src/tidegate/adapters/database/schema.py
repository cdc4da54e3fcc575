"""The schema as a whole: which revision a database has, how it gets another one, and what it looks like.

1. ``migrate`` and ``downgrade`` take an advisory lock, so that two programs that start together do it once.
2. The first revision finds the tier (``tiers.py``) and records it; every later one reads the record.
3. ``check_revision`` refuses every revision but ours, before a single row is read or written.
4. ``dump_schema`` describes all that is ours and nothing of an extension or of a partition, whose number grows with
   the data; two databases with the same text have the same schema.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.adapters.database.connecting import admin_engine
from tidegate.adapters.database.tiers import PLAIN, detect_tier, recorded_tier
from tidegate.domain.errors import ConfigError, DatabaseError

MIGRATIONS = Path(__file__).with_name("migrations")
LOCK = 0x7469_6465_6761_7465
"""Held while the schema changes."""

__all__ = [
    "LOCK",
    "SchemaMismatch",
    "SchemaReport",
    "check_revision",
    "current_revision",
    "detect_tier",
    "downgrade",
    "dump_schema",
    "head_revision",
    "is_ours",
    "migrate",
    "read_report",
    "revisions",
]


class SchemaMismatch(ConfigError):
    """The database has another revision than this program needs; the message says which, and what mends it."""


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """What ``tidegate db status`` tells. Names are sorted; ``tier`` is None before the first migration."""

    tier: str | None
    server_version: str
    revision: str | None
    size_bytes: int
    tables: list[str]
    enums: list[str]
    indexes: list[str]
    views: list[str]


# ---- revisions ------------------------------------------------------------------------------------------------------


def revisions() -> list[str]:
    """Every revision that this program knows, the first one first."""
    return [each.revision for each in _scripts().walk_revisions()][::-1]


def head_revision() -> str:
    """The revision that this program needs."""
    return revisions()[-1]


def current_revision(connection: Connection) -> str | None:
    """The revision that the database has; None for one without tables of ours."""
    return MigrationContext.configure(connection).get_current_revision()


def check_revision(current: str | None) -> None:
    """Refuse every revision but ours. Raises ``SchemaMismatch``."""
    head = head_revision()
    if current == head:
        return
    if current is None:
        raise SchemaMismatch(
            f"the database has no schema yet, and this program needs revision {head}: run tidegate db migrate"
        )
    _check_known(current)
    raise SchemaMismatch(f"the database has revision {current}, and this program needs {head}: run tidegate db migrate")


def _check_known(current: str | None) -> None:
    if current is not None and current not in revisions():
        raise SchemaMismatch(
            f"the database has revision {current}, which this program does not know (its newest is {head_revision()}): "
            f"use the newer tidegate, or with it run tidegate db downgrade {head_revision()}"
        )


async def migrate(url: str, *, tier: str = "auto", to: str = "head") -> tuple[str | None, str]:
    """Lead the database up to ``to``; returns its revision before and after. Rows are kept.

    Raises ``SchemaMismatch`` for a revision that is not known, ``DatabaseError`` for what the server refuses; then
    the revisions before the failed one stay, and of that one nothing.
    """
    _check_target(to)
    return await _change(url, tier, lambda config: command.upgrade(config, to))


async def downgrade(url: str, to: str) -> tuple[str | None, str]:
    """Lead the database down to ``to`` (``base``: nothing); tables and columns that came later are gone with their
    rows."""
    _check_target(to)
    return await _change(url, "auto", lambda config: command.downgrade(config, to))


def _check_target(to: str) -> None:
    known = ["base", *revisions(), "head"]
    if to not in known:
        raise ConfigError(f"{to!r} is not a revision; there are {', '.join(known)}")


async def _change(url: str, tier: str, work: Callable[[Config], None]) -> tuple[str | None, str]:
    def run(connection: Connection) -> tuple[str | None, str]:
        before = current_revision(connection)
        _check_known(before)
        if before is not None and tier == PLAIN and (made := recorded_tier(connection)) != PLAIN:
            raise ConfigError(
                f"database.tier is plain, and the tables of this database were made for {made}: say auto, "
                "or use an empty database"
            )
        connection.commit()
        config = _config()
        config.attributes.update(connection=connection, tier=tier)
        work(config)
        return before, current_revision(connection) or "base"

    engine = admin_engine(url)
    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql(f"select pg_advisory_lock({LOCK})")
            await connection.commit()
            return await connection.run_sync(run)
    except CommandError as error:
        raise ConfigError(f"migration: {error}") from None
    except DBAPIError as error:
        said = str(error.orig).partition("\n")[0]
        raise DatabaseError(f"migration: {re.sub(r'^<.*?>: ', '', said)}") from None
    finally:
        await engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


# ---- what is there --------------------------------------------------------------------------------------------------

_OF_EXTENSION = "exists (select from pg_depend d where d.objid = {oid} and d.deptype = 'e')"
_OURS = f"n.nspname = current_schema() and not c.relispartition and not {_OF_EXTENSION.format(oid='c.oid')}"
_RELATIONS = "from pg_class c join pg_namespace n on n.oid = c.relnamespace"

_NAMES = f"select c.relname {_RELATIONS} where {_OURS} and c.relkind = any('{{kinds}}') order by 1"
_INDEXES = f"""
select i.relname from pg_index x join pg_class i on i.oid = x.indexrelid
where x.indrelid in (select c.oid {_RELATIONS} where {_OURS} and c.relkind in ('r', 'p')) order by 1"""
_ENUM_TYPES = f"""
from pg_type t join pg_namespace n on n.oid = t.typnamespace
where n.nspname = current_schema() and t.typtype = 'e' and not {_OF_EXTENSION.format(oid="t.oid")}"""

_DUMP = {
    "table": f"""
select c.relname, coalesce('partitioned by ' || pg_get_partkeydef(c.oid), 'plain')
{_RELATIONS} where {_OURS} and c.relkind in ('r', 'p')""",
    "column": f"""
select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
       coalesce(pg_get_expr(e.adbin, e.adrelid), '-')
{_RELATIONS} join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef e on e.adrelid = a.attrelid and e.adnum = a.attnum
where {_OURS} and c.relkind in ('r', 'p')""",
    # 'n' is not null, which stands at the column; servers before 18 have no such constraint
    "constraint": f"""
select c.relname, k.conname, pg_get_constraintdef(k.oid)
{_RELATIONS} join pg_constraint k on k.conrelid = c.oid where {_OURS} and k.contype <> 'n'""",
    "index": f"""
select c.relname, regexp_replace(pg_get_indexdef(x.indexrelid), ' ON (ONLY )?[^ ]+ USING', ' USING')
{_RELATIONS} join pg_index x on x.indrelid = c.oid where {_OURS} and c.relkind in ('r', 'p')""",
    "enum": f"""
select t.typname, (select string_agg(enumlabel, ' ' order by enumsortorder) from pg_enum where enumtypid = t.oid)
{_ENUM_TYPES}""",
    "view": f"""
select c.relname, pg_get_viewdef(c.oid) {_RELATIONS} where {_OURS} and c.relkind in ('v', 'm')""",
    "trigger": f"""
select c.relname, t.tgname, pg_get_triggerdef(t.oid)
{_RELATIONS} join pg_trigger t on t.tgrelid = c.oid where {_OURS} and not t.tgisinternal
  and t.tgname <> 'ts_insert_blocker'""",
    "function": f"""
select p.proname, pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = current_schema() and p.prokind = 'f' and not {_OF_EXTENSION.format(oid="p.oid")}""",
}

_DUMP_TIMESCALE = {
    "hypertable": """
select h.hypertable_name, d.column_name, d.time_interval::text, h.compression_enabled::text
from timescaledb_information.hypertables h
join timescaledb_information.dimensions d using (hypertable_schema, hypertable_name)
where h.hypertable_schema = current_schema()""",
    "policy": """
select coalesce(hypertable_name, '-'), proc_name, schedule_interval::text, coalesce(config::text, '-')
from timescaledb_information.jobs where job_id >= 1000 and hypertable_schema is not null""",
}


def dump_schema(connection: Connection) -> str:
    """Everything of ours in the current schema, one line each, sorted; what ``alembic`` and extensions keep is not."""
    queries = dict(_DUMP)
    if _has_timescale(connection):
        queries |= _DUMP_TIMESCALE
    lines = []
    for kind, query in queries.items():
        rows = connection.exec_driver_sql(query).all()
        told = (" ".join(" ".join(str(cell).split()) for cell in row) for row in rows if row[0] != "alembic_version")
        lines += [f"{kind} {line}" for line in told]
    return "\n".join(sorted(lines))


def is_ours(connection: Connection) -> Callable[[str | None, str, Any], bool]:
    """For ``alembic``'s comparison: passes over the partitions, whose number grows with the data."""
    kept = {*_names(connection, "r,p")}

    def include_name(name: str | None, kind: str, parents: Any) -> bool:  # noqa: ARG001
        return kind != "table" or name in kept

    return include_name


def _names(connection: Connection, kinds: str) -> list[str]:
    found = connection.exec_driver_sql(_NAMES.format(kinds="{" + kinds + "}")).scalars()
    return [name for name in found if name != "alembic_version"]


def _has_timescale(connection: Connection) -> bool:
    found = connection.exec_driver_sql("select count(*) from pg_extension where extname = 'timescaledb'")
    return bool(found.scalar_one())


def tier_of(connection: Connection) -> str | None:
    """The recorded tier; None where there is no schema of ours."""
    known = connection.exec_driver_sql("select to_regclass('schema_tier') is not null").scalar_one()
    return recorded_tier(connection) if known else None


def _report(connection: Connection) -> SchemaReport:
    def one(query: str) -> Any:
        return connection.exec_driver_sql(query).scalar_one()

    return SchemaReport(
        tier=tier_of(connection),
        server_version=str(one("show server_version")).split()[0],
        revision=current_revision(connection),
        size_bytes=int(one("select pg_database_size(current_database())")),
        tables=_names(connection, "r,p"),
        enums=sorted(connection.exec_driver_sql(f"select t.typname {_ENUM_TYPES}").scalars()),
        indexes=[each for each in connection.exec_driver_sql(_INDEXES).scalars() if each != "alembic_version_pkc"],
        views=_names(connection, "v,m"),
    )


async def read_report(connection: AsyncConnection) -> SchemaReport:
    """Tier, versions, size and names of what is there."""
    return await connection.run_sync(_report)
