"""Days on which our books and the venue's have to be made equal again."""

from decimal import Decimal
from random import Random

import msgspec
import pytest

from tests.fakes.live import MS, SECOND_NS, LiveWorld, world
from tests.unit.kernel.worlds import BTC, CAPITAL, ETH, contract, loose, orders, targets
from tidegate.domain.account import (
    AccountMode,
    AccountSnapshot,
    Balance,
    ContractSetting,
    FundingPaid,
    Income,
    OpenOrder,
    Position,
    Transfer,
)
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.market import Family, FeedState, InstrumentStatus, TradingStatus
from tidegate.domain.messages import (
    Adjustment,
    Halt,
    HaltCause,
    Operation,
    Severity,
    TakeSnapshot,
    VenueState,
    VenueStatus,
)
from tidegate.domain.orders import OrderAccepted, OrderFilled, OrderType, Side
from tidegate.domain.signals import Signal
from tidegate.execution.reconcile import ExpectedAccount
from tidegate.kernel.lifecycle import State

LONG, FLAT = Signal(1.0), Signal(0.0)
STOP_ID, ENTRY_ID = ClientOrderId("p1-ab-5-9-0"), ClientOrderId("p1-ab-5-a-0")


def held(*wishes: Signal | None) -> LiveWorld:
    """A world that is long and guarded."""
    it = world(LONG, *wishes).start()
    it.bar()
    it.run(2)
    assert it.qty == 1
    it.sound()
    return it


def resting(name: str, side: Side = Side.SELL, trigger: str | None = "90", qty: str = "1") -> OpenOrder:
    kind = OrderType.LIMIT if trigger is None else OrderType.STOP_MARKET
    limit = Decimal(50) if trigger is None else None
    at = None if trigger is None else Decimal(trigger)
    return OpenOrder(
        ClientOrderId(name), 77, BTC, side, Decimal(qty), Decimal(0), kind, limit, at, reduce_only=trigger is not None
    )


# ---- the start ------------------------------------------------------------------------------------------------------


def test_a_start_asks_for_the_venues_truth_and_trades_only_when_it_agrees() -> None:
    it = world(LONG, LONG)
    (asked, *_) = it.operate(Operation.START)
    assert isinstance(asked, TakeSnapshot)
    assert asked.name == "reconcile-1"
    assert [each.instrument for each in asked.since] == [BTC]
    assert it.kernel.state is State.RECONCILING
    it.run(1)
    assert it.kernel.state is State.READY
    assert it.kernel.ledger.wallet == CAPITAL
    assert it.kernel.last_reconciled_ns == it.now_ns - SECOND_NS + 20_000_000


def test_without_an_answer_nothing_is_traded_and_the_question_is_repeated() -> None:
    it = world(LONG, LONG, faults=lambda request: "lost" if isinstance(request, TakeSnapshot) else None)
    it.operate(Operation.START)
    it.bar()
    assert it.kernel.state is State.RECONCILING
    assert it.sent == []
    assert len(it.alerts("reconciling", Severity.CRITICAL)) == 1
    it.faults = lambda request: None
    it.run(60)
    assert it.kernel.state is State.READY


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    it = held()
    before = msgspec.msgpack.decode(it.kernel.snapshot().data)
    stray = AccountSnapshot(it.now_ns, it.now_ns, (Balance("USDT", Decimal(1)),), (), (), "reconcile-1")
    assert it.give(stray) == []
    assert it.qty == 1
    assert msgspec.msgpack.decode(it.kernel.snapshot().data)["positions"] == before["positions"]


def test_trades_from_before_us_are_not_booked() -> None:
    """A fresh state folder on an account with a past."""
    it = world(LONG)
    it.by_hand(Side.BUY, "3")
    it.by_hand(Side.SELL, "3")
    it.run(1)
    it.start()
    assert (it.qty, it.kernel.ledger.wallet) == (0, CAPITAL)
    it.bar()
    it.run(5)
    it.operate(Operation.PAUSE)
    it.operate(Operation.RESUME)
    it.run(5)
    it.sound()
    assert it.qty == 1


def test_positions_at_the_first_start_are_left_alone_and_block_their_contract() -> None:
    it = world(LONG, LONG)
    it.by_hand(Side.BUY, "2", tell=False)
    it.start()
    it.bar()
    it.run(120)
    assert it.sent == []
    assert it.kernel.state is State.READY
    assert [(each.instrument, each.qty) for each in it.kernel.foreign] == [(BTC, 2)]
    assert "foreign" in it.kernel.blocked[BTC]
    it.by_hand(Side.SELL, "2")
    it.run(61)
    assert it.kernel.foreign == ()
    assert it.kernel.blocked == {}


def test_a_position_is_adopted_by_policy_and_guarded() -> None:
    it = world(FLAT, adopt=(BTC,))
    it.by_hand(Side.BUY, "2", tell=False)
    it.start()
    (line,) = it.of(Adjustment)
    assert (line.instrument, line.qty, line.price, line.adopted) == (BTC, 2, Decimal("100.0"), True)
    it.sound()
    assert it.qty == 2


def test_a_position_is_adopted_by_word() -> None:
    it = world(FLAT)
    it.by_hand(Side.SELL, "2", tell=False)
    it.start()
    assert it.qty == 0
    it.operate(Operation.ADOPT, "BTCUSDT")
    it.run(1)
    assert (it.qty, it.kernel.blocked) == (-2, {})
    it.sound()
    assert it.alerts("operator") == []
    it.operate(Operation.ADOPT, "BTCUSDT")
    assert len(it.alerts("operator")) == 1


def test_a_policy_that_comes_later_takes_over_at_the_next_start() -> None:
    it = world(FLAT)
    it.by_hand(Side.SELL, "2", tell=False)
    it.start()
    assert (it.qty, len(it.kernel.foreign)) == (0, 1)
    it.settings = msgspec.structs.replace(it.settings, adopt=(InstrumentId("BTCUSDT"),))
    it.restart().run(1)
    assert (it.qty, it.kernel.foreign) == (-2, ())
    it.sound()


def test_what_is_foreign_elsewhere_counts_against_our_limits() -> None:
    it = world(LONG, limits=loose().limits)
    it.positions[InstrumentId("DOGEUSDT")] = Decimal(10_000)  # of 100 USDT each: all that ten times the equity allows
    it.start()
    assert [each.instrument for each in it.kernel.foreign] == ["DOGEUSDT"]
    it.bar()
    assert it.sent == []


def test_an_order_by_hand_blocks_new_risk_until_it_is_gone() -> None:
    it = world(LONG, LONG).start()
    foreign = resting("web_1", Side.BUY, trigger=None)
    it.listed = lambda: [foreign]  # type: ignore[method-assign]
    it.operate(Operation.PAUSE)
    it.operate(Operation.RESUME)
    it.run(1)
    assert it.kernel.blocked[BTC] == {"foreign order": "BTCUSDT has open orders that are not ours"}
    it.bar()
    assert it.sent == []
    assert not any(getattr(each, "id", "") == "web_1" for each in it.said)


# ---- a lost journal -------------------------------------------------------------------------------------------------


def test_orders_of_ours_that_we_forgot_are_recovered_stops_kept_and_entries_cancelled() -> None:
    it = world(FLAT, adopt=(BTC,))
    it.by_hand(Side.BUY, "1", tell=False)
    book = [resting(STOP_ID), resting(ENTRY_ID, Side.BUY, trigger=None)]
    it.listed = lambda: list(book)  # type: ignore[method-assign]
    it.operate(Operation.START)
    it.run(0.02)
    assert len(it.alerts("recovered")) == 2
    cancelled = {each.id for each in it.said if type(each).__name__ == "CancelOrder"}
    assert ENTRY_ID in cancelled
    assert STOP_ID not in cancelled
    assert it.kernel.protection_level(BTC) == 90.0
    assert orders(it.said) == []


def test_of_two_forgotten_stops_the_better_one_stays() -> None:
    it = world(FLAT, adopt=(BTC,))
    it.by_hand(Side.BUY, "1", tell=False)
    near, far, small = resting("p1-ab-5-1-0", trigger="92"), resting("p1-ab-5-2-0"), resting("p1-ab-5-3-0", qty="0.5")
    it.listed = lambda: [far, small, near]  # type: ignore[method-assign]
    it.operate(Operation.START)
    it.run(0.02)
    cancelled = {each.id for each in it.said if type(each).__name__ == "CancelOrder"}
    assert cancelled == {far.id, small.id}


@pytest.mark.parametrize("listed", [True, False])
def test_a_later_generation_is_a_second_daemon(listed: bool) -> None:
    it = held()
    other = "p1-ab-zzzz-1-0"
    if listed:
        mine = it.listed()
        it.listed = lambda: [*mine, resting(other)]  # type: ignore[method-assign]
        it.run(11)
    else:
        it.give(OrderAccepted(ClientOrderId(other), BTC, 5, it.now_ns, it.now_ns))
    (latch,) = it.of(Halt)
    assert latch.cause is HaltCause.INVARIANT
    assert "second daemon" in latch.reason
    assert it.kernel.state is State.HALTED
    assert len(it.stops()) >= 1  # the stops stay
    assert not any(getattr(each, "id", "") == other for each in orders(it.said))


def test_the_orders_of_another_account_label_are_foreign() -> None:
    it = world(LONG).start()
    it.listed = lambda: [resting("p1-zz-zzzz-1-0", Side.BUY, trigger=None)]  # type: ignore[method-assign]
    it.run(61)
    assert it.kernel.state is State.READY
    assert [each.order for each in it.kernel.foreign] == ["p1-zz-zzzz-1-0"]


# ---- lost events ----------------------------------------------------------------------------------------------------


def test_a_fill_whose_event_was_lost_is_booked_from_the_trade_list() -> None:
    it = world(LONG).start()
    it.events_lost = lambda event: isinstance(event, OrderFilled)
    it.bar()
    it.run(14)
    assert it.qty == 1
    it.sound()
    assert it.of(Adjustment) == []


def test_a_stop_that_fired_unheard_is_booked_and_its_wish_spent() -> None:
    it = held(None, LONG)
    it.events_lost = lambda event: type(event).__name__ in ("OrderFilled", "OrderTriggered")
    it.move(80.0)
    it.run(25)
    assert it.qty == 0
    it.events_lost = lambda event: False
    it.bar(80.0)
    it.run(2)
    assert len(targets(it.sent)) == 1
    it.sound()


def test_closed_by_hand_stays_closed_and_its_stop_goes() -> None:
    it = held(LONG, LONG)
    it.by_hand(Side.SELL, "1")
    it.run(5)
    assert it.qty == 0
    it.sound()
    it.bar()
    it.run(2)
    assert it.qty == 0


def test_opened_by_hand_is_guarded_and_else_left_alone() -> None:
    it = world(None, FLAT, FLAT).start()
    it.by_hand(Side.BUY, "1")
    it.run(5)
    it.sound()
    it.bar()
    it.bar()
    it.run(5)
    assert it.qty == 1
    assert targets(it.sent) == []
    it.operate(Operation.ADOPT, "BTCUSDT")
    it.bar()
    it.run(5)
    assert it.qty == 0


def test_a_liquidation_that_nobody_told_leaves_no_orphan() -> None:
    it = held()
    it.liquidate(tell=False)
    it.run(25)
    assert it.qty == 0
    it.sound()


def test_a_difference_that_nothing_explains_is_adjusted_once_and_takes_new_risk_away() -> None:
    it = held(None, LONG)
    it.positions[BTC] += Decimal("0.25")
    it.run(20)
    (line,) = it.of(Adjustment)
    assert (line.qty, line.adopted) == (Decimal("0.25"), False)
    assert len(it.alerts("adjusted", Severity.CRITICAL)) == 1
    assert "adjusted" in it.kernel.blocked[BTC]
    assert it.kernel.state is State.READY
    it.sound()
    it.restart().run(30)
    assert len(it.of(Adjustment)) == 1
    it.operate(Operation.RESUME)
    it.run(1)
    assert it.kernel.blocked == {}


def test_a_difference_that_is_only_late_is_not_adjusted() -> None:
    it = held()
    it.positions[BTC] += Decimal("0.25")
    asked = it.requests
    while it.requests == asked:
        it.run(0.05)
    it.positions[BTC] -= Decimal("0.25")
    it.run(20)
    assert it.of(Adjustment) == []
    assert it.kernel.blocked == {}


def test_a_reconciliation_that_never_agrees_asks_a_person_and_stops_repeating() -> None:
    it = held()
    dice = Random(3)
    honest = it.snapshot

    def shaky(request: TakeSnapshot) -> AccountSnapshot:
        qty = Decimal(dice.randint(1, 10**6)) / 1000
        return msgspec.structs.replace(honest(request), positions=(Position(BTC, qty, Decimal(100)),))

    it.snapshot = shaky  # type: ignore[method-assign]
    it.give(VenueStatus(VenueState.UP, "again", it.now_ns, it.now_ns))
    it.run(120)
    assert len(it.alerts("reconciling", Severity.CRITICAL)) == 1
    assert it.kernel.state is State.REDUCE_ONLY
    it.snapshot = honest  # type: ignore[method-assign]
    it.run(60)
    assert it.kernel.state is State.REDUCE_ONLY
    it.operate(Operation.RESUME)
    it.run(2)
    assert it.kernel.state is State.READY


# ---- the account's settings -----------------------------------------------------------------------------------------

EXPECTED = ExpectedAccount(contracts=(ContractSetting(BTC, 5, isolated=False),))


def test_a_wrong_setting_blocks_its_contract_and_is_never_changed() -> None:
    it = world(LONG, LONG, expected=EXPECTED, contract_settings=(ContractSetting(BTC, 20, isolated=False),)).start()
    assert "leverage 20" in it.kernel.blocked[BTC]["settings"]
    it.bar()
    assert it.sent == []
    it.contract_settings = EXPECTED.contracts
    it.run(61)
    assert it.kernel.blocked == {}


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        (AccountMode(hedge=True), "hedge"),
        (AccountMode(multi_assets=True), "multi-assets"),
        (AccountMode(portfolio_margin=True), "portfolio margin"),
    ],
)
def test_a_mode_that_is_not_as_configured_halts_by_name(mode: AccountMode, name: str) -> None:
    it = world(LONG, mode=mode).start()
    (latch,) = it.of(Halt)
    assert name in latch.reason
    assert latch.cause is HaltCause.INVARIANT
    it.bar()
    assert it.sent == []


# ---- while it runs --------------------------------------------------------------------------------------------------


def test_down_takes_new_risk_away_and_up_reads_what_happened() -> None:
    it = held(None, FLAT)
    it.give(VenueStatus(VenueState.DOWN, "maintenance", it.now_ns, it.now_ns))
    assert it.kernel.state is State.REDUCE_ONLY
    it.events_lost = lambda event: True
    it.move(80.0)
    it.run(1)
    it.events_lost = lambda event: False
    it.give(VenueStatus(VenueState.UP, "", it.now_ns, it.now_ns))
    assert it.kernel.state is State.REDUCE_ONLY
    it.run(2)
    assert it.kernel.state is State.READY
    assert it.qty == 0
    it.sound()


def test_a_venue_that_answers_need_not_say_that_it_is_up() -> None:
    it = held()
    it.give(VenueStatus(VenueState.DOWN, "one request", it.now_ns, it.now_ns))
    it.run(30)
    assert it.kernel.state is State.REDUCE_ONLY
    it.run(60)
    assert it.kernel.state is State.READY


def test_refused_is_a_latch() -> None:
    it = held(None, LONG)
    it.give(VenueStatus(VenueState.REFUSED, "-2015", it.now_ns, it.now_ns))
    assert it.kernel.latch is not None
    assert it.kernel.latch.cause is HaltCause.AUTH
    assert len(it.stops()) == 1


def test_stale_data_closes_entries_and_lets_exits_through() -> None:
    it = world(LONG, FLAT, LONG, LONG).start()
    it.bar()
    it.run(2)
    stale = FeedState(BTC, Family.MARKS, False, it.now_ns, it.now_ns)
    assert len(it.give(stale)) == 1
    assert it.give(stale) == []
    it.bar()
    it.run(2)
    assert it.qty == 0
    it.bar()
    it.run(2)
    assert it.qty == 0
    it.give(FeedState(None, Family.MARKS, True, it.now_ns, it.now_ns))
    it.bar()
    it.run(2)
    assert it.qty == 1


def test_a_halted_contract_lets_only_exits_through() -> None:
    it = world(LONG, LONG).start()
    it.give(InstrumentStatus(BTC, it.now_ns, it.now_ns, TradingStatus.HALTED))
    it.bar()
    assert it.sent == []
    it.give(InstrumentStatus(BTC, it.now_ns, it.now_ns, TradingStatus.TRADING))
    it.bar()
    assert len(it.sent) == 1


def test_income_is_booked_once_whatever_tells_of_it() -> None:
    it = held()
    funding = FundingPaid(BTC, Decimal("-0.5"), 0.0001, 100.0, it.now_ns, it.now_ns, line="FUNDING_FEE:1:")
    deposit = Transfer("USDT", Decimal(1000), it.now_ns, it.now_ns, line="TRANSFER:2:")
    other = Income("INSURANCE_CLEAR", "USDT", Decimal("-2"), BTC, "INSURANCE_CLEAR:3:", it.now_ns, it.now_ns)
    it.income = [funding, deposit, other]
    before = it.kernel.unit_value
    it.give(funding)
    it.run(3700)
    assert it.kernel.ledger.wallet == CAPITAL + Decimal("997.5")
    assert it.kernel.unit_value == pytest.approx(before * (1 - 2.5 / float(CAPITAL)))
    it.wallet = it.kernel.ledger.wallet
    it.run(3700)
    assert [each.severity for each in it.alerts("wallet")] == [Severity.WARNING, Severity.INFO]


@pytest.mark.parametrize("after_ms", [-1, 0, 1, 80])
def test_money_that_came_around_the_first_look_is_counted_once(after_ms: int) -> None:
    it = world(LONG)
    read_ns = it.now_ns + 80 * MS  # the wallets are read after the orders, by which the look is dated
    came_ns = it.now_ns + after_ms * MS
    it.wallet, it.wallet_updated_ns = CAPITAL + 1000, came_ns
    it.income = [
        Transfer("USDT", Decimal(1000), came_ns, came_ns, line="TRANSFER:1:"),
        Transfer("USDT", Decimal(5), read_ns + 1, read_ns + 1, line="TRANSFER:2:"),
    ]
    it.start()
    it.wallet += 5
    it.run(3700)
    assert it.kernel.ledger.wallet == it.wallet
    assert it.alerts("wallet") == []


def test_audits_are_frequent_while_something_is_at_stake() -> None:
    it = world(LONG).start()
    asked = it.requests
    it.run(600)
    idle = it.requests - asked
    it.bar()
    it.run(2)
    asked = it.requests
    it.run(600)
    assert 9 <= idle <= 11
    assert 58 <= it.requests - asked <= 62


def test_two_contracts_do_not_disturb_each_other() -> None:
    it = world(LONG, instruments=(contract(), contract(ETH)))
    it.by_hand(Side.BUY, "2", ETH, tell=False)
    it.start()
    assert set(it.kernel.blocked) == {ETH}
    it.bar()
    it.run(2)
    assert it.qty == 1
