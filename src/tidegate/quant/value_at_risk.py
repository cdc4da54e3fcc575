"""Value at risk and expected shortfall of one column of returns.

A loss is a positive number, in fraction of equity; ``alpha`` is the probability of the tail (0.05, 0.01), not the
confidence. The horizon is one period; ``sqrt(h)`` reaches ``h`` periods only when returns are independent and alike.
Source: Jorion, Value at Risk, 3rd ed.; McNeil, Frey & Embrechts, Quantitative Risk Management.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.columns import column_of, kurtosis, skewness, spread_or_zero, usable

Distribution = Literal["normal", "t", "cornish_fisher"]
"""How the parametric figures shape the tail."""

TAIL_RETURNS = 5
"""Returns that must be expected in a historical tail: 100 for 5 %, 500 for 1 %. With fewer it is one bad day."""

_MONOTONE_REACH_SD = 4.0


def historical_var(returns: ArrayLike, alpha: float) -> float:
    """Minus the ``alpha`` quantile of ``(T,)`` returns, interpolated linearly between order statistics.

    NaN with fewer than ``TAIL_RETURNS / alpha`` returns. Raises ``ValueError`` unless ``0 < alpha < 0.5``.
    """
    column = _tail_column(returns, alpha)
    return math.nan if column is None else -float(np.quantile(column, alpha))


def parametric_var(returns: ArrayLike, alpha: float, dist: Distribution = "normal") -> float:
    """``-(mean + z sigma)`` with the ``alpha`` quantile ``z`` of ``dist`` in standard deviations (``ddof=1``).

    - ``normal``: the Gaussian quantile.
    - ``t``: Student's, scaled to unit variance by ``sqrt((nu-2)/nu)``, ``nu`` by maximum likelihood.
    - ``cornish_fisher``: the Gaussian one corrected by skew and kurtosis; where that correction is not monotone, and
      so no quantile, ``historical_var``.

    NaN with fewer than two returns. Raises ``ValueError`` on another ``dist``, and unless ``0 < alpha < 0.5``.
    """
    return _parametric(returns, alpha, dist, shortfall=False)


def conditional_var(
    returns: ArrayLike, alpha: float, method: Literal["historical"] | Distribution = "historical"
) -> float:
    """The mean loss in the ``alpha`` tail (expected shortfall); never below the VaR of the same ``method``.

    - ``historical``: minus the mean of the returns at or below the quantile of ``historical_var``.
    - the others: the tail mean of the distribution that ``parametric_var`` takes: ``-mean + sigma phi(z)/alpha`` for
      ``normal``, and likewise for ``t`` and ``cornish_fisher`` (historical where that is not monotone).

    NaN and errors as in ``historical_var`` and ``parametric_var``.
    """
    if method != "historical":
        return _parametric(returns, alpha, method, shortfall=True)
    column = _tail_column(returns, alpha)
    if column is None:
        return math.nan
    return -float(column[column <= np.quantile(column, alpha)].mean())


def cornish_fisher_z(alpha: float, skew: float, excess_kurtosis: float) -> float:
    """``z + (z^2-1)S/6 + (z^3-3z)K/24 - (2z^3-5z)S^2/36`` at the Gaussian ``z`` of ``alpha`` (Cornish & Fisher 1938).

    The bare expansion: it is a quantile only where ``cornish_fisher_is_monotone``.
    """
    z = _normal_quantile(alpha)
    return (
        z
        + (z**2 - 1.0) * skew / 6.0
        + (z**3 - 3.0 * z) * excess_kurtosis / 24.0
        - (2.0 * z**3 - 5.0 * z) * skew**2 / 36.0
    )


def cornish_fisher_is_monotone(alpha: float, skew: float, excess_kurtosis: float) -> bool:
    """True when the expansion rises with ``z`` from beyond the ``alpha`` tail to its mirror image.

    Its slope is the parabola ``1 + S z/3 + K (z^2-1)/8 - S^2 (6z^2-5)/36``, looked at within 4 standard deviations or
    one beyond the quantile. Outside this domain (Maillard 2012) the 1 % VaR can lie below the 5 % one.
    """
    square = excess_kurtosis / 8.0 - skew**2 / 6.0
    linear = skew / 3.0
    constant = 1.0 - excess_kurtosis / 8.0 + 5.0 * skew**2 / 36.0
    reach = max(_MONOTONE_REACH_SD, 1.0 - _normal_quantile(alpha))
    places = [-reach, reach]
    if square and abs(linear / (2.0 * square)) < reach:
        places.append(-linear / (2.0 * square))
    return all(square * z * z + linear * z + constant > 0.0 for z in places)


def _parametric(returns: ArrayLike, alpha: float, dist: Distribution, *, shortfall: bool) -> float:
    if dist not in ("normal", "t", "cornish_fisher"):
        raise ValueError(f"unknown distribution {dist!r}; use normal, t or cornish_fisher")
    _check_alpha(alpha)
    column = column_of(returns)
    if not usable(column, at_least=2):
        return math.nan
    mean = float(column.mean())
    sigma = spread_or_zero(float(column.std(ddof=1)), mean)
    if not sigma:
        return -mean
    if dist == "normal":
        z = _normal_tail_mean(alpha) if shortfall else _normal_quantile(alpha)
    elif dist == "t":
        z = _student_z((column - mean) / sigma, alpha, shortfall=shortfall)
    else:
        skew, excess = skewness(column), kurtosis(column) - 3.0
        if not cornish_fisher_is_monotone(alpha, skew, excess):
            return conditional_var(column, alpha) if shortfall else historical_var(column, alpha)
        z = _cornish_fisher_tail_mean(alpha, skew, excess) if shortfall else cornish_fisher_z(alpha, skew, excess)
    return -(mean + z * sigma)


def _student_z(standardised: NDArray[np.float64], alpha: float, *, shortfall: bool) -> float:
    """Quantile or tail mean of Student's t with unit variance, its degrees of freedom fitted to ``standardised``."""
    from scipy.optimize import minimize_scalar
    from scipy.stats import t as student

    def scale(nu: float) -> float:
        return math.sqrt((nu - 2.0) / nu)

    def loss(inverse_nu: float) -> float:
        nu = 1.0 / inverse_nu
        return -float(np.mean(student.logpdf(standardised, nu, scale=scale(nu))))

    # 1/nu, as the likelihood is flat in nu near the normal: from nu = 1,000 down to 2.04, just short of no variance
    nu = 1.0 / float(minimize_scalar(loss, bounds=(1e-3, 0.49), method="bounded").x)
    quantile = float(student.ppf(alpha, nu))
    if not shortfall:
        return quantile * scale(nu)
    return -float(student.pdf(quantile, nu)) * (nu + quantile**2) / ((nu - 1.0) * alpha) * scale(nu)


def _normal_quantile(alpha: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(alpha))


def _normal_tail_mean(alpha: float) -> float:
    z = _normal_quantile(alpha)
    return -math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) / alpha


def _cornish_fisher_tail_mean(alpha: float, skew: float, excess_kurtosis: float) -> float:
    """The expansion, averaged over the tail: the moments of a truncated Gaussian put in its powers of ``z``."""
    z = _normal_quantile(alpha)
    correction = z * skew / 6.0 + (z**2 - 1.0) * excess_kurtosis / 24.0 - (2.0 * z**2 - 1.0) * skew**2 / 36.0
    return _normal_tail_mean(alpha) * (1.0 + correction)


def _tail_column(returns: ArrayLike, alpha: float) -> NDArray[np.float64] | None:
    _check_alpha(alpha)
    column = column_of(returns)
    needed = math.ceil(TAIL_RETURNS / alpha - 1e-9)
    return column if usable(column, at_least=needed) else None


def _check_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha is the probability of the tail, above 0 and below 0.5 (0.05, not 0.95), not {alpha}")
