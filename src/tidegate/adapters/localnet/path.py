"""Where prices come from: minute bars without end, invented from a seed or read from stored history.

A row stands for one minute of the venue's time. ``speed`` says how much time of the path such a minute holds: bars of
``speed`` minutes are made and told as bars of one minute, so the clock of the exchange is never touched.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.instrument import Instrument
from tidegate.domain.market import DAY_NS, HOUR_NS, MINUTE_NS, WEEK_ORIGIN_NS
from tidegate.quant.bars import BarTable
from tidegate.simulator.synthetic import BLOCK_BARS, SyntheticMarket

Floats = NDArray[np.float64]
Bars = Callable[[str], Iterator[BarTable]]
"""Stored bars of a symbol in order of time, all of one interval."""

_DAY_MS: Final = DAY_NS // 1_000_000
_LEVELS: Final = ((MINUTE_NS, 5), (15 * MINUTE_NS, 4), (2 * HOUR_NS, 6), (DAY_NS, 7))
"""Bars that history is made of, newest first, and how many of them the longest interval needs that is made of them:
minutes make up to 5m, quarters up to 1h, two hours up to 12h, days the rest."""
_SPREAD_FRAC: Final = 0.00002
_DEPTH_USDT: Final = 200_000.0


@dataclass(frozen=True, slots=True)
class Minutes:
    """Consecutive minutes of one symbol: ``rows (n, 5)`` open, high, low, close, volume, and the touch ``(n,)``."""

    rows: Floats
    half_spread_frac: Floats
    depth_qty: Floats

    @classmethod
    def plain(cls, rows: Floats) -> "Minutes":
        """Bars of which only prices and volume are known."""
        return cls(rows, np.full(len(rows), _SPREAD_FRAC), _DEPTH_USDT / rows[:, 3])


class Path(Protocol):
    """A source of minutes."""

    def minutes(self) -> Iterator[Mapping[str, Minutes]]:
        """The market from the start on, in blocks; every block has every symbol. It may end."""
        ...

    def before(self) -> Mapping[str, Floats]:
        """The minutes just before the start, ``(n, 5)``, the same number of every symbol; nothing when unknown."""
        ...


class SyntheticPath:
    """The invented market of the simulator. Raises ``ValueError`` for a speed that is not positive."""

    def __init__(self, seed: int, instruments: Sequence[Instrument], speed: float = 1.0) -> None:
        if not 0 < speed <= 10_000:
            raise ValueError(f"speed {speed} is not between 0 and 10000")
        self._market = invented(seed, instruments, round(speed * MINUTE_NS))

    def minutes(self) -> Iterator[Mapping[str, Minutes]]:
        """Blocks of ``BLOCK_BARS`` minutes, without end."""
        for chunk in self._market.chunks(BLOCK_BARS):
            yield {
                str(name): Minutes(part.table.rows(), part.half_spread_frac, part.depth_qty)
                for name, part in chunk.items()
            }

    def before(self) -> Mapping[str, Floats]:
        """Nothing: what was before is invented like all other history."""
        return {}


class ResumedPath:
    """Another path from the prices on at which a market was left: the first open of each symbol is its last price."""

    def __init__(self, path: Path, last: Mapping[str, float]) -> None:
        self._path, self._last = path, last
        self._scales: dict[str, float] = {}

    def minutes(self) -> Iterator[Mapping[str, Minutes]]:
        """Those of the path, scaled."""
        for block in self._path.minutes():
            yield {name: self._scaled(name, part) for name, part in block.items()}

    def before(self) -> Mapping[str, Floats]:
        """Nothing: what was before is invented like all other history."""
        return {}

    def _scaled(self, name: str, part: Minutes) -> Minutes:
        scale = self._scales.setdefault(name, self._last.get(name, float(part.rows[0, 0])) / float(part.rows[0, 0]))
        rows = part.rows.copy()
        rows[:, :4] *= scale
        return Minutes(rows, part.half_spread_frac, part.depth_qty / scale)


class ReplayPath:
    """Stored bars from the first time on at which every symbol has some; gaps in them close up.

    The first ``past_days`` of them, at most half, lie before the start.
    Raises ``ValueError`` naming the symbol of which nothing is stored, or all when they have no time in common.
    """

    def __init__(self, symbols: Sequence[str], bars: Bars, speed: float = 1.0, past_days: int = 32) -> None:
        if not 0 < speed <= 10_000:
            raise ValueError(f"speed {speed} is not between 0 and 10000")
        tables = {name: self._stored(name, bars) for name in symbols}
        common_ns = max(int(table[0].ts_ns[0]) for table in tables.values())
        self._rows = {name: self._minutes_of(stored, common_ns, speed) for name, stored in tables.items()}
        length = min(len(rows) for rows in self._rows.values())
        if length < 2:
            raise ValueError(f"replay: {' and '.join(symbols)} have no time in common in what is stored")
        self._past = min(past_days * 1_440, length // 2)

    def minutes(self) -> Iterator[Mapping[str, Minutes]]:
        """One block per 512 minutes until the shortest symbol ends."""
        length = min(len(rows) for rows in self._rows.values())
        for first in range(self._past, length, BLOCK_BARS):
            last = min(first + BLOCK_BARS, length)
            yield {name: Minutes.plain(rows[first:last]) for name, rows in self._rows.items()}

    def before(self) -> Mapping[str, Floats]:
        """The stored minutes before the start."""
        return {name: rows[: self._past] for name, rows in self._rows.items()}

    @staticmethod
    def _stored(name: str, bars: Bars) -> list[BarTable]:
        tables = [table for table in bars(name) if len(table)]
        if not tables:
            raise ValueError(f"replay: no bars of {name} are stored")
        return tables

    @staticmethod
    def _minutes_of(tables: list[BarTable], from_ns: int, speed: float) -> Floats:
        rows = np.vstack([table.rows()[table.ts_ns >= from_ns] for table in tables])
        minutes_per_bar = tables[0].interval_ns / MINUTE_NS / speed
        return grouped(rows, round(1 / minutes_per_bar)) if minutes_per_bar < 1 else split(rows, round(minutes_per_bar))


def grouped(rows: Floats, count: int) -> Floats:
    """Bars ``(n, 5)`` joined by ``count``; what is left over at the end is dropped."""
    if count <= 1:
        return rows
    whole = rows[: len(rows) // count * count].reshape(-1, count, 5)
    columns = [whole[:, 0, 0], whole[:, :, 1].max(1), whole[:, :, 2].min(1), whole[:, -1, 3], whole[:, :, 4].sum(1)]
    return np.stack(columns, axis=1)


def split(rows: Floats, count: int) -> Floats:
    """Each bar ``(n, 5)`` as ``count`` minutes along open, the nearer extreme, the other extreme, close."""
    if count <= 1:
        return rows
    rising = rows[:, 3] >= rows[:, 0]
    first, second = np.where(rising, rows[:, 2], rows[:, 1]), np.where(rising, rows[:, 1], rows[:, 2])
    corners = np.stack([rows[:, 0], first, second, rows[:, 3]], axis=1)
    places = np.linspace(0.0, 3.0, count + 1)
    left = np.minimum(places.astype(np.int64), 2)
    share = places - left
    path = corners[:, left] * (1 - share) + corners[:, left + 1] * share
    opened, closed = path[:, :-1], path[:, 1:]
    highs, lows = np.maximum(opened, closed), np.minimum(opened, closed)
    for corner in (1, 2):  # the minute in which a corner lies reaches it
        minute = min(count - 1, int(corner * count / 3))
        highs[:, minute] = np.maximum(highs[:, minute], corners[:, corner])
        lows[:, minute] = np.minimum(lows[:, minute], corners[:, corner])
    volume = np.repeat(rows[:, 4:5] / count, count, axis=1)
    return np.stack([opened, highs, lows, closed, volume], axis=2).reshape(-1, 5)


def invented(seed: int, instruments: Sequence[Instrument], interval_ns: int) -> SyntheticMarket:
    """A market whose times are of no account: only the rows are used."""
    start_ns = WEEK_ORIGIN_NS if interval_ns == 7 * DAY_NS else 0
    return SyntheticMarket(seed, instruments, interval_ns, start_ns)


def history(
    path: Path,
    seed: int,
    instruments: Sequence[Instrument],
    speed: float,
    bars: int,
    start_ms: int,
    meet: Mapping[str, float],
) -> dict[str, list[Floats]]:
    """Bars before ``start_ms`` of every symbol, in order of time, longer ones first: ``(n, 6)`` with their open time.

    ``bars`` candles of every interval can be made of them (of 1M, as many as there are). The last close is the first
    price of the market, ``meet``; each part is scaled so that it ends where the next begins.
    """
    found: dict[str, list[Floats]] = {str(each.id): [] for each in instruments}
    ends, until_ms = dict(meet), start_ms
    minutes_from_ms = _floor(start_ms - bars * _LEVELS[0][1] * 60_000, _DAY_MS)
    for name, rows in path.before().items():
        begun_ms = start_ms - len(rows) * 60_000
        if begun_ms < minutes_from_ms:  # longer bars join at a day's beginning
            begun_ms = -_floor(-begun_ms, _DAY_MS)
        if kept := (start_ms - begun_ms) // 60_000:
            found[name].append(_timed(rows[-kept:], start_ms, 60_000))
            ends[name] = float(rows[-kept, 0])
            until_ms = begun_ms
    from_ms = start_ms
    for level, (length_ns, per_bar) in enumerate(_LEVELS):
        length_ms = length_ns // 1_000_000
        from_ms = _floor(from_ms - bars * per_bar * length_ms, _DAY_MS)
        count = -(-(until_ms - from_ms) // length_ms)
        if count <= 0:
            continue
        market = invented(seed + 1 + level, instruments, round(speed * length_ns))
        for name, part in next(market.chunks(count)).items():
            rows = part.table.rows()
            rows[:, :4] *= ends[name] / rows[-1, 3]
            found[name].insert(0, _timed(rows, from_ms + count * length_ms, length_ms))
            ends[name] = float(rows[0, 0])
        until_ms = from_ms
    return found


def _floor(at_ms: int, grid_ms: int) -> int:
    return at_ms // grid_ms * grid_ms


def _timed(rows: Floats, end_ms: int, length_ms: int) -> Floats:
    opened = end_ms - length_ms * np.arange(len(rows), 0, -1, dtype=np.float64)
    timed = np.column_stack([opened, rows])
    return timed[opened >= 0]
