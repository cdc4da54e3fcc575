"""The loader: what it reads, what it says about it, and that the size of a chunk does not matter."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.adapters.files.bar_files import (
    EVER,
    FIRST_MS,
    FORMATS,
    HOUR,
    HOUR_MS,
    Row,
    assert_same,
    csv_lines,
    expected,
    hours,
    joined,
    write_bars,
    write_lines,
)
from tidegate.adapters.files.history import DataFolder, infer_interval, load_bar_file
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import DAY_NS, HOUR_NS, BarSpec, FundingRate
from tidegate.ports import HistorySource

BTC = InstrumentId("BTCUSDT")


@pytest.fixture
def symbol(tmp_path: Path) -> Path:
    folder = tmp_path / BTC
    folder.mkdir()
    return folder


@st.composite
def valid_bars(draw: st.DrawFn) -> list[Row]:
    """Bars on the hour, with gaps, at prices and volumes of any size and sense."""
    price = st.floats(1e-9, 1e9, allow_subnormal=False)
    rows, open_ms = [], FIRST_MS
    for _ in range(draw(st.integers(1, 25))):
        low, one, two, high = sorted(draw(st.tuples(price, price, price, price)))
        opened, closed = (one, two) if draw(st.booleans()) else (two, one)
        rows.append((open_ms, opened, high, low, closed, draw(st.floats(0, 1e12))))
        open_ms += HOUR_MS * draw(st.sampled_from([1, 1, 1, 2, 30]))
    return rows


@settings(max_examples=60, deadline=None)
@given(rows=valid_bars(), kind=st.sampled_from(FORMATS), chunk_rows=st.integers(1, 30))
def test_what_was_written_is_read(rows: list[Row], kind: str, chunk_rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = write_bars(Path(name), "some_file", kind, rows)
        chunks = list(load_bar_file(path, HOUR, *EVER, chunk_rows=chunk_rows))
    assert all(0 < len(chunk) <= chunk_rows for chunk in chunks)
    assert_same(joined(iter(chunks)), expected(rows))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_is_read_in_every_format(symbol: Path, kind: str) -> None:
    rows = hours(30)
    write_bars(symbol, "1h", kind, rows)
    source: HistorySource = DataFolder(symbol.parent)
    assert_same(joined(source.bars(BTC, HOUR, *EVER)), expected(rows))


def test_the_market_folder_may_stand_between(tmp_path: Path) -> None:
    nested = tmp_path / "um" / BTC
    nested.mkdir(parents=True)
    write_bars(nested, "1h", "csv", hours(3))
    outer, inner = DataFolder(tmp_path), DataFolder(tmp_path / "um")
    assert_same(joined(outer.bars(BTC, HOUR, *EVER)), joined(inner.bars(BTC, HOUR, *EVER)))
    assert outer.sha256() == inner.sha256()
    assert outer.instruments(HOUR) == inner.instruments(HOUR) == (BTC,)
    assert inner.instruments(BarSpec.of("4h")) == ()


def test_a_range_selects_by_open_time_and_half_open(symbol: Path) -> None:
    rows = hours(20)
    write_bars(symbol, "1h", "parquet", rows)
    for chunk_rows in (1, 3, 100):
        source = DataFolder(symbol.parent, chunk_rows=chunk_rows)
        got = joined(source.bars(BTC, HOUR, rows[5][0] * 10**6, rows[9][0] * 10**6))
        assert_same(got, expected(rows[5:9]))


def test_gaps_pass_and_are_noted_for_the_range(symbol: Path) -> None:
    rows = hours(40)
    write_bars(symbol, "1h", "csv", rows[:5] + rows[6:10] + rows[13:30] + rows[31:])
    for chunk_rows in (1, 4, 5, 1000):
        source = DataFolder(symbol.parent, chunk_rows=chunk_rows)
        list(source.bars(BTC, HOUR, *EVER))
        assert source.notes == ["BTCUSDT 1h: 3 gaps, 5 missing bars, first 2023-01-01T05:00Z"]
        list(source.bars(BTC, HOUR, rows[20][0] * 10**6, EVER[1]))
        assert source.notes == ["BTCUSDT 1h: 1 gap, 1 missing bar, first 2023-01-02T06:00Z"]


def test_the_digest_is_of_the_files_read_and_of_nothing_else(tmp_path: Path) -> None:
    for name in (BTC, "ETHUSDT"):
        (tmp_path / name).mkdir()
        write_bars(tmp_path / name, "1h", "csv", hours(4))
    write_lines(tmp_path / BTC / "funding.csv", ["funding_time,funding_rate", f"{FIRST_MS},0.0001"])
    eth = InstrumentId("ETHUSDT")

    one, two, three = DataFolder(tmp_path), DataFolder(tmp_path), DataFolder(tmp_path)
    nothing = one.sha256()
    list(one.bars(BTC, HOUR, *EVER)), list(one.bars(eth, HOUR, *EVER)), list(one.bars(eth, HOUR, *EVER))
    list(two.bars(eth, HOUR, *EVER)), list(two.bars(BTC, HOUR, *EVER))
    list(three.bars(BTC, HOUR, *EVER))
    assert one.sha256() == two.sha256()
    assert len({nothing, one.sha256(), three.sha256()}) == 3
    before = two.sha256()
    list(two.funding(BTC, *EVER))
    assert two.sha256() != before

    write_bars(tmp_path / BTC, "1h", "csv", hours(5))
    changed = DataFolder(tmp_path)
    list(changed.bars(BTC, HOUR, *EVER))
    assert changed.sha256() != three.sha256()


def test_funding_is_floored_to_the_minute_and_half_open(symbol: Path) -> None:
    stamps = [FIRST_MS + n * 8 * HOUR_MS + n % 48 for n in range(10)]
    write_lines(symbol / "funding.csv", ["funding_time,funding_rate", *(f"{ms},{n}e-5" for n, ms in enumerate(stamps))])
    first_ns = FIRST_MS * 10**6
    for chunk_rows in (1, 3, 100):
        source = DataFolder(symbol.parent, chunk_rows=chunk_rows)
        got = list(source.funding(BTC, first_ns + 8 * HOUR_NS, first_ns + 24 * HOUR_NS))
        assert got == [FundingRate(BTC, at := first_ns + n * 8 * HOUR_NS, at, float(f"{n}e-5")) for n in (1, 2)]


def test_funding_of_the_archive_and_of_the_interface(symbol: Path) -> None:
    source = DataFolder(symbol.parent)
    assert list(source.funding(BTC, *EVER)) == []
    (symbol / "funding.json").write_text(
        f'[{{"symbol": "BTCUSDT", "fundingTime": {FIRST_MS}, "fundingRate": "0.00010000", "markPrice": "1"}}]'
    )
    (one,) = source.funding(BTC, *EVER)
    lines = ["calc_time,funding_interval_hours,last_funding_rate", f"{FIRST_MS},8,0.00010000"]
    write_lines(symbol / "funding.csv", lines)
    assert list(source.funding(BTC, *EVER)) == [one]
    assert one.rate == 0.0001


def test_marks_are_the_finest_there_are_and_have_no_volume(symbol: Path) -> None:
    source = DataFolder(symbol.parent)
    assert list(source.marks(BTC, *EVER)) == []
    rows = [row[:5] for row in hours(16)]
    names = ("open_time", "open", "high", "low", "close")
    coarse = dict(zip(names, zip(*rows[::8], strict=True), strict=True))
    pq.write_table(pa.table(coarse), symbol / "mark_8h.parquet")
    (table,) = source.marks(BTC, *EVER)
    assert table.interval_ns == 8 * HOUR_NS
    assert table.ts_ns[0] == FIRST_MS * 10**6 + 8 * HOUR_NS
    assert not table.volume.any()
    pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), symbol / "mark_1h.parquet")
    (table,) = source.marks(BTC, *EVER)
    assert (table.interval_ns, len(table)) == (HOUR_NS, 16)
    assert list(source.marks(BTC, 0, 1)) == []


def test_a_file_may_turn_to_microseconds_once_or_be_in_them(tmp_path: Path) -> None:
    rows = hours(20)
    lines = csv_lines(rows)
    for first in (1, 8):
        turned = [line.replace(",", "000,", 1) if n >= first else line for n, line in enumerate(lines) if n]
        path = write_lines(tmp_path / "turned.csv", [lines[0], *turned])
        for chunk_rows in (1, 7, 100):
            assert_same(joined(load_bar_file(path, None, *EVER, chunk_rows=chunk_rows)), expected(rows))


@pytest.mark.parametrize(
    ("step_ms", "name"), [(60_000, "1m"), (HOUR_MS, "1h"), (24 * HOUR_MS, "1d"), (600_000, "600s")]
)
def test_the_interval_is_the_most_common_step(tmp_path: Path, step_ms: int, name: str) -> None:
    rows = [(n * step_ms + FIRST_MS, *row[1:]) for n, row in enumerate(hours(30)) if n not in (4, 5, 9)]
    path = write_bars(tmp_path, "anything", "csv", rows)
    assert infer_interval(path) == BarSpec(name, step_ms * 10**6)
    assert_same(joined(load_bar_file(path, None, *EVER)), expected(rows, step_ms * 10**6))


def test_weekly_bars_open_on_mondays_and_three_day_bars_anywhere(tmp_path: Path) -> None:
    monday = 1_672_617_600_000
    for name, first_ms, good in (
        ("1w", monday, True),
        ("1w", FIRST_MS, False),
        ("3d", FIRST_MS, True),
        ("3d", FIRST_MS + 24 * HOUR_MS, True),
    ):
        bar = BarSpec.of(name)
        rows = [(first_ms + n * bar.interval_ns // 10**6, *row[1:]) for n, row in enumerate(hours(5))]
        path = write_bars(tmp_path, "bars", "csv", rows)
        if good:
            assert_same(joined(load_bar_file(path, bar, *EVER)), expected(rows, bar.interval_ns))
        else:
            with pytest.raises(DataError, match="off the 1w grid"):
                list(load_bar_file(path, bar, *EVER))


def test_what_is_missing_names_the_nearest_that_is_there(symbol: Path) -> None:
    write_bars(symbol, "1h", "csv", hours(3))
    write_bars(symbol, "4h", "csv", hours(1))
    source = DataFolder(symbol.parent)
    for name in ("BTCUSD", "btcusdt"):
        with pytest.raises(DataError, match=f"no 1h bars of {name}; did you mean BTCUSDT"):
            source.bars(InstrumentId(name), HOUR, *EVER)
    with pytest.raises(DataError, match="no 2h bars; there are 1h 4h"):
        source.bars(BTC, BarSpec.of("2h"), *EVER)
    with pytest.raises(DataError, match="no such folder"):
        DataFolder(symbol / "nowhere")
    with pytest.raises(DataError, match=r"no such file; did you mean 1h\.csv"):
        load_bar_file(symbol / "1hour.csv", None, *EVER)


def test_an_empty_range_names_the_span_of_the_file(symbol: Path) -> None:
    write_bars(symbol, "1h", "csv", hours(3))
    source = DataFolder(symbol.parent)
    with pytest.raises(DataError, match="the file has 2023-01-01T00:00Z to 2023-01-01T02:00Z"):
        list(source.bars(BTC, HOUR, FIRST_MS * 10**6 + DAY_NS, EVER[1]))
    with pytest.raises(DataError, match="empty range: from 1970-01-02T00:00Z to 1970-01-01T00:00Z"):
        source.bars(BTC, HOUR, DAY_NS, 0)


@pytest.mark.parametrize("content", ["", "open_time,open,high,low,close,volume\n"])
def test_a_file_without_rows_is_refused(symbol: Path, content: str) -> None:
    (symbol / "1h.csv").write_text(content)
    with pytest.raises(DataError, match="the file has no rows"):
        list(DataFolder(symbol.parent).bars(BTC, HOUR, *EVER))
    with pytest.raises(DataError, match="fewer than two rows"):
        infer_interval(symbol / "1h.csv")
