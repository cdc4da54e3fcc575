"""``portfolio.json``: mean-variance with costs, minimum variance, risk parity and HRP, and the no-trade band."""

import numpy as np

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant.optimize import Constraints, PortfolioOptimizer
from tidegate.quant.weighting import equal_risk_contribution, hierarchical_risk_parity


@case("portfolio.json", "mv-6")
@case("portfolio.json", "mv-10")
def mean_variance(oracle: Oracle) -> None:
    """The published objective is that of the maximum; HRP in both libraries' order of leaves."""
    given = oracle.inputs
    covariance = np.cov(np.array(given["returns"]), rowvar=False)
    mu, held = np.array(given["mu"]), np.array(given["w_prev"])
    kp, ki = given["cost_proportional"], given["cost_impact_3_2"]
    long_only = Constraints(lower=0.0, upper=1.0, net=1.0)
    boxed = Constraints(lower=-0.5, upper=0.5, gross=1.5)
    neutral = Constraints(lower=-0.5, upper=0.5, gross=1.5, net=0.0)
    optimizer = PortfolioOptimizer(risk_aversion=given["risk_aversion"])
    for key, rules, costs in (
        ("no_cost_long_only_sum1", long_only, {}),
        ("proportional", boxed, {"proportional_cost": kp}),
        ("proportional_and_impact", boxed, {"proportional_cost": kp, "impact_cost": ki}),
        ("proportional_neutral", neutral, {"proportional_cost": kp}),
    ):
        found = optimizer.solve(mu, covariance, held, constraints=rules, **costs)
        assert (found.status, found.relaxed) == ("optimal", ())
        oracle.check(key, {"weights": found.weights, "objective": found.objective})
    unbounded = Constraints(lower=-np.inf, upper=np.inf)
    least = PortfolioOptimizer("minimum_variance", constraints=unbounded).solve(mu, covariance, held)
    oracle.check("min_variance_closed_form", least.weights)
    oracle.check("equal_risk_contribution", equal_risk_contribution(covariance))
    oracle.check("hrp_pypfopt", hierarchical_risk_parity(covariance))
    oracle.check("hrp_skfolio_single_linkage", hierarchical_risk_parity(covariance, leaves="optimal"))


@case("portfolio.json", "no-trade-band")
def no_trade_band(oracle: Oracle) -> None:
    """One asset: the optimiser holds inside the band and trades to its nearer edge outside."""
    given = oracle.inputs
    optimizer = PortfolioOptimizer(risk_aversion=given["risk_aversion"])

    def after(held: float) -> float:
        found = optimizer.solve([given["mu"]], [[given["variance"]]], [held], proportional_cost=given["cost"])
        return float(found.weights[0])

    oracle.check("w_new", [after(held) for held in given["w_prev"]])
    oracle.check("band", [after(-1.0), after(1.0)])
