"""Fits of a Gaussian HMM, with labels that stay.

1. Winsorise each feature at 5 MAD from its median, then standardise: constants of this window, kept with the model.
2. EM by ``hmmlearn`` from several seeded starts: one from the quantiles of the second feature (the log
   volatility), the others from rows drawn
   at random, and, where there is one, from the previous fit. Of those that converge the best likelihood is kept.
3. Covariances are floored at 1e-4 of a feature's variance, transitions get a thousandth of a pseudo-count, so that no
   probability is 0.
4. Labels: a first fit is sorted by (volatility, mean) of the first feature; a later one is matched to the previous fit
   by the cheapest assignment on the distance of (mean, deviation).
5. Too few rows, a feature that does not vary, features that repeat each other, no convergence: a fit that says why it
   is UNKNOWN. Data never raise.

The same rows and seed give the same bytes in any process: every draw is seeded, and the linear algebra runs on one
thread, because threads add in the order in which they finish. Sources: Rabiner (1989); Kuhn (1955) for the assignment.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.fold import Floats
from tidegate.quant.hmm import HmmFilter, HmmParameters

FEWEST_ROWS: Final = 500
WINSOR_MADS: Final = 5.0
COVARIANCE_FLOOR: Final = 1e-4
MOST_ITERATIONS: Final = 300
LIKELIHOOD_GAIN: Final = 1e-2
"""EM has converged when an iteration gains less log likelihood than this over the whole window."""

_PSEUDO_COUNT: Final = 1e-3
_STAY: Final = 0.95  # of a start: regimes last
_SINGULAR: Final = 1e-8  # smallest eigenvalue of the correlations of the features

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class HmmFit:
    """What a fit found: ``parameters``, or None and the ``reason`` why the regime is UNKNOWN."""

    parameters: HmmParameters | None
    reason: str
    log_likelihood: float
    rows: int
    iterations: int

    @property
    def known(self) -> bool:
        """Whether there are parameters."""
        return self.parameters is not None

    @property
    def bic(self) -> float:
        """Bayesian information criterion of a full-covariance fit: smaller is better; NaN when UNKNOWN."""
        if self.parameters is None:
            return math.nan
        k, d = self.parameters.states, self.parameters.features
        free = (k - 1) + k * (k - 1) + k * d + k * d * (d + 1) // 2
        return free * math.log(self.rows) - 2.0 * self.log_likelihood


def fit_hmm(
    observations: ArrayLike,
    states: int = 3,
    *,
    seed: int,
    restarts: int = 10,
    warm: HmmParameters | None = None,
) -> HmmFit:
    """Fit K states with full covariances to rows ``(T, D)``; the first feature is the return.

    ``restarts`` seeded starts are tried, and ``warm``, whose labels are kept. Never raises for the data; raises
    ``ValueError`` for fewer than 2 states, no start at all or rows that are no matrix.
    """
    rows = np.ascontiguousarray(observations, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"an HMM is fitted to rows of shape (rows, features), not {rows.shape}")
    if states < 2:
        raise ValueError(f"an HMM needs at least 2 states, not {states}")
    if restarts < 0 or (restarts == 0 and warm is None):
        raise ValueError("an HMM needs a start: restarts of at least 1, or a warm one")
    if warm is not None and (warm.states, warm.features) != (states, rows.shape[1]):
        warm = None
    scaler = _scaler(rows)
    if isinstance(scaler, str):
        return HmmFit(None, scaler, math.nan, len(rows), 0)
    standard = (np.clip(rows, scaler.low, scaler.high) - scaler.center) / scaler.scale
    starts = _starts(standard, states, seed, restarts)
    if warm is not None:
        starts.insert(0, _rescaled(warm, scaler))
    best = _best(standard, starts)
    if best is None:
        return HmmFit(None, "no start converged", math.nan, len(rows), 0)
    _, iterations, model = best
    parameters = _labelled(_parameters(model, scaler), warm)
    final = HmmFilter(parameters)
    final.scan(rows)
    return HmmFit(parameters, "", final.log_likelihood, len(rows), iterations)


# --- before EM -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scaler:
    center: Floats
    scale: Floats
    low: Floats
    high: Floats


def _scaler(rows: Floats) -> _Scaler | str:
    """The constants of a window, or the reason why it cannot be fitted."""
    if len(rows) < FEWEST_ROWS:
        return f"{len(rows)} rows, fewer than {FEWEST_ROWS}"
    if not bool(np.isfinite(rows).all()):
        return "a row is not finite"
    median = np.median(rows, axis=0)
    reach = WINSOR_MADS * np.median(np.abs(rows - median), axis=0)
    reach[reach <= 0.0] = math.inf  # more than half of the rows are equal: there is no MAD to clip by
    clipped = np.clip(rows, median - reach, median + reach)
    center, scale = clipped.mean(axis=0), clipped.std(axis=0)
    if bool((scale <= 1e-12 * np.maximum(1.0, np.abs(center))).any()):
        return "a feature does not vary"
    standard = (clipped - center) / scale
    correlations = (standard[:, :, None] * standard[:, None, :]).mean(axis=0)
    if float(np.linalg.eigvalsh(correlations)[0]) < _SINGULAR:
        return "the features repeat each other: their covariance is singular"
    return _Scaler(center, scale, median - reach, median + reach)


@dataclass(frozen=True, slots=True)
class _Start:
    start: Floats
    transition: Floats
    means: Floats
    covariances: Floats


def _starts(rows: Floats, states: int, seed: int, restarts: int) -> list[_Start]:
    features = rows.shape[1]
    uniform = np.full(states, 1.0 / states)
    transition = np.full((states, states), (1.0 - _STAY) / (states - 1))
    np.fill_diagonal(transition, _STAY)
    whole = (rows[:, :, None] * rows[:, None, :]).mean(axis=0)
    starts = []
    for restart in range(restarts):
        covariances = np.tile(whole, (states, 1, 1))
        if restart == 0:
            parts = np.array_split(np.argsort(rows[:, min(1, features - 1)], kind="stable"), states)
            means = np.array([rows[part].mean(axis=0) for part in parts])
            for k, part in enumerate(parts):
                away = rows[part] - means[k]
                covariances[k] = (away[:, :, None] * away[:, None, :]).mean(axis=0) + 0.01 * np.eye(features)
        else:
            rng = np.random.Generator(np.random.PCG64([seed, restart]))
            means = rows[rng.choice(len(rows), size=states, replace=False)]
            covariances *= rng.uniform(0.2, 1.5, size=states)[:, None, None]
        starts.append(_Start(uniform, transition, means, covariances))
    return starts


def _rescaled(warm: HmmParameters, scaler: _Scaler) -> _Start:
    """The previous fit in the standardised units of this window."""
    ratio = warm.scale / scaler.scale
    means = (warm.raw_means() - scaler.center) / scaler.scale
    covariances = warm.covariances * (ratio[:, None] * ratio[None, :])
    return _Start(warm.start, warm.transition, means, covariances)


# --- EM --------------------------------------------------------------------------------------------------------------


def _best(rows: Floats, starts: list[_Start]) -> tuple[float, int, Any] | None:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    found = []
    with threadpool_limits(1):  # the same sums in every process, and four times as fast on matrices this small
        for start in starts:
            result = _em(rows, start)
            if result is not None:
                found.append(result)
    return max(found, key=lambda each: each[0]) if found else None


def _em(rows: Floats, start: _Start) -> tuple[float, int, Any] | None:
    """Log likelihood, iterations and model of one start; None when it does not converge or breaks down."""
    from hmmlearn.base import ConvergenceMonitor
    from hmmlearn.hmm import GaussianHMM

    class Monitor(ConvergenceMonitor):  # type: ignore[misc]
        """Keeps the history without writing to the log that a step went down, which ``converged`` sees anyway."""

        def report(self, log_prob: float) -> None:
            self.history.append(log_prob)
            self.iter += 1

    states, features = start.means.shape
    model = GaussianHMM(
        states,
        "full",
        n_iter=MOST_ITERATIONS,
        tol=LIKELIHOOD_GAIN,
        init_params="",
        random_state=0,
        transmat_prior=1.0 + _PSEUDO_COUNT,
        startprob_prior=1.0 + _PSEUDO_COUNT,
        covars_prior=0.01 * np.eye(features),  # a hundred rows' worth of the floor
    )
    model.monitor_ = Monitor(LIKELIHOOD_GAIN, MOST_ITERATIONS, False)
    model.startprob_, model.transmat_ = start.start.copy(), start.transition.copy()
    model.means_, model.covars_ = start.means.copy(), start.covariances.copy()
    try:
        with np.errstate(all="ignore"):  # a state that dies divides by 0; what comes of it is looked at below
            model.fit(rows)
    except (ValueError, np.linalg.LinAlgError):
        return None
    history = list(model.monitor_.history)
    figures = (model.startprob_, model.transmat_, model.means_, model.covars_)
    if len(history) < 2 or not all(bool(np.isfinite(each).all()) for each in (history, *figures)):
        return None
    if history[-1] - history[-2] >= LIKELIHOOD_GAIN:
        return None
    return history[-1], len(history), model


def _parameters(model: Any, scaler: _Scaler) -> HmmParameters:
    covariances = np.empty_like(model.covars_)
    for k, covariance in enumerate(model.covars_):
        values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
        floored = np.maximum(values, COVARIANCE_FLOOR)
        rebuilt = (vectors * floored) @ vectors.T
        covariances[k] = 0.5 * (rebuilt + rebuilt.T)
    start, transition = np.asarray(model.startprob_), np.asarray(model.transmat_)
    return HmmParameters(
        start / start.sum(),
        transition / transition.sum(axis=1, keepdims=True),
        np.asarray(model.means_),
        covariances,
        scaler.center,
        scaler.scale,
        scaler.low,
        scaler.high,
    )


# --- labels ----------------------------------------------------------------------------------------------------------


def _labelled(fitted: HmmParameters, previous: HmmParameters | None) -> HmmParameters:
    if previous is None:
        means, deviations = fitted.raw_means()[:, 0], fitted.raw_deviations()[:, 0]
        return fitted.reordered(np.lexsort((means, deviations)))
    return fitted.reordered(matching(fitted, previous))


def matching(fitted: HmmParameters, previous: HmmParameters) -> Ints:
    """Which state of ``fitted`` is which of ``previous``, ``(K,)``: place k holds the index of its counterpart.

    The cheapest assignment by the Euclidean distance of means and deviations, in the scales of the previous fit.
    Raises ``ValueError`` when the two do not have the same shape.
    """
    from scipy.optimize import linear_sum_assignment

    if fitted.means.shape != previous.means.shape:
        raise ValueError(f"states of {fitted.means.shape} cannot be matched to states of {previous.means.shape}")
    places = [np.concatenate([each.raw_means(), each.raw_deviations()], axis=1) for each in (previous, fitted)]
    units = np.concatenate([previous.scale, previous.scale])
    away = (places[0][:, None, :] - places[1][None, :, :]) / units
    _, columns = linear_sum_assignment(np.sqrt((away * away).sum(axis=2)))
    return np.asarray(columns, dtype=np.int64)


def states_by_bic(
    observations: ArrayLike, candidates: tuple[int, ...] = (2, 3), *, seed: int, restarts: int = 10
) -> int | None:
    """The number of states with the smallest BIC on these rows, None when no fit is known. Give it the past only."""
    fits = [(fit_hmm(observations, states, seed=seed, restarts=restarts).bic, states) for states in candidates]
    known = [each for each in fits if not math.isnan(each[0])]
    return min(known)[1] if known else None
