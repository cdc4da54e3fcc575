"""The law of snapshots: a fresh kernel that loads one goes on as if nothing had happened; and stepping is scanning."""

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kernel.worlds import BTC, BUSY, ETH, Hand, Run, by_bar, contract, invented, loose, run, spec
from tidegate.domain.errors import InvariantBroken
from tidegate.domain.messages import Event, KernelSnapshot, Operation, OperatorCommand
from tidegate.domain.signals import Signal
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import SNAPSHOT_VERSION, Kernel
from tidegate.quant.indicators import ATR, EMA, ZScore
from tidegate.simulator.frictions import FixedSlippage, Frictions
from tidegate.strategies.base import BaseStrategy, View
from tidegate.strategies.trend_following import TrendFollowing


class Seen(msgspec.Struct):
    bars: int = 0
    best: float = 0.0


class Rememberer(BaseStrategy):
    """Long intervals, chained features and memory, so that a snapshot has something to forget."""

    memory: Seen = Seen()

    def setup(self) -> None:
        self.fast = self.feature(EMA(3))
        self.score = self.feature(ZScore(10), on=self.fast)
        self.atr = self.feature(ATR(5))
        self.slow = self.feature(EMA(3), every="4h")

    def decide(self, view: View) -> Signal | None:
        self.memory.bars += 1
        self.memory.best = max(self.memory.best * 0.99, view.close)
        if self.memory.bars % 3:
            return None
        side = 1.0 if self.score.now > 0.0 and view.close > 0.97 * self.memory.best else -1.0
        if abs(self.score.now) < 0.3:
            return Signal(0.0)
        return Signal(side, view.close - side * 1.5 * self.atr.now if self.slow.now > self.slow.prev else None)


ROWS = 160
FRICTIONS = Frictions(FixedSlippage(3.0), volume_share=0.00001)
QUICK = TrendFollowing(fast_bars=3, slow_bars=8, atr_bars=4, stop_atrs=1.0)


def strategies() -> list:  # type: ignore[type-arg]
    listed = invented(3, ROWS)[1]
    return [spec(Rememberer(), *listed, name="a"), spec(QUICK, *listed, name="b")]


@cache
def original(scanned: bool = True) -> Run:
    source, listed = invented(3, ROWS)
    return run(source, listed, strategies(), BUSY, FRICTIONS, scanned=scanned)


def state_of(snapshot: KernelSnapshot) -> dict[str, Any]:
    """What a snapshot says; trade ids are sets, in no order."""
    state: dict[str, Any] = msgspec.msgpack.decode(snapshot.data)
    for order in state["blotter"]:
        order["trade_ids"].sort()
    for booked in state["positions"]["booked"].values():
        booked["ids"].sort()
    return state


def fresh() -> Kernel:
    return Kernel(BUSY, invented(3, ROWS)[1], strategies(), StepFeeder())


@cache
def stepped() -> tuple[list[Event], list[bytes], list[KernelSnapshot]]:
    """The events of the run and, for a kernel that steps through them, each answer and the snapshot after it."""
    kernel, answers, snapshots = fresh(), [], []
    events = [event for event, _ in original().steps]
    for event in events:
        answers.append(msgspec.msgpack.encode(list(kernel.handle(event))))
        snapshots.append(kernel.snapshot())
    return events, answers, snapshots


def test_a_kernel_that_steps_says_what_one_that_scans_says() -> None:
    assert [msgspec.msgpack.encode(list(commands)) for _, commands in original().steps] == stepped()[1]
    assert original().steps == original(scanned=False).steps


def test_the_run_under_the_law_is_busy() -> None:
    def ever(asked: Callable[[dict[str, Any]], bool]) -> bool:
        return any(asked(msgspec.msgpack.decode(snapshot.data)) for snapshot in stepped()[2])

    assert ever(lambda state: any(wish["spent_side"] for wish in state["wishes"]))
    assert ever(lambda state: any(order["state"] == "PARTIALLY_FILLED" for order in state["blotter"]))
    assert ever(lambda state: any(order["state"] == "IN_FLIGHT" for order in state["blotter"]))
    assert ever(lambda state: any(guard["pending"] and guard["resting"] for guard in state["protection"].values()))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_kernel_that_loads_goes_on_as_if_nothing_had_happened(data: st.DataObject) -> None:
    events, answers, snapshots = stepped()
    cut = data.draw(st.integers(0, len(events) - 1))
    again = fresh()
    again.load(KernelSnapshot(SNAPSHOT_VERSION, cut, bytes(snapshots[cut].data)))
    assert repr(state_of(again.snapshot())) == repr(state_of(snapshots[cut]))
    for k in range(cut + 1, min(cut + 150, len(events))):
        assert msgspec.msgpack.encode(list(again.handle(events[k]))) == answers[k]
        if k % 10 == 0:
            assert repr(state_of(again.snapshot())) == repr(state_of(snapshots[k]))


def test_what_an_operator_asks_for_is_answered_the_same_after_any_snapshot() -> None:
    events, _, snapshots = stepped()
    now_ns = events[-1].recv_ns
    for cut in range(0, len(events), 23):
        answered = []
        for _ in range(2):
            kernel = fresh()
            for event in events[: cut + 1] if not answered else ():
                kernel.handle(event)
            if answered:
                kernel.load(snapshots[cut])
            ask = [Operation.FLATTEN, Operation.PAUSE, Operation.RESUME, Operation.STOP]
            answered.append([list(kernel.handle(OperatorCommand(each, now_ns, now_ns))) for each in ask])
        assert answered[0] == answered[1]


def test_orders_are_called_back_in_the_same_order_after_a_snapshot() -> None:
    """BTC traded first and is idle, ETH works, then BTC works again: the order of instruments is not that of orders."""
    listed = [contract(BTC), contract(ETH)]
    plan = [spec(by_bar(Signal(1.0), Signal(0.0), Signal(1.0)), BTC, name="b"), spec(by_bar(None, Signal(1.0)), ETH)]
    hand = Hand.ready(*plan, instruments=listed)
    for turn in range(3):
        said = hand.bar(100.0, BTC)
        said += hand.bar(100.0, ETH, after=0)
        for order in said:
            if getattr(order, "instrument", None) == BTC and hasattr(order, "order_type") and turn < 2:
                hand.fill(order)  # type: ignore[arg-type]
    again = Hand.ready(*plan, instruments=listed, start=False)
    again.kernel.load(hand.kernel.snapshot())
    again.now_ns = hand.now_ns
    assert again.operate(Operation.STOP) == hand.operate(Operation.STOP)


def test_a_flattened_book_is_still_flattened_after_a_snapshot() -> None:
    hand = Hand.ready(spec(by_bar(Signal(1.0))))
    hand.open()
    hand.operate(Operation.FLATTEN)
    again = Hand.ready(spec(by_bar(Signal(1.0))), start=False)
    again.kernel.load(hand.kernel.snapshot())
    again.now_ns = hand.now_ns
    assert [again.bar() for _ in range(3)] == [hand.bar() for _ in range(3)]


@pytest.mark.parametrize(
    "other",
    [
        Hand.ready(spec(by_bar(), name="other"), start=False),
        Hand.ready(spec(by_bar()), spec(by_bar(), name="more"), start=False),
        Hand.ready(spec(by_bar()), instruments=[contract(), contract(ETH)], start=False),
        Hand.ready(spec(QUICK), start=False),
    ],
)
def test_a_snapshot_of_something_else_is_refused(other: Hand) -> None:
    with pytest.raises(InvariantBroken):
        other.kernel.load(Hand.ready(spec(by_bar())).kernel.snapshot())


@pytest.mark.parametrize(
    ("version", "data"), [(99, b""), (SNAPSHOT_VERSION, b"\x00"), (SNAPSHOT_VERSION, b"\x81\xa1a\x01")]
)
def test_a_snapshot_that_cannot_be_read_is_refused(version: int, data: bytes) -> None:
    with pytest.raises(InvariantBroken, match="snapshot"):
        Hand.ready(spec(by_bar())).kernel.load(KernelSnapshot(version, 0, data))


def test_a_snapshot_is_a_copy() -> None:
    hand = Hand.ready(spec(by_bar(Signal(1.0))), settings=loose())
    before = hand.kernel.snapshot()
    hand.open()
    assert before.data != hand.kernel.snapshot().data
    again = Hand.ready(spec(by_bar(Signal(1.0))), start=False)
    again.kernel.load(before)
    again.open()
    assert state_of(again.kernel.snapshot()) == state_of(hand.kernel.snapshot())
