"""What a run earned, and whether that can be believed: figures from daily UTC equity."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.ids import Nanos
from tidegate.domain.market import DAY_NS
from tidegate.quant.bootstrap import sharpe_interval
from tidegate.quant.measures import annualized_volatility, max_drawdown, sharpe_ratio, simple_returns, sortino_ratio

DAYS_PER_YEAR = 365
"""The annualisation factor of every figure here."""


def summarise(equity: Sequence[tuple[Nanos, Decimal]]) -> dict[str, float | None]:
    """The figures of an equity curve ``(ts_ns, USDT)`` in time order; the first point is the starting capital.

    Keys: ``days`` (calendar length), ``total_return``, ``cagr`` (by calendar time, a year being 365 days),
    ``annual_volatility``, ``sharpe``, ``sortino`` and ``max_drawdown`` (of the equity at each UTC midnight and at the
    end; a day that is cut short counts as a day). Fractions; None where undefined. Daily returns end at ruin.
    Raises ``ValueError`` for an empty or unordered curve, or capital that is not positive.
    """
    _, daily = _daily(equity)
    (first_ns, first), (last_ns, last) = equity[0], equity[-1]
    if first_ns == last_ns:
        return {"days": 0.0} | dict.fromkeys(
            ("total_return", "cagr", "annual_volatility", "sharpe", "sortino", "max_drawdown")
        )
    returns = _returns_to_ruin(daily)
    days = (last_ns - first_ns) / DAY_NS
    figures = {
        "days": days,
        "total_return": float(last / first - 1),
        "cagr": _growth_per_year(float(last / first), days / DAYS_PER_YEAR),
        "annual_volatility": annualized_volatility(returns, DAYS_PER_YEAR),
        "sharpe": sharpe_ratio(returns, 0.0, DAYS_PER_YEAR),
        "sortino": sortino_ratio(returns, 0.0, DAYS_PER_YEAR),
        "max_drawdown": max_drawdown(daily, equity=True),
    }
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def sharpe_ci95(equity: Sequence[tuple[Nanos, Decimal]]) -> list[float] | None:
    """The 95 % interval ``[low, high]`` of the Sharpe ratio of ``summarise``; None where undefined.

    By the stationary bootstrap, always with the same seed. Raises as ``summarise``.
    """
    return sharpe_ci95_of(_returns_to_ruin(_daily(equity)[1]))


def sharpe_ci95_of(returns: NDArray[np.float64]) -> list[float] | None:
    """The same of daily returns ``(D,)``."""
    low, high = sharpe_interval(returns, 0.95, periods_per_year=DAYS_PER_YEAR)
    return [low, high] if math.isfinite(low) else None


def monthly_returns(equity: Sequence[tuple[Nanos, Decimal]]) -> dict[tuple[int, int], float]:
    """The return of each calendar month (UTC) as ``{(year, month): fraction}``, in time order.

    Midnight on the first of a month closes the month before. The first and the last month may be cut short; the
    months compound to the total return. They end at ruin.
    """
    ends_ns, daily = _daily(equity)
    months = (ends_ns - 1).astype("datetime64[ns]").astype("datetime64[M]").astype(np.int64)
    last_of_month = np.flatnonzero(np.diff(months, append=-1) != 0)
    found: dict[tuple[int, int], float] = {}
    before = float(daily[0])
    for index in last_of_month:
        if before <= 0.0:
            break
        after = float(daily[index + 1])
        year, month = divmod(int(months[index]), 12)
        found[1970 + year, month + 1] = after / before - 1.0
        before = after
    return found


def implausible(summary: Mapping[str, object]) -> list[str]:
    """What makes a result hard to believe, one plain sentence each; empty when nothing does.

    Reads the keys of ``summarise`` and ``trades``, ``fees_usdt``, ``slippage_usdt``, ``ledger_difference_usdt`` and
    ``attribution_difference_usdt``; amounts may be decimal strings. What is not there, or None, is not judged.
    """
    return [*_too_good(summary), *_too_thin(summary), *_too_cheap(summary)]


def _too_good(summary: Mapping[str, object]) -> list[str]:
    found: list[str] = []
    days, sharpe, growth = (_number(summary, key) for key in ("days", "sharpe", "cagr"))
    trades, drawdown = _number(summary, "trades"), _number(summary, "max_drawdown")
    if sharpe is not None and sharpe > 4 and (days is None or days > 60):
        found.append(f"A Sharpe ratio of {sharpe:.2f} is rarely real: look for a peek at the future or a missing cost.")
    if growth is not None and growth > 10:
        found.append(f"Growth of {growth:,.0%} a year does not scale: look at position sizes and market impact.")
    if drawdown is not None and drawdown < 0.001 and trades is not None and trades > 100:
        found.append(f"A maximum drawdown of {drawdown:.3%} over {trades:,.0f} trades is too smooth to be a market.")
    return found


def _too_thin(summary: Mapping[str, object]) -> list[str]:
    found: list[str] = []
    days, trades, total = (_number(summary, key) for key in ("days", "trades", "total_return"))
    if trades == 0:
        found.append("Nothing was traded.")
    elif trades is not None and trades < 30:
        found.append(f"With {trades:.0f} trades, fewer than 30, luck explains most of any result.")
    if days is not None and days < 30:
        found.append(f"The run covers {days:.1f} days; annual figures of less than 30 days mean little.")
    if total is not None and total <= -1:
        found.append("The account was ruined: nothing after that is a result.")
    return found


def _too_cheap(summary: Mapping[str, object]) -> list[str]:
    found: list[str] = []
    trades, fees, slippage = (_number(summary, key) for key in ("trades", "fees_usdt", "slippage_usdt"))
    if trades and fees == 0:
        found.append("No fees were charged although there were trades.")
    if trades and slippage == 0:
        found.append("Fills cost no slippage at all: no spread and no impact.")
    if _number(summary, "ledger_difference_usdt"):
        found.append(f"The books of kernel and venue differ by {summary['ledger_difference_usdt']} USDT.")
    if _number(summary, "attribution_difference_usdt"):
        by = summary["attribution_difference_usdt"]
        found.append(f"The results of the strategies differ from the change of equity by {by} USDT.")
    return found


def _daily(equity: Sequence[tuple[Nanos, Decimal]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The ends of the UTC days touched ``(D,)``, and the capital with the equity at each of them ``(D+1,)``.

    A day without a point keeps the equity of the day before.
    """
    if not equity:
        raise ValueError("an equity curve needs at least its starting capital")
    ts_ns = np.array([ts for ts, _ in equity], dtype=np.int64)
    if (np.diff(ts_ns) < 0).any():
        raise ValueError("an equity curve must be in time order")
    if equity[0][1] <= 0:
        raise ValueError(f"the starting capital must be positive, not {equity[0][1]}")
    values = np.array([float(value) for _, value in equity])
    first_end = (ts_ns[0] // DAY_NS + 1) * DAY_NS
    ends_ns = np.arange(first_end, ts_ns[-1] + DAY_NS, DAY_NS, dtype=np.int64)
    known = np.searchsorted(ts_ns, ends_ns, side="right") - 1
    return ends_ns, np.concatenate((values[:1], values[known]))


def _returns_to_ruin(daily: NDArray[np.float64]) -> NDArray[np.float64]:
    ruined = np.flatnonzero(daily <= 0.0)
    if not ruined.size:
        return simple_returns(daily)
    return np.append(simple_returns(daily[: ruined[0]]), -1.0)


def _growth_per_year(growth: float, years: float) -> float:
    if growth <= 0.0:
        return -1.0
    try:
        return math.expm1(math.log(growth) / years)
    except OverflowError:
        return math.nan


def _number(summary: Mapping[str, object], key: str) -> float | None:
    value = summary.get(key)
    return None if value is None else float(str(value))
