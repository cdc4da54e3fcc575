"""A conditional order as the algo service keeps and shows it."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from tidegate.adapters.localnet.orders import Order, Places
from tidegate.adapters.localnet.wire import fixed
from tidegate.domain.ids import InstrumentId
from tidegate.domain.ledger import ZERO
from tidegate.domain.orders import PositionSide, Side

Json = dict[str, Any]

STOPS: Final = ("STOP", "STOP_MARKET")
PROFITS: Final = ("TAKE_PROFIT", "TAKE_PROFIT_MARKET")
WITH_LIMIT: Final = ("STOP", "TAKE_PROFIT")
TRAILING: Final = "TRAILING_STOP_MARKET"
KINDS: Final = (*STOPS, *PROFITS, TRAILING)


@dataclass(slots=True)
class AlgoOrder:
    """One conditional order. ``extreme`` is the best price a trailing stop has seen since it was placed; ``armed``
    is set when a close-all order has had a position to close; ``child`` is
    the ordinary order that its trigger made."""

    algo_id: int
    client_id: str
    symbol: str
    instrument: InstrumentId
    side: Side
    position_side: PositionSide
    kind: str
    tif: str
    qty: Decimal
    price: Decimal
    trigger: Decimal
    places: Places
    created_ms: int
    updated_ms: int
    sent_reduce_only: bool = False
    reduce_only: bool = False
    close_position: bool = False
    working_type: str = "CONTRACT_PRICE"
    price_protect: bool = False
    price_match: str = "NONE"
    stp: str = "EXPIRE_MAKER"
    good_till_ms: int = 0
    activate: Decimal = ZERO
    callback_rate: Decimal = ZERO
    activated: bool = False
    extreme: Decimal = ZERO
    armed: bool = False
    status: str = "NEW"
    triggered_ms: int = 0
    failure: str = ""
    child: Order | None = None

    @property
    def open(self) -> bool:
        """True while it waits for its trigger."""
        return self.status == "NEW"

    @property
    def actual_price(self) -> Decimal:
        """Average price of the order it made."""
        return ZERO if self.child is None else self.child.average

    @property
    def actual_qty(self) -> Decimal:
        """Filled quantity of the order it made."""
        return ZERO if self.child is None else self.child.executed

    def reached(self, price: Decimal) -> bool:
        """True when ``price`` is at the trigger, or past it, on the side that it waits for."""
        above = (self.side is Side.BUY) is (self.kind in STOPS)
        return price >= self.trigger if above else price <= self.trigger

    def trail(self, price: Decimal) -> bool:
        """Follow ``price`` with a trailing stop; True when it turned back by the callback rate."""
        buy, rate = self.side is Side.BUY, self.callback_rate / 100
        self.extreme = min(self.extreme, price) if buy else max(self.extreme, price)
        if not self.activated:
            self.activated = self.extreme <= self.activate if buy else self.extreme >= self.activate
        turn = self.extreme * (1 + rate if buy else 1 - rate)
        return self.activated and (price >= turn if buy else price <= turn)

    def answer(self) -> Json:
        """The answer to placing it."""
        return {
            "algoId": self.algo_id,
            "clientAlgoId": self.client_id,
            "algoType": "CONDITIONAL",
            "orderType": self.kind,
            "symbol": self.symbol,
            "side": self.side.value,
            "positionSide": self.position_side.value,
            "timeInForce": self.tif,
            "quantity": fixed(self.qty, self.places.qty),
            "algoStatus": self.status,
            "triggerPrice": fixed(self.trigger, self.places.price),
            "price": fixed(self.price, self.places.price),
            "icebergQuantity": None,
            "selfTradePreventionMode": self.stp,
            "workingType": self.working_type,
            "priceMatch": self.price_match,
            "closePosition": self.close_position,
            "priceProtect": self.price_protect,
            "reduceOnly": self.sent_reduce_only,
            "activatePrice": fixed(self.activate, self.places.price) if self.activate else "",
            "callbackRate": str(self.callback_rate) if self.callback_rate else "",
            "createTime": self.created_ms,
            "updateTime": self.updated_ms,
            "triggerTime": self.triggered_ms,
            "goodTillDate": self.good_till_ms,
        }

    def row(self) -> Json:
        """The answer to a query."""
        nothing = fixed(ZERO, self.places.price)
        body = self.answer()
        if self.kind != TRAILING:
            del body["activatePrice"], body["callbackRate"]
        return {
            **body,
            "actualOrderId": "" if self.child is None else str(self.child.order_id),
            "actualPrice": fixed(self.actual_price, self.places.price + 3),
            "actualType": "" if self.child is None else self.child.kind,
            "actualQty": fixed(self.actual_qty, self.places.qty),
            "tpTriggerPrice": nothing,
            "tpPrice": nothing,
            "slTriggerPrice": nothing,
            "slPrice": nothing,
            "tpOrderType": "",
        }
