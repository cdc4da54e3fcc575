"""What the venue trades, and on which terms for us: filters, brackets, fees. Also sets the rate limits."""

from collections.abc import Collection, Sequence
from decimal import Decimal

from tidegate.adapters.binance.account_schemas import CommissionRow
from tidegate.adapters.binance.limits import Lane, RateLimit
from tidegate.adapters.binance.market_schemas import BracketAnswer, ExchangeInfo, Tiers
from tidegate.adapters.binance.market_translate import brackets, perpetuals
from tidegate.adapters.binance.rest import BinanceRest, Security
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.instrument import Instrument


async def read_contracts(rest: BinanceRest, wanted: Collection[InstrumentId]) -> Sequence[Instrument]:
    """The contracts ``wanted``, with our brackets and fees; every perpetual, at the usual fees, when none is named.

    Raises ``VenueError`` when it cannot be read, ``DataError`` for a contract that is not listed or makes no sense.
    """
    info = await rest.get("/fapi/v1/exchangeInfo", answer=ExchangeInfo, weight=1)
    rest.governor.configure(
        RateLimit(each.rate_limit_type, each.interval, each.interval_num, each.limit) for each in info.rate_limits
    )
    listed: list[Tiers] | Tiers = await rest.get(
        "/fapi/v1/leverageBracket",
        answer=BracketAnswer,  # type: ignore[arg-type]  # a union is no type to mypy, but it is to the decoder
        weight=1,
        lane=Lane.HISTORY,
        security=Security.SIGNED,
    )
    tiers = {each.symbol: brackets(each) for each in ([listed] if isinstance(listed, Tiers) else listed)}
    fees: dict[str, tuple[Decimal, Decimal]] = {}
    for symbol in wanted:
        row = await rest.get(
            "/fapi/v1/commissionRate",
            (("symbol", str(symbol)),),
            answer=CommissionRow,
            weight=20,
            lane=Lane.HISTORY,
            security=Security.SIGNED,
        )
        if row.maker_commission_rate is not None and row.taker_commission_rate is not None:
            fees[symbol] = row.maker_commission_rate, row.taker_commission_rate
    found, refused = perpetuals(info, tiers, fees)
    missing = [symbol for symbol in wanted if symbol not in found]
    if missing:
        reasons = "; ".join(
            refused.get(symbol, f"{symbol} is not a perpetual that the venue lists") for symbol in missing
        )
        raise DataError(reasons)
    return tuple(found[symbol] for symbol in wanted) if wanted else tuple(found.values())
