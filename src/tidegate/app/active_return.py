"""What the weights of a book were worth: its return against a constant, even mix of the same strategies.

1. The segments are the strategies. A strategy's weight is its share of the risk budget in force at the beginning of the
   day, its return what it earned at the reference prices over that share of equity.
2. The benchmark gives each strategy the same share all the time, earns the same return on it, and pays nothing. So
   there is no selection and no interaction: what it does not have are the regimes (allocation), and costs.
3. Fees, funding and slippage are effects of their own, as are what netting saved and what has no weight: what nobody
   asked for, or what a strategy earned on a day on which it had no budget; the benchmark gets nothing for such a day.
4. Days are linked. What a strategy would have earned with another share is a model: limits and the target volatility do
   not scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np

from tidegate.app.contributions import Amounts, daily
from tidegate.domain.ids import Nanos, StrategyId
from tidegate.domain.market import DAY_NS
from tidegate.domain.signals import RegimeChanged, StrategyResult
from tidegate.portfolio.virtual import NETTING, UNASSIGNED
from tidegate.quant.attribution import CASH, LinkedAttribution, PerformanceAttributor

COSTS: Final = ("fees", "funding", "slippage", "netting", "without a weight")


@dataclass(frozen=True, slots=True)
class ActiveReturn:
    """The linked effects of ``days``, up to the ruin of either side. ``segments`` ends with cash; ``weights``
    are the book's means ``(N+1,)``, ``even`` the benchmark's."""

    segments: tuple[str, ...]
    weights: tuple[float, ...]
    even: tuple[float, ...]
    others: tuple[str, ...]
    linked: LinkedAttribution
    days: int


def against_even_mix(
    names: Sequence[StrategyId],
    lines: Sequence[StrategyResult],
    regimes: Sequence[RegimeChanged],
    first_ns: Nanos,
    last_ns: Nanos,
    capital: Decimal,
) -> ActiveReturn | None:
    """The book against the even mix, by Carino's linking; None without lines or weights, for less than a day before
    ruin, and where a strategy's name is that of an effect."""
    days = daily(lines, first_ns, last_ns, capital)
    if not regimes or not lines or not days.ends_ns.size or {*names} & {CASH, *COSTS}:
        return None
    by_day: dict[int, list[StrategyResult]] = {}
    for line in lines:
        by_day.setdefault(int(np.searchsorted(days.ends_ns, line.ts_ns)), []).append(line)
    even: dict[str, float] = dict.fromkeys(names, 1.0 / len(names))
    attributor = PerformanceAttributor(names, COSTS)
    weights: Mapping[str, float] = even
    coming = iter(regimes)
    change = next(coming, None)
    held = np.zeros(len(names) + 1)
    for index, (end_ns, equity) in enumerate(zip(days.ends_ns, days.equity[:-1], strict=True)):
        while change is not None and change.ts_ns <= end_ns - DAY_NS:
            weights, change = dict(change.weights), next(coming, None)
        own: dict[str, float] = {name: weights.get(name, 0.0) for name in names}
        held += [*own.values(), 1.0 - sum(own.values())]
        earned, others, net = _split(by_day.get(index, ()), own, float(equity))
        mix: dict[str, float] = {name: earned.get(name, 0.0) for name in names}
        if net <= -1.0 or sum(even[name] * mix[name] for name in names) <= -1.0:
            break  # one of the two is ruined: nothing can be linked beyond that
        attributor.record(own, earned, even, mix, others, portfolio_return=net)
    if not attributor.periods:
        return None
    mean = tuple((held / len(attributor.periods)).tolist())
    return ActiveReturn(
        attributor.segments,
        mean,
        (*even.values(), 0.0),
        attributor.others,
        attributor.linked(),
        len(attributor.periods),
    )


def _split(
    lines: Sequence[StrategyResult], weights: Mapping[str, float], equity: float
) -> tuple[dict[str, float], dict[str, float], float]:
    """The day's returns by strategy, contributions without a weight, and the return of the book."""
    earned: dict[str, float] = {name: 0.0 for name, weight in weights.items() if weight}
    others = dict.fromkeys(COSTS, 0.0)
    for name in dict.fromkeys(line.strategy for line in lines):
        sums = Amounts.of(line for line in lines if line.strategy == name)
        price, fees, slippage, funding = (
            float(each) / equity for each in (sums.price, sums.fees, sums.slippage, sums.funding)
        )
        if name in (NETTING, UNASSIGNED) or not weights.get(name):
            others["without a weight"] += price
        else:
            earned[name] = price / weights[name]
        others["netting" if name == NETTING else "fees"] -= fees
        others["slippage"] -= slippage
        others["funding"] += funding
    return earned, others, float(Amounts.of(lines).net) / equity
