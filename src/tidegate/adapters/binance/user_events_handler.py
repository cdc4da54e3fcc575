"""What the events of the user stream set off: reports at once, and what must be looked up before it can be told."""

import asyncio
from collections.abc import Callable
from typing import Final

from tidegate.adapters.binance.account_reader import AccountReader
from tidegate.adapters.binance.account_schemas import Count, integer
from tidegate.adapters.binance.account_translate import MS, FeePrice, algo_reports, fill_cause, order_reports
from tidegate.adapters.binance.background import Background
from tidegate.adapters.binance.money import IncomeWatch
from tidegate.adapters.binance.order_names import Known, OrderNames, Remembered
from tidegate.adapters.binance.user_events import (
    AccountUpdate,
    AlgoUpdate,
    ConfigUpdate,
    MarginCall,
    OrderTradeUpdate,
    TradeLite,
    TriggerReject,
    UserEvent,
)
from tidegate.domain.errors import VenueError
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.messages import Alert, ExecutionReport, Severity
from tidegate.domain.orders import FillCause, OrderFilled, OrderRejected, QueryOrder, RejectCause

_NO_MONEY: Final = frozenset({"ORDER", "MARGIN_TYPE_CHANGE"})
"""Reasons of ACCOUNT_UPDATE after which nothing is to be read: executions tell it, or nothing has moved."""

_OURS: Final = "p1-"
_HOLD_S: Final = 1.0
_CHILD_S: Final = 1.0
_LOOK_UP_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


class UserEventHandler:
    """Takes events in order. An execution of an order that nobody knows is held for a moment when it may be the child
    of a conditional order of ours, so that it can be told under our id."""

    def __init__(
        self,
        names: OrderNames,
        reader: AccountReader,
        income: IncomeWatch,
        background: Background,
        emit: Callable[[ExecutionReport], None],
        on_notice: Callable[[Alert], None],
        fee_price: FeePrice,
        count: Count,
    ) -> None:
        self._names, self._reader, self._income, self._background = names, reader, income, background
        self._emit, self._on_notice, self._fee_price, self._count = emit, on_notice, fee_price, count
        self._held: dict[tuple[str, int], list[tuple[OrderTradeUpdate, Nanos]]] = {}
        self._trades: Remembered[tuple[str, int], None] = Remembered()
        self._filled: Remembered[ClientOrderId, None] = Remembered()
        self.lag_ns: Nanos = 0
        """How long the newest word of an execution was on its way, by the two clocks."""

    def has_seen(self, fill: OrderFilled) -> bool:
        """Whether the stream has brought this execution."""
        return (fill.instrument, fill.trade_id) in self._trades

    def has_filled(self, name: ClientOrderId) -> bool:
        """Whether the stream has told of an execution of this order."""
        return name in self._filled

    def take(self, event: UserEvent, recv_ns: Nanos) -> None:
        """One event."""
        match event:
            case OrderTradeUpdate():
                self._order(event, recv_ns)
            case AlgoUpdate():
                self._algo(event, recv_ns)
            case AccountUpdate():
                self._account(event)
            case TradeLite():
                self.lag_ns = recv_ns - (event.trade_ms or event.event_ms or 0) * MS
            case MarginCall():
                held = ", ".join(f"{each.symbol} {each.qty}" for each in event.positions)
                self._notice(Severity.CRITICAL, "margin call", f"the venue warns of liquidation: {held}", recv_ns)
            case ConfigUpdate():
                self._config(event, recv_ns)
            case TriggerReject():
                self._trigger_reject(event, recv_ns)
            case _:
                pass  # counted where it was read

    # ---- orders ------------------------------------------------------------------------------------------------------

    def _order(self, event: OrderTradeUpdate, recv_ns: Nanos) -> None:
        symbol, order_id, trade_id = event.order.symbol or "", integer(event.order.order_id), event.order.trade_id
        if number := integer(trade_id):
            self._trades.put((symbol, number), None)
        if order_id is None:
            self._tell(event, recv_ns)
            return
        if (held := self._held.get((symbol, order_id))) is not None:
            held.append((event, recv_ns))
            return
        candidates = self._candidates(event, symbol, order_id)
        if not candidates:
            self._tell(event, recv_ns)
            return
        self._held[symbol, order_id] = [(event, recv_ns)]
        self._background.spawn(self._find_parent(symbol, order_id, candidates))

    def _candidates(self, event: OrderTradeUpdate, symbol: str, order_id: int) -> list[Known]:
        """Conditional orders of ours that may have made this order; none when it is known whose it is."""
        own = event.order.client_id or ""
        if own.startswith(_OURS) or self._names.known(own) or self._names.name(symbol, order_id):
            return []
        if fill_cause(own) is not FillCause.ORDER or event.order.execution == "CALCULATED":
            return []
        return self._names.waiting(symbol, event.order.side)

    async def _find_parent(self, symbol: str, order_id: int, candidates: list[Known]) -> None:
        """Ask for each candidate whether it made this order. Whatever comes of it, the events are told."""
        try:
            async with asyncio.timeout(_HOLD_S):
                for each in candidates:
                    if self._names.parent(symbol, order_id) is not None:
                        break
                    for report in await self._reader.state_of(QueryOrder(each.id, each.instrument, True)):
                        self._emit(report)
        except (VenueError, TimeoutError):
            self._count("parent of an unknown order not found")
        finally:
            self._release(symbol, order_id)

    def _release(self, symbol: str, order_id: int) -> None:
        for event, recv_ns in self._held.pop((symbol, order_id), ()):
            self._tell(event, recv_ns)

    def _tell(self, event: OrderTradeUpdate, recv_ns: Nanos) -> None:
        for report in order_reports(event, self._names, recv_ns, self._fee_price, self._count):
            if not isinstance(report, OrderFilled):
                self._emit(report)
            elif report.price > 0 and report.qty > 0:
                self._filled.put(report.id, None)
                self._emit(report)
            else:
                self._background.spawn(self._look_up(report))

    async def _look_up(self, fill: OrderFilled) -> None:
        """An execution without a price cannot be booked: the trade list has it."""
        self._count("execution without a price")
        known = self._names.known(fill.id)
        asked = QueryOrder(fill.id, fill.instrument, known is not None and known.conditional)
        for delay_s in _LOOK_UP_S:
            await asyncio.sleep(delay_s)
            try:
                reports = await self._reader.state_of(asked)
            except VenueError:
                continue
            if any(isinstance(each, OrderFilled) and each.trade_id == fill.trade_id for each in reports):
                for report in reports:
                    self._emit(report)
                return
        text = f"{fill.id} on {fill.instrument}: an execution of {fill.qty:f} without a price, and no list has it yet"
        self._notice(Severity.CRITICAL, "fill", text, fill.recv_ns)

    def _algo(self, event: AlgoUpdate, recv_ns: Nanos) -> None:
        for report in algo_reports(event, self._names, recv_ns, self._count):
            self._emit(report)
        symbol, child, own = event.order.symbol or "", integer(event.order.actual_order_id), event.order.client_id
        if not child or not own:
            return
        self._release(symbol, child)
        if event.order.status == "FINISHED":
            self._background.spawn(self._ask_child(InstrumentId(symbol), child, ClientOrderId(own)))

    async def _ask_child(self, instrument: InstrumentId, child_id: int, id_: ClientOrderId) -> None:
        """FINISHED: the child has filled or was cancelled. Its own events say which; this is for when they do not."""
        await asyncio.sleep(_CHILD_S)
        try:
            for report in await self._reader.child_state(instrument, child_id, id_):
                self._emit(report)
        except VenueError as error:
            self._count(f"child of a finished order: {type(error).__name__}")

    def _trigger_reject(self, event: TriggerReject, recv_ns: Nanos) -> None:
        order = event.order
        symbol, reason = order.symbol or "", order.reason or "refused at its trigger"
        id_ = self._names.name(symbol, integer(order.order_id))
        if id_ is None:
            self._notice(Severity.WARNING, "trigger", f"{symbol} order {order.order_id}: {reason}", recv_ns)
            return
        ts_ns = (event.event_ms or 0) * MS
        self._emit(OrderRejected(id_, InstrumentId(symbol), "TRIGGER", reason, ts_ns, recv_ns, RejectCause.OTHER))

    # ---- the account -------------------------------------------------------------------------------------------------

    def _account(self, event: AccountUpdate) -> None:
        reason = event.account.reason or ""
        if reason not in _NO_MONEY:
            self._income.changed(reason, event.account.symbol, event.trade_ms or event.event_ms or 0)

    def _config(self, event: ConfigUpdate, recv_ns: Nanos) -> None:
        self._reader.forget_settings()
        if event.leverage is not None:
            text = f"leverage of {event.leverage.symbol} was set to {event.leverage.leverage} at the venue"
            self._notice(Severity.WARNING, "settings", text, recv_ns)
        if event.mode is not None:
            text = f"multi-assets mode was switched {'on' if event.mode.multi_assets else 'off'} at the venue"
            self._notice(Severity.CRITICAL if event.mode.multi_assets else Severity.WARNING, "settings", text, recv_ns)

    def _notice(self, severity: Severity, subject: str, text: str, ts_ns: Nanos) -> None:
        self._on_notice(Alert(severity, subject, text, ts_ns))
