"""Watches a run from outside: what the daemon writes to the wire against what is on its disk, and bare positions."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Protocol

from tidegate.app.simulation.disk import SimDisk
from tidegate.app.simulation.loop import VirtualLoop
from tidegate.app.simulation.net import Piece, Rule, Strike

_PLACED: Final = re.compile(rb"(?:newClientOrderId|clientAlgoId)(?:=|%22%3A%22|\":\")([.A-Z:/a-z0-9_-]{1,36})")
_SENDS: Final = (b"POST ",)


class _Held(Protocol):
    @property
    def qty(self) -> Decimal: ...
    @property
    def covered(self) -> Decimal: ...


class _Venue(Protocol):
    def coverage(self) -> Mapping[str, _Held]: ...


@dataclass(slots=True)
class Gap:
    """A time in which a position had no stop that covers it. ``down`` when the daemon was dead in it."""

    symbol: str
    from_s: float
    until_s: float
    down: bool

    @property
    def seconds(self) -> float:
        """How long."""
        return self.until_s - self.from_s


class Witness:
    """``sent`` are the order ids on the wire with the time of their request, ``undurable`` those that were not on disk
    by then; ``gaps`` are the times in which a position was bare."""

    def __init__(self, loop: VirtualLoop, disk: SimDisk, venue: _Venue, daemon: str, every_s: float) -> None:
        self.sent: dict[str, float] = {}
        self.undurable: list[str] = []
        self.gaps: list[Gap] = []
        self._loop, self._disk, self._venue, self._daemon, self._every_s = loop, disk, venue, daemon, every_s
        self._bare: dict[str, Gap] = {}
        loop.network.inject(Rule(self._look, source=daemon, from_client=True))

    def begin(self) -> None:
        """Watch the exposure from now on."""
        self._loop.create_task(self._watch(), name="witness")

    @property
    def open_gaps(self) -> list[Gap]:
        """Positions that are bare now."""
        return list(self._bare.values())

    def _look(self, pieces: list[Piece], at: Strike) -> list[Piece]:
        """A rule of the network that changes nothing."""
        for piece in pieces:
            if isinstance(piece.payload, bytes) and piece.payload.startswith(_SENDS):
                for found in _PLACED.findall(piece.payload):
                    self._placed(found, at.now_s)
        return pieces

    def _placed(self, name: bytes, now_s: float) -> None:
        text = name.decode()
        if text in self.sent:
            self.undurable.append(f"{text} was sent twice")
        self.sent[text] = now_s
        if not self._disk.holds(self._daemon, b'"' + name + b'"'):
            self.undurable.append(f"{text} left at {now_s:.6f} s before its record was on disk")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            self._see(self._loop.time(), self._venue.coverage(), down=self._loop.nodes.get(self._daemon).dead)

    def _see(self, now_s: float, held: Mapping[str, _Held], *, down: bool) -> None:
        bare = {name for name, each in held.items() if each.covered < abs(each.qty)}
        for name in [name for name in self._bare if name not in bare]:
            del self._bare[name]
        for name in sorted(bare):
            gap = self._bare.get(name)
            if gap is None:
                gap = self._bare[name] = Gap(name, now_s, now_s, down)
                self.gaps.append(gap)
            gap.until_s, gap.down = now_s, gap.down or down
