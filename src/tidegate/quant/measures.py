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

PERIODS_PER_YEAR = 365
"""Days in a year of trading; the market has no holidays."""

_ZERO_SPREAD = 1e-12
_LARGEST_EXPONENT = 700.0  # exp() of more leaves float64


def simple_returns(prices: ArrayLike) -> NDArray[np.float64]:
    """``P_t / P_{t-1} - 1``: ``(T,)`` prices to ``(T-1,)`` returns. Raises ``ValueError`` on a price of 0 or less."""
    column = _column(prices)
    bad = np.flatnonzero(column <= 0.0)
    if bad.size:
        raise ValueError(f"a return needs positive prices, not {column[bad[0]]} at index {bad[0]}")
    return column[1:] / column[:-1] - 1.0


def cagr(returns: ArrayLike, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Compound annual growth, ``prod(1 + r) ** (periods_per_year / T) - 1``. Ruin (a return of -1 or less) is -1."""
    column = _column(returns)
    if not _usable(column, at_least=1):
        return math.nan
    if column.min() <= -1.0:
        return -1.0
    exponent = periods_per_year * float(np.log1p(column).mean())
    return math.expm1(exponent) if exponent < _LARGEST_EXPONENT else math.nan


def annualized_volatility(returns: ArrayLike, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Sample standard deviation times ``sqrt(periods_per_year)``; NaN for fewer than two returns."""
    column = _column(returns)
    if not _usable(column, at_least=2):
        return math.nan
    return _spread(float(column.std(ddof=1)), float(column.mean())) * math.sqrt(periods_per_year)


def downside_deviation(returns: ArrayLike, mar: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Annualised root mean square of what falls short of ``mar`` (per period).

    The mean is over all returns, not only over the losing ones (Sortino & van der Meer 1991).
    """
    column = _column(returns)
    if not _usable(column, at_least=1):
        return math.nan
    shortfall = np.minimum(column - mar, 0.0)
    return math.sqrt(float(np.mean(shortfall * shortfall)) * periods_per_year)


def sharpe_ratio(returns: ArrayLike, rf: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Annualised mean excess over ``rf`` (per period) per unit of volatility (Sharpe 1994); NaN without variance."""
    column = _column(returns)
    if not _usable(column, at_least=2):
        return math.nan
    excess = column - rf
    mean = float(excess.mean())
    spread = _spread(float(excess.std(ddof=1)), mean)
    return mean / spread * math.sqrt(periods_per_year) if spread else math.nan


def sortino_ratio(returns: ArrayLike, mar: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Annual mean excess over ``mar`` (per period) per unit of ``downside_deviation``; NaN without a shortfall."""
    column = _column(returns)
    if not _usable(column, at_least=1):
        return math.nan
    mean = float(column.mean()) - mar
    spread = _spread(downside_deviation(column, mar, 1.0), mean)
    return mean / spread * math.sqrt(periods_per_year) if spread else math.nan


def drawdown_series(equity: ArrayLike) -> NDArray[np.float64]:
    """``1 - E_t / max_{s<=t} E_s``: ``(T,)`` equity to ``(T,)`` positive fractions, the start included in the peak.

    NaN where the peak so far is not positive or not finite. Above 1 where equity is negative.
    """
    column = _column(equity)
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
    column = _column(returns_or_equity)
    if not _usable(column, at_least=1):
        return math.nan
    if not equity:
        if column.min() > 1.0:
            raise ValueError("every return is above 100 %: for an equity curve pass equity=True")
        with np.errstate(over="ignore"):  # an infinite peak is undefined, see drawdown_series
            growth = np.cumprod(np.maximum(1.0 + column, 0.0), dtype=np.float64)
        column = np.concatenate((np.ones(1), growth))
    return float(drawdown_series(column).max())


def _column(values: ArrayLike) -> NDArray[np.float64]:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"a measure needs one column, not an array of shape {column.shape}")
    return column


def _usable(column: NDArray[np.float64], *, at_least: int) -> bool:
    return column.size >= at_least and bool(np.isfinite(column).all())


def _spread(value: float, mean: float) -> float:
    return 0.0 if value <= _ZERO_SPREAD * max(1.0, abs(mean)) else value
