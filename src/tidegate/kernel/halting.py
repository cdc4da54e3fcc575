"""The latch, and the sweep of the halts that close everything.

A sweep: the latch first, then every order of ours is cancelled, conditional ones too; then a fresh snapshot says what
is held, and that is closed reduce-only; the account is read again until it says flat, and what orders are left then are
cancelled. Sizes come from the snapshot of that moment, never from before: so a restart in the middle just goes on, and
a second KILL changes nothing. "Flat" is said after a reading that says so, or a person is called after ten seconds.
"""

from decimal import Decimal

import msgspec

from tidegate.domain.account import AccountSnapshot
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos, parse_client_order_id
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.market import SECOND_NS
from tidegate.domain.messages import Alert, Command, Halt, HaltCause, SetTimer, Severity
from tidegate.domain.orders import CancelOrder, OrderState, Purpose
from tidegate.execution.protection import closing
from tidegate.kernel.desk import FOREIGN
from tidegate.kernel.lifecycle import SWEEPING
from tidegate.kernel.trading import Trading

KILL_TIMER = "kill"
FLAT_WITHIN_NS = 10 * SECOND_NS
_FIRST_WAIT_NS = SECOND_NS // 4
_LONGEST_WAIT_NS = 5 * SECOND_NS
_PATIENCE = 2
"""How many readings orders of ours may still be listed before the closing begins all the same."""


class SweepState(msgspec.Struct):
    """A sweep under way: since when, the first snapshot that counts, readings so far."""

    since_ns: Nanos = 0
    snapshot: int = 0
    readings: int = 0
    blocked: int = 0
    escalated: bool = False
    done: bool = False


class Halting:
    """Halts, and sweeps where the cause asks for it. The kernel asks for a snapshot when ``wants_snapshot``."""

    def __init__(self, trading: Trading) -> None:
        self._trading = trading
        self._sweep: SweepState | None = None
        self.wants_snapshot = False

    @property
    def sweeping(self) -> bool:
        """True until a reading has said flat."""
        return self._sweep is not None and not self._sweep.done

    def halt(self, cause: HaltCause, reason: str, out: list[Command]) -> bool:
        """Latch, then do what the cause asks for; False when a latch that is as strong is there already."""
        trading = self._trading
        latch = Halt(reason, trading.now_ns, cause)
        if not trading.lifecycle.halt(latch):
            return False
        out.append(latch)
        if cause in SWEEPING:
            self._sweep = SweepState(since_ns=trading.now_ns)
            self._begin(out)
        else:
            out.extend(trading.cancel_entries())
        return True

    def resume(self, out: list[Command]) -> None:
        """After a restart: a sweep that was not done goes on from a fresh reading."""
        if self.sweeping:
            self._begin(out)

    def _begin(self, out: list[Command]) -> None:
        trading = self._trading
        trading.sweeping = True
        out.extend(order.cancel() for order in trading.blotter if order.approved.purpose is not Purpose.FLATTEN)
        for desk in trading.desks.values():
            desk.target, desk.aim, desk.reroute = ZERO, 0.0, False
        self.wants_snapshot = True

    def snapshot_asked(self, number: int) -> None:
        """The snapshot that was wished for has this number."""
        self.wants_snapshot = False
        if self._sweep is not None:
            self._sweep.snapshot = number

    def lift(self) -> bool:
        """RESET: the episode is over. False while the sweep is not done."""
        if self.sweeping:
            return False
        self._sweep = None
        self._trading.sweeping = False
        return True

    def on_timer(self) -> None:
        """Time to read again."""
        self.wants_snapshot = self.sweeping

    # ---- a reading ----------------------------------------------------------------------------------------------

    def on_snapshot(self, number: int, snapshot: AccountSnapshot, out: list[Command]) -> None:
        """Close what is held, or say that it is flat."""
        sweep = self._sweep
        if sweep is None or number < sweep.snapshot:
            return
        held = self._held(snapshot)
        if sweep.done:
            if not held:
                return
            sweep.done, sweep.since_ns, sweep.readings, sweep.escalated = False, self._trading.now_ns, 0, False
        left = self._cancel_listed(snapshot, out)
        if not held and not left and not self._doubts():
            self._flat(sweep, out)
            return
        sweep.readings += 1
        ordinary = any(not conditional for conditional in left.values())
        if ordinary and held and sweep.blocked < _PATIENCE:
            sweep.blocked += 1  # orders that reduce already would make the venue refuse another one
        else:
            for name, qty in held.items():
                self._close(name, qty, out)
        self._escalate(sweep, held, out)
        wait_ns = min(_FIRST_WAIT_NS * 2 ** min(sweep.readings - 1, 8), _LONGEST_WAIT_NS)
        out.append(SetTimer(KILL_TIMER, self._trading.now_ns + wait_ns))

    def _cancel_listed(self, snapshot: AccountSnapshot, out: list[Command]) -> dict[ClientOrderId, bool]:
        """Our orders that the venue still lists, with their kind; each is cancelled (again)."""
        account = self._trading.gate.account
        left: dict[ClientOrderId, bool] = {}
        for each in snapshot.open_orders:
            name = parse_client_order_id(each.id)
            if name is not None and name[0] == account and each.instrument in self._trading.desks:
                left[each.id] = each.order_type.conditional
                out.append(CancelOrder(each.id, each.instrument, each.order_type.conditional))
        return left

    def _held(self, snapshot: AccountSnapshot) -> dict[InstrumentId, Decimal]:
        """What the venue holds for us, signed; what is known to be foreign is left alone."""
        held: dict[InstrumentId, Decimal] = {}
        for position in snapshot.positions:
            if position.instrument in self._trading.desks:
                held[position.instrument] = EXACT.add(held.get(position.instrument, ZERO), position.qty)
        for name in held:
            desk = self._trading.desks[name]
            held[name] = ZERO if FOREIGN in desk.blocks else EXACT.subtract(held[name], desk.foreign_qty)
        return {name: qty for name, qty in held.items() if qty}

    def _close(self, name: InstrumentId, qty: Decimal, out: list[Command]) -> None:
        """Close a fresh quantity, unless that is under way for certain."""
        working = self._trading.blotter.working(name, Purpose.FLATTEN)
        if not any(order.state is not OrderState.UNCERTAIN for order in working):
            self._trading.send_pieces(self._trading.desks[name], closing(name, qty), out)

    def _doubts(self) -> bool:
        """True while an order that might still trade is in doubt."""
        return any(not order.approved.order_type.conditional for order in self._trading.blotter)

    def _flat(self, sweep: SweepState, out: list[Command]) -> None:
        sweep.done = True
        now_ns = self._trading.now_ns
        text = f"flat after {(now_ns - sweep.since_ns) / 1e9:.1f} s, read from the venue; the latch stays until RESET"
        out.append(Alert(Severity.CRITICAL, "kill", text, now_ns))

    def _escalate(self, sweep: SweepState, held: dict[InstrumentId, Decimal], out: list[Command]) -> None:
        now_ns = self._trading.now_ns
        if sweep.escalated or now_ns - sweep.since_ns < FLAT_WITHIN_NS:
            return
        sweep.escalated = True
        rest = ", ".join(f"{name} {qty:f}" for name, qty in held.items()) or "orders of ours are still open"
        out.append(Alert(Severity.CRITICAL, "kill", f"not flat after 10 s: {rest}", now_ns))

    # ---- state --------------------------------------------------------------------------------------------------

    def dump(self) -> SweepState | None:
        return self._sweep

    def load(self, sweep: SweepState | None) -> None:
        self._sweep = sweep
        self._trading.sweeping = sweep is not None
