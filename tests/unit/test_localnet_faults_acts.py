"""What the venue does by itself, on real accounts over a real local market; and the admin endpoint."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from time import monotonic_ns
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from tidegate.adapters.localnet.accounts import Account, Accounts
from tidegate.adapters.localnet.admin import Admin
from tidegate.adapters.localnet.algo_orders import AlgoOrder
from tidegate.adapters.localnet.fault_rules import Fault
from tidegate.adapters.localnet.faults import Faults
from tidegate.adapters.localnet.market import LocalMarket
from tidegate.adapters.localnet.orders import Order, Places
from tidegate.adapters.localnet.venue_acts import ACTS, VenueActs
from tidegate.domain.errors import ConfigError
from tidegate.domain.orders import PositionSide, Side

START_NS = 1_763_800_000_000_000_000
SYMBOL = "ETHUSDT"
ZERO = Decimal(0)


class Clock:
    """Stands still for the market, runs for windows of rules."""

    def now_ns(self) -> int:
        return START_NS

    def monotonic_ns(self) -> int:
        return monotonic_ns()

    async def sleep_until(self, at_ns: int) -> None:
        await asyncio.sleep(0)


@dataclass
class Bench:
    """An exchange without its server."""

    market: LocalMarket
    accounts: Accounts
    account: Account
    acts: VenueActs
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def held(self) -> Decimal:
        return self.account.exchange.leg_margin(self.account.legs(SYMBOL)[0]).qty

    def order(self, side: Side, qty: str, price: str | None = None, name: str = "a") -> Order:
        number, at_ms = self.account.ids.order(), self.account.now_ms
        kind, limit = ("MARKET", ZERO) if price is None else ("LIMIT", Decimal(price))
        places = Places.of(self.market.symbols[SYMBOL].info)
        leg = self.account.legs(SYMBOL)[0]
        order = Order(
            number, name, SYMBOL, leg, side, PositionSide.BOTH, kind, "GTC", Decimal(qty), limit, places, at_ms, at_ms
        )
        return self.account.submit(order)

    def low(self) -> str:
        """A price that the market does not reach by itself here."""
        return str((self.market.last(SYMBOL) * Decimal("0.98")).quantize(Decimal("0.01")))

    def stop(self, name: str = "s") -> AlgoOrder:
        touch = self.account.exchange.last_touch(self.account.legs(SYMBOL)[0])
        assert touch is not None
        order = AlgoOrder(
            self.account.ids.algo(), name, SYMBOL, self.account.legs(SYMBOL)[0], Side.SELL, PositionSide.BOTH,
            "STOP_MARKET", "GTC", Decimal(1), ZERO, Decimal(self.low()), Places.of(self.market.symbols[SYMBOL].info),
            self.account.now_ms, self.account.now_ms, reduce_only=True,
        )  # fmt: skip
        return self.account.algo.place(order, touch)

    def told(self, kind: str = "ORDER_TRADE_UPDATE") -> list[Any]:
        return [each["o"] for each in self.events if each["e"] == kind]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = Clock()
    market = LocalMarket(clock, random.Random(1))
    accounts = Accounts(market, clock, random.Random(2))
    market.on_listing(accounts.relist)
    account = accounts.add()
    bench = Bench(market, accounts, account, VenueActs(accounts, market))
    account.subscribe(bench.events.append)
    yield bench
    accounts.close()


async def test_every_act_has_its_handler(bench: Bench) -> None:
    bench.order(Side.BUY, "1")
    for name in ACTS:
        if name != "by_hand":  # the contract is settled by then
            await bench.acts.act(name, {})


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("liqidate", {}, "liqidate is not an act; did you mean liquidate?"),
        ("adl", {"sybmol": "X"}, "sybmol is not a parameter of adl; did you mean symbol?"),
        ("adl", {"key": "nobody"}, "adl: no account has this key"),
        ("adl", {"symbol": "ETHUSD"}, "adl: ETHUSD is not listed; did you mean ETHUSDT?"),
        ("deposit", {"amount": "much"}, "deposit: amount much is not a number"),
        ("funding", {"interval_h": 3}, "funding: interval_h 3 is not 1, 4 or 8"),
        ("crash", {"by_frac": -1.0}, "crash: by_frac -1.0 leaves no price"),
        ("set_status", {"status": "OFF"}, "params.status is OFF; there are TRADING"),
    ],
)
async def test_a_wrong_act_is_one_clear_line(bench: Bench, name: str, params: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await bench.acts.act(name, params)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("act", "left", "client_id"),
    [("liquidate", "0", "autoclose-"), ("partial_liquidation", "0.5", "autoclose-"), ("adl", "0", "adl_autoclose")],
)
async def test_the_venue_closes_positions(bench: Bench, act: str, left: str, client_id: str) -> None:
    bench.order(Side.BUY, "1")
    resting = bench.order(Side.BUY, "1", bench.low(), "b")
    assert await bench.acts.act(act, {}) is True
    assert bench.held == Decimal(left)
    assert any(each["c"].startswith(client_id) and each["x"] == "CALCULATED" for each in bench.told())
    assert resting.open is (act == "adl")
    assert bench.account.trades[-1].client_id.startswith(client_id)


async def test_settlement_closes_and_ends_the_contract(bench: Bench) -> None:
    bench.order(Side.SELL, "1")
    assert await bench.acts.act("settle", {}) == SYMBOL
    assert bench.held == 0
    assert bench.market.symbols[SYMBOL].info["status"] == "SETTLING"
    assert any(each["c"].startswith("settlement_autoclose-") for each in bench.told())


async def test_insurance_and_deposits_change_the_wallet(bench: Bench) -> None:
    await bench.acts.act("insurance", {"amount": "2.5"})
    await bench.acts.act("deposit", {"amount": "-100"})
    await bench.acts.act("deposit", {"asset": "BNB", "amount": "3"})
    assert bench.account.exchange.wallet == Decimal("9902.5")
    assert bench.account.assets["BNB"] == 3
    assert [line.kind for line in bench.account.income][-3:] == ["INSURANCE_CLEAR", "TRANSFER", "TRANSFER"]


async def test_a_resting_order_fills_at_its_price_and_others_stay(bench: Bench) -> None:
    order, stop = bench.order(Side.BUY, "1", bench.low()), bench.stop()
    assert await bench.acts.act("fill", {"client_id": "a", "frac": 0.5}) == "0.500"
    assert order.status == "PARTIALLY_FILLED"
    assert await bench.acts.act("fill", {"client_id": "a"}) == "1.000"
    assert (order.status, order.average) == ("FILLED", Decimal(bench.low()))
    assert stop.open
    assert await bench.acts.act("fill", {"client_id": "a"}) is False
    assert bench.account.exchange.most_per_touch is None


@pytest.mark.parametrize("market", [True, False])
async def test_an_order_fills_in_parts_and_the_rest_ends(bench: Bench, market: bool) -> None:
    given = {"symbol": SYMBOL, "quantity": "1", "fills": 4, "every_s": 0.0}
    assert await bench.acts.act("thin", given) == "0.250"
    order = bench.order(Side.BUY, "1", None if market else bench.low())
    assert order.open
    answer = msgspec.json.encode(order.answer()).decode()
    assert await bench.acts.act("partial_fills", {**given, "answer": answer}) == "0.999"
    assert order.status == ("EXPIRED" if market else "CANCELED")
    assert len(bench.account.trades) == 4
    assert {trade.fee_asset for trade in bench.account.trades} == {"BNB"}
    assert bench.account.exchange.most_per_touch is None


async def test_partial_fills_of_a_refused_order_only_end_the_thin_market(bench: Bench) -> None:
    await bench.acts.act("thin", {"quantity": "1", "fills": 2})
    assert await bench.acts.act("partial_fills", {"answer": '{"code":-2019,"msg":""}'}) is False
    assert bench.account.exchange.most_per_touch is None


async def test_a_stop_triggers_by_id_or_by_symbol(bench: Bench) -> None:
    bench.order(Side.BUY, "2")
    first, second = bench.stop("s"), bench.stop("t")
    assert await bench.acts.act("trigger", {"client_id": "t"}) == "t"
    assert (first.open, second.open, bench.held) == (True, False, Decimal(1))
    assert await bench.acts.act("trigger", {"symbol": SYMBOL}) == "s"
    assert bench.held == 0
    assert await bench.acts.act("trigger", {"symbol": SYMBOL}) is False


async def test_another_hand_opens_flips_closes_and_changes_the_leverage(bench: Bench) -> None:
    await bench.acts.act("by_hand", {"symbol": SYMBOL, "quantity": "1"})
    assert bench.held == 1
    await bench.acts.act("by_hand", {"mode": "flip"})
    assert bench.held == -1
    await bench.acts.act("by_hand", {"mode": "close"})
    assert bench.held == 0
    assert await bench.acts.act("by_hand", {"mode": "close"}) is False
    await bench.acts.act("by_hand", {"symbol": SYMBOL})
    assert bench.held * bench.market.last(SYMBOL) >= bench.market.symbols[SYMBOL].instrument.min_notional
    await bench.acts.act("by_hand", {"symbol": SYMBOL, "mode": "leverage", "leverage": 7})
    assert bench.account.exchange.terms(bench.account.legs(SYMBOL)[0]).leverage == 7
    assert all(trade.client_id.startswith("web_") for trade in bench.account.trades)


@pytest.mark.parametrize("silent", [True, False])
async def test_a_listen_key_lapses_with_and_without_its_event(bench: Bench, silent: bool) -> None:
    key = bench.accounts.open_stream(bench.account)
    assert await bench.acts.act("expire_listen_key", {"silent": silent}) == 1
    assert bench.accounts.by_listen_key(key) is None
    assert [each["e"] for each in bench.events] == ([] if silent else ["listenKeyExpired"])


async def test_the_venue_cancels_everything(bench: Bench) -> None:
    order, stop = bench.order(Side.BUY, "1", bench.low()), bench.stop()
    assert await bench.acts.act("cancel_all", {}) == 2
    assert not order.open
    assert not stop.open


async def test_prices_filters_status_and_funding_change(bench: Bench) -> None:
    before = bench.market.last(SYMBOL)
    await bench.acts.act("crash", {"by_frac": -0.5})
    assert bench.market.last(SYMBOL) < before * Decimal("0.51")
    told = await bench.acts.act("move_price", {"symbol": SYMBOL, "to": str(before)})
    assert abs(Decimal(str(told)) / before - 1) < Decimal("0.001")
    await bench.acts.act("set_filters", {"symbol": SYMBOL, "step": "0.01", "min_notional": "50"})
    assert bench.market.symbols[SYMBOL].instrument.step == Decimal("0.01")
    await bench.acts.act("set_status", {"symbol": SYMBOL, "status": "CLOSE"})
    assert bench.market.symbols[SYMBOL].info["status"] == "CLOSE"
    await bench.acts.act("funding", {"rate": -0.02, "interval_h": 1})
    rate, next_ms = bench.market.funding(SYMBOL)
    assert rate == Decimal("-0.02")
    assert next_ms - START_NS // 1_000_000 <= 3_600_000


# ---- the endpoint -----------------------------------------------------------------------------------------------


@dataclass
class Desk:
    """The endpoint over a real socket."""

    faults: Faults
    url: str
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        data = None if body is None else msgspec.json.encode(body)
        async with self.session.request(method, self.url + path, data=data, headers=headers) as answer:
            return answer.status, msgspec.json.decode(await answer.read())


@pytest.fixture
async def desk(bench: Bench) -> AsyncIterator[Desk]:
    faults = Faults(Clock(), random.Random(1))
    app = web.Application()
    app.add_routes(Admin(faults, bench.accounts, bench.market).routes())
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    listening = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        yield Desk(faults, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", session)
    await faults.stop()
    listening.close()
    await runner.cleanup()


async def test_faults_are_added_listed_and_cleared(desk: Desk) -> None:
    assert await desk.ask("POST", "/admin/faults", {"fault": "V07", "for_s": 5}) == (200, [1])
    assert (await desk.ask("POST", "/admin/faults", [{"fault": "V01"}, {"fault": "V02"}]))[0] == 200
    status, told = await desk.ask("GET", "/admin/faults")
    assert status == 200
    assert [rule["fault"] for rule in told["rules"]] == ["V07", "V01", "V02"]
    assert len(told["catalogue"]) == 38
    assert await desk.ask("DELETE", "/admin/faults?fault=V01") == (200, {"cleared": 1})
    assert await desk.ask("DELETE", "/admin/faults") == (200, {"cleared": 2})
    status, told = await desk.ask("DELETE", "/admin/faults?fault=B7")
    assert (status, told["error"].partition(";")[0]) == (400, "B7 is not a fault")


async def test_nothing_is_added_when_one_of_a_list_is_wrong(desk: Desk) -> None:
    status, told = await desk.ask("POST", "/admin/faults", [{"fault": "V01"}, {"fault": "V01", "on": "x"}])
    assert status == 400
    assert told["error"].startswith("fault 2: V01 strikes no x")
    assert not desk.faults.rules()


async def test_acts_and_books(desk: Desk, bench: Bench) -> None:
    bench.order(Side.BUY, "1", name="mine")
    bench.stop()
    status, told = await desk.ask("POST", "/admin/act", {"act": "by_hand", "params": {"mode": "flip"}})
    assert (status, told["act"]) == (200, "by_hand")
    _, books = await desk.ask("GET", "/admin/books")
    book = books["demo-key"]
    assert book["positions"] == {SYMBOL: "-1"}
    assert [fill["qty"] for fill in book["fills"]["mine"]] == ["1"]
    assert book["placed"]["mine"] == 1
    assert [each["clientAlgoId"] for each in book["open_algo_orders"]] == ["s"]
    spent = sum((Decimal(sums["USDT"]) for sums in book["income"].values()), ZERO)
    assert spent == Decimal(book["wallet"]["USDT"])


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/admin/act", {"act": "nothing"}, "nothing is not an act"),
        ("/admin/act", {"params": {}}, "an act is"),
        ("/admin/act", {"act": "adl", "params": []}, "params is a mapping"),
        ("/admin/act", {"act": "by_hand", "params": {"quantity": "0.0001", "symbol": SYMBOL}}, "uantity"),
        ("/admin/faults", "V01", "a fault is a mapping"),
    ],
)
async def test_mistakes_are_answered_in_one_line(desk: Desk, path: str, body: object, says: str) -> None:
    status, told = await desk.ask("POST", path, body)
    assert status == 400
    assert says in told["error"]
    assert "\n" not in told["error"]


async def test_a_page_in_a_browser_is_refused(desk: Desk) -> None:
    assert (await desk.ask("GET", "/admin/books", Origin="http://127.0.0.1"))[0] == 403


async def test_acts_of_faults_reach_the_accounts(desk: Desk, bench: Bench) -> None:
    bench.order(Side.BUY, "1")
    desk.faults.add(Fault("U07"))
    desk.faults.add(Fault("U10", at_s=0.01, params={"symbol": SYMBOL}))
    while desk.faults.injected["U10"] == 0:  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    assert not desk.faults.errors
    assert [trade.client_id.partition("-")[0].partition("_")[0] for trade in bench.account.trades[1:]] == [
        "autoclose",
        "web",
    ]
