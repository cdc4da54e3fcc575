"""A tradable contract: its grids, limits, fees and margin brackets, and the only door from float to Decimal."""

from decimal import Decimal
from math import ceil, floor

import msgspec

from tidegate.domain.ids import InstrumentId
from tidegate.domain.margin import Bracket

ZERO = Decimal(0)


class Instrument(msgspec.Struct, frozen=True):
    """One perpetual contract. Prices in quote units per base unit, quantities in base units.

    ``tick`` and ``step`` govern our own limit and trigger prices and our quantities (Binance filters PRICE_FILTER,
    LOT_SIZE, MARKET_LOT_SIZE, MIN_NOTIONAL, PERCENT_PRICE); history may be printed on another price grid.
    """

    id: InstrumentId
    base: str
    quote: str
    tick: Decimal
    step: Decimal
    min_qty: Decimal
    max_qty: Decimal
    market_max_qty: Decimal
    min_notional: Decimal
    min_price: Decimal
    max_price: Decimal
    brackets: tuple[Bracket, ...]
    maker_fee: Decimal = Decimal("0.0002")
    taker_fee: Decimal = Decimal("0.0005")
    liquidation_fee: Decimal = Decimal("0.0125")
    price_band_frac: float = 0.05  # a limit may lie this far on the aggressive side of the mark

    def price(self, value: float, *, up: bool) -> Decimal:
        """``value`` on the tick grid, rounded up or down, inside the permitted prices.

        The nearest tick is taken when the value lies within a millionth of a tick of it, so that a float that
        stands for a grid price is that grid price.
        """
        return min(max(_on_grid(value, self.tick, up=up), self.min_price), self.max_price)

    def qty(self, value: float) -> Decimal:
        """The size of ``value`` on the lot grid, rounded toward zero, the sign kept. Never above ``max_qty``."""
        size = min(_on_grid(abs(value), self.step, up=False), self.max_qty)
        return -size if value < 0 else size


def _on_grid(value: float, grid: Decimal, *, up: bool) -> Decimal:
    steps = value / float(grid)
    nearest = round(steps)
    if abs(steps - nearest) > max(1e-6, 1e-15 * steps):  # float noise grows with the count
        nearest = ceil(steps) if up else floor(steps)
    return nearest * grid
