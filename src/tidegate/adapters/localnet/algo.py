"""The algo service: conditional orders beside the ordinary ones, without margin check until they trigger.

NEW -> TRIGGERING -> TRIGGERED (the ordinary order exists) -> FINISHED (it is final); or CANCELED, EXPIRED by the
system, REJECTED at the trigger. The ordinary order bears the conditional one's client id.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final, Protocol

from tidegate.adapters.localnet import events
from tidegate.adapters.localnet.algo_orders import TRAILING, WITH_LIMIT, AlgoOrder
from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.orders import Order
from tidegate.domain.ids import InstrumentId
from tidegate.domain.ledger import ZERO
from tidegate.domain.orders import Side
from tidegate.simulator.ticks import TickExchange, Touch

Json = dict[str, Any]

MAX_OPEN: Final = 200
_PROTECT: Final = Decimal("0.05")


class Numbers(Protocol):
    """Gives out order numbers."""

    def order(self) -> int:
        """The next order number."""
        ...


class Desk(Protocol):
    """The account that conditional orders belong to."""

    exchange: TickExchange

    @property
    def ids(self) -> Numbers:
        """Where order numbers come from."""
        ...

    @property
    def now_ms(self) -> int:
        """The venue's time."""
        ...

    def events(self, event: Json) -> None:
        """Tell the account's stream."""
        ...

    def check(self, order: Order) -> None:
        """Raise ``ApiError`` when an ordinary order would be refused."""
        ...

    def submit(self, order: Order) -> Order:
        """Hand in an ordinary order. Raises ``ApiError``."""
        ...


class AlgoBook:
    """The conditional orders of one account."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._all: dict[int, AlgoOrder] = {}
        self._open: dict[int, AlgoOrder] = {}
        self._by_client: dict[str, AlgoOrder] = {}

    # ---- requests -----------------------------------------------------------------------------------------------

    def place(self, order: AlgoOrder, touch: Touch) -> AlgoOrder:
        """Let an order wait for its trigger. Raises ``ApiError``; then it never was."""
        known = self._by_client.get(order.client_id)
        if known is not None and known.open:
            raise ApiError(-4116)
        if len(self._open) >= MAX_OPEN:
            raise ApiError(-4045)
        price = _watched(order, touch)
        if order.kind == TRAILING:
            self._start_trailing(order, price)
        elif order.reached(price):
            raise ApiError(-2021)
        if order.close_position and any(
            each.close_position and each.side is order.side and each.instrument == order.instrument
            for each in self._open.values()
        ):
            raise ApiError(-4130)
        self._all[order.algo_id] = self._open[order.algo_id] = self._by_client[order.client_id] = order
        self._tell(order, "NEW")
        return order

    @staticmethod
    def _start_trailing(order: AlgoOrder, price: Decimal) -> None:
        order.extreme = price
        if not order.activate:
            order.activate, order.activated = price, True
        elif order.activate >= price if order.side is Side.BUY else order.activate <= price:
            raise ApiError(-2021)

    def cancel(self, order: AlgoOrder) -> None:
        """Cancel a waiting order."""
        self._end(order, "CANCELED")

    def cancel_all(self, symbol: str | None) -> int:
        """Cancel the waiting orders (of a symbol); says how many."""
        gone = self.open_orders(symbol)
        for order in gone:
            self.cancel(order)
        return len(gone)

    def expire_all(self, symbol: str) -> None:
        """The system ends the waiting orders of a symbol."""
        for order in self.open_orders(symbol):
            self._end(order, "EXPIRED")

    def find(self, algo_id: int | None, client_id: str) -> AlgoOrder | None:
        """By number, or else by client id, the latest that bore it."""
        return self._by_client.get(client_id) if algo_id is None else self._all.get(algo_id)

    def open_orders(self, symbol: str | None = None) -> list[AlgoOrder]:
        """Those that wait, oldest first."""
        return [order for order in self._open.values() if symbol is None or order.symbol == symbol]

    def all(self, symbol: str) -> Iterator[AlgoOrder]:
        """Every order of a symbol, oldest first."""
        return (order for order in self._all.values() if order.symbol == symbol)

    # ---- state --------------------------------------------------------------------------------------------------

    def dump(self) -> list[AlgoOrder]:
        """Every order, oldest first."""
        return list(self._all.values())

    def load(self, orders: Iterable[AlgoOrder]) -> None:
        """Become the book that was kept."""
        for order in orders:
            self._all[order.algo_id] = self._by_client[order.client_id] = order
            if order.open:
                self._open[order.algo_id] = order

    # ---- the market ---------------------------------------------------------------------------------------------

    def on_price(self, symbol: str, touch: Touch) -> None:
        """The market moved: what reached its trigger becomes an ordinary order."""
        if not self._open:
            return
        for order in [each for each in self._open.values() if each.symbol == symbol]:
            price = _watched(order, touch)
            was_active = order.activated
            due = order.trail(price) if order.kind == TRAILING else order.reached(price)
            if order.activated and not was_active:
                self._tell(order, "NEW")
            if due and order.open and not _protected(order, touch):
                self.trigger(order)
        self._expire_closing(symbol)

    def trigger(self, order: AlgoOrder) -> None:
        """Make the ordinary order of a conditional one; REJECTED when it is refused now."""
        held = self._held(order.instrument)
        order.triggered_ms = self._desk.now_ms
        self._open.pop(order.algo_id, None)
        self._tell(order, "TRIGGERING")
        if order.close_position:
            order.qty = abs(held)
        try:
            if order.close_position and not _reduces(order.side, held):
                raise ApiError(-2022)
            child = self._child(order)
            self._desk.check(child)
            order.child = child
            self._tell(order, "TRIGGERED")
            self._desk.submit(child)
        except ApiError as error:
            order.child = None
            order.failure = "Reduce Only reject" if error.code == -2022 else error.msg
            self._tell(order, "REJECTED")
            return

    def child_ended(self, order: Order) -> None:
        """An ordinary order is final: so is the conditional one it came from."""
        if order.algo_id is None:
            return
        parent = self._all[order.algo_id]
        if parent.status == "TRIGGERED":
            self._tell(parent, "FINISHED")

    def _child(self, order: AlgoOrder) -> Order:
        limit = order.kind in WITH_LIMIT
        now_ms = self._desk.now_ms
        return Order(
            self._desk.ids.order(),
            order.client_id,
            order.symbol,
            order.instrument,
            order.side,
            order.position_side,
            "LIMIT" if limit else "MARKET",
            order.tif,
            order.qty,
            order.price if limit else ZERO,
            order.places,
            now_ms,
            now_ms,
            reduce_only=order.reduce_only or order.close_position,
            sent_reduce_only=order.sent_reduce_only or order.close_position,
            close_position=order.close_position,
            original_kind=order.kind,
            stop_price=order.trigger,
            activate_price=order.activate if order.kind == TRAILING else ZERO,
            callback_rate=order.callback_rate,
            working_type=order.working_type,
            price_protect=order.price_protect,
            stp=order.stp,
            price_match=order.price_match,
            good_till_ms=order.good_till_ms,
            algo_id=order.algo_id,
        )

    def _expire_closing(self, symbol: str) -> None:
        """An order that closes the whole position ends when there is none; it may wait for one that never was."""
        for order in [each for each in self._open.values() if each.symbol == symbol and each.close_position]:
            if _reduces(order.side, self._held(order.instrument)):
                order.armed = True
            elif order.armed:
                self._end(order, "EXPIRED")

    def _held(self, instrument: InstrumentId) -> Decimal:
        return self._desk.exchange.ledger.position(instrument).qty

    def _end(self, order: AlgoOrder, status: str) -> None:
        self._open.pop(order.algo_id, None)
        self._tell(order, status)

    def _tell(self, order: AlgoOrder, status: str) -> None:
        order.status = status
        order.updated_ms = self._desk.now_ms
        self._desk.events(events.algo_update(order, order.updated_ms))


def _watched(order: AlgoOrder, touch: Touch) -> Decimal:
    return touch.valuation if order.working_type == "MARK_PRICE" else touch.last


def _protected(order: AlgoOrder, touch: Touch) -> bool:
    """With ``priceProtect`` nothing triggers while last and mark price are far apart."""
    return order.price_protect and abs(touch.valuation - touch.last) > _PROTECT * touch.valuation


def _reduces(side: Side, held: Decimal) -> bool:
    return held != 0 and (held > 0) is (side is Side.SELL)
