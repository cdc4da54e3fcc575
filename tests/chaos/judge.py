"""What must hold after every act, and all the time. Read from the venue by a reader of its own, not by the daemon.

After an act, within ``SETTLE_S``: READY; positions equal; exactly one stop of the full size on each position and no
other; no client order id twice; the same wallet to the last digit; nothing unknown, nothing external. All the time:
no position without a full stop for longer than the contract allows (reliability.md E2).
"""

import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.chaos.reader import Account
from tests.chaos.stage import Stage

SETTLE_S = 60.0
"""How long an act may take to be over, its own restart included: a pass needs two equal readings in a row."""
UNPROTECTED_S = 10.0
"""E2: after so long without a confirmed stop the position is given up."""
EXIT_S = 8.0
"""O4: how long the exit itself may take when its outcome is unknown at first."""
READY_S = 10.0
"""E4: how long a start may take before stops can be placed again."""
_LOOK_EVERY_S = 0.25
_READ_EVERY_S = 1.0


def verdict(stage: Stage) -> list[str]:
    """What is wrong after an act; empty as soon as everything is right twice in a row."""
    ends_s = time.monotonic() + SETTLE_S
    wrong, passed = ["never read"], 0
    while time.monotonic() < ends_s:
        wrong = list(_read(stage))
        passed = 0 if wrong else passed + 1
        if passed == 2:
            return []
        time.sleep(_READ_EVERY_S)
    return wrong


def _read(stage: Stage) -> Iterator[str]:
    if not stage.daemon_runs:
        yield f"the daemon has left: {stage.daemon.said()[-400:]}"
        return
    status = stage.status()
    if status is None:
        yield "the daemon does not answer"
        return
    if status["state"] != "READY":
        yield f"state {status['state']}, {status.get('latch')}"
        return
    try:
        theirs = stage.reader.account()
    except (OSError, ValueError) as error:
        yield f"the venue does not answer: {error}"
        return
    yield from differences(status, theirs)


def differences(status: dict[str, Any], theirs: Account) -> Iterator[str]:
    """What does not agree between the daemon's status and the venue's account."""
    ours = {each["instrument"]: Decimal(each["qty"]) for each in status["positions"]}
    if ours != theirs.positions:
        yield f"positions: ours {_plain(ours)}, the venue's {_plain(theirs.positions)}"
    for name in {*theirs.positions, *(each.symbol for each in theirs.stops)}:
        held = theirs.positions.get(name, Decimal(0))
        stops = [each.qty for each in theirs.stops if each.symbol == name]
        if stops != ([-held] if held else []):
            yield f"stops of {name}: {[str(each) for each in stops]} for a position of {held}"
    difference = Decimal(status["wallet_usdt"]) - theirs.wallet_usdt
    if difference:
        yield f"ledger difference {difference}"
    for word in ("unresolved", "foreign", "blocked"):
        if status[word]:
            yield f"{word}: {status[word]}"


def ids_twice(stage: Stage) -> list[str]:
    """Client order ids of ours that the venue has seen more than once."""
    return [f"client order id {name}: {count} orders" for name, count in stage.reader.repeated_ids().items()]


class ProtectionWatch:
    """Looks at the venue several times a second, from a thread of its own.

    A stretch without a full stop counts from when it began, or from the end of the last trouble that we made ourselves
    (``stage.trouble_s``), whichever is later: nobody can protect through a line that is cut.
    """

    def __init__(self, stage: Stage) -> None:
        self.findings: list[str] = []
        self.longest_s = 0.0
        self._stage = stage
        self._since_s: dict[str, float] = {}
        self._told: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> "ProtectionWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10.0)

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            try:
                unprotected = self._stage.reader.glance().unprotected()
            except (OSError, ValueError):
                continue
            self.note(unprotected, time.monotonic())

    def note(self, unprotected: set[str], now_s: float) -> None:
        """One look: which symbols had no full stop at this moment."""
        for name in set(self._since_s) - unprotected:
            del self._since_s[name]
            self._told.discard(name)
        if self._stage.in_act:
            return
        for name in unprotected:
            since_s = max(self._since_s.setdefault(name, now_s), self._stage.trouble_s)
            stretch_s = now_s - since_s
            self.longest_s = max(self.longest_s, stretch_s)
            allowed_s = UNPROTECTED_S + EXIT_S + (READY_S if self._stage.started_since(since_s) else 0.0)
            if stretch_s > allowed_s and name not in self._told:
                self._told.add(name)
                self.findings.append(f"E2 {name}: no full stop for {stretch_s:.1f} s ({allowed_s:.0f} s are allowed)")


def _plain(quantities: dict[str, Decimal]) -> dict[str, str]:
    return {name: str(qty) for name, qty in sorted(quantities.items())}
