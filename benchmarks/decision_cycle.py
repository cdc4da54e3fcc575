"""How long one full decision cycle takes: ``python -m benchmarks.decision_cycle --json``.

The bars of 20 symbols close together; the cycle is everything that the kernel does from the first of them to the answer
to the last: features and wishes of the four strategies, the regime filter, budgets, optimiser, limits of risk, sizes,
the gate, orders. Nothing is left out but the fit of the models, which runs in another process in the daemon (its time
is told apart). The features are stepped, as they are live. An invented market is run until the first fit is in force;
the cycles after that are measured. Exit code 1 when p99 is above ``--target`` milliseconds.
"""

import argparse
import gc
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from time import perf_counter, thread_time
from typing import Any

import msgspec
import numpy as np

from tidegate.app.bootstrap import DEMO_DEFAULTS, kernel_settings, strategy_specs
from tidegate.app.config import Settings
from tidegate.app.markets import InventedMarket
from tidegate.app.workers import fitted
from tidegate.domain.ids import InstrumentId
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import DAY_NS, HOUR_NS, Bar
from tidegate.domain.messages import Event, FitModel, ModelFitted
from tidegate.domain.orders import ApprovedOrder
from tidegate.kernel.feeders import StepFeeder
from tidegate.kernel.kernel import Kernel
from tidegate.simulator.exchange import Exchange
from tidegate.simulator.frictions import FixedSlippage, Frictions
from tidegate.simulator.session import Session
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE, SyntheticMarket


def contracts(count: int) -> list[Instrument]:
    """``count`` invented contracts, the usual ones under other names."""
    return [
        msgspec.structs.replace(DEFAULT_UNIVERSE[n % len(DEFAULT_UNIVERSE)], id=InstrumentId(f"C{n:02d}USDT"))
        for n in range(count)
    ]


class Cycles:
    """Runs the market and measures. ``closes`` holds, for each cycle, seconds, seconds of the processor, and orders."""

    def __init__(self, symbols: int, days: int, seed: int) -> None:
        listed = contracts(symbols)
        settings = Settings.model_validate(
            {
                **DEMO_DEFAULTS,
                "symbols": [each.id for each in listed],
                "timeframe": "1h",
                "seed": seed,
                "risk": {"brake": "none", "target_volatility": 0.3},
            }
        )
        instruments = {each.id: each for each in listed}
        self.kernel = Kernel(kernel_settings(settings), instruments, strategy_specs(settings), StepFeeder())
        exchange = Exchange(listed, Decimal(100_000), Frictions(FixedSlippage(2.0)))
        market = SyntheticMarket(seed, listed, HOUR_NS)
        self.session = Session(exchange, instruments, InventedMarket(market))
        self._ends_ns = market.start_ns + days * DAY_NS
        self.closes: list[tuple[float, float, int]] = []
        self.fit_s: list[float] = []

    def run(self) -> None:
        """Until the market has lasted long enough."""
        spent, worked, orders, close_ns, known = 0.0, 0.0, 0, 0, False
        for event in self._events():
            started, began = perf_counter(), thread_time()
            commands = self.kernel.handle(event)
            taken, busy = perf_counter() - started, thread_time() - began
            if type(event) is Bar:
                if event.ts_ns != close_ns:
                    if known:
                        self.closes.append((spent, worked, orders))
                    spent, worked, orders, close_ns = 0.0, 0.0, 0, event.ts_ns
                spent += taken
                worked += busy
                orders += sum(type(each) is ApprovedOrder for each in commands)
            for command in commands:
                if isinstance(command, FitModel):
                    known = self._fit(command, event.recv_ns) or known
                else:
                    self.session.execute(command, event.recv_ns)

    def _events(self) -> Iterator[Event]:
        for event in self.session.events():
            if event.recv_ns > self._ends_ns:
                return
            yield event

    def _fit(self, asked: FitModel, now_ns: int) -> bool:
        started = perf_counter()
        parameters = fitted(asked)
        self.fit_s.append(perf_counter() - started)
        self.kernel.handle(ModelFitted(asked.model, asked.activation_ns, parameters, now_ns, now_ns))
        return True


def measure(symbols: int, days: int, seed: int) -> dict[str, Any]:
    """The figures of one run."""
    cycles = Cycles(symbols, days, seed)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # as the daemon sets it
    cycles.run()
    taken, worked = (np.array([each[n] for each in cycles.closes]) * 1e3 for n in (0, 1))
    traded = np.array([orders > 0 for _, _, orders in cycles.closes])
    return {
        "symbols": symbols,
        "cycles": len(taken),
        "with_orders": int(traded.sum()),
        "orders": int(sum(orders for _, _, orders in cycles.closes)),
        "p50_ms": round(float(np.percentile(taken, 50)), 3),
        "p99_ms": round(float(np.percentile(taken, 99)), 3),
        "p50_cpu_ms": round(float(np.percentile(worked, 50)), 3),
        "p99_cpu_ms": round(float(np.percentile(worked, 99)), 3),
        "max_ms": round(float(taken.max()), 3),
        "p99_with_orders_ms": round(float(np.percentile(taken[traded], 99)), 3) if traded.any() else None,
        "fits": len(cycles.fit_s),
        "median_fit_s": round(float(np.median(cycles.fit_s)), 3) if cycles.fit_s else None,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--target", type=float, default=20.0, help="p99 in milliseconds")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.symbols, given.days, given.seed)
    reached = found["p99_ms"] < given.target
    if given.json:
        print(json.dumps({**found, "target_ms": given.target, "reached": reached}))
    else:
        for name, value in found.items():
            print(f"{name:>20} {value}")
        print(f"p99 {'below' if reached else 'NOT below'} {given.target} ms")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
