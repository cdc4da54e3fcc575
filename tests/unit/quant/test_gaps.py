"""Gaps are filled for analysis only, and not with prices unless asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.quant.bars import BarTable
from tidegate.quant.gaps import fill_gaps

MINUTE = 60 * 10**9
COLUMNS = ("open", "high", "low", "close", "volume")


def at(places: list[int]) -> BarTable:
    ts_ns = MINUTE * (np.array(places, dtype=np.int64) + 7)
    return BarTable(MINUTE, ts_ns, *(np.array(places, dtype=float) + step for step in (1.0, 3.0, 0.5, 2.0, 10.0)))


@given(st.sets(st.integers(0, 200), min_size=1, max_size=60).map(sorted), st.sampled_from(["nan", "previous"]))
def test_bars_stay_where_they_are_and_the_grid_is_whole(places: list[int], how: str) -> None:
    bars, filled = at(places), fill_gaps(at(places), how)  # type: ignore[arg-type]
    assert (np.diff(filled.ts_ns) == MINUTE).all()
    assert (filled.ts_ns[0], filled.ts_ns[-1]) == (bars.ts_ns[0], bars.ts_ns[-1])
    there = np.isin(filled.ts_ns, bars.ts_ns)
    for name in COLUMNS:
        assert np.array_equal(getattr(filled, name)[there], getattr(bars, name))
    missing = ~there
    if how == "nan":
        assert all(np.isnan(getattr(filled, name)[missing]).all() for name in COLUMNS)
        return
    for place in np.flatnonzero(missing):
        prices = [getattr(filled, name)[place] for name in COLUMNS]
        assert prices == [filled.close[place - 1]] * 4 + [0.0]


def test_wrong_words_and_bars_off_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="'nan' or 'previous', not 'ffill'"):
        fill_gaps(at([1]), "ffill")  # type: ignore[arg-type]
    bars = at([0, 1, 2])
    bars.ts_ns[1] += 1
    with pytest.raises(ValueError, match="whole number of intervals"):
        fill_gaps(bars)
    assert len(fill_gaps(at([]))) == 0
