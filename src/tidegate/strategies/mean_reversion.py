"""Mean reversion: buy what fell out of its Bollinger band and is oversold, where there is no trend.

Sources: Bollinger 2001, Bollinger on Bollinger Bands; Wilder 1978 for RSI and ADX.
"""

from typing import ClassVar

import msgspec

from tidegate.domain.signals import Signal
from tidegate.quant.indicators import ADX, ATR, RSI, Bollinger
from tidegate.strategies.base import BaseStrategy, View, param


class ReversionMemory(msgspec.Struct):
    """The trade that is wished for: its side (0 is none), and how many bars it is old."""

    side: int = 0
    bars: int = 0


class MeanReversion(BaseStrategy):
    """Long when the close is below the lower band and RSI below ``oversold``, until the middle band or ``hold_bars``.

    Short is the mirror image. Only while ADX is below ``trend_adx``: a trend is the left tail of this strategy. The
    stop lies ``stop_atrs`` ATRs from the close of the entry. On ``every`` (the strategy's own bars when empty).
    The edge before costs is a few basis points a trade and is easily eaten by taker fees.
    """

    style: ClassVar[str] = "mean_reversion"

    band_bars: int = param(default=20, low=5, high=200)
    band_sds: float = param(default=2.0, low=0.5, high=5.0)
    rsi_bars: int = param(default=14, low=2, high=100)
    oversold: float = param(default=30.0, low=1.0, high=49.0)
    adx_bars: int = param(default=14, low=2, high=100)
    trend_adx: float = param(default=20.0, low=5.0, high=100.0)
    atr_bars: int = param(default=14, low=2, high=200)
    stop_atrs: float = param(default=2.5, low=0.5, high=20.0)
    hold_bars: int = param(default=10, low=1, high=500)
    every: str = param(default="")

    memory: ReversionMemory = ReversionMemory()

    def setup(self) -> None:
        every = self.every or None
        self.bands = self.feature(Bollinger(self.band_bars, self.band_sds), every=every)
        self.rsi = self.feature(RSI(self.rsi_bars), every=every)
        self.adx = self.feature(ADX(self.adx_bars), every=every)
        self.atr = self.feature(ATR(self.atr_bars), every=every)

    def decide(self, view: View) -> Signal | None:
        trade, close = self.memory, view.close
        if trade.side:
            middle = self.bands["middle"].now
            done = (close - middle) * trade.side >= 0.0 or trade.bars + 1 >= self.hold_bars
            self.memory = ReversionMemory() if done else ReversionMemory(trade.side, trade.bars + 1)
            return Signal(0.0) if done else None
        if not self.adx.now < self.trend_adx or not self.atr.now > 0.0:
            return None
        side = 0
        if close < self.bands["lower"].now and self.rsi.now < self.oversold:
            side = 1
        elif close > self.bands["upper"].now and self.rsi.now > 100.0 - self.oversold:
            side = -1
        stop = close - side * self.stop_atrs * self.atr.now
        if not side or stop <= 0.0:
            return None
        self.memory = ReversionMemory(side, 0)
        return Signal(strength=float(side), stop=stop)
