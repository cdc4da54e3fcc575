"""How old the newest word of each family of an instrument is: liveness is judged by payload, never by a socket.

A payload counts when its event time is newer than the one before (the same payload again is silence) and not older,
by the venue's clock, than the family's bound (a burst after a stall is not fresh).
"""

from collections.abc import Callable
from typing import Final

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import SECOND_NS, Family, FeedState

BOUNDS_NS: Final[dict[Family, Nanos | None]] = {
    Family.BOOK: 2 * SECOND_NS,
    Family.MARKS: 5 * SECOND_NS,
    Family.QUOTES: None,
    Family.BARS: None,  # one interval and five seconds, by the end of the newest bar
}
"""After this long without a payload the family is stale; quotes have no bound of their own."""

SILENCE_NS: Final = {
    Family.BOOK: 10 * SECOND_NS,
    Family.MARKS: 10 * SECOND_NS,
    Family.QUOTES: 60 * SECOND_NS,
    Family.BARS: 60 * SECOND_NS,
}
"""After this long something is wrong with the stream or its connection."""

ASK_AGAIN_NS: Final = 10 * SECOND_NS
_LONGEST_NS: Final = 160 * SECOND_NS
_BARS_GRACE_NS: Final = 5 * SECOND_NS


class Watch:
    """One stream of one instrument. Times are monotonic, but ``event_ms``, which is the venue's."""

    def __init__(
        self, instrument: InstrumentId, family: Family, stream: str, now_ns: Nanos, tell: Callable[[FeedState], None]
    ) -> None:
        self.instrument = instrument
        self.family = family
        self.stream = stream
        self.bound_ns = BOUNDS_NS[family]
        self.event_ms = 0
        self.good_ns = now_ns
        self.since_ns = now_ns
        self.asked_ns = now_ns
        self.fresh: bool | None = None
        self._ask_ns = ASK_AGAIN_NS
        self._tell = tell

    def advanced(self, event_ms: int, now_ns: Nanos, venue_ns: Nanos) -> bool:
        """Take in the event time of a payload; True when it makes the family count as alive."""
        if event_ms <= self.event_ms:
            return False
        self.event_ms = event_ms
        if self.bound_ns is not None and venue_ns - event_ms * 1_000_000 > self.bound_ns:
            return False
        self.good_ns = now_ns
        return True

    def set(self, fresh: bool, recv_ns: Nanos, detail: str) -> None:
        """Say so when the state changes."""
        if self.fresh is not fresh:
            self.fresh = fresh
            ts_ns = self.event_ms * 1_000_000 or recv_ns
            self._tell(FeedState(self.instrument, self.family, fresh, ts_ns, recv_ns, detail))

    def stale_at_ns(self) -> Nanos | None:
        """When it goes stale unless a payload comes; ``None`` when it is stale already or has no bound."""
        return None if self.bound_ns is None or self.fresh is False else self.good_ns + self.bound_ns

    def restarted(self, now_ns: Nanos) -> None:
        """Its connection is new: silence is counted from here."""
        self.since_ns = self.asked_ns = now_ns
        self._ask_ns = ASK_AGAIN_NS

    def silent_at_ns(self) -> Nanos:
        """When its silence means that something is wrong."""
        return max(self.good_ns, self.since_ns) + SILENCE_NS[self.family]

    def ask_again(self, now_ns: Nanos) -> bool:
        """True when the stream should be asked for again now; each time it is left alone for twice as long."""
        if now_ns < self.silent_at_ns() or now_ns - self.asked_ns < self._ask_ns:
            return False
        self.asked_ns = now_ns
        self._ask_ns = min(_LONGEST_NS, 2 * self._ask_ns)
        return True


def bars_bound_ns(interval_ns: Nanos) -> Nanos:
    """How long after its end a bar is the newest that can be known."""
    return interval_ns + _BARS_GRACE_NS
