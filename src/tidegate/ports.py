"""Every Protocol that the shell needs. Adapters implement them, ``app/bootstrap`` chooses, the kernel knows none."""

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import Protocol

from tidegate.domain.account import AccountSnapshot
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import BarSpec, FundingRate, MarketEvent
from tidegate.domain.messages import Alert, ExecutionReport, Record, SetTimer, Subscription, TakeSnapshot, TimerFired
from tidegate.domain.orders import AmendOrder, ApprovedOrder, CancelOrder, QueryOrder
from tidegate.quant.bars import BarTable


class Clock(Protocol):
    """Where the shell reads the time; the kernel has none."""

    def now_ns(self) -> Nanos:
        """The time in nanoseconds since 1970, UTC. It can be set, and so can jump."""
        ...

    def monotonic_ns(self) -> Nanos:
        """A count of nanoseconds that never jumps: what durations are measured with."""
        ...

    async def sleep_until(self, at_ns: Nanos) -> None:
        """Return when the clock has reached ``at_ns``; at once if it has passed."""
        ...


class Timers(Protocol):
    """Answers ``SetTimer`` with ``TimerFired``: by the clock, or in the order of a simulated market."""

    def set(self, timer: SetTimer) -> None:
        """Fire ``timer`` once, not before its time; a timer of the same name is replaced."""
        ...

    def fired(self) -> AsyncIterator[TimerFired]:
        """The timers that came due, in the order of their times."""
        ...


class MarketDataFeed(Protocol):
    """A source of market events that reconnects by itself; loss appears as ``FeedGap``, never as silence."""

    def stream(self, subscriptions: Collection[Subscription]) -> AsyncIterator[MarketEvent]:
        """Market events in the order in which they became known. Ends when the feed ends.

        The next event is asked for when the last one has been handled, so a simulated feed can run in lock-step.
        """
        ...


class ExecutionVenue(Protocol):
    """Where orders go. Requests return when sent; every outcome comes through ``reports``."""

    async def instruments(self) -> Sequence[Instrument]:
        """The contracts that the venue lists for us."""
        ...

    async def snapshot(self, request: TakeSnapshot) -> AccountSnapshot:
        """The truth at start and after any doubt. Raises ``VenueError``."""
        ...

    async def submit(self, order: ApprovedOrder) -> None:
        """Send an order; what the venue says comes through ``reports``.

        Raises ``OrderNotSent``, ``OrderRefused``, ``OrderOutcomeUnknown``, or ``NotAuthorised``.
        """
        ...

    async def amend(self, order: AmendOrder) -> None:
        """Change a working order."""
        ...

    async def cancel(self, order: CancelOrder) -> None:
        """Cancel a working order."""
        ...

    async def query(self, order: QueryOrder) -> None:
        """Ask for the state of an order; the answer comes as a report."""
        ...

    async def keep_alive(self, ttl_ms: int) -> None:
        """Renew the dead man's switch: the venue cancels all orders when it is not renewed in time."""
        ...

    def reports(self) -> AsyncIterator[ExecutionReport]:
        """Everything that happens to our account, in the venue's order."""
        ...


class Journal(Protocol):
    """The append-only record of every event and its commands."""

    async def append(self, record: Record, *, durable: bool) -> None:
        """Write a record; with ``durable`` it is on disk before this returns. Raises ``JournalError``."""
        ...

    def replay(self, from_seq: int = 0) -> AsyncIterator[Record]:
        """The records from ``from_seq`` on, both streams merged by sequence number."""
        ...

    async def close(self) -> None:
        """Flush and close."""
        ...


class HistorySource(Protocol):
    """Stored market data, synchronous: for backtests, replays and warm-up. Times select bars by their open."""

    def bars(self, instrument: InstrumentId, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> Iterator[BarTable]:
        """Closed bars that open in ``[start_ns, end_ns)``, in chunks, in order. Raises ``DataError``."""
        ...

    def funding(self, instrument: InstrumentId, start_ns: Nanos, end_ns: Nanos) -> Iterator[FundingRate]:
        """Settlements in ``[start_ns, end_ns)``, their times floored to the minute; nothing when none is stored."""
        ...

    def marks(self, instrument: InstrumentId, start_ns: Nanos, end_ns: Nanos) -> Iterator[BarTable]:
        """Mark price bars that open in ``[start_ns, end_ns)``; nothing when none is stored."""
        ...


class Notifier(Protocol):
    """Tells a person."""

    async def send(self, alert: Alert) -> None:
        """Deliver one alert."""
        ...
