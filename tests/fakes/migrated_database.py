"""A fresh database on a test server, with our schema."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.databases import fresh_database
from tidegate.adapters.database.schema import migrate


@contextmanager
def migrated_database(server_url: str) -> Iterator[str]:
    """SQLAlchemy's URL of a new database at the newest revision, dropped afterwards."""
    with fresh_database(server_url) as url:
        with closing(asyncio.new_event_loop()) as loop:  # of its own: pytest-asyncio's is left as it is
            loop.run_until_complete(migrate(url))
        yield url
