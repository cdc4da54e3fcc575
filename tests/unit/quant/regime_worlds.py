"""Worlds for the tests of regimes: planted ones whose truth is known, real bars, and fits that are made once."""

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tidegate.quant.fold import scan
from tidegate.quant.hmm import HmmParameters
from tidegate.quant.hmm_fit import HmmFit, fit_hmm
from tidegate.quant.regime import NoLookAheadRegimeDetector, RegimeSettings, RegimeUpdate
from tidegate.quant.regime_fit import RegimeModel, fit_regime
from tidegate.quant.regime_observation import RegimeObservation
from tidegate.quant.volatility import GarchParameters

BAR_NS = 4 * 3600 * 1_000_000_000
VOLATILITIES = np.array([0.01, 0.02, 0.04])
MEAN_STAY_BARS = 50


def planted(seed: int, bars: int) -> tuple[np.ndarray, np.ndarray]:
    """True states (calm, middle, wild) and the observations of the returns that they make, warm-up cut off."""
    rng = np.random.default_rng(seed)
    states = np.empty(bars, dtype=int)
    states[0] = rng.integers(3)
    for t in range(1, bars):
        stays = rng.random() > 1.0 / MEAN_STAY_BARS
        states[t] = states[t - 1] if stays else (states[t - 1] + rng.integers(1, 3)) % 3
    fold = RegimeObservation(12, 60, returns="returns")
    returns = rng.normal(0.0, 1.0, bars) * VOLATILITIES[states]
    rows = scan(fold, fold.initial(), returns[:, None])
    return states[fold.warmup_bars - 1 :], np.ascontiguousarray(rows[fold.warmup_bars - 1 :])


@cache
def planted_fit() -> tuple[HmmFit, np.ndarray]:
    """One fit to a planted world, and its rows."""
    _, rows = planted(1, 2_000)
    return fit_hmm(rows, 3, seed=1, restarts=2), rows


@cache
def fitted_regime(request: bytes) -> bytes:
    """``fit_regime``, each request once: it is a pure function."""
    return fit_regime(request)


def real_bars(shared: Path, symbol: str = "BTCUSDT") -> tuple[list[int], list[float]]:
    """Ends and log returns of the 4h bars of a perpetual."""
    table = pq.read_table(shared / "data" / "um" / symbol / "4h.parquet", columns=["open_time", "close"])
    ts_ns = table["open_time"].to_numpy()[1:] * 1_000_000 + BAR_NS
    return ts_ns.tolist(), np.diff(np.log(table["close"].to_numpy())).tolist()


SMALL = RegimeSettings(
    window_bars=1_200,
    first_fit_bars=600,
    refit_bars=300,
    percentile_bars=900,
    volatility_bars=24,
    trend_bars=90,
    first_restarts=2,
    later_restarts=1,
)
"""A detector that is quick to run and does everything that the large one does."""


def run(
    detector: NoLookAheadRegimeDetector, ts_ns: list[int], returns: list[float], *, fits: bool = True
) -> list[RegimeUpdate]:
    """Push bars, and answer each request at once."""
    updates = []
    for at, move in zip(ts_ns, returns, strict=True):
        update = detector.push(at, move)
        if fits and update.request is not None:
            assert detector.apply(fitted_regime(update.request.to_bytes()), update.request.activation_ns)
        updates.append(update)
    return updates


def hand_made(garch: GarchParameters | None = None) -> bytes:
    """A model that nobody fitted: a market that falls, one that stands, one that rises."""
    stay = np.full((3, 3), 0.02) + 0.94 * np.eye(3)
    parameters = HmmParameters.plain(
        [0.2, 0.6, 0.2],
        stay,
        [[-0.004, -4.0, -2.0], [0.0, -4.6, 0.0], [0.004, -4.3, 2.0]],
        [[4e-4, 0.3, 1.0], [1e-4, 0.3, 0.5], [2e-4, 0.3, 1.0]],
    )
    variance = garch or GarchParameters.ewma(0.9, 1e-4)
    return RegimeModel(parameters.to_bytes(), "", variance, (1.0,) * 42).to_bytes()
