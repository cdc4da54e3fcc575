"""What anybody may hand in at the simulated venue: our orders come approved by the gate, others come as tickets."""

from decimal import Decimal

import msgspec

from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.orders import AmendOrder, ApprovedOrder, OrderType, Side, TimeInForce


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """An order of a stranger: the part of an approved order that a venue looks at. ``qty`` is positive."""

    id: ClientOrderId
    instrument: InstrumentId
    side: Side
    qty: Decimal
    order_type: OrderType
    limit: Decimal | None = None
    trigger: Decimal | None = None
    tif: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False


class Change(msgspec.Struct, frozen=True, gc=False):
    """A stranger's change of a resting order."""

    id: ClientOrderId
    instrument: InstrumentId
    qty: Decimal
    limit: Decimal | None
    trigger: Decimal | None = None


AnyOrder = ApprovedOrder | Ticket
AnyChange = AmendOrder | Change
