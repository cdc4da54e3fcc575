"""Each fault against the local exchange itself, client and server in one process on virtual time."""

import asyncio
import hashlib
import hmac
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
import pytest

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
        url, headers = f"{self._base}{path}?{query}&signature={signature}", {"X-MBX-APIKEY": "demo-key"}
        try:
            async with self._session.request(method, url, headers=headers) as answer:
                return answer.status, msgspec.json.decode(await answer.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__, {}

    async def order(self, method: str, **params: str) -> object:
        """The order's status, or the error's code, or the exception's name."""
        status, body = await self.call(method, "/fapi/v1/order", symbol=SYMBOL, **params)
        return body.get("code", body.get("status", status))


def meet(fault: Fault, kind: str = "MARKET", wait_s: float = 4.0) -> tuple[Seen, str]:
    """Place an order on an exchange with a fault in force, look, wait, look again."""
    seen = Seen()

    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop, EPOCH_NS)
        exchange = LocalExchange(LocalnetConfig(), clock, random.Random(3))
        base = f"http://127.0.0.1:{await exchange.start()}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
            client = Client(session, base, clock)
            _, key = await client.call("POST", "/fapi/v1/listenKey")
            async with session.ws_connect(f"{base}/private/ws?listenKey={key['listenKey']}") as stream:
                reading = asyncio.ensure_future(_read(stream, seen.events))
                exchange.faults.add(fault)
                await asyncio.sleep(0.01)
                limit = {"price": "100", "timeInForce": "GTC"} if kind == "LIMIT" else {}
                seen.placed = await client.order(
                    "POST", side="BUY", type=kind, quantity="1", newClientOrderId="x1", **limit
                )
                seen.queried = await client.order("GET", origClientOrderId="x1")
                await asyncio.sleep(wait_s)
                seen.later = await client.order("GET", origClientOrderId="x1")
                _, books = await client.call("GET", "/admin/books")
                seen.fills = {name.partition("-")[0]: len(fills) for name, fills in books["demo-key"]["fills"].items()}
                seen.injected = exchange.faults.injected[fault.fault]
                reading.cancel()
        assert not exchange.faults.errors
        await exchange.close()

    outcome = run(main, 5)
    assert not outcome.errors
    return seen, outcome.digest


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
        (Fault("U06", skip=0, at_s=0), lambda events: events == WHOLE),
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
