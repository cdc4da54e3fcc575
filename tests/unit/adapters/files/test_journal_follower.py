"""Following a journal: what the reader reads at the end, the follower has read on the way, each record once."""

import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import pytest

from tests.fakes.small_demo import fresh_kernel
from tests.unit.adapters.files.test_journal import mixed
from tidegate.adapters.files.journal import FileJournal, JournalHeader
from tidegate.adapters.files.journal_follower import JournalFollower
from tidegate.adapters.files.journal_reader import read_journal
from tidegate.domain.errors import JournalError
from tidegate.domain.messages import KernelSnapshot, Record

Follow = Callable[..., JournalFollower]


class Counted:
    """A journal whose kernel only counts."""

    def __init__(self, folder: Path, segment_bytes: int = 1500) -> None:
        self.seq = 0
        self.version = fresh_kernel().snapshot().version
        header = JournalHeader("demo", 0, {}, "", ())
        self.files = FileJournal.create(folder, header, self.snapshot, segment_bytes=segment_bytes, fsync=False)

    def snapshot(self) -> KernelSnapshot:
        return KernelSnapshot(self.version, self.seq, b"")

    def write(self, record: Record, *, durable: bool = False) -> None:
        self.seq = record.seq
        self.files.write(record, durable=durable)


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    with ExitStack() as stack:
        yield lambda after=0: stack.enter_context(closing(JournalFollower(tmp_path, after)))


def drain(follower: JournalFollower) -> list[Record]:
    found: list[Record] = []
    while some := follower.read(7):
        found += some
    return found


@pytest.mark.parametrize("seed", range(12))
def test_every_record_once_while_it_is_written_rotated_and_packed(seed: int, tmp_path: Path, follow: Follow) -> None:
    dice = Random(seed)
    journal, records = Counted(tmp_path, dice.choice([400, 1500, 1 << 20])), mixed(300)
    follower, seen = follow(), list[Record]()
    for record in records:
        journal.write(record, durable=dice.random() < 0.05)
        if dice.random() < 0.1:
            journal.files.flush()
        if dice.random() < 0.2:
            seen += follower.read(dice.randint(1, 40))
            assert seen == records[: len(seen)]
    journal.files.close_now()
    seen += drain(follower)
    assert seen == records == list(read_journal(tmp_path).records())
    assert drain(follow()) == records


def test_only_what_was_written_out_is_read(tmp_path: Path, follow: Follow) -> None:
    journal, records = Counted(tmp_path), mixed(5)
    follower = follow()
    for record in records:
        journal.write(record)
    assert follower.read(10) == []
    journal.files.flush()
    assert follower.read(10) == records
    journal.files.close_now()


@pytest.mark.parametrize("after", [0, 1, 57, 150, 298, 299, 300, 450])
def test_a_start_in_the_middle(after: int, tmp_path: Path, follow: Follow) -> None:
    journal, records = Counted(tmp_path, 700), mixed(300)
    for record in records:
        journal.write(record)
    journal.files.close_now()
    follower = follow(after)
    found = drain(follower)
    assert found == records[-len(found) :]
    assert found[0].seq <= after + 1
    assert len(found) <= max(60, 300 - after + 30)  # not much is read that was known
    assert follower.last_seq == 300


def test_a_segment_that_is_packed_under_its_reader(tmp_path: Path, follow: Follow) -> None:
    journal, records = Counted(tmp_path, 1 << 20), mixed(50)
    for record in records:
        journal.write(record)
    journal.files.close_now()
    follower = follow()
    assert follower.read(10) == records[:10]
    tape = tmp_path / "tape-000001.log"
    tape.with_name("tape-000001.log.gz").write_bytes(gzip.compress(tape.read_bytes()))
    tape.unlink()
    assert drain(follower) == records[10:]


@pytest.mark.parametrize("stream", ["ledger", "tape"])
def test_a_torn_tail_is_not_read_and_what_is_cut_off_waits(stream: str, tmp_path: Path, follow: Follow) -> None:
    journal, records = Counted(tmp_path, 1 << 20), mixed(40)
    for record in records:
        journal.write(record)
    journal.files.close_now()
    path = tmp_path / f"{stream}-000001.log"
    whole = path.read_bytes()
    for cut in (1, 30, 400):
        path.write_bytes(whole[:-cut])
        follower = follow()
        seen = drain(follower)
        assert seen == list(read_journal(tmp_path).records()) == records[: len(seen)]
        assert len(seen) < 40
        path.write_bytes(whole)
        assert seen + drain(follower) == records


def test_a_damaged_last_line_ends_it_and_one_in_the_middle_is_an_error(tmp_path: Path, follow: Follow) -> None:
    journal, records = Counted(tmp_path, 700), mixed(200)
    for record in records:
        journal.write(record)
    journal.files.close_now()
    last = sorted(tmp_path.glob("ledger-*.log"))[-1]
    last.write_bytes(last.read_bytes() + b"11 00000000 {\0\0\0\0\0\0\0\0\0}\n")
    follower = follow()
    assert drain(follower) == records
    assert follower.ended
    first = sorted(tmp_path.glob("ledger-*.log"))[0]
    raw = bytearray(first.read_bytes())
    raw[-10] ^= 1
    first.write_bytes(bytes(raw))
    with pytest.raises(JournalError, match="damaged"):
        drain(follow())
