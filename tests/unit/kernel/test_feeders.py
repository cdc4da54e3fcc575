"""Step by step and by scanned chunks the same features come out, and nothing of tomorrow is in them."""

import gc
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tidegate.domain.errors import InvariantBroken
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import HOUR_NS, Bar
from tidegate.domain.signals import Signal
from tidegate.kernel.feeders import FeatureFeed, ScanFeeder, StepFeeder
from tidegate.quant.bars import BarTable
from tidegate.quant.fold import Fold
from tidegate.quant.indicators import ADX, ATR, EMA, RSI, SMA, Bollinger, Donchian, RealizedVol, ZScore
from tidegate.strategies.base import BaseStrategy, Feature, View
from tidegate.strategies.trend_following import TrendFollowing

BTC = InstrumentId("BTCUSDT")

FOLDS: tuple[Fold, ...] = (
    EMA(3),
    EMA(5, seed="first", of="open"),
    SMA(4, of="volume"),
    RSI(3),
    ATR(3),
    ATR(2, first="high_low"),
    Bollinger(4, 2.0),
    Donchian(3),
    ADX(2),
    ZScore(3, of="high"),
    RealizedVol(3, returns="log"),
)


@dataclass(frozen=True)
class Planned:
    """One feature of a drawn strategy; ``on`` is the index of an earlier one and of its output."""

    fold: Fold
    on: tuple[int, int] | None
    every: str | None


class Count(msgspec.Struct):
    """What the drawn strategy remembers."""

    decisions: int = 0
    last: float = 0.0


class Drawn(BaseStrategy):
    """A strategy whose features come from a plan (set on a subclass)."""

    memory: Count = Count()
    plan = ()

    def setup(self) -> None:
        features: list[Feature] = []
        for planned in type(self).plan:
            on = None
            if planned.on is not None:
                parent = type(self).plan[planned.on[0]].fold
                on = features[planned.on[0]][parent.outputs[planned.on[1]]]
            features.append(self.feature(planned.fold, on=on, every=planned.every))
        self.all = [feature[name] for feature, p in zip(features, self.plan, strict=True) for name in p.fold.outputs]

    def decide(self, view: View) -> Signal | None:
        self.memory.decisions += 1
        self.memory.last += view.close
        return None


@st.composite
def plans(draw: st.DrawFn) -> type[Drawn]:
    plan: list[Planned] = []
    for _ in range(draw(st.integers(0, 4))):
        fold = draw(st.sampled_from(FOLDS))
        parent = draw(st.integers(0, len(plan) - 1)) if plan and len(fold.inputs) == 1 and draw(st.booleans()) else None
        if parent is not None:
            output = draw(st.integers(0, len(plan[parent].fold.outputs) - 1))
            plan.append(Planned(fold, (parent, output), draw(st.sampled_from([None, plan[parent].every]))))
        else:
            plan.append(Planned(fold, None, draw(st.sampled_from([None, None, "1h", "2h", "4h"]))))
    return type("Drawn", (Drawn,), {"plan": tuple(plan)})


def make_bars(rng: np.random.Generator, count: int, gaps: float = 0.0, still: float = 0.2) -> list[Bar]:
    """Hourly bars that open at a random hour; with gaps, also some of many hours. Some closes stand still."""
    hours = np.where(rng.random(count) < gaps, rng.integers(1, 12, count), 1)
    ends = (1_000 + int(rng.integers(0, 8)) + np.cumsum(hours)) * HOUR_NS
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, count) * (rng.random(count) >= still)))
    open_ = np.concatenate([[100.0], close])[:count]
    high, low = np.maximum(open_, close) + rng.random(count), np.minimum(open_, close) - rng.random(count)
    columns = (ends, open_, high, low, close, rng.random(count) * 10.0)
    return [
        Bar(BTC, HOUR_NS, ts, ts, o, h, lo, c, v)
        for ts, o, h, lo, c, v in zip(*(column.tolist() for column in columns), strict=True)
    ]


bars_strategy = st.builds(
    lambda seed, count, gaps: make_bars(np.random.default_rng(seed), count, gaps),
    st.integers(0, 2**32 - 1),
    st.integers(0, 60),
    st.sampled_from([0.0, 0.2]),
)


def table(bars: Sequence[Bar]) -> BarTable:
    columns = [[getattr(b, name) for b in bars] for name in ("open", "high", "low", "close", "volume")]
    return BarTable(
        HOUR_NS, np.array([b.ts_ns for b in bars], dtype=np.int64), *(np.array(c, dtype=np.float64) for c in columns)
    )


def seen(strategy: Drawn, warm: bool) -> bytes:
    """Everything that a strategy can see of its features, bit for bit."""
    values = [value for feature in strategy.all for value in (feature.now, feature.prev)]
    assert all(type(value) is float for value in values)
    return struct.pack(f"<?{len(values)}d", warm, *values)


def walk(feed: FeatureFeed, strategy: Drawn, bars: Sequence[Bar]) -> Iterator[bytes]:
    for bar in bars:
        warm = feed.advance(bar)
        if warm:
            strategy.decide(View(bar))
        yield seen(strategy, warm)


def by_step(kind: type[Drawn], bars: Sequence[Bar], state: object = None) -> tuple[list[bytes], object]:
    strategy = kind()
    feed = StepFeeder().attach(strategy, BTC, HOUR_NS)
    if state is not None:
        feed.load(state)
    return list(walk(feed, strategy, bars)), feed.dump()


def by_scan(
    kind: type[Drawn], bars: Sequence[Bar], cuts: Sequence[int], state: object = None, stop: int | None = None
) -> tuple[list[bytes], object]:
    """Walk up to ``stop`` through chunks cut at ``cuts``, and dump there."""
    strategy = kind()
    feeder = ScanFeeder()
    feed = feeder.attach(strategy, BTC, HOUR_NS)
    if state is not None:
        feed.load(state)
    stop = len(bars) if stop is None else stop
    out: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(bars)], strict=True):
        if start > stop:
            break
        feeder.fill(BTC, table(bars[start:end]))
        out += walk(feed, strategy, bars[start : min(end, stop)])
        if stop < end:
            break
    return out, feed.dump()


def plain(state: object) -> object:
    """A dump as it comes back from a snapshot on disk."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state))


def same(a: object, b: object) -> bool:
    return msgspec.msgpack.encode(a) == msgspec.msgpack.encode(b)


@settings(max_examples=60, deadline=None)
@given(kind=plans(), bars=bars_strategy, data=st.data())
def test_scan_is_step(kind: type[Drawn], bars: list[Bar], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(bars)), max_size=4)))
    stepped, step_state = by_step(kind, bars)
    scanned, scan_state = by_scan(kind, bars, cuts)
    assert scanned == stepped
    assert same(scan_state, step_state)


@settings(max_examples=60, deadline=None)
@given(kind=plans(), bars=bars_strategy, data=st.data())
def test_a_dump_anywhere_goes_on_in_either_feeder(kind: type[Drawn], bars: list[Bar], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(bars)), max_size=3)))
    stop = data.draw(st.integers(0, len(bars)))
    unbroken, end_state = by_step(kind, bars)
    first, scan_state = by_scan(kind, bars, cuts, stop=stop)
    assert first == unbroken[:stop]
    assert same(scan_state, by_step(kind, bars[:stop])[1])
    state = plain(scan_state)
    for rest, end in (by_step(kind, bars[stop:], state), by_scan(kind, bars[stop:], [], state)):
        assert rest == unbroken[stop:]
        assert same(end, end_state)


@settings(max_examples=60, deadline=None)
@given(kind=plans(), bars=bars_strategy, others=bars_strategy, data=st.data())
def test_later_bars_change_nothing(kind: type[Drawn], bars: list[Bar], others: list[Bar], data: st.DataObject) -> None:
    t = data.draw(st.integers(0, len(bars)))
    shift = (bars[t - 1].ts_ns if t else 0) // HOUR_NS * HOUR_NS
    later = [msgspec.structs.replace(bar, ts_ns=bar.ts_ns + shift) for bar in others]
    assert by_scan(kind, [*bars[:t], *later], [])[0][:t] == by_scan(kind, bars, [])[0][:t]


@settings(max_examples=60, deadline=None)
@given(kind=plans(), seed=st.integers(0, 2**32 - 1))
def test_warm_after_the_declared_number_of_bars(kind: type[Drawn], seed: int) -> None:
    needed = kind().warmup_bars(HOUR_NS)
    # A window that stands still has no deviation: what it feeds has to wait, so these bars never stand still.
    bars = make_bars(np.random.default_rng(seed), needed + 20, still=0.0)
    strategy = kind()
    feed = StepFeeder().attach(strategy, BTC, HOUR_NS)
    warm, undefined = [], []
    for bar in bars:
        warm.append(feed.advance(bar))
        undefined.append([math.isnan(value.now) for value in strategy.all])
    assert warm == sorted(warm)
    # A window that stands still is undefined once more after it was defined, and keeps those fed by it waiting.
    assume(not any(now and not before for a, b in pairwise(undefined) for before, now in zip(a, b, strict=True)))
    assert all(warm[max(0, needed - 1) :])
    assert kind().memory_bars(HOUR_NS) >= needed


class Slow(BaseStrategy):
    """One average of its own interval and one of four hours."""

    def setup(self) -> None:
        self.fast = self.feature(SMA(2))
        self.slow = self.feature(SMA(1), every="4h")

    def decide(self, view: View) -> Signal | None:
        return None


def hourly(closes: dict[int, float]) -> list[Bar]:
    """Bars of one price each, by the hour at which they end."""
    return [Bar(BTC, HOUR_NS, h * HOUR_NS, h * HOUR_NS, c, c, c, c, 1.0) for h, c in closes.items()]


@pytest.mark.parametrize("feeder", [StepFeeder(), ScanFeeder()])
def test_a_longer_interval_speaks_when_its_bar_has_closed(feeder: StepFeeder | ScanFeeder) -> None:
    # hours 6 to 8 are inside a first bucket that nobody saw open; 12, the last of its bucket, is missing
    bars = hourly({h: float(h) for h in (6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17)})
    strategy = Slow()
    feed = feeder.attach(strategy, BTC, HOUR_NS)
    if isinstance(feeder, ScanFeeder):
        feeder.fill(BTC, table(bars))
    said = {}
    for bar in bars:
        warm = feed.advance(bar)
        said[bar.ts_ns // HOUR_NS] = (warm, strategy.slow.now, strategy.slow.prev)
    for hour in (6, 7, 8, 9, 10, 11):
        assert not said[hour][0]
        assert math.isnan(said[hour][1])
    for hour in (13, 14, 15):
        assert said[hour][:2] == (True, 11.0)
        assert math.isnan(said[hour][2])
    assert said[16] == said[17] == (True, 16.0, 11.0)
    assert (strategy.fast.now, strategy.fast.prev) == (16.5, 15.5)


def test_two_strategies_share_a_chunk() -> None:
    bars = make_bars(np.random.default_rng(3), 40)
    feeder = ScanFeeder()
    strategies = [TrendFollowing(fast_bars=n, slow_bars=9, atr_bars=3) for n in (2, 5)]
    feeds = [feeder.attach(strategy, BTC, HOUR_NS) for strategy in strategies]
    feeder.fill(BTC, table(bars))
    for bar in bars:
        assert len({feed.advance(bar) for feed in feeds}) == 1
    assert strategies[0].fast.now != strategies[1].fast.now
    assert strategies[0].slow.now == strategies[1].slow.now


# --- what may not happen ---------------------------------------------------------------------------------------------


def test_a_strategy_without_features_is_warm_at_once() -> None:
    kind = type("Drawn", (Drawn,), {"plan": ()})
    bars = make_bars(np.random.default_rng(0), 3)
    assert by_step(kind, bars)[0] == by_scan(kind, bars, [1])[0] == [b"\x01"] * 3


def scan_feed(strategy: BaseStrategy, bars: Sequence[Bar]) -> tuple[ScanFeeder, FeatureFeed]:
    feeder = ScanFeeder()
    feed = feeder.attach(strategy, BTC, HOUR_NS)
    feeder.fill(BTC, table(bars))
    return feeder, feed


def test_a_bar_that_is_not_the_chunks_is_refused() -> None:
    bars = make_bars(np.random.default_rng(0), 3)
    _, feed = scan_feed(Slow(), bars)
    with pytest.raises(InvariantBroken, match=f"ending at {bars[1].ts_ns}, wanted the one of {bars[0].ts_ns}"):
        feed.advance(bars[1])
    with pytest.raises(InvariantBroken, match="ETHUSDT"):
        feed.advance(msgspec.structs.replace(bars[0], instrument=InstrumentId("ETHUSDT")))
    for bar in bars:
        feed.advance(bar)
    with pytest.raises(InvariantBroken, match=f"the chunk ended at {bars[2].ts_ns}"):
        feed.advance(msgspec.structs.replace(bars[2], ts_ns=bars[2].ts_ns + HOUR_NS))


def test_chunks_come_one_after_the_other() -> None:
    bars = make_bars(np.random.default_rng(0), 6)
    feeder, feed = scan_feed(Slow(), bars[:3])
    with pytest.raises(InvariantBroken, match="3 bars of the old one"):
        feeder.fill(BTC, table(bars[3:]))
    with pytest.raises(InvariantBroken, match="in the middle of a chunk"):
        feed.load(feed.dump())
    for bar in bars[:3]:
        feed.advance(bar)
    with pytest.raises(InvariantBroken, match=f"come after {bars[2].ts_ns}"):
        feeder.fill(BTC, table(bars[2:]))
    feeder.fill(BTC, table(bars[3:]))
    feeder.fill(InstrumentId("ETHUSDT"), table(bars))  # nobody listens


@pytest.mark.parametrize("change", [{"ts_ns": 5}, {"instrument": "ETHUSDT"}, {"interval_ns": 7}])
def test_a_step_takes_the_next_bar_of_its_own(change: dict[str, Any]) -> None:
    bars = make_bars(np.random.default_rng(0), 2)
    feed = StepFeeder().attach(Slow(), BTC, HOUR_NS)
    feed.advance(bars[0])
    with pytest.raises(InvariantBroken, match="BTCUSDT"):
        feed.advance(msgspec.structs.replace(bars[1], **change))


def test_a_dump_of_something_else_is_refused() -> None:
    dump = StepFeeder().attach(Slow(), BTC, HOUR_NS).dump()
    with pytest.raises(InvariantBroken, match="of other features"):
        StepFeeder().attach(TrendFollowing(), BTC, HOUR_NS).load(dump)
    with pytest.raises(InvariantBroken, match="not a dump"):
        StepFeeder().attach(Slow(), BTC, HOUR_NS).load({"folds": []})


def test_an_instance_serves_one_instrument_and_intervals_must_fit() -> None:
    strategy = Slow()
    StepFeeder().attach(strategy, BTC, HOUR_NS)
    with pytest.raises(RuntimeError, match="fresh"):
        StepFeeder().attach(strategy, BTC, HOUR_NS)
    for interval_ns in (3 * HOUR_NS, 8 * HOUR_NS):
        with pytest.raises(ValueError, match="'4h' is no whole multiple"):
            StepFeeder().attach(Slow(), BTC, interval_ns)


# --- no door to the future -------------------------------------------------------------------------------------------


def public(root: object) -> Iterator[object]:
    """Everything that public attributes, items and mappings lead to, each object once."""
    stack, known = [root], set()
    while stack:
        item = stack.pop()
        if id(item) in known:
            continue
        known.add(id(item))
        yield item
        if isinstance(item, (str, bytes, int, float, type, type(None))):
            continue
        if isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack += item
        else:
            stack += [getattr(item, name) for name in dir(item) if not name.startswith("_")]
        if isinstance(item, Feature):
            stack += [item[name] for name in ("upper", "lower", "middle", "sd", "ema", "sma") if name in item._outputs]


def numbers(bars: Sequence[Bar]) -> set[float]:
    return {value for b in bars for value in (b.high, b.low, b.close, b.volume, b.ts_ns)}


class Peeping(BaseStrategy):
    """Has every kind of feature."""

    def setup(self) -> None:
        self.band = self.feature(Bollinger(3))
        self.ema = self.feature(EMA(2), on=self.band["upper"])
        self.last = self.feature(SMA(1), every="2h")

    def decide(self, view: View) -> Signal | None:
        return None


def test_nothing_within_reach_of_a_strategy_knows_a_later_bar() -> None:
    bars = make_bars(np.random.default_rng(5), 40)
    strategy = Peeping()
    _, feed = scan_feed(strategy, bars)
    for i, bar in enumerate(bars[:30]):
        feed.advance(bar)
        later = numbers(bars[i + 1 :]) - numbers(bars[: i + 1])
        reached = [item for root in (strategy, View(bar)) for item in public(root)]
        assert sum(isinstance(item, Feature) for item in reached) >= 6
        assert not [item for item in reached if isinstance(item, (np.ndarray, BarTable, ScanFeeder, type(feed)))]
        assert not [item for item in reached if isinstance(item, (int, float)) and item in later]


def test_no_reference_at_all_leads_out_of_a_feature() -> None:
    bars = make_bars(np.random.default_rng(5), 40)
    strategy = Peeping()
    _, feed = scan_feed(strategy, bars)
    feed.advance(bars[0])
    stack: list[Any] = [strategy.band, strategy.ema, strategy.last]
    known: set[int] = set()
    while stack:
        item = stack.pop()
        if id(item) not in known:
            known.add(id(item))
            assert isinstance(item, (Feature, dict, str, float, type)), item
            stack += [] if isinstance(item, type) else gc.get_referents(item)
