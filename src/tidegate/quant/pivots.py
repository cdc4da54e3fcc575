"""Support and resistance from pivots that later bars have confirmed.

1. A bar is a pivot high when its high is above those of the ``confirm_bars`` bars on either side of it (equal ones
   after it do not count against it). That is known ``confirm_bars`` bars later, and not before: to draw the level
   earlier is the classic look into the future. Pivot lows likewise.
2. Pivots are forgotten ``memory_bars`` after they were confirmed, and the oldest first when there are more than
   ``KEPT`` of a kind.
3. A level is a cluster of pivots within ``within_atrs`` ATRs of one of them; it takes ``touches`` of them to make one.
4. Support is the nearest level of pivot lows below the close, resistance the nearest of pivot highs above it.

Source: Edwards & Magee 1948, Technical Analysis of Stock Trends, for levels that were touched before.
"""

import math
from typing import Final

import numpy as np
from numba.extending import register_jitable

from tidegate.quant.fold import Floats, Fold, step
from tidegate.quant.indicators import WILDER_MEMORY

KEPT: Final = 24
"""How many pivots of a kind are kept."""

_ATR, _HIGHS = 1, 5
"""Places in the state: rows seen; the ATR (known, last close, ranges seen, average); windows of highs and of lows; then
price and age of each pivot high, and of each pivot low. An age of 0 is an empty place."""


@register_jitable
def _average_range(state: Floats, high: float, low: float, close: float, bars: float) -> float:
    if state[_ATR] == 0.0:
        state[_ATR], state[_ATR + 1] = 1.0, close
        return math.nan
    last = state[_ATR + 1]
    true_range = max(high - low, abs(high - last), abs(low - last))
    state[_ATR + 1] = close
    if state[_ATR + 2] < bars:
        state[_ATR + 2] += 1.0
        first: float = state[_ATR + 3] + true_range / bars
        state[_ATR + 3] = first
        return first if state[_ATR + 2] == bars else math.nan
    average: float = state[_ATR + 3] + (true_range - state[_ATR + 3]) / bars
    state[_ATR + 3] = average
    return average


@register_jitable
def _keep(state: Floats, start: int, price: float, age: float) -> None:
    """Put a pivot into an empty place, or over the oldest one."""
    place, oldest = start, -1.0
    for i in range(KEPT):
        at = start + 2 * i
        if state[at + 1] == 0.0:
            place = at
            break
        if state[at + 1] > oldest:
            place, oldest = at, state[at + 1]
    state[place], state[place + 1] = price, age


@register_jitable
def _level(state: Floats, start: int, close: float, side: float, reach: float, touches: float) -> float:
    """The nearest cluster beyond the close (above for side 1, below for -1): its mean price, NaN when there is none."""
    level, nearest = math.nan, math.inf
    for i in range(KEPT):
        at = start + 2 * i
        if state[at + 1] == 0.0:
            continue
        total, count = 0.0, 0.0
        for k in range(KEPT):
            other = start + 2 * k
            if state[other + 1] > 0.0 and abs(state[other] - state[at]) <= reach:
                total += state[other]
                count += 1.0
        mean = total / count
        distance = (mean - close) * side
        if count >= touches and 0.0 < distance < nearest:
            level, nearest = mean, distance
    return level


@step
def _support_resistance(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    confirm, atr_bars, memory, within, touches = int(params[0]), params[1], params[2], params[3], params[4]
    high, low, close = x[0], x[1], x[2]
    width = 2 * confirm + 1
    lows = _HIGHS + width
    tops = lows + width
    floors = tops + 2 * KEPT
    for i in range(width - 1):
        state[_HIGHS + i] = state[_HIGHS + i + 1]
        state[lows + i] = state[lows + i + 1]
    state[_HIGHS + width - 1], state[lows + width - 1] = high, low
    state[0] = min(state[0] + 1.0, float(width))
    for i in range(2 * KEPT):
        at = tops + 2 * i + 1
        if state[at] > 0.0:
            state[at] = 0.0 if state[at] >= memory else state[at] + 1.0
    atr = _average_range(state, high, low, close, atr_bars)
    if state[0] == float(width):
        top, floor = True, True
        for i in range(width):
            if i < confirm:
                top = top and state[_HIGHS + confirm] > state[_HIGHS + i]
                floor = floor and state[lows + confirm] < state[lows + i]
            elif i > confirm:
                top = top and state[_HIGHS + confirm] >= state[_HIGHS + i]
                floor = floor and state[lows + confirm] <= state[lows + i]
        if top:
            _keep(state, tops, state[_HIGHS + confirm], float(confirm))
        if floor:
            _keep(state, floors, state[lows + confirm], float(confirm))
    out[:] = math.nan
    if atr > 0.0:
        out[0] = _level(state, floors, close, -1.0, within * atr, touches)
        out[1] = _level(state, tops, close, 1.0, within * atr, touches)


def SupportResistance(
    confirm_bars: int = 5, memory_bars: int = 240, *, atr_bars: int = 14, within_atrs: float = 0.5, touches: int = 2
) -> Fold:
    """The nearest confirmed levels, in price units: ``support`` below the close, ``resistance`` above it; NaN for none.

    Both are levels of ``touches`` pivots or more within ``within_atrs`` ATRs of each other, remembered for
    ``memory_bars`` after they were confirmed. Raises ``ValueError``.
    """
    counts = {"confirm_bars": confirm_bars, "memory_bars": memory_bars, "atr_bars": atr_bars, "touches": touches}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"SupportResistance: {name} must be at least 1, not {value}")
    if not (np.isfinite(within_atrs) and within_atrs > 0.0):
        raise ValueError(f"SupportResistance: within_atrs must be a positive number, not {within_atrs}")
    width = 2 * confirm_bars + 1
    params = (
        float(confirm_bars),
        float(atr_bars),
        float(memory_bars + confirm_bars),
        float(within_atrs),
        float(touches),
    )
    size = _HIGHS + 2 * width + 4 * KEPT
    warmup = max(width, atr_bars + 1)
    memory = max(memory_bars + width, WILDER_MEMORY * atr_bars + 1)
    return Fold(
        "SupportResistance",
        _support_resistance,
        params,
        size,
        ("high", "low", "close"),
        ("support", "resistance"),
        warmup,
        memory,
    )
