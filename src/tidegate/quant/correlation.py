"""How series move together: estimators of correlation, their error, and what they say about a portfolio.

Returns are ``(T, N)`` simple returns on one clock. A matrix is ``(N, N)``; a constant series has no correlation, so
its row and column are NaN, the diagonal included, never 0.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.columns import ZERO_SPREAD
from tidegate.quant.covariance import correlation_of, ewma_covariance
from tidegate.quant.risk_contributions import (
    RiskContributions,
    component_cvar,
    component_var,
    effective_bets,
    effective_principal_bets,
    risk_contributions,
)

Matrix = NDArray[np.float64]

_NORMAL_95 = 1.96


class Estimate(NamedTuple):
    """A figure and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True, slots=True, eq=False)
class RollingCorrelation:
    """Correlation over a trailing window with its 95 % Fisher interval; each ``(T,)``, NaN before the first window."""

    value: Matrix
    low: Matrix
    high: Matrix


class CorrelationAnalyzer:
    """The correlations and risk shares of ``N`` columns of returns: instruments, or strategies on the same clock."""

    def __init__(self, returns: ArrayLike) -> None:
        """Raises ``ValueError`` unless ``returns`` are ``(T, N)``, finite, with ``T`` of at least 3."""
        table = np.array(returns, dtype=np.float64)
        if table.ndim != 2 or len(table) < 3 or not table.shape[1]:
            raise ValueError(f"returns must be (T, N) with T of at least 3, not of shape {table.shape}")
        if not np.isfinite(table).all():
            row, column = np.argwhere(~np.isfinite(table))[0]
            raise ValueError(f"return {row} of column {column} is {table[row, column]}: correlate a common window")
        self._returns = table
        spread = table.std(axis=0, ddof=1)
        self._varies = spread > ZERO_SPREAD * np.maximum(1.0, np.abs(table.mean(axis=0)))

    def covariance(self) -> Matrix:
        """The sample covariance, divisor ``T - 1``."""
        demeaned = self._returns - self._returns.mean(axis=0)
        return np.asarray(demeaned.T @ demeaned / (len(demeaned) - 1))

    def pearson(self) -> Matrix:
        """Product-moment correlation."""
        return self._defined(self._pearson(self._returns))

    def spearman(self) -> Matrix:
        """Pearson of the ranks, ties sharing their mean rank: monotone dependence, blind to outliers' size."""
        from scipy.stats import rankdata

        return self._defined(self._pearson(rankdata(self._returns, axis=0)))

    def kendall(self) -> Matrix:
        """Kendall's tau-b. For a Gaussian copula the correlation is ``sin(pi tau / 2)``."""
        from scipy.stats import kendalltau

        size = self._returns.shape[1]
        matrix = np.eye(size)
        for i in range(size):
            for j in range(i):
                if self._varies[i] and self._varies[j]:
                    found = kendalltau(self._returns[:, i], self._returns[:, j]).statistic
                    matrix[i, j] = matrix[j, i] = float(found)
        return self._defined(matrix)

    def ewma(self, lam: float = 0.94) -> Matrix:
        """Exponentially weighted, mean taken as zero (RiskMetrics 1996)."""
        return self._defined(correlation_of(ewma_covariance(self._returns, lam))[0])

    def gerber(self, threshold: float = 0.5) -> Matrix:
        """Gerber's statistic: joint moves beyond ``threshold`` deviations, same way less opposite, over all periods in
        which at least one moved. The positive semi-definite form of Gerber et al. 2022; deviations have ``ddof=0``."""
        if not 0.0 < threshold < 1.0:
            raise ValueError(f"threshold must lie between 0 and 1 deviations, not {threshold!r}")
        reach = threshold * self._returns.std(axis=0)
        up = (self._returns >= reach).astype(np.float64)
        down = (self._returns <= -reach).astype(np.float64)
        neither = (1.0 - up) * (1.0 - down)
        moved = len(up) - neither.T @ neither
        agree = up - down
        return self._defined(np.divide(agree.T @ agree, moved, out=np.full_like(moved, np.nan), where=moved > 0.0))

    def dcc(self, a: float = 0.02, b: float = 0.96, residuals: ArrayLike | None = None) -> Matrix:
        """The path of Engle's dynamic conditional correlation, ``(T + 1, N, N)``; the last is the forecast.

        ``residuals`` ``(T, N)`` are the standardised ones of each series' own GARCH; left out, the returns less their
        mean over their deviation. See ``dcc_correlation``.
        """
        if residuals is None:
            table = self._returns - self._returns.mean(axis=0)
            spread = np.where(self._varies, table.std(axis=0, ddof=1), np.nan)
            residuals = table / spread
        return dcc_correlation(residuals, a, b)

    def rolling(self, first: int, second: int, window: int) -> RollingCorrelation:
        """Pearson of two columns over the trailing ``window`` rows, ``tanh(atanh r +- 1.96 / sqrt(window - 3))``.

        A window in which one series is constant is NaN. The interval supposes independent rows: overlapping returns
        make it too narrow.
        """
        if window < 4:
            raise ValueError(f"a rolling correlation needs a window of at least 4 rows, not {window}")
        value = np.full(len(self._returns), np.nan)
        if window <= len(self._returns):
            views = np.lib.stride_tricks.sliding_window_view(self._returns[:, [first, second]], window, axis=0)
            mean = views.mean(axis=2, keepdims=True)
            centred = views - mean
            spread = np.sqrt((centred**2).mean(axis=2))
            flat = (spread <= ZERO_SPREAD * np.maximum(1.0, np.abs(mean[..., 0]))).any(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                together = (centred[:, 0] * centred[:, 1]).mean(axis=1) / (spread[:, 0] * spread[:, 1])
            value[window - 1 :] = np.where(flat, np.nan, np.clip(together, -1.0, 1.0))
        low, high = fisher_interval(value, window)
        return RollingCorrelation(value, low, high)

    def exceedance(self, first: int, second: int, quantile: float) -> float:
        """Pearson over the periods in which both are at or below their ``quantile`` (at or above it, from 0.5 on).

        Even a Gaussian pair has a lower exceedance correlation than its correlation: compare with that, not with zero.
        NaN with fewer than 4 such periods. Source: Longin & Solnik 2001.
        """
        pair = self._returns[:, [first, second]]
        level = np.quantile(pair, _inside("quantile", quantile), axis=0)
        chosen = pair[(pair <= level).all(axis=1) if quantile < 0.5 else (pair >= level).all(axis=1)]
        return float(CorrelationAnalyzer(chosen).pearson()[0, 1]) if len(chosen) > 3 else math.nan

    def tail_dependence(self, first: int, second: int, u: float = 0.05) -> Estimate:
        """``P(U < u | V < u)`` of the ranks: how often one falls when the other does, with its standard error.

        The error is the binomial one over the ``u T`` periods of the tail. Independence gives ``u``, not 0. A constant
        series, or a tail of less than one period, is NaN.
        """
        _inside("u", u)
        rows = len(self._returns)
        days = math.floor(u * rows)
        if days < 1 or not (self._varies[first] and self._varies[second]):
            return Estimate(math.nan, math.nan)
        worst = [set(np.argsort(self._returns[:, column], kind="stable")[:days].tolist()) for column in (first, second)]
        share = len(worst[0] & worst[1]) / days
        return Estimate(share, math.sqrt(share * (1.0 - share) / days))

    def denoised(self) -> Matrix:
        """Pearson with the eigenvalues below the Marchenko-Pastur edge ``(1 + sqrt(N/T))^2`` put to their average.

        The trace is kept and the diagonal set back to 1. Source: Laloux et al. 1999; Lopez de Prado 2020.
        """
        correlation = self.pearson()
        live = np.flatnonzero(self._varies)
        if not live.size:
            return correlation
        block = np.ix_(live, live)
        values, vectors = np.linalg.eigh(correlation[block])
        noise = values <= (1.0 + math.sqrt(live.size / len(self._returns))) ** 2
        values[noise] = values[noise].mean() if noise.any() else 0.0
        clean = vectors * values @ vectors.T
        deviation = np.sqrt(np.diag(clean))
        clean = clean / np.outer(deviation, deviation)
        np.fill_diagonal(clean, 1.0)
        correlation[block] = 0.5 * (clean + clean.T)
        return correlation

    def denoised_covariance(self) -> Matrix:
        """``denoised`` between the sample deviations (``ddof=1``)."""
        deviation = self._returns.std(axis=0, ddof=1)
        return np.asarray(self.denoised() * np.outer(deviation, deviation))

    def absorption_ratio(self, components: int | None = None) -> float:
        """The share of the variance in the first ``components`` (a fifth of ``N``, at least one, when left out).

        NaN without variance. Near 1 everything hangs together. Source: Kritzman et al. 2011.
        """
        size = self._returns.shape[1]
        count = max(1, size // 5) if components is None else components
        if not 1 <= count <= size:
            raise ValueError(f"components must lie between 1 and {size}, not {components}")
        values = np.maximum(np.linalg.eigvalsh(self.covariance()), 0.0)
        return float(values[-count:].sum() / values.sum()) if self._varies.any() else math.nan

    def risk(self, weights: ArrayLike) -> RiskContributions:
        """Marginal, component and percent risk of ``weights`` ``(N,)`` under the sample covariance."""
        return risk_contributions(weights, self.covariance())

    def component_var(self, weights: ArrayLike, z: float) -> Matrix:
        """``z`` times the component risks."""
        return component_var(weights, self.covariance(), z)

    def component_cvar(self, weights: ArrayLike, alpha: float) -> Matrix:
        """The historical CVaR of ``weights`` by symbol."""
        return component_cvar(self._returns, weights, alpha)

    def effective_bets(self, weights: ArrayLike, *, principal: bool = False) -> float:
        """``exp`` of the entropy of the risk shares; with ``principal`` those of uncorrelated components."""
        if principal:
            return effective_principal_bets(weights, self.covariance())
        return effective_bets(self.risk(weights).percent)

    def _pearson(self, table: Matrix) -> Matrix:
        centred = table - table.mean(axis=0)
        length = np.sqrt((centred**2).sum(axis=0))
        centred = centred / np.where(self._varies, length, 1.0)
        matrix = np.clip(centred.T @ centred, -1.0, 1.0)
        np.fill_diagonal(matrix, 1.0)
        return np.asarray(0.5 * (matrix + matrix.T))

    def _defined(self, matrix: Matrix) -> Matrix:
        matrix[~self._varies, :] = np.nan
        matrix[:, ~self._varies] = np.nan
        return matrix


def fisher_interval(correlation: ArrayLike, observations: int) -> tuple[Matrix, Matrix]:
    """The 95 % interval ``tanh(atanh(r) +- 1.96 / sqrt(n - 3))``, elementwise; NaN with 3 observations or fewer.

    At ``|r| = 1`` both ends are ``r``. Source: Fisher 1921.
    """
    value = np.asarray(correlation, dtype=np.float64)
    if observations <= 3:
        return np.full_like(value, np.nan), np.full_like(value, np.nan)
    if (np.abs(value) > 1.0).any():
        raise ValueError("a correlation lies between -1 and 1")
    reach = _NORMAL_95 / math.sqrt(observations - 3)
    with np.errstate(divide="ignore"):
        middle = np.arctanh(value)
    return np.asarray(np.tanh(middle - reach)), np.asarray(np.tanh(middle + reach))


def dcc_correlation(residuals: ArrayLike, a: float, b: float, *, target: ArrayLike | None = None) -> Matrix:
    """Dynamic conditional correlations ``(T + 1, N, N)``: entry ``t`` is known before residual ``t``.

    1. ``Q_0`` is ``target``, or the correlation of all residuals (a fit over the sample: give a ``target`` from the
       past where nothing may look ahead).
    2. ``Q_{t+1} = (1 - a - b) target + a z_t z_t' + b Q_t``; ``R = diag(Q)^-1/2 Q diag(Q)^-1/2``.

    ``residuals`` are standardised, ``(T, N)``; a column with a NaN makes its row and column NaN. Raises ``ValueError``
    unless ``a, b >= 0`` and ``a + b < 1``. Source: Engle 2002.
    """
    table = np.asarray(residuals, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"residuals must be (T, N), not of shape {table.shape}")
    if not (a >= 0.0 and b >= 0.0 and a + b < 1.0):
        raise ValueError(f"dcc needs a and b of at least 0 with a sum below 1, not {a!r} and {b!r}")
    base = correlation_of(table.T @ table / len(table))[0] if target is None else np.asarray(target, dtype=np.float64)
    if base.shape != (table.shape[1],) * 2:
        raise ValueError(f"target must be ({table.shape[1]}, {table.shape[1]}), not of shape {base.shape}")
    path = np.empty((len(table) + 1, *base.shape))
    current = base.copy()
    for t in range(len(table) + 1):
        path[t] = correlation_of(current)[0]
        if t < len(table):
            current = (1.0 - a - b) * base + a * np.outer(table[t], table[t]) + b * current
    return path


def _inside(name: str, value: float) -> float:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must lie between 0 and 1, not {value!r}")
    return value
