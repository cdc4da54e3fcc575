"""A runaway stops here."""

from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason
from tidegate.risk.view import PASS, OrderRule, Refuse, RiskView, Verdict


class OrderRateRule(OrderRule):
    """At most so many orders a minute; orders that reduce are let through."""

    name = "order_rate"

    def __init__(self, max_orders_per_minute: int) -> None:
        self.max_orders_per_minute = max_orders_per_minute

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        if intent.reduce_only or view.recent_orders < self.max_orders_per_minute:
            return PASS
        return Refuse(Reason.ORDER_RATE, f"{view.recent_orders} orders in the last minute")
