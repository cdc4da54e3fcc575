"""Bars as rows, and the ways in which they are written to files."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tidegate.domain.market import HOUR_NS, BarSpec
from tidegate.quant.bars import BarTable

HOUR = BarSpec.of("1h")
HOUR_MS = HOUR_NS // 10**6
FIRST_MS = 1_672_531_200_000  # 2023-01-01T00:00Z
EVER = (0, 2**62)
NAMES = ("open_time", "open", "high", "low", "close", "volume")
FORMATS = ("parquet", "csv", "csv.gz", "archive.csv", "json", "klines.json", "jsonl", "klines.jsonl")

Row = tuple[int, float, float, float, float, float]


def hours(count: int) -> list[Row]:
    """Ordinary hourly bars, each one different from the others."""
    bars = []
    for n in range(count):
        base = 100.0 + n
        bars.append((FIRST_MS + n * HOUR_MS, base, base + 2.5, base - 1.5, base + 0.5, 10.0 + n))
    return bars


def csv_lines(rows: Iterable[Row]) -> list[str]:
    return [",".join(NAMES), *(",".join(map(repr, row)) for row in rows)]


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_bars(folder: Path, stem: str, kind: str, rows: Sequence[Row]) -> Path:
    """``rows`` in one of ``FORMATS``: ``archive`` and ``klines`` are the venue's arrays of twelve without names."""
    form = kind.rsplit("archive.", 1)[-1].rsplit("klines.", 1)[-1]
    path = folder / f"{stem}.{form}"
    if form == "parquet":
        columns = list(zip(*rows, strict=True))
        pq.write_table(pa.table(dict(zip(NAMES, columns, strict=True))), path, row_group_size=7)
    elif form == "json":
        path.write_text(json.dumps([_json_row(kind, row) for row in rows]))
    elif form == "jsonl":
        write_lines(path, [json.dumps(_json_row(kind, row)) for row in rows])
    else:
        text = io.StringIO()
        writer = csv.writer(text)
        if kind == "archive.csv":
            writer.writerows([*row, row[0] + HOUR_MS - 1, 0, 0, 0, 0, 0] for row in rows)
        else:
            writer.writerows([(*NAMES, "extra"), *((*row, "x") for row in rows)])
        content = text.getvalue().encode()
        path.write_bytes(gzip.compress(content) if form.endswith("gz") else content)
    return path


def _json_row(kind: str, row: Row) -> object:
    if kind.startswith("klines"):
        return [row[0], *map(repr, row[1:]), row[0] + HOUR_MS - 1, "0", 0, "0", "0", "0"]
    return dict(zip(NAMES, row, strict=True)) | {"extra": None}


def joined(tables: Iterator[BarTable]) -> dict[str, np.ndarray]:
    """All chunks as one; ``ts_ns`` and the five columns."""
    chunks = list(tables)
    names = ("ts_ns", "open", "high", "low", "close", "volume")
    return {name: np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in names}


def expected(rows: Sequence[Row], interval_ns: int = HOUR_NS) -> dict[str, np.ndarray]:
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    ts_ns = columns[0].astype(np.int64) * 10**6 + interval_ns
    return {"ts_ns": ts_ns, **{name: columns[n].astype(float) for n, name in enumerate(NAMES) if n}}


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    for name, column in right.items():
        assert left[name].dtype == column.dtype, name
        np.testing.assert_array_equal(left[name], column, err_msg=name)
