"""What a simulated day costs: ``python -m benchmarks.virtual_loop --days 1 --json``.

Two runs on the virtual loop, both with ``aiohttp`` and ``websockets`` unmodified at both ends of in-memory wires:
``ticks`` is a stream of one message a second, ``bars`` one message a minute; keep-alive pings every 20 seconds, one
HTTP request an hour. The digests must agree with those of a second run of the same seed; the exit code is 1 when they
do not.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

import aiohttp
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tidegate.app.simulation import VirtualLoop, run

DAY_S, HOUR_S = 86_400, 3_600
HTTP_PORT, STREAM_PORT = 8080, 8081


def scene(every_s: float, days: float) -> Callable[[VirtualLoop], Coroutine[Any, Any, int]]:
    """A venue that sends a message every ``every_s`` seconds and a client that hears it for ``days``."""

    async def send_ticks(connection: ServerConnection) -> None:
        try:
            while True:
                await connection.send('{"e":"aggTrade","s":"BTCUSDT","p":"65000.10","q":"0.010"}')
                await asyncio.sleep(every_s)
        except ConnectionClosed:
            return

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"serverTime": 0})

    async def listen() -> int:
        messages, wanted = 0, int(days * DAY_S / every_s)
        address = f"ws://127.0.0.1:{STREAM_PORT}"
        async with aiohttp.ClientSession() as session, connect(address, ping_interval=20) as stream:
            async for _ in stream:
                messages += 1
                if messages * every_s % HOUR_S == 0:
                    async with session.get(f"http://127.0.0.1:{HTTP_PORT}/time") as response:
                        await response.json()
                if messages == wanted:
                    break
        return messages

    async def main(loop: VirtualLoop) -> int:
        app = web.Application()
        app.router.add_get("/time", answer)
        runner = web.AppRunner(app)
        with loop.node("venue"):
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", HTTP_PORT).start()
            await serve(send_ticks, "127.0.0.1", STREAM_PORT, ping_interval=20)
        return await loop.spawn("client", listen())

    return main


def measure(every_s: float, days: float, seed: int) -> dict[str, object]:
    """One scene, run twice."""
    started = perf_counter()
    outcome = run(scene(every_s, days), seed)
    seconds = perf_counter() - started
    again = run(scene(every_s, days), seed)
    return {
        "virtual_days": round(outcome.virtual_s / DAY_S, 3),
        "seconds": round(seconds, 2),
        "messages": outcome.result,
        "wire_chunks": outcome.chunks,
        "messages_per_s": round(outcome.result / seconds),
        "chunks_per_s": round(outcome.chunks / seconds),
        "times_real_time": round(outcome.virtual_s / seconds),
        "digest": outcome.digest,
        "same_digest": again.digest == outcome.digest,
    }


def main() -> int:
    """Measure, print, and say by the exit code whether the runs replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=1.0, help="virtual days per run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    scenes = (("ticks", 1.0), ("bars", 60.0))
    figures = {name: measure(every_s, options.days, options.seed) for name, every_s in scenes}
    if options.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name}: {figure}")
    return 0 if all(figure["same_digest"] for figure in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
