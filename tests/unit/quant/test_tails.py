"""Tails: fits of known tails, filtered figures against their definition, and backtests that reject what is wrong."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import genpareto

from tidegate.quant.tails import (
    TailFit,
    acerbi_szekely_test,
    christoffersen_test,
    filtered_cvar,
    filtered_var,
    fit_tail,
    kupiec_region,
    kupiec_test,
    revalued_returns,
    shortfall_statistic,
    standardised_residuals,
)
from tidegate.quant.value_at_risk import conditional_var, historical_var


def normal(n: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(n)


# ---- peaks over threshold --------------------------------------------------------------------------------------------


def test_the_tail_of_student_t_is_found() -> None:
    returns = 0.01 * np.random.default_rng(5).standard_t(4, 40_000)
    fit = fit_tail(returns)
    assert fit is not None
    assert fit.n_excesses == 2_000
    assert fit.shape == pytest.approx(0.25, abs=0.08)  # 1 / degrees of freedom
    assert fit.var(0.001) == pytest.approx(0.01 * 7.173, rel=0.1)
    assert fit.cvar(0.001) > fit.var(0.001) > fit.var(0.01) > fit.threshold
    assert fit.var(0.05) == pytest.approx(fit.threshold)


def test_var_and_cvar_are_those_of_the_fitted_distribution() -> None:
    fit = TailFit(0.04, 0.2, 0.015, 1_000, 50, 0.0)
    beyond = genpareto(fit.shape, loc=fit.threshold, scale=fit.scale)
    assert fit.var(0.01) == pytest.approx(beyond.ppf(1.0 - 0.01 / 0.05))
    assert fit.cvar(0.01) == pytest.approx(beyond.expect(lambda x: x, lb=fit.var(0.01), conditional=True), rel=1e-6)


def test_the_exponential_is_the_limit_of_small_shapes() -> None:
    exponential, nearly = TailFit(0.04, 0.0, 0.015, 1_000, 50, 0.0), TailFit(0.04, 1e-7, 0.015, 1_000, 50, 0.0)
    assert exponential.var(0.01) == pytest.approx(nearly.var(0.01), rel=1e-6)
    assert exponential.cvar(0.01) == pytest.approx(exponential.var(0.01) + 0.015)


def test_a_tail_without_a_mean_has_no_shortfall() -> None:
    fit = TailFit(0.04, 1.0, 0.015, 1_000, 50, 0.0)
    assert math.isnan(fit.cvar(0.01))
    assert fit.var(0.01) > 0.04


def test_what_is_not_in_the_tail_is_refused() -> None:
    fit = TailFit(0.04, 0.2, 0.015, 1_000, 50, 0.0)
    for alpha in (0.06, 0.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"probability of 0\.0500"):
            fit.var(alpha)


def test_too_few_excesses_are_no_fit() -> None:
    assert fit_tail(normal(900)) is None
    assert fit_tail(normal(1_000)) is not None
    assert fit_tail(normal(600), 0.90) is not None
    assert fit_tail(np.append(normal(2_000), math.nan)) is None
    assert fit_tail(np.zeros(2_000)) is None
    for quantile in (0.4, 1.0):
        with pytest.raises(ValueError, match="quantile of the losses"):
            fit_tail(normal(2_000), quantile)


# ---- filtered, revalued ----------------------------------------------------------------------------------------------


def test_filtered_figures_scale_with_the_forecast() -> None:
    sigma = 0.01 + 0.02 * np.random.default_rng(2).random(1_000)
    returns = 0.001 + sigma * normal(1_000)
    residuals = standardised_residuals(returns, sigma, 0.001)
    assert residuals == pytest.approx(normal(1_000))
    loss = historical_var(residuals, 0.05)
    assert filtered_var(residuals, 0.03, 0.05, 0.001) == pytest.approx(0.03 * loss - 0.001)
    assert filtered_var(residuals, 0.06, 0.05) == pytest.approx(2 * filtered_var(residuals, 0.03, 0.05))
    assert filtered_cvar(residuals, 0.03, 0.05) == pytest.approx(0.03 * conditional_var(residuals, 0.05))
    for sigma_forecast in (0.0, -0.01, math.nan, math.inf):
        assert math.isnan(filtered_var(residuals, sigma_forecast, 0.05))
    assert math.isnan(filtered_var(residuals[:99], 0.03, 0.05))
    with pytest.raises(ValueError, match="need as many"):
        standardised_residuals(returns, sigma[1:])
    with pytest.raises(ValueError, match="must be positive"):
        standardised_residuals(returns, np.where(sigma > 0.015, sigma, math.nan))


def test_positions_are_revalued_as_they_are_today() -> None:
    panel = np.array([[0.01, -0.02, math.nan], [-0.03, 0.01, 0.5]])
    assert revalued_returns([0.5, -1.0, 0.0], panel) == pytest.approx([0.025, -0.025])
    assert math.isnan(revalued_returns([0.5, 0.0, 0.1], panel)[0])
    assert revalued_returns([0.0, 0.0, 0.0], panel).tolist() == [0.0, 0.0]
    for wrong in ([0.5], [[0.5, 1.0, 1.0]]):
        with pytest.raises(ValueError, match="need"):
            revalued_returns(wrong, panel)


# ---- backtests -------------------------------------------------------------------------------------------------------


def test_no_exception_and_nothing_else_are_defined() -> None:
    assert kupiec_test(0, 250, 0.01).statistic == pytest.approx(-2 * 250 * math.log(0.99))
    assert kupiec_test(250, 250, 0.01).statistic == pytest.approx(-2 * 250 * math.log(0.01))
    assert kupiec_test(5, 100, 0.05) == (0.0, 1.0)
    for n, of, alpha in ((-1, 10, 0.05), (11, 10, 0.05), (0, 0, 0.05), (1, 10, 0.0), (1, 10, 1.0)):
        with pytest.raises(ValueError, match="coverage needs"):
            kupiec_test(n, of, alpha)


def test_the_region_is_where_the_test_does_not_reject() -> None:
    low, high = kupiec_region(252, 0.05)
    assert kupiec_test(low, 252, 0.05).p_value > 0.05 > kupiec_test(low - 1, 252, 0.05).p_value
    assert kupiec_test(high, 252, 0.05).p_value > 0.05 > kupiec_test(high + 1, 252, 0.05).p_value
    assert high == 19


def test_clusters_are_rejected_and_their_shuffle_is_not() -> None:
    clustered = np.zeros(500)
    clustered[100:125] = 1.0
    test = christoffersen_test(clustered, 0.05)
    assert (test.n01, test.n10, test.n11) == (1, 1, 24)
    assert test.unconditional.p_value == 1.0
    assert test.independence.p_value < 1e-6
    shuffled = christoffersen_test(np.random.default_rng(3).permutation(clustered).astype(bool), 0.05)
    assert shuffled.independence.p_value > 0.05
    none = christoffersen_test(np.zeros(50), 0.05)
    assert none.independence == (0.0, 1.0)
    assert none.conditional.statistic == none.unconditional.statistic
    for wrong in ([1.0], [0.0, 0.5], [0.0, math.nan]):
        with pytest.raises(ValueError, match="truth values"):
            christoffersen_test(wrong, 0.05)


def test_the_second_statistic_by_hand() -> None:
    returns, var, cvar = [-0.05, 0.01, -0.01, -0.03], [0.02] * 4, [0.04] * 4
    assert shortfall_statistic(returns, var, cvar, 0.25) == pytest.approx(1.0 - (0.05 + 0.03) / 0.04 / (4 * 0.25))
    assert math.isnan(shortfall_statistic([], [], [], 0.05))
    with pytest.raises(ValueError, match="lengths differ"):
        shortfall_statistic(returns, var[1:], cvar, 0.25)
    with pytest.raises(ValueError, match="positive loss"):
        shortfall_statistic(returns, var, [0.0] * 4, 0.25)


def test_a_shallow_shortfall_is_rejected_and_a_right_one_is_not() -> None:
    pool, sigma = normal(2_000, 7), np.full(500, 0.02)
    right = acerbi_szekely_test(0.02 * normal(500, 8), sigma, pool, 0.025, seed=1, simulations=500)
    assert abs(right.statistic) < 0.5
    assert right.p_value > 0.05
    wilder = 0.02 * np.random.default_rng(9).standard_t(3, 500)
    wrong = acerbi_szekely_test(wilder, sigma, pool, 0.025, seed=1, simulations=500)
    assert wrong.statistic < -0.7
    assert wrong.p_value < 0.01
    assert wrong == acerbi_szekely_test(wilder, sigma, pool, 0.025, seed=1, simulations=500)
    assert math.isnan(acerbi_szekely_test(wilder, sigma, pool[:50], 0.025, seed=1).p_value)
    with pytest.raises(ValueError, match="need as many"):
        acerbi_szekely_test(wilder, sigma[1:], pool, 0.025, seed=1)


def test_the_simulated_statistic_is_zero_on_average() -> None:
    pool, sigma = normal(4_000, 11), 0.01 + 0.02 * np.random.default_rng(4).random(400)
    var, cvar = sigma * historical_var(pool, 0.05), sigma * conditional_var(pool, 0.05)
    random = np.random.default_rng(12)
    seen = [shortfall_statistic(sigma * random.choice(pool, 400), var, cvar, 0.05) for _ in range(400)]
    assert np.mean(seen) == pytest.approx(0.0, abs=3 * float(np.std(seen)) / 20)
