"""Names of things, as distinct types, so that a checker tells an order from an instrument."""

import re
from typing import NewType

Nanos = int
"""Nanoseconds since 1970-01-01T00:00:00Z."""

InstrumentId = NewType("InstrumentId", str)
"""A tradable contract by its native name, for example ``BTCUSDT``."""

StrategyId = NewType("StrategyId", str)
"""One configured strategy; unique within a configuration."""

ClientOrderId = NewType("ClientOrderId", str)
"""Our own name of an order: ``p1-<account>-<gen base36>-<seq base36>-<attempt>``, never reused."""

ParentId = NewType("ParentId", str)
"""The whole intention that one or more child orders carry out."""

ModelId = NewType("ModelId", str)
"""A fitted model, for example the regime detector."""

OrderName = tuple[str, int, int, int]
"""What a client order id says: account, gen, sequence, attempt."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_OURS = re.compile(r"p1-([^-]{1,2})-([0-9a-z]{1,13})-([0-9a-z]{1,13})-([0-9]{1,3})")
_PAIRS = [a + b for a in _DIGITS for b in _DIGITS]


def base36(number: int) -> str:
    """The digits of a non-negative integer in base 36, lower case."""
    if number < 0:
        raise ValueError(f"base36 takes a non-negative integer, not {number}")
    digits = ""
    while number >= 1296:
        number, rest = divmod(number, 1296)
        digits = _PAIRS[rest] + digits
    return (_PAIRS[number] if number >= 36 else _DIGITS[number]) + digits


def parse_client_order_id(text: str) -> OrderName | None:
    """``(account, gen, sequence, attempt)`` of an id of our pattern; None for any other."""
    found = _OURS.fullmatch(text)
    if found is None:
        return None
    account, gen, sequence, attempt = found.groups()
    return account, int(gen, 36), int(sequence, 36), int(attempt)
