"""The live feed against a venue with bad habits: real client and server libraries, virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import aiohttp

from tests.fakes.market_venue import MINUTE_MS, SYMBOL, MarketVenue, bar_close
from tidegate.adapters.binance.book_feed import BUFFER_EVENTS, BookSync
from tidegate.adapters.binance.clock import VenueClock
from tidegate.adapters.binance.feed import BinanceFeed
from tidegate.adapters.binance.freshness import Watch
from tidegate.adapters.binance.limits import Governor
from tidegate.adapters.binance.market_schemas import DepthSnapshot, DepthUpdate
from tidegate.adapters.binance.rest import BinanceRest
from tidegate.adapters.binance.ws import WsSettings
from tidegate.adapters.binance.ws_transport import WebsocketsTransport
from tidegate.app.simulation import VirtualClock, VirtualLoop, run
from tidegate.domain.book import BookOutcome
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import (
    MINUTE_NS,
    Bar,
    BarSpec,
    Depth,
    Family,
    FeedGap,
    FeedState,
    FundingRate,
    InstrumentStatus,
    MarketEvent,
    MarkPrice,
    Quote,
    Trade,
    TradingStatus,
)
from tidegate.domain.messages import Subscription

BTC = InstrumentId(SYMBOL)
ALL = Subscription(BTC, MINUTE_NS, trades=True, depth=True)
T = TypeVar("T")
Script = Callable[["World"], Awaitable[None]]


class World:
    """The feed, the venue, and what the feed has said, with the time at which it was read."""

    def __init__(self, loop: VirtualLoop, feed: BinanceFeed, venue: MarketVenue, clock: VirtualClock) -> None:
        self.loop = loop
        self.feed = feed
        self.venue = venue
        self.clock = clock
        self.heard: list[tuple[float, MarketEvent]] = []
        self.pause = asyncio.Event()
        self.pause.set()

    def all(self, kind: type[T]) -> list[T]:
        """Everything of one kind."""
        return [event for _, event in self.heard if isinstance(event, kind)]

    def states(self, family: Family) -> list[tuple[float, bool]]:
        """The changes of one family."""
        found = [(at_s, event) for at_s, event in self.heard if isinstance(event, FeedState)]
        return [(at_s, event.fresh) for at_s, event in found if event.family is family]

    async def listen(self, sub: Subscription) -> None:
        """Read the feed."""
        async with aclosing(self.feed.stream([sub])) as stream:
            async for event in stream:
                self.heard.append((self.loop.time(), event))
                await self.pause.wait()

    def bars_are_whole(self) -> list[int]:
        """Every bar once, in order, none missing, with the venue's close; returns their ends in minutes."""
        bars = self.all(Bar)
        assert bars
        ends = [bar.ts_ns // MINUTE_NS for bar in bars]
        assert ends == list(range(ends[0], ends[0] + len(ends)))
        assert [bar.close for bar in bars] == [bar_close((end - 1) * MINUTE_MS) for end in ends]
        return ends


def live(script: Script, sub: Subscription = ALL, **options: Any) -> World:
    """Run ``script`` beside a feed that is being read."""

    async def main(loop: VirtualLoop) -> World:
        clock = VirtualClock(loop)
        venue = MarketVenue(lambda: clock.now_ns() // 1_000_000)
        await venue.start()
        async with aiohttp.ClientSession() as session:
            timer = VenueClock(clock.monotonic_ns)
            base = f"http://127.0.0.1:{venue.port}"
            rest = BinanceRest(base, session, timer, Governor(timer), None, random.Random(2), time_path=None)
            rng, base_ws = random.Random(1), f"ws://127.0.0.1:{venue.port}"
            feed = BinanceFeed(rest, WebsocketsTransport(), base_ws, clock, rng, **options)
            world = World(loop, feed, venue, clock)
            reader = asyncio.create_task(world.listen(sub))
            await script(world)
            assert not reader.done() or reader.result() is None
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        await venue.stop()
        return world

    outcome = run(main, 3)
    assert outcome.errors == ()
    known_ns = [event.recv_ns for _, event in outcome.result.heard]
    assert known_ns == sorted(known_ns)
    return outcome.result


async def _sleep(world: World) -> None:
    await asyncio.sleep(200)


def test_everything_that_was_asked_for_comes_and_is_fresh() -> None:
    world = live(_sleep)
    assert len(world.bars_are_whole()) == 3
    assert {(quote.bid, quote.ask) for quote in world.all(Quote)} == {(1050.0, 1050.1)}
    assert 190 < len(world.all(MarkPrice)) < 201
    assert 190 < len(world.all(Trade)) < 201
    assert not world.all(FeedGap)
    for family in Family:
        assert [fresh for _, fresh in world.states(family)] == [True]
    assert {client.path for client in world.venue.opened} == {"/public/stream", "/market/stream"}


def test_unrouted_venues_get_one_connection() -> None:
    world = live(_sleep, routed=False)
    assert [client.path for client in world.venue.opened] == ["/stream"]
    assert len(world.bars_are_whole()) == 3
    assert world.all(Depth)


def test_the_book_is_the_venues() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(20)
        world.venue.silent.add("depth@100ms")
        await asyncio.sleep(1)
        bids = sorted(((float(p), float(q)) for p, q in world.venue.book["b"].items()), reverse=True)
        # the last tick before the silence is in the book; those after it changed at most a few levels of the venue
        seen = world.all(Depth)[-1].bids
        assert len(set(seen) & set(bids)) >= len(bids) - 13
        world.venue.silent.clear()

    world = live(script)
    assert world.feed.counters["book: GAP"] <= 1


def test_a_lost_depth_event_is_noticed_and_the_book_rebuilt_within_three_seconds() -> None:
    async def script(world: World) -> None:
        for _ in range(10):
            await asyncio.sleep(5)
            world.venue.skip_depth = 1
        await asyncio.sleep(5)

    world = live(script)
    changes = world.states(Family.BOOK)
    assert [fresh for _, fresh in changes] == [True, *[False, True] * 10]
    lost, found = changes[1::2], changes[2::2]
    assert all(up - down <= 3.0 for (down, _), (up, _) in zip(lost, found, strict=True))
    assert world.feed.counters["book: GAP"] == 10
    down_s = [(a, b) for (a, _), (b, _) in zip(lost, found, strict=True)]
    inside = [at for at, event in world.heard if isinstance(event, Depth) for a, b in down_s if a < at < b]
    assert inside == []


def test_one_silent_family_alone_goes_stale_and_is_asked_for_again() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(20.05)
        world.venue.silent.add("markPrice@1s")
        await asyncio.sleep(30)
        world.venue.silent.clear()
        await asyncio.sleep(10)

    world = live(script)
    (_, first), (stale_s, second), (fresh_s, third) = world.states(Family.MARKS)
    assert (first, second, third) == (True, False, True)
    assert 24.9 <= stale_s <= 25.2
    assert 50 <= fresh_s <= 52.5
    for family in (Family.QUOTES, Family.BOOK):
        assert [fresh for _, fresh in world.states(family)] == [True]
    (market,) = [client for client in world.venue.opened if client.path.startswith("/market")]
    again = [asked for asked in market.requests if asked["method"] == "UNSUBSCRIBE"]
    assert again[0]["params"] == ["btcusdt@markPrice@1s"]


def test_a_repeated_payload_is_silence() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(20)
        world.venue.frozen |= {"markPrice@1s", "depth@100ms"}
        await asyncio.sleep(8)

    world = live(script)
    assert [fresh for _, fresh in world.states(Family.MARKS)] == [True, False]
    assert [fresh for _, fresh in world.states(Family.BOOK)][:2] == [True, False]


def test_a_connection_without_payload_is_replaced_although_it_acknowledges() -> None:
    async def script(world: World) -> None:
        world.venue.mute_new = True
        await asyncio.sleep(15)
        world.venue.mute_new = False
        await asyncio.sleep(30)

    world = live(script)
    assert len(world.venue.opened) >= 4
    assert all(client.requests for client in world.venue.opened)
    assert [fresh for _, fresh in world.states(Family.MARKS)] == [False, True]
    assert world.feed.counters["connection silent"] >= 2


def test_a_bar_whose_close_was_not_pushed_is_fetched_two_seconds_after_its_end() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(5)
        world.venue.lost_closes = 1
        await asyncio.sleep(65)
        late = world.all(Bar)[0]
        await world.venue.push(
            "btcusdt@kline_1m",
            {"e": "kline", "s": SYMBOL, **world.venue.candle(late.ts_ns // 1_000_000 - MINUTE_MS, closed=True, now=1)},
        )
        await asyncio.sleep(130)

    world = live(script)
    assert len(world.bars_are_whole()) == 3
    first = world.all(Bar)[0]
    assert 2.0 <= (first.recv_ns - first.ts_ns) / 1e9 <= 3.0
    assert world.feed.counters["bar fetched"] == 1
    assert world.feed.counters["bar dropped: known already"] == 2  # that, and the bar before the stream began
    assert [fresh for _, fresh in world.states(Family.BARS)] == [True]


def test_after_an_outage_the_missed_bars_come_first_and_in_order() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(70)
        world.venue.down = True
        await world.venue.cut()
        await asyncio.sleep(400)
        world.venue.down = False
        await asyncio.sleep(120)

    world = live(script)
    assert len(world.bars_are_whole()) >= 9
    assert not world.all(FeedGap) or all("trades" in gap.detail for gap in world.all(FeedGap))
    assert [fresh for _, fresh in world.states(Family.BARS)] == [True, False, True]
    assert [fresh for _, fresh in world.states(Family.QUOTES)] == [True, False, True]
    assert [fresh for _, fresh in world.states(Family.BOOK)] == [True, False, True]


def test_bars_that_the_venue_does_not_have_are_a_gap_and_never_silence() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(70)
        world.venue.down = True
        await world.venue.cut()
        now = world.venue.now_ms()
        open_ms = now - now % MINUTE_MS
        world.venue.no_rows = {open_ms, open_ms + MINUTE_MS}
        await asyncio.sleep(250)
        world.venue.down = False
        await asyncio.sleep(120)

    world = live(script)
    (gap,) = [gap for gap in world.all(FeedGap) if gap.detail.startswith("bars")]
    bars = world.all(Bar)
    ends = [bar.ts_ns for bar in bars]
    missing = set(range(ends[0], ends[-1] + 1, MINUTE_NS)) - set(ends)
    assert missing == {gap.from_ns + MINUTE_NS, gap.from_ns + 2 * MINUTE_NS}
    assert gap.ts_ns == gap.from_ns + 2 * MINUTE_NS
    assert ends == sorted(set(ends))
    heard = [event for _, event in world.heard if isinstance(event, Bar) or event is gap]
    assert heard.index(gap) == 1  # between the bars before and after


def test_rotation_loses_and_doubles_nothing() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(400)

    world = live(script, settings=WsSettings(rotate_after_s=90.0))
    assert world.feed.counters["connection rotated"] >= 6
    assert world.feed.counters["connection lost"] == 0
    assert len(world.bars_are_whole()) == 7
    trades = [trade.ts_ns for trade in world.all(Trade)]
    assert len(trades) == len(set(trades)) == trades[-1] // 10**9 - trades[0] // 10**9 + 1
    for family in Family:
        assert [fresh for _, fresh in world.states(family)] == [True]
    assert len(world.venue.clients) <= 4


def test_a_new_connection_that_brings_nothing_does_not_replace_the_old_one() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(30)
        world.venue.mute_new = True
        await asyncio.sleep(200)

    world = live(script, settings=WsSettings(rotate_after_s=60.0, overlap_s=20.0))
    assert world.feed.counters["rotation failed"] >= 2
    assert world.feed.counters["connection rotated"] == 0
    assert len(world.bars_are_whole()) == 4
    assert [fresh for _, fresh in world.states(Family.MARKS)] == [True]


def test_garbage_replaces_the_connection_and_is_never_half_applied() -> None:
    stream = "btcusdt@markPrice@1s"
    garbage: list[str | bytes] = [
        b"\x00\xff\xfe\x01",
        b'{"stream":"btcusdt@markPrice@1s","data":{"e":"markPriceUpdate","s":"\xff"}}',
        '{"stream":"btcusdt@markPrice@1s","data":{"e":"markPriceUpdate","E":1,"p":"1.0"',
        '{"stream":"btcusdt@markPrice@1s","data":"' + "x" * 9_000_000 + '"}',
        "<html>503</html>",
    ]

    async def script(world: World) -> None:
        for number, raw in enumerate(garbage, 1):
            await asyncio.sleep(5)
            await world.venue.push_raw(stream, raw)
            await asyncio.sleep(3)
            assert world.feed.counters["connection lost"] == number
        await world.venue.cut(code=4999)
        await asyncio.sleep(30)

    world = live(script)
    assert {mark.price for mark in world.all(MarkPrice)} == {1050.5}
    assert world.states(Family.MARKS)[-1][1]


def test_what_makes_no_sense_is_counted_and_not_passed_on() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(10)
        for changes in (
            {"b": "1050.20"},
            {"b": "-1"},
            {"b": "nan"},
            {"b": "105000.0", "a": "105000.1"},
            {"B": "-1"},
            {"st": 2},
            {"b": []},
        ):
            now = world.venue.now_ms() + 50
            best = {"e": "bookTicker", "u": now, "s": SYMBOL, "b": "1050.00", "B": "1", "a": "1050.10", "A": "2"}
            await world.venue.push("btcusdt@bookTicker", {**best, "T": now, "E": now, **changes})
        await world.venue.push("btcusdt@bookTicker", {"e": "somethingNew", "s": SYMBOL})
        await world.venue.push("btcusdt@nobodyAsked", {"e": "somethingNew", "s": SYMBOL})
        await asyncio.sleep(5)

    world = live(script)
    assert {(quote.bid, quote.ask) for quote in world.all(Quote)} == {(1050.0, 1050.1)}
    assert world.feed.counters["refused: DataError"] == 5
    assert world.feed.counters["payload of another shape"] == 2
    assert world.feed.counters["connection lost"] == 0


def test_a_bad_level_drops_the_book_and_it_comes_back() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(10)
        for bids in ([["1000.00", "-1"]], [["1500.00", "1"]], [["nan", "1"]]):
            before = world.venue.update_id
            world.venue.update_id += 7
            ids = {"U": before + 2, "u": world.venue.update_id, "pu": before}
            now = world.venue.now_ms() + 1
            await world.venue.push(
                "btcusdt@depth@100ms", {"e": "depthUpdate", "E": now, "T": now, "s": SYMBOL, **ids, "b": bids, "a": []}
            )
            await asyncio.sleep(5)

    world = live(script)
    assert [fresh for _, fresh in world.states(Family.BOOK)] == [True, *[False, True] * 3]
    assert world.feed.counters["book: BAD_LEVEL"] == 2
    assert world.feed.counters["book: CROSSED"] == 1
    assert all(depth.bids[0][0] < depth.asks[0][0] for depth in world.all(Depth))


def test_a_slow_reader_is_waited_for_and_no_trade_is_lost() -> None:
    async def push(venue: MarketVenue) -> None:
        now = venue.now_ms()
        for number in range(30_000):
            trade = {"e": "aggTrade", "a": 100 + number, "p": "1050.0", "q": "1", "T": now + number, "E": now}
            await venue.push("btcusdt@aggTrade", {**trade, "s": SYMBOL, "m": True})

    async def script(world: World) -> None:
        await asyncio.sleep(5)
        world.pause.clear()
        world.venue.silent.add("aggTrade")
        pushing = asyncio.create_task(push(world.venue))
        await asyncio.sleep(20)
        assert not pushing.done()  # the venue feels that nobody reads
        world.pause.set()
        await asyncio.sleep(60)

    world = live(script)
    sold = [trade for trade in world.all(Trade) if trade.buyer_is_maker]
    assert [trade.ts_ns for trade in sold] == sorted(trade.ts_ns for trade in sold)
    assert len(sold) == 30_000
    assert world.feed.counters["connection lost"] == 0


def test_news_of_contracts_and_settlements() -> None:
    async def script(world: World) -> None:
        world.venue.funding_at_ms = world.venue.now_ms() + 30_000
        await asyncio.sleep(10)
        for symbol in (SYMBOL, "ETHUSDT"):
            news = {"e": "contractInfo", "E": world.venue.now_ms(), "s": symbol, "cs": "SETTLING"}
            await world.venue.push("!contractInfo", news)
        await asyncio.sleep(50)

    world = live(script)
    (status,) = world.all(InstrumentStatus)
    assert status.status is TradingStatus.HALTED
    (settled,) = world.all(FundingRate)
    assert settled.rate == 0.00012
    assert settled.ts_ns == world.venue.funding_at_ms * 1_000_000


def test_history_is_paged_closed_and_where_the_stream_goes_on() -> None:
    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        venue = MarketVenue(lambda: clock.now_ns() // 1_000_000)
        await venue.start()
        async with aiohttp.ClientSession() as session:
            timer = VenueClock(clock.monotonic_ns)
            base = f"http://127.0.0.1:{venue.port}"
            rest = BinanceRest(base, session, timer, Governor(timer), None, random.Random(2), time_path=None)
            rng = random.Random(1)
            feed = BinanceFeed(rest, WebsocketsTransport(), f"ws://127.0.0.1:{venue.port}", clock, rng)
            end_ns = clock.now_ns()
            table = await feed.history(BTC, BarSpec.of("1m"), end_ns - 4_000 * MINUTE_NS, end_ns + MINUTE_NS)
            assert len(table) == 4_000 - 1
            assert table.ts_ns[-1] == end_ns - end_ns % MINUTE_NS
            assert (table.ts_ns[1:] - table.ts_ns[:-1] == MINUTE_NS).all()
            assert len(venue.rest_calls) == 3
            await asyncio.sleep(150)  # two bars close between the history and the stream
            world = World(loop, feed, venue, clock)
            reader = asyncio.create_task(world.listen(ALL))
            await asyncio.sleep(60)
            assert world.bars_are_whole()[0] * MINUTE_NS == table.ts_ns[-1] + MINUTE_NS
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        await venue.stop()

    assert run(main, 5).errors == ()


def test_a_watch_counts_only_payloads_that_are_new_and_not_late() -> None:
    second = 10**9
    said: list[FeedState] = []
    watch = Watch(BTC, Family.MARKS, "x", 0, said.append)
    assert watch.advanced(1_000, 10 * second, 1 * second)
    assert not watch.advanced(1_000, 20 * second, 1 * second)  # the same again
    assert not watch.advanced(2_000, 20 * second, 60 * second)  # from a burst after a stall
    assert watch.good_ns == 10 * second
    assert watch.stale_at_ns() == 15 * second
    for fresh in (True, True, False, False, True):
        watch.set(fresh, 20 * second, "")
    assert [state.fresh for state in said] == [True, False, True]


def test_a_stream_is_asked_for_again_ever_more_rarely() -> None:
    second = 10**9
    watch = Watch(BTC, Family.MARKS, "x", 0, lambda state: None)
    asked = [at_s for at_s in range(400) if watch.ask_again(at_s * second)]
    assert asked == [10, 30, 70, 150, 310]


def test_a_snapshot_older_than_the_buffer_is_fetched_again() -> None:
    sync = BookSync()
    sync.diff(DepthUpdate(200, 210, 195, [], []))
    assert sync.snapshot(DepthSnapshot(150, [(1.0, 1.0)], [(2.0, 1.0)])) is BookOutcome.GAP
    assert sync.needs_snapshot
    assert sync.counters["book: snapshot older than the buffer"] == 1
    assert sync.snapshot(DepthSnapshot(205, [(1.0, 1.0)], [(2.0, 1.0)])) is BookOutcome.APPLIED
    assert sync.book.valid


def test_a_buffer_that_overflows_is_thrown_away_whole() -> None:
    sync = BookSync()
    for number in range(BUFFER_EVENTS + 1):
        sync.diff(DepthUpdate(10 * number + 1, 10 * number + 10, 10 * number, [], []))
    assert sync.counters["book: buffer overflow"] == 1
    last_id = 10 * BUFFER_EVENTS + 10
    assert sync.snapshot(DepthSnapshot(last_id, [(1.0, 1.0)], [(2.0, 1.0)])) is BookOutcome.APPLIED
    assert sync.book.valid


def test_the_book_is_lost_the_moment_the_connection_is() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(20)
        world.venue.down = True
        await world.venue.cut()
        await asyncio.sleep(60)

    world = live(script)
    assert world.feed.counters["book: disconnected"] >= 1
    (lost_s,) = [at_s for at_s, fresh in world.states(Family.BOOK) if not fresh]
    assert lost_s < 20.5
    assert max(at_s for at_s, event in world.heard if isinstance(event, Depth)) <= lost_s
