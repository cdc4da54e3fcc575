"""What accounts are built from: the market they see, the numbers they give out, the lines they keep."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Protocol

from tidegate.adapters.localnet.symbols import SymbolInfo
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.orders import FillCause, PositionSide, Side
from tidegate.simulator.ticks import Touch

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Prices(Protocol):
    """The market as accounts need it; ``market.LocalMarket`` is one. Prices and quantities are Decimal."""

    @property
    def symbols(self) -> Mapping[str, SymbolInfo]:
        """What is listed."""
        ...

    def best(self, symbol: str) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """Bid, its quantity, ask, its quantity."""
        ...

    def last(self, symbol: str) -> Decimal:
        """The last price."""
        ...

    def mark(self, symbol: str) -> Decimal:
        """The mark price."""
        ...

    def index(self, symbol: str) -> Decimal:
        """The index price."""
        ...

    def funding(self, symbol: str) -> tuple[Decimal, int]:
        """The funding rate, and the time of the next settlement in milliseconds."""
        ...

    def subscribe(self, callback: Callable[[str, Nanos], None]) -> object:
        """Call back after every change of a symbol's prices."""
        ...


class Ids:
    """Numbers that only grow, and names drawn from ``rng``. Order numbers do not fit into 32 bits."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._orders = 8_000_000_000
        self._algo = 1_000_000_000
        self._transactions = 9_000_000_000
        self._trades: dict[str, int] = {}

    def order(self) -> int:
        """The next order number."""
        self._orders += 1
        return self._orders

    def algo(self) -> int:
        """The next number of a conditional order."""
        self._algo += 1
        return self._algo

    def transaction(self) -> int:
        """The next number of an income line."""
        self._transactions += 1
        return self._transactions

    def trade(self, symbol: str) -> int:
        """The next trade number of a symbol."""
        self._trades[symbol] = self._trades.get(symbol, 500_000_000) + 1
        return self._trades[symbol]

    def dump(self) -> "IdsState":
        """The numbers given out last."""
        return IdsState(self._orders, self._algo, self._transactions, self._trades)

    def load(self, state: "IdsState") -> None:
        """Go on after them, with names that were not drawn before."""
        self._rng.seed(f"{state.orders} {state.algo} {state.transactions}")
        self._orders, self._algo, self._transactions = state.orders, state.algo, state.transactions
        self._trades.update(state.trades)

    def text(self, length: int) -> str:
        """A random name."""
        return "".join(self._rng.choice(_ALPHABET) for _ in range(length))


@dataclass(frozen=True, slots=True)
class IdsState:
    """The numbers that were given out last, by kind, and by symbol."""

    orders: int
    algo: int
    transactions: int
    trades: dict[str, int]


@dataclass(frozen=True, slots=True)
class Trade:
    """One execution in an account's books."""

    symbol: str
    trade_id: int
    order_id: int
    client_id: str
    side: Side
    position_side: PositionSide
    price: Decimal
    qty: Decimal
    realised: Decimal
    fee: Decimal
    fee_asset: str
    maker: bool
    time_ms: int
    cause: FillCause


@dataclass(frozen=True, slots=True)
class Income:
    """One line of an account's income history."""

    symbol: str
    kind: str
    amount: Decimal
    asset: str
    info: str
    time_ms: int
    transaction: int
    trade_id: str = ""


def leg_of(symbol: str, side: PositionSide) -> InstrumentId:
    """The name in the matching core of a symbol's position, or of one leg of its hedge."""
    return InstrumentId(symbol if side is PositionSide.BOTH else f"{symbol}:{side.value}")


def split_leg(leg: InstrumentId) -> tuple[str, PositionSide]:
    """The symbol and position side of a name in the matching core."""
    symbol, _, side = leg.partition(":")
    return symbol, PositionSide(side or "BOTH")


def touch_of(prices: Prices, symbol: str) -> Touch:
    """The market of a symbol now."""
    bid, bid_qty, ask, ask_qty = prices.best(symbol)
    return Touch(bid, ask, prices.last(symbol), prices.mark(symbol), bid_qty, ask_qty)
