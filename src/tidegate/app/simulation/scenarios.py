"""What simulated runs are made of: who trades, how the world is set, and which faults it brings."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tidegate.domain.market import MINUTE_NS
from tidegate.domain.signals import Signal
from tidegate.strategies.base import BaseStrategy, View, param

SCRIPT: Final = (1.0, -1.0, -0.4, 0.7, 0.0, -0.9, 0.5, 1.0)
"""Wishes that open, flip, cut, flip, close, open, flip and grow."""

_STOP_FRAC: Final = 0.05


class Scripted(BaseStrategy):
    """Wishes by the minute of the day, whatever the market does: work for the order path. Flat from ``until_min`` on.

    ``shift`` moves one contract against another along ``SCRIPT``, so that they do not trade the same way.
    """

    from_min: int = param(default=0, low=0, high=100_000_000)
    until_min: int = param(default=100_000_000, low=0, high=100_000_000)

    def decide(self, view: View) -> Signal | None:
        """The wish of this minute, with a stop far from the price, so that only the script trades."""
        minute = view.ts_ns // MINUTE_NS - self.from_min
        if minute < 0:
            return None
        if view.ts_ns // MINUTE_NS >= self.until_min:
            return Signal(strength=0.0)
        strength = SCRIPT[(minute + 3 * (view.instrument != "BTCUSDT")) % len(SCRIPT)]
        side = 1.0 if strength >= 0 else -1.0
        return Signal(strength=strength, stop=view.close * (1.0 - side * _STOP_FRAC))


SETTINGS: Final[Mapping[str, object]] = {
    "mode": "testnet",
    "account": "sim",
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "timeframe": "1m",
    "strategies": ["TrendFollowing"],
    "venue": {"leverage": 20},
    "risk": {"brake": "none"},  # a script that loses shall go on giving the order path its work
}
"""The daemon of a simulated run, unless it is told otherwise."""


def scripted(start_ns: int, bars: int) -> dict[str, object]:
    """A ``strategies`` section: ``Scripted`` from the first whole minute after ``start_ns`` on, for ``bars`` bars."""
    first = start_ns // MINUTE_NS + 1
    params = {"from_min": first, "until_min": first + bars}
    return {"strategies": [{"class": f"{Scripted.__module__}:{Scripted.__name__}", "params": params}]}


def half_faulty(for_s: float, share: float = 0.5) -> list[dict[str, Any]]:
    """Faults that strike this share of all order requests, each kind of unknown outcome as often as the others.

    The order executes or not, the answer says nothing or never comes, the order executes 1.5 s later, or queries do not
    know it for up to 1.5 s.
    """
    kinds: Sequence[tuple[str, dict[str, Any]]] = (
        ("V01", {}),
        ("V02", {}),
        ("V03", {"hang_s": 60.0}),
        ("V04", {"hang_s": 60.0}),
        ("V05", {"late_s": 1.5}),
        ("V11", {"hide_s": 1.5, "events": True, "answer": "503"}),
        ("V11", {"hide_s": 0.8, "answer": "hang", "hang_s": 60.0}),
    )
    left, faults = 1.0, []
    for name, params in kinds:  # the first rule that strikes decides: each is asked about what the others left
        probability = share / len(kinds) / left
        left *= 1.0 - probability
        faults.append({"fault": name, "on": "submit", "probability": probability, "for_s": for_s, "params": params})
    return faults
