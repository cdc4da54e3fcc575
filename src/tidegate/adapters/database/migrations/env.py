"""Runs the migrations: on the connection that ``schema.py`` hands in, or for the ``alembic`` command on one of its own.

Each revision is a transaction of its own: a failure leaves the revisions before it in place and nothing of itself.
Statements are never only printed (``--sql``), because a revision asks the server what it can do.
"""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection

from tidegate.adapters.database.connecting import admin_engine
from tidegate.adapters.database.schema import LOCK, is_ours
from tidegate.adapters.database.tables import metadata


def _run(connection: Connection) -> None:
    include_name = is_ours(connection)
    connection.commit()  # alembic commits only the transactions that it began
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        include_name=include_name,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _run_alone(url: str) -> None:
    engine = admin_engine(url)
    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql(f"select pg_advisory_lock({LOCK})")
            await connection.commit()
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


def _main() -> None:
    if context.is_offline_mode():
        raise SystemExit("--sql cannot be used: the migrations ask the server which tables it can have")
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _run(connection)
        return
    url = os.environ.get("TIDEGATE__DATABASE__URL", "")
    if "://" not in url:
        raise SystemExit(
            "set TIDEGATE__DATABASE__URL to an address like postgresql://user@host/name; "
            "the embedded database is migrated by tidegate db migrate"
        )
    context.config.attributes["tier"] = os.environ.get("TIDEGATE__DATABASE__TIER") or "auto"
    asyncio.run(_run_alone(url))


_main()
