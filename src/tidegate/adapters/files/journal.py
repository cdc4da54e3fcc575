"""The journal on disk: append-only, two streams, what obliges is durable before anything else happens.

1. A record is encoded whole before a byte of it is kept, so a refused record leaves no trace.
2. A market event goes to the tape, every other event and all commands go to the ledger; both carry ``seq``.
3. ``durable`` writes both streams out, then syncs the tape, then the ledger: a ledger line on disk has its event.
4. Before a segment is left, both streams are synced: a crash can only tear the last segments.
5. A ledger segment gets its name when its header and snapshot are on disk: it is never seen without them.
6. An error of the disk ends the journal. A failed fsync may have dropped the pages: to try again would be to guess.
"""

import gzip
import os
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from msgspec import MsgspecError

from tidegate.adapters.files.journal_lines import (
    LEDGER,
    MARKET_EVENTS,
    TAPE,
    EntryLine,
    JournalHeader,
    SnapshotLine,
    TapeLine,
    encode,
    encode_header,
    frame,
    number_of,
    require_finite,
    segment,
    segments,
)
from tidegate.adapters.files.journal_reader import JournalReader, cut, read_journal
from tidegate.domain.errors import JournalError
from tidegate.domain.messages import KernelSnapshot, Record

__all__ = ["FileJournal", "JournalHeader", "JournalReader", "read_journal"]

_BLOCK_BYTES = 256 << 10


class FileJournal:
    """The ``Journal`` port over a folder, with a synchronous core: ``write``, ``flush``, ``close_now``.

    ``snapshot`` is asked for the kernel's state at the start, after every ``snapshot_every`` records and at the head
    of each ledger segment; its ``seq`` must be that of the last record written. ``fsync=False`` leaves it to the
    machine when bytes reach the disk. Make one with ``create`` or ``reopen``. Everything raises ``JournalError``, and
    after an error of the disk every write does.
    """

    def __init__(
        self,
        folder: Path,
        header: JournalHeader,
        snapshot: Callable[[], KernelSnapshot],
        limits: "_Limits",
        *,
        entries: int = 0,
        events: int = 0,
    ) -> None:
        """Begin new segments after ``entries`` lines of the ledger and ``events`` lines of the tape."""
        self.notes: list[str] = []
        self._folder, self._header, self._snapshot, self._limits = folder, encode_header(header), snapshot, limits
        self._refusal: str | None = None
        self._packer = ThreadPoolExecutor(1, thread_name_prefix="journal-gzip")
        self._packing: list[tuple[Path, Future[None]]] = []
        first = snapshot()
        self._seq = self._snapshot_seq = first.seq
        self._ledger = _Stream(folder, LEDGER, entries, limits.fsync, self._opening(first))
        self._tape = _Stream(folder, TAPE, events, limits.fsync, b"")

    @classmethod
    def create(
        cls,
        folder: Path,
        header: JournalHeader,
        snapshot: Callable[[], KernelSnapshot],
        *,
        segment_bytes: int = 16 << 20,
        snapshot_every: int = 50_000,
        fsync: bool = True,
    ) -> "FileJournal":
        """A new journal in ``folder``, which is made when it is not there and must not hold one yet."""
        if segments(folder, LEDGER) or segments(folder, TAPE):
            raise JournalError(f"{folder}: there is a journal already; reopen it, or name another folder")
        if folder.is_dir() and any(folder.iterdir()):
            raise JournalError(f"{folder}: a journal begins in an empty folder, and this one holds other files")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return cls(folder, header, snapshot, _Limits(segment_bytes, snapshot_every, fsync))
        except OSError as error:
            raise JournalError(f"{folder}: the journal cannot be begun: {error}") from error

    @classmethod
    def reopen(
        cls,
        folder: Path,
        header: JournalHeader,
        snapshot: Callable[[], KernelSnapshot],
        *,
        segment_bytes: int = 16 << 20,
        snapshot_every: int = 50_000,
        fsync: bool = True,
    ) -> "FileJournal":
        """Go on with the journal in ``folder``: cut what a crash tore (see ``notes``) and begin new segments.

        ``snapshot`` gives the kernel as the journal's last whole record left it: read and replay it first.
        """
        reader = read_journal(folder)
        if reader.header.account != header.account:
            raise JournalError(f"{folder}: is of account {reader.header.account!r}, not {header.account!r}")
        last_seq = reader.first_seq - 1
        for record in reader.records():
            last_seq = record.seq
        if (given := snapshot().seq) != last_seq:
            raise JournalError(f"{folder}: ends with record {last_seq}, but the kernel is at record {given}")
        limits, counts = _Limits(segment_bytes, snapshot_every, fsync), reader.lines_read
        try:
            for stream in (LEDGER, TAPE):
                cut(folder, stream, last_seq)
            journal = cls(folder, header, snapshot, limits, entries=counts[LEDGER], events=counts[TAPE])
        except OSError as error:
            raise JournalError(f"{folder}: the journal cannot be reopened: {error}") from error
        journal.notes += reader.notes
        for path in segments(folder, TAPE)[:-1]:
            if path.suffix == ".gz":
                path.with_suffix("").unlink(missing_ok=True)  # left when the compression was cut short at its end
            else:
                journal._pack(path)
        return journal

    @property
    def last_seq(self) -> int:
        """The number of the last record taken in."""
        return self._seq

    def write(self, record: Record, *, durable: bool) -> None:
        """Take a record in; with ``durable`` it is on disk when this returns, else when the buffers are written."""
        seq, event, commands = record.seq, record.event, record.commands
        tape, ledger = self._tape, self._ledger
        if self._refusal is not None or seq != self._seq + 1:
            raise JournalError(self._refusal or f"record {seq} does not follow record {self._seq}")
        finite = MARKET_EVENTS.get(type(event))
        if commands or finite is None or not finite(event):
            require_finite(record)
        taped = entry = b""
        try:
            if finite is not None:
                taped = encode(TapeLine(seq, tape.lines + 1, event, bool(commands)))  # type: ignore[arg-type]
            if commands or finite is None:
                entry = encode(EntryLine(seq, ledger.lines + 1, event if finite is None else None, commands))
        except (TypeError, ValueError, MsgspecError) as error:
            raise JournalError(f"record {seq} cannot be written: {error}") from None
        if taped:
            tape.put(taped)
        if entry:
            ledger.put(entry)
        self._seq = seq
        if durable:
            self._sync()
        elif len(tape.buffer) + len(ledger.buffer) > _BLOCK_BYTES:
            self.flush()
        if seq - self._snapshot_seq >= self._limits.snapshot_every:
            self._ledger.put_plain(encode(SnapshotLine.of(self._current())))
        if tape.size >= self._limits.segment_bytes or ledger.size >= self._limits.segment_bytes:
            self._rotate()

    def flush(self) -> None:
        """Hand what is buffered to the operating system: it outlives the process, not the machine."""
        self._run(self._write_out)

    def close_now(self) -> None:
        """Make everything durable and close the files; to close again does nothing."""
        if self._tape.file.closed:
            return
        try:
            if self._refusal is None:
                self._sync()
        finally:
            self._refusal = self._refusal or f"{self._folder}: the journal is closed"
            self._tape.file.close()
            self._ledger.file.close()
            self._await_packing()
            self._packer.shutdown()

    async def append(self, record: Record, *, durable: bool) -> None:
        """``write``, for the port. It blocks for as long as the disk takes."""
        self.write(record, durable=durable)

    async def replay(self, from_seq: int = 0) -> AsyncIterator[Record]:
        """The records written so far, from ``from_seq`` on."""
        if self._refusal is None:
            self.flush()
        self._await_packing()
        for record in read_journal(self._folder).records(from_seq):
            yield record

    async def close(self) -> None:
        """``close_now``, for the port."""
        self.close_now()

    def _opening(self, snapshot: KernelSnapshot) -> bytes:
        return frame(self._header) + frame(encode(SnapshotLine.of(snapshot)))

    def _write_out(self) -> None:
        self._tape.write_out()
        self._ledger.write_out()

    def _sync(self) -> None:
        self._run(self._write_out, self._tape.sync, self._ledger.sync)

    def _rotate(self) -> None:
        """Leave the segments that are full, both streams being safe on disk first."""
        self._sync()
        if self._tape.size >= self._limits.segment_bytes:
            full = self._tape.path
            self._run(self._tape.next_segment)
            self._pack(full)
        if self._ledger.size >= self._limits.segment_bytes:
            opening = self._opening(self._current())
            self._run(lambda: self._ledger.next_segment(opening))

    def _current(self) -> KernelSnapshot:
        snapshot = self._snapshot()
        if snapshot.seq != self._seq:
            self._refusal = f"the snapshot is of record {snapshot.seq}, the journal is at record {self._seq}"
            raise JournalError(self._refusal)
        self._snapshot_seq = snapshot.seq
        return snapshot

    def _run(self, *steps: Callable[[], None]) -> None:
        if self._refusal is not None:
            raise JournalError(self._refusal)
        try:
            for step in steps:
                step()
        except OSError as error:
            self._refusal = f"{self._folder}: the journal has failed and takes no more records: {error}"
            raise JournalError(self._refusal) from error

    def _pack(self, path: Path) -> None:
        self._packing.append((path, self._packer.submit(_compress, path)))

    def _await_packing(self) -> None:
        for path, packed in self._packing:
            if (error := packed.exception()) is not None:
                self.notes.append(f"{path}: stays uncompressed: {error}")
        self._packing.clear()


@dataclass(frozen=True, slots=True)
class _Limits:
    segment_bytes: int
    snapshot_every: int
    fsync: bool


class _Stream:
    """One stream as it is written: a buffer before the file of its newest segment."""

    def __init__(self, folder: Path, name: str, lines: int, fsync: bool, opening: bytes) -> None:
        there = segments(folder, name)
        self._folder, self._name, self._fsync = folder, name, fsync
        self._number = number_of(there[-1]) if there else 0
        self.lines = lines  # numbered ones, over all segments
        self.buffer = bytearray()
        self._begin(opening)

    def next_segment(self, opening: bytes = b"") -> None:
        """Leave the segment, which must be written out, for the next one."""
        self.file.close()
        self._begin(opening)

    def _begin(self, opening: bytes) -> None:
        # The draft gets the segment's name when it is on disk: nobody sees half an opening.
        self._number += 1
        self.path = segment(self._folder, self._name, self._number)
        draft = self.path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(opening)
            file.flush()
            self._sync_file(file.fileno())
        draft.rename(self.path)
        self._sync_folder()
        self.file = self.path.open("ab", buffering=0)
        self.size = len(opening)
        self._dirty = False

    def put(self, body: bytes) -> None:
        """Buffer one numbered line."""
        self.lines += 1
        self.put_plain(body)

    def put_plain(self, body: bytes) -> None:
        """Buffer one line that is not counted: a snapshot."""
        line = frame(body)
        self.buffer += line
        self.size += len(line)

    def write_out(self) -> None:
        """Hand the buffer to the operating system."""
        if self.buffer:
            self._dirty = True
            rest = memoryview(bytes(self.buffer))
            while rest:
                rest = rest[self.file.write(rest) :]
            self.buffer.clear()

    def sync(self) -> None:
        """Wait until what was written out is on disk."""
        if self._dirty:
            self._sync_file(self.file.fileno())
            self._dirty = False

    def _sync_file(self, fd: int) -> None:
        if self._fsync:
            os.fsync(fd)

    def _sync_folder(self) -> None:
        if self._fsync and os.name != "nt":  # Windows cannot open a folder, and needs not
            fd = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _compress(path: Path) -> None:
    """Replace a segment by its compressed form; at every instant one of them is whole."""
    packed = path.with_name(path.name + ".gz")
    draft = path.with_name(packed.name + ".draft")
    with path.open("rb") as plain, draft.open("wb") as raw:
        with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as file:
            shutil.copyfileobj(plain, file, _BLOCK_BYTES)
        raw.flush()
        os.fsync(raw.fileno())
    draft.rename(packed)
    path.unlink()
