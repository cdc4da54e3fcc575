"""Old pieces go whole, and nothing else does; months are made once, whoever asks."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fakes.migrated_database import migrated_database
from tidegate.adapters.database.bars import PostgresBars
from tidegate.adapters.database.connecting import open_engine
from tidegate.adapters.database.partitions import ensure_partitions, is_partitioned
from tidegate.adapters.database.upkeep import apply_retention, drop_before
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import DAY_NS, HOUR_NS, BarSpec
from tidegate.ports import BarSeries
from tidegate.quant.bars import BarTable

T0 = 1_767_225_600 * 10**9  # 2026-01-01
HOURLY = BarSeries("file", InstrumentId("BTCUSDT"), BarSpec.of("1h"))


@pytest.fixture(scope="module", params=["plain", "timescale"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    server = request.getfixturevalue("postgres_url" if request.param == "plain" else "timescale_url")
    with migrated_database(server) as made:
        yield made


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    made = open_engine(url)
    async with made.begin() as connection:
        await connection.execute(text("truncate market_data"))
    yield made
    await made.dispose()


async def test_what_is_old_goes_and_what_is_younger_stays(engine: AsyncEngine) -> None:
    bars, count = PostgresBars(engine), 120 * 24
    ends = T0 + HOUR_NS * np.arange(1, count + 1, dtype=np.int64)
    await bars.save(HOURLY, [BarTable(HOUR_NS, ends, *(np.ones(count) for _ in range(5)))])
    assert await drop_before(engine, "market_data", T0) == []
    limit = T0 + 75 * DAY_NS  # in the middle of March
    dropped = await apply_retention(engine, {"market_data": 45, "risk_metrics": None}, T0 + 120 * DAY_NS)
    assert list(dropped) == ["market_data"]
    assert dropped["market_data"]
    left = await bars.load(HOURLY, 0, 4 * 10**18)
    assert len(left) < count
    assert left.ts_ns[0] <= limit
    assert limit - left.ts_ns[0] <= 31 * DAY_NS
    assert np.array_equal(left.ts_ns, ends[-len(left) :])
    assert (await drop_before(engine, "market_data", limit)) == []
    await bars.save(HOURLY, [BarTable(HOUR_NS, ends, *(np.ones(count) for _ in range(5)))])
    assert len(await bars.load(HOURLY, 0, 4 * 10**18)) == count


async def test_only_what_is_in_pieces_can_be_dropped(engine: AsyncEngine) -> None:
    with pytest.raises(ValueError, match="fills is never partitioned; market_data and risk_metrics are"):
        await drop_before(engine, "fills", T0)


async def test_a_month_is_made_once_whoever_asks(engine: AsyncEngine) -> None:
    async def make() -> list[str]:
        async with engine.begin() as connection:
            return await ensure_partitions(connection, "risk_metrics", T0 - 400 * DAY_NS, T0 - 340 * DAY_NS)

    async with engine.connect() as connection:
        partitioned = await is_partitioned(connection, "risk_metrics")
    made = await asyncio.gather(*(make() for _ in range(4)))
    names = ["risk_metrics_2024_11", "risk_metrics_2024_12", "risk_metrics_2025_01"]
    assert sorted(made)[-1] == (names if partitioned else [])
    assert sorted(made)[:3] == [[], [], []]
    async with engine.begin() as connection:
        found = await connection.execute(
            text("select count(*) from pg_indexes where tablename = 'risk_metrics_2024_12'")
        )
        assert found.scalar() == (2 if partitioned else 0)
