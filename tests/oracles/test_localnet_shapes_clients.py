"""The shapes of our account side against what other clients' tests hold, and the public part of the WebSocket API.

These examples are not the exchange's own: some are old, some were written by hand. What of them ours lacks, or has of
another JSON type, is reviewed here one by one; what ours has more is in the official examples, where it is compared.
"""

from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from tests.fakes.local_account import LocalBench
from tests.oracles.localnet_differences_account import Difference
from tests.oracles.test_localnet_shapes_account import differences
from tidegate.adapters.localnet.market import LocalMarket, MarketConfig
from tidegate.adapters.localnet.rest_market import MarketRest
from tidegate.adapters.localnet.wsapi import WsApi
from tidegate.domain.orders import FillCause

FOLDER = "oracles/binance/nautilus_trader"
HTTP, RUST = "py_http_responses__http_futures_", "rust_http_json__"
WS, USER = "py_ws_messages__ws_futures_", "rust_user_data_json__"
MARKET = ("book_ticker.json", "depth_diff_update.json", "ticker_24hr.json")
"""Of market data: test_localnet_shapes_market has them."""

_BTC, _ETH = {"symbol": "BTCUSDT"}, {"symbol": "ETHUSDT"}

REST: dict[str, tuple[str, dict[str, str]]] = {
    f"{HTTP}account_orders.json": ("/fapi/v1/allOrders", _BTC),
    f"{HTTP}account_positions_hedge.json": ("/fapi/v2/positionRisk", _BTC),
    f"{HTTP}account_positions_one_way.json": ("/fapi/v2/positionRisk", _BTC),
    f"{HTTP}account_trades.json": ("/fapi/v1/userTrades", _BTC),
    f"{HTTP}wallet_commission_rate_ethusdt.json": ("/fapi/v1/commissionRate", _ETH),
    f"{RUST}account_info_v2.json": ("/fapi/v2/account", {}),
    f"{RUST}balance.json": ("/fapi/v2/balance", {}),
    f"{RUST}order_response.json": ("/fapi/v1/order", _BTC),
    f"{RUST}position_risk.json": ("/fapi/v2/positionRisk", _BTC),
}
"""Each answer in another client's tests, and what of ours is held against it."""

EVENTS: dict[str, str] = {
    f"{WS}algo_update_finished_canceled.json": "the end of a stop",
    f"{WS}algo_update_triggered.json": "a trigger",
    f"{WS}order_update_adl.json": "deleveraging",
    f"{WS}order_update_adl_filled.json": "deleveraging",
    f"{WS}order_update_liquidation_zero_qty.json": "a liquidation",
    f"{WS}order_update_new_reduce_only_qty.json": "a new order",
    f"{WS}order_update_trade_reduce_only_qty.json": "a fill",
    f"{USER}account_update_bnfcr.json": "an account",
    f"{USER}algo_update_canceled.json": "a cancel of a stop",
    f"{USER}order_update_adl.json": "deleveraging",
    f"{USER}order_update_calculated.json": "a liquidation",
    f"{USER}order_update_settlement.json": "a settlement",
    f"{USER}order_update_trade.json": "a fill",
    f"{USER}trade_lite.json": "a small fill",
}
"""Each event in another client's tests, and the one of ours that is held against it."""

OUT_OF_SCOPE = {
    f"{HTTP}wallet_commission_rate_btcusdt_quarterly.json": "no contract that is delivered is listed",
    f"{USER}order_update_delivery.json": "no contract that is delivered is listed",
    f"{USER}order_update_insurance.json": "what the fund pays is a line of income, not an order",
    f"{WS}order_update_new_limit_if_touched_price_match.json": "conditional orders left this event in December 2025",
    f"{WS}order_update_new_stop_limit_price_match.json": "conditional orders left this event in December 2025",
}
"""Files that nothing of ours answers."""

TRAILING = "only of trailing stops, which left this endpoint and this event in December 2025"
BY_HAND = "written by hand in that client's tests: the venue leaves it out, or sends a text"

DIFFERENCES = [
    Difference("GET /fapi/v1/allOrders", f"{HTTP}account_orders.json", "-[].activatePrice", TRAILING),
    Difference("GET /fapi/v1/allOrders", f"{HTTP}account_orders.json", "-[].priceRate", TRAILING),
    *(
        Difference(EVENTS[file], file, f"-o.{name}", TRAILING)
        for file in EVENTS
        if "order_update" in file
        for name in ("AP", "cr")
    ),
    *(
        Difference(EVENTS[file], file, difference, BY_HAND)
        for file in EVENTS
        if file.startswith(WS) and "order_update" in file
        for difference in ("-o.W", "o.V: null/string")
    ),
    *(
        Difference(EVENTS[f"{WS}order_update_{name}.json"], f"{WS}order_update_{name}.json", difference, BY_HAND)
        for name in ("adl", "adl_filled", "liquidation_zero_qty")
        for difference in ("o.sp: null/string",)
    ),
    *(
        Difference(EVENTS[f"{WS}order_update_{name}.json"], f"{WS}order_update_{name}.json", difference, BY_HAND)
        for name in ("liquidation_zero_qty", "new_reduce_only_qty")
        for difference in ("o.n: null/string", "o.N: null/string")
    ),
]


def example(shared: Path, file: str) -> Any:
    held = msgspec.json.decode((shared / FOLDER / file).read_bytes())
    return held["data"] if isinstance(held, dict) and "stream" in held else held


def lacking(theirs: Any, ours: Any) -> set[str]:
    return {each for each in differences(theirs, ours) if not each.startswith("+")}


def allowed(file: str) -> set[str]:
    return {each.difference for each in DIFFERENCES if each.file == file}


@pytest.mark.parametrize("file", REST)
async def test_answers_hold_what_another_client_relies_on(shared: Path, file: str) -> None:
    bench = LocalBench()
    await bench.order("BUY", "0.050")
    if "hedge" in file:
        await bench.order("SELL", "0.050")
        await bench.ask("POST", "/fapi/v1/positionSide/dual", {"dualSidePosition": "true"})
    order = await bench.order("BUY", "0.050", "40000", **({"positionSide": "LONG"} if "hedge" in file else {}))
    path, params = REST[file]
    ours = await bench.ask("GET", path, {**params, "orderId": order["orderId"]} if path.endswith("order") else params)
    bench.accounts.close()
    assert lacking(example(shared, file), ours) == allowed(file)


async def events() -> dict[str, Any]:
    """One event of ours for every name in ``EVENTS``."""
    bench, said = LocalBench(), dict[str, Any]()

    def keep(name: str, kind: str, **fields: object) -> None:
        found = [e for e in bench.events if e["e"] == kind and all(e["o"][key] == v for key, v in fields.items())]
        said[name] = found[-1]

    await bench.order("BUY", "0.050")
    keep("a fill", "ORDER_TRADE_UPDATE", x="TRADE")
    keep("a new order", "ORDER_TRADE_UPDATE", x="NEW")
    keep("an account", "ACCOUNT_UPDATE")
    keep("a small fill", "TRADE_LITE")
    stop = await bench.stop("SELL", "0.01", "45000")
    await bench.ask("DELETE", "/fapi/v1/algoOrder", {"algoId": stop["algoId"]})
    keep("a cancel of a stop", "ALGO_UPDATE", X="CANCELED")
    await bench.stop("SELL", "0.01", "49000")
    bench.prices.move("BTCUSDT", "48900.0")
    keep("a trigger", "ALGO_UPDATE", X="TRIGGERED")
    keep("the end of a stop", "ALGO_UPDATE", X="FINISHED")
    bench.account.take_over("BTCUSDT", FillCause.DELEVERAGING, qty=Decimal("0.01"))
    keep("deleveraging", "ORDER_TRADE_UPDATE", c="adl_autoclose")
    bench.account.take_over("BTCUSDT", FillCause.LIQUIDATION, qty=Decimal("0.01"))
    keep("a liquidation", "ORDER_TRADE_UPDATE", x="CALCULATED")
    bench.account.settle("BTCUSDT")
    keep("a settlement", "ORDER_TRADE_UPDATE", X="FILLED")
    bench.accounts.close()
    return said


async def test_events_hold_what_another_client_relies_on(shared: Path) -> None:
    ours = await events()
    found = {(file, each) for file, name in EVENTS.items() for each in lacking(example(shared, file), ours[name])}
    assert found == {(each.file, each.difference) for each in DIFFERENCES if each.file in EVENTS}
    causes = [ours[name]["o"]["c"].partition("-")[0] for name in ("deleveraging", "a liquidation", "a settlement")]
    assert causes == ["adl_autoclose", "autoclose", "settlement_autoclose"]


def test_every_file_of_other_clients_is_looked_at(shared: Path) -> None:
    files = {each.name for each in (shared / FOLDER).iterdir() if "market" not in each.name}
    known = {*REST, *EVENTS, *OUT_OF_SCOPE}
    assert {each for each in files if each.removeprefix(WS) not in MARKET} == known
    assert not {*REST, *EVENTS} & set(OUT_OF_SCOPE)
    assert {each.file for each in DIFFERENCES} <= {*REST, *EVENTS}


PUBLIC_WS_METHODS = {"symbol_order_book_ticker.json": "ticker.book", "symbol_price_ticker.json": "ticker.price"}


@pytest.mark.parametrize(("file", "method"), PUBLIC_WS_METHODS.items())
async def test_the_public_websocket_api_answers_in_the_official_shapes(shared: Path, file: str, method: str) -> None:
    bench = LocalBench()
    market = LocalMarket(bench.clock, Random(1), MarketConfig(history_bars=20))
    routes = {**bench.pipeline.routes, **MarketRest(market, bench.clock, []).routes()}
    api = WsApi(bench.accounts, routes, bench.limits, bench.clock)
    asked = {"id": "7", "method": method, "params": {"symbol": "BTCUSDT"}}
    answer = await api.answer(api.session(), msgspec.json.encode(asked))
    bench.accounts.close()
    example = shared / "oracles/binance/official_examples/websocket_api" / file
    theirs = msgspec.json.decode(example.read_bytes())["expected_response"]
    assert set(differences(theirs, answer)) == set()
