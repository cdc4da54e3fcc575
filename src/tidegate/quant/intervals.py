"""Bar intervals on the clock: floors, ceilings, grids and what is missing in them.

Intervals are spelled as the venue does. Those of fixed length are counted from 1970-01-01 00:00 UTC (``3d`` too), weeks
from a Monday, months from their first. A bar is ``[open, close)``: its close is the open of the next, and the first
instant at which it is known.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.instants import DAY, EPOCH, MILLISECOND, ensure_utc, format_iso8601, month_end, month_start

INTERVALS: dict[str, timedelta] = {
    "1m": timedelta(minutes=1),
    "3m": timedelta(minutes=3),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "30m": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "2h": timedelta(hours=2),
    "4h": timedelta(hours=4),
    "6h": timedelta(hours=6),
    "8h": timedelta(hours=8),
    "12h": timedelta(hours=12),
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": 7 * DAY,
}
"""Every interval of fixed length."""

MONTH = "1M"
"""The interval that has none."""

_MONDAY = EPOCH + 4 * DAY
_MICROSECOND = timedelta(microseconds=1)

Gap = tuple[datetime, datetime, int]
"""First missing open, last missing open, how many are missing."""


def interval_to_timedelta(interval: str) -> timedelta:
    """The length of ``interval``. Raises ``ValueError`` on ``1M``, whose length varies, and on an unknown name."""
    _check(interval)
    if interval == MONTH:
        raise ValueError("1M has no fixed length; use month_start and month_end")
    return INTERVALS[interval]


def interval_to_ms(interval: str) -> int:
    """The length of ``interval`` in milliseconds. Raises as ``interval_to_timedelta``."""
    return interval_to_timedelta(interval) // MILLISECOND


def floor_to_interval(dt: datetime, interval: str) -> datetime:
    """The last open at or before ``dt``. Raises ``ValueError`` on a naive datetime or an unknown interval."""
    _check(interval)
    if interval == MONTH:
        return month_start(dt)
    utc = ensure_utc(dt)
    return utc - (utc - origin_of(interval)) % INTERVALS[interval]


def ceil_to_interval(dt: datetime, interval: str) -> datetime:
    """The first open at or after ``dt``. Raises as ``floor_to_interval``."""
    opened = floor_to_interval(dt, interval)
    return opened if opened == dt else bar_close_time(opened, interval)


def bar_open_time(dt: datetime, interval: str) -> datetime:
    """The open of the bar that holds ``dt``; a time on the grid belongs to the bar that it opens."""
    return floor_to_interval(dt, interval)


def bar_close_time(open: datetime, interval: str) -> datetime:
    """The exclusive end of the bar that opens at ``open`` (``Bar.ts_ns``). Raises ``ValueError`` off the grid."""
    opened = _on_grid(open, interval)
    return month_end(opened) if interval == MONTH else opened + INTERVALS[interval]


def is_bar_closed(open: datetime, interval: str, now: datetime) -> bool:
    """True from the exclusive end of the bar on. Raises ``ValueError`` off the grid."""
    return bar_close_time(open, interval) <= ensure_utc(now)


def last_closed_bar(now: datetime, interval: str) -> datetime:
    """The open of the newest bar that is closed at ``now``."""
    return floor_to_interval(floor_to_interval(now, interval) - _MICROSECOND, interval)


def next_bar_open(dt: datetime, interval: str) -> datetime:
    """The first open after ``dt``, also when ``dt`` is one itself."""
    return bar_close_time(floor_to_interval(dt, interval), interval)


def bar_range(start: datetime, end: datetime, interval: str) -> list[datetime]:
    """The opens in ``[start, end)``, oldest first."""
    at, until = ceil_to_interval(start, interval), ensure_utc(end)
    opens = []
    while at < until:
        opens.append(at)
        at = bar_close_time(at, interval)
    return opens


def bars_between(a: datetime, b: datetime, interval: str) -> int:
    """How many bars open in ``[a, b)``; with ``b`` before ``a`` minus those in ``[b, a)``."""
    first, last = ceil_to_interval(a, interval), ceil_to_interval(b, interval)
    if interval == MONTH:
        return (last.year - first.year) * 12 + last.month - first.month
    return (last - first) // INTERVALS[interval]


def find_gaps(opens: Iterable[datetime], interval: str) -> list[Gap]:
    """The runs of bars missing between the first and the last of ``opens``, in any order, oldest first.

    Raises ``ValueError`` on an open off the grid: it is neither there nor missing.
    """
    there = sorted({_on_grid(each, interval) for each in opens})
    gaps = []
    for before, after in pairwise(there):
        missing = bars_between(before, after, interval) - 1
        if missing:
            last = floor_to_interval(after - _MICROSECOND, interval)
            gaps.append((bar_close_time(before, interval), last, missing))
    return gaps


def find_duplicates(opens: Iterable[datetime]) -> list[datetime]:
    """The times that occur more than once, each once, oldest first."""
    counted = Counter(ensure_utc(each) for each in opens)
    return sorted(each for each, count in counted.items() if count > 1)


def align_to_grid(
    times: Sequence[datetime],
    values: ArrayLike,
    interval: str,
    how: Literal["exact", "last", "mean", "sum", "ffill"] = "exact",
) -> tuple[list[datetime], NDArray[np.float64]]:
    """``(T,)`` values on the full grid from the first to the last bar; NaN where nothing is known.

    - ``exact``: the value stamped with the open itself. Off the grid and twice the same time raise ``ValueError``.
    - ``last``, ``mean``, ``sum``: of what is stamped within the bar, ``[open, close)``; ``last`` is the latest.
    - ``ffill``: as ``last``, and over empty bars the value before. Never for prices that are traded on: nobody could.

    Raises ``ValueError`` on unequal lengths and on another ``how``.
    """
    if how not in ("exact", "last", "mean", "sum", "ffill"):
        raise ValueError(f"unknown way to align {how!r}; use exact, last, mean, sum or ffill")
    column = np.asarray(values, dtype=np.float64)
    if column.shape != (len(times),):
        raise ValueError(f"{len(times)} times need one column of as many values, not an array of {column.shape}")
    if not times:
        return [], column
    if how == "exact" and (twice := find_duplicates(times)):
        raise ValueError(f"two values for {format_iso8601(twice[0])}; remove one, or align by last, mean or sum")
    place: Callable[[datetime, str], datetime] = _on_grid if how == "exact" else floor_to_interval
    places = [place(each, interval) for each in times]
    grid = bar_range(min(places), bar_close_time(max(places), interval), interval)
    row_of = {each: row for row, each in enumerate(grid)}
    order = sorted(range(len(times)), key=lambda index: ensure_utc(times[index]))
    rows = np.array([row_of[places[index]] for index in order], dtype=np.int64)
    return grid, _gathered(rows, column[order], len(grid), how)


def resample_boundaries(start: datetime, end: datetime, source: str, target: str) -> list[tuple[datetime, datetime]]:
    """``[open, close)`` of each ``target`` bar that ``source`` bars of ``[start, end)`` make up whole, oldest first.

    The first that begins before ``start`` and the last that is not complete by the last closed source bar are left
    out. Raises ``ValueError`` when ``source`` bars do not fill a ``target`` bar evenly.
    """
    if not _nests(source, target):
        raise ValueError(f"{target} bars cannot be made of {source} bars")
    known_until = floor_to_interval(end, source)
    bars = [(each, bar_close_time(each, target)) for each in bar_range(start, known_until, target)]
    return [bar for bar in bars if bar[1] <= known_until]


def origin_of(interval: str) -> datetime:
    """An open of ``interval``; all others lie a whole number of intervals from it."""
    return _MONDAY if interval == "1w" else EPOCH


def _nests(source: str, target: str) -> bool:
    if target == MONTH:
        return DAY % interval_to_timedelta(source) == timedelta(0)
    length, step = interval_to_timedelta(target), interval_to_timedelta(source)
    offset = origin_of(target) - origin_of(source)
    return length % step == timedelta(0) and offset % step == timedelta(0)


def _gathered(rows: NDArray[np.int64], values: NDArray[np.float64], size: int, how: str) -> NDArray[np.float64]:
    """``values``, oldest first, put into their rows."""
    gathered = np.full(size, np.nan)
    if how in ("mean", "sum"):
        counts = np.bincount(rows, minlength=size)
        sums = np.bincount(rows, weights=values, minlength=size)
        filled = counts > 0
        gathered[filled] = sums[filled] / counts[filled] if how == "mean" else sums[filled]
        return gathered
    gathered[rows] = values  # of equal rows the last assignment stays
    if how == "ffill":
        newest = np.maximum.accumulate(np.where(np.isnan(gathered), 0, np.arange(size)))
        gathered = gathered[newest]
    return gathered


def _on_grid(open: datetime, interval: str) -> datetime:
    opened = floor_to_interval(open, interval)
    if opened != open:
        raise ValueError(f"no {interval} bar opens at {format_iso8601(open)}; one does at {format_iso8601(opened)}")
    return opened


def _check(interval: str) -> None:
    if interval not in INTERVALS and interval != MONTH:
        raise ValueError(f"unknown interval {interval!r}; use one of {' '.join(INTERVALS)} {MONTH}")
