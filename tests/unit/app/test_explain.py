"""Why an order was sent: what the journal says of it, and nothing else."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.fakes.command_line import Outcome, assert_refused, tidegate
from tests.fakes.small_demo import CutMarket, file_journal, rig
from tidegate.adapters.files.journal_reader import read_journal
from tidegate.app.demo import run_demo
from tidegate.app.explain import Explanation, UnknownOrder, explain
from tidegate.app.explain_text import sentences
from tidegate.domain.ids import ClientOrderId, InstrumentId, ParentId, StrategyId
from tidegate.domain.market import HOUR_NS, Bar
from tidegate.domain.messages import (
    Alert,
    Command,
    Event,
    Halt,
    HaltCause,
    NotPlaced,
    Operation,
    OperatorCommand,
    Record,
    Severity,
    TimerFired,
)
from tidegate.domain.orders import (
    ApprovedOrder,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderType,
    PositionSide,
    Purpose,
    RejectCause,
    Side,
    TimeInForce,
)
from tidegate.domain.signals import Decision, Reason, Refusal, RegimeChanged, Scenario, Signal

# ---- the journal of a demo -------------------------------------------------------------------------------------------


@pytest.fixture
async def journal(tmp_path: Path) -> Path:
    """A demo of a market of 512 bars."""
    folder = tmp_path / "journal"
    demo = rig(lambda kernel: file_journal(folder, kernel, 500), source=CutMarket())
    await run_demo(demo.parts)
    return folder


async def test_every_order_of_a_demo_is_explained_as_its_records_say(journal: Path) -> None:
    records = list(read_journal(journal).records())
    sent = [(each, c) for each in records for c in each.commands if isinstance(c, ApprovedOrder)]
    fills = [each.event for each in records if isinstance(each.event, OrderFilled)]
    assert len(sent) > 50
    for record, order in sent[::5]:
        found = explain(lambda: records, order.id)
        own = [fill for fill in fills if fill.id == order.id]
        assert (found.order.id, found.order.record, found.instrument) == (order.id, record.seq, order.instrument)
        assert [fill.price for fill in found.order.fills] == [fill.price for fill in own]
        assert found.order.filled == sum((fill.qty for fill in own), Decimal(0))
        before = [r.event for r in records[: record.seq] if isinstance(r.event, OrderFilled)]
        held = sum((fill.side.sign * fill.qty for fill in before if fill.instrument == order.instrument), Decimal(0))
        assert found.held == held
        (wish,) = found.wishes
        said = [
            c
            for each in records[: record.seq]
            for c in each.commands
            if isinstance(c, Decision) and c.strategy and c.instrument == order.instrument
        ]
        assert (wish.strength, wish.since_ns) == (said[-1].signal.strength, said[-1].ts_ns)  # type: ignore[union-attr]
        assert found.target is not None


async def test_a_position_that_was_opened_has_the_stop_that_followed(journal: Path) -> None:
    records = list(read_journal(journal).records())
    orders = [c for each in records for c in each.commands if isinstance(c, ApprovedOrder)]
    opening = next(each for each in orders if each.purpose is Purpose.TARGET)
    stop = next(each for each in orders if each.purpose is Purpose.PROTECTION and each.instrument == opening.instrument)
    found = explain(lambda: records, opening.id)
    assert found.stop is not None
    assert (found.stop.id, found.stop.trigger) == (stop.id, stop.trigger)
    text = "\n".join(sentences(found))
    for part in (opening.id, "TrendFollowing wished", "Target ", "filled ", "bps against", stop.id, str(stop.trigger)):
        assert part in text


async def test_the_command_explains_an_order_and_the_last_of_a_contract(journal: Path) -> None:
    orders = [c for r in read_journal(journal).records() for c in r.commands if isinstance(c, ApprovedOrder)]
    last = [each for each in orders if each.instrument == "ETHUSDT"][-1]
    shown = said("explain", "ethusdt", "--journal", journal)
    assert shown.out.startswith(f"Order {last.id}: ")
    assert said("explain", last.id, "--journal", journal / "ledger-000001.log").out == shown.out
    data = json.loads(said("explain", last.id, "--journal", journal, "--json").out)
    assert (data["order"]["id"], data["instrument"], data["journal"]) == (last.id, "ETHUSDT", str(journal))
    assert Decimal(data["order"]["qty"]) == last.qty


async def test_the_newest_journal_is_taken_when_none_is_named(journal: Path, tmp_path: Path) -> None:
    file = configured(tmp_path / "own.yaml", tmp_path)
    shown = said("explain", "BTCUSDT", "--config", file)
    assert shown.err == f"journal: {journal}\n"
    assert shown.out == said("explain", "BTCUSDT", "--journal", journal).out
    elsewhere = configured(tmp_path / "none.yaml", tmp_path / "nothing")
    assert_refused(tidegate("explain", "BTCUSDT", "--config", elsewhere), "no journal was found; name one")


def configured(file: Path, root: Path) -> Path:
    """A configuration that says no more than where journals lie."""
    file.write_text(json.dumps({"journal": {"dir": str(root)}, "state": {"dir": str(root / "state")}}))
    return file


async def test_an_unknown_order_is_refused_with_the_nearest(journal: Path) -> None:
    assert_refused(tidegate("explain", "p1-de-0-4-1", "--journal", journal), "'p1-de-0-4-1'", "p1-de-0-4-0", code=3)
    assert_refused(tidegate("explain", "BTCUSD", "--journal", journal), "BTCUSDT", code=3)
    assert_refused(tidegate("explain", "BTCUSDT", "--journal", journal / "nowhere"), "no such file or folder")


def said(*arguments: object) -> Outcome:
    done = tidegate(*arguments)
    assert done.code == 0, done
    return done


# ---- a journal by hand -----------------------------------------------------------------------------------------------

BTC, ETH = InstrumentId("BTCUSDT"), InstrumentId("ETHUSDT")
START_NS = 1_700_000_000_000_000_000


class Hand:
    """Records one after the other, an hour apart."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    @property
    def now_ns(self) -> int:
        return START_NS + len(self.records) * HOUR_NS

    def add(self, event: Event | None = None, *commands: Command) -> None:
        if event is None:
            event = Bar(BTC, HOUR_NS, self.now_ns, self.now_ns, 100.0, 100.0, 100.0, 100.0, 1.0)
        self.records.append(Record(len(self.records) + 1, event, commands))

    def explain(self, wanted: str) -> tuple[Explanation, str]:
        found = explain(lambda: self.records, wanted)
        assert json.loads(json.dumps(found.as_dict()))["order"]["id"] == found.order.id
        return found, "\n".join(sentences(found))


def order(
    name: str, qty: int = 2, purpose: Purpose = Purpose.TARGET, parent: str | None = "t1", side: Side = Side.BUY
) -> ApprovedOrder:
    stop = purpose is Purpose.PROTECTION
    return ApprovedOrder(
        ClientOrderId(name),
        BTC,
        side,
        Decimal(qty),
        OrderType.STOP_MARKET if stop else OrderType.MARKET,
        None,
        Decimal(90) if stop else None,
        TimeInForce.GTC,
        stop,
        PositionSide.BOTH,
        purpose,
        None if parent is None else ParentId(parent),
        None,
        0,
        0,
    )


def filled(hand: Hand, name: str, qty: int, price: str, reference: str | None = "100", trade: int = 1) -> OrderFilled:
    return OrderFilled(
        ClientOrderId(name),
        BTC,
        Side.BUY,
        Decimal(qty),
        Decimal(price),
        Decimal("0.1"),
        "USDT",
        trade,
        False,
        hand.now_ns,
        hand.now_ns,
        reference=None if reference is None else Decimal(reference),
    )


def wish(name: str, strength: float, instrument: InstrumentId = BTC) -> Decision:
    return Decision(StrategyId(name), instrument, START_NS, Signal(strength, 90.0))


def test_the_whole_chain_of_an_order_in_two_children() -> None:
    hand = Hand()
    weights = ((StrategyId("trend"), 0.6), (StrategyId("range"), 0.05))
    hand.add(None, RegimeChanged(Scenario.BULL_LOW, (), weights, "the blend moved", START_NS))
    hand.add(None, wish("trend", 0.8), wish("range", -0.25), wish("trend", 1.0, ETH))
    refusal = Refusal(BTC, "leverage", Reason.LEVERAGE, "cut from 5 to 4")
    target = Decision(None, BTC, START_NS, None, Decimal(4), "stop_risk", refusal)
    hand.add(None, target, order("a"), order("b"), Alert(Severity.WARNING, "risk", "thin", START_NS))
    hand.add(OrderAccepted(ClientOrderId("a"), BTC, 77, hand.now_ns, hand.now_ns))
    hand.add(filled(hand, "a", 1, "100.5"))
    hand.add(filled(hand, "a", 1, "101", trade=2))
    hand.add(filled(hand, "a", 1, "101", trade=2))  # told twice
    hand.add(OrderRejected(ClientOrderId("b"), BTC, "-2019", "no margin", START_NS, START_NS, RejectCause.MARGIN))
    hand.add(None, order("s", 2, Purpose.PROTECTION, None, Side.SELL))
    hand.add(None, order("trailed", 2, Purpose.PROTECTION, None, Side.SELL))
    hand.add(None, wish("trend", 0.1), order("c", parent="t2"))
    hand.add(None, order("s2", 2, Purpose.PROTECTION, None, Side.SELL))
    found, text = hand.explain("a")
    assert {each.strategy: each.strength for each in found.wishes} == {"trend": 0.8, "range": -0.25}
    assert found.regime is not None
    assert (found.regime.scenario, found.regime.weights) == ("BULL_LOW", {"trend": 0.6, "range": 0.05})
    assert found.target is not None
    assert (found.target.qty, found.target.binding_limit, found.target.refusal) == (4, "stop_risk", "LEVERAGE")
    assert (found.order.state, found.order.filled, found.order.average_price) == ("FILLED", 2, Decimal("100.75"))
    assert [fill.slippage_usdt for fill in found.order.fills] == [Decimal("0.5"), Decimal(1)]
    assert [(each.id, each.state) for each in found.siblings] == [("b", "REJECTED")]
    assert found.stop is not None
    assert (found.stop.id, found.stop.trigger) == ("s", 90)
    assert found.alerts == ["risk: thin"]
    for part in (
        "Order a: BUY 2 MARKET on BTCUSDT, to reach a target.",
        "BTCUSDT had closed at 100.",
        "trend wished +0.8 of its budget",
        "range wished -0.25",
        "Regime BULL_LOW",
        "trend 60.0%, range 5.0%",
        "what bound it: limit stop_risk",
        "The rule leverage objected (LEVERAGE): cut from 5 to 4.",
        "intention t1: 1 more",
        "b: BUY 2, REJECTED, reason: -2019 no margin.",
        "accepted, venue id 77",
        "filled 1 at 100.5, fee 0.1 USDT, slippage 0.5000 USDT (50.00 bps against 100)",
        "It is FILLED, 2 of 2 filled at 100.75 on average.",
        "The protective stop that followed: s, SELL 2 at 90, IN_FLIGHT.",
    ):
        assert part in text, part
    refused, refused_text = hand.explain("b")
    assert (refused.order.state, refused.order.reason) == ("REJECTED", "-2019 no margin")
    assert "rejected, MARGIN: -2019 no margin" in refused_text
    assert [each.id for each in refused.siblings] == ["a"]


def test_the_position_and_the_wishes_are_those_of_then_not_of_now() -> None:
    hand = Hand()
    hand.add(None, wish("trend", 0.5), order("a"))
    hand.add(filled(hand, "a", 2, "100"))
    hand.add(None, wish("trend", 1.0), order("b", parent="t2"))
    hand.add(filled(hand, "b", 2, "100", None, trade=2))
    assert [hand.explain(name)[0].held for name in "ab"] == [0, 2]
    assert [hand.explain(name)[0].wishes[0].strength for name in "ab"] == [0.5, 1.0]
    assert hand.explain("b")[0].order.fills[0].slippage_usdt is None
    assert hand.explain("btcusdt")[0].order.id == "b"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (OperatorCommand(Operation.FLATTEN, START_NS, START_NS, "by hand"), "on the operator's FLATTEN (by hand)"),
        (TimerFired("guard:BTCUSDT", START_NS, START_NS), "on the timer guard:BTCUSDT"),
        (filled(Hand(), "z", 1, "99"), "on an execution of z: BUY 1 at 99"),
        (OrderCanceled(ClientOrderId("z"), BTC, START_NS, START_NS), "on an event OrderCanceled"),
    ],
    ids=["operator", "timer", "fill", "cancel"],
)
def test_what_else_an_order_is_sent_for(event: Event, text: str) -> None:
    hand = Hand()
    halt = Halt("drawdown", START_NS, HaltCause.DRAWDOWN)
    hand.add(event, halt, order("f", purpose=Purpose.FLATTEN, parent=None))
    hand.add(None, NotPlaced(ClientOrderId("f"), BTC, START_NS))
    found, said_of_it = hand.explain("f")
    assert text in said_of_it
    assert "to leave the position" in said_of_it
    assert "Said at the same time: halt: drawdown." in said_of_it
    assert "No strategy had stated a wish in this journal." in said_of_it
    assert found.order.state == "NOT_PLACED"
    assert "it never reached the market" in said_of_it


def test_an_empty_journal_says_so() -> None:
    with pytest.raises(UnknownOrder, match="holds no order at all"):
        Hand().explain("a")
