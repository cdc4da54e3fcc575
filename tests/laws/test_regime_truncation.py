"""The law of truncation for regimes: whatever follows t, every answer up to t is the same, bit for bit.

Real bars, real fits: what follows a cut is left out, turned upside down, made wild, or told with another spacing.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from threadpoolctl import threadpool_limits

from tests.unit.quant.regime_worlds import BAR_NS, SMALL, real_bars, run
from tidegate.quant.hmm import HmmFilter, HmmParameters
from tidegate.quant.regime import NoLookAheadRegimeDetector, RegimeUpdate

BARS = 2_400
CUTS = 50
TAIL_BARS = 25

Tail = Callable[[list[int], list[float]], tuple[list[int], list[float]]]

TAILS: dict[str, Tail] = {
    "nothing": lambda ts_ns, returns: ([], []),
    "upside down": lambda ts_ns, returns: (ts_ns, [-move for move in returns]),
    "wild": lambda ts_ns, returns: (ts_ns, [move * 1e3 for move in returns]),
    "gone": lambda ts_ns, returns: (ts_ns, [float("nan")] * len(returns)),
    "later": lambda ts_ns, returns: ([at + 1_000 * BAR_NS for at in ts_ns], returns),
}


@pytest.fixture(scope="module")
def bars(shared: Path) -> tuple[list[int], list[float]]:
    ts_ns, returns = real_bars(shared)
    return ts_ns[2_000 : 2_000 + BARS], returns[2_000 : 2_000 + BARS]


@pytest.fixture(scope="module")
def whole(bars: tuple[list[int], list[float]]) -> list[RegimeUpdate]:
    return run(NoLookAheadRegimeDetector(SMALL), *bars)


def as_bytes(updates: list[RegimeUpdate]) -> list[bytes]:
    return [msgspec.msgpack.encode(update) for update in updates]


def test_what_is_compared_says_something(whole: list[RegimeUpdate]) -> None:
    known = [update.reading for update in whole if update.reading.known]
    assert len(known) >= BARS / 2
    assert {reading.direction for reading in known} == {0, 1, 2, 3}
    assert {reading.high_volatility for reading in known} == {False, True}
    assert len({reading.state_probabilities for reading in known}) > 0.9 * len(known)
    assert sum(update.request is not None for update in whole) >= 5


def test_no_answer_depends_on_what_comes_after_it(
    bars: tuple[list[int], list[float]], whole: list[RegimeUpdate]
) -> None:
    ts_ns, returns = bars
    expected = as_bytes(whole)
    cuts = np.random.default_rng(17).integers(1, BARS - TAIL_BARS, CUTS).tolist()
    for number, t in enumerate(cuts):
        tail = list(TAILS.values())[number % len(TAILS)]
        more_ts, more = tail(ts_ns[t : t + TAIL_BARS], returns[t : t + TAIL_BARS])
        got = run(NoLookAheadRegimeDetector(SMALL), ts_ns[:t] + more_ts, returns[:t] + more)
        assert as_bytes(got[:t]) == expected[:t], t


def test_the_law_bites_on_smoothed_probabilities(whole: list[RegimeUpdate]) -> None:
    """The library's answer over a sequence moves when the sequence goes on; the filter's does not."""
    request = next(update.request for update in whole if update.request is not None and update.request.warm)
    assert request.warm is not None
    parameters = HmmParameters.from_bytes(request.warm)
    model = GaussianHMM(parameters.states, "full")
    model.startprob_, model.transmat_ = parameters.start, parameters.transition
    model.means_, model.covars_ = parameters.means, parameters.covariances
    rows = request.observations[:600]
    standard = parameters.standardised(rows)
    cuts = range(100, 600, 10)
    with threadpool_limits(1):
        whole_sequence = model.predict_proba(standard)
        at_the_cut = np.array([model.predict_proba(standard[:t])[-1] for t in cuts])
    assert np.abs(whole_sequence[[t - 1 for t in cuts]] - at_the_cut).max() > 0.1
    filtered = HmmFilter(parameters).scan(rows)
    assert all(HmmFilter(parameters).scan(rows[:t]).tobytes() == filtered[:t].tobytes() for t in cuts)
