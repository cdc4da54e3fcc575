"""Once per close: the portfolio step waits for every live instrument, or for the grace timer.

Bars of one interval close together but arrive one by one. An instrument is live from its first bar until it is
delisted. The close is complete when every live instrument's bar of that time is there; if one is missing, a timer is
set, and when it fires the step runs without it. A bar that comes after the step of its close counts for the next one.
"""

from collections.abc import Iterable
from enum import Enum

from tidegate.domain.ids import InstrumentId, Nanos


class Arrival(Enum):
    """What a bar means for its close."""

    COMPLETE = "COMPLETE"
    FIRST = "FIRST"
    WAITING = "WAITING"
    LATE = "LATE"


class Barrier:
    """The closes of one interval."""

    def __init__(self) -> None:
        self.close_ns: Nanos = 0
        self._live: set[InstrumentId] = set()
        self._arrived: set[InstrumentId] = set()
        self._done = True

    def arrive(self, instrument: InstrumentId, ts_ns: Nanos) -> Arrival:
        """A bar closed. COMPLETE: run the step now; FIRST: the close has begun and waits for others."""
        self._live.add(instrument)
        first = ts_ns > self.close_ns
        if first:
            self.close_ns, self._done = ts_ns, False
            self._arrived.clear()
        elif self._done or ts_ns < self.close_ns:
            return Arrival.LATE
        self._arrived.add(instrument)
        if len(self._arrived) == len(self._live):
            self._done = True
            return Arrival.COMPLETE
        return Arrival.FIRST if first else Arrival.WAITING

    def give_up(self) -> bool:
        """The grace is over: True when the close was incomplete, and is now done without the missing bars."""
        incomplete = not self._done
        self._done = True
        return incomplete

    def leave(self, instrument: InstrumentId) -> bool:
        """An instrument is not traded any more; True when the close that is waiting is complete without it."""
        self._live.discard(instrument)
        self._arrived.discard(instrument)
        if self._done or not self._arrived or len(self._arrived) < len(self._live):
            return False
        self._done = True
        return True

    def missing(self, instrument: InstrumentId) -> bool:
        """True when a live instrument has no bar at the current close."""
        return instrument in self._live and instrument not in self._arrived

    def dump(self) -> object:
        return {
            "close_ns": self.close_ns,
            "live": sorted(self._live),
            "arrived": sorted(self._arrived),
            "done": self._done,
        }

    def load(self, close_ns: Nanos, live: Iterable[InstrumentId], arrived: Iterable[InstrumentId], done: bool) -> None:
        self.close_ns, self._live, self._arrived, self._done = close_ns, set(live), set(arrived), done
