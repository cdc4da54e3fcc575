"""The only door from float to Decimal: what comes through lies on the grid, on the right side, inside the limits."""

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tidegate.domain.ids import InstrumentId
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import DEFAULT_BRACKETS

GRIDS = st.sampled_from(
    [Decimal(text) for text in ("1", "10", "0.5", "0.1", "0.10", "0.01", "0.0025", "0.00001", "1E-7")]
)
VALUES = st.floats(1e-6, 1e7, allow_nan=False)


def contract(tick: Decimal, step: Decimal) -> Instrument:
    return Instrument(
        id=InstrumentId("COINUSDT"),
        base="COIN",
        quote="USDT",
        tick=tick,
        step=step,
        min_qty=step,
        max_qty=step * 10**9,
        market_max_qty=step * 10**8,
        min_notional=Decimal(5),
        min_price=tick,
        max_price=tick * 10**12,
        brackets=DEFAULT_BRACKETS,
    )


@given(VALUES, GRIDS, st.booleans())
def test_a_price_is_on_the_tick_on_the_asked_side_and_within_one_tick(value: float, tick: Decimal, up: bool) -> None:
    it = contract(tick, Decimal(1))
    price = it.price(value, up=up)
    assert price % tick == 0
    assert it.min_price <= price <= it.max_price
    assume(it.min_price <= Decimal(value) <= it.max_price)
    beyond = (price - Decimal(value)) / tick * (1 if up else -1)
    noise = max(Decimal("0.000001"), price / tick * Decimal("2E-15"))
    assert -noise <= beyond < 1


@given(VALUES, GRIDS, st.booleans())
def test_a_grid_price_is_itself(value: float, tick: Decimal, up: bool) -> None:
    it = contract(tick, Decimal(1))
    price = it.price(value, up=up)
    assume(price / tick < 10**9)  # a float tells a million times finer steps apart only up to there
    for way in (True, False):
        assert it.price(float(price), up=way) == price


@given(st.integers(1, 10**8), GRIDS, st.booleans(), st.sampled_from([-1, 1]))
def test_float_noise_around_a_grid_price_does_not_move_it_a_tick(
    steps: int, tick: Decimal, up: bool, sign: int
) -> None:
    noisy = float(steps * tick) * (1 + sign * 2.3e-16 * 4)
    assert contract(tick, Decimal(1)).price(noisy, up=up) == steps * tick


@given(st.one_of(VALUES, VALUES.map(lambda value: -value)), GRIDS)
def test_a_quantity_is_on_the_lot_toward_zero_and_never_above_the_most(value: float, step: Decimal) -> None:
    it = contract(Decimal("0.1"), step)
    qty = it.qty(value)
    assert qty % step == 0
    assert abs(qty) <= it.max_qty
    assert qty == 0 or (qty > 0) is (value > 0)
    assert abs(qty) <= abs(Decimal(value)) + step * Decimal("0.000001")
    if abs(Decimal(value)) < it.max_qty:
        assert abs(Decimal(value)) - abs(qty) < step
    if abs(qty) / step < 10**9:
        assert it.qty(float(qty)) == qty


@given(VALUES, VALUES, GRIDS)
def test_more_never_rounds_to_less(one: float, two: float, step: Decimal) -> None:
    it, low, high = contract(step, step), min(one, two), max(one, two)
    assert it.qty(low) <= it.qty(high)
    for up in (True, False):
        assert it.price(low, up=up) <= it.price(high, up=up)


@pytest.mark.parametrize(
    ("value", "up", "price"),
    [
        (26315.78, False, "26315.70"),
        (26315.78, True, "26315.80"),
        (0.1 + 0.2, True, "0.30"),
        (0.1 + 0.2, False, "0.30"),
    ],
)
def test_prices_by_hand(value: float, up: bool, price: str) -> None:
    assert contract(Decimal("0.10"), Decimal("0.001")).price(value, up=up) == Decimal(price)


@pytest.mark.parametrize(("value", "qty"), [(0.0019, "0.001"), (-0.0019, "-0.001"), (0.003, "0.003"), (0.0009, "0")])
def test_quantities_by_hand(value: float, qty: str) -> None:
    assert contract(Decimal("0.10"), Decimal("0.001")).qty(value) == Decimal(qty)


def test_prices_outside_the_permitted_ones_are_brought_inside() -> None:
    it = contract(Decimal("0.1"), Decimal(1))
    assert it.price(1e-9, up=False) == Decimal("0.1")
    assert it.price(1e300, up=True) == it.max_price
    assert it.qty(1e300) == it.max_qty
