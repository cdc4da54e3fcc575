"""A local order book over a diff stream: buffer, snapshot, apply; and again after any break.

``BookSync`` is the state machine, without input or output, so that a captured stream runs through the very same code;
``BookKeeper`` fetches its snapshots.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from tidegate.adapters.binance.market_rest import MarketRest, fetch
from tidegate.adapters.binance.market_schemas import Counters, DepthSnapshot, DepthUpdate
from tidegate.domain.book import BookOutcome, OrderBook, breaks
from tidegate.domain.errors import DataError, VenueError
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import Depth

SNAPSHOT_LEVELS: Final = 1000
SNAPSHOT_WEIGHT: Final = 20
BUFFER_EVENTS: Final = 4096
LADDER_LEVELS: Final = 20
_MS_NS: Final = 1_000_000


class BookSync:
    """One book and what it needs: diffs are buffered while it has no snapshot, and applied once it has.

    ``outcomes`` counts what broke it, by the name of the outcome.
    """

    def __init__(self, book: OrderBook | None = None, counters: Counters | None = None) -> None:
        self.book = OrderBook() if book is None else book
        self.counters = Counters() if counters is None else counters
        self.needs_snapshot = True
        self.rebuilt = 0
        self._buffer: deque[DepthUpdate] = deque()

    def diff(self, event: DepthUpdate) -> BookOutcome:
        """Apply or buffer one event. After a gap the event is the first of the new buffer; a bad one is dropped."""
        if self.needs_snapshot:
            self._keep(event)
            return BookOutcome.NOT_LOADED
        outcome = self._apply(event)
        if breaks(outcome):
            self.lost(outcome.value)
            if outcome is BookOutcome.GAP:
                self._keep(event)
        return outcome

    def snapshot(self, snapshot: DepthSnapshot) -> BookOutcome:
        """Load ``snapshot`` and apply what was buffered; unless it is applied, another one is needed."""
        if self._buffer and self._buffer[0].first_id > snapshot.last_update_id:
            self.counters.add("book: snapshot older than the buffer")
            return BookOutcome.GAP
        outcome = self.book.load(snapshot.last_update_id, snapshot.bids, snapshot.asks)
        while self._buffer and not breaks(outcome):
            outcome = self._apply(self._buffer[0])
            if outcome is not BookOutcome.GAP:
                self._buffer.popleft()
        if breaks(outcome):
            self.counters.add(f"book: {outcome.value}")
            self.book.drop()
            return outcome
        self.needs_snapshot = False
        return outcome

    def lost(self, why: str) -> None:
        """Drop the book and the buffer: continuity is broken."""
        self.counters.add(f"book: {why}")
        self.book.drop()
        self._buffer.clear()
        self.needs_snapshot = True

    def _apply(self, event: DepthUpdate) -> BookOutcome:
        fresh = not self.book.valid
        outcome = self.book.apply(event.first_id, event.last_id, event.previous_id, event.bids, event.asks)
        if fresh and outcome is BookOutcome.APPLIED:
            self.rebuilt += 1
        return outcome

    def _keep(self, event: DepthUpdate) -> None:
        if len(self._buffer) == BUFFER_EVENTS:
            self.counters.add("book: buffer overflow")
            self._buffer.clear()
        self._buffer.append(event)


class BookKeeper:
    """Keeps one instrument's book: asks for snapshots as long as one is needed."""

    def __init__(
        self,
        instrument: InstrumentId,
        rest: MarketRest,
        rng: random.Random,
        counters: Counters,
        changed: Callable[[], None],
    ) -> None:
        self.instrument = instrument
        self.sync = BookSync(counters=counters)
        self.time_ms = 0
        self.recv_ns: Nanos = 0
        self._rest = rest
        self._rng = rng
        self._changed = changed
        self._wanted = asyncio.Event()

    def diff(self, event: DepthUpdate, recv_ns: Nanos) -> BookOutcome:
        """One event of the stream."""
        self.time_ms = event.time_ms or event.event_ms
        self.recv_ns = recv_ns
        outcome = self.sync.diff(event)
        if self.sync.needs_snapshot:
            self._wanted.set()
        return outcome

    def lost(self, why: str) -> None:
        """The stream was interrupted, or an event could not be read."""
        self.sync.lost(why)

    def depth(self) -> Depth | None:
        """The ladder as it is now; ``None`` while the book is not valid."""
        if not self.sync.book.valid:
            return None
        bids, asks = self.sync.book.ladder(LADDER_LEVELS)
        return Depth(self.instrument, self.time_ms * _MS_NS, self.recv_ns, bids, asks)

    async def run(self) -> None:
        """Fetch snapshots whenever diffs wait for one; never returns."""
        failures = 0
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if not self.sync.needs_snapshot:
                continue
            failures = 0 if await self._fetch() else failures + 1
            if self.sync.needs_snapshot:
                await asyncio.sleep(min(10.0, 0.25 * 2.0 ** min(failures, 8)) * self._rng.uniform(0.5, 1.0))
                self._wanted.set()

    async def _fetch(self) -> bool:
        params = (("symbol", self.instrument), ("limit", str(SNAPSHOT_LEVELS)))
        try:
            snapshot = await fetch(self._rest, "/fapi/v1/depth", params, DepthSnapshot, SNAPSHOT_WEIGHT)
        except (VenueError, DataError):
            self.sync.counters.add("book: no snapshot")
            return False
        if self.sync.needs_snapshot and not breaks(self.sync.snapshot(snapshot)):
            self._changed()
            return True
        return False
