"""The statistics of the Sharpe ratio against the figures of their papers."""

import math

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant import sharpe


@case("deflated_sharpe.json", "dsr-paper")
def deflated(oracle: Oracle) -> None:
    given = oracle.inputs
    sr = given["sr_annual"] / math.sqrt(given["periods_per_year"])
    variance = given["var_sr_trials_annual"] / given["periods_per_year"]
    by_chance = math.sqrt(variance) * sharpe.expected_maximum(given["n_trials"])
    dsr = sharpe.deflated_sharpe_ratio(
        sr, variance, given["n_trials"], given["n_obs"], given["skew"], given["kurtosis_nonexcess"]
    )
    oracle.check("sr0_per_period", by_chance)
    oracle.check("sr0_full", by_chance)
    oracle.check("dsr", dsr)
    oracle.check("dsr_full", dsr)


@case("deflated_sharpe.json", "psr-hedge-fund")
@case("deflated_sharpe.json", "psr-hedge-fund-normal")
def probabilistic(oracle: Oracle) -> None:
    names = ("sr_per_period", "sr_benchmark_per_period", "n_obs", "skew", "kurtosis_nonexcess")
    psr = sharpe.probabilistic_sharpe_ratio(*(oracle.inputs[name] for name in names))
    oracle.check("psr", psr)
    oracle.check("psr_full", psr)


@case("deflated_sharpe.json", "mintrl-daily")
@case("deflated_sharpe.json", "mintrl-monthly")
def track_record(oracle: Oracle) -> None:
    given = oracle.inputs
    a_year = math.sqrt(given["periods_per_year"])
    returns = sharpe.minimum_track_record(
        given["sr_annual"] / a_year,
        given["sr_benchmark_annual"] / a_year,
        given["confidence"],
        given["skew"],
        given["kurtosis_nonexcess"],
    )
    oracle.check("years_published", returns / given["periods_per_year"])
    oracle.check("years_full", returns / given["periods_per_year"])


@case("deflated_sharpe.json", "expected-max-sr")
def largest_by_chance(oracle: Oracle) -> None:
    oracle.check("expected_max_z", [sharpe.expected_maximum(each) for each in oracle.inputs["n_trials"]])


@case("deflated_sharpe.json", "min-backtest-length-45")
def backtest_length(oracle: Oracle) -> None:
    years = sharpe.minimum_backtest_years(oracle.inputs["n_trials"], oracle.inputs["target_expected_max_sr"])
    oracle.check("years", years)
    oracle.check("years_published_rounded", round(years))


@case("sharpe_statistics_lo2002.json", "lo-table1-se")
def standard_error(oracle: Oracle) -> None:
    n = oracle.inputs["n_obs"]
    oracle.check("se_published", [sharpe.sharpe_standard_error(each, n) for each in oracle.inputs["sr"]])


@case("sharpe_statistics_lo2002.json", "lo-eta-ar1")
def annualisation(oracle: Oracle) -> None:
    q = oracle.inputs["q"]
    first_order = oracle.inputs["rho"]
    oracle.check("eta", [sharpe.annualization_factor([rho**lag for lag in range(1, q)], q) for rho in first_order])
    oracle.check("sqrt_q", sharpe.annualization_factor([], q))
