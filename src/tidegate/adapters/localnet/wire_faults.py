"""N01 to N08: faults between the server and the network, at the level of bytes.

``faulty_factory`` wraps the server's protocol factory; what it makes sits between the transport, real or in memory,
and the server's own protocol, which is unchanged. Everything that waits, waits on the loop, in order per direction.
"""

import asyncio
import itertools
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

from tidegate.adapters.localnet.fault_catalogue import Layer
from tidegate.adapters.localnet.fault_rules import Rule
from tidegate.adapters.localnet.faults import Faults
from tidegate.adapters.localnet.request_faults import operation_of
from tidegate.adapters.localnet.wire_spoil import Answer, going_away, message_in, spoilt_answer, spoilt_frame

_METHODS = (b"GET ", b"POST ", b"PUT ", b"DELETE ", b"HEAD ", b"OPTIONS ", b"PATCH ")
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_RESET_LINGER = struct.pack("ii", 1, 0)
_FOREVER_S = 86_400.0

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


def faulty_factory(factory: ProtocolFactory, faults: Faults) -> ProtocolFactory:
    """A protocol factory for ``loop.create_server`` whose connections pass the wire faults in force."""
    numbers = itertools.count()
    return lambda: _Between(cast(asyncio.Protocol, factory()), faults, next(numbers))


class _Lane:
    """One direction of a connection: what goes through it keeps its order, however it is delayed."""

    def __init__(self, deliver: Callable[[bytes], None]) -> None:
        self._deliver = deliver
        self._waiting: deque[tuple[float, bytes | Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        return not self._waiting

    def put(self, item: bytes | Callable[[], None], delay_s: float = 0.0) -> None:
        """Let bytes, or an act such as closing, through after ``delay_s`` and after what went before."""
        if delay_s <= 0.0 and not self._waiting:
            self._deliver(item) if isinstance(item, bytes) else item()
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + delay_s
        self._waiting.append((at, item))
        if self._timer is None:
            self._timer = loop.call_at(at, self._release)

    def drop(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _release(self) -> None:
        """Let out what is due, never past what waits before it; bytes of one instant go as one chunk, as a burst."""
        self._timer = None
        loop = asyncio.get_running_loop()
        due_at = self._waiting[0][0]
        joined = bytearray()
        while self._waiting and self._waiting[0][0] <= due_at:
            item = self._waiting.popleft()[1]
            if isinstance(item, bytes):
                joined += item
                continue
            if joined:
                self._deliver(bytes(joined))
                joined.clear()
            item()
        if joined:
            self._deliver(bytes(joined))
        if self._waiting and self._timer is None:
            self._timer = loop.call_at(self._waiting[0][0], self._release)


class _Between(asyncio.Protocol):
    """The protocol that the transport sees, in front of the server's own."""

    def __init__(self, inner: asyncio.Protocol, faults: Faults, number: int) -> None:
        self.operation = "market"
        self._inner = inner
        self._faults = faults
        self._number = number
        self._upgraded = False
        self._dead = False
        self._lost = False
        self._answer: Answer | None = None
        self._answer_rule: Rule | None = None
        self._in = _Lane(self._to_server)
        self._out = _Lane(self._to_client)
        self._made_ns = 0
        self._transport: asyncio.Transport

    # ---- what the transport calls -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._made_ns = self._faults.clock.monotonic_ns()
        self._faults.wires[self._number] = self
        self._inner.connection_made(_Transport(self._transport, self))

    def connection_lost(self, exc: Exception | None) -> None:
        self._faults.wires.pop(self._number, None)
        self._in.drop()
        self._out.drop()
        self._lose(exc)

    def data_received(self, data: bytes) -> None:
        if self._dead:
            return
        fresh = not self._upgraded and data.startswith(_METHODS)
        if fresh:
            self._read_head(data)
        rules = self._faults.of(Layer.WIRE)
        if not rules and self._in.idle and not self._faults.down:
            self._inner.data_received(data)
            return
        if self._upgraded and fresh and self._faults.down:
            self._transport.write(_UNAVAILABLE)
            self._transport.close()
            return
        if self._dies(rules):
            return
        if fresh and self._struck_request(rules, data):
            return
        self._in.put(data, self._delay_s(rules, outward=False))

    def eof_received(self) -> bool | None:
        return None if self._dead else self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    # ---- what the server calls, through its transport -----------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Bytes of the server for the client."""
        if self._dead:
            return
        rules = self._faults.of(Layer.WIRE)
        if not rules and self._out.idle and self._answer is None:
            self._transport.write(data)
        elif not self._dies(rules):
            self._write_faulty(data, rules)

    def close(self) -> None:
        """The server closes; after what still waits. A dead connection is closed for the server only."""
        if self._dead:
            asyncio.get_running_loop().call_soon(self._lose, None)
        else:
            self._out.put(self._transport.close)

    def cut(self) -> None:
        """Close the connection from outside."""
        if self._upgraded and not self._dead:
            self._transport.write(going_away())
            self._transport.close()
        else:
            self._transport.abort()

    # ---- faults -------------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        """Learn from the request line and the headers what this connection does now."""
        method, _, rest = data.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        self.operation = operation_of(method.decode("latin-1"), path)
        self._upgraded = b"upgrade: websocket" in data.partition(b"\r\n\r\n")[0].lower()
        if self._upgraded and b"listenkey=" in rest.partition(b" ")[0].lower():
            self.operation = "private"

    def _dies(self, rules: Iterable[Rule]) -> bool:
        """N03: whether this connection is dead from now on."""
        for rule in rules:
            if rule.id == "N03" and self._made_ns < rule.start_ns and self._faults.strike(rule, self.operation):
                self._dead = True
                self._in.drop()
                self._out.drop()
                left_s = _left_s(rule, self._faults.clock.monotonic_ns())
                asyncio.get_running_loop().call_later(left_s, self._transport.abort)
        return self._dead

    def _delay_s(self, rules: Iterable[Rule], outward: bool) -> float:
        """N01, N02 and N04: how long a chunk waits."""
        delay_s = 0.0
        now_ns = self._faults.clock.monotonic_ns()
        for rule in rules:
            match rule.id:
                case "N01" if self._faults.strike(rule, self.operation):
                    delay_s += self._faults.rng.uniform(rule.number_of("low_s"), rule.number_of("high_s"))
                case "N02" if rule.hits(self.operation):
                    delay_s = max(delay_s, self._stall_s(rule, now_ns))
                case "N04" if outward and self._faults.strike(rule, self.operation):
                    # TCP repeats what was lost: it arrives when the partition heals, if the client is still there.
                    delay_s = max(delay_s, _left_s(rule, now_ns))
        return delay_s

    def _stall_s(self, rule: Rule, now_ns: int) -> float:
        """The rest of a stall, which all connections share; a new one when the rule strikes."""
        until_ns: int = rule.memory.get("until_ns", 0)
        if now_ns >= until_ns and self._faults.strike(rule, self.operation):
            stall_s = self._faults.rng.uniform(rule.number_of("low_s"), rule.number_of("high_s"))
            rule.memory["until_ns"] = until_ns = now_ns + round(stall_s * 1e9)
        return max(0.0, (until_ns - now_ns) / 1e9)

    def _struck_request(self, rules: Iterable[Rule], data: bytes) -> bool:
        """N05 and N06 choose their request when it begins; whether it ends here."""
        for rule in rules:
            if rule.id not in ("N05", "N06") or self._upgraded or not self._faults.strike(rule, self.operation):
                continue
            if rule.id == "N05" and rule["where"] == "before":
                self._reset()
                return True
            if rule.id == "N05" and rule["where"] == "request":
                self._in.put(data[: self._byte(rule, len(data))])
                self._in.put(self._reset)
                return True
            self._answer, self._answer_rule = Answer(), rule
        return False

    def _byte(self, rule: Rule, length: int) -> int:
        """Where to cut: a byte from 1 to the last but one."""
        at = int(rule["at_byte"])
        return min(at, length - 1) if at >= 0 else self._faults.rng.randrange(1, max(2, length))

    def _write_faulty(self, data: bytes, rules: Iterable[Rule]) -> None:
        delay_s = self._delay_s(rules, outward=True)
        if self._answer is not None:
            whole = self._answer.feed(data)
            if whole is not None:
                self._spoil_answer(whole, delay_s)
            return
        if not self._upgraded or (payload := message_in(data)) is None:
            self._out.put(data, delay_s)
            return
        for rule in rules:
            if rule.id == "N08" and self._faults.strike(rule, self.operation):
                data *= int(rule["rate"])
            elif rule.id == "N07" and self._faults.strike(rule, self.operation):
                self._spoil_frame(rule, payload, delay_s)
                return
        self._out.put(data, delay_s)

    def _spoil_answer(self, whole: bytes, delay_s: float) -> None:
        rule, self._answer, self._answer_rule = self._answer_rule, None, None
        assert rule is not None
        if rule.id == "N06":
            spoilt, closes = spoilt_answer(whole, str(rule["mode"]))
            self._out.put(spoilt, delay_s)
            if closes:
                self._out.put(self._transport.close)
            return
        if rule["where"] == "response":
            self._out.put(whole[: self._byte(rule, len(whole))], delay_s)
        self._out.put(self._reset, delay_s)

    def _spoil_frame(self, rule: Rule, payload: bytes, delay_s: float) -> None:
        mode, hold_s = str(rule["mode"]), rule.number_of("hold_s")
        pieces = spoilt_frame(payload, mode, self._faults.rng)
        if mode == "coalesced":
            self._out.put(pieces[0], delay_s + hold_s)
            return
        for at, piece in enumerate(pieces):
            self._out.put(piece, delay_s + hold_s * at / len(pieces))

    # ---- ends ---------------------------------------------------------------------------------------------------

    def _to_server(self, data: bytes) -> None:
        if not self._lost:
            self._inner.data_received(data)

    def _to_client(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _lose(self, exc: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self._inner.connection_lost(exc)

    def _reset(self) -> None:
        """Break the connection with a reset, not with an orderly end."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_LINGER)
        self._transport.abort()


def _left_s(rule: Rule, now_ns: int) -> float:
    return _FOREVER_S if rule.end_ns is None else max(0.0, (rule.end_ns - now_ns) / 1e9)


class _Transport(asyncio.Transport):
    """The transport that the server sees: writes and closes pass ``_Between``, the rest is the real one's."""

    def __init__(self, real: asyncio.Transport, between: _Between) -> None:
        super().__init__()
        self._real = real
        self._between = between
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._between.write(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._between.write(b"".join(list_of_data))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._between.close()

    def abort(self) -> None:
        self._closing = True
        self._real.abort()

    def is_closing(self) -> bool:
        return self._closing or self._real.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._real.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        raise NotImplementedError("the server keeps its protocol")

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._between

    def is_reading(self) -> bool:
        return self._real.is_reading()

    def pause_reading(self) -> None:
        self._real.pause_reading()

    def resume_reading(self) -> None:
        self._real.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._real.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._real.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._real.get_write_buffer_limits()

    def can_write_eof(self) -> bool:
        return False
