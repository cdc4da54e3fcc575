"""Every index earns its keep: the planner takes it for the repository's own statement, over full tables.

Nothing of the planner is set. The tables are filled, analysed, and each statement is explained with its values. When
the index is dropped the same check must fail, or it would prove nothing. An index that no statement here needs has no
place in the schema.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import ClauseElement, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tests.fakes.database_fill import ACCOUNT, BAR_SERIES, END_NS, SESSION, START_NS, fill
from tests.fakes.migrated_database import migrated_database
from tidegate.adapters.database import statements
from tidegate.adapters.database.bars import compiled, driver_of
from tidegate.adapters.database.connecting import open_engine
from tidegate.adapters.database.tables import metadata
from tidegate.domain.market import DAY_NS, HOUR_NS

LATE = END_NS - 6 * HOUR_NS
DAY = (END_NS - DAY_NS, END_NS)


@dataclass(frozen=True)
class Use:
    """The statement that an index is for."""

    statement: Callable[..., ClauseElement]
    arguments: tuple[Any, ...]


INDEXED_BY = {
    "ix_orders_open": Use(statements.open_orders, (ACCOUNT,)),
    "ix_orders_state": Use(statements.orders_in_state, (ACCOUNT, "REJECTED", 100)),
    "ix_orders_parent": Use(statements.orders_of_parent, (ACCOUNT, SESSION, "p7")),
    "ix_orders_created": Use(statements.orders_since, (ACCOUNT, LATE, 100)),
    "ix_fills_time": Use(statements.fills_since, (ACCOUNT, LATE, 100)),
    "ix_fills_symbol_time": Use(statements.fills_since, (ACCOUNT, LATE, 100, "S3USDT")),
    "ix_fills_order": Use(statements.fills_of_order, (ACCOUNT, "o77")),
    "ix_trades_closed": Use(statements.trades_closed, (ACCOUNT, *DAY)),
    "ix_trades_symbol": Use(statements.trades_closed, (ACCOUNT, END_NS - 30 * DAY_NS, END_NS, "S3USDT")),
    "ix_positions_open": Use(statements.open_positions, (ACCOUNT,)),
    "ix_parent_orders_time": Use(statements.parent_orders_since, (ACCOUNT, LATE, 100)),
    "ix_funding_time": Use(statements.funding_since, (ACCOUNT, LATE, 100)),
    "ix_funding_symbol": Use(statements.funding_since, (ACCOUNT, START_NS, 100, "S3USDT")),
    "ix_income_lines_time": Use(statements.income_since, (ACCOUNT, LATE, 100)),
    "ix_wallets_time": Use(statements.wallet_at, (ACCOUNT, "USDT", LATE)),
    "ix_portfolios_curve": Use(statements.equity_curve, (ACCOUNT, *DAY)),
    "ix_risk_metrics_latest": Use(statements.latest_risk, (ACCOUNT, 1)),
    "ix_strategy_performances_time": Use(statements.performance, (ACCOUNT, *DAY, "Trend")),
    "ix_regimes_time": Use(statements.regimes_since, (ACCOUNT, LATE, 100)),
    "ix_model_fits_latest": Use(statements.latest_model, (ACCOUNT, "m3", LATE)),
    "ix_audit_time": Use(statements.audit_since, (ACCOUNT, LATE, 100)),
    "ix_audit_kind": Use(statements.audit_since, (ACCOUNT, START_NS, 100, "HALT")),
    "ix_audit_subject": Use(statements.audit_since, (ACCOUNT, START_NS, 100, None, "S3USDT")),
    "ix_market_data_symbol": Use(statements.newest_series, ("S3USDT", "1m")),
    "pk_market_data": Use(statements.bars_in_range, (BAR_SERIES, END_NS - DAY_NS, END_NS)),
    "pk_fills": Use(statements.known_trade_ids, (ACCOUNT, "live", "S3USDT", list(range(100)))),
}
MORE = {
    "pk_market_data": [
        Use(statements.last_bars, (BAR_SERIES, 100)),
        Use(statements.gaps_in_range, (BAR_SERIES, END_NS - DAY_NS, END_NS)),
        Use(statements.any_bar_in_range, (BAR_SERIES, END_NS - DAY_NS, END_NS)),
        Use(statements.delete_bars, (BAR_SERIES, END_NS - DAY_NS, END_NS)),
    ],
    "ix_fills_time": [Use(statements.money_by_day, (ACCOUNT, *DAY))],
    "ix_funding_time": [Use(statements.money_by_day, (ACCOUNT, *DAY))],
    "ix_income_lines_time": [Use(statements.money_by_day, (ACCOUNT, *DAY))],
}


@pytest.fixture(scope="module", params=["plain", "timescale"])
def full_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database whose tables are full and analysed."""
    server = request.getfixturevalue("postgres_url" if request.param == "plain" else "timescale_url")
    with migrated_database(server) as url:
        fill(url)
        yield url


@pytest_asyncio.fixture
async def engine(full_database: str) -> AsyncIterator[AsyncEngine]:
    made = open_engine(full_database)
    yield made
    await made.dispose()


async def used_indexes(connection: AsyncConnection, use: Use) -> set[str]:
    """The indexes in the plan, those of partitions and chunks by the name of the index that they are part of."""
    statement, arguments = compiled(connection, use.statement(*use.arguments))
    parts = {row.part: row.whole for row in await connection.execute(text(_PARTS))}
    plan = await (await driver_of(connection)).fetch(f"explain {statement}", *arguments)
    lines = "\n".join(row[0] for row in plan)
    names = re.findall(r"(?:Index (?:Only )?Scan (?:Backward )?using|Bitmap Index Scan on) (\S+)", lines)
    return {_OF_CHUNK.sub("", parts.get(name, name).strip('"')) for name in names}


_PARTS = "select inhrelid::regclass::text as part, inhparent::regclass::text as whole from pg_inherits"
"""Indexes of partitions are children of the index of the table."""

_OF_CHUNK = re.compile(r"^(?:\d+_\d+_|_hyper_\d+_\d+_chunk_)")
"""Those of chunks have its name behind their number."""


@pytest.mark.parametrize("name", INDEXED_BY)
async def test_the_statement_takes_its_index_and_the_check_fails_without(engine: AsyncEngine, name: str) -> None:
    async with engine.connect() as connection:
        for use in (INDEXED_BY[name], *MORE.get(name, ())):
            assert name in await used_indexes(connection, use), use
        if name.startswith("ix_"):
            await connection.execute(text(f"drop index {name}"))
            assert name not in await used_indexes(connection, INDEXED_BY[name])
        await connection.rollback()
        assert name in await used_indexes(connection, INDEXED_BY[name])


def test_every_index_has_its_statement() -> None:
    stated = {index.name for table in metadata.tables.values() for index in table.indexes}
    assert len(stated) >= 15
    assert stated == {name for name in INDEXED_BY if name.startswith("ix_")}
