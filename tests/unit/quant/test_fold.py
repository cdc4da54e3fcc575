"""What a fold refuses, and the rule around a step."""

import math

import numpy as np
import pytest

from tidegate.quant.fold import Floats, Fold, advance, scan, step
from tidegate.quant.indicators import EMA


@step
def _count(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    state[0] += params[0]
    out[0] = state[0]
    out[1] = x[0] - x[1]


def counter(**changes: object) -> Fold:
    fields: dict[str, object] = {
        "name": "count", "step": _count, "params": (1.0,), "state_size": 1, "inputs": ("high", "low"),
        "outputs": ("rows", "range"), "warmup_bars": 1, "memory_bars": 1,
    }  # fmt: skip
    return Fold(**(fields | changes))  # type: ignore[arg-type]


def test_a_step_of_ones_own_runs_through_the_one_compiled_loop() -> None:
    fold = counter()
    state = fold.initial()
    first = scan(fold, state, np.array([[3.0, 1.0], [5.0, 4.0]]))
    second = scan(fold, state, np.array([[9.0, 2.0]]))
    assert first.tolist() == [[1.0, 2.0], [2.0, 1.0]]
    assert second.tolist() == [[3.0, 7.0]]


def test_a_row_with_a_nan_leaves_the_state_alone() -> None:
    fold = counter()
    state, out = fold.initial(), np.zeros(2)
    assert not advance(fold.step, state, fold.params_array(), np.array([1.0, math.nan]), out)
    assert state[0] == 0.0
    assert np.isnan(out).all()
    assert advance(fold.step, state, fold.params_array(), np.array([1.0, 1.0]), out)
    assert out.tolist() == [1.0, 0.0]


def test_rows_in_any_memory_layout() -> None:
    fold = counter()
    xs = np.arange(20.0).reshape(2, 10).T
    assert not xs.flags.c_contiguous
    assert scan(fold, fold.initial(), xs)[:, 1].tolist() == [-10.0] * 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ("price",)}, "count: inputs must be some of open high low close volume"),
        ({"inputs": ()}, "inputs"),
        ({"outputs": ()}, "outputs"),
        ({"outputs": ("a", "a")}, "outputs"),
        ({"warmup_bars": 0}, "warmup_bars"),
        ({"warmup_bars": 3, "memory_bars": 2}, "warmup_bars"),
    ],
)
def test_a_fold_that_contradicts_itself(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        counter(**changes)


def test_shapes_are_checked() -> None:
    fold = EMA(3)
    with pytest.raises(ValueError, match="EMA takes rows of 1"):
        scan(fold, fold.initial(), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="EMA takes rows of 1"):
        scan(fold, fold.initial(), np.zeros(5))
    with pytest.raises(ValueError, match="EMA has a state of 2"):
        scan(fold, np.zeros(7), np.zeros((5, 1)))
