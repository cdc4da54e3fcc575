"""Weights from forecasts, and the learners: what is known in closed form, and the bounds that they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.quant.allocation import (
    capped,
    exponentiated_gradient_step,
    fixed_share,
    hedge_rate,
    hedge_step,
    long_only_weights,
    probability_best,
)


def test_inverse_covariance_where_nothing_binds() -> None:
    covariance = np.array([[0.04, 0.006], [0.006, 0.09]])
    free = np.linalg.solve(covariance, [0.1, 0.12])
    assert long_only_weights([0.1, 0.12], covariance) == pytest.approx(free / free.sum(), abs=1e-12)


def test_what_would_be_short_is_left_out_and_the_rest_is_optimal() -> None:
    """The conditions of Karush, Kuhn and Tucker: no gradient inside, none upward at zero."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        size = int(rng.integers(2, 7))
        table = rng.normal(size=(40, size)) * rng.uniform(0.005, 0.03, size)
        covariance, mean = np.cov(table.T), rng.normal(0.0, 0.01, size)
        weights = long_only_weights(mean, covariance)
        if not weights.any():
            assert mean.max() <= 0.0
            continue
        held = weights > 0.0
        scale = (mean @ weights) / (weights @ covariance @ weights)
        gradient = (mean - covariance @ weights * scale) / np.sqrt(np.diag(covariance))
        assert np.abs(gradient[held]).max() < 1e-9
        assert (~held).sum() == 0 or gradient[~held].max() <= 1e-9
        assert weights.sum() == pytest.approx(1.0)


def test_no_mean_worth_holding_is_cash() -> None:
    assert long_only_weights([-0.1, -0.2], np.eye(2)).tolist() == [0.0, 0.0]
    assert long_only_weights([0.0, 0.0], np.eye(2)).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="positive definite"):
        long_only_weights([0.1, 0.1], np.ones((2, 2)))
    with pytest.raises(ValueError, match="2 means need a covariance"):
        long_only_weights([0.1, 0.1], np.eye(3))


def test_a_cap_hands_on_what_it_cuts() -> None:
    assert capped([0.7, 0.2, 0.1], 0.4) == pytest.approx([0.4, 0.4, 0.2])
    assert capped([0.5, 0.38, 0.12], 0.4) == pytest.approx([0.4, 0.4, 0.2])
    assert capped([0.9, 0.1, 0.0], 0.4) == pytest.approx([0.4, 0.4, 0.0])  # the rest is cash
    assert capped([0.3, 0.3, 0.3], 0.4) == pytest.approx([0.3, 0.3, 0.3])
    for weights, cap in (([0.5], 0.0), ([-0.1, 0.5], 0.4)):
        with pytest.raises(ValueError, match="a cap lies in"):
            capped(weights, cap)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8), st.floats(0.05, 1.0))
def test_a_cap_holds_and_the_sum_does_not_grow(shares: list[float], cap: float) -> None:
    total = math.fsum(shares)
    weights = [each / total for each in shares] if total > 0.0 else shares
    found = capped(weights, cap)
    assert found.max() <= cap + 1e-12
    assert found.min() >= 0.0
    assert found.sum() <= math.fsum(weights) + 1e-12
    there = sum(each > 0.0 for each in weights)
    assert found.sum() == pytest.approx(min(math.fsum(weights), cap * there), abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(5, 200))
def test_the_regret_of_hedge_is_bounded(seed: int, experts: int, rounds: int) -> None:
    losses = np.random.default_rng(seed).integers(0, 2, (rounds, experts)).astype(float)
    weights, total = np.full(experts, 1.0 / experts), 0.0
    for row in losses:
        total += float(weights @ row)
        weights = hedge_step(weights, row, hedge_rate(experts, rounds))
    assert total - losses.sum(axis=0).min() <= math.sqrt(rounds * math.log(experts) / 2.0) + 1e-9


def test_steps_of_the_learners() -> None:
    assert hedge_step([0.5, 0.5], [1.0, 0.0], math.log(3.0)) == pytest.approx([0.25, 0.75])
    assert exponentiated_gradient_step([0.5, 0.5], [1.1, 0.9], 1.0) == pytest.approx(
        np.array([math.exp(1.1), math.exp(0.9)]) / (math.exp(1.1) + math.exp(0.9))
    )
    assert fixed_share([0.9, 0.1, 0.0], 0.3) == pytest.approx([0.73, 0.17, 0.1])
    assert hedge_rate(1, 5) == 0.0
    assert hedge_rate(4, 100) == pytest.approx(math.sqrt(8.0 * math.log(4.0) / 100.0))


def test_a_fixed_share_follows_a_change_that_hedge_alone_is_slow_to_see() -> None:
    weights, sharing = np.array([0.5, 0.5]), np.array([0.5, 0.5])
    for row in [[0.0, 1.0]] * 100 + [[1.0, 0.0]] * 30:
        weights = hedge_step(weights, row, 0.3)
        sharing = fixed_share(hedge_step(sharing, row, 0.3), 0.01)
    assert weights[1] < 0.01 < 0.9 < sharing[1]


def test_sampling_is_even_without_evidence_and_sure_with_much_of_it() -> None:
    prior = {"prior_count": 1460.0, "prior_variance": 1e-4, "draws": 4000}
    even = probability_best([0.0, 0.0], [1e-4, 1e-4], [0.0, 0.0], seed=1, **prior)
    assert even == pytest.approx([0.5, 0.5], abs=0.03)
    sure = probability_best([0.003, 0.0], [1e-4, 1e-4], [5000.0, 5000.0], seed=1, **prior)
    assert sure[0] > 0.999
    same = probability_best([0.003, 0.0], [1e-4, 1e-4], [5000.0, 5000.0], seed=1, **prior)
    assert same.tolist() == sure.tolist()
    one = probability_best([0.0, 0.0], [1e-4, 1e-4], [0.0, 0.0], seed=1, prior_count=1.0, prior_variance=1.0, draws=1)
    assert sorted(one) == [0.0, 1.0]


def test_sampling_agrees_with_the_posterior_of_the_sharpe_ratio() -> None:
    """With much known of the variance, mu / sigma is normal: mean n xbar / (n + k) / sigma, variance 1 / (n + k)."""
    count, prior, gap = 2000.0, 1460.0, 0.0005
    found = probability_best(
        [gap, 0.0], [1e-4, 1e-4], [count, count], prior_count=prior, prior_variance=1e-4, seed=3, draws=40_000
    )
    score = count * gap / (count + prior) / 0.01 / math.sqrt(2.0 / (count + prior))
    assert found[0] == pytest.approx(0.5 * (1.0 + math.erf(score / math.sqrt(2.0))), abs=0.01)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"needs 2 losses in \[0, 1\]"):
        hedge_step([0.5, 0.5], [1.5, 0.0], 0.1)
    with pytest.raises(ValueError, match="2 relatives above 0"):
        exponentiated_gradient_step([0.5, 0.5], [0.0, 1.0], 0.1)
    with pytest.raises(ValueError, match="at least one expert"):
        hedge_rate(0, 1)
    with pytest.raises(ValueError, match="a fixed share lies"):
        fixed_share([0.5, 0.5], 1.5)
    with pytest.raises(ValueError, match="a draw and a positive prior"):
        probability_best([0.0], [1.0], [1.0], prior_count=1.0, prior_variance=1.0, seed=1, draws=0)
