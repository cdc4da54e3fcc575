"""Funding of perpetual contracts: the venue's formula, and what a rate is a year.

The rate of an interval of ``N`` hours is ``F = (P + clamp(I - P, -0.05 %, 0.05 %)) / (8/N)``, ``P`` the time-weighted
premium of the contract over its index and ``I`` the interest of 8 hours. While the premium stays within 0.05 % of the
interest the rate is the interest exactly. Caps and floors of a contract apply after it. Payment at the settlement is
``-side q mark F`` to whoever holds at that instant. Source: Binance, "Introduction to Binance futures funding rates".
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

INTEREST_8H = 0.0001
"""Interest of 8 hours, both currencies together."""

PREMIUM_CLAMP = 0.0005

_HOURS_PER_YEAR = 8_760.0


def funding_rate(premium: ArrayLike, interval_hours: float = 8.0, interest: float = INTEREST_8H) -> NDArray[np.float64]:
    """Rate of one interval, of the shape of ``premium``; both are fractions, positive when longs pay. Raises
    ``ValueError`` unless ``interval_hours`` is positive."""
    if not interval_hours > 0.0:
        raise ValueError(f"a funding interval has a positive number of hours, not {interval_hours}")
    mean = np.asarray(premium, dtype=np.float64)
    rate = mean + np.clip(interest - mean, -PREMIUM_CLAMP, PREMIUM_CLAMP)
    return np.asarray(rate / (8.0 / interval_hours))


def annualised_funding(rate: ArrayLike, interval_hours: float = 8.0) -> NDArray[np.float64]:
    """Simple, without compounding: ``F 24/N 365``; 0.01 % in 8 hours is 10.95 % a year."""
    if not interval_hours > 0.0:
        raise ValueError(f"a funding interval has a positive number of hours, not {interval_hours}")
    return np.asarray(np.asarray(rate, dtype=np.float64) * (_HOURS_PER_YEAR / interval_hours))
