"""The regime detector: its rules against the same in plain Python, activation and breach, state, fits as bytes."""

import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import msgspec
import numpy as np
import pytest
from scipy.stats import norm

from tests.unit.quant.regime_worlds import BAR_NS, SMALL, VOLATILITIES, fitted_regime, hand_made, run
from tidegate.quant.fold import scan
from tidegate.quant.hmm import HmmFilter, HmmParameters
from tidegate.quant.indicators import RealizedVol
from tidegate.quant.regime import (
    BEAR,
    BULL,
    SIDEWAYS,
    TRANSITION,
    NoLookAheadRegimeDetector,
    RegimeReading,
    RegimeSettings,
    RegimeUpdate,
)
from tidegate.quant.regime_fit import FitRequest, RegimeModel, fit_regime, week_pattern, week_slots
from tidegate.quant.regime_observation import RegimeObservation
from tidegate.quant.volatility import GarchParameters, conditional_variances

QUICK = RegimeSettings(
    window_bars=400, first_fit_bars=300, refit_bars=100, percentile_bars=200, volatility_bars=12, trend_bars=30
)


def market(bars: int, seed: int = 0) -> tuple[list[int], list[float]]:
    """Rises, stands and falls in turn, with calm and wild stretches."""
    rng = np.random.default_rng(seed)
    drift = np.array([0.004, 0.0, -0.004, 0.0])[(np.arange(bars) // 60) % 4]
    spread = VOLATILITIES[(np.arange(bars) // 45) % 3]
    return [BAR_NS * (t + 1) for t in range(bars)], (drift + spread * rng.normal(0.0, 0.7, bars)).tolist()


def under_hand_made(bars: int, model: bytes) -> list[RegimeUpdate]:
    """Readings of a detector whose parameters were there before the first bar, and whose requests nobody answers."""
    detector = NoLookAheadRegimeDetector(QUICK)
    assert detector.apply(model, BAR_NS)
    ts_ns, returns = market(bars)
    return run(detector, ts_ns, returns, fits=False)


@pytest.fixture(scope="module")
def updates() -> list[RegimeUpdate]:
    ts_ns, returns = market(1_500)
    return run(NoLookAheadRegimeDetector(SMALL), ts_ns, returns)


def known(updates: list[RegimeUpdate]) -> Iterator[RegimeReading]:
    return (update.reading for update in updates if update.reading.known)


# --- the observation -------------------------------------------------------------------------------------------------


def test_the_observation_is_return_volatility_and_trend() -> None:
    _, returns = market(80)
    fold = RegimeObservation(12, 30, returns="returns")
    rows = scan(fold, fold.initial(), np.array(returns)[:, None])
    assert np.isnan(rows[:29]).all()
    for t in range(29, 80):
        short, trend = np.array(returns[t - 11 : t + 1]), np.array(returns[t - 29 : t + 1])
        expected = [returns[t], math.log(math.sqrt((short**2).mean()))]
        expected.append(trend.mean() / (trend.std(ddof=1) / math.sqrt(30)))
        assert rows[t] == pytest.approx(expected, rel=1e-10)


def test_prices_are_observed_by_their_log_returns() -> None:
    prices = 100.0 * np.exp(np.cumsum(market(80)[1]))
    fold, direct = RegimeObservation(12, 30), RegimeObservation(12, 30, returns="returns")
    rows = scan(fold, fold.initial(), prices[:, None])[1:]
    np.testing.assert_allclose(rows, scan(direct, direct.initial(), np.diff(np.log(prices))[:, None]), rtol=1e-9)


def test_a_market_that_does_not_move_is_not_observed() -> None:
    fold = RegimeObservation(5, 10)
    assert np.isnan(scan(fold, fold.initial(), np.full((40, 1), 100.0))).all()
    with pytest.raises(ValueError, match="trend_bars must be a whole number of at least 2"):
        RegimeObservation(5, 1)


# --- the rules -------------------------------------------------------------------------------------------------------


def test_readings_are_what_the_rules_say_in_plain_python() -> None:
    garch = GarchParameters("garch", 0.0, 1e-6, 0.1, 0.0, 0.85, math.nan, 2e-4)
    model = RegimeModel.from_bytes(hand_made(garch))
    assert model.hmm is not None
    parameters = HmmParameters.from_bytes(model.hmm)
    ts_ns, returns = market(700)
    fold = RegimeObservation(QUICK.volatility_bars, QUICK.trend_bars, returns="returns")
    rows = scan(fold, fold.initial(), np.array(returns)[:, None])
    first = fold.warmup_bars - 1
    states = HmmFilter(parameters).scan(rows)
    forecasts = conditional_variances(np.array(returns[first:]), garch)[1:]
    c = QUICK.trend_threshold

    def split(mean: np.ndarray, sd: np.ndarray | float) -> np.ndarray:
        above, below = norm.sf((c - mean) / sd), norm.cdf((-c - mean) / sd)
        return np.array([above, below, 1.0 - above - below])

    shares = split(parameters.raw_means()[:, 2], parameters.raw_deviations()[:, 2])
    held, age, high = None, 0, False
    seen: set[tuple[int, bool]] = set()
    for t, update in enumerate(under_hand_made(700, hand_made(garch))):
        reading = update.reading
        assert (reading.ts_ns, reading.known) == (ts_ns[t], t >= first)
        if t < first:
            continue
        joint = (shares @ states[t]) * split(rows[t, 2], 1.0)
        directions = joint / joint.sum()
        age += 1
        if held is None or directions[held] < 0.4:
            held, age = (int(directions.argmax()), 0) if directions.max() > 0.6 else (None, 0)
        direction = TRANSITION if held is None or age < QUICK.dwell_bars else held
        masses = [0.0, 0.0, 0.0, 1.0] if direction == TRANSITION else [*directions, 0.0]
        window = forecasts[max(0, t - first - QUICK.percentile_bars + 1) : t - first + 1]
        percentile = float((window < window[-1]).mean())
        high = percentile > 0.7 if not high else percentile >= 0.6
        assert reading.state_probabilities == pytest.approx(tuple(states[t]), abs=1e-12)
        assert (reading.direction, reading.high_volatility) == (direction, high), t
        assert reading.direction_probabilities == pytest.approx(masses, abs=1e-9)
        assert reading.volatility_percentile == pytest.approx(percentile)
        assert reading.confidence == pytest.approx(float(directions.max()), abs=1e-9)
        seen.add((direction, high))
    assert {direction for direction, _ in seen} == {BULL, BEAR, SIDEWAYS, TRANSITION}
    assert {high for _, high in seen} == {False, True}


def test_scenarios_split_the_directions_by_the_one_volatility(updates: list[RegimeUpdate]) -> None:
    for reading in known(updates):
        low, high = reading.scenario_probabilities[::2], reading.scenario_probabilities[1::2]
        assert (high if reading.high_volatility else low) == reading.direction_probabilities
        assert sum(low if reading.high_volatility else high) == 0.0
        assert sum(reading.scenario_probabilities) == pytest.approx(1.0)
        assert sum(reading.state_probabilities) == pytest.approx(1.0)


def test_a_direction_dwells_before_it_counts(updates: list[RegimeUpdate]) -> None:
    directions = [reading.direction for reading in known(updates)]
    changes = [t for t, (a, b) in enumerate(pairwise(directions), 1) if a != b]
    assert len(changes) > 5
    for t in changes:
        if directions[t] != TRANSITION:
            assert directions[t - 1] == TRANSITION
    for start in (t for t in changes if directions[t] == TRANSITION):
        stretch = directions[start : start + SMALL.dwell_bars]
        assert stretch == [TRANSITION] * len(stretch)


def test_the_percentile_follows_the_volatility_of_the_market(updates: list[RegimeUpdate]) -> None:
    _, returns = market(1_500)
    fold = RealizedVol(24, returns="log")
    realized = scan(fold, fold.initial(), np.exp(np.cumsum(returns))[:, None])[:, 0]
    told = [(u.reading.volatility_percentile, realized[t]) for t, u in enumerate(updates) if u.reading.known]
    assert np.corrcoef(np.array(told, dtype=float).T)[0, 1] > 0.5


# --- UNKNOWN ---------------------------------------------------------------------------------------------------------


def test_unknown_until_the_first_fit_is_active_and_known_after_it(updates: list[RegimeUpdate]) -> None:
    states = [update.reading.known for update in updates]
    first_known = states.index(True)
    requests = [t for t, update in enumerate(updates) if update.request is not None]
    assert requests[0] == SMALL.first_fit_bars + SMALL.trend_bars - 2
    assert first_known == requests[0] + SMALL.activation_lag_bars
    assert all(states[first_known:])
    unknown = updates[0].reading
    assert (unknown.direction, unknown.high_volatility, unknown.confidence) == (TRANSITION, True, 0.0)
    assert unknown.scenario_probabilities == (0.0,) * 7 + (1.0,)
    assert unknown.state_probabilities == ()


def test_a_fit_that_says_so_makes_the_regime_unknown() -> None:
    nothing = RegimeModel(None, "no start converged", GarchParameters.ewma(0.97, 1e-4), (1.0,) * 42).to_bytes()
    detector = NoLookAheadRegimeDetector(QUICK)
    ts_ns, returns = market(200)
    detector.apply(hand_made(), ts_ns[0])
    assert run(detector, ts_ns[:100], returns[:100])[-1].reading.known
    detector.apply(nothing, ts_ns[100])
    assert not any(update.reading.known for update in run(detector, ts_ns[100:150], returns[100:150]))
    detector.apply(hand_made(), ts_ns[150])
    assert all(update.reading.known for update in run(detector, ts_ns[150:], returns[150:]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_return_that_is_not_finite_is_unknown_and_did_not_happen(value: float) -> None:
    ts_ns, returns = market(120)
    whole, gapped = NoLookAheadRegimeDetector(QUICK), NoLookAheadRegimeDetector(QUICK)
    for detector in (whole, gapped):
        detector.apply(hand_made(), BAR_NS)
    expected = run(whole, ts_ns, returns)
    got = run(gapped, ts_ns[:80], returns[:80])
    assert not gapped.push(ts_ns[79] + 1, value).reading.known
    got += run(gapped, ts_ns[80:], returns[80:])
    assert got == expected


def test_a_fit_on_a_market_that_cannot_be_fitted_never_raises() -> None:
    settings = msgspec.structs.replace(SMALL, first_fit_bars=100, refit_bars=100)
    ts_ns, returns = market(400)
    detector = NoLookAheadRegimeDetector(settings)
    updates = run(detector, ts_ns, returns)
    requests = [update.request for update in updates if update.request is not None]
    assert len(requests) == 3
    assert "fewer than 500" in RegimeModel.from_bytes(fitted_regime(requests[0].to_bytes())).reason
    assert not any(update.reading.known for update in updates)


# --- activation and breach -------------------------------------------------------------------------------------------


def test_parameters_count_from_their_activation_bar_with_the_filter_run_again(updates: list[RegimeUpdate]) -> None:
    _, returns = market(1_500)
    fold = RegimeObservation(SMALL.volatility_bars, SMALL.trend_bars, returns="returns")
    rows = scan(fold, fold.initial(), np.array(returns)[:, None])
    at = [t for t, update in enumerate(updates) if update.request is not None]
    assert len(at) >= 3
    for t in at:
        request = updates[t].request
        assert request is not None
        assert (request.end_ns, request.activation_ns) == (BAR_NS * (t + 1), BAR_NS * (t + 2))
        start = max(fold.warmup_bars - 1, t + 1 - SMALL.window_bars)
        assert request.observations.tobytes() == rows[start : t + 1].tobytes()
        assert request.returns.tolist() == returns[start : t + 1]
        assert (request.start_ns, request.ts_ns[-1]) == (BAR_NS * (start + 1), BAR_NS * (t + 1))
        model = RegimeModel.from_bytes(fitted_regime(request.to_bytes()))
        assert model.hmm is not None
        start = max(fold.warmup_bars - 1, t + 2 - SMALL.window_bars)
        expected = HmmFilter(HmmParameters.from_bytes(model.hmm)).scan(rows[start : t + 2])[-1]
        assert updates[t + 1].reading.state_probabilities == tuple(expected.tolist())
    assert updates[at[0]].request.warm is None  # type: ignore[union-attr]
    previous = RegimeModel.from_bytes(fitted_regime(updates[at[0]].request.to_bytes()))  # type: ignore[union-attr]
    second = updates[at[1]].request
    assert second is not None
    assert (second.warm, second.restarts) == (previous.hmm, SMALL.later_restarts)


def test_a_late_fit_is_a_breach_and_the_old_parameters_go_on() -> None:
    ts_ns, returns = market(900)
    on_time, late = NoLookAheadRegimeDetector(QUICK), NoLookAheadRegimeDetector(QUICK)
    for detector in (on_time, late):
        detector.apply(hand_made(), BAR_NS)
    first = QUICK.first_fit_bars + QUICK.trend_bars - 2
    run(on_time, ts_ns[:first], returns[:first])
    run(late, ts_ns[:first], returns[:first])
    request = late.push(ts_ns[first], returns[first]).request
    assert request is not None
    missed = late.push(ts_ns[first + 1], returns[first + 1])
    assert (missed.breach_ns, missed.request) == (request.activation_ns, None)
    assert missed.reading.known
    assert late.apply(hand_made(GarchParameters.ewma(0.5, 1e-4)), request.activation_ns) is False
    after = run(late, ts_ns[first + 2 :], returns[first + 2 :], fits=False)
    undisturbed = run(on_time, ts_ns[first:], returns[first:], fits=False)
    assert [missed.reading, *(u.reading for u in after)] == [u.reading for u in undisturbed[1:]]
    again = next(t for t, update in enumerate(after) if update.request is not None)
    assert again == QUICK.retry_bars - 1


def test_a_fit_that_came_in_time_is_no_breach(updates: list[RegimeUpdate]) -> None:
    assert all(update.breach_ns is None for update in updates)


def test_a_missing_activation_bar_leaves_it_to_the_next_one() -> None:
    ts_ns, returns = market(120)
    detector = NoLookAheadRegimeDetector(QUICK)
    run(detector, ts_ns[:100], returns[:100])
    detector.apply(hand_made(), ts_ns[100])
    update = detector.push(ts_ns[105], returns[105])
    assert update.reading.known
    assert update.breach_ns is None


def test_bars_must_follow_each_other_and_settings_fit() -> None:
    detector = NoLookAheadRegimeDetector(QUICK)
    detector.push(10, 0.0)
    with pytest.raises(ValueError, match="bars must follow each other: 10 comes after 10"):
        detector.push(10, 0.0)
    with pytest.raises(ValueError, match="no regime model"):
        detector.apply(b"nothing", 20)
    with pytest.raises(ValueError, match="does not fit a window"):
        RegimeSettings(first_fit_bars=9_000)
    with pytest.raises(ValueError, match="lengths of at least one bar"):
        RegimeSettings(refit_bars=0)
    with pytest.raises(ValueError, match="enter a direction at"):
        RegimeSettings(enter=0.4)
    with pytest.raises(ValueError, match="no hysteresis"):
        RegimeSettings(low_below=0.8)


# --- state -----------------------------------------------------------------------------------------------------------


def test_a_loaded_detector_goes_on_bit_for_bit_from_anywhere(updates: list[RegimeUpdate]) -> None:
    """Before the first fit, when one has come but is not active, once it is, and anywhere else."""
    ts_ns, returns = market(1_500)
    at = next(t for t, update in enumerate(updates) if update.request is not None)
    cuts = {3, at, at + 1, at + 2, *np.random.default_rng(1).integers(5, 1_490, 6).tolist()}
    detector = NoLookAheadRegimeDetector(SMALL)
    for t in range(1_500):
        if t in cuts:
            state = detector.dump()
            detector = NoLookAheadRegimeDetector(SMALL)
            detector.load(state)
            assert detector.dump() == state
        update = run(detector, ts_ns[t : t + 1], returns[t : t + 1])[0]
        assert msgspec.msgpack.encode(update) == msgspec.msgpack.encode(updates[t]), t


def test_a_state_of_something_else_is_refused() -> None:
    detector = NoLookAheadRegimeDetector(QUICK)
    with pytest.raises(ValueError, match="no state of a regime detector"):
        detector.load(b"nothing")
    with pytest.raises(ValueError, match="of other settings"):
        detector.load(NoLookAheadRegimeDetector(SMALL).dump())


# --- fits as bytes ---------------------------------------------------------------------------------------------------


def test_a_process_of_its_own_gives_the_same_bytes(updates: list[RegimeUpdate]) -> None:
    request = next(update.request for update in updates if update.request is not None)
    data = request.to_bytes()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        elsewhere = pool.submit(fit_regime, data).result()
    assert elsewhere == fit_regime(data) == fitted_regime(data)
    assert RegimeModel.from_bytes(elsewhere).hmm is not None


def test_requests_survive_as_bytes_and_others_are_refused(updates: list[RegimeUpdate]) -> None:
    request = next(update.request for update in updates if update.request is not None)
    assert FitRequest.from_bytes(request.to_bytes()) == request
    with pytest.raises(ValueError, match="no request for a fit"):
        fit_regime(b"nothing")


def test_the_week_has_a_pattern() -> None:
    rng = np.random.default_rng(3)
    ts_ns = BAR_NS * np.arange(1, 42 * 100 + 1)
    slots = week_slots(ts_ns, BAR_NS)
    loud = np.where(slots % 6 == 2, 2.0, 1.0)
    pattern = week_pattern(rng.normal(0.0, 0.01, slots.size) * loud, slots, 42)
    quiet, noisy = pattern[np.arange(42) % 6 != 2].mean(), pattern[np.arange(42) % 6 == 2].mean()
    assert 1.4 < noisy / quiet < 2.0  # drawn toward 1 by the clipping and the prior
    assert week_slots([7 * 24 * 3600 * 1_000_000_000], BAR_NS).tolist() == [0]
    assert week_pattern([], np.array([], dtype=np.int64), 42).tolist() == [1.0] * 42
    assert week_pattern(np.zeros(9), np.zeros(9, dtype=np.int64), 1).tolist() == [1.0]
