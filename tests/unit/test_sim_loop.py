"""The virtual loop: time that is a number, client libraries unmodified on it, and what it refuses."""

import asyncio
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tidegate.app.simulation import EPOCH_NS, Deadlock, Livelock, Overtime, VirtualClock, VirtualLoop, run

ROOT = Path(__file__).resolve().parents[2]


async def http_server(loop: VirtualLoop, port: int = 8080) -> web.AppRunner:
    """An aiohttp application that echoes a query over HTTP and every text over a WebSocket."""

    async def echo(request: web.Request) -> web.Response:
        return web.json_response(dict(request.query))

    async def echo_all(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            await response.send_str(message.data)
        return response

    app = web.Application()
    app.router.add_get("/echo", echo)
    app.router.add_get("/ws", echo_all)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def ticks(connection: ServerConnection) -> None:
    """One message a minute."""
    try:
        while True:
            await connection.send(f"{asyncio.get_running_loop().time():.6f}")
            await asyncio.sleep(60)
    except ConnectionClosed:
        return


async def a_day(loop: VirtualLoop) -> tuple[int, int, str]:
    """A day of one WebSocket feed with keep-alives, an hourly HTTP request and an aiohttp WebSocket."""
    with loop.node("venue"):
        runner = await http_server(loop)
        feed = await serve(ticks, "127.0.0.1", 8081)

    async def client() -> tuple[int, int, str]:
        messages = answers = 0
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect("http://127.0.0.1:8080/ws") as echo,
            connect("ws://127.0.0.1:8081") as stream,
        ):
            async for _ in stream:
                messages += 1
                if messages % 60 == 0:
                    async with session.get("http://localhost:8080/echo", params={"n": messages}) as answer:
                        answers += (await answer.json()) == {"n": str(messages)}
                        date = answer.headers["Date"]
                    await echo.send_str("still there?")
                    assert (await echo.receive_str()) == "still there?"
                if messages == 1440:
                    return messages, answers, date
        raise AssertionError

    result = await loop.spawn("daemon", client())
    feed.close()
    await feed.wait_closed()
    await runner.cleanup()
    return result


def test_client_libraries_talk_for_a_day() -> None:
    outcome = run(a_day, 7)
    assert outcome.result == (1440, 24, "Mon, 16 Jun 2025 15:05:40 GMT")
    assert 86_400 < outcome.virtual_s < 86_401
    assert outcome.chunks > 2 * 1440
    assert outcome.errors == ()


def digest_of(seed: int, hash_seed: str) -> str:
    """The digest of a day in a process of its own."""
    code = f"from tests.unit.test_sim_loop import a_day, run; print(run(a_day, {seed}).digest)"
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_seed_decides_the_digest_and_the_process_does_not() -> None:
    digest = run(a_day, 7).digest
    assert [digest_of(7, "0"), digest_of(7, "4711")] == [digest, digest]
    assert run(a_day, 7).digest == digest  # and a second run in one process
    assert run(a_day, 8).digest != digest


def test_timers_fire_at_their_exact_times() -> None:
    async def main(loop: VirtualLoop) -> list[float]:
        seen = []
        for wait_s in (0.1, 0.2, 1e-7, 86_400 * 200.0, 0.3):
            due_s = loop.time() + wait_s
            await asyncio.sleep(wait_s)
            seen.append(loop.time() - due_s)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await loop.create_future()
        seen.append(loop.time() - due_s - 5.0)
        return seen

    assert run(main, 0).result == [0.0] * 6


def test_timers_close_together_fire_apart_and_those_of_one_instant_together() -> None:
    async def main(loop: VirtualLoop) -> list[tuple[float, float]]:
        fired: list[tuple[float, float]] = []
        for due_s in (5.0, 5.0, 5.0 + 1e-9, 5.0 + 1e-15 * 5, 1e6, 1e6 + 1e-9, 3e7):
            loop.call_at(due_s, lambda due_s=due_s: fired.append((due_s, loop.time())))
        await asyncio.sleep(4e7)
        return fired

    fired = run(main, 0).result
    assert len(fired) == 7
    assert all(due_s == at_s for due_s, at_s in fired)


def test_the_digest_is_of_the_bytes_too() -> None:
    def sends(data: bytes) -> str:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async def main(_: VirtualLoop) -> None:
            async with await asyncio.start_server(take, "127.0.0.1", 9000):
                _, writer = await asyncio.open_connection("127.0.0.1", 9000)
                writer.write(data)
                await asyncio.sleep(1)
                writer.close()

        return run(main, 0).digest

    assert sends(b"abc") == sends(b"abc")
    assert sends(b"abc") != sends(b"abd")


def test_a_lost_wake_up_is_a_deadlock_that_names_who_waits() -> None:
    async def waits_for_nobody(loop: VirtualLoop) -> None:
        await loop.create_future()

    async def main(loop: VirtualLoop) -> None:
        await loop.create_task(waits_for_nobody(loop), name="patience")

    with pytest.raises(Deadlock, match=r"at 0\.0 s; .*patience in .*waits_for_nobody") as caught:
        run(main, 3)
    assert "seed 3, digest" in caught.value.__notes__[0]


def test_a_loop_that_never_lets_time_pass_is_a_livelock() -> None:
    async def main(_: VirtualLoop) -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="time stands still"):
        run(main, 0)


def test_a_run_has_a_limit() -> None:
    async def main(_: VirtualLoop) -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(100)

    with pytest.raises(Overtime, match="within 3600"):
        run(main, 0, limit_s=3600)


def test_tasks_left_running_are_cancelled_oldest_first() -> None:
    ended: list[int] = []

    async def stays(number: int) -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(number)

    async def main(loop: VirtualLoop) -> None:
        loop.kept = [asyncio.create_task(stays(number)) for number in range(40)]
        await asyncio.sleep(1)

    run(main, 0)
    assert ended == list(range(40))


def test_sets_of_tasks_are_walked_in_order_of_their_making() -> None:
    async def main(_: VirtualLoop) -> list[int]:
        ended: list[int] = []

        async def fails() -> None:
            await asyncio.sleep(1)
            raise ValueError

        async def stays(number: int) -> None:
            try:
                await asyncio.sleep(10)
            finally:
                ended.append(number)

        async def together() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                for number in range(50):
                    group.create_task(stays(number))

        with pytest.raises(ExceptionGroup):
            await together()
        return ended

    assert run(main, 0).result == list(range(50))


def test_a_task_that_died_unheard_is_reported() -> None:
    async def fails() -> None:
        raise ValueError("nobody asked")

    async def main(loop: VirtualLoop) -> None:
        loop.spawn("daemon", fails())
        await asyncio.sleep(1)

    (error,) = run(main, 0).errors
    assert "never retrieved" in error
    assert "nobody asked" in error


def test_executors_run_inline_and_take_no_time() -> None:
    async def main(loop: VirtualLoop) -> list[Any]:
        results = [await loop.run_in_executor(None, sum, (1, 2)), await asyncio.to_thread(max, 3, 4), loop.time()]
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return results

    assert run(main, 0).result == [3, 4, 0.0]


def test_third_party_accidents_are_pinned_and_given_back() -> None:
    async def main(_: VirtualLoop) -> tuple[object, ...]:
        await asyncio.sleep(1.5)
        return random.random(), os.urandom(4), str(uuid.uuid4()), time.time(), time.monotonic_ns()

    before = random.getstate(), time.time, os.urandom
    first, second, other = (run(main, seed).result for seed in (1, 1, 2))
    assert first == second
    assert first[:3] != other[:3]
    assert first[3:] == (EPOCH_NS / 1e9 + 1.5, 1_500_000_000)
    assert (random.getstate(), time.time, os.urandom) == before


def test_a_signal_reaches_the_node_that_handles_it() -> None:
    async def daemon(loop: VirtualLoop) -> float:
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        assert loop.remove_signal_handler(signal.SIGTERM)
        return loop.time()

    async def main(loop: VirtualLoop) -> float:
        task = loop.spawn("daemon", daemon(loop))
        await asyncio.sleep(3)
        loop.send_signal("daemon", signal.SIGTERM)
        at_s = await task
        with pytest.raises(LookupError, match="handles no signal"):
            loop.send_signal("daemon", signal.SIGTERM)
        return at_s

    assert run(main, 0).result == 3.0


def test_a_unix_socket_has_a_file_and_answers(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    async def main(_: VirtualLoop) -> bytes:
        async with await asyncio.start_unix_server(answer, path):
            assert path.exists()
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"status\n")
            writer.write_eof()
            heard = await reader.read()
            writer.close()
            await writer.wait_closed()
        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection(tmp_path / "nobody.sock")
        return heard

    assert run(main, 0).result == b"STATUS\n"


def test_a_slow_reader_pauses_the_writer() -> None:
    total = 4 << 20

    async def main(loop: VirtualLoop) -> tuple[float, int]:
        sent: list[float] = []

        async def produce(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _chunk in range(64):
                writer.write(bytes(total // 64))
                await writer.drain()
            sent.append(loop.time())
            writer.close()

        async with await asyncio.start_server(produce, "127.0.0.1", 9000):
            reader, writer = await asyncio.open_connection("127.0.0.1", 9000)
            await asyncio.sleep(100)
            assert sent == []
            read = len(await reader.read())
            writer.close()
            await writer.wait_closed()
        return sent[0], read

    sent_s, read = run(main, 0).result
    assert sent_s >= 100
    assert read == total


class Refusals:
    """What a simulated run cannot have."""

    @staticmethod
    async def tls(_: VirtualLoop) -> None:
        await asyncio.open_connection("127.0.0.1", 1, ssl=True)

    @staticmethod
    async def kernel_socket(loop: VirtualLoop) -> None:
        with socket.socket() as sock:
            await loop.sock_connect(sock, ("127.0.0.1", 1))

    @staticmethod
    async def process(_: VirtualLoop) -> None:
        await asyncio.create_subprocess_exec("true")


@pytest.mark.parametrize(
    ("main", "error"),
    [(Refusals.tls, NotImplementedError), (Refusals.kernel_socket, TypeError), (Refusals.process, NotImplementedError)],
)
def test_what_would_leave_the_simulation_is_refused(main: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(main, 0)


def test_a_clock_can_be_wrong_and_be_set_while_the_loop_goes_on() -> None:
    async def main(loop: VirtualLoop) -> list[float]:
        clock = VirtualClock(loop, epoch_ns=10**18)
        woken: list[float] = []

        async def sleeper() -> None:
            await clock.sleep_until(10**18 + 3_600 * 10**9)
            assert clock.now_ns() >= 10**18 + 3_600 * 10**9
            woken.append(loop.time())

        task = asyncio.create_task(sleeper())
        await asyncio.sleep(10)
        clock.jump(-100 * 10**9)
        await asyncio.sleep(10)
        clock.jump(3_500 * 10**9)
        await task
        return [*woken, clock.monotonic_ns() / 1e9]

    assert run(main, 0).result == [200.0, 200.0]


def test_an_async_generator_left_open_is_closed_at_the_end() -> None:
    closed: list[bool] = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async def main(_: VirtualLoop) -> None:
        generator = endless()
        await anext(generator)

    run(main, 0)
    assert closed == [True]


def test_the_collector_is_given_back() -> None:
    async def main(_: VirtualLoop) -> bool:
        return gc.isenabled()

    assert run(main, 0).result is False
    assert gc.isenabled()
