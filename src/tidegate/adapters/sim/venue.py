"""The simulated market and venue behind the asynchronous ports, in lock-step.

One ``Session`` makes all events, in the order of one instant. Each belongs to one of three streams: market data,
reports, timers. Whose consumer asks for its next event has handled its last one, commands and all; only then does the
session move on. So the kernel hears the same events in the same order as in a backtest, however the loop schedules.
All three streams must be consumed. The session's own START is left out: whoever trades says when it begins.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from time import perf_counter
from typing import cast

import msgspec

from tidegate.adapters.sim.clock import SimClock
from tidegate.adapters.sim.pace import Pace
from tidegate.domain.account import AccountSnapshot, FundingPaid, Income, Transfer
from tidegate.domain.errors import DataError, InvariantBroken
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import MarketEvent
from tidegate.domain.messages import (
    Event,
    ExecutionReport,
    OperatorCommand,
    SetTimer,
    Subscription,
    TakeSnapshot,
    TimerFired,
    VenueStatus,
)
from tidegate.domain.orders import (
    AmendOrder,
    ApprovedOrder,
    CancelOrder,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderNotFound,
    OrderRejected,
    OrderTriggered,
    OrderUncertain,
    QueryOrder,
)
from tidegate.simulator.session import Session

_BREATH_S = 0.004
"""The longest that a market in a hurry keeps the loop from everything else."""


class _Kind(Enum):
    MARKET = "market"
    REPORT = "report"
    TIMER = "timer"


_KINDS: dict[type, _Kind] = {TimerFired: _Kind.TIMER} | dict.fromkeys(
    (
        AccountSnapshot,
        FundingPaid,
        Transfer,
        Income,
        VenueStatus,
        OrderAccepted,
        OrderAmended,
        OrderCanceled,
        OrderExpired,
        OrderFilled,
        OrderNotFound,
        OrderRejected,
        OrderTriggered,
        OrderUncertain,
    ),
    _Kind.REPORT,
)


class SimVenue:
    """``MarketDataFeed``, ``ExecutionVenue`` and ``Timers`` over one session. ``clock`` is its market time.

    ``instruments`` are those that the session simulates; ``pace`` holds events back until their time has come.
    """

    def __init__(self, session: Session, pace: Pace, instruments: Sequence[Instrument]) -> None:
        self.clock = SimClock()
        self._session = session
        self._pace = pace
        self._instruments = tuple(instruments)
        self._events: Iterator[Event] = session.events()
        self._next: Event | None = None
        self._handling: _Kind | None = None
        self._ended = False
        self._closing = False
        self._impatient = asyncio.Event()
        self._asking: dict[_Kind, asyncio.Future[None]] = {}
        self._breathed_s = perf_counter()

    # ---- MarketDataFeed -----------------------------------------------------------------------------------------

    def stream(self, subscriptions: Collection[Subscription]) -> AsyncIterator[MarketEvent]:
        """Every market event of the session. Raises ``DataError`` for an instrument that it does not simulate."""
        listed = {instrument.id for instrument in self._instruments}
        for each in subscriptions:
            if each.instrument not in listed:
                raise DataError(
                    f"{each.instrument} is not in the simulated market, which has {', '.join(sorted(listed))}"
                )
        return cast(AsyncIterator[MarketEvent], self._turns(_Kind.MARKET))

    # ---- Timers -------------------------------------------------------------------------------------------------

    def set(self, timer: SetTimer) -> None:
        """Fire a timer in the order of the market's time."""
        self._session.set_timer(timer)

    def fired(self) -> AsyncIterator[TimerFired]:
        """Timers that came due."""
        return cast(AsyncIterator[TimerFired], self._turns(_Kind.TIMER))

    # ---- ExecutionVenue -----------------------------------------------------------------------------------------

    async def instruments(self) -> Sequence[Instrument]:
        """The contracts of the simulated market."""
        return self._instruments

    async def snapshot(self, request: TakeSnapshot) -> AccountSnapshot:
        """The account now. Asked before the streams, it begins the market and is the first of its reports."""
        if self._next is None and not self._ended and not self.clock.now_ns():
            first = self._advance()
            if isinstance(first, AccountSnapshot):
                self._next = None
                self.clock.advance(first.recv_ns)
                self._pace.begin(first.recv_ns)
                return msgspec.structs.replace(first, name=request.name)
        return msgspec.structs.replace(self._session.exchange.snapshot(self.clock.now_ns()), name=request.name)

    async def submit(self, order: ApprovedOrder) -> None:
        """Pass an order in; the answer is the next report."""
        self._session.execute(order, self.clock.now_ns())

    async def amend(self, order: AmendOrder) -> None:
        """Change a resting order."""
        self._session.execute(order, self.clock.now_ns())

    async def cancel(self, order: CancelOrder) -> None:
        """Cancel a resting order."""
        self._session.execute(order, self.clock.now_ns())

    async def query(self, order: QueryOrder) -> None:
        """Report a resting order once more."""
        self._session.execute(order, self.clock.now_ns())

    async def keep_alive(self, ttl_ms: int) -> None:
        """Nothing to renew: the venue lives and dies with this process."""

    def reports(self) -> AsyncIterator[ExecutionReport]:
        """Everything that happens to the account."""
        return cast(AsyncIterator[ExecutionReport], self._turns(_Kind.REPORT))

    # ---- the end ------------------------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Hold no event back any more."""
        self._pace.hurry()
        self._impatient.set()

    def close(self) -> None:
        """End the streams as soon as no execution report is waiting, so that both sides hold the same books."""
        self._closing = True
        self.hurry()

    # ---- taking turns -------------------------------------------------------------------------------------------

    async def _turns(self, kind: _Kind) -> AsyncIterator[Event]:
        try:
            while (event := await self._turn(kind)) is not None:
                yield event
        finally:
            if self._handling is kind:
                self._handling = None

    async def _turn(self, kind: _Kind) -> Event | None:
        """The next event of this kind, when its turn has come; ``None`` at the end."""
        if self._handling is kind:
            self._handling = None
        if perf_counter() - self._breathed_s > _BREATH_S:
            await asyncio.sleep(0)
            self._breathed_s = perf_counter()
        while True:
            if self._next is None and self._handling is None and not self._ended:
                self._advance()
            event = self._next
            if event is not None and _kind(event) is kind:
                if not await self._due(event):
                    continue
                self._next, self._handling = None, kind
                self.clock.advance(event.recv_ns)
                return event
            if self._ended:
                return None
            await self._sleep(kind)

    async def _due(self, event: Event) -> bool:
        """Wait for the time of an event; False when the streams were closed in the meantime and it will not come."""
        while (delay_s := self._pace.delay_s(event.recv_ns)) > 0.0:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._impatient.wait()
        if self._closing and _kind(event) is not _Kind.REPORT:
            self._end()
            return False
        return True

    def _advance(self) -> Event | None:
        """Let the session make its next event, and wake whom it is for."""
        event = next(self._events, None)
        while isinstance(event, OperatorCommand):
            event = next(self._events, None)
        if event is None:
            self._end()
        else:
            self._next = event
            self._wake(_kind(event))
        return event

    def _end(self) -> None:
        self._ended, self._next = True, None
        for kind in tuple(self._asking):
            self._wake(kind)

    async def _sleep(self, kind: _Kind) -> None:
        if kind in self._asking:
            raise InvariantBroken(f"two consumers of the simulated {kind.value} stream: each event has one")
        woken = self._asking[kind] = asyncio.get_running_loop().create_future()
        try:
            await woken
        finally:
            self._asking.pop(kind, None)

    def _wake(self, kind: _Kind) -> None:
        woken = self._asking.get(kind)
        if woken is not None and not woken.done():
            woken.set_result(None)


def _kind(event: Event) -> _Kind:
    return _KINDS.get(type(event), _Kind.MARKET)
