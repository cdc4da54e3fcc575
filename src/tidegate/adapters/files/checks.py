"""What every row must satisfy, in the order of the rows, across the edges of chunks.

A stage looks at the rows that the stages before it left good, and may end them earlier; what remains at the end is
the first bad row of the chunk, with one reason.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tidegate.adapters.files.formats import Rows, Stop
from tidegate.domain.errors import OutOfOrder
from tidegate.domain.market import MINUTE_NS, SECOND_NS, BarSpec

MAX_FUNDING_FRAC: Final = 0.05
"""No contract has a funding cap above this; the widest are 3 % per settlement."""

_PERCENT_RUN: Final = 5
_UNIT_EDGES: Final = np.array([10**11, 10**14, 10**17], dtype=np.int64)
"""A time below these is in seconds, milliseconds, microseconds; above, in nanoseconds (good from 1973 to 5138)."""
_UNITS: Final = ("seconds", "milliseconds", "microseconds", "nanoseconds")
_MS, _US = 1, 2
_LAST_MS: Final = 7_258_118_400_000
"""The year 2200; nanoseconds in 64 bits end soon after."""

Floats = NDArray[np.float64]
Times = NDArray[np.int64]


def utc(ts_ns: int) -> str:
    """A time for people, to the minute where that is exact: ``2018-02-08T00:00Z``."""
    seconds, rest = divmod(ts_ns, 10**9)
    if not -62_135_596_800 <= seconds <= 253_402_300_799:
        return f"{ts_ns} ns"
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").removesuffix(":00")
    return text + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


class _Clock:
    """Times to nanoseconds. A file is in milliseconds and may turn to microseconds once, as the spot archive did."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._unit = _MS
        self._since = 0

    def read(self, rows: Rows) -> tuple[Times, Stop | None]:
        time = rows.time
        unit = np.searchsorted(_UNIT_EDGES, time, side="right")
        reached = np.maximum.accumulate(np.maximum(unit, self._unit))
        late = np.where(unit == _US, time // 1_000, time) > _LAST_MS
        at = _first((unit < reached) | (unit > _US) | late)
        good = len(time) if at is None else at
        self._turn(rows, reached[:good])
        stop = None if at is None else Stop(at, self._reason(rows, int(time[at]), int(unit[at])))
        return np.where(unit == _US, time * 1_000, time * 1_000_000)[:good], stop

    def _turn(self, rows: Rows, reached: NDArray[np.int64]) -> None:
        if self._unit == _MS and (at := _first(reached >= _US)) is not None:
            self._unit, self._since = _US, rows.numbers[at]

    def _reason(self, rows: Rows, time: int, unit: int) -> str:
        if unit == _MS and self._unit == _US:
            since = f"microseconds since {rows.place} {self._since}"
            return f"{self._column} {time} is in milliseconds again, after {since}"
        if time < 10**8 or unit in (_MS, _US):
            return f"{self._column} {time} is no time in milliseconds"
        return f"{self._column} {time} is in {_UNITS[unit]}, not milliseconds"


class BarCheck:
    """Bars of one interval: order, grid and the sense of each bar. Keeps the last row from chunk to chunk."""

    def __init__(self, path: Path, bar: BarSpec) -> None:
        self._path = path
        self._bar = bar
        self._clock = _Clock("open_time")
        self._origin_ns: int | None = None if bar.name == "3d" else bar.origin_ns
        self._last_ns: int | None = None
        self._last_values: tuple[float, ...] = ()

    def accept(self, rows: Rows) -> Times:
        """The opens of ``rows`` in ns. Raises ``DataError`` at the first row that is wrong."""
        open_ns, bad_unit = self._clock.read(rows)
        stop = bad_unit or rows.stop
        for stage in (self._order, self._grid, self._sense):
            found = stage(open_ns, rows)
            if found is not None:
                stop, open_ns = found, open_ns[: found.index]
        refuse(self._path, rows, stop)
        if len(open_ns):
            self._last_ns = int(open_ns[-1])
            self._last_values = _row(rows, -1)
        return open_ns

    def _order(self, open_ns: Times, rows: Rows) -> Stop | None:
        if not len(open_ns):
            return None
        before = np.empty_like(open_ns)
        before[1:] = open_ns[:-1]
        before[0] = open_ns[0] - 1 if self._last_ns is None else self._last_ns
        at = _first(open_ns <= before)
        if at is None:
            return None
        when, previous = int(open_ns[at]), int(before[at])
        if when < previous:
            return Stop(at, f"out of order: {utc(when)} after {utc(previous)}", OutOfOrder)
        one, two = (_row(rows, at - 1) if at else self._last_values), _row(rows, at)
        how = "the same values" if one == two else f"other values: {_list(one)} then {_list(two)}"
        return Stop(at, f"duplicate open_time {utc(when)} with {how}", OutOfOrder)

    def _grid(self, open_ns: Times, rows: Rows) -> Stop | None:
        if not len(open_ns):
            return None
        if self._origin_ns is None:  # where three-day bars are counted from is the file's affair
            self._origin_ns = int(open_ns[0])
        off = (open_ns - self._origin_ns) % self._bar.interval_ns
        at = _first(off != 0)
        if at is None:
            return None
        time, off_s = int(rows.time[at]), int(off[at]) / SECOND_NS
        return Stop(at, f"open_time {time} ({utc(int(open_ns[at]))}) is {off_s!r} s off the {self._bar.name} grid")

    def _sense(self, open_ns: Times, rows: Rows) -> Stop | None:
        """NaN fails every comparison, so each mask is of what is right."""
        o, h, lo, c = (column[: len(open_ns)] for column in rows.values[:4])
        inf = np.inf
        good = (lo > 0) & (lo <= o) & (lo <= c) & (o <= h) & (c <= h) & (h < inf)
        if len(rows.values) > 4:
            volume = rows.values[4][: len(open_ns)]
            good &= (volume >= 0) & (volume < inf)
        at = _first(~good)
        return None if at is None else Stop(at, _why(_row(rows, at)))


class FundingCheck:
    """Settlements: order by the minute, and rates that a contract can have. Keeps its memory from chunk to chunk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clock = _Clock("funding_time")
        self._last: tuple[int, float] | None = None
        self._coarse: dict[float, int] = {}

    def accept(self, rows: Rows) -> Times:
        """The settlement times in ns, floored to the minute. Raises ``DataError`` at the first row that is wrong."""
        time_ns, bad_unit = self._clock.read(rows)
        stop = bad_unit or rows.stop
        floored = time_ns - time_ns % MINUTE_NS
        for at, (ts_ns, rate) in enumerate(zip(floored.tolist(), rows.values[0].tolist(), strict=False)):
            found = self._row(at, ts_ns, rate) or self._percent(at, rate, rows)
            if found is not None:
                stop = found
                break
            self._last = (ts_ns, rate)
        refuse(self._path, rows, stop)
        return floored

    def _row(self, at: int, ts_ns: int, rate: float) -> Stop | None:
        if self._last is not None and ts_ns <= self._last[0]:
            before_ns, before = self._last
            if ts_ns < before_ns:
                return Stop(at, f"out of order: {utc(ts_ns)} after {utc(before_ns)}", OutOfOrder)
            how = "the same rate" if rate == before else f"another rate: {before!r} then {rate!r}"
            return Stop(at, f"duplicate settlement {utc(ts_ns)} with {how}", OutOfOrder)
        if rate != rate:
            return Stop(at, "funding_rate is NaN")
        if abs(rate) > MAX_FUNDING_FRAC:
            percent = "" if abs(rate) > 100 * MAX_FUNDING_FRAC else "; want a fraction, not percent"
            return Stop(at, f"funding_rate {rate!r} is beyond any cap ({MAX_FUNDING_FRAC:g} per settlement){percent}")
        return None

    def _percent(self, at: int, rate: float, rows: Rows) -> Stop | None:
        """Rates have eight decimals. Several different large ones in a row without the last two were percent."""
        micro = abs(rate) * 1e6
        if micro < 1_000 or abs(micro - round(micro)) > 1e-6 or round(micro) % 100 == 0:
            self._coarse.clear()
            return None
        self._coarse.setdefault(rate, rows.numbers[at])
        if len(self._coarse) < _PERCENT_RUN:
            return None
        first = next(iter(self._coarse.values()))
        run = ", ".join(f"{value:g}" for value in self._coarse)
        return Stop(at, f"funding rates since {rows.place} {first} look like percent, not fractions: {run}")


def refuse(path: Path, rows: Rows, stop: Stop | None) -> None:
    """Raise what ``stop`` says, naming the file and the row; nothing when there is none."""
    if stop is not None:
        raise stop.error(f"{path}: {rows.place} {rows.numbers[stop.index]}: {stop.reason}")


def _first(mask: NDArray[np.bool_]) -> int | None:
    at = int(mask.argmax()) if len(mask) else 0
    return at if len(mask) and mask[at] else None


def _row(rows: Rows, at: int) -> tuple[float, ...]:
    return tuple(float(column[at]) for column in rows.values)


def _list(values: tuple[float, ...]) -> str:
    return ",".join(f"{value!r}" for value in values)


def _why(values: tuple[float, ...]) -> str:
    """The reason why a bar that is known to be wrong is wrong."""
    names = ("open", "high", "low", "close", "volume")
    kinds: tuple[tuple[str, Callable[[float], bool]], ...] = (
        ("NaN", lambda x: x != x),
        ("infinite", lambda x: abs(x) == np.inf),
        ("negative", lambda x: x < 0),
    )
    for name, value in zip(names, values, strict=False):
        for kind, holds in kinds:
            if holds(value):
                return f"{name} {value!r} is {kind}"
        if name != "volume" and value == 0:
            return f"{name} is zero"
    o, high, low, c = values[:4]
    if high < low:
        return f"high {high!r} is below low {low!r}"
    name, value = ("open", o) if not low <= o <= high else ("close", c)
    return f"{name} {value!r} lies above high {high!r}" if value > high else f"{name} {value!r} lies below low {low!r}"
