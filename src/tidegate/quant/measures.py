"""Measures of performance: pure functions on columns, NaN where a figure is undefined.

Returns are simple and per period; ``periods_per_year`` annualises them (365 for daily figures of a market that never
closes). Volatility is the sample one (``ddof=1``). Drawdowns are positive fractions and count the start as a peak.
A spread is zero when it is at most ``1e-12 max(1, |mean|)``: equal floats seldom have a standard deviation of
exactly 0, and a ratio to rounding noise is no figure. Undefined is NaN, never 0 and never infinite.

All measures have their names here; losses in the tail are computed in ``value_at_risk``, the statistics of the Sharpe
ratio in ``sharpe``.
Source: Bacon, Practical Portfolio Performance Measurement and Attribution, 2nd ed.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.columns import column_of, finite_or_nan, kurtosis, skewness, spread_or_zero, usable
from tidegate.quant.sharpe import (
    PERIODS_PER_YEAR,
    deflated_sharpe_ratio,
    probabilistic_sharpe_ratio,
    sharpe_ratio,
    sharpe_ratio_autocorr,
)
from tidegate.quant.value_at_risk import conditional_var, historical_var, parametric_var

__all__ = [
    "PERIODS_PER_YEAR",
    "annualized_volatility",
    "beta",
    "cagr",
    "calmar_ratio",
    "conditional_var",
    "cumulative_returns",
    "deflated_sharpe_ratio",
    "downside_deviation",
    "drawdown_series",
    "ewma_volatility",
    "historical_var",
    "hit_rate",
    "information_ratio",
    "kelly_fraction",
    "kurtosis",
    "log_returns",
    "max_drawdown",
    "max_drawdown_duration",
    "omega_ratio",
    "parametric_var",
    "probabilistic_sharpe_ratio",
    "profit_factor",
    "sharpe_ratio",
    "sharpe_ratio_autocorr",
    "simple_returns",
    "skewness",
    "sortino_ratio",
    "tail_ratio",
    "ulcer_index",
]

_LARGEST_EXPONENT = 700.0  # exp() of more leaves float64


def simple_returns(prices: ArrayLike) -> NDArray[np.float64]:
    """``P_t / P_{t-1} - 1``: ``(T,)`` prices to ``(T-1,)`` returns. Raises ``ValueError`` on a price of 0 or less."""
    column = _prices(prices)
    return column[1:] / column[:-1] - 1.0


def log_returns(prices: ArrayLike) -> NDArray[np.float64]:
    """``ln P_t - ln P_{t-1}``: ``(T,)`` prices to ``(T-1,)`` returns. Raises ``ValueError`` on a price of 0 or less.

    For use inside models: they add up over time, but not over the parts of a portfolio.
    """
    return np.diff(np.log(_prices(prices)))


def cumulative_returns(returns: ArrayLike) -> NDArray[np.float64]:
    """``prod(1 + r) - 1`` up to each of ``(T,)`` returns. A return of -1 or less is ruin: -1 from there on.

    NaN from the first return that is not finite, and where the product leaves float64.
    """
    growth = _growth(column_of(returns))
    return np.where(np.isfinite(growth), growth, np.nan) - 1.0


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
    with np.errstate(over="ignore"):
        drawdown[defined] = 1.0 - column[defined] / peak[defined]
    return np.where(np.isfinite(drawdown), drawdown, np.nan)


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
        column = np.concatenate((np.ones(1), _growth(column)))  # an infinite peak is undefined, see drawdown_series
    return float(drawdown_series(column).max())


def max_drawdown_duration(equity: ArrayLike) -> float:
    """The longest run of periods below a former peak of ``(T,)`` equity; NaN where ``drawdown_series`` is undefined."""
    drawdown = drawdown_series(equity)
    if not usable(drawdown, at_least=1):
        return math.nan
    peaks = np.flatnonzero(drawdown == 0.0)
    return float(np.diff(np.append(peaks, drawdown.size)).max() - 1)


def ulcer_index(equity: ArrayLike) -> float:
    """``sqrt(mean(DD^2))``, a fraction (Martin & McCann 1989), over the ``T-1`` periods of ``(T,)`` equity.

    The start is a peak, but no period. NaN without a period and where a drawdown is undefined.
    """
    drawdown = drawdown_series(equity)
    if not usable(drawdown, at_least=2):
        return math.nan
    with np.errstate(over="ignore"):
        return finite_or_nan(math.sqrt(float(np.mean(drawdown[1:] ** 2))))


def calmar_ratio(returns: ArrayLike, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """``cagr`` per unit of ``max_drawdown`` (Young 1991); NaN without a drawdown."""
    column = column_of(returns)
    depth = spread_or_zero(max_drawdown(np.append(1.0, _growth(column)), equity=True), 0.0)
    return finite_or_nan(cagr(column, periods_per_year) / depth) if depth else math.nan


def omega_ratio(returns: ArrayLike, threshold: float = 0.0) -> float:
    """Sum of what lies above ``threshold`` (per period) over the sum of what lies below (Keating & Shadwick 2002).

    NaN when nothing lies below.
    """
    return _gains_over_losses(column_of(returns) - threshold)


def profit_factor(pnl: ArrayLike) -> float:
    """Gross profit over gross loss of ``(T,)`` results, of trades or of periods; NaN without a loss."""
    return _gains_over_losses(column_of(pnl))


def hit_rate(pnl: ArrayLike) -> float:
    """The share of ``(T,)`` results that are above 0; NaN without any."""
    column = column_of(pnl)
    return float(np.mean(column > 0.0)) if usable(column, at_least=1) else math.nan


def tail_ratio(returns: ArrayLike) -> float:
    """Size of the 95 % quantile of ``(T,)`` returns over the size of the 5 % one; NaN when the latter is zero."""
    column = column_of(returns)
    if not usable(column, at_least=1):
        return math.nan
    low, high = (abs(float(each)) for each in np.quantile(column, (0.05, 0.95)))
    return finite_or_nan(high / low) if spread_or_zero(low, 0.0) else math.nan


def beta(returns: ArrayLike, benchmark: ArrayLike) -> float:
    """``cov(r, b) / var(b)`` of two ``(T,)`` columns of the same periods; NaN when the benchmark has no variance.

    Raises ``ValueError`` on unequal lengths.
    """
    column, against = _pair(returns, benchmark)
    if not (usable(column, at_least=2) and usable(against, at_least=2)):
        return math.nan
    if not spread_or_zero(float(against.std(ddof=1)), float(against.mean())):
        return math.nan
    deviation = against - against.mean()
    return finite_or_nan(float(deviation @ (column - column.mean())) / float(deviation @ deviation))


def information_ratio(returns: ArrayLike, benchmark: ArrayLike, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Annualised mean of ``r - b`` per unit of its volatility (Grinold & Kahn 2000); NaN without tracking error.

    Raises ``ValueError`` on unequal lengths.
    """
    column, against = _pair(returns, benchmark)
    return sharpe_ratio(column - against, 0.0, periods_per_year)


def ewma_volatility(returns: ArrayLike, lam: float = 0.94) -> NDArray[np.float64]:
    """Volatility per period as known before each of ``(T,)`` returns (RiskMetrics 1996).

    ``s2_t = lam s2_{t-1} + (1 - lam) r_{t-1}^2``, without a mean, begun at ``s2_1 = r_0^2``. Strictly past: row t uses
    the returns before t only, so row 0 is NaN. A return that is not finite leaves the variance as it was. Raises
    ``ValueError`` unless ``0 < lam < 1``.
    """
    if not 0.0 < lam < 1.0:
        raise ValueError(f"lam is the weight of the past, above 0 and below 1, not {lam}")
    column = column_of(returns)
    volatility = np.full(column.shape, np.nan)
    variance = math.nan
    for t, each in enumerate(column[:-1].tolist()):
        if math.isfinite(each):
            variance = each * each if math.isnan(variance) else lam * variance + (1.0 - lam) * each * each
        volatility[t + 1] = math.sqrt(variance) if math.isfinite(variance) else math.nan
    return volatility


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


def _prices(prices: ArrayLike) -> NDArray[np.float64]:
    column = column_of(prices)
    bad = np.flatnonzero(column <= 0.0)
    if bad.size:
        raise ValueError(f"a return needs positive prices, not {column[bad[0]]} at index {bad[0]}")
    return column


def _growth(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """What 1 has become after each return; at zero it stays."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.cumprod(np.maximum(1.0 + returns, 0.0), dtype=np.float64)


def _gains_over_losses(results: NDArray[np.float64]) -> float:
    if not usable(results, at_least=1):
        return math.nan
    losses = -float(np.minimum(results, 0.0).sum())
    return finite_or_nan(float(np.maximum(results, 0.0).sum()) / losses) if losses else math.nan


def _pair(returns: ArrayLike, benchmark: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    column, against = column_of(returns), column_of(benchmark)
    if column.size != against.size:
        raise ValueError(f"returns and benchmark need the same periods, not {column.size} and {against.size} of them")
    return column, against
