"""The life of an order only moves forward, whatever comes, twice or in the wrong order."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.orders import (
    ApprovedOrder,
    Order,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderNotFound,
    OrderRejected,
    OrderReport,
    OrderState,
    OrderTriggered,
    OrderType,
    OrderUncertain,
    PositionSide,
    Purpose,
    RejectCause,
    Side,
    TimeInForce,
)

NAME, COIN = ClientOrderId("p1-test-1-1-0"), InstrumentId("COINUSDT")
QTY = Decimal(10)


def order() -> Order:
    approved = ApprovedOrder(
        id=NAME,
        instrument=COIN,
        side=Side.BUY,
        qty=QTY,
        order_type=OrderType.MARKET,
        limit=None,
        trigger=None,
        tif=TimeInForce.GTC,
        reduce_only=False,
        position_side=PositionSide.BOTH,
        purpose=Purpose.TARGET,
        parent=None,
        strategy=None,
        attempt=0,
        expires_ns=0,
    )
    return Order(approved)


def fill(trade_id: int, qty: int) -> OrderFilled:
    price, fee = Decimal(100), Decimal(0)
    return OrderFilled(NAME, COIN, Side.BUY, Decimal(qty), price, fee, "USDT", trade_id, False, 1, 1)


ACCEPTED = OrderAccepted(NAME, COIN, 7, 1, 1)
REJECTED = OrderRejected(NAME, COIN, "LOT_SIZE", "too small", 1, 1)
TRIGGERED = OrderTriggered(NAME, COIN, 1, 1)
CANCELED = OrderCanceled(NAME, COIN, 1, 1)
EXPIRED = OrderExpired(NAME, COIN, "IOC", 1, 1)
UNCERTAIN = OrderUncertain(NAME, COIN, "timed out", 1, 1)
AMENDED = OrderAmended(NAME, COIN, Decimal(12), None, None, 1, 1)

FILLS = [fill(1, 4), fill(2, 3), fill(3, 3)]
NOT_FOUND = OrderNotFound(NAME, COIN, 1, 1)
NOT_SENT = OrderRejected(NAME, COIN, "NOT_SENT", "expired", 1, 1, RejectCause.NOT_SENT)
REPORTS: list[OrderReport] = [
    ACCEPTED, REJECTED, NOT_SENT, NOT_FOUND, TRIGGERED, CANCELED, EXPIRED, UNCERTAIN, *FILLS,
]  # fmt: skip
SEQUENCES = st.lists(st.sampled_from(REPORTS), max_size=20)


@given(SEQUENCES)
def test_no_sequence_moves_the_state_backwards(reports: list[OrderReport]) -> None:
    it = order()
    for report in reports:
        before = it.state
        news = it.apply(report)
        assert it.state is before or it.state.rank > before.rank
        assert news or it.state is before
    distinct = {report.trade_id: report.qty for report in reports if isinstance(report, OrderFilled)}
    assert it.filled == sum(distinct.values())
    assert (it.state is OrderState.FILLED) is (it.filled == QTY)
    assert it.remaining == (QTY - it.filled if it.open else 0)


@given(SEQUENCES, st.randoms(use_true_random=False))
def test_repeating_and_reordering_reports_never_changes_what_was_filled(
    reports: list[OrderReport], random: object
) -> None:
    first, second = order(), order()
    for report in reports:
        first.apply(report)
    mixed = reports * 2
    random.shuffle(mixed)  # type: ignore[attr-defined]
    for report in mixed:
        second.apply(report)
    assert second.filled == first.filled
    assert second.state.rank == first.state.rank
    assert second.open is first.open


@given(SEQUENCES)
def test_a_report_says_something_once(reports: list[OrderReport]) -> None:
    it = order()
    for report in reports:
        it.apply(report)
    assert not any(it.apply(report) for report in reports)


@pytest.mark.parametrize("end", [CANCELED, EXPIRED, REJECTED])
def test_a_late_fill_counts_and_the_completing_one_wins(end: OrderReport) -> None:
    it = order()
    it.apply(end)
    closed = it.state
    assert it.apply(FILLS[0])
    assert (it.state, it.filled, it.remaining) == (closed, 4, 0)
    assert it.apply(FILLS[1])
    assert it.apply(FILLS[2])
    assert (it.state, it.filled) == (OrderState.FILLED, 10)
    assert not it.apply(end)
    assert it.state is OrderState.FILLED


def test_a_fill_before_the_acknowledgement_keeps_the_venue_id() -> None:
    it = order()
    assert it.apply(FILLS[0])
    assert not it.apply(ACCEPTED)
    assert (it.state, it.venue_id, it.remaining) == (OrderState.PARTIALLY_FILLED, 7, 6)


def test_an_uncertain_order_is_settled_by_any_word_of_the_venue() -> None:
    for report, state in (
        (ACCEPTED, OrderState.WORKING),
        (REJECTED, OrderState.REJECTED),
        (CANCELED, OrderState.CANCELED),
    ):
        it = order()
        it.apply(UNCERTAIN)
        assert it.apply(report)
        assert it.state is state
        assert not it.apply(UNCERTAIN)


def test_an_amend_changes_what_remains_and_nothing_of_a_closed_order() -> None:
    it = order()
    it.apply(ACCEPTED)
    assert it.apply(AMENDED)
    assert (it.qty, it.remaining) == (12, 12)
    assert not it.apply(AMENDED)
    it.apply(CANCELED)
    assert not it.apply(OrderAmended(NAME, COIN, Decimal(20), None, None, 1, 1))
    assert it.qty == 12


def test_reasons_are_kept() -> None:
    it = order()
    it.apply(REJECTED)
    assert it.reason == "LOT_SIZE too small"
    it = order()
    it.apply(EXPIRED)
    assert it.reason == "IOC"


def test_not_found_says_nothing_and_not_sent_is_certain() -> None:
    it = order()
    assert not it.apply(NOT_FOUND)
    assert it.apply(NOT_SENT)
    assert (it.state, it.remaining) == (OrderState.NOT_PLACED, 0)


@pytest.mark.parametrize("state", [OrderState.NOT_PLACED, OrderState.ABANDONED])
@given(reports=SEQUENCES)
def test_our_own_proof_ends_an_order_that_is_open_and_only_a_fill_can_follow(
    state: OrderState, reports: list[OrderReport]
) -> None:
    it = order()
    for report in reports[:3]:
        it.apply(report)
    was_open = it.open
    assert it.conclude(state) is was_open
    for report in reports:
        it.apply(report)
    assert not it.open
    assert it.state in (state, OrderState.FILLED) or not was_open
