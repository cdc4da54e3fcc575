"""The exact ledger: fills and funding in, signed cost and realised results out, nothing lost to rounding.

A position holds its signed quantity ``q`` and its signed cost ``C`` (quote currency).

1. An increase by ``dq`` at price ``p`` adds ``dq p`` to ``C``.
2. A reduction by ``dq`` (against ``q``) releases ``C |dq| / |q|``, quantised to 1e-8, the one rounding in this file;
   the rest keeps the remainder. Realised = proceeds ``-dq p`` minus what was released.
3. A close releases all of ``C``. A fill through zero closes, then opens the rest.
4. Unrealised = ``q mark - C``. The entry price ``C / q`` is a view: nothing is booked from it.

So for any sequence of fills ``realised + unrealised - fees + funding`` is the change of equity to the last digit.
Every other operation runs in a context that traps ``Inexact``: a digit cannot get lost unseen.
"""

from dataclasses import dataclass, field
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)

from tidegate.domain.ids import InstrumentId
from tidegate.domain.orders import Side

EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
"""Sums and products without loss; losing a digit raises."""

ROUNDED = Context(prec=80, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""For the named roundings only."""

CENT = Decimal("1E-8")
"""The venue's smallest unit of money."""

ZERO = Decimal(0)


@dataclass(slots=True)
class PositionLedger:
    """One instrument: what we hold, what it cost, and what came of it. All amounts in the quote asset."""

    qty: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    other_fees: Decimal = ZERO  # fees paid in another asset, at their value when paid: not part of this wallet

    @property
    def fees_usdt(self) -> Decimal:
        """All fees, whatever they were paid in."""
        return EXACT.add(self.fees, self.other_fees)

    def fill(self, side: Side, qty: Decimal, price: Decimal, fee: Decimal) -> Decimal:
        """Book one execution of ``qty`` (positive); returns what it realised, before the fee."""
        if qty <= 0 or price <= 0:
            raise ValueError(f"a fill needs a positive quantity and price, not {qty} at {price}")
        dq = qty if side.sign > 0 else EXACT.minus(qty)
        held = self.qty
        before = self.realised
        self.fees = EXACT.add(self.fees, fee)
        if held == 0 or (held > 0) == (dq > 0):
            self.cost = EXACT.fma(dq, price, self.cost)
            self.qty = EXACT.add(held, dq)
            return ZERO
        left = EXACT.add(held, dq)
        if left == 0 or (left > 0) == (held > 0):
            self._release(dq, price, left)
        else:
            self._release(EXACT.minus(held), price, ZERO)
            self.cost = EXACT.multiply(left, price)
            self.qty = left
        return EXACT.subtract(self.realised, before)

    def _release(self, dq: Decimal, price: Decimal, left: Decimal) -> None:
        if left == 0:
            released = self.cost
        else:
            share = ROUNDED.divide(ROUNDED.multiply(self.cost, dq), self.qty)
            released = EXACT.minus(ROUNDED.quantize(share, CENT))
        self.realised = EXACT.add(self.realised, EXACT.subtract(EXACT.minus(EXACT.multiply(dq, price)), released))
        self.cost = EXACT.subtract(self.cost, released)
        self.qty = left

    def pay_funding(self, amount: Decimal) -> None:
        """Book a settlement; ``amount`` is the change of the wallet."""
        self.funding = EXACT.add(self.funding, amount)

    def unrealised(self, mark: Decimal) -> Decimal:
        """The open result at ``mark``."""
        return EXACT.subtract(EXACT.multiply(self.qty, mark), self.cost)

    @property
    def entry_price(self) -> Decimal | None:
        """Average price of what is held: a view for display and margin."""
        return ROUNDED.divide(self.cost, self.qty) if self.qty else None


@dataclass(slots=True)
class Ledger:
    """All positions of one wallet, and the wallets of the other assets that fees are paid in."""

    deposits: Decimal = ZERO
    positions: dict[InstrumentId, PositionLedger] = field(default_factory=dict)
    income: Decimal = ZERO  # what the venue lists besides trades and funding: insurance, rebates
    other: dict[str, Decimal] = field(default_factory=dict)

    def position(self, instrument: InstrumentId) -> PositionLedger:
        """The position of ``instrument``; made empty at first use."""
        held = self.positions.get(instrument)
        if held is None:
            held = self.positions[instrument] = PositionLedger()
        return held

    def transfer(self, amount: Decimal) -> None:
        """Money put in, or taken out when negative."""
        self.deposits = EXACT.add(self.deposits, amount)

    def credit(self, asset: str, amount: Decimal) -> None:
        """Change the wallet of another asset."""
        self.other[asset] = EXACT.add(self.other.get(asset, ZERO), amount)

    @property
    def wallet(self) -> Decimal:
        """Deposits and everything realised: results, fees, funding and other income."""
        total = EXACT.add(self.deposits, self.income)
        for held in self.positions.values():
            total = EXACT.add(total, held.realised)
            total = EXACT.subtract(total, held.fees)
            total = EXACT.add(total, held.funding)
        return total

    def equity(self, marks: dict[InstrumentId, Decimal]) -> Decimal:
        """Wallet plus open results; every held instrument needs a mark."""
        total = self.wallet
        for instrument, held in self.positions.items():
            if held.qty:
                total = EXACT.add(total, held.unrealised(marks[instrument]))
        return total
