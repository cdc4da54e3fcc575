"""Two ways to fill the same ``Feature``: step by step as bars come (live), or by compiled loops over chunks (replay).

1. ``attach`` runs a strategy's ``setup`` and lays the declared folds out as a pipeline: one clock per interval, on it
   the folds in the order of declaration, so that a fold comes after the one that feeds it.
2. ``StepFeeder`` pushes each bar through the pipeline: resample, then one step per fold.
3. ``ScanFeeder`` is given chunks of bars, runs each fold over a whole chunk with the state carried, and then walks a
   cursor: ``advance`` only copies numbers that were computed before, and checks that they belong to its bar.
4. A strategy holds ``Feature`` objects, which are written from here; nothing leads from them to a column.
5. The two dump the same state, and one can go on from the dump of the other.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

import msgspec
import numpy as np

from tidegate.domain.errors import InvariantBroken
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import Bar
from tidegate.quant.bars import BarTable
from tidegate.quant.fold import COLUMNS, Floats, advance, scan
from tidegate.quant.resample import Ints, Resampler
from tidegate.strategies.base import Declaration, Feature, Strategy

_WARM_BEFORE: Final = -1


class FeatureFeed(Protocol):
    """Keeps the features of one strategy on one instrument up to date."""

    def advance(self, bar: Bar) -> bool:
        """Push the next closed bar; True when every feature is warm. Raises ``InvariantBroken`` for a wrong bar."""
        ...

    def dump(self) -> object:
        """The state after the last bar pushed, the strategy's memory included, as plain numbers, lists and bytes."""
        ...

    @property
    def last_ns(self) -> Nanos:
        """The end of the last bar it was given; 0 before the first."""
        ...

    def load(self, state: object) -> None:
        """Continue from a dump of the same strategy. Raises ``InvariantBroken`` when it is of another one."""
        ...


class _FeedState(msgspec.Struct):
    """What a feed dumps: the folds that the state belongs to, then everything needed to go on."""

    folds: list[tuple[str, list[float]]]
    nodes: list[tuple[int, list[float]]]  # rows counted, state
    buckets: list[tuple[list[int], list[float]]]  # open long bar of each clock
    features: list[tuple[float, float]]  # now, prev
    memory: bytes | None
    ts_ns: Nanos  # of the last bar


class _Node:
    """One fold in place: its state, what feeds it, and the features that show its outputs."""

    __slots__ = ("features", "fold", "out", "params", "pick", "seen", "source", "state")

    def __init__(self, declaration: Declaration, nodes: Sequence["_Node"]) -> None:
        self.fold = declaration.fold
        self.features = declaration.features
        self.params = self.fold.params_array()
        self.state = self.fold.initial()
        self.out = np.full(len(self.fold.outputs), np.nan)
        self.seen = 0  # rows without a NaN
        if declaration.source is None:
            self.source = None
            self.pick = _columns([COLUMNS.index(name) for name in self.fold.inputs])
        else:
            index, output = declaration.source
            self.source = nodes[index]
            self.pick = slice(output, output + 1)

    def step(self, row: Floats) -> None:
        """Take one row of bar columns ``(5,)``; writes the features."""
        x = row[self.pick] if self.source is None else self.source.out[self.pick]
        if advance(self.fold.step, self.state, self.params, x, self.out):
            self.seen += 1
        for feature, value in zip(self.features, self.out.tolist(), strict=True):
            feature.prev = feature.now
            feature.now = value

    def scan(self, rows: Floats, scanned: dict["_Node", Floats]) -> int:
        """Take all rows ``(T, 5)`` and put the outputs into ``scanned``; returns the row that made the fold warm,
        ``T`` when none did."""
        xs = rows[:, self.pick] if self.source is None else scanned[self.source][:, self.pick]
        scanned[self] = scan(self.fold, self.state, xs)
        counts = self.seen + np.cumsum(~np.isnan(xs).any(axis=1))
        warm = _WARM_BEFORE if self.is_warm() else int(np.searchsorted(counts, self.fold.warmup_bars))
        if len(counts):
            self.seen = int(counts[-1])
        return warm

    def is_warm(self) -> bool:
        return self.seen >= self.fold.warmup_bars


class _Clock:
    """The folds that run on one interval."""

    __slots__ = ("nodes", "resampler")

    def __init__(self, resampler: Resampler | None) -> None:
        self.resampler = resampler
        self.nodes: list[_Node] = []

    def step(self, ts: Ints, rows: Floats) -> None:
        for row in rows if self.resampler is None else self.resampler.push(ts, rows).rows:
            for node in self.nodes:
                node.step(row)

    def scan(self, ts: Ints, rows: Floats, scanned: dict[_Node, Floats]) -> tuple[Ints | None, int]:
        """Returns at which base rows the long bars closed (None: each base row is one) and the base row from which
        every fold here is warm."""
        closed_at: Ints | None = None
        if self.resampler is not None:
            long = self.resampler.push(ts, rows)
            closed_at, rows = long.closed_at, long.rows
        warm = max((node.scan(rows, scanned) for node in self.nodes), default=_WARM_BEFORE)
        if warm == _WARM_BEFORE:
            return closed_at, 0
        if warm == len(rows):
            return closed_at, len(ts)
        return closed_at, warm if closed_at is None else int(closed_at[warm])


class _Pipeline:
    """Everything that a strategy declared, with its state."""

    def __init__(self, declarations: Sequence[Declaration], interval_ns: int) -> None:
        self.nodes: list[_Node] = []
        clocks: dict[int, _Clock] = {interval_ns: _Clock(None)}
        for declaration in declarations:
            node = _Node(declaration, self.nodes)
            self.nodes.append(node)
            every = declaration.every
            if every is None or declaration.base_bars(interval_ns) == 1:
                clocks[interval_ns].nodes.append(node)
                continue
            if every.interval_ns not in clocks:
                clocks[every.interval_ns] = _Clock(Resampler(interval_ns, every.interval_ns, every.origin_ns))
            clocks[every.interval_ns].nodes.append(node)
        self.clocks = list(clocks.values())

    def step(self, ts: Ints, rows: Floats) -> None:
        for clock in self.clocks:
            clock.step(ts, rows)

    def is_warm(self) -> bool:
        return all(node.is_warm() for node in self.nodes)

    def folds(self) -> list[tuple[str, list[float]]]:
        return [(node.fold.name, list(node.fold.params)) for node in self.nodes]

    def dump(self) -> tuple[list[tuple[int, list[float]]], list[tuple[list[int], list[float]]]]:
        nodes = [(node.seen, node.state.tolist()) for node in self.nodes]
        return nodes, [clock.resampler.dump() for clock in self.clocks if clock.resampler is not None]

    def load(self, nodes: Sequence[tuple[int, list[float]]], buckets: Sequence[tuple[list[int], list[float]]]) -> None:
        for node, (seen, state) in zip(self.nodes, nodes, strict=True):
            node.seen = seen
            node.state[:] = state
        resamplers = [clock.resampler for clock in self.clocks if clock.resampler is not None]
        for resampler, bucket in zip(resamplers, buckets, strict=True):
            resampler.load(bucket)


class _Feed:
    """What the two feeds share: the wiring of one strategy, and its dumps."""

    __slots__ = ("_declarations", "_features", "_instrument", "_interval_ns", "_last_ns", "_pipeline", "_strategy")

    def __init__(self, strategy: Strategy, instrument: InstrumentId, interval_ns: int) -> None:
        self._strategy = strategy
        self._instrument = instrument
        self._interval_ns = interval_ns
        self._declarations = strategy.prepare()
        self._pipeline = _Pipeline(self._declarations, interval_ns)
        self._features: tuple[Feature, ...] = tuple(f for d in self._declarations for f in d.features)
        self._last_ns: Nanos = 0

    def _pack(self, pipeline: _Pipeline, last_ns: Nanos) -> dict[str, object]:
        nodes, buckets = pipeline.dump()
        return {
            "folds": pipeline.folds(),
            "nodes": nodes,
            "buckets": buckets,
            "features": [(feature.now, feature.prev) for feature in self._features],
            "memory": self._strategy.dump_memory(),
            "ts_ns": last_ns,
        }

    @property
    def last_ns(self) -> Nanos:
        return self._last_ns

    def load(self, state: object) -> None:
        try:
            stored = msgspec.convert(state, _FeedState)
        except msgspec.ValidationError as error:
            raise InvariantBroken(f"{self._strategy!r}: not a dump of features: {error}") from error
        if stored.folds != self._pipeline.folds():
            raise InvariantBroken(f"{self._strategy!r}: the dump is of other features: {stored.folds}")
        self._pipeline.load(stored.nodes, stored.buckets)
        for feature, (now, prev) in zip(self._features, stored.features, strict=True):
            feature.now, feature.prev = now, prev
        self._strategy.load_memory(stored.memory)
        self._last_ns = stored.ts_ns

    def _wrong_bar(self, bar: Bar, wanted: str) -> InvariantBroken:
        return InvariantBroken(
            f"{self._instrument} {self._interval_ns} ns {self._strategy!r}: got the bar of {bar.instrument} "
            f"{bar.interval_ns} ns ending at {bar.ts_ns}, {wanted}"
        )


class _StepFeed(_Feed):
    __slots__ = ("_row", "_ts", "_warm")

    def __init__(self, strategy: Strategy, instrument: InstrumentId, interval_ns: int) -> None:
        super().__init__(strategy, instrument, interval_ns)
        self._ts: Ints = np.zeros(1, dtype=np.int64)
        self._row: Floats = np.zeros((1, len(COLUMNS)))
        self._warm = self._pipeline.is_warm()

    def advance(self, bar: Bar) -> bool:
        if bar.ts_ns <= self._last_ns or bar.instrument != self._instrument or bar.interval_ns != self._interval_ns:
            raise self._wrong_bar(bar, f"wanted one after {self._last_ns}")
        self._last_ns = self._ts[0] = bar.ts_ns
        self._row[0] = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        self._pipeline.step(self._ts, self._row)
        if not self._warm:
            self._warm = self._pipeline.is_warm()
        return self._warm

    def dump(self) -> object:
        return self._pack(self._pipeline, self._last_ns)

    def load(self, state: object) -> None:
        super().load(state)
        self._warm = self._pipeline.is_warm()


class StepFeeder:
    """Feeds bar by bar: live, and wherever bars are not known in advance."""

    def attach(self, strategy: Strategy, instrument: InstrumentId, interval_ns: int) -> FeatureFeed:
        """Set the strategy up and return what keeps its features. The instance belongs to this one instrument.

        Raises ``RuntimeError`` when the instance is set up already, ``ValueError`` when a declared interval is no
        whole multiple of ``interval_ns``, and whatever ``setup`` raises.
        """
        return _StepFeed(strategy, instrument, interval_ns)


class _ScanFeed(_Feed):
    __slots__ = ("_cursor", "_fast", "_rows", "_slow", "_start", "_table", "_ts", "_values", "_warm_from")

    def __init__(self, strategy: Strategy, instrument: InstrumentId, interval_ns: int) -> None:
        super().__init__(strategy, instrument, interval_ns)
        base = self._pipeline.clocks[0].nodes
        self._fast: tuple[Feature, ...] = tuple(feature for node in base for feature in node.features)
        self._ts: list[Nanos] = []
        self._values: list[tuple[float, ...]] = []  # of the fast features, per bar
        self._slow: dict[int, list[tuple[Feature, float]]] = {}  # per bar that closed a longer one
        self._warm_from = 0
        self._cursor = 0
        self._table: tuple[Ints, Floats] = (np.zeros(0, dtype=np.int64), np.zeros((0, len(COLUMNS))))
        self._start = self._pipeline.dump()

    def fill(self, table: BarTable) -> None:
        """Compute the features of the next chunk; the one before must have been walked to its end."""
        if self._cursor < len(self._ts):
            raise InvariantBroken(
                f"{self._instrument} {self._strategy!r}: a new chunk came when {len(self._ts) - self._cursor} bars of "
                f"the old one, from {self._ts[self._cursor]} on, were not consumed"
            )
        ts, rows = np.ascontiguousarray(table.ts_ns, dtype=np.int64), table.rows()
        if np.any(np.diff(ts, prepend=self._last_ns) <= 0):
            raise InvariantBroken(f"{self._instrument}: the bars of a chunk do not all come after {self._last_ns}")
        self._start, self._table = self._pipeline.dump(), (ts, rows)
        scanned, slow = dict[_Node, Floats](), defaultdict[int, list[tuple[Feature, float]]](list)
        self._warm_from = 0
        for clock in self._pipeline.clocks:
            closed_at, warm_from = clock.scan(ts, rows, scanned)
            self._warm_from = max(self._warm_from, warm_from)
            if closed_at is not None:
                _schedule(clock.nodes, closed_at.tolist(), scanned, slow)
        columns = [column.tolist() for node in self._pipeline.clocks[0].nodes for column in scanned[node].T]
        self._values = list(zip(*columns, strict=True)) if columns else [()] * len(ts)
        self._slow = dict(slow)
        self._ts = ts.tolist()
        self._cursor = 0

    def advance(self, bar: Bar) -> bool:
        i = self._cursor
        try:
            ts_ns = self._ts[i]
        except IndexError:
            raise self._wrong_bar(bar, f"but the chunk ended at {self._last_ns}") from None
        if bar.ts_ns != ts_ns or (bar.instrument is not self._instrument and bar.instrument != self._instrument):
            raise self._wrong_bar(bar, f"wanted the one of {ts_ns}")
        self._cursor = i + 1
        self._last_ns = ts_ns
        for feature, value in zip(self._fast, self._values[i]):  # noqa: B905 (hot, and of equal length by fill)
            feature.prev = feature.now
            feature.now = value
        if self._slow and i in self._slow:
            for feature, value in self._slow[i]:
                feature.prev = feature.now
                feature.now = value
        return i >= self._warm_from

    def dump(self) -> object:
        if self._cursor == len(self._ts):
            return self._pack(self._pipeline, self._last_ns)
        # The pipeline stands at the end of the chunk: run another one from its start to the cursor.
        here = _Pipeline([replace(d, features=()) for d in self._declarations], self._interval_ns)
        here.load(*self._start)
        ts, rows = self._table
        scanned: dict[_Node, Floats] = {}
        for clock in here.clocks:
            clock.scan(ts[: self._cursor], rows[: self._cursor], scanned)
        return self._pack(here, self._last_ns)

    def load(self, state: object) -> None:
        if self._cursor < len(self._ts):
            raise InvariantBroken(f"{self._instrument} {self._strategy!r}: a dump was loaded in the middle of a chunk")
        super().load(state)


class ScanFeeder:
    """Feeds from chunks that were scanned in advance: backtests. ``fill`` comes before the bars of the chunk."""

    def __init__(self) -> None:
        self._feeds: defaultdict[tuple[InstrumentId, int], list[_ScanFeed]] = defaultdict(list)

    def attach(self, strategy: Strategy, instrument: InstrumentId, interval_ns: int) -> FeatureFeed:
        """As ``StepFeeder.attach``."""
        feed = _ScanFeed(strategy, instrument, interval_ns)
        self._feeds[instrument, interval_ns].append(feed)
        return feed

    def fill(self, instrument: InstrumentId, table: BarTable) -> None:
        """Hand over the next consecutive bars of an instrument, for every strategy attached to it on that interval.

        Raises ``InvariantBroken`` when the last chunk is not consumed, or when the bars do not follow it.
        """
        for feed in self._feeds.get((instrument, table.interval_ns), ()):
            feed.fill(table)


def _columns(indices: list[int]) -> slice | list[int]:
    """Neighbouring columns as a slice, for a slice of a row is a view and costs nothing."""
    first, count = indices[0], len(indices)
    return slice(first, first + count) if indices == list(range(first, first + count)) else indices


def _schedule(
    nodes: Sequence[_Node],
    closed_at: Sequence[int],
    scanned: dict[_Node, Floats],
    slow: defaultdict[int, list[tuple[Feature, float]]],
) -> None:
    """Note, for each base bar that closed long bars, which features it changes, in the order of the long bars."""
    for node in nodes:
        for t, values in zip(closed_at, scanned[node].tolist(), strict=True):
            slow[t].extend(zip(node.features, values, strict=True))
