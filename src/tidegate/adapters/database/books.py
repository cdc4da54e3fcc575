"""The account's books as the journal tells them: what the kernel booked, booked again without the kernel.

A record says what came in and what was answered, not what was booked; the rules of ``kernel/reports`` and
``kernel/reconciling`` decide that. This is their half that touches money and orders, on the same parts (positions,
blotter, reconciliation), without features, wishes or risk:

1. A fill of a contract that we do not trade is nobody's; one that was booked is not booked again; one from before we
   first looked at its contract, by an order that we do not know, is in the wallet already; one that no order of ours
   explains, where something foreign is held, changes that.
2. A snapshot counts when it answers a question that is newer than the last answer. The first one brings the wallets.
   Executions that were missing are booked, our forgotten orders taken in; what differs at the first look is foreign.
3. An ``Adjustment`` is booked as the kernel said it; what was adopted is not foreign any more.

After every record our positions, wallets, orders and what is foreign equal the kernel's, to the last digit: a law that
is tested on random days. ``Entry`` is one thing that was booked, in the order in which it was.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import cast, get_args

import msgspec

from tidegate.domain.account import AccountSnapshot, FundingPaid, Income, OpenOrder, Transfer
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.ledger import EXACT, ZERO, Ledger
from tidegate.domain.market import Bar, Quote
from tidegate.domain.messages import (
    Adjustment,
    Alert,
    Command,
    NotPlaced,
    Operation,
    OperatorCommand,
    Record,
    TakeSnapshot,
)
from tidegate.domain.orders import (
    ApprovedOrder,
    FillCause,
    Order,
    OrderAccepted,
    OrderFilled,
    OrderReport,
    OrderState,
)
from tidegate.execution.blotter import Blotter
from tidegate.execution.protection import Guard
from tidegate.execution.reconcile import ExpectedAccount, Ours, reconcile
from tidegate.portfolio.positions import QUOTE_ASSET, Booked, Lines, PositionManager
from tidegate.risk.gate import RiskGate

_REPORTS = frozenset(get_args(OrderReport))
_INCOME = frozenset((FundingPaid, Transfer, Income))
_MOST_UNDER_WAY = 4  # questions that may be open at once, as in the kernel


class Opening(msgspec.Struct, frozen=True):
    """What was in a wallet at the first look at the account."""

    asset: str
    amount: Decimal
    ts_ns: Nanos


class Entry(msgspec.Struct, frozen=True):
    """One thing that was booked, and what it realised where it changed a position."""

    what: OrderFilled | FundingPaid | Transfer | Income | Adjustment | Opening
    realised: Decimal = ZERO


class Asked(msgspec.Struct):
    """A snapshot that was asked for and has not come."""

    number: int
    at_ns: Nanos
    full: bool


@dataclass(slots=True)
class View:
    """What is known of a contract besides its position."""

    seen_from_ns: Nanos = 0
    foreign_qty: Decimal = ZERO


class BooksState(msgspec.Struct):
    """Everything that the books are made of."""

    ledger: Ledger
    booked: dict[InstrumentId, Booked]
    lines: Lines
    units: float
    slippage: dict[InstrumentId, Decimal]
    orders: list[Order]
    views: dict[InstrumentId, View]
    asked: list[Asked]
    last: dict[InstrumentId, float]
    funded: bool
    now_ns: Nanos


@dataclass(slots=True)
class Touched:
    """What a record changed: the things booked, and the orders that moved."""

    entries: list[Entry] = field(default_factory=list)
    orders: dict[ClientOrderId, Order] = field(default_factory=dict)


class Books:
    """The books of one account. ``live`` before a real venue, where the kernel reconciles from the start."""

    def __init__(self, account: str, gen: int, live: bool, instruments: Iterable[InstrumentId]) -> None:
        self._account, self._gen, self._live = account, gen, live
        self.positions = PositionManager()
        self.blotter = Blotter()
        self.last: dict[InstrumentId, float] = {}
        self.now_ns: Nanos = 0
        self._views: dict[InstrumentId, View] = {name: View() for name in instruments}
        for name in self._views:
            self.positions.holding(name)
        self._asked: list[Asked] = []
        self._funded = False
        self._touched = Touched()

    def apply(self, record: Record) -> Touched:
        """Take a record in and tell what it changed."""
        event = record.event
        kind = type(event)
        self.now_ns = max(self.now_ns, event.recv_ns)
        touched = self._touched = Touched()
        if kind is Bar:
            bar = cast(Bar, event)
            self.last[bar.instrument] = bar.close
        elif kind is Quote:
            quote = cast(Quote, event)
            self.last[quote.instrument] = (quote.bid + quote.ask) / 2.0
        elif kind is OrderFilled:
            self._on_fill(event)  # type: ignore[arg-type]
        elif kind in _REPORTS:
            self._moved(self.blotter.apply(event))  # type: ignore[arg-type]
        elif kind in _INCOME:
            self._book_income(event)  # type: ignore[arg-type]
        elif kind is AccountSnapshot:
            self._on_snapshot(event)  # type: ignore[arg-type]
        elif isinstance(event, OperatorCommand) and event.operation is Operation.START:
            self._restarted()
        for command in record.commands:
            self._on_command(command)
        return touched

    def equity(self) -> float:
        """Wallet and open results at the last prices; a position whose price is not known counts with its cost."""
        total = self.positions.wallet_float
        for name, held in self.positions.open:
            price = self.last.get(name)
            total += 0.0 if price is None else held.qty * price - held.cost
        return total

    # ---- fills --------------------------------------------------------------------------------------------------

    def _on_fill(self, fill: OrderFilled) -> None:
        view = self._views.get(fill.instrument)
        if view is None:
            return
        if self.positions.is_booked(fill):
            order = self.blotter.find(fill.id)
            if order is not None and order.open and (order.trade_ids or not order.filled):
                self._moved(self.blotter.apply(fill))  # booked while nobody knew whose it was
        elif self._is_history(view, fill):
            self.positions.pass_over(fill)
        else:
            self._book(view, fill)
            self.last.setdefault(fill.instrument, float(fill.price))

    def _is_history(self, view: View, fill: OrderFilled) -> bool:
        return fill.ts_ns <= view.seen_from_ns and self.blotter.find(fill.id) is None

    def _book(self, view: View, fill: OrderFilled) -> None:
        if view.foreign_qty and fill.cause is FillCause.ORDER and self.blotter.find(fill.id) is None:
            self.positions.pass_over(fill)
            view.foreign_qty = EXACT.add(view.foreign_qty, fill.side.sign * fill.qty)
            return
        self._moved(self.blotter.apply(fill))
        exact = self.positions.holding(fill.instrument).exact
        before = exact.realised
        if self.positions.book_fill(fill):
            self._touched.entries.append(Entry(fill, EXACT.subtract(exact.realised, before)))

    # ---- income -------------------------------------------------------------------------------------------------

    def _book_income(self, line: FundingPaid | Transfer | Income) -> None:
        match line:
            case FundingPaid():
                new = self.positions.book_funding(line)
            case Transfer():
                new = self.positions.book_transfer(line, self.equity())
            case Income():
                new = self.positions.book_income(line)
        if new:
            self._touched.entries.append(Entry(line))

    # ---- snapshots ----------------------------------------------------------------------------------------------

    def _on_snapshot(self, snapshot: AccountSnapshot) -> None:
        if not (self._live or self._funded):
            if not snapshot.positions and not snapshot.open_orders:
                self._fund({each.asset: each.wallet for each in snapshot.balances if each.asset == QUOTE_ASSET}, 0)
            return
        number = _number(snapshot.name)
        answered = next((each for each in self._asked if each.number == number), None)
        if answered is None:
            return
        self._asked = [each for each in self._asked if each.number > number]
        if not self._funded:
            self._fund({each.asset: each.wallet for each in snapshot.balances}, snapshot.wallets_ns)
        self._work_in(snapshot, answered)

    def _fund(self, wallets: dict[str, Decimal], ts_ns: Nanos) -> None:
        self.positions.fund(wallets, ts_ns)
        self._funded = True
        self._touched.entries += [Entry(Opening(asset, amount, self.now_ns)) for asset, amount in wallets.items()]

    def _work_in(self, snapshot: AccountSnapshot, asked: Asked) -> None:
        new = {name for name, view in self._views.items() if not view.seen_from_ns} if asked.full else set()
        for name in new:
            self._views[name].seen_from_ns = snapshot.ts_ns
        for fill in snapshot.fills:
            view = self._views.get(fill.instrument)
            if view is not None and self._is_history(view, fill):
                self.positions.pass_over(fill)
        for position in snapshot.positions:
            if position.entry_price > 0:
                self.last.setdefault(position.instrument, float(position.entry_price))
        found = reconcile(self._ours(asked.at_ns), snapshot)
        for fill in found.fills:
            if fill.instrument in self._views:
                self._book(self._views[fill.instrument], fill)
        for line in snapshot.income:
            self._book_income(line)
        for listed in found.recovered:
            order = self.blotter.enter(RiskGate.recover(listed, self.now_ns), self.now_ns)
            order.filled = listed.filled
            self.blotter.apply(_accepted(listed, snapshot))
            self._moved(order)
        for listed in found.accepted:
            self._moved(self.blotter.apply(_accepted(listed, snapshot)))
        for each in found.differences:
            view = self._views[each.instrument]
            if view.foreign_qty or (each.instrument in new and not self.positions.holding(each.instrument).exact.qty):
                view.foreign_qty = EXACT.add(view.foreign_qty, each.qty)

    def _ours(self, asked_ns: Nanos) -> Ours:
        return Ours(
            self._account,
            self._gen,
            asked_ns,
            {name: self.positions.holding(name).exact.qty for name in self._views},
            {name: view.foreign_qty for name, view in self._views.items() if view.foreign_qty},
            list(self.blotter),
            self.blotter.find,
            self.positions.is_booked,
            lambda _: Guard(),  # which stop is kept changes neither money nor orders here
            ExpectedAccount(),
        )

    # ---- what the kernel said -----------------------------------------------------------------------------------

    def _on_command(self, command: Command) -> None:
        kind = type(command)
        if kind is ApprovedOrder:
            self._moved(self.blotter.enter(command, self.now_ns))  # type: ignore[arg-type]
        elif isinstance(command, TakeSnapshot):
            self._asked.append(Asked(_number(command.name), self.now_ns, bool(command.since)))
            self._asked = sorted(self._asked, key=lambda each: each.number)[-_MOST_UNDER_WAY:]
        elif isinstance(command, NotPlaced):
            self._concluded(command.id, OrderState.NOT_PLACED)
        elif isinstance(command, Adjustment):
            self._adjust(command)
        elif isinstance(command, Alert) and command.subject == "abandoned":
            self._concluded(ClientOrderId(command.text.partition(" ")[0]), OrderState.ABANDONED)

    def _adjust(self, line: Adjustment) -> None:
        exact = self.positions.holding(line.instrument).exact
        before = exact.realised
        self.positions.adjust(line.instrument, line.qty, line.price)
        self._touched.entries.append(Entry(line, EXACT.subtract(exact.realised, before)))
        if line.adopted and line.instrument in self._views:
            self._views[line.instrument].foreign_qty = ZERO

    # ---- orders -------------------------------------------------------------------------------------------------

    def _moved(self, order: Order | None) -> None:
        if order is not None:
            self._touched.orders[order.approved.id] = order

    def _concluded(self, name: ClientOrderId, state: OrderState) -> None:
        order = self.blotter.find(name)
        if order is not None:
            self.blotter.conclude(order, state, self.now_ns)
            self._moved(order)

    def _restarted(self) -> None:
        """Another process: what was asked for will not be answered, what was in flight is in doubt."""
        if not self._live:
            return
        self._asked = []
        for order in self.blotter:
            if order.conclude(OrderState.UNCERTAIN):
                self._moved(order)

    # ---- state --------------------------------------------------------------------------------------------------

    @property
    def foreign(self) -> dict[InstrumentId, Decimal]:
        """What the venue holds and is not ours."""
        return {name: view.foreign_qty for name, view in self._views.items() if view.foreign_qty}

    def dump(self) -> dict[str, object]:
        """The whole state, as ``BooksState`` reads it."""
        return {
            **self.positions.dump(),  # type: ignore[dict-item]
            "orders": self.blotter.dump(),
            "views": self._views,
            "asked": self._asked,
            "last": self.last,
            "funded": self._funded,
            "now_ns": self.now_ns,
        }

    def load(self, state: BooksState) -> None:
        """Continue from a dump. Contracts that are not traded any more keep their positions, and nothing else."""
        self.positions.load(state.ledger, state.booked, state.lines, state.units, state.slippage)
        self._views = {name: state.views.get(name, View()) for name in self._views}
        for name in self._views:
            self.positions.holding(name)
        self.blotter.load([order for order in state.orders if order.approved.instrument in self._views])
        self._asked, self.last = state.asked, state.last
        self._funded, self.now_ns = state.funded, state.now_ns


def _accepted(order: OpenOrder, snapshot: AccountSnapshot) -> OrderAccepted:
    return OrderAccepted(order.id, order.instrument, order.venue_id, snapshot.ts_ns, snapshot.recv_ns)


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1
