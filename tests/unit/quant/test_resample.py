"""Longer bars against a plain account of which base bar belongs to which."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.quant.bars import BarTable
from tidegate.quant.resample import Resampler, resample

HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS
MONDAY_NS = 4 * DAY_NS

Rows = list[tuple[float, float, float, float, float]]
Long = tuple[int, tuple[float, ...], int, bool]


def plain(ts: list[int], rows: Rows, base_ns: int, interval_ns: int, origin_ns: int) -> list[Long]:
    """Group whole buckets first, then decide when each could be known."""
    buckets: dict[int, list[int]] = {}
    for i, end_ns in enumerate(ts):
        bucket_end = origin_ns + -(-(end_ns - origin_ns) // interval_ns) * interval_ns
        buckets.setdefault(bucket_end, []).append(i)
    if ts and next(iter(buckets)) - interval_ns != ts[0] - base_ns:
        del buckets[next(iter(buckets))]
    long: list[Long] = []
    for bucket_end, members in buckets.items():
        closer = next((i for i, end_ns in enumerate(ts) if end_ns >= bucket_end), None)
        if closer is None:
            continue
        bars = [rows[i] for i in members]
        volume = bars[0][4]
        for bar in bars[1:]:
            volume += bar[4]
        row = (bars[0][0], max(b[1] for b in bars), min(b[2] for b in bars), bars[-1][3], volume)
        long.append((bucket_end, row, closer, len(members) * base_ns == interval_ns))
    return long


@settings(max_examples=200, deadline=None)
@given(
    ratio=st.integers(2, 6),
    origin=st.integers(-10, 10),
    start=st.integers(-30, 30),
    steps=st.lists(st.integers(1, 9).map(lambda n: 1 if n < 6 else n), max_size=40),
    seed=st.integers(0, 2**32 - 1),
)
def test_against_the_plain_account(ratio: int, origin: int, start: int, steps: list[int], seed: int) -> None:
    base_ns = 5
    ts = ((start + origin + np.cumsum(steps, dtype=np.int64)) * base_ns).astype(np.int64)
    rows = np.random.default_rng(seed).random((len(ts), 5))
    got = Resampler(base_ns, base_ns * ratio, origin * base_ns).push(ts, rows)
    expected = plain(ts.tolist(), [tuple(r) for r in rows.tolist()], base_ns, base_ns * ratio, origin * base_ns)
    zipped = zip(got.ts_ns.tolist(), got.rows.tolist(), got.closed_at.tolist(), got.complete.tolist(), strict=True)
    assert [(ts_ns, tuple(row), at, whole) for ts_ns, row, at, whole in zipped] == expected


def hourly(ends: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(ends, dtype=np.int64) * HOUR_NS, np.array([[float(h)] * 5 for h in ends])


def test_a_bar_can_close_the_bucket_before_it_and_its_own() -> None:
    # buckets of two hours end at even hours; 4 is missing, 6 comes alone
    long = Resampler(HOUR_NS, 2 * HOUR_NS).push(*hourly([1, 2, 3, 6]))
    assert (long.ts_ns // HOUR_NS).tolist() == [2, 4, 6]
    assert long.closed_at.tolist() == [1, 3, 3]
    assert long.complete.tolist() == [True, False, False]
    assert long.rows[:, 3].tolist() == [2.0, 3.0, 6.0]


def test_a_first_bucket_that_began_before_the_stream_is_dropped() -> None:
    long = Resampler(HOUR_NS, 4 * HOUR_NS).push(*hourly([2, 3, 4, 5, 6, 7, 8]))
    assert (long.ts_ns // HOUR_NS).tolist() == [8]
    assert long.rows[0].tolist() == [5.0, 8.0, 5.0, 8.0, 26.0]


def test_weeks_begin_on_monday() -> None:
    first = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 10**9  # a Monday
    ts = first + np.arange(1, 15, dtype=np.int64) * DAY_NS
    long = Resampler(DAY_NS, 7 * DAY_NS, MONDAY_NS).push(ts, np.ones((14, 5)))
    assert long.ts_ns.tolist() == [first + 7 * DAY_NS, first + 14 * DAY_NS]
    assert long.complete.all()


def test_a_table_becomes_a_longer_table() -> None:
    ts, rows = hourly([1, 2, 3, 4, 5])
    bars = resample(BarTable(HOUR_NS, ts, *rows.T), 2 * HOUR_NS)
    assert bars.interval_ns == 2 * HOUR_NS
    assert (bars.ts_ns // HOUR_NS).tolist() == [2, 4]
    assert bars.open.tolist() == [1.0, 3.0]
    assert bars.volume.tolist() == [3.0, 7.0]
    assert bars.rows().shape == (len(bars), 5)


@pytest.mark.parametrize("interval_ns", [HOUR_NS, 90 * 60 * 10**9, HOUR_NS // 2])
def test_only_whole_multiples(interval_ns: int) -> None:
    with pytest.raises(ValueError, match="no whole multiple"):
        Resampler(HOUR_NS, interval_ns)
