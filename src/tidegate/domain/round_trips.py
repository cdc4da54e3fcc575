"""Round trips: fills grouped into closed trades, from flat to flat, or from a flip to the next one.

1. A fill on the side of the open trip enlarges it; one on the other side closes as much of it as there is.
2. When nothing is left the trip is a closed trade. What the fill has beyond that opens the next trip; its fee is
   divided by quantity, the closing part quantised to 1e-8, the rest keeps the remainder.
3. Funding of an instrument belongs to the trip that is open in it.
4. ``price_pnl`` is measured at the reference prices, the rest is slippage: ``net`` is what the wallet gained.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.ledger import CENT, EXACT, ROUNDED, ZERO
from tidegate.domain.orders import FillCause, OrderFilled, Purpose


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A closed trade. Amounts in USDT."""

    instrument: InstrumentId
    side: int  # +1 long, -1 short
    opened_ns: Nanos
    closed_ns: Nanos
    max_qty: Decimal
    entry_price: Decimal  # average of the opening fills
    exit_price: Decimal  # average of the closing fills
    price_pnl: Decimal  # at the reference prices, before slippage
    slippage: Decimal  # cost, positive
    fees: Decimal  # cost, positive
    funding: Decimal  # change of the wallet
    exit_reason: str  # target, protection, flatten, liquidation, deleveraging, settlement, adjustment

    @property
    def net(self) -> Decimal:
        """What the trade changed the equity by."""
        return self.price_pnl - self.slippage - self.fees + self.funding


@dataclass(slots=True)
class OpenTrip:
    """A round trip in progress. Cash flows are signed: what selling brought less what buying took."""

    side: int
    opened_ns: Nanos
    qty: Decimal = ZERO
    max_qty: Decimal = ZERO
    entry_qty: Decimal = ZERO
    entry_cost: Decimal = ZERO
    exit_qty: Decimal = ZERO
    exit_cost: Decimal = ZERO
    at_reference: Decimal = ZERO
    slippage: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO

    def add(self, fill: OrderFilled, reference: Decimal, qty: Decimal, fee: Decimal) -> None:
        """Take in ``qty`` of a fill, and the part of its fee that goes with it."""
        sign = fill.side.sign
        if sign == self.side:
            self.qty = EXACT.add(self.qty, qty)
            self.max_qty = max(self.max_qty, self.qty)
            self.entry_qty = EXACT.add(self.entry_qty, qty)
            self.entry_cost = EXACT.fma(qty, fill.price, self.entry_cost)
        else:
            self.qty = EXACT.subtract(self.qty, qty)
            self.exit_qty = EXACT.add(self.exit_qty, qty)
            self.exit_cost = EXACT.fma(qty, fill.price, self.exit_cost)
        self.at_reference = EXACT.fma(-sign * qty, reference, self.at_reference)
        self.slippage = EXACT.fma(sign * qty, EXACT.subtract(fill.price, reference), self.slippage)
        self.fees = EXACT.add(self.fees, fee)

    def closed(self, fill: OrderFilled, reason: str) -> RoundTrip:
        """The trade, ended by ``fill``."""
        return RoundTrip(
            fill.instrument,
            self.side,
            self.opened_ns,
            fill.ts_ns,
            self.max_qty,
            ROUNDED.quantize(ROUNDED.divide(self.entry_cost, self.entry_qty), CENT),
            ROUNDED.quantize(ROUNDED.divide(self.exit_cost, self.exit_qty), CENT),
            self.at_reference,
            self.slippage,
            self.fees,
            self.funding,
            reason,
        )


@dataclass(slots=True)
class RoundTrips:
    """The trips in progress, one an instrument at most."""

    open: dict[InstrumentId, OpenTrip] = field(default_factory=dict)

    def fill(self, fill: OrderFilled, fee: Decimal, reason: str) -> RoundTrip | None:
        """Take an execution in, with its fee in USDT; the trade that it closed for ``reason``, if it closed one."""
        reference = fill.price if fill.reference is None else fill.reference
        sign = fill.side.sign
        trip = self.open.get(fill.instrument)
        if trip is None:
            trip = self.open[fill.instrument] = OpenTrip(sign, fill.ts_ns)
        if sign == trip.side:
            trip.add(fill, reference, fill.qty, fee)
            return None
        closing, closing_fee = min(fill.qty, trip.qty), fee
        if closing < fill.qty:
            closing_fee = ROUNDED.quantize(ROUNDED.divide(ROUNDED.multiply(fee, closing), fill.qty), CENT)
        trip.add(fill, reference, closing, closing_fee)
        if trip.qty:
            return None
        del self.open[fill.instrument]
        if closing < fill.qty:
            rest = self.open[fill.instrument] = OpenTrip(sign, fill.ts_ns)
            rest.add(fill, reference, EXACT.subtract(fill.qty, closing), EXACT.subtract(fee, closing_fee))
        return trip.closed(fill, reason)

    def funded(self, instrument: InstrumentId, amount: Decimal) -> None:
        """Take in a settlement; one that comes when nothing is open belongs to no trade."""
        trip = self.open.get(instrument)
        if trip is not None:
            trip.funding = EXACT.add(trip.funding, amount)


def exit_reason(fill: OrderFilled, purpose: Purpose | None) -> str:
    """Why a fill closed what it closed: the venue's own act, or what our order was for."""
    if fill.cause is not FillCause.ORDER:
        return fill.cause.name.lower()
    return (purpose or Purpose.TARGET).name.lower()
