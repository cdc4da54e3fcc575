"""Covariances: what shrinkage and projection keep, and the incremental one cut anywhere."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.quant import covariance
from tidegate.quant.covariance import EwmaCovariance


def market(periods: int, symbols: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.03, (periods, 1)) * rng.uniform(0.4, 1.5, symbols) + rng.normal(0, 0.02, (periods, symbols))


ESTIMATORS = {
    "ledoit_wolf": lambda r: covariance.ledoit_wolf(r).matrix,
    "oas": lambda r: covariance.oracle_approximating(r).matrix,
    "constant_correlation": lambda r: covariance.constant_correlation(r).matrix,
    "quadratic": covariance.nonlinear_shrinkage,
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("shape", [(60, 20), (25, 40), (200, 1)])
def test_shrunk_matrices_are_symmetric_and_positive(name: str, shape: tuple[int, int]) -> None:
    matrix = ESTIMATORS[name](market(*shape))
    assert np.array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix)[0] > 0.0


@pytest.mark.parametrize("name", ESTIMATORS)
def test_shrinkage_scales_with_the_square_of_the_returns(name: str) -> None:
    returns = market(80, 10)
    np.testing.assert_allclose(ESTIMATORS[name](3.0 * returns), 9.0 * ESTIMATORS[name](returns), rtol=1e-9)


def test_quadratic_shrinkage_keeps_the_trace_and_narrows_the_eigenvalues() -> None:
    for shape in ((60, 20), (15, 30)):
        sample = covariance.sample_covariance(market(*shape))
        shrunk = covariance.nonlinear_shrinkage(market(*shape))
        assert np.trace(shrunk) == pytest.approx(np.trace(sample))
        assert np.linalg.eigvalsh(shrunk)[0] > np.linalg.eigvalsh(sample)[0]
        assert np.linalg.eigvalsh(shrunk)[-1] < np.linalg.eigvalsh(sample)[-1]


def test_constant_correlation_keeps_the_variances() -> None:
    returns = market(60, 12)
    found = covariance.constant_correlation(returns)
    np.testing.assert_allclose(np.diag(found.matrix), returns.var(axis=0, ddof=1), rtol=1e-12)
    assert 0.0 < found.shrinkage <= 1.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: covariance.sample_covariance([1.0, 2.0]), r"\(T, N\)"),
        (lambda: covariance.sample_covariance([[0.1, math.nan], [0.2, 0.1]]), "return 0 of symbol 1 is nan"),
        (lambda: covariance.constant_correlation([[0.1, 0.2], [0.1, 0.3], [0.1, 0.1]]), "column 0 does not"),
        (lambda: covariance.nonlinear_shrinkage(market(15, 30), kind="linear"), "use quadratic"),
        (lambda: covariance.nonlinear_shrinkage(np.column_stack([market(50, 2), np.zeros(50)])), "constant"),
        (lambda: covariance.clip_eigenvalues([[1.0, 0.2], [0.9, 1.0]]), "symmetric"),
        (lambda: covariance.clip_eigenvalues([[1.0, math.nan], [math.nan, 1.0]]), "covariance 0, 1 is nan"),
        (lambda: covariance.nearest_psd([[-1.0]]), "variance 0 is negative"),
        (lambda: covariance.half_life_to_lambda(0.0), "positive"),
        (lambda: EwmaCovariance(0), "at least one symbol"),
        (lambda: EwmaCovariance(2, 1.0), "lam must lie between"),
        (lambda: EwmaCovariance(2).push([0.1]), "expected 2 returns"),
        (lambda: EwmaCovariance(1).push([math.inf]), "infinite"),
        (lambda: EwmaCovariance(2).load(EwmaCovariance(3).dump()), "other symbols"),
    ],
)
def test_wrong_arguments_are_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]


def test_highams_matrix_has_his_nearest_correlation() -> None:
    # Higham 2002, section 4: the nearest correlation matrix to this one, printed to four figures
    start = [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
    published = [[1.0, 0.7607, 0.1573], [0.7607, 1.0, 0.7607], [0.1573, 0.7607, 1.0]]
    np.testing.assert_allclose(covariance.nearest_psd(start), published, atol=5e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10_000))
def test_projection_keeps_the_variances_and_leaves_nothing_negative(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.uniform(-1, 1, (size, size))
    deviation = rng.uniform(0.001, 0.1, size)
    correlation = np.clip((noise + noise.T) / 2, -1, 1)
    np.fill_diagonal(correlation, 1.0)
    given_matrix = correlation * np.outer(deviation, deviation)
    projected = covariance.nearest_psd(given_matrix)
    np.testing.assert_allclose(np.diag(projected), deviation**2, rtol=1e-9)
    assert np.linalg.eigvalsh(projected / np.outer(deviation, deviation))[0] > -1e-10
    np.testing.assert_allclose(covariance.nearest_psd(projected), projected, rtol=1e-6, atol=1e-14)


def test_clipping_lifts_what_is_singular_and_leaves_the_rest() -> None:
    fine = covariance.sample_covariance(market(50, 5))
    np.testing.assert_array_equal(covariance.clip_eigenvalues(fine), fine)
    singular = covariance.sample_covariance(market(4, 9))
    assert np.linalg.eigvalsh(covariance.clip_eigenvalues(singular))[0] > -1e-18
    np.testing.assert_allclose(covariance.clip_eigenvalues(singular), singular, atol=1e-14)
    np.testing.assert_array_equal(covariance.clip_eigenvalues(np.zeros((2, 2))), np.zeros((2, 2)))


def test_pairwise_covariance_is_the_sample_one_without_gaps_and_projected_with_them() -> None:
    returns = market(120, 6)
    np.testing.assert_allclose(
        covariance.pairwise_covariance(returns), covariance.sample_covariance(returns), rtol=1e-9
    )
    gappy = returns.copy()
    gappy[:70, 5] = np.nan
    found = covariance.pairwise_covariance(gappy)
    np.testing.assert_allclose(found[:5, :5], covariance.sample_covariance(returns[:, :5]), rtol=1e-6)
    assert found[5, 5] == pytest.approx(returns[70:, 5].var(ddof=1))
    assert np.linalg.eigvalsh(found)[0] > -1e-12
    with pytest.raises(ValueError, match="have 50 periods in common, not 60"):
        covariance.pairwise_covariance(gappy, min_periods=60)


@given(st.integers(0, 1000), st.sampled_from([None, 0.99]), st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=40, deadline=None)
def test_ewma_state_survives_being_dumped_anywhere(seed: int, slow: float | None, cuts: list[int]) -> None:
    returns = market(60, 4, seed)
    returns[: seed % 40, 2] = np.nan
    whole = EwmaCovariance(4, 0.95, correlation_lam=slow, min_periods=5)
    resumed = EwmaCovariance(4, 0.95, correlation_lam=slow, min_periods=5)
    for at, row in enumerate(returns):
        whole.push(row)
        if at in cuts:
            state = resumed.dump()
            assert all(type(number) is float for values in state.values() for number in values)
            resumed = EwmaCovariance(4, 0.95, correlation_lam=slow, min_periods=5)
            resumed.load(state)
        resumed.push(row)
        np.testing.assert_array_equal(whole.matrix(), resumed.matrix())


def test_ewma_weights_sum_to_one_and_fall_by_lambda() -> None:
    returns = market(90, 3)
    weights = 0.94 ** np.arange(89, -1, -1)
    expected = (returns * (weights / weights.sum())[:, None]).T @ returns
    np.testing.assert_allclose(covariance.ewma_covariance(returns, 0.94), expected, rtol=1e-12)


def test_fast_volatility_and_slow_correlation_stay_apart() -> None:
    returns = market(300, 3)
    fast, slow = covariance.ewma_covariance(returns, 0.9), covariance.ewma_covariance(returns, 0.99)
    both = covariance.ewma_covariance(returns, 0.9, correlation_lam=0.99)
    np.testing.assert_allclose(np.diag(both), np.diag(fast), rtol=1e-12)
    np.testing.assert_allclose(covariance.correlation_of(both)[0], covariance.correlation_of(slow)[0], rtol=1e-12)


def test_a_symbol_not_listed_yet_is_nan_and_costs_the_others_nothing() -> None:
    returns = market(80, 4)
    late = returns.copy()
    late[:70, 3] = np.nan
    fold, without = EwmaCovariance(4, min_periods=20), EwmaCovariance(3, min_periods=20)
    for row in late:
        fold.push(row)
        without.push(row[:3])
        np.testing.assert_array_equal(fold.matrix()[:3, :3], without.matrix())
    assert np.isnan(fold.matrix()[3]).all()
    assert np.isnan(fold.matrix()[:, 3]).all()
    for row in market(10, 4, seed=9):
        fold.push(row)
    assert np.isfinite(fold.matrix()).all()
    assert np.linalg.eigvalsh(fold.matrix())[0] > -1e-15


def test_pairs_that_contradict_one_another_are_projected() -> None:
    fold = EwmaCovariance(3, 0.9, min_periods=5)
    for value in 0.01 * np.random.default_rng(3).normal(size=30):
        for row in ([value, value, np.nan], [np.nan, value, value], [value, np.nan, -value]):
            fold.push(row)
    matrix = fold.matrix()
    assert np.linalg.eigvalsh(matrix)[0] > -1e-15
    assert matrix[0, 1] > 0.0 > matrix[0, 2]


def test_a_flat_symbol_has_no_risk_and_no_correlation() -> None:
    returns = np.column_stack([market(40, 2), np.zeros(40)])
    matrix = covariance.ewma_covariance(returns, 0.9, correlation_lam=0.98)
    np.testing.assert_array_equal(matrix[2], np.zeros(3))
    correlation, deviation = covariance.correlation_of(matrix)
    assert deviation[2] == 0.0
    assert np.isnan(correlation[2]).all()
    assert np.isnan(correlation[:, 2]).all()


def test_half_life() -> None:
    assert covariance.half_life_to_lambda(10.0) ** 10 == pytest.approx(0.5)
