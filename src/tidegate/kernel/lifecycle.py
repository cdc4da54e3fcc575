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
    """What the kernel may do now. A halt is a latch: nothing here lifts it."""

    def __init__(self) -> None:
        self.state = State.STARTING
        self.funded = False

    def operate(self, operation: Operation) -> bool:
        """Carry out an operator's wish; False when it is not possible from here."""
        match operation, self.state:
            case Operation.START, State.STARTING if self.funded:
                self.state = State.READY
            case Operation.RESUME, State.REDUCE_ONLY:
                self.state = State.READY
            case ((Operation.PAUSE | Operation.FLATTEN), (State.READY | State.REDUCE_ONLY)):
                self.state = State.REDUCE_ONLY
            case Operation.STOP, _ if self.state is not State.HALTED:
                self.state = State.STOPPED
            case _:
                return False
        return True

    def halt(self) -> None:
        """No new risk until a person has looked."""
        self.state = State.HALTED

    @property
    def trades(self) -> bool:
        """True while the portfolio step may run."""
        return self.state is State.READY or self.state is State.REDUCE_ONLY

    @property
    def reducing_only(self) -> bool:
        return self.state is not State.READY
