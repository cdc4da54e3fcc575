"""A seeded invented market: for the demo, for benchmarks and for tests; it promises nothing about real ones.

1. A hidden regime (calm, rising, falling, stormy) moves as a Markov chain in continuous time and sets drift and
   volatility of the whole market; rising and falling are mirror images.
2. Every symbol's log return is ``beta`` times a market factor plus a part of its own. The variance of the factor and
   of each part follows a GARCH(1,1) recursion of mean one (Bollerslev, J. Econometrics 31, 1986). Jumps, of the
   market and of single symbols, come as Poisson events with normal sizes (Merton, J. Fin. Econ. 3, 1976).
3. The drift takes back half the variance, so that the expected simple return is that of the regime: zero in the long
   run. Only far from its start (a factor of about 7) is a price pulled back.
4. High and low are extremes of a Brownian bridge between open and close (Glasserman, Monte Carlo Methods in Financial
   Engineering, 2003, section 6.4). Volume, spread and depth follow the volatility.
5. A mean-reverting premium gives the mark price, and averaged over eight hours the funding rate, by the venue's
   formula ``P + clamp(0.01 % - P, +-0.05 %)``.

Numbers are drawn and computed in blocks of fixed size, so the market does not depend on how it is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import exp, inf, log, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import DEFAULT_BRACKETS
from tidegate.domain.market import DAY_NS, HOUR_NS, MINUTE_NS, WEEK_ORIGIN_NS, FundingRate
from tidegate.quant.bars import BarTable
from tidegate.quant.funding import funding_rate

Floats = NDArray[np.float64]

BLOCK_BARS: Final = 512
DEFAULT_START_NS: Final = 19_723 * DAY_NS
"""2024-01-01T00:00Z."""

_YEAR_NS: Final = 365 * DAY_NS
_FUNDING_NS: Final = 8 * HOUR_NS
_MARKET_VOL: Final = 0.50  # of the factor, per year
_ALPHA, _BETA = 0.09, 0.89
_JUMPS_PER_YEAR: Final = 60.0
_MARKET_JUMP: Final = 0.018  # standard deviation of a log jump
_OWN_JUMP: Final = 0.02
_WALL: Final = 2.0  # log distance from the start price at which the pull begins
_PULL_PER_YEAR: Final = 4.0
_PREMIUM_MEAN, _PREMIUM_SD = 0.0002, 0.0004
_PREMIUM_HOURS: Final = 12.0
_MARK_NOISE: Final = 0.00002
_CAP: Final = 0.0075  # of the rate, on either side


class _Regime(NamedTuple):
    drift_per_year: float
    vol: float  # times the usual
    leave_per_day: tuple[float, ...]  # rates to the other regimes


_REGIMES: Final = (
    _Regime(0.0, 0.6, (0.0, 0.08, 0.08, 0.02)),
    _Regime(+0.9, 0.9, (0.12, 0.0, 0.02, 0.03)),
    _Regime(-0.9, 1.1, (0.12, 0.02, 0.0, 0.03)),
    _Regime(0.0, 2.2, (0.30, 0.15, 0.15, 0.0)),
)


class _Character(NamedTuple):
    """What makes a symbol itself: volatility of its own per year, turnover and depth in quote units."""

    start_price: float
    beta: float
    own_vol: float
    daily_volume: float
    half_spread_frac: float
    depth: float


_CHARACTERS: Final = {
    "BTCUSDT": _Character(42_000.0, 0.90, 0.18, 1.2e10, 0.00001, 600_000.0),
    "ETHUSDT": _Character(2_300.0, 1.10, 0.28, 6.0e9, 0.00002, 350_000.0),
    "SOLUSDT": _Character(100.0, 1.35, 0.55, 1.5e9, 0.00006, 90_000.0),
    "BNBUSDT": _Character(310.0, 0.85, 0.32, 4.0e8, 0.00005, 80_000.0),
}
_UNKNOWN: Final = _Character(10.0, 1.10, 0.50, 2.0e8, 0.00010, 40_000.0)


def _contract(base: str, tick: str, step: str, max_qty: int, min_notional: int) -> Instrument:
    return Instrument(
        id=InstrumentId(f"{base}USDT"),
        base=base,
        quote="USDT",
        tick=Decimal(tick),
        step=Decimal(step),
        min_qty=Decimal(step),
        max_qty=Decimal(max_qty),
        market_max_qty=Decimal(max_qty // 5),
        min_notional=Decimal(min_notional),
        min_price=Decimal(tick),
        max_price=Decimal(10_000_000),
        brackets=DEFAULT_BRACKETS,
    )


DEFAULT_UNIVERSE: Final[tuple[Instrument, ...]] = (
    _contract("BTC", "0.1", "0.001", 1_000, 50),
    _contract("ETH", "0.01", "0.001", 10_000, 20),
    _contract("SOL", "0.01", "0.01", 500_000, 5),
    _contract("BNB", "0.01", "0.01", 50_000, 5),
)


@dataclass(frozen=True, slots=True)
class SyntheticChunk:
    """T consecutive bars of one symbol and what belongs to each; arrays are float64 ``(T,)``.

    ``mark`` is the mark price at the close, ``half_spread_frac`` half the bid-ask spread over the price, ``depth_qty``
    the base quantity at the touch. ``funding`` are the settlements in ``(first open, last close]``.
    """

    table: BarTable
    mark: Floats
    half_spread_frac: Floats
    depth_qty: Floats
    funding: list[FundingRate]


class SyntheticMarket:
    """An endless market of several symbols. The same arguments give the same numbers, however they are read.

    ``instruments`` are contracts, or names out of ``DEFAULT_UNIVERSE``; ``start_prices`` (by name, in quote units)
    replaces the usual ones. The first bar opens at ``start_ns``, which must lie on the interval's grid. Raises
    ``ValueError`` for arguments that make no market.
    """

    def __init__(
        self,
        seed: int,
        instruments: Sequence[Instrument | str] = DEFAULT_UNIVERSE,
        interval_ns: Nanos = MINUTE_NS,
        start_ns: Nanos = DEFAULT_START_NS,
        start_prices: Mapping[str, float] | None = None,
    ) -> None:
        if not instruments:
            raise ValueError("a market needs at least one instrument")
        origin_ns = WEEK_ORIGIN_NS if interval_ns == 7 * DAY_NS else 0
        if interval_ns <= 0 or (start_ns - origin_ns) % interval_ns:
            raise ValueError(f"start_ns {start_ns} does not lie on the grid of interval_ns {interval_ns}")
        prices = dict(start_prices or {})
        self.instruments: tuple[Instrument, ...] = tuple(_listed(entry) for entry in instruments)
        self.interval_ns = interval_ns
        self.start_ns = start_ns
        self._seed = seed
        self._start_prices = prices
        for name, price in prices.items():
            if name not in {instrument.id for instrument in self.instruments} or not 0 < price < inf:
                raise ValueError(f"start_prices: {name} {price!r} is not a positive price of one of the instruments")

    def chunks(self, rows: int) -> Iterator[dict[InstrumentId, SyntheticChunk]]:
        """The market from its first bar on, ``rows`` bars at a time, without end. Every call begins anew."""
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        blocks = _Process(self._seed, self.instruments, self.interval_ns, self.start_ns, self._start_prices)
        held = blocks.next()
        while True:
            missing = -(-max(0, rows - len(held.ts_ns)) // BLOCK_BARS)
            if missing:
                held = _joined([held, *(blocks.next() for _ in range(missing))])
            yield held.chunk(rows, self.instruments, self.interval_ns)
            held = held.after(rows)


@dataclass(slots=True)
class _Block:
    """Consecutive bars: ``columns`` are float64 ``(T, N)``, ``settled`` the rows ``(ts_ns, rates (N,))``."""

    ts_ns: NDArray[np.int64]
    columns: dict[str, Floats]
    settled: list[tuple[int, Floats]]

    def after(self, rows: int) -> "_Block":
        cut_ns = self.ts_ns[rows - 1]
        later = [entry for entry in self.settled if entry[0] > cut_ns]
        return _Block(self.ts_ns[rows:], {name: column[rows:] for name, column in self.columns.items()}, later)

    def chunk(
        self, rows: int, instruments: Sequence[Instrument], interval_ns: Nanos
    ) -> dict[InstrumentId, SyntheticChunk]:
        ts_ns = self.ts_ns[:rows].copy()
        settled = [entry for entry in self.settled if entry[0] <= ts_ns[-1]]
        chunks: dict[InstrumentId, SyntheticChunk] = {}
        for n, instrument in enumerate(instruments):
            own = {name: column[:rows, n].copy() for name, column in self.columns.items()}
            bars = [own[name] for name in ("open", "high", "low", "close", "volume")]
            funding = [FundingRate(instrument.id, at_ns, at_ns, float(rates[n])) for at_ns, rates in settled]
            table = BarTable(interval_ns, ts_ns, *bars)
            chunks[instrument.id] = SyntheticChunk(table, own["mark"], own["spread"], own["depth"], funding)
        return chunks


def _joined(blocks: Sequence[_Block]) -> _Block:
    columns = {name: np.concatenate([block.columns[name] for block in blocks]) for name in blocks[0].columns}
    settled = [entry for block in blocks for entry in block.settled]
    return _Block(np.concatenate([block.ts_ns for block in blocks]), columns, settled)


class _Process:
    """The state of the market from block to block, and the step from one to the next."""

    def __init__(
        self,
        seed: int,
        instruments: Sequence[Instrument],
        interval_ns: Nanos,
        start_ns: Nanos,
        start_prices: Mapping[str, float],
    ) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._interval_ns = interval_ns
        self._open_ns = start_ns
        self._years = interval_ns / _YEAR_NS
        self._n = len(instruments)
        traits = [_CHARACTERS.get(instrument.id, _UNKNOWN) for instrument in instruments]
        self._beta = np.array([trait.beta for trait in traits])
        self._market_vol = self._beta * _MARKET_VOL
        self._own_vol = np.array([trait.own_vol for trait in traits])
        self._daily_volume = np.array([trait.daily_volume for trait in traits])
        self._spread = np.array([trait.half_spread_frac for trait in traits])
        self._depth = np.array([trait.depth for trait in traits])
        self._tick = _Grid([instrument.tick for instrument in instruments])
        self._step = _Grid([instrument.step for instrument in instruments])
        prices = [start_prices.get(i.id, trait.start_price) for i, trait in zip(instruments, traits, strict=True)]
        self._home = np.array([log(price) for price in prices])
        self._log_price: list[float] = self._home.tolist()
        self._close_ticks = self._tick.count(np.exp(self._home))
        self._moves = _transitions(interval_ns / DAY_NS)
        self._regime = 0
        self._variance = [1.0] * (self._n + 1)
        self._premium = [_PREMIUM_MEAN] * self._n
        self._premium_sum = np.zeros(self._n)
        self._premium_bars = 0

    def next(self) -> _Block:
        """The next ``BLOCK_BARS`` bars. The order of the draws is part of what the seed means."""
        random, shape = self._random, (BLOCK_BARS, self._n)
        regime = self._regimes(random.random(BLOCK_BARS))
        drift = np.array([state.drift_per_year for state in _REGIMES])[regime][:, None]
        vol = np.array([state.vol for state in _REGIMES])[regime][:, None]
        shocks = random.standard_normal((BLOCK_BARS, self._n + 1))
        deviation = vol * sqrt(self._years) * np.sqrt(self._garch(shocks))
        market, own = self._market_vol * deviation[:, :1], self._own_vol * deviation[:, 1:]
        variance = market**2 + own**2
        jumps, jump_drift = self._jumps()
        fair = self._beta * drift * self._years - variance / 2 - jump_drift
        log_price = self._walk(fair + market * shocks[:, :1] + own * shocks[:, 1:] + jumps)
        columns = self._bars(log_price, variance, random.random((3, *shape)))
        activity = np.sqrt(variance / (self._years * (self._market_vol**2 + self._own_vol**2)))
        noise = random.standard_normal((3, *shape))
        columns |= self._liquidity(columns["close"], activity, np.abs(shocks[:, 1:]), noise)
        premium = self._premiums(random.standard_normal(shape))
        columns["mark"] = columns["close"] * (1.0 + _MARK_NOISE * random.standard_normal(shape))
        ts_ns = self._open_ns + self._interval_ns * np.arange(1, BLOCK_BARS + 1, dtype=np.int64)
        self._open_ns = int(ts_ns[-1])
        return _Block(ts_ns, columns, self._settlements(ts_ns, premium))

    def _regimes(self, uniform: Floats) -> NDArray[np.int64]:
        regime, path = self._regime, []
        for value in uniform.tolist():
            regime = next((to for to, edge in enumerate(self._moves[regime]) if value < edge), regime)
            path.append(regime)
        self._regime = regime
        return np.array(path)

    def _garch(self, shocks: Floats) -> Floats:
        """Variances ``(B, N + 1)`` in force for each bar: ``h' = (1 - a - b) + (a z^2 + b) h``."""
        paths = []
        for column in range(self._n + 1):
            now, path = self._variance[column], []
            for factor in (_ALPHA * shocks[:, column] ** 2 + _BETA).tolist():
                path.append(now)
                now = (1.0 - _ALPHA - _BETA) + factor * now
            self._variance[column] = now
            paths.append(path)
        return np.array(paths).T

    def _jumps(self) -> tuple[Floats, Floats]:
        """Log jumps ``(B, N)`` and the drift that takes their expected simple return back, per bar ``(N,)``."""
        rate = _JUMPS_PER_YEAR * self._years
        counts = np.sqrt(self._random.poisson(rate, (BLOCK_BARS, self._n + 1)))
        sizes = counts * self._random.standard_normal((BLOCK_BARS, self._n + 1))
        jumps = self._beta * _MARKET_JUMP * sizes[:, :1] + _OWN_JUMP * sizes[:, 1:]
        return jumps, rate * (np.expm1((self._beta * _MARKET_JUMP) ** 2 / 2) + np.expm1(_OWN_JUMP**2 / 2))

    def _walk(self, steps: Floats) -> Floats:
        """Log prices ``(B, N)``; what lies beyond the wall around a start price decays back to it."""
        keep = exp(-_PULL_PER_YEAR * self._years)
        paths = []
        for column, home in enumerate(self._home.tolist()):
            low, high = home - _WALL, home + _WALL
            now, path = self._log_price[column], []
            for step in steps[:, column].tolist():
                now += step
                if now > high:
                    now = high + (now - high) * keep
                elif now < low:
                    now = low + (now - low) * keep
                path.append(now)
            self._log_price[column] = now
            paths.append(path)
        return np.array(paths).T

    def _bars(self, log_price: Floats, variance: Floats, uniform: Floats) -> dict[str, Floats]:
        """Prices on the tick grid: the open is the last close or a tick beside it; the reach is past both ends."""
        close = np.maximum(self._tick.count(np.exp(log_price)), 1.0)
        beside = np.where(uniform[0] < 0.15, -1.0, np.where(uniform[0] > 0.85, 1.0, 0.0))
        opened = np.maximum(np.vstack([self._close_ticks, close[:-1]]) + beside, 1.0)
        self._close_ticks = close[-1]
        move = np.log(close / opened)
        reach_up = (move + np.sqrt(move**2 - 2.0 * variance * np.log1p(-uniform[1]))) / 2
        reach_down = (move - np.sqrt(move**2 - 2.0 * variance * np.log1p(-uniform[2]))) / 2
        high = np.rint(opened * np.exp(reach_up))
        low = np.maximum(np.rint(opened * np.exp(reach_down)), 1.0)
        ticks = {"open": opened, "high": high, "low": low, "close": close}
        return {name: self._tick.value(count) for name, count in ticks.items()}

    def _liquidity(self, close: Floats, activity: Floats, surprise: Floats, noise: Floats) -> dict[str, Floats]:
        """Busy bars trade more, at a wider spread and with less at the touch."""
        traded = self._daily_volume * self._interval_ns / DAY_NS * activity * (0.5 + 0.6 * surprise)
        spread = self._spread * np.sqrt(activity) * np.exp(0.15 * noise[1])
        depth = self._depth / activity * np.exp(0.3 * noise[2])
        return {
            "volume": self._step.value(np.maximum(self._step.count(traded * np.exp(0.35 * noise[0]) / close), 1.0)),
            "spread": np.maximum(spread, self._tick.value(np.array(0.5)) / close),
            "depth": self._step.value(np.maximum(self._step.count(depth / close), 1.0)),
        }

    def _premiums(self, noise: Floats) -> Floats:
        """Mark over index minus one, ``(B, N)``: an exact AR(1) sampling of an Ornstein-Uhlenbeck process."""
        keep = exp(-self._interval_ns / (_PREMIUM_HOURS * HOUR_NS))
        kick = _PREMIUM_SD * sqrt(1.0 - keep**2)
        paths = []
        for column in range(self._n):
            now, path = self._premium[column], []
            for draw in (kick * noise[:, column] + _PREMIUM_MEAN * (1.0 - keep)).tolist():
                now = keep * now + draw
                path.append(now)
            self._premium[column] = now
            paths.append(path)
        return np.array(paths).T

    def _settlements(self, ts_ns: NDArray[np.int64], premium: Floats) -> list[tuple[int, Floats]]:
        """Every eight hours the rate of the mean premium since the last time."""
        settled: list[tuple[int, Floats]] = []
        begun = 0
        for row in np.flatnonzero(ts_ns // _FUNDING_NS > (ts_ns - self._interval_ns) // _FUNDING_NS).tolist():
            total = self._premium_sum + premium[begun : row + 1].sum(axis=0)
            mean = total / (self._premium_bars + row + 1 - begun)
            rate = np.clip(funding_rate(mean), -_CAP, _CAP)
            first = ((int(ts_ns[row]) - self._interval_ns) // _FUNDING_NS + 1) * _FUNDING_NS
            settled.extend((at_ns, np.round(rate, 8)) for at_ns in range(first, int(ts_ns[row]) + 1, _FUNDING_NS))
            self._premium_sum, self._premium_bars, begun = np.zeros(self._n), 0, row + 1
        self._premium_sum = self._premium_sum + premium[begun:].sum(axis=0)
        self._premium_bars += len(premium) - begun
        return settled


class _Grid:
    """A decimal grid per symbol: counts of its step, and the floats nearest to their decimal values."""

    def __init__(self, steps: Sequence[Decimal]) -> None:
        parts = [step.normalize().as_tuple() for step in steps]
        powers = [int(part.exponent) for part in parts]
        digits = [int("".join(map(str, part.digits))) for part in parts]
        self._times = np.array([float(d * 10 ** max(power, 0)) for d, power in zip(digits, powers, strict=True)])
        self._over = np.array([float(10 ** max(-power, 0)) for power in powers])

    def count(self, values: Floats) -> Floats:
        counts: Floats = np.rint(values * self._over / self._times)
        return counts

    def value(self, counts: Floats) -> Floats:
        values: Floats = counts * self._times / self._over
        return values


def _transitions(days: float) -> list[list[float]]:
    """Cumulated probabilities of the regime one bar later, ``exp(Q days)`` by scaling and squaring."""
    rates = np.array([regime.leave_per_day for regime in _REGIMES])
    halvings = max(0, int(np.ceil(np.log2(max(days, 1e-9) * 64))))
    step = np.eye(len(_REGIMES)) + (rates - np.diag(rates.sum(axis=1))) * (days / 2**halvings)
    return [row.tolist() for row in np.cumsum(np.linalg.matrix_power(step, 2**halvings), axis=1)]


def _listed(entry: Instrument | str) -> Instrument:
    if isinstance(entry, Instrument):
        return entry
    known = {str(instrument.id): instrument for instrument in DEFAULT_UNIVERSE}
    if entry not in known:
        raise ValueError(f"no contract {entry!r} in the invented market; it has {' '.join(known)}")
    return known[entry]
