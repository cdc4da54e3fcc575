"""Trend following, classical form: two moving averages and a trailing stop in ATRs."""

from tidegate.domain.signals import Signal
from tidegate.quant.indicators import ATR, EMA
from tidegate.strategies.base import BaseStrategy, View, param


class TrendFollowing(BaseStrategy):
    """Long while the fast average is above the slow one, short while it is below, with a stop that follows the close.

    Averages closer to each other than ``dead_band_atrs`` give no opinion. The stop is proposed ``stop_atrs`` ATRs from
    each close; as the house only ever tightens it, it trails the best close since entry (a chandelier stop). Fails in
    markets that go sideways, where crossings and stops cost fees.
    """

    fast_bars: int = param(default=20, low=2, high=500)
    slow_bars: int = param(default=100, low=3, high=2000)
    atr_bars: int = param(default=14, low=2, high=200)
    stop_atrs: float = param(default=3.0, low=0.5, high=20.0)
    dead_band_atrs: float = param(default=0.25, low=0.0, high=5.0)

    def setup(self) -> None:
        if self.fast_bars >= self.slow_bars:
            raise ValueError(
                f"TrendFollowing.fast_bars must be below slow_bars, not {self.fast_bars} against {self.slow_bars}"
            )
        self.fast = self.feature(EMA(self.fast_bars))
        self.slow = self.feature(EMA(self.slow_bars))
        self.atr = self.feature(ATR(self.atr_bars))

    def decide(self, view: View) -> Signal | None:
        atr = self.atr.now
        gap = self.fast.now - self.slow.now
        if not (atr > 0.0 and abs(gap) > 0.0 and abs(gap) >= self.dead_band_atrs * atr):
            return None  # flat market or no clear side: keep the last wish
        side = 1.0 if gap > 0.0 else -1.0
        stop = view.close - side * self.stop_atrs * atr
        return Signal(strength=side, stop=stop if stop > 0.0 else None)
