"""Sizing: the smallest limit decides and says its name; the monotonicities of the reference hold."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kernel.worlds import contract
from tidegate.domain.errors import ConfigError
from tidegate.domain.margin import max_qty_at_distance
from tidegate.domain.signals import TargetWeight
from tidegate.risk.rules.value_at_risk import CVAR_SIGMAS, VAR_SIGMAS
from tidegate.risk.sizing import PositionSizer, SizingInputs, SizingSettings
from tidegate.risk.view import RiskLimits, RiskView

WIDE = RiskLimits(max_position_pct=50.0, max_leverage=100.0, min_liquidation_distance=1e-6)


def sizer(limits: RiskLimits = WIDE, **settings_: Any) -> PositionSizer:
    return PositionSizer(SizingSettings(**settings_), limits, 0.15)


def wish(weight: float = 1.0, conviction: float = 1.0, stop: float | None = None) -> TargetWeight:
    return TargetWeight(contract().id, weight, conviction, stop)


def size(
    each: PositionSizer, target: TargetWeight, price: float = 100.0, equity: float = 10_000.0, **other: float
) -> Any:
    return each.size(target, contract(), price, equity, other.get("notional", 0.0), other.get("needed", 0.0))


@pytest.mark.parametrize(
    ("each", "target", "qty", "binding"),
    [
        (sizer(risk_per_trade_frac=0.5), wish(0.5), 50.0, "weight"),
        (sizer(risk_per_trade_frac=0.01), wish(1.0, 1.0, 95.0), 20.0, "stop_risk"),
        (sizer(risk_per_trade_frac=0.01), wish(-1.0, -1.0, 105.0), -20.0, "stop_risk"),
        (sizer(risk_per_trade_frac=0.015), wish(), 10.0, "stop_risk"),  # the disaster stop
        (sizer(risk_per_trade_frac=0.015), wish(1.0, 1.0, 101.0), 10.0, "stop_risk"),  # a stop that is passed
        (sizer(risk_per_trade_frac=0.03, limits=WIDE), wish(1.0, 0.5), 10.0, "stop_risk"),
        (
            sizer(msgspec.structs.replace(WIDE, max_position_pct=0.1), risk_per_trade_frac=0.5),
            wish(),
            10.0,
            "max_position",
        ),
        (sizer(msgspec.structs.replace(WIDE, max_leverage=0.2), risk_per_trade_frac=0.5), wish(), 20.0, "max_leverage"),
        (sizer(msgspec.structs.replace(WIDE, allow_short=False)), wish(-1.0, -1.0), 0.0, "allow_short"),
        (sizer(method="fixed_qty", fixed_qty=Decimal(7)), wish(0.1, 1.0, 99.99), 7.0, "fixed_qty"),
        (sizer(method="fixed_qty", fixed_qty=Decimal(7)), wish(0.1, -0.5), -3.5, "fixed_qty"),
        (sizer(method="risk", fixed_qty=Decimal(7), risk_per_trade_frac=0.5), wish(0.5), 50.0, "weight"),
        (sizer(), wish(0.0, 0.0), 0.0, "flat"),
    ],
)
def test_the_smallest_limit_decides(each: PositionSizer, target: TargetWeight, qty: float, binding: str) -> None:
    assert size(each, target) == (pytest.approx(qty), binding)


def test_nothing_to_size_with() -> None:
    for price, equity in ((0.0, 1.0), (1.0, 0.0), (1.0, -5.0)):
        assert size(sizer(), wish(), price, equity) == (0.0, "flat")


def test_fixed_qty_needs_a_quantity() -> None:
    with pytest.raises(ConfigError, match=r"sizing\.fixed_qty"):
        sizer(method="fixed_qty")


def test_liquidation_distance_binds() -> None:
    limits = msgspec.structs.replace(WIDE, min_liquidation_distance=0.3)
    qty, binding = size(sizer(limits, risk_per_trade_frac=0.9), wish(9.0))
    assert binding == "liquidation_distance"
    most = max_qty_at_distance(
        contract().brackets, equity=10_000.0, other_maintenance=0.0, price=100.0, side=1, distance_frac=0.3
    )
    assert qty == most


def test_the_room_of_others_counts() -> None:
    limits = msgspec.structs.replace(WIDE, max_leverage=1.0)
    assert size(sizer(limits, risk_per_trade_frac=0.9), wish(), notional=7_000.0) == (30.0, "max_leverage")
    assert size(sizer(limits, risk_per_trade_frac=0.9), wish(), notional=17_000.0) == (0.0, "max_leverage")


def sized(settings_: dict[str, Any], target: TargetWeight, *, limits: RiskLimits = WIDE, **known: Any) -> Any:
    each = sizer(limits, **({"risk_per_trade_frac": 0.9} | settings_))
    return each.size(target, contract(), 100.0, 10_000.0, 0.0, 0.0, SizingInputs(**known))


NAN = float("nan")
VAR_WIDE = msgspec.structs.replace(WIDE, var_daily_pct=0.02, cvar_daily_pct=0.9)
CVAR_NEAR = msgspec.structs.replace(WIDE, var_daily_pct=0.02, cvar_daily_pct=0.02)


@pytest.mark.parametrize(
    ("known", "limits", "settings_", "qty", "binding"),
    [
        ({}, WIDE, {}, 100.0, "weight"),
        ({}, WIDE, {"method": "fixed_qty", "fixed_qty": Decimal(7)}, 7.0, "fixed_qty"),
        ({}, WIDE, {"risk_per_trade_frac": 0.015}, 10.0, "stop_risk"),  # the disaster stop of 15 %
        ({"atr": 8.0}, WIDE, {"risk_per_trade_frac": 0.02}, 10.0, "stop_risk"),  # 2.5 ATR is wider than it
        ({"atr": 2.0}, WIDE, {"risk_per_trade_frac": 0.015}, 10.0, "stop_risk"),  # and here it is not
        ({"kelly_frac": 0.2}, WIDE, {}, 20.0, "kelly"),
        ({"kelly_frac": -0.2}, WIDE, {}, 0.0, "kelly"),
        ({"volatility_scale": 0.4}, WIDE, {}, 40.0, "volatility_target"),
        ({"volatility_scale": 1.4}, WIDE, {}, 100.0, "weight"),
        ({"volatility_scale": 0.5}, WIDE, {"method": "fixed_qty", "fixed_qty": Decimal(7)}, 3.5, "volatility_target"),
        ({"daily_volatility": 0.04 / VAR_SIGMAS}, VAR_WIDE, {}, 50.0, "var"),
        ({"daily_volatility": 0.04 / CVAR_SIGMAS}, CVAR_NEAR, {}, 50.0, "cvar"),
        ({"daily_volatility": 0.04 / VAR_SIGMAS, "book_var_frac": 0.012}, VAR_WIDE, {}, 20.0, "var"),
        (
            {"daily_volatility": 0.04 / VAR_SIGMAS, "book_var_frac": 0.012, "book_correlation": 0.0},
            VAR_WIDE,
            {},
            40.0,
            "var",
        ),
        ({"daily_volatility": 0.0}, VAR_WIDE, {}, 100.0, "weight"),
        ({"daily_quote_volume_usdt": 300_000.0}, WIDE, {}, 30.0, "volume"),
        ({"depth_usdt": 25_000.0}, WIDE, {}, 25.0, "depth"),
        ({"depth_usdt": 25_000.0}, WIDE, {"depth_share": 0.2}, 50.0, "depth"),
        ({}, msgspec.structs.replace(WIDE, max_position_pct=0.3), {}, 30.0, "max_position"),
        ({}, msgspec.structs.replace(WIDE, max_leverage=0.3), {}, 30.0, "max_leverage"),
        ({"exposure_multiplier": 0.5}, WIDE, {}, 50.0, "drawdown"),
        ({"exposure_multiplier": 0.5, "kelly_frac": 0.2}, WIDE, {}, 10.0, "drawdown"),
        ({"exposure_multiplier": 0.0}, WIDE, {}, 0.0, "drawdown"),
        ({"exposure_multiplier": 1.0}, WIDE, {}, 100.0, "weight"),
        ({"exposure_multiplier": NAN}, WIDE, {}, 0.0, "drawdown"),
        ({"kelly_frac": NAN}, WIDE, {}, 0.0, "kelly"),
        ({"daily_volatility": NAN}, WIDE, {}, 0.0, "var"),
        ({"volatility_scale": NAN}, WIDE, {}, 0.0, "volatility_target"),
        ({"daily_quote_volume_usdt": -1.0}, WIDE, {}, 0.0, "volume"),
        ({"depth_usdt": NAN}, WIDE, {}, 0.0, "depth"),
        ({"atr": NAN}, WIDE, {}, 0.0, "stop_risk"),
        ({"atr": -1.0}, WIDE, {}, 0.0, "stop_risk"),
    ],
)
def test_each_limit_that_is_known_can_be_the_one_that_binds(
    known: dict[str, Any], limits: RiskLimits, settings_: dict[str, Any], qty: float, binding: str
) -> None:
    assert sized(settings_, wish(), limits=limits, **known) == (pytest.approx(qty), binding)
    assert sized(settings_, wish(-1.0, -1.0), limits=limits, **known) == (pytest.approx(-qty), binding)


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize(
    ("settings_", "known", "distance", "binding"),
    [
        ({}, {}, 0.3, "liquidation_distance"),
        ({}, {"daily_volatility": 0.4}, 0.6, "liquidation_distance"),
        ({"reaction_days": 4.0}, {"daily_volatility": 0.2}, 0.6, "liquidation_distance"),
        ({"stop_clearance": 5.0}, {}, 0.75, "liquidation_distance"),  # five times the disaster stop
        ({"joint_shock_frac": 0.5}, {}, 0.5, "joint_shock"),
    ],
)
def test_the_liquidation_stays_away(
    settings_: dict[str, Any], known: dict[str, Any], distance: float, binding: str, side: float
) -> None:
    limits = msgspec.structs.replace(
        WIDE, min_liquidation_distance=0.3, var_daily_pct=90.0, cvar_daily_pct=99.0, max_position_pct=99.0
    )
    qty, bound = sized({"risk_per_trade_frac": 99.0} | settings_, wish(30 * side, side), limits=limits, **known)
    most = max_qty_at_distance(
        contract().brackets, equity=1e4, other_maintenance=0.0, price=100.0, side=int(side), distance_frac=distance
    )
    assert (qty, bound) == (pytest.approx(side * most), binding)


def test_a_joint_shock_takes_the_others_with_it() -> None:
    each = sizer(risk_per_trade_frac=99.0, joint_shock_frac=0.25)
    alone, bound = each.size(wish(30.0), contract(), 100.0, 10_000.0, 0.0, 0.0, SizingInputs())
    among, _ = each.size(wish(30.0), contract(), 100.0, 10_000.0, 20_000.0, 400.0, SizingInputs())
    assert bound == "joint_shock"
    assert among == max_qty_at_distance(
        contract().brackets, equity=5_000.0, other_maintenance=500.0, price=100.0, side=1, distance_frac=0.25
    )
    assert 0.0 < among < alone


def test_a_long_that_pays_in_full_cannot_be_liquidated() -> None:
    known = {"daily_volatility": 5.0}
    limits = msgspec.structs.replace(WIDE, var_daily_pct=90.0, cvar_daily_pct=99.0)
    assert sized({"risk_per_trade_frac": 99.0}, wish(2.0), limits=limits, **known) == (100.0, "liquidation_distance")
    short, bound = sized({"risk_per_trade_frac": 99.0}, wish(-2.0, -1.0), limits=limits, **known)
    assert bound == "liquidation_distance"
    assert -100.0 / 7.5 < short < 0.0


def test_a_weight_that_is_no_number_is_no_position() -> None:
    for target in (wish(NAN), wish(1.0, NAN), wish(NAN, NAN)):
        assert size(sizer(), target)[0] == 0.0
        assert sized({}, target)[0] == 0.0
    for price, equity in ((NAN, 1.0), (1.0, NAN), (float("inf"), 1.0), (1.0, float("inf"))):
        assert size(sizer(), wish(), price, equity) == (0.0, "flat")


def as_view(price: float, **contract_: str) -> RiskView:
    return RiskView(contract(**contract_), 0, price, 1e4, Decimal(0), 0.0, 0.0, 0, False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("qty", "wanted"),
    [(1.23456, "1.234"), (-1.23456, "-1.234"), (0.0499, "0"), (0.05, "0.05"), (0.3 - 1e-12, "0.3"), (0.0, "0")],
)
def test_down_to_the_lot_and_zero_below_the_minimum(qty: float, wanted: str) -> None:
    assert sizer().on_grid(wish(), qty, as_view(100.0)).qty == Decimal(wanted)


def test_below_the_smallest_quantity_is_zero() -> None:
    seen = as_view(100.0, min_qty="0.1")
    assert sizer().on_grid(wish(), 0.099, seen).qty == 0
    assert sizer().on_grid(wish(), 0.1, seen).qty == Decimal("0.1")


positive = st.floats(1e-3, 1e6)
limits_ = st.builds(
    RiskLimits,
    max_position_pct=st.floats(0.01, 5.0),
    max_leverage=st.floats(0.1, 20.0),
    min_liquidation_distance=st.floats(0.01, 0.9),
    allow_short=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(
    limits=limits_,
    risk=st.floats(1e-4, 0.5),
    conviction=st.floats(-1.0, 1.0),
    gross=st.floats(0.0, 5.0),
    price=positive,
    equity=st.floats(-1e5, 1e7),
    near=st.floats(1e-4, 0.9),
    wider=st.floats(1.0, 50.0),
    others=st.floats(0.0, 1e6),
)
def test_monotone_never_negative_and_on_the_lot(
    limits: RiskLimits,
    risk: float,
    conviction: float,
    gross: float,
    price: float,
    equity: float,
    near: float,
    wider: float,
    others: float,
) -> None:
    each = sizer(limits, risk_per_trade_frac=risk)
    side = 1.0 if conviction > 0 else -1.0

    def at(distance_frac: float, other: float = others) -> float:
        stop = price * (1.0 - side * distance_frac)
        target = wish(conviction * gross, conviction, stop if stop > 0 else None)
        qty, binding = size(each, target, price, equity, notional=other, needed=other * 0.01)
        assert qty == qty
        assert qty * side >= 0.0
        assert binding
        assert abs(qty) * price <= max(0.0, limits.max_position_pct * equity) * (1 + 1e-9)
        assert abs(qty) * price <= max(0.0, limits.max_leverage * equity - other) * (1 + 1e-9) + 1e-9
        on_lot = each.on_grid(target, qty, as_view(price)).qty
        assert on_lot % Decimal("0.001") == 0
        assert abs(float(on_lot)) <= abs(qty) + 1e-9
        return abs(qty)

    if near * wider < 1.0:
        assert at(near * wider) <= at(near) * (1 + 1e-9)
    assert at(near, others * 2.0) <= at(near) * (1 + 1e-9)
