"""Technical indicators as folds.

The formulas are Wilder (1978, *New Concepts in Technical Trading Systems*) for RSI, ATR and ADX, Bollinger (2001) for
the bands, Appel for MACD; the seeds are those of TA-Lib unless a parameter says otherwise. Windows are kept oldest
first and summed anew on each row: a running sum would drift, and a resumed run would differ from an unbroken one.
Outputs are NaN where they are not defined. Prices in, prices (or what the docstring says) out.
"""

import math
from typing import Literal

from numba.extending import register_jitable

from tidegate.quant.fold import COLUMNS, Column, Floats, Fold, step

Seed = Literal["sma", "first"]
FirstRange = Literal["high_low", "skip"]
Returns = Literal["simple", "log"]

_EMA_MEMORY = 14  # (1 - 2/(n+1)) ** (14 (n+1)) is below 1e-12
WILDER_MEMORY = 28  # Wilder's 1/n is the EMA of 2n - 1 bars


def _check_bars(indicator: str, name: str, bars: int, low: int = 1) -> None:
    if isinstance(bars, bool) or not isinstance(bars, int) or bars < low:
        raise ValueError(f"{indicator}: {name} must be a whole number of at least {low}, not {bars!r}")


def _check_choice(indicator: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{indicator}: {name} must be one of {' '.join(choices)}, not {value!r}")


def _check_positive(indicator: str, name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{indicator}: {name} must be a positive number, not {value!r}")


@register_jitable
def _push(state: Floats, start: int, bars: int, value: float) -> None:
    """Shift the window ``state[start : start + bars]`` by one and put the newest value last."""
    for i in range(start, start + bars - 1):
        state[i] = state[i + 1]
    state[start + bars - 1] = value


@register_jitable
def _mean(state: Floats, start: int, bars: int) -> float:
    total = 0.0
    for i in range(start, start + bars):
        total += state[i]
    return total / bars


@register_jitable
def _squares(state: Floats, start: int, bars: int, mean: float) -> float:
    """The sum of squared deviations from the mean."""
    total = 0.0
    for i in range(start, start + bars):
        total += (state[i] - mean) * (state[i] - mean)
    return total


@register_jitable
def _true_range(high: float, low: float, last_close: float) -> float:
    return max(high - low, abs(high - last_close), abs(low - last_close))


@step
def _ema(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: rows seen (up to bars), average or sum of the seed
    bars, alpha, from_first = params[0], params[1], params[2]
    if state[0] < bars:
        state[0] += 1.0
        if from_first == 0.0:
            state[1] += x[0]
            if state[0] < bars:
                out[0] = math.nan
                return
            state[1] = state[1] / bars
        elif state[0] == 1.0:
            state[1] = x[0]
        else:
            state[1] = alpha * x[0] + (1.0 - alpha) * state[1]
    else:
        state[1] = alpha * x[0] + (1.0 - alpha) * state[1]
    out[0] = state[1]


def EMA(bars: int, *, seed: Seed = "sma", of: Column = "close") -> Fold:
    """Exponential moving average with ``alpha = 2 / (bars + 1)``.

    ``seed="sma"`` begins at row ``bars - 1`` with the mean of the first ``bars`` values, ``"first"`` at row 0 with the
    first value.
    """
    _check_bars("EMA", "bars", bars)
    _check_choice("EMA", "seed", seed, ("sma", "first"))
    _check_choice("EMA", "of", of, COLUMNS)
    params = (float(bars), 2.0 / (bars + 1.0), 1.0 if seed == "first" else 0.0)
    return Fold("EMA", _ema, params, 2, (of,), ("ema",), bars, _EMA_MEMORY * (bars + 1))


@step
def _sma(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: rows seen (up to bars), then the window
    bars = int(params[0])
    _push(state, 1, bars, x[0])
    state[0] = min(state[0] + 1.0, params[0])
    out[0] = _mean(state, 1, bars) if state[0] == params[0] else math.nan


def SMA(bars: int, *, of: Column = "close") -> Fold:
    """Simple moving average of the last ``bars`` values."""
    _check_bars("SMA", "bars", bars)
    _check_choice("SMA", "of", of, COLUMNS)
    return Fold("SMA", _sma, (float(bars),), 1 + bars, (of,), ("sma",), bars, bars)


@step
def _rsi(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: rows seen (up to bars + 1), last value, average (first: sum) of gains, of losses
    bars = params[0]
    change = x[0] - state[1]
    state[1] = x[0]
    out[0] = math.nan
    if state[0] == 0.0:
        state[0] = 1.0
        return
    gain, loss = max(change, 0.0), max(-change, 0.0)
    if state[0] <= bars:
        state[0] += 1.0
        state[2] += gain
        state[3] += loss
        if state[0] <= bars:
            return
        state[2] /= bars
        state[3] /= bars
    else:
        state[2] = (state[2] * (bars - 1.0) + gain) / bars
        state[3] = (state[3] * (bars - 1.0) + loss) / bars
    total = state[2] + state[3]
    if total > 0.0:
        out[0] = 100.0 * (state[2] / total)


def RSI(bars: int, *, of: Column = "close") -> Fold:
    """Wilder's relative strength index, 0 to 100; NaN where there was neither gain nor loss, which is 0/0.

    The averages are seeded with the mean of the first ``bars`` changes, so the first value is at row ``bars``.
    """
    _check_bars("RSI", "bars", bars)
    _check_choice("RSI", "of", of, COLUMNS)
    return Fold("RSI", _rsi, (float(bars),), 4, (of,), ("rsi",), bars + 1, WILDER_MEMORY * bars + 1)


@step
def _atr(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: whether a close is known, last close, true ranges seen (up to bars), average (first: sum)
    bars, skip = params[0], params[1]
    out[0] = math.nan
    if state[0] == 0.0:
        state[0] = 1.0
        state[1] = x[2]
        if skip == 1.0:
            return
        true_range = x[0] - x[1]
    else:
        true_range = _true_range(x[0], x[1], state[1])
        state[1] = x[2]
    if state[2] < bars:
        state[2] += 1.0
        state[3] += true_range
        if state[2] < bars:
            return
        state[3] /= bars
    else:
        state[3] = (state[3] * (bars - 1.0) + true_range) / bars
    out[0] = state[3]


def ATR(bars: int, *, first: FirstRange = "skip") -> Fold:
    """Wilder's average true range, in price units.

    ``first="skip"`` leaves the first bar out, for it has no earlier close, and begins at row ``bars``;
    ``"high_low"`` takes its high - low and begins at row ``bars - 1``.
    """
    _check_bars("ATR", "bars", bars)
    _check_choice("ATR", "first", first, ("high_low", "skip"))
    skip = first == "skip"
    warmup_bars = bars + 1 if skip else bars
    params = (float(bars), 1.0 if skip else 0.0)
    return Fold("ATR", _atr, params, 4, ("high", "low", "close"), ("atr",), warmup_bars, WILDER_MEMORY * bars + 1)


@step
def _bollinger(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: rows seen (up to bars), then the window
    bars, width = int(params[0]), params[1]
    _push(state, 1, bars, x[0])
    state[0] = min(state[0] + 1.0, params[0])
    if state[0] < params[0]:
        out[:] = math.nan
        return
    middle = _mean(state, 1, bars)
    sd = math.sqrt(_squares(state, 1, bars, middle) / bars)
    out[0] = middle
    out[1] = middle + width * sd
    out[2] = middle - width * sd
    out[3] = sd


def Bollinger(bars: int, width: float = 2.0, *, of: Column = "close") -> Fold:
    """Bollinger bands: the mean of the last ``bars`` values and ``width`` population standard deviations around it."""
    _check_bars("Bollinger", "bars", bars)
    _check_positive("Bollinger", "width", width)
    _check_choice("Bollinger", "of", of, COLUMNS)
    outputs = ("middle", "upper", "lower", "sd")
    return Fold("Bollinger", _bollinger, (float(bars), float(width)), 1 + bars, (of,), outputs, bars, bars)


@step
def _donchian(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: rows seen (up to bars), then the window of highs, then that of lows
    bars = int(params[0])
    _push(state, 1, bars, x[0])
    _push(state, 1 + bars, bars, x[1])
    state[0] = min(state[0] + 1.0, params[0])
    if state[0] < params[0]:
        out[:] = math.nan
        return
    upper, lower = x[0], x[1]
    for i in range(1, bars + 1):
        upper = max(upper, state[i])
        lower = min(lower, state[bars + i])
    out[0] = upper
    out[1] = lower
    out[2] = (upper + lower) / 2.0


def Donchian(bars: int) -> Fold:
    """Donchian channel: the highest high and the lowest low of the last ``bars`` bars, this one included."""
    _check_bars("Donchian", "bars", bars)
    outputs = ("upper", "lower", "middle")
    return Fold("Donchian", _donchian, (float(bars),), 1 + 2 * bars, ("high", "low"), outputs, bars, bars)


@register_jitable
def _smooth_sum(state: Floats, slot: int, bars: float, value: float, seeding: bool) -> None:
    """Wilder's smoothed sum: a plain sum while seeding, then each row loses one part in ``bars`` and gains a value."""
    state[slot] = state[slot] + value if seeding else state[slot] - state[slot] / bars + value


@step
def _adx(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: rows seen (up to bars + 1), last high, low, close, smoothed true range, +DM, -DM, DX seen, average DX
    bars = params[0]
    high, low = x[0], x[1]
    up, down = high - state[1], state[2] - low
    true_range = _true_range(high, low, state[3])
    state[1], state[2], state[3] = high, low, x[2]
    out[:] = math.nan
    if state[0] == 0.0:
        state[0] = 1.0
        return
    seeding = state[0] < bars
    _smooth_sum(state, 4, bars, true_range, seeding)
    _smooth_sum(state, 5, bars, up if up > down and up > 0.0 else 0.0, seeding)
    _smooth_sum(state, 6, bars, down if down > up and down > 0.0 else 0.0, seeding)
    state[0] = min(state[0] + 1.0, bars + 1.0)
    if state[0] <= bars or state[4] <= 0.0:
        return
    plus_di, minus_di = 100.0 * (state[5] / state[4]), 100.0 * (state[6] / state[4])
    out[1], out[2] = plus_di, minus_di
    if plus_di + minus_di <= 0.0:
        return
    dx = 100.0 * (abs(plus_di - minus_di) / (plus_di + minus_di))
    if state[7] < bars:
        state[7] += 1.0
        state[8] += dx
        if state[7] < bars:
            return
        state[8] /= bars
    else:
        state[8] = (state[8] * (bars - 1.0) + dx) / bars
    out[0] = state[8]


def ADX(bars: int) -> Fold:
    """Wilder's average directional index and the two directional indicators, 0 to 100.

    The indicators begin at row ``bars``, the index at row ``2 bars - 1``. Without any range the indicators are 0/0,
    without any direction the index is: NaN then, and the average stays as it was.
    """
    _check_bars("ADX", "bars", bars, low=2)
    outputs = ("adx", "plus_di", "minus_di")
    memory_bars = 2 * WILDER_MEMORY * bars
    return Fold("ADX", _adx, (float(bars),), 9, ("high", "low", "close"), outputs, 2 * bars, memory_bars)


@step
def _zscore(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: rows seen (up to bars), then the window
    bars = int(params[0])
    _push(state, 1, bars, x[0])
    state[0] = min(state[0] + 1.0, params[0])
    out[0] = math.nan
    if state[0] < params[0]:
        return
    mean = _mean(state, 1, bars)
    sd = math.sqrt(_squares(state, 1, bars, mean) / bars)
    if sd > 1e-12 * max(1.0, abs(mean)):
        out[0] = (x[0] - mean) / sd


def ZScore(bars: int, *, of: Column = "close") -> Fold:
    """How many population standard deviations the value lies from the mean of the last ``bars``, itself included.

    NaN when the window does not vary: ``sd <= 1e-12 max(1, |mean|)``.
    """
    _check_bars("ZScore", "bars", bars, low=2)
    _check_choice("ZScore", "of", of, COLUMNS)
    return Fold("ZScore", _zscore, (float(bars),), 1 + bars, (of,), ("zscore",), bars, bars)


@step
def _realized_vol(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: returns seen (up to bars), last value, then the window of returns
    bars, use_log, scale = int(params[0]), params[1], params[2]
    last = state[1]
    state[1] = x[0]
    out[0] = math.nan
    if last <= 0.0 or x[0] <= 0.0:
        return
    _push(state, 2, bars, math.log(x[0] / last) if use_log == 1.0 else x[0] / last - 1.0)
    state[0] = min(state[0] + 1.0, params[0])
    if state[0] == params[0]:
        mean = _mean(state, 2, bars)
        out[0] = math.sqrt(_squares(state, 2, bars, mean) / (bars - 1.0)) * scale


def RealizedVol(
    bars: int, *, returns: Returns = "simple", bars_per_year: float | None = None, of: Column = "close"
) -> Fold:
    """Sample standard deviation (``ddof=1``) of the last ``bars`` returns, a fraction per bar.

    ``bars_per_year`` annualises it by its square root: 8760 for hourly bars of a market that never closes. A return
    from or to a price that is not positive is undefined and is left out.
    """
    _check_bars("RealizedVol", "bars", bars, low=2)
    _check_choice("RealizedVol", "returns", returns, ("simple", "log"))
    _check_choice("RealizedVol", "of", of, COLUMNS)
    scale = 1.0
    if bars_per_year is not None:
        _check_positive("RealizedVol", "bars_per_year", bars_per_year)
        scale = math.sqrt(bars_per_year)
    params = (float(bars), 1.0 if returns == "log" else 0.0, scale)
    return Fold("RealizedVol", _realized_vol, params, 2 + bars, (of,), ("volatility",), bars + 1, bars + 1)


@step
def _macd(state: Floats, params: Floats, x: Floats, out: Floats) -> None:
    # state: rows seen (up to slow), fast and slow average (first: sum), differences seen (up to signal), signal (sum)
    fast, slow, signal = params[0], params[1], params[2]
    out[:] = math.nan
    if state[0] < slow:
        state[0] += 1.0
        state[2] += x[0]
        if state[0] > slow - fast:
            state[1] += x[0]
        if state[0] < slow:
            return
        state[1] /= fast
        state[2] /= slow
    else:
        state[1] = params[3] * x[0] + (1.0 - params[3]) * state[1]
        state[2] = params[4] * x[0] + (1.0 - params[4]) * state[2]
    macd = state[1] - state[2]
    if state[3] < signal:
        state[3] += 1.0
        state[4] += macd
        if state[3] < signal:
            return
        state[4] /= signal
    else:
        state[4] = params[5] * macd + (1.0 - params[5]) * state[4]
    out[0] = macd
    out[1] = state[4]
    out[2] = macd - state[4]


def MACD(fast_bars: int = 12, slow_bars: int = 26, signal_bars: int = 9, *, of: Column = "close") -> Fold:
    """Moving average convergence and divergence: fast minus slow EMA, its own EMA (the signal), and their difference.

    As in TA-Lib the fast average starts together with the slow one, with the mean of the ``fast_bars`` values up to
    there, and all outputs begin at row ``slow_bars + signal_bars - 2``.
    """
    for name, bars in (("fast_bars", fast_bars), ("slow_bars", slow_bars), ("signal_bars", signal_bars)):
        _check_bars("MACD", name, bars)
    if fast_bars >= slow_bars:
        raise ValueError(f"MACD: fast_bars must be below slow_bars, not {fast_bars} against {slow_bars}")
    _check_choice("MACD", "of", of, COLUMNS)
    lengths = (float(fast_bars), float(slow_bars), float(signal_bars))
    params = lengths + tuple(2.0 / (bars + 1.0) for bars in lengths)
    memory_bars = _EMA_MEMORY * (slow_bars + 1) + _EMA_MEMORY * (signal_bars + 1)
    outputs = ("macd", "signal", "histogram")
    return Fold("MACD", _macd, params, 5, (of,), outputs, slow_bars + signal_bars - 1, memory_bars)
