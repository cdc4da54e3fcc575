"""What strategies gave to the book: sums exact to the last digit, returns by hand, shares of time, the even mix."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate.app.active_return import against_even_mix
from tidegate.app.contributions import (
    Amounts,
    attribution_difference,
    cells,
    daily,
    lone_figures,
    other_accounts,
    scenario_share,
    spells,
    strategy_figures,
)
from tidegate.app.tally import plain
from tidegate.domain.ids import InstrumentId, StrategyId
from tidegate.domain.market import DAY_NS, HOUR_NS
from tidegate.domain.signals import RegimeChanged, Scenario, StrategyResult
from tidegate.portfolio.virtual import NETTING, UNASSIGNED
from tidegate.quant import measures

TREND, RANGE = StrategyId("trend"), StrategyId("range")
BTC, ETH = InstrumentId("BTCUSDT"), InstrumentId("ETHUSDT")
START_NS = 19_000 * DAY_NS
CAPITAL = Decimal(1_000)
NAMES = (TREND, RANGE)


def line(
    day: float,
    strategy: StrategyId = TREND,
    price: Decimal | int | str = 0,
    *,
    fees: Decimal | int | str = 0,
    funding: Decimal | int | str = 0,
    slippage: Decimal | int | str = 0,
    turnover: int = 0,
    fills: int = 0,
    instrument: InstrumentId = BTC,
    scenario: Scenario = Scenario.BULL_LOW,
) -> StrategyResult:
    """A line that ends ``day`` days after the start."""
    amounts = (Decimal(each) for each in (price, fees, funding, slippage, turnover))
    ends_ns = START_NS + round(day * DAY_NS)
    return StrategyResult(strategy, instrument, scenario, ends_ns - DAY_NS, ends_ns, *amounts, fills)


def regime(day: float, scenario: Scenario, **weights: float) -> RegimeChanged:
    shares = tuple((StrategyId(name), share) for name, share in weights.items())
    return RegimeChanged(scenario, (), shares, "the blend moved", START_NS + round(day * DAY_NS))


def figures(lines: list[StrategyResult], days: float = 3.0) -> dict[str, dict]:
    return strategy_figures(NAMES, lines, START_NS, START_NS + round(days * DAY_NS), CAPITAL, 1_000.0)


# ---- sums ------------------------------------------------------------------------------------------------------------

amounts = st.integers(-(10**12), 10**12).map(lambda n: Decimal(n).scaleb(-9))
lines_of = st.lists(
    st.builds(
        line,
        st.integers(1, 30),
        st.sampled_from([TREND, RANGE, NETTING, UNASSIGNED]),
        amounts,
        fees=amounts,
        funding=amounts,
        slippage=amounts,
        instrument=st.sampled_from([BTC, ETH]),
        scenario=st.sampled_from(list(Scenario)),
    ),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(lines_of)
def test_whatever_way_the_lines_are_divided_their_sum_is_the_same_to_the_last_digit(
    lines: list[StrategyResult],
) -> None:
    by_hand = sum((each.price_pnl - each.slippage - each.fees + each.funding for each in lines), Decimal(0))
    assert Amounts.of(lines).net == by_hand
    assert sum((each.net for each in cells(lines).values()), Decimal(0)) == by_hand
    parts = [*figures(lines, 30).values(), *other_accounts(NAMES, lines).values()]
    assert sum((Decimal(each["net_usdt"]) for each in parts), Decimal(0)) == by_hand
    assert attribution_difference(lines, by_hand) == 0


def test_a_line_that_is_lost_shows_as_the_difference() -> None:
    lines = [line(1, TREND, "10.000000001", fees="0.5"), line(1, NETTING, 0, fees="-0.25")]
    assert attribution_difference(lines, Decimal("9.750000001")) == 0
    assert attribution_difference(lines[:1], Decimal("9.750000001")) == Decimal("-0.25")


# ---- figures of a strategy -------------------------------------------------------------------------------------------


def test_figures_by_hand() -> None:
    lines = [
        line(1, TREND, 110, fees=5, slippage=3, funding=-2, turnover=500, fills=2),
        line(1, RANGE, 100, instrument=ETH),
        line(2, TREND, -60, scenario=Scenario.BEAR_HIGH, turnover=1_000, fills=1),
        line(3, TREND, 30, scenario=Scenario.BEAR_HIGH),
    ]
    trend = figures(lines)["trend"]
    returns = np.array([100 / 1_000, -60 / 1_200, 30 / 1_140])
    assert trend["net_usdt"] == "70"
    assert trend["price_pnl_usdt"] == "80"
    assert trend["costs"] == {"fees_usdt": "5", "funding_usdt": "-2", "slippage_usdt": "3"}
    assert trend["total_return"] == pytest.approx(0.07)
    assert trend["sharpe"] == pytest.approx(measures.sharpe_ratio(returns))
    assert trend["annual_volatility"] == pytest.approx(measures.annualized_volatility(returns))
    assert trend["max_drawdown"] == pytest.approx(0.05)
    assert trend["turnover"] == pytest.approx(1.5 * 365 / 3)
    assert (trend["fills"], trend["active_days"], trend["trials"], trend["annualisation"]) == (3, 3, 1, 365)
    assert trend["sharpe_ci95"] is None  # three days are no sample
    assert trend["scenario_share"] == {each.value: 0.0 for each in Scenario} | {"BULL_LOW": 1 / 3, "BEAR_HIGH": 2 / 3}


def test_the_total_returns_add_up_to_the_books() -> None:
    lines = [line(day, name, day * 7 - 9) for day in (1, 2, 3) for name in (*NAMES, NETTING)]
    found = figures(lines)
    others = float(other_accounts(NAMES, lines)["netting"]["net_usdt"]) / 1_000  # type: ignore[arg-type]
    parts = [found[name]["total_return"] for name in NAMES]
    assert sum(parts) + others == pytest.approx(float(Amounts.of(lines).net) / 1_000)


def test_two_instruments_on_a_day_are_one_day() -> None:
    assert figures([line(1, TREND, 1), line(1, TREND, 2, instrument=ETH)])["trend"]["active_days"] == 1


def test_a_strategy_that_did_nothing_has_no_shares_and_no_ratios() -> None:
    idle = figures([line(1, TREND, 5)])["range"]
    assert (idle["net_usdt"], idle["total_return"], idle["active_days"], idle["max_drawdown"]) == ("0", 0.0, 0, 0.0)
    assert (idle["sharpe"], idle["sortino"], idle["sharpe_ci95"]) == (None, None, None)
    assert idle["scenario_share"] == {each.value: None for each in Scenario}


def test_a_year_of_days_has_an_interval_around_its_ratio() -> None:
    rng = np.random.default_rng(3)
    found = figures([line(day, TREND, plain(Decimal(round(rng.normal(0.5, 5), 2)))) for day in range(1, 366)], 365)
    low, high = found["trend"]["sharpe_ci95"]
    assert low < found["trend"]["sharpe"] < high


def test_a_run_that_ends_within_a_day_counts_its_last_line() -> None:
    days = daily([line(1, TREND, 10), line(1.5, TREND, 20)], START_NS, START_NS + DAY_NS + 12 * HOUR_NS, CAPITAL)
    assert days.returns[TREND].tolist() == [10 / 1_000, 20 / 1_010]
    assert days.equity.tolist() == [1_000.0, 1_010.0, 1_030.0]


def test_returns_end_at_ruin() -> None:
    days = daily([line(1, TREND, -1_000), line(2, TREND, 50)], START_NS, START_NS + 2 * DAY_NS, CAPITAL)
    assert days.returns[TREND].tolist() == [-1.0]


def test_a_lone_strategy_is_the_book() -> None:
    summary: dict[str, object] = {
        **dict.fromkeys(("annual_volatility", "sharpe", "sharpe_ci95", "sortino", "max_drawdown", "turnover"), 0.5),
        "initial_capital_usdt": "1000",
        "final_equity_usdt": "1070",
        "total_return": 0.07,
        "fills": 3,
        "costs": {"fees_usdt": "5", "funding_usdt": "-2", "slippage_usdt": "3"},
        "scenario_share": {"UNKNOWN": 1.0},
    }
    alone = lone_figures(summary)
    assert alone.keys() == figures([])["trend"].keys()
    assert (alone["net_usdt"], alone["price_pnl_usdt"], alone["sharpe"], alone["fills"]) == ("70", "80", 0.5, 3)


# ---- scenarios -------------------------------------------------------------------------------------------------------


def test_shares_of_time_by_scenario() -> None:
    regimes = [
        regime(1, Scenario.BULL_LOW),
        regime(2, Scenario.BULL_LOW),  # only the weights moved
        regime(3, Scenario.BEAR_HIGH),
        regime(3.5, Scenario.BULL_LOW),
        regime(9, Scenario.UNKNOWN),  # after the end
    ]
    share = scenario_share(regimes, START_NS, START_NS + 4 * DAY_NS)
    assert list(share) == [each.value for each in Scenario]
    assert share["UNKNOWN"] == 0.25
    assert share["BULL_LOW"] == 0.625
    assert share["BEAR_HIGH"] == 0.125
    assert len(list(spells(regimes, START_NS, START_NS + 4 * DAY_NS))) == 4


def test_without_regimes_all_time_is_unknown_and_without_time_nothing_is() -> None:
    assert scenario_share([], 5, 9)["UNKNOWN"] == 1.0
    assert set(scenario_share([], 5, 5).values()) == {None}


# ---- the even mix ----------------------------------------------------------------------------------------------------


def test_against_the_even_mix_by_hand() -> None:
    """One day after the weights came: 60 % and 20 % against 50 % and 50 %."""
    regimes = [regime(1, Scenario.BULL_LOW, trend=0.6, range=0.2)]
    lines = [line(2, TREND, 12, fees=2), line(2, RANGE, -4), line(2, NETTING, 0, fees=-1)]
    found = against_even_mix(NAMES, lines, regimes, START_NS, START_NS + 2 * DAY_NS, CAPITAL)
    assert found is not None
    assert found.segments == ("trend", "range", "cash")
    assert found.even == (0.5, 0.5, 0.0)
    assert found.weights == pytest.approx(((0.5 + 0.6) / 2, (0.5 + 0.2) / 2, 0.1))
    rb = [0.012 / 0.6, -0.004 / 0.2, 0.0]
    benchmark = 0.5 * rb[0] + 0.5 * rb[1]
    linked = found.linked
    assert linked.portfolio_return == pytest.approx(0.007)
    assert linked.benchmark_return == pytest.approx(benchmark, abs=1e-15)
    allocation = [(wp - wb) * (r - benchmark) for wp, wb, r in zip((0.6, 0.2, 0.2), (0.5, 0.5, 0.0), rb, strict=True)]
    assert linked.allocation == pytest.approx(allocation)
    assert np.abs(linked.selection).max() == np.abs(linked.interaction).max() == 0.0
    assert dict(zip(found.others, linked.others, strict=True)) == pytest.approx(
        {"fees": -0.002, "funding": 0.0, "slippage": 0.0, "netting": 0.001, "without a weight": 0.0}
    )
    assert abs(linked.residual) < 1e-12


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40))
@example(11331, 30)  # the even mix is ruined before the book is
def test_the_effects_are_the_active_return_and_the_book_is_the_change_of_equity(seed: int, days: int) -> None:
    rng = np.random.default_rng(seed)
    lines, regimes = [], []
    for day in range(1, days + 1):
        for name in (*NAMES, NETTING, UNASSIGNED):
            price, fees, funding, slippage = (Decimal(round(each, 3)) for each in rng.normal(0, 6, 4))
            lines.append(line(day, name, price, fees=abs(fees), funding=funding, slippage=slippage))
        if rng.random() < 0.5:
            trend = float(rng.choice([0.0, rng.uniform(0, 0.7)]))  # now and then a strategy has no budget
            regimes.append(regime(day - 0.5, Scenario.BULL_LOW, trend=trend, range=0.3))
    found = against_even_mix(NAMES, lines, regimes, START_NS, START_NS + days * DAY_NS, CAPITAL)
    if not regimes:
        assert found is None
        return
    assert found is not None
    assert abs(found.linked.residual) < 1e-12
    net = float(Amounts.of(lines).net)
    if found.days == days and net > -900:
        assert found.linked.portfolio_return == pytest.approx(net / 1_000, abs=1e-12)


def test_without_weights_or_lines_there_is_no_mix_to_compare_with() -> None:
    there = (START_NS, START_NS + DAY_NS, CAPITAL)
    assert against_even_mix(NAMES, [line(1)], [], *there) is None
    assert against_even_mix(NAMES, [], [regime(0, Scenario.BULL_LOW, trend=0.5)], *there) is None
    assert against_even_mix((StrategyId("cash"),), [line(1)], [regime(0, Scenario.BULL_LOW)], *there) is None
