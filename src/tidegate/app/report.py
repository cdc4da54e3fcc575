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
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.app.performance import DAYS_PER_YEAR, implausible, monthly_returns
from tidegate.app.result import BacktestResult
from tidegate.domain.ids import Nanos
from tidegate.domain.round_trips import RoundTrip
from tidegate.quant.measures import drawdown_series

ALL_TRADES = 500
"""Up to here every trade has its row; beyond, the best and the worst half of this number have."""

TRIALS = 1
"""A backtest is one run; what was tried before it is not known to it."""

HEAT_FULL = 0.20
"""The monthly return that has the full colour."""

_TEMPLATES = Path(__file__).with_name("templates")
_PACKAGES = ("tidegate", "numpy", "numba", "msgspec", "pyarrow", "plotly")
_FRACTIONS = frozenset({"total_return", "cagr", "annual_volatility", "max_drawdown", "win_rate", "hit_rate"})
_RATIOS = frozenset({"sharpe", "sortino", "turnover"})
_WORDS = {"usdt": "USDT", "cagr": "CAGR", "sha256": "SHA-256", "pnl": "P&L", "qty": "quantity"}
_UNDEFINED = "–"

_TILES = ("total_return", "cagr", "sharpe", "max_drawdown", "final_equity_usdt")
_GROUPS = (
    ("Risk and return", ("total_return", "cagr", "annual_volatility", "sharpe", "sortino", "max_drawdown")),
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
        money=_money, percent=_percent, number=_number, price=_price, day=_day, minute=_minute, held=_held
    )
    return environment.get_template("report.html.j2").render(_page(result), plotly_js=get_plotlyjs())


def _page(result: BacktestResult) -> dict[str, object]:
    """Everything the template shows, by the names it uses."""
    sanity = implausible(result.summary)
    split = _cost_split(result)
    rows, chosen = _choose_trades(result.trades)
    charts = {"equity": _equity_figure(result.equity), "costs": _cost_figure(split)}
    if result.trades:
        charts["distribution"] = _distribution_figure([float(trade.net) for trade in result.trades])
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
        "digests": [(_label(key), str(result.summary.get(key, _UNDEFINED))) for key in _DIGESTS],
        "versions": _versions(),
        "settings": json.dumps(result.settings, indent=2, default=str, ensure_ascii=False),
        "days_per_year": DAYS_PER_YEAR,
        "trials": TRIALS,
        "charts": charts,
    }


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


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure as the page shows it: label, text, and the value that sorting and colouring go by."""

    key: str
    label: str
    text: str
    value: float | None


def _figures(summary: Mapping[str, object], keys: Iterable[str]) -> list[Shown]:
    return [_shown(key, summary[key]) for key in keys if key in summary]


def _groups(summary: Mapping[str, object]) -> list[tuple[str, list[Shown]]]:
    """The summary in groups; what no group names comes last, so that every figure is on the page."""
    grouped = {key for _, keys in _GROUPS for key in keys} | set(_DIGESTS)
    rest = [key for key in summary if key not in grouped]
    groups = [(title, _figures(summary, keys)) for title, keys in (*_GROUPS, ("Other figures", rest))]
    groups[1][1].append(Shown("", "Number of trials", str(TRIALS), TRIALS))
    groups[1][1].append(Shown("", "Annualisation factor", str(DAYS_PER_YEAR), DAYS_PER_YEAR))
    return [(title, figures) for title, figures in groups if figures]


def _symbol_table(per_symbol: Mapping[Any, Mapping[str, object]]) -> tuple[list[str], list[tuple[str, list[Shown]]]]:
    """The column labels and, per symbol, its figures in the order of the columns."""
    keys = list(dict.fromkeys(key for figures in per_symbol.values() for key in figures))
    rows = [(str(symbol), [_shown(key, figures.get(key)) for key in keys]) for symbol, figures in per_symbol.items()]
    return [_label(key) for key in keys], rows


def _shown(key: str, value: object) -> Shown:
    try:
        number = None if value is None or isinstance(value, bool) else float(str(value))
    except ValueError:
        number = None
    return Shown(key, _label(key), _text(key, value, number), number)


def _text(key: str, value: object, number: float | None) -> str:
    if value is None:
        return _UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if number is None or not math.isfinite(number):
        return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    if key == "ledger_difference_usdt":  # a promise of equality: to the last digit
        return str(value)
    if key.endswith("_usdt"):
        return _money(Decimal(str(value)))
    if key in _FRACTIONS or key.endswith(("_frac", "_pct", "_return")):
        return _percent(number)
    if key in _RATIOS or key.startswith(("sharpe", "sortino")):
        return f"{number:,.2f}"
    if isinstance(value, float):
        return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
    return _number(Decimal(str(value)))


def _label(key: str) -> str:
    words = [_WORDS.get(word, word) for word in key.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def _money(value: Decimal | float) -> str:
    text = f"{value:,.2f}"
    return text if text.strip("-0.,") else text.lstrip("-")


def _percent(value: float) -> str:
    text = f"{value:,.2%}"
    return text if text.strip("-0.,%") else text.lstrip("-")


def _number(value: Decimal | int) -> str:
    text = f"{Decimal(value):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _price(value: Decimal) -> str:
    """About seven digits, at least two decimals: an average of fills may have many more."""
    return f"{value:,.{min(max(6 - value.adjusted(), 2), 10)}f}"


def _when(ts_ns: Nanos) -> datetime:
    return datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC)


def _day(ts_ns: Nanos) -> str:
    return f"{_when(ts_ns):%Y-%m-%d}"


def _minute(ts_ns: Nanos) -> str:
    return f"{_when(ts_ns):%Y-%m-%d %H:%M}"


def _held(span_ns: Nanos) -> str:
    minutes = span_ns // 60_000_000_000
    days, rest = divmod(minutes, 1440)
    return f"{days}d {rest // 60}h" if days else f"{rest // 60}h {rest % 60:02d}m"


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
    profit_factor = f"{sum(gains) / -sum(losses):.2f}" if losses else _UNDEFINED
    return [
        ("Winning trades", _percent(len(gains) / len(nets))),
        ("Average win", _money(sum(gains) / len(gains)) if gains else _UNDEFINED),
        ("Average loss", _money(sum(losses) / len(losses)) if losses else _UNDEFINED),
        ("Profit factor", profit_factor),
        ("Best", _money(max(nets))),
        ("Worst", _money(min(nets))),
        ("Average held", _held(sum(trade.closed_ns - trade.opened_ns for trade in trades) // len(trades))),
    ]


def _equity_figure(equity: Sequence[tuple[Nanos, Decimal]]) -> dict[str, Any]:
    """Equity above, drawdown below, one time axis."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    when = [f"{_when(ts):%Y-%m-%dT%H:%M:%S}" for ts, _ in equity]
    values = [float(value) for _, value in equity]
    drawdown = [None if math.isnan(depth) else -depth for depth in drawdown_series(values).tolist()]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.04)
    style: dict[str, Any] = {"line": {"color": "var(--accent)", "width": 1.6}}
    hover = "%{x|%Y-%m-%d}<br>%{y:,.2f} USDT<extra></extra>"
    figure.add_trace(go.Scatter(x=when, y=values, hovertemplate=hover, **style), row=1, col=1)
    style = {"line": {"color": "var(--loss)", "width": 1}, "fill": "tozeroy", "fillcolor": "var(--loss-soft)"}
    hover = "%{x|%Y-%m-%d}<br>%{y:.2%}<extra></extra>"
    figure.add_trace(go.Scatter(x=when, y=drawdown, hovertemplate=hover, **style), row=2, col=1)
    figure.add_hline(y=values[0], line={"color": "var(--muted)", "width": 1, "dash": "dot"}, row=1, col=1)
    figure.update_yaxes(title_text="Equity, USDT", tickformat=",.0f", row=1, col=1)
    figure.update_yaxes(title_text="Drawdown", tickformat=".0%", row=2, col=1)
    return _plain(figure, height=460)


def _cost_figure(split: Sequence[tuple[str, Decimal]]) -> dict[str, Any]:
    """A waterfall from the price P&L to the change of equity."""
    import plotly.graph_objects as go

    amounts = [float(amount) for _, amount in split]
    figure = go.Figure(
        go.Waterfall(
            x=[label for label, _ in split],
            y=amounts,
            measure=["relative"] * (len(split) - 1) + ["total"],
            text=[_money(amount) for _, amount in split],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="none",
            increasing={"marker": {"color": "var(--gain)"}},
            decreasing={"marker": {"color": "var(--loss)"}},
            totals={"marker": {"color": "var(--accent)"}},
            connector={"line": {"color": "var(--muted)", "width": 1}},
        )
    )
    figure.update_yaxes(tickformat=",.0f", title_text="USDT")
    return _plain(figure, height=320)


def _distribution_figure(nets: Sequence[float]) -> dict[str, Any]:
    """How often trades ended with which net result; a bin never spans zero."""
    import plotly.graph_objects as go

    span = max(nets) - min(nets)
    rule = float(np.subtract(*np.percentile(nets, [75, 25]))) * 2 / len(nets) ** (1 / 3)  # Freedman & Diaconis 1981
    width = min(max(rule, span / 80), span / 10) or 1.0
    first, last = math.floor(min(nets) / width), math.floor(max(nets) / width) + 1
    edges = np.arange(first, last + 1) * width
    counts, _ = np.histogram(np.clip(nets, edges[0], edges[-1]), edges)
    figure = go.Figure(
        go.Bar(
            x=((edges[:-1] + edges[1:]) / 2).tolist(),
            y=counts.tolist(),
            width=width * 0.94,
            marker={"color": ["var(--loss)" if edge < -width / 2 else "var(--gain)" for edge in edges[:-1]]},
            customdata=[f"{_money(low)} to {_money(high)}" for low, high in pairwise(edges)],
            hovertemplate="%{customdata} USDT<br>%{y} trades<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="Net result of a trade, USDT", tickformat=",")
    figure.update_yaxes(title_text="Trades")
    return _plain(figure, height=320)


def _plain(figure: Any, height: int) -> dict[str, Any]:
    """The figure as JSON values, in the page's colours and without plotly's own template."""
    figure.update_layout(
        template="none",
        height=height,
        showlegend=False,
        margin={"l": 64, "r": 16, "t": 20, "b": 36},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "var(--ink)", "size": 12},
        hoverlabel={"bgcolor": "var(--card)", "font": {"color": "var(--ink)"}, "bordercolor": "var(--line)"},
    )
    axis = {"gridcolor": "var(--line)", "zerolinecolor": "var(--muted)", "linecolor": "var(--line)"}
    figure.update_xaxes(automargin=True, **axis)
    figure.update_yaxes(automargin=True, title_standoff=12, **axis)
    plain: dict[str, Any] = json.loads(figure.to_json())
    return plain
