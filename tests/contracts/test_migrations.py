"""The migrations on real servers: up, down and up again, one revision at a time, and no row lost on the way up.

What the last revision leads to is held against ``tables.py`` twice: by alembic's own comparison, which must see planted
differences, and line by line against tables that SQLAlchemy makes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from enum import Enum
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.databases import connection_arguments
from tidegate.adapters.database import tiers
from tidegate.adapters.database.connecting import admin_engine
from tidegate.adapters.database.schema import (
    SchemaMismatch,
    check_revision,
    current_revision,
    downgrade,
    dump_schema,
    head_revision,
    is_ours,
    migrate,
    read_report,
    revisions,
    tier_of,
)
from tidegate.adapters.database.tables import PARTITIONED, metadata
from tidegate.domain import orders as words
from tidegate.domain.errors import ConfigError, DatabaseError
from tidegate.domain.signals import Scenario

STEPS = ["base", *revisions()]
DAY_NS = 86_400_000_000_000
MAY_2024 = "2024-05-03 12:00:00+00"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncConnection]:
    engine = admin_engine(url)
    try:
        async with engine.connect() as connection:
            yield connection
            await connection.commit()
    finally:
        await engine.dispose()


async def run(url: str, *statements: str) -> None:
    async with connected(url) as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)


async def rows(url: str, query: str) -> list[Any]:
    async with connected(url) as connection:
        return [tuple(row) for row in await connection.exec_driver_sql(query)]


async def dump(url: str) -> str:
    async with connected(url) as connection:
        return await connection.run_sync(dump_schema)


# ---- up and down ----------------------------------------------------------------------------------------------------


async def test_up_down_and_up_again_leave_the_same_schema(database: str) -> None:
    assert await migrate(database) == (None, head_revision())
    first = await dump(database)
    assert len(first.splitlines()) > 200
    assert await downgrade(database, "base") == (head_revision(), "base")
    assert await dump(database) == ""
    assert await migrate(database) == (None, head_revision())
    assert await dump(database) == first


async def test_every_revision_goes_down_to_exactly_the_one_before_it(database: str) -> None:
    seen = {"base": await dump(database)}
    for revision in revisions():
        await migrate(database, to=revision)
        seen[revision] = await dump(database)
    assert len({*seen.values()}) == len(STEPS), "a revision that changes nothing"
    for above, below in zip(STEPS[:0:-1], STEPS[-2::-1], strict=True):
        assert await downgrade(database, below) == (above, below)
        assert await dump(database) == seen[below]
        await migrate(database, to=above)
        assert await dump(database) == seen[above]
        await downgrade(database, below)


async def test_two_programs_that_start_together_migrate_once(database: str) -> None:
    ways = await asyncio.gather(*(migrate(database) for _ in range(3)))
    head = head_revision()
    assert sorted(ways, key=str) == [(head, head), (head, head), (None, head)]


async def test_a_migration_that_fails_leaves_the_revisions_before_it_and_nothing_of_itself(database: str) -> None:
    await run(database, "create table regimes (in_the_way integer)")
    with pytest.raises(DatabaseError, match=r'^migration: relation "regimes" already exists$'):
        await migrate(database)
    await run(database, "drop table regimes")
    left = await dump(database)
    assert await downgrade(database, "base") == ("0002", "base")
    await migrate(database, to="0002")
    assert await dump(database) == left


# ---- rows -----------------------------------------------------------------------------------------------------------

_SAMPLE = {
    "text": "'{column} {n}'",
    "bigint": "1714737600000000000 + {n}",
    "integer": "{n}",
    "numeric": "{n}.000000000000000001",
    "double precision": "{n}.25",
    "boolean": "true",
    "jsonb": "'{{\"n\": {n}}}'",
    "bytea": "'\\x00ff{n:02d}'",
    "timestamp with time zone": f"timestamptz '{MAY_2024}' + interval '{{n}} seconds'",
}


async def fill(url: str, count: int, offset: int) -> dict[str, list[dict[str, Any]]]:
    """Put rows into every table of ours that is there, as an older program would; returns all rows by table."""
    connection = await asyncpg.connect(**connection_arguments(url))
    try:
        names = await tables_of(url)
        for table in names:
            columns = await connection.fetch(
                "select attname, format_type(atttypid, atttypmod) as kind, "
                "(select min(enumlabel) from pg_enum where enumtypid = atttypid) as label "
                "from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped",
                table,
            )
            if await is_partitioned(connection, table):
                part = f"{table}_2024_05"
                await connection.execute(
                    f"create table if not exists {part} partition of {table} for values "
                    "from ('2024-05-01 00:00:00+00') to ('2024-06-01 00:00:00+00')"
                )
            for n in range(offset, offset + count):
                values = [
                    f"'{each['label']}'" if each["label"] else _SAMPLE[each["kind"]].format(column=each["attname"], n=n)
                    for each in columns
                ]
                quoted = ", ".join(f'"{each["attname"]}"' for each in columns)
                await connection.execute(f"insert into {table} ({quoted}) values ({', '.join(values)})")
        return {table: [dict(row) for row in await connection.fetch(f"select * from {table}")] for table in names}
    finally:
        await connection.close()


async def tables_of(url: str) -> list[str]:
    async with connected(url) as connection:
        return [name for name in (await read_report(connection)).tables if name != "schema_tier"]


async def is_partitioned(connection: Any, table: str) -> bool:
    return bool(await connection.fetchval("select relkind = 'p' from pg_class where oid = $1::regclass", table))


async def test_no_row_is_lost_on_the_way_up_and_old_ones_get_sensible_values(database: str) -> None:
    known: dict[str, list[dict[str, Any]]] = {}
    for offset, revision in enumerate(revisions()):
        await migrate(database, to=revision)
        for table, kept in known.items():
            now = await _all(database, table)
            assert len(now) == len(kept)
            for old in kept:
                assert any(old.items() <= each.items() for each in now), (revision, table, old)
        known = await fill(database, 2, offset * 10)
    assert set(known) == set(metadata.tables) - {"schema_tier"}


async def _all(url: str, table: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(**connection_arguments(url))
    try:
        return [dict(row) for row in await connection.fetch(f"select * from {table}")]
    finally:
        await connection.close()


async def test_rows_from_before_funding_was_known_have_none_and_keep_their_result(database: str) -> None:
    await migrate(database, to="0001")
    await run(
        database,
        "insert into trades values ('a', 'live', 'BTCUSDT', 7, 's', 'BUY', 1, 2, 1, 100, 110, 10, 0.3, 0.09, 'STOP')",
        "insert into positions values ('a', 'live', 'BTCUSDT', 's', 1, 100, 100, 0, 0.05, 2)",
    )
    await migrate(database)
    assert await rows(database, "select funding, net_pnl from trades") == [(Decimal(0), Decimal("9.61"))]
    assert await rows(database, "select funding, fees from positions") == [(Decimal(0), Decimal("0.05"))]


async def test_wallets_from_before_realms_get_that_of_their_session(database: str) -> None:
    await migrate(database, to="0003")
    await run(
        database,
        f"insert into sessions values ('a', 's1', 'live', 'live', 1, '{MAY_2024}', 'x', '{{}}', null)",
        "insert into wallets values ('a', 's1', 'USDT', 1, 5, 1), ('a', 'lost', 'USDT', 1, 6, 1)",
        f"insert into portfolios values ('a', 's1', 1, '{MAY_2024}', 5, 0, 5, 0, 0, 0)",
    )
    await migrate(database)
    assert await rows(database, "select session_id, realm from wallets order by 1") == [
        ("lost", "lost"),
        ("s1", "live"),
    ]
    assert await rows(database, "select realm from portfolios") == [("live",)]
    assert await rows(database, "select projected_seq, projector from sessions") == [(0, None)]


# ---- what it leads to -----------------------------------------------------------------------------------------------


def differences(connection: Connection) -> list[Any]:
    options = {"include_name": is_ours(connection), "compare_server_default": True, "compare_type": True}
    return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


async def test_alembic_sees_no_difference_from_the_tables(database: str) -> None:
    await migrate(database)
    await fill(database, 1, 0)  # partitions and chunks are no difference
    async with connected(database) as connection:
        assert await connection.run_sync(differences) == []


@pytest.mark.parametrize(
    "planted",
    [
        "alter table fills add column surplus text",
        "alter table market_data drop column volume",
        "alter table orders alter column qty type double precision",
        "alter table trades alter column net_pnl drop not null",
        "alter table orders alter column filled_qty drop default",
        "drop index ix_risk_metrics_latest",
        "create index ix_surplus on wallets (wallet)",
        "create table surplus (n integer)",
        "drop table model_fits",
    ],
)
async def test_alembic_sees_a_planted_difference(database: str, planted: str) -> None:
    await migrate(database)
    await run(database, planted)
    async with connected(database) as connection:
        assert len(await connection.run_sync(differences)) >= 1


WANTED = ("column", "constraint", "index", "enum", "trigger", "function")


async def made_by_sqlalchemy(url: str) -> set[str]:
    """The lines of tables that SQLAlchemy makes from ``tables.py``, in a schema of their own."""
    async with connected(url) as connection:
        await connection.exec_driver_sql("create schema wanted")
        await connection.exec_driver_sql("set search_path to wanted")
        await connection.run_sync(metadata.create_all)
        return comparable(await connection.run_sync(dump_schema))


def comparable(text: str) -> set[str]:
    return {line for line in text.splitlines() if line.split()[0] in WANTED}


async def test_the_last_revision_is_what_the_tables_say_line_by_line(database: str) -> None:
    await migrate(database)
    lines = comparable(await dump(database))
    assert lines == await made_by_sqlalchemy(database)


@pytest.mark.parametrize(
    "planted",
    [
        "alter type side add value 'NEITHER'",
        "alter table trades drop constraint pk_trades",
        "alter table sessions add constraint surplus check (gen > 0)",
        "drop index ix_positions_open; create index ix_positions_open on positions (account_id, symbol)",
    ],
)
async def test_line_by_line_sees_what_alembic_does_not(plain_database: str, planted: str) -> None:
    await migrate(plain_database)
    await run(plain_database, *planted.split(";"))
    assert comparable(await dump(plain_database)) != await made_by_sqlalchemy(plain_database)


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("side", words.Side),
        ("order_type", words.OrderType),
        ("order_state", words.OrderState),
        ("time_in_force", words.TimeInForce),
        ("position_side", words.PositionSide),
        ("scenario", Scenario),
    ],
)
async def test_the_enums_are_the_domain_s(plain_database: str, name: str, domain: type[Enum]) -> None:
    await migrate(plain_database)
    labels = await rows(plain_database, f"select unnest(enum_range(null::{name}))::text")
    assert [label for (label,) in labels] == [each.value for each in domain]


async def test_money_adds_up_by_day_in_sql(database: str) -> None:
    await migrate(database)
    fill_row = (
        "insert into fills values ('a', 'live', 'BTCUSDT', {id}, 's', 'c', 'BUY', 'BOTH', 1, 100, {fee}, '{asset}',"
        f" null, {{pnl}}, null, true, 'STRATEGY', 1, '{MAY_2024}', {{ts}}, 0)"
    )
    paid = f"'s', 'BTCUSDT', 'USDT', -0.3, 0.1, 1, false, 1, '{MAY_2024}', {DAY_NS + 2}"
    wallet = "insert into wallets values ('a', 's', 'USDT', {seq}, {wallet}, {ts}, 'live')"
    await run(
        database,
        wallet.format(seq=1, wallet=1000, ts=5),
        fill_row.format(id=1, fee="0.04", asset="USDT", pnl=0, ts=DAY_NS + 1),
        fill_row.format(id=2, fee="0.001", asset="BNB", pnl="2.5", ts=DAY_NS + 1),
        f"insert into funding_payments values ('a', 'live', 'l1', {paid})",
        "insert into income_lines values "
        f"('a', 'live', 'l2', 's', 'TRANSFER', null, 'USDT', 50, '', 1, '{MAY_2024}', {2 * DAY_NS + 1})",
        wallet.format(seq=2, wallet="1002.16", ts=DAY_NS + 9),
        wallet.format(seq=3, wallet="1052.17", ts=2 * DAY_NS + 9),
    )
    kinds = await rows(
        database, "select kind, asset, sum(amount), min(line) from wallet_changes group by 1, 2 order by 1, 2"
    )
    assert kinds == [
        ("COMMISSION", "BNB", Decimal("-0.001"), "2"),
        ("COMMISSION", "USDT", Decimal("-0.04"), "1"),
        ("FUNDING_FEE", "USDT", Decimal("-0.3"), "l1"),
        ("REALIZED_PNL", "USDT", Decimal("2.5"), "2"),
        ("TRANSFER", "USDT", Decimal(50), "l2"),
    ]
    days = await rows(
        database, "select day::text, change, wallet, difference from daily_wallets where asset = 'USDT' order by 1"
    )
    assert days == [
        ("1970-01-01", Decimal(0), Decimal(1000), None),
        ("1970-01-02", Decimal("2.16"), Decimal("1002.16"), Decimal(0)),
        ("1970-01-03", Decimal(50), Decimal("1052.17"), Decimal("0.01")),
    ]


# ---- tiers ----------------------------------------------------------------------------------------------------------


async def test_the_tier_is_found_and_recorded(database: str) -> None:
    await migrate(database)
    available = (await rows(database, "select count(*) from pg_available_extensions where name = 'timescaledb'"))[0][0]
    async with connected(database) as connection:
        assert await connection.run_sync(tier_of) == ("apache" if available else "plain")
    kept = await dump(database)
    for table in PARTITIONED:
        assert (f"hypertable {table} ts 7 days false" in kept) == bool(available)
        assert (f"table {table} partitioned by RANGE (ts)" in kept) != bool(available)


async def test_plain_tables_on_a_server_that_has_the_extension(timescale_database: str) -> None:
    await migrate(timescale_database, tier="plain")
    assert await rows(timescale_database, "select tier from schema_tier") == [("plain",)]
    assert await rows(timescale_database, "select 1 from pg_extension where extname = 'timescaledb'") == []
    assert "table market_data partitioned by RANGE (ts)" in await dump(timescale_database)
    await migrate(timescale_database)  # what was made stays what it is
    await downgrade(timescale_database, "base")


async def test_plain_is_refused_for_tables_that_are_hypertables(timescale_database: str) -> None:
    await migrate(timescale_database)
    with pytest.raises(ConfigError, match="the tables of this database were made for apache"):
        await migrate(timescale_database, tier="plain")


async def test_a_tier_that_fails_stops_the_migration(timescale_database: str) -> None:
    name = timescale_database.rpartition("/")[2]
    await run(
        timescale_database,
        f'create role "guest_{name}" login',
        f'grant create on schema public to "guest_{name}"',
    )
    guest = timescale_database.replace("postgres@", f"guest_{name}@", 1)
    try:
        with pytest.raises(DatabaseError, match="permission denied to create extension"):
            await migrate(guest)
        assert await dump(timescale_database) == ""
        await migrate(guest, tier="plain")
    finally:
        await run(timescale_database, f'drop owned by "guest_{name}" cascade', f'drop role "guest_{name}"')


@pytest.mark.parametrize("statement", [*tiers.compressed("market_data", "symbol"), tiers.DAILY_BARS])
async def test_what_the_full_edition_alone_can_is_refused_for_its_licence_only(
    timescale_database: str, statement: str
) -> None:
    await migrate(timescale_database)
    with pytest.raises(Exception, match='not supported under the current "apache" license'):
        await run(timescale_database, statement)


async def test_the_query_of_the_daily_bars_gives_the_midnight_bar_to_the_day_that_ends(timescale_database: str) -> None:
    await migrate(timescale_database)
    query = tiers.DAILY_BARS.partition(" as\n")[2].replace("with no data", "")
    bar = "('file', '', '', 'BTCUSDT', '12h', '{ts}+00', 0, {open}, {open} + 1, {open} - 1, {open}, 10)"
    stamps = ("2024-05-01 12:00", "2024-05-02 00:00", "2024-05-02 12:00")
    values = ", ".join(bar.format(ts=ts, open=100 + n) for n, ts in enumerate(stamps))
    await run(timescale_database, f"insert into market_data values {values}")
    found = await rows(timescale_database, f"select open, close, bars from ({query}) as daily order by day")
    assert found == [(100.0, 101.0, 2), (102.0, 102.0, 1)]


# ---- the wrong revision ---------------------------------------------------------------------------------------------


async def revision_of(url: str) -> str | None:
    async with connected(url) as connection:
        return await connection.run_sync(current_revision)


async def test_an_empty_and_an_older_schema_are_refused_with_what_mends_it(plain_database: str) -> None:
    with pytest.raises(SchemaMismatch, match=r"no schema yet.* needs revision 0004: run tidegate db migrate$"):
        check_revision(await revision_of(plain_database))
    await migrate(plain_database, to="0002")
    with pytest.raises(SchemaMismatch, match=r"has revision 0002.* needs 0004: run tidegate db migrate$"):
        check_revision(await revision_of(plain_database))
    await migrate(plain_database)
    check_revision(await revision_of(plain_database))


@pytest.mark.parametrize("change", [migrate, lambda url: downgrade(url, "0001")], ids=["migrate", "downgrade"])
async def test_a_newer_schema_is_refused_and_left_alone(plain_database: str, change: Callable[[str], Any]) -> None:
    await migrate(plain_database)
    before = await dump(plain_database)
    await run(plain_database, "update alembic_version set version_num = '9999'")
    newer = r"has revision 9999, which this program does not know \(its newest is 0004\): .*tidegate db downgrade 0004$"
    with pytest.raises(SchemaMismatch, match=newer):
        check_revision(await revision_of(plain_database))
    with pytest.raises(SchemaMismatch, match=newer):
        await change(plain_database)
    assert await dump(plain_database) == before


async def test_a_revision_that_does_not_exist_is_named(plain_database: str) -> None:
    with pytest.raises(ConfigError, match="'0007' is not a revision; there are base, 0001, "):
        await downgrade(plain_database, "0007")


async def test_the_same_tables_on_both_kinds_of_server(plain_database: str, timescale_database: str) -> None:
    await migrate(plain_database)
    await migrate(timescale_database)
    assert comparable(await dump(plain_database)) == comparable(await dump(timescale_database))
