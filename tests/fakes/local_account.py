"""The account side of the local exchange on a bench: prices and clock set by hand, requests signed as clients do."""

import hmac
import random
from collections.abc import Callable, Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import msgspec

from tidegate.adapters.localnet.accounts import DEMO_KEY, DEMO_SECRET, Account, Accounts
from tidegate.adapters.localnet.pipeline import Pipeline
from tidegate.adapters.localnet.ratelimits import Limits, RateLimits
from tidegate.adapters.localnet.rest_account import account_routes
from tidegate.adapters.localnet.routes import ApiRequest, ApiResponse
from tidegate.adapters.localnet.symbols import SymbolInfo
from tidegate.domain.ids import Nanos
from tidegate.domain.instrument import Instrument
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE

START_NS: Nanos = 1_763_800_000_000_000_000
Json = dict[str, Any]


class HandClock:
    """A clock that stands where it is put."""

    def __init__(self, now_ns: Nanos = START_NS) -> None:
        self.time_ns = now_ns

    def now_ns(self) -> Nanos:
        return self.time_ns

    def monotonic_ns(self) -> Nanos:
        return self.time_ns

    async def sleep_until(self, at_ns: Nanos) -> None:
        self.time_ns = max(self.time_ns, at_ns)


class HandPrices:
    """Prices that move when told to."""

    def __init__(self, clock: HandClock, instruments: tuple[Instrument, ...] = DEFAULT_UNIVERSE) -> None:
        self.clock = clock
        self.symbols: dict[str, SymbolInfo] = {each.id: SymbolInfo.of(each) for each in instruments}
        self.levels: dict[str, tuple[Decimal, ...]] = {}
        self._callbacks: list[Callable[[str, Nanos], None]] = []
        for name, price in (
            ("BTCUSDT", "50000.0"),
            ("ETHUSDT", "2500.00"),
            ("SOLUSDT", "100.00"),
            ("BNBUSDT", "300.00"),
        ):
            if name in self.symbols:
                tick = self.symbols[name].instrument.tick
                self.levels[name] = (Decimal(price), Decimal(price) + tick, Decimal(price), Decimal(price))

    def move(self, symbol: str, bid: str, ask: str = "", last: str = "", mark: str = "") -> None:
        """A new market: the ask a tick above the bid, last and mark at the bid, unless given."""
        low = Decimal(bid)
        high = Decimal(ask) if ask else low + self.symbols[symbol].instrument.tick
        self.levels[symbol] = (low, high, Decimal(last or bid), Decimal(mark or last or bid))
        for callback in self._callbacks:
            callback(symbol, self.clock.now_ns())

    def best(self, symbol: str) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        bid, ask, _, _ = self.levels[symbol]
        return bid, Decimal(5), ask, Decimal(5)

    def last(self, symbol: str) -> Decimal:
        return self.levels[symbol][2]

    def mark(self, symbol: str) -> Decimal:
        return self.levels[symbol][3]

    def index(self, symbol: str) -> Decimal:
        return self.levels[symbol][3]

    def funding(self, symbol: str) -> tuple[Decimal, int]:
        return Decimal("0.0001"), self.clock.now_ns() // 10**6 + 3_600_000

    def subscribe(self, callback: Callable[[str, Nanos], None]) -> None:
        self._callbacks.append(callback)


class LocalBench:
    """Accounts, pipeline and one client of the ready-made account. ``events`` is what its stream has said."""

    def __init__(self, limits: Limits | None = None, *, lenient: bool = False) -> None:
        self.clock = HandClock()
        self.prices = HandPrices(self.clock)
        self.accounts = Accounts(self.prices, self.clock, random.Random(7))
        self.account: Account = self.accounts.add()
        self.limits = RateLimits(limits or Limits(), self.clock)
        routes = account_routes(self.accounts, self.limits)
        self.pipeline = Pipeline(self.accounts, routes, self.limits, self.clock, lenient_signatures=lenient)
        self.events: list[Json] = []
        self.account.subscribe(self.events.append)

    async def raw(self, method: str, path: str, query: str = "", body: str = "", key: str = DEMO_KEY) -> ApiResponse:
        """A request, byte for byte."""
        headers = {"x-mbx-apikey": key} if key else {}
        return await self.pipeline.handle(ApiRequest(method, path, query.encode(), body.encode(), headers, "10.0.0.1"))

    async def ask(self, method: str, path: str, params: Mapping[str, object] | None = None) -> Any:
        """A signed request; returns the JSON of the answer, error or not."""
        pairs = {**(params or {}), "timestamp": self.clock.now_ns() // 10**6}
        text = urlencode(pairs)
        signature = hmac.new(DEMO_SECRET.encode(), text.encode(), sha256).hexdigest()
        response = await self.raw(method, path, f"{text}&signature={signature}")
        return msgspec.json.decode(response.body)

    async def order(self, side: str, qty: object, price: object = None, **more: object) -> Any:
        """POST order of BTCUSDT: at the market, or a GTC limit when a price is given."""
        params: dict[str, object] = {"symbol": "BTCUSDT", "side": side, "quantity": qty, "newOrderRespType": "RESULT"}
        if price is None:
            params["type"] = "MARKET"
        else:
            params |= {"type": "LIMIT", "price": price, "timeInForce": "GTC"}
        return await self.ask("POST", "/fapi/v1/order", {**params, **more})

    async def stop(self, side: str, qty: object, trigger: object, **more: object) -> Any:
        """POST algoOrder of BTCUSDT: STOP_MARKET unless another type is given."""
        params = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": side, "type": "STOP_MARKET"}
        given = {"quantity": qty, "triggerPrice": trigger, **more}
        return await self.ask("POST", "/fapi/v1/algoOrder", params | {k: v for k, v in given.items() if v is not None})

    def said(self, kind: str) -> list[Json]:
        """The events of a kind, and forget them all."""
        found = [event for event in self.events if event["e"] == kind]
        self.events.clear()
        return found
