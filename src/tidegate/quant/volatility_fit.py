"""Fits of volatility models: GARCH and GJR by maximum likelihood, HAR-RV by least squares.

A GARCH that does not converge, or whose persistence is 0.999 or more, is no GARCH to trade on: its long-run variance
is arbitrary. An EWMA then stands in its place and says why. A fit never raises on account of the data.
Sources: Bollerslev (1986, 1987); Glosten, Jagannathan & Runkle (1993); Nelson (1991); Corsi (2009) for HAR-RV.
The optimiser is that of ``arch``.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from tidegate.quant.fold import Floats
from tidegate.quant.volatility import DAILY_DECAY, Errors, GarchParameters, backcast_variance, log_likelihood

FittedKind = Literal["garch", "gjr", "egarch"]

LARGEST_PERSISTENCE: Final = 0.999
FEWEST_RETURNS: Final = 250

_PERCENT: Final = 100.0  # the optimiser is scaled for percent
_ORDERS: Final[dict[str, dict[str, Any]]] = {
    "garch": {"vol": "GARCH", "p": 1, "o": 0, "q": 1},
    "gjr": {"vol": "GARCH", "p": 1, "o": 1, "q": 1},
    "egarch": {"vol": "EGARCH", "p": 1, "o": 1, "q": 1},
}


def fit_garch(
    returns_frac: ArrayLike,
    kind: FittedKind = "garch",
    dist: Errors = "t",
    *,
    presample_frac2: float | None = None,
    fallback_decay: float = DAILY_DECAY,
) -> GarchParameters:
    """Fit a variance recursion with a constant mean to ``(T,)`` returns in fractions; parameters in fractions.

    The presample variance is the backcast of the returns less their mean, or ``presample_frac2``. Falls back to an
    EWMA of ``fallback_decay`` (0.94 for daily returns, 0.97 for shorter bars) when there are fewer than 250 returns,
    one of them is not finite, they do not vary, the optimiser does not converge, or the persistence is 0.999 or more.
    Raises ``ValueError`` for an unknown ``kind`` or ``dist`` only.
    """
    if kind not in _ORDERS:
        raise ValueError(f"fit_garch: kind must be one of {' '.join(_ORDERS)}, not {kind!r}")
    if dist not in ("t", "normal"):
        raise ValueError(f"fit_garch: dist must be t or normal, not {dist!r}")
    returns = np.ascontiguousarray(returns_frac, dtype=np.float64)
    finite = returns[np.isfinite(returns)]
    ewma = GarchParameters.ewma(fallback_decay, backcast_variance(finite))

    def fall_back(why: str) -> GarchParameters:
        return GarchParameters.ewma(fallback_decay, ewma.presample, why)

    if returns.size < FEWEST_RETURNS:
        return fall_back(f"{returns.size} returns, fewer than {FEWEST_RETURNS}")
    if finite.size < returns.size:
        return fall_back("a return is not finite")
    if float(returns.std(ddof=1)) <= 1e-12 * max(1.0, abs(float(returns.mean()))):
        return fall_back("the returns do not vary")
    presample = presample_frac2
    if presample is None:
        presample = backcast_variance(returns - returns.mean())
    fitted = _fit(returns, kind, dist, presample)
    if isinstance(fitted, str):
        return fall_back(fitted)
    if not fitted.persistence < LARGEST_PERSISTENCE:
        return fall_back(f"persistence of {fitted.persistence:.4f}")
    return fitted


def _fit(returns: Floats, kind: FittedKind, dist: Errors, presample: float) -> GarchParameters | str:
    """The fit, or the reason why there is none."""
    from arch import arch_model
    from arch.utility.exceptions import ConvergenceWarning, StartingValueWarning

    model = arch_model(returns * _PERCENT, mean="Constant", dist=dist, rescale=False, **_ORDERS[kind])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", StartingValueWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # the line search leaves the domain and comes back
        try:
            result = model.fit(disp="off", show_warning=False, backcast=presample * _PERCENT * _PERCENT)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            return f"the optimiser stopped: {error}"
    if result.convergence_flag != 0:
        return f"the optimiser did not converge (flag {result.convergence_flag})"
    found = {name: float(value) for name, value in zip(result.params.index, result.params.to_numpy(), strict=True)}
    in_percent = GarchParameters(
        kind,
        found["mu"],
        found["omega"],
        found["alpha[1]"],
        found.get("gamma[1]", 0.0),
        found["beta[1]"],
        found.get("nu", math.nan),
        presample * _PERCENT * _PERCENT,
    )
    fitted = in_percent.scaled(1.0 / _PERCENT)
    return fitted if math.isfinite(log_likelihood(returns, fitted)) else "the likelihood is undefined"


# --- HAR-RV ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HarParameters:
    """HAR on logs: ``log RV' = const + daily log RV + weekly log RV_w + monthly log RV_m + error``.

    ``RV_w`` and ``RV_m`` are means over ``week_days`` and ``month_days``. ``error_variance`` is that of the error
    (``ddof`` = 4), which turns the log forecast into a mean.
    """

    const: float
    daily: float
    weekly: float
    monthly: float
    error_variance: float
    week_days: int
    month_days: int


def fit_har(realized_variance: ArrayLike, *, week_days: int = 7, month_days: int = 30) -> HarParameters | None:
    """Fit HAR-RV by least squares to ``(D,)`` daily realised variances; None when the data do not allow it.

    The market trades every day, so a week has 7 and a month 30 days (Corsi's equity figures are 5 and 22). Needs two
    ``month_days`` rows of positive finite figures and regressors of full rank.
    """
    if not 1 < week_days < month_days:
        raise ValueError(f"HAR needs 1 < week_days < month_days, not {week_days} and {month_days}")
    column = np.ascontiguousarray(realized_variance, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"HAR needs one column of daily variances, not an array of shape {column.shape}")
    if column.size < 2 * month_days or not bool((np.isfinite(column) & (column > 0.0)).all()):
        return None
    rows = _har_rows(column, week_days, month_days)
    x, y = rows[:-1], np.log(column[month_days:])
    solution, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    if rank < x.shape[1]:
        return None
    error = y - x @ solution
    const, daily, weekly, monthly = (float(value) for value in solution)
    variance = float(error @ error) / (y.size - x.shape[1])
    return HarParameters(const, daily, weekly, monthly, variance, week_days, month_days)


def har_forecast(parameters: HarParameters, realized_variance: ArrayLike) -> float:
    """The expected realised variance of the next day, from the last ``month_days`` ones; NaN where undefined.

    ``exp(mean + error_variance / 2)``: the mean of a lognormal figure, not its median.
    """
    column = np.ascontiguousarray(realized_variance, dtype=np.float64)[-parameters.month_days :]
    if column.size < parameters.month_days or not bool((np.isfinite(column) & (column > 0.0)).all()):
        return math.nan
    row = _har_rows(column, parameters.week_days, parameters.month_days)[-1]
    solution = (parameters.const, parameters.daily, parameters.weekly, parameters.monthly)
    return math.exp(float(row @ np.array(solution)) + 0.5 * parameters.error_variance)


def _har_rows(column: Floats, week_days: int, month_days: int) -> Floats:
    """The regressors ``(D - month_days + 1, 4)`` known at the end of each day."""
    weekly = np.lib.stride_tricks.sliding_window_view(column, week_days).mean(axis=1)[month_days - week_days :]
    monthly = np.lib.stride_tricks.sliding_window_view(column, month_days).mean(axis=1)
    daily = column[month_days - 1 :]
    return np.column_stack([np.ones(daily.size), np.log(daily), np.log(weekly), np.log(monthly)])
