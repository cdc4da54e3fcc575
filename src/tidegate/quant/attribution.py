"""PerformanceAttributor: why a book earned something else than its benchmark, effect by effect, with nothing left over.

1. A period has weights at its beginning and simple returns, by segment (strategies, coins, sleeves), of the book and of
   its benchmark. Weights are shares of equity and may be negative; what they leave of equity, or borrow, is the segment
   ``cash``. A segment of weight zero on one side takes the return of the other side.
2. Brinson-Fachler: ``A_i = (wp_i - wb_i)(rb_i - RB)``, ``S_i = wb_i (rp_i - rb_i)``, ``I_i = (wp_i - wb_i)(rp_i -
   rb_i)``. What has no weight (fees, funding, slippage, what netting saved) is a contribution on equity of its own, the
   benchmark's taken off.
3. Each effect has its formula, none is what the others leave. ``residual`` is their sum less ``RP - RB``: rounding, or
   an error.
4. Periods are short (a day) and are linked, for effects of many periods do not add up: each period's effects are
   multiplied by a coefficient (Carino, Menchero), or compounded (geometric). All three are exact.

Sources: Brinson & Fachler 1985; Carino 1999, Combining attribution effects over time; Menchero 2000, An optimized
approach to linking attribution effects over time; Bacon 2008, Practical Portfolio Performance Measurement and
Attribution, for the geometric model and the table in the tests.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.columns import column_of

Floats = NDArray[np.float64]
Linking = Literal["carino", "menchero"]

CASH: Final = "cash"
"""The segment that makes weights sum to one."""

COSTS: Final = ("fees", "funding", "slippage")
"""Effects without a weight, as contributions on equity: what was paid is negative."""

_SAME_WEIGHT: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """Effects by segment ``(N,)`` and without a weight ``(K,)``, as fractions of equity, over one period or many."""

    portfolio_return: float
    benchmark_return: float
    allocation: Floats
    selection: Floats
    interaction: Floats
    others: Floats
    """Fees, funding, slippage and the like, the benchmark's taken off."""

    @property
    def active(self) -> float:
        """``RP - RB``."""
        return self.portfolio_return - self.benchmark_return

    @property
    def total(self) -> float:
        """The sum of all effects."""
        return math.fsum([*self.allocation, *self.selection, *self.interaction, *self.others])

    @property
    def residual(self) -> float:
        """The sum of all effects less the active return: rounding, below 1e-12, or something is wrong."""
        return self.total - self.active


@dataclass(frozen=True, slots=True, eq=False)
class LinkedAttribution(Attribution):
    """Effects over many periods, and the coefficient ``(T,)`` that each period's were multiplied by."""

    coefficients: Floats


@dataclass(frozen=True, slots=True, eq=False)
class GeometricAttribution:
    """Compounded effects over the periods: ``(1 + allocation)(1 + selection)(1 + others) = (1 + RP) / (1 + RB)``.

    ``selection`` holds the interaction. ``active`` is ``(1 + RP) / (1 + RB) - 1``.
    """

    portfolio_return: float
    benchmark_return: float
    allocation: float
    selection: float
    others: float

    @property
    def active(self) -> float:
        return (1.0 + self.portfolio_return) / (1.0 + self.benchmark_return) - 1.0

    @property
    def residual(self) -> float:
        """The effects compounded less the active return."""
        return (1.0 + self.allocation) * (1.0 + self.selection) * (1.0 + self.others) - 1.0 - self.active


# ---- one period ------------------------------------------------------------------------------------------------------


def brinson_fachler(
    portfolio_weights: ArrayLike,
    portfolio_returns: ArrayLike,
    benchmark_weights: ArrayLike,
    benchmark_returns: ArrayLike,
    *,
    others: ArrayLike = (),
    benchmark_others: ArrayLike | None = None,
    portfolio_return: float | None = None,
) -> Attribution:
    """The effects of one period from ``(N,)`` weights and returns of both sides.

    A return may be NaN where its weight is 0. ``others (K,)`` are contributions without a weight. ``portfolio_return``
    is what the book says that it earned, net; without it, it is the sum of the contributions, and the residual can show
    rounding only. Raises ``ValueError`` on unlike lengths, on a number that is missing, and when the weights of the two
    sides do not have the same sum: carry a cash segment then (``with_cash``).
    """
    wp, rp, wb, rb = _sides(portfolio_weights, portfolio_returns, benchmark_weights, benchmark_returns)
    own = column_of(others)
    theirs = np.zeros(own.size) if benchmark_others is None else column_of(benchmark_others)
    if theirs.shape != own.shape:
        raise ValueError(f"{own.size} other contributions of the book stand against {theirs.size} of its benchmark")
    if not (np.isfinite(own).all() and np.isfinite(theirs).all()):
        raise ValueError("an attribution needs finite contributions")
    gross = math.fsum(wb * rb)
    earned = math.fsum([*(wp * rp), *own]) if portfolio_return is None else portfolio_return
    return Attribution(
        earned,
        math.fsum([gross, *theirs]),
        (wp - wb) * (rb - gross),
        wb * (rp - rb),
        (wp - wb) * (rp - rb),
        own - theirs,
    )


def with_cash(weights: ArrayLike, returns: ArrayLike, cash_return: float = 0.0) -> tuple[Floats, Floats]:
    """Weights and returns ``(N,)`` with the cash segment ``1 - sum w`` behind them, ``(N + 1,)``.

    Of a book that is short as much as it is long, cash is all of equity; of a levered one it is negative.
    """
    column, earned = column_of(weights), column_of(returns)
    return np.append(column, 1.0 - math.fsum(column)), np.append(earned, cash_return)


def segment_returns(weights: ArrayLike, contributions: ArrayLike) -> tuple[Floats, float]:
    """The returns ``(N,)`` of segments from what they contributed to equity, and what came from segments of weight 0.

    A segment that traded within the period but had no weight at its beginning has no return (NaN); what it earned is a
    contribution without a weight, and belongs among ``others``.
    """
    column, earned = column_of(weights), column_of(contributions)
    if column.shape != earned.shape:
        raise ValueError(f"{column.size} weights stand against {earned.size} contributions")
    there = column != 0.0
    returns = np.full(column.size, math.nan)
    returns[there] = earned[there] / column[there]
    return returns, math.fsum(earned[~there])


def _sides(*columns: ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
    """Weights and returns of both sides, each absent segment with the return of the other side."""
    wp, rp, wb, rb = (column_of(each).copy() for each in columns)
    if not wp.size == rp.size == wb.size == rb.size:
        raise ValueError(
            f"an attribution needs as many weights as returns, not {wp.size} {rp.size} {wb.size} {rb.size}"
        )
    if not (np.isfinite(wp).all() and np.isfinite(wb).all()):
        raise ValueError("an attribution needs finite weights")
    apart = math.fsum(wp) - math.fsum(wb)
    if abs(apart) > _SAME_WEIGHT:
        raise ValueError(f"the weights of book and benchmark differ by {apart:.6g} in all: carry a cash segment")
    for own, weight, other, other_weight in ((rp, wp, rb, wb), (rb, wb, rp, wp)):
        absent = (weight == 0.0) & (other_weight != 0.0)
        own[absent] = other[absent]
    nobody = (wp == 0.0) & (wb == 0.0)
    rp[nobody] = rb[nobody] = 0.0
    if not (np.isfinite(rp).all() and np.isfinite(rb).all()):
        missing = np.flatnonzero(~(np.isfinite(rp) & np.isfinite(rb)))[0]
        raise ValueError(f"segment {missing} has a weight but no return")
    return wp, rp, wb, rb


# ---- many periods ----------------------------------------------------------------------------------------------------


def link(periods: Sequence[Attribution], method: Linking = "carino") -> LinkedAttribution:
    """The effects of consecutive periods, oldest first, as effects on the compounded active return.

    Raises ``ValueError`` without periods, on periods of unlike segments, and when one has lost all there was.
    """
    portfolio, benchmark = _compounded(periods)
    coefficients = _carino(periods, portfolio, benchmark)
    if method == "menchero":
        coefficients = _menchero(periods, portfolio, benchmark)
    elif method != "carino":
        raise ValueError(f"attributions are linked by carino or menchero, not {method!r}")

    def weighted(name: str) -> Floats:
        table = np.array([getattr(each, name) for each in periods]) * coefficients[:, None]
        return np.array([math.fsum(column) for column in table.T])

    return LinkedAttribution(
        portfolio,
        benchmark,
        weighted("allocation"),
        weighted("selection"),
        weighted("interaction"),
        weighted("others"),
        coefficients,
    )


def link_geometric(
    portfolio_weights: Sequence[ArrayLike],
    portfolio_returns: Sequence[ArrayLike],
    benchmark_weights: Sequence[ArrayLike],
    benchmark_returns: Sequence[ArrayLike],
    *,
    others: Sequence[ArrayLike] | None = None,
) -> GeometricAttribution:
    """Geometric effects, compounded over ``T`` periods; each argument has one entry a period.

    With the semi-notional return ``BS = sum wp rb`` and the book's gross return ``RG = sum wp rp``: allocation is
    ``(1 + BS) / (1 + RB) - 1``, selection ``(1 + RG) / (1 + BS) - 1`` and others ``sum others / (1 + RG)``. Raises as
    ``brinson_fachler`` and ``link``.
    """
    logs = np.zeros(5)
    for t, columns in enumerate(
        zip(portfolio_weights, portfolio_returns, benchmark_weights, benchmark_returns, strict=True)
    ):
        wp, rp, wb, rb = _sides(*columns)
        extra = math.fsum(column_of(others[t])) if others is not None else 0.0
        theirs, notional, gross = math.fsum(wb * rb), math.fsum(wp * rb), math.fsum(wp * rp)
        if min(theirs, notional, gross, gross + extra) <= -1.0:
            raise ValueError(f"period {t} has lost all there was, and cannot be linked")
        allocated = math.fsum((wp - wb) * rb) / (1.0 + theirs)
        selected = math.fsum(wp * (rp - rb)) / (1.0 + notional)
        rest = extra / (1.0 + gross)
        logs += np.log1p([gross + extra, theirs, allocated, selected, rest])
    return GeometricAttribution(*(float(each) for each in np.expm1(logs)))


def _compounded(periods: Sequence[Attribution]) -> tuple[float, float]:
    if not periods:
        raise ValueError("linking needs at least one period")
    shapes = {(each.allocation.size, each.others.size) for each in periods}
    if len(shapes) > 1:
        raise ValueError("linking needs periods of the same segments")
    totals = []
    for name in ("portfolio_return", "benchmark_return"):
        returns = [getattr(each, name) for each in periods]
        if min(returns) <= -1.0:
            raise ValueError(f"period {returns.index(min(returns))} has lost all there was, and cannot be linked")
        totals.append(math.prod(1.0 + each for each in returns) - 1.0)
    return totals[0], totals[1]


def _carino(periods: Sequence[Attribution], portfolio: float, benchmark: float) -> Floats:
    """``k_t / k`` with ``k = (ln(1 + RP) - ln(1 + RB)) / (RP - RB)``."""
    whole = _log_slope(portfolio, benchmark)
    return np.array([_log_slope(each.portfolio_return, each.benchmark_return) / whole for each in periods])


def _log_slope(portfolio: float, benchmark: float) -> float:
    """The slope of the logarithm between two growth factors; its limit ``1 / (1 + R)`` where they are equal."""
    apart = (portfolio - benchmark) / (1.0 + benchmark)
    return (math.log1p(apart) / apart if apart else 1.0) / (1.0 + benchmark)


def _menchero(periods: Sequence[Attribution], portfolio: float, benchmark: float) -> Floats:
    """``M + alpha_t``: what is missing of the active return is spread in proportion to the squares of the periods'."""
    count, active = len(periods), portfolio - benchmark
    root = (1.0 + benchmark) ** (1.0 / count)
    apart = active / (1.0 + benchmark)
    constant = (1.0 + benchmark) / root
    if apart:
        constant = active / count / (root * math.expm1(math.log1p(apart) / count))
    own = np.array([each.active for each in periods])
    squares = math.fsum(own * own)
    missing = active - constant * math.fsum(own)
    spread = missing / squares if squares else 0.0
    return np.asarray(constant + spread * own)


# ---- the whole -------------------------------------------------------------------------------------------------------


class PerformanceAttributor:
    """Attributes one period after another and links them. ``segments`` and ``others`` name the entries of each array.

    Cash is added as the last segment, so weights need not sum to one.
    """

    def __init__(self, segments: Sequence[str], others: Sequence[str] = COSTS, *, linking: Linking = "carino") -> None:
        """Raises ``ValueError`` on a name that comes twice."""
        names = [*segments, CASH, *others]
        if len(set(names)) != len(names):
            raise ValueError(f"an attribution needs names that differ, cash being taken, not {' '.join(names)}")
        self.segments, self.others, self._linking = (*segments, CASH), tuple(others), linking
        self.periods: list[Attribution] = []

    def record(
        self,
        portfolio_weights: Mapping[str, float],
        portfolio_returns: Mapping[str, float],
        benchmark_weights: Mapping[str, float],
        benchmark_returns: Mapping[str, float],
        others: Mapping[str, float] | None = None,
        *,
        cash_return: float = 0.0,
        portfolio_return: float | None = None,
    ) -> Attribution:
        """Attribute a period and keep it. What is not named has weight 0, or contributed nothing.

        Raises ``ValueError`` on a name that is none of the attributor's, and as ``brinson_fachler``.
        """
        extra = others or {}
        sides = (portfolio_weights, portfolio_returns, benchmark_weights, benchmark_returns)
        known = {*self.segments[:-1], *self.others}
        if unknown := {name for each in (*sides, extra) for name in each} - known:
            raise ValueError(
                f"no segment or effect is called {sorted(unknown)[0]!r}; there is {' '.join(sorted(known))}"
            )
        wp, wb = (np.array([each.get(name, 0.0) for name in self.segments[:-1]]) for each in sides[::2])
        rp, rb = (np.array([each.get(name, math.nan) for name in self.segments[:-1]]) for each in sides[1::2])
        found = brinson_fachler(
            *with_cash(wp, rp, cash_return),
            *with_cash(wb, rb, cash_return),
            others=[extra.get(name, 0.0) for name in self.others],
            portfolio_return=portfolio_return,
        )
        self.periods.append(found)
        return found

    def linked(self) -> LinkedAttribution:
        """The effects over all periods. Raises as ``link``."""
        return link(self.periods, self._linking)

    def lines(self, found: Attribution) -> list[str]:
        """A table for people, in percent of equity, with the residual as its last line."""
        rows = [f"{'':<16}{'allocation':>12}{'selection':>12}{'interaction':>12}"]
        for name, *effects in zip(self.segments, found.allocation, found.selection, found.interaction, strict=True):
            rows.append(f"{name:<16}" + "".join(f"{100.0 * each:>12.4f}" for each in effects))
        rows += [f"{name:<16}{100.0 * each:>12.4f}" for name, each in zip(self.others, found.others, strict=True)]
        rows.append(f"{'active return':<16}{100.0 * found.active:>12.4f}")
        rows.append(f"{'residual':<16}{found.residual:>12.1e}")
        return rows
