"""The short ways of an order: each does what the long one does."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.journal import MemoryJournal
from tidegate.adapters.binance.clock import VenueClock
from tidegate.adapters.binance.limits import Governor, Lane, RateLimit
from tidegate.adapters.binance.signing import encode
from tidegate.adapters.files.journal_lines import require_finite
from tidegate.app.inbox import Inbox
from tidegate.domain.errors import JournalError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import FundingRate
from tidegate.domain.messages import Event, Record
from tidegate.domain.signals import Decision, Signal

BTC = InstrumentId("BTCUSDT")
TEXTS = st.one_of(st.from_regex(r"[A-Za-z0-9_.~-]{0,8}", fullmatch=True), st.text(max_size=6), st.sampled_from("=&%+ "))


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_a_query_without_special_characters_is_encoded_as_any_other(params: list[tuple[str, str]]) -> None:
    params = [(name.encode(errors="ignore").decode(), value.encode(errors="ignore").decode()) for name, value in params]
    assert encode(params) == "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in params)


async def test_who_asks_for_weight_does_not_overtake_who_waits() -> None:
    governor = Governor(VenueClock(lambda: 1_000_000_000))
    governor.configure([RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 100)])
    assert governor.take_now(79, Lane.ENTER)
    waiting = asyncio.create_task(governor.take(2, Lane.ENTER))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not governor.take_now(1, Lane.ENTER)
    assert governor.usage()["weight"] == (79, 100)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert governor.take_now(1, Lane.ENTER)
    assert not governor.take_now(1, Lane.ENTER)
    assert governor.take_now(1, Lane.PROTECT)


@pytest.mark.parametrize("where", ["stop", "strength"])
def test_a_float_that_is_not_finite_is_found_in_what_a_command_holds(where: str) -> None:
    signal = msgspec.structs.replace(Signal(1.0, 2.0), **{where: float("nan")})
    event = FundingRate(BTC, 1, 1, 0.0001)
    require_finite(Record(1, event, (Decision(None, BTC, 1, Signal(1.0)),)))
    with pytest.raises(JournalError, match=where):
        require_finite(Record(1, event, (Decision(None, BTC, 1, signal),)))


class Listing:
    """A kernel that keeps what it hears, and what the loop had done by then."""

    def __init__(self) -> None:
        self.heard: list[float] = []
        self.answers: dict[float, float] = {}
        self.post: Any = None

    def handle(self, event: Event) -> Sequence[Any]:
        assert isinstance(event, FundingRate)
        self.heard.append(event.rate)
        if event.rate in self.answers:
            self.post(FundingRate(BTC, 1, 1, self.answers[event.rate]))
        return ()

    def dispatch(self, commands: Sequence[Any]) -> None:
        raise AssertionError("nothing is commanded")

    async def drained(self) -> None:
        return


def rates(*values: float) -> list[FundingRate]:
    return [FundingRate(BTC, 1, 1, value) for value in values]


async def test_an_event_that_nothing_is_before_is_handled_at_once_one_a_turn_and_in_order() -> None:
    kernel = Listing()
    inbox = Inbox(kernel, MemoryJournal(), kernel, lock_step=False)
    kernel.post, kernel.answers = inbox.post, {2.0: 20.0}
    await inbox.offer(rates(1.0)[0])
    assert kernel.heard == []  # nobody runs it yet
    running = asyncio.create_task(inbox.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert kernel.heard == [1.0]
    for event in rates(2.0, 3.0, 4.0):
        await inbox.offer(event)
    assert kernel.heard == [1.0, 2.0]  # the others wait for the loop, and for what 2 has led to
    for _ in range(4):
        await asyncio.sleep(0)
    assert kernel.heard == [1.0, 2.0, 20.0, 3.0, 4.0]
    for event in rates(6.0, 7.0):
        await inbox.offer(event)
    assert kernel.heard[-1] == 6.0
    for _ in range(4):
        await asyncio.sleep(0)
    inbox.post(rates(8.0)[0])
    await inbox.offer(rates(9.0)[0])  # what became of a command goes first
    for _ in range(4):
        await asyncio.sleep(0)
    assert kernel.heard[-3:] == [7.0, 8.0, 9.0]
    running.cancel()
    await asyncio.wait([running])
    await inbox.offer(rates(5.0)[0])
    assert kernel.heard[-1] == 9.0
