"""Paper trading: the simulated venue around any feed. Live prices, invented money.

Each market event passes the exchange before it goes on to whoever trades, so that an order meets the first prices that
come after it. Every start begins with a fresh account: nothing of it exists anywhere but in this process.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from decimal import Decimal

import msgspec

from tidegate.domain.account import AccountSnapshot
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import Bar, FundingRate, MarketEvent, MarkPrice, Quote
from tidegate.domain.messages import ExecutionReport, Subscription, TakeSnapshot
from tidegate.domain.orders import AmendOrder, ApprovedOrder, CancelOrder, QueryOrder
from tidegate.ports import Clock, MarketDataFeed
from tidegate.simulator.exchange import exact
from tidegate.simulator.ticks import TickExchange, Touch


class PaperVenue:
    """``MarketDataFeed`` and ``ExecutionVenue`` in one: what the feed says moves the exchange, orders meet it."""

    def __init__(
        self,
        feed: MarketDataFeed,
        instruments: Sequence[Instrument],
        deposit: Decimal,
        clock: Clock,
        leverage: int = 20,
    ) -> None:
        self._feed, self._instruments, self._clock = feed, tuple(instruments), clock
        self._reports: asyncio.Queue[ExecutionReport | None] = asyncio.Queue()
        self._exchange = TickExchange(
            self._instruments, deposit, self._reports.put_nowait, leverage=leverage, visible_only=True
        )
        self._last: dict[InstrumentId, Decimal] = {}
        self._marks: dict[InstrumentId, Decimal] = {}

    async def start(self) -> None:
        """Nothing to open: the feed opens itself."""

    async def stop(self) -> None:
        """End the reports."""
        self._reports.put_nowait(None)

    # ---- MarketDataFeed -----------------------------------------------------------------------------------------

    async def stream(self, subscriptions: Collection[Subscription]) -> AsyncIterator[MarketEvent]:
        """The feed's events, each after the exchange has seen it."""
        async for event in self._feed.stream(subscriptions):
            self._see(event)
            yield event

    def _see(self, event: MarketEvent) -> None:
        match event:
            case Quote():
                bid, ask = exact(event.bid), exact(event.ask)
                last = min(max(self._last.get(event.instrument, bid), bid), ask)
                self._last[event.instrument] = last
                touch = Touch(
                    bid, ask, last, self._marks.get(event.instrument), exact(event.bid_qty), exact(event.ask_qty)
                )
                self._exchange.touch(event.instrument, touch, event.recv_ns)
            case MarkPrice():
                self._marks[event.instrument] = exact(event.price)
            case Bar():
                self._last[event.instrument] = exact(event.close)
            case FundingRate():
                self._exchange.fund(event)

    # ---- ExecutionVenue -----------------------------------------------------------------------------------------

    async def instruments(self) -> Sequence[Instrument]:
        """The contracts that are traded."""
        return self._instruments

    async def snapshot(self, request: TakeSnapshot) -> AccountSnapshot:
        """The account now."""
        return msgspec.structs.replace(self._exchange.snapshot(self._now_ns()), name=request.name)

    async def submit(self, order: ApprovedOrder) -> None:
        """Meet the last prices; before the first ones, wait for them."""
        self._exchange.submit(order, self._now_ns())

    async def amend(self, order: AmendOrder) -> None:
        """Change a resting order."""
        self._exchange.amend(order, self._now_ns())

    async def cancel(self, order: CancelOrder) -> None:
        """Cancel a resting order."""
        self._tell(self._exchange.cancel(order, self._now_ns()))

    async def query(self, order: QueryOrder) -> None:
        """Report a resting order once more."""
        self._tell(self._exchange.query(order, self._now_ns()))

    async def keep_alive(self, ttl_ms: int) -> None:
        """Nothing to renew: the venue lives and dies with this process."""

    async def reports(self) -> AsyncIterator[ExecutionReport]:
        """Everything that happens to the account, until ``stop``."""
        while (report := await self._reports.get()) is not None:
            yield report

    def _tell(self, reports: Sequence[ExecutionReport]) -> None:
        for report in reports:
            self._reports.put_nowait(report)

    def _now_ns(self) -> Nanos:
        return self._clock.now_ns()
