"""The ExecutionVenue port: requests return when sent, what became of them comes as reports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from tests.fakes.journal import MemoryJournal
from tests.fakes.small_demo import CAPITAL, rig
from tests.fakes.venue import FakeVenue
from tidegate.adapters.sim.pace import Pace
from tidegate.adapters.sim.venue import SimVenue
from tidegate.domain.account import AccountSnapshot, Balance
from tidegate.domain.errors import InvariantBroken
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.messages import ExecutionReport
from tidegate.domain.orders import (
    AmendOrder,
    ApprovedOrder,
    CancelOrder,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderType,
    PositionSide,
    Purpose,
    QueryOrder,
    Side,
    TimeInForce,
)
from tidegate.ports import ExecutionVenue
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE

BTC = InstrumentId("BTCUSDT")


def far_limit(number: int) -> ApprovedOrder:
    """A purchase at a tenth of the price: it rests."""
    return ApprovedOrder(
        ClientOrderId(f"p1-demo-0-{number}-0"),
        BTC,
        Side.BUY,
        Decimal("0.1"),
        OrderType.LIMIT,
        Decimal("4200.0"),
        None,
        TimeInForce.GTC,
        False,
        PositionSide.BOTH,
        Purpose.TARGET,
        None,
        None,
        0,
        0,
    )


async def drop(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


@pytest.fixture(params=["SimVenue", "FakeVenue"])
async def venue(request: pytest.FixtureRequest) -> ExecutionVenue:
    if request.param == "FakeVenue":
        return FakeVenue(DEFAULT_UNIVERSE, AccountSnapshot(1, 1, (Balance("USDT", CAPITAL),), (), ()))
    return rig(lambda _: MemoryJournal()).venue


@asynccontextmanager
async def trading(venue: ExecutionVenue) -> AsyncIterator[AsyncIterator[ExecutionReport]]:
    """The reports; whatever else the venue is gets consumed beside them."""
    await venue.snapshot()
    others: list[asyncio.Task[None]] = []
    if isinstance(venue, SimVenue):
        market = venue.stream(())
        for _ in range(8):  # prices are known from here on
            await anext(market)
        others = [asyncio.create_task(drop(each)) for each in (market, venue.fired())]
    yield venue.reports()
    for other in others:
        other.cancel()


async def test_the_snapshot_is_the_account(venue: ExecutionVenue) -> None:
    first = await venue.snapshot()
    assert [(each.asset, each.wallet) for each in first.balances] == [("USDT", CAPITAL)]
    assert first.positions == first.open_orders == ()
    assert (await venue.snapshot()).balances == first.balances


async def test_the_venue_lists_its_contracts(venue: ExecutionVenue) -> None:
    assert BTC in {each.id for each in await venue.instruments()}
    await venue.keep_alive(60_000)


async def test_an_order_is_accepted_found_changed_and_cancelled(venue: ExecutionVenue) -> None:
    order = far_limit(1)
    async with trading(venue) as reports:
        await venue.submit(order)
        accepted = await anext(reports)
        assert isinstance(accepted, OrderAccepted)
        assert accepted.id == order.id

        await venue.query(QueryOrder(order.id, BTC))
        again = await anext(reports)
        assert isinstance(again, OrderAccepted)
        assert again.venue_id == accepted.venue_id

        await venue.amend(AmendOrder(order.id, BTC, Decimal("0.2"), Decimal("4100.0"), None))
        amended = await anext(reports)
        assert isinstance(amended, OrderAmended)
        assert (amended.qty, amended.limit) == (Decimal("0.2"), Decimal("4100.0"))

        await venue.cancel(CancelOrder(order.id, BTC))
        assert isinstance(await anext(reports), OrderCanceled)


async def test_about_an_order_that_is_not_there_the_venue_says_nothing(venue: ExecutionVenue) -> None:
    async with trading(venue) as reports:
        await venue.query(QueryOrder(far_limit(1).id, BTC))
        await venue.cancel(CancelOrder(far_limit(1).id, BTC))
        await venue.submit(far_limit(2))
        first = await anext(reports)
        assert isinstance(first, OrderAccepted)
        assert first.id == far_limit(2).id


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
    await venue.snapshot()
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
