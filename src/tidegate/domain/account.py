"""Our account as the venue sees it."""

from decimal import Decimal

import msgspec

from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.orders import OrderType, PositionSide, Side


class Balance(msgspec.Struct, frozen=True, gc=False):
    """The wallet of one asset: transfers, realised results, fees and funding, without open results."""

    asset: str
    wallet: Decimal


class Position(msgspec.Struct, frozen=True, gc=False):
    """A holding: signed quantity and entry price. The entry price is a view; nothing is booked from it."""

    instrument: InstrumentId
    qty: Decimal
    entry_price: Decimal
    side: PositionSide = PositionSide.BOTH


class OpenOrder(msgspec.Struct, frozen=True, gc=False):
    """An order that rests at the venue."""

    id: ClientOrderId
    venue_id: int
    instrument: InstrumentId
    side: Side
    qty: Decimal
    filled: Decimal
    order_type: OrderType
    limit: Decimal | None
    trigger: Decimal | None
    reduce_only: bool


class AccountSnapshot(msgspec.Struct, frozen=True, tag=True):
    """Balances, positions and open orders at one instant: the truth at start and after any doubt."""

    ts_ns: Nanos
    recv_ns: Nanos
    balances: tuple[Balance, ...]
    positions: tuple[Position, ...]
    open_orders: tuple[OpenOrder, ...]
