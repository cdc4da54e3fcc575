"""Value at risk, expected shortfall, the fitted tail, and the backtests of forecasts."""

import numpy as np

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant.measures import conditional_var, historical_var, kurtosis, parametric_var, skewness
from tidegate.quant.tails import christoffersen_test, fit_tail, kupiec_region, kupiec_test
from tidegate.quant.value_at_risk import cornish_fisher_is_monotone, cornish_fisher_z


def _estimators(oracle: Oracle) -> None:
    returns = np.asarray(oracle.inputs["returns"])
    mean, sigma = float(returns.mean()), float(returns.std(ddof=1))
    skew, excess = skewness(returns), kurtosis(returns) - 3.0
    figures: dict[str, object] = {"skew": skew, "excess_kurtosis": excess, "mean": mean, "std_ddof1": sigma}
    for alpha in (0.05, 0.01):
        z, shortfall = cornish_fisher_z(alpha, skew, excess), conditional_var(returns, alpha)
        bare = -(mean + z * sigma)
        if cornish_fisher_is_monotone(alpha, skew, excess):
            bare = parametric_var(returns, alpha, "cornish_fisher")
        figures[f"alpha_{alpha}"] = {
            "historical_var_linear": historical_var(returns, alpha),
            "historical_var_numpy_lower": -float(np.quantile(returns, alpha, method="lower")),
            "historical_var_empyrical": historical_var(returns, alpha),
            "historical_cvar_empyrical": shortfall,
            "historical_cvar_mean_below_quantile": shortfall,
            "parametric_normal_var": parametric_var(returns, alpha),
            "parametric_normal_cvar": conditional_var(returns, alpha, "normal"),
            "cornish_fisher_var": bare,
            "cornish_fisher_z": z,
        }
    oracle.check("", figures)


for _name in ("var-500", "var-1000"):
    case("var_cvar.json", _name)(_estimators)


@case("var_cvar.json", "evt-pot-1500")
def peaks_over_threshold(oracle: Oracle) -> None:
    fit = fit_tail(oracle.inputs["returns"], oracle.inputs["threshold_quantile"])
    assert fit is not None
    oracle.check("threshold", fit.threshold)
    oracle.check("n_exceed", fit.n_excesses)
    oracle.check("xi", fit.shape)
    oracle.check("beta", fit.scale)
    oracle.check("loglik", fit.log_likelihood)
    oracle.check("var_99", fit.var(0.01))
    oracle.check("cvar_99", fit.cvar(0.01))
    oracle.check("var_995", fit.var(0.005))


@case("var_backtests.json", "jorion-20-of-252")
def jorion(oracle: Oracle) -> None:
    test = kupiec_test(oracle.inputs["n_exceptions"], oracle.inputs["n_obs"], oracle.inputs["p"])
    oracle.check("lr", test.statistic)
    oracle.check("lr_published", test.statistic)
    oracle.check("p_value", test.p_value)
    oracle.check("reject_5pct", test.p_value < 0.05)


@case("var_backtests.json", "kupiec-nonrejection-table")
def non_rejection(oracle: Oracle) -> None:
    computed, printed = {}, {}
    for name in oracle.keys("computed_inclusive"):
        size, alpha = name.removeprefix("T").split("_p")
        low, high = kupiec_region(int(size), float(alpha), oracle.inputs["test_level"])
        computed[name] = [low, high]
        # The table prints open bounds, and leaves a lower one of 0 away.
        printed[name] = f"{low - 1}<N<{high + 1}" if low > 1 else f"N<{high + 1}"
    oracle.check("computed_inclusive", computed)
    oracle.check("published", printed)


def _clusters(oracle: Oracle) -> None:
    test = christoffersen_test(oracle.inputs["hits"], oracle.inputs["p"])
    for name in ("n00", "n01", "n10", "n11"):
        oracle.check(name, getattr(test, name))
    for short, part in (("uc", test.unconditional), ("ind", test.independence), ("cc", test.conditional)):
        oracle.check(f"lr_{short}", part.statistic)
        oracle.check(f"p_{short}", part.p_value)


for _name in ("christoffersen-independent", "christoffersen-clustered"):
    case("var_backtests.json", _name)(_clusters)
