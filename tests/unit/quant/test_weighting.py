"""Weights without forecasts: budgets met, symmetric cases known, and what has no risk refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.quant import weighting


def covariance_of(size: int, seed: int, *, periods: int = 100) -> np.ndarray:
    rng = np.random.default_rng(seed)
    returns = rng.normal(0, 0.03, (periods, 1)) * rng.uniform(0.3, 1.5, size) + rng.normal(0, 0.02, (periods, size))
    return np.atleast_2d(np.cov(returns, rowvar=False))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10_000))
def test_risk_contributions_are_the_budgets(size: int, seed: int) -> None:
    covariance = covariance_of(size, seed)
    budgets = np.random.default_rng(seed).uniform(0.1, 1.0, size)
    weights = weighting.equal_risk_contribution(covariance, budgets)
    shares = weights * (covariance @ weights) / (weights @ covariance @ weights)
    np.testing.assert_allclose(shares, budgets / budgets.sum(), atol=1e-10)
    assert weights.sum() == pytest.approx(1.0, rel=1e-12)
    assert weights.min() > 0.0


@pytest.mark.parametrize(
    "method",
    [weighting.equal_risk_contribution, weighting.hierarchical_risk_parity, weighting.inverse_volatility],
)
def test_assets_alike_get_equal_weights_and_the_scale_does_not_matter(method) -> None:
    alike = 0.0004 * (0.5 * np.eye(4) + 0.5)
    np.testing.assert_allclose(method(alike), 0.25, rtol=1e-10)
    covariance = covariance_of(7, 3)
    np.testing.assert_allclose(method(1e-6 * covariance), method(covariance), rtol=1e-8)
    np.testing.assert_allclose(method(np.array([[0.01]])), [1.0])


def test_equal_risk_without_correlation_is_inverse_volatility() -> None:
    diagonal = np.diag([0.01, 0.04, 0.0009])
    np.testing.assert_allclose(
        weighting.equal_risk_contribution(diagonal), weighting.inverse_volatility(diagonal), rtol=1e-10
    )


def test_risk_parity_copes_with_a_singular_covariance() -> None:
    covariance = covariance_of(8, 5, periods=4)
    weights = weighting.equal_risk_contribution(covariance)
    shares = weights * (covariance @ weights) / (weights @ covariance @ weights)
    np.testing.assert_allclose(shares, 1 / 8, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 15), st.integers(0, 10_000), st.sampled_from(["tree", "optimal"]))
def test_hierarchical_weights_are_long_and_sum_to_one(size: int, seed: int, leaves) -> None:
    weights = weighting.hierarchical_risk_parity(covariance_of(size, seed), leaves=leaves)
    assert weights.min() > 0.0
    assert weights.sum() == pytest.approx(1.0, rel=1e-12)


def test_minimum_variance_has_equal_marginal_risk() -> None:
    covariance = covariance_of(6, 2)
    weights = weighting.minimum_variance_weights(covariance)
    marginal = covariance @ weights
    np.testing.assert_allclose(marginal, marginal[0], rtol=1e-9)


def test_black_litterman_between_prior_and_certain_view() -> None:
    covariance, market = covariance_of(3, 1), np.array([0.5, 0.3, 0.2])
    prior = 2.5 * covariance @ market
    pick = [[1.0, -1.0, 0.0]]
    view = float(prior[0] - prior[1]) + 0.002

    def spread(variance: list[float] | None) -> float:
        mu = weighting.black_litterman(
            covariance, market, pick, [view], risk_aversion=2.5, tau=0.05, view_variance=variance
        )
        return float(mu[0] - mu[1])

    assert spread([1e-14]) == pytest.approx(view, abs=1e-9)
    assert spread([1e6]) == pytest.approx(view - 0.002, abs=1e-9)
    assert spread(None) == pytest.approx(view - 0.001, rel=1e-9)  # doubt equal to the prior's: half way


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: weighting.inverse_volatility(np.diag([0.01, 0.0])), "asset 1 does not"),
        (lambda: weighting.equal_risk_contribution(np.diag([0.0, 0.01])), "asset 0 does not"),
        (lambda: weighting.hierarchical_risk_parity(np.zeros((2, 2))), "need"),
        (lambda: weighting.minimum_variance_weights(np.zeros((2, 2))), "all variances are 0"),
        (lambda: weighting.equal_risk_contribution(np.eye(2), [1.0, 0.0]), "2 positive numbers"),
        (lambda: weighting.black_litterman(np.eye(2), [1, 0], [[1.0]], [0.1], risk_aversion=1.0), r"\(1, 2\)"),
        (
            lambda: weighting.black_litterman(
                np.eye(2), [1, 0], [[1.0, 0.0]], [0.1], risk_aversion=1.0, view_variance=[0.0]
            ),
            "view_variance",
        ),
    ],
)
def test_wrong_arguments_are_named(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
