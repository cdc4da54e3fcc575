"""The closes of the bars: when all contracts that trade have theirs, what the book was worth and what it risked.

1. The first bar of an instant opens its close; it is complete when every contract that is not delisted has its bar.
2. What is late is not waited for: the grace timer, or the first bar of a later instant, ends it with what is there.
3. Nothing is said before START: the bars that warm the features up are of a time at which nothing was held.

Drawdown and daily loss are measured on the value of a unit, which deposits and withdrawals do not move.
"""

from collections.abc import Iterable
from decimal import Decimal
from math import nan
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.market import DAY_NS, Bar, InstrumentStatus, TradingStatus
from tidegate.domain.messages import GRACE_TIMER, Operation, OperatorCommand, TimerFired

if TYPE_CHECKING:
    from tidegate.adapters.database.books import Books

Made = tuple[dict[str, Any], dict[str, Any]]
"""A row of ``portfolios`` and one of ``risk_metrics``, without their session."""


class ClosesState(msgspec.Struct):
    """What goes on. ``peak`` and ``day_open`` are values of a unit."""

    started: bool = False
    close_ns: Nanos = 0
    arrived: set[InstrumentId] = set()
    done: bool = True
    delisted: set[InstrumentId] = set()
    peak: float = 0.0
    day: int = -1
    day_open: float = 0.0
    last_unit: float = 0.0


class Closes:
    """Watches the bars of one session."""

    def __init__(self, interval_ns: Nanos, instruments: Iterable[InstrumentId]) -> None:
        self._interval_ns = interval_ns
        self._instruments = frozenset(instruments)
        self._state = ClosesState()

    def on_bar(self, bar: Bar, books: "Books") -> list[Made]:
        """Take a bar in; the rows of the close that it completes, and of one before that it finds incomplete."""
        state = self._state
        made: list[Made] = []
        if not state.started or bar.ts_ns < state.close_ns or bar.instrument not in self._instruments:
            return made
        if bar.ts_ns > state.close_ns:
            self._end(books, made)
            state.close_ns, state.done = bar.ts_ns, False
            state.arrived = set()
        state.arrived.add(bar.instrument)
        if state.arrived >= self._instruments - state.delisted:
            self._end(books, made)
        return made

    def on_timer(self, timer: TimerFired, books: "Books") -> list[Made]:
        """The grace of a close may be over."""
        made: list[Made] = []
        if timer.name == GRACE_TIMER:
            self._end(books, made)
        return made

    def on_operation(self, event: OperatorCommand) -> None:
        """START begins, BOOT waits for it again."""
        if event.operation is Operation.START:
            self._state.started = True
        elif event.operation is Operation.BOOT:
            self._state.started = False

    def on_status(self, event: InstrumentStatus) -> None:
        """A contract that is delisted has no more bars to wait for."""
        if event.status is TradingStatus.DELISTED:
            self._state.delisted.add(event.instrument)

    def _end(self, books: "Books", made: list[Made]) -> None:
        if not self._state.done:
            self._state.done = True
            made.append(self.rows(self._state.close_ns, books))

    def rows(self, ts_ns: Nanos, books: "Books") -> Made:
        """What the book is worth now, as of ``ts_ns``."""
        unrealised = gross = net = ZERO
        count = 0
        for name, held in books.positions.open:
            price = Decimal(repr(books.last.get(name, held.entry_price)))
            notional = EXACT.multiply(held.exact.qty, price)
            unrealised = EXACT.add(unrealised, EXACT.subtract(notional, held.exact.cost))
            gross, net = EXACT.add(gross, abs(notional)), EXACT.add(net, notional)
            count += 1
        wallet = books.positions.wallet
        equity = EXACT.add(wallet, unrealised)
        portfolio = {
            "ts_ns": ts_ns,
            "wallet": wallet,
            "unrealised_pnl": unrealised,
            "equity": equity,
            "gross_notional": gross,
            "net_notional": net,
            "open_positions": count,
        }
        return portfolio, {"ts_ns": ts_ns} | self._risk(ts_ns, float(equity), float(gross), books.positions.units)

    def _risk(self, ts_ns: Nanos, equity: float, gross: float, units: float) -> dict[str, float]:
        state = self._state
        unit = equity / units if units > 0.0 else nan
        day = (ts_ns - 1) // DAY_NS  # a close at midnight belongs to the day that it ends
        if day != state.day:
            state.day, state.day_open = day, state.last_unit or unit
        if unit == unit:
            state.peak, state.last_unit = max(state.peak, unit), unit
        return {
            "drawdown_frac": 1.0 - unit / state.peak if state.peak > 0.0 else nan,
            "leverage": gross / equity if equity > 0.0 else nan,
            "daily_loss_frac": max(0.0, 1.0 - unit / state.day_open) if state.day_open > 0.0 and unit == unit else nan,
        }

    def dump(self) -> ClosesState:
        """The state."""
        return self._state

    def load(self, state: ClosesState, *, begins: bool) -> None:
        """Continue; a session that ``begins`` keeps no more than what performance is measured against."""
        self._state = state
        if begins:
            state.started, state.close_ns, state.done = False, 0, True
            state.arrived, state.delisted = set(), set()
