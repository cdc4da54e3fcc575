"""The local exchange as one server on one port: REST, streams, WebSocket API and admin over one market."""

import asyncio
import logging
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path as FilePath
from random import Random
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tidegate.adapters.localnet.accounts import Accounts
from tidegate.adapters.localnet.admin import Admin
from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.faults import CutConnection, Faults
from tidegate.adapters.localnet.hub import Hub
from tidegate.adapters.localnet.keeping import Keeper, read_kept
from tidegate.adapters.localnet.market import LocalMarket, MarketConfig
from tidegate.adapters.localnet.path import Path, ResumedPath, SyntheticPath
from tidegate.adapters.localnet.pipeline import Pipeline
from tidegate.adapters.localnet.ratelimits import Limits, RateLimits
from tidegate.adapters.localnet.rest_account import account_routes
from tidegate.adapters.localnet.rest_market import MarketRest
from tidegate.adapters.localnet.routes import ApiRequest, ApiResponse, Routes
from tidegate.adapters.localnet.streams import StreamConfig, Streams
from tidegate.adapters.localnet.wire_faults import faulty_factory
from tidegate.adapters.localnet.wsapi import WsApi
from tidegate.ports import Clock

log = logging.getLogger(__name__)

_http_log = logging.getLogger(f"{__name__}.http")
_http_log.setLevel(logging.WARNING)


def _is_ours(record: logging.LogRecord) -> bool:
    """False for requests that the library could not read: it would quote them, keys and signatures and all."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_http_log.addFilter(_is_ours)

_MAX_BODY_BYTES: Final = 1 << 20
_SHUTDOWN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class LocalnetConfig:
    """``kline_ms`` is the cadence of open candles (-1: closed ones only). ``demo_account`` is the ready-made one.
    ``old_answers``: order answers hold what was dropped from them in July 2026. ``state`` is the file in which the
    exchange is kept, and from which it goes on.
    """

    market: MarketConfig = field(default_factory=MarketConfig)
    streams: StreamConfig = field(default_factory=StreamConfig)
    limits: Limits = field(default_factory=Limits)
    kline_ms: int = 250
    lenient_signatures: bool = False
    demo_account: bool = True
    old_answers: bool = False
    state: FilePath | None = None


class LocalExchange:
    """A running exchange. ``start`` and ``stop`` may alternate: market, accounts and orders live on in between.

    Make it inside a running event loop. ``rng`` is the root of all its randomness but the price path, which hangs on
    ``config.market.seed``; ``path`` replaces the invented market. Call ``close`` at the end.
    """

    def __init__(self, config: LocalnetConfig, clock: Clock, rng: Random, path: Path | None = None) -> None:
        self.config = config
        self.clock = clock
        kept = None if config.state is None else read_kept(config.state)
        if kept is not None:
            path = ResumedPath(
                path or SyntheticPath(config.market.seed, config.market.instruments, config.market.speed), kept.prices
            )
        self.market = LocalMarket(clock, Random(rng.getrandbits(64)), config.market, path)
        self.accounts = Accounts(self.market, clock, Random(rng.getrandbits(64)))
        self.faults = Faults(clock, Random(rng.getrandbits(64)))
        self.limits = RateLimits(config.limits, clock)
        self.hub = Hub(self.market, self.accounts, self.faults, config.kline_ms)
        self.streams = Streams(self.hub, clock, config.streams)
        self._keeper = None if config.state is None else Keeper(config.state, self.market, self.accounts)
        routes: Routes = {
            **MarketRest(self.market, clock, config.limits.rows()).routes(),
            **account_routes(self.accounts, self.limits, old_answers=config.old_answers),
        }
        if self._keeper is not None:
            routes = self._keeper.keeping(routes)
        self.wsapi = WsApi(self.accounts, routes, self.limits, clock, self.faults)
        self.pipeline = Pipeline(
            self.accounts,
            routes,
            self.limits,
            clock,
            self.faults,
            lenient_signatures=config.lenient_signatures,
        )
        self.market.on_funding(lambda symbol, rate, mark, at_ms: self.accounts.fund(symbol, rate, mark, at_ms * 10**6))
        self.market.on_listing(self.accounts.relist)
        if config.demo_account:
            self.accounts.add()
        if self._keeper is not None:
            if kept is not None:
                self._keeper.restore(kept)
            self._keeper.follow()
        self._admin = Admin(self.faults, self.accounts, self.market)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen and let the market run; returns the port. Raises ``OSError`` when the address cannot be had."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        wsapi, rest = web.get("/ws-fapi/v1", self.wsapi.handle), web.route("*", "/{path:.*}", self._rest)
        app.add_routes([*self._admin.routes(), *self.streams.routes(), wsapi, rest])
        app.on_response_prepare.append(self._date)
        runner = web.AppRunner(app, access_log=None, logger=_http_log, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        assert runner.server is not None
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(faulty_factory(runner.server, self.faults), host, port)
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._ticking = asyncio.ensure_future(self.market.run())
        return int(self._server.sockets[0].getsockname()[1]) if self._server.sockets else port

    async def wait(self) -> None:
        """Until the exchange is stopped. Raises what the market failed with."""
        if self._ticking is not None:
            await asyncio.wait([self._ticking])
            if not self._ticking.cancelled():
                self._ticking.result()

    async def stop(self) -> None:
        """Take no more connections, end those that are, stand still. Harmless when not started."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        await self.streams.close()
        await self.wsapi.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def close(self) -> None:
        """Stop for good."""
        await self.stop()
        await self.faults.stop()
        self.accounts.close()

    # -- REST ----------------------------------------------------------------------------------------------------------

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        raw_query = request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape")
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        asked = ApiRequest(request.method, request.path, raw_query, body, headers, request.remote or "127.0.0.1")
        answer = await self._answer(asked)
        log.debug("%s %s %s", request.method, request.path, "cut" if answer is None else answer.status)
        if answer is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        told = {"Content-Type": "application/json", **answer.headers}
        return web.Response(body=answer.body, status=answer.status, headers=told)

    async def _date(self, _: web.Request, response: web.StreamResponse) -> None:
        """Every answer is dated by the exchange's clock; the library would take the machine's."""
        response.headers["Date"] = formatdate(self.clock.now_ns() / 1e9, usegmt=True)

    async def _answer(self, request: ApiRequest) -> ApiResponse | None:
        """``None``: the connection is to be broken. A fault of our own is told as the venue tells its own."""
        try:
            return await self.pipeline.handle(request)
        except CutConnection:
            return None
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return ApiError(-1000, msg="An unknown error occurred while processing the request.", status=500).response
