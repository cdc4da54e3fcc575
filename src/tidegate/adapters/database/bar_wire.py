"""Columns of bars to and from PostgreSQL's binary COPY, without a Python object per value.

Every bar of one series takes the same number of bytes: the key's texts are the same, and all else has a fixed size.
So a whole table is one structured numpy array, big-endian as the protocol wants it, and a whole answer is another.
"""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.errors import DatabaseError
from tidegate.ports import BarSeries
from tidegate.quant.bars import BarTable

COLUMNS = (
    "source", "account_id", "session_id", "symbol", "interval", "ts", "ts_ns", "open", "high", "low", "close", "volume",
)  # fmt: skip
"""The order in which bars are sent."""

READ_COLUMNS = ("ts_ns", "open", "high", "low", "close", "volume")
"""The order in which bars are received."""

SLICE_ROWS = 16_384
"""Bars in one message."""

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER = _SIGNATURE + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_EPOCH_US = 946_684_800_000_000
"""The server counts microseconds from 2000-01-01."""

_EIGHT = 8
_READ_ROW = np.dtype(
    [("fields", ">i2")]
    + [item for name in READ_COLUMNS for item in ((f"{name}_size", ">i4"), (name, ">i8" if name == "ts_ns" else ">f8"))]
)


def encode(series: BarSeries, bars: BarTable) -> Iterator[bytes]:
    """The bars as messages of a binary COPY of ``COLUMNS``."""
    key = (series.source, series.account_id, series.session_id, str(series.instrument), series.bar.name)
    texts = [text.encode() for text in key]
    head = struct.pack(">h", len(COLUMNS)) + b"".join(struct.pack(">i", len(text)) + text for text in texts)
    values = COLUMNS[len(key) :]
    fields = [item for name in values for item in ((f"{name}_size", ">i4"), (name, _wire_type(name)))]
    row = np.dtype([("head", f"V{len(head)}"), *fields])
    yield _HEADER
    for first in range(0, len(bars), SLICE_ROWS):
        part = slice(first, first + SLICE_ROWS)
        out = np.empty(len(bars.ts_ns[part]), dtype=row)
        out["head"] = np.void(head)
        for name in values:
            out[f"{name}_size"] = _EIGHT
            out[name] = bars.ts_ns[part] // 1_000 - _EPOCH_US if name == "ts" else getattr(bars, name)[part]
        yield out.tobytes()
    yield _TRAILER


def decode(answer: bytes | bytearray, interval_ns: int) -> BarTable:
    """The bars of a binary COPY of ``READ_COLUMNS``. Raises ``DatabaseError`` when it is anything else."""
    start = len(_HEADER)
    if answer[: len(_SIGNATURE)] != _SIGNATURE or answer[-len(_TRAILER) :] != _TRAILER:
        raise DatabaseError("database: bars: the answer is no binary COPY")
    body = memoryview(answer)[start : -len(_TRAILER)]
    if len(body) % _READ_ROW.itemsize:
        raise DatabaseError("database: bars: a bar in the answer has another size than a bar has")
    rows = np.frombuffer(body, dtype=_READ_ROW)
    sizes_right = all(bool((rows[f"{name}_size"] == _EIGHT).all()) for name in READ_COLUMNS)
    if not (sizes_right and bool((rows["fields"] == len(READ_COLUMNS)).all())):
        raise DatabaseError("database: bars: a value in the answer has another size than a value has")
    prices: list[NDArray[np.float64]] = [rows[name].astype(np.float64) for name in READ_COLUMNS[1:]]
    return BarTable(interval_ns, rows["ts_ns"].astype(np.int64), *prices)


def empty(interval_ns: int) -> BarTable:
    """No bars."""
    return BarTable(interval_ns, np.empty(0, dtype=np.int64), *(np.empty(0) for _ in range(5)))


def _wire_type(name: str) -> str:
    return ">i8" if name in ("ts", "ts_ns") else ">f8"
