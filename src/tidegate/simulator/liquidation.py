"""The act of liquidation; the arithmetic of margin is ``domain/margin``."""

from collections.abc import Callable

import msgspec

from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import maintenance


class MarginState(msgspec.Struct, frozen=True, gc=False):
    """Margin balance (wallet and open results) and the maintenance margin that it must stay above, in USDT."""

    balance: float
    maintenance: float

    @staticmethod
    def of_position(instrument: Instrument, qty: float, price: float) -> float:
        """Maintenance margin of one position at a mark price."""
        return maintenance(instrument.brackets, abs(qty) * price)


def margin_used_up(state: MarginState) -> bool:
    """Binance: liquidation starts when the margin balance is at or below the maintenance margin."""
    return state.balance <= state.maintenance


def takeover_price(state_at: Callable[[float], MarginState], opened: float, worst: float) -> float:
    """The mark price inside ``[opened, worst]`` at which the margin was used up; the open itself when it gapped.

    Bisection: between the two the balance less maintenance is monotone, one position moving and the others at rest.
    """
    if margin_used_up(state_at(opened)):
        return opened
    alive, dead = opened, worst
    for _ in range(60):
        middle = (alive + dead) / 2.0
        if margin_used_up(state_at(middle)):
            dead = middle
        else:
            alive = middle
    return dead
