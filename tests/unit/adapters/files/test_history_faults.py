"""What the loader refuses: every fault with its row and its reason, wherever a chunk ends, and as one line."""

import gzip
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.adapters.files.bar_files import EVER, FIRST_MS, HOUR, HOUR_MS, csv_lines, hours, write_bars, write_lines
from tidegate.adapters.files.history import DataFolder, load_bar_file
from tidegate.domain.errors import DataError, InvalidBar, OutOfOrder
from tidegate.domain.ids import InstrumentId

BTC = InstrumentId("BTCUSDT")
CHUNKS = (1, 2, 7, 1000)
LINE = 12
"""The line that the faults are put into; line 1 is the header."""

Edit = Callable[[list[str]], None]


def _cell(column: int, value: str, line: int = LINE) -> Edit:
    def edit(lines: list[str]) -> None:
        cells = lines[line - 1].split(",")
        cells[column] = value
        lines[line - 1] = ",".join(cells)

    return edit


def _time(factor: float, offset: int = 0, first: int = LINE, count: int = 1) -> Edit:
    def edit(lines: list[str]) -> None:
        for line in range(first, first + count):
            time = int(lines[line - 1].split(",")[0])
            _cell(0, str(int(time * factor) + offset), line)(lines)

    return edit


def _swap(lines: list[str]) -> None:
    lines[LINE - 2], lines[LINE - 1] = lines[LINE - 1], lines[LINE - 2]


def _late_block(lines: list[str]) -> None:
    block = lines[2:5]
    del lines[2:5]
    lines[LINE - 1 : LINE - 1] = block


def _insert(text: str | None = None) -> Edit:
    def edit(lines: list[str]) -> None:
        lines.insert(LINE - 1, lines[LINE - 2] if text is None else text)

    return edit


def _conflict(lines: list[str]) -> None:
    lines.insert(LINE - 1, lines[LINE - 2])
    _cell(4, "110.25")(lines)


# Line 12 is the eleventh bar: open 110, high 112.5, low 108.5, close 110.5, volume 20.
FAULTS: dict[str, tuple[Edit, type[DataError], str]] = {
    "duplicate_exact": (_insert(), OutOfOrder, "duplicate open_time 2023-01-01T09:00Z with the same values"),
    "duplicate_conflicting": (_conflict, OutOfOrder, "duplicate open_time 2023-01-01T09:00Z with other values: 109.0,"),
    "high_lt_low": (_cell(2, "108.0"), InvalidBar, "high 108.0 is below low 108.5"),
    "close_above_high": (_cell(4, "112.75"), InvalidBar, "close 112.75 lies above high 112.5"),
    "close_below_low": (_cell(4, "108.25"), InvalidBar, "close 108.25 lies below low 108.5"),
    "open_below_low": (_cell(1, "108.25"), InvalidBar, "open 108.25 lies below low 108.5"),
    "open_above_high": (_cell(1, "112.75"), InvalidBar, "open 112.75 lies above high 112.5"),
    "negative_volume": (_cell(5, "-20.0"), InvalidBar, "volume -20.0 is negative"),
    "nan_price": (_cell(4, "nan"), InvalidBar, "close nan is NaN"),
    "empty_price": (_cell(4, ""), InvalidBar, "close is empty"),
    "nan_volume": (_cell(5, "NaN"), InvalidBar, "volume nan is NaN"),
    "null_volume": (_cell(5, "null"), InvalidBar, "volume is not a number: 'null'"),
    "inf_volume": (_cell(5, "inf"), InvalidBar, "volume inf is infinite"),
    "inf_price": (_cell(2, "inf"), InvalidBar, "high inf is infinite"),
    "zero_price": (_cell(3, "0.0"), InvalidBar, "low is zero"),
    "negative_price": (_cell(3, "-108.5"), InvalidBar, "low -108.5 is negative"),
    "off_grid": (_time(1, 1234), InvalidBar, "is 1.234 s off the 1h grid"),
    "thousands_separator": (_cell(1, '"1,110.00"'), InvalidBar, "open is not a number: '1,110.00'"),
    "thousands_unquoted": (_cell(1, "1,110.00"), InvalidBar, "7 fields where the first line has 6"),
    "underscore": (_cell(1, "1_10"), InvalidBar, "open is not a number: '1_10'"),
    "unit_s": (_time(0.001), InvalidBar, "open_time 1672567200 is in seconds, not milliseconds"),
    "unit_ns": (_time(10**6), InvalidBar, "is in nanoseconds, not milliseconds"),
    "unit_us": (
        _time(1000, first=LINE - 4, count=4),
        InvalidBar,
        "in milliseconds again, after microseconds since line 8",
    ),
    "far_future": (_cell(0, "9999999999999"), InvalidBar, "open_time 9999999999999 is no time in milliseconds"),
    "row_index": (_cell(0, "10"), InvalidBar, "open_time 10 is no time in milliseconds"),
    "fractional_time": (_cell(0, "1672567200000.0"), InvalidBar, "open_time is not a whole number"),
    "out_of_order": (_swap, OutOfOrder, "out of order: 2023-01-01T09:00Z after 2023-01-01T10:00Z"),
    "late_block": (_late_block, OutOfOrder, "out of order: 2023-01-01T01:00Z after 2023-01-01T12:00Z"),
    "header_in_body": (_insert("open_time,open,high,low,close,volume"), InvalidBar, "a header inside the data"),
    "missing_field": (
        _insert("1672567200000,110.0,112.5"),
        InvalidBar,
        "3 fields where the first line has 6; the line",
    ),
}


def refusal(path: Path, chunk_rows: int = 1000) -> DataError:
    with pytest.raises(DataError) as caught:
        list(load_bar_file(path, HOUR, *EVER, chunk_rows=chunk_rows))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return caught.value


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused_with_its_line_wherever_a_chunk_ends(tmp_path: Path, name: str) -> None:
    edit, kind, reason = FAULTS[name]
    lines = csv_lines(hours(30))
    edit(lines)
    path = write_lines(tmp_path / "1h.csv", lines)
    errors = [refusal(path, chunk_rows) for chunk_rows in CHUNKS]
    assert {type(error) for error in errors} == {kind}
    assert len({str(error) for error in errors}) == 1
    assert str(errors[0]).startswith(f"{path}: line {LINE}: ")
    assert reason in str(errors[0])


def test_the_first_of_two_faults_is_the_one_that_is_named(tmp_path: Path) -> None:
    for later in FAULTS:
        lines = csv_lines(hours(30))
        FAULTS[later][0](lines)
        _cell(3, "0.0", line=4 if later != "late_block" else 2)(lines)
        path = write_lines(tmp_path / "1h.csv", lines)
        assert "low is zero" in str(refusal(path)), later


def test_a_fault_outside_the_range_is_refused_too(tmp_path: Path) -> None:
    lines = csv_lines(hours(30))
    _cell(3, "0.0")(lines)
    path = write_lines(tmp_path / "1h.csv", lines)
    middle_ns = (FIRST_MS + 20 * HOUR_MS) * 10**6
    for span in ((0, middle_ns), (middle_ns, EVER[1]), (0, (FIRST_MS + HOUR_MS) * 10**6)):
        with pytest.raises(InvalidBar, match="line 12: low is zero"):
            list(load_bar_file(path, HOUR, *span))


def test_a_line_cut_short_at_the_end_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "1h.csv", csv_lines(hours(30)))
    whole = path.read_text()
    path.write_text(whole[:-6])
    assert "line 31: 5 fields where the first line has 6; the line is cut short" in str(refusal(path))
    path.write_text(whole.rstrip("\n"))
    assert sum(map(len, load_bar_file(path, HOUR, *EVER))) == 30


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    lines = csv_lines(hours(10))
    lines[5:5] = ["", ""]
    _cell(3, "0.0", line=10)(lines)
    path = tmp_path / "1h.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert "line 10: low is zero" in str(refusal(path))


@pytest.mark.parametrize(("kind", "place"), [("json", "row 5"), ("klines.json", "row 5"), ("jsonl", "line 5")])
def test_json_faults_have_a_place(tmp_path: Path, kind: str, place: str) -> None:
    rows = hours(10)
    rows[4] = (*rows[4][:3], math.nan, *rows[4][4:])
    for chunk_rows in CHUNKS:
        path = write_bars(tmp_path, "1h", kind, rows)
        assert f"{place}: low nan is NaN" in str(refusal(path, chunk_rows))
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 4])
    assert "not JSON" in str(refusal(path))


def test_json_rows_must_be_rows(tmp_path: Path) -> None:
    for text, reason in (
        ('{"a": 1}', "want a list of rows, not dict"),
        ("[[1, 2]]", "row 1: 2 values; want open_time"),
        ('[{"open_time": 1}]', "no column 'open'"),
        ("[7]", "row 1: neither an object nor an array: 7"),
        (f'[[{FIRST_MS}, "1", null, "1", "1", "1"]]', "row 1: high is not a number: 'null'"),
        (f'[[{FIRST_MS}, "1", true, "1", "1", "1"]]', "row 1: high is not a number: 'true'"),
    ):
        path = tmp_path / "1h.json"
        path.write_text(text)
        assert reason in str(refusal(path))
    good = '{"open_time": 1672531200000, "open": 1, "high": 1, "low": 1, "close": 1, "volume": 1}'
    path = write_lines(tmp_path / "1h.jsonl", [good, "", good.replace('"low": 1, ', "")])
    assert "line 3: no 'low'" in str(refusal(path))


def test_parquet_faults_have_a_row(tmp_path: Path) -> None:
    names = ("open_time", "open", "high", "low", "close", "volume")
    columns = dict(zip(names, (list(column) for column in zip(*hours(20), strict=True)), strict=True))
    path = tmp_path / "1h.parquet"
    for index, value, reason in ((8, None, "row 9: low is null"), (3, math.inf, "row 4: low inf is infinite")):
        columns["low"][index] = value
        pq.write_table(pa.table(columns), path)
        assert {reason in str(refusal(path, chunk_rows)) for chunk_rows in CHUNKS} == {True}
    columns["low"] = [row[3] for row in hours(20)]
    for column, kind, reason in (
        ("open_time", pa.float64(), "column 'open_time' is double; want int64, milliseconds since 1970"),
        ("open_time", pa.timestamp("ms"), "column 'open_time' is timestamp[ms]"),
        ("close", pa.string(), "column 'close' is string; want double"),
        ("close", pa.float32(), "column 'close' is float; want double"),
    ):
        table = pa.table(columns)
        position = names.index(column)
        pq.write_table(table.set_column(position, column, table[column].cast(kind)), path)
        assert reason in str(refusal(path))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    write_bars(tmp_path, "good", "parquet", hours(40))
    whole = (tmp_path / "good.parquet").read_bytes()
    packed = gzip.compress(write_lines(tmp_path / "x.csv", csv_lines(hours(400))).read_bytes())
    for name, content, reason in (
        ("1h.parquet", b"nothing of the sort", "cannot be read"),
        ("1h.parquet", whole[:-40], "cannot be read"),
        ("1h.csv.gz", packed[:-200], "cannot be read"),
        ("1h.csv.gz", b"open_time,open", "cannot be read"),
        ("1h.csv", b"open_time,open,\xff\xfe\n", "cannot be read"),
        ("1h.csv", b"time,open,high,low,close,volume\n1,1,1,1,1,1\n", "no column 'open_time'; the file has time, open"),
        ("1h.csv", b"open_time,open,high,low,close\n1,1,1,1,1\n", "no column 'volume'"),
        ("1h.csv", b"1672531200000,1,1,1\n", "line 1: 4 columns and no header"),
        ("1h.xlsx", b"", "unknown kind of file; use one of .parquet .csv"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        assert reason in str(refusal(path)), (name, reason)


def _funding_ms(index: int) -> int:
    return FIRST_MS + index * 8 * HOUR_MS


T3, T4, T5, T6, T7, T8 = (_funding_ms(index) for index in range(3, 9))
# The settlements 4 and on, as they stand from line 6: three good ones are before, one more follows.
FUNDING: dict[str, tuple[int, list[str], str]] = {
    "duplicate_exact": (6, [f"{T3},3e-5"], "duplicate settlement 2023-01-02T00:00Z with the same rate"),
    "duplicate_conflicting": (6, [f"{T3 + 1},-9e-5"], "2023-01-02T00:00Z with another rate: 3e-05 then -9e-05"),
    "out_of_order": (7, [f"{T5},5e-5", f"{T4},4e-5"], "out of order: 2023-01-02T08:00Z after 2023-01-02T16:00Z"),
    "out_of_cap": (6, [f"{T4},0.35"], "funding_rate 0.35 is beyond any cap (0.05 per settlement); want a fraction"),
    "nan": (6, [f"{T4},nan"], "funding_rate is NaN"),
    "empty": (6, [f"{T4},"], "funding_rate is empty"),
    "inf": (6, [f"{T4},-inf"], "funding_rate -inf is beyond any cap"),
    "unit_us": (7, [f"{T4}000,4e-5"], "in milliseconds again, after microseconds since line 6"),
    "percent": (
        10,
        [f"{T4},0.002121", f"{T5},0.005372", f"{T6},0.003555", f"{T7},-0.004841", f"{T8},0.004583"],
        "funding rates since line 6 look like percent, not fractions: 0.002121, 0.005372",
    ),
}


@pytest.mark.parametrize("name", FUNDING)
def test_funding_faults_are_refused_with_their_line(tmp_path: Path, name: str) -> None:
    line, faulty, reason = FUNDING[name]
    folder = tmp_path / BTC
    folder.mkdir()
    before = [f"{_funding_ms(index)},{index}e-5" for index in range(4)]
    path = folder / "funding.csv"
    write_lines(path, ["funding_time,funding_rate", *before, *faulty, f"{_funding_ms(9)},9e-5"])
    for chunk_rows in CHUNKS:
        with pytest.raises(DataError) as caught:
            list(DataFolder(tmp_path, chunk_rows=chunk_rows).funding(BTC, *EVER))
        assert str(caught.value).startswith(f"{path}: line {line}: ")
        assert reason in str(caught.value)


def test_large_rates_at_the_caps_are_no_percent(tmp_path: Path) -> None:
    folder = tmp_path / BTC
    folder.mkdir()
    rates = [0.02, -0.02, 0.00375, -0.003, 0.0075, 0.01, 0.001234, 0.00123456, 0.002345, 0.001, 0.005, 0.001234] * 3
    rows = [f"{FIRST_MS + n * HOUR_MS},{rate!r}" for n, rate in enumerate(rates)]
    write_lines(folder / "funding.csv", ["funding_time,funding_rate", *rows])
    got = [event.rate for event in DataFolder(tmp_path).funding(BTC, *EVER)]
    np.testing.assert_array_equal(got, rates)
