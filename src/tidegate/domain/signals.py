"""From wish to target: what strategies say, what the portfolio wants, and why something was refused."""

from decimal import Decimal
from enum import Enum

import msgspec

from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos, StrategyId


class Signal(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A strategy's wish: strength in [-1, +1] of its risk budget (0 is flat) and an optional protective price."""

    strength: float
    stop: float | None = None


class TargetWeight(msgspec.Struct, frozen=True, gc=False, tag=True):
    """After the blend. ``conviction`` in [-1, 1] is the share of the instrument's budget that the wishes ask for,
    ``weight`` the signed fraction of equity that this makes, ``stop`` the nearest stop of the agreeing wishes."""

    instrument: InstrumentId
    weight: float
    conviction: float
    stop: float | None


class TargetPosition(msgspec.Struct, frozen=True, gc=False, tag=True):
    """After sizing: the signed quantity, on the lot grid, that the book should hold."""

    instrument: InstrumentId
    qty: Decimal


class Scenario(Enum):
    """The market as the regime detector reads it: direction and volatility; UNKNOWN while it cannot tell."""

    BULL_LOW = "BULL_LOW"
    BULL_HIGH = "BULL_HIGH"
    BEAR_LOW = "BEAR_LOW"
    BEAR_HIGH = "BEAR_HIGH"
    SIDEWAYS_LOW = "SIDEWAYS_LOW"
    SIDEWAYS_HIGH = "SIDEWAYS_HIGH"
    TRANSITION_LOW = "TRANSITION_LOW"
    TRANSITION_HIGH = "TRANSITION_HIGH"
    UNKNOWN = "UNKNOWN"


class RegimeChanged(msgspec.Struct, frozen=True, gc=False, tag=True):
    """What the regime detector reads from now on, and the weights of the strategies that follow from it.

    ``probabilities`` are those of the eight scenarios in their order, empty while UNKNOWN; ``weights`` are shares of
    the risk budget by strategy, the rest is cash.
    """

    scenario: Scenario
    probabilities: tuple[float, ...]
    weights: tuple[tuple[StrategyId, float], ...]
    reason: str
    ts_ns: Nanos


class BookRisk(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The risk of the book once a UTC day, as the portfolio step sees it.

    ``weights`` are the signed shares of equity held by instrument, ``risk_shares`` their parts of the volatility, which
    sum to 1. ``volatility`` is annual; ``var_frac`` and ``cvar_frac`` are of one day at 95 %, positive losses, None
    while there is too little history. ``exposure`` is the factor that the drawdown brake leaves.
    """

    weights: tuple[tuple[InstrumentId, float], ...]
    risk_shares: tuple[tuple[InstrumentId, float], ...]
    volatility: float | None
    var_frac: float | None
    cvar_frac: float | None
    drawdown_frac: float
    exposure: float
    ts_ns: Nanos


class StrategyResult(msgspec.Struct, frozen=True, gc=False, tag=True):
    """What one strategy's virtual ledger earned in one instrument and one scenario since its last line.

    Amounts in USDT, exact. ``price_pnl`` is at the reference prices and holds the change of open results; ``fees`` and
    ``slippage`` are costs, positive; ``funding`` is the change of the wallet. The strategy ``netting`` is what internal
    crosses saved, ``unassigned`` what no strategy asked for. The lines of all strategies add up to the book.
    """

    strategy: StrategyId
    instrument: InstrumentId
    scenario: Scenario
    from_ns: Nanos
    ts_ns: Nanos
    price_pnl: Decimal
    fees: Decimal
    funding: Decimal
    slippage: Decimal
    turnover: Decimal
    fills: int


class Reason(Enum):
    """Why our own risk said no."""

    MIN_NOTIONAL = "MIN_NOTIONAL"
    MIN_QTY = "MIN_QTY"
    MAX_QTY = "MAX_QTY"
    OFF_GRID = "OFF_GRID"
    LEVERAGE = "LEVERAGE"
    CONCENTRATION = "CONCENTRATION"
    PRICE_COLLAR = "PRICE_COLLAR"
    ORDER_RATE = "ORDER_RATE"
    LIQUIDATION_DISTANCE = "LIQUIDATION_DISTANCE"
    SHORT_NOT_ALLOWED = "SHORT_NOT_ALLOWED"
    REDUCE_ONLY = "REDUCE_ONLY"
    NOT_TRADING = "NOT_TRADING"
    NO_PRICE = "NO_PRICE"
    STATE = "STATE"
    DRAWDOWN = "DRAWDOWN"
    VALUE_AT_RISK = "VALUE_AT_RISK"


class Refusal(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Our risk refused an order or a target. A value, not an error."""

    subject: ClientOrderId | InstrumentId
    rule: str
    reason: Reason
    detail: str


class Decision(msgspec.Struct, frozen=True, gc=False, tag=True):
    """What was decided and why; emitted when something changed, for people and for the record.

    A wish that changed names its strategy and signal; a target that changed has no strategy, but the quantity, the
    limit that bound it and what was refused.
    """

    strategy: StrategyId | None
    instrument: InstrumentId
    ts_ns: Nanos
    signal: Signal | None = None
    target: Decimal | None = None
    binding_limit: str | None = None
    refusal: Refusal | None = None
