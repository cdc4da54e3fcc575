"""Margins of an account to the cent, as a venue states them and as it judges new orders by them.

Source: ``domain/margin`` for the maintenance brackets; initial margins are notional over leverage at the mark price,
and open orders are charged for the larger of what the position becomes when all buys, or all sells, fill.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from math import isinf

from tidegate.domain.ids import InstrumentId
from tidegate.domain.ledger import CENT, ROUNDED, ZERO
from tidegate.domain.margin import Bracket, bracket_of
from tidegate.domain.orders import Side


def max_notional(brackets: Sequence[Bracket], leverage: int) -> Decimal:
    """The largest position, in quote units, that a leverage allows: the end of the last bracket that offers it."""
    caps = [bracket.cap_usdt for bracket in brackets if bracket.max_leverage >= leverage]
    largest = max(caps, default=0.0)
    return Decimal("1E+15") if isinf(largest) else Decimal(repr(largest))


class LegMargin:
    """One position and its open orders. Quantities in base units, money in quote units."""

    def __init__(
        self,
        *,
        brackets: Sequence[Bracket],
        qty: Decimal,
        cost: Decimal,
        mark: Decimal,
        leverage: int,
        isolated: bool,
        isolated_wallet: Decimal,
        buys: Decimal,
        sells: Decimal,
        buy_notional: Decimal,
        sell_notional: Decimal,
    ) -> None:
        self.brackets = brackets
        self.qty = qty
        self.cost = cost
        self.mark = mark
        self.leverage = leverage
        self.isolated = isolated
        self.isolated_wallet = isolated_wallet
        self.buys = buys
        self.sells = sells
        self.buy_notional = buy_notional
        self.sell_notional = sell_notional

    def exposure_with(self, side: Side, qty: Decimal) -> Decimal:
        """The larger of the two positions that the open orders and one more could make, in base units."""
        buys = self.buys + (qty if side is Side.BUY else ZERO)
        sells = self.sells + (ZERO if side is Side.BUY else qty)
        return max(abs(self.qty + buys), abs(self.qty - sells))

    @property
    def exposure(self) -> Decimal:
        """The larger of the two positions that the open orders could make."""
        return max(abs(self.qty + self.buys), abs(self.qty - self.sells))

    @property
    def notional(self) -> Decimal:
        """Signed, at the mark price."""
        return self.qty * self.mark

    @property
    def unrealised(self) -> Decimal:
        """The open result at the mark price."""
        return _cent(self.notional - self.cost)

    @property
    def position_initial(self) -> Decimal:
        """Initial margin of the position."""
        return _cent(abs(self.notional) / self.leverage)

    @property
    def orders_initial(self) -> Decimal:
        """Initial margin of the open orders."""
        return _cent((self.exposure - abs(self.qty)) * self.mark / self.leverage)

    @property
    def initial(self) -> Decimal:
        """Initial margin of both."""
        return self.position_initial + self.orders_initial

    @property
    def bracket(self) -> Bracket:
        """The bracket of the position's notional."""
        return bracket_of(self.brackets, float(abs(self.notional)))

    @property
    def maintenance(self) -> Decimal:
        """Maintenance margin of the position."""
        if not self.qty:
            return ZERO
        rate, cum = Decimal(repr(self.bracket.maintenance_frac)), Decimal(repr(self.bracket.cum_usdt))
        return _cent(abs(self.notional) * rate - cum)

    @property
    def isolated_margin(self) -> Decimal:
        """Isolated wallet and open result; zero for a cross position."""
        return self.isolated_wallet + self.unrealised if self.isolated and self.qty else ZERO


class Margins:
    """The sums over an account. ``legs`` are those that hold a position or have open orders."""

    def __init__(self, wallet: Decimal, legs: Mapping[InstrumentId, LegMargin]) -> None:
        self.wallet = wallet
        self.legs = legs

    @cached_property
    def cross_wallet(self) -> Decimal:
        """The wallet without what isolated positions hold."""
        return self.wallet - sum((leg.isolated_wallet for leg in self.legs.values()), ZERO)

    @cached_property
    def unrealised(self) -> Decimal:
        """Open results of all positions."""
        return sum((leg.unrealised for leg in self.legs.values()), ZERO)

    @cached_property
    def cross_unrealised(self) -> Decimal:
        """Open results of the cross positions."""
        return sum((leg.unrealised for leg in self.legs.values() if not leg.isolated), ZERO)

    @cached_property
    def position_initial(self) -> Decimal:
        """Initial margin of all positions."""
        return sum((leg.position_initial for leg in self.legs.values()), ZERO)

    @cached_property
    def orders_initial(self) -> Decimal:
        """Initial margin of all open orders."""
        return sum((leg.orders_initial for leg in self.legs.values()), ZERO)

    @cached_property
    def maintenance(self) -> Decimal:
        """Maintenance margin of all positions."""
        return sum((leg.maintenance for leg in self.legs.values()), ZERO)

    @cached_property
    def available(self) -> Decimal:
        """What new orders may use: cross balance less the initial margins that rest on it; never negative."""
        cross = sum((leg.position_initial for leg in self.legs.values() if not leg.isolated), ZERO)
        return max(ZERO, self.cross_wallet + self.cross_unrealised - cross - self.orders_initial)


def _cent(amount: Decimal) -> Decimal:
    return ROUNDED.quantize(amount, CENT)
