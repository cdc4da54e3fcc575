"""Small worlds for the tests of the kernel: contracts, markets from tables, scripted strategies, and two ways to drive.

``Hand`` plays the venue by hand, one event at a time; ``run`` puts the kernel before the real simulated exchange.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from tidegate.domain.account import AccountSnapshot, Balance
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos, StrategyId
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import DEFAULT_BRACKETS
from tidegate.domain.market import HOUR_NS, Bar, FundingRate
from tidegate.domain.messages import Command, Event, Operation, OperatorCommand
from tidegate.domain.orders import (
    ApprovedOrder,
    CancelOrder,
    FillCause,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderType,
    Purpose,
    Side,
)
from tidegate.domain.signals import Decision, Signal
from tidegate.execution.protection import ProtectionSettings
from tidegate.kernel.feeders import ScanFeeder, StepFeeder
from tidegate.kernel.kernel import Kernel, KernelSettings
from tidegate.kernel.wishes import StrategySpec
from tidegate.portfolio.construction import PortfolioSettings
from tidegate.quant.bars import BarTable
from tidegate.risk.sizing import SizingSettings
from tidegate.risk.view import RiskLimits
from tidegate.simulator.exchange import Exchange
from tidegate.simulator.frictions import Frictions
from tidegate.simulator.session import Chunk, Session
from tidegate.simulator.synthetic import SyntheticMarket
from tidegate.strategies.base import BaseStrategy, View

BTC, ETH, SOL = InstrumentId("BTCUSDT"), InstrumentId("ETHUSDT"), InstrumentId("SOLUSDT")
START_NS = 500_000 * HOUR_NS
CAPITAL = Decimal(100_000)

Answers = Sequence[Command]


def contract(
    name: InstrumentId = BTC,
    *,
    tick: str = "0.1",
    step: str = "0.001",
    min_notional: str = "5",
    market_max_qty: str = "1000",
    min_qty: str | None = None,
) -> Instrument:
    return Instrument(
        id=name,
        base=name.removesuffix("USDT"),
        quote="USDT",
        tick=Decimal(tick),
        step=Decimal(step),
        min_qty=Decimal(min_qty or step),
        max_qty=Decimal(10_000),
        market_max_qty=Decimal(market_max_qty),
        min_notional=Decimal(min_notional),
        min_price=Decimal(tick),
        max_price=Decimal(10_000_000),
        brackets=DEFAULT_BRACKETS,
    )


def loose(**changes: Any) -> KernelSettings:
    """Hourly bars, a fixed quantity of 1 at full strength, and limits wide enough to stay out of the way."""
    values: dict[str, Any] = {
        "interval_ns": HOUR_NS,
        "limits": RiskLimits(max_position_pct=0.9, max_leverage=10.0, min_liquidation_distance=0.05),
        "sizing": SizingSettings("fixed_qty", fixed_qty=Decimal(1)),
    }
    return KernelSettings(**(values | changes))


# ---- strategies ---------------------------------------------------------------------------------------------------

Script = Callable[[View], Any]


def scripted(script: Script) -> BaseStrategy:
    """A strategy without features that does what the script says."""

    def decide(self: BaseStrategy, view: View) -> Signal | None:
        answer = script(view)
        if isinstance(answer, (Exception, SystemExit)):
            raise answer
        return answer  # type: ignore[no-any-return]

    kind: type[BaseStrategy] = type("Scripted", (BaseStrategy,), {"decide": decide})
    return kind()


def by_bar(*answers: Any, start_ns: Nanos = START_NS) -> BaseStrategy:
    """The n-th answer at the n-th close since the start, None after them."""

    def script(view: View) -> Any:
        n = (view.ts_ns - start_ns) // HOUR_NS - 1
        return answers[n] if 0 <= n < len(answers) else None

    return scripted(script)


def spec(strategy: BaseStrategy, *instruments: InstrumentId, name: str = "s") -> StrategySpec:
    return StrategySpec(StrategyId(name), strategy, instruments or (BTC,))


# ---- by hand ------------------------------------------------------------------------------------------------------


@dataclass
class Hand:
    """A kernel, and a venue that does exactly what the test says."""

    kernel: Kernel
    now_ns: Nanos = START_NS
    trade_ids: int = 0
    said: list[Command] = field(default_factory=list)

    @classmethod
    def ready(
        cls,
        *strategies: StrategySpec,
        settings: KernelSettings | None = None,
        instruments: Sequence[Instrument] = (),
        start: bool = True,
    ) -> "Hand":
        listed = {each.id: each for each in instruments or (contract(),)}
        hand = cls(Kernel(settings or loose(), listed, strategies, StepFeeder()))
        if start:
            hand.fund()
            hand.operate(Operation.START)
        return hand

    def give(self, event: Event) -> list[Command]:
        out = list(self.kernel.handle(event))
        self.said += out
        return out

    def fund(self, amount: Decimal = CAPITAL) -> list[Command]:
        return self.give(AccountSnapshot(self.now_ns, self.now_ns, (Balance("USDT", amount),), (), ()))

    def operate(self, operation: Operation) -> list[Command]:
        return self.give(OperatorCommand(operation, self.now_ns, self.now_ns))

    def bar(self, close: float = 100.0, instrument: InstrumentId = BTC, *, after: int = 1) -> list[Command]:
        """The bar that ends ``after`` hours from now (0: at the same time as the last one)."""
        self.now_ns += after * HOUR_NS
        ts = self.now_ns
        return self.give(Bar(instrument, HOUR_NS, ts, ts, close, close + 1.0, close - 1.0, close, 10.0))

    def accept(self, order: ApprovedOrder) -> list[Command]:
        return self.give(OrderAccepted(order.id, order.instrument, 1, self.now_ns, self.now_ns))

    def cancel(self, order: ApprovedOrder) -> list[Command]:
        return self.give(OrderCanceled(order.id, order.instrument, self.now_ns, self.now_ns))

    def fill(self, order: ApprovedOrder, price: float = 100.0, qty: str | None = None) -> list[Command]:
        return self.give(self.filled(order, price, qty))

    def filled(
        self, order: ApprovedOrder, price: float = 100.0, qty: str | None = None, trade_id: int | None = None
    ) -> OrderFilled:
        self.trade_ids += 1
        return OrderFilled(
            order.id,
            order.instrument,
            order.side,
            order.qty if qty is None else Decimal(qty),
            Decimal(repr(price)),
            Decimal("0.05"),
            "USDT",
            self.trade_ids if trade_id is None else trade_id,
            False,
            self.now_ns,
            self.now_ns,
        )

    def venue_fill(
        self, side: Side, qty: str, price: float, cause: FillCause, name: str = "autoclose-1"
    ) -> OrderFilled:
        self.trade_ids += 1
        return OrderFilled(
            ClientOrderId(name),
            BTC,
            side,
            Decimal(qty),
            Decimal(repr(price)),
            Decimal(0),
            "USDT",
            self.trade_ids,
            False,
            self.now_ns,
            self.now_ns,
            cause,
        )

    def open(self, price: float = 100.0) -> ApprovedOrder:
        """Close a bar, fill the entry that it brings, confirm its stop; returns the stop."""
        (entry,) = targets(self.bar(price))
        self.accept(entry)
        (stop,) = stops(self.fill(entry, price))
        self.accept(stop)
        return stop

    @property
    def qty(self) -> Decimal:
        return self.kernel.ledger.position(BTC).qty


def orders(commands: Answers) -> list[ApprovedOrder]:
    return [each for each in commands if isinstance(each, ApprovedOrder)]


def _of(commands: Answers, purpose: Purpose) -> list[ApprovedOrder]:
    return [order for order in orders(commands) if order.purpose is purpose]


def targets(commands: Answers) -> list[ApprovedOrder]:
    return _of(commands, Purpose.TARGET)


def stops(commands: Answers) -> list[ApprovedOrder]:
    return _of(commands, Purpose.PROTECTION)


def exits(commands: Answers) -> list[ApprovedOrder]:
    return _of(commands, Purpose.FLATTEN)


def cancels(commands: Answers) -> list[ClientOrderId]:
    return [each.id for each in commands if isinstance(each, CancelOrder)]


def decisions(commands: Answers) -> list[Decision]:
    return [each for each in commands if isinstance(each, Decision)]


# ---- markets ------------------------------------------------------------------------------------------------------


@dataclass
class Tables:
    """A market out of tables."""

    tables: Mapping[InstrumentId, BarTable]
    rates: Mapping[InstrumentId, Sequence[FundingRate]] = field(default_factory=dict)
    chunk_rows: int = 64

    def chunks(self, instrument: InstrumentId) -> Iterator[Chunk]:
        table = self.tables[instrument]
        for row in range(0, len(table), self.chunk_rows):
            yield Chunk(rows_of(table, slice(row, row + self.chunk_rows)))

    def funding(self, instrument: InstrumentId) -> Iterator[FundingRate]:
        return iter(self.rates.get(instrument, ()))

    def marks(self, instrument: InstrumentId) -> Iterator[BarTable]:
        return iter(())


def rows_of(table: BarTable, rows: slice | np.ndarray) -> BarTable:
    columns = [getattr(table, name)[rows] for name in ("ts_ns", "open", "high", "low", "close", "volume")]
    return BarTable(table.interval_ns, *columns)


def table_of(closes: Sequence[float], reach: float = 1.0, start_ns: Nanos = START_NS) -> BarTable:
    """Hourly bars that open at the last close and reach beyond both ends."""
    close = np.array(closes, dtype=np.float64)
    opened = np.concatenate([close[:1], close[:-1]])
    ts = start_ns + HOUR_NS * np.arange(1, len(close) + 1, dtype=np.int64)
    high, low = np.maximum(opened, close) + reach, np.minimum(opened, close) - reach
    return BarTable(HOUR_NS, ts, opened, high, low, close, np.full(len(close), 1_000.0))


def invented(
    seed: int, rows: int, names: Sequence[str] = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
) -> tuple[Tables, dict[InstrumentId, Instrument]]:
    """Hours of the invented market with its funding."""
    market = SyntheticMarket(seed, names, HOUR_NS)
    chunk = next(market.chunks(rows))
    tables = {name: part.table for name, part in chunk.items()}
    rates = {name: tuple(part.funding) for name, part in chunk.items()}
    return Tables(tables, rates), {each.id: each for each in market.instruments}


@dataclass
class Run:
    """What a kernel heard and answered before the simulated exchange."""

    kernel: Kernel
    exchange: Exchange
    steps: list[tuple[Event, tuple[Command, ...]]] = field(default_factory=list)

    @property
    def commands(self) -> list[Command]:
        return [command for _, commands in self.steps for command in commands]

    def answers_to(self, kind: type) -> list[tuple[Any, tuple[Command, ...]]]:
        return [(event, commands) for event, commands in self.steps if isinstance(event, kind)]


def run(
    source: Tables,
    instruments: Mapping[InstrumentId, Instrument],
    strategies: Sequence[StrategySpec],
    settings: KernelSettings | None = None,
    frictions: Frictions | None = None,
    *,
    scanned: bool = True,
    watch: Callable[[Kernel, Exchange, Event, Sequence[Command]], None] | None = None,
) -> Run:
    """A whole session; ``watch`` looks at every step after its commands were carried out."""
    scan = ScanFeeder()
    kernel = Kernel(settings or loose(), instruments, strategies, scan if scanned else StepFeeder())
    exchange = Exchange(instruments.values(), CAPITAL, frictions or Frictions())
    session = Session(exchange, instruments, source, on_chunk=scan.fill if scanned else None)
    done = Run(kernel, exchange)
    for event in session.events():
        commands = tuple(kernel.handle(event))
        done.steps.append((event, commands))
        for command in commands:
            session.execute(command, event.recv_ns)
        if watch is not None:
            watch(kernel, exchange, event, commands)
    return done


def resting_stops(exchange: Exchange, now_ns: Nanos = 0) -> dict[InstrumentId, list[tuple[Side, Decimal, Decimal]]]:
    """The protective orders at the venue: side, quantity, trigger."""
    found: dict[InstrumentId, list[tuple[Side, Decimal, Decimal]]] = {}
    for order in exchange.snapshot(now_ns).open_orders:
        if order.order_type is OrderType.STOP_MARKET and order.reduce_only and order.trigger is not None:
            found.setdefault(order.instrument, []).append((order.side, order.qty - order.filled, order.trigger))
    return found


BUSY = KernelSettings(
    HOUR_NS,
    sizing=SizingSettings(risk_per_trade_frac=0.02),
    portfolio=PortfolioSettings(gross_leverage=2.0),
    protection=ProtectionSettings(disaster_stop_frac=0.05),
)
"""Settings under which much happens: tight stops, several limits that bind."""
