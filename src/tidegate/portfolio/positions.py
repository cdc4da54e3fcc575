"""PositionManager: our positions and wallet, exact in Decimal, with a float shadow for decisions.

The exact side is ``domain/ledger``; the shadow (quantity, cost and wallet as floats) is refreshed from it at every fill
and payment, so that it never drifts. Equity for decisions is a float; Decimal equity is for reports and checks.

Fills are booked once, by (instrument, trade id), in whatever order they come. The newest ids are remembered one by one;
older ones than those are all taken as booked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from tidegate.domain.account import FundingPaid
from tidegate.domain.ids import InstrumentId
from tidegate.domain.ledger import EXACT, ZERO, Ledger, PositionLedger
from tidegate.domain.orders import OrderFilled

KEPT_TRADE_IDS = 4_096
"""How many fills of one instrument may come between a fill and its late or repeated report."""


@dataclass(slots=True)
class Booked:
    """The trade ids of one instrument that were booked: those in ``ids``, and all up to ``floor``."""

    floor: int = -1
    ids: set[int] = field(default_factory=set)

    def add(self, trade_id: int) -> bool:
        """Remember an id; False when it was booked before."""
        if trade_id <= self.floor or trade_id in self.ids:
            return False
        self.ids.add(trade_id)
        if len(self.ids) > 2 * KEPT_TRADE_IDS:
            oldest_first = sorted(self.ids)
            self.floor = oldest_first[-KEPT_TRADE_IDS - 1]
            self.ids = set(oldest_first[-KEPT_TRADE_IDS:])
        return True


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
        self._booked: dict[InstrumentId, Booked] = {}

    def holding(self, instrument: InstrumentId) -> Holding:
        """The holding of an instrument; made empty at first use."""
        held = self.holdings.get(instrument)
        if held is None:
            held = self.holdings[instrument] = Holding(self.ledger.position(instrument))
        return held

    def book_fill(self, fill: OrderFilled) -> bool:
        """Book an execution once; False when its trade id was booked before."""
        booked = self._booked.get(fill.instrument)
        if booked is None:
            booked = self._booked[fill.instrument] = Booked()
        if not booked.add(fill.trade_id):
            return False
        held = self.holding(fill.instrument)
        was_flat = held.qty == 0.0
        realised = held.exact.fill(fill.side, fill.qty, fill.price, fill.fee)
        self._changed(EXACT.subtract(realised, fill.fee))
        self._shadow(held)
        if was_flat or held.qty == 0.0:
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
        return {"ledger": self.ledger, "booked": self._booked}

    def load(self, ledger: Ledger, booked: dict[InstrumentId, Booked]) -> None:
        """Continue from a dump."""
        self.ledger, self._booked = ledger, booked
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
