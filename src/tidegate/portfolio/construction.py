"""From wishes to target weights: equal risk budgets, and the band inside which nothing is traded."""

from collections.abc import Sequence

import msgspec

from tidegate.domain.ids import InstrumentId
from tidegate.domain.signals import TargetWeight


class PortfolioSettings(msgspec.Struct, frozen=True):
    """``gross_leverage`` is the gross notional, as a multiple of equity, when every wish is at full strength;
    ``no_trade_band_frac`` is the share of the held exposure that a target must move before it is traded."""

    gross_leverage: float = 1.0
    no_trade_band_frac: float = 0.1


class Wish(msgspec.Struct, frozen=True, gc=False):
    """One strategy's standing wish for one instrument: strength in [-1, 1], its stop, its share of the budget."""

    strength: float
    stop: float | None
    budget: float


def blend(instrument: InstrumentId, wishes: Sequence[Wish], settings: PortfolioSettings) -> TargetWeight:
    """Net the wishes for one instrument by their budgets.

    Conviction is the budget-weighted mean strength, in [-1, 1]; the weight is the net share of equity. The stop is the
    nearest one among the wishes that agree with the net side: the highest of a long, the lowest of a short.
    """
    net = total = 0.0
    for wish in wishes:
        net += wish.strength * wish.budget
        total += wish.budget
    conviction = net / total if total else 0.0
    stop = nearest_stop([(wish.strength, wish.stop) for wish in wishes], net) if net else None
    return TargetWeight(instrument, net * settings.gross_leverage, conviction, stop)


def nearest_stop(stops: Sequence[tuple[float, float | None]], net: float) -> float | None:
    """Of ``(strength, stop)`` the nearest stop among those that agree with the side of ``net``: the highest of a long,
    the lowest of a short."""
    sign, nearest = (1.0 if net > 0.0 else -1.0), None
    for strength, stop in stops:
        if stop is not None and strength * sign > 0.0 and (nearest is None or (stop - nearest) * sign > 0.0):
            nearest = stop
    return nearest


def worth_trading(held_qty: float, target_qty: float, settings: PortfolioSettings) -> bool:
    """False while the target lies within the no-trade band of what is held. Opening, closing and flipping always
    trade."""
    if held_qty == target_qty:
        return False
    if held_qty == 0.0 or target_qty == 0.0 or (held_qty > 0.0) != (target_qty > 0.0):
        return True
    return abs(target_qty - held_qty) > settings.no_trade_band_frac * abs(held_qty)
