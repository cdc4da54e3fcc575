"""The user stream: its key, its losses, and how it is proved alive. Everything over real sockets on loopback."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.binance_stub import HANG, LISTEN_KEY, StubExchange, refusal
from tidegate.adapters.binance.clock import VenueClock
from tidegate.adapters.binance.limits import Governor
from tidegate.adapters.binance.rest import BinanceRest, open_session
from tidegate.adapters.binance.signing import HmacSigner
from tidegate.adapters.binance.user_events import OrderTradeUpdate, UserEvent
from tidegate.adapters.binance.user_stream import StreamTiming, UserStream
from tidegate.adapters.binance.ws_transport import make_transport
from tidegate.adapters.system.clock import SystemClock
from tidegate.domain.errors import NotAuthorised
from tidegate.domain.messages import VenueState
from tidegate.domain.secret import Secret

CALM = StreamTiming(backoff_first_s=0.01, backoff_last_s=0.05)
"""As in production, but for the pause between two attempts."""


class Heard:
    """What the stream told."""

    def __init__(self) -> None:
        self.events: list[UserEvent] = []
        self.states: list[tuple[VenueState, str]] = []
        self.odd: list[str] = []
        self.failures: list[BaseException] = []
        self._news = asyncio.Event()

    def event(self, event: UserEvent, recv_ns: int) -> None:
        assert recv_ns > 0
        self.events.append(event)
        self._news.set()

    def state(self, state: VenueState, detail: str) -> None:
        self.states.append((state, detail))
        self._news.set()

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self._news.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not reached():
                self._news.clear()
                await self._news.wait()

    @property
    def ids(self) -> list[str | None]:
        return [event.order.client_id for event in self.events if isinstance(event, OrderTradeUpdate)]


def order_event(client_id: str) -> dict[str, Any]:
    return {"e": "ORDER_TRADE_UPDATE", "E": 1, "T": 1, "o": {"s": "BTCUSDT", "c": client_id, "x": "NEW", "i": 1}}


def build(exchange: StubExchange, session: Any, heard: Heard, timing: StreamTiming, routed: bool = True) -> UserStream:
    clock = SystemClock()
    venue_clock = VenueClock(clock.monotonic_ns)
    rest = BinanceRest(
        exchange.url, session, venue_clock, Governor(venue_clock), HmacSigner("key", Secret("secret")), random.Random(1)
    )
    return UserStream(
        rest,
        make_transport(),
        exchange.ws_url,
        clock,
        random.Random(1),
        on_event=heard.event,
        on_state=heard.state,
        count=heard.odd.append,
        fail=heard.fail,
        routed=routed,
        timing=timing,
    )


@asynccontextmanager
async def streaming(timing: StreamTiming = CALM, *, routed: bool = True) -> AsyncIterator[tuple[Any, Any, Heard]]:
    heard = Heard()
    async with StubExchange().serving() as exchange, open_session() as session:
        stream = build(exchange, session, heard, timing, routed)
        await stream.start()
        try:
            yield exchange, stream, heard
        finally:
            await stream.stop()
    assert heard.failures == []


async def test_events_come_through_on_the_routed_path() -> None:
    async with streaming() as (exchange, stream, heard):
        await exchange.connections(1)
        await exchange.push(order_event("a"))
        await exchange.push(order_event("b"))
        await heard.until(lambda: len(heard.events) == 2)
        assert heard.ids == ["a", "b"]
        assert heard.states == []
        assert stream.connected
        assert exchange.urls[0].startswith(f"/private/ws?listenKey={LISTEN_KEY}&events=ORDER_TRADE_UPDATE/")


async def test_the_legacy_path_by_configuration() -> None:
    async with streaming(routed=False) as (exchange, _, _):
        await exchange.connections(1)
        assert exchange.urls == [f"/ws/{LISTEN_KEY}"]


async def test_a_lost_connection_is_told_and_made_anew() -> None:
    async with streaming() as (exchange, _, heard):
        await exchange.connections(1)
        await exchange.sockets[0].close()
        await exchange.connections(2)
        await heard.until(lambda: len(heard.states) == 2)
        assert [state for state, _ in heard.states] == [VenueState.DOWN, VenueState.UP]
        await exchange.push(order_event("after"))
        await heard.until(lambda: bool(heard.events))
        assert heard.ids == ["after"]


async def test_the_first_connection_is_waited_for() -> None:
    """A venue that is away at the start is no crash: DOWN, and UP when it is there."""
    heard = Heard()
    async with StubExchange().serving() as exchange, open_session() as session:
        exchange.answers["POST", "/fapi/v1/listenKey"] = [(503, "<html>away</html>")] * 2 + [
            (200, {"listenKey": LISTEN_KEY})
        ]
        stream = build(exchange, session, heard, CALM)
        await stream.start()
        assert [state for state, _ in heard.states] == [VenueState.DOWN, VenueState.UP]
        await stream.stop()


async def test_a_refused_key_ends_the_start() -> None:
    heard = Heard()
    async with StubExchange().serving() as exchange, open_session() as session:
        exchange.answers["POST", "/fapi/v1/listenKey"] = refusal(-2015, "Invalid API-key, IP, or permissions", 401)
        stream = build(exchange, session, heard, CALM)
        with pytest.raises(NotAuthorised):
            await stream.start()
        assert [state for state, _ in heard.states] == [VenueState.REFUSED]
        assert len(exchange.asked("POST", "/fapi/v1/listenKey")) == 1, "never tried again in a loop"
        await stream.stop()


async def test_an_expired_key_makes_the_stream_anew() -> None:
    """U01."""
    async with streaming() as (exchange, _, heard):
        await exchange.connections(1)
        await exchange.push({"e": "listenKeyExpired", "E": "1763800000000", "listenKey": LISTEN_KEY})
        await exchange.connections(2)
        assert "expired" in heard.states[0][1]
        assert len(exchange.asked("POST", "/fapi/v1/listenKey")) == 2


async def test_a_key_that_is_gone_at_its_renewal_makes_the_stream_anew() -> None:
    """U03."""
    async with streaming(replace(CALM, keep_alive_s=0.02, keep_alive_retry_s=60.0)) as (exchange, _, heard):
        exchange.answers["PUT", "/fapi/v1/listenKey"] = refusal(-1125, "This listenKey does not exist.")
        await exchange.connections(2)
        assert heard.states[0] == (VenueState.DOWN, "the listen key is gone")


async def test_a_renewal_that_fails_is_tried_again_soon() -> None:
    timing = replace(CALM, keep_alive_s=0.02, keep_alive_retry_s=0.02)
    async with streaming(timing) as (exchange, stream, heard):
        exchange.answers["PUT", "/fapi/v1/listenKey"] = [(503, "away"), (200, {}), (200, {"listenKey": "another"})]
        await exchange.connections(2)
        assert heard.odd == ["keep-alive failed"]
        assert heard.states[0][1] == "the listen key has changed"
        assert stream is not None


async def test_an_acknowledgement_without_its_event_makes_the_stream_anew() -> None:
    """D4, U02: a silent expiry leaves the socket open."""
    async with streaming(replace(CALM, acknowledged_s=0.05)) as (exchange, stream, heard):
        await exchange.connections(1)
        stream.expect("p1-x", SystemClock().monotonic_ns())
        await exchange.connections(2)
        assert "no event of p1-x" in heard.states[0][1]


async def test_an_event_settles_the_expectation_before_and_after() -> None:
    async with streaming(replace(CALM, acknowledged_s=1.0)) as (exchange, stream, heard):
        await exchange.connections(1)
        asked_ns = SystemClock().monotonic_ns()
        await exchange.push(order_event("early"))  # U05: before the answer
        await heard.until(lambda: heard.ids == ["early"])
        stream.expect("early", asked_ns)
        stream.expect("late", asked_ns)
        await exchange.push(order_event("late"))
        await heard.until(lambda: heard.ids == ["early", "late"])
        await asyncio.sleep(1.2)
        assert heard.states == []
        assert len(exchange.sockets) == 1


async def test_an_event_from_before_the_request_settles_nothing() -> None:
    """The acceptance of an order says nothing about its cancel."""
    async with streaming(replace(CALM, acknowledged_s=0.05)) as (exchange, stream, heard):
        await exchange.connections(1)
        await exchange.push(order_event("x"))
        await heard.until(lambda: heard.ids == ["x"])
        stream.expect("x", SystemClock().monotonic_ns())
        await exchange.connections(2)


async def test_a_connection_that_stopped_answering_is_replaced() -> None:
    """N03: half open. Its silence counts only because it has answered before."""
    async with streaming(replace(CALM, probe_s=0.05, probe_answer_s=0.8)) as (exchange, _, heard):
        await exchange.connections(1)
        await asyncio.sleep(0.3)
        assert heard.states == []
        exchange.answers_probes = False
        await exchange.connections(2)
        assert heard.states[0] == (VenueState.DOWN, "the user stream does not answer")


async def test_a_venue_that_never_answers_probes_is_left_alone() -> None:
    heard = Heard()
    async with StubExchange().serving() as exchange, open_session() as session:
        exchange.answers_probes = False
        stream = build(exchange, session, heard, replace(CALM, probe_s=0.02, probe_answer_s=0.02))
        await stream.start()
        await asyncio.sleep(0.3)
        assert (heard.states, len(exchange.sockets)) == ([], 1)
        await stream.stop()


async def test_the_planned_change_overlaps_and_loses_nothing() -> None:
    async with streaming(replace(CALM, rotate_s=0.3, overlap_s=0.2)) as (exchange, _, heard):
        for number in range(12):
            await exchange.connections(1)
            await exchange.push(order_event(f"n{number}"))
            await asyncio.sleep(0.1)
        await heard.until(lambda: f"n{11}" in heard.ids)
        assert len(exchange.sockets) >= 3
        assert heard.states == [], "nobody had to read the account anew"
        assert list(dict.fromkeys(heard.ids)) == [f"n{number}" for number in range(12)], "doubles only"
        assert exchange.sockets[0].closed


async def test_a_planned_change_that_fails_keeps_the_old_connection() -> None:
    async with streaming(replace(CALM, rotate_s=0.05, keep_alive_retry_s=0.05)) as (exchange, _, heard):
        exchange.answers["POST", "/fapi/v1/listenKey"] = (503, "away")
        await asyncio.sleep(0.3)
        await exchange.push(order_event("still"))
        await heard.until(lambda: heard.ids == ["still"])
        assert heard.states == []
        assert "rotation failed: Unknown" in heard.odd


@pytest.mark.parametrize("garbage", ["nonsense", "[1,2]", '{"e":"ORDER_TRADE_UPDATE","o":{"q":"much"}}'])
async def test_garbage_replaces_the_connection(garbage: str) -> None:
    """N07: an event is never half applied, and what followed it is read from the account."""
    async with streaming() as (exchange, _, heard):
        await exchange.connections(1)
        await exchange.sockets[0].send_str(garbage)
        await exchange.connections(2)
        assert heard.events == []
        assert heard.states[0][0] is VenueState.DOWN


async def test_unknown_events_are_tolerated_and_counted() -> None:
    """B10."""
    async with streaming() as (exchange, _, heard):
        await exchange.connections(1)
        await exchange.push({"e": "NEWS", "E": 1})
        await exchange.push(order_event("after"))
        await heard.until(lambda: heard.ids == ["after"])
        assert (heard.odd, heard.states) == (["event NEWS"], [])


async def test_the_key_is_in_no_message() -> None:
    async with streaming() as (exchange, _, heard):
        await exchange.connections(1)
        exchange.answers["POST", "/fapi/v1/listenKey"] = HANG
        await exchange.sockets[0].close()
        await heard.until(lambda: bool(heard.states))
        assert LISTEN_KEY not in repr(heard.states)
