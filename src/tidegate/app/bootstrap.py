"""The composition root: the only file that names a concrete adapter, and where a mode becomes a choice of adapters."""

import difflib
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from traceback import extract_tb

import msgspec

from tidegate.adapters.files.history import DataFolder
from tidegate.adapters.files.instruments import infer_instrument, read_brackets, read_exchange_info
from tidegate.adapters.files.journal import FileJournal
from tidegate.adapters.files.journal_lines import JournalHeader
from tidegate.adapters.files.journal_reader import JournalReader, read_journal
from tidegate.adapters.sim.pace import Pace
from tidegate.adapters.sim.venue import SimVenue
from tidegate.app.backtest import BacktestEngine, BacktestPlan, Kept, Progress
from tidegate.app.config import Settings
from tidegate.app.daemon import Connections
from tidegate.app.demo import DemoParts
from tidegate.app.loading import load_strategy
from tidegate.app.markets import HistoryMarket, InventedMarket
from tidegate.app.result import BacktestResult
from tidegate.app.workers import PoolWorker
from tidegate.domain.account import ContractSetting
from tidegate.domain.errors import ConfigError, JournalError
from tidegate.domain.ids import InstrumentId, Nanos, StrategyId
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import DEFAULT_BRACKETS
from tidegate.domain.market import DAY_NS, SECOND_NS, BarSpec
from tidegate.domain.messages import Record
from tidegate.execution.protection import ProtectionSettings
from tidegate.execution.reconcile import ExpectedAccount
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import Kernel
from tidegate.kernel.settings import DetectorSettings, KernelSettings, ReconcileSettings, WeighingSettings
from tidegate.kernel.wishes import StrategySpec
from tidegate.portfolio.construction import PortfolioSettings
from tidegate.risk.sizing import SizingSettings
from tidegate.risk.view import RiskLimits
from tidegate.simulator.exchange import Exchange
from tidegate.simulator.frictions import (
    FixedSlippage,
    Frictions,
    Latency,
    NoSlippage,
    Slippage,
    SpreadImpactSlippage,
)
from tidegate.simulator.session import MarketSource, Session
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE, SyntheticMarket
from tidegate.strategies.base import Strategy

_FOREVER_NS = 2**62
_MS_NS = 1_000_000


# ---- from settings to the parts of the core ------------------------------------------------------------------------


def kernel_settings(settings: Settings, gen: int = 0) -> KernelSettings:
    """The kernel's part of the configuration."""
    return KernelSettings(
        BarSpec.of(settings.timeframe).interval_ns,
        settings.account,
        gen,
        limits=RiskLimits(**settings.risk.model_dump(exclude={"brake"})),
        sizing=SizingSettings(**dict(settings.sizing)),
        portfolio=PortfolioSettings(settings.portfolio.gross_leverage, settings.portfolio.no_trade_band_frac),
        protection=ProtectionSettings(settings.protection.mode == "stop", settings.protection.disaster_stop_frac),
        reconcile=ReconcileSettings(
            enabled=settings.mode in ("testnet", "live"),
            audit_busy_ns=round(settings.venue.audit_busy_s * SECOND_NS),
            audit_idle_ns=round(settings.venue.audit_idle_s * SECOND_NS),
        ),
        adopt=settings.positions.adopt,
        expected=_expected(settings),
        brake=None if settings.risk.brake == "none" else settings.risk.brake,
        weighing=_weighing(settings),
    )


def _weighing(settings: Settings) -> WeighingSettings | None:
    """How weights are made, where more than an even blend is configured."""
    portfolio = settings.portfolio
    if portfolio.optimizer == "none":
        return None
    detector = None
    if settings.regime.model != "none":
        detector = DetectorSettings(seed=settings.seed, **settings.regime.model_dump(exclude={"model"}))
    return WeighingSettings(
        BarSpec.of(portfolio.rebalance).interval_ns,
        portfolio.optimizer,
        half_spread_bps=settings.simulation.slippage.bps,
        detector=detector,
        seed=settings.seed,
        **portfolio.model_dump(exclude={"no_trade_band_frac", "gross_leverage", "optimizer", "rebalance"}),
    )


def _expected(settings: Settings) -> ExpectedAccount:
    """How the account at the venue is meant to be set."""
    venue = settings.venue
    wished = []
    for name in settings.symbols:
        leverage, margin_type = venue.setup_of(name)
        wished.append(ContractSetting(name, leverage, margin_type == "isolated"))
    return ExpectedAccount(venue.position_mode == "hedge", tuple(wished))


def strategy_specs(settings: Settings) -> tuple[StrategySpec, ...]:
    """The configured strategies. Raises ``ConfigError``."""
    specs = []
    for each in settings.strategies:
        cls = load_strategy(each.class_path)
        try:
            prototype = cls(**each.params)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"strategy {each.name}: {error}") from error
        _rehearse(each.name, prototype)
        specs.append(StrategySpec(each.name, prototype, each.symbols or settings.symbols))
    return tuple(specs)


def _rehearse(name: StrategyId, prototype: Strategy) -> None:
    """Set a copy up and throw it away, so that a ``setup`` that raises is refused before anything runs."""
    try:
        prototype.fresh().prepare()
    except (Exception, SystemExit) as error:  # the code is the user's: it may raise anything
        own = inspect.getfile(type(prototype))
        frames = extract_tb(error.__traceback__)
        where = next((frame for frame in reversed(frames) if frame.filename == own), frames[-1])
        place = f"{Path(where.filename).name}:{where.lineno}"
        raise ConfigError(f"strategy {name}: setup raised {type(error).__name__}: {error} ({place})") from error


def frictions(settings: Settings) -> Frictions:
    """The simulated venue's frictions."""
    simulation = settings.simulation
    slippage: Slippage
    match simulation.slippage.model:
        case "none":
            slippage = NoSlippage()
        case "bps":
            slippage = FixedSlippage(simulation.slippage.bps)
        case "spread_impact":
            slippage = SpreadImpactSlippage(simulation.slippage.bps, simulation.slippage.impact)
    return Frictions(
        slippage,
        Latency(round(simulation.latency_ms * _MS_NS)),
        simulation.volume_share,
        trade_empty_bars=not simulation.delisting,
    )


def with_fees(instrument: Instrument, settings: Settings) -> Instrument:
    """The instrument with the configured fees in place of its own."""
    simulation = settings.simulation
    return msgspec.structs.replace(
        instrument,
        taker_fee=instrument.taker_fee if simulation.taker_fee is None else simulation.taker_fee,
        maker_fee=instrument.maker_fee if simulation.maker_fee is None else simulation.maker_fee,
    )


# ---- stored data ---------------------------------------------------------------------------------------------------


def stored_instruments(
    settings: Settings, data: DataFolder, bar: BarSpec, start_ns: Nanos, end_ns: Nanos
) -> dict[InstrumentId, Instrument]:
    """The contracts: from the exchangeInfo file where one is configured, else with grids inferred from the bars."""
    brackets = read_brackets(Path(settings.data.brackets)) if settings.data.brackets else {}
    listed = read_exchange_info(Path(settings.data.exchange_info), brackets) if settings.data.exchange_info else {}
    found: dict[InstrumentId, Instrument] = {}
    for name in settings.symbols:
        tables = data.bars(name, bar, start_ns, end_ns)
        if settings.data.exchange_info:
            if name not in listed:
                raise ConfigError(f"data.exchange_info: {settings.data.exchange_info} has no perpetual {name}")
            instrument = listed[name]
            for _ in tables:  # every bar is checked before anything runs
                pass
        else:
            instrument = infer_instrument(name, tables, brackets.get(name, DEFAULT_BRACKETS))
        found[name] = with_fees(instrument, settings)
    return found


# ---- backtest ------------------------------------------------------------------------------------------------------


class Backtest:
    """A backtest of stored data, put together from settings. Raises ``ConfigError`` or ``DataError`` before it runs."""

    def __init__(self, settings: Settings, start_ns: Nanos | None, end_ns: Nanos | None) -> None:
        if settings.data.dir is None:
            raise ConfigError("data.dir is missing: say where the bars are, with --data DIR or in the configuration")
        self.settings = settings
        self.kept: list[Kept] = []
        self._bar = BarSpec.of(settings.timeframe)
        self._data = DataFolder(Path(settings.data.dir))
        self._start_ns = 0 if start_ns is None else start_ns
        self._end_ns = _FOREVER_NS if end_ns is None else end_ns
        instruments = stored_instruments(settings, self._data, self._bar, self._start_ns, self._end_ns)
        self._inferred = settings.data.exchange_info is None
        self.plan = BacktestPlan(
            kernel_settings(settings),
            instruments,
            strategy_specs(settings),
            HistoryMarket(self._data, self._bar, self._start_ns, self._end_ns),
            Decimal(repr(settings.risk.initial_capital_usdt)),
            frictions(settings),
            delisting=settings.simulation.delisting,
            funding=settings.simulation.funding,
            reset_after_ns=None
            if settings.simulation.reset_after_days is None
            else settings.simulation.reset_after_days * DAY_NS,
        )

    def run(self, progress: Progress | None = None, *, keep: bool = False) -> BacktestResult:
        """Run to the end of the data. With ``keep``, ``kept`` is what a database is to know of it."""
        engine = BacktestEngine(self.plan, keep=keep)
        engine.run(progress)
        self.kept = engine.kept
        settings = self.settings.as_dict()
        settings["from_ns"], settings["to_ns"] = self._start_ns, self._end_ns
        canonical = json.dumps([self.settings.digest(), self._start_ns, self._end_ns]).encode()
        digests = {
            "data_sha256": self._data.sha256(),
            "config_sha256": hashlib.sha256(canonical).hexdigest(),
        }
        result = engine.result(settings, self._assumptions(engine), digests)
        result.warnings.extend(f"gaps in the data: {note}" for note in self._data.notes)
        return result

    def _assumptions(self, engine: BacktestEngine) -> list[str]:
        plan, settings = self.plan, self.settings
        fees = sorted({(f"{each.taker_fee:%}", f"{each.maker_fee:%}") for each in plan.instruments.values()})
        return [
            f"decisions on closed {settings.timeframe} bars, market orders at the next open",
            "within a bar the adverse comes first: stops, then liquidation, then limits",
            "a stop that gaps fills at the open of the bar",
            *plan.frictions.texts,
            *(f"fees {taker} taker, {maker} maker" for taker, maker in fees),
            f"funding {'paid' if plan.funding else 'not paid'} at each settlement on the mark price; "
            f"{engine.exchange.mark_stand_ins} settlements had no mark price and used the last close",
            "cross margin in one wallet; liquidation at the mark price where it is stored, else at the last price",
            "a contract in which nothing trades for a day is settled at its last price"
            if plan.delisting
            else "contracts without trades stay tradable",
            "price and lot grids inferred from the bars, cautious margin brackets unless a file is given"
            if self._inferred
            else "filters from the exchangeInfo file, which are not those in force at the time",
            "open positions are valued at the last close",
            "one configuration, one trial: no selection among many was corrected for",
        ]


# ---- demo and replay -----------------------------------------------------------------------------------------------

DEMO_DEFAULTS: dict[str, object] = {
    "symbols": [str(instrument.id) for instrument in DEFAULT_UNIVERSE],
    "timeframe": "5m",
    "strategies": [
        {"class": "TrendFollowing", "params": {"multi_speed": True, "speed_unit": "1h", "stop_atrs": 5.0}},
        {"class": "MeanReversion", "params": {"every": "1h"}},
        {"class": "RangeTrading", "params": {"every": "1h"}},
        {
            "class": "FundingArbitrage",
            "params": {
                "risk_units": True,
                "watch_legs": False,
                "least_days": 10,
                "beta_days": 10,
                "volatility_days": 5,
                "rebalance_days": 2,
            },
        },
    ],
    "regime": {"model": "hmm", "first_fit_bars": 500, "refit_bars": 168, "trend_bars": 120},
    "portfolio": {"optimizer": "mean_variance", "rebalance": "1h"},
    "risk": {"target_volatility": 0.2},
    "sizing": {"risk_per_trade_frac": 0.01},
}
"""What the demo runs without a configuration file."""

REPLAY_TIMEFRAME = "1h"
REPLAY_BARS_PER_SECOND = 2.0


class Demo:
    """The demo's parts, put together from settings. ``replay`` is a data folder with real bars, None for invented ones.

    Writes the first lines of its journal. Raises ``ConfigError``, ``DataError`` or ``JournalError``.
    """

    def __init__(self, settings: Settings, replay: Path | None, journal: Path) -> None:
        bar = BarSpec.of(settings.timeframe)
        source: MarketSource
        if replay is None:
            market = _invented(settings, bar)
            instruments = {each.id: with_fees(each, settings) for each in market.instruments}
            source = InventedMarket(market)
            self.started_ns = market.start_ns
        else:
            data = DataFolder(replay)
            self.started_ns = max(_first_open_ns(data, name, bar) for name in settings.symbols)
            instruments = stored_instruments(settings, data, bar, self.started_ns, _FOREVER_NS)
            source = HistoryMarket(data, bar, self.started_ns, _FOREVER_NS)
        self.settings = settings
        self.instruments = instruments
        self.kernel = Kernel(kernel_settings(settings), instruments, strategy_specs(settings), StepFeeder())
        exchange = Exchange(
            instruments.values(), Decimal(repr(settings.risk.initial_capital_usdt)), frictions(settings)
        )
        simulation = settings.simulation
        session = Session(exchange, instruments, source, delisting=simulation.delisting, funding=simulation.funding)
        self.history_ns = settings.demo.history_days * DAY_NS
        venue = SimVenue(session, Pace(settings.demo.speed, self.history_ns), tuple(instruments.values()))
        header = JournalHeader(settings.account, 0, settings.as_dict(), settings.digest(), tuple(instruments.values()))
        kept = settings.journal
        files = FileJournal.create(
            journal,
            header,
            self.kernel.snapshot,
            segment_bytes=kept.segment_mib << 20,
            snapshot_every=kept.snapshot_every,
            fsync=kept.fsync,
        )
        worker = PoolWorker()
        connections = Connections(
            venue, venue, venue, venue.clock, venue.hurry, venue.close, worker=worker, shut=worker.end
        )
        self.parts = DemoParts(settings, self.kernel, session, connections, files, journal)


def _invented(settings: Settings, bar: BarSpec) -> SyntheticMarket:
    known = {instrument.id: instrument for instrument in DEFAULT_UNIVERSE}
    for name in settings.symbols:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ConfigError(
                f"the invented market has no {name}; did you mean {near[0]}? Real bars come with --replay"
            )
    return SyntheticMarket(settings.seed, [known[name] for name in settings.symbols], bar.interval_ns)


def _first_open_ns(data: DataFolder, name: InstrumentId, bar: BarSpec) -> Nanos:
    first = next(iter(data.bars(name, bar, 0, _FOREVER_NS)))
    return int(first.ts_ns[0]) - bar.interval_ns


def journal_records(path: Path) -> Callable[[], Iterator[Record]]:
    """The records of a journal on disk, from the first on each time. Raises ``JournalError``."""
    return read_journal(path).records


def journal_reader(path: Path) -> tuple[JournalReader, Kernel]:
    """A journal on disk, and a fresh kernel configured as its header says. Raises ``JournalError``, ``ConfigError``."""
    reader = read_journal(path)
    header = reader.header
    try:
        settings = Settings.model_validate(header.configuration)
    except ValueError as error:
        raise JournalError(f"{path}: the configuration in its header is not one of this version: {error}") from error
    instruments = {instrument.id: instrument for instrument in header.instruments}
    kernel = Kernel(kernel_settings(settings, header.gen), instruments, strategy_specs(settings), StepFeeder())
    return reader, kernel
