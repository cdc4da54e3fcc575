"""The recorded requests of six clients, at their own time, with their own key, byte for byte: all must be let in."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from tests.fakes.local_account import HandClock, HandPrices
from tidegate.adapters.localnet.accounts import Accounts
from tidegate.adapters.localnet.market import LocalMarket
from tidegate.adapters.localnet.pipeline import Pipeline
from tidegate.adapters.localnet.ratelimits import Limits, RateLimits
from tidegate.adapters.localnet.rest_account import account_routes
from tidegate.adapters.localnet.rest_market import MarketRest
from tidegate.adapters.localnet.routes import ApiRequest
from tidegate.adapters.localnet.wsapi import WsApi
from tidegate.domain.secret import Secret
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE

CLIENTS = {
    "binance-futures-connector-4.2.0": 25,
    "binance-sdk-derivatives-trading-usds-futures-18.0.1": 23,
    "ccxt-4.5.90": 42,
    "ccxt.pro-4.5.90": 3,
    "nautilus_trader-1.221.0": 9,
    "python-binance-1.0.37": 24,
}
"""Each client and its recorded REST requests."""

SAID_NO = {-2011, -2013, -1125, -4046, -4047, -4049, -4061, -5021, -2022, -4130, -4067}
"""What the exchange may answer to a request that it let in: the orders and settings named in it are not there."""


class Shop:
    """An exchange on which a coin costs 100, whose clock stands at each request's own time."""

    def __init__(self, recording: dict[str, Any], *, lenient: bool) -> None:
        self.clock = HandClock()
        bitcoin = msgspec.structs.replace(DEFAULT_UNIVERSE[0], min_notional=Decimal(0))
        self.prices = HandPrices(self.clock, (bitcoin,))
        self.prices.move("BTCUSDT", "100.5")
        self.accounts = Accounts(self.prices, self.clock, Random(1))
        self.key = recording["api_key"]
        self.accounts.add(self.key, Secret(recording["secret_key"]))
        self.limits = RateLimits(Limits(weight_1m=1_000_000), self.clock)
        market = LocalMarket(self.clock, Random(2))
        self.routes = {
            **MarketRest(market, self.clock, []).routes(),
            **account_routes(self.accounts, self.limits),
        }
        self.pipeline = Pipeline(self.accounts, self.routes, self.limits, self.clock, lenient_signatures=lenient)

    async def replay(self, record: dict[str, Any]) -> tuple[int, Any]:
        path, _, query = record["target"].partition("?")
        body = record["body"] or ""
        sent = [pair for pair in f"{query}&{body}".split("&") if pair.startswith("timestamp=")]
        if sent:
            self.clock.time_ns = int(sent[0].removeprefix("timestamp=")) * 10**6
        headers = {name.lower(): value for name, value in record["headers"].items()}
        request = ApiRequest(record["method"], path, query.encode(), body.encode(), headers, "127.0.0.1")
        response = await self.pipeline.handle(request)
        return response.status, msgspec.json.decode(response.body)


def recording(shared: Path, client: str) -> dict[str, Any]:
    text = (shared / "oracles/binance/client_recordings" / f"{client}.json").read_bytes()
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


def rest(records: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (record for record in records["records"] if record["kind"] == "rest")


@pytest.mark.parametrize("client", CLIENTS)
async def test_every_recorded_request_is_let_in(shared: Path, client: str) -> None:
    recorded = recording(shared, client)
    shop = Shop(recorded, lenient=True)
    count = 0
    for record in rest(recorded):
        status, answer = await shop.replay(record)
        count += 1
        code = answer.get("code") if isinstance(answer, dict) else None
        assert status == 200 or code in SAID_NO, (record["method"], record["target"], record["body"], status, answer)
    shop.accounts.close()
    assert count == CLIENTS[client]


async def test_the_one_signature_over_decoded_text_needs_the_lenient_switch(shared: Path) -> None:
    recorded = recording(shared, "python-binance-1.0.37")
    decoded = [record for record in rest(recorded) if record["signature_over"] == "decoded"]
    assert len(decoded) == 1
    status, answer = await Shop(recorded, lenient=False).replay(decoded[0])
    assert (status, answer["code"]) == (400, -1022)
    status, answer = await Shop(recorded, lenient=True).replay(decoded[0])
    assert (status, [each["code"] for each in answer]) == (200, [-2011, -2011])


@pytest.mark.parametrize("client", CLIENTS)
async def test_one_changed_byte_in_a_signed_request_is_refused(shared: Path, client: str) -> None:
    recorded = recording(shared, client)
    shop = Shop(recorded, lenient=True)
    signed = [record for record in rest(recorded) if record["signature_over"] == "raw"]
    for record in signed:
        where = "body" if "timestamp=" in (record["body"] or "") else "target"
        forged = {**record, where: record[where].replace("timestamp=179", "timestamp=0179")}
        status, answer = await shop.replay(forged)
        assert (status, answer["code"]) == (400, -1022), record["target"]
    assert signed or client == "ccxt.pro-4.5.90"


async def test_requests_out_of_their_window_are_refused(shared: Path) -> None:
    recorded = recording(shared, "ccxt-4.5.90")
    shop = Shop(recorded, lenient=False)
    record = next(each for each in rest(recorded) if each["method"] == "POST")
    sent_ms = int(record["body"].removeprefix("timestamp=").split("&")[0])
    for offset_ms, fine in ((-1000, False), (-999, True), (10_000, True), (10_001, False)):
        at = {**record}
        path = at["target"]
        shop.clock.time_ns = (sent_ms + offset_ms) * 10**6
        response = await shop.pipeline.handle(
            ApiRequest("POST", path, b"", at["body"].encode(), {"x-mbx-apikey": shop.key}, "127.0.0.1")
        )
        code = msgspec.json.decode(response.body).get("code")
        assert (code != -1021) is fine, (offset_ms, response.body)


@pytest.mark.parametrize(
    "client", ["binance-sdk-derivatives-trading-usds-futures-18.0.1", "ccxt.pro-4.5.90", "python-binance-1.0.37"]
)
async def test_recorded_websocket_requests_are_let_in(shared: Path, client: str) -> None:
    recorded = recording(shared, client)
    shop = Shop(recorded, lenient=False)
    api = WsApi(shop.accounts, shop.routes, shop.limits, shop.clock)
    seen = 0
    for record in recorded["records"]:
        if record["kind"] != "ws_message" or record["target"] != "/ws-fapi/v1":
            continue
        asked = msgspec.json.decode(record["text"])
        shop.clock.time_ns = asked["params"]["timestamp"] * 10**6
        answer = await api.answer(api.session(), record["text"])
        assert answer["id"] == asked["id"]
        assert answer["status"] == 200 or answer["error"]["code"] in SAID_NO, (asked, answer)
        assert ("rateLimits" in answer) is (asked["params"].get("returnRateLimits") is not False)
        forged = record["text"].replace('"timestamp":', '"forged": "1", "timestamp":')
        if asked["method"] != "depth":
            assert (await api.answer(api.session(), forged))["error"]["code"] == -1022
        seen += 1
    assert seen == (4 if client.startswith("ccxt") else 1)
