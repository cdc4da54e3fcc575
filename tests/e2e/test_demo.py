"""The demo from end to end: a journal on disk, a summary that adds up, and decisions that only the seed decides."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from tests.fakes.journal import MemoryJournal
from tests.fakes.small_demo import CAPITAL, CutMarket, Rig, file_journal, fresh_kernel, plan, rig
from tidegate.adapters.files.journal import read_journal
from tidegate.app.board import Board
from tidegate.app.daemon import run_on_loop
from tidegate.app.demo import DemoResult, run_demo
from tidegate.app.replay import replay
from tidegate.app.view import LiveView, render, sparkline
from tidegate.domain.messages import Record
from tidegate.domain.signals import Decision

KEYS = {
    "mode",
    "seconds",
    "seed",
    "market_from",
    "market_to",
    "bars",
    "events",
    "orders",
    "fills",
    "decisions",
    "trades",
    "fees_usdt",
    "funding_usdt",
    "slippage_usdt",
    "equity_usdt",
    "total_return",
    "max_drawdown",
    "ledger_difference_usdt",
    "journal",
    "warnings",
}


def run(of: Rig, seconds: float | None = None) -> tuple[DemoResult, list[Decision]]:
    decisions: list[Decision] = []

    def collect(record: Record) -> None:
        decisions.extend(each for each in record.commands if isinstance(each, Decision))

    return run_on_loop(run_demo(of.parts, seconds=seconds, observers=[collect])), decisions


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Whatever is compiled at its first use is compiled before a clock runs."""
    run(rig(lambda _: MemoryJournal(), source=CutMarket()))


def test_a_demo_runs_its_history_goes_on_live_and_adds_up(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    demo = rig(lambda kernel: file_journal(folder, kernel), history_days=2, speed=600.0)
    result, decisions = run(demo, 4.0)
    summary = json.loads(json.dumps(result.summary))
    assert summary.keys() >= KEYS
    assert result.exit_code == 0
    assert summary["mode"] == "demo"
    assert summary["market_from"] == "2024-01-01T00:00:00+00:00"
    assert "2024-01-03T00:00:00" < summary["market_to"] < "2024-01-04"
    assert summary["ledger_difference_usdt"] == "0"
    assert summary["orders"] > 0
    assert summary["fills"] > 0
    assert summary["decisions"] == len(decisions) > 0
    assert summary["bars"] >= 4 * 2 * 288
    assert summary["warnings"] == []
    report = replay(read_journal(folder), fresh_kernel())
    assert report.same
    assert report.records == summary["events"]


def test_the_summary_is_an_account_of_the_equity() -> None:
    demo = rig(lambda _: MemoryJournal(), source=CutMarket())
    result, _ = run(demo)
    tally, summary = result.tally, result.summary
    open_fees = sum((held.fees for held in demo.kernel.ledger.positions.values()), Decimal(0))
    assert Decimal(str(summary["fees_usdt"])) == open_fees
    equity = Decimal(str(summary["equity_usdt"]))
    held = [each for each in demo.kernel.ledger.positions.values() if each.qty]
    if not held:
        assert equity - CAPITAL == sum((trip.net for trip in tally.trades), Decimal(0))
    assert summary["total_return"] == pytest.approx(float(equity / CAPITAL) - 1)
    days = [ts_ns for ts_ns, _ in tally.equity]
    assert days == sorted(set(days))


@pytest.mark.parametrize("speed", [40_000.0, None])
def test_the_same_seed_takes_the_same_decisions_however_long_and_fast(speed: float | None) -> None:
    _, long = run(rig(lambda _: MemoryJournal(), 11, source=CutMarket(11)))
    _, short = run(rig(lambda _: MemoryJournal(), 11, history_days=1, speed=speed, source=CutMarket(11)), 0.8)
    assert len(short) > 50
    assert short == long[: len(short)]


def test_another_seed_takes_other_decisions() -> None:
    _, one = run(rig(lambda _: MemoryJournal(), 11, source=CutMarket(11)))
    _, other = run(rig(lambda _: MemoryJournal(), 12, source=CutMarket(12)))
    assert one != other


@pytest.mark.parametrize("width", [40, 72, 100, 160])
@pytest.mark.parametrize("height", [16, 24, 50])
def test_the_view_fits_the_terminal_and_says_what_happened(width: int, height: int) -> None:
    demo = rig(lambda _: MemoryJournal(), source=CutMarket())
    board = Board(demo.kernel, plan().instruments, float(CAPITAL))
    run_on_loop(run_demo(demo.parts, observers=[board]))
    console = Console(width=width, height=height, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(render(board, "demo: invented prices", 600.0, width, height))
    lines = captured.get().rstrip("\n").split("\n")
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert "invented" in text
    assert "BTCUSDT" in text
    assert "\x1b" not in text
    if width >= 100 and height >= 24:
        assert "TrendFollowing wants" in text
        assert "target" in text


def test_the_live_view_is_a_companion_of_the_daemon() -> None:
    demo = rig(lambda _: MemoryJournal())
    board = Board(demo.kernel, {}, float(CAPITAL))
    console = Console(width=80, height=24, force_terminal=True, color_system=None)
    with console.capture() as captured:
        view = LiveView(board, console, "demo: invented prices")
        result = run_on_loop(run_demo(demo.parts, seconds=0.6, observers=[board], companions=[view.run]))
    assert result.exit_code == 0
    assert "equity" in captured.get()


def test_a_sparkline_spans_its_values() -> None:
    assert sparkline([1.0, 2.0, 8.0]) == "▁▂█"
    assert sparkline([5.0, 5.0]) == "▁▁"
