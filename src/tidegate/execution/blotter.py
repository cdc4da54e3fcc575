"""The blotter: all our orders, live and lately done, and their in-flight states.

1. ``enter`` records an approved order as in flight before anything is sent.
2. ``apply`` takes a report in. It is idempotent: a report that says nothing new returns None.
3. A state only moves forward (``domain/orders``); a fill may come before the acknowledgement.
4. An order of ours that the venue lists and we have forgotten is entered as the venue has it.
5. An order that closed is kept for a while, so that late and repeated reports find something to land on.
"""

from collections import deque
from collections.abc import Iterator
from decimal import Decimal

from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.orders import ApprovedOrder, Order, OrderReport, OrderState, Purpose

KEPT_CLOSED = 1_000
_TRIGGERED = (OrderState.TRIGGERED, OrderState.PARTIALLY_FILLED)

# Members by plain names: looking one up on its class costs ten times as much, and these are asked all the time.
_PROTECTION = Purpose.PROTECTION


class Blotter:
    """Orders by client id, and per instrument those that may still trade."""

    def __init__(self) -> None:
        self._orders: dict[ClientOrderId, Order] = {}
        self._open: dict[InstrumentId, dict[ClientOrderId, Order]] = {}
        self._closed: deque[ClientOrderId] = deque()

    def enter(self, approved: ApprovedOrder, now_ns: Nanos = 0) -> Order:
        """Record an order as in flight."""
        order = Order(approved, entered_ns=now_ns)
        self._orders[approved.id] = order
        self._open.setdefault(approved.instrument, {})[approved.id] = order
        return order

    def apply(self, report: OrderReport) -> Order | None:
        """Move the order of a report on; None when the order is not ours or the report says nothing new."""
        order = self._orders.get(report.id)
        if order is None or not order.apply(report):
            return None
        if not order.open:
            self._close(order, report.recv_ns)
        return order

    def reopen(self, order: Order, now_ns: Nanos) -> Order:
        """A refused order that the venue shows as live: it is entered anew, with what it has filled."""
        name = order.approved.id
        if name in self._closed:
            self._closed.remove(name)
        again = self.enter(order.approved, now_ns)
        again.filled, again.trade_ids = order.filled, order.trade_ids
        return again

    def conclude(self, order: Order, state: OrderState, now_ns: Nanos) -> None:
        """End an order that will never be heard of: NOT_PLACED by proof, ABANDONED by time."""
        if order.conclude(state):
            self._close(order, now_ns)

    def find(self, name: ClientOrderId) -> Order | None:
        """An order by its id, live or lately done."""
        return self._orders.get(name)

    def working(self, instrument: InstrumentId, purpose: Purpose) -> list[Order]:
        """Orders of a purpose that may still trade, oldest first."""
        return [order for order in self._open.get(instrument, {}).values() if order.approved.purpose is purpose]

    def working_qty(self, instrument: InstrumentId) -> Decimal:
        """Signed quantity that is on its way to be filled. Protective stops count once they are triggered."""
        total = Decimal(0)
        for order in self._open.get(instrument, {}).values():
            if order.approved.purpose is not _PROTECTION or order.state in _TRIGGERED:
                total += order.approved.side.sign * order.remaining
        return total

    def of(self, instrument: InstrumentId) -> list[Order]:
        """All orders of an instrument that may still trade, oldest first."""
        return list(self._open.get(instrument, {}).values())

    def has_working(self, instrument: InstrumentId) -> bool:
        """True while any order of the instrument may still trade."""
        return bool(self._open.get(instrument))

    def __iter__(self) -> Iterator[Order]:
        """All orders that may still trade, oldest first."""
        return (order for order in self._orders.values() if order.open)

    def dump(self) -> object:
        """Every order that is remembered: the closed ones as they closed, then the open ones as they were entered."""
        return [*(self._orders[name] for name in self._closed), *self]

    def load(self, orders: list[Order]) -> None:
        """Continue from a dump."""
        self._orders = {order.approved.id: order for order in orders}
        self._open, self._closed = {}, deque()
        for order in orders:
            if order.open:
                self._open.setdefault(order.approved.instrument, {})[order.approved.id] = order
            else:
                self._closed.append(order.approved.id)

    def _close(self, order: Order, now_ns: Nanos) -> None:
        approved = order.approved
        order.ended_ns = now_ns
        if self._open.get(approved.instrument, {}).pop(approved.id, None) is None:
            return  # it had ended before: a late fill completed it
        self._closed.append(approved.id)
        if len(self._closed) > KEPT_CLOSED:
            del self._orders[self._closed.popleft()]
