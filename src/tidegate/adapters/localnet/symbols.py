"""What the local exchange lists: the contract, and the entry of ``exchangeInfo`` that describes it."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from tidegate.domain.instrument import Instrument

Json = dict[str, Any]

ONBOARDED_MS: Final = 1_569_398_400_000
DELIVERY_MS: Final = 4_133_404_800_000
"""The venue's way to say that a perpetual contract is never delivered."""

ORDER_TYPES: Final = (
    "LIMIT",
    "MARKET",
    "STOP",
    "STOP_MARKET",
    "TAKE_PROFIT",
    "TAKE_PROFIT_MARKET",
    "TRAILING_STOP_MARKET",
)
TIMES_IN_FORCE: Final = ("GTC", "IOC", "FOK", "GTX", "GTD")


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """One listed contract: what the core computes with, and what clients are told."""

    instrument: Instrument
    info: Json

    @classmethod
    def of(cls, instrument: Instrument, status: str = "TRADING") -> "SymbolInfo":
        """The listing of ``instrument``."""
        return cls(instrument, listing(instrument, status))


def listing(instrument: Instrument, status: str) -> Json:
    """The entry of ``exchangeInfo`` for a perpetual contract."""
    return {
        "symbol": instrument.id,
        "pair": instrument.id,
        "contractType": "PERPETUAL",
        "deliveryDate": DELIVERY_MS,
        "onboardDate": ONBOARDED_MS,
        "status": status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": instrument.base,
        "quoteAsset": instrument.quote,
        "marginAsset": instrument.quote,
        "pricePrecision": decimals(instrument.tick),
        "quantityPrecision": decimals(instrument.step),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"],
        "settlePlan": 0,
        "triggerProtect": "0.0500",
        "liquidationFee": f"{instrument.liquidation_fee:f}",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10_000,
        "filters": filters(instrument),
        "orderTypes": list(ORDER_TYPES),
        "timeInForce": list(TIMES_IN_FORCE),
        "permissionSets": ["GRID", "COPY", "DCA", "PSB"],
    }


def filters(instrument: Instrument) -> list[Json]:
    """The seven filters of a contract, decimals as plain strings."""
    lot = {"minQty": f"{instrument.min_qty:f}", "stepSize": f"{instrument.step:f}"}
    band = Decimal(str(instrument.price_band_frac))
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": f"{instrument.min_price:f}",
            "maxPrice": f"{instrument.max_price:f}",
            "tickSize": f"{instrument.tick:f}",
        },
        {"filterType": "LOT_SIZE", "maxQty": f"{instrument.max_qty:f}", **lot},
        {"filterType": "MARKET_LOT_SIZE", "maxQty": f"{instrument.market_max_qty:f}", **lot},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": f"{instrument.min_notional:f}"},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": f"{1 + band:.4f}",
            "multiplierDown": f"{1 - band:.4f}",
            "multiplierDecimal": "4",
        },
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ]


def decimals(step: Decimal) -> int:
    """The decimal places that the multiples of ``step`` need."""
    return max(0, -int(step.normalize().as_tuple().exponent))


class Grid:
    """Multiples of a decimal step, counted by integers: their exact text, Decimal and float."""

    __slots__ = ("_places", "_size", "step")

    def __init__(self, step: Decimal) -> None:
        self.step = step
        self._size = float(step)
        self._places = decimals(step)

    def count(self, value: float) -> int:
        """The multiple nearest to ``value``."""
        return round(value / self._size)

    def value(self, count: int) -> float:
        """The multiple as the float nearest to it."""
        return round(count * self._size, self._places)

    def decimal(self, count: int) -> Decimal:
        """The multiple, exact."""
        return count * self.step

    def text(self, count: int) -> str:
        """The multiple as the wire says it: fixed decimals, no exponent."""
        return f"{count * self._size:.{self._places}f}"

    def text_of(self, value: float) -> str:
        """A float with the decimals of the grid."""
        return f"{value:.{self._places}f}"
