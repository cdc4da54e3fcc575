"""Measures against published and library figures, and the laws they obey."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tidegate.quant import measures

RETURNS = arrays(np.float64, st.integers(2, 60), elements=st.floats(-0.5, 0.5))

# The oracle's name of a figure and how to compute it; a function that the module does not have yet is left out.
LIBRARY: dict[str, tuple[str, Callable[..., float]]] = {
    "cagr": ("cagr", lambda f, c: f(c["returns"], c["periods_per_year"])),
    "annual_volatility": ("annualized_volatility", lambda f, c: f(c["returns"], c["periods_per_year"])),
    "sharpe": ("sharpe_ratio", lambda f, c: f(c["returns"], 0.0, c["periods_per_year"])),
    "sortino": ("sortino_ratio", lambda f, c: f(c["returns"], 0.0, c["periods_per_year"])),
    "downside_risk": ("downside_deviation", lambda f, c: f(c["returns"], 0.0, c["periods_per_year"])),
    "max_drawdown": ("max_drawdown", lambda f, c: f(c["returns"])),
    "total_return": ("cumulative_returns", lambda f, c: f(c["returns"])[-1]),
    "calmar": ("calmar_ratio", lambda f, c: f(c["returns"], c["periods_per_year"])),
    "omega": ("omega_ratio", lambda f, c: f(c["returns"], 0.0)),
    "beta": ("beta", lambda f, c: f(c["returns"], c["benchmark"])),
    "ulcer_index": ("ulcer_index", lambda f, c: f(np.cumprod(np.append(1.0, 1.0 + np.array(c["returns"]))))),
    "profit_factor": ("profit_factor", lambda f, c: f(c["returns"])),
}
PRESENT = sorted(name for name, (function, _) in LIBRARY.items() if hasattr(measures, function))


def cases(shared: Path, file: str) -> dict[str, dict]:
    path = shared / "oracles" / "quant" / file
    if not path.is_file():
        pytest.skip(f"shared data not there: {path}")
    return {case["id"]: case for case in json.loads(path.read_text())["cases"]}


@pytest.mark.parametrize("figure", PRESENT)
@pytest.mark.parametrize("case_id", ["perf-500", "perf-1000"])
def test_library_figures(shared: Path, case_id: str, figure: str) -> None:
    case = cases(shared, "performance.json")[case_id]
    function, call = LIBRARY[figure]
    expected = case["expected"][figure]
    expected = abs(expected) if figure == "max_drawdown" else expected
    tolerance = case["tolerance"]
    got = call(getattr(measures, function), case["inputs"])
    assert got == pytest.approx(expected, rel=tolerance["rel"], abs=tolerance["abs"])


def test_every_figure_of_the_backtest_is_pinned() -> None:
    assert {"cagr", "annual_volatility", "sharpe", "sortino", "downside_risk", "max_drawdown"} <= set(PRESENT)


@pytest.mark.parametrize("name", ["all_zero", "all_gain", "single", "empty", "wipe_out"])
def test_edges(shared: Path, name: str) -> None:
    case = cases(shared, "performance.json")["edges"]
    functions = {"sharpe": measures.sharpe_ratio, "max_drawdown": measures.max_drawdown}
    for figure, expected in case["expected"][name].items():
        if figure not in functions:
            continue
        got = functions[figure](case["inputs"][name])
        assert math.isnan(got) if expected is None else got == pytest.approx(abs(expected), abs=1e-12)


def test_published_downside_deviation(shared: Path) -> None:
    case = cases(shared, "performance_published.json")["bacon-24-months"]
    got = measures.downside_deviation(case["inputs"]["portfolio"], case["inputs"]["mar"], 1)
    assert got == pytest.approx(case["expected"]["downside_deviation_mar"], abs=5e-5)


def test_published_sortino(shared: Path) -> None:
    case = cases(shared, "performance_published.json")["red-rock-sortino"]
    returns, target, ppy = (case["inputs"][key] for key in ("returns", "target", "periods_per_year"))
    expected, tolerance = case["expected"], case["tolerance"]["abs"]
    assert measures.downside_deviation(returns, target, ppy) == pytest.approx(
        expected["target_downside_deviation"], abs=tolerance
    )
    assert measures.sortino_ratio(returns, target, ppy) == pytest.approx(expected["sortino"], abs=tolerance)


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
    ],
)
@given(returns=arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e6, 1e6) | st.just(math.nan)))
def test_a_figure_is_finite_or_nan_and_comes_without_a_warning(
    measure: Callable[..., float], returns: np.ndarray
) -> None:
    assert not math.isinf(measure(returns))
