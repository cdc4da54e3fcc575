"""The controller: its twelve limits, the fraction to bet, the loss to expect, and its word on orders."""

import inspect
import math
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.unit.kernel.worlds import contract
from tidegate.domain.market import DAY_NS
from tidegate.domain.orders import OrderIntent, OrderType, Purpose, Side
from tidegate.domain.signals import Reason, Refusal
from tidegate.quant import tails
from tidegate.quant.measures import conditional_var, historical_var, parametric_var
from tidegate.risk.controller import RiskController
from tidegate.risk.view import PASS, RiskLimits, RiskView

TWELVE: dict[str, Any] = {
    "initial_capital_usdt": 10_000.0,
    "var_daily_pct": 0.02,
    "cvar_daily_pct": 0.03,
    "max_drawdown_pct": 0.12,
    "max_consecutive_loss_days": 7,
    "allow_short": True,
    "kelly_fraction": 0.25,
    "max_position_pct": 0.25,
    "max_leverage": 3.0,
    "target_volatility": 0.10,
    "min_liquidation_distance": 0.30,
    "max_daily_loss_pct": 0.03,
}
FRACTIONS = ("var_daily_pct", "cvar_daily_pct", "max_drawdown_pct", "max_position_pct", "max_daily_loss_pct")
OPEN: dict[str, Any] = {"max_position_pct": 0.99, "max_leverage": 100.0, "target_volatility": 100.0}


def daily(mean: float = 0.002, n: int = 365, seed: int = 3, volatility: float = 0.02) -> NDArray[np.float64]:
    draws = np.random.default_rng(seed).standard_normal(n)
    return np.asarray(mean + volatility * (draws - draws.mean()) / draws.std(ddof=1))


# ---- the twelve ------------------------------------------------------------------------------------------------------


def test_the_twelve_and_their_defaults() -> None:
    signature = inspect.signature(RiskController)
    assert {name: each.default for name, each in signature.parameters.items()} == TWELVE
    assert {name: getattr(RiskLimits(), name) for name in TWELVE} == TWELVE
    assert list(signature.parameters) == list(TWELVE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in FRACTIONS for value in (1.0, 2.0, 12, 0.0, -0.1, math.nan, "2%", True)],
        *[("initial_capital_usdt", value) for value in (0.0, -1.0, math.nan, math.inf)],
        *[("max_leverage", value) for value in (0.0, math.inf)],
        *[("target_volatility", value) for value in (0.0, math.nan)],
        *[("kelly_fraction", value) for value in (-0.1, 1.1, math.nan)],
        *[("min_liquidation_distance", value) for value in (-0.1, 1.0, math.nan)],
        *[("max_consecutive_loss_days", value) for value in (0, 7.5, True, math.nan)],
        *[("allow_short", value) for value in (1, None, "yes")],
    ],
)
def test_what_is_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        RiskController(**{name: value})
    with pytest.raises(ValueError, match=f"^{name}"):
        RiskController.of(msgspec.structs.replace(RiskLimits(), **{name: value}))


def test_the_edges_of_the_ranges_are_taken() -> None:
    RiskController(kelly_fraction=0.0, min_liquidation_distance=0.0, max_consecutive_loss_days=1)
    RiskController(kelly_fraction=1.0, var_daily_pct=0.03, cvar_daily_pct=0.03)
    with pytest.raises(ValueError, match="cvar_daily_pct is a mean beyond"):
        RiskController(var_daily_pct=0.04)


# ---- how much to bet -------------------------------------------------------------------------------------------------


def test_the_steps_of_the_fraction() -> None:
    returns = daily()
    years, ratio = 1.0, 0.002 / 0.02**2
    fraction = RiskController(**OPEN).calculate_optimal_position_fraction(returns, regime="BULL", fractional=0.25)
    assert fraction == pytest.approx(
        0.25 * ratio * years / (4.0 + years), rel=0.02
    )  # the exact answer differs a little
    assert fraction <= 0.25 * ratio / 5.0


def test_regimes_cut_the_fraction() -> None:
    each, returns = RiskController(**OPEN), daily()
    bull = each.calculate_optimal_position_fraction(returns, "BULL")
    assert each.calculate_optimal_position_fraction(returns, "SIDEWAYS") == pytest.approx(0.6 * bull)
    assert each.calculate_optimal_position_fraction(returns, "BULL_HIGH") == pytest.approx(0.35 * bull)
    assert each.calculate_optimal_position_fraction(returns) == pytest.approx(0.3 * bull)
    mixed = each.calculate_optimal_position_fraction(returns, {"BULL": 0.5, "BEAR": 0.5})
    assert mixed == pytest.approx(0.75 * bull)


def test_a_regime_with_days_of_its_own_is_pooled() -> None:
    each, returns = RiskController(**OPEN), daily()
    better = daily(0.004, 100, 5)
    own = each.calculate_optimal_position_fraction(returns, "BULL", regime_returns={"BULL": better})
    assert own > each.calculate_optimal_position_fraction(returns, "BULL")
    few = each.calculate_optimal_position_fraction(returns, "BEAR", regime_returns={"BEAR": better[:59]})
    assert few == each.calculate_optimal_position_fraction(returns, "BEAR")
    assert each.calculate_optimal_position_fraction(returns, "BULL", regime_returns={"BULL": np.zeros(100)}) == 0.0


def test_each_cap_binds() -> None:
    returns = daily(0.02)
    capped = RiskController(**(OPEN | {"max_position_pct": 0.1}))
    assert capped.calculate_optimal_position_fraction(returns, "BULL", 1.0) == 0.1
    capped = RiskController(**(OPEN | {"max_leverage": 0.2}))
    assert capped.calculate_optimal_position_fraction(returns, "BULL", 1.0) == 0.2
    capped = RiskController(**(OPEN | {"target_volatility": 0.1}))
    volatility = 0.02 * math.sqrt(365)
    assert capped.calculate_optimal_position_fraction(returns, "BULL", 1.0) == pytest.approx(0.1 / volatility)
    assert RiskController().calculate_optimal_position_fraction(-returns, "BULL", 1.0) == pytest.approx(
        -RiskController().calculate_optimal_position_fraction(returns, "BULL", 1.0)
    )


def test_nothing_is_bet_on_what_is_not_known() -> None:
    each = RiskController()
    assert each.calculate_optimal_position_fraction(daily(n=29), "BULL") == 0.0
    assert each.calculate_optimal_position_fraction(daily(n=30), "BULL") > 0.0
    assert each.calculate_optimal_position_fraction([], "BULL") == 0.0
    assert each.calculate_optimal_position_fraction(np.full(100, 0.01), "BULL") == 0.0
    assert each.calculate_optimal_position_fraction(daily(-0.002), "BEAR") < 0.0
    assert RiskController(allow_short=False).calculate_optimal_position_fraction(daily(-0.002), "BEAR") == 0.0
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="index 100"):
            each.calculate_optimal_position_fraction(np.insert(daily(), 100, bad), "BULL")
    for fractional in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="fractional is a multiple"):
            each.calculate_optimal_position_fraction(daily(), "BULL", fractional)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-0.9, 2.0), max_size=80),
    st.sampled_from(["BULL", "BEAR", "BEAR_HIGH", "UNKNOWN"]),
    st.booleans(),
)
def test_the_fraction_is_a_number_within_its_caps(returns: list[float], regime: str, short: bool) -> None:
    fraction = RiskController(allow_short=short).calculate_optimal_position_fraction(returns, regime)
    assert (-0.25 if short else 0.0) <= fraction <= 0.25


# ---- how much can be lost --------------------------------------------------------------------------------------------


def test_every_method_is_the_one_it_names() -> None:
    each, returns = RiskController(), daily(0.001, 1_000)
    sigma = np.full(1_000, 0.02)
    residuals, fit = tails.standardised_residuals(returns, sigma), tails.fit_tail(returns, 0.90)
    assert fit is not None
    assert each.calculate_var(returns) == historical_var(returns, 0.05)
    assert each.calculate_cvar(returns, 0.01) == conditional_var(returns, 0.01)
    for dist in ("normal", "t", "cornish_fisher"):
        assert each.calculate_var(returns, 0.05, "parametric", dist=dist) == parametric_var(returns, 0.05, dist)
        assert each.calculate_cvar(returns, 0.05, "parametric", dist=dist) == conditional_var(returns, 0.05, dist)
    assert each.calculate_var(returns, 0.01, "evt") == fit.var(0.01)
    assert each.calculate_cvar(returns, 0.01, "evt") == fit.cvar(0.01)
    forecast: dict[str, Any] = {"sigma": sigma, "sigma_forecast": 0.05}
    assert each.calculate_var(returns, 0.05, "filtered", **forecast) == tails.filtered_var(residuals, 0.05, 0.05)
    assert each.calculate_cvar(returns, 0.05, "filtered", **forecast) == tails.filtered_cvar(residuals, 0.05, 0.05)
    assert each.calculate_var(returns, horizon_days=4.0) == pytest.approx(2.0 * each.calculate_var(returns))


@pytest.mark.parametrize("method", ["historical", "parametric", "evt"])
def test_losses_are_ordered(method: Any) -> None:
    each, returns = RiskController(), 0.02 * np.random.default_rng(1).standard_t(5, 2_000)
    var, cvar = each.calculate_var(returns, 0.05, method), each.calculate_cvar(returns, 0.05, method)
    assert 0.0 < var < cvar
    assert var < each.calculate_var(returns, 0.01, method)


def test_too_few_returns_are_undefined_and_bad_ones_refused() -> None:
    each = RiskController()
    assert math.isnan(each.calculate_var(daily(n=99)))
    assert math.isnan(each.calculate_var(daily(n=400), 0.01))
    assert math.isnan(each.calculate_var(daily(n=400), 0.01, "evt"))
    with pytest.raises(ValueError, match="index 3"):
        each.calculate_var(np.insert(daily(), 3, math.nan))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"alpha": 0.95}, "0.05, not 0.95"),
        ({"method": "guess"}, "unknown method 'guess'"),
        ({"method": "parametric", "dist": "cauchy"}, "unknown distribution"),
        ({"method": "filtered"}, "needs sigma"),
        ({"method": "filtered", "sigma": [0.01], "sigma_forecast": 0.01}, "need as many"),
        ({"horizon_days": 0.0}, "horizon_days"),
        ({"method": "evt", "alpha": 0.2}, "is not in it"),
    ]
    for arguments, match in wrong:
        with pytest.raises(ValueError, match=match):
            each.calculate_var(daily(n=1_000), **arguments)


# ---- the brake, and orders -------------------------------------------------------------------------------------------


def test_drawdown_in_usdt_begins_at_the_initial_capital() -> None:
    each = RiskController(
        initial_capital_usdt=10_000.0,
        var_daily_pct=0.02,
        max_drawdown_pct=0.12,
        max_consecutive_loss_days=7,
        allow_short=True,
    )
    assert each.update_drawdown(9_700.0) == pytest.approx(0.03)
    assert each.get_drawdown_severity_level() == "MILD"
    assert each.update_drawdown(11_000.0) == 0.0
    assert each.get_drawdown_severity_level() == "NORMAL"
    assert each.update_drawdown(10_340.0) == pytest.approx(0.06)
    assert each.get_drawdown_severity_level() == "MODERATE"
    assert each.update_drawdown(9_900.0) == pytest.approx(0.10)
    assert each.get_drawdown_severity_level() == "SEVERE"
    assert each.update_drawdown(9_680.0) == pytest.approx(0.12)
    assert each.get_drawdown_severity_level() == "BREACH"
    assert each.state().latched
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="equity must be a number"):
            each.update_drawdown(wrong)


def test_recorded_days_halt() -> None:
    each = RiskController(max_consecutive_loss_days=3)
    assert [each.record_day(pnl) for pnl in (-1.0, -1.0, 0.0, -1.0, -1.0)] == [1, 2, 0, 1, 2]
    assert not each.state().no_new_risk
    each.record_day(-1e-9)
    assert each.state().no_new_risk
    each.record_day(5.0)
    assert not each.state().no_new_risk


BLANK = RiskView(contract(), 0, 100.0, 10_000.0, Decimal(1), 0.0, 0.0, 0, False, 1.0)


def order(qty: str, side: Side = Side.BUY) -> OrderIntent:
    return OrderIntent(contract().id, side, Decimal(qty), OrderType.MARKET, Purpose.TARGET)


def test_orders_are_checked_by_the_rules_and_the_brake() -> None:
    each = RiskController(max_position_pct=0.2)
    assert each.check(order("19"), BLANK) is PASS
    answer = each.check(order("19.1"), BLANK)
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.CONCENTRATION
    assert each.check(order("3", Side.SELL), BLANK) is PASS
    long_only = RiskController(allow_short=False).check(order("3", Side.SELL), BLANK)
    assert isinstance(long_only, Refusal)
    assert long_only.reason is Reason.SHORT_NOT_ALLOWED
    each.observe(DAY_NS, 0.8)
    answer = each.check(order("0.1"), BLANK)
    assert isinstance(answer, Refusal)
    assert (answer.rule, answer.reason, answer.detail) == ("drawdown", Reason.DRAWDOWN, each.state().reason)
    assert each.check(order("1", Side.SELL), BLANK) is PASS


def test_the_latch_survives_a_restart_and_an_operator_lifts_it() -> None:
    each = RiskController()
    each.observe(DAY_NS, 1.0)
    assert each.observe(2 * DAY_NS, 0.87).latched
    again = RiskController()
    again.load(each.dump())
    assert again.state() == each.state()
    assert isinstance(again.check(order("0.1"), BLANK), Refusal)
    assert again.observe(3 * DAY_NS, 1.1).latched
    assert not again.reset().latched
    assert again.check(order("0.1"), BLANK) is PASS


def test_the_other_curve() -> None:
    each = RiskController.of(RiskLimits(), "linear")
    assert each.observe(DAY_NS, 0.94).exposure_multiplier == pytest.approx(0.5)
