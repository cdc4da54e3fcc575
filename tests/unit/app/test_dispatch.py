"""The one door out: requests in order, failures back as events, alerts and the latch."""

import asyncio
from decimal import Decimal

import msgspec
import pytest

from tests.fakes.orders import MARKET_BUY
from tests.fakes.venue import FakeClock, FakeTimers, FakeVenue
from tidegate.app.dispatch import Dispatcher
from tidegate.domain.account import AccountSnapshot
from tidegate.domain.errors import (
    NotAuthorised,
    OrderNotSent,
    OrderOutcomeUnknown,
    OrderRefused,
    VenueUnavailable,
)
from tidegate.domain.ids import InstrumentId, ModelId
from tidegate.domain.messages import (
    Adjustment,
    Alert,
    Event,
    FitModel,
    Halt,
    NotPlaced,
    SetTimer,
    Severity,
    TakeSnapshot,
    VenueState,
    VenueStatus,
)
from tidegate.domain.orders import (
    AmendOrder,
    ApprovedOrder,
    CancelOrder,
    OrderRejected,
    OrderUncertain,
    QueryOrder,
    RejectCause,
)
from tidegate.domain.signals import Decision

BTC = InstrumentId("BTCUSDT")
ID = MARKET_BUY.id
AMEND, CANCEL, QUERY = AmendOrder(ID, BTC, Decimal(2), None, None), CancelOrder(ID, BTC), QueryOrder(ID, BTC)

LOOK = TakeSnapshot("audit-3", (), 0, "audit")


class Bench:
    """A dispatcher between fakes; ``posted`` is what came back, ``alerts`` what people heard. It is seven o'clock."""

    def __init__(self) -> None:
        self.venue, self.timers = FakeVenue((), AccountSnapshot(0, 0, (), (), ())), FakeTimers()
        self.posted: list[Event] = []
        self.alerts: list[Alert] = []
        self.dispatcher = Dispatcher(self.venue, self.timers, FakeClock(7), self.posted.append, self.alerts.append)


async def test_requests_go_to_the_venue_in_order_each_in_a_task_of_its_own() -> None:
    bench = Bench()
    bench.venue.gate.clear()  # the first one hangs; the others go out all the same
    bench.dispatcher.dispatch([MARKET_BUY, AMEND, QUERY, CANCEL])
    await asyncio.sleep(0)
    assert bench.venue.requests == [MARKET_BUY, AMEND, QUERY, CANCEL]
    waiting = asyncio.ensure_future(bench.dispatcher.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    bench.venue.gate.set()
    await waiting
    assert bench.posted == bench.alerts == []


async def test_timers_are_set_and_decisions_are_nobodys_errand() -> None:
    bench = Bench()
    bench.dispatcher.dispatch([SetTimer("grace", 99), Decision(None, BTC, 1)])
    await bench.dispatcher.drained()
    assert bench.timers.due == {"grace": 99}
    assert bench.venue.requests == []


@pytest.mark.parametrize("request_", [MARKET_BUY, AMEND, CANCEL])
async def test_nobody_knows_what_became_of_it(request_: ApprovedOrder | AmendOrder | CancelOrder) -> None:
    bench = Bench()
    bench.venue.failures = [OrderOutcomeUnknown(ID)]
    bench.dispatcher.dispatch([request_])
    await bench.dispatcher.drained()
    (event,) = bench.posted
    assert isinstance(event, OrderUncertain)
    assert (event.id, event.instrument, event.ts_ns, event.recv_ns) == (ID, BTC, 7, 7)


async def test_an_order_that_the_venue_refused_is_rejected() -> None:
    bench = Bench()
    bench.venue.failures = [OrderRefused("-2019", "margin is insufficient")]
    bench.dispatcher.dispatch([MARKET_BUY])
    await bench.dispatcher.drained()
    assert bench.posted == [OrderRejected(ID, BTC, "-2019", "margin is insufficient", 7, 7, RejectCause.RULES)]


@pytest.mark.parametrize("cause", RejectCause)
async def test_a_refusal_keeps_its_cause(cause: RejectCause) -> None:
    bench = Bench()
    bench.venue.failures = [OrderRefused("-1", "no", cause.name)]
    bench.dispatcher.dispatch([MARKET_BUY])
    await bench.dispatcher.drained()
    assert bench.posted == [OrderRejected(ID, BTC, "-1", "no", 7, 7, cause)]


async def test_an_order_that_stayed_here_is_rejected_and_the_venue_is_well() -> None:
    bench = Bench()
    bench.venue.failures = [OrderNotSent("expired before it was signed")]
    bench.dispatcher.dispatch([MARKET_BUY])
    await bench.dispatcher.drained()
    text = "expired before it was signed"
    assert bench.posted == [OrderRejected(ID, BTC, "NOT_SENT", text, 7, 7, RejectCause.NOT_SENT)]


async def test_the_fence_of_an_unknown_outcome_comes_back_with_it() -> None:
    bench = Bench()
    bench.venue.failures = [OrderOutcomeUnknown(ID, "no answer", 2_000)]
    bench.dispatcher.dispatch([MARKET_BUY])
    await bench.dispatcher.drained()
    (event,) = bench.posted
    assert isinstance(event, OrderUncertain)
    assert event.fence_ns == 2_000
    assert "no answer" in event.detail


async def test_a_snapshot_that_was_asked_for_comes_back_under_its_name() -> None:
    bench = Bench()
    bench.dispatcher.dispatch([LOOK])
    await bench.dispatcher.drained()
    assert bench.venue.snapshots == [LOOK]
    assert bench.posted == [AccountSnapshot(0, 0, (), (), (), "audit-3")]


async def test_a_snapshot_that_failed_is_told_and_changes_nothing() -> None:
    """The kernel asks again by its own timer."""
    bench = Bench()
    bench.venue.unreadable = VenueUnavailable("no route")
    bench.dispatcher.dispatch([LOOK])
    await bench.dispatcher.drained()
    assert bench.posted == []
    assert "audit-3: no route" in bench.alerts[0].text


async def test_an_order_that_was_not_sent_is_rejected_and_no_more_is_said_of_the_venue() -> None:
    bench = Bench()
    bench.venue.failures = [VenueUnavailable("no route")]
    bench.dispatcher.dispatch([MARKET_BUY])
    await bench.dispatcher.drained()
    (rejected,) = bench.posted
    assert rejected == OrderRejected(ID, BTC, "NOT_SENT", "no route", 7, 7, RejectCause.NOT_SENT)


@pytest.mark.parametrize("request_", [AMEND, CANCEL])
async def test_a_refused_change_makes_the_kernel_ask(request_: AmendOrder | CancelOrder) -> None:
    bench = Bench()
    bench.venue.failures = [OrderRefused("-2011", "unknown order")]
    bench.dispatcher.dispatch([request_])
    await bench.dispatcher.drained()
    assert isinstance(bench.posted[0], OrderUncertain)


async def test_a_question_without_an_answer_is_not_asked_for_ever() -> None:
    bench = Bench()
    bench.venue.failures = [OrderRefused("-2013", "no such order")]
    bench.dispatcher.dispatch([QUERY])
    await bench.dispatcher.drained()
    assert bench.posted == []
    assert "no such order" in bench.alerts[0].text


@pytest.mark.parametrize("request_", [MARKET_BUY, AMEND, CANCEL, QUERY])
async def test_a_refused_key_is_told_to_the_kernel_before_what_became_of_the_request(
    request_: ApprovedOrder | AmendOrder | CancelOrder | QueryOrder,
) -> None:
    bench = Bench()
    bench.venue.failures = [NotAuthorised("the key was withdrawn")]
    watching = asyncio.ensure_future(bench.dispatcher.watch())
    bench.dispatcher.dispatch([request_])
    await bench.dispatcher.drained()
    status, *rest = bench.posted
    assert status == VenueStatus(VenueState.REFUSED, "the key was withdrawn", 7, 7)
    kinds = {
        ApprovedOrder: [OrderRejected],
        AmendOrder: [OrderUncertain],
        CancelOrder: [OrderUncertain],
        QueryOrder: [],
    }
    assert [type(each) for each in rest] == kinds[type(request_)]
    assert not watching.done(), "the process stays up: it halts"
    watching.cancel()


async def test_what_is_not_an_errand_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.dispatcher.dispatch([NotPlaced(ID, BTC, 7), Adjustment("a1", BTC, Decimal(1), Decimal(2), "found", 7)])
    await bench.dispatcher.drained()
    assert bench.posted == bench.alerts == bench.venue.requests == []


async def test_a_bug_in_an_adapter_does_not_vanish_with_its_task() -> None:
    bench = Bench()
    bench.venue.failures = [KeyError("typo")]
    bench.dispatcher.dispatch([MARKET_BUY])
    with pytest.raises(KeyError, match="typo"):
        await bench.dispatcher.drained()


async def test_the_first_halt_latches_and_is_told() -> None:
    bench = Bench()
    bench.dispatcher.dispatch([Halt("drawdown", 1), Halt("again", 2)])
    assert bench.dispatcher.halted == Halt("drawdown", 1)
    assert [(each.severity, each.text) for each in bench.alerts] == [
        (Severity.CRITICAL, "drawdown"),
        (Severity.CRITICAL, "again"),
    ]


async def test_a_model_that_nobody_fits_is_said_aloud() -> None:
    bench = Bench()
    bench.dispatcher.dispatch([FitModel(ModelId("regime"), 0, 1, 2, 3)])
    assert "regime keeps its parameters" in bench.alerts[0].text


async def test_every_command_has_a_way_out() -> None:
    bench = Bench()
    alert = Alert(Severity.INFO, "s", "t", 1)
    bench.dispatcher.dispatch([alert])
    assert bench.alerts == [alert]
    assert msgspec.structs.asdict(alert)["text"] == "t"
