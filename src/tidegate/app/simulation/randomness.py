"""Takes the accidents out of third-party code while a simulated run goes on.

What was found to differ from run to run: the payload of ``websockets`` pings (the module ``random``), masks and
handshake keys of ``websockets`` and ``aiohttp`` (the system's randomness), ``aiohttp``'s order of idle connections, its
``Date`` headers and the age of its pooled connections (the machine's clocks), UUIDs. Sockets are no randomness, but the
same kind of leak: ``aiohttp`` makes its own unless it is handed a maker.
"""

import inspect
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import aiohappyeyeballs
import aiohttp.connector
from aiohttp.http_websocket import WebSocketWriter

from tidegate.app.simulation.sockets import make_socket
from tidegate.ports import Clock


@contextmanager
def replaced(target: object, name: str, value: object) -> Iterator[None]:
    """Put ``value`` in the place of ``target``'s attribute until the end of the block."""
    kept = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, kept)


@contextmanager
def pinned(seed: int, clock: Clock) -> Iterator[None]:
    """Draw all randomness from ``seed`` and read all time from ``clock``, process-wide, until the end of the block.

    No other thread may depend on either meanwhile. ``time.perf_counter`` stays real: it measures us.
    """
    rng = random.Random(f"{seed}:system")
    masks = inspect.signature(WebSocketWriter).parameters["random"].default
    kept = random.getstate(), masks.getstate()
    with ExitStack() as stack:
        for target, name, value in (
            (os, "urandom", rng.randbytes),
            (random, "_urandom", rng.randbytes),
            (time, "time", lambda: clock.now_ns() / 1e9),
            (time, "time_ns", clock.now_ns),
            (time, "monotonic", lambda: clock.monotonic_ns() / 1e9),
            (time, "monotonic_ns", clock.monotonic_ns),
            (aiohttp.connector, "monotonic", lambda: clock.monotonic_ns() / 1e9),
            (aiohappyeyeballs, "start_connection", _with_simulated_sockets(aiohappyeyeballs.start_connection)),
        ):
            stack.enter_context(replaced(target, name, value))
        random.seed(f"{seed}:module")
        masks.seed(f"{seed}:masks")
        try:
            yield
        finally:
            random.setstate(kept[0])
            masks.setstate(kept[1])


def _with_simulated_sockets(start: Callable[..., Any]) -> Callable[..., Any]:
    def start_connection(*args: Any, **options: Any) -> Any:
        return start(*args, **{**options, "socket_factory": options.get("socket_factory") or make_socket})

    return start_connection
