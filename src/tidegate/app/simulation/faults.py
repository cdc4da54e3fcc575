"""Wire faults for ``Network.inject``: each is a small function of the pieces that one write becomes."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from tidegate.app.simulation.net import Flow, Piece, Signal, Strike


@dataclass(frozen=True, slots=True)
class Delay:
    """N01: between ``low_s`` and ``high_s`` on top of the latency."""

    low_s: float
    high_s: float

    def __call__(self, pieces: list[Piece], at: Strike, /) -> list[Piece]:
        extra_s = at.rng.uniform(self.low_s, self.high_s)
        return [Piece(piece.delay_s + extra_s, piece.payload) for piece in pieces]


@dataclass(frozen=True, slots=True)
class StallUntil:
    """N02: nothing arrives before ``until_s``; then everything does, in order and at once."""

    until_s: float

    def __call__(self, pieces: list[Piece], at: Strike, /) -> list[Piece]:
        return [Piece(max(piece.delay_s, self.until_s - at.now_s), piece.payload) for piece in pieces]


@dataclass(frozen=True, slots=True)
class Hold:
    """N03, N04: nothing arrives until the rule is removed, and nobody is told; a rule names the direction."""

    def __call__(self, pieces: list[Piece], _at: Strike, /) -> list[Piece]:
        return [Piece(math.inf, piece.payload) for piece in pieces]


@dataclass(frozen=True, slots=True)
class ResetAt:
    """N05: the flow's first ``byte`` bytes arrive, then both ends lose the connection."""

    byte: int

    def __call__(self, pieces: list[Piece], at: Strike, /) -> list[Piece]:
        return _cut_at(self.byte, Signal.RESET, at.flow, pieces)


@dataclass(frozen=True, slots=True)
class EndAt:
    """N06: the flow's first ``byte`` bytes arrive, then it ends as if the writer had closed it there."""

    byte: int

    def __call__(self, pieces: list[Piece], at: Strike, /) -> list[Piece]:
        return _cut_at(self.byte, Signal.EOF, at.flow, pieces)


@dataclass(frozen=True, slots=True)
class Split:
    """N07: pieces of 1 to ``most_bytes`` bytes, ``gap_s`` apart."""

    most_bytes: int
    gap_s: float = 1e-4

    def __call__(self, pieces: list[Piece], at: Strike, /) -> list[Piece]:
        split: list[Piece] = []
        for delay_s, payload in pieces:
            if isinstance(payload, Signal):
                split.append(Piece(delay_s + len(split) * self.gap_s, payload))
                continue
            start = 0
            while start < len(payload):
                end = start + at.rng.randint(1, self.most_bytes)
                split.append(Piece(delay_s + len(split) * self.gap_s, payload[start:end]))
                start = end
        return split


@dataclass(frozen=True, slots=True)
class Coalesce:
    """N07: everything of one window of ``window_s`` arrives at its end as one chunk."""

    window_s: float

    def __call__(self, pieces: list[Piece], at: Strike, /) -> list[Piece]:
        def to_window_end(delay_s: float) -> float:
            if math.isinf(delay_s):
                return delay_s
            return math.ceil((at.now_s + delay_s) / self.window_s) * self.window_s - at.now_s

        return [Piece(to_window_end(piece.delay_s), piece.payload) for piece in pieces]


@dataclass(frozen=True, slots=True)
class Mutate:
    """N06, N07: the bytes as ``change`` gives them; ``flip_bit`` is one."""

    change: Callable[[bytes, random.Random], bytes]

    def __call__(self, pieces: list[Piece], at: Strike, /) -> list[Piece]:
        return [
            Piece(delay_s, payload if isinstance(payload, Signal) else self.change(payload, at.rng))
            for delay_s, payload in pieces
        ]


def flip_bit(data: bytes, rng: random.Random) -> bytes:
    """``data`` with one bit changed."""
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut_at(byte: int, end: Signal, flow: Flow, pieces: list[Piece]) -> list[Piece]:
    kept: list[Piece] = []
    at = flow.sent_bytes  # of the first piece
    for delay_s, payload in pieces:
        if isinstance(payload, Signal):
            return [*kept, Piece(delay_s, payload)]
        if at + len(payload) >= byte:
            if head := payload[: max(0, byte - at)]:
                kept.append(Piece(delay_s, head))
            return [*kept, Piece(delay_s, end)]
        kept.append(Piece(delay_s, payload))
        at += len(payload)
    return kept
