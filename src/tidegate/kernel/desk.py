"""One instrument as the kernel keeps it: who trades it, what is held, what is aimed at, and what stands in the way."""

from dataclasses import dataclass, field
from decimal import Decimal

from tidegate.domain.ids import Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.ledger import ZERO
from tidegate.domain.signals import TargetWeight
from tidegate.kernel.wishes import Slot
from tidegate.portfolio.positions import Holding
from tidegate.risk.sizing import SizingInputs

FOREIGN = "foreign"
"""The block of a contract that somebody else trades too: we neither open nor reduce, only protect what is ours."""

STICKY = ("adjusted", "fence", "difference")
"""Blocks that a person lifts with RESUME."""


@dataclass(slots=True)
class DeskState:
    """What of a desk cannot be learned again.

    ``blocks`` are the reasons, by name, why the instrument takes no new risk. ``foreign_qty`` is what the venue holds
    of it and is not ours. ``retries`` counts reducing orders that were refused for now; ``bare_since_ns`` is since when
    the position has been without a confirmed stop; ``leaving`` while it is to be closed whatever the strategies wish;
    ``seen_from_ns`` is the first look at the contract: executions from before that are not ours to book.
    """

    target: Decimal = ZERO
    aim: float = 0.0
    said: tuple[Decimal, str, str] | None = None
    refused: tuple[Decimal, str, str] | None = None
    rejections: int = 0
    blocked_until_ns: Nanos = 0
    refusal: str = ""  # what the venue refuses here for now, while it is probed
    reroute: bool = False
    delisted: bool = False
    blocks: dict[str, str] = field(default_factory=dict)
    foreign_qty: Decimal = ZERO
    foreign_price: Decimal = ZERO
    retries: int = 0
    retry_at_ns: Nanos = 0
    bare_since_ns: Nanos = 0
    stop_barred_until_ns: Nanos = 0
    leaving: bool = False
    clock_retried: bool = False
    filled_ns: Nanos = 0
    seen_from_ns: Nanos = 0
    differs_since_ns: Nanos = 0
    differed_qty: Decimal = ZERO
    differed: int = 0
    paged: bool = False


@dataclass(slots=True)
class Desk(DeskState):
    """A desk at work."""

    instrument: Instrument = field(kw_only=True)
    holding: Holding = field(kw_only=True)
    slots: list[Slot] = field(kw_only=True)
    weight: TargetWeight | None = field(default=None, kw_only=True)
    hands_off: bool = field(default=False, kw_only=True)  # the portfolio step passes by
    weighed: TargetWeight | None = field(default=None, kw_only=True)  # the optimiser's last word
    divided: tuple[Decimal, tuple[float, ...]] | None = field(default=None, kw_only=True)
    inputs: SizingInputs | None = field(default=None, kw_only=True)  # what the book knows for its size
    risk: tuple[float, float, float | None] = field(default=(0.0, 0.0, None), kw_only=True)
    """Daily volatility, the VaR of the other positions, their correlation with this one: as the rules see them."""

    def block(self, name: str, reason: str) -> bool:
        """Take no new risk here until ``unblock``; False when that was so already."""
        news = name not in self.blocks
        self.blocks[name] = reason
        self.settle()
        return news

    def unblock(self, name: str) -> bool:
        """A reason is gone; False when there was none of that name."""
        gone = self.blocks.pop(name, None) is not None
        self.settle()
        return gone

    def settle(self) -> None:
        """Derive what follows from the blocks."""
        self.hands_off = self.delisted or FOREIGN in self.blocks

    def dump(self) -> DeskState:
        """The part that a snapshot keeps."""
        return DeskState(**{name: getattr(self, name) for name in DeskState.__slots__})

    def load(self, state: DeskState, holding: Holding) -> None:
        """Continue from a dump."""
        for name in DeskState.__slots__:
            setattr(self, name, getattr(state, name))
        self.holding, self.weight = holding, None
        self.settle()
