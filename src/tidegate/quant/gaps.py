"""Bars on their whole grid, for analysis. Nothing that trades sees them: a bar that was not there is not made up."""

from typing import Literal

import numpy as np

from tidegate.quant.bars import BarTable


def fill_gaps(bars: BarTable, how: Literal["nan", "previous"] = "nan") -> BarTable:
    """The bars ``(T,)`` with every missing one between the first and the last put in its place, ``(N,)``, N >= T.

    ``nan`` (default): prices and volume of a missing bar are nan, for nobody knows them. ``previous``: its prices are
    the close before it and its volume is 0, which is what a market without a trade looks like; an outage looks the
    same, so volatilities come out too small. Raises ``ValueError`` for another word, and for bars off their own grid.
    """
    if how not in ("nan", "previous"):
        raise ValueError(f"gaps are filled with 'nan' or 'previous', not {how!r}")
    if not len(bars):
        return bars
    steps = bars.ts_ns - bars.ts_ns[0]
    if bool((steps % bars.interval_ns).any()):
        raise ValueError(f"bars of {bars.interval_ns} ns do not lie a whole number of intervals apart")
    place = steps // bars.interval_ns
    count = int(place[-1]) + 1
    ts_ns = bars.ts_ns[0] + bars.interval_ns * np.arange(count, dtype=np.int64)
    columns = []
    for values in (bars.open, bars.high, bars.low, bars.close, bars.volume):
        column = np.full(count, np.nan)
        column[place] = values
        columns.append(column)
    if how == "previous":
        there = np.zeros(count, dtype=np.int64)
        there[place] = place
        last = np.maximum.accumulate(there)
        missing = last != np.arange(count)
        close = columns[3][last]
        for column in columns[:4]:
            column[missing] = close[missing]
        columns[4][missing] = 0.0
    return BarTable(bars.interval_ns, ts_ns, *columns)
