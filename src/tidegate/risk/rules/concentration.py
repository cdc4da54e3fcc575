"""Share of one instrument in the book."""

from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason, TargetPosition
from tidegate.risk.view import PASS, Refuse, Resize, RiskView, Verdict, qty_after

_ROOM = 1.0 + 1e-9


class ConcentrationRule:
    """Notional of one instrument over equity stays at or below the limit."""

    name = "concentration"
    growth_only = True

    def __init__(self, max_position_pct: float) -> None:
        self.max_position_pct = max_position_pct

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:
        most = self._most(view)
        if abs(float(target.qty)) <= most * _ROOM:
            return PASS
        qty = view.instrument.qty(most if target.qty > 0 else -most)
        return Resize(qty, Reason.CONCENTRATION, f"more than {self.max_position_pct:.0%} of equity in one name")

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        if abs(qty_after(intent, view)) <= self._most(view) * _ROOM:
            return PASS
        return Refuse(Reason.CONCENTRATION, f"more than {self.max_position_pct:.0%} of equity in one name")

    def _most(self, view: RiskView) -> float:
        return max(0.0, self.max_position_pct * view.equity / view.price)
