"""The tear sheet: figures on stdout within 80 columns, talk on stderr, a second table for several strategies."""

from pathlib import Path

import pytest

from tests.unit.app.test_report import invented_book
from tidegate.app.result import BacktestResult
from tidegate.app.tear_sheet import print_summary


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> BacktestResult:
    monkeypatch.setenv("COLUMNS", "80")
    result = invented_book()
    result.summary["liquidations"] = 0
    return result


def test_strategies_have_a_table_of_their_own_that_fits(
    book: BacktestResult, capsys: pytest.CaptureFixture[str]
) -> None:
    print_summary(book, Path("run.html"))
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    head, second = out.split("Strategies: parts of the book")
    assert "-0.25 to 1.75" in head
    rows = {line.split()[0]: line.split() for line in second.splitlines() if line.strip()}
    figures = book.summary["strategies"]["trend"]  # type: ignore[index]
    low, high = figures["sharpe_ci95"]
    costs = figures["costs"]
    paid = float(costs["fees_usdt"]) + float(costs["slippage_usdt"]) - float(costs["funding_usdt"])
    assert rows["trend"][1:] == [
        f"{float(figures['net_usdt']):+,.2f}",
        f"{figures['sharpe']:.2f}",
        *(f"{low:.1f}", "to", f"{high:.1f}"),
        f"{figures['max_drawdown']:.2%}",
        f"{figures['turnover']:.1f}x",
        f"{paid:,.2f}",
    ]
    assert {"trend", "range", "netting"} <= rows.keys()
    assert "…" not in out
    assert err.endswith("report: run.html\n")
    assert "warning: SOLUSDT has no stored mark price" in err


def test_a_lone_strategy_has_one_table(book: BacktestResult, capsys: pytest.CaptureFixture[str]) -> None:
    strategies = book.summary["strategies"]
    assert isinstance(strategies, dict)
    del strategies["range"]
    book.summary["sharpe_ci95"] = None
    print_summary(book, None)
    out, err = capsys.readouterr()
    assert "Strategies" not in out
    assert "report" not in err
    (line,) = (each for each in out.splitlines() if "95 % interval" in each)
    assert line.split() == ["│", "95", "%", "interval", "│", "-", "│"]
