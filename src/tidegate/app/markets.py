"""Markets to simulate: stored history, and the invented one, as sources of a session."""

from collections import deque
from collections.abc import Iterator

import numpy as np

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import BarSpec, FundingRate
from tidegate.ports import HistorySource
from tidegate.quant.bars import BarTable
from tidegate.simulator.session import Chunk
from tidegate.simulator.synthetic import SyntheticChunk, SyntheticMarket

SYNTHETIC_ROWS = 512


class HistoryMarket:
    """Stored bars that open in ``[start_ns, end_ns)``, with the settlements and mark prices of that time."""

    def __init__(self, history: HistorySource, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> None:
        self._history = history
        self._bar = bar
        self._start_ns = start_ns
        self._end_ns = end_ns

    def chunks(self, instrument: InstrumentId) -> Iterator[Chunk]:
        for table in self._history.bars(instrument, self._bar, self._start_ns, self._end_ns):
            yield Chunk(table)

    def funding(self, instrument: InstrumentId) -> Iterator[FundingRate]:
        return self._history.funding(instrument, self._start_ns, self._end_ns)

    def marks(self, instrument: InstrumentId) -> Iterator[BarTable]:
        return self._history.marks(instrument, self._start_ns, self._end_ns)


class InventedMarket:
    """The synthetic market, endless. Its instruments are drawn together and handed out one by one."""

    def __init__(self, market: SyntheticMarket) -> None:
        self._blocks = market.chunks(SYNTHETIC_ROWS)
        names = [instrument.id for instrument in market.instruments]
        self._bars: dict[InstrumentId, deque[SyntheticChunk]] = {name: deque() for name in names}
        self._funding: dict[InstrumentId, deque[SyntheticChunk]] = {name: deque() for name in names}
        self._marks: dict[InstrumentId, deque[SyntheticChunk]] = {name: deque() for name in names}

    def chunks(self, instrument: InstrumentId) -> Iterator[Chunk]:
        for chunk in self._read(self._bars[instrument]):
            yield Chunk(chunk.table, chunk.half_spread_frac.tolist(), chunk.depth_qty.tolist())

    def funding(self, instrument: InstrumentId) -> Iterator[FundingRate]:
        for chunk in self._read(self._funding[instrument]):
            yield from chunk.funding

    def marks(self, instrument: InstrumentId) -> Iterator[BarTable]:
        """Mark price bars: the bars moved by how far the mark lies from the close."""
        last = 0.0
        for chunk in self._read(self._marks[instrument]):
            table, mark = chunk.table, chunk.mark
            shift = mark / table.close
            opened = np.concatenate(([last or float(table.open[0])], mark[:-1]))
            last = float(mark[-1])
            high = np.maximum(table.high * shift, np.maximum(opened, mark))
            low = np.minimum(table.low * shift, np.minimum(opened, mark))
            yield BarTable(table.interval_ns, table.ts_ns, opened, high, low, mark, np.zeros_like(mark))

    def _read(self, queue: deque[SyntheticChunk]) -> Iterator[SyntheticChunk]:
        while True:
            while not queue:
                self._draw()
            yield queue.popleft()

    def _draw(self) -> None:
        for name, chunk in next(self._blocks).items():
            for queues in (self._bars, self._funding, self._marks):
                queues[name].append(chunk)
