"""Bars in PostgreSQL: binary COPY both ways, an upsert where bars are there already.

Saving one table of bars:

1. The months that it reaches into are made where the table is partitioned.
2. When the range holds no bar of the series, the bars are copied straight into the table.
3. Otherwise, or when another writer was quicker, they are copied beside it and merged: new ones are added, changed
   ones overwritten, equal ones left alone.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import asyncpg
from sqlalchemy import ClauseElement, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tidegate.adapters.database import statements
from tidegate.adapters.database.bar_wire import COLUMNS, decode, empty, encode
from tidegate.adapters.database.failures import one_error
from tidegate.adapters.database.partitions import ensure_partitions
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import INTERVALS_NS, BarSpec
from tidegate.ports import BarCoverage, BarGap, BarSeries
from tidegate.quant.bars import BarTable

_PATIENT = text("set local statement_timeout = '15min'")
"""For the transactions that move bars in bulk: on a busy machine a minute, which is enough for a question, is not."""

_KEY = ", ".join(COLUMNS[:6])
_VALUES = COLUMNS[6:]
_STAGE = "create temp table if not exists staged_bars (like market_data including defaults) on commit delete rows"
_MERGE = (
    f"insert into market_data ({', '.join(COLUMNS)}) select {', '.join(COLUMNS)} from staged_bars "
    f"on conflict ({_KEY}) do update set {', '.join(f'{name} = excluded.{name}' for name in _VALUES)} "
    f"where ({', '.join(f'market_data.{name}' for name in _VALUES)}) "
    f"is distinct from ({', '.join(f'excluded.{name}' for name in _VALUES)})"
)


class PostgresBars:
    """Implements ``ports.BarRepository``."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def save(self, series: BarSeries, tables: Iterable[BarTable]) -> int:
        check_series(series)
        saved = 0
        with one_error(f"saving {series.bar.name} bars of {series.instrument}"):
            async with self._engine.begin() as connection:
                await connection.execute(_PATIENT)
                for table in tables:
                    check_table(series, table)
                    if len(table):
                        await _save(connection, series, table)
                        saved += len(table)
        return saved

    async def load(self, series: BarSeries, start_ns: Nanos, end_ns: Nanos) -> BarTable:
        with one_error(f"loading {series.bar.name} bars of {series.instrument}"):
            async with self._engine.connect() as connection:
                await connection.execute(_PATIENT)
                return await read_bars(connection, statements.bars_in_range(series, start_ns, end_ns), series.bar)

    async def latest(self, instrument: InstrumentId, bar: BarSpec, count: int, source: str | None = None) -> BarTable:
        with one_error(f"loading the last {bar.name} bars of {instrument}"):
            async with self._engine.connect() as connection:
                newest = (
                    await connection.execute(statements.newest_series(instrument, bar.name, source))
                ).one_or_none()
                if newest is None:
                    return empty(bar.interval_ns)
                series = BarSeries(newest.source, instrument, bar, newest.account_id, newest.session_id)
                table = await read_bars(connection, statements.last_bars(series, count), bar)
        prices = (table.open, table.high, table.low, table.close, table.volume)
        return BarTable(bar.interval_ns, table.ts_ns[::-1].copy(), *(column[::-1].copy() for column in prices))

    async def gaps(self, series: BarSeries, start_ns: Nanos, end_ns: Nanos) -> list[BarGap]:
        with one_error(f"looking for gaps in {series.bar.name} bars of {series.instrument}"):
            async with self._engine.connect() as connection:
                found = (await connection.execute(statements.gaps_in_range(series, start_ns, end_ns))).all()
        length = series.bar.interval_ns
        return [BarGap(row.ts_ns - row.step_ns, row.step_ns // length - 1) for row in found]

    async def coverage(self) -> list[BarCoverage]:
        with one_error("listing the bars"):
            async with self._engine.connect() as connection:
                await connection.execute(_PATIENT)
                found = (await connection.execute(statements.coverage())).all()
        return [_covered(row) for row in found]

    async def delete(self, series: BarSeries, start_ns: Nanos, end_ns: Nanos) -> int:
        with one_error(f"removing {series.bar.name} bars of {series.instrument}"):
            async with self._engine.begin() as connection:
                return (await connection.execute(statements.delete_bars(series, start_ns, end_ns))).rowcount

    async def roll_up(self, series: BarSeries, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> int:
        check_multiple(series.bar, bar)
        with one_error(f"rolling up {series.bar.name} bars of {series.instrument}"):
            async with self._engine.begin() as connection:
                await connection.execute(_PATIENT)
                ends = (await connection.execute(statements.stored_range(series, start_ns, end_ns))).one()
                if ends.first_ns is None:
                    return 0
                await ensure_partitions(connection, "market_data", ends.first_ns, ends.last_ns + bar.interval_ns)
                return (await connection.execute(statements.roll_up(series, bar, start_ns, end_ns))).rowcount


def check_series(series: BarSeries) -> None:
    """Raise ``ValueError`` for an interval that has no name at the venue: nobody would find the bars again."""
    if INTERVALS_NS.get(series.bar.name) != series.bar.interval_ns:
        raise ValueError(f"bars of {series.bar.name!r} are not stored; use one of {' '.join(INTERVALS_NS)}")


def check_table(series: BarSeries, table: BarTable) -> None:
    """Raise ``ValueError`` when a table is not of the series' interval."""
    if table.interval_ns != series.bar.interval_ns:
        raise ValueError(f"a table of {table.interval_ns} ns bars cannot be saved as {series.bar.name} bars")


def check_multiple(short: BarSpec, long: BarSpec) -> None:
    """Raise ``ValueError`` when ``long`` bars cannot be made of ``short`` ones."""
    if long.interval_ns <= short.interval_ns or long.interval_ns % short.interval_ns:
        raise ValueError(f"{long.name} bars cannot be made of {short.name} bars: no whole multiple")


def compiled(connection: AsyncConnection, query: ClauseElement) -> tuple[str, list[Any]]:
    """Text and arguments of a statement, as the driver takes them."""
    found = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    parameters = found.construct_params() or {}
    names = getattr(found, "positiontup", None) or ()
    processors = getattr(found, "_bind_processors", {})
    return str(found), [_processed(processors.get(name), parameters[name]) for name in names]


async def driver_of(connection: AsyncConnection) -> Any:
    """The asyncpg connection below. A statement must have been run before, or it is in no transaction."""
    return (await connection.get_raw_connection()).driver_connection


async def read_bars(connection: AsyncConnection, query: ClauseElement, bar: BarSpec) -> BarTable:
    """Bars out of a query for ``bar_wire.READ_COLUMNS``, by COPY."""
    statement, arguments = compiled(connection, query)
    answer = bytearray()

    async def take(data: bytes) -> None:
        answer.extend(data)

    raw = await driver_of(connection)
    await raw.copy_from_query(statement, *arguments, output=take, format="binary")
    return decode(answer, bar.interval_ns)


async def _save(connection: AsyncConnection, series: BarSeries, table: BarTable) -> None:
    length = series.bar.interval_ns
    first_ns, last_ns = int(table.ts_ns[0]), int(table.ts_ns[-1])
    await ensure_partitions(connection, "market_data", first_ns, last_ns)
    taken = await connection.execute(statements.any_bar_in_range(series, first_ns - length, last_ns))
    raw = await driver_of(connection)
    if taken.first() is None:
        try:
            async with raw.transaction():
                await _copy(raw, "market_data", series, table)
            return
        except asyncpg.UniqueViolationError:
            pass  # another writer was quicker
    await raw.execute(_STAGE)
    await _copy(raw, "staged_bars", series, table)
    await raw.execute(_MERGE)
    await raw.execute("truncate staged_bars")


async def _copy(raw: Any, place: str, series: BarSeries, table: BarTable) -> None:
    messages = _awaited(encode(series, table))
    await raw.copy_to_table(place, source=messages, columns=COLUMNS, format="binary")


async def _awaited(messages: Iterator[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


def _processed(processor: Any, value: Any) -> Any:
    return value if processor is None else processor(value)


def _covered(row: Any) -> BarCoverage:
    bar = BarSpec(row.interval, INTERVALS_NS.get(row.interval, 0))
    series = BarSeries(row.source, InstrumentId(row.symbol), bar, row.account_id, row.session_id)
    first, last = row.first_ns - bar.interval_ns, row.last_ns - bar.interval_ns
    return BarCoverage(series, first, last, row.bars, row.gaps, row.missing)
