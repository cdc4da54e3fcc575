"""Bars between files and the database: what the verbs ``tidegate data`` do."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

from tidegate.domain.errors import DataError
from tidegate.domain.market import DAY_NS, BarSpec
from tidegate.ports import BarCoverage, BarRepository, BarSeries
from tidegate.quant.bars import BarTable

_DAYS_AT_ONCE = 90

Advance = Callable[[int], None]
"""Told how many bars are through."""


@dataclass(frozen=True, slots=True)
class BarFile:
    """One file of bars: the series that it holds, and its bars in chunks, checked as they are read."""

    series: BarSeries
    read: Callable[[], Iterator[BarTable]]


async def import_files(bars: BarRepository, files: Sequence[BarFile], advance: Advance) -> list[tuple[BarSeries, int]]:
    """Store every file, each in one transaction: the first bad row of a file is refused, and nothing of it is stored.

    Returns what was stored. The files before a bad one stay: the error says how many there were.
    """
    done: list[tuple[BarSeries, int]] = []
    for file in files:
        try:
            done.append((file.series, await bars.save(file.series, _counted(file.read(), advance))))
        except DataError as error:
            before = f"; nothing of this file is stored, {len(done)} before it are" if done else "; nothing is stored"
            raise type(error)(f"{error}{before}") from error
    return done


def _counted(tables: Iterator[BarTable], advance: Advance) -> Iterator[BarTable]:
    for table in tables:
        yield table
        advance(len(table))


async def find_series(
    bars: BarRepository, symbol: str, bar: BarSpec, source: str | None, session_id: str | None
) -> BarCoverage:
    """The one stored series that is meant. Raises ``DataError`` for none, and for several with their names."""
    found = await bars.coverage()
    same = [each for each in found if each.series.instrument == symbol and each.series.bar.name == bar.name]
    meant = [
        each for each in same if source in (None, each.series.source) and session_id in (None, each.series.session_id)
    ]
    if len(meant) == 1:
        return meant[0]
    if meant:
        names = " ".join(_name(each.series) for each in meant)
        raise DataError(f"{symbol} {bar.name}: there are several series; name --source or --session: {names}")
    there = same or [each for each in found if each.series.instrument == symbol] or found
    names = ", ".join(f"{each.series.instrument} {each.series.bar.name} ({_name(each.series)})" for each in there[:8])
    raise DataError(f"the database has no such {bar.name} bars of {symbol}; there are {names or 'none at all'}")


def _name(series: BarSeries) -> str:
    return f"{series.source}/{series.session_id}" if series.session_id else series.source


async def ranges(
    bars: BarRepository, found: BarCoverage, start_ns: int | None, end_ns: int | None
) -> AsyncIterator[BarTable]:
    """The bars of a series that open in ``[start_ns, end_ns)``, some months at a time."""
    at_ns = max(found.first_open_ns, start_ns or found.first_open_ns)
    last_ns = found.last_open_ns + 1
    stop_ns = min(last_ns, end_ns or last_ns)
    while at_ns < stop_ns:
        until_ns = min(stop_ns, at_ns + _DAYS_AT_ONCE * max(DAY_NS, found.series.bar.interval_ns))
        table = await bars.load(found.series, at_ns, until_ns)
        if len(table):
            yield table
        at_ns = until_ns
