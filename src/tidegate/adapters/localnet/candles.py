"""Candles of one symbol in every interval: what was before the start, what closed since, and the open one.

A row is float64 ``(11,)``: open time in ms, open, high, low, close, base volume, close time in ms, quote volume,
trades, taker buy base volume, taker buy quote volume (the columns of ``/fapi/v1/klines`` without the last).
History is asked for only when somebody wants it; an interval that was already open at the start joins both.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.market import INTERVALS_NS, BarSpec

Floats = NDArray[np.float64]
Segments = list[Floats]
"""Bars before the start, rows ``(open_ms, open, high, low, close, volume)``, in order of time, finer ones later."""

MINUTE_MS: Final = 60_000
MONTH: Final = "1M"
INTERVALS: Final[tuple[str, ...]] = (*INTERVALS_NS, MONTH)
_COLUMNS: Final = 11


@dataclass(slots=True)
class Candle:
    """One interval ``[open_ms, end_ms)``. With no trade yet all prices are the last close."""

    open_ms: int
    end_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float = 0.0
    quote: float = 0.0
    trades: int = 0
    taker: float = 0.0
    taker_quote: float = 0.0
    first_id: int = -1
    last_id: int = -1

    def trade(self, price: float, qty: float, trade_id: int, *, taker_buys: bool) -> None:
        """Take one print in."""
        if not self.trades:
            self.open = self.high = self.low = price
            self.first_id = trade_id
        self.high, self.low, self.close = max(self.high, price), min(self.low, price), price
        self.volume += qty
        self.quote += price * qty
        self.trades += 1
        self.last_id = trade_id
        if taker_buys:
            self.taker += qty
            self.taker_quote += price * qty

    def join(self, later: "Candle") -> None:
        """Take in a candle that follows inside this interval."""
        if not later.trades:
            return
        if not self.trades:
            self.open, self.high, self.low, self.first_id = later.open, later.high, later.low, later.first_id
        self.high, self.low, self.close = max(self.high, later.high), min(self.low, later.low), later.close
        self.volume += later.volume
        self.quote += later.quote
        self.trades += later.trades
        self.taker += later.taker
        self.taker_quote += later.taker_quote
        self.last_id = later.last_id

    def row(self) -> list[float]:
        """The candle as a row of ``_COLUMNS`` numbers."""
        prices = (self.open, self.high, self.low, self.close)
        flow = (self.quote, self.trades, self.taker, self.taker_quote)
        return [self.open_ms, *prices, self.volume, self.end_ms - 1, *flow]

    @classmethod
    def of(cls, row: Floats) -> "Candle":
        """The candle of a row."""
        opened, first, high, low, last, volume, closed, quote, trades, taker, taker_quote = row.tolist()
        flow = (quote, int(trades), taker, taker_quote)
        return cls(int(opened), int(closed) + 1, first, high, low, last, volume, *flow)


class Candles:
    """All intervals of one symbol from ``start_ms`` (a whole minute) on.

    ``history`` gives the bars before ``start_ms``; it is called once, when it is first needed.
    """

    def __init__(self, start_ms: int, price: float, history: Callable[[], Segments]) -> None:
        self._start_ms = start_ms
        self._history = history
        self._segments: Segments | None = None
        self._past: dict[str, Floats] = {}
        self._live: dict[str, array[float]] = {name: array("d") for name in INTERVALS}
        self._open = {name: _opened(name, start_ms, price) for name in INTERVALS}
        self._minute = self._open["1m"]
        self.closed: list[tuple[str, Candle]] = []

    def prepare(self) -> None:
        """Make the history now rather than when it is first asked for."""
        for interval in INTERVALS:
            self._past_rows(interval)

    def trade(self, price: float, qty: float, trade_id: int, *, taker_buys: bool) -> None:
        """Take in a print of the open minute."""
        self._minute.trade(price, qty, trade_id, taker_buys=taker_buys)

    def roll(self, now_ms: int) -> None:
        """Close every minute that has ended, and with it the longer intervals; they are noted in ``closed``."""
        while self._minute.end_ms <= now_ms:
            minute = self._minute
            for name, candle in self._open.items():
                if candle is not minute:
                    candle.join(minute)
                if candle.end_ms == minute.end_ms:
                    self._live[name].extend(candle.row())
                    self.closed.append((name, candle))
                    self._open[name] = _empty(name, minute.end_ms, minute.close)
            self._minute = self._open["1m"]

    def current(self, interval: str) -> Candle:
        """The open candle of an interval as it stands."""
        whole = self.whole(interval, self._open[interval])
        if interval != "1m":
            whole.join(self._minute)
        return whole

    def whole(self, interval: str, candle: Candle) -> Candle:
        """A copy of ``candle``, with what happened in it before the start."""
        if candle.open_ms >= self._start_ms:
            return Candle(*_fields(candle))
        past = self._past_rows(interval)
        if not len(past) or past[-1, 0] != candle.open_ms:
            return Candle(*_fields(candle))
        begun = Candle.of(past[-1])
        begun.end_ms = candle.end_ms
        begun.join(candle)
        return begun

    def rows(self, interval: str, newest: int | None = None) -> Floats:
        """Candles ``(n, 11)``, oldest first: all, or the ``newest`` ones. The last one is still open."""
        held = self._live[interval]
        if newest is not None and len(held) >= newest * _COLUMNS:
            live = np.array(held[-newest * _COLUMNS :], dtype=np.float64).reshape(-1, _COLUMNS)
            if live[0, 0] >= self._start_ms:
                return np.vstack([live[1:], [self.current(interval).row()]])
        live = np.array(held, dtype=np.float64).reshape(-1, _COLUMNS)
        past = self._past_rows(interval)
        if len(past) and past[-1, 6] >= self._start_ms:
            if len(live):
                live[0] = self.whole(interval, Candle.of(live[0])).row()
            past = past[:-1]
        if newest is not None:
            past = past[max(0, len(past) - newest) :]
        rows = np.vstack([past, live, [self.current(interval).row()]])
        return rows if newest is None else rows[-newest:]

    def _past_rows(self, interval: str) -> Floats:
        """Candles that began before the start; the last may reach past it."""
        if interval not in self._past:
            if self._segments is None:
                self._segments = self._history()
            self._past[interval] = _aggregated(self._segments, interval)
        return self._past[interval]


def _fields(candle: Candle) -> tuple[int, int, float, float, float, float, float, float, int, float, float, int, int]:
    prices = (candle.open, candle.high, candle.low, candle.close)
    flow = (candle.volume, candle.quote, candle.trades, candle.taker, candle.taker_quote)
    return (candle.open_ms, candle.end_ms, *prices, *flow, candle.first_id, candle.last_id)


def _opened(interval: str, at_ms: int, price: float) -> Candle:
    return _empty(interval, int(open_times(interval, np.array([at_ms], dtype=np.int64))[0]), price)


def _empty(interval: str, open_ms: int, price: float) -> Candle:
    return Candle(open_ms, end_of(interval, open_ms), price, price, price, price)


def open_times(interval: str, at_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """When the candles that hold the given times open. Months follow the calendar."""
    if interval == MONTH:
        months = at_ms.astype("datetime64[ms]").astype("datetime64[M]")
        return months.astype("datetime64[ms]").astype(np.int64)
    spec = BarSpec.of(interval)
    length_ms, origin_ms = spec.interval_ns // 1_000_000, spec.origin_ns // 1_000_000
    opened: NDArray[np.int64] = (at_ms - origin_ms) // length_ms * length_ms + origin_ms
    return opened


def end_of(interval: str, open_ms: int) -> int:
    """When the candle that opens at ``open_ms`` ends (exclusive)."""
    if interval != MONTH:
        return open_ms + INTERVALS_NS[interval] // 1_000_000
    begin = datetime.fromtimestamp(open_ms / 1_000, UTC)
    after = begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    return int(after.timestamp()) * 1_000


def _aggregated(segments: Segments, interval: str) -> Floats:
    """Rows of 11 columns from bars no longer than the interval; a first one that misses its beginning is dropped."""
    longest_ms = end_of(interval, 0)
    usable = [rows for rows in segments if len(rows) and _length_ms(rows) <= longest_ms]
    if not usable:
        return np.empty((0, _COLUMNS))
    bars = np.vstack(usable)
    opened = open_times(interval, bars[:, 0].astype(np.int64))
    firsts = np.flatnonzero(np.r_[True, opened[1:] != opened[:-1]])
    if bars[0, 0] != opened[0]:
        firsts = firsts[1:]
    if not len(firsts):
        return np.empty((0, _COLUMNS))
    lasts = np.r_[firsts[1:], len(bars)] - 1
    out = np.empty((len(firsts), _COLUMNS))
    out[:, 0] = opened[firsts]
    out[:, 1] = bars[firsts, 1]
    skip = firsts[0]
    out[:, 2] = np.maximum.reduceat(bars[skip:, 2], firsts - skip)
    out[:, 3] = np.minimum.reduceat(bars[skip:, 3], firsts - skip)
    out[:, 4] = bars[lasts, 4]
    out[:, 5] = np.add.reduceat(bars[skip:, 5], firsts - skip)
    out[:, 6] = [end_of(interval, int(at_ms)) - 1 for at_ms in out[:, 0].tolist()]
    _invent_flow(out)
    return out


def _length_ms(rows: Floats) -> float:
    return float(rows[1, 0] - rows[0, 0]) if len(rows) > 1 else float(MINUTE_MS)


def _invent_flow(rows: Floats) -> None:
    """Turnover, number of trades and taker share, which bars do not hold: plausible and always the same."""
    reach = np.maximum(rows[:, 2] - rows[:, 3], 1e-12)
    share = 0.5 + 0.3 * (rows[:, 4] - rows[:, 1]) / reach
    rows[:, 7] = rows[:, 5] * rows[:, 1:5].mean(axis=1)
    rows[:, 8] = np.maximum(1.0, np.floor(np.sqrt(rows[:, 7])))
    rows[:, 9] = rows[:, 5] * share
    rows[:, 10] = rows[:, 7] * share
