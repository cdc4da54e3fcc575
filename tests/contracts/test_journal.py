"""What every journal promises: on disk, on a disk that a simulated crash can cut, and in memory."""

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.journal import MemoryJournal
from tidegate.adapters.files.journal import FileJournal, JournalHeader
from tidegate.app.simulation import SimDisk, SimJournal, VirtualLoop, run
from tidegate.domain.errors import JournalError
from tidegate.domain.ids import ClientOrderId, InstrumentId
from tidegate.domain.market import HOUR_NS, Bar, MarkPrice
from tidegate.domain.messages import Event, KernelSnapshot, Record, SetTimer, TimerFired
from tidegate.domain.orders import OrderFilled, Side
from tidegate.ports import Journal

BTC = InstrumentId("BTCUSDT")
FIRST = 5  # the journals under test begin after record 4


def bar(seq: int, close: float = 100.1) -> Bar:
    return Bar(BTC, HOUR_NS, seq * HOUR_NS, seq * HOUR_NS, 100.0, 101.0, 99.0, close, 0.1 + 0.2)


def fill(seq: int) -> OrderFilled:
    qty, price, fee = Decimal("0.0010"), Decimal("1E+2"), Decimal("-0.00000001")
    return OrderFilled(ClientOrderId("p1-demo-0-1-0"), BTC, Side.SELL, qty, price, fee, "USDT", seq, True, seq, seq)


def some_records() -> list[Record]:
    events: list[Event] = [bar(5), MarkPrice(BTC, 6, 6, 0.1), fill(7), bar(8), TimerFired("x", 9, 9), bar(10)]
    return [
        Record(seq, event, (SetTimer(f"t{seq}", seq),) if seq % 2 else ())
        for seq, event in enumerate(events, start=FIRST)
    ]


Scenario = Callable[[Journal], Coroutine[Any, Any, None]]
Play = Callable[[Scenario], None]


def on_disk(folder: Path) -> FileJournal:
    header = JournalHeader("demo", 1, {}, "", ())
    return FileJournal.create(folder, header, lambda: KernelSnapshot(1, FIRST - 1, b""))


def on_a_virtual_loop(scenario: Scenario, folder: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        disk = SimDisk(loop)
        with disk.mounted():
            files = on_disk(folder)
            await scenario(SimJournal(files, loop, files.close_now))

    assert run(main, 1).errors == ()


@pytest.fixture(params=["FileJournal", "SimJournal", "MemoryJournal"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Plays a scenario with the journal under test, on the loop that it needs."""
    folder = tmp_path / "journal"
    match request.param:
        case "FileJournal":
            return lambda scenario: asyncio.run(scenario(on_disk(folder)))
        case "SimJournal":
            return lambda scenario: on_a_virtual_loop(scenario, folder)
        case _:
            return lambda scenario: asyncio.run(scenario(MemoryJournal(FIRST - 1)))


async def read(journal: Journal, from_seq: int = 0) -> list[Record]:
    return [record async for record in journal.replay(from_seq)]


def test_what_was_appended_comes_back_in_order_and_exactly(play: Play) -> None:
    async def scenario(journal: Journal) -> None:
        records = some_records()
        for record in records:
            await journal.append(record, durable=bool(record.commands))
        assert await read(journal) == records
        await journal.close()

    play(scenario)


def test_an_empty_journal_replays_nothing(play: Play) -> None:
    async def scenario(journal: Journal) -> None:
        assert await read(journal) == []
        await journal.close()

    play(scenario)


def test_replay_begins_where_it_is_asked_to(play: Play) -> None:
    async def scenario(journal: Journal) -> None:
        records = some_records()
        for record in records:
            await journal.append(record, durable=False)
        assert await read(journal, FIRST + 3) == records[3:]
        assert await read(journal, FIRST + 99) == []
        await journal.close()

    play(scenario)


def test_appending_goes_on_after_a_replay(play: Play) -> None:
    async def scenario(journal: Journal) -> None:
        records = some_records()
        for record in records[:3]:
            await journal.append(record, durable=False)
        assert await read(journal) == records[:3]
        for record in records[3:]:
            await journal.append(record, durable=True)
        assert await read(journal) == records
        await journal.close()

    play(scenario)


def test_a_closed_journal_reads_but_takes_nothing(play: Play) -> None:
    async def scenario(journal: Journal) -> None:
        first, second, *_ = some_records()
        await journal.append(first, durable=False)
        await journal.close()
        await journal.close()
        with pytest.raises(JournalError, match="closed"):
            await journal.append(second, durable=False)
        assert await read(journal) == [first]

    play(scenario)


@pytest.mark.parametrize("seq", [FIRST - 1, FIRST, FIRST + 2])
def test_a_record_out_of_turn_is_refused_and_leaves_no_trace(play: Play, seq: int) -> None:
    async def scenario(journal: Journal) -> None:
        first, second, *_ = some_records()
        await journal.append(first, durable=False)
        with pytest.raises(JournalError, match=f"record {seq} does not follow record {FIRST}"):
            await journal.append(Record(seq, bar(seq), ()), durable=True)
        await journal.append(second, durable=False)
        assert await read(journal) == [first, second]
        await journal.close()

    play(scenario)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_float_that_json_cannot_hold_is_refused_and_leaves_no_trace(play: Play, value: float) -> None:
    async def scenario(journal: Journal) -> None:
        first, *_ = some_records()
        with pytest.raises(JournalError, match="not finite"):
            await journal.append(Record(FIRST, bar(FIRST, close=value), ()), durable=False)
        await journal.append(first, durable=False)
        assert await read(journal) == [first]
        await journal.close()

    play(scenario)
