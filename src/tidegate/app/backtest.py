"""BacktestEngine: the synchronous runner. The only place beside the daemon that puts kernel and market together.

The session yields events in the order of one instant, the kernel answers, the session carries the answers out. What
the run did is tallied from the outside: nothing in the kernel knows that it is a backtest.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from time import perf_counter

import msgspec

from tidegate.app.chronicle import Chronicle
from tidegate.app.contributions import (
    attribution_difference,
    costs_of,
    lone_figures,
    other_accounts,
    scenario_share,
    strategy_figures,
)
from tidegate.app.performance import implausible, sharpe_ci95, summarise
from tidegate.app.result import BacktestResult
from tidegate.app.tally import Tally, plain
from tidegate.app.workers import fitted
from tidegate.domain.account import FundingPaid
from tidegate.domain.errors import TidegateError
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.ledger import EXACT
from tidegate.domain.market import DAY_NS, Bar, Depth, FundingRate, MarkPrice, Quote, Trade
from tidegate.domain.messages import (
    Adjustment,
    Alert,
    Command,
    Event,
    FitModel,
    Halt,
    HaltCause,
    ModelFitted,
    NotPlaced,
    Operation,
    OperatorCommand,
    Severity,
    TakeSnapshot,
    TimerFired,
)
from tidegate.domain.orders import ApprovedOrder, OrderFilled
from tidegate.domain.signals import BookRisk, Decision, RegimeChanged, StrategyResult
from tidegate.kernel.feeders import ScanFeeder
from tidegate.kernel.kernel import Kernel, KernelSettings
from tidegate.kernel.wishes import StrategySpec
from tidegate.simulator.exchange import Exchange, exact
from tidegate.simulator.frictions import Frictions
from tidegate.simulator.session import MarketSource, Session

Progress = Callable[[Nanos], None]

Kept = tuple[Event, Sequence[Command]] | tuple[Nanos, dict[InstrumentId, float]]
"""An event that obliges, or whose answer does, with that answer; or a UTC midnight and the prices there."""

_OBLIGING = frozenset((ApprovedOrder, NotPlaced, Adjustment, RegimeChanged, BookRisk, StrategyResult))
_OWN = frozenset((Alert, Halt, FitModel, TakeSnapshot))
_PASSING = frozenset((Bar, Quote, Trade, Depth, MarkPrice, FundingRate))


class StrategyFailed(TidegateError):
    """A strategy raised, or wished for what is no number."""


@dataclass(frozen=True, slots=True)
class BacktestPlan:
    """Everything a run needs. ``capital`` is the opening balance in USDT. After a drawdown has latched, a person lifts
    the latch ``reset_after_ns`` later, or never."""

    kernel: KernelSettings
    instruments: dict[InstrumentId, Instrument]
    strategies: tuple[StrategySpec, ...]
    source: MarketSource
    capital: Decimal
    frictions: Frictions = field(default_factory=Frictions)
    delisting: bool = True
    funding: bool = True
    reset_after_ns: Nanos | None = None


class BacktestEngine:
    """One run of one plan. With ``keep`` it remembers in ``kept`` what a journal would be read for."""

    def __init__(self, plan: BacktestPlan, *, keep: bool = False) -> None:
        self._plan = plan
        self._keep = keep
        self.kept: list[Kept] = []
        feeder = ScanFeeder()
        self.kernel = Kernel(plan.kernel, plan.instruments, plan.strategies, feeder)
        self.exchange = Exchange(plan.instruments.values(), plan.capital, plan.frictions)
        self.session = Session(
            self.exchange,
            plan.instruments,
            plan.source,
            on_chunk=feeder.fill,
            delisting=plan.delisting,
            funding=plan.funding,
        )
        self.tally = Tally(plan.capital)
        self.chronicle = Chronicle()
        self._halted_ns: Nanos = 0
        self.seconds = 0.0
        self._ended_ns: Nanos = 0

    def run(self, progress: Progress | None = None) -> None:
        """Run to the end of the data. Raises ``StrategyFailed`` when a strategy does, ``DataError`` for bad data."""
        with _quiet_collector():
            started = perf_counter()
            self._loop(progress)
            self.seconds = perf_counter() - started
        if self._ended_ns:
            self.tally.finish(self._ended_ns, self._equity())
            if self._keep:
                self._keep_prices(self._ended_ns)

    def _loop(self, progress: Progress | None) -> None:
        kernel, session, tally = self.kernel, self.session, self.tally
        handle, keep, kept = kernel.handle, self._keep, self.kept
        midnight_ns = now_ns = 0
        for event in session.events():
            now_ns = event.recv_ns
            if now_ns > midnight_ns:
                if midnight_ns:
                    tally.mark_equity(midnight_ns, self._equity())
                    if keep:
                        self._keep_prices(midnight_ns)
                else:
                    tally.begin(now_ns)
                midnight_ns = now_ns - now_ns % DAY_NS + DAY_NS
                if progress is not None:
                    progress(now_ns)
                self._person(now_ns)
            if type(event) is not Bar:
                if type(event) is OrderFilled:
                    tally.fill(event)
                elif type(event) is FundingPaid:
                    tally.funded(event)
            commands = handle(event)
            if keep and (
                type(event) not in _PASSING or (commands and any(type(each) in _OBLIGING for each in commands))
            ):
                kept.append((event, commands))
            if commands:
                self._carry_out(commands, now_ns)
        self._ended_ns = now_ns
        closing = kernel.settle(now_ns)
        self.chronicle.commands(closing)
        if keep and closing:
            kept.append((TimerFired("end", now_ns, now_ns), closing))

    def _take(self, event: Event) -> None:
        """Have an event handled that answers a command, or stands for a person."""
        commands = self.kernel.handle(event)
        if self._keep:
            self.kept.append((event, commands))
        if commands:
            self._carry_out(commands, event.recv_ns)

    def _carry_out(self, commands: Sequence[Command], now_ns: Nanos) -> None:
        execute = self.session.execute
        for command in commands:
            asked = type(command)
            if asked is Decision:
                continue
            if asked in _OWN:
                self._answer(command, now_ns)
            else:
                execute(command, now_ns)
        self.tally.commands(commands)
        self.chronicle.commands(commands)

    def _answer(self, command: Command, now_ns: Nanos) -> None:
        """What the market does not answer: fits are made here and now, and the account tells what it holds."""
        match command:
            case FitModel():
                self.chronicle.fits += 1
                self._take(ModelFitted(command.model, command.activation_ns, fitted(command), now_ns, now_ns))
            case TakeSnapshot():
                self._take(msgspec.structs.replace(self.exchange.snapshot(now_ns), name=command.name))
            case Halt(cause=HaltCause.DRAWDOWN):
                self._halted_ns = now_ns
            case Alert() | Halt():
                _raise_if_grave(command)

    def _person(self, now_ns: Nanos) -> None:
        """Once a day: a person looks at a book that has been flat for long enough, and lifts its latch."""
        wait_ns = self._plan.reset_after_ns
        latch = self.kernel.latch
        if wait_ns is None or latch is None or now_ns < self._halted_ns + wait_ns or self.kernel.sweeping:
            return
        self.chronicle.resets += 1
        self._take(OperatorCommand(Operation.RESET, now_ns, now_ns, "simulated"))

    def _keep_prices(self, ts_ns: Nanos) -> None:
        self.kept.append((ts_ns, dict(self.kernel.last_prices)))

    def _equity(self) -> Decimal:
        return self.kernel.equity_at({name: exact(price) for name, price in self.kernel.last_prices.items()})

    @property
    def ledger_difference(self) -> Decimal:
        """Equity by the kernel's books less equity by the venue's, at the last closes: zero, or something was lost."""
        return EXACT.subtract(self._equity(), self.exchange.equity(self.kernel.last_prices))

    def result(self, settings: dict[str, object], assumptions: list[str], digests: dict[str, str]) -> BacktestResult:
        """What the run leaves behind. ``digests`` are put into the summary as they are."""
        tally, session = self.tally, self.session
        summary: dict[str, object] = {
            "bars": session.bars,
            "orders": tally.orders,
            "fills": tally.fills,
            "trades": len(tally.trades),
            "decisions": tally.decisions,
            "initial_capital_usdt": plain(self._plan.capital),
            "final_equity_usdt": plain(tally.equity[-1][1]) if tally.equity else plain(self._plan.capital),
            "fees_usdt": plain(tally.fees),
            "funding_usdt": plain(tally.funding),
            "slippage_usdt": plain(tally.slippage),
            "costs": costs_of(tally.fees, tally.funding, tally.slippage),
            **summarise(tally.equity),
            "sharpe_ci95": sharpe_ci95(tally.equity),
            "turnover": tally.turnover(),
            "annualisation": 365,
            "trials": 1,
            "liquidations": self.exchange.liquidations,
            "missing_bars": session.missing_bars,
            "funding_at_last_price": self.exchange.mark_stand_ins,
            "delisted": sorted(session.delisted),
            "ledger_difference_usdt": plain(self.ledger_difference),
            "bars_per_s": round(session.bars / self.seconds) if self.seconds else None,
            **digests,
        }
        summary |= self._parts(summary)
        return BacktestResult(
            summary,
            tally.equity,
            tally.trades,
            tally.per_symbol(),
            assumptions,
            settings,
            list(implausible(summary)),
            self.chronicle,
        )

    def _parts(self, summary: dict[str, object]) -> dict[str, object]:
        """What the parts of the book did: strategies, scenarios, limits, halts."""
        chronicle, equity, capital = self.chronicle, self.tally.equity, self._plan.capital
        (first_ns, _), (last_ns, last) = equity[0], equity[-1]
        names, lines = [each.id for each in self._plan.strategies], chronicle.results
        summary["scenario_share"] = scenario_share(chronicle.regimes, first_ns, last_ns)
        change = EXACT.subtract(last, capital)
        others: dict[str, dict[str, object]] = {}
        if self.kernel.divides:
            strategies = strategy_figures(names, lines, first_ns, last_ns, capital, self.tally.mean_equity)
            others = other_accounts(names, lines)
            difference = attribution_difference(lines, change)
        else:
            strategies = {str(name): lone_figures(summary) for name in names}
            difference = EXACT.subtract(Decimal(str(strategies[str(names[0])]["net_usdt"])), change)
        return {
            "strategies": strategies,
            "other_accounts": others,
            "attribution_difference_usdt": plain(difference),
            "bindings": dict(sorted(chronicle.bindings.items(), key=lambda item: (-item[1], item[0]))),
            "halts": len(chronicle.halts),
            "resets": chronicle.resets,
            "fits": chronicle.fits,
        }


def _raise_if_grave(command: Alert | Halt) -> None:
    if isinstance(command, Halt):
        raise TidegateError(f"halted: {command.reason}")
    if command.severity is Severity.CRITICAL and command.subject.startswith("strategy "):
        raise StrategyFailed(f"{command.subject}: {command.text}")


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Few collector runs while millions of short-lived, acyclic messages pass; reference counts free them."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000_000, 50, 1_000)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
