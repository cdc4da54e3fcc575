"""Rows of the port become columns of a table: known names, defaults, ``ts`` out of ``ts_ns``, JSON, no surprises."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final

from sqlalchemy import Enum, Table
from sqlalchemy.dialects.postgresql import JSONB

from tidegate.adapters.database.tables import metadata
from tidegate.ports import Row

OF_SESSIONS: Final = tuple(name for name, table in metadata.tables.items() if "session_id" in table.columns)
"""Tables whose rows belong to a session: all but those about the schema."""

STATES: Final = ("orders", "positions")
"""Tables that the projector overwrites; to all others it only adds."""

CRUD: Final = (
    "positions", "trades", "orders", "market_data", "portfolios", "risk_metrics", "strategy_performances",
)  # fmt: skip
"""Tables whose rows may be saved and removed one by one."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_VALUE: Final = object()
_DEFAULTS: Final[dict[str, Any]] = {"detail": "", "filled_qty": 0, "projected_seq": 0}
"""What the server would put; by name, as no two tables differ."""


def stamp(ts_ns: int) -> datetime:
    """A time of the venue as the database holds it: UTC, whole microseconds, rounded down."""
    return _EPOCH + timedelta(microseconds=ts_ns // 1_000)


def nanoseconds(moment: datetime) -> int:
    """The inverse of ``stamp``."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def month_of(ts_ns: int) -> datetime:
    """The first instant of the month in which a time lies."""
    return stamp(ts_ns).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def table_named(name: str) -> Table:
    """The table of this name. Raises ``ValueError``."""
    if name not in metadata.tables:
        near = get_close_matches(name, metadata.tables, n=1)
        raise ValueError(f"there is no table {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return metadata.tables[name]


def crud_table(name: str) -> Table:
    """A table whose rows may be saved and removed one by one. Raises ``ValueError`` for any other."""
    if name not in CRUD:
        raise ValueError(f"rows of {name!r} are not kept one by one; those of {', '.join(CRUD)} are")
    return metadata.tables[name]


def checked_names(table: Table, row: Row) -> None:
    """Raise ``ValueError`` when ``row`` names a column that the table has not."""
    for name in row:
        if name not in table.columns:
            near = get_close_matches(name, table.columns.keys(), n=1)
            raise ValueError(f"{table.name} has no column {name!r}" + (f"; did you mean {near[0]}?" if near else ""))


def whole_key(table: Table, key: Row) -> tuple[Any, ...]:
    """The values of the primary key, in its order. Raises ``ValueError`` when it is not exactly that key."""
    names = key_names(table)
    if set(key) != set(names):
        raise ValueError(f"the key of {table.name} is {', '.join(names)}; given is {', '.join(key) or 'nothing'}")
    return tuple(key[name] for name in names)


def key_names(table: Table) -> tuple[str, ...]:
    """The names of the primary key's columns."""
    return tuple(column.name for column in table.primary_key)


def to_columns(table: Table, rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Every column of the table with the values of ``rows``; what may be missing is None or the server's default.

    Raises ``ValueError`` that names table and column.
    """
    names = table.columns.keys()
    known = frozenset(names)
    for row in rows:
        if not row.keys() <= known:
            checked_names(table, row)
    return {name: _values(table, name, rows) for name in names}


def to_rows(table: Table, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Whole rows, as the database would give them back."""
    columns = to_columns(table, rows)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def last_of_each_key(table: Table, rows: Sequence[Row]) -> list[Row]:
    """The rows without those that a later one of the same key replaces."""
    names = key_names(table)
    latest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        latest[tuple(_given(row, name) for name in names)] = row
    return list(latest.values())


def as_json(value: Any) -> str | None:
    """The text of a JSON column. Raises ``ValueError`` for what is no JSON, a NaN for instance."""
    return None if value is None else json.dumps(value, allow_nan=False)


def is_json(table: Table, name: str) -> bool:
    """Whether a column holds JSON."""
    return isinstance(table.columns[name].type, JSONB)


def _given(row: Row, name: str) -> Any:
    value = row.get(name, _NO_VALUE)
    if value is not _NO_VALUE:
        return value
    ts_ns = row.get("ts_ns") if name == "ts" else None
    return None if ts_ns is None else stamp(ts_ns)


def _values(table: Table, name: str, rows: Sequence[Row]) -> list[Any]:
    column = table.columns[name]
    if name == "ts":
        values = [_given(row, name) for row in rows]
    else:
        default = _DEFAULTS.get(name) if column.server_default is not None else None
        values = [row.get(name, default) for row in rows]
    if not column.nullable and any(value is None for value in values):
        raise ValueError(f"{table.name}.{name} must have a value in every row")
    if isinstance(column.type, Enum):
        for word in set(values) - {None}:
            check_word(table.name, name, word)
    return values


def check_word(table: str, name: str, word: Any) -> None:
    """Raise ``ValueError`` when an enum's column cannot hold ``word``."""
    kind = metadata.tables[table].columns[name].type
    assert isinstance(kind, Enum)
    if word not in kind.enums:
        raise ValueError(f"{table}.{name} cannot be {word!r}; use one of {' '.join(kind.enums)}")


def matches(row: Mapping[str, Any], where: Row) -> bool:
    """Whether a row has the values of ``where``."""
    return all(row[name] == value for name, value in where.items())
