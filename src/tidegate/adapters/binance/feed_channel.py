"""What one connection carries, and what becomes of it when the connection comes and goes."""

from collections.abc import Callable

from tidegate.adapters.binance.book_feed import BookKeeper
from tidegate.adapters.binance.feed_queue import FeedQueue
from tidegate.adapters.binance.freshness import SILENCE_NS, Watch
from tidegate.adapters.binance.market_routes import BookRoute, Router, TradeRoute
from tidegate.adapters.binance.ws import ManagedConnection
from tidegate.domain.ids import Nanos
from tidegate.domain.market import Family


class Channel:
    """The ``StreamHandler`` of one connection: its payloads go to the router, its state to watches and books."""

    connection: ManagedConnection

    def __init__(self, queue: FeedQueue, router: Router, look: Callable[[], None]) -> None:
        self.watches: list[Watch] = []
        self.books: list[tuple[BookKeeper, BookRoute, Watch]] = []
        self.trades: list[TradeRoute] = []
        self.open = False
        self.message = router.message
        self.stamp = router.stamp
        self._queue = queue
        self._router = router
        self._look = look
        self._paused = False

    @property
    def full(self) -> bool:
        """Whether reading must wait for the reader of events."""
        return self._queue.full

    async def room(self) -> None:
        """Return when events may be added again. What is not read cannot be silent."""
        self._paused = True
        await self._queue.room()
        self._paused = False
        self._restart()

    def opened(self) -> None:
        """Count silence from here."""
        self.open = True
        self._paused = False
        self._restart()

    def up(self) -> None:
        """Data flow; each family says by itself that it is fresh."""
        self._look()

    def down(self, why: str) -> None:
        """Books are lost at once and quotes are doubtful; the others go stale by their bounds."""
        self.open = False
        self.stamp()
        recv_ns = self._router.recv_ns
        for keeper, _, _ in self.books:
            keeper.lost("disconnected")
        for watch in self.watches:
            if watch.family in (Family.QUOTES, Family.BOOK) and watch.fresh is not None:
                watch.set(False, recv_ns, f"disconnected: {why}")
        for route in self.trades:
            route.interrupted = True

    def overlap(self, both: bool) -> None:
        """Books drop doubles while two connections bring them; the other routes always do."""
        for _, route, _ in self.books:
            route.both = both

    def silent_at_ns(self) -> Nanos | None:
        """When the whole connection counts as dead; ``None`` while it is not open, not read or carries nothing."""
        if not self.open or self._paused or not self.watches:
            return None
        last_ns = max(max(watch.good_ns, watch.since_ns) for watch in self.watches)
        return last_ns + min(SILENCE_NS[watch.family] for watch in self.watches)

    def _restart(self) -> None:
        self.stamp()
        for watch in self.watches:
            watch.restarted(self._router.now_ns)
        self._look()
