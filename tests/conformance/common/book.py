"""An order book kept from a snapshot and diffs as the venue's documentation prescribes, and its proof.

For clients that hand over the stream's events and leave the book to their user.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from checks import expect

Sides = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]
WANTED = 4
WITHIN_S = 20.0


class LocalBook:
    """Take every event by ``on_event``; hand the snapshot to ``start``. ``at`` keeps the last books by update id."""

    def __init__(self) -> None:
        self.at: dict[int, Sides] = {}
        self.applied = 0
        self._waiting: list[Mapping[str, Any]] = []
        self._sides: Sides = ({}, {})
        self._last: int | None = None
        self._is_first = True

    def on_event(self, event: Mapping[str, Any]) -> None:
        """A ``depthUpdate``. Raises ``Disagreement`` at a break in the chain ``pu == previous u``."""
        if self._last is None:
            self._waiting.append(event)
        elif event["u"] >= self._last:
            self._apply(event)

    def start(self, snapshot: Mapping[str, Any]) -> None:
        """The answer of ``GET /fapi/v1/depth``, asked for after the first event came."""
        for side, rows in zip(self._sides, (snapshot["bids"], snapshot["asks"]), strict=True):
            _put(side, rows)
        self._last = snapshot["lastUpdateId"]
        for event in self._waiting:
            self.on_event(event)

    def _apply(self, event: Mapping[str, Any]) -> None:
        if self._is_first:
            expect(event["U"] <= self._last <= event["u"], f"first event {event['U']}..{event['u']}, at {self._last}")
        else:
            expect(event["pu"] == self._last, f"a gap: pu {event['pu']} after u {self._last}")
        self._is_first = False
        for side, rows in zip(self._sides, (event["b"], event["a"]), strict=True):
            _put(side, rows)
        self._last = event["u"]
        self.applied += 1
        self.at[event["u"]] = (dict(self._sides[0]), dict(self._sides[1]))


def _put(side: dict[Decimal, Decimal], rows: Sequence[Sequence[str]]) -> None:
    for price, qty in rows:
        side[Decimal(price)] = Decimal(qty)
        if not Decimal(qty):
            del side[Decimal(price)]


async def equals_server(at: Mapping[int, Sides], snapshot: Callable[[], Any]) -> str:
    """Ask for snapshots until some have an id at which the local book stood too; they must be equal, level by level.

    ``snapshot`` (may be a coroutine function) gives the server's ``lastUpdateId``, ``bids`` and ``asks``; ``at`` the
    local books by update id. Raises ``Disagreement`` at the first difference, or when too few ids were met.
    """
    end, met = time.monotonic() + WITHIN_S, set[int]()
    while len(met) < WANTED:
        expect(time.monotonic() < end, f"{len(met)} of {WANTED} snapshots had an update id that the stream had")
        asked = snapshot()
        server = await asked if inspect.isawaitable(asked) else asked
        number = server["lastUpdateId"]
        for _ in range(10):  # the event with this id may still be on its way
            if number in at:
                break
            await asyncio.sleep(0.05)
        if number in at and number not in met:
            _compare(number, at[number], server)
            met.add(number)
        await asyncio.sleep(0.2)
    levels = len(server["bids"]) + len(server["asks"])
    return f"{len(met)} books of {levels} levels equal to the server's"


def _compare(number: int, local: Sides, server: Mapping[str, Any]) -> None:
    for name, side, sign in (("bids", local[0], -1), ("asks", local[1], 1)):
        theirs = [(Decimal(str(price)), Decimal(str(qty))) for price, qty in server[name]]
        ours = sorted(side.items(), key=lambda level: sign * level[0])[: len(theirs)]
        if ours != theirs:
            first = next((pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]), "lengths")
            expect(False, f"{name} at {number}: ours {len(ours)} levels, theirs {len(theirs)}; first: {first}")
