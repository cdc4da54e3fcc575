"""What a funding strategy knows of its legs: risk, market beta, volume, and the funding that was settled.

1. Averages over bars are exponential with ``alpha = 2 / (N + 1)``, the mean age of a window of ``N`` bars, and plain
   means until ``N`` bars are there. A bar after a hole gives no return.
2. The market is the equal-weighted mean of the returns of the legs that have one at this close.
3. A settlement is a new stamp, floored to the minute. The time since the last one is the settlement interval: a shorter
   one counts at once, a longer one when it comes twice, for a stamp that was missed looks the same. When the interval
   has changed, what was known of the funding is forgotten.
4. Funding is annualised, ``rate * 24 / N * 365``, and averaged with a half-life in days.

A view shows the last settlement only, so bars must not be longer than the settlement interval.
"""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import DAY_NS, HOUR_NS, MINUTE_NS
from tidegate.strategies.base import View

YEAR_NS: Final = 365 * DAY_NS

_SETTLEMENTS_NS: Final = frozenset(hours * HOUR_NS for hours in (1, 2, 4, 8))


class Pace(msgspec.Struct, frozen=True):
    """How long the averages are, in days."""

    volatility_days: float
    beta_days: float
    half_life_days: float


class Leg(msgspec.Struct):
    """One instrument. Variances are per bar; ``volume_usdt`` is a day's; ``funding`` is a fraction of notional a year.

    ``first_ns`` and ``ts_ns`` are the ends of its first and last bar, ``stamp_ns`` and ``rate`` the last settlement;
    ``since_ns`` is when funding began to be settled at the present interval, 0 while that is unknown.
    """

    first_ns: Nanos = 0
    ts_ns: Nanos = 0
    bars: int = 0
    returns: int = 0
    close: float = 0.0
    variance: float = 0.0
    with_market: float = 0.0
    market_variance: float = 0.0
    volume_usdt: float = 0.0
    rate: float = 0.0
    stamp_ns: Nanos = 0
    interval_ns: Nanos = 0
    longer_ns: Nanos = 0
    since_ns: Nanos = 0
    funding: float = math.nan
    funding_weight: float = 0.0

    @property
    def beta(self) -> float:
        """To the equal-weighted market; NaN while it is unknown."""
        return self.with_market / self.market_variance if self.market_variance > 0.0 else math.nan

    def settle(self, stamp_ns: Nanos, rate: float, half_life_days: float) -> None:
        """Take a settlement in; one that is known already changes nothing."""
        stamp_ns -= stamp_ns % MINUTE_NS
        if stamp_ns <= self.stamp_ns:
            return
        passed_ns, self.stamp_ns, self.rate = stamp_ns - self.stamp_ns, stamp_ns, rate
        if passed_ns != self.interval_ns and passed_ns in _SETTLEMENTS_NS:
            if self.interval_ns and passed_ns > self.interval_ns and passed_ns != self.longer_ns:
                self.longer_ns = passed_ns  # a missed stamp, or a change: the next one tells
            else:
                self.interval_ns, self.since_ns = passed_ns, stamp_ns
                self.funding, self.funding_weight = math.nan, 0.0
        if passed_ns != self.interval_ns:
            return  # nobody knows what this rate was for
        self.longer_ns = 0
        decay = 0.5 ** (self.interval_ns / (half_life_days * DAY_NS))
        self.funding_weight = self.funding_weight * decay + 1.0
        yearly = rate * (YEAR_NS / self.interval_ns)
        before = yearly if math.isnan(self.funding) else self.funding
        self.funding = before + (yearly - before) / self.funding_weight


def observe(legs: dict[InstrumentId, Leg], views: Mapping[InstrumentId, View], pace: Pace) -> None:
    """Take a close in: the bars that are there, and whatever was settled since."""
    returns: dict[InstrumentId, float] = {}
    for name, view in views.items():
        leg = legs.setdefault(name, Leg())
        if view.funding_rate is not None:
            leg.settle(view.funding_ts_ns, view.funding_rate, pace.half_life_days)
        if view.ts_ns <= leg.ts_ns:
            continue  # a stale view shows a bar that was counted
        if leg.close > 0.0 and view.ts_ns - leg.ts_ns == view.bar.interval_ns:
            returns[name] = view.close / leg.close - 1.0
        _count(leg, view, pace)
    if len(returns) < 2:
        return
    market = math.fsum(returns.values()) / len(returns)
    for name, each in returns.items():
        leg, bar = legs[name], views[name].bar
        leg.returns += 1
        alpha = _alpha(pace.volatility_days, bar.interval_ns, leg.returns)
        leg.variance += alpha * (each * each - leg.variance)
        alpha = _alpha(pace.beta_days, bar.interval_ns, leg.returns)
        leg.with_market += alpha * (each * market - leg.with_market)
        leg.market_variance += alpha * (market * market - leg.market_variance)


def _count(leg: Leg, view: View, pace: Pace) -> None:
    leg.bars += 1
    leg.first_ns = leg.first_ns or view.ts_ns
    leg.ts_ns, leg.close = view.ts_ns, view.close
    a_day = view.volume * view.close * (DAY_NS / view.bar.interval_ns)
    leg.volume_usdt += _alpha(pace.volatility_days, view.bar.interval_ns, leg.bars) * (a_day - leg.volume_usdt)


def _alpha(days: float, interval_ns: Nanos, count: int) -> float:
    bars = days * DAY_NS / interval_ns
    return max(2.0 / (bars + 1.0), 1.0 / count)
