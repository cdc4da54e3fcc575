"""No new risk where none is allowed now."""

from decimal import Decimal

from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason, TargetPosition
from tidegate.risk.view import PASS, Refuse, Resize, RiskView, Verdict


class StateRule:
    """While an instrument or the whole book is reduce-only, targets and orders may only reduce."""

    name = "state"
    growth_only = True

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:
        held = view.held_qty
        if not view.reducing_only or (abs(target.qty) <= abs(held) and target.qty * held >= 0):
            return PASS
        qty = held if target.qty * held > 0 else Decimal(0)
        return Resize(qty, Reason.STATE, "no new risk now")

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:  # noqa: ARG002
        if view.reducing_only:
            return Refuse(Reason.STATE, "only orders that reduce are allowed now")
        return PASS
