"""The composition root of the live path: paper, testnet and live, and the verbs that look at an account.

Everything that touches the outside comes in through ``World``, so that the same daemon runs under simulated time.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import aiohttp

from tidegate.adapters.binance import signing
from tidegate.adapters.binance.clock import VenueClock, measure
from tidegate.adapters.binance.feed import BinanceFeed
from tidegate.adapters.binance.limits import Governor, RateLimit
from tidegate.adapters.binance.market_schemas import Counters, ExchangeInfo
from tidegate.adapters.binance.market_translate import perpetuals
from tidegate.adapters.binance.rest import BinanceRest, Call, open_session
from tidegate.adapters.binance.settings import AccountSetup, SymbolSetup, read_key_rights
from tidegate.adapters.binance.signing import Signer, make_signer
from tidegate.adapters.binance.venue import BinanceVenue, VenueSettings
from tidegate.adapters.binance.ws_transport import PicowsTransport, WebsocketsTransport, WsTransport
from tidegate.adapters.files.journal import FileJournal
from tidegate.adapters.files.journal_lines import JournalHeader
from tidegate.adapters.files.journal_reader import JournalReader, read_journal
from tidegate.adapters.sim.paper import PaperVenue
from tidegate.adapters.system.clock import ClockTimers, SystemClock
from tidegate.adapters.system.credentials import Credentials, Environment, read_credentials
from tidegate.adapters.system.lock import ProcessLock
from tidegate.app.access import check_fingerprint, check_hosts, check_rights
from tidegate.app.bootstrap import journal_reader, kernel_settings, strategy_specs, with_fees
from tidegate.app.config import Settings
from tidegate.app.config_live import Endpoints
from tidegate.app.daemon import Connections
from tidegate.app.live import Companion, LiveParts, Seamless
from tidegate.app.workers import InlineWorker, PoolWorker
from tidegate.domain.errors import ConfigError, InvariantBroken, VenueError
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import SECOND_NS, BarSpec
from tidegate.domain.messages import Alert, KernelSnapshot
from tidegate.domain.secret import Secret
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import Kernel
from tidegate.ports import Clock, Journal

LOCAL_KEY, LOCAL_SECRET = "demo-key", "demo-secret"
"""The ready-made account of a local exchange, used there when no key is configured."""

_SETTLED_WITHIN_S = 5.0
"""How long a stop waits for orders that are under way: the process must have left ten seconds after SIGTERM (C5)."""
_PREFIXES = {"live": "TIDEGATE_BINANCE", "testnet": "TIDEGATE_BINANCE_TESTNET"}


@dataclass(frozen=True, slots=True)
class World:
    """What the daemon does not make itself. ``connector`` and ``transport`` are aiohttp's and the streams' ways out."""

    clock: Clock = field(default_factory=SystemClock)
    rng: random.Random = field(default_factory=lambda: random.Random(os.urandom(16)))
    environment: Mapping[str, str] = field(default_factory=lambda: Environment(os.environ))
    connector: Callable[[], aiohttp.BaseConnector] | None = None
    transport: Callable[[str], WsTransport] | None = None
    journal: Callable[[FileJournal], Journal] = lambda files: files
    lock: Callable[[Path], AbstractContextManager[object]] = ProcessLock
    on_call: Callable[[Call], None] | None = None
    worker: Callable[[], PoolWorker | InlineWorker] = PoolWorker


@dataclass(frozen=True, slots=True)
class Access:
    """The way to one venue, signed where there is a key."""

    mode: str
    endpoints: Endpoints
    session: aiohttp.ClientSession
    rest: BinanceRest
    spot: BinanceRest | None
    signer: Signer | None
    fingerprint: str
    notes: list[str]


def state_folder(settings: Settings, mode: str) -> Path:
    """Where a daemon of this account and mode keeps what must survive it."""
    from platformdirs import user_state_path

    root = Path(settings.state.dir) if settings.state.dir else user_state_path("tidegate", appauthor=False)
    return root / f"{settings.account}-{mode}"


def mode_of(settings: Settings, given: str | None) -> str:
    """The mode to run in. Raises ``ConfigError`` when neither the command nor the file names one."""
    mode = given or settings.mode
    if mode is None:
        raise ConfigError("no mode: say --mode paper, testnet or live, or write mode: in the configuration")
    return mode


def _credentials(settings: Settings, mode: str, endpoints: Endpoints, world: World) -> Credentials:
    keys, prefix = settings.keys, _PREFIXES[mode]
    found = read_credentials(prefix, keys.key_file, keys.secret_file, world.environment)
    if found is not None:
        return found
    if mode == "testnet" and endpoints.rest.startswith("http://"):
        return Credentials(Secret(LOCAL_KEY), Secret(LOCAL_SECRET))
    raise ConfigError(f"no key: set {prefix}_KEY and {prefix}_SECRET, or keys.key_file and keys.secret_file")


@asynccontextmanager
async def open_access(settings: Settings, mode: str, world: World) -> AsyncIterator[Access]:
    """Check the interlocks, read the key and open the way to the venue. Raises ``ConfigError``."""
    endpoints = settings.venue.endpoints(mode)
    check_hosts(settings, mode, endpoints)
    signer: Signer | None = None
    fingerprint = ""
    if mode != "paper":
        found = _credentials(settings, mode, endpoints, world)
        signer = make_signer(found.api_key.reveal(), found.secret, settings.keys.kind)
        fingerprint = signing.fingerprint(found.api_key.reveal())
        check_fingerprint(settings, mode, fingerprint)
    connector = world.connector() if world.connector is not None else None
    async with open_session(connector) as session:
        clock = VenueClock(world.clock.monotonic_ns)
        rest = BinanceRest(endpoints.rest, session, clock, Governor(clock), signer, world.rng, on_call=world.on_call)
        spot = None
        if endpoints.rights is not None and signer is not None:
            spot = BinanceRest(endpoints.rights, session, clock, Governor(clock), signer, world.rng, time_path=None)
        yield Access(mode, endpoints, session, rest, spot, signer, fingerprint, [])


async def check_key(access: Access) -> list[str]:
    """Read the rights of the key and refuse one that may do too much. Raises ``NotAuthorised``."""
    if access.spot is None:
        return ["the rights of the key are not checkable here (there is no host to ask)"]
    return check_rights(access.mode, await read_key_rights(access.spot))


def symbol_setups(settings: Settings) -> list[SymbolSetup]:
    """How the configuration wishes each contract to be set."""
    setups = []
    for name in settings.symbols:
        leverage, margin_type = settings.venue.setup_of(name)
        setups.append(SymbolSetup(name, leverage, "ISOLATED" if margin_type == "isolated" else "CROSSED"))
    return setups


def account_setup(access: Access) -> AccountSetup:
    """The reader and changer of an account's settings."""
    return AccountSetup(access.rest)


async def measure_clock(access: Access, world: World) -> tuple[float, float]:
    """How far the venue's clock is ahead of ours, and how well that is known, in seconds. Raises ``VenueError``."""
    await measure(access.rest)
    clock = access.rest.clock
    return (clock.now_ns() - world.clock.now_ns()) / SECOND_NS, clock.error_ns / SECOND_NS


def try_lock(path: Path) -> None:
    """Take the lock and let it go. Raises ``AlreadyRunning``."""
    ProcessLock(path).release()


def transport_of(settings: Settings, world: World) -> WsTransport:
    """The way that streams come in."""
    if world.transport is not None:
        return world.transport(settings.venue.transport)
    return PicowsTransport() if settings.venue.transport == "picows" else WebsocketsTransport()


# ---- the kernel and its journal -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recovered:
    """A kernel that stands where the last journal ends, and the journal in which it goes on."""

    kernel: Kernel
    files: FileJournal
    gen: int
    notes: list[str]


def recover(
    settings: Settings,
    instruments: Mapping[InstrumentId, Instrument],
    root: Path,
    now_ns: Nanos,
    *,
    fresh: bool = False,
) -> Recovered:
    """The one start: a kernel that goes on where the newest journal under ``root`` ends, and a journal of its own.

    Each start has a journal of its own, named by its generation: it begins with what the one before led to, so that
    reading back never goes further than one process, whatever was configured then. A ``fresh`` start takes over no
    more than the generation: for an account that did not outlive its process. Raises ``JournalError``.
    """
    kernel, gen, notes = recovered_kernel(settings, instruments, root, now_ns, fresh=fresh)
    header = JournalHeader(settings.account, gen, settings.as_dict(), settings.digest(), tuple(instruments.values()))
    kept = settings.journal
    files = FileJournal.create(
        root / f"{gen:012d}",
        header,
        kernel.snapshot,
        segment_bytes=kept.segment_mib << 20,
        snapshot_every=kept.snapshot_every,
        fsync=kept.fsync,
    )
    return Recovered(kernel, files, gen, notes)


def recovered_kernel(
    settings: Settings,
    instruments: Mapping[InstrumentId, Instrument],
    root: Path,
    now_ns: Nanos,
    *,
    fresh: bool = False,
) -> tuple[Kernel, int, list[str]]:
    """A kernel as configured now, with what the newest journal under ``root`` leads to; its generation; notes.

    The journal is replayed by a kernel configured as its header says. The generation is the time of the start, above
    every one that was there. Nothing is written. Raises ``JournalError``.
    """
    gen, notes, snapshot = now_ns // SECOND_NS, list[str](), None
    last = newest_journal(root)
    if last is not None:
        reader, old = journal_reader(last)
        snapshot = None if fresh else _replayed(reader, old)
        gen = max(gen, reader.header.gen + 1)
        notes += reader.notes
    while (root / f"{gen:012d}").exists():  # a start that a crash ended before it had a journal
        gen += 1
    kernel = Kernel(kernel_settings(settings, gen), instruments, strategy_specs(settings), StepFeeder())
    if snapshot is not None:
        try:
            kernel.load(snapshot)
        except InvariantBroken as error:
            kernel = Kernel(kernel_settings(settings, gen), instruments, strategy_specs(settings), StepFeeder())
            kernel.load_account(snapshot)
            notes.append(f"other strategies or contracts: books and orders go on, wishes begin anew ({error})")
    return kernel, gen, notes


def newest_journal(root: Path) -> Path | None:
    """The journal of the last start that got as far as to begin one."""
    folders = sorted(root.iterdir(), reverse=True) if root.is_dir() else []
    return next((folder for folder in folders if folder.is_dir() and any(folder.glob("ledger-*.log*"))), None)


def journals(root: Path) -> Iterator[JournalReader]:
    """The journals under ``root`` that have begun, oldest first. Raises ``JournalError``."""
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.is_dir() and any(folder.glob("ledger-*.log*")):
            yield read_journal(folder)


def _replayed(reader: JournalReader, kernel: Kernel) -> KernelSnapshot:
    """The state after the last whole record. A snapshot past it, which a crash can leave, is not taken."""
    ends = reader.first_seq - 1
    for record in reader.records():
        ends = record.seq
    start = next(snapshot for snapshot in reversed(list(reader.snapshots())) if snapshot.seq <= ends)
    kernel.load(start)
    for record in reader.records(start.seq + 1):
        kernel.handle(record.event)
    return kernel.snapshot()


# ---- the daemon -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def live_parts(
    settings: Settings, mode: str, world: World, on_notice: Callable[[Alert], None] = lambda _: None
) -> AsyncIterator[LiveParts]:
    """The daemon's parts for a mode, put together and taken apart: lock, key, contracts, kernel, journal, connections.

    Raises ``ConfigError``, ``AlreadyRunning``, ``NotAuthorised``, ``JournalError`` or ``VenueError`` before anything
    trades.
    """
    settings = settings.model_copy(update={"mode": mode})
    async with AsyncExitStack() as stack:
        access = await stack.enter_async_context(open_access(settings, mode, world))
        state = state_folder(settings, mode)
        stack.enter_context(world.lock(lock_path(access, state)))
        await measure(access.rest)
        notes = [] if mode == "paper" else await check_key(access)
        transport, counters = transport_of(settings, world), Counters()
        feed = BinanceFeed(
            access.rest,
            transport,
            access.endpoints.streams,
            world.clock,
            world.rng,
            routed=settings.venue.routed,
            venue_now_ns=access.rest.clock.now_ns,
            counters=counters,
        )
        venue: BinanceVenue | PaperVenue
        if mode == "paper":
            instruments = await public_contracts(access, settings)
            venue = PaperVenue(
                feed,
                tuple(instruments.values()),
                Decimal(repr(settings.risk.initial_capital_usdt)),
                world.clock,
                settings.venue.leverage,
            )
        else:
            await public_contracts(access, settings)  # names the symbol that the venue does not list
            venue = binance_venue(settings, access, transport, world, counters, on_notice)
            instruments = {each.id: each for each in await venue.instruments()}
        found = recover(settings, instruments, state / "journal", world.clock.now_ns(), fresh=mode == "paper")
        bar = BarSpec.of(settings.timeframe)
        seamless = Seamless(venue if isinstance(venue, PaperVenue) else feed, feed.history, bar, world.clock)
        wanted = {name: _bars_from(found.kernel, name, bar, world.clock.now_ns()) for name in settings.symbols}
        connections = Connections(
            seamless,
            venue,
            ClockTimers(world.clock),
            world.clock,
            patience_s=_SETTLED_WITHIN_S,
            linger_s=0.0,
            open=venue.start,
            warm_up=lambda: seamless.warm_up(wanted),
            reconciles=mode != "paper",
            worker=stack.enter_context(closing(world.worker())),
            shut=venue.stop,
        )
        yield LiveParts(
            settings,
            mode,
            found.kernel,
            world.journal(found.files),
            connections,
            state,
            str(found.gen),
            found.files.last_seq,
            found.files.flush,
            lambda: {"counters": counters.all(), "weight": access.rest.governor.usage()},
            _dead_man(settings, venue),
            [*notes, *found.notes],
        )


def lock_path(access: Access, state: Path) -> Path:
    """One lock for one key, wherever its state lies; paper has no key and locks its state."""
    from platformdirs import user_data_path

    if not access.fingerprint:
        return state.parent / f"{state.name}.lock"
    return user_data_path("tidegate-locks", appauthor=False) / f"{access.fingerprint}.lock"


def binance_venue(
    settings: Settings,
    access: Access,
    transport: WsTransport,
    world: World,
    counters: Counters | None = None,
    on_notice: Callable[[Alert], None] = lambda _: None,
) -> BinanceVenue:
    """The venue over an access; its streams open with ``start``."""
    ws_api: tuple[str, Signer] | None = None
    if access.signer is not None:
        ws_api = (access.endpoints.ws_api, access.signer)
    return BinanceVenue(
        access.rest,
        transport,
        access.endpoints.streams,
        world.clock,
        world.rng,
        settings.symbols,
        settings=VenueSettings(routed=settings.venue.routed, ws_api_first=settings.venue.order_entry == "websocket"),
        ws_api=ws_api,
        on_notice=on_notice,
        counters=counters,
    )


async def public_contracts(access: Access, settings: Settings) -> dict[InstrumentId, Instrument]:
    """The contracts as anybody may read them: cautious brackets, the configured fees. Raises ``ConfigError``."""
    info = await access.rest.get("/fapi/v1/exchangeInfo", answer=ExchangeInfo, weight=1)
    access.rest.governor.configure(
        RateLimit(each.rate_limit_type, each.interval, each.interval_num, each.limit) for each in info.rate_limits
    )
    found, refused = perpetuals(info)
    for name in settings.symbols:
        if name not in found:
            raise ConfigError(f"symbols: {refused.get(name, f'{name} is not a perpetual that the venue lists')}")
    return {name: with_fees(found[name], settings) for name in settings.symbols}


def _bars_from(kernel: Kernel, name: InstrumentId, bar: BarSpec, now_ns: Nanos) -> Nanos:
    """The open of the first bar that the kernel lacks: after its last one, or as far back as its features remember.

    Always one bar at least: from its first bar on an instrument counts among those that a close waits for.
    """
    last_ns, memory_bars = kernel.bars_known(name)
    begin_ns = now_ns - (now_ns - bar.origin_ns) % bar.interval_ns - max(1, memory_bars) * bar.interval_ns
    return max(last_ns, begin_ns) if last_ns else begin_ns


def _dead_man(settings: Settings, venue: "BinanceVenue | PaperVenue") -> tuple[Companion, ...]:
    """Renews the venue's countdown, where it is wished for."""
    dead_man_s = settings.venue.dead_man_s
    if dead_man_s is None:
        return ()

    async def renew() -> None:
        while True:
            with suppress(VenueError):
                await venue.keep_alive(round(dead_man_s * 1000))
            await asyncio.sleep(dead_man_s / 4)

    return (renew,)
