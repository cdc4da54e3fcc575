"""The book of several strategies: budgets, weights, what binds their sizes, and who owns what of the net position.

It stands beside ``trading`` and is asked at each close. With ``weighing`` the budgets follow the regime, the weights
the optimiser and the sizes every limit of the sizer; without, wishes are blended evenly as ever, and only the virtual
ledgers are kept.

Once a UTC day it says what each strategy has earned (``StrategyResult``) and how risky the book is (``BookRisk``), and
gives the allocator its daily returns. Kelly's fraction is taken from what the strategies have earned per unit of what
they held, not from the prices of the instruments, whose mean nobody knows: an instrument may take as much as the
strategies that wish for it deserve. It binds after a year of such days, and never below ``KELLY_FLOOR``, so that a
strategy can still show that it has changed.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from tidegate.domain.errors import InvariantBroken
from tidegate.domain.ids import InstrumentId, Nanos, StrategyId
from tidegate.domain.instrument import Instrument
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.market import DAY_NS
from tidegate.domain.messages import Alert, Command, ModelFitted, Severity
from tidegate.domain.orders import OrderFilled, Purpose
from tidegate.domain.signals import BookRisk, Scenario, StrategyResult, TargetWeight
from tidegate.kernel.desk import Desk
from tidegate.kernel.settings import KernelSettings
from tidegate.kernel.weighing import Candidate, Weighing, WeighingState, unmoved
from tidegate.kernel.wishes import StrategyManager, StrategySpec
from tidegate.portfolio.positions import PositionManager
from tidegate.portfolio.virtual import NETTING, UNASSIGNED, VirtualLedgers, VirtualState
from tidegate.quant.measures import conditional_var, historical_var
from tidegate.risk.brake import DrawdownBrake
from tidegate.risk.controller import RiskController
from tidegate.risk.sizing import SizingInputs

if TYPE_CHECKING:
    from tidegate.portfolio.allocator import AdaptiveAllocator

KELLY_DAYS: Final = 365
KELLY_FLOOR: Final = 0.05
_KEPT_DAYS = 730
_NORMAL_95 = 1.6448536269514722
_VOLUME_DECAY = 0.5 ** (1.0 / 24.0)  # of the mean quote volume of a bar, per bar


class DeskNote(msgspec.Struct):
    """What the book has written on a desk."""

    weighed: TargetWeight | None
    divided: tuple[Decimal, tuple[float, ...]] | None
    risk: tuple[float, float, float | None]
    inputs: SizingInputs | None


class BookState(msgspec.Struct):
    """What of the book cannot be learned again. ``earned`` are results and mean gross notional by strategy at the last
    midnight; ``per_unit`` are daily returns on what was held, ``book_days`` those of the book on its equity."""

    ledgers: VirtualState
    weighing: WeighingState | None
    allocator: Any
    earned: dict[StrategyId, float]
    equity: float
    per_unit: dict[StrategyId, list[float]]
    book_days: list[float]
    kelly: dict[StrategyId, float]
    budgets: dict[StrategyId, float]
    live: int
    volume: dict[InstrumentId, float]
    notes: dict[InstrumentId, DeskNote]


class Book:
    """One book. ``wishes`` are the strategies' slots, whose budgets it sets."""

    def __init__(
        self,
        settings: KernelSettings,
        instruments: Mapping[InstrumentId, Instrument],
        strategies: Sequence[StrategySpec],
        wishes: StrategyManager,
    ) -> None:
        self._settings, self._wishes = settings, wishes
        self._names = tuple(spec.id for spec in strategies)
        styles = {spec.id: spec.strategy.style for spec in strategies}
        self.ledgers = VirtualLedgers()
        self.weighing: Weighing | None = None
        self._controller = RiskController.of(settings.limits)
        self._allocator: AdaptiveAllocator | None = None
        if settings.weighing is not None:
            self.weighing = Weighing(settings.weighing, settings.limits, instruments, styles)
            if settings.weighing.allocator != "none":
                from tidegate.portfolio import allocator

                chosen = allocator.AllocatorSettings(seed=settings.weighing.seed)
                self._allocator = allocator.AdaptiveAllocator(self._names, settings.weighing.allocator, chosen)
        self._budgets: dict[StrategyId, float] = {}
        self._live = 0
        self._volume: dict[InstrumentId, float] = {}
        self._earned: dict[StrategyId, float] = {}
        self._equity = 0.0
        self._per_unit: dict[StrategyId, list[float]] = {}
        self._book_days: list[float] = []
        self._kelly: dict[StrategyId, float] = {}

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of the eight scenarios; empty while the regime is unknown."""
        return () if self.weighing is None else self.weighing.probabilities

    @property
    def scenario(self) -> Scenario:
        return Scenario.UNKNOWN if self.weighing is None else self.weighing.scenario

    def memory_bars(self) -> int:
        """How many bars a cold start needs for the first fit of its models, and for the risk of its instruments."""
        weighing = self._settings.weighing
        if weighing is None:
            return 0
        needed = weighing.warmup_bars
        if (detector := weighing.detector) is not None:
            needed = max(needed, detector.first_fit_bars + detector.trend_bars + 2 * detector.activation_lag_bars)
        return needed * max(1, weighing.interval_ns // self._settings.interval_ns)

    # ---- the close ----------------------------------------------------------------------------------------------

    def close(self, close_ns: Nanos, closed: Mapping[InstrumentId, float], out: list[Command]) -> bool:
        """Bars have closed at these prices; True when budgets changed."""
        weighing = self.weighing
        if weighing is None:
            return False
        moved = weighing.due(close_ns) and weighing.read(close_ns, closed, out)
        if len(closed) > self._live:
            self._live, moved = len(closed), True
        return bool(moved and self._share(closed))

    def _share(self, live: Mapping[InstrumentId, object]) -> bool:
        assert self.weighing is not None
        budgets = dict(self.weighing.budgets)
        if self._allocator is not None:
            budgets = self._allocator.tilt(budgets)
        self._budgets = budgets
        return bool(self._wishes.share(budgets, live))

    def fitted(self, event: ModelFitted, out: list[Command]) -> None:
        """Parameters of a model arrived."""
        if self.weighing is not None:
            self.weighing.fitted(event, out)

    def traded(self, instrument: InstrumentId, quote_volume: float) -> None:
        """A bar's quote volume, in USDT: the liquidity limit knows a smoothed one."""
        before = self._volume.get(instrument)
        after = quote_volume if before is None else before + (1.0 - _VOLUME_DECAY) * (quote_volume - before)
        self._volume[instrument] = after

    # ---- weights ------------------------------------------------------------------------------------------------

    def weigh(
        self,
        desks: Sequence[Desk],
        prices: Mapping[InstrumentId, float],
        equity: float,
        exposure: float,
        close_ns: Nanos,
        out: list[Command],
    ) -> None:
        """Give every desk its weight, and with new weights what the sizer and the rules should know of its risk."""
        weighing = self.weighing
        if weighing is None or equity <= 0.0:
            return
        held = {
            desk.instrument.id: desk.holding.qty * prices[desk.instrument.id] / equity
            for desk in desks
            if desk.holding.qty
        }
        fresh = weighing.due(close_ns)
        if not fresh:
            for desk in desks:
                if desk.weight is None:
                    kept = None if desk.weighed is None else unmoved(desk.weighed, [s.standing for s in desk.slots])
                    fresh = fresh or kept is None
                    desk.weight = kept
        if fresh:
            candidates = [
                Candidate(
                    desk.instrument.id,
                    [slot.standing for slot in desk.slots],
                    prices.get(desk.instrument.id, 0.0),
                    held.get(desk.instrument.id, 0.0),
                )
                for desk in desks
            ]
            weights = weighing.weigh(candidates, exposure)
            for desk in desks:
                desk.weight = desk.weighed = weights[desk.instrument.id]
            if weighing.trouble:
                text = f"{weighing.trouble}: what is held stays"
                out.append(Alert(Severity.WARNING, "optimiser", text, close_ns))
            self._inform(weighing, desks, held)

    def _inform(self, weighing: Weighing, desks: Sequence[Desk], held: Mapping[InstrumentId, float]) -> None:
        bars_per_day = DAY_NS / self._settings.interval_ns
        risks = weighing.risks(held)
        for desk in desks:
            name = desk.instrument.id
            volatility, others, correlation = risks[name]
            desk.risk = (volatility, others * _NORMAL_95, correlation)
            volume = self._volume.get(name)
            desk.inputs = SizingInputs(
                kelly_frac=self._kelly_of(desk),
                daily_volatility=volatility or None,
                book_var_frac=others * _NORMAL_95,
                book_correlation=correlation,
                daily_quote_volume_usdt=None if volume is None else volume * bars_per_day,
            )

    def _kelly_of(self, desk: Desk) -> float | None:
        """What the strategies that wish for an instrument may have in it; None while one of them is not known."""
        total = 0.0
        for slot in desk.slots:
            if slot.standing.strength and slot.budget:
                if slot.id not in self._kelly:
                    return None
                total += self._kelly[slot.id]
        return total if total else None

    def own(self, strategy: StrategyId, instrument: InstrumentId) -> float:
        """What a strategy holds of an instrument in its virtual ledger, signed, in base units."""
        account = self.ledgers.state.accounts.get(instrument, {}).get(strategy)
        return 0.0 if account is None else float(account.qty)

    # ---- who owns what ------------------------------------------------------------------------------------------

    def divide(self, desk: Desk, price: float) -> None:
        """Divide the target of a desk among the strategies, when their contributions or the target have changed."""
        contributions: dict[StrategyId, float] = {}
        for slot in desk.slots:
            part = slot.standing.strength * slot.standing.budget
            contributions[slot.id] = contributions.get(slot.id, 0.0) + part
        key = (desk.target, tuple(contributions.values()))
        if key == desk.divided or price <= 0.0:
            return
        desk.divided = key
        arrival = Decimal(repr(price))
        self.ledgers.aim(desk.instrument.id, desk.target, contributions, arrival, desk.instrument.taker_fee)

    def filled(self, fill: OrderFilled, purpose: Purpose | None) -> None:
        """An execution of the book; ``purpose`` is that of its order, None for one that is not ours."""
        dq = fill.qty if fill.side.sign > 0 else EXACT.minus(fill.qty)
        fee = fill.fee if fill.fee_asset == "USDT" else ZERO
        reference = fill.price if fill.reference is None else fill.reference
        asked = purpose is Purpose.TARGET
        self.ledgers.fill(fill.instrument, dq, fill.price, reference, fee, asked=asked)

    def adjusted(self, instrument: InstrumentId, qty: Decimal, price: Decimal) -> None:
        """A position that no execution explains was booked."""
        self.ledgers.fill(instrument, qty, price, price, ZERO, asked=False)

    def funded(self, instrument: InstrumentId, amount: Decimal) -> None:
        """A settlement of the book."""
        self.ledgers.fund(instrument, amount)

    # ---- the day ------------------------------------------------------------------------------------------------

    def day(
        self,
        close_ns: Nanos,
        prices: Mapping[InstrumentId, float],
        positions: PositionManager,
        equity: float,
        brake: DrawdownBrake | None,
        out: list[Command],
    ) -> None:
        """A UTC day has ended: results, risk, and what follows from them for tomorrow."""
        marks = {name: Decimal(repr(price)) for name, price in prices.items()}
        out.extend(self.ledgers.lines(marks, self.scenario, close_ns))
        results = {name: float(result) for name, result in self.ledgers.results(marks).items()}
        if self._equity > 0.0:
            self._earn(results, prices, close_ns)
            self._book_days.append(equity / self._equity - 1.0)
            del self._book_days[:-_KEPT_DAYS]
        self._earned, self._equity = results, equity
        if self.weighing is not None:
            out.append(self._risk(self.weighing, close_ns, prices, positions, equity, brake))

    def settle(self, now_ns: Nanos, prices: Mapping[InstrumentId, float]) -> list[StrategyResult]:
        """What has been earned since the last line."""
        marks = {name: Decimal(repr(price)) for name, price in prices.items()}
        return self.ledgers.lines(marks, self.scenario, now_ns)

    def _earn(self, results: Mapping[StrategyId, float], prices: Mapping[InstrumentId, float], close_ns: Nanos) -> None:
        gross = self._gross(prices)
        returns: dict[StrategyId, float] = {}
        for name in self._names:
            gained = results.get(name, 0.0) - self._earned.get(name, 0.0)
            returns[name] = gained / self._equity
            if gross.get(name, 0.0) > 0.01 * self._equity:
                _keep(self._per_unit, name, gained / gross[name])
                days = self._per_unit[name]
                if len(days) >= KELLY_DAYS:
                    best = self._controller.calculate_optimal_position_fraction(np.array(days), self._regime())
                    self._kelly[name] = max(best, KELLY_FLOOR)
        if self._allocator is not None:
            shares = {name: share for name, share in self._budgets.items() if share > 0.0}
            earned = {name: max(returns[name] / share, -0.99) for name, share in shares.items() if name in returns}
            self._allocator.record(close_ns, earned)

    def _gross(self, prices: Mapping[InstrumentId, float]) -> dict[StrategyId, float]:
        gross: dict[StrategyId, float] = {}
        for instrument, accounts in self.ledgers.state.accounts.items():
            for name, account in accounts.items():
                if account.qty and name not in (NETTING, UNASSIGNED):
                    gross[name] = gross.get(name, 0.0) + abs(float(account.qty)) * prices[instrument]
        return gross

    def _regime(self) -> str:
        """The scenario as the controller calls regimes: by direction, VOLATILE where volatility is high."""
        name = self.scenario.value
        return "VOLATILE" if name.endswith("_HIGH") else name.removesuffix("_LOW")

    def _risk(
        self,
        weighing: Weighing,
        close_ns: Nanos,
        prices: Mapping[InstrumentId, float],
        positions: PositionManager,
        equity: float,
        brake: DrawdownBrake | None,
    ) -> BookRisk:
        weights = {name: held.qty * prices[name] / equity for name, held in positions.open} if equity > 0.0 else {}
        volatility, shares = weighing.volatility(weights)
        lost = historical_var(self._book_days, 0.05), conditional_var(self._book_days, 0.05)
        state = None if brake is None else brake.state
        return BookRisk(
            tuple(weights.items()),
            tuple(shares.items()),
            volatility,
            lost[0] if np.isfinite(lost[0]) else None,
            lost[1] if np.isfinite(lost[1]) else None,
            0.0 if state is None else state.drawdown_frac,
            1.0 if state is None else state.exposure_multiplier,
            close_ns,
        )

    # ---- state --------------------------------------------------------------------------------------------------

    def dump(self, desks: Mapping[InstrumentId, Desk]) -> BookState:
        """The state; a book of the same settings that loads it goes on bit for bit."""
        return BookState(
            self.ledgers.state,
            None if self.weighing is None else self.weighing.dump(),
            None if self._allocator is None else self._allocator.dump(),
            self._earned,
            self._equity,
            self._per_unit,
            self._book_days,
            self._kelly,
            self._budgets,
            self._live,
            self._volume,
            {name: DeskNote(desk.weighed, desk.divided, desk.risk, desk.inputs) for name, desk in desks.items()},
        )

    def load(self, state: BookState, desks: Mapping[InstrumentId, Desk]) -> None:
        """Continue from a dump. Raises ``InvariantBroken`` when it is of another configuration."""
        if (state.weighing is None) != (self.weighing is None) or (state.allocator is None) != (
            self._allocator is None
        ):
            raise InvariantBroken("the snapshot is of another portfolio configuration")
        self.ledgers.state = state.ledgers
        if self.weighing is not None and state.weighing is not None:
            self.weighing.load(state.weighing)
        if self._allocator is not None:
            self._allocator.load(state.allocator)
        self._earned, self._equity, self._per_unit = state.earned, state.equity, state.per_unit
        self._book_days, self._kelly, self._budgets = state.book_days, state.kelly, state.budgets
        self._live, self._volume = state.live, state.volume
        for name, note in state.notes.items():
            desk = desks[name]
            desk.weighed, desk.divided, desk.risk, desk.inputs = note.weighed, note.divided, note.risk, note.inputs


def _keep(columns: dict[StrategyId, list[float]], name: StrategyId, value: float) -> None:
    column = columns.setdefault(name, [])
    column.append(value)
    del column[:-_KEPT_DAYS]
