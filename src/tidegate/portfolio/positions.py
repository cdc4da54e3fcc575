"""PositionManager: our positions and wallets, exact in Decimal, with a float shadow for decisions.

The exact side is ``domain/ledger``; the shadow (quantity, cost and wallet as floats) is refreshed from it at every fill
and payment, so that it never drifts. Equity for decisions is a float; Decimal equity is for reports and checks.

Fills are booked once, by (instrument, trade id), in whatever order they come; lines of the venue's income list once, by
their name. The newest are remembered one by one; older ones than those are all taken as booked.

A fee that is paid in another asset leaves that asset's wallet, and its value at that moment is kept beside it.
``pnl`` splits what came of an instrument into price, fees, funding and slippage, at any moment and mark.

Deposits and withdrawals buy and redeem units at the unit value of their moment, so that they move no performance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from tidegate.domain.account import FundingPaid, Income, Transfer
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.ledger import EXACT, ZERO, Ledger, PositionLedger
from tidegate.domain.orders import OrderFilled, Side

QUOTE_ASSET = "USDT"
KEPT_TRADE_IDS = 4_096
"""How many fills of one instrument may come between a fill and its late or repeated report."""
KEPT_LINES = 4_096


@dataclass(slots=True)
class Booked:
    """The trade ids of one instrument that were booked: those in ``ids``, and all up to ``floor``."""

    floor: int = -1
    ids: set[int] = field(default_factory=set)

    def has(self, trade_id: int) -> bool:
        """True when the id was booked."""
        return trade_id <= self.floor or trade_id in self.ids

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
class Lines:
    """The income lines that were booked: those in ``seen`` with their times, and all up to ``floor_ns``."""

    floor_ns: Nanos = 0
    seen: dict[str, Nanos] = field(default_factory=dict)

    def add(self, line: str, ts_ns: Nanos) -> bool:
        """Remember a line; False when it was booked before. A payment that no list names has no line: it is new."""
        if not line:
            return True
        if ts_ns <= self.floor_ns or line in self.seen:
            return False
        self.seen[line] = ts_ns
        if len(self.seen) > 2 * KEPT_LINES:
            oldest_first = sorted(self.seen.items(), key=lambda item: item[1])
            self.floor_ns = oldest_first[-KEPT_LINES - 1][1]
            self.seen = dict(oldest_first[-KEPT_LINES:])
        return True


@dataclass(frozen=True, slots=True)
class PnlSplit:
    """What came of one instrument, in USDT. ``price`` is at the reference prices, open result included; ``fees`` and
    ``slippage`` are costs, positive; ``funding`` is the change of the wallet."""

    price: Decimal
    fees: Decimal
    funding: Decimal
    slippage: Decimal

    @property
    def net(self) -> Decimal:
        """What the instrument has changed the equity by, exactly."""
        return EXACT.add(EXACT.subtract(EXACT.subtract(self.price, self.slippage), self.fees), self.funding)


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
        self.units = 0.0
        self.slippage: dict[InstrumentId, Decimal] = {}  # against the reference prices, a cost; no ledger knows of it
        self.holdings: dict[InstrumentId, Holding] = {}
        self.open: list[tuple[InstrumentId, Holding]] = []
        self._booked: dict[InstrumentId, Booked] = {}
        self._lines = Lines()

    @property
    def other_wallets(self) -> Mapping[str, Decimal]:
        """Wallets of the assets besides the quote asset."""
        return self.ledger.other

    def holding(self, instrument: InstrumentId) -> Holding:
        """The holding of an instrument; made empty at first use."""
        held = self.holdings.get(instrument)
        if held is None:
            held = self.holdings[instrument] = Holding(self.ledger.position(instrument))
        return held

    # ---- fills --------------------------------------------------------------------------------------------------

    def book_fill(self, fill: OrderFilled) -> bool:
        """Book an execution once; False when its trade id was booked before."""
        if not self.pass_over(fill):
            return False
        held = self.holding(fill.instrument)
        if fill.fee_asset == QUOTE_ASSET:
            fee = fill.fee
        else:
            fee = ZERO
            self.ledger.credit(fill.fee_asset, EXACT.minus(fill.fee))
            if fill.fee_price is not None:
                value = EXACT.multiply(fill.fee, fill.fee_price)
                held.exact.other_fees = EXACT.add(held.exact.other_fees, value)
        if fill.reference is not None:
            paid = EXACT.multiply(fill.side.sign * fill.qty, EXACT.subtract(fill.price, fill.reference))
            self.slippage[fill.instrument] = EXACT.add(self.slippage.get(fill.instrument, ZERO), paid)
        self._book(held, fill.side, fill.qty, fill.price, fee)
        return True

    def pass_over(self, fill: OrderFilled) -> bool:
        """Take a trade id as booked, without booking anything; False when it was before."""
        booked = self._booked.get(fill.instrument)
        if booked is None:
            booked = self._booked[fill.instrument] = Booked()
        return booked.add(fill.trade_id)

    def is_booked(self, fill: OrderFilled) -> bool:
        """True when the execution was booked."""
        booked = self._booked.get(fill.instrument)
        return booked is not None and booked.has(fill.trade_id)

    def adjust(self, instrument: InstrumentId, qty: Decimal, price: Decimal) -> None:
        """Book a signed quantity that no execution explains."""
        side = Side.BUY if qty > 0 else Side.SELL
        self._book(self.holding(instrument), side, abs(qty), price, ZERO)

    def _book(self, held: Holding, side: Side, qty: Decimal, price: Decimal, fee: Decimal) -> None:
        was_flat = held.qty == 0.0
        realised = held.exact.fill(side, qty, price, fee)
        self._changed(EXACT.subtract(realised, fee))
        self._shadow(held)
        if was_flat or held.qty == 0.0:
            self.open = [(name, each) for name, each in self.holdings.items() if each.qty]

    def pnl(self, instrument: InstrumentId, mark: Decimal) -> PnlSplit:
        """The result of an instrument so far, split, its position valued at ``mark``; each part of it is exact."""
        held = self.holding(instrument).exact
        earned = EXACT.add(held.realised, held.unrealised(mark) if held.qty else ZERO)
        slippage = self.slippage.get(instrument, ZERO)
        return PnlSplit(EXACT.add(earned, slippage), held.fees, held.funding, slippage)

    # ---- money --------------------------------------------------------------------------------------------------

    def fund(self, wallets: Mapping[str, Decimal], ts_ns: Nanos) -> None:
        """The first look at the account: what is there is there, and what was listed before is in it."""
        for asset, amount in wallets.items():
            if asset == QUOTE_ASSET:
                self._put_in(amount, 0.0)
            else:
                self.ledger.credit(asset, amount)
        self._lines.floor_ns = max(self._lines.floor_ns, ts_ns)

    def book_funding(self, paid: FundingPaid) -> bool:
        """Book a funding settlement; False when its line was booked before."""
        if not self._lines.add(paid.line, paid.ts_ns):
            return False
        self.holding(paid.instrument).exact.pay_funding(paid.amount)
        self._changed(paid.amount)
        return True

    def book_transfer(self, transfer: Transfer, equity: float) -> bool:
        """Book money that came in, or went out when negative; ``equity`` is that of the moment before."""
        if not self._lines.add(transfer.line, transfer.ts_ns):
            return False
        if transfer.asset == QUOTE_ASSET:
            self._put_in(transfer.amount, equity)
        else:
            self.ledger.credit(transfer.asset, transfer.amount)
        return True

    def book_income(self, income: Income) -> bool:
        """Book what else the venue lists, to the wallet of its asset; False when its line was booked before."""
        if not self._lines.add(income.line, income.ts_ns):
            return False
        if income.asset == QUOTE_ASSET:
            self.ledger.income = EXACT.add(self.ledger.income, income.amount)
            self._changed(income.amount)
        else:
            self.ledger.credit(income.asset, income.amount)
        return True

    def _put_in(self, amount: Decimal, equity: float) -> None:
        self.units += float(amount) / self.unit_value(equity)
        self.ledger.transfer(amount)
        self._changed(amount)

    def unit_value(self, equity: float) -> float:
        """Equity per unit; 1 while there is nothing to divide."""
        return equity / self.units if self.units > 0.0 and equity > 0.0 else 1.0

    def equity(self, prices: Mapping[InstrumentId, float]) -> float:
        """Wallet plus open results, for decisions; each held instrument needs a price."""
        total = self.wallet_float
        for instrument, held in self.open:
            total += held.qty * prices[instrument] - held.cost
        return total

    # ---- state --------------------------------------------------------------------------------------------------

    def dump(self) -> object:
        """The exact state; the shadow follows from it."""
        return {
            "ledger": self.ledger,
            "booked": self._booked,
            "lines": self._lines,
            "units": self.units,
            "slippage": self.slippage,
        }

    def load(
        self,
        ledger: Ledger,
        booked: dict[InstrumentId, Booked],
        lines: Lines,
        units: float,
        slippage: dict[InstrumentId, Decimal],
    ) -> None:
        """Continue from a dump."""
        self.slippage = slippage
        self.ledger, self._booked, self._lines, self.units = ledger, booked, lines, units
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
