"""The GARCH oracles: our recursion and likelihood, the optimiser of ``arch``, and one estimate by our likelihood."""

import numpy as np
from scipy.optimize import minimize

from tests.oracles.quant.vectors import Oracle, case, load
from tidegate.quant.fold import scan
from tidegate.quant.volatility import (
    GarchParameters,
    backcast_variance,
    conditional_variances,
    log_likelihood,
    variance_forecast,
)
from tidegate.quant.volatility_fit import fit_garch

NAMES = {"mu": "mean", "omega": "omega", "alpha[1]": "alpha", "gamma[1]": "gamma", "beta[1]": "beta", "nu": "nu"}


def in_percent(returns_percent: np.ndarray, kind: str, dist: str) -> GarchParameters:
    return fit_garch(returns_percent / 100.0, kind, dist).scaled(100.0)  # type: ignore[arg-type]


def check_fit(oracle: Oracle, at: str, returns: np.ndarray, fitted: GarchParameters) -> None:
    assert not fitted.fallback
    prefix = f"{at}." if at else ""
    names = oracle.keys(f"{prefix}params")
    oracle.check(f"{prefix}params", {name: getattr(fitted, NAMES[name]) for name in names})
    oracle.check(f"{prefix}loglik", log_likelihood(returns, fitted))


@case("garch.json", "fcp-benchmark")
def fcp_benchmark(oracle: Oracle) -> None:
    """The benchmark's presample moves with the mean: it is estimated with our own likelihood."""
    returns = np.array(oracle.inputs["returns_percent"])

    def parameters(figures: np.ndarray) -> GarchParameters:
        mu, omega, alpha, beta = (float(each) for each in figures)
        presample = float(((returns - mu) ** 2).mean())
        return GarchParameters("garch", mu, omega, alpha, 0.0, beta, float("nan"), presample)

    def cost(figures: np.ndarray) -> float:
        return 1e6 if figures[1:].min() <= 0.0 else -log_likelihood(returns, parameters(figures))

    found = np.array([0.0, 0.01, 0.1, 0.85])
    for _ in range(2):
        settings = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 5000, "maxfev": 5000}
        found = minimize(cost, found, method="Nelder-Mead", options=settings).x
    for name, value in zip(("mu", "omega", "alpha", "beta"), found, strict=True):
        oracle.check(name, float(value))
    oracle.check("loglik_at_published", log_likelihood(returns, parameters(found)))


@case("garch.json", "arch-same-data")
def arch_same_data(oracle: Oracle) -> None:
    returns = np.array(load("garch.json")["fcp-benchmark"].inputs["returns_percent"])
    fitted = in_percent(returns, "garch", "normal")
    check_fit(oracle, "", returns, fitted)
    h = conditional_variances(returns, fitted)
    oracle.check("last_conditional_vol", float(np.sqrt(h[-2])))
    oracle.check("forecast_variance_1_to_5", variance_forecast(fitted, float(h[-1]), 5))


@case("garch.json", "garch-800")
def garch_800(oracle: Oracle) -> None:
    returns = np.array(oracle.inputs["returns_percent"])
    given = oracle.inputs["fixed_params"]
    backcast = backcast_variance(returns - returns.mean())
    fixed = GarchParameters(
        "garch", given["mu"], given["omega"], given["alpha"], 0.0, given["beta"], float("nan"), backcast
    )
    oracle.check("backcast", backcast)
    fold = fixed.fold()
    ahead = scan(fold, fold.initial(), returns[:, None])[:, 0]  # row t holds the variance of row t + 1
    first = fixed.omega + fixed.persistence * backcast
    oracle.check("conditional_volatility_fixed", np.sqrt(np.concatenate([[first], ahead[:-1]])))
    oracle.check("loglik_fixed", log_likelihood(returns, fixed))
    oracle.check("forecast_variance_h1_h10", variance_forecast(fixed, float(ahead[-1]), 10))
    oracle.check("long_run_variance", fixed.long_run_variance)
    ewma = GarchParameters.ewma(0.94, backcast_variance(returns))
    oracle.check("ewma094_backcast", ewma.presample)
    oracle.check("ewma094_conditional_volatility", np.sqrt(conditional_variances(returns, ewma)[:-1]))
    for name in oracle.keys("fits"):
        kind, dist = name.split("_")
        check_fit(oracle, f"fits.{name}", returns, in_percent(returns, kind, dist))
