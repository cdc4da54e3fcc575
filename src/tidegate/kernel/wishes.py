"""StrategyManager: runs the strategies, keeps each one's standing wish, and forgets the wish whose stop was hit.

A wish stands until the strategy states another. When the stop that protected it fills, it is spent: it counts as flat
until the strategy itself says flat or the other side. A strategy that raises, or wishes for what is no number, is
switched off and reported; the others go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from traceback import extract_tb
from typing import Protocol

from tidegate.domain.errors import ConfigError
from tidegate.domain.ids import InstrumentId, Nanos, StrategyId
from tidegate.domain.signals import Signal
from tidegate.kernel.feeders import FeatureFeed
from tidegate.portfolio.construction import Wish
from tidegate.strategies.base import BaseStrategy, View


class Feeder(Protocol):
    """Sets a strategy up and keeps its features: by steps, or from scanned chunks."""

    def attach(self, strategy: BaseStrategy, instrument: InstrumentId, interval_ns: Nanos) -> FeatureFeed: ...


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A configured strategy: a prototype (each instrument gets a fresh instance) and the instruments it trades."""

    id: StrategyId
    strategy: BaseStrategy
    instruments: tuple[InstrumentId, ...]


@dataclass(slots=True)
class Slot:
    """One strategy on one instrument."""

    id: StrategyId
    instrument: InstrumentId
    strategy: BaseStrategy
    feed: FeatureFeed
    budget: float
    wish: Signal | None = None
    standing: Wish = field(default_factory=lambda: Wish(0.0, None, 0.0))
    spent_side: int = 0
    fault: str | None = None

    def restate(self) -> None:
        """Make the standing wish anew from the stated one."""
        if self.wish is None or self.spent_side or self.fault is not None:
            self.standing = Wish(0.0, None, self.budget)
        else:
            self.standing = Wish(self.wish.strength, self.wish.stop, self.budget)


class StrategyManager:
    """All slots, by instrument. Budgets are equal: one share per strategy, split over its instruments."""

    def __init__(self, specs: Sequence[StrategySpec], feeder: Feeder, interval_ns: Nanos) -> None:
        self.slots: dict[InstrumentId, list[Slot]] = {}
        for spec in specs:
            budget = 1.0 / (len(specs) * len(spec.instruments))
            for instrument in spec.instruments:
                strategy = spec.strategy.fresh()
                try:
                    feed = feeder.attach(strategy, instrument, interval_ns)
                except (TypeError, ValueError, RuntimeError, AttributeError) as error:
                    raise ConfigError(f"strategy {spec.id}: {error}") from error
                slot = Slot(spec.id, instrument, strategy, feed, budget)
                slot.restate()
                self.slots.setdefault(instrument, []).append(slot)

    def decide(self, slot: Slot, view: View) -> bool:
        """Ask a strategy; True when its wish or its health changed."""
        if slot.fault is not None:
            return False
        try:
            signal = slot.strategy.decide(view)
            if signal is None or signal == slot.wish:
                return False
        except (Exception, SystemExit) as error:  # a guest: whatever it raises ends the strategy, not the daemon
            where = extract_tb(error.__traceback__)[-1]
            slot.fault = f"{type(error).__name__}: {error} ({where.filename.rpartition('/')[2]}:{where.lineno})"
            slot.restate()
            return True
        slot.fault = _complaint(signal)
        if slot.fault is None:
            slot.wish = signal
            if slot.spent_side and signal.strength * slot.spent_side <= 0.0:
                slot.spent_side = 0
        slot.restate()
        return True

    def spend(self, instrument: InstrumentId, side: int) -> None:
        """The stop of a position of this side was hit: the wishes that agreed with it count as flat from now on."""
        for slot in self.slots.get(instrument, ()):
            if slot.standing.strength * side > 0.0:
                slot.spent_side = side
                slot.restate()

    def dump(self) -> object:
        return [
            {
                "id": slot.id,
                "instrument": slot.instrument,
                "feed": slot.feed.dump(),
                "wish": slot.wish,
                "spent_side": slot.spent_side,
                "fault": slot.fault,
            }
            for slots in self.slots.values()
            for slot in slots
        ]

    def bars_known(self, instrument: InstrumentId, interval_ns: Nanos) -> tuple[Nanos, int]:
        """The end of the last bar that every slot has had (0 when there is none), and the longest memory, in bars."""
        slots = self.slots.get(instrument, ())
        last_ns = min((slot.feed.last_ns for slot in slots), default=0)
        return last_ns, max((slot.strategy.memory_bars(interval_ns) for slot in slots), default=0)

    def slot(self, name: StrategyId, instrument: InstrumentId) -> Slot | None:
        """The slot of a strategy on an instrument."""
        return next((slot for slot in self.slots.get(instrument, ()) if slot.id == name), None)


_NUMBERS = frozenset((float, int))
_STOPS = _NUMBERS | {type(None)}
_NO_PRICE = 1e300  # beyond it products with a price are no numbers any more


def _complaint(signal: object) -> str | None:
    """Why a signal cannot be used."""
    if type(signal) is not Signal:
        return f"decide returned {type(signal).__name__}, not a Signal"
    if type(signal.strength) not in _NUMBERS or type(signal.stop) not in _STOPS:
        kinds = f"{type(signal.strength).__name__} and {type(signal.stop).__name__}"
        return f"strength and stop are {kinds}, not plain floats; float() makes them so"
    if not abs(signal.strength) <= 1.0:
        return f"strength {signal.strength} is not in [-1, 1]"
    if signal.stop is not None and not 0.0 < signal.stop < _NO_PRICE:
        return f"stop {signal.stop} is no price"
    return None
