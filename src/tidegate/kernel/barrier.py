"""Once per close: the portfolio step waits for every live instrument, or for the grace timer.

Bars of one interval close together but arrive one by one. An instrument is live from its first bar until it is
delisted. The close is complete when every live instrument's bar of that time is there; if one is missing, a timer is
set, and when it fires the step runs without it. A bar that comes after the step of its close counts for the next one.
"""

from enum import Enum

from tidegate.domain.ids import InstrumentId, Nanos


class Arrival(Enum):
    """What a bar means for its close."""

    COMPLETE = "COMPLETE"
    FIRST = "FIRST"
    WAITING = "WAITING"
    LATE = "LATE"


# Members as plain names: looking a member up on its class costs ten times as much, and these are asked on every bar.
COMPLETE, FIRST, WAITING, LATE = Arrival.COMPLETE, Arrival.FIRST, Arrival.WAITING, Arrival.LATE


class Barrier:
    """The closes of one interval."""

    def __init__(self) -> None:
        self.close_ns: Nanos = 0
        self._seen: dict[InstrumentId, Nanos] = {}  # the last close of each live instrument
        self._arrived = 0
        self._done = True

    def arrive(self, instrument: InstrumentId, ts_ns: Nanos) -> Arrival:
        """A bar closed. COMPLETE: run the step now; FIRST: the close has begun and waits for others."""
        seen = self._seen
        if ts_ns > self.close_ns:
            seen[instrument] = self.close_ns = ts_ns
            self._arrived = 1
            self._done = len(seen) == 1
            return COMPLETE if self._done else FIRST
        if seen.get(instrument, -1) >= ts_ns:
            return LATE
        seen[instrument] = ts_ns
        if self._done or ts_ns < self.close_ns:
            return LATE
        self._arrived += 1
        self._done = self._arrived == len(seen)
        return COMPLETE if self._done else WAITING

    def give_up(self) -> bool:
        """The grace is over: True when the close was incomplete, and is now done without the missing bars."""
        incomplete = not self._done
        self._done = True
        return incomplete

    def leave(self, instrument: InstrumentId) -> bool:
        """An instrument is not traded any more; True when the close that is waiting is complete without it."""
        self._arrived -= self._seen.pop(instrument, -1) == self.close_ns
        if self._done or self._arrived < len(self._seen):
            return False
        self._done = True
        return True

    def closed(self) -> list[InstrumentId]:
        """The instruments whose bar of the current close is there."""
        return [name for name, ts_ns in self._seen.items() if ts_ns == self.close_ns]

    def missing(self, instrument: InstrumentId) -> bool:
        """True when a live instrument has no bar at the current close."""
        return self._seen.get(instrument, self.close_ns) < self.close_ns

    def dump(self) -> object:
        return {"close_ns": self.close_ns, "seen": self._seen, "arrived": self._arrived, "done": self._done}

    def load(self, close_ns: Nanos, seen: dict[InstrumentId, Nanos], arrived: int, done: bool) -> None:
        self.close_ns, self._seen, self._arrived, self._done = close_ns, seen, arrived, done
