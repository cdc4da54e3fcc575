"""Attribution: each effect by its formula, effects that add up, and an error that shows."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tidegate.quant.attribution import (
    Attribution,
    PerformanceAttributor,
    brinson_fachler,
    link,
    link_geometric,
    segment_returns,
    with_cash,
)

Book = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def invented(rng: np.random.Generator, segments: int) -> Book:
    """A long-short book with cash, segments missing on either side, and three costs."""
    sides = []
    for _ in range(2):
        weights = rng.normal(0.0, 0.6, segments) * (rng.random(segments) < 0.8)
        returns = np.where(weights == 0.0, math.nan, rng.normal(0.0, 0.04, segments))
        sides += with_cash(weights, returns, 0.0001)
    return (*sides, rng.normal(-0.001, 0.001, 3))  # type: ignore[return-value]


def attributed(book: Book) -> Attribution:
    return brinson_fachler(*book[:4], others=book[4])


def books() -> list[list[Book]]:
    """A thousand periods in runs of 1 to 60."""
    rng = np.random.default_rng(1985)
    runs: list[list[Book]] = []
    while (left := 1000 - sum(map(len, runs))) > 0:
        segments = int(rng.integers(1, 9))
        runs.append([invented(rng, segments) for _ in range(min(left, int(rng.integers(1, 61))))])
    return runs


RUNS = books()


def net_return(weights: np.ndarray, returns: np.ndarray) -> float:
    return math.fsum(w * r for w, r in zip(weights, returns, strict=True) if w)


def test_the_effects_of_a_thousand_books_sum_to_the_active_return() -> None:
    for book in (book for run in RUNS for book in run):
        found = attributed(book)
        wp, rp, wb, rb, costs = book
        assert found.portfolio_return == pytest.approx(net_return(wp, rp) + costs.sum(), abs=1e-14)
        assert found.benchmark_return == pytest.approx(net_return(wb, rb), abs=1e-14)
        assert abs(found.residual) < 1e-12


@pytest.mark.parametrize("method", ["carino", "menchero"])
def test_linked_effects_sum_to_the_compounded_active_return(method) -> None:
    for run in RUNS:
        periods = [attributed(book) for book in run]
        found = link(periods, method)
        growth = [
            math.prod(1.0 + getattr(each, f"{side}_return") for each in periods) for side in ("portfolio", "benchmark")
        ]
        assert found.active == pytest.approx(growth[0] - growth[1], abs=1e-12)
        assert abs(found.residual) < 1e-12


def test_geometric_effects_compound_to_the_ratio_of_growth() -> None:
    for run in RUNS:
        wp, rp, wb, rb, costs = (list(column) for column in zip(*run, strict=True))
        found = link_geometric(wp, rp, wb, rb, others=costs)
        arithmetic = link([attributed(book) for book in run])
        assert found.portfolio_return == pytest.approx(arithmetic.portfolio_return, abs=1e-11)
        assert found.benchmark_return == pytest.approx(arithmetic.benchmark_return, abs=1e-11)
        assert abs(found.residual) < 1e-11 * (1.0 + abs(found.active))


def test_each_effect_is_its_own_formula() -> None:
    """Recomputed one segment at a time, from the definition."""
    rng = np.random.default_rng(7)
    for _ in range(50):
        wp, rp, wb, rb, costs = invented(rng, 5)
        found = brinson_fachler(wp, rp, wb, rb, others=costs, benchmark_others=costs / 2.0)
        total = net_return(wb, rb)
        for i in range(len(wp)):
            book = rp[i] if wp[i] else rb[i]
            mark = rb[i] if wb[i] else rp[i]
            if not wp[i] and not wb[i]:
                book = mark = 0.0
            assert found.allocation[i] == pytest.approx((wp[i] - wb[i]) * (mark - total), abs=1e-15)
            assert found.selection[i] == pytest.approx(wb[i] * (book - mark), abs=1e-15)
            assert found.interaction[i] == pytest.approx((wp[i] - wb[i]) * (book - mark), abs=1e-15)
        assert found.others == pytest.approx(costs / 2.0)
        assert found.benchmark_return == pytest.approx(total + costs.sum() / 2.0)


@pytest.mark.parametrize("effect", ["allocation", "selection", "interaction", "others"])
def test_a_planted_error_shows_in_the_residual(effect: str) -> None:
    periods = [attributed(book) for book in max(RUNS, key=len)]
    planted = getattr(periods[3], effect).copy()
    planted[0] += 1e-9
    wrong = replace(periods[3], **{effect: planted})
    assert wrong.residual == pytest.approx(1e-9, rel=1e-3)
    linked = link([*periods[:3], wrong, *periods[4:]])
    assert linked.residual == pytest.approx(1e-9 * linked.coefficients[3], rel=1e-3)


def test_what_the_book_says_that_it_earned_is_held_against_the_effects() -> None:
    sides = ([0.5, 0.5], [0.02, 0.01], [0.4, 0.6], [0.01, 0.01])
    assert brinson_fachler(*sides, portfolio_return=0.015).residual == pytest.approx(0.0, abs=1e-15)
    assert brinson_fachler(*sides, portfolio_return=0.015 + 1e-9).residual == pytest.approx(-1e-9, rel=1e-6)


def test_long_short_books_carry_cash() -> None:
    weights, returns = with_cash([0.8, -0.8], [0.03, 0.01], 0.0002)
    assert (weights.tolist(), returns.tolist()) == ([0.8, -0.8, 1.0], [0.03, 0.01, 0.0002])
    levered, _ = with_cash([1.5, 0.5], [0.0, 0.0])
    assert levered[-1] == -1.0
    flat = with_cash([0.0, 0.0], [math.nan, math.nan], 0.0002)
    found = brinson_fachler(weights, returns, *flat)
    assert found.active == pytest.approx(0.8 * 0.02)
    assert abs(found.residual) < 1e-15


def test_carino_and_menchero_at_their_limits() -> None:
    """Equal returns: the coefficients are the growth of the other periods, and nothing is divided by zero."""
    same = [brinson_fachler([0.5, 0.5], [r, r], [0.5, 0.5], [r, r]) for r in (0.1, -0.2, 0.05)]
    growth = 1.1 * 0.8 * 1.05
    assert link(same, "carino").coefficients == pytest.approx([growth / 1.1, growth / 0.8, growth / 1.05])
    assert link(same, "menchero").coefficients == pytest.approx([growth ** (2.0 / 3.0)] * 3)
    one = [attributed(RUNS[0][0])]
    for method in ("carino", "menchero"):
        assert link(one, method).coefficients == pytest.approx([1.0])  # type: ignore[arg-type]


def test_the_geometric_effects_of_a_published_book() -> None:
    """Bacon's three markets: 8.3 % against 6.4 %, and a semi-notional return of 5.2 %."""
    book = ([0.4, 0.3, 0.3], [0.2, -0.05, 0.06], [0.4, 0.2, 0.4], [0.1, -0.04, 0.08])
    found = link_geometric(*([each] for each in book))
    assert found.allocation == pytest.approx(1.052 / 1.064 - 1.0)
    assert found.selection == pytest.approx(1.083 / 1.052 - 1.0)
    assert found.active == pytest.approx(1.083 / 1.064 - 1.0)
    paid = link_geometric(*([each] for each in book), others=[[-0.002, -0.001]])
    assert paid.others == pytest.approx(1.080 / 1.083 - 1.0)
    assert replace(found, allocation=found.allocation + 1e-9).residual == pytest.approx(1e-9, rel=0.1)


def test_returns_from_contributions() -> None:
    returns, rest = segment_returns([0.5, 0.0, -0.25], [0.01, 0.003, 0.005])
    assert returns[[0, 2]] == pytest.approx([0.02, -0.02])
    assert math.isnan(returns[1])
    assert rest == 0.003


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([1.0], [0.0], [1.0, 0.0], [0.0, 0.0]), "as many weights as returns, not 1 1 2 2"),
        (([1.0, 0.2], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]), "differ by 0.2 in all: carry a cash segment"),
        (([0.5, 0.5], [0.0, math.nan], [1.0, 0.0], [0.0, 0.0]), "segment 1 has a weight but no return"),
        (([math.nan, 0.5], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]), "finite weights"),
    ],
)
def test_books_that_cannot_be_attributed(columns, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brinson_fachler(*columns)


def test_contributions_that_do_not_fit() -> None:
    sides = ([1.0], [0.0], [1.0], [0.0])
    with pytest.raises(ValueError, match="1 other contributions of the book stand against 2"):
        brinson_fachler(*sides, others=[0.1], benchmark_others=[0.1, 0.2])
    with pytest.raises(ValueError, match="finite contributions"):
        brinson_fachler(*sides, others=[math.nan])
    with pytest.raises(ValueError, match="2 weights stand against 1 contributions"):
        segment_returns([0.5, 0.5], [0.1])


def test_periods_that_cannot_be_linked() -> None:
    one, other = (brinson_fachler([1.0], [r], [1.0], [0.0]) for r in (0.1, -1.0))
    with pytest.raises(ValueError, match="at least one period"):
        link([])
    with pytest.raises(ValueError, match="the same segments"):
        link([one, brinson_fachler([1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0])])
    with pytest.raises(ValueError, match="period 1 has lost all"):
        link([one, other])
    with pytest.raises(ValueError, match="carino or menchero, not 'frongello'"):
        link([one], "frongello")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="period 0 has lost all"):
        link_geometric([[1.0]], [[-1.0]], [[1.0]], [[0.0]])


def test_the_attributor_names_what_it_attributes() -> None:
    attributor = PerformanceAttributor(["trend", "funding"], ["fees", "netting"], linking="menchero")
    attributor.record(
        {"trend": 0.6, "funding": 0.2}, {"trend": 0.01, "funding": -0.002}, {"trend": 0.5}, {"trend": 0.008},
        {"fees": -0.0004, "netting": 0.0001},
    )  # fmt: skip
    attributor.record({}, {}, {"trend": 0.5}, {"trend": -0.01})
    found = attributor.linked()
    assert attributor.segments == ("trend", "funding", "cash")
    gained = 0.6 * 0.01 - 0.2 * 0.002 - 0.0003
    assert found.portfolio_return == pytest.approx(gained)
    assert found.benchmark_return == pytest.approx(1.004 * 0.995 - 1.0)
    assert abs(found.residual) < 1e-15
    lines = attributor.lines(found)
    assert [line.split()[0] for line in lines] == [
        "allocation", "trend", "funding", "cash", "fees", "netting", "active", "residual",
    ]  # fmt: skip
    assert float(lines[-1].split()[1]) == pytest.approx(found.residual, abs=1e-13)


def test_the_attributor_refuses_names() -> None:
    with pytest.raises(ValueError, match="names that differ, cash being taken"):
        PerformanceAttributor(["cash"])
    with pytest.raises(
        ValueError, match="no segment or effect is called 'trent'; there is fees funding slippage trend"
    ):
        PerformanceAttributor(["trend"]).record({"trent": 1.0}, {}, {}, {})
