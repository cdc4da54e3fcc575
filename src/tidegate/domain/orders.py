"""Orders: the words, the messages, and the life of one order as a table of states that only moves forward."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum

import msgspec

from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos, ParentId, StrategyId


class Side(Enum):
    BUY = "BUY"
    SELL = "SELL"

    def __init__(self, value: str) -> None:
        self.sign = 1 if value == "BUY" else -1

    @property
    def opposite(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(Enum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP_MARKET = "STOP_MARKET"
    TAKE_PROFIT_MARKET = "TAKE_PROFIT_MARKET"

    def __init__(self, value: str) -> None:
        self.conditional = value in ("STOP_MARKET", "TAKE_PROFIT_MARKET")


class TimeInForce(Enum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTX = "GTX"  # post only


class PositionSide(Enum):
    BOTH = "BOTH"
    LONG = "LONG"
    SHORT = "SHORT"


class Purpose(Enum):
    """What an order is for."""

    TARGET = "TARGET"
    PROTECTION = "PROTECTION"
    FLATTEN = "FLATTEN"


class ParentOrder(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The whole intention: trade ``qty`` (signed) from the arrival price, however many children it takes."""

    id: ParentId
    instrument: InstrumentId
    qty: Decimal
    purpose: Purpose
    arrival_price: float
    ts_ns: Nanos
    strategy: StrategyId | None = None


class OrderIntent(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An order before the gate. ``qty`` is positive; the side has the sign."""

    instrument: InstrumentId
    side: Side
    qty: Decimal
    order_type: OrderType
    purpose: Purpose
    limit: Decimal | None = None
    trigger: Decimal | None = None
    tif: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False
    position_side: PositionSide = PositionSide.BOTH
    parent: ParentId | None = None
    strategy: StrategyId | None = None


class ApprovedOrder(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An order after the gate: the only kind that a venue takes. Constructed in ``risk/gate.py`` and nowhere else."""

    id: ClientOrderId
    instrument: InstrumentId
    side: Side
    qty: Decimal
    order_type: OrderType
    limit: Decimal | None
    trigger: Decimal | None
    tif: TimeInForce
    reduce_only: bool
    position_side: PositionSide
    purpose: Purpose
    parent: ParentId | None
    strategy: StrategyId | None
    attempt: int
    expires_ns: Nanos


class CancelOrder(msgspec.Struct, frozen=True, gc=False, tag=True):
    """``conditional`` says in which of the venue's two books the order lies: stops have one of their own."""

    id: ClientOrderId
    instrument: InstrumentId
    conditional: bool = False


class AmendOrder(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A change of a working order. It can grow an order, so only the gate makes it."""

    id: ClientOrderId
    instrument: InstrumentId
    qty: Decimal
    limit: Decimal | None
    trigger: Decimal | None


class QueryOrder(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Ask what became of an order. A conditional one is looked for among the stops first, then among the others."""

    id: ClientOrderId
    instrument: InstrumentId
    conditional: bool = False


class FillCause(Enum):
    """Why an execution happened; anything but ORDER is the venue's own act."""

    ORDER = "ORDER"
    LIQUIDATION = "LIQUIDATION"
    DELEVERAGING = "DELEVERAGING"
    SETTLEMENT = "SETTLEMENT"


class RejectCause(Enum):
    """Why the venue said no, in the words that matter to us; its own code and text stand beside it.

    ``NOT_SENT`` is certain: no byte of the order left, or it had expired before it was signed.
    """

    RULES = "RULES"  # a filter or a parameter: the same request would be refused again
    MARGIN = "MARGIN"
    WOULD_TRIGGER = "WOULD_TRIGGER"  # the price is already through the stop
    REDUCE_ONLY = "REDUCE_ONLY"  # nothing to reduce, or other orders reduce it already
    CLOCK = "CLOCK"  # outside of the time window: one new decision
    RATE = "RATE"
    OVERLOADED = "OVERLOADED"
    NOT_TRADING = "NOT_TRADING"
    UNSUPPORTED = "UNSUPPORTED"  # this kind of order is not taken here: positions could not be protected
    POSITION_MODE = "POSITION_MODE"
    NOT_SENT = "NOT_SENT"
    OTHER = "OTHER"


class OrderAccepted(msgspec.Struct, frozen=True, gc=False, tag=True):
    id: ClientOrderId
    instrument: InstrumentId
    venue_id: int
    ts_ns: Nanos
    recv_ns: Nanos


class OrderRejected(msgspec.Struct, frozen=True, gc=False, tag=True):
    id: ClientOrderId
    instrument: InstrumentId
    code: str
    reason: str
    ts_ns: Nanos
    recv_ns: Nanos
    cause: RejectCause = RejectCause.RULES


class OrderNotFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A query was answered: the venue knows no such order. That proves nothing before the fence and the grace."""

    id: ClientOrderId
    instrument: InstrumentId
    ts_ns: Nanos
    recv_ns: Nanos


class OrderTriggered(msgspec.Struct, frozen=True, gc=False, tag=True):
    id: ClientOrderId
    instrument: InstrumentId
    ts_ns: Nanos
    recv_ns: Nanos


class OrderAmended(msgspec.Struct, frozen=True, gc=False, tag=True):
    id: ClientOrderId
    instrument: InstrumentId
    qty: Decimal
    limit: Decimal | None
    trigger: Decimal | None
    ts_ns: Nanos
    recv_ns: Nanos


class OrderFilled(msgspec.Struct, frozen=True, gc=False, tag=True):
    """One execution. ``id`` is ours, or the venue's own for a liquidation or settlement; ``reference`` is the price
    that the fill is measured against (the open it was decided for), where the venue is simulated."""

    id: ClientOrderId
    instrument: InstrumentId
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    trade_id: int
    maker: bool
    ts_ns: Nanos
    recv_ns: Nanos
    cause: FillCause = FillCause.ORDER
    reference: Decimal | None = None
    position_side: PositionSide = PositionSide.BOTH
    fee_price: Decimal | None = None  # USDT for one unit of the fee's asset, where that is not USDT


class OrderCanceled(msgspec.Struct, frozen=True, gc=False, tag=True):
    id: ClientOrderId
    instrument: InstrumentId
    ts_ns: Nanos
    recv_ns: Nanos


class OrderExpired(msgspec.Struct, frozen=True, gc=False, tag=True):
    id: ClientOrderId
    instrument: InstrumentId
    reason: str
    ts_ns: Nanos
    recv_ns: Nanos


class OrderUncertain(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The outcome of a request is not known. After ``fence_ns`` of the venue's time it cannot be accepted any more;
    0 where there is no such time: for a conditional order, for a cancel or an amend."""

    id: ClientOrderId
    instrument: InstrumentId
    detail: str
    ts_ns: Nanos
    recv_ns: Nanos
    fence_ns: Nanos = 0


OrderReport = (
    OrderAccepted
    | OrderRejected
    | OrderTriggered
    | OrderAmended
    | OrderFilled
    | OrderCanceled
    | OrderExpired
    | OrderUncertain
    | OrderNotFound
)


class OrderState(Enum):
    """Where an order stands. A state may only be left for one of higher rank: a stale report cannot reopen a closed
    order, and a late fill that completes a cancelled order wins over the cancel."""

    IN_FLIGHT = "IN_FLIGHT", 0
    UNCERTAIN = "UNCERTAIN", 1
    WORKING = "WORKING", 2
    TRIGGERED = "TRIGGERED", 3
    PARTIALLY_FILLED = "PARTIALLY_FILLED", 4
    NOT_PLACED = "NOT_PLACED", 5
    ABANDONED = "ABANDONED", 5  # conditional, and nothing has settled it for an hour: counted apart
    REJECTED = "REJECTED", 5
    CANCELED = "CANCELED", 5
    EXPIRED = "EXPIRED", 5
    FILLED = "FILLED", 6

    rank: int

    def __new__(cls, value: str, rank: int) -> "OrderState":
        state = object.__new__(cls)
        state._value_ = value
        state.rank = rank
        return state


TERMINAL_RANK = 5
_WORKING, _PARTIALLY_FILLED, _FILLED = OrderState.WORKING, OrderState.PARTIALLY_FILLED, OrderState.FILLED


@dataclass(slots=True)
class Order:
    """The life of one of our orders. Fills are idempotent by trade id and may come before the acknowledgement."""

    approved: ApprovedOrder
    state: OrderState = OrderState.IN_FLIGHT
    venue_id: int | None = None
    qty: Decimal = Decimal(0)
    filled: Decimal = Decimal(0)
    reason: str | None = None
    trade_ids: set[int] = field(default_factory=set)
    entered_ns: Nanos = 0
    ended_ns: Nanos = 0

    def __post_init__(self) -> None:
        if not self.qty:
            self.qty = self.approved.qty

    @property
    def open(self) -> bool:
        """True while the order may still trade."""
        return self.state.rank < TERMINAL_RANK

    @property
    def remaining(self) -> Decimal:
        """What may still trade; zero once the order is closed."""
        return self.qty - self.filled if self.open else Decimal(0)

    @property
    def rests_as_condition(self) -> bool:
        """True while the order lies among the venue's stops; once triggered it is an ordinary one."""
        return self.approved.order_type.conditional and self.state.rank < OrderState.TRIGGERED.rank

    def cancel(self) -> CancelOrder:
        """The command that cancels it."""
        return CancelOrder(self.approved.id, self.approved.instrument, self.rests_as_condition)

    def query(self) -> QueryOrder:
        """The command that asks for it."""
        return QueryOrder(self.approved.id, self.approved.instrument, self.approved.order_type.conditional)

    def conclude(self, state: OrderState) -> bool:
        """End it by our own proof, without a word of the venue: NOT_PLACED or ABANDONED."""
        return self._move(state)

    def apply(self, report: OrderReport) -> bool:
        """Take a report in; False when it said nothing new (a duplicate or a stale one)."""
        match report:
            case OrderFilled():
                return self._fill(report)
            case OrderAccepted():
                self.venue_id = report.venue_id
                return self._move(_WORKING)
            case OrderRejected():
                self.reason = f"{report.code} {report.reason}".strip()
                never = report.cause is RejectCause.NOT_SENT
                return self._move(OrderState.NOT_PLACED if never else OrderState.REJECTED)
            case OrderNotFound():
                return False
            case OrderTriggered():
                return self._move(OrderState.TRIGGERED)
            case OrderCanceled():
                return self._move(OrderState.CANCELED)
            case OrderExpired():
                self.reason = report.reason
                return self._move(OrderState.EXPIRED)
            case OrderUncertain():
                return self._move(OrderState.UNCERTAIN)
            case OrderAmended():
                if not self.open or report.qty == self.qty:
                    return False
                self.qty = report.qty
                return True

    def _fill(self, fill: OrderFilled) -> bool:
        if fill.trade_id in self.trade_ids:
            return False
        self.trade_ids.add(fill.trade_id)
        self.filled += fill.qty
        self._move(_FILLED if self.filled >= self.qty else _PARTIALLY_FILLED)
        return True

    def _move(self, state: OrderState) -> bool:
        if state.rank <= self.state.rank:
            return False
        self.state = state
        return True
