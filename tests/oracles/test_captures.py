"""Real captured streams through decode and book: nothing breaks by itself, and whatever we break is noticed."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT
from tidegate.adapters.binance.capture import CaptureReplay, damages, with_start

CAPTURES = (
    "BTCUSDT/ws_20230404",
    "BTCUSDT/ws_20230405",
    "BTCUSDT/ws_20240718",
    "BTCUSDT/ws_20240719",
    "BTCUSDT/ws_20240808",
    "ETHUSDT/ws_20240718",
    "ETHUSDT/ws_20240719",
)


def capture(shared: Path, name: str) -> Path:
    return shared / "data" / "um" / f"{name}.jsonl.gz"


def test_no_capture_is_forgotten(shared: Path) -> None:
    found = sorted(path for symbol in ("BTCUSDT", "ETHUSDT") for path in (shared / "data/um" / symbol).glob("ws_*"))
    assert found == [capture(shared, name) for name in CAPTURES]


@pytest.mark.parametrize("name", CAPTURES)
def test_no_gap_and_no_crossed_book(shared: Path, name: str) -> None:
    report = CaptureReplay(with_start(capture(shared, name))).run()
    assert (report.gaps, report.crossed, report.other_breaks, report.refused) == (0, 0, 0, 0)
    assert report.families["depthUpdate"] > 3_000
    assert report.book_levels > 2_000
    assert report.book_equals_venue
    counted = sum(report.families.values())
    assert counted == report.messages


@pytest.mark.parametrize("name", ["BTCUSDT/ws_20230404", "ETHUSDT/ws_20240718"])
def test_fifty_damages_are_noticed_and_healed_fifty_times(shared: Path, name: str) -> None:
    files = with_start(capture(shared, name))
    depth_messages = CaptureReplay(files).run().families["depthUpdate"]
    noticed = healed = 0
    for damage, place in damages(depth_messages, seed=7):
        report = CaptureReplay(files).run(damage, place)
        noticed += report.gaps >= 1
        healed += report.rebuilt >= 1 and report.book_equals_venue
    assert (noticed, healed) == (50, 50)


@pytest.mark.parametrize("name", ["BTCUSDT/ws_20230405", "BTCUSDT/ws_20240719"])
def test_trades_rebuild_the_stored_bar(shared: Path, name: str) -> None:
    (bar,) = CaptureReplay(with_start(capture(shared, name))).run().bars
    open_ms = bar.ts_ns // 10**6 - 300_000
    table = pq.read_table(shared / "data/um/BTCUSDT/5m.parquet", filters=[("open_time", "=", open_ms)])
    (row,) = table.to_pylist()
    assert open_ms % 86_400_000 == 0
    assert (bar.open, bar.high, bar.low, bar.close) == (row["open"], row["high"], row["low"], row["close"])
    assert bar.volume == row["volume"]


def test_the_script_prints_what_it_found(shared: Path) -> None:
    file = capture(shared, "BTCUSDT/ws_20230405")
    command = [sys.executable, str(ROOT / "scripts/replay_capture.py"), str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["gaps"], found["crossed"], len(found["bars"])) == (0, 0, 1)
    assert found["kernel"]["events"] == sum(
        count for family, count in found["families"].items() if family not in ("depthUpdate", "snapshot")
    ) + len(found["bars"])


def test_the_script_refuses_another_format(shared: Path) -> None:
    file = shared / "data/um/_multi/ws_rest_20210722.jsonl.gz"
    command = [sys.executable, str(ROOT / "scripts/replay_capture.py"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "line 1 is not '<receive time> <json>'" in done.stderr
    assert "Traceback" not in done.stderr
