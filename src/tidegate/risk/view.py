"""What the rules may see, and what they may answer."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from tidegate.domain.ids import Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.orders import OrderIntent
from tidegate.domain.signals import Reason, TargetPosition


class RiskLimits(msgspec.Struct, frozen=True):
    """The limits in force. The ``_pct`` names are the roadmap's and hold fractions (0.25 is 25 %).

    ``var_daily_pct`` and ``cvar_daily_pct`` bound the loss of one day in the worst 5 % of days, as a fraction of
    equity; ``target_volatility`` is annual, of the whole book; ``kelly_fraction`` is the multiple of the shrunk Kelly
    fraction.
    """

    initial_capital_usdt: float = 10_000.0
    allow_short: bool = True
    max_position_pct: float = 0.25
    max_leverage: float = 3.0
    min_liquidation_distance: float = 0.30
    max_orders_per_minute: int = 300
    price_collar_frac: float = 0.05
    var_daily_pct: float = 0.02
    cvar_daily_pct: float = 0.03
    max_drawdown_pct: float = 0.12
    max_consecutive_loss_days: int = 7
    kelly_fraction: float = 0.25
    target_volatility: float = 0.10
    max_daily_loss_pct: float = 0.03


class RiskView(msgspec.Struct, frozen=True, gc=False):
    """One instrument and the account at the moment of a decision, filled by the kernel."""

    instrument: Instrument
    now_ns: Nanos
    price: float  # last price seen; 0 when none
    equity: float
    held_qty: Decimal
    other_notional: float  # gross notional of the other instruments, held or already aimed at
    other_maintenance: float
    recent_orders: int  # orders approved in the last minute
    reducing_only: bool  # no new risk for this instrument
    held_or_ordered: float = 0.0  # signed: the position once all working orders are filled
    no_new_risk: bool = False  # the risk controller's word for the whole book
    risk_reason: str = ""  # and why
    daily_volatility: float = 0.0  # of the instrument, a fraction; 0 when it is not known
    book_var_frac: float = 0.0  # one-day 95 % VaR of the other positions, a fraction of equity
    book_correlation: float | None = None  # of the instrument's return with their P&L; not known counts as alike


class Pass(msgspec.Struct, frozen=True, gc=False):
    """No objection."""


class Resize(msgspec.Struct, frozen=True, gc=False):
    """Acceptable at this quantity (of the same sign, not larger)."""

    qty: Decimal
    reason: Reason
    detail: str


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """Not acceptable."""

    reason: Reason
    detail: str


Verdict = Pass | Resize | Refuse
PASS = Pass()
_SLACK = 1e-12
_ROOM = 1.0 + _SLACK


class Rule(Protocol):
    """One rule of the gate. Pure: the same question has the same answer."""

    @property
    def name(self) -> str: ...

    @property
    def growth_only(self) -> bool:
        """True for a rule that has nothing to say about an order that can only reduce."""
        ...

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:
        """May the book aim at this position?"""
        ...

    def on_order(self, intent: OrderIntent, view: RiskView) -> Verdict:
        """May this order be sent?"""
        ...


class OrderRule:
    """Base of rules that look at orders only, at every one of them."""

    growth_only = False

    def on_target(self, target: TargetPosition, view: RiskView) -> Verdict:  # noqa: ARG002
        return PASS


Rules = Sequence[Rule]


def within_held(target: TargetPosition, view: RiskView) -> bool:
    """True when aiming at the target can only leave what is held, or less of it."""
    held = view.held_qty
    return abs(target.qty) <= abs(held) and target.qty * held >= 0


def kept_of_held(target: TargetPosition, view: RiskView) -> Decimal:
    """What a target that may not grow becomes: what is held, or nothing where it wants the other side."""
    return view.held_qty if target.qty * view.held_qty > 0 else Decimal(0)


def increases(intent: OrderIntent, view: RiskView) -> bool:
    """True when filling the order could leave a larger position, or one on the other side."""
    if intent.reduce_only:
        return False
    held = view.held_or_ordered
    after = held + intent.side.sign * float(intent.qty)
    if after * held >= 0.0:
        return abs(after) > abs(held) * _ROOM
    return abs(after) > abs(held) * _SLACK


def qty_after(intent: OrderIntent, view: RiskView) -> float:
    """The position once this order and all working ones are filled."""
    return view.held_or_ordered + intent.side.sign * float(intent.qty)
