"""The simulated network: latency, names, refusals, partitions, and every wire fault as a client sees it."""

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tidegate.app.simulation import Fault, Network, Rule, VirtualLoop, run
from tidegate.app.simulation.faults import Coalesce, Delay, EndAt, Hold, Mutate, ResetAt, Split, StallUntil, flip_bit
from tidegate.app.simulation.transport import RETRANSMIT_S

PORT = 9000


class Received:
    """A line server's view: what came, when, and how it ended."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.chunks: list[tuple[float, bytes]] = []
        self.ends: list[BaseException | None] = []
        self._loop = loop

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1 << 20):
                self.chunks.append((self._loop.time(), chunk))
            self.ends.append(None)
        except OSError as error:
            self.ends.append(error)
        finally:
            writer.close()

    @property
    def data(self) -> bytes:
        return b"".join(chunk for _, chunk in self.chunks)


async def sink(loop: VirtualLoop) -> Received:
    """A server on the node "venue" that keeps what it gets, 10 ms away from the node "daemon"."""
    received = Received(loop)
    loop.network.set_latency("daemon", "venue", 0.01)
    loop.network.set_latency("venue", "daemon", 0.01)
    with loop.node("venue"):
        await asyncio.start_server(received.take, "127.0.0.1", PORT)
    return received


def as_daemon(client: Callable[[VirtualLoop, Received], Coroutine[Any, Any, Any]]) -> Any:
    """Run ``client`` as the node "daemon" beside a ``sink``; what the sink got."""

    async def main(loop: VirtualLoop) -> Received:
        received = await sink(loop)
        await loop.spawn("daemon", client(loop, received))
        await asyncio.sleep(5)
        return received

    return run(main, 0)


def sends(fault: Fault | None, *parts: bytes, every_s: float = 1.0) -> Received:
    """What arrives of ``parts`` when ``fault`` strikes the way there."""

    async def client(loop: VirtualLoop, _: Received) -> None:
        if fault is not None:
            loop.network.inject(Rule(fault, source="daemon", port=PORT, from_client=True))
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(every_s)
        writer.close()

    received: Received = as_daemon(client).result
    return received


def test_bytes_arrive_one_latency_later() -> None:
    received = sends(None, b"one", b"two")
    assert [(round(at_s, 9), chunk) for at_s, chunk in received.chunks] == [(0.03, b"one"), (1.03, b"two")]
    assert received.ends == [None]


def test_a_delay_adds_to_the_latency() -> None:
    received = sends(Delay(3.0, 3.0), b"one", b"two")
    assert [(round(at_s, 9), chunk) for at_s, chunk in received.chunks] == [(3.03, b"one"), (4.03, b"two")]


def test_a_stall_ends_in_a_burst_in_order() -> None:
    received = sends(StallUntil(7.0), *(b"%d" % number for number in range(6)))
    assert received.chunks == [(7.0, b"012345")]


def test_split_pieces_come_apart_and_whole() -> None:
    received = sends(Split(3), b"abcdefghijklmnop")
    assert received.data == b"abcdefghijklmnop"
    assert len(received.chunks) > 5


def test_coalesced_pieces_come_as_one() -> None:
    received = sends(Coalesce(4.0), b"ab", b"cd", b"ef")
    assert received.chunks == [(4.0, b"abcdef")]


@pytest.mark.parametrize("byte", range(7))
def test_a_reset_at_any_byte_loses_the_rest_and_both_ends_know(byte: int) -> None:
    seen: list[type[BaseException]] = []

    async def client(loop: VirtualLoop, _: Received) -> None:
        rule = loop.network.inject(Rule(ResetAt(byte), port=PORT, from_client=True))
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write(b"abc")
        writer.write(b"def")
        with pytest.raises(ConnectionResetError) as caught:
            await reader.read()
        seen.append(caught.type)
        assert rule.injected >= 1

    received = as_daemon(client).result
    assert received.data == b"abcdef"[:byte]
    assert isinstance(received.ends[0], ConnectionResetError)
    assert seen == [ConnectionResetError]


def test_an_end_at_a_byte_truncates() -> None:
    received = sends(EndAt(4), b"abc", b"def", b"ghi")
    assert (received.data, received.ends) == (b"abcd", [None])


def test_a_mutation_changes_one_bit() -> None:
    received = sends(Mutate(flip_bit), b"abcdef")
    changed = sum((a ^ b).bit_count() for a, b in zip(received.data, b"abcdef", strict=True))
    assert changed == 1


def test_a_half_open_connection_is_silent_until_the_kernel_gives_up() -> None:
    async def client(loop: VirtualLoop, received: Received) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        loop.network.inject(Rule(Hold(), from_s=loop.time(), only_open=True))
        written_s = loop.time()
        await asyncio.sleep(1)
        writer.write(b"anybody?")
        _, other = await asyncio.open_connection("127.0.0.1", PORT)  # a new one goes through
        other.write(b"new")
        await asyncio.sleep(1)
        other.close()
        with pytest.raises(TimeoutError):
            await reader.read()
        received.chunks.append((loop.time() - written_s - 1.0, b"gave up"))
        return loop.time()

    received = as_daemon(client).result
    assert [chunk for _, chunk in received.chunks] == [b"new", b"gave up"]
    assert received.chunks[-1][0] == pytest.approx(RETRANSMIT_S)


def test_what_was_held_is_sent_when_the_hold_is_lifted() -> None:
    async def client(loop: VirtualLoop, received: Received) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        rule = loop.network.inject(Rule(Hold()))
        for part in (b"a", b"b", b"c"):
            writer.write(part)
            await asyncio.sleep(1)
        assert received.chunks == []
        loop.network.remove(rule)
        writer.write(b"d")
        await asyncio.sleep(1)
        writer.close()

    received = as_daemon(client).result
    assert received.data == b"abcd"
    assert received.chunks[0][0] == pytest.approx(3.03)


def test_a_partition_stops_one_way_and_new_connections() -> None:
    async def client(loop: VirtualLoop, received: Received) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        loop.network.cut("venue", "daemon", one_way=True)
        writer.write(b"we are heard")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.open_connection("127.0.0.1", PORT)
        loop.network.heal()
        _, other = await asyncio.open_connection("127.0.0.1", PORT)
        other.close()
        writer.close()

    assert as_daemon(client).result.data == b"we are heard"


def test_connections_are_refused_by_nobody_and_on_order() -> None:
    async def client(loop: VirtualLoop, _: Received) -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", PORT + 1)
        loop.network.refuse(PORT)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", PORT)
        loop.network.accept(PORT)
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.close()

    as_daemon(client)


def test_a_port_is_taken_once() -> None:
    async def client(_: VirtualLoop, received: Received) -> None:
        with pytest.raises(OSError, match="already"):
            await asyncio.start_server(received.take, "127.0.0.1", PORT)
        async with await asyncio.start_server(received.take, "127.0.0.1", 0) as server:
            assert server.sockets[0].getsockname()[1] > PORT

    as_daemon(client)


def test_names_resolve_fail_and_take_their_time() -> None:
    async def client(loop: VirtualLoop, _: Received) -> None:
        network = loop.network
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorDNSError):
                await session.get(f"http://venue.example:{PORT}/")
            network.set_name("venue.example", "127.0.0.1", delay_s=2.0)
            begun_s = loop.time()
            _, writer = await asyncio.open_connection("venue.example", PORT)
            assert loop.time() - begun_s == pytest.approx(2.02)
            writer.close()
            network.set_name("venue.example", error=socket.EAI_AGAIN)
            with pytest.raises(socket.gaierror) as caught:
                await asyncio.open_connection("venue.example", PORT)
            assert caught.value.errno == socket.EAI_AGAIN
            network.set_name("venue.example", "10.9.9.9")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("venue.example", PORT)

    as_daemon(client)


def test_a_rule_has_chances_limits_and_times() -> None:
    rng = random.Random(0)
    network = Network(0)
    flow = next(iter(flows(network)))
    limited = network.inject(Rule(Delay(1, 1), limit=2))
    for _ in range(5):
        network.plan(flow, b"x", 0.0)
    assert limited.injected == 2
    assert sum(Rule(Hold(), chance=0.3).strikes(flow, 0.0, rng) for _ in range(1000)) == pytest.approx(300, abs=50)
    assert not Rule(Hold(), from_s=5, until_s=6).strikes(flow, 6.0, rng)
    assert not Rule(Hold(), source="venue").strikes(flow, 0.0, rng)


def flows(network: Network) -> list[Any]:
    """A flow of the network's own making."""
    caught: list[Any] = []

    async def main(loop: VirtualLoop) -> None:
        async def client(_: VirtualLoop, __: Received) -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
            writer.write(b"x")
            writer.close()

        received = await sink(loop)
        loop.network.inject(Rule(lambda pieces, at: (caught.append(at.flow), pieces)[1], from_client=True))
        await loop.spawn("daemon", client(loop, received))
        await asyncio.sleep(1)

    run(main, 0)
    return caught


def test_more_traffic_on_one_link_changes_nothing_on_another() -> None:
    quiet, busy = Network(5), Network(5)
    for _ in range(100):
        busy.latency_s("daemon", "elsewhere")
    assert [quiet.latency_s("a", "b") for _ in range(5)] == [busy.latency_s("a", "b") for _ in range(5)]


def test_faults_reach_an_http_client_as_its_own_errors() -> None:
    async def main(loop: VirtualLoop) -> list[str]:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({"orderId": 1, "pad": "x" * 5000})

        app = web.Application()
        app.router.add_post("/order", answer)
        with loop.node("venue"):
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", PORT).start()
        seen = []

        async def client() -> None:
            for fault, from_client in (
                (ResetAt(10), True),
                (ResetAt(100), False),
                (EndAt(2000), False),
                (Hold(), False),
            ):
                rule = loop.network.inject(Rule(fault, port=PORT, from_client=from_client))
                async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
                    try:
                        async with session.post(f"http://127.0.0.1:{PORT}/order") as response:
                            await response.json()
                    except (aiohttp.ClientError, TimeoutError) as error:
                        seen.append(type(error).__name__)
                assert rule.injected
                loop.network.remove(rule)

        await loop.spawn("daemon", client())
        return seen

    assert run(main, 0).result == ["ClientOSError", "ClientOSError", "ClientPayloadError", "TimeoutError"]


def test_keep_alive_notices_a_half_open_stream() -> None:
    async def main(loop: VirtualLoop) -> tuple[int, float]:
        async def ticks(connection: ServerConnection) -> None:
            try:
                while True:
                    await connection.send("tick")
                    await asyncio.sleep(1)
            except ConnectionClosed:
                return

        with loop.node("venue"):
            await serve(ticks, "127.0.0.1", PORT, ping_interval=None)
        loop.network.inject(Rule(Hold(), source="venue", from_s=100.0))

        async def client() -> tuple[int, float]:
            count, cause = 0, ""
            async with connect(f"ws://127.0.0.1:{PORT}", ping_interval=20, ping_timeout=20) as stream:
                try:
                    async for _ in stream:
                        count += 1
                except ConnectionClosed as error:
                    cause = str(error)
            assert "keepalive ping timeout" in cause
            return count, loop.time()

        return await loop.spawn("daemon", client())

    count, noticed_s = run(main, 0).result
    assert count == 100
    assert 120 < noticed_s < 150
