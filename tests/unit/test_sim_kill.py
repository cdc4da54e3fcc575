"""Kills: at every boundary, without a ``finally``, with peers reset and unsynced bytes gone."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tidegate.app.simulation import Killed, SimDisk, SimJournal, VirtualLoop, run

PORT = 9000


async def peer(loop: VirtualLoop) -> dict[str, list[Any]]:
    """A server on "venue" that notes what it hears and how it ends."""
    heard: dict[str, list[Any]] = {"data": [], "ends": []}

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1000):
                heard["data"].append(chunk)
            heard["ends"].append(None)
        except ConnectionResetError:
            heard["ends"].append("reset")
        writer.close()

    with loop.node("venue"):
        await asyncio.start_server(take, "127.0.0.1", PORT)
    return heard


def test_a_kill_runs_no_finally_and_resets_the_peer() -> None:
    ran: list[str] = []

    async def daemon(loop: VirtualLoop) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        loop.call_later(5, ran.append, "a timer")
        child = asyncio.create_task(waits())
        try:
            writer.write(b"hello")
            await child
        finally:
            ran.append("finally of the daemon")

    async def waits() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            ran.append("cancelled")
            raise

    async def main(loop: VirtualLoop) -> list[str]:
        heard = await peer(loop)
        loop.spawn("daemon", daemon(loop))
        await asyncio.sleep(2)
        loop.kill("daemon")
        await loop.nodes.get("daemon").died.wait()
        loop.kill("daemon")  # once is enough
        await asyncio.sleep(3600)
        assert heard == {"data": [b"hello"], "ends": ["reset"]}
        return list(ran)

    outcome = run(main, 0)
    assert outcome.result == []
    assert outcome.errors == ()


@pytest.mark.parametrize("effect", range(1, 8))
def test_a_node_dies_at_the_boundary_that_was_named(effect: int) -> None:
    async def daemon() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)  # boundary 1
        for part in (b"a", b"b", b"c"):
            writer.write(part)  # 2 and 3, 4 and 5, 6 and 7
            await asyncio.sleep(1)

    async def main(loop: VirtualLoop) -> bytes:
        heard = await peer(loop)
        loop.kill_at("daemon", effect)
        task = loop.spawn("daemon", daemon())
        await loop.nodes.get("daemon").died.wait()
        await asyncio.sleep(10)
        assert isinstance(task.exception(), Killed) if task.done() else True
        assert loop.nodes.get("daemon").effects == effect
        return b"".join(heard["data"])

    outcome = run(main, 0)
    assert outcome.result == b"abc"[: max(0, effect - 1) // 2]
    assert outcome.errors == ()


def test_the_dying_step_reaches_nobody() -> None:
    ran: list[str] = []
    fenced: list[str] = []

    async def child() -> None:
        ran.append("a task")

    async def daemon(loop: VirtualLoop) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        try:
            writer.write(b"last words")
        finally:
            loop.call_soon(ran.append, "a callback")
            loop.call_later(1, ran.append, "a timer")
            asyncio.create_task(child())  # noqa: RUF006  it must not start
            for effect in (lambda: loop.point("any effect"), lambda: writer.write(b"from beyond")):
                try:
                    effect()
                    ran.append("an effect")
                except Killed as fence:
                    fenced.append(str(fence))
            await asyncio.sleep(1)
            ran.append("the rest")

    async def main(loop: VirtualLoop) -> list[bytes]:
        heard = await peer(loop)
        loop.kill_at("daemon", 3)
        loop.spawn("daemon", daemon(loop))
        await asyncio.sleep(100)
        return heard["data"]

    outcome = run(main, 0)
    assert outcome.result == [b"last words"]
    assert outcome.errors == ()
    assert ran == []
    assert fenced == ["daemon: dead at any effect", "daemon: dead at net.write before"]


def test_a_name_lives_again_and_dies_by_its_own_plan() -> None:
    async def daemon(loop: VirtualLoop) -> None:
        while True:
            loop.point("effect")
            await asyncio.sleep(1)

    async def main(loop: VirtualLoop) -> list[tuple[int, int]]:
        loop.kill_at("daemon", 3)
        loop.kill_at("daemon", 5, life=2)
        lives = []
        for _ in range(3):
            task = loop.spawn("daemon", daemon(loop))
            node = loop.nodes.get("daemon")
            await asyncio.wait(
                [task, asyncio.ensure_future(node.died.wait())], timeout=20, return_when="FIRST_COMPLETED"
            )
            lives.append((node.life, node.effects))
        return lives

    assert run(main, 0).result == [(1, 3), (2, 5), (3, 20)]


def test_a_listener_dies_with_its_node() -> None:
    async def main(loop: VirtualLoop) -> None:
        await peer(loop)
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        loop.kill("venue")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", PORT)
        await peer(loop)
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.close()

    run(main, 0)


class LineJournal:
    """The least that has bytes in a file: ``durable`` appends are synced, others are only written."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("ab", buffering=0)

    async def append(self, record: Any, *, durable: bool) -> None:
        self.file.write(record)
        if durable:
            os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


def lines_after_a_kill(folder: Path, seed: int, effect: int | None = None) -> tuple[bytes, int]:
    """What is left of a journal with 2 durable lines and 2 that are only written."""
    folder.mkdir()
    path = folder / "ledger"

    async def daemon(loop: VirtualLoop) -> None:
        plain = LineJournal(path)
        journal = SimJournal(plain, loop, plain.close)  # type: ignore[arg-type]  # no replay
        for number, durable in enumerate((True, False, True, False)):
            await journal.append(b"line %d\n" % number, durable=durable)  # type: ignore[arg-type]
        await asyncio.sleep(1e6)

    async def main(loop: VirtualLoop) -> tuple[bytes, int]:
        disk = SimDisk(loop)
        disk.own("daemon", folder)
        with disk.mounted():
            if effect is not None:
                loop.kill_at("daemon", effect)
            loop.spawn("daemon", daemon(loop))
            await asyncio.sleep(1)
            if effect is None:
                loop.kill("daemon")
            return path.read_bytes(), disk.lost_bytes

    return run(main, seed).result


def test_a_kill_takes_unsynced_bytes_only_and_as_the_seed_has_it(tmp_path: Path) -> None:
    whole = b"line 0\nline 1\nline 2\nline 3\n"
    left = {seed: lines_after_a_kill(tmp_path / str(seed), seed) for seed in range(20)}
    assert all(whole.startswith(data) and len(data) >= 21 for data, _ in left.values())
    assert all(len(data) + lost == len(whole) for data, lost in left.values())
    assert {len(data) for data, _ in left.values()} > {21, 28}  # none of it, all of it, and torn
    assert lines_after_a_kill(tmp_path / "again", 3) == left[3]


def test_every_append_and_sync_is_a_boundary(tmp_path: Path) -> None:
    ends = [len(lines_after_a_kill(tmp_path / str(effect), 1, effect)[0]) for effect in range(1, 13)]
    #                before   fsync before and after   after  | before after | ...
    assert ends[0] == 0
    assert ends[2] == ends[3] == 7
    assert all(0 <= end <= 7 for end in ends[:4])
    assert all(7 <= end <= 14 for end in ends[4:7])
    assert all(end >= 21 for end in ends[8:])
