"""The composition root of the local exchange: its market is invented, or stored bars that are played again."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from tidegate.adapters.files.history import DataFolder
from tidegate.adapters.files.instruments import infer_instrument
from tidegate.adapters.localnet.admin import books_of
from tidegate.adapters.localnet.fault_rules import fault_of
from tidegate.adapters.localnet.market import MarketConfig
from tidegate.adapters.localnet.scenario import load_scenario
from tidegate.adapters.localnet.serve import ServeOptions, serve
from tidegate.adapters.localnet.server import LocalExchange, LocalnetConfig
from tidegate.adapters.localnet.streams import StreamConfig
from tidegate.adapters.system.clock import SystemClock
from tidegate.app.config_fields import normalise_symbol
from tidegate.domain.errors import ConfigError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import DEFAULT_BRACKETS
from tidegate.domain.market import BarSpec
from tidegate.ports import Clock
from tidegate.quant.bars import BarTable
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE

_FOREVER_NS = 2**62


@dataclass(frozen=True, slots=True)
class LocalnetOptions:
    """What the command line says. ``data`` is a folder of stored bars to play again."""

    port: int = 8800
    seed: int = 7
    speed: float = 1.0
    data: Path | None = None
    symbols: str | None = None
    timeframe: str = "1h"
    faults: Path | None = None
    strict_routing: bool = False
    lenient_signatures: bool = False
    state: Path | None = None


async def run_localnet(options: LocalnetOptions, say: Callable[[str], None]) -> None:
    """Serve until a signal comes. Raises ``ConfigError`` or ``DataError`` before it begins."""
    instruments, bars = _market(options)
    await serve(
        ServeOptions(
            port=options.port,
            seed=options.seed,
            speed=options.speed,
            instruments=instruments,
            bars=bars,
            scenario=options.faults,
            strict_routing=options.strict_routing,
            lenient_signatures=options.lenient_signatures,
            state=options.state,
        ),
        SystemClock(),
        say,
    )


def _market(options: LocalnetOptions) -> "tuple[tuple[Instrument, ...], Callable[[str], Iterator[BarTable]] | None]":
    try:
        names = [normalise_symbol(each) for each in options.symbols.split(",")] if options.symbols else []
        bar = BarSpec.of(options.timeframe)
    except ValueError as error:
        raise ConfigError(f"localnet: {error}") from None
    known = {each.id: each for each in DEFAULT_UNIVERSE}
    if options.data is None:
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(f"--symbols: the invented market has no {unknown[0]}; it has {', '.join(known)}")
        return tuple(known[name] for name in names) or DEFAULT_UNIVERSE, None
    folder = DataFolder(options.data)
    wanted = names or [InstrumentId("BTCUSDT")]
    instruments = tuple(
        infer_instrument(name, folder.bars(name, bar, 0, _FOREVER_NS), DEFAULT_BRACKETS) for name in wanted
    )
    return instruments, lambda name: folder.bars(InstrumentId(name), bar, 0, _FOREVER_NS)


# ---- a local exchange in our own hands: simulated runs --------------------------------------------------------------


def read_faults(path: Path) -> list[dict[str, Any]]:
    """The faults of a scenario file, as plain data. Raises ``ConfigError``."""
    return [msgspec.to_builtins(fault) for fault in load_scenario(path)]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is held in one contract, and how much of it resting stops would close."""

    qty: Decimal
    covered: Decimal


class SimulatedVenue:
    """A local exchange on somebody else's clock and loop, with its books open. ``exchange`` is the thing itself."""

    def __init__(
        self, clock: Clock, seed: int, symbols: Sequence[str], *, tick_ms: int, history_bars: int, ping_s: float
    ) -> None:
        instruments = tuple(each for each in DEFAULT_UNIVERSE if each.id in symbols)
        market = MarketConfig(seed, instruments, tick_ms=tick_ms, history_bars=history_bars)
        config = LocalnetConfig(market, StreamConfig(ping_s=ping_s, pong_timeout_s=4 * ping_s))
        self.exchange = LocalExchange(config, clock, random.Random(f"{seed}:venue"))
        self.account = next(iter(self.exchange.accounts))

    async def start(self, port: int) -> None:
        """Listen and let the market run."""
        await self.exchange.start(port=port)

    async def close(self) -> None:
        """Stop for good."""
        await self.exchange.close()

    def add_faults(self, faults: Sequence[object]) -> None:
        """Put faults in force, as a scenario file names them. Raises ``ConfigError``."""
        for number, each in enumerate(faults, 1):
            self.exchange.faults.add(fault_of(each, f"fault {number}"))

    def clear_faults(self) -> None:
        """From now on the venue answers truthfully."""
        self.exchange.faults.clear()

    @property
    def injected(self) -> dict[str, int]:
        """How often each fault has struck."""
        return dict(sorted(self.exchange.faults.injected.items()))

    @property
    def errors(self) -> list[str]:
        """What the fault injection itself could not do."""
        return list(self.exchange.faults.errors)

    def books(self) -> dict[str, Any]:
        """The venue's own books of the account: see ``localnet.admin.books_of``."""
        return books_of(self.account)

    def trades(self) -> list[tuple[str, int, str, Decimal]]:
        """Every execution: contract, trade id, client id, quantity."""
        return [(each.symbol, each.trade_id, each.client_id, each.qty) for each in self.account.trades]

    def coverage(self) -> dict[str, Coverage]:
        """Every contract that is held now."""
        found: dict[str, Coverage] = {}
        stops = self.account.algo.open_orders()
        for symbol in self.account.prices.symbols:
            for leg in self.account.legs(symbol):
                held = self.account.exchange.leg_margin(leg).qty
                if held:
                    ours = [each for each in stops if each.symbol == symbol and each.side.sign * held < 0]
                    covered = sum((abs(held) if each.close_position else each.qty for each in ours), Decimal(0))
                    found[symbol] = Coverage(held, covered)
        return found
