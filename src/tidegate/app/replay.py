"""Replay: every record of a journal through a fresh kernel, every command compared. There must be no difference."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from tidegate.domain.errors import JournalError
from tidegate.domain.messages import Command, Event, KernelSnapshot, Record
from tidegate.kernel.kernel import Kernel

Progress = Callable[[int], None]
PROGRESS_EVERY = 5_000
"""Records between two calls of a progress callback."""


class Reader(Protocol):
    """What replay needs of a journal on disk."""

    def records(self, from_seq: int = 0) -> Iterator[Record]: ...

    def snapshots(self) -> Iterator[KernelSnapshot]: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """The first record at which the kernel answered otherwise. ``expected`` is what the journal has."""

    seq: int
    event: Event | None
    expected: str
    got: str

    def __str__(self) -> str:
        name = "the kernel's state" if self.event is None else f"{type(self.event).__name__} of {self.event.ts_ns}"
        return f"record {self.seq}, {name}: the journal has {self.expected}; replay gives {self.got}"


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What was replayed: records and commands compared, snapshots that the kernel's state was compared with."""

    first_seq: int
    records: int
    commands: int
    snapshots: int
    difference: Difference | None

    @property
    def same(self) -> bool:
        """True when every command and every snapshot agreed."""
        return self.difference is None

    def as_dict(self) -> dict[str, object]:
        """The report as plain data."""
        found = self.difference
        return {
            "first_seq": self.first_seq,
            "records": self.records,
            "commands": self.commands,
            "snapshots": self.snapshots,
            "difference": None
            if found is None
            else {
                "seq": found.seq,
                "event": None if found.event is None else msgspec.to_builtins(found.event),
                "expected": found.expected,
                "got": found.got,
            },
        }


def replay(reader: Reader, kernel: Kernel, *, from_seq: int = 0, progress: Progress | None = None) -> ReplayReport:
    """Run the journal through a fresh ``kernel``, configured as its header says, up to the first difference.

    The kernel starts from the journal's newest snapshot before record ``from_seq``, and is compared with every later
    one. ``progress`` is told the number of the record from time to time. Raises ``JournalError`` when the journal has
    no snapshot to start from or is damaged, ``InvariantBroken`` when the snapshot is of another configuration.
    """
    start = _start(reader, from_seq)
    kernel.load(start)
    snapshots = (each for each in reader.snapshots() if each.seq > start.seq)
    pending = next(snapshots, None)
    records = commands = compared = 0
    difference: Difference | None = None
    for record in reader.records(start.seq + 1):
        got = _answer(kernel, record.event)
        records += 1
        commands += len(record.commands)
        if got != record.commands:
            difference = _differing(record, got)
            break
        while pending is not None and pending.seq <= record.seq:
            if pending.seq == record.seq:
                compared += 1
                difference = difference or _state(pending, kernel.snapshot())
            pending = next(snapshots, None)
        if difference is not None:
            break
        if progress is not None and records % PROGRESS_EVERY == 0:
            progress(record.seq)
    return ReplayReport(start.seq + 1, records, commands, compared, difference)


def _start(reader: Reader, from_seq: int) -> KernelSnapshot:
    """The newest snapshot before ``from_seq``; the very first one when that is none."""
    chosen: KernelSnapshot | None = None
    for snapshot in reader.snapshots():
        if chosen is not None and snapshot.seq >= from_seq:
            break
        chosen = snapshot
    if chosen is None:
        raise JournalError("the journal has no snapshot to start from")
    return chosen


def _answer(kernel: Kernel, event: Event) -> tuple[Command, ...] | Exception:
    try:
        return tuple(kernel.handle(event))
    except Exception as error:  # a kernel that raises is a difference, to be reported like any other
        return error


def _differing(record: Record, got: tuple[Command, ...] | Exception) -> Difference:
    """Name the first command that differs, or what is missing or too much."""
    if isinstance(got, Exception):
        raised = f"an exception, {type(got).__name__}: {got}"
        return Difference(record.seq, record.event, _listed(record.commands), raised)
    pairs = zip(record.commands, got, strict=False)
    at = next((k for k, (one, other) in enumerate(pairs) if one != other), min(len(record.commands), len(got)))
    return Difference(record.seq, record.event, _nth(record.commands, at), _nth(got, at))


def _nth(commands: Sequence[Command], at: int) -> str:
    return repr(commands[at]) if at < len(commands) else f"no command {at + 1}"


def _listed(commands: Sequence[Command]) -> str:
    return ", ".join(repr(each) for each in commands) or "no commands"


def _state(kept: KernelSnapshot, now: KernelSnapshot) -> Difference | None:
    """A snapshot in the journal against the replayed kernel: equal bytes, or equal content in another order."""
    if kept == now:
        return None
    one, other = (msgspec.msgpack.decode(each.data) for each in (kept, now))
    names = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    if not names and kept.version == now.version:
        return None
    name = names[0] if names else "version"
    return Difference(kept.seq, None, f"{name} {one.get(name)!r}", f"{name} {other.get(name)!r}")
