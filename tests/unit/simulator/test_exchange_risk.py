"""The matching core on bad days: stops, funding, liquidation, several contracts in one wallet."""

from decimal import Decimal
from typing import Any

import pytest

from tests.unit.simulator.bench import BUY, COIN, OTHER, SELL, Bench, contract, fills, names, only
from tidegate.domain.account import FundingPaid, Transfer
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import with_amounts
from tidegate.domain.messages import ExecutionReport
from tidegate.domain.orders import FillCause, OrderCanceled, OrderFilled, OrderTriggered, Side
from tidegate.simulator.frictions import FixedSlippage, Frictions

FLAT = (100.0, 100.0, 100.0, 100.0)
SIDES = pytest.mark.parametrize("side", [BUY, SELL])


def mirror(side: Side, *prices: float) -> Any:
    """Open, high, low, close for a long; turned upside down around 100 for a short."""
    if side is BUY:
        return prices
    opened, high, low, close = (200.0 - price for price in prices)
    return opened, low, high, close


def level(side: Side, price: float) -> str:
    return str(price if side is BUY else round(200.0 - price, 1))


# ---- stops -----------------------------------------------------------------------------------------------------------


@SIDES
@pytest.mark.parametrize(
    ("ohlc", "price"),
    [
        ((100.0, 100.5, 95.0, 99.0), 95.0),  # touched: at the trigger
        ((100.0, 100.5, 90.0, 91.0), 95.0),
        ((94.0, 96.0, 93.0, 95.5), 94.0),  # gapped through: at the open, which is worse
        ((95.0, 96.0, 94.0, 95.5), 95.0),
    ],
)
def test_a_stop_fills_at_its_trigger_or_at_a_worse_open(side: Side, ohlc: Any, price: float) -> None:
    bench = Bench()
    bench.hold(side, 1)
    bench.send(side.opposite, 1, stop=level(side, 95.0), reduce=True)
    reports = bench.bar(mirror(side, *ohlc))
    assert names(reports) == ["OrderTriggered", "OrderFilled"]
    assert fills(reports) == [(side.opposite, 1, Decimal(level(side, price)))]
    assert reports[1].ts_ns == bench.now_ns
    assert bench.bar(mirror(side, 90.0, 90.0, 80.0, 80.0)) == []


@SIDES
def test_a_stop_short_of_the_range_rests(side: Side) -> None:
    bench = Bench()
    bench.hold(side, 1)
    bench.send(side.opposite, 1, stop=level(side, 94.9), reduce=True)
    assert bench.bar(mirror(side, 100.0, 120.0, 95.0, 99.0)) == []


@SIDES
def test_a_stop_that_is_wider_than_the_last_close_but_good_at_the_open_is_taken(side: Side) -> None:
    """The market gaps away from us, we enter at the open, and the stop goes between the old close and the open."""
    bench = Bench()
    bench.bar(mirror(side, 90.0, 90.0, 90.0, 90.0))
    bench.send(side, 1)
    ohlc = mirror(side, 100.0, 101.0, 94.0, 96.0)
    assert fills(bench.open(ohlc)) == [(side, 1, 100)]
    assert names(bench.send(side.opposite, 1, stop=level(side, 95.0), reduce=True)) == ["OrderAccepted"]
    assert fills(bench.range(ohlc)) == [(side.opposite, 1, Decimal(level(side, 95.0)))]


@SIDES
def test_of_stop_and_take_profit_in_one_bar_the_stop_is_assumed(side: Side) -> None:
    bench = Bench()
    bench.hold(side, 1)
    bench.send(side.opposite, 1, profit=level(side, 100.1), reduce=True)
    bench.send(side.opposite, 1, stop=level(side, 90.0), reduce=True)
    reports = bench.bar(mirror(side, 100.0, 110.0, 85.0, 105.0))
    assert fills(reports) == [(side.opposite, 1, Decimal(level(side, 90.0)))]
    assert names(reports) == ["OrderTriggered", "OrderFilled", "OrderTriggered", "OrderExpired"]


@SIDES
def test_a_take_profit_fills_at_its_trigger_or_at_a_better_open(side: Side) -> None:
    for ohlc, price in (((100.0, 106.0, 99.0, 104.0), 105.0), ((107.0, 108.0, 106.0, 107.0), 107.0)):
        bench = Bench()
        bench.hold(side, 1)
        bench.send(side.opposite, 1, profit=level(side, 105.0), reduce=True)
        assert fills(bench.bar(mirror(side, *ohlc))) == [(side.opposite, 1, Decimal(level(side, price)))]


@SIDES
def test_of_two_stops_the_nearest_fills_first(side: Side) -> None:
    bench = Bench()
    bench.hold(side, 3)
    far, near = level(side, 92.0), level(side, 96.0)
    bench.send(side.opposite, 2, stop=far, reduce=True)
    bench.send(side.opposite, 2, stop=near, reduce=True)
    reports = bench.bar(mirror(side, 100.0, 100.0, 90.0, 91.0))
    assert fills(reports) == [(side.opposite, 2, Decimal(near)), (side.opposite, 1, Decimal(far))]
    assert bench.qty() == 0


@SIDES
def test_stops_fill_before_limits(side: Side) -> None:
    bench = Bench()
    bench.hold(side, 1)
    bench.send(side, 1, limit=level(side, 96.0))
    bench.send(side.opposite, 1, stop=level(side, 95.0), reduce=True)
    first, second = fills(bench.bar(mirror(side, 100.0, 100.0, 94.0, 99.0)))
    assert (first[0], second[0]) == (side.opposite, side)
    assert abs(bench.qty()) == 1


@SIDES
def test_a_stop_pays_the_taker_fee_and_slippage_from_its_trigger(side: Side) -> None:
    bench = Bench(frictions=Frictions(FixedSlippage(100.0)))
    bench.hold(side, 1)
    bench.send(side.opposite, 1, stop=level(side, 90.0), reduce=True)
    (fill,) = only(bench.bar(mirror(side, 100.0, 100.0, 89.0, 90.0)), OrderFilled)
    reference = Decimal(level(side, 90.0))
    assert (fill.reference, fill.maker) == (reference, False)
    assert fill.price == reference * (1 - side.sign * Decimal("0.01"))
    assert fill.fee == fill.price * Decimal("0.0005")


@SIDES
def test_a_stop_that_the_volume_cannot_fill_goes_on_at_the_ends_of_bars(side: Side) -> None:
    bench = Bench(frictions=Frictions(volume_share=0.1))
    bench.hold(side, 3)
    bench.send(side.opposite, 3, stop=level(side, 95.0), reduce=True)
    assert fills(bench.bar(mirror(side, 100.0, 100.0, 94.0, 94.5), volume=10.0)) == [
        (side.opposite, 1, Decimal(level(side, 95.0)))
    ]
    assert fills(bench.bar(mirror(side, 94.0, 94.0, 93.0, 93.5), volume=1000.0)) == [
        (side.opposite, 2, Decimal(level(side, 93.5)))
    ]
    assert bench.qty() == 0


# ---- funding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "rate", "amount"),
    [(BUY, 0.0001, "-0.02"), (SELL, 0.0001, "0.02"), (BUY, -0.0003, "0.06"), (SELL, -0.0003, "-0.06")],
)
def test_longs_pay_shorts_and_a_negative_rate_turns_it_round(side: Side, rate: float, amount: str) -> None:
    bench = Bench()
    bench.hold(side, 2)
    before = bench.wallet
    (paid,) = only(bench.fund(rate), FundingPaid)
    assert (paid.amount, paid.rate, paid.mark) == (Decimal(amount), rate, 100.0)
    assert bench.wallet - before == Decimal(amount)
    assert bench.exchange.ledger.position(COIN).funding == Decimal(amount)


def test_funding_is_paid_on_the_mark_and_a_stand_in_is_counted() -> None:
    bench = Bench()
    bench.hold(BUY, 1)
    (paid,) = only(bench.fund(0.001), FundingPaid)
    assert (paid.amount, paid.mark_is_last, bench.exchange.mark_stand_ins) == (Decimal("-0.1"), True, 1)
    bench.bar(FLAT, mark=(100.0, 101.0, 99.0, 100.5))
    (paid,) = only(bench.fund(0.001), FundingPaid)
    assert (paid.amount, paid.mark, paid.mark_is_last) == (Decimal("-0.1005"), 100.5, False)
    bench.exchange.set_mark(COIN, 99.5)
    (paid,) = only(bench.fund(0.001), FundingPaid)
    assert paid.amount == Decimal("-0.0995")
    bench.bar((100.0, 100.0, 98.0, 98.0))
    (paid,) = only(bench.fund(0.001), FundingPaid)
    assert (paid.mark, paid.mark_is_last, bench.exchange.mark_stand_ins) == (98.0, True, 2)


def test_nobody_pays_without_a_position_and_a_zero_rate_is_a_plain_zero() -> None:
    bench = Bench()
    bench.bar(FLAT)
    assert list(bench.fund(0.001)) == []
    assert bench.exchange.mark_stand_ins == 0
    bench.hold(BUY, 1)
    (paid,) = only(bench.fund(0.0), FundingPaid)
    assert str(paid.amount) == "0E-8"


def test_a_payment_is_rounded_to_the_cent_of_the_venue() -> None:
    bench = Bench()
    bench.hold(SELL, "0.003")
    (paid,) = only(bench.fund(0.000012345), FundingPaid)
    assert paid.amount == Decimal("0.00000370")  # 3.7035e-6


# ---- liquidation -----------------------------------------------------------------------------------------------------
# 100 at 100 with a wallet of 1000: with a maintenance of 5 % a long is used up at 9000 / 95 = 94.7368..,
# a short at 11000 / 105 = 104.7619..


def free_of_fees() -> Instrument:
    return contract(taker_fee=Decimal(0), liquidation_fee=Decimal("0.0125"))


def leveraged(side: Side, *others: Instrument) -> Bench:
    bench = Bench(free_of_fees(), *others, deposit=1_000)
    bench.hold(side, 100)
    return bench


def liquidations(reports: list[ExecutionReport]) -> list[OrderFilled]:
    return [fill for fill in only(reports, OrderFilled) if fill.cause is FillCause.LIQUIDATION]


@pytest.mark.parametrize(("side", "price"), [(BUY, 9000 / 95), (SELL, 11000 / 105)])
def test_liquidation_is_at_the_mark_price_where_the_margin_is_used_up(side: Side, price: float) -> None:
    bench = leveraged(side)
    (fill,) = only(bench.bar(mirror(side, 100.0, 100.0, 90.0, 99.0)), OrderFilled)
    assert float(fill.price) == pytest.approx(price, rel=1e-12)
    assert (fill.cause, fill.side, fill.qty) == (FillCause.LIQUIDATION, side.opposite, 100)
    assert str(fill.id).startswith("autoclose-")
    assert fill.fee == fill.qty * fill.price * Decimal("0.0125")
    assert (bench.qty(), bench.exchange.liquidations) == (0, 1)
    assert bench.wallet == Decimal(1000) + side.sign * 100 * (fill.price - 100) - fill.fee


@pytest.mark.parametrize(("side", "worst"), [(BUY, 94.8), (SELL, 95.3)])
def test_a_range_just_short_of_it_does_not_liquidate(side: Side, worst: float) -> None:
    bench = leveraged(side)
    assert bench.bar(mirror(side, 100.0, 150.0, worst, 99.0)) == []
    assert len(liquidations(bench.bar(mirror(side, 100.0, 100.0, worst - 0.1, 99.0)))) == 1


@SIDES
def test_a_gap_through_liquidates_at_the_open_and_the_insurance_pays_what_is_missing(side: Side) -> None:
    bench = leveraged(side)
    reports = bench.bar(mirror(side, 80.0, 85.0, 70.0, 75.0))
    (fill,) = liquidations(reports)
    assert fill.price == Decimal(level(side, 80.0))
    (transfer,) = only(reports, Transfer)
    assert transfer.amount == 2000 - 1000 + fill.fee
    assert bench.wallet == 0
    assert bench.exchange.equity({}) == 0


@SIDES
def test_a_nearer_stop_saves_the_account(side: Side) -> None:
    bench = leveraged(side)
    bench.send(side.opposite, 100, stop=level(side, 95.5), reduce=True)
    reports = bench.bar(mirror(side, 100.0, 100.0, 60.0, 70.0))
    assert fills(reports) == [(side.opposite, 100, Decimal(level(side, 95.5)))]
    assert bench.wallet == 550
    assert bench.exchange.liquidations == 0


@SIDES
@pytest.mark.parametrize("opened", [100.0, 85.0])
def test_a_stop_beyond_the_liquidation_price_comes_too_late(side: Side, opened: float) -> None:
    bench = leveraged(side)
    bench.send(side.opposite, 100, stop=level(side, 90.0), reduce=True)
    reports = bench.bar(mirror(side, opened, opened, 60.0, 70.0))
    assert names(reports)[:2] == ["OrderCanceled", "OrderFilled"]
    (fill,) = only(reports, OrderFilled)
    assert fill.cause is FillCause.LIQUIDATION
    assert not only(reports, OrderTriggered)
    assert bench.wallet >= 0


def test_half_a_stop_is_not_enough() -> None:
    bench = leveraged(BUY)
    bench.send(SELL, 10, stop="98", reduce=True)
    reports = bench.bar((100.0, 100.0, 90.0, 95.0))
    assert [(fill.cause, fill.qty) for fill in only(reports, OrderFilled)] == [
        (FillCause.ORDER, 10),
        (FillCause.LIQUIDATION, 90),
    ]


@SIDES
def test_liquidation_cancels_every_order_and_comes_before_limits(side: Side) -> None:
    other = contract(OTHER)
    bench = leveraged(side, other)
    bench.bar(FLAT, instrument=OTHER)
    bench.send(side, 1, limit=level(side, 97.0))
    bench.send(BUY, 1, instrument=OTHER, limit="50")
    reports = bench.bar(mirror(side, 100.0, 100.0, 80.0, 99.0))
    assert len(only(reports, OrderCanceled)) == 2
    assert [fill.cause for fill in only(reports, OrderFilled)] == [FillCause.LIQUIDATION]
    assert not bench.exchange.snapshot(bench.now_ns).open_orders


def test_a_bad_print_of_the_last_price_does_not_liquidate_while_the_mark_is_calm() -> None:
    bench = leveraged(SELL)
    assert bench.bar((100.0, 250.0, 100.0, 100.0), mark=(100.0, 101.0, 99.0, 100.0)) == []
    assert len(liquidations(bench.bar((100.0, 250.0, 100.0, 100.0)))) == 1


def test_a_bad_print_does_not_liquidate_while_orders_rest_either() -> None:
    bench = leveraged(SELL)
    bench.send(BUY, 1, limit="50")
    assert bench.bar((100.0, 250.0, 100.0, 100.0), mark=(100.0, 101.0, 99.0, 100.0)) == []
    assert bench.exchange.liquidations == 0


def test_the_mark_alone_liquidates() -> None:
    bench = leveraged(BUY)
    (fill,) = liquidations(bench.bar(FLAT, mark=(100.0, 100.0, 90.0, 99.0)))
    assert float(fill.price) == pytest.approx(9000 / 95)


def test_liquidation_does_not_wait_for_volume() -> None:
    bench = leveraged(BUY)
    assert len(liquidations(bench.bar((100.0, 100.0, 80.0, 80.0), volume=0.0))) == 1


def test_funding_eats_margin() -> None:
    bench = leveraged(BUY)
    bench.fund(0.03)  # 300 of 1000
    (fill,) = liquidations(bench.bar((100.0, 100.0, 97.0, 99.0)))
    assert float(fill.price) == pytest.approx(9300 / 95)


def test_the_brackets_of_the_contract_decide() -> None:
    steps = contract(
        brackets=with_amounts([(0, 5_000, 0.01), (5_000, 1e12, 0.05)]), taker_fee=Decimal(0), liquidation_fee=Decimal(0)
    )
    bench = Bench(steps, deposit=1_000)
    bench.hold(BUY, 100)
    (fill,) = liquidations(bench.bar((100.0, 100.0, 80.0, 90.0)))
    assert float(fill.price) == pytest.approx((9000 - 200) / 95)  # the amount of the second bracket is 200


# ---- one wallet ------------------------------------------------------------------------------------------------------


def two_positions() -> Bench:
    zero = {"taker_fee": Decimal(0), "liquidation_fee": Decimal(0)}
    bench = Bench(contract(**zero), contract(OTHER, **zero), deposit=1_000)
    bench.hold(BUY, 50)
    bench.hold(SELL, 50, instrument=OTHER)
    return bench


def test_the_result_of_one_contract_carries_the_other() -> None:
    bench = two_positions()
    bench.bar((100.0, 100.0, 85.0, 85.0), instrument=OTHER)  # the short has earned 750
    assert bench.bar((100.0, 100.0, 80.0, 80.0)) == []
    assert bench.qty() == 50


def test_the_loss_of_one_contract_drags_the_other_down() -> None:
    bench = two_positions()
    bench.bar((100.0, 108.0, 100.0, 108.0), instrument=OTHER)  # the short has lost 400
    reports = bench.bar((100.0, 100.0, 95.0, 99.0))
    first, second = liquidations(reports)
    # 600 + 50 (p - 100) = 0.05 (50 p + 5400)
    assert (first.instrument, second.instrument) == (COIN, OTHER)
    assert float(first.price) == pytest.approx((5000 - 600 + 270) / 47.5)
    assert second.price == 108
    assert (bench.qty(), bench.qty(OTHER)) == (0, 0)
    assert bench.exchange.liquidations == 1


def test_a_wallet_that_orders_emptied_is_filled_up_too() -> None:
    bench = Bench(deposit=1_000)
    bench.hold(BUY, 100)
    bench.send(SELL, 100)
    reports = bench.bar((80.0, 80.0, 80.0, 80.0))
    assert names(reports) == ["OrderFilled", "Transfer"]
    assert bench.wallet == 0


def test_a_settlement_below_zero_is_filled_up_too() -> None:
    bench = leveraged(BUY)
    bench.bar((100.0, 100.0, 50.0, 50.0), mark=FLAT)
    reports = list(bench.exchange.settle(COIN, bench.now_ns))
    assert names(reports) == ["OrderFilled", "Transfer"]
    assert bench.wallet == 0
