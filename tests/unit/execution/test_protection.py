"""Guards: what the position needs now, and what of the old has to go."""

from decimal import Decimal

import pytest

from tests.unit.kernel.worlds import BTC, contract
from tidegate.domain.ids import ClientOrderId
from tidegate.domain.orders import Side
from tidegate.execution.protection import NOTHING, Protect, Protection, ProtectionSettings

ONE = Decimal(1)


def name(n: int) -> ClientOrderId:
    return ClientOrderId(f"stop-{n}")


def review(
    guard: Protection, qty: Decimal = ONE, stop: float | None = None, price: float = 100.0, entry: float = 100.0
) -> Protect:
    return guard.review(contract(), qty, entry if qty else None, stop, price)


def placed(n: int = 1, qty: Decimal = ONE, stop: float | None = None) -> Protection:
    guard = Protection(ProtectionSettings())
    assert review(guard, qty, stop).place is not None
    guard.placed(BTC, name(n), abs(qty))
    return guard


@pytest.mark.parametrize(
    ("qty", "stop", "side", "trigger"),
    [
        ("1", None, Side.SELL, "85.0"),
        ("-1", None, Side.BUY, "115.0"),
        ("1", 93.21, Side.SELL, "93.3"),  # toward the price: never further than the level
        ("-1", 106.79, Side.BUY, "106.7"),
        ("1", 60.0, Side.SELL, "60.0"),
    ],
)
def test_the_stop(qty: str, stop: float | None, side: Side, trigger: str) -> None:
    intent = review(Protection(ProtectionSettings()), Decimal(qty), stop).place
    assert intent is not None
    assert (intent.side, intent.qty, intent.trigger, intent.reduce_only) == (side, ONE, Decimal(trigger), True)


def test_off_is_off() -> None:
    guard = Protection(ProtectionSettings(enabled=False))
    assert review(guard) is NOTHING
    assert guard.level(BTC) is None
    assert not guard.gone(BTC, name(1))
    guard.triggered(BTC, name(1))


def test_tightens_and_never_loosens_even_without_a_wish() -> None:
    guard = placed(stop=90.0)
    for stop, level in ((80.0, 90.0), (None, 90.0), (90.04, 90.04), (95.0, 95.0), (94.0, 95.0)):
        review(guard, stop=stop)
        assert guard.level(BTC) == level


def test_a_small_step_is_not_worth_an_order_and_a_large_one_is() -> None:
    guard = placed(stop=90.0)
    assert review(guard, stop=90.04) == NOTHING
    assert review(guard, stop=90.06).place is not None


def test_a_new_one_is_confirmed_before_the_old_ones_go() -> None:
    guard = placed(1)
    assert guard.confirmed(BTC, name(1)) == ()
    for n, stop in ((2, 90.0), (3, 95.0)):
        assert review(guard, stop=stop).cancels == ()
        guard.placed(BTC, name(n), ONE)
    assert guard.confirmed(BTC, name(2)) == ()
    assert [cancel.id for cancel in guard.confirmed(BTC, name(3))] == [name(2), name(1)]
    assert not guard.gone(BTC, name(2))
    assert review(guard, stop=95.0) == NOTHING
    assert guard.gone(BTC, name(3))
    assert review(guard).place is not None


def test_everything_goes_when_flat_or_flipped() -> None:
    for qty in (Decimal(0), -ONE):
        guard = placed(1)
        guard.confirmed(BTC, name(1))
        review(guard, stop=90.0)
        guard.placed(BTC, name(2), ONE)
        review(guard, stop=95.0)
        guard.placed(BTC, name(3), ONE)
        need = review(guard, qty)
        assert {cancel.id for cancel in need.cancels} == {name(1), name(2), name(3)}
        assert (need.place is not None) is (qty != 0)
        assert guard.level(BTC) == (pytest.approx(115.0) if qty else None)


def test_passed_already() -> None:
    need = review(Protection(ProtectionSettings()), stop=100.0)
    assert need.place is None
    assert need.flatten is not None
    assert (need.flatten.side, need.flatten.qty, need.flatten.reduce_only) == (Side.SELL, ONE, True)


def test_a_pending_stop_that_goes_leaves_the_resting_one() -> None:
    guard = placed(1)
    guard.confirmed(BTC, name(1))
    review(guard, Decimal(2))
    guard.placed(BTC, name(2), Decimal(2))
    guard.triggered(BTC, name(2))
    assert review(guard, Decimal(3)) == NOTHING
    assert guard.gone(BTC, name(2))
    again = Protection(ProtectionSettings())
    again.load(guard.dump())  # type: ignore[arg-type]
    assert review(again) == NOTHING
    assert review(again, Decimal(2)).place is not None
