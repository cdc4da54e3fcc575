"""Hidden Markov model with Gaussian emissions: its parameters, and the forward filter that alone may drive a decision.

1. A row is winsorised and standardised with constants of the window that the parameters were fitted on.
2. ``log b_j`` is the log density of the row in state j.
3. ``log a_t(j) = log b_j + logsumexp_i(log a_{t-1}(i) + log A_ij)``, normalised; the first row takes the start
   distribution in place of the sum, with no prediction before it.
4. ``p_t = exp(log a_t)`` is the filtered probability ``P(state_t | x_0 .. x_t)``; ``p_t A`` predicts the next state.

Everything is in logarithms, so that a row 60 standard deviations out does not end in 0/0. One compiled row serves the
single step and the scan: they agree bit for bit. Smoothed probabilities and the Viterbi path use the future of a
sequence; they do not exist here. Source: Rabiner (1989); Hamilton (1989).
"""

import math
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numba.core import types
from numba.extending import register_jitable
from numpy.typing import ArrayLike

from tidegate.quant.fold import Floats, compiled

_VECTOR: Final = types.float64[::1]
_MATRIX: Final = types.float64[:, ::1]
_VERSION: Final = 1
_LARGEST_ASYMMETRY: Final = 1e-9


class _Wire(msgspec.Struct, frozen=True, array_like=True):
    version: int
    states: int
    features: int
    numbers: bytes  # little-endian float64, field by field


@dataclass(frozen=True, slots=True, eq=False)
class HmmParameters:
    """K states over D features. ``means (K, D)`` and ``covariances (K, D, D)`` are in standardised units.

    A raw row x becomes ``(clip(x, low, high) - center) / scale``, all ``(D,)`` and fixed by the fit window.
    ``start (K,)`` is the distribution of the state of the first row, ``transition (K, K)`` has rows that sum to 1.
    Two are equal when their bytes are. Raises ``ValueError`` when shapes, probabilities, scales or covariances are
    not what the filter needs.
    """

    start: Floats
    transition: Floats
    means: Floats
    covariances: Floats
    center: Floats
    scale: Floats
    low: Floats
    high: Floats

    def __post_init__(self) -> None:
        states, features = self.means.shape if self.means.ndim == 2 else (0, 0)
        if not states or not features:
            raise ValueError(f"an HMM needs means of shape (states, features), not {self.means.shape}")
        shapes = _shapes(states, features)
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"an HMM of {states} states and {features} features: {name} must have shape {shape}")
        for name in ("start", "transition"):
            rows = np.atleast_2d(getattr(self, name))
            if not (bool((rows >= 0.0).all()) and np.allclose(rows.sum(axis=1), 1.0, rtol=0.0, atol=1e-9)):
                raise ValueError(f"an HMM needs probabilities that sum to 1, and {name} has none such")
        if not bool((np.isfinite(self.scale) & (self.scale > 0.0)).all()) or bool((self.low > self.high).any()):
            raise ValueError("an HMM needs positive scales and low limits below the high ones")
        self._inverse_roots()

    @classmethod
    def plain(
        cls, start: ArrayLike, transition: ArrayLike, means: ArrayLike, covariances: ArrayLike
    ) -> "HmmParameters":
        """Parameters on raw rows, neither clipped nor scaled. ``covariances`` may be variances ``(K, D)``."""
        means, covariances = np.asarray(means, dtype=np.float64), np.asarray(covariances, dtype=np.float64)
        if covariances.ndim == 2:
            covariances = np.array([np.diag(row) for row in covariances])
        features = means.shape[1] if means.ndim == 2 else 0
        ones = np.ones(features)
        start, transition = np.asarray(start, dtype=np.float64), np.asarray(transition, dtype=np.float64)
        return cls(start, transition, means, covariances, 0.0 * ones, ones, -math.inf * ones, math.inf * ones)

    @property
    def states(self) -> int:
        """K."""
        return int(self.means.shape[0])

    @property
    def features(self) -> int:
        """D."""
        return int(self.means.shape[1])

    def raw_means(self) -> Floats:
        """The means in the units of the raw rows, ``(K, D)``."""
        return self.center + self.scale * self.means

    def raw_deviations(self) -> Floats:
        """The standard deviations in the units of the raw rows, ``(K, D)``."""
        return self.scale * np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))

    def standardised(self, rows: Floats) -> Floats:
        """Raw rows ``(T, D)`` as the model sees them."""
        return (np.clip(rows, self.low, self.high) - self.center) / self.scale

    def reordered(self, order: ArrayLike) -> "HmmParameters":
        """The same model with state ``order[k]`` in place k."""
        index = np.asarray(order, dtype=np.int64)
        return HmmParameters(
            self.start[index],
            np.ascontiguousarray(self.transition[index][:, index]),
            self.means[index],
            self.covariances[index],
            self.center,
            self.scale,
            self.low,
            self.high,
        )

    def to_bytes(self) -> bytes:
        """An exact picture of the numbers; the same numbers give the same bytes."""
        names = _shapes(self.states, self.features)
        numbers = b"".join(np.ascontiguousarray(getattr(self, name), dtype="<f8").tobytes() for name in names)
        return msgspec.msgpack.encode(_Wire(_VERSION, self.states, self.features, numbers))

    @classmethod
    def from_bytes(cls, data: bytes) -> "HmmParameters":
        """The parameters that ``to_bytes`` wrote. Raises ``ValueError`` when the bytes are something else."""
        try:
            wire = msgspec.msgpack.decode(data, type=_Wire)
        except msgspec.DecodeError as error:
            raise ValueError(f"these bytes are no HMM parameters: {error}") from None
        shapes = _shapes(wire.states, wire.features)
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        if wire.version != _VERSION or len(wire.numbers) != 8 * sum(sizes.values()):
            raise ValueError(f"these bytes are no HMM parameters of version {_VERSION}")
        numbers, found, at = np.frombuffer(wire.numbers, dtype="<f8").astype(np.float64), {}, 0
        for name, shape in shapes.items():
            found[name] = numbers[at : at + sizes[name]].reshape(shape).copy()
            at += sizes[name]
        return cls(**found)

    def packed(self) -> Floats:
        """The parameters as the compiled filter takes them."""
        roots = self._inverse_roots()
        log_determinants = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
        log_norms = log_determinants - 0.5 * self.features * math.log(2.0 * math.pi)
        with np.errstate(divide="ignore"):  # a probability of 0 is a log of -inf, which the recursion understands
            log_start, log_transition = np.log(self.start), np.log(self.transition)
        parts = (self.low, self.high, self.center, self.scale, log_start, log_transition, self.means, roots, log_norms)
        return np.concatenate([[self.states, self.features], *(part.ravel() for part in parts)])

    def _inverse_roots(self) -> Floats:
        """``L^-1 (K, D, D)`` of ``covariance = L L'``."""
        for state, covariance in enumerate(self.covariances):
            asymmetry = float(np.abs(covariance - covariance.T).max())
            if not asymmetry <= _LARGEST_ASYMMETRY:
                raise ValueError(f"an HMM needs symmetric covariances, and that of state {state} is none")
        try:
            roots = np.linalg.cholesky(self.covariances)
        except np.linalg.LinAlgError:
            raise ValueError("an HMM needs positive definite covariances, and one of them is none") from None
        return np.linalg.solve(roots, np.broadcast_to(np.eye(self.features), roots.shape))


def _shapes(states: int, features: int) -> dict[str, tuple[int, ...]]:
    return {
        "start": (states,),
        "transition": (states, states),
        "means": (states, features),
        "covariances": (states, features, features),
        "center": (features,),
        "scale": (features,),
        "low": (features,),
        "high": (features,),
    }


# --- the recursion ---------------------------------------------------------------------------------------------------


@register_jitable
def _forward(state: Floats, states: int, params: Floats, start: int, transition: int, out: Floats) -> float:
    """One row: log densities in ``state[2 + K :]``, log filter in ``state[2 : 2 + K]``; returns its log likelihood."""
    densities = 2 + states
    for j in range(states):
        if state[0] == 0.0:
            prior = params[start + j]
        else:
            top = -math.inf
            for i in range(states):
                top = max(top, state[2 + i] + params[transition + i * states + j])
            prior = top
            if top > -math.inf:
                total = 0.0
                for i in range(states):
                    total += math.exp(state[2 + i] + params[transition + i * states + j] - top)
                prior = top + math.log(total)
        out[j] = prior + state[densities + j]
    top = -math.inf
    for j in range(states):
        top = max(top, out[j])
    total = 0.0
    for j in range(states):
        total += math.exp(out[j] - top)
    likelihood = top + math.log(total)
    for j in range(states):
        state[2 + j] = out[j] - likelihood
        out[j] = math.exp(state[2 + j])
    state[0] = 1.0
    state[1] += likelihood
    return likelihood


@register_jitable
def _densities(state: Floats, params: Floats, x: Floats) -> None:
    """Log densities of a row in each state, into ``state[2 + K : 2 + 2 K]``."""
    states, features = int(params[0]), int(params[1])
    means = 2 + 4 * features + states + states * states
    roots = means + states * features
    norms = roots + states * features * features
    row = 2 + 2 * states
    for d in range(features):
        clipped = min(max(x[d], params[2 + d]), params[2 + features + d])
        state[row + d] = (clipped - params[2 + 2 * features + d]) / params[2 + 3 * features + d]
    for k in range(states):
        square = 0.0
        for i in range(features):
            whitened = 0.0
            for j in range(i + 1):
                whitened += params[roots + (k * features + i) * features + j] * (
                    state[row + j] - params[means + k * features + j]
                )
            square += whitened * whitened
        state[2 + states + k] = params[norms + k] - 0.5 * square


@compiled(types.float64(_VECTOR, _VECTOR, _MATRIX, _MATRIX, types.int64))
def _filter_row(state: Floats, params: Floats, xs: Floats, ys: Floats, t: int) -> float:
    # state: rows seen (up to 1), log likelihood so far, log filter (K), log densities (K), standardised row (D)
    x, out = xs[t], ys[t]
    for value in x:
        if value != value:
            out[:] = math.nan
            return math.nan
    states, features = int(params[0]), int(params[1])
    _densities(state, params, x)
    start = 2 + 4 * features
    return _forward(state, states, params, start, start + states, out)


@compiled(types.void(_VECTOR, _VECTOR, _MATRIX, _MATRIX))
def _filter_rows(state: Floats, params: Floats, xs: Floats, ys: Floats) -> None:
    for t in range(xs.shape[0]):
        _filter_row(state, params, xs, ys, t)


@compiled(types.float64(_VECTOR, _VECTOR, _MATRIX, _MATRIX))
def _forward_rows(state: Floats, params: Floats, log_likelihoods: Floats, ys: Floats) -> float:
    # params: log start (K), log transition (K K)
    states = log_likelihoods.shape[1]
    for t in range(log_likelihoods.shape[0]):
        for j in range(states):
            state[2 + states + j] = log_likelihoods[t, j]
        _forward(state, states, params, 0, states, ys[t])
    return float(state[1])


# --- the filter ------------------------------------------------------------------------------------------------------


class HmmFilter:
    """The forward filter of one model, row by row or over many, with the state carried.

    A row with a NaN did not happen: it leaves the state as it is and its probabilities are NaN.
    """

    __slots__ = ("_packed", "_state", "parameters")

    def __init__(self, parameters: HmmParameters) -> None:
        self.parameters = parameters
        self._packed = parameters.packed()
        self._state: Floats = np.zeros(2 + 2 * parameters.states + parameters.features)

    @property
    def log_likelihood(self) -> float:
        """Of all rows so far."""
        return float(self._state[1])

    def push(self, row: Floats) -> Floats:
        """Take a raw row ``(D,)``; returns the filtered probabilities ``(K,)``."""
        if row.shape != (self.parameters.features,):
            raise ValueError(f"this HMM takes rows of {self.parameters.features} features, not {row.shape}")
        out = np.empty(self.parameters.states)
        _filter_row(self._state, self._packed, _writable(row[None, :]), out[None, :], 0)
        return out

    def scan(self, rows: Floats) -> Floats:
        """Take raw rows ``(T, D)``; returns the filtered probabilities ``(T, K)``, the same as ``push`` of each."""
        if rows.ndim != 2 or rows.shape[1] != self.parameters.features:
            raise ValueError(f"this HMM takes rows of {self.parameters.features} features, not {rows.shape}")
        ys = np.empty((rows.shape[0], self.parameters.states))
        _filter_rows(self._state, self._packed, _writable(rows), ys)
        return ys

    def dump(self) -> list[float]:
        """The state as plain numbers."""
        return list(self._state.tolist())

    def load(self, state: list[float]) -> None:
        """Continue from a dumped state."""
        self._state[:] = state


def forward_filter(log_likelihoods: ArrayLike, start: ArrayLike, transition: ArrayLike) -> tuple[Floats, float]:
    """Filtered probabilities ``(T, K)`` and the log likelihood, from log densities ``(T, K)`` of whatever emission.

    ``start`` is the distribution of the state of the first row: for a prior of the day before, pass
    ``predicted(prior, transition)``.
    """
    rows = _writable(log_likelihoods)
    if rows.ndim != 2:
        raise ValueError(f"a filter needs log densities of shape (rows, states), not {rows.shape}")
    with np.errstate(divide="ignore"):  # as in packed()
        logs = [np.log(np.asarray(each, dtype=np.float64)).ravel() for each in (start, transition)]
    if logs[0].size != rows.shape[1] or logs[1].size != rows.shape[1] ** 2:
        raise ValueError(f"a filter of {rows.shape[1]} states needs a start and a transition of that many")
    ys = np.empty(rows.shape)
    return ys, float(_forward_rows(np.zeros(2 + 2 * rows.shape[1]), np.concatenate(logs), rows, ys))


def predicted(probabilities: ArrayLike, transition: ArrayLike) -> Floats:
    """The state probabilities one bar ahead, ``p A``: ``(K,)`` and ``(K, K)`` to ``(K,)``."""
    p, a = np.asarray(probabilities, dtype=np.float64), np.asarray(transition, dtype=np.float64)
    ahead: Floats = (p[:, None] * a).sum(axis=0)
    return ahead


def _writable(values: ArrayLike) -> Floats:
    """As the compiled functions take them: a copy where the array lies otherwise, or may only be read."""
    array: Floats = np.require(values, np.float64, ["C", "W"])
    return array
