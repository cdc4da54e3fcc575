"""N01 to N08 over real sockets: a server behind ``faulty_factory``, aiohttp and websockets clients before it."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic_ns, time_ns

import aiohttp
import pytest
import websockets
from aiohttp import web

from tidegate.adapters.localnet.fault_rules import Fault
from tidegate.adapters.localnet.faults import Faults
from tidegate.adapters.localnet.wire_faults import faulty_factory
from tidegate.adapters.localnet.wire_spoil import frame, message_in


class Clock:
    """The machine's."""

    def now_ns(self) -> int:
        return time_ns()

    def monotonic_ns(self) -> int:
        return monotonic_ns()

    async def sleep_until(self, at_ns: int) -> None:
        await asyncio.sleep((at_ns - time_ns()) / 1e9)


@dataclass
class Server:
    """Counts what it executed; sends on its streams what a test says."""

    port: int = 0
    executed: list[str] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    faults: Faults = field(default_factory=lambda: Faults(Clock(), random.Random(5)))

    async def rest(self, request: web.Request) -> web.Response:
        await request.read()
        self.executed.append(request.query.get("id", ""))
        return web.json_response({"id": request.query.get("id"), "text": "x" * 200})

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self.sockets.append(socket)
        async for _ in socket:
            pass
        return socket

    async def tell(self, *numbers: int) -> None:
        for number in numbers:
            await self.sockets[-1].send_str(json.dumps({"u": number}))

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/fapi/v1/order"

    def stream_url(self, path: str = "/public/ws") -> str:
        return f"ws://127.0.0.1:{self.port}{path}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/fapi/{rest:.*}", server.rest)
    for path in ("/public/ws", "/private/ws"):
        app.router.add_get(path, server.stream)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    listening = await asyncio.get_running_loop().create_server(
        faulty_factory(runner.server, server.faults), "127.0.0.1", 0
    )
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    await server.faults.stop()
    listening.close()
    await runner.cleanup()
    for wire in list(server.faults.wires.values()):
        wire.cut()
    await asyncio.sleep(0)


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


async def post(session: aiohttp.ClientSession, server: Server, name: str = "a", timeout_s: float = 5.0) -> str:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with session.post(server.rest_url, params={"id": name}, data="q=1", timeout=timeout) as answer:
        return str((await answer.json(content_type=None))["id"])


async def eventually(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  there is nothing to wait on but the effect itself
        await asyncio.sleep(0.001)


async def test_without_faults_bytes_pass(server: Server) -> None:
    async with client() as session, websockets.connect(server.stream_url()) as stream:
        assert await post(session, server) == "a"
        await server.tell(1)
        assert json.loads(await stream.recv()) == {"u": 1}
        assert sorted(wire.operation for wire in server.faults.wires.values()) == ["order", "stream"]
    await eventually(lambda: not server.faults.wires)


async def test_n01_latency_keeps_the_order(server: Server) -> None:
    async with client() as session, websockets.connect(server.stream_url()) as stream:
        rule = server.faults.add(Fault("N01", params={"low_s": 0.02, "high_s": 0.06}))
        started = asyncio.get_running_loop().time()
        assert await post(session, server) == "a"
        assert asyncio.get_running_loop().time() - started >= 0.04  # there and back
        for number in range(1, 30):
            await server.tell(number)
            await asyncio.sleep(0.002)
        assert [json.loads(await stream.recv())["u"] for _ in range(1, 30)] == list(range(1, 30))
        assert rule.injected >= 30


async def test_n02_everything_is_held_then_comes_in_order(server: Server) -> None:
    async with websockets.connect(server.stream_url()) as stream:
        rule = server.faults.add(Fault("N02", params={"low_s": 0.15, "high_s": 0.15}))
        started = asyncio.get_running_loop().time()
        await server.tell(1, 2, 3)
        assert [json.loads(await stream.recv())["u"] for _ in range(3)] == [1, 2, 3]
        assert asyncio.get_running_loop().time() - started >= 0.14
        assert rule.injected == 1
        await server.tell(4)
        assert json.loads(await stream.recv()) == {"u": 4}


async def test_n03_old_connections_are_dead_without_an_end_and_new_ones_work(server: Server) -> None:
    async with websockets.connect(server.stream_url(), close_timeout=0.05) as stream:
        rule = server.faults.add(Fault("N03", for_s=60))
        await server.tell(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.recv(), 0.05)
        assert stream.state.name == "OPEN"
        async with websockets.connect(server.stream_url()) as fresh:
            await server.tell(2)
            assert json.loads(await fresh.recv()) == {"u": 2}
        assert rule.injected == 1


async def test_n03_what_the_client_sends_is_lost(server: Server) -> None:
    async with client() as session:
        assert await post(session, server) == "a"
        server.faults.add(Fault("N03", for_s=60))
        with pytest.raises(TimeoutError):
            await post(session, server, "b", 0.05)
        assert server.executed == ["a"]


async def test_n04_requests_arrive_and_nothing_comes_back(server: Server) -> None:
    async with client() as session:
        rule = server.faults.add(Fault("N04", for_s=0.3))
        with pytest.raises(TimeoutError):
            await post(session, server, "a", 0.05)
        assert server.executed == ["a"]
        assert rule.injected >= 1
        await asyncio.sleep(0.3)
        assert await post(session, server, "b") == "b"


@pytest.mark.parametrize(
    ("where", "executed"), [("before", False), ("request", False), ("after", True), ("response", True)]
)
async def test_n05_resets_before_and_after_execution(server: Server, where: str, executed: bool) -> None:
    async with client() as session:
        rule = server.faults.add(Fault("N05", params={"where": where, "at_byte": 40}))
        with pytest.raises(aiohttp.ClientError):
            await post(session, server)
        await asyncio.sleep(0.02)
        assert bool(server.executed) is executed
        assert rule.injected == 1
        assert await post(session, server, "b") == "b"


async def test_n05_every_byte_of_both_directions(server: Server) -> None:
    async with client() as session:
        for at_byte in range(1, 120, 7):
            for where in ("request", "response"):
                server.faults.clear()
                server.faults.add(Fault("N05", params={"where": where, "at_byte": at_byte}))
                with pytest.raises(aiohttp.ClientError):
                    await post(session, server, where)
    assert set(server.executed) == {"response"}


async def test_n05_strikes_only_what_it_names(server: Server) -> None:
    async with client() as session:
        server.faults.add(Fault("N05", on="cancel", count=2))  # the client sends a DELETE once more by itself
        assert await post(session, server) == "a"
        with pytest.raises(aiohttp.ClientError):
            async with session.delete(server.rest_url):
                pass


@pytest.mark.parametrize("mode", ["truncated", "long_length", "short_length", "gzip", "html"])
async def test_n06_answers_are_broken(server: Server, mode: str) -> None:
    async with client() as session:
        server.faults.add(Fault("N06", params={"mode": mode}))
        with pytest.raises((aiohttp.ClientError, json.JSONDecodeError)):
            await post(session, server)
        assert server.executed == ["a"]
    async with client() as session:
        assert await post(session, server, "b") == "b"


async def test_n06_a_page_comes_with_status_200(server: Server) -> None:
    async with client() as session:
        server.faults.add(Fault("N06", params={"mode": "html"}))
        async with session.post(server.rest_url) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            assert "<html>" in await answer.text()


@pytest.mark.parametrize(("mode", "code"), [("invalid_utf8", 1007), ("oversized", 1009), ("bad_close", 1002)])
async def test_n07_frames_that_a_client_must_refuse(server: Server, mode: str, code: int) -> None:
    async with websockets.connect(server.stream_url()) as stream:
        rule = server.faults.add(Fault("N07", params={"mode": mode}))
        await server.tell(1)
        with pytest.raises(websockets.ConnectionClosedError) as caught:
            await stream.recv()
        assert caught.value.sent is not None
        assert caught.value.sent.code == code
        assert rule.injected == 1


@pytest.mark.parametrize("mode", ["split", "coalesced", "fragmented"])
async def test_n07_frames_that_only_look_odd(server: Server, mode: str) -> None:
    async with websockets.connect(server.stream_url()) as stream:
        rule = server.faults.add(Fault("N07", count=3, params={"mode": mode, "hold_s": 0.05}))
        await server.tell(1, 2, 3, 4)
        assert [json.loads(await stream.recv())["u"] for _ in range(4)] == [1, 2, 3, 4]
        assert rule.injected == 3


async def test_n07_binary(server: Server) -> None:
    async with websockets.connect(server.stream_url()) as stream:
        server.faults.add(Fault("N07", params={"mode": "binary"}))
        await server.tell(1)
        assert await stream.recv() == b'{"u": 1}'


async def test_n08_floods_market_streams_only(server: Server) -> None:
    async with (
        websockets.connect(server.stream_url()) as public,
        websockets.connect(server.stream_url("/private/ws?listenKey=k")) as private,
    ):
        rule = server.faults.add(Fault("N08"))
        await server.tell(1)
        assert json.loads(await private.recv()) == {"u": 1}
        await server.sockets[0].send_str("m")
        assert [await public.recv() for _ in range(100)] == ["m"] * 100
        assert rule.injected == 1


async def test_a_venue_that_is_down_takes_no_streams(server: Server) -> None:
    async def act(name: str, params: object) -> None:
        assert name == "cancel_all"

    server.faults.bind(act)
    async with websockets.connect(server.stream_url()) as stream:
        server.faults.add(Fault("V10"))
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await stream.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        with pytest.raises(websockets.InvalidStatus, match="503"):
            await websockets.connect(server.stream_url())
        server.faults.clear()
        async with websockets.connect(server.stream_url()):
            pass


def test_frames_are_told_from_other_bytes() -> None:
    for size in (0, 125, 126, 65_535, 65_536):
        payload = b"x" * size
        assert message_in(frame(payload)) == payload
        assert message_in(frame(payload) + b"y") is None
        assert message_in(frame(payload)[:-1]) is None
    assert message_in(frame(b"x", 0x2)) is None
    assert message_in(b'{"u":1}') is None
