"""Requests that change orders: how they are written, sent once, and what their failure means.

An order goes out once, under an id that is never used again; nothing here sends twice. The errors follow
reliability.md section 4: ``OrderNotSent`` and ``OrderRefused`` are certain, everything else is unknown, with the fence
after which an ordinary order cannot be accepted any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec

from tidegate.adapters.binance.errors import Banned, Context, NotSent, Refused, Unknown
from tidegate.adapters.binance.limits import Lane
from tidegate.domain.errors import OrderNotSent, OrderOutcomeUnknown, OrderRefused, VenueError
from tidegate.domain.ids import Nanos
from tidegate.domain.orders import AmendOrder, ApprovedOrder, OrderType, PositionSide, Purpose, Side

Params = tuple[tuple[str, str], ...]

ORDER: Final = "/fapi/v1/order"
ALGO: Final = "/fapi/v1/algoOrder"
BATCH: Final = "/fapi/v1/batchOrders"
MAX_BATCH: Final = 5

_CONDITIONAL: Final = frozenset({OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET})


def plain(value: Decimal) -> str:
    """A number as the venue takes it: digits and a point, never an exponent."""
    return format(value, "f")


def is_conditional(order: ApprovedOrder) -> bool:
    """Whether the order waits for a trigger, and so belongs to the venue's second book."""
    return order.order_type in _CONDITIONAL


def is_reducing(order: ApprovedOrder) -> bool:
    """Whether the order can only take risk away."""
    return order.reduce_only or order.purpose is not Purpose.TARGET


def place_params(order: ApprovedOrder) -> Params:
    """An ordinary order as the venue wants it. MARKET asks for the final state in the answer."""
    params = [("symbol", str(order.instrument)), ("side", order.side.value), ("type", order.order_type.value)]
    params += _position(order)
    if order.order_type is OrderType.LIMIT:
        params.append(("timeInForce", order.tif.value))
    params.append(("quantity", plain(order.qty)))
    if order.order_type is OrderType.LIMIT and order.limit is not None:
        params.append(("price", plain(order.limit)))
    params.append(("newClientOrderId", str(order.id)))
    params.append(("newOrderRespType", "RESULT" if order.order_type is OrderType.MARKET else "ACK"))
    return tuple(params)


def algo_params(order: ApprovedOrder) -> Params:
    """A conditional order: a quantity and reduce-only, never closePosition, so that two may rest for a moment."""
    if order.trigger is None:
        raise OrderNotSent(f"{order.id}: a {order.order_type.value} order needs a trigger price")
    return (
        ("algoType", "CONDITIONAL"),
        ("symbol", str(order.instrument)),
        ("side", order.side.value),
        ("type", order.order_type.value),
        *_position(order),
        ("quantity", plain(order.qty)),
        ("triggerPrice", plain(order.trigger)),
        ("workingType", "CONTRACT_PRICE"),
        ("clientAlgoId", str(order.id)),
    )


def _position(order: ApprovedOrder) -> list[tuple[str, str]]:
    """One-way: reduce-only as a flag. Hedge: the position's side says it, and the flag may not be sent."""
    if order.position_side is not PositionSide.BOTH:
        return [("positionSide", order.position_side.value)]
    return [("reduceOnly", "true")] if order.reduce_only else []


def amend_params(order: AmendOrder, side: Side, limit: Decimal) -> Params:
    """A change of a limit order: the venue wants side, quantity and price, changed or not."""
    return (
        ("symbol", str(order.instrument)),
        ("origClientOrderId", str(order.id)),
        ("side", side.value),
        ("quantity", plain(order.qty)),
        ("price", plain(limit)),
    )


def batch_params(orders: Sequence[ApprovedOrder]) -> Params:
    """Up to five ordinary orders in one request, as the JSON list that the venue takes."""
    listed = [dict(place_params(order)) for order in orders]
    return (("batchOrders", msgspec.json.encode(listed).decode()),)


@dataclass(slots=True)
class Sending:
    """One request on its way: how urgent it is, and until when the venue may still accept it."""

    id: str
    conditional: bool
    reducing: bool
    expires_ns: Nanos
    recv_window_ms: int
    error_ns: Nanos = 0
    sent_ns: Nanos = 0

    @property
    def lane(self) -> Lane:
        """Reducing orders may use the reserve."""
        return Lane.PROTECT if self.reducing else Lane.ENTER

    @property
    def context(self) -> Context:
        """How cautiously an answer is read."""
        return Context.REDUCING if self.reducing else Context.INCREASING

    def stamped(self, at_ns: Nanos) -> None:
        """The request was signed with this venue time."""
        self.sent_ns = at_ns

    @property
    def fence_ns(self) -> Nanos:
        """From here on the order cannot be accepted; 0 for a conditional order, which has no such time."""
        if self.conditional:
            return 0
        return (self.sent_ns or self.expires_ns) + self.recv_window_ms * 1_000_000 + self.error_ns

    def failure(self, error: VenueError) -> VenueError:
        """What a failed request means for the order."""
        match error:
            case NotSent() | Banned():
                return OrderNotSent(f"{self.id}: {error}")
            case Refused():
                return OrderRefused(str(error.code), error.message, error.cause.name)
            case Unknown():
                return OrderOutcomeUnknown(self.id, error.detail, self.fence_ns)
            case _:
                return error


def change_failure(id_: str, error: VenueError) -> VenueError:
    """What a failed cancel or amend means: certain or unknown, but never the end of the order."""
    match error:
        case NotSent() | Banned():
            return OrderNotSent(f"{id_}: {error}")
        case Refused():
            return OrderRefused(str(error.code), error.message, error.cause.name)
        case Unknown():
            return OrderOutcomeUnknown(id_, error.detail)
        case _:
            return error
