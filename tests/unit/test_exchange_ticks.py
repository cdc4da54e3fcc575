"""The matching core under quotes: what fills, when, at which price, and whether the books agree."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.simulator import bench
from tests.unit.simulator.bench import BUY, COIN, OTHER, SELL, START_NS, Orders
from tidegate.domain.account import Transfer
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import with_amounts
from tidegate.domain.market import FundingRate
from tidegate.domain.messages import ExecutionReport
from tidegate.domain.orders import (
    CancelOrder,
    FillCause,
    OrderAccepted,
    OrderAmended,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderTriggered,
    OrderType,
    Side,
    TimeInForce,
)
from tidegate.simulator.tickets import Change, Ticket
from tidegate.simulator.ticks import TickExchange, Touch

D = Decimal
STEPS_OF_MARGIN = with_amounts([(0.0, 1e9, 0.025)])


def contract(name: InstrumentId = COIN, **changes: Any) -> Instrument:
    """The contract of the bench, at up to 20x."""
    return bench.contract(name, **{"brackets": STEPS_OF_MARGIN, **changes})


class Floor:
    """A core under quotes, and all that it has reported."""

    def __init__(self, *instruments: Any, deposit: int = 10_000, **options: Any) -> None:
        self.heard: list[ExecutionReport] = []
        listed = instruments or (contract(),)
        self.core = TickExchange(listed, D(deposit), self.heard.append, **options)
        self.orders = Orders()
        for each in listed:
            self.quote(100, instrument=each.id)

    def quote(
        self,
        bid: Any,
        ask: Any = None,
        *,
        last: Any = None,
        mark: Any = None,
        qty: Any = None,
        instrument: InstrumentId = COIN,
    ) -> list[ExecutionReport]:
        low = D(str(bid))
        high = low + D("0.1") if ask is None else D(str(ask))
        size = None if qty is None else D(str(qty))
        value = D(str(last if last is not None else bid))
        touch = Touch(low, high, value, D(str(mark)) if mark is not None else value, size, size)
        return self.core.touch(instrument, touch, START_NS)

    def send(self, side: Side, qty: Any, **details: Any) -> list[ExecutionReport]:
        return self.core.submit(self.orders.make(side, qty, **details), START_NS)

    def held(self, instrument: InstrumentId = COIN) -> Decimal:
        return self.core.ledger.position(instrument).qty

    @property
    def resting(self) -> list[str]:
        return [order.id for order in self.core.snapshot(START_NS).open_orders]


def kinds(reports: list[ExecutionReport]) -> list[str]:
    return [type(report).__name__.removeprefix("Order") for report in reports]


def fills(reports: list[ExecutionReport]) -> list[tuple[Side, Decimal, Decimal, bool]]:
    return [(each.side, each.qty, each.price, each.maker) for each in reports if isinstance(each, OrderFilled)]


def code(reports: list[ExecutionReport]) -> str:
    (report,) = reports
    assert isinstance(report, OrderRejected)
    return report.code


# ---- what fills ------------------------------------------------------------------------------------------------------


def test_a_market_order_fills_at_once_on_the_other_side() -> None:
    floor = Floor()
    reports = floor.send(BUY, 2)
    assert kinds(reports) == ["Accepted", "Filled"]
    assert fills(reports) == [(BUY, D(2), D("100.1"), False)]
    assert fills(floor.send(SELL, 1)) == [(SELL, D(1), D(100), False)]
    assert floor.heard == reports + floor.heard[2:]
    assert floor.held() == 1


def test_a_limit_that_crosses_takes_at_the_touch_and_one_that_rests_makes_at_its_limit() -> None:
    floor = Floor()
    assert fills(floor.send(BUY, 1, limit="105")) == [(BUY, D(1), D("100.1"), False)]
    assert kinds(floor.send(BUY, 1, limit="99")) == ["Accepted"]
    assert floor.quote("98.95", "99.1") == []
    assert fills(floor.quote("98.5", "98.9")) == [(BUY, D(1), D(99), True)]
    assert floor.send(SELL, 2, limit="102")[1:] == []
    assert fills(floor.quote("102.0")) == [(SELL, D(2), D(102), True)]
    assert floor.held() == 0


@pytest.mark.parametrize(
    ("tif", "limit", "answer"),
    [
        (TimeInForce.IOC, "99", ["Accepted", "Expired"]),
        (TimeInForce.IOC, "101", ["Accepted", "Filled"]),
        (TimeInForce.FOK, "99", ["Rejected"]),
        (TimeInForce.FOK, "101", ["Accepted", "Filled"]),
        (TimeInForce.GTX, "99", ["Accepted"]),
        (TimeInForce.GTX, "100.1", ["Rejected"]),
        (TimeInForce.GTC, "100.1", ["Accepted", "Filled"]),
    ],
)
def test_each_time_in_force_keeps_its_word(tif: TimeInForce, limit: str, answer: list[str]) -> None:
    assert kinds(Floor().send(BUY, 1, limit=limit, tif=tif)) == answer


def test_visible_quantities_bound_the_fills_of_one_touch() -> None:
    floor = Floor(visible_only=True)
    floor.quote(100, qty=3)
    assert fills(floor.send(BUY, 2)) == [(BUY, D(2), D("100.1"), False)]
    assert fills(floor.send(BUY, 2)) == [(BUY, D(1), D("100.1"), False)]
    assert fills(floor.quote("100.5", qty=3)) == [(BUY, D(1), D("100.6"), False)]
    assert code(floor.send(BUY, 3, limit="110", tif=TimeInForce.FOK)) == "FOK"
    assert kinds(floor.send(BUY, 3, limit="110", tif=TimeInForce.IOC)) == ["Accepted", "Filled", "Expired"]
    assert floor.resting == []


def test_an_order_can_be_made_to_fill_in_slices() -> None:
    floor = Floor()
    floor.core.most_per_touch = D(1)
    assert fills(floor.send(BUY, 3, limit="101")) == [(BUY, D(1), D("100.1"), False)]
    assert fills(floor.quote("100")) == [(BUY, D(1), D(101), True)]
    assert fills(floor.quote("100")) == [(BUY, D(1), D(101), True)]
    assert floor.held() == 3
    assert floor.resting == []


# ---- conditional orders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_mark", [False, True])
def test_stops_watch_the_price_they_are_told_to(on_mark: bool) -> None:
    floor = Floor(triggers_on_mark=on_mark)
    floor.send(BUY, 1)
    floor.send(SELL, 1, stop="95", reduce=True)
    assert kinds(floor.quote("96", last="95", mark="96")) == ([] if on_mark else ["Triggered", "Filled"])
    assert kinds(floor.quote("94", last="96", mark="95")) == (["Triggered", "Filled"] if on_mark else [])


def test_a_take_profit_triggers_on_the_other_side_and_pays_the_touch() -> None:
    floor = Floor()
    floor.send(SELL, 1)
    floor.send(BUY, 1, profit="95", reduce=True)
    assert floor.quote("95.1") == []
    assert fills(floor.quote("94.9", "95.3")) == [(BUY, D(1), D("95.3"), False)]


def test_a_triggered_stop_finds_the_limits_of_market_orders() -> None:
    floor = Floor(contract(market_max_qty=D(5)), deposit=1_000_000)
    assert code(floor.send(SELL, 6, stop="95")) == "LOT_SIZE"
    assert kinds(floor.send(SELL, 6, limit="105")) == ["Accepted"]


def test_a_reducing_stop_is_cut_to_what_is_left_and_without_a_position_it_ends() -> None:
    floor = Floor()
    floor.send(BUY, 2)
    floor.send(SELL, 2, stop="95", reduce=True)
    floor.send(SELL, 1)
    reports = floor.quote("94")
    assert kinds(reports) == ["Triggered", "Filled", "Expired"]
    assert floor.held() == 0
    floor.send(SELL, 1, stop="90", reduce=True)
    assert kinds(floor.quote("89")) == ["Triggered", "Expired"]
    assert floor.held() == 0


def test_resting_reductions_end_when_nothing_is_left_to_reduce_the_farthest_first() -> None:
    floor = Floor()
    floor.send(BUY, 3)
    near, far, wide = (floor.send(SELL, qty, limit=at, reduce=True)[0] for qty, at in ((1, 101), (1, 103), (2, 102)))
    assert len(floor.resting) == 3
    reports = floor.send(SELL, 2)
    assert kinds(reports) == ["Accepted", "Filled", "Expired", "Expired"]
    assert isinstance(near, OrderAccepted)
    assert floor.resting == [near.id]
    reports = floor.send(SELL, 1)
    assert [each.reason for each in reports if isinstance(each, OrderExpired)] == ["REDUCE_ONLY"]
    assert floor.resting == []
    assert far.ts_ns == wide.ts_ns


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_what_is_not_listed_is_refused_by_name() -> None:
    assert code(Floor().send(BUY, 1, instrument=InstrumentId("NOPEUSDT"))) == "SYMBOL"


def test_margin_is_that_of_the_contracts_own_leverage() -> None:
    floor = Floor(contract(), contract(OTHER), deposit=1000)
    assert code(floor.send(BUY, 200)) == "MARGIN"
    floor.core.terms(OTHER).leverage = 1
    assert kinds(floor.send(BUY, 9, instrument=OTHER)) == ["Accepted", "Filled"]
    assert code(floor.send(BUY, 1, instrument=OTHER)) == "MARGIN"
    assert kinds(floor.send(BUY, 15)) == ["Accepted", "Filled"]


def test_the_bracket_of_the_leverage_bounds_the_position() -> None:
    steps = with_amounts([(0.0, 1000.0, 0.01), (1000.0, 100_000.0, 0.05)])
    floor = Floor(contract(brackets=steps))
    assert code(floor.send(BUY, 11)) == "MAX_POSITION"
    floor.core.terms(COIN).leverage = 10
    assert kinds(floor.send(BUY, 11)) == ["Accepted", "Filled"]


def test_a_published_cost_example(shared: Any) -> None:
    case = msgspec.json.decode((shared / "oracles/binance/order_cost_example.json").read_bytes())
    for side, loss in ((BUY, D(case["open_loss_long"])), (SELL, D(case["open_loss_short"]))):
        cost = D(case["order_price"]) / case["leverage"] + loss
        for cents, answer in ((1, ["Accepted"]), (-1, ["Rejected"])):
            floor = Floor(contract(tick=D("0.01"), brackets=with_amounts([(0.0, 1e9, 0.004)])))
            mark = case["mark_price"]
            floor.quote("9252.0", "9254.0", last="9230.0", mark=mark)
            if side is SELL:
                cost = D(mark) / case["leverage"] + loss  # a short is charged for the mark price if that is higher
            floor.core.deposit(cost + D(cents) / 100 - 10_000, START_NS)
            reports = floor.send(side, 1, limit=case["order_price"])
            assert kinds(reports)[:1] == answer, (side, cents)


# ---- changes ---------------------------------------------------------------------------------------------------------


def test_a_change_is_checked_by_the_filters_and_may_take() -> None:
    floor = Floor()
    (accepted,) = floor.send(BUY, 1, limit="99")
    assert isinstance(accepted, OrderAccepted)
    for qty, price, expected in (
        ("0.0001", "99", "LOT_SIZE"),
        ("1", "99.05", "PRICE_FILTER"),
        ("1", "5000", "PERCENT_PRICE"),
    ):
        change = Change(accepted.id, COIN, D(qty), D(price))
        refused = floor.core.change_refusal(change)
        assert refused is not None
        assert refused[0] == expected
        assert floor.core.amend(change, START_NS) == []
    assert floor.core.change_refusal(Change(accepted.id, COIN, D(100_000), D(99))) is not None
    reports = floor.core.amend(Change(accepted.id, COIN, D(2), D(101)), START_NS)
    assert kinds(reports) == ["Amended", "Filled"]
    assert isinstance(reports[0], OrderAmended)
    assert fills(reports) == [(BUY, D(2), D("100.1"), False)]


def test_a_post_only_order_is_not_changed_into_a_taker() -> None:
    floor = Floor()
    (accepted,) = floor.send(BUY, 1, limit="99", tif=TimeInForce.GTX)
    assert isinstance(accepted, OrderAccepted)
    refused = floor.core.change_refusal(Change(accepted.id, COIN, D(1), D("100.1")))
    assert refused is not None
    assert refused[0] == "GTX"


# ---- money -----------------------------------------------------------------------------------------------------------


def test_a_cross_account_is_liquidated_when_its_maintenance_is_used_up() -> None:
    floor = Floor(deposit=100)
    floor.send(BUY, 10)
    floor.send(BUY, 1, limit="90")
    assert floor.quote("96") == []
    reports = floor.quote("94", mark="91.5")
    assert kinds(reports)[:2] == ["Expired", "Filled"]
    fill = next(each for each in reports if isinstance(each, OrderFilled))
    assert (fill.cause, fill.price, fill.side) == (FillCause.LIQUIDATION, D("91.5"), SELL)
    assert floor.held() == 0
    assert floor.core.wallet == floor.core.ledger.wallet >= 0


def test_an_isolated_position_loses_its_own_wallet_and_no_more() -> None:
    floor = Floor(contract(), contract(OTHER))
    floor.core.terms(COIN).isolated = True
    floor.send(BUY, 100)
    floor.send(BUY, 1, instrument=OTHER)
    wallet = floor.core.terms(COIN).wallet
    assert wallet == D("100.1") * 100 / 20
    assert floor.core.cross_wallet == floor.core.wallet - wallet
    before = floor.core.cross_wallet
    reports = floor.quote("60")
    assert [each.cause for each in reports if isinstance(each, OrderFilled)] == [FillCause.LIQUIDATION]
    assert isinstance(reports[-1], Transfer)
    assert floor.core.wallet == before
    assert floor.held(OTHER) == 1


def test_what_isolated_positions_hold_does_not_save_the_cross_ones() -> None:
    floor = Floor(contract(), contract(OTHER), deposit=1000)
    floor.core.terms(COIN).isolated = True
    floor.send(BUY, 160)
    floor.send(BUY, 30, instrument=OTHER)
    assert floor.quote("97", instrument=OTHER) == []
    reports = floor.quote("95", instrument=OTHER)
    assert [each.instrument for each in reports if isinstance(each, OrderFilled)] == [OTHER]
    assert (floor.held(), floor.held(OTHER)) == (160, 0)


def test_an_isolated_wallet_follows_its_position() -> None:
    floor = Floor()
    floor.core.terms(COIN).isolated = True
    floor.send(BUY, 4)
    full = floor.core.terms(COIN).wallet
    floor.send(SELL, 1)
    assert floor.core.terms(COIN).wallet == full * 3 / 4
    floor.core.fund(FundingRate(COIN, START_NS, START_NS, 0.001))
    assert floor.core.terms(COIN).wallet == full * 3 / 4 - D("0.3")
    floor.send(SELL, 5)
    assert floor.held() == -2
    assert floor.core.terms(COIN).wallet == D(2) * 100 / 20
    floor.send(BUY, 2)
    assert floor.core.terms(COIN).wallet == 0
    assert floor.core.cross_wallet == floor.core.wallet


def test_fees_can_be_paid_in_another_asset() -> None:
    floor = Floor(fee_payer=lambda fee: ("BNB", fee / 600) if fee < 1 else None)
    small, large = floor.send(BUY, 1)[1], floor.send(BUY, 100)[1]
    assert isinstance(small, OrderFilled)
    assert isinstance(large, OrderFilled)
    assert (small.fee_asset, small.fee) == ("BNB", D("0.05005") / 600)
    assert (large.fee_asset, large.fee) == ("USDT", D("5.005"))
    assert floor.core.wallet == 10_000 - large.fee


def test_the_venue_takes_over_a_part_or_all_on_demand() -> None:
    floor = Floor()
    floor.send(BUY, 10)
    (fill,) = floor.core.take_over(COIN, FillCause.DELEVERAGING, START_NS, qty=D(4), price=D(101))
    assert isinstance(fill, OrderFilled)
    assert (fill.cause, fill.qty, fill.price) == (FillCause.DELEVERAGING, 4, 101)
    floor.send(BUY, 1, limit="50")
    assert kinds(floor.core.take_over(COIN, FillCause.LIQUIDATION, START_NS)) == ["Expired", "Filled"]
    assert floor.held() == 0
    assert floor.core.take_over(COIN, FillCause.LIQUIDATION, START_NS) == []


def test_settlement_ends_orders_and_position_and_the_contract() -> None:
    floor = Floor()
    floor.send(BUY, 1)
    floor.send(SELL, 1, limit="110")
    assert kinds(floor.core.settle(COIN, START_NS)) == ["Expired", "Filled"]
    assert code(floor.send(BUY, 1)) == "STATUS"
    floor.core.reopen(COIN, closed=False)
    assert kinds(floor.send(BUY, 1)) == ["Accepted", "Filled"]


def test_new_filters_hold_for_the_next_order() -> None:
    floor = Floor()
    floor.core.relist(contract(step=D(1), min_qty=D(1)))
    assert code(floor.send(BUY, "0.5")) == "LOT_SIZE"


# ---- laws ------------------------------------------------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.just("quote"), st.integers(700, 1300)),
    st.tuples(st.just("market"), st.integers(-40, 40)),
    st.tuples(st.just("limit"), st.integers(-40, 40), st.integers(-60, 60)),
    st.tuples(st.just("reduce"), st.integers(-40, 40), st.integers(-60, 60)),
    st.tuples(st.just("stop"), st.integers(-40, 40), st.integers(-60, 60)),
    st.tuples(st.just("cancel"), st.integers(0, 10)),
    st.tuples(st.just("fund"), st.integers(-5, 5)),
)


def _step(floor: Floor, step: tuple[Any, ...], bid: Decimal) -> None:
    match step:
        case ("market", qty) if qty:
            floor.send(BUY if qty > 0 else SELL, D(abs(qty)) / 10)
        case ("limit" | "reduce" as kind, qty, away) if qty:
            limit = bid + D(away) / 10
            floor.send(BUY if qty > 0 else SELL, D(abs(qty)) / 10, limit=limit, reduce=kind == "reduce")
        case ("stop", qty, away) if qty:
            floor.send(BUY if qty > 0 else SELL, D(abs(qty)) / 10, stop=bid + D(away) / 10, reduce=True)
        case ("cancel", number):
            floor.core.cancel(CancelOrder(ClientOrderId(f"o{number}"), COIN), START_NS)
        case ("fund", rate):
            floor.core.fund(FundingRate(COIN, START_NS, START_NS, rate / 1000))


@given(st.lists(STEPS, max_size=40), st.booleans())
@settings(max_examples=150, deadline=None)
def test_books_agree_and_reductions_never_open(steps: list[tuple[Any, ...]], isolated: bool) -> None:
    floor = Floor(deposit=500)
    floor.core.terms(COIN).isolated = isolated
    bid, reduce_ids, position = D(100), set[str](), D(0)
    for step in steps:
        if step[0] == "quote":
            bid = D(step[1]) / 10
            floor.quote(bid)
        else:
            _step(floor, step, bid)
        if step[0] in ("reduce", "stop") and step[1]:
            reduce_ids.add(f"o{floor.orders._count}")
        for report in floor.heard:
            if isinstance(report, OrderFilled):
                signed = report.qty * report.side.sign
                if report.id in reduce_ids:
                    assert position * signed < 0
                    assert abs(signed) <= abs(position)
                position += signed
        floor.heard.clear()
        assert position == floor.held()
        assert floor.core.wallet == floor.core.ledger.wallet
        assert floor.core.wallet >= 0 or position
        assert floor.core.wallet == floor.core.wallet.quantize(D("1E-8"))
        terms = floor.core.terms(COIN)
        assert (terms.wallet != 0) <= (isolated and position != 0)


def test_a_strangers_ticket_is_as_good_as_an_approved_order() -> None:
    floor = Floor()
    ticket = Ticket(ClientOrderId("t1"), COIN, BUY, D(1), OrderType.MARKET)
    assert kinds(floor.core.submit(ticket, START_NS)) == ["Accepted", "Filled"]
    stop = Ticket(ClientOrderId("t2"), COIN, SELL, D(1), OrderType.STOP_MARKET, trigger=D(90), reduce_only=True)
    floor.core.submit(stop, START_NS)
    assert isinstance(floor.quote("90")[0], OrderTriggered)
