"""Range trading: buy near support, sell near resistance, between levels that were confirmed before.

Source: Edwards & Magee 1948, Technical Analysis of Stock Trends.
"""

from typing import ClassVar

import msgspec

from tidegate.domain.signals import Signal
from tidegate.quant.indicators import ADX, ATR
from tidegate.quant.pivots import SupportResistance
from tidegate.strategies.base import BaseStrategy, View, param


class RangeMemory(msgspec.Struct):
    """The trade that is wished for: its side (0 is none), where it ends well, and how many bars it is old."""

    side: int = 0
    target: float = 0.0
    bars: int = 0


class RangeTrading(BaseStrategy):
    """Long when a bar has dipped to support and closed above it in its upper half; short at resistance, mirrored.

    A range needs both levels, and a height of at least ``least_costs`` times ``round_trip_bps``, what it costs to trade
    it; ADX must be below ``trend_adx``. The stop lies ``stop_atrs`` ATRs beyond the level, the target at
    ``target_frac`` of the range; after ``hold_bars`` the trade is given up. Near is ``near_atrs`` ATRs. Fails when the
    range breaks, which every range does once.
    """

    style: ClassVar[str] = "range"

    confirm_bars: int = param(default=5, low=1, high=50)
    level_bars: int = param(default=240, low=20, high=2000)
    touches: int = param(default=2, low=2, high=6)
    within_atrs: float = param(default=0.5, low=0.05, high=3.0)
    near_atrs: float = param(default=0.5, low=0.05, high=3.0)
    atr_bars: int = param(default=14, low=2, high=200)
    stop_atrs: float = param(default=1.0, low=0.25, high=10.0)
    target_frac: float = param(default=0.7, low=0.3, high=1.0)
    least_costs: float = param(default=3.0, low=0.0, high=50.0)
    round_trip_bps: float = param(default=14.0, low=0.0, high=200.0)
    trend_adx: float = param(default=25.0, low=5.0, high=100.0)
    hold_bars: int = param(default=48, low=1, high=1000)
    every: str = param(default="")

    memory: RangeMemory = RangeMemory()

    def setup(self) -> None:
        every = self.every or None
        self.levels = self.feature(
            SupportResistance(
                self.confirm_bars,
                self.level_bars,
                atr_bars=self.atr_bars,
                within_atrs=self.within_atrs,
                touches=self.touches,
            ),
            every=every,
        )
        self.adx = self.feature(ADX(self.atr_bars), every=every)
        self.atr = self.feature(ATR(self.atr_bars), every=every)

    def decide(self, view: View) -> Signal | None:
        trade, close = self.memory, view.close
        if trade.side:
            done = (close - trade.target) * trade.side >= 0.0 or trade.bars + 1 >= self.hold_bars
            self.memory = RangeMemory() if done else RangeMemory(trade.side, trade.target, trade.bars + 1)
            return Signal(0.0) if done else None
        support, resistance, atr = self.levels["support"].now, self.levels["resistance"].now, self.atr.now
        height = resistance - support
        if not (atr > 0.0 and height >= self.least_costs * self.round_trip_bps * 1e-4 * close):
            return None
        if not self.adx.now < self.trend_adx:
            return None
        near, middle = self.near_atrs * atr, (view.high + view.low) / 2.0
        if view.low <= support + near and close > max(support, middle):
            side, stop, target = 1, support - self.stop_atrs * atr, support + self.target_frac * height
        elif view.high >= resistance - near and close < min(resistance, middle):
            side, stop, target = -1, resistance + self.stop_atrs * atr, resistance - self.target_frac * height
        else:
            return None
        if stop <= 0.0 or (target - close) * side <= 0.0:
            return None
        self.memory = RangeMemory(side, target, 0)
        return Signal(strength=float(side), stop=stop)
