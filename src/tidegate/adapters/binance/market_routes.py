"""From a payload to events: one route per stream, found by the name in front of the payload.

A route decodes into the one type that its stream carries, drops doubles, refuses what contradicts itself (counted,
never passed on) and says whether the family is alive. JSON that is none means a broken connection (``LinkLost``);
JSON of another shape is only that event's loss, or that book's.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from tidegate.adapters.binance import market_schemas as wire
from tidegate.adapters.binance import market_translate as translate
from tidegate.adapters.binance.bar_feed import BarKeeper
from tidegate.adapters.binance.book_feed import BookKeeper
from tidegate.adapters.binance.feed_queue import FeedQueue
from tidegate.adapters.binance.freshness import Watch
from tidegate.adapters.binance.market_schemas import USD_M, Counters, Envelope, decoder
from tidegate.adapters.binance.ws import stream_name
from tidegate.adapters.binance.ws_transport import LinkLost
from tidegate.domain.book import BookOutcome, breaks
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import SECOND_NS, FeedGap, FundingRate
from tidegate.ports import Clock

_QUOTES: Final = decoder(Envelope[wire.BookTicker]).decode
_DEPTHS: Final = decoder(Envelope[wire.DepthUpdate]).decode
_TRADES: Final = decoder(Envelope[wire.AggTrade]).decode
_MARKS: Final = decoder(Envelope[wire.MarkUpdate]).decode
_KLINES: Final = decoder(Envelope[wire.Kline]).decode
_CONTRACTS: Final = decoder(Envelope[wire.ContractInfo]).decode

ABSURD: Final = 5.0
"""No price moves by this factor within ``_GUARD_NS``; a price that does is taken for an error of the venue."""
_GUARD_NS: Final = 60 * SECOND_NS

Route = Callable[[bytes], None]


class PriceGuard:
    """The last price of an instrument that was believed, from whatever family."""

    __slots__ = ("_at_ns", "_instrument", "_price")

    def __init__(self, instrument: InstrumentId) -> None:
        self._instrument = instrument
        self._price = 0.0
        self._at_ns = 0

    def check(self, price: float, now_ns: Nanos) -> None:
        """Believe ``price``, or raise ``DataError``."""
        last = self._price
        if last and not last < price * ABSURD < last * (ABSURD * ABSURD) and now_ns - self._at_ns < _GUARD_NS:
            raise DataError(f"{self._instrument}: a price of {price!r} after {last!r}")
        self._price = price
        self._at_ns = now_ns


class Router:
    """The routes of a feed, and the times at which the batch in hand arrived."""

    def __init__(self, queue: FeedQueue, counters: Counters, clock: Clock, venue_now_ns: Callable[[], Nanos]) -> None:
        self.queue = queue
        self.counters = counters
        self.recv_ns: Nanos = 0
        self.now_ns: Nanos = 0
        self.venue_ns: Nanos = 0
        self._clock = clock
        self._venue_now_ns = venue_now_ns
        self._routes: dict[bytes, Route] = {}

    def add(self, stream: str, route: Route) -> None:
        """Send the payloads of ``stream`` to ``route``."""
        self._routes[stream.encode()] = route

    def stamp(self) -> None:
        """Read the clocks: once per batch."""
        self.recv_ns = self._clock.now_ns()
        self.now_ns = self._clock.monotonic_ns()
        self.venue_ns = self._venue_now_ns()

    def message(self, raw: bytes) -> None:
        """Take in one payload. Raises ``LinkLost`` when it is not JSON."""
        route = self._routes.get(stream_name(raw))
        try:
            if route is None:
                self._unknown(raw)
            else:
                route(raw)
        except DataError as error:
            self.counters.add(f"refused: {type(error).__name__}")
        except msgspec.ValidationError:
            self.counters.add("payload of another shape")
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise LinkLost("a payload is not JSON") from None

    def _unknown(self, raw: bytes) -> None:
        """Nobody asked for this: count it by the name of its event."""
        found: Any = msgspec.json.decode(raw)
        inner = found.get("data", found) if isinstance(found, dict) else found
        first = inner[0] if isinstance(inner, list) and inner else inner
        event = first.get("e") if isinstance(first, dict) else None
        known = event in wire.STREAM_TYPES
        self.counters.add(f"unasked event {event}" if known else "unknown event")


class QuoteRoute:
    """``@bookTicker``."""

    def __init__(self, router: Router, watch: Watch, guard: PriceGuard) -> None:
        self._router = router
        self._watch = watch
        self._guard = guard
        self._key = f"quote {watch.instrument}"
        self._last_id = 0
        self._last_ms = 0

    def __call__(self, raw: bytes) -> None:
        event: wire.BookTicker = _QUOTES(raw).data
        router = self._router
        if event.st != USD_M or (event.id <= self._last_id and event.event_ms <= self._last_ms):
            router.counters.add("quote dropped")
            return
        quote = translate.quote(event, router.recv_ns)
        self._guard.check(quote.bid, router.now_ns)
        self._last_id, self._last_ms = event.id, event.event_ms
        router.queue.put_latest(self._key, quote)
        watch = self._watch
        watch.advanced(event.event_ms, router.now_ns, router.venue_ns)
        if not watch.fresh:
            watch.set(True, router.recv_ns, "")


class MarkRoute:
    """``@markPrice``, and with it the settlements: a rate is settled when the next one's time is another."""

    def __init__(self, router: Router, watch: Watch, guard: PriceGuard) -> None:
        self._router = router
        self._watch = watch
        self._guard = guard
        self._due_ns: Nanos | None = None
        self._rate: float | None = None
        self._settled_ns: Nanos = 0

    def __call__(self, raw: bytes) -> None:
        event: wire.MarkUpdate = _MARKS(raw).data
        router, watch = self._router, self._watch
        if event.st != USD_M or event.event_ms <= watch.event_ms:
            router.counters.add("mark dropped")
            return
        mark = translate.mark_price(event, router.recv_ns)
        self._guard.check(mark.price, router.now_ns)
        alive = watch.advanced(event.event_ms, router.now_ns, router.venue_ns)
        router.queue.put_latest(f"mark {watch.instrument}", mark)
        if alive and not watch.fresh:
            watch.set(True, router.recv_ns, "")
        self._funding(event)

    def _funding(self, event: wire.MarkUpdate) -> None:
        due_ns, rate = translate.next_funding_ns(event), translate.running_rate(event)
        if due_ns is None or rate is None:
            return
        event_ns = event.event_ms * translate.MS_NS
        before_ns = self._due_ns
        if before_ns is not None and due_ns != before_ns and event_ns >= before_ns and self._rate is not None:
            self._settle(before_ns, self._rate)
        self._due_ns, self._rate = due_ns, rate
        if event_ns >= due_ns:
            self._settle(due_ns, rate)

    def _settle(self, ts_ns: Nanos, rate: float) -> None:
        if ts_ns > self._settled_ns:
            self._settled_ns = ts_ns
            self._router.queue.put(FundingRate(self._watch.instrument, ts_ns, self._router.recv_ns, rate))


class BarRoute:
    """``@kline``: an open candle shows that the stream lives, a closed one is a bar."""

    def __init__(
        self, router: Router, watch: Watch, guard: PriceGuard, keeper: BarKeeper, hole: Callable[[], None]
    ) -> None:
        self._router = router
        self._watch = watch
        self._guard = guard
        self._keeper = keeper
        self._hole = hole

    def __call__(self, raw: bytes) -> None:
        event: wire.Kline = _KLINES(raw).data
        router = self._router
        if event.st != USD_M:
            return
        self._watch.advanced(event.event_ms, router.now_ns, router.venue_ns)
        if event.candle.closed:
            bar = translate.kline_bar(event, router.recv_ns)
            self._guard.check(bar.close, router.now_ns)
            self._keeper.bar(bar, router.venue_ns)
            if self._keeper.holds:
                self._hole()


class TradeRoute:
    """``@aggTrade``. Ids follow on one another; a jump over an interruption is a loss, and is said."""

    def __init__(self, router: Router, instrument: InstrumentId) -> None:
        self.interrupted = False
        self._router = router
        self._instrument = instrument
        self._last_id: int | None = None
        self._last_ms = 0

    def __call__(self, raw: bytes) -> None:
        event: wire.AggTrade = _TRADES(raw).data
        router, last_id = self._router, self._last_id
        if event.st != USD_M or (last_id is not None and event.id <= last_id and event.time_ms <= self._last_ms):
            router.counters.add("trade dropped")
            return
        trade = translate.trade(event, router.recv_ns)
        if last_id is not None and event.id != last_id + 1:
            router.counters.add("trade ids jumped")
            if self.interrupted:
                detail = f"trades: {event.id - last_id - 1} missing"
                from_ns = self._last_ms * translate.MS_NS
                router.queue.put(FeedGap(self._instrument, trade.ts_ns, router.recv_ns, from_ns, detail))
        self.interrupted = False
        self._last_id, self._last_ms = event.id, event.time_ms
        router.queue.put(trade)


class BookRoute:
    """``@depth``: into the book at once. The ladder is made when it is read, from the book as it is then."""

    def __init__(self, router: Router, watch: Watch, keeper: BookKeeper) -> None:
        self.both = False
        self._router = router
        self._watch = watch
        self._keeper = keeper
        self._key = f"depth {keeper.instrument}"
        self._last = (0, 0)

    def __call__(self, raw: bytes) -> None:
        try:
            event: wire.DepthUpdate = _DEPTHS(raw).data
        except msgspec.ValidationError:
            self._keeper.lost("payload of another shape")
            self._watch.set(False, self._router.recv_ns, "book: payload of another shape")
            raise
        stamp = (event.last_id, event.event_ms)
        if event.st != USD_M or (self.both and stamp[0] <= self._last[0] and stamp[1] <= self._last[1]):
            self._router.counters.add("depth dropped")
            return
        self._last = stamp
        outcome = self._keeper.diff(event, self._router.recv_ns)
        self._watch.advanced(event.event_ms, self._router.now_ns, self._router.venue_ns)
        self.settle(outcome)

    def settle(self, outcome: BookOutcome) -> None:
        """Say what became of the book: after a diff, or after a snapshot."""
        router, watch = self._router, self._watch
        if self._keeper.sync.book.valid:
            router.queue.put_latest(self._key, self._keeper.depth)
            if not watch.fresh and watch.bound_ns is not None and router.now_ns - watch.good_ns <= watch.bound_ns:
                watch.set(True, router.recv_ns, "")
        elif breaks(outcome) and watch.fresh:
            watch.set(False, router.recv_ns, f"book: {outcome.value}")


class ContractRoute:
    """``!contractInfo``: the news of all contracts; only those of ours are passed on."""

    def __init__(self, router: Router, instruments: frozenset[InstrumentId]) -> None:
        self._router = router
        self._instruments = instruments

    def __call__(self, raw: bytes) -> None:
        event: wire.ContractInfo = _CONTRACTS(raw).data
        if event.st != USD_M or event.symbol not in self._instruments:
            return
        if not translate.known_status(event.status):
            self._router.counters.add("unknown contract status")
        self._router.queue.put(translate.contract_status(event, self._router.recv_ns))
