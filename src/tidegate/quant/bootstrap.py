"""How far a Sharpe ratio can be believed: the stationary bootstrap, with a block length that the returns choose.

1. The block length: the autocorrelations are cut where enough of them in a row are within chance; a flat-top lag window
   of twice that width gives the long-run variance and its bias, and they give the mean length at which the error of the
   bootstrap is least.
2. A draw: the sample is a circle. Blocks begin anywhere, each point ends its block with probability 1 / length, so that
   lengths are geometric and a draw is as stationary as the sample.
3. The interval: quantiles of the ratios of the draws.

Source: Politis & Romano 1994, The Stationary Bootstrap; Politis & White 2004, Automatic Block-Length Selection for the
Dependent Bootstrap, as corrected by Patton, Politis & White 2009.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.columns import ZERO_SPREAD, column_of, spread_or_zero, usable
from tidegate.quant.sharpe import PERIODS_PER_YEAR

MIN_RETURNS = 30
"""With fewer there is no interval: the block length would be a guess."""

_POINTS_AT_ONCE = 1 << 20  # of all draws that are made together


def stationary_block_length(values: ArrayLike) -> float:
    """The mean block length of the stationary bootstrap for the mean of ``(T,)`` values, at most ``3 sqrt(T)``.

    It may be below 1 (nothing depends on anything), which is a block of one. NaN for fewer than ``MIN_RETURNS`` values,
    values that are not finite, or none that differ.
    """
    column = column_of(values)
    if not _varied(column):
        return math.nan
    size = column.size
    enough = max(5, int(math.log10(size)))
    most = math.ceil(math.sqrt(size)) + enough
    covariances, correlations = _autocovariances(column - column.mean(), most)
    width = _window(correlations, enough, 2.0 * math.sqrt(math.log10(size) / size), most)
    lags = np.arange(1, width + 1)
    flat_top = 2.0 * np.minimum(1.0, 2.0 * (1.0 - lags / width)) * covariances[1 : width + 1]
    long_run = covariances[0] + float(flat_top.sum())
    if not long_run:
        return math.nan
    bias = float((flat_top * lags).sum())
    length = math.cbrt((bias / long_run) ** 2 * size)
    return min(length, math.ceil(min(3.0 * math.sqrt(size), size / 3.0)))


def stationary_draws(
    size: int, block_length: float, draws: int, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """Rows of ``size`` indices into a sample of that size, ``draws`` of them, some rows at a time: ``(rows, size)``.

    Raises ``ValueError`` for no sample, no draws or a block length that is not positive.
    """
    if size < 1 or draws < 1 or not block_length > 0.0:
        raise ValueError(f"a bootstrap needs a sample, draws and a block length, not {size}, {draws}, {block_length}")
    together = max(1, _POINTS_AT_ONCE // size)
    here = np.arange(size)
    for done in range(0, draws, together):
        shape = (min(together, draws - done), size)
        begins = rng.random(shape) * max(1.0, block_length) < 1.0
        begins[:, 0] = True
        since = np.maximum.accumulate(np.where(begins, here, 0), axis=1)  # where the block of each point began
        starts = rng.integers(0, size, shape)
        yield (np.take_along_axis(starts, since, axis=1) + here - since) % size


def sharpe_interval(
    returns: ArrayLike,
    level: float = 0.95,
    draws: int = 5_000,
    *,
    seed: int = 0,
    periods_per_year: float = PERIODS_PER_YEAR,
) -> tuple[float, float]:
    """The interval in which the annualised Sharpe ratio of ``(T,)`` returns lies with probability ``level``.

    It knows the luck of one sample, not that of a choice among many trials. The same seed gives the same interval.
    NaN for fewer than ``MIN_RETURNS`` returns, and without variance. Raises ``ValueError`` unless ``0 < level < 1``.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level lies between 0 and 1 (0.95), not {level}")
    column = column_of(returns)
    length = stationary_block_length(column)
    if not math.isfinite(length):
        return math.nan, math.nan
    rng = np.random.Generator(np.random.PCG64(seed))
    ratios = np.concatenate([_ratios(column[rows]) for rows in stationary_draws(column.size, length, draws, rng)])
    ratios = ratios[np.isfinite(ratios)] * math.sqrt(periods_per_year)
    if ratios.size < draws / 2:
        return math.nan, math.nan
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(ratios, (tail, 1.0 - tail))
    return float(low), float(high)


def _varied(column: NDArray[np.float64]) -> bool:
    if not usable(column, at_least=MIN_RETURNS):
        return False
    return bool(spread_or_zero(float(column.std(ddof=1)), float(column.mean())))


def _autocovariances(deviations: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Autocovariances of lags 0 to ``most``, and the sizes of the autocorrelations, each normed by its own ends."""
    size = deviations.size
    products = np.array([deviations[lag:] @ deviations[: size - lag] for lag in range(most + 1)])
    later = np.array([deviations[lag + 1 :] @ deviations[lag + 1 :] for lag in range(most + 1)])
    earlier = np.array([deviations[: -(lag + 1)] @ deviations[: -(lag + 1)] for lag in range(most + 1)])
    with np.errstate(divide="ignore", invalid="ignore"):
        return products / size, np.abs(products) / np.sqrt(later * earlier)


def _window(correlations: NDArray[np.float64], enough: int, by_chance: float, most: int) -> int:
    """Twice the lag after which ``enough`` autocorrelations in a row are no more than chance."""
    small = correlations < by_chance
    for lag in range(most - enough + 1):
        if small[lag : lag + enough].all():
            return min(2 * max(lag, 1), most)
    return most


def _ratios(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Sharpe ratio per period of each row; NaN for a row without variance."""
    means, spreads = samples.mean(axis=1), samples.std(axis=1, ddof=1)
    there = spreads > ZERO_SPREAD * np.maximum(1.0, np.abs(means))
    ratios = np.full(means.shape, np.nan)
    ratios[there] = means[there] / spreads[there]
    return ratios
