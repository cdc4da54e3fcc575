"""A TCP relay between the daemon and the local exchange, and what a line can do to both.

It knows no protocol but where it must: what the venue pushes over a WebSocket is repeated frame by frame, and a GET is
asked a second time on a line of its own, as middleboxes do that lost the first answer.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Any

_CHUNK_BYTES = 65_536
_LOOK_EVERY_S = 0.05
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends a reset."""
_TEXT_FRAME = 0x81
"""A whole, uncompressed text frame of a server."""


class Mode(Enum):
    """What the line does now."""

    PASS = "pass"
    DELAY = "delay"
    HOLE = "hole"
    UP_ONLY = "up only"
    DOWN_ONLY = "down only"
    REFUSE = "refuse"
    REPEAT = "repeat"


@dataclass(eq=False)
class _Link:
    """One connection through the relay; a dead one moves nothing more and says nothing."""

    client: asyncio.StreamWriter
    venue: asyncio.StreamWriter
    dead: bool = False
    frames: bytearray = field(default_factory=bytearray)
    upgraded: bool = False


class Relay:
    """The relay, in a thread of its own. ``mode`` may be changed at any time; ``delay_s`` is the longest delay."""

    def __init__(self, venue_port: int, rng: Random) -> None:
        self.mode = Mode.PASS
        self.delay_s = 0.0
        self.repeated = 0
        self._venue_port, self._rng = venue_port, rng
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, name="relay", daemon=True)
        self._thread.start()
        if not self._ready.wait(10.0):
            raise RuntimeError("the relay does not listen")

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        self._server.close()
        left = asyncio.all_tasks(self._loop)
        for each in left:
            each.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    def close(self) -> None:
        """End it, with all its connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()

    def cut(self) -> None:
        """Reset every connection that there is."""
        self._on_loop(lambda: [self._reset(each) for each in list(self._links)])

    def freeze(self) -> None:
        """What is open now is dead for ever and says nothing; new connections are fine."""

        def freeze() -> None:
            for each in self._links:
                each.dead = True

        self._on_loop(freeze)

    def _on_loop(self, act: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(act)

    # ---- one connection -----------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode is Mode.REFUSE:
            _reset(writer)
            return
        try:
            venue_reader, venue = await asyncio.open_connection("127.0.0.1", self._venue_port)
        except OSError:
            _reset(writer)
            return
        link = _Link(writer, venue)
        self._links.add(link)
        try:
            await asyncio.gather(self._up(link, reader), self._down(link, venue_reader))
        except (OSError, asyncio.CancelledError):  # cancelled when the relay ends: nobody waits for this task
            self._reset(link)
        finally:
            self._links.discard(link)
            writer.close()
            venue.close()

    async def _up(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await self._hold(link, Mode.UP_ONLY)
            if self.mode is Mode.REPEAT and chunk.startswith(b"GET ") and b"Upgrade" not in chunk:
                self._spawn(self._ask_again(chunk))
            link.venue.write(chunk)
            await link.venue.drain()
        link.venue.close()

    async def _down(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await self._hold(link, Mode.DOWN_ONLY)
            link.client.write(self._doubled(link, chunk))
            await link.client.drain()
        link.client.close()

    async def _hold(self, link: _Link, way: Mode) -> None:
        if self.mode is Mode.DELAY:
            await asyncio.sleep(self.delay_s * self._rng.uniform(0.2, 1.0))
        while self._held(link, way):  # noqa: ASYNC110  a mode is set from another thread
            await asyncio.sleep(_LOOK_EVERY_S)

    def _held(self, link: _Link, way: Mode) -> bool:
        one_way = self.mode in (Mode.UP_ONLY, Mode.DOWN_ONLY)
        return link.dead or self.mode is Mode.HOLE or (one_way and self.mode is not way)

    def _doubled(self, link: _Link, chunk: bytes) -> bytes:
        """The chunk, in which every whole text frame comes twice while the line repeats."""
        if not link.upgraded:
            head, found, rest = chunk.partition(b"\r\n\r\n")
            if not (head.startswith(b"HTTP/1.1 101") and found):
                return chunk
            link.upgraded = True
            return head + found + self._doubled(link, rest)
        link.frames += chunk
        out = bytearray()
        while (length := frame_bytes(link.frames)) is not None:
            frame = bytes(link.frames[:length])
            del link.frames[:length]
            twice = self.mode is Mode.REPEAT and frame[0] == _TEXT_FRAME
            self.repeated += twice
            out += frame * 2 if twice else frame
        return bytes(out)

    async def _ask_again(self, request: bytes) -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._venue_port)
            writer.write(request)
            await writer.drain()
            await reader.read(_CHUNK_BYTES)
            writer.close()
            self.repeated += 1

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _reset(self, link: _Link) -> None:
        _reset(link.client)
        _reset(link.venue)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def frame_bytes(stream: bytearray) -> int | None:
    """The length of the first frame of a server's stream (RFC 6455 5.2: no mask), or None while it is not whole."""
    if len(stream) < 2:
        return None
    short = stream[1] & 0x7F
    head = {126: 4, 127: 10}.get(short, 2)
    if len(stream) < head:
        return None
    body = short if head == 2 else int.from_bytes(stream[2:head])
    return head + body if len(stream) >= head + body else None
