"""The REST client: weight first, then the signature, then exactly those bytes, once.

``get`` repeats what may be repeated. ``call`` never repeats, and tells three things apart: not sent, refused,
unknown. The line between the first and the third is the first byte handed to the connection.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from tidegate.adapters.binance.clock import NS_PER_S, VenueClock, measure
from tidegate.adapters.binance.errors import (
    Banned,
    Context,
    Fate,
    Kind,
    LinkDown,
    NotSent,
    Outcome,
    Reaction,
    Refused,
    Unknown,
    classify,
    clean,
)
from tidegate.adapters.binance.limits import Governor, Lane, PoolName
from tidegate.adapters.binance.rest_wire import Answer, Wire, check_base_url, open_session, transfer, watch
from tidegate.adapters.binance.signing import Signer, encode
from tidegate.domain.errors import ConfigError, VenueError

__all__ = ["BinanceRest", "Call", "Params", "Security", "check_base_url", "open_session"]

T = TypeVar("T")

Params = Sequence[tuple[str, str]]

CALL_TIMEOUT_S: Final = 3.0
GET_TIMEOUT_S: Final = 10.0
_ATTEMPTS: Final = 4
_BACKOFF_S: Final = 0.2
_CLIENT_IDS: Final = ("newClientOrderId", "origClientOrderId", "clientAlgoId", "clientOrderId")
_FUNDING_PATHS: Final = ("/fapi/v1/fundingRate", "/fapi/v1/fundingInfo")


class Security(Enum):
    """What a request must carry."""

    NONE = "NONE"
    KEY = "KEY"  # the api key in a header
    SIGNED = "SIGNED"  # also timestamp, recvWindow and signature


@dataclass(frozen=True, slots=True)
class Call:
    """One exchange as a log may tell it: no query string, no header, no body."""

    method: str
    path: str
    weight: int
    status: int | None
    code: int | None
    latency_ns: int
    client_order_id: str | None
    fate: str


class _TimeAnswer(msgspec.Struct, rename="camel"):
    server_time: int


class BinanceRest:
    """One host, one account. ``session`` stays its owner's; ``rng`` draws the jitter of the back-off.

    ``time_path`` answers the host's clock; None for a host whose time is not ours to follow (the spot host).
    """

    def __init__(
        self,
        base_url: str,
        session: aiohttp.ClientSession,
        clock: VenueClock,
        governor: Governor,
        signer: Signer | None,
        rng: random.Random,
        *,
        on_call: Callable[[Call], None] | None = None,
        time_path: str | None = "/fapi/v1/time",
    ) -> None:
        self._base_url = check_base_url(base_url, live=False)
        origin = URL(self._base_url)
        self._origin = origin.scheme, origin.raw_authority
        self._session = session
        self.clock = clock
        self.governor = governor
        self._signer = signer
        self._rng = rng
        self._on_call = on_call
        self._time_path = time_path
        self._decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
        watch(session)

    def __repr__(self) -> str:
        return f"BinanceRest({self._base_url}, {self._signer!r})"

    async def get(
        self,
        path: str,
        params: Params = (),
        *,
        answer: type[T],
        weight: int,
        lane: Lane = Lane.HISTORY,
        security: Security = Security.NONE,
        recv_window_ms: int = 5000,
        timeout_s: float = GET_TIMEOUT_S,
        attempts: int = _ATTEMPTS,
    ) -> T:
        """Read. Up to ``attempts`` times with jittered exponential back-off, while the venue is not there or asks for
        patience; after a clock refusal once more, with a new offset. Raises ``Refused``, ``Unauthorised``, ``Banned``,
        and after the last try ``NotSent`` or ``Unknown``."""
        self._need_signer(path, security)
        resynced = False
        for attempt in range(attempts):
            try:
                if security is Security.SIGNED and not self.clock.synced:
                    await self.resync()
                wire = self._prepare("GET", path, params, security, recv_window_ms)
                return await self._exchange(wire, params, answer, weight, lane, Context.QUERY, timeout_s)
            except (NotSent, Unknown):
                if attempt == attempts - 1:
                    raise
            except Refused as error:
                if error.entry and error.entry.kind is Kind.CLOCK and not resynced and self._time_path:
                    resynced = True
                    await self.resync()
                    continue
                if attempt == attempts - 1 or not _patient(error, lane):
                    raise
            await asyncio.sleep(_BACKOFF_S * 2**attempt * self._rng.uniform(0.5, 1.5))
        raise Unknown(f"GET {path}: the clock was refused again and again")

    async def call(
        self,
        method: str,
        path: str,
        params: Params,
        *,
        answer: type[T],
        weight: int,
        lane: Lane,
        security: Security = Security.SIGNED,
        recv_window_ms: int = 5000,
        orders_10s: int = 0,
        orders_1m: int = 0,
        expires_ns: int | None = None,
        on_sent: Callable[[int], None] | None = None,
        context: Context | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> T:
        """Act, once. ``on_sent`` gets the timestamp of the request (venue time, ns) before the first byte leaves; what
        it raises stops the request.

        After ``expires_ns`` (venue time) nothing is signed. ``context`` is told by the lane when not given. Raises
        ``NotSent``, ``Refused``, ``Unauthorised`` or ``Banned`` when the request was certainly not carried out,
        ``Unknown`` in every other case that is not a clear success. When cancelled, the outcome is unknown as well.
        """
        self._need_signer(path, security)
        context = context or _context(lane, orders_10s + orders_1m)
        await self._admit(path, weight, lane, orders_10s, orders_1m, expires_ns)
        if security is Security.SIGNED:
            self._check_clock(order=context in (Context.INCREASING, Context.REDUCING))
        if expires_ns is not None and self.clock.now_ns() >= expires_ns:
            raise NotSent("expired before it was signed")
        stamp_ms = self.clock.now_ms() if self.clock.synced else 0
        wire = self._prepare(method, path, params, security, recv_window_ms, stamp_ms)
        if on_sent:
            on_sent(stamp_ms * 1_000_000)
        return await self._exchange(wire, params, answer, weight, None, context, timeout_s)

    async def server_time(self) -> tuple[int, int, int]:
        """Monotonic nanoseconds of sending and of receiving, and the venue's milliseconds between them."""
        if self._time_path is None:
            raise VenueError(f"{self._base_url}: no clock is read from this host")
        wire = self._prepare("GET", self._time_path, (), Security.NONE, 0)
        found = await self._exchange(wire, (), _TimeAnswer, 1, Lane.CANCEL, Context.QUERY, CALL_TIMEOUT_S)
        return wire.received_ns if wire.sent_ns is None else wire.sent_ns, wire.received_ns, found.server_time

    async def resync(self) -> None:
        """Measure the venue's clock anew. Raises what a request raises."""
        await measure(self)

    async def _admit(
        self, path: str, weight: int, lane: Lane, orders_10s: int, orders_1m: int, expires_ns: int | None
    ) -> None:
        """Take the weight; an order that expires while it waits is not sent."""
        left_s = None
        if expires_ns is not None:
            self._check_clock(order=False)
            left_s = (expires_ns - self.clock.now_ns()) / NS_PER_S
        pool = _pool_of(path)
        if self.governor.take_now(weight, lane, orders_10s=orders_10s, orders_1m=orders_1m, pool=pool):
            return
        try:
            async with asyncio.timeout(left_s):
                await self.governor.take(weight, lane, orders_10s=orders_10s, orders_1m=orders_1m, pool=pool)
        except TimeoutError:
            raise NotSent("expired while it waited for its weight") from None

    def _need_signer(self, path: str, security: Security) -> None:
        if self._signer is None and security is not Security.NONE:
            raise ConfigError(f"{path} needs an api key, and none is configured")

    def _check_clock(self, order: bool) -> None:
        """Orders need a good clock; anything else that is signed needs one at all."""
        doubt = self.clock.doubt if order or not self.clock.synced else None
        if doubt:
            raise NotSent(doubt)

    def _prepare(
        self,
        method: str,
        path: str,
        params: Params,
        security: Security,
        recv_window_ms: int,
        stamp_ms: int | None = None,
    ) -> Wire:
        """Encode, sign, and fix the bytes of the request."""
        if security is Security.SIGNED and self._signer:
            stamp_ms = self.clock.now_ms() if stamp_ms is None else stamp_ms
            query = encode((*params, ("recvWindow", str(recv_window_ms)), ("timestamp", str(stamp_ms))))
            query = f"{query}&signature={self._signer.sign(query.encode('ascii'))}"
        else:
            query = encode(params)
        scheme, authority = self._origin
        url = URL.build(scheme=scheme, authority=authority, path=path, query_string=query, encoded=True)
        headers = {"X-MBX-APIKEY": self._signer.api_key} if self._signer and security is not Security.NONE else {}
        return Wire(method, path, url, headers, self.clock.monotonic_ns)

    async def _exchange(
        self,
        wire: Wire,
        params: Params,
        answer: type[T],
        weight: int,
        lane: Lane | None,
        context: Context,
        timeout_s: float,
    ) -> T:
        """Send one request and read its answer, or raise what became of it. ``lane`` None: the weight is taken."""
        if lane is not None:
            await self.governor.take(weight, lane, pool=_pool_of(wire.path))
        began_ns = self.clock.monotonic_ns()
        got = await transfer(self._session, wire, timeout_s)
        error: VenueError | None = None
        outcome: Outcome | None = None
        decoded: T | None = None
        if got.failure is not None:
            where = f"{wire.method} {wire.path}: {got.failure}"
            error = LinkDown(where) if wire.sent_ns is None else Unknown(where, status=got.status or None)
        else:
            outcome = classify(got.status, got.body, context)
            self.governor.observe(got.headers, wire.sent_ns or began_ns, wire.received_ns)
            error = self._judge(wire, outcome, got)
        if error is None:
            decoded, error = self._decode(wire, answer, got)
        self._tell(wire, params, weight, got, outcome, error, wire.received_ns - began_ns)
        if error is not None:
            raise error
        return decoded  # type: ignore[return-value]  # None only where ``answer`` says so

    def _judge(self, wire: Wire, outcome: Outcome, got: Answer) -> VenueError | None:
        """Tell the governor what the answer says about our pace; the exception for anything but success."""
        if outcome.fate is Fate.DONE:
            return None
        retry_after_s = _retry_after_s(got.headers)
        if outcome.fate is Fate.LIMITED or (outcome.fate is Fate.UNKNOWN and got.status == 429):
            self.governor.limited(outcome.code or -1003, retry_after_s, _pool_of(wire.path))
        if outcome.fate is Fate.UNKNOWN and got.status == 418:
            self.governor.ban(outcome.banned_until_ms, retry_after_s)
        if outcome.fate is not Fate.BANNED:
            return outcome.error()
        if got.status == 403:
            self.governor.firewall()
        else:
            if outcome.banned_until_ms and not self.clock.synced and (date_ms := _date_ms(got.headers)) is not None:
                retry_after_s = max(0, outcome.banned_until_ms - date_ms) / 1000
            self.governor.ban(outcome.banned_until_ms, retry_after_s)
        return Banned(self.governor.banned_until_ns or 0, why=f"HTTP {got.status}: {outcome.message}; shut out")

    def _decode(self, wire: Wire, answer: type[T], got: Answer) -> tuple[T | None, VenueError | None]:
        """The body as ``answer``. A body of another shape is a success we cannot read: unknown."""
        decoder = self._decoders.get(answer)
        if decoder is None:
            decoder = self._decoders[answer] = msgspec.json.Decoder(answer)
        try:
            return decoder.decode(got.body), None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return None, Unknown(f"{wire.method} {wire.path}: {clean(str(error))}", status=got.status)

    def _tell(
        self,
        wire: Wire,
        params: Params,
        weight: int,
        got: Answer,
        outcome: Outcome | None,
        error: VenueError | None,
        latency_ns: int,
    ) -> None:
        if self._on_call is None:
            return
        client_id = next((value for name, value in params if name in _CLIENT_IDS), None)
        code = outcome.code if outcome else None
        fate = type(error).__name__ if error else Fate.DONE.value
        self._on_call(Call(wire.method, wire.path, weight, got.status or None, code, latency_ns, client_id, fate))


def _pool_of(path: str) -> PoolName:
    if path in _FUNDING_PATHS:
        return PoolName.FUNDING
    return PoolName.DATA if path.startswith("/futures/data/") else PoolName.WEIGHT


def _context(lane: Lane, orders: int) -> Context:
    """What kind of act it is, by where it goes; entering is assumed when in doubt."""
    if lane is Lane.PROTECT:
        return Context.REDUCING
    if lane is Lane.CANCEL:
        return Context.CANCEL
    return Context.INCREASING if lane is Lane.ENTER or orders else Context.SETTING


def _patient(error: Refused, lane: Lane) -> bool:
    """Whether a refused query gets better by waiting. The reserve's lanes do not wait for a rate limit to pass."""
    if error.entry is None:
        return False
    return error.entry.reaction is Reaction.RETRY or (error.entry.kind is Kind.RATE and not lane.reserved)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _date_ms(headers: Mapping[str, str]) -> int | None:
    """The venue's own date header, for when its clock has not been measured yet."""
    try:
        return int(parsedate_to_datetime(headers["Date"]).timestamp() * 1000)
    except (KeyError, ValueError):
        return None
