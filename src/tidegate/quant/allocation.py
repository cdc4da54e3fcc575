"""How to divide capital by what has been earned: long-only weights from forecasts, and learning day by day.

Weights are ``(N,)``, at least 0, and sum to one or less; the rest is cash. From sober to bold: inverse covariance on
shrunk means, Hedge, exponentiated gradient, Thompson sampling. The bounds of the learners are against the best single
strategy in hindsight, not against cash, and they ignore costs: whoever follows them pays for every step.

Sources: Freund & Schapire 1997 and Cesa-Bianchi & Lugosi 2006 for Hedge; Herbster & Warmuth 1998 for the fixed share;
Helmbold, Schapire, Singer & Warmuth 1998 for the exponentiated gradient; Scott 2010, A modern Bayesian look at the
multi-armed bandit, for randomised probability matching.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.columns import column_of

Floats = NDArray[np.float64]


def long_only_weights(mean: ArrayLike, covariance: ArrayLike) -> Floats:
    """The long-only portfolio in proportion to ``argmax mu'w - w'Sw/2``, ``w >= 0``, scaled to a sum of one.

    Where nothing binds that is ``Sigma^-1 mu``. All 0 when no mean is worth holding. By non-negative least squares on
    the Cholesky factor. Raises ``ValueError`` when shapes do not fit or the covariance is not positive definite.
    """
    from scipy.optimize import nnls

    column, matrix = column_of(mean), np.asarray(covariance, dtype=np.float64)
    if matrix.shape != (column.size, column.size):
        raise ValueError(f"{column.size} means need a covariance of as many rows and columns, not {matrix.shape}")
    scale = np.sqrt(np.diag(matrix))
    try:
        factor = np.linalg.cholesky(matrix / np.outer(scale, scale))
    except (np.linalg.LinAlgError, FloatingPointError) as error:
        raise ValueError("long-only weights need a positive definite covariance; shrink it") from error
    ratio = column / scale
    size = float(np.abs(ratio).max(initial=0.0))
    if not size > 0.0:
        return np.zeros(column.size)
    found, _ = nnls(factor.T, np.linalg.solve(factor, ratio / size))
    weights = found / scale
    total = float(weights.sum())
    return np.asarray(weights / total) if total > 0.0 else np.zeros(column.size)


def capped(weights: ArrayLike, cap: float) -> Floats:
    """``weights`` with none above ``cap``: what is cut goes to the others pro rata, and to cash when all are full.

    Raises ``ValueError`` on a negative weight, or a cap that is not in (0, 1].
    """
    given = column_of(weights)
    if not 0.0 < cap <= 1.0 or given.min(initial=0.0) < 0.0:
        raise ValueError(f"a cap lies in (0, 1] and weights are at least 0, not {cap} and {given.min(initial=0.0)}")
    result, total = given.copy(), float(given.sum())
    full = np.zeros(given.size, dtype=np.bool_)
    for _ in range(given.size):
        over = ~full & (result > cap)
        if not over.any():
            break
        full |= over
        result[full] = cap
        left, among = total - cap * float(full.sum()), float(given[~full].sum())
        if among > 0.0:
            result[~full] = given[~full] * max(0.0, left) / among
    return result


def hedge_rate(experts: int, rounds: int) -> float:
    """``sqrt(8 ln N / T)``, under which the regret after ``T`` rounds is at most ``sqrt(T ln N / 2)``.

    For an unknown ``T`` take the round that it is.
    """
    if experts < 1 or rounds < 1:
        raise ValueError(f"hedging needs at least one expert and one round, not {experts} and {rounds}")
    return math.sqrt(8.0 * math.log(experts) / rounds)


def hedge_step(weights: ArrayLike, losses: ArrayLike, rate: float) -> Floats:
    """Weights after a round: ``w_i exp(-rate l_i)``, normalised. Raises ``ValueError`` on losses outside [0, 1]."""
    column, lost = column_of(weights), column_of(losses)
    if lost.shape != column.shape or not (lost.min() >= 0.0 and lost.max() <= 1.0):
        raise ValueError(f"hedging needs {column.size} losses in [0, 1], not {lost.tolist()}")
    new = column * np.exp(-rate * (lost - lost.min()))
    return np.asarray(new / new.sum())


def fixed_share(weights: ArrayLike, share: float) -> Floats:
    """``(1 - share) w_i + share / N``: nobody is ever forgotten, so that a change of the best can be followed.

    ``share = 1 / (T - 1)`` for one change in ``T`` rounds.
    """
    column = column_of(weights)
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"a fixed share lies in [0, 1], not {share}")
    return np.asarray((1.0 - share) * column + share * column.sum() / column.size)


def exponentiated_gradient_step(weights: ArrayLike, relatives: ArrayLike, rate: float) -> Floats:
    """Weights after price relatives ``x`` (1 + return): ``w_i exp(rate x_i / (w'x))``, normalised.

    Raises ``ValueError`` on relatives of unlike length or not above 0.
    """
    column, moved = column_of(weights), column_of(relatives)
    if moved.shape != column.shape or not moved.min() > 0.0:
        raise ValueError(f"exponentiated gradient needs {column.size} relatives above 0, not {moved.tolist()}")
    gradient = moved / float(column @ moved)
    new = column * np.exp(rate * (gradient - gradient.max()))
    return np.asarray(new / new.sum())


def probability_best(
    means: ArrayLike,
    variances: ArrayLike,
    counts: ArrayLike,
    *,
    prior_count: float,
    prior_variance: float,
    seed: int | list[int],
    draws: int = 1000,
) -> Floats:
    """How often each strategy has the highest Sharpe ratio in ``draws`` from the normal-inverse-gamma posteriors.

    ``means``, ``variances`` (about the mean) and ``counts`` are of the observed returns, ``(N,)``; the prior is a mean
    of 0 seen ``prior_count`` times, and a variance whose mean is ``prior_variance`` (``alpha = 2``). With one draw this
    is Thompson sampling, with many the probability matching that it does on average; the same seed gives the same.
    Raises ``ValueError`` unless there is a draw, and a positive prior.
    """
    mean, variance, count = column_of(means), column_of(variances), column_of(counts)
    if draws < 1 or not prior_count > 0.0 or not prior_variance > 0.0:
        raise ValueError(f"sampling needs a draw and a positive prior, not {draws}, {prior_count}, {prior_variance}")
    kappa = prior_count + count
    centre = count * mean / kappa
    alpha = 2.0 + count / 2.0
    beta = prior_variance + 0.5 * count * (variance + prior_count * mean**2 / kappa)
    random = np.random.Generator(np.random.PCG64(seed))
    deviation = np.sqrt(beta / random.gamma(alpha, size=(draws, mean.size)))
    drawn = centre / deviation + random.standard_normal((draws, mean.size)) / np.sqrt(kappa)
    return np.bincount(drawn.argmax(axis=1), minlength=mean.size) / draws
