"""The HistorySource port: stored bars, settlements and mark prices by range, or one clear refusal."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.history import MemoryHistory
from tests.unit.adapters.files.bar_files import HOUR, HOUR_MS, Row, hours, joined, write_bars, write_lines
from tidegate.adapters.files.history import DataFolder
from tidegate.domain.errors import DataError, InvalidBar, OutOfOrder
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import HOUR_NS, MINUTE_NS, BarSpec
from tidegate.ports import HistorySource

BTC, ETH = InstrumentId("BTCUSDT"), InstrumentId("ETHUSDT")
EVER = (0, 2**62)
MS = 10**6
GAPPED = [row for n, row in enumerate(hours(40)) if n not in (9, 10, 23)]
FIRST_NS = GAPPED[0][0] * MS


@dataclass
class Content:
    """What a source is to hold: rows as files have them, times in milliseconds."""

    bars: Sequence[Row] = field(default_factory=lambda: GAPPED)
    funding: Sequence[tuple[int, float]] = ()
    marks: Sequence[Row] = ()


def in_memory(content: Content, _: Path) -> HistorySource:
    def rows(of: Sequence[Row]) -> list[Row]:
        return [(row[0] * MS, *row[1:]) for row in of]

    return MemoryHistory(
        {(BTC, "1h"): rows(content.bars)},
        {BTC: [(at * MS, rate) for at, rate in content.funding]},
        {(BTC, "1h"): rows(content.marks)} if content.marks else {},
    )


def on_disk(content: Content, root: Path) -> HistorySource:
    folder = root / BTC
    folder.mkdir(parents=True)
    write_bars(folder, "1h", "csv", content.bars)
    if content.funding:
        lines = [f"{at},{rate!r}" for at, rate in content.funding]
        write_lines(folder / "funding.csv", ["funding_time,funding_rate", *lines])
    if content.marks:
        write_bars(folder, "mark_1h", "csv", content.marks)
    return DataFolder(root, chunk_rows=7)


MAKERS = {"DataFolder": on_disk, "MemoryHistory": in_memory}


@pytest.fixture(params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Makes the source under test from its content."""
    return lambda content=None: MAKERS[request.param](content or Content(), tmp_path / "data")


@pytest.fixture(scope="module", params=MAKERS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HistorySource:
    """One source with everything in it, for many questions."""
    settlements = [(row[0] + 7, 0.0001 * n) for n, row in enumerate(GAPPED)]
    return MAKERS[request.param](Content(GAPPED, settlements, GAPPED), tmp_path_factory.mktemp("whole") / "data")


def times(tables: Iterator) -> list[int]:  # type: ignore[type-arg]
    return [ts for table in tables for ts in table.ts_ns.tolist()]


def test_bars_come_back_exactly_in_order_and_end_when_they_are_known(made) -> None:  # type: ignore[no-untyped-def]
    tables = list(made().bars(BTC, HOUR, *EVER))
    assert len(tables) > 1
    assert all(len(table) and table.interval_ns == HOUR_NS for table in tables)
    got = joined(iter(tables))
    assert got["ts_ns"].tolist() == [row[0] * MS + HOUR_NS for row in GAPPED]
    assert got["ts_ns"].dtype == np.int64
    for k, name in enumerate(("open", "high", "low", "close", "volume"), start=1):
        assert got[name].dtype == np.float64
        assert got[name].tolist() == [row[k] for row in GAPPED], name


@settings(max_examples=60, deadline=None)
@given(edges=st.tuples(*[st.integers(FIRST_NS - HOUR_NS, FIRST_NS + 42 * HOUR_NS)] * 2), on_grid=st.booleans())
def test_a_range_selects_by_the_open_and_is_half_open(
    whole: HistorySource, edges: tuple[int, int], on_grid: bool
) -> None:
    start, end = sorted(edge - edge % HOUR_NS if on_grid else edge for edge in edges)
    wanted = [row[0] * MS + HOUR_NS for row in GAPPED if start <= row[0] * MS < end]
    if not wanted:
        with pytest.raises(DataError):
            list(whole.bars(BTC, HOUR, start, end))
        return
    assert times(whole.bars(BTC, HOUR, start, end)) == wanted
    assert times(whole.marks(BTC, start, end)) == wanted
    settled = [event.ts_ns for event in whole.funding(BTC, start, end)]
    assert settled == [ts - HOUR_NS for ts in wanted]


def test_two_readers_do_not_disturb_each_other(whole: HistorySource) -> None:
    pairs = list(zip_longest(whole.bars(BTC, HOUR, *EVER), whole.bars(BTC, HOUR, *EVER)))
    for one, other in pairs:
        np.testing.assert_array_equal(one.rows(), other.rows())


@pytest.mark.parametrize(
    ("instrument", "interval", "named"),
    [(ETH, "1h", "no 1h bars of ETHUSDT.*BTCUSDT"), (BTC, "4h", r"no 4h bars.*there are .*\b1h")],
)
def test_what_is_not_stored_is_refused_at_the_call_with_what_there_is(  # type: ignore[no-untyped-def]
    made, instrument: InstrumentId, interval: str, named: str
) -> None:
    with pytest.raises(DataError, match=named):
        made().bars(instrument, BarSpec.of(interval), *EVER)


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5)])
def test_an_empty_range_is_refused_at_the_call(whole: HistorySource, start: int, end: int) -> None:
    for ask in (whole.bars, lambda name, _, *span: whole.marks(name, *span)):
        with pytest.raises(DataError, match="empty range"):
            ask(BTC, HOUR, FIRST_NS + start * HOUR_NS, FIRST_NS + end * HOUR_NS)


def test_a_range_without_a_bar_is_refused(whole: HistorySource) -> None:
    later = FIRST_NS + 1_000 * HOUR_NS
    with pytest.raises(DataError, match="no bar opens from"):
        list(whole.bars(BTC, HOUR, later, later + HOUR_NS))


@pytest.mark.parametrize("at", [1, 6, 7, 8, 39])
@pytest.mark.parametrize(
    ("sin", "error"),
    [("twice", OutOfOrder), ("backwards", OutOfOrder), ("nan", InvalidBar), ("crossed", InvalidBar)],
)
def test_a_bad_row_is_refused_wherever_it_lies_also_outside_the_range(  # type: ignore[no-untyped-def]
    made, at: int, sin: str, error: type[DataError]
) -> None:
    rows = hours(40)
    rows[at] = {
        "twice": (rows[at - 1][0], *rows[at][1:]),
        "backwards": (rows[at - 1][0] - HOUR_MS, *rows[at][1:]),
        "nan": (*rows[at][:4], math.nan, rows[at][5]),
        "crossed": (*rows[at][:2], rows[at][3], rows[at][2], *rows[at][4:]),
    }[sin]
    source = made(Content(rows))
    for span in (EVER, (rows[20][0] * MS, rows[21][0] * MS)):
        with pytest.raises(error) as caught:
            list(source.bars(BTC, HOUR, *span))
        assert "\n" not in str(caught.value)


def test_settlements_are_floored_to_the_minute(made) -> None:  # type: ignore[no-untyped-def]
    first = GAPPED[0][0]
    stamps = [first, first + 8 * HOUR_MS + 50, first + 16 * HOUR_MS + 1]
    source = made(Content(funding=[(at, rate) for at, rate in zip(stamps, (0.0001, -0.003, 0.0), strict=True)]))
    events = list(source.funding(BTC, *EVER))
    assert [(each.instrument, each.ts_ns, each.rate) for each in events] == [
        (BTC, FIRST_NS, 0.0001),
        (BTC, FIRST_NS + 8 * HOUR_NS, -0.003),
        (BTC, FIRST_NS + 16 * HOUR_NS, 0.0),
    ]
    assert all(each.ts_ns % MINUTE_NS == 0 and each.recv_ns == each.ts_ns for each in events)
    assert [each.rate for each in source.funding(BTC, FIRST_NS + 8 * HOUR_NS, FIRST_NS + 16 * HOUR_NS)] == [-0.003]


def test_marks_have_prices_and_no_volume(whole: HistorySource) -> None:
    got = joined(whole.marks(BTC, *EVER))
    assert got["close"].tolist() == [row[4] for row in GAPPED]
    assert not got["volume"].any()


def test_no_settlements_and_no_marks_are_no_error(made) -> None:  # type: ignore[no-untyped-def]
    source = made()
    for name in (BTC, ETH):
        assert list(source.funding(name, *EVER)) == []
        assert list(source.marks(name, *EVER)) == []
    assert list(source.funding(BTC, 5, 5)) == []
