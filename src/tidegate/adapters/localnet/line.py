"""One symbol of the local market: how its price walks, what it prints, its touch, mark, index and funding."""

from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Final, NamedTuple

from tidegate.adapters.localnet.candles import MINUTE_MS, Candles
from tidegate.adapters.localnet.ladder import Ladder
from tidegate.adapters.localnet.path import Minutes
from tidegate.adapters.localnet.symbols import Grid, SymbolInfo

HOUR_MS: Final = 3_600_000
KEPT_TRADES: Final = 5_000
INTEREST_RATE: Final = 0.0001
_PREMIUM_MEAN, _PREMIUM_SD, _PREMIUM_KEEP = 0.0002, 0.0004, 0.9986
_MARK_NOISE: Final = 0.00002
_CLAMP, FUNDING_CAP = 0.0005, 0.0075


class Print(NamedTuple):
    """A trade of the market; price in ticks, quantity in steps."""

    id: int
    at_ms: int
    price: int
    qty: int
    buyer_is_maker: bool


class Settlement(NamedTuple):
    """A funding settlement: the rate as a fraction, the mark price it was paid at."""

    at_ms: int
    rate: float
    mark: float


@dataclass(frozen=True, slots=True)
class _Corner:
    """A price the path must touch, and when."""

    at_ms: int
    price: float


class Line:
    """State of one symbol. ``start_ms`` is the whole minute in which its first row begins."""

    def __init__(
        self, listed: SymbolInfo, candles: Candles, start_ms: int, price: float, rng: Random, levels: int
    ) -> None:
        self.listed = listed
        self.name = str(listed.instrument.id)
        self.candles = candles
        self.start_ms = start_ms
        self.tick_grid, self.step_grid = Grid(listed.instrument.tick), Grid(listed.instrument.step)
        self.ladder = Ladder(Random(rng.getrandbits(64)), levels)
        self.trades: deque[Print] = deque(maxlen=KEPT_TRADES)
        self.settlements: deque[Settlement] = deque(maxlen=1_000)
        self.funding_hours = 8
        self.forced_rate: float | None = None
        self.factor = 1.0
        self.version = 0
        self._refreshed = -1
        self._rng = rng
        self._rows: deque[tuple[list[float], float, float]] = deque()
        self._row_ms = start_ms - MINUTE_MS
        self._corners: deque[_Corner] = deque()
        self._from = _Corner(start_ms, price)
        self._row = ([price] * 4 + [0.0], 0.0, 1.0)
        self._past: list[Settlement] | None = None
        self._past_seed = rng.getrandbits(32)
        self._next_id = rng.randrange(10**8, 10**9)
        self._printed_ms = start_ms
        self._basis = 0.0
        self._premium = _PREMIUM_MEAN
        self._premium_sum, self._premiums = 0.0, 0
        self.last = self.bid = self.ask = self.tick_grid.count(price)
        self.bid_qty = self.ask_qty = 1
        self.next_funding_ms = (start_ms // (8 * HOUR_MS) + 1) * 8 * HOUR_MS
        self._quote(buyer=True)

    # -- the path ------------------------------------------------------------------------------------------------

    def feed(self, minutes: Minutes) -> None:
        """More minutes of the path, after those already given."""
        self._rows.extend(
            zip(minutes.rows.tolist(), minutes.half_spread_frac.tolist(), minutes.depth_qty.tolist(), strict=True)
        )

    @property
    def stored_until_ms(self) -> int:
        """Until when there is a path; later the last price stands."""
        return self._row_ms + MINUTE_MS * (1 + len(self._rows))

    def due_corner(self, now_ms: int) -> int | None:
        """When the path next touches a corner, if that is not after ``now_ms``."""
        while not self._corners and self._rows and self._row_ms + MINUTE_MS <= now_ms:
            self._take_row()
        if self._corners and self._corners[0].at_ms <= now_ms:
            return self._corners[0].at_ms
        return None

    def turn(self) -> None:
        """Trade at the due corner."""
        self._from = self._corners.popleft()
        self._print(self._from.at_ms, self._from.price)

    def advance(self, now_ms: int) -> None:
        """Trade where the path is now, between its corners."""
        price = self._from.price
        if self._corners:
            to = self._corners[0]
            price += (to.price - price) * (now_ms - self._from.at_ms) / max(1, to.at_ms - self._from.at_ms)
        self._print(now_ms, price)
        self.candles.roll(now_ms)

    def _take_row(self) -> None:
        """Corners of the next minute: open, both extremes (the nearer one first), close."""
        self._row = self._rows.popleft()
        self._row_ms += MINUTE_MS
        opened, high, low, closed, _ = self._row[0]
        first, second = (low, high) if closed >= opened else (high, low)
        early, late = self._rng.randrange(9_000, 27_000), self._rng.randrange(33_000, 51_000)
        places = ((0, opened), (early, first), (late, second), (MINUTE_MS - 1, closed))
        self._corners.extend(_Corner(self._row_ms + after_ms, price) for after_ms, price in places)
        self._basis = self._rng.gauss(0.0, _MARK_NOISE)
        kick = _PREMIUM_SD * (1 - _PREMIUM_KEEP**2) ** 0.5
        self._premium += (1 - _PREMIUM_KEEP) * (_PREMIUM_MEAN - self._premium) + self._rng.gauss(0.0, kick)
        self._premium_sum += self._premium
        self._premiums += 1

    def _print(self, at_ms: int, price: float) -> None:
        tick = max(1, self.tick_grid.count(price * self.factor))
        buyer = tick > self.last or (tick == self.last and self._rng.random() < 0.5)
        share = max(at_ms - self._printed_ms, 1) / MINUTE_MS * (0.5 + self._rng.random())
        qty = max(1, self.step_grid.count(self._row[0][4] * share))
        self.last, self._printed_ms = tick, at_ms
        self._quote(buyer=buyer)
        self.candles.roll(at_ms)
        self.candles.trade(self.tick_grid.value(tick), self.step_grid.value(qty), self._next_id, taker_buys=buyer)
        self.trades.append(Print(self._next_id, at_ms, tick, qty, not buyer))
        self._next_id += 1

    def _quote(self, *, buyer: bool) -> None:
        """The touch around the last print, which took from one side of it."""
        _, half_spread_frac, depth_qty = self._row
        spread = max(1, round(2 * half_spread_frac * self.last))
        self.bid, self.ask = (max(1, self.last - spread), self.last) if buyer else (self.last, self.last + spread)
        self.ask = max(self.ask, self.bid + 1)
        usual = self.step_grid.count(depth_qty)
        self.bid_qty = max(1, int(usual * (0.5 + self._rng.random())))
        self.ask_qty = max(1, int(usual * (0.5 + self._rng.random())))
        self.version += 1

    # -- what is derived from it -----------------------------------------------------------------------------------

    @property
    def traded_ms(self) -> int:
        """When the last trade was."""
        return self._printed_ms

    @property
    def mark(self) -> float:
        """Mark price, close to the middle of the touch."""
        return (self.bid + self.ask) / 2 * float(self.tick_grid.step) * (1 + self._basis)

    @property
    def index(self) -> float:
        """Index price: the mark without the premium of the contract."""
        return self.mark / (1 + self._premium)

    @property
    def rate(self) -> float:
        """Running estimate of the coming funding rate: ``P + clamp(I - P, +-0.05 %)``, capped, 8 decimals."""
        if self.forced_rate is not None:
            return self.forced_rate
        premium = self._premium_sum / self._premiums if self._premiums else self._premium
        rate = premium + max(-_CLAMP, min(_CLAMP, INTEREST_RATE - premium))
        return round(max(-FUNDING_CAP, min(FUNDING_CAP, rate / (8 / self.funding_hours))), 8)

    def settle(self) -> Settlement:
        """Close the funding period."""
        settled = Settlement(self.next_funding_ms, self.rate, self.mark)
        self.settlements.append(settled)
        self._premium_sum, self._premiums = 0.0, 0
        self.next_funding_ms += self.funding_hours * HOUR_MS
        return settled

    def settled(self) -> list[Settlement]:
        """Settlements, oldest first; those before the start are invented."""
        if self._past is None:
            self._past = self._invented()
        return [*self._past, *self.settlements]

    def _invented(self) -> list[Settlement]:
        draws, premium, past = Random(self._past_seed), _PREMIUM_MEAN, []
        for row in self.candles.rows("8h").tolist():
            if row[0] <= self.start_ms:
                premium += 0.5 * (_PREMIUM_MEAN - premium) + draws.gauss(0.0, _PREMIUM_SD / 2)
                rate = premium + max(-_CLAMP, min(_CLAMP, INTEREST_RATE - premium))
                past.append(Settlement(int(row[0]), round(rate, 8), row[1]))
        return past[-(self.settlements.maxlen or 0) :]

    def refresh(self) -> None:
        """Bring the ladder to the touch. Only needed when somebody looks at it."""
        if self._refreshed != self.version:
            self._refreshed = self.version
            self.ladder.move(self.bid, self.bid_qty, self.ask, self.ask_qty)

    def best(self) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """Bid, its quantity, ask, its quantity."""
        price, qty = self.tick_grid.decimal, self.step_grid.decimal
        return price(self.bid), qty(self.bid_qty), price(self.ask), qty(self.ask_qty)
