"""How long the optimiser takes, next to cvxpy in the same run: ``python -m benchmarks.optimizer --json``.

Random portfolios with a box, gross and turnover limits that can bind, and proportional costs; for each size the median
over ``--repeats`` different problems of the same shape, as in a live process that keeps its optimiser. The figure with
the 3/2-power impact cost stands apart. ``processor_ms`` is ours without the waiting on a busy machine. cvxpy solves the
same problems with the same solver, its expressions written once with parameters, tolerances left alone; both objectives
are compared. Exit code 1 when a figure with proportional costs misses its target, an optimum is missed, or ours is
worse than cvxpy's by more than 1e-6 of the costs or the objective.
"""

import argparse
import gc
import json
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidegate.quant.optimize import Constraints, OptimalWeights, PortfolioOptimizer

TARGETS_MS = {4: 3.0, 20: 3.0, 100: 12.0}
"""Milliseconds with proportional costs, by number of assets."""

RISK_AVERSION = 5.0
UPPER, GROSS = 0.5, 1.5
PROPORTIONAL, IMPACT = 0.0006, 0.002

Vector = NDArray[np.float64]


class Portfolio(NamedTuple):
    """One rebalancing."""

    mu: Vector
    covariance: Vector
    held: Vector


def portfolio(assets: int, rng: np.random.Generator) -> Portfolio:
    """A one-factor market over 250 days, forecasts and holdings."""
    market = rng.normal(0.0, 0.03, (250, 1))
    returns = market * rng.uniform(0.5, 1.5, assets) + rng.normal(0.0, 0.02, (250, assets))
    mu = rng.normal(0.0005, 0.001, assets)
    return Portfolio(mu, np.cov(returns, rowvar=False), rng.normal(0.0, 0.5 / assets, assets))


def turnover_of(book: Portfolio) -> float:
    """A limit that leaves room to come back inside the gross limit."""
    return 1.0 + max(0.0, float(np.abs(book.held).sum()) - GROSS)


class Ours:
    """The optimiser as the kernel keeps it."""

    def __init__(self, impact: float) -> None:
        self._optimizer = PortfolioOptimizer(risk_aversion=RISK_AVERSION)
        self._impact = impact

    def solve(self, book: Portfolio) -> OptimalWeights:
        rules = Constraints(lower=-UPPER, upper=UPPER, gross=GROSS, turnover=turnover_of(book))
        return self._optimizer.solve(
            book.mu,
            book.covariance,
            book.held,
            proportional_cost=PROPORTIONAL,
            impact_cost=self._impact,
            constraints=rules,
        )


class Reference:
    """The same program in cvxpy, parametrised once."""

    def __init__(self, assets: int, impact: float) -> None:
        cp: Any = import_module("cvxpy")  # a tool of development: it must not be needed to import this module
        self._mu, self._held, self._turnover = cp.Parameter(assets), cp.Parameter(assets), cp.Parameter(nonneg=True)
        self._root = cp.Parameter((assets, assets))
        self._weights = cp.Variable(assets)
        trade = cp.abs(self._weights - self._held)
        worth = self._mu @ self._weights - RISK_AVERSION / 2 * cp.sum_squares(self._root @ self._weights)
        worth -= PROPORTIONAL * cp.sum(trade)
        if impact:
            worth -= impact * cp.sum(cp.power(trade, 1.5))
        limits = [cp.abs(self._weights) <= UPPER, cp.norm1(self._weights) <= GROSS, cp.sum(trade) <= self._turnover]
        self._problem = cp.Problem(cp.Maximize(worth), limits)

    def solve(self, book: Portfolio) -> Vector:
        self._mu.value, self._held.value = book.mu, book.held
        self._root.value, self._turnover.value = np.linalg.cholesky(book.covariance).T, turnover_of(book)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "may be inaccurate": its optimum is compared below
            self._problem.solve(solver="CLARABEL")
        return np.asarray(self._weights.value)


def worth(book: Portfolio, weights: Vector, impact: float) -> tuple[float, float]:
    """The objective at ``weights`` and the costs in it."""
    trade = np.abs(weights - book.held)
    cost = PROPORTIONAL * float(trade.sum()) + impact * float((trade**1.5).sum())
    return float(book.mu @ weights - RISK_AVERSION / 2 * weights @ book.covariance @ weights) - cost, cost


def measure(assets: int, impact: float, repeats: int, seed: int) -> dict[str, Any]:
    """Median times of both, and how far our objective lies below the other in the worst case."""
    rng = np.random.default_rng(seed)
    books = [portfolio(assets, rng) for _ in range(repeats + 1)]
    ours, reference = Ours(impact), Reference(assets, impact)
    ours.solve(books[0])
    reference.solve(books[0])  # layout and compilation are paid once
    times: list[float] = []
    processor: list[float] = []
    others: list[float] = []
    behind, optimal = 0.0, True
    gc.collect()
    for book in books[1:]:
        busy, started = process_time(), perf_counter()
        found = ours.solve(book)
        between = perf_counter()
        processor.append(process_time() - busy)
        weights = reference.solve(book)
        others.append(perf_counter() - between)
        times.append(between - started)
        optimal = optimal and found.status == "optimal" and not found.relaxed
        best, cost = worth(book, weights, impact)
        behind = max(behind, (best - found.objective) / max(abs(best), cost))
    return {
        "ms": round(median(times) * 1e3, 3),
        "processor_ms": round(median(processor) * 1e3, 3),
        "cvxpy_ms": round(median(others) * 1e3, 3),
        "behind_cvxpy": float(f"{behind:.1e}"),
        "optimal": optimal,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every size with both kinds of cost and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    figures: dict[str, Any] = {"repeats": options.repeats}
    ok = True
    for name, impact in (("proportional", 0.0), ("power_3_2", IMPACT)):
        for assets, target in TARGETS_MS.items():
            found = measure(assets, impact, options.repeats, options.seed)
            figures[f"{name}_{assets}"] = found
            ok = ok and found["optimal"] and found["behind_cvxpy"] <= 1e-6
            ok = ok and (impact > 0.0 or found["ms"] < target)
    figures["targets_met"] = ok
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:20} {value}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
