"""What a run did, counted from its events and commands: orders, fills, costs, round trips, daily equity."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tidegate.domain.account import FundingPaid
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.market import DAY_NS
from tidegate.domain.messages import Command
from tidegate.domain.orders import ApprovedOrder, OrderFilled, Purpose
from tidegate.domain.round_trips import RoundTrip, RoundTrips, exit_reason
from tidegate.domain.signals import Decision

YEAR_NS = 365 * DAY_NS


def plain(amount: Decimal) -> str:
    """A decimal number as text, without exponent or trailing zeros."""
    text = f"{amount.normalize(EXACT):f}"
    return "0" if text == "-0" else text


@dataclass(slots=True)
class _Costs:
    """Totals of one instrument."""

    fills: int = 0
    notional: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    slippage: Decimal = ZERO


class Tally:
    """Counts a run. All amounts in USDT."""

    def __init__(self, capital: Decimal) -> None:
        self.orders = 0
        self.decisions = 0
        self.events: list[OrderFilled | FundingPaid] = []
        self.fills = 0
        self.trades: list[RoundTrip] = []
        self.equity: list[tuple[Nanos, Decimal]] = []
        self._capital = capital
        self._costs: dict[InstrumentId, _Costs] = {}
        self._trips = RoundTrips()
        self._purposes: dict[ClientOrderId, Purpose] = {}
        self._first_ns: Nanos = 0
        self._last_ns: Nanos = 0

    # ---- what came by -------------------------------------------------------------------------------------------

    def commands(self, commands: Sequence[Command]) -> None:
        """Count what the kernel asked for."""
        for command in commands:
            if type(command) is ApprovedOrder:
                self.orders += 1
                self._purposes[command.id] = command.purpose
            elif type(command) is Decision:
                self.decisions += 1

    def begin(self, ts_ns: Nanos) -> None:
        """The first instant: the opening balance."""
        self._first_ns = self._last_ns = ts_ns
        self.equity.append((ts_ns, self._capital))

    def funded(self, paid: FundingPaid) -> None:
        """Take in a settlement."""
        self.events.append(paid)

    def _funded(self, paid: FundingPaid) -> None:
        costs = self._costs.setdefault(paid.instrument, _Costs())
        costs.funding = EXACT.add(costs.funding, paid.amount)
        self._trips.funded(paid.instrument, paid.amount)

    def fill(self, fill: OrderFilled) -> None:
        """Take in an execution; it is worked up at the end, outside the run."""
        self.events.append(fill)

    def _fill(self, fill: OrderFilled) -> None:
        self.fills += 1
        costs = self._costs.setdefault(fill.instrument, _Costs())
        costs.fills += 1
        reference = fill.price if fill.reference is None else fill.reference
        slippage = EXACT.multiply(fill.side.sign * fill.qty, EXACT.subtract(fill.price, reference))
        costs.notional = EXACT.fma(fill.qty, fill.price, costs.notional)
        costs.fees = EXACT.add(costs.fees, fill.fee)
        costs.slippage = EXACT.add(costs.slippage, slippage)
        trade = self._trips.fill(fill, fill.fee, exit_reason(fill, self._purposes.get(fill.id)))
        if trade is not None:
            self.trades.append(trade)

    def mark_equity(self, ts_ns: Nanos, equity: Decimal) -> None:
        """The equity at a UTC midnight."""
        self.equity.append((ts_ns, equity))

    def finish(self, ts_ns: Nanos, equity: Decimal) -> None:
        """The last instant. A position still open is no trade; it is in the equity, at the last close."""
        self._last_ns = ts_ns
        if self.equity and self.equity[-1][0] >= ts_ns:
            self.equity.pop()
        self.equity.append((ts_ns, equity))
        for event in self.events:
            if isinstance(event, OrderFilled):
                self._fill(event)
            else:
                self._funded(event)

    # ---- totals -------------------------------------------------------------------------------------------------

    @property
    def fees(self) -> Decimal:
        """Fees paid, a positive cost."""
        return _sum(costs.fees for costs in self._costs.values())

    @property
    def funding(self) -> Decimal:
        """Funding: the change of the wallet, negative when paid."""
        return _sum(costs.funding for costs in self._costs.values())

    @property
    def slippage(self) -> Decimal:
        """Fills against their reference prices, a positive cost."""
        return _sum(costs.slippage for costs in self._costs.values())

    @property
    def mean_equity(self) -> float:
        """The mean of the daily equity; 0 when there is none."""
        return float(_sum(value for _, value in self.equity)) / max(1, len(self.equity))

    def turnover(self) -> float | None:
        """Notional traded a year, as a multiple of the mean daily equity."""
        years, mean = (self._last_ns - self._first_ns) / YEAR_NS, self.mean_equity
        if years <= 0.0 or mean <= 0.0:
            return None
        return float(_sum(costs.notional for costs in self._costs.values())) / mean / years

    def per_symbol(self) -> dict[InstrumentId, dict[str, object]]:
        """Totals by instrument."""
        rows: dict[InstrumentId, dict[str, object]] = {}
        for name, costs in self._costs.items():
            trips = [trip for trip in self.trades if trip.instrument == name]
            rows[name] = {
                "fills": costs.fills,
                "trades": len(trips),
                "notional_usdt": plain(costs.notional),
                "fees_usdt": plain(costs.fees),
                "funding_usdt": plain(costs.funding),
                "slippage_usdt": plain(costs.slippage),
                "net_usdt": plain(_sum(trip.net for trip in trips)),
                "win_rate": sum(trip.net > 0 for trip in trips) / len(trips) if trips else None,
            }
        return rows


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
