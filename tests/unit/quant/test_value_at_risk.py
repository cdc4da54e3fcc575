"""Value at risk and expected shortfall: laws, edges, and the domain of Cornish-Fisher."""

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tidegate.quant import value_at_risk as var

ALPHAS = st.floats(0.01, 0.2)
DISTRIBUTIONS = get_args(var.Distribution)


def draws(size: int, seed: int = 11) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.001, 0.02, size)


@settings(deadline=None)  # the first call loads a library
@given(arrays(np.float64, 500, elements=st.floats(-0.3, 0.3)), ALPHAS)
def test_the_tail_is_at_least_as_bad_as_its_edge(returns: np.ndarray, alpha: float) -> None:
    assert var.conditional_var(returns, alpha) >= var.historical_var(returns, alpha) - 1e-15
    for dist in ("normal", "cornish_fisher"):
        assert var.conditional_var(returns, alpha, dist) >= var.parametric_var(returns, alpha, dist) - 1e-12


@settings(deadline=None)  # the first call loads a library
@given(arrays(np.float64, 500, elements=st.floats(-0.3, 0.3)))
def test_a_rarer_tail_loses_more(returns: np.ndarray) -> None:
    for dist in DISTRIBUTIONS[0], DISTRIBUTIONS[2]:
        assert var.parametric_var(returns, 0.01, dist) >= var.parametric_var(returns, 0.05, dist)
    assert var.historical_var(returns, 0.01) >= var.historical_var(returns, 0.05)


@pytest.mark.parametrize("figure", [var.historical_var, var.conditional_var, var.parametric_var])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.95, -0.01, math.nan])
def test_alpha_is_the_tail_and_not_the_confidence(figure, alpha: float) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"0\.05, not 0\.95"):
        figure(draws(600), alpha)


def test_a_tail_has_five_returns() -> None:
    returns = draws(500)
    for figure in (var.historical_var, var.conditional_var):
        assert math.isfinite(figure(returns, 0.01))
        assert math.isnan(figure(returns[1:], 0.01))
        assert math.isfinite(figure(returns[:100], 0.05))
        assert math.isnan(figure(returns[:99], 0.05))


@pytest.mark.parametrize("dist", DISTRIBUTIONS)
def test_undefined_is_nan_and_a_constant_is_certain(dist: var.Distribution) -> None:
    for figure in (var.parametric_var, var.conditional_var):
        assert math.isnan(figure([0.1], 0.05, dist))
        assert math.isnan(figure([0.1, math.nan, 0.2], 0.05, dist))
        assert figure([0.01] * 600, 0.05, dist) == pytest.approx(-0.01)


def test_an_unknown_distribution_is_named() -> None:
    with pytest.raises(ValueError, match="unknown distribution 'cauchy'"):
        var.parametric_var(draws(100), 0.05, "cauchy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown distribution 'cauchy'"):
        var.conditional_var(draws(100), 0.05, "cauchy")  # type: ignore[arg-type]


def test_the_figures_of_a_known_tail() -> None:
    """Draws of Student's t with five degrees of freedom: its own quantile and tail mean come back."""
    from scipy.stats import t as student

    sigma, nu, alpha = 0.02, 5.0, 0.01
    scale = sigma * math.sqrt((nu - 2.0) / nu)
    returns = scale * np.random.default_rng(3).standard_t(nu, 200_000)
    edge = -scale * float(student.ppf(alpha, nu))
    tail = scale * float(student.expect(lambda x: -x, (nu,), ub=student.ppf(alpha, nu))) / alpha
    assert var.parametric_var(returns, alpha, "t") == pytest.approx(edge, rel=0.02)
    assert var.conditional_var(returns, alpha, "t") == pytest.approx(tail, rel=0.02)
    assert var.historical_var(returns, alpha) == pytest.approx(edge, rel=0.03)


@pytest.mark.parametrize(("alpha", "skew", "excess"), [(0.05, -0.3, 1.0), (0.01, -0.3, 1.0), (0.01, 0.0, 0.0)])
def test_the_cornish_fisher_tail_is_the_mean_of_its_quantiles(alpha: float, skew: float, excess: float) -> None:
    levels = (np.arange(20_000) + 0.5) / 20_000 * alpha
    mean = np.mean([var.cornish_fisher_z(float(level), skew, excess) for level in levels])
    assert var._cornish_fisher_tail_mean(alpha, skew, excess) == pytest.approx(mean, abs=2e-3)


@settings(deadline=None)  # the first call loads a library
@given(st.floats(-3.0, 3.0), st.floats(-2.0, 20.0))
def test_monotone_means_that_no_quantile_crosses_another(skew: float, excess: float) -> None:
    from scipy.special import ndtr

    z = np.linspace(-4.0, 4.0, 401)
    quantiles = np.array([var.cornish_fisher_z(float(level), skew, excess) for level in ndtr(z)])
    slope = float((np.diff(quantiles) / np.diff(z)).min())
    if abs(slope) > 0.05:  # the grid does not hit the smallest slope itself
        assert var.cornish_fisher_is_monotone(0.01, skew, excess) == (slope > 0.0)


@pytest.mark.parametrize(
    ("skew", "excess", "monotone"), [(0.0, 0.0, True), (0.0, 7.9, True), (0.0, 8.1, False), (3.0, 1.0, False)]
)
def test_the_domain_ends_near_a_kurtosis_of_eight(skew: float, excess: float, monotone: bool) -> None:
    assert var.cornish_fisher_is_monotone(0.01, skew, excess) is monotone


def test_outside_its_domain_cornish_fisher_is_historical() -> None:
    returns = np.append(draws(600), [-0.5, -0.4])  # two crashes: a kurtosis far above 8
    for alpha in (0.01, 0.05):
        assert var.parametric_var(returns, alpha, "cornish_fisher") == var.historical_var(returns, alpha)
        assert var.conditional_var(returns, alpha, "cornish_fisher") == var.conditional_var(returns, alpha)
