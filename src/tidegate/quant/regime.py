"""The market's regime, told bar by bar from the past alone: one detector over long bars of a market index.

Each closed bar goes through these steps:

1. Its log return passes the fold ``RegimeObservation``: log return, log realised volatility, t-statistic of the trend.
2. When the activation instant of a fit has come, its parameters take over, and both filters are run again from the
   start of the kept window. If they are not there, that is a breach: the old ones go on, and a new fit falls due.
3. The HMM's forward filter gives the probability of each state, the variance recursion the forecast of the next bar.
4. Direction: ``P(d) ~ sum_k p_k P(d | k) x P(d | trend t)``. The first factor is the share of state k whose trend
   t-statistic lies above ``trend_threshold``, below its negative, or between; the second the same for a true trend
   around the t-statistic seen, whose standard error is 1.
5. A direction is entered above ``enter`` and left below ``leave``; without one, and for the first ``dwell_bars`` after
   a change, the market is in TRANSITION, which then has the whole mass.
6. Volatility is HIGH above a percentile of the forecasts of the trailing window and LOW again below a smaller one.
7. At fixed distances a fit falls due: the update carries the request, and the detector waits for its bytes.

Before the first fit is active, when a fit says so, and on a bar whose observation is undefined, the regime is UNKNOWN.
Nothing is smoothed and nothing is fitted here, so that no bar after t can reach an answer at t.
"""

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.quant.fold import Floats, Fold, advance, scan
from tidegate.quant.hmm import HmmFilter, HmmParameters
from tidegate.quant.regime_fit import FitRequest, RegimeModel, slots_in_week, week_slots
from tidegate.quant.regime_observation import RegimeObservation

BULL, BEAR, SIDEWAYS, TRANSITION = 0, 1, 2, 3
"""Indices of the directions. Scenario ``2 d + h`` is direction d in LOW (h = 0) or HIGH (h = 1) volatility."""

_HOUR_NS: Final = 3600 * 1_000_000_000
_FEATURES: Final = 3
_NO_DIRECTION: Final = -1
_UNKNOWN: Final = (0.0, 0.0, 0.0, 1.0)

Ints = NDArray[np.int64]


# --- what is said ----------------------------------------------------------------------------------------------------


class RegimeSettings(msgspec.Struct, frozen=True):
    """How the detector works; lengths in its bars (4 hours by default).

    Raises ``ValueError`` when the figures do not fit each other.
    """

    bar_ns: int = 4 * _HOUR_NS
    states: int = 3
    volatility_bars: int = 42
    """A week."""
    trend_bars: int = 180
    """Thirty days."""
    window_bars: int = 5475
    """What a fit sees at most: two and a half years."""
    first_fit_bars: int = 1095
    """What the first fit needs: half a year."""
    refit_bars: int = 180
    retry_bars: int = 6
    """How soon after a breach a fit falls due again."""
    activation_lag_bars: int = 1
    percentile_bars: int = 4380
    """The forecasts among which the latest has its percentile: two years."""
    dwell_bars: int = 6
    trend_threshold: float = 0.674
    """Quartile of the t-statistic of a market without drift: a quarter lies above, a quarter below its negative."""
    enter: float = 0.6
    leave: float = 0.4
    high_above: float = 0.7
    low_below: float = 0.6
    seed: int = 0
    first_restarts: int = 10
    later_restarts: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.first_fit_bars <= self.window_bars:
            raise ValueError(f"a first fit on {self.first_fit_bars} bars does not fit a window of {self.window_bars}")
        counts = (self.bar_ns, self.refit_bars, self.retry_bars, self.activation_lag_bars, self.percentile_bars)
        if min(counts) < 1 or self.dwell_bars < 0:
            raise ValueError("a regime detector needs lengths of at least one bar, and a dwell of at least none")
        if not 0.0 <= self.leave <= self.enter < 1.0 or self.enter < 0.5:
            raise ValueError(f"enter a direction at 0.5 or more, leave it no higher: not {self.enter}, {self.leave}")
        if not 0.0 <= self.low_below <= self.high_above <= 1.0:
            raise ValueError(
                f"volatility is low below {self.low_below} and high above {self.high_above}: no hysteresis"
            )


class RegimeReading(msgspec.Struct, frozen=True):
    """The regime at the close of a bar.

    ``state_probabilities (K,)`` are filtered, in the order of the labels, and empty when not ``known``.
    ``direction`` is an index of (BULL, BEAR, SIDEWAYS, TRANSITION), whose probabilities follow; the eight of the
    scenarios are BULL_LOW, BULL_HIGH, BEAR_LOW, ... ``confidence`` is the largest probability of a direction before
    the rule of TRANSITION, 0 when not ``known``. An UNKNOWN regime reads as TRANSITION in high volatility.
    """

    ts_ns: int
    known: bool
    state_probabilities: tuple[float, ...]
    direction: int
    direction_probabilities: tuple[float, ...]
    high_volatility: bool
    scenario_probabilities: tuple[float, ...]
    confidence: float
    volatility_percentile: float | None = None
    """Share of the trailing forecasts below the latest one; None when not ``known``."""


class RegimeUpdate(msgspec.Struct, frozen=True):
    """What a bar brought: the reading, a fit that fell due, and the activation instant that was missed, if any."""

    reading: RegimeReading
    request: FitRequest | None = None
    breach_ns: int | None = None


class _Memory(msgspec.Struct):
    """Everything that decides what comes next."""

    settings: RegimeSettings
    last_ts_ns: int | None = None
    rows: int = 0
    bars_to_fit: int = 0
    awaited_ns: int | None = None
    arrived_ns: int | None = None
    arrived: bytes = b""
    active: bytes = b""
    reference: bytes | None = None
    held: int = _NO_DIRECTION
    held_bars: int = 0
    high: bool = False
    observer: list[float] = []
    hmm: list[float] = []
    variance: list[float] = []
    ts: bytes = b""
    kept: bytes = b""


# --- the detector ----------------------------------------------------------------------------------------------------


class NoLookAheadRegimeDetector:
    """Tells the regime of a market from the log returns of its index, one closed bar at a time.

    ``push`` takes a bar and returns a ``RegimeUpdate``. When that carries a request, someone runs
    ``fit_regime(request.to_bytes())`` and hands the bytes to ``apply`` with the request's activation instant.
    """

    def __init__(self, settings: RegimeSettings | None = None) -> None:
        self.settings = settings or RegimeSettings()
        self._memory = _Memory(self.settings, bars_to_fit=self.settings.first_fit_bars)
        s = self.settings
        self._observation = RegimeObservation(s.volatility_bars, s.trend_bars, returns="returns")
        self._observation_params = self._observation.params_array()
        self._observer = self._observation.initial()
        # Rows lie one after another in a buffer of two windows; when it is full, the last window moves to the front.
        self._ts: Ints = np.zeros(2 * s.window_bars, dtype=np.int64)
        self._rows: Floats = np.zeros((2 * s.window_bars, _FEATURES + 1))  # observation, variance forecast
        self._end = 0
        self._filter: HmmFilter | None = None
        self._shares: Floats = np.zeros((0, 3))
        self._pattern: Floats = np.ones(1)
        self._variance: tuple[Fold, Floats, Floats] | None = None

    def push(self, ts_ns: int, index_return: float) -> RegimeUpdate:
        """Take the bar that ends at ``ts_ns``, and the log return of the index over it.

        A return that is not finite is a bar that was not seen. Raises ``ValueError`` when time does not advance.
        """
        memory = self._memory
        if memory.last_ts_ns is not None and ts_ns <= memory.last_ts_ns:
            raise ValueError(f"bars must follow each other: {ts_ns} comes after {memory.last_ts_ns}")
        memory.last_ts_ns = ts_ns
        defined = self._observe(ts_ns, index_return)
        breach_ns, rerun = self._take_over(ts_ns)
        probabilities: Floats | None = None
        if rerun is not None:
            probabilities = rerun if defined else None
        elif defined and self._filter is not None:
            probabilities = self._filter.push(self._rows[self._end - 1, :_FEATURES])
            self._forecast(self._end - 1, self._end)
        reading = self._unknown(ts_ns) if probabilities is None else self._read(ts_ns, probabilities)
        return RegimeUpdate(reading, self._fit_due(ts_ns) if defined else None, breach_ns)

    def apply(self, parameters: bytes, activation_ns: int) -> bool:
        """Take the bytes of a fit, to be used from the first bar that ends at ``activation_ns`` or later.

        False when that bar has passed already: the fit came too late and is not used. Raises ``ValueError`` when the
        bytes are no ``RegimeModel``.
        """
        RegimeModel.from_bytes(parameters)
        memory = self._memory
        if memory.last_ts_ns is not None and activation_ns <= memory.last_ts_ns:
            return False
        memory.arrived_ns, memory.arrived = activation_ns, parameters
        return True

    # --- bars and fits

    def _observe(self, ts_ns: int, index_return: float) -> bool:
        out = np.empty(_FEATURES)
        if not math.isfinite(index_return):
            return False
        advance(self._observation.step, self._observer, self._observation_params, np.array([index_return]), out)
        if not bool(np.isfinite(out).all()):
            return False
        window = self.settings.window_bars
        if self._end == 2 * window:
            self._ts[:window], self._rows[:window] = self._ts[window:], self._rows[window:]
            self._end = window
        self._ts[self._end] = ts_ns
        self._rows[self._end, :_FEATURES] = out
        self._rows[self._end, _FEATURES] = math.nan
        self._end += 1
        self._memory.rows += 1
        self._memory.bars_to_fit -= 1
        return True

    def _window(self) -> slice:
        return slice(max(0, self._end - self.settings.window_bars), self._end)

    def _take_over(self, ts_ns: int) -> tuple[int | None, Floats | None]:
        """The activation that was missed, and the last row of the filter when new parameters have just taken over."""
        memory = self._memory
        rerun, breach_ns = None, None
        if memory.arrived_ns is not None and memory.arrived_ns <= ts_ns:
            if memory.awaited_ns == memory.arrived_ns:
                memory.awaited_ns = None
            memory.active, memory.arrived, memory.arrived_ns = memory.arrived, b"", None
            self._install()
            rerun = self._rerun()
        if memory.awaited_ns is not None and memory.awaited_ns <= ts_ns:
            breach_ns, memory.awaited_ns = memory.awaited_ns, None
            memory.bars_to_fit = self.settings.retry_bars
        return breach_ns, rerun

    def _fit_due(self, ts_ns: int) -> FitRequest | None:
        memory, s = self._memory, self.settings
        if memory.bars_to_fit > 0 or memory.awaited_ns is not None:
            return None
        memory.bars_to_fit = s.refit_bars
        memory.awaited_ns = ts_ns + s.activation_lag_bars * s.bar_ns
        window = self._window()
        return FitRequest(
            end_ns=ts_ns,
            activation_ns=memory.awaited_ns,
            bar_ns=s.bar_ns,
            states=s.states,
            seed=s.seed,
            restarts=s.first_restarts if memory.reference is None else s.later_restarts,
            ts=self._ts[window].tobytes(),
            features=self._rows[window, :_FEATURES].tobytes(),
            moves=self._rows[window, 0].tobytes(),
            warm=memory.reference,
        )

    def _install(self) -> None:
        """Make the filters of the active parameters, if there are any, at their start."""
        self._filter, self._variance = None, None
        if not self._memory.active:
            return
        model = RegimeModel.from_bytes(self._memory.active)
        slots = slots_in_week(self.settings.bar_ns)
        if model.hmm is None or len(model.week_pattern) != slots:
            return
        parameters = HmmParameters.from_bytes(model.hmm)
        if parameters.features != _FEATURES:
            return
        self._memory.reference = model.hmm
        self._filter = HmmFilter(parameters)
        means, deviations = parameters.raw_means()[:, 2].tolist(), parameters.raw_deviations()[:, 2].tolist()
        threshold = self.settings.trend_threshold
        self._shares = np.array([_split(m, d, threshold) for m, d in zip(means, deviations, strict=True)])
        self._pattern = np.array(model.week_pattern)
        fold = model.garch.fold()
        self._variance = (fold, fold.params_array(), fold.initial())

    def _rerun(self) -> Floats | None:
        """Both filters from the start of the window; the filtered row of its last bar."""
        window = self._window()
        if self._filter is None or window.start == window.stop:
            return None
        last: Floats = self._filter.scan(np.ascontiguousarray(self._rows[window, :_FEATURES]))[-1]
        self._forecast(window.start, window.stop)
        return last

    def _forecast(self, start: int, stop: int) -> None:
        """Fill in the forecasts of the next bar's variance, the week's pattern aside, for rows ``[start, stop)``."""
        if self._variance is None:
            return
        fold, params, state = self._variance
        usual = self._rows[start:stop, 0] / self._pattern[week_slots(self._ts[start:stop], self.settings.bar_ns)]
        if stop - start == 1:  # the same numbers as scan, without the way into its compiled loop
            advance(fold.step, state, params, usual, self._rows[start, _FEATURES:])
        else:
            self._rows[start:stop, _FEATURES] = scan(fold, state, usual[:, None])[:, 0]

    # --- readings

    def _unknown(self, ts_ns: int) -> RegimeReading:
        return RegimeReading(ts_ns, False, (), TRANSITION, _UNKNOWN, True, _scenarios(_UNKNOWN, True), 0.0)

    def _read(self, ts_ns: int, probabilities: Floats) -> RegimeReading:
        percentile = self._percentile()
        if percentile is None or not bool(np.isfinite(probabilities).all()):
            return self._unknown(ts_ns)
        s, memory = self.settings, self._memory
        memory.high = percentile > s.high_above or (memory.high and percentile >= s.low_below)
        directions = self._directions(probabilities)
        self._hold(directions)
        settled = memory.held != _NO_DIRECTION and memory.held_bars >= s.dwell_bars
        masses = (*directions, 0.0) if settled else _UNKNOWN
        return RegimeReading(
            ts_ns,
            True,
            tuple(probabilities.tolist()),
            memory.held if settled else TRANSITION,
            masses,
            memory.high,
            _scenarios(masses, memory.high),
            max(directions),
            percentile,
        )

    def _directions(self, probabilities: Floats) -> tuple[float, ...]:
        trend_t = float(self._rows[self._end - 1, 2])
        seen = _split(trend_t, 1.0, self.settings.trend_threshold)
        of_states = (probabilities[:, None] * self._shares).sum(axis=0).tolist()
        joint = [a * b for a, b in zip(of_states, seen, strict=True)]
        total = sum(joint)
        return tuple(each / total for each in joint) if total > 0.0 else seen

    def _hold(self, directions: tuple[float, ...]) -> None:
        """Enter above one probability, leave below a smaller one."""
        memory = self._memory
        memory.held_bars += 1
        if memory.held != _NO_DIRECTION and directions[memory.held] >= self.settings.leave:
            return
        likeliest = directions.index(max(directions))
        memory.held = likeliest if directions[likeliest] > self.settings.enter else _NO_DIRECTION
        memory.held_bars = 0

    def _percentile(self) -> float | None:
        start = max(self._window().start, self._end - self.settings.percentile_bars)
        forecasts = self._rows[start : self._end, _FEATURES]
        latest = forecasts[-1]
        return float((forecasts < latest).mean()) if math.isfinite(latest) else None

    # --- state

    def dump(self) -> bytes:
        """Everything that decides what comes next; a detector that loads it goes on bit for bit."""
        memory, window = self._memory, self._window()
        memory.observer = self._observer.tolist()
        memory.hmm = self._filter.dump() if self._filter is not None else []
        memory.variance = self._variance[2].tolist() if self._variance is not None else []
        memory.ts = self._ts[window].tobytes()
        memory.kept = self._rows[window].tobytes()
        return msgspec.msgpack.encode(memory)

    def load(self, state: bytes) -> None:
        """Continue from a dumped state. Raises ``ValueError`` when it is not that of a detector of these settings."""
        try:
            memory = msgspec.msgpack.decode(state, type=_Memory)
        except msgspec.DecodeError as error:
            raise ValueError(f"these bytes are no state of a regime detector: {error}") from None
        if memory.settings != self.settings:
            raise ValueError("the state of a regime detector of other settings cannot be continued")
        self._memory = memory
        self._observer[:] = memory.observer
        self._end = len(memory.ts) // 8
        self._ts[: self._end] = np.frombuffer(memory.ts, dtype=np.int64)
        self._rows[: self._end] = np.frombuffer(memory.kept).reshape(self._end, _FEATURES + 1)
        self._install()
        if self._filter is not None:
            self._filter.load(memory.hmm)
        if self._variance is not None:
            self._variance[2][:] = memory.variance


def _split(mean: float, deviation: float, threshold: float) -> tuple[float, float, float]:
    """How much of a normal distribution lies above the threshold, below its negative, and between."""
    above = 0.5 * math.erfc((threshold - mean) / deviation / math.sqrt(2.0))
    below = 0.5 * math.erfc((threshold + mean) / deviation / math.sqrt(2.0))
    return above, below, max(0.0, 1.0 - above - below)


def _scenarios(directions: tuple[float, ...], high: bool) -> tuple[float, ...]:
    return tuple(mass if half == high else 0.0 for mass in directions for half in (False, True))
