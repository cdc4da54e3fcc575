"""The ledger law: for any fills and settlements nothing is lost, to the last Decimal digit.

The independent account knows neither cost nor entry price: it only counts cash. In exact fractions its equity is
``-sum(dq p) - fees + funding + q mark``.
"""

from decimal import Decimal, Inexact
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.domain.ids import InstrumentId
from tidegate.domain.ledger import EXACT, Ledger, PositionLedger
from tidegate.domain.orders import Side

COIN, OTHER = InstrumentId("COINUSDT"), InstrumentId("OTHERUSDT")


def numbers(exponents: tuple[int, int]) -> st.SearchStrategy[Decimal]:
    """Positive decimals of up to nine digits at any power of ten between the two."""
    return st.builds(
        lambda digits, power: Decimal(digits).scaleb(power), st.integers(1, 10**9), st.integers(*exponents)
    )


QTYS, PRICES = numbers((-8, 6)), numbers((-8, 3))
FEES = st.integers(-(10**12), 10**12).map(lambda units: Decimal(units).scaleb(-12))
FILLS = st.tuples(st.just("fill"), st.sampled_from(Side), QTYS, PRICES, FEES)
CLOSES = st.tuples(st.just("close"), st.sampled_from([1, 2, 3]), PRICES, FEES)
SETTLEMENTS = st.tuples(st.just("funding"), FEES)
STEPS = st.lists(st.one_of(FILLS, CLOSES, SETTLEMENTS), max_size=25)


class CashAccount:
    """What we hold, and all the cash that ever moved."""

    def __init__(self) -> None:
        self.qty = Fraction(0)
        self.cash = Fraction(0)

    def fill(self, side: Side, qty: Decimal, price: Decimal, fee: Decimal) -> None:
        self.qty += side.sign * Fraction(qty)
        self.cash -= side.sign * Fraction(qty) * Fraction(price) + Fraction(fee)

    def equity(self, mark: Decimal) -> Fraction:
        return self.cash + self.qty * Fraction(mark)


def play(held: PositionLedger, account: CashAccount, step: tuple[object, ...]) -> None:
    match step:
        case ("fill", Side() as side, Decimal() as qty, Decimal() as price, Decimal() as fee):
            held.fill(side, qty, price, fee)
            account.fill(side, qty, price, fee)
        case ("close", int() as part, Decimal() as price, Decimal() as fee) if held.qty:
            side = Side.SELL if held.qty > 0 else Side.BUY
            qty = EXACT.multiply(abs(held.qty), {1: Decimal(1), 2: Decimal("0.5"), 3: Decimal(2)}[part])
            held.fill(side, qty, price, fee)
            account.fill(side, qty, price, fee)
        case ("funding", Decimal() as amount):
            held.pay_funding(amount)
            account.cash += Fraction(amount)


@given(STEPS, PRICES)
@example(
    [("fill", Side.BUY, Decimal("3"), Decimal("0.1"), Decimal(0)), ("close", 2, Decimal("0.1"), Decimal(0))], Decimal(1)
)
def test_results_fees_and_funding_are_the_change_of_equity(steps: list[tuple[object, ...]], mark: Decimal) -> None:
    held, account = PositionLedger(), CashAccount()
    for step in steps:
        play(held, account, step)
        parts = [held.realised, held.unrealised(mark), held.funding, EXACT.minus(held.fees)]
        assert sum(map(Fraction, parts)) == account.equity(mark)
        assert Fraction(held.qty) == account.qty
        assert (held.qty == 0) <= (held.cost == 0)
        assert held.cost == 0 or (held.cost > 0) is (held.qty > 0) or abs(held.cost) <= Decimal("1E-8")


@given(STEPS, STEPS, PRICES, PRICES, FEES)
def test_a_wallet_of_several_positions_obeys_the_law(
    ours: list[tuple[object, ...]], theirs: list[tuple[object, ...]], mark: Decimal, other: Decimal, deposit: Decimal
) -> None:
    ledger, accounts = Ledger(), {COIN: CashAccount(), OTHER: CashAccount()}
    ledger.transfer(deposit)
    for name, steps in ((COIN, ours), (OTHER, theirs)):
        for step in steps:
            play(ledger.position(name), accounts[name], step)
    expected = Fraction(deposit) + accounts[COIN].equity(mark) + accounts[OTHER].equity(other)
    assert Fraction(ledger.equity({COIN: mark, OTHER: other})) == expected
    open_results = sum(
        Fraction(held.unrealised({COIN: mark, OTHER: other}[name])) for name, held in ledger.positions.items()
    )
    assert Fraction(ledger.wallet) == expected - open_results


@given(QTYS, PRICES, PRICES)
def test_a_reduction_leaves_the_entry_price_where_it_was(qty: Decimal, entry: Decimal, exit_price: Decimal) -> None:
    held = PositionLedger()
    held.fill(Side.BUY, qty, entry, Decimal(0))
    held.fill(Side.SELL, EXACT.multiply(qty, Decimal("0.25")), exit_price, Decimal(0))
    assert held.entry_price is not None
    assert abs(held.cost - held.qty * entry) <= Decimal("1E-8")


def test_a_fill_through_zero_closes_and_opens_the_rest_at_its_own_price() -> None:
    held = PositionLedger()
    held.fill(Side.BUY, Decimal(2), Decimal(100), Decimal("0.1"))
    assert held.fill(Side.SELL, Decimal(5), Decimal(110), Decimal("0.2")) == 20
    assert (held.qty, held.cost, held.entry_price) == (-3, -330, 110)
    assert (held.realised, held.fees) == (20, Decimal("0.3"))


def test_the_released_cost_is_rounded_to_the_cent_and_the_rest_keeps_the_remainder() -> None:
    held = PositionLedger()
    held.fill(Side.BUY, Decimal(3), Decimal(100) / 3, Decimal(0))
    before = held.cost
    realised = held.fill(Side.SELL, Decimal(1), Decimal(40), Decimal(0))
    released = Decimal(40) - realised
    assert released == Decimal("33.33333333")
    assert held.cost == EXACT.subtract(before, released)


def test_numbers_longer_than_the_default_context_keep_their_digits() -> None:
    qty = Decimal("123456789012345678901234567890.12345678")
    held = PositionLedger()
    held.fill(Side.SELL, qty, Decimal("0.1"), Decimal(0))
    assert held.qty == EXACT.minus(qty)
    held.fill(Side.BUY, qty, Decimal("0.3"), Decimal(0))
    assert held.realised == EXACT.multiply(qty, Decimal("-0.2"))
    assert (held.qty, held.cost) == (0, 0)


def test_a_digit_cannot_get_lost_unseen() -> None:
    held = PositionLedger()
    held.fill(Side.BUY, Decimal("1E+60"), Decimal(1), Decimal(0))
    with pytest.raises(Inexact):
        held.fill(Side.BUY, Decimal("1E-60"), Decimal(1), Decimal(0))
    with pytest.raises(Inexact):
        held.pay_funding(Decimal("1E+60")), held.pay_funding(Decimal("1E-60"))


@pytest.mark.parametrize(("qty", "price"), [("0", "1"), ("-1", "1"), ("1", "0"), ("1", "-1")])
def test_a_fill_without_size_or_price_is_refused(qty: str, price: str) -> None:
    held = PositionLedger()
    with pytest.raises(ValueError, match="positive quantity and price"):
        held.fill(Side.BUY, Decimal(qty), Decimal(price), Decimal(0))
    assert held == PositionLedger()
