"""The router: what is aimed at, less what is held, less what is under way."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kernel.worlds import BTC, contract
from tidegate.domain.ids import ClientOrderId
from tidegate.domain.market import Bar
from tidegate.domain.orders import OrderAccepted, OrderCanceled, OrderIntent, OrderTriggered, OrderType, Purpose, Side
from tidegate.execution.algos.immediate import Immediate
from tidegate.execution.blotter import KEPT_CLOSED, Blotter
from tidegate.execution.router import Route, SmartOrderRouter
from tidegate.risk.gate import RiskGate
from tidegate.risk.view import RiskView

VIEW = RiskView(contract(), 0, 100.0, 1e9, Decimal(0), 0.0, 0.0, 0, False)


class Desk:
    """A router with its blotter, and a gate without rules to fill it."""

    def __init__(self) -> None:
        self.blotter = Blotter()
        self.router = SmartOrderRouter(Immediate(), self.blotter)
        self.gate = RiskGate((), "demo", 0)

    def enter(self, qty: str, purpose: Purpose = Purpose.TARGET, *, triggered: bool = False) -> ClientOrderId:
        signed = Decimal(qty)
        side = Side.BUY if signed > 0 else Side.SELL
        order = self.gate.approve(OrderIntent(BTC, side, abs(signed), OrderType.MARKET, purpose), VIEW)
        name = self.blotter.enter(order).approved.id  # type: ignore[arg-type]
        if triggered:
            self.blotter.apply(OrderTriggered(name, BTC, 1, 1))
        return name

    def route(self, target: str, held: str, market_max_qty: str = "1000") -> Route:
        listed = contract(market_max_qty=market_max_qty)
        return self.router.route(listed, Decimal(target), Decimal(held), 100.0, 0)


@pytest.mark.parametrize(
    ("target", "held", "working", "orders"),
    [
        ("1", "0", [], [(Side.BUY, "1", False)]),
        ("0", "1", [], [(Side.SELL, "1", True)]),
        ("0.4", "1", [], [(Side.SELL, "0.6", True)]),
        ("-1", "1", [], [(Side.SELL, "2", False)]),
        ("1", "-0.5", [], [(Side.BUY, "1.5", False)]),
        ("-1", "-0.5", [], [(Side.SELL, "0.5", False)]),
        ("1", "1", [], []),
        ("1", "0.4", ["0.6"], []),
        ("2", "0.4", ["0.6"], [(Side.BUY, "1.0", False)]),
        ("0", "2", ["-1"], [(Side.SELL, "1", True)]),
        ("-1", "2", ["-1"], [(Side.SELL, "2", False)]),
    ],
)
def test_what_is_missing(target: str, held: str, working: list[str], orders: list[tuple[Side, str, bool]]) -> None:
    desk = Desk()
    for qty in working:
        desk.enter(qty)
    route = desk.route(target, held)
    assert route.cancels == ()
    assert [(i.side, i.qty, i.reduce_only) for i in route.intents] == [(s, Decimal(q), r) for s, q, r in orders]


def test_what_goes_the_wrong_way_is_cancelled_and_nothing_sent() -> None:
    desk = Desk()
    first, second = desk.enter("1"), desk.enter("0.5")
    desk.enter("-1", Purpose.PROTECTION)
    route = desk.route("0.5", "0")
    assert [cancel.id for cancel in route.cancels] == [first, second]
    assert route.intents == ()


def test_an_exit_under_way_is_never_called_back() -> None:
    desk = Desk()
    desk.enter("-1")
    desk.enter("-1", Purpose.FLATTEN)
    for target in ("-1", "0", "0.5", "2"):
        assert desk.route(target, "1") == Route()


def test_a_triggered_stop_is_under_way() -> None:
    desk = Desk()
    desk.enter("-1", Purpose.PROTECTION)
    assert [intent.qty for intent in desk.route("0", "1").intents] == [Decimal(1)]
    desk = Desk()
    desk.enter("-1", Purpose.PROTECTION, triggered=True)
    assert desk.route("0", "1") == Route()
    assert desk.route("1", "1") == Route()  # nothing of it can be called back


def test_pieces_and_their_parent() -> None:
    desk = Desk()
    intents = desk.route("-3.5", "4", "3").intents
    assert [intent.qty for intent in intents] == [3, 3, Decimal("1.5")]
    assert {intent.parent for intent in intents} == {"t1"}
    desk.router.load(desk.router.dump() + 4)
    assert desk.route("1", "0").intents[0].parent == "t6"


quantities = st.integers(-4_000, 4_000).map(lambda n: Decimal(n) / 1000)


@settings(max_examples=300, deadline=None)
@given(quantities, quantities, st.lists(quantities.filter(bool), max_size=3), st.sampled_from(["0.5", "1000"]))
def test_it_adds_up(target: Decimal, held: Decimal, working: list[Decimal], largest: str) -> None:
    desk = Desk()
    for qty in working:
        desk.enter(str(qty))
    route = desk.router.route(contract(market_max_qty=largest), target, held, 100.0, 0)
    sent = sum((i.side.sign * i.qty for i in route.intents), Decimal(0))
    assert not (route.cancels and route.intents)
    if not route.cancels:
        assert held + sum(working) + sent == target
    for intent in route.intents:
        assert 0 < intent.qty <= Decimal(largest)
        assert not intent.reduce_only or (abs(target) <= abs(held) and target * held >= 0)


def test_the_blotter_forgets_the_oldest_and_loads_what_it_dumped() -> None:
    desk = Desk()
    kept = desk.enter("1")
    names = [desk.enter("1") for _ in range(KEPT_CLOSED + 3)]
    for name in reversed(names):
        desk.blotter.apply(OrderCanceled(name, BTC, 1, 1))
    assert desk.blotter.find(names[-1]) is None
    assert desk.blotter.find(names[0]) is not None
    assert [order.approved.id for order in desk.blotter] == [kept]
    again = Blotter()
    again.load(desk.blotter.dump())  # type: ignore[arg-type]
    assert again.dump() == desk.blotter.dump()
    assert again.has_working(BTC)
    assert not again.has_working(Bar.__name__)  # type: ignore[arg-type]
    last = desk.enter("1")
    order = desk.blotter.find(last)
    assert order is not None
    for blotter in (desk.blotter, again):
        blotter.find(last) or blotter.enter(order.approved)
        blotter.apply(OrderCanceled(last, BTC, 1, 1))
    assert [o.approved.id for o in again.dump()] == [o.approved.id for o in desk.blotter.dump()]  # type: ignore[attr-defined]
    assert desk.blotter.apply(OrderAccepted(ClientOrderId("web"), BTC, 1, 1, 1)) is None
