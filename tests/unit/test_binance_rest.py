"""The REST client against real sockets: what is sent, what each fault means, and what no message may hold."""

import asyncio
import gzip
import hashlib
import hmac
import random
import socket
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tidegate.adapters.binance.clock import VenueClock
from tidegate.adapters.binance.errors import Banned, Context, NotSent, Refused, Unauthorised, Unknown
from tidegate.adapters.binance.limits import Governor, Lane
from tidegate.adapters.binance.rest import BinanceRest, Call, Security, check_base_url, open_session
from tidegate.adapters.binance.signing import HmacSigner
from tidegate.domain.errors import ConfigError, VenueError
from tidegate.domain.secret import Secret

KEY, SECRET = "canary-key-1f2e", "canary-secret-9a8b"
NOW_MS = 1_700_000_000_000
ORDER = (("symbol", "BTCUSDT"), ("newClientOrderId", "p1-aa-1-1-1"))
OK = b'{"orderId": 7}'

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Placed(msgspec.Struct, rename="camel"):
    order_id: int


def response(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Text", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Venue:
    """A server that reads requests and answers each with the next of its acts; bytes are written as they stand."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.acts: list[bytes | Act] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.acts:
                if not isinstance(act := self.acts[0], bytes):
                    self.acts.pop(0)
                    await act(reader, writer)
                    return
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                answer = self.acts.pop(0)  # not ``act``: the test may have set others while we waited
                assert isinstance(answer, bytes)
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def target(self, number: int = -1) -> str:
        return self.heads[number].split(" ")[1]


@pytest.fixture
async def venue() -> AsyncIterator[tuple[Venue, str]]:
    found = Venue()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    yield found, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as found:
        yield found


def client(url: str, session: aiohttp.ClientSession, calls: list[Call] | None = None, **options: Any) -> BinanceRest:
    clock = VenueClock(time.monotonic_ns)
    if options.pop("synced", True):
        clock.sample(time.monotonic_ns(), time.monotonic_ns(), NOW_MS)
    signer = HmacSigner(KEY, Secret(SECRET))
    on_call = None if calls is None else calls.append
    return BinanceRest(url, session, clock, Governor(clock), signer, random.Random(1), on_call=on_call, **options)


async def place(rest: BinanceRest, method: str = "POST", **options: Any) -> Placed:
    options = {"lane": Lane.ENTER, "weight": 0, "orders_10s": 1, "orders_1m": 1, "timeout_s": 3.0} | options
    return await rest.call(method, "/fapi/v1/order", ORDER, answer=Placed, **options)


async def ask(rest: BinanceRest, **options: Any) -> Placed:
    return await rest.get("/fapi/v1/order", ORDER, answer=Placed, weight=1, security=Security.SIGNED, **options)


def everything_told(error: BaseException) -> str:
    """The exception as a careless handler would print it: chain, locals and all."""
    told = traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=True)
    return "".join(told.format()) + repr(error) + repr(error.__dict__) + repr(error.__context__)


async def test_exactly_the_signed_bytes_are_sent(venue: tuple[Venue, str], session: aiohttp.ClientSession) -> None:
    server, url = venue
    server.acts = [response(200, OK)]
    sent: list[int] = []
    rest = client(url, session)
    params = [("symbol", "币安USDT"), ("batch", '[{"a": "1+2/3"}]'), ("q", "100%&=~")]
    got = await rest.call(
        "POST",
        "/fapi/v1/order",
        params,
        answer=Placed,
        weight=0,
        lane=Lane.ENTER,
        recv_window_ms=2000,
        on_sent=sent.append,
    )
    assert got.order_id == 7
    query, signature = server.target().removeprefix("/fapi/v1/order?").rsplit("&signature=", 1)
    assert signature == hmac.new(SECRET.encode(), query.encode(), hashlib.sha256).hexdigest()
    stamp_ms = int(query.rsplit("&timestamp=", 1)[1])
    assert query == (
        "symbol=%E5%B8%81%E5%AE%89USDT&batch=%5B%7B%22a%22%3A%20%221%2B2%2F3%22%7D%5D&q=100%25%26%3D~"
        f"&recvWindow=2000&timestamp={stamp_ms}"
    )
    assert sent == [stamp_ms * 1_000_000]
    assert f"X-MBX-APIKEY: {KEY}" in server.heads[0]
    assert 0 <= stamp_ms - NOW_MS < 60_000


async def test_a_public_request_carries_no_key(venue: tuple[Venue, str], session: aiohttp.ClientSession) -> None:
    server, url = venue
    server.acts = [response(200, OK), response(200, OK)]
    rest = client(url, session)
    await rest.get("/fapi/v1/ping", answer=Placed, weight=1)
    await rest.get("/fapi/v1/klines", [("symbol", "BTCUSDT")], answer=Placed, weight=1, security=Security.KEY)
    assert "APIKEY" not in server.heads[0]
    assert server.target(0) == "/fapi/v1/ping"
    assert KEY in server.heads[1]
    assert server.target(1) == "/fapi/v1/klines?symbol=BTCUSDT"
    assert server.connections == 1, "the connection is kept"


async def reset_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def reset_in_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(10)
    writer.transport.abort()


async def reset_after_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await reader.read()


def cut(whole: bytes, at: int) -> Act:
    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole[:at])
        await writer.drain()

    return act


UNKNOWN_FAULTS: dict[str, bytes | Act] = {
    "reset at once": reset_at_once,
    "reset in the request": reset_in_the_request,
    "reset after the request": reset_after_the_request,
    "silence": hang,
    "reset in the status line": cut(b"HTTP/1.1 20", 11),
    "reset in the headers": cut(response(200, OK), 25),
    "body cut off": response(200, OK, length=500),
    "length too short": response(200, OK, length=5),
    "length too long by one": response(200, OK, length=len(OK) + 1),
    "no http": b"SSH-2.0-OpenSSH\r\n\r\n",
    "page of a proxy": response(200, b"<html>ok</html>", "Content-Type: text/html"),
    "empty": response(200, b""),
    "not utf-8": response(200, b'{"orderId": "\xff"}'),
    "broken gzip": response(200, b"\x1f\x8b\x08\x00garbage", "Content-Encoding: gzip"),
    "gzip cut off": response(200, gzip.compress(OK)[:-12], "Content-Encoding: gzip"),
    "no gzip at all": response(200, OK, "Content-Encoding: gzip"),
    "another shape": response(200, b'{"order": 7}'),
    "redirect": response(302, b"", "Location: /elsewhere"),
    "503 unknown": response(503, b'{"code": -1000, "msg": "Unknown error, please check your request."}'),
    "503 unavailable": response(503, b"Service Unavailable."),
    "503 throttled": response(503, b'{"code": -1008, "msg": "Request throttled by system-level protection"}'),
    "408": response(408, b'{"code": -1007, "msg": "Timeout waiting for response from backend server."}'),
    "502": response(502, b"<html>Bad Gateway</html>"),
    "new code of a failed server": response(500, b'{"code": -7777, "msg": "brand new"}'),
    "duplicate id": response(400, b'{"code": -4116, "msg": "ClientOrderId is duplicated."}'),
}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("fault", UNKNOWN_FAULTS)
async def test_once_a_byte_has_left_only_a_clear_answer_is_an_answer(
    venue: tuple[Venue, str], session: aiohttp.ClientSession, fault: str, method: str
) -> None:
    server, url = venue
    server.acts = [UNKNOWN_FAULTS[fault], response(200, OK)]
    calls: list[Call] = []
    with pytest.raises(Unknown) as caught:
        await place(client(url, session, calls), method, timeout_s=0.3 if fault == "silence" else 3.0)
    assert len(server.acts) == 1, "nothing was sent again"
    assert [(call.method, call.fate, call.client_order_id) for call in calls] == [(method, "Unknown", "p1-aa-1-1-1")]
    told = everything_told(caught.value)
    assert "signature=" not in told
    assert "canary" not in told


async def test_a_reset_at_any_byte_of_the_answer_is_unknown(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    server, url = venue
    whole = response(200, OK, "Content-Type: application/json")
    for at in range(len(whole)):
        server.acts = [cut(whole, at)]
        with pytest.raises(Unknown):
            await place(client(url, session))
    server.acts = [cut(whole, len(whole))]
    assert (await place(client(url, session))).order_id == 7


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_kept_connection_that_dies_does_not_repeat_the_request(
    venue: tuple[Venue, str], session: aiohttp.ClientSession, method: str
) -> None:
    server, url = venue
    server.acts = [response(200, OK), reset_after_the_request, response(200, OK)]
    rest = client(url, session)
    await place(rest, method)
    with pytest.raises(Unknown):
        await place(rest, method)
    assert len(server.acts) == 1, "aiohttp would have sent PUT and DELETE again"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class NoName(AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        raise OSError(-2, "Name or service not known")

    async def close(self) -> None:
        pass


async def assert_not_sent(rest: BinanceRest, **options: Any) -> str:
    with pytest.raises(NotSent) as caught:
        await place(rest, **options)
    told = everything_told(caught.value)
    assert "signature=" not in told
    assert "canary" not in told
    return str(caught.value)


async def test_refused_unresolved_and_unencrypted_connections_are_not_sent(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    server, url = venue
    await assert_not_sent(client(f"http://127.0.0.1:{free_port()}", session))
    async with open_session(aiohttp.TCPConnector(resolver=NoName())) as nameless:
        await assert_not_sent(client("https://fapi.example", nameless))
    server.acts = [cut(b"no tls here\r\n\r\n", 15)]
    await assert_not_sent(client(url.replace("http:", "https:"), session), timeout_s=2.0)
    assert not server.heads


async def test_a_connection_that_is_not_made_in_time_is_not_sent() -> None:
    class Never(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
            await asyncio.Event().wait()
            return []

        async def close(self) -> None:
            pass

    async with open_session(aiohttp.TCPConnector(resolver=Never())) as session:
        await assert_not_sent(client("https://fapi.example", session), timeout_s=0.05)


async def test_a_closed_session_is_not_sent_and_shows_nothing() -> None:
    async with open_session() as session:
        rest = client("http://127.0.0.1:1", session)
    await assert_not_sent(rest)


async def test_an_expired_order_is_not_signed_and_an_order_needs_a_good_clock(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    server, url = venue
    rest = client(url, session)
    sent: list[int] = []
    assert "expired" in await assert_not_sent(rest, expires_ns=rest.clock.now_ns(), on_sent=sent.append)
    await rest.governor.take(0, Lane.ENTER, orders_10s=240)
    soon_ns = rest.clock.now_ns() + 50_000_000
    assert "waited" in await assert_not_sent(rest, expires_ns=soon_ns, on_sent=sent.append)
    assert "measured" in await assert_not_sent(client(url, session, synced=False))
    assert "measured" in await assert_not_sent(client(url, session, synced=False), expires_ns=soon_ns)
    rest.clock.begin_round()
    rest.clock.sample(0, 600_000_000, NOW_MS)
    assert "old" in await assert_not_sent(rest, lane=Lane.PROTECT)
    rest.clock.begin_round()
    rest.clock.sample(time.monotonic_ns() - 600_000_000, time.monotonic_ns(), NOW_MS)
    assert "off" in await assert_not_sent(rest, lane=Lane.PROTECT)
    assert not server.heads
    assert not sent
    server.acts = [response(200, OK)]
    await place(rest, "DELETE", lane=Lane.CANCEL)  # a cancel goes out by any clock


async def test_what_on_sent_raises_keeps_the_request_back(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    def fails(_: int) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        await place(client(venue[1], session), on_sent=fails)
    assert not venue[0].heads


@pytest.mark.parametrize(
    ("answer", "lane", "kind"),
    [
        (response(400, b'{"code": -2019, "msg": "Margin is insufficient."}'), Lane.ENTER, Refused),
        (response(200, b'{"code": -2019, "msg": "Margin is insufficient."}'), Lane.ENTER, Refused),
        (response(503, b"Service Unavailable."), Lane.PROTECT, Refused),
        (response(401, b'{"code": -2015, "msg": "Invalid API-key, IP, or permissions."}'), Lane.ENTER, Unauthorised),
        (response(403, b"<html>"), Lane.ENTER, Banned),
        (response(418, b""), Lane.ENTER, Banned),
        (response(429, b"", "Retry-After: 7"), Lane.ENTER, Refused),
    ],
)
async def test_clear_refusals(
    venue: tuple[Venue, str], session: aiohttp.ClientSession, answer: bytes, lane: Lane, kind: type[VenueError]
) -> None:
    venue[0].acts = [answer]
    with pytest.raises(kind):
        await place(client(venue[1], session), lane=lane)


async def test_429_pauses_all_but_the_reserve(venue: tuple[Venue, str], session: aiohttp.ClientSession) -> None:
    server, url = venue
    server.acts = [response(429, b'{"code": -1003, "msg": "Too many requests."}', "Retry-After: 60"), response(200, OK)]
    rest = client(url, session)
    with pytest.raises(Refused):
        await ask(rest, lane=Lane.CANCEL)
    waiting = asyncio.create_task(place(rest))
    await ask(rest, lane=Lane.CANCEL)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_418_is_total_silence_until_the_end_that_it_names(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    server, url = venue
    until_ms = NOW_MS + 3_600_000
    server.acts = [response(418, b'{"code": -1003, "msg": "IP banned until %d."}' % until_ms), response(200, OK)]
    rest = client(url, session)
    for _ in range(3):
        with pytest.raises(Banned) as caught:
            await ask(rest, lane=Lane.PROTECT)
        assert caught.value.until_ns == pytest.approx(until_ms * 1_000_000, abs=10)
    assert len(server.heads) == 1


async def test_a_ban_before_the_clock_is_known_is_measured_by_the_date_of_the_answer(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    date = "Date: Tue, 14 Nov 2023 22:13:20 GMT"  # NOW_MS
    venue[0].acts = [response(418, b'{"code": -1003, "msg": "banned until %d"}' % (NOW_MS + 900_000), date)]
    rest = client(venue[1], session, synced=False)
    with pytest.raises(Banned):
        await rest.resync()
    left_ns = (rest.governor.banned_until_ns or 0) - time.monotonic_ns()
    assert left_ns == pytest.approx(900e9, rel=0.01)


async def test_a_query_is_repeated_until_it_is_answered(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    server, url = venue
    server.acts = [
        response(503, b"Service Unavailable."),
        reset_after_the_request,
        response(502, b""),
        response(200, OK),
    ]
    calls: list[Call] = []
    assert (await ask(client(url, session, calls))).order_id == 7
    assert [call.fate for call in calls] == ["Refused", "Unknown", "Unknown", "DONE"]
    server.acts = [response(502, b"")] * 3
    async with open_session() as fresh:
        with pytest.raises(Unknown):
            await ask(client(url, fresh), attempts=2)
    assert len(server.acts) == 1


async def test_a_query_that_is_refused_is_not_repeated(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    server, url = venue
    server.acts = [response(400, b'{"code": -2013, "msg": "Order does not exist."}'), response(200, OK)]
    with pytest.raises(Refused) as caught:
        await ask(client(url, session))
    assert (caught.value.code, len(server.acts)) == (-2013, 1)


async def test_a_query_refused_by_the_clock_measures_anew_and_asks_once_more(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    server, url = venue
    late = response(400, b'{"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}')
    hour = response(200, b'{"serverTime": %d}' % (NOW_MS + 3_600_000))
    server.acts = [late, *[hour] * 5, response(200, OK)]
    rest = client(url, session)
    assert (await ask(rest)).order_id == 7
    assert int(server.target().split("timestamp=")[1].split("&")[0]) >= NOW_MS + 3_600_000
    server.acts = [late, *[hour] * 5, late, response(200, OK)]
    with pytest.raises(Refused):
        await ask(rest)
    server.acts = [late, response(200, OK)]
    with pytest.raises(Refused):
        await place(rest)


async def test_an_unmeasured_clock_is_measured_before_a_signed_query(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    server, url = venue
    server.acts = [*[response(200, b'{"serverTime": %d}' % NOW_MS)] * 5, response(200, OK)]
    rest = client(url, session, synced=False)
    await ask(rest)
    assert rest.clock.error_ns < 10**9
    assert server.connections == 1


async def test_the_used_weight_of_the_answer_reaches_the_governor(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    venue[0].acts = [response(200, OK, "x-mbx-used-weight-1m: 1234"), response(400, b'{"code":-2013,"msg":""}')]
    rest = client(venue[1], session)
    await ask(rest)
    assert rest.governor.usage()["weight"][0] in (1234, 1235)


async def test_the_record_of_a_call_holds_no_query(venue: tuple[Venue, str], session: aiohttp.ClientSession) -> None:
    venue[0].acts = [response(400, b'{"code": -2019, "msg": "no"}')]
    calls: list[Call] = []
    with pytest.raises(Refused):
        await place(client(venue[1], session, calls))
    (call,) = calls
    assert (call.method, call.path, call.status, call.code, call.fate) == (
        "POST",
        "/fapi/v1/order",
        400,
        -2019,
        "Refused",
    )
    assert call.latency_ns > 0
    assert "signature" not in repr(call)
    assert "canary" not in repr(call)


async def test_a_proxy_that_echoes_the_request_does_not_bring_the_signature_back(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    venue[0].acts = [response(502, f"<p>cannot POST /x?a=1&signature=dead</p><p>X-MBX-APIKEY: {KEY}</p>".encode())]
    with pytest.raises(Unknown) as caught:
        await place(client(venue[1], session))
    told = everything_told(caught.value)
    assert "cannot POST" in told
    assert "dead<" not in told
    assert "canary" not in told


async def test_a_cancelled_call_shows_nothing_either(venue: tuple[Venue, str], session: aiohttp.ClientSession) -> None:
    arrived = asyncio.Event()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await hang(reader, writer)

    venue[0].acts = [note]
    rest = client(venue[1], session)
    task = asyncio.create_task(rest.call("POST", "/x", ORDER, answer=Placed, weight=0, lane=Lane.ENTER))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert "signature=" not in str(caught.value)


async def test_a_request_without_a_key_is_a_fault_of_the_configuration(session: aiohttp.ClientSession) -> None:
    clock = VenueClock(time.monotonic_ns)
    rest = BinanceRest("http://localhost:1", session, clock, Governor(clock), None, random.Random(1))
    with pytest.raises(ConfigError, match="api key"):
        await ask(rest)
    with pytest.raises(ConfigError, match="api key"):
        await place(rest)
    assert repr(rest) == "BinanceRest(http://localhost:1, None)"


async def test_amendments_count_as_adding_risk_and_settings_do_not(
    venue: tuple[Venue, str], session: aiohttp.ClientSession
) -> None:
    server, url = venue
    for lane, context, kind in (
        (Lane.ENTER, None, Unknown),
        (Lane.PROTECT, Context.INCREASING, Unknown),
        (Lane.HISTORY, Context.SETTING, Refused),
    ):
        server.acts = [response(503, b"Service Unavailable.")]
        with pytest.raises(kind):
            await place(client(url, session), "PUT", lane=lane, context=context)


@pytest.mark.parametrize(
    "url",
    [
        "https://fapi.binance.com",
        "https://fapi.binance.com/",
        "http://127.0.0.1:8080",
        "http://[::1]:9",
        "http://localhost:80",
    ],
)
def test_addresses_that_are_taken(url: str) -> None:
    assert check_base_url(url, live=False) == url.rstrip("/").removesuffix(":80")


@pytest.mark.parametrize(
    ("url", "live"),
    [
        ("http://fapi.binance.com", False),
        ("http://127.0.0.1:80", True),
        ("http://127.0.0.1.example.com", False),
        ("http://localhost.example", False),
        ("ws://127.0.0.1", False),
        ("fapi.binance.com", False),
        ("", False),
        ("https://", False),
        ("https://host/fapi", False),
        ("https://host?x=1", False),
        ("https://user:canary@host", False),
        ("https://user:canary@host:port", False),
        ("https://host:99999", False),
    ],
)
def test_addresses_that_are_refused_in_one_line(url: str, live: bool) -> None:
    with pytest.raises(ConfigError) as caught:
        check_base_url(url, live)
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)
