"""What a backtest leaves behind: the rows that the summary and the report are made of."""

from dataclasses import dataclass, field
from decimal import Decimal

from tidegate.domain.ids import InstrumentId, Nanos


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A closed trade: from flat to flat, or from a flip to the next one. Amounts in USDT."""

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
    exit_reason: str  # target, protection, liquidation, settlement, end

    @property
    def net(self) -> Decimal:
        """What the trade changed the equity by."""
        return self.price_pnl - self.slippage - self.fees + self.funding


@dataclass(slots=True)
class BacktestResult:
    """One run. ``equity`` holds ``(ts_ns, equity in USDT)`` at each UTC midnight and at the first and last instant."""

    summary: dict[str, object]
    equity: list[tuple[Nanos, Decimal]]
    trades: list[RoundTrip]
    per_symbol: dict[InstrumentId, dict[str, object]]
    assumptions: list[str]
    settings: dict[str, object]
    warnings: list[str] = field(default_factory=list)
