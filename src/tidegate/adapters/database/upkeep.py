"""Keeping the database small: what is older than its days is dropped.

Only ``market_data`` and ``risk_metrics`` grow with time alone. Both are in pieces by time, so that dropping is a matter
of an instant and leaves no holes in the files: months on plain PostgreSQL, chunks on TimescaleDB (``drop_chunks`` is in
every edition; a retention policy is not, and is not needed). A piece goes when all of it is old, so somewhat more than
the days is kept. Orders, fills, payments and the audit trail are never dropped.
"""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tidegate.adapters.database.failures import one_error
from tidegate.adapters.database.partitions import drop_partitions, is_partitioned
from tidegate.adapters.database.rows import stamp
from tidegate.domain.market import DAY_NS

_DROP_CHUNKS = text("select drop_chunks(cast(:name as regclass), older_than => cast(:before as timestamptz))::text")


async def drop_before(engine: AsyncEngine, table: str, before_ns: int) -> list[str]:
    """Drop the pieces of a table that end at or before ``before_ns``; returns their names.

    Raises ``ValueError`` for a table that is not in pieces, ``DatabaseError``.
    """
    with one_error(f"dropping old rows of {table}"):
        async with engine.begin() as connection:
            if await is_partitioned(connection, table):
                return await drop_partitions(connection, table, before_ns)
            found = await connection.execute(_DROP_CHUNKS, {"name": table, "before": stamp(before_ns)})
            return sorted(found.scalars())


async def apply_retention(
    engine: AsyncEngine, keep_days: Mapping[str, int | None], now_ns: int
) -> dict[str, list[str]]:
    """Drop what is older than its days, by table; None keeps all. Returns the pieces dropped by table."""
    days = {table: count for table, count in keep_days.items() if count is not None}
    return {table: await drop_before(engine, table, now_ns - count * DAY_NS) for table, count in days.items()}
