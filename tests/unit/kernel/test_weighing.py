"""Weights of a book without a regime: an optimum is taken, and where there is none what is held stays and is told."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.kernel.worlds import BTC, ETH, contract
from tidegate.domain.ids import StrategyId
from tidegate.domain.market import HOUR_NS
from tidegate.kernel.settings import WeighingSettings
from tidegate.kernel.weighing import Candidate, Weighing
from tidegate.portfolio.construction import Wish
from tidegate.risk.view import RiskLimits

SETTINGS = WeighingSettings(HOUR_NS, detector=None, warmup_bars=20)


def warmed() -> Weighing:
    listed = {name: contract(name) for name in (BTC, ETH)}
    weighing, rng = Weighing(SETTINGS, RiskLimits(), listed, {StrategyId("s"): "own"}), np.random.default_rng(1)
    price = np.array([100.0, 50.0])
    for bar in range(1, 60):
        price = price * np.exp(rng.normal(0.0, 0.01, 2))
        weighing.read(bar * HOUR_NS, dict(zip((BTC, ETH), price.tolist(), strict=True)), [])
    return weighing


def candidates(held: float) -> list[Candidate]:
    return [
        Candidate(BTC, [Wish(1.0, 90.0, 0.5)], 100.0, held),
        Candidate(ETH, [Wish(-0.5, None, 0.5)], 50.0, 0.0),
    ]


def test_weights_are_on_the_side_of_their_wishes_and_within_the_limit() -> None:
    weighing = warmed()
    found = weighing.weigh(candidates(0.0), 1.0)
    assert 0.0 < found[BTC].weight <= 0.25
    assert -0.25 <= found[ETH].weight < 0.0
    assert (found[BTC].conviction, found[ETH].conviction, found[BTC].stop) == (1.0, -0.5, 90.0)
    assert weighing.trouble == ""


def test_without_an_optimum_what_is_held_stays_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    weighing = warmed()
    solve = weighing._optimizer.solve

    monkeypatch.setattr(
        weighing._optimizer, "solve", lambda *a, **k: replace(solve(*a, **k), status="nearest_feasible")
    )
    found = weighing.weigh(candidates(0.1), 1.0)
    assert (found[BTC].weight, found[ETH].weight) == (0.1, 0.0)
    assert weighing.trouble == "no optimum (nearest_feasible)"
