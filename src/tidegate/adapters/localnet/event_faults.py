"""What faults do with user events and market messages: drop, double, delay, swap, or spoil them."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from tidegate.adapters.localnet.fault_rules import Rule
from tidegate.adapters.localnet.request_faults import Tools

Delivery = tuple[float, Any]
"""What goes out: how many seconds from now, and the message (a dict or list, or bytes as they are)."""


# ---- user events ------------------------------------------------------------------------------------------------


def user_deliveries(rules: Sequence[Rule], account_key: str, event: dict[str, Any], tools: Tools) -> Sequence[Delivery]:
    """Pass one event of an account through the rules in turn."""
    out: list[Delivery] = [(0.0, event)]
    for rule in rules:
        match rule.id:
            case "U04":
                out = [later for each in out for later in _shaken(rule, each, tools)]
            case "U06":
                out = [*out, *_again(rule, account_key, event, tools)]
            case "U08":
                out = [each for each in out if not _one_of_pair(rule, each[1], tools)]
    return out


def _shaken(rule: Rule, delivery: Delivery, tools: Tools) -> Sequence[Delivery]:
    """U04."""
    delay_s, event = delivery
    if not tools.strike(rule, str(event.get("e", ""))):
        return (delivery,)
    mode = str(rule["mode"])
    if mode == "mix":
        mode = tools.rng.choice(("missing", "duplicate", "delayed", "reorder"))
    match mode:
        case "missing":
            return ()
        case "duplicate":
            return (delivery, (delay_s + tools.rng.uniform(0.0, 1.0), event))
        case "delayed":
            # a microsecond apart: timers of one moment have no order
            return ((delay_s + rule.number_of("delay_s") + rule.injected * 1e-6, event),)
        case _:  # reorder: the events of one instant that follow overtake it
            return ((delay_s + tools.rng.uniform(0.05, 0.5), event),)


def _again(rule: Rule, account_key: str, event: dict[str, Any], tools: Tools) -> Sequence[Delivery]:
    """U06. Only while the rule stands are FILLED events kept."""
    old = rule.memory.get(account_key)
    if event.get("e") == "ORDER_TRADE_UPDATE" and event["o"].get("X") == "FILLED":
        rule.memory[account_key] = event
    if old is None or not tools.strike(rule, str(event.get("e", ""))):
        return ()
    return ((0.0, old),)


def _one_of_pair(rule: Rule, event: dict[str, Any], tools: Tools) -> bool:
    """U08: whether this is the half of a fill's pair that is to be missing."""
    if event.get("e") != rule["drop"]:
        return False
    of_fill = event["o"].get("x") == "TRADE" if event["e"] == "ORDER_TRADE_UPDATE" else event["a"].get("m") == "ORDER"
    return of_fill and tools.strike(rule, str(event["e"]))


# ---- market messages --------------------------------------------------------------------------------------------


def family_of(stream: str) -> str:
    """The family of a stream by its name: ``btcusdt@kline_1m`` is ``kline``."""
    kind = stream.partition("@")[2] if "@" in stream and not stream.startswith("!") else stream.lstrip("!")
    kind = kind.partition("@")[0].partition("_")[0].rstrip("0123456789")
    return {"continuousKline": "kline", "rpiDepth": "depth", "miniTicker": "ticker"}.get(kind, kind)


def market_deliveries(rules: Sequence[Rule], stream: str, payload: Any, tools: Tools) -> Sequence[Delivery]:
    """Pass one market message through the rules in turn."""
    family = family_of(stream)
    out: list[Delivery] = [(0.0, payload)]
    for rule in rules:
        out = [
            (delay_s + more_s, told)
            for delay_s, message in out
            for more_s, told in _spoilt(rule, stream, family, message, tools)
        ]
    return out


def _spoilt(rule: Rule, stream: str, family: str, payload: Any, tools: Tools) -> Sequence[Delivery]:
    match rule.id:
        case "B01":
            return _sequence(rule, stream, family, payload, tools)
        case "B02":
            return _absurd(rule, family, payload, tools)
        case "B03" | "B04":
            return _silent(rule, stream, family, payload, tools)
        case "B05":
            return _bars(rule, family, payload, tools)
        case _:
            return ((0.0, payload),)


def _sequence(rule: Rule, stream: str, family: str, payload: Any, tools: Tools) -> Sequence[Delivery]:
    """B01."""
    if (held := rule.memory.pop(stream, None)) is not None:
        return ((0.0, payload), (0.0, held))
    if rule["mode"] == "old_snapshot" or not tools.strike(rule, family):
        return ((0.0, payload),)
    match rule["mode"]:
        case "gap":
            return ()
        case "duplicate":
            return ((0.0, payload), (0.0, payload))
        case _:
            rule.memory[stream] = payload
            return ()


def _absurd(rule: Rule, family: str, payload: Any, tools: Tools) -> Sequence[Delivery]:
    """B02."""
    if not isinstance(payload, dict) or not _quotes(payload, family) or not tools.strike(rule, family):
        return ((0.0, payload),)
    spoilt = _spoilt_book(payload, str(rule["mode"])) if family == "depth" else _spoilt_top(payload, str(rule["mode"]))
    return ((0.0, spoilt),)


def _quotes(payload: Mapping[str, Any], family: str) -> bool:
    if family == "depth":
        return bool(payload.get("b")) or bool(payload.get("a"))
    return all(isinstance(payload.get(key), str) for key in "bBaA")


def _times(price: str, factor: str) -> str:
    """A price times a factor, on as many digits as it had."""
    value = Decimal(price)
    return f"{(value * Decimal(factor)).quantize(value):f}"


def _spoilt_top(quote: Mapping[str, Any], mode: str) -> dict[str, Any]:
    match mode:
        case "crossed":
            return {**quote, "b": _times(quote["a"], "1.01")}
        case "locked":
            return {**quote, "b": quote["a"]}
        case "zero":
            return {**quote, "B": _times(quote["B"], "0")}
        case "negative":
            return {**quote, "B": f"-{quote['B']}"}
        case _:
            return {**quote, "b": _times(quote["b"], "100"), "a": _times(quote["a"], "100")}


def _spoilt_book(diff: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """A diff whose first level is spoilt. Zero quantities are normal in a diff, so ``zero`` empties every level."""
    side = "b" if diff.get("b") else "a"
    price, qty = diff[side][0]
    qty = qty if Decimal(qty) else "1"
    match mode:
        case "crossed":
            across = [_times(price, "1.05" if side == "b" else "0.95"), qty]
            return {**diff, side: [across, *diff[side]]}
        case "locked":
            other = "a" if side == "b" else "b"
            return {**diff, side: [[price, qty], *diff[side][1:]], other: [[price, qty], *diff.get(other, [])]}
        case "zero":
            return {**diff, **{key: [[level[0], "0"] for level in diff.get(key, [])] for key in "ba"}}
        case "negative":
            return {**diff, side: [[price, f"-{qty}"], *diff[side][1:]]}
        case _:
            return {**diff, side: [[_times(price, "100"), qty], *diff[side][1:]]}


def _silent(rule: Rule, stream: str, family: str, payload: Any, tools: Tools) -> Sequence[Delivery]:
    """B03 and B04."""
    if not tools.strike(rule, family):
        return ((0.0, payload),)
    if rule.id == "B03" and rule["mode"] == "repeat":
        return ((0.0, rule.memory.setdefault(stream, payload)),)
    return ()


def _bars(rule: Rule, family: str, payload: Any, tools: Tools) -> Sequence[Delivery]:
    """B05. A revised bar is told wrong first; the truth, which REST holds too, follows."""
    closing = family == "kline" and payload.get("k", {}).get("x") is True
    if rule["mode"] == "down" or not closing or not tools.strike(rule, family):
        return ((0.0, payload),)
    match rule["mode"]:
        case "missing":
            return ()
        case "late":
            return ((rule.number_of("late_s"), payload),)
        case _:
            bar = payload["k"]
            wrong = {**payload, "k": {**bar, "c": bar["o"], "v": _times(bar["v"], "0.5")}}
            return ((0.0, wrong), (1.0, payload))
