"""The allocator: silent at first, sober after, deterministic, and never the giver of more than there is."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.domain.ids import StrategyId
from tidegate.domain.market import DAY_NS
from tidegate.portfolio.allocator import AdaptiveAllocator, AllocatorSettings

NAMES = tuple(StrategyId(name) for name in ("trend", "reversion", "range", "funding"))
METHODS = ("shrinkage", "hedge", "exponentiated_gradient", "thompson")
MATRIX = dict(zip(NAMES, (0.45, 0.05, 0.0, 0.2), strict=True))
EAGER = AllocatorSettings(warmup_days=30, cost_frac=0.0, band=0.0, rate=2.0)


def days(seed: int, count: int, means: tuple[float, ...] = (0.002, 0.0, 0.0, -0.002)) -> np.ndarray:
    return np.random.default_rng(seed).normal(means, 0.01, (count, len(NAMES)))


def fed(allocator: AdaptiveAllocator, table: np.ndarray, first: int = 1) -> AdaptiveAllocator:
    for day, row in enumerate(table, first):
        allocator.record(day * DAY_NS, {n: float(r) for n, r in zip(NAMES, row, strict=True) if not math.isnan(r)})
    return allocator


@pytest.mark.parametrize("method", ["none", *METHODS])
def test_before_the_warm_up_nothing_is_moved(method: Any) -> None:
    allocator = fed(AdaptiveAllocator(NAMES, method, AllocatorSettings(warmup_days=100, cost_frac=0.0)), days(1, 99))
    assert allocator.tilt(MATRIX) == MATRIX
    assert allocator.last is None


def test_none_never_moves() -> None:
    allocator = fed(AdaptiveAllocator(NAMES, settings=EAGER), days(1, 400))
    assert allocator.tilt(MATRIX) == MATRIX


@pytest.mark.parametrize("method", METHODS)
def test_what_earns_gets_more_and_what_loses_less(method: Any) -> None:
    allocator = fed(AdaptiveAllocator(NAMES, method, EAGER), days(1, 700))
    weights, tilted = allocator.weights, allocator.tilt(MATRIX)
    assert weights[NAMES[0]] > 0.25 > weights[NAMES[3]]
    assert tilted[NAMES[0]] / MATRIX[NAMES[0]] > tilted[NAMES[3]] / MATRIX[NAMES[3]]
    assert tilted[NAMES[2]] == 0.0  # the matrix has it at zero
    assert math.fsum(tilted.values()) <= math.fsum(MATRIX.values()) + 1e-15
    assert max(weights.values()) <= 0.4 + 1e-12


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(METHODS), st.integers(0, 999), st.lists(st.floats(0.0, 0.25), min_size=4, max_size=4),
    st.floats(0.0, 1.0),
)  # fmt: skip
def test_the_sum_never_grows_and_nothing_is_negative(method: Any, seed: int, row: list[float], strength: float) -> None:
    chosen = AllocatorSettings(warmup_days=20, cost_frac=0.0, band=0.0, rate=2.0, strength=strength, draws=50)
    allocator = fed(AdaptiveAllocator(NAMES, method, chosen), days(seed, 40, (0.004, -0.004, 0.0, 0.001)))
    weights = dict(zip(NAMES, row, strict=True))
    tilted = allocator.tilt({**weights, StrategyId("other"): 0.1})
    assert tilted.pop(StrategyId("other")) == 0.1
    assert math.fsum(tilted.values()) <= math.fsum(row) + 1e-12
    assert min(tilted.values()) >= 0.0
    assert math.fsum(allocator.weights.values()) <= 1.0 + 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_what_follows_changes_nothing_before(method: Any) -> None:
    def outputs(table: np.ndarray) -> list[tuple[float, ...]]:
        allocator = AdaptiveAllocator(NAMES, method, EAGER)
        found = []
        for day, row in enumerate(table, 1):
            allocator.record(day * DAY_NS, dict(zip(NAMES, row.tolist(), strict=True)))
            found.append((*allocator.weights.values(), *allocator.tilt(MATRIX).values()))
        return found

    table = days(2, 120)
    other = np.vstack([table[:80], -3.0 * table[80:100]])
    assert outputs(table)[:80] == outputs(other)[:80]
    assert outputs(table)[80:100] != outputs(other)[80:]


@pytest.mark.parametrize("method", METHODS)
def test_a_dump_goes_on_bit_for_bit(method: Any) -> None:
    table = days(3, 120)
    table[10:20, 1] = math.nan
    whole = fed(AdaptiveAllocator(NAMES, method, EAGER), table)
    first = fed(AdaptiveAllocator(NAMES, method, EAGER), table[:70])
    second = AdaptiveAllocator(NAMES, method, EAGER)
    second.load(json.loads(json.dumps(first.dump())))
    fed(second, table[70:], first=71)
    assert second.dump() == whole.dump()
    assert second.last == whole.last


def test_a_dump_of_others_is_refused() -> None:
    state = AdaptiveAllocator(NAMES, "hedge").dump()
    with pytest.raises(ValueError, match="is hedge of trend reversion range funding, not thompson"):
        AdaptiveAllocator(NAMES, "thompson").load(state)
    with pytest.raises(ValueError, match="not hedge of trend"):
        AdaptiveAllocator(NAMES[:1], "hedge").load(state)


# ---- the rule by which weights are taken over ------------------------------------------------------------------------


def test_both_figures_of_the_rule_are_kept() -> None:
    allocator = fed(AdaptiveAllocator(NAMES, "shrinkage", EAGER), days(1, 30))
    step = allocator.last
    assert step is not None
    assert step.taken
    assert step.day_ns == 30 * DAY_NS
    moved = np.array(step.proposed) - 0.25
    assert step.deviation == pytest.approx(np.abs(moved).sum() / 2.0)
    assert step.cost == 0.0
    assert step.expected_gain > 0.0
    assert tuple(allocator.weights.values()) == step.proposed


@pytest.mark.parametrize(("change", "taken"), [({}, True), ({"cost_frac": 0.5}, False), ({"band": 0.9}, False)])
def test_weights_are_taken_when_the_gain_pays_and_they_are_far_enough(change: dict[str, float], taken: bool) -> None:
    chosen = AllocatorSettings(warmup_days=30, **({"cost_frac": 0.0, "band": 0.0} | change))  # type: ignore[arg-type]
    allocator = fed(AdaptiveAllocator(NAMES, "shrinkage", chosen), days(1, 30))
    assert allocator.last is not None
    assert allocator.last.taken is taken
    assert (set(allocator.weights.values()) != {0.25}) is taken


def test_the_horizon_decides_whether_a_cost_pays() -> None:
    def step(horizon: float, cost: float) -> Any:
        chosen = AllocatorSettings(warmup_days=300, horizon_days=horizon, cost_frac=cost, band=0.0)
        return fed(AdaptiveAllocator(NAMES, "shrinkage", chosen), days(1, 300)).last

    base = step(30.0, 0.001)
    assert step(60.0, 0.001).expected_gain == pytest.approx(2.0 * base.expected_gain)
    assert base.cost == pytest.approx(0.001 * 2.0 * base.deviation)
    per_unit = base.expected_gain / (2.0 * base.deviation)
    assert step(30.0, per_unit * 0.999).taken
    assert not step(30.0, per_unit * 1.001).taken


def test_expected_returns_are_sharpe_ratios_shrunk_twice() -> None:
    """Recomputed from the definition: to the common mean with tau 0.5, and that to the prior of 0.25."""
    table = days(4, 200)
    allocator = fed(AdaptiveAllocator(NAMES, "shrinkage", EAGER), table)
    decay = 0.5 ** (np.arange(199, -1, -1) / 180.0)
    mean = decay @ table / decay.sum()
    deviation = np.sqrt(decay @ table**2 / decay.sum() * 365.0)
    years = decay.sum() ** 2 / (decay**2).sum() / 365.0
    seen = mean * 365.0 / deviation
    common = (0.25 / 0.25 + seen.mean() * years) / (1.0 / 0.25 + years)
    shrunk = (common / 0.25 + seen * years) / (1.0 / 0.25 + years)
    assert allocator._expected() == pytest.approx(shrunk * deviation / 365.0, rel=1e-9)


def test_a_strategy_that_was_never_there_keeps_its_equal_share() -> None:
    table = days(5, 60)
    table[:, 2] = math.nan
    uncapped = AllocatorSettings(warmup_days=30, cap=1.0)
    for method in ("shrinkage", "thompson"):
        allocator = fed(AdaptiveAllocator(NAMES, method, uncapped), table)  # type: ignore[arg-type]
        assert allocator.last is not None
        assert allocator.last.proposed[2] == 0.25


def test_thompson_depends_on_its_seed_and_the_day_alone() -> None:
    first, again = (fed(AdaptiveAllocator(NAMES, "thompson", EAGER), days(6, 60)).last for _ in range(2))
    other = fed(
        AdaptiveAllocator(NAMES, "thompson", AllocatorSettings(warmup_days=30, cost_frac=0.0, band=0.0, seed=8)),
        days(6, 60),
    ).last
    assert first == again != other


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day_ns", "returns", "message"),
    [
        (DAY_NS + 1, {}, "ends at a UTC midnight after"),
        (0, {}, "ends at a UTC midnight after"),
        (DAY_NS, {"trent": 0.1}, "no strategy is called trent; there is trend"),
        (DAY_NS, {"trend": -1.0}, "a number above -1"),
        (DAY_NS, {"trend": math.nan}, "a number above -1"),
    ],
)
def test_records_that_are_none(day_ns: int, returns: dict[Any, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaptiveAllocator(NAMES).record(day_ns, returns)


def test_a_day_comes_once() -> None:
    allocator = AdaptiveAllocator(NAMES)
    allocator.record(2 * DAY_NS, {})
    for day in (1, 2):
        with pytest.raises(ValueError, match="after 172800000000000, not at"):
            allocator.record(day * DAY_NS, {})


def test_settings_that_are_none() -> None:
    with pytest.raises(ValueError, match="method is one of none shrinkage hedge"):
        AdaptiveAllocator(NAMES, "best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="names differ, not a a"):
        AdaptiveAllocator([StrategyId("a")] * 2)
    with pytest.raises(ValueError, match=r"half_life_days must lie in \[180.0, inf\], not 90"):
        AdaptiveAllocator(NAMES, settings=AllocatorSettings(half_life_days=90.0))
