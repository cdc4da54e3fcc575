"""The report of a backtest: one HTML file that needs no network, now or in ten years.

The figures of the charts are built with plotly and drawn by its script, which is inlined once; colours are names of CSS
variables (``var(--gain)``) that the page resolves, so that one file serves light and dark. The same result gives the
same bytes.
"""

import json
import math
import os
import platform
from calendar import month_abbr
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tidegate.app.contributions import spells
from tidegate.app.performance import DAYS_PER_YEAR, implausible, monthly_returns
from tidegate.app.report_book import SECTIONS, book_page, css
from tidegate.app.report_charts import Ribbon, cost_figure, distribution_figure, equity_figure
from tidegate.app.report_text import (
    UNDEFINED,
    Shown,
    day,
    held,
    label,
    minute,
    money,
    number,
    percent,
    price,
    shown,
)
from tidegate.app.result import BacktestResult
from tidegate.domain.ids import Nanos
from tidegate.domain.round_trips import RoundTrip

ALL_TRADES = 500
"""Up to here every trade has its row; beyond, the best and the worst half of this number have."""

TRIALS = 1
"""A backtest is one run; what was tried before it is not known to it."""

HEAT_FULL = 0.20
"""The monthly return that has the full colour."""

_TEMPLATES = Path(__file__).with_name("templates")
_PACKAGES = ("tidegate", "numpy", "numba", "msgspec", "pyarrow", "plotly")
_TILES = ("total_return", "cagr", "sharpe", "max_drawdown", "final_equity_usdt")
_GROUPS = (
    (
        "Risk and return",
        ("total_return", "cagr", "annual_volatility", "sharpe", "sharpe_ci95", "sortino", "max_drawdown"),
    ),
    ("What they rest on", ("fees_usdt", "slippage_usdt", "funding_usdt", "turnover")),
    ("Activity", ("trades", "orders", "fills", "bars", "days")),
)
_DIGESTS = ("config_sha256", "data_sha256")


def write_report(result: BacktestResult, path: Path) -> None:
    """Write ``result`` to ``path`` as one HTML file: all of it, or nothing.

    The folder is made when missing. Raises ``ValueError`` when the result has no equity curve, ``OSError`` when the
    file cannot be written; a file that was there before then stays as it was.
    """
    page = _render(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _render(result: BacktestResult) -> str:
    # Imported here: a second of loading that only a report needs.
    import jinja2
    from plotly.offline import get_plotlyjs

    if not result.equity:
        raise ValueError("a report needs an equity curve")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        money=money, percent=percent, number=number, price=price, day=day, minute=minute, held=held
    )
    return environment.get_template("report.html.j2").render(_page(result), plotly_js=get_plotlyjs())


def _page(result: BacktestResult) -> dict[str, object]:
    """Everything the template shows, by the names it uses."""
    sanity = implausible(result.summary)
    split = _cost_split(result)
    rows, chosen = _choose_trades(result.trades)
    book, charts = book_page(result)
    charts |= {"equity": equity_figure(result.equity, _ribbon(result)), "costs": cost_figure(split)}
    if result.trades:
        charts["distribution"] = distribution_figure([float(trade.net) for trade in result.trades])
    return {
        "heading": ", ".join(result.per_symbol) or "no symbols",
        "strategies": _strategies(result.settings),
        "timeframe": result.settings.get("timeframe"),
        "capital": result.equity[0][1],
        "first_ns": result.equity[0][0],
        "last_ns": result.equity[-1][0],
        "sanity": sanity,
        "warnings": list(dict.fromkeys([*sanity, *result.warnings])),
        "tiles": _figures(result.summary, _TILES),
        "groups": _groups(result.summary),
        "split": split,
        "years": _month_table(result.equity),
        "months": month_abbr[1:],
        "symbols": _symbol_table(result.per_symbol),
        "trades": rows,
        "trades_chosen": chosen,
        "statistics": _trade_statistics(result.trades),
        "assumptions": result.assumptions,
        "digests": [(label(key), str(result.summary.get(key, UNDEFINED))) for key in _DIGESTS],
        "versions": _versions(),
        "settings": json.dumps(result.settings, indent=2, default=str, ensure_ascii=False),
        "days_per_year": DAYS_PER_YEAR,
        "trials": TRIALS,
        "interval": shown("sharpe_ci95", result.summary.get("sharpe_ci95")).text,
        "book": book,
        "charts": charts,
    }


def _ribbon(result: BacktestResult) -> Ribbon:
    """The spells of scenarios with the names of their colours; empty for a run that read no regimes."""
    regimes = result.chronicle.regimes
    if not regimes:
        return ()
    found = spells(regimes, result.equity[0][0], result.equity[-1][0])
    return [(since, until, each.value, f"var({css(each)})") for since, until, each in found]


def _strategies(settings: Mapping[str, object]) -> str:
    named = settings.get("strategies")
    entries = named if isinstance(named, list | tuple) else [settings.get("strategy")]
    names = [entry.get("name") or entry.get("class") if isinstance(entry, Mapping) else entry for entry in entries]
    return ", ".join(str(name) for name in names if name)


def _versions() -> list[tuple[str, str]]:
    found = [("Python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, "from a source tree"))
    return found


def _figures(summary: Mapping[str, object], keys: Iterable[str]) -> list[Shown]:
    return [shown(key, summary[key]) for key in keys if key in summary]


def _groups(summary: Mapping[str, object]) -> list[tuple[str, list[Shown]]]:
    """The summary in groups; what no group names comes last, so that every figure is on the page."""
    grouped = {key for _, keys in _GROUPS for key in keys} | set(_DIGESTS)
    rest = [key for key in summary if key not in grouped and key not in SECTIONS]
    groups = [(title, _figures(summary, keys)) for title, keys in (*_GROUPS, ("Other figures", rest))]
    groups[1][1].append(Shown("", "Number of trials", str(TRIALS), TRIALS))
    groups[1][1].append(Shown("", "Annualisation factor", str(DAYS_PER_YEAR), DAYS_PER_YEAR))
    return [(title, figures) for title, figures in groups if figures]


def _symbol_table(per_symbol: Mapping[Any, Mapping[str, object]]) -> tuple[list[str], list[tuple[str, list[Shown]]]]:
    """The column labels and, per symbol, its figures in the order of the columns."""
    keys = list(dict.fromkeys(key for figures in per_symbol.values() for key in figures))
    rows = [(str(symbol), [shown(key, figures.get(key)) for key in keys]) for symbol, figures in per_symbol.items()]
    return [label(key) for key in keys], rows


def _month_table(equity: Sequence[tuple[Nanos, Decimal]]) -> list[dict[str, Any]]:
    """A row per year: 12 cells, None where the run has no month, and the return of the year."""
    months = monthly_returns(equity)
    rows = []
    for year in sorted({year for year, _ in months}):
        cells = [months.get((year, month)) for month in range(1, 13)]
        total = math.prod(1 + value for value in cells if value is not None) - 1
        rows.append({"year": year, "cells": [_heat(value) for value in cells], "total": _heat(total)})
    return rows


def _heat(value: float | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"value": value, "heat": round(min(abs(value) / HEAT_FULL, 1.0), 3), "tone": _tone(value)}


def _tone(value: float | Decimal) -> str:
    return "gain" if value > 0 else "loss" if value < 0 else "level"


def _cost_split(result: BacktestResult) -> list[tuple[str, Decimal]]:
    """Price P&L, slippage, fees and funding as changes of equity, and their sum, the change of equity."""
    change = result.equity[-1][1] - result.equity[0][1]
    fees, slippage, funding = (
        Decimal(str(result.summary.get(key) or 0)) for key in ("fees_usdt", "slippage_usdt", "funding_usdt")
    )
    price = change + fees + slippage - funding
    return [
        ("Price P&L", price),
        ("Slippage", -slippage),
        ("Fees", -fees),
        ("Funding", funding),
        ("Change of equity", change),
    ]


def _choose_trades(trades: Sequence[RoundTrip]) -> tuple[list[tuple[int, RoundTrip]], str]:
    """The trades to list, numbered from 1 in the order they came, and a sentence on which they are."""
    numbered = list(enumerate(trades, start=1))
    if len(numbered) <= ALL_TRADES:
        return numbered, f"All {len(numbered)} trades."
    half = ALL_TRADES // 2
    by_net = sorted(numbered, key=lambda entry: entry[1].net)
    chosen = sorted(by_net[:half] + by_net[-half:], key=lambda entry: entry[0])
    return chosen, f"The {half} best and the {half} worst by net result, of {len(numbered):,} trades."


def _trade_statistics(trades: Sequence[RoundTrip]) -> list[tuple[str, str]]:
    if not trades:
        return []
    nets = [trade.net for trade in trades]
    gains, losses = [net for net in nets if net > 0], [net for net in nets if net < 0]
    profit_factor = f"{sum(gains) / -sum(losses):.2f}" if losses else UNDEFINED
    return [
        ("Winning trades", percent(len(gains) / len(nets))),
        ("Average win", money(sum(gains) / len(gains)) if gains else UNDEFINED),
        ("Average loss", money(sum(losses) / len(losses)) if losses else UNDEFINED),
        ("Profit factor", profit_factor),
        ("Best", money(max(nets))),
        ("Worst", money(min(nets))),
        ("Average held", held(sum(trade.closed_ns - trade.opened_ns for trade in trades) // len(trades))),
    ]
