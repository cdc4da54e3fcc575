"""Connections: SQLAlchemy's engine and asyncpg's pool over one way of connecting.

asyncpg reads the address itself, so that it understands what libpq does: ``host`` of a unix socket, ``sslmode``,
``PGPASSWORD``, ``PGPASSFILE``. SQLAlchemy never sees an address, hence can show none.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from tidegate.domain.errors import ConfigError, NotRunning

CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_MS = 60_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000
POOL_SIZE = 4

_LIMITS = {
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
}


def without_password(url: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(libpq_url(url))
    user, at, place = parts.netloc.rpartition("@")
    query = "&".join(each for each in parts.query.split("&") if each and not each.startswith("password="))
    bare = f"{parts.scheme}://{user.partition(':')[0]}{at}{place}{parts.path}"
    return f"{bare}?{query}" if query else bare


def libpq_url(url: str) -> str:
    """The address as libpq and asyncpg read it: without the driver that SQLAlchemy's names, and with the port of a
    unix socket (``//user@:5432/name?host=/folder``) among the options, where asyncpg looks for it."""
    parts = urlsplit(url.replace("postgresql+asyncpg://", "postgresql://", 1))
    user, at, place = parts.netloc.rpartition("@")
    if not place.startswith(":") or "host=" not in parts.query:
        return parts.geturl()
    return parts._replace(netloc=f"{user}{at}", query=f"{parts.query}&port={place[1:]}").geturl()


async def connect(url: str, settings: dict[str, str] | None = None) -> "asyncpg.Connection[Any]":
    """One connection of asyncpg in UTC. Raises ``NotRunning`` when nobody answers, ``ConfigError`` when refused."""
    own = {"application_name": "tidegate", "timezone": "UTC", **(settings or {})}
    try:
        return await asyncpg.connect(libpq_url(url), timeout=CONNECT_TIMEOUT_S, server_settings=own)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError) as error:
        said = str(error) or type(error).__name__
        raise NotRunning(f"database {without_password(url)} does not answer: {said}") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError) as error:
        raise ConfigError(f"database {without_password(url)} refuses us: {error}") from None


def admin_engine(url: str) -> AsyncEngine:
    """For migrations: one connection at a time, and no statement is too long."""
    return create_async_engine("postgresql+asyncpg://", async_creator=_creator(url, {}), poolclass=NullPool)


def open_engine(url: str) -> AsyncEngine:
    """For queries: a small pool, and a statement or an idle transaction ends after a minute."""
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=_creator(url, _LIMITS),
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=CONNECT_TIMEOUT_S,
    )


async def open_pool(url: str) -> "asyncpg.Pool[Any]":
    """asyncpg's own pool, for COPY and LISTEN; the limits are those of ``open_engine``. Close it."""
    pool: asyncpg.Pool[Any] = await asyncpg.create_pool(
        libpq_url(url),
        connect=lambda *_, **__: connect(url, _LIMITS),
        min_size=0,
        max_size=POOL_SIZE,
    )
    return pool


def _creator(url: str, settings: dict[str, str]) -> Callable[[], Awaitable[Any]]:
    async def create() -> Any:
        return await connect(url, settings)

    return create


async def close_pool(pool: "asyncpg.Pool[Any]") -> None:
    """Close it in good order, or at once when a connection does not come back."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()
