"""What request faults do with a request: the plan of each kind."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl

import msgspec

from tidegate.adapters.localnet.fault_answers import UNAVAILABLE, UNKNOWN, error
from tidegate.adapters.localnet.fault_rules import Rule
from tidegate.adapters.localnet.fault_words import ADMIN
from tidegate.adapters.localnet.routes import ApiRequest, ApiResponse
from tidegate.ports import Clock

Say = ApiResponse | Literal["hang", "reset"] | None
"""What the client hears: an answer, nothing for a long time, or a dropped connection. None: the truth."""

_QUERIES = frozenset(
    f"/fapi/v1/{name}"
    for name in ("order", "openOrder", "openOrders", "allOrders", "algoOrder", "openAlgoOrders", "allAlgoOrders")
)
_ACCOUNT = ("account", "balance", "positionRisk", "userTrades", "income", "Config", "rateLimit/order", "adlQuantile")
_LISTEN_KEY_LENGTH = 40
_LEGS: Mapping[str, str] = {"order": "order", "algoOrder": "algo", "batchOrders": "batch"}


class CutConnection(Exception):
    """The client is told nothing: drop its connection."""


class Tools(Protocol):
    """What a plan needs of ``Faults``."""

    clock: Clock
    rng: random.Random

    def strike(self, rule: Rule, operation: str) -> bool:
        """Decide about one occasion and count it."""
        ...


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """What is to happen with a request.

    ``answer`` is given at once and nothing executes. Otherwise the request (or ``request`` in its place) executes
    unless ``execute`` is false: after ``delay_s``, and with ``answer_first`` behind the back of a client that has
    heard ``after`` already. ``after`` is said although it executed, ``edit`` changes the true answer, which is held
    back for ``ack_delay_s``. The order is hidden for ``hide_s``. The act ``before`` precedes it, ``follow`` follows.
    """

    answer: ApiResponse | None = None
    execute: bool = True
    after: Say = None
    hang_s: float = 60.0
    answer_first: bool = False
    delay_s: float = 0.0
    ack_delay_s: float = 0.0
    hide_s: float = 0.0
    hide_events: bool = True
    request: ApiRequest | None = None
    edit: Callable[[ApiResponse], ApiResponse] | None = None
    before: tuple[str, Mapping[str, Any]] | None = None
    follow: tuple[str, Mapping[str, Any]] | None = None


NO_FAULT = RequestPlan()


def operation_of(method: str, path: str) -> str:
    """What a request does: one of ``OPERATIONS``, ``private``/``stream`` for a stream connection, or ``admin``."""
    if path.startswith("/admin/"):
        return ADMIN
    if path.startswith(("/private", "/ws-fapi")):
        return "private"
    name = path.rpartition("/")[2]
    if path.startswith(("/public", "/market/", "/ws", "/stream")) or path == "/market":
        return "private" if len(name) >= _LISTEN_KEY_LENGTH and "@" not in name else "stream"
    if method == "GET":
        if path in _QUERIES:
            return "query"
        return "account" if any(part in path for part in _ACCOUNT) else "market"
    if name == "listenKey":
        return "listen_key"
    if method == "DELETE":
        return "cancel"
    if name in _LEGS:
        return "amend" if method == "PUT" and name == "order" else _LEGS[name]
    return "settings"


def params_of(request: ApiRequest) -> dict[str, str]:
    """The parameters of a request: as the pipeline parsed them, or from its bytes."""
    if request.params:
        return dict(request.params)
    body = parse_qsl(request.raw_body.decode(errors="replace"), keep_blank_values=True)
    return dict([*body, *parse_qsl(request.raw_query.decode(errors="replace"), keep_blank_values=True)])


def account_key_of(request: ApiRequest) -> str:
    """The key that the request came with; empty without one."""
    return request.headers.get("x-mbx-apikey", "")


def order_names(request: ApiRequest, response: ApiResponse | None = None) -> list[str]:
    """The ids of the orders that a request places: the client's, and the venue's once it has answered."""
    rows: list[Any] = [params_of(request)]
    if (batch := rows[0].get("batchOrders")) is not None:
        rows = list(msgspec.json.decode(batch))
    if response is not None and response.status == 200:
        answer = msgspec.json.decode(response.body)
        rows.extend(answer if isinstance(answer, list) else [answer])
    wanted = ("newClientOrderId", "clientAlgoId", "clientOrderId", "orderId", "algoId")
    return [str(row[name]) for row in rows if isinstance(row, dict) for name in wanted if row.get(name)]


def veiled(request: ApiRequest, response: ApiResponse, visible: Callable[[object], bool]) -> ApiResponse:
    """An answer to a query without the orders that are hidden: -2013 for one, a shorter list for several."""
    if request.method != "GET" or request.path not in _QUERIES or response.status != 200:
        return response
    answer = msgspec.json.decode(response.body)
    if isinstance(answer, list):
        return ApiResponse.of([row for row in answer if _seen(row, visible)])
    return response if _seen(answer, visible) else error(-2013)


def _seen(row: Any, visible: Callable[[object], bool]) -> bool:
    names = ("clientOrderId", "orderId", "clientAlgoId", "algoId")
    return all(visible(row[name]) for name in names if row.get(name))


# ---- one plan per fault -----------------------------------------------------------------------------------------


def _said(rule: Rule) -> tuple[Say, float]:
    match str(rule["answer"]):
        case "truth":
            say: Say = None
        case "hang":
            say = "hang"
        case "reset":
            say = "reset"
        case "503":
            say = UNKNOWN
        case code:
            say = error(int(code))
    return say, rule.number_of("hang_s")


def _answered(rule: Rule) -> RequestPlan:
    """V01, V02."""
    say, hang_s = _said(rule)
    return RequestPlan(execute=rule.id == "V01", after=say, hang_s=hang_s)


def _hung(rule: Rule) -> RequestPlan:
    """V03, V04."""
    return RequestPlan(execute=rule.id == "V03", after="hang", hang_s=rule.number_of("hang_s"))


def _late(rule: Rule) -> RequestPlan:
    """V05, V06."""
    say, hang_s = _said(rule)
    return RequestPlan(answer_first=True, delay_s=rule.number_of("late_s"), after=say, hang_s=hang_s)


def _refused(rule: Rule) -> RequestPlan:
    """V08. An item of a batch is refused as an item, with HTTP 200."""
    refusal = error(int(rule["code"]))
    return RequestPlan(after=refusal) if rule["executes"] else RequestPlan(answer=refusal)


def _hidden(rule: Rule) -> RequestPlan:
    say, hang_s = _said(rule)
    return RequestPlan(after=say, hang_s=hang_s, hide_s=rule.number_of("hide_s"), hide_events=not rule["events"])


def _order_of(request: ApiRequest) -> dict[str, Any]:
    """Which order a request is about, as the acts take it."""
    params = params_of(request)
    name = next(
        (params[key] for key in ("origClientOrderId", "clientAlgoId", "newClientOrderId") if params.get(key)), ""
    )
    venue_id = next((params[key] for key in ("orderId", "algoId") if params.get(key)), "")
    return {"key": account_key_of(request), "symbol": params.get("symbol", ""), "client_id": name, "id": venue_id}


def _raced(rule: Rule, request: ApiRequest) -> RequestPlan:
    """V12."""
    if rule["mode"] == "deny":
        return RequestPlan(answer=error(-2011))
    return RequestPlan(before=("fill", {**_order_of(request), "frac": 1.0 if rule["mode"] == "fill" else 0.5}))


def _parts(rule: Rule, request: ApiRequest) -> RequestPlan:
    """V13. The market is made thin first, so that a market order too fills in parts."""
    params = {name: rule[name] for name in ("fills", "dust", "every_s", "fee_asset")}
    order = {**_order_of(request), "quantity": params_of(request).get("quantity", "")}
    return RequestPlan(before=("thin", {**order, **params}), follow=("partial_fills", {**order, **params}))


def _one_fails(rule: Rule, request: ApiRequest, tools: Tools) -> RequestPlan | None:
    """V14. The struck item is made impossible before execution, and its error replaced after it."""
    params = params_of(request)
    name = next((key for key in params if key.lower() in _LISTS), None)
    if name is None:
        return None
    items = list(msgspec.json.decode(params[name]))
    at = int(rule["item"]) if int(rule["item"]) >= 0 else tools.rng.randrange(len(items))
    at = min(at, len(items) - 1)
    items[at] = _impossible(items[at])
    params[name] = msgspec.json.encode(items).decode()
    refusal = msgspec.json.decode(error(int(rule["code"])).body)

    def edit(response: ApiResponse) -> ApiResponse:
        if response.status != 200:
            return response
        rows = msgspec.json.decode(response.body)
        rows[at] = refusal
        return ApiResponse.of(rows)

    return RequestPlan(request=replace(request, params=params), edit=edit)


_LISTS = ("batchorders", "orderidlist", "origclientorderidlist")


def _impossible(item: Any) -> Any:
    if isinstance(item, dict):
        return {**item, "quantity": "0"}
    return "none-such" if isinstance(item, str) else 0


def _keep_alive_fails(rule: Rule, request: ApiRequest) -> RequestPlan:
    answer = UNAVAILABLE if rule["answer"] == "503" else error(-1125)
    if not rule["lapse"]:
        return RequestPlan(answer=answer)
    lapse = {"key": account_key_of(request) or rule["key"], "silent": True}
    return RequestPlan(answer=answer, before=("expire_listen_key", lapse))


def _stop_triggers(request: ApiRequest) -> RequestPlan:
    """U09. A new stop takes the place of the one that rests, so the one that rests triggers under it."""
    order = _order_of(request)
    if request.method == "POST":
        order |= {"client_id": "", "id": ""}
    return RequestPlan(before=("trigger", order))


def _old_snapshot() -> RequestPlan:
    """B01 on the REST snapshot."""

    def edit(response: ApiResponse) -> ApiResponse:
        book = msgspec.json.decode(response.body)
        if response.status == 200 and "lastUpdateId" in book:
            book["lastUpdateId"] = max(1, book["lastUpdateId"] - 1_000_000)
        return ApiResponse.of(book, response.status)

    return RequestPlan(edit=edit)


_ON_REQUESTS = frozenset(f"V{number:02}" for number in range(1, 15) if number not in (9, 10)) | {"U05"}
"""What a request can meet at any time; V10 takes the whole venue down instead."""


def plan_for(rule: Rule, operation: str, request: ApiRequest, tools: Tools) -> RequestPlan | None:
    """The plan of a rule for a request; None when it does not strike."""
    if rule.id == "V09":
        return _limited(rule, operation, tools)
    if rule.id == "B01":
        wanted = rule["mode"] == "old_snapshot" and request.path == "/fapi/v1/depth"
        return _old_snapshot() if wanted and tools.strike(rule, "depth") else None
    if not _applies(rule.id, request) or not tools.strike(rule, operation):
        return None
    return _plan(rule, request, tools)


def _plan(rule: Rule, request: ApiRequest, tools: Tools) -> RequestPlan | None:
    """What a rule that struck does."""
    match rule.id:
        case "V01" | "V02":
            return _answered(rule)
        case "V03" | "V04":
            return _hung(rule)
        case "V05" | "V06":
            return _late(rule)
        case "V07":
            return RequestPlan(answer=error(-1008))
        case "V08":
            return _refused(rule)
        case "V11":
            return _hidden(rule)
        case "V12":
            return _raced(rule, request)
        case "V13":
            return _parts(rule, request)
        case "V14":
            return _one_fails(rule, request, tools)
        case "U03":
            return _keep_alive_fails(rule, request)
        case "U05":
            return RequestPlan(ack_delay_s=rule.number_of("late_s"))
        case _:
            return _stop_triggers(request)


def _applies(fault_id: str, request: ApiRequest) -> bool:
    """What the words of ``on`` cannot say."""
    match fault_id:
        case "U03":
            return request.method == "PUT"
        case "U09":
            return request.path == "/fapi/v1/algoOrder"
        case "V12":
            return request.path == "/fapi/v1/order"
        case "V14":
            return any(key.lower() in _LISTS for key in params_of(request))
        case _:
            return fault_id in _ON_REQUESTS


def _limited(rule: Rule, operation: str, tools: Tools) -> RequestPlan | None:
    """V09: 429 until its time has passed; who does not heed it is banned with 418."""
    now_ns = tools.clock.monotonic_ns()
    memory = rule.memory
    if "until_ns" not in memory:
        if not tools.strike(rule, operation):
            return None
        memory.update(until_ns=now_ns + round(rule.number_of("retry_after_s") * 1e9), left=int(rule["patience"]))
        if memory["left"] == 0:
            _ban(rule, now_ns)
    elif now_ns >= memory["until_ns"]:
        if rule.over(now_ns):
            return None
        memory.clear()
        return _limited(rule, operation, tools)
    elif "banned" not in memory and memory["left"] >= 0:
        memory["left"] -= 1
        if memory["left"] < 0:
            _ban(rule, now_ns)
    return RequestPlan(answer=_limit_answer(rule, now_ns, tools.clock.now_ns()))


def _ban(rule: Rule, now_ns: int) -> None:
    rule.memory.update(banned=True, until_ns=now_ns + round(rule.number_of("ban_s") * 1e9))


def _limit_answer(rule: Rule, now_ns: int, wall_ns: int) -> ApiResponse:
    left_ns = rule.memory["until_ns"] - now_ns
    headers = {"Retry-After": str(-(-left_ns // 1_000_000_000))} if rule["header"] else {}
    if "banned" in rule.memory:
        until_ms = (wall_ns + left_ns) // 1_000_000
        text = f"Way too many requests; IP banned until {until_ms}. Please use the websocket for live updates."
        return replace(error(-1003, text, 418), headers=headers)
    return replace(error(-1003), headers=headers)
