"""Margin arithmetic of Binance USD-M: one place for the simulator, the risk rules and the sizer.

Float64 throughout: these are thresholds and distances, nothing is booked from them.
Source: Binance, "How to calculate liquidation price of USD-M futures contracts" and the leverage bracket table.
"""

from collections.abc import Sequence
from math import inf

import msgspec


class Bracket(msgspec.Struct, frozen=True, gc=False):
    """One step of the maintenance table. ``cum_usdt`` makes the margin continuous across its lower edge."""

    floor_usdt: float
    cap_usdt: float
    maintenance_frac: float
    cum_usdt: float
    max_leverage: int = 1


def with_amounts(steps: Sequence[tuple[float, float, float]]) -> tuple[Bracket, ...]:
    """Brackets from ``(floor, cap, maintenance fraction)``: ``cum_n = floor_n (m_n - m_{n-1}) + cum_{n-1}``."""
    brackets: list[Bracket] = []
    cum = previous = 0.0
    for floor, cap, frac in steps:
        cum += floor * (frac - previous) if brackets else 0.0
        previous = frac
        brackets.append(Bracket(floor, cap, frac, cum, max(1, int(0.5 / frac))))
    return tuple(brackets)


DEFAULT_BRACKETS = with_amounts(
    [
        (0.0, 50_000.0, 0.01),
        (50_000.0, 250_000.0, 0.02),
        (250_000.0, 1_000_000.0, 0.05),
        (1_000_000.0, 5_000_000.0, 0.10),
        (5_000_000.0, inf, 0.125),
    ]
)
"""A cautious table for contracts whose own is not known. Read the venue's where it is."""


def bracket_of(brackets: Sequence[Bracket], notional: float) -> Bracket:
    """The bracket of a notional; a notional on an edge belongs to the lower bracket, one past all to the last."""
    for bracket in brackets:
        if notional <= bracket.cap_usdt:
            return bracket
    return brackets[-1]


def maintenance(brackets: Sequence[Bracket], notional: float) -> float:
    """Maintenance margin of a position of ``notional`` (mark price times size), in quote units."""
    bracket = bracket_of(brackets, notional)
    return notional * bracket.maintenance_frac - bracket.cum_usdt


def liquidation_price_in(
    bracket: Bracket,
    *,
    wallet: float,
    side: int,
    qty: float,
    entry: float,
    other_maintenance: float = 0.0,
    other_unrealised: float = 0.0,
) -> float:
    """Liquidation price if ``bracket`` applies: ``(WB - TMM + UPNL + cum - s q EP) / (q mmr - s q)``.

    ``side`` is +1 or -1, ``qty`` positive. Isolated margin has no other positions: leave both others at zero.
    """
    free = wallet - other_maintenance + other_unrealised + bracket.cum_usdt
    return (free - side * qty * entry) / (qty * bracket.maintenance_frac - side * qty)


def liquidation_price(
    brackets: Sequence[Bracket],
    *,
    wallet: float,
    side: int,
    qty: float,
    entry: float,
    other_maintenance: float = 0.0,
    other_unrealised: float = 0.0,
) -> float | None:
    """The mark price at which the margin is used up, its bracket being the one of the notional at that price.

    ``None`` when there is no such positive price.
    """
    for bracket in brackets:
        price = liquidation_price_in(
            bracket,
            wallet=wallet,
            side=side,
            qty=qty,
            entry=entry,
            other_maintenance=other_maintenance,
            other_unrealised=other_unrealised,
        )
        if price > 0 and _holds(bracket, qty * price, last=bracket is brackets[-1]):
            return price
    return None


def _holds(bracket: Bracket, notional: float, *, last: bool) -> bool:
    """True when a notional lies in a bracket; its edges belong to both, lest rounding leave a price to neither."""
    slack = 1e-9 * notional
    return bracket.floor_usdt - slack <= notional and (last or notional <= bracket.cap_usdt + slack)


def is_distant(
    brackets: Sequence[Bracket],
    qty: float,
    *,
    equity: float,
    other_maintenance: float,
    price: float,
    side: int,
    distance_frac: float,
) -> bool:
    """True when a position of ``qty`` at ``price`` is liquidated no nearer than ``distance_frac`` away.

    A bound that holds even in the highest bracket is tried before the brackets are searched.
    """
    highest = distance_frac + (1.0 + distance_frac) * brackets[-1].maintenance_frac
    if qty * price * highest + other_maintenance <= equity:
        return True
    most = max_qty_at_distance(
        brackets,
        equity=equity,
        other_maintenance=other_maintenance,
        price=price,
        side=side,
        distance_frac=distance_frac,
    )
    return qty <= most * (1.0 + 1e-9)


def max_qty_at_distance(
    brackets: Sequence[Bracket],
    *,
    equity: float,
    other_maintenance: float,
    price: float,
    side: int,
    distance_frac: float,
) -> float:
    """The largest position opened at ``price`` whose liquidation lies at least ``distance_frac`` away.

    At the price ``p' = price (1 - side d)`` the equity is ``E - q price d`` and must cover the maintenance margin:
    within one bracket that is linear in q, and the answer of the first bracket that holds its own notional is the one.
    """
    free = equity - other_maintenance
    if free <= 0:
        return 0.0
    stressed = price * (1.0 - side * distance_frac)
    best = 0.0
    for bracket in brackets:
        qty = (free + bracket.cum_usdt) / (price * distance_frac + stressed * bracket.maintenance_frac)
        if qty * stressed <= bracket.cap_usdt:
            return max(best, qty)
        best = bracket.cap_usdt / stressed
    return best
