"""The same trades by thirty lines of plain Python: an account that shares no code with the engine."""

from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import NamedTuple


class PlainFill(NamedTuple):
    """An execution: row of the bar at whose open it happened, signed quantity, price, fee."""

    row: int
    qty: Decimal
    price: Decimal
    fee: Decimal


def plain_account(
    opens: Sequence[float],
    closes: Sequence[float],
    *,
    fast_bars: int = 10,
    slow_bars: int = 50,
    qty: Decimal,
    capital: Decimal,
    fee_rate: Decimal = Decimal("0.0005"),
) -> tuple[list[PlainFill], Decimal]:
    """Fills and final equity (an open position at the last close) of the crossover, market orders at the next open."""
    with localcontext() as context:
        context.prec = 80
        return _account(opens, closes, fast_bars, slow_bars, qty, capital, fee_rate)


def _account(
    opens: Sequence[float],
    closes: Sequence[float],
    fast_bars: int,
    slow_bars: int,
    qty: Decimal,
    capital: Decimal,
    fee_rate: Decimal,
) -> tuple[list[PlainFill], Decimal]:
    fast = slow = closes[0]
    a, b = 2.0 / (fast_bars + 1.0), 2.0 / (slow_bars + 1.0)
    cash, held, wanted = capital, Decimal(0), Decimal(0)
    fills: list[PlainFill] = []
    for i in range(len(closes)):
        if wanted != held:
            price = Decimal(repr(opens[i]))
            fee = abs(wanted - held) * price * fee_rate
            fills.append(PlainFill(i, wanted - held, price, fee))
            cash -= (wanted - held) * price + fee
            held = wanted
        if i > 0:
            fast = a * closes[i] + (1.0 - a) * fast
            slow = b * closes[i] + (1.0 - b) * slow
        if i >= slow_bars - 1:
            wanted = qty if fast > slow else -qty
    return fills, cash + held * Decimal(repr(closes[-1]))
