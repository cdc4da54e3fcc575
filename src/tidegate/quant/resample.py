"""Longer bars from shorter ones, with carried state: a fold that says something only when a long bar has closed.

1. Long intervals are counted from an origin (UTC midnight 1970, a Monday for weeks); bar ends are exclusive.
2. A long bar closes with the base bar that ends exactly where it ends. When that one is missing, it closes with the
   first later base bar, which may then close its own long bar too: up to two per base bar.
3. When the stream begins inside a long interval, that first one is dropped: nobody knows its open.
4. A long bar with fewer base bars than its interval holds is marked incomplete.

It obeys the law of ``quant.fold``: cut the base bars anywhere, the long bars are the same.
"""

from dataclasses import dataclass

import numpy as np
from numba.core import types
from numpy.typing import NDArray

from tidegate.quant.bars import BarTable
from tidegate.quant.fold import COLUMNS, Floats, compiled

Ints = NDArray[np.int64]

_INTS = types.int64[::1]
_FLOATS = types.float64[::1]
_ROWS = types.float64[:, ::1]

_NOTHING_SEEN, _IN_PARTIAL_FIRST, _RUNNING = 0, 1, 2


@compiled(types.int64(_INTS, _ROWS, _INTS, _INTS, _FLOATS, _INTS, _ROWS, _INTS, types.boolean[::1]))
def _resample(
    ts: Ints,
    rows: Floats,
    geometry: Ints,
    place: Ints,
    bucket: Floats,
    long_ts: Ints,
    long_rows: Floats,
    closed_at: Ints,
    complete: NDArray[np.bool_],
) -> int:
    # place: end of the open bucket, base bars in it (0: none is open), phase;  bucket: its OHLCV so far
    base_ns, interval_ns, origin_ns = geometry[0], geometry[1], geometry[2]
    closed = 0
    for t in range(len(ts)):
        end_ns = origin_ns - (origin_ns - ts[t]) // interval_ns * interval_ns
        if place[2] == _NOTHING_SEEN:
            starts_inside = ts[t] - base_ns > end_ns - interval_ns
            place[0], place[2] = end_ns, _IN_PARTIAL_FIRST if starts_inside else _RUNNING
        if place[2] == _IN_PARTIAL_FIRST:
            if end_ns == place[0]:
                continue
            place[2] = _RUNNING
        if place[1] > 0 and end_ns > place[0]:
            long_ts[closed], closed_at[closed], complete[closed] = place[0], t, False
            long_rows[closed] = bucket
            place[1] = 0
            closed += 1
        if place[1] == 0:
            place[0] = end_ns
            bucket[:] = rows[t]
        else:
            bucket[1] = max(bucket[1], rows[t, 1])
            bucket[2] = min(bucket[2], rows[t, 2])
            bucket[3] = rows[t, 3]
            bucket[4] += rows[t, 4]
        place[1] += 1
        if ts[t] == end_ns:
            long_ts[closed], closed_at[closed], complete[closed] = end_ns, t, place[1] * base_ns == interval_ns
            long_rows[closed] = bucket
            place[1] = 0
            closed += 1
    return closed


@dataclass(frozen=True, slots=True)
class LongBars:
    """The long bars that a run of base bars closed.

    ``ts_ns (L,)`` are their ends and ``rows (L, 5)`` their OHLCV; ``closed_at (L,)`` is the index of the base bar that
    closed each one and does not decrease; ``complete (L,)`` is False where base bars were missing.
    """

    ts_ns: Ints
    rows: Floats
    closed_at: Ints
    complete: NDArray[np.bool_]


class Resampler:
    """Makes bars of ``interval_ns`` out of consecutive bars of ``base_ns``, both counted from ``origin_ns``.

    Raises ``ValueError`` when the long interval is not a whole multiple, above one, of the base interval.
    """

    __slots__ = ("_bucket", "_geometry", "_place")

    def __init__(self, base_ns: int, interval_ns: int, origin_ns: int = 0) -> None:
        if base_ns <= 0 or interval_ns <= base_ns or interval_ns % base_ns:
            raise ValueError(f"bars of {interval_ns} ns cannot be made of bars of {base_ns} ns: no whole multiple")
        self._geometry: Ints = np.array([base_ns, interval_ns, origin_ns], dtype=np.int64)
        self._place: Ints = np.zeros(3, dtype=np.int64)
        self._bucket: Floats = np.zeros(len(COLUMNS))

    def push(self, ts_ns: Ints, rows: Floats) -> LongBars:
        """Take the next base bars, ends ``(T,)`` and OHLCV ``(T, 5)``, and return what they closed."""
        room = 2 * len(ts_ns)
        ends, long_rows = np.empty(room, dtype=np.int64), np.empty((room, len(COLUMNS)))
        closed_at, complete = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.bool_)
        ts_ns, rows = np.ascontiguousarray(ts_ns, dtype=np.int64), np.ascontiguousarray(rows, dtype=np.float64)
        n = _resample(
            ts_ns, rows, self._geometry, self._place, self._bucket, ends, long_rows, closed_at, complete
        )  # fmt: skip
        return LongBars(ends[:n], long_rows[:n], closed_at[:n], complete[:n])

    def dump(self) -> tuple[list[int], list[float]]:
        """The state as plain numbers."""
        return self._place.tolist(), self._bucket.tolist()

    def load(self, state: tuple[list[int], list[float]]) -> None:
        """Continue from a dumped state."""
        place, bucket = state
        self._place[:] = place
        self._bucket[:] = bucket


def resample(bars: BarTable, interval_ns: int, origin_ns: int = 0) -> BarTable:
    """The longer bars of a whole table, incomplete ones included, the last unfinished one not."""
    resampler = Resampler(bars.interval_ns, interval_ns, origin_ns)
    long = resampler.push(bars.ts_ns, bars.rows())
    columns = np.ascontiguousarray(long.rows.T)
    return BarTable(interval_ns, long.ts_ns, *columns)
