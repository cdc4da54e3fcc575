"""The law of the gate: nothing is sent that it did not make, and whatever it makes keeps every limit."""

from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kernel.worlds import BUSY, contract, invented, run, spec
from tidegate.domain.errors import InvariantBroken
from tidegate.domain.margin import liquidation_price
from tidegate.domain.market import MINUTE_NS
from tidegate.domain.orders import AmendOrder, ApprovedOrder, OrderIntent, OrderType, PositionSide, Purpose, Side
from tidegate.domain.signals import Reason, Refusal, TargetPosition
from tidegate.risk import gate as gate_module
from tidegate.risk.gate import RiskGate, standard_rules
from tidegate.risk.view import PASS, OrderRule, Pass, Refuse, Resize, RiskLimits, RiskView, Verdict
from tidegate.simulator.frictions import Frictions
from tidegate.strategies.trend_following import TrendFollowing

LIMITS = RiskLimits(
    max_position_pct=0.5, max_leverage=2.0, min_liquidation_distance=0.2, max_orders_per_minute=10, allow_short=False
)
OPEN_LIMITS = RiskLimits(max_position_pct=0.5, max_leverage=2.0, min_liquidation_distance=0.2)


@st.composite
def views(draw: st.DrawFn) -> RiskView:
    held = Decimal(draw(st.integers(-5_000, 5_000))) / 1000
    return RiskView(
        instrument=contract(market_max_qty=draw(st.sampled_from(["1", "3", "1000"]))),
        now_ns=0,
        price=draw(st.sampled_from([0.0, 0.05, 1.0, 100.0, 20_000.0]) | st.floats(0.01, 1e5)),
        equity=draw(st.floats(-1_000.0, 1e6)),
        held_qty=held,
        other_notional=draw(st.sampled_from([0.0, 100.0, 1e5]) | st.floats(0.0, 1e6)),
        other_maintenance=draw(st.floats(0.0, 1e4)),
        recent_orders=draw(st.integers(0, 12)),
        reducing_only=draw(st.booleans()),
        held_or_ordered=draw(st.sampled_from([float(held), float(held) + 1.5, 0.0])),
        no_new_risk=draw(st.sampled_from([False, False, True])),
        daily_volatility=draw(st.sampled_from([0.0, 0.0, 0.03, 0.5])),
        book_var_frac=draw(st.sampled_from([0.0, 0.01, 0.05])),
        book_correlation=draw(st.none() | st.floats(-1.0, 1.0)),
    )


quantities = st.integers(1, 6_000).map(lambda n: Decimal(n) / 1000)
odd_quantities = st.sampled_from([Decimal("0.0005"), Decimal("1.00005"), Decimal(0), Decimal(20_000)])
prices = st.none() | st.decimals(1, 50_000, places=1) | st.just(Decimal("100.05"))


@st.composite
def intents(draw: st.DrawFn) -> OrderIntent:
    return OrderIntent(
        contract().id,
        draw(st.sampled_from(Side)),
        draw(quantities | odd_quantities),
        draw(st.sampled_from(OrderType)),
        draw(st.sampled_from(Purpose)),
        limit=draw(prices),
        trigger=draw(prices),
        reduce_only=draw(st.booleans()),
    )


def gate(limits: RiskLimits = LIMITS) -> RiskGate:
    return RiskGate(standard_rules(limits), "demo", 7)


def check_order(order: ApprovedOrder, view: RiskView, limits: RiskLimits) -> None:
    """Every limit, worked out anew and in other words than the rules use."""
    instrument = view.instrument
    assert instrument.min_qty <= order.qty
    assert order.qty <= (instrument.market_max_qty if order.order_type is OrderType.MARKET else instrument.max_qty)
    assert (order.qty / instrument.step) % 1 == 0
    assert all(price is None or (price / instrument.tick) % 1 == 0 for price in (order.limit, order.trigger))
    assert view.price > 0.0
    if order.limit is not None and order.side is Side.BUY:
        assert float(order.limit) <= view.price * (1.0 + limits.price_collar_frac) * (1.0 + 1e-9)
    if order.limit is not None and order.side is Side.SELL:
        assert float(order.limit) >= view.price * (1.0 - limits.price_collar_frac) * (1.0 - 1e-9)
    if order.reduce_only:
        return
    assert view.recent_orders < limits.max_orders_per_minute
    assert float(order.qty) * float(order.limit or view.price) >= float(instrument.min_notional)
    after = view.held_or_ordered + order.side.sign * float(order.qty)
    within = abs(after) <= abs(view.held_or_ordered) * (1 + 1e-9) and after * view.held_or_ordered >= -1e-9
    if not within:
        assert not view.reducing_only
        assert not view.no_new_risk
        check_var(after, view, limits)
        assert abs(after) * view.price <= limits.max_position_pct * view.equity * (1 + 1e-6)
        assert abs(after) * view.price + view.other_notional <= limits.max_leverage * view.equity * (1 + 1e-6)
        assert limits.allow_short or after >= 0.0
        check_distance(after, view, limits)


def check_distance(qty: float, view: RiskView, limits: RiskLimits) -> None:
    """Opened at the last price, the position is liquidated no nearer than the limit."""
    if qty == 0.0:
        return
    side = 1 if qty > 0.0 else -1
    price = liquidation_price(
        view.instrument.brackets,
        wallet=view.equity,
        side=side,
        qty=abs(qty),
        entry=view.price,
        other_maintenance=view.other_maintenance,
    )
    if price is not None:
        assert (view.price - price) * side / view.price >= limits.min_liquidation_distance * (1 - 1e-6)


def check_var(qty: float, view: RiskView, limits: RiskLimits) -> None:
    """The variance of the book with the position, as a sum, and both limits on its square root; or it is a hedge."""
    if view.daily_volatility == 0.0:
        return
    own = 1.644854 * view.daily_volatility * abs(qty) * view.price / view.equity
    rho = 1.0 if view.book_correlation is None else view.book_correlation * (1 if qty > 0 else -1)
    book = (own**2 + 2 * rho * own * view.book_var_frac + view.book_var_frac**2) ** 0.5
    if book > view.book_var_frac * (1 + 1e-9):
        assert book <= limits.var_daily_pct * (1 + 1e-5)
        assert book * 2.062713 / 1.644854 <= limits.cvar_daily_pct * (1 + 1e-5)


@settings(max_examples=400, deadline=None)
@given(intent=intents(), view=views(), limits=st.sampled_from([LIMITS, OPEN_LIMITS]))
def test_every_approved_order_keeps_every_limit(intent: OrderIntent, view: RiskView, limits: RiskLimits) -> None:
    answer = gate(limits).approve(intent, view)
    if isinstance(answer, ApprovedOrder):
        check_order(answer, view, limits)
        assert (answer.instrument, answer.side, answer.qty) == (intent.instrument, intent.side, intent.qty)
        assert (answer.reduce_only, answer.limit, answer.trigger) == (intent.reduce_only, intent.limit, intent.trigger)
    else:
        assert isinstance(answer, Refusal)
        assert answer.detail


VAR_LIMITS = RiskLimits(max_position_pct=50.0, max_leverage=100.0, min_liquidation_distance=0.001)


@settings(max_examples=300, deadline=None)
@given(
    part=st.floats(0.1, 2.0),
    side=st.sampled_from(Side),
    volatility=st.floats(0.01, 0.2),
    book=st.sampled_from([0.0, 0.005, 0.015, 0.025]),
    rho=st.none() | st.floats(-1.0, 1.0),
)
def test_no_order_takes_the_book_past_its_value_at_risk(
    part: float, side: Side, volatility: float, book: float, rho: float | None
) -> None:
    equity, price = 1e5, 100.0
    view = RiskView(contract(), 0, price, equity, Decimal(0), 0.0, 0.0, 0, False, 0.0, False, "", volatility, book, rho)
    qty = view.instrument.qty(part * 0.02 * equity / (1.645 * volatility * price))
    intent = OrderIntent(contract().id, side, qty, OrderType.MARKET, Purpose.TARGET)
    answer = gate(VAR_LIMITS).approve(intent, view)
    if isinstance(answer, ApprovedOrder):
        check_var(side.sign * float(qty), view, VAR_LIMITS)
    target, _ = gate(VAR_LIMITS).review(TargetPosition(contract().id, side.sign * qty), view)
    if target.qty:
        check_var(float(target.qty), view, VAR_LIMITS)


@settings(max_examples=300, deadline=None)
@given(qty=st.integers(-50_000, 50_000), view=views(), limits=st.sampled_from([LIMITS, OPEN_LIMITS]))
def test_no_rule_enlarges_or_flips_a_target(qty: int, view: RiskView, limits: RiskLimits) -> None:
    wanted = TargetPosition(view.instrument.id, Decimal(qty) / 1000)
    target, refusal = gate(limits).review(wanted, view)
    if refusal is not None and refusal.reason is Reason.NO_PRICE:
        assert target.qty == view.held_qty
        return
    assert abs(target.qty) <= abs(wanted.qty)
    assert target.qty * wanted.qty >= 0
    assert target.qty % view.instrument.step == 0
    assert (target == wanted) or refusal is not None
    held = view.held_qty
    if view.reducing_only or view.no_new_risk:
        assert abs(target.qty) <= abs(held)
        assert target.qty * held >= 0
    value = abs(float(target.qty)) * view.price
    room = float(view.instrument.step) * view.price * 1e-6
    assert value <= max(0.0, limits.max_position_pct * view.equity) * (1 + 1e-6) + room
    assert value <= max(0.0, limits.max_leverage * view.equity - view.other_notional) * (1 + 1e-6) + room
    assert limits.allow_short or target.qty >= 0


def test_nothing_is_sent_that_the_gate_did_not_make(monkeypatch: pytest.MonkeyPatch) -> None:
    made: set[int] = set()
    kept: list[ApprovedOrder] = []
    build = gate_module.ApprovedOrder

    def spy(*fields: object) -> ApprovedOrder:
        kept.append(build(*fields))  # type: ignore[arg-type]
        made.add(id(kept[-1]))
        return kept[-1]

    monkeypatch.setattr(gate_module, "ApprovedOrder", spy)
    source, listed = invented(4, 250)
    quick = TrendFollowing(fast_bars=3, slow_bars=8, atr_bars=4, stop_atrs=1.0)
    done = run(source, listed, [spec(quick, *listed)], BUSY, Frictions(volume_share=0.0001))
    sent = [command for command in done.commands if isinstance(command, ApprovedOrder | AmendOrder)]
    assert len(sent) > 100
    assert all(id(order) in made for order in sent)
    assert [id(order) for order in sent] == [id(order) for order in kept]
    assert len({order.id for order in kept}) == len(kept)


def test_orders_are_named_and_expire() -> None:
    house = gate(OPEN_LIMITS)
    intent = OrderIntent(contract().id, Side.BUY, Decimal(1), OrderType.MARKET, Purpose.TARGET)
    view = RiskView(contract(), 1_000, 100.0, 1e6, Decimal(0), 0.0, 0.0, 0, False)
    names = [order.id for order in (house.approve(intent, view) for _ in range(40)) if isinstance(order, ApprovedOrder)]
    assert names[0] == "p1-de-7-1-0"
    assert names[39] == "p1-de-7-14-0"
    order = house.approve(intent, view)
    assert isinstance(order, ApprovedOrder)
    assert order.expires_ns == 1_000 + gate_module.ORDER_LIFE_NS
    assert order.position_side is PositionSide.BOTH


def test_orders_of_the_last_minute_are_counted() -> None:
    house = gate(OPEN_LIMITS)
    intent = OrderIntent(contract().id, Side.BUY, Decimal(1), OrderType.MARKET, Purpose.TARGET)
    for now_ns in (0, 10, 20):
        house.approve(intent, RiskView(contract(), now_ns, 100.0, 1e6, Decimal(0), 0.0, 0.0, 0, False))
    assert house.recent_orders(20) == 3
    assert house.recent_orders(MINUTE_NS - 1) == 3
    assert house.recent_orders(MINUTE_NS) == 2
    assert house.recent_orders(MINUTE_NS + 20) == 0


@dataclass(frozen=True)
class Bad(OrderRule):
    """A rule with a fault."""

    verdict: Verdict
    name: str = "bad"

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:
        return self.verdict

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        return Pass()


@pytest.mark.parametrize("qty", ["1.001", "-0.5", "-1"])
def test_a_rule_that_enlarges_or_flips_is_a_broken_invariant(qty: str) -> None:
    house = RiskGate((Bad(Resize(Decimal(qty), Reason.STATE, "")),), "demo", 0)
    view = RiskView(contract(), 0, 100.0, 1e6, Decimal(0), 0.0, 0.0, 0, False)
    with pytest.raises(InvariantBroken, match="bad"):
        house.review(TargetPosition(contract().id, Decimal(1)), view)


def test_a_refused_target_is_what_is_held() -> None:
    house = RiskGate((Bad(Refuse(Reason.STATE, "no")),), "demo", 0)
    view = RiskView(contract(), 0, 100.0, 1e6, Decimal("0.4"), 0.0, 0.0, 0, False)
    target, refusal = house.review(TargetPosition(contract().id, Decimal(1)), view)
    assert target.qty == Decimal("0.4")
    assert refusal == Refusal(contract().id, "bad", Reason.STATE, "no")
    assert Pass() == PASS


def test_an_amendment_is_reviewed_as_the_order_it_leaves() -> None:
    house = gate(OPEN_LIMITS)
    view = RiskView(contract(), 0, 100.0, 1_000.0, Decimal(0), 0.0, 0.0, 0, False)
    order = house.approve(
        OrderIntent(contract().id, Side.BUY, Decimal(1), OrderType.LIMIT, Purpose.TARGET, limit=Decimal(100)), view
    )
    assert isinstance(order, ApprovedOrder)
    grown = house.approve_amendment(order, Decimal(5), Decimal(100), None, view)
    assert grown == AmendOrder(order.id, order.instrument, Decimal(5), Decimal(100), None)
    for qty, limit in ((Decimal("5.1"), Decimal(100)), (Decimal(1), Decimal(106)), (Decimal("0.0005"), Decimal(100))):
        assert isinstance(house.approve_amendment(order, qty, limit, None, view), Refusal)
