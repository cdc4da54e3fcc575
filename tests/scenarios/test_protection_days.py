"""Days before the simulated exchange: at no step of any session is a position without its stop."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.kernel.worlds import (
    BTC,
    BUSY,
    START_NS,
    Run,
    Tables,
    by_bar,
    contract,
    exits,
    invented,
    loose,
    resting_stops,
    run,
    scripted,
    spec,
    stops,
    table_of,
    targets,
)
from tidegate.domain.market import HOUR_NS, Bar
from tidegate.domain.messages import Command, Event
from tidegate.domain.orders import ApprovedOrder, OrderFilled, OrderReport, Purpose, Side
from tidegate.domain.signals import Signal
from tidegate.kernel.kernel import Kernel
from tidegate.simulator.exchange import Exchange
from tidegate.simulator.frictions import FixedSlippage, Frictions
from tidegate.strategies.base import View

LONG = Signal(1.0)


def guarded(kernel: Kernel, exchange: Exchange, event: Event, commands: Sequence[Command]) -> None:
    """Whenever the market moves on, each position rests on stops of the right side that cover it whole, or is being
    left; and where nothing is held nothing rests."""
    if not isinstance(event, Bar):
        return
    resting = resting_stops(exchange)
    held = {position.instrument: position.qty for position in exchange.snapshot(0).positions}
    leaving = {order.approved.instrument for order in kernel.open_orders if order.approved.purpose is Purpose.FLATTEN}
    for name, qty in held.items():
        right = Side.SELL if qty > 0 else Side.BUY
        covered = max((size for side, size, _ in resting.get(name, []) if side is right), default=Decimal(0))
        triggered = name not in resting and any(
            order.approved.instrument == name and order.approved.purpose is Purpose.PROTECTION
            for order in kernel.open_orders
        )
        assert covered == abs(qty) or name in leaving or triggered, (name, qty, resting)
    assert resting.keys() <= held.keys()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([None, 0.00002, 0.000002]))
@example(seed=172, share=0.000002)  # two exits under way: a target routed between them called both back
def test_every_position_is_guarded_at_every_bar(seed: int, share: float | None) -> None:
    source, listed = invented(seed, 80, ("BTCUSDT", "ETHUSDT"))

    def moody(view: View) -> Signal | None:
        mood = (view.ts_ns // HOUR_NS * 2_654_435_761 + len(view.instrument)) % 7
        side = 1.0 if mood % 2 else -1.0
        return (
            (None, Signal(0.0))[mood // 6] if mood > 4 else Signal(side, view.close * (1 - side * 0.004 * (mood + 1)))
        )

    frictions = Frictions(FixedSlippage(5.0), volume_share=share)
    done = run(source, listed, [spec(scripted(moody), *listed)], BUSY, frictions, watch=guarded)
    assert done.kernel.ledger.equity(marks := {n: Decimal(1) for n in listed}) == done.exchange.ledger.equity(marks)


def day(closes: Sequence[float], *answers: Signal | None, reach: float = 1.0) -> Run:
    market = Tables({BTC: table_of(closes, reach)})
    return run(market, {BTC: contract()}, [spec(by_bar(*answers))], loose(), watch=guarded)


def fills(done: Run) -> list[tuple[Side, Decimal, Decimal, int]]:
    return [(f.side, f.qty, f.price, (f.ts_ns - START_NS) // HOUR_NS) for f, _ in done.answers_to(OrderFilled)]


def test_the_stop_rests_before_the_range_of_the_bar_that_filled_the_entry() -> None:
    """Decided at the first close, filled at the open of the second bar, stopped inside that same bar."""
    done = day([100.0, 96.0, 96.0, 96.0], Signal(1.0, 95.5), reach=1.0)
    assert fills(done) == [(Side.BUY, 1, Decimal("100.0"), 1), (Side.SELL, 1, Decimal("95.5"), 2)]
    assert done.kernel.ledger.position(BTC).qty == 0


def test_a_signal_without_a_stop_gets_the_disaster_stop() -> None:
    done = day([100.0, 100.0, 80.0, 80.0], LONG)
    assert fills(done)[1][:3] == (Side.SELL, 1, Decimal("85.0"))


def test_a_gap_through_the_stop_fills_at_the_open() -> None:
    done = day([100.0, 100.0, 100.0], Signal(1.0, 95.0))
    assert len(fills(done)) == 1
    table = table_of([100.0, 100.0, 90.0, 90.0])
    table.open[2] = 91.0
    table.high[2] = 92.0
    done = run(Tables({BTC: table}), {BTC: contract()}, [spec(by_bar(Signal(1.0, 95.0)))], loose(), watch=guarded)
    assert fills(done)[1] == (Side.SELL, 1, Decimal("91.0"), 3)


def test_an_entry_that_gaps_beyond_its_stop_is_left_at_once() -> None:
    table = table_of([100.0, 94.0, 94.0])
    table.open[1] = 94.5
    done = run(Tables({BTC: table}), {BTC: contract()}, [spec(by_bar(Signal(1.0, 95.0)))], loose(), watch=guarded)
    (_, entry_answer), *_ = done.answers_to(OrderFilled)
    assert stops(entry_answer) == []
    assert len(exits(entry_answer)) == 1
    assert [(side, price) for side, _, price, _ in fills(done)] == [
        (Side.BUY, Decimal("94.5")),
        (Side.SELL, Decimal("94.5")),
    ]
    assert done.kernel.ledger.position(BTC).qty == 0


def test_after_a_stop_the_same_side_is_not_entered_again() -> None:
    answers = [Signal(1.0, 95.0), *[Signal(1.0, 95.0 - k) for k in range(1, 6)], Signal(0.0), LONG]
    done = day([100.0, 100.0, 94.0, *[94.0] * 7], *answers)
    assert [(side, at) for side, _, _, at in fills(done)] == [(Side.BUY, 1), (Side.SELL, 3), (Side.BUY, 8)]


@pytest.mark.parametrize("answers", [(LONG, Signal(-1.0)), (LONG, None, Signal(0.0))])
def test_no_orphan_is_left(answers: tuple[Signal | None, ...]) -> None:
    done = day([100.0] * 6, *answers)
    left = resting_stops(done.exchange).get(BTC, [])
    assert len(left) == (1 if done.kernel.ledger.position(BTC).qty else 0)
    assert all(side is Side.BUY for side, _, _ in left)


def test_each_stop_is_one_that_the_gate_made() -> None:
    done = day([100.0] * 6, LONG, Signal(-1.0))
    sent = {order.id for order in done.commands if isinstance(order, ApprovedOrder)}
    heard = {event.id for event, _ in done.steps if isinstance(event, OrderReport)}
    assert heard <= sent
    assert len(targets(done.commands)) == 2
