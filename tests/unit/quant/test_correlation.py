"""Correlations and risk shares: NaN for what does not vary, sums that hold, and known figures for known laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.quant.correlation import CorrelationAnalyzer, dcc_correlation, fisher_interval
from tidegate.quant.risk_contributions import (
    component_cvar,
    component_var,
    effective_bets,
    effective_principal_bets,
    risk_contributions,
)
from tidegate.quant.value_at_risk import conditional_var


def market(periods: int, symbols: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.03, (periods, 1)) * rng.uniform(0.4, 1.5, symbols) + rng.normal(0, 0.02, (periods, symbols))


def gaussian_pair(rho: float, periods: int, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal([0.0, 0.0], [[1.0, rho], [rho, 1.0]], periods)


ESTIMATORS = {
    "pearson": lambda a: a.pearson(),
    "spearman": lambda a: a.spearman(),
    "kendall": lambda a: a.kendall(),
    "gerber": lambda a: a.gerber(),
    "ewma": lambda a: a.ewma(),
    "denoised": lambda a: a.denoised(),
    "dcc": lambda a: a.dcc()[-1],
}


@pytest.mark.parametrize("level", [0.0, 0.01])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_constant_series_has_no_correlation(name: str, level: float) -> None:
    returns = market(120, 4)
    returns[:, 2] = level
    matrix = ESTIMATORS[name](CorrelationAnalyzer(returns))
    assert np.isnan(matrix[2]).all()
    assert np.isnan(matrix[:, 2]).all()
    others = matrix[np.ix_([0, 1, 3], [0, 1, 3])]
    np.testing.assert_allclose(np.diag(others), 1.0, rtol=1e-12)
    assert (np.abs(others) <= 1.0).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_are_symmetric_and_ignore_the_scale(name: str) -> None:
    returns = market(150, 5)
    matrix = ESTIMATORS[name](CorrelationAnalyzer(returns))
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-12)
    np.testing.assert_allclose(ESTIMATORS[name](CorrelationAnalyzer(returns * [1, 2, 3, 4, 5])), matrix, rtol=1e-7)


def test_kendall_of_a_gaussian_pair_gives_its_correlation() -> None:
    tau = CorrelationAnalyzer(gaussian_pair(0.6, 4000)).kendall()[0, 1]
    assert math.sin(math.pi * tau / 2) == pytest.approx(0.6, abs=0.03)


def test_rolling_correlation_is_that_of_each_window_and_nothing_before() -> None:
    returns = market(60, 3)
    found = CorrelationAnalyzer(returns).rolling(0, 2, 20)
    assert np.isnan(found.value[:19]).all()
    for end in range(20, 61):
        expected = np.corrcoef(returns[end - 20 : end, [0, 2]], rowvar=False)[0, 1]
        assert found.value[end - 1] == pytest.approx(expected, rel=1e-10)
    assert ((found.low < found.value) & (found.value < found.high))[19:].all()


def test_a_window_without_variance_is_nan() -> None:
    returns = market(40, 2)
    returns[10:25, 0] = 0.002
    found = CorrelationAnalyzer(returns).rolling(0, 1, 10).value
    assert np.isnan(found[19:25]).all()
    assert np.isfinite(found[25:]).all()


def test_the_fisher_interval_covers_at_its_rate() -> None:
    low, high = fisher_interval(0.5, 103)  # atanh(0.5) = 0.5493, 1.96 / 10 = 0.196
    assert float(low) == pytest.approx(math.tanh(0.549306 - 0.196), abs=1e-6)
    assert float(high) == pytest.approx(math.tanh(0.549306 + 0.196), abs=1e-6)
    inside = 0
    for seed in range(400):
        rho = np.corrcoef(gaussian_pair(0.7, 50, seed), rowvar=False)[0, 1]
        low, high = fisher_interval(rho, 50)
        inside += bool(low <= 0.7 <= high)
    assert 0.92 <= inside / 400 <= 0.98
    assert np.isnan(fisher_interval(0.5, 3)[0])
    assert [float(end) for end in fisher_interval(1.0, 50)] == [1.0, 1.0]


def test_tail_dependence_of_independent_and_of_tied_series() -> None:
    independent = CorrelationAnalyzer(gaussian_pair(0.0, 20_000)).tail_dependence(0, 1, 0.05)
    assert abs(independent.value - 0.05) < 3 * independent.standard_error
    assert independent.standard_error == pytest.approx(math.sqrt(0.05 * 0.95 / 1000), rel=0.1)
    tied = CorrelationAnalyzer(np.repeat(market(200, 1), 2, axis=1)).tail_dependence(0, 1)
    assert tied == (1.0, 0.0)
    flat = CorrelationAnalyzer(np.column_stack([market(200, 1), np.ones(200)])).tail_dependence(0, 1)
    assert all(math.isnan(each) for each in flat)


def test_exceedance_of_a_gaussian_pair_lies_below_its_correlation() -> None:
    pair = CorrelationAnalyzer(gaussian_pair(0.8, 20_000))
    low, high = pair.exceedance(0, 1, 0.1), pair.exceedance(0, 1, 0.9)
    assert 0.3 < low < 0.75
    assert high == pytest.approx(low, abs=0.1)
    assert math.isnan(CorrelationAnalyzer(market(20, 2)).exceedance(0, 1, 0.01))


def test_denoising_leaves_noise_uncorrelated_and_a_factor_standing() -> None:
    rng = np.random.default_rng(5)
    noise = CorrelationAnalyzer(rng.normal(0, 1, (2000, 10))).denoised()
    # below the edge everything is averaged, so what is left of pure noise is at most the odd eigenvalue
    assert np.abs(noise - np.eye(10)).max() < 0.06
    analyzer = CorrelationAnalyzer(market(300, 12))
    values = np.linalg.eigvalsh(analyzer.denoised())
    raw = np.linalg.eigvalsh(analyzer.pearson())
    assert values[-1] == pytest.approx(raw[-1], rel=0.1)
    assert values[0] > 1.5 * raw[0]


def test_absorption_ratio() -> None:
    one = CorrelationAnalyzer(np.repeat(market(100, 1), 6, axis=1))
    assert one.absorption_ratio() == pytest.approx(1.0)
    rng = np.random.default_rng(2)
    assert CorrelationAnalyzer(rng.normal(0, 1, (5000, 10))).absorption_ratio(2) == pytest.approx(0.2, abs=0.03)
    assert CorrelationAnalyzer(market(100, 6)).absorption_ratio(6) == pytest.approx(1.0)
    assert math.isnan(CorrelationAnalyzer(np.full((10, 3), 0.01)).absorption_ratio())


def test_dcc_is_engles_recursion_and_does_not_look_ahead() -> None:
    residuals = gaussian_pair(0.5, 300)
    base = np.array([[1.0, 0.4], [0.4, 1.0]])
    path = dcc_correlation(residuals, 0.05, 0.9, target=base)
    assert path.shape == (301, 2, 2)
    np.testing.assert_array_equal(path[0], base)
    first = 0.05 * base + 0.05 * np.outer(residuals[0], residuals[0]) + 0.9 * base
    assert path[1][0, 1] == pytest.approx(first[0, 1] / math.sqrt(first[0, 0] * first[1, 1]), rel=1e-12)
    np.testing.assert_array_equal(dcc_correlation(residuals[:120], 0.05, 0.9, target=base), path[:121])
    np.testing.assert_allclose(dcc_correlation(residuals, 0.0, 0.0, target=base), np.broadcast_to(base, path.shape))
    with pytest.raises(ValueError, match="sum below 1"):
        dcc_correlation(residuals, 0.1, 0.9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(0, 10_000))
def test_component_risks_sum_to_the_total(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    returns, weights = market(60, size, seed), rng.normal(0, 1, size)
    analyzer = CorrelationAnalyzer(returns)
    risk = analyzer.risk(weights)
    assert risk.volatility == pytest.approx((returns @ weights).std(ddof=1), rel=1e-10)
    assert risk.component.sum() == pytest.approx(risk.volatility, rel=1e-12)
    assert risk.percent.sum() == pytest.approx(1.0, rel=1e-12)
    assert analyzer.component_var(weights, 1.65).sum() == pytest.approx(1.65 * risk.volatility, rel=1e-12)
    step = 1e-6
    for i in range(size):
        up = risk_contributions(weights + step * np.eye(size)[i], analyzer.covariance()).volatility
        down = risk_contributions(weights - step * np.eye(size)[i], analyzer.covariance()).volatility
        assert risk.marginal[i] == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-7)


def test_component_cvar_sums_to_the_historical_one() -> None:
    returns, weights = market(400, 5), np.array([0.4, -0.2, 0.3, 0.1, 0.0])
    parts = component_cvar(returns, weights, 0.05)
    assert parts.sum() == pytest.approx(conditional_var(returns @ weights, 0.05), rel=1e-12)
    assert parts[4] == 0.0
    assert np.isnan(component_cvar(returns[:10], weights, 0.05)).all()


def test_no_risk_has_no_shares() -> None:
    for weights in ([0.0, 0.0], [1.0, -1.0]):
        risk = risk_contributions(weights, [[0.01, 0.01], [0.01, 0.01]])
        assert risk.volatility == 0.0
        assert np.isnan(np.concatenate((risk.marginal, risk.component, risk.percent))).all()
        assert math.isnan(risk.diversification_ratio)
        assert np.isnan(component_var(weights, [[0.01, 0.01], [0.01, 0.01]], 1.65)).all()


def test_effective_number_of_bets() -> None:
    assert effective_bets([0.25] * 4) == pytest.approx(4.0)
    assert effective_bets([1.0, 0.0]) == pytest.approx(1.0)
    assert math.isnan(effective_bets([1.2, -0.2]))
    assert math.isnan(effective_bets([math.nan, 1.0]))
    assert effective_principal_bets([0.5, 0.5], [[2.0, 0.0], [0.0, 1.0]]) == pytest.approx(effective_bets([2, 1]))
    analyzer = CorrelationAnalyzer(market(300, 6))
    assert 1.0 < analyzer.effective_bets([1.0, -0.5, 0.3, -0.8, 0.2, 0.1], principal=True) <= 6.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: CorrelationAnalyzer([0.1, 0.2]), r"\(T, N\)"),
        (lambda: CorrelationAnalyzer([[0.1], [math.nan], [0.2]]), "return 1 of column 0 is nan"),
        (lambda: CorrelationAnalyzer(market(9, 2)).rolling(0, 1, 3), "at least 4"),
        (lambda: CorrelationAnalyzer(market(9, 2)).tail_dependence(0, 1, 0.0), "u must lie"),
        (lambda: CorrelationAnalyzer(market(9, 2)).gerber(1.0), "threshold"),
        (lambda: CorrelationAnalyzer(market(9, 2)).absorption_ratio(3), "between 1 and 2"),
        (lambda: fisher_interval([1.5], 50), "between -1 and 1"),
        (lambda: risk_contributions([1.0], np.eye(2)), "beside N weights"),
        (lambda: component_cvar(market(50, 2), [1.0, 1.0], 0.95), "probability of the tail"),
    ],
)
def test_wrong_arguments_are_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
