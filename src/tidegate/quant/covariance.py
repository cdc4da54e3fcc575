"""Covariance matrices: shrunk, exponentially weighted, and made positive semi-definite.

Returns are ``(T, N)`` simple returns per period; a matrix is ``(N, N)`` in squared returns per period. Shrinkage is
where estimators earn their keep: with as many symbols as periods the sample matrix has directions of no risk at all,
and an optimiser walks straight into them. Constant correlation is the best simple choice for a market that one factor
drives; the nonlinear ones pay off when ``N / T`` is above 0.2.

Divisors, one per source: the sample matrix has ``T - 1``; Ledoit-Wolf to the identity and OAS are scikit-learn's and
divide by ``T``; the nonlinear ones are Ledoit and Wolf's own and divide by ``T - 1``; constant correlation keeps the
sample diagonal and takes its other moments by ``T``, as PyPortfolioOpt does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]

RELATIVE_FLOOR = 1e-12
"""Eigenvalues below this share of the largest one are rounding noise."""

_SYMMETRIC = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class ShrunkCovariance:
    """A shrunk matrix ``(N, N)`` and its intensity: 0 is the sample matrix, 1 the target alone."""

    matrix: Matrix
    shrinkage: float


def sample_covariance(returns: ArrayLike) -> Matrix:
    """The sample covariance of ``(T, N)`` returns, divisor ``T - 1``."""
    table = _table(returns)
    demeaned = table - table.mean(axis=0)
    return _symmetric(demeaned.T @ demeaned / (len(table) - 1))


def ledoit_wolf(returns: ArrayLike) -> ShrunkCovariance:
    """Shrinkage to a multiple of the identity, by scikit-learn, divisor ``T``. Source: Ledoit & Wolf 2004."""
    from sklearn.covariance import ledoit_wolf as fit

    matrix, shrinkage = fit(_table(returns))
    return ShrunkCovariance(_symmetric(np.asarray(matrix)), float(shrinkage))


def oracle_approximating(returns: ArrayLike) -> ShrunkCovariance:
    """OAS, by scikit-learn, divisor ``T``. Source: Chen, Wiesel, Eldar & Hero 2010."""
    from sklearn.covariance import oas as fit

    matrix, shrinkage = fit(_table(returns))
    return ShrunkCovariance(_symmetric(np.asarray(matrix)), float(shrinkage))


def constant_correlation(returns: ArrayLike, *, moments_ddof: Literal[0, 1] = 0) -> ShrunkCovariance:
    """Shrinkage to equal correlations, ``r_bar sqrt(s_ii s_jj)``, the variances kept.

    The intensity is ``(pi - rho) / gamma / m``: how much the sample entries wander, less how much of that the target
    shares, over how wrong the target is. ``moments_ddof`` sets ``m = T - moments_ddof``; 0 is PyPortfolioOpt's choice
    and ours, 1 that of the authors' published code. A constant series raises ``ValueError``: it has no correlation.
    Source: Ledoit & Wolf 2003, "Honey, I shrunk the sample covariance matrix".
    """
    table = _table(returns)
    sample = sample_covariance(table)
    size = len(sample)
    variance = np.diag(sample).copy()
    if (flat := np.flatnonzero(variance <= RELATIVE_FLOOR * variance.max())).size or not variance.max():
        raise ValueError(f"constant correlation needs series that vary; column {flat[0] if flat.size else 0} does not")
    if size == 1:
        return ShrunkCovariance(sample, 0.0)
    deviation = np.sqrt(variance)
    mean_correlation = float(((sample / np.outer(deviation, deviation)).sum() - size) / (size * (size - 1)))
    target = mean_correlation * np.outer(deviation, deviation)
    np.fill_diagonal(target, variance)

    moments = len(table) - moments_ddof
    centred = table - table.mean(axis=0)
    second = centred.T @ centred / moments
    wander = (centred**2).T @ centred**2 / moments - 2.0 * second * sample + sample**2
    shared = (centred**3).T @ centred / moments - np.diag(second)[:, None] * sample
    shared += variance[:, None] * (sample - second)
    np.fill_diagonal(shared, 0.0)
    rho = np.trace(wander) + mean_correlation * float((np.outer(1.0 / deviation, deviation) * shared).sum())
    gamma = float(((sample - target) ** 2).sum())
    intensity = (float(wander.sum()) - float(rho)) / gamma / moments if gamma > 0.0 else 0.0
    shrinkage = min(1.0, max(0.0, intensity))
    return ShrunkCovariance(_symmetric(shrinkage * target + (1.0 - shrinkage) * sample), shrinkage)


def nonlinear_shrinkage(
    returns: ArrayLike, *, kind: Literal["quadratic", "geometric", "linear"] = "quadratic"
) -> Matrix:
    """Each eigenvalue shrunk by itself: QIS (``quadratic``), GIS or LIS, divisor ``T - 1``.

    1. ``theta`` is the smoothed Hilbert transform of the inverse eigenvalues, with its conjugate, at bandwidth
       ``min(c^2, 1/c^2)^0.35 / N^0.35``, ``c = N / (T - 1)``.
    2. Quadratic: the inverse eigenvalue is ``(1-c)^2 v + 2c(1-c) v theta + c^2 v |theta|^2`` and the trace is kept;
       with more symbols than periods the empty directions share one value.
    3. Linear: ``(1-c) v + 2c v theta``, at least the smallest ``v``. Geometric: the geometric mean of both.

    Linear and geometric need ``N < T - 1`` and raise ``ValueError`` otherwise. Source: Ledoit & Wolf 2022, "Quadratic
    shrinkage for large covariance matrices"; Ledoit & Wolf 2021, "Shrinkage estimation of large covariance matrices:
    keep it simple, statistician?".
    """
    sample = sample_covariance(returns)
    size, periods = len(sample), len(_table(returns)) - 1
    if kind != "quadratic" and size >= periods:
        raise ValueError(
            f"{kind} shrinkage needs fewer symbols than periods - 1, not {size} and {periods}; use quadratic"
        )
    ratio = size / periods
    values, vectors = np.linalg.eigh(sample)
    filled = values[max(0, size - periods) :]
    if filled[0] <= RELATIVE_FLOOR * values[-1]:
        raise ValueError("nonlinear shrinkage needs series that differ; one is constant or a mix of the others")
    inverse = 1.0 / filled
    theta, conjugate = _hilbert(inverse, min(ratio**2, 1.0 / ratio**2) ** 0.35 / size**0.35)
    squared = theta**2 + conjugate**2
    if size <= periods:
        quadratic = 1.0 / (
            (1.0 - ratio) ** 2 * inverse + 2.0 * ratio * (1.0 - ratio) * inverse * theta + ratio**2 * inverse * squared
        )
    else:
        empty = 1.0 / ((ratio - 1.0) * inverse.mean())
        quadratic = np.concatenate((np.full(size - periods, empty), 1.0 / (inverse * squared)))
    if kind == "quadratic":
        shrunk = quadratic * (values.sum() / quadratic.sum())
    else:
        linear = np.maximum((1.0 - ratio) * inverse + 2.0 * ratio * inverse * theta, inverse.min())
        shrunk = 1.0 / linear if kind == "linear" else np.sqrt(quadratic / linear)
    return _symmetric(vectors * shrunk @ vectors.T)


def _hilbert(inverse: Matrix, bandwidth: float) -> tuple[Matrix, Matrix]:
    column = inverse[:, None]
    apart = column - inverse[None, :]
    below = apart**2 + bandwidth**2 * column**2
    return (column * apart / below).mean(axis=0), (column * column * bandwidth / below).mean(axis=0)


def pairwise_covariance(returns: ArrayLike, *, min_periods: int = 30) -> Matrix:
    """Covariance of ``(T, N)`` returns with gaps (NaN): each pair over the periods that both have, then projected.

    The repair for symbols that were listed at different times. Pairs of fewer than ``min_periods`` common periods
    raise ``ValueError``: drop the younger symbol. The result is positive semi-definite (``nearest_psd``) and keeps
    each symbol's own variance.
    """
    table = np.asarray(returns, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"returns must be (T, N), not of shape {table.shape}")
    there = np.isfinite(table)
    count = there.T.astype(np.float64) @ there.astype(np.float64)
    if (short := np.argwhere(count < max(2, min_periods))).size:
        first, second = short[0]
        raise ValueError(
            f"symbols {first} and {second} have {int(count[first, second])} periods in common, not {min_periods}"
        )
    filled = np.where(there, table, 0.0)
    mean = filled.T @ there / count  # of the row's symbol, over the pair's periods
    product = filled.T @ filled
    return nearest_psd((product - count * mean * mean.T) / (count - 1.0))


def correlation_of(covariance: ArrayLike) -> tuple[Matrix, Matrix]:
    """Split ``(N, N)`` covariance into correlation ``(N, N)`` and volatilities ``(N,)``; NaN where a variance is 0."""
    matrix = np.asarray(covariance, dtype=np.float64)
    deviation = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    scale = np.where(deviation > 0.0, deviation, np.nan)
    correlation = np.clip(matrix / np.outer(scale, scale), -1.0, 1.0)
    np.fill_diagonal(correlation, np.where(deviation > 0.0, 1.0, np.nan))
    return correlation, deviation


def clip_eigenvalues(covariance: ArrayLike, *, relative_floor: float = RELATIVE_FLOOR) -> Matrix:
    """Symmetrise, and lift each eigenvalue to at least ``relative_floor`` times the largest.

    The repair for singular and near-singular matrices. A matrix that a Cholesky factorisation accepts comes back
    symmetrised and otherwise untouched. Raises ``ValueError`` on what is not square and finite.
    """
    matrix = _square(covariance)
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        floor = relative_floor * max(float(values[-1]), 0.0)
        return _symmetric(vectors * np.maximum(values, floor) @ vectors.T)
    return matrix


def nearest_psd(covariance: ArrayLike, *, iterations: int = 200, tolerance: float = 1e-10) -> Matrix:
    """The nearest positive semi-definite matrix with the same variances.

    1. Scale to correlations; 2. in turn project to the semi-definite cone (with Dykstra's correction) and set the
    diagonal to 1, until both agree; 3. mix in the identity by what is still negative; 4. scale back. A matrix that is
    semi-definite already comes back symmetrised. A variance that is 0 has a row of 0. Source: Higham 2002.
    """
    matrix = _square(covariance)
    variance = np.diag(matrix)
    if variance.min() < 0.0:
        raise ValueError(f"variance {int(variance.argmin())} is negative: {variance.min()}")
    live = variance > 0.0
    deviation = np.sqrt(variance[live])
    if not live.any():
        return np.zeros_like(matrix)
    current = matrix[np.ix_(live, live)] / np.outer(deviation, deviation)
    if not _semi_definite(current):
        correction = np.zeros_like(current)
        for _ in range(iterations):
            before = current
            reduced = current - correction
            values, vectors = np.linalg.eigh(reduced)
            projected = _symmetric(vectors * np.maximum(values, 0.0) @ vectors.T)
            correction = projected - reduced
            current = projected.copy()
            np.fill_diagonal(current, 1.0)
            if float(np.abs(current - before).max()) <= tolerance:
                break
        lowest = min(0.0, float(np.linalg.eigvalsh(current)[0]))
        current = (current - lowest * np.eye(len(current))) / (1.0 - lowest)
    result = np.zeros_like(matrix)
    result[np.ix_(live, live)] = current * np.outer(deviation, deviation)
    return _symmetric(result)


def _semi_definite(correlation: Matrix) -> bool:
    """True when nothing but rounding is negative. Cholesky tells in a fraction of the time of the eigenvalues."""
    try:
        np.linalg.cholesky(correlation + RELATIVE_FLOOR * len(correlation) * np.eye(len(correlation)))
    except np.linalg.LinAlgError:
        return False
    return True


def half_life_to_lambda(half_life_bars: float) -> float:
    """The decay per bar after which half of the weight is gone in ``half_life_bars``: ``2 ** (-1 / half_life)``."""
    if not half_life_bars > 0.0:
        raise ValueError(f"a half-life must be positive, not {half_life_bars!r}")
    return math.exp2(-1.0 / half_life_bars)


def ewma_covariance(returns: ArrayLike, lam: float = 0.94, *, correlation_lam: float | None = None) -> Matrix:
    """``EwmaCovariance`` over the ``(T, N)`` rows: weights ``lam ** (T-1-t)`` that sum to one, mean taken as zero."""
    table = np.asarray(returns, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"returns must be (T, N), not of shape {table.shape}")
    fold = EwmaCovariance(table.shape[1], lam, correlation_lam=correlation_lam, min_periods=1)
    for row in table:
        fold.push(row)
    return fold.matrix()


class EwmaCovariance:
    """An exponentially weighted covariance that takes one row of returns per bar.

    1. Each pair keeps the decayed sum of ``r_i r_j`` and of the weights, over the bars on which both symbols have a
       return; a symbol that is not listed yet (NaN) costs the others nothing.
    2. The variances decay by ``lam``, the correlations by ``correlation_lam``: ``S = D C D``, volatilities fast and
       correlations slow. Left out, both decay alike and ``S`` is the plain weighted sum.
    3. ``matrix()`` leaves NaN in rows and columns of symbols seen on fewer than ``min_periods`` bars, and in pairs
       never seen together it takes 0 correlation; the rest is projected to positive semi-definite where different
       listing dates have broken that.

    The mean is taken as zero. State is plain numbers (``dump``, ``load``); where the rows are cut does not matter.
    Source: RiskMetrics Technical Document 1996.
    """

    def __init__(
        self, symbols: int, lam: float = 0.94, *, correlation_lam: float | None = None, min_periods: int = 20
    ) -> None:
        if symbols < 1:
            raise ValueError(f"a covariance needs at least one symbol, not {symbols}")
        for name, value in (("lam", lam), ("correlation_lam", lam if correlation_lam is None else correlation_lam)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} must lie between 0 and 1, not {value!r}")
        self._lam = lam
        self._slow = lam if correlation_lam is None else correlation_lam
        self._min_periods = max(1, min_periods)
        self._seen = np.zeros(symbols)
        self._variance = np.zeros((2, symbols))  # decayed sum of squares, and of weights
        self._product = np.zeros((2, symbols, symbols))  # decayed sum of products, and of weights

    def push(self, returns: ArrayLike) -> None:
        """Take the returns ``(N,)`` of one bar; NaN for a symbol without one. Infinite returns raise ``ValueError``."""
        row = np.asarray(returns, dtype=np.float64)
        if row.shape != self._seen.shape:
            raise ValueError(f"expected {self._seen.size} returns, not an array of shape {row.shape}")
        if np.isinf(row).any():
            raise ValueError(f"return {int(np.isinf(row).argmax())} is infinite")
        there = ~np.isnan(row)
        value = np.where(there, row, 0.0)
        both = np.outer(there, there)
        self._seen += there
        _decay(self._variance, self._lam, there, value * value)
        _decay(self._product, self._slow, both, np.outer(value, value))

    def matrix(self) -> Matrix:
        """The covariance ``(N, N)`` per bar; NaN for symbols with too few bars."""
        known = self._seen >= self._min_periods
        result = np.full(self._product.shape[1:], np.nan)
        if not known.any():
            return result
        block = np.ix_(known, known)
        total, weight = self._product[0][block], self._product[1][block]
        slow = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0.0)
        if self._slow != self._lam:
            fast = np.sqrt(self._variance[0][known] / self._variance[1][known])
            scale = np.sqrt(np.diag(slow))
            ratio = np.divide(fast, scale, out=np.zeros_like(fast), where=scale > 0.0)
            slow = slow * np.outer(ratio, ratio)
        result[block] = nearest_psd(slow)
        return result

    def dump(self) -> dict[str, Any]:
        """The state as lists of plain numbers."""
        return {
            "seen": self._seen.tolist(),
            "variance": self._variance.ravel().tolist(),
            "product": self._product.ravel().tolist(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``dump`` of a covariance of as many symbols; another size raises ``ValueError``."""
        for name, target in (("seen", self._seen), ("variance", self._variance), ("product", self._product)):
            values = np.asarray(state[name], dtype=np.float64)
            if values.size != target.size:
                raise ValueError(f"{name} has {values.size} numbers, not {target.size}: a dump of other symbols")
            target[...] = values.reshape(target.shape)


def _decay(pair: Matrix, lam: float, there: NDArray[np.bool_], value: Matrix) -> None:
    keep = np.where(there, lam, 1.0)  # a bar without the symbol neither ages nor feeds its figures
    pair[0] = keep * pair[0] + np.where(there, (1.0 - lam) * value, 0.0)
    pair[1] = keep * pair[1] + np.where(there, 1.0 - lam, 0.0)


def _table(returns: ArrayLike) -> Matrix:
    table = np.asarray(returns, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or not table.shape[1]:
        raise ValueError(f"returns must be (T, N) with T of at least 2, not of shape {table.shape}")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"return {row} of symbol {column} is {table[row, column]}; pairwise_covariance takes gaps")
    return table


def _square(covariance: ArrayLike) -> Matrix:
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"a covariance must be (N, N), not of shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(f"covariance {row}, {column} is {matrix[row, column]}: leave out symbols without one")
    if float(np.abs(matrix - matrix.T).max()) > _SYMMETRIC * max(float(np.abs(matrix).max()), math.ulp(0.0)):
        raise ValueError("a covariance must be symmetric")
    return _symmetric(matrix)


def _symmetric(matrix: Matrix) -> Matrix:
    return 0.5 * (matrix + matrix.T)
