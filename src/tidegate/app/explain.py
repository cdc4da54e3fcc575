"""Why an order was sent and what became of it, read from a journal: nothing is guessed that is not written there.

1. The first reading finds the order: by its id, or the last one of a contract.
2. The second one follows the contract up to the order: the standing wish of each strategy, the regime and its weights,
   the last target with the limit that bound it and what the rules said, the position by the executions of this journal.
3. From there on it follows the order itself, the others of the same intention, and the protective stop that came next,
   until the order is done and the next one of its contract begins.
"""

import difflib
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec

from tidegate.app.tally import plain
from tidegate.domain.errors import TidegateError
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos, StrategyId
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.market import Bar
from tidegate.domain.messages import (
    Adjustment,
    Alert,
    Command,
    Event,
    Halt,
    NotPlaced,
    OperatorCommand,
    Record,
    TimerFired,
)
from tidegate.domain.orders import (
    AmendOrder,
    ApprovedOrder,
    CancelOrder,
    Order,
    OrderAccepted,
    OrderFilled,
    OrderRejected,
    OrderReport,
    OrderState,
    Purpose,
)
from tidegate.domain.signals import Decision, RegimeChanged

Records = Callable[[], Iterable[Record]]


class UnknownOrder(TidegateError):
    """The journal has no such order."""


class Step(msgspec.Struct, frozen=True):
    """One thing that happened to an order."""

    ts_ns: Nanos
    what: str
    detail: str = ""


class FillStep(msgspec.Struct, frozen=True):
    """One execution; ``slippage_usdt`` is a cost, positive, None where no reference price is known."""

    ts_ns: Nanos
    qty: Decimal
    price: Decimal
    reference: Decimal | None
    slippage_usdt: Decimal | None
    fee: Decimal
    fee_asset: str
    cause: str


class Told(msgspec.Struct):
    """An order and its life."""

    id: ClientOrderId
    purpose: str
    side: str
    qty: Decimal
    order_type: str
    limit: Decimal | None
    trigger: Decimal | None
    reduce_only: bool
    parent: str | None
    approved_ns: Nanos
    record: int
    state: str = OrderState.IN_FLIGHT.value
    filled: Decimal = ZERO
    average_price: Decimal | None = None
    reason: str | None = None
    steps: list[Step] = []
    fills: list[FillStep] = []


class Wished(msgspec.Struct, frozen=True):
    """The standing wish of a strategy."""

    strategy: StrategyId
    strength: float
    stop: float | None
    since_ns: Nanos


class Regime(msgspec.Struct, frozen=True):
    """The regime in force, and the shares of the risk budget."""

    scenario: str
    weights: dict[StrategyId, float]
    reason: str
    since_ns: Nanos


class Target(msgspec.Struct, frozen=True):
    """What the book was to hold, the limit that bound it, and what the rules objected."""

    qty: Decimal | None
    binding_limit: str | None
    rule: str | None
    refusal: str | None
    detail: str | None
    ts_ns: Nanos


class Explanation(msgspec.Struct):
    """The chain of reasons for one order."""

    instrument: InstrumentId
    order: Told
    because: str
    """What came in when it was decided."""
    price: float | None
    """The last close of the contract."""
    held: Decimal
    """The position before the order, by the executions and adjustments of this journal."""
    wishes: list[Wished]
    regime: Regime | None
    target: Target | None
    alerts: list[str]
    siblings: list[Told]
    stop: Told | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data; amounts are decimal texts."""
        plain_data: dict[str, Any] = msgspec.to_builtins(self)
        return plain_data


def explain(records: Records, wanted: str) -> Explanation:
    """The order with the id ``wanted``, or the last one of the contract of that name.

    ``records`` gives the journal's records from the first on; it is asked twice. Raises ``UnknownOrder`` with the
    nearest ids when there is none.
    """
    seq, order = _find(records(), wanted)
    story = _Story(seq, order)
    for record in records():
        if story.over:
            break
        story.take(record)
    return story.told()


def _find(records: Iterable[Record], wanted: str) -> tuple[int, ApprovedOrder]:
    orders: dict[str, tuple[int, ApprovedOrder]] = {}
    last: dict[str, tuple[int, ApprovedOrder]] = {}
    for record in records:
        for command in record.commands:
            if isinstance(command, ApprovedOrder):
                orders[command.id] = last[command.instrument] = (record.seq, command)
    found = orders.get(wanted) or last.get(wanted.upper())
    if found is not None:
        return found
    if not orders:
        raise UnknownOrder(f"no order {wanted!r}: the journal holds no order at all")
    near = difflib.get_close_matches(wanted, [*orders, *last], n=3, cutoff=0.0)
    raise UnknownOrder(f"no order {wanted!r} among the {len(orders)} of the journal; the nearest are {' '.join(near)}")


class _Life:
    """An order, told while it happens."""

    def __init__(self, approved: ApprovedOrder, ts_ns: Nanos, seq: int) -> None:
        self.order = Order(approved)
        self._paid = ZERO
        self.told = Told(
            approved.id,
            approved.purpose.value,
            approved.side.value,
            approved.qty,
            approved.order_type.value,
            approved.limit,
            approved.trigger,
            approved.reduce_only,
            approved.parent,
            ts_ns,
            seq,
        )

    def report(self, report: OrderReport) -> None:
        """A word of the venue."""
        if not self.order.apply(report):
            return
        if isinstance(report, OrderFilled):
            self._fill(report)
        else:
            detail = f"venue id {report.venue_id}" if isinstance(report, OrderAccepted) else ""
            if isinstance(report, OrderRejected):
                detail = f"{report.cause.value}: {report.code} {report.reason}".strip()
            detail = detail or str(getattr(report, "reason", "") or getattr(report, "detail", ""))
            self.told.steps.append(Step(report.ts_ns, type(report).__name__.removeprefix("Order").lower(), detail))
        self._stand()

    def command(self, command: Command, ts_ns: Nanos) -> None:
        """A word of ours."""
        if isinstance(command, NotPlaced):
            self.order.conclude(OrderState.NOT_PLACED)
            self.told.steps.append(Step(ts_ns, "not placed", "it is proved that it never reached the market"))
        elif isinstance(command, CancelOrder):
            self.told.steps.append(Step(ts_ns, "cancel asked"))
        elif isinstance(command, AmendOrder):
            self.told.steps.append(Step(ts_ns, "amend asked", f"to {command.qty}"))
        self._stand()

    def _fill(self, fill: OrderFilled) -> None:
        slippage = None
        if fill.reference is not None:
            slippage = EXACT.multiply(fill.side.sign * fill.qty, EXACT.subtract(fill.price, fill.reference))
        self._paid = EXACT.fma(fill.qty, fill.price, self._paid)
        self.told.average_price = self._paid / self.order.filled
        self.told.fills.append(
            FillStep(
                fill.ts_ns,
                fill.qty,
                fill.price,
                fill.reference,
                slippage,
                fill.fee,
                fill.fee_asset,
                fill.cause.value,
            )
        )

    def _stand(self) -> None:
        self.told.state, self.told.filled = self.order.state.value, self.order.filled
        self.told.reason = self.order.reason


class _Story:
    """Follows one contract through a journal."""

    def __init__(self, seq: int, order: ApprovedOrder) -> None:
        self._seq, self._id, self._instrument, self._parent = seq, order.id, order.instrument, order.parent
        self._wishes: dict[StrategyId, Wished] = {}
        self._regime: RegimeChanged | None = None
        self._target: Decision | None = None
        self._held = ZERO
        self._price: float | None = None
        self._family: dict[ClientOrderId, _Life] = {}
        self._own: _Life | None = None
        self._stop: _Life | None = None
        self._frozen: dict[str, Any] = {}
        self.over = False

    def take(self, record: Record) -> None:
        """The next record."""
        event = record.event
        if isinstance(event, Bar) and event.instrument == self._instrument:
            self._price = event.close
        if isinstance(event, OrderFilled) and event.instrument == self._instrument:
            self._held = EXACT.add(self._held, event.side.sign * event.qty)
        if isinstance(event, OrderReport):
            for life in self._lives():
                if life.order.approved.id == event.id:
                    life.report(event)
        for command in record.commands:
            self._command(command, record)

    def _lives(self) -> list[_Life]:
        return [*self._family.values(), *(() if self._stop is None else (self._stop,))]

    def _command(self, command: Command, record: Record) -> None:
        if isinstance(command, ApprovedOrder):
            if command.instrument == self._instrument:
                self._approved(command, record)
        elif isinstance(command, NotPlaced | CancelOrder | AmendOrder):
            for life in self._lives():
                if life.order.approved.id == command.id:
                    life.command(command, record.event.recv_ns)
        elif isinstance(command, RegimeChanged):
            self._regime = command
        elif isinstance(command, Decision) and command.instrument == self._instrument:
            self._decided(command)
        elif isinstance(command, Adjustment) and command.instrument == self._instrument:
            self._held = EXACT.add(self._held, command.qty)

    def _decided(self, decision: Decision) -> None:
        if decision.strategy is None:
            self._target = decision
        elif decision.signal is not None:
            self._wishes[decision.strategy] = Wished(
                decision.strategy, decision.signal.strength, decision.signal.stop, decision.ts_ns
            )

    def _approved(self, command: ApprovedOrder, record: Record) -> None:
        life = _Life(command, record.event.recv_ns, record.seq)
        if command.id == self._id:
            self._own = self._family[command.id] = life
            self._freeze(record)
        elif self._parent is not None and command.parent == self._parent:
            self._family[command.id] = life
        elif self._own is not None:
            if command.purpose is Purpose.PROTECTION and self._stop is None:
                self._stop = life
            elif command.purpose is not Purpose.PROTECTION and not self._own.order.open:
                self.over = True  # the next intention: what follows is its own story

    def _freeze(self, record: Record) -> None:
        """What was known when the order was approved."""
        regime, target = self._regime, self._target
        refusal = None if target is None else target.refusal
        self._frozen = {
            "because": _because(record.event),
            "price": self._price,
            "held": self._held,
            "wishes": list(self._wishes.values()),
            "regime": None
            if regime is None
            else Regime(regime.scenario.value, dict(regime.weights), regime.reason, regime.ts_ns),
            "target": None
            if target is None
            else Target(
                target.target,
                target.binding_limit,
                None if refusal is None else refusal.rule,
                None if refusal is None else refusal.reason.value,
                None if refusal is None else refusal.detail,
                target.ts_ns,
            ),
            "alerts": [
                f"{each.subject}: {each.text}" if isinstance(each, Alert) else f"halt: {each.reason}"
                for each in record.commands
                if isinstance(each, Alert | Halt)
            ],
        }

    def told(self) -> Explanation:
        """The whole."""
        assert self._own is not None
        siblings = [life.told for name, life in self._family.items() if name != self._id]
        stop = None if self._stop is None else self._stop.told
        return Explanation(
            instrument=self._instrument, order=self._own.told, siblings=siblings, stop=stop, **self._frozen
        )


def _because(event: Event) -> str:
    """What came in when the order was decided."""
    match event:
        case Bar():
            return f"the close of the bars, of which that of {event.instrument} came last"
        case OrderFilled():
            return f"an execution of {event.id}: {event.side.value} {plain(event.qty)} at {plain(event.price)}"
        case TimerFired():
            return f"the timer {event.name}"
        case OperatorCommand():
            return f"the operator's {event.operation.value}{f' ({event.detail})' if event.detail else ''}"
        case _:
            return f"an event {type(event).__name__}"
