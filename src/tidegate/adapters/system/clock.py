"""The real clock, and timers that go by any clock."""

import asyncio
import time
from collections.abc import AsyncIterator

from tidegate.domain.ids import Nanos
from tidegate.domain.messages import SetTimer, TimerFired
from tidegate.ports import Clock

_LONGEST_SLEEP_S = 1.0
"""The wall clock may be set while we sleep: look at it again this often."""


class SystemClock:
    """The ``Clock`` port over the machine's wall clock."""

    def now_ns(self) -> Nanos:
        """The wall clock."""
        return time.time_ns()

    def monotonic_ns(self) -> Nanos:
        """The machine's monotonic clock."""
        return time.monotonic_ns()

    async def sleep_until(self, at_ns: Nanos) -> None:
        """Sleep until the wall clock shows ``at_ns``."""
        while (left_ns := at_ns - self.now_ns()) > 0:  # noqa: ASYNC110  a wall clock tells nobody that it was set
            await asyncio.sleep(min(left_ns / 1e9, _LONGEST_SLEEP_S))


class ClockTimers:
    """The ``Timers`` port by a clock. ``recv_ns`` of what fires is the time at which it was noticed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[str, Nanos] = {}
        self._changed = asyncio.Event()

    def set(self, timer: SetTimer) -> None:
        """Fire at ``timer.at_ns``; a timer of the same name moves."""
        self._due[timer.name] = timer.at_ns
        self._changed.set()

    async def fired(self) -> AsyncIterator[TimerFired]:
        """Timers in the order of their times."""
        while True:
            self._changed.clear()
            name = min(self._due, key=lambda each: (self._due[each], each), default=None)
            if name is None:
                await self._changed.wait()
            elif (at_ns := self._due[name]) <= self._clock.now_ns():
                del self._due[name]
                yield TimerFired(name, at_ns, self._clock.now_ns())
            else:
                await self._sleep_or_change(at_ns)

    async def _sleep_or_change(self, at_ns: Nanos) -> None:
        """Until the clock shows ``at_ns``, or a timer is set."""
        waits = [asyncio.ensure_future(self._clock.sleep_until(at_ns)), asyncio.ensure_future(self._changed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
