"""Real databases for the tests: the embedded PostgreSQL, and a TimescaleDB server from ``scripts/timescale.sh``.

``database`` runs a test twice, each time with a fresh and empty database, once on either server.
"""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from sqlalchemy.engine import URL, make_url

from tidegate.adapters.database.embedded import EmbeddedServer

TIMESCALE = "TIDEGATE_TEST_TIMESCALE"
_T = TypeVar("_T")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """An embedded server, its own for each test process; it ends with that process, even by ``kill -9``."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-tests-", dir="/tmp"))
    folder.chmod(0o711)  # as root the server runs as another account and must pass through
    server = None
    try:
        server = _wait_for(EmbeddedServer.start(folder / "pg"))  # in this thread: the server lives as long as it does
        yield server.url
    finally:
        if server is not None:
            _wait_for(server.stop())
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def timescale_url() -> str:
    """The TimescaleDB server that the environment names."""
    return timescale_server(os.environ)


def timescale_server(environment: Mapping[str, str]) -> str:
    """SQLAlchemy's URL of the server. Without one the test that asks is skipped; in CI it fails."""
    given = environment.get(TIMESCALE, "")
    if given:
        return make_url(given).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    reason = f"{TIMESCALE} is not set: no TimescaleDB server (scripts/timescale.sh start FOLDER prints its address)"
    if environment.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(params=["plain", "timescale"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """SQLAlchemy's URL of a fresh database, dropped afterwards: once on plain PostgreSQL, once on TimescaleDB."""
    server = "postgres_url" if request.param == "plain" else "timescale_url"
    with fresh_database(request.getfixturevalue(server)) as url:
        yield url


@pytest.fixture
def plain_database(postgres_url: str) -> Iterator[str]:
    """A fresh database on plain PostgreSQL alone, for what has nothing to do with the server."""
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def timescale_database(timescale_url: str) -> Iterator[str]:
    """A fresh database on TimescaleDB alone; the extension is there to be created."""
    with fresh_database(timescale_url) as url:
        yield url


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The URL of an empty database, from template0; at the end it is dropped, with whoever is still connected to it."""
    name = f"test_{uuid.uuid4().hex}"
    _wait_for(_execute(server_url, f"create database {name} template template0"))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        _wait_for(_execute(server_url, f"drop database if exists {name} with (force)"))


def connection_arguments(url: str) -> dict[str, Any]:
    """What ``asyncpg.connect`` wants for the same database."""
    parts: URL = make_url(url)
    host = parts.host or parts.query["host"]
    return {"host": host, "port": parts.port, "user": parts.username, "database": parts.database, "ssl": False}


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(**connection_arguments(url))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _wait_for(work: Coroutine[Any, Any, _T]) -> _T:
    """A loop of its own, which leaves alone what pytest-asyncio has set."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
