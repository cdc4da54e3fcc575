"""The loader on real files, and on real files with known faults."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.unit.adapters.files.bar_files import EVER, HOUR, joined
from tidegate.adapters.files.history import DataFolder, infer_interval, load_bar_file
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import HOUR_NS, MINUTE_NS, BarSpec

BTC = InstrumentId("BTCUSDT")

UNSEEN = ("price_spike", "stale_flat", "gap")
"""What a loader cannot see in a row: the business of a validator."""


@pytest.mark.parametrize(
    ("symbol", "interval"),
    [
        ("BTCUSDT", "1h"),
        ("ETHUSDT", "1h"),
        ("FTTUSDT", "1h"),
        ("1000PEPEUSDT", "1h"),
        ("XRPUSDT", "4h"),
        ("SOLUSDT", "15m"),
        ("BTCUSDT", "5m"),
        ("BNBUSDT", "1m"),
        ("DOGEUSDT", "1d"),
    ],
)
def test_real_bars_load_and_are_all_there(shared: Path, symbol: str, interval: str) -> None:
    listed = {entry["path"]: entry for entry in json.loads((shared / "data" / "MANIFEST.json").read_text())}
    checks = listed[f"um/{symbol}/{interval}.parquet"]["checks"]
    source = DataFolder(shared / "data")
    bar = BarSpec.of(interval)
    ts_ns = joined(source.bars(InstrumentId(symbol), bar, *EVER))["ts_ns"]
    assert source.notes == []
    assert len(ts_ns) == checks["rows"]
    assert np.all(np.diff(ts_ns) == bar.interval_ns)
    for at, when in ((0, checks["start"]), (-1, checks["end"])):
        assert np.datetime64(int(ts_ns[at]) - bar.interval_ns, "ns") == np.datetime64(when)
    assert infer_interval(shared / "data" / "um" / symbol / f"{interval}.parquet") == bar


def test_known_figures_of_known_days(shared: Path) -> None:
    source = DataFolder(shared / "data" / "um")
    bars = joined(source.bars(BTC, HOUR, *EVER))
    assert len(bars["ts_ns"]) == 43_663
    day = slice(
        *np.searchsorted(bars["ts_ns"], [np.datetime64(d, "ns").astype(int) for d in ("2020-03-13", "2020-03-14")])
    )
    assert bars["low"][day].min() == 3621.81
    eth = joined(source.bars(InstrumentId("ETHUSDT"), HOUR, *EVER))
    spike = eth["high"] == 323.0
    assert spike[eth["ts_ns"] < np.datetime64("2020-03-14", "ns").astype(int)].any(), "a real bad print passes"


def test_real_funding_and_marks(shared: Path) -> None:
    source = DataFolder(shared / "data" / "um")
    settled = list(source.funding(InstrumentId("SOLUSDT"), *EVER))
    steps = np.diff([event.ts_ns for event in settled]) // HOUR_NS
    assert len(settled) == 4419
    assert {step: int((steps == step).sum()) for step in (2, 4, 8)} == {2: 98, 4: 3, 8: 4317}
    assert all(event.ts_ns == event.recv_ns and event.ts_ns % MINUTE_NS == 0 for event in settled)
    assert {table.interval_ns for table in source.marks(InstrumentId("SOLUSDT"), *EVER)} == {8 * HOUR_NS}
    assert sum(map(len, source.marks(BTC, *EVER))) == 41_125
    assert (
        list(source.marks(InstrumentId("ARBUSDT"), *EVER)) == list(source.funding(InstrumentId("ARBUSDT"), *EVER)) == []
    )


def test_real_outages_of_spot_are_noted_and_off_grid_bars_refused(shared: Path) -> None:
    source = DataFolder(shared / "data" / "spot")
    assert sum(map(len, source.bars(BTC, HOUR, *EVER))) == 61_595
    assert source.notes == ["BTCUSDT 1h: 28 gaps, 129 missing bars, first 2017-09-06T16:00Z"]
    open_ms = pq.read_table(shared / "data" / "spot" / "BNBUSDT" / "1h.parquet")["open_time"].to_numpy()
    row = int(np.argmax(open_ms % 3_600_000 != 0)) + 1
    with pytest.raises(DataError, match=rf"row {row}: open_time {open_ms[row - 1]} .* is 1695\.787 s off the 1h grid"):
        list(source.bars(InstrumentId("BNBUSDT"), HOUR, *EVER))


def test_a_switch_of_the_unit_gives_one_gapless_series(shared: Path) -> None:
    dirty = shared / "data" / "dirty"
    manifest = json.loads((dirty / "spot_ETHUSDT_1h_unit_switch.manifest.json").read_text())
    for chunk_rows in (100, 744, 745, 10_000):
        bars = joined(load_bar_file(dirty / manifest["file"], None, *EVER, chunk_rows=chunk_rows))
        assert len(bars["ts_ns"]) == manifest["rows"]
        assert np.all(np.diff(bars["ts_ns"]) == HOUR_NS)
        assert bars["ts_ns"][manifest["switch_line"] - 1] == manifest["switch_open_time_ms"] * 10**6 + HOUR_NS
    span = int(bars["ts_ns"][0]) - HOUR_NS, int(bars["ts_ns"][-1])
    source = DataFolder(shared / "data" / "spot")
    for name, column in joined(source.bars(InstrumentId("ETHUSDT"), HOUR, *span)).items():
        np.testing.assert_array_equal(bars[name], column)


def test_the_clean_sample_equals_the_parquet_and_the_dirty_one_falls_at_its_first_fault(shared: Path) -> None:
    dirty = shared / "data" / "dirty"
    manifest = json.loads((dirty / "um_BTCUSDT_1h.manifest.json").read_text())
    clean = joined(load_bar_file(dirty / manifest["clean_file"], None, *EVER))
    span = int(clean["ts_ns"][0]) - HOUR_NS, int(clean["ts_ns"][-1])
    for name, column in joined(DataFolder(shared / "data" / "um").bars(BTC, HOUR, *span)).items():
        np.testing.assert_array_equal(clean[name], column)

    first = min(fault["lines"][0] for fault in manifest["faults"] if fault["type"] not in UNSEEN)
    for chunk_rows in (10, first - 2, first - 1, 10_000):
        with pytest.raises(DataError, match=rf"um_BTCUSDT_1h\.csv: line {first}: open .* lies below low"):
            list(load_bar_file(dirty / manifest["file"], HOUR, *EVER, chunk_rows=chunk_rows))


def test_every_fault_of_the_dirty_sample_is_refused_by_itself(shared: Path, tmp_path: Path) -> None:
    """One fault at a time: the true rows with the faulty lines in their place."""
    dirty = shared / "data" / "dirty"
    manifest = json.loads((dirty / "um_BTCUSDT_1h.manifest.json").read_text())
    lines = (dirty / manifest["file"]).read_text().split("\n")
    header, *clean = gzip.decompress((dirty / manifest["clean_file"]).read_bytes()).decode().splitlines()
    times = [int(line.split(",")[0]) for line in clean]
    refused = set()
    for fault in manifest["faults"]:
        if fault["type"] in UNSEEN:
            continue
        faulty = [lines[number - 1] for number in fault["lines"]]
        rows = _planted(fault, clean, times, lines, faulty)
        path = tmp_path / "1h.csv"
        path.write_text("\n".join([header, *rows]))
        with pytest.raises(DataError, match=r"1h\.csv: line \d+: ") as caught:
            list(load_bar_file(path, HOUR, *EVER))
        assert "\n" not in str(caught.value), fault["id"]
        refused.add(fault["type"])
    assert refused == set(manifest["fault_counts"]) - set(UNSEEN)


def _planted(
    fault: dict[str, Any], clean: list[str], times: list[int], lines: list[str], faulty: list[str]
) -> list[str]:
    """The clean rows with the faulty lines where the sample has them, in the place of the true ones."""
    before = lines[fault["lines"][0] - 2]
    at = times.index(int(before.split(",")[0])) + 1
    gone = set(fault["open_times"]) if fault["type"] not in ("duplicate_exact", "duplicate_conflicting") else set()
    after = [row for row, time in zip(clean[at:], times[at:], strict=True) if time not in gone]
    if fault["type"] == "truncated_last_line":
        after = []
    head = [row for row, time in zip(clean[:at], times[:at], strict=True) if time not in gone]
    return head + faulty + after


def test_every_fault_of_the_dirty_funding_is_refused_at_its_line(shared: Path, tmp_path: Path) -> None:
    """As each refused line is mended (dropped), the next fault shows; gaps are none of ours."""
    dirty = shared / "data" / "dirty"
    manifest = json.loads((dirty / "um_ETHUSDT_funding.manifest.json").read_text())
    numbered = list(enumerate((dirty / manifest["file"]).read_text().splitlines(), start=1))
    folder = tmp_path / "ETHUSDT"
    folder.mkdir()
    named: list[int] = []
    while True:
        (folder / "funding.csv").write_text("".join(f"{line}\n" for _, line in numbered))
        try:
            list(DataFolder(tmp_path).funding(InstrumentId("ETHUSDT"), *EVER))
            break
        except DataError as error:
            line = int(str(error).split("line ")[1].split(":")[0])
            named.append(numbered[line - 1][0])
            del numbered[line - 1]
    for fault in manifest["faults"]:
        if fault["type"] not in ("gap", "unit_us"):
            assert set(fault["lines"]) & set(named), fault["id"]
    (switched,) = (fault["lines"] for fault in manifest["faults"] if fault["type"] == "unit_us")
    assert switched[-1] + 1 in named, "the first line in milliseconds after the microseconds"
