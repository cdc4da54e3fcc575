"""Our account as the venue sees it."""

from decimal import Decimal

import msgspec

from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.orders import OrderFilled, OrderType, PositionSide, Side


class Balance(msgspec.Struct, frozen=True, gc=False):
    """The wallet of one asset: transfers, realised results, fees and funding, without open results.

    ``updated_ns`` is when the venue last changed it, 0 where it does not say.
    """

    asset: str
    wallet: Decimal
    updated_ns: Nanos = 0


class Position(msgspec.Struct, frozen=True, gc=False):
    """A holding: signed quantity and entry price. The entry price is a view; nothing is booked from it."""

    instrument: InstrumentId
    qty: Decimal
    entry_price: Decimal
    side: PositionSide = PositionSide.BOTH


class FundingPaid(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A funding settlement on our position; ``amount`` is the change of the wallet.

    ``line`` names the line of the venue's income list that says so, where there is one: it is booked once.
    """

    instrument: InstrumentId
    amount: Decimal
    rate: float
    mark: float
    ts_ns: Nanos
    recv_ns: Nanos
    mark_is_last: bool = False  # no mark price was known: the last close stood in
    line: str = ""


class Transfer(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Money put into the account, or taken out of it when negative."""

    asset: str
    amount: Decimal
    ts_ns: Nanos
    recv_ns: Nanos
    line: str = ""


class Income(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Any other change of a wallet that the venue lists: insurance, rebates, conversions."""

    kind: str
    asset: str
    amount: Decimal
    instrument: InstrumentId | None
    line: str
    ts_ns: Nanos
    recv_ns: Nanos


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
    position_side: PositionSide = PositionSide.BOTH


class ContractSetting(msgspec.Struct, frozen=True, gc=False):
    """How the venue is set for one contract; compared with the configuration, never changed by the daemon."""

    instrument: InstrumentId
    leverage: int
    isolated: bool


class AccountMode(msgspec.Struct, frozen=True, gc=False):
    """How the venue is set for the whole account."""

    hedge: bool = False
    multi_assets: bool = False
    portfolio_margin: bool = False


class AccountSnapshot(msgspec.Struct, frozen=True, tag=True):
    """Balances, positions and open orders, stops too, at one instant: the truth at start and after any doubt.

    Read in this order: orders, stops, positions, balances, then executions and income. ``name`` is that of the
    ``TakeSnapshot`` that asked. ``fills`` and ``income`` are what it asked for, oldest first, by the venue's ids.
    ``settings`` and ``mode`` are there where the venue has such settings.
    """

    ts_ns: Nanos
    recv_ns: Nanos
    balances: tuple[Balance, ...]
    positions: tuple[Position, ...]
    open_orders: tuple[OpenOrder, ...]
    name: str = ""
    fills: tuple[OrderFilled, ...] = ()
    income: tuple[FundingPaid | Transfer | Income, ...] = ()
    settings: tuple[ContractSetting, ...] = ()
    mode: AccountMode | None = None

    @property
    def wallets_ns(self) -> Nanos:
        """Up to when the wallets hold what the venue lists as income: they are read after ``ts_ns``, and what came in
        between is in them already."""
        return max(self.ts_ns, *(each.updated_ns for each in self.balances), 0)
