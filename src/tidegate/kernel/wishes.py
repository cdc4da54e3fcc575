"""StrategyManager: runs the strategies, keeps each one's standing wish, and forgets the wish whose stop was hit.

1. A wish stands until the strategy states another.
2. While its side is unchanged its stop only tightens: each wish has a trail of its own, so that the tight stop of one
   strategy is gone when that strategy has left, and the others are protected by theirs.
3. When a stop fills, the wishes whose trail it reached are spent: they count as flat until the strategy itself says
   flat or the other side. Where one strategy alone holds the side, it is that one.
4. A strategy that raises, or wishes for what is no number, is switched off and reported; the others go on.
5. A cross-sectional strategy has a slot with features on each instrument and decides for all of them at the close.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from traceback import extract_tb
from typing import Protocol

from tidegate.domain.errors import ConfigError
from tidegate.domain.ids import InstrumentId, Nanos, StrategyId
from tidegate.domain.market import Bar
from tidegate.domain.signals import Signal
from tidegate.kernel.feeders import FeatureFeed
from tidegate.portfolio.construction import Wish
from tidegate.strategies.base import BaseStrategy, CrossSectionalStrategy, Strategy, View


class Feeder(Protocol):
    """Sets a strategy up and keeps its features: by steps, or from scanned chunks."""

    def attach(self, strategy: Strategy, instrument: InstrumentId, interval_ns: Nanos) -> FeatureFeed: ...


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A configured strategy: a prototype (each instrument gets a fresh instance) and the instruments it trades."""

    id: StrategyId
    strategy: Strategy
    instruments: tuple[InstrumentId, ...]


@dataclass(slots=True)
class Slot:
    """One strategy on one instrument. ``trail`` is the tightest stop that its wish has had on this side."""

    id: StrategyId
    instrument: InstrumentId
    strategy: Strategy
    feed: FeatureFeed
    budget: float
    wish: Signal | None = None
    standing: Wish = field(default_factory=lambda: Wish(0.0, None, 0.0))
    spent_side: int = 0
    fault: str | None = None
    trail: float | None = None
    across: bool = False  # part of a decision over many instruments, which needs the last bar that was warm
    bar: Bar | None = None

    def restate(self) -> None:
        """Make the standing wish anew from the stated one."""
        wish, before = self.wish, self.standing
        if wish is None or self.spent_side or self.fault is not None:
            self.standing, self.trail = Wish(0.0, None, self.budget), None
            return
        stop, side = wish.stop, wish.strength
        new = stop is None or self.trail is None or side * before.strength <= 0.0
        if new or (stop is not None and self.trail is not None and (stop - self.trail) * side > 0.0):
            self.trail = stop
        self.standing = Wish(side, stop, self.budget)


@dataclass(slots=True)
class Section:
    """A cross-sectional strategy: the instance that decides, and its slots."""

    id: StrategyId
    leader: CrossSectionalStrategy
    slots: dict[InstrumentId, Slot]

    @property
    def fault(self) -> str | None:
        """Why it was switched off."""
        return next((slot.fault for slot in self.slots.values() if slot.fault is not None), None)


class StrategyManager:
    """All slots, by instrument. Budgets are equal, a part per strategy, split over its instruments, until ``share``."""

    def __init__(self, specs: Sequence[StrategySpec], feeder: Feeder, interval_ns: Nanos) -> None:
        self.slots: dict[InstrumentId, list[Slot]] = {}
        self.sections: list[Section] = []
        for spec in specs:
            budget = 1.0 / (len(specs) * len(spec.instruments))
            legs: dict[InstrumentId, Slot] = {}
            for instrument in spec.instruments:
                strategy = spec.strategy.fresh()
                try:
                    feed = feeder.attach(strategy, instrument, interval_ns)
                except (TypeError, ValueError, RuntimeError, AttributeError) as error:
                    raise ConfigError(f"strategy {spec.id}: {error}") from error
                slot = Slot(spec.id, instrument, strategy, feed, budget)
                slot.across = not isinstance(strategy, BaseStrategy)
                slot.restate()
                legs[instrument] = slot
                self.slots.setdefault(instrument, []).append(slot)
            if isinstance(spec.strategy, CrossSectionalStrategy):
                self.sections.append(_section(spec.id, spec.strategy, legs))

    def decide(self, slot: Slot, view: View) -> bool:
        """Ask a strategy; True when its wish or its health changed."""
        strategy = slot.strategy
        if slot.fault is not None or not isinstance(strategy, BaseStrategy):
            return False
        try:
            signal = strategy.decide(view)
            if signal is None or signal == slot.wish:
                return False
        except (Exception, SystemExit) as error:  # a guest: whatever it raises ends the strategy, not the daemon
            slot.fault = _failure(error)
            slot.restate()
            return True
        return self._wished(slot, signal)

    def decide_section(self, section: Section, views: Mapping[InstrumentId, View]) -> list[Slot]:
        """Ask a strategy about all its instruments; the slots whose wish or health changed."""
        if section.fault is not None or not views:
            return []
        try:
            wishes = dict(section.leader.decide(views))
            complaint = next(
                (f"it wishes for {name}, of which it has no view" for name in wishes if name not in views), ""
            )
        except (Exception, SystemExit) as error:  # as above
            wishes, complaint = {}, _failure(error)
        if not complaint:
            return [
                section.slots[name]
                for name, signal in wishes.items()
                if signal != section.slots[name].wish and self._wished(section.slots[name], signal)
            ]
        for slot in section.slots.values():
            slot.fault = complaint
            slot.restate()
        return list(section.slots.values())

    def share(self, budgets: Mapping[StrategyId, float], live: Mapping[InstrumentId, object]) -> list[Slot]:
        """Give each strategy its part of the risk budget, split over its instruments that are live; those changed."""
        changed: list[Slot] = []
        counts: dict[StrategyId, int] = {}
        everywhere = [slot for slots in self.slots.values() for slot in slots]
        for slot in everywhere:
            counts[slot.id] = counts.get(slot.id, 0) + (slot.instrument in live)
        for slot in everywhere:
            budget = budgets.get(slot.id, 0.0) / counts[slot.id] if slot.instrument in live else 0.0
            if budget != slot.budget:
                slot.budget = budget
                slot.standing = Wish(slot.standing.strength, slot.standing.stop, budget)
                changed.append(slot)
        return changed

    def spend(self, instrument: InstrumentId, side: int, level: float | None = None) -> None:
        """The stop of a position of this side was hit at ``level``: the wishes that it protected count as flat.

        Those are the ones whose trail lies at the level or nearer; without a level, or when no trail was reached, all
        that agreed with the position.
        """
        slots = self.slots.get(instrument, ())
        agreed = [slot for slot in slots if slot.standing.strength * side > 0.0]
        reached = [
            slot
            for slot in agreed
            if level is not None and slot.trail is not None and (slot.trail - level) * side >= -_NEAR * level
        ]
        if not reached and level is not None and any(slot.spent_side == side for slot in slots):
            return  # the rest of a stop whose first executions have spent what it protected
        for slot in reached or agreed:
            slot.spent_side = side
            slot.restate()

    @staticmethod
    def _wished(slot: Slot, signal: Signal) -> bool:
        slot.fault = _complaint(signal)
        if slot.fault is None:
            slot.wish = signal
            if slot.spent_side and signal.strength * slot.spent_side <= 0.0:
                slot.spent_side = 0
        slot.restate()
        return True

    def dump(self) -> object:
        return [
            {
                "id": slot.id,
                "instrument": slot.instrument,
                "feed": slot.feed.dump(),
                "wish": slot.wish,
                "spent_side": slot.spent_side,
                "fault": slot.fault,
                "trail": slot.trail,
                "budget": slot.budget,
                "bar": slot.bar,
            }
            for slots in self.slots.values()
            for slot in slots
        ]

    def dump_sections(self) -> dict[StrategyId, bytes | None]:
        """The memories of the strategies that decide for many instruments."""
        return {section.id: section.leader.dump_memory() for section in self.sections}

    def load_sections(self, memories: Mapping[StrategyId, bytes | None]) -> None:
        """Give them back. Raises ``KeyError`` or ``ValueError`` when they are of other strategies."""
        for section in self.sections:
            section.leader.load_memory(memories[section.id])

    def bars_known(self, instrument: InstrumentId, interval_ns: Nanos) -> tuple[Nanos, int]:
        """The end of the last bar that every slot has had (0 when there is none), and the longest memory, in bars."""
        slots = self.slots.get(instrument, ())
        last_ns = min((slot.feed.last_ns for slot in slots), default=0)
        return last_ns, max((slot.strategy.memory_bars(interval_ns) for slot in slots), default=0)

    def slot(self, name: StrategyId, instrument: InstrumentId) -> Slot | None:
        """The slot of a strategy on an instrument."""
        return next((slot for slot in self.slots.get(instrument, ()) if slot.id == name), None)


def _section(name: StrategyId, prototype: CrossSectionalStrategy, slots: dict[InstrumentId, Slot]) -> Section:
    leader = prototype.fresh()
    leader.lead({each: slot.strategy for each, slot in slots.items() if isinstance(slot.strategy, type(leader))})
    return Section(name, leader, slots)


def _failure(error: BaseException) -> str:
    where = extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.filename.rpartition('/')[2]}:{where.lineno})"


_NEAR = 0.006
"""How near to the hit level, as a share of it, a trail counts as reached: a stop follows by steps, not every tick."""

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
