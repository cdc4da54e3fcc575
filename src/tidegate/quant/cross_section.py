"""Cross-sections: extreme values drawn in, values turned into ranks, and weights made neutral to the market.

Plain Python over short lists, one entry per symbol: a decision calls these, and an array would cost more than it saves.
"""

import math
from collections.abc import Sequence
from typing import Final

_NOTHING: Final = 1e-9
"""Weights smaller than this share of what they were made from are rounding noise."""

_NO_SPREAD: Final = 1e-12
"""Betas whose weighted variance is below this share of their weighted square are all the same."""


def winsorised(values: Sequence[float], tail_frac: float) -> list[float]:
    """``values`` with both tails pulled in to the ``tail_frac`` and ``1 - tail_frac`` quantiles (linear between ranks).

    Source: Hyndman & Fan 1996, type 7, for the quantile. Raises ``ValueError`` unless ``0 <= tail_frac < 0.5``.
    """
    if not 0.0 <= tail_frac < 0.5:
        raise ValueError(f"a winsorised tail lies in [0, 0.5), not {tail_frac}")
    if not values:
        return []
    ordered = sorted(values)
    low, high = _quantile(ordered, tail_frac), _quantile(ordered, 1.0 - tail_frac)
    return [min(max(value, low), high) for value in values]


def centred_ranks(values: Sequence[float]) -> list[float]:
    """The ranks of ``values`` spread evenly over [-1, 1], -1 for the smallest; equal values share their mean rank.

    One value, or all of them equal, has rank 0.
    """
    size = len(values)
    if size < 2:
        return [0.0] * size
    order = sorted(range(size), key=lambda index: values[index])
    ranks = [0.0] * size
    first = 0
    while first < size:
        last = first
        while last + 1 < size and values[order[last + 1]] == values[order[first]]:
            last += 1
        for place in range(first, last + 1):
            ranks[order[place]] = (first + last) / (size - 1) - 1.0
        first = last + 1
    return ranks


def neutral_weights(raw: Sequence[float], volatilities: Sequence[float], betas: Sequence[float]) -> list[float]:
    """The weights nearest to ``raw`` with ``sum w = 0`` and ``sum w beta = 0``, the largest of them 1 in size.

    1. Near is measured in risk, ``sum sigma_i^2 (w_i - raw_i)^2``: what is volatile moves least. With ``d = 1/sigma^2``
       and betas centred on their ``d``-weighted mean, the two conditions are orthogonal and each is one projection:
       ``w = raw - d (sum raw / sum d) - d b (sum raw b / sum d b^2)``.
    2. Done twice, so that what rounding left of the first pass is gone too.
    3. All zero when nothing is left, as with two symbols of unlike betas. Equal betas need the first condition only.

    Raises ``ValueError`` on lists of unlike lengths, or a volatility that is not positive.
    """
    if not len(raw) == len(volatilities) == len(betas):
        raise ValueError(
            f"neutral weights need as many volatilities and betas as weights, not {len(raw)}, {len(volatilities)} and "
            f"{len(betas)}"
        )
    if not all(0.0 < each < math.inf for each in volatilities):
        raise ValueError("neutral weights need volatilities above 0")
    if not raw:
        return []
    give = [1.0 / (each * each) for each in volatilities]
    total = math.fsum(give)
    centre = math.fsum(g * beta for g, beta in zip(give, betas, strict=True)) / total
    apart = [beta - centre for beta in betas]
    spread = math.fsum(g * b * b for g, b in zip(give, apart, strict=True))
    whole = math.fsum(g * beta * beta for g, beta in zip(give, betas, strict=True))
    weights = list(raw)
    for _ in range(2):
        level = math.fsum(weights) / total
        tilt = 0.0
        if spread > _NO_SPREAD * whole:
            tilt = math.fsum(w * b for w, b in zip(weights, apart, strict=True)) / spread
        weights = [w - g * (level + tilt * b) for w, g, b in zip(weights, give, apart, strict=True)]
    largest = max(abs(each) for each in weights)
    if not largest > _NOTHING * max(abs(each) for each in raw):
        return [0.0] * len(weights)
    return [each / largest for each in weights]


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = min(math.floor(place), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
