"""The matching core: refusals, market orders, limits, what stays and what goes."""

from decimal import Decimal
from math import nextafter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.simulator.bench import BUY, COIN, OTHER, SELL, START_NS, Bench, contract, fills, hour_bar, names, only
from tidegate.domain.ids import ClientOrderId
from tidegate.domain.market import HOUR_NS
from tidegate.domain.orders import (
    AmendOrder,
    CancelOrder,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderType,
    QueryOrder,
    Side,
    TimeInForce,
)
from tidegate.simulator.exchange import exact
from tidegate.simulator.frictions import FixedSlippage, Frictions, Latency

FLAT = (100.0, 100.0, 100.0, 100.0)
SIDES = pytest.mark.parametrize("side", [BUY, SELL])
O1 = ClientOrderId("o1")


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "details"),
    [
        ("LOT_SIZE", {"qty": "0.0005"}),
        ("LOT_SIZE", {"qty": "1.0005"}),
        ("LOT_SIZE", {"qty": "0"}),
        ("LOT_SIZE", {"qty": "1001"}),
        ("LOT_SIZE", {"qty": "10001", "limit": "1"}),
        ("PRICE_FILTER", {"qty": "1", "limit": "99.95"}),
        ("PRICE_FILTER", {"qty": "1", "limit": "0"}),
        ("PRICE_FILTER", {"qty": "1", "limit": "1000000.1"}),
        ("PRICE_FILTER", {"qty": "1", "stop": "101.01"}),
        ("PRICE", {"qty": "1", "limit": "99", "order_type": OrderType.MARKET}),
        ("PRICE", {"qty": "1", "order_type": OrderType.LIMIT}),
        ("PRICE", {"qty": "1", "order_type": OrderType.STOP_MARKET}),
        ("PRICE", {"qty": "1", "stop": "101", "order_type": OrderType.MARKET}),
        ("WOULD_TRIGGER", {"qty": "1", "stop": "100"}),
        ("WOULD_TRIGGER", {"qty": "1", "stop": "99.9"}),
        ("WOULD_TRIGGER", {"qty": "1", "profit": "100.1"}),
        ("PERCENT_PRICE", {"qty": "1", "limit": "105.1"}),
        ("MIN_NOTIONAL", {"qty": "0.049"}),
        ("MIN_NOTIONAL", {"qty": "0.05", "limit": "99.9"}),
        ("REDUCE_ONLY", {"qty": "1", "reduce": True}),
        ("MARGIN", {"qty": "200.001"}),
    ],
)
def test_a_bad_order_is_refused_with_its_code(code: str, details: dict[str, Any]) -> None:
    bench = Bench(contract(min_notional=Decimal(5), price_band_frac=0.05), deposit=1_000)
    bench.bar(FLAT)
    (report,) = bench.send(BUY, details.pop("qty"), **details)
    assert isinstance(report, OrderRejected)
    assert report.code == code
    assert report.reason
    assert not bench.exchange.snapshot(bench.now_ns).open_orders
    assert not only(bench.bar((100.0, 200.0, 1.0, 100.0)), OrderFilled)


@pytest.mark.parametrize(
    "details",
    [
        {"qty": "0.05"},
        {"qty": "10000", "limit": "0.2"},
        {"qty": "1", "limit": "105"},
        {"qty": "1", "stop": "100.1"},
        {"qty": "1", "profit": "99.9"},
        {"qty": "0.001", "stop": "100.1", "reduce": True},
        {"qty": "200"},
    ],
)
def test_an_order_just_inside_the_filters_is_taken(details: dict[str, Any]) -> None:
    bench = Bench(
        contract(min_notional=Decimal(5), price_band_frac=0.05),
        deposit=1_000,
        leverage=1_000 if "limit" in details else 20,
    )
    bench.bar(FLAT)
    assert names(bench.send(BUY, details.pop("qty"), **details)) == ["OrderAccepted"]


def test_a_sell_is_refused_below_the_band_and_a_buy_is_not() -> None:
    bench = Bench(contract(price_band_frac=0.05))
    bench.bar(FLAT)
    assert names(bench.send(SELL, 1, limit="94.9")) == ["OrderRejected"]
    assert names(bench.send(BUY, 1, limit="94.9")) == ["OrderAccepted"]


def test_an_id_is_unique_among_open_orders_and_free_again_afterwards() -> None:
    bench = Bench()
    bench.bar(FLAT)
    bench.send(BUY, 1, limit="90")
    (report,) = bench.send(BUY, 1, limit="91", id=O1)
    assert isinstance(report, OrderRejected)
    assert report.code == "DUPLICATE_ID"
    bench.exchange.cancel(CancelOrder(O1, COIN), bench.now_ns)
    assert names(bench.send(BUY, 1, limit="91", id=O1)) == ["OrderAccepted"]


def test_nothing_is_taken_after_the_end_of_a_contract() -> None:
    bench = Bench()
    bench.hold(BUY, 2)
    bench.send(SELL, 2, stop="90", reduce=True)
    bench.bar((100.0, 101.0, 95.0, 96.5))
    reports = list(bench.exchange.settle(COIN, bench.now_ns))
    assert names(reports) == ["OrderCanceled", "OrderFilled"]
    (fill,) = only(reports, OrderFilled)
    assert (fill.cause.value, fill.price, fill.qty, fill.side) == ("SETTLEMENT", Decimal("96.5"), 2, SELL)
    assert bench.qty() == 0
    (refused,) = bench.send(BUY, 1)
    assert isinstance(refused, OrderRejected)
    assert refused.code == "STATUS"


@SIDES
def test_margin_counts_every_order_that_may_still_fill(side: Side) -> None:
    bench = Bench(contract(), contract(OTHER), deposit=1_000, leverage=10)
    bench.bar(FLAT)
    bench.bar(FLAT, instrument=OTHER)
    assert names(bench.send(side, 60)) == ["OrderAccepted"]
    assert names(bench.send(side, 41)) == ["OrderRejected"]
    assert names(bench.send(side, 41, instrument=OTHER)) == ["OrderRejected"]
    assert names(bench.send(side, 40, instrument=OTHER, limit="100")) == ["OrderAccepted"]
    assert names(bench.send(side.opposite, 60)) == ["OrderAccepted"]


def test_reducing_and_flipping_to_the_same_size_needs_no_margin() -> None:
    bench = Bench(deposit=1_000, leverage=10)
    bench.hold(BUY, 95)
    assert names(bench.send(SELL, 190)) == ["OrderAccepted"]
    assert fills(bench.bar(FLAT)) == [(SELL, 190, 100)]


# ---- market orders ---------------------------------------------------------------------------------------------------


@SIDES
@given(opened=st.floats(1e-7, 1e6))
def test_a_market_order_fills_at_the_printed_open_to_the_last_digit(side: Side, opened: float) -> None:
    bench = Bench(contract(tick=Decimal("1E-9"), min_price=Decimal("1E-9")), deposit=10**12)
    bench.send(side, 1)
    (fill,) = only(bench.open((opened, opened * 2, opened / 2, opened)), OrderFilled)
    assert fill.price == fill.reference == Decimal(repr(opened)) == exact(opened)
    assert fill.fee == fill.price * Decimal("0.0005")
    assert (fill.ts_ns, fill.maker, fill.qty) == (START_NS, False, 1)


@pytest.mark.parametrize(("side", "price"), [(BUY, "100.05"), (SELL, "99.95")])
def test_slippage_is_paid_by_both_sides(side: Side, price: str) -> None:
    bench = Bench(frictions=Frictions(FixedSlippage(5.0)))
    bench.send(side, 1)
    (fill,) = only(bench.bar(FLAT), OrderFilled)
    assert (fill.price, fill.reference) == (Decimal(price), 100)


def test_slippage_of_a_tiny_price_is_not_rounded_away() -> None:
    bench = Bench(contract(tick=Decimal("1E-8"), min_price=Decimal("1E-8")), frictions=Frictions(FixedSlippage(5.0)))
    tiny = (1e-6, 1e-6, 1e-6, 1e-6)
    for side, price in ((BUY, "0.0000010005"), (SELL, "0.0000009995")):
        bench.send(side, 1000)
        assert fills(bench.bar(tiny)) == [(side, 1000, Decimal(price))]


@pytest.mark.parametrize(
    ("side", "ohlc", "price"),
    [
        (BUY, (100.0, 104.0, 96.0, 100.0), "104"),  # the drift of 8 * sqrt(1/4) is 4
        (SELL, (100.0, 104.0, 96.0, 100.0), "96"),
        (BUY, (100.0, 101.0, 93.0, 100.0), "101"),  # no further than the range
        (SELL, (100.0, 108.0, 100.0, 100.0), "100"),
        (BUY, (100.0, 108.0, 100.0, 100.0), "104"),
    ],
)
def test_latency_moves_the_price_inside_the_range_and_never_the_bar(side: Side, ohlc: Any, price: str) -> None:
    bench = Bench(frictions=Frictions(latency=Latency(HOUR_NS // 4)))
    bench.send(side, 1)
    (fill,) = only(bench.open(ohlc), OrderFilled)
    assert (fill.price, fill.ts_ns, fill.reference) == (Decimal(price), START_NS, 100)


def test_the_spread_of_a_known_market_is_paid() -> None:
    bench = Bench()
    bench.send(BUY, 1)
    assert fills(list(bench.exchange.open(hour_bar(0, FLAT), 0.001))) == [(BUY, 1, Decimal("100.1"))]


def test_nothing_fills_without_a_bar_and_nothing_twice() -> None:
    bench = Bench()
    bench.bar(FLAT)
    bench.send(BUY, 1)
    assert bench.qty() == 0
    assert fills(bench.bar((101.0, 102.0, 99.0, 100.0))) == [(BUY, 1, 101)]
    assert fills(bench.bar(FLAT)) == []


# ---- volume ----------------------------------------------------------------------------------------------------------


def test_the_open_takes_a_share_of_the_volume_before_and_the_rest_fills_at_the_ends_of_bars() -> None:
    bench = Bench(frictions=Frictions(volume_share=0.1))
    bench.bar(FLAT, volume=20.0)
    bench.send(BUY, 10)
    first = (101.0, 109.0, 99.0, 105.0)
    assert fills(bench.open(first, volume=50.0)) == [(BUY, 2, 101)]
    assert fills(bench.range(first, volume=50.0)) == [(BUY, 5, 105)]
    second = (106.0, 109.0, 99.0, 107.0)
    assert fills(bench.open(second, volume=12.345)) == []
    assert fills(bench.range(second, volume=12.345)) == [(BUY, Decimal("1.234"), 107)]
    assert fills(bench.bar((107.0, 107.0, 107.0, 107.5), volume=1e6)) == [(BUY, Decimal("1.766"), Decimal("107.5"))]
    assert fills(bench.bar(FLAT, volume=1e6)) == []
    assert bench.qty() == 10


def test_the_volume_of_the_first_bar_is_not_known_at_its_open() -> None:
    bench = Bench(frictions=Frictions(volume_share=0.1))
    bench.send(BUY, 1)
    assert bench.open(FLAT, volume=1e6) == []
    assert fills(bench.range(FLAT, volume=1e6)) == [(BUY, 1, 100)]


def test_all_orders_of_one_open_share_one_volume_however_often_it_is_called() -> None:
    bench = Bench(frictions=Frictions(volume_share=0.1))
    bench.bar(FLAT, volume=30.0)
    bench.send(BUY, 2)
    bench.send(SELL, 2)
    assert fills(bench.open(FLAT)) == [(BUY, 2, 100), (SELL, 1, 100)]
    bench.send(BUY, 1)
    assert fills(bench.open(FLAT)) == []


def test_an_order_that_answers_an_open_fills_at_the_same_open() -> None:
    bench = Bench()
    bench.send(BUY, 1)
    assert fills(bench.open(FLAT)) == [(BUY, 1, 100)]
    bench.send(SELL, 1, reduce=True)
    assert fills(bench.open(FLAT)) == [(SELL, 1, 100)]
    assert bench.open(FLAT) == []


def test_a_bar_without_volume_fills_nothing() -> None:
    bench = Bench()
    bench.hold(BUY, 1)
    bench.send(BUY, 1)
    bench.send(BUY, 1, limit="99")
    bench.send(SELL, 1, stop="95", reduce=True)
    assert bench.bar((100.0, 110.0, 90.0, 100.0), volume=0.0) == []
    assert fills(bench.bar((101.0, 102.0, 100.0, 101.0))) == [(BUY, 1, 101)]


def test_a_bar_without_volume_fills_when_told_so() -> None:
    bench = Bench(frictions=Frictions(trade_empty_bars=True))
    bench.send(BUY, 1)
    assert fills(bench.bar(FLAT, volume=0.0)) == [(BUY, 1, 100)]


# ---- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "limit", "ohlc", "price", "maker"),
    [
        (BUY, "99", (100.0, 101.0, 99.0, 100.0), "99", True),  # touched
        (SELL, "101", (100.0, 101.0, 99.0, 100.0), "101", True),
        (BUY, "99", (98.0, 99.5, 97.0, 98.0), "98", False),  # through at the open: the better price, as a taker
        (SELL, "101", (102.0, 103.0, 101.5, 102.0), "102", False),
        (BUY, "100", FLAT, "100", False),
    ],
)
def test_a_new_limit_fills_at_its_limit_or_at_a_better_open(
    side: Side, limit: str, ohlc: Any, price: str, maker: bool
) -> None:
    bench = Bench()
    bench.bar(FLAT)
    bench.send(side, 2, limit=limit)
    (fill,) = only(bench.bar(ohlc), OrderFilled)
    assert (fill.price, fill.maker, fill.qty) == (Decimal(price), maker, 2)
    assert fill.fee == fill.price * 2 * Decimal("0.0002" if maker else "0.0005")
    assert fill.ts_ns == START_NS + (2 if maker else 1) * HOUR_NS
    assert not bench.exchange.snapshot(bench.now_ns).open_orders


@pytest.mark.parametrize(("side", "limit", "gap"), [(BUY, "99", 95.0), (SELL, "101", 105.0)])
def test_a_resting_limit_is_hit_at_its_own_price_when_the_market_gaps_through(
    side: Side, limit: str, gap: float
) -> None:
    bench = Bench()
    bench.bar(FLAT)
    bench.send(side, 1, limit=limit)
    assert bench.bar((100.0, 100.5, 99.5, 100.0)) == []
    (fill,) = only(bench.bar((gap, gap + 1, gap - 1, gap)), OrderFilled)
    assert (fill.price, fill.maker) == (Decimal(limit), True)


@SIDES
def test_a_limit_that_is_not_reached_rests(side: Side) -> None:
    bench = Bench()
    bench.bar(FLAT)
    bench.send(side, 1, limit="98.9" if side is BUY else "101.1")
    assert bench.bar((100.0, 101.0, 99.0, 100.0)) == []
    assert len(bench.exchange.snapshot(bench.now_ns).open_orders) == 1


@given(st.integers(1, 9_000_000), st.sampled_from([BUY, SELL]))
def test_a_high_one_ulp_short_of_a_limit_still_touches_it(ticks: int, side: Side) -> None:
    limit = ticks * Decimal("0.1")
    at = float(limit)
    reach = nextafter(at, 0.0 if side is SELL else 1e9)
    opened = at * (0.9 if side is SELL else 1.1)
    bench = Bench(contract(max_price=Decimal(10**7)), deposit=10**12)
    bench.send(side, 1, limit=limit)
    assert fills(bench.bar((opened, max(opened, reach), min(opened, reach), opened))) == [(side, 1, limit)]


def test_a_limit_fills_by_its_share_of_the_bar_and_the_rest_goes_on_resting() -> None:
    bench = Bench(frictions=Frictions(volume_share=0.1))
    bench.bar(FLAT, volume=10.0)
    bench.send(BUY, 5, limit="99")
    low = (100.0, 100.0, 98.0, 100.0)
    assert fills(bench.bar(low, volume=20.0)) == [(BUY, 2, 99)]
    (resting,) = bench.exchange.snapshot(bench.now_ns).open_orders
    assert (resting.filled, resting.qty) == (2, 5)
    assert fills(bench.bar(low, volume=1000.0)) == [(BUY, 3, 99)]


def test_slippage_does_not_push_a_taking_limit_past_its_limit() -> None:
    bench = Bench(frictions=Frictions(FixedSlippage(100.0)))
    bench.bar(FLAT)
    bench.send(BUY, 1, limit="100.5")
    bench.send(SELL, 1, limit="99.5")
    assert fills(bench.bar(FLAT)) == [(BUY, 1, Decimal("100.5")), (SELL, 1, Decimal("99.5"))]


@pytest.mark.parametrize("tif", [TimeInForce.IOC, TimeInForce.FOK])
def test_an_immediate_order_trades_at_the_open_or_never(tif: TimeInForce) -> None:
    bench = Bench()
    bench.bar(FLAT)
    bench.send(BUY, 1, limit="99", tif=tif)
    reports = bench.bar((100.0, 100.0, 98.0, 99.0))
    assert names(reports) == ["OrderExpired"]
    assert reports[0].ts_ns == START_NS + HOUR_NS
    bench.send(BUY, 1, limit="100", tif=tif)
    assert names(bench.bar(FLAT)) == ["OrderFilled"]
    assert not bench.exchange.snapshot(bench.now_ns).open_orders


@pytest.mark.parametrize(("tif", "bought"), [(TimeInForce.IOC, 3), (TimeInForce.FOK, 0), (TimeInForce.GTC, 3)])
def test_an_order_larger_than_the_volume_by_time_in_force(tif: TimeInForce, bought: int) -> None:
    bench = Bench(frictions=Frictions(volume_share=0.1))
    bench.bar(FLAT, volume=30.0)
    bench.send(BUY, 5, limit="100", tif=tif)
    reports = bench.open(FLAT)
    assert sum(fill.qty for fill in only(reports, OrderFilled)) == bought
    expired = only(reports, OrderExpired)
    assert [each.reason for each in expired] == ([] if tif is TimeInForce.GTC else [tif.value])
    assert len(bench.exchange.snapshot(bench.now_ns).open_orders) == (tif is TimeInForce.GTC)


def test_a_post_only_order_never_takes_and_once_resting_is_a_maker() -> None:
    bench = Bench()
    bench.bar(FLAT)
    bench.send(BUY, 1, limit="100", tif=TimeInForce.GTX)
    (expired,) = bench.bar(FLAT)
    assert isinstance(expired, OrderExpired)
    assert expired.reason == "GTX"
    bench.send(BUY, 1, limit="99", tif=TimeInForce.GTX)
    assert bench.bar((100.0, 101.0, 99.5, 100.0)) == []
    (fill,) = only(bench.bar((95.0, 96.0, 94.0, 95.0)), OrderFilled)
    assert (fill.price, fill.maker) == (99, True)


# ---- reduce-only -----------------------------------------------------------------------------------------------------


@SIDES
def test_a_reducing_order_is_cut_to_the_position_and_says_so(side: Side) -> None:
    for details in ({}, {"limit": "100"}, {"stop": "99" if side is BUY else "101"}):
        bench = Bench()
        bench.hold(side, 2)
        bench.send(side.opposite, 5, reduce=True, **details)
        reports = bench.bar((100.0, 102.0, 98.0, 100.0))
        assert [fill.qty for fill in only(reports, OrderFilled)] == [2]
        assert [each.reason for each in only(reports, OrderExpired)] == ["REDUCE_ONLY"]
        assert names(reports)[-1] == "OrderExpired"
        assert bench.qty() == 0
        assert not bench.exchange.snapshot(bench.now_ns).open_orders


@pytest.mark.parametrize("details", [{}, {"limit": "100.5"}, {"stop": "99.5"}])
def test_a_reducing_order_without_a_position_left_expires(details: dict[str, Any]) -> None:
    bench = Bench()
    bench.hold(BUY, 1)
    bench.send(SELL, 1)
    bench.send(SELL, 1, reduce=True, **details)
    reports = bench.bar((100.0, 101.0, 99.0, 100.0))
    assert [fill.qty for fill in only(reports, OrderFilled)] == [1]
    assert [each.reason for each in only(reports, OrderExpired)] == ["REDUCE_ONLY"]
    assert bench.qty() == 0
    assert not bench.exchange.snapshot(bench.now_ns).open_orders


def test_a_reducing_order_never_adds() -> None:
    bench = Bench()
    bench.hold(BUY, 1)
    assert names(bench.send(BUY, 1, reduce=True)) == ["OrderRejected"]
    bench.send(BUY, 1, stop="101", reduce=True)
    assert names(bench.bar((100.0, 102.0, 100.0, 101.0))) == ["OrderTriggered", "OrderExpired"]
    assert bench.qty() == 1


# ---- cancel, amend, query, snapshot ----------------------------------------------------------------------------------


@pytest.mark.parametrize("details", [{}, {"limit": "90"}, {"stop": "110"}])
def test_a_cancelled_order_is_gone(details: dict[str, Any]) -> None:
    bench = Bench()
    bench.bar(FLAT)
    bench.send(BUY, 1, **details)
    (report,) = bench.exchange.cancel(CancelOrder(O1, COIN), bench.now_ns)
    assert report == OrderCanceled(O1, COIN, bench.now_ns, bench.now_ns)
    assert bench.exchange.cancel(CancelOrder(O1, COIN), bench.now_ns) == []
    assert bench.bar((100.0, 120.0, 80.0, 100.0)) == []


def test_an_amended_order_works_at_its_new_price_and_size() -> None:
    bench = Bench()
    bench.bar(FLAT)
    bench.send(BUY, 2, limit="90")
    request = AmendOrder(O1, COIN, Decimal(3), Decimal("95"), None)
    (report,) = bench.exchange.amend(request, bench.now_ns)
    assert report == OrderAmended(O1, COIN, Decimal(3), Decimal("95"), None, bench.now_ns, bench.now_ns)
    assert fills(bench.bar((100.0, 100.0, 94.0, 100.0))) == [(BUY, 3, 95)]
    assert bench.exchange.amend(request, bench.now_ns) == []


def test_a_query_finds_what_rests_and_is_silent_about_the_rest() -> None:
    bench = Bench()
    (accepted,) = bench.send(BUY, 1, limit="90")
    assert isinstance(accepted, OrderAccepted)
    assert bench.exchange.query(QueryOrder(O1, COIN), START_NS) == [accepted]
    assert bench.exchange.query(QueryOrder(ClientOrderId("o2"), COIN), START_NS) == []


def test_a_snapshot_shows_wallet_positions_and_orders() -> None:
    bench = Bench(contract(), contract(OTHER), deposit=1_000)
    bench.hold(BUY, 2)
    bench.send(SELL, 2, stop="90", reduce=True)
    shot = bench.exchange.snapshot(bench.now_ns)
    assert [(each.asset, each.wallet) for each in shot.balances] == [("USDT", Decimal("999.9"))]
    assert [(each.instrument, each.qty, each.entry_price) for each in shot.positions] == [(COIN, 2, 100)]
    (order,) = shot.open_orders
    assert (order.id, order.trigger, order.qty, order.reduce_only) == ("o2", 90, 2, True)
