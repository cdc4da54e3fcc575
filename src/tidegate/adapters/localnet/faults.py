"""Fault injection: the rules in force, and the places where the exchange asks them.

The exchange asks at four places, and each costs one look at an empty list while nothing is in force:

- ``run(request, execute)`` around the execution of every request that passed limits and signature;
- ``user_event(account_key, event)`` once for every event of an account, before it is given to its streams;
- ``market_message(stream, payload)`` once for every market message, before it is given to its subscribers;
- the wire, through ``wire_faults.faulty_factory``.

Acts of the venue itself (liquidation, a lapsed listen key, a hand in the account) go through the function given to
``bind``, at the time of their rule.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from tidegate.adapters.localnet.event_faults import Delivery, market_deliveries, user_deliveries
from tidegate.adapters.localnet.fault_answers import MAINTENANCE, UNAVAILABLE
from tidegate.adapters.localnet.fault_catalogue import CATALOGUE, Layer
from tidegate.adapters.localnet.fault_rules import Fault, Rule
from tidegate.adapters.localnet.request_faults import (
    NO_FAULT,
    CutConnection,
    RequestPlan,
    Say,
    operation_of,
    order_names,
    plan_for,
    veiled,
)
from tidegate.adapters.localnet.routes import ApiRequest, ApiResponse
from tidegate.ports import Clock

__all__ = ["Act", "CutConnection", "Fault", "Faults", "RequestPlan", "Wire"]

Act = Callable[[str, Mapping[str, Any]], Awaitable[object]]
"""Makes the venue do something by itself: the name of an act of ``venue_acts`` and its parameters."""

_S_NS = 1_000_000_000


class Wire(Protocol):
    """A connection to the server, as ``wire_faults`` sees it."""

    operation: str

    def cut(self) -> None:
        """Close it."""
        ...


class Faults:
    """The rules in force. ``clock`` dates them, ``rng`` (seeded by the caller) draws for them."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.clock = clock
        self.rng = rng
        self.injected: Counter[str] = Counter()
        self.wires: dict[int, Wire] = {}
        self._rules: dict[Layer, list[Rule]] = {layer: [] for layer in Layer}
        self._numbers = 0
        self._act: Act | None = None
        self._hidden: dict[str, tuple[int, bool]] = {}
        self._down: tuple[int, ApiResponse] | None = None
        self._timers: dict[int, asyncio.Handle] = {}
        self._tasks: dict[int, asyncio.Task[object]] = {}
        self.errors: list[str] = []

    # ---- rules --------------------------------------------------------------------------------------------------

    def bind(self, act: Act) -> None:
        """Say who carries out acts of the venue."""
        self._act = act

    def add(self, fault: Fault) -> Rule:
        """Put a fault in force, ``at_s`` from now. Call it within the running event loop."""
        self._numbers += 1
        rule = Rule(fault, self._numbers, self.clock.monotonic_ns())
        self._rules[fault.kind.layer].append(rule)
        if fault.fault in _BEGINNINGS or fault.kind.layer is Layer.ACT:
            loop = asyncio.get_running_loop()
            soon = fault.at_s <= 0  # in the order of adding; timers of one moment have none
            timer = loop.call_soon(self._begin, rule) if soon else loop.call_later(fault.at_s, self._begin, rule)
            self._timers[rule.number] = timer
        return rule

    def clear(self, fault_id: str | None = None) -> int:
        """End the rules of a fault, or all; says how many. A venue that is down comes up, hidden orders show."""
        gone = [rule for rules in self._rules.values() for rule in rules if fault_id in (None, rule.id)]
        for rule in gone:
            self._rules[rule.fault.kind.layer].remove(rule)
            if (timer := self._timers.pop(rule.number, None)) is not None:
                timer.cancel()
            if rule.id == "B06" and rule.injected and not rule.over(self.clock.monotonic_ns()):
                self._end(rule)
        if fault_id in (None, "V10", "B05"):
            self._down = None
        if fault_id in (None, "V11"):
            self._hidden.clear()
        return len(gone)

    def rules(self) -> list[Rule]:
        """The rules added and not cleared, the spent ones too, in the order of their adding."""
        return sorted((rule for rules in self._rules.values() for rule in rules), key=lambda rule: rule.number)

    def report(self) -> list[dict[str, Any]]:
        """Every rule, with what it did, as the admin endpoint shows it."""
        now_ns = self.clock.monotonic_ns()
        return [
            {
                "number": rule.number,
                "fault": rule.id,
                "title": CATALOGUE[rule.id].title,
                "on": rule.fault.on or CATALOGUE[rule.id].on,
                "params": {name: rule[name] for name in CATALOGUE[rule.id].params},
                "injected": rule.injected,
                "active": rule.active(now_ns),
                "over": rule.over(now_ns),
            }
            for rule in self.rules()
        ]

    def strike(self, rule: Rule, operation: str) -> bool:
        """Let a rule decide about one occasion, and keep the count."""
        if not rule.strikes(operation, self.clock.monotonic_ns(), self.rng):
            return False
        self.injected[rule.id] += 1
        return True

    def of(self, layer: Layer) -> Sequence[Rule]:
        """The rules of a layer; the spent ones leave here, but stay in the counts."""
        return self._rules[layer]

    async def stop(self) -> None:
        """End everything: rules, timers, and what still was to execute late."""
        self.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- requests -----------------------------------------------------------------------------------------------

    async def run(self, request: ApiRequest, execute: Callable[[ApiRequest], Awaitable[ApiResponse]]) -> ApiResponse:
        """Execute a request under the rules in force; what comes back is what the client is told.

        Raises ``CutConnection`` when the client is told nothing: the server then drops the connection.
        """
        if self._down is None and not self._hidden and not self._rules[Layer.REQUEST] and not self._rules[Layer.MARKET]:
            return await execute(request)
        plan = await self.on_request(request)
        if plan.answer is not None:
            return plan.answer
        told = plan.request or request
        if plan.answer_first:
            self.spawn(self._late(plan, told, execute))
            return await self._say(plan.after, plan.hang_s)
        if not plan.execute:
            return await self._say(plan.after, plan.hang_s)
        response = await self._executed(plan, told, execute)
        if plan.ack_delay_s > 0:
            await asyncio.sleep(plan.ack_delay_s)
        if plan.after is not None:
            return await self._say(plan.after, plan.hang_s)
        return veiled(request, response, self.visible) if self._hidden else response

    async def on_request(self, request: ApiRequest) -> RequestPlan:
        """What is to happen with a request. Acts that must come before its execution have happened on return."""
        if self.down:
            assert self._down is not None
            return RequestPlan(answer=self._down[1])
        operation = operation_of(request.method, request.path)
        for rule in (*self._rules[Layer.REQUEST], *self._rules[Layer.MARKET]):
            plan = plan_for(rule, operation, request, self)
            if plan is None:
                continue
            if plan.before is not None:
                await self.act(*plan.before)
            return plan
        return NO_FAULT

    async def _executed(
        self, plan: RequestPlan, request: ApiRequest, execute: Callable[[ApiRequest], Awaitable[ApiResponse]]
    ) -> ApiResponse:
        if plan.hide_s > 0:
            self.hide(order_names(request), plan.hide_s, plan.hide_events)
        response = await execute(request)
        if plan.hide_s > 0:
            self.hide(order_names(request, response), plan.hide_s, plan.hide_events)
        if plan.follow is not None:
            self.spawn(self._follow(plan.follow, response))
        return response if plan.edit is None else plan.edit(response)

    async def _late(
        self, plan: RequestPlan, request: ApiRequest, execute: Callable[[ApiRequest], Awaitable[ApiResponse]]
    ) -> None:
        await asyncio.sleep(plan.delay_s)
        await self._executed(plan, request, execute)

    async def _follow(self, act: tuple[str, Mapping[str, Any]], response: ApiResponse) -> None:
        name, params = act
        await self.act(name, {**params, "answer": response.body.decode()})

    async def _say(self, say: Say, hang_s: float) -> ApiResponse:
        if isinstance(say, ApiResponse):
            return say
        if say == "hang":
            await asyncio.sleep(hang_s)
        raise CutConnection

    # ---- what is hidden, what is down ---------------------------------------------------------------------------

    def hide(self, names: Sequence[str], hide_s: float, events: bool = True) -> None:
        """Make orders invisible to queries, and their events too with ``events``."""
        until_ns = self.clock.monotonic_ns() + round(hide_s * _S_NS)
        self._hidden.update((name, (until_ns, events)) for name in names)

    def visible(self, name: object) -> bool:
        """Whether queries and listings know an order by this id (the venue's or the client's)."""
        if not self._hidden or (entry := self._hidden.get(str(name))) is None:
            return True
        if self.clock.monotonic_ns() < entry[0]:
            return False
        del self._hidden[str(name)]
        return True

    @property
    def down(self) -> bool:
        """Whether the venue is in maintenance: it answers every request alike and takes no streams."""
        if self._down is not None and self.clock.monotonic_ns() >= self._down[0]:
            self._down = None
        return self._down is not None

    def cut_streams(self, operation: str = "streams") -> int:
        """Close the stream connections: ``private``, ``stream`` (market) or ``streams`` (both). Says how many."""
        wanted = ("private", "stream") if operation == "streams" else (operation,)
        cut = [wire for wire in list(self.wires.values()) if wire.operation in wanted]
        for wire in cut:
            wire.cut()
        return len(cut)

    # ---- events and market data ---------------------------------------------------------------------------------

    def user_event(self, account_key: str, event: dict[str, Any]) -> Sequence[Delivery]:
        """What an account's streams are given for one event: pairs of a delay in seconds and an event."""
        rules = self._rules[Layer.USER]
        if not rules and not self._hidden:
            return ((0.0, event),)
        if self._hidden and self._withheld(event):
            return ()
        return user_deliveries(rules, account_key, event, self)

    def market_message(self, stream: str, payload: Any) -> Sequence[Delivery]:
        """What the subscribers of a stream are given for one message: pairs of a delay in seconds and a payload."""
        rules = self._rules[Layer.MARKET]
        return market_deliveries(rules, stream, payload, self) if rules else ((0.0, payload),)

    def _withheld(self, event: dict[str, Any]) -> bool:
        order = event.get("o", event)
        if not isinstance(order, dict):
            return False
        names = [str(order[key]) for key in ("c", "i", "caid", "aid") if key in order]
        return any(not self.visible(name) and self._hidden[name][1] for name in names)

    # ---- acts ---------------------------------------------------------------------------------------------------

    async def act(self, name: str, params: Mapping[str, Any]) -> object:
        """Make the venue do something by itself; ``cut_streams`` is done here. Raises ``LookupError`` when unbound."""
        if name == "cut_streams":
            return self.cut_streams(str(params.get("which", "streams")))
        if self._act is None:
            raise LookupError(f"nobody carries out {name}: no exchange is bound")
        return await self._act(name, params)

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Do something beside the requests; what it raises is kept in ``errors``."""
        self._numbers += 1
        number = self._numbers
        task = self._tasks[number] = asyncio.ensure_future(work)

        def done(ended: asyncio.Task[object]) -> None:
            del self._tasks[number]
            if not ended.cancelled() and (error := ended.exception()) is not None:
                self.errors.append(f"{type(error).__name__}: {error}")

        task.add_done_callback(done)

    def _begin(self, rule: Rule) -> None:
        del self._timers[rule.number]
        acts = _BEGINNINGS.get(rule.id, _plain_act)(rule)
        if not acts or not rule.begins(self.rng):
            return
        self.injected[rule.id] += 1
        if (down_s := _down_s(rule)) is not None:
            answer = UNAVAILABLE if rule.id == "V10" and rule["code"] == "503" else MAINTENANCE
            self._down = self.clock.monotonic_ns() + round(down_s * _S_NS), answer
        self.spawn(self._acts(acts))
        if rule.id == "B06" and rule.for_s is not None:
            self._timers[rule.number] = asyncio.get_running_loop().call_later(rule.for_s, self._end, rule)

    def _end(self, rule: Rule) -> None:
        """Give back what a rule has changed for its time."""
        self._timers.pop(rule.number, None)
        self.spawn(self.act("funding", {"symbol": rule["symbol"], "forced": False}))

    async def _acts(self, acts: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        for name, params in acts:
            await self.act(name, params)


Acts = Sequence[tuple[str, Mapping[str, Any]]]


def _down_s(rule: Rule) -> float | None:
    match rule.id:
        case "V10":
            return rule.for_s if rule.for_s is not None else CATALOGUE["V10"].for_s
        case "B05" if rule["mode"] == "down":
            return rule.number_of("down_s")
        case _:
            return None


def _maintenance(rule: Rule) -> Acts:
    return [*([("cancel_all", {})] if rule["cancel_orders"] else []), ("cut_streams", {})]


def _outage(rule: Rule) -> Acts:
    return [("cut_streams", {})] if rule["mode"] == "down" else []


def _funding(rule: Rule) -> Acts:
    return [("funding", {name: rule[name] for name in ("symbol", "rate", "interval_h")})]


def _lapse(rule: Rule) -> Acts:
    return [("expire_listen_key", {"key": rule["key"], "silent": rule.id == "U02"})]


def _by_itself(rule: Rule) -> Acts:
    return [(str(rule["act"]), {"key": rule["key"], "symbol": rule["symbol"]})]


def _by_hand(rule: Rule) -> Acts:
    return [("by_hand", {name: rule[name] for name in ("mode", "key", "symbol", "quantity", "leverage")})]


def _plain_act(rule: Rule) -> Acts:
    raise LookupError(rule.id)


_BEGINNINGS: Mapping[str, Callable[[Rule], Acts]] = {
    "V10": _maintenance,
    "B05": _outage,
    "B06": _funding,
    "U01": _lapse,
    "U02": _lapse,
    "U07": _by_itself,
    "U10": _by_hand,
}
"""What the venue does when the time of a rule has come. B05 does something only when its mode is ``down``."""
