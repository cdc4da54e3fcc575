"""Figures of an equity curve, its months, and what is too good to be true."""

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.app.performance import implausible, monthly_returns, sharpe_ci95, summarise
from tidegate.domain.market import DAY_NS, HOUR_NS
from tidegate.quant import measures


def at(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1_000_000_000


def curve(*values: str | int, start_ns: int = at(2024, 1, 1), step_ns: int = DAY_NS) -> list[tuple[int, Decimal]]:
    return [(start_ns + i * step_ns, Decimal(value)) for i, value in enumerate(values)]


PLAUSIBLE: dict[str, object] = {
    "days": 1_000.0,
    "sharpe": 1.1,
    "cagr": 0.3,
    "max_drawdown": 0.2,
    "total_return": 1.0,
    "trades": 400,
    "fees_usdt": "123.4",
    "slippage_usdt": "50",
    "ledger_difference_usdt": "0",
}


def test_figures_by_hand() -> None:
    figures = summarise(curve(100, 110, 99, 108))
    returns = np.array([0.1, -0.1, 108 / 99 - 1])
    assert figures["days"] == 3.0
    assert figures["total_return"] == pytest.approx(0.08)
    assert figures["cagr"] == pytest.approx(1.08 ** (365 / 3) - 1)
    assert figures["annual_volatility"] == pytest.approx(returns.std(ddof=1) * 365**0.5)
    assert figures["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * 365**0.5)
    assert figures["sortino"] == pytest.approx(returns.mean() * 365 / (0.1 / 3**0.5 * 365**0.5))
    assert figures["max_drawdown"] == pytest.approx(0.1)


def test_the_first_point_is_the_capital_and_belongs_to_the_peak() -> None:
    assert summarise(curve(100, 90, 95))["max_drawdown"] == pytest.approx(0.1)


def test_points_inside_a_day_do_not_count_but_the_midnight_does() -> None:
    hourly = [(at(2024, 1, 1) + h * HOUR_NS, Decimal(100 + (h * 7) % 13)) for h in range(24 * 5 + 1)]
    midnights = hourly[::24]
    assert summarise(hourly) == summarise(midnights)


def test_a_day_that_is_cut_short_counts_as_a_day() -> None:
    begun = [(at(2024, 1, 1, 6), Decimal(100)), (at(2024, 1, 2), Decimal(110)), (at(2024, 1, 2, 12), Decimal(99))]
    figures = summarise(begun)
    assert figures["sharpe"] == pytest.approx(measures.sharpe_ratio([0.1, -0.1]), abs=1e-12)
    assert figures["days"] == 1.25


def test_a_missing_day_is_a_day_without_a_return() -> None:
    gap = [(at(2024, 1, day), Decimal(value)) for day, value in ((1, 100), (2, 110), (4, 99))]
    assert summarise(gap)["sharpe"] == pytest.approx(measures.sharpe_ratio([0.1, 0.0, -0.1]))


def test_undefined_is_none() -> None:
    flat = summarise(curve(100, 100, 100))
    assert (flat["sharpe"], flat["sortino"]) == (None, None)
    assert (flat["total_return"], flat["annual_volatility"], flat["max_drawdown"]) == (0.0, 0.0, 0.0)
    for moment in (at(2024, 1, 1), at(2024, 1, 1, 12)):
        point = summarise([(moment, Decimal(100))])
        assert point.pop("days") == 0.0
        assert set(point.values()) == {None}
    assert summarise(curve(1, 10, step_ns=HOUR_NS))["cagr"] is None  # 10 ** 8760 is no float


def test_ruin() -> None:
    figures = summarise(curve(100, 120, -5, -5))
    assert figures["total_return"] == pytest.approx(-1.05)
    assert figures["cagr"] == -1.0
    assert figures["sharpe"] == pytest.approx(measures.sharpe_ratio([0.2, -1.0]))
    assert figures["max_drawdown"] == pytest.approx(125 / 120)


@pytest.mark.parametrize(
    ("equity", "message"),
    [
        ([], "starting capital"),
        ([(DAY_NS, Decimal(1)), (0, Decimal(1))], "time order"),
        ([(0, Decimal(0)), (DAY_NS, Decimal(1))], "must be positive, not 0"),
    ],
)
def test_bad_curves(equity: list[tuple[int, Decimal]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise(equity)


def test_months_close_at_midnight_of_the_first() -> None:
    equity = [
        (at(2023, 12, 31), Decimal(100)),
        (at(2024, 1, 1), Decimal(110)),
        (at(2024, 1, 15), Decimal(80)),
        (at(2024, 2, 1), Decimal(121)),
        (at(2024, 2, 1, 12), Decimal(60)),
    ]
    got = monthly_returns(equity)
    assert list(got) == [(2023, 12), (2024, 1), (2024, 2)]
    assert list(got.values()) == pytest.approx([0.1, 0.1, 60 / 121 - 1])


def test_months_end_at_ruin() -> None:
    equity = [(at(2024, month, 1), Decimal(value)) for month, value in ((1, 100), (2, 50), (3, 0), (4, 0))]
    assert monthly_returns(equity) == pytest.approx({(2024, 1): -0.5, (2024, 2): -1.0})


@given(
    st.integers(0, 800 * 24),
    st.lists(st.integers(50_00, 200_00), min_size=2, max_size=200),
    st.integers(1, 100 * 24),
)
def test_months_compound_to_the_total_return(start_h: int, cents: list[int], step_h: int) -> None:
    equity = [
        (at(2019, 12, 1) + (start_h + i * step_h) * HOUR_NS, Decimal(value) / 100) for i, value in enumerate(cents)
    ]
    months = monthly_returns(equity)
    total = summarise(equity)["total_return"]
    assert float(np.prod([1 + value for value in months.values()])) - 1 == pytest.approx(total, abs=1e-9)
    assert list(months) == sorted(months)


def test_a_plausible_result_has_no_warning() -> None:
    assert implausible(PLAUSIBLE) == []
    assert implausible({}) == []
    assert implausible(dict.fromkeys(PLAUSIBLE)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sharpe": 4.01}, "Sharpe ratio of 4.01"),
        ({"cagr": 10.5}, "1,050% a year"),
        ({"max_drawdown": 0.0005}, "0.050% over 400 trades"),
        ({"trades": 29}, "With 29 trades"),
        ({"trades": 0, "fees_usdt": "0", "slippage_usdt": "0"}, "Nothing was traded"),
        ({"days": 29.0}, "29.0 days"),
        ({"total_return": -1.0}, "ruined"),
        ({"fees_usdt": "0.00"}, "No fees"),
        ({"slippage_usdt": "0"}, "no slippage"),
        ({"ledger_difference_usdt": "0.00000001"}, "differ by 0.00000001 USDT"),
    ],
)
def test_each_implausible_figure_has_its_sentence(change: dict[str, object], words: str) -> None:
    (sentence,) = implausible(PLAUSIBLE | change)
    assert words in sentence
    assert sentence.endswith(".")


def test_a_high_sharpe_of_a_short_run_is_not_judged() -> None:
    assert implausible(PLAUSIBLE | {"sharpe": 9.0, "days": 60.0}) == []


def test_the_interval_is_around_the_ratio_and_the_same_each_time() -> None:
    rng = np.random.default_rng(4)
    values = 1_000.0 * np.cumprod(1 + rng.normal(0.001, 0.02, 300))
    points = curve(*(f"{value:.6f}" for value in values))
    interval = sharpe_ci95(points)
    assert interval is not None
    low, high = interval
    assert low < summarise(points)["sharpe"] < high  # type: ignore[operator]
    assert sharpe_ci95(points) == interval


def test_a_short_or_flat_curve_has_no_interval() -> None:
    assert sharpe_ci95(curve(100, 110, 99)) is None
    assert sharpe_ci95(curve(*[100] * 60)) is None


def test_strategies_that_do_not_add_up_are_told() -> None:
    assert implausible(PLAUSIBLE | {"attribution_difference_usdt": "0"}) == []
    assert implausible(PLAUSIBLE | {"attribution_difference_usdt": None}) == []
    (sentence,) = implausible(PLAUSIBLE | {"attribution_difference_usdt": "-0.25"})
    assert "differ from the change of equity by -0.25 USDT" in sentence
