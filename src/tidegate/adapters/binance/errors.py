"""What an answer of the venue means for the request: the catalogue of codes as data, and one function that reads it.

Source: error page of the futures reference; where a code has been seen to lie (a "failed" order that had executed),
the cautious reading is the one in the table. An order is called refused only when it certainly does not exist.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from tidegate.domain.errors import NotAuthorised, VenueError, VenueUnavailable
from tidegate.domain.orders import RejectCause

_SHOWN_CHARS: Final = 200
_SECRET_PAIR = re.compile(r"(?i)\b(signature|listenKey|apiKey)(\W{1,3})[\w%+/=.~-]+")
_BANNED_UNTIL = re.compile(r"(?i)banned until (\d{12,16})")


class Kind(Enum):
    """What a code says about the request that it answers."""

    REFUSED = "REFUSED"  # certainly not done
    FAILED = "FAILED"  # documented as not done; not believed for an order that increases risk
    UNKNOWN = "UNKNOWN"  # done or not, nobody knows
    NOT_FOUND = "NOT_FOUND"  # no such order, now; never the end of an order by itself
    DUPLICATE = "DUPLICATE"  # an earlier request under this id did arrive
    UNCHANGED = "UNCHANGED"  # said to be so already; what is read back decides
    RATE = "RATE"  # not done, too much was asked
    CLOCK = "CLOCK"  # not done, outside of the time window
    AUTH = "AUTH"  # key, address, permission or signature


class Reaction(Enum):
    """What the caller does next."""

    RETRY = "RETRY"  # again after a back-off, an order as a new attempt
    RESOLVE = "RESOLVE"  # find out what became of the request; never send again
    RESYNC_CLOCK = "RESYNC_CLOCK"  # measure the offset anew; a query once more, an order is decided anew
    REFRESH = "REFRESH"  # read the state that the code doubts, then decide
    REFRESH_RULES = "REFRESH_RULES"  # filters, brackets or symbols have changed: read them, the order is over
    REJECT = "REJECT"  # final for this order
    FIX = "FIX"  # a defect of ours: stop the caller
    PAUSE = "PAUSE"  # wait for the window to end
    HALT = "HALT"  # stop trading, page
    READ_BACK = "READ_BACK"  # read the actual setting and decide on that
    SKIP = "SKIP"  # a setting is blocked by orders, positions or the mode: leave it, warn
    ADOPT = "ADOPT"  # the order exists: query it and take it as ours
    FLATTEN = "FLATTEN"  # the price is through the stop: close at market
    EXITS_ONLY = "EXITS_ONLY"  # stop opening, alert
    RENEW_KEY = "RENEW_KEY"  # a new listen key and a new connection


class Context(Enum):
    """What kind of request was answered."""

    INCREASING = "INCREASING"  # an order or amendment that can add risk
    REDUCING = "REDUCING"  # an order that can only reduce
    CANCEL = "CANCEL"
    SETTING = "SETTING"
    QUERY = "QUERY"


_TRADING = frozenset({Context.INCREASING, Context.REDUCING, Context.CANCEL})


@dataclass(frozen=True, slots=True)
class Entry:
    """One code of the catalogue."""

    code: int
    kind: Kind
    reaction: Reaction
    cause: RejectCause

    @property
    def doubtful(self) -> bool:
        """Whether the code leaves open what became of an order, under whatever status it comes."""
        return self.kind in (Kind.UNKNOWN, Kind.FAILED)


_REFUSING: Final = frozenset({200, 400, 401, 403, 404, 418, 422, 429})
"""Statuses under which a whole answer with a code that nobody knows is a refusal of the placement that it answers; 200
is that of one item of a batch."""
_PLACING: Final = frozenset({Context.INCREASING, Context.REDUCING})

_Row = tuple[tuple[int | range, ...], Kind, Reaction, RejectCause]
_K, _R, _C = Kind, Reaction, RejectCause


def _down(first: int, last: int) -> range:
    """The codes from ``first`` down to ``last``, both included."""
    return range(first, last - 1, -1)


_ROWS: Final[tuple[_Row, ...]] = (
    ((-1000, -1006, -1007, -1016), _K.UNKNOWN, _R.RESOLVE, _C.OTHER),
    ((-1001, -1008), _K.FAILED, _R.RETRY, _C.OVERLOADED),
    ((-1002, -1022, -2008, -2014, -2015, -2017, -4056), _K.AUTH, _R.HALT, _C.OTHER),
    ((-1003, -1015), _K.RATE, _R.PAUSE, _C.RATE),
    ((-1021, -5028), _K.CLOCK, _R.RESYNC_CLOCK, _C.CLOCK),
    ((-1013,), _K.REFUSED, _R.REFRESH_RULES, _C.RULES),
    ((-1010,), _K.REFUSED, _R.REJECT, _C.OTHER),
    ((-1014, -1020, _down(-1115, -1117), -1120, -1128, -1130, -1136), _K.REFUSED, _R.FIX, _C.RULES),
    ((_down(-1100, -1106), _down(-1108, -1110), -1114, -1118, -1119, -1126), _K.REFUSED, _R.FIX, _C.RULES),
    ((-1112,), _K.REFUSED, _R.RETRY, _C.OVERLOADED),
    ((-1111, -1121), _K.REFUSED, _R.REFRESH_RULES, _C.RULES),
    ((-1122, -4140, -4141, -5024), _K.REFUSED, _R.EXITS_ONLY, _C.NOT_TRADING),
    ((-1125,), _K.REFUSED, _R.RENEW_KEY, _C.OTHER),
    ((-2010,), _K.REFUSED, _R.REJECT, _C.RULES),
    ((-2011, -2013), _K.NOT_FOUND, _R.RESOLVE, _C.OTHER),
    ((-2012,), _K.REFUSED, _R.REFRESH, _C.OTHER),
    ((-2018, -2019), _K.REFUSED, _R.REFRESH, _C.MARGIN),
    ((-2020,), _K.REFUSED, _R.REJECT, _C.OTHER),
    ((-2021, -4142), _K.REFUSED, _R.FLATTEN, _C.WOULD_TRIGGER),
    ((-2022, -2024, -4118), _K.REFUSED, _R.REFRESH, _C.REDUCE_ONLY),
    ((-2023,), _K.REFUSED, _R.HALT, _C.MARGIN),
    ((-2025, -4045), _K.REFUSED, _R.READ_BACK, _C.RULES),
    ((-2026,), _K.REFUSED, _R.REJECT, _C.RULES),
    ((-2027, -2028), _K.REFUSED, _R.REFRESH_RULES, _C.MARGIN),
    ((_down(-4001, -4014), -4016, -4023, -4024, -4164), _K.REFUSED, _R.REFRESH_RULES, _C.RULES),
    ((-4000, -4015, -4020, -4028, -4031, -4032, -4044, -4060, -4082, -4084), _K.REFUSED, _R.FIX, _C.RULES),
    ((-4083, -4117, -4139), _K.REFUSED, _R.REJECT, _C.OTHER),
    ((-4104, -4108, -4144, -4411), _K.REFUSED, _R.EXITS_ONLY, _C.NOT_TRADING),
    ((-4116,), _K.DUPLICATE, _R.ADOPT, _C.OTHER),
    ((-4046, -4059, -4171, -5027), _K.UNCHANGED, _R.READ_BACK, _C.OTHER),
    ((-4067,), _K.REFUSED, _R.READ_BACK, _C.OTHER),
    ((-4047, -4048, -4068, -4161, -4167, -4168, -4531), _K.REFUSED, _R.SKIP, _C.OTHER),
    ((_down(-4049, -4055),), _K.REFUSED, _R.SKIP, _C.OTHER),
    ((-4061,), _K.REFUSED, _R.HALT, _C.POSITION_MODE),
    ((-4062,), _K.REFUSED, _R.REFRESH, _C.POSITION_MODE),
    ((-4087, -4088, -4400, -4401), _K.REFUSED, _R.EXITS_ONLY, _C.NOT_TRADING),
    ((-4109, -4192, -4402, -4403), _K.REFUSED, _R.HALT, _C.NOT_TRADING),
    ((_down(-4202, -4209),), _K.REFUSED, _R.REFRESH_RULES, _C.MARGIN),
    ((-4120,), _K.REFUSED, _R.FIX, _C.UNSUPPORTED),
    ((-4130,), _K.REFUSED, _R.ADOPT, _C.OTHER),
    ((-4131,), _K.REFUSED, _R.REJECT, _C.RULES),
    ((-4135, -4137, -4138, -4183, -4184, -4210, -4211), _K.REFUSED, _R.FIX, _C.RULES),
    ((-5021, -5022), _K.REFUSED, _R.REJECT, _C.OTHER),
    ((-5025, -5026, -5029, -5043, -5047), _K.REFUSED, _R.REFRESH, _C.RULES),
    ((_down(-5037, -5040),), _K.REFUSED, _R.FIX, _C.RULES),
    ((-5041,), _K.REFUSED, _R.REJECT, _C.OTHER),
)


def _catalogue() -> dict[int, Entry]:
    entries: dict[int, Entry] = {}
    for codes, kind, reaction, cause in _ROWS:
        for group in codes:
            for code in (group,) if isinstance(group, int) else group:
                if code in entries:
                    raise ValueError(f"code {code} stands twice in the catalogue")
                entries[code] = Entry(code, kind, reaction, cause)
    return entries


CATALOGUE: Final = _catalogue()
"""Every code that is known, by its number."""


class NotSent(VenueError):
    """Certain: no byte of the request left. A new attempt may be made."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"not sent: {detail}")
        self.detail = detail


class LinkDown(NotSent):
    """Certain, and the way is to blame: it could not be opened. Another way may be tried at once."""


class Refused(VenueError):
    """The venue answered no, and the request was not carried out. ``entry`` is None for a code we do not know."""

    def __init__(self, code: int, message: str, entry: Entry | None, status: int) -> None:
        super().__init__(f"refused ({code}): {message}")
        self.code = code
        self.message = message
        self.entry = entry
        self.status = status

    @property
    def cause(self) -> RejectCause:
        """Why, in our words."""
        return self.entry.cause if self.entry else RejectCause.OTHER


class Unknown(VenueError):
    """Carried out or not, nobody knows: ask the venue, never send again. ``code`` is None without a readable one."""

    def __init__(self, detail: str, code: int | None = None, status: int | None = None) -> None:
        super().__init__(f"outcome unknown: {detail}")
        self.detail = detail
        self.code = code
        self.status = status


class Banned(VenueUnavailable):
    """The venue has shut us out until ``until_ns`` (its time); nothing was carried out, nothing is sent until then."""

    def __init__(self, until_ns: int, retry_after_s: float | None = None, why: str = "banned by the venue") -> None:
        super().__init__(f"{why} until {until_ns // 1_000_000}", retry_after_s)
        self.until_ns = until_ns
        self.why = why


class Unauthorised(NotAuthorised):
    """Key, address, permission or signature are refused; nothing was carried out. Never tried again in a loop."""

    def __init__(self, code: int, message: str, status: int) -> None:
        super().__init__(f"not authorised ({code}): {message}")
        self.code = code
        self.message = message
        self.status = status


class Fate(Enum):
    """What became of a request."""

    DONE = "DONE"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"
    LIMITED = "LIMITED"  # refused for its rate: the governor pauses
    BANNED = "BANNED"  # 418, or the firewall's 403
    UNAUTHORISED = "UNAUTHORISED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A classified answer. ``message`` is the venue's text, cut, on one line and without signatures."""

    fate: Fate
    status: int
    code: int | None = None
    message: str = ""
    entry: Entry | None = None
    banned_until_ms: int | None = None

    def error(self) -> VenueError:
        """The exception that says the same; a ban is the governor's to raise, since it alone knows the end."""
        match self.fate:
            case Fate.REFUSED | Fate.LIMITED:
                return Refused(self.code or 0, self.message, self.entry, self.status)
            case Fate.UNAUTHORISED:
                return Unauthorised(self.code or 0, self.message, self.status)
            case Fate.UNKNOWN:
                code = "" if self.code is None else f" ({self.code})"
                return Unknown(f"HTTP {self.status}{code}: {self.message}", self.code, self.status)
            case Fate.DONE | Fate.BANNED:
                raise ValueError(f"{self.fate.value} is no error of its own")


def clean(text: str) -> str:
    """Foreign text made fit for a log: one line, cut, signatures and keys taken out."""
    shown = "".join(char if char.isprintable() else " " for char in text[: 8 * _SHOWN_CHARS])
    return _SECRET_PAIR.sub(r"\1\2***", " ".join(shown.split()))[:_SHOWN_CHARS]


def classify(status: int, body: bytes, context: Context) -> Outcome:
    """Read an answer. ``body`` is what arrived, whole; a cut-off or broken transfer never gets here, it is UNKNOWN.

    A success is DONE only with a JSON body: a proxy's page with status 200 says nothing about the order.
    """
    readable, code, message = _read(body)
    if 200 <= status < 300 and readable and code is None:
        return Outcome(Fate.DONE, status)
    if code is None:
        message = clean(body[: 8 * _SHOWN_CHARS].decode("utf-8", "replace")) or "empty body"
    entry = CATALOGUE.get(code) if code is not None else None
    if entry is not None and entry.doubtful and context in _TRADING and status < 500 and status != 408:
        return _by_code(status, entry.code, message, context)
    if status == 418:
        return Outcome(Fate.BANNED, status, code, message, banned_until_ms=banned_until_ms(message))
    if status == 429:
        code = code if code in (-1003, -1015) else -1003
        until_ms = banned_until_ms(message)
        fate = Fate.LIMITED if until_ms is None else Fate.BANNED
        return Outcome(fate, status, code, message, CATALOGUE[code], banned_until_ms=until_ms)
    if status == 403 and code is None:
        return Outcome(Fate.BANNED, status, None, message)
    if status >= 500 or status == 408 or code is None:
        return _doubtful(status, code, message, context)
    return _by_code(status, code, message, context)


def classify_item(code: int, message: str, context: Context) -> Outcome:
    """Read one failed item of a batch, or the error of a WebSocket answer that has no body of its own."""
    return _by_code(200, code, clean(message), context)


def banned_until_ms(message: str) -> int | None:
    """The end of a ban as the venue's text names it (its milliseconds); None when it names none."""
    found = _BANNED_UNTIL.search(message)
    return int(found[1]) if found else None


class _ErrorBody(msgspec.Struct):
    """The two fields that tell an error; both are foreign, so nothing is promised about their types."""

    code: object = None
    msg: object = ""


def _read(body: bytes) -> tuple[bool, int | None, str]:
    """Whether the body is a JSON object or list, and the error in it: code and text; no code when it is none."""
    try:
        if body.lstrip()[:1] != b"{":
            msgspec.json.decode(body, type=list[msgspec.Raw])
            return True, None, ""
        answer = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False, None, ""
    if type(answer.code) is int and answer.code < 0:
        return True, answer.code, clean(str(answer.msg))
    return True, None, ""


def _doubtful(status: int, code: int | None, message: str, context: Context) -> Outcome:
    """5xx, 408, and anything without a code: unknown, but for the two variants of 503 that are documented as failed."""
    entry = CATALOGUE.get(code) if code is not None else None
    failed = status == 503 and (
        (entry is not None and entry.kind is Kind.FAILED)
        or "service unavailable" in message.lower()
        or "internal error; unable to process" in message.lower()
        or "throttled by system-level protection" in message.lower()
    )
    if not failed or "unknown error" in message.lower():
        return Outcome(Fate.UNKNOWN, status, code, message, entry)
    if entry is None or entry.kind is not Kind.FAILED:
        entry = CATALOGUE[-1001]
    return _failed(status, code if code is not None else entry.code, message, entry, context)


def _failed(status: int, code: int, message: str, entry: Entry, context: Context) -> Outcome:
    fate = Fate.UNKNOWN if context is Context.INCREASING else Fate.REFUSED
    return Outcome(fate, status, code, message, entry)


def _by_code(status: int, code: int, message: str, context: Context) -> Outcome:
    entry = CATALOGUE.get(code)
    if entry is None:
        refused = context is Context.QUERY or (context in _PLACING and status in _REFUSING)
        return Outcome(Fate.REFUSED if refused else Fate.UNKNOWN, status, code, message)
    match entry.kind:
        case Kind.UNKNOWN:
            return Outcome(Fate.UNKNOWN, status, code, message, entry)
        case Kind.FAILED:
            return _failed(status, code, message, entry, context)
        case Kind.DUPLICATE:
            fate = Fate.UNKNOWN if context in _TRADING else Fate.REFUSED
        case Kind.RATE:
            until_ms = banned_until_ms(message)
            fate = Fate.LIMITED if until_ms is None else Fate.BANNED
            return Outcome(fate, status, code, message, entry, until_ms)
        case Kind.AUTH:
            fate = Fate.UNAUTHORISED
        case _:
            fate = Fate.REFUSED
    return Outcome(fate, status, code, message, entry)
