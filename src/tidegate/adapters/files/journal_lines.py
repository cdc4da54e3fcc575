"""The format of the journal: one line ``length crc32 json``, the kinds of lines, and the names of the files.

``length`` is the number of bytes of the JSON, ``crc32`` its CRC-32 (``zlib.crc32``) in eight hex digits. Lines lie in
segments of two streams: ``ledger-NNNNNN.log`` (a header, a snapshot, then entries and further snapshots) and
``tape-NNNNNN.log`` (market events), which becomes ``tape-NNNNNN.log.gz`` when the next one is begun.
"""

import re
from collections.abc import Callable
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import msgspec

from tidegate.domain.errors import JournalError
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import (
    Bar,
    Depth,
    FeedGap,
    FeedState,
    FundingRate,
    InstrumentStatus,
    MarketEvent,
    MarkPrice,
    Quote,
    Trade,
)
from tidegate.domain.messages import Command, Event, KernelSnapshot, Record

FORMAT: Final = 1
"""Version of everything in this file; a reader refuses any other."""

LEDGER: Final = "ledger"
TAPE: Final = "tape"


class JournalHeader(msgspec.Struct, frozen=True):
    """Whose journal it is. ``configuration`` is plain JSON data, ``configuration_sha256`` the digest of what counts."""

    account: str
    gen: int
    configuration: dict[str, Any]
    configuration_sha256: str
    instruments: tuple[Instrument, ...]


class _HeaderLine(msgspec.Struct, tag="HEADER"):
    """First line of a ledger segment. The instruments are plain data: JSON has no infinity for an open bracket."""

    format: int
    account: str
    gen: int
    configuration: dict[str, Any]
    configuration_sha256: str
    instruments: list[dict[str, Any]]


class SnapshotLine(msgspec.Struct, tag="SNAPSHOT"):
    """The kernel after record ``seq``; the bytes as base64."""

    version: int
    seq: int
    data: bytes

    @classmethod
    def of(cls, snapshot: KernelSnapshot) -> "SnapshotLine":
        """The line that holds ``snapshot``."""
        return cls(snapshot.version, snapshot.seq, snapshot.data)

    def snapshot(self) -> KernelSnapshot:
        """The message that the line holds."""
        return KernelSnapshot(self.version, self.seq, self.data)


class EntryLine(msgspec.Struct, tag="RECORD"):
    """Line ``n`` of the ledger: what obliges. ``event`` is null when the event is on the tape."""

    seq: int
    n: int
    event: Event | None
    commands: tuple[Command, ...]


class TapeLine(msgspec.Struct, omit_defaults=True):
    """Line ``n`` of the tape: a market event as the kernel handled it.

    ``answered`` says that the ledger has the commands: without them the event alone would be another record.
    """

    seq: int
    n: int
    event: MarketEvent
    answered: bool = False


LedgerLine = JournalHeader | SnapshotLine | EntryLine


class _Version(msgspec.Struct):
    type: str
    format: int


_decode_entry: Final = msgspec.json.Decoder(SnapshotLine | EntryLine).decode
encode: Final = msgspec.json.Encoder().encode
decode_tape: Final = msgspec.json.Decoder(TapeLine).decode


def frame(body: bytes) -> bytes:
    """One line of a file around one JSON text."""
    return b"%d %08x %b\n" % (len(body), crc32(body), body)


def unframe(line: bytes) -> bytes | None:
    """The JSON text of a line; ``None`` for anything that ``frame`` did not make."""
    body = line[line.find(b" ") + 10 : -1]
    return body if frame(body) == line else None


# -- header ------------------------------------------------------------------------------------------------------------


def encode_header(header: JournalHeader) -> bytes:
    """The JSON of a header. Raises ``JournalError`` when reading it back would give another one."""
    line = _HeaderLine(
        FORMAT,
        header.account,
        header.gen,
        header.configuration,
        header.configuration_sha256,
        [msgspec.to_builtins(each) for each in header.instruments],
    )
    try:
        body = encode(line)
        exact = decode_header(body) == header
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise JournalError(f"the journal's header cannot be written: {error}") from None
    if not exact:
        raise JournalError("the journal's header cannot be written exactly: it holds more than plain, finite JSON data")
    return body


def decode_header(body: bytes) -> JournalHeader:
    """The header of a segment. Raises ``JournalError`` for another format, ``msgspec.MsgspecError`` for no header."""
    version = msgspec.json.decode(body, type=_Version)
    if version.format != FORMAT:
        raise JournalError(f"the journal is of format {version.format}; this version reads format {FORMAT}")
    line = msgspec.json.decode(body, type=_HeaderLine)
    for instrument in line.instruments:
        for bracket in instrument.get("brackets", ()):
            if bracket.get("cap_usdt", 0.0) is None:
                bracket["cap_usdt"] = inf
    instruments = msgspec.convert(line.instruments, tuple[Instrument, ...])
    return JournalHeader(line.account, line.gen, line.configuration, line.configuration_sha256, instruments)


def decode_ledger(body: bytes) -> LedgerLine:
    """A line of the ledger. Raises like ``decode_header``."""
    return decode_header(body) if body.startswith(b'{"type":"HEADER"') else _decode_entry(body)


# -- finite floats -----------------------------------------------------------------------------------------------------


_EXACT: Final = (
    msgspec.inspect.BoolType,
    msgspec.inspect.DecimalType,
    msgspec.inspect.EnumType,
    msgspec.inspect.IntType,
    msgspec.inspect.NoneType,
    msgspec.inspect.StrType,
)
"""Types of fields that are never looked into."""


def _finite(value: float) -> bool:
    return value - value == 0.0


MARKET_EVENTS: Final[dict[type, Callable[[Any], bool]]] = {
    Bar: lambda e: _finite(e.open + e.high + e.low + e.close + e.volume),
    Quote: lambda e: _finite(e.bid + e.ask + e.bid_qty + e.ask_qty),
    Trade: lambda e: _finite(e.price + e.qty),
    Depth: lambda e: _non_finite((e.bids, e.asks)) is None,
    MarkPrice: lambda e: _finite(e.price),
    FundingRate: lambda e: _finite(e.rate),
    InstrumentStatus: lambda _: True,
    FeedGap: lambda _: True,
    FeedState: lambda _: True,
}
"""The events of the tape, each with a quick test of its floats; false may also mean a sum out of range."""


def require_finite(record: Record) -> None:
    """Raise ``JournalError`` when a record has a float that is not finite: JSON would hand it back as null."""
    for name, message in (
        ("event", record.event),
        *((f"commands[{i}]", each) for i, each in enumerate(record.commands)),
    ):
        path = _non_finite(message, f"{type(message).__name__}")
        if path is not None:
            raise JournalError(f"record {record.seq} cannot be written: {path} of its {name} is not finite")


def _non_finite(value: object, path: str = "") -> str | None:
    """Where the first float that is not finite lies; ``None`` when there is none."""
    if isinstance(value, float):
        return None if _finite(value) else path
    if isinstance(value, msgspec.Struct):
        parts = [(f"{path}.{name}", getattr(value, name)) for name in _may_hold_floats(type(value))]
    elif isinstance(value, tuple):
        parts = [(f"{path}[{index}]", part) for index, part in enumerate(value)]
    else:
        return None
    return next((found for name, part in parts if (found := _non_finite(part, name)) is not None), None)


@cache
def _may_hold_floats(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields of a message in which a float can lie, however deep."""
    found = msgspec.inspect.type_info(kind)
    assert isinstance(found, msgspec.inspect.StructType)
    return tuple(field.name for field in found.fields if not _is_exact(field.type))


def _is_exact(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return all(_is_exact(each) for each in kind.types)
    return isinstance(kind, _EXACT)


# -- files -------------------------------------------------------------------------------------------------------------

_NAME = re.compile(rf"({LEDGER}|{TAPE})-(\d{{6}})\.log(\.gz)?")


def segment(folder: Path, stream: str, number: int) -> Path:
    """The file of a segment that is not compressed."""
    return folder / f"{stream}-{number:06d}.log"


def is_segment(path: Path) -> bool:
    """Whether a path is named like a part of a journal."""
    return _NAME.fullmatch(path.name) is not None


def segments(folder: Path, stream: str) -> list[Path]:
    """The segments of a stream in order. Where a segment lies there both ways, the compressed one is whole."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob(f"{stream}-*.log*")):
        if is_segment(path):
            found[path.name.removesuffix(".gz")] = path  # "x.log.gz" sorts after "x.log"
    return list(found.values())


def number_of(path: Path) -> int:
    """The number in a segment's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not a segment of a journal")
    return int(match[2])
