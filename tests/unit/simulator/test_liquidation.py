"""When the margin is used up, and at which price of a bar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.simulator.bench import contract
from tidegate.domain.margin import DEFAULT_BRACKETS, liquidation_price
from tidegate.simulator.liquidation import MarginState, margin_used_up, takeover_price

COIN = contract(brackets=DEFAULT_BRACKETS)


def test_an_account_is_used_up_at_its_maintenance_and_not_above() -> None:
    assert margin_used_up(MarginState(10.0, 10.0))
    assert margin_used_up(MarginState(-1.0, 0.0))
    assert not margin_used_up(MarginState(10.000001, 10.0))


def test_maintenance_is_that_of_the_size_whatever_the_side() -> None:
    assert MarginState.of_position(COIN, 2.0, 100.0) == MarginState.of_position(COIN, -2.0, 100.0) == pytest.approx(2.0)


@given(st.floats(100.0, 1e7), st.floats(0.01, 1e4), st.sampled_from([1, -1]), st.floats(2.0, 20.0))
def test_the_takeover_is_at_the_liquidation_price(wallet: float, entry: float, side: int, leverage: float) -> None:
    qty = wallet * leverage / entry
    due = liquidation_price(DEFAULT_BRACKETS, wallet=wallet, side=side, qty=qty, entry=entry)
    if due is None or (entry - due) * side <= 0:
        return

    def state(price: float) -> MarginState:
        return MarginState(wallet + side * qty * (price - entry), MarginState.of_position(COIN, side * qty, price))

    worst = due * (1 - side * 0.1)
    price = takeover_price(state, entry, worst)
    assert price == pytest.approx(due, rel=1e-6)
    assert margin_used_up(state(price))
    assert takeover_price(state, worst, worst) == worst
