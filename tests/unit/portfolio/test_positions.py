"""Positions: each trade is booked once, in any order, and the shadow is the exact side as floats."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kernel.worlds import BTC, ETH
from tidegate.domain.account import FundingPaid, Income, Transfer
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.orders import OrderFilled, Side
from tidegate.portfolio.positions import KEPT_LINES, KEPT_TRADE_IDS, Booked, Lines, PositionManager


def fill(
    trade_id: int, side: Side = Side.BUY, qty: str = "1", name: InstrumentId = BTC, price: str = "100"
) -> OrderFilled:
    fee = Decimal("0.01")
    return OrderFilled(ClientOrderId("x"), name, side, Decimal(qty), Decimal(price), fee, "USDT", trade_id, False, 1, 1)


fills = st.builds(
    fill,
    st.integers(0, 30),
    st.sampled_from(Side),
    st.sampled_from(["0.001", "1", "2.5"]),
    st.sampled_from([BTC, ETH]),
    st.sampled_from(["99.9", "100", "0.00000001"]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(fills, max_size=40))
def test_each_trade_is_booked_once_whatever_the_order(events: list[OrderFilled]) -> None:
    book, first = PositionManager(), {}
    for event in events:
        assert book.book_fill(event) is ((event.instrument, event.trade_id) not in first)
        first.setdefault((event.instrument, event.trade_id), event)
    for name in (BTC, ETH):
        wanted = sum((e.side.sign * e.qty for e in first.values() if e.instrument == name), Decimal(0))
        held = book.holding(name)
        assert held.exact.qty == wanted
        assert (held.qty, held.cost) == (float(held.exact.qty), float(held.exact.cost))
        assert (name in dict(book.open)) is (wanted != 0)
    assert book.wallet == book.ledger.wallet
    marks = {BTC: Decimal("101.5"), ETH: Decimal("98.25")}
    assert book.equity({BTC: 101.5, ETH: 98.25}) == pytest.approx(float(book.ledger.equity(marks)))


def test_memory_is_bounded_and_recent_repeats_are_known() -> None:
    booked = Booked()
    total = 5 * KEPT_TRADE_IDS
    for trade_id in range(total):
        assert booked.add(trade_id * 7)
    assert len(booked.ids) <= 2 * KEPT_TRADE_IDS
    for trade_id in (0, 7, (total - 1) * 7, (total - KEPT_TRADE_IDS) * 7):
        assert not booked.add(trade_id)
    assert booked.add((total - 1) * 7 - 3)  # a late one between them
    assert not booked.add((total - 1) * 7 - 3)


def test_money_without_fills_and_a_dump() -> None:
    book = PositionManager()
    book.book_transfer(Transfer("USDT", Decimal(500), 1, 1), 0.0)
    book.book_funding(FundingPaid(BTC, Decimal("-1.5"), 0.0001, 100.0, 1, 1))
    assert (book.wallet, book.wallet_float) == (Decimal("498.5"), 498.5)
    book.book_fill(fill(3))
    assert book.holding(BTC).entry_price == 100.0
    assert book.holding(ETH).entry_price is None
    again = PositionManager()
    again.load(**book.dump())  # type: ignore[arg-type]
    assert again.equity({BTC: 90.0}) == book.equity({BTC: 90.0})
    assert not again.book_fill(fill(3))


def test_a_fee_in_another_asset_leaves_that_wallet_and_keeps_its_value() -> None:
    book = PositionManager()
    book.fund({"USDT": Decimal(1000), "BNB": Decimal("0.5")}, 10)
    paid = fill(1)
    paid = OrderFilled(
        paid.id, BTC, Side.BUY, Decimal(2), Decimal(100), Decimal("0.0003"), "BNB", 1, False, 11, 11,
        fee_price=Decimal("612.5"),
    )  # fmt: skip
    assert book.book_fill(paid)
    assert not book.book_fill(paid)
    assert book.wallet == 1000
    assert book.other_wallets == {"BNB": Decimal("0.4997")}
    held = book.holding(BTC).exact
    assert (held.fees, held.other_fees, held.fees_usdt) == (0, Decimal("0.18375"), Decimal("0.18375"))


def test_a_deposit_buys_units_and_moves_no_performance() -> None:
    book = PositionManager()
    book.fund({"USDT": Decimal(1000)}, 10)
    assert book.unit_value(1000.0) == 1.0
    book.book_funding(FundingPaid(BTC, Decimal(100), 0.0001, 100.0, 11, 11, line="f1"))
    assert book.unit_value(1100.0) == pytest.approx(1.1)
    assert book.book_transfer(Transfer("USDT", Decimal(550), 12, 12, line="t1"), 1100.0)
    assert not book.book_transfer(Transfer("USDT", Decimal(550), 12, 12, line="t1"), 1650.0)
    assert book.unit_value(1650.0) == pytest.approx(1.1)
    book.book_transfer(Transfer("USDT", Decimal(-825), 13, 13, line="t2"), 1650.0)
    assert book.unit_value(825.0) == pytest.approx(1.1)
    book.book_transfer(Transfer("BNB", Decimal(3), 13, 13, line="t3"), 825.0)
    assert (book.wallet, book.other_wallets["BNB"]) == (825, 3)


def test_lines_are_booked_once_and_those_from_before_us_never() -> None:
    book = PositionManager()
    book.fund({"USDT": Decimal(1000)}, 10)
    assert not book.book_funding(FundingPaid(BTC, Decimal(5), 0.0001, 100.0, 10, 30, line="old"))
    line = Income("INSURANCE_CLEAR", "USDT", Decimal("-3.25"), BTC, "i1", 12, 12)
    assert [book.book_income(line) for _ in range(2)] == [True, False]
    assert book.wallet == book.ledger.wallet == Decimal("996.75")
    book.book_income(Income("REBATE", "BNB", Decimal("0.1"), None, "i2", 12, 12))
    assert book.other_wallets == {"BNB": Decimal("0.1")}
    lines = Lines()
    for n in range(5 * KEPT_LINES):
        assert lines.add(f"l{n}", n + 1)
    assert len(lines.seen) <= 2 * KEPT_LINES
    assert not lines.add("l0", 1)
    assert not lines.add(f"l{5 * KEPT_LINES - 1}", 5 * KEPT_LINES)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(fills, st.sampled_from([None, "99", "100.5", "0.00000002"])), max_size=30))
def test_the_parts_of_a_result_are_the_change_of_equity_to_the_last_digit(
    events: list[tuple[OrderFilled, str | None]],
) -> None:
    book, slippage = PositionManager(), {BTC: Decimal(0), ETH: Decimal(0)}
    for event, reference in events:
        if reference is not None:
            event = msgspec.structs.replace(event, reference=Decimal(reference))
        if book.book_fill(event) and reference is not None:
            slippage[event.instrument] += event.side.sign * event.qty * (event.price - Decimal(reference))
    book.book_funding(FundingPaid(BTC, Decimal("-0.12345678"), 0.0001, 100.0, 1, 1))
    marks = {BTC: Decimal("101.5"), ETH: Decimal("0.7")}
    parts = [book.pnl(name, mark) for name, mark in marks.items()]
    assert sum((each.net for each in parts), Decimal(0)) == book.ledger.equity(marks)
    assert [each.slippage for each in parts] == list(slippage.values())
    assert (parts[0].funding, parts[1].funding) == (Decimal("-0.12345678"), 0)


def test_slippage_is_told_apart_from_the_price() -> None:
    book = PositionManager()
    book.book_fill(msgspec.structs.replace(fill(1, price="100.2"), reference=Decimal(100)))
    split = book.pnl(BTC, Decimal(103))
    assert (split.price, split.slippage, split.fees, split.funding) == (3, Decimal("0.2"), Decimal("0.01"), 0)
    assert split.net == Decimal("2.79")
