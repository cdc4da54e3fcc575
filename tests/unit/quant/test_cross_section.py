"""Winsorised values, ranks, and weights that are neutral to the market."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.quant.cross_section import centred_ranks, neutral_weights, winsorised

values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


def test_tails_are_pulled_in_to_their_quantiles() -> None:
    assert winsorised([0.0, 1.0, 2.0, 3.0, 100.0], 0.25) == [1.0, 1.0, 2.0, 3.0, 3.0]
    assert winsorised([5.0, -5.0], 0.0) == [5.0, -5.0]
    assert winsorised([], 0.05) == []
    with pytest.raises(ValueError, match=r"lies in \[0, 0.5\), not 0.5"):
        winsorised([1.0], 0.5)


@given(values, st.floats(0.0, 0.49))
def test_the_quantiles_are_those_of_numpy(given_values: list[float], tail: float) -> None:
    low, high = np.quantile(given_values, [tail, 1.0 - tail])
    assert winsorised(given_values, tail) == pytest.approx(np.clip(given_values, low, high), rel=1e-9, abs=1e-9)


def test_ranks_are_even_and_ties_share() -> None:
    assert centred_ranks([30.0, 10.0, 20.0]) == [1.0, -1.0, 0.0]
    assert centred_ranks([1.0, 1.0, 2.0]) == [-0.5, -0.5, 1.0]
    assert centred_ranks([7.0, 7.0]) == [0.0, 0.0]
    assert centred_ranks([7.0]) == [0.0]


@given(values)
def test_ranks_sum_to_zero_and_keep_the_order(given_values: list[float]) -> None:
    ranks = centred_ranks(given_values)
    assert math.fsum(ranks) == pytest.approx(0.0, abs=1e-9)
    for a, x in zip(ranks, given_values, strict=True):
        assert all((a < b) == (x < y) for b, y in zip(ranks, given_values, strict=True))


legs = st.lists(
    st.tuples(st.floats(-1.0, 1.0), st.floats(0.01, 0.2), st.floats(-1.0, 3.0)), min_size=3, max_size=25
)  # fmt: skip


@given(legs)
def test_weights_are_neutral_to_level_and_to_beta(rows: list[tuple[float, float, float]]) -> None:
    raw, sigmas, betas = (list(column) for column in zip(*rows, strict=True))
    weights = neutral_weights(raw, sigmas, betas)
    assert abs(math.fsum(weights)) < 1e-9
    if max(betas) - min(betas) > 1e-3:
        assert abs(math.fsum(w * beta for w, beta in zip(weights, betas, strict=True))) < 1e-6
    assert max(map(abs, weights)) in (0.0, 1.0)


def test_the_weights_are_the_nearest_in_risk() -> None:
    rng = np.random.default_rng(3)
    raw, sigmas, betas = rng.normal(size=8), rng.uniform(0.2, 1.0, 8), rng.uniform(0.5, 2.0, 8)
    # the same projection as a linear system: minimise (w - raw)' D^-1 (w - raw) with X'w = 0
    give, x = np.diag(1.0 / sigmas**2), np.column_stack([np.ones(8), betas])
    nearest = raw - give @ x @ np.linalg.solve(x.T @ give @ x, x.T @ raw)
    found = neutral_weights(raw.tolist(), sigmas.tolist(), betas.tolist())
    assert found == pytest.approx(nearest / np.abs(nearest).max(), abs=1e-12)


def test_equal_betas_need_the_level_alone_and_two_unlike_symbols_leave_nothing() -> None:
    assert neutral_weights([1.0, 0.0], [0.1, 0.1], [1.0, 1.0]) == [1.0, -1.0]
    assert neutral_weights([1.0, -1.0], [0.1, 0.1], [1.0, 2.0]) == [0.0, 0.0]
    assert neutral_weights([0.0, 0.0, 0.0], [0.1, 0.1, 0.1], [1.0, 2.0, 3.0]) == [0.0, 0.0, 0.0]
    assert neutral_weights([], [], []) == []


def test_what_cannot_be_weighted_is_refused() -> None:
    with pytest.raises(ValueError, match="not 1, 2 and 1"):
        neutral_weights([1.0], [1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="volatilities above 0"):
        neutral_weights([1.0], [0.0], [1.0])
