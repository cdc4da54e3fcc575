"""python-binance, asynchronous. Its addresses are attributes of the client and of the socket manager."""

import asyncio
from typing import Any

from binance import AsyncClient, BinanceSocketManager
from binance.exceptions import BinanceAPIException
from book import LocalBook, equals_server
from checks import KEY, QTY, SECRET, SYMBOL, address, below, expect, missing, rate_limited, run_checks, until

ORDER = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": QTY}


class Client:
    def __init__(self) -> None:
        self.rest = AsyncClient(KEY, SECRET)
        self.rest.FUTURES_URL = f"http://{address()}/fapi"
        self.sockets = BinanceSocketManager(self.rest)
        self.sockets.FSTREAM_URL = f"ws://{address()}/"

    async def bid(self) -> str:
        return (await self.rest.futures_orderbook_ticker(symbol=SYMBOL))["bidPrice"]

    async def held(self) -> float:
        return sum(float(each["positionAmt"]) for each in await self.rest.futures_position_information(symbol=SYMBOL))

    async def markets(self) -> str:
        info = await self.rest.futures_exchange_info()
        market = next(each for each in info["symbols"] if each["symbol"] == SYMBOL)
        wanted = ("contractType", "status", "marginAsset", "deliveryDate", "onboardDate", "filters", "orderTypes")
        expect(not missing(wanted, market), missing(wanted, market))
        expect(len(await self.rest.futures_klines(symbol=SYMBOL, interval="1m", limit=10)) == 10, "klines")
        return f"{len(info['symbols'])} symbols"

    async def account(self) -> str:
        usdt = next(each for each in await self.rest.futures_account_balance() if each["asset"] == "USDT")
        expect(float(usdt["balance"]) == 10_000.0, usdt)
        expect(float((await self.rest.futures_account())["totalWalletBalance"]) == 10_000.0, "account")
        expect(await self.held() == 0.0, "positions")
        expect((await self.rest.futures_change_leverage(symbol=SYMBOL, leverage=10))["leverage"] == 10, "leverage")
        return f"{usdt['balance']} USDT"

    async def limit(self) -> None:
        bid = await self.bid()
        placed = await self.rest.futures_create_order(**ORDER, price=below(bid, 0.02))
        expect(placed["status"] == "NEW", placed)
        name = {"symbol": SYMBOL, "orderId": placed["orderId"]}
        await self.rest.futures_modify_order(**name, side="BUY", quantity=2 * QTY, price=below(bid, 0.03))
        found = await self.rest.futures_get_order(**name)
        expect((float(found["origQty"]), float(found["price"])) == (2 * QTY, below(bid, 0.03)), found)
        listed = await self.rest.futures_get_open_orders(symbol=SYMBOL)
        expect([each["orderId"] for each in listed] == [placed["orderId"]], listed)
        expect((await self.rest.futures_cancel_order(**name))["status"] == "CANCELED", "cancel")
        expect((await self.rest.futures_get_order(**name))["status"] == "CANCELED", "query")

    async def market(self) -> str:
        bought = await self.buy(newOrderRespType="RESULT")
        expect(bought["status"] == "FILLED" and float(bought["executedQty"]) == QTY, bought)
        trades = await self.rest.futures_account_trades(symbol=SYMBOL)
        fills = [float(each["qty"]) for each in trades if each["orderId"] == bought["orderId"]]
        expect(round(sum(fills), 8) == QTY, fills)
        expect(await self.held() == QTY, "position")
        await self.close()
        expect(await self.held() == 0.0, "position after closing")
        order = await self.rest.futures_get_order(symbol=SYMBOL, orderId=bought["orderId"])
        return f"filled at {order['avgPrice']}"

    async def buy(self, **more: object) -> dict[str, Any]:
        return await self.rest.futures_create_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=QTY, **more)

    async def close(self) -> None:
        order = {"symbol": SYMBOL, "side": "SELL", "type": "MARKET", "quantity": QTY, "reduceOnly": "true"}
        await self.rest.futures_create_order(**order)

    async def algo(self) -> None:
        trigger = below(await self.bid(), 0.05)
        order = {"symbol": SYMBOL, "side": "SELL", "type": "STOP_MARKET", "quantity": QTY, "triggerPrice": trigger}
        placed = await self.rest.futures_create_algo_order(**order)
        found = await self.rest.futures_get_algo_order(algoId=placed["algoId"])
        expect(found["algoStatus"] == "NEW" and float(found["triggerPrice"]) == trigger, found)
        listed = await self.rest.futures_get_open_algo_orders(symbol=SYMBOL)
        expect([each["algoId"] for each in listed] == [placed["algoId"]], listed)
        await self.rest.futures_cancel_algo_order(algoId=placed["algoId"])
        expect(not await self.rest.futures_get_open_algo_orders(symbol=SYMBOL), "still open")

    async def batch(self) -> str:
        """Its batch cancel signs what it sends before it encodes it: localnet runs with --lenient-signatures."""
        bid = await self.bid()
        each = {name: str(value) for name, value in ORDER.items()}
        wanted = [{**each, "price": str(below(bid, frac))} for frac in (0.02, 0.03)]
        placed = await self.rest.futures_place_batch_order(batchOrders=wanted)
        expect([order.get("status") for order in placed] == ["NEW"] * 2, placed)
        ids = [order["orderId"] for order in placed]
        cancelled = await self.rest.futures_cancel_orders(symbol=SYMBOL, orderIdList=ids)
        expect([order.get("status") for order in cancelled] == ["CANCELED"] * 2, cancelled)
        expect(not await self.rest.futures_get_open_orders(symbol=SYMBOL), "still open")
        return "its batch cancel needs the lenient switch"

    async def user_stream(self) -> str:
        events: list[dict[str, Any]] = []
        async with self.sockets.futures_user_socket() as stream:

            async def read() -> None:
                while True:
                    events.append(await stream.recv())

            reading = asyncio.ensure_future(read())
            try:
                await asyncio.sleep(0.5)
                bought = await self.buy()
                of = lambda kind: [each for each in events if each["e"] == kind]  # noqa: E731
                fill = lambda: [o for e in of("ORDER_TRADE_UPDATE") if (o := e["o"])["X"] == "FILLED"]  # noqa: E731
                filled = (await until(fill, "the fill"))[0]
                expect(filled["i"] == bought["orderId"], filled)
                update = (await until(lambda: of("ACCOUNT_UPDATE"), "the account update"))[0]["a"]
                expect([float(leg["pa"]) for leg in update["P"] if leg["s"] == SYMBOL] == [QTY], update)
                await self.close()
            finally:
                reading.cancel()
        return f"order filled at {filled['ap']}, account update seen"

    async def depth(self) -> str:
        book = LocalBook()
        seen: list[int] = []
        async with self.sockets.futures_multiplex_socket(
            [f"{SYMBOL.lower()}@depth@100ms"], category="public"
        ) as stream:

            async def read() -> None:
                while True:
                    event = (await stream.recv())["data"]
                    seen.append(event["u"])
                    book.on_event(event)

            reading = asyncio.ensure_future(read())
            try:
                await until(lambda: seen, "the first depth event")
                book.start(await self.snapshot())
                await until(lambda: len(book.at) > 2, "the book")
                equal = await equals_server(book.at, self.snapshot)
                expect(not reading.done(), reading)
            finally:
                reading.cancel()
        return equal

    async def snapshot(self) -> dict[str, Any]:
        return await self.rest.futures_order_book(symbol=SYMBOL, limit=1000)

    async def rate_limit(self) -> str:
        is_limit = lambda error: isinstance(error, BinanceAPIException) and error.status_code == 429  # noqa: E731
        return await rate_limited(self.rest.futures_account, is_limit)


async def main() -> None:
    client = Client()
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
    try:
        await run_checks("python-binance", checks)
    finally:
        await client.rest.close_connection()


if __name__ == "__main__":
    asyncio.run(main())
