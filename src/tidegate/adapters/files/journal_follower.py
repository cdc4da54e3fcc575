"""Following a journal that is being written: the whole records that have reached the operating system, as they come.

1. Each stream is read on from where it was left, by the byte, over its segments. A line that is not whole yet waits.
2. A segment is left when the next one is there and everything of this one was read: it is never written again then. The
   open file outlives the segment's name, so its compression goes on unseen; one that was not opened yet is read packed.
3. Streams are merged by sequence number. A record whose other half is still on its way waits; one that both streams
   have passed is missing, and that is damage (``JournalError``).
4. A start in the middle begins with the last segment of each stream that holds nothing later.
5. A line that does not fit its checksum ends the journal when it is in the last segment: nothing after it was whole.
   A writer that goes on never makes one; power that was lost does.
"""

import gzip
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Generic, TypeVar, cast

import msgspec

from tidegate.adapters.files.journal_lines import (
    LEDGER,
    TAPE,
    EntryLine,
    JournalHeader,
    TapeLine,
    decode_ledger,
    decode_tape,
    number_of,
    segments,
    unframe,
)
from tidegate.adapters.files.journal_reader import open_segment, read_journal, whole_record
from tidegate.domain.errors import JournalError
from tidegate.domain.messages import Record

_BLOCK_BYTES = 64 << 10
_Line = TypeVar("_Line", EntryLine, TapeLine)


class JournalFollower:
    """The records of the journal in ``folder``, as they are written; the first one is not later than the one after
    ``after_seq``. Raises ``JournalError``.

    ``last_seq`` is the number of the last whole record, -1 before any. ``ended``: a torn line ended the journal.
    """

    def __init__(self, folder: Path, after_seq: int = 0) -> None:
        reader = read_journal(folder)
        self.folder, self.header, self.first_seq = folder, reader.header, reader.first_seq
        self.last_seq = -1
        self._ledger = _Tail(folder, LEDGER, _entry, after_seq)
        self._tape = _Tail(folder, TAPE, decode_tape, after_seq)
        self._next_seq: int | None = self.first_seq if self._ledger.whole and self._tape.whole else None

    @property
    def ended(self) -> bool:
        """Whether a torn line ended the journal."""
        return self._ledger.torn or self._tape.torn

    def read(self, most: int) -> list[Record]:
        """The next records, ``most`` at most of them; none when there are no more yet."""
        records: list[Record] = []
        for _ in range(most):
            record = self._step()
            if record is None:
                break
            self.last_seq = record.seq
            records.append(record)
        return records

    def close(self) -> None:
        """Close the files."""
        self._ledger.close()
        self._tape.close()

    def _step(self) -> Record | None:
        # The ledger is written out after the tape, so it is looked at first: what it has then, the tape has too.
        if self._next_seq is None:
            self._next_seq = self._begin()
        entry, taped = self._ledger.head(), self._tape.head()
        record = whole_record(self._next_seq, entry, taped, self.folder)
        if record is None:
            if entry is not None and taped is not None and min(entry.seq, taped.seq) > self._next_seq:
                raise JournalError(f"{self.folder}: a gap: record {self._next_seq} is missing")
            return None
        if entry is not None and entry.seq == record.seq:
            self._ledger.drop()
        if taped is not None and taped.seq == record.seq:
            self._tape.drop()
        self._next_seq += 1
        return record

    def _begin(self) -> int:
        """The first record of which both streams, begun in their middle, have what there is."""
        begin = max(self._ledger.first_seq or 0, self._tape.first_seq or 0)
        for tail in (self._ledger, self._tape):
            while (line := tail.head()) is not None and line.seq < begin:
                tail.drop()
        return begin


class _Tail(Generic[_Line]):
    """One stream, read on from where it was left."""

    def __init__(self, folder: Path, stream: str, decode: Callable[[bytes], _Line | None], after_seq: int) -> None:
        self._folder, self._stream = folder, stream
        self._decode: Callable[[bytes], _Line | None] = decode
        self._lines: deque[_Line] = deque()
        self._rest = b""
        self._file: IO[bytes] | None = None
        self._expected: int | None = 1
        self.torn = False
        self.first_seq: int | None = None
        self._number = self._start(after_seq)
        self.whole = self.first_seq is None

    def head(self) -> _Line | None:
        """The next line, if one is there."""
        while not self._lines and self._read():
            pass
        return self._lines[0] if self._lines else None

    def drop(self) -> None:
        """The next line was used."""
        self._lines.popleft()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _start(self, after_seq: int) -> int:
        """The number of the first segment to read: the last one whose first line is not after what is wanted."""
        paths = segments(self._folder, self._stream)
        for path in reversed(paths[1:]):
            first = self._first_line(path)
            if first is not None and first.seq <= after_seq + 1:
                self.first_seq, self._expected = first.seq, first.n
                return number_of(path)
        return number_of(paths[0]) if paths else 1

    def _first_line(self, path: Path) -> _Line | None:
        try:
            with open_segment(path) as file:
                for line in file:
                    body = unframe(line)
                    if body is None:
                        return None
                    if (found := self._decode(body)) is not None:
                        return found
        except FileNotFoundError:
            packed = path.with_name(path.name + ".gz")
            return self._first_line(packed) if path.suffix != ".gz" and packed.exists() else None
        except (OSError, EOFError, zlib.error, msgspec.MsgspecError) as error:
            raise JournalError(f"{path}: cannot be read: {error}") from error
        return None

    def _read(self) -> bool:
        """Take in the next block; False when there is nothing new."""
        if self.torn:
            return False
        try:
            if self._file is None:
                self._file = self._open(self._number)
                if self._file is None:
                    return False
            left = self._path(self._number + 1) is not None  # asked first: then this one is written to its end
            block = self._file.read(_BLOCK_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise JournalError(f"{self._folder}: {self._stream} segment {self._number}: {error}") from error
        if block:
            self._take(block, left)
            return True
        if not left:
            return False
        if self._rest:
            raise JournalError(f"{self._folder}: {self._stream} segment {self._number} ends within a line")
        self.close()
        self._number += 1
        return True

    def _take(self, block: bytes, left: bool) -> None:
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            body = unframe(line + b"\n")
            if body is None:
                if left:
                    raise JournalError(f"{self._folder}: {self._stream} segment {self._number}: a damaged line")
                self.torn = True
                return
            try:
                found = self._decode(body)
            except msgspec.MsgspecError as error:
                raise JournalError(f"{self._folder}: {self._stream} segment {self._number}: {error}") from None
            if found is None:
                continue
            if self._expected not in (None, found.n):
                raise JournalError(
                    f"{self._folder}: a gap in the {self._stream} before record {found.seq}: line {self._expected} is "
                    "missing"
                )
            self._expected = found.n + 1
            self._lines.append(found)

    def _path(self, number: int) -> Path | None:
        plain = self._folder / f"{self._stream}-{number:06d}.log"
        packed = plain.with_name(plain.name + ".gz")
        return plain if plain.exists() else packed if packed.exists() else None

    def _open(self, number: int) -> IO[bytes] | None:
        path = self._path(number)
        if path is None:
            return None
        try:
            return open_segment(path)
        except FileNotFoundError:  # it was packed between the two looks
            return cast(IO[bytes], gzip.open(path.with_name(path.name + ".gz")))


def _entry(body: bytes) -> EntryLine | None:
    """A record of the ledger; None for a header or a snapshot."""
    if body.startswith((b'{"type":"HEADER"', b'{"type":"SNAPSHOT"')):
        return None
    line = decode_ledger(body)
    return line if isinstance(line, EntryLine) else None


__all__ = ["JournalFollower", "JournalHeader"]
