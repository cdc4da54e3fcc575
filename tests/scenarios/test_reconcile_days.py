"""Days on which our books and the venue's have to be made equal again."""

from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest

from tests.fakes.live import MS, SECOND_NS, LiveWorld, Resting, world
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
    LeaveAccount,
    Operation,
    Severity,
    TakeSnapshot,
    VenueState,
    VenueStatus,
)
from tidegate.domain.orders import (
    ApprovedOrder,
    CancelOrder,
    OrderAccepted,
    OrderFilled,
    OrderType,
    PositionSide,
    Purpose,
    Side,
    TimeInForce,
)
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


def lost(qty: str, *stops: OpenOrder, **changes: Any) -> LiveWorld:
    """A start without a journal, on an account that holds ``qty`` and these stops."""
    it = world(FLAT, **changes)
    side = Side.BUY if Decimal(qty) > 0 else Side.SELL
    it.by_hand(side, qty.lstrip("-"), tell=False)
    for each in stops:
        stop = ApprovedOrder(
            each.id, BTC, each.side, each.qty, OrderType.STOP_MARKET, None, each.trigger, TimeInForce.GTC, True,
            PositionSide.BOTH, Purpose.PROTECTION, None, None, 0, it.now_ns,
        )  # fmt: skip
        it.orders[each.id] = Resting(stop, len(it.orders) + 1)
    return it.start()


@pytest.mark.parametrize("name", ["p1-ab-5-1-0", "p1-zz-5-1-0"], ids=["our label", "another label"])
@pytest.mark.parametrize(("qty", "side", "trigger"), [("1", Side.SELL, "90"), ("-1", Side.BUY, "110")])
def test_a_position_under_a_stop_of_ours_is_ours_though_no_journal_knows_it(
    qty: str, side: Side, trigger: str, name: str
) -> None:
    it = lost(qty, resting(name, side, trigger=trigger)).run(90)
    assert it.qty == Decimal(qty)
    assert (it.kernel.foreign, it.kernel.blocked, it.kernel.state) == ((), {}, State.READY)
    assert [each.id for each in it.stops()] == [name]
    assert it.of(CancelOrder) == []
    assert len(it.alerts("recovered", Severity.CRITICAL)) == 1
    it.sound()
    it.operate(Operation.FLATTEN)
    it.run(20)
    assert (it.positions[BTC], it.stops()) == (0, [])


def test_a_stop_of_ours_that_is_too_small_is_replaced_before_it_goes() -> None:
    it = lost("2", resting("p1-ab-5-1-0", qty="0.5")).run(5)
    placed = next(n for n, each in enumerate(it.said) if isinstance(each, ApprovedOrder))
    cancelled = next(n for n, each in enumerate(it.said) if isinstance(each, CancelOrder))
    assert placed < cancelled
    assert [each.qty for each in it.stops()] == [2]
    it.sound()


def test_a_position_that_our_stop_does_not_protect_is_not_ours() -> None:
    it = lost("-1", resting("p1-ab-5-1-0", Side.SELL)).run(30)
    assert (it.qty, [each.qty for each in it.kernel.foreign if not each.order]) == (0, [-1])
    assert it.stops() == []  # it would only have added to what is not ours
    assert it.positions[BTC] == -1


def test_of_two_contracts_only_the_one_under_our_stop_is_ours() -> None:
    it = world(FLAT, instruments=(contract(), contract(ETH)))
    it.by_hand(Side.BUY, "1", tell=False)
    it.by_hand(Side.BUY, "3", ETH, tell=False)
    mine = resting("p1-ab-5-1-0")
    it.listed = lambda: [mine]  # type: ignore[method-assign]
    it.start()
    assert (it.qty, it.kernel.ledger.position(ETH).qty) == (1, 0)
    assert [each.instrument for each in it.kernel.foreign] == [ETH]


def test_of_two_forgotten_stops_the_better_one_stays() -> None:
    it = world(FLAT, adopt=(BTC,))
    it.by_hand(Side.BUY, "1", tell=False)
    near, far, small = resting("p1-ab-5-1-0", trigger="92"), resting("p1-ab-5-2-0"), resting("p1-ab-5-3-0", qty="0.5")
    it.listed = lambda: [far, small, near]  # type: ignore[method-assign]
    it.operate(Operation.START)
    it.run(0.02)
    cancelled = {each.id for each in it.said if type(each).__name__ == "CancelOrder"}
    assert cancelled == {far.id, small.id}


# ---- a second daemon ------------------------------------------------------------------------------------------------

YOUNGER, OLDER, TWIN = "p1-ab-zzzz-1-0", "p1-ab-9-1-0", "p1-ab-2s-zz-0"  # ours is the session 100, 2s in base 36


def accepted(it: LiveWorld, name: str) -> OrderAccepted:
    return OrderAccepted(ClientOrderId(name), BTC, 5, it.now_ns, it.now_ns)


def filled(it: LiveWorld, name: str) -> OrderFilled:
    return OrderFilled(
        ClientOrderId(name),
        BTC,
        Side.BUY,
        Decimal(1),
        Decimal(100),
        Decimal(0),
        "USDT",
        999,
        False,
        it.now_ns,
        it.now_ns,
    )


def listing(it: LiveWorld, *names: str) -> None:
    """From now on the venue lists stops under these ids too."""
    listed = it.listed
    it.listed = lambda: [*listed(), *map(resting, names)]  # type: ignore[method-assign]


@pytest.mark.parametrize("label", ["ab", "zz"])
@pytest.mark.parametrize("told", ["accepted", "filled", "listed"])
def test_the_older_daemon_takes_no_new_risk_while_a_younger_one_is_there(told: str, label: str) -> None:
    it = held(LONG, Signal(0.0), LONG, LONG)
    name = YOUNGER.replace("-ab-", f"-{label}-")
    mine = it.listed
    if told == "listed":
        listing(it, name)
        it.run(11)
    else:
        it.give(accepted(it, name) if told == "accepted" else filled(it, name))
    assert it.kernel.state is State.REDUCE_ONLY
    (alert,) = it.alerts("second daemon")
    assert alert.severity is Severity.CRITICAL
    assert it.of(LeaveAccount) == []
    assert len(it.stops()) >= 1
    sent = len([each for each in it.sent if not each.reduce_only])
    it.bar()
    assert len([each for each in it.sent if not each.reduce_only]) == sent
    it.listed = mine  # type: ignore[method-assign]
    it.run(25)
    assert it.kernel.state is State.READY
    assert not any(getattr(each, "id", "") == name for each in it.of(CancelOrder))


def test_a_person_says_that_the_younger_daemon_has_ended_and_what_it_leaves_is_ours() -> None:
    it = held()
    listing(it, YOUNGER)
    it.run(60)
    assert it.kernel.state is State.REDUCE_ONLY
    it.operate(Operation.RESUME)
    it.run(15)
    assert it.kernel.state is State.READY
    assert YOUNGER in {each.id for each in it.of(CancelOrder)}  # a second stop on one position
    assert len(it.alerts("second daemon")) == 1


@pytest.mark.parametrize("label", ["ab", "zz"])
@pytest.mark.parametrize("name", [OLDER, TWIN])
@pytest.mark.parametrize("told", ["accepted", "filled", "listed"])
def test_the_younger_daemon_leaves_the_account_to_the_older_one(told: str, name: str, label: str) -> None:
    it = held()
    it.run(30)
    name = name.replace("-ab-", f"-{label}-")
    if told == "listed":
        listing(it, name)
        it.run(11)
    else:
        it.give(accepted(it, name) if told == "accepted" else filled(it, name))
    (leave,) = it.of(LeaveAccount)
    assert name in leave.reason
    assert it.kernel.state is State.REDUCE_ONLY
    assert len(it.stops()) >= 1
    assert not any(each.id == name for each in it.of(CancelOrder))
    it.run(60)
    assert len(it.of(LeaveAccount)) == 1


def test_what_was_there_before_our_start_is_a_lost_journal() -> None:
    it = lost("1", resting(OLDER)).run(30)
    it.give(filled(it, OLDER))
    assert (it.kernel.state, it.of(LeaveAccount), it.alerts("second daemon")) == (State.READY, [], [])


def test_what_a_dead_process_had_under_way_is_no_second_daemon() -> None:
    it = world(LONG).start()
    it.run(5)
    it.give(accepted(it, OLDER))
    it.give(filled(it, OLDER))
    it.run(60)
    assert (it.of(LeaveAccount), it.alerts("second daemon")) == ([], [])


def test_our_own_earlier_stop_that_triggers_is_no_second_daemon() -> None:
    it = held()
    it.restart().run(30)
    it.move(80)
    it.run(5)
    assert (it.qty, it.of(LeaveAccount), it.alerts("second daemon")) == (0, [], [])


def test_the_order_of_another_label_that_is_older_and_no_stop_is_not_ours() -> None:
    it = world(LONG)
    it.listed = lambda: [resting("p1-zz-9-1-0", Side.BUY, trigger=None)]  # type: ignore[method-assign]
    it.start().run(61)
    assert it.kernel.state is State.READY
    assert [each.order for each in it.kernel.foreign] == ["p1-zz-9-1-0"]
    assert it.of(CancelOrder) == []


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
