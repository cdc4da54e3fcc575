"""Rules, scenarios, and what faults do with requests and events. The exchange here is a few lines of bookkeeping."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.localnet.event_faults import family_of
from tidegate.adapters.localnet.fault_catalogue import CATALOGUE, Layer
from tidegate.adapters.localnet.fault_rules import Fault, Rule, fault_of
from tidegate.adapters.localnet.fault_words import WORDS
from tidegate.adapters.localnet.faults import CutConnection, Faults
from tidegate.adapters.localnet.request_faults import operation_of, order_names
from tidegate.adapters.localnet.routes import ApiRequest, ApiResponse
from tidegate.adapters.localnet.scenario import load_scenario, parse_scenario
from tidegate.domain.errors import ConfigError


@dataclass
class HandClock:
    """A clock that a test sets."""

    at_ns: int = 1_763_800_000_000_000_000

    def now_ns(self) -> int:
        return self.at_ns

    def monotonic_ns(self) -> int:
        return self.at_ns

    async def sleep_until(self, at_ns: int) -> None:
        self.at_ns = max(self.at_ns, at_ns)

    def advance(self, seconds: float) -> None:
        self.at_ns += round(seconds * 1e9)


@dataclass
class Venue:
    """Places orders and lists them; that is all it can."""

    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    acts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def execute(self, request: ApiRequest) -> ApiResponse:
        match request.method, request.path:
            case "POST", "/fapi/v1/order":
                return ApiResponse.of(self._place(request.params["newClientOrderId"]))
            case "POST", "/fapi/v1/batchOrders":
                rows = msgspec.json.decode(request.params["batchOrders"])
                return ApiResponse.of([self._item(row) for row in rows])
            case "GET", "/fapi/v1/order":
                found = self.orders.get(request.params["origClientOrderId"])
                return ApiResponse.of({"code": -2013}, 400) if found is None else ApiResponse.of(found)
            case "GET", "/fapi/v1/openOrders":
                return ApiResponse.of(list(self.orders.values()))
            case "GET", "/fapi/v1/depth":
                return ApiResponse.of({"lastUpdateId": 5_000_000, "bids": [], "asks": []})
        return ApiResponse.of({})

    def _place(self, name: str) -> dict[str, Any]:
        self.orders[name] = {"orderId": 7000 + len(self.orders), "clientOrderId": name}
        return self.orders[name]

    def _item(self, row: dict[str, Any]) -> dict[str, Any]:
        if Decimal(row["quantity"]) <= 0:
            return {"code": -4003, "msg": "Quantity less than or equal to zero."}
        return self._place(row["newClientOrderId"])

    async def act(self, name: str, params: Any) -> object:
        self.acts.append((name, dict(params)))
        return None


@dataclass
class Bench:
    """Faults, a venue behind them and a clock."""

    clock: HandClock = field(default_factory=HandClock)
    venue: Venue = field(default_factory=Venue)
    faults: Faults = field(init=False)

    def __post_init__(self) -> None:
        self.faults = Faults(self.clock, random.Random(7))
        self.faults.bind(self.venue.act)

    async def send(self, method: str, path: str, **params: str) -> tuple[int, Any]:
        request = ApiRequest(method, f"/fapi/v1/{path}", b"", b"", {"x-mbx-apikey": "demo-key"}, "127.0.0.1", params)
        answer = await self.faults.run(request, self.venue.execute)
        return answer.status, msgspec.json.decode(answer.body)

    async def place(self, name: str = "a") -> tuple[int, Any]:
        return await self.send("POST", "order", symbol="BTCUSDT", quantity="1", newClientOrderId=name)

    async def query(self, name: str = "a") -> tuple[int, Any]:
        return await self.send("GET", "order", symbol="BTCUSDT", origClientOrderId=name)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def eventually(true: Callable[[], bool]) -> None:
    """Let tasks run until something holds; a hang ends with the test's own time limit."""
    while not true():  # noqa: ASYNC110  there is nothing to wait on but the effect itself
        await asyncio.sleep(0.001)


# ---- catalogue, rules, scenarios --------------------------------------------------------------------------------


def test_catalogue_holds_every_fault_of_the_brief() -> None:
    wanted = [f"{letter}{number:02}" for letter, last in (("N", 8), ("V", 14), ("U", 10), ("B", 6))
              for number in range(1, last + 1)]  # fmt: skip
    assert list(CATALOGUE) == wanted
    for kind in CATALOGUE.values():
        assert kind.title
        assert kind.how
        assert set(kind.on.split("|")) <= set(WORDS[kind.layer]), kind.id
        assert kind.count is not None or kind.for_s is not None, f"{kind.id} never ends"
    assert {each for each, kind in CATALOGUE.items() if not kind.ordinary} == {"V06", "V07", "V09", "V10", "V11"}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"fault": "VV01"}, "VV01 is not a fault; did you mean V01?"),
        ({"fault": "v05"}, "v05 is not a fault; did you mean V05?"),
        ({"fault": "V01", "chance": 0.5}, "chance is not a key of a fault; there are"),
        ({"fault": "V01", "probabilty": 0.5}, "did you mean probability?"),
        ({"fault": "V01", "probability": 1.5}, "probability 1.5 is not above 0"),
        ({"fault": "V01", "on": "ordre"}, "V01 strikes no ordre; did you mean order?"),
        ({"fault": "N07", "on": "depth"}, "N07 strikes no depth"),
        ({"fault": "V05", "params": {"late": 1}}, "late is not a parameter of V05; did you mean late_s?"),
        ({"fault": "V12", "params": {"mode": "fil"}}, "params.mode is fil; did you mean fill?"),
        ({"fault": "V05", "params": {"late_s": "soon"}}, "params.late_s is soon, not a number"),
        ({"fault": "V13", "params": {"fills": 1.5}}, "params.fills is 1.5, not a whole number"),
        ({"fault": "V13", "params": {"dust": 1}}, "params.dust is 1, not true or false"),
        ({"fault": "V01", "for_s": -1}, "for_s -1.0 is negative"),
        ({"fault": "V01", "count": 0}, "count 0 is below 1"),
        ({"fault": "V01", "at_s": "x"}, "Expected `float`, got `str` - at `$.at_s`"),
        (["V01"], "a fault is a mapping"),
    ],
)
def test_a_wrong_fault_is_one_clear_line(raw: object, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fault_of(raw, "x.json: fault 1")
    assert str(caught.value).startswith("x.json: fault 1: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "params"),
    [
        ("V13", {"fills": 3, "dust": False, "every_s": 1, "fee_asset": "USDT"}),
        ("V08", {"code": -1021, "executes": True}),
        ("U10", {"mode": "flip", "key": "k", "symbol": "BTCUSDT", "quantity": "0.1", "leverage": 9}),
    ],
)
def test_parameters_of_every_type_are_taken(fault: str, params: dict[str, Any]) -> None:
    rule = Rule(fault_of({"fault": fault, "params": params}, "x"), 1, 0)
    assert {name: rule[name] for name in params} == params


def test_scenarios_read_alike_in_json_and_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"faults": [{"fault": "V01", "at_s": 5, "params": {"answer": "hang"}}]}')
    (tmp_path / "a.yaml").write_text("- fault: V01\n  at_s: 5\n  params: {answer: hang}\n")
    assert load_scenario(tmp_path / "a.json") == load_scenario(tmp_path / "a.yaml")
    assert load_scenario(tmp_path / "a.yaml") == (Fault("V01", at_s=5.0, params={"answer": "hang"}),)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.toml", "", "a scenario is a file of .json, .yaml, .yml"),
        ("a.json", "[", "not readable"),
        ("a.yaml", "a: [", "not readable"),
        ("a.yaml", "a: 1", "a scenario is a list of faults"),
        ("a.yaml", "- fault: V01\n- fault: X\n", "fault 2: X is not a fault"),
    ],
)
def test_a_wrong_scenario_is_one_clear_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_scenario(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_scenario_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: No such file"):
        load_scenario(tmp_path / "none.json")


@given(probability=st.floats(0.05, 1.0), skip=st.integers(0, 5), count=st.integers(1, 5), tries=st.integers(0, 40))
def test_a_rule_never_strikes_more_than_its_count_nor_what_it_skips(
    probability: float, skip: int, count: int, tries: int
) -> None:
    rule = Rule(Fault("V01", probability=probability, skip=skip, count=count), 1, 0)
    rng = random.Random(3)
    struck = [rule.strikes("order", 0, rng) for _ in range(tries)]
    assert sum(struck) == rule.injected <= count
    assert not any(struck[:skip])
    if probability == 1.0:
        assert sum(struck) == max(0, min(count, tries - skip))


def test_a_rule_strikes_only_in_its_window_and_only_what_it_names() -> None:
    rule = Rule(Fault("V01", at_s=10, for_s=5, on="order|cancel"), 1, 0)
    times = {at_s: rule.strikes("order", round(at_s * 1e9), random.Random(1)) for at_s in (9.9, 10.0, 14.9, 15.0)}
    assert times == {9.9: False, 10.0: True, 14.9: True, 15.0: False}
    assert not rule.strikes("algo", 12_000_000_000, random.Random(1))
    assert rule.strikes("cancel", 12_000_000_000, random.Random(1))
    assert not Rule(Fault("N04"), 1, 0).hits(operation_of("GET", "/admin/books"))


def test_operations_are_told_by_method_and_path() -> None:
    asked = {
        ("POST", "/fapi/v1/order"): "order",
        ("POST", "/fapi/v1/algoOrder"): "algo",
        ("PUT", "/fapi/v1/batchOrders"): "batch",
        ("PUT", "/fapi/v1/order"): "amend",
        ("DELETE", "/fapi/v1/allOpenOrders"): "cancel",
        ("DELETE", "/fapi/v1/algoOrder"): "cancel",
        ("GET", "/fapi/v1/openAlgoOrders"): "query",
        ("GET", "/fapi/v3/positionRisk"): "account",
        ("GET", "/fapi/v1/userTrades"): "account",
        ("POST", "/fapi/v1/leverage"): "settings",
        ("PUT", "/fapi/v1/listenKey"): "listen_key",
        ("DELETE", "/fapi/v1/listenKey"): "listen_key",
        ("GET", "/fapi/v1/depth"): "market",
        ("GET", "/private/ws"): "private",
        ("GET", "/ws-fapi/v1"): "private",
        ("GET", "/public/stream"): "stream",
        ("GET", "/market/ws/btcusdt@kline_1m"): "stream",
        ("GET", "/stream"): "stream",
        ("GET", "/ws/" + "k" * 64): "private",
    }
    assert {each: operation_of(*each) for each in asked} == asked


def test_families_are_told_by_the_name_of_the_stream() -> None:
    names = {
        "btcusdt@depth@100ms": "depth",
        "btcusdt@depth20": "depth",
        "btcusdt@kline_1m": "kline",
        "btcusdt_perpetual@continuousKline_5m": "kline",
        "!bookTicker": "bookTicker",
        "!markPrice@arr@1s": "markPrice",
        "btcusdt@markPrice@1s": "markPrice",
        "!miniTicker@arr": "ticker",
    }
    assert {name: family_of(name) for name in names} == names


# ---- requests ---------------------------------------------------------------------------------------------------


async def test_without_rules_the_truth_is_told(bench: Bench) -> None:
    assert (await bench.place())[0] == 200
    assert (await bench.query())[0] == 200


@pytest.mark.parametrize(("fault", "executed"), [("V01", True), ("V02", False)])
@pytest.mark.parametrize(("answer", "status"), [("503", 503), ("-1007", 408), ("-1006", 503), ("-1000", 503)])
async def test_unknown_answers_with_and_without_execution(
    bench: Bench, fault: str, executed: bool, answer: str, status: int
) -> None:
    rule = bench.faults.add(Fault(fault, params={"answer": answer}))
    told, body = await bench.place()
    assert told == status
    if answer == "503":
        assert body["msg"] == "Unknown error, please check your request or try again later."
    assert ("a" in bench.venue.orders) is executed
    assert (await bench.query())[0] == (200 if executed else 400)
    assert rule.injected == bench.faults.injected[fault] == 1
    assert (await bench.place("b"))[0] == 200  # once by default


@pytest.mark.parametrize(("fault", "executed"), [("V03", True), ("V04", False)])
async def test_hanging_answers_end_in_a_dropped_connection(bench: Bench, fault: str, executed: bool) -> None:
    bench.faults.add(Fault(fault, params={"hang_s": 0.01}))
    with pytest.raises(CutConnection):
        await bench.place()
    assert ("a" in bench.venue.orders) is executed


@pytest.mark.parametrize("fault", ["V05", "V06"])
async def test_late_execution_comes_after_the_answer_and_after_a_query(bench: Bench, fault: str) -> None:
    bench.faults.add(Fault(fault, params={"late_s": 0.05}))
    assert (await bench.place())[0] == 503
    assert (await bench.query())[1]["code"] == -2013
    await eventually(lambda: "a" in bench.venue.orders)
    assert (await bench.query())[0] == 200


async def test_overload_throttles_everything_until_it_ends(bench: Bench) -> None:
    bench.faults.add(Fault("V07"))
    for answer in (await bench.place(), await bench.query(), await bench.send("DELETE", "order")):
        assert (answer[0], answer[1]["code"]) == (503, -1008)
    bench.clock.advance(7200)
    assert (await bench.place())[0] == 200


@pytest.mark.parametrize(
    ("code", "status"), [(-2010, 400), (-1021, 400), (-2015, 401), (-1015, 429), (-1001, 503), (-9999, 400)]
)
async def test_any_code_can_be_the_answer(bench: Bench, code: int, status: int) -> None:
    bench.faults.add(Fault("V08", params={"code": code}))
    answer = await bench.place()
    assert (answer[0], answer[1]["code"]) == (status, code)
    assert not bench.venue.orders


async def test_a_bare_status_is_no_json(bench: Bench) -> None:
    bench.faults.add(Fault("V08", params={"code": 502, "executes": True}))
    with pytest.raises(msgspec.DecodeError):
        await bench.place()
    assert "a" in bench.venue.orders


async def test_429_turns_into_a_ban_for_who_does_not_heed_it(bench: Bench) -> None:
    rule = bench.faults.add(Fault("V09", params={"patience": 2}))
    assert [(await bench.place())[0] for _ in range(4)] == [429, 429, 429, 418]
    _, body = await bench.query()
    assert body["code"] == -1003
    assert f"banned until {bench.clock.now_ns() // 1_000_000 + 120_000}" in body["msg"]
    bench.clock.advance(119)
    assert (await bench.query())[0] == 418
    bench.clock.advance(1)
    assert (await bench.place())[0] == 200
    assert rule.injected == 1


async def test_429_says_when_and_ends_for_who_waits(bench: Bench) -> None:
    bench.faults.add(Fault("V09"))
    request = ApiRequest("GET", "/fapi/v1/time", b"", b"", {}, "127.0.0.1")
    assert (await bench.faults.run(request, bench.venue.execute)).headers["Retry-After"] == "10"
    bench.clock.advance(10)
    assert (await bench.faults.run(request, bench.venue.execute)).status == 200


async def test_maintenance_closes_everything_and_ends(bench: Bench) -> None:
    bench.faults.add(Fault("V10"))
    await eventually(lambda: bool(bench.venue.acts))
    assert bench.venue.acts == [("cancel_all", {})]
    assert bench.faults.down
    assert (await bench.query())[0] == 503
    bench.clock.advance(1800)
    assert not bench.faults.down
    assert (await bench.place())[0] == 200


async def test_an_accepted_order_is_invisible_to_every_query_for_its_time(bench: Bench) -> None:
    await bench.place("seen")
    bench.faults.add(Fault("V11"))
    assert (await bench.place("lost"))[0] == 503
    assert (await bench.query("lost"))[1]["code"] == -2013
    assert [row["clientOrderId"] for row in (await bench.send("GET", "openOrders"))[1]] == ["seen"]
    event = {"e": "ORDER_TRADE_UPDATE", "o": {"c": "lost", "i": 7001, "x": "NEW"}}
    assert bench.faults.user_event("demo-key", event) == ()
    assert not bench.faults.visible(7001)
    bench.clock.advance(2400)
    assert (await bench.query("lost"))[0] == 200
    assert bench.faults.user_event("demo-key", event) == ((0.0, event),)


async def test_a_fill_overtakes_the_cancel(bench: Bench) -> None:
    bench.faults.add(Fault("V12"))
    await bench.send("DELETE", "order", symbol="BTCUSDT", origClientOrderId="a")
    assert bench.venue.acts == [
        ("fill", {"key": "demo-key", "symbol": "BTCUSDT", "client_id": "a", "id": "", "frac": 1.0})
    ]


async def test_partial_fills_are_asked_for_after_the_order(bench: Bench) -> None:
    bench.faults.add(Fault("V13", params={"fills": 3}))
    assert (await bench.place())[0] == 200
    await eventually(lambda: len(bench.venue.acts) == 2)
    assert [name for name, _ in bench.venue.acts] == ["thin", "partial_fills"]
    assert bench.venue.acts[1][1]["fills"] == 3
    assert msgspec.json.decode(bench.venue.acts[1][1]["answer"])["clientOrderId"] == "a"


async def test_one_of_a_batch_fails_and_the_others_execute(bench: Bench) -> None:
    bench.faults.add(Fault("V14", params={"item": 1}))
    items = [{"symbol": "BTCUSDT", "quantity": "1", "newClientOrderId": name} for name in "abc"]
    status, rows = await bench.send("POST", "batchOrders", batchOrders=msgspec.json.encode(items).decode())
    assert status == 200
    assert [row.get("code") for row in rows] == [None, -2019, None]
    assert list(bench.venue.orders) == ["a", "c"]


async def test_a_failed_keep_alive_lapses_the_key(bench: Bench) -> None:
    bench.faults.add(Fault("U03"))
    assert (await bench.send("POST", "listenKey"))[0] == 200
    assert (await bench.send("PUT", "listenKey"))[1]["code"] == -1125
    assert bench.venue.acts == [("expire_listen_key", {"key": "demo-key", "silent": True})]


async def test_the_acknowledgement_comes_after_the_execution(bench: Bench) -> None:
    bench.faults.add(Fault("U05", params={"late_s": 0.05}))
    answering = asyncio.ensure_future(bench.place())
    await eventually(lambda: "a" in bench.venue.orders)
    assert not answering.done()
    assert (await answering)[0] == 200


async def test_the_stop_triggers_under_its_cancel_only(bench: Bench) -> None:
    bench.faults.add(Fault("U09"))
    await bench.send("DELETE", "order", symbol="BTCUSDT", origClientOrderId="a")
    assert not bench.venue.acts
    await bench.send("DELETE", "algoOrder", clientAlgoId="s")
    assert [(name, act["client_id"]) for name, act in bench.venue.acts] == [("trigger", "s")]


async def test_the_snapshot_is_older_than_every_buffer(bench: Bench) -> None:
    bench.faults.add(Fault("B01", params={"mode": "old_snapshot"}))
    assert (await bench.send("GET", "depth"))[1]["lastUpdateId"] == 4_000_000
    assert (await bench.send("GET", "depth"))[1]["lastUpdateId"] == 5_000_000


async def test_acts_happen_at_their_time_and_only_while_in_force(bench: Bench) -> None:
    for fault in ("U01", "U02", "U07", "U10"):
        bench.faults.add(Fault(fault))
    bench.faults.add(Fault("B06", params={"symbol": "BTCUSDT"}))
    kept = bench.faults.add(Fault("U01", at_s=0.01))
    await eventually(lambda: len(bench.venue.acts) == 5)
    assert [name for name, _ in bench.venue.acts] == [
        "expire_listen_key",
        "expire_listen_key",
        "liquidate",
        "by_hand",
        "funding",
    ]
    assert [act["silent"] for name, act in bench.venue.acts[:2]] == [False, True]
    bench.faults.clear()
    assert kept.injected == 0
    assert not bench.faults.rules()
    assert bench.faults.injected["U01"] == 1


async def test_what_an_act_raises_is_kept(bench: Bench) -> None:
    faults = Faults(bench.clock, random.Random(1))
    faults.add(Fault("U01"))
    await eventually(lambda: bool(faults.errors))
    assert faults.errors == ["LookupError: nobody carries out expire_listen_key: no exchange is bound"]


async def test_stop_drops_what_was_still_to_execute(bench: Bench) -> None:
    bench.faults.add(Fault("V06"))
    await bench.place()
    await bench.faults.stop()
    assert not bench.venue.orders


def test_ids_are_read_from_the_bytes_when_nothing_was_parsed() -> None:
    request = ApiRequest("POST", "/fapi/v1/order", b"symbol=X", b"newClientOrderId=a%2Fb", {}, "")
    assert order_names(request, ApiResponse.of({"orderId": 5, "clientOrderId": "a/b"})) == ["a/b", "a/b", "5"]


# ---- events -----------------------------------------------------------------------------------------------------

ORDER = {"e": "ORDER_TRADE_UPDATE", "o": {"c": "a", "i": 1, "x": "TRADE", "X": "FILLED", "t": 9}}
ACCOUNT = {"e": "ACCOUNT_UPDATE", "a": {"m": "ORDER", "B": [], "P": []}}


def test_without_rules_events_and_messages_pass_as_they_are(bench: Bench) -> None:
    assert bench.faults.user_event("k", ORDER) == ((0.0, ORDER),)
    assert bench.faults.market_message("btcusdt@depth", {"u": 1}) == ((0.0, {"u": 1}),)


@pytest.mark.parametrize(("mode", "told"), [("missing", 0), ("duplicate", 2), ("delayed", 1), ("reorder", 1)])
async def test_user_events_are_shaken(bench: Bench, mode: str, told: int) -> None:
    bench.faults.add(Fault("U04", on="ORDER_TRADE_UPDATE", params={"mode": mode}))
    out = bench.faults.user_event("k", ORDER)
    assert len(out) == told
    assert all(event == ORDER for _, event in out)
    assert bench.faults.user_event("k", ACCOUNT) == [(0.0, ACCOUNT)]
    if mode == "delayed":
        assert out[0][0] == pytest.approx(30.0, abs=1e-5)


async def test_an_old_fill_comes_again_with_a_later_event(bench: Bench) -> None:
    bench.faults.add(Fault("U06"))
    assert bench.faults.user_event("k", ORDER) == [(0.0, ORDER)]
    assert bench.faults.user_event("other", ACCOUNT) == [(0.0, ACCOUNT)]
    assert bench.faults.user_event("k", ACCOUNT) == [(0.0, ACCOUNT), (0.0, ORDER)]
    assert bench.faults.user_event("k", ACCOUNT) == [(0.0, ACCOUNT)]


@pytest.mark.parametrize(
    ("drop", "gone", "kept"), [("ORDER_TRADE_UPDATE", ORDER, ACCOUNT), ("ACCOUNT_UPDATE", ACCOUNT, ORDER)]
)
async def test_half_of_a_pair_is_missing(bench: Bench, drop: str, gone: Any, kept: Any) -> None:
    bench.faults.add(Fault("U08", params={"drop": drop}))
    new = {"e": "ORDER_TRADE_UPDATE", "o": {"x": "NEW"}}
    funding = {"e": "ACCOUNT_UPDATE", "a": {"m": "FUNDING_FEE"}}
    for event in (new, funding, kept):
        assert bench.faults.user_event("k", event) == [(0.0, event)]
    assert bench.faults.user_event("k", gone) == []


# ---- market data ------------------------------------------------------------------------------------------------


def depth(u: int) -> dict[str, Any]:
    return {"e": "depthUpdate", "U": u, "u": u, "pu": u - 1, "b": [["100.10", "1.5"]], "a": [["100.20", "2"]]}


async def test_sequences_break(bench: Bench) -> None:
    def told(mode: str) -> list[int]:
        bench.faults.clear()
        bench.faults.add(Fault("B01", skip=1, params={"mode": mode}))
        return [each["u"] for u in range(1, 6) for _, each in bench.faults.market_message("x@depth", depth(u))]

    assert told("gap") == [1, 3, 4, 5]
    assert told("duplicate") == [1, 2, 2, 3, 4, 5]
    assert told("reorder") == [1, 3, 2, 4, 5]


@pytest.mark.parametrize("mode", ["crossed", "locked", "zero", "negative", "absurd"])
async def test_quotes_are_spoilt(bench: Bench, mode: str) -> None:
    bench.faults.add(Fault("B02", count=2, params={"mode": mode}))
    top = {"e": "bookTicker", "b": "100.10", "B": "5", "a": "100.20", "A": "4"}
    ((_, spoilt),) = bench.faults.market_message("x@bookTicker", top)
    bid, qty, ask = Decimal(spoilt["b"]), Decimal(spoilt["B"]), Decimal(spoilt["a"])
    holds = {
        "crossed": bid > ask,
        "locked": bid == ask,
        "zero": qty == 0,
        "negative": qty == -5,
        "absurd": bid == 10010,
    }
    assert holds[mode]
    assert "E" not in spoilt["b"]
    ((_, diff),) = bench.faults.market_message("x@depth", depth(1))
    bids = {price: Decimal(size) for price, size in diff["b"]}
    book = {
        "crossed": max(map(Decimal, bids)) > Decimal("100.20"),
        "locked": ["100.10", "1.5"] in diff["a"],
        "zero": not any(bids.values()),
        "negative": bids.get("100.10") == Decimal("-1.5"),
        "absurd": "10010.00" in bids,
    }
    assert book[mode]
    assert bench.faults.market_message("x@depth", depth(2)) == [(0.0, depth(2))]


async def test_silence_and_repetition_and_one_silent_family(bench: Bench) -> None:
    bench.faults.add(Fault("B03", params={"mode": "repeat"}))
    assert [each["u"] for u in (1, 2, 3) for _, each in bench.faults.market_message("x@depth", depth(u))] == [1, 1, 1]
    bench.faults.clear()
    bench.faults.add(Fault("B04", on="depth"))
    assert bench.faults.market_message("x@depth", depth(1)) == []
    assert bench.faults.market_message("x@bookTicker", {"b": "1"}) == [(0.0, {"b": "1"})]
    bench.clock.advance(30)
    assert bench.faults.market_message("x@depth", depth(1)) == [(0.0, depth(1))]
    bench.faults.add(Fault("B03"))
    assert bench.faults.market_message("x@kline_1m", {"k": {}}) == []


async def test_closing_bars_are_missing_revised_or_late(bench: Bench) -> None:
    def told(mode: str, closed: bool = True) -> list[tuple[float, str]]:
        bench.faults.clear()
        bench.faults.add(Fault("B05", params={"mode": mode}))
        bar = {"e": "kline", "k": {"o": "1.0", "c": "2.0", "v": "10.0", "x": closed}}
        return [(delay_s, each["k"]["c"]) for delay_s, each in bench.faults.market_message("x@kline_1m", bar)]

    assert told("missing") == []
    assert told("revised") == [(0.0, "1.0"), (1.0, "2.0")]
    assert told("late") == [(20.0, "2.0")]
    assert told("missing", closed=False) == [(0.0, "2.0")]


async def test_the_report_says_what_each_rule_did(bench: Bench) -> None:
    bench.faults.add(Fault("V02"))
    bench.faults.add(Fault("N04", for_s=5))
    await bench.place()
    first, second = bench.faults.report()
    assert (first["fault"], first["injected"], first["over"]) == ("V02", 1, True)
    assert (second["fault"], second["injected"], second["active"]) == ("N04", 0, True)
    assert first["params"] == {"answer": "503", "hang_s": 60.0}
    assert CATALOGUE["N04"].layer is Layer.WIRE


def test_a_scenario_of_every_fault_is_valid() -> None:
    text = msgspec.json.encode([{"fault": name} for name in CATALOGUE])
    assert [each.fault for each in parse_scenario(text, "all")] == list(CATALOGUE)
