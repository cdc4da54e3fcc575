"""Kelly beyond its ratio: what a multiple of it does, the exact sample answer, and how much of it to believe.

``measures.kelly_fraction`` is the raw ratio. From there to a fraction that may be traded:

1. the raw fraction, and beside it ``exact_kelly``, which knows the heavy tails that the ratio overlooks: take the
   smaller;
2. shrink, because an annual Sharpe ratio of one year is known to +-1: ``shrunk_sharpe`` toward a prior, or the
   frequentist ``shrinkage_factor``, which is the same thing around 0;
3. by regime: pool the mean with that of all days (``pooled_mean``), or where there are too few days take the fixed
   ``fallback_multiplier``; mix by the filtered probabilities, ``sum p_k f_k``;
4. a quarter of it, under the other limits (``risk/controller.py``).

Sources: Kelly 1956; Thorp 2006, The Kelly criterion in blackjack, sports betting and the stock market; MacLean, Thorp
and Ziemba 2011; Baker and McHale 2013 for the shrinkage.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.columns import column_of, spread_or_zero, usable

PRIOR_SHARPE_SD = 0.5
"""How widely annual Sharpe ratios of strategies are spread around the prior mean."""

POOLING_DAYS = 250.0
"""So many days of a regime count as much as the mean over all days."""

_MULTIPLIERS = {"BULL": 1.0, "SIDEWAYS": 0.6, "BEAR": 0.5, "VOLATILE": 0.35}
_BEAR_WITHOUT_SHORT = 0.25
_UNKNOWN = 0.3


# ---- what a multiple of Kelly does -----------------------------------------------------------------------------------


def bet_growth(fraction: float, p: float, b: float) -> float:
    """Expected log growth of one bet of ``fraction``: ``p ln(1 + f b) + (1 - p) ln(1 - f)``; NaN where ruin is certain
    to come (``fraction`` of 1 or more with ``p`` below 1), or the fraction is so negative that a win ruins."""
    win, loss = 1.0 + fraction * b, 1.0 - fraction
    if (p > 0.0 and win <= 0.0) or (p < 1.0 and loss <= 0.0):
        return math.nan
    return (p * math.log(win) if p > 0.0 else 0.0) + ((1.0 - p) * math.log(loss) if p < 1.0 else 0.0)


def growth_rate(multiple: float, sharpe: float, r: float = 0.0) -> float:
    """Log growth a year at ``multiple`` of full Kelly, of an annual ``sharpe``: ``r + (2c - c^2) S^2/2``.

    Half Kelly keeps 75 % of the excess growth; twice Kelly has none.
    """
    return r + (2.0 * multiple - multiple * multiple) * sharpe * sharpe / 2.0


def growth_volatility(multiple: float, sharpe: float) -> float:
    """Volatility a year at ``multiple`` of full Kelly: ``c S``."""
    return multiple * abs(sharpe)


def probability_of_falling_to(x: float, multiple: float) -> float:
    """Probability of ever falling to the share ``x`` of the start, at ``multiple`` of full Kelly: ``x^(2/c - 1)``.

    At full Kelly a halving has 1/2, at a quarter 1/128; from twice Kelly on every fall is certain. Continuous time,
    known parameters. Raises ``ValueError`` unless ``0 < x <= 1`` and ``multiple > 0``.
    """
    if not 0.0 < x <= 1.0 or not multiple > 0.0:
        raise ValueError(f"a fall needs a share above 0, at most 1, and a positive multiple, not {x} and {multiple}")
    return min(1.0, math.pow(x, 2.0 / multiple - 1.0))


# ---- from a sample ---------------------------------------------------------------------------------------------------


def exact_kelly(returns: ArrayLike) -> float:
    """The signed fraction that maximises ``mean(log(1 + f r_t))`` over ``(T,)`` simple returns.

    The search stays within ``f < 1/|min r|`` (long) and ``f > -1/max r`` (short), where no return ruins. NaN for fewer
    than two returns, any that is not finite, or when none is negative or none positive: nothing bounds the bet then.
    """
    from scipy.optimize import brentq

    column = column_of(returns)
    if not usable(column, at_least=2):
        return math.nan
    worst, best = float(column.min()), float(column.max())
    if worst >= 0.0 or best <= 0.0:
        return math.nan
    mean = float(column.mean())
    if mean == 0.0:
        return 0.0

    def slope(fraction: float) -> float:
        return float(np.mean(column / (1.0 + fraction * column)))

    # The slope falls through its one root, to infinity at the edge of ruin: just before it, it has turned.
    edge = -1.0 / worst if mean > 0.0 else -1.0 / best
    return float(brentq(slope, 0.0, edge * (1.0 - 1e-12), xtol=1e-14, rtol=1e-14))


def multi_asset_kelly(mean: ArrayLike, covariance: ArrayLike, r: float = 0.0) -> NDArray[np.float64]:
    """``Sigma^-1 (mu - r)``: ``(N,)`` fractions from ``(N,)`` means and an ``(N, N)`` covariance of the same period.

    Feed it a shrunk covariance: the inverse of a sample one trades its noise. All NaN where the covariance is not
    positive definite. Raises ``ValueError`` when the shapes do not fit.
    """
    column, matrix = column_of(mean), np.asarray(covariance, dtype=np.float64)
    if matrix.shape != (column.size, column.size):
        raise ValueError(f"{column.size} means need a covariance of as many rows and columns, not {matrix.shape}")
    undefined = np.full(column.size, math.nan)
    if not (np.isfinite(matrix).all() and np.isfinite(column).all()):
        return undefined
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return undefined
    return np.asarray(np.linalg.solve(factor.T, np.linalg.solve(factor, column - r)), dtype=np.float64)


# ---- how much to believe ---------------------------------------------------------------------------------------------


def shrunk_sharpe(
    sharpe: float, years: float, prior_mean: float = 0.0, prior_sd: float = PRIOR_SHARPE_SD, year_variance: float = 1.0
) -> float:
    """Posterior mean of an annual Sharpe ratio seen over ``years``: normal prior, normal error.

    ``(m0/tau^2 + S n) / (1/tau^2 + n)``; ``year_variance`` is the error variance of one year, about ``1 + S^2/2``, of
    which the common form takes 1. Raises ``ValueError`` on negative years, or a spread or variance of 0 or less.
    """
    precision_prior, precision = _precisions(years, prior_sd, year_variance)
    return (prior_mean * precision_prior + sharpe * precision) / (precision_prior + precision)


def shrunk_sharpe_variance(years: float, prior_sd: float = PRIOR_SHARPE_SD, year_variance: float = 1.0) -> float:
    """Posterior variance of ``shrunk_sharpe``: ``1 / (1/tau^2 + n)``."""
    return 1.0 / sum(_precisions(years, prior_sd, year_variance))


def shrinkage_factor(sharpe: float, years: float) -> float:
    """The frequentist factor on the fraction, ``1 / (1 + 1/(S^2 years))``: 1/2 for a Sharpe ratio of 1 over a year."""
    _precisions(years, 1.0, 1.0)
    seen = sharpe * sharpe * years
    return seen / (1.0 + seen)


def pooled_mean(regime_mean: float, regime_days: float, overall_mean: float, days: float = POOLING_DAYS) -> float:
    """Mean of a regime, partially pooled: ``w mean_k + (1 - w) mean_all`` with ``w = n_k / (n_k + n_0)``."""
    if regime_days < 0.0 or not days > 0.0:
        raise ValueError(f"pooling needs 0 or more days and a positive weight, not {regime_days} and {days}")
    weight = regime_days / (regime_days + days)
    return weight * regime_mean + (1.0 - weight) * overall_mean


def fallback_multiplier(regime: str, *, allow_short: bool = True) -> float:
    """What is left of the fraction in a regime that has too few days of its own to be measured.

    ``regime`` is a direction (``BULL``, ``SIDEWAYS``, ``BEAR``), ``VOLATILE``, or a scenario: ``BEAR_LOW`` counts as
    ``BEAR``, anything that ends in ``_HIGH`` as ``VOLATILE``. Every other name is unknown: 0.3.
    """
    name = regime.upper()
    name = "VOLATILE" if name.endswith("_HIGH") else name.removesuffix("_LOW")
    if name == "BEAR" and not allow_short:
        return _BEAR_WITHOUT_SHORT
    return _MULTIPLIERS.get(name, _UNKNOWN)


def mixture_fraction(probabilities: Mapping[str, float], fractions: Mapping[str, float]) -> float:
    """``sum p_k f_k`` over the regimes, with their **filtered** probabilities; what is missing from 1 is in cash.

    Raises ``ValueError`` when a probability is negative or not finite, they add up to more than 1, or a regime has no
    fraction.
    """
    total = math.fsum(probabilities.values())
    if not all(each >= 0.0 for each in probabilities.values()) or not total <= 1.0 + 1e-9:
        raise ValueError(f"probabilities of regimes lie in [0, 1] and add up to at most 1, not {dict(probabilities)}")
    if missing := sorted(set(probabilities) - set(fractions)):
        raise ValueError(f"no fraction for regime {missing[0]}; there are {', '.join(sorted(fractions))}")
    return math.fsum(each * fractions[name] for name, each in probabilities.items())


def annual_sharpe(mean: float, spread: float, periods_per_year: float) -> float:
    """``mean / spread sqrt(periods_per_year)``; NaN where the spread is rounding noise."""
    spread = spread_or_zero(spread, mean)
    return mean / spread * math.sqrt(periods_per_year) if spread else math.nan


def _precisions(years: float, prior_sd: float, year_variance: float) -> tuple[float, float]:
    if not years >= 0.0 or not prior_sd > 0.0 or not year_variance > 0.0:
        raise ValueError(
            f"shrinking needs 0 or more years, a positive prior_sd and year_variance, "
            f"not {years}, {prior_sd} and {year_variance}"
        )
    return 1.0 / (prior_sd * prior_sd), years / year_variance
