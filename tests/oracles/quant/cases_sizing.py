"""Position size under several constraints: every candidate, the one that binds, and the lot."""

from decimal import Decimal

from tests.oracles.quant.vectors import Oracle, case
from tests.unit.kernel.worlds import contract
from tidegate.domain.signals import TargetWeight
from tidegate.risk.sizing import PositionSizer, SizingInputs, SizingSettings
from tidegate.risk.view import RiskLimits, RiskView

NAMES = {"stop_risk": "stop", "kelly": "kelly", "var": "var", "max_leverage": "leverage"}


def _sized(oracle: Oracle) -> None:
    given = oracle.inputs
    equity, price = given["equity"], given["entry"]
    limits = RiskLimits(
        max_position_pct=50.0,
        max_leverage=given["max_leverage"],
        min_liquidation_distance=0.01,
        var_daily_pct=given["var_limit"],
        cvar_daily_pct=0.9,
    )
    sizer = PositionSizer(SizingSettings(risk_per_trade_frac=given["risk_fraction"]), limits, 0.15)
    instrument = contract(step=str(given["lot"]))
    target = TargetWeight(instrument.id, 50.0, 1.0, given["stop"])
    inputs = SizingInputs(kelly_frac=given["kelly_fraction"], daily_volatility=given["daily_vol"])
    bounds = sizer.candidates(target, instrument, price, equity, 0.0, 0.0, inputs)
    qty, binding = sizer.size(target, instrument, price, equity, 0.0, 0.0, inputs)
    view = RiskView(instrument, 0, price, equity, Decimal(0), 0.0, 0.0, 0, False)
    oracle.check("candidates", {NAMES[name]: most for name, most in bounds.items() if name in NAMES})
    oracle.check("binding", NAMES[binding])
    oracle.check("quantity", float(sizer.on_grid(target, qty, view).qty))


for _name in ("multi-constraint-1", "multi-constraint-kelly"):
    case("sizing_allocation.json", _name)(_sized)
