"""The journal on disk: exact round trips, crashes at every byte, damage at every byte, fsync before return."""

import os
import shutil
import tempfile
import types
from collections.abc import Sequence
from decimal import Decimal
from enum import Enum
from itertools import pairwise
from math import inf, nan
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.adapters.files.journal import FileJournal, JournalHeader, read_journal
from tidegate.adapters.files.journal_lines import frame, unframe
from tidegate.domain.errors import JournalError
from tidegate.domain.ids import InstrumentId, StrategyId
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import DEFAULT_BRACKETS
from tidegate.domain.market import Bar, Depth, MarkPrice
from tidegate.domain.messages import Command, Event, Halt, KernelSnapshot, Record, SetTimer, TimerFired
from tidegate.domain.signals import Decision, Signal

BTC = InstrumentId("BTCUSDT")
SMALL = Decimal("0.001")
INSTRUMENT = Instrument(
    BTC, "BTC", "USDT", Decimal("0.10"), SMALL, SMALL, Decimal(1000), Decimal(120), Decimal(100), Decimal(1),
    Decimal("1E+6"), DEFAULT_BRACKETS,
)  # fmt: skip
CONFIGURATION = {"risk": {"max_leverage": 3.0}, "symbols": ["BTCUSDT"], "data": None}
HEADER = JournalHeader("demo", 1_700_000_000, CONFIGURATION, "ab", (INSTRUMENT,))


class Kernel:
    """Something to take snapshots of."""

    def __init__(self, seq: int = 0) -> None:
        self.seq = seq

    def snapshot(self) -> KernelSnapshot:
        return KernelSnapshot(3, self.seq, bytes([self.seq % 256, 0, 255]))


def write_all(journal: FileJournal, kernel: Kernel, records: Sequence[Record], durable: bool = False) -> None:
    for record in records:
        kernel.seq = record.seq
        journal.write(record, durable=durable)


def bar(seq: int) -> Bar:
    return Bar(BTC, 60, seq * 60, seq * 60, 1.5, 2.5, 0.5, 1.0 + seq, 10.0)


def mixed(count: int, start: int = 1) -> list[Record]:
    """Bars, every third with commands, every fourth a timer instead."""
    return [
        Record(
            seq,
            TimerFired(f"t{seq}", seq, seq) if seq % 4 == 0 else bar(seq),
            (SetTimer(f"s{seq}", seq),) if seq % 3 == 0 else (),
        )
        for seq in range(start, start + count)
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def restore(folder: Path, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        (folder / name).write_bytes(data)


# -- round trips -------------------------------------------------------------------------------------------------------

LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    float: st.floats(allow_nan=False, allow_infinity=False),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    int: st.integers(-(2**63), 2**63 - 1),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=20),
    bool: st.booleans(),
    types.NoneType: st.none(),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a message's field, from its type: a message added to the vocabulary is covered by itself."""
    if kind in LEAVES:
        return LEAVES[kind]
    if hasattr(kind, "__supertype__"):
        return values(kind.__supertype__)
    if get_origin(kind) in (Union, types.UnionType):
        return st.one_of([values(each) for each in get_args(kind)])
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if parts[-1] is Ellipsis:
            return st.lists(values(parts[0]), max_size=3).map(tuple)
        return st.tuples(*map(values, parts))
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    return st.builds(kind, **{field.name: values(field.type) for field in msgspec.structs.fields(kind)})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(values(Event), st.lists(values(Command), max_size=3), st.booleans()), max_size=12))
def test_any_records_come_back_exactly(steps: list[tuple[Event, list[Command], bool]]) -> None:
    records = [Record(seq, event, tuple(commands)) for seq, (event, commands, _) in enumerate(steps, start=1)]
    with tempfile.TemporaryDirectory() as folder:
        kernel = Kernel()
        journal = FileJournal.create(
            Path(folder), HEADER, kernel.snapshot, segment_bytes=700, snapshot_every=4, fsync=False
        )
        for record, (_, _, durable) in zip(records, steps, strict=True):
            write_all(journal, kernel, [record], durable)
        journal.close_now()
        reader = read_journal(Path(folder))
        read = list(reader.records())
        assert read == records
        assert list(map(repr, read)) == list(map(repr, records))  # digits and types, not values alone
        assert reader.notes == []


def test_market_events_go_to_the_tape_and_what_obliges_to_the_ledger(tmp_path: Path) -> None:
    kernel, records = Kernel(), mixed(12)
    journal = FileJournal.create(tmp_path, HEADER, kernel.snapshot)
    write_all(journal, kernel, records)
    journal.close_now()
    content = files(tmp_path)
    taped = [json_of(line)["seq"] for line in content["tape-000001.log"].splitlines(keepends=True)]
    ledger = [json_of(line) for line in content["ledger-000001.log"].splitlines(keepends=True)]
    assert taped == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert [line["type"] for line in ledger[:2]] == ["HEADER", "SNAPSHOT"]
    assert [(line["seq"], line["event"] is None) for line in ledger[2:]] == [
        (3, True), (4, False), (6, True), (8, False), (9, True), (12, False),
    ]  # fmt: skip


def json_of(line: bytes) -> dict[str, Any]:
    body = unframe(line)
    assert body is not None
    return msgspec.json.decode(body, type=dict[str, Any])


def test_the_header_comes_back_exactly_with_its_open_bracket(tmp_path: Path) -> None:
    FileJournal.create(tmp_path, HEADER, Kernel().snapshot).close_now()
    header = read_journal(tmp_path).header
    assert header == HEADER
    assert header.instruments[0].brackets[-1].cap_usdt == inf


@pytest.mark.parametrize("configuration", [{"a": nan}, {"a": (1, 2)}, {"a": inf}, {"a": object()}])
def test_a_header_that_json_would_change_is_refused(tmp_path: Path, configuration: dict[str, object]) -> None:
    with pytest.raises(JournalError, match="header cannot be written"):
        FileJournal.create(tmp_path, JournalHeader("demo", 1, configuration, "", ()), Kernel().snapshot)
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("event", "commands", "where"),
    [
        (MarkPrice(BTC, 1, 1, nan), (), "MarkPrice.price"),
        (Depth(BTC, 1, 1, ((1.0, inf),), ()), (), r"Depth.bids\[0\]\[1\]"),
        (bar(1), (Decision(StrategyId("a"), BTC, 1, Signal(nan)),), "Decision.signal.strength"),
        (TimerFired("\ud800", 1, 1), (), "surrogates"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_name(
    tmp_path: Path, event: Event, commands: tuple[Command, ...], where: str
) -> None:
    journal = FileJournal.create(tmp_path, HEADER, Kernel().snapshot)
    with pytest.raises(JournalError, match=f"record 1 cannot be written: .*{where}"):
        journal.write(Record(1, event, commands), durable=False)
    journal.write(Record(1, bar(1), ()), durable=False)
    journal.close_now()
    assert list(read_journal(tmp_path).records()) == [Record(1, bar(1), ())]


def test_huge_but_finite_floats_are_taken(tmp_path: Path) -> None:
    journal = FileJournal.create(tmp_path, HEADER, Kernel().snapshot)
    record = Record(1, Bar(BTC, 60, 60, 60, 1e308, 1e308, 1e308, 1e308, 1e308), ())
    journal.write(record, durable=True)
    journal.close_now()
    assert list(read_journal(tmp_path).records()) == [record]


# -- segments and snapshots --------------------------------------------------------------------------------------------


def test_segments_rotate_and_the_tape_is_compressed(tmp_path: Path) -> None:
    kernel, records = Kernel(), mixed(200)
    journal = FileJournal.create(tmp_path, HEADER, kernel.snapshot, segment_bytes=4096, snapshot_every=30)
    write_all(journal, kernel, records)
    journal.close_now()
    names = list(files(tmp_path))
    assert sum(name.startswith("ledger") for name in names) > 2
    tapes = [name for name in names if name.startswith("tape")]
    assert len(tapes) > 2
    assert [name.endswith(".gz") for name in tapes] == [True] * (len(tapes) - 1) + [False]
    assert journal.notes == []
    for name in names:  # any part of it stands for the whole
        assert list(read_journal(tmp_path / name).records()) == records
    for ledger in tmp_path.glob("ledger-*"):
        first, second, *_ = ledger.read_bytes().splitlines(keepends=True)
        assert (json_of(first)["type"], json_of(second)["type"]) == ("HEADER", "SNAPSHOT")


def test_snapshots_come_at_the_start_after_every_n_records_and_at_each_segment(tmp_path: Path) -> None:
    kernel = Kernel()
    journal = FileJournal.create(tmp_path, HEADER, kernel.snapshot, snapshot_every=4)
    write_all(journal, kernel, mixed(10))
    journal.close_now()
    snapshots = list(read_journal(tmp_path).snapshots())
    assert [each.seq for each in snapshots] == [0, 4, 8]
    kernel.seq = 8
    assert snapshots[-1] == kernel.snapshot()


def test_a_snapshot_of_another_record_ends_the_journal(tmp_path: Path) -> None:
    journal = FileJournal.create(tmp_path, HEADER, Kernel().snapshot, snapshot_every=2)
    journal.write(Record(1, bar(1), ()), durable=False)
    with pytest.raises(JournalError, match="the snapshot is of record 0, the journal is at record 2"):
        journal.write(Record(2, bar(2), ()), durable=False)
    journal.close_now()


def test_a_second_journal_in_one_folder_is_refused(tmp_path: Path) -> None:
    FileJournal.create(tmp_path, HEADER, Kernel().snapshot).close_now()
    with pytest.raises(JournalError, match="there is a journal already"):
        FileJournal.create(tmp_path, HEADER, Kernel().snapshot)


# -- durable -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int]]:
    """Every fsync, as the name and the size of the file at that instant."""
    calls: list[tuple[str, int]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        names = {path.stat().st_ino: path.name for path in tmp_path.iterdir()}
        calls.append((names.get(os.fstat(fd).st_ino, "folder"), os.fstat(fd).st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    return calls


def test_durable_returns_after_the_tape_and_then_the_ledger_are_on_disk(
    tmp_path: Path, synced: list[tuple[str, int]]
) -> None:
    journal = FileJournal.create(tmp_path, HEADER, Kernel().snapshot)
    assert synced[0][0] == "ledger-000001.draft"  # whole before it has its name
    synced.clear()
    journal.write(Record(1, bar(1), ()), durable=False)
    journal.write(Record(2, TimerFired("x", 2, 2), ()), durable=False)
    assert synced == []
    journal.write(Record(3, bar(3), (Halt("why", 3),)), durable=True)
    sizes = {name: len(data) for name, data in files(tmp_path).items()}
    assert synced == [(name, sizes[name]) for name in ("tape-000001.log", "ledger-000001.log")]
    assert [record.seq for record in read_journal(tmp_path).records()] == [1, 2, 3]
    journal.close_now()


def test_without_fsync_nothing_is_synced(tmp_path: Path, synced: list[tuple[str, int]]) -> None:
    journal = FileJournal.create(tmp_path, HEADER, Kernel().snapshot, fsync=False)
    journal.write(Record(1, TimerFired("x", 2, 2), ()), durable=True)
    assert [record.seq for record in read_journal(tmp_path).records()] == [1]
    journal.close_now()
    assert synced == []


def test_a_failed_fsync_ends_the_journal_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FileJournal.create(tmp_path, HEADER, Kernel().snapshot)
    journal.write(Record(1, bar(1), (Halt("a", 1),)), durable=True)

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(JournalError, match=r"has failed and takes no more records: .*Input/output error"):
            journal.write(Record(2, bar(2), (Halt("b", 2),)), durable=True)
    for durable in (True, False):
        with pytest.raises(JournalError, match="takes no more records"):
            journal.write(Record(3, bar(3), ()), durable=durable)
    with pytest.raises(JournalError, match="takes no more records"):
        journal.flush()
    journal.close_now()
    assert next(iter(read_journal(tmp_path).records())) == Record(1, bar(1), (Halt("a", 1),))


def test_a_full_disk_ends_the_journal() -> None:
    """The system's own file that is always full stands in for the ledger."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with tempfile.TemporaryDirectory() as folder:
        journal = FileJournal.create(Path(folder), HEADER, Kernel().snapshot)
        journal._ledger.file.close()
        journal._ledger.file = full.open("ab", buffering=0)
        journal.write(Record(1, TimerFired("x", 1, 1), ()), durable=False)
        with pytest.raises(JournalError, match="No space left"):
            journal.flush()
        with pytest.raises(JournalError, match="No space left"):
            journal.write(Record(2, bar(2), ()), durable=False)
        journal.close_now()


# -- crashes -----------------------------------------------------------------------------------------------------------

LEDGER_FILE, TAPE_FILE = "ledger-000001.log", "tape-000001.log"


class Crashable:
    """A small journal, and after each durable write how many bytes of each file were safe for how many records."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.records, kernel = folder, mixed(9), Kernel()
        journal = FileJournal.create(folder, HEADER, kernel.snapshot, snapshot_every=5)
        self.safe = [(0, len((folder / LEDGER_FILE).read_bytes()), 0)]
        for record in self.records:
            durable = record.seq in (3, 6)
            write_all(journal, kernel, [record], durable)
            if durable:
                sizes = [(folder / name).stat().st_size for name in (LEDGER_FILE, TAPE_FILE)]
                self.safe.append((record.seq, *sizes))
        journal.close_now()
        self.whole = files(folder)

    def crash(self, ledger: int, tape: int) -> int:
        """Leave that many bytes of the two files; returns how many records must have survived."""
        restore(self.folder, {LEDGER_FILE: self.whole[LEDGER_FILE][:ledger], TAPE_FILE: self.whole[TAPE_FILE][:tape]})
        return max((seq for seq, least, taped in self.safe if ledger >= least and tape >= taped), default=-1)

    def check(self, ledger: int, tape: int) -> int:
        """A crash at these lengths loses nothing durable and invents nothing; returns how many records are left."""
        least = self.crash(ledger, tape)
        reader = read_journal(self.folder)
        left = list(reader.records())
        assert left == self.records[: len(left)]
        assert len(left) >= least
        assert next(reader.snapshots()).seq == 0
        return len(left)


@pytest.fixture
def crashable(tmp_path: Path) -> Crashable:
    return Crashable(tmp_path)


def test_a_crash_at_any_byte_of_either_stream_keeps_what_was_durable(crashable: Crashable) -> None:
    ledger, tape = len(crashable.whole[LEDGER_FILE]), len(crashable.whole[TAPE_FILE])
    opening = crashable.safe[0][1]
    left = {crashable.check(length, tape) for length in range(opening, ledger + 1)}
    assert {2, 3, 9} <= left
    left = {crashable.check(ledger, length) for length in range(tape + 1)}
    assert {0, 1, 2, 4, 6, 9} <= left


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_after_a_crash_the_journal_goes_on_where_it_ended(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        crashable = Crashable(Path(folder))
        ledger = data.draw(st.integers(crashable.safe[0][1], len(crashable.whole[LEDGER_FILE])), "ledger")
        tape = data.draw(st.integers(0, len(crashable.whole[TAPE_FILE])), "tape")
        last = crashable.check(ledger, tape)
        kernel, records = Kernel(last), crashable.records[:last]
        for _ in range(2):  # twice, so that a start without records is there too
            journal = FileJournal.reopen(Path(folder), HEADER, kernel.snapshot)
            more = mixed(data.draw(st.integers(0, 6), "more"), kernel.seq + 1)
            write_all(journal, kernel, more)
            journal.close_now()
            records += more
        reader = read_journal(Path(folder))
        assert list(reader.records()) == records
        assert reader.notes == []


def test_a_torn_tail_is_noted_with_its_place(crashable: Crashable) -> None:
    crashable.crash(len(crashable.whole[LEDGER_FILE]), len(crashable.whole[TAPE_FILE]) - 1)
    reader = read_journal(crashable.folder)
    assert [record.seq for record in reader.records()] == list(range(1, 9))
    torn, ended = reader.notes
    assert TAPE_FILE in torn
    assert "line 7 (byte " in torn
    assert "the records end before 9: its line in the tape was lost" in ended
    journal = FileJournal.reopen(crashable.folder, HEADER, Kernel(8).snapshot)
    assert journal.notes == [torn, ended]
    journal.close_now()


def test_a_crash_while_a_segment_begins_is_a_note(crashable: Crashable) -> None:
    journal = FileJournal.reopen(crashable.folder, HEADER, Kernel(9).snapshot)
    journal.close_now()
    second = crashable.folder / "ledger-000002.log"
    whole = second.read_bytes()
    for length in range(0, len(whole), 7):
        second.write_bytes(whole[:length])
        assert list(read_journal(crashable.folder).records()) == crashable.records
    FileJournal.reopen(crashable.folder, HEADER, Kernel(9).snapshot).close_now()
    assert list(read_journal(crashable.folder).records()) == crashable.records


def test_a_crash_during_compression_leaves_one_whole_segment(tmp_path: Path) -> None:
    kernel, records = Kernel(), mixed(60)
    journal = FileJournal.create(tmp_path, HEADER, kernel.snapshot, segment_bytes=4096)
    write_all(journal, kernel, records)
    journal.close_now()
    (tmp_path / "tape-000001.log").write_bytes(b"half of what is in the compressed one")
    (tmp_path / "tape-000001.log.gz.draft").write_bytes(b"x")
    FileJournal.reopen(tmp_path, HEADER, kernel.snapshot).close_now()
    assert not (tmp_path / "tape-000001.log").exists()
    assert list(read_journal(tmp_path).records()) == records


def test_reopening_with_another_kernel_or_account_is_refused(crashable: Crashable) -> None:
    with pytest.raises(JournalError, match="ends with record 9, but the kernel is at record 8"):
        FileJournal.reopen(crashable.folder, HEADER, Kernel(8).snapshot)
    other = msgspec.structs.replace(HEADER, account="other")
    with pytest.raises(JournalError, match="is of account 'demo', not 'other'"):
        FileJournal.reopen(crashable.folder, other, Kernel(9).snapshot)
    assert files(crashable.folder) == crashable.whole


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [LEDGER_FILE, TAPE_FILE])
@pytest.mark.parametrize("bit", [0, 5])
def test_a_flipped_bit_is_caught_and_never_a_wrong_record(crashable: Crashable, name: str, bit: int) -> None:
    whole = crashable.whole[name]
    last_line = whole.rstrip(b"\n").rfind(b"\n") + 1
    for at in range(bit, len(whole), 5):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << bit
        (crashable.folder / name).write_bytes(damaged)
        if at < last_line - 1:
            with pytest.raises(JournalError, match=name):
                list(read_journal(crashable.folder).records())
        else:
            reader = read_journal(crashable.folder)
            left = list(reader.records())
            assert left == crashable.records[: len(left)]
            assert reader.notes


@pytest.mark.parametrize(("name", "line"), [(LEDGER_FILE, 3), (TAPE_FILE, 2)])
def test_a_line_taken_out_of_the_middle_is_a_gap(crashable: Crashable, name: str, line: int) -> None:
    lines = crashable.whole[name].splitlines(keepends=True)
    (crashable.folder / name).write_bytes(b"".join(lines[:line] + lines[line + 1 :]))
    with pytest.raises(JournalError, match="a gap in the"):
        list(read_journal(crashable.folder).records())


def test_a_record_that_neither_stream_has_is_a_gap(crashable: Crashable) -> None:
    lines = [json_of(line) for line in crashable.whole[TAPE_FILE].splitlines(keepends=True)]
    del lines[1]
    renumbered = [frame(msgspec.json.encode(line | {"n": n})) for n, line in enumerate(lines, start=1)]
    (crashable.folder / TAPE_FILE).write_bytes(b"".join(renumbered))
    with pytest.raises(JournalError, match="a gap: record 2 is missing, record 3 is there"):
        list(read_journal(crashable.folder).records())


@pytest.mark.parametrize("stream", ["ledger", "tape"])
def test_a_missing_segment_is_a_gap(tmp_path: Path, stream: str) -> None:
    kernel = Kernel()
    journal = FileJournal.create(tmp_path, HEADER, kernel.snapshot, segment_bytes=4096)
    write_all(journal, kernel, mixed(200))
    journal.close_now()
    next(tmp_path.glob(f"{stream}-000002.log*")).unlink()
    with pytest.raises(JournalError, match=f"a gap in the {stream}"):
        list(read_journal(tmp_path).records())


def test_damage_in_a_compressed_segment_names_it(tmp_path: Path) -> None:
    kernel = Kernel()
    journal = FileJournal.create(tmp_path, HEADER, kernel.snapshot, segment_bytes=4096)
    write_all(journal, kernel, mixed(100))
    journal.close_now()
    path = tmp_path / "tape-000001.log.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(JournalError, match=path.name):
        list(read_journal(tmp_path).records())


def test_another_format_is_refused_in_one_sentence(crashable: Crashable) -> None:
    _, *rest = crashable.whole[LEDGER_FILE].splitlines(keepends=True)
    header = frame(msgspec.json.encode({"type": "HEADER", "format": 2, "else": 1}))
    (crashable.folder / LEDGER_FILE).write_bytes(header + b"".join(rest))
    with pytest.raises(JournalError, match=r"the journal is of format 2; this version reads format 1$"):
        read_journal(crashable.folder)


def test_segments_of_two_accounts_are_refused(crashable: Crashable, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    FileJournal.create(other, msgspec.structs.replace(HEADER, account="other"), Kernel(9).snapshot).close_now()
    shutil.copy(other / LEDGER_FILE, crashable.folder / "ledger-000002.log")
    with pytest.raises(JournalError, match=r"ledger-000002\.log: is of account 'other', the journal is of 'demo'"):
        list(read_journal(crashable.folder).records())


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "no such file or folder"), ("empty", "no journal there"), ("notes.txt", "not a part of a journal")],
)
def test_a_path_without_a_journal_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(JournalError, match=f"{name}: {message}"):
        read_journal(tmp_path / name)


def test_reading_streams(tmp_path: Path) -> None:
    """Damage far ahead does not keep the records before it from being read."""
    kernel, records = Kernel(), mixed(200)
    journal = FileJournal.create(tmp_path, HEADER, kernel.snapshot)
    write_all(journal, kernel, records)
    journal.close_now()
    path = tmp_path / TAPE_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-2] = lines[-2].replace(b"BTCUSDT", b"BTCUSDX")
    path.write_bytes(b"".join(lines))
    read: list[Record] = []
    with pytest.raises(JournalError, match="damaged"):
        read.extend(read_journal(tmp_path).records())
    stream = read_journal(tmp_path).records()
    assert [next(stream) for _ in range(190)] == records[:190]
    stream.close()
    assert all(a.seq + 1 == b.seq for a, b in pairwise(records))
