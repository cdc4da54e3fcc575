"""Measures against published and library figures, and the laws they obey."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tidegate.quant import measures

RETURNS = arrays(np.float64, st.integers(2, 60), elements=st.floats(-0.5, 0.5))

THE_24 = [
    "simple_returns",
    "log_returns",
    "cumulative_returns",
    "cagr",
    "annualized_volatility",
    "downside_deviation",
    "sharpe_ratio",
    "sharpe_ratio_autocorr",
    "sortino_ratio",
    "max_drawdown",
    "drawdown_series",
    "calmar_ratio",
    "omega_ratio",
    "ulcer_index",
    "historical_var",
    "parametric_var",
    "conditional_var",
    "kelly_fraction",
    "beta",
    "information_ratio",
    "profit_factor",
    "probabilistic_sharpe_ratio",
    "deflated_sharpe_ratio",
    "ewma_volatility",
]


def noise(size: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.001, 0.02, size)


def test_the_module_has_the_24() -> None:
    assert len(THE_24) == 24
    assert set(THE_24) <= set(measures.__all__)
    assert all(callable(getattr(measures, name)) for name in THE_24)


def test_undefined_is_nan_and_silent() -> None:
    for function in (measures.sharpe_ratio, measures.sortino_ratio):
        assert math.isnan(function([0.01] * 30))
        assert math.isnan(function([]))
    assert math.isnan(measures.annualized_volatility([0.01]))
    assert math.isnan(measures.cagr([]))
    assert math.isnan(measures.downside_deviation([]))
    assert math.isnan(measures.cagr([50.0]))  # 51 ** 365 is no float
    assert math.isnan(measures.max_drawdown([0.1, math.nan]))
    assert math.isnan(measures.max_drawdown([1e200, 1e200, 0.0]))
    assert math.isnan(measures.sharpe_ratio([0.1, math.inf, 0.2]))


def test_no_variance_is_no_volatility() -> None:
    assert measures.annualized_volatility([0.01] * 30) == 0.0


def test_a_large_constant_has_no_variance_either() -> None:
    assert math.isnan(measures.sharpe_ratio(np.full(30, 12_345.678901)))


def test_small_real_variance_is_kept() -> None:
    returns = [1e-9, 2e-9, 3e-9]
    assert measures.sharpe_ratio(returns, 0.0, 1) == pytest.approx(2.0)


def test_ruin_absorbs() -> None:
    assert measures.cagr([0.5, -1.0, 0.2]) == -1.0
    assert measures.cagr([0.5, -1.7, 0.2]) == -1.0
    assert measures.max_drawdown([0.5, -1.7, 0.2]) == 1.0


@pytest.mark.parametrize("prices", [[100.0, 0.0], [100.0, -1.0]])
def test_simple_returns_refuses_what_is_no_price(prices: list[float]) -> None:
    with pytest.raises(ValueError, match=r"positive prices, not .* at index 1"):
        measures.simple_returns(prices)


def test_simple_returns_lengths() -> None:
    assert measures.simple_returns([]).shape == (0,)
    assert measures.simple_returns([5.0]).shape == (0,)
    assert measures.simple_returns([100.0, 110.0, 99.0]) == pytest.approx([0.1, -0.1])


def test_drawdown_counts_the_start_as_a_peak() -> None:
    assert measures.drawdown_series([100.0, 80.0, 120.0, 90.0]) == pytest.approx([0.0, 0.2, 0.0, 0.25])
    assert measures.max_drawdown([100.0, 80.0, 120.0, 90.0], equity=True) == pytest.approx(0.25)
    assert measures.max_drawdown([-0.2, 0.5, -0.1]) == pytest.approx(0.2)


def test_drawdown_without_a_positive_peak_is_undefined() -> None:
    got = measures.drawdown_series([0.0, 10.0, 5.0, math.nan, 4.0])
    assert np.isnan(got[[0, 3, 4]]).all()
    assert got[1:3] == pytest.approx([0.0, 0.5])
    assert measures.drawdown_series([]).shape == (0,)


def test_an_equity_curve_is_not_read_as_returns() -> None:
    with pytest.raises(ValueError, match="equity=True"):
        measures.max_drawdown([10_000.0, 9_000.0])


def test_one_column_only() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 1\)"):
        measures.sharpe_ratio([[0.1], [0.2]])


@given(RETURNS)
def test_drawdown_of_returns_is_drawdown_of_their_equity(returns: np.ndarray) -> None:
    equity = 1_000.0 * np.cumprod(np.append(1.0, 1.0 + returns))
    assert measures.max_drawdown(returns) == pytest.approx(measures.max_drawdown(equity, equity=True), abs=1e-12)
    assert measures.simple_returns(equity) == pytest.approx(returns, abs=1e-9)


@given(RETURNS, st.floats(0.1, 2.0))
def test_ratios_do_not_see_leverage(returns: np.ndarray, leverage: float) -> None:
    for ratio in (measures.sharpe_ratio, measures.sortino_ratio):
        plain, levered = ratio(returns), ratio(leverage * returns)
        if math.isfinite(plain) and math.isfinite(levered):  # near zero variance the relative floor decides
            assert levered == pytest.approx(plain, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    "measure",
    [
        measures.cagr,
        measures.annualized_volatility,
        measures.downside_deviation,
        measures.sharpe_ratio,
        measures.sortino_ratio,
        measures.sharpe_ratio_autocorr,
        measures.calmar_ratio,
        measures.omega_ratio,
        measures.profit_factor,
        measures.hit_rate,
        measures.tail_ratio,
        measures.skewness,
        measures.kurtosis,
        measures.ulcer_index,
        measures.max_drawdown_duration,
        lambda returns: measures.beta(returns, np.arange(len(returns))),
        lambda returns: measures.information_ratio(returns, np.arange(len(returns))),
        lambda returns: measures.parametric_var(returns, 0.05),
        lambda returns: measures.parametric_var(returns, 0.05, "cornish_fisher"),
        lambda returns: measures.conditional_var(returns, 0.2),
    ],
)
@settings(deadline=None)  # the first call of some loads a library
@given(returns=arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e6, 1e6) | st.just(math.nan)))
def test_a_figure_is_finite_or_nan_and_comes_without_a_warning(
    measure: Callable[..., float], returns: np.ndarray
) -> None:
    assert not math.isinf(measure(returns))


# Returns


def test_log_returns_are_the_logarithms_of_growth() -> None:
    prices = [100.0, 110.0, 99.0]
    assert np.expm1(measures.log_returns(prices)) == pytest.approx(measures.simple_returns(prices))
    with pytest.raises(ValueError, match="positive prices"):
        measures.log_returns([100.0, 0.0])


def test_cumulative_returns_stop_at_ruin() -> None:
    assert measures.cumulative_returns([0.5, -0.5, 0.2]) == pytest.approx([0.5, -0.25, -0.1])
    assert measures.cumulative_returns([0.1, -1.3, 0.2]).tolist() == pytest.approx([0.1, -1.0, -1.0])
    assert np.isnan(measures.cumulative_returns([0.1, math.nan, 0.2])).tolist() == [False, True, True]
    assert np.isnan(measures.cumulative_returns([1e200, 1e200])).tolist() == [False, True]
    assert measures.cumulative_returns([]).shape == (0,)


# Drawdowns


@given(RETURNS)
def test_drawdown_figures_keep_their_order(returns: np.ndarray) -> None:
    equity = np.cumprod(np.append(1.0, 1.0 + returns))
    series, deepest = measures.drawdown_series(equity), measures.max_drawdown(returns)
    assert series.min() >= 0.0
    assert series.max() <= 1.0
    assert 0.0 <= measures.ulcer_index(equity) <= deepest + 1e-12
    assert 0.0 <= measures.max_drawdown_duration(equity) <= returns.size


def test_ulcer_index_averages_over_the_periods() -> None:
    assert measures.ulcer_index([100.0, 80.0, 120.0, 90.0]) == pytest.approx(math.sqrt((0.04 + 0.0 + 0.0625) / 3))
    assert math.isnan(measures.ulcer_index([100.0]))


def test_duration_counts_the_periods_under_water() -> None:
    assert measures.max_drawdown_duration([100.0, 90.0, 95.0, 100.0, 99.0, 101.0, 100.0]) == 2.0
    assert measures.max_drawdown_duration([100.0, 90.0, 95.0]) == 2.0
    assert measures.max_drawdown_duration([1.0, 2.0]) == 0.0


# Ratios without a denominator


def test_no_loss_no_ratio() -> None:
    for function in (measures.omega_ratio, measures.profit_factor, measures.calmar_ratio):
        assert math.isnan(function([0.01] * 30))
    assert measures.profit_factor([-1.0, -2.0]) == 0.0
    assert measures.omega_ratio([0.03, -0.01], 0.01) == pytest.approx(1.0)
    assert math.isnan(measures.tail_ratio([0.0] * 30))


def test_beta_of_a_multiple_is_the_multiple() -> None:
    benchmark = noise(50)
    assert measures.beta(1.5 * benchmark + 0.01, benchmark) == pytest.approx(1.5)
    assert math.isnan(measures.beta(benchmark, [0.01] * 50))
    assert math.isnan(measures.information_ratio(benchmark, benchmark))
    for function in (measures.beta, measures.information_ratio):
        with pytest.raises(ValueError, match="not 2 and 3"):
            function([0.1, 0.2], [0.1, 0.2, 0.3])


# Volatility


def test_ewma_is_known_before_its_return() -> None:
    got = measures.ewma_volatility([0.02, -0.01, 0.03], 0.9)
    second = math.sqrt(0.9 * 0.0004 + 0.1 * 0.0001)
    assert math.isnan(got[0])
    assert got[1:] == pytest.approx([0.02, second])
    assert measures.ewma_volatility([]).shape == (0,)
    with pytest.raises(ValueError, match="lam"):
        measures.ewma_volatility([0.1], 1.0)


@given(RETURNS, st.data())
def test_ewma_does_not_see_the_future(returns: np.ndarray, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, returns.size))
    changed = np.concatenate((returns[: size - 1], returns[size - 1 :] + 1.0))
    np.testing.assert_array_equal(measures.ewma_volatility(changed)[:size], measures.ewma_volatility(returns[:size]))


def test_a_missing_return_leaves_the_variance() -> None:
    got = measures.ewma_volatility([0.02, math.nan, 0.01])
    assert got[1] == got[2] == 0.02


# Kelly


def test_kelly_of_a_bet_and_of_returns() -> None:
    assert measures.kelly_fraction(p=0.53, b=1.0) == pytest.approx(0.06)
    assert measures.kelly_fraction(0.11, 0.0225, r=0.06) == pytest.approx(2.2222, abs=1e-4)
    assert measures.kelly_fraction(0.11, 0.0225, r=0.06, fraction=0.25) == pytest.approx(0.5556, abs=1e-4)


def test_kelly_bets_on_an_edge_only() -> None:
    assert measures.kelly_fraction(p=0.4, b=1.0) == 0.0
    assert measures.kelly_fraction(-0.1, 0.04) == 0.0
    assert measures.kelly_fraction(-0.1, 0.04, allow_short=True) == pytest.approx(-2.5)
    for mu, sigma2 in ((0.1, 0.0), (math.nan, 0.1), (0.1, math.inf)):
        assert math.isnan(measures.kelly_fraction(mu, sigma2))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"mu": 0.1},
        {"mu": 0.1, "sigma2": 0.04, "p": 0.5, "b": 1.0},
        {"p": 1.1, "b": 1.0},
        {"p": 0.5, "b": 0.0},
        {"mu": 0.1, "sigma2": -0.04},
        {"p": 0.5, "b": 1.0, "fraction": -0.5},
    ],
)
def test_kelly_refuses_half_a_question(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        measures.kelly_fraction(**wrong)
