"""A simulated exchange on a bench: contracts, bars and orders in as few words as a test can have."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import numpy as np

from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import with_amounts
from tidegate.domain.market import HOUR_NS, Bar, FundingRate
from tidegate.domain.messages import Event, ExecutionReport
from tidegate.domain.orders import (
    ApprovedOrder,
    OrderFilled,
    OrderType,
    PositionSide,
    Purpose,
    Side,
    TimeInForce,
)
from tidegate.quant.bars import BarTable
from tidegate.simulator.exchange import Exchange
from tidegate.simulator.frictions import Frictions

BUY, SELL = Side.BUY, Side.SELL
COIN, OTHER = InstrumentId("COINUSDT"), InstrumentId("OTHERUSDT")
START_NS: Nanos = 1_700_000_000_000_000_000 // HOUR_NS * HOUR_NS
Ohlc = tuple[float, float, float, float]
Kind = TypeVar("Kind")

FLAT_BRACKETS = with_amounts([(0.0, 1e12, 0.05)])


def contract(name: InstrumentId = COIN, **changes: Any) -> Instrument:
    """A contract with a tick of 0.1, a lot of 0.001, no smallest notional and a maintenance of five percent."""
    plain = Instrument(
        id=name,
        base=name.removesuffix("USDT"),
        quote="USDT",
        tick=Decimal("0.1"),
        step=Decimal("0.001"),
        min_qty=Decimal("0.001"),
        max_qty=Decimal(10_000),
        market_max_qty=Decimal(1_000),
        min_notional=Decimal(0),
        min_price=Decimal("0.1"),
        max_price=Decimal(1_000_000),
        brackets=FLAT_BRACKETS,
        price_band_frac=10.0,
    )
    return msgspec.structs.replace(plain, **changes)


class Orders:
    """Approved orders with ids that count up."""

    def __init__(self) -> None:
        self._count = 0

    def make(
        self,
        side: Side,
        qty: str | int | Decimal,
        *,
        instrument: InstrumentId = COIN,
        limit: str | Decimal | None = None,
        stop: str | Decimal | None = None,
        profit: str | Decimal | None = None,
        tif: TimeInForce = TimeInForce.GTC,
        reduce: bool = False,
        **changes: Any,
    ) -> ApprovedOrder:
        """A market order, or a limit, a stop or a take-profit when its price is given."""
        self._count += 1
        kind = OrderType.MARKET
        if limit is not None:
            kind = OrderType.LIMIT
        elif stop is not None:
            kind = OrderType.STOP_MARKET
        elif profit is not None:
            kind = OrderType.TAKE_PROFIT_MARKET
        trigger = stop if stop is not None else profit
        order = ApprovedOrder(
            id=ClientOrderId(f"o{self._count}"),
            instrument=instrument,
            side=side,
            qty=Decimal(qty),
            order_type=kind,
            limit=None if limit is None else Decimal(limit),
            trigger=None if trigger is None else Decimal(trigger),
            tif=tif,
            reduce_only=reduce,
            position_side=PositionSide.BOTH,
            purpose=Purpose.TARGET,
            parent=None,
            strategy=None,
            attempt=0,
            expires_ns=0,
        )
        return msgspec.structs.replace(order, **changes)


def hour_bar(n: int, ohlc: Ohlc, volume: float = 1000.0, instrument: InstrumentId = COIN) -> Bar:
    """The ``n``-th hour since the start."""
    ts_ns = START_NS + (n + 1) * HOUR_NS
    return Bar(instrument, HOUR_NS, ts_ns, ts_ns, *ohlc, volume)


class Bench:
    """One exchange and its clock, hour by hour. ``reports`` keeps all that came out since the last call."""

    def __init__(
        self,
        *instruments: Instrument,
        deposit: int | str = 100_000,
        frictions: Frictions | None = None,
        leverage: float = 20.0,
    ) -> None:
        self.deposit = Decimal(deposit)
        self.exchange = Exchange(instruments or [contract()], self.deposit, frictions or Frictions(), leverage)
        self.orders = Orders()
        self.hours: dict[InstrumentId, int] = {}
        self.now_ns = START_NS

    def send(self, side: Side, qty: str | int | Decimal, **details: Any) -> list[ExecutionReport]:
        """Submit an order now."""
        return self.exchange.submit(self.orders.make(side, qty, **details), self.now_ns)

    def open(self, ohlc: Ohlc, volume: float = 1000.0, instrument: InstrumentId = COIN) -> list[ExecutionReport]:
        """Begin the next bar."""
        n = self.hours.setdefault(instrument, 0)
        return list(self.exchange.open(hour_bar(n, ohlc, volume, instrument)))

    def range(
        self, ohlc: Ohlc, volume: float = 1000.0, instrument: InstrumentId = COIN, mark: Ohlc | None = None
    ) -> list[ExecutionReport]:
        """End the bar in progress."""
        n = self.hours.setdefault(instrument, 0)
        self.hours[instrument] = n + 1
        bar = hour_bar(n, ohlc, volume, instrument)
        self.now_ns = max(self.now_ns, bar.ts_ns)
        return list(self.exchange.range(bar, None if mark is None else hour_bar(n, mark, 0.0, instrument)))

    def bar(
        self, ohlc: Ohlc, volume: float = 1000.0, instrument: InstrumentId = COIN, mark: Ohlc | None = None
    ) -> list[ExecutionReport]:
        """A whole bar, begun and ended."""
        return self.open(ohlc, volume, instrument) + self.range(ohlc, volume, instrument, mark)

    def hold(self, side: Side, qty: str | int, price: float = 100.0, instrument: InstrumentId = COIN) -> None:
        """A position, bought or sold at ``price`` in a bar that did not move."""
        flat = (price, price, price, price)
        self.bar(flat, instrument=instrument)
        self.send(side, qty, instrument=instrument)
        self.bar(flat, instrument=instrument)
        assert abs(self.exchange.ledger.position(instrument).qty) == Decimal(qty)

    def fund(self, rate: float, instrument: InstrumentId = COIN) -> list[ExecutionReport]:
        """A settlement now."""
        return list(self.exchange.fund(FundingRate(instrument, self.now_ns, self.now_ns, rate)))

    def qty(self, instrument: InstrumentId = COIN) -> Decimal:
        return self.exchange.ledger.position(instrument).qty

    @property
    def wallet(self) -> Decimal:
        """The wallet as the venue reports it; the same as in its ledger."""
        (balance,) = self.exchange.snapshot(self.now_ns).balances
        assert balance.wallet == self.exchange.ledger.wallet
        return balance.wallet


def only(reports: Sequence[Event], kind: type[Kind]) -> list[Kind]:
    """The reports of one kind."""
    return [report for report in reports if isinstance(report, kind)]


def fills(reports: Sequence[Event]) -> list[tuple[Side, Decimal, Decimal]]:
    """Side, quantity and price of each execution."""
    return [(fill.side, fill.qty, fill.price) for fill in only(reports, OrderFilled)]


def names(reports: Sequence[Event]) -> list[str]:
    """The kinds of the reports, in order."""
    return [type(report).__name__ for report in reports]


def table(rows: Sequence[tuple[float, ...]], *, start_ns: Nanos = START_NS, interval_ns: Nanos = HOUR_NS) -> BarTable:
    """Consecutive bars of open, high, low, close and volume; an empty row is a gap."""
    kept = [(n, row) for n, row in enumerate(rows) if row]
    columns = np.array([row for _, row in kept], dtype=np.float64).reshape(-1, 5).T
    ts_ns = start_ns + (np.array([n for n, _ in kept], dtype=np.int64) + 1) * interval_ns
    return BarTable(interval_ns, ts_ns, *columns)
