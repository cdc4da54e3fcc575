"""Days with more than one instrument: missing bars, late joiners, a delisting, a strategy that breaks."""

from decimal import Decimal

import numpy as np

from tests.unit.kernel.worlds import (
    BTC,
    ETH,
    SOL,
    START_NS,
    Run,
    Tables,
    contract,
    loose,
    rows_of,
    run,
    scripted,
    spec,
    table_of,
    targets,
)
from tidegate.domain.market import HOUR_NS, Bar
from tidegate.domain.messages import TimerFired
from tidegate.domain.signals import Signal
from tidegate.strategies.base import View

LISTED = {name: contract(name) for name in (BTC, ETH, SOL)}


def steps(done: Run) -> dict[int, list[str]]:
    """At which close which instruments were traded toward a target."""
    found: dict[int, list[str]] = {}
    for event, commands in done.steps:
        if isinstance(event, Bar | TimerFired):
            for order in targets(commands):
                found.setdefault((event.ts_ns - START_NS) // HOUR_NS, []).append(order.instrument)
    return found


def alternating(view: View) -> Signal:
    return Signal(1.0 if (view.ts_ns - START_NS) // HOUR_NS % 2 else -1.0)


def test_all_trade_at_each_close_and_only_after_the_last_bar() -> None:
    source = Tables({name: table_of([100.0] * 6) for name in LISTED})
    done = run(source, LISTED, [spec(scripted(alternating), *LISTED)])
    closes = steps(done)
    assert closes[1] == [BTC]  # the others are not live before their first bar
    assert all(closes[n] == [BTC, ETH, SOL] for n in range(2, 6))
    assert not done.answers_to(TimerFired)


def test_a_missing_bar_is_waited_for_until_the_grace_is_over() -> None:
    whole = table_of([100.0] * 8)
    holes = rows_of(whole, np.array([0, 1, 2, 4, 5, 6, 7]))
    done = run(Tables({BTC: whole, ETH: holes}), LISTED_TWO, [spec(scripted(alternating), BTC, ETH)])
    closes = steps(done)
    (timer, answer), *more = done.answers_to(TimerFired)
    assert not more
    assert (timer.ts_ns - START_NS) // HOUR_NS == 4
    assert [order.instrument for order in targets(answer)] == [BTC]
    assert closes[5] == [BTC, ETH] or closes[5] == [BTC]
    assert ETH in closes[6]


def test_a_late_joiner_trades_from_its_second_bar() -> None:
    whole = table_of([100.0] * 8)
    late = rows_of(whole, slice(3, None))
    done = run(Tables({BTC: whole, ETH: late}), LISTED_TWO, [spec(scripted(alternating), BTC, ETH)])
    closes = steps(done)
    assert not any(ETH in closes[n] for n in range(1, 4))
    assert ETH in closes[5]
    assert not done.answers_to(TimerFired)


def test_a_delisted_contract_is_settled_and_the_rest_goes_on() -> None:
    whole = table_of([100.0] * 60)
    short = rows_of(whole, slice(0, 10))
    done = run(Tables({BTC: whole, ETH: short}), LISTED_TWO, [spec(scripted(alternating), BTC, ETH)])
    closes = steps(done)
    assert not any(ETH in names for n, names in closes.items() if n > 34)
    assert all(BTC in closes[n] for n in range(40, 59))
    assert done.kernel.ledger.position(ETH).qty == 0
    marks = {name: Decimal(100) for name in LISTED_TWO}
    assert done.kernel.ledger.equity(marks) == done.exchange.ledger.equity(marks)


LISTED_TWO = {name: LISTED[name] for name in (BTC, ETH)}


def test_a_strategy_that_breaks_is_closed_and_the_other_trades_on() -> None:
    def breaks(view: View) -> Signal:
        if view.ts_ns - START_NS > 3 * HOUR_NS:
            raise ValueError("lost")
        return Signal(1.0)

    source = Tables({BTC: table_of([100.0] * 8), ETH: table_of([100.0] * 8)})
    done = run(
        source, LISTED_TWO, [spec(scripted(breaks), BTC, name="bad"), spec(scripted(alternating), ETH, name="ok")]
    )
    assert done.kernel.ledger.position(BTC).qty == 0
    closes = steps(done)
    assert closes[4] == [BTC, ETH]
    assert all(closes[n] == [ETH] for n in range(5, 8))


def test_the_same_day_twice_is_the_same_and_limits_hold() -> None:
    source = Tables({name: table_of([100.0, 103.0, 99.0, 101.0] * 5) for name in LISTED})
    first, second = (run(source, LISTED, [spec(scripted(alternating), *LISTED)], loose()) for _ in range(2))
    assert first.steps == second.steps
