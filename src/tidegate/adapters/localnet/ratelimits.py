"""The budgets: request weight per address and minute, orders per account and 10 s or minute, and the ban for excess.

Windows are those of the venue's clock: a minute's budget starts anew at the full minute.
"""

from dataclasses import dataclass

from tidegate.adapters.localnet.errors import ApiError
from tidegate.adapters.localnet.wire import millis
from tidegate.ports import Clock

_FUNDING = ("/fapi/v1/fundingRate", "/fapi/v1/fundingInfo")


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes of the budgets. ``tolerated`` requests beyond the weight are answered 429 before the ban (418), which
    lasts ``ban_s`` at first and ten times as long each time again, up to ``longest_ban_s``."""

    weight_1m: int = 2400
    orders_10s: int = 300
    orders_1m: int = 1200
    funding_5m: int = 500
    statistics_5m: int = 1000
    tolerated: int = 10
    ban_s: int = 120
    longest_ban_s: int = 259_200

    def rows(self) -> list[dict[str, object]]:
        """``exchangeInfo.rateLimits``."""
        return [
            _row("REQUEST_WEIGHT", "MINUTE", 1, self.weight_1m),
            _row("ORDERS", "MINUTE", 1, self.orders_1m),
            _row("ORDERS", "SECOND", 10, self.orders_10s),
        ]


def _row(kind: str, interval: str, count: int, limit: int) -> dict[str, object]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": limit}


class _Window:
    """A count that starts anew at every multiple of its length."""

    __slots__ = ("_number", "_span_ms", "used")

    def __init__(self, span_ms: int) -> None:
        self._span_ms = span_ms
        self._number = 0
        self.used = 0

    def at(self, now_ms: int) -> "_Window":
        number = now_ms // self._span_ms
        if number != self._number:
            self._number, self.used = number, 0
        return self


class _Address:
    def __init__(self) -> None:
        self.weight = _Window(60_000)
        self.pools = {"funding": _Window(300_000), "statistics": _Window(300_000)}
        self.refused = _Window(60_000)
        self.banned_until_ms = 0
        self.bans = 0


class _Orders:
    def __init__(self) -> None:
        self.by_10s = _Window(10_000)
        self.by_1m = _Window(60_000)


class RateLimits:
    """The budgets in use. ``limits`` may be replaced while running."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.limits = limits
        self._clock = clock
        self._addresses: dict[str, _Address] = {}
        self._orders: dict[str, _Orders] = {}

    def take(self, remote: str, path: str, weight: int) -> dict[str, str]:
        """Charge a request to its address; returns the headers that say so. Raises ``ApiError`` 429 or 418."""
        now_ms = millis(self._clock.now_ns())
        address = self._addresses.setdefault(remote, _Address())
        if now_ms < address.banned_until_ms:
            raise self._banned(address)
        pool, most = self._pool(path)
        if pool is not None:
            window = address.pools[pool].at(now_ms)
            window.used += 1
            if window.used > most:
                raise self._refused(address, now_ms, f"Too many requests; the limit of this endpoint is {most}/5m.")
            return {}
        window = address.weight.at(now_ms)
        window.used += weight
        if window.used > self.limits.weight_1m:
            raise self._refused(
                address,
                now_ms,
                f"Too many requests; current limit of IP({remote}) is {self.limits.weight_1m} requests per minute. "
                "Please use the websocket for live updates to avoid polling the API.",
            )
        return {"X-MBX-USED-WEIGHT-1M": str(window.used)}

    def take_orders(self, account: str, orders: tuple[int, int]) -> dict[str, str]:
        """Charge orders to an account; returns the headers. Raises ``ApiError`` -1015."""
        in_10s, in_1m = orders
        if not in_10s and not in_1m:
            return {}
        now_ms = millis(self._clock.now_ns())
        used = self._orders.setdefault(account, _Orders())
        short, long = used.by_10s.at(now_ms), used.by_1m.at(now_ms)
        for window, more, most, text in (
            (short, in_10s, self.limits.orders_10s, "10 SECONDS"),
            (long, in_1m, self.limits.orders_1m, "1 MINUTE"),
        ):
            if window.used + more > most:
                raise ApiError(-1015, msg=f"Too many new orders; current limit is {most} orders per {text}.")
        short.used += in_10s
        long.used += in_1m
        return {"X-MBX-ORDER-COUNT-10S": str(short.used), "X-MBX-ORDER-COUNT-1M": str(long.used)}

    def used_weight(self, remote: str) -> int:
        """The weight an address has used in this minute."""
        address = self._addresses.setdefault(remote, _Address())
        return address.weight.at(millis(self._clock.now_ns())).used

    def used_orders(self, account: str) -> tuple[int, int]:
        """The orders an account has sent in these ten seconds and in this minute."""
        now_ms = millis(self._clock.now_ns())
        used = self._orders.setdefault(account, _Orders())
        return used.by_10s.at(now_ms).used, used.by_1m.at(now_ms).used

    def ban(self, remote: str, ban_s: float) -> int:
        """Ban an address from now on; returns the end in milliseconds."""
        address = self._addresses.setdefault(remote, _Address())
        address.banned_until_ms = millis(self._clock.now_ns()) + int(ban_s * 1000)
        return address.banned_until_ms

    def _pool(self, path: str) -> tuple[str | None, int]:
        if path in _FUNDING:
            return "funding", self.limits.funding_5m
        if path.startswith("/futures/data/"):
            return "statistics", self.limits.statistics_5m
        return None, 0

    def _refused(self, address: _Address, now_ms: int, msg: str) -> ApiError:
        refused = address.refused.at(now_ms)
        refused.used += 1
        if refused.used <= self.limits.tolerated:
            return ApiError(-1003, msg=msg)
        ban_s = min(self.limits.ban_s * 10**address.bans, self.limits.longest_ban_s)
        address.bans += 1
        address.banned_until_ms = now_ms + ban_s * 1000
        return self._banned(address)

    @staticmethod
    def _banned(address: _Address) -> ApiError:
        msg = (
            f"Way too many requests; IP banned until {address.banned_until_ms}. "
            "Please use the websocket for live updates to avoid bans."
        )
        return ApiError(-1003, msg=msg, status=418)
