"""Who is let in: keys, signatures, time windows, budgets, sessions; and what is never shown."""

import base64
import hmac
import logging
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from tests.fakes.local_account import LocalBench
from tidegate.adapters.localnet.accounts import DEMO_KEY, DEMO_SECRET
from tidegate.adapters.localnet.auth import Credentials, session_message
from tidegate.adapters.localnet.ratelimits import Limits
from tidegate.adapters.localnet.wsapi import METHODS, WsApi
from tidegate.domain.secret import Secret

BALANCE = "/fapi/v3/balance"
ADDRESS = "10.0.0.1"


async def code(bench: LocalBench, query: str, key: str = DEMO_KEY, path: str = BALANCE) -> int:
    response = await bench.raw("GET", path, query, key=key)
    answer = msgspec.json.decode(response.body)
    return answer["code"] if isinstance(answer, dict) else 0


def pem(key: Any) -> bytes:
    return bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


# ---- keys and signatures ---------------------------------------------------------------------------------------------


async def test_each_way_of_not_being_let_in() -> None:
    bench = LocalBench()
    now_ms = bench.account.now_ms
    assert await code(bench, f"timestamp={now_ms}", key="") == -2014
    assert await code(bench, f"timestamp={now_ms}", key="stranger") == -2015
    assert await code(bench, f"timestamp={now_ms}") == -1102
    assert await code(bench, f"timestamp={now_ms}&signature=") == -1102
    assert await code(bench, f"timestamp={now_ms}&signature={'0' * 64}") == -1022
    assert await code(bench, f"timestamp={now_ms}&signature=%FFé") == -1022
    response = await bench.raw("GET", "/fapi/v1/nothing")
    assert (response.status, msgspec.json.decode(response.body)["code"]) == (404, -5000)
    assert (await bench.raw("GET", BALANCE, key="stranger")).status == 401


@pytest.mark.parametrize(
    ("offset_ms", "window", "expected"),
    [
        (999, "", 0),
        (1000, "", -1021),
        (-5000, "", 0),
        (-5001, "", -1021),
        (-60_000, "&recvWindow=60000", 0),
        (-10, "&recvWindow=5", -1021),
        (0, "&recvWindow=-1", -1130),
        (0, "&recvWindow=x", -1130),
    ],
)
async def test_the_time_window(offset_ms: int, window: str, expected: int) -> None:
    bench = LocalBench()
    text = f"timestamp={bench.account.now_ms + offset_ms}{window}"
    assert await code(bench, f"{text}&signature={signed(text)}") == expected


async def test_a_time_that_is_missing_or_no_number() -> None:
    bench = LocalBench()
    for text in ("", "timestamp=", "timestamp=soon", "timestamp=1.5"):
        assert await code(bench, f"{text}&signature={signed(text)}") == -1102


def signed(text: str) -> str:
    return hmac.new(DEMO_SECRET.encode(), text.encode(), sha256).hexdigest()


@pytest.mark.parametrize("in_body", [False, True])
@pytest.mark.parametrize("first", [False, True])
async def test_the_signature_covers_query_and_body_as_sent_wherever_it_stands(in_body: bool, first: bool) -> None:
    bench = LocalBench()
    query, body = f"symbol=BTCUSDT&timestamp={bench.account.now_ms}", "leverage=7"
    pair = f"signature={signed(query + body).upper()}"
    place = body if in_body else query
    place = f"{pair}&{place}" if first else f"{place}&{pair}"
    sent = (query, place) if in_body else (place, body)
    response = await bench.raw("POST", "/fapi/v1/leverage", *sent)
    assert msgspec.json.decode(response.body)["leverage"] == 7
    doubled = f"leverage=9&timestamp={bench.account.now_ms}&symbol=BTCUSDT"
    response = await bench.raw("POST", "/fapi/v1/leverage", f"{doubled}&signature={signed(doubled + body)}", body)
    assert msgspec.json.decode(response.body)["leverage"] == 9


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
async def test_public_key_accounts_sign_with_their_private_key(kind: str) -> None:
    bench = LocalBench()
    key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else rsa.generate_private_key(65537, 2048)
    bench.accounts.add("public", public_pem=pem(key))
    text = f"timestamp={bench.account.now_ms}"
    raw = (
        key.sign(text.encode())
        if isinstance(key, ed25519.Ed25519PrivateKey)
        else key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    )
    signature = quote(base64.b64encode(raw), safe="")
    assert await code(bench, f"{text}&signature={signature}", key="public") == 0
    assert await code(bench, f"{text}0&signature={signature}", key="public") == -1022
    assert await code(bench, f"{text}&signature=AAAA", key="public") == -1022


def test_published_signatures_verify(shared: Any) -> None:
    vectors = msgspec.json.decode((shared / "oracles/binance/signing_vectors.json").read_bytes())
    for vector in vectors["hmac"]:
        credentials = Credentials("k", Secret(vector["secret"]))
        assert credentials.verifies(vector["payload"].encode(), vector["signature"])
        assert not credentials.verifies(vector["payload"].encode() + b"0", vector["signature"])
    for vector in vectors["rsa"]:
        credentials = Credentials("k", public_pem=vector["public_key_pem"].encode())
        assert credentials.verifies(vector["payload"].encode(), vector["signature_base64"])
        assert not credentials.verifies(vector["payload"].encode() + b"0", vector["signature_base64"])
    assert (len(vectors["hmac"]), len(vectors["rsa"])) >= (2, 1)


def test_nothing_of_a_secret_is_shown() -> None:
    assert "hunter2" not in repr(Credentials("abcdef", Secret("hunter2")))


# ---- budgets ---------------------------------------------------------------------------------------------------------


async def test_weight_is_counted_refused_and_punished() -> None:
    bench = LocalBench(Limits(weight_1m=12, tolerated=2))
    text = f"timestamp={bench.account.now_ms}"
    query = f"{text}&signature={signed(text)}"
    used = [(await bench.raw("GET", BALANCE, query)).headers["X-MBX-USED-WEIGHT-1M"] for _ in range(2)]
    assert used == ["5", "10"]
    statuses = [(await bench.raw("GET", BALANCE, query)).status for _ in range(4)]
    assert statuses == [429, 429, 418, 418]
    answer = msgspec.json.decode((await bench.raw("GET", BALANCE, query)).body)
    until_ms = bench.account.now_ms + 120_000
    assert answer["code"] == -1003
    assert f"IP banned until {until_ms}." in answer["msg"]
    bench.clock.time_ns = until_ms * 10**6
    assert "code" not in await bench.ask("GET", BALANCE)


async def test_orders_are_counted_apart_and_refused_with_their_own_code() -> None:
    bench = LocalBench(Limits(orders_10s=6))
    text = urlencode(
        {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01", "timestamp": bench.account.now_ms}
    )
    response = await bench.raw("POST", "/fapi/v1/order", f"{text}&signature={signed(text)}")
    assert response.headers["X-MBX-ORDER-COUNT-10S"] == "1"
    assert response.headers["X-MBX-USED-WEIGHT-1M"] == "0"
    await bench.ask("POST", "/fapi/v1/batchOrders", {"batchOrders": "[{}]"})
    assert bench.limits.used_orders(DEMO_KEY) == (6, 2)
    assert (await bench.order("BUY", "0.01"))["code"] == -1015
    bench.clock.time_ns += 10 * 10**9
    assert (await bench.order("BUY", "0.01"))["status"] == "FILLED"


async def test_each_endpoint_weighs_what_it_should() -> None:
    bench = LocalBench()
    for path, params, weight in (
        ("v1/openOrders", {}, 40),
        ("v1/openOrders", {"symbol": "BTCUSDT"}, 1),
        ("v1/openAlgoOrders", {}, 40),
        ("v1/income", {}, 30),
        ("v1/commissionRate", {"symbol": "BTCUSDT"}, 20),
        ("v1/accountConfig", {}, 5),
        ("v1/forceOrders", {}, 50),
        ("v1/leverageBracket", {}, 1),
    ):
        before = bench.limits.used_weight(ADDRESS)
        await bench.ask("GET", f"/fapi/{path}", params)
        assert bench.limits.used_weight(ADDRESS) - before == weight, path


# ---- sessions of the WebSocket API -----------------------------------------------------------------------------------


@pytest.fixture
async def served() -> AsyncIterator[tuple[LocalBench, aiohttp.ClientWebSocketResponse]]:
    bench = LocalBench()
    api = WsApi(bench.accounts, bench.pipeline.routes, bench.limits, bench.clock)
    app = web.Application()
    app.router.add_get("/ws-fapi/v1", api.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{port}/ws-fapi/v1") as socket:
        yield bench, socket
    await api.close()
    await runner.cleanup()
    bench.accounts.close()


async def say(socket: aiohttp.ClientWebSocketResponse, method: str, params: dict[str, Any]) -> dict[str, Any]:
    await socket.send_str(msgspec.json.encode({"id": method, "method": method, "params": params}).decode())
    answer: dict[str, Any] = msgspec.json.decode((await socket.receive()).data)
    assert answer["id"] == method
    return answer


async def test_a_session_logs_on_with_ed25519_and_then_needs_no_signature(
    served: tuple[LocalBench, aiohttp.ClientWebSocketResponse],
) -> None:
    bench, socket = served
    key = ed25519.Ed25519PrivateKey.generate()
    bench.accounts.add("ed", public_pem=pem(key))
    now = {"timestamp": bench.account.now_ms}
    assert bench.limits.used_weight("127.0.0.1") == 5
    logon = {"apiKey": "ed", **now}
    logon["signature"] = base64.b64encode(key.sign(session_message(logon))).decode()
    assert (await say(socket, "account.status", dict(now)))["error"]["code"] == -2015
    refused = await say(socket, "session.logon", {"apiKey": DEMO_KEY, **now, "signature": "00"})
    assert (refused["status"], refused["error"]["code"]) == (400, -4056)
    answer = await say(socket, "session.logon", logon)
    assert answer["result"]["apiKey"] == "ed"
    assert (await say(socket, "session.status", {}))["result"]["authorizedSince"] == bench.account.now_ms
    order = {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": 0.01,
        "price": 49000,
    }
    placed = await say(socket, "order.place", {**order, **now})
    assert (placed["status"], placed["result"]["price"]) == (200, "49000.0")
    assert placed["rateLimits"][0]["limit"] == 2400
    ed = bench.accounts.by_key("ed")
    assert ed is not None
    assert len(ed.orders.open_orders()) == 1
    gone = await say(socket, "order.cancel", {"symbol": "BTCUSDT", "orderId": placed["result"]["orderId"], **now})
    assert gone["result"]["status"] == "CANCELED"
    assert "listenKey" in (await say(socket, "userDataStream.start", {}))["result"]
    assert (await say(socket, "session.logout", {}))["result"]["apiKey"] is None
    assert (await say(socket, "order.place", {**order, **now}))["error"]["code"] == -2015


async def test_nonsense_is_answered_and_the_connection_lives(
    served: tuple[LocalBench, aiohttp.ClientWebSocketResponse],
) -> None:
    _, socket = served
    for nonsense in ("{", "[]", '{"id":1,"method":"order.place","params":[]}'):
        await socket.send_str(nonsense)
        answer = msgspec.json.decode((await socket.receive()).data)
        assert (answer["status"], answer["error"]["code"]) == (400, -1135)
    assert (await say(socket, "order.steal", {}))["error"]["code"] == -1101


def test_every_method_has_its_endpoint_on_the_account_side() -> None:
    routes = LocalBench().pipeline.routes
    market = {"depth", "ticker.price", "ticker.book"}
    assert {name for name, where in METHODS.items() if where not in routes} == market


async def test_the_log_shows_no_query_key_or_signature(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench = LocalBench()
    await bench.order("BUY", "0.01")
    await bench.order("BUY", "-1")
    for record in caplog.records:
        assert "signature" not in record.getMessage()
        assert DEMO_SECRET not in record.getMessage()
