"""The optimiser against cvxpy on random problems, and feasible weights whatever it is given."""

import math
import subprocess
import sys
import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from tidegate.quant.optimize import RELAXED_FIRST, Constraints, OptimalWeights, PortfolioOptimizer
from tidegate.quant.optimize_cones import ConeSolver

BATCHES = 8
PER_BATCH = 25
FEASIBLE = 1e-8


class Case(NamedTuple):
    mu: np.ndarray
    covariance: np.ndarray
    held: np.ndarray
    costs: dict
    risk_aversion: float
    rules: Constraints


def market(periods: int, assets: int, rng: np.random.Generator) -> np.ndarray:
    common = rng.normal(0, 0.03, (periods, 1)) * rng.uniform(0.3, 1.6, assets)
    return common + rng.normal(0, 1, (periods, assets)) * rng.uniform(0.005, 0.05, assets)


def draw(rng: np.random.Generator) -> Case:
    """A problem with each constraint and cost on or off; holding nothing is feasible."""
    assets = int(rng.choice([1, 2, 3, 5, 8, 12, 20, 30]))
    on = rng.random(9) < [0.3, 0.6, 0.5, 0.3, 0.3, 0.3, 0.7, 0.5, 0.5]
    held = rng.normal(0, 0.6 / assets, assets)
    rules = Constraints(lower=-0.5, upper=0.5)
    if on[0]:
        rules = replace(rules, lower=-rng.uniform(0.1, 0.6, assets), upper=rng.uniform(0.1, 0.6, assets))
    if on[1]:
        rules = replace(rules, gross=float(rng.uniform(0.3, 1.5)))
    if on[2]:
        rules = replace(rules, net=0.0 if rng.random() < 0.5 else (-0.1, 0.2))
    if on[3] and assets > 2:
        rules = replace(rules, beta=rng.uniform(0.4, 1.6, assets))
    if on[4]:
        rules = replace(rules, turnover=float(rng.uniform(0.3, 1.0) + np.abs(held).sum()))
    if on[5] and assets > 2:
        rules = replace(rules, factors=rng.normal(0, 1, (2, assets)), factor_caps=np.array([0.1, 0.2]))
    costs: dict = {"proportional_cost": rng.uniform(0.0002, 0.002, assets) if on[6] else 0.0}
    if on[7]:
        costs["impact_cost"] = rng.uniform(0.0005, 0.01, assets)
    if on[8]:
        costs["funding"] = rng.normal(0, 0.0003, assets)
    covariance = np.atleast_2d(np.cov(market(2 * assets + 30, assets, rng), rowvar=False))
    mu = rng.normal(0.0003, 0.002, assets)
    return Case(mu, covariance, held, costs, float(rng.choice([1.0, 5.0, 20.0])), rules)


def solved(case: Case, optimizer: PortfolioOptimizer) -> OptimalWeights:
    return optimizer.solve(case.mu, case.covariance, case.held, constraints=case.rules, **case.costs)


def reference(case: Case) -> float:
    """The optimum by cvxpy, with tolerances as near as it gets."""
    import cvxpy as cp

    rules, assets = case.rules, len(case.mu)
    weights = cp.Variable(assets)
    trade = cp.abs(weights - case.held)
    values, vectors = np.linalg.eigh(case.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))).T
    worth = (case.mu - case.costs.get("funding", 0.0)) @ weights
    worth -= case.risk_aversion / 2 * cp.sum_squares(root @ weights)
    worth -= np.broadcast_to(case.costs["proportional_cost"], (assets,)) @ trade
    if "impact_cost" in case.costs:
        worth -= case.costs["impact_cost"] @ cp.power(trade, 1.5)
    limits = [weights >= rules.lower, weights <= rules.upper]
    if rules.gross is not None:
        limits.append(cp.norm1(weights) <= rules.gross)
    if rules.net is not None:
        low, high = rules.net if isinstance(rules.net, tuple) else (rules.net, rules.net)
        limits += [cp.sum(weights) == low] if low == high else [cp.sum(weights) >= low, cp.sum(weights) <= high]
    if rules.beta is not None:
        limits.append(rules.beta @ weights == 0)
    if rules.turnover is not None:
        limits.append(cp.sum(trade) <= rules.turnover)
    if rules.factors is not None:
        limits.append(cp.abs(rules.factors @ weights) <= rules.factor_caps)
    problem = cp.Problem(cp.Maximize(1e3 * worth), limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "may be inaccurate" at these tolerances; the comparison says how much
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    assert problem.status.startswith("optimal")
    return float(problem.value) / 1e3


def broken(weights: np.ndarray, rules: Constraints, held: np.ndarray, *, without: tuple[str, ...] = ()) -> float:
    """The worst violation, computed apart from the optimiser."""
    excess = [float((rules.lower - weights).max()), float((weights - rules.upper).max())]
    if "bounds" in without:
        excess = [float((np.minimum(rules.lower, 0) - weights).max()), float((weights - rules.upper).max())]
    if rules.gross is not None:
        excess.append(np.abs(weights).sum() - rules.gross)
    if rules.net is not None and "net" not in without:
        low, high = rules.net if isinstance(rules.net, tuple) else (rules.net, rules.net)
        excess += [low - weights.sum(), weights.sum() - high]
    if rules.beta is not None and "beta" not in without:
        excess.append(abs(rules.beta @ weights))
    if rules.turnover is not None and "turnover" not in without:
        excess.append(np.abs(weights - held).sum() - rules.turnover)
    if rules.factors is not None and "factors" not in without:
        excess.append(float((np.abs(rules.factors @ weights) - rules.factor_caps).max()))
    return max(0.0, *excess)


def cost_of(case: Case, weights: np.ndarray) -> float:
    trade = np.abs(weights - case.held)
    cost = (case.costs["proportional_cost"] * trade).sum() + (case.costs.get("impact_cost", 0.0) * trade**1.5).sum()
    return float(cost)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_problems_reach_the_optimum_of_cvxpy(batch: int) -> None:
    rng = np.random.default_rng(batch)
    kept: dict[float, PortfolioOptimizer] = {}
    for number in range(PER_BATCH):
        case = draw(rng)
        optimizer = kept.setdefault(case.risk_aversion, PortfolioOptimizer(risk_aversion=case.risk_aversion))
        found = solved(case, optimizer)
        assert (found.status, found.relaxed) == ("optimal", ()), number
        assert broken(found.weights, case.rules, case.held) <= FEASIBLE, number
        best = reference(case)
        scale = max(abs(best), cost_of(case, found.weights))
        # their weights may lie outside of the limits by their tolerance, so we may fall short, never by more than 1e-6
        # (1e-18 is for the problems whose only feasible portfolio is nothing)
        assert abs(found.objective - best) <= 1e-6 * scale + 1e-18, number


def test_the_answer_depends_on_the_problem_alone() -> None:
    rng = np.random.default_rng(11)
    cases = [replace_rules(draw(rng), Constraints(lower=-0.5, upper=0.5, gross=0.4)) for _ in range(30)]
    cases = [each for each in cases if len(each.mu) == len(cases[0].mu)] + cases[:6]
    kept = PortfolioOptimizer()
    for case in [*cases, *reversed(cases)]:
        np.testing.assert_array_equal(solved(case, kept).weights, solved(case, PortfolioOptimizer()).weights)


def replace_rules(case: Case, rules: Constraints) -> Case:
    return case._replace(rules=rules, costs={**case.costs, "proportional_cost": 0.0006})


def test_one_asset_trades_to_the_edge_of_the_band_and_not_inside() -> None:
    optimizer = PortfolioOptimizer(risk_aversion=4.0)
    mu, variance, cost = 0.0008, 0.0005, 0.0004
    low, high = (mu - cost) / (4.0 * variance), (mu + cost) / (4.0 * variance)
    for held in np.linspace(-1, 1, 41):
        found = optimizer.solve([mu], [[variance]], [held], proportional_cost=cost)
        assert found.weights[0] == pytest.approx(min(max(held, low), high), abs=1e-10)
        if low < held < high:
            assert found.weights[0] == held  # exactly: no trade


def test_no_trade_is_exact_for_many_assets() -> None:
    rng = np.random.default_rng(4)
    covariance = np.cov(market(200, 20, rng), rowvar=False)
    held = rng.normal(0, 0.03, 20)
    mu = 5.0 * covariance @ held + rng.uniform(-0.0005, 0.0005, 20)  # inside the band of every asset
    found = PortfolioOptimizer(risk_aversion=5.0).solve(mu, covariance, held, proportional_cost=0.0006)
    np.testing.assert_array_equal(found.weights, held)


def test_funding_is_a_forecast_with_the_other_sign() -> None:
    rng = np.random.default_rng(6)
    covariance, mu = np.cov(market(100, 4, rng), rowvar=False), rng.normal(0, 0.001, 4)
    funding = rng.normal(0, 0.001, 4)
    optimizer = PortfolioOptimizer()
    paid = optimizer.solve(mu, covariance, np.zeros(4), funding=funding)
    less = optimizer.solve(mu - funding, covariance, np.zeros(4))
    np.testing.assert_allclose(paid.weights, less.weights, atol=1e-9)
    assert paid.objective == pytest.approx(less.objective, rel=1e-9)


SINGULAR = {
    "one direction": np.full((6, 6), 0.0004),
    "fewer periods than assets": np.cov(market(4, 6, np.random.default_rng(1)), rowvar=False),
    "two alike": np.cov(market(50, 5, np.random.default_rng(2))[:, [0, 1, 2, 3, 4, 4]], rowvar=False),
    "nearly singular": np.full((6, 6), 0.0004) + 1e-13 * np.eye(6),
    "not quite positive": np.full((6, 6), 0.0004) - 1e-12 * np.eye(6),
    "no risk": np.zeros((6, 6)),
    "tiny": 1e-14 * np.eye(6),
    "scales apart": np.diag([1e-12, 1e-8, 1e-4, 1e-2, 1.0, 100.0]),
}


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("impact", [None, 0.005])
def test_bad_covariances_still_give_feasible_optima(name: str, impact: float | None) -> None:
    rules = Constraints(lower=-0.5, upper=0.5, gross=1.0, net=0.0, turnover=0.8)
    held = np.array([0.1, -0.1, 0.05, -0.05, 0.0, 0.0])
    mu = np.array([0.001, -0.001, 0.0005, 0.0002, -0.0003, 0.0])
    found = PortfolioOptimizer(constraints=rules).solve(
        mu, SINGULAR[name], held, proportional_cost=0.0002, impact_cost=impact
    )
    assert (found.status, found.relaxed) == ("optimal", ())
    assert broken(found.weights, rules, held) <= FEASIBLE
    assert found.objective >= float(mu @ held) - 2.5 * float(held @ SINGULAR[name] @ held) - 1e-9


SPREAD = np.array([1.0, 1.0, -1.0, 0.5])
CONTRADICTIONS = {
    "turnover": (Constraints(lower=-0.5, upper=0.5, gross=1.0, turnover=0.05), [0.9, 0.9, 0.0, 0.0], ("turnover",)),
    "net beyond the bounds": (Constraints(lower=-0.1, upper=0.1, net=1.0), [0.0] * 4, ("net",)),
    "net beyond gross": (Constraints(gross=0.5, net=(0.8, 0.9)), [0.0] * 4, ("net",)),
    "net and beta": (Constraints(lower=0.0, upper=1.0, net=1.0, beta=np.ones(4)), [0.0] * 4, ("beta",)),
    "net and factors": (
        Constraints(net=1.0, factors=np.ones((1, 4)), factor_caps=0.1, beta=SPREAD),
        [0.0] * 4,
        ("factors",),
    ),
    # net is put back first, by as much as the bounds allow, and turnover yields to that
    "net beyond the bounds, and turnover": (
        Constraints(lower=-0.1, upper=0.1, net=1.0, turnover=0.1),
        [0.0] * 4,
        ("turnover", "net"),
    ),
    "turnover and net": (Constraints(net=1.0, turnover=0.1), [0.0] * 4, ("turnover",)),
    "floors and gross": (Constraints(lower=0.4, upper=0.5, gross=1.0), [0.0] * 4, ("bounds",)),
    "nearly everything": (
        Constraints(lower=0.4, upper=0.5, gross=1.0, net=3.0, turnover=0.1, beta=np.ones(4)),
        [0.9, 0.9, 0.9, 0.9],
        ("turnover", "beta", "net", "bounds"),
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_relaxed_in_order_and_named(name: str) -> None:
    rules, start, relaxed = CONTRADICTIONS[name]
    covariance = np.cov(market(80, 4, np.random.default_rng(8)), rowvar=False)
    mu, held = np.array([0.001, -0.0005, 0.0007, 0.0]), np.array(start)
    found = PortfolioOptimizer(constraints=rules).solve(mu, covariance, held, proportional_cost=0.0006)
    assert found.status == "optimal"
    assert set(relaxed) <= set(RELAXED_FIRST)
    if name == "nearly everything":
        assert "bounds" in found.relaxed  # and of the others whatever has no room beside gross
        assert set(found.relaxed) <= set(relaxed)
    else:
        assert found.relaxed == relaxed
    assert broken(found.weights, rules, held, without=found.relaxed) <= FEASIBLE


def test_random_contradictions_never_break_bounds_and_gross() -> None:
    rng = np.random.default_rng(21)
    optimizer, relaxed = PortfolioOptimizer(), 0
    for number in range(100):
        assets = int(rng.choice([1, 2, 4, 10, 30]))
        on = rng.random(6) < 0.5
        rules = Constraints(lower=rng.uniform(-0.5, 0.2, assets) if on[0] else -0.3, upper=0.3)
        rules = replace(rules, gross=float(rng.uniform(0, 1.5)) if on[1] else None)
        rules = replace(rules, net=float(rng.choice([0, 0.5, 1.0, -2.0])) if on[2] else (0.2, 0.6))
        rules = replace(rules, beta=rng.uniform(0.4, 1.6, assets) if on[3] else None)
        rules = replace(rules, turnover=float(rng.choice([0, 0.01, 0.3, 2.0])) if on[4] else None)
        if on[5]:
            rules = replace(rules, factors=rng.normal(0, 1, (2, assets)), factor_caps=np.array([0.0, 0.1]))
        covariance = np.atleast_2d(np.cov(market(int(rng.choice([3, 60])), assets, rng), rowvar=False))
        held = rng.normal(0, rng.choice([0.1, 1.0, 5.0]), assets)
        found = optimizer.solve(rng.normal(0, 0.002, assets), covariance, held, constraints=rules)
        assert found.status in ("optimal", "nearest_feasible"), number
        assert broken(found.weights, rules, held, without=found.relaxed) <= FEASIBLE, number
        relaxed += bool(found.relaxed)
    assert relaxed > 30


def test_a_relaxed_limit_is_broken_by_the_least_only() -> None:
    covariance = np.diag([0.0004, 0.0004])
    rules = Constraints(lower=-0.5, upper=0.5, turnover=0.05)
    found = PortfolioOptimizer(constraints=rules).solve([0.01, 0.01], covariance, [0.9, 0.0])
    assert found.relaxed == ("turnover",)
    np.testing.assert_allclose(found.weights, [0.5, 0.0], atol=1e-5)  # back inside, and nothing else
    rules = Constraints(lower=-0.1, upper=0.1, net=1.0)
    found = PortfolioOptimizer(constraints=rules).solve([0.0, 0.0], covariance, [0.0, 0.0])
    assert found.relaxed == ("net",)
    np.testing.assert_allclose(found.weights, [0.1, 0.1], atol=1e-6)


def test_without_a_solution_the_nearest_feasible_portfolio_is_taken_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The solver is made to fail on priced problems, then on all: the two last resorts."""
    honest = ConeSolver.solve
    failed = honest(ConeSolver(), _impossible())

    def refusing(everything: bool):
        def solve(self: ConeSolver, problem, elastic=None):
            return failed if everything or problem.proportional.any() else honest(self, problem, elastic)

        return solve

    rules = Constraints(lower=-0.5, upper=0.5, gross=0.8)
    held = np.array([0.9, -0.2, 0.3])
    arguments = ([0.001, 0.0, -0.001], np.eye(3) * 0.0004, held)
    monkeypatch.setattr(ConeSolver, "solve", refusing(everything=False))
    found = PortfolioOptimizer(constraints=rules).solve(*arguments, proportional_cost=0.001)
    assert (found.status, found.relaxed) == ("nearest_feasible", ())
    assert broken(found.weights, rules, held) <= FEASIBLE
    # cut 0.9 to the bound; the rest shrinks alike to the gross limit: 0.5 + 0.1 + 0.2
    np.testing.assert_allclose(found.weights, [0.5, -0.1, 0.2], atol=1e-6)
    monkeypatch.setattr(ConeSolver, "solve", refusing(everything=True))
    found = PortfolioOptimizer(constraints=rules).solve(*arguments, proportional_cost=0.001)
    assert found.status == "clipped"
    assert broken(found.weights, rules, held) <= FEASIBLE


def _impossible():
    from tidegate.quant.optimize_cones import ConeProblem

    free = np.zeros(1)
    ones = np.ones(1)
    return ConeProblem(np.eye(1), free, free, -ones, ones, free, free, net=(3.0, 3.0))


@pytest.mark.parametrize("method", ["risk_parity", "hierarchical_risk_parity", "inverse_volatility"])
def test_methods_without_forecasts_obey_the_same_constraints(method: str) -> None:
    covariance = np.cov(market(200, 6, np.random.default_rng(3)), rowvar=False)
    free = PortfolioOptimizer(method, constraints=Constraints()).solve(np.zeros(6), covariance, np.zeros(6))
    assert (free.status, free.relaxed) == ("optimal", ())
    assert free.weights.sum() == pytest.approx(1.0, rel=1e-12)
    assert free.weights.min() > 0.0
    rules = Constraints(lower=0.0, upper=0.2, gross=1.0, net=1.0)
    capped = PortfolioOptimizer(method, constraints=rules).solve(np.zeros(6), covariance, np.zeros(6))
    assert capped.status == "projected"
    assert broken(capped.weights, rules, np.zeros(6)) <= FEASIBLE


def test_minimum_variance_invests_one_and_has_the_least_risk() -> None:
    covariance = np.cov(market(200, 5, np.random.default_rng(3)), rowvar=False)
    rules = Constraints(lower=0.0, upper=0.6)
    found = PortfolioOptimizer("minimum_variance", constraints=rules).solve(np.zeros(5), covariance, np.zeros(5))
    assert found.weights.sum() == pytest.approx(1.0, abs=1e-8)
    risk = found.weights @ covariance @ found.weights
    for other in np.random.default_rng(0).dirichlet(np.ones(5), 500):
        if other.max() <= 0.6:
            assert risk <= other @ covariance @ other + 1e-12


def test_black_litterman_without_views_holds_the_market() -> None:
    covariance = np.cov(market(200, 3, np.random.default_rng(3)), rowvar=False)
    weights = np.array([0.5, 0.3, 0.2])
    optimizer = PortfolioOptimizer("black_litterman", risk_aversion=3.0, market_weights=weights)
    nothing = np.full(3, math.nan)
    np.testing.assert_allclose(optimizer.solve(nothing, covariance, np.zeros(3)).weights, weights, atol=1e-7)
    prior = 3.0 * covariance @ weights
    bullish = optimizer.solve([prior[0] + 0.001, math.nan, math.nan], covariance, np.zeros(3))
    assert bullish.weights[0] > 0.5
    np.testing.assert_allclose(bullish.weights[1:], weights[1:], atol=1e-6)  # a view on one asset moves that one only


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mu": [0.1]}, "mu must be one number or 2"),
        ({"mu": [0.1, math.nan]}, "mu needs finite numbers, not nan at index 1"),
        ({"covariance": [[1.0, 0.0], [0.0, math.nan]]}, "covariance 1, 1 is nan"),
        ({"covariance": np.eye(3)[:2]}, r"\(N, N\)"),
        ({"held": [0.0, math.inf]}, "held needs finite"),
        ({"proportional_cost": -0.1}, "proportional_cost needs finite numbers of at least 0"),
        ({"impact_cost": [0.1, -0.1]}, "impact_cost"),
        ({"constraints": Constraints(lower=0.5, upper=0.2)}, "lies above its upper bound"),
        ({"constraints": Constraints(lower=math.nan)}, "lower bound 0 is NaN"),
        ({"constraints": Constraints(gross=-1.0)}, "gross must be at least 0"),
        ({"constraints": Constraints(turnover=math.nan)}, "turnover must be at least 0"),
        ({"constraints": Constraints(net=(1.0, 0.0))}, "net must be a number or"),
        ({"constraints": Constraints(factors=np.ones((1, 2)))}, "have factor_caps"),
        ({"constraints": Constraints(beta=np.ones(3))}, "beta must be one number or 2"),
    ],
)
def test_wrong_arguments_are_named(change: dict, words: str) -> None:
    arguments = {"mu": [0.0, 0.0], "covariance": np.eye(2), "held": [0.0, 0.0], **change}
    with pytest.raises(ValueError, match=words):
        PortfolioOptimizer().solve(**arguments)
    with pytest.raises(ValueError, match="method must be one of"):
        PortfolioOptimizer("best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="risk_aversion"):
        PortfolioOptimizer(risk_aversion=-1.0)


def test_importing_the_optimiser_loads_no_solver() -> None:
    code = (
        "import sys, tidegate.quant.optimize, tidegate.quant.correlation; "
        "print([m for m in ('clarabel', 'scipy', 'sklearn', 'pandas', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
