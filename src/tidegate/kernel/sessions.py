"""A second daemon on our account: known by what it does, for two machines share no lock.

1. Only what is newer than our own start is evidence: an order or an execution under an id of our pattern that this
   session did not give. What is older is a lost journal, and is taken over (``execution/reconcile``).
2. An id of a session that began after ours (a higher generation) is newer whatever else. Of an older one, or of one
   that began in the same second, the order must be unknown here after our first reconciliation has passed and whatever
   a dead process had under way must have arrived (``SETTLING_NS``).
3. Whoever sees it takes no new risk at once and keeps its stops. The younger of the two leaves the account; the older
   one goes on when the younger one's orders are gone for two audits in a row, or when a person says RESUME.

Every label counts: it is the account that both trade, whatever they call it.
"""

from collections.abc import Sequence

import msgspec

from tidegate.domain.ids import ClientOrderId, Nanos, parse_client_order_id
from tidegate.domain.market import SECOND_NS
from tidegate.domain.messages import Alert, Command, LeaveAccount, Severity
from tidegate.kernel.trading import Trading

SECOND_DAEMON = "second daemon"
SETTLING_NS = 8 * SECOND_NS
"""A request of a dead process acts within its window of 5 s, or not; then the venue needs a moment to show it."""
_GONE_AUDITS = 2


class SessionsState(msgspec.Struct):
    """``ended_gen``: orders of sessions up to this one are ours, though it began after us. ``seen_gen`` is the latest
    that was seen, ``absent`` how many audits in a row have listed nothing of it. ``found`` was there at the start.
    """

    started_ns: Nanos = 0
    found: set[ClientOrderId] = msgspec.field(default_factory=set)
    settled: bool = False
    seen_gen: int = 0
    ended_gen: int = 0
    absent: int = 0
    left: bool = False


class OtherSessions:
    """Looks out for a second daemon. ``gen`` is our own session."""

    def __init__(self, trading: Trading, gen: int) -> None:
        self._trading, self._gen = trading, gen
        self.state = SessionsState()

    @property
    def newest_of_ours(self) -> int:
        """The newest session whose orders are ours: our own, or a later one that has ended."""
        return max(self._gen, self.state.ended_gen)

    def begin(self) -> None:
        """START: nothing that was there before is evidence, and we are the younger one now."""
        self.state = SessionsState(self._trading.now_ns)
        self._trading.lifecycle.release(SECOND_DAEMON)

    def passed(self) -> None:
        """A reconciliation has passed: what the venue lists is known."""
        self.state.settled = True

    def seen(self, name: ClientOrderId, ts_ns: Nanos, out: list[Command]) -> bool:
        """An order that is not known here was reported, filled or listed at ``ts_ns``; True when it is evidence."""
        parsed = parse_client_order_id(name)
        if parsed is None or parsed[1] <= self.state.ended_gen or name in self.state.found:
            return False
        if not self._is_newer(parsed[1], ts_ns):
            return False
        later = parsed[1] > self._gen
        self.state.seen_gen = max(self.state.seen_gen, parsed[1])
        self.state.absent = 0
        self._stand_back(name, later, out)
        if not later:
            self._leave(name, out)
        return True

    def audited(self, listed: Sequence[ClientOrderId], out: list[Command]) -> set[ClientOrderId]:
        """What the venue lists that is unknown here; returns what is the other one's. When nothing of that is left, go
        on."""
        others = {name for name in listed if self.seen(name, self._trading.now_ns, out)}
        if not self.state.settled:
            self.state.found.update(set(listed) - others)
        if not others and SECOND_DAEMON in self._trading.lifecycle.holds and not self.state.left:
            self._absent(out)
        return others

    def _absent(self, out: list[Command]) -> None:
        self.state.absent += 1
        if self.state.absent >= _GONE_AUDITS:
            self.resume()
            text = "no order of the second daemon is left: going on"
            out.append(Alert(Severity.WARNING, SECOND_DAEMON, text, self._trading.now_ns))

    def resume(self) -> bool:
        """A person says that the other one has ended, or its orders are gone: what it leaves behind is ours now."""
        self.state.ended_gen, self.state.absent = max(self.state.ended_gen, self.state.seen_gen), 0
        return self._trading.lifecycle.release(SECOND_DAEMON)

    def _is_newer(self, gen: int, ts_ns: Nanos) -> bool:
        if gen > self._gen:
            return True
        settled_ns = self.state.started_ns + SETTLING_NS
        return self.state.settled and self._trading.now_ns >= settled_ns and ts_ns > self.state.started_ns

    def _stand_back(self, name: ClientOrderId, later: bool, out: list[Command]) -> None:
        text = f"order {name} is of another session that trades on this account now"
        if self._trading.lifecycle.hold(SECOND_DAEMON, text):
            act = "taking no new risk until its orders are gone or RESUME" if later else "leaving the account to it"
            out.append(Alert(Severity.CRITICAL, SECOND_DAEMON, f"{text}: {act}; stops stay", self._trading.now_ns))
            out.extend(self._trading.cancel_entries())

    def _leave(self, name: ClientOrderId, out: list[Command]) -> None:
        if not self.state.left:
            self.state.left = True
            reason = f"an older daemon trades on this account: order {name} is not of this session"
            out.append(LeaveAccount(reason, self._trading.now_ns))
