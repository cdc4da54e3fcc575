"""In-memory transports: what the client libraries take for TCP and unix sockets, over ``Network`` and virtual time.

A connection is two ``SimTransport`` objects. What one writes is planned by the network and put, with its time of
arrival, into the other's queue: in order per direction, whatever the delays. Bytes stay unacknowledged until the
reader takes them, so a slow or silent reader pauses the writer as a full socket buffer would.
"""

import asyncio
import errno
import math
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import cast

from tidegate.app.simulation.net import Flow, Network, Payload, Signal
from tidegate.app.simulation.nodes import Killed, Node
from tidegate.app.simulation.trace import Trace

KERNEL_BUFFER_BYTES = 256 << 10
"""What a socket takes before ``asyncio`` has to buffer: Linux lets both sides' buffers grow to this order."""
RETRANSMIT_S = 924.6
"""After so long without an acknowledgement Linux gives a connection up (tcp_retries2 = 15)."""

Address = tuple[str, int] | str


class Wires:
    """What all transports of one run share."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, network: Network, trace: Trace, point: Callable[[str], None]
    ) -> None:
        self.loop, self.network, self.trace, self.point = loop, network, trace, point
        self.transports: dict[SimTransport, None] = {}
        self.context = Context()
        """Of no node: what happens on the way."""


class SimSocket:
    """What stands where a library asks for the socket: addresses, options that are taken and forgotten, no bytes."""

    def __init__(self, family: int, type: int, proto: int = 0) -> None:
        self.family, self.type, self.proto = family, type, proto
        self.transport: SimTransport | None = None
        self._name: Address = ("0.0.0.0", 0)
        self._peer: Address | None = None

    def name(self, own: Address, peer: Address | None) -> None:
        """Say which addresses this end has."""
        self._name, self._peer = own, peer

    def fileno(self) -> int:
        """-1: no kernel knows this socket."""
        return -1

    def setblocking(self, flag: bool) -> None:
        """Taken and forgotten: it never blocks."""

    def setsockopt(self, *option: object) -> None:
        """Taken and forgotten."""

    def getsockopt(self, *_option: object) -> int:
        """0: no option is kept."""
        return 0

    def bind(self, address: Address) -> None:
        """Remember the local address."""
        self._name = address

    def getsockname(self) -> Address:
        """This end's address."""
        return self._name

    def getpeername(self) -> Address:
        """The other end's address. Raises ``OSError`` when not connected."""
        if self._peer is None:
            raise OSError(errno.ENOTCONN, "the simulated socket is not connected")
        return self._peer

    def close(self) -> None:
        """Give up a connection that no protocol has taken over."""
        if self.transport is not None and self.transport.unattached:
            self.transport.abort()


class SimTransport(asyncio.Transport):
    """One end of a connection. Its callbacks run in ``context``, which tells whose end it is."""

    def __init__(self, wires: Wires, node: Node, context: Context, flow: Flow, sock: SimSocket) -> None:
        extra = {"socket": sock, "sockname": sock.getsockname(), "peername": sock.getpeername()}
        super().__init__(extra)
        self.node, self.context = node, context
        self.peer: SimTransport = self
        self._wires, self._loop, self._flow, self._label = wires, wires.loop, flow, str(flow)
        self._protocol: asyncio.Protocol | None = None
        self._on_lost: Callable[[SimTransport], None] | None = None
        self._arrivals: deque[tuple[float, Payload]] = deque()  # in the order of writing: who is late holds up the rest
        self._timer: asyncio.TimerHandle | None = None
        self._held: deque[Payload] = deque()
        self._retransmit: asyncio.TimerHandle | None = None
        self._unread_bytes = 0  # written by this end, not yet taken by the other
        self._high_bytes, self._low_bytes = 64 << 10, 16 << 10
        self._closing = self._lost = self._eof_sent = self._reading_paused = self._writing_paused = False
        wires.transports[self] = None

    @property
    def unattached(self) -> bool:
        """Whether the connection stands, but no protocol has it yet."""
        return self._protocol is None and not self._closing

    def attach(self, protocol: asyncio.BaseProtocol, on_lost: Callable[["SimTransport"], None] | None = None) -> None:
        """Hand the connection to ``protocol``; what has arrived follows."""
        self.set_protocol(protocol)
        self._on_lost = on_lost
        self.context.run(protocol.connection_made, self)
        self._arm()

    # What the protocol asks for

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Whoever reads from now on. Raises ``TypeError`` for a protocol that brings its own buffer."""
        if isinstance(protocol, asyncio.BufferedProtocol):
            raise TypeError("the simulated network has no transport for a BufferedProtocol")
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whoever reads."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def is_closing(self) -> bool:
        """Whether the end is closed or about to be."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether arrivals are handed to the protocol."""
        return not (self._closing or self._reading_paused)

    def pause_reading(self) -> None:
        """Leave what arrives where it is; the writer notices when its buffers are full."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """Take what has arrived, soon."""
        self._reading_paused = False
        self._arm()

    def get_write_buffer_size(self) -> int:
        """Bytes that the socket buffers of both sides cannot hold."""
        return max(0, self._unread_bytes - KERNEL_BUFFER_BYTES)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """At which sizes of the write buffer writing resumes and pauses."""
        return self._low_bytes, self._high_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As ``asyncio`` has it: 64 KiB, or four times ``low``, and a quarter of it."""
        if high is None:
            high = 64 << 10 if low is None else 4 * low
        self._high_bytes, self._low_bytes = high, high // 4 if low is None else low
        self._check_writing()

    def can_write_eof(self) -> bool:
        """True: either direction can end alone."""
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data``: an effect boundary before and after."""
        if self._eof_sent:
            raise RuntimeError("cannot write after write_eof()")
        self._wires.point("net.write before")
        if not data or self._closing:
            return
        payload = bytes(data)
        self._send(payload)
        self._flow.sent_bytes += len(payload)
        self._unread_bytes += len(payload)
        self._check_writing()
        self._wires.point("net.write after")

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """``write`` of all of them as one."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Tell the reader that nothing more comes; reading goes on."""
        if not (self._eof_sent or self._closing):
            self._eof_sent = True
            self._send(Signal.EOF)

    def close(self) -> None:
        """Send what was written, then the end; arrivals from now on are answered by a reset."""
        if not self._closing:
            self._wires.point("net.close")
            self.write_eof()
            self._end(None)

    def abort(self) -> None:
        """Drop the connection: the other end is reset."""
        if not self._closing:
            self._wires.point("net.abort")
            self.reset_peer()
            self._end(None)

    def reset_peer(self) -> None:
        """Send a reset; it travels as everything does."""
        self._send(Signal.RESET)

    def vanish(self) -> None:
        """The node is dead: nothing is told to the protocol, and the kernel resets the other end."""
        if not self._closing:
            self._closing = self._lost = True
            self.reset_peer()
            self._forget()

    def abandon(self) -> None:
        """Close it with nobody told: the run is over."""
        self._closing = self._lost = True

    # The way of the bytes

    def _send(self, payload: Payload) -> None:
        if self._held:
            self._held.append(payload)
            return
        now_s = self._loop.time()
        for delay_s, part in self._wires.network.plan(self._flow, payload, now_s):
            if math.isinf(delay_s):
                self._hold(part)
            elif self._held:
                self._held.append(part)
            elif part:
                self.peer._arriving(now_s + delay_s, part)

    def _hold(self, payload: Payload) -> None:
        self._held.append(payload)
        self._wires.network.held[self._flow] = self._send_held
        if self._retransmit is None:
            self._retransmit = self._loop.call_later(RETRANSMIT_S, self._timed_out, context=self.context)

    def _send_held(self) -> None:
        """Try again what a hold kept back; it may be held once more."""
        held, self._held = self._held, deque()
        self._wires.network.held.pop(self._flow, None)
        if self._retransmit is not None:
            self._retransmit.cancel()
            self._retransmit = None
        for payload in held:
            self._send(payload)

    def _timed_out(self) -> None:
        if not self._closing:
            self._end(TimeoutError(errno.ETIMEDOUT, "the other end has acknowledged nothing for too long"))

    def _arriving(self, at_s: float, payload: Payload) -> None:
        self._arrivals.append((at_s, payload))
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        """Set the timer for the head of the queue, when there is one and somebody wants it."""
        if self._timer is None and self._arrivals and not self._reading_paused:
            if self._protocol is None and not self._closing:
                return
            at_s = max(self._arrivals[0][0], self._loop.time())
            self._timer = self._loop.call_at(at_s, self._arrive, context=self.context)

    def _arrive(self) -> None:
        """Hand over what is due: bytes that came at one time as one chunk."""
        self._timer = None
        if self._reading_paused and not self._closing:
            return
        now_s, arrivals, chunks = self._loop.time(), self._arrivals, list[bytes]()
        signal: Signal | None = None
        while arrivals and arrivals[0][0] <= now_s and signal is None:
            payload = arrivals.popleft()[1]
            if isinstance(payload, Signal):
                signal = payload
            else:
                chunks.append(payload)
        if chunks:
            self._take(chunks[0] if len(chunks) == 1 else b"".join(chunks), now_s)
        if signal is not None and not self._closing:
            if chunks and self._reading_paused:
                arrivals.appendleft((now_s, signal))  # the protocol has had enough: it learns of the end later
            else:
                self._heed(signal)
        self._arm()

    def _take(self, data: bytes, now_s: float) -> None:
        peer = self.peer
        peer._unread_bytes = max(0, peer._unread_bytes - len(data))
        if peer._writing_paused:
            self._loop.call_soon(peer._check_writing, context=peer.context)
        if self._closing:
            self.reset_peer()
            return
        self._wires.trace.delivered(now_s, peer._label, data)
        try:
            cast(asyncio.Protocol, self._protocol).data_received(data)
        except (KeyboardInterrupt, SystemExit, Killed):
            raise
        except BaseException as error:
            self._loop.call_exception_handler(
                {"message": "data_received() failed", "exception": error, "transport": self, "protocol": self._protocol}
            )
            self.abort()

    def _heed(self, signal: Signal) -> None:
        if signal is Signal.RESET:
            self._end(ConnectionResetError(errno.ECONNRESET, "the other end reset the connection"))
            if not self.peer._closing:  # a fault on the way resets both ends
                self._loop.call_soon(self.peer._heed, Signal.RESET, context=self.peer.context)
        elif not cast(asyncio.Protocol, self._protocol).eof_received():
            self.close()

    def _check_writing(self) -> None:
        protocol = self._protocol
        if protocol is None or self._closing:
            return
        size_bytes = self.get_write_buffer_size()
        if size_bytes > self._high_bytes and not self._writing_paused:
            self._writing_paused = True
            protocol.pause_writing()
        elif size_bytes <= self._low_bytes and self._writing_paused:
            self._writing_paused = False
            protocol.resume_writing()

    def _end(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._finish, error, context=self.context)

    def _finish(self, error: Exception | None) -> None:
        self._lost = True
        self._forget()
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    def _forget(self) -> None:
        self._wires.transports.pop(self, None)
        if self._on_lost is not None:
            self._on_lost(self)
        self._reading_paused = False
        if self._timer is None:
            self._arm()


def connect_pair(near: SimTransport, far: SimTransport) -> None:
    """Make two transports the ends of one connection."""
    near.peer, far.peer = far, near
