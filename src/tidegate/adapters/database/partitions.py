"""Monthly partitions of plain PostgreSQL: made before rows need them, dropped when nobody needs their rows.

A new month is made beside its table and then attached. That waits for no reader and lets none wait; ``create table ...
partition of`` would lock the whole table. Tables that are not partitioned (hypertables) are left alone: TimescaleDB
makes and drops its chunks itself.
"""

import re
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.adapters.database.rows import month_of, stamp
from tidegate.adapters.database.tables import PARTITIONED

_LOCK = 0x7469_6465
"""An advisory lock: two who make the same month at the same time would fail."""

_KIND = text("select relkind::text from pg_class where oid = to_regclass(:name)")
_MONTHS = text("select inhrelid::regclass::text from pg_inherits where inhparent = to_regclass(:name)")


async def is_partitioned(connection: AsyncConnection, table: str) -> bool:
    """Whether ``table`` is partitioned here. Raises ``ValueError`` for one that never is."""
    if table not in PARTITIONED:
        raise ValueError(f"{table} is never partitioned; {' and '.join(PARTITIONED)} are")
    return (await connection.execute(_KIND, {"name": table})).scalar() == "p"


async def ensure_partitions(connection: AsyncConnection, table: str, start_ns: int, end_ns: int) -> list[str]:
    """Make the missing months of ``table`` from that of ``start_ns`` to that of ``end_ns``, both included.

    Returns the names of those made; none where the table is not partitioned. Part of the caller's transaction.
    """
    if not await is_partitioned(connection, table):
        return []
    existing = await _existing(connection, table)
    missing = [each for each in months(start_ns, end_ns) if partition_name(table, each) not in existing]
    if not missing:
        return []
    await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    existing = await _existing(connection, table)
    made = [each for each in missing if partition_name(table, each) not in existing]
    for first in made:
        name = partition_name(table, first)
        await connection.execute(text(f"create table {name} (like {table} including all)"))
        bounds = f"from ('{first.isoformat()}') to ('{_next_month(first).isoformat()}')"
        await connection.execute(text(f"alter table {table} attach partition {name} for values {bounds}"))
    return [partition_name(table, each) for each in made]


async def drop_partitions(connection: AsyncConnection, table: str, before_ns: int) -> list[str]:
    """Drop the months of ``table`` that end at or before ``before_ns``; returns their names, the oldest first."""
    if not await is_partitioned(connection, table):
        return []
    first_kept = month_of(before_ns)
    monthly = re.compile(rf"{table}_\d{{4}}_\d{{2}}")
    names = sorted(name for name in await _existing(connection, table) if monthly.fullmatch(name))
    old = [name for name in names if name < partition_name(table, first_kept)]
    for name in old:
        await connection.execute(text(f"drop table {name}"))
    return old


def months(start_ns: int, end_ns: int) -> list[datetime]:
    """The first instants of the months from that of ``start_ns`` to that of ``end_ns``."""
    month = month_of(start_ns)
    found = []
    while month <= stamp(end_ns):
        found.append(month)
        month = _next_month(month)
    return found


def partition_name(table: str, month: datetime) -> str:
    """``market_data_2026_11``."""
    return f"{table}_{month.year:04d}_{month.month:02d}"


def _next_month(month: datetime) -> datetime:
    year, index = divmod(month.year * 12 + month.month, 12)
    return datetime(year, index + 1, 1, tzinfo=UTC)


async def _existing(connection: AsyncConnection, table: str) -> set[str]:
    found = (await connection.execute(_MONTHS, {"name": table})).scalars()
    return {name.rpartition(".")[2] for name in found}
