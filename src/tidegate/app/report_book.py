"""The part of a report that a book of several strategies has: regimes, strategies, risk, attribution, what bound."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from tidegate.app.active_return import ActiveReturn, against_even_mix
from tidegate.app.contributions import Amounts, cells, daily
from tidegate.app.report_book_charts import (
    bindings_figure,
    exposure_figure,
    grid_figure,
    risk_figure,
    strategies_figure,
)
from tidegate.app.report_text import Shown, shown
from tidegate.app.result import BacktestResult
from tidegate.app.tally import plain
from tidegate.domain.ids import StrategyId
from tidegate.domain.ledger import EXACT
from tidegate.domain.signals import Scenario

SECTIONS = ("costs", "scenario_share", "strategies", "other_accounts", "bindings")
"""Keys of the summary that are tables or charts here, and no line among the figures."""

_COLUMNS = ("net_usdt", "total_return", "sharpe", "sharpe_ci95", "max_drawdown", "annual_volatility", "turnover")
_COSTS = ("fees_usdt", "slippage_usdt", "funding_usdt")
_LAST = ("fills", "active_days")
_HEADINGS = (
    *("Net USDT", "Return", "Sharpe", "95 % interval", "Max drawdown", "Volatility", "Turnover"),
    *("Fees", "Slippage", "Funding", "Fills", "Days"),
)


def book_page(result: BacktestResult) -> tuple[dict[str, object], dict[str, dict[str, Any]]]:
    """What the template shows of the book, by the names that it uses, and the charts."""
    said, summary = result.chronicle, result.summary
    names = _names(summary)
    charts: dict[str, dict[str, Any]] = {}
    page: dict[str, object] = {
        "scenarios": _scenarios(summary) if said.regimes else [],
        "strategy_columns": _HEADINGS,
        "strategy_rows": [],
        "attribution": None,
        "active": None,
        "risks": bool(said.risks),
        "bindings": bool(said.bindings),
        "halts": said.halts,
        "resets": said.resets,
        "fits": said.fits,
        "halts_possible": bool(said.halts or said.regimes or said.results),
    }
    if said.results:
        page["strategy_rows"] = _strategy_rows(summary)
        page["attribution"], more = _attribution(result, names)
        charts |= more
        charts["strategies"] = _strategies_chart(result, names)
        (first_ns, capital), (last_ns, _) = result.equity[0], result.equity[-1]
        found = against_even_mix([StrategyId(n) for n in names], said.results, said.regimes, first_ns, last_ns, capital)
        page["active"] = None if found is None else _active(found)
    if said.risks:
        charts["exposure"], charts["risk"] = exposure_figure(said.risks), risk_figure(said.risks)
    if said.bindings:
        charts["bindings"] = bindings_figure(dict(said.bindings.most_common()))
    return page, charts


def _names(summary: Mapping[str, object]) -> list[str]:
    strategies = summary.get("strategies")
    return list(strategies) if isinstance(strategies, Mapping) else []


def _scenarios(summary: Mapping[str, object]) -> list[tuple[str, str, Shown]]:
    """Each scenario with its class of colour and its share of time."""
    shares = summary.get("scenario_share")
    if not isinstance(shares, Mapping):
        return []
    return [(_words(name), css(Scenario(name)), shown("share_frac", value)) for name, value in shares.items()]


def css(scenario: Scenario) -> str:
    """The name of the scenario's colour on the page."""
    return f"--{scenario.value.lower().replace('_', '-')}"


def _words(name: str) -> str:
    return name.lower().replace("_", ", ").replace("low", "low volatility").replace("high", "high volatility")


def _strategy_rows(summary: Mapping[str, Any]) -> list[tuple[str, list[Shown]]]:
    """A row for each strategy, for what belongs to none, and for the book that they add up to."""
    rows = [(str(name), _row(figures)) for name, figures in summary["strategies"].items()]
    rows += [(str(name), _row(figures)) for name, figures in summary["other_accounts"].items()]
    change = Decimal(str(summary["final_equity_usdt"])) - Decimal(str(summary["initial_capital_usdt"]))
    return [*rows, ("Book", _row({**summary, "net_usdt": plain(change)}))]


def _row(figures: Mapping[str, Any]) -> list[Shown]:
    costs = figures["costs"]
    cells = [shown(key, figures.get(key)) for key in _COLUMNS]
    return [*cells, *(shown(key, costs[key]) for key in _COSTS), *(shown(key, figures.get(key)) for key in _LAST)]


def _attribution(result: BacktestResult, names: Sequence[str]) -> tuple[dict[str, object], dict[str, dict[str, Any]]]:
    """The table by strategy, instrument and scenario, its sum, and two views from above."""
    table = cells(result.chronicle.results)
    total = Amounts.of(result.chronicle.results)
    change = EXACT.subtract(result.equity[-1][1], result.equity[0][1])
    accounts = [*names, *dict.fromkeys(str(name) for name, _, _ in table if name not in names)]
    instruments = list(dict.fromkeys(str(name) for _, name, _ in table))
    scenarios = [each.value for each in Scenario if any(cell[2] is each for cell in table)]
    by_instrument: dict[tuple[str, str], float] = {}
    by_scenario: dict[tuple[str, str], float] = {}
    for (strategy, instrument, scenario), sums in table.items():
        for nets, key in ((by_instrument, str(instrument)), (by_scenario, scenario.value)):
            nets[strategy, key] = nets.get((strategy, key), 0.0) + float(sums.net)
    page: dict[str, object] = {
        "rows": [(*(str(key) for key in cell[:2]), cell[2].value, sums) for cell, sums in table.items()],
        "total": total,
        "exact": plain(total.net),
        "change": plain(change),
        "difference": plain(EXACT.subtract(total.net, change)),
    }
    return page, {
        "by-instrument": grid_figure(accounts, instruments, by_instrument),
        "by-scenario": grid_figure(accounts, scenarios, by_scenario),
    }


def _strategies_chart(result: BacktestResult, names: Sequence[str]) -> dict[str, Any]:
    (first_ns, capital), (last_ns, _) = result.equity[0], result.equity[-1]
    days = daily(result.chronicle.results, first_ns, last_ns, capital)
    nets = {
        str(name): [0.0, *np.cumsum(returns * days.equity[:-1]).round(2).tolist()]
        for name, returns in days.returns.items()
    }
    ends_ns = [first_ns, *(min(each, last_ns) for each in days.ends_ns.tolist())]
    return strategies_figure(names, result.chronicle.regimes, nets, ends_ns, last_ns)


def _active(found: ActiveReturn) -> dict[str, object]:
    linked = found.linked
    effects = zip(
        found.segments,
        found.weights,
        found.even,
        linked.allocation.tolist(),
        linked.selection.tolist(),
        linked.interaction.tolist(),
        strict=True,
    )
    return {
        "segments": list(effects),
        "sums": [float(each.sum()) for each in (linked.allocation, linked.selection, linked.interaction)],
        "others": list(zip(found.others, linked.others.tolist(), strict=True)),
        "book": linked.portfolio_return,
        "benchmark": linked.benchmark_return,
        "active": linked.active,
        "residual": f"{linked.residual:.1e}",
        "share": found.even[0],
    }
