"""The whole kernel at work, against an independent account: ``python -m benchmarks.ema_cross --bars 525600 --json``.

An EMA(10)/EMA(50) crossover, always in the market, market orders at the next open, 0.05 % taker fee, a fixed quantity,
no slippage, no funding, no protection. The engine runs it with ledger, orders, gate and margin; the plain account is
thirty lines of Python. Fills and final equity must agree to the last digit; the exit code is 1 when they do not.

``bars_per_s`` counts the engine's run alone: neither making the bars nor working up the figures afterwards.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from statistics import median
from time import perf_counter

import msgspec
import numpy as np

from benchmarks.ema_strategy import EmaCross
from benchmarks.plain_account import PlainFill, plain_account
from tidegate.adapters.files.history import load_bar_file
from tidegate.adapters.files.instruments import infer_instrument, read_exchange_info
from tidegate.app.backtest import BacktestEngine, BacktestPlan
from tidegate.app.tally import plain
from tidegate.domain.errors import ConfigError, TidegateError
from tidegate.domain.ids import InstrumentId, StrategyId
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import MINUTE_NS, FundingRate
from tidegate.domain.orders import OrderFilled
from tidegate.execution.protection import ProtectionSettings
from tidegate.kernel.kernel import KernelSettings
from tidegate.kernel.wishes import StrategySpec
from tidegate.quant.bars import BarTable
from tidegate.risk.sizing import SizingSettings
from tidegate.simulator.frictions import Frictions
from tidegate.simulator.session import Chunk
from tidegate.simulator.synthetic import SyntheticMarket

FOREVER_NS = 2**62
TAKER_FEE = Decimal("0.0005")


class Stored:
    """Bars in memory, without funding and mark prices."""

    def __init__(self, tables: list[BarTable]) -> None:
        self.tables = tables

    def chunks(self, instrument: InstrumentId) -> Iterator[Chunk]:  # noqa: ARG002
        return (Chunk(table) for table in self.tables)

    def funding(self, instrument: InstrumentId) -> Iterator[FundingRate]:  # noqa: ARG002
        return iter(())

    def marks(self, instrument: InstrumentId) -> Iterator[BarTable]:  # noqa: ARG002
        return iter(())

    def column(self, name: str) -> list[float]:
        """One column of all bars."""
        return [float(x) for x in np.concatenate([getattr(table, name) for table in self.tables])]


def invented(bars: int, seed: int) -> Stored:
    """Seeded one-minute bars."""
    tables: list[BarTable] = []
    left = bars
    for chunks in SyntheticMarket(seed, ("BTCUSDT",), MINUTE_NS).chunks(65_536):
        (chunk,) = chunks.values()
        t = chunk.table
        cut = slice(0, left)
        tables.append(
            BarTable(t.interval_ns, t.ts_ns[cut], t.open[cut], t.high[cut], t.low[cut], t.close[cut], t.volume[cut])
        )
        left -= len(tables[-1])
        if left <= 0:
            return Stored(tables)
    return Stored(tables)


def contract(name: InstrumentId, stored: Stored, exchange_info: Path | None) -> Instrument:
    """Tick and step from an exchangeInfo file when given, else from the bars, with no smallest notional."""
    if exchange_info is None:
        found = msgspec.structs.replace(infer_instrument(name, stored.tables), min_notional=Decimal(0))
    else:
        listed = read_exchange_info(exchange_info)
        if name not in listed:
            raise ConfigError(f"{exchange_info} has no perpetual {name}")
        found = listed[name]
    return msgspec.structs.replace(found, taker_fee=TAKER_FEE)


def run_engine(instrument: Instrument, stored: Stored, qty: Decimal, capital: Decimal) -> BacktestEngine:
    """One run of the whole kernel."""
    settings = KernelSettings(
        stored.tables[0].interval_ns,
        sizing=SizingSettings("fixed_qty", fixed_qty=qty),
        protection=ProtectionSettings(enabled=False),
    )
    spec = StrategySpec(StrategyId("EmaCross"), EmaCross(), (instrument.id,))
    frictions = Frictions(trade_empty_bars=True)
    plan = BacktestPlan(
        settings, {instrument.id: instrument}, (spec,), stored, capital, frictions, delisting=False, funding=False
    )
    engine = BacktestEngine(plan)
    engine.run()
    return engine


def fills_of(engine: BacktestEngine, stored: Stored) -> list[PlainFill]:
    """The engine's fills in the form of the plain account."""
    ends = np.concatenate([table.ts_ns for table in stored.tables])
    opens = ends - stored.tables[0].interval_ns
    return [
        PlainFill(int(np.searchsorted(opens, fill.ts_ns)), fill.side.sign * fill.qty, fill.price, fill.fee)
        for fill in engine.tally.events
        if isinstance(fill, OrderFilled)
    ]


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Run both, several times, and compare."""
    qty, capital = Decimal(options.qty), Decimal(options.capital)
    if options.data is not None:
        stored = Stored(list(load_bar_file(options.data, None, 0, FOREVER_NS)))
        name = InstrumentId(options.symbol or options.data.resolve().parent.name)
    else:
        stored, name = invented(options.bars, options.seed), InstrumentId("BTCUSDT")
    instrument = contract(name, stored, options.exchange_info)
    opens, closes = stored.column("open"), stored.column("close")
    engine_rates, plain_rates = [], []
    for _ in range(options.repeat):
        engine = run_engine(instrument, stored, qty, capital)
        engine_rates.append(engine.session.bars / engine.seconds)
        started = perf_counter()
        expected, equity = plain_account(opens, closes, qty=qty, capital=capital, fee_rate=TAKER_FEE)
        plain_rates.append(len(closes) / (perf_counter() - started))
    fills = fills_of(engine, stored)
    reached = engine.tally.equity[-1][1] if engine.tally.equity else capital
    differing = next((k for k, (a, b) in enumerate(zip(fills, expected, strict=False)) if a != b), None)
    return {
        "bars": len(closes),
        "engine": {"bars_per_s": round(median(engine_rates)), "fills": len(fills), "equity_usdt": plain(reached)},
        "plain": {"bars_per_s": round(median(plain_rates)), "fills": len(expected), "equity_usdt": plain(equity)},
        "equal": fills == expected and reached == equity,
        "first_differing_fill": differing,
        "ledger_difference_usdt": plain(engine.ledger_difference),
        "repeats": options.repeat,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ema_cross", description=__doc__.partition("\n")[0])
    parser.add_argument("--bars", type=int, default=525_600, help="seeded one-minute bars to invent")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--data", type=Path, help="a bar file instead: parquet, csv or json")
    parser.add_argument("--symbol", help="its symbol, for --exchange-info; else the name of its folder")
    parser.add_argument("--exchange-info", type=Path, help="exchangeInfo file with tick and step")
    parser.add_argument("--qty", default="1")
    parser.add_argument("--capital", default="10000000")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, the median counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        report = measure(options)
    except TidegateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key:24} {value}")
    return 0 if report["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
