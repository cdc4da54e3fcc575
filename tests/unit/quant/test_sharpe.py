"""The statistics of the Sharpe ratio: laws and edges; the published figures are in the oracles."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.quant import sharpe

RATIOS = st.floats(-1.0, 1.0)


def draws(size: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.001, 0.02, size)


def test_without_lags_the_year_is_its_square_root() -> None:
    returns = draws(300)
    assert sharpe.sharpe_ratio_autocorr(returns, 365, 0) == pytest.approx(sharpe.sharpe_ratio(returns))
    assert sharpe.annualization_factor([], 365) == pytest.approx(math.sqrt(365))


def test_smoothed_marks_do_not_buy_a_better_ratio() -> None:
    smoothed = np.convolve(draws(2_000), [0.5, 0.5], mode="valid")
    assert sharpe.sharpe_ratio_autocorr(smoothed, 365, 3) < 0.8 * sharpe.sharpe_ratio(smoothed)


def test_autocorrelations_are_those_of_the_sample() -> None:
    returns = draws(50)
    deviation = returns - returns.mean()
    rho = [float(deviation[lag:] @ deviation[:-lag]) / float(deviation @ deviation) for lag in (1, 2)]
    expected = sharpe.sharpe_ratio(returns, 0.0, 1.0) * sharpe.annualization_factor(rho, 12)
    assert sharpe.sharpe_ratio_autocorr(returns, 12, 2) == pytest.approx(expected)
    assert sharpe.sharpe_ratio_autocorr(draws(100), 365) == sharpe.sharpe_ratio_autocorr(draws(100), 365, 4)


def test_undefined_is_nan() -> None:
    assert math.isnan(sharpe.sharpe_ratio_autocorr([0.01] * 30))
    assert math.isnan(sharpe.sharpe_ratio_autocorr([]))
    assert math.isnan(sharpe.sharpe_ratio_autocorr([0.1, 0.2, 0.1], 365, 2))
    assert math.isnan(sharpe.annualization_factor([-0.9], 12))
    assert math.isnan(sharpe.annualization_factor([math.nan], 12))
    assert math.isnan(sharpe.probabilistic_sharpe_ratio(0.1, 0.0, 1))
    assert math.isnan(sharpe.probabilistic_sharpe_ratio(1.0, 0.0, 100, skew=5.0, kurt=3.0))
    assert math.isnan(sharpe.probabilistic_sharpe_ratio(math.nan, 0.0, 100))
    assert math.isnan(sharpe.sharpe_standard_error(0.1, 0))
    assert math.isnan(sharpe.minimum_track_record(0.1, 0.1))
    assert math.isnan(sharpe.minimum_backtest_years(45, 0.0))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="lags go from 0"):
        sharpe.sharpe_ratio_autocorr(draws(30), 12, 12)
    with pytest.raises(ValueError, match="autocorrelations"):
        sharpe.annualization_factor([0.1] * 12, 12)
    with pytest.raises(ValueError, match="at least 1"):
        sharpe.deflated_sharpe_ratio(0.1, 0.01, 0, 100)
    with pytest.raises(ValueError, match="sr_trials_var"):
        sharpe.deflated_sharpe_ratio(0.1, -0.01, 10, 100)
    with pytest.raises(ValueError, match="confidence"):
        sharpe.minimum_track_record(0.2, 0.1, 0.5)


@settings(deadline=None)  # the first call loads a library
@given(RATIOS, RATIOS, st.integers(2, 5_000))
def test_a_probability_it_is(sr: float, against: float, n: int) -> None:
    probability = sharpe.probabilistic_sharpe_ratio(sr, against, n, -0.5, 5.0)
    assert 0.0 <= probability <= 1.0
    if sr != against and n < 100:
        assert (probability > 0.5) == (sr > against) or probability == 0.5


@settings(deadline=None)  # the first call loads a library
@given(st.floats(0.05, 1.0), st.integers(2, 10_000))
def test_more_trials_deflate_more(sr: float, trials: int) -> None:
    one, many, more = (sharpe.deflated_sharpe_ratio(sr, 0.01, count, 200) for count in (1, trials, trials + 1))
    assert one == sharpe.probabilistic_sharpe_ratio(sr, 0.0, 200)
    assert one >= many >= more


@settings(deadline=None)  # the first call loads a library
@given(st.floats(0.05, 0.5), st.floats(0.6, 0.99))
def test_the_track_record_reaches_its_confidence(edge: float, confidence: float) -> None:
    n = sharpe.minimum_track_record(edge + 0.1, 0.1, confidence, -0.5, 5.0)
    assert sharpe.probabilistic_sharpe_ratio(edge + 0.1, 0.1, n, -0.5, 5.0) == pytest.approx(confidence)


def test_the_expected_maximum_is_that_of_normal_draws() -> None:
    largest = np.random.default_rng(1).standard_normal((20_000, 45)).max(axis=1).mean()
    assert sharpe.expected_maximum(45) == pytest.approx(largest, abs=0.05)
