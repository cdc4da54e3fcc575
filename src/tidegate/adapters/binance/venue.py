"""The venue behind the ``ExecutionVenue`` port: orders over REST (or the WebSocket API), reports from the user stream.

A request returns when it is answered. What it did is reported once: an acceptance from its answer, executions only
from the stream and the trade list. Nothing is sent twice. Reports wait in a queue that never drops one.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from tidegate.adapters.binance.account_reader import AccountReader, LateTrades, Rates
from tidegate.adapters.binance.account_schemas import AlgoRow, CountdownRow, DoneRow, OrderRow, integer
from tidegate.adapters.binance.account_translate import MS, algo_row_reports, row_end
from tidegate.adapters.binance.background import Background
from tidegate.adapters.binance.contracts import read_contracts
from tidegate.adapters.binance.errors import Kind, NotSent, Refused, classify_item
from tidegate.adapters.binance.market_schemas import Counters
from tidegate.adapters.binance.money import FeePrices, IncomeWatch
from tidegate.adapters.binance.order_entry import (
    ALGO,
    MAX_BATCH,
    ORDER,
    Sending,
    amend_params,
    change_failure,
    is_conditional,
)
from tidegate.adapters.binance.order_names import Known, OrderNames
from tidegate.adapters.binance.order_sender import OrderSender
from tidegate.adapters.binance.reachability import Reachability
from tidegate.adapters.binance.rest import BinanceRest
from tidegate.adapters.binance.signing import Signer
from tidegate.adapters.binance.user_events_handler import UserEventHandler
from tidegate.adapters.binance.user_stream import StreamTiming, UserStream
from tidegate.adapters.binance.ws_api import WsApi
from tidegate.adapters.binance.ws_transport import WsTransport
from tidegate.domain.account import AccountSnapshot
from tidegate.domain.errors import OrderOutcomeUnknown, OrderRefused, VenueError
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.messages import Alert, ExecutionReport, Severity, TakeSnapshot, VenueState
from tidegate.domain.orders import (
    AmendOrder,
    ApprovedOrder,
    CancelOrder,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderFilled,
    QueryOrder,
    RejectCause,
)
from tidegate.ports import Clock

_ALL_ORDERS: Final = "/fapi/v1/allOpenOrders"
_ALL_ALGOS: Final = "/fapi/v1/algoOpenOrders"
_COUNTDOWN: Final = "/fapi/v1/countdownCancelAll"
_NOTHING_TO_MODIFY: Final = -5027
_LATE_TRADES_S: Final = (0.25, 0.5, 1.0)
_EVENT_DUE_NS: Final = 3 * 1_000_000_000


def _no_rates(_: InstrumentId) -> tuple[float, float] | None:
    return None


def _nobody(_: Alert) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class VenueSettings:
    """How requests are made. ``recv_window_*_ms``: how long the venue may take to accept one (reliability.md 3.2).

    ``ws_api_first``: the WebSocket API, where there is one, is the usual way for orders, and REST the other; else the
    other way round.
    """

    recv_window_entries_ms: int = 2000
    recv_window_reducing_ms: int = 5000
    routed: bool = True
    ws_api_first: bool = True
    clock_every_s: float = 120.0
    timing: StreamTiming = field(default_factory=StreamTiming)


class BinanceVenue:
    """One account on one host. ``start`` before anything else, ``stop`` at the end.

    ``symbols`` are the contracts that are traded; ``rates`` gives funding rate and mark price of an instrument as last
    heard; ``on_notice`` hears what a person should know; with ``ws_api`` (its address, and the signer of our key)
    orders have two ways: see ``VenueSettings``.
    """

    def __init__(
        self,
        rest: BinanceRest,
        transport: WsTransport,
        private_ws_url: str,
        clock: Clock,
        rng: random.Random,
        symbols: Sequence[InstrumentId],
        *,
        settings: VenueSettings | None = None,
        ws_api: tuple[str, Signer] | None = None,
        rates: Rates = _no_rates,
        on_notice: Callable[[Alert], None] = _nobody,
        counters: Counters | None = None,
    ) -> None:
        self.counters = counters or Counters()
        self._rest, self._clock, self._symbols = rest, clock, tuple(symbols)
        self._settings = settings or VenueSettings()
        self._reports: asyncio.Queue[ExecutionReport | BaseException | None] = asyncio.Queue()
        self._background = Background(self._reports.put_nowait)
        self._names = OrderNames()
        windows = self._settings.recv_window_entries_ms, self._settings.recv_window_reducing_ms
        self._on_notice = on_notice
        entry = None
        if ws_api is not None:
            entry = WsApi(transport, *ws_api, rest, self._reports.put_nowait, self._order_entry)
        self._sender = OrderSender(rest, entry, *windows, ws_api_first=self._settings.ws_api_first)
        self._prices = FeePrices(rest, clock, self._background)
        self._reach = Reachability(rest, clock, self._emit, self._background)
        count = self.counters.add
        self._reader = AccountReader(
            rest, clock, self._names, self._symbols, count=count, fee_price=self._prices.of, rates=rates
        )
        self._income = IncomeWatch(self._reader.income_since, self._emit, count, self._background)
        self._events = UserEventHandler(
            self._names, self._reader, self._income, self._background, self._emit, on_notice, self._prices.of, count
        )
        self._stream = UserStream(
            rest,
            transport,
            private_ws_url,
            clock,
            rng,
            on_event=self._events.take,
            on_state=self._on_stream,
            count=count,
            fail=self._reports.put_nowait,
            routed=self._settings.routed,
            timing=self._settings.timing,
        )
        self._stream_since_ns = 0

    def _order_entry(self, down: str) -> None:
        """The WebSocket API cannot be reached, or can again: where orders go now."""
        now_ns = self._clock.now_ns()
        if down and self._settings.ws_api_first:
            text = f"{down}: orders go over REST until it is there again"
            self._on_notice(Alert(Severity.WARNING, "order entry", text, now_ns))
        elif self._settings.ws_api_first:
            text = "orders go over the WebSocket API again"
            self._on_notice(Alert(Severity.INFO, "order entry", text, now_ns))

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Measure the venue's clock, and open the user stream: before the first snapshot. Raises ``NotAuthorised``.

        A venue that is not there is waited for; that it is not is reported.
        """
        self._background.spawn(self._keep_time())
        self._background.spawn(self._prices.refresh("BNB"))
        await self._stream.start()
        self._stream_since_ns = self._clock.now_ns()

    async def stop(self) -> None:
        """Close what is open, and end the reports. Orders stay as they are."""
        await self._stream.stop()
        await self._background.cancel()
        await self._sender.close()
        self._reports.put_nowait(None)

    async def reports(self) -> AsyncIterator[ExecutionReport]:
        """Everything that happens to the account, until ``stop``. Raises the defect that ended a task of the venue."""
        while (report := await self._reports.get()) is not None:
            if isinstance(report, BaseException):
                raise report
            yield report

    async def instruments(self) -> Sequence[Instrument]:
        """The contracts that are traded, as the venue describes them now; every perpetual when none was named."""
        return await read_contracts(self._rest, self._symbols)

    # ---- orders ------------------------------------------------------------------------------------------------------

    async def submit(self, order: ApprovedOrder) -> None:
        """Send an order once. Raises ``OrderNotSent``, ``OrderRefused``, ``OrderOutcomeUnknown``, ``NotAuthorised``."""
        sending = self._sending(order, conditional=is_conditional(order))
        asked_ns = self._clock.monotonic_ns()
        try:
            answer = await self._sender.place(order, sending)
        except VenueError as error:
            self._doubt(error)
            raise sending.failure(error) from None
        if self._accepted(order, sending, answer):
            self._stream.expect(order.id, asked_ns)

    async def submit_batch(self, orders: Sequence[ApprovedOrder]) -> list[VenueError | None]:
        """Send ordinary orders, five to a request; per order what ``submit`` would raise, or ``None``."""
        results: list[VenueError | None] = []
        for start in range(0, len(orders), MAX_BATCH):
            results += await self._submit_five(orders[start : start + MAX_BATCH])
        return results

    async def cancel(self, order: CancelOrder) -> None:
        """Cancel an order. One that the venue does not know is asked for: it may have filled, or not be visible yet."""
        asked_ns = self._clock.monotonic_ns()
        try:
            if order.conditional:
                await self._sender.change("DELETE", ALGO, (("clientAlgoId", str(order.id)),), DoneRow)
                row = None
            else:
                params = (("symbol", str(order.instrument)), ("origClientOrderId", str(order.id)))
                row = await self._sender.change("DELETE", ORDER, params, OrderRow)
        except VenueError as error:
            if _is(error, Kind.NOT_FOUND):
                await self.query(QueryOrder(order.id, order.instrument, order.conditional))
                return
            self._doubt(error)
            raise change_failure(order.id, error) from None
        if row is None or (row.status == "CANCELED" and not row.executed_qty):
            now_ns = self._clock.now_ns()
            self._emit(OrderCanceled(order.id, order.instrument, self._venue_ns(), now_ns))
        if order.conditional:
            self._names.closed(order.id)
        self._stream.expect(order.id, asked_ns)

    async def amend(self, order: AmendOrder) -> None:
        """Change a working limit order; a conditional order cannot be changed, only replaced."""
        known = self._names.known(order.id)
        if known is None:
            await self.query(QueryOrder(order.id, order.instrument))
            known = self._names.known(order.id)
        limit = order.limit or (known.limit if known else None)
        if known is None or known.conditional or limit is None:
            text = "only a known limit order can be changed; cancel it and place another"
            raise OrderRefused("NOT_SENT", text, RejectCause.UNSUPPORTED.name)
        asked_ns = self._clock.monotonic_ns()
        try:
            row = await self._sender.change("PUT", ORDER, amend_params(order, known.side, limit), OrderRow, orders=1)
        except VenueError as error:
            if isinstance(error, Refused) and error.code == _NOTHING_TO_MODIFY:
                row = OrderRow(status="NEW", orig_qty=order.qty, price=limit)
            elif _is(error, Kind.NOT_FOUND):
                await self.query(QueryOrder(order.id, order.instrument))
                return
            else:
                self._doubt(error)
                raise change_failure(order.id, error) from None
        else:
            self._stream.expect(order.id, asked_ns)
        self._amended(order, known, row, limit)

    async def query(self, order: QueryOrder) -> None:
        """Report all that the venue knows of an order. Raises ``VenueError`` when it could not be asked."""
        for delay_s in (*_LATE_TRADES_S, None):
            try:
                reports = await self._reader.state_of(order)
            except LateTrades as late:
                if delay_s is None:
                    for report in late.reports:
                        self._emit(report)
                    raise
                await asyncio.sleep(delay_s)
            except VenueError as error:
                self._doubt(error)
                raise
            else:
                for report in reports:
                    self._emit(report)
                return

    async def cancel_all(self, instrument: InstrumentId) -> None:
        """Cancel every order of a contract, conditional ones too, ours or not; the stream reports each."""
        for path in (_ALL_ORDERS, _ALL_ALGOS):
            try:
                await self._sender.change("DELETE", path, (("symbol", str(instrument)),), DoneRow)
            except VenueError as error:
                self._doubt(error)
                raise change_failure(f"all orders of {instrument}", error) from None

    async def keep_alive(self, ttl_ms: int) -> None:
        """Renew the venue's countdown on each contract: its ordinary orders are cancelled when none comes in time."""
        for symbol in self._symbols:
            params = (("symbol", str(symbol)), ("countdownTime", str(ttl_ms)))
            await self._sender.change("POST", _COUNTDOWN, params, CountdownRow, weight=10)

    async def snapshot(self, request: TakeSnapshot) -> AccountSnapshot:
        """The account, read in the order that leaves no gap. Raises ``VenueError``."""
        since_ns = self._stream_since_ns
        try:
            found = await self._reader.snapshot(request)
        except VenueError as error:
            self._doubt(error)
            raise
        for fill in found.fills:
            if self._was_never_announced(fill, since_ns):
                self._stream.suspect(f"execution {fill.trade_id} of {fill.instrument} came without its event")
                break
        return found

    # ---- answers -----------------------------------------------------------------------------------------------------

    def _sending(self, order: ApprovedOrder, *, conditional: bool) -> Sending:
        self._names.sent(Known(order.id, order.instrument, order.side, conditional, order.limit))
        return self._sender.sending(order, conditional=conditional)

    async def _submit_five(self, orders: Sequence[ApprovedOrder]) -> list[VenueError | None]:
        """One request; the narrowest time window and the earliest expiry hold for all of its orders."""
        each = [self._sending(order, conditional=False) for order in orders]
        whole = min(each, key=lambda one: one.recv_window_ms)
        whole = replace(whole, reducing=all(one.reducing for one in each), expires_ns=_earliest(each))
        asked_ns = self._clock.monotonic_ns()
        try:
            rows = await self._sender.place_batch(orders, whole)
        except VenueError as error:
            self._doubt(error)
            return [replace(whole, id=one.id).failure(error) for one in each]
        results: list[VenueError | None] = []
        for number, (order, one) in enumerate(zip(orders, each, strict=True)):
            sending = replace(whole, id=one.id, reducing=one.reducing)
            try:
                self._item(order, sending, rows[number] if number < len(rows) else OrderRow())
            except VenueError as error:
                results.append(error)
            else:
                self._stream.expect(order.id, asked_ns)
                results.append(None)
        return results

    def _item(self, order: ApprovedOrder, sending: Sending, row: OrderRow) -> None:
        code = row.code if isinstance(row.code, int) else 0
        if code < 0:
            raise sending.failure(classify_item(code, row.msg or "", sending.context).error())
        self._accepted(order, sending, row)

    def _accepted(self, order: ApprovedOrder, sending: Sending, answer: OrderRow | AlgoRow) -> bool:
        """Report an acceptance, and the end that the answer tells with it; False where no event is due any more.

        An answer that names no order of the venue's is no proof of one. One that tells of executions has them looked
        up when the stream stays silent about them.
        """
        now_ns = self._clock.now_ns()
        venue_id = integer(answer.algo_id if isinstance(answer, AlgoRow) else answer.order_id)
        if venue_id is None:
            raise OrderOutcomeUnknown(order.id, "the answer names no order", sending.fence_ns)
        ts_ns = (integer(answer.update_time) or 0) * MS or self._venue_ns()
        if isinstance(answer, OrderRow):
            self._names.placed(order.instrument, venue_id, order.id)
        elif answer.algo_status not in (None, "NEW"):
            for report in algo_row_reports(answer, self._names, ts_ns, now_ns, self.counters.add):
                self._emit(report)
            return True
        self._emit(OrderAccepted(order.id, order.instrument, venue_id, ts_ns, now_ns))
        if not isinstance(answer, OrderRow):
            return True
        if answer.executed_qty:
            self._background.spawn(self._look_up_fills(QueryOrder(order.id, order.instrument)))
            return True
        end = row_end(answer, order.id, ts_ns, now_ns, self.counters.add)
        if end is not None:
            self._emit(end)
        return end is None

    async def _look_up_fills(self, order: QueryOrder) -> None:
        """The answer said that it has executed: without a word of the stream the trade list says how."""
        await asyncio.sleep(_EVENT_DUE_NS / 1e9 / 2)
        if not self._events.has_filled(order.id):
            with suppress(VenueError):  # the audit sees the position
                await self.query(order)

    def _amended(self, order: AmendOrder, known: Known, row: OrderRow, limit: Decimal) -> None:
        ts_ns, now_ns = self._venue_ns(), self._clock.now_ns()
        price = row.price or limit
        self._names.sent(Known(known.id, known.instrument, known.side, False, price))
        end = row_end(row, order.id, ts_ns, now_ns, self.counters.add)
        if end is None:
            qty = row.orig_qty or order.qty
            self._emit(OrderAmended(order.id, order.instrument, qty, price, None, ts_ns, now_ns))
        elif not row.executed_qty:
            self._emit(end)

    # ---- what is heard -----------------------------------------------------------------------------------------------

    def _on_stream(self, state: VenueState, detail: str) -> None:
        if state is VenueState.UP:
            self._stream_since_ns = self._clock.now_ns()
            self._reach.back("stream", detail)
        else:
            self._reach.lost("stream", detail, state)

    def _was_never_announced(self, fill: OrderFilled, since_ns: Nanos) -> bool:
        settled = since_ns < fill.ts_ns < self._venue_ns() - _EVENT_DUE_NS
        return settled and since_ns == self._stream_since_ns and not self._events.has_seen(fill)

    def _doubt(self, error: VenueError) -> None:
        """A request failed: look whether the venue is there, or its clock has to be read anew."""
        if _is(error, Kind.CLOCK) or (isinstance(error, NotSent) and self._rest.clock.doubt):
            self._background.spawn(self._read_clock())
        self._reach.failed(error)

    async def _keep_time(self) -> None:
        while True:
            wait_s = self._settings.clock_every_s if await self._read_clock() else 5.0
            await asyncio.sleep(wait_s)

    async def _read_clock(self) -> bool:
        try:
            await self._rest.resync()
        except VenueError as error:
            self.counters.add(f"clock: {type(error).__name__}")
            return False
        return True

    def _emit(self, report: ExecutionReport) -> None:
        self._reports.put_nowait(report)

    def _venue_ns(self) -> Nanos:
        clock = self._rest.clock
        return clock.now_ns() if clock.synced else self._clock.now_ns()


def _is(error: VenueError, kind: Kind) -> bool:
    return isinstance(error, Refused) and error.entry is not None and error.entry.kind is kind


def _earliest(sendings: Sequence[Sending]) -> Nanos:
    return min((each.expires_ns for each in sendings if each.expires_ns), default=0)
