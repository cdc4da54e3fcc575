"""Order entry at the local exchange: every filter and rule in the venue's codes, and what becomes of good orders."""

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.fakes.local_account import LocalBench
from tidegate.adapters.localnet.filters import Json

V1 = "/fapi/v1/"
LIMIT = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.010",
    "price": "49000",
}
ALGO = {
    "algoType": "CONDITIONAL",
    "symbol": "BTCUSDT",
    "side": "SELL",
    "type": "STOP_MARKET",
    "quantity": "0.010",
    "triggerPrice": "45000",
}
GONE = object()


def changed(params: dict[str, str], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**params, **changes}.items() if value is not GONE}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": "NOPEUSDT"}, -1121),
        ({"symbol": GONE}, -1102),
        ({"side": "HOLD"}, -1117),
        ({"side": GONE}, -1102),
        ({"type": "ICEBERG"}, -1116),
        ({"type": "STOP_MARKET", "stopPrice": "1"}, -4120),
        ({"type": "TRAILING_STOP_MARKET"}, -4120),
        ({"timeInForce": GONE}, -1102),
        ({"timeInForce": "DAY"}, -1115),
        ({"type": "MARKET", "price": GONE}, -1106),
        ({"type": "MARKET", "timeInForce": GONE}, -1106),
        ({"quantity": GONE}, -1102),
        ({"quantity": ""}, -1102),
        ({"quantity": "1E-2"}, -1100),
        ({"quantity": "abc"}, -1100),
        ({"quantity": "0"}, -4003),
        ({"quantity": "-1"}, -4003),
        ({"quantity": "0.0001"}, -1111),
        ({"quantity": "1001"}, -4005),
        ({"quantity": "250", "type": "MARKET", "timeInForce": GONE, "price": GONE}, -4005),
        ({"price": GONE}, -1102),
        ({"price": "0"}, -4001),
        ({"price": "49000.05"}, -1111),
        ({"price": "10000001"}, -4002),
        ({"price": "52500.1"}, -4016),
        ({"side": "SELL", "price": "47499.9"}, -4024),
        ({"quantity": "0.001"}, -4164),
        ({"quantity": "200"}, -2027),
        ({"quantity": "4.9"}, -2019),
        ({"newClientOrderId": "has space"}, -4015),
        ({"newClientOrderId": "x" * 37}, -4015),
        ({"positionSide": "LONG"}, -4061),
        ({"positionSide": "UP"}, -1130),
        ({"reduceOnly": "true"}, -2022),
        ({"reduceOnly": "perhaps"}, -1130),
        ({"closePosition": "true"}, -4136),
        ({"timeInForce": "GTX", "price": "50000.1"}, -5022),
        ({"timeInForce": "FOK"}, -5021),
        ({"timeInForce": "GTD"}, -1102),
        ({"timeInForce": "GTD", "goodTillDate": "1763800600000"}, -5040),
        ({"timeInForce": "GTD", "goodTillDate": "253402300799000"}, -5040),
        ({"priceMatch": "QUEUE"}, -5039),
        ({"priceMatch": "BEST", "price": GONE}, -1130),
        ({"type": "MARKET", "timeInForce": GONE, "price": GONE, "priceMatch": "QUEUE"}, -5038),
        ({"selfTradePreventionMode": "MAYBE"}, -1130),
    ],
)
async def test_each_rule_refuses_in_its_own_code(changes: dict[str, Any], code: int) -> None:
    bench = LocalBench()
    for path in ("order", "order/test"):
        answer = await bench.ask("POST", V1 + path, changed(LIMIT, changes))
        assert answer.get("code") == code, answer
        assert answer["msg"]
    assert bench.events == []
    assert await bench.ask("GET", V1 + "allOrders", {"symbol": "BTCUSDT"}) == []


async def test_the_step_and_tick_are_counted_from_zero() -> None:
    bench = LocalBench()
    info = bench.prices.symbols["BTCUSDT"].info
    _filter(info, "LOT_SIZE")["stepSize"] = "0.004"
    _filter(info, "PRICE_FILTER")["tickSize"] = "0.5"
    assert (await bench.ask("POST", V1 + "order", changed(LIMIT, {"quantity": "0.010"})))["code"] == -4023
    assert (await bench.ask("POST", V1 + "order", changed(LIMIT, {"quantity": "0.012", "price": "49000.1"})))[
        "code"
    ] == -4014
    _filter(info, "LOT_SIZE")["minQty"] = "0.02"
    assert (await bench.ask("POST", V1 + "order", changed(LIMIT, {"quantity": "0.012"})))["code"] == -4004
    _filter(info, "PRICE_FILTER")["minPrice"] = "40000"
    assert (await bench.ask("POST", V1 + "order", changed(LIMIT, {"quantity": "0.02", "price": "39999"})))[
        "code"
    ] == -4013
    _filter(info, "MAX_NUM_ORDERS")["limit"] = 0
    assert (await bench.ask("POST", V1 + "order", changed(LIMIT, {"quantity": "0.02"})))["code"] == -2025
    info["status"] = "CLOSE"
    assert (await bench.ask("POST", V1 + "order", changed(LIMIT, {"quantity": "0.02"})))["code"] == -1122


def _filter(info: Json, name: str) -> Json:
    found: Json = next(each for each in info["filters"] if each["filterType"] == name)
    return found


async def test_numbers_and_flags_in_the_spellings_of_all_clients() -> None:
    bench = LocalBench()
    await bench.order("BUY", "0.5")
    for qty, price, flag in (("0.010", "51000", "true"), ("0.01", "51000.0", "True"), ("0.01", "51000.00", "false")):
        answer = await bench.order("SELL", qty, price, reduceOnly=flag)
        assert (answer["origQty"], answer["price"]) == ("0.010", "51000.0")
        assert answer["reduceOnly"] is (flag.lower() == "true")


async def test_a_client_id_is_unique_among_open_orders_only() -> None:
    bench = LocalBench()
    await bench.order("BUY", "0.01", "49000", newClientOrderId="mine")
    assert (await bench.order("BUY", "0.01", "49000", newClientOrderId="mine"))["code"] == -4116
    first = await bench.ask("DELETE", V1 + "order", {"symbol": "BTCUSDT", "origClientOrderId": "mine"})
    again = await bench.order("BUY", "0.01", newClientOrderId="mine")
    assert again["orderId"] > first["orderId"] > 2**32
    found = await bench.ask("GET", V1 + "order", {"symbol": "BTCUSDT", "origClientOrderId": "mine"})
    assert found["orderId"] == again["orderId"]


async def test_ack_says_new_and_the_query_says_what_became_of_it() -> None:
    bench = LocalBench()
    answer = await bench.order("BUY", "0.010", newOrderRespType="ACK")
    assert (answer["status"], answer["executedQty"]) == ("NEW", "0.000")
    assert "avgPrice" not in answer
    row = await bench.ask("GET", V1 + "order", {"symbol": "BTCUSDT", "orderId": answer["orderId"]})
    assert (row["status"], row["executedQty"], row["avgPrice"]) == ("FILLED", "0.010", "50000.1000")
    assert (await bench.ask("GET", V1 + "openOrder", {"symbol": "BTCUSDT", "orderId": answer["orderId"]}))[
        "code"
    ] == -2013


async def test_a_cancel_of_what_is_gone_or_never_was() -> None:
    bench = LocalBench()
    answer = await bench.order("BUY", "0.010", "49000")
    query = {"symbol": "BTCUSDT", "orderId": answer["orderId"]}
    assert (await bench.ask("DELETE", V1 + "order", query))["status"] == "CANCELED"
    assert (await bench.ask("DELETE", V1 + "order", query))["code"] == -2011
    assert (await bench.ask("GET", V1 + "order", {"symbol": "BTCUSDT", "orderId": 1}))["code"] == -2013
    assert (await bench.ask("GET", V1 + "order", {"symbol": "ETHUSDT", "orderId": answer["orderId"]}))["code"] == -2013
    assert (await bench.ask("GET", V1 + "order", {"symbol": "BTCUSDT"}))["code"] == -1102


# ---- changes ---------------------------------------------------------------------------------------------------------


async def test_a_change_moves_an_order_and_is_remembered() -> None:
    bench = LocalBench()
    answer = await bench.order("BUY", "0.010", "49000", newClientOrderId="mine")
    change = {"symbol": "BTCUSDT", "side": "BUY", "orderId": answer["orderId"], "quantity": "0.020", "price": "49100"}
    assert (await bench.ask("PUT", V1 + "order", change | {"modifyId": 5}))["price"] == "49100.0"
    (event,) = [each["o"] for each in bench.said("ORDER_TRADE_UPDATE") if each["o"]["x"] == "AMENDMENT"]
    assert (event["X"], event["q"], event["p"], event["M"], event["V"]) == ("NEW", "0.020", "49100.0", 5, "NONE")
    for wrong, code in (
        ({}, -5027),
        ({"price": "60000"}, -4016),
        ({"side": "SELL"}, -1117),
        ({"reduceOnly": "true", "price": "49200"}, -5047),
        ({"quantity": "0.001"}, -5029),
        ({"quantity": "1001"}, -4005),
        ({"orderId": 5}, -2013),
        ({"price": GONE}, -1102),
    ):
        assert (await bench.ask("PUT", V1 + "order", changed(change, wrong)))["code"] == code, wrong
    assert bench.events == []
    await bench.ask("PUT", V1 + "order", change | {"price": "51000"})
    row = await bench.ask("GET", V1 + "order", {"symbol": "BTCUSDT", "origClientOrderId": "mine"})
    assert (row["status"], row["avgPrice"]) == ("FILLED", "50000.1000")
    history = await bench.ask("GET", V1 + "orderAmendment", {"symbol": "BTCUSDT"})
    assert [each["amendment"]["count"] for each in history] == [2, 1]
    assert history[1]["amendment"]["price"] == {"before": "49000.0", "after": "49100.0"}


async def test_a_change_that_would_break_its_word_cancels() -> None:
    bench = LocalBench()
    posted = await bench.order("BUY", "0.010", "49000", timeInForce="GTX")
    change = {"symbol": "BTCUSDT", "side": "BUY", "orderId": posted["orderId"], "quantity": "0.010", "price": "50000.1"}
    assert (await bench.ask("PUT", V1 + "order", change))["status"] == "CANCELED"
    bench.account.exchange.most_per_touch = Decimal("0.005")
    partly = await bench.order("BUY", "0.010", "51000")
    assert partly["status"] == "PARTIALLY_FILLED"
    change |= {"orderId": partly["orderId"], "quantity": "0.005", "price": "51000"}
    assert (await bench.ask("PUT", V1 + "order", change))["status"] == "CANCELED"


# ---- batches ---------------------------------------------------------------------------------------------------------


async def test_a_batch_answers_each_of_its_orders() -> None:
    bench = LocalBench()
    items = [LIMIT, {**LIMIT, "quantity": "0"}, {**LIMIT, "price": "48000", "newClientOrderId": "b"}]
    batch = {"batchOrders": msgspec.json.encode(items).decode()}
    answer = await bench.ask("POST", V1 + "batchOrders", batch)
    assert [each.get("code") for each in answer] == [None, -4003, None]
    too_many = {"batchOrders": msgspec.json.encode([LIMIT] * 6).decode()}
    assert (await bench.ask("POST", V1 + "batchOrders", too_many))["code"] == -4082
    assert (await bench.ask("POST", V1 + "batchOrders", {"batchOrders": "nonsense"}))["code"] == -1130
    for name, value in (("orderIdList", f"[{answer[0]['orderId']}, 5]"), ("origclientorderidlist", '["b","c"]')):
        gone = await bench.ask("DELETE", V1 + "batchOrders", {"symbol": "BTCUSDT", name: value})
        assert [each.get("code") for each in gone] == [None, -2011]
    listed = {"symbol": "BTCUSDT", "orderIdList": str(list(range(11)))}
    assert (await bench.ask("DELETE", V1 + "batchOrders", listed))["code"] == -4032


async def test_cancel_all_leaves_conditional_orders_alone() -> None:
    bench = LocalBench()
    await bench.order("BUY", "0.010", "49000")
    await bench.order("BUY", "0.010", "48000")
    await bench.stop("SELL", "0.010", "45000")
    answer = await bench.ask("DELETE", V1 + "allOpenOrders", {"symbol": "BTCUSDT"})
    assert answer == {"code": 200, "msg": "The operation of cancel all open order is done."}
    assert await bench.ask("GET", V1 + "openOrders") == []
    assert len(await bench.ask("GET", V1 + "openAlgoOrders")) == 1
    await bench.ask("DELETE", V1 + "algoOpenOrders", {"symbol": "BTCUSDT"})
    assert await bench.ask("GET", V1 + "openAlgoOrders") == []


# ---- timers ----------------------------------------------------------------------------------------------------------


async def test_the_countdown_cancels_ordinary_orders_of_its_symbol_once() -> None:
    bench = LocalBench()
    await bench.order("BUY", "0.010", "49000")
    await bench.order("BUY", "1", "2400", symbol="ETHUSDT")
    await bench.stop("SELL", "0.010", "45000")
    path, symbol = V1 + "countdownCancelAll", {"symbol": "BTCUSDT"}
    assert await bench.ask("POST", path, symbol | {"countdownTime": 1}) == {"symbol": "BTCUSDT", "countdownTime": "1"}
    await bench.ask("POST", path, symbol | {"countdownTime": 0})
    await asyncio.sleep(0.02)
    assert len(await bench.ask("GET", V1 + "openOrders")) == 2
    cancelled = asyncio.Event()
    bench.account.subscribe(lambda event: cancelled.set() if event.get("o", {}).get("x") == "CANCELED" else None)
    await bench.ask("POST", path, symbol | {"countdownTime": 5})
    await cancelled.wait()
    left = await bench.ask("GET", V1 + "openOrders")
    assert [each["symbol"] for each in left] == ["ETHUSDT"]
    assert len(await bench.ask("GET", V1 + "openAlgoOrders")) == 1


async def test_a_dated_order_expires_at_its_date() -> None:
    bench = LocalBench()
    date_ms = bench.account.now_ms + 3_600_000
    answer = await bench.order("BUY", "0.010", "49000", timeInForce="GTD", goodTillDate=date_ms + 500)
    assert (answer["timeInForce"], answer["goodTillDate"]) == ("GTD", date_ms)
    order = bench.account.orders.number(answer["orderId"])
    assert order is not None
    bench.account._lapse(order)
    assert order.status == "EXPIRED"
    bench.accounts.close()


# ---- reduce only, knocked out ----------------------------------------------------------------------------------------


async def test_reductions_that_find_nothing_left_are_knocked_out_with_reason_four() -> None:
    bench = LocalBench()
    await bench.order("BUY", "0.010")
    await bench.order("SELL", "0.010", "51000", reduceOnly="true")
    bench.events.clear()
    await bench.order("SELL", "0.010")
    ends = [each["o"] for each in bench.said("ORDER_TRADE_UPDATE") if each["o"]["x"] == "EXPIRED"]
    assert [(each["X"], each["er"], each["R"]) for each in ends] == [("EXPIRED", "4", True)]


# ---- conditional orders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"algoType": "TWAP"}, -1130),
        ({"type": "LIMIT"}, -1116),
        ({"triggerPrice": GONE}, -1102),
        ({"triggerPrice": "50000"}, -2021),
        ({"triggerPrice": "50001"}, -2021),
        ({"type": "TAKE_PROFIT_MARKET", "triggerPrice": "50000"}, -2021),
        ({"side": "BUY", "triggerPrice": "49999"}, -2021),
        ({"triggerPrice": "45000.05"}, -1111),
        ({"quantity": GONE}, -1102),
        ({"quantity": "250"}, -4005),
        ({"closePosition": "true"}, -4137),
        ({"closePosition": "true", "quantity": GONE, "reduceOnly": "true"}, -1106),
        ({"type": "STOP", "closePosition": "true", "price": "44000", "quantity": GONE}, -1128),
        ({"type": "STOP"}, -1102),
        ({"type": "TRAILING_STOP_MARKET"}, -1102),
        ({"type": "TRAILING_STOP_MARKET", "callbackRate": "11"}, -1130),
        ({"type": "TRAILING_STOP_MARKET", "callbackRate": "1", "activatePrice": "49000"}, -2021),
        ({"workingType": "INDEX"}, -1130),
        ({"clientAlgoId": "no no"}, -4015),
    ],
)
async def test_a_conditional_order_is_refused_in_its_own_code(changes: dict[str, Any], code: int) -> None:
    bench = LocalBench()
    answer = await bench.ask("POST", V1 + "algoOrder", changed(ALGO, changes))
    assert answer.get("code") == code, answer
    assert bench.events == []


@pytest.mark.parametrize(
    ("kind", "side", "trigger", "before", "at"),
    [
        ("STOP_MARKET", "SELL", "49000", "49000.1", "49000"),
        ("STOP_MARKET", "BUY", "51000", "50999.9", "51000"),
        ("TAKE_PROFIT_MARKET", "SELL", "51000", "50999.9", "51000"),
        ("TAKE_PROFIT_MARKET", "BUY", "49000", "49000.1", "49000"),
    ],
)
@pytest.mark.parametrize("working_type", ["CONTRACT_PRICE", "MARK_PRICE"])
async def test_a_trigger_makes_an_ordinary_order(
    kind: str, side: str, trigger: str, before: str, at: str, working_type: str
) -> None:
    bench = LocalBench()
    on_mark = working_type == "MARK_PRICE"
    placed = await bench.stop(side, "0.010", trigger, type=kind, workingType=working_type, clientAlgoId="a1")
    watched, other = ("mark", "last") if on_mark else ("last", "mark")
    bench.prices.move("BTCUSDT", "50000", **{watched: before, other: at})
    assert (await bench.ask("GET", V1 + "algoOrder", {"algoId": placed["algoId"]}))["algoStatus"] == "NEW"
    bench.prices.move("BTCUSDT", "50000", **{watched: at, other: "50000"})
    row = await bench.ask("GET", V1 + "algoOrder", {"clientAlgoId": "a1"})
    assert (row["algoStatus"], row["actualType"], row["actualQty"]) == ("FINISHED", "MARKET", "0.010")
    child = await bench.ask("GET", V1 + "order", {"symbol": "BTCUSDT", "orderId": row["actualOrderId"]})
    assert (child["status"], child["origType"], child["clientOrderId"]) == ("FILLED", kind, "a1")
    states = [each["o"]["X"] for each in bench.said("ALGO_UPDATE")]
    assert states == ["NEW", "TRIGGERING", "TRIGGERED", "FINISHED"]


async def test_a_stop_with_a_limit_rests_when_it_has_triggered() -> None:
    bench = LocalBench()
    placed = await bench.stop("SELL", "0.010", "49000", type="STOP", price="49500")
    bench.prices.move("BTCUSDT", "48900")
    row = await bench.ask("GET", V1 + "algoOrder", {"algoId": placed["algoId"]})
    assert row["algoStatus"] == "TRIGGERED"
    (child,) = await bench.ask("GET", V1 + "openOrders")
    assert (child["type"], child["price"], str(child["orderId"])) == ("LIMIT", "49500.0", row["actualOrderId"])
    await bench.ask("DELETE", V1 + "order", {"symbol": "BTCUSDT", "orderId": child["orderId"]})
    assert (await bench.ask("GET", V1 + "algoOrder", {"algoId": placed["algoId"]}))["algoStatus"] == "FINISHED"


async def test_a_trailing_stop_follows_and_turns() -> None:
    bench = LocalBench()
    await bench.order("BUY", "0.010")
    given = {"type": "TRAILING_STOP_MARKET", "callbackRate": "1", "activatePrice": "51000", "reduceOnly": "true"}
    placed = await bench.stop("SELL", "0.010", None, **given)
    for price in ("49000", "50900", "50000"):
        bench.prices.move("BTCUSDT", price)
    query = {"algoId": placed["algoId"]}
    assert (await bench.ask("GET", V1 + "algoOrder", query))["algoStatus"] == "NEW"
    bench.events.clear()
    bench.prices.move("BTCUSDT", "52000")
    assert [each["o"]["ia"] for each in bench.said("ALGO_UPDATE")] == [True]
    bench.prices.move("BTCUSDT", "51480.1")
    assert (await bench.ask("GET", V1 + "algoOrder", query))["algoStatus"] == "NEW"
    bench.prices.move("BTCUSDT", "51480")
    assert (await bench.ask("GET", V1 + "algoOrder", query))["actualPrice"] == "51480.0000"


async def test_without_a_position_a_reducing_trigger_is_rejected() -> None:
    bench = LocalBench()
    placed = await bench.stop("SELL", "0.010", "49000", reduceOnly="true")
    bench.prices.move("BTCUSDT", "48000")
    assert (await bench.ask("GET", V1 + "algoOrder", {"algoId": placed["algoId"]}))["algoStatus"] == "REJECTED"
    assert bench.said("ALGO_UPDATE")[-1]["o"]["rm"] == "Reduce Only reject"
    assert await bench.ask("GET", V1 + "allOrders", {"symbol": "BTCUSDT"}) == []


async def test_a_close_all_order_closes_what_there_is_and_ends_with_the_position() -> None:
    bench = LocalBench()
    await bench.order("BUY", "0.030")
    first = await bench.stop("SELL", None, "49000", closePosition="true")
    assert (await bench.stop("SELL", None, "48000", closePosition="true"))["code"] == -4130
    await bench.order("SELL", "0.010")
    bench.prices.move("BTCUSDT", "48990")
    row = await bench.ask("GET", V1 + "algoOrder", {"algoId": first["algoId"]})
    assert (row["algoStatus"], row["actualQty"]) == ("FINISHED", "0.020")
    await bench.order("BUY", "0.010")
    second = await bench.stop("SELL", None, "48000", closePosition="true")
    bench.prices.move("BTCUSDT", "48991")
    await bench.order("SELL", "0.010")
    bench.prices.move("BTCUSDT", "48992")
    assert (await bench.ask("GET", V1 + "algoOrder", {"algoId": second["algoId"]}))["algoStatus"] == "EXPIRED"


async def test_conditional_orders_are_counted_named_and_cancelled() -> None:
    bench = LocalBench()
    placed = await bench.stop("SELL", "0.010", "45000", newClientOrderId="alias")
    assert placed["clientAlgoId"] == "alias"
    assert (await bench.stop("SELL", "0.010", "45000", clientAlgoId="alias"))["code"] == -4116
    assert (await bench.ask("GET", V1 + "order", {"symbol": "BTCUSDT", "origClientOrderId": "alias"}))["code"] == -2013
    gone = await bench.ask("DELETE", V1 + "algoOrder", {"clientAlgoId": "alias", "symbol": "BTCUSDT"})
    assert (gone["code"], gone["msg"]) == ("200", "success")
    assert (await bench.ask("DELETE", V1 + "algoOrder", {"algoId": placed["algoId"]}))["code"] == -2011
    assert (await bench.ask("DELETE", V1 + "algoOrder"))["code"] == -1102
    for number in range(200):
        assert "code" not in await bench.stop("SELL", "0.010", str(40000 + number))
    assert (await bench.stop("SELL", "0.010", "45000"))["code"] == -4045
