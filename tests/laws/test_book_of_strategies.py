"""The laws of the whole pipeline: nothing looks ahead, a snapshot goes on bit for bit, and the parts are the whole.

Four strategies with a regime detector, the matrix, the optimiser, every limit of the sizer, the brake and the virtual
ledgers, on an invented market that is long enough for a fit.
"""

from decimal import Decimal
from functools import cache

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.test_truncation import QUICK, Across, Restless, changed, kinds, seeds
from tests.unit.kernel.worlds import BUSY, CAPITAL, Tables, invented, spec
from tidegate.app.backtest import BacktestEngine, BacktestPlan
from tidegate.domain.ledger import EXACT, ZERO
from tidegate.domain.market import HOUR_NS
from tidegate.domain.messages import Event, FitModel, KernelSnapshot, ModelFitted
from tidegate.domain.signals import BookRisk, Decision, RegimeChanged, Scenario, StrategyResult
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import Kernel
from tidegate.kernel.settings import DetectorSettings, WeighingSettings
from tidegate.portfolio.virtual import NETTING
from tidegate.simulator.frictions import FixedSlippage, Frictions, Latency

ROWS = 760
FRICTIONS = Frictions(FixedSlippage(2.0), Latency(200_000_000), volume_share=0.0001)
DETECTOR = DetectorSettings(states=2, first_fit_bars=520, refit_bars=120, trend_bars=60, volatility_bars=12)
SETTINGS = msgspec.structs.replace(
    BUSY,
    brake="grossman_zhou",
    weighing=WeighingSettings(HOUR_NS, warmup_bars=30, holding_days=3.0, detector=DETECTOR, allocator="hedge"),
)
SAID = (Decision, RegimeChanged, BookRisk, StrategyResult, FitModel)


def plan(source: Tables, listed: dict) -> BacktestPlan:
    strategies = (
        spec(Restless(), *listed, name="restless"),
        spec(QUICK, *listed, name="trend"),
        spec(Across(), *listed, name="across"),
    )
    return BacktestPlan(SETTINGS, listed, strategies, source, CAPITAL, FRICTIONS)


class Run:
    """A run of the engine, each step written down."""

    def __init__(self, source: Tables, listed: dict) -> None:
        self.engine = BacktestEngine(plan(source, listed))
        self.steps: list[tuple[Event, bytes]] = []
        self.said: list = []
        handle = self.engine.kernel.handle

        def note(event: Event):
            commands = handle(event)
            self.steps.append((event, msgspec.msgpack.encode(list(commands))))
            self.said += [each for each in commands if isinstance(each, SAID)]
            return commands

        self.engine.kernel.handle = note  # type: ignore[method-assign]
        self.engine.run()


@cache
def whole() -> Run:
    return Run(*invented(5, ROWS))


def test_the_run_under_the_laws_is_busy() -> None:
    said = whole().said
    regimes = [each for each in said if isinstance(each, RegimeChanged)]
    assert len({each.scenario for each in regimes}) > 2
    assert any(each.scenario is not Scenario.UNKNOWN for each in regimes)
    assert sum(isinstance(event, ModelFitted) for event, _ in whole().steps) >= 2
    bound = {each.binding_limit for each in said if isinstance(each, Decision) and each.strategy is None}
    assert len(bound) > 2
    assert len(whole().engine.tally.trades) > 20
    assert any(each.strategy == NETTING for each in said if isinstance(each, StrategyResult))


def test_the_strategies_and_what_netting_saved_are_the_book_to_the_last_digit() -> None:
    engine = whole().engine
    total = ZERO
    for each in engine.chronicle.results:
        line = EXACT.subtract(EXACT.subtract(each.price_pnl, each.slippage), each.fees)
        total = EXACT.add(total, EXACT.add(line, each.funding))
    assert engine.ledger_difference == 0
    assert total == EXACT.subtract(engine.tally.equity[-1][1], CAPITAL)


@settings(max_examples=5, deadline=None)
@given(row=st.integers(530, ROWS - 2), kind=kinds, seed=seeds)
def test_later_bars_change_nothing_that_was_said_before(row: int, kind: str, seed: int) -> None:
    source, listed = invented(5, ROWS)
    at_ns = int(source.tables[next(iter(listed))].ts_ns[row - 1])

    def until(run: Run) -> list[bytes]:
        return [msgspec.msgpack.encode(each) for each in run.said if _time(each) <= at_ns]

    assert until(Run(changed(source, row, kind, seed), listed)) == until(whole())


def _time(said: object) -> int:
    return said.end_ns if isinstance(said, FitModel) else said.ts_ns  # type: ignore[attr-defined, no-any-return]


def fresh() -> Kernel:
    source, listed = invented(5, ROWS)
    made = plan(source, listed)
    return Kernel(made.kernel, made.instruments, made.strategies, StepFeeder())


@settings(max_examples=6, deadline=None)
@given(cut=st.integers(0, 10_000), ahead=st.integers(200, 600))
def test_a_book_that_loads_goes_on_as_if_nothing_had_happened(cut: int, ahead: int) -> None:
    steps = whole().steps
    cut = cut % (len(steps) - 1)
    kernel = fresh()
    for event, answer in steps[: cut + 1]:
        assert msgspec.msgpack.encode(list(kernel.handle(event))) == answer
    taken = kernel.snapshot()
    again = fresh()
    again.load(KernelSnapshot(taken.version, taken.seq, bytes(taken.data)))
    for event, answer in steps[cut + 1 : cut + ahead]:
        assert msgspec.msgpack.encode(list(again.handle(event))) == answer


def test_a_fit_that_comes_too_late_is_told_and_not_used() -> None:
    kernel, told = fresh(), []
    for event, _ in whole().steps:
        if not isinstance(event, ModelFitted):
            told += [each for each in kernel.handle(event) if getattr(each, "subject", "") == "model"]
    assert told
    assert "no fit by its activation" in told[0].text
    late = next(event for event, _ in whole().steps if isinstance(event, ModelFitted))
    (alert,) = kernel.handle(late)
    assert "too late" in alert.text  # type: ignore[union-attr]


@pytest.mark.parametrize("other", [None, msgspec.structs.replace(SETTINGS.weighing, detector=None)])  # type: ignore[type-var]
def test_a_snapshot_of_another_portfolio_is_refused(other: WeighingSettings | None) -> None:
    from tidegate.domain.errors import InvariantBroken

    source, listed = invented(5, ROWS)
    made = plan(source, listed)
    settings_of = msgspec.structs.replace(SETTINGS, weighing=other)
    kernel = Kernel(settings_of, made.instruments, made.strategies, StepFeeder())
    with pytest.raises(InvariantBroken, match="another portfolio"):
        kernel.load(fresh().snapshot())


def test_no_weight_exceeds_its_limits_and_none_opposes_its_wish() -> None:
    for each in (said for said in whole().said if isinstance(said, BookRisk)):
        assert sum(abs(weight) for _, weight in each.weights) <= SETTINGS.limits.max_leverage
        assert all(abs(weight) <= SETTINGS.limits.max_position_pct * 1.25 for _, weight in each.weights)
        assert not each.risk_shares or sum(share for _, share in each.risk_shares) == pytest.approx(1.0)
        assert Decimal(repr(each.exposure)) <= 1
