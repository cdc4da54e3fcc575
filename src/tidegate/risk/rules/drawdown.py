"""No growth while the book is losing: drawdown latch, daily loss, run of losing days."""

from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason, TargetPosition
from tidegate.risk.view import PASS, Refuse, Resize, RiskView, Verdict, kept_of_held, within_held


class DrawdownRule:
    """While the risk controller says no new risk (``RiskView.no_new_risk``), targets and orders may only reduce."""

    name = "drawdown"
    growth_only = True

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:
        if not view.no_new_risk or within_held(target, view):
            return PASS
        return Resize(kept_of_held(target, view), Reason.DRAWDOWN, view.risk_reason or "no new risk now")

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:  # noqa: ARG002
        if view.no_new_risk:
            return Refuse(Reason.DRAWDOWN, view.risk_reason or "no new risk now")
        return PASS
