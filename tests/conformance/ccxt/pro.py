"""ccxt.pro: streams, and orders over the WebSocket API."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import ccxt.pro as ccxt
from book import Sides, equals_server
from ccxt.base.errors import DDoSProtection, RateLimitExceeded
from checks import QTY, SYMBOL, below, expect, rate_limited, run_checks, until
from rest import SYMBOL as PAIR
from rest import settings


class Pro:
    def __init__(self, exchange: ccxt.binanceusdm) -> None:
        self.exchange = exchange
        self.tasks: list[asyncio.Task[None]] = []

    def watch(self, watched: Callable[[], Awaitable[Any]], take: Callable[[Any], None]) -> None:
        """Keep watching. A watcher that fails shows by what is missing."""

        async def keep() -> None:
            while True:
                take(await watched())

        self.tasks.append(asyncio.ensure_future(keep()))

    async def bid(self) -> float:
        return (await self.exchange.fetch_bids_asks([PAIR]))[PAIR]["bid"]

    async def markets(self) -> str:
        found = await self.exchange.load_markets()
        expect(found[PAIR]["active"], found[PAIR])
        ticker = await self.exchange.watch_ticker(PAIR)
        expect(ticker["last"] > 0, ticker)
        candle = (await self.exchange.watch_ohlcv(PAIR, "1m"))[-1]
        expect(candle[4] > 0, candle)
        trade = (await self.exchange.watch_trades(PAIR))[-1]
        expect(trade["price"] > 0 and trade["amount"] > 0, trade)
        return f"{len(found)} markets; ticker, candle and trade streams"

    async def account(self) -> str:
        balance = await self.exchange.fetch_balance_ws()
        expect(balance["USDT"]["total"] == 10_000.0, balance["USDT"])
        positions = await self.exchange.fetch_positions_ws([PAIR])
        expect(all(not each["contracts"] for each in positions), positions)
        return "over the WebSocket API"

    async def limit(self) -> str:
        bid = await self.bid()
        placed = await self.exchange.create_order_ws(PAIR, "limit", "buy", QTY, below(bid, 0.02))
        expect(placed["status"] == "open", placed)
        args = (placed["id"], PAIR, "limit", "buy", 2 * QTY, below(bid, 0.03))
        amended = await self.exchange.edit_order_ws(*args)
        expect(amended["amount"] == 2 * QTY and amended["price"] == below(bid, 0.03), amended)
        cancelled = await self.exchange.cancel_order_ws(placed["id"], PAIR)
        expect(cancelled["status"] == "canceled", cancelled)
        return "over the WebSocket API"

    async def market(self) -> str:
        bought = await self.exchange.create_order_ws(PAIR, "market", "buy", QTY)
        order = await self.exchange.fetch_order_ws(bought["id"], PAIR)
        expect(order["status"] == "closed" and order["filled"] == QTY and order["average"] > 0, order)
        await self.exchange.create_order_ws(PAIR, "market", "sell", QTY, None, {"reduceOnly": True})
        positions = await self.exchange.fetch_positions_ws([PAIR])
        expect(all(not each["contracts"] for each in positions), positions)
        return "over the WebSocket API"

    async def algo(self) -> str:
        stop = {"stopLossPrice": below(await self.bid(), 0.05)}
        placed = await self.exchange.create_order_ws(PAIR, "market", "sell", QTY, None, stop)
        listed = await self.exchange.fetch_open_orders(PAIR, None, None, {"trigger": True})
        expect([each["id"] for each in listed] == [placed["id"]], listed)
        await self.exchange.cancel_order_ws(placed["id"], PAIR, {"trigger": True})
        expect(not await self.exchange.fetch_open_orders(PAIR, None, None, {"trigger": True}), "still open")
        return "over the WebSocket API"

    async def user_stream(self) -> str:
        """The market order's fill, the balance and the position that come of it."""
        orders: list[Any] = []
        balances: list[Any] = []
        positions: list[Any] = []
        self.watch(lambda: self.exchange.watch_orders(PAIR), orders.extend)
        self.watch(self.exchange.watch_balance, balances.append)
        self.watch(lambda: self.exchange.watch_positions([PAIR]), positions.extend)
        await until(lambda: any("listenKey=" in url for url in self.exchange.clients), "the user stream's connection")
        await asyncio.sleep(1.0)
        balances.clear()
        bought = await self.exchange.create_order_ws(PAIR, "market", "buy", QTY)
        closed = lambda: [each for each in orders if each["id"] == bought["id"] and each["status"] == "closed"]  # noqa: E731
        filled = (await until(closed, "the fill"))[0]
        expect(filled["filled"] == QTY, filled)
        await until(lambda: any(each["contracts"] == QTY for each in positions), "the position")
        await until(lambda: any(each["USDT"]["total"] < 10_000 for each in balances), "the balance after its fee")
        await self.exchange.create_order_ws(PAIR, "market", "sell", QTY, None, {"reduceOnly": True})
        await until(lambda: not positions[-1]["contracts"], "the closed position")
        return f"order filled at {filled['average']}, balance and position seen"

    async def depth(self) -> str:
        """The book is kept by the client itself; ``nonce`` is its update id."""
        at: dict[int, Sides] = {}

        def take(book: Any) -> None:
            sides = [{Decimal(str(price)): Decimal(str(qty)) for price, qty in book[name]} for name in ("bids", "asks")]
            at[book["nonce"]] = (sides[0], sides[1])

        self.watch(lambda: self.exchange.watch_order_book(PAIR, 1000), take)
        await until(lambda: len(at) > 2, "the book")
        ask = {"symbol": SYMBOL, "limit": 1000}
        return await equals_server(at, lambda: self.exchange.fapiPublicGetDepth(ask), tolerated=2)

    async def rate_limit(self) -> str:
        kinds = (RateLimitExceeded, DDoSProtection)
        return await rate_limited(self.exchange.fetch_balance, lambda error: isinstance(error, kinds))


async def main() -> None:
    exchange = ccxt.binanceusdm(settings())
    pro = Pro(exchange)
    checks = {
        "markets": pro.markets,
        "account": pro.account,
        "limit order": pro.limit,
        "market order": pro.market,
        "algo stop": pro.algo,
        "user stream": pro.user_stream,
        "depth book": pro.depth,
        "rate limit": pro.rate_limit,
    }
    try:
        await run_checks("ccxt", checks)
    finally:
        for task in pro.tasks:
            task.cancel()
        await asyncio.gather(*pro.tasks, return_exceptions=True)
        await exchange.close()


if __name__ == "__main__":
    asyncio.run(main())
