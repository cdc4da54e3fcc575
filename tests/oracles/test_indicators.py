"""The indicators against published worksheets and TA-Lib: every expected number of the vectors is compared."""

import json
import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate.quant.fold import Floats, Fold, scan
from tidegate.quant.indicators import ADX, ATR, EMA, MACD, RSI, SMA, Bollinger, Donchian

Case = dict[str, Any]


def run(fold: Fold, columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """All outputs of a fold over the named columns, NaN where undefined."""
    xs = np.array([columns[name] for name in fold.inputs], dtype=np.float64).T
    ys: Floats = scan(fold, fold.initial(), xs)
    return {name: ys[:, i].tolist() for i, name in enumerate(fold.outputs)}


def first_index(values: list[float]) -> int:
    return next(i for i, value in enumerate(values) if not math.isnan(value))


def rsi_chartschool(inputs: Case) -> Case:
    rsi = run(RSI(inputs["period"]), inputs)["rsi"]
    start = first_index(rsi)
    return {"first_index": start, "rsi_published_first19": rsi[start : start + 19], "rsi_full": rsi[start:]}


def atr_chartschool(inputs: Case) -> Case:
    atr = run(ATR(inputs["period"], first=inputs["atr_first"]), inputs)["atr"]
    true_range = run(ATR(1, first=inputs["atr_first"]), inputs)["atr"]
    return {"first_index": first_index(atr), "true_range": true_range, "atr": atr[first_index(atr) :]}


def atr_talib(inputs: Case) -> Case:
    atr = run(ATR(inputs["period"], first=inputs["atr_first"]), inputs)["atr"]
    return {"first_index": first_index(atr), "atr": atr[first_index(atr) :]}


def bollinger_chartschool(inputs: Case) -> Case:
    bands = run(Bollinger(inputs["period"], inputs["k"]), inputs)
    start = first_index(bands["middle"])
    return {"first_index": start} | {name: values[start:] for name, values in bands.items()}


def talib_300(inputs: Case) -> Case:
    bands, channel = run(Bollinger(20, 2.0), inputs), run(Donchian(20), inputs)
    adx, macd = run(ADX(14), inputs), run(MACD(12, 26, 9), inputs)
    return {
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


def rsi_edges(inputs: Case) -> Case:
    flat, period = inputs["flat"], inputs["period"]
    bars = {"high": flat, "low": flat, "close": flat}
    return {
        "rsi_flat": run(RSI(period), bars)["rsi"][-1],
        "rsi_rising": run(RSI(period), {"close": inputs["rising"]})["rsi"][-1],
        "atr_flat": run(ATR(period, first=inputs["atr_first"]), bars)["atr"][-1],
    }


CASES: dict[str, Callable[[Case], Case]] = {
    "rsi-chartschool": rsi_chartschool,
    "atr-chartschool": atr_chartschool,
    "atr-talib": atr_talib,
    "bollinger-chartschool": bollinger_chartschool,
    "talib-300": talib_300,
    "rsi-edges": rsi_edges,
}


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Case]:
    file = shared / "oracles" / "quant" / "indicators.json"
    return {case["id"]: case for case in json.loads(file.read_text(encoding="utf-8"))["cases"]}


def tolerance(case: Case, key: str) -> tuple[float, float]:
    """Absolute and relative: the entry of ``per_key`` whose pattern covers the key, else the case's own."""
    own = case["tolerance"]
    entry = next((v for pattern, v in own.get("per_key", {}).items() if fnmatchcase(key, pattern)), own)
    return entry.get("abs", 0.0), entry.get("rel", 0.0)


def assert_close(got: Any, expected: Any, tolerances: tuple[float, float], where: str) -> None:
    if isinstance(expected, list):
        assert len(got) == len(expected), where
        for i, (g, e) in enumerate(zip(got, expected, strict=True)):
            assert_close(g, e, tolerances, f"{where}[{i}]")
    elif expected is None:
        assert math.isnan(got), f"{where}: expected nothing, got {got}"
    else:
        absolute, relative = tolerances
        assert abs(got - expected) <= absolute + relative * abs(expected), f"{where}: {got} against {expected}"


def test_no_case_is_left_out(vectors: dict[str, Case]) -> None:
    assert set(vectors) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_every_expected_number(vectors: dict[str, Case], name: str) -> None:
    case = vectors[name]
    got = CASES[name](case["inputs"])
    assert set(got) >= set(case["expected"])
    for key, expected in case["expected"].items():
        assert_close(got[key], expected, tolerance(case, key), f"{name}.{key}")
