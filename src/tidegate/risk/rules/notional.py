"""Grid, size and notional: what the venue's filters would refuse, we refuse first."""

from tidegate.domain.orders import OrderIntent, OrderType
from tidegate.domain.signals import Reason
from tidegate.risk.view import PASS, OrderRule, Refuse, RiskView, Verdict

# Members by plain names: looking one up on its class costs ten times as much, and these are asked all the time.
_MARKET = OrderType.MARKET


class NotionalRule(OrderRule):
    """Quantity and prices on their grids, within the venue's sizes, and worth at least the minimum notional."""

    name = "notional"

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        instrument = view.instrument
        market = intent.order_type is _MARKET
        largest = instrument.market_max_qty if market else instrument.max_qty
        if intent.qty < instrument.min_qty:
            return Refuse(Reason.MIN_QTY, f"{intent.qty} is below the smallest size {instrument.min_qty}")
        if intent.qty > largest:
            return Refuse(Reason.MAX_QTY, f"{intent.qty} is above the largest size {largest}")
        if intent.qty % instrument.step:
            return Refuse(Reason.OFF_GRID, f"{intent.qty} is no multiple of the lot {instrument.step}")
        for price in (intent.limit, intent.trigger):
            if price is not None and price % instrument.tick:
                return Refuse(Reason.OFF_GRID, f"{price} is no multiple of the tick {instrument.tick}")
        if intent.reduce_only:
            return PASS
        notional = float(intent.qty) * (view.price if intent.limit is None else float(intent.limit))
        if notional < float(instrument.min_notional):
            return Refuse(Reason.MIN_NOTIONAL, f"{notional:.2f} is below the minimum of {instrument.min_notional}")
        return PASS
