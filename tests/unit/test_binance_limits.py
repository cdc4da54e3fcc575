"""The governor's laws: no window ever holds more than its limit, and no lane waits behind a lower one."""

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.adapters.binance.clock import VenueClock
from tidegate.adapters.binance.errors import Banned, NotSent
from tidegate.adapters.binance.limits import Governor, Lane, PoolName, RateLimit

T = TypeVar("T")

S = 1_000_000_000
START_MS = 1_700_000_040_000  # the begin of a minute
LIMITS = [
    RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 100),
    RateLimit("ORDERS", "SECOND", 10, 10),
    RateLimit("ORDERS", "MINUTE", 1, 30),
    RateLimit("RAW_REQUESTS", "MINUTE", 5, 1),
]


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still while anything is ready, and then jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        live = [each for each in scheduled if not each.cancelled()]
        if not self._ready:  # type: ignore[attr-defined]
            assert live, "deadlock: nothing is ready and no timer is set"
            self.now_s = max(self.now_s, heapq.nsmallest(1, live)[0].when())
        super()._run_once()  # type: ignore[misc]


def run(main: Callable[[Governor, VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    loop = VirtualLoop()
    try:
        clock = VenueClock(lambda: round(loop.now_s * S))
        clock.sample(0, 0, START_MS)
        governor = Governor(clock)
        governor.configure(LIMITS)
        return loop.run_until_complete(main(governor, loop))
    finally:
        loop.close()


@dataclass
class Request:
    delay_ms: int
    lane: Lane
    weight: int
    orders: int
    arrived_s: float = 0.0
    granted_s: float | None = None
    rank: int = 0

    def pools(self) -> set[str]:
        return {name for name, amount in (("weight", self.weight), ("orders", self.orders)) if amount}


REQUESTS = st.lists(
    st.builds(
        Request,
        delay_ms=st.sampled_from([0, 0, 0, 1, 700, 9_999, 10_001, 30_000]),
        lane=st.sampled_from(Lane),
        weight=st.sampled_from([0, 1, 5, 20, 40, 80]),
        orders=st.sampled_from([0, 0, 1, 5]),
    ),
    min_size=1,
    max_size=40,
)


async def play(governor: Governor, loop: VirtualLoop, requests: list[Request]) -> list[Request]:
    granted: list[Request] = []

    async def one(request: Request) -> None:
        request.arrived_s = loop.now_s
        await governor.take(request.weight, request.lane, orders_10s=request.orders, orders_1m=request.orders)
        request.granted_s = loop.now_s
        granted.append(request)

    tasks = []
    for request in requests:
        await asyncio.sleep(request.delay_ms / 1000)
        tasks.append(asyncio.create_task(one(request)))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return granted


def most(granted: list[Request], window_s: float, amount: Callable[[Request], int]) -> int:
    """The largest sum of ``amount`` in any window, wherever it begins."""
    at = [(request.granted_s or 0.0, amount(request)) for request in granted]
    return max(sum(much for when, much in at if start <= when < start + window_s) for start, _ in at)


@settings(max_examples=150, deadline=None)
@given(REQUESTS)
def test_no_window_of_any_alignment_holds_more_than_its_limit(requests: list[Request]) -> None:
    granted = run(lambda governor, loop: play(governor, loop, requests))
    assert len(granted) == len(requests), "everything is served in the end"
    for chosen, share in ((granted, 1.0), ([each for each in granted if not each.lane.reserved], 0.8)):
        if chosen:
            assert most(chosen, 60, lambda each: each.weight) <= 100 * share
            assert most(chosen, 10, lambda each: each.orders) <= 10 * share
            assert most(chosen, 60, lambda each: each.orders) <= 30 * share


@settings(max_examples=150, deadline=None)
@given(REQUESTS)
def test_a_higher_lane_never_waits_behind_a_lower_one_and_a_lane_is_a_queue(requests: list[Request]) -> None:
    granted = run(lambda governor, loop: play(governor, loop, requests))
    order = {id(each): rank for rank, each in enumerate(granted)}
    arrival = {id(each): rank for rank, each in enumerate(requests)}
    for first in requests:
        for second in requests:
            waited_together = first.arrived_s < (second.granted_s or 0.0)
            before = first.lane < second.lane or (
                first.lane == second.lane and arrival[id(first)] < arrival[id(second)]
            )
            if before and waited_together and first.pools() & second.pools():
                assert order[id(first)] < order[id(second)]


def test_the_reserve_is_kept_for_protection_and_cancels() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        await governor.take(80, Lane.HISTORY)
        waiting = asyncio.create_task(governor.take(1, Lane.ENTER))
        await governor.take(10, Lane.CANCEL)
        await governor.take(10, Lane.PROTECT)
        assert loop.now_s == 0
        assert not waiting.done()
        await waiting
        assert loop.now_s >= 60
        assert governor.usage()["weight"][0] <= 100

    run(main)


@pytest.mark.parametrize("name", ["X-MBX-USED-WEIGHT-1M", "x-mbx-used-weight-1m"])
def test_what_others_use_is_read_from_the_header(name: str) -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        await governor.take(10, Lane.HISTORY)
        await asyncio.sleep(30)
        governor.observe({name: "70"}, 30 * S, 30 * S)
        assert governor.usage()["weight"] == (70, 100)
        governor.observe({name: "-1"}, 30 * S, 30 * S)
        governor.observe({name: "many", "X-MBX-USED-WEIGHT-5M": "99", "X-MBX-OTHER": "1"}, 30 * S, 30 * S)
        assert governor.usage()["weight"] == (70, 100)
        await governor.take(10, Lane.HISTORY)
        await governor.take(1, Lane.HISTORY)
        assert loop.now_s == pytest.approx(60, abs=0.01), "others are forgotten when the venue's minute ends"

    run(main)


def test_a_figure_across_the_turn_of_the_minute_says_nothing() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        await asyncio.sleep(60.1)
        governor.observe({"X-MBX-USED-WEIGHT-1M": "99"}, 59 * S, 60 * S + S // 10)
        assert governor.usage()["weight"] == (0, 100)

    run(main)


def test_order_counts_of_the_account_are_read_too() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        governor.observe({"x-mbx-order-count-10s": "9", "X-MBX-ORDER-COUNT-1M": "9"}, 0, 0)
        await governor.take(0, Lane.PROTECT, orders_10s=1, orders_1m=1)
        assert loop.now_s == 0
        await governor.take(0, Lane.PROTECT, orders_10s=1, orders_1m=1)
        assert loop.now_s == pytest.approx(10, abs=0.01)

    run(main)


def test_after_429_only_the_reserve_goes_on_until_the_minute_ends() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        await asyncio.sleep(15)
        governor.limited(-1003)
        entering = asyncio.create_task(governor.take(0, Lane.ENTER, orders_10s=1, orders_1m=1))
        funding = asyncio.create_task(governor.take(1, Lane.HISTORY, pool=PoolName.FUNDING))
        for _ in range(20):
            await governor.take(1, Lane.CANCEL)
        await governor.take(0, Lane.PROTECT, orders_10s=1, orders_1m=1)
        assert loop.now_s == 15
        assert not entering.done()
        assert not funding.done()
        await governor.take(1, Lane.CANCEL)
        assert loop.now_s == pytest.approx(60, abs=0.01), "the reserve has an end as well"
        await asyncio.gather(entering, funding)
        assert loop.now_s == pytest.approx(60, abs=0.01)

    run(main)


def test_retry_after_is_obeyed_and_order_rates_pause_orders_only() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        governor.limited(-1015, retry_after_s=7)
        await governor.take(1, Lane.HISTORY)
        assert loop.now_s == 0
        await governor.take(0, Lane.ENTER, orders_10s=1, orders_1m=1)
        assert loop.now_s == pytest.approx(7, abs=0.01)

    run(main)


def test_a_ban_is_silence_for_everyone_and_wakes_those_who_wait() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        await governor.take(100, Lane.CANCEL)
        waiting = asyncio.create_task(governor.take(1, Lane.PROTECT))
        await asyncio.sleep(1)
        governor.ban(START_MS + 500_000)
        with pytest.raises(Banned):
            await waiting
        with pytest.raises(Banned) as caught:
            await governor.take(1, Lane.PROTECT)
        assert caught.value.until_ns == (START_MS + 500_000) * 1_000_000
        assert governor.banned_until_ns == caught.value.until_ns
        assert caught.value.retry_after_s == pytest.approx(499)
        governor.ban(None)
        await asyncio.sleep(498.9)
        with pytest.raises(Banned):
            governor.check()
        await asyncio.sleep(0.2)
        governor.check()
        await governor.take(1, Lane.HISTORY)

    run(main)


def test_a_ban_without_an_end_lasts_two_minutes_and_the_firewalls_five() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        governor.ban(None)
        assert governor.banned_until_ns == (START_MS + 120_000) * 1_000_000
        governor.firewall()
        assert governor.banned_until_ns == (START_MS + 300_000) * 1_000_000

    run(main)


def test_what_could_never_fit_is_refused_at_once_also_when_the_limits_shrink() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        with pytest.raises(NotSent, match="81"):
            await governor.take(81, Lane.HISTORY)
        await governor.take(80, Lane.HISTORY)
        waiting = asyncio.create_task(governor.take(60, Lane.HISTORY))
        await asyncio.sleep(1)
        governor.configure([RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 50)])
        with pytest.raises(NotSent):
            await waiting

    run(main)


def test_one_who_stops_waiting_lets_the_next_one_through() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        await governor.take(90, Lane.CANCEL)
        large = asyncio.create_task(governor.take(20, Lane.CANCEL))
        small = asyncio.create_task(governor.take(5, Lane.CANCEL))
        await asyncio.sleep(1)
        assert not small.done()
        large.cancel()
        await small
        assert loop.now_s == 1
        with pytest.raises(asyncio.CancelledError):
            await large

    run(main)


def test_funding_and_data_have_pools_of_their_own() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        for _ in range(400):
            await governor.take(1, Lane.HISTORY, pool=PoolName.FUNDING)
        for _ in range(800):
            await governor.take(1, Lane.HISTORY, pool=PoolName.DATA)
        assert loop.now_s == 0
        assert governor.usage()["weight"] == (0, 100)
        await governor.take(1, Lane.HISTORY, pool=PoolName.FUNDING)
        assert loop.now_s >= 300

    run(main)


def test_the_limits_are_read_as_the_venue_writes_them() -> None:
    text = (
        b'[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000},'
        b'{"rateLimitType":"ORDERS","interval":"SECOND","intervalNum":10,"limit":300, "new": 1}]'
    )

    async def main(governor: Governor, loop: VirtualLoop) -> None:
        governor.configure(msgspec.json.decode(text, type=list[RateLimit]))
        assert governor.usage()["weight"] == (0, 6000)
        assert governor.usage()["orders_10s"] == (0, 300)
        assert governor.usage()["orders_1m"] == (0, 30)

    run(main)


def test_an_interval_that_changes_keeps_what_was_used() -> None:
    async def main(governor: Governor, loop: VirtualLoop) -> None:
        await governor.take(0, Lane.PROTECT, orders_10s=9)
        governor.configure([RateLimit("ORDERS", "SECOND", 20, 10)])
        assert governor.usage()["orders_10s"] == (9, 10)
        await governor.take(0, Lane.PROTECT, orders_10s=2)
        assert loop.now_s >= 20

    run(main)
