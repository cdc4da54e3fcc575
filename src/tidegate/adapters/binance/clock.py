"""The venue's clock, kept by monotonic time: setting the wall clock of this machine cannot move a timestamp."""

from collections.abc import Callable
from typing import Final, Protocol

from tidegate.domain.errors import VenueUnavailable
from tidegate.domain.ids import Nanos

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
MAX_AGE_NS: Final = 5 * 60 * NS_PER_S
MAX_ERROR_NS: Final = 250 * NS_PER_MS


class VenueClock:
    """The venue's time as monotonic time plus an offset.

    A round is a few samples taken in a row (Cristian's method): the one of smallest round trip is kept, its offset
    is the server's time minus the midpoint of sending and receiving, its error half of the round trip.
    """

    def __init__(self, monotonic_ns: Callable[[], int]) -> None:
        self.monotonic_ns = monotonic_ns
        self._offset_ns: int | None = None
        self._error_ns = 0
        self._measured_ns = 0
        self._best_ns: int | None = None

    def begin_round(self) -> None:
        """Let the next sample replace what was kept, however long its round trip."""
        self._best_ns = None

    def sample(self, sent_mono_ns: int, received_mono_ns: int, server_ms: int) -> None:
        """Take in one answer of the venue's time; kept when its round trip is the smallest of the round."""
        trip_ns = received_mono_ns - sent_mono_ns
        if trip_ns < 0:
            raise ValueError(f"received {-trip_ns} ns before it was sent")
        if self._best_ns is not None and trip_ns >= self._best_ns:
            return
        self._best_ns = trip_ns
        self._offset_ns = server_ms * NS_PER_MS - (sent_mono_ns + received_mono_ns) // 2
        self._error_ns = (trip_ns + 1) // 2
        self._measured_ns = received_mono_ns

    @property
    def synced(self) -> bool:
        """Whether the venue's time is known at all."""
        return self._offset_ns is not None

    @property
    def offset_ns(self) -> int | None:
        """Venue time minus monotonic time; None before the first sample."""
        return self._offset_ns

    @property
    def error_ns(self) -> int:
        """How far ``now_ns`` can be off, by the sample that is in use."""
        return self._error_ns

    @property
    def age_ns(self) -> int:
        """How long ago the sample that is in use was taken."""
        return self.monotonic_ns() - self._measured_ns

    @property
    def doubt(self) -> str | None:
        """Why no order may be signed by this clock, in a few words; None when it is good."""
        if self._offset_ns is None:
            return "the venue's clock has not been measured"
        if self.age_ns > MAX_AGE_NS:
            return f"the clock offset is {self.age_ns // NS_PER_S} s old (at most {MAX_AGE_NS // NS_PER_S} s)"
        if self._error_ns > MAX_ERROR_NS:
            return f"the clock may be {self._error_ns // NS_PER_MS} ms off (at most {MAX_ERROR_NS // NS_PER_MS} ms)"
        return None

    def now_ns(self) -> Nanos:
        """The venue's time. Raises ``VenueUnavailable`` before the first sample."""
        if self._offset_ns is None:
            raise VenueUnavailable("the venue's clock has not been measured")
        return self.monotonic_ns() + self._offset_ns

    def now_ms(self) -> int:
        """The venue's time in whole milliseconds: what a request is stamped with."""
        return self.now_ns() // NS_PER_MS


class TimeSource(Protocol):
    """Whoever can ask the venue for its time."""

    @property
    def clock(self) -> VenueClock:
        """The clock that the answers belong to."""
        ...

    async def server_time(self) -> tuple[int, int, int]:
        """Monotonic nanoseconds of sending and of receiving, and the venue's milliseconds between."""
        ...


async def measure(rest: TimeSource, samples: int = 5) -> None:
    """Take a round of ``samples`` into the clock of ``rest``. Raises what the request raises; what it got counts."""
    rest.clock.begin_round()
    for _ in range(samples):
        rest.clock.sample(*await rest.server_time())
