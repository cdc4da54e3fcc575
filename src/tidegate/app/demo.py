"""The demo: a simulated market, invented or replayed, traded by the daemon through the asynchronous ports.

History runs first, as fast as it goes, through the same inbox: it is in the journal like everything else.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import Any, cast

from tidegate.app.config import Settings
from tidegate.app.daemon import Connections, Daemon, DaemonSummary
from tidegate.app.inbox import Observer
from tidegate.app.performance import summarise
from tidegate.app.tally import Tally, plain
from tidegate.domain.account import FundingPaid
from tidegate.domain.ids import Nanos
from tidegate.domain.ledger import EXACT
from tidegate.domain.market import DAY_NS, Bar, BarSpec
from tidegate.domain.messages import Alert, Record, Severity, Subscription
from tidegate.domain.orders import OrderFilled
from tidegate.kernel.kernel import Kernel
from tidegate.ports import Journal
from tidegate.simulator.exchange import exact
from tidegate.simulator.session import Session

EXIT_LATCHED = 6
_ALERTS_KEPT = 20


@dataclass(frozen=True, slots=True)
class DemoParts:
    """What the composition root puts together. ``connections`` are over ``session``; ``kernel`` steps bar by bar."""

    settings: Settings
    kernel: Kernel
    session: Session
    connections: Connections
    journal: Journal
    journal_path: Path | None


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo leaves behind: plain data for people and programs, and the exit code: 0, or 6 when latched."""

    summary: dict[str, object]
    tally: Tally
    exit_code: int


class DemoBooks:
    """Observes the records of a run and tallies them."""

    def __init__(self, kernel: Kernel, capital: Decimal) -> None:
        self.tally = Tally(capital)
        self.bars = self.events = 0
        self.first_ns: Nanos = 0
        self.last_ns: Nanos = 0
        self.alerts: list[str] = []
        self._kernel = kernel
        self._midnight_ns: Nanos = 0
        self._at_midnight: Decimal | None = None

    def __call__(self, record: Record) -> None:
        """Take a record in, as an observer of the inbox."""
        event, tally = record.event, self.tally
        self.events += 1
        now_ns = self.last_ns = event.recv_ns
        if now_ns >= self._midnight_ns:
            self._day(now_ns)
        kind = type(event)
        if kind is Bar:
            self.bars += 1
        elif kind is OrderFilled:
            tally.fill(cast(OrderFilled, event))
        elif kind is FundingPaid:
            tally.funded(cast(FundingPaid, event))
        if record.commands:
            tally.commands(record.commands)

    def alert(self, alert: Alert) -> None:
        """Keep what a person should read afterwards."""
        if alert.severity is not Severity.INFO and len(self.alerts) < _ALERTS_KEPT:
            self.alerts.append(f"{alert.subject}: {alert.text}")

    def finish(self) -> None:
        """The run is over."""
        if self.events:
            self.tally.finish(self.last_ns, self.equity())

    def equity(self) -> Decimal:
        """Equity by the kernel's books at the last prices."""
        return self._kernel.equity_at({name: exact(price) for name, price in self._kernel.last_prices.items()})

    def _day(self, now_ns: Nanos) -> None:
        """Mark the equity at each midnight: after its last event, or after the next one when it has none."""
        if not self.first_ns:
            self.first_ns = now_ns
            self.tally.begin(now_ns)
            self._midnight_ns = now_ns - now_ns % DAY_NS + DAY_NS
        elif now_ns == self._midnight_ns:
            self._at_midnight = self.equity()
        else:
            equity = self.equity() if self._at_midnight is None else self._at_midnight
            self.tally.mark_equity(self._midnight_ns, equity)
            self._at_midnight = None
            self._midnight_ns = now_ns - now_ns % DAY_NS + DAY_NS


async def run_demo(
    parts: DemoParts,
    *,
    seconds: float | None = None,
    observers: Sequence[Observer] = (),
    companions: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
    on_alert: Callable[[Alert], None] = lambda _: None,
) -> DemoResult:
    """Trade until ``seconds`` of wall time are over, Ctrl-C, or the end of the data; then stop in good order.

    A stop by one Ctrl-C is an ordinary end: the exit code is 0. A second one raises ``Interrupted`` (exit code 130).
    """
    settings, kernel = parts.settings, parts.kernel
    books = DemoBooks(kernel, Decimal(repr(settings.risk.initial_capital_usdt)))

    def alerted(alert: Alert) -> None:
        books.alert(alert)
        on_alert(alert)

    interval_ns = BarSpec.of(settings.timeframe).interval_ns
    daemon = Daemon(
        kernel,
        parts.journal,
        parts.connections,
        [Subscription(name, interval_ns) for name in settings.symbols],
        observers=[books, *observers],
        on_alert=alerted,
        companions=companions,
        flatten_on_stop=settings.demo.flatten_on_stop,
        deadline_s=seconds,
    )
    began_s = monotonic()
    ended = await daemon.run()
    books.finish()
    return DemoResult(
        _summary(parts, books, ended, monotonic() - began_s), books.tally, EXIT_LATCHED if ended.halted else 0
    )


def _summary(parts: DemoParts, books: DemoBooks, ended: DaemonSummary, seconds: float) -> dict[str, object]:
    tally, kernel = books.tally, parts.kernel
    figures = summarise(tally.equity) if len(tally.equity) > 1 else {}
    venue_equity = parts.session.exchange.equity(kernel.last_prices)
    return {
        "mode": "demo",
        "stopped": ended.reason,
        "seconds": round(seconds, 3),
        "seed": parts.settings.seed,
        "market_from": _iso(books.first_ns),
        "market_to": _iso(books.last_ns),
        "bars": books.bars,
        "events": books.events,
        "orders": tally.orders,
        "fills": tally.fills,
        "decisions": tally.decisions,
        "trades": len(tally.trades),
        "fees_usdt": plain(tally.fees),
        "funding_usdt": plain(tally.funding),
        "slippage_usdt": plain(tally.slippage),
        "equity_usdt": plain(books.equity()),
        "total_return": figures.get("total_return"),
        "max_drawdown": figures.get("max_drawdown"),
        "open_positions": sum(1 for held in kernel.ledger.positions.values() if held.qty),
        "ledger_difference_usdt": plain(EXACT.subtract(books.equity(), venue_equity)),
        "journal": None if parts.journal_path is None else str(parts.journal_path),
        "halted": ended.halted,
        "warnings": [*ended.warnings, *books.alerts],
    }


def _iso(ns: Nanos) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).isoformat()
