"""The kernel by hand: what it answers to each event of a scripted day."""

from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kernel.worlds import (
    BTC,
    CAPITAL,
    ETH,
    Hand,
    by_bar,
    cancels,
    contract,
    decisions,
    exits,
    loose,
    orders,
    scripted,
    spec,
    stops,
    targets,
)
from tidegate.domain.account import AccountSnapshot, Balance, FundingPaid, Position, Transfer
from tidegate.domain.errors import ConfigError
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.market import (
    HOUR_NS,
    Depth,
    FeedGap,
    FundingRate,
    InstrumentStatus,
    MarkPrice,
    Quote,
    Trade,
    TradingStatus,
)
from tidegate.domain.messages import (
    GRACE_TIMER,
    Alert,
    Halt,
    HaltCause,
    Operation,
    SetTimer,
    Severity,
    TimerFired,
    VenueState,
    VenueStatus,
)
from tidegate.domain.orders import (
    ApprovedOrder,
    CancelOrder,
    FillCause,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderTriggered,
    OrderType,
    OrderUncertain,
    QueryOrder,
    Side,
)
from tidegate.domain.signals import Decision, Reason, Signal
from tidegate.kernel.lifecycle import State
from tidegate.risk.sizing import SizingSettings
from tidegate.strategies.base import View

LONG, SHORT, FLAT = Signal(1.0), Signal(-1.0), Signal(0.0)


def alerts(commands: list[Any], severity: Severity | None = None) -> list[Alert]:
    return [each for each in commands if isinstance(each, Alert) and severity in (None, each.severity)]


def rejected(hand: Hand, order: ApprovedOrder) -> OrderRejected:
    return OrderRejected(order.id, order.instrument, "-2010", "no", hand.now_ns, hand.now_ns)


# ---- the life of a wish ---------------------------------------------------------------------------------------------


def test_a_wish_becomes_one_market_order_and_its_fill_a_stop() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    said = hand.bar()
    wished, aimed, entry = said
    assert wished == Decision(hand.said[0].strategy, BTC, hand.now_ns, LONG)  # type: ignore[union-attr]
    assert aimed == Decision(None, BTC, hand.now_ns, None, Decimal(1), "fixed_qty")
    assert isinstance(entry, ApprovedOrder)
    assert (entry.side, entry.qty, entry.order_type, entry.reduce_only) == (Side.BUY, 1, OrderType.MARKET, False)
    (stop,) = hand.fill(entry)
    assert isinstance(stop, ApprovedOrder)
    assert (stop.side, stop.qty, stop.trigger) == (Side.SELL, 1, Decimal("85.0"))
    assert stop.reduce_only
    assert hand.kernel.protection_level(BTC) == pytest.approx(85.0)


def test_what_has_not_changed_is_not_said_again() -> None:
    hand = Hand.ready(spec(scripted(lambda view: Signal(1.0))))
    hand.open()
    assert [hand.bar() for _ in range(5)] == [[]] * 5


def test_a_refusal_is_said_once() -> None:
    """The change is beyond the band, and worth less than the venue takes."""
    hand = Hand.ready(spec(by_bar(LONG, Signal(0.85))), instruments=[contract(min_notional="50")])
    hand.open()
    said = [hand.bar() for _ in range(4)]
    assert [each.refusal.reason for each in decisions(said[0]) if each.refusal] == []  # a reduction passes
    hand = Hand.ready(spec(by_bar(Signal(0.8), LONG)), instruments=[contract(min_notional="50")])
    hand.open()
    said = [hand.bar() for _ in range(4)]
    assert [each.refusal.reason for each in decisions(said[0]) if each.refusal] == [Reason.MIN_NOTIONAL]
    assert said[1:] == [[], [], []]
    assert not orders(said[0])


def test_none_keeps_the_wish_and_flat_closes() -> None:
    hand = Hand.ready(spec(by_bar(LONG, None, None, FLAT)))
    stop = hand.open()
    assert hand.bar() == []
    assert hand.bar() == []
    (close,) = targets(hand.bar())
    assert (close.side, close.qty, close.reduce_only) == (Side.SELL, 1, True)
    assert cancels(hand.fill(close)) == [stop.id]
    assert hand.kernel.protection_level(BTC) is None


def test_a_flip_is_one_order_and_its_protection_is_replaced() -> None:
    hand = Hand.ready(spec(by_bar(LONG, SHORT)))
    stop = hand.open()
    (flip,) = targets(hand.bar())
    assert (flip.side, flip.qty, flip.reduce_only) == (Side.SELL, 2, False)
    said = hand.fill(flip)
    assert cancels(said) == [stop.id]
    (other,) = stops(said)
    assert (other.side, other.qty, other.trigger) == (Side.BUY, 1, Decimal("115.0"))


@pytest.mark.parametrize(("strength", "trades"), [(0.95, False), (0.9, False), (0.89, True), (1.0, False)])
def test_the_band_of_a_tenth_of_what_is_held(strength: float, trades: bool) -> None:
    hand = Hand.ready(spec(by_bar(LONG, Signal(strength))))
    hand.open()
    assert bool(orders(hand.bar())) is trades


def test_a_working_order_the_wrong_way_is_cancelled_first_and_the_target_routed_again() -> None:
    hand = Hand.ready(spec(by_bar(LONG, SHORT)))
    (entry,) = targets(hand.bar())
    hand.accept(entry)
    said = hand.bar()
    assert cancels(said) == [entry.id]
    assert orders(said) == []
    (other,) = targets(hand.cancel(entry))
    assert (other.side, other.qty) == (Side.SELL, 1)


def test_a_cancel_that_lost_the_race_is_routed_again_too() -> None:
    hand = Hand.ready(spec(by_bar(LONG, SHORT)))
    (entry,) = targets(hand.bar())
    hand.bar()
    said = hand.fill(entry)
    assert len(stops(said)) == 1
    (other,) = targets(said)
    assert (other.side, other.qty) == (Side.SELL, 2)


def test_a_large_order_goes_in_pieces() -> None:
    settings_ = loose(sizing=SizingSettings("fixed_qty", fixed_qty=Decimal("7")))
    hand = Hand.ready(spec(by_bar(LONG, FLAT)), settings=settings_, instruments=[contract(market_max_qty="3")])
    pieces = targets(hand.bar())
    assert [piece.qty for piece in pieces] == [3, 3, 1]
    for piece in pieces:
        hand.fill(piece)
    closing = targets(hand.bar())
    assert [(piece.qty, piece.reduce_only) for piece in closing] == [(3, True), (3, True), (1, True)]


def test_pieces_count_toward_the_order_rate() -> None:
    limits = msgspec.structs.replace(loose().limits, max_orders_per_minute=2)
    settings_ = loose(sizing=SizingSettings("fixed_qty", fixed_qty=Decimal("7")), limits=limits)
    hand = Hand.ready(spec(by_bar(LONG)), settings=settings_, instruments=[contract(market_max_qty="3")])
    said = hand.bar()
    assert [piece.qty for piece in targets(said)] == [3, 3]
    assert [each.refusal.reason for each in decisions(said) if each.refusal] == [Reason.ORDER_RATE]


def test_wishes_of_several_strategies_are_netted() -> None:
    hand = Hand.ready(
        spec(by_bar(Signal(1.0, 90.0), None, Signal(1.0, 93.0)), name="a"),
        spec(by_bar(Signal(-0.2, 130.0), Signal(0.6, 95.0)), name="b"),
    )
    (entry,) = targets(hand.bar())
    assert entry.qty == Decimal("0.4")
    (stop,) = stops(hand.fill(entry))
    assert stop.trigger == Decimal("90.0")
    hand.accept(stop)
    (more,) = targets(hand.bar())
    assert more.qty == Decimal("0.4")
    assert stops(hand.said)[-1].trigger == Decimal("95.0")  # the nearest of those that agree
    assert hand.kernel.protection_level(BTC) == 95.0


def test_view_shows_the_position_as_a_share_of_the_budget() -> None:
    views: list[View] = []

    def watch(view: View) -> Signal:
        views.append(view)
        return LONG

    hand = Hand.ready(spec(scripted(watch)))
    hand.give(FundingRate(BTC, hand.now_ns, hand.now_ns, 0.0002))
    hand.open()
    hand.bar(110.0)
    first, second = views
    assert (first.position, first.entry_price, first.funding_rate) == (0.0, None, 0.0002)
    assert second.entry_price == 100.0
    assert second.position == pytest.approx(110.0 / (float(CAPITAL) + 10.0 - 0.05))


# ---- protection -----------------------------------------------------------------------------------------------------


def test_protection_only_tightens_and_the_new_stop_comes_first() -> None:
    hand = Hand.ready(spec(by_bar(*(Signal(1.0, at) for at in (90.0, 85.0, 95.0)))))
    stop = hand.open()
    assert stop.trigger == Decimal("90.0")
    assert orders(hand.bar()) == []
    said = hand.bar()
    (tighter,) = stops(said)
    assert tighter.trigger == Decimal("95.0")
    assert cancels(said) == []
    assert cancels(hand.accept(tighter)) == [stop.id]
    assert cancels(hand.accept(tighter)) == []
    assert orders(hand.cancel(stop)) == []


def test_partial_fills_are_protected_as_they_come() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    (entry,) = targets(hand.bar())
    (first,) = stops(hand.fill(entry, qty="0.3"))
    (second,) = stops(hand.fill(entry, qty="0.7"))
    assert (first.qty, second.qty) == (Decimal("0.3"), Decimal("1.0"))
    assert cancels(hand.accept(first)) == []
    assert cancels(hand.accept(second)) == [first.id]


def test_a_stop_that_fills_spends_the_wish() -> None:
    hand = Hand.ready(spec(by_bar(LONG, LONG, Signal(0.5), Signal(1.0, 80.0), FLAT, LONG)))
    stop = hand.open()
    hand.fill(stop, 85.0)
    assert hand.qty == 0
    assert [orders(hand.bar()) for _ in range(4)] == [[]] * 4
    assert len(targets(hand.bar())) == 1


def test_the_other_side_revives_a_spent_wish() -> None:
    hand = Hand.ready(spec(by_bar(LONG, SHORT)))
    hand.fill(hand.open(), 85.0)
    assert hand.kernel.standing_wish(hand.said[0].strategy, BTC) is None  # type: ignore[union-attr]
    (entry,) = targets(hand.bar(85.0))
    assert entry.side is Side.SELL


def test_only_the_wishes_that_agreed_are_spent() -> None:
    hand = Hand.ready(spec(by_bar(LONG), name="a"), spec(by_bar(Signal(-0.5)), name="b"))
    hand.fill(hand.open(), 85.0)
    (entry,) = targets(hand.bar(85.0))
    assert (entry.side, entry.qty) == (Side.SELL, Decimal("0.25"))


def test_a_stop_that_is_passed_already_closes_at_once() -> None:
    hand = Hand.ready(spec(by_bar(Signal(1.0, 95.0))))
    (entry,) = targets(hand.bar(100.0))
    said = hand.fill(entry, 94.0)
    assert stops(said) == []
    (close,) = exits(said)
    assert (close.side, close.qty, close.order_type, close.reduce_only) == (Side.SELL, 1, OrderType.MARKET, True)
    assert orders(hand.bar(94.0)) == []
    hand.fill(close, 94.0)
    assert hand.qty == 0
    assert orders(hand.bar(94.0)) == []


def test_a_large_position_is_left_in_pieces() -> None:
    settings_ = loose(sizing=SizingSettings("fixed_qty", fixed_qty=Decimal("5")))
    hand = Hand.ready(spec(by_bar(Signal(1.0, 95.0))), settings=settings_, instruments=[contract(market_max_qty="3")])
    first, second = targets(hand.bar(100.0))
    hand.fill(first, 100.0)
    away = exits(hand.fill(second, 94.0, qty="1"))
    assert [(order.side, order.qty, order.reduce_only) for order in away] == [
        (Side.SELL, 3, True),
        (Side.SELL, 1, True),
    ]


def test_a_stop_that_fills_calls_the_rest_of_an_entry_back() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    (entry,) = targets(hand.bar())
    (stop,) = stops(hand.fill(entry, qty="0.4"))
    hand.accept(stop)
    assert cancels(hand.fill(stop, 85.0)) == [entry.id]
    said = hand.fill(entry, 84.0, qty="0.6")  # the cancel came too late
    assert hand.qty == Decimal("0.6")
    assert len(stops(said)) == 1
    (close,) = targets(said)
    assert (close.side, close.qty, close.reduce_only) == (Side.SELL, Decimal("0.6"), True)


def test_a_stop_that_fills_calls_a_flip_back() -> None:
    """Else the flip would sell twice as much as is wished for."""
    hand = Hand.ready(spec(by_bar(LONG, SHORT)))
    stop = hand.open()
    (flip,) = targets(hand.bar())
    assert cancels(hand.fill(stop, 85.0)) == [flip.id]
    assert orders(hand.cancel(flip)) == []
    (entry,) = targets(hand.bar(85.0))
    assert (entry.side, entry.qty) == (Side.SELL, 1)


def test_a_stop_that_ends_is_placed_again() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    stop = hand.open()
    (again,) = stops(hand.cancel(stop))
    assert again.trigger == stop.trigger
    ended = OrderExpired(again.id, BTC, "venue", hand.now_ns, hand.now_ns)
    assert len(stops(hand.give(ended))) == 1


def test_a_stop_that_is_refused_closes_the_position() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    (entry,) = targets(hand.bar())
    (stop,) = stops(hand.fill(entry))
    said = hand.give(rejected(hand, stop))
    (close,) = exits(said)
    assert (close.side, close.qty, close.reduce_only) == (Side.SELL, 1, True)
    assert len(alerts(said)) == 1
    hand.fill(close)
    assert orders(hand.bar()) == []


def test_a_triggered_stop_is_left_alone_until_it_is_done() -> None:
    hand = Hand.ready(spec(by_bar(Signal(1.0, 90.0), Signal(1.0, 95.0), FLAT)))
    stop = hand.open()
    hand.give(OrderTriggered(stop.id, BTC, hand.now_ns, hand.now_ns))
    hand.fill(stop, 90.0, qty="0.5")
    assert orders(hand.bar()) == []
    assert orders(hand.bar()) == []  # the way to flat is under way: the rest of the stop
    said = hand.fill(stop, 90.0, qty="0.5")
    assert orders(said) == []
    assert hand.qty == 0


@pytest.mark.parametrize("cause", [FillCause.LIQUIDATION, FillCause.DELEVERAGING])
def test_the_venues_own_acts_are_booked_and_told(cause: FillCause) -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    stop = hand.open()
    said = hand.give(hand.venue_fill(Side.SELL, "1", 60.0, cause))
    assert hand.qty == 0
    assert cancels(said) == [stop.id]
    (alert,) = alerts(said)
    assert (alert.severity, alert.subject) == (Severity.CRITICAL, cause.value)
    assert orders(hand.bar(60.0)) == []


# ---- reports --------------------------------------------------------------------------------------------------------


def test_a_fill_is_booked_once_in_whatever_order_fills_come() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    (entry,) = targets(hand.bar())
    fills = [hand.filled(entry, 100.0, "0.2", trade_id) for trade_id in (907, 903, 905)]
    for fill in [fills[0], fills[1], fills[0], fills[2], fills[1]]:
        hand.give(fill)
    assert hand.qty == Decimal("0.6")
    assert hand.kernel.ledger.position(BTC).fees == Decimal("0.15")
    assert hand.give(fills[2]) == []


def test_what_is_not_ours_is_told() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    hand.bar()
    foreign = hand.venue_fill(Side.BUY, "1", 100.0, FillCause.ORDER, "web-1")
    said = hand.give(foreign)
    assert "not ours" in alerts(said)[0].text
    assert len(stops(said)) == 1  # a position is protected, wherever it came from
    (alert,) = hand.give(OrderAccepted(ClientOrderId("web-2"), BTC, 1, hand.now_ns, hand.now_ns))
    assert isinstance(alert, Alert)
    assert "web-2" in alert.text
    elsewhere = msgspec.structs.replace(foreign, instrument=InstrumentId("DOGEUSDT"), trade_id=99)
    (alert,) = hand.give(elsewhere)
    assert isinstance(alert, Alert)
    assert "DOGEUSDT" in alert.text


def test_a_repeated_or_stale_report_says_nothing() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    (entry,) = targets(hand.bar())
    hand.fill(entry)
    assert hand.accept(entry) == []
    assert hand.cancel(entry) == []


def test_an_unknown_outcome_is_asked_for_and_never_sent_again() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    (entry,) = targets(hand.bar())
    doubt = OrderUncertain(entry.id, BTC, "timeout", hand.now_ns, hand.now_ns)
    asked, timer = hand.give(doubt)
    assert asked == QueryOrder(entry.id, BTC)
    assert isinstance(timer, SetTimer)
    assert hand.kernel.unresolved == (entry.id,)
    assert hand.give(doubt) == []
    assert orders(hand.bar()) == []
    assert hand.give(OrderAmended(entry.id, BTC, Decimal(1), None, None, hand.now_ns, hand.now_ns)) == []


def test_three_rejections_in_a_row_block_new_risk_for_a_minute() -> None:
    def minutely(view: View) -> Signal:
        return LONG

    hand = Hand.ready(spec(scripted(minutely)), settings=loose(interval_ns=HOUR_NS))
    for n in range(3):
        (entry,) = targets(hand.bar())
        hand.now_ns += HOUR_NS - 1 if n == 2 else 0
        assert len(alerts(hand.give(rejected(hand, entry)))) == (2 if n == 2 else 1)  # the pause is told too
    hand.now_ns += 1 - HOUR_NS
    said = hand.bar()
    assert orders(said) == []
    assert [each.refusal.reason for each in decisions(said) if each.refusal] == [Reason.STATE]
    (probe,) = targets(hand.bar())
    hand.fill(probe)
    assert len(orders(hand.bar())) == 0


def test_two_rejections_and_a_fill_block_nothing() -> None:
    hand = Hand.ready(spec(by_bar(LONG, None, None, FLAT)))
    for _ in range(2):
        (entry,) = targets(hand.bar())
        hand.give(rejected(hand, entry))
    hand.open()
    (close,) = targets(hand.bar())
    hand.give(rejected(hand, close))
    assert len(targets(hand.bar())) == 1


# ---- the life cycle -------------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_snapshot_and_the_start() -> None:
    hand = Hand.ready(spec(scripted(lambda view: LONG)), start=False)
    assert orders(hand.bar()) == []
    (alert,) = hand.operate(Operation.START)
    assert isinstance(alert, Alert)
    assert hand.kernel.state is State.STARTING
    hand.fund()
    assert orders(hand.bar()) == []
    assert hand.operate(Operation.START) == []
    assert len(orders(hand.bar())) == 1


def test_positions_at_the_start_halt() -> None:
    hand = Hand.ready(spec(by_bar(LONG, LONG)), start=False)
    position = Position(BTC, Decimal(1), Decimal(100))
    said = hand.give(AccountSnapshot(1, 1, (Balance("USDT", CAPITAL),), (position,), ()))
    assert isinstance(said[0], Halt)
    assert BTC in said[0].reason
    assert hand.kernel.state is State.HALTED
    hand.fund()
    for operation in Operation:
        if operation not in (Operation.KILL, Operation.BOOT, Operation.RESET):
            assert len(alerts(hand.operate(operation))) == 1
    assert hand.kernel.state is State.HALTED
    assert hand.kernel.latch is not None
    assert hand.kernel.latch.cause is HaltCause.INVARIANT
    assert orders(hand.bar()) == []


def test_a_pause_lets_positions_shrink_but_not_grow() -> None:
    hand = Hand.ready(spec(by_bar(Signal(0.5), LONG, Signal(0.2), SHORT, LONG, SHORT)))
    hand.open()
    hand.operate(Operation.PAUSE)
    assert targets(hand.bar()) == []
    (less,) = targets(hand.bar())
    assert (less.side, less.qty, less.reduce_only) == (Side.SELL, Decimal("0.3"), True)
    hand.fill(less)
    (rest,) = targets(hand.bar())
    assert (rest.qty, rest.reduce_only) == (Decimal("0.2"), True)
    hand.fill(rest)
    assert targets(hand.bar()) == []
    hand.operate(Operation.RESUME)
    (entry,) = targets(hand.bar())
    assert (entry.side, entry.qty) == (Side.SELL, 1)


@pytest.mark.parametrize("operation", [Operation.PAUSE, Operation.STOP, Operation.FLATTEN])
def test_entries_are_called_back_and_stops_stay(operation: Operation) -> None:
    hand = Hand.ready(spec(by_bar(Signal(0.5), LONG)))
    hand.open()
    (entry,) = targets(hand.bar())
    assert cancels(hand.operate(operation)) == [entry.id]
    assert len([order for order in hand.kernel.open_orders if order.approved.reduce_only]) == 1


def test_flatten_closes_and_stays_flat_until_resumed() -> None:
    hand = Hand.ready(spec(scripted(lambda view: LONG)))
    stop = hand.open()
    (close,) = exits(hand.operate(Operation.FLATTEN))
    assert (close.side, close.qty, close.reduce_only) == (Side.SELL, 1, True)
    hand.accept(close)
    hand.fill(close, qty="0.4")
    assert orders(hand.operate(Operation.FLATTEN)) == []
    said = hand.bar()
    assert cancels(said) == []
    assert targets(said) == []
    said = hand.fill(close, qty="0.6")
    assert hand.qty == 0
    assert stop.id in cancels(hand.said)
    assert orders(hand.bar()) == []
    hand.operate(Operation.RESUME)
    assert len(targets(hand.bar())) == 1


def test_flatten_during_an_entry_closes_what_it_left() -> None:
    hand = Hand.ready(spec(scripted(lambda view: LONG)))
    (entry,) = targets(hand.bar())
    hand.fill(entry, qty="0.4")
    assert cancels(hand.operate(Operation.FLATTEN)) == [entry.id]
    (close,) = targets(hand.cancel(entry))
    assert (close.side, close.qty, close.reduce_only) == (Side.SELL, Decimal("0.4"), True)


def test_an_entry_that_fills_after_flatten_is_closed_at_the_next_close() -> None:
    hand = Hand.ready(spec(scripted(lambda view: LONG)))
    (entry,) = targets(hand.bar())
    hand.operate(Operation.FLATTEN)
    assert len(stops(hand.fill(entry))) == 1
    (close,) = targets(hand.bar())
    assert (close.side, close.qty) == (Side.SELL, 1)


def test_stopped_means_no_step_but_protection_goes_on() -> None:
    hand = Hand.ready(spec(by_bar(LONG, FLAT)))
    stop = hand.open()
    hand.operate(Operation.STOP)
    assert hand.kernel.state is State.STOPPED
    assert orders(hand.bar()) == []
    assert len(stops(hand.cancel(stop))) == 1
    assert len(alerts(hand.operate(Operation.START))) == 1


def test_while_the_venue_is_down_there_is_no_new_risk() -> None:
    hand = Hand.ready(spec(scripted(lambda view: LONG)))
    down = VenueStatus(VenueState.DOWN, "maintenance", hand.now_ns, hand.now_ns)
    assert alerts(hand.give(down), Severity.CRITICAL)
    assert hand.give(down) == []
    assert orders(hand.bar()) == []
    assert alerts(hand.give(VenueStatus(VenueState.UP, "", hand.now_ns, hand.now_ns)), Severity.INFO)
    assert len(orders(hand.bar())) == 1


# ---- once per close -------------------------------------------------------------------------------------------------


def pair(*answers: Any) -> Hand:
    listed = [contract(BTC), contract(ETH)]
    hand = Hand.ready(spec(by_bar(*answers), BTC, ETH), instruments=listed)
    hand.bar(100.0, BTC)
    hand.bar(100.0, ETH, after=0)
    return hand


def test_the_step_waits_for_the_last_bar() -> None:
    hand = pair(None, LONG)
    first = hand.bar(100.0, BTC)
    assert orders(first) == []
    assert SetTimer(GRACE_TIMER, hand.now_ns + loose().grace_ns) in first
    last = hand.bar(100.0, ETH, after=0)
    assert [order.instrument for order in targets(last)] == [BTC, ETH]
    assert not any(isinstance(each, SetTimer) for each in last)


def test_a_stale_instrument_takes_no_new_risk_but_may_close() -> None:
    def script(view: View) -> Signal | None:
        return LONG

    listed = [contract(BTC), contract(ETH)]
    hand = Hand.ready(spec(scripted(script), BTC, ETH), instruments=listed, start=False)
    hand.bar(100.0, BTC)
    hand.bar(100.0, ETH, after=0)
    hand.fund()
    hand.operate(Operation.START)
    hand.bar(100.0, BTC)
    said = hand.give(TimerFired(GRACE_TIMER, hand.now_ns, hand.now_ns))
    assert [order.instrument for order in targets(said)] == [BTC]
    assert [(each.instrument, each.refusal.reason) for each in decisions(said) if each.refusal] == [(ETH, Reason.STATE)]
    assert hand.give(TimerFired(GRACE_TIMER, hand.now_ns, hand.now_ns)) == []
    assert hand.give(TimerFired("other", hand.now_ns, hand.now_ns)) == []
    assert targets(hand.bar(100.0, ETH, after=0)) == []  # it counts for the next close
    hand.bar(100.0, BTC)
    assert [order.instrument for order in targets(hand.bar(100.0, ETH, after=0))] == [ETH]


def test_a_delisted_instrument_is_not_waited_for_and_not_traded() -> None:
    hand = pair(None, LONG, LONG)
    hand.bar(100.0, BTC)
    gone = InstrumentStatus(ETH, hand.now_ns, hand.now_ns, TradingStatus.DELISTED)
    said = hand.give(gone)
    assert [order.instrument for order in targets(said)] == [BTC]
    assert [each.binding_limit for each in decisions(said) if each.instrument == ETH] == ["delisted"]
    assert hand.give(gone) == []
    assert hand.bar(100.0, ETH) == []
    assert hand.give(InstrumentStatus(InstrumentId("X"), 1, 1, TradingStatus.DELISTED)) == []
    assert hand.give(InstrumentStatus(BTC, 1, 1, TradingStatus.HALTED)) == []


def test_a_settlement_is_not_protected_any_more() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    stop = hand.open()
    hand.give(InstrumentStatus(BTC, hand.now_ns, hand.now_ns, TradingStatus.DELISTED))
    assert orders(hand.cancel(stop)) == []
    said = hand.give(hand.venue_fill(Side.SELL, "1", 90.0, FillCause.SETTLEMENT, "settlement-1"))
    assert orders(said) == []
    assert hand.qty == 0


# ---- strategies that fail -------------------------------------------------------------------------------------------

BROKEN = [
    RuntimeError("no"),
    SystemExit(3),
    Signal(float("nan")),
    Signal(float("inf")),
    Signal(1.5),
    Signal(-1.0000001),
    Signal(10**400),
    Signal(1.0, float("nan")),
    Signal(1.0, -5.0),
    Signal(1.0, 0.0),
    Signal(1.0, float("inf")),
    Signal("long"),  # type: ignore[arg-type]
    Signal(1.0, "90"),  # type: ignore[arg-type]
    Signal(np.float64(1.0)),
    Signal(np.array([1.0, 2.0])),  # type: ignore[arg-type]
    np.array([1.0, 2.0]),
    0.5,
    "long",
    {BTC: LONG},
]


@pytest.mark.parametrize("broken", BROKEN, ids=[f"{type(each).__name__} {n}" for n, each in enumerate(BROKEN)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_strategy_that_fails_is_switched_off_and_its_position_closed(broken: Any) -> None:
    hand = Hand.ready(
        spec(by_bar(Signal(0.5), broken, LONG, LONG), name="bad"), spec(by_bar(Signal(0.5), None, LONG), name="good")
    )
    hand.open()
    said = hand.bar()
    (alert,) = alerts(said, Severity.CRITICAL)
    assert alert.subject == "strategy bad"
    (close,) = targets(said)
    assert (close.side, close.qty, close.reduce_only) == (Side.SELL, Decimal("0.25"), True)
    hand.fill(close)
    said = hand.bar()
    assert alerts(said) == []
    (more,) = targets(said)
    assert more.qty == Decimal("0.25")  # the other goes on, with its own half of the budget
    hand.fill(more)
    assert hand.bar() == []
    msgspec.json.encode(hand.said)
    again = Hand.ready(spec(by_bar(), name="bad"), spec(by_bar(), name="good"), start=False)
    again.kernel.load(hand.kernel.snapshot())
    again.now_ns = hand.now_ns
    assert again.bar() == []


def test_a_strategy_that_cannot_be_set_up_is_a_configuration_error() -> None:
    failing = type(scripted(lambda view: None))
    broken = type("Broken", (failing,), {"setup": lambda self: 1 / 0 if False else self.feature(None)})
    with pytest.raises(ConfigError, match="strategy s"):
        Hand.ready(spec(broken()))


# ---- everything else ------------------------------------------------------------------------------------------------


def test_what_only_informs_says_nothing() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    now = hand.now_ns
    for event in (
        MarkPrice(BTC, now, now, 101.0),
        Quote(BTC, now, now, 99.0, 103.0, 1.0, 1.0),
        Trade(BTC, now, now, 100.0, 1.0, True),
        Depth(BTC, now, now, ((99.0, 1.0),), ((101.0, 1.0),)),
        FundingRate(BTC, now, now, 0.0001),
    ):
        assert hand.give(event) == []
    assert hand.kernel.last_prices == {BTC: 101.0}
    (gap,) = hand.give(FeedGap(None, now, now, now - 1, "lost"))
    assert isinstance(gap, Alert)


def test_money_that_comes_and_goes_is_equity() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    hand.open(100.0)
    now = hand.now_ns
    hand.give(FundingPaid(BTC, Decimal("-1.25"), 0.0001, 100.0, now, now))
    hand.give(Transfer("USDT", Decimal(500), now, now))
    hand.give(Quote(BTC, now, now, 109.0, 111.0, 1.0, 1.0))
    wanted = CAPITAL + 500 - Decimal("1.25") - Decimal("0.05") + 10
    assert hand.kernel.equity_at({BTC: Decimal(110)}) == wanted
    assert hand.kernel.equity_usdt == float(wanted)
    assert hand.kernel.ledger.equity({BTC: Decimal(110)}) == wanted


def test_a_bar_of_another_interval_or_instrument_is_a_price_only() -> None:
    hand = Hand.ready(spec(by_bar(LONG)))
    assert hand.bar(100.0, InstrumentId("DOGEUSDT")) == []
    assert hand.kernel.last_prices[InstrumentId("DOGEUSDT")] == 100.0


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_happens_nothing_raises_and_the_books_agree(data: st.DataObject) -> None:
    """Random days: reports in any order, twice, of orders long gone; operators, gaps, funding, bars missing.

    What is booked agrees with an account that counts each trade once; every order is answered for by the gate's limits.
    """
    draw = data.draw
    strengths = draw(
        st.lists(st.sampled_from([None, LONG, SHORT, FLAT, Signal(0.6, 97.0), Signal(-0.6, 103.0)]), max_size=40)
    )
    listed = [contract(BTC, market_max_qty="0.7"), contract(ETH)]
    hand = Hand.ready(spec(by_bar(*strengths), BTC, ETH), instruments=listed)
    sent: list[ApprovedOrder] = []
    given_: list[OrderFilled] = []
    booked: dict[InstrumentId, Decimal] = {BTC: Decimal(0), ETH: Decimal(0)}
    price = 100.0

    def give(event: Any) -> None:
        sent.extend(orders(hand.give(event)))

    for _ in range(draw(st.integers(1, 40))):
        now = hand.now_ns
        what = draw(st.sampled_from(["bar", "bar", "fill", "fill", "again", "report", "operator", "other"]))
        if what == "bar":
            price = max(50.0, price + draw(st.sampled_from([-6.0, -1.0, 0.0, 1.0, 6.0])))
            sent.extend(orders(hand.bar(price, BTC)))
            if draw(st.booleans()):
                sent.extend(orders(hand.bar(price, ETH, after=0)))
        elif what == "fill" and sent:
            order = draw(st.sampled_from(sent))
            known = next((each for each in hand.kernel.open_orders if each.approved.id == order.id), None)
            if known is not None:
                qty = known.remaining if draw(st.booleans()) else min(known.remaining, Decimal("0.05"))
                fill = hand.filled(order, price, str(qty))
                given_.append(fill)
                booked[order.instrument] += order.side.sign * qty
                give(fill)
        elif what == "again" and given_:
            give(draw(st.sampled_from(given_)))
        elif what == "report" and sent:
            order = draw(st.sampled_from(sent))
            name, where = order.id, order.instrument
            give(
                draw(
                    st.sampled_from(
                        [
                            OrderAccepted(name, where, 1, now, now),
                            OrderCanceled(name, where, now, now),
                            OrderExpired(name, where, "x", now, now),
                            OrderRejected(name, where, "-1", "x", now, now),
                            OrderTriggered(name, where, now, now),
                            OrderUncertain(name, where, "x", now, now),
                            OrderAmended(name, where, order.qty, None, None, now, now),
                        ]
                    )
                )
            )
        elif what == "operator":
            sent.extend(
                orders(hand.operate(draw(st.sampled_from([Operation.PAUSE, Operation.RESUME, Operation.FLATTEN]))))
            )
        else:
            give(
                draw(
                    st.sampled_from(
                        [
                            TimerFired(GRACE_TIMER, now, now),
                            FundingPaid(ETH, Decimal("0.01"), 0.0001, price, now, now),
                            VenueStatus(draw(st.sampled_from(VenueState)), "", now, now),
                            Quote(BTC, now, now, price - 1.0, price + 1.0, 1.0, 1.0),
                            FeedGap(BTC, now, now, now - 1, "x"),
                        ]
                    )
                )
            )
    for name, qty in booked.items():
        assert hand.kernel.ledger.position(name).qty == qty
    assert len({order.id for order in sent}) == len(sent)
    for command in hand.said:
        assert not isinstance(command, CancelOrder) or command.id in {order.id for order in sent}
    hand.kernel.snapshot()
