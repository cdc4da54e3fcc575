"""Protective stops: every position has one at the venue, confirmed and of the right size.

1. The level is the strategies' nearest stop, or the disaster stop at a fraction of the entry price.
2. While the side is unchanged the level only tightens; where several wishes share a position each brings a trail of
   its own, and the level is the nearest of those that are still there.
3. A new size or a tighter level places a new stop first; the old one is cancelled when the new one is confirmed,
   never the reverse. Stops carry quantity and reduce-only, so both may rest for a moment.
4. A stop that the price has already passed is no stop: the position is closed at the market at once.
5. When the position is flat, whatever is left is cancelled.
6. While nobody knows whether a stop was taken, one spare may be placed beside it, and no more than one.
7. A new stop that is refused while the old one still covers the position leaves the old one in place.
"""

from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.instrument import Instrument
from tidegate.domain.orders import CancelOrder, OrderIntent, OrderType, Purpose, Side

_SMALLEST_STEP_FRAC = 0.0005
"""A tighter level replaces the resting stop only when it is nearer by this share of the price: a stop that follows
every wiggle would spend the venue's order limits on nothing."""

_LOOSER_STEP_FRAC = 0.005
"""A level further away replaces it only by this much: being a little too well protected is no reason to move."""


class ProtectionSettings(msgspec.Struct, frozen=True):
    """``enabled`` is False only where a configuration says ``protection: none``."""

    enabled: bool = True
    disaster_stop_frac: float = 0.15


@dataclass(slots=True)
class Guard:
    """The protection of one instrument: its level, the stop that rests, and the one that is on its way."""

    side: int = 0
    level: float = 0.0
    resting: ClientOrderId | None = None
    resting_qty: Decimal = Decimal(0)
    resting_level: float = 0.0
    pending: ClientOrderId | None = None
    pending_qty: Decimal = Decimal(0)
    pending_level: float = 0.0
    stale: list[ClientOrderId] = field(default_factory=list)
    triggered: bool = False
    spared: bool = False

    def knows(self, name: ClientOrderId) -> bool:
        """True when the stop is one that is kept track of here."""
        return name in (self.resting, self.pending) or name in self.stale


class Protect(msgspec.Struct, frozen=True, gc=False):
    """What to do now: place a stop, close at the market, cancel these."""

    place: OrderIntent | None = None
    flatten: OrderIntent | None = None
    cancels: tuple[CancelOrder, ...] = ()


NOTHING = Protect()


class Protection:
    """Keeps the guards. It proposes intents; the gate approves them and ``placed`` tells it their ids."""

    def __init__(self, settings: ProtectionSettings) -> None:
        self.settings = settings
        self._guards: dict[InstrumentId, Guard] = {}

    def review(
        self,
        instrument: Instrument,
        qty: Decimal,
        entry_price: float | None,
        wish_stop: float | None,
        price: float,
        *,
        trailed: bool = False,
    ) -> Protect:
        """What the position needs now. ``price`` is the last one seen, ``wish_stop`` the strategies' nearest stop;
        ``trailed`` says that it has been tightened already, wish by wish, and is taken as it is."""
        if not self.settings.enabled:
            return NOTHING
        guard = self._guards.setdefault(instrument.id, Guard())
        if qty == 0 or entry_price is None:
            return self._release(instrument.id, guard)
        side = 1 if qty > 0 else -1
        cancels: tuple[CancelOrder, ...] = ()
        if side != guard.side:
            cancels = self._release(instrument.id, guard).cancels
            guard.side, guard.level = side, 0.0
        level = wish_stop if wish_stop is not None else entry_price * (1.0 - side * self.settings.disaster_stop_frac)
        if trailed or guard.level == 0.0 or (level - guard.level) * side > 0.0:
            guard.level = level
        if self._enough(guard, abs(qty), price):
            return Protect(cancels=cancels)
        if (price - guard.level) * side <= 0.0:
            return Protect(flatten=closing(instrument.id, qty), cancels=cancels)
        stop = OrderIntent(
            instrument.id,
            Side.SELL if side > 0 else Side.BUY,
            abs(qty),
            OrderType.STOP_MARKET,
            Purpose.PROTECTION,
            trigger=instrument.price(guard.level, up=side > 0),
            reduce_only=True,
        )
        return Protect(place=stop, cancels=cancels)

    def placed(self, instrument: InstrumentId, name: ClientOrderId, qty: Decimal) -> None:
        """A proposed stop was sent under this id."""
        guard = self._guards[instrument]
        if guard.pending is not None:
            guard.stale.append(guard.pending)
        guard.pending, guard.pending_qty, guard.pending_level = name, qty, guard.level

    def confirmed(self, instrument: InstrumentId, name: ClientOrderId) -> tuple[CancelOrder, ...]:
        """The venue holds the stop: it is the guard now, and the ones before it go."""
        guard = self._guards[instrument]
        if name != guard.pending:
            return ()
        old = [*guard.stale, *([guard.resting] if guard.resting is not None else [])]
        guard.resting, guard.resting_qty, guard.resting_level = name, guard.pending_qty, guard.pending_level
        guard.pending, guard.stale, guard.spared = None, [], False
        return tuple(CancelOrder(each, instrument, conditional=True) for each in old)

    def adopt(self, instrument: InstrumentId, name: ClientOrderId, side: int, qty: Decimal, level: float) -> None:
        """A stop of ours that the venue lists and nothing here knows is the guard of a position of this side."""
        guard = self._guards.setdefault(instrument, Guard())
        if guard.side != side:
            guard.side, guard.level = side, level
        elif (level - guard.level) * side > 0.0:
            guard.level = level
        guard.resting, guard.resting_qty, guard.resting_level = name, qty, level
        if name in guard.stale:
            guard.stale.remove(name)

    def doubt(self, instrument: InstrumentId, name: ClientOrderId) -> bool:
        """Nobody knows whether this stop rests: make room for one spare. False when it is none of the two that count,
        or when a spare was allowed before."""
        guard = self._guards.get(instrument)
        if guard is None or guard.spared or name not in (guard.pending, guard.resting):
            return False
        if name == guard.pending:
            guard.pending = None
        else:
            guard.resting = None
        guard.stale.append(name)
        guard.spared = True
        return True

    def triggered(self, instrument: InstrumentId, name: ClientOrderId) -> None:
        """A stop was triggered and is closing the position: nothing else is placed until it is done."""
        guard = self._guards.get(instrument)
        if guard is not None and name in (guard.resting, guard.pending):
            guard.triggered = True

    def gone(self, instrument: InstrumentId, name: ClientOrderId) -> bool:
        """A stop was filled, cancelled, expired or rejected; True when it was the guard or about to be."""
        guard = self._guards.get(instrument)
        if guard is None:
            return False
        if name in guard.stale:
            guard.stale.remove(name)
        if name == guard.pending:
            guard.pending, guard.triggered = None, False
            return True
        if name == guard.resting:
            guard.resting, guard.triggered = None, False
            return True
        return False

    def covers(self, instrument: InstrumentId, qty: Decimal) -> bool:
        """True when a confirmed stop of the right side covers the whole of a signed position, or is closing it."""
        guard = self._guards.get(instrument)
        if guard is None or guard.side * qty <= 0:
            return qty == 0
        return guard.triggered or (guard.resting is not None and guard.resting_qty >= abs(qty))

    def guard(self, instrument: InstrumentId) -> Guard:
        """The guard of an instrument, to look at."""
        return self._guards.get(instrument) or Guard()

    def level(self, instrument: InstrumentId) -> float | None:
        """The level that is guarded now, None when nothing is."""
        guard = self._guards.get(instrument)
        return guard.level if guard is not None and guard.side else None

    def dump(self) -> object:
        return self._guards

    def load(self, guards: dict[InstrumentId, Guard]) -> None:
        self._guards = guards

    @staticmethod
    def _enough(guard: Guard, qty: Decimal, price: float) -> bool:
        """True when the newest stop has the right size and is near enough to the level."""
        if guard.triggered:
            return True
        if guard.pending is not None:
            size, at = guard.pending_qty, guard.pending_level
        elif guard.resting is not None:
            size, at = guard.resting_qty, guard.resting_level
        else:
            return False
        step = (guard.level - at) * guard.side  # backward only where the wish that was nearest has gone
        return size == qty and -_LOOSER_STEP_FRAC * price <= step <= _SMALLEST_STEP_FRAC * price

    @staticmethod
    def _release(instrument: InstrumentId, guard: Guard) -> Protect:
        """Cancel everything that guards nothing any more."""
        names = [*guard.stale]
        names += [name for name in (guard.resting, guard.pending) if name is not None]
        guard.side, guard.level = 0, 0.0
        guard.resting = guard.pending = None
        guard.stale, guard.triggered, guard.spared = [], False, False
        if not names:
            return NOTHING
        return Protect(cancels=tuple(CancelOrder(name, instrument, conditional=True) for name in names))


def closing(instrument: InstrumentId, held: Decimal) -> OrderIntent:
    """The order that closes a signed position at once; as it only reduces, it cannot flip whatever it races with."""
    side = Side.SELL if held > 0 else Side.BUY
    return OrderIntent(instrument, side, abs(held), OrderType.MARKET, Purpose.FLATTEN, reduce_only=True)
