"""Distance to the liquidation price."""

from tidegate.domain.margin import is_distant, max_qty_at_distance
from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason, TargetPosition
from tidegate.risk.view import PASS, Refuse, Resize, RiskView, Verdict, qty_after


class LiquidationRule:
    """The liquidation price stays at least a fraction of the price away."""

    name = "liquidation"
    growth_only = True

    def __init__(self, min_liquidation_distance: float) -> None:
        self.min_liquidation_distance = min_liquidation_distance

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:
        if self._distant(view, float(target.qty)):
            return PASS
        side = 1 if target.qty > 0 else -1
        most = max_qty_at_distance(
            view.instrument.brackets,
            equity=view.equity,
            other_maintenance=view.other_maintenance,
            price=view.price,
            side=side,
            distance_frac=self.min_liquidation_distance,
        )
        return Resize(view.instrument.qty(side * most), Reason.LIQUIDATION_DISTANCE, self._text)

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        if self._distant(view, qty_after(intent, view)):
            return PASS
        return Refuse(Reason.LIQUIDATION_DISTANCE, self._text)

    @property
    def _text(self) -> str:
        return f"liquidation nearer than {self.min_liquidation_distance:.0%} of the price"

    def _distant(self, view: RiskView, qty: float) -> bool:
        return is_distant(
            view.instrument.brackets,
            abs(qty),
            equity=view.equity,
            other_maintenance=view.other_maintenance,
            price=view.price,
            side=1 if qty > 0 else -1,
            distance_frac=self.min_liquidation_distance,
        )
