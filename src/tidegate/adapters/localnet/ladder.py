"""The visible book of one symbol: levels around the touch, and the differences that depth streams tell.

Prices are counts of ticks and quantities counts of steps. Levels lie on fixed multiples of a spacing, so that most of
the book stays when the touch moves. Update ids are shared by the whole exchange in production, hence they jump here:
``U`` is larger than the last ``u`` plus one. A snapshot carries the id with which the coming event begins, so that
the first event to apply satisfies ``U <= lastUpdateId <= u``.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

Side = dict[int, int]
"""Quantity by price, both counted in the grids of the contract."""

_CHURN: Final = 2  # levels per side whose quantity changes at an update
_SPACING_FRAC: Final = 0.00005


@dataclass(frozen=True, slots=True)
class DepthChange:
    """What one depth event says: ids and the absolute quantities of changed levels (zero: gone)."""

    first_id: int
    last_id: int
    previous_id: int
    bids: Side
    asks: Side


class DepthFeed:
    """Collects the changes of a ladder between two events of one stream. Made by ``Ladder.watch``."""

    __slots__ = ("_asks", "_bids", "_first_id", "_last_id", "_told_id")

    def __init__(self, told_id: int) -> None:
        self._told_id = told_id
        self._first_id = self._last_id = 0
        self._bids: Side = {}
        self._asks: Side = {}

    def add(self, first_id: int, last_id: int, bids: Side, asks: Side) -> None:
        """Take note of one update of the ladder."""
        self._first_id = self._first_id or first_id
        self._last_id = last_id
        self._bids.update(bids)
        self._asks.update(asks)

    def take(self) -> DepthChange | None:
        """Everything since the last call as one event; ``None`` when nothing happened."""
        if not self._first_id:
            return None
        change = DepthChange(self._first_id, self._last_id, self._told_id, self._bids, self._asks)
        self._told_id, self._first_id = self._last_id, 0
        self._bids, self._asks = {}, {}
        return change


class Ladder:
    """``levels`` prices on each side of the touch."""

    __slots__ = ("_feeds", "_levels", "_rng", "asks", "bids", "last_id", "next_id", "previous_id")

    def __init__(self, rng: Random, levels: int) -> None:
        self._rng = rng
        self._levels = levels
        self._feeds: list[DepthFeed] = []
        self.bids: Side = {}
        self.asks: Side = {}
        self.previous_id = self.last_id = rng.randrange(10**9, 10**10)
        self.next_id = self.last_id + rng.randrange(2, 9)

    @property
    def watched(self) -> bool:
        """Whether a stream wants the changes."""
        return bool(self._feeds)

    def watch(self) -> DepthFeed:
        """A feed of the changes from now on."""
        feed = DepthFeed(self.last_id)
        self._feeds.append(feed)
        return feed

    def unwatch(self, feed: DepthFeed) -> None:
        """End a feed."""
        self._feeds.remove(feed)

    def move(self, bid: int, bid_qty: int, ask: int, ask_qty: int) -> bool:
        """Put the touch where it is and the levels behind it. Returns whether anything changed."""
        spacing = max(1, round(bid * _SPACING_FRAC))
        bids = self._side(self.bids, bid, bid_qty, spacing, down=True)
        asks = self._side(self.asks, ask, ask_qty, spacing, down=False)
        gone_bids, gone_asks = _changes(self.bids, bids), _changes(self.asks, asks)
        changed = len(gone_bids) + len(gone_asks)
        if not changed:
            return False
        self.bids, self.asks = bids, asks
        first_id, self.previous_id = self.next_id, self.last_id
        self.last_id = first_id + changed + self._rng.randrange(3)
        self.next_id = self.last_id + self._rng.randrange(2, 9)
        for feed in self._feeds:
            feed.add(first_id, self.last_id, gone_bids, gone_asks)
        return True

    def top(self, limit: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The best ``limit`` levels of bids and asks, best first."""
        bids = sorted(self.bids.items(), reverse=True)[:limit]
        return bids, sorted(self.asks.items())[:limit]

    def _side(self, before: Side, touch: int, touch_qty: int, spacing: int, *, down: bool) -> Side:
        """Levels of one side, best first; only a few of those that stay get another quantity."""
        if down:
            first = (touch - 1) // spacing * spacing
            prices = range(first, max(0, first - spacing * (self._levels - 1)), -spacing)
        else:
            first = touch // spacing * spacing + spacing
            prices = range(first, first + spacing * (self._levels - 1), spacing)
        side = {touch: touch_qty}
        for price in prices:
            side[price] = before.get(price) or self._quantity(touch_qty)
        if before and before.get(touch) != touch_qty and prices:
            for _ in range(_CHURN):
                side[prices[self._rng.randrange(len(prices))]] = self._quantity(touch_qty)
        return side

    def _quantity(self, touch_qty: int) -> int:
        return max(1, int(touch_qty * (0.4 + 1.6 * self._rng.random())))


def _changes(before: Side, after: Side) -> Side:
    changed = {price: qty for price, qty in after.items() if before.get(price) != qty}
    changed.update((price, 0) for price in before if price not in after)
    return changed
