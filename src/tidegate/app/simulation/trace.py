"""What a simulated run did, in one hash: equal digests mean that every byte came at the same time on the same wire."""

import struct
from collections import deque
from hashlib import sha256
from typing import NamedTuple

_HEAD = struct.Struct("<dI")


class Mark(NamedTuple):
    """One line of the ring: a delivered chunk (by its size and hash, as it may hold credentials) or a note."""

    at_s: float
    what: str

    def __str__(self) -> str:
        return f"{self.at_s:.9f} s  {self.what}"


class Trace:
    """SHA-256 over (virtual time, direction, bytes) of every delivered chunk, and the last ``ring`` of them."""

    def __init__(self, ring: int = 200) -> None:
        self.chunks = 0
        self.bytes = 0
        self._hash = sha256()
        self._ring: deque[tuple[float, str, bytes | None]] = deque(maxlen=ring)

    def delivered(self, at_s: float, direction: str, data: bytes) -> None:
        """A chunk reached its reader."""
        label = direction.encode()
        self._hash.update(_HEAD.pack(at_s, len(label)) + label)
        self._hash.update(_HEAD.pack(at_s, len(data)) + data)
        self.chunks += 1
        self.bytes += len(data)
        self._ring.append((at_s, direction, data))

    def note(self, at_s: float, text: str) -> None:
        """Something that is no traffic: a kill, a fault. Not in the digest, which its consequences are."""
        self._ring.append((at_s, text, None))

    @property
    def digest(self) -> str:
        """The hash so far, in hexadecimal."""
        return self._hash.hexdigest()

    def tail(self) -> tuple[Mark, ...]:
        """The last events, oldest first."""
        return tuple(
            Mark(at_s, text if data is None else f"{text}  {len(data)} bytes  {sha256(data).hexdigest()[:12]}")
            for at_s, text, data in self._ring
        )
