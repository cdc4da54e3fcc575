"""Each fault against the local exchange itself, client and server in one process on virtual time."""

import asyncio
import hashlib
import hmac
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
import numpy.random  # noqa: F401  drawn in at its first use, it takes from the randomness of the run
import pytest
from yarl import URL

from tidegate.adapters.localnet.fault_rules import Fault
from tidegate.adapters.localnet.server import LocalExchange, LocalnetConfig
from tidegate.app.simulation.clock import EPOCH_NS, VirtualClock
from tidegate.app.simulation.loop import VirtualLoop
from tidegate.app.simulation.runner import run
from tidegate.ports import Clock

SYMBOL = "ETHUSDT"


@dataclass
class Seen:
    """What a client met: the answer to its order, two queries (at once, and later), its events; and the books."""

    placed: object = None
    queried: object = None
    later: object = None
    events: list[str] = field(default_factory=list)
    fills: dict[str, int] = field(default_factory=dict)
    injected: int = 0


class Client:
    """A client of a few lines, which signs and gives up after 3 s."""

    def __init__(self, session: aiohttp.ClientSession, base: str, clock: Clock) -> None:
        self._session, self._base, self._clock = session, base, clock

    async def call(self, method: str, path: str, **params: str) -> tuple[object, Any]:
        """Status and body; or the exception's name."""
        query = urlencode({**params, "timestamp": str(self._clock.now_ns() // 1_000_000)})
        signature = hmac.new(b"demo-secret", query.encode(), hashlib.sha256).hexdigest()
        url = URL(f"{self._base}{path}?{query}&signature={signature}", encoded=True)  # the bytes that were signed
        headers = {"X-MBX-APIKEY": "demo-key"}
        try:
            async with self._session.request(method, url, headers=headers) as answer:
                return answer.status, msgspec.json.decode(await answer.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__, {}

    def stream(self, path: str) -> AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
        """A stream connection."""
        return self._session.ws_connect(self._base + path)

    async def books(self) -> Any:
        """The venue's own."""
        return (await self.call("GET", "/admin/books"))[1]["demo-key"]

    async def order(self, method: str, **params: str) -> object:
        """The order's status, or the error's code, or the exception's name."""
        status, body = await self.call(method, "/fapi/v1/order", symbol=SYMBOL, **params)
        return body.get("code", body.get("status", status))


Script = Callable[[LocalExchange, Client, list[str]], Awaitable[None]]


def simulate(script: Script) -> str:
    """Run a script against a fresh exchange, with a user stream open; returns the digest of all traffic."""

    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop, EPOCH_NS)
        exchange = LocalExchange(LocalnetConfig(), clock, random.Random(3))
        base = f"http://127.0.0.1:{await exchange.start()}"
        events: list[str] = []
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
            client = Client(session, base, clock)
            _, key = await client.call("POST", "/fapi/v1/listenKey")
            async with session.ws_connect(f"{base}/private/ws?listenKey={key['listenKey']}") as stream:
                reading = asyncio.ensure_future(_read(stream, events))
                await script(exchange, client, events)
                reading.cancel()
        assert not exchange.faults.errors
        await exchange.close()

    outcome = run(main, 5)
    assert not outcome.errors
    return outcome.digest


def meet(fault: Fault) -> tuple[Seen, str]:
    """Place an order on an exchange with a fault in force, look, wait, look again."""
    seen = Seen()

    async def script(exchange: LocalExchange, client: Client, events: list[str]) -> None:
        exchange.faults.add(fault)
        await asyncio.sleep(0.01)
        seen.placed = await client.order("POST", side="BUY", type="MARKET", quantity="1", newClientOrderId="x1")
        seen.queried = await client.order("GET", origClientOrderId="x1")
        await asyncio.sleep(4.0)
        seen.later = await client.order("GET", origClientOrderId="x1")
        books = await client.books()
        seen.fills = {name.partition("-")[0]: len(fills) for name, fills in books["fills"].items()}
        seen.injected = exchange.faults.injected[fault.fault]
        seen.events = list(events)

    return seen, simulate(script)


async def _read(stream: aiohttp.ClientWebSocketResponse, events: list[str]) -> None:
    async for message in stream:
        if message.type is aiohttp.WSMsgType.TEXT:
            event = msgspec.json.decode(message.data)
            order = event.get("o")
            events.append(event["e"] if not isinstance(order, dict) else f"{event['e']}:{order['X']}")


WHOLE = ["ORDER_TRADE_UPDATE:NEW", "TRADE_LITE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE:FILLED"]


@pytest.mark.parametrize(
    ("fault", "placed", "queried", "later", "fills"),
    [
        (Fault("V01"), -1000, "FILLED", "FILLED", 1),
        (Fault("V02"), -1000, -2013, -2013, 0),
        (Fault("V03"), "TimeoutError", "FILLED", "FILLED", 1),
        (Fault("V04"), "TimeoutError", -2013, -2013, 0),
        (Fault("V05"), -1000, -2013, "FILLED", 1),
        (Fault("V06", params={"late_s": 3.0}), -1000, -2013, "FILLED", 1),
        (Fault("V07", for_s=2), -1008, -1008, -2013, 0),
        (Fault("V08", params={"code": -2019}), -2019, -2013, -2013, 0),
        (Fault("V09", params={"retry_after_s": 2.0}), -1003, -1003, -2013, 0),
        (Fault("V10", for_s=3), -1016, -1016, -2013, 0),
        (Fault("V11", params={"hide_s": 3.0}), -1000, -2013, "FILLED", 1),
        (Fault("V13", params={"fills": 5}), "NEW", "PARTIALLY_FILLED", "EXPIRED", 5),
        (Fault("U05"), "NEW", "FILLED", "FILLED", 1),
        (Fault("N01", params={"low_s": 0.1, "high_s": 0.3}), "NEW", "FILLED", "FILLED", 1),
        (Fault("N02", params={"low_s": 1.0, "high_s": 2.0}), "NEW", "FILLED", "FILLED", 1),
        (Fault("N04", for_s=4), "TimeoutError", "FILLED", "FILLED", 1),
        (Fault("N05", params={"where": "after"}), "ClientOSError", "FILLED", "FILLED", 1),
        (Fault("N06"), "ClientPayloadError", "FILLED", "FILLED", 1),
    ],
    ids=lambda value: value.fault if isinstance(value, Fault) else "",
)
def test_orders_under_a_fault(fault: Fault, placed: object, queried: object, later: object, fills: int) -> None:
    seen, digest = meet(fault)
    assert (seen.placed, seen.queried, seen.later, seen.fills.get("x1", 0)) == (placed, queried, later, fills)
    assert seen.injected >= 1
    assert meet(fault)[1] == digest


@pytest.mark.parametrize(
    ("fault", "true_of"),
    [
        (Fault("U01", at_s=1), lambda events: events == [*WHOLE, "listenKeyExpired"]),
        (Fault("U02"), lambda events: events == []),
        (Fault("U04", params={"mode": "missing"}), lambda events: events == []),
        (Fault("U04", params={"mode": "duplicate"}), lambda events: sorted(events) == sorted(WHOLE * 2)),
        (Fault("U04", params={"mode": "reorder"}), lambda events: sorted(events) == sorted(WHOLE) and events != WHOLE),
        (Fault("U04", params={"mode": "delayed", "delay_s": 2.0}), lambda events: events == WHOLE),
        (Fault("U07", at_s=1), lambda events: events[4:6] == ["ORDER_TRADE_UPDATE:NEW", "ACCOUNT_UPDATE"]),
        (Fault("U07", at_s=1, params={"act": "adl"}), lambda events: len(events) > 4),
        (Fault("U08"), lambda events: events == WHOLE[:3]),
        (Fault("U08", params={"drop": "ACCOUNT_UPDATE"}), lambda events: events == [*WHOLE[:2], WHOLE[3]]),
        (Fault("U10", at_s=1), lambda events: len(events) == 2 * len(WHOLE)),
        (Fault("N03"), lambda events: events == []),
        (Fault("N07"), lambda events: events == []),
        (Fault("N07", params={"mode": "split"}), lambda events: events == WHOLE),
    ],
    ids=lambda value: value.fault if isinstance(value, Fault) else "",
)
def test_events_under_a_fault(fault: Fault, true_of: Callable[[list[str]], bool]) -> None:
    seen, _ = meet(fault)
    assert seen.placed == "NEW"
    assert true_of(seen.events), seen.events
    if fault.fault == "U07":
        assert set(seen.fills) - {"x1"} <= {"autoclose", "adl_autoclose"}
        assert len(seen.fills) == 2


async def _rest(client: Client) -> None:
    await client.order("POST", side="BUY", type="LIMIT", timeInForce="GTC", quantity="1", price="100",
                       newClientOrderId="x1")  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "canceled", "then"),
    [("fill", -2011, "FILLED"), ("partial", "CANCELED", "CANCELED"), ("deny", -2011, "NEW")],
)
def test_v12_cancel_races_fill(mode: str, canceled: object, then: str) -> None:
    async def script(exchange: LocalExchange, client: Client, events: list[str]) -> None:
        await _rest(client)
        exchange.faults.add(Fault("V12", params={"mode": mode}))
        assert await client.order("DELETE", origClientOrderId="x1") == canceled
        assert await client.order("GET", origClientOrderId="x1") == then
        assert len((await client.books())["fills"].get("x1", [])) == (mode != "deny")

    simulate(script)


def test_v12_amend_races_fill() -> None:
    async def script(exchange: LocalExchange, client: Client, events: list[str]) -> None:
        await _rest(client)
        exchange.faults.add(Fault("V12"))
        answer = await client.order("PUT", origClientOrderId="x1", side="BUY", quantity="2", price="101")
        assert isinstance(answer, int)
        assert answer < 0
        assert await client.order("GET", origClientOrderId="x1") == "FILLED"

    simulate(script)


def test_v14_one_of_five_fails() -> None:
    async def script(exchange: LocalExchange, client: Client, events: list[str]) -> None:
        rule = exchange.faults.add(Fault("V14"))
        items = [
            {"symbol": SYMBOL, "side": "BUY", "type": "MARKET", "quantity": "1", "newClientOrderId": f"b{number}"}
            for number in range(5)
        ]
        status, rows = await client.call(
            "POST", "/fapi/v1/batchOrders", batchOrders=msgspec.json.encode(items).decode()
        )
        assert status == 200
        failed = [number for number, row in enumerate(rows) if row.get("code") == -2019]
        assert len(failed) == rule.injected == 1
        assert sorted((await client.books())["fills"]) == [f"b{number}" for number in range(5) if number not in failed]

    simulate(script)


@pytest.mark.parametrize("replaces", [False, True])
def test_u09_the_stop_triggers_under_its_cancel_or_replacement(replaces: bool) -> None:
    async def stop(client: Client, name: str) -> Any:
        return await client.call("POST", "/fapi/v1/algoOrder", algoType="CONDITIONAL", symbol=SYMBOL, side="SELL",
                                 type="STOP_MARKET", quantity="1", triggerPrice="100", reduceOnly="true",
                                 clientAlgoId=name)  # fmt: skip

    async def script(exchange: LocalExchange, client: Client, events: list[str]) -> None:
        await client.order("POST", side="BUY", type="MARKET", quantity="1", newClientOrderId="x1")
        assert (await stop(client, "s1"))[0] == 200
        exchange.faults.add(Fault("U09"))
        if replaces:
            await stop(client, "s2")
        else:
            status, _ = await client.call("DELETE", "/fapi/v1/algoOrder", clientAlgoId="s1")
            assert status == 400
        books = await client.books()
        assert (sorted(books["fills"]), books["positions"]) == (["s1", "x1"], {})

    simulate(script)


def test_u03_a_failed_keep_alive_lapses_the_key() -> None:
    async def script(exchange: LocalExchange, client: Client, events: list[str]) -> None:
        exchange.faults.add(Fault("U03"))
        assert (await client.call("PUT", "/fapi/v1/listenKey"))[1]["code"] == -1125
        await client.order("POST", side="BUY", type="MARKET", quantity="1", newClientOrderId="x1")
        await asyncio.sleep(0.1)
        assert events == []

    simulate(script)


def test_u06_an_old_fill_comes_again() -> None:
    async def script(exchange: LocalExchange, client: Client, events: list[str]) -> None:
        exchange.faults.add(Fault("U06"))
        for name in ("x1", "x2"):
            await client.order("POST", side="BUY", type="MARKET", quantity="1", newClientOrderId=name)
        await asyncio.sleep(0.1)
        assert events.count("ORDER_TRADE_UPDATE:FILLED") == 3

    simulate(script)


def test_the_admin_endpoint_answers_through_every_wire_fault() -> None:
    async def script(exchange: LocalExchange, client: Client, events: list[str]) -> None:
        for name in ("N01", "N02", "N04", "N05", "N06"):
            exchange.faults.add(Fault(name, on="any", for_s=60))
        assert (await client.books())["positions"] == {}

    simulate(script)


@pytest.mark.parametrize("cleared", [False, True])
def test_b06_funding_is_extreme_for_its_time(cleared: bool) -> None:
    async def script(exchange: LocalExchange, client: Client, events: list[str]) -> None:
        async def shown() -> tuple[float, int]:
            _, body = await client.call("GET", "/fapi/v1/premiumIndex", symbol=SYMBOL)
            return float(body["lastFundingRate"]), (body["nextFundingTime"] - body["time"]) // 3_600_000

        await client.order("POST", side="SELL", type="MARKET", quantity="1", newClientOrderId="x1")
        exchange.faults.add(Fault("B06", for_s=3700))
        await asyncio.sleep(0.1)
        assert await shown() == (-0.02, 0)
        if cleared:
            exchange.faults.clear("B06")
            await asyncio.sleep(0.1)
        else:
            await asyncio.sleep(3701)
            assert float((await client.books())["income"]["FUNDING_FEE"]["USDT"]) < 0
        assert (await shown())[0] != -0.02

    simulate(script)


def breaks(messages: list[Any]) -> int:
    """How often a depth message does not follow the one before."""
    depth = [each for each in messages if each["e"] == "depthUpdate"]
    return sum(after["pu"] != before["u"] for before, after in pairwise(depth))


@pytest.mark.parametrize(
    ("fault", "true_of"),
    [
        (None, lambda told: breaks(told) == 0 and kinds(told) == {"depthUpdate", "bookTicker"}),
        (Fault("B01", skip=3), lambda told: breaks(told) == 1),
        (Fault("B01", skip=3, params={"mode": "duplicate"}), lambda told: breaks(told) == 1),
        (Fault("B01", skip=3, params={"mode": "reorder"}), lambda told: breaks(told) == 3),
        (Fault("B02", on="bookTicker"), lambda told: sum(crossed(each) for each in told) == 1),
        (Fault("B03", for_s=9), lambda told: told == []),
        (
            Fault("B03", for_s=9, params={"mode": "repeat"}),
            lambda told: len({(each["e"], each["u"]) for each in told}) == 2 < len(told),
        ),
        (Fault("B04", for_s=9), lambda told: kinds(told) == {"bookTicker"}),
        (Fault("N08", for_s=9, params={"rate": 3}), lambda told: told[0] == told[1] == told[2] != told[3]),
    ],
    ids=lambda value: value.fault if isinstance(value, Fault) else "",
)
def test_market_streams_under_a_fault(fault: Fault | None, true_of: Callable[[list[Any]], bool]) -> None:
    async def script(exchange: LocalExchange, client: Client, events: list[str]) -> None:
        told: list[Any] = []
        async with client.stream("/stream?streams=ethusdt@depth/ethusdt@bookTicker") as stream:
            if fault is not None:
                exchange.faults.add(fault)
            reading = asyncio.ensure_future(_collect(stream, told))
            await asyncio.sleep(5.0)
            reading.cancel()
        assert true_of(told), told[:5]

    simulate(script)


def kinds(told: list[Any]) -> set[str]:
    return {each["e"] for each in told}


def crossed(quote: Any) -> bool:
    return quote["e"] == "bookTicker" and float(quote["b"]) >= float(quote["a"])


async def _collect(stream: aiohttp.ClientWebSocketResponse, told: list[Any]) -> None:
    async for message in stream:
        if message.type is aiohttp.WSMsgType.TEXT:
            told.append(msgspec.json.decode(message.data)["data"])
