"""Distance to the liquidation price."""

from tidegate.domain.margin import max_qty_at_distance
from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason, TargetPosition
from tidegate.risk.view import PASS, Refuse, Resize, RiskView, Verdict, increases, qty_after

_ROOM = 1.0 + 1e-9


class LiquidationRule:
    """The liquidation price stays at least a fraction of the price away."""

    name = "liquidation"

    def __init__(self, min_liquidation_distance: float) -> None:
        self.min_liquidation_distance = min_liquidation_distance

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:
        side = 1 if target.qty > 0 else -1
        most = self._most(view, side)
        if abs(float(target.qty)) <= most * _ROOM:
            return PASS
        return Resize(view.instrument.qty(side * most), Reason.LIQUIDATION_DISTANCE, self._text)

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        if not increases(intent, view):
            return PASS
        after = qty_after(intent, view)
        if abs(after) <= self._most(view, 1 if after > 0 else -1) * _ROOM:
            return PASS
        return Refuse(Reason.LIQUIDATION_DISTANCE, self._text)

    @property
    def _text(self) -> str:
        return f"liquidation nearer than {self.min_liquidation_distance:.0%} of the price"

    def _most(self, view: RiskView, side: int) -> float:
        return max_qty_at_distance(
            view.instrument.brackets,
            equity=view.equity,
            other_maintenance=view.other_maintenance,
            price=view.price,
            side=side,
            distance_frac=self.min_liquidation_distance,
        )
