"""Prices seen so far: the last one of each instrument, its mark price and its last settled funding rate."""

from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import FundingRate, MarkPrice, Quote


class Marks:
    """Scalars only, the newest observation wins."""

    def __init__(self) -> None:
        self.last: dict[InstrumentId, float] = {}
        self.mark: dict[InstrumentId, float] = {}
        self.funding: dict[InstrumentId, float] = {}

    def observe_quote(self, quote: Quote) -> None:
        self.last[quote.instrument] = (quote.bid + quote.ask) / 2.0

    def observe_mark(self, mark: MarkPrice) -> None:
        self.mark[mark.instrument] = mark.price

    def observe_funding(self, event: FundingRate) -> None:
        self.funding[event.instrument] = event.rate

    def dump(self) -> object:
        return {"last": self.last, "mark": self.mark, "funding": self.funding}

    def load(
        self,
        last: dict[InstrumentId, float],
        mark: dict[InstrumentId, float],
        funding: dict[InstrumentId, float],
    ) -> None:
        self.last, self.mark, self.funding = last, mark, funding
