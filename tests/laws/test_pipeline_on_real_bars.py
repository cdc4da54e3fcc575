"""Nothing looks ahead, on real bars: whatever follows a cut, every word up to it is the same, bit for bit.

The whole pipeline runs once over five contracts: regime detector, matrix, allocator, optimiser, sizer, brake and the
four strategies. Then, at each of 50 random cuts, a kernel that was put back some bars before it is given the same
events, with its features scanned over a chunk whose bars after the cut are others: what it says must not change.
"""

from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.laws.test_truncation import after
from tidegate.adapters.files.history import DataFolder
from tidegate.adapters.files.instruments import infer_instrument
from tidegate.app.backtest import BacktestEngine, BacktestPlan
from tidegate.app.markets import HistoryMarket
from tidegate.domain.ids import InstrumentId, StrategyId
from tidegate.domain.margin import DEFAULT_BRACKETS
from tidegate.domain.market import DAY_NS, HOUR_NS, Bar, BarSpec
from tidegate.domain.messages import Event, KernelSnapshot
from tidegate.domain.signals import BookRisk, Decision, RegimeChanged, Scenario
from tidegate.kernel.feeders import ScanFeeder
from tidegate.kernel.kernel import Kernel
from tidegate.kernel.settings import KernelSettings, WeighingSettings
from tidegate.kernel.wishes import StrategySpec
from tidegate.quant.bars import BarTable
from tidegate.risk.sizing import SizingSettings
from tidegate.strategies.funding_arbitrage import FundingArbitrage
from tidegate.strategies.mean_reversion import MeanReversion
from tidegate.strategies.range_trading import RangeTrading
from tidegate.strategies.trend_following import TrendFollowing

NAMES = tuple(InstrumentId(name) for name in ("BTCUSDT", "ETHUSDT", "XRPUSDT", "ADAUSDT", "LTCUSDT"))
BAR = BarSpec.of("4h")
START_NS, END_NS = 1_609_459_200 * 10**9, 1_667_260_800 * 10**9  # 2021-01-01, 2022-11-01
CUTS, BEFORE, BEYOND = 50, 30, 40
SETTINGS = KernelSettings(
    BAR.interval_ns,
    sizing=SizingSettings(risk_per_trade_frac=0.02),
    brake="grossman_zhou",
    weighing=WeighingSettings(4 * HOUR_NS, risk_scale=8.0, allocator="shrinkage"),
)
STRATEGIES = tuple(
    StrategySpec(StrategyId(type(each).__name__), each, NAMES)
    for each in (
        TrendFollowing(multi_speed=True, stop_atrs=5.0),
        MeanReversion(trend_adx=40.0),
        RangeTrading(trend_adx=60.0, level_bars=400),
        FundingArbitrage(
            risk_units=True, watch_legs=False, least_days=30, rebalance_days=2, fee_bps=0.5, band_frac=0.05
        ),
    )
)


class Walk(BacktestEngine):
    """The engine; every step is written down, and the kernel's state before every hundredth bar of the first name."""

    def __init__(self, plan: BacktestPlan) -> None:
        super().__init__(plan)
        self.steps: list[tuple[Event, bytes]] = []
        self.said: list = []
        self.states: list[tuple[int, int, KernelSnapshot]] = []
        handle, closes = self.kernel.handle, 0

        def note(event: Event):
            nonlocal closes
            if isinstance(event, Bar) and event.instrument == NAMES[0]:
                closes += 1
                if closes % 20 == 0:
                    self.states.append((len(self.steps), event.ts_ns, self.kernel.snapshot()))
            commands = handle(event)
            self.steps.append((event, msgspec.msgpack.encode(list(commands))))
            self.said += commands
            return commands

        self.kernel.handle = note  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def data(shared: Path) -> DataFolder:
    return DataFolder(shared / "data" / "um")


@pytest.fixture(scope="module")
def tables(data: DataFolder) -> dict[InstrumentId, BarTable]:
    found = {}
    for name in NAMES:
        parts = list(data.bars(name, BAR, START_NS, END_NS))
        columns = [np.concatenate([getattr(part, field) for part in parts]) for field in BarTable.__slots__[1:]]
        found[name] = BarTable(BAR.interval_ns, *columns)
    return found


@pytest.fixture(scope="module")
def walk(data: DataFolder, tables: dict[InstrumentId, BarTable]) -> Walk:
    listed = {name: infer_instrument(name, iter([table]), DEFAULT_BRACKETS) for name, table in tables.items()}
    market = HistoryMarket(data, BAR, START_NS, END_NS)
    engine = Walk(BacktestPlan(SETTINGS, listed, STRATEGIES, market, Decimal(100_000)))
    engine.run()
    return engine


def test_what_is_compared_says_something(walk: Walk) -> None:
    wishes = [each for each in walk.said if isinstance(each, Decision) and each.strategy is not None]
    for spec in STRATEGIES:
        assert sum(each.strategy == spec.id for each in wishes) >= 20, spec.id
    regimes = [each for each in walk.said if isinstance(each, RegimeChanged)]
    known_from = next(each.ts_ns for each in regimes if each.scenario is not Scenario.UNKNOWN)
    assert known_from < (START_NS + END_NS) / 2
    assert not any(each.scenario is Scenario.UNKNOWN and each.ts_ns > known_from for each in regimes)
    assert len({each.scenario for each in regimes}) > 4
    assert len({each.weights for each in regimes}) > 5  # matrix and allocator
    risks = [each for each in walk.said if isinstance(each, BookRisk)]
    assert len({each.weights for each in risks}) > len(risks) / 3  # optimiser
    assert walk.ledger_difference == 0


def test_whatever_follows_a_cut_nothing_before_it_changes(walk: Walk, tables: dict[InstrumentId, BarTable]) -> None:
    rng = np.random.Generator(np.random.PCG64(11))
    usable = walk.states[40:-4]  # every strategy is warm, and there are bars to come
    for _ in range(CUTS):
        at, ts_ns, state = usable[int(rng.integers(len(usable)))]
        cut_ns = ts_ns + int(rng.integers(1, BEFORE)) * BAR.interval_ns
        kind = str(rng.choice(["scaled", "shuffled", "cut"]))
        feeder = ScanFeeder()
        kernel = Kernel(SETTINGS, walk._plan.instruments, STRATEGIES, feeder)
        kernel.load(state)
        for name, table in tables.items():
            first, row = (int(np.searchsorted(table.ts_ns, each)) for each in (ts_ns, cut_ns))
            last = min(len(table), row + BEYOND)
            ahead = BarTable(
                table.interval_ns, *(getattr(table, field)[first:last] for field in BarTable.__slots__[1:])
            )
            feeder.fill(name, after(ahead, row + 1 - first, kind, rng))
        compared = 0
        for event, answer in walk.steps[at:]:
            if event.recv_ns > cut_ns:
                break
            assert msgspec.msgpack.encode(list(kernel.handle(event))) == answer, (kind, event)
            compared += 1
        assert compared >= len(NAMES)


def test_a_peek_would_be_noticed(walk: Walk, tables: dict[InstrumentId, BarTable]) -> None:
    """The same comparison with bars changed from one bar before the cut on: it must fail somewhere."""
    at, ts_ns, state = walk.states[60]
    feeder = ScanFeeder()
    kernel = Kernel(SETTINGS, walk._plan.instruments, STRATEGIES, feeder)
    kernel.load(state)
    for name, table in tables.items():
        first = int(np.searchsorted(table.ts_ns, ts_ns))
        ahead = BarTable(
            table.interval_ns, *(getattr(table, field)[first : first + 90] for field in BarTable.__slots__[1:])
        )
        feeder.fill(name, after(ahead, 1, "scaled", np.random.Generator(np.random.PCG64(3))))
    later = [each for each in walk.steps[at:] if each[0].recv_ns <= ts_ns + 14 * DAY_NS]
    assert any(msgspec.msgpack.encode(list(kernel.handle(event))) != answer for event, answer in later)
