"""Weights without forecasts, and forecasts blended with views.

Weights are ``(N,)`` and sum to one; covariances ``(N, N)`` per period. With coins that all move together these weights
lie near inverse volatility: they spread risk, they do not find return.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.covariance import clip_eigenvalues, correlation_of

Vector = NDArray[np.float64]

_SWEEPS = 10_000
_EQUAL = 1e-12


def inverse_volatility(covariance: ArrayLike) -> Vector:
    """Weights proportional to ``1 / sigma_i``. A variance of 0 raises ``ValueError``."""
    weights = 1.0 / np.sqrt(np.diag(_with_risk(covariance, "inverse volatility")))
    return np.asarray(weights / weights.sum())


def minimum_variance_weights(covariance: ArrayLike) -> Vector:
    """``S^-1 1 / 1'S^-1 1``: the least risky fully invested portfolio, shorts allowed.

    A singular matrix has its eigenvalues lifted first, and its answer is as good as that lift.
    """
    matrix = clip_eigenvalues(covariance)
    if not np.diag(matrix).max() > 0.0:
        raise ValueError("minimum variance needs a covariance with some risk in it; all variances are 0")
    solution = np.linalg.solve(matrix / np.diag(matrix).max(), np.ones(len(matrix)))
    return np.asarray(solution / solution.sum())


def equal_risk_contribution(covariance: ArrayLike, budgets: ArrayLike | None = None) -> Vector:
    """Long-only weights whose risk shares ``w_i (Sw)_i / w'Sw`` are the ``budgets`` (equal when left out).

    1. Minimise ``1/2 x'Sx - sum b_i ln x_i``, convex, one coordinate after another: each is the positive root of
       ``S_ii x^2 + c x - b_i`` with ``c`` what the others add to ``(Sx)_i``.
    2. Stop when every ``x_i (Sx)_i`` is its budget; divide by the sum.

    Raises ``ValueError`` on a variance of 0 and on budgets that are not positive. Source: Griveau-Billion, Richard &
    Roncalli 2013; Spinu 2013.
    """
    matrix = _with_risk(covariance, "equal risk contribution")
    size = len(matrix)
    share = np.full(size, 1.0 / size) if budgets is None else np.asarray(budgets, dtype=np.float64)
    if share.shape != (size,) or not np.isfinite(share).all() or share.min() <= 0.0:
        raise ValueError(f"risk budgets must be {size} positive numbers")
    share = share / share.sum()
    deviation = np.sqrt(np.diag(matrix))
    correlation = matrix / np.outer(deviation, deviation)  # unit variances: the roots are of like size
    weights = np.sqrt(share)
    for _ in range(_SWEEPS):
        for i in range(size):
            others = float(correlation[i] @ weights) - correlation[i, i] * weights[i]
            weights[i] = 0.5 * (np.sqrt(others * others + 4.0 * share[i]) - others)
        if float(np.abs(weights * (correlation @ weights) - share).max()) <= _EQUAL:
            break
    else:
        raise ValueError("equal risk contribution did not converge: the covariance is too near to singular; shrink it")
    weights = weights / deviation
    return np.asarray(weights / weights.sum())


def hierarchical_risk_parity(covariance: ArrayLike, *, leaves: Literal["tree", "optimal"] = "tree") -> Vector:
    """Long-only weights split down a tree of likeness.

    1. Distance ``sqrt((1 - rho) / 2)``, single linkage.
    2. Order the symbols as the tree's leaves; ``optimal`` also turns its branches until neighbours are alike.
    3. Halve the ordered list again and again; each half gets the share that the other's variance earns it, the
       variance of a half being that of its inverse-variance portfolio.

    ``tree`` is the 2016 paper and PyPortfolioOpt, ``optimal`` is skfolio. A variance of 0 raises ``ValueError``.
    Source: Lopez de Prado 2016, Building diversified portfolios that outperform out of sample.
    """
    matrix = _with_risk(covariance, "hierarchical risk parity")
    weights = np.ones(len(matrix))
    if len(matrix) == 1:
        return weights
    stack = [_leaves(matrix, optimal=leaves == "optimal")]
    while stack:
        group = stack.pop()
        first, second = group[: len(group) // 2], group[len(group) // 2 :]
        risk, other = _cluster_variance(matrix, first), _cluster_variance(matrix, second)
        weights[first] *= other / (risk + other)
        weights[second] *= risk / (risk + other)
        stack += [half for half in (first, second) if len(half) > 1]
    return weights


def _leaves(matrix: Vector, *, optimal: bool) -> NDArray[np.int64]:
    from scipy.cluster.hierarchy import leaves_list, linkage

    correlation, _ = correlation_of(matrix)
    apart = np.sqrt(np.clip((1.0 - correlation) / 2.0, 0.0, 1.0))
    pairs = apart[np.triu_indices(len(apart), 1)]
    return np.asarray(leaves_list(linkage(pairs, "single", optimal_ordering=optimal)), dtype=np.int64)


def _cluster_variance(matrix: Vector, members: NDArray[np.int64]) -> float:
    block = matrix[np.ix_(members, members)]
    weights = 1.0 / np.diag(block)
    weights = weights / weights.sum()
    return float(weights @ block @ weights)


def black_litterman(
    covariance: ArrayLike,
    market_weights: ArrayLike,
    picks: ArrayLike,
    views: ArrayLike,
    *,
    risk_aversion: float,
    tau: float = 0.05,
    view_variance: ArrayLike | None = None,
) -> Vector:
    """Posterior mean returns ``(N,)`` from the returns that the market's weights imply and ``K`` views.

    1. Prior ``pi = risk_aversion S w_market``, with covariance ``tau S``.
    2. Views ``picks mu = views`` (``(K, N)`` and ``(K,)``, per period), with variances ``view_variance`` ``(K,)``, or
       those of the prior along the picks, ``diag(P tau S P')``.
    3. ``pi + tau S P' (P tau S P' + Omega)^-1 (views - P pi)``.

    Source: Black & Litterman 1992; He & Litterman 1999.
    """
    matrix = clip_eigenvalues(covariance)
    prior = risk_aversion * matrix @ np.asarray(market_weights, dtype=np.float64)
    pick = np.asarray(picks, dtype=np.float64)
    wanted = np.asarray(views, dtype=np.float64)
    if pick.ndim != 2 or pick.shape != (wanted.size, len(matrix)):
        raise ValueError(f"picks must be ({wanted.size}, {len(matrix)}), not of shape {pick.shape}")
    if not wanted.size:
        return np.asarray(prior)
    along = pick @ (tau * matrix) @ pick.T
    doubt = np.diag(along).copy() if view_variance is None else np.asarray(view_variance, dtype=np.float64)
    if doubt.shape != wanted.shape or not (doubt > 0.0).all():
        raise ValueError(f"view_variance must be {wanted.size} positive numbers")
    return np.asarray(prior + tau * matrix @ pick.T @ np.linalg.solve(along + np.diag(doubt), wanted - pick @ prior))


def _with_risk(covariance: ArrayLike, what: str) -> Vector:
    matrix = clip_eigenvalues(covariance)
    variance = np.diag(np.asarray(covariance, dtype=np.float64))
    if variance.min() <= 1e-12 * variance.max():
        raise ValueError(f"{what} needs assets that vary; asset {int(variance.argmin())} does not")
    return matrix
