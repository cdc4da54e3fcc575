"""Markets to simulate: stored history handed on unchanged, and the invented one drawn once for all who ask."""

from itertools import islice

import numpy as np
import pytest

from tests.fakes.history import MemoryHistory
from tidegate.app.markets import SYNTHETIC_ROWS, HistoryMarket, InventedMarket
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import HOUR_NS, MINUTE_NS, BarSpec
from tidegate.simulator.synthetic import SyntheticMarket

BTC, ETH = InstrumentId("BTCUSDT"), InstrumentId("ETHUSDT")
HOUR = BarSpec.of("1h")
START_NS = 500_000 * HOUR_NS
ROWS = [(START_NS + n * HOUR_NS, 100.0 + n, 103.0 + n, 99.0 + n, 101.0 + n, 5.0) for n in range(20)]


def history() -> MemoryHistory:
    settlements = [(START_NS + n * HOUR_NS, 0.001 * n) for n in range(20)]
    return MemoryHistory({(BTC, "1h"): ROWS}, {BTC: settlements}, {(BTC, "1h"): ROWS})


def test_stored_history_is_handed_on_for_its_range() -> None:
    start, end = START_NS + 3 * HOUR_NS, START_NS + 15 * HOUR_NS
    market = HistoryMarket(history(), HOUR, start, end)
    chunks = list(market.chunks(BTC))
    assert [ts for chunk in chunks for ts in chunk.table.ts_ns.tolist()] == [row[0] + HOUR_NS for row in ROWS[3:15]]
    assert all(chunk.half_spread_frac is None and chunk.depth_qty is None for chunk in chunks)
    assert [event.ts_ns for event in market.funding(BTC)] == [row[0] for row in ROWS[3:15]]
    assert sum(len(table) for table in market.marks(BTC)) == 12


def test_what_is_not_stored_is_an_error_for_bars_only() -> None:
    market = HistoryMarket(history(), HOUR, 0, 2**62)
    with pytest.raises(DataError, match="ETHUSDT"):
        next(iter(market.chunks(ETH)))
    assert list(market.funding(ETH)) == []
    assert list(market.marks(ETH)) == []


def invented(seed: int = 7) -> InventedMarket:
    return InventedMarket(SyntheticMarket(seed, ("BTCUSDT", "ETHUSDT"), 5 * MINUTE_NS))


def test_the_order_of_asking_changes_nothing() -> None:
    one, other = invented(), invented()
    early = [list(islice(one.chunks(name), 3)) for name in (BTC, ETH)]
    rates = [list(islice(one.funding(name), 5)) for name in (BTC, ETH)]
    marks = [list(islice(one.marks(name), 3)) for name in (BTC, ETH)]
    assert [next(other.marks(name)).close.tolist() for name in (ETH, BTC)] == [
        marks[1][0].close.tolist(),
        marks[0][0].close.tolist(),
    ]
    assert [list(islice(other.funding(name), 5)) for name in (BTC, ETH)] == rates
    streams = [other.chunks(ETH), other.chunks(BTC)]
    mixed = [[next(streams[0]), next(streams[1])] for _ in range(3)]
    for k in range(3):
        for mine, theirs in ((early[1][k], mixed[k][0]), (early[0][k], mixed[k][1])):
            np.testing.assert_array_equal(mine.table.rows(), theirs.table.rows())
            assert mine.half_spread_frac == theirs.half_spread_frac
            assert mine.depth_qty == theirs.depth_qty


def test_bars_come_in_chunks_without_a_gap_with_spread_and_depth() -> None:
    chunks = list(islice(invented().chunks(BTC), 3))
    assert [len(chunk.table) for chunk in chunks] == [SYNTHETIC_ROWS] * 3
    ts_ns = np.concatenate([chunk.table.ts_ns for chunk in chunks])
    assert (np.diff(ts_ns) == 5 * MINUTE_NS).all()
    for chunk in chunks:
        assert chunk.half_spread_frac is not None
        assert chunk.depth_qty is not None
        assert len(chunk.half_spread_frac) == len(chunk.depth_qty) == SYNTHETIC_ROWS
        assert min(chunk.half_spread_frac) > 0
        assert min(chunk.depth_qty) > 0


def test_mark_prices_are_bars_beside_the_bars() -> None:
    """Each mark bar is one: its range holds its ends; it opens where the last one closed; it ends with its bar."""
    market = invented()
    tables = list(islice(market.marks(ETH), 3))
    bars = [chunk.table for chunk in islice(market.chunks(ETH), 3)]
    closes = np.concatenate([table.close for table in tables])
    opens = np.concatenate([table.open for table in tables])
    np.testing.assert_array_equal(opens[1:], closes[:-1])
    for mark, bar in zip(tables, bars, strict=True):
        np.testing.assert_array_equal(mark.ts_ns, bar.ts_ns)
        assert (mark.low <= np.minimum(mark.open, mark.close)).all()
        assert (mark.high >= np.maximum(mark.open, mark.close)).all()
        assert not mark.volume.any()
        assert np.abs(mark.close / bar.close - 1).max() < 0.05
