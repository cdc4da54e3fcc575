"""What an ideal market would not charge: slippage, latency and the share of volume that we may take.

Each model gives an adverse move as a fraction of price (positive is worse for us). Models see what the venue would
know: the bar that trades now and the one before it. They are chosen by configuration and printed in the report.
"""

from math import sqrt
from typing import Protocol

import msgspec

from tidegate.domain.market import Bar
from tidegate.quant.impact import square_root_impact_frac

_RANGE_TO_SIGMA = 0.6006
"""Parkinson 1980: the standard deviation of a bar's return is its range times ``1 / sqrt(4 ln 2)``."""


class Slippage(Protocol):
    """How far a taker fill of ``qty`` lands from the reference price."""

    def adverse_frac(self, qty: float, previous: Bar | None, half_spread_frac: float) -> float:
        """Adverse move as a fraction of price; ``previous`` is the last closed bar of the instrument."""
        ...

    @property
    def text(self) -> str:
        """The model in a sentence, for the report."""
        ...


class NoSlippage(msgspec.Struct, frozen=True):
    """Takers pay the printed price and the spread, when one is known."""

    def adverse_frac(self, qty: float, previous: Bar | None, half_spread_frac: float) -> float:  # noqa: ARG002
        return half_spread_frac

    @property
    def text(self) -> str:
        return "no slippage: market orders fill at the printed price"


class FixedSlippage(msgspec.Struct, frozen=True):
    """Takers lose a fixed number of basis points, beside the spread where one is known."""

    bps: float

    def adverse_frac(self, qty: float, previous: Bar | None, half_spread_frac: float) -> float:  # noqa: ARG002
        return half_spread_frac + self.bps * 1e-4

    @property
    def text(self) -> str:
        return f"slippage of {self.bps:g} bps on each taker fill"


class SpreadImpactSlippage(msgspec.Struct, frozen=True):
    """Takers lose the half spread and the square-root impact of their size in the last bar's volume and range."""

    half_spread_bps: float
    impact: float

    def adverse_frac(self, qty: float, previous: Bar | None, half_spread_frac: float) -> float:
        spread = half_spread_frac or self.half_spread_bps * 1e-4
        if previous is None:
            return spread
        sigma = _RANGE_TO_SIGMA * (previous.high - previous.low) / previous.close
        return spread + square_root_impact_frac(qty, previous.volume, sigma, self.impact)

    @property
    def text(self) -> str:
        return (
            f"slippage of {self.half_spread_bps:g} bps half spread plus square-root impact with Y = {self.impact:g} "
            "in the volume and range of the bar before"
        )


class Latency(msgspec.Struct, frozen=True):
    """The price moves against us while an order travels: ``range sqrt(latency / interval)`` of the bar it fills in.

    A latency shorter than the bar moves the price, never the bar; the move stays inside the bar's range.
    """

    latency_ns: int = 0

    def adverse_frac(self, bar: Bar, sign: int) -> float:
        """Adverse move of an order of side ``sign`` that fills near the open of ``bar``."""
        if self.latency_ns == 0:
            return 0.0
        drift = (bar.high - bar.low) * sqrt(min(1.0, self.latency_ns / bar.interval_ns))
        room = bar.high - bar.open if sign > 0 else bar.open - bar.low
        return min(drift, room) / bar.open


class Frictions(msgspec.Struct, frozen=True):
    """All of them together.

    ``volume_share`` is the share of a bar's volume that our orders may take (``None``: no limit): the open may take
    it of the bar before, the rest fills at the end of the bar. ``trade_empty_bars`` lets orders fill in bars without
    volume, in which nobody traded.
    """

    slippage: Slippage = NoSlippage()
    latency: Latency = Latency()
    volume_share: float | None = None
    trade_empty_bars: bool = False

    @property
    def texts(self) -> list[str]:
        """Each assumption in a sentence."""
        share = (
            "orders fill whole, whatever the volume of the bar"
            if self.volume_share is None
            else f"an order takes at most {self.volume_share:.0%} of a bar's volume: of the bar before at the open, "
            "of the bar itself at its end"
        )
        return [
            self.slippage.text,
            f"order latency {self.latency.latency_ns / 1e6:g} ms, moving the price within the bar",
            share,
            "bars without volume fill our orders too"
            if self.trade_empty_bars
            else "nothing fills in a bar without volume",
        ]
