"""The execution venue over real sockets: what is sent, what each answer means, and what is reported."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import pytest

from tests.fakes.binance_stub import HANG, StubExchange, refusal
from tests.fakes.orders import MARKET_BUY
from tidegate.adapters.binance.clock import VenueClock
from tidegate.adapters.binance.limits import Governor
from tidegate.adapters.binance.rest import BinanceRest, open_session
from tidegate.adapters.binance.signing import HmacSigner
from tidegate.adapters.binance.user_stream import StreamTiming
from tidegate.adapters.binance.venue import BinanceVenue, VenueSettings
from tidegate.adapters.binance.ws_transport import make_transport
from tidegate.adapters.system.clock import SystemClock
from tidegate.domain.account import AccountMode, Balance, ContractSetting, FundingPaid, OpenOrder, Position, Transfer
from tidegate.domain.errors import (
    NotAuthorised,
    OrderNotSent,
    OrderOutcomeUnknown,
    OrderRefused,
    VenueError,
    VenueUnavailable,
)
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.messages import Alert, BookedUpTo, ExecutionReport, TakeSnapshot, VenueState, VenueStatus
from tidegate.domain.orders import (
    AmendOrder,
    ApprovedOrder,
    CancelOrder,
    FillCause,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderNotFound,
    OrderRejected,
    OrderTriggered,
    OrderType,
    PositionSide,
    Purpose,
    QueryOrder,
    RejectCause,
    Side,
    TimeInForce,
)
from tidegate.domain.secret import Secret

BTC = InstrumentId("BTCUSDT")
ID = ClientOrderId("p1-ab-1-7-0")
ORDER, ALGO = "/fapi/v1/order", "/fapi/v1/algoOrder"
CALM = VenueSettings(timing=StreamTiming(backoff_first_s=0.01, backoff_last_s=0.05))
T = TypeVar("T")

ENTRY = msgspec.structs.replace(MARKET_BUY, id=ID, qty=Decimal("0.010"))
LIMIT = msgspec.structs.replace(ENTRY, order_type=OrderType.LIMIT, limit=Decimal("64000.0"))
EXIT = msgspec.structs.replace(ENTRY, side=Side.SELL, reduce_only=True, purpose=Purpose.FLATTEN)
STOP = msgspec.structs.replace(
    EXIT, order_type=OrderType.STOP_MARKET, trigger=Decimal("60000.0"), purpose=Purpose.PROTECTION
)
PLACED = {"orderId": 11, "symbol": "BTCUSDT", "clientOrderId": ID, "status": "NEW", "updateTime": 1_763_800_000_123}
ROW = PLACED | {"side": "BUY", "type": "LIMIT", "origQty": "0.010", "executedQty": "0", "price": "64000.0"}
STOPPED = {"algoId": 77, "clientAlgoId": ID, "algoStatus": "NEW", "symbol": "BTCUSDT", "updateTime": 1_763_800_000_123}
TRADE = {"symbol": "BTCUSDT", "id": 5, "orderId": 11, "side": "BUY", "positionSide": "BOTH", "price": "63999.9"}
TRADE |= {"qty": "0.010", "commission": "0.32", "commissionAsset": "USDT", "maker": False, "time": 1_763_800_000_200}


@dataclass
class Rig:
    exchange: StubExchange
    venue: BinanceVenue
    rest: BinanceRest
    reports: AsyncIterator[ExecutionReport]
    notices: list[Alert] = field(default_factory=list)

    async def next(self, kind: type[T]) -> T:
        """The next report, which must be of this kind."""
        async with asyncio.timeout(20):
            report = await anext(self.reports)
        assert isinstance(report, kind), report
        return report

    async def quiet(self) -> None:
        """Nothing more is reported for a moment."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                pytest.fail(f"reported: {await anext(self.reports)}")
        self.reports = self.venue.reports()


def order_event(**fields: Any) -> dict[str, Any]:
    order = {"s": "BTCUSDT", "c": ID, "S": "BUY", "o": "LIMIT", "q": "0.010", "p": "0", "x": "NEW", "X": "NEW", "i": 11}
    order |= {"T": 1_763_800_000_100, "t": 0, "l": "0"}
    return {"e": "ORDER_TRADE_UPDATE", "E": 1, "T": 1, "o": order | fields}


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110  nobody tells when it is
            await asyncio.sleep(0.01)


@asynccontextmanager
async def trading(settings: VenueSettings = CALM, *, over_ws: bool = False, start: bool = True) -> AsyncIterator[Rig]:
    async with StubExchange().serving() as exchange, open_session() as session:
        clock = SystemClock()
        venue_clock = VenueClock(clock.monotonic_ns)
        signer = HmacSigner("key", Secret("secret"))
        rest = BinanceRest(exchange.url, session, venue_clock, Governor(venue_clock), signer, random.Random(1))
        notices: list[Alert] = []
        venue = BinanceVenue(
            rest,
            make_transport(),
            exchange.ws_url,
            clock,
            random.Random(1),
            (BTC,),
            settings=settings,
            ws_api=(f"{exchange.ws_url}/ws-fapi/v1", signer) if over_ws else None,
            rates={BTC: (0.0001, 64000.0)}.get,
            on_notice=notices.append,
        )
        await rest.resync()
        if start:
            await venue.start()
            await exchange.connections(1)
        try:
            yield Rig(exchange, venue, rest, venue.reports(), notices)
        finally:
            await venue.stop()


# ---- what is sent ----------------------------------------------------------------------------------------------------


async def test_a_market_order_on_the_wire() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ORDER] = 200, PLACED
        await rig.venue.submit(ENTRY)
        (sent,) = rig.exchange.asked("POST", ORDER)
        stamps = {name: sent.pop(name) for name in ("timestamp", "signature", "recvWindow")}
        assert stamps["recvWindow"] == "2000"
        assert sent == {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "MARKET",
            "quantity": "0.010",
            "newClientOrderId": ID,
            "newOrderRespType": "RESULT",
        }
        accepted = await rig.next(OrderAccepted)
        assert (accepted.id, accepted.venue_id, accepted.ts_ns) == (ID, 11, 1_763_800_000_123_000_000)


async def test_a_limit_order_and_a_reducing_one() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ORDER] = 200, PLACED
        await rig.venue.submit(msgspec.structs.replace(LIMIT, qty=Decimal("1E-7"), tif=TimeInForce.GTX))
        await rig.venue.submit(EXIT)
        limit, reducing = rig.exchange.asked("POST", ORDER)
        assert (limit["quantity"], limit["price"], limit["timeInForce"]) == ("0.0000001", "64000.0", "GTX")
        assert (limit["newOrderRespType"], "reduceOnly" in limit) == ("ACK", False)
        assert (reducing["reduceOnly"], reducing["recvWindow"], "timeInForce" in reducing) == ("true", "5000", False)


async def test_a_stop_goes_to_the_algo_service() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ALGO] = 200, STOPPED
        await rig.venue.submit(STOP)
        (sent,) = rig.exchange.asked("POST", ALGO)
        for name in ("timestamp", "signature", "recvWindow"):
            del sent[name]
        assert sent == {
            "algoType": "CONDITIONAL",
            "symbol": "BTCUSDT",
            "side": "SELL",
            "type": "STOP_MARKET",
            "reduceOnly": "true",
            "quantity": "0.010",
            "triggerPrice": "60000.0",
            "workingType": "CONTRACT_PRICE",
            "clientAlgoId": ID,
        }
        assert (await rig.next(OrderAccepted)).venue_id == 77


async def test_in_hedge_mode_the_position_side_reduces() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ALGO] = 200, STOPPED
        await rig.venue.submit(msgspec.structs.replace(STOP, position_side=PositionSide.LONG))
        (sent,) = rig.exchange.asked("POST", ALGO)
        assert (sent["positionSide"], "reduceOnly" in sent) == ("LONG", False)


# ---- what an answer means: reliability.md section 4 ------------------------------------------------------------------

UNKNOWN_503 = refusal(0, "Unknown error, please check your request or try again later.", 503)
OVERLOADED = refusal(-1008, "Request throttled by system-level protection.", 503)


@pytest.mark.parametrize(
    ("order", "answer"),
    [
        (ENTRY, UNKNOWN_503),
        (ENTRY, refusal(-1007, "Timeout", 408)),
        (ENTRY, refusal(-1006)),
        (ENTRY, refusal(-1000)),
        (ENTRY, (502, "<html>bad gateway</html>")),
        (ENTRY, (200, "<html>a proxy says hello</html>")),
        (ENTRY, (503, {"code": -1001, "msg": "Internal error; unable to process your request. Please try again."})),
        (ENTRY, (503, "Service Unavailable.")),
        (ENTRY, OVERLOADED),
        (ENTRY, refusal(-4116, "ClientOrderId is duplicated.")),
        (EXIT, refusal(-4116, "ClientOrderId is duplicated.")),
        (EXIT, UNKNOWN_503),
        (ENTRY, (200, {})),
        (ENTRY, (200, {"status": "NEW"})),
        (ENTRY, (200, ["odd"])),
    ],
)
async def test_what_is_not_clear_is_unknown(order: ApprovedOrder, answer: Any) -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ORDER] = answer
        before_ns = rig.rest.clock.now_ns()
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await rig.venue.submit(order)
        window_ns, slack_ns = (5000 if order.reduce_only else 2000) * 10**6, 300 * 10**6  # a clock error is below that
        assert before_ns - slack_ns <= caught.value.fence_ns - window_ns <= rig.rest.clock.now_ns() + slack_ns
        assert caught.value.client_order_id == ID
        assert len(rig.exchange.asked("POST", ORDER)) == 1, "never sent again"


async def test_a_hanging_venue_is_unknown_and_never_asked_twice() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ORDER] = HANG
        with pytest.raises(OrderOutcomeUnknown):
            await rig.venue.submit(ENTRY)
        assert len(rig.exchange.asked("POST", ORDER)) == 1


@pytest.mark.parametrize(
    ("order", "answer", "cause"),
    [
        (ENTRY, refusal(-2019, "Margin is insufficient."), RejectCause.MARGIN),
        (ENTRY, refusal(-4164, "too small"), RejectCause.RULES),
        (ENTRY, refusal(-1111, "precision"), RejectCause.RULES),
        (ENTRY, refusal(-1021, "outside of the recvWindow"), RejectCause.CLOCK),
        (ENTRY, refusal(-5028, "outside of the recvWindow"), RejectCause.CLOCK),
        (ENTRY, refusal(-1015, "Too many new orders.", 429), RejectCause.RATE),
        (EXIT, refusal(-2022, "ReduceOnly Order is rejected."), RejectCause.REDUCE_ONLY),
        (EXIT, OVERLOADED, RejectCause.OVERLOADED),
        (EXIT, (503, "Service Unavailable."), RejectCause.OVERLOADED),
        (STOP, refusal(-2021, "Order would immediately trigger."), RejectCause.WOULD_TRIGGER),
        (STOP, refusal(-4120, "use algo"), RejectCause.UNSUPPORTED),
        (ENTRY, refusal(-4061, "position side"), RejectCause.POSITION_MODE),
        (ENTRY, refusal(-4140, "Invalid symbol status"), RejectCause.NOT_TRADING),
    ],
)
async def test_a_clear_no_is_refused_with_its_cause(order: ApprovedOrder, answer: Any, cause: RejectCause) -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ALGO if order is STOP else ORDER] = answer
        with pytest.raises(OrderRefused) as caught:
            await rig.venue.submit(order)
        assert RejectCause(caught.value.cause) is cause


async def test_a_conditional_order_has_no_fence() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ALGO] = UNKNOWN_503
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await rig.venue.submit(STOP)
        assert caught.value.fence_ns == 0


async def test_an_expired_order_is_not_signed() -> None:
    async with trading() as rig:
        with pytest.raises(OrderNotSent, match="expired"):
            await rig.venue.submit(msgspec.structs.replace(ENTRY, expires_ns=rig.rest.clock.now_ns() - 1))
        assert rig.exchange.asked("POST", ORDER) == []


async def test_a_refused_key_is_not_authorised() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ORDER] = refusal(-2015, "Invalid API-key, IP, or permissions for action", 401)
        with pytest.raises(NotAuthorised):
            await rig.venue.submit(ENTRY)


async def test_a_clock_refusal_measures_the_clock_anew() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ORDER] = refusal(-1021)
        rig.rest.clock.begin_round()
        measured_before = rig.rest.clock._measured_ns
        with pytest.raises(OrderRefused):
            await rig.venue.submit(ENTRY)
        await until(lambda: rig.rest.clock._measured_ns != measured_before)


async def test_a_venue_that_is_gone_is_told_and_found_again() -> None:
    """Order entry refuses connections while the stream lives: NOT_SENT, DOWN, and UP when it answers."""
    async with trading() as rig:
        real, rig.rest._origin = rig.rest._origin, ("http", "127.0.0.1:9")
        with pytest.raises(OrderNotSent):
            await rig.venue.submit(ENTRY)
        down = await rig.next(VenueStatus)
        rig.rest._origin = real
        up = await rig.next(VenueStatus)
        assert (down.state, up.state) == (VenueState.DOWN, VenueState.UP)


async def test_a_ban_is_silence() -> None:
    async with trading() as rig:
        until_ms = rig.rest.clock.now_ms() + 1_500
        rig.exchange.answers["POST", ORDER] = refusal(-1003, f"Way too much; IP banned until {until_ms}.", 418)
        with pytest.raises(OrderNotSent):
            await rig.venue.submit(ENTRY)
        assert (await rig.next(VenueStatus)).state is VenueState.DOWN
        calls = len(rig.exchange.calls)
        with pytest.raises(OrderNotSent):
            await rig.venue.submit(ENTRY)
        assert len(rig.exchange.calls) == calls, "not a byte while banned"
        assert (await rig.next(VenueStatus)).state is VenueState.UP


# ---- cancel, amend, query --------------------------------------------------------------------------------------------


async def test_a_cancel_without_executions_is_final() -> None:
    async with trading() as rig:
        rig.exchange.answers["DELETE", ORDER] = 200, ROW | {"status": "CANCELED"}
        await rig.venue.cancel(CancelOrder(ID, BTC))
        assert rig.exchange.asked("DELETE", ORDER)[0]["origClientOrderId"] == ID
        await rig.next(OrderCanceled)


async def test_a_cancel_that_came_after_executions_leaves_the_end_to_the_stream() -> None:
    """V12: its fills are on their way, and come first."""
    async with trading() as rig:
        rig.exchange.answers["DELETE", ORDER] = 200, ROW | {"status": "CANCELED", "executedQty": "0.004"}
        await rig.venue.cancel(CancelOrder(ID, BTC))
        await rig.quiet()


async def test_a_cancel_of_an_unknown_order_asks_for_it() -> None:
    """-2011 is never the end: the order had filled."""
    async with trading() as rig:
        rig.exchange.answers["DELETE", ORDER] = refusal(-2011, "Unknown order sent.")
        rig.exchange.answers["GET", ORDER] = 200, ROW | {"status": "FILLED", "executedQty": "0.010"}
        rig.exchange.answers["GET", "/fapi/v1/userTrades"] = 200, [TRADE]
        await rig.venue.cancel(CancelOrder(ID, BTC))
        await rig.next(OrderAccepted)
        fill = await rig.next(OrderFilled)
        assert (fill.id, fill.trade_id, fill.qty, fill.fee) == (ID, 5, Decimal("0.010"), Decimal("0.32"))
        await rig.quiet()


async def test_a_stop_is_cancelled_in_its_own_book() -> None:
    async with trading() as rig:
        rig.exchange.answers["DELETE", ALGO] = 200, {"algoId": 77, "clientAlgoId": ID, "code": "200", "msg": "success"}
        await rig.venue.cancel(CancelOrder(ID, BTC, conditional=True))
        assert rig.exchange.asked("DELETE", ALGO)[0]["clientAlgoId"] == ID
        await rig.next(OrderCanceled)


async def test_a_cancel_whose_outcome_is_unknown() -> None:
    async with trading() as rig:
        rig.exchange.answers["DELETE", ORDER] = UNKNOWN_503
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await rig.venue.cancel(CancelOrder(ID, BTC))
        assert caught.value.fence_ns == 0


async def test_an_amendment_names_side_quantity_and_price() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ORDER] = 200, PLACED
        rig.exchange.answers["PUT", ORDER] = 200, ROW | {"origQty": "0.020"}
        await rig.venue.submit(LIMIT)
        await rig.next(OrderAccepted)
        await rig.venue.amend(AmendOrder(ID, BTC, Decimal("0.020"), None, None))
        (sent,) = rig.exchange.asked("PUT", ORDER)
        assert (sent["side"], sent["quantity"], sent["price"]) == ("BUY", "0.020", "64000.0")
        amended = await rig.next(OrderAmended)
        assert (amended.qty, amended.limit) == (Decimal("0.020"), Decimal("64000.0"))


async def test_an_amendment_of_an_order_from_before_a_restart_asks_for_its_side() -> None:
    async with trading() as rig:
        rig.exchange.answers["GET", ORDER] = 200, ROW | {"side": "SELL"}
        rig.exchange.answers["PUT", ORDER] = 200, ROW | {"side": "SELL"}
        await rig.venue.amend(AmendOrder(ID, BTC, Decimal("0.010"), Decimal("64000.0"), None))
        assert rig.exchange.asked("PUT", ORDER)[0]["side"] == "SELL"


async def test_nothing_to_amend_is_done() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ORDER] = 200, PLACED
        rig.exchange.answers["PUT", ORDER] = refusal(-5027)
        await rig.venue.submit(LIMIT)
        await rig.next(OrderAccepted)
        await rig.venue.amend(AmendOrder(ID, BTC, Decimal("0.010"), Decimal("64000.0"), None))
        assert (await rig.next(OrderAmended)).qty == Decimal("0.010")


async def test_a_stop_cannot_be_amended() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ALGO] = 200, STOPPED
        await rig.venue.submit(STOP)
        with pytest.raises(OrderRefused) as caught:
            await rig.venue.amend(AmendOrder(ID, BTC, Decimal("0.010"), None, Decimal(61000)))
        assert RejectCause[caught.value.cause] is RejectCause.UNSUPPORTED


async def test_a_query_that_finds_nothing_says_so() -> None:
    async with trading() as rig:
        await rig.venue.query(QueryOrder(ID, BTC))
        await rig.next(OrderNotFound)
        await rig.venue.query(QueryOrder(ID, BTC, conditional=True))
        await rig.next(OrderNotFound)
        assert [path for _, path, _ in rig.exchange.calls if path in (ORDER, ALGO)] == [ORDER, ALGO, ORDER]


@pytest.mark.parametrize(
    ("status", "kind"), [("CANCELED", OrderCanceled), ("EXPIRED", OrderExpired), ("REJECTED", OrderRejected)]
)
async def test_a_query_tells_executions_before_the_end(status: str, kind: type[ExecutionReport]) -> None:
    async with trading() as rig:
        rig.exchange.answers["GET", ORDER] = 200, ROW | {"status": status, "executedQty": "0.010"}
        rig.exchange.answers["GET", "/fapi/v1/userTrades"] = 200, [TRADE]
        await rig.venue.query(QueryOrder(ID, BTC))
        await rig.next(OrderAccepted)
        await rig.next(OrderFilled)
        await rig.next(kind)


async def test_the_end_waits_for_a_trade_list_that_lags() -> None:
    async with trading() as rig:
        rig.exchange.answers["GET", ORDER] = 200, ROW | {"status": "CANCELED", "executedQty": "0.010"}
        rig.exchange.answers["GET", "/fapi/v1/userTrades"] = [(200, []), (200, [TRADE])]
        await rig.venue.query(QueryOrder(ID, BTC))
        assert [type(await rig.next(object)) for _ in range(3)] == [OrderAccepted, OrderFilled, OrderCanceled]


async def test_the_end_is_not_told_while_executions_are_missing() -> None:
    async with trading() as rig:
        rig.exchange.answers["GET", ORDER] = 200, ROW | {"status": "CANCELED", "executedQty": "0.010"}
        with pytest.raises(VenueUnavailable, match="fewer executions"):
            await rig.venue.query(QueryOrder(ID, BTC))
        await rig.next(OrderAccepted)
        await rig.quiet()


async def test_a_triggered_stop_is_followed_to_its_child() -> None:
    async with trading() as rig:
        rig.exchange.answers["GET", ALGO] = 200, STOPPED | {"algoStatus": "FINISHED", "actualOrderId": "11"}
        rig.exchange.answers["GET", ORDER] = (
            200,
            ROW | {"clientOrderId": "theirs", "status": "FILLED", "executedQty": "0.010"},
        )
        rig.exchange.answers["GET", "/fapi/v1/userTrades"] = 200, [TRADE]
        await rig.venue.query(QueryOrder(ID, BTC, conditional=True))
        await rig.next(OrderTriggered)
        await rig.next(OrderTriggered)
        assert (await rig.next(OrderFilled)).id == ID


async def test_a_query_that_fails_changes_nothing() -> None:
    async with trading() as rig:
        rig.exchange.answers["GET", ORDER] = refusal(-9999, "odd")
        with pytest.raises(VenueError):
            await rig.venue.query(QueryOrder(ID, BTC))
        await rig.quiet()


# ---- batch, cancel all, countdown ------------------------------------------------------------------------------------


async def test_a_batch_is_told_per_order() -> None:
    """V14: one of five fails; a sixth order goes in a request of its own."""
    ids = [ClientOrderId(f"p1-ab-1-{number}-0") for number in range(6)]

    def answer(params: dict[str, str]) -> Any:
        listed = json.loads(params["batchOrders"])
        rows = [PLACED | {"clientOrderId": each["newClientOrderId"], "orderId": 20} for each in listed]
        if len(rows) == 5:
            rows[1] = {"code": -2019, "msg": "Margin is insufficient."}
            rows[2] = {"code": -1007, "msg": "Timeout"}
            rows.pop()
        return 200, rows

    async with trading() as rig:
        rig.exchange.answers["POST", "/fapi/v1/batchOrders"] = answer
        results = await rig.venue.submit_batch([msgspec.structs.replace(LIMIT, id=each) for each in ids])
        kinds = [type(each) for each in results]
        nothing = type(None)
        assert kinds == [nothing, OrderRefused, OrderOutcomeUnknown, nothing, OrderOutcomeUnknown, nothing]
        assert [(await rig.next(OrderAccepted)).id for _ in range(3)] == [ids[0], ids[3], ids[5]]
        unknown = results[2]
        assert isinstance(unknown, OrderOutcomeUnknown)
        assert (unknown.client_order_id, unknown.fence_ns > 0) == (ids[2], True)


async def test_a_batch_that_fails_whole_fails_for_each() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", "/fapi/v1/batchOrders"] = UNKNOWN_503
        both = [msgspec.structs.replace(LIMIT, id=ClientOrderId(f"p1-ab-1-{number}-0")) for number in range(2)]
        results = await rig.venue.submit_batch(both)
        assert [each.client_order_id for each in results if isinstance(each, OrderOutcomeUnknown)] == [
            each.id for each in both
        ]


async def test_cancel_all_reaches_both_books_and_the_countdown_every_contract() -> None:
    async with trading() as rig:
        done = 200, {"code": 200, "msg": "The operation of cancel all open order is done."}
        rig.exchange.answers["DELETE", "/fapi/v1/allOpenOrders"] = done
        rig.exchange.answers["DELETE", "/fapi/v1/algoOpenOrders"] = done
        rig.exchange.answers["POST", "/fapi/v1/countdownCancelAll"] = 200, {"symbol": "BTCUSDT", "countdownTime": "9"}
        await rig.venue.cancel_all(BTC)
        await rig.venue.keep_alive(120_000)
        acts = [(how, path) for how, path, _ in rig.exchange.calls if how != "GET" and "listenKey" not in path]
        assert acts == [
            ("DELETE", "/fapi/v1/allOpenOrders"),
            ("DELETE", "/fapi/v1/algoOpenOrders"),
            ("POST", "/fapi/v1/countdownCancelAll"),
        ]


# ---- the stream ------------------------------------------------------------------------------------------------------


async def test_a_fill_comes_from_the_stream_and_once() -> None:
    async with trading() as rig:
        rig.exchange.answers["POST", ORDER] = 200, PLACED | {"status": "FILLED", "executedQty": "0.010"}
        await rig.venue.submit(ENTRY)
        await rig.next(OrderAccepted)
        await rig.quiet()
        await rig.exchange.push(order_event(x="TRADE", X="FILLED", l="0.010", L="63999.9", t=5, n="0.32", N="USDT"))
        assert (await rig.next(OrderFilled)).trade_id == 5


async def test_an_acknowledged_order_without_an_event_makes_the_stream_anew() -> None:
    """D4, and so a reconciliation."""
    settings = replace(CALM, timing=replace(CALM.timing, acknowledged_s=0.05))
    async with trading(settings) as rig:
        rig.exchange.answers["POST", ORDER] = 200, PLACED
        await rig.venue.submit(ENTRY)
        await rig.next(OrderAccepted)
        assert [(await rig.next(VenueStatus)).state for _ in range(2)] == [VenueState.DOWN, VenueState.UP]


async def test_the_child_of_a_stop_is_told_under_the_stops_id_even_when_it_comes_first() -> None:
    """U09: parent id and child id differ, and the child's fill arrives before the word of the trigger."""
    async with trading() as rig:
        rig.exchange.answers["POST", ALGO] = 200, STOPPED
        await rig.venue.submit(STOP)
        await rig.next(OrderAccepted)
        rig.exchange.answers["GET", ALGO] = 200, STOPPED | {"algoStatus": "TRIGGERED", "actualOrderId": "900"}
        rig.exchange.answers["GET", ORDER] = 200, ROW | {"orderId": 900, "status": "NEW"}
        fill = {"x": "TRADE", "X": "FILLED", "l": "0.010", "L": "59990", "t": 6, "n": "0.3", "N": "USDT"}
        await rig.exchange.push(order_event(i=900, c="theirs", S="SELL", **fill))
        reports = [await rig.next(object) for _ in range(3)]
        assert [type(each) for each in reports] == [OrderTriggered, OrderTriggered, OrderFilled]
        assert {each.id for each in reports} == {ID}  # type: ignore[attr-defined]


async def test_an_order_by_hand_beside_a_stop_of_ours_stays_foreign() -> None:
    """U10."""
    async with trading() as rig:
        rig.exchange.answers["POST", ALGO] = 200, STOPPED
        rig.exchange.answers["GET", ALGO] = 200, STOPPED
        await rig.venue.submit(STOP)
        await rig.next(OrderAccepted)
        await rig.exchange.push(order_event(i=901, c="web_1", S="SELL", x="TRADE", X="FILLED", l="1", L="59990", t=7))
        await rig.next(OrderAccepted)  # what was asked about the stop
        assert (await rig.next(OrderFilled)).id == "web_1"


async def test_a_finished_stop_whose_child_is_silent_is_asked_for() -> None:
    async with trading() as rig:
        rig.exchange.answers["GET", ORDER] = 200, ROW | {"status": "CANCELED", "executedQty": "0"}
        order = {"caid": ID, "aid": 77, "s": "BTCUSDT", "S": "SELL", "X": "FINISHED", "ai": "11"}
        await rig.exchange.push({"e": "ALGO_UPDATE", "E": 1, "T": 1, "o": order})
        assert [type(await rig.next(object)) for _ in range(3)] == [OrderTriggered, OrderTriggered, OrderCanceled]


async def test_liquidation_and_deleveraging_are_fills_of_the_venue() -> None:
    """U07."""
    async with trading() as rig:
        fill = {"l": "0.010", "L": "59990", "n": "0.3", "N": "USDT", "S": "SELL"}
        await rig.exchange.push(order_event(c="autoclose-1", x="CALCULATED", X="FILLED", t=7, i=1, **fill))
        await rig.exchange.push(order_event(c="adl_autoclose", x="CALCULATED", X="NEW_ADL", t=8, i=2, **fill))
        causes = [(await rig.next(OrderFilled)).cause for _ in range(2)]
        assert causes == [FillCause.LIQUIDATION, FillCause.DELEVERAGING]


async def test_a_changed_wallet_is_read_from_the_income_list() -> None:
    """M1, M2: nothing is booked from the event, and a line that is there already is told once."""
    at_ms = 1_763_800_000_000
    line = {"symbol": "BTCUSDT", "incomeType": "FUNDING_FEE", "income": "-0.64", "asset": "USDT", "time": at_ms}
    line |= {"tranId": 42, "tradeId": ""}
    fee = line | {"incomeType": "COMMISSION", "tranId": 43}
    event = {"e": "ACCOUNT_UPDATE", "E": at_ms, "T": at_ms, "a": {"m": "FUNDING_FEE", "S": "BTCUSDT", "B": []}}
    async with trading() as rig:
        rig.exchange.answers["GET", "/fapi/v1/income"] = 200, [line, fee]
        await rig.exchange.push({**event, "a": {"m": "ORDER", "B": []}})
        await rig.exchange.push(event)
        paid = await rig.next(FundingPaid)
        assert (paid.amount, paid.line, paid.rate, paid.mark) == (
            Decimal("-0.64"),
            "FUNDING_FEE:42:",
            0.0001,
            64000.0,
        )
        assert not rig.venue._income._busy, "an execution changes the wallet too, and is waited for nowhere"
        await rig.exchange.push(event)
        await until(lambda: len(rig.exchange.asked("GET", "/fapi/v1/income")) == 2)
        await rig.quiet()


async def test_a_line_that_is_late_is_waited_for() -> None:
    at_ms = 1_763_800_000_000
    line = {"symbol": "", "incomeType": "TRANSFER", "income": "100", "asset": "USDT", "time": at_ms, "tranId": 44}
    async with trading() as rig:
        rig.exchange.answers["GET", "/fapi/v1/income"] = [(200, []), (200, [line])]
        await rig.exchange.push({"e": "ACCOUNT_UPDATE", "E": at_ms, "T": at_ms, "a": {"m": "DEPOSIT", "B": []}})
        assert (await rig.next(Transfer)).amount == 100


async def test_notices_for_a_person() -> None:
    async with trading() as rig:
        await rig.exchange.push({"e": "MARGIN_CALL", "E": 1, "cw": "3.1", "p": [{"s": "BTCUSDT", "pa": "1.3"}]})
        await rig.exchange.push({"e": "ACCOUNT_CONFIG_UPDATE", "E": 1, "T": 1, "ac": {"s": "BTCUSDT", "l": 25}})
        await rig.exchange.push({"e": "ACCOUNT_CONFIG_UPDATE", "E": 1, "T": 1, "ai": {"j": True}})
        rejected = {"s": "BTCUSDT", "i": 155, "r": "the reason"}
        await rig.exchange.push({"e": "CONDITIONAL_ORDER_TRIGGER_REJECT", "E": 1, "T": 1, "or": rejected})
        await rig.exchange.push(order_event())
        await rig.next(OrderAccepted)
        assert [each.subject for each in rig.notices] == ["margin call", "settings", "settings", "trigger"]
        assert "BTCUSDT was set to 25" in rig.notices[1].text


async def test_up_is_told_when_the_last_part_is_back() -> None:
    async with trading() as rig:
        reach = rig.venue._reach
        reach.lost("stream", "cut")
        reach.lost("rest", "silent")
        reach.back("stream", "again")
        await rig.next(VenueStatus)
        await rig.quiet()
        reach.back("rest", "again")
        assert (await rig.next(VenueStatus)).state is VenueState.UP


# ---- the snapshot ----------------------------------------------------------------------------------------------------


def request(trade_id: int = -1, income_since_ns: int = 0) -> TakeSnapshot:
    return TakeSnapshot("audit-1", (BookedUpTo(BTC, trade_id),), income_since_ns, "test")


async def test_the_snapshot_reads_in_its_order() -> None:
    async with trading() as rig:
        rig.exchange.answers["GET", "/fapi/v1/openOrders"] = 200, [ROW]
        rig.exchange.answers["GET", "/fapi/v1/openAlgoOrders"] = (
            200,
            [
                STOPPED
                | {"side": "SELL", "orderType": "STOP_MARKET", "quantity": "0.010", "triggerPrice": "60000.0"}
                | {"reduceOnly": True, "price": "0"}
            ],
        )
        held = {"symbol": "BTCUSDT", "positionSide": "BOTH", "positionAmt": "-0.010", "entryPrice": "64000.0"}
        rig.exchange.answers["GET", "/fapi/v3/positionRisk"] = 200, [held]
        rig.exchange.answers["GET", "/fapi/v1/userTrades"] = 200, [TRADE]
        before_ns = rig.rest.clock.now_ns()
        found = await rig.venue.snapshot(request(4, 1_763_700_000_000_000_000))
        asked = [path for _, path, _ in rig.exchange.calls if "listenKey" not in path and "ticker" not in path]
        assert asked == [
            "/fapi/v1/openOrders",
            "/fapi/v1/openAlgoOrders",
            "/fapi/v3/positionRisk",
            "/fapi/v3/balance",
            "/fapi/v1/symbolConfig",
            "/fapi/v1/accountConfig",
            "/fapi/v1/userTrades",
            "/fapi/v1/income",
        ]
        assert (found.name, found.ts_ns >= before_ns) == ("audit-1", True)
        assert found.balances == (Balance("USDT", Decimal("10000.00")),)
        assert found.positions == (Position(BTC, Decimal("-0.010"), Decimal("64000.0")),)
        assert (found.settings, found.mode) == ((ContractSetting(BTC, 5, False),), AccountMode())
        none = None
        ten = Decimal("0.010")
        assert found.open_orders == (
            OpenOrder(ID, 11, BTC, Side.BUY, ten, Decimal(0), OrderType.LIMIT, Decimal("64000.0"), none, False),
            OpenOrder(ID, 77, BTC, Side.SELL, ten, Decimal(0), OrderType.STOP_MARKET, none, Decimal("60000.0"), True),
        )
        assert [(fill.id, fill.trade_id) for fill in found.fills] == [(ID, 5)]
        assert rig.exchange.asked("GET", "/fapi/v1/userTrades")[0]["fromId"] == "5"


async def test_executions_are_paged_by_id() -> None:
    def page(params: dict[str, str]) -> Any:
        first = int(params["fromId"])
        return 200, [TRADE | {"id": number} for number in range(first, min(first + 1000, 2500))]

    async with trading() as rig:
        rig.exchange.answers["GET", "/fapi/v1/userTrades"] = page
        rig.exchange.answers["GET", ORDER] = 200, ROW
        found = await rig.venue.snapshot(request(0))
        assert [fill.trade_id for fill in found.fills] == list(range(1, 2500))
        assert len(rig.exchange.asked("GET", ORDER)) == 1, "the order of all of them was asked for once"


async def test_executions_of_an_unbooked_instrument_are_read_by_time() -> None:
    async with trading() as rig:
        rig.exchange.answers["GET", "/fapi/v1/userTrades"] = lambda params: (200, [TRADE] * ("startTime" in params))
        rig.exchange.answers["GET", ORDER] = 200, ROW
        since_ns = (rig.rest.clock.now_ms() - 3_600_000) * 10**6
        found = await rig.venue.snapshot(request(-1, since_ns))
        assert [fill.trade_id for fill in found.fills] == [5]
        assert (await rig.venue.snapshot(request(-1, 0))).fills == ()


async def test_an_execution_of_a_forgotten_order_has_the_venues_name_and_a_child_its_parents() -> None:
    def order(params: dict[str, str]) -> Any:
        if params["orderId"] == "900":
            return 200, ROW | {"orderId": 900, "clientOrderId": "theirs"}
        return refusal(-2013, "Order does not exist.")

    async with trading() as rig:
        trades = [TRADE | {"id": 6, "orderId": 899}, TRADE | {"id": 7, "orderId": 900}]
        rig.exchange.answers["GET", "/fapi/v1/userTrades"] = 200, trades
        rig.exchange.answers["GET", ORDER] = order
        stop = STOPPED | {"algoStatus": "FINISHED", "actualOrderId": "900"}
        rig.exchange.answers["GET", "/fapi/v1/allAlgoOrders"] = 200, [stop]
        found = await rig.venue.snapshot(request(5))
        assert [fill.id for fill in found.fills] == ["venue-899", ID]


async def test_income_is_paged_without_doubles() -> None:
    lines = [
        {"symbol": "", "incomeType": "TRANSFER", "income": "1", "asset": "USDT", "time": 1_000 + n // 700, "tranId": n}
        for n in range(1_500)
    ]

    def page(params: dict[str, str]) -> Any:
        return 200, [each for each in lines if each["time"] >= int(params["startTime"])][:1000]  # type: ignore[operator]

    async with trading() as rig:
        rig.exchange.answers["GET", "/fapi/v1/income"] = page
        found = await rig.venue.snapshot(request(-1, 1_000 * 10**6))
        assert [line.line for line in found.income] == [f"TRANSFER:{n}:" for n in range(1_500)]


async def test_a_failed_snapshot_says_so() -> None:
    async with trading() as rig:
        rig.exchange.answers["GET", "/fapi/v3/positionRisk"] = refusal(-1121, "Invalid symbol.")
        with pytest.raises(VenueError):
            await rig.venue.snapshot(request())


async def test_an_execution_that_the_stream_never_brought_makes_it_anew() -> None:
    async with trading() as rig:
        rig.venue._stream_since_ns -= 60 * 10**9
        settled_ms = rig.rest.clock.now_ms() - 10_000
        rig.exchange.answers["GET", "/fapi/v1/userTrades"] = 200, [TRADE | {"time": settled_ms}]
        rig.exchange.answers["GET", ORDER] = 200, ROW
        assert len((await rig.venue.snapshot(request(4))).fills) == 1
        down = await rig.next(VenueStatus)
        assert (down.state, "execution 5" in down.detail) == (VenueState.DOWN, True)
        assert (await rig.next(VenueStatus)).state is VenueState.UP


async def test_a_fee_in_bnb_is_priced() -> None:
    async with trading() as rig:
        await until(lambda: rig.venue._prices.of("BNB") is not None)
        fill = {"x": "TRADE", "X": "FILLED", "l": "0.010", "L": "63999.9", "t": 5, "n": "0.0005", "N": "BNB"}
        await rig.exchange.push(order_event(**fill))
        assert (await rig.next(OrderFilled)).fee_price == Decimal("600.5")


# ---- contracts -------------------------------------------------------------------------------------------------------

FILTERS = [
    {"filterType": "PRICE_FILTER", "minPrice": "556.80", "maxPrice": "4529764", "tickSize": "0.10"},
    {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "120", "stepSize": "0.001"},
    {"filterType": "MIN_NOTIONAL", "notional": "50"},
    {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": "4"},
]


async def test_the_contracts_have_our_fees_and_brackets() -> None:
    async with trading() as rig:
        symbol = {"symbol": "BTCUSDT", "contractType": "PERPETUAL", "status": "TRADING", "baseAsset": "BTC"}
        symbol |= {"quoteAsset": "USDT", "marginAsset": "USDT", "filters": FILTERS, "liquidationFee": "0.012500"}
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
        rig.exchange.answers["GET", "/fapi/v1/exchangeInfo"] = 200, {"symbols": [symbol], "rateLimits": [weight]}
        bracket = {"bracket": 1, "initialLeverage": 125, "notionalCap": 50000, "notionalFloor": 0}
        bracket |= {"maintMarginRatio": 0.004, "cum": 0.0}
        rig.exchange.answers["GET", "/fapi/v1/leverageBracket"] = 200, [{"symbol": "BTCUSDT", "brackets": [bracket]}]
        fees = {"symbol": "BTCUSDT", "makerCommissionRate": "0.0001", "takerCommissionRate": "0.0003"}
        rig.exchange.answers["GET", "/fapi/v1/commissionRate"] = 200, fees
        (btc,) = await rig.venue.instruments()
        assert (btc.id, btc.tick, btc.taker_fee, btc.maker_fee) == (
            BTC,
            Decimal("0.10"),
            Decimal("0.0003"),
            Decimal("0.0001"),
        )
        assert len(btc.brackets) == 1
        assert rig.rest.governor.usage()["weight"][1] == 6000


# ---- the WebSocket API -----------------------------------------------------------------------------------------------


async def test_orders_over_the_websocket_api() -> None:
    """Behind the same port: place, cancel, amend and a stop; everything else stays on REST."""
    answers = {
        "order.place": {"status": 200, "result": PLACED},
        "order.modify": {"status": 200, "result": ROW},
        "order.cancel": {"status": 200, "result": ROW | {"status": "CANCELED"}},
        "algoOrder.place": {"status": 200, "result": STOPPED},
        "algoOrder.cancel": {"status": 200, "result": {"code": "200", "msg": "success"}},
    }
    async with trading(over_ws=True) as rig:
        rig.exchange.ws_api = lambda asked: answers[asked["method"]]
        await rig.venue.submit(LIMIT)
        await rig.venue.amend(AmendOrder(ID, BTC, Decimal("0.010"), Decimal("64000.0"), None))
        await rig.venue.cancel(CancelOrder(ID, BTC))
        await rig.venue.submit(STOP)
        await rig.venue.cancel(CancelOrder(ID, BTC, conditional=True))
        asked = [(method, params) for how, method, params in rig.exchange.calls if how == "WS"]
        assert [method for method, _ in asked] == [
            "order.place",
            "order.modify",
            "order.cancel",
            "algoOrder.place",
            "algoOrder.cancel",
        ]
        assert all({"apiKey", "signature", "timestamp"} <= set(params) for _, params in asked)
        assert not any(path in (ORDER, ALGO) for _, path, _ in rig.exchange.calls)
        kinds = [type(await rig.next(object)) for _ in range(5)]
        assert kinds == [OrderAccepted, OrderAmended, OrderCanceled, OrderAccepted, OrderCanceled]


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        ({"status": 400, "error": {"code": -2019, "msg": "Margin is insufficient."}}, OrderRefused),
        ({"status": 503, "error": {"code": -1000, "msg": "Unknown error"}}, OrderOutcomeUnknown),
        ({"status": 400, "error": {"code": -9999, "msg": "new"}}, OrderRefused),
        ({"status": 503, "error": {"code": -9999, "msg": "new"}}, OrderOutcomeUnknown),
        ({"status": 200, "result": {}}, OrderOutcomeUnknown),
        ({"status": 401, "error": {"code": -2015, "msg": "no"}}, NotAuthorised),
        (None, OrderOutcomeUnknown),
    ],
)
async def test_failures_over_the_websocket_api_are_the_same(answer: Any, raised: type[VenueError]) -> None:
    async with trading(over_ws=True) as rig:
        rig.exchange.ws_api = lambda _: answer
        with pytest.raises(raised) as caught:
            await rig.venue.submit(ENTRY)
        if isinstance(caught.value, OrderOutcomeUnknown):
            assert caught.value.fence_ns > rig.rest.clock.now_ns() - 10 * 10**9


# ---- secrets ---------------------------------------------------------------------------------------------------------


async def test_no_key_and_no_signature_in_what_is_raised() -> None:
    async with trading() as rig:
        texts = []
        for answer in (UNKNOWN_503, refusal(-2019), (200, "<html>"), refusal(-2015, "no", 401)):
            rig.exchange.answers["POST", ORDER] = answer
            with pytest.raises(VenueError) as caught:
                await rig.venue.submit(ENTRY)
            texts.append(f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}")
        signatures = [params["signature"] for params in rig.exchange.asked("POST", ORDER)]
        assert signatures
        assert not any(signature in text or "stub-listen-key" in text for text in texts for signature in signatures)
