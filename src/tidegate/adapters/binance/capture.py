"""Captured streams, replayed through the code that reads live ones: decode, translate, book, bars of trades.

A capture has one message per line, ``<local receive time> <raw json>``; a line with ``lastUpdateId`` is a depth
snapshot. A capture cut at midnight goes on in the next file, so several files can be replayed as one. A second book,
fed with the untouched messages, plays the venue: it gives the snapshots from which a broken book is built again.
"""

import gzip
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from tidegate.adapters.binance import market_translate as translate
from tidegate.adapters.binance.book_feed import BookSync
from tidegate.adapters.binance.market_schemas import (
    AggTrade,
    BookTicker,
    DepthSnapshot,
    DepthUpdate,
    Head,
    MarkUpdate,
    RawTrade,
    decoder,
)
from tidegate.domain.book import BookOutcome, breaks
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import INTERVALS_NS, Bar, MarketEvent, Trade

Damage = Literal["dropped", "doubled", "swapped"]

_HEAD: Final = decoder(Head).decode
_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "depthUpdate": decoder(DepthUpdate).decode,
    "bookTicker": decoder(BookTicker).decode,
    "trade": decoder(RawTrade).decode,
    "aggTrade": decoder(AggTrade).decode,
    "markPriceUpdate": decoder(MarkUpdate).decode,
}
_SNAPSHOT: Final = decoder(DepthSnapshot).decode


class _Line(msgspec.Struct):
    """Enveloped or bare, or a snapshot."""

    data: msgspec.Raw = msgspec.Raw(b"")
    stream: str = ""
    last_update_id: int | None = msgspec.field(name="lastUpdateId", default=None)


_LINE: Final = msgspec.json.Decoder(_Line).decode


@dataclass
class CaptureReport:
    """What a replay found. ``gaps`` and ``crossed`` are breaks of the book; all counts are messages unless named."""

    files: list[str]
    messages: int = 0
    families: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    gaps: int = 0
    crossed: int = 0
    other_breaks: int = 0
    rebuilt: int = 0
    book_levels: int = 0
    book_equals_venue: bool = False
    bars: list[Bar] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        found["bars"] = [msgspec.to_builtins(bar) for bar in self.bars]
        return found


def read_capture(paths: Sequence[Path]) -> Iterator[tuple[Nanos, bytes]]:
    """Receive time in ns and raw JSON of each line. Raises ``DataError`` naming file and line."""
    for path in paths:
        try:
            with gzip.open(path, "rb") as lines:
                for number, line in enumerate(lines, 1):
                    stamp, _, raw = line.rstrip().partition(b" ")
                    if not stamp.isdigit() or not raw:
                        raise DataError(f"{path}: line {number} is not '<receive time> <json>'")
                    yield int(stamp) * 10 ** max(0, 19 - len(stamp)), raw
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except (OSError, EOFError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None


def check_interval(name: str) -> Nanos:
    """The length of the interval ``name``. Raises ``DataError`` naming those that there are."""
    try:
        return INTERVALS_NS[name]
    except KeyError:
        raise DataError(f"unknown interval {name!r}; use one of {' '.join(INTERVALS_NS)}") from None


def with_start(path: Path) -> list[Path]:
    """``path``, and before it the capture that it goes on from, when it has no snapshot of its own."""
    if any(b'"lastUpdateId"' in raw for _, raw in read_capture([path])):
        return [path]
    earlier = sorted(other for other in path.parent.glob("ws_*.jsonl.gz") if other.name < path.name)
    return [earlier[-1], path] if earlier else [path]


class TradeBars:
    """Bars of trades, as the venue makes them: an interval without a whole span of trades is not given out.

    The first interval is known only in part, and left out; a later one is complete when the next one has a trade.
    """

    def __init__(self, instrument: InstrumentId, interval_ns: Nanos) -> None:
        self._instrument = instrument
        self._interval_ns = interval_ns
        self._open_ns: Nanos | None = None
        self._whole = False
        self._prices: list[float] = []
        self._qty = 0.0

    def trade(self, trade: Trade) -> Bar | None:
        """Take in a trade; the bar that it completes, if any."""
        open_ns = trade.ts_ns - trade.ts_ns % self._interval_ns
        done: Bar | None = None
        if open_ns != self._open_ns:
            done = self._bar(trade.recv_ns) if self._whole else None
            self._whole = self._open_ns is not None
            self._open_ns, self._prices, self._qty = open_ns, [], 0.0
        self._prices.append(trade.price)
        self._qty += trade.qty
        return done

    def _bar(self, recv_ns: Nanos) -> Bar:
        assert self._open_ns is not None
        prices = self._prices
        end_ns = self._open_ns + self._interval_ns
        ohlc = (prices[0], max(prices), min(prices), prices[-1])
        return Bar(self._instrument, self._interval_ns, end_ns, recv_ns, *ohlc, round(self._qty, 8))


class CaptureReplay:
    """Feeds a capture through decode, translation and the book, and tells the market's events to ``tell``."""

    def __init__(self, files: Sequence[Path], interval: str = "5m", tell: Callable[[MarketEvent], None] | None = None):
        self.report = CaptureReport([path.name for path in files])
        self.sync = BookSync()
        self._files = files
        self._interval_ns = check_interval(interval)
        self._tell = tell
        self._venue = BookSync()
        self._bars: TradeBars | None = None
        self._translate: dict[str, Callable[[Any, Nanos], MarketEvent]] = {
            "bookTicker": translate.quote,
            "trade": translate.trade,
            "aggTrade": translate.trade,
            "markPriceUpdate": translate.mark_price,
        }

    def run(self, damage: Damage | None = None, at: int = -1) -> CaptureReport:
        """Replay. With ``damage``, of the depth messages alone, and number ``at`` of them is damaged."""
        depth: list[DepthUpdate] = []
        for recv_ns, raw in read_capture(self._files):
            self.report.messages += 1
            if damage is not None and b"depthUpdate" not in raw and b"lastUpdateId" not in raw:
                continue
            line = _decode(_LINE, raw, self.report.messages)
            if line.last_update_id is not None:
                self._count("snapshot")
                snapshot = _decode(_SNAPSHOT, raw, self.report.messages)
                self._venue.snapshot(snapshot)
                self.sync.snapshot(snapshot)
                continue
            payload = line.data if line.stream else raw
            kind = _decode(_HEAD, payload, self.report.messages).e
            self._count(kind)
            if kind not in _DECODERS:
                continue
            event = _decode(_DECODERS[kind], payload, self.report.messages)
            if kind == "depthUpdate":
                depth.append(event)
                self._depth(depth, damage, at)
            else:
                self._other(kind, event, recv_ns)
        return self._finish()

    def _depth(self, seen: list[DepthUpdate], damage: Damage | None, at: int) -> None:
        """The venue's book gets every message, ours what the damage leaves of them."""
        number = len(seen) - 1
        self._venue.diff(seen[-1])
        if damage == "dropped" and number == at:
            return
        if damage == "swapped" and number == at:
            return
        self._diff(seen[-1])
        if damage == "doubled" and number == at:
            self._diff(seen[-1])
        if damage == "swapped" and number == at + 1:
            self._diff(seen[-2])

    def _diff(self, event: DepthUpdate) -> None:
        outcome = self.sync.diff(event)
        if outcome is BookOutcome.GAP:
            self.report.gaps += 1
        elif outcome is BookOutcome.CROSSED:
            self.report.crossed += 1
        elif breaks(outcome) and outcome is not BookOutcome.NOT_LOADED:
            self.report.other_breaks += 1
        if self.sync.needs_snapshot and self._venue.book.valid:
            bids, asks = self._venue.book.ladder(len(self._venue.book))
            self.sync.snapshot(DepthSnapshot(self._venue.book.last_id, list(bids), list(asks)))

    def _other(self, kind: str, event: Any, recv_ns: Nanos) -> None:
        try:
            found = self._translate[kind](event, recv_ns)
        except DataError:
            self.report.refused += 1
            return
        self._say(found)
        if isinstance(found, Trade) and (not isinstance(event, RawTrade) or translate.of_the_market(event)):
            if self._bars is None:
                self._bars = TradeBars(found.instrument, self._interval_ns)
            bar = self._bars.trade(found)
            if bar is not None:
                self.report.bars.append(bar)
                self._say(bar)

    def _say(self, event: MarketEvent) -> None:
        if self._tell is not None:
            self._tell(event)

    def _count(self, family: str) -> None:
        self.report.families[family] = self.report.families.get(family, 0) + 1

    def _finish(self) -> CaptureReport:
        report, book, venue = self.report, self.sync.book, self._venue.book
        report.rebuilt = max(0, self.sync.rebuilt - 1)
        report.book_levels = len(book)
        if book.valid and venue.valid:
            report.book_equals_venue = book.ladder(len(book)) == venue.ladder(len(venue))
        return report


def _decode(read: Callable[[Any], Any], raw: bytes | msgspec.Raw, number: int) -> Any:
    try:
        return read(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"message {number} of the capture cannot be read: {error}") from None


def damages(depth_messages: int, seed: int, places: int = 50) -> Iterable[tuple[Damage, int]]:
    """Seeded places, and what is done there: dropping, doubling and swapping in turn. Not at either end."""
    if depth_messages - 20 < places:
        raise DataError(f"{depth_messages} depth messages are too few for {places} damages")
    kinds: tuple[Damage, ...] = ("dropped", "doubled", "swapped")
    chosen = random.Random(seed).sample(range(10, depth_messages - 10), places)
    return [(kinds[number % 3], place) for number, place in enumerate(chosen)]
