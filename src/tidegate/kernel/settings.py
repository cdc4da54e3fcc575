"""What a kernel is configured with."""

from typing import Literal

import msgspec

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import HOUR_NS, MINUTE_NS, SECOND_NS
from tidegate.execution.protection import ProtectionSettings
from tidegate.execution.reconcile import ExpectedAccount
from tidegate.portfolio.construction import PortfolioSettings
from tidegate.risk.brake import BrakeCurve
from tidegate.risk.sizing import SizingSettings
from tidegate.risk.view import RiskLimits


class ReconcileSettings(msgspec.Struct, frozen=True):
    """How the account is watched. Not ``enabled`` where the venue is simulated: it is the truth by construction.

    ``grace_ns`` is how long after its fence an order that is not found may still turn up; ``timeout_ns`` how long a
    snapshot is waited for; ``bare_ns`` how long a position may be without a confirmed stop; ``abandon_ns`` after which
    time a conditional order of unknown fate is given up where nothing depends on it.
    """

    enabled: bool = False
    audit_busy_ns: Nanos = 10 * SECOND_NS
    audit_idle_ns: Nanos = MINUTE_NS
    full_ns: Nanos = HOUR_NS
    grace_ns: Nanos = 2 * SECOND_NS
    timeout_ns: Nanos = 3 * SECOND_NS
    bare_ns: Nanos = 10 * SECOND_NS
    abandon_ns: Nanos = HOUR_NS


class DetectorSettings(msgspec.Struct, frozen=True):
    """The regime detector, in long bars; ``quant.regime.RegimeSettings`` says what each means."""

    states: int = 3
    volatility_bars: int = 42
    trend_bars: int = 180
    window_bars: int = 5475
    first_fit_bars: int = 1095
    refit_bars: int = 180
    activation_lag_bars: int = 1
    percentile_bars: int = 4380
    seed: int = 7


class WeighingSettings(msgspec.Struct, frozen=True):
    """From wishes to weights by regime, risk and costs; without it, wishes are blended evenly.

    ``interval_ns`` is the long bar on which the market is read and weights are made. ``method`` is the optimiser's.
    ``risk_scale`` is how many times the even share of the target volatility a full wish may take, before the book as a
    whole is cut to the target; ``holding_days`` spreads the cost of a trade. ``volatility_days`` and
    ``correlation_days`` are half-lives; ``warmup_bars`` long bars make an instrument's risk known. Without a
    ``detector`` the regime stays unknown, and the strategies' budgets even.
    """

    interval_ns: Nanos = 4 * HOUR_NS
    method: str = "mean_variance"
    risk_scale: float = 3.0
    risk_aversion: float = 10.0
    holding_days: float = 10.0
    half_spread_bps: float = 1.0
    volatility_days: float = 20.0
    correlation_days: float = 90.0
    warmup_bars: int = 60
    matrix_band: float = 0.05
    detector: DetectorSettings | None = DetectorSettings()
    allocator: Literal["none", "shrinkage", "hedge", "exponentiated_gradient", "thompson"] = "none"
    seed: int = 7


class KernelSettings(msgspec.Struct, frozen=True):
    """What the kernel is configured with. ``account`` and ``gen`` name our orders; ``interval_ns`` is the bar that
    strategies decide on; ``grace_ns`` is how long a close waits for missing bars. ``adopt`` names the instruments whose
    position at the first start is taken over; ``expected`` is how the account should be set. ``brake`` is the curve by
    which a drawdown cuts the exposure, None where nothing but a person stops the book."""

    interval_ns: Nanos
    account: str = "demo"
    gen: int = 0
    grace_ns: Nanos = 5 * SECOND_NS
    limits: RiskLimits = RiskLimits()
    sizing: SizingSettings = SizingSettings()
    portfolio: PortfolioSettings = PortfolioSettings()
    protection: ProtectionSettings = ProtectionSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    adopt: tuple[InstrumentId, ...] = ()
    expected: ExpectedAccount = ExpectedAccount()
    brake: BrakeCurve | None = None
    weighing: WeighingSettings | None = None
