"""Closed bars without holes: from the stream when it brings them, over REST when it does not, always in order.

1. A bar that follows on the last one is passed on at once; an older one is dropped.
2. A later one is held, and what is missing before it is fetched.
3. A bar that has not come two seconds after its end is fetched too.
4. What the venue does not have, although it has a later one, is a gap; so is what could not be had for a minute while
   later bars waited.
"""

from collections.abc import Callable, Sequence
from typing import Final

from tidegate.adapters.binance.market_schemas import Counters
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import SECOND_NS, Bar, FeedGap

LATE_NS: Final = 2 * SECOND_NS
PATIENCE_NS: Final = 60 * SECOND_NS


class BarKeeper:
    """The bars of one interval of one instrument. Knows no input or output; times are the venue's."""

    def __init__(
        self,
        instrument: InstrumentId,
        interval_ns: Nanos,
        last_ts_ns: Nanos,
        emit: Callable[[Bar | FeedGap], None],
        counters: Counters,
    ) -> None:
        self.instrument = instrument
        self.interval_ns = interval_ns
        self.last_ts_ns = last_ts_ns
        self.refetched = 0
        self._emit = emit
        self._counters = counters
        self._held: dict[Nanos, Bar] = {}
        self._hole_since_ns: Nanos | None = None

    @property
    def next_ts_ns(self) -> Nanos:
        """When the next bar ends."""
        return self.last_ts_ns + self.interval_ns

    @property
    def holds(self) -> bool:
        """Whether a bar waits for one before it."""
        return bool(self._held)

    def bar(self, bar: Bar, now_ns: Nanos) -> None:
        """A bar of the stream."""
        if bar.ts_ns <= self.last_ts_ns or bar.ts_ns in self._held:
            self._counters.add("bar dropped: known already")
            return
        self._held[bar.ts_ns] = bar
        self._release(now_ns)

    def fetched(self, bars: Sequence[Bar], now_ns: Nanos) -> None:
        """Closed bars from the venue's history: all there are from the first missing one on, in order."""
        for bar in bars:
            if bar.ts_ns > self.last_ts_ns and bar.ts_ns not in self._held:
                self._held[bar.ts_ns] = bar
                self.refetched += 1
                self._counters.add("bar fetched")
        self._release(now_ns)
        newest_ts_ns = bars[-1].ts_ns if bars else 0
        while self._held and min(self._held) <= newest_ts_ns:
            self._skip("the venue does not have them", now_ns)
            self._release(now_ns)

    def give_up(self, now_ns: Nanos) -> None:
        """Pass on what waits when the hole before it could not be filled for long enough."""
        if self._hole_since_ns is not None and now_ns - self._hole_since_ns >= PATIENCE_NS:
            self._skip("they could not be fetched", now_ns)
            self._release(now_ns)

    def missing(self, now_ns: Nanos) -> tuple[Nanos, Nanos] | None:
        """The first and the last end of the bars to fetch; ``None`` when nothing is overdue."""
        if self._held:
            return self.next_ts_ns, min(self._held) - self.interval_ns
        overdue = (now_ns - LATE_NS - self.last_ts_ns) // self.interval_ns
        return (self.next_ts_ns, self.last_ts_ns + overdue * self.interval_ns) if overdue > 0 else None

    def _release(self, now_ns: Nanos) -> None:
        while (bar := self._held.pop(self.next_ts_ns, None)) is not None:
            self.last_ts_ns = bar.ts_ns
            self._emit(bar)
        if not self._held:
            self._hole_since_ns = None
        elif self._hole_since_ns is None:
            self._hole_since_ns = now_ns

    def _skip(self, why: str, now_ns: Nanos) -> None:
        upto_ns = min(self._held) - self.interval_ns
        count = (upto_ns - self.last_ts_ns) // self.interval_ns
        self._counters.add("bar lost", count)
        detail = f"bars: {count} missing: {why}"
        self._emit(FeedGap(self.instrument, upto_ns, now_ns, self.last_ts_ns, detail))
        self.last_ts_ns = upto_ns
        self._hole_since_ns = None
