"""Listening, dialling and looking up on the simulated network: what the event loop's socket calls come down to."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

from tidegate.app.simulation.net import LOOPBACK, Flow, refusal
from tidegate.app.simulation.nodes import NODE, Node
from tidegate.app.simulation.transport import Address, SimSocket, SimTransport, Wires, connect_pair

_ANY = ("0.0.0.0", "::", "")
_SYN_GIVE_UP_S = 127.0
"""Linux sends a connection request seven times (tcp_syn_retries = 6) before it gives up."""

Factory = Callable[[], asyncio.BaseProtocol]
AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]


class SimServer(asyncio.AbstractServer):
    """What ``create_server`` gives: listens until closed or until its node dies."""

    def __init__(
        self, sockets: "Sockets", factory: Callable[[], asyncio.BaseProtocol], names: Sequence[Address]
    ) -> None:
        self.node, self.context = NODE.get(), copy_context()
        self.factory = factory
        self._sockets, self._names = sockets, names
        self._serving = False
        self._connections: dict[SimTransport, None] = {}
        self._closed: asyncio.Future[None] = sockets.wires.loop.create_future()

    @property
    def sockets(self) -> tuple[SimSocket, ...]:
        """One stand-in per address listened on; none when closed."""
        listening: list[SimSocket] = []
        for name in self._names if self._serving else ():
            sock = SimSocket(socket.AF_UNIX if isinstance(name, str) else socket.AF_INET, socket.SOCK_STREAM)
            sock.name(name, None)
            listening.append(sock)
        return tuple(listening)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the run."""
        return self._sockets.wires.loop

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._serving

    async def start_serving(self) -> None:
        """Accept connections from now on. Raises ``OSError`` when an address is taken."""
        if not self._serving:
            self._sockets.listen(self, self._names)
            self._serving = True

    async def serve_forever(self) -> None:
        """Accept connections until closed or cancelled."""
        await self.start_serving()
        try:
            await self._closed
        finally:
            self.close()

    def close(self) -> None:
        """Accept no more; connections that stand go on."""
        if self._serving:
            self._serving = False
            self._sockets.stop_listening(self._names)
        if not self._closed.done():
            self._closed.set_result(None)

    def close_clients(self) -> None:
        """Close what was accepted."""
        for transport in list(self._connections):
            transport.close()

    def abort_clients(self) -> None:
        """Reset what was accepted."""
        for transport in list(self._connections):
            transport.abort()

    async def wait_closed(self) -> None:
        """Return when closed; connections that stand are not waited for."""
        if self._serving:
            await asyncio.shield(self._closed)

    def accepted(self, transport: SimTransport) -> None:
        """A connection came in: give it a protocol, in the server's node."""
        self._connections[transport] = None
        protocol = transport.context.run(self.factory)
        transport.attach(protocol, lambda lost: self._connections.pop(lost, None))


class Sockets:
    """The listeners of a run, and the ways to reach them."""

    def __init__(self, wires: Wires) -> None:
        self.wires = wires
        self._listeners: dict[Address, SimServer] = {}

    def listen(self, server: SimServer, names: Sequence[Address]) -> None:
        """Enter ``server`` under all ``names``. Raises ``OSError`` when one is taken."""
        for name in names:
            if name in self._listeners:
                raise OSError(errno.EADDRINUSE, f"somebody listens on {name} already")
        self._listeners.update((name, server) for name in names)

    def stop_listening(self, names: Sequence[Address]) -> None:
        """Forget the listeners of ``names``; a path in the file system goes with them."""
        for name in names:
            self._listeners.pop(name, None)

    def kill(self, node: Node) -> None:
        """Everything that ``node`` had open is closed by its kernel."""
        dead = [name for name, server in self._listeners.items() if server.node is node]
        self.stop_listening(dead)
        for transport in list(self.wires.transports):
            if transport.node is node:
                transport.vanish()

    def abandon(self) -> None:
        """The run is over: nobody is to complain about connections left open."""
        for transport in list(self.wires.transports):
            transport.abandon()

    async def lookup(self, host: str | None, port: int | None, passive: bool) -> list[AddressInfo]:
        """``getaddrinfo``. Raises ``socket.gaierror`` as the network's names have it."""
        if not host:
            addresses: Sequence[str] = ("0.0.0.0" if passive else LOOPBACK,)
        else:
            found = self.wires.network.resolve(host)
            if found.delay_s:
                await asyncio.sleep(found.delay_s)
            if found.error is not None or not found.addresses:
                raise socket.gaierror(found.error or socket.EAI_NONAME, f"the simulated network does not know {host}")
            addresses = found.addresses
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port or 0)) for address in addresses
        ]

    def names_of(self, host: str | Sequence[str] | None, port: int | None) -> list[Address]:
        """The addresses that a server listens on; port 0 is a free one, the same for all."""
        hosts = [host] if isinstance(host, str) or host is None else list(host)
        number = port or self.wires.network.new_port()
        return [(self._own_address(name), number) for name in hosts]

    def _own_address(self, host: str | None) -> str:
        if not host or host in _ANY:
            return "0.0.0.0"
        found = self.wires.network.resolve(host)
        if not found.addresses:
            raise socket.gaierror(found.error or socket.EAI_NONAME, f"the simulated network does not know {host}")
        return found.addresses[0]

    async def dial(self, sock: SimSocket, address: Address) -> None:
        """Connect ``sock``: a round trip. Raises ``OSError`` as ``connect`` does."""
        wires, loop, node = self.wires, self.wires.loop, NODE.get()
        wires.point("net.connect")
        answered: asyncio.Future[SimTransport] = loop.create_future()
        server = self._find(address)
        target = server.node.name if server is not None else "world"
        if wires.network.is_cut(node.name, target) or wires.network.is_cut(target, node.name):
            silence = TimeoutError(errno.ETIMEDOUT, "no answer to the connection request")
            loop.call_later(_SYN_GIVE_UP_S, _answer, answered, silence)
        else:
            there_s, back_s = (wires.network.latency_s(*way) for way in ((node.name, target), (target, node.name)))
            caller = _Caller(sock, node, copy_context(), back_s, answered)
            loop.call_later(there_s, self._knock, caller, address, context=wires.context)
        sock.transport = await answered

    def _find(self, address: Address) -> SimServer | None:
        if isinstance(address, str):
            return self._listeners.get(address)
        return self._listeners.get(address[:2]) or self._listeners.get(("0.0.0.0", address[1]))

    def _knock(self, caller: "_Caller", address: Address) -> None:
        """The request has arrived where ``address`` is: accept or refuse it."""
        loop, network = self.wires.loop, self.wires.network
        server = self._find(address)
        port = 0 if isinstance(address, str) else address[1]
        if caller.node.dead:
            return
        if server is None or network.refused(port):
            refused = FileNotFoundError(errno.ENOENT, address) if isinstance(address, str) else refusal(port)
            loop.call_later(caller.back_s, _answer, caller.answered, refused, context=caller.context)
            return
        near, far = self._pair(caller, address, server)
        loop.call_later(caller.back_s, _answer, caller.answered, near, context=caller.context)
        server.accepted(far)

    def _pair(self, caller: "_Caller", address: Address, server: SimServer) -> tuple[SimTransport, SimTransport]:
        network, now_s, near_sock = self.wires.network, self.wires.loop.time(), caller.sock
        far_sock = SimSocket(near_sock.family, near_sock.type, near_sock.proto)
        port = 0 if isinstance(address, str) else address[1]
        own: Address = "" if isinstance(address, str) else (LOOPBACK, network.new_port())
        near_sock.name(own, address)
        far_sock.name(address, own)
        number = network.new_connection()
        there = Flow(caller.node.name, server.node.name, port, True, number, now_s)
        back = Flow(server.node.name, caller.node.name, port, False, number, now_s)
        near = SimTransport(self.wires, caller.node, caller.context.copy(), there, near_sock)
        far = SimTransport(self.wires, server.node, server.context.copy(), back, far_sock)
        connect_pair(near, far)
        return near, far


@dataclass(frozen=True, slots=True)
class _Caller:
    sock: SimSocket
    node: Node
    context: Context
    back_s: float
    answered: "asyncio.Future[SimTransport]"


def _answer(answered: "asyncio.Future[SimTransport]", outcome: SimTransport | OSError) -> None:
    """Tell the caller, unless it has given up: then the connection is dropped."""
    if not answered.done():
        if isinstance(outcome, OSError):
            answered.set_exception(outcome)
        else:
            answered.set_result(outcome)
    elif isinstance(outcome, SimTransport):
        outcome.abort()


def make_socket(info: tuple[Any, ...]) -> SimSocket:
    """A ``socket_factory``, as ``aiohttp`` and ``aiohappyeyeballs`` call it."""
    return SimSocket(info[0], info[1], info[2])


def touch(path: str | os.PathLike[str]) -> str:
    """The file that a unix socket shows in the file system, so that it can be guarded and removed."""
    name = os.fspath(path)
    with open(name, "wb"):
        return name
