"""Stored market data: a folder of bar, mark price and funding files, or one bar file of any name.

Layout: ``DIR/<SYMBOL>/<interval>.<format>``, beside it ``funding.<format>`` and ``mark_<interval>.<format>``; the
formats are those of ``formats.SUFFIXES``. Files carry the open time of a bar; this module is the one place where it
becomes ``ts_ns`` = open + interval. A file is read in chunks and checked from its first row to its last, whatever the
range that is asked for: what is wrong is refused with its row, and nothing is dropped. Gaps are real, so they pass,
and are noted.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tidegate.adapters.files.checks import BarCheck, FundingCheck, utc
from tidegate.adapters.files.formats import BARS, CHUNK_ROWS, FUNDING, MARKS, SUFFIXES, Schema, read_rows
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import INTERVALS_NS, SECOND_NS, BarSpec, FundingRate
from tidegate.quant.bars import BarTable

_MARKET_FOLDER = "um"
_INFER_ROWS = 10_000
_OPEN_END_NS = 4_102_444_800 * SECOND_NS  # the year 2100: a range that goes on that long was asked for without an end


class DataFolder:
    """Implements ``ports.HistorySource`` over a folder of files.

    ``root`` holds the symbols' folders, or a folder ``um`` that does. All methods raise ``DataError`` with one line
    that names the file, the row and the reason; what is missing is named at the call, what is wrong inside a file when
    its row is reached. ``chunk_rows`` bounds the rows in memory.
    """

    def __init__(self, root: Path, *, chunk_rows: int = CHUNK_ROWS) -> None:
        if not root.is_dir():
            raise DataError(f"{root}: no such folder of market data")
        self._root = root
        self._chunk_rows = chunk_rows
        self._digests: dict[str, str] = {}
        self._notes: dict[tuple[str, str], str] = {}

    @property
    def notes(self) -> list[str]:
        """What is remarkable about the ranges read to their end: the gaps of each series, in the order of names."""
        return [self._notes[key] for key in sorted(self._notes)]

    def sha256(self) -> str:
        """SHA-256 (hex) over names and contents of the files read so far, whatever the order of reading."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self._digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def instruments(self, bar: BarSpec) -> tuple[InstrumentId, ...]:
        """The instruments of which there are bars of this interval, in the order of names."""
        found = (name for name in self._symbols() if _stored(self._folder(name), bar.name))
        return tuple(InstrumentId(name) for name in found)

    def bars(self, instrument: InstrumentId, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> Iterator[BarTable]:
        """Bars that open in ``[start_ns, end_ns)``, in chunks. Raises ``DataError``, also when there is none."""
        path = _stored(self._folder(instrument), bar.name)
        if path is None:
            raise DataError(self._missing(instrument, bar))
        self._digest(path)
        series = _Series(path, BARS, bar, start_ns, end_ns, self._chunk_rows)
        return self._noted(series, instrument, bar.name)

    def funding(self, instrument: InstrumentId, start_ns: Nanos, end_ns: Nanos) -> Iterator[FundingRate]:
        """Settlements in ``[start_ns, end_ns)``, their times floored to the minute; nothing when none is stored."""
        path = _stored(self._folder(instrument), "funding")
        if path is None:
            return iter(())
        self._digest(path)
        return _funding(path, instrument, start_ns, end_ns, self._chunk_rows)

    def marks(self, instrument: InstrumentId, start_ns: Nanos, end_ns: Nanos) -> Iterator[BarTable]:
        """Mark price bars of the finest interval stored that open in ``[start_ns, end_ns)``; volume is zero.

        Nothing when none is stored.
        """
        for name in sorted(INTERVALS_NS, key=lambda name: INTERVALS_NS[name]):
            path = _stored(self._folder(instrument), f"mark_{name}")
            if path is not None:
                self._digest(path)
                series = _Series(path, MARKS, BarSpec.of(name), start_ns, end_ns, self._chunk_rows)
                return self._noted(series, instrument, f"mark_{name}")
        return iter(())

    def _noted(self, series: "_Series", instrument: str, name: str) -> Iterator[BarTable]:
        yield from series.tables()
        if series.gaps:
            self._notes[instrument, name] = f"{instrument} {name}: {series.gaps}"

    def _folder(self, instrument: str) -> Path:
        direct = self._root / instrument
        nested = self._root / _MARKET_FOLDER / instrument
        return nested if nested.is_dir() and not direct.is_dir() else direct

    def _symbols(self) -> list[str]:
        places = (self._root, self._root / _MARKET_FOLDER)
        return sorted({entry.name for place in places if place.is_dir() for entry in place.iterdir() if entry.is_dir()})

    def _missing(self, instrument: str, bar: BarSpec) -> str:
        folder = self._folder(instrument)
        if folder.is_dir():
            others = [name for name in INTERVALS_NS if _stored(folder, name)]
            return f"{folder}: no {bar.name} bars; there are {' '.join(others) or 'none of any interval'}"
        known = self.instruments(bar)
        near = get_close_matches(instrument.upper(), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {' '.join(known[:8]) or 'none'}"
        return f"{self._root}: no {bar.name} bars of {instrument}; {hint}"

    def _digest(self, path: Path) -> None:
        name = f"{path.parent.name}/{path.name}"
        if name not in self._digests:
            with path.open("rb") as file:
                self._digests[name] = hashlib.file_digest(file, "sha256").hexdigest()


def load_bar_file(
    path: Path, bar: BarSpec | None, start_ns: Nanos, end_ns: Nanos, *, chunk_rows: int = CHUNK_ROWS
) -> Iterator[BarTable]:
    """Bars of one file of any name that open in ``[start_ns, end_ns)``, in chunks.

    Without ``bar`` the interval is the most common step of the first 10,000 rows. Raises ``DataError``.
    """
    if not path.is_file():
        raise DataError(_no_file(path))
    spec = bar or infer_interval(path)
    return _Series(path, BARS, spec, start_ns, end_ns, chunk_rows).tables()


def infer_interval(path: Path) -> BarSpec:
    """The interval of a bar file: the most common step between its first 10,000 rows. Raises ``DataError``."""
    if not path.is_file():
        raise DataError(_no_file(path))
    rows = next(read_rows(path, BARS, _INFER_ROWS), None)
    steps = np.diff(rows.time) if rows is not None else np.empty(0, dtype=np.int64)
    steps = steps[steps > 0]
    if not len(steps):
        raise DataError(f"{path}: an interval cannot be told from fewer than two rows in order; name it")
    values, counts = np.unique(steps, return_counts=True)
    assert rows is not None
    unit_ns = 1_000 if np.median(rows.time) >= 10**14 else 1_000_000
    interval_ns = int(values[counts.argmax()]) * unit_ns
    named = next((name for name, length in INTERVALS_NS.items() if length == interval_ns), None)
    if named is None and interval_ns % SECOND_NS:
        raise DataError(f"{path}: the most common step between rows is {interval_ns / SECOND_NS:g} s: no bar interval")
    return BarSpec(named or f"{interval_ns // SECOND_NS}s", interval_ns)


@dataclass(slots=True)
class _Gaps:
    """Bars that the grid has and the series has not."""

    gaps: int = 0
    missing: int = 0
    first_ns: int = 0
    expected_ns: int | None = None

    def see(self, open_ns: NDArray[np.int64], interval_ns: int) -> None:
        """Count the gaps before and between consecutive opens; the first of all has none before it."""
        before = open_ns[0] if self.expected_ns is None else self.expected_ns
        expected = np.concatenate([[before], open_ns[:-1] + interval_ns])
        at = np.flatnonzero(open_ns != expected)
        if len(at):
            self.first_ns = self.first_ns if self.gaps else int(expected[at[0]])
            self.gaps += len(at)
            self.missing += int(((open_ns[at] - expected[at]) // interval_ns).sum())
        self.expected_ns = int(open_ns[-1]) + interval_ns

    def __bool__(self) -> bool:
        return self.gaps > 0

    def __str__(self) -> str:
        gaps = "1 gap" if self.gaps == 1 else f"{self.gaps} gaps"
        bars = "1 missing bar" if self.missing == 1 else f"{self.missing} missing bars"
        return f"{gaps}, {bars}, first {utc(self.first_ns)}"


class _Series:
    """One bar file, read once from end to end; ``gaps`` are those inside the range, complete when it has been read."""

    def __init__(
        self, path: Path, schema: Schema, bar: BarSpec, start_ns: Nanos, end_ns: Nanos, chunk_rows: int
    ) -> None:
        if start_ns >= end_ns:
            raise DataError(f"{path}: empty range: from {utc(start_ns)} to {utc(end_ns)}")
        self.gaps = _Gaps()
        self._path = path
        self._schema = schema
        self._bar = bar
        self._start_ns = start_ns
        self._end_ns = end_ns
        self._chunk_rows = chunk_rows

    def tables(self) -> Iterator[BarTable]:
        check = BarCheck(self._path, self._bar)
        first_ns: int | None = None
        last_ns, found = 0, False
        for rows in read_rows(self._path, self._schema, self._chunk_rows):
            open_ns = check.accept(rows)
            if not len(open_ns):
                continue
            first_ns = int(open_ns[0]) if first_ns is None else first_ns
            last_ns = int(open_ns[-1])
            inside = slice(*np.searchsorted(open_ns, [self._start_ns, self._end_ns]).tolist())
            if inside.stop > inside.start:
                found = True
                self.gaps.see(open_ns[inside], self._bar.interval_ns)
                yield self._table(open_ns[inside], [column[inside] for column in rows.values])
        if first_ns is None:
            raise DataError(f"{self._path}: the file has no rows")
        if not found and self._schema is not MARKS:
            until = "on" if self._end_ns >= _OPEN_END_NS else f"up to {utc(self._end_ns)}"
            asked = f"no bar opens from {utc(self._start_ns)} {until}"
            raise DataError(f"{self._path}: {asked}; the file has {utc(first_ns)} to {utc(last_ns)}")

    def _table(self, open_ns: NDArray[np.int64], columns: list[NDArray[np.float64]]) -> BarTable:
        if len(columns) == len(MARKS.values):
            columns = [*columns, np.zeros(len(open_ns))]
        return BarTable(self._bar.interval_ns, open_ns + self._bar.interval_ns, *columns)


def _funding(
    path: Path, instrument: InstrumentId, start_ns: Nanos, end_ns: Nanos, chunk_rows: int
) -> Iterator[FundingRate]:
    check = FundingCheck(path)
    for rows in read_rows(path, FUNDING, chunk_rows):
        for ts_ns, rate in zip(check.accept(rows).tolist(), rows.values[0].tolist(), strict=True):
            if start_ns <= ts_ns < end_ns:
                yield FundingRate(instrument, ts_ns, ts_ns, rate)


def _stored(folder: Path, name: str) -> Path | None:
    return next((path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)


def _no_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"{path}: no such file; there is no folder {path.parent}"
    files = [entry.name for entry in path.parent.iterdir() if entry.name.endswith(SUFFIXES)]
    near = get_close_matches(path.name, files, n=1, cutoff=0.5)
    return f"{path}: no such file" + (f"; did you mean {near[0]}?" if near else "")
