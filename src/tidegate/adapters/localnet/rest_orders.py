"""REST of trading: ordinary and conditional orders, batches, the countdown, fills."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from tidegate.adapters.localnet import entry
from tidegate.adapters.localnet.accounts import Account, Accounts
from tidegate.adapters.localnet.algo_orders import AlgoOrder
from tidegate.adapters.localnet.auth import as_text
from tidegate.adapters.localnet.books import Trade
from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.events import Json
from tidegate.adapters.localnet.routes import ApiRequest, ApiResponse, Handler, Route, Routes, Security
from tidegate.adapters.localnet.wire import Params, merged, money, plain
from tidegate.domain.ledger import ZERO
from tidegate.domain.orders import Side

Answer = Callable[[Account, Mapping[str, str]], object]

DONE: Final = {"code": 200, "msg": "The operation of cancel all open order is done."}
_WEEK_MS: Final = 7 * 86_400_000
_BATCH, _CANCEL_BATCH = 5, 10


def signed(accounts: Accounts, answer: Answer) -> Handler:
    """A handler for the account that the request's key names."""

    async def handle(request: ApiRequest) -> ApiResponse:
        account = accounts.by_key(request.headers.get("x-mbx-apikey", ""))
        if account is None:
            raise ApiError(-2015, request.remote)
        params = request.params or merged(request.raw_query, request.raw_body)
        return ApiResponse.of(answer(account, params))

    return handle


class OrderRest:
    """The endpoints of trading. ``old_answers`` keeps avgPrice and cumQuote in the answers to orders."""

    def __init__(self, accounts: Accounts, *, old_answers: bool = False) -> None:
        self._accounts = accounts
        self._old = old_answers

    def routes(self) -> Routes:
        """All of them."""
        v1 = "/fapi/v1/"
        table: dict[tuple[str, str], tuple[Answer, int | Callable[[Mapping[str, str]], int], tuple[int, int]]] = {
            ("POST", "order"): (self.place, 0, (1, 1)),
            ("PUT", "order"): (self.modify, 0, (1, 1)),
            ("GET", "order"): (self.query, 1, (0, 0)),
            ("DELETE", "order"): (self.cancel, 1, (0, 0)),
            ("POST", "order/test"): (self.test, 1, (0, 0)),
            ("POST", "batchOrders"): (self.place_batch, 5, (5, 1)),
            ("PUT", "batchOrders"): (self.modify_batch, 5, (5, 1)),
            ("DELETE", "batchOrders"): (self.cancel_batch, 1, (0, 0)),
            ("GET", "openOrder"): (self.open_order, 1, (0, 0)),
            ("GET", "openOrders"): (self.open_orders, _listing, (0, 0)),
            ("GET", "allOrders"): (self.all_orders, 5, (0, 0)),
            ("DELETE", "allOpenOrders"): (self.cancel_all, 1, (0, 0)),
            ("POST", "countdownCancelAll"): (self.countdown, 10, (0, 0)),
            ("GET", "orderAmendment"): (self.amendments, 1, (0, 0)),
            ("GET", "userTrades"): (self.trades, 5, (0, 0)),
            ("GET", "forceOrders"): (self.force_orders, _forced, (0, 0)),
            ("POST", "algoOrder"): (self.place_algo, 0, (1, 1)),
            ("GET", "algoOrder"): (self.query_algo, 1, (0, 0)),
            ("DELETE", "algoOrder"): (self.cancel_algo, 1, (0, 0)),
            ("GET", "openAlgoOrders"): (self.open_algo, _listing, (0, 0)),
            ("GET", "allAlgoOrders"): (self.all_algo, 5, (0, 0)),
            ("DELETE", "algoOpenOrders"): (self.cancel_all_algo, 1, (0, 0)),
        }
        return {
            (method, v1 + path): Route(signed(self._accounts, answer), weight, Security.SIGNED, orders)
            for (method, path), (answer, weight, orders) in table.items()
        }

    # ---- ordinary orders ----------------------------------------------------------------------------------------

    def place(self, account: Account, values: Mapping[str, str]) -> Json:
        """POST order. ACK says NEW whatever happened since; RESULT says what became of it."""
        order = entry.place(account, values)
        answer = order.answer(fills=self._old)
        if values.get("newOrderRespType", "ACK") != "RESULT":
            answer |= {"status": "NEW", "executedQty": order.q(ZERO), "cumQty": order.q(ZERO)}
            if self._old:
                answer |= {"avgPrice": "0.00", "cumQuote": "0"}
        return answer

    def test(self, account: Account, values: Mapping[str, str]) -> Json:
        """POST order/test: everything but the matching."""
        order = entry.parse(account, values)
        account.check(order)
        return order.answer(fills=True)

    def modify(self, account: Account, values: Mapping[str, str]) -> Json:
        """PUT order."""
        return entry.modify(account, values).modified(fills=self._old)

    def query(self, account: Account, values: Mapping[str, str]) -> Json:
        """GET order."""
        return entry.query(account, values).row()

    def cancel(self, account: Account, values: Mapping[str, str]) -> Json:
        """DELETE order."""
        return entry.cancel(account, values).answer(fills=self._old)

    def open_order(self, account: Account, values: Mapping[str, str]) -> Json:
        """GET openOrder."""
        return entry.query(account, values, open_only=True).row()

    def open_orders(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET openOrders."""
        symbol = values.get("symbol")
        if symbol is not None:
            account.symbol(symbol)
        return [order.row() for order in account.orders.open_orders(symbol)]

    def all_orders(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET allOrders: from a number on, or the latest of a window."""
        params = Params(values)
        limit, first, (start, end) = params.limit(500, 1000), params.integer("orderId"), params.window()
        _check_week(values, start, end)
        symbol = params.get("symbol") or None
        if symbol is not None:
            account.symbol(symbol)
        rows = [
            order.history_row()
            for order in account.orders.all(symbol)
            if order.order_id >= (first or 0) and start <= order.created_ms <= end
        ]
        return rows[:limit] if first is not None or "startTime" in values else rows[-limit:]

    def cancel_all(self, account: Account, values: Mapping[str, str]) -> Json:
        """DELETE allOpenOrders: ordinary orders only."""
        symbol = Params(values).text("symbol")
        account.symbol(symbol)
        account.cancel_all(symbol)
        return DONE

    def countdown(self, account: Account, values: Mapping[str, str]) -> Json:
        """POST countdownCancelAll."""
        params = Params(values)
        symbol, after_ms = params.text("symbol"), params.integer("countdownTime")
        account.symbol(symbol)
        if after_ms is None or after_ms < 0:
            raise ApiError(-1102, "countdownTime")
        account.countdown(symbol, after_ms)
        return {"symbol": symbol, "countdownTime": str(after_ms)}

    def amendments(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET orderAmendment: the latest first."""
        params = Params(values)
        symbol = params.text("symbol")
        account.symbol(symbol)
        wanted = (params.integer("orderId"), values.get("origClientOrderId"))
        rows = [
            change
            for order in account.orders.all(symbol)
            if wanted == (None, None) or order.order_id == wanted[0] or order.client_id == wanted[1]
            for change in order.amendments
        ]
        return rows[::-1][: params.limit(50, 100)]

    # ---- batches ------------------------------------------------------------------------------------------------

    def place_batch(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """POST batchOrders: an answer or a refusal for each."""
        return [_each(self.place, account, item) for item in _batch(values)]

    def modify_batch(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """PUT batchOrders."""
        return [_each(self.modify, account, item) for item in _batch(values)]

    def cancel_batch(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """DELETE batchOrders, by numbers or by client ids."""
        symbol = Params(values).text("symbol")
        account.symbol(symbol)
        name, key = ("orderIdList", "orderId") if "orderIdList" in values else ("origClientOrderIdList", "")
        wanted = _json_list(values, name)
        if len(wanted) > _CANCEL_BATCH:
            raise ApiError(-4032)
        items = [{"symbol": symbol, key or "origClientOrderId": str(item)} for item in wanted]
        return [_each(self.cancel, account, item) for item in items]

    # ---- what was traded ----------------------------------------------------------------------------------------

    def trades(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET userTrades."""
        params = Params(values)
        symbol, limit, first = params.text("symbol"), params.limit(500, 1000), params.integer("fromId")
        account.symbol(symbol)
        (start, end), order_id = params.window(), params.integer("orderId")
        if first is not None and ("startTime" in values or "endTime" in values):
            raise ApiError(-1128)
        _check_week(values, start, end)
        found = [
            trade
            for trade in account.trades
            if trade.symbol == symbol
            and trade.trade_id >= (first or 0)
            and order_id in (None, trade.order_id)
            and start <= trade.time_ms <= end
        ]
        found = found[:limit] if first is not None or "startTime" in values else found[-limit:]
        return [_trade_row(trade) for trade in found]

    def force_orders(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET forceOrders: what the venue closed by itself."""
        params = Params(values)
        names = {"LIQUIDATION": "autoclose-", "ADL": "adl_autoclose"}
        prefix = names.get(params.get("autoCloseType"), "")
        symbol = params.get("symbol") or None
        rows = []
        for order in account.orders.all(symbol):
            if order.client_id.startswith(prefix or tuple(names.values())):
                row = order.history_row()
                rows.append({name: row[name] for name in row if name not in _NOT_FORCED})
        return rows[-params.limit(50, 100) :]

    # ---- conditional orders -------------------------------------------------------------------------------------

    def place_algo(self, account: Account, values: Mapping[str, str]) -> Json:
        """POST algoOrder."""
        return entry.place_algo(account, values).answer()

    def query_algo(self, account: Account, values: Mapping[str, str]) -> Json:
        """GET algoOrder."""
        return entry.find_algo(account, values, -2013).row()

    def cancel_algo(self, account: Account, values: Mapping[str, str]) -> Json:
        """DELETE algoOrder; its code is a text."""
        order = entry.find_algo(account, values, -2011)
        if not order.open:
            raise ApiError(-2011)
        account.algo.cancel(order)
        return {"algoId": order.algo_id, "clientAlgoId": order.client_id, "code": "200", "msg": "success"}

    def open_algo(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET openAlgoOrders."""
        algo_id = Params(values).integer("algoId")
        symbol = values.get("symbol")
        if symbol is not None:
            account.symbol(symbol)
        return [each.row() for each in account.algo.open_orders(symbol) if algo_id in (None, each.algo_id)]

    def all_algo(self, account: Account, values: Mapping[str, str]) -> list[Json]:
        """GET allAlgoOrders."""
        params = Params(values)
        symbol, first, (start, end) = params.text("symbol"), params.integer("algoId"), params.window()
        account.symbol(symbol)
        _check_week(values, start, end)
        found: list[AlgoOrder] = [
            each
            for each in account.algo.all(symbol)
            if each.algo_id >= (first or 0) and start <= each.created_ms <= end
        ]
        return [each.row() for each in found[-params.limit(500, 1000) :]]

    def cancel_all_algo(self, account: Account, values: Mapping[str, str]) -> Json:
        """DELETE algoOpenOrders."""
        symbol = Params(values).text("symbol")
        account.symbol(symbol)
        account.algo.cancel_all(symbol)
        return DONE


_NOT_FORCED: Final = ("priceProtect", "priceMatch", "selfTradePreventionMode", "goodTillDate")


def _each(answer: Callable[[Account, Mapping[str, str]], Json], account: Account, item: Mapping[str, str]) -> Json:
    try:
        return answer(account, item)
    except ApiError as error:
        return error.body


def _batch(values: Mapping[str, str]) -> list[dict[str, str]]:
    items = _json_list(values, "batchOrders")
    if not 1 <= len(items) <= _BATCH:
        raise ApiError(-4082)
    batch = []
    for item in items:
        if not isinstance(item, dict):
            raise ApiError(-1130, "batchOrders")
        batch.append({name: as_text(value) for name, value in item.items() if value not in (None, "")})
    return batch


def _json_list(values: Mapping[str, str], name: str) -> list[Any]:
    try:
        items = msgspec.json.decode(Params(values).text(name))
    except msgspec.DecodeError:
        raise ApiError(-1130, name) from None
    if not isinstance(items, list):
        raise ApiError(-1130, name)
    return items


def _check_week(values: Mapping[str, str], start: int, end: int) -> None:
    if "startTime" in values and "endTime" in values and end - start > _WEEK_MS:
        raise ApiError(-4166, msg="Search window is restricted to recent 7 days only.")


def _trade_row(trade: Trade) -> Json:
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "side": trade.side.value,
        "price": plain(trade.price),
        "qty": plain(trade.qty),
        "realizedPnl": money(trade.realised),
        "marginAsset": "USDT",
        "quoteQty": plain(trade.price * trade.qty),
        "baseQty": plain(trade.qty),
        "commission": money(trade.fee),
        "commissionAsset": trade.fee_asset,
        "time": trade.time_ms,
        "positionSide": trade.position_side.value,
        "buyer": trade.side is Side.BUY,
        "maker": trade.maker,
        "pair": trade.symbol,
    }


def _listing(params: Mapping[str, str]) -> int:
    return 1 if "symbol" in params else 40


def _forced(params: Mapping[str, str]) -> int:
    return 20 if "symbol" in params else 50
