"""The streams of the local exchange over real sockets, with a client library that knows nothing of it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tidegate.adapters.localnet.accounts import DEMO_KEY
from tidegate.adapters.localnet.feeds import Catalogue
from tidegate.adapters.localnet.market import MarketConfig
from tidegate.adapters.localnet.serve import ServeOptions, serve
from tidegate.adapters.localnet.server import LocalExchange, LocalnetConfig
from tidegate.adapters.localnet.streams import StreamConfig
from tidegate.adapters.system.clock import SystemClock
from tidegate.app.simulation.clock import VirtualClock
from tidegate.app.simulation.loop import VirtualLoop
from tidegate.app.simulation.runner import run as simulated
from tidegate.domain.errors import ConfigError
from tidegate.domain.market import DAY_NS
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE

FAST = MarketConfig(tick_ms=20, history_bars=20, levels=30)
NEVER = MarketConfig(tick_ms=86_400_000, history_bars=20)


class Skewed(SystemClock):
    """The wall clock, and what it is ahead by."""

    ahead_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_ns


@asynccontextmanager
async def exchange(
    market: MarketConfig = FAST, streams: StreamConfig | None = None, clock: SystemClock | None = None
) -> AsyncIterator[tuple[LocalExchange, str]]:
    config = LocalnetConfig(market, streams or StreamConfig())
    running = LocalExchange(config, clock or SystemClock(), Random(5))
    port = await running.start()
    try:
        yield running, f"127.0.0.1:{port}"
    finally:
        await running.close()


async def said(ws: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(ws.recv(), 20))


async def rest_of(ws: ClientConnection) -> list[Any]:
    """Everything until the connection is closed."""
    told = []
    try:
        while True:
            told.append(await said(ws))
    except ConnectionClosed:
        return told


async def answer(ws: ClientConnection, message: Any) -> Any:
    """The reply to a control message; what streams say in between is passed over."""
    await ws.send(message if isinstance(message, str) else json.dumps(message))
    while True:
        told = await said(ws)
        if not {"e", "stream"} & told.keys():
            return told


def push(running: LocalExchange, event: dict[str, Any]) -> None:
    account = running.accounts.by_key(DEMO_KEY)
    assert account is not None
    account.events(event)


def listen_key(running: LocalExchange) -> str:
    account = running.accounts.by_key(DEMO_KEY)
    assert account is not None
    return running.accounts.open_stream(account)


class Book:
    """A local order book by the rules of the venue's page: buffer, snapshot, join, chain by ``pu``."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}
        self.last_id = -1
        self.snapshot_id = -1
        self.applied = 0

    def load(self, snapshot: dict[str, Any]) -> None:
        self.sides = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}
        self.snapshot_id, self.last_id = snapshot["lastUpdateId"], -1

    def apply(self, event: dict[str, Any]) -> None:
        if event["u"] < self.snapshot_id:
            return
        if self.last_id < 0:
            assert event["U"] <= self.snapshot_id <= event["u"]
        else:
            assert event["pu"] == self.last_id
            assert event["U"] > event["pu"] + 1
        self.last_id = event["u"]
        self.applied += 1
        for side, levels in self.sides.items():
            for price, qty in event[side]:
                if Decimal(qty):
                    levels[price] = qty
                else:
                    levels.pop(price, None)

    def top(self) -> tuple[list[list[str]], list[list[str]]]:
        bids = sorted(self.sides["b"].items(), key=lambda level: -Decimal(level[0]))
        return [list(level) for level in bids], [
            list(level) for level in sorted(self.sides["a"].items(), key=lambda level: Decimal(level[0]))
        ]


async def snapshot_of(http: aiohttp.ClientSession, address: str) -> dict[str, Any]:
    async with http.get(f"http://{address}/fapi/v1/depth?symbol=BTCUSDT&limit=1000") as reply:
        return dict(await reply.json())


@pytest.mark.parametrize("stream", ["btcusdt@depth@100ms", "btcusdt@depth", "btcusdt@depth@500ms"])
async def test_a_locally_kept_book_joins_the_running_stream(stream: str) -> None:
    async with (
        exchange() as (_, address),
        aiohttp.ClientSession() as http,
        connect(f"ws://{address}/public/ws/{stream}") as ws,
    ):
        book = Book()
        buffered = [await said(ws), await said(ws)]
        book.load(await snapshot_of(http, address))
        for event in buffered:
            book.apply(event)
        while book.applied < 6:
            book.apply(await said(ws))
        bids, asks = book.top()
        assert Decimal(bids[0][0]) < Decimal(asks[0][0])
        assert len(bids) == len(asks) == FAST.levels


async def test_a_locally_kept_book_is_the_servers() -> None:
    async with (
        exchange(NEVER) as (running, address),
        aiohttp.ClientSession() as http,
        connect(f"ws://{address}/public/stream?streams=btcusdt@depth@100ms") as ws,
    ):
        book = Book()
        await answer(ws, {"method": "LIST_SUBSCRIPTIONS", "id": 1})
        book.load(await snapshot_of(http, address))
        for _ in range(20):
            await asyncio.sleep(0.101)
            running.market.tick()
            told = await said(ws)
            assert told["stream"] == "btcusdt@depth@100ms"
            book.apply(told["data"])
        server = await snapshot_of(http, address)
        assert book.top() == (server["bids"], server["asks"])
        assert book.applied == 20


async def test_messages_come_bare_or_enveloped_by_path_and_property() -> None:
    async with exchange() as (_, address):
        async with connect(f"ws://{address}/ws/btcusdt@aggTrade") as ws:
            assert (await said(ws))["e"] == "aggTrade"
            assert await answer(ws, {"method": "GET_PROPERTY", "params": ["combined"], "id": 1}) == {
                "result": False,
                "id": 1,
            }
            assert await answer(ws, {"method": "SET_PROPERTY", "params": ["combined", True], "id": "u-1"}) == {
                "result": None,
                "id": "u-1",
            }
            assert (await said(ws))["stream"] == "btcusdt@aggTrade"
        async with connect(f"ws://{address}/market/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade") as ws:
            told = [await said(ws) for _ in range(6)]
            assert {each["stream"] for each in told} == {"btcusdt@aggTrade", "ethusdt@aggTrade"}
            assert {each["data"]["s"] for each in told} == {"BTCUSDT", "ETHUSDT"}


async def test_subscriptions_change_on_a_running_connection() -> None:
    async with exchange() as (running, address), connect(f"ws://{address}/public/ws/0") as ws:
        assert await answer(ws, {"method": "LIST_SUBSCRIPTIONS", "id": 3}) == {"result": ["0"], "id": 3}
        names = ["btcusdt@bookTicker", "nosuch@thing", "btcusdt@bookTicker"]
        assert await answer(ws, {"method": "SUBSCRIBE", "params": names, "id": 4}) == {"result": None, "id": 4}
        assert (await said(ws))["e"] == "bookTicker"
        assert await answer(ws, {"method": "LIST_SUBSCRIPTIONS", "id": 5}) == {
            "result": ["0", "btcusdt@bookTicker", "nosuch@thing"],
            "id": 5,
        }
        assert await answer(ws, {"method": "UNSUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 6}) == {
            "result": None,
            "id": 6,
        }
        assert not running.hub._topics, "nobody listens, nothing is computed"


@pytest.mark.parametrize(
    ("message", "code", "part"),
    [
        ("{", 3, "Invalid JSON"),
        ("[1]", 2, "missing field"),
        ('{"method":"NOPE","id":1}', 2, "unknown variant `NOPE`"),
        ('{"method":"SUBSCRIBE","params":["a@b"],"id":1.5}', 2, "request ID"),
        ('{"method":"SUBSCRIBE","params":"a@b","id":1}', 2, "list"),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "strings"),
        ('{"method":"SET_PROPERTY","params":["x",true],"id":1}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "Boolean"),
    ],
)
async def test_a_wrong_control_message_is_answered_and_the_connection_lives(message: str, code: int, part: str) -> None:
    async with exchange(NEVER) as (_, address), connect(f"ws://{address}/ws") as ws:
        told = await answer(ws, message)
        assert told["code"] == code
        assert part in told["msg"]
        assert (await answer(ws, {"method": "LIST_SUBSCRIPTIONS", "id": 2}))["result"] == []


async def test_more_streams_than_allowed_are_refused() -> None:
    limits = StreamConfig(max_streams=3)
    async with exchange(NEVER, limits) as (_, address), connect(f"ws://{address}/ws") as ws:
        assert (await answer(ws, {"method": "SUBSCRIBE", "params": ["a", "b", "c"], "id": 1}))["result"] is None
        assert "more than 3 streams" in (await answer(ws, {"method": "SUBSCRIBE", "params": ["d"], "id": 2}))["msg"]


async def test_paths_serve_their_own_streams_and_strict_ones_nothing_else() -> None:
    names = ["btcusdt@bookTicker", "btcusdt@aggTrade"]

    async def kinds(address: str, path: str) -> set[str]:
        async with connect(f"ws://{address}{path}") as ws:
            await answer(ws, {"method": "SUBSCRIBE", "params": names, "id": 1})
            return {(await said(ws))["e"] for _ in range(12)}

    async with exchange() as (_, address):
        assert await kinds(address, "/public/ws") == {"bookTicker"}
        assert await kinds(address, "/market/ws") == {"aggTrade"}
        assert await kinds(address, "/ws") == {"bookTicker", "aggTrade"}
    async with exchange(streams=StreamConfig(strict_routing=True)) as (_, address):
        assert await kinds(address, "/ws") == {"bookTicker"}


async def test_every_stream_of_the_catalogue_says_something() -> None:
    async with exchange() as (running, address):
        names = [
            *(f"btcusdt@{kind}" for kind in ("aggTrade", "trade", "bookTicker", "markPrice", "markPrice@1s")),
            *(f"btcusdt@{kind}" for kind in ("ticker", "miniTicker", "kline_1m", "kline_1M", "kline_3d")),
            *(f"ethusdt@depth{kind}" for kind in ("", "@100ms", "@500ms", "5", "10@100ms", "20@500ms")),
            *("ethusdt@rpiDepth@500ms", "ethusdt_perpetual@continuousKline_1h", "!bookTicker"),
            *("!markPrice@arr", "!markPrice@arr@1s", "!ticker@arr", "!miniTicker@arr"),
        ]
        async with connect(f"ws://{address}/stream?streams={'/'.join(names)}", max_size=None) as ws:
            seen: set[str] = set()
            async with asyncio.timeout(30):
                while seen != set(names):
                    seen.add((await said(ws))["stream"])
        catalogue = Catalogue(running.market)
        unknown = ("BTCUSDT@depth", "btcusdt@depth7", "btcusdt@depth@5ms", "btcusdt@kline_7m", "nousdt@trade", "0")
        assert [catalogue.topic(name) for name in unknown] == [None] * len(unknown)


async def test_a_closed_candle_is_told_once_and_whole() -> None:
    clock = Skewed()
    async with (
        exchange(NEVER, clock=clock) as (running, address),
        connect(f"ws://{address}/market/ws/btcusdt@kline_1m") as ws,
    ):
        await answer(ws, {"method": "LIST_SUBSCRIPTIONS", "id": 1})
        for _ in range(3):
            clock.ahead_ns += 60 * 10**9
            running.market.tick()
        closed = [told["k"] for told in [await said(ws) for _ in range(6)] if told["k"]["x"]]
        rows = running.market.lines["BTCUSDT"].candles.rows("1m", 4)[:3]
        assert [[k["t"], *(float(k[name]) for name in "ohlc")] for k in closed] == [list(row[:5]) for row in rows]


# ---- user streams ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "subscribe", "enveloped"),
    [
        ("/private/ws?listenKey={key}", False, False),
        ("/private/ws/{key}", False, False),
        ("/private/stream", True, True),
        ("/ws", True, False),
        ("/stream?streams={key}", False, True),
    ],
)
async def test_user_events_by_every_path_that_clients_use(path: str, subscribe: bool, enveloped: bool) -> None:
    async with exchange(NEVER) as (running, address):
        key = listen_key(running)
        async with connect(f"ws://{address}{path.format(key=key)}") as ws:
            names = {"method": "SUBSCRIBE", "params": [key], "id": 1} if subscribe else {"method": "X", "id": 1}
            await answer(ws, names)
            push(running, {"e": "TRADE_LITE", "E": 1})
            told = await said(ws)
            assert told == (
                {"stream": key, "data": {"e": "TRADE_LITE", "E": 1}} if enveloped else {"e": "TRADE_LITE", "E": 1}
            )


async def test_user_events_can_be_chosen_and_end_with_the_key() -> None:
    async with exchange(NEVER) as (running, address):
        key = listen_key(running)
        async with connect(f"ws://{address}/private/ws?listenKey={key}&events=ACCOUNT_UPDATE/ALGO_UPDATE") as ws:
            await answer(ws, {"method": "LIST_SUBSCRIPTIONS", "id": 1})
            for kind in ("TRADE_LITE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE", "ALGO_UPDATE"):
                push(running, {"e": kind, "E": 1, "o": {}})
            assert [(await said(ws))["e"] for _ in range(2)] == ["ACCOUNT_UPDATE", "ALGO_UPDATE"]
            running.accounts.expire_listen_key(key)
            expired = await said(ws)
            assert (expired["e"], expired["listenKey"]) == ("listenKeyExpired", key)
            push(running, {"e": "ACCOUNT_UPDATE", "E": 2})
            await ws.send('{"method":"LIST_SUBSCRIPTIONS","id":2}')
            assert await said(ws) == {"result": [key], "id": 2}, "open, and silent"


async def test_events_of_an_account_do_not_reach_market_paths_or_strangers() -> None:
    async with (
        exchange(NEVER) as (running, address),
        connect(f"ws://{address}/market/ws/{(key := listen_key(running))}") as market,
        connect(f"ws://{address}/private/ws/nokey") as other,
        connect(f"ws://{address}/private/ws/{key}") as own,
    ):
        for ws in (market, other, own):
            await answer(ws, {"method": "LIST_SUBSCRIPTIONS", "id": 1})
        push(running, {"e": "ACCOUNT_UPDATE", "E": 1})
        assert await said(own) == {"e": "ACCOUNT_UPDATE", "E": 1}
        for ws in (market, other):
            await ws.send('{"method":"GET_PROPERTY","params":["combined"],"id":2}')
            assert await said(ws) == {"result": False, "id": 2}


# ---- the transport --------------------------------------------------------------------------------------------------


async def test_pings_are_echoed_and_sent() -> None:
    async with (
        exchange(NEVER, StreamConfig(ping_s=0.05)) as (_, address),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://{address}/ws", autoping=False) as ws,
    ):
        await ws.ping(b"echo")
        seen: dict[aiohttp.WSMsgType, bytes] = {}
        while len(seen) < 2:
            message = await ws.receive(20)
            seen.setdefault(message.type, message.data)
        assert seen[aiohttp.WSMsgType.PONG] == b"echo"
        assert seen[aiohttp.WSMsgType.PING].isdigit()


async def test_who_does_not_answer_pings_is_dropped() -> None:
    async with exchange(NEVER, StreamConfig(ping_s=0.05, pong_timeout_s=0.2)) as (running, address):
        async with aiohttp.ClientSession() as http, http.ws_connect(f"http://{address}/ws", autoping=False) as ws:
            while (await ws.receive(20)).type is aiohttp.WSMsgType.PING:
                pass
            assert ws.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
        assert running.streams.connections == 0


async def test_a_connection_ends_after_its_lifetime() -> None:
    async with exchange(NEVER, StreamConfig(lifetime_s=0.2)) as (running, address):
        async with connect(f"ws://{address}/ws") as ws:
            with pytest.raises(ConnectionClosed) as ended:
                await said(ws)
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 1001
        assert running.streams.connections == 0


async def test_more_than_ten_messages_a_second_end_the_connection() -> None:
    async with exchange(NEVER) as (_, address), connect(f"ws://{address}/ws") as ws:
        for number in range(10):
            await ws.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        assert [(await said(ws))["id"] for _ in range(10)] == list(range(10))
        for number in range(11):
            await ws.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        await rest_of(ws)
        assert ws.close_code == 1008


async def test_a_slow_consumer_is_dropped() -> None:
    async with exchange(NEVER, StreamConfig(max_queue=50)) as (running, address):
        key = listen_key(running)
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1_024)
        head = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        nonce = "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        writer.write(f"GET /private/ws?listenKey={key} HTTP/1.1\r\nHost: {address}\r\n{head}{nonce}\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(30):
            while running.streams.connections:
                push(running, {"e": "TRADE_LITE", "filler": "x" * 100_000})
                await asyncio.sleep(0)
        writer.close()


async def test_a_stopped_exchange_starts_again_with_its_state() -> None:
    clock = Skewed()
    clock.ahead_ns = 400 * DAY_NS
    async with exchange(NEVER, clock=clock) as (running, address), aiohttp.ClientSession() as http:
        key = listen_key(running)
        async with connect(f"ws://{address}/private/ws?listenKey={key}") as ws:
            await running.stop()
            with pytest.raises(ConnectionClosed):
                await said(ws)
        with pytest.raises(OSError):
            await asyncio.open_connection(*address.split(":"))
        address = f"127.0.0.1:{await running.start()}"
        async with connect(f"ws://{address}/private/ws?listenKey={key}") as ws:
            await answer(ws, {"method": "LIST_SUBSCRIPTIONS", "id": 1})
            push(running, {"e": "TRADE_LITE"})
            assert await said(ws) == {"e": "TRADE_LITE"}
        async with http.get(f"http://{address}/fapi/v1/time") as reply:
            assert reply.headers["Content-Type"] == "application/json"
            dated_s = parsedate_to_datetime(reply.headers["Date"]).timestamp()
            assert abs(clock.now_ns() / 1e9 - dated_s) < 86_400, "dated by the exchange's clock"


async def test_a_path_of_streams_without_an_upgrade_is_refused_in_json() -> None:
    async with (
        exchange(NEVER) as (_, address),
        aiohttp.ClientSession() as http,
        http.get(f"http://{address}/public/ws") as reply,
    ):
        assert reply.status == 400
        assert (await reply.json())["code"] == -1000


def two_hours(seed: int) -> tuple[str, int]:
    """Two virtual hours of the exchange and a client, as the digest of all bytes and the number of messages."""

    async def main(loop: VirtualLoop) -> int:
        market = MarketConfig(tick_ms=5_000, history_bars=20, instruments=DEFAULT_UNIVERSE[:2])
        running = LocalExchange(LocalnetConfig(market, kline_ms=-1), VirtualClock(loop), Random(1))
        names = "btcusdt@kline_1m/ethusdt@depth/!markPrice@arr/ethusdt@ticker"
        count = 0
        async with connect(f"ws://127.0.0.1:{await running.start(port=8_800)}/stream?streams={names}") as ws:
            while loop.time() < 7_200:
                assert "stream" in json.loads(await ws.recv())
                count += 1
        await running.close()
        return count

    outcome = simulated(main, seed)
    assert outcome.errors == ()
    return outcome.digest, outcome.result


def test_on_a_virtual_loop_the_same_seed_gives_the_same_bytes() -> None:
    first = two_hours(1)
    assert first == two_hours(1)
    assert first[0] != two_hours(2)[0]
    assert first[1] > 4_000


# ---- the command ----------------------------------------------------------------------------------------------------


async def test_serve_says_where_it_is_and_stops_at_a_signal() -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.ensure_future(serve(ServeOptions(), SystemClock(), lines.put_nowait))
    line = await asyncio.wait_for(lines.get(), 60)
    assert "http://127.0.0.1:" in line
    assert "demo-key" in line
    assert "10000 USDT" in line
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(running, 20)


async def test_a_taken_port_is_one_clear_line() -> None:
    async with exchange(NEVER) as (_, address):
        port = int(address.partition(":")[2])
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is in use; choose another with --port"):
            await serve(ServeOptions(port=port), SystemClock(), lambda _: None)
