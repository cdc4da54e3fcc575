"""Prices that a tired hand could have typed."""

from tidegate.domain.orders import OrderIntent, Side
from tidegate.domain.signals import Reason
from tidegate.risk.view import PASS, OrderRule, Refuse, RiskView, Verdict


class PriceCollarRule(OrderRule):
    """A limit may not lie further than a fraction on the aggressive side of the last price."""

    name = "price_collar"

    def __init__(self, collar_frac: float) -> None:
        self.collar_frac = collar_frac

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        if view.price <= 0.0:
            return Refuse(Reason.NO_PRICE, "no price has been seen yet")
        if intent.limit is None:
            return PASS
        beyond = (float(intent.limit) / view.price - 1.0) * (1 if intent.side is Side.BUY else -1)
        if beyond > self.collar_frac:
            return Refuse(Reason.PRICE_COLLAR, f"limit {intent.limit} is {beyond:.1%} through the price {view.price}")
        return PASS
