"""Replay: a journal gives the same commands again, and one that was changed is caught at the right record."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tests.fakes.small_demo import CutMarket, file_journal, fresh_kernel, rig
from tidegate.adapters.files.journal import FileJournal, JournalHeader, read_journal
from tidegate.app.demo import run_demo
from tidegate.app.replay import replay
from tidegate.domain.errors import JournalError
from tidegate.domain.messages import KernelSnapshot, Record
from tidegate.domain.orders import ApprovedOrder

EVERY = 500


@pytest.fixture
async def journal(tmp_path: Path) -> Path:
    """A demo of a market of 512 bars, journaled, with a snapshot every 500 records."""
    folder = tmp_path / "journal"
    demo = rig(lambda kernel: file_journal(folder, kernel, EVERY), source=CutMarket())
    await run_demo(demo.parts)
    return folder


def rewritten(folder: Path, into: Path, records: list[Record]) -> Path:
    """The same journal with other records: every length and checksum is right, there are no later snapshots."""
    first = next(read_journal(folder).snapshots())
    copy = FileJournal.create(into, JournalHeader("demo", 0, {}, "", ()), lambda: first, snapshot_every=10**9)
    for record in records:
        copy.write(record, durable=False)
    copy.close_now()
    return into


def orders_in(records: list[Record]) -> list[int]:
    return [k for k, each in enumerate(records) if any(isinstance(c, ApprovedOrder) for c in each.commands)]


async def test_the_journal_of_a_demo_replays_without_a_difference(journal: Path) -> None:
    told: list[int] = []
    report = replay(read_journal(journal), fresh_kernel(), progress=told.append)
    records = list(read_journal(journal).records())
    assert report.same
    assert (report.first_seq, report.records) == (1, len(records))
    assert report.commands == sum(len(each.commands) for each in records) > 100
    assert report.snapshots == len(records) // EVERY > 5
    assert told == [seq for seq in range(1, len(records) + 1) if seq % 5_000 == 0]


async def test_replay_can_start_from_a_later_snapshot(journal: Path) -> None:
    report = replay(read_journal(journal), fresh_kernel(), from_seq=3 * EVERY + 7)
    assert report.same
    assert report.first_seq == 3 * EVERY + 1
    assert report.snapshots == replay(read_journal(journal), fresh_kernel()).snapshots - 3


async def test_a_changed_quantity_is_the_first_difference(journal: Path, tmp_path: Path) -> None:
    records = list(read_journal(journal).records())
    at = orders_in(records)[3]
    commands = list(records[at].commands)
    which = next(k for k, each in enumerate(commands) if isinstance(each, ApprovedOrder))
    honest = commands[which]
    assert isinstance(honest, ApprovedOrder)
    commands[which] = msgspec.structs.replace(honest, qty=honest.qty + Decimal("0.001"))
    records[at] = Record(records[at].seq, records[at].event, tuple(commands))
    found = replay(read_journal(rewritten(journal, tmp_path / "changed", records)), fresh_kernel()).difference
    assert found is not None
    assert found.seq == records[at].seq
    assert found.event == records[at].event
    assert repr(honest.qty + Decimal("0.001")) in found.expected
    assert repr(honest.qty) in found.got


@pytest.mark.parametrize("sin", ["missing", "added", "swapped"])
async def test_a_command_that_is_missing_added_or_out_of_order_is_found(
    journal: Path, tmp_path: Path, sin: str
) -> None:
    records = list(read_journal(journal).records())
    at = next(k for k, each in enumerate(records) if len(each.commands) >= 2)
    seq, event, commands = records[at].seq, records[at].event, records[at].commands
    changed = {
        "missing": commands[:-1],
        "added": (*commands, commands[0]),
        "swapped": (commands[1], commands[0], *commands[2:]),
    }[sin]
    records[at] = Record(seq, event, changed)
    report = replay(read_journal(rewritten(journal, tmp_path / "changed", records)), fresh_kernel())
    assert report.difference is not None
    assert report.difference.seq == seq
    assert report.records == seq
    assert ("no command" in f"{report.difference.expected} {report.difference.got}") is (sin != "swapped")


async def test_a_changed_event_shows_in_what_follows(journal: Path, tmp_path: Path) -> None:
    records = list(read_journal(journal).records())
    fills = [k for k, each in enumerate(records) if type(each.event).__name__ == "OrderFilled"]
    seq, event, commands = records[fills[0]].seq, records[fills[0]].event, records[fills[0]].commands
    records[fills[0]] = Record(seq, msgspec.structs.replace(event, qty=event.qty * 2), commands)  # type: ignore[union-attr]
    report = replay(read_journal(rewritten(journal, tmp_path / "changed", records)), fresh_kernel())
    assert report.difference is not None
    assert report.difference.seq >= seq


class Stored:
    """A journal in memory, as replay reads it."""

    def __init__(self, records: list[Record], snapshots: list[KernelSnapshot]) -> None:
        self._records, self._snapshots = records, snapshots

    def records(self, from_seq: int = 0) -> Iterator[Record]:
        return (each for each in self._records if each.seq >= from_seq)

    def snapshots(self) -> Iterator[KernelSnapshot]:
        return iter(self._snapshots)


async def test_a_snapshot_that_is_not_the_kernels_state_is_a_difference(journal: Path) -> None:
    records, snapshots = list(read_journal(journal).records()), list(read_journal(journal).snapshots())
    state = msgspec.msgpack.decode(snapshots[2].data)
    state["now_ns"] += 1
    snapshots[2] = KernelSnapshot(snapshots[2].version, snapshots[2].seq, msgspec.msgpack.encode(state))
    found = replay(Stored(records, snapshots), fresh_kernel()).difference
    assert found is not None
    assert (found.seq, found.event) == (snapshots[2].seq, None)
    assert "now_ns" in str(found)


async def test_a_kernel_that_raises_is_a_difference(journal: Path) -> None:
    records, snapshots = list(read_journal(journal).records()), list(read_journal(journal).snapshots())
    kernel = fresh_kernel()
    handle, seen = kernel.handle, iter(range(1, 10**9))

    def broken(event: object) -> object:
        if next(seen) == 100:
            raise ZeroDivisionError("oops")
        return handle(event)  # type: ignore[arg-type]

    kernel.handle = broken  # type: ignore[method-assign, assignment]
    found = replay(Stored(records, snapshots), kernel).difference
    assert found is not None
    assert found.seq == 100
    assert "ZeroDivisionError: oops" in found.got
    assert "record 100" in str(found)


def test_without_a_snapshot_there_is_nothing_to_start_from() -> None:
    with pytest.raises(JournalError, match="no snapshot to start from"):
        replay(Stored([], []), fresh_kernel())


async def test_the_report_is_plain_data(journal: Path, tmp_path: Path) -> None:
    report = replay(read_journal(journal), fresh_kernel()).as_dict()
    assert report["difference"] is None
    records = list(read_journal(journal).records())
    records[0] = Record(1, records[0].event, (records[orders_in(records)[0]].commands))
    report = replay(read_journal(rewritten(journal, tmp_path / "changed", records)), fresh_kernel()).as_dict()
    assert msgspec.json.decode(msgspec.json.encode(report))["difference"]["seq"] == 1
