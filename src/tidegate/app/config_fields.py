"""The kinds of value that settings hold, and the section they are grouped in.

Money, fees and quantities are ``Decimal``, read from the text of the number so that no float artefact gets in.
"""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, PlainSerializer

from tidegate.domain.ids import InstrumentId

_SYMBOL = re.compile(r"(?P<base>[A-Z0-9]+?)[/-]?(?P<quote>USDT|USDC|[A-Z0-9]+?)(:(?P<settle>[A-Z0-9]+))?(-PERP)?")


def normalise_symbol(text: str) -> InstrumentId:
    """``BTCUSDT`` from ``btcusdt``, ``BTC/USDT:USDT``, ``BTC-USDT`` or ``BTCUSDT-PERP``. Raises ``ValueError``."""
    match = _SYMBOL.fullmatch(text.strip().upper())
    if match is None or match["settle"] not in (None, match["quote"]):
        raise ValueError("it must be a linear contract, written like BTCUSDT or BTC/USDT:USDT")
    return InstrumentId(match["base"] + match["quote"])


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("it must be a number")
    return value


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")


def _parameter(value: object) -> object:
    if not isinstance(value, bool | int | float | str) or value != value or value in (float("inf"), float("-inf")):
        raise ValueError("it must be a finite number, true, false or text")
    return value


def _symbols(value: object) -> object:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError("it must be a list of symbols, like [BTCUSDT, ETHUSDT]")
    symbols: list[InstrumentId] = []
    for text in value:
        try:
            symbol = normalise_symbol(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is no symbol: {error}") from None
        if symbol in symbols:
            raise ValueError(f"{symbol} is there twice")
        symbols.append(symbol)
    if not symbols:
        raise ValueError("it must name at least one symbol, like [BTCUSDT]")
    return tuple(symbols)


Real = Annotated[FiniteFloat, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_number)]
Money = Annotated[Decimal, BeforeValidator(_number), PlainSerializer(_plain), Field(max_digits=28)]
Parameter = Annotated[bool | int | float | str, BeforeValidator(_parameter)]
Symbols = Annotated[tuple[InstrumentId, ...], BeforeValidator(_symbols)]


class Section(BaseModel):
    """A part of the configuration: fixed once read, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
