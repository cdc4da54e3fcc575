"""The latency benchmark: its stopwatch stops at the right bytes, and the daemon that it times really trades."""

import msgspec
import pytest

from benchmarks.latency import measure, percentile, summary
from benchmarks.latency_stamps import Stopwatch
from benchmarks.latency_venue import candle
from tidegate.adapters.binance.market_schemas import Envelope, Kline, decoder
from tidegate.adapters.binance.market_translate import kline_bar
from tidegate.domain.market import MINUTE_NS

OPEN_MS = 1_800_000_000_000 // 60_000 * 60_000
ORDER = b"POST /fapi/v1/order?symbol=BTCUSDT"


def test_a_bar_of_the_venue_is_one_of_the_wire() -> None:
    event: Kline = decoder(Envelope[Kline]).decode(candle(OPEN_MS)).data
    bar = kline_bar(event, 1)
    assert bar.ts_ns == OPEN_MS * 1_000_000 + MINUTE_NS
    assert bar.close == 60_000.0
    assert msgspec.json.decode(candle(OPEN_MS))["stream"] == "btcusdt@kline_1m"


def test_the_stopwatch_runs_from_a_bar_to_the_next_order_only() -> None:
    watch = Stopwatch()
    watch.left(ORDER)
    watch.arrived(b'{"e":"ORDER_TRADE_UPDATE"}')
    watch.left(ORDER)
    assert watch.trips_ns == []
    watch.arrived(candle(OPEN_MS).encode())
    watch.left(b"GET /fapi/v1/time HTTP/1.1")
    assert watch.trips_ns == []
    watch.left(ORDER)
    watch.left(ORDER)
    assert len(watch.trips_ns) == len(watch.cpu_ns) == 1
    assert watch.stages_ns == {}


def test_the_stages_of_a_trip_add_up_to_it_and_each_counts_once() -> None:
    watch = Stopwatch()
    for _ in range(2):
        watch.arrived(candle(OPEN_MS).encode())
        for stage in ("decode", "kernel", "decode"):
            watch.mark(stage)
        watch.left(ORDER)
    assert list(watch.stages_ns) == ["receive", "decode", "kernel"]
    for trip in range(2):
        assert sum(each[trip] for each in watch.stages_ns.values()) == watch.trips_ns[trip]
    watch.clear()
    assert watch.trips_ns == []
    assert watch.stages_ns == {}


def test_percentiles_and_medians() -> None:
    values = [1_000 * value for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [51.0, 100.0, 100.0]
    assert percentile([], 0.5) == 0.0
    names = ("p50_us", "p99_us", "cpu_p50_us", "cpu_p99_us", "venue_p50_us", "venue_p99_us", "max_us")
    runs = [{"orders": 2, "missed": 0, **dict.fromkeys(names, value)} for value in (1.0, 9.0, 4.0)]
    assert summary(runs) == {"orders": 6, "missed": 0, **dict.fromkeys(names, 4.0), "max_us": 9.0}


@pytest.mark.parametrize(("transport", "loop"), [("websockets", "asyncio"), ("picows", "uvloop")])
def test_the_whole_daemon_answers_every_bar_with_one_order(transport: str, loop: str) -> None:
    found = measure(transport, loop, fsync=True, bars=6, pause_s=0.001, stages=True, warm_up=2)
    assert (found["orders"], found["missed"]) == (6, 0)
    assert 0 < found["p50_us"] <= found["max_us"]
    assert list(found["stages_p50_us"]) == [
        "receive",
        "decode",
        "queues",
        "kernel",
        "journal",
        "dispatch",
        "weight, signature",
        "request",
    ]
