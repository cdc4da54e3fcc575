"""Every published or recorded message of the account side decodes into our wire structs and translates.

The files come from the exchange's own examples and from the tests of other clients. Each file of the account side
stands in one of the tables below; a file that is in none makes a test fail. Market data files are tested beside this.
"""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from tidegate.adapters.binance.account_schemas import (
    AccountConfigRow,
    AlgoRow,
    BalanceRow,
    CommissionRow,
    DoneRow,
    IncomeRow,
    ListenKeyRow,
    OrderRow,
    PositionRow,
    PriceRow,
    SymbolConfigRow,
    TradeRow,
    flag,
    integer,
)
from tidegate.adapters.binance.account_translate import (
    algo_reports,
    algo_row_reports,
    balances,
    fill_cause,
    income,
    open_algo,
    open_order,
    order_reports,
    positions,
    row_end,
    settings,
    trade_fill,
)
from tidegate.adapters.binance.order_entry import algo_params, amend_params, place_params
from tidegate.adapters.binance.order_names import OrderNames
from tidegate.adapters.binance.user_events import (
    AccountUpdate,
    AlgoUpdate,
    ConfigUpdate,
    Ignored,
    ListenKeyExpired,
    MarginCall,
    OrderTradeUpdate,
    TradeLite,
    TriggerReject,
    UserEvent,
    decode_event,
)
from tidegate.domain.account import Balance, ContractSetting, Position, Transfer
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.orders import (
    AmendOrder,
    ApprovedOrder,
    FillCause,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderReport,
    OrderTriggered,
    OrderType,
    PositionSide,
    Purpose,
    Side,
    TimeInForce,
)

REST: dict[str, Any] = {
    "account_trade_list.json": list[TradeRow],
    "all_orders.json": list[OrderRow],
    "cancel_algo_order.json": DoneRow,
    "cancel_all_algo_open_orders.json": DoneRow,
    "cancel_multiple_orders.json": list[OrderRow],
    "cancel_order.json": OrderRow,
    "change_margin_type.json": DoneRow,
    "change_multi_assets_mode.json": DoneRow,
    "current_all_algo_open_orders.json": list[AlgoRow],
    "current_all_open_orders.json": list[OrderRow],
    "futures_account_balance_v3.json": list[BalanceRow],
    "futures_account_configuration.json": AccountConfigRow,
    "get_income_history.json": list[IncomeRow],
    "modify_multiple_orders.json": list[OrderRow],
    "modify_order.json": OrderRow,
    "new_order.json": OrderRow,
    "place_multiple_orders.json": list[OrderRow],
    "position_information_v2.json": list[PositionRow],
    "position_information_v3.json": list[PositionRow],
    "query_all_algo_orders.json": list[AlgoRow],
    "query_current_open_order.json": OrderRow,
    "start_user_data_stream.json": ListenKeyRow,
    "symbol_configuration.json": list[SymbolConfigRow],
    "symbol_price_ticker_v2.json": PriceRow,
    "test_order.json": OrderRow,
    "toggle_bnb_burn_on_futures_trade.json": DoneRow,
    "users_force_orders.json": list[OrderRow],
}
"""Official REST examples: the shape that each is decoded as."""

NOT_READ = {
    "account_information_v2.json": "the parts are read by positionRisk, balance, accountConfig and symbolConfig",
    "account_information_v3.json": "the parts are read by positionRisk, balance, accountConfig and symbolConfig",
    "adl_risk.json": "a deleveraging is booked when it happens",
    "get_bnb_burn_status.json": "the asset of a fee stands in the execution",
    "get_current_multi_assets_mode.json": "accountConfig has the mode at a sixth of the weight",
    "get_download_id_for_futures_order_history.json": "bulk downloads are not used",
    "get_download_id_for_futures_trade_history.json": "bulk downloads are not used",
    "get_futures_order_history_download_link_by_id.json": "bulk downloads are not used",
    "get_futures_trade_download_link_by_id.json": "bulk downloads are not used",
    "get_order_modify_history.json": "an amendment is reported by its answer and by the stream",
    "get_position_margin_change_history.json": "margin is never moved by the daemon",
    "query_insurance_fund_balance_snapshot.json": "the fund is no part of our account",
}
"""Official REST examples of the account side that nothing reads, and why; they are only shown to be JSON."""

MARKET = frozenset(
    {
        "asset_index.json",
        "check_server_time.json",
        "composite_index_symbol_information.json",
        "continuous_contract_kline_candlestick_data.json",
        "exchange_information.json",
        "get_funding_rate_info.json",
        "index_price_kline_candlestick_data.json",
        "long_short_ratio.json",
        "mark_price.json",
        "notional_and_leverage_brackets.json",
        "old_trades_lookup.json",
        "open_interest.json",
        "order_book.json",
        "premium_index_kline_data.json",
        "query_index_price_constituents.json",
        "rpi_order_book.json",
        "symbol_order_book_ticker.json",
        "taker_buy_sell_volume.json",
        "top_trader_long_short_ratio_accounts.json",
        "top_trader_long_short_ratio_positions.json",
    }
)
"""Official REST examples of market data: tests/oracles/test_market_messages.py has them."""

WS_API: dict[str, Any] = {
    "cancel_order.json": OrderRow,
    "close_user_data_stream.json": ListenKeyRow,
    "futures_account_balance.json": list[BalanceRow],
    "futures_account_balance_v2.json": list[BalanceRow],
    "modify_order.json": OrderRow,
    "new_order.json": OrderRow,
    "position_information.json": list[PositionRow],
    "query_order.json": OrderRow,
    "start_user_data_stream.json": ListenKeyRow,
    "symbol_price_ticker.json": PriceRow,
}
WS_API_NOT_READ = {
    "account_information.json": "the parts are read over REST",
    "symbol_order_book_ticker.json": "quotes come from the stream",
}

EVENTS: dict[str, tuple[type[UserEvent], ...]] = {
    "Event-Account-Configuration-Update-previous-Leverage-Update.json": (ConfigUpdate, ConfigUpdate),
    "Event-Algo-Order-Update.json": (AlgoUpdate,),
    "Event-Conditional-Order-Trigger-Reject.json": (TriggerReject,),
    "Event-GRID-UPDATE.json": (Ignored,),
    "Event-Order-Update.json": (OrderTradeUpdate,),
    "Event-STRATEGY-UPDATE.json": (Ignored,),
    "Event-User-Data-Stream-Expired.json": (ListenKeyExpired,),
}

NAUTILUS_EVENTS: dict[str, type[UserEvent]] = {
    "py_ws_messages__ws_futures_algo_update_finished_canceled.json": AlgoUpdate,
    "py_ws_messages__ws_futures_algo_update_triggered.json": AlgoUpdate,
    "py_ws_messages__ws_futures_order_update_adl.json": OrderTradeUpdate,
    "py_ws_messages__ws_futures_order_update_adl_filled.json": OrderTradeUpdate,
    "py_ws_messages__ws_futures_order_update_liquidation_zero_qty.json": OrderTradeUpdate,
    "py_ws_messages__ws_futures_order_update_new_limit_if_touched_price_match.json": OrderTradeUpdate,
    "py_ws_messages__ws_futures_order_update_new_reduce_only_qty.json": OrderTradeUpdate,
    "py_ws_messages__ws_futures_order_update_new_stop_limit_price_match.json": OrderTradeUpdate,
    "py_ws_messages__ws_futures_order_update_trade_reduce_only_qty.json": OrderTradeUpdate,
    "rust_user_data_json__account_update_bnfcr.json": AccountUpdate,
    "rust_user_data_json__algo_update_canceled.json": AlgoUpdate,
    "rust_user_data_json__order_update_adl.json": OrderTradeUpdate,
    "rust_user_data_json__order_update_calculated.json": OrderTradeUpdate,
    "rust_user_data_json__order_update_delivery.json": OrderTradeUpdate,
    "rust_user_data_json__order_update_insurance.json": OrderTradeUpdate,
    "rust_user_data_json__order_update_settlement.json": OrderTradeUpdate,
    "rust_user_data_json__order_update_trade.json": OrderTradeUpdate,
    "rust_user_data_json__trade_lite.json": TradeLite,
}
NAUTILUS_ROWS: dict[str, Any] = {
    "py_http_responses__http_futures_account_orders.json": list[OrderRow],
    "py_http_responses__http_futures_account_positions_hedge.json": list[PositionRow],
    "py_http_responses__http_futures_account_positions_one_way.json": list[PositionRow],
    "py_http_responses__http_futures_account_trades.json": list[TradeRow],
    "py_http_responses__http_futures_wallet_commission_rate_btcusdt_quarterly.json": CommissionRow,
    "py_http_responses__http_futures_wallet_commission_rate_ethusdt.json": CommissionRow,
    "rust_http_json__balance.json": list[BalanceRow],
    "rust_http_json__order_response.json": OrderRow,
    "rust_http_json__position_risk.json": list[PositionRow],
}
NAUTILUS_NOT_READ = {"rust_http_json__account_info_v2.json": "the parts are read by calls of their own"}

FILLS: dict[str, tuple[FillCause, str, str, str, int]] = {
    "py_ws_messages__ws_futures_order_update_adl.json": (
        FillCause.DELEVERAGING,
        "1.000",
        "2500.00",
        "2.50000000",
        2233445566,
    ),
    "py_ws_messages__ws_futures_order_update_adl_filled.json": (
        FillCause.DELEVERAGING,
        "1.000",
        "2500.00",
        "2.50000000",
        2233445566,
    ),
    "py_ws_messages__ws_futures_order_update_trade_reduce_only_qty.json": (
        FillCause.ORDER,
        "1.000",
        "2500.00",
        "0.50000000",
        9988776655,
    ),
    "rust_user_data_json__order_update_adl.json": (
        FillCause.DELEVERAGING,
        "0.005",
        "42000.00",
        "0.10500000",
        12346001,
    ),
    "rust_user_data_json__order_update_calculated.json": (
        FillCause.LIQUIDATION,
        "0.014",
        "9910.12",
        "0.06937084",
        12345999,
    ),
    "rust_user_data_json__order_update_delivery.json": (FillCause.SETTLEMENT, "1", "70000.0", "0", 12346003),
    "rust_user_data_json__order_update_insurance.json": (
        FillCause.LIQUIDATION,
        "0.020",
        "45000.00",
        "0.45000000",
        12346003,
    ),
    "rust_user_data_json__order_update_settlement.json": (
        FillCause.SETTLEMENT,
        "0.010",
        "50000.00",
        "0.25000000",
        12346002,
    ),
    "rust_user_data_json__order_update_trade.json": (FillCause.ORDER, "0.001", "7100.50", "0.01000000", 12345678),
}


@pytest.fixture
def oracles(shared: Path) -> Path:
    return shared / "oracles/binance"


@pytest.fixture
def odd() -> Counter[str]:
    """What was met and not known."""
    return Counter()


def count_in(odd: Counter[str]) -> Any:
    return lambda name: odd.update((name,))


def no_price(_: str) -> Decimal | None:
    return None


def expected_response(path: Path) -> bytes:
    return json.dumps(json.loads(path.read_text())["expected_response"]).encode()


def decoded(raw: bytes, shape: Any) -> Any:
    """As the REST client decodes: strictly."""
    return msgspec.json.decode(raw, type=shape)


def said(event: UserEvent, odd: Counter[str]) -> list[OrderReport]:
    if isinstance(event, AlgoUpdate):
        return algo_reports(event, OrderNames(), 1, count_in(odd))
    assert isinstance(event, OrderTradeUpdate)
    return order_reports(event, OrderNames(), 1, no_price, count_in(odd))


# ---- no file is forgotten --------------------------------------------------------------------------------------------


def test_every_account_file_is_in_a_table(oracles: Path) -> None:
    rest = {each.name for each in (oracles / "official_examples/rest_api").iterdir()}
    assert rest == set(REST) | set(NOT_READ) | MARKET
    ws_api = {each.name for each in (oracles / "official_examples/websocket_api").iterdir()}
    assert ws_api == set(WS_API) | set(WS_API_NOT_READ)
    events = {each.name for each in (oracles / "documented_events").iterdir() if each.name.startswith("Event-")}
    assert events == set(EVENTS)
    account = ("_account_", "_wallet_", "order_update", "algo_update", "rust_user_data", "rust_http_json")
    nautilus = {each.name for each in (oracles / "nautilus_trader").iterdir() if any(a in each.name for a in account)}
    assert nautilus == set(NAUTILUS_EVENTS) | set(NAUTILUS_ROWS) | set(NAUTILUS_NOT_READ)


@pytest.mark.parametrize("name", sorted(NOT_READ))
def test_what_nothing_reads_is_json(oracles: Path, name: str) -> None:
    assert msgspec.json.decode(expected_response(oracles / "official_examples/rest_api" / name)) is not None


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REST))
def test_official_rest_examples_decode_and_translate(oracles: Path, name: str, odd: Counter[str]) -> None:
    found = decoded(expected_response(oracles / "official_examples/rest_api" / name), REST[name])
    for row in found if isinstance(found, list) else [found]:
        translate(row, odd)
    assert not odd, odd


@pytest.mark.parametrize("name", sorted(WS_API))
def test_official_websocket_api_examples_decode_and_translate(oracles: Path, name: str, odd: Counter[str]) -> None:
    envelope = json.loads(expected_response(oracles / "official_examples/websocket_api" / name))
    assert envelope["status"] == 200
    found = decoded(json.dumps(envelope["result"]).encode(), WS_API[name])
    for row in found if isinstance(found, list) else [found]:
        translate(row, odd)
    assert not odd, odd


@pytest.mark.parametrize("name", sorted(NAUTILUS_ROWS))
def test_answers_in_another_clients_tests_decode_and_translate(oracles: Path, name: str, odd: Counter[str]) -> None:
    found = decoded((oracles / "nautilus_trader" / name).read_bytes(), NAUTILUS_ROWS[name])
    for row in found if isinstance(found, list) else [found]:
        translate(row, odd)
    assert not odd, odd


def translate(row: Any, odd: Counter[str]) -> None:
    """Through the function that the adapter reads this kind of row with; something of it must have arrived."""
    count = count_in(odd)
    match row:
        case OrderRow():
            order = open_order(row, count)
            assert order.venue_id == row.order_id
            assert order.qty == row.orig_qty != 0
            assert row_end(row, order.id, 1, 1, count) is None or row.status == "CANCELED"
        case AlgoRow():
            stop = open_algo(row, count)
            assert stop.venue_id == row.algo_id
            assert stop.trigger == row.trigger_price
            assert algo_row_reports(row, OrderNames(), 1, 1, count)
        case TradeRow():
            fill = trade_fill(row, ClientOrderId("x"), FillCause.ORDER, 1, no_price)
            assert fill.trade_id == row.id
            assert fill.fee == row.commission
            assert fill.ts_ns == row.time * 1_000_000
        case PositionRow():
            held = positions([row])
            assert bool(held) is bool(row.position_amt)
        case BalanceRow():
            assert balances([row]) == (Balance("USDT", row.balance, (integer(row.update_time) or 0) * 1_000_000),)
        case IncomeRow():
            assert income(row, 1, lambda _: None) is not None
        case SymbolConfigRow():
            assert settings([row], ["BTCUSDT"]) == (ContractSetting(InstrumentId("BTCUSDT"), 21, False),)
        case ListenKeyRow():
            assert row.listen_key is None or len(row.listen_key) > 20
        case PriceRow():
            assert row.price == Decimal("6000.01")
        case CommissionRow():
            assert (row.maker_commission_rate, row.taker_commission_rate) == (Decimal("0.0002"), Decimal("0.0005"))
        case AccountConfigRow():
            assert (flag(row.dual_side_position), flag(row.multi_assets_margin)) == (True, False)
        case DoneRow():
            assert integer(row.code) == 200
        case _:
            pytest.fail(f"nothing translates {type(row).__name__}")


def test_an_official_order_means_what_it_says(oracles: Path, odd: Counter[str]) -> None:
    raw = expected_response(oracles / "official_examples/rest_api/query_current_open_order.json")
    order = open_order(decoded(raw, OrderRow), count_in(odd))
    assert (order.id, order.venue_id, order.instrument) == ("abc", 1917641, "BTCUSDT")
    assert (order.side, order.position_side, order.order_type) == (
        Side.BUY,
        PositionSide.SHORT,
        OrderType.STOP_MARKET,
    )
    assert (order.qty, order.filled, order.limit, order.trigger) == (Decimal("0.40"), 0, None, Decimal(9300))


def test_an_official_transfer_is_one(oracles: Path) -> None:
    raw = expected_response(oracles / "official_examples/rest_api/get_income_history.json")
    (row,) = decoded(raw, list[IncomeRow])
    expected = Transfer("USDT", Decimal("-0.37500000"), 1570608000000 * 10**6, 1, "TRANSFER:9689322392:")
    assert income(row, 1, lambda _: None) == expected


def test_official_positions_keep_their_sign(oracles: Path) -> None:
    raw = (oracles / "nautilus_trader/py_http_responses__http_futures_account_positions_hedge.json").read_bytes()
    assert [(each.qty, each.side) for each in positions(decoded(raw, list[PositionRow]))] == [
        (Decimal("20.000"), PositionSide.LONG),
        (Decimal("-10.000"), PositionSide.SHORT),
    ]
    raw = expected_response(oracles / "official_examples/rest_api/position_information_v3.json")
    held = Position(InstrumentId("ADAUSDT"), Decimal(30), Decimal("0.385"))
    assert positions(decoded(raw, list[PositionRow])) == (held,)


def test_the_venues_own_orders_are_known_by_name(oracles: Path) -> None:
    raw = expected_response(oracles / "official_examples/rest_api/users_force_orders.json")
    (row,) = decoded(raw, list[OrderRow])
    assert fill_cause(row.client_order_id) is FillCause.LIQUIDATION


# ---- events ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_documented_events_decode(oracles: Path, name: str, odd: Counter[str]) -> None:
    payloads = json.loads((oracles / "documented_events" / name).read_text())["payloads"]
    found = [decode_event(json.dumps(payload).encode(), count_in(odd)) for payload in payloads]
    assert tuple(map(type, found)) == EVENTS[name]
    for event in found:
        if isinstance(event, OrderTradeUpdate | AlgoUpdate):
            assert len(said(event, odd)) == 1
    assert not odd, odd


def test_a_documented_trigger_rejection_names_its_order(oracles: Path, odd: Counter[str]) -> None:
    name = "Event-Conditional-Order-Trigger-Reject.json"
    (payload,) = json.loads((oracles / "documented_events" / name).read_text())["payloads"]
    event = decode_event(json.dumps(payload).encode(), count_in(odd))
    assert isinstance(event, TriggerReject)
    assert (event.order.symbol, event.order.order_id) == ("ETHUSDT", 155618472834)


@pytest.mark.parametrize("name", sorted(NAUTILUS_EVENTS))
def test_events_in_another_clients_tests_decode(oracles: Path, name: str, odd: Counter[str]) -> None:
    event = decode_event((oracles / "nautilus_trader" / name).read_bytes(), count_in(odd))
    assert type(event) is NAUTILUS_EVENTS[name]
    assert not odd, odd


@pytest.mark.parametrize("name", sorted(FILLS))
def test_executions_of_every_cause(oracles: Path, name: str, odd: Counter[str]) -> None:
    event = decode_event((oracles / "nautilus_trader" / name).read_bytes(), count_in(odd))
    (fill,) = said(event, odd)
    assert isinstance(fill, OrderFilled)
    cause, qty, price, fee, trade_id = FILLS[name]
    assert (fill.cause, fill.qty, fill.price, fill.fee, fill.trade_id) == (
        cause,
        Decimal(qty),
        Decimal(price),
        Decimal(fee),
        trade_id,
    )
    assert fill.fee_asset == "USDT"


def test_a_liquidation_without_quantity_is_no_execution(oracles: Path, odd: Counter[str]) -> None:
    name = "py_ws_messages__ws_futures_order_update_liquidation_zero_qty.json"
    event = decode_event((oracles / "nautilus_trader" / name).read_bytes(), count_in(odd))
    assert said(event, odd) == []
    assert odd == {"CALCULATED without a quantity": 1}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("py_ws_messages__ws_futures_algo_update_triggered.json", OrderTriggered),
        ("py_ws_messages__ws_futures_algo_update_finished_canceled.json", OrderTriggered),
        ("rust_user_data_json__algo_update_canceled.json", OrderCanceled),
        ("py_ws_messages__ws_futures_order_update_new_reduce_only_qty.json", OrderAccepted),
        ("py_ws_messages__ws_futures_order_update_new_stop_limit_price_match.json", OrderAccepted),
        ("py_ws_messages__ws_futures_order_update_new_limit_if_touched_price_match.json", OrderAccepted),
    ],
)
def test_what_happens_to_an_order(oracles: Path, name: str, kind: type[OrderReport], odd: Counter[str]) -> None:
    (report,) = said(decode_event((oracles / "nautilus_trader" / name).read_bytes(), count_in(odd)), odd)
    assert type(report) is kind


def test_a_trigger_names_its_child(oracles: Path, odd: Counter[str]) -> None:
    name = "py_ws_messages__ws_futures_algo_update_triggered.json"
    event = decode_event((oracles / "nautilus_trader" / name).read_bytes(), count_in(odd))
    assert isinstance(event, AlgoUpdate)
    names = OrderNames()
    algo_reports(event, names, 1, count_in(odd))
    assert names.parent("DOGEUSDT", 88937381063) == "O-20251211-053131-TEST-000-1"


# ---- payloads of other clients ---------------------------------------------------------------------------------------


def test_payloads_of_hummingbots_tests(oracles: Path, odd: Counter[str]) -> None:
    """``COINALPHAHBOT`` and the like: what counts is the shape. One trade has its order id as a text."""
    shapes = {
        "trades": list[TradeRow],
        "order": OrderRow,
        "response": msgspec.Raw,  # account v2: not read
    }
    seen = Counter[str]()
    for entry in json.loads((oracles / "hummingbot_test_payloads.json").read_text()):
        raw, value = json.dumps(entry["value"]).encode(), entry["value"]
        if isinstance(value, dict) and "e" in value:
            event = decode_event(raw, count_in(odd))
            assert isinstance(event, AccountUpdate | MarginCall | OrderTradeUpdate)
            seen[type(event).__name__] += 1
        elif entry["name"] == "cancel_response":
            row = decoded(raw, OrderRow)
            assert integer(row.code) == 200 or row.status == "FILLED"
            seen["cancel"] += 1
        else:
            found = decoded(raw, shapes[entry["name"]])
            seen[entry["name"]] += 1
            if entry["name"] == "trades":
                (fill,) = (trade_fill(row, ClientOrderId("x"), FillCause.ORDER, 1, no_price) for row in found)
                assert (fill.trade_id, integer(found[0].order_id), fill.fee_asset) == (698759, 8886774, "HBOT")
    assert seen == {
        "AccountUpdate": 2,
        "MarginCall": 1,
        "OrderTradeUpdate": 1,
        "trades": 1,
        "order": 1,
        "cancel": 2,
        "response": 1,
    }
    assert not odd, odd


def test_ccxt_reads_the_same_out_of_the_official_examples(oracles: Path, odd: Counter[str]) -> None:
    """Two readings of one answer agree on every figure that both have."""
    seen = Counter[str]()
    for case in json.loads((oracles / "ccxt_parsed_examples.json").read_text())["cases"]:
        raw, parsed = json.dumps(case["http_response"]).encode(), case["parsed"]
        match case["ccxt_method"]:
            case "parse_order" | "parse_orders":
                rows = decoded(raw, list[OrderRow]) if isinstance(parsed, list) else [decoded(raw, OrderRow)]
                for row, theirs in zip(rows, parsed if isinstance(parsed, list) else [parsed], strict=True):
                    same_order(row, theirs, odd)
            case "parse_trades":
                for row, theirs in zip(decoded(raw, list[TradeRow]), parsed, strict=True):
                    fill = trade_fill(row, ClientOrderId("x"), FillCause.ORDER, 1, no_price)
                    assert (str(fill.trade_id), float(fill.price), float(fill.qty)) == (
                        theirs["id"],
                        theirs["price"],
                        theirs["amount"],
                    )
                    assert (fill.side.value.lower(), float(fill.fee)) == (theirs["side"], theirs["fee"]["cost"])
            case "parse_incomes":
                for row, theirs in zip(decoded(raw, list[IncomeRow]), parsed, strict=True):
                    line = income(row, 1, lambda _: None)
                    assert line is not None
                    assert (float(line.amount), line.ts_ns // 10**6) == (theirs["amount"], theirs["timestamp"])
            case "parse_position_risk":
                for held, theirs in zip(positions(decoded(raw, list[PositionRow])), parsed, strict=True):
                    assert (float(held.qty), float(held.entry_price)) == (theirs["contracts"], theirs["entryPrice"])
            case _:
                seen["market data or totals"] += 1
                continue
        seen[case["ccxt_method"]] += 1
    assert seen == {
        "parse_order": 4,
        "parse_orders": 2,
        "parse_trades": 1,
        "parse_incomes": 1,
        "parse_position_risk": 1,
        "market data or totals": 4,
    }


def same_order(row: OrderRow, theirs: dict[str, Any], odd: Counter[str]) -> None:
    order = open_order(row, count_in(odd))
    assert (str(order.venue_id), order.id, order.side.value.lower()) == (
        theirs["id"],
        theirs["clientOrderId"],
        theirs["side"],
    )
    assert (float(order.qty), float(order.filled)) == (theirs["amount"], theirs["filled"])
    assert (float(order.limit) if order.limit else None) == theirs["price"]
    assert (float(order.trigger) if order.trigger else None) == theirs["triggerPrice"]
    ended = row_end(row, order.id, 1, 1, count_in(odd))
    assert (theirs["status"] == "canceled") is isinstance(ended, OrderCanceled)


# ---- requests of another client --------------------------------------------------------------------------------------


def test_our_requests_have_the_names_and_values_of_ccxts(oracles: Path) -> None:
    """Where ccxt and we wish the same, the same goes over the wire; the client id and the kind of answer are ours."""
    cases = json.loads((oracles / "ccxt_static/request_binance_usdm_excerpt.json").read_text())["cases"]
    compared = 0
    for case in cases:
        theirs = dict(parse_qsl(case["output"] or urlsplit(case["url"]).query, keep_blank_values=True))
        for name in ("signature", "timestamp", "recvWindow", "newOrderRespType"):
            theirs.pop(name, None)
        ours = as_we_send(case["method"], urlsplit(case["url"]).path, theirs)
        if ours is None:
            continue
        compared += 1
        renamed = {"newClientOrderId": "clientAlgoId"} if "algoType" in theirs else {}
        expected = {renamed.get(name, name): value for name, value in theirs.items() if value}
        expected.pop("clientOrderId", None)  # surplus: the venue ignores it
        for limit_of_a_stop in ("price",) if "algoType" in theirs else ():
            expected.pop(limit_of_a_stop)
        assert ours == expected, case["method"]
    assert compared == 5


def as_we_send(method: str, path: str, theirs: dict[str, str]) -> dict[str, str] | None:
    """Our request for the same wish; ``None`` where we ask in another way (reads, and cancels by list)."""
    if method == "editOrderWithClientOrderId":
        change = AmendOrder(
            ClientOrderId(theirs["origClientOrderId"]),
            InstrumentId(theirs["symbol"]),
            Decimal(theirs["quantity"]),
            Decimal(theirs["price"]),
            None,
        )
        return dict(amend_params(change, Side(theirs["side"]), Decimal(theirs["price"])))
    if method != "createOrder":
        return None
    conditional = path.endswith("algoOrder")
    kind = OrderType.STOP_MARKET if conditional else OrderType(theirs["type"])
    order = ApprovedOrder(
        ClientOrderId(theirs["newClientOrderId"]),
        InstrumentId(theirs["symbol"]),
        Side(theirs["side"]),
        Decimal(theirs["quantity"]),
        kind,
        Decimal(theirs["price"]) if kind is OrderType.LIMIT else None,
        Decimal(theirs["triggerPrice"]) if conditional else None,
        TimeInForce.GTC,
        False,
        PositionSide.BOTH,
        Purpose.TARGET,
        None,
        None,
        0,
        0,
    )
    sent = dict(algo_params(order) if conditional else place_params(order))
    sent.pop("newOrderRespType", None)
    if conditional:
        assert sent.pop("workingType") == "CONTRACT_PRICE"  # the default, said aloud
        sent["type"] = "STOP"  # theirs has a limit price, ours never has
    return sent
