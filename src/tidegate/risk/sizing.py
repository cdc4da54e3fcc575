"""PositionSizer: the smallest of all limits decides, and says its name.

Sources: Van Tharp, "Trade Your Way to Financial Freedom", for the risk per trade; Binance's margin
tables for the liquidation limit.
"""

from decimal import Decimal
from typing import Literal

import msgspec

from tidegate.domain.errors import ConfigError
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import max_qty_at_distance
from tidegate.domain.signals import TargetPosition, TargetWeight
from tidegate.risk.view import RiskLimits, RiskView


class SizingSettings(msgspec.Struct, frozen=True):
    """``risk`` sizes by the loss at the stop (``risk_per_trade_frac`` of equity at full conviction) and by the weight;
    ``fixed_qty`` wants the same quantity at full conviction, whatever the price, under the same limits."""

    method: Literal["risk", "fixed_qty"] = "risk"
    risk_per_trade_frac: float = 0.005
    fixed_qty: Decimal | None = None


class PositionSizer:
    """Sizes targets. ``disaster_stop_frac`` is the stop distance of a wish without a stop of its own."""

    def __init__(self, settings: SizingSettings, limits: RiskLimits, disaster_stop_frac: float) -> None:
        self._settings = settings
        self._limits = limits
        self._disaster_stop_frac = disaster_stop_frac
        self._fixed_qty: float | None = None
        if settings.method == "fixed_qty":
            if settings.fixed_qty is None:
                raise ConfigError("sizing.method: fixed_qty needs sizing.fixed_qty, a quantity in base units")
            self._fixed_qty = float(settings.fixed_qty)

    def size(
        self,
        target: TargetWeight,
        instrument: Instrument,
        price: float,
        equity: float,
        other_notional: float,
        other_maintenance: float,
    ) -> tuple[float, str]:
        """The signed quantity in base units before rounding, and the name of the limit that bound it.

        ``other_notional`` and ``other_maintenance`` belong to the other instruments, in USDT. Zero when nothing is
        wished for, or when there is no equity or price to size with.
        """
        conviction = target.conviction
        if conviction == 0.0 or equity <= 0.0 or price <= 0.0:
            return 0.0, "flat"
        limits = self._limits
        if conviction > 0.0:
            side = 1
        elif limits.allow_short:
            side = -1
        else:
            return 0.0, "allow_short"
        if self._fixed_qty is not None:
            qty, binding = abs(conviction) * self._fixed_qty, "fixed_qty"
        else:
            qty, binding = abs(target.weight) * equity / price, "weight"
            at_risk = equity * self._settings.risk_per_trade_frac * abs(conviction)
            at_stop = at_risk / self._stop_distance(target, price, side)
            if at_stop < qty:
                qty, binding = at_stop, "stop_risk"
        # The bounds are those of domain.margin.is_distant; they stand here because this runs on every bar.
        distance = limits.min_liquidation_distance
        highest = distance + (1.0 + distance) * instrument.brackets[-1].maintenance_frac
        notional = qty * price
        if (
            notional <= limits.max_position_pct * equity
            and notional + other_notional <= limits.max_leverage * equity
            and notional * highest + other_maintenance <= equity
        ):
            return side * qty, binding
        most = limits.max_position_pct * equity / price
        if most < qty:
            qty, binding = most, "max_position"
        most = (limits.max_leverage * equity - other_notional) / price
        if most < qty:
            qty, binding = max(0.0, most), "max_leverage"
        if qty * price * highest + other_maintenance > equity:
            most = max_qty_at_distance(
                instrument.brackets,
                equity=equity,
                other_maintenance=other_maintenance,
                price=price,
                side=side,
                distance_frac=distance,
            )
            if most < qty:
                qty, binding = most, "liquidation_distance"
        return side * qty, binding

    def on_grid(self, target: TargetWeight, qty: float, view: RiskView) -> TargetPosition:
        """A sized quantity as an obligation: down to the lot, and zero when it is below what the venue takes."""
        size = view.instrument.qty(qty)
        too_small = abs(size) < view.instrument.min_qty
        too_cheap = abs(float(size)) * view.price < float(view.instrument.min_notional)
        return TargetPosition(target.instrument, Decimal(0) if too_small or too_cheap else size)

    def _stop_distance(self, target: TargetWeight, price: float, side: int) -> float:
        """Loss per unit if the stop is hit; a stop on the wrong side of the price counts as no stop."""
        if target.stop is not None:
            distance = (price - target.stop) * side
            if distance > 0.0:
                return distance
        return price * self._disaster_stop_frac
