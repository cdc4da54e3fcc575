"""The ways out for orders: REST and the WebSocket API. Each request goes out once.

One way is the usual one. A request that certainly did not leave, since that way could not be opened, takes the other
one in the same call: whatever takes risk off in either direction, entries only onto REST. What may have left is never
sent again. (reliability.md 4: NOT_SENT)
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tidegate.adapters.binance.account_schemas import AlgoRow, OrderRow
from tidegate.adapters.binance.errors import Context, LinkDown
from tidegate.adapters.binance.limits import Lane
from tidegate.adapters.binance.order_entry import (
    ALGO,
    BATCH,
    ORDER,
    Params,
    Sending,
    algo_params,
    batch_params,
    is_reducing,
    place_params,
)
from tidegate.adapters.binance.rest import BinanceRest
from tidegate.adapters.binance.ws_api import Ask, WsApi, is_taken
from tidegate.domain.orders import ApprovedOrder

T = TypeVar("T")
Way = Callable[[], Awaitable[T]]


class OrderSender:
    """``recv_window_*_ms``: how long after its timestamp the venue may still accept a request (reliability.md 3.2).

    With ``ws_api_first`` the WebSocket API is the usual way for what it takes, else REST is.
    """

    def __init__(
        self,
        rest: BinanceRest,
        ws_api: WsApi | None,
        recv_window_entries_ms: int,
        recv_window_reducing_ms: int,
        *,
        ws_api_first: bool = True,
    ) -> None:
        self._rest, self._ws_api, self._ws_api_first = rest, ws_api, ws_api_first
        self._entries_ms, self._reducing_ms = recv_window_entries_ms, recv_window_reducing_ms

    def sending(self, order: ApprovedOrder, *, conditional: bool) -> Sending:
        """How this order goes out."""
        reducing = is_reducing(order)
        window_ms = self._reducing_ms if reducing else self._entries_ms
        return Sending(order.id, conditional, reducing, order.expires_ns, window_ms, self._rest.clock.error_ns)

    async def place(self, order: ApprovedOrder, sending: Sending) -> OrderRow | AlgoRow:
        """Send an order. Raises what the client raises."""
        if sending.conditional:
            return await self._send(ALGO, algo_params(order), AlgoRow, sending)
        return await self._send(ORDER, place_params(order), OrderRow, sending)

    async def place_batch(self, orders: Sequence[ApprovedOrder], sending: Sending) -> list[OrderRow]:
        """Send up to five ordinary orders in one request; per order its row, which may be an error."""
        return await self._rest.call(
            "POST",
            BATCH,
            batch_params(orders),
            answer=list[OrderRow],
            weight=5,
            lane=sending.lane,
            recv_window_ms=sending.recv_window_ms,
            orders_10s=5,
            orders_1m=1,
            expires_ns=sending.expires_ns or None,
            on_sent=sending.stamped,
            context=sending.context,
        )

    async def change(
        self, method: str, path: str, params: Params, answer: type[T], *, weight: int = 1, orders: int = 0
    ) -> T:
        """Cancel, amend, or set the countdown; an amendment counts on the order limits and may add risk."""
        context = Context.INCREASING if orders else Context.CANCEL

        async def over_rest() -> T:
            return await self._rest.call(
                method,
                path,
                params,
                answer=answer,
                weight=0 if orders else weight,
                lane=Lane.CANCEL,
                recv_window_ms=self._reducing_ms,
                orders_10s=orders,
                orders_1m=orders,
                context=context,
            )

        ws_api = self._ws_api
        if ws_api is None or not is_taken(method, path):
            return await over_rest()
        ask = Ask(Lane.CANCEL, context, self._reducing_ms, orders)
        return await self._one_way_or_the_other(
            lambda: ws_api.call(method, path, params, answer=answer, ask=ask), over_rest, reducing=not orders
        )

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._ws_api is not None:
            await self._ws_api.close()

    async def _send(self, path: str, params: Params, answer: type[T], sending: Sending) -> T:
        expires_ns = sending.expires_ns or None

        async def over_rest() -> T:
            return await self._rest.call(
                "POST",
                path,
                params,
                answer=answer,
                weight=0,
                lane=sending.lane,
                recv_window_ms=sending.recv_window_ms,
                orders_10s=1,
                orders_1m=1,
                expires_ns=expires_ns,
                on_sent=sending.stamped,
                context=sending.context,
            )

        ws_api = self._ws_api
        if ws_api is None:
            return await over_rest()
        ask = Ask(sending.lane, sending.context, sending.recv_window_ms, 1, expires_ns, sending.stamped)
        return await self._one_way_or_the_other(
            lambda: ws_api.call("POST", path, params, answer=answer, ask=ask), over_rest, reducing=sending.reducing
        )

    async def _one_way_or_the_other(self, over_ws_api: Way[T], over_rest: Way[T], *, reducing: bool) -> T:
        """The usual way, and the other one when that could not be opened. Raises what the last one raised."""
        if self._ws_api_first:
            try:
                return await over_ws_api()
            except LinkDown:
                return await over_rest()
        try:
            return await over_rest()
        except LinkDown as error:
            if not reducing:
                raise
            try:
                return await over_ws_api()
            except LinkDown:
                raise error from None
