"""A venue of a page, with a mind of its own, and the kernel before it: for the bad days of the live path.

It keeps orders, stops, a position per contract, a trade list and a wallet. Answers and events travel by themselves and
can be lost; requests can fail on either side of the act. Time moves from one event or timer to the next. ``restart``
kills the process: what was on the way is lost, and a kernel of the next generation goes on from the last record.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any

import msgspec

from tests.unit.kernel.worlds import BTC, CAPITAL, START_NS, contract, loose, scripted, spec
from tidegate.domain.account import AccountMode, AccountSnapshot, Balance, ContractSetting, OpenOrder, Position
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import HOUR_NS, SECOND_NS, Bar
from tidegate.domain.messages import (
    Alert,
    Command,
    Event,
    Halt,
    KernelSnapshot,
    NotPlaced,
    Operation,
    OperatorCommand,
    SetTimer,
    Severity,
    TakeSnapshot,
    TimerFired,
)
from tidegate.domain.orders import (
    ApprovedOrder,
    CancelOrder,
    FillCause,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderNotFound,
    OrderRejected,
    OrderTriggered,
    OrderType,
    OrderUncertain,
    QueryOrder,
    RejectCause,
    Side,
)
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import Kernel, KernelSettings, ReconcileSettings
from tidegate.kernel.wishes import StrategySpec

MS = SECOND_NS // 1000
LATENCY_NS = 20 * MS
WINDOW_NS, REDUCING_WINDOW_NS = 2 * SECOND_NS, 5 * SECOND_NS

LOST_ANSWER, LOST_REQUEST, LATE, HIDDEN, NOT_SENT = "lost answer", "lost request", "late", "hidden", "not sent"
"""What may become of a request: it acted and nobody says so; it never came; it acts later within its window; it acts
and cannot be found for a while; it never left."""

Fault = str | RejectCause | None
Faults = Callable[[ApprovedOrder | CancelOrder | TakeSnapshot], Fault]


def live(**changes: Any) -> KernelSettings:
    """The settings of ``loose`` before a real venue."""
    return loose(**({"reconcile": ReconcileSettings(enabled=True), "gen": 100, "account": "ab"} | changes))


@dataclass
class Resting:
    """An order that the venue has."""

    order: ApprovedOrder
    venue_id: int
    filled: Decimal = Decimal(0)
    state: str = "open"
    hidden_until_ns: Nanos = 0


@dataclass
class LiveWorld:
    """A kernel, its timers and the venue."""

    strategies: Sequence[StrategySpec]
    settings: KernelSettings = field(default_factory=live)
    instruments: Sequence[Instrument] = (contract(),)
    faults: Faults = lambda _: None
    now_ns: Nanos = START_NS
    price: float = 100.0
    wallet: Decimal = CAPITAL
    wallet_updated_ns: Nanos = 0
    mode: AccountMode | None = None
    contract_settings: tuple[ContractSetting, ...] = ()
    income: list[Any] = field(default_factory=list)
    dies: Callable[[Event], int | None] = lambda _: None  # after how many commands of this event the process dies
    events_lost: Callable[[Event], bool] = lambda _: False

    def __post_init__(self) -> None:
        self.gen = self.settings.gen
        self.orders: dict[ClientOrderId, Resting] = {}
        self.positions: dict[InstrumentId, Decimal] = {each.id: Decimal(0) for each in self.instruments}
        self.entries: dict[InstrumentId, Decimal] = {}
        self.trades: list[OrderFilled] = []
        self.said: list[Command] = []
        self.log: list[tuple[Event, tuple[Command, ...]]] = []
        self.sent: list[ApprovedOrder] = []
        self.requests = 0
        self._timers: dict[str, Nanos] = {}
        self._mail: list[tuple[Nanos, int, Event]] = []
        self._tickets = count()
        self._ids = count(1)
        self.kernel = self._fresh(self.gen)

    def _fresh(self, gen: int) -> Kernel:
        settings = msgspec.structs.replace(self.settings, gen=gen)
        return Kernel(settings, {each.id: each for each in self.instruments}, self.strategies, StepFeeder())

    # ---- driving ------------------------------------------------------------------------------------------------

    def start(self, seconds: float = 1.0) -> "LiveWorld":
        self.operate(Operation.START)
        return self.run(seconds)

    def operate(self, operation: Operation, detail: str = "") -> list[Command]:
        return self.give(OperatorCommand(operation, self.now_ns, self.now_ns, detail))

    def give(self, event: Event) -> list[Command]:
        left = self.dies(event)
        before = None if left is None else self.kernel.snapshot()
        commands = tuple(self.kernel.handle(event))
        self.said += commands
        self.log.append((event, commands))
        for command in commands if left is None else commands[:left]:
            self._carry_out(command)
        if before is not None:
            durable = any(isinstance(each, ApprovedOrder | Halt | NotPlaced) for each in commands)
            self.restart(self.kernel.snapshot() if durable else before)
        return list(commands)

    def bar(self, price: float | None = None, instrument: InstrumentId = BTC) -> list[Command]:
        """The next hour closes; what is on the way arrives before and after it."""
        self.run_until((self.now_ns // HOUR_NS + 1) * HOUR_NS)
        if price is not None:
            self.move(price)
        at = self.price
        return self.give(Bar(instrument, HOUR_NS, self.now_ns, self.now_ns, at, at + 1, at - 1, at, 10.0))

    def run(self, seconds: float) -> "LiveWorld":
        return self.run_until(self.now_ns + round(seconds * SECOND_NS))

    def run_until(self, at_ns: Nanos) -> "LiveWorld":
        while (due := self._next()) is not None and due <= at_ns:
            self.now_ns = max(self.now_ns, due)
            timer = min(self._timers.items(), key=lambda item: (item[1], item[0]), default=None)
            if self._mail and (timer is None or self._mail[0][0] <= timer[1]):
                event = heapq.heappop(self._mail)[2]
                if isinstance(event, _Act):
                    self.execute(event.order)
                elif not self.events_lost(event):
                    self.give(msgspec.structs.replace(event, recv_ns=self.now_ns))
            elif timer is not None:
                del self._timers[timer[0]]
                self.give(TimerFired(timer[0], timer[1], self.now_ns))
        self.now_ns = at_ns
        return self

    def _next(self) -> Nanos | None:
        times = [*self._timers.values(), *([self._mail[0][0]] if self._mail else [])]
        return min(times, default=None)

    def post(self, event: Event, delay_ns: Nanos = LATENCY_NS) -> None:
        heapq.heappush(self._mail, (self.now_ns + delay_ns, next(self._tickets), event))

    def restart(self, kept: KernelSnapshot | None = None, *, start: bool = True) -> "LiveWorld":
        """The process dies and comes back: a new generation, nothing on the way, no timers."""
        old = self._fresh(self.gen)
        old.load(kept or self.kernel.snapshot())
        self.gen += 1
        self.kernel = self._fresh(self.gen)
        self.kernel.load(old.snapshot())
        # Requests that had left go on to act at the venue; their answers and the events do not reach us.
        self._mail = [each for each in self._mail if isinstance(each[2], _Act)]
        heapq.heapify(self._mail)
        self._timers = {}
        if start:
            self.operate(Operation.START)
        return self

    # ---- requests -----------------------------------------------------------------------------------------------

    def _carry_out(self, command: Command) -> None:
        match command:
            case SetTimer():
                self._timers[command.name] = command.at_ns
            case ApprovedOrder():
                self.sent.append(command)
                self._submit(command)
            case CancelOrder():
                self._cancel(command)
            case QueryOrder():
                self._query(command)
            case TakeSnapshot():
                self.requests += 1
                if self.faults(command) is None:
                    self.post(self.snapshot(command))

    def _submit(self, order: ApprovedOrder) -> None:
        fault = self.faults(order)
        reducing = order.reduce_only
        fence_ns = 0 if order.order_type.conditional else self.now_ns + (REDUCING_WINDOW_NS if reducing else WINDOW_NS)
        unknown = OrderUncertain(order.id, order.instrument, "no answer", self.now_ns, self.now_ns, fence_ns)
        if isinstance(fault, RejectCause):
            self._reject(order, fault)
        elif fault == NOT_SENT:
            self._reject(order, RejectCause.NOT_SENT)
        elif fault == LOST_REQUEST:
            self.post(unknown)
        elif fault == LATE:
            self.post(unknown)
            self.post(_Act(order, self.now_ns, self.now_ns), WINDOW_NS - 100 * MS)
        else:
            self.execute(order, tell=fault is None)
            if fault is not None:
                self.post(unknown)
            if fault == HIDDEN and order.id in self.orders:
                self.orders[order.id].hidden_until_ns = self.now_ns + 2400 * SECOND_NS

    def _reject(self, order: ApprovedOrder, cause: RejectCause) -> None:
        self.post(OrderRejected(order.id, order.instrument, cause.value, "no", self.now_ns, self.now_ns, cause))

    def execute(self, order: ApprovedOrder, *, tell: bool = True) -> None:
        """The market takes the order in."""
        held = self.positions[order.instrument]
        side = order.side.sign
        if order.order_type is OrderType.STOP_MARKET:
            if order.trigger is not None and (self.price - float(order.trigger)) * side >= 0:
                self._reject(order, RejectCause.WOULD_TRIGGER)
                return
            self.orders[order.id] = Resting(order, next(self._ids))
            self._tell(OrderAccepted(order.id, order.instrument, len(self.orders), self.now_ns, self.now_ns), tell)
            return
        qty = order.qty
        if order.reduce_only:
            if held * side >= 0:
                self._reject(order, RejectCause.REDUCE_ONLY)
                return
            qty = min(qty, abs(held))
        self.orders[order.id] = Resting(order, next(self._ids))
        self._tell(OrderAccepted(order.id, order.instrument, len(self.orders), self.now_ns, self.now_ns), tell)
        self.fill(order, qty, tell=tell)

    def fill(self, order: ApprovedOrder, qty: Decimal, *, tell: bool = True) -> None:
        resting = self.orders[order.id]
        resting.filled += qty
        if resting.filled >= order.qty or order.reduce_only:
            resting.state = "filled"
        self._trade(order.id, order.instrument, order.side, qty, tell=tell)

    def _trade(
        self,
        name: ClientOrderId,
        instrument: InstrumentId,
        side: Side,
        qty: Decimal,
        *,
        tell: bool = True,
        cause: FillCause = FillCause.ORDER,
    ) -> None:
        price = Decimal(repr(self.price))
        before = self.positions[instrument]
        after = self.positions[instrument] = before + side.sign * qty
        if before * after <= 0 or abs(after) > abs(before):
            self.entries[instrument] = price
        trade = OrderFilled(
            name, instrument, side, qty, price, Decimal(0), "USDT", len(self.trades) + 1, False,
            self.now_ns, self.now_ns, cause,
        )  # fmt: skip
        self.trades.append(trade)
        self._tell(trade, tell)

    def by_hand(self, side: Side, qty: str, instrument: InstrumentId = BTC, *, tell: bool = True) -> None:
        self._trade(ClientOrderId(f"web_{len(self.trades)}"), instrument, side, Decimal(qty), tell=tell)

    def liquidate(self, instrument: InstrumentId = BTC, *, tell: bool = True) -> None:
        held = self.positions[instrument]
        side = Side.SELL if held > 0 else Side.BUY
        self._trade(ClientOrderId("autoclose-1"), instrument, side, abs(held), tell=tell, cause=FillCause.LIQUIDATION)

    def _tell(self, event: Event, tell: bool) -> None:
        if tell:
            self.post(event)

    def move(self, price: float) -> None:
        """The market moves; stops that it passes trigger."""
        self.price = price
        for resting in list(self.orders.values()):
            order = resting.order
            if resting.state != "open" or order.trigger is None:
                continue
            if (price - float(order.trigger)) * order.side.sign >= 0:
                resting.state = "filled"
                held = self.positions[order.instrument]
                if held * order.side.sign < 0:
                    self.post(OrderTriggered(order.id, order.instrument, self.now_ns, self.now_ns))
                    self.fill(order, min(order.qty, abs(held)))
                else:
                    resting.state = "canceled"

    def _cancel(self, command: CancelOrder) -> None:
        fault = self.faults(command)
        resting = self.orders.get(command.id)
        unknown = OrderUncertain(command.id, command.instrument, "cancel", self.now_ns, self.now_ns)
        if fault == LOST_REQUEST or resting is None or resting.state != "open" or resting.hidden_until_ns > self.now_ns:
            self.post(unknown)
        else:
            resting.state = "canceled"
            if fault is None:
                self.post(OrderCanceled(command.id, command.instrument, self.now_ns, self.now_ns))
            else:
                self.post(unknown)

    def _query(self, command: QueryOrder) -> None:
        resting = self.orders.get(command.id)
        name, where = command.id, command.instrument
        if resting is None or resting.hidden_until_ns > self.now_ns:
            self.post(OrderNotFound(name, where, self.now_ns, self.now_ns))
            return
        self.post(OrderAccepted(name, where, resting.venue_id, self.now_ns, self.now_ns))
        for trade in self.trades:
            if trade.id == name:
                self.post(trade)
        if resting.state == "canceled":
            self.post(OrderCanceled(name, where, self.now_ns, self.now_ns))

    def snapshot(self, request: TakeSnapshot) -> AccountSnapshot:
        since = {each.instrument: each.trade_id for each in request.since}
        return AccountSnapshot(
            self.now_ns,
            self.now_ns,
            (Balance("USDT", self.wallet, self.wallet_updated_ns),),
            tuple(
                Position(name, qty, self.entries.get(name, Decimal("100")))
                for name, qty in self.positions.items()
                if qty
            ),
            tuple(self.listed()),
            request.name,
            tuple(each for each in self.trades if each.trade_id > since.get(each.instrument, 1 << 60)),
            tuple(self.income) if request.income_since_ns else (),
            self.contract_settings,
            self.mode,
        )

    def listed(self) -> list[OpenOrder]:
        return [
            OpenOrder(
                each.order.id,
                each.venue_id,
                each.order.instrument,
                each.order.side,
                each.order.qty,
                each.filled,
                each.order.order_type,
                each.order.limit,
                each.order.trigger,
                each.order.reduce_only,
            )
            for each in self.orders.values()
            if each.state == "open" and each.hidden_until_ns <= self.now_ns
        ]

    # ---- asking -------------------------------------------------------------------------------------------------

    @property
    def qty(self) -> Decimal:
        return self.kernel.ledger.position(BTC).qty

    def stops(self, instrument: InstrumentId = BTC) -> list[OpenOrder]:
        """Protective orders that the venue holds."""
        return [each for each in self.listed() if each.instrument == instrument and each.trigger is not None]

    def alerts(self, subject: str = "", severity: Severity | None = None) -> list[Alert]:
        return [
            each
            for each in self.said
            if isinstance(each, Alert) and subject in each.subject and severity in (None, each.severity)
        ]

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.said if isinstance(each, kind)]

    def sound(self) -> None:
        """What must hold once the venue has answered truthfully for a while."""
        for name, qty in self.positions.items():
            desk_qty = self.kernel.ledger.position(name).qty
            foreign = sum(
                (each.qty for each in self.kernel.foreign if each.instrument == name and not each.order), Decimal(0)
            )
            assert desk_qty + foreign == qty, (name, desk_qty, foreign, qty)
            if desk_qty and not self.kernel.sweeping:
                side = Side.SELL if desk_qty > 0 else Side.BUY
                right = [each for each in self.stops(name) if each.side is side and each.qty >= abs(desk_qty)]
                assert len(right) == 1, (name, desk_qty, self.stops(name))
            assert len(self.stops(name)) == (1 if desk_qty else 0), (name, desk_qty, self.stops(name))
        names = [each.id for each in self.sent]
        assert len(set(names)) == len(names)


class _Act(msgspec.Struct, frozen=True, tag=True):
    """A request on its way: it acts when it arrives."""

    order: ApprovedOrder
    ts_ns: Nanos
    recv_ns: Nanos


def world(*answers: Any, faults: Faults | None = None, **changes: Any) -> LiveWorld:
    """A world whose one strategy gives these answers, one a bar, then none."""

    def script(view: Any) -> Any:
        n = (view.ts_ns - START_NS) // HOUR_NS - 1
        return answers[n] if 0 <= n < len(answers) else None

    kernel_changes = {name: changes.pop(name) for name in list(changes) if name in KernelSettings.__struct_fields__}
    made = LiveWorld([spec(scripted(script))], live(**kernel_changes), **changes)
    if faults is not None:
        made.faults = faults
    return made
