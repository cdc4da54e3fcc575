"""The composition root of the local exchange: its market is invented, or stored bars that are played again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidegate.adapters.files.history import DataFolder
from tidegate.adapters.files.instruments import infer_instrument
from tidegate.adapters.localnet.serve import ServeOptions, serve
from tidegate.adapters.system.clock import SystemClock
from tidegate.app.config_fields import normalise_symbol
from tidegate.domain.errors import ConfigError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import DEFAULT_BRACKETS
from tidegate.domain.market import BarSpec
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
