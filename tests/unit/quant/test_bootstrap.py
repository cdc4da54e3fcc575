"""The stationary bootstrap: block length and interval as arch has them, and what an interval must do by itself."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.quant.bootstrap import MIN_RETURNS, sharpe_interval, stationary_block_length, stationary_draws
from tidegate.quant.sharpe import sharpe_ratio

NAN = (math.nan, math.nan)


def returns(seed: int, size: int, persistence: float = 0.0, mean: float = 0.0005) -> np.ndarray:
    """Heavy-tailed returns, each of which remembers the one before."""
    rng = np.random.default_rng(seed)
    shocks = 0.01 * rng.standard_t(4, size)
    column = np.empty(size)
    before = 0.0
    for t in range(size):
        before = column[t] = persistence * before + shocks[t]
    return column + mean


CASES = [(seed, size, persistence) for seed, size in ((1, 30), (2, 95), (3, 365), (4, 1_700)) for persistence in
         (0.0, 0.3, 0.8, -0.4)]  # fmt: skip


@pytest.mark.parametrize(("seed", "size", "persistence"), CASES)
def test_the_block_length_is_that_of_arch(seed: int, size: int, persistence: float) -> None:
    from arch.bootstrap import optimal_block_length

    column = returns(seed, size, persistence)
    expected = float(optimal_block_length(column)["stationary"].iloc[0])
    assert stationary_block_length(column) == pytest.approx(expected, rel=1e-9)


def test_the_block_length_of_a_strategy_that_is_mostly_flat_is_that_of_arch() -> None:
    from arch.bootstrap import optimal_block_length

    column = returns(9, 400)
    column[np.arange(400) % 100 > 20] = 0.0
    expected = float(optimal_block_length(column)["stationary"].iloc[0])
    assert stationary_block_length(column) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("persistence", [0.0, 0.4])
def test_the_interval_is_that_of_arch_within_the_error_of_the_draws(persistence: float) -> None:
    from arch.bootstrap import StationaryBootstrap

    column = returns(5, 500, persistence)
    length = max(1.0, stationary_block_length(column))
    draws = StationaryBootstrap(length, column, seed=np.random.default_rng(8))
    expected = draws.conf_int(sharpe_ratio, reps=5_000, method="percentile", size=0.95).ravel()
    found = sharpe_interval(column, seed=3)
    spread = (expected[1] - expected[0]) / 4.0
    assert np.abs(found - expected).max() < 0.12 * spread  # a 2.5 % quantile of 5,000 draws: 0.04 of a deviation
    assert found[0] < sharpe_ratio(column) < found[1]


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    """Of independent returns; 200 samples leave an error of 2 % around the 90 %."""
    truth = 0.1 * math.sqrt(365)
    hits = 0
    for seed in range(200):
        column = 0.1 + np.random.default_rng(seed).standard_normal(300)
        low, high = sharpe_interval(column, 0.90, 400, seed=seed)
        hits += low < truth < high
    assert 0.82 < hits / 200 < 0.96


def test_the_same_seed_gives_the_same_interval_and_another_one_a_near_one() -> None:
    column = returns(6, 400, 0.2)
    first, again, other = (sharpe_interval(column, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first == pytest.approx(other, abs=0.15)


def test_a_wider_level_is_a_wider_interval() -> None:
    column = returns(7, 300)
    narrow, wide = sharpe_interval(column, 0.5), sharpe_interval(column, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    "column",
    [
        [],
        returns(1, MIN_RETURNS - 1),
        np.full(200, 0.01),
        np.zeros(200),
        np.append(returns(1, 100), math.nan),
        np.append(returns(1, 100), math.inf),
    ],
    ids=["none", "few", "constant", "zero", "nan", "infinite"],
)
def test_what_is_undefined_is_nan(column: np.ndarray) -> None:
    assert math.isnan(stationary_block_length(column))
    assert sharpe_interval(column) == pytest.approx(NAN, nan_ok=True)


def test_draws_of_which_most_have_no_variance_give_no_interval() -> None:
    once = np.zeros(2_000)
    once[1_000] = 1.0
    low, high = sharpe_interval(once, draws=500)
    assert low <= high  # the one day is in about two draws of three
    assert math.isfinite(low)


def test_wrong_arguments_are_refused() -> None:
    for level in (0.0, 1.0, 95.0, math.nan):
        with pytest.raises(ValueError, match="level lies between 0 and 1"):
            sharpe_interval(returns(1, 100), level)
    with pytest.raises(ValueError, match="needs a sample, draws and a block length"):
        sharpe_interval(returns(1, 100), draws=0)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.floats(0.2, 50.0), st.integers(1, 40), st.integers(0, 10**6))
def test_draws_are_made_of_runs_on_the_circle(size: int, length: float, draws: int, seed: int) -> None:
    rows = np.concatenate(list(stationary_draws(size, length, draws, np.random.default_rng(seed))))
    assert rows.shape == (draws, size)
    assert ((rows >= 0) & (rows < size)).all()
    again = np.concatenate(list(stationary_draws(size, length, draws, np.random.default_rng(seed))))
    assert (rows == again).all()


def test_blocks_have_the_length_that_was_asked_for() -> None:
    size, length = 5_000, 12.5
    rows = np.concatenate(list(stationary_draws(size, length, 300, np.random.default_rng(1))))
    goes_on = (np.diff(rows, axis=1) % size == 1).mean()
    assert 1.0 - goes_on == pytest.approx(1.0 / length, rel=0.02)
    assert np.bincount(rows.ravel(), minlength=size).std() < 0.2 * 300  # no place is preferred
