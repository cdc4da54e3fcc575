"""STARTING to STOPPED. Downward moves are automatic; the way up needs a start or an operator."""

from enum import Enum

from tidegate.domain.messages import Operation


class State(Enum):
    STARTING = "STARTING"
    READY = "READY"
    REDUCE_ONLY = "REDUCE_ONLY"
    HALTED = "HALTED"
    STOPPED = "STOPPED"


class Lifecycle:
    """What the kernel may do now. A halt is a latch: nothing here lifts it. ``flattening`` holds from FLATTEN until
    RESUME: whatever the strategies wish, the book is aimed at nothing."""

    def __init__(self) -> None:
        self.funded = False
        self.flattening = False
        self.enter(State.STARTING)

    def enter(self, state: State) -> None:
        """Be in a state: ``trades`` while the portfolio step may run, ``reducing_only`` while no new risk may come."""
        self.state = state
        self.trades = state in (State.READY, State.REDUCE_ONLY)
        self.reducing_only = state is not State.READY

    def operate(self, operation: Operation) -> bool:
        """Carry out an operator's wish; False when it is not possible from here."""
        match operation, self.state:
            case Operation.START, State.STARTING if self.funded:
                self.enter(State.READY)
            case Operation.RESUME, State.REDUCE_ONLY:
                self.flattening = False
                self.enter(State.READY)
            case ((Operation.PAUSE | Operation.FLATTEN), (State.READY | State.REDUCE_ONLY)):
                self.flattening |= operation is Operation.FLATTEN
                self.enter(State.REDUCE_ONLY)
            case Operation.STOP, _ if self.state is not State.HALTED:
                self.enter(State.STOPPED)
            case _:
                return False
        return True

    def halt(self) -> None:
        """No new risk until a person has looked."""
        self.enter(State.HALTED)
