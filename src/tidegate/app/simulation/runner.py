"""One simulated run, from a clean process state back to it."""

import asyncio
import gc
import logging
import math
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any, Generic, NamedTuple, TypeVar

from tidegate.app.simulation.clock import EPOCH_NS, VirtualClock
from tidegate.app.simulation.loop import SimTask, VirtualLoop
from tidegate.app.simulation.net import Network
from tidegate.app.simulation.nodes import NODE
from tidegate.app.simulation.randomness import pinned
from tidegate.domain.ids import Nanos

T = TypeVar("T")


class Outcome(NamedTuple, Generic[T]):
    """What a run came to. ``errors`` are exceptions that nobody took: a sound program has none."""

    result: T
    digest: str
    virtual_s: float
    chunks: int
    errors: tuple[str, ...]


def run(
    main: Callable[[VirtualLoop], Coroutine[Any, Any, T]],
    seed: int,
    *,
    epoch_ns: Nanos = EPOCH_NS,
    network: Network | None = None,
    limit_s: float = math.inf,
) -> Outcome[T]:
    """Run ``main(loop)`` to its end on a virtual loop named by ``seed``, third-party accidents pinned.

    What is left running then is cancelled. Raises what ``main`` raises, ``Deadlock``, ``Livelock`` and ``Overtime``,
    with a note of the seed, the digest and the last events. The wall clock of third-party code begins at ``epoch_ns``.
    """
    with _still_collector():
        loop = VirtualLoop(seed, network=network, limit_s=limit_s)
        with pinned(seed, VirtualClock(loop, epoch_ns)):
            try:
                with loop.node("world"):
                    task = loop.create_task(main(loop), name="main")
                    result: T = loop.run_until_complete(task)
                    virtual_s, chunks, digest = loop.time(), loop.trace.chunks, loop.trace.digest
                    _cancel_rest(loop)
                    gc.collect()  # a task that failed and was forgotten says so when it goes
            except BaseException as error:
                tail = "\n".join(map(str, loop.trace.tail()[-20:]))
                error.add_note(f"simulated run, seed {seed}, digest {loop.trace.digest}; the last events:\n{tail}")
                raise
            finally:
                _bury(loop)
        return Outcome(result, digest, virtual_s, chunks, tuple(loop.errors))


def _cancel_rest(loop: VirtualLoop) -> None:
    """Cancel what still runs, oldest first, and let it end; the dead stay as they are."""
    dead = set(map(id, loop.nodes.graveyard))
    rest = sorted((task for task in asyncio.all_tasks(loop) if id(task) not in dead), key=hash)
    for task in rest:
        task.cancel()
    loop.run_until_complete(_ended(rest))
    loop.run_until_complete(loop.shutdown_asyncgens())


async def _ended(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task


def _bury(loop: VirtualLoop) -> None:
    """Close the loop and let the dead go. The run is over, but now their ``finally`` blocks run: fenced and unheard."""
    remains = [task for task in loop.nodes.graveyard if isinstance(task, SimTask)]
    remains += sorted((task for task in asyncio.all_tasks(loop) if isinstance(task, SimTask)), key=hash)
    loop.sockets.abandon()
    loop.close()
    heard, sys.unraisablehook = sys.unraisablehook, lambda _: None
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            while remains:
                _close(remains.pop(0))
            loop.nodes.graveyard.clear()
            gc.collect()
    finally:
        logging.disable(disabled)
        sys.unraisablehook = heard


def _close(task: SimTask[Any]) -> None:
    task.silence()
    task.node.dead = True
    context = Context()
    context.run(NODE.set, task.node)
    with suppress(BaseException):
        context.run(task.get_coro().close)


@contextmanager
def _still_collector() -> Iterator[None]:
    """Collect only when told to, and only what this run has made: a finalizer is an event like any other."""
    was_on = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()
