"""The ExecutionVenue port: requests return when sent, what became of them comes as reports."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

import msgspec
import pytest

from tests.fakes.journal import MemoryJournal
from tests.fakes.local_exchange import local_exchange
from tests.fakes.orders import MARKET_BUY
from tests.fakes.small_demo import CAPITAL, rig
from tests.fakes.venue import FakeClock, FakeFeed, FakeVenue
from tidegate.adapters.sim.pace import Pace
from tidegate.adapters.sim.paper import PaperVenue
from tidegate.domain.account import AccountSnapshot, Balance
from tidegate.domain.errors import InvariantBroken
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.market import Quote
from tidegate.domain.messages import ExecutionReport, TakeSnapshot
from tidegate.domain.orders import (
    AmendOrder,
    ApprovedOrder,
    CancelOrder,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderFilled,
    OrderNotFound,
    OrderType,
    QueryOrder,
)
from tidegate.ports import ExecutionVenue
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE

BTC = InstrumentId("BTCUSDT")


def far_limit(number: int) -> ApprovedOrder:
    """A purchase a tenth below the price: it rests."""
    return msgspec.structs.replace(
        MARKET_BUY,
        id=ClientOrderId(f"p1-demo-0-{number}-0"),
        qty=Decimal("0.1"),
        order_type=OrderType.LIMIT,
        limit=Decimal("38000.0"),
    )


async def drop(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


NOW = TakeSnapshot("look", (), 0, "the test asks")
T = TypeVar("T", bound=ExecutionReport)


@dataclass
class Bench:
    """A venue with prices, and what it reports."""

    venue: ExecutionVenue
    reports: AsyncIterator[ExecutionReport]
    seen: set[type] = field(default_factory=set)

    async def next(self, kind: type[T], order: ApprovedOrder) -> T:
        """The next report about an order, which is of this kind; what an answer and an event both say comes twice."""
        async with asyncio.timeout(20):
            async for report in self.reports:
                if isinstance(report, kind):
                    assert report.id == order.id  # type: ignore[attr-defined]
                    self.seen.add(kind)
                    return report
                assert type(report) in self.seen or not hasattr(report, "id"), report
        raise AssertionError("the reports have ended")


@asynccontextmanager
async def simulated() -> AsyncIterator[Bench]:
    venue = rig(lambda _: MemoryJournal()).venue
    await venue.snapshot(NOW)
    market = venue.stream(())
    for _ in range(8):  # prices are known from here on
        await anext(market)
    others = [asyncio.create_task(drop(each)) for each in (market, venue.fired())]
    yield Bench(venue, venue.reports())
    for other in others:
        other.cancel()


@asynccontextmanager
async def fake() -> AsyncIterator[Bench]:
    venue = FakeVenue(DEFAULT_UNIVERSE, AccountSnapshot(1, 1, (Balance("USDT", CAPITAL),), (), ()))
    yield Bench(venue, venue.reports())


@asynccontextmanager
async def paper() -> AsyncIterator[Bench]:
    feed = FakeFeed([Quote(BTC, 1, 1, bid=42_000.0, ask=42_000.1, bid_qty=50.0, ask_qty=50.0)])
    feed.queue.put_nowait(None)
    venue = PaperVenue(feed, DEFAULT_UNIVERSE, CAPITAL, FakeClock(1))
    await venue.start()
    await drop(venue.stream(()))
    yield Bench(venue, venue.reports())
    await venue.stop()


@asynccontextmanager
async def real() -> AsyncIterator[Bench]:
    """Over loopback, with the account of the local exchange."""
    async with local_exchange() as local:
        venue = await local.venue()
        await venue.start()
        try:
            yield Bench(venue, venue.reports())
        finally:
            await venue.stop()


MAKERS: dict[str, Callable[[], AbstractAsyncContextManager[Bench]]] = {
    "SimVenue": simulated,
    "FakeVenue": fake,
    "PaperVenue": paper,
    "BinanceVenue": real,
}


@pytest.fixture(params=MAKERS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with MAKERS[request.param]() as made:
        yield made


async def test_the_snapshot_is_the_account(bench: Bench) -> None:
    first = await bench.venue.snapshot(NOW)
    assert [(each.asset, each.wallet) for each in first.balances if each.wallet] == [("USDT", CAPITAL)]
    assert (first.name, first.positions, first.open_orders) == (NOW.name, (), ())
    assert (await bench.venue.snapshot(NOW)).balances == first.balances


async def test_the_venue_lists_its_contracts(bench: Bench) -> None:
    assert BTC in {each.id for each in await bench.venue.instruments()}
    await bench.venue.keep_alive(60_000)


async def test_an_order_is_accepted_found_changed_and_cancelled(bench: Bench) -> None:
    order, venue = far_limit(1), bench.venue
    await venue.submit(order)
    accepted = await bench.next(OrderAccepted, order)

    await venue.query(QueryOrder(order.id, BTC))
    again = await bench.next(OrderAccepted, order)
    assert again.venue_id == accepted.venue_id

    await venue.amend(AmendOrder(order.id, BTC, Decimal("0.2"), Decimal("37990.0"), None))
    amended = await bench.next(OrderAmended, order)
    assert (amended.qty, amended.limit) == (Decimal("0.2"), Decimal("37990.0"))

    await venue.cancel(CancelOrder(order.id, BTC))
    await bench.next(OrderCanceled, order)


async def test_about_an_order_that_is_not_there_the_venue_says_at_most_that(bench: Bench) -> None:
    await bench.venue.query(QueryOrder(far_limit(1).id, BTC))
    await bench.venue.cancel(CancelOrder(far_limit(1).id, BTC))
    await bench.venue.submit(far_limit(2))
    async with asyncio.timeout(20):
        async for report in bench.reports:
            if isinstance(report, OrderAccepted):
                assert report.id == far_limit(2).id
                return
            assert isinstance(report, OrderNotFound)
            assert report.id == far_limit(1).id


@pytest.mark.parametrize("kind", ["SimVenue", "PaperVenue", "BinanceVenue"])
async def test_what_a_market_order_did_is_reported_once_and_stands_in_the_next_snapshot(kind: str) -> None:
    order = msgspec.structs.replace(far_limit(3), order_type=OrderType.MARKET, limit=None)
    async with MAKERS[kind]() as bench:
        await bench.venue.submit(order)
        fills: list[OrderFilled] = []
        async with asyncio.timeout(20):
            async for report in bench.reports:
                if isinstance(report, OrderFilled):
                    fills.append(report)
                    if sum(fill.qty for fill in fills) >= order.qty:
                        break
        assert sum(fill.qty for fill in fills) == order.qty
        assert len({fill.trade_id for fill in fills}) == len(fills)
        assert all(fill.fee > 0 for fill in fills)
        snapshot = await bench.venue.snapshot(NOW)
        assert [(each.instrument, each.qty) for each in snapshot.positions] == [(BTC, order.qty)]
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                async for report in bench.reports:
                    assert not isinstance(report, OrderFilled), "told twice"


async def test_the_simulated_market_moves_only_when_the_last_event_was_handled() -> None:
    venue = rig(lambda _: MemoryJournal()).venue
    market, reports = venue.stream(()), venue.reports()
    waiting = asyncio.ensure_future(anext(market))
    await asyncio.sleep(0)
    snapshot = await anext(reports)
    assert isinstance(snapshot, AccountSnapshot)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done(), "the snapshot is still being handled"
    rest = asyncio.ensure_future(anext(reports))
    await waiting
    held_ns = venue.clock.now_ns()
    for _ in range(10):
        await asyncio.sleep(0)
    assert venue.clock.now_ns() == held_ns, "the market event is still being handled"
    rest.cancel()


async def test_a_simulated_market_that_is_closed_still_delivers_what_happened_to_the_account() -> None:
    venue = rig(lambda _: MemoryJournal()).venue
    await venue.snapshot(NOW)
    market = venue.stream(())
    for _ in range(8):
        await anext(market)
    for number in (1, 2):
        await venue.submit(far_limit(number))
    venue.close()
    others = [asyncio.create_task(drop(each)) for each in (market, venue.fired())]
    assert [type(report) async for report in venue.reports()] == [OrderAccepted, OrderAccepted]
    await asyncio.gather(*others)


async def test_each_simulated_stream_has_one_consumer() -> None:
    venue = rig(lambda _: MemoryJournal()).venue
    first = asyncio.ensure_future(anext(venue.fired()))
    await asyncio.sleep(0)
    with pytest.raises(InvariantBroken, match="two consumers"):
        await anext(venue.fired())
    first.cancel()


async def test_a_market_in_a_hurry_still_lets_the_loop_breathe() -> None:
    venue = rig(lambda _: MemoryJournal()).venue
    others = [asyncio.ensure_future(drop(each)) for each in (venue.stream(()), venue.reports(), venue.fired())]
    for _ in range(20):
        await asyncio.sleep(0.001)  # returns only because the market yields
    venue.close()
    await asyncio.gather(*others)


def test_the_pace_runs_history_without_waiting_then_at_its_speed() -> None:
    wall_s = [100.0]
    pace = Pace(60.0, 1_000_000_000_000, wall_s=lambda: wall_s[0])
    second = 1_000_000_000
    assert pace.delay_s(5 * second) == 0.0
    assert pace.live_from_ns == 1005 * second
    assert pace.delay_s(1004 * second) == 0.0
    assert pace.delay_s(1010 * second) == 0.0  # the first live event sets the anchor
    assert pace.delay_s(1070 * second) == pytest.approx(1.0)
    wall_s[0] += 0.75
    assert pace.delay_s(1070 * second) == pytest.approx(0.25)
    wall_s[0] += 3600.0  # the machine slept
    assert pace.delay_s(1070 * second) < 0.0
    assert pace.delay_s(1130 * second) == pytest.approx(1.0)
    pace.hurry()
    assert pace.delay_s(10**18) == 0.0


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_that_leads_nowhere_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be positive"):
        Pace(speed)
