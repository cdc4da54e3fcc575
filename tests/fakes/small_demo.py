"""A demo of invented prices, put together by hand: what tests of the shell run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice, takewhile
from pathlib import Path

from tidegate.adapters.files.journal import FileJournal, JournalHeader
from tidegate.adapters.sim.pace import Pace
from tidegate.adapters.sim.venue import SimVenue
from tidegate.app.backtest import BacktestPlan
from tidegate.app.config import DemoSettings, RiskSettings, Settings, StrategySettings
from tidegate.app.daemon import Connections
from tidegate.app.demo import DemoParts
from tidegate.app.markets import InventedMarket
from tidegate.domain.ids import InstrumentId, StrategyId
from tidegate.domain.market import DAY_NS, MINUTE_NS, FundingRate
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import Kernel, KernelSettings
from tidegate.kernel.wishes import StrategySpec
from tidegate.ports import Journal
from tidegate.quant.bars import BarTable
from tidegate.simulator.exchange import Exchange
from tidegate.simulator.frictions import FixedSlippage, Frictions, Latency
from tidegate.simulator.session import Chunk, MarketSource, Session
from tidegate.simulator.synthetic import SyntheticMarket
from tidegate.strategies.trend_following import TrendFollowing

INTERVAL_NS = 5 * MINUTE_NS
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")
CAPITAL = Decimal(10_000)


def settings(seed: int = 7, *, history_days: int = 0, speed: float = 1e7, flatten: bool = False) -> Settings:
    return Settings(
        symbols=SYMBOLS,
        timeframe="5m",
        seed=seed,
        strategies=(StrategySettings.model_validate("TrendFollowing"),),
        risk=RiskSettings(initial_capital_usdt=float(CAPITAL)),
        demo=DemoSettings(speed=speed, history_days=history_days, flatten_on_stop=flatten),
    )


def plan(seed: int = 7, source: MarketSource | None = None) -> BacktestPlan:
    """The same run as a backtest."""
    market = SyntheticMarket(seed, SYMBOLS, INTERVAL_NS)
    instruments = {each.id: each for each in market.instruments}
    strategy = StrategySpec(StrategyId("TrendFollowing"), TrendFollowing(), tuple(instruments))
    return BacktestPlan(
        KernelSettings(INTERVAL_NS),
        instruments,
        (strategy,),
        source or InventedMarket(market),
        CAPITAL,
        Frictions(FixedSlippage(1.0), Latency(50_000_000), 0.1),
    )


def fresh_kernel(of: BacktestPlan | None = None) -> Kernel:
    """A kernel as the demo has it."""
    of = of or plan()
    return Kernel(of.kernel, of.instruments, of.strategies, StepFeeder())


def file_journal(folder: Path, kernel: Kernel, snapshot_every: int = 2_000) -> FileJournal:
    header = JournalHeader("demo", 0, {}, "", ())
    return FileJournal.create(folder, header, kernel.snapshot, snapshot_every=snapshot_every)


@dataclass(frozen=True, slots=True)
class Rig:
    """The parts of a demo, and the venue that they share."""

    parts: DemoParts
    venue: SimVenue

    @property
    def kernel(self) -> Kernel:
        return self.parts.kernel


def rig(
    journal: Callable[[Kernel], Journal],
    seed: int = 7,
    *,
    history_days: int = 0,
    speed: float | None = None,
    flatten: bool = False,
    source: MarketSource | None = None,
) -> Rig:
    """A demo over the invented market, or over ``source``; without a ``speed`` it never waits."""
    made = plan(seed, source)
    kernel = fresh_kernel(made)
    exchange = Exchange(made.instruments.values(), made.capital, made.frictions)
    session = Session(exchange, made.instruments, made.source)
    venue = SimVenue(session, Pace(speed, history_days * DAY_NS), tuple(made.instruments.values()))
    connections = Connections(venue, venue, venue, venue.clock, venue.hurry, venue.close)
    configured = settings(seed, history_days=history_days, flatten=flatten)
    return Rig(DemoParts(configured, kernel, session, connections, journal(kernel), None), venue)


class CutMarket:
    """The invented market, cut after ``chunks`` times 512 bars: a market that ends."""

    def __init__(self, seed: int = 7, chunks: int = 1) -> None:
        market = SyntheticMarket(seed, SYMBOLS, INTERVAL_NS)
        self._whole, self._chunks = InventedMarket(market), chunks
        self._ends_ns = market.start_ns + chunks * 512 * INTERVAL_NS

    def chunks(self, instrument: InstrumentId) -> Iterator[Chunk]:
        return islice(self._whole.chunks(instrument), self._chunks)

    def funding(self, instrument: InstrumentId) -> Iterator[FundingRate]:
        return takewhile(lambda each: each.ts_ns <= self._ends_ns, self._whole.funding(instrument))

    def marks(self, instrument: InstrumentId) -> Iterator[BarTable]:
        return islice(self._whole.marks(instrument), self._chunks)
