"""The market of the local exchange: prices that walk by the exchange's clock, and everything derived from them.

Every ``tick_ms`` each symbol trades where its path is; corners of the path that were passed since are traded at on
the way, so that no extreme is lost however coarse the ticks are. After each price change the listeners are called
(orders trigger), after each tick the observers (streams publish).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

import msgspec

from tidegate.adapters.localnet.candles import MINUTE_MS, Candles, Segments
from tidegate.adapters.localnet.line import HOUR_MS, Line, Settlement
from tidegate.adapters.localnet.path import Minutes, Path, SyntheticPath, history
from tidegate.adapters.localnet.symbols import SymbolInfo
from tidegate.domain.instrument import Instrument
from tidegate.ports import Clock
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE

PriceListener = Callable[[str, int], None]
"""Called with symbol and time (ns) after every change of a price."""
FundingListener = Callable[[str, Decimal, Decimal, int], None]
"""Called with symbol, rate, mark price and time (ms) at a settlement."""
TickObserver = Callable[[int], None]
"""Called with the time (ms) when all symbols have moved."""


@dataclass(frozen=True, slots=True)
class MarketConfig:
    """``speed``: minutes of the path in a minute of the venue. ``history_bars``: candles of each interval before the
    start. ``levels``: of the book, per side.
    """

    seed: int = 1
    instruments: tuple[Instrument, ...] = DEFAULT_UNIVERSE
    speed: float = 1.0
    tick_ms: int = 250
    levels: int = 100
    history_bars: int = 1_500


class LocalMarket:
    """Prices of several symbols from the moment it is made on. It implements the ``Prices`` that accounts need.

    ``path`` defaults to the invented market of ``config.seed``. Nothing moves until ``tick`` is called, which ``run``
    does by the clock.
    """

    def __init__(self, clock: Clock, rng: Random, config: MarketConfig | None = None, path: Path | None = None) -> None:
        self.config = config or MarketConfig()
        self.symbols: dict[str, SymbolInfo] = {str(each.id): SymbolInfo.of(each) for each in self.config.instruments}
        self._clock = clock
        self._path = path or SyntheticPath(self.config.seed, self.config.instruments, self.config.speed)
        self._blocks: Iterator[Mapping[str, Minutes]] = iter(self._path.minutes())
        self._listeners: list[PriceListener] = []
        self._funding: list[FundingListener] = []
        self._observers: list[TickObserver] = []
        self._relisted: list[Callable[[str], None]] = []
        self._history: dict[str, Segments] | None = None
        self.start_ms = clock.now_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
        self.now_ms = self.start_ms
        first = next(self._blocks)
        self._meet = {name: float(first[name].rows[0, 0]) for name in self.symbols}
        self.lines = {name: self._line(name, first[name], rng) for name in self.symbols}
        self.tick()

    def _line(self, name: str, minutes: Minutes, rng: Random) -> Line:
        price = self._meet[name]
        candles = Candles(self.start_ms, price, lambda: self._before(name))
        own = Random(rng.getrandbits(64))
        line = Line(self.symbols[name], candles, self.start_ms, price, own, self.config.levels)
        line.feed(minutes)
        return line

    def _before(self, name: str) -> Segments:
        if self._history is None:
            settings = (self.config.seed, self.config.instruments, self.config.speed, self.config.history_bars)
            self._history = history(self._path, *settings, self.start_ms, self._meet)
        return self._history[name]

    def prepare(self) -> None:
        """Make the history of all symbols now rather than at the first question, which then takes its time."""
        for line in self.lines.values():
            line.candles.prepare()

    # -- what accounts ask ---------------------------------------------------------------------------------------------

    def best(self, symbol: str) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """Bid, bid quantity, ask, ask quantity."""
        return self.lines[symbol].best()

    def last(self, symbol: str) -> Decimal:
        """The last traded price."""
        line = self.lines[symbol]
        return line.tick_grid.decimal(line.last)

    def mark(self, symbol: str) -> Decimal:
        """The mark price, 8 decimals."""
        return Decimal(f"{self.lines[symbol].mark:.8f}")

    def index(self, symbol: str) -> Decimal:
        """The index price, 8 decimals."""
        return Decimal(f"{self.lines[symbol].index:.8f}")

    def funding(self, symbol: str) -> tuple[Decimal, int]:
        """The running funding rate, and when it is settled (ms)."""
        line = self.lines[symbol]
        return Decimal(f"{line.rate:.8f}"), line.next_funding_ms

    def subscribe(self, callback: PriceListener) -> None:
        """Call ``callback(symbol, now_ns)`` after every price change."""
        self._listeners.append(callback)

    def on_funding(self, callback: FundingListener) -> None:
        """Call ``callback(symbol, rate, mark, at_ms)`` at every funding settlement."""
        self._funding.append(callback)

    def on_tick(self, callback: TickObserver) -> None:
        """Call ``callback(now_ms)`` after every tick."""
        self._observers.append(callback)

    def on_listing(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(symbol)`` when the status or the filters of a symbol have changed."""
        self._relisted.append(callback)

    # -- time ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tick by the clock, until cancelled."""
        step_ns = self.config.tick_ms * 1_000_000
        while True:
            await self._clock.sleep_until((self._clock.now_ns() // step_ns + 1) * step_ns)
            self.tick()

    def tick(self) -> None:
        """Move every symbol to the clock's time. A clock that was set back moves nothing until it has caught up."""
        now_ms = max(self.now_ms, self._clock.now_ns() // 1_000_000)
        self._feed(now_ms)
        for name, line in self.lines.items():
            line.candles.closed.clear()
            self._settle(name, line, now_ms)
            while (at_ms := line.due_corner(now_ms)) is not None:
                line.turn()
                self._tell(name, max(at_ms, self.now_ms))
            line.advance(now_ms)
            self._tell(name, now_ms)
        self.now_ms = now_ms
        for observer in self._observers:
            observer(now_ms)

    def _feed(self, now_ms: int) -> None:
        line = next(iter(self.lines.values()))
        while line.stored_until_ms <= now_ms + MINUTE_MS and (block := next(self._blocks, None)) is not None:
            for name, each in self.lines.items():
                each.feed(block[name])

    def _tell(self, name: str, at_ms: int) -> None:
        for listener in self._listeners:
            listener(name, at_ms * 1_000_000)

    def _settle(self, name: str, line: Line, now_ms: int) -> None:
        while line.next_funding_ms <= now_ms:
            settled: Settlement = line.settle()
            rate, mark = Decimal(f"{settled.rate:.8f}"), Decimal(f"{settled.mark:.8f}")
            for listener in self._funding:
                listener(name, rate, mark, settled.at_ms)

    # -- acts of the venue ---------------------------------------------------------------------------------------------

    def shift(self, symbol: str, by_frac: float) -> None:
        """Move the price by a fraction at once and for good. Raises ``ValueError`` for -1 and below."""
        if by_frac <= -1:
            raise ValueError(f"by_frac {by_frac} leaves no price")
        self.lines[symbol].factor *= 1 + by_frac
        self.tick()

    def set_funding(self, symbol: str, rate: float | None = None, interval_hours: int | None = None) -> None:
        """Force the coming rates (``None``: as computed), and settle every ``interval_hours``."""
        line = self.lines[symbol]
        line.forced_rate = rate
        if interval_hours is not None:
            if interval_hours not in (1, 4, 8):
                raise ValueError(f"interval_hours {interval_hours} is not 1, 4 or 8")
            line.funding_hours = interval_hours
            line.next_funding_ms = (self.now_ms // (interval_hours * HOUR_MS) + 1) * interval_hours * HOUR_MS

    def set_status(self, symbol: str, status: str) -> None:
        """Change the trading status of a symbol, as ``exchangeInfo`` says it."""
        listed = self.symbols[symbol]
        self._list(symbol, SymbolInfo(listed.instrument, {**listed.info, "status": status}))

    def set_contract(self, symbol: str, changes: Mapping[str, Any]) -> None:
        """Change fields of the contract (``tick``, ``step``, ``min_notional``, ...) and so its filters.

        The market goes on printing on the grid that it has.
        """
        listed = self.symbols[symbol]
        instrument = msgspec.structs.replace(listed.instrument, **changes)
        self._list(symbol, SymbolInfo.of(instrument, str(listed.info["status"])))

    def _list(self, symbol: str, listed: SymbolInfo) -> None:
        self.symbols[symbol] = self.lines[symbol].listed = listed
        for callback in self._relisted:
            callback(symbol)
