"""The two tagged unions: everything that comes in is an Event, everything that goes out is a Command."""

from decimal import Decimal
from enum import Enum
from typing import Final

import msgspec

from tidegate.domain.account import AccountSnapshot
from tidegate.domain.ids import InstrumentId, ModelId, Nanos
from tidegate.domain.market import MarketEvent
from tidegate.domain.orders import AmendOrder, ApprovedOrder, CancelOrder, OrderReport, QueryOrder
from tidegate.domain.signals import Decision


class FundingPaid(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A funding settlement on our position; ``amount`` is the change of the wallet."""

    instrument: InstrumentId
    amount: Decimal
    rate: float
    mark: float
    ts_ns: Nanos
    recv_ns: Nanos
    mark_is_last: bool = False  # no mark price was known: the last close stood in


class Transfer(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Money put into the account, or taken out of it when negative."""

    asset: str
    amount: Decimal
    ts_ns: Nanos
    recv_ns: Nanos


class TimerFired(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The answer to a ``SetTimer`` of the same name."""

    name: str
    ts_ns: Nanos
    recv_ns: Nanos


class ModelFitted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Parameters of a model, to be used from ``activation_ns`` on and not before."""

    model: ModelId
    activation_ns: Nanos
    parameters: bytes
    ts_ns: Nanos
    recv_ns: Nanos


class VenueState(Enum):
    UP = "UP"
    DOWN = "DOWN"


class VenueStatus(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue can, or cannot, be reached."""

    state: VenueState
    detail: str
    ts_ns: Nanos
    recv_ns: Nanos


class Operation(Enum):
    """What an operator, or the shell on their behalf, can ask for."""

    START = "START"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    FLATTEN = "FLATTEN"
    STOP = "STOP"


class OperatorCommand(msgspec.Struct, frozen=True, gc=False, tag=True):
    operation: Operation
    ts_ns: Nanos
    recv_ns: Nanos
    detail: str = ""


GRACE_TIMER: Final = "grace"
"""Name of the timer that stands for bars that do not come at a close; a simulated market knows when to fire it."""


class SetTimer(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Ask for a ``TimerFired`` of this name, not before ``at_ns``. Setting a name again moves its time."""

    name: str
    at_ns: Nanos


class FitModel(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Ask for a model to be fitted on the window that ends at ``end_ns``."""

    model: ModelId
    start_ns: Nanos
    end_ns: Nanos
    activation_ns: Nanos
    seed: int


class Severity(Enum):
    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class Alert(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Something that a person should know."""

    severity: Severity
    subject: str
    text: str
    ts_ns: Nanos


class Halt(msgspec.Struct, frozen=True, gc=False, tag=True):
    """No new risk until a person has looked; the latch survives a restart."""

    reason: str
    ts_ns: Nanos


ExecutionReport = OrderReport | FundingPaid | Transfer | AccountSnapshot
"""Everything a venue says about our account."""

ShellEvent = TimerFired | ModelFitted | VenueStatus | OperatorCommand

Event = MarketEvent | ExecutionReport | ShellEvent
Command = ApprovedOrder | CancelOrder | AmendOrder | QueryOrder | SetTimer | FitModel | Decision | Alert | Halt


class Record(msgspec.Struct, frozen=True):
    """One step of the kernel as it is journaled: what came in, and what it answered."""

    seq: int
    event: Event
    commands: tuple[Command, ...]


class KernelSnapshot(msgspec.Struct, frozen=True):
    """The whole state of a kernel after record ``seq``: opaque bytes and the version of their format."""

    version: int
    seq: int
    data: bytes


class Subscription(msgspec.Struct, frozen=True):
    """What a feed is asked for: closed bars of one interval of one instrument."""

    instrument: InstrumentId
    interval_ns: Nanos
