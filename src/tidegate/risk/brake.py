"""The brake of the whole book: drawdown, daily loss, run of losing days.

``observe`` is called at every close with the equity per unit (deposits and withdrawals buy and redeem units, so they
move no drawdown; the start is 1.0, and open positions and funding are in it):

1. A UTC day has ended: its net result lengthens or ends the run of losing days. A close at exactly 00:00 ends the day
   before it; days without any close neither count nor end a run.
2. The drawdown from the highest equity seen decides the severity, by the share of ``max_drawdown_pct`` that is used.
3. The exposure multiplier is cut at once, to ``(L - DD) / (L (1 - DD))`` (Grossman & Zhou 1993) or ``1 - DD/L``. It is
   restored only when the drawdown has halved since its deepest point, and then to the value of that moment.
4. Re-entry: a multiplier below a quarter could freeze the book at the bottom, for a book that hardly trades cannot win
   back. When the drawdown has not deepened for 20 days the multiplier is a quarter again; ``reason`` tells of both. If
   the drawdown deepens, 3 cuts it again.
5. At ``max_drawdown_pct`` the latch falls: multiplier 0, no new risk, until ``reset`` by an operator, who accepts the
   equity of that moment as the new peak. Nothing else moves the peak down, a restart neither (``dump``, ``load``).
6. A loss of ``max_daily_loss_pct`` since the day's opening equity: no new risk until the next UTC day.
7. ``max_consecutive_loss_days`` losing days in a row: no new risk until a day has ended without a loss. A flat book
   has such a day at once, so the halt costs it one whole day.

A brake multiplies the exposure of every strategy. It creates no return; it bounds what a run of losses costs.
"""

import math
from enum import StrEnum
from typing import Literal

import msgspec

from tidegate.domain.ids import Nanos
from tidegate.domain.market import DAY_NS
from tidegate.risk.view import RiskLimits

REENTRY_MULTIPLIER = 0.25
REENTRY_NS = 20 * DAY_NS

BrakeCurve = Literal["grossman_zhou", "linear"]

_SLACK = 1e-12


class DrawdownSeverity(StrEnum):
    """How much of the drawdown limit is used: below a quarter, a half, three quarters, all of it."""

    NORMAL = "NORMAL"
    MILD = "MILD"
    MODERATE = "MODERATE"
    SEVERE = "SEVERE"
    BREACH = "BREACH"


class RiskState(msgspec.Struct, frozen=True, gc=False):
    """What the brake says of the book now. ``daily_loss_frac`` is 0 on a day of gain; ``reason`` is empty while
    nothing is out of the ordinary."""

    drawdown_frac: float = 0.0
    severity: DrawdownSeverity = DrawdownSeverity.NORMAL
    exposure_multiplier: float = 1.0
    daily_loss_frac: float = 0.0
    no_new_risk: bool = False
    reason: str = ""
    latched: bool = False


class RiskMemory(msgspec.Struct):
    """All that has to survive a restart. Equities are per unit; ``day`` counts UTC days since 1970, -1 before the first
    close; ``deepest`` is the largest drawdown since the multiplier was last restored, reached at ``deepest_ns``."""

    ts_ns: Nanos = -1
    unit: float = 1.0
    peak: float = 1.0
    multiplier: float = 1.0
    deepest: float = 0.0
    deepest_ns: Nanos = 0
    reentered: bool = False
    day: int = -1
    day_open: float = 1.0
    day_blocked: bool = False
    loss_days: int = 0
    latched: bool = False


class DrawdownBrake:
    """Scalars only, and no clock: cheap enough for every bar."""

    def __init__(self, limits: RiskLimits, curve: BrakeCurve = "grossman_zhou") -> None:
        if curve not in ("grossman_zhou", "linear"):
            raise ValueError(f"unknown curve {curve!r} of the brake; use grossman_zhou or linear")
        self._limits = limits
        self._linear = curve == "linear"
        self._memory = RiskMemory()
        self.state = RiskState()

    def observe(self, ts_ns: Nanos, unit_equity: float) -> RiskState:
        """The equity per unit at a close; 1.0 is the start. Raises ``ValueError`` when it is not finite or time turned
        back."""
        memory = self._memory
        if ts_ns < memory.ts_ns:
            raise ValueError(f"equity at {ts_ns} came after that at {memory.ts_ns}; observe closes in time order")
        day = ts_ns // DAY_NS
        if unit_equity == memory.unit and day == memory.day and memory.multiplier >= REENTRY_MULTIPLIER:
            memory.ts_ns = ts_ns
            return self.state  # a flat book, and no clock is running
        if not math.isfinite(unit_equity):
            raise ValueError(f"equity per unit must be a number, not {unit_equity}")
        if day != memory.day:
            self._turn_day(day, unit_equity if memory.day < 0 or ts_ns % DAY_NS == 0 else memory.unit)
        memory.ts_ns = ts_ns
        self._mark(unit_equity)
        if self._daily_loss() >= self._limits.max_daily_loss_pct - _SLACK:
            memory.day_blocked = True
        self.state = self._judge()
        return self.state

    def mark(self, unit_equity: float) -> RiskState:
        """The equity per unit at no particular time."""
        self._mark(unit_equity)
        self.state = self._judge()
        return self.state

    def record_day(self, pnl: float) -> int:
        """A UTC day has ended with a net result, after all costs, in any unit; ``observe`` does this by itself. Returns
        the losing days in a row. Raises ``ValueError`` when the result is not finite."""
        if not math.isfinite(pnl):
            raise ValueError(f"the result of a day must be a number, not {pnl}")
        self._memory.loss_days = self._memory.loss_days + 1 if pnl < 0.0 else 0
        self.state = self._judge()
        return self._memory.loss_days

    def reset(self) -> RiskState:
        """An operator's act: the latch is lifted, the run of losses forgotten, and the equity seen last is the peak."""
        memory = self._memory
        if not memory.unit > 0.0:
            raise ValueError(f"there is no equity to start again with: {memory.unit:g} per unit")
        self._memory = RiskMemory(
            ts_ns=memory.ts_ns,
            unit=memory.unit,
            peak=memory.unit,
            deepest_ns=memory.ts_ns,
            day=memory.day,
            day_open=memory.day_open,
            day_blocked=memory.day_blocked,
        )
        self.state = self._judge()
        return self.state

    def dump(self) -> RiskMemory:
        """What a restart has to know, as a value of its own."""
        return msgspec.structs.replace(self._memory)

    def load(self, memory: RiskMemory) -> None:
        """Go on where ``dump`` was."""
        self._memory = msgspec.structs.replace(memory)
        self.state = self._judge()

    def _turn_day(self, day: int, close: float) -> None:
        memory = self._memory
        if memory.day >= 0:
            memory.loss_days = memory.loss_days + 1 if close < memory.day_open else 0
        memory.day, memory.day_open, memory.day_blocked = day, close, False

    def _mark(self, unit: float) -> None:
        """Peak, latch and multiplier at an equity per unit."""
        memory, limit = self._memory, self._limits.max_drawdown_pct
        memory.unit = unit
        memory.peak = max(memory.peak, unit)
        drawdown = 1.0 - unit / memory.peak
        if drawdown >= limit - _SLACK:
            memory.latched = True
        allowed = self._allowed(drawdown)
        if drawdown > memory.deepest:
            memory.deepest, memory.deepest_ns = drawdown, memory.ts_ns
            memory.multiplier, memory.reentered = min(memory.multiplier, allowed), False
        elif drawdown <= 0.5 * memory.deepest:
            memory.deepest, memory.deepest_ns = drawdown, memory.ts_ns
            memory.multiplier, memory.reentered = allowed, False
        elif memory.multiplier < REENTRY_MULTIPLIER and memory.ts_ns - memory.deepest_ns >= REENTRY_NS:
            memory.multiplier, memory.reentered = REENTRY_MULTIPLIER, True

    def _allowed(self, drawdown: float) -> float:
        limit = self._limits.max_drawdown_pct
        if drawdown >= limit:
            return 0.0
        return 1.0 - drawdown / limit if self._linear else (limit - drawdown) / (limit * (1.0 - drawdown))

    def _daily_loss(self) -> float:
        memory = self._memory
        return max(0.0, 1.0 - memory.unit / memory.day_open) if memory.day_open > 0.0 else 0.0

    def _judge(self) -> RiskState:
        memory, limits = self._memory, self._limits
        drawdown = 1.0 - memory.unit / memory.peak
        run = memory.loss_days >= limits.max_consecutive_loss_days
        reason = ""
        if memory.latched:
            reason = f"drawdown limit of {limits.max_drawdown_pct:.1%} reached: flat until an operator resets it"
        elif memory.day_blocked:
            reason = f"daily loss limit of {limits.max_daily_loss_pct:.1%} reached: no new risk before the next UTC day"
        elif run:
            reason = f"{limits.max_consecutive_loss_days} losing days in a row: no new risk before a day without a loss"
        elif memory.reentered:
            reason = (
                f"drawdown no deeper for {REENTRY_NS // DAY_NS} days: back at {REENTRY_MULTIPLIER:g} of the exposure"
            )
        elif memory.multiplier < REENTRY_MULTIPLIER:
            reason = (
                f"drawdown: less than {REENTRY_MULTIPLIER:g} of the exposure, until it is no deeper for "
                f"{REENTRY_NS // DAY_NS} days"
            )
        return RiskState(
            drawdown,
            severity_of(drawdown / limits.max_drawdown_pct),
            0.0 if memory.latched else memory.multiplier,
            self._daily_loss(),
            memory.latched or memory.day_blocked or run,
            reason,
            memory.latched,
        )


def severity_of(used: float) -> DrawdownSeverity:
    """The level of the share of the drawdown limit that is used."""
    used += _SLACK
    if used < 0.25:
        return DrawdownSeverity.NORMAL
    if used < 0.5:
        return DrawdownSeverity.MILD
    if used < 0.75:
        return DrawdownSeverity.MODERATE
    return DrawdownSeverity.SEVERE if used < 1.0 else DrawdownSeverity.BREACH
