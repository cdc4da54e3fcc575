"""Short positions, where they are not wanted."""

from decimal import Decimal

from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason, TargetPosition
from tidegate.risk.view import PASS, Refuse, Resize, RiskView, Verdict, qty_after


class ShortRule:
    """Without ``allow_short`` every target is clipped at zero; sells that reduce pass."""

    name = "short"
    growth_only = True

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:  # noqa: ARG002
        if target.qty >= 0:
            return PASS
        return Resize(Decimal(0), Reason.SHORT_NOT_ALLOWED, "short positions are not allowed")

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        if qty_after(intent, view) < 0:
            return Refuse(Reason.SHORT_NOT_ALLOWED, "short positions are not allowed")
        return PASS
