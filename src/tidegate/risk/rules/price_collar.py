"""Prices that a tired hand could have typed."""

from tidegate.domain.orders import OrderIntent, Side
from tidegate.domain.signals import Reason, TargetPosition
from tidegate.risk.view import PASS, Refuse, RiskView, Verdict

_SLACK = 1e-9


class PriceCollarRule:
    """Nothing is aimed at or sent before a price was seen, and a limit may not lie further than a fraction on the
    aggressive side of the last one."""

    name = "price_collar"
    growth_only = False

    def __init__(self, collar_frac: float) -> None:
        self.collar_frac = collar_frac

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:  # noqa: ARG002
        return PASS if view.price > 0.0 else Refuse(Reason.NO_PRICE, "no price has been seen yet")

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        if view.price <= 0.0:
            return Refuse(Reason.NO_PRICE, "no price has been seen yet")
        if intent.limit is None:
            return PASS
        beyond = (float(intent.limit) / view.price - 1.0) * (1 if intent.side is Side.BUY else -1)
        if beyond > self.collar_frac + _SLACK:
            return Refuse(Reason.PRICE_COLLAR, f"limit {intent.limit} is {beyond:.1%} through the price {view.price}")
        return PASS
