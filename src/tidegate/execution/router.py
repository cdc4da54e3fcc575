"""SmartOrderRouter: what the book should hold, less what it holds, less what is on its way, becomes orders."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from tidegate.domain.ids import InstrumentId, Nanos, ParentId
from tidegate.domain.instrument import Instrument
from tidegate.domain.orders import CancelOrder, OrderIntent, ParentOrder, Purpose
from tidegate.execution.algos.base import ExecutionAlgo
from tidegate.execution.blotter import Blotter


class Route(msgspec.Struct, frozen=True, gc=False):
    """What to do for one instrument: cancel these, send those."""

    cancels: tuple[CancelOrder, ...] = ()
    intents: tuple[OrderIntent, ...] = ()


NOTHING = Route()


class SmartOrderRouter:
    """Routes targets through an execution algorithm."""

    def __init__(self, algo: ExecutionAlgo, blotter: Blotter) -> None:
        self._algo = algo
        self._blotter = blotter
        self._parents = 0

    def route(
        self,
        instrument: Instrument,
        target: Decimal,
        held: Decimal,
        arrival_price: float,
        now_ns: Nanos,
        purpose: Purpose = Purpose.TARGET,
    ) -> Route:
        """Orders that bring ``held`` to ``target``, counting those under way.

        When what is under way goes the wrong way or too far, it is cancelled first; the caller routes again when the
        cancellation is confirmed, for it may have raced with a fill. While the position is being left at the market
        nothing is routed: an exit is never called back for a target.
        """
        if self._blotter.working(instrument.id, Purpose.FLATTEN):
            return NOTHING
        under_way = self._blotter.working_qty(instrument.id)
        missing = target - held - under_way
        if missing == 0:
            return NOTHING
        if under_way and (missing > 0) != (under_way > 0):
            return Route(cancels=self._cancels(instrument.id))
        reduces = held != 0 and (held > 0) != (missing > 0) and abs(missing + under_way) <= abs(held)
        self._parents += 1
        parent = ParentOrder(ParentId(f"t{self._parents}"), instrument.id, missing, purpose, arrival_price, now_ns)
        return Route(intents=tuple(self.pieces(instrument, self._algo.start(parent, reduce_only=reduces))))

    def dump(self) -> int:
        return self._parents

    def load(self, parents: int) -> None:
        self._parents = parents

    def _cancels(self, instrument: InstrumentId) -> tuple[CancelOrder, ...]:
        return tuple(order.cancel() for order in self._blotter.working(instrument, Purpose.TARGET))

    @staticmethod
    def pieces(instrument: Instrument, intents: Iterable[OrderIntent]) -> Iterable[OrderIntent]:
        """Market intents, those cut that are larger than the venue takes in one order."""
        largest = instrument.market_max_qty
        for intent in intents:
            if intent.qty <= largest:
                yield intent
                continue
            left = intent.qty
            while left > largest:
                yield _sized(intent, largest)
                left -= largest
            yield _sized(intent, left) if left != intent.qty else intent


def _sized(intent: OrderIntent, qty: Decimal) -> OrderIntent:
    return OrderIntent(
        intent.instrument,
        intent.side,
        qty,
        intent.order_type,
        intent.purpose,
        intent.limit,
        intent.trigger,
        intent.tif,
        intent.reduce_only,
        intent.position_side,
        intent.parent,
        intent.strategy,
    )
