"""The local exchange in this process, over real loopback sockets; its time may run fast."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tidegate.adapters.binance.clock import VenueClock, measure
from tidegate.adapters.binance.feed import BinanceFeed
from tidegate.adapters.binance.limits import Governor
from tidegate.adapters.binance.rest import BinanceRest, Call
from tidegate.adapters.binance.signing import HmacSigner
from tidegate.adapters.binance.venue import BinanceVenue
from tidegate.adapters.binance.ws_transport import WebsocketsTransport
from tidegate.adapters.localnet.accounts import DEMO_KEY, DEMO_SECRET
from tidegate.adapters.localnet.market import MarketConfig
from tidegate.adapters.localnet.server import LocalExchange, LocalnetConfig
from tidegate.adapters.system.clock import SystemClock
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.secret import Secret
from tidegate.ports import Clock

BTC = InstrumentId("BTCUSDT")


class FastClock:
    """The machine's clock, ``speed`` times as fast from the moment it is made."""

    def __init__(self, speed: float) -> None:
        self._machine, self._speed = SystemClock(), speed
        self._began_ns, self._wall_ns = self._machine.monotonic_ns(), self._machine.now_ns()

    def now_ns(self) -> Nanos:
        return self._wall_ns + self.monotonic_ns()

    def monotonic_ns(self) -> Nanos:
        return round((self._machine.monotonic_ns() - self._began_ns) * self._speed)

    async def sleep_until(self, at_ns: Nanos) -> None:
        while (left_ns := at_ns - self.now_ns()) > 0:  # noqa: ASYNC110  a clock rings no bell
            await asyncio.sleep(left_ns / 1e9 / self._speed)


@dataclass
class Local:
    """A local exchange that runs, and the ways to it. ``calls`` are the requests of ``rest``."""

    exchange: LocalExchange
    clock: Clock
    session: aiohttp.ClientSession
    port: int
    key: str = DEMO_KEY
    secret: str = DEMO_SECRET
    calls: list[Call] = field(default_factory=list)

    async def rest(self) -> BinanceRest:
        """A signed way to it, that knows what time it is there."""
        timer = VenueClock(self.clock.monotonic_ns)
        signer = HmacSigner(self.key, Secret(self.secret))
        base, rng = f"http://127.0.0.1:{self.port}", random.Random(1)
        rest = BinanceRest(base, self.session, timer, Governor(timer), signer, rng, on_call=self.calls.append)
        await measure(rest)
        return rest

    async def feed(self) -> BinanceFeed:
        """Its market data."""
        rest = await self.rest()
        address, rng = f"ws://127.0.0.1:{self.port}", random.Random(2)
        return BinanceFeed(rest, WebsocketsTransport(), address, self.clock, rng, venue_now_ns=rest.clock.now_ns)

    async def venue(self) -> BinanceVenue:
        """The account there; not started."""
        rest = await self.rest()
        address, rng = f"ws://127.0.0.1:{self.port}", random.Random(3)
        return BinanceVenue(rest, WebsocketsTransport(), address, self.clock, rng, (BTC,))


@asynccontextmanager
async def local_exchange(speed: float = 1.0, seed: int = 7) -> AsyncIterator[Local]:
    """An exchange on a free port until the end of the block."""
    clock = SystemClock() if speed == 1.0 else FastClock(speed)
    exchange = LocalExchange(LocalnetConfig(MarketConfig(seed, history_bars=50)), clock, random.Random(seed))
    exchange.market.prepare()
    port = await exchange.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Local(exchange, clock, session, port)
    finally:
        await exchange.close()
