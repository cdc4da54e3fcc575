"""What an execution algorithm is: it turns a parent order into intents, and answers to timers, quotes and fills."""

from collections.abc import Iterable
from typing import Protocol

from tidegate.domain.orders import OrderIntent, ParentOrder


class ExecutionAlgo(Protocol):
    """Splits a parent order. Pure: it keeps no clock and sends nothing."""

    def start(self, parent: ParentOrder, *, reduce_only: bool) -> Iterable[OrderIntent]:
        """The first children of a new parent."""
        ...
