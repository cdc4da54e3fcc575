"""Connections over both libraries against a real server, and how a managed one behaves."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tidegate.adapters.binance.market_schemas import Counters
from tidegate.adapters.binance.ws import ConnectLimit, ManagedConnection, WsSettings, stream_name
from tidegate.adapters.binance.ws_transport import (
    LinkLost,
    PicowsTransport,
    WebsocketsTransport,
    WsTransport,
    make_transport,
)
from tidegate.app.simulation import VirtualLoop, run
from tidegate.domain.errors import ConfigError

KEY = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"
TRANSPORTS: dict[str, Callable[[int], WsTransport]] = {"websockets": WebsocketsTransport, "picows": PicowsTransport}


@asynccontextmanager
async def server(talk: Callable[[ServerConnection], object]) -> AsyncIterator[str]:
    """A server that ``talk`` drives; its address, with a key in it."""

    async def client(connection: ServerConnection) -> None:
        result = talk(connection)
        if asyncio.iscoroutine(result):
            await result

    async with serve(client, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/private/ws?listenKey={KEY}"


@pytest.fixture(params=sorted(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> WsTransport:
    return TRANSPORTS[request.param](100_000)


async def test_messages_arrive_whole_and_in_order(transport: WsTransport) -> None:
    async def talk(connection: ServerConnection) -> None:
        assert await connection.recv() == "hello ☀"
        await connection.send("one")
        await connection.send(["t", "w", "o"])  # in fragments
        await connection.ping()
        await connection.send("drei ☀")
        for number in range(5_000):
            await connection.send(str(number))
        await connection.recv()

    async with server(talk) as url:
        connection = await transport.connect(url)
        await connection.send("hello ☀")
        assert [await connection.recv() for _ in range(3)] == [b"one", b"two", "drei ☀".encode()]
        seen: list[bytes] = []
        while len(seen) < 5_000:
            batch = await connection.recv_batch()
            assert batch
            seen += batch
        assert seen == [str(number).encode() for number in range(5_000)]
        await connection.close()
        with pytest.raises(LinkLost):
            await connection.recv()
        with pytest.raises(LinkLost):
            await connection.send("too late")


@pytest.mark.parametrize(
    ("talk", "what"),
    [
        (lambda connection: connection.close(code=1012, reason=KEY), "closed by the other side"),
        (lambda connection: connection.close(code=4999), "closed by the other side"),
        (lambda connection: connection.transport.abort(), ""),
        (lambda connection: connection.send("x" * 200_000), ""),
        (lambda connection: connection.send(["x" * 60_000, "y" * 60_000]), ""),
        (lambda connection: connection.send(b"\xff\xfe", text=True), "UTF-8"),
    ],
    ids=["restart", "bad code", "reset", "oversized", "oversized in pieces", "not UTF-8"],
)
async def test_every_end_is_a_lost_link_that_names_no_key(
    transport: WsTransport, talk: Callable[[ServerConnection], object], what: str
) -> None:
    async with server(talk) as url:
        connection = await transport.connect(url)
        with pytest.raises(LinkLost) as caught:
            await connection.recv()
        await connection.close()
    assert what in str(caught.value)
    assert KEY not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_a_handshake_that_fails_is_a_lost_link(transport: WsTransport) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        with pytest.raises(LinkLost, match="no connection: HTTP 404") as caught:
            await transport.connect(f"ws://127.0.0.1:{port}/private/ws?listenKey={KEY}")
        assert KEY not in repr(caught.value)
    with pytest.raises(LinkLost, match="no connection") as caught:
        await transport.connect(f"ws://127.0.0.1:{port}/private/ws?listenKey={KEY}")
    assert KEY not in repr(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picows", None)
    with pytest.raises(ConfigError, match=r"tidegate\[fast\]"):
        make_transport("picows")
    assert isinstance(make_transport(), WebsocketsTransport)


def test_names_of_streams() -> None:
    assert stream_name(b'{"stream":"btcusdt@depth@100ms","data":{}}') == b"btcusdt@depth@100ms"


class Silent:
    """A handler that keeps what it hears."""

    full = False

    def __init__(self) -> None:
        self.heard: list[str] = []

    def stamp(self) -> None: ...

    def message(self, raw: bytes) -> None:
        self.heard.append(raw.decode())

    def opened(self) -> None:
        self.heard.append("opened")

    def up(self) -> None:
        self.heard.append("up")

    def down(self, why: str) -> None:
        self.heard.append(f"down: {why}")

    def overlap(self, both: bool) -> None: ...

    async def room(self) -> None: ...


class Venue:
    """Takes requests down; answers them unless told otherwise."""

    def __init__(self, loop: VirtualLoop, answer: str | None = '{"result":null,"id":%d}') -> None:
        self.loop = loop
        self.answer = answer
        self.requests: list[tuple[float, int]] = []
        self.opened: list[float] = []

    async def client(self, connection: ServerConnection) -> None:
        self.opened.append(self.loop.time())
        async for text in connection:
            names = text.count("@") if isinstance(text, str) else 0
            self.requests.append((self.loop.time(), names))
            if self.answer is not None:
                number = int(str(text).rpartition(":")[2].rstrip("}"))
                await connection.send(self.answer % number if "%" in self.answer else self.answer)


def managed(answer: str | None, seconds: float, streams: int, settings: WsSettings) -> tuple[Venue, Silent, Counters]:
    """A managed connection for so many seconds of virtual time."""

    async def main(loop: VirtualLoop) -> tuple[Venue, Silent, Counters]:
        venue, handler, counters = Venue(loop, answer), Silent(), Counters()
        limit = ConnectLimit(settings.connects, settings.connects_window_s)
        names = [f"s{number}@x" for number in range(streams)]
        async with serve(venue.client, "127.0.0.1", 7000):
            connection = ManagedConnection(
                "x",
                "ws://127.0.0.1:7000/stream",
                names,
                WebsocketsTransport(),
                handler,
                limit,
                random.Random(1),
                settings,
                counters,
            )
            task = asyncio.create_task(connection.run())
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return venue, handler, counters

    return run(main, 1).result


def test_subscriptions_go_out_in_batches_below_the_limit_of_messages() -> None:
    venue, _, _ = managed('{"result":null,"id":%d}', 60, 1_000, WsSettings())
    assert sum(names for _, names in venue.requests) == 1_000
    assert max(names for _, names in venue.requests) <= 50
    times = [at_s for at_s, _ in venue.requests]
    assert all(sum(1 for other in times if at_s <= other < at_s + 1) <= 5 for at_s in times)


def test_a_subscription_that_is_refused_or_never_answered_replaces_the_connection() -> None:
    venue, handler, counters = managed('{"code":2,"msg":"Invalid request"}', 30, 1, WsSettings())
    assert counters["subscription refused"] == len(venue.opened) or len(venue.opened) - 1
    assert any("refused with code 2" in text for text in handler.heard)
    _, handler, _ = managed(None, 30, 1, WsSettings())
    assert handler.heard[:2] == ["opened", "down: a subscription was not acknowledged"]


def test_reconnects_back_off_and_stay_below_the_limit_of_connections() -> None:
    venue, _, _ = managed('{"code":2,"msg":"no"}', 3_600, 1, WsSettings(connects=10, connects_window_s=600.0))
    for at_s in venue.opened:
        assert sum(1 for other in venue.opened if at_s <= other < at_s + 599.0) <= 10
    gaps = [two - one for one, two in pairwise(venue.opened)]
    assert gaps[0] < 1.0
    assert max(gaps[:9]) > 15.0
    assert len(venue.opened) >= 30
