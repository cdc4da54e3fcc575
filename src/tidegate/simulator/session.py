"""The order of one instant: a simulated market as one stream of events, for backtest, demo and local exchange alike.

``events`` yields everything that a kernel should hear; the caller hands the kernel's commands to ``execute`` before it
asks for the next event. At each instant T:

1. the range of the bars that end at T: stops, liquidation, then limits; reports are stamped T;
2. funding of T on the position after 1;
3. timers due;
4. mark prices, then the closed bars by instrument; then, if a live instrument has no bar at T, the grace timer that
   waits for it, since the market knows that the bar is missing;
5. the open of the bars that start at T: market orders fill, the reports are handled at once, and the answers
   (the stop) rest before step 1 of that same bar.

Delisting: a contract in which nothing was traded for a day (and for three bars) is settled at its last price and
leaves the market. The rule looks at the past only.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter
from typing import Protocol

from tidegate.domain.errors import OutOfOrder
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import (
    DAY_NS,
    Bar,
    FundingRate,
    InstrumentStatus,
    MarkPrice,
    Quote,
    TradingStatus,
)
from tidegate.domain.messages import (
    GRACE_TIMER,
    Command,
    Event,
    ExecutionReport,
    Operation,
    OperatorCommand,
    SetTimer,
    TimerFired,
)
from tidegate.domain.orders import AmendOrder, ApprovedOrder, CancelOrder, QueryOrder
from tidegate.domain.signals import Decision
from tidegate.quant.bars import BarTable
from tidegate.simulator.exchange import Exchange

NEVER = 2**63 - 1
_NO_BAR = Bar(InstrumentId(""), 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)

OnChunk = Callable[[InstrumentId, BarTable], None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive bars and, where the market knows them, the half spread and the depth at the touch of each."""

    table: BarTable
    half_spread_frac: Sequence[float] | None = None
    depth_qty: Sequence[float] | None = None


class MarketSource(Protocol):
    """A market to be simulated: for each instrument its bars in chunks, its settlements and its mark prices."""

    def chunks(self, instrument: InstrumentId) -> Iterator[Chunk]: ...

    def funding(self, instrument: InstrumentId) -> Iterator[FundingRate]: ...

    def marks(self, instrument: InstrumentId) -> Iterator[BarTable]: ...


@dataclass(slots=True)
class _Stream:
    """The bars of one instrument, one at a time. ``bar`` has not begun while ``starts_ns`` is set, and is in progress
    while ``ends_ns`` is; with neither there is none."""

    instrument: InstrumentId
    source: Iterator[Chunk]
    on_chunk: OnChunk | None
    interval_ns: Nanos = 0
    bars: Iterator[Bar] = field(default_factory=lambda: iter(()))
    spreads: Iterator[float] | None = None
    depths: Iterator[float] | None = None
    bar: Bar = _NO_BAR
    starts_ns: Nanos = NEVER
    ends_ns: Nanos = NEVER
    started: bool = False
    loaded_ns: Nanos = 0
    last_traded_ns: Nanos = 0
    mark: list[float] = field(default_factory=list)
    marked_ns: Nanos = 0

    def fetch(self) -> None:
        """Make the next bar the one to begin, if there is one."""
        bar = next(self.bars, None)
        while bar is None:
            chunk = next(self.source, None)
            if chunk is None:
                return
            self._load(chunk)
            bar = next(self.bars, None)
        self.bar = bar
        self.starts_ns = bar.ts_ns - self.interval_ns

    def _load(self, chunk: Chunk) -> None:
        table = chunk.table
        if not len(table):
            return
        starts = table.ts_ns[0] - table.interval_ns
        if starts < self.loaded_ns or (table.ts_ns[1:] - table.ts_ns[:-1] < table.interval_ns).any():
            raise OutOfOrder(f"{self.instrument}: bars overlap or run backwards near {self.loaded_ns}")
        self.loaded_ns = int(table.ts_ns[-1])
        self.interval_ns = table.interval_ns
        if self.on_chunk is not None:
            self.on_chunk(self.instrument, table)
        ends = table.ts_ns.tolist()
        self.bars = map(
            Bar,
            repeat(self.instrument),
            repeat(table.interval_ns),
            ends,
            ends,
            table.open.tolist(),
            table.high.tolist(),
            table.low.tolist(),
            table.close.tolist(),
            table.volume.tolist(),
        )
        self.spreads = None if chunk.half_spread_frac is None else iter(chunk.half_spread_frac)
        self.depths = None if chunk.depth_qty is None else iter(chunk.depth_qty)

    def take_mark(self, bar: BarTable, row: int) -> None:
        """Add a mark price bar to the range of the bar in progress."""
        high, low, close = float(bar.high[row]), float(bar.low[row]), float(bar.close[row])
        if self.mark:
            high, low = max(high, self.mark[1]), min(low, self.mark[2])
        self.mark = [self.mark[0] if self.mark else float(bar.open[row]), high, low, close]
        self.marked_ns += bar.interval_ns

    def mark_bar(self, bar: Bar) -> Bar | None:
        """The mark prices of the bar that ends, when they cover it whole."""
        whole = self.marked_ns == bar.interval_ns
        (opened, high, low, close), self.mark, self.marked_ns = self.mark, [], 0
        if not whole:
            return None
        return Bar(bar.instrument, bar.interval_ns, bar.ts_ns, bar.ts_ns, opened, high, low, close, 0.0)


_Rare = tuple[Nanos, int, FundingRate | tuple[BarTable, int]]


class Session:
    """One simulated market around one exchange. Iterate ``events`` once."""

    def __init__(
        self,
        exchange: Exchange,
        instruments: Iterable[InstrumentId],
        source: MarketSource,
        *,
        on_chunk: OnChunk | None = None,
        delisting: bool = True,
        funding: bool = True,
    ) -> None:
        self.exchange = exchange
        self.delisted: dict[InstrumentId, Nanos] = {}
        self.bars = 0
        self.missing_bars = 0
        self._delisting = delisting
        self._streams = [_Stream(name, source.chunks(name), on_chunk) for name in instruments]
        self._rare = heapq.merge(
            *(self._settlements(k, source) for k in range(len(self._streams)) if funding),
            *(self._mark_rows(k, source) for k in range(len(self._streams))),
            key=itemgetter(0),
        )
        self._next_rare: _Rare | None = None
        self._rare_ns: Nanos = NEVER
        self._fetch_rare()
        self._reports: deque[ExecutionReport] = deque()
        self._timers: dict[str, Nanos] = {}
        self._grace: SetTimer | None = None
        self._live = 0

    # ---- commands -----------------------------------------------------------------------------------------------

    def execute(self, command: Command, now_ns: Nanos) -> None:
        """Carry out what the kernel asked for; the answers come as events."""
        match command:
            case ApprovedOrder():
                self._reports.extend(self.exchange.submit(command, now_ns))
            case Decision():
                pass
            case CancelOrder():
                self._reports.extend(self.exchange.cancel(command, now_ns))
            case AmendOrder():
                self._reports.extend(self.exchange.amend(command, now_ns))
            case QueryOrder():
                self._reports.extend(self.exchange.query(command, now_ns))
            case SetTimer():
                self.set_timer(command)
            case _:
                pass

    def set_timer(self, timer: SetTimer) -> None:
        """Fire a timer once the market has reached its time."""
        if timer.name == GRACE_TIMER:
            self._grace = timer
        else:
            self._timers[timer.name] = timer.at_ns

    # ---- events -------------------------------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        """Every event of the market and the account, in the order of one instant."""
        for stream in self._streams:
            stream.fetch()
        streams, exchange, pending, timers = self._streams, self.exchange, self._reports, self._timers
        now_ns = min((stream.starts_ns for stream in streams), default=NEVER)
        if now_ns == NEVER:
            return
        yield self.exchange.snapshot(now_ns)
        yield OperatorCommand(Operation.START, now_ns, now_ns)
        rare: list[_Rare] = []
        while True:
            if self._rare_ns <= now_ns:
                rare = self._rare_until(now_ns)
            ended = 0
            for stream in streams:
                if stream.ends_ns == now_ns:
                    ended += 1
                    bar = stream.bar
                    reports = exchange.range(bar, stream.mark_bar(bar) if stream.mark else None)
                    if reports:
                        pending.extend(reports)
            if pending:  # after every range of T, so that no answer meets a range that has passed
                yield from self._drain()
            if rare:
                yield from self._settle_funding(rare)
            if timers:
                yield from self._due(now_ns)
            if rare:
                yield from self._mark_prices(rare)
                rare = []
            if ended:
                quiet = ended < self._live
                for stream in streams:
                    if stream.ends_ns == now_ns:
                        bar = stream.bar
                        stream.ends_ns = NEVER
                        if bar.volume > 0.0 or bar.high != bar.low:
                            stream.last_traded_ns = now_ns
                        else:
                            quiet = True
                        yield bar
                        if pending:
                            yield from self._drain()
                        upcoming = next(stream.bars, None)
                        if upcoming is None:
                            stream.fetch()
                        else:
                            stream.bar, stream.starts_ns = upcoming, upcoming.ts_ns - stream.interval_ns
                self.bars += ended
                if quiet:
                    yield from self._after_quiet(ended, now_ns)
                self._grace = None
            soonest = NEVER
            for stream in streams:
                if stream.starts_ns == now_ns:
                    bar = stream.bar
                    stream.starts_ns, stream.ends_ns = NEVER, bar.ts_ns
                    if not stream.started:
                        self._begin(stream, now_ns)
                    elif now_ns - stream.last_traded_ns >= DAY_NS and self._is_dead(stream, now_ns):
                        yield from self._delist(stream, now_ns)
                        continue
                    if stream.mark:
                        stream.mark, stream.marked_ns = [], 0
                    spread = 0.0
                    if stream.spreads is not None:
                        spread = next(stream.spreads)
                        yield _quote(bar, now_ns, spread, next(stream.depths) if stream.depths else 0.0)
                    while reports := exchange.open(bar, spread):
                        pending.extend(reports)
                        yield from self._drain()
                if stream.ends_ns < soonest:
                    soonest = stream.ends_ns
                if stream.starts_ns < soonest:
                    soonest = stream.starts_ns
            if len(streams) == 1 and soonest == streams[0].ends_ns != NEVER:
                yield from self._undisturbed(streams[0])
                soonest = min(streams[0].starts_ns, streams[0].ends_ns)
            if soonest == NEVER:
                return
            if self._rare_ns < soonest:
                soonest = self._rare_ns
            if timers:
                soonest = max(now_ns, min(soonest, *timers.values()))
            now_ns = soonest

    def _undisturbed(self, stream: _Stream) -> Iterator[Event]:
        """Steps 1, 4 and 5 of a lone instrument, bar after bar, while there is no step 2 or 3 and no pause.

        The same order with nothing to look for; it leaves the stream where ``events`` goes on. A backtest of one
        instrument spends its time here.
        """
        if stream.mark or stream.spreads is not None:
            return
        exchange, pending, timers = self.exchange, self._reports, self._timers
        bar, interval_ns = stream.bar, stream.interval_ns
        while (bar.volume > 0.0 or bar.high != bar.low) and bar.ts_ns < self._rare_ns and not timers:
            now_ns = bar.ts_ns
            reports = exchange.range(bar)
            if reports:
                pending.extend(reports)
                yield from self._drain()
                if timers:
                    yield from self._due(now_ns)
            stream.last_traded_ns = now_ns
            yield bar
            if pending:
                yield from self._drain()
            self.bars += 1
            self._grace = None
            following = next(stream.bars, None)
            if following is None or following.ts_ns - interval_ns != now_ns:
                stream.ends_ns = NEVER
                if following is None:
                    stream.fetch()
                else:
                    stream.bar, stream.starts_ns = following, following.ts_ns - following.interval_ns
                if stream.starts_ns != now_ns or stream.spreads is not None:
                    return
                following = stream.bar
                stream.starts_ns = NEVER
            stream.bar, bar = following, following
            stream.ends_ns = bar.ts_ns
            while reports := exchange.open(bar):
                pending.extend(reports)
                yield from self._drain()

    def _begin(self, stream: _Stream, now_ns: Nanos) -> None:
        stream.started = True
        stream.last_traded_ns = now_ns
        self._live += 1

    def _after_quiet(self, closed: int, now_ns: Nanos) -> Iterator[Event]:
        """Bars of T are missing or empty: delist what has died, then let the grace timer stand for what is missing."""
        live = [each for each in self._streams if each.started and each.instrument not in self.delisted]
        if closed < len(live):
            self.missing_bars += len(live) - closed
        for stream in live:
            if self._is_dead(stream, now_ns):
                yield from self._delist(stream, now_ns)
        grace, self._grace = self._grace, None
        if closed < len(live) and grace is not None:
            yield TimerFired(grace.name, now_ns, now_ns)
            yield from self._drain()

    def _is_dead(self, stream: _Stream, now_ns: Nanos) -> bool:
        idle_ns = now_ns - stream.last_traded_ns
        return self._delisting and idle_ns >= max(DAY_NS, 3 * stream.interval_ns)

    def _delist(self, stream: _Stream, now_ns: Nanos) -> Iterator[Event]:
        self.delisted[stream.instrument] = now_ns
        self._live -= 1
        stream.starts_ns = stream.ends_ns = NEVER
        stream.source, stream.bars = iter(()), iter(())
        self._reports.extend(self.exchange.settle(stream.instrument, now_ns))
        yield from self._drain()
        yield InstrumentStatus(stream.instrument, now_ns, now_ns, TradingStatus.DELISTED)
        yield from self._drain()

    def _drain(self) -> Iterator[Event]:
        while self._reports:
            yield self._reports.popleft()

    def _due(self, now_ns: Nanos) -> Iterator[Event]:
        due = sorted((at_ns, name) for name, at_ns in self._timers.items() if at_ns <= now_ns)
        for _, name in due:
            del self._timers[name]
            yield TimerFired(name, now_ns, now_ns)
            yield from self._drain()

    # ---- settlements and marks ----------------------------------------------------------------------------------

    def _settlements(self, index: int, source: MarketSource) -> Iterator[_Rare]:
        for event in source.funding(self._streams[index].instrument):
            yield event.ts_ns, index, event

    def _mark_rows(self, index: int, source: MarketSource) -> Iterator[_Rare]:
        for table in source.marks(self._streams[index].instrument):
            for row, ts_ns in enumerate(table.ts_ns.tolist()):
                yield ts_ns, index, (table, row)

    def _rare_until(self, now_ns: Nanos) -> list[_Rare]:
        """Settlements and mark prices that are due; the marks join the range of the bar in progress."""
        found: list[_Rare] = []
        while self._next_rare is not None and self._next_rare[0] <= now_ns:
            _, index, payload = self._next_rare
            stream = self._streams[index]
            if stream.started and stream.instrument not in self.delisted:
                if isinstance(payload, tuple):
                    stream.take_mark(*payload)
                found.append(self._next_rare)
            self._fetch_rare()
        return found

    def _fetch_rare(self) -> None:
        self._next_rare = next(self._rare, None)
        self._rare_ns = NEVER if self._next_rare is None else self._next_rare[0]

    def _settle_funding(self, rare: list[_Rare]) -> Iterator[Event]:
        for _, index, payload in rare:
            if isinstance(payload, tuple):
                table, row = payload
                self.exchange.set_mark(self._streams[index].instrument, float(table.close[row]))
        for _, _, payload in rare:
            if isinstance(payload, FundingRate):
                yield payload
                self._reports.extend(self.exchange.fund(payload))
                yield from self._drain()

    def _mark_prices(self, rare: list[_Rare]) -> Iterator[Event]:
        for ts_ns, index, payload in rare:
            if isinstance(payload, tuple):
                table, row = payload
                yield MarkPrice(self._streams[index].instrument, ts_ns, ts_ns, float(table.close[row]))
                yield from self._drain()


def _quote(bar: Bar, now_ns: Nanos, half_spread_frac: float, depth_qty: float) -> Quote:
    """The touch at the open of a bar."""
    half = bar.open * half_spread_frac
    return Quote(bar.instrument, now_ns, now_ns, bar.open - half, bar.open + half, depth_qty, depth_qty)
