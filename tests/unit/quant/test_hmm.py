"""The forward filter against the library that fits it, and parameters that travel as bytes."""

import math
from typing import Any

import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from scipy.stats import multivariate_normal
from threadpoolctl import threadpool_limits

from tests.unit.quant.regime_worlds import planted_fit
from tidegate.quant import hmm
from tidegate.quant.hmm import HmmFilter, HmmParameters, forward_filter, predicted


def fitted() -> tuple[HmmParameters, np.ndarray]:
    fit, rows = planted_fit()
    assert fit.parameters is not None
    return fit.parameters, rows


def changed(**fields: Any) -> HmmParameters:
    parameters, _ = fitted()
    names = ("start", "transition", "means", "covariances", "center", "scale", "low", "high")
    return HmmParameters(**{name: fields.get(name, getattr(parameters, name)) for name in names})


# --- the filter ------------------------------------------------------------------------------------------------------


def test_the_filter_is_the_last_smoothed_row_of_every_prefix() -> None:
    parameters, rows = fitted()
    model = GaussianHMM(3, "full")
    model.startprob_, model.transmat_ = parameters.start, parameters.transition
    model.means_, model.covars_ = parameters.means, parameters.covariances
    standard = parameters.standardised(rows[:250])
    filtered = HmmFilter(parameters).scan(rows[:250])
    with threadpool_limits(1):
        last_rows = [model.predict_proba(standard[: t + 1])[-1] for t in range(250)]
        whole = model.predict_proba(standard)
    np.testing.assert_allclose(filtered, last_rows, rtol=0.0, atol=1e-9)
    assert np.abs(whole - filtered).max() > 0.2  # the whole sequence knows better, for it knows the future


def test_step_and_scan_and_plain_python_are_the_same_bits() -> None:
    parameters, rows = fitted()
    rows = rows[:200].copy()
    rows[17, 1] = np.nan
    whole, single = HmmFilter(parameters), HmmFilter(parameters)
    scanned = whole.scan(rows)
    assert np.array([single.push(row) for row in rows]).tobytes() == scanned.tobytes()
    assert single.dump() == whole.dump()
    state, packed, plain = np.zeros(len(whole.dump())), parameters.packed(), np.empty((200, 3))
    for t in range(200):
        hmm._filter_row.py_func(state, packed, rows, plain, t)
    assert plain.tobytes() == scanned.tobytes()


def test_a_row_with_a_nan_did_not_happen() -> None:
    parameters, rows = fitted()
    with_gap = np.insert(rows[:50], 20, np.nan, axis=0)
    filtered = HmmFilter(parameters).scan(with_gap)
    assert np.isnan(filtered[20]).all()
    assert np.delete(filtered, 20, axis=0).tobytes() == HmmFilter(parameters).scan(rows[:50]).tobytes()


def test_a_filter_continues_from_its_state() -> None:
    parameters, rows = fitted()
    whole, first, second = HmmFilter(parameters), HmmFilter(parameters), HmmFilter(parameters)
    expected = whole.scan(rows[:100])
    head = first.scan(rows[:37])
    second.load(first.dump())
    assert np.concatenate([head, second.scan(rows[37:100])]).tobytes() == expected.tobytes()


def test_the_likelihood_is_that_of_the_densities() -> None:
    parameters, rows = fitted()
    standard = parameters.standardised(rows[:60])
    densities = np.column_stack(
        [
            multivariate_normal(m, c).logpdf(standard)
            for m, c in zip(parameters.means, parameters.covariances, strict=True)
        ]
    )
    filtered, likelihood = forward_filter(densities, parameters.start, parameters.transition)
    ours = HmmFilter(parameters)
    np.testing.assert_allclose(ours.scan(rows[:60]), filtered, rtol=0.0, atol=1e-10)
    assert ours.log_likelihood == pytest.approx(likelihood, rel=1e-10)


def test_impossible_states_stay_impossible() -> None:
    parameters = HmmParameters.plain([1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]], [[0.0], [5.0]], [[1.0], [1.0]])
    filtered = HmmFilter(parameters).scan(np.array([[5.0], [5.0], [0.0], [0.0]]))
    assert filtered[0].tolist() == [1.0, 0.0]
    assert filtered[1, 1] > 0.99
    only_first = HmmParameters.plain([1.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [[0.0], [5.0]], [[1.0], [1.0]])
    assert HmmFilter(only_first).scan(np.full((5, 1), 5.0)).tolist() == [[1.0, 0.0]] * 5


def test_prediction_moves_along_the_transitions() -> None:
    assert predicted([0.25, 0.75], [[0.9, 0.1], [0.2, 0.8]]) == pytest.approx([0.375, 0.625])


def test_rows_are_clipped_by_the_constants_of_the_fit() -> None:
    parameters, rows = fitted()
    far, edge = rows[:1].copy(), rows[:1].copy()
    far[0, 0], edge[0, 0] = 1e6, parameters.high[0]
    assert HmmFilter(parameters).scan(far).tobytes() == HmmFilter(parameters).scan(edge).tobytes()


# --- parameters ------------------------------------------------------------------------------------------------------


def test_parameters_survive_as_bytes_exactly() -> None:
    parameters, rows = fitted()
    data = parameters.to_bytes()
    back = HmmParameters.from_bytes(data)
    assert back.to_bytes() == data == changed().to_bytes()
    assert HmmFilter(back).scan(rows[:80]).tobytes() == HmmFilter(parameters).scan(rows[:80]).tobytes()
    plain = HmmParameters.plain([0.5, 0.5], np.full((2, 2), 0.5), [[0.0], [1.0]], [[1.0], [2.0]])
    assert HmmParameters.from_bytes(plain.to_bytes()).high.tolist() == [math.inf]


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x94\x02\x03\x03\xc4\x00", b"\x94\x01\x03\x03\xc4\x08" + bytes(8)])
def test_bytes_of_something_else_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="these bytes are no HMM parameters"):
        HmmParameters.from_bytes(data)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"start": np.ones(2) / 2.0}, "start must have shape"),
        ({"start": np.array([0.5, 0.6, 0.1])}, "probabilities that sum to 1, and start"),
        ({"transition": -np.eye(3)}, "probabilities that sum to 1, and transition"),
        ({"scale": np.array([1.0, 0.0, 1.0])}, "positive scales"),
        ({"low": np.full(3, 9.0), "high": np.zeros(3)}, "low limits below the high ones"),
        ({"covariances": np.zeros((3, 3, 3))}, "positive definite"),
        ({"covariances": np.tile(np.triu(np.ones((3, 3))), (3, 1, 1))}, "symmetric covariances"),
        ({"means": np.zeros(3)}, "means of shape"),
    ],
)
def test_parameters_that_no_filter_can_use_are_named(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        changed(**fields)


def test_rows_of_another_width_are_refused() -> None:
    parameters, _ = fitted()
    with pytest.raises(ValueError, match="rows of 3 features"):
        HmmFilter(parameters).push(np.zeros(2))
    with pytest.raises(ValueError, match="rows of 3 features"):
        HmmFilter(parameters).scan(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="a filter of 3 states"):
        forward_filter(np.zeros((4, 3)), parameters.start[:2], parameters.transition)
    with pytest.raises(ValueError, match="log densities of shape"):
        forward_filter(np.zeros(4), parameters.start, parameters.transition)
