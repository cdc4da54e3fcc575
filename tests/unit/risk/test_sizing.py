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
from tidegate.risk.sizing import PositionSizer, SizingSettings
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
