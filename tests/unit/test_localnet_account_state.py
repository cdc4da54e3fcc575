"""Balances, positions, settings and the stream of an account: every view of the same money agrees."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.local_account import LocalBench
from tidegate.adapters.localnet.account import AccountState
from tidegate.adapters.localnet.admin import books_of
from tidegate.adapters.localnet.books import IdsState
from tidegate.domain.margin import Bracket
from tidegate.domain.orders import FillCause

V1 = "/fapi/v1/"
D = Decimal
BTC = {"symbol": "BTCUSDT"}


class Shadow:
    """What a client knows that has heard nothing but the stream."""

    def __init__(self, bench: LocalBench) -> None:
        self.wallet = {"USDT": D(10_000)}
        self.held: dict[tuple[str, str], Decimal] = {}
        self.open: dict[int, str] = {}
        self.fills: dict[tuple[str, int], Decimal] = {}
        bench.account.subscribe(self.hear)

    def hear(self, event: Any) -> None:
        match event["e"]:
            case "ACCOUNT_UPDATE":
                for row in event["a"]["B"]:
                    self.wallet[row["a"]] = D(row["wb"])
                for row in event["a"]["P"]:
                    self.held[row["s"], row["ps"]] = D(row["pa"])
            case "ORDER_TRADE_UPDATE":
                order = event["o"]
                if order["X"] in ("NEW", "PARTIALLY_FILLED"):
                    self.open[order["i"]] = order["X"]
                else:
                    self.open.pop(order["i"], None)
                if order["t"]:
                    assert (order["s"], order["t"]) not in self.fills
                    self.fills[order["s"], order["t"]] = D(order["l"])


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("market"), st.integers(-30, 30)),
        st.tuples(st.just("limit"), st.integers(-30, 30), st.integers(-40, 40)),
        st.tuples(st.just("reduce"), st.integers(-30, 30), st.integers(-40, 40)),
        st.tuples(st.just("stop"), st.integers(-30, 30), st.integers(1, 40)),
        st.tuples(st.just("move"), st.integers(-300, 300)),
        st.tuples(st.just("cancel"), st.just(0)),
        st.tuples(st.just("fund"), st.integers(-9, 9)),
    ),
    max_size=25,
)


async def act(bench: LocalBench, action: tuple[Any, ...], price: int) -> int:
    match action:
        case ("move", by):
            price = max(30_000, min(70_000, price + 10 * by))
            bench.prices.move("BTCUSDT", str(price))
        case ("market", lots) if lots:
            await bench.order("BUY" if lots > 0 else "SELL", D(abs(lots)) / 100)
        case ("limit" | "reduce" as kind, lots, away) if lots:
            more = {"reduceOnly": "true"} if kind == "reduce" else {}
            await bench.order("BUY" if lots > 0 else "SELL", D(abs(lots)) / 100, str(price + 10 * away), **more)
        case ("stop", lots, away) if lots:
            side, trigger = ("BUY", price + 10 * away) if lots > 0 else ("SELL", price - 10 * away)
            await bench.stop(side, D(abs(lots)) / 100, str(trigger), reduceOnly="true")
        case ("cancel", _):
            await bench.ask("DELETE", V1 + "allOpenOrders", BTC)
        case ("fund", rate):
            bench.accounts.fund("BTCUSDT", D(rate) / 10_000, D(price), bench.clock.now_ns())
    return price


@given(ACTIONS, st.booleans())
@settings(max_examples=60, deadline=None)
async def test_stream_rest_income_and_ledger_tell_the_same(actions: list[tuple[Any, ...]], dual: bool) -> None:
    bench = LocalBench()
    shadow = Shadow(bench)
    if dual:
        bench.account.deposit("BNB", D("0.02"))
    price = 50_000
    for action in actions:
        price = await act(bench, action, price)
    balances = {row["asset"]: D(row["balance"]) for row in await bench.ask("GET", "/fapi/v3/balance")}
    assert shadow.wallet["USDT"] == balances["USDT"] == bench.account.exchange.ledger.wallet
    assert shadow.wallet.get("BNB", D(0)) == balances["BNB"]
    income = await bench.ask("GET", V1 + "income", {"limit": 1000})
    for asset in ("USDT", "BNB"):
        assert sum((D(line["income"]) for line in income if line["asset"] == asset), D(0)) == balances[asset]
    assert len({(line["incomeType"], line["tranId"]) for line in income}) == len(income)
    risk = {row["symbol"]: D(row["positionAmt"]) for row in await bench.ask("GET", "/fapi/v3/positionRisk")}
    assert shadow.held.get(("BTCUSDT", "BOTH"), D(0)) == risk.get("BTCUSDT", D(0))
    assert sorted(shadow.open) == [row["orderId"] for row in await bench.ask("GET", V1 + "openOrders")]
    trades = await bench.ask("GET", V1 + "userTrades", BTC)
    assert {("BTCUSDT", row["id"]): D(row["qty"]) for row in trades} == shadow.fills
    signed = sum((D(row["qty"]) * (1 if row["buyer"] else -1) for row in trades), D(0))
    assert signed == risk.get("BTCUSDT", D(0))


@given(ACTIONS, ACTIONS)
@settings(max_examples=40, deadline=None)
async def test_an_account_that_was_kept_is_the_same_account(
    before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]
) -> None:
    bench, other = LocalBench(), LocalBench()
    price = 50_000
    for action in before:
        price = await act(bench, action, price)
    kept = msgspec.json.decode(msgspec.json.encode(bench.account.dump()), type=AccountState)
    ids = msgspec.json.decode(msgspec.json.encode(bench.accounts.ids.dump()), type=IdsState)
    other.prices.levels.update(bench.prices.levels)
    for each in (bench, other):
        each.accounts.ids.load(ids)
    other.account.load(kept)
    assert books_of(other.account) == books_of(bench.account)
    events = len(bench.events)
    for each in (bench, other):
        price_here = price
        for action in after:
            price_here = await act(each, action, price_here)
    assert books_of(other.account) == books_of(bench.account)
    assert other.events == bench.events[events:]
    assert other.account.exchange.margins().available == bench.account.exchange.margins().available


# ---- shown margins ---------------------------------------------------------------------------------------------------


async def test_the_published_position_example() -> None:
    bench = LocalBench()
    listed = bench.prices.symbols["SOLUSDT"]
    contract = msgspec.structs.replace(
        listed.instrument,
        tick=D("0.0001"),
        step=D(1),
        min_price=D("0.0001"),
        min_qty=D(1),
        taker_fee=D("0.0002"),
        brackets=(Bracket(0.0, 5000.0, 0.0065, 0.0, 50),),
    )
    bench.prices.symbols["SOLUSDT"] = type(listed).of(contract)
    bench.accounts.relist("SOLUSDT")
    bench.prices.move("SOLUSDT", "0.3849", "0.385")
    await bench.order("BUY", "30", symbol="SOLUSDT")
    bench.prices.move("SOLUSDT", "0.4104", mark="0.41047590")
    (row,) = await bench.ask("GET", "/fapi/v3/positionRisk")
    assert (row["positionAmt"], row["entryPrice"], row["breakEvenPrice"]) == ("30", "0.385", "0.385077")
    assert (row["unRealizedProfit"], row["notional"]) == ("0.76427700", "12.314277")
    assert (row["initialMargin"], row["maintMargin"]) == ("0.61571385", "0.0800428")
    assert (row["markPrice"], row["liquidationPrice"]) == ("0.41047590", "0")


async def test_open_orders_are_charged_for_the_larger_side() -> None:
    bench = LocalBench()
    await bench.order("BUY", "0.1")
    await bench.order("BUY", "0.1", "49000")
    await bench.order("SELL", "0.3", "51000")
    account = await bench.ask("GET", "/fapi/v3/account")
    assert account["totalPositionInitialMargin"] == "250.00000000"
    assert account["totalOpenOrderInitialMargin"] == "250.00000000"
    (position,) = account["positions"]
    assert position["initialMargin"] == "500"
    wallet, available = D(account["totalWalletBalance"]), D(account["availableBalance"])
    assert available == wallet + D(account["totalUnrealizedProfit"]) - 500


# ---- settings --------------------------------------------------------------------------------------------------------


async def test_leverage_bounds_and_its_event() -> None:
    bench = LocalBench()
    answer = await bench.ask("POST", V1 + "leverage", BTC | {"leverage": 10})
    assert answer == {"symbol": "BTCUSDT", "leverage": 10, "maxNotionalValue": "1000000"}
    assert bench.said("ACCOUNT_CONFIG_UPDATE")[0]["ac"] == {"s": "BTCUSDT", "l": 10}
    for leverage, code in ((0, -4028), (51, -4028)):
        assert (await bench.ask("POST", V1 + "leverage", BTC | {"leverage": leverage}))["code"] == code
    await bench.order("BUY", "1.5")
    assert (await bench.ask("POST", V1 + "leverage", BTC | {"leverage": 50}))["code"] == -2027
    assert (await bench.ask("POST", V1 + "leverage", BTC | {"leverage": 2}))["code"] == -2028
    rows = {row["symbol"]: row["leverage"] for row in await bench.ask("GET", V1 + "symbolConfig")}
    assert (rows["BTCUSDT"], rows["ETHUSDT"]) == (10, 20)


async def test_margin_type_changes_only_without_orders_and_position() -> None:
    bench = LocalBench()
    path, isolated = V1 + "marginType", BTC | {"marginType": "ISOLATED"}
    assert (await bench.ask("POST", path, BTC | {"marginType": "CROSSED"}))["code"] == -4046
    await bench.order("BUY", "0.01", "49000")
    assert (await bench.ask("POST", path, isolated))["code"] == -4047
    await bench.ask("DELETE", V1 + "allOpenOrders", BTC)
    await bench.order("BUY", "0.01")
    assert (await bench.ask("POST", path, isolated))["code"] == -4048
    await bench.order("SELL", "0.01")
    assert await bench.ask("POST", path, isolated) == {"code": 200, "msg": "success"}
    assert (await bench.ask("POST", V1 + "multiAssetsMargin", {"multiAssetsMargin": "true"}))["code"] == -4167


async def test_an_isolated_position_takes_and_gives_margin() -> None:
    bench = LocalBench()
    await bench.ask("POST", V1 + "marginType", BTC | {"marginType": "ISOLATED"})
    path = V1 + "positionMargin"
    assert (await bench.ask("POST", path, BTC | {"amount": 5, "type": 1}))["code"] == -4049
    await bench.order("BUY", "0.1")
    bench.events.clear()
    answer = await bench.ask("POST", path, BTC | {"amount": "50", "type": 1})
    assert answer == {"amount": 50.0, "code": 200, "msg": "Successfully modify position margin.", "type": 1}
    (event,) = bench.said("ACCOUNT_UPDATE")
    assert (event["a"]["m"], event["a"]["P"][0]["iw"], event["a"]["P"][0]["mt"]) == (
        "MARGIN_TRANSFER",
        "300.00050000",
        "isolated",
    )
    assert D(event["a"]["B"][0]["cw"]) == D(event["a"]["B"][0]["wb"]) - D("300.0005")
    for amount, kind, code in (("20000", 1, -4051), ("60", 2, -4051), ("0", 1, -4055), ("1", 3, -1130)):
        assert (await bench.ask("POST", path, BTC | {"amount": amount, "type": kind}))["code"] == code
    assert (await bench.ask("POST", path, BTC | {"amount": "40", "type": 2}))["type"] == 2
    (row,) = await bench.ask("GET", "/fapi/v3/positionRisk")
    assert row["isolatedWallet"] == "260.0005"
    assert [each["type"] for each in await bench.ask("GET", path + "/history", BTC)] == [1, 2]


async def test_hedge_mode_keeps_two_positions() -> None:
    bench = LocalBench()
    dual = V1 + "positionSide/dual"
    assert await bench.ask("GET", dual) == {"dualSidePosition": False}
    assert (await bench.ask("POST", dual, {"dualSidePosition": "false"}))["code"] == -4059
    await bench.order("BUY", "0.01", "49000")
    assert (await bench.ask("POST", dual, {"dualSidePosition": "true"}))["code"] == -4067
    await bench.ask("DELETE", V1 + "allOpenOrders", BTC)
    await bench.order("BUY", "0.01")
    assert (await bench.ask("POST", dual, {"dualSidePosition": "true"}))["code"] == -4068
    await bench.order("SELL", "0.01")
    assert (await bench.ask("POST", dual, {"dualSidePosition": "true"}))["code"] == 200
    assert (await bench.order("BUY", "0.01"))["code"] == -4061
    assert (await bench.order("BUY", "0.01", positionSide="LONG", reduceOnly="true"))["code"] == -1106
    assert (await bench.order("SELL", "0.01", positionSide="LONG"))["code"] == -2022
    await bench.order("BUY", "0.03", positionSide="LONG")
    await bench.order("SELL", "0.02", positionSide="SHORT")
    assert (await bench.order("SELL", "0.04", positionSide="LONG"))["code"] == -2022
    rows = await bench.ask("GET", "/fapi/v3/positionRisk")
    assert {row["positionSide"]: row["positionAmt"] for row in rows} == {"LONG": "0.030", "SHORT": "-0.020"}
    every = [row["positionSide"] for row in await bench.ask("GET", "/fapi/v2/positionRisk", BTC)]
    assert every == ["BOTH", "LONG", "SHORT"]
    bench.events.clear()
    await bench.stop("SELL", "0.03", "49000", positionSide="LONG")
    bench.prices.move("BTCUSDT", "48000")
    (trade,) = [each["o"] for each in bench.said("ORDER_TRADE_UPDATE") if each["o"]["x"] == "TRADE"]
    assert (trade["ps"], trade["S"], trade["l"]) == ("LONG", "SELL", "0.030")
    rows = await bench.ask("GET", "/fapi/v3/positionRisk")
    assert {row["positionSide"]: row["positionAmt"] for row in rows} == {"SHORT": "-0.020"}


# ---- what the venue does by itself -----------------------------------------------------------------------------------


async def test_funding_moves_the_wallet_and_says_so() -> None:
    bench = LocalBench()
    await bench.order("SELL", "0.1")
    bench.events.clear()
    bench.accounts.fund("BTCUSDT", D("0.0001"), D("50000"), bench.clock.now_ns())
    (event,) = bench.said("ACCOUNT_UPDATE")
    assert (event["a"]["m"], event["a"]["S"], event["a"]["P"]) == ("FUNDING_FEE", "BTCUSDT", [])
    assert event["a"]["B"][0]["bc"] == "0.5"
    (line,) = await bench.ask("GET", V1 + "income", {"incomeType": "FUNDING_FEE"})
    assert (line["income"], line["symbol"]) == ("0.50000000", "BTCUSDT")


async def test_a_liquidation_as_the_stream_tells_it() -> None:
    bench = LocalBench()
    await bench.order("BUY", "2")
    await bench.order("BUY", "0.01", "40000")
    bench.events.clear()
    bench.prices.move("BTCUSDT", "45800")
    bench.prices.move("BTCUSDT", "45799")
    assert [event["p"][0]["mt"] for event in bench.said("MARGIN_CALL")] == ["CROSSED"]
    bench.prices.move("BTCUSDT", "45500")
    events = [each["o"] for each in bench.events if each["e"] == "ORDER_TRADE_UPDATE"]
    assert [(each["x"], each["X"], each["er"]) for each in events] == [
        ("EXPIRED", "EXPIRED", "5"),
        ("NEW", "NEW", "0"),
        ("CALCULATED", "FILLED", "0"),
    ]
    assert events[-1]["c"].startswith("autoclose-")
    assert await bench.ask("GET", "/fapi/v3/positionRisk") == []
    forced = await bench.ask("GET", V1 + "forceOrders", {"autoCloseType": "LIQUIDATION"})
    assert [row["status"] for row in forced] == ["FILLED"]
    kinds = {line["incomeType"] for line in await bench.ask("GET", V1 + "income")}
    assert {"INSURANCE_CLEAR", "COMMISSION", "REALIZED_PNL"} <= kinds


async def test_deleveraging_settlement_and_money_from_outside() -> None:
    bench = LocalBench()
    await bench.order("BUY", "0.1")
    assert bench.account.take_over("BTCUSDT", FillCause.DELEVERAGING, qty=D("0.04"))
    assert bench.account.trades[-1].client_id == "adl_autoclose"
    await bench.stop("SELL", "0.01", "45000")
    bench.account.settle("BTCUSDT")
    assert bench.account.trades[-1].client_id.startswith("settlement_autoclose-")
    assert await bench.ask("GET", V1 + "openAlgoOrders") == []
    bench.events.clear()
    bench.accounts.deposit("demo-key", "USDT", D(500))
    bench.accounts.deposit("demo-key", "USDT", D(-100))
    assert [(e["a"]["m"], e["a"]["B"][0]["bc"]) for e in bench.said("ACCOUNT_UPDATE")] == [
        ("DEPOSIT", "500"),
        ("WITHDRAW", "-100"),
    ]


async def test_fees_in_bnb_with_their_discount() -> None:
    bench = LocalBench()
    bench.accounts.deposit("demo-key", "BNB", D(1))
    bench.events.clear()
    await bench.order("BUY", "0.1")
    trade = bench.said("ORDER_TRADE_UPDATE")[-1]["o"]
    assert (trade["N"], trade["n"]) == ("BNB", f"{D('5000.01') * D('0.0005') * D('0.9') / 300:.8f}")
    assert bench.account.exchange.wallet == 10_000
    await bench.ask("POST", V1 + "feeBurn", {"feeBurn": "false"})
    await bench.order("SELL", "0.1")
    assert bench.said("ORDER_TRADE_UPDATE")[-1]["o"]["N"] == "USDT"


# ---- listen keys -----------------------------------------------------------------------------------------------------


async def test_a_listen_key_is_made_kept_and_lost() -> None:
    bench = LocalBench()
    path = V1 + "listenKey"
    assert (await bench.ask("PUT", path))["code"] == -1125
    key = (await bench.ask("POST", path))["listenKey"]
    assert len(key) == 64
    assert (await bench.ask("POST", path))["listenKey"] == key
    assert (await bench.ask("PUT", path))["listenKey"] == key
    assert bench.accounts.by_listen_key(key) is bench.account
    assert await bench.ask("DELETE", path) == {}
    assert bench.events == []
    assert bench.accounts.by_listen_key(key) is None
    again = (await bench.ask("POST", path))["listenKey"]
    assert again != key
    bench.accounts.expire_listen_key(again)
    assert bench.events == [{"e": "listenKeyExpired", "E": "1763800000000", "listenKey": again}]
    bench.accounts.close()


# ---- history and limits of queries -----------------------------------------------------------------------------------


async def test_histories_are_windowed() -> None:
    bench = LocalBench()
    for _ in range(3):
        await bench.order("BUY", "0.01")
        bench.clock.time_ns += 3_600 * 10**9
    first = bench.account.trades[0]
    rows = await bench.ask("GET", V1 + "userTrades", BTC | {"fromId": first.trade_id + 1})
    assert [row["id"] for row in rows] == [first.trade_id + 1, first.trade_id + 2]
    rows = await bench.ask("GET", V1 + "userTrades", BTC | {"startTime": first.time_ms, "endTime": first.time_ms})
    assert [row["id"] for row in rows] == [first.trade_id]
    assert (await bench.ask("GET", V1 + "userTrades", BTC | {"fromId": 1, "startTime": 1}))["code"] == -1128
    assert len(await bench.ask("GET", V1 + "userTrades", BTC | {"limit": 2})) == 2
    assert (await bench.ask("GET", V1 + "userTrades", BTC | {"startTime": 0, "endTime": 8 * 86_400_000}))[
        "code"
    ] == -4166
    assert len(await bench.ask("GET", V1 + "allOrders", BTC | {"orderId": first.order_id + 1})) == 2


@pytest.mark.parametrize("path", ["account", "balance", "positionRisk"])
async def test_both_versions_answer(path: str) -> None:
    bench = LocalBench()
    for version in ("v2", "v3"):
        assert "code" not in await bench.ask("GET", f"/fapi/{version}/{path}")


async def test_the_rights_of_the_key_can_be_read() -> None:
    bench = LocalBench()
    rights = await bench.ask("GET", "/sapi/v1/account/apiRestrictions")
    assert (rights["enableFutures"], rights["enableWithdrawals"]) == (True, False)
    assert all(isinstance(value, bool) for name, value in rights.items() if name != "createTime")
