"""``tidegate localnet``: the local exchange in a terminal."""

import asyncio
import errno
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as FilePath
from random import Random
from typing import Final

from tidegate.adapters.localnet.accounts import DEMO_DEPOSIT, DEMO_KEY, DEMO_SECRET
from tidegate.adapters.localnet.market import MarketConfig
from tidegate.adapters.localnet.path import Bars, Path, ReplayPath
from tidegate.adapters.localnet.scenario import load_scenario
from tidegate.adapters.localnet.server import LocalExchange, LocalnetConfig
from tidegate.adapters.localnet.streams import StreamConfig
from tidegate.domain.errors import ConfigError
from tidegate.domain.instrument import Instrument
from tidegate.ports import Clock
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line can say. ``bars`` makes the market a replay of stored bars of ``instruments``."""

    port: int = 0
    host: str = "127.0.0.1"
    seed: int = 1
    speed: float = 1.0
    tick_ms: int = 250
    instruments: tuple[Instrument, ...] = DEFAULT_UNIVERSE
    bars: Bars | None = None
    scenario: FilePath | None = None
    strict_routing: bool = False
    lenient_signatures: bool = False
    state: FilePath | None = None


async def serve(options: ServeOptions, clock: Clock, say: Callable[[str], None]) -> None:
    """Run the exchange until SIGINT or SIGTERM; ``say`` is given the line that tells where it is.

    Raises ``ConfigError`` when the options make no exchange or the port is taken.
    """
    exchange = _exchange(options, clock)
    try:
        exchange.market.prepare()
        port = await _started(exchange, options)
        if options.scenario is not None:
            for fault in load_scenario(options.scenario):
                exchange.faults.add(fault)
        say(greeting(options, port))
        await _until_signal(exchange)
    finally:
        await exchange.close()


def greeting(options: ServeOptions, port: int) -> str:
    """The line that is printed when the exchange is up."""
    address = f"{options.host}:{port}"
    names = " ".join(str(each.id) for each in options.instruments)
    return (
        f"localnet: REST http://{address}  streams ws://{address}  WS API ws://{address}/ws-fapi/v1  "
        f"key {DEMO_KEY}  secret {DEMO_SECRET}  {DEMO_DEPOSIT} USDT  {names}"
    )


def _exchange(options: ServeOptions, clock: Clock) -> LocalExchange:
    settings = MarketConfig(options.seed, options.instruments, options.speed, options.tick_ms)
    streams = StreamConfig(strict_routing=options.strict_routing)
    config = LocalnetConfig(settings, streams, lenient_signatures=options.lenient_signatures, state=options.state)
    path: Path | None = None
    try:
        if options.bars is not None:
            path = ReplayPath([str(each.id) for each in options.instruments], options.bars, options.speed)
        return LocalExchange(config, clock, Random(options.seed), path)
    except ValueError as error:
        raise ConfigError(f"localnet: {error}") from None


async def _started(exchange: LocalExchange, options: ServeOptions) -> int:
    try:
        return await exchange.start(options.host, options.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"localnet: port {options.port} of {options.host} is in use; choose another with --port, or 0 for any"
            ) from None
        raise ConfigError(f"localnet: cannot listen on {options.host}:{options.port}: {error.strerror}") from None


async def _until_signal(exchange: LocalExchange) -> None:
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(exchange.wait())
    for number in _SIGNALS:
        loop.add_signal_handler(number, waiting.cancel)
    try:
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            waiting.result()
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
