"""What a person wants to see of a running daemon: equity, costs, positions, orders, and decisions in words.

An observer of the inbox; it keeps a bounded amount and draws nothing. Amounts are floats: this is a view.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from tidegate.domain.account import FundingPaid
from tidegate.domain.ids import InstrumentId, Nanos, StrategyId
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import Bar
from tidegate.domain.messages import Alert, OperatorCommand, Record
from tidegate.domain.orders import ApprovedOrder, FillCause, OrderFilled, Purpose
from tidegate.domain.signals import Decision
from tidegate.kernel.kernel import Kernel

_KEPT = 50
_POINTS = 512
_ORDERS_KNOWN = 2_000


@dataclass(frozen=True, slots=True)
class Line:
    """Something that happened, in words. ``tone`` is good, bad or plain."""

    ts_ns: Nanos
    text: str
    tone: str = "plain"


@dataclass(frozen=True, slots=True)
class PositionRow:
    """A position: signed ``qty`` in base units, prices in quote units, ``pnl_usdt`` at the last price. Flat is 0."""

    instrument: InstrumentId
    qty: Decimal
    entry: float | None
    last: float
    pnl_usdt: float
    stop: float | None

    @property
    def stop_distance_frac(self) -> float | None:
        """How far the last price is from the stop, as a fraction of the price."""
        return None if self.stop is None else abs(self.last - self.stop) / self.last


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order that may still trade."""

    instrument: InstrumentId
    side: str
    qty: Decimal
    kind: str
    price: Decimal | None
    purpose: str
    state: str


class Board:
    """The state of the view. ``capital`` in USDT."""

    def __init__(self, kernel: Kernel, instruments: Mapping[InstrumentId, Instrument], capital: float) -> None:
        self.now_ns: Nanos = 0
        self.events = self.fills = 0
        self.equity = self.peak = self.capital = capital
        self.max_drawdown_frac = 0.0
        self.slippage_usdt = 0.0
        self.decisions: deque[Line] = deque(maxlen=_KEPT)
        self.trades: deque[Line] = deque(maxlen=_KEPT)
        self.alerts: deque[Line] = deque(maxlen=_KEPT)
        self._kernel = kernel
        self._bases = {name: instrument.base for name, instrument in instruments.items()}
        self._targets: dict[InstrumentId, Decimal] = {}
        self._wishes: dict[tuple[StrategyId, InstrumentId], float] = {}
        self._purposes: dict[str, Purpose] = {}
        self._curve: list[float] = [capital]
        self._every, self._skipped = 1, 0

    # ---- what came by -------------------------------------------------------------------------------------------

    def __call__(self, record: Record) -> None:
        """Take a record in, as an observer of the inbox."""
        event = record.event
        self.events += 1
        self.now_ns = event.recv_ns
        match event:
            case Bar():
                self._mark()
            case OrderFilled():
                self._filled(event)
            case FundingPaid() if abs(event.amount) >= Decimal("0.005"):
                tone = "good" if event.amount > 0 else "bad"
                self.trades.append(Line(event.ts_ns, f"{event.instrument}: funding {event.amount:+,.2f} USDT", tone))
            case OperatorCommand():
                self.decisions.append(Line(event.ts_ns, f"operator: {event.operation.value} {event.detail}".strip()))
        for command in record.commands:
            if isinstance(command, Decision):
                self._decided(command)
            elif isinstance(command, ApprovedOrder):
                self._purposes[command.id] = command.purpose
                if len(self._purposes) > _ORDERS_KNOWN:
                    del self._purposes[next(iter(self._purposes))]

    def alert(self, alert: Alert) -> None:
        """Take an alert in."""
        self.alerts.append(Line(alert.ts_ns, f"{alert.subject}: {alert.text}", "bad"))

    def _mark(self) -> None:
        self.equity = self._kernel.equity_usdt
        self.peak = max(self.peak, self.equity)
        self.max_drawdown_frac = max(self.max_drawdown_frac, self.drawdown_frac)
        self._skipped += 1
        if self._skipped >= self._every:
            self._skipped = 0
            self._curve.append(self.equity)
        if len(self._curve) > _POINTS:
            self._curve = self._curve[::2]
            self._every *= 2

    def _filled(self, fill: OrderFilled) -> None:
        self.fills += 1
        reference = fill.price if fill.reference is None else fill.reference
        self.slippage_usdt += float(fill.side.sign * fill.qty * (fill.price - reference))
        purpose = self._purposes.get(fill.id)
        verb = "bought" if fill.side.sign > 0 else "sold"
        why = {Purpose.PROTECTION: ", the stop was hit", Purpose.FLATTEN: ", to be flat"}.get(
            purpose or Purpose.TARGET, ""
        )
        if fill.cause is not FillCause.ORDER:
            why = f", {fill.cause.value.lower()}"
        text = f"{fill.instrument}: {verb} {amount(fill.qty)} at {price(float(fill.price))}{why}"
        self.trades.append(Line(fill.ts_ns, text, "bad" if why.startswith(", the stop") else "plain"))

    def _decided(self, decision: Decision) -> None:
        name = decision.instrument
        if decision.signal is not None and decision.strategy is not None:
            key = (decision.strategy, name)
            before, now = self._wishes.get(key, 0.0), decision.signal.strength
            self._wishes[key] = now
            if (before > 0.0) - (before < 0.0) != (now > 0.0) - (now < 0.0):
                stop = "" if decision.signal.stop is None else f", stop at {price(decision.signal.stop)}"
                self.decisions.append(Line(decision.ts_ns, f"{name}: {decision.strategy} wants {now:+.2f}{stop}"))
            return
        target = decision.target or Decimal(0)
        before_qty, self._targets[name] = self._targets.get(name, Decimal(0)), target
        self.decisions.append(
            Line(
                decision.ts_ns,
                self._words(decision, target, before_qty),
                "plain" if decision.refusal is None else "bad",
            )
        )

    def _words(self, decision: Decision, target: Decimal, before: Decimal) -> str:
        """A target in words: what, what it was, who wanted it, what bound it, what was refused."""
        name = decision.instrument
        goal = "flat" if not target else f"{signed(target)} {self._bases.get(name, '')}".strip()
        parts = [f"target {goal} (was {signed(before) if before else '0'})"]
        parts += [f"{who} wants {wish:+.2f}" for (who, where), wish in self._wishes.items() if where == name]
        if decision.binding_limit not in (None, "flat", "delisted"):
            parts.append(f"limited by {decision.binding_limit}")
        if decision.refusal is not None:
            parts.append(f"refused by {decision.refusal.rule}: {decision.refusal.detail}")
        return f"{name}: " + ", ".join(parts)

    # ---- what is shown ------------------------------------------------------------------------------------------

    @property
    def drawdown_frac(self) -> float:
        """How far equity is below its peak."""
        return 1.0 - self.equity / self.peak if self.peak > 0.0 else 0.0

    @property
    def fees_usdt(self) -> float:
        """Fees paid, a positive cost."""
        return float(sum((each.fees for each in self._kernel.ledger.positions.values()), Decimal(0)))

    @property
    def funding_usdt(self) -> float:
        """Funding: negative when paid."""
        return float(sum((each.funding for each in self._kernel.ledger.positions.values()), Decimal(0)))

    def curve(self, points: int) -> list[float]:
        """The equity so far, thinned to at most ``points``, the newest last."""
        values = [*self._curve, self.equity]
        if len(values) <= points:
            return values
        return [values[k * (len(values) - 1) // (points - 1)] for k in range(points)]

    def positions(self) -> list[PositionRow]:
        """What is held, then the instruments of which nothing is held."""
        rows = []
        for name, last in self._kernel.last_prices.items():
            held = self._kernel.ledger.positions.get(name)
            entry = None if held is None else held.entry_price
            if held is None or entry is None:
                rows.append(PositionRow(name, Decimal(0), None, last, 0.0, None))
            else:
                pnl = float(held.qty) * last - float(held.cost)
                rows.append(PositionRow(name, held.qty, float(entry), last, pnl, self._kernel.protection_level(name)))
        return sorted(rows, key=lambda row: not row.qty)

    def orders(self) -> list[OrderRow]:
        """Orders that may still trade."""
        return [
            OrderRow(
                order.approved.instrument,
                order.approved.side.value.lower(),
                order.remaining,
                order.approved.order_type.value.lower().replace("_", " "),
                order.approved.trigger if order.approved.limit is None else order.approved.limit,
                order.approved.purpose.value.lower(),
                order.state.value.lower().replace("_", " "),
            )
            for order in self._kernel.open_orders
        ]


def price(value: float) -> str:
    """A price with about six significant digits."""
    return f"{value:,.{2 if value >= 1000 else 3 if value >= 10 else 5}f}"


def amount(value: Decimal) -> str:
    """A quantity without trailing zeros."""
    return format(value.normalize(), "f")


def signed(value: Decimal) -> str:
    """A quantity with its sign."""
    return ("+" if value > 0 else "") + amount(value)
