"""Reading a journal: both streams, line by line, merged by sequence number and checked on the way.

1. A line whose length or checksum is wrong, with sound lines after it, is damage: ``JournalError``.
2. The same at the very end of a stream's last segment is a torn tail, what a crash leaves: it is cut, with a note.
3. The lines of a stream are numbered, so a line or a whole segment that is missing in the middle is damage.
4. A cut tail may have held one half of a record, or a record whose successors are in the other stream:
   the records end before it, with a note.
"""

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar, cast

import msgspec

from tidegate.adapters.files.journal_lines import (
    LEDGER,
    TAPE,
    EntryLine,
    JournalHeader,
    LedgerLine,
    SnapshotLine,
    TapeLine,
    decode_ledger,
    decode_tape,
    is_segment,
    segments,
    unframe,
)
from tidegate.domain.errors import JournalError
from tidegate.domain.messages import KernelSnapshot, Record

_Line = TypeVar("_Line", bound=LedgerLine | TapeLine)
_Numbered = TypeVar("_Numbered", EntryLine, TapeLine)


def read_journal(path: Path) -> "JournalReader":
    """The journal in the folder ``path``, or the one that the file ``path`` is a part of. Raises ``JournalError``."""
    if not path.exists():
        raise JournalError(f"{path}: no such file or folder")
    folder = path if path.is_dir() else path.parent
    if folder is not path and not is_segment(path):
        raise JournalError(f"{path}: not a part of a journal; name its folder, or a file like ledger-000001.log in it")
    if not segments(folder, LEDGER):
        raise JournalError(f"{folder}: no journal there; a journal has a file ledger-000001.log")
    return JournalReader(folder)


class JournalReader:
    """A journal on disk. ``notes`` says what was cut, once ``records`` or ``snapshots`` has come to its end.

    ``first_seq`` is the number of the first record; ``lines_read`` counts, by stream, the lines that made the records.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self.lines_read = {LEDGER: 0, TAPE: 0}
        opening = self._ledger()
        header, snapshot = next(opening, None), next(opening, None)
        if not isinstance(header, JournalHeader) or not isinstance(snapshot, SnapshotLine):
            raise JournalError(f"{segments(folder, LEDGER)[0]}: does not begin with a whole header and snapshot")
        self.header = header
        self.first_seq = snapshot.seq + 1

    def records(self, from_seq: int = 0) -> Iterator[Record]:
        """The records from ``from_seq`` on, in order, read as they are asked for. Raises ``JournalError``."""
        self.notes.clear()
        self.lines_read = {LEDGER: 0, TAPE: 0}
        entries = self._numbered((line for line in self._ledger() if isinstance(line, EntryLine)), LEDGER)
        events = self._numbered(self._tape(), TAPE)
        seq = self.first_seq
        entry, taped = next(entries, None), next(events, None)
        while entry is not None or taped is not None:
            record = whole_record(seq, entry, taped, self.folder)
            if record is None:
                self._end(seq, entry, taped)
                return
            on_ledger = entry is not None and entry.seq == seq
            on_tape = taped is not None and taped.seq == seq
            self.lines_read[LEDGER] += on_ledger
            self.lines_read[TAPE] += on_tape
            if seq >= from_seq:
                yield record
            seq += 1
            entry = next(entries, None) if on_ledger else entry
            taped = next(events, None) if on_tape else taped

    def snapshots(self) -> Iterator[KernelSnapshot]:
        """The snapshots in order, the first of them that of the start. Raises ``JournalError``.

        After a crash the last ones may lie past the last whole record; ``FileJournal.reopen`` cuts those.
        """
        self.notes.clear()
        return (line.snapshot() for line in self._ledger() if isinstance(line, SnapshotLine))

    def _ledger(self) -> Iterator[LedgerLine]:
        paths = segments(self.folder, LEDGER)
        account: str | None = None
        for path in paths:
            lines = _lines(path, decode_ledger, path is paths[-1], self.notes)
            header = next(lines, None)
            if header is None and path is paths[-1]:
                return  # the segment had just been begun
            if not isinstance(header, JournalHeader):
                raise JournalError(f"{path}: does not begin with a header")
            if account not in (None, header.account):
                raise JournalError(f"{path}: is of account {header.account!r}, the journal is of {account!r}")
            account = header.account
            yield header
            yield from lines

    def _tape(self) -> Iterator[TapeLine]:
        paths = segments(self.folder, TAPE)
        for path in paths:
            yield from _lines(path, decode_tape, path is paths[-1], self.notes)

    def _numbered(self, lines: Iterator[_Numbered], stream: str) -> Iterator[_Numbered]:
        expected = 1
        for line in lines:
            if line.n != expected:
                raise JournalError(
                    f"{self.folder}: a gap in the {stream} before record {line.seq}: line {expected} is missing"
                )
            expected += 1
            yield line

    def _end(self, seq: int, entry: EntryLine | None, taped: TapeLine | None) -> None:
        """Record ``seq`` is not whole though lines follow: what a cut tail explains is noted, the rest is damage."""
        following = [line.seq for line in (entry, taped) if line is not None]
        if len(following) == 2 or following[0] < seq:
            raise JournalError(f"{self.folder}: a gap: record {seq} is missing, record {min(following)} is there")
        lost = TAPE if taped is None else LEDGER
        self.notes.append(f"{self.folder}: the records end before {seq}: its line in the {lost} was lost")


def whole_record(seq: int, entry: EntryLine | None, taped: TapeLine | None, folder: Path) -> Record | None:
    """Record ``seq`` of the next line of each stream; None while a half of it is not there. Raises ``JournalError``."""
    on_ledger = entry if entry is not None and entry.seq == seq else None
    on_tape = taped if taped is not None and taped.seq == seq else None
    event = on_tape.event if on_tape is not None else on_ledger.event if on_ledger is not None else None
    if event is None or (on_tape is not None and on_tape.answered and on_ledger is None):
        return None
    if on_tape is not None and on_ledger is not None and on_ledger.event is not None:
        raise JournalError(f"{folder}: record {seq} has an event in both streams")
    return Record(seq, event, on_ledger.commands if on_ledger is not None else ())


def _lines(path: Path, decode: Callable[[bytes], _Line], last: bool, notes: list[str]) -> Iterator[_Line]:
    offset = 0
    try:
        with open_segment(path) as file:
            for number, line in enumerate(file, 1):
                where = f"{path} line {number} (byte {offset})"
                body = unframe(line)
                if body is None:
                    if not last or any(unframe(rest) is not None for rest in file):
                        raise JournalError(f"{where}: damaged, its length or checksum does not fit")
                    notes.append(f"{where}: a torn tail, cut")
                    return
                yield _decoded(body, decode, where)
                offset += len(line)
    except (OSError, EOFError, zlib.error) as error:
        raise JournalError(f"{path}: cannot be read: {error}") from error


def open_segment(path: Path) -> IO[bytes]:
    """A segment for reading, packed or not."""
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _decoded(body: bytes, decode: Callable[[bytes], _Line], where: str) -> _Line:
    try:
        return decode(body)
    except (msgspec.MsgspecError, JournalError) as error:
        raise JournalError(f"{where}: {error}") from None


def cut(folder: Path, stream: str, last_seq: int) -> None:
    """Take from a stream, in place, everything that is torn or belongs to records after ``last_seq``."""
    decode = decode_ledger if stream == LEDGER else decode_tape
    for path in reversed(segments(folder, stream)):
        end, whole = _sound(path, decode, last_seq)
        if not whole and path.suffix == ".gz":
            raise JournalError(f"{path}: is compressed, but belongs to records after {last_seq}, which are lost")
        if not whole:
            with path.open("r+b") as file:
                file.truncate(end)
                os.fsync(file.fileno())
        if end:
            return  # all before it belongs to earlier records
        if stream == LEDGER:
            path.unlink()  # a segment without header and snapshot is none


def _sound(path: Path, decode: Callable[[bytes], LedgerLine | TapeLine], last_seq: int) -> tuple[int, bool]:
    """Where the part of a segment ends that is to stay, and whether that is all of it."""
    position = end = 0
    with open_segment(path) as file:
        for line in file:
            body = unframe(line)
            content = decode(body) if body is not None else None
            if content is None or (not isinstance(content, JournalHeader) and content.seq > last_seq):
                return end, False
            position += len(line)
            if not isinstance(content, JournalHeader):
                end = position  # a header stays with the snapshot after it
    return end, end == position
