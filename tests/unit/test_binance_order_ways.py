"""Orders have two ways out. What certainly did not leave takes the other one in the same call; nothing leaves twice."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from tests.fakes.binance_stub import refusal
from tests.unit.test_binance_venue import (
    ALGO,
    BTC,
    CALM,
    ENTRY,
    EXIT,
    ID,
    LIMIT,
    ORDER,
    PLACED,
    ROW,
    STOP,
    STOPPED,
    Rig,
    trading,
)
from tidegate.adapters.binance import ws_api
from tidegate.domain.errors import OrderNotSent, OrderOutcomeUnknown
from tidegate.domain.orders import CancelOrder

COUNTDOWN, ALL = "/fapi/v1/countdownCancelAll", "/fapi/v1/allOpenOrders"

Act = Callable[[Rig], Awaitable[None]]
ACTS: dict[str, tuple[Act, tuple[str, str]]] = {
    "an entry": (lambda rig: rig.venue.submit(ENTRY), ("POST", ORDER)),
    "a limit order": (lambda rig: rig.venue.submit(LIMIT), ("POST", ORDER)),
    "an exit": (lambda rig: rig.venue.submit(EXIT), ("POST", ORDER)),
    "a stop": (lambda rig: rig.venue.submit(STOP), ("POST", ALGO)),
    "a cancel": (lambda rig: rig.venue.cancel(CancelOrder(ID, BTC)), ("DELETE", ORDER)),
    "the cancel of a stop": (lambda rig: rig.venue.cancel(CancelOrder(ID, BTC, conditional=True)), ("DELETE", ALGO)),
}
TAKING_RISK = ("an entry", "a limit order")


async def bad_gateway() -> web.Response | None:
    return web.Response(status=502, text="<html>502 Bad Gateway</html>")


async def mute() -> web.Response | None:
    await asyncio.sleep(30)
    return None


HANDSHAKES = {"502": bad_gateway, "mute": mute}


def prepared(rig: Rig) -> None:
    """REST answers everything."""
    rig.exchange.answers["POST", ORDER] = 200, PLACED
    rig.exchange.answers["POST", ALGO] = 200, STOPPED
    rig.exchange.answers["DELETE", ORDER] = 200, ROW | {"status": "CANCELED"}
    rig.exchange.answers["DELETE", ALGO] = 200, {"code": "200", "msg": "success"}


def over_ws(rig: Rig) -> list[str]:
    return [where for how, where, _ in rig.exchange.calls if how == "WS"]


ANSWERS: dict[str, dict[str, Any]] = {
    "order.place": {"status": 200, "result": PLACED},
    "order.cancel": {"status": 200, "result": ROW | {"status": "CANCELED"}},
    "algoOrder.place": {"status": 200, "result": STOPPED},
    "algoOrder.cancel": {"status": 200, "result": {"code": "200", "msg": "success"}},
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("handshake", HANDSHAKES)
async def test_what_cannot_leave_over_the_websocket_leaves_over_rest_in_the_same_call(handshake: str, act: str) -> None:
    async with trading(over_ws=True) as rig:
        prepared(rig)
        rig.exchange.ws_handshake = HANDSHAKES[handshake]
        do, asked = ACTS[act]
        began_s = time.monotonic()
        await do(rig)
        assert time.monotonic() - began_s < 1.9  # an entry's window has not passed
        assert (len(rig.exchange.asked(*asked)), over_ws(rig)) == (1, [])
        began_s = time.monotonic()
        await do(rig)
        assert time.monotonic() - began_s < 0.5  # known to be down: nobody waits for it again
        assert len(rig.exchange.asked(*asked)) == 2
        (notice,) = [each for each in rig.notices if each.subject == "order entry"]
        assert "orders go over REST" in notice.text


async def test_a_log_on_that_is_refused_is_no_way_either() -> None:
    async with trading(over_ws=True) as rig:
        prepared(rig)
        entry = rig.venue._sender._ws_api
        assert entry is not None

        async def refused(_: Any) -> None:
            raise ws_api.NotSent("log-on: refused (-2015): no")

        entry._log_on = refused  # type: ignore[method-assign]
        entry._signer = object.__new__(ws_api.Ed25519Signer)
        await rig.venue.submit(STOP)
        assert (len(rig.exchange.asked("POST", ALGO)), over_ws(rig)) == (1, [])


async def test_when_it_is_there_again_orders_go_over_the_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_api, "_REOPEN_S", (0.05,))
    async with trading(over_ws=True) as rig:
        prepared(rig)
        rig.exchange.ws_api = lambda asked: ANSWERS[asked["method"]]
        taken, rig.exchange.ws_handshake = rig.exchange.ws_handshake, bad_gateway
        await rig.venue.submit(STOP)
        rig.exchange.ws_handshake = taken
        async with asyncio.timeout(10):
            while len([each for each in rig.notices if each.subject == "order entry"]) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await rig.venue.submit(STOP)
        assert (len(rig.exchange.asked("POST", ALGO)), over_ws(rig)) == (1, ["algoOrder.place"])


@pytest.mark.parametrize("act", ACTS)
async def test_what_may_have_left_is_never_sent_again(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_api, "_ANSWER_S", 0.2)
    async with trading(over_ws=True) as rig:
        prepared(rig)
        do, asked = ACTS[act]
        with pytest.raises(OrderOutcomeUnknown):
            await do(rig)
        assert (len(over_ws(rig)), len(rig.exchange.asked(*asked))) == (1, 0)
        await rig.venue.submit(STOP)  # a mute connection is not asked again
        assert len(over_ws(rig)) == 1


@pytest.mark.parametrize("act", ACTS)
async def test_with_rest_out_of_reach_what_takes_risk_off_leaves_over_the_websocket(act: str) -> None:
    settings = type(CALM)(timing=CALM.timing, ws_api_first=False)
    async with trading(settings, over_ws=True) as rig:
        rig.exchange.ws_api = lambda asked: ANSWERS[asked["method"]]
        origin, rig.rest._origin = rig.rest._origin, ("http", "127.0.0.1:9")
        do, asked = ACTS[act]
        if act in TAKING_RISK:
            with pytest.raises(OrderNotSent):
                await do(rig)
        else:
            await do(rig)
        rig.rest._origin = origin
        assert len(over_ws(rig)) == (0 if act in TAKING_RISK else 1)
        assert rig.exchange.asked(*asked) == []


async def test_with_both_ways_closed_nothing_was_sent() -> None:
    async with trading(over_ws=True) as rig:
        rig.exchange.ws_handshake = bad_gateway
        origin, rig.rest._origin = rig.rest._origin, ("http", "127.0.0.1:9")
        with pytest.raises(OrderNotSent):
            await rig.venue.submit(STOP)
        rig.rest._origin = origin


async def test_what_the_websocket_does_not_take_goes_over_rest() -> None:
    async with trading(over_ws=True) as rig:
        rig.exchange.answers["POST", COUNTDOWN] = 200, {"symbol": "BTCUSDT", "countdownTime": "30000"}
        rig.exchange.answers["DELETE", ALL] = 200, {"code": 200, "msg": "done"}
        rig.exchange.answers["DELETE", "/fapi/v1/algoOpenOrders"] = 200, {"code": "200", "msg": "done"}
        await rig.venue.keep_alive(30_000)
        await rig.venue.cancel_all(BTC)
        assert len(rig.exchange.asked("POST", COUNTDOWN)) == 1
        assert len(rig.exchange.asked("DELETE", ALL)) == 1
        assert over_ws(rig) == []


async def test_a_refusal_is_an_answer_and_no_reason_to_try_the_other_way() -> None:
    async with trading(over_ws=True) as rig:
        rig.exchange.ws_api = lambda _: {"status": 400, "error": {"code": -2019, "msg": "Margin is insufficient."}}
        rig.exchange.answers["POST", ORDER] = refusal(-1)
        with pytest.raises(Exception, match="-2019"):
            await rig.venue.submit(ENTRY)
        assert rig.exchange.asked("POST", ORDER) == []
