"""The in-memory twin of a folder of market data."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tidegate.domain.errors import DataError, InvalidBar, OutOfOrder
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import MINUTE_NS, BarSpec, FundingRate
from tidegate.quant.bars import BarTable

Row = tuple[Nanos, float, float, float, float, float]
"""Open time, open, high, low, close, volume."""


class MemoryHistory:
    """Implements ``ports.HistorySource`` over rows in memory; ``chunk_rows`` bounds a chunk.

    Rows are checked when they are reached, from the first to the last, whatever the range.
    """

    def __init__(
        self,
        bars: Mapping[tuple[InstrumentId, str], Sequence[Row]],
        funding: Mapping[InstrumentId, Sequence[tuple[Nanos, float]]] | None = None,
        marks: Mapping[tuple[InstrumentId, str], Sequence[Row]] | None = None,
        *,
        chunk_rows: int = 7,
    ) -> None:
        self._bars, self._funding, self._marks = bars, funding or {}, marks or {}
        self._chunk_rows = chunk_rows

    def bars(self, instrument: InstrumentId, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> Iterator[BarTable]:
        rows = self._bars.get((instrument, bar.name))
        if rows is None:
            known = " ".join(f"{name} {interval}" for name, interval in self._bars)
            raise DataError(f"no {bar.name} bars of {instrument}; there are {known}")
        return self._tables(rows, bar, start_ns, end_ns, needed=True)

    def funding(self, instrument: InstrumentId, start_ns: Nanos, end_ns: Nanos) -> Iterator[FundingRate]:
        for at_ns, rate in self._funding.get(instrument, ()):
            ts_ns = at_ns - at_ns % MINUTE_NS
            if start_ns <= ts_ns < end_ns:
                yield FundingRate(instrument, ts_ns, ts_ns, rate)

    def marks(self, instrument: InstrumentId, start_ns: Nanos, end_ns: Nanos) -> Iterator[BarTable]:
        for (name, interval), rows in self._marks.items():
            if name == instrument:
                rows = [(*row[:5], 0.0) for row in rows]
                return self._tables(rows, BarSpec.of(interval), start_ns, end_ns, needed=False)
        return iter(())

    def _tables(
        self, rows: Sequence[Row], bar: BarSpec, start_ns: Nanos, end_ns: Nanos, *, needed: bool
    ) -> Iterator[BarTable]:
        if start_ns >= end_ns:
            raise DataError(f"empty range: from {start_ns} to {end_ns}")
        return self._chunks(rows, bar, start_ns, end_ns, needed)

    def _chunks(
        self, rows: Sequence[Row], bar: BarSpec, start_ns: Nanos, end_ns: Nanos, needed: bool
    ) -> Iterator[BarTable]:
        found = False
        for first in range(0, len(rows), self._chunk_rows):
            for at in range(first, min(first + self._chunk_rows, len(rows))):
                _check(rows, at)
            inside = [row for row in rows[first : first + self._chunk_rows] if start_ns <= row[0] < end_ns]
            if inside:
                found = True
                opens, *columns = (np.array(column) for column in zip(*inside, strict=True))
                yield BarTable(bar.interval_ns, opens.astype(np.int64) + bar.interval_ns, *columns)
        if needed and not found:
            raise DataError(f"no bar opens from {start_ns} up to {end_ns}")


def _check(rows: Sequence[Row], at: int) -> None:
    opens_ns, opened, high, low, close, volume = rows[at]
    if at and opens_ns <= rows[at - 1][0]:
        raise OutOfOrder(f"row {at + 1}: {opens_ns} does not come after {rows[at - 1][0]}")
    if not (0 < low <= opened <= high < np.inf and low <= close <= high and 0 <= volume < np.inf):
        raise InvalidBar(f"row {at + 1}: {rows[at][1:]} is no bar")
