"""The shapes of our account side (names and JSON types) against the official examples and documented events."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tests.fakes.local_account import LocalBench
from tests.oracles.localnet_differences_account import ACCOUNT_DIFFERENCES, OUT_OF_SCOPE
from tidegate.adapters.localnet.wsapi import WsApi

Json = Any
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010"}
V1 = "/fapi/v1/"


def kind(value: Json) -> str:
    if isinstance(value, bool):
        return "bool"
    if value is None or value == "None":  # the examples print null as a text here and there
        return "null"
    return {int: "number", float: "number", str: "string", list: "list", dict: "object"}[type(value)]


def differences(theirs: Json, ours: Json, path: str = "") -> Iterator[str]:
    """What of the shape differs; lists are compared by their first items."""
    if kind(theirs) != kind(ours):
        yield f"{path}: {kind(theirs)}/{kind(ours)}"
    elif isinstance(theirs, dict):
        for name in theirs.keys() - ours.keys():
            yield f"-{path}{'.' if path else ''}{name}"
        for name in ours.keys() - theirs.keys():
            yield f"+{path}{'.' if path else ''}{name}"
        for name in theirs.keys() & ours.keys():
            yield from differences(theirs[name], ours[name], f"{path}{'.' if path else ''}{name}")
    elif isinstance(theirs, list) and theirs:
        if not ours:
            yield f"{path}: list/empty"
        else:
            yield from differences(theirs[0], ours[0], f"{path}[]")


async def answers() -> dict[str, tuple[str, Json]]:
    """Our answer for every example file of the account side: an account that has traded, with orders of all kinds."""
    bench = LocalBench()
    said: dict[str, tuple[str, Json]] = {}

    async def ask(file: str, method: str, path: str, **params: object) -> Json:
        answer = await bench.ask(method, path, params)
        assert "code" not in answer or answer.get("code") in (200, "200"), (path, answer)
        said[file] = (f"{method} {path}", answer)
        return answer

    await bench.order("BUY", "0.050")
    resting = await ask("new_order.json", "POST", V1 + "order", **ORDER, price="40000.0")
    number = resting["orderId"]
    change = {"symbol": "BTCUSDT", "side": "BUY", "orderId": number, "quantity": "0.020", "modifyId": 1}
    await ask("modify_order.json", "PUT", V1 + "order", **change, price="40001.0")
    await ask("get_order_modify_history.json", "GET", V1 + "orderAmendment", symbol="BTCUSDT")
    items = msgspec.json.encode([{**{k: str(v) for k, v in change.items()}, "price": "40002.0"}]).decode()
    await ask("modify_multiple_orders.json", "PUT", V1 + "batchOrders", batchOrders=items)
    await ask("query_current_open_order.json", "GET", V1 + "openOrder", symbol="BTCUSDT", orderId=number)
    await ask("current_all_open_orders.json", "GET", V1 + "openOrders")
    await ask("all_orders.json", "GET", V1 + "allOrders", symbol="BTCUSDT")
    await ask("test_order.json", "POST", V1 + "order/test", **ORDER, price="40000.0")
    batch = msgspec.json.encode([{**ORDER, "price": "40000.0"}]).decode()
    (placed,) = await ask("place_multiple_orders.json", "POST", V1 + "batchOrders", batchOrders=batch)
    listed = f"[{placed['orderId']}]"
    await ask("cancel_multiple_orders.json", "DELETE", V1 + "batchOrders", symbol="BTCUSDT", orderIdList=listed)
    await ask("cancel_order.json", "DELETE", V1 + "order", symbol="BTCUSDT", orderId=number)
    await ask("cancel_all_open.json", "DELETE", V1 + "allOpenOrders", symbol="BTCUSDT")

    first = await bench.stop("SELL", "0.01", "45000", type="TAKE_PROFIT", price="60000", triggerPrice="60000")
    await ask("current_all_algo_open_orders.json", "GET", V1 + "openAlgoOrders")
    await ask("query_all_algo_orders.json", "GET", V1 + "allAlgoOrders", symbol="BTCUSDT")
    await ask("cancel_algo_order.json", "DELETE", V1 + "algoOrder", algoId=first["algoId"])
    await ask("cancel_all_algo_open_orders.json", "DELETE", V1 + "algoOpenOrders", symbol="BTCUSDT")

    await ask("account_trade_list.json", "GET", V1 + "userTrades", symbol="BTCUSDT")
    await ask("account_information_v2.json", "GET", "/fapi/v2/account")
    await ask("account_information_v3.json", "GET", "/fapi/v3/account")
    await ask("futures_account_balance_v3.json", "GET", "/fapi/v3/balance")
    await ask("position_information_v2.json", "GET", "/fapi/v2/positionRisk")
    await ask("position_information_v3.json", "GET", "/fapi/v3/positionRisk")
    await ask("futures_account_configuration.json", "GET", V1 + "accountConfig")
    await ask("symbol_configuration.json", "GET", V1 + "symbolConfig")
    await ask("get_income_history.json", "GET", V1 + "income")
    await ask("notional_and_leverage_brackets.json", "GET", V1 + "leverageBracket")
    await ask("get_bnb_burn_status.json", "GET", V1 + "feeBurn")
    await ask("toggle_bnb_burn_on_futures_trade.json", "POST", V1 + "feeBurn", feeBurn="false")
    await ask("get_current_multi_assets_mode.json", "GET", V1 + "multiAssetsMargin")
    await ask("change_multi_assets_mode.json", "POST", V1 + "multiAssetsMargin", multiAssetsMargin="true")
    await ask("start_user_data_stream.json", "POST", V1 + "listenKey")
    bench.account.multi_assets = False
    await ask("change_margin_type.json", "POST", V1 + "marginType", symbol="ETHUSDT", marginType="ISOLATED")
    await bench.order("BUY", "0.1", symbol="ETHUSDT")
    await bench.ask("POST", V1 + "positionMargin", {"symbol": "ETHUSDT", "amount": "5", "type": 1})
    await ask("get_position_margin_change_history.json", "GET", V1 + "positionMargin/history", symbol="ETHUSDT")
    await bench.order("BUY", "2")
    bench.prices.move("BTCUSDT", "100.0")
    await ask("users_force_orders.json", "GET", V1 + "forceOrders")
    bench.accounts.close()
    return said


EXAMPLES = "oracles/binance/official_examples/rest_api"


async def test_every_answer_has_the_official_shape(shared: Path) -> None:
    found: list[tuple[str, str, str]] = []
    for file, (endpoint, ours) in (await answers()).items():
        if file == "cancel_all_open.json":
            continue
        theirs = msgspec.json.decode((shared / EXAMPLES / file).read_bytes())["expected_response"]
        found += [(endpoint, file, each) for each in differences(theirs, ours)]
    allowed = [(each.endpoint, each.file, each.difference) for each in ACCOUNT_DIFFERENCES]
    assert set(found) == set(allowed)
    assert len(allowed) == len(set(allowed))


async def test_every_account_file_is_answered_or_named_out_of_scope(shared: Path) -> None:
    answered = set(await answers())
    account_side = {
        path.name
        for path in (shared / EXAMPLES).iterdir()
        if any(
            word in msgspec.json.decode(path.read_bytes())["source"]
            for word in ("account_api", "trade_api", "user_data")
        )
    }
    assert account_side - answered - set(OUT_OF_SCOPE) == set()
    assert not answered & set(OUT_OF_SCOPE)


WS_METHODS = {
    "account_information.json": "account.status",
    "futures_account_balance.json": "account.balance",
    "futures_account_balance_v2.json": "v2/account.balance",
    "position_information.json": "account.position",
    "start_user_data_stream.json": "userDataStream.start",
    "close_user_data_stream.json": "userDataStream.stop",
    "new_order.json": "order.place",
    "query_order.json": "order.status",
    "modify_order.json": "order.modify",
    "cancel_order.json": "order.cancel",
}
WS_ALLOWED = {
    ("account_information.json", "+result.feeBurn"): "a field of v2 account that this example leaves out",
    ("account_information.json", "+result.positions[].isolatedWallet"): "as over REST",
    ("account_information.json", "+result.positions[].notional"): "as over REST",
    ("query_order.json", "-result.activatePrice"): "the example shows a trailing stop",
    ("query_order.json", "-result.priceRate"): "the example shows a trailing stop",
    ("query_order.json", "+rateLimits"): "the example leaves them out",
    ("cancel_order.json", "-result.activatePrice"): "the example shows a trailing stop",
    ("cancel_order.json", "-result.priceRate"): "the example shows a trailing stop",
    ("modify_order.json", "+result.pair"): "a field that the REST example of the same answer has",
}


async def test_the_websocket_api_answers_in_the_official_shapes(shared: Path) -> None:
    bench = LocalBench()
    api = WsApi(bench.accounts, bench.pipeline.routes, bench.limits, bench.clock)
    session = api.session()
    session.account = bench.account
    await bench.order("BUY", "0.050")
    found, number = set(), 0
    for file, method in WS_METHODS.items():
        params: dict[str, object] = {"timestamp": bench.clock.now_ns() // 10**6}
        if method == "order.place":
            params |= {**ORDER, "price": "40000.0"}
        elif method.startswith("order."):
            params |= {"symbol": "BTCUSDT", "orderId": number}
        if method == "order.modify":
            params |= {"side": "BUY", "quantity": 0.02, "price": 40000, "modifyId": 1}
        answer = await api.answer(session, msgspec.json.encode({"id": "7", "method": method, "params": params}))
        assert answer["status"] == 200, answer
        if method == "order.place":
            number = answer["result"]["orderId"]
        example = shared / "oracles/binance/official_examples/websocket_api" / file
        theirs = msgspec.json.decode(example.read_bytes())["expected_response"]
        found |= {(file, each) for each in differences(theirs, answer)}
    bench.accounts.close()
    assert found == set(WS_ALLOWED)


EVENT_FILES = (
    "Event-Account-Configuration-Update-previous-Leverage-Update.json",
    "Event-Algo-Order-Update.json",
    "Event-Order-Update.json",
    "Event-User-Data-Stream-Expired.json",
)
EVENT_ALLOWED = {
    ("Event-Order-Update.json", "-o.AP"): "only of trailing stops, which the example is",
    ("Event-Order-Update.json", "-o.cr"): "only of trailing stops, which the example is",
}


async def test_events_have_the_documented_shapes(shared: Path) -> None:
    bench = LocalBench()
    await bench.ask("POST", V1 + "leverage", {"symbol": "BTCUSDT", "leverage": 10})
    await bench.ask("POST", V1 + "multiAssetsMargin", {"multiAssetsMargin": "true"})
    key = (await bench.ask("POST", V1 + "listenKey"))["listenKey"]
    await bench.order("BUY", "0.050")
    await bench.stop("SELL", "0.01", "45000")
    bench.accounts.expire_listen_key(key)
    found = set()
    for file in EVENT_FILES:
        documented = msgspec.json.decode((shared / "oracles/binance/documented_events" / file).read_bytes())
        ours = [event for event in bench.events if event["e"] == documented["payloads"][0]["e"]]
        for theirs, mine in zip(documented["payloads"], ours, strict=False):
            found |= {(file, each) for each in differences(theirs, mine)}
    bench.accounts.close()
    assert found == set(EVENT_ALLOWED)
