"""The laws of sizing: never a number that is none, never the other side, whole lots, under every limit; and whatever
makes the world riskier or a limit lower never makes a position larger."""

import math
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kernel.worlds import contract
from tidegate.domain.signals import TargetWeight
from tidegate.risk.sizing import PositionSizer, SizingInputs, SizingSettings
from tidegate.risk.view import RiskLimits, RiskView

DISASTER_STOP = 0.15


class World(msgspec.Struct, frozen=True):
    """All that a size depends on. The stop is ``stop_frac`` away on the side of the wish."""

    limits: RiskLimits
    settings: SizingSettings
    inputs: SizingInputs | None
    weight: float
    conviction: float
    stop_frac: float | None
    price: float
    equity: float
    other_notional: float

    def target(self) -> TargetWeight:
        side = 1.0 if self.conviction > 0.0 else -1.0
        stop = None if self.stop_frac is None else self.price * (1.0 - side * self.stop_frac)
        return TargetWeight(contract().id, self.weight, self.conviction, stop)

    def sizer(self) -> PositionSizer:
        return PositionSizer(self.settings, self.limits, DISASTER_STOP)

    def size(self) -> tuple[float, str]:
        return self.sizer().size(
            self.target(),
            contract(),
            self.price,
            self.equity,
            self.other_notional,
            0.01 * self.other_notional,
            self.inputs,
        )


def changed(world: World, path: str, value: Any) -> World:
    """``world`` with another value at ``limits.max_leverage``, ``inputs.atr``, ``stop_frac``."""
    part, _, name = path.rpartition(".")
    if part:
        value = msgspec.structs.replace(getattr(world, part), **{name: value})
    return msgspec.structs.replace(world, **{part or name: value})


known = {
    "kelly_frac": st.floats(-0.5, 3.0),
    "daily_volatility": st.floats(0.0, 0.5),
    "book_var_frac": st.floats(0.0, 0.04),
    "book_correlation": st.floats(-1.0, 1.0),
    "volatility_scale": st.floats(0.0, 2.0),
    "exposure_multiplier": st.floats(0.0, 1.0),
    "atr": st.floats(0.0, 100.0),
    "daily_quote_volume_usdt": st.floats(0.0, 1e8),
    "depth_usdt": st.floats(0.0, 1e6),
}
worlds = st.builds(
    World,
    limits=st.builds(
        RiskLimits,
        max_position_pct=st.floats(0.01, 5.0),
        max_leverage=st.floats(0.1, 20.0),
        min_liquidation_distance=st.floats(0.01, 0.9),
        var_daily_pct=st.floats(0.001, 0.3),
        cvar_daily_pct=st.floats(0.001, 0.4),
    ),
    settings=st.builds(
        SizingSettings,
        method=st.sampled_from(["risk", "fixed_qty"]),
        risk_per_trade_frac=st.floats(1e-4, 0.5),
        fixed_qty=st.just(Decimal(30)),
        stop_clearance=st.none() | st.floats(1.0, 5.0),
        joint_shock_frac=st.none() | st.floats(0.05, 0.9),
    ),
    inputs=st.builds(SizingInputs, **{name: st.none() | each for name, each in known.items()}),
    weight=st.floats(0.0, 5.0),
    conviction=st.floats(-1.0, 1.0),
    stop_frac=st.none() | st.floats(1e-4, 0.5),
    price=st.sampled_from([0.05, 1.0, 100.0, 60_000.0]),
    equity=st.floats(10.0, 1e7),
    other_notional=st.sampled_from([0.0, 1_000.0, 1e6]),
)


def lots(world: World, qty: float) -> Decimal:
    view = RiskView(contract(), 0, world.price, world.equity, Decimal(0), 0.0, 0.0, 0, False)
    return world.sizer().on_grid(world.target(), qty, view).qty


@settings(max_examples=150, deadline=None)
@given(worlds)
def test_the_smallest_of_all_limits_on_the_side_of_the_wish_in_whole_lots(world: World) -> None:
    qty, binding = world.size()
    if world.conviction == 0.0:
        assert (qty, binding) == (0.0, "flat")
        return
    assert math.isfinite(qty)
    assert qty * world.conviction >= 0.0
    assert world.inputs is not None
    bounds = world.sizer().candidates(
        world.target(),
        contract(),
        world.price,
        world.equity,
        world.other_notional,
        0.01 * world.other_notional,
        world.inputs,
    )
    assert all(most >= 0.0 for most in bounds.values())
    brake = world.inputs.exposure_multiplier
    factor = 1.0 if brake is None else brake
    assert abs(qty) == pytest.approx(min(bounds.values()) * factor)
    assert binding == "drawdown" if factor < 1.0 else bounds[binding] == min(bounds.values())
    on_lot = lots(world, qty)
    assert on_lot % contract().step == 0
    assert abs(float(on_lot)) <= abs(qty) * (1 + 1e-9) + 1e-9
    assert on_lot * Decimal(world.conviction) >= 0


LOWER_IS_SMALLER = [
    "limits.max_position_pct",
    "limits.max_leverage",
    "limits.var_daily_pct",
    "limits.cvar_daily_pct",
    "settings.risk_per_trade_frac",
    "settings.volume_share",
    "settings.depth_share",
    "inputs.kelly_frac",
    "inputs.volatility_scale",
    "inputs.exposure_multiplier",
    "inputs.daily_quote_volume_usdt",
    "inputs.depth_usdt",
    "weight",
    "equity",
]
HIGHER_IS_SMALLER = [
    "limits.min_liquidation_distance",
    "settings.liquidation_sigmas",
    "settings.reaction_days",
    "settings.stop_atrs",
    "settings.stop_clearance",
    "settings.joint_shock_frac",
    "inputs.daily_volatility",
    "inputs.atr",
    "stop_frac",
    "other_notional",
]


WHEN_UNKNOWN = {
    "inputs.kelly_frac": 0.3,
    "inputs.volatility_scale": 0.8,
    "inputs.exposure_multiplier": 0.7,
    "inputs.daily_quote_volume_usdt": 1e6,
    "inputs.depth_usdt": 1e4,
    "inputs.daily_volatility": 0.02,
    "inputs.atr": 3.0,
    "settings.stop_clearance": 2.0,
    "settings.joint_shock_frac": 0.25,
    "stop_frac": 0.01,
}
BELOW_ONE = ("limits.min_liquidation_distance", "settings.joint_shock_frac", "stop_frac")


@pytest.mark.parametrize("path", [*LOWER_IS_SMALLER, *HIGHER_IS_SMALLER])
@settings(max_examples=50, deadline=None)
@given(world=worlds, factor=st.floats(1.0, 20.0))
def test_more_risk_or_a_lower_limit_never_makes_it_larger(path: str, world: World, factor: float) -> None:
    before: Any = world
    for name in path.split("."):
        before = getattr(before, name)
    if before is None:
        before = WHEN_UNKNOWN[path]
    before = max(0.0, before)
    world = changed(world, path, before)
    after = before * factor if path in HIGHER_IS_SMALLER else before / factor
    if path in BELOW_ONE:
        after = max(before, min(after, 0.99))
    smaller, _ = changed(world, path, after).size()
    larger, _ = world.size()
    assert abs(smaller) <= abs(larger) * (1 + 1e-9) + 1e-12


@settings(max_examples=60, deadline=None)
@given(world=worlds, other=st.floats(-1.0, 1.0))
def test_more_like_the_book_never_makes_it_larger(world: World, other: float) -> None:
    side = 1 if world.conviction > 0.0 else -1
    sizes = [
        abs(changed(world, "inputs.book_correlation", side * rho).size()[0])
        for rho in sorted((other, other / 2, 1.0), reverse=True)
    ]
    unknown = abs(changed(world, "inputs.book_correlation", None).size()[0])
    assert sizes[0] == unknown
    assert sizes[0] <= sizes[1] * (1 + 1e-9) + 1e-12
    assert sizes[1] <= sizes[2] * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("name", [name for name in known if not name.startswith("book_")])  # those come with a limit
@settings(max_examples=60, deadline=None)
@given(world=worlds, value=st.floats())
def test_learning_something_never_makes_it_larger_and_nonsense_is_no_size(
    name: str, world: World, value: float
) -> None:
    without, _ = changed(world, f"inputs.{name}", None).size()
    qty, _ = changed(world, f"inputs.{name}", value).size()
    assert math.isfinite(qty)
    assert abs(qty) <= abs(without) * (1 + 1e-9)
    asked = name != "atr" or (world.stop_frac is None and world.settings.method == "risk")
    if asked and not value >= 0.0:
        assert qty == 0.0


@settings(max_examples=150, deadline=None)
@given(worlds)
def test_knowing_nothing_more_is_the_size_of_the_quick_way(world: World) -> None:
    plain = msgspec.structs.replace(world.settings, stop_clearance=None, joint_shock_frac=None)
    world = msgspec.structs.replace(world, settings=plain, inputs=SizingInputs())
    quick, quick_binding = msgspec.structs.replace(world, inputs=None).size()
    qty, binding = world.size()
    assert qty == pytest.approx(quick, rel=1e-9, abs=1e-12)
    if binding != quick_binding:  # two limits that are one number
        bounds = world.sizer().candidates(
            world.target(),
            contract(),
            world.price,
            world.equity,
            world.other_notional,
            0.01 * world.other_notional,
            SizingInputs(),
        )
        assert bounds[binding] == pytest.approx(bounds[quick_binding], rel=1e-9, abs=1e-12)
