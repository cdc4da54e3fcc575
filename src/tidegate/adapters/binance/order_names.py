"""Which order is whose: the venue's ids to ours, in bounded memory.

A conditional order is a parent; its trigger makes a child with an id of the venue's own. ``OrderNames`` maps the child
to the parent's client id, so that everything that happens to the child is reported under the id that we chose.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Generic, TypeVar

from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.orders import Side

MEMORY: Final = 50_000
"""So many orders, trades or income lines are remembered; the oldest are forgotten first."""

_K = TypeVar("_K")
_V = TypeVar("_V")


class Remembered(Generic[_K, _V]):
    """A mapping that forgets its oldest entries when it grows beyond ``size``."""

    def __init__(self, size: int = MEMORY) -> None:
        self._entries: dict[_K, _V] = {}
        self._size = size

    def __contains__(self, key: _K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: _K) -> _V | None:
        """What is remembered, if it is."""
        return self._entries.get(key)

    def put(self, key: _K, value: _V) -> None:
        """Remember; an entry that is put again is young again."""
        self._entries.pop(key, None)
        self._entries[key] = value
        if len(self._entries) > self._size:
            del self._entries[next(iter(self._entries))]

    def pop(self, key: _K) -> _V | None:
        """Forget."""
        return self._entries.pop(key, None)

    def values(self) -> Iterable[_V]:
        """All that is remembered, the oldest first."""
        return self._entries.values()


@dataclass(frozen=True, slots=True)
class Known:
    """What an amend, a query or a held event needs to know of an order of ours."""

    id: ClientOrderId
    instrument: InstrumentId
    side: Side
    conditional: bool
    limit: Decimal | None = None


class OrderNames:
    """Whose order is which: the venue's order ids to client ids, and the orders that we sent."""

    def __init__(self) -> None:
        self._ids: Remembered[tuple[str, int], ClientOrderId] = Remembered()
        self._children: Remembered[tuple[str, int], ClientOrderId] = Remembered()
        self._known: Remembered[ClientOrderId, Known] = Remembered()
        self._waiting: Remembered[ClientOrderId, Known] = Remembered(1_000)

    def sent(self, order: Known) -> None:
        """An order of ours is on its way, or was found."""
        self._known.put(order.id, order)
        if order.conditional:
            self._waiting.put(order.id, order)

    def placed(self, symbol: str, order_id: int, client_id: str) -> None:
        """An ordinary order and its client id."""
        self._ids.put((symbol, order_id), ClientOrderId(client_id))

    def triggered(self, symbol: str, child_id: int, client_id: str) -> None:
        """A conditional order's trigger made the ordinary order ``child_id``."""
        self._children.put((symbol, child_id), ClientOrderId(client_id))
        self.closed(ClientOrderId(client_id))

    def closed(self, client_id: ClientOrderId) -> None:
        """A conditional order waits for its trigger no more."""
        self._waiting.pop(client_id)

    def known(self, client_id: str) -> Known | None:
        """The order of this client id, if we sent or found it."""
        return self._known.get(ClientOrderId(client_id))

    def parent(self, symbol: str, order_id: int | None) -> ClientOrderId | None:
        """The conditional order whose child this is."""
        return None if order_id is None else self._children.get((symbol, order_id))

    def name(self, symbol: str, order_id: int | None) -> ClientOrderId | None:
        """Our id for an order of the venue's: its parent's, or its own client id."""
        if order_id is None:
            return None
        return self._children.get((symbol, order_id)) or self._ids.get((symbol, order_id))

    def waiting(self, symbol: str, side: str | None) -> list[Known]:
        """Conditional orders of a symbol and side that have not been seen to trigger or to end."""
        return [each for each in self._waiting.values() if each.instrument == symbol and each.side.value == side]
