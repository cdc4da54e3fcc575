"""A repository whose writes are one transaction: others see all of them, or none."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tidegate.adapters.database.trading import PostgresTrading


@asynccontextmanager
async def one_transaction(engine: AsyncEngine) -> AsyncIterator[PostgresTrading]:
    """Commits at the end of the block; an error in it takes everything back."""
    async with engine.begin() as connection:
        yield PostgresTrading(cast(AsyncEngine, _Within(connection)))


class _Within:
    """What the repository asks of an engine, over one connection: each of its transactions is a savepoint."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with self._connection.begin_nested():
            yield self._connection

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        yield self._connection
