"""Who carries the risk of a portfolio: marginal, component and percent risk, component VaR and CVaR.

Weights are ``(N,)`` fractions of equity, shorts negative; positions in money work as well, and then so do the figures.
Component figures sum to the portfolio's. Undefined is NaN: a portfolio without risk has no shares of it.
Source: Jorion, Value at Risk, 3rd ed., chapter 7; Tasche 1999 (Euler's theorem); Meucci 2009 (number of bets).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.columns import ZERO_SPREAD

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RiskContributions:
    """``volatility`` of the portfolio per period; per symbol ``(N,)``: ``marginal`` ``(Sw)_i / sigma``, ``component``
    ``w_i (Sw)_i / sigma``, ``percent`` (a fraction) ``component / sigma``; ``diversification_ratio``
    ``sum |w_i| sigma_i / sigma``."""

    volatility: float
    marginal: Vector
    component: Vector
    percent: Vector
    diversification_ratio: float


def risk_contributions(weights: ArrayLike, covariance: ArrayLike) -> RiskContributions:
    """Split the volatility ``sqrt(w'Sw)`` by Euler's theorem. All NaN where there is no volatility."""
    weight, matrix = _pair(weights, covariance)
    through = matrix @ weight
    variance = float(weight @ through)
    deviation = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    alone = float(np.abs(weight) @ deviation)
    if not variance > (ZERO_SPREAD * alone) ** 2:
        none = np.full(weight.size, np.nan)
        return RiskContributions(math.nan if math.isnan(variance) else 0.0, none, none, none, math.nan)
    volatility = math.sqrt(variance)
    marginal = through / volatility
    component = weight * marginal
    return RiskContributions(volatility, marginal, component, component / volatility, alone / volatility)


def component_var(weights: ArrayLike, covariance: ArrayLike, z: float) -> Vector:
    """``z`` times the component risks ``(N,)``; ``z`` is positive (1.645 for 5 %), the mean is taken as zero."""
    return z * risk_contributions(weights, covariance).component


def component_cvar(returns: ArrayLike, weights: ArrayLike, alpha: float) -> Vector:
    """Minus each symbol's mean contribution ``w_i r_i`` on the tail days ``(N,)``; sums to the historical CVaR.

    ``returns`` are ``(T, N)``. Tail days are those on which today's weights would have returned their ``alpha``
    quantile or less. NaN where a return is missing or ``alpha T < 1``. Raises ``ValueError`` unless
    ``0 < alpha < 0.5``.
    """
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha is the probability of the tail, between 0 and 0.5, not {alpha!r}")
    table, weight = np.asarray(returns, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if table.ndim != 2 or weight.shape != (table.shape[1],):
        raise ValueError(f"returns must be (T, N) with N weights, not of shapes {table.shape} and {weight.shape}")
    if alpha * len(table) < 1.0 or not np.isfinite(table).all():
        return np.full(weight.size, np.nan)
    portfolio = table @ weight
    tail = portfolio <= np.quantile(portfolio, alpha)
    return np.asarray(-(table[tail] * weight).mean(axis=0))


def effective_bets(percent: ArrayLike) -> float:
    """``exp`` of the entropy of the risk shares: ``N`` when all carry alike, 1 when one carries all.

    A hedge has a negative share, and an entropy of negative shares is none: NaN.
    """
    share = np.asarray(percent, dtype=np.float64)
    if not share.size or not np.isfinite(share).all() or share.min() < 0.0 or not share.sum() > 0.0:
        return math.nan
    share = share[share > 0.0] / share.sum()
    return math.exp(-float(share @ np.log(share)))


def effective_principal_bets(weights: ArrayLike, covariance: ArrayLike) -> float:
    """``effective_bets`` over the principal components: uncorrelated bets, so long-short books have a figure too.

    The share of component ``k`` is ``(e_k'w)^2 lambda_k / w'Sw``. Source: Meucci 2009, Managing diversification.
    """
    weight, matrix = _pair(weights, covariance)
    if not np.isfinite(matrix).all():
        return math.nan
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return effective_bets((vectors.T @ weight) ** 2 * np.maximum(values, 0.0))


def _pair(weights: ArrayLike, covariance: ArrayLike) -> tuple[Vector, Vector]:
    weight, matrix = np.asarray(weights, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if weight.ndim != 1 or matrix.shape != (weight.size, weight.size):
        raise ValueError(
            f"a covariance must be (N, N) beside N weights, not of shape {matrix.shape} and {weight.shape}"
        )
    return weight, matrix
