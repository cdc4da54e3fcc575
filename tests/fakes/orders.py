"""One order, approved: others are made of it with ``msgspec.structs.replace``."""

from decimal import Decimal

from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.orders import ApprovedOrder, OrderType, PositionSide, Purpose, Side, TimeInForce

MARKET_BUY = ApprovedOrder(
    id=ClientOrderId("p1-demo-0-1-0"),
    instrument=InstrumentId("BTCUSDT"),
    side=Side.BUY,
    qty=Decimal(1),
    order_type=OrderType.MARKET,
    limit=None,
    trigger=None,
    tif=TimeInForce.GTC,
    reduce_only=False,
    position_side=PositionSide.BOTH,
    purpose=Purpose.TARGET,
    parent=None,
    strategy=None,
    attempt=0,
    expires_ns=0,
)
"""A market order to buy one BTCUSDT, toward a target, that never expires."""
