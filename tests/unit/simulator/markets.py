"""Hand-made markets for the session, and a driver in place of a kernel."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.unit.simulator.bench import START_NS, contract
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import HOUR_NS, FundingRate
from tidegate.domain.messages import Command, Event
from tidegate.quant.bars import BarTable
from tidegate.simulator.exchange import Exchange
from tidegate.simulator.frictions import Frictions
from tidegate.simulator.session import Chunk, Session

Answer = Callable[[Event], Iterable[Command]]


def hours(count: float) -> Nanos:
    """A time, counted in hours from the start."""
    return START_NS + int(count * HOUR_NS)


@dataclass
class Market:
    """A market source of tables (or ready chunks), settlements ``(hour, rate)`` and mark price tables."""

    bars: Mapping[InstrumentId, BarTable | Sequence[Chunk]]
    rates: Mapping[InstrumentId, Sequence[tuple[float, float]]] = field(default_factory=dict)
    mark_bars: Mapping[InstrumentId, BarTable] = field(default_factory=dict)

    def chunks(self, instrument: InstrumentId) -> Iterator[Chunk]:
        bars = self.bars[instrument]
        return iter([Chunk(bars)] if isinstance(bars, BarTable) else bars)

    def funding(self, instrument: InstrumentId) -> Iterator[FundingRate]:
        for hour, rate in self.rates.get(instrument, ()):
            yield FundingRate(instrument, hours(hour), hours(hour), rate)

    def marks(self, instrument: InstrumentId) -> Iterator[BarTable]:
        return iter([self.mark_bars[instrument]] if instrument in self.mark_bars else [])

    def session(self, *, deposit: int = 1_000_000, frictions: Frictions | None = None, **options: Any) -> Session:
        exchange = Exchange([contract(name) for name in self.bars], Decimal(deposit), frictions or Frictions())
        return Session(exchange, self.bars, self, **options)


def drive(session: Session, answer: Answer = lambda event: ()) -> list[Event]:
    """Play a session to its end, with scripted answers; all events in their order."""
    seen: list[Event] = []
    for event in session.events():
        seen.append(event)
        for command in answer(event):
            session.execute(command, event.recv_ns)
    return seen
