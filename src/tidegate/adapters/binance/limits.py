"""The weight governor: one account of every limit, asked before anything is sent.

Each pool counts our own requests over a sliding window, so that no alignment of the venue's fixed windows sees more
than the limit, and adds what the venue's header reports beyond that (other processes behind the same address).
Traffic that is no protection stays below 80 %; the rest is the reserve of protecting orders, cancels and the queries
that settle an unknown outcome.
"""

import asyncio
import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final

import msgspec

from tidegate.adapters.binance.clock import NS_PER_MS, NS_PER_S, VenueClock
from tidegate.adapters.binance.errors import Banned, NotSent

ORDINARY_FRAC: Final = 0.8
RESERVE_FRAC: Final = 0.2
FIREWALL_SILENCE_S: Final = 300.0
BAN_S: Final = 120.0

_SLOTS: Final = 60
_INTERVALS_NS: Final = {"SECOND": NS_PER_S, "MINUTE": 60 * NS_PER_S, "HOUR": 3600 * NS_PER_S, "DAY": 86400 * NS_PER_S}
_LETTERS: Final = {"s": "SECOND", "m": "MINUTE", "h": "HOUR", "d": "DAY"}
_USED = re.compile(r"(?i)x-mbx-(used-weight|order-count)-(\d+)([smhd])")


class Lane(IntEnum):
    """Who goes first; a lower number never waits behind a higher one."""

    PROTECT = 0  # orders that can only reduce
    CANCEL = 1  # cancels, and the queries that settle an unknown outcome
    ENTER = 2
    HISTORY = 3

    @property
    def reserved(self) -> bool:
        """Whether the lane may use the reserve."""
        return self <= Lane.CANCEL


class PoolName(Enum):
    """The limits that are counted apart."""

    WEIGHT = "weight"
    ORDERS_10S = "orders_10s"
    ORDERS_1M = "orders_1m"
    FUNDING = "funding"  # fundingRate and fundingInfo together
    DATA = "data"  # /futures/data/*


class RateLimit(msgspec.Struct, frozen=True, rename="camel"):
    """One line of ``exchangeInfo.rateLimits``."""

    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int


class _Pool:
    """One limit over a sliding window, in 60 slots; a slot leaves when all of it is older than the window."""

    def __init__(self, limit: int, interval_ns: int) -> None:
        self.limit = limit
        self.interval_ns = interval_ns
        self.used = 0
        self.foreign = 0
        self.foreign_until_ns = 0
        self.paused_until_ns = 0
        self.reserve_used = 0
        self._slots: deque[list[int]] = deque()

    @property
    def _slot_ns(self) -> int:
        return self.interval_ns // _SLOTS

    def resize(self, limit: int, interval_ns: int) -> None:
        """Take the venue's own figures; what was used before counts on, as used at its time."""
        if interval_ns != self.interval_ns:
            old_ns, self.interval_ns = self._slot_ns, interval_ns
            self._slots = deque([index * old_ns // self._slot_ns + 1, taken] for index, taken in self._slots)
        self.limit = limit

    def advance(self, now_ns: int) -> None:
        """Forget what is older than the window."""
        oldest = now_ns // self._slot_ns - _SLOTS
        while self._slots and self._slots[0][0] < oldest:
            self.used -= self._slots.popleft()[1]
        if now_ns >= self.foreign_until_ns:
            self.foreign = 0

    def cap(self, lane: Lane) -> int:
        """How much the pool may hold for ``lane``."""
        return self.limit if lane.reserved else int(self.limit * ORDINARY_FRAC)

    def fits(self, amount: int, lane: Lane, now_ns: int) -> bool:
        """Whether ``amount`` may be sent now. In a pause only the reserve goes on, and only by its own size."""
        if amount == 0:
            return lane.reserved or now_ns >= self.paused_until_ns
        if now_ns < self.paused_until_ns:
            reserve = int(self.limit * RESERVE_FRAC)
            return lane.reserved and self.reserve_used + amount <= reserve and self.used + amount <= self.limit
        return self.used + self.foreign + amount <= self.cap(lane)

    def take(self, amount: int, now_ns: int) -> None:
        """Count ``amount`` at this moment."""
        slot = now_ns // self._slot_ns
        if self._slots and self._slots[-1][0] >= slot:
            self._slots[-1][1] += amount
        else:
            self._slots.append([slot, amount])
        self.used += amount
        if now_ns < self.paused_until_ns:
            self.reserve_used += amount

    def pause(self, until_ns: int, now_ns: int) -> None:
        """Stop all but the reserve; a pause within a pause does not fill the reserve up again."""
        if now_ns >= self.paused_until_ns:
            self.reserve_used = 0
        self.paused_until_ns = max(self.paused_until_ns, until_ns)

    def own_since(self, start_ns: int) -> int:
        """What we used ourselves since ``start_ns``, rounded down to whole slots."""
        first = -(-start_ns // self._slot_ns)
        return sum(taken for slot, taken in self._slots if slot >= first)

    def changes_ns(self, now_ns: int) -> int | None:
        """When this pool can next hold more than now; None when waiting changes nothing."""
        times = [at_ns for at_ns in (self.foreign_until_ns, self.paused_until_ns) if at_ns > now_ns]
        if self._slots:
            times.append((self._slots[0][0] + _SLOTS + 1) * self._slot_ns)
        return min(times, default=None)


_Needs = tuple[tuple[PoolName, int], ...]


@dataclass(slots=True, eq=False)
class _Waiter:
    """A request that waits for its weight."""

    lane: Lane
    needs: _Needs
    granted: "asyncio.Future[None]" = field(repr=False)


class Governor:
    """Grants weight by priority. One per address and host; whatever is sent there asks here first.

    Times inside are monotonic; the venue's clock only tells where its minutes begin and when a ban ends.
    """

    def __init__(self, clock: VenueClock) -> None:
        self._clock = clock
        self._pools = {
            PoolName.WEIGHT: _Pool(2400, 60 * NS_PER_S),
            PoolName.ORDERS_10S: _Pool(300, 10 * NS_PER_S),
            PoolName.ORDERS_1M: _Pool(1200, 60 * NS_PER_S),
            PoolName.FUNDING: _Pool(500, 300 * NS_PER_S),
            PoolName.DATA: _Pool(1000, 300 * NS_PER_S),
        }
        self._lanes: dict[Lane, deque[_Waiter]] = {lane: deque() for lane in Lane}
        self._silent_until_ns = 0
        self._why_silent = ""
        self._timer: asyncio.TimerHandle | None = None

    def configure(self, rate_limits: Iterable[RateLimit]) -> None:
        """Take the limits that the venue publishes; kinds and intervals that we do not send on are ignored."""
        for each in rate_limits:
            interval_ns = _INTERVALS_NS.get(each.interval, 0) * each.interval_num
            name = _pool_of(each.rate_limit_type, each.interval)
            if name and interval_ns and each.limit > 0:
                self._pools[name].resize(each.limit, interval_ns)
        for waiters in self._lanes.values():
            for waiter in waiters:
                if (why := self._never_fits(waiter.needs, waiter.lane)) and not waiter.granted.done():
                    waiter.granted.set_exception(NotSent(why))
        self._pump()

    @property
    def banned_until_ns(self) -> int | None:
        """The venue's time at which a silence ends (418, or the firewall's 403); None while we may speak."""
        now_ns = self._clock.monotonic_ns()
        return self._silent_until_ns + self._offset_ns if now_ns < self._silent_until_ns else None

    def usage(self) -> dict[str, tuple[int, int]]:
        """Used and limit of each pool, for status pages."""
        now_ns = self._advance()
        return {
            name.value: (pool.used + (pool.foreign if now_ns < pool.foreign_until_ns else 0), pool.limit)
            for name, pool in self._pools.items()
        }

    async def take(
        self,
        weight: int,
        lane: Lane,
        *,
        orders_10s: int = 0,
        orders_1m: int = 0,
        pool: PoolName = PoolName.WEIGHT,
    ) -> None:
        """Wait until the request may be sent, and count it.

        Raises ``Banned`` at once (also while waiting) in a silence, ``NotSent`` for what no empty pool could hold.
        """
        if self.take_now(weight, lane, orders_10s=orders_10s, orders_1m=orders_1m, pool=pool):
            return None
        needs = _needs(weight, orders_10s, orders_1m, pool)
        waiter = _Waiter(lane, needs, asyncio.get_running_loop().create_future())
        self._lanes[lane].append(waiter)
        self._pump()
        if waiter.granted.done():
            return waiter.granted.result()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter in self._lanes[lane]:
                self._lanes[lane].remove(waiter)
                self._pump()
            raise

    def take_now(
        self,
        weight: int,
        lane: Lane,
        *,
        orders_10s: int = 0,
        orders_1m: int = 0,
        pool: PoolName = PoolName.WEIGHT,
    ) -> bool:
        """Count the request if it may be sent at once; False when it has to wait, as ``take`` does. Raises like it."""
        needs = _needs(weight, orders_10s, orders_1m, pool)
        self.check()
        if why := self._never_fits(needs, lane):
            raise NotSent(why)
        if any(self._lanes.values()):
            return False  # whoever waits is asked first: by ``_pump``
        now_ns = self._clock.monotonic_ns()
        for name, _ in needs:
            self._pools[name].advance(now_ns)
        return self._grants(needs, lane, (), now_ns)

    def check(self) -> None:
        """Raise ``Banned`` in a silence."""
        if self._clock.monotonic_ns() < self._silent_until_ns:
            raise self._banned()

    def observe(self, headers: Mapping[str, str], sent_ns: int, received_ns: int) -> None:
        """Read the used figures of an answer that was sent and received at these monotonic times.

        A figure of -1 says nothing, and neither does one whose request and answer lie in different windows.
        """
        self._advance()
        for header, value in headers.items():
            if not (found := _USED.fullmatch(header)) or not value.isdigit():
                continue
            kind = "REQUEST_WEIGHT" if found[1].lower() == "used-weight" else "ORDERS"
            interval = _LETTERS[found[3].lower()]
            name = _pool_of(kind, interval)
            pool = self._pools[name] if name else None
            if pool is None or pool.interval_ns != _INTERVALS_NS[interval] * int(found[2]):
                continue
            start_ns, end_ns = self._window(pool.interval_ns, received_ns)
            if sent_ns >= start_ns:
                foreign = max(0, int(value) - pool.own_since(start_ns))
                pool.foreign = max(pool.foreign, foreign)  # within a window what others used only grows
                pool.foreign_until_ns = end_ns

    def limited(self, code: int, retry_after_s: float | None = None, pool: PoolName = PoolName.WEIGHT) -> None:
        """The venue said 429: all but the reserve stops until the window ends, or for ``retry_after_s``."""
        now_ns = self._advance()
        names = (PoolName.ORDERS_10S, PoolName.ORDERS_1M) if code == -1015 else (pool,)
        for name in names:
            paused = self._pools[name]
            until_ns = self._window(paused.interval_ns, now_ns)[1]
            paused.pause(until_ns if retry_after_s is None else now_ns + int(retry_after_s * NS_PER_S), now_ns)
        self._pump()

    def ban(self, until_ms: int | None, retry_after_s: float | None = None) -> None:
        """The venue said 418: silence until ``until_ms`` (its time), for ``retry_after_s``, or for two minutes."""
        now_ns = self._clock.monotonic_ns()
        until_ns = now_ns + int((retry_after_s or 0.0) * NS_PER_S)
        if until_ms is not None and self._clock.synced:
            until_ns = until_ms * NS_PER_MS - self._offset_ns
        self._silence(until_ns if until_ns > now_ns else now_ns + int(BAN_S * NS_PER_S), "banned by the venue")

    def firewall(self) -> None:
        """The venue's firewall said 403: five minutes of silence."""
        until_ns = self._clock.monotonic_ns() + int(FIREWALL_SILENCE_S * NS_PER_S)
        self._silence(until_ns, "shut out by the venue's firewall")

    def _banned(self) -> Banned:
        left_ns = self._silent_until_ns - self._clock.monotonic_ns()
        return Banned(self._silent_until_ns + self._offset_ns, left_ns / NS_PER_S, self._why_silent)

    @property
    def _offset_ns(self) -> int:
        return self._clock.offset_ns or 0

    def _silence(self, until_ns: int, why: str) -> None:
        """Say nothing until ``until_ns`` (monotonic); a later end that is already set stays."""
        if until_ns > self._silent_until_ns:
            self._silent_until_ns, self._why_silent = until_ns, why
        for waiters in self._lanes.values():
            while waiters:
                waiter = waiters.popleft()
                if not waiter.granted.done():
                    waiter.granted.set_exception(self._banned())

    def _window(self, interval_ns: int, at_ns: int) -> tuple[int, int]:
        """Begin and end of the venue's fixed window around ``at_ns``, in monotonic time."""
        start_ns = at_ns - (at_ns + self._offset_ns) % interval_ns
        return start_ns, start_ns + interval_ns

    def _advance(self) -> int:
        now_ns = self._clock.monotonic_ns()
        for pool in self._pools.values():
            pool.advance(now_ns)
        return now_ns

    def _pump(self) -> None:
        """Grant what fits, by lane and then by age; who does not fit holds its pools against all that come after."""
        now_ns = self._advance()
        held: set[PoolName] = set()
        awaited: set[PoolName] = set()
        for waiters in self._lanes.values():
            for waiter in list(waiters) if waiters else ():
                if waiter.granted.done():
                    waiters.remove(waiter)
                elif self._grants(waiter.needs, waiter.lane, held, now_ns):
                    waiters.remove(waiter)
                    waiter.granted.set_result(None)
                else:
                    held.update(name for name, amount in waiter.needs if amount)
                    awaited.update(name for name, _ in waiter.needs)
        times = [at_ns for name in awaited if (at_ns := self._pools[name].changes_ns(now_ns)) is not None]
        self._wake_at(min(times, default=None), now_ns)

    def _grants(self, needs: _Needs, lane: Lane, held: Collection[PoolName], now_ns: int) -> bool:
        for name, amount in needs:
            if (amount and name in held) or not self._pools[name].fits(amount, lane, now_ns):
                return False
        for name, amount in needs:
            self._pools[name].take(amount, now_ns)
        return True

    def _never_fits(self, needs: Iterable[tuple[PoolName, int]], lane: Lane) -> str | None:
        """Why no empty pool could hold this, in a few words; None when one could."""
        for name, amount in needs:
            if amount > self._pools[name].cap(lane):
                return f"{name.value} {amount} is above what {lane.name} may ever use"
        return None

    def _wake_at(self, at_ns: int | None, now_ns: int) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if at_ns is not None:
            delay_s = max(at_ns - now_ns, NS_PER_MS) / NS_PER_S
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._pump)


def _needs(weight: int, orders_10s: int, orders_1m: int, pool: PoolName) -> _Needs:
    """What a request takes out of each pool. Without weight: nothing, but a pause of the weight pauses everything."""
    wanted = ((pool, weight), (PoolName.ORDERS_10S, orders_10s), (PoolName.ORDERS_1M, orders_1m))
    needs = tuple([each for each in wanted if each[1] > 0])
    return needs if pool is PoolName.WEIGHT and weight else (*needs, (PoolName.WEIGHT, 0))


def _pool_of(rate_limit_type: str, interval: str) -> PoolName | None:
    if rate_limit_type == "REQUEST_WEIGHT":
        return PoolName.WEIGHT
    if rate_limit_type == "ORDERS":
        return {"SECOND": PoolName.ORDERS_10S, "MINUTE": PoolName.ORDERS_1M}.get(interval)
    return None
