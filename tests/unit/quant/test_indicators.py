"""Indicators against their definitions in plain Python, and what they refuse."""

import itertools
import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest

from tidegate.quant.fold import Fold, scan
from tidegate.quant.indicators import ADX, ATR, EMA, MACD, RSI, SMA, Bollinger, Donchian, RealizedVol, ZScore

PRICES = (100.0 * np.exp(np.cumsum(np.random.default_rng(7).normal(0.0, 0.02, 80)))).tolist()


def column(fold: Fold, *columns: list[float], output: int = 0) -> list[float]:
    result: list[float] = scan(fold, fold.initial(), np.array(columns).T)[:, output].tolist()
    return result


def windows(values: list[float], bars: int) -> list[list[float]]:
    return [values[i - bars + 1 : i + 1] for i in range(bars - 1, len(values))]


def test_ema_seeded_with_the_first_value_starts_with_it() -> None:
    alpha, expected = 2.0 / 11.0, [PRICES[0]]
    for price in PRICES[1:]:
        expected.append(alpha * price + (1.0 - alpha) * expected[-1])
    assert column(EMA(10, seed="first"), PRICES) == expected


def test_ema_seeded_with_the_mean_of_its_first_window() -> None:
    alpha, expected = 2.0 / 11.0, [sum(PRICES[:10]) / 10.0]
    for price in PRICES[10:]:
        expected.append(alpha * price + (1.0 - alpha) * expected[-1])
    got = column(EMA(10), PRICES)
    assert np.isnan(got[:9]).all()
    assert got[9:] == expected


def test_averages_of_one_bar_are_the_price() -> None:
    assert column(EMA(1), PRICES) == column(SMA(1), PRICES) == PRICES


def test_a_window_forgets_what_left_it() -> None:
    spike = [1e15, *PRICES]
    assert column(SMA(5), spike)[6:] == column(SMA(5), PRICES)[5:]


def test_zscore_is_in_population_deviations() -> None:
    expected = [(w[-1] - statistics.fmean(w)) / statistics.pstdev(w) for w in windows(PRICES, 20)]
    assert column(ZScore(20), PRICES)[19:] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("price", [100.0, 0.1, 1e-5, 67_000.1])
def test_undefined_on_a_flat_market(price: float) -> None:
    flat = [price] * 40
    assert np.isnan(column(ZScore(10), flat)).all()
    assert np.isnan(column(RSI(10), flat)).all()
    assert np.isnan(scan(ADX(5), ADX(5).initial(), np.full((40, 3), price))).all()
    assert column(ATR(10), flat, flat, flat)[10:] == [0.0] * 30
    assert column(RealizedVol(10), flat)[10:] == [0.0] * 30


@pytest.mark.parametrize(
    ("fold", "change", "scale"),
    [
        (RealizedVol(10), lambda a, b: b / a - 1.0, 1.0),
        (RealizedVol(10, returns="log"), lambda a, b: math.log(b / a), 1.0),
        (RealizedVol(10, bars_per_year=8760.0), lambda a, b: b / a - 1.0, math.sqrt(8760.0)),
    ],
)
def test_realized_volatility_is_a_sample_deviation(
    fold: Fold, change: Callable[[float, float], float], scale: float
) -> None:
    returns = [change(a, b) for a, b in itertools.pairwise(PRICES)]
    expected = [statistics.stdev(w) * scale for w in windows(returns, 10)]
    got = column(fold, PRICES)
    assert np.isnan(got[:10]).all()
    assert got[10:] == pytest.approx(expected, rel=1e-9)


def test_a_return_from_a_price_that_is_not_positive_is_left_out() -> None:
    values = [1.0, 2.0, 0.0, 3.0, 4.0, 5.0]
    got = column(RealizedVol(2, returns="log"), values)
    assert np.isnan(got[:4]).all()
    assert got[4] == pytest.approx(statistics.stdev([math.log(2.0), math.log(4.0 / 3.0)]))


def test_donchian_is_the_extremes_of_the_window() -> None:
    highs, lows = [p * 1.01 for p in PRICES], [p * 0.99 for p in PRICES]
    assert column(Donchian(7), highs, lows)[6:] == [max(w) for w in windows(highs, 7)]
    assert column(Donchian(7), highs, lows, output=1)[6:] == [min(w) for w in windows(lows, 7)]
    assert column(Donchian(1), highs, lows, output=2) == pytest.approx(PRICES)


def test_a_trend_without_pullback_has_an_adx_of_one_hundred() -> None:
    rise = [100.0 + i for i in range(60)]
    bars = [p + 0.5 for p in rise], [p - 0.5 for p in rise], rise
    assert column(ADX(7), *bars)[13:] == pytest.approx([100.0] * 47)
    assert column(ADX(7), *bars, output=2)[7:] == [0.0] * 53


def test_any_column_can_be_averaged() -> None:
    assert SMA(3, of="volume").inputs == ("volume",)
    assert EMA(3, of="open").inputs == ("open",)


@pytest.mark.parametrize("fold", [EMA(20), EMA(20, seed="first"), RSI(14), ATR(14), ADX(14), MACD(), SMA(20)])
def test_memory_is_long_enough_for_a_cold_start(fold: Fold) -> None:
    rng = np.random.default_rng(11)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, fold.memory_bars * 2)))
    bars = {"close": close, "high": close * 1.004, "low": close * 0.997}
    xs = np.array([bars[name] for name in fold.inputs]).T
    full, cold = scan(fold, fold.initial(), xs)[-1], scan(fold, fold.initial(), xs[-fold.memory_bars :])[-1]
    assert cold == pytest.approx(full, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EMA(0), "EMA: bars must be a whole number of at least 1, not 0"),
        (lambda: SMA(2.5), "SMA: bars"),  # type: ignore[arg-type]
        (lambda: RSI(True), "RSI: bars"),
        (lambda: ADX(1), "ADX: bars must be a whole number of at least 2"),
        (lambda: ZScore(1), "ZScore: bars"),
        (lambda: Donchian(-3), "Donchian: bars"),
        (lambda: EMA(5, seed="last"), "EMA: seed must be one of sma first, not 'last'"),  # type: ignore[arg-type]
        (lambda: ATR(5, first="all"), "ATR: first must be one of high_low skip"),  # type: ignore[arg-type]
        (lambda: SMA(5, of="price"), "SMA: of must be one of open high low close volume"),  # type: ignore[arg-type]
        (lambda: Bollinger(5, 0.0), "Bollinger: width must be a positive number"),
        (lambda: Bollinger(5, math.nan), "Bollinger: width"),
        (lambda: RealizedVol(1), "RealizedVol: bars"),
        (lambda: RealizedVol(5, returns="gross"), "RealizedVol: returns"),  # type: ignore[arg-type]
        (lambda: RealizedVol(5, bars_per_year=-1.0), "RealizedVol: bars_per_year"),
        (lambda: MACD(26, 12), "MACD: fast_bars must be below slow_bars, not 26 against 12"),
        (lambda: MACD(signal_bars=0), "MACD: signal_bars"),
    ],
)
def test_wrong_arguments_are_named(make: Callable[[], Fold], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
