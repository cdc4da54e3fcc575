"""A local order book kept from a snapshot and diffs, by the futures rules of the venue.

1. A snapshot is loaded with its last update id.
2. Diffs that end before that id are stale and ignored.
3. The first diff that is applied must hold the id: ``first_id <= last_id of the snapshot <= last_id``.
4. Every later diff must name the last id of the one before it (``previous_id``); anything else is a gap.
5. Quantities are absolute: zero removes a level, removing an unknown level is normal.

A book that saw a gap, a crossed or locked top, a bad level or an absurd jump is not valid any more, and says nothing
until it is loaded again. Source: Binance USD-M, "How to manage a local order book correctly".
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from enum import Enum
from math import inf

import msgspec

from tidegate.domain.errors import InvariantBroken

Level = tuple[float, float]
"""Price and absolute quantity in base units."""


class BookOutcome(Enum):
    """What a snapshot or a diff did to the book."""

    APPLIED = "APPLIED"
    STALE = "STALE"  # older than the snapshot: ignored, the book stands
    GAP = "GAP"
    CROSSED = "CROSSED"  # best bid at or above best ask
    BAD_LEVEL = "BAD_LEVEL"  # a price that is not positive and finite, a quantity that is negative or no number
    ABSURD = "ABSURD"  # the middle jumped further than a market does
    NOT_LOADED = "NOT_LOADED"


_HARMLESS = frozenset((BookOutcome.APPLIED, BookOutcome.STALE))


class Walk(msgspec.Struct, frozen=True):
    """What taking a quantity from one side would give: as far as the known levels reach."""

    qty: float
    average: float
    worst: float


class OrderBook:
    """Both sides of one instrument. Prices and quantities are observations: float64."""

    __slots__ = ("_ask_prices", "_asks", "_bid_prices", "_bids", "_joined", "last_id", "max_jump_frac", "valid")

    def __init__(self, max_jump_frac: float = 0.5) -> None:
        self.max_jump_frac = max_jump_frac
        self.last_id = 0
        self.valid = False
        self._joined = False
        self._bids: dict[float, float] = {}
        self._asks: dict[float, float] = {}
        self._bid_prices: list[float] = []  # ascending: the best bid is the last
        self._ask_prices: list[float] = []  # ascending: the best ask is the first

    def __len__(self) -> int:
        return len(self._bids) + len(self._asks)

    def load(self, last_id: int, bids: Sequence[Level], asks: Sequence[Level]) -> BookOutcome:
        """Start anew from a snapshot; not valid before a diff has joined it. Zero quantities are left out."""
        self.drop()
        if not all(0.0 < price < inf and 0.0 <= qty < inf for side in (bids, asks) for price, qty in side):
            return BookOutcome.BAD_LEVEL
        self._bids = {price: qty for price, qty in bids if qty}
        self._asks = {price: qty for price, qty in asks if qty}
        self._bid_prices = sorted(self._bids)
        self._ask_prices = sorted(self._asks)
        if self._crossed():
            self.drop()
            return BookOutcome.CROSSED
        self.last_id = last_id
        return BookOutcome.APPLIED

    def drop(self) -> None:
        """Forget everything."""
        self.valid = self._joined = False
        self.last_id = 0
        self._bids, self._asks = {}, {}
        self._bid_prices, self._ask_prices = [], []

    def apply(
        self, first_id: int, last_id: int, previous_id: int, bids: Sequence[Level], asks: Sequence[Level]
    ) -> BookOutcome:
        """Apply one diff. Whatever is neither ``APPLIED`` nor ``STALE`` drops the book."""
        if self._joined:
            if previous_id != self.last_id:
                return self._break(BookOutcome.GAP)
            before = self._middle()
        else:
            if not self.last_id:
                return BookOutcome.NOT_LOADED
            if last_id < self.last_id:
                return BookOutcome.STALE
            if first_id > self.last_id:
                return self._break(BookOutcome.GAP)
            before = self._middle()
        if not (_merge(self._bids, self._bid_prices, bids) and _merge(self._asks, self._ask_prices, asks)):
            return self._break(BookOutcome.BAD_LEVEL)
        if self._crossed():
            return self._break(BookOutcome.CROSSED)
        after = self._middle()
        if before and after and abs(after - before) > self.max_jump_frac * before:
            return self._break(BookOutcome.ABSURD)
        self.last_id = last_id
        self._joined = self.valid = True
        return BookOutcome.APPLIED

    def best_bid(self) -> Level | None:
        """The highest bid; ``None`` when nobody bids. Raises ``InvariantBroken`` while the book is not valid."""
        self._check()
        return (self._bid_prices[-1], self._bids[self._bid_prices[-1]]) if self._bid_prices else None

    def best_ask(self) -> Level | None:
        """The lowest ask; ``None`` when nobody asks. Raises ``InvariantBroken`` while the book is not valid."""
        self._check()
        return (self._ask_prices[0], self._asks[self._ask_prices[0]]) if self._ask_prices else None

    def ladder(self, levels: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """The best ``levels`` of bids and of asks, best first. Raises ``InvariantBroken`` while not valid."""
        self._check()
        bids, asks = self._bids, self._asks
        return (
            tuple((price, bids[price]) for price in self._bid_prices[: -levels - 1 : -1]),
            tuple((price, asks[price]) for price in self._ask_prices[:levels]),
        )

    def walk(self, qty: float, *, buy: bool) -> Walk:
        """Take ``qty`` base units, best level first. The answer's ``qty`` is less when the known levels run out.

        Raises ``InvariantBroken`` while the book is not valid, ``ValueError`` for a quantity that is not positive.
        """
        self._check()
        if not qty > 0:
            raise ValueError(f"a quantity to take must be positive, not {qty!r}")
        side, prices = (self._asks, self._ask_prices) if buy else (self._bids, self._bid_prices[::-1])
        left, paid, worst = qty, 0.0, 0.0
        for price in prices:
            worst = price
            taken = min(left, side[price])
            paid += taken * price
            left -= taken
            if left <= 0:
                break
        filled = qty - left
        return Walk(filled, paid / filled if filled else 0.0, worst)

    def _check(self) -> None:
        if not self.valid:
            raise InvariantBroken("the order book was used while it is not valid")

    def _break(self, outcome: BookOutcome) -> BookOutcome:
        self.drop()
        return outcome

    def _crossed(self) -> bool:
        return bool(self._bid_prices and self._ask_prices and self._bid_prices[-1] >= self._ask_prices[0])

    def _middle(self) -> float:
        if self._bid_prices and self._ask_prices:
            return (self._bid_prices[-1] + self._ask_prices[0]) / 2
        return 0.0


def breaks(outcome: BookOutcome) -> bool:
    """True when the book must be built again."""
    return outcome not in _HARMLESS


def _merge(side: dict[float, float], prices: list[float], levels: Sequence[Level]) -> bool:
    """Write absolute quantities into one side; False at the first level that makes no sense."""
    for price, qty in levels:
        if qty > 0.0:
            if price not in side:
                if not 0.0 < price < inf:
                    return False
                insort(prices, price)
            side[price] = qty
        elif qty == 0.0:
            if side.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]
        else:
            return False
    return True
