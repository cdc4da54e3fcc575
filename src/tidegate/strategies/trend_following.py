"""Trend following: two moving averages with a trailing stop, or the mean of several speeds.

Source of the robust form: Zarattini, Pagani & Barbon 2025 for the ensemble of Donchian channels, and the usual mean of
scaled crossovers; of the chandelier stop: LeBeau, in Elder 2002, Come Into My Trading Room.
"""

from typing import ClassVar

import msgspec

from tidegate.domain.market import BarSpec
from tidegate.domain.signals import Signal
from tidegate.quant.indicators import ATR, EMA, Donchian
from tidegate.strategies.base import BaseStrategy, View, param

_SPEEDS = ((8, 24), (16, 48), (32, 96))
_CHANNELS = (20, 60, 100)


class TrendMemory(msgspec.Struct):
    """What was said last, so that a wish changes when it has something to say."""

    strength: float = 0.0
    stop: float = 0.0


class TrendFollowing(BaseStrategy):
    """Long while the market rises, short while it falls, with a stop that follows the close.

    The classical form (``multi_speed=False``) is all in while the fast average is above the slow one; averages closer
    to each other than ``dead_band_atrs`` give no opinion. The robust form is the mean of three crossovers, each divided
    by its ATR and clipped to [-1, 1], and of the place of the close in three Donchian channels; it runs on bars of
    ``speed_unit`` (8 to 100 of them), is rounded to ``step``, and is flat below ``least``.

    The stop is proposed ``stop_atrs`` ATRs from the close; as the house only ever tightens it, it trails the best close
    since entry (a chandelier stop). Fails in markets that go sideways, where crossings and stops cost fees; a single
    speed is a lottery ticket.
    """

    style: ClassVar[str] = "trend"

    fast_bars: int = param(default=20, low=2, high=500)
    slow_bars: int = param(default=100, low=3, high=2000)
    atr_bars: int = param(default=14, low=2, high=200)
    stop_atrs: float = param(default=3.0, low=0.5, high=20.0)
    dead_band_atrs: float = param(default=0.25, low=0.0, high=5.0)
    multi_speed: bool = param(default=False)
    speed_unit: str = param(default="1d")
    step: float = param(default=0.1, low=0.01, high=0.5)
    least: float = param(default=0.1, low=0.0, high=0.9)

    memory: TrendMemory = TrendMemory()

    def setup(self) -> None:
        if self.multi_speed:
            BarSpec.of(self.speed_unit)
            unit = self.speed_unit
            self.crossings = [
                (
                    self.feature(EMA(fast), every=unit),
                    self.feature(EMA(slow), every=unit),
                    self.feature(ATR(slow), every=unit),
                )
                for fast, slow in _SPEEDS
            ]
            self.channels = [self.feature(Donchian(bars), every=unit) for bars in _CHANNELS]
            self.atr = self.feature(ATR(self.atr_bars), every=unit)
            self.last = self.feature(EMA(1), every=unit)
            return
        if self.fast_bars >= self.slow_bars:
            raise ValueError(
                f"TrendFollowing.fast_bars must be below slow_bars, not {self.fast_bars} against {self.slow_bars}"
            )
        self.fast = self.feature(EMA(self.fast_bars))
        self.slow = self.feature(EMA(self.slow_bars))
        self.atr = self.feature(ATR(self.atr_bars))

    def decide(self, view: View) -> Signal | None:
        return self._many(view) if self.multi_speed else self._classical(view)

    def _classical(self, view: View) -> Signal | None:
        atr = self.atr.now
        gap = self.fast.now - self.slow.now
        if not (atr > 0.0 and abs(gap) > 0.0 and abs(gap) >= self.dead_band_atrs * atr):
            return None  # flat market or no clear side: keep the last wish
        side = 1.0 if gap > 0.0 else -1.0
        stop = view.close - side * self.stop_atrs * atr
        return Signal(strength=side, stop=stop if stop > 0.0 else None)

    def _many(self, view: View) -> Signal | None:
        atr, said = self.atr.now, self.memory
        if not atr > 0.0:
            return None
        parts = [
            _clipped((fast.now - slow.now) / scale.now) if scale.now > 0.0 else 0.0
            for fast, slow, scale in self.crossings
        ]
        parts += [self._place(channel["upper"].now, channel["lower"].now) for channel in self.channels]
        mean = sum(parts) / len(parts)
        strength = round(mean / self.step) * self.step if abs(mean) >= self.least else 0.0
        strength = _clipped(strength)
        if abs(mean - said.strength) < self.step and said.strength * mean > 0.0:
            strength = said.strength  # between two steps: stay
        side = 1.0 if strength > 0.0 else -1.0
        stop = view.close - side * self.stop_atrs * atr if strength else 0.0
        same_side = strength * said.strength > 0.0
        tighter = not same_side or said.stop == 0.0 or (stop - said.stop) * side > 0.25 * atr
        if strength == said.strength and not (strength and tighter):
            return None
        if same_side and not tighter:
            stop = said.stop
        self.memory = TrendMemory(strength, stop)
        return Signal(strength=strength, stop=stop if stop > 0.0 else None)

    def _place(self, upper: float, lower: float) -> float:
        """Where the close lies in a channel: -1 at its floor, 1 at its ceiling."""
        height = upper - lower
        return _clipped(2.0 * (self.last.now - lower) / height - 1.0) if height > 0.0 else 0.0


def _clipped(value: float) -> float:
    return max(-1.0, min(1.0, value))
