"""The indicators against published worksheets and TA-Lib."""

import math
from typing import Any

import numpy as np

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant.fold import Floats, Fold, scan
from tidegate.quant.indicators import ADX, ATR, EMA, MACD, RSI, SMA, Bollinger, Donchian


def run(fold: Fold, columns: dict[str, Any]) -> dict[str, list[float]]:
    """All outputs of a fold over the named columns, NaN where undefined."""
    xs = np.array([columns[name] for name in fold.inputs], dtype=np.float64).T
    ys: Floats = scan(fold, fold.initial(), xs)
    return {name: ys[:, i].tolist() for i, name in enumerate(fold.outputs)}


def first_index(values: list[float]) -> int:
    return next(i for i, value in enumerate(values) if not math.isnan(value))


@case("indicators.json", "rsi-chartschool")
def rsi_chartschool(oracle: Oracle) -> None:
    rsi = run(RSI(oracle.inputs["period"]), oracle.inputs)["rsi"]
    start = first_index(rsi)
    oracle.check("first_index", start)
    oracle.check("rsi_published_first19", rsi[start : start + 19])
    oracle.check("rsi_full", rsi[start:])


@case("indicators.json", "atr-chartschool")
def atr_chartschool(oracle: Oracle) -> None:
    atr_talib(oracle)
    oracle.check("true_range", run(ATR(1, first=oracle.inputs["atr_first"]), oracle.inputs)["atr"])


@case("indicators.json", "atr-talib")
def atr_talib(oracle: Oracle) -> None:
    atr = run(ATR(oracle.inputs["period"], first=oracle.inputs["atr_first"]), oracle.inputs)["atr"]
    oracle.check("first_index", first_index(atr))
    oracle.check("atr", atr[first_index(atr) :])


@case("indicators.json", "bollinger-chartschool")
def bollinger_chartschool(oracle: Oracle) -> None:
    bands = run(Bollinger(oracle.inputs["period"], oracle.inputs["k"]), oracle.inputs)
    start = first_index(bands["middle"])
    oracle.check("", {"first_index": start} | {name: values[start:] for name, values in bands.items()})


@case("indicators.json", "talib-300")
def talib_300(oracle: Oracle) -> None:
    inputs = oracle.inputs
    bands, channel = run(Bollinger(20, 2.0), inputs), run(Donchian(20), inputs)
    adx, macd = run(ADX(14), inputs), run(MACD(12, 26, 9), inputs)
    found = {
        "sma20": run(SMA(20), inputs)["sma"],
        "sma50": run(SMA(50), inputs)["sma"],
        "ema12": run(EMA(12, seed=inputs["ema_seed"]), inputs)["ema"],
        "ema26": run(EMA(26, seed=inputs["ema_seed"]), inputs)["ema"],
        "rsi14": run(RSI(14), inputs)["rsi"],
        "atr14": run(ATR(14, first=inputs["atr_first"]), inputs)["atr"],
        "bb_upper20_2": bands["upper"],
        "bb_lower20_2": bands["lower"],
        "adx14": adx["adx"],
        "plus_di14": adx["plus_di"],
        "minus_di14": adx["minus_di"],
        "donchian_high20": channel["upper"],
        "donchian_low20": channel["lower"],
        "macd": macd["macd"],
        "macd_signal": macd["signal"],
        "macd_hist": macd["histogram"],
    }
    for name, values in found.items():
        oracle.check(name, values)


@case("indicators.json", "rsi-edges")
def rsi_edges(oracle: Oracle) -> None:
    flat, period = oracle.inputs["flat"], oracle.inputs["period"]
    bars = {"high": flat, "low": flat, "close": flat}
    oracle.check("rsi_flat", run(RSI(period), bars)["rsi"][-1])
    oracle.check("rsi_rising", run(RSI(period), {"close": oracle.inputs["rising"]})["rsi"][-1])
    oracle.check("atr_flat", run(ATR(period, first=oracle.inputs["atr_first"]), bars)["atr"][-1])
