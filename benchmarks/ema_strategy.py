"""An always-in-the-market crossover, for measuring: long while the fast average is above the slow one, else short."""

from tidegate import EMA, BaseStrategy, Signal, View, param

LONG = Signal(1.0)
SHORT = Signal(-1.0)


class EmaCross(BaseStrategy):
    """Two exponential averages, both seeded with the first close; a wish on every bar once the slow one is warm."""

    fast_bars: int = param(default=10, low=1, high=1_000)
    slow_bars: int = param(default=50, low=2, high=5_000)

    def setup(self) -> None:
        self.fast = self.feature(EMA(self.fast_bars, seed="first"))
        self.slow = self.feature(EMA(self.slow_bars, seed="first"))

    def decide(self, view: View) -> Signal | None:  # noqa: ARG002
        return LONG if self.fast.now > self.slow.now else SHORT
