"""The tally: whatever is filled, round trips add up to the cash that moved, to the last digit."""

from collections.abc import Sequence
from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.app.tally import Tally, plain
from tidegate.domain.account import FundingPaid
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.market import DAY_NS
from tidegate.domain.orders import FillCause, OrderFilled, Side
from tidegate.domain.round_trips import RoundTrip

BTC, ETH = InstrumentId("BTCUSDT"), InstrumentId("ETHUSDT")
CAPITAL = Decimal(10_000)
ZERO = Decimal(0)

Event = OrderFilled | FundingPaid


def fill(
    qty: Decimal | int | str,
    price: Decimal | int | str = 100,
    fee: Decimal | int | str = 0,
    *,
    at: int = 1,
    reference: Decimal | int | str | None = None,
    name: InstrumentId = BTC,
    cause: FillCause = FillCause.ORDER,
) -> OrderFilled:
    """A fill of a signed quantity."""
    signed = Decimal(qty)
    return OrderFilled(
        ClientOrderId(f"o{at}"),
        name,
        Side.BUY if signed > 0 else Side.SELL,
        abs(signed),
        Decimal(price),
        Decimal(fee),
        "USDT",
        at,
        False,
        at,
        at,
        cause,
        None if reference is None else Decimal(reference),
    )


def tallied(events: Sequence[Event]) -> Tally:
    tally = Tally(CAPITAL)
    tally.begin(0)
    for event in events:
        if isinstance(event, OrderFilled):
            tally.fill(event)
        else:
            tally.funded(event)
    tally.finish(10 * DAY_NS, CAPITAL)
    return tally


def only(events: Sequence[Event]) -> RoundTrip:
    (trip,) = tallied(events).trades
    return trip


# ---- any sequence of fills -------------------------------------------------------------------------------------------

quantities = st.integers(-5_000, 5_000).filter(bool).map(lambda n: Decimal(n).scaleb(-3))
prices = st.integers(1, 10**9).map(lambda n: Decimal(n).scaleb(-4))
moves = st.integers(-50, 50).map(lambda n: Decimal(n).scaleb(-4))
fees = st.integers(-(10**4), 10**8).map(lambda n: Decimal(n).scaleb(-8))
names = st.sampled_from([BTC, ETH])


@st.composite
def sequences(draw: st.DrawFn) -> list[Event]:
    """Fills of two instruments, flips among them, settlements while something is held, all closed at the end."""
    held = {BTC: ZERO, ETH: ZERO}
    events: list[Event] = []

    def add(name: InstrumentId, qty: Decimal) -> None:
        price = draw(prices)
        reference = draw(st.one_of(st.none(), moves.map(lambda move: max(price + move, Decimal("0.0001")))))
        events.append(fill(qty, price, draw(fees), at=len(events) + 1, reference=reference, name=name))
        held[name] += qty

    for name, qty, settled in draw(st.lists(st.tuples(names, quantities, st.booleans()), max_size=25)):
        add(name, draw(st.sampled_from([qty, -held[name] or qty, -2 * held[name] or qty])))
        if settled and held[name]:
            at = len(events) + 1
            events.append(FundingPaid(name, draw(fees), 0.0001, 100.0, at, at))
    for name, qty in held.items():
        if qty:
            add(name, -qty)
    return events


def total(trips: Sequence[RoundTrip], part: str) -> Decimal:
    return sum((getattr(trip, part) for trip in trips), ZERO)


@settings(max_examples=200, deadline=None)
@given(sequences())
def test_round_trips_add_up_to_the_cash_that_moved(events: list[Event]) -> None:
    tally = tallied(events)
    filled = [event for event in events if isinstance(event, OrderFilled)]
    with localcontext(prec=80):
        for name in (BTC, ETH):
            trips = [trip for trip in tally.trades if trip.instrument == name]
            mine = [each for each in filled if each.instrument == name]
            cash = sum((-each.side.sign * each.qty * each.price - each.fee for each in mine), ZERO)
            funding = sum(
                (each.amount for each in events if isinstance(each, FundingPaid) and each.instrument == name), ZERO
            )
            slippage = sum(
                (each.side.sign * each.qty * (each.price - each.reference) for each in mine if each.reference), ZERO
            )
            assert total(trips, "net") == cash + funding
            assert total(trips, "fees") == sum((each.fee for each in mine), ZERO)
            assert total(trips, "funding") == funding
            assert total(trips, "slippage") == slippage
            row = tally.per_symbol().get(name)
            if row is not None:
                assert (row["fills"], row["trades"]) == (len(mine), len(trips))
                assert row["net_usdt"] == plain(cash + funding)
        assert tally.fees == sum((each.fee for each in filled), ZERO)
        assert tally.funding == total(tally.trades, "funding")
        assert tally.slippage == total(tally.trades, "slippage")
    assert tally.fills == len(filled)


@settings(max_examples=200, deadline=None)
@given(sequences())
def test_a_trip_lies_between_flat_and_flat_or_a_flip(events: list[Event]) -> None:
    """Against a position kept by hand: one trip per time that it reaches zero or goes through it, on its side."""
    expected: list[tuple[InstrumentId, int, int, int]] = []
    held, opened = {BTC: ZERO, ETH: ZERO}, {BTC: 0, ETH: 0}
    for event in events:
        if isinstance(event, OrderFilled):
            before, after = held[event.instrument], held[event.instrument] + event.side.sign * event.qty
            if before == 0:
                opened[event.instrument] = event.ts_ns
            elif before * after <= 0:
                expected.append((event.instrument, 1 if before > 0 else -1, opened[event.instrument], event.ts_ns))
                opened[event.instrument] = event.ts_ns
            held[event.instrument] = after
    trips = tallied(events).trades
    assert [(each.instrument, each.side, each.opened_ns, each.closed_ns) for each in trips] == expected
    assert all(each.max_qty > 0 for each in trips)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_a_long_trip_in_two_parts() -> None:
    trip = only(
        [fill(1, 100, "0.1", at=1), fill(3, 104, "0.3", at=2), fill(-2, 110, "0.2", at=3), fill(-2, 100, "0.2", at=4)]
    )
    assert (trip.side, trip.max_qty, trip.opened_ns, trip.closed_ns) == (1, 4, 1, 4)
    assert (trip.entry_price, trip.exit_price) == (103, 105)
    assert (trip.price_pnl, trip.fees, trip.net) == (8, Decimal("0.8"), Decimal("7.2"))


def test_a_short_trip_earns_when_prices_fall_and_receives_funding() -> None:
    paid = FundingPaid(BTC, Decimal("0.5"), 0.0001, 100.0, 2, 2)
    trip = only([fill(-2, 100, "0.1", at=1), paid, fill(2, 90, "0.1", at=3)])
    assert (trip.side, trip.price_pnl, trip.funding) == (-1, 20, Decimal("0.5"))
    assert trip.net == Decimal("20.3")


def test_slippage_is_the_fill_against_its_reference() -> None:
    trip = only([fill(2, 101, reference=100, at=1), fill(-2, 109, reference=110, at=2)])
    assert (trip.price_pnl, trip.slippage, trip.net) == (20, 4, 16)


def test_a_flip_ends_one_trip_and_begins_the_next_and_shares_its_fee() -> None:
    tally = tallied([fill(1, 100, at=1), fill(-3, 110, "0.9", at=2), fill(2, 100, "0.2", at=3)])
    first, second = tally.trades
    assert (first.side, first.net, first.fees) == (1, Decimal("9.7"), Decimal("0.3"))
    assert (second.side, second.max_qty, second.opened_ns) == (-1, 2, 2)
    assert (second.net, second.fees) == (Decimal("19.2"), Decimal("0.8"))


@pytest.mark.parametrize("cause", [FillCause.LIQUIDATION, FillCause.SETTLEMENT, FillCause.DELEVERAGING])
def test_the_venues_own_acts_are_named(cause: FillCause) -> None:
    assert only([fill(1, at=1), fill(-1, at=2, cause=cause)]).exit_reason == cause.name.lower()


def test_what_is_still_open_is_no_trade_but_its_costs_count() -> None:
    tally = tallied([fill(1, 101, "0.1", at=1, reference=100)])
    assert tally.trades == []
    assert (tally.fees, tally.slippage) == (Decimal("0.1"), 1)
    assert tally.per_symbol()[BTC]["win_rate"] is None


def test_turnover_is_notional_a_year_over_mean_equity() -> None:
    tally = tallied([fill(50, 100, at=1), fill(-50, 100, at=2)])
    assert tally.turnover() == pytest.approx(1.0 / (10 / 365))


def test_a_run_of_no_time_has_no_turnover() -> None:
    tally = Tally(CAPITAL)
    tally.begin(5)
    tally.finish(5, CAPITAL)
    assert tally.turnover() is None
    assert tally.equity == [(5, CAPITAL)]


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0"), ("-0.00", "0"), ("1E+3", "1000"), ("10.500", "10.5"), ("1E-8", "0.00000001"), ("-2.0", "-2")],
)
def test_money_is_plain_text(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text
