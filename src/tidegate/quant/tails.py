"""The far tail, the tail of today's position and volatility, and whether a forecast of it was any good.

A loss is a positive number, ``alpha`` the probability of the tail. The plain estimators are in ``value_at_risk``.

Peaks over threshold (McNeil & Frey 2000):

1. the threshold ``u`` is a high quantile (0.90 to 0.95) of the losses;
2. a generalised Pareto with shape ``xi`` and scale ``beta`` is fitted to the excesses over it by maximum likelihood;
3. the quantile of the whole is ``u + beta/xi ((n alpha / n_u)^-xi - 1)``, and the mean beyond it follows from the
   same fit; for ``xi`` near 0 both are those of the exponential.

Filtered historical simulation (Barone-Adesi, Giannopoulos & Vosper 1999): standardise past returns by the volatility
that was forecast for each, take the quantile of that, and scale it by the volatility that is forecast now. Which model
forecasts is not asked here.

Backtests: Kupiec 1995 (how many exceptions), Christoffersen 1998 (do they come in clusters), Acerbi & Szekely 2014
(how deep they are; the second statistic, its distribution by seeded simulation). Jorion, Value at Risk, for the first.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.columns import column_of, usable
from tidegate.quant.value_at_risk import conditional_var, historical_var

MIN_EXCESSES = 50
"""With fewer losses over the threshold the shape of the tail is not known."""

_EXPONENTIAL_SHAPE = 1e-9


# ---- peaks over threshold --------------------------------------------------------------------------------------------


class TailFit(NamedTuple):
    """A generalised Pareto fitted to the losses over ``threshold``; ``shape`` is xi, ``scale`` is beta."""

    threshold: float
    shape: float
    scale: float
    n_returns: int
    n_excesses: int
    log_likelihood: float

    def var(self, alpha: float) -> float:
        """Loss that is passed with probability ``alpha``, at most the share of excesses; else ``ValueError``."""
        ratio = self._ratio(alpha)
        if abs(self.shape) < _EXPONENTIAL_SHAPE:
            return self.threshold - self.scale * math.log(ratio)
        return self.threshold + self.scale / self.shape * (math.pow(ratio, -self.shape) - 1.0)

    def cvar(self, alpha: float) -> float:
        """Mean loss beyond ``var(alpha)``: ``(VaR + beta - xi u) / (1 - xi)``. NaN from ``shape`` 1: it has no mean."""
        if self.shape >= 1.0:
            return math.nan
        return (self.var(alpha) + self.scale - self.shape * self.threshold) / (1.0 - self.shape)

    def _ratio(self, alpha: float) -> float:
        ratio = self.n_returns * alpha / self.n_excesses
        if not 0.0 < ratio <= 1.0 + 1e-9:
            most = self.n_excesses / self.n_returns
            raise ValueError(f"the tail was fitted below a probability of {most:.4f}; alpha {alpha} is not in it")
        return ratio


def fit_tail(returns: ArrayLike, threshold_quantile: float = 0.95) -> TailFit | None:
    """Fit the losses of ``(T,)`` returns over their ``threshold_quantile`` (linear between order statistics).

    ``None`` with fewer than ``MIN_EXCESSES`` of them, when a return is not finite, or when no likelihood was found.
    Raises ``ValueError`` unless ``0.5 <= threshold_quantile < 1``.
    """
    from scipy.stats import genpareto

    if not 0.5 <= threshold_quantile < 1.0:
        raise ValueError(f"the threshold is a quantile of the losses from 0.5 to below 1, not {threshold_quantile}")
    losses = -column_of(returns)
    if not usable(losses, at_least=MIN_EXCESSES):
        return None
    threshold = float(np.quantile(losses, threshold_quantile))
    excesses = losses[losses > threshold] - threshold
    if excesses.size < MIN_EXCESSES:
        return None
    with np.errstate(all="ignore"):  # the optimiser tries parameters outside the support
        shape, _, scale = (float(each) for each in genpareto.fit(excesses, floc=0.0))
        likelihood = float(np.sum(genpareto.logpdf(excesses, shape, loc=0.0, scale=scale)))
    if not (math.isfinite(likelihood) and scale > 0.0):
        return None
    return TailFit(threshold, shape, scale, losses.size, int(excesses.size), likelihood)


# ---- today's volatility, today's positions ---------------------------------------------------------------------------


def standardised_residuals(returns: ArrayLike, sigma: ArrayLike, mu: float = 0.0) -> NDArray[np.float64]:
    """``(r_t - mu) / sigma_t``: ``(T,)`` returns over the ``(T,)`` volatilities forecast for them **before** them.

    Raises ``ValueError`` when the lengths differ or a volatility is not positive.
    """
    column, spread = column_of(returns), column_of(sigma)
    if column.size != spread.size:
        raise ValueError(f"{column.size} returns need as many volatilities, not {spread.size}")
    if not (spread > 0.0).all():
        raise ValueError("every volatility must be positive; drop the bars from before the first forecast")
    return (column - mu) / spread


def filtered_var(residuals: ArrayLike, sigma_forecast: float, alpha: float, mu: float = 0.0) -> float:
    """``-(mu + sigma q_alpha(z))`` with ``(T,)`` standardised residuals ``z`` and the volatility forecast for the next
    period. NaN with too few residuals (``historical_var``) or a forecast that is not a positive number."""
    return _rescaled(historical_var(residuals, alpha), sigma_forecast, mu)


def filtered_cvar(residuals: ArrayLike, sigma_forecast: float, alpha: float, mu: float = 0.0) -> float:
    """Mean loss beyond ``filtered_var``, the residuals' tail mean scaled in the same way."""
    return _rescaled(conditional_var(residuals, alpha), sigma_forecast, mu)


def _rescaled(loss: float, sigma_forecast: float, mu: float) -> float:
    if not (math.isfinite(sigma_forecast) and sigma_forecast > 0.0):
        return math.nan
    return sigma_forecast * loss - mu


def revalued_returns(weights: ArrayLike, asset_returns: ArrayLike) -> NDArray[np.float64]:
    """What **today's** positions would have returned: ``(N,)`` signed notionals over equity on ``(T, N)`` past returns.

    Not the past returns of the book: those belong to other positions. A missing return (NaN) of an asset that is held
    leaves NaN, of one that is not held nothing. Raises ``ValueError`` when the shapes do not fit.
    """
    column, panel = column_of(weights), np.asarray(asset_returns, dtype=np.float64)
    if panel.ndim != 2 or panel.shape[1] != column.size:
        raise ValueError(f"{column.size} weights need returns of shape (T, {column.size}), not {panel.shape}")
    held = column != 0.0
    return np.asarray(panel[:, held] @ column[held], dtype=np.float64)


# ---- was the forecast any good ---------------------------------------------------------------------------------------


class CoverageTest(NamedTuple):
    """A likelihood ratio and the probability of one at least as large, if the forecast is right."""

    statistic: float
    p_value: float


class IndependenceTest(NamedTuple):
    """Christoffersen's three: unconditional coverage, independence, and both together; ``n01`` counts the days with an
    exception after one without, and so on."""

    n00: int
    n01: int
    n10: int
    n11: int
    unconditional: CoverageTest
    independence: CoverageTest
    conditional: CoverageTest


class ShortfallTest(NamedTuple):
    """Acerbi and Szekely's second statistic: 0 on average when the shortfall is right, below 0 when it is too small.
    ``p_value`` is the share of simulated statistics at or below it."""

    statistic: float
    p_value: float


def kupiec_test(n_exceptions: int, n_returns: int, alpha: float) -> CoverageTest:
    """Proportion of failures, ``LR_uc ~ chi2(1)``. ``0 ln 0`` is 0: no exceptions at all, and only such, are defined.

    Raises ``ValueError`` unless ``0 <= n_exceptions <= n_returns``, ``n_returns > 0`` and ``0 < alpha < 1``.
    """
    if not 0 <= n_exceptions <= n_returns or n_returns < 1 or not 0.0 < alpha < 1.0:
        raise ValueError(
            f"coverage needs 0 to n exceptions of n >= 1 returns and alpha in (0, 1), "
            f"not {n_exceptions} of {n_returns} at {alpha}"
        )
    calm = n_returns - n_exceptions
    expected = _log_likelihood(calm, n_exceptions, alpha)
    seen = _log_likelihood(calm, n_exceptions, n_exceptions / n_returns)
    return _chi_square(max(0.0, -2.0 * (expected - seen)), 1)


def kupiec_region(n_returns: int, alpha: float, test_level: float = 0.05) -> tuple[int, int]:
    """The fewest and the most exceptions of ``n_returns`` with which a forecast is not rejected at ``test_level``."""
    kept = [n for n in range(n_returns + 1) if kupiec_test(n, n_returns, alpha).p_value > test_level]
    return kept[0], kept[-1]


def christoffersen_test(exceptions: ArrayLike, alpha: float) -> IndependenceTest:
    """Do exceptions come in clusters? ``(T,)`` truth values or 0/1, in time order; ``LR_ind ~ chi2(1)`` from the
    transitions, ``LR_cc = LR_uc + LR_ind ~ chi2(2)``. Raises ``ValueError`` on other values or fewer than two."""
    column = column_of(exceptions)
    if column.size < 2 or not np.isin(column, (0.0, 1.0)).all():
        raise ValueError("exceptions are a column of at least two truth values")
    hits = column.astype(np.int64)
    n00, n01, n10, n11 = (int(each) for each in np.bincount(2 * hits[:-1] + hits[1:], minlength=4))
    alike = (n01 + n11) / (hits.size - 1)
    apart = _log_likelihood(n00, n01, _share(n01, n00)) + _log_likelihood(n10, n11, _share(n11, n10))
    independence = max(0.0, -2.0 * (_log_likelihood(n00 + n10, n01 + n11, alike) - apart))
    unconditional = kupiec_test(int(hits.sum()), hits.size, alpha)
    both = _chi_square(unconditional.statistic + independence, 2)
    return IndependenceTest(n00, n01, n10, n11, unconditional, _chi_square(independence, 1), both)


def shortfall_statistic(returns: ArrayLike, var: ArrayLike, cvar: ArrayLike, alpha: float) -> float:
    """Acerbi and Szekely's ``Z2 = 1 + sum(r_t 1[r_t < -VaR_t] / ES_t) / (T alpha)``, all columns ``(T,)``.

    NaN for no returns or any that is not finite. Raises ``ValueError`` when the lengths differ or a shortfall is not
    positive.
    """
    column, quantile, mean_loss = column_of(returns), column_of(var), column_of(cvar)
    if not column.size == quantile.size == mean_loss.size:
        raise ValueError(f"lengths differ: {column.size} returns, {quantile.size} VaR, {mean_loss.size} CVaR")
    if not (mean_loss > 0.0).all():
        raise ValueError("every expected shortfall must be a positive loss")
    if not usable(column, at_least=1):
        return math.nan
    beyond = np.where(column < -quantile, column / mean_loss, 0.0)
    return 1.0 + float(beyond.sum()) / (column.size * alpha)


def acerbi_szekely_test(
    returns: ArrayLike,
    sigma: ArrayLike,
    residuals: ArrayLike,
    alpha: float,
    *,
    seed: int,
    mu: float = 0.0,
    simulations: int = 2_000,
) -> ShortfallTest:
    """Is the shortfall of a filtered forecast deep enough?

    The forecast says ``r_t = mu + sigma_t z`` with ``z`` from ``residuals`` (``(M,)``, fitted before). Its own VaR and
    CVaR are set against ``(T,)`` ``returns``, and the same statistic of ``simulations`` histories drawn from the
    forecast itself tells how unusual the result is. One-sided: small is bad. NaN with too few residuals.
    """
    column, spread, pool = column_of(returns), column_of(sigma), column_of(residuals)
    quantile, mean_loss = historical_var(pool, alpha), conditional_var(pool, alpha)
    if math.isnan(quantile) or not (np.isfinite(column).all() and column.size):
        return ShortfallTest(math.nan, math.nan)
    standardised_residuals(column, spread, mu)  # refuses lengths and volatilities that do not fit
    var, cvar = spread * quantile - mu, spread * mean_loss - mu
    statistic = shortfall_statistic(column, var, cvar, alpha)
    random = np.random.Generator(np.random.PCG64(seed))
    lower = 0
    for _ in range(simulations):
        history = mu + spread * random.choice(pool, size=column.size)
        lower += shortfall_statistic(history, var, cvar, alpha) <= statistic
    return ShortfallTest(statistic, (1 + lower) / (1 + simulations))


def _share(hits: int, misses: int) -> float:
    return hits / (hits + misses) if hits + misses else 0.0


def _log_likelihood(misses: int, hits: int, probability: float) -> float:
    """Of a Bernoulli sequence, ``0 ln 0`` being 0."""
    return (misses * math.log1p(-probability) if misses else 0.0) + (hits * math.log(probability) if hits else 0.0)


def _chi_square(statistic: float, degrees: int) -> CoverageTest:
    from scipy.special import chdtrc

    return CoverageTest(statistic, float(chdtrc(degrees, statistic)))
