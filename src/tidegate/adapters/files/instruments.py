"""Contracts: read from the venue's own descriptions when there are some, else inferred from the bars."""

import gzip
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import DEFAULT_BRACKETS, Bracket
from tidegate.quant.bars import BarTable

MAX_PRICE_DECIMALS: Final = 12
MAX_QTY_DECIMALS: Final = 8
HUGE: Final = Decimal(10) ** 12
"""A limit that is none, for contracts whose own are not known."""

_QUOTES: Final = ("USDT", "FDUSD", "BUSD", "USDC", "BTC")
_NO_BRACKETS: Final[Mapping[InstrumentId, tuple[Bracket, ...]]] = {}
_T = TypeVar("_T")


class _Symbol(msgspec.Struct, rename="camel"):
    symbol: str
    base_asset: str
    quote_asset: str
    filters: list[dict[str, Any]]
    contract_type: str = ""
    liquidation_fee: str = "0.0125"


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]


class _Tier(msgspec.Struct, rename="camel"):
    initial_leverage: int
    notional_floor: float
    notional_cap: float
    maint_margin_ratio: float
    cum: float


class _Tiers(msgspec.Struct):
    symbol: str
    brackets: list[_Tier]


def read_exchange_info(
    path: Path, brackets: Mapping[InstrumentId, tuple[Bracket, ...]] = _NO_BRACKETS
) -> dict[InstrumentId, Instrument]:
    """The perpetual contracts of an answer of ``/fapi/v1/exchangeInfo`` (json or json.gz).

    Fees are not in it and keep their defaults; ``brackets`` (see ``read_brackets``) neither: contracts that it does
    not name get ``DEFAULT_BRACKETS``. Raises ``DataError`` naming file and symbol.
    """
    info = _decode(path, msgspec.json.Decoder(_ExchangeInfo))
    perpetuals = [symbol for symbol in info.symbols if symbol.contract_type.endswith("PERPETUAL")]
    if not perpetuals:
        raise DataError(f"{path}: no perpetual contract among {len(info.symbols)} symbols")
    found: dict[InstrumentId, Instrument] = {}
    for symbol in perpetuals:
        name = InstrumentId(symbol.symbol)
        try:
            found[name] = _instrument(symbol, brackets.get(name, DEFAULT_BRACKETS))
        except KeyError as error:
            raise DataError(f"{path}: {name}: no {error.args[0]} among its filters") from None
        except (InvalidOperation, TypeError, ValueError):
            raise DataError(f"{path}: {name}: a filter holds something that is no number") from None
    return found


def _instrument(symbol: _Symbol, brackets: tuple[Bracket, ...]) -> Instrument:
    filters = {entry.get("filterType"): entry for entry in symbol.filters}
    price, lot = filters["PRICE_FILTER"], filters["LOT_SIZE"]
    return Instrument(
        id=InstrumentId(symbol.symbol),
        base=symbol.base_asset,
        quote=symbol.quote_asset,
        tick=Decimal(price["tickSize"]),
        step=Decimal(lot["stepSize"]),
        min_qty=Decimal(lot["minQty"]),
        max_qty=Decimal(lot["maxQty"]),
        market_max_qty=Decimal(filters["MARKET_LOT_SIZE"]["maxQty"]),
        min_notional=Decimal(filters["MIN_NOTIONAL"]["notional"]),
        min_price=Decimal(price["minPrice"]),
        max_price=Decimal(price["maxPrice"]),
        brackets=brackets,
        liquidation_fee=Decimal(symbol.liquidation_fee),
        price_band_frac=float(Decimal(filters["PERCENT_PRICE"]["multiplierUp"]) - 1),
    )


def read_brackets(path: Path) -> dict[InstrumentId, tuple[Bracket, ...]]:
    """Maintenance brackets by contract, lowest first, of an answer of ``/fapi/v1/leverageBracket`` (json or json.gz).

    The list of all contracts and the bare object of one are both accepted. Raises ``DataError``.
    """
    decoder: msgspec.json.Decoder[list[_Tiers] | _Tiers] = msgspec.json.Decoder(list[_Tiers] | _Tiers)
    answer = _decode(path, decoder)
    entries = answer if isinstance(answer, list) else [answer]
    return {InstrumentId(entry.symbol): _brackets(path, entry) for entry in entries}


def _brackets(path: Path, entry: _Tiers) -> tuple[Bracket, ...]:
    tiers = sorted(entry.brackets, key=lambda tier: tier.notional_floor)
    edges = [0.0, *(tier.notional_cap for tier in tiers)]
    if not tiers or [tier.notional_floor for tier in tiers] != edges[:-1] or sorted(edges) != edges:
        raise DataError(f"{path}: {entry.symbol}: the brackets do not follow on one another from zero")
    return tuple(
        Bracket(tier.notional_floor, tier.notional_cap, tier.maint_margin_ratio, tier.cum, tier.initial_leverage)
        for tier in tiers
    )


def infer_instrument(
    instrument: InstrumentId, tables: Iterable[BarTable], brackets: tuple[Bracket, ...] = DEFAULT_BRACKETS
) -> Instrument:
    """A permissive contract that fits the bars: the finest grids of their prices and volumes, and hardly a limit.

    Whole volumes give a step of 1, no volume at all one of 0.001. Raises ``DataError`` without any bar.
    """
    price_digits = qty_digits = 0
    rows, traded = 0, False
    for table in tables:
        price_digits = max(price_digits, price_decimals(table.open, table.high, table.low, table.close))
        qty_digits = max(qty_digits, _decimals(table.volume, MAX_QTY_DECIMALS))
        rows += len(table)
        traded = traded or bool(table.volume.any())
    if not rows:
        raise DataError(f"{instrument}: no bars to infer tick and step from")
    tick, step = Decimal(1).scaleb(-price_digits), Decimal(1).scaleb(-qty_digits if traded else -3)
    base, quote = _split(instrument)
    return Instrument(
        id=instrument,
        base=base,
        quote=quote,
        tick=tick,
        step=step,
        min_qty=step,
        max_qty=HUGE,
        market_max_qty=HUGE,
        min_notional=Decimal(5),
        min_price=tick,
        max_price=HUGE,
        brackets=brackets,
    )


def price_decimals(*prices: NDArray[np.float64]) -> int:
    """Decimals of the finest decimal grid that holds every one of these finite prices; at most 12."""
    return max((_decimals(column, MAX_PRICE_DECIMALS) for column in prices), default=0)


def _decimals(values: NDArray[np.float64], most: int) -> int:
    """The fewest decimals that print every value exactly.

    A whole number below 2^53 divided by a power of ten is rounded once, so it equals ``x`` exactly when ``x`` is the
    float nearest to that decimal, which is what its shortest print says. Each round keeps only what did not fit yet.
    """
    rest = values
    for digits in range(most):
        scale = 10.0**digits
        rest = rest[np.rint(rest * scale) / scale != rest]
        if not len(rest):
            return digits
    return most


def _split(instrument: str) -> tuple[str, str]:
    for quote in _QUOTES:
        if instrument.endswith(quote) and instrument != quote:
            return instrument.removesuffix(quote), quote
    return instrument, "USDT"


def _decode(path: Path, decoder: msgspec.json.Decoder[_T]) -> _T:
    try:
        content = path.read_bytes()
        return decoder.decode(gzip.decompress(content) if path.suffix == ".gz" else content)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except msgspec.MsgspecError as error:
        raise DataError(f"{path}: not what the venue answers: {error}") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
