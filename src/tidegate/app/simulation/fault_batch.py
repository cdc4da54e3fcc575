"""A batch of orders through the venue's port: the kernel sends orders one by one, so V14 is struck here."""

from decimal import Decimal
from typing import Any, Final

import msgspec

from tidegate.app.simulation.world import DAEMON, SimWorld
from tidegate.domain.ids import ClientOrderId
from tidegate.domain.orders import ApprovedOrder, CancelOrder, OrderType, Purpose, Side, TimeInForce

_ITEMS: Final = 5
_BELOW: Final = Decimal("0.97")


async def place_batch(world: SimWorld) -> list[str]:
    """Rest five limit orders by one request, compare what we are told of each with the venue's list, and cancel them.

    They are the held position's stop made over, under names that are not ours: the daemon leaves them alone.
    """
    return await world.loop.spawn(DAEMON, _batch(world))


async def _batch(world: SimWorld) -> list[str]:
    assert world.parts is not None
    venue: Any = world.parts.connections.venue
    stop = next((each.approved for each in world.kernel.open_orders if each.approved.order_type.conditional), None)
    if stop is None or stop.trigger is None:
        return ["batch: no stop rests, so there is nothing to make orders of"]
    orders = [_resting(stop, stop.trigger, number) for number in range(_ITEMS)]
    results = await venue.submit_batch(orders)
    there = {each["clientOrderId"] for each in world.venue.books()["open_orders"]}
    findings = []
    for order, failure in zip(orders, results, strict=True):
        if (order.id in there) == (failure is not None):
            findings.append(f"batch: {order.id} is {'' if order.id in there else 'not '}there, we heard {failure!r}")
    if len(there) != _ITEMS - 1:
        findings.append(f"batch: {len(there)} of {_ITEMS} are there, one was to fail")
    for order in orders:
        if order.id in there:
            await venue.cancel(CancelOrder(order.id, order.instrument))
    return findings


def _resting(stop: ApprovedOrder, price: Decimal, number: int) -> ApprovedOrder:
    return msgspec.structs.replace(
        stop,
        id=ClientOrderId(f"batch-{number}"),
        side=Side.BUY if stop.side is Side.SELL else Side.SELL,
        order_type=OrderType.LIMIT,
        tif=TimeInForce.GTC,
        limit=_away(stop, price),
        trigger=None,
        reduce_only=False,
        purpose=Purpose.TARGET,
        expires_ns=0,
    )


def _away(stop: ApprovedOrder, price: Decimal) -> Decimal:
    """Further from the market than the stop, so that it rests, on the same grid."""
    far = price * _BELOW if stop.side is Side.SELL else price / _BELOW
    return far.quantize(price)
