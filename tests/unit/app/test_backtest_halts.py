"""A backtest whose book reaches its drawdown limit is closed, waits for the simulated person, and goes on."""

from decimal import Decimal

import numpy as np
import pytest

from tests.unit.kernel.worlds import BTC, CAPITAL, START_NS, Tables, contract, loose, scripted, spec
from tidegate.app.backtest import BacktestEngine, BacktestPlan
from tidegate.domain.market import DAY_NS, HOUR_NS
from tidegate.domain.messages import HaltCause
from tidegate.domain.signals import Signal
from tidegate.execution.protection import ProtectionSettings
from tidegate.kernel.lifecycle import State
from tidegate.quant.bars import BarTable
from tidegate.risk.sizing import SizingSettings


def engine(reset_after_ns: int | None) -> BacktestEngine:
    """Nine tenths of the account long, through one terrible hour and twenty quiet days: slower falls the brake ends."""
    close = np.concatenate([np.full(24, 100.0), np.full(20 * 24, 86.0)])
    ts_ns = START_NS + HOUR_NS * np.arange(1, len(close) + 1)
    opens = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(opens, close), np.minimum(opens, close)
    table = BarTable(HOUR_NS, ts_ns, opens, high, low, close, np.full(len(close), 1e6))
    settings = loose(
        brake="linear",
        sizing=SizingSettings("fixed_qty", fixed_qty=Decimal(900)),
        protection=ProtectionSettings(disaster_stop_frac=0.5),
    )
    long = spec(scripted(lambda _: Signal(1.0)), BTC)
    listed = {BTC: contract(market_max_qty="10000")}
    made = BacktestEngine(
        BacktestPlan(settings, listed, (long,), Tables({BTC: table}, {}), CAPITAL, reset_after_ns=reset_after_ns)
    )
    made.run()
    return made


def test_the_book_is_closed_at_its_limit_and_opened_again_when_the_person_has_looked() -> None:
    run = engine(5 * DAY_NS)
    (halt,) = run.chronicle.halts
    assert halt.cause is HaltCause.DRAWDOWN
    assert run.chronicle.resets == 1
    assert run.kernel.state is State.READY
    assert run.kernel.ledger.positions[BTC].qty > 0  # long again
    assert run.ledger_difference == 0
    result = run.result({}, [], {})
    assert (result.summary["halts"], result.summary["resets"]) == (1, 1)


def test_without_a_person_it_stays_flat_to_the_end() -> None:
    run = engine(None)
    assert len(run.chronicle.halts) == 1
    assert run.chronicle.resets == 0
    assert run.kernel.state is State.HALTED
    assert run.kernel.ledger.positions[BTC].qty == 0
    lost = 1.0 - float(run.tally.equity[-1][1]) / float(CAPITAL)
    assert lost == pytest.approx(0.12, abs=0.03)
