"""The virtual ledgers are the book: quantities and results add up to it to the last digit, whatever happens."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tidegate.domain.ids import InstrumentId, StrategyId
from tidegate.domain.ledger import EXACT, ZERO, PositionLedger
from tidegate.domain.orders import Side
from tidegate.domain.signals import Scenario
from tidegate.portfolio.virtual import NETTING, UNASSIGNED, VirtualLedgers

BTC = InstrumentId("BTCUSDT")
NAMES = [StrategyId(name) for name in ("trend", "reversion", "range", "funding")]
FEE = Decimal("0.0005")

lots = st.integers(-500, 500).map(lambda n: Decimal(n) / 1000)
prices = st.decimals("0.00001", "100000", places=5, allow_nan=False)
contributions = st.dictionaries(st.sampled_from(NAMES), st.floats(-1, 1), max_size=4)
steps = st.one_of(
    st.tuples(st.just("aim"), lots, contributions, prices),
    st.tuples(st.just("fill"), lots, prices, prices),
    st.tuples(st.just("stop"), lots, prices, prices),
    st.tuples(st.just("fund"), st.decimals("-5", "5", places=8, allow_nan=False)),
    st.tuples(st.just("say"), prices),
)


@given(st.lists(steps, max_size=30), prices)
def test_the_accounts_together_are_the_book(happened: list[tuple], mark: Decimal) -> None:
    book, ledgers, lines = PositionLedger(), VirtualLedgers(), []
    for number, (kind, *rest) in enumerate(happened):
        if kind == "aim":
            target, shares, price = rest
            ledgers.aim(BTC, target, shares, price, FEE)
        elif kind == "fund":
            book.pay_funding(rest[0])
            ledgers.fund(BTC, rest[0])
        elif kind == "say":
            lines += ledgers.lines({BTC: rest[0]}, Scenario.UNKNOWN, number)
        elif rest[0]:
            dq, price, reference = rest
            fee = EXACT.multiply(EXACT.multiply(abs(dq), price), FEE)
            book.fill(Side.BUY if dq > 0 else Side.SELL, abs(dq), price, fee)
            ledgers.fill(BTC, dq, price, reference, fee, asked=kind == "fill")
        accounts = ledgers.state.accounts.get(BTC, {})
        assert sum((each.qty for each in accounts.values()), ZERO) == book.qty
    earned = EXACT.add(EXACT.subtract(book.realised, book.fees), EXACT.add(book.unrealised(mark), book.funding))
    assert _sum(ledgers.results({BTC: mark}).values()) == earned
    lines += ledgers.lines({BTC: mark}, Scenario.UNKNOWN, len(happened))
    said = _sum(
        EXACT.add(EXACT.subtract(EXACT.subtract(each.price_pnl, each.slippage), each.fees), each.funding)
        for each in lines
    )
    assert said == earned


@given(contributions.filter(lambda shares: sum(map(abs, shares.values())) > 0.01), lots, prices)
def test_a_target_is_divided_without_a_remainder(shares: dict, target: Decimal, price: Decimal) -> None:
    ledgers = VirtualLedgers()
    ledgers.aim(BTC, target, shares, price, FEE)
    assert sum((each.target for each in ledgers.state.accounts[BTC].values()), ZERO) == target


def test_opposite_wishes_cross_at_the_arrival_price_and_the_saving_is_a_line_of_its_own() -> None:
    ledgers, price = VirtualLedgers(), Decimal(100)
    trend, reversion = NAMES[:2]
    ledgers.aim(BTC, Decimal(3), {trend: 0.3}, price, FEE)
    ledgers.fill(BTC, Decimal(3), price, price, Decimal("0.15"), asked=True)
    ledgers.aim(BTC, Decimal(2), {trend: 0.3, reversion: -0.1}, price, FEE)
    accounts = ledgers.state.accounts[BTC]
    assert (accounts[trend].qty, accounts[reversion].qty) == (Decimal(3), ZERO)
    ledgers.fill(BTC, Decimal(-1), Decimal(99), price, Decimal("0.0495"), asked=True)
    assert (accounts[trend].qty, accounts[reversion].qty) == (Decimal(3), Decimal(-1))
    assert (accounts[reversion].slippage, accounts[reversion].fees) == (Decimal(1), Decimal("0.0495"))
    ledgers.aim(BTC, Decimal(2), {trend: 0.2}, price, FEE)
    assert (accounts[trend].qty, accounts[reversion].qty) == (Decimal(2), ZERO)
    assert (accounts[trend].fees, accounts[reversion].fees) == (Decimal("0.20"), Decimal("0.0995"))
    assert accounts[NETTING].fees == Decimal("-0.10")


def test_a_stop_scales_every_holding_and_what_nobody_wanted_is_unassigned() -> None:
    ledgers, price = VirtualLedgers(), Decimal(100)
    trend, reversion = NAMES[:2]
    ledgers.aim(BTC, Decimal(3), {trend: 0.2, reversion: 0.1}, price, FEE)
    ledgers.fill(BTC, Decimal(3), price, price, ZERO, asked=True)
    ledgers.fill(BTC, Decimal("-1.5"), price, price, ZERO, asked=False)
    accounts = ledgers.state.accounts[BTC]
    assert (accounts[trend].qty, accounts[reversion].qty) == (Decimal(1), Decimal("0.5"))
    ledgers.fill(BTC, Decimal(-2), price, price, ZERO, asked=False)
    assert (accounts[trend].qty, accounts[reversion].qty) == (ZERO, ZERO)
    assert accounts[UNASSIGNED].qty == Decimal("-0.5")


def _sum(amounts) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
