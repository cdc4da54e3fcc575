"""What every measure asks of its argument: one column of finite numbers, with a spread that is no rounding noise."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

ZERO_SPREAD = 1e-12
"""A standard deviation of at most this times ``max(1, |mean|)`` is zero: equal floats seldom have one of exactly 0."""


def column_of(values: ArrayLike) -> NDArray[np.float64]:
    """``values`` as a ``(T,)`` float64 array. Raises ``ValueError`` on any other shape."""
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"a measure needs one column, not an array of shape {column.shape}")
    return column


def usable(column: NDArray[np.float64], *, at_least: int) -> bool:
    """True when there are ``at_least`` values and all of them are finite."""
    return column.size >= at_least and bool(np.isfinite(column).all())


def spread_or_zero(value: float, mean: float) -> float:
    """``value``, or 0.0 when it is no more than rounding noise beside ``mean``."""
    return 0.0 if value <= ZERO_SPREAD * max(1.0, abs(mean)) else value


def finite_or_nan(value: float) -> float:
    """``value``, or NaN when it has left float64: a figure is never infinite."""
    return value if math.isfinite(value) else math.nan


def skewness(returns: ArrayLike) -> float:
    """Third standardised moment, of the population: ``m3 / m2**1.5``; NaN without variance. Normal: 0."""
    return _standardised_moment(returns, 3)


def kurtosis(returns: ArrayLike) -> float:
    """Fourth standardised moment, of the population and **not** the excess: ``m4 / m2**2``. Normal: 3.

    The probabilistic Sharpe ratio takes this one; Cornish-Fisher takes the excess, this less 3.
    """
    return _standardised_moment(returns, 4)


def _standardised_moment(returns: ArrayLike, order: int) -> float:
    column = column_of(returns)
    if not usable(column, at_least=2):
        return math.nan
    mean = float(column.mean())
    spread = spread_or_zero(float(column.std()), mean)
    return float(np.mean(((column - mean) / spread) ** order)) if spread else math.nan
