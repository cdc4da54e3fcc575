"""What a server can do with the two large tables, and the statements that follow from it.

``plain`` is PostgreSQL alone: partitions by month. ``apache`` is TimescaleDB as distributions build it: hypertables,
and no compression, policies or continuous aggregates. ``timescale`` is the full edition. A partitioned table cannot
become a hypertable, so the tier is found before the first table is made, and written down in ``schema_tier``.
"""

from sqlalchemy import Connection

PLAIN, APACHE, TIMESCALE = "plain", "apache", "timescale"
CHUNK = "interval '7 days'"
COMPRESS_AFTER = "interval '30 days'"


def detect_tier(connection: Connection, wanted: str = "auto") -> str:
    """The tier of a server; makes the extension where there is one. No failure of it is hidden: that would be a
    schema that the next revision does not expect."""
    if wanted not in ("auto", PLAIN):
        raise ValueError(f"database.tier is {wanted!r}; it must be auto or plain")
    if wanted == PLAIN:
        return PLAIN
    available = "select count(*) from pg_available_extensions where name = 'timescaledb'"
    if not connection.exec_driver_sql(available).scalar_one():
        return PLAIN
    connection.exec_driver_sql("create extension if not exists timescaledb")
    licence = connection.exec_driver_sql("select current_setting('timescaledb.license')").scalar_one()
    if licence not in (APACHE, TIMESCALE):
        raise ValueError(f"timescaledb.license is {licence!r}, which is not known; say database.tier: plain")
    return str(licence)


def recorded_tier(connection: Connection) -> str:
    """The tier that the tables were made for."""
    return str(connection.exec_driver_sql("select tier from schema_tier").scalar_one())


def partition_clause(tier: str) -> str:
    """What stands at the end of ``create table``."""
    return " partition by range (ts)" if tier == PLAIN else ""


def spread(tier: str, table: str, segments: str) -> list[str]:
    """What follows ``create table``: the hypertable and its compression. Months are made when rows come: there is no
    default partition, whose rows no dropped month would take along."""
    if tier == PLAIN:
        return []
    made = [f"select create_hypertable('{table}', by_range('ts', {CHUNK}), create_default_indexes => false)"]
    return made if tier == APACHE else [*made, *compressed(table, segments)]


def compressed(table: str, segments: str) -> list[str]:
    """Columns instead of rows for chunks that nothing is added to any more. Full edition only."""
    return [
        f"alter table {table} set (timescaledb.compress, timescaledb.compress_segmentby = '{segments}',"
        " timescaledb.compress_orderby = 'ts desc')",
        f"select add_compression_policy('{table}', {COMPRESS_AFTER})",
    ]


DAILY_BARS = """
create materialized view market_data_daily with (timescaledb.continuous) as
select source, account_id, session_id, symbol, interval,
       time_bucket(interval '1 day', ts, interval '1 microsecond') as day,
       first(open, ts) as open, max(high) as high, min(low) as low, last(close, ts) as close,
       sum(volume) as volume, count(*) as bars
from market_data
group by source, account_id, session_id, symbol, interval, day
with no data"""
"""Full edition only. ``ts`` is the exclusive end of a bar, so the bar that ends at midnight is the day's last."""

DAILY_BARS_POLICY = """
select add_continuous_aggregate_policy('market_data_daily', start_offset => interval '7 days',
    end_offset => interval '1 day', schedule_interval => interval '1 hour')"""
