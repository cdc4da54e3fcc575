"""Days that happened: a bad print, dead contracts, funding every two hours, a crash. On stored data of the venue."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tests.unit.simulator.bench import Orders, contract, only
from tests.unit.simulator.markets import drive
from tidegate.adapters.files.history import DataFolder
from tidegate.domain.account import FundingPaid
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import HOUR_NS, Bar, BarSpec, FundingRate, InstrumentStatus
from tidegate.domain.messages import Command, Event
from tidegate.domain.orders import FillCause, OrderFilled, Side
from tidegate.quant.bars import BarTable
from tidegate.simulator.exchange import Exchange
from tidegate.simulator.frictions import Frictions
from tidegate.simulator.session import Chunk, Session

BTC, ETH, SOL = InstrumentId("BTCUSDT"), InstrumentId("ETHUSDT"), InstrumentId("SOLUSDT")
FTT, WAVES = InstrumentId("FTTUSDT"), InstrumentId("WAVESUSDT")


def ns(text: str) -> Nanos:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


class Stored:
    """Hourly bars of some contracts between two times."""

    def __init__(self, shared: Path, start: str, end: str, *, marks: bool = True) -> None:
        self.folder = DataFolder(shared / "data/um")
        self.span = ns(start), ns(end)
        self.with_marks = marks

    def chunks(self, instrument: InstrumentId) -> Iterator[Chunk]:
        return map(Chunk, self.folder.bars(instrument, BarSpec.of("1h"), *self.span))

    def funding(self, instrument: InstrumentId) -> Iterator[FundingRate]:
        return self.folder.funding(instrument, *self.span)

    def marks(self, instrument: InstrumentId) -> Iterator[BarTable]:
        return self.folder.marks(instrument, *self.span) if self.with_marks else iter(())

    def session(self, *names: InstrumentId, deposit: int = 1_000_000) -> Session:
        listed = [contract(name, tick=Decimal("0.0001"), min_price=Decimal("0.0001")) for name in names]
        return Session(Exchange(listed, Decimal(deposit), Frictions()), names, self)


def at_first_close(instrument: InstrumentId, side: Side, qty: str) -> Callable[[Event], list[Command]]:
    """One market order when the first bar of a contract has closed."""
    orders: list[Command] = [Orders().make(side, qty, instrument=instrument)]

    def answer(event: Event) -> list[Command]:
        return [orders.pop()] if orders and isinstance(event, Bar) and event.instrument == instrument else []

    return answer


@pytest.mark.parametrize("marks", [True, False])
def test_the_bad_print_of_eth_liquidates_a_short_only_when_the_mark_is_not_known(shared: Path, marks: bool) -> None:
    """2020-03-13: a high of 323.00 in a market below 150. The mark price never saw it."""
    stored = Stored(shared, "2020-03-13T00:00", "2020-03-14T00:00", marks=marks)
    session = stored.session(ETH, deposit=1_500)
    events = drive(session, at_first_close(ETH, Side.SELL, "10"))
    (bad,) = [bar for bar in only(events, Bar) if bar.high == 323.0]
    assert bad.open < 150 > bad.close
    causes = [fill.cause for fill in only(events, OrderFilled)]
    assert causes == [FillCause.ORDER] + [FillCause.LIQUIDATION] * (not marks)
    assert session.exchange.liquidations == (not marks)


@pytest.mark.parametrize(
    ("name", "start", "end", "last_trade"),
    [
        (FTT, "2022-11-10T00:00", "2022-11-20T00:00", "2022-11-14T04:00"),
        (WAVES, "2024-06-08T00:00", "2024-06-20T00:00", "2024-06-11T08:00"),
    ],
)
def test_a_dead_contract_is_settled_a_day_after_its_last_trade(
    shared: Path, name: InstrumentId, start: str, end: str, last_trade: str
) -> None:
    stored = Stored(shared, start, end)
    session = stored.session(BTC, name)
    events = drive(session, at_first_close(name, Side.BUY, "100"))
    dead_ns = session.delisted[name]
    bars = [bar for bar in only(events, Bar) if bar.instrument == name]
    traded = [bar for bar in bars if bar.volume > 0.0]
    assert traded[-1].ts_ns - HOUR_NS <= ns(last_trade) <= traded[-1].ts_ns
    assert dead_ns == traded[-1].ts_ns + 24 * HOUR_NS == bars[-1].ts_ns
    settled = only(events, OrderFilled)[-1]
    assert (settled.cause, settled.ts_ns, settled.price) == (
        FillCause.SETTLEMENT,
        dead_ns,
        Decimal(repr(traded[-1].close)),
    )
    assert session.exchange.ledger.position(name).qty == 0
    assert [status.instrument for status in only(events, InstrumentStatus)] == [name]
    assert only(events, Bar)[-1].instrument == BTC


def test_a_dying_contract_is_not_known_to_die_before_it_has(shared: Path) -> None:
    whole = drive(Stored(shared, "2022-11-10T00:00", "2022-11-20T00:00").session(FTT))
    for end in ("2022-11-14T05:00", "2022-11-15T04:00", "2022-11-15T05:00"):
        cut = drive(Stored(shared, "2022-11-10T00:00", end).session(FTT))
        assert cut == whole[: len(cut)]
        assert bool(only(cut, InstrumentStatus)) is (end == "2022-11-15T05:00")


def test_sol_settled_every_two_hours_in_november_2022(shared: Path) -> None:
    stored = Stored(shared, "2022-11-09T00:00", "2022-11-19T00:00")
    events = drive(stored.session(SOL), at_first_close(SOL, Side.BUY, "100"))
    rates, paid = only(events, FundingRate), only(events, FundingPaid)
    steps = np.diff([rate.ts_ns for rate in rates]) // HOUR_NS
    assert set(steps.tolist()) == {2, 4, 8}
    assert (steps == 2).sum() == 98
    assert [each.ts_ns for each in paid] == [rate.ts_ns for rate in rates if rate.ts_ns > events[0].recv_ns + HOUR_NS]
    closes = {bar.ts_ns: bar.close for bar in only(events, Bar)}
    for each in paid:
        due = Decimal(100) * Decimal(repr(closes[each.ts_ns])) * Decimal(repr(each.rate))
        assert abs(each.amount + due) <= Decimal("5E-9")
        assert each.mark_is_last


def test_contracts_join_with_their_first_bar(shared: Path) -> None:
    session = Stored(shared, "2020-09-13T00:00", "2020-09-16T00:00").session(BTC, SOL)
    events = drive(session)
    first = next(bar for bar in only(events, Bar) if bar.instrument == SOL)
    assert first.ts_ns == ns("2020-09-14T08:00")
    assert (session.missing_bars, session.delisted) == (0, {})


def test_a_long_of_ten_times_the_equity_did_not_live_through_march_2020(shared: Path) -> None:
    session = Stored(shared, "2020-03-12T00:00", "2020-03-14T00:00").session(BTC, deposit=8_000)
    events = drive(session, at_first_close(BTC, Side.BUY, "10"))
    last = only(events, OrderFilled)[-1]
    assert last.cause is FillCause.LIQUIDATION
    assert session.exchange.ledger.wallet >= 0
    assert session.exchange.equity({}) == session.exchange.ledger.wallet
