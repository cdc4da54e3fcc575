"""What a driver or SQLAlchemy raises becomes one sentence of ours, without the statement and its values."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tidegate.domain.errors import DatabaseError


@contextmanager
def one_error(what: str) -> Iterator[None]:
    """Raise ``DatabaseError``: ``what`` failed, and the server's reason."""
    try:
        yield
    except DBAPIError as error:
        raise DatabaseError(f"database: {what}: {_reason(error.orig or error)}") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError) as error:
        raise DatabaseError(f"database: {what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The first line of what the server said; SQLAlchemy puts the name of a class before it."""
    cause = error.__cause__
    source = cause if isinstance(cause, (asyncpg.PostgresError, asyncpg.InterfaceError)) else error
    lines = str(source).strip().splitlines()
    return lines[0] if lines else type(source).__name__
