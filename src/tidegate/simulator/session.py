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
from tidegate.quant.bars import BarTable
from tidegate.simulator.exchange import Exchange

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
    """The bars of one instrument, one at a time."""

    instrument: InstrumentId
    source: Iterator[Chunk]
    on_chunk: OnChunk | None
    interval_ns: Nanos = 0
    rows: Iterator[tuple[int, float, float, float, float, float, float, float]] = field(
        default_factory=lambda: iter(())
    )
    current: Bar | None = None
    upcoming: Bar | None = None
    spread: float = 0.0
    depth: float = 0.0
    started: bool = False
    ended: bool = False
    last_traded_ns: Nanos = 0
    mark: list[float] = field(default_factory=list)
    marked_ns: Nanos = 0

    def fetch(self) -> None:
        """Make the next bar ``upcoming``; the stream has ended when there is none."""
        row = next(self.rows, None)
        while row is None:
            chunk = next(self.source, None)
            if chunk is None:
                self.upcoming = None
                self.ended = True
                return
            row = next(self._load(chunk), None)
        ts_ns, opened, high, low, close, volume, self.spread, self.depth = row
        last = self.current.ts_ns if self.current else self.last_traded_ns
        if ts_ns - self.interval_ns < last and self.started:
            raise OutOfOrder(f"{self.instrument}: bar that ends at {ts_ns} follows one that ends at {last}")
        self.upcoming = Bar(self.instrument, self.interval_ns, ts_ns, ts_ns, opened, high, low, close, volume)

    def _load(self, chunk: Chunk) -> Iterator[tuple[int, float, float, float, float, float, float, float]]:
        table = chunk.table
        self.interval_ns = table.interval_ns
        if self.on_chunk is not None and len(table):
            self.on_chunk(self.instrument, table)
        none = [0.0] * len(table)
        self.rows = zip(
            table.ts_ns.tolist(),
            table.open.tolist(),
            table.high.tolist(),
            table.low.tolist(),
            table.close.tolist(),
            table.volume.tolist(),
            none if chunk.half_spread_frac is None else list(chunk.half_spread_frac),
            none if chunk.depth_qty is None else list(chunk.depth_qty),
            strict=True,
        )
        return self.rows

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
        self.closes: dict[InstrumentId, float] = {}
        self._delisting = delisting
        self._streams = [_Stream(name, source.chunks(name), on_chunk) for name in instruments]
        self._rare = heapq.merge(
            *(self._settlements(k, source) for k in range(len(self._streams)) if funding),
            *(self._mark_rows(k, source) for k in range(len(self._streams))),
            key=itemgetter(0),
        )
        self._next_rare: _Rare | None = next(self._rare, None)
        self._reports: deque[ExecutionReport] = deque()
        self._timers: dict[str, Nanos] = {}
        self._grace: SetTimer | None = None

    # ---- commands -----------------------------------------------------------------------------------------------

    def execute(self, command: Command, now_ns: Nanos) -> None:
        """Carry out what the kernel asked for; the answers come as events."""
        match command:
            case ApprovedOrder():
                self._reports.extend(self.exchange.submit(command, now_ns))
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
        now_ns = self._next_instant(first=True)
        if now_ns is None:
            return
        yield self.exchange.snapshot(now_ns)
        yield OperatorCommand(Operation.START, now_ns, now_ns)
        rare: list[_Rare] = []
        while now_ns is not None:
            if self._next_rare is not None and self._next_rare[0] <= now_ns:
                rare = self._rare_until(now_ns)
            for stream in self._streams:
                bar = stream.current
                if bar is not None and bar.ts_ns == now_ns:
                    mark = stream.mark_bar(bar) if stream.mark else None
                    self._reports.extend(self.exchange.range(bar, mark))
                    if self._reports:
                        yield from self._drain()
            if rare:
                yield from self._settle_funding(rare)
            if self._timers:
                yield from self._due(now_ns)
            if rare:
                yield from self._mark_prices(rare)
                rare = []
            closed = 0
            for stream in self._streams:
                bar = stream.current
                if bar is not None and bar.ts_ns == now_ns:
                    closed += 1
                    self.closes[bar.instrument] = bar.close
                    stream.current = None
                    if bar.volume > 0.0 or bar.high != bar.low:
                        stream.last_traded_ns = now_ns
                    yield bar
                    if self._reports:
                        yield from self._drain()
                    if stream.upcoming is None:
                        stream.fetch()
            if closed:
                self.bars += closed
                yield from self._close_instant(closed, now_ns)
            for stream in self._streams:
                upcoming = stream.upcoming
                if upcoming is not None and upcoming.ts_ns - upcoming.interval_ns == now_ns:
                    yield from self._open(stream, upcoming, now_ns)
            now_ns = self._next_instant()

    def _open(self, stream: _Stream, bar: Bar, now_ns: Nanos) -> Iterator[Event]:
        """Begin a bar: what waits fills, and so does what the kernel answers with at the same price."""
        if not stream.started:
            stream.started = True
            stream.last_traded_ns = now_ns
        stream.current, stream.upcoming = bar, None
        if stream.spread > 0.0:
            half = bar.open * stream.spread
            yield Quote(bar.instrument, now_ns, now_ns, bar.open - half, bar.open + half, stream.depth, stream.depth)
        while reports := self.exchange.open(bar, stream.spread):
            self._reports.extend(reports)
            yield from self._drain()

    def _close_instant(self, closed: int, now_ns: Nanos) -> Iterator[Event]:
        """After the bars of T: delist what has died, then let the grace timer stand for the bars that are missing."""
        live = 0
        for stream in self._streams:
            if not stream.started or stream.instrument in self.delisted:
                continue
            live += 1
            idle_ns = now_ns - stream.last_traded_ns
            if self._delisting and idle_ns >= max(DAY_NS, 3 * stream.interval_ns):
                yield from self._delist(stream, now_ns)
        grace, self._grace = self._grace, None
        if closed < live:
            self.missing_bars += live - closed
            if grace is not None:
                yield TimerFired(grace.name, now_ns, now_ns)
                yield from self._drain()

    def _delist(self, stream: _Stream, now_ns: Nanos) -> Iterator[Event]:
        self.delisted[stream.instrument] = now_ns
        stream.current, stream.upcoming, stream.ended, stream.source = None, None, True, iter(())
        stream.rows = iter(())
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
            self._next_rare = next(self._rare, None)
        return found

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

    def _next_instant(self, *, first: bool = False) -> Nanos | None:
        """The earliest time at which something happens; a bar in progress or to come keeps the market going."""
        soonest: Nanos | None = None
        for stream in self._streams:
            bar = stream.current
            if bar is not None:
                at_ns = bar.ts_ns
            elif stream.upcoming is not None:
                at_ns = stream.upcoming.ts_ns - stream.upcoming.interval_ns
            else:
                continue
            if soonest is None or at_ns < soonest:
                soonest = at_ns
        if soonest is None or first:
            return soonest
        if self._next_rare is not None and self._next_rare[0] < soonest:
            soonest = self._next_rare[0]
        if self._timers:
            soonest = min(soonest, *self._timers.values())
        return soonest
