"""An event loop whose time is a number: it jumps to the next timer, and everything outside the process is simulated.

``asyncio`` itself runs unmodified on top: tasks, timeouts, streams and the client libraries' protocols. Below it there
is no selector, no socket, no thread: transports are in memory (``transport.py``) and executors run inline.
"""

import asyncio
import contextvars
import gc
import math
import socket
from asyncio import events
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from tidegate.app.simulation.net import Network
from tidegate.app.simulation.nodes import NODE, WORLD, Killed, Node, Nodes
from tidegate.app.simulation.sockets import AddressInfo, SimServer, Sockets, touch
from tidegate.app.simulation.trace import Trace
from tidegate.app.simulation.transport import Address, SimSocket, SimTransport, Wires

T = TypeVar("T")

_NO_TLS = "the simulated network speaks no TLS: use http and ws addresses in a simulated run"
_TURNS_PER_COLLECTION = 100_000
_TURNS_PER_INSTANT = 100_000


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set, so nothing can ever happen: a lost wake-up."""


class Livelock(RuntimeError):
    """Something runs over and over without letting time pass."""


class Overtime(RuntimeError):
    """The run has reached its limit of virtual time."""


class SimTask(asyncio.Task[T]):
    """A task whose hash is its number, so that sets of tasks are walked in the same order in every process."""

    def __init__(self, coro: Any, *, serial: int, node: Node, **kwargs: Any) -> None:
        self.serial, self.node = serial, node
        super().__init__(coro, **kwargs)

    def __hash__(self) -> int:
        return self.serial

    def silence(self) -> None:
        """Let it go unfinished without a complaint."""
        self._log_destroy_pending = False


class _VirtualSelector:
    """Waits for nothing: the clock lands exactly on the next timer."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> tuple[()]:
        self._loop.turn(timeout)
        return ()


_BaseLoop: Any = asyncio.BaseEventLoop  # typeshed leaves out the private half, and overloads what is one signature here


class VirtualLoop(_BaseLoop):  # type: ignore[misc]  # see _BaseLoop
    """The loop of one simulated run. ``time()`` begins at 0 and is counted in seconds.

    ``seed`` names the run: latencies, faults and losses are drawn from it. Raises ``Deadlock``, ``Livelock`` and, past
    ``limit_s``, ``Overtime`` out of ``run_until_complete``. ``errors`` are what ``asyncio`` had nobody to tell.
    """

    def __init__(self, seed: int = 0, *, network: Network | None = None, limit_s: float = math.inf) -> None:
        super().__init__()
        self.seed = seed
        self.network = network or Network(seed)
        self.trace = Trace()
        self.nodes = Nodes(self._kill)
        self.sockets = Sockets(Wires(self, self.network, self.trace, self.nodes.point))
        self.errors: list[str] = []
        self.on_kill: list[Callable[[Node], None]] = []
        self.turns = 0
        self._limit_s = limit_s
        self._now_s = 0.0
        self._turns_here = 0
        self._task_serial = 0
        self._selector = _VirtualSelector(self)
        self._clock_resolution = math.ulp(0.0)

    # Time

    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self._now_s

    def turn(self, timeout: float | None) -> None:
        """One turn of the loop: time passes when nothing is ready."""
        self.turns += 1
        if self.turns % _TURNS_PER_COLLECTION == 0:
            gc.collect()  # at a place of its own in the run, as finalizers can act
        if timeout is None:
            raise Deadlock(f"nothing can happen any more at {self._now_s} s; {self._who_waits()}")
        if timeout > 0:
            self._now_s = max(self._now_s, self._scheduled[0].when())
            self._clock_resolution = math.ulp(self._now_s)  # due is what is not later than now, and nothing else
            self._turns_here = 0
            if self._now_s > self._limit_s:
                raise Overtime(f"the run has not ended within {self._limit_s} s of virtual time; {self._who_waits()}")
            return
        self._turns_here += 1
        if self._turns_here > _TURNS_PER_INSTANT:
            raise Livelock(f"time stands still at {self._now_s} s; {self._who_waits()}")

    def _who_waits(self) -> str:
        tasks = sorted((task for task in asyncio.all_tasks(self) if isinstance(task, SimTask)), key=hash)
        shown = [f"{task.get_name()} in {getattr(task.get_coro(), '__qualname__', '?')}" for task in tasks]
        return f"waiting: {'; '.join(shown) or 'no task'}"

    def _process_events(self, event_list: object) -> None:
        """There are none: arrivals are timers."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    # Callbacks and tasks: a dead node gets none

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> events.Handle:
        """As ``asyncio``; a callback of a dead node is refused: it comes back cancelled."""
        if self.nodes.any_dead and _node_of(context).dead:
            handle = events.Handle(callback, args, self, context)
            handle.cancel()
            return handle
        made: events.Handle = super().call_soon(callback, *args, context=context)
        return made

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> events.TimerHandle:
        """As ``asyncio``; a callback of a dead node is refused: it comes back cancelled."""
        if self.nodes.any_dead and _node_of(context).dead:
            handle = events.TimerHandle(when, callback, args, self, context)
            events.Handle.cancel(handle)  # it is not among the timers: the loop must not count it
            return handle
        made: events.TimerHandle = super().call_at(when, callback, *args, context=context)
        return made

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        """``call_soon``, for the one thread that there is. Raises ``RuntimeError`` in any other."""
        if self.is_running():
            self._check_thread()
        return self.call_soon(callback, *args, context=context)

    def create_task(
        self, coro: Any, *, name: object = None, context: contextvars.Context | None = None
    ) -> SimTask[Any]:
        """As ``asyncio``; the task belongs to the node of its context, and of a dead node never starts."""
        self._check_closed()
        self._task_serial += 1
        node = _node_of(context)
        task: SimTask[Any] = SimTask(
            coro,
            serial=self._task_serial,
            node=node,
            loop=self,
            name=None if name is None else str(name),
            context=context,
        )
        node.tasks.add(task)
        if node.dead:
            self.nodes.graveyard.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what went wrong with nobody to tell, but for the death throes of a killed node."""
        error, task = context.get("exception"), context.get("future") or context.get("task")
        if isinstance(error, Killed) or NODE.get().dead or (isinstance(task, SimTask) and task.node.dead):
            return
        text = f"{context.get('message')}: {error!r}" if error is not None else str(context.get("message"))
        self.errors.append(text)
        self.trace.note(self._now_s, text)

    def _asyncgen_firstiter_hook(self, agen: Any) -> None:
        super()._asyncgen_firstiter_hook(agen)
        NODE.get().generators.add(agen)

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        if NODE.get().dead:
            self.nodes.graveyard.append(agen)  # its `finally` must not run
        else:
            super()._asyncgen_finalizer_hook(agen)

    # Nodes

    @contextmanager
    def node(self, name: str) -> Iterator[Node]:
        """What is begun inside belongs to node ``name``; a new life of it begins when the last one is dead."""
        node = self.nodes.begin(name)
        token = NODE.set(node)
        try:
            yield node
        finally:
            NODE.reset(token)

    def spawn(self, name: str, coro: Coroutine[Any, Any, T]) -> SimTask[T]:
        """Run ``coro`` as a task of node ``name``."""
        with self.node(name):
            return self.create_task(coro, name=name)

    def point(self, label: str) -> None:
        """An effect boundary of the running node; raises ``Killed`` when it is dead or dies here."""
        self.nodes.point(label)

    def kill(self, name: str) -> None:
        """Kill ``name`` as ``kill -9`` does: no ``finally`` runs, its connections are reset, its effects are void."""
        node = self.nodes.get(name)
        if not node.dead:
            self._kill(node)

    def kill_at(self, name: str, effect: int, *, life: int = 1) -> None:
        """Kill the ``life``-th run of node ``name`` at its ``effect``-th boundary, both counted from 1."""
        self.nodes.plan_kill(name, effect, life)

    def _kill(self, node: Node) -> None:
        node.dead = self.nodes.any_dead = True
        self.trace.note(self._now_s, f"kill {node.name}, life {node.life}, at boundary {node.effects}")
        self.nodes.graveyard += sorted(node.tasks, key=hash)
        for agen in list(node.generators):
            self._asyncgens.discard(agen)  # nobody closes it: its `finally` must not run
            self.nodes.graveyard.append(agen)
        for handle in [*self._ready, *self._scheduled]:
            if handle._context.get(NODE, None) is node:
                self.nodes.graveyard.append((handle._callback, handle._args))
                handle.cancel()
        self.sockets.kill(node)
        for end in [*node.ends, *self.on_kill]:
            end(node)
        node.died.set()

    # Signals go to nodes, by hand

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:
        """Recorded for the running node; ``send_signal`` calls it."""
        context = contextvars.copy_context()
        NODE.get().signals[sig] = lambda: self.call_soon(callback, *args, context=context)

    def remove_signal_handler(self, sig: int) -> bool:
        """Forget the handler of the running node; whether there was one."""
        return NODE.get().signals.pop(sig, None) is not None

    def send_signal(self, name: str, sig: int) -> None:
        """Send ``sig`` to node ``name``. Raises ``LookupError`` when it does not handle it."""
        node = self.nodes.get(name)
        if sig not in node.signals:
            raise LookupError(f"node {name!r} handles no signal {sig}")
        node.signals[sig]()

    # Executors, names and sockets

    def run_in_executor(self, _executor: object, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Call ``func`` here and now: there are no other threads. No virtual time passes."""
        self._check_closed()
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def getaddrinfo(self, host: Any, port: Any, *, flags: int = 0, **_hints: object) -> list[AddressInfo]:
        """The addresses that the simulated network gives ``host``. Raises ``socket.gaierror``."""
        name = host.decode() if isinstance(host, bytes) else host
        return await self.sockets.lookup(name, None if port is None else int(port), bool(flags & socket.AI_PASSIVE))

    async def getnameinfo(self, sockaddr: Any, _flags: int = 0) -> tuple[str, str]:
        """The numeric form of ``sockaddr``."""
        return str(sockaddr[0]), str(sockaddr[1])

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect a ``SimSocket``. Raises ``TypeError`` for one of the kernel's."""
        await self.sockets.dial(_simulated(sock), address)

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: object = None,
        sock: Any = None,
        **_options: object,
    ) -> tuple[SimTransport, Any]:
        """A connection over the simulated network. Raises ``OSError``, and ``NotImplementedError`` for TLS."""
        _refuse_tls(ssl)
        if sock is not None:
            return self._attach(_simulated(sock), protocol_factory)
        errors: list[OSError] = []
        for family, kind, proto, _, address in await self.getaddrinfo(host, port):
            made = SimSocket(family, kind, proto)
            try:
                await self.sockets.dial(made, address)
            except OSError as error:
                errors.append(error)
            else:
                return self._attach(made, protocol_factory)
        raise errors[0]

    async def create_unix_connection(
        self, protocol_factory: Callable[[], Any], path: Any = None, *, ssl: object = None, **_options: object
    ) -> tuple[SimTransport, Any]:
        """A connection to the simulated unix socket at ``path``."""
        _refuse_tls(ssl)
        sock = SimSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        await self.sockets.dial(sock, str(path))
        return self._attach(sock, protocol_factory)

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        sock: Any = None,
        ssl: object = None,
        start_serving: bool = True,
        **_options: object,
    ) -> SimServer:
        """Listen on the simulated network; port 0 or None is a free one."""
        _refuse_tls(ssl)
        names = self.sockets.names_of(host, port) if sock is None else [_simulated(sock).getsockname()]
        return await self._serve(protocol_factory, names, start_serving)

    async def create_unix_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: Any = None,
        *,
        ssl: object = None,
        start_serving: bool = True,
        **_options: object,
    ) -> SimServer:
        """Listen on a simulated unix socket; an empty file at ``path`` stands for it."""
        _refuse_tls(ssl)
        return await self._serve(protocol_factory, [touch(path)], start_serving)

    async def start_tls(self, *_args: object, **_options: object) -> NoReturn:
        """Raises ``NotImplementedError``: the simulated network speaks no TLS."""
        raise NotImplementedError(_NO_TLS)

    async def _serve(
        self, factory: Callable[[], asyncio.BaseProtocol], names: Sequence[Address], start_serving: bool
    ) -> SimServer:
        server = SimServer(self.sockets, factory, names)
        if start_serving:
            await server.start_serving()
        return server

    def _attach(self, sock: SimSocket, factory: Callable[[], Any]) -> tuple[SimTransport, Any]:
        if sock.transport is None:
            raise OSError("the simulated socket is not connected")
        protocol = factory()
        sock.transport.attach(protocol)
        return sock.transport, protocol


def _node_of(context: contextvars.Context | None) -> Node:
    return NODE.get() if context is None else context.get(NODE, WORLD)


def _simulated(sock: object) -> SimSocket:
    if not isinstance(sock, SimSocket):
        raise TypeError(f"no {type(sock).__name__} in the simulated network: make a SimSocket, or give host and port")
    return sock


def _refuse_tls(ssl: object) -> None:
    if ssl:
        raise NotImplementedError(_NO_TLS)
