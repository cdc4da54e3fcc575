"""What the regime model sees of a bar, as a fold: return, volatility and trend, from the past alone."""

import math

from tidegate.quant.fold import Column, Floats, Fold, step
from tidegate.quant.volatility import RowsAre, row_kind, row_return


@step
def _observe(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: whether a price is known, last price, returns seen (up to the longer window), then that window of returns
    short, trend, kept, rows = int(params[0]), int(params[1]), int(params[2]), params[3]
    out[:] = math.nan
    value = row_return(state, rows, x[0])
    if value != value:
        return
    for i in range(3, 2 + kept):
        state[i] = state[i + 1]
    state[2 + kept] = value
    state[2] = min(state[2] + 1.0, params[2])
    if state[2] < params[2]:
        return
    squares, total = 0.0, 0.0
    for i in range(3 + kept - short, 3 + kept):
        squares += state[i] * state[i]
    for i in range(3 + kept - trend, 3 + kept):
        total += state[i]
    mean, deviations = total / trend, 0.0
    for i in range(3 + kept - trend, 3 + kept):
        deviations += (state[i] - mean) * (state[i] - mean)
    sd = math.sqrt(deviations / (trend - 1.0))
    if squares <= 0.0 or sd <= 1e-12 * max(1.0, abs(mean)):
        return
    out[0] = value
    out[1] = 0.5 * math.log(squares / short)
    out[2] = mean / (sd / math.sqrt(trend))


def RegimeObservation(
    volatility_bars: int = 42, trend_bars: int = 180, *, returns: RowsAre = "log", of: Column = "close"
) -> Fold:
    """What the regime model sees of a bar; NaN in a market that does not move.

    ``log_return`` of the bar, ``log_volatility``: half the log of the mean square of the last ``volatility_bars``
    returns, and ``trend_t``: mean over standard error of the last ``trend_bars`` returns.
    """
    for name, bars, low in (("volatility_bars", volatility_bars, 1), ("trend_bars", trend_bars, 2)):
        if isinstance(bars, bool) or not isinstance(bars, int) or bars < low:
            raise ValueError(f"RegimeObservation: {name} must be a whole number of at least {low}, not {bars!r}")
    rows = row_kind("RegimeObservation", returns, of)
    kept = max(volatility_bars, trend_bars)
    params = (float(volatility_bars), float(trend_bars), float(kept), rows)
    outputs = ("log_return", "log_volatility", "trend_t")
    warmup_bars = kept + (returns != "returns")
    return Fold("RegimeObservation", _observe, params, 3 + kept, (of,), outputs, warmup_bars, warmup_bars)
