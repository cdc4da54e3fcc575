"""The order of one instant, and who is in the market when."""

from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.simulator.bench import BUY, COIN, OTHER, SELL, START_NS, Orders, fills, names, only, table
from tests.unit.simulator.markets import Market, drive, hours
from tidegate.domain.account import AccountSnapshot, FundingPaid
from tidegate.domain.errors import OutOfOrder
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import DAY_NS, HOUR_NS, MINUTE_NS, Bar, InstrumentStatus, MarkPrice, Quote
from tidegate.domain.messages import GRACE_TIMER, Command, Event, SetTimer, TimerFired
from tidegate.domain.orders import ApprovedOrder, CancelOrder, FillCause, OrderAccepted, OrderCanceled, OrderFilled
from tidegate.quant.bars import BarTable
from tidegate.simulator.session import Chunk

THIRD = InstrumentId("THIRDUSDT")
FLAT = (100.0, 100.0, 100.0, 100.0, 10.0)
MOVES = (100.0, 110.0, 90.0, 100.0, 10.0)
EMPTY = (100.0, 100.0, 100.0, 100.0, 0.0)
GAP: tuple[float, ...] = ()


class Script:
    """Orders to be sent at the close of the bar of an hour, or in answer to the first fill of an order."""

    def __init__(self) -> None:
        self.orders = Orders()
        self.at_close: dict[tuple[InstrumentId, int], list[Command]] = {}
        self.at_fill: dict[str, list[Command]] = {}

    def __call__(self, event: Event) -> Iterable[Command]:
        if isinstance(event, Bar):
            return self.at_close.pop((event.instrument, event.ts_ns), ())
        if isinstance(event, OrderFilled):
            return self.at_fill.pop(event.id, ())
        return ()

    def close(self, hour: int, *commands: Command, instrument: InstrumentId = COIN) -> None:
        self.at_close.setdefault((instrument, hours(hour)), []).extend(commands)

    def fill(self, order: ApprovedOrder, *commands: Command) -> None:
        self.at_fill.setdefault(order.id, []).extend(commands)


def story(events: Iterable[Event]) -> list[tuple[float, str]]:
    """Hour, kind and instrument of each event."""
    told = []
    for event in events:
        name = getattr(event, "instrument", None) or getattr(event, "name", "")
        told.append(((event.recv_ns - START_NS) / HOUR_NS, f"{type(event).__name__} {name}".strip()))
    return told


# ---- the order of one instant ----------------------------------------------------------------------------------------


def test_the_order_of_one_instant() -> None:
    marks = table([(100.0, 101.0, 99.0, 100.5, 0.0)] * 3)
    market = Market(
        {COIN: table([FLAT, FLAT, MOVES, FLAT]), OTHER: table([FLAT, FLAT, MOVES])},
        {OTHER: [(3, 0.0002)], COIN: [(3, 0.0001)]},
        {COIN: marks},
    )
    script, make = Script(), Script().orders.make
    enter, also = make(BUY, 1), make(SELL, 1, instrument=OTHER)
    stop, limit = make(SELL, 1, stop="95", reduce=True), make(BUY, 1, limit="92")
    late = make(BUY, 2)
    script.close(1, enter, also, SetTimer("noon", hours(3)))
    script.fill(enter, stop, limit)
    script.close(3, late)
    events = drive(market.session(), script)
    at = [text for hour, text in story(events) if hour == 3.0]
    assert at == [
        "OrderTriggered COINUSDT",  # 1. ranges: the stop, then the limit
        "OrderFilled COINUSDT",
        "OrderFilled COINUSDT",
        "FundingRate COINUSDT",  # 2. settlements, on what is held after the ranges
        "FundingPaid COINUSDT",
        "FundingRate OTHERUSDT",
        "FundingPaid OTHERUSDT",
        "TimerFired noon",  # 3. timers
        "MarkPrice COINUSDT",  # 4. marks, then closed bars
        "Bar COINUSDT",
        "OrderAccepted COINUSDT",
        "Bar OTHERUSDT",
        "OrderFilled COINUSDT",  # 5. opens
    ]
    assert [fill.id for fill in only(events, OrderFilled)] == [enter.id, also.id, stop.id, limit.id, late.id]
    paid = {each.instrument: each for each in only(events, FundingPaid)}
    assert (paid[COIN].mark, paid[COIN].mark_is_last, paid[COIN].amount) == (100.5, False, Decimal("-0.01005"))
    assert (paid[OTHER].mark, paid[OTHER].mark_is_last, paid[OTHER].amount) == (100.0, True, Decimal("0.02"))


def test_it_begins_with_the_account_and_the_start_and_bars_come_in_the_order_of_instruments() -> None:
    events = drive(Market({OTHER: table([FLAT] * 2), COIN: table([FLAT] * 2)}).session())
    assert story(events) == [
        (0.0, "AccountSnapshot"),
        (0.0, "OperatorCommand"),
        (1.0, "Bar OTHERUSDT"),
        (1.0, "Bar COINUSDT"),
        (2.0, "Bar OTHERUSDT"),
        (2.0, "Bar COINUSDT"),
    ]
    (shot,) = only(events, AccountSnapshot)
    assert shot.balances[0].wallet == 1_000_000


def test_the_stop_that_answers_an_open_guards_that_same_bar() -> None:
    market = Market({COIN: table([FLAT, MOVES, FLAT])})
    script, make = Script(), Script().orders.make
    enter, stop = make(BUY, 1), make(SELL, 1, stop="95", reduce=True)
    script.close(1, enter)
    script.fill(enter, stop)
    events = drive(market.session(), script)
    assert fills(events) == [(BUY, 1, 100), (SELL, 1, 95)]
    assert story(events)[4:8] == [
        (1.0, "OrderFilled COINUSDT"),
        (1.0, "OrderAccepted COINUSDT"),
        (2.0, "OrderTriggered COINUSDT"),
        (2.0, "OrderFilled COINUSDT"),
    ]


def test_an_answer_to_one_range_does_not_meet_the_range_of_another_that_has_passed() -> None:
    market = Market({COIN: table([FLAT, FLAT, MOVES, FLAT]), OTHER: table([FLAT, FLAT, MOVES, FLAT])})
    script, make = Script(), Script().orders.make
    stop = make(BUY, 1, stop="105")
    script.close(2, stop)
    script.fill(stop, make(BUY, 1, instrument=OTHER, limit="95"), make(SELL, 1, instrument=OTHER))
    events = drive(market.session(), script)
    assert [(fill.instrument, fill.side, fill.price, fill.ts_ns) for fill in only(events, OrderFilled)] == [
        (COIN, BUY, 105, hours(3)),
        (OTHER, SELL, 100, hours(3)),
    ]
    assert story(events)[-3:] == [(3.0, "OrderFilled OTHERUSDT"), (4.0, "Bar COINUSDT"), (4.0, "Bar OTHERUSDT")]


def test_a_cancel_that_answers_a_close_is_in_time_for_the_next_bar() -> None:
    market = Market({COIN: table([FLAT, FLAT, MOVES])})
    script, make = Script(), Script().orders.make
    limit = make(BUY, 1, limit="95")
    script.close(1, limit)
    script.close(2, CancelOrder(limit.id, COIN))
    events = drive(market.session(), script)
    assert not only(events, OrderFilled)
    assert only(events, OrderCanceled)[0].ts_ns == hours(2)


def test_a_known_spread_is_quoted_before_the_open() -> None:
    bars = table([FLAT, FLAT])
    market = Market({COIN: [Chunk(bars, [0.001, 0.002], [5.0, 6.0])]})
    script = Script()
    script.close(1, script.orders.make(BUY, 1))
    events = drive(market.session(), script)
    first, second = only(events, Quote)
    assert (first.ts_ns, first.bid, first.ask, first.bid_qty) == (START_NS, 99.9, 100.1, 5.0)
    assert (second.ts_ns, second.ask_qty) == (hours(1), 6.0)
    assert fills(events) == [(BUY, 1, Decimal("100.2"))]


# ---- timers ----------------------------------------------------------------------------------------------------------


def test_timers_fire_at_their_time_in_order_and_once() -> None:
    def answer(event: Event) -> list[Command]:
        if isinstance(event, AccountSnapshot):
            return [SetTimer("b", hours(0.75)), SetTimer("a", hours(0.5)), SetTimer("moved", hours(0.1))]
        if isinstance(event, TimerFired) and event.name == "a":
            return [SetTimer("moved", hours(1.5)), SetTimer("past", hours(0.2))]
        if isinstance(event, TimerFired) and event.ts_ns == hours(0.1):
            return [SetTimer("moved", hours(0.6))]
        return []

    events = drive(Market({COIN: table([FLAT, FLAT])}).session(), answer)
    assert [entry for entry in story(events) if "Timer" in entry[1]] == [
        (0.1, "TimerFired moved"),
        (0.5, "TimerFired a"),
        (0.5, "TimerFired past"),
        (0.75, "TimerFired b"),
        (1.5, "TimerFired moved"),
    ]
    times = [event.recv_ns for event in events]
    assert times == sorted(times)


def graced(market: Market) -> list[tuple[float, str]]:
    """The grace timers of a market in which every close asks for one."""

    def answer(event: Event) -> list[Command]:
        return [SetTimer(GRACE_TIMER, event.ts_ns + 30_000_000_000)] if isinstance(event, Bar) else []

    return [entry for entry in story(drive(market.session(), answer)) if "grace" in entry[1]]


def test_the_grace_timer_fires_exactly_when_a_bar_is_missing() -> None:
    whole = {COIN: table([FLAT] * 5), OTHER: table([FLAT] * 5)}
    assert graced(Market(whole)) == []
    holes = {COIN: table([FLAT] * 5), OTHER: table([FLAT, GAP, FLAT, GAP, GAP])}
    assert graced(Market(holes)) == [(2.0, "TimerFired grace"), (4.0, "TimerFired grace"), (5.0, "TimerFired grace")]


def test_an_empty_bar_is_not_a_missing_one() -> None:
    assert graced(Market({COIN: table([FLAT] * 3), OTHER: table([FLAT, EMPTY, FLAT])})) == []


def test_a_contract_is_missed_only_after_its_first_bar() -> None:
    late = table([FLAT] * 2, start_ns=hours(2))
    market = Market({COIN: table([FLAT] * 5), OTHER: late})
    session = market.session()
    events = drive(session)
    assert [event.ts_ns for event in only(events, Bar) if event.instrument == OTHER] == [hours(3), hours(4)]
    assert session.missing_bars == 1
    assert graced(Market(market.bars)) == [(5.0, "TimerFired grace")]


# ---- funding and marks -----------------------------------------------------------------------------------------------


def test_settlements_are_paid_at_their_own_stamps_when_the_interval_changes() -> None:
    rates = [(8, 0.001), (16, 0.001), (18, 0.002), (20, 0.002), (20.5, -0.001), (24, 0.001)]
    market = Market({COIN: table([FLAT] * 24)}, {COIN: rates})
    script = Script()
    script.close(1, script.orders.make(SELL, 1))
    script.close(20, script.orders.make(BUY, 1))
    events = drive(market.session(), script)
    assert [(each.ts_ns, each.amount) for each in only(events, FundingPaid)] == [
        (hours(8), Decimal("0.1")),
        (hours(16), Decimal("0.1")),
        (hours(18), Decimal("0.2")),
        (hours(20), Decimal("0.2")),  # bought back at the open of hour 20, after the settlement of that instant
    ]
    assert names(events).count("FundingRate") == len(rates)


def test_funding_can_be_switched_off() -> None:
    market = Market({COIN: table([FLAT] * 3)}, {COIN: [(1, 0.1), (2, 0.1)]})
    assert "FundingRate" not in names(drive(market.session(funding=False)))


def quarter_marks(*rows: tuple[float, float, float, float]) -> BarTable:
    return table([(*row, 0.0) for row in rows], interval_ns=15 * MINUTE_NS)


@pytest.mark.parametrize(("reach", "liquidated"), [(90.0, True), (99.0, False)])
def test_marks_of_a_finer_interval_make_the_range_of_the_bar(reach: float, liquidated: bool) -> None:
    calm = (100.0, 100.0, 100.0, 100.0)
    hour = [calm] * 4
    dip = [calm, calm, (100.0, 100.0, reach, 100.0), calm]
    crash = (100.0, 100.0, 10.0, 100.0, 10.0)  # a bad print of the last price
    market = Market({COIN: table([FLAT, FLAT, crash, FLAT])}, {}, {COIN: quarter_marks(*hour, *hour, *dip, *hour)})
    script = Script()
    script.close(1, script.orders.make(BUY, 100))
    events = drive(market.session(deposit=1_000), script)
    causes = [fill.cause for fill in only(events, OrderFilled)]
    assert causes == [FillCause.ORDER] + [FillCause.LIQUIDATION] * liquidated
    assert len(only(events, MarkPrice)) == 16
    assert only(events, MarkPrice)[0].ts_ns == hours(0.25)


def test_marks_that_do_not_cover_a_bar_leave_it_to_the_last_price() -> None:
    calm = (100.0, 100.0, 100.0, 100.0)
    crash = (100.0, 100.0, 10.0, 100.0, 10.0)
    market = Market({COIN: table([FLAT, FLAT, crash, FLAT])}, {}, {COIN: quarter_marks(*[calm] * 11)})
    script = Script()
    script.close(1, script.orders.make(BUY, 100))
    causes = [fill.cause for fill in only(drive(market.session(deposit=1_000), script), OrderFilled)]
    assert causes == [FillCause.ORDER, FillCause.LIQUIDATION]


def test_marks_of_a_pause_do_not_spoil_the_bar_after_it() -> None:
    crash = (100.0, 100.0, 10.0, 100.0, 10.0)
    market = Market({COIN: table([FLAT, FLAT, GAP, GAP, crash, FLAT])}, {}, {COIN: table([EMPTY] * 6)})
    script = Script()
    script.close(1, script.orders.make(BUY, 100))
    events = drive(market.session(deposit=1_000), script)
    assert [fill.cause for fill in only(events, OrderFilled)] == [FillCause.ORDER]


# ---- delisting -------------------------------------------------------------------------------------------------------


def dying(last: int, count: int) -> BarTable:
    """Trades until the close of hour ``last``, then flat bars without volume."""
    return table(
        [FLAT] * (last - 1) + [(100.0, 101.0, 97.0, 98.0, 5.0)] + [(98.0, 98.0, 98.0, 98.0, 0.0)] * (count - last)
    )


def test_a_contract_is_delisted_a_day_after_its_last_trade_and_settled_at_its_last_price() -> None:
    market = Market({COIN: dying(10, 60), OTHER: table([FLAT] * 60)}, {COIN: [(40, 0.01)]})
    script = Script()
    limit = script.orders.make(BUY, 1, limit="50")
    script.close(2, script.orders.make(BUY, 3), limit)
    session = market.session()
    events = drive(session, script)
    assert session.delisted == {COIN: hours(34)}
    assert [entry for entry in story(events) if entry[0] == 34.0] == [
        (34.0, "Bar COINUSDT"),
        (34.0, "Bar OTHERUSDT"),
        (34.0, "OrderCanceled COINUSDT"),
        (34.0, "OrderFilled COINUSDT"),
        (34.0, "InstrumentStatus COINUSDT"),
    ]
    (settled,) = [fill for fill in only(events, OrderFilled) if fill.cause is FillCause.SETTLEMENT]
    assert (settled.side, settled.qty, settled.price) == (SELL, 3, 98)
    assert not [text for hour, text in story(events) if hour > 34.0 and "COIN" in text]
    assert session.missing_bars == 0


def test_a_contract_whose_bars_end_is_delisted_too() -> None:
    session = Market({COIN: table([FLAT] * 10), OTHER: table([FLAT] * 60)}).session()
    drive(session)
    assert session.delisted == {COIN: hours(34)}
    assert session.missing_bars == 24


@pytest.mark.parametrize("hole", [GAP, EMPTY])
def test_a_pause_shorter_than_a_day_does_not_delist(hole: tuple[float, ...]) -> None:
    paused = table([FLAT] * 10 + [hole] * 23 + [FLAT] * 5)
    for others in ({}, {OTHER: table([FLAT] * 38)}):
        session = Market({COIN: paused, **others}).session()
        drive(session)
        assert session.delisted == {}


@pytest.mark.parametrize("others", [True, False])
def test_what_trades_again_after_a_longer_gap_is_another_contract(others: bool) -> None:
    reborn = table([FLAT] * 10 + [GAP] * 30 + [FLAT] * 5)
    session = Market({COIN: reborn, **({OTHER: table([FLAT] * 45)} if others else {})}).session()
    script = Script()
    script.close(2, script.orders.make(BUY, 1))
    events = drive(session, script)
    assert list(session.delisted) == [COIN]
    assert [event.ts_ns for event in only(events, Bar) if event.instrument == COIN][-1] == hours(10)
    assert [fill.cause for fill in only(events, OrderFilled)] == [FillCause.ORDER, FillCause.SETTLEMENT]


def test_delisting_can_be_switched_off() -> None:
    session = Market({COIN: dying(10, 60)}).session(delisting=False)
    assert len(only(drive(session), Bar)) == 60
    assert session.delisted == {}


def test_daily_bars_need_three_of_silence() -> None:
    rows = [FLAT] * 3 + [EMPTY] * 5
    session = Market({COIN: table(rows, interval_ns=DAY_NS)}).session()
    events = drive(session)
    assert [event.ts_ns for event in only(events, InstrumentStatus)] == [START_NS + 6 * DAY_NS]


# ---- chunks ----------------------------------------------------------------------------------------------------------


def part(bars: BarTable, *cut: int) -> BarTable:
    rows = slice(*cut)
    columns = (bars.ts_ns, bars.open, bars.high, bars.low, bars.close, bars.volume)
    return BarTable(bars.interval_ns, *(column[rows] for column in columns))


WALK = np.random.default_rng(3).uniform(-1.0, 1.0, 48).cumsum().round(1)
WALKED = table([(100 + a, 101.5 + max(a, b), 98.5 + min(a, b), 100 + b, 9.0) for a, b in pairwise(WALK.tolist())])


def buyer() -> Script:
    script = Script()
    for hour in range(1, 40, 3):
        enter = script.orders.make(BUY, 1)
        script.close(hour, enter)
        script.fill(enter, script.orders.make(SELL, 1, stop="95", reduce=True))
        script.close(hour + 1, script.orders.make(SELL, 1, reduce=True))
    return script


@given(st.lists(st.integers(0, 47), max_size=6))
def test_the_way_of_cutting_into_chunks_changes_nothing(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), 47]
    chunks = [Chunk(part(WALKED, *pair)) for pair in pairwise(edges)]
    assert drive(Market({COIN: chunks}).session(), buyer()) == drive(Market({COIN: WALKED}).session(), buyer())


@given(st.integers(1, 46))
def test_what_comes_later_changes_nothing_before(count: int) -> None:
    whole = drive(Market({COIN: WALKED}, {COIN: [(8, 0.01), (16, 0.01)]}).session(), buyer())
    cut = drive(Market({COIN: part(WALKED, 0, count)}, {COIN: [(8, 0.01), (16, 0.01)]}).session(), buyer())
    kept = [event for event in cut if event.recv_ns <= hours(count)]
    assert whole[: len(kept)] == kept


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([FLAT, MOVES, EMPTY, GAP]), min_size=1, max_size=70),
    st.lists(st.integers(0, 69), max_size=5),
    st.sets(st.integers(1, 69), max_size=5),
)
def test_the_way_of_a_lone_instrument_is_the_common_one(
    rows: list[tuple[float, ...]], cuts: list[int], settlements: set[int]
) -> None:
    bars = table([FLAT, *rows])
    edges = [0, *sorted(min(cut, len(bars)) for cut in cuts), len(bars)]
    chunks = [Chunk(part(bars, *pair)) for pair in pairwise(edges)]
    market = Market({COIN: chunks}, {COIN: [(hour, 0.01) for hour in sorted(settlements)]})
    common = market.session()
    common._undisturbed = lambda _: iter(())  # type: ignore[method-assign]
    assert drive(market.session(), buyer()) == drive(common, buyer())


def test_a_chunk_is_announced_before_its_first_bar_and_after_the_last_one_was_handled() -> None:
    seen: list[str] = []
    chunks = [Chunk(part(WALKED, 0, 2)), Chunk(part(WALKED, 2, 3))]
    session = Market({COIN: chunks}).session(on_chunk=lambda name, bars: seen.append(f"{name} {len(bars)}"))
    for event in session.events():
        seen.append(type(event).__name__)
    assert seen == ["COINUSDT 2", "AccountSnapshot", "OperatorCommand", "Bar", "Bar", "COINUSDT 1", "Bar"]


@pytest.mark.parametrize("second", [(1, 4), (0, 2), (2, 2)])
def test_chunks_that_overlap_or_run_backwards_are_refused(second: tuple[int, int]) -> None:
    market = Market({COIN: [Chunk(part(WALKED, 0, 3)), Chunk(part(WALKED, *second))]})
    if second == (2, 2):
        assert len(only(drive(market.session()), Bar)) == 3  # an empty chunk is none
        return
    with pytest.raises(OutOfOrder, match="COINUSDT: bars overlap or run backwards"):
        drive(market.session())


@pytest.mark.parametrize("shift", [0, -HOUR_NS, -HOUR_NS // 2])
def test_bars_that_overlap_inside_a_chunk_are_refused(shift: int) -> None:
    ends = WALKED.ts_ns.copy()
    ends[5] = ends[4] + (HOUR_NS + shift if shift else 0)
    broken = BarTable(HOUR_NS, ends, WALKED.open, WALKED.high, WALKED.low, WALKED.close, WALKED.volume)
    with pytest.raises(OutOfOrder):
        drive(Market({COIN: broken}).session())


def test_a_market_without_bars_has_no_events() -> None:
    assert drive(Market({COIN: []}).session()) == []
    events = drive(Market({COIN: [], OTHER: table([FLAT])}).session())
    assert names(events) == ["AccountSnapshot", "OperatorCommand", "Bar"]


def test_the_same_market_and_the_same_answers_give_the_same_events() -> None:
    market = Market({COIN: WALKED, OTHER: dying(10, 40)}, {COIN: [(8, 0.01), (16, -0.01)]}, {COIN: table([FLAT] * 40)})
    one, two = drive(market.session(), buyer()), drive(market.session(), buyer())
    assert msgspec.json.encode(one) == msgspec.json.encode(two)
    assert len(only(one, OrderAccepted)) > 20
