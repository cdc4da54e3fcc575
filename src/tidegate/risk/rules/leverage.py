"""Gross leverage of the whole book."""

from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason, TargetPosition
from tidegate.risk.view import PASS, Refuse, Resize, RiskView, Verdict, qty_after

_ROOM = 1.0 + 1e-9


class LeverageRule:
    """Gross notional of all instruments over equity stays at or below the limit."""

    name = "leverage"
    growth_only = True

    def __init__(self, max_leverage: float) -> None:
        self.max_leverage = max_leverage

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:
        most = self._most(view)
        if abs(float(target.qty)) <= most * _ROOM:
            return PASS
        qty = view.instrument.qty(most if target.qty > 0 else -most)
        return Resize(qty, Reason.LEVERAGE, f"gross leverage above {self.max_leverage:g}")

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        if abs(qty_after(intent, view)) <= self._most(view) * _ROOM:
            return PASS
        return Refuse(Reason.LEVERAGE, f"gross leverage would pass {self.max_leverage:g}")

    def _most(self, view: RiskView) -> float:
        return max(0.0, (self.max_leverage * view.equity - view.other_notional) / view.price)
