"""STARTING to STOPPED. Down goes by itself; the way up needs a passed reconciliation, and from HALTED a person.

The state follows from a few facts: a latch halts, a stop stops, before the start nothing runs, before the first passed
reconciliation nothing trades, and while anything holds it down only risk is taken off.
"""

from enum import Enum

import msgspec

from tidegate.domain.messages import Halt, HaltCause, Operation


class State(Enum):
    STARTING = "STARTING"
    RECONCILING = "RECONCILING"
    READY = "READY"
    REDUCE_ONLY = "REDUCE_ONLY"
    HALTED = "HALTED"
    STOPPED = "STOPPED"


SWEEPING = frozenset((HaltCause.KILL, HaltCause.DRAWDOWN))
"""Halts that close everything; the others leave positions with their stops."""

OPERATOR = "operator"
_RUNNING = (State.RECONCILING, State.READY, State.REDUCE_ONLY)


class LifecycleState(msgspec.Struct):
    """What a lifecycle dumps."""

    funded: bool
    started: bool
    reconciled: bool
    stopped: bool
    flattening: bool
    holds: dict[str, str]
    latch: Halt | None


class Lifecycle:
    """What the kernel may do now. ``flattening`` holds from FLATTEN until RESUME: whatever the strategies wish, the
    book is aimed at nothing. ``holds`` are the reasons, by name, why no new risk may be taken."""

    def __init__(self) -> None:
        self.funded = self.started = self.reconciled = self.stopped = self.flattening = False
        self.holds: dict[str, str] = {}
        self.latch: Halt | None = None
        self._settle()

    def _settle(self) -> None:
        """Derive the state; ``trades`` while the portfolio step may run, ``reducing_only`` while no risk may come."""
        if self.latch is not None:
            self.state = State.HALTED
        elif self.stopped:
            self.state = State.STOPPED
        elif not self.started:
            self.state = State.STARTING
        elif not self.reconciled:
            self.state = State.RECONCILING
        else:
            self.state = State.REDUCE_ONLY if self.holds else State.READY
        self.trades = self.state in (State.READY, State.REDUCE_ONLY)
        self.reducing_only = self.state is not State.READY

    def hold(self, name: str, reason: str) -> bool:
        """Take no new risk until ``release`` of the same name; False when that was so already."""
        news = name not in self.holds
        self.holds[name] = reason
        self._settle()
        return news

    def release(self, name: str) -> bool:
        """A reason is gone; False when there was none of that name."""
        gone = self.holds.pop(name, None) is not None
        self._settle()
        return gone

    def boot(self) -> None:
        """Another process: nothing runs before its START. A latch stays."""
        self.started = self.stopped = self.reconciled = False
        self._settle()

    def begin(self, *, reconciled: bool) -> None:
        """START. Without a reconciliation that has passed, one must pass first; a latch from before stays."""
        self.started, self.stopped, self.reconciled = True, False, reconciled
        self._settle()

    def passed(self) -> None:
        """A reconciliation has passed."""
        self.reconciled = True
        self._settle()

    def halt(self, latch: Halt) -> bool:
        """No new risk until a person has looked. False when a latch is there already, unless this one sweeps and that
        one does not."""
        if self.latch is not None and (self.latch.cause in SWEEPING or latch.cause not in SWEEPING):
            return False
        self.latch = latch
        self._settle()
        return True

    def reset(self) -> None:
        """A person has looked: the latch is lifted, and a reconciliation must pass."""
        self.latch, self.reconciled = None, False
        self._settle()

    def operate(self, operation: Operation) -> bool:
        """Carry out an operator's wish; False when it is not possible from here."""
        match operation:
            case Operation.RESUME if self.state is State.REDUCE_ONLY and (OPERATOR in self.holds):
                self.flattening = False
                self.release(OPERATOR)
            case Operation.PAUSE | Operation.FLATTEN if self.state in _RUNNING:
                self.flattening |= operation is Operation.FLATTEN
                self.hold(OPERATOR, operation.value)
            case Operation.STOP if self.state is not State.HALTED:
                self.stopped = True
                self._settle()
            case _:
                return False
        return True

    def dump(self) -> LifecycleState:
        return LifecycleState(
            self.funded, self.started, self.reconciled, self.stopped, self.flattening, dict(self.holds), self.latch
        )

    def load(self, state: LifecycleState) -> None:
        self.funded, self.started, self.reconciled = state.funded, state.started, state.reconciled
        self.stopped, self.flattening = state.stopped, state.flattening
        self.holds, self.latch = dict(state.holds), state.latch
        self._settle()
