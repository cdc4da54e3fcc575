"""From a file to columns: Parquet, CSV, JSON and JSON Lines, in chunks, with the place of every row.

Nothing is judged here but whether the text is a table of numbers. The first row that is not ends its chunk, with the
reason; what the numbers mean is for ``checks``.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tidegate.domain.errors import DataError, InvalidBar

CHUNK_ROWS = 65_536
SUFFIXES = (".parquet", ".csv", ".csv.gz", ".json", ".jsonl")
"""The formats that are read, in the order in which they are preferred when a folder has several of one series."""

_ALIASES = {"calc_time": "funding_time", "last_funding_rate": "funding_rate"}
"""The funding columns as the exchange's archive calls them."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns wanted of a file: a whole-number time and float64 values. Without names they stand in this order."""

    time: str
    values: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.time, *self.values)


BARS = Schema("open_time", ("open", "high", "low", "close", "volume"))
MARKS = Schema("open_time", ("open", "high", "low", "close"))
FUNDING = Schema("funding_time", ("funding_rate",))


@dataclass(frozen=True, slots=True)
class Stop:
    """The row ``index`` of a chunk cannot be used."""

    index: int
    reason: str
    error: type[DataError] = InvalidBar


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows: ``time`` int64 ``(T,)`` in the file's own unit, ``values`` float64 ``(T,)`` each.

    ``numbers`` are the lines or rows in the file (1-based), as ``place`` says; one more than T when ``stop`` is set.
    """

    place: str
    numbers: Sequence[int]
    time: NDArray[np.int64]
    values: tuple[NDArray[np.float64], ...]
    stop: Stop | None = None


class _RowRefused(Exception):
    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number
        self.reason = reason


_TextRow = tuple[int, Sequence[str]]
_Column: TypeAlias = "pa.Array[Any]"


def read_rows(path: Path, schema: Schema, chunk_rows: int = CHUNK_ROWS) -> Iterator[Rows]:
    """The rows of ``path`` in chunks of at most ``chunk_rows``, the format by its suffix.

    Raises ``DataError`` when the file cannot be read at all or has not the columns.
    """
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(s)), None)
    if suffix is None:
        raise DataError(f"{path}: unknown kind of file; use one of {' '.join(SUFFIXES)}")
    with _one_error(path):
        if suffix == ".parquet":
            yield from _parquet(path, schema, chunk_rows)
        elif suffix == ".json":
            yield from _chunks("row", _json_rows(path, schema), schema, chunk_rows)
        elif suffix == ".jsonl":
            yield from _chunks("line", _jsonl_rows(path, schema), schema, chunk_rows)
        else:
            yield from _chunks("line", _csv_rows(path, schema), schema, chunk_rows)


@contextmanager
def _one_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error, pa.ArrowException) as error:
        detail = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read: {detail}") from error


def _parquet(path: Path, schema: Schema, chunk_rows: int) -> Iterator[Rows]:
    with pq.ParquetFile(path) as file:
        positions = _positions(path, schema, file.schema_arrow.names)
        columns = [file.schema_arrow.names[position] for position in positions]
        _check_types(path, file.schema_arrow, columns)
        row = 1
        for batch in file.iter_batches(batch_size=chunk_rows, columns=columns):
            cells = [batch.column(batch.schema.get_field_index(name)) for name in columns]
            yield _from_arrow(row, cells, schema)
            row += len(batch)


def _check_types(path: Path, types: pa.Schema, columns: Sequence[str]) -> None:
    for index, name in enumerate(columns):
        kind = types.field(name).type
        if index == 0 and not pa.types.is_int64(kind):
            raise DataError(f"{path}: column {name!r} is {kind}; want int64, milliseconds since 1970")
        if index > 0 and not (pa.types.is_float64(kind) or pa.types.is_integer(kind)):
            raise DataError(f"{path}: column {name!r} is {kind}; want double")


def _from_arrow(first_row: int, cells: "Sequence[_Column]", schema: Schema) -> Rows:
    size, stop = len(cells[0]), None
    for name, column in zip(schema.names, cells, strict=True):
        if column.null_count:
            at = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            if at < size:
                size, stop = at, Stop(at, f"{name} is null")
    time = cells[0].slice(0, size).to_numpy(zero_copy_only=False)
    values = [column.slice(0, size).cast(pa.float64()).to_numpy(zero_copy_only=False) for column in cells[1:]]
    return Rows("row", range(first_row, first_row + size + 1), time, tuple(values), stop)


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv_rows(path: Path, schema: Schema) -> Iterator[_TextRow]:
    """CSV with a header, or without one in the order of the exchange's archive. Empty lines carry nothing."""
    with _open_text(path) as text:
        reader = csv.reader(text)
        first = next((row for row in reader if row), None)
        if first is None:
            return
        headed = not first[0].lstrip("+-").replace(".", "", 1).isdigit()
        positions = _positions(path, schema, first if headed else None, width=len(first))
        pick = itemgetter(*positions)
        if not headed:
            yield reader.line_num, pick(first)
        for row in reader:
            if len(row) != len(first):
                if not row:
                    continue
                short = "; the line is cut short" if len(row) < len(first) else ""
                raise _RowRefused(reader.line_num, f"{len(row)} fields where the first line has {len(first)}{short}")
            if (headed and row == first) or row[0] == schema.time:
                raise _RowRefused(reader.line_num, f"a header inside the data: {','.join(row)}")
            yield reader.line_num, pick(row)


def _json_rows(path: Path, schema: Schema) -> Iterator[_TextRow]:
    with _open_text(path) as text:
        try:
            rows = json.load(text, parse_float=str, parse_int=str)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: want a list of rows, not {type(rows).__name__}")
    yield from zip(range(1, len(rows) + 1), _cells(path, schema, rows), strict=False)


def _jsonl_rows(path: Path, schema: Schema) -> Iterator[_TextRow]:
    number = 0

    def rows(text: IO[str]) -> Iterator[object]:
        nonlocal number
        for number, line in enumerate(text, start=1):
            if not line.isspace():
                try:
                    yield json.loads(line, parse_float=str, parse_int=str)
                except json.JSONDecodeError as error:
                    raise _RowRefused(number, f"not JSON: {error.msg}") from None

    with _open_text(path) as text:
        try:
            for cells in _cells(path, schema, rows(text)):
                yield number, cells
        except _RowRefused as refused:
            raise _RowRefused(number, refused.reason) from None


def _cells(path: Path, schema: Schema, rows: Iterator[object] | list[object]) -> Iterator[Sequence[str]]:
    """The wanted cells of JSON rows, objects or arrays alike, as text."""
    keys: Sequence[str] | None = None
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            if keys is None:
                names = list(row)
                keys = [names[position] for position in _positions(path, schema, names)]
            missing = next((key for key in keys if key not in row), None)
            if missing is not None:
                raise _RowRefused(number, f"no {missing!r}")
            yield [_text(row[key]) for key in keys]
        elif isinstance(row, list):
            if len(row) < len(schema.names):
                raise _RowRefused(number, f"{len(row)} values; want {', '.join(schema.names)}")
            yield [_text(cell) for cell in row[: len(schema.names)]]
        else:
            raise _RowRefused(number, f"neither an object nor an array: {_text(row)[:40]}")


def _text(cell: object) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell)


def _positions(path: Path, schema: Schema, names: Sequence[str] | None, width: int = 0) -> list[int]:
    """Where the wanted columns are, by name, or in order when there are no names."""
    if names is None:
        if width < len(schema.names):
            raise DataError(f"{path}: line 1: {width} columns and no header; want {', '.join(schema.names)}")
        return list(range(len(schema.names)))
    plain = [_plain(name) for name in names]
    missing = [name for name in schema.names if name not in plain]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; the file has {', '.join(names)}")
    return [plain.index(name) for name in schema.names]


def _plain(name: str) -> str:
    """``openTime``, ``Open time`` and ``open_time`` are one name."""
    spaced = "".join(f"_{c}" if c.isupper() and i and name[i - 1].islower() else c for i, c in enumerate(name.strip()))
    plain = spaced.lower().replace(" ", "_")
    return _ALIASES.get(plain, plain)


def _chunks(place: str, source: Iterator[_TextRow], schema: Schema, chunk_rows: int) -> Iterator[Rows]:
    while True:
        taken: list[_TextRow] = []
        refused: _RowRefused | None = None
        try:
            taken.extend(islice(source, chunk_rows))
        except _RowRefused as error:
            refused = error
        if taken or refused:
            yield _parsed(place, taken, refused, schema)
        if refused or len(taken) < chunk_rows:
            return


def _parsed(place: str, taken: list[_TextRow], refused: _RowRefused | None, schema: Schema) -> Rows:
    numbers = [number for number, _ in taken]
    columns = list(zip(*(cells for _, cells in taken), strict=True)) or [()] * len(schema.names)
    size, stop = len(taken), None
    if refused:
        numbers.append(refused.number)
        stop = Stop(size, refused.reason)
    arrays: list[_Column] = []
    for name, cells in zip(schema.names, columns, strict=True):
        kind = pa.int64() if name == schema.time else pa.float64()
        column, good = _numbers(cells[:size], kind)
        arrays.append(column)
        if good < size:
            what = "whole number" if name == schema.time else "number"
            reason = f"{name} is not a {what}: {cells[good]!r}" if cells[good] else f"{name} is empty"
            size, stop = good, Stop(good, reason)
    time, *values = [column.slice(0, size).to_numpy(zero_copy_only=False) for column in arrays]
    return Rows(place, numbers[: size + 1], time, tuple(values), stop)


def _numbers(cells: Sequence[str], kind: pa.DataType) -> "tuple[_Column, int]":
    """The numbers that ``cells`` begin with, and how many: by halves when one of them is none."""
    parse = partial(_parse, pa.array(cells, pa.string()), kind)
    good, bad = 0, len(cells) + 1
    if (column := parse(len(cells))) is not None:
        return column, len(cells)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if parse(middle) is not None else (good, middle)
    column = parse(good)
    assert column is not None
    return column, good


def _parse(text: "pa.Array[pa.StringScalar]", kind: pa.DataType, size: int) -> "_Column | None":
    try:
        return text.slice(0, size).cast(kind)
    except pa.ArrowInvalid:
        return None
