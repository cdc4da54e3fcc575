"""Each rule of the gate at its boundary: the last thing it lets through, and the first it does not."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.unit.kernel.worlds import contract
from tidegate.domain.orders import OrderIntent, OrderType, Purpose, Side
from tidegate.domain.signals import Reason, Refusal, TargetPosition
from tidegate.risk.gate import RiskGate
from tidegate.risk.rules.concentration import ConcentrationRule
from tidegate.risk.rules.drawdown import DrawdownRule
from tidegate.risk.rules.leverage import LeverageRule
from tidegate.risk.rules.liquidation import LiquidationRule
from tidegate.risk.rules.notional import NotionalRule
from tidegate.risk.rules.order_rate import OrderRateRule
from tidegate.risk.rules.price_collar import PriceCollarRule
from tidegate.risk.rules.short import ShortRule
from tidegate.risk.rules.state import StateRule
from tidegate.risk.rules.value_at_risk import CVAR_SIGMAS, VAR_SIGMAS, ValueAtRiskRule, most_weight, var_limit
from tidegate.risk.view import PASS, Refuse, Resize, RiskView, Rule, increases

BLANK = RiskView(contract(min_qty="0.002"), 0, 100.0, 1_000.0, Decimal(0), 0.0, 0.0, 0, False)


def view(**changes: Any) -> RiskView:
    if "held_qty" in changes:
        changes["held_qty"] = Decimal(str(changes["held_qty"]))
        changes.setdefault("held_or_ordered", float(changes["held_qty"]))
    return msgspec.structs.replace(BLANK, **changes)


def order(qty: str, side: Side = Side.BUY, kind: OrderType = OrderType.MARKET, **more: Any) -> OrderIntent:
    return OrderIntent(contract().id, side, Decimal(qty), kind, Purpose.TARGET, **more)


def target(qty: str) -> TargetPosition:
    return TargetPosition(contract().id, Decimal(qty))


FOUR = 0.04 / VAR_SIGMAS

CASES: list[tuple[Rule, OrderIntent, RiskView, Reason | None]] = [
    (ConcentrationRule(0.5), order("5"), view(), None),
    (ConcentrationRule(0.5), order("5.001"), view(), Reason.CONCENTRATION),
    (ConcentrationRule(0.5), order("1"), view(held_or_ordered=4.5), Reason.CONCENTRATION),
    (ConcentrationRule(0.5), order("1", Side.SELL), view(held_qty=9), None),
    (ConcentrationRule(0.5), order("15", Side.SELL), view(held_qty=9), Reason.CONCENTRATION),
    (ConcentrationRule(0.5), order("99", Side.SELL, reduce_only=True), view(held_qty=99), None),
    (LeverageRule(2.0), order("20"), view(), None),
    (LeverageRule(2.0), order("20.001"), view(), Reason.LEVERAGE),
    (LeverageRule(2.0), order("5"), view(other_notional=1_500.0), None),
    (LeverageRule(2.0), order("5.001", Side.SELL), view(other_notional=1_500.0), Reason.LEVERAGE),
    (LiquidationRule(0.5), order("5"), view(equity=10_000.0), None),
    (LiquidationRule(0.5), order("900"), view(equity=10_000.0), Reason.LIQUIDATION_DISTANCE),
    (LiquidationRule(0.5), order("5"), view(equity=10.0), Reason.LIQUIDATION_DISTANCE),
    (LiquidationRule(0.5), order("5", reduce_only=True), view(equity=10.0, held_qty=-5), None),
    (NotionalRule(), order("0.05"), view(), None),
    (NotionalRule(), order("0.049"), view(), Reason.MIN_NOTIONAL),
    (NotionalRule(), order("0.049", reduce_only=True), view(), None),
    (NotionalRule(), order("0.049", kind=OrderType.LIMIT, limit=Decimal("102.1")), view(), None),
    (NotionalRule(), order("0.001", reduce_only=True), view(), Reason.MIN_QTY),
    (NotionalRule(), order("1000"), view(), None),
    (NotionalRule(), order("1000.001"), view(), Reason.MAX_QTY),
    (NotionalRule(), order("10000", kind=OrderType.STOP_MARKET, trigger=Decimal(90)), view(), None),
    (NotionalRule(), order("10000.001", kind=OrderType.STOP_MARKET, trigger=Decimal(90)), view(), Reason.MAX_QTY),
    (NotionalRule(), order("1.0005"), view(), Reason.OFF_GRID),
    (NotionalRule(), order("1", kind=OrderType.LIMIT, limit=Decimal("100.05")), view(), Reason.OFF_GRID),
    (NotionalRule(), order("1", kind=OrderType.STOP_MARKET, trigger=Decimal("99.99")), view(), Reason.OFF_GRID),
    (OrderRateRule(10), order("1"), view(recent_orders=9), None),
    (OrderRateRule(10), order("1"), view(recent_orders=10), Reason.ORDER_RATE),
    (OrderRateRule(10), order("1", reduce_only=True), view(recent_orders=10), None),
    (PriceCollarRule(0.05), order("1", limit=Decimal(105)), view(), None),
    (PriceCollarRule(0.05), order("1", limit=Decimal("105.1")), view(), Reason.PRICE_COLLAR),
    (PriceCollarRule(0.05), order("1", limit=Decimal(50)), view(), None),
    (PriceCollarRule(0.05), order("1", Side.SELL, limit=Decimal("94.9")), view(), Reason.PRICE_COLLAR),
    (PriceCollarRule(0.05), order("1", Side.SELL, limit=Decimal(200)), view(), None),
    (PriceCollarRule(0.05), order("1"), view(price=0.0), Reason.NO_PRICE),
    (ShortRule(), order("1", Side.SELL), view(), Reason.SHORT_NOT_ALLOWED),
    (ShortRule(), order("1", Side.SELL), view(held_qty=1), None),
    (ShortRule(), order("1.001", Side.SELL), view(held_qty=1), Reason.SHORT_NOT_ALLOWED),
    (ShortRule(), order("1"), view(held_qty=-3), None),
    (StateRule(), order("1"), view(), None),
    (StateRule(), order("1"), view(reducing_only=True), Reason.STATE),
    (StateRule(), order("1", Side.SELL), view(held_qty=1, reducing_only=True), None),
    (StateRule(), order("1.001", Side.SELL), view(held_qty=1, reducing_only=True), Reason.STATE),
    (StateRule(), order("1", reduce_only=True), view(reducing_only=True), None),
    (DrawdownRule(), order("1"), view(), None),
    (DrawdownRule(), order("1"), view(no_new_risk=True), Reason.DRAWDOWN),
    (DrawdownRule(), order("1", Side.SELL), view(held_qty=1, no_new_risk=True), None),
    (DrawdownRule(), order("1.001", Side.SELL), view(held_qty=1, no_new_risk=True), Reason.DRAWDOWN),
    (DrawdownRule(), order("1", reduce_only=True), view(no_new_risk=True), None),
    # 1,000 of equity at 2 % VaR, a price of 100 and a volatility whose 5 % quantile is 4 %: half of the equity
    (ValueAtRiskRule(0.02, 0.9), order("999"), view(), None),
    (ValueAtRiskRule(0.02, 0.9), order("5"), view(daily_volatility=FOUR), None),
    (ValueAtRiskRule(0.02, 0.9), order("5.001"), view(daily_volatility=FOUR), Reason.VALUE_AT_RISK),
    (ValueAtRiskRule(0.9, 0.025), order("5"), view(daily_volatility=0.05 / CVAR_SIGMAS), None),
    (ValueAtRiskRule(0.9, 0.025), order("5.001"), view(daily_volatility=0.05 / CVAR_SIGMAS), Reason.VALUE_AT_RISK),
    (ValueAtRiskRule(0.02, 0.9), order("1"), view(daily_volatility=FOUR, book_var_frac=0.016), None),
    (
        ValueAtRiskRule(0.02, 0.9),
        order("1.001"),
        view(daily_volatility=FOUR, book_var_frac=0.016),
        Reason.VALUE_AT_RISK,
    ),
    (
        ValueAtRiskRule(0.02, 0.9),
        order("3"),
        view(daily_volatility=FOUR, book_var_frac=0.016, book_correlation=0.0),
        None,
    ),
    (ValueAtRiskRule(0.02, 0.9), order("9", Side.SELL), view(daily_volatility=FOUR, held_qty=9), None),
    (ValueAtRiskRule(0.02, 0.9), order("0.01"), view(daily_volatility=float("nan")), Reason.VALUE_AT_RISK),
    (ValueAtRiskRule(0.02, 0.9), order("0.01"), view(daily_volatility=0.01, equity=-5.0), Reason.VALUE_AT_RISK),
]


@pytest.mark.parametrize(("rule", "intent", "seen", "reason"), CASES)
def test_orders(rule: Rule, intent: OrderIntent, seen: RiskView, reason: Reason | None) -> None:
    answer = RiskGate((rule,), "demo", 0).approve(intent, seen)
    assert (answer.reason if isinstance(answer, Refusal) else None) is reason


TARGETS: list[tuple[Rule, str, RiskView, str | Reason]] = [
    (ConcentrationRule(0.5), "5", view(), "5"),
    (ConcentrationRule(0.5), "5.001", view(), "5"),
    (ConcentrationRule(0.5), "-7", view(), "-5"),
    (ConcentrationRule(0.5), "-7", view(equity=-5.0), "0"),
    (LeverageRule(2.0), "-20", view(), "-20"),
    (LeverageRule(2.0), "-20.5", view(), "-20"),
    (LeverageRule(2.0), "6", view(other_notional=1_500.0), "5"),
    (LeverageRule(2.0), "6", view(other_notional=9_500.0), "0"),
    (LiquidationRule(0.5), "5", view(equity=10_000.0), "5"),
    (ShortRule(), "-1", view(), "0"),
    (ShortRule(), "1", view(), "1"),
    (StateRule(), "1", view(reducing_only=True), "0"),
    (StateRule(), "2", view(held_qty=1, reducing_only=True), "1"),
    (StateRule(), "0.5", view(held_qty=1, reducing_only=True), "0.5"),
    (StateRule(), "-1", view(held_qty=1, reducing_only=True), "0"),
    (DrawdownRule(), "1", view(), "1"),
    (DrawdownRule(), "1", view(no_new_risk=True), "0"),
    (DrawdownRule(), "2", view(held_qty=1, no_new_risk=True), "1"),
    (DrawdownRule(), "0.5", view(held_qty=1, no_new_risk=True), "0.5"),
    (DrawdownRule(), "-1", view(held_qty=1, no_new_risk=True), "0"),
    (ValueAtRiskRule(0.02, 0.9), "50", view(), "50"),
    (ValueAtRiskRule(0.02, 0.9), "50", view(daily_volatility=FOUR), "5"),
    (ValueAtRiskRule(0.02, 0.9), "-50", view(daily_volatility=FOUR), "-5"),
    (ValueAtRiskRule(0.02, 0.9), "8", view(daily_volatility=FOUR, held_qty=8), "8"),
    (ValueAtRiskRule(0.02, 0.9), "9", view(daily_volatility=FOUR, held_qty=8), "8"),
    (ValueAtRiskRule(0.02, 0.9), "-9", view(daily_volatility=FOUR, held_qty=8), "-5"),
    (ValueAtRiskRule(0.02, 0.9), "9", view(daily_volatility=FOUR, held_qty=2), "5"),
    (PriceCollarRule(0.05), "1", view(price=0.0), Reason.NO_PRICE),
    (PriceCollarRule(0.05), "1", view(), "1"),
    (NotionalRule(), "0.00001", view(), "0.00001"),
]


@pytest.mark.parametrize(("rule", "wanted", "seen", "answer"), TARGETS)
def test_targets(rule: Rule, wanted: str, seen: RiskView, answer: str | Reason) -> None:
    match rule.on_target(target(wanted), seen):
        case Resize(qty, _, detail):
            assert detail
            assert qty == Decimal(str(answer))
            assert wanted != answer
        case Refuse(reason, _):
            assert reason is answer
        case _:
            assert wanted == answer


def test_the_distance_rule_cuts_to_what_it_lets_through() -> None:
    rule, seen = LiquidationRule(0.3), view(equity=1_000.0)
    verdict = rule.on_target(target("90"), seen)
    assert isinstance(verdict, Resize)
    assert 0 < verdict.qty < 90
    assert rule.on_target(target(str(verdict.qty)), seen) is PASS
    more = verdict.qty + Decimal("0.002")
    assert isinstance(rule.on_target(target(str(more)), seen), Resize)


@pytest.mark.parametrize(
    ("qty", "side", "held", "answer"),
    [
        ("1", Side.BUY, 0, True),
        ("1", Side.SELL, 1, False),
        ("1.001", Side.SELL, 1, True),
        ("0.5", Side.SELL, 1, False),
        ("2", Side.SELL, 1, True),
        ("1", Side.BUY, -2, False),
        ("0.001", Side.BUY, 5, True),
    ],
)
def test_what_increases(qty: str, side: Side, held: int, answer: bool) -> None:
    assert increases(order(qty, side), view(held_qty=held)) is answer
    assert not increases(order(qty, side, reduce_only=True), view(held_qty=held))


@pytest.mark.parametrize("rho", [-1.0, -0.4, 0.0, 0.7, 1.0])
@pytest.mark.parametrize("side", [1, -1])
def test_the_largest_position_makes_the_book_as_risky_as_the_limit(rho: float, side: int) -> None:
    volatility, book = 0.03, 0.012
    own = VAR_SIGMAS * volatility * most_weight(0.02, volatility, side, book, rho)
    assert own > 0.0
    assert (book**2 + 2 * side * rho * book * own + own**2) ** 0.5 == pytest.approx(0.02)


def test_what_cannot_be_known_is_no_permission() -> None:
    nan = float("nan")
    for wrong in (
        (nan, 1, 0.0, 0.0),
        (0.02, 1, nan, 0.0),
        (0.02, 1, 0.0, nan),
        (-0.02, 1, 0.0, 0.0),
        (0.02, 1, 0.0, 1.1),
    ):
        assert most_weight(0.02, *wrong) != most_weight(0.02, *wrong)
    assert most_weight(0.02, 0.0) == float("inf")
    assert most_weight(0.02, 0.03, 1, 0.05, 0.0) == 0.0
    assert most_weight(0.02, 0.03, -1, 0.01) == most_weight(0.02, 0.03, 1, 0.01, 1.0)
    assert var_limit(0.02, 0.03) == 0.02
    assert var_limit(0.02, 0.02) == pytest.approx(0.02 * VAR_SIGMAS / CVAR_SIGMAS)
