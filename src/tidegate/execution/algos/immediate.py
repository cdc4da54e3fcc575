"""The simplest algorithm: all of it, now, at the market."""

from collections.abc import Iterable

from tidegate.domain.orders import OrderIntent, OrderType, ParentOrder, Side


class Immediate:
    """One market order for the whole parent; a flip is one order of |target - position|."""

    def start(self, parent: ParentOrder, *, reduce_only: bool) -> Iterable[OrderIntent]:
        side = Side.BUY if parent.qty > 0 else Side.SELL
        return (
            OrderIntent(
                parent.instrument,
                side,
                abs(parent.qty),
                OrderType.MARKET,
                parent.purpose,
                reduce_only=reduce_only,
                parent=parent.id,
                strategy=parent.strategy,
            ),
        )
