"""How many stream messages a second go in, over loopback: ``python -m benchmarks.messages --json``.

A server process sends a burst of a mixed stream (best bid and ask, depth diffs, trades, marks, open candles, in the
proportions that a busy contract showed); the feed as it runs in production receives, decodes, routes, checks for gaps,
updates the book and hands the events to a reader. Counted from the first message of the burst to the reader's last.
Each transport is measured ``--repeats`` times; the figure is the median. Exit code 1 when messages were lost, the book
broke, or picows stays below ``--target``.
"""

import argparse
import asyncio
import base64
import gc
import hashlib
import json
import multiprocessing
import random
import sys
from collections.abc import Sequence
from contextlib import aclosing
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter, time_ns
from typing import Any, Literal

import msgspec

from tidegate.adapters.binance.feed import BinanceFeed
from tidegate.adapters.binance.ws_transport import make_transport
from tidegate.adapters.system.clock import SystemClock
from tidegate.domain.errors import TidegateError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import MINUTE_NS, Trade
from tidegate.domain.messages import Subscription

KINDS = ("bookTicker", "depth", "aggTrade", "markPrice", "kline")
SHARES = (70, 10, 15, 2.5, 2.5)
LEVELS = 8
"""Changed levels on each side of a depth diff."""

MIDDLE = 60_000.0
FIRST_ID = 1_000
LAST_QTY = 999.0
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(text: bytes) -> bytes:
    """One text frame as a server sends it."""
    size = len(text)
    head = bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
    return head + text


class Market:
    """Writes the messages of one contract, with ids that follow on one another."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._update_id = FIRST_ID
        self._trade_id = 0
        self._time_ms = time_ns() // 1_000_000

    def message(self, kind: str) -> bytes:
        """The next message of one kind."""
        self._time_ms += 1
        maker = getattr(self, f"_{kind}")
        stream, data = maker()
        return json.dumps({"stream": f"btcusdt@{stream}", "data": data}, separators=(",", ":")).encode()

    def last(self) -> bytes:
        """The trade after which nothing comes."""
        return self.message("aggTrade").replace(b'"q":"0.012"', b'"q":"%d"' % LAST_QTY)

    def _price(self) -> float:
        return round(MIDDLE + self._rng.randint(-200, 200) / 10, 1)

    def _bookTicker(self) -> tuple[str, dict[str, Any]]:
        bid, ms = self._price(), self._time_ms
        best = {"b": f"{bid:.2f}", "B": "12.345", "a": f"{bid + 0.1:.2f}", "A": "0.500"}
        return "bookTicker", {"e": "bookTicker", "u": ms, "s": "BTCUSDT", **best, "T": ms, "E": ms, "st": 1}

    def _depth(self) -> tuple[str, dict[str, Any]]:
        before = self._update_id
        self._update_id += 10
        ids = {"U": before + 1, "u": self._update_id, "pu": before}
        if before == FIRST_ID:
            ids["U"] = before
        sides = {"b": self._levels(-1), "a": self._levels(1)}
        ms = self._time_ms
        return "depth@100ms", {"e": "depthUpdate", "E": ms, "T": ms, "s": "BTCUSDT", **ids, **sides, "st": 1}

    def _levels(self, side: int) -> list[tuple[str, str]]:
        ticks = sorted(self._rng.sample(range(1, 1_000), LEVELS))
        qty = [f"{self._rng.choice((0, 0.5, 1.25, 3.0)):.3f}" for _ in ticks]
        return [(f"{MIDDLE + side * tick / 10:.2f}", q) for tick, q in zip(ticks, qty, strict=True)]

    def _aggTrade(self) -> tuple[str, dict[str, Any]]:
        self._trade_id += 1
        number, ms = self._trade_id, self._time_ms
        data = {"e": "aggTrade", "E": ms, "s": "BTCUSDT", "a": number, "p": f"{self._price():.2f}", "q": "0.012"}
        return "aggTrade", {**data, "f": number, "l": number, "T": ms, "m": True, "st": 1}

    def _markPrice(self) -> tuple[str, dict[str, Any]]:
        price, ms = f"{self._price():.8f}", self._time_ms
        data = {"e": "markPriceUpdate", "E": ms, "s": "BTCUSDT", "p": price, "ap": price, "P": price, "i": price}
        return "markPrice@1s", {**data, "r": "0.00010000", "T": ms + 28_800_000, "st": 1}

    def _kline(self) -> tuple[str, dict[str, Any]]:
        ms = self._time_ms
        price, open_ms = f"{self._price():.2f}", ms - ms % 60_000
        candle = {"t": open_ms, "T": open_ms + 59_999, "s": "BTCUSDT", "i": "1m", "f": 1, "L": 2, "x": False}
        prices = {"o": price, "c": price, "h": price, "l": price, "v": "10.5", "n": 2}
        rest = {"q": "630000.0", "V": "5.0", "Q": "300000.0", "B": "0"}
        return "kline_1m", {"e": "kline", "E": ms, "s": "BTCUSDT", "k": {**candle, **prices, **rest}}


def burst(messages: int, seed: int) -> tuple[bytes, bytes]:
    """The frames that wake the book, and those of the burst."""
    market = Market(seed)
    prelude = b"".join(frame(market.message(kind)) for kind in ("depth", "depth", "aggTrade"))
    kinds = random.Random(seed).choices(KINDS, SHARES, k=messages - 1)
    return prelude, b"".join([*(frame(market.message(kind)) for kind in kinds), frame(market.last())])


async def serve(pipe: Connection, messages: int, seed: int) -> None:
    """Answer handshake and subscription, send the prelude, then the burst when told to."""
    prelude, rest = burst(messages, seed)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(
            line.split(b":")[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + _ACCEPT).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        await reader.read(4096)
        writer.write(frame(b'{"result":null,"id":1}') + prelude)
        await asyncio.to_thread(pipe.recv)
        writer.write(rest)
        await writer.drain()
        await reader.read()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def server_process(pipe: Connection, messages: int, seed: int) -> None:
    """The other process."""
    asyncio.run(serve(pipe, messages, seed))


class Snapshots:
    """A REST client that knows one answer: the snapshot in which the first diff lies."""

    async def get(self, path: str, params: Any = (), *, answer: type[Any], weight: int) -> Any:  # noqa: ARG002
        levels = [[str(MIDDLE - 100.0 - step), "1"] for step in range(500)]
        asks = [[str(MIDDLE + 100.0 + step), "1"] for step in range(500)]
        body = {"lastUpdateId": FIRST_ID, "bids": levels, "asks": asks} if path.endswith("depth") else []
        return msgspec.json.decode(json.dumps(body).encode(), type=answer)


async def receive(pipe: Connection, port: int, kind: Literal["websockets", "picows"], messages: int) -> dict[str, Any]:
    """One burst through the feed."""
    rng = random.Random(1)
    feed = BinanceFeed(Snapshots(), make_transport(kind), f"ws://127.0.0.1:{port}", SystemClock(), rng, routed=False)
    wanted = Subscription(InstrumentId("BTCUSDT"), MINUTE_NS, trades=True, depth=True)
    trades = events = 0
    started = 0.0
    async with aclosing(feed.stream([wanted])) as stream:
        async for event in stream:
            events += 1
            if isinstance(event, Trade):
                trades += 1
                if trades == 1:  # the prelude is through
                    await asyncio.sleep(0.5)
                    gc.collect()
                    gc.freeze()
                    started = perf_counter()
                    pipe.send("go")
                elif event.qty == LAST_QTY:
                    break
    seconds = perf_counter() - started
    broken = {name: count for name, count in feed.counters.all().items() if name.startswith(("book", "refused"))}
    return {"messages_per_s": messages / seconds, "trades": trades, "events": events, "broken": broken}


def measure(kind: Literal["websockets", "picows"], messages: int, seed: int) -> dict[str, Any]:
    """One burst between two processes."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=server_process, args=(there, messages, seed))
    process.start()
    try:
        port = here.recv()
        return asyncio.run(receive(here, port, kind, messages))
    finally:
        process.terminate()
        process.join()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both transports and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--target", type=float, default=200_000.0, help="messages/s that picows must reach")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    figures: dict[str, Any] = {"messages": options.messages, "repeats": options.repeats}
    kinds = random.Random(options.seed).choices(KINDS, SHARES, k=options.messages - 1)
    expected = 2 + kinds.count("aggTrade")
    ok = True
    try:
        for kind in ("websockets", "picows"):
            runs = [measure(kind, options.messages, options.seed) for _ in range(options.repeats)]
            figures[f"{kind}_messages_per_s"] = round(median(run["messages_per_s"] for run in runs))
            ok = ok and all(run["trades"] == expected and not run["broken"] for run in runs)
    except TidegateError as error:
        print(f"messages: {error}", file=sys.stderr)
        return 2
    figures["nothing_lost"] = ok
    ok = ok and figures["picows_messages_per_s"] >= options.target
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:28} {value:,}" if not isinstance(value, bool) else f"{name:28} {value}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
