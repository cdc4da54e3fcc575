"""Market time as a clock: it stands still between two events of the simulated market."""

import asyncio
import heapq
from itertools import count

from tidegate.domain.ids import Nanos


class SimClock:
    """The ``Clock`` port over a simulated market, which moves it by ``advance``."""

    def __init__(self, now_ns: Nanos = 0) -> None:
        self._now_ns = now_ns
        self._sleepers: list[tuple[Nanos, int, asyncio.Future[None]]] = []
        self._order = count()

    def now_ns(self) -> Nanos:
        """The time of the market's last event."""
        return self._now_ns

    def monotonic_ns(self) -> Nanos:
        """Market time, which never jumps back."""
        return self._now_ns

    async def sleep_until(self, at_ns: Nanos) -> None:
        """Return when the market has reached ``at_ns``."""
        if at_ns <= self._now_ns:
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (at_ns, next(self._order), woken))
        await woken

    def advance(self, now_ns: Nanos) -> None:
        """Move on to ``now_ns`` and wake whoever waited for it; the clock never runs backwards."""
        if now_ns <= self._now_ns:
            return
        self._now_ns = now_ns
        while self._sleepers and self._sleepers[0][0] <= now_ns:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)
