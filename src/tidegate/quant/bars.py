"""Columns of bars."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BarTable:
    """Consecutive closed bars of one instrument as columns of equal length ``(T,)``.

    ``ts_ns`` is the exclusive end of each bar (open time + interval), int64, strictly increasing; gaps are allowed.
    The other columns are float64; volume is in base units.
    """

    interval_ns: int
    ts_ns: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ts_ns)

    def rows(self) -> NDArray[np.float64]:
        """The bars as rows ``(T, 5)``: open, high, low, close, volume."""
        columns = (self.open, self.high, self.low, self.close, self.volume)
        return np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.float64)
