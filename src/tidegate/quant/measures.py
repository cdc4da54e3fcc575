"""Measures of performance: pure functions on columns, NaN where a figure is undefined.

Returns are simple and per period; ``periods_per_year`` annualises them (365 for daily figures of a market that never
closes). Volatility is the sample one (``ddof=1``). Drawdowns are positive fractions and count the start as a peak.
A spread is zero when it is at most ``1e-12 max(1, |mean|)``: equal floats seldom have a standard deviation of
exactly 0, and a ratio to rounding noise is no figure. Undefined is NaN, never 0 and never infinite.
Source: Bacon, Practical Portfolio Performance Measurement and Attribution, 2nd ed.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.columns import column_of, kurtosis, skewness, spread_or_zero, usable
from tidegate.quant.value_at_risk import conditional_var, historical_var, parametric_var

__all__ = [
    "PERIODS_PER_YEAR",
    "annualized_volatility",
    "cagr",
    "conditional_var",
    "downside_deviation",
    "drawdown_series",
    "historical_var",
    "kelly_fraction",
    "kurtosis",
    "max_drawdown",
    "parametric_var",
    "sharpe_ratio",
    "simple_returns",
    "skewness",
    "sortino_ratio",
]

PERIODS_PER_YEAR = 365
"""Days in a year of trading; the market has no holidays."""

_LARGEST_EXPONENT = 700.0  # exp() of more leaves float64


def simple_returns(prices: ArrayLike) -> NDArray[np.float64]:
    """``P_t / P_{t-1} - 1``: ``(T,)`` prices to ``(T-1,)`` returns. Raises ``ValueError`` on a price of 0 or less."""
    column = column_of(prices)
    bad = np.flatnonzero(column <= 0.0)
    if bad.size:
        raise ValueError(f"a return needs positive prices, not {column[bad[0]]} at index {bad[0]}")
    return column[1:] / column[:-1] - 1.0


def cagr(returns: ArrayLike, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Compound annual growth, ``prod(1 + r) ** (periods_per_year / T) - 1``. Ruin (a return of -1 or less) is -1."""
    column = column_of(returns)
    if not usable(column, at_least=1):
        return math.nan
    if column.min() <= -1.0:
        return -1.0
    exponent = periods_per_year * float(np.log1p(column).mean())
    return math.expm1(exponent) if exponent < _LARGEST_EXPONENT else math.nan


def annualized_volatility(returns: ArrayLike, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Sample standard deviation times ``sqrt(periods_per_year)``; NaN for fewer than two returns."""
    column = column_of(returns)
    if not usable(column, at_least=2):
        return math.nan
    return spread_or_zero(float(column.std(ddof=1)), float(column.mean())) * math.sqrt(periods_per_year)


def downside_deviation(returns: ArrayLike, mar: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Annualised root mean square of what falls short of ``mar`` (per period).

    The mean is over all returns, not only over the losing ones (Sortino & van der Meer 1991).
    """
    column = column_of(returns)
    if not usable(column, at_least=1):
        return math.nan
    shortfall = np.minimum(column - mar, 0.0)
    return math.sqrt(float(np.mean(shortfall * shortfall)) * periods_per_year)


def sharpe_ratio(returns: ArrayLike, rf: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Annualised mean excess over ``rf`` (per period) per unit of volatility (Sharpe 1994); NaN without variance."""
    column = column_of(returns)
    if not usable(column, at_least=2):
        return math.nan
    excess = column - rf
    mean = float(excess.mean())
    spread = spread_or_zero(float(excess.std(ddof=1)), mean)
    return mean / spread * math.sqrt(periods_per_year) if spread else math.nan


def sortino_ratio(returns: ArrayLike, mar: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Annual mean excess over ``mar`` (per period) per unit of ``downside_deviation``; NaN without a shortfall."""
    column = column_of(returns)
    if not usable(column, at_least=1):
        return math.nan
    mean = float(column.mean()) - mar
    spread = spread_or_zero(downside_deviation(column, mar, 1.0), mean)
    return mean / spread * math.sqrt(periods_per_year) if spread else math.nan


def drawdown_series(equity: ArrayLike) -> NDArray[np.float64]:
    """``1 - E_t / max_{s<=t} E_s``: ``(T,)`` equity to ``(T,)`` positive fractions, the start included in the peak.

    NaN where the peak so far is not positive or not finite. Above 1 where equity is negative.
    """
    column = column_of(equity)
    peak = np.maximum.accumulate(column) if column.size else column
    defined = np.isfinite(column) & np.isfinite(peak) & (peak > 0.0)
    drawdown = np.full(column.shape, np.nan)
    drawdown[defined] = 1.0 - column[defined] / peak[defined]
    return drawdown


def max_drawdown(returns_or_equity: ArrayLike, *, equity: bool = False) -> float:
    """The largest drawdown, a positive fraction: of returns, or of an equity curve with ``equity=True``.

    Returns compound from 1, which is the first peak. Raises ``ValueError`` when every "return" is above 1
    (100 % per period): that is an equity curve without its flag, and its drawdown would read 0.
    """
    column = column_of(returns_or_equity)
    if not usable(column, at_least=1):
        return math.nan
    if not equity:
        if column.min() > 1.0:
            raise ValueError("every return is above 100 %: for an equity curve pass equity=True")
        with np.errstate(over="ignore"):  # an infinite peak is undefined, see drawdown_series
            growth = np.cumprod(np.maximum(1.0 + column, 0.0), dtype=np.float64)
        column = np.concatenate((np.ones(1), growth))
    return float(drawdown_series(column).max())


def kelly_fraction(
    mu: float | None = None,
    sigma2: float | None = None,
    *,
    r: float = 0.0,
    p: float | None = None,
    b: float | None = None,
    fraction: float = 1.0,
    allow_short: bool = False,
) -> float:
    """The share of capital that grows fastest, times ``fraction`` (0.25 is quarter Kelly).

    - continuous, ``mu`` and ``sigma2`` of one period, ``r`` the riskless return: ``(mu - r) / sigma2`` (Thorp 2006);
      NaN when ``sigma2`` is zero or anything is not finite;
    - a bet that wins ``b`` per unit with probability ``p`` and else loses the unit: ``p - (1-p)/b`` (Kelly 1956).

    A negative edge is 0, or a bet against it with ``allow_short``. The ratio overstates the fraction of heavy-tailed
    returns, and takes ``mu`` as known. Raises ``ValueError`` unless exactly one pair is given, and on ``p`` outside
    [0, 1], ``b`` of 0 or less, a negative ``sigma2`` or a negative ``fraction``.
    """
    if fraction < 0.0:
        raise ValueError(f"the fraction of Kelly cannot be negative, and is {fraction}; shorts come from the edge")
    if mu is not None and sigma2 is not None and p is None and b is None:
        if sigma2 < 0.0:
            raise ValueError(f"a variance cannot be negative, and sigma2 is {sigma2}")
        spread = spread_or_zero(math.sqrt(sigma2), mu) if math.isfinite(sigma2) and math.isfinite(mu) else 0.0
        full = (mu - r) / sigma2 if spread else math.nan
    elif p is not None and b is not None and mu is None and sigma2 is None:
        if not 0.0 <= p <= 1.0 or not b > 0.0:
            raise ValueError(f"a bet needs p from 0 to 1 and b above 0, not p = {p} and b = {b}")
        full = p - (1.0 - p) / b
    else:
        raise ValueError("kelly_fraction takes mu and sigma2, or p and b")
    if not math.isfinite(full * fraction):
        return math.nan
    return full * fraction if allow_short else max(full, 0.0) * fraction
