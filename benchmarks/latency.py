"""How long a closed bar takes to become an order, over loopback: ``python -m benchmarks.latency --json``.

The whole daemon of ``tidegate run --mode testnet`` trades one contract with a venue in another process: bar in over a
WebSocket; decode, feed, inbox, kernel with a strategy that flips on every bar, sizing, risk, order id, journal,
dispatch, weight, signature; order out over HTTP. Timed from the moment the event loop hands the bar's bytes to the
WebSocket library until the moment the order's bytes are handed to the transport of the HTTP client. The venue's
stopwatch (from before it sends a bar to its order in the handler) shows what that leaves out: both ways over loopback.

Each combination of transport, loop and fsync runs ``--repeats`` times, in turns; the figures are medians over the runs.
``--stages`` adds a run that notes where the time goes, which costs a little itself.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.latency_stamps import Stopwatch, timed_loop
from benchmarks.latency_venue import venue_process
from tidegate import EMA, BaseStrategy, Signal, View
from tidegate.adapters.binance import rest
from tidegate.adapters.binance.feed_queue import FeedQueue
from tidegate.adapters.binance.market_routes import Router
from tidegate.adapters.binance.venue import BinanceVenue
from tidegate.adapters.files.journal import FileJournal
from tidegate.app.bootstrap_live import World, live_parts
from tidegate.app.config import Settings
from tidegate.app.daemon import calm_collector
from tidegate.app.dispatch import Dispatcher
from tidegate.app.live import Rhythm, run_live
from tidegate.domain.errors import TidegateError
from tidegate.domain.market import MINUTE_NS
from tidegate.kernel.kernel import Kernel

STAGES: tuple[tuple[str, Any, str], ...] = (
    ("decode", Router, "message"),
    ("queues", FeedQueue, "put"),
    ("kernel", Kernel, "handle"),
    ("journal", FileJournal, "append"),
    ("dispatch", Dispatcher, "dispatch"),
    ("weight, signature", BinanceVenue, "submit"),
    ("request", rest, "transfer"),
)
"""What each stage begins with; "receive" comes before them, and the last one ends with the write."""


LONG, SHORT = Signal(1.0), Signal(-1.0)


class Flip(BaseStrategy):
    """All in, one way or the other, changing its mind on every bar. An average is folded along."""

    def setup(self) -> None:
        self.mean = self.feature(EMA(1))

    def decide(self, view: View) -> Signal | None:
        return LONG if view.ts_ns // MINUTE_NS % 2 else SHORT


def configuration(port: int, state: Path, transport: str, *, fsync: bool) -> Settings:
    """One contract, one-minute bars, a fixed size, no stops: one order a bar."""
    return Settings.model_validate(
        {
            "mode": "testnet",
            "account": "bench",
            "symbols": ["BTCUSDT"],
            "timeframe": "1m",
            "strategies": [{"class": "benchmarks.latency:Flip"}],
            "sizing": {"method": "fixed_qty", "fixed_qty": "0.01"},
            "protection": "none",
            "risk": {"max_orders_per_minute": 100_000},
            "journal": {"fsync": fsync},
            "venue": {"rest": f"http://127.0.0.1:{port}", "transport": transport},
            "state": {"dir": str(state)},
        }
    )


@contextlib.contextmanager
def staged(watch: Stopwatch) -> Iterator[None]:
    """Have every stage say when it begins."""

    def marked(stage: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            watch.mark(stage)
            return inner(*args, **kwargs)

        return call

    originals = [(owner, name, getattr(owner, name)) for _, owner, name in STAGES]
    for (stage, owner, name), (_, _, inner) in zip(STAGES, originals, strict=True):
        setattr(owner, name, marked(stage, inner))
    try:
        yield
    finally:
        for owner, name, inner in originals:
            setattr(owner, name, inner)


async def trade(settings: Settings, watch: Stopwatch, pipe: Connection, rounds: Sequence[tuple[int, float]]) -> Any:
    """Run the daemon for some rounds of bars, each ``(bars, pause_s)``; the venue's word on the last one."""
    world = World(environment={}, lock=lambda _: contextlib.nullcontext())
    async with live_parts(settings, "testnet", world) as parts:
        calm_collector()
        daemon = asyncio.create_task(run_live(parts, control=False, rhythm=Rhythm(quotes=False, marks=False)))
        try:
            while parts.kernel.state.value != "READY":
                await asyncio.wait([daemon], timeout=0.1)
                if daemon.done():
                    raise TidegateError(f"the daemon ended: {daemon.result()}")
            await asyncio.sleep(1.0)  # the streams are subscribed by then
            found = None
            for wish in rounds:
                watch.clear()
                pipe.send(wish)
                while not pipe.poll():
                    await asyncio.wait([daemon], timeout=0.2)
                    if daemon.done():
                        raise TidegateError(f"the daemon ended: {daemon.result()}")
                found = pipe.recv()
            return found
        finally:
            daemon.cancel()
            await asyncio.wait([daemon])


def measure(
    transport: str,
    loop: str,
    *,
    fsync: bool,
    bars: int,
    pause_s: float,
    folder: Path | None = None,
    stages: bool = False,
    warm_up: int = 200,
) -> dict[str, Any]:
    """One run of ``bars`` after ``warm_up`` ones: percentiles in microseconds."""
    watch = Stopwatch()
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=venue_process, args=(there,))
    process.start()
    there.close()  # so that the end of the venue is heard here
    try:
        with (
            tempfile.TemporaryDirectory(dir=folder) as state,
            staged(watch) if stages else contextlib.nullcontext(),
            asyncio.Runner(loop_factory=lambda: timed_loop(loop, watch)) as runner,
        ):
            settings = configuration(here.recv(), Path(state), transport, fsync=fsync)
            rounds = ((warm_up, pause_s), (bars, pause_s))
            missed, trips_ns = runner.run(trade(settings, watch, here, rounds))
    finally:
        process.terminate()
        process.join()
    figures: dict[str, Any] = {"orders": len(watch.trips_ns), "missed": missed}
    figures |= {name: percentile(watch.trips_ns, share) for name, share in _PERCENTILES}
    figures |= {f"cpu_{name}": percentile(watch.cpu_ns, share) for name, share in _PERCENTILES}
    figures |= {f"venue_{name}": percentile(trips_ns, share) for name, share in _PERCENTILES}
    figures["stages_p50_us"] = {name: percentile(each, 0.5) for name, each in watch.stages_ns.items()}
    return figures


_PERCENTILES = (("p50_us", 0.5), ("p99_us", 0.99), ("max_us", 1.0))


def percentile(values_ns: Sequence[int], share: float) -> float:
    """The value that this share of the others does not exceed, in microseconds; 0 of nothing."""
    ordered = sorted(values_ns)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1_000, 1) if ordered else 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every combination and print. Exit code 1 when a bar led to no order."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bars", type=int, default=2_000, help="bars a run, after 200 to warm up")
    parser.add_argument("--pause-ms", type=float, default=5.0, help="between an order's fill and the next bar")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--transport", choices=("websockets", "picows"), action="append")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), action="append")
    parser.add_argument("--fsync", choices=("off", "on"), action="append")
    parser.add_argument("--folder", type=Path, default=None, help="where the journal is written")
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    asked = [
        (transport, loop, fsync)
        for transport in options.transport or ("websockets", "picows")
        for loop in options.loop or ("uvloop", "asyncio")
        for fsync in options.fsync or ("off", "on")
    ]
    common = {"bars": options.bars, "pause_s": options.pause_ms / 1_000, "folder": options.folder}
    runs: dict[str, list[dict[str, Any]]] = {}
    try:
        for transport, loop, fsync in asked * options.repeats:
            found = measure(transport, loop, fsync=fsync == "on", **common)
            runs.setdefault(f"{transport}, {loop}, fsync {fsync}", []).append(found)
        figures: dict[str, Any] = {name: summary(each) for name, each in runs.items()}
        if options.stages:
            for transport, loop, fsync in asked:
                staged_run = measure(transport, loop, fsync=fsync == "on", stages=True, **common)
                figures[f"{transport}, {loop}, fsync {fsync}"]["stages_p50_us"] = staged_run["stages_p50_us"]
    except TidegateError as error:
        print(f"latency: {error}", file=sys.stderr)
        return 2
    show(figures, as_json=options.json)
    return 1 if any(each["missed"] for each in figures.values()) else 0


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the runs; the worst of the maxima."""
    figures: dict[str, Any] = {name: sum(run[name] for run in runs) for name in ("orders", "missed")}
    for name in ("p50_us", "p99_us", "cpu_p50_us", "cpu_p99_us", "venue_p50_us", "venue_p99_us"):
        figures[name] = round(median(run[name] for run in runs), 1)
    figures["max_us"] = max(run["max_us"] for run in runs)
    return figures


def show(figures: dict[str, Any], *, as_json: bool) -> None:
    """As one line of JSON, or as a table."""
    if as_json:
        print(json.dumps(figures))
        return
    for name, each in figures.items():
        print(
            f"{name:32} p50 {each['p50_us']:7.1f} us   p99 {each['p99_us']:7.1f}   max {each['max_us']:8.1f}   ", end=""
        )
        print(f"cpu p50 {each['cpu_p50_us']:7.1f}   p99 {each['cpu_p99_us']:7.1f}   ", end="")
        print(f"venue's p50 {each['venue_p50_us']:7.1f}   orders {each['orders']:,}   missed {each['missed']}")
        for stage, p50_us in each.get("stages_p50_us", {}).items():
            print(f"    {stage:20} {p50_us:7.1f}")


if __name__ == "__main__":
    sys.exit(main())
