"""The venue's own SDK: typed answers over REST, typed events, and orders over the WebSocket API."""

import asyncio
import logging
from typing import Any

from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.errors import TooManyRequestsError
from binance_sdk_derivatives_trading_usds_futures import DerivativesTradingUsdsFutures
from binance_sdk_derivatives_trading_usds_futures.rest_api.models import PlaceMultipleOrdersBatchOrdersParameterInner
from book import LocalBook, equals_server
from checks import KEY, QTY, SECRET, SYMBOL, address, below, expect, rate_limited, run_checks, until

ORDER: dict[str, Any] = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "time_in_force": "GTC", "quantity": QTY}


def plain(answer: Any) -> Any:
    """An answer, which the SDK has checked against its model, with the names of the wire."""
    data = answer.data()
    return [each.to_dict() for each in data] if isinstance(data, list) else data.to_dict()


class Sdk:
    def __init__(self) -> None:
        self.client = DerivativesTradingUsdsFutures(
            ConfigurationRestAPI(KEY, SECRET, base_path=f"http://{address()}", timeout=5000),
            ConfigurationWebSocketAPI(KEY, SECRET, stream_url=f"ws://{address()}/ws-fapi/v1"),
            ConfigurationWebSocketStreams(stream_url=f"ws://{address()}/stream"),
        )
        self.rest = self.client.rest_api

    def bid(self) -> str:
        return plain(self.rest.symbol_order_book_ticker(symbol=SYMBOL))["bidPrice"]

    def held(self) -> float:
        return sum(float(each["positionAmt"]) for each in plain(self.rest.position_information_v3(symbol=SYMBOL)))

    def buy(self, **more: Any) -> Any:
        return plain(self.rest.new_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=QTY, **more))

    def close(self) -> None:
        self.rest.new_order(symbol=SYMBOL, side="SELL", type="MARKET", quantity=QTY, reduce_only="true")

    def markets(self) -> str:
        info = plain(self.rest.exchange_information())
        market = next(each for each in info["symbols"] if each["symbol"] == SYMBOL)
        expect(market["status"] == "TRADING" and market["contractType"] == "PERPETUAL", market)
        klines = self.rest.kline_candlestick_data(symbol=SYMBOL, interval="1m", limit=10).data()
        expect(len(klines) == 10, klines)
        return f"{len(info['symbols'])} symbols"

    def account(self) -> str:
        usdt = next(each for each in plain(self.rest.futures_account_balance_v3()) if each["asset"] == "USDT")
        expect(float(usdt["balance"]) == 10_000.0, usdt)
        expect(float(plain(self.rest.account_information_v3())["totalWalletBalance"]) == 10_000.0, "account")
        expect(self.held() == 0.0, "positions")
        changed = plain(self.rest.change_initial_leverage(symbol=SYMBOL, leverage=10))
        expect(changed["leverage"] == 10, changed)
        return f"{usdt['balance']} USDT"

    async def limit(self) -> str:
        """Over REST, then once more over the WebSocket API."""
        bid = self.bid()
        placed = plain(self.rest.new_order(**ORDER, price=below(bid, 0.02)))
        expect(placed["status"] == "NEW", placed)
        name = {"symbol": SYMBOL, "order_id": placed["orderId"]}
        self.rest.modify_order(**name, side="BUY", quantity=2 * QTY, price=below(bid, 0.03))
        found = plain(self.rest.query_order(**name))
        expect((float(found["origQty"]), float(found["price"])) == (2 * QTY, below(bid, 0.03)), found)
        listed = plain(self.rest.current_all_open_orders(symbol=SYMBOL))
        expect([each["orderId"] for each in listed] == [placed["orderId"]], listed)
        expect(plain(self.rest.cancel_order(**name))["status"] == "CANCELED", "cancel")
        connection = await self.client.websocket_api.create_connection()
        try:
            answer = await connection.new_order(**ORDER, price=below(bid, 0.02))
            number = answer.data().result.order_id
            expect((await connection.cancel_order(SYMBOL, order_id=number)).data().result.status == "CANCELED", "ws")
        finally:
            await connection.close_connection(close_session=True)
        return "over REST and over the WebSocket API"

    def market(self) -> str:
        bought = self.buy(new_order_resp_type="RESULT")
        expect(bought["status"] == "FILLED" and float(bought["executedQty"]) == QTY, bought)
        trades = plain(self.rest.account_trade_list(symbol=SYMBOL))
        fills = [float(each["qty"]) for each in trades if each["orderId"] == bought["orderId"]]
        expect(round(sum(fills), 8) == QTY, fills)
        expect(self.held() == QTY, "position")
        self.close()
        expect(self.held() == 0.0, "position after closing")
        return f"filled at {plain(self.rest.query_order(symbol=SYMBOL, order_id=bought['orderId']))['avgPrice']}"

    def algo(self) -> None:
        trigger = below(self.bid(), 0.05)
        order = {"symbol": SYMBOL, "side": "SELL", "type": "STOP_MARKET", "quantity": QTY, "trigger_price": trigger}
        number = plain(self.rest.new_algo_order(algo_type="CONDITIONAL", **order))["algoId"]
        found = plain(self.rest.query_algo_order(algo_id=number))
        expect(found["algoStatus"] == "NEW" and float(found["triggerPrice"]) == trigger, found)
        listed = plain(self.rest.current_all_algo_open_orders(symbol=SYMBOL))
        expect([each["algoId"] for each in listed] == [number], listed)
        self.rest.cancel_algo_order(algo_id=number)
        expect(not plain(self.rest.current_all_algo_open_orders(symbol=SYMBOL)), "still open")

    def batch(self) -> None:
        bid = self.bid()
        wanted = [
            PlaceMultipleOrdersBatchOrdersParameterInner(**ORDER, price=below(bid, frac)) for frac in (0.02, 0.03)
        ]
        placed = plain(self.rest.place_multiple_orders(batch_orders=wanted))
        expect([order["status"] for order in placed] == ["NEW"] * 2, placed)
        ids = [order["orderId"] for order in placed]
        cancelled = plain(self.rest.cancel_multiple_orders(symbol=SYMBOL, order_id_list=ids))
        expect([order["status"] for order in cancelled] == ["CANCELED"] * 2, cancelled)
        expect(not plain(self.rest.current_all_open_orders(symbol=SYMBOL)), "still open")

    async def user_stream(self) -> str:
        events: list[Any] = []
        key = plain(self.rest.start_user_data_stream())["listenKey"]
        connection = await self.client.websocket_streams.create_connection()
        try:
            stream = await connection.user_data(key)
            stream.on("message", lambda event: events.append(event.actual_instance))
            await asyncio.sleep(0.5)
            bought = self.buy()
            of = lambda kind: [each for each in events if type(each).__name__ == kind]  # noqa: E731
            fill = lambda: [e.o for e in of("OrderTradeUpdate") if e.o.X == "FILLED"]  # noqa: E731
            filled = (await until(fill, "the fill"))[0]
            expect(filled.i == bought["orderId"], filled)
            update = (await until(lambda: of("AccountUpdate"), "the account update"))[0].a
            expect([float(leg.pa) for leg in update.P if leg.s == SYMBOL] == [QTY], update)
            self.close()
            self.rest.keepalive_user_data_stream()
        finally:
            await connection.close_connection(close_session=True)
        return f"order filled at {filled.ap}, account update seen"

    async def depth(self) -> str:
        book = LocalBook()
        seen: list[int] = []
        failed: list[Exception] = []

        def take(event: Any) -> None:
            seen.append(event.u)
            try:
                book.on_event(event.to_dict())
            except Exception as error:  # the SDK would only log it
                failed.append(error)

        connection = await self.client.websocket_streams.create_connection()
        try:
            stream = await connection.diff_book_depth_streams(symbol=SYMBOL.lower(), update_speed="100ms")
            stream.on("message", take)
            await until(lambda: seen, "the first depth event")
            book.start(self.snapshot())
            await until(lambda: len(book.at) > 2 or failed, "the book")
            equal = await equals_server(book.at, self.snapshot)
        finally:
            await connection.close_connection(close_session=True)
        expect(not failed, failed)
        return equal

    def snapshot(self) -> Any:
        return plain(self.rest.order_book(symbol=SYMBOL, limit=1000))

    async def rate_limit(self) -> str:
        return await rate_limited(
            self.rest.futures_account_balance_v3, lambda error: isinstance(error, TooManyRequestsError)
        )


def main() -> None:
    logging.disable(logging.CRITICAL)
    sdk = Sdk()
    checks = {
        "markets": sdk.markets,
        "account": sdk.account,
        "limit order": sdk.limit,
        "market order": sdk.market,
        "algo stop": sdk.algo,
        "batch": sdk.batch,
        "user stream": sdk.user_stream,
        "depth book": sdk.depth,
        "rate limit": sdk.rate_limit,
    }
    asyncio.run(run_checks("binance-sdk-derivatives-trading-usds-futures", checks))


if __name__ == "__main__":
    main()
