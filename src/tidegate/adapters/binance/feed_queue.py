"""What waits between the connections and the reader: bounded, and only what can be told again is replaced."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tidegate.domain.market import MarketEvent

Late = Callable[[], MarketEvent | None]
"""An event that is made when it is read; ``None`` when there is nothing to say any more."""

QUEUE_EVENTS: Final = 20_000


class FeedQueue:
    """Events in order. Those of one key are conflated: the newest takes the place at the end.

    When ``full``, the connections stop reading until the reader has caught up: nothing is dropped.
    """

    def __init__(self, bound: int = QUEUE_EVENTS) -> None:
        self.full = False
        self.conflated = 0
        self._bound = bound
        self._waiting: OrderedDict[object, MarketEvent | Late] = OrderedDict()
        self._serial = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._failure: BaseException | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: MarketEvent) -> None:
        """Keep ``event`` until it is read."""
        self._serial += 1
        self._waiting[self._serial] = event
        self._added()

    def put_latest(self, key: str, event: MarketEvent | Late) -> None:
        """Keep ``event`` in place of whatever waits under ``key``."""
        if self._waiting.pop(key, None) is not None:
            self.conflated += 1
        self._waiting[key] = event
        self._added()

    def fail(self, error: BaseException) -> None:
        """Let the reader's next call raise ``error``."""
        self._failure = error
        self._arrived.set()

    async def get(self) -> MarketEvent:
        """The next event."""
        while True:
            if self._failure is not None:
                raise self._failure
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            _, event = self._waiting.popitem(last=False)
            if self.full and len(self._waiting) <= self._bound // 2:
                self.full = False
                self._room.set()
            found = event() if callable(event) else event
            if found is not None:
                return found

    async def room(self) -> None:
        """Return when the queue is no longer full."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    def _added(self) -> None:
        if len(self._waiting) >= self._bound:
            self.full = True
        if not self._arrived.is_set():
            self._arrived.set()
