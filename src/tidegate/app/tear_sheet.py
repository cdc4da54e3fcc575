"""The tear sheet of a backtest on a terminal."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tidegate.app.result import BacktestResult

_HEADLINE = (
    ("total return", "total_return", "{:+.2%}"),
    ("CAGR", "cagr", "{:+.2%}"),
    ("annual volatility", "annual_volatility", "{:.2%}"),
    ("Sharpe (365 days, 1 trial)", "sharpe", "{:.2f}"),
    ("Sortino", "sortino", "{:.2f}"),
    ("max drawdown", "max_drawdown", "{:.2%}"),
    ("turnover a year", "turnover", "{:.1f}x"),
    ("bars", "bars", "{:,}"),
    ("orders", "orders", "{:,}"),
    ("fills", "fills", "{:,}"),
    ("trades", "trades", "{:,}"),
    ("liquidations", "liquidations", "{:,}"),
)
_MONEY = (
    ("opening balance", "initial_capital_usdt"),
    ("final equity", "final_equity_usdt"),
    ("fees paid", "fees_usdt"),
    ("funding", "funding_usdt"),
    ("slippage paid", "slippage_usdt"),
    ("ledger difference", "ledger_difference_usdt"),
)


def print_summary(result: BacktestResult, report: Path | None) -> None:
    """Figures on stdout, warnings and the place of the report on stderr."""
    table = Table(title="Backtest (not a forecast)", show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    summary: dict[str, Any] = result.summary
    for label, key in _MONEY:
        amount = summary[key]
        table.add_row(label, f"{float(amount):,.2f} USDT" if key != "ledger_difference_usdt" else f"{amount} USDT")
    for label, key, form in _HEADLINE:
        value = summary[key]
        table.add_row(label, "-" if value is None else form.format(value))
        if key == "sharpe":
            table.add_row("  95 % interval", _interval(summary))
    console = Console()
    console.print(table)
    if len(summary["strategies"]) > 1:
        console.print(_strategies_table(summary))
    talk = Console(stderr=True, highlight=False, soft_wrap=True)
    for warning in result.warnings:
        talk.print(f"warning: {warning}", style="yellow", markup=False)
    if summary["bars_per_s"]:
        talk.print(f"{summary['bars_per_s']:,} bars/s", style="dim")
    if report is not None:
        talk.print(f"report: {report}", markup=False)


def _interval(figures: dict[str, Any], digits: int = 2) -> str:
    """The interval of a Sharpe ratio."""
    interval = figures["sharpe_ci95"]
    return "-" if interval is None else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def _strategies_table(summary: dict[str, Any]) -> Table:
    """A row per strategy, and one for what belongs to none of them; narrow enough for 80 columns."""
    table = Table(
        title="Strategies: parts of the book, in USDT",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", overflow="fold")
    for heading in ("net", "Sharpe", "95 %", "max DD", "turnover", "costs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in (summary["strategies"] | summary["other_accounts"]).items():
        costs = row["costs"]
        paid = float(costs["fees_usdt"]) + float(costs["slippage_usdt"]) - float(costs["funding_usdt"])
        ratios = ["", "", "", ""]
        if "sharpe" in row:
            forms = (("sharpe", "{:.2f}"), ("max_drawdown", "{:.2%}"), ("turnover", "{:.1f}x"))
            ratios = ["-" if row[key] is None else form.format(row[key]) for key, form in forms]
            ratios.insert(1, _interval(row, 1))
        table.add_row(name, f"{float(row['net_usdt']):+,.2f}", *ratios, f"{paid:,.2f}")
    table.caption, table.caption_justify = "costs: fees and slippage, less funding received", "left"
    return table
