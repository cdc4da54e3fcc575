"""The in-memory twin of the journal on disk."""

from collections.abc import AsyncIterator

import msgspec

from tidegate.domain.errors import JournalError
from tidegate.domain.messages import Record


class MemoryJournal:
    """Keeps the encoded records in a list; ``durable`` holds those whose durable append has returned, and all before.

    ``fail_after`` makes the disk fail at that many records, for tests of what the shell does then.
    """

    def __init__(self, last_seq: int = 0, fail_after: int | None = None) -> None:
        self._last_seq = last_seq
        self._lines: list[bytes] = []
        self._durable = 0
        self._refusal: str | None = None
        self._fail_after = fail_after

    @property
    def records(self) -> list[Record]:
        """Everything appended."""
        return [msgspec.json.decode(line, type=Record) for line in self._lines]

    @property
    def durable(self) -> list[Record]:
        """What would survive a loss of power."""
        return self.records[: self._durable]

    async def append(self, record: Record, *, durable: bool) -> None:
        if self._refusal is not None or record.seq != self._last_seq + 1:
            raise JournalError(self._refusal or f"record {record.seq} does not follow record {self._last_seq}")
        if self._fail_after is not None and len(self._lines) >= self._fail_after:
            self._refusal = "the journal has failed and takes no more records: no space left"
            raise JournalError(self._refusal)
        line = msgspec.json.encode(record)
        try:
            exact = msgspec.json.decode(line, type=Record) == record
        except msgspec.ValidationError:
            exact = False
        if not exact:
            raise JournalError(f"record {record.seq} cannot be written: a float is not finite")
        self._lines.append(line)
        self._last_seq = record.seq
        if durable:
            self._durable = len(self._lines)

    async def replay(self, from_seq: int = 0) -> AsyncIterator[Record]:
        for record in self.records:
            if record.seq >= from_seq:
                yield record

    async def close(self) -> None:
        self._durable = len(self._lines)
        self._refusal = self._refusal or "the journal is closed"
