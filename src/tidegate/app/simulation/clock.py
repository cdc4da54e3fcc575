"""The clock of a node on a virtual loop: its wall clock can be wrong and be set, its monotonic one is the loop's."""

import asyncio

from tidegate.domain.ids import Nanos

EPOCH_NS: Nanos = 1_750_000_000_000_000_000
"""2025-06-15 15:06:40 UTC, where simulated runs begin unless told otherwise."""


class VirtualClock:
    """The ``Clock`` port over a virtual loop, which begins at ``epoch_ns``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch_ns: Nanos = EPOCH_NS) -> None:
        self._loop, self._epoch_ns = loop, epoch_ns
        self._sleepers: dict[asyncio.Future[None], None] = {}

    def now_ns(self) -> Nanos:
        """The wall clock of this node."""
        return self._epoch_ns + self.monotonic_ns()

    def monotonic_ns(self) -> Nanos:
        """Since the run began."""
        return round(self._loop.time() * 1e9)

    def jump(self, by_ns: Nanos) -> None:
        """Set the wall clock forward or, with a negative ``by_ns``, back; whoever sleeps by it looks again."""
        self._epoch_ns += by_ns
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep_until(self, at_ns: Nanos) -> None:
        """Sleep until the wall clock shows ``at_ns``."""
        while (left_ns := at_ns - self.now_ns()) > 0:
            woken: asyncio.Future[None] = self._loop.create_future()
            timer = self._loop.call_later(left_ns / 1e9, _wake, woken)
            self._sleepers[woken] = None
            try:
                await woken
            finally:
                timer.cancel()
                del self._sleepers[woken]


def _wake(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)
