"""Market time against wall time: history as fast as it goes, then so many market seconds a second."""

from collections.abc import Callable
from time import monotonic

from tidegate.domain.ids import Nanos

_LATE_S = 1.0
"""How far the market may lag behind its pace. A machine that slept goes on from where it was, it does not race."""


class Pace:
    """``speed`` market seconds per wall second, after ``history_ns`` of market time without any waiting.

    A ``speed`` of ``None`` never waits. ``wall_s`` is a clock that only moves forward, in seconds.
    """

    def __init__(self, speed: float | None, history_ns: Nanos = 0, *, wall_s: Callable[[], float] = monotonic) -> None:
        if speed is not None and not speed > 0.0:
            raise ValueError(f"speed must be positive, not {speed}")
        self._speed = speed
        self._history_ns = history_ns
        self._wall_s = wall_s
        self._live_from_ns: Nanos | None = None
        self._anchor_ns: Nanos = 0
        self._anchor_s: float | None = None

    @property
    def live_from_ns(self) -> Nanos | None:
        """The market time at which the waiting begins; ``None`` before the first event."""
        return self._live_from_ns

    def begin(self, ts_ns: Nanos) -> None:
        """The market begins at ``ts_ns``; only the first call counts."""
        if self._live_from_ns is None:
            self._live_from_ns = ts_ns + self._history_ns

    def hurry(self) -> None:
        """Wait no more from now on."""
        self._speed = None

    def delay_s(self, ts_ns: Nanos) -> float:
        """How long an event of ``ts_ns`` must wait from now; zero or less when it is due."""
        self.begin(ts_ns)
        if self._speed is None or self._live_from_ns is None or ts_ns < self._live_from_ns:
            return 0.0
        now_s = self._wall_s()
        if self._anchor_s is None:
            self._anchor_ns, self._anchor_s = ts_ns, now_s
        delay_s = self._anchor_s + (ts_ns - self._anchor_ns) / 1e9 / self._speed - now_s
        if delay_s < -_LATE_S:
            self._anchor_ns, self._anchor_s = ts_ns, now_s
        return delay_s
