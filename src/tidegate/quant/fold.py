"""Folds: every number that reaches a decision is made by one, and obeys one law.

The algorithm:

1. A fold is a small compiled function ``step(state, params, x, out)`` over a float64 state that starts at zero.
2. ``advance`` is the rule around a step, written once: an input row with a NaN leaves the state as it is and gives
   NaN outputs, so that a fold fed by another one begins when that one has something to say.
3. ``scan`` is ``advance`` in a compiled loop (replay); live, the same ``advance`` is called with each new row.
4. The law, chunk invariance: for any way of cutting the rows into consecutive chunks, carrying the state across, the
   concatenated outputs are the same, bit for bit. Hence no look-ahead, backtest equals live, resume equals run.

``fastmath`` is banned: it lets the compiler reorder sums, and then the loop and the single step differ.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args

import numba as nb
import numpy as np
from numba.core import types
from numba.extending import register_jitable
from numpy.typing import NDArray

Column = Literal["open", "high", "low", "close", "volume"]
"""A column of a bar."""

COLUMNS: Final[tuple[Column, ...]] = get_args(Column)
"""The columns of a bar in the order in which rows hold them."""

Floats = NDArray[np.float64]

Step = Callable[[Floats, Floats, Floats, Floats], None]
"""``step(state (S,), params (P,), x (n_in,), out (n_out,))``: updates ``state`` and writes ``out``, in place."""

_VECTOR: Final = types.float64[::1]
_MATRIX: Final = types.float64[:, ::1]
_STEP_SIGNATURE: Final = types.void(_VECTOR, _VECTOR, _VECTOR, _VECTOR)


def compiled(signature: object) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for one signature at once, and keep the machine code on disk where a folder can be written to."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return cast(Callable[..., Any], nb.njit(signature, cache=True, error_model="numpy")(function))
        except RuntimeError as error:  # numba finds no folder that it may write its cache to
            if "cannot cache" not in str(error):
                raise
            return cast(Callable[..., Any], nb.njit(signature, error_model="numpy")(function))

    return decorate


def step(function: Step) -> Step:
    """Compile a step: machine code when called, an ordinary function to a type checker.

    The plain Python original stays reachable as ``.py_func``, for tests. Every division in a step must be guarded:
    undefined is ``nan``, never ``inf``.
    """
    return cast(Step, compiled(_STEP_SIGNATURE)(function))


@dataclass(frozen=True, slots=True)
class Fold:
    """A step with everything needed to run it.

    ``inputs`` are bar columns; a fold with one input can also be fed by another fold. The first of ``outputs`` is the
    primary one. ``warmup_bars`` rows are needed before a decision may rest on the outputs (they are NaN while they are
    not defined, which for some seeds is shorter); ``memory_bars`` rows of history make a cold start agree with the
    full history to about 1e-12.
    """

    name: str
    step: Step = field(repr=False)
    params: tuple[float, ...]
    state_size: int
    inputs: tuple[Column, ...]
    outputs: tuple[str, ...]
    warmup_bars: int
    memory_bars: int

    def __post_init__(self) -> None:
        if not self.inputs or not set(self.inputs) <= set(COLUMNS):
            raise ValueError(f"{self.name}: inputs must be some of {' '.join(COLUMNS)}, not {self.inputs}")
        if not self.outputs or len(set(self.outputs)) != len(self.outputs):
            raise ValueError(f"{self.name}: outputs must be named, each once, not {self.outputs}")
        if not 1 <= self.warmup_bars <= self.memory_bars:
            raise ValueError(
                f"{self.name}: warmup_bars must lie in [1, memory_bars], not {self.warmup_bars} of {self.memory_bars}"
            )

    def initial(self) -> Floats:
        """The state before the first row, ``(state_size,)``."""
        return np.zeros(self.state_size)

    def params_array(self) -> Floats:
        """The parameters as the step takes them, ``(P,)``."""
        return np.array(self.params, dtype=np.float64)


@register_jitable
def _advance(step: Step, state: Floats, params: Floats, x: Floats, out: Floats) -> bool:
    for value in x:
        if value != value:
            out[:] = np.nan
            return False
    step(state, params, x, out)
    return True


advance = cast(Callable[[Step, Floats, Floats, Floats, Floats], bool], _advance)
"""One row through a step: ``advance(step, state, params, x, out)``; False when a NaN kept the row from counting."""


@compiled(types.void(types.FunctionType(_STEP_SIGNATURE), _VECTOR, _VECTOR, _MATRIX, _MATRIX))
def _scan(step: Step, state: Floats, params: Floats, xs: Floats, ys: Floats) -> None:
    # The step comes in as a function pointer, so that one compiled loop serves every fold there will ever be.
    for t in range(xs.shape[0]):
        _advance(step, state, params, xs[t], ys[t])


def scan(fold: Fold, state: Floats, xs: Floats) -> Floats:
    """Run rows ``xs (T, n_in)`` through a fold; returns ``(T, n_out)`` and leaves ``state`` after the last row.

    Raises ``ValueError`` when a shape does not fit the fold.
    """
    if xs.ndim != 2 or xs.shape[1] != len(fold.inputs):
        raise ValueError(f"{fold.name} takes rows of {len(fold.inputs)} ({' '.join(fold.inputs)}), not {xs.shape}")
    if state.shape != (fold.state_size,):
        raise ValueError(f"{fold.name} has a state of {fold.state_size}, not {state.shape}")
    ys = np.empty((xs.shape[0], len(fold.outputs)))
    _scan(fold.step, state, fold.params_array(), np.ascontiguousarray(xs, dtype=np.float64), ys)
    return ys
