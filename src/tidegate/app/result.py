"""What a backtest leaves behind: the rows that the summary and the report are made of."""

from dataclasses import dataclass, field
from decimal import Decimal

from tidegate.app.chronicle import Chronicle
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.round_trips import RoundTrip


@dataclass(slots=True)
class BacktestResult:
    """One run. ``equity`` holds ``(ts_ns, equity in USDT)`` at each UTC midnight and at the first and last instant;
    ``chronicle`` what a book of several strategies said of itself."""

    summary: dict[str, object]
    equity: list[tuple[Nanos, Decimal]]
    trades: list[RoundTrip]
    per_symbol: dict[InstrumentId, dict[str, object]]
    assumptions: list[str]
    settings: dict[str, object]
    warnings: list[str] = field(default_factory=list)
    chronicle: Chronicle = field(default_factory=Chronicle)
