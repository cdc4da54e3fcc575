"""What each strategy gave to the book: figures from the lines of the virtual ledgers, which add up to the book exactly.

A strategy has no equity of its own. Its return of a day is its net result over the equity of the whole book at the
beginning of that day, so that its total return is its part of the book's: the parts, with what netting saved and what
nobody asked for, add up to it. A line that covers more than a day counts on the day on which it ends.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from tidegate.app.performance import DAYS_PER_YEAR, sharpe_ci95_of
from tidegate.app.tally import YEAR_NS, plain
from tidegate.domain.ids import InstrumentId, Nanos, StrategyId
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.market import DAY_NS
from tidegate.domain.signals import RegimeChanged, Scenario, StrategyResult
from tidegate.quant.measures import annualized_volatility, max_drawdown, sharpe_ratio, sortino_ratio

Cell = tuple[StrategyId, InstrumentId, Scenario]


@dataclass(slots=True)
class Amounts:
    """Sums of lines, in USDT. ``slippage`` and ``fees`` are costs, positive, ``funding`` the change of the wallet."""

    price: Decimal = ZERO
    slippage: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    turnover: Decimal = ZERO
    fills: int = 0

    def add(self, line: StrategyResult) -> None:
        self.price = EXACT.add(self.price, line.price_pnl)
        self.slippage = EXACT.add(self.slippage, line.slippage)
        self.fees = EXACT.add(self.fees, line.fees)
        self.funding = EXACT.add(self.funding, line.funding)
        self.turnover = EXACT.add(self.turnover, line.turnover)
        self.fills += line.fills

    @property
    def net(self) -> Decimal:
        """The change of equity: price less slippage and fees, and funding."""
        return EXACT.add(EXACT.subtract(EXACT.subtract(self.price, self.slippage), self.fees), self.funding)

    @classmethod
    def of(cls, lines: Iterable[StrategyResult]) -> "Amounts":
        """The sum of lines."""
        total = cls()
        for line in lines:
            total.add(line)
        return total


def cells(lines: Iterable[StrategyResult]) -> dict[Cell, Amounts]:
    """The sums by strategy, instrument and scenario, in order of first appearance; together they are the book."""
    found: dict[Cell, Amounts] = {}
    for line in lines:
        found.setdefault((line.strategy, line.instrument, line.scenario), Amounts()).add(line)
    return found


def attribution_difference(lines: Iterable[StrategyResult], change: Decimal) -> Decimal:
    """The sum of all lines less the change of equity: zero, or something was lost."""
    return EXACT.subtract(Amounts.of(lines).net, change)


# ---- scenarios -------------------------------------------------------------------------------------------------------


def spells(
    regimes: Sequence[RegimeChanged], first_ns: Nanos, last_ns: Nanos
) -> Iterator[tuple[Nanos, Nanos, Scenario]]:
    """The time from first to last as ``(from, to, scenario)``; before anything was read it is UNKNOWN."""
    at_ns, scenario = first_ns, Scenario.UNKNOWN
    for each in regimes:
        if each.scenario is scenario or each.ts_ns >= last_ns:
            continue
        if each.ts_ns > at_ns:
            yield at_ns, each.ts_ns, scenario
        at_ns, scenario = max(at_ns, each.ts_ns), each.scenario
    if last_ns > at_ns:
        yield at_ns, last_ns, scenario


def scenario_share(regimes: Sequence[RegimeChanged], first_ns: Nanos, last_ns: Nanos) -> dict[str, float | None]:
    """The share of time of each of the nine scenarios; None where there was no time."""
    times: Counter[Scenario] = Counter()
    for from_ns, to_ns, scenario in spells(regimes, first_ns, last_ns):
        times[scenario] += to_ns - from_ns
    return _shares(times)


def _shares(counts: Mapping[Scenario, int]) -> dict[str, float | None]:
    total = sum(counts.values())
    return {each.value: counts.get(each, 0) / total if total else None for each in Scenario}


# ---- strategies ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Days:
    """The days of a run and what each account gave on them.

    ``ends_ns (D,)``; ``equity (D+1,)`` of the book at the first instant and at each end, as the lines have it;
    ``returns`` by account ``(D,)``, over the equity at the beginning of the day. They end at ruin.
    """

    ends_ns: NDArray[np.int64]
    equity: NDArray[np.float64]
    returns: dict[StrategyId, NDArray[np.float64]]


def daily(lines: Sequence[StrategyResult], first_ns: Nanos, last_ns: Nanos, capital: Decimal) -> Days:
    """The returns of each account on each UTC day that the run touched; the last day may be cut short."""
    first_end = (first_ns // DAY_NS + 1) * DAY_NS
    ends_ns = np.arange(first_end, max(last_ns, first_ns + 1) + DAY_NS, DAY_NS, dtype=np.int64)
    nets: dict[StrategyId, NDArray[np.float64]] = {}
    for line in lines:
        column = nets.setdefault(line.strategy, np.zeros(ends_ns.size))
        column[int(np.searchsorted(ends_ns, line.ts_ns))] += float(_net(line))
    gained = sum(nets.values(), np.zeros(ends_ns.size))
    equity = float(capital) + np.concatenate((np.zeros(1), np.cumsum(gained)))
    ruined = np.flatnonzero(equity <= 0.0)
    lived = int(ruined[0]) if ruined.size else ends_ns.size
    return Days(
        ends_ns[:lived], equity[: lived + 1], {name: net[:lived] / equity[:lived] for name, net in nets.items()}
    )


def _net(line: StrategyResult) -> Decimal:
    return Amounts.of((line,)).net


def strategy_figures(
    names: Sequence[StrategyId],
    lines: Sequence[StrategyResult],
    first_ns: Nanos,
    last_ns: Nanos,
    capital: Decimal,
    mean_equity: float,
) -> dict[str, dict[str, object]]:
    """The figures of each strategy, by the names of the book's own where they mean the same.

    ``total_return`` is its net result over the opening balance, its part of the book's; ``annual_volatility``,
    ``sharpe``, ``sortino`` and ``max_drawdown`` are of its daily returns on the equity of the book, compounded for the
    drawdown; ``turnover`` is a year's, as a multiple of the mean equity of the book. ``active_days`` are the days on
    which it held or traded something, ``scenario_share`` their parts by the scenario at the end of the day, which are
    None when there are none.
    """
    days = daily(lines, first_ns, last_ns, capital)
    years = (last_ns - first_ns) / YEAR_NS
    found: dict[str, dict[str, object]] = {}
    for name in names:
        own = [line for line in lines if line.strategy == name]
        sums = Amounts.of(own)
        active = {line.ts_ns: line.scenario for line in own}
        traded = float(sums.turnover) / mean_equity / years if years > 0.0 and mean_equity > 0.0 else None
        found[str(name)] = {
            **_amounts(sums),
            "total_return": float(sums.net / capital),
            **_ratios(days.returns.get(name, np.zeros(days.ends_ns.size))),
            "turnover": traded,
            "fills": sums.fills,
            "active_days": len(active),
            "scenario_share": _shares(Counter(active.values())),
            "annualisation": DAYS_PER_YEAR,
            "trials": 1,
        }
    return found


def other_accounts(names: Sequence[StrategyId], lines: Sequence[StrategyResult]) -> dict[str, dict[str, object]]:
    """What belongs to no strategy: what netting saved, and what nobody asked for."""
    others = dict.fromkeys(line.strategy for line in lines if line.strategy not in names)
    return {str(name): _amounts(Amounts.of(line for line in lines if line.strategy == name)) for name in others}


def lone_figures(summary: Mapping[str, object]) -> dict[str, object]:
    """The figures of a strategy that is the book, from the summary of the book."""
    same = (
        "total_return",
        "annual_volatility",
        "sharpe",
        "sharpe_ci95",
        "sortino",
        "max_drawdown",
        "turnover",
        "fills",
    )
    costs = summary["costs"]
    assert isinstance(costs, dict)
    net = Decimal(str(summary["final_equity_usdt"])) - Decimal(str(summary["initial_capital_usdt"]))
    paid = Decimal(str(costs["fees_usdt"])) + Decimal(str(costs["slippage_usdt"])) - Decimal(str(costs["funding_usdt"]))
    return {
        "net_usdt": plain(net),
        "price_pnl_usdt": plain(net + paid),
        "costs": dict(costs),
        **{key: summary[key] for key in same},
        "fills": summary["fills"],
        "active_days": None,
        "scenario_share": summary["scenario_share"],
        "annualisation": DAYS_PER_YEAR,
        "trials": 1,
    }


def costs_of(fees: Decimal, funding: Decimal, slippage: Decimal) -> dict[str, str]:
    """The three costs as the summary shows them: fees and slippage as paid, funding as received."""
    return {"fees_usdt": plain(fees), "funding_usdt": plain(funding), "slippage_usdt": plain(slippage)}


def _amounts(sums: Amounts) -> dict[str, object]:
    return {
        "net_usdt": plain(sums.net),
        "price_pnl_usdt": plain(sums.price),
        "costs": costs_of(sums.fees, sums.funding, sums.slippage),
    }


def _ratios(returns: NDArray[np.float64]) -> dict[str, object]:
    figures = {
        "annual_volatility": annualized_volatility(returns, DAYS_PER_YEAR),
        "sharpe": sharpe_ratio(returns, 0.0, DAYS_PER_YEAR),
        "sortino": sortino_ratio(returns, 0.0, DAYS_PER_YEAR),
        "max_drawdown": max_drawdown(returns),
    }
    known: dict[str, object] = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    return known | {"sharpe_ci95": sharpe_ci95_of(returns)}
