"""PositionManager: our positions and wallet, exact in Decimal, with a float shadow for decisions.

The exact side is ``domain/ledger``; the shadow (quantity, cost and wallet as floats) is refreshed from it at every fill
and payment, so that it never drifts. Equity for decisions is a float; Decimal equity is for reports and checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from tidegate.domain.ids import InstrumentId
from tidegate.domain.ledger import EXACT, ZERO, Ledger, PositionLedger
from tidegate.domain.messages import FundingPaid
from tidegate.domain.orders import OrderFilled


@dataclass(slots=True)
class Holding:
    """One instrument: the exact position and its shadow."""

    exact: PositionLedger
    qty: float = 0.0
    cost: float = 0.0

    @property
    def entry_price(self) -> float | None:
        """Average price of what is held."""
        return self.cost / self.qty if self.qty else None


class PositionManager:
    """All holdings of one wallet."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.wallet = ZERO
        self.wallet_float = 0.0
        self.holdings: dict[InstrumentId, Holding] = {}
        self.open: list[tuple[InstrumentId, Holding]] = []
        self._trade_ids: dict[InstrumentId, int] = {}

    def holding(self, instrument: InstrumentId) -> Holding:
        """The holding of an instrument; made empty at first use."""
        held = self.holdings.get(instrument)
        if held is None:
            held = self.holdings[instrument] = Holding(self.ledger.position(instrument))
        return held

    def book_fill(self, fill: OrderFilled) -> bool:
        """Book an execution once; False when its trade id was booked before.

        The trade ids of one instrument rise, as the venue's do.
        """
        if fill.trade_id <= self._trade_ids.get(fill.instrument, -1):
            return False
        self._trade_ids[fill.instrument] = fill.trade_id
        held = self.holding(fill.instrument)
        realised = held.exact.fill(fill.side, fill.qty, fill.price, fill.fee)
        self._changed(EXACT.subtract(realised, fill.fee))
        self._shadow(held)
        self.open = [(name, each) for name, each in self.holdings.items() if each.qty]
        return True

    def book_funding(self, paid: FundingPaid) -> None:
        """Book a funding settlement."""
        self.holding(paid.instrument).exact.pay_funding(paid.amount)
        self._changed(paid.amount)

    def book_transfer(self, amount: Decimal) -> None:
        """Book money that came in, or went out when negative."""
        self.ledger.transfer(amount)
        self._changed(amount)

    def equity(self, prices: Mapping[InstrumentId, float]) -> float:
        """Wallet plus open results, for decisions; each held instrument needs a price."""
        total = self.wallet_float
        for instrument, held in self.open:
            total += held.qty * prices[instrument] - held.cost
        return total

    def dump(self) -> object:
        """The exact state; the shadow follows from it."""
        return {"ledger": self.ledger, "trade_ids": self._trade_ids}

    def load(self, ledger: Ledger, trade_ids: dict[InstrumentId, int]) -> None:
        """Continue from a dump."""
        self.ledger, self._trade_ids = ledger, trade_ids
        self.holdings = {name: Holding(position) for name, position in ledger.positions.items()}
        for held in self.holdings.values():
            self._shadow(held)
        self.open = [(name, each) for name, each in self.holdings.items() if each.qty]
        self.wallet = ledger.wallet
        self.wallet_float = float(self.wallet)

    def _changed(self, amount: Decimal) -> None:
        self.wallet = EXACT.add(self.wallet, amount)
        self.wallet_float = float(self.wallet)

    @staticmethod
    def _shadow(held: Holding) -> None:
        held.qty, held.cost = float(held.exact.qty), float(held.exact.cost)
