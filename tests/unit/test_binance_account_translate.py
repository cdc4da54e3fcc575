"""The account side of the wire in our words: which event is what, under whose id, and what is tolerated."""

import json
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from tidegate.adapters.binance.account_schemas import AlgoRow, BadEvent, IncomeRow, OrderRow, TradeRow, flag, integer
from tidegate.adapters.binance.account_translate import (
    algo_reports,
    algo_row_reports,
    fill_cause,
    income,
    open_algo,
    order_reports,
    row_end,
    trade_fill,
)
from tidegate.adapters.binance.order_names import Known, OrderNames, Remembered
from tidegate.adapters.binance.user_events import (
    AlgoUpdate,
    ControlAnswer,
    Ignored,
    OrderTradeUpdate,
    decode_event,
)
from tidegate.domain.account import FundingPaid, Income, Transfer
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.orders import (
    FillCause,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderReport,
    OrderTriggered,
    RejectCause,
    Side,
)

ID = "p1-ab-1-7-0"
BTC = InstrumentId("BTCUSDT")


@pytest.fixture
def odd() -> Counter[str]:
    return Counter()


def order_event(**fields: Any) -> dict[str, Any]:
    order = {"s": "BTCUSDT", "c": ID, "S": "BUY", "o": "LIMIT", "q": "0.010", "p": "64000.0", "x": "NEW", "X": "NEW"}
    order |= {"i": 11, "l": "0", "z": "0", "L": "0", "T": 1_763_800_000_100, "t": 0, "m": False, "ps": "BOTH"}
    return {"e": "ORDER_TRADE_UPDATE", "E": 1_763_800_000_101, "T": 1_763_800_000_100, "o": order | fields}


def algo_event(**fields: Any) -> dict[str, Any]:
    order = {"caid": ID, "aid": 77, "s": "BTCUSDT", "S": "SELL", "o": "STOP_MARKET", "X": "NEW", "ai": ""}
    return {"e": "ALGO_UPDATE", "E": 1_763_800_000_101, "T": 1_763_800_000_100, "o": order | fields}


def told(
    raw: dict[str, Any], odd: Counter[str], names: OrderNames | None = None, bnb: Decimal | None = None
) -> list[OrderReport]:
    def count(name: str) -> None:
        odd[name] += 1

    event = decode_event(json.dumps(raw).encode(), count)
    names = names or OrderNames()
    if isinstance(event, AlgoUpdate):
        return algo_reports(event, names, 5, count)
    assert isinstance(event, OrderTradeUpdate)
    return order_reports(event, names, 5, lambda asset: bnb if asset == "BNB" else None, count)


# ---- orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"x": "NEW", "X": "NEW"}, OrderAccepted),
        ({"x": "CANCELED", "X": "CANCELED"}, OrderCanceled),
        ({"x": "EXPIRED", "X": "EXPIRED", "er": "2"}, OrderExpired),
        ({"x": "EXPIRED", "X": "EXPIRED_IN_MATCH", "er": "1"}, OrderExpired),
        ({"x": "AMENDMENT", "X": "NEW", "q": "0.020", "p": "63000.0"}, OrderAmended),
        ({"x": "NEW", "X": "REJECTED"}, OrderRejected),
        ({"x": "TRADE", "X": "FILLED", "l": "0.010", "L": "63999.9", "t": 5, "N": "USDT", "n": "0.3"}, OrderFilled),
        ({"x": "SOMETHING_NEW", "X": "CANCELED"}, OrderCanceled),
        ({"x": "SOMETHING_NEW", "X": "EXPIRED_IN_MATCH"}, OrderExpired),
        ({"x": "SOMETHING_NEW", "X": "REJECTED"}, OrderRejected),
    ],
)
def test_what_an_event_says(fields: dict[str, Any], kind: type[OrderReport], odd: Counter[str]) -> None:
    (report,) = told(order_event(**fields), odd)
    assert type(report) is kind
    assert (report.id, report.instrument, report.ts_ns, report.recv_ns) == (ID, BTC, 1_763_800_000_100_000_000, 5)


def test_an_expiry_says_why(odd: Counter[str]) -> None:
    reports = [told(order_event(x="EXPIRED", X="EXPIRED", er=reason), odd)[0] for reason in ("4", 4, "99")]
    texts = [report.reason for report in reports if isinstance(report, OrderExpired)]
    assert texts == ["knocked out reduce-only", "knocked out reduce-only", "expired, reason 99"]


def test_an_unknown_execution_type_with_a_quantity_is_an_execution(odd: Counter[str]) -> None:
    """A new word of the venue's must not lose a fill."""
    (fill,) = told(order_event(x="BLOCK_TRADE", X="FILLED", l="0.01", L="64000", t=9, N="USDT", n="0.1"), odd)
    assert isinstance(fill, OrderFilled)
    assert fill.trade_id == 9
    assert odd == {"execution type BLOCK_TRADE": 1}


@pytest.mark.parametrize("execution", ["CANCELED", "EXPIRED", "NEW", "AMENDMENT"])
def test_an_event_that_is_no_execution_brings_none(execution: str, odd: Counter[str]) -> None:
    """Some events repeat the last execution beside what they are about."""
    (report,) = told(order_event(x=execution, X="CANCELED", l="0.01", L="64000", t=9), odd)
    assert not isinstance(report, OrderFilled)


def test_a_fee_in_bnb_carries_its_price(odd: Counter[str]) -> None:
    raw = order_event(x="TRADE", X="FILLED", l="0.01", L="64000", t=9, N="BNB", n="0.0004")
    (fill,) = told(raw, odd, bnb=Decimal("600.5"))
    assert isinstance(fill, OrderFilled)
    assert (fill.fee, fill.fee_asset, fill.fee_price) == (Decimal("0.0004"), "BNB", Decimal("600.5"))
    (in_usdt,) = told(order_event(x="TRADE", X="FILLED", l="0.01", L="64000", t=9, n="0.3"), odd)
    assert isinstance(in_usdt, OrderFilled)
    assert (in_usdt.fee_asset, in_usdt.fee_price) == ("USDT", None)


@pytest.mark.parametrize(
    ("client_id", "cause"),
    [
        ("autoclose-123", FillCause.LIQUIDATION),
        ("adl_autoclose", FillCause.DELEVERAGING),
        ("adl_autoclose-1", FillCause.DELEVERAGING),
        ("settlement_autoclose-9", FillCause.SETTLEMENT),
        ("delivery_autoclose-9", FillCause.SETTLEMENT),
        (ID, FillCause.ORDER),
        ("web_autoclose-1", FillCause.ORDER),
    ],
)
def test_the_venues_own_acts(client_id: str, cause: FillCause) -> None:
    assert fill_cause(client_id) is cause


def test_calculated_is_a_liquidation_under_any_name(odd: Counter[str]) -> None:
    (fill,) = told(order_event(c="strange", x="CALCULATED", X="FILLED", l="0.01", L="60000", t=9), odd)
    assert isinstance(fill, OrderFilled)
    assert fill.cause is FillCause.LIQUIDATION


def test_numbers_as_texts_and_texts_as_numbers(odd: Counter[str]) -> None:
    """The wire has been seen to change between the two."""
    raw = order_event(x="TRADE", X="FILLED", l=0.01, L=64000.5, t="9", i="11", T="1763800000100", n=0.3, N="USDT", er=0)
    (fill,) = told(raw, odd)
    assert isinstance(fill, OrderFilled)
    assert (fill.qty, fill.price, fill.trade_id) == (Decimal("0.01"), Decimal("64000.5"), 9)
    assert fill.ts_ns == 1_763_800_000_100_000_000


def test_unknown_fields_and_events_are_counted(odd: Counter[str]) -> None:
    told(order_event(zz="new", yy=1), odd)
    assert decode_event(b'{"e":"PHONE_CALL","E":1}', lambda name: odd.update((name,))) == Ignored(
        event="PHONE_CALL", known=False
    )
    assert odd == {"field ORDER_TRADE_UPDATE.o.zz": 1, "field ORDER_TRADE_UPDATE.o.yy": 1, "event PHONE_CALL": 1}


def test_an_enveloped_event_is_the_same(odd: Counter[str]) -> None:
    inner = order_event()
    count = odd.update
    assert decode_event(json.dumps({"stream": "key", "data": inner}).encode(), count) == decode_event(
        json.dumps(inner).encode(), count
    )
    assert decode_event(b'{"result":null,"id":1}', count) == ControlAnswer()


@pytest.mark.parametrize(
    "payload", [b"", b"nonsense", b"[1,2]", b"\xff\xfe", b'{"e":"ORDER_TRADE_UPDATE","o":{"q":"much"}}', b'"x"']
)
def test_what_is_no_event_is_told_as_such(payload: bytes, odd: Counter[str]) -> None:
    with pytest.raises(BadEvent):
        decode_event(payload, odd.update)


def test_a_fill_without_a_side_is_no_fill(odd: Counter[str]) -> None:
    with pytest.raises(BadEvent, match="neither BUY nor SELL"):
        told(order_event(S="HOLD", x="TRADE", X="FILLED", l="0.01", L="1", t=3), odd)


# ---- conditional orders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("NEW", OrderAccepted),
        ("TRIGGERING", OrderTriggered),
        ("TRIGGERED", OrderTriggered),
        ("FINISHED", OrderTriggered),
        ("CANCELED", OrderCanceled),
        ("EXPIRED", OrderExpired),
        ("REJECTED", OrderRejected),
    ],
)
def test_where_a_conditional_order_stands(status: str, kind: type[OrderReport], odd: Counter[str]) -> None:
    (report,) = told(algo_event(X=status), odd)
    assert type(report) is kind
    assert report.ts_ns == 1_763_800_000_101_000_000  # the larger of the two: the page confuses them


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("Reduce Only reject", RejectCause.REDUCE_ONLY),
        ("Margin is insufficient.", RejectCause.MARGIN),
        ("Something else", RejectCause.OTHER),
    ],
)
def test_a_stop_that_is_refused_at_its_trigger_says_why(reason: str, cause: RejectCause, odd: Counter[str]) -> None:
    (report,) = told(algo_event(X="REJECTED", rm=reason), odd)
    assert isinstance(report, OrderRejected)
    assert (report.reason, report.cause) == (reason, cause)


def test_an_unknown_algo_status_is_counted(odd: Counter[str]) -> None:
    assert told(algo_event(X="DREAMING"), odd) == []
    assert odd == {"algo status DREAMING": 1}


def test_what_the_child_does_is_told_under_the_parents_id(odd: Counter[str]) -> None:
    names = OrderNames()
    told(algo_event(X="TRIGGERED", ai="900"), odd, names)
    child = {"i": 900, "c": "the-venues-choice", "S": "SELL", "o": "MARKET"}
    reports = [
        *told(order_event(**child), odd, names),
        *told(order_event(**child, x="TRADE", X="FILLED", l="0.010", L="61000", t=33, n="0.2", N="USDT"), odd, names),
    ]
    assert [type(each) for each in reports] == [OrderTriggered, OrderFilled]
    assert {each.id for each in reports} == {ID}


def test_a_child_that_kept_its_parents_id_needs_no_map(odd: Counter[str]) -> None:
    names = OrderNames()
    names.sent(Known(ClientOrderId(ID), BTC, Side.SELL, True))
    (report,) = told(order_event(i=900, S="SELL", o="MARKET"), odd, names)
    assert isinstance(report, OrderTriggered)


def test_a_listed_stop_that_closes_everything_reduces(odd: Counter[str]) -> None:
    row = AlgoRow(symbol="BTCUSDT", algo_id=4, side="SELL", order_type="STOP_MARKET", close_position=True)
    order = open_algo(row, odd.update)
    assert (order.id, order.qty, order.reduce_only) == ("venue-4", 0, True)


def test_an_algo_row_with_its_child_is_remembered(odd: Counter[str]) -> None:
    names = OrderNames()
    row = AlgoRow(symbol="BTCUSDT", algo_id=4, client_algo_id=ID, algo_status="FINISHED", actual_order_id="900")
    assert [type(each) for each in algo_row_reports(row, names, 1, 1, odd.update)] == [OrderTriggered]
    assert names.name("BTCUSDT", 900) == ID


# ---- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("NEW", None),
        ("PARTIALLY_FILLED", None),
        ("FILLED", None),
        ("CANCELED", OrderCanceled),
        ("EXPIRED", OrderExpired),
        ("EXPIRED_IN_MATCH", OrderExpired),
        ("REJECTED", OrderRejected),
        ("UNHEARD_OF", None),
    ],
)
def test_how_an_order_ended(status: str, kind: type[OrderReport] | None, odd: Counter[str]) -> None:
    row = OrderRow(symbol="BTCUSDT", status=status)
    end = row_end(row, ClientOrderId(ID), 1, 1, lambda name: odd.update((name,)))
    assert (None if end is None else type(end)) is kind
    assert odd == ({"order status UNHEARD_OF": 1} if status == "UNHEARD_OF" else {})


def test_an_execution_of_the_list_equals_that_of_the_stream(odd: Counter[str]) -> None:
    """The same trade, read in two ways, is the same fill: it is booked once by its id, whichever came first."""
    raw = order_event(x="TRADE", X="FILLED", l="0.010", L="63999.9", t=5, N="USDT", n="0.30", m=True)
    (streamed,) = told(raw, odd)
    row = TradeRow(
        symbol="BTCUSDT",
        id=5,
        order_id=11,
        side="BUY",
        position_side="BOTH",
        price=Decimal("63999.9"),
        qty=Decimal("0.010"),
        commission=Decimal("0.30"),
        commission_asset="USDT",
        maker=True,
        time=1_763_800_000_100,
    )
    assert trade_fill(row, ClientOrderId(ID), FillCause.ORDER, 5, lambda _: None) == streamed


def line(**fields: Any) -> IncomeRow:
    known = {"symbol": "BTCUSDT", "income": Decimal("-0.5"), "asset": "USDT", "time": 7, "tran_id": 42, "trade_id": ""}
    return IncomeRow(**(known | fields))


def test_income_lines() -> None:
    rates = {BTC: (0.0001, 64000.0)}.get
    funding = income(line(income_type="FUNDING_FEE"), 9, rates)
    assert funding == FundingPaid(BTC, Decimal("-0.5"), 0.0001, 64000.0, 7_000_000, 9, line="FUNDING_FEE:42:")
    assert isinstance(income(line(income_type="SPECIAL_FUNDING_FEE"), 9, rates), FundingPaid)
    assert income(line(income_type="TRANSFER", symbol=""), 9, rates) == Transfer(
        "USDT", Decimal("-0.5"), 7_000_000, 9, "TRANSFER:42:"
    )
    assert income(line(income_type="INSURANCE_CLEAR", trade_id="8"), 9, rates) == Income(
        "INSURANCE_CLEAR", "USDT", Decimal("-0.5"), BTC, "INSURANCE_CLEAR:42:8", 7_000_000, 9
    )
    assert isinstance(income(line(income_type="FUNDING_FEE", asset="USDC"), 9, rates), Income)
    assert income(line(income_type="COMMISSION"), 9, rates) is None
    assert income(line(income_type="REALIZED_PNL"), 9, rates) is None
    unknown = income(line(income_type="FUNDING_FEE", symbol="ETHUSDT"), 9, rates)
    assert isinstance(unknown, FundingPaid)
    assert (unknown.rate, unknown.mark) == (0.0, 0.0)


def test_numbers_and_flags_as_texts() -> None:
    assert [integer(value) for value in (7, "7", "", None, "7.5", "x", 0)] == [7, 7, None, None, None, None, 0]
    assert [flag(value) for value in (True, "true", "True", False, "false", None, "")] == [True] * 3 + [False] * 4


def test_memory_is_bounded() -> None:
    memory: Remembered[int, int] = Remembered(3)
    for number in (1, 2, 3, 1, 4):
        memory.put(number, number)
    assert [number in memory for number in (1, 2, 3, 4)] == [True, False, True, True]
    assert (len(memory), memory.pop(1), memory.get(1)) == (3, 1, None)
