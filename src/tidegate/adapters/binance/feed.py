"""Live market data: closed bars, marks, quotes, and if asked trades and the book. Loss is said, never silence.

Streams go to the path of their family (``/public`` for quotes and depth, ``/market`` for the rest) or, where the
venue knows one path only, to ``/stream``. A watchdog looks at the age of every family: it says stale and fresh, asks
for a silent stream again, replaces a connection on which everything is silent, and has late bars fetched over REST.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Sequence
from typing import Any, Final

import msgspec

from tidegate.adapters.binance.bar_feed import LATE_NS, PATIENCE_NS, BarKeeper
from tidegate.adapters.binance.book_feed import BookKeeper
from tidegate.adapters.binance.feed_channel import Channel
from tidegate.adapters.binance.feed_queue import FeedQueue
from tidegate.adapters.binance.freshness import Watch, bars_bound_ns
from tidegate.adapters.binance.market_rest import PAGE_BARS, MarketRest, closed_bars
from tidegate.adapters.binance.market_routes import (
    BarRoute,
    BookRoute,
    ContractRoute,
    MarkRoute,
    PriceGuard,
    QuoteRoute,
    Router,
    TradeRoute,
)
from tidegate.adapters.binance.market_schemas import Counters
from tidegate.adapters.binance.market_translate import INTERVAL_NAMES, bar_table
from tidegate.adapters.binance.ws import ConnectLimit, ManagedConnection, WsSettings
from tidegate.adapters.binance.ws_transport import WsTransport
from tidegate.domain.book import BookOutcome
from tidegate.domain.errors import ConfigError, DataError, VenueError, VenueUnavailable
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import SECOND_NS, Bar, BarSpec, Family, FeedGap, MarketEvent
from tidegate.domain.messages import Subscription
from tidegate.ports import Clock
from tidegate.quant.bars import BarTable

STREAMS_PER_CONNECTION: Final = 400
_LONGEST_LOOK_NS: Final = 5 * SECOND_NS
_PUBLIC, _MARKET, _LEGACY = "/public/stream", "/market/stream", "/stream"
_DEFAULTS: Final = WsSettings()


class BinanceFeed:
    """The ``MarketDataFeed`` port over Binance USD-M, and bar history over REST.

    ``venue_now_ns`` is the venue's clock (``VenueClock.now_ns``); until it knows the time, and without it, ``clock``
    stands in. ``counters`` holds what was tolerated.
    """

    def __init__(
        self,
        rest: MarketRest,
        transport: WsTransport,
        base_ws_url: str,
        clock: Clock,
        rng: random.Random,
        *,
        routed: bool = True,
        venue_now_ns: Callable[[], Nanos] | None = None,
        settings: WsSettings = _DEFAULTS,
        counters: Counters | None = None,
    ) -> None:
        self.counters = Counters() if counters is None else counters
        self.base_ws_url = base_ws_url.rstrip("/")
        self.clock = clock
        self.rest = rest
        self.rng = rng
        self.routed = routed
        self.settings = settings
        self.transport = transport
        self._venue_now_ns = venue_now_ns
        self._served: dict[tuple[InstrumentId, Nanos], Nanos] = {}

    def venue_ns(self) -> Nanos:
        """The venue's time, as well as it is known."""
        if self._venue_now_ns is not None:
            try:
                return self._venue_now_ns()
            except VenueUnavailable:
                self.counters.add("venue clock not set")
        return self.clock.now_ns()

    async def stream(self, subscriptions: Collection[Subscription]) -> AsyncGenerator[MarketEvent, None]:
        """Market events as they become known; bars go on where ``history`` ended, if it ended lately.

        Never ends; close the iterator to stop. Raises ``ConfigError`` for an interval that the venue does not have.
        """
        running = _Running(self, subscriptions)
        try:
            running.start()
            while True:
                yield await running.queue.get()
        finally:
            await running.stop()

    async def history(self, instrument: InstrumentId, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> BarTable:
        """Closed bars that open in ``[start_ns, end_ns)``, in order. Raises ``VenueError`` or ``DataError``."""
        interval_ns = bar.interval_ns
        found: list[Bar] = []
        open_ns = start_ns
        while open_ns < end_ns:
            upto_ns = min(end_ns, open_ns + PAGE_BARS * interval_ns)
            venue_ns = self.venue_ns()
            if open_ns + interval_ns > venue_ns:
                break
            found += await closed_bars(
                self.rest, instrument, interval_ns, open_ns, upto_ns, venue_ns, self.clock.now_ns(), self.counters
            )
            open_ns = upto_ns
        if found:
            self._served[instrument, interval_ns] = found[-1].ts_ns
        return bar_table(interval_ns, found)

    def first_ts_ns(self, instrument: InstrumentId, bar: BarSpec) -> Nanos:
        """The end of the bar after which a stream begins: what history gave last, or the last one that has closed."""
        now_ns = self.venue_ns()
        closed_ns = now_ns - (now_ns - bar.origin_ns) % bar.interval_ns
        served_ns = self._served.get((instrument, bar.interval_ns), 0)
        return served_ns if closed_ns - served_ns <= PAGE_BARS * bar.interval_ns else closed_ns


class _Bars:
    """One keeper of bars, its watch, and the request for what it misses."""

    def __init__(self, keeper: BarKeeper, watch: Watch) -> None:
        self.keeper = keeper
        self.watch = watch
        self.wanted = asyncio.Event()
        self.refetched = 0


class _Running:
    """One stream call: queue, routes, connections, watchdog."""

    def __init__(self, feed: BinanceFeed, subscriptions: Collection[Subscription]) -> None:
        self.feed = feed
        self.queue = FeedQueue()
        self.router = Router(self.queue, feed.counters, feed.clock, feed.venue_ns)
        self.limit = ConnectLimit(feed.settings.connects, feed.settings.connects_window_s)
        self.channels: list[Channel] = []
        self.bars: list[_Bars] = []
        self._looked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._streams: dict[str, list[str]] = {}
        self._watches: dict[str, Watch] = {}
        self._books: dict[str, tuple[BookKeeper, BookRoute, Watch]] = {}
        self._trades: dict[str, TradeRoute] = {}
        self._plan(subscriptions)

    def start(self) -> None:
        """Start the connections and what serves them."""
        self._spawn(self._watchdog(), "watchdog")
        for channel in self.channels:
            self._spawn(channel.connection.run(), f"connection {channel.connection.name}")
        for keeper, _, _ in self._books.values():
            self._spawn(keeper.run(), f"book {keeper.instrument}")
        for bars in self.bars:
            self._spawn(self._fill(bars), f"bars {bars.keeper.instrument}")

    async def stop(self) -> None:
        """End all of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look(self) -> None:
        """Wake the watchdog: something changed."""
        self._looked.set()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.queue.fail(error)

        task = asyncio.create_task(work, name=f"feed {name}")
        task.add_done_callback(ended)
        self._tasks.append(task)

    # what is subscribed

    def _plan(self, subscriptions: Collection[Subscription]) -> None:
        """Bars and marks first: after a reconnect they are asked for first too."""
        guards = {sub.instrument: PriceGuard(sub.instrument) for sub in subscriptions}
        for sub in subscriptions:
            self._plan_bars(sub, guards[sub.instrument])
        for sub in subscriptions:
            self._plan_family(sub, guards[sub.instrument])
        if guards:
            self._add("!contractInfo", _MARKET)
            self.router.add("!contractInfo", ContractRoute(self.router, frozenset(guards)))
        for path, streams in self._streams.items():
            for start in range(0, len(streams), STREAMS_PER_CONNECTION):
                self._open(path, streams[start : start + STREAMS_PER_CONNECTION])

    def _plan_bars(self, sub: Subscription, guard: PriceGuard) -> None:
        if sub.interval_ns not in INTERVAL_NAMES:
            raise ConfigError(f"{sub.instrument}: the venue has no bars of {sub.interval_ns} ns")
        name = INTERVAL_NAMES[sub.interval_ns]
        stream = f"{sub.instrument.lower()}@kline_{name}"
        if not self._add(stream, _MARKET):
            return
        watch = self._watch(sub.instrument, Family.BARS, stream)
        first_ns = self.feed.first_ts_ns(sub.instrument, BarSpec(name, sub.interval_ns))

        def emit(event: Bar | FeedGap) -> None:
            recv_ns = self.router.recv_ns  # a bar that was held becomes known when those before it are
            self.queue.put(msgspec.structs.replace(event, recv_ns=recv_ns))
            if isinstance(event, Bar) and self.router.venue_ns - event.ts_ns < bars_bound_ns(event.interval_ns):
                watch.set(True, recv_ns, "")

        keeper = BarKeeper(sub.instrument, sub.interval_ns, first_ns, emit, self.feed.counters)
        self.bars.append(_Bars(keeper, watch))
        self.router.add(stream, BarRoute(self.router, watch, guard, keeper, self.look))

    def _plan_family(self, sub: Subscription, guard: PriceGuard) -> None:
        symbol = sub.instrument.lower()
        stream = f"{symbol}@markPrice@1s"
        if sub.marks and self._add(stream, _MARKET):
            watch = self._watch(sub.instrument, Family.MARKS, stream)
            self.router.add(stream, MarkRoute(self.router, watch, guard))
        stream = f"{symbol}@bookTicker"
        if sub.quotes and self._add(stream, _PUBLIC):
            watch = self._watch(sub.instrument, Family.QUOTES, stream)
            self.router.add(stream, QuoteRoute(self.router, watch, guard))
        stream = f"{symbol}@aggTrade"
        if sub.trades and self._add(stream, _MARKET):
            self._trades[stream] = TradeRoute(self.router, sub.instrument)
            self.router.add(stream, self._trades[stream])
        stream = f"{symbol}@depth@100ms"
        if sub.depth and self._add(stream, _PUBLIC):
            self._plan_book(sub.instrument, stream)

    def _plan_book(self, instrument: InstrumentId, stream: str) -> None:
        watch = self._watch(instrument, Family.BOOK, stream)

        def changed() -> None:
            self.router.stamp()
            route.settle(BookOutcome.APPLIED)

        keeper = BookKeeper(instrument, self.feed.rest, self.feed.rng, self.feed.counters, changed)
        route = BookRoute(self.router, watch, keeper)
        self._books[stream] = (keeper, route, watch)
        self.router.add(stream, route)

    def _add(self, stream: str, path: str) -> bool:
        """Note a stream for its path; False when it is there already."""
        streams = self._streams.setdefault(path if self.feed.routed else _LEGACY, [])
        if stream in streams:
            return False
        streams.append(stream)
        return True

    def _watch(self, instrument: InstrumentId, family: Family, stream: str) -> Watch:
        watch = Watch(instrument, family, stream, self.feed.clock.monotonic_ns(), self.queue.put)
        self._watches[stream] = watch
        return watch

    def _open(self, path: str, streams: Sequence[str]) -> None:
        feed = self.feed
        channel = Channel(self.queue, self.router, self.look)
        channel.connection = ManagedConnection(
            path.split("/")[1],
            feed.base_ws_url + path,
            streams,
            feed.transport,
            channel,
            self.limit,
            feed.rng,
            feed.settings,
            feed.counters,
        )
        channel.watches = [self._watches[stream] for stream in streams if stream in self._watches]
        channel.books = [self._books[stream] for stream in streams if stream in self._books]
        channel.trades = [self._trades[stream] for stream in streams if stream in self._trades]
        self.channels.append(channel)

    # the watchdog

    async def _watchdog(self) -> None:
        while True:
            delay_ns = self._check()
            try:
                async with asyncio.timeout(delay_ns / SECOND_NS):
                    await self._looked.wait()
            except TimeoutError:
                pass
            self._looked.clear()

    def _check(self) -> Nanos:
        """Look at everything once. Returns how long nothing can become due."""
        self.router.stamp()
        now_ns, venue_ns = self.router.now_ns, self.router.venue_ns
        due_ns = now_ns + _LONGEST_LOOK_NS
        for channel in self.channels:
            due_ns = min(due_ns, self._check_channel(channel, now_ns))
        for bars in self.bars:
            due_ns = min(due_ns, now_ns + self._check_bars(bars, venue_ns))
        return max(due_ns - now_ns, SECOND_NS // 50)

    def _check_channel(self, channel: Channel, now_ns: Nanos) -> Nanos:
        due_ns = now_ns + _LONGEST_LOOK_NS
        for watch in channel.watches:
            stale_ns = watch.stale_at_ns()
            if stale_ns is not None and stale_ns <= now_ns:
                age_s = (now_ns - watch.good_ns) / SECOND_NS
                watch.set(False, self.router.recv_ns, f"nothing for {age_s:.1f} s")
            elif stale_ns is not None:
                due_ns = min(due_ns, stale_ns)
        silent_ns = channel.silent_at_ns()
        if silent_ns is None:
            return due_ns
        if silent_ns <= now_ns:
            channel.open = False
            self.feed.counters.add("connection silent")
            channel.connection.replace("no payload")
            return due_ns
        for watch in channel.watches:
            if watch.ask_again(now_ns):
                channel.connection.refresh(watch.stream)
        return min(due_ns, silent_ns)

    def _check_bars(self, bars: _Bars, venue_ns: Nanos) -> Nanos:
        """Have missing bars fetched; returns how long to leave these bars alone."""
        keeper, watch = bars.keeper, bars.watch
        keeper.give_up(venue_ns)
        if keeper.missing(venue_ns) is not None:
            bars.wanted.set()
        if keeper.refetched != bars.refetched:  # the stream should have brought it
            bars.refetched = keeper.refetched
            self._ask_again(watch)
        stale_ns = keeper.last_ts_ns + bars_bound_ns(keeper.interval_ns)
        if venue_ns >= stale_ns:
            watch.set(False, self.router.recv_ns, "the bar is late")
        due_ns = [at_ns - venue_ns for at_ns in (stale_ns, keeper.next_ts_ns + LATE_NS) if at_ns > venue_ns]
        return min([PATIENCE_NS, *due_ns])

    def _ask_again(self, watch: Watch) -> None:
        for channel in self.channels:
            if channel.open and watch in channel.watches:
                channel.connection.refresh(watch.stream)

    async def _fill(self, bars: _Bars) -> None:
        """Fetch what the keeper misses, whenever it misses something."""
        keeper, feed = bars.keeper, self.feed
        failures = 0
        while True:
            await bars.wanted.wait()
            while (missing := keeper.missing(feed.venue_ns())) is not None:
                try:
                    found = await self._fetch(keeper, *missing)
                except (VenueError, DataError):
                    feed.counters.add("bars not fetched")
                    found = []
                    failures += 1
                else:
                    failures = 0
                self.router.stamp()
                keeper.fetched(found, self.router.venue_ns)
                self.look()
                if not found:
                    await asyncio.sleep(min(15.0, 1.0 * 2.0 ** min(failures, 8)) * feed.rng.uniform(0.5, 1.0))
            bars.wanted.clear()

    async def _fetch(self, keeper: BarKeeper, first_ns: Nanos, last_ns: Nanos) -> list[Bar]:
        """The bars that end in ``[first_ns, last_ns]``, one page at most."""
        feed, interval_ns = self.feed, keeper.interval_ns
        start_ns = first_ns - interval_ns
        end_ns = min(last_ns, start_ns + PAGE_BARS * interval_ns)
        venue_ns, recv_ns = feed.venue_ns(), feed.clock.now_ns()
        return await closed_bars(
            feed.rest, keeper.instrument, interval_ns, start_ns, end_ns, venue_ns, recv_ns, feed.counters
        )
