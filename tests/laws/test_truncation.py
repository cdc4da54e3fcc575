"""The law of truncation: what happens after t changes no decision at or before t, bit for bit.

Every strategy of the package is found by itself. The law itself is shown to bite on a strategy that cheats through a
door which only a test can open.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tidegate.strategies
from tests.unit.kernel.worlds import BUSY, CAPITAL, Tables, invented, rows_of, spec
from tidegate.app.backtest import BacktestEngine, BacktestPlan
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.messages import Command
from tidegate.domain.signals import Decision, Signal
from tidegate.kernel.kernel import KernelSettings
from tidegate.kernel.wishes import StrategySpec
from tidegate.quant.bars import BarTable
from tidegate.quant.indicators import ATR, EMA, ZScore
from tidegate.simulator.frictions import FixedSlippage, Frictions, Latency
from tidegate.strategies.base import BaseStrategy, CrossSectionalStrategy, Strategy, View
from tidegate.strategies.funding_arbitrage import FundingArbitrage
from tidegate.strategies.trend_following import TrendFollowing

ROWS = 400


class Restless(BaseStrategy):
    """Changes its mind often, with and without a stop, and remembers: everything the engine has is in use."""

    def setup(self) -> None:
        self.fast = self.feature(EMA(3))
        self.score = self.feature(ZScore(12), on=self.fast)
        self.atr = self.feature(ATR(6))
        self.slow = self.feature(EMA(4), every="4h")

    def decide(self, view: View) -> Signal | None:
        if abs(self.score.now) < 0.4:
            return None
        strength = max(-1.0, min(1.0, self.score.now))
        if view.position * strength < 0.0 and view.close > self.slow.now:
            return Signal(0.0)
        return Signal(strength, view.close - 2.0 * self.atr.now if strength > 0.5 else None)


class Sums(msgspec.Struct):
    """What has been seen so far, of all instruments."""

    seen: dict[InstrumentId, float] = {}


class Across(CrossSectionalStrategy):
    """Buys what is above the mean of all scores and sells what is below, from features, views and a memory."""

    memory: Sums = Sums()

    def setup(self) -> None:
        self.score = self.feature(ZScore(12))

    def decide(self, views: Mapping[InstrumentId, View]) -> Mapping[InstrumentId, Signal]:
        seen = self.memory.seen
        for name, view in views.items():
            if not view.stale:
                score = self.leg(name).score.now + 1e3 * (view.funding_rate or 0.0)
                seen[name] = 0.5 * seen.get(name, 0.0) + score
        mean = sum(seen.values()) / len(seen)
        return {name: Signal(1.0 if seen.get(name, 0.0) > mean else -1.0) for name in views}


def every_strategy() -> dict[str, Strategy]:
    found: dict[str, Strategy] = {"Restless": Restless(), "Across": Across(), **QUICKER}
    for info in pkgutil.walk_packages(tidegate.strategies.__path__, "tidegate.strategies."):
        for name, kind in vars(importlib.import_module(info.name)).items():
            if inspect.isclass(kind) and issubclass(kind, Strategy) and "decide" in vars(kind) and kind not in BASES:
                found[name] = kind()
    return found


BASES = (BaseStrategy, CrossSectionalStrategy)
QUICK = TrendFollowing(fast_bars=3, slow_bars=8, atr_bars=4, stop_atrs=1.0)
EASY: dict[str, Any] = {
    "half_life_days": 3.0,
    "beta_days": 3,
    "volatility_days": 3,
    "least_days": 3,
    "least_volume_usdt": 0.0,
    "cap_frac": 0.05,
    "rebalance_days": 1,
    "fee_bps": 0.0,
    "half_spread_bps": 0.0,
    "basis_sds": 20.0,
}
QUICKER: dict[str, Strategy] = {
    "quick TrendFollowing": QUICK,
    "quick FundingArbitrage": FundingArbitrage(least_legs=3, band_frac=0.0, **EASY),
    "paired FundingArbitrage": FundingArbitrage(variant="spot_perpetual", pairs="BTCUSDT:ETHUSDT", **EASY),
}
"""Strategies of the house, made so impatient that they act within the market of these tests."""
FRICTIONS = Frictions(FixedSlippage(2.0), Latency(200_000_000), volume_share=0.00001)


class Recorder(BacktestEngine):
    """The engine of the house; what it decides is written down."""

    def __init__(self, plan: BacktestPlan) -> None:
        super().__init__(plan)
        self.decisions: list[Decision] = []
        tallied = self.tally.commands

        def note(commands: "list[Command] | tuple[Command, ...]") -> None:
            self.decisions += [command for command in commands if isinstance(command, Decision)]
            tallied(commands)

        self.tally.commands = note  # type: ignore[assignment, method-assign]


def decided(strategies: tuple[StrategySpec, ...], source: Tables, kernel: KernelSettings = BUSY) -> list[Decision]:
    engine = Recorder(BacktestPlan(kernel, market()[1], strategies, source, CAPITAL, FRICTIONS))
    engine.run()
    return engine.decisions


@cache
def market() -> tuple[Tables, dict]:  # type: ignore[type-arg]
    return invented(11, ROWS)


def until(found: list[Decision], at_ns: Nanos) -> list[bytes]:
    return [msgspec.msgpack.encode(decision) for decision in found if decision.ts_ns <= at_ns]


def after(table: BarTable, row: int, kind: str, rng: np.random.Generator) -> BarTable:
    """The same bars up to ``row``, something else from there on."""
    kept = rows_of(table, slice(0, row))
    match kind:
        case "cut":
            return kept
        case "holes":
            return rows_of(table, np.r_[0:row, np.flatnonzero(rng.random(len(table) - row) < 0.7) + row])
        case "scaled":
            rest = rows_of(table, slice(row, None))
            factor = float(rng.uniform(0.5, 2.0))
            prices = [getattr(rest, name) * factor for name in ("open", "high", "low", "close")]
            rest = BarTable(rest.interval_ns, rest.ts_ns, *prices, rest.volume * 3.0)
        case _:
            rest = rows_of(table, row + rng.permutation(len(table) - row))
            rest = BarTable(
                rest.interval_ns, table.ts_ns[row:], rest.open, rest.high, rest.low, rest.close, rest.volume
            )
    columns = [np.concatenate([getattr(kept, n), getattr(rest, n)]) for n in ("ts_ns", *rest.__slots__[2:])]
    return BarTable(table.interval_ns, *columns)


def changed(source: Tables, row: int, kind: str, seed: int) -> Tables:
    rng = np.random.default_rng(seed)
    cut_ns = int(next(iter(source.tables.values())).ts_ns[row - 1])
    tables = {name: after(table, row, kind, rng) for name, table in source.tables.items()}
    rates: Mapping[InstrumentId, list] = {  # type: ignore[type-arg]
        name: [
            each if each.ts_ns <= cut_ns else msgspec.structs.replace(each, rate=-2.0 * each.rate) for each in events
        ]
        for name, events in source.rates.items()
    }
    return Tables(tables, rates, int(rng.integers(1, 200)))


cuts = st.integers(1, ROWS - 1)
kinds = st.sampled_from(["cut", "holes", "scaled", "shuffled"])
seeds = st.integers(0, 2**32 - 1)


@cache
def whole(name: str) -> list[Decision]:
    source, listed = market()
    return decided((spec(every_strategy()[name], *listed),), source)


def test_the_strategies_are_found() -> None:
    house = {"TrendFollowing", "MeanReversion", "RangeTrading", "FundingArbitrage"}
    assert house | {"Restless", "Across"} <= every_strategy().keys()
    assert not {"BaseStrategy", "CrossSectionalStrategy", "Strategy"} & every_strategy().keys()


@pytest.mark.parametrize("name", every_strategy())
@settings(max_examples=6, deadline=None)
@given(row=cuts, kind=kinds, seed=seeds)
def test_later_bars_change_no_decision_of_a_strategy(name: str, row: int, kind: str, seed: int) -> None:
    source, listed = market()
    at_ns = int(source.tables[next(iter(listed))].ts_ns[row - 1])
    found = decided((spec(every_strategy()[name], *listed),), changed(source, row, kind, seed))
    assert until(found, at_ns) == until(whole(name), at_ns)


@settings(max_examples=8, deadline=None)
@given(row=cuts, kind=kinds, seed=seeds)
def test_later_bars_change_no_decision_of_the_engine(row: int, kind: str, seed: int) -> None:
    """Several strategies on several symbols, netted, with stops, funding, slippage, latency and partial fills."""
    source, listed = market()
    strategies = (spec(Restless(), *listed, name="a"), spec(QUICK, *listed, name="b"))
    at_ns = int(source.tables[next(iter(listed))].ts_ns[row - 1])
    found = decided(strategies, changed(source, row, kind, seed))
    assert until(found, at_ns) == until(decided(strategies, source), at_ns)


def test_the_runs_under_the_law_are_busy() -> None:
    said = whole("Restless")
    assert len([each for each in said if each.strategy is None]) > 50
    assert len({each.binding_limit for each in said}) > 2
    assert len([each for each in whole("Across") if each.strategy is None]) > 50
    assert all(len([each for each in whole(name) if each.signal is not None]) > 3 for name in QUICKER)


def foreseen(strategy: Strategy, view: View) -> Signal:
    """Looks the next close up in a list that no strategy is ever given."""
    later = type(strategy).future.get(view.ts_ns, view.close)  # type: ignore[attr-defined]
    return Signal(1.0 if later > view.close else -1.0)


class Cheat(BaseStrategy):
    def decide(self, view: View) -> Signal | None:
        return foreseen(self, view)


class CheatAcross(CrossSectionalStrategy):
    def decide(self, views: Mapping[InstrumentId, View]) -> Mapping[InstrumentId, Signal]:
        return {name: foreseen(self, view) for name, view in views.items()}


@pytest.mark.parametrize("base", [Cheat, CheatAcross])
def test_the_law_catches_a_strategy_that_knows_the_next_close(base: type[Strategy]) -> None:
    source, listed = market()
    (name, *_) = listed

    def cheated(tables: Tables) -> list[Decision]:
        table = tables.tables[name]
        kind = type("Cheat", (base,), {"future": dict(zip(table.ts_ns[:-1].tolist(), table.close[1:], strict=True))})
        return decided((spec(kind(), name),), tables)

    honest = cheated(source)
    caught = (
        until(cheated(changed(source, row, "shuffled", row)), int(source.tables[name].ts_ns[row - 1]))
        != until(honest, int(source.tables[name].ts_ns[row - 1]))
        for row in range(100, 120)
    )
    assert any(caught)  # the first one ends it
