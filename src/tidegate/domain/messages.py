"""The two tagged unions: everything that comes in is an Event, everything that goes out is a Command."""

from decimal import Decimal
from enum import Enum
from typing import Final

import msgspec

from tidegate.domain.account import AccountSnapshot, FundingPaid, Income, Transfer
from tidegate.domain.ids import ClientOrderId, InstrumentId, ModelId, Nanos
from tidegate.domain.market import MarketEvent
from tidegate.domain.orders import AmendOrder, ApprovedOrder, CancelOrder, OrderReport, QueryOrder
from tidegate.domain.signals import BookRisk, Decision, RegimeChanged, StrategyResult


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
    """UP also says: the account's stream was made anew, so what happened in between must be read."""

    UP = "UP"
    DOWN = "DOWN"
    REFUSED = "REFUSED"  # key, address or permission: a person must look


class VenueStatus(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue can, or cannot, be reached: its order entry and our account's stream both."""

    state: VenueState
    detail: str
    ts_ns: Nanos
    recv_ns: Nanos


class Operation(Enum):
    """What an operator, or the shell on their behalf, can ask for."""

    BOOT = "BOOT"  # a process begins; ``detail`` is its generation, which its order ids carry
    START = "START"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    FLATTEN = "FLATTEN"
    STOP = "STOP"
    KILL = "KILL"  # latch, cancel everything, close everything
    RESET = "RESET"  # a person has looked: the latch is lifted, and the account is reconciled again
    ADOPT = "ADOPT"  # take over the positions that are not ours, at the venue's entry price


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
    """Ask for a model to be fitted on the window that ends at ``end_ns``.

    ``request`` is all that the fit needs, in the model's own encoding: whoever fits it, the same bytes come out.
    """

    model: ModelId
    start_ns: Nanos
    end_ns: Nanos
    activation_ns: Nanos
    seed: int
    request: bytes = b""


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


class HaltCause(Enum):
    """DRAWDOWN and KILL sweep and flatten; the others cancel entries and keep the stops."""

    KILL = "KILL"
    DRAWDOWN = "DRAWDOWN"
    INVARIANT = "INVARIANT"
    AUTH = "AUTH"
    JOURNAL = "JOURNAL"


class Halt(msgspec.Struct, frozen=True, gc=False, tag=True):
    """No new risk until a person has looked; the latch survives a restart."""

    reason: str
    ts_ns: Nanos
    cause: HaltCause = HaltCause.INVARIANT


class LeaveAccount(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An older daemon trades on this account: this process stops, and leaves positions and stops to it."""

    reason: str
    ts_ns: Nanos


class BookedUpTo(msgspec.Struct, frozen=True, gc=False):
    """The newest execution of an instrument that is booked; -1 when none is."""

    instrument: InstrumentId
    trade_id: int


class TakeSnapshot(msgspec.Struct, frozen=True, tag=True):
    """Ask the venue for the truth; the answer is an ``AccountSnapshot`` that carries ``name`` back.

    It holds the executions of each instrument in ``since`` after the one that is named there, and the income lines
    from ``income_since_ns`` on (none when that is 0).
    """

    name: str
    since: tuple[BookedUpTo, ...]
    income_since_ns: Nanos
    reason: str


class NotPlaced(msgspec.Struct, frozen=True, gc=False, tag=True):
    """It is proved that an order never reached the market; on disk before anything builds upon it."""

    id: ClientOrderId
    instrument: InstrumentId
    ts_ns: Nanos


class Adjustment(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A line in our books that no execution explains: ours is made equal to the venue's, at the venue's price.

    ``id`` follows from its content, so that the same difference is never booked twice; ``adopted`` when a policy took
    over a position that was there at the first start.
    """

    id: str
    instrument: InstrumentId
    qty: Decimal
    price: Decimal
    reason: str
    ts_ns: Nanos
    adopted: bool = False


ExecutionReport = OrderReport | FundingPaid | Transfer | Income | AccountSnapshot | VenueStatus
"""Everything a venue says about our account, and about itself."""

ShellEvent = TimerFired | ModelFitted | OperatorCommand

Event = MarketEvent | ExecutionReport | ShellEvent
Command = (
    ApprovedOrder
    | CancelOrder
    | AmendOrder
    | QueryOrder
    | TakeSnapshot
    | SetTimer
    | FitModel
    | Decision
    | RegimeChanged
    | BookRisk
    | StrategyResult
    | Alert
    | Halt
    | LeaveAccount
    | NotPlaced
    | Adjustment
)


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
    """What a feed is asked for: closed bars of one interval of one instrument, and what else it shall bring."""

    instrument: InstrumentId
    interval_ns: Nanos
    quotes: bool = True
    marks: bool = True
    trades: bool = False
    depth: bool = False
