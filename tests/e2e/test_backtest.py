"""The backtest from end to end: the command on real bars, an independent account of its money, and no way to cheat.

The account below shares nothing with the engine: cash moves by every fill, fee and settlement, and what is held at the
end is worth the last close of the file.
"""

import itertools
import json
import re
from collections import defaultdict
from decimal import Decimal, localcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.fakes.command_line import ROOT, assert_refused, process, tidegate
from tests.unit.adapters.files.bar_files import FIRST_MS, HOUR_MS, Row, write_bars
from tidegate.app.backtest import BacktestEngine
from tidegate.app.bootstrap import Backtest
from tidegate.app.config import Settings
from tidegate.domain.account import FundingPaid
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import HOUR_NS, BarSpec
from tidegate.domain.messages import Event
from tidegate.domain.orders import ApprovedOrder, OrderFilled, OrderType
from tidegate.domain.signals import Decision
from tidegate.quant.bars import BarTable

KEYS = {
    *("bars", "orders", "fills", "trades", "fees_usdt", "funding_usdt", "slippage_usdt", "final_equity_usdt"),
    *("total_return", "cagr", "annual_volatility", "sharpe", "sortino", "max_drawdown", "turnover"),
    *("ledger_difference_usdt", "bars_per_s", "data_sha256", "config_sha256"),
    *("sharpe_ci95", "scenario_share", "costs", "strategies", "other_accounts", "attribution_difference_usdt"),
    *("bindings", "halts", "resets", "fits"),
}
OF_A_STRATEGY = {
    *("net_usdt", "price_pnl_usdt", "costs", "total_return", "annual_volatility", "sharpe", "sharpe_ci95", "sortino"),
    *("max_drawdown", "turnover", "fills", "active_days", "scenario_share", "annualisation", "trials"),
}
MONEY = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?")
CROSSING = {"class": f"{ROOT}/benchmarks/ema_strategy.py:EmaCross"}
TREND = ("--strategy", "tidegate.strategies.trend_following:TrendFollowing")
WALKS = 16


def walk(seed: int, rows: int, volatility: float = 0.01) -> list[Row]:
    """Hours of a price without drift: each opens where the last one closed. Two decimals, plenty of volume."""
    dice = np.random.Generator(np.random.PCG64(seed))
    closes = np.round(1_000.0 * np.exp(np.cumsum(volatility * dice.standard_normal(rows) - volatility**2 / 2)), 2)
    opens = np.concatenate([[1_000.0], closes[:-1]])
    reach = np.round(1.0 + 4.0 * dice.random((2, rows)), 2)
    highs, lows = np.round(np.maximum(opens, closes) + reach[0], 2), np.round(np.minimum(opens, closes) - reach[1], 2)
    return [
        (FIRST_MS + n * HOUR_MS, *(float(column[n]) for column in (opens, highs, lows, closes)), 1_000_000.125)
        for n in range(rows)
    ]


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("walks")
    for seed in range(WALKS):
        symbol = root / f"W{seed}USDT"
        symbol.mkdir()
        write_bars(symbol, "1h", "parquet", walk(seed, 700))
    return root


class Noted:
    """A run with everything that passed between market and kernel."""

    def __init__(self, run: Backtest) -> None:
        self.engine = BacktestEngine(run.plan)
        self.events: list[Event] = []
        self.orders: dict[str, tuple[int, ApprovedOrder]] = {}
        self.decisions: list[Decision] = []
        handle = self.engine.kernel.handle

        def noting(event: Event) -> Any:
            commands = handle(event)
            self.events.append(event)
            for command in commands:
                if isinstance(command, ApprovedOrder):
                    self.orders[command.id] = (event.recv_ns, command)
                elif isinstance(command, Decision):
                    self.decisions.append(command)
            return commands

        self.engine.kernel.handle = noting  # type: ignore[method-assign]
        self.engine.run()
        self.result = self.engine.result({}, [], {})

    @property
    def fills(self) -> list[OrderFilled]:
        return [event for event in self.events if isinstance(event, OrderFilled)]

    @property
    def equity(self) -> Decimal:
        return Decimal(str(self.result.summary["final_equity_usdt"]))


def settings(data: Path, symbols: str, strategy: object, **sections: object) -> Settings:
    configured = {
        "symbols": symbols.split(","),
        "timeframe": "1h",
        "strategies": [strategy],
        "data": {"dir": str(data)},
    }
    return Settings.model_validate(configured | sections)


def noted(configured: Settings, start_ns: int | None = None, end_ns: int | None = None) -> Noted:
    return Noted(Backtest(configured, start_ns, end_ns))


def crossing(data: Path, symbol: str, **simulation: object) -> Settings:
    """A fixed quantity, always in the market, no limit near."""
    frictions = {"funding": False, "delisting": False, "volume_share": None} | simulation
    return settings(
        data,
        symbol,
        CROSSING,
        risk={"initial_capital_usdt": 10_000_000},
        sizing={"method": "fixed_qty", "fixed_qty": 1},
        protection={"mode": "none"},
        simulation=frictions,
    )


# ---- the command on real bars ----------------------------------------------------------------------------------------


def command(shared: Path, start: str, end: str, *more: object) -> tuple[object, ...]:
    span = ("--timeframe", "1h", "--data", shared / "data" / "um", "--from", start, "--to", end)
    return ("backtest", *TREND, "--symbols", "BTCUSDT,ETHUSDT", *span, "--json", *more)


def test_the_whole_range_of_two_contracts_has_every_key_and_adds_up(shared: Path) -> None:
    done = tidegate(*command(shared, "2020-01-01", "2024-08-31"))
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    summary = json.loads(done.out)
    assert summary.keys() >= KEYS
    ((name, alone),) = summary["strategies"].items()
    assert (name, alone.keys()) == ("TrendFollowing", OF_A_STRATEGY)
    for key in ("sharpe", "sharpe_ci95", "max_drawdown", "turnover", "total_return", "costs"):
        assert alone[key] == summary[key]
    low, high = summary["sharpe_ci95"]
    assert low < summary["sharpe"] < high
    assert summary["scenario_share"]["UNKNOWN"] == 1.0
    for key, value in summary.items():
        if key.endswith("_usdt"):
            assert isinstance(value, str), key
            assert MONEY.fullmatch(value), (key, value)
    assert summary["ledger_difference_usdt"] == "0"
    files = [shared / "data/um" / name / "1h.parquet" for name in ("BTCUSDT", "ETHUSDT")]
    opens = np.concatenate([pq.read_table(path, columns=["open_time"])["open_time"].to_numpy() for path in files])
    assert summary["bars"] == (opens >= 1_577_836_800_000).sum() == 2 * 24 * 1705
    assert summary["trades"] > 100
    assert summary["total_return"] == pytest.approx(float(summary["final_equity_usdt"]) / 10_000 - 1)
    assert Decimal(summary["fees_usdt"]) > 0
    assert Decimal(summary["funding_usdt"]) != 0


def test_twice_the_same_but_for_the_timing_whatever_the_hash_seed(shared: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    arguments = command(shared, "2022-05-01", "2022-06-30", "--report", report)
    runs = [process(*arguments, PYTHONHASHSEED="1"), tidegate(*arguments), tidegate(*arguments)]
    assert [(run.code, run.err) for run in runs] == [(0, "")] * 3
    first, *others = (json.loads(run.out) for run in runs)
    assert all(list(other) == list(first) for other in others)
    for summary in (first, *others):
        assert summary.pop("bars_per_s") > 0
    assert others == [first, first]
    assert first["bars"] == 2 * 24 * 61
    page = report.read_text()
    assert page.rstrip().endswith("</html>")
    assert first["config_sha256"] in page
    assert not re.search(r"""<(?:script|link|img)[^>]*(?:src|href)\s*=\s*["']?(?!data:|#)""", page)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_that_fails_leaves_the_old_one_alone(walks: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("the old one")
    (tmp_path / "bad.py").write_text(
        "from tidegate import BaseStrategy\n\n\nclass Bad(BaseStrategy):\n    def decide(self, view):\n        1 / 0\n"
    )
    options = ("--symbols", "W0USDT", "--timeframe", "1h", "--data", walks, "--report", report)
    done = tidegate("backtest", "--strategy", f"{tmp_path}/bad.py:Bad", *options)
    assert_refused(done, "strategy Bad", "ZeroDivisionError: division by zero (bad.py:6)", code=1)
    assert report.read_text() == "the old one"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["bad.py", "report.html"]


def test_the_tear_sheet_for_people_says_the_same_as_the_json(walks: Path) -> None:
    options = ("--strategy", "TrendFollowing", "--symbols", "W0USDT,W1USDT", "--timeframe", "1h", "--data", walks)
    summary = json.loads(tidegate("backtest", *options, "--json").out)
    done = tidegate("backtest", *options)
    assert done.code == 0
    assert f"{float(summary['final_equity_usdt']):,.2f} USDT" in done.out
    assert f"{summary['fills']:,}" in done.out
    assert "not a forecast" in done.out
    assert re.search(r"^warning: ", done.err, re.MULTILINE)


def test_a_strategy_of_ones_own_with_a_longer_interval(walks: Path, tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(
        "from tidegate import EMA, BaseStrategy, Signal, View, param\n\n\n"
        "class Long(BaseStrategy):\n"
        "    slow_bars: int = param(default=6, low=2, high=50)\n\n"
        "    def setup(self) -> None:\n"
        "        self.fast = self.feature(EMA(3))\n"
        '        self.slow = self.feature(EMA(self.slow_bars), every="4h")\n\n'
        "    def decide(self, view: View) -> Signal | None:\n"
        "        return Signal(1.0 if self.fast.now > self.slow.now else -1.0)\n"
    )
    done = tidegate(
        *("backtest", "--strategy", f"{tmp_path}/long.py:Long", "--symbols", "W0USDT,W1USDT", "--timeframe", "1h"),
        *("--data", walks, "--json"),
    )
    assert (done.code, done.err) == (0, "")
    summary = json.loads(done.out)
    assert summary["trades"] > 5
    assert summary["ledger_difference_usdt"] == "0"


# ---- an independent account ------------------------------------------------------------------------------------------


def last_closes(data: Path, symbols: list[str], end_ns: int | None) -> dict[str, Decimal]:
    found = {}
    for name in symbols:
        table = pq.read_table(data / name / "1h.parquet", columns=["open_time", "close"])
        rows = zip(table["open_time"].to_pylist(), table["close"].to_pylist(), strict=True)
        found[name] = [close for at, close in rows if end_ns is None or at * 10**6 < end_ns][-1]
    return {name: Decimal(repr(close)) for name, close in found.items()}


def cash_account(run: Noted, capital: Decimal, closes: dict[str, Decimal]) -> Decimal:
    """The final equity by cash flows alone."""
    with localcontext(prec=80):
        cash, held = capital, defaultdict(Decimal)
        for event in run.events:
            if isinstance(event, OrderFilled):
                cash -= event.side.sign * event.qty * event.price + event.fee
                held[event.instrument] += event.side.sign * event.qty
            elif isinstance(event, FundingPaid):
                cash += event.amount
        return cash + sum((qty * closes[name] for name, qty in held.items()), Decimal(0))


def since_flat(run: Noted, name: InstrumentId, close: Decimal) -> Decimal:
    """What the position open at the end has changed the equity by, from the fill that opened it."""
    with localcontext(prec=80):
        held = change = Decimal(0)
        for event in run.events:
            if isinstance(event, OrderFilled) and event.instrument == name:
                after = held + event.side.sign * event.qty
                if held * after < 0:  # a flip: its second part opens
                    share = abs(after) / event.qty
                    change = -after * event.price - event.fee * share
                else:
                    change -= event.side.sign * event.qty * event.price + event.fee
                held = after
                if held == 0:
                    change = held
            elif isinstance(event, FundingPaid) and event.instrument == name:
                change += event.amount
        return change + held * close


@pytest.mark.parametrize("end", ["2022-05-20", "2022-06-09", "2022-06-30"])
def test_equity_is_capital_and_closed_trades_and_what_is_open(shared: Path, end: str) -> None:
    data, symbols = shared / "data" / "um", ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    start_ns, end_ns = (int(np.datetime64(day, "ns").astype(np.int64)) for day in ("2022-05-01", end))
    sections = {
        "simulation": {"slippage": {"model": "bps", "bps": 3}},
        "sizing": {"risk_per_trade_frac": 0.02},
        "portfolio": {"gross_leverage": 2},
    }
    quick = {"class": "TrendFollowing", "params": {"fast_bars": 5, "slow_bars": 20}}
    run = noted(settings(data, ",".join(symbols), quick, **sections), start_ns, end_ns)
    closes = last_closes(data, symbols, end_ns)
    assert run.engine.ledger_difference == 0
    assert run.equity == cash_account(run, Decimal(10_000), closes)
    trades = run.result.trades
    assert len(trades) > 20
    with localcontext(prec=80):
        still_open = sum((since_flat(run, InstrumentId(name), closes[name]) for name in symbols), Decimal(0))
        gained = sum((trade.net for trade in trades), still_open)
        assert abs(gained - (run.equity - 10_000)) <= Decimal("1e-8") * len(trades)  # a flip's fee is split at 1e-8
        summary = run.result.summary
        assert Decimal(str(summary["fees_usdt"])) == sum((fill.fee for fill in run.fills), Decimal(0))
        paid = [event.amount for event in run.events if isinstance(event, FundingPaid)]
        assert Decimal(str(summary["funding_usdt"])) == sum(paid, Decimal(0))
        assert len(paid) > 50
    assert summary["fills"] == len(run.fills)
    assert summary["orders"] == len(run.orders)
    assert summary["decisions"] == len(run.decisions)


@pytest.mark.parametrize("optimizer", ["none", "mean_variance"])
def test_what_the_strategies_earned_is_what_the_book_earned(walks: Path, optimizer: str) -> None:
    """Cash by fills and the lines of the virtual ledgers, which know nothing of each other, agree to the last digit."""
    quick = {"class": "TrendFollowing", "params": {"fast_bars": 5, "slow_bars": 20}}
    sections = {
        "strategies": [quick, {"class": "MeanReversion"}, CROSSING],
        "portfolio": {"optimizer": optimizer},
        "simulation": {"slippage": {"model": "bps", "bps": 3}},
    }
    run = noted(settings(walks, "W1USDT,W2USDT,W3USDT", quick, **sections))
    summary = run.result.summary
    strategies, others = summary["strategies"], summary["other_accounts"]
    assert isinstance(strategies, dict)
    assert isinstance(others, dict)
    assert list(strategies) == ["TrendFollowing", "MeanReversion", "EmaCross"]
    assert len(run.fills) > 50
    parts = [*strategies.values(), *others.values()]
    with localcontext(prec=80):
        assert sum((Decimal(each["net_usdt"]) for each in parts), Decimal(0)) == run.equity - 10_000
        costs = summary["costs"]
        assert isinstance(costs, dict)
        for key, total in costs.items():
            assert sum((Decimal(each["costs"][key]) for each in parts), Decimal(0)) == Decimal(total), key
    assert summary["attribution_difference_usdt"] == "0"
    for each in strategies.values():
        assert each.keys() == OF_A_STRATEGY
        assert list(each["scenario_share"]) == list(summary["scenario_share"])  # type: ignore[call-overload]


# ---- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["EmaCross", "TrendFollowing"])
def test_a_market_order_fills_at_the_next_open_and_never_on_its_own_bar(walks: Path, strategy: str) -> None:
    configured = (
        crossing(walks, "W3USDT")
        if strategy == "EmaCross"
        else settings(walks, "W3USDT", {"class": strategy, "params": {"fast_bars": 5, "slow_bars": 20}})
    )
    run = noted(configured)
    rows = walk(3, 700)
    opens = {row[0] * 10**6: Decimal(repr(row[1])) for row in rows}
    market = [fill for fill in run.fills if run.orders[fill.id][1].order_type is OrderType.MARKET]
    assert len(market) > 10
    for fill in market:
        decided_ns, _ = run.orders[fill.id]
        assert decided_ns <= fill.ts_ns < decided_ns + HOUR_NS
        assert fill.reference == opens[fill.ts_ns]
        assert (fill.price - fill.reference) * fill.side.sign >= 0  # slippage is never a gift
    for fill in run.fills:
        assert fill.ts_ns >= run.orders[fill.id][0]
        if fill not in market:  # a stop rests before it can fill: on a later instant than the one that sent it
            assert fill.ts_ns > run.orders[fill.id][0]


def test_costs_never_raise_what_is_left(walks: Path) -> None:
    fees = [noted(crossing(walks, "W1USDT", taker_fee=fee)) for fee in ("0", "0.0002", "0.0005", "0.002")]
    slips = [
        noted(crossing(walks, "W1USDT", slippage={"model": model, "bps": bps, "impact": impact}))
        for model, bps, impact in [
            ("none", 1, 0),
            ("bps", 1, 0),
            ("bps", 5, 0),
            ("spread_impact", 5, 0.5),
            ("spread_impact", 5, 2),
        ]
    ]
    for ladder in (fees, slips):
        assert len({len(run.fills) for run in ladder}) == 1
        for cheap, dear in itertools.pairwise(ladder):
            assert dear.equity < cheap.equity
            assert [fill.ts_ns for fill in dear.fills] == [fill.ts_ns for fill in cheap.fills]
    free, charged = fees[0], fees[2]
    assert free.equity - charged.equity == Decimal(str(charged.result.summary["fees_usdt"]))
    assert slips[0].equity - slips[2].equity == pytest.approx(
        Decimal(str(slips[2].result.summary["slippage_usdt"])), rel=Decimal("0.01")
    )


def test_without_an_edge_the_mean_result_is_the_costs(walks: Path) -> None:
    """On prices that nobody can foresee, the runs end where their costs put them, give or take their luck."""
    before_costs, costs = [], []
    for seed in range(WALKS):
        run = noted(crossing(walks, f"W{seed}USDT"))
        paid = float(str(run.result.summary["fees_usdt"]))
        costs.append(paid)
        before_costs.append(float(run.equity) - 10_000_000 + paid)
    luck = np.std(before_costs, ddof=1) / np.sqrt(len(before_costs))
    assert abs(np.mean(before_costs)) < 3.0 * luck
    assert np.mean(costs) > 5.0


# ---- the shift test --------------------------------------------------------------------------------------------------


LATE = '''
import msgspec

from tidegate import EMA, BaseStrategy, Signal, View, param


class Kept(msgspec.Struct):
    sides: list[float] = msgspec.field(default_factory=list)


class Late(BaseStrategy):
    """The crossover, said a number of bars after it was seen."""

    late_bars: int = param(default=0, low=0, high=10)
    memory: Kept = Kept()

    def setup(self) -> None:
        self.fast = self.feature(EMA(3))
        self.slow = self.feature(EMA(12))

    def decide(self, view: View) -> Signal | None:
        sides = self.memory.sides
        sides.append(1.0 if self.fast.now > self.slow.now else -1.0)
        if len(sides) <= self.late_bars:
            return None
        return Signal(sides.pop(0))
'''


def test_saying_it_a_bar_late_does_not_help(shared: Path, tmp_path: Path) -> None:
    """A bar's delay would cost a peek its edge; what is decided on closed bars loses little and gains nothing much."""
    (tmp_path / "late.py").write_text(LATE)
    data, symbols = shared / "data" / "um", "BTCUSDT,ETHUSDT,SOLUSDT"
    span = [int(np.datetime64(day, "ns").astype(np.int64)) for day in ("2022-01-01", "2022-12-31")]
    sharpes = []
    for late_bars in (0, 1):
        strategy = {"class": f"{tmp_path}/late.py:Late", "params": {"late_bars": late_bars}}
        run = noted(settings(data, symbols, strategy), *span)
        sharpes.append(float(str(run.result.summary["sharpe"])))
    punctual, late = sharpes
    assert late < punctual + 0.5
    assert punctual < 4.0


# ---- truncation on real bars -----------------------------------------------------------------------------------------


class Altered:
    """Stored history in memory; from ``cut_ns`` on it is another one."""

    def __init__(self, history: Any, cut_ns: int, kind: str) -> None:
        self._history, self._cut_ns, self._kind = history, cut_ns, kind

    def bars(self, instrument: InstrumentId, bar: BarSpec, start_ns: int, end_ns: int) -> Any:
        last_ns = self._cut_ns if self._kind == "cut" else end_ns
        for table in self._history.bars(instrument, bar, start_ns, last_ns):
            yield self._changed(table)

    def marks(self, instrument: InstrumentId, start_ns: int, end_ns: int) -> Any:
        for table in self._history.marks(instrument, start_ns, end_ns):
            yield self._changed(table)

    def funding(self, instrument: InstrumentId, start_ns: int, end_ns: int) -> Any:
        for event in self._history.funding(instrument, start_ns, end_ns):
            if self._kind != "cut" or event.ts_ns <= self._cut_ns:
                yield event

    def _changed(self, table: BarTable) -> BarTable:
        if self._kind == "cut":
            return table
        later = table.ts_ns > self._cut_ns
        factor = np.where(later, 1.37 if self._kind == "higher" else 0.61, 1.0)
        prices = (column * factor for column in (table.open, table.high, table.low, table.close))
        return BarTable(table.interval_ns, table.ts_ns, *prices, np.where(later, table.volume / 7, table.volume))


@cache
def real_run(data: Path, cut_ns: int, kind: str) -> list[Decision]:
    quick = {"class": "TrendFollowing", "params": {"fast_bars": 5, "slow_bars": 20}}
    sections = {
        "sizing": {"risk_per_trade_frac": 0.02},
        "portfolio": {"gross_leverage": 2},
        "simulation": {"slippage": {"model": "bps"}, "latency_ms": 100, "volume_share": 0.0001},
    }
    span = [int(np.datetime64(day, "ns").astype(np.int64)) for day in ("2022-05-01", "2022-06-15")]
    run = Backtest(settings(data, "BTCUSDT,ETHUSDT", quick, **sections), *span)
    if kind:
        source = run.plan.source
        source._history = Altered(source._history, cut_ns, kind)  # type: ignore[attr-defined]
    return Noted(run).decisions


@pytest.mark.parametrize("kind", ["cut", "higher", "lower"])
@pytest.mark.parametrize("day", ["2022-05-09T13", "2022-05-12T00", "2022-06-01T07"])
def test_later_bars_change_no_decision_on_real_data(shared: Path, day: str, kind: str) -> None:
    data = shared / "data" / "um"
    cut_ns = int(np.datetime64(day, "ns").astype(np.int64))
    whole, other = real_run(data, 0, ""), real_run(data, cut_ns, kind)
    until = [each for each in whole if each.ts_ns <= cut_ns]
    assert len(until) > 100
    assert [each for each in other if each.ts_ns <= cut_ns] == until
    assert other != whole
