"""The stopwatch of ``benchmarks.latency``: when the bytes of a bar come in, and when those of an order go out.

It lies around what the event loop itself calls: a protocol's ``data_received`` (or ``buffer_updated``), before the
library behind it has looked at a byte, and the ``write`` of the transport under the HTTP client. So it is the same for
every library and both loops.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter_ns, thread_time_ns
from typing import Any, Final

import aiohttp.client_proto
import uvloop

_BAR: Final = b"@kline"
_ORDER: Final = b"POST /fapi/v1/order?"
_PASSED: Final = ("eof_received", "connection_lost", "pause_writing", "resume_writing")
"""What a protocol hears besides bytes: passed on to the one behind."""


class Stopwatch:
    """``trips_ns``: from a bar's arrival to its order's bytes; ``cpu_ns``: our own processor time in it.

    ``stages_ns`` holds the stages of the trips, where ``mark`` was called.
    """

    def __init__(self) -> None:
        self.trips_ns: list[int] = []
        self.cpu_ns: list[int] = []
        self.stages_ns: dict[str, list[int]] = {}
        self._began_ns = 0
        self._began_cpu_ns = 0
        self._marks: list[tuple[str, int]] = []

    def arrived(self, data: bytes) -> None:
        """Bytes have come in; those of a bar begin a trip."""
        now_ns = perf_counter_ns()
        if _BAR in data:
            self._began_ns, self._began_cpu_ns = now_ns, thread_time_ns()
            self._marks.clear()

    def mark(self, stage: str) -> None:
        """A stage of the trip begins here, unless it did already."""
        if self._began_ns and not any(name == stage for name, _ in self._marks):
            self._marks.append((stage, perf_counter_ns()))

    def left(self, data: bytes) -> None:
        """Bytes are about to leave; those of an order end the trip."""
        now_ns = perf_counter_ns()
        if self._began_ns and data.startswith(_ORDER):
            self.trips_ns.append(now_ns - self._began_ns)
            self.cpu_ns.append(thread_time_ns() - self._began_cpu_ns)
            self._close(now_ns)
            self._began_ns = 0

    def _close(self, now_ns: int) -> None:
        if not self._marks:
            return
        before, since_ns = "receive", self._began_ns
        for name, at_ns in [*self._marks, ("", now_ns)]:
            self.stages_ns.setdefault(before, []).append(at_ns - since_ns)
            before, since_ns = name, at_ns

    def clear(self) -> None:
        """Forget what was measured: the warm-up is over."""
        self.trips_ns.clear()
        self.cpu_ns.clear()
        self.stages_ns.clear()


class _Outgoing:
    """A transport that is asked the time before each write."""

    def __init__(self, transport: asyncio.Transport, watch: Stopwatch) -> None:
        self._transport, self._watch = transport, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: Any) -> None:
        self._watch.left(bytes(data[:32]))
        self._transport.write(data)

    def writelines(self, chunks: Any) -> None:
        parts = list(chunks)
        self._watch.left(bytes(parts[0][:32]))
        self._transport.writelines(parts)


class _Incoming(asyncio.Protocol):
    """A protocol before a protocol."""

    def __init__(self, inner: Any, watch: Stopwatch) -> None:
        self._inner, self._watch = inner, watch
        for name in _PASSED:
            setattr(self, name, getattr(inner, name))

    def connection_made(self, transport: Any) -> None:
        if isinstance(self._inner, aiohttp.client_proto.ResponseHandler):
            transport = _Outgoing(transport, self._watch)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._watch.arrived(data)
        self._inner.data_received(data)


class _IncomingBuffer(asyncio.BufferedProtocol):
    """The same for a protocol that lends its buffer."""

    def __init__(self, inner: Any, watch: Stopwatch) -> None:
        self._inner, self._watch = inner, watch
        self._buffer: Any = None
        for name in ("connection_made", *_PASSED):
            setattr(self, name, getattr(inner, name))

    def get_buffer(self, sizehint: int) -> Any:
        self._buffer = self._inner.get_buffer(sizehint)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._watch.arrived(bytes(memoryview(self._buffer)[:nbytes]))
        self._buffer = None
        self._inner.buffer_updated(nbytes)


def timed_loop(kind: str, watch: Stopwatch) -> asyncio.AbstractEventLoop:
    """An event loop, ``uvloop`` or ``asyncio``, whose connections are timed."""
    base: Any = uvloop.Loop if kind == "uvloop" else asyncio.SelectorEventLoop

    class Loop(base):  # type: ignore[misc]
        async def create_connection(self, factory: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
            made: list[Any] = []

            def wrapped() -> Any:
                made.append(factory())
                buffered = isinstance(made[0], asyncio.BufferedProtocol)
                return (_IncomingBuffer if buffered else _Incoming)(made[0], watch)

            transport, _ = await super().create_connection(wrapped, *args, **kwargs)
            return transport, made[0]

    loop: asyncio.AbstractEventLoop = Loop()
    return loop
