"""ccxt, asynchronous, over REST. Its streams are those of ccxt.pro, in ``pro.py``."""

import asyncio

import ccxt.async_support as ccxt
from checks import KEY, QTY, SECRET, address, below, expect, missing, rate_limited, run_checks

SYMBOL = "BTC/USDT:USDT"


def urls() -> dict[str, object]:
    """ccxt's own table of addresses, as its users override it."""
    rest, ws = f"http://{address()}", f"ws://{address()}"
    versions = {"": "v1", "V2": "v2", "V3": "v3"}
    calls = {
        f"fapi{kind}{each}": f"{rest}/fapi/{path}" for kind in ("Public", "Private") for each, path in versions.items()
    }
    return {"api": {**calls, "ws": {"linear": f"{ws}/ws", "ws-api": {"linear": f"{ws}/ws-fapi/v1"}}}}


def settings() -> dict[str, object]:
    return {
        "apiKey": KEY,
        "secret": SECRET,
        "urls": urls(),
        "options": {"fetchCurrencies": False, "fetchMarkets": {"types": ["linear"]}},
    }


class Rest:
    def __init__(self, exchange: ccxt.binanceusdm) -> None:
        self.exchange = exchange

    async def bid(self) -> float:
        return (await self.exchange.fetch_bids_asks([SYMBOL]))[SYMBOL]["bid"]

    async def markets(self) -> str:
        found = await self.exchange.load_markets()
        market = found[SYMBOL]
        expect(market["swap"] and market["linear"] and market["active"], market)
        expect(market["precision"] == {**market["precision"], "amount": 0.001, "price": 0.1}, market["precision"])
        candles = await self.exchange.fetch_ohlcv(SYMBOL, "1m", limit=10)
        expect(len(candles) == 10, candles)
        return f"{len(found)} markets"

    async def account(self) -> str:
        balance = await self.exchange.fetch_balance()
        expect(balance["USDT"]["total"] == 10_000.0, balance["USDT"])
        positions = await self.exchange.fetch_positions([SYMBOL])
        expect(all(not each["contracts"] for each in positions), positions)
        await self.exchange.set_leverage(10, SYMBOL)
        leverage = await self.exchange.fetch_leverage(SYMBOL)
        expect(leverage["longLeverage"] == 10, leverage)
        return f"{balance['USDT']['total']} USDT"

    async def limit(self) -> None:
        bid = await self.bid()
        placed = await self.exchange.create_order(SYMBOL, "limit", "buy", QTY, below(bid, 0.02))
        expect(placed["status"] == "open" and placed["id"], placed)
        amended = await self.exchange.edit_order(placed["id"], SYMBOL, "limit", "buy", 2 * QTY, below(bid, 0.03))
        expect(amended["amount"] == 2 * QTY and amended["price"] == below(bid, 0.03), amended)
        listed = await self.exchange.fetch_open_orders(SYMBOL)
        expect([each["id"] for each in listed] == [placed["id"]], listed)
        cancelled = await self.exchange.cancel_order(placed["id"], SYMBOL)
        expect(cancelled["status"] == "canceled", cancelled)
        expect((await self.exchange.fetch_order(placed["id"], SYMBOL))["status"] == "canceled", "status")

    async def market(self) -> str:
        bought = await self.exchange.create_order(SYMBOL, "market", "buy", QTY)
        order = await self.exchange.fetch_order(bought["id"], SYMBOL)
        expect(order["status"] == "closed" and order["filled"] == QTY and order["average"] > 0, order)
        trades = await self.exchange.fetch_my_trades(SYMBOL)
        expect(sum(each["amount"] for each in trades if each["order"] == bought["id"]) == QTY, trades)
        held = (await self.exchange.fetch_positions([SYMBOL]))[0]
        expect(held["side"] == "long" and held["contracts"] == QTY, held)
        await self.exchange.create_order(SYMBOL, "market", "sell", QTY, None, {"reduceOnly": True})
        held = await self.exchange.fetch_positions([SYMBOL])
        expect(all(not each["contracts"] for each in held), held)
        return f"filled at {order['average']}"

    async def algo(self) -> None:
        stop = {"stopLossPrice": below(await self.bid(), 0.05)}
        placed = await self.exchange.create_order(SYMBOL, "market", "sell", QTY, None, stop)
        found = await self.exchange.fetch_order(placed["id"], SYMBOL, {"trigger": True})
        expect(found["id"] == placed["id"] and found["stopPrice"] == stop["stopLossPrice"], found)
        listed = await self.exchange.fetch_open_orders(SYMBOL, None, None, {"trigger": True})
        expect([each["id"] for each in listed] == [placed["id"]], listed)
        await self.exchange.cancel_order(placed["id"], SYMBOL, {"trigger": True})
        expect(not await self.exchange.fetch_open_orders(SYMBOL, None, None, {"trigger": True}), "still open")

    async def batch(self) -> None:
        bid = await self.bid()
        each = {"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": QTY}
        wanted = [{**each, "price": below(bid, frac)} for frac in (0.02, 0.03)]
        placed = await self.exchange.create_orders(wanted)
        expect([order["price"] for order in placed] == [order["price"] for order in wanted], placed)
        ids = [order["id"] for order in placed]
        listed = [order["id"] for order in await self.exchange.fetch_open_orders(SYMBOL)]
        expect(not missing(ids, listed), listed)
        cancelled = await self.exchange.cancel_orders(ids, SYMBOL)
        expect([order["status"] for order in cancelled] == ["canceled"] * 2, cancelled)
        expect(not await self.exchange.fetch_open_orders(SYMBOL), "still open")

    async def rate_limit(self) -> str:
        kinds = (ccxt.RateLimitExceeded, ccxt.DDoSProtection)
        return await rate_limited(self.exchange.fetch_positions, lambda error: isinstance(error, kinds))


async def main() -> None:
    exchange = ccxt.binanceusdm(settings())
    rest = Rest(exchange)
    checks = {
        "markets": rest.markets,
        "account": rest.account,
        "limit order": rest.limit,
        "market order": rest.market,
        "algo stop": rest.algo,
        "batch": rest.batch,
        "rate limit": rest.rate_limit,
    }
    try:
        await run_checks("ccxt", checks)
    finally:
        await exchange.close()


if __name__ == "__main__":
    asyncio.run(main())
