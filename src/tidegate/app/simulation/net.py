"""The network of a simulated run: who reaches whom, how late, and what the faults make of the bytes.

It knows flows and bytes, no event loop: a transport asks ``plan`` what becomes of what it writes and carries it out.
Every link draws from its own seeded generator, so more traffic on one link changes nothing on another.
"""

import errno
import math
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

LOOPBACK = "127.0.0.1"
_SAME_NODE_S = 20e-6
_BASE_S = (0.0005, 0.008)
_JITTER_SHARE = 0.1
_FIRST_PORT, _LAST_PORT = 49_152, 65_535


class Signal(Enum):
    """What a flow carries besides bytes."""

    EOF = "eof"
    """The writer is done; the reader gets everything before it."""
    RESET = "reset"
    """The connection is gone: both ends get ``ConnectionResetError``."""


Payload = bytes | Signal


class Piece(NamedTuple):
    """A part of what was written and when it arrives; never, with an infinite delay, until a hold is lifted."""

    delay_s: float
    payload: Payload


@dataclass(slots=True, eq=False)
class Flow:
    """One direction of one connection. ``sent_bytes`` is what the writer has written before the present piece."""

    source: str
    target: str
    port: int
    from_client: bool
    connection: int
    opened_s: float
    sent_bytes: int = 0

    def __str__(self) -> str:
        arrow = ">" if self.from_client else "<"
        near, far = (self.source, self.target) if self.from_client else (self.target, self.source)
        return f"{near}{arrow}{far}:{self.port}#{self.connection}"


class Strike(NamedTuple):
    """Where and when a fault strikes, and what it may draw from."""

    flow: Flow
    now_s: float
    rng: random.Random


class Fault(Protocol):
    """Changes what becomes of one write."""

    def __call__(self, pieces: list[Piece], at: Strike, /) -> list[Piece]:
        """The new pieces, in order; equal ones when the fault has no effect on this write."""
        ...


@dataclass(slots=True, eq=False)
class Rule:
    """A fault and the flows that it strikes: everything that is None matches any. ``injected`` counts its strikes."""

    fault: Fault
    source: str | None = None
    target: str | None = None
    port: int | None = None
    from_client: bool | None = None
    from_s: float = 0.0
    until_s: float = math.inf
    only_open: bool = False
    chance: float = 1.0
    limit: int | None = None
    injected: int = 0

    def strikes(self, flow: Flow, now_s: float, rng: random.Random) -> bool:
        """Whether this write of ``flow`` is struck; draws from ``rng`` only when chance has a say."""
        return (
            self.from_s <= now_s < self.until_s
            and self.source in (None, flow.source)
            and self.target in (None, flow.target)
            and self.port in (None, flow.port)
            and self.from_client in (None, flow.from_client)
            and not (self.only_open and flow.opened_s >= self.from_s)
            and (self.limit is None or self.injected < self.limit)
            and (self.chance >= 1.0 or rng.random() < self.chance)
        )


@dataclass(slots=True)
class _Link:
    base_s: float
    jitter_s: float
    rng: random.Random


class Lookup(NamedTuple):
    """What a host name resolves to, after ``delay_s``; ``error`` is a code of ``getaddrinfo``, as ``EAI_AGAIN``."""

    addresses: tuple[str, ...]
    delay_s: float = 0.0
    error: int | None = None


class Network:
    """Latency, names, partitions and faults, all from one seed. Everything can be changed while a run goes on."""

    def __init__(self, seed: int) -> None:
        self.rules: list[Rule] = []
        self.held: dict[Flow, Callable[[], None]] = {}
        """The flows that hold something back, and what lets each of them try again."""
        self._seed = seed
        self._links: dict[tuple[str, str], _Link] = {}
        self._names: dict[str, Lookup] = {}
        self._cuts: dict[tuple[str, str], None] = {}
        self._refused: dict[int, None] = {}
        self._next_port = _FIRST_PORT
        self._connections = 0

    def set_latency(self, source: str, target: str, base_s: float, jitter_s: float = 0.0) -> None:
        """One way: at least ``base_s``, and an exponential ``jitter_s`` on top."""
        link = self._link(source, target)
        link.base_s, link.jitter_s = base_s, jitter_s

    def latency_s(self, source: str, target: str) -> float:
        """A draw of the time that bytes take from one node to another."""
        if source == target:
            return _SAME_NODE_S
        link = self._link(source, target)
        return link.base_s + (link.rng.expovariate(1.0 / link.jitter_s) if link.jitter_s else 0.0)

    def set_name(self, host: str, *addresses: str, delay_s: float = 0.0, error: int | None = None) -> None:
        """What ``host`` resolves to from now on: see ``Lookup``."""
        self._names[host] = Lookup(addresses, delay_s, error)

    def resolve(self, host: str) -> Lookup:
        """What looking ``host`` up gives: numeric addresses are themselves, a name that was not set does not exist."""
        if host == "localhost":
            return Lookup((LOOPBACK,))
        if host.replace(".", "").isdigit() or ":" in host:
            return Lookup((host,))
        return self._names.get(host) or Lookup((), error=socket.EAI_NONAME)

    def refuse(self, port: int) -> None:
        """Answer every connection to ``port`` with a refusal, listener or not."""
        self._refused[port] = None

    def accept(self, port: int) -> None:
        """Undo ``refuse``."""
        self._refused.pop(port, None)

    def refused(self, port: int) -> bool:
        """Whether connections to ``port`` are refused."""
        return port in self._refused

    def cut(self, source: str, target: str, *, one_way: bool = False) -> None:
        """Let nothing pass from ``source`` to ``target``, nor back unless ``one_way``; "*" is every node."""
        self._cuts[source, target] = None
        if not one_way:
            self._cuts[target, source] = None

    def heal(self) -> None:
        """End all cuts; what was held back is sent again."""
        self._cuts.clear()
        self._try_held()

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing passes from ``source`` to ``target``."""
        cuts = self._cuts
        return bool(cuts) and ((source, target) in cuts or ("*", target) in cuts or (source, "*") in cuts)

    def inject(self, rule: Rule) -> Rule:
        """Put a rule behind those that stand."""
        self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule back; what it held is sent again."""
        self.rules.remove(rule)
        self._try_held()

    def plan(self, flow: Flow, payload: Payload, now_s: float) -> Sequence[Piece]:
        """What becomes of ``payload``, in order of its pieces."""
        pieces = [Piece(self.latency_s(flow.source, flow.target), payload)]
        if self._cuts and self.is_cut(flow.source, flow.target):
            return [Piece(math.inf, payload)]
        for rule in self.rules:
            rng = self._link(flow.source, flow.target).rng
            if rule.strikes(flow, now_s, rng):
                changed = rule.fault(list(pieces), Strike(flow, now_s, rng))
                rule.injected += changed != pieces
                pieces = changed
        return pieces

    def new_port(self) -> int:
        """A port that nobody has had yet; the range is walked round."""
        port = self._next_port
        self._next_port = _FIRST_PORT if port == _LAST_PORT else port + 1
        return port

    def new_connection(self) -> int:
        """The number of the next connection, from 1."""
        self._connections += 1
        return self._connections

    def _link(self, source: str, target: str) -> _Link:
        link = self._links.get((source, target))
        if link is None:
            rng = random.Random(f"{self._seed}:{source}>{target}")
            base_s = rng.uniform(*_BASE_S)
            link = self._links[source, target] = _Link(base_s, base_s * _JITTER_SHARE, rng)
        return link

    def _try_held(self) -> None:
        for again in list(self.held.values()):
            again()


def refusal(port: int) -> ConnectionRefusedError:
    """What a caller gets when nobody listens."""
    return ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on port {port} of the simulated network")
