"""The settings of regime and portfolio: how the market is read, and how wishes become weights."""

from typing import Literal

from pydantic import Field, field_validator

from tidegate.app.config_fields import Real, Section, Whole
from tidegate.domain.market import DAY_NS, BarSpec


class RegimeSettings(Section):
    """The detector of the market's regime; lengths in its own bars. ``none`` leaves the regime unknown and the budgets
    of the strategies even."""

    model: Literal["none", "hmm"] = "none"
    states: Whole = Field(default=3, ge=2, le=4)
    first_fit_bars: Whole = Field(default=1095, ge=500, le=100_000)
    refit_bars: Whole = Field(default=180, ge=6, le=100_000)
    window_bars: Whole = Field(default=5475, ge=500, le=100_000)
    volatility_bars: Whole = Field(default=42, ge=2, le=10_000)
    trend_bars: Whole = Field(default=180, ge=2, le=10_000)
    percentile_bars: Whole = Field(default=4380, ge=100, le=100_000)
    activation_lag_bars: Whole = Field(default=1, ge=1, le=1_000)


class PortfolioSettings(Section):
    """From wishes to targets.

    ``gross_leverage`` is the exposure of all full wishes together where there is no ``optimizer``. With one, the market
    is read and weights are made on bars of ``rebalance``: ``risk_scale`` is how many times its even share of
    ``risk.target_volatility`` a full wish may take, ``holding_days`` spreads the cost of a trade over the time that it
    is held, and ``allocator`` tilts the budgets by what the strategies have earned.
    """

    no_trade_band_frac: Real = Field(default=0.1, ge=0, lt=1)
    gross_leverage: Real = Field(default=1.0, gt=0, le=125)
    optimizer: Literal["none", "mean_variance", "inverse_volatility"] = "none"
    rebalance: str = "4h"
    risk_scale: Real = Field(default=3.0, gt=0, le=100)
    risk_aversion: Real = Field(default=10.0, gt=0, le=1000)
    holding_days: Real = Field(default=10.0, gt=0, le=365)
    volatility_days: Real = Field(default=20.0, gt=0, le=365)
    correlation_days: Real = Field(default=90.0, gt=0, le=3650)
    warmup_bars: Whole = Field(default=60, ge=2, le=10_000)
    allocator: Literal["none", "shrinkage", "hedge", "exponentiated_gradient", "thompson"] = "none"

    @field_validator("rebalance")
    @classmethod
    def _interval(cls, text: str) -> str:
        spec = BarSpec.of(text)
        if DAY_NS % spec.interval_ns:
            raise ValueError(f"a day must be a whole number of them: 1h, 2h, 4h, 6h, 8h, 12h or 1d, not {text}")
        return spec.name
