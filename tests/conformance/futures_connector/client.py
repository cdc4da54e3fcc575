"""binance-futures-connector: blocking calls over REST; its WebSocket client is a thread that calls back."""

import asyncio
import json
import logging
from typing import Any

from binance.error import ClientError
from binance.um_futures import UMFutures
from binance.websocket.um_futures.websocket_client import UMFuturesWebsocketClient
from book import LocalBook, equals_server
from checks import KEY, QTY, SECRET, SYMBOL, address, below, expect, missing, rate_limited, run_checks, until

ORDER = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": QTY}


class Connector:
    def __init__(self) -> None:
        self.rest = UMFutures(key=KEY, secret=SECRET, base_url=f"http://{address()}")
        self.failed: list[str] = []

    def bid(self) -> str:
        return self.rest.book_ticker(SYMBOL)["bidPrice"]

    def held(self) -> float:
        return sum(float(each["positionAmt"]) for each in self.rest.get_position_risk(symbol=SYMBOL))

    def stream(self, take: Any) -> UMFuturesWebsocketClient:
        """A connection to ``/ws``. What ``take`` raises is kept by ``failed``; the library would only log it."""

        def on_message(_: Any, text: str) -> None:
            message = json.loads(text)
            if "e" in message:
                take(message)

        return UMFuturesWebsocketClient(
            stream_url=f"ws://{address()}",
            on_message=on_message,
            on_error=lambda _, error: self.failed.append(f"{type(error).__name__}: {error}"),
        )

    def markets(self) -> str:
        info = self.rest.exchange_info()
        market = next(each for each in info["symbols"] if each["symbol"] == SYMBOL)
        wanted = ("contractType", "status", "marginAsset", "deliveryDate", "onboardDate", "filters", "orderTypes")
        expect(not missing(wanted, market), missing(wanted, market))
        expect(len(self.rest.klines(SYMBOL, "1m", limit=10)) == 10, "klines")
        return f"{len(info['symbols'])} symbols"

    def account(self) -> str:
        usdt = next(each for each in self.rest.balance() if each["asset"] == "USDT")
        expect(float(usdt["balance"]) == 10_000.0, usdt)
        expect(float(self.rest.account()["totalWalletBalance"]) == 10_000.0, "account")
        expect(self.held() == 0.0, "positions")
        expect(self.rest.change_leverage(SYMBOL, 10)["leverage"] == 10, "leverage")
        return f"{usdt['balance']} USDT"

    def limit(self) -> None:
        bid = self.bid()
        placed = self.rest.new_order(**ORDER, price=below(bid, 0.02), newClientOrderId="limit:1/x")
        expect(placed["status"] == "NEW" and placed["clientOrderId"] == "limit:1/x", placed)
        number = placed["orderId"]
        self.rest.modify_order(SYMBOL, "BUY", 2 * QTY, below(bid, 0.03), orderId=number)
        found = self.rest.get_open_orders(SYMBOL, orderId=number)
        expect((float(found["origQty"]), float(found["price"])) == (2 * QTY, below(bid, 0.03)), found)
        expect([each["orderId"] for each in self.rest.get_orders(symbol=SYMBOL)] == [number], "open orders")
        expect(self.rest.cancel_order(SYMBOL, orderId=number)["status"] == "CANCELED", "cancel")
        expect(self.rest.query_order(SYMBOL, orderId=number)["status"] == "CANCELED", "query")

    def market(self) -> str:
        bought = self.rest.new_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=QTY, newOrderRespType="RESULT")
        expect(bought["status"] == "FILLED" and float(bought["executedQty"]) == QTY, bought)
        fills = [each for each in self.rest.get_account_trades(SYMBOL) if each["orderId"] == bought["orderId"]]
        expect(round(sum(float(each["qty"]) for each in fills), 8) == QTY, fills)
        expect(self.held() == QTY, "position")
        self.rest.new_order(symbol=SYMBOL, side="SELL", type="MARKET", quantity=QTY, reduceOnly="true")
        expect(self.held() == 0.0, "position after closing")
        return f"filled at {self.rest.query_order(SYMBOL, orderId=bought['orderId'])['avgPrice']}"

    def algo(self) -> str:
        """This client knows no path for algo orders; its general signed request, which is public, carries them."""
        path, stop = (
            "/fapi/v1/algoOrder",
            {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "workingType": "MARK_PRICE"},
        )
        trigger = below(self.bid(), 0.05)
        order = {**stop, "symbol": SYMBOL, "side": "SELL", "quantity": QTY, "triggerPrice": trigger}
        placed = self.rest.sign_request("POST", path, order)
        found = self.rest.sign_request("GET", path, {"algoId": placed["algoId"]})
        expect(found["algoStatus"] == "NEW" and float(found["triggerPrice"]) == trigger, found)
        listed = self.rest.sign_request("GET", "/fapi/v1/openAlgoOrders", {"symbol": SYMBOL})
        expect([each["algoId"] for each in listed] == [placed["algoId"]], listed)
        self.rest.sign_request("DELETE", path, {"algoId": placed["algoId"]})
        expect(not self.rest.sign_request("GET", "/fapi/v1/openAlgoOrders", {"symbol": SYMBOL}), "still open")
        return "by its general signed request: it has no call of its own"

    def batch(self) -> None:
        each = {name: str(value) for name, value in ORDER.items()}
        bid = self.bid()
        placed = self.rest.new_batch_order([{**each, "price": str(below(bid, frac))} for frac in (0.02, 0.03)])
        expect([order["status"] for order in placed] == ["NEW"] * 2, placed)
        cancelled = self.rest.cancel_batch_order(SYMBOL, [order["orderId"] for order in placed], None)
        expect([order["status"] for order in cancelled] == ["CANCELED"] * 2, cancelled)
        expect(not self.rest.get_orders(symbol=SYMBOL), "still open")

    async def user_stream(self) -> str:
        events: list[dict[str, Any]] = []
        key = self.rest.new_listen_key()["listenKey"]
        stream = self.stream(events.append)
        try:
            stream.user_data(key)
            await asyncio.sleep(1.0)
            bought = self.rest.new_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=QTY)
            orders = lambda: [each["o"] for each in events if each["e"] == "ORDER_TRADE_UPDATE"]  # noqa: E731
            fill = lambda: [o for o in orders() if (o["i"], o["X"]) == (bought["orderId"], "FILLED")]  # noqa: E731
            filled = (await until(fill, "the fill"))[0]
            updates = lambda: [each["a"] for each in events if each["e"] == "ACCOUNT_UPDATE"]  # noqa: E731
            update = (await until(updates, "the account update"))[0]
            expect([float(leg["pa"]) for leg in update["P"] if leg["s"] == SYMBOL] == [QTY], update)
            self.rest.new_order(symbol=SYMBOL, side="SELL", type="MARKET", quantity=QTY, reduceOnly="true")
            self.rest.renew_listen_key(key)
        finally:
            stream.stop()
        expect(not self.failed, self.failed)
        return f"order filled at {filled['ap']}, account update seen"

    async def depth(self) -> str:
        book = LocalBook()
        seen: list[int] = []

        def take(event: dict[str, Any]) -> None:
            seen.append(event["u"])
            book.on_event(event)

        stream = self.stream(take)
        try:
            stream.diff_book_depth(SYMBOL, speed=100)
            await until(lambda: seen, "the first depth event")
            book.start(self.rest.depth(SYMBOL, limit=1000))
            await until(lambda: len(book.at) > 2, "the book")
            return await equals_server(book.at, lambda: self.rest.depth(SYMBOL, limit=1000))
        finally:
            stream.stop()
            expect(not self.failed, self.failed)

    async def rate_limit(self) -> str:
        is_limit = lambda error: isinstance(error, ClientError) and error.status_code == 429  # noqa: E731
        return await rate_limited(self.rest.account, is_limit)


def main() -> None:
    logging.disable(logging.CRITICAL)
    client = Connector()
    checks = {
        "markets": client.markets,
        "account": client.account,
        "limit order": client.limit,
        "market order": client.market,
        "algo stop": client.algo,
        "batch": client.batch,
        "user stream": client.user_stream,
        "depth book": client.depth,
        "rate limit": client.rate_limit,
    }
    asyncio.run(run_checks("binance-futures-connector", checks))


if __name__ == "__main__":
    main()
