"""Bars to files of the layout that ``history`` reads: open time in milliseconds, then OHLCV.

A file is written under another name beside its place and renamed when it is whole and on disk, so that none is ever
half there.
"""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from tidegate.adapters.files.formats import BARS
from tidegate.domain.errors import DataError
from tidegate.quant.bars import BarTable

WRITTEN = (".parquet", ".csv")
"""The formats that are written."""

_FIELDS: list[Any] = [pa.field(BARS.time, pa.int64()), *(pa.field(name, pa.float64()) for name in BARS.values)]
_SCHEMA = pa.schema(_FIELDS)
_MS_NS = 1_000_000


def write_bars(path: Path, tables: Iterable[BarTable]) -> int:
    """Write bars in order to ``path``, the format by its suffix; returns how many.

    Raises ``DataError`` for another suffix, for a bar that opens inside a millisecond, or when the disk refuses.
    """
    if path.suffix not in WRITTEN:
        raise DataError(f"{path}: bars are written as {' or '.join(WRITTEN)}")
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = _write(draft, path.suffix, tables)
        os.replace(draft, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return written


def _write(draft: Path, suffix: str, tables: Iterable[BarTable]) -> int:
    written = 0
    with ExitStack() as stack:
        sink = stack.enter_context(draft.open("wb"))
        kind: Any = pq.ParquetWriter if suffix == ".parquet" else pc.CSVWriter
        writer = stack.enter_context(kind(sink, _SCHEMA))
        for table in tables:
            writer.write_table(_arrow(draft, table))
            written += len(table)
        writer.close()
        sink.flush()
        os.fsync(sink.fileno())
    return written


def _arrow(path: Path, table: BarTable) -> Any:
    open_ns = table.ts_ns - table.interval_ns
    if bool(np.any(open_ns % _MS_NS)):
        raise DataError(f"{path}: a bar opens inside a millisecond, and the file could not say so")
    columns = [open_ns // _MS_NS, *(getattr(table, name) for name in BARS.values)]
    return pa.table([pa.array(column) for column in columns], schema=_SCHEMA)
