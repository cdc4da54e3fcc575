"""The fixtures of ``tests.databases``: fresh, empty, and on the server that they name."""

import asyncio

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.databases import TIMESCALE, connection_arguments, fresh_database, timescale_server


@pytest.mark.parametrize("round_", [1, 2])
async def test_each_test_has_an_empty_database(database: str, round_: int) -> None:
    engine = create_async_engine(database)
    try:
        async with engine.begin() as connection:
            tables = "select count(*) from pg_tables where schemaname = 'public'"
            assert await connection.scalar(text(tables)) == 0
            await connection.execute(text("create table left_behind (n int)"))
            assert await connection.scalar(text("show server_encoding")) == "UTF8"
            assert await connection.scalar(text("show timezone")) in ("UTC", "Etc/UTC")
    finally:
        await engine.dispose()


async def test_the_extension_is_where_it_should_be(database: str, request: pytest.FixtureRequest) -> None:
    engine = create_async_engine(database)
    try:
        async with engine.connect() as connection:
            available = "select count(*) from pg_available_extensions where name = 'timescaledb'"
            expected = 1 if "[timescale]" in request.node.name else 0
            assert await connection.scalar(text(available)) == expected
    finally:
        await engine.dispose()


async def test_a_connection_left_open_does_not_keep_the_database(postgres_url: str) -> None:
    fresh = fresh_database(postgres_url)
    url = await asyncio.to_thread(fresh.__enter__)
    left = await asyncpg.connect(**connection_arguments(url))
    await asyncio.to_thread(fresh.__exit__, None, None, None)
    left.terminate()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(**connection_arguments(url))


def test_without_timescaledb_a_test_is_skipped_and_in_ci_it_fails() -> None:
    with pytest.raises(pytest.skip.Exception, match=TIMESCALE):
        timescale_server({})
    with pytest.raises(pytest.fail.Exception, match=TIMESCALE):
        timescale_server({"CI": "true"})
    assert timescale_server({TIMESCALE: "postgresql://u@h:1/d", "CI": "true"}) == "postgresql+asyncpg://u@h:1/d"
