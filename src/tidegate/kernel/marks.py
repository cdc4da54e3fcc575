"""Prices seen so far: the last one of each instrument, its mark price and its last settled funding rate."""

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import FundingRate, MarkPrice, Quote


class Marks:
    """Scalars only, the newest observation wins."""

    def __init__(self) -> None:
        self.last: dict[InstrumentId, float] = {}
        self.mark: dict[InstrumentId, float] = {}
        self.funding: dict[InstrumentId, float] = {}
        self.funding_ns: dict[InstrumentId, Nanos] = {}

    def observe_quote(self, quote: Quote) -> None:
        self.last[quote.instrument] = (quote.bid + quote.ask) / 2.0

    def observe_mark(self, mark: MarkPrice) -> None:
        self.mark[mark.instrument] = mark.price

    def observe_funding(self, event: FundingRate) -> None:
        self.funding[event.instrument] = event.rate
        self.funding_ns[event.instrument] = event.ts_ns

    def dump(self) -> object:
        return {"last": self.last, "mark": self.mark, "funding": self.funding, "funding_ns": self.funding_ns}

    def load(
        self,
        last: dict[InstrumentId, float],
        mark: dict[InstrumentId, float],
        funding: dict[InstrumentId, float],
        funding_ns: dict[InstrumentId, Nanos],
    ) -> None:
        self.last, self.mark, self.funding, self.funding_ns = last, mark, funding, funding_ns
