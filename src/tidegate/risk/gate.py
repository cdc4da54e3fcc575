"""RiskGate: the only maker of sendable orders.

1. A target passes the rules in order. A rule may resize it (never upward, never to the other side) or refuse it.
2. An order intent passes the same rules in order; the first refusal ends it.
3. What passed all rules gets its client order id and its expiry and becomes an ``ApprovedOrder``, here only.
4. An amendment is reviewed as the order that it would leave behind.
5. What the venue already holds under our name, and we have forgotten, is written down as it is.

A refusal is a value with the rule, the reason and a sentence; the caller records it and goes on.
"""

from collections import deque
from decimal import Decimal

from tidegate.domain.account import OpenOrder
from tidegate.domain.errors import InvariantBroken
from tidegate.domain.ids import ClientOrderId, Nanos, base36
from tidegate.domain.market import MINUTE_NS, SECOND_NS
from tidegate.domain.orders import AmendOrder, ApprovedOrder, OrderIntent, Purpose, TimeInForce
from tidegate.domain.signals import Refusal, TargetPosition
from tidegate.risk.rules.concentration import ConcentrationRule
from tidegate.risk.rules.drawdown import DrawdownRule
from tidegate.risk.rules.leverage import LeverageRule
from tidegate.risk.rules.liquidation import LiquidationRule
from tidegate.risk.rules.notional import NotionalRule
from tidegate.risk.rules.order_rate import OrderRateRule
from tidegate.risk.rules.price_collar import PriceCollarRule
from tidegate.risk.rules.short import ShortRule
from tidegate.risk.rules.state import StateRule
from tidegate.risk.rules.value_at_risk import ValueAtRiskRule
from tidegate.risk.view import PASS, OrderRule, Pass, Refuse, Resize, RiskLimits, RiskView, Rule, increases

ORDER_LIFE_NS = 5 * SECOND_NS
"""An approved order that could not be signed within this time is not sent any more."""

_LOOKS_AWAY = OrderRule.on_target


def standard_rules(limits: RiskLimits) -> tuple[Rule, ...]:
    """The rules of the house, in the order in which they are asked."""
    rules: list[Rule] = [StateRule(), DrawdownRule(), PriceCollarRule(limits.price_collar_frac)]
    rules += [ConcentrationRule(limits.max_position_pct), LeverageRule(limits.max_leverage)]
    rules += [LiquidationRule(limits.min_liquidation_distance)]
    rules += [ValueAtRiskRule(limits.var_daily_pct, limits.cvar_daily_pct)]
    if not limits.allow_short:
        rules.append(ShortRule())
    rules += [NotionalRule(), OrderRateRule(limits.max_orders_per_minute)]
    return tuple(rules)


class RiskGate:
    """Reviews targets and orders. ``account`` and ``gen`` name our orders: see ``ClientOrderId``."""

    def __init__(self, rules: tuple[Rule, ...], account: str, gen: int) -> None:
        self._rules = rules
        self._target_rules = [rule for rule in rules if getattr(type(rule), "on_target", None) is not _LOOKS_AWAY]
        self.account = account[:2]
        self._prefix = f"p1-{self.account}-{base36(gen)}-"
        self._sequence = 0
        self._recent: deque[Nanos] = deque()

    def review(self, target: TargetPosition, view: RiskView) -> tuple[TargetPosition, Refusal | None]:
        """The target as the rules allow it; a refused one becomes the position that is held now."""
        trimmed: Refusal | None = None
        for rule in self._target_rules:
            verdict = rule.on_target(target, view)
            if verdict is PASS:
                continue
            match verdict:
                case Resize(qty, reason, detail):
                    if abs(qty) > abs(target.qty) or qty * target.qty < 0:
                        raise InvariantBroken(f"rule {rule.name} enlarged {target.qty} to {qty}")
                    target = TargetPosition(target.instrument, qty)
                    trimmed = Refusal(target.instrument, rule.name, reason, detail)
                case Refuse(reason, detail):
                    held = TargetPosition(target.instrument, view.held_qty)
                    return held, Refusal(target.instrument, rule.name, reason, detail)
        return target, trimmed

    def approve(self, intent: OrderIntent, view: RiskView) -> ApprovedOrder | Refusal:
        """The order, sendable, or why it is not."""
        refusal = self.objection(intent, view)
        if refusal is not None:
            return refusal
        self._sequence += 1
        self._recent.append(view.now_ns)
        return ApprovedOrder(
            ClientOrderId(f"{self._prefix}{base36(self._sequence)}-0"),
            intent.instrument,
            intent.side,
            intent.qty,
            intent.order_type,
            intent.limit,
            intent.trigger,
            intent.tif,
            intent.reduce_only,
            intent.position_side,
            intent.purpose,
            intent.parent,
            intent.strategy,
            0,
            view.now_ns + ORDER_LIFE_NS,
        )

    def approve_amendment(
        self, order: ApprovedOrder, qty: Decimal, limit: Decimal | None, trigger: Decimal | None, view: RiskView
    ) -> AmendOrder | Refusal:
        """A change of a working order, reviewed as the order that it leaves; ``view`` must not count the old one."""
        intent = OrderIntent(
            order.instrument,
            order.side,
            qty,
            order.order_type,
            order.purpose,
            limit,
            trigger,
            order.tif,
            order.reduce_only,
            order.position_side,
        )
        refusal = self.objection(intent, view)
        return refusal or AmendOrder(order.id, order.instrument, qty, limit, trigger)

    @staticmethod
    def recover(order: OpenOrder, now_ns: Nanos) -> ApprovedOrder:
        """An order of ours as the venue lists it: nothing is sent, so nothing is asked of the rules. A stop that only
        reduces is protection, anything else was on its way to a target."""
        stop = order.order_type.conditional and order.reduce_only
        return ApprovedOrder(
            order.id,
            order.instrument,
            order.side,
            order.qty,
            order.order_type,
            order.limit,
            order.trigger,
            TimeInForce.GTC,
            order.reduce_only,
            order.position_side,
            Purpose.PROTECTION if stop else Purpose.TARGET,
            None,
            None,
            0,
            now_ns,
        )

    def recent_orders(self, now_ns: Nanos) -> int:
        """Orders approved in the minute before ``now_ns``."""
        recent = self._recent
        while recent and recent[0] <= now_ns - MINUTE_NS:
            recent.popleft()
        return len(recent)

    def dump(self) -> object:
        return {"sequence": self._sequence, "recent": list(self._recent)}

    def load(self, sequence: int, recent: list[Nanos]) -> None:
        self._sequence, self._recent = sequence, deque(recent)

    def objection(self, intent: OrderIntent, view: RiskView) -> Refusal | None:
        """The first rule that refuses the order, or ``None``; nothing is counted and nothing made."""
        grows = increases(intent, view)
        for rule in self._rules:
            if rule.growth_only and not grows:
                continue
            verdict = rule.on_order(intent, view)
            if verdict is PASS or isinstance(verdict, Pass):
                continue
            return Refusal(intent.instrument, rule.name, verdict.reason, verdict.detail)
        return None
