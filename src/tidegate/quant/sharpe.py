"""The Sharpe ratio and what is known about its error: annualisation, standard error, track record, many trials.

The statistics below take and give ratios **per period** (not annualised), ``skew`` and ``kurt`` of the same returns,
``kurt`` not in excess (normal: 3), and ``n`` the number of returns. A Sharpe ratio picked among many trials is judged
by ``deflated_sharpe_ratio``: its ``n_trials`` counts every configuration ever run, clusters of like ones once.
Source: Lo 2002, The Statistics of Sharpe Ratios; Bailey & Lopez de Prado 2012, The Sharpe Ratio Efficient Frontier,
and 2014, The Deflated Sharpe Ratio; Bailey, Borwein, Lopez de Prado & Zhu 2014, Pseudo-Mathematics.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from tidegate.quant.columns import column_of, finite_or_nan, spread_or_zero, usable

PERIODS_PER_YEAR = 365
"""Days in a year of trading; the market has no holidays."""

_EULER_GAMMA = 0.5772156649015329


def sharpe_ratio(returns: ArrayLike, rf: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR) -> float:
    """Annualised mean excess over ``rf`` (per period) per unit of volatility (Sharpe 1994); NaN without variance."""
    column = column_of(returns)
    if not usable(column, at_least=2):
        return math.nan
    excess = column - rf
    mean = float(excess.mean())
    spread = spread_or_zero(float(excess.std(ddof=1)), mean)
    return mean / spread * math.sqrt(periods_per_year) if spread else math.nan


def sharpe_ratio_autocorr(
    returns: ArrayLike, periods_per_year: float = PERIODS_PER_YEAR, lags: int | None = None
) -> float:
    """The Sharpe ratio annualised for serial correlation, ``annualization_factor`` in place of ``sqrt(q)`` (Lo 2002).

    ``lags`` sample autocorrelations count, later ones are taken as 0; the default is ``floor(4 (T/100)^(2/9))``
    (Newey & West 1994), as each further one adds noise. NaN without variance, with no more than ``lags + 1`` returns,
    or where they leave no positive variance of a year. Raises ``ValueError`` on ``lags`` below 0, or of a year or more.
    """
    if lags is not None and not 0 <= lags < periods_per_year:
        raise ValueError(f"lags go from 0 to below the {periods_per_year} periods of a year, not {lags}")
    column = column_of(returns)
    if lags is None:
        lags = max(0, min(math.floor(4.0 * (column.size / 100.0) ** (2.0 / 9.0)), math.ceil(periods_per_year) - 1))
    per_period = sharpe_ratio(column, 0.0, 1.0)
    if not math.isfinite(per_period) or column.size <= lags + 1:
        return math.nan
    if lags == 0:
        return per_period * math.sqrt(periods_per_year)
    from statsmodels.tsa.stattools import acf

    return per_period * annualization_factor(acf(column, nlags=lags, fft=False)[1:], periods_per_year)


def annualization_factor(autocorrelations: ArrayLike, q: float) -> float:
    """``q / sqrt(q + 2 sum_k (q - k) rho_k)`` of ``rho_1, rho_2, ...``: a Sharpe ratio per period becomes one of ``q``.

    Without correlation it is ``sqrt(q)``. NaN where the variance over ``q`` periods is not positive, or a ``rho`` is
    not finite. Raises ``ValueError`` for ``q`` autocorrelations or more.
    """
    rho = column_of(autocorrelations)
    if rho.size >= q:
        raise ValueError(f"{q} periods have fewer autocorrelations than {q}, not {rho.size}")
    variance = q + 2.0 * float(np.sum((q - np.arange(1, rho.size + 1)) * rho))
    return q / math.sqrt(variance) if math.isfinite(variance) and variance > 0.0 else math.nan


def sharpe_standard_error(sr: float, n: float, skew: float = 0.0, kurt: float = 3.0) -> float:
    """``sqrt((1 - skew sr + (kurt - 1)/4 sr^2) / n)``; for normal returns ``sqrt((1 + sr^2/2) / n)`` (Lo 2002).

    NaN for ``n`` of 0 or less, and where the moments leave no positive variance.
    """
    variance = _unit_variance(sr, skew, kurt) / n if n > 0.0 else math.nan
    return math.sqrt(variance) if math.isfinite(variance) and variance > 0.0 else math.nan


def probabilistic_sharpe_ratio(sr: float, sr_benchmark: float, n: float, skew: float = 0.0, kurt: float = 3.0) -> float:
    """The probability that the true ratio is above ``sr_benchmark``, given ``sr`` measured on ``n`` returns.

    ``Phi((sr - sr_benchmark) sqrt(n - 1) / sqrt(1 - skew sr + (kurt - 1)/4 sr^2))``. NaN with fewer than two returns.
    """
    from scipy.special import ndtr

    error = sharpe_standard_error(sr, n - 1.0, skew, kurt)
    return float(ndtr((sr - sr_benchmark) / error)) if math.isfinite(error) else math.nan


def deflated_sharpe_ratio(
    sr: float, sr_trials_var: float, n_trials: float, n: float, skew: float = 0.0, kurt: float = 3.0
) -> float:
    """``probabilistic_sharpe_ratio`` against the best ratio that ``n_trials`` independent trials reach by chance.

    That is ``sqrt(sr_trials_var) expected_maximum(n_trials)``, with ``sr_trials_var`` the variance of the trials'
    ratios per period. Raises ``ValueError`` on a negative variance or on fewer than one trial.
    """
    if sr_trials_var < 0.0:
        raise ValueError(f"a variance cannot be negative, and sr_trials_var is {sr_trials_var}")
    by_chance = math.sqrt(sr_trials_var) * expected_maximum(n_trials)
    return probabilistic_sharpe_ratio(sr, by_chance, n, skew, kurt)


def expected_maximum(n_trials: float) -> float:
    """Expected largest of ``n_trials`` independent standard normals, ``(1-g) z(1 - 1/N) + g z(1 - 1/(N e))``.

    ``g`` is Euler's constant: the False Strategy theorem. Of one trial it is 0. Raises ``ValueError`` below one.
    """
    if not n_trials >= 1.0:
        raise ValueError(f"n_trials counts the trials, at least 1, not {n_trials}")
    if n_trials == 1.0:
        return 0.0
    from scipy.special import ndtri

    first, second = 1.0 / n_trials, 1.0 / (n_trials * math.e)  # z(1 - x) = -z(x), and small x keep their digits
    return -float((1.0 - _EULER_GAMMA) * ndtri(first) + _EULER_GAMMA * ndtri(second))


def minimum_track_record(
    sr: float, sr_benchmark: float, confidence: float = 0.95, skew: float = 0.0, kurt: float = 3.0
) -> float:
    """Number of returns until ``probabilistic_sharpe_ratio`` reaches ``confidence``; NaN unless ``sr`` is the larger.

    Raises ``ValueError`` unless ``0.5 < confidence < 1``.
    """
    if not 0.5 < confidence < 1.0:
        raise ValueError(f"confidence lies above 0.5 and below 1 (0.95), not {confidence}")
    if not sr > sr_benchmark:
        return math.nan
    from scipy.special import ndtri

    variance = _unit_variance(sr, skew, kurt)
    return finite_or_nan(1.0 + variance * (float(ndtri(confidence)) / (sr - sr_benchmark)) ** 2)


def minimum_backtest_years(n_trials: float, sr_annual: float) -> float:
    """``(expected_maximum(n_trials) / sr_annual)^2``: with fewer years the best of as many trials shows it by chance.

    The one figure here of an annual ratio. NaN unless ``sr_annual`` is positive; errors as in ``expected_maximum``.
    """
    expected = expected_maximum(n_trials)
    return finite_or_nan((expected / sr_annual) ** 2) if sr_annual > 0.0 else math.nan


def _unit_variance(sr: float, skew: float, kurt: float) -> float:
    return 1.0 - skew * sr + (kurt - 1.0) / 4.0 * sr * sr
