"""An ordinary order as the exchange keeps and shows it, and the store of an account's orders."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tidegate.adapters.localnet.wire import fixed
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.ledger import ROUNDED, ZERO
from tidegate.domain.orders import PositionSide, Side

Json = dict[str, Any]

OPEN = ("NEW", "PARTIALLY_FILLED")


@dataclass(frozen=True, slots=True)
class Places:
    """How many decimals a symbol's prices and quantities are shown with."""

    price: int
    qty: int

    @classmethod
    def of(cls, info: Json) -> "Places":
        """As ``exchangeInfo`` says."""
        return cls(info["pricePrecision"], info["quantityPrecision"])


@dataclass(slots=True)
class Order:
    """One ordinary order. ``instrument`` is its contract in the matching core: the symbol, or a leg of its hedge."""

    order_id: int
    client_id: str
    symbol: str
    instrument: InstrumentId
    side: Side
    position_side: PositionSide
    kind: str
    tif: str
    qty: Decimal
    price: Decimal
    places: Places
    created_ms: int
    updated_ms: int
    reduce_only: bool = False
    sent_reduce_only: bool = False
    close_position: bool = False
    original_kind: str = ""
    stop_price: Decimal = ZERO
    activate_price: Decimal = ZERO
    callback_rate: Decimal = ZERO
    working_type: str = "CONTRACT_PRICE"
    price_protect: bool = False
    stp: str = "EXPIRE_MAKER"
    price_match: str = "NONE"
    good_till_ms: int = 0
    status: str = "NEW"
    executed: Decimal = ZERO
    quote: Decimal = ZERO
    modify_id: int | None = None
    algo_id: int | None = None
    recorded: bool = True
    amendments: list[Json] = field(default_factory=list)

    @property
    def core_id(self) -> ClientOrderId:
        """Its name in the matching core: client ids may come again, this never does."""
        return ClientOrderId(str(self.order_id))

    @property
    def open(self) -> bool:
        """True while it may still trade."""
        return self.status in OPEN

    @property
    def average(self) -> Decimal:
        """Average price of its fills, zero without any."""
        return ROUNDED.divide(self.quote, self.executed) if self.executed else ZERO

    def p(self, value: Decimal) -> str:
        """A price of its symbol as text."""
        return fixed(value, self.places.price)

    def q(self, value: Decimal) -> str:
        """A quantity of its symbol as text."""
        return fixed(value, self.places.qty)

    def answer(self, *, fills: bool = False) -> Json:
        """The answer to placing and cancelling; ``fills`` adds the fields that left it in July 2026."""
        body: Json = {
            "orderId": self.order_id,
            "symbol": self.symbol,
            "status": self.status,
            "clientOrderId": self.client_id,
            "price": self.p(self.price),
            "origQty": self.q(self.qty),
            "executedQty": self.q(self.executed),
            "cumQty": self.q(self.executed),
            "timeInForce": self.tif,
            "type": self.kind,
            "reduceOnly": self.sent_reduce_only,
            "closePosition": self.close_position,
            "side": self.side.value,
            "positionSide": self.position_side.value,
            "stopPrice": self.p(self.stop_price),
            "workingType": self.working_type,
            "priceProtect": self.price_protect,
            "origType": self.original_kind or self.kind,
            "priceMatch": self.price_match,
            "selfTradePreventionMode": self.stp,
            "goodTillDate": self.good_till_ms,
            "updateTime": self.updated_ms,
        }
        if fills:
            body["avgPrice"] = fixed(self.average, self.places.price + 3)
            body["cumQuote"] = fixed(self.quote, 5)
        return body

    def modified(self, *, fills: bool = False) -> Json:
        """The answer to changing it."""
        body = {**self.answer(fills=fills), "pair": self.symbol}
        return body if self.modify_id is None else {**body, "modifyId": self.modify_id}

    def row(self) -> Json:
        """The answer to a query."""
        body = self.answer(fills=True)
        del body["cumQty"]
        body["time"] = self.created_ms
        if body["origType"] == "TRAILING_STOP_MARKET":
            body["activatePrice"] = self.p(self.activate_price)
            body["priceRate"] = str(self.callback_rate)
        return body

    def history_row(self) -> Json:
        """The answer to ``allOrders``."""
        return {**self.row(), "cumBase": self.q(self.executed), "pair": self.symbol}


class OrderStore:
    """All orders of an account: by number, the latest of each client id, and those that are open."""

    def __init__(self) -> None:
        self._all: dict[int, Order] = {}
        self._open: dict[int, Order] = {}
        self._by_client: dict[tuple[str, str], Order] = {}

    def add(self, order: Order) -> None:
        """Remember an order."""
        self._all[order.order_id] = self._open[order.order_id] = order
        self._by_client[order.symbol, order.client_id] = order

    def load(self, orders: Iterable[Order]) -> None:
        """Become the store that was kept, oldest first."""
        for order in orders:
            self.add(order)
            if not order.open:
                self.closed(order)

    def drop(self, order: Order) -> None:
        """Forget an order that was never recorded."""
        self._all.pop(order.order_id, None)
        self._open.pop(order.order_id, None)
        self._by_client.pop((order.symbol, order.client_id), None)

    def closed(self, order: Order) -> None:
        """Note that an order is final."""
        self._open.pop(order.order_id, None)

    def number(self, order_id: int) -> Order | None:
        """The order of a number."""
        return self._all.get(order_id)

    def find(self, symbol: str, order_id: int | None, client_id: str) -> Order | None:
        """The order of a symbol by number, or else by client id, the latest that bore it."""
        if order_id is not None:
            order = self._all.get(order_id)
            return order if order is not None and order.symbol == symbol else None
        return self._by_client.get((symbol, client_id))

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """The open orders, oldest first."""
        return [order for order in self._open.values() if symbol is None or order.symbol == symbol]

    def is_open_client(self, symbol: str, client_id: str) -> bool:
        """True when an open order of the symbol bears the client id."""
        order = self._by_client.get((symbol, client_id))
        return order is not None and order.open

    def all(self, symbol: str | None = None) -> Iterator[Order]:
        """Every order, oldest first."""
        return (order for order in self._all.values() if symbol is None or order.symbol == symbol)
