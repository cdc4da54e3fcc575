"""What each market stream says and when: one topic per stream name, shared by all its subscribers."""

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final

from tidegate.adapters.localnet import payloads
from tidegate.adapters.localnet.candles import INTERVALS, Candle
from tidegate.adapters.localnet.line import Line, Print
from tidegate.adapters.localnet.market import LocalMarket

Json = dict[str, Any]
Payload = Json | list[Json]
_TellTrade = Callable[[Line, int, Print], Json]
_TellLine = Callable[[Line, int], Json]


class Route(Enum):
    """The path under which production serves a stream."""

    PUBLIC = "public"
    MARKET = "market"
    PRIVATE = "private"


class Topic:
    """A stream that somebody listens to; of itself it says nothing, what it tells is pushed from outside.

    ``routes`` are the paths that serve it. ``period_ms`` zero means: at every tick, if there is something to say.
    """

    def __init__(self, routes: tuple[Route, ...] = (Route.MARKET,), period_ms: int = 0) -> None:
        self.routes = routes
        self._period_ms = period_ms
        self._next_ms = 0

    def messages(self, now_ms: int) -> Iterable[Payload]:
        """What is to be said at this tick."""
        return self._say(now_ms, due=self._due(now_ms))

    def _due(self, now_ms: int) -> bool:
        if now_ms < self._next_ms:
            return False
        if self._period_ms:
            self._next_ms = now_ms - now_ms % self._period_ms + self._period_ms
        return True

    def _say(self, now_ms: int, *, due: bool) -> Iterable[Payload]:  # noqa: ARG002  see the class
        return ()

    def close(self) -> None:
        """Nobody listens any more."""


class Trades(Topic):
    """``@trade`` and ``@aggTrade``: every trade, in order."""

    def __init__(self, line: Line, routes: tuple[Route, ...], tell: _TellTrade) -> None:
        super().__init__(routes)
        self._line, self._tell = line, tell
        self._told = line.trades[-1].id

    def _say(self, now_ms: int, *, due: bool) -> Iterable[Payload]:
        fresh: list[Print] = []
        for trade in reversed(self._line.trades):
            if trade.id <= self._told or not due:
                break
            fresh.append(trade)
        self._told = max(self._told, fresh[0].id if fresh else 0)
        return [self._tell(self._line, now_ms, trade) for trade in reversed(fresh)]


class Periodic(Topic):
    """A state of one symbol told every so often, or of several in one list."""

    def __init__(
        self, lines: list[Line], tell: _TellLine, period_ms: int, *, listed: bool, route: Route = Route.MARKET
    ) -> None:
        super().__init__((route,), period_ms)
        self._lines, self._tell, self._listed = lines, tell, listed

    def _say(self, now_ms: int, *, due: bool) -> Iterable[Payload]:
        if not due:
            return ()
        told = [self._tell(line, now_ms) for line in self._lines]
        return [told] if self._listed else told


class BookTickers(Topic):
    """``@bookTicker`` at every change of the touch; ``!bookTicker`` every five seconds."""

    def __init__(self, lines: list[Line], period_ms: int) -> None:
        super().__init__((Route.PUBLIC,), period_ms)
        self._versions = [(line, line.version) for line in lines]

    def _say(self, now_ms: int, *, due: bool) -> Iterable[Payload]:
        if not due:
            return ()
        changed = [line for line, version in self._versions if line.version != version]
        self._versions = [(line, line.version) for line, _ in self._versions]
        for line in changed:
            line.refresh()
        return [payloads.book_ticker(line, now_ms) for line in changed]


class DepthDiffs(Topic):
    """``@depth``: the changes of the ladder since the last message."""

    def __init__(self, line: Line, period_ms: int) -> None:
        super().__init__((Route.PUBLIC,), period_ms)
        line.refresh()
        self._line, self._feed = line, line.ladder.watch()

    def _say(self, now_ms: int, *, due: bool) -> Iterable[Payload]:
        self._line.refresh()
        change = self._feed.take() if due else None
        return [payloads.depth(self._line, now_ms, change)] if change else ()

    def close(self) -> None:
        """The ladder need not be followed any longer."""
        self._line.ladder.unwatch(self._feed)


class PartialDepth(Topic):
    """``@depth5``, ``@depth10``, ``@depth20``: the best levels, whenever they changed."""

    def __init__(self, line: Line, levels: int, period_ms: int) -> None:
        super().__init__((Route.PUBLIC,), period_ms)
        self._line, self._levels = line, levels
        self._told_id = line.ladder.last_id

    def _say(self, now_ms: int, *, due: bool) -> Iterable[Payload]:
        if not due:
            return ()
        self._line.refresh()
        told, self._told_id = self._told_id, self._line.ladder.last_id
        return [payloads.partial_depth(self._line, now_ms, self._levels, told)] if told != self._told_id else ()


class Klines(Topic):
    """Candles of one interval: each that closed, and the open one every so often (``period_ms`` -1: never)."""

    def __init__(self, line: Line, interval: str, period_ms: int, tell: Callable[..., Json]) -> None:
        super().__init__((Route.MARKET,), max(0, period_ms))
        self._line, self._interval, self._tell = line, interval, tell
        self._open_too = period_ms >= 0

    def _say(self, now_ms: int, *, due: bool) -> Iterable[Payload]:
        candles = self._line.candles
        for name, candle in candles.closed:
            if name == self._interval:
                yield self._told(now_ms, candles.whole(name, candle), closed=True)
        if due and self._open_too:
            yield self._told(now_ms, candles.current(self._interval), closed=False)

    def _told(self, now_ms: int, candle: Candle, *, closed: bool) -> Json:
        return self._tell(self._line, now_ms, self._interval, candle, closed=closed)


_STREAM: Final = re.compile(
    r"(?P<symbol>[^!@]+)@(?P<kind>[a-zA-Z]+)(?P<levels>\d+)?(?:_(?P<interval>\w+))?(?:@(?P<every>\w+))?"
)
_EVERY_MS: Final = {"100ms": 100, "250ms": 250, "500ms": 500, "1s": 1_000, "3s": 3_000}
_DEPTH_EVERY: Final = ("100ms", "250ms", "500ms")


class Catalogue:
    """Makes the topic of a stream name. ``kline_ms`` is the cadence of open candles, -1 leaves them out."""

    def __init__(self, market: LocalMarket, kline_ms: int = 250) -> None:
        self._market = market
        self._kline_ms = kline_ms

    def topic(self, name: str) -> Topic | None:
        """The topic called ``name``, or ``None`` when there is no such stream."""
        if name.startswith("!"):
            return self._of_all(name)
        found = _STREAM.fullmatch(name)
        if not found or found["symbol"] != found["symbol"].lower():
            return None
        pair, _, contract = found["symbol"].partition("_")
        line = self._market.lines.get(pair.upper())
        if line is None or contract not in ("", "perpetual"):
            return None
        kind, every = found["kind"], found["every"]
        if found["interval"]:
            return self._candles(line, kind, found["interval"], continuous=bool(contract))
        return self._book(line, kind, found["levels"], every) or self._plain(line, kind, every)

    def _candles(self, line: Line, kind: str, interval: str, *, continuous: bool) -> Topic | None:
        tell = {"kline": payloads.kline, "continuousKline": payloads.continuous_kline}.get(kind)
        if tell is None or continuous != (kind == "continuousKline") or interval not in INTERVALS:
            return None
        return Klines(line, interval, self._kline_ms, tell)

    @staticmethod
    def _book(line: Line, kind: str, levels: str | None, every: str | None) -> Topic | None:
        if kind == "bookTicker" and every is None:
            return BookTickers([line], 0)
        if kind not in ("depth", "rpiDepth") or (every is not None and every not in _DEPTH_EVERY):
            return None
        period_ms = _EVERY_MS[every or "250ms"]
        if levels is None:
            return DepthDiffs(line, period_ms)
        return PartialDepth(line, int(levels), period_ms) if levels in ("5", "10", "20") else None

    @staticmethod
    def _plain(line: Line, kind: str, every: str | None) -> Topic | None:
        if kind == "markPrice" and every in (None, "1s", "3s"):
            return Periodic([line], payloads.mark_price, _EVERY_MS[every or "3s"], listed=False)
        if every is not None:
            return None
        makers: dict[str, Callable[[], Topic]] = {
            "aggTrade": lambda: Trades(line, (Route.MARKET,), payloads.agg_trade),
            "trade": lambda: Trades(line, (Route.PUBLIC, Route.MARKET), payloads.trade),
            "ticker": lambda: Periodic([line], payloads.day_ticker, 2_000, listed=False),
            "miniTicker": lambda: Periodic([line], payloads.mini_ticker, 2_000, listed=False),
            "forceOrder": Topic,
        }
        return makers[kind]() if kind in makers else None

    def _of_all(self, name: str) -> Topic | None:
        lines = list(self._market.lines.values())
        makers: dict[str, Callable[[], Topic]] = {
            "!bookTicker": lambda: BookTickers(lines, 5_000),
            "!markPrice@arr": lambda: Periodic(lines, payloads.mark_price, 3_000, listed=True),
            "!markPrice@arr@1s": lambda: Periodic(lines, payloads.mark_price, 1_000, listed=True),
            "!ticker@arr": lambda: Periodic(lines, payloads.day_ticker, 1_000, listed=True),
            "!miniTicker@arr": lambda: Periodic(lines, payloads.mini_ticker, 1_000, listed=True),
            "!forceOrder@arr": Topic,
            "!contractInfo": Topic,
        }
        return makers[name]() if name in makers else None
