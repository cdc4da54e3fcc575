"""No new risk where none is allowed now."""

from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason, TargetPosition
from tidegate.risk.view import PASS, Refuse, Resize, RiskView, Verdict, kept_of_held, within_held


class StateRule:
    """While an instrument or the whole book is reduce-only, targets and orders may only reduce."""

    name = "state"
    growth_only = True

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:
        if not view.reducing_only or within_held(target, view):
            return PASS
        return Resize(kept_of_held(target, view), Reason.STATE, "no new risk now")

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:  # noqa: ARG002
        if view.reducing_only:
            return Refuse(Reason.STATE, "only orders that reduce are allowed now")
        return PASS
