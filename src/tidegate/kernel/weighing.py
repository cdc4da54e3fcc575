"""From wishes to weights, when more than an even blend is asked for: regime, matrix, risk and costs.

At the close of each long bar (4 h), before anything is decided:

1. the long returns of the instruments that closed it enter the covariance; their mean is the return of the market;
2. the regime detector reads the market; a fit that is due is asked for by a command, and its answer counts from its
   activation bar on, not before;
3. the matrix turns the probabilities of the scenarios into the strategies' budgets, the allocator tilts them by what
   the strategies have earned in their virtual ledgers.

When weights are due (each long bar, and whenever a wish came, went or changed sides):

4. the net wish of an instrument, in units of equal volatility, is the raw weight; all are cut together to the target
   volatility, and by the drawdown brake;
5. the optimiser trades the distance from the raw weights (in risk) against the cost of going there. It has
   ``mu = g S raw``, the forecasts under which the raw weights would be optimal if trading were free (Black & Litterman
   1992 call them implied): nothing is invented beyond what the strategies said;
6. a weight never opposes its wish, and no wish is no weight.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.domain.errors import InvariantBroken
from tidegate.domain.ids import InstrumentId, ModelId, Nanos, StrategyId
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import DAY_NS
from tidegate.domain.messages import Alert, Command, FitModel, ModelFitted, Severity
from tidegate.domain.signals import RegimeChanged, Scenario, TargetWeight
from tidegate.kernel.settings import WeighingSettings
from tidegate.portfolio.construction import Wish, nearest_stop
from tidegate.portfolio.matrix import SCENARIOS, MatrixState, StrategyMatrix
from tidegate.quant.covariance import EwmaCovariance
from tidegate.quant.optimize import Constraints, PortfolioOptimizer
from tidegate.quant.regime import NoLookAheadRegimeDetector, RegimeSettings
from tidegate.risk.view import RiskLimits

Floats = NDArray[np.float64]

REGIME_MODEL: Final = ModelId("regime")
_DAYS_PER_YEAR = 365.0
_SMALLEST_VARIANCE = 1e-10


class WeighingState(msgspec.Struct):
    """What of the weighing cannot be learned again."""

    closes: dict[InstrumentId, float]
    covariance: dict[str, Any]
    matrix: MatrixState
    detector: Any
    scenario: Scenario
    probabilities: tuple[float, ...]
    read_ns: Nanos


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One instrument at a decision: its standing wishes, its last price (0 for none) and the share of equity held."""

    instrument: InstrumentId
    wishes: Sequence[Wish]
    price: float
    held: float


class Weighing:
    """Weights of one book. ``styles`` says which column of the matrix each strategy belongs to."""

    def __init__(
        self,
        settings: WeighingSettings,
        limits: RiskLimits,
        instruments: Mapping[InstrumentId, Instrument],
        styles: Mapping[StrategyId, str],
    ) -> None:
        self.settings, self.limits = settings, limits
        self._place = {name: index for index, name in enumerate(instruments)}
        self._fees = np.array([float(each.taker_fee) for each in instruments.values()])
        bars_per_day = DAY_NS / settings.interval_ns
        self._per_day = bars_per_day
        fast, slow = (
            0.5 ** (1.0 / (days * bars_per_day)) for days in (settings.volatility_days, settings.correlation_days)
        )
        self.covariance = EwmaCovariance(len(instruments), fast, correlation_lam=slow, min_periods=settings.warmup_bars)
        self._even = {name: 1.0 / len(styles) for name in styles}
        self.matrix = StrategyMatrix(styles, band=settings.matrix_band)
        self.detector: NoLookAheadRegimeDetector | None = None
        if settings.detector is not None:
            chosen = RegimeSettings(bar_ns=settings.interval_ns, **msgspec.structs.asdict(settings.detector))
            self.detector = NoLookAheadRegimeDetector(chosen)
        self._optimizer = PortfolioOptimizer(risk_aversion=settings.risk_aversion)
        self._closes: dict[InstrumentId, float] = {}
        self.scenario = Scenario.UNKNOWN
        self.probabilities: tuple[float, ...] = ()
        self._read_ns: Nanos = 0
        self._daily: Floats | None = None
        self.trouble = ""

    # ---- the long close -----------------------------------------------------------------------------------------

    def due(self, close_ns: Nanos) -> bool:
        """True at the close of a long bar."""
        return close_ns % self.settings.interval_ns == 0

    def read(self, close_ns: Nanos, closed: Mapping[InstrumentId, float], out: list[Command]) -> bool:
        """A long bar has closed at these prices: take the returns in and read the market. True when budgets changed."""
        returns = np.full(len(self._place), np.nan)
        for name, price in closed.items():
            before = self._closes.get(name)
            if before is not None and before > 0.0 and price > 0.0:
                returns[self._place[name]] = np.log(price / before)
        self._closes = {**self._closes, **closed}
        self.covariance.push(returns)
        self._daily = None
        there = returns[~np.isnan(returns)]
        if self.detector is None or not there.size:
            return self._budgets((), close_ns, out)
        update = self.detector.push(close_ns, float(there.mean()))
        asked = update.request
        if asked is not None:
            request = asked.to_bytes()
            out.append(FitModel(REGIME_MODEL, asked.start_ns, asked.end_ns, asked.activation_ns, asked.seed, request))
        if update.breach_ns is not None:
            text = f"regime: no fit by its activation at {update.breach_ns}; the parameters before it go on"
            out.append(Alert(Severity.WARNING, "model", text, close_ns))
        return self._budgets(update.reading.scenario_probabilities if update.reading.known else (), close_ns, out)

    def fitted(self, event: ModelFitted, out: list[Command]) -> None:
        """Parameters arrived; they count from their activation bar on."""
        if self.detector is None or event.model != REGIME_MODEL:
            return
        try:
            in_time = self.detector.apply(event.parameters, event.activation_ns)
            text = f"{event.model}: the fit for {event.activation_ns} came too late and is not used"
        except ValueError as error:
            in_time, text = False, f"{event.model}: {error}"
        if not in_time:
            out.append(Alert(Severity.WARNING, "model", text, event.ts_ns))

    def _budgets(self, probabilities: Sequence[float], close_ns: Nanos, out: list[Command]) -> bool:
        self.probabilities = tuple(probabilities)
        likely = max(range(len(SCENARIOS)), key=lambda index: probabilities[index]) if probabilities else None
        scenario = Scenario.UNKNOWN if likely is None else SCENARIOS[likely]
        first = not self._read_ns
        moved = self.detector is not None and self.matrix.read(self.probabilities)
        if moved or first or scenario is not self.scenario:
            reason = "the first reading" if first else "the blend moved" if moved else "the scenario changed"
            out.append(RegimeChanged(scenario, self.probabilities, tuple(self.budgets.items()), reason, close_ns))
        self.scenario, self._read_ns = scenario, close_ns
        return moved or first

    @property
    def budgets(self) -> Mapping[StrategyId, float]:
        """Each strategy's share of the risk budget: the matrix', or even ones where no regime is read."""
        return self.matrix.weights if self.detector is not None else self._even

    # ---- the weights --------------------------------------------------------------------------------------------

    @property
    def daily_covariance(self) -> Floats:
        """Covariance of daily returns ``(N, N)``; NaN for instruments with too few bars."""
        if self._daily is None:
            self._daily = self.covariance.matrix() * self._per_day
        return self._daily

    def volatility(self, weights: Mapping[InstrumentId, float]) -> tuple[float, dict[InstrumentId, float]]:
        """Annual volatility of a book of signed shares of equity, and each instrument's part of it; the parts sum to 1.

        What is not known yet counts as nothing.
        """
        vector = np.zeros(len(self._place))
        for name, weight in weights.items():
            vector[self._place[name]] = weight
        matrix = np.nan_to_num(self.daily_covariance, nan=0.0)
        marginal = matrix @ vector
        variance = float(vector @ marginal)
        if not variance > 0.0:
            return 0.0, {}
        parts = vector * marginal / variance
        shares = {name: float(parts[index]) for name, index in self._place.items() if vector[index]}
        return float(np.sqrt(variance * _DAYS_PER_YEAR)), shares

    def risks(self, held: Mapping[InstrumentId, float]) -> dict[InstrumentId, tuple[float, float, float | None]]:
        """For each instrument its daily volatility (0 while unknown), that of all other positions as a share of equity,
        and the correlation of the two; ``held`` are signed shares of equity."""
        vector = np.zeros(len(self._place))
        for name, weight in held.items():
            vector[self._place[name]] = weight
        matrix = np.nan_to_num(self.daily_covariance, nan=0.0)
        own = np.diag(matrix)
        marginal = matrix @ vector
        others = np.maximum(vector @ marginal - 2.0 * vector * marginal + vector * vector * own, 0.0)
        shared = marginal - vector * own
        sigma, rest = np.sqrt(own), np.sqrt(others)
        product = sigma * rest
        alike = np.divide(shared, product, out=np.zeros_like(shared), where=product > _SMALLEST_VARIANCE)
        return {
            name: (
                float(sigma[i]),
                float(rest[i]),
                float(min(1.0, max(-1.0, alike[i]))) if product[i] > _SMALLEST_VARIANCE else None,
            )
            for name, i in self._place.items()
        }

    def weigh(self, candidates: Sequence[Candidate], exposure: float) -> dict[InstrumentId, TargetWeight]:
        """Target weights for all candidates; ``exposure`` in [0, 1] is what the drawdown brake leaves.

        ``trouble`` says, afterwards, why there was no optimum and what is held stays; it is empty when there was one.
        """
        self.trouble = ""
        index = np.array([self._place[each.instrument] for each in candidates])
        daily = self.daily_covariance[np.ix_(index, index)]
        net = np.array([sum(wish.strength * wish.budget for wish in each.wishes) for each in candidates])
        sigma = np.sqrt(np.diag(daily) * _DAYS_PER_YEAR)
        known = (sigma > np.sqrt(_SMALLEST_VARIANCE)) & np.array([each.price > 0.0 for each in candidates])
        weights = np.zeros(len(candidates))
        active = np.flatnonzero(known & ((net != 0.0) | np.array([each.held != 0.0 for each in candidates])))
        if active.size:
            held = np.array([each.held for each in candidates])[active]
            weights[active] = self._solve(
                net[active], sigma[active], daily[np.ix_(active, active)], held, index[active], exposure
            )
        return {each.instrument: _target(each, float(net[i]), float(weights[i])) for i, each in enumerate(candidates)}

    def _solve(
        self, net: Floats, sigma: Floats, daily: Floats, held: Floats, index: NDArray[np.int64], exposure: float
    ) -> Floats:
        settings, limits = self.settings, self.limits
        raw = settings.risk_scale * net * limits.target_volatility / sigma
        volatility = float(np.sqrt(raw @ daily @ raw * _DAYS_PER_YEAR))
        scale = min(1.0, limits.target_volatility / volatility) if volatility > 0.0 else 1.0
        raw *= scale * exposure
        most = limits.max_position_pct
        wanted = np.clip(raw, -most, most)
        if settings.method != "mean_variance":
            return wanted
        constraints = Constraints(
            lower=np.where(net < 0.0, -most, 0.0), upper=np.where(net > 0.0, most, 0.0), gross=limits.max_leverage
        )
        cost = (self._fees[index] + settings.half_spread_bps * 1e-4) / settings.holding_days
        found = self._optimizer.solve(
            settings.risk_aversion * daily @ raw * _DAYS_PER_YEAR,
            daily * _DAYS_PER_YEAR,
            held,
            proportional_cost=cost * _DAYS_PER_YEAR,
            constraints=constraints,
        )
        if found.status == "optimal":
            return found.weights
        self.trouble = f"no optimum ({found.status})"
        return np.where(np.abs(held) > most, wanted, held)

    # ---- state --------------------------------------------------------------------------------------------------

    def dump(self) -> WeighingState:
        """The state; a fresh weighing of the same settings that loads it goes on bit for bit."""
        detector = None if self.detector is None else self.detector.dump()
        return WeighingState(
            dict(self._closes),
            self.covariance.dump(),
            self.matrix.state,
            detector,
            self.scenario,
            self.probabilities,
            self._read_ns,
        )

    def load(self, state: WeighingState) -> None:
        """Continue from a dump. Raises ``InvariantBroken`` when it is of other settings."""
        if (state.detector is None) != (self.detector is None):
            raise InvariantBroken("the snapshot is of another portfolio: one has a regime detector, the other has none")
        try:
            self.covariance.load(state.covariance)
            if self.detector is not None:
                self.detector.load(state.detector)
        except (KeyError, TypeError, ValueError) as error:
            raise InvariantBroken(f"the snapshot is of another portfolio: {error}") from error
        self._closes, self.matrix.state = state.closes, state.matrix
        self.scenario, self.probabilities, self._read_ns = state.scenario, state.probabilities, state.read_ns
        self._daily = None


def _target(candidate: Candidate, net: float, weight: float) -> TargetWeight:
    """The weight with the conviction and the stop behind it."""
    total = sum(wish.budget for wish in candidate.wishes)
    conviction = net / total if total and weight * net > 0.0 else 0.0
    stop = nearest_stop([(wish.strength, wish.stop) for wish in candidate.wishes], net) if conviction else None
    return TargetWeight(candidate.instrument, weight if conviction else 0.0, conviction, stop)


def unmoved(weight: TargetWeight, wishes: Sequence[Wish]) -> TargetWeight | None:
    """The last weight with the stop of the wishes of now, where they still ask for the same side; else None: weigh."""
    net = sum(wish.strength * wish.budget for wish in wishes)
    if net * weight.conviction <= 0.0:
        return weight if net == 0.0 == weight.conviction else None
    total = sum(wish.budget for wish in wishes)
    stop = nearest_stop([(wish.strength, wish.stop) for wish in wishes], net)
    return msgspec.structs.replace(weight, conviction=net / total, stop=stop)
