"""The whole engine against thirty lines of plain Python: every fill and the last digit, whatever the bars."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ema_cross import TAKER_FEE, Stored, contract, fills_of, main, measure, run_engine
from benchmarks.plain_account import PlainFill, plain_account
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import HOUR_NS, MINUTE_NS
from tidegate.quant.bars import BarTable

ROOT = Path(__file__).resolve().parents[3]
NAME = InstrumentId("ANYUSDT")
START_NS = 500_000 * HOUR_NS
QTY, CAPITAL = Decimal(1), Decimal(10_000_000)
FIGURES = {"bars_per_s", "fills", "equity_usdt"}


@pytest.fixture(autouse=True)
def own_context() -> Iterator[None]:
    """The plain account sets the decimal precision of whoever runs it."""
    with localcontext():
        yield


def rounded(values: np.ndarray, digits: int) -> np.ndarray:
    """To so many significant digits; 17 leaves every float as it is."""
    return np.array([float(f"{value:.{digits}g}") for value in values])


def bars(
    seed: int,
    rows: int,
    *,
    scale: float = 100.0,
    digits: int = 6,
    volatility: float = 0.01,
    tail: int = 0,
    missing: float = 0.0,
    empty: float = 0.0,
    volume_decimals: int = 3,
) -> BarTable:
    """Random bars: with prices around ``scale``, gaps in time and price, bars without volume, and a flat tail."""
    dice = np.random.Generator(np.random.PCG64(seed))
    close = scale * np.exp(np.cumsum(volatility * dice.standard_normal(rows)))
    opened = np.concatenate([[scale], close[:-1]]) * np.exp(0.3 * volatility * dice.standard_normal(rows))
    high = np.maximum(opened, close) * (1 + volatility * dice.random(rows))
    low = np.minimum(opened, close) * (1 - 0.5 * volatility * dice.random(rows))
    opened, high, low, close = (rounded(column, digits) for column in (opened, high, low, close))
    high, low = np.maximum.reduce([opened, high, close]), np.minimum.reduce([opened, low, close])
    if tail:
        for column in (opened, high, low, close):
            column[-tail:] = close[-tail]
    volume = np.where(dice.random(rows) < empty, 0.0, np.round(1_000 * dice.random(rows), volume_decimals))
    steps = 1 + np.where(dice.random(rows) < missing, dice.integers(1, 50, rows), 0)
    return BarTable(MINUTE_NS, START_NS + MINUTE_NS * np.cumsum(steps), opened, high, low, close, volume)


def both(tables: list[BarTable], qty: Decimal = QTY) -> tuple[list[PlainFill], list[PlainFill]]:
    """The fills of engine and plain account, which end with the same equity."""
    stored = Stored(tables)
    engine = run_engine(contract(NAME, stored, None), stored, qty, CAPITAL)
    expected, equity = plain_account(
        stored.column("open"), stored.column("close"), qty=qty, capital=CAPITAL, fee_rate=TAKER_FEE
    )
    assert engine.tally.equity[-1][1] == equity
    assert engine.ledger_difference == 0
    return fills_of(engine, stored), expected


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(51, 220),
    exponent=st.integers(-7, 5),
    digits=st.integers(2, 17),
    volatility=st.sampled_from([0.0, 1e-4, 0.003, 0.03]),
    tail=st.sampled_from([0, 1, 30, 50]),
    missing=st.sampled_from([0.0, 0.1, 0.9]),
    empty=st.sampled_from([0.0, 0.3, 1.0]),
    volume_decimals=st.integers(0, 3),
    cut=st.integers(1, 219),
)
def test_any_bars_give_the_same_fills_and_the_same_equity_to_the_last_digit(
    seed: int,
    rows: int,
    exponent: int,
    digits: int,
    volatility: float,
    tail: int,
    missing: float,
    empty: float,
    volume_decimals: int,
    cut: int,
) -> None:
    table = bars(
        seed,
        rows,
        scale=3.3 * 10.0**exponent,
        digits=digits,
        volatility=volatility,
        tail=tail,
        missing=missing,
        empty=empty,
        volume_decimals=volume_decimals,
    )
    columns = ("ts_ns", "open", "high", "low", "close", "volume")
    halves = [
        BarTable(MINUTE_NS, *(getattr(table, name)[part] for name in columns))
        for part in (slice(cut), slice(cut, None))
    ]
    fills, expected = both([half for half in halves if len(half)])
    assert fills == expected
    assert expected[0].row == 50
    assert abs(expected[0].qty) == QTY
    assert all(abs(each.qty) == 2 * QTY for each in expected[1:])


def test_the_runs_under_the_law_are_busy() -> None:
    fills, expected = both([bars(3, 3_000)])
    assert len(fills) == len(expected) > 30


@pytest.mark.parametrize("rows", [1, 2, 49, 50])
def test_before_the_fiftieth_close_nothing_is_done(rows: int) -> None:
    assert both([bars(1, rows)]) == ([], [])


def test_the_first_fill_is_at_the_open_of_the_fifty_first_bar() -> None:
    table = bars(1, 51)
    (fill,), _ = both([table])
    assert (fill.row, fill.price) == (50, Decimal(repr(float(table.open[50]))))
    assert fill.fee == fill.price * Decimal("0.0005")


@pytest.mark.parametrize("qty", ["0.001", "0.125", "7"])
def test_any_quantity_on_the_grid(qty: str) -> None:
    fills, expected = both([bars(5, 800)], Decimal(qty))
    assert fills == expected
    assert len(fills) > 5


def test_the_comparison_bites() -> None:
    """A bar that is changed for one of the two is a difference."""
    table = bars(3, 400)
    stored = Stored([table])
    engine = run_engine(contract(NAME, stored, None), stored, QTY, CAPITAL)
    row = fills_of(engine, stored)[2].row
    opens = stored.column("open")
    opens[row] = float(np.nextafter(opens[row], np.inf))
    fills, equity = plain_account(opens, stored.column("close"), qty=QTY, capital=CAPITAL)
    differing = [k for k, (a, b) in enumerate(zip(fills, fills_of(engine, stored), strict=True)) if a != b]
    assert differing == [2]
    assert equity != engine.tally.equity[-1][1]


# ---- the runner ------------------------------------------------------------------------------------------------------


def assert_report(report: dict[str, object], rows: int) -> None:
    engine, plain = report["engine"], report["plain"]
    assert isinstance(engine, dict)
    assert isinstance(plain, dict)
    assert engine.keys() == plain.keys() == FIGURES
    assert (report["bars"], report["equal"], report["first_differing_fill"]) == (rows, True, None)
    assert engine["fills"] == plain["fills"] > 0
    assert engine["equity_usdt"] == plain["equity_usdt"]
    assert report["ledger_difference_usdt"] == "0"


def test_the_command_prints_both_accounts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ema_cross", "--bars", "3000", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert_report(json.loads(done.stdout), 3_000)


def written(path: Path, table: BarTable) -> Path:
    columns = {name: getattr(table, name) for name in ("open", "high", "low", "close", "volume")}
    opens = (table.ts_ns - table.interval_ns) // 10**6
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"open_time": opens} | columns), path)
    return path


def options(data: Path, **more: object) -> argparse.Namespace:
    given = {"data": data, "symbol": None, "exchange_info": None, "qty": "1", "capital": "10000000", "repeat": 1}
    return argparse.Namespace(**given | more)


@pytest.mark.parametrize("digits", [5, 17])
def test_a_bar_file_of_any_name_and_any_digits(tmp_path: Path, digits: int) -> None:
    table = bars(9, 600, digits=digits, missing=0.01)
    report = measure(options(written(tmp_path / "SOMEUSDT" / "bars.parquet", table)))
    assert_report(report, 600)


def test_real_minutes(shared: Path) -> None:
    report = measure(options(shared / "data" / "um" / "SOLUSDT" / "1m.parquet"))
    assert_report(report, 43_199)


def test_a_file_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ema_cross", "--data", str(tmp_path / "nope.parquet"), "--json"])
    assert main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {tmp_path}/nope.parquet: no such file")
    assert said.err.count("\n") == 1
