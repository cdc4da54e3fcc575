"""For each fault of the catalogue the situation in which it strikes: what is under way, how it varies with the seed,
and what must come of it.

The daemon decides at 20 s and every minute after. At 20 s both contracts are entered; at 80 s one is flipped and the
other closed; at 140 s one is cut (a reducing order) and the other entered; in the end both are left. After every fill a
stop is placed or replaced. (``scenarios.Scripted``)
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidegate.app.simulation.clock import EPOCH_NS
from tidegate.domain.ids import Nanos
from tidegate.domain.market import MINUTE_NS, Family
from tidegate.kernel.lifecycle import State

Rules = list[dict[str, Any]]

ENTRY_S, FLIP_S, CUT_S = 15.0, 75.0, 135.0
"""A little before the entries, before the flip and the close, and before the cut."""
_BEFORE_FUNDING_NS: Final = EPOCH_NS // (60 * MINUTE_NS) * 60 * MINUTE_NS + 58 * MINUTE_NS


@dataclass(frozen=True, slots=True)
class Drill:
    """One fault in one situation.

    ``faults`` as in a scenario file. ``truth_s``: from here on the venue answers truthfully; later when a rule says so
    by striking later. ``bars`` is how many decisions there are before everything is left. ``noticed``: within so many
    seconds the daemon must speak of the loss of this family, or (None) of its user stream. ``within_s`` bounds the
    recovery of stream and data. ``state`` is where it must stand in the end, ``flat`` whether nothing may be held then.
    ``allowed`` are beginnings of findings that belong to the fault. For ``silent_s`` from the strike on no request may
    leave; the venue may have to ban us only where ``banned``; ``told`` is the subject of an alert that must be raised.
    At ``kill_s`` the kill switch is thrown; everything must be left ``flat_within_s`` of the truth. With ``batch`` a
    batch of orders is placed through the venue's port at ``truth_s``.
    """

    what: str
    faults: Rules
    truth_s: float
    bars: int = 3
    tick_ms: int = 1_000
    depth: bool = False
    quotes: bool = True
    start_ns: Nanos = EPOCH_NS
    noticed: tuple[Family | None, float] | None = None
    within_s: float = 60.0
    state: State = State.READY
    flat: bool = True
    allowed: tuple[str, ...] = ()
    silent_s: float = 0.0
    banned: bool = True
    told: str = ""
    batch: bool = False
    kill_s: float = math.inf
    flat_within_s: float = math.inf

    @property
    def end_s(self) -> float:
        """When the run is over: a minute of liveness after the truth, and all left and audited."""
        return max(20.0 + 60.0 * self.bars + 45.0, self.truth_s + 75.0)


@dataclass(frozen=True, slots=True)
class Case:
    """A fault of the catalogue. ``long`` ones are outages beyond the recovery bounds, with a table of their own."""

    fault: str
    drill: Callable[[int], Drill]
    long: bool = False


def _rule(fault: str, at_s: float, *, on: str | None = None, **more: Any) -> dict[str, Any]:
    rule: dict[str, Any] = {"fault": fault, "at_s": at_s}
    if on is not None:
        rule["on"] = on
    fields = {name: more.pop(name) for name in ("for_s", "count", "skip", "probability") if name in more}
    return rule | fields | ({"params": more} if more else {})


_WHERE: Final[tuple[tuple[str, float, str, int], ...]] = (
    ("entry", ENTRY_S, "order", 0),
    ("reducing order", CUT_S, "order", 0),
    ("flip", FLIP_S, "order", 0),
    ("protective stop", ENTRY_S, "algo", 0),
    ("second entry", ENTRY_S, "order", 1),
    ("replaced stop", FLIP_S, "algo", 0),
)


def _on_orders(
    fault: str, params: Mapping[str, Any] | None = None, *, stops: bool = True, truth_s: float = 0.0, **more: Any
) -> Callable[[int], Drill]:
    """Strike the order requests of one situation, another for each seed."""
    places = [each for each in _WHERE if stops or each[2] == "order"]

    def drill(seed: int) -> Drill:
        what, at_s, on, skip = places[seed % len(places)]
        count = 1 + seed // len(places) % 2
        rule = _rule(fault, at_s, on=on, skip=skip, count=count, **dict(params or {}))
        if on == "algo" and count > 1:  # the stop and its one spare are lost: ten seconds later the position is closed
            return Drill(what, [rule], at_s + truth_s, allowed=("E2 at",), **more)
        return Drill(what, [rule], at_s + truth_s, **more)

    return drill


def _pick(seed: int, *choices: Any) -> Any:
    return choices[seed % len(choices)]


# ---- network ------------------------------------------------------------------------------------------------------


def _latency(seed: int) -> Drill:
    high_s = _pick(seed, 3.0, 1.0, 2.0)
    return Drill("everything", [_rule("N01", ENTRY_S, for_s=60.0, low_s=0.05, high_s=high_s)], ENTRY_S + 60.0, bars=3)


def _stall(seed: int) -> Drill:
    """A stall of nine seconds is too short for new connections: its burst brings the bar before a fresh mark price."""
    stall_s = _pick(seed, 60.0, 9.0, 30.0, 2.0, 9.0, 0.2, 12.0)
    at_s = _pick(seed, FLIP_S - 1.5, ENTRY_S - 1.5, CUT_S - 1.5)
    on = _pick(seed, "any", "stream")
    rule = _rule("N02", at_s, on=on, count=1, low_s=stall_s, high_s=stall_s)
    return Drill(f"{on} for {stall_s:g} s", [rule], at_s + stall_s, bars=4)


def _half_open(seed: int) -> Drill:
    at_s = _pick(seed, 45.0, ENTRY_S, CUT_S - 10.0)
    rule = _rule("N03", at_s, for_s=600.0)
    return Drill("all connections", [rule], at_s, bars=4, noticed=(Family.MARKS, 10.0), within_s=20.0)


def _one_way(seed: int) -> Drill:
    at_s = _pick(seed, ENTRY_S, CUT_S, FLIP_S)
    on = _pick(seed, "any", "trade")  # everything, or the answers to orders only, whose decisions then are made in time
    return Drill(f"{on} under way", [_rule("N04", at_s, on=on, for_s=10.0)], at_s + 10.0, bars=4)


def _reset(seed: int) -> Drill:
    where = _pick(seed, "after", "request", "response", "before")
    return _on_orders("N05", {"where": where})(seed)


def _broken_answer(seed: int) -> Drill:
    mode = _pick(seed, "html", "truncated", "long_length", "short_length", "gzip")
    return _on_orders("N06", {"mode": mode})(seed)


def _broken_frames(seed: int) -> Drill:
    mode = _pick(seed, "invalid_utf8", "oversized", "binary", "bad_close", "split", "coalesced", "fragmented")
    on = "private" if seed % 2 else "stream"
    at_s = ENTRY_S if on == "private" else 45.0
    return Drill(f"{mode} on {on}", [_rule("N07", at_s, on=on, count=1, mode=mode)], at_s, bars=3)


def _flood(seed: int) -> Drill:
    return Drill("market streams", [_rule("N08", 10.0, for_s=20.0, rate=_pick(seed, 100, 300))], 30.0, bars=3)


# ---- outcomes -----------------------------------------------------------------------------------------------------

_CODES: Final = (-1007, -1006, -1000, -1001, -1008, -1021, -5028, -1015, -2010, -2019, -4164, -1111, -2022, -2021)


def _code(seed: int) -> Drill:
    code = _CODES[seed % len(_CODES)]
    turn = seed // len(_CODES) + seed
    match code:
        case -2022:  # nothing to reduce
            places = [each for each in _WHERE if each[0] == "reducing order"]
        case -2021:  # the price is through the stop
            places = [each for each in _WHERE if each[2] == "algo"]
        case _:
            places = list(_WHERE)
    what, at_s, on, skip = places[turn % len(places)]
    rule = _rule("V08", at_s, on=on, skip=skip, count=1, code=code, executes=code in (-1007, -1006, -1000))
    return Drill(f"{code} on {what}", [rule], at_s)


def _overload(seed: int) -> Drill:
    for_s = 7200.0 if seed % 8 == 7 else _pick(seed, 150.0, 90.0, 270.0)
    what, at_s, bars = _pick(seed, ("entries", ENTRY_S, 4), ("exits", CUT_S + 60.0, 3), ("cut", CUT_S, 4))
    flat_s = 15.0 if what == "exits" else math.inf
    return Drill(what, [_rule("V07", at_s, for_s=for_s)], at_s + for_s, bars=bars, tick_ms=2_000, flat_within_s=flat_s)


def _rate_limit(seed: int) -> Drill:
    banned = seed % 3 == 2
    at_s = _pick(seed, ENTRY_S, CUT_S - 3.0, FLIP_S)
    rule = _rule("V09", at_s, count=1, retry_after_s=10.0, patience=0 if banned else 12, ban_s=120.0)
    ends_s = at_s + (130.0 if banned else 30.0)
    return Drill("418" if banned else "429", [rule], ends_s, bars=5, silent_s=118.0 if banned else 0.0, banned=banned)


def _maintenance(seed: int) -> Drill:
    for_s = 1800.0 if seed % 8 == 7 else _pick(seed, 240.0, 60.0, 120.0)
    at_s = _pick(seed, 45.0, ENTRY_S, CUT_S + 5.2)
    rule = _rule("V10", at_s, for_s=for_s, code=_pick(seed, "-1016", "503"))
    bars = int((at_s + for_s) // 60.0) + 2
    return Drill("position held", [rule], at_s + for_s, bars=bars, tick_ms=2_000, allowed=("E2",))


def _invisible(seed: int) -> Drill:
    hide_s = 2400.0 if seed % 8 == 7 else _pick(seed, 60.0, 20.0, 150.0)
    what, at_s, on, skip = _pick(seed, *_WHERE)
    rule = _rule("V11", at_s, on=on, skip=skip, count=1, hide_s=hide_s, answer=_pick(seed // 6, "503", "hang"))
    bars = int((at_s + hide_s) // 60.0) + 2
    return Drill(what, [rule], at_s + hide_s, bars=bars, tick_ms=2_000)


def _late(seed: int) -> Drill:
    drill = _on_orders("V06", {"late_s": 10.0}, stops=False, truth_s=10.0)(seed)
    return Drill(drill.what, drill.faults, drill.truth_s, allowed=("O1",), told="fence")


def _cancel_race(seed: int) -> Drill:
    """The kill switch calls back an order that fills slowly."""
    what, at_s = _pick(seed // 3, ("entry", ENTRY_S), ("flip", FLIP_S))
    slow = _rule("V13", at_s, on="order", count=1, fills=50, every_s=20.0, dust=False, fee_asset="USDT")
    mode = _pick(seed, "fill", "partial", "deny")
    race = _rule("V12", at_s, on="cancel", count=12 if mode == "deny" else 2, mode=mode)
    kill_s = at_s + 20.0
    return Drill(
        f"kill under a slow {what}, {mode}", [slow, race], kill_s + 20.0, kill_s=kill_s, state=State.HALTED,
        allowed=("E2",) if mode == "deny" else (),
    )  # fmt: skip


def _parts(seed: int) -> Drill:
    drill = _on_orders("V13", {"fee_asset": _pick(seed, "USDT", "BNB"), "dust": seed % 3 != 0}, stops=False)(seed)
    return Drill(drill.what, drill.faults, drill.truth_s + 5.0, bars=3)


def _batch(seed: int) -> Drill:
    return Drill(
        "batch of five",
        [_rule("V14", 40.0, on="batch", count=1, item=seed % 5)],
        40.0,
        batch=True,
        allowed=("O3 batch",),
    )


# ---- user events --------------------------------------------------------------------------------------------------


def _key_lapses(fault: str, *at: float) -> Callable[[int], Drill]:
    """A stream that lapses in silence has nothing to lose before the next order, whose event then does not come."""

    def drill(seed: int) -> Drill:
        at_s = _pick(seed, *at)
        return Drill("user stream", [_rule(fault, at_s)], at_s, bars=4, noticed=(None, 12.0), within_s=15.0)

    return drill


def _keep_alive(seed: int) -> Drill:
    at_s, answer = 1500.0, _pick(seed, "-1125", "503")
    rule = _rule("U03", 10.0, count=1, answer=answer)
    return Drill(answer, [rule], at_s + 12.0, bars=27, tick_ms=5_000, noticed=(None, at_s + 25.0), within_s=15.0)


def _events(seed: int) -> Drill:
    mode = _pick(seed, "duplicate", "missing", "delayed", "reorder", "mix")
    return Drill(mode, [_rule("U04", ENTRY_S, for_s=70.0, mode=mode)], ENTRY_S + 70.0 + 31.0, bars=4)


def _early_fill(seed: int) -> Drill:
    return _on_orders("U05", {"late_s": _pick(seed, 1.0, 2.5)}, stops=False)(seed)


def _old_fill(seed: int) -> Drill:
    return Drill("any event", [_rule("U06", ENTRY_S, count=_pick(seed, 3, 5))], FLIP_S + 10.0)


def _half_pair(seed: int) -> Drill:
    drop = _pick(seed, "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE")
    at_s = _pick(seed // 2, ENTRY_S, CUT_S, FLIP_S)
    return Drill(drop, [_rule("U08", at_s, count=1, drop=drop)], at_s, bars=4)


def _by_itself(seed: int) -> Drill:
    act = _pick(seed, "liquidate", "partial_liquidation", "adl", "insurance", "settle")
    return Drill(act, [_rule("U07", 50.0, act=act)], 50.0, bars=3)


def _trigger_race(seed: int) -> Drill:
    """The stop that is replaced closes the same side: one position is cut at 140 s, one grows at 260 s."""
    at_s, bars = _pick(seed // 2, (CUT_S, 3), (CUT_S + 120.0, 6), (FLIP_S, 3))
    return Drill(
        "stop being replaced", [_rule("U09", at_s, on=_pick(seed, "cancel", "algo"), count=2)], at_s, bars=bars
    )


def _by_hand(seed: int) -> Drill:
    mode = _pick(seed, "close", "open", "flip", "leverage")
    return Drill(mode, [_rule("U10", 50.0, mode=mode)], 50.0, flat=mode in ("close", "leverage"))


# ---- market data --------------------------------------------------------------------------------------------------


def _sequence(seed: int) -> Drill:
    mode = _pick(seed, "gap", "reorder", "old_snapshot", "duplicate")
    rules = [_rule("B01", 45.0, on="depth", count=1, mode="gap" if mode == "old_snapshot" else mode)]
    if mode == "old_snapshot":
        rules.append(_rule("B01", 44.0, count=2, mode=mode))
    noticed = (Family.BOOK, 2.0)
    return Drill(mode, rules, 46.0, bars=2, tick_ms=500, depth=True, noticed=noticed, within_s=6.0)


def _absurd(seed: int) -> Drill:
    mode = _pick(seed, "crossed", "locked", "negative", "absurd", "zero")
    rule = _rule("B02", 45.0, on="bookTicker|depth", count=4, mode=mode)
    return Drill(mode, [rule], 48.0, bars=2, tick_ms=500, depth=True, within_s=6.0)


def _silence(seed: int) -> Drill:
    rule = _rule("B03", 5.0, for_s=_pick(seed, 30.0, 90.0), mode=_pick(seed, "silent", "repeat"))
    ends_s = 5.0 + rule["for_s"]
    return Drill(rule["params"]["mode"], [rule], ends_s, bars=3, noticed=(Family.MARKS, 8.0), within_s=75.0)


def _one_silent(seed: int) -> Drill:
    rule = _rule("B04", _pick(seed, 5.0, 65.0), on="markPrice", for_s=30.0)
    return Drill("mark prices", [rule], rule["at_s"] + 30.0, bars=3, noticed=(Family.MARKS, 8.0), within_s=25.0)


def _bars(seed: int) -> Drill:
    mode = "down" if seed % 12 == 11 else _pick(seed, "missing", "late", "revised")
    at_s = _pick(seed, 30.0, ENTRY_S)
    rule = _rule("B05", at_s, count=1 if mode == "down" else 4, mode=mode)
    if mode == "down":
        return Drill(mode, [rule], at_s + 7200.0, bars=123, tick_ms=5_000, within_s=75.0, allowed=("E2",))
    return Drill(mode, [rule], at_s + 60.0, bars=4)


def _funding(seed: int) -> Drill:
    rule = _rule("B06", 30.0, for_s=200.0, rate=_pick(seed, -0.02, 0.02, -0.001), interval_h=1)
    return Drill("position held", [rule], 230.0, bars=4, start_ns=_BEFORE_FUNDING_NS + 20_000_000_000)


_ALL: Final = (
    Case("N01", _latency),
    Case("N02", _stall),
    Case("N03", _half_open),
    Case("N04", _one_way),
    Case("N05", _reset),
    Case("N06", _broken_answer),
    Case("N07", _broken_frames),
    Case("N08", _flood),
    Case("V01", _on_orders("V01")),
    Case("V02", _on_orders("V02")),
    Case("V03", _on_orders("V03")),
    Case("V04", _on_orders("V04")),
    Case("V05", _on_orders("V05", stops=False)),
    Case("V06", _late, long=True),
    Case("V07", _overload, long=True),
    Case("V08", _code),
    Case("V09", _rate_limit, long=True),
    Case("V10", _maintenance, long=True),
    Case("V11", _invisible, long=True),
    Case("V12", _cancel_race),
    Case("V13", _parts),
    Case("V14", _batch),
    Case("U01", _key_lapses("U01", 45.0, ENTRY_S, CUT_S)),
    Case("U02", _key_lapses("U02", FLIP_S, ENTRY_S, CUT_S)),
    Case("U03", _keep_alive),
    Case("U04", _events),
    Case("U05", _early_fill),
    Case("U06", _old_fill),
    Case("U07", _by_itself),
    Case("U08", _half_pair),
    Case("U09", _trigger_race),
    Case("U10", _by_hand),
    Case("B01", _sequence),
    Case("B02", _absurd),
    Case("B03", _silence),
    Case("B04", _one_silent),
    Case("B05", _bars),
    Case("B06", _funding),
)

CASES: Final[Mapping[str, Case]] = {case.fault: case for case in _ALL}
"""Every fault of the catalogue, in its order."""
