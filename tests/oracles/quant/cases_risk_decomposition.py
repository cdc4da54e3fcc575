"""``risk_decomposition.json``: marginal, component and percent risk."""

from dataclasses import asdict

import numpy as np

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant.risk_contributions import component_var, risk_contributions


@case("risk_decomposition.json", "jorion-two-currencies")
def jorion(oracle: Oracle) -> None:
    """Positions in money; VaR is z times the volatility of the position."""
    positions, covariance, z = (oracle.inputs[name] for name in ("positions", "cov", "z"))
    risk = risk_contributions(positions, covariance)
    alone = np.abs(positions) * np.sqrt(np.diag(covariance)) * z
    figures = {
        "portfolio_var": z * risk.volatility,
        "individual_var": alone,
        "marginal_var": z * risk.marginal,
        "component_var": component_var(positions, covariance, z),
    }
    for key, value in figures.items():
        oracle.check(key, value)
        oracle.check(f"published.{key}", value)


@case("risk_decomposition.json", "six-assets-long-short")
def long_short(oracle: Oracle) -> None:
    """Shorts carry negative weight; components sum to the volatility."""
    oracle.check("", asdict(risk_contributions(oracle.inputs["weights"], oracle.inputs["cov"])))
