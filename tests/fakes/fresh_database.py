"""A database of its own on a test server, with our schema, and gone afterwards."""

import asyncio
import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from tidegate.adapters.database.connecting import connect, libpq_url
from tidegate.adapters.database.schema import migrate


@contextlib.contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The address of a new, migrated database on the server of ``server_url``."""
    name = f"test_{uuid4().hex[:12]}"
    url = urlsplit(libpq_url(server_url))._replace(path=f"/{name}").geturl()
    asyncio.run(_run(server_url, f"create database {name} template template0"))
    try:
        asyncio.run(migrate(url))
        yield url
    finally:
        asyncio.run(_run(server_url, f"drop database {name} with (force)"))


async def _run(url: str, statement: str) -> None:
    connection: asyncpg.Connection = await connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
