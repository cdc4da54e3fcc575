"""What a kernel is configured with."""

import msgspec

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import HOUR_NS, MINUTE_NS, SECOND_NS
from tidegate.execution.protection import ProtectionSettings
from tidegate.execution.reconcile import ExpectedAccount
from tidegate.portfolio.construction import PortfolioSettings
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


class KernelSettings(msgspec.Struct, frozen=True):
    """What the kernel is configured with. ``account`` and ``gen`` name our orders; ``interval_ns`` is the bar that
    strategies decide on; ``grace_ns`` is how long a close waits for missing bars. ``adopt`` names the instruments whose
    position at the first start is taken over; ``expected`` is how the account should be set."""

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
