"""An order book kept from a snapshot and diffs as the venue's documentation prescribes, and its proof.

For clients that hand over the stream's events and leave the book to their user.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from checks import expect, until

Sides = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]
WANTED = 4


class LocalBook:
    """Take every event by ``on_event``; hand the snapshot to ``start``. ``at`` keeps the last books by update id."""

    def __init__(self) -> None:
        self.at: dict[int, Sides] = {}
        self._waiting: list[Mapping[str, Any]] = []
        self._sides: Sides = ({}, {})
        self._last: int | None = None
        self._is_first = True
        self._lock = threading.RLock()  # some clients call back from a thread of their own

    def on_event(self, event: Mapping[str, Any]) -> None:
        """A ``depthUpdate``. Raises ``Disagreement`` at a break in the chain ``pu == previous u``."""
        with self._lock:
            if self._last is None:
                self._waiting.append(event)
            elif event["u"] >= self._last:
                self._apply(event)

    def start(self, snapshot: Mapping[str, Any]) -> None:
        """The answer of ``GET /fapi/v1/depth``, asked for after the first event came."""
        with self._lock:
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
        self.at[event["u"]] = (dict(self._sides[0]), dict(self._sides[1]))


def _put(side: dict[Decimal, Decimal], rows: Sequence[Sequence[str]]) -> None:
    for price, qty in rows:
        side[Decimal(price)] = Decimal(qty)
        if not Decimal(qty):
            del side[Decimal(price)]


async def equals_server(at: Mapping[int, Sides], snapshot: Callable[[], Any], tolerated: int = 0) -> str:
    """Ask for snapshots and compare each, level by level, with the local book of the same moment.

    ``snapshot`` (may be a coroutine function) gives the server's ``lastUpdateId``, ``bids`` and ``asks``; ``at`` has
    the local books by update id. That of the moment is the last whose id is not above the snapshot's, known for sure
    when a later one has come. ``tolerated`` differences are forgiven: for a client that shows its book but may pass
    over a state when two events come at once. Raises ``Disagreement`` that tells the first difference.
    """
    equal = 0
    while equal < WANTED:
        asked = snapshot()
        server = await asked if inspect.isawaitable(asked) else asked
        number = int(server["lastUpdateId"])
        await until(lambda: max(list(at)) > number, f"an event after update {number}")  # noqa: B023  awaited in this turn
        local = max(each for each in list(at) if each <= number)
        difference = _difference(at[local], server)
        expect(not difference or tolerated, f"book {local} against snapshot {number}: {difference}")
        tolerated, equal = tolerated - bool(difference), equal + (not difference)
        await asyncio.sleep(0.2)
    levels = len(server["bids"]) + len(server["asks"])
    return f"{equal} books of {levels} levels equal to the server's"


def _difference(local: Sides, server: Mapping[str, Any]) -> str:
    for name, side, is_down in (("bids", local[0], True), ("asks", local[1], False)):
        theirs = [(Decimal(str(price)), Decimal(str(qty))) for price, qty in server[name]]
        ours = sorted(side.items(), reverse=is_down)[: len(theirs)]
        if ours != theirs:
            first = next((f"{a} and {b}" for a, b in zip(ours, theirs, strict=False) if a != b), "none")
            return f"{name}: {len(ours)} levels here, {len(theirs)} there; first that differ: {first}"
    return ""
