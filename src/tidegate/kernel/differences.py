"""Where our position and the venue's differ, and what in our account is not ours.

A difference that is read three times the same, with no execution in between, becomes one ``Adjustment``. What was there
at the first look at a contract is ours where a stop of ours protects it (the journal was lost), and adopted where the
policy says so; else it is foreign: never touched, counted against the limits, and its contract is left alone.
"""

from collections.abc import Collection
from decimal import Decimal

import msgspec

from tidegate.domain.account import AccountSnapshot, OpenOrder
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.margin import DEFAULT_BRACKETS, maintenance
from tidegate.domain.market import SECOND_NS
from tidegate.domain.messages import Alert, Command, Severity
from tidegate.execution.reconcile import Difference, Findings, adjustment
from tidegate.kernel.desk import FOREIGN, Desk
from tidegate.kernel.trading import Trading

SETTINGS = "settings"
SAME_DIFFERENCE = 3
_EXPLAIN_WITHIN_NS = 5 * SECOND_NS
_PAGE_AFTER_NS = 60 * SECOND_NS


class Foreign(msgspec.Struct, frozen=True):
    """Something in our account that is not ours: a position (``order`` is empty) or an open order."""

    instrument: InstrumentId
    qty: Decimal
    price: Decimal
    order: str = ""


class Differences:
    """Explains, adopts, adjusts; ``policy`` names the contracts whose first position is taken over."""

    def __init__(self, trading: Trading, policy: Collection[InstrumentId]) -> None:
        self._trading, self._policy = trading, policy

    # ---- positions ----------------------------------------------------------------------------------------------

    def compare(
        self, found: Findings, asked_ns: Nanos, new: Collection[InstrumentId], out: list[Command]
    ) -> set[InstrumentId]:
        """Explain, adopt or adjust; returns the instruments that still differ. ``new`` are those that were never looked
        at before."""
        differing = set()
        names = {each.instrument for each in found.differences}
        for name, desk in self._trading.desks.items():
            if name not in names:
                desk.differs_since_ns, desk.differed, desk.differed_qty, desk.paged = 0, 0, ZERO, False
                desk.unblock("difference")
        for each in found.differences:
            desk = self._trading.desks[each.instrument]
            if (each.instrument in new and not desk.holding.exact.qty) or desk.foreign_qty:
                self._not_ours(desk, each, found.protected.get(each.instrument), out)
            elif not self._same_again(desk, each, asked_ns):
                differing.add(each.instrument)
            else:
                self._adjust(desk, each, "no execution explains it", out, adopted=False)
        for name in self._policy:  # what was left alone before the configuration said otherwise
            if self._trading.desks[name].foreign_qty:
                self.adopt(self._trading.desks[name], out)
        return differing

    def _same_again(self, desk: Desk, difference: Difference, asked_ns: Nanos) -> bool:
        """True when the same difference was read often enough, with no execution in between."""
        if not desk.differs_since_ns:
            desk.differs_since_ns = self._trading.now_ns
        if desk.filled_ns >= asked_ns or difference.qty != desk.differed_qty:
            desk.differed = 0
        desk.differed_qty = difference.qty
        if desk.filled_ns < asked_ns:
            desk.differed += 1
        return desk.differed >= SAME_DIFFERENCE

    def _not_ours(self, desk: Desk, difference: Difference, stop: ClientOrderId | None, out: list[Command]) -> None:
        """A position that was there before us: ours under a stop of ours, else adopted by policy or left alone."""
        name = desk.instrument.id
        desk.foreign_qty = EXACT.add(desk.foreign_qty, difference.qty)
        desk.foreign_price = difference.entry_price
        if not desk.foreign_qty:
            desk.unblock(FOREIGN)
        elif name in self._policy:
            self.adopt(desk, out)
        elif stop is not None and desk.foreign_qty == difference.venue_qty:
            held = f"{name} {desk.foreign_qty:f} at {difference.entry_price:f}"
            text = f"{held} is under our stop {stop}, and no journal knows it: it is taken over, and its stop stays"
            out.append(Alert(Severity.CRITICAL, "recovered", text, self._trading.now_ns))
            self.adopt(desk, out)
        else:
            text = f"{name} {desk.foreign_qty:f} at {difference.entry_price:f} is not ours: it is left alone"
            if desk.block(FOREIGN, text):
                out.append(Alert(Severity.CRITICAL, FOREIGN, text, self._trading.now_ns))

    def adopt(self, desk: Desk, out: list[Command]) -> bool:
        """Take over what is foreign, at the venue's entry price; False when there is nothing."""
        desk.unblock(FOREIGN)
        qty, price = desk.foreign_qty, desk.foreign_price
        desk.foreign_qty = ZERO
        if not qty:
            return False
        difference = Difference(desk.instrument.id, qty, EXACT.add(desk.holding.exact.qty, qty), price)
        self._adjust(desk, difference, "adopted", out, adopted=True)
        return True

    def _adjust(self, desk: Desk, difference: Difference, reason: str, out: list[Command], *, adopted: bool) -> None:
        trading, name = self._trading, difference.instrument
        price = difference.entry_price or desk.instrument.price(trading.last_price(desk), up=False)
        line = adjustment(difference, price, trading.now_ns, reason, adopted=adopted)
        out.append(line)
        trading.positions.adjust(name, line.qty, line.price)
        if trading.book is not None:
            trading.book.adjusted(name, line.qty, line.price)
        trading.known_equity = None
        trading.forget_target(desk)
        desk.differs_since_ns, desk.differed, desk.differed_qty = 0, 0, ZERO
        text = f"{name} {line.qty:f} at {line.price:f}: {reason} ({line.id})"
        if adopted:
            out.append(Alert(Severity.INFO, "adopted", text, trading.now_ns))
        else:
            desk.block("adjusted", text)
            out.append(Alert(Severity.CRITICAL, "adjusted", text, trading.now_ns))

    def overdue(self, out: list[Command]) -> None:
        """A difference that stays unexplained takes new risk away after 5 s, and calls a person after 60 s."""
        now_ns = self._trading.now_ns
        for name, desk in self._trading.desks.items():
            age_ns = now_ns - desk.differs_since_ns if desk.differs_since_ns else 0
            if age_ns > _EXPLAIN_WITHIN_NS:
                desk.block("difference", f"{name} differs by {desk.differed_qty:f} from the venue's position")
            if age_ns > _PAGE_AFTER_NS and not desk.paged:
                desk.paged = True
                text = f"{name} differs by {desk.differed_qty:f} for a minute"
                out.append(Alert(Severity.CRITICAL, "difference", text, now_ns))

    # ---- what is not ours, and how the account is set ---------------------------------------------------------------

    def foreign(self, found: Findings) -> list[Foreign]:
        trading = self._trading
        foreign: list[Foreign] = []
        notional = needed = 0.0
        for position in found.foreign_positions:
            foreign.append(Foreign(position.instrument, position.qty, position.entry_price))
        for name, desk in trading.desks.items():
            if desk.foreign_qty:
                foreign.append(Foreign(name, desk.foreign_qty, desk.foreign_price))
        for each in foreign:
            price = trading.marks.last.get(each.instrument, float(each.price))
            value = abs(float(each.qty)) * price
            desk_of = trading.desks.get(each.instrument)
            notional += value
            needed += maintenance(DEFAULT_BRACKETS if desk_of is None else desk_of.instrument.brackets, value)
        trading.count_foreign(notional, needed)
        traded = set()
        for order in found.foreign_orders:
            foreign.append(_listed(order))
            traded.add(order.instrument)
        for name, desk in trading.desks.items():
            if name in traded:
                desk.block("foreign order", f"{name} has open orders that are not ours")
            else:
                desk.unblock("foreign order")
        return foreign

    def review_settings(self, found: Findings, snapshot: AccountSnapshot, out: list[Command]) -> None:
        if not snapshot.settings:
            return
        for name, desk in self._trading.desks.items():
            text = found.settings.get(name)
            if text is None:
                desk.unblock(SETTINGS)
            elif desk.block(SETTINGS, text):
                out.append(Alert(Severity.CRITICAL, SETTINGS, f"{name}: {text}", self._trading.now_ns))


def _listed(order: OpenOrder) -> Foreign:
    price = order.limit or order.trigger or ZERO
    return Foreign(order.instrument, order.side.sign * order.qty, price, order.id)
