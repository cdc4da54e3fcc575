"""An explanation in sentences."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

from tidegate.app.explain import Explanation, FillStep, Regime, Target, Told, Wished
from tidegate.app.tally import plain
from tidegate.domain.ids import Nanos

_UNBOUND = {
    "weight": "no limit but the wish itself",
    "flat": "no wish: flat",
    "flatten": "everything is being closed",
    "stop_passed": "the price has passed the stop already",
}
_PURPOSES = {
    "TARGET": "to reach a target",
    "PROTECTION": "to protect the position",
    "FLATTEN": "to leave the position",
}


def sentences(found: Explanation) -> Iterator[str]:
    """The chain of reasons, one line each, in the order in which they worked."""
    order = found.order
    yield f"{_named(order)} on {found.instrument}, {_PURPOSES[order.purpose]}."
    last = "" if found.price is None else f"; {found.instrument} had closed at {found.price:g}"
    yield f"Decided at {_time(order.approved_ns)} (record {order.record}) on {found.because}{last}."
    yield from _wishes(found.wishes)
    yield from _regime(found.regime)
    yield f"Position before, by the executions in this journal: {plain(found.held)}."
    if found.target is not None:
        yield from _target(found.target)
    yield f"Risk approved it as {order.id}{' (reduce-only)' if order.reduce_only else ''}."
    yield from (f"Said at the same time: {each}." for each in found.alerts)
    if order.parent is not None:
        others = "it is the only order of it" if not found.siblings else f"{len(found.siblings)} more"
        yield f"It carries out the intention {order.parent}: {others}."
        yield from (f"  {each.id}: {each.side} {plain(each.qty)}, {_end(each)}." for each in found.siblings)
    yield from _life(order)
    if order.purpose == "TARGET":
        yield from _stop(found.stop)


def _named(order: Told) -> str:
    price = "".join(
        f" {word} {plain(value)}" for word, value in (("limit", order.limit), ("trigger", order.trigger)) if value
    )
    return f"Order {order.id}: {order.side} {plain(order.qty)} {order.order_type}{price}"


def _wishes(wishes: list[Wished]) -> Iterator[str]:
    if not wishes:
        yield "No strategy had stated a wish in this journal."
    for wish in wishes:
        stop = "" if wish.stop is None else f", stop at {wish.stop:g}"
        yield f"{wish.strategy} wished {wish.strength:+.4g} of its budget since {_time(wish.since_ns)}{stop}."


def _regime(regime: Regime | None) -> Iterator[str]:
    if regime is None:
        yield "No regime had been read: the strategies have even shares."
        return
    weights = ", ".join(f"{name} {share:.1%}" for name, share in regime.weights.items())
    yield f"Regime {regime.scenario} since {_time(regime.since_ns)} ({regime.reason}); shares of the budget: {weights}."


def _target(target: Target) -> Iterator[str]:
    qty = "unchanged" if target.qty is None else plain(target.qty)
    bound = "" if target.binding_limit is None else _UNBOUND.get(target.binding_limit, f"limit {target.binding_limit}")
    yield f"Target {qty}, set at {_time(target.ts_ns)}{f'; what bound it: {bound}' if bound else ''}."
    if target.rule is not None:
        yield f"The rule {target.rule} objected ({target.refusal}): {target.detail}."


def _life(order: Told) -> Iterator[str]:
    happened = [(step.ts_ns, f"{step.what}{f', {step.detail}' if step.detail else ''}") for step in order.steps]
    happened += [(fill.ts_ns, _fill(fill)) for fill in order.fills]
    for ts_ns, text in sorted(happened, key=lambda each: each[0]):
        yield f"{_time(ts_ns)}: {text}."
    yield f"It is {_end(order)}."


def _fill(fill: FillStep) -> str:
    text = f"filled {plain(fill.qty)} at {plain(fill.price)}, fee {plain(fill.fee)} {fill.fee_asset}"
    if fill.reference is not None and fill.slippage_usdt is not None:
        bps = fill.slippage_usdt / (fill.qty * fill.reference) * 10_000
        text += f", slippage {fill.slippage_usdt:.4f} USDT ({bps:.2f} bps against {plain(fill.reference)})"
    return text if fill.cause == "ORDER" else f"{text} ({fill.cause})"


def _end(order: Told) -> str:
    text = order.state
    if order.filled:
        average = "" if order.average_price is None else f" at {_short(order.average_price)} on average"
        text += f", {plain(order.filled)} of {plain(order.qty)} filled{average}"
    return f"{text}, reason: {order.reason}" if order.reason else text


def _stop(stop: Told | None) -> Iterator[str]:
    if stop is None:
        yield "No protective stop followed."
        return
    at = "" if stop.trigger is None else f" at {plain(stop.trigger)}"
    yield f"The protective stop that followed: {stop.id}, {stop.side} {plain(stop.qty)}{at}, {_end(stop)}."


def _short(value: Decimal) -> str:
    return f"{value:.10g}"


def _time(ts_ns: Nanos) -> str:
    return f"{datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}"
