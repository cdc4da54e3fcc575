"""Conditional variance: EWMA, GARCH(1,1) and GJR as folds, with their forecasts and likelihoods.

1. One recursion serves all three: ``h_{t+1} = omega + (alpha + gamma 1[e_t < 0]) e_t^2 + beta h_t`` with
   ``e_t = r_t - mean``. An EWMA has ``omega = 0``, ``alpha = 1 - decay`` and ``beta = decay``.
2. It starts from a presample variance that stands for ``h`` and ``e^2`` before the first row, so that the first
   variance is ``omega + (alpha + gamma / 2 + beta) presample``. The presample matters in the third digit of an
   estimate; every function here therefore takes it, or says how it makes it.
3. A fold's output after row t is ``h_{t+1}``: the variance of the next bar, known when bar t has closed.

Units: variances are squares of the unit of the returns. Folds and ``GarchParameters`` take whatever unit they are
given; the fits of ``quant.volatility_fit`` take fractions and return fractions.
Sources: RiskMetrics Technical Document (1996) for the EWMA; Bollerslev (1986); Glosten, Jagannathan & Runkle (1993);
Nelson (1991) for EGARCH, which is here for its likelihood only.
"""

import math
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numba.core import types
from numba.extending import register_jitable
from numpy.typing import ArrayLike

from tidegate.quant.fold import COLUMNS, Column, Floats, Fold, compiled, step

VarianceKind = Literal["ewma", "garch", "gjr", "egarch"]
Errors = Literal["t", "normal"]
RowsAre = Literal["simple", "log", "returns"]
"""What a row is: a price of which the simple or the log return is taken, or the return itself."""

DAILY_DECAY: Final = 0.94
"""The decay of RiskMetrics for daily returns."""

SLOW_DECAY: Final = 0.97
"""The decay of RiskMetrics for monthly horizons, taken here for bars of a few hours."""

BACKCAST_BARS: Final = 75
"""How many of the first squared residuals a backcast weighs."""

_LONGEST_MEMORY_BARS: Final = 10_000  # for a beta so near 1, or above, that the start is never forgotten
_LARGEST_LOG_VARIANCE: Final = 700.0  # exp() of more leaves float64
_MEAN_ABSOLUTE_NORMAL: Final = math.sqrt(2.0 / math.pi)
_ROWS: Final[dict[str, float]] = {"simple": 0.0, "log": 1.0, "returns": 2.0}


# --- the recursion ---------------------------------------------------------------------------------------------------


@register_jitable
def row_return(state: Floats, rows: float, value: float) -> float:
    """The return that a row stands for, for use in a step; NaN where it is undefined.

    ``rows`` comes from ``row_kind``; ``state[0]`` and ``state[1]`` keep whether a price is known, and the last one.
    """
    if rows == 2.0:
        return value
    last, known = state[1], state[0] == 1.0
    state[0], state[1] = 1.0, value
    if not known or last <= 0.0 or value <= 0.0:
        return math.nan
    return math.log(value / last) if rows == 1.0 else value / last - 1.0


@register_jitable
def _next_variance(h: float, e: float, omega: float, alpha: float, gamma: float, beta: float) -> float:
    reaction = alpha + gamma if e < 0.0 else alpha
    return omega + reaction * (e * e) + beta * h


@register_jitable
def _first_variance(presample: float, omega: float, alpha: float, gamma: float, beta: float) -> float:
    return omega + (alpha + 0.5 * gamma + beta) * presample


@step
def _variance(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: whether a price is known, last price, whether a variance is known, variance of the next row
    mean, omega, alpha, gamma, beta = params[0], params[1], params[2], params[3], params[4]
    presample, rows = params[5], params[6]
    out[0] = math.nan
    value = row_return(state, rows, x[0])
    if value != value:
        return
    e = value - mean
    if state[2] == 0.0:
        state[2] = 1.0
        state[3] = _first_variance(e * e if presample < 0.0 else presample, omega, alpha, gamma, beta)
    state[3] = _next_variance(state[3], e, omega, alpha, gamma, beta)
    if state[3] < math.inf:
        out[0] = state[3]


@compiled(types.void(types.float64[::1], types.float64[::1], types.boolean, types.float64[::1]))
def _variances(residuals: Floats, params: Floats, exponential: bool, h: Floats) -> None:
    # params: omega, alpha, gamma, beta, presample; h has one row more than the residuals
    omega, alpha, gamma, beta = params[0], params[1], params[2], params[3]
    if exponential:
        log_h = omega + beta * math.log(params[4])
        for t in range(len(residuals)):
            h[t] = math.exp(min(log_h, _LARGEST_LOG_VARIANCE))
            z = residuals[t] / math.sqrt(h[t])
            log_h = omega + alpha * (abs(z) - _MEAN_ABSOLUTE_NORMAL) + gamma * z + beta * log_h
        h[len(residuals)] = math.exp(min(log_h, _LARGEST_LOG_VARIANCE))
    else:
        h[0] = _first_variance(params[4], omega, alpha, gamma, beta)
        for t in range(len(residuals)):
            h[t + 1] = _next_variance(h[t], residuals[t], omega, alpha, gamma, beta)


# --- folds -----------------------------------------------------------------------------------------------------------


def _check(fold: str, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{fold}: {name} must be a number of at least 0, not {value!r}")


def row_kind(fold: str, returns: RowsAre, of: Column) -> float:
    """What the rows of a fold are, as a parameter of its step. Raises ``ValueError`` for a kind that is unknown."""
    if returns not in _ROWS:
        raise ValueError(f"{fold}: returns must be one of {' '.join(_ROWS)}, not {returns!r}")
    if of not in COLUMNS:
        raise ValueError(f"{fold}: of must be one of {' '.join(COLUMNS)}, not {of!r}")
    return _ROWS[returns]


def _fold(name: str, figures: tuple[float, ...], presample: float | None, returns: RowsAre, of: Column) -> Fold:
    rows = row_kind(name, returns, of)
    if presample is not None:
        _check(name, presample=presample)
    warmup_bars = 1 if returns == "returns" else 2
    beta = figures[4]
    memory_bars = _LONGEST_MEMORY_BARS
    if beta < 1.0:
        forgotten = math.ceil(math.log(1e-12) / math.log(beta)) if beta > 0.0 else 1
        memory_bars = min(_LONGEST_MEMORY_BARS, forgotten + warmup_bars)
    params = (*figures, -1.0 if presample is None else presample, rows)
    return Fold(name, _variance, params, 4, (of,), ("variance",), warmup_bars, memory_bars)


def EWMAVariance(
    half_life_bars: float = 11.2,
    presample: float | None = None,
    *,
    returns: RowsAre = "simple",
    of: Column = "close",
) -> Fold:
    """Exponentially weighted variance of the next bar, about a mean of 0: decay ``2 ** (-1 / half_life_bars)``.

    A half-life of 11.2 bars is the decay 0.94 of RiskMetrics, 22.8 bars is 0.97 (``half_life_bars``). It starts from
    ``presample``, or from the first squared return.
    """
    if not (math.isfinite(half_life_bars) and half_life_bars > 0.0):
        raise ValueError(f"EWMAVariance: half_life_bars must be a positive number, not {half_life_bars!r}")
    decay = 2.0 ** (-1.0 / half_life_bars)
    return _fold("EWMAVariance", (0.0, 0.0, 1.0 - decay, 0.0, decay), presample, returns, of)


def GARCH(
    omega: float,
    alpha: float,
    beta: float,
    presample: float | None = None,
    *,
    mean: float = 0.0,
    returns: RowsAre = "simple",
    of: Column = "close",
) -> Fold:
    """GARCH(1,1) variance of the next bar: ``h' = omega + alpha e^2 + beta h``, ``e = r - mean``.

    It starts from ``presample``, or from the first squared residual. The parameters come from a fit; ones that explode
    (``alpha + beta > 1``) are taken as given, and the output is NaN once it leaves the floats.
    """
    _check("GARCH", omega=omega, alpha=alpha, beta=beta)
    return _fold("GARCH", (mean, omega, alpha, 0.0, beta), presample, returns, of)


def GJR(
    omega: float,
    alpha: float,
    gamma: float,
    beta: float,
    presample: float | None = None,
    *,
    mean: float = 0.0,
    returns: RowsAre = "simple",
    of: Column = "close",
) -> Fold:
    """GJR-GARCH variance of the next bar: as ``GARCH``, with ``alpha + gamma`` after a negative residual.

    ``gamma`` may be negative down to ``-alpha``: below, a loss would lower the variance beneath zero.
    """
    _check("GJR", omega=omega, alpha=alpha, beta=beta)
    if not (math.isfinite(gamma) and alpha + gamma >= 0.0):
        raise ValueError(f"GJR: gamma must be a number of at least -alpha = {-alpha!r}, not {gamma!r}")
    return _fold("GJR", (mean, omega, alpha, gamma, beta), presample, returns, of)


def half_life_bars(decay: float) -> float:
    """The half-life of an exponential decay per bar in (0, 1): ``log(1/2) / log(decay)``."""
    if not 0.0 < decay < 1.0:
        raise ValueError(f"a decay per bar lies between 0 and 1, not {decay!r}")
    return math.log(0.5) / math.log(decay)


# --- parameters ------------------------------------------------------------------------------------------------------


class GarchParameters(msgspec.Struct, frozen=True, gc=False):
    """Parameters of a variance recursion in the unit of the returns (``omega`` and ``presample``: its square).

    ``nu`` is the degrees of freedom of t errors, NaN for normal ones. ``presample`` is the variance before the first
    row. ``fallback`` says why an EWMA stands where a GARCH was asked for, and is empty otherwise.
    """

    kind: VarianceKind
    mean: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    nu: float
    presample: float
    fallback: str = ""

    @classmethod
    def ewma(cls, decay: float, presample: float, fallback: str = "") -> "GarchParameters":
        """The exponentially weighted variance as the GARCH that it is."""
        half_life_bars(decay)
        return cls("ewma", 0.0, 0.0, 1.0 - decay, 0.0, decay, math.nan, presample, fallback)

    @property
    def persistence(self) -> float:
        """How much of a variance is left one bar later: ``alpha + gamma/2 + beta`` (``beta`` of an EGARCH)."""
        return self.beta if self.kind == "egarch" else self.alpha + 0.5 * self.gamma + self.beta

    @property
    def long_run_variance(self) -> float:
        """``omega / (1 - persistence)``; NaN when the persistence is 1 or more, and for an EGARCH."""
        if self.kind == "egarch" or self.persistence >= 1.0 or self.omega <= 0.0:
            return math.nan
        return self.omega / (1.0 - self.persistence)

    def scaled(self, factor: float) -> "GarchParameters":
        """The same model for returns multiplied by ``factor`` (100: from fractions to percent)."""
        square = factor * factor
        omega = self.omega * square
        if self.kind == "egarch":
            omega = self.omega + (1.0 - self.beta) * math.log(square)
        return msgspec.structs.replace(
            self, mean=self.mean * factor, omega=omega, presample=self.presample * square
        )  # fmt: skip

    def fold(self, *, returns: RowsAre = "returns") -> Fold:
        """The recursion as a fold. Raises ``ValueError`` for an EGARCH, which has none here."""
        if self.kind == "egarch":
            raise ValueError("an EGARCH has no fold here: filter with a GARCH or a GJR")
        figures = (self.mean, self.omega, self.alpha, self.gamma, self.beta)
        return _fold(self.kind, figures, self.presample, returns, "close")


# --- whole columns ---------------------------------------------------------------------------------------------------


def backcast_variance(residuals: ArrayLike) -> float:
    """A presample variance: the first 75 squared residuals, weighted by ``0.94 ** t`` (as ``arch`` makes it)."""
    column = _column(residuals)[:BACKCAST_BARS]
    if not column.size:
        return math.nan
    weights = DAILY_DECAY ** np.arange(column.size)
    return float((weights * column**2).sum() / weights.sum())


def conditional_variances(returns: ArrayLike, parameters: GarchParameters) -> Floats:
    """``(T,)`` returns to ``(T + 1,)`` variances: row t is known before return t, the last row is the forecast."""
    column = _column(returns)
    figures = (parameters.omega, parameters.alpha, parameters.gamma, parameters.beta, parameters.presample)
    h = np.empty(column.size + 1)
    _variances(column - parameters.mean, np.array(figures), parameters.kind == "egarch", h)
    return h


def log_likelihood(returns: ArrayLike, parameters: GarchParameters) -> float:
    """The log-likelihood of the returns, from the presample that the parameters state; NaN where it is undefined.

    Errors are Student t with unit variance when ``nu`` is given (Bollerslev 1987), normal otherwise.
    """
    column = _column(returns)
    h = conditional_variances(column, parameters)[:-1]
    if not column.size or not bool((np.isfinite(h) & (h > 0.0)).all()):
        return math.nan
    squares = (column - parameters.mean) ** 2 / h
    nu = parameters.nu
    if math.isnan(nu):
        return float(-0.5 * (math.log(2.0 * math.pi) + np.log(h) + squares).sum())
    if nu <= 2.0:
        return math.nan
    constant = math.lgamma(0.5 * (nu + 1.0)) - math.lgamma(0.5 * nu) - 0.5 * math.log(math.pi * (nu - 2.0))
    return float((constant - 0.5 * np.log(h) - 0.5 * (nu + 1.0) * np.log1p(squares / (nu - 2.0))).sum())


def variance_forecast(parameters: GarchParameters, next_variance: float, horizon_bars: int) -> Floats:
    """The expected variance of each of the next ``horizon_bars`` bars, ``(horizon_bars,)``, from ``h_{T+1}`` on.

    ``h_{T+k} = s2 + persistence^(k-1) (h_{T+1} - s2)`` with the long-run variance ``s2``, carried out step by step,
    which holds for a persistence of 1 too (an EWMA: flat). Their sum is the variance of the sum of the returns.
    Raises ``ValueError`` for an EGARCH beyond one bar, which has no closed form.
    """
    if horizon_bars < 1:
        raise ValueError(f"a forecast needs a horizon of at least 1 bar, not {horizon_bars}")
    if parameters.kind == "egarch" and horizon_bars > 1:
        raise ValueError("an EGARCH has no closed forecast beyond one bar: ask for 1, or fit a GARCH or a GJR")
    forecast = np.empty(horizon_bars)
    forecast[0] = next_variance
    for k in range(1, horizon_bars):
        forecast[k] = parameters.omega + parameters.persistence * forecast[k - 1]
    return forecast


def _column(values: ArrayLike) -> Floats:
    column: np.ndarray[Any, np.dtype[np.float64]] = np.ascontiguousarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"a variance needs one column of returns, not an array of shape {column.shape}")
    return column
