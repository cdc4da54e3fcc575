"""Instants: UTC datetimes to and from what the wire and the logs carry, and the calendar units around them.

Every datetime is timezone-aware and comes back in UTC; a naive one raises ``ValueError``, as nobody knows its zone. All
arithmetic is on whole microseconds, the resolution of ``datetime``: no float in between.
"""

import calendar
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
DAY = timedelta(days=1)

_DAYS_IN_ACT_365 = 365
_EARLIEST_MS = 315_532_800_000  # 1980: a count of seconds that was taken for milliseconds lies in 1970
_LATEST_MS = 4_102_444_800_000  # 2100: one of microseconds lies millennia ahead
_AHEAD_MS = 1_000  # the venue takes an order stamped up to a second ahead of its own clock


class ReadsTime(Protocol):
    """What ``utc_now`` asks: the nanoseconds since 1970."""

    def now_ns(self) -> int: ...


def utc_now(clock: ReadsTime) -> datetime:
    """The time of ``clock``, to the microsecond below. There is no default clock."""
    return EPOCH + timedelta(microseconds=clock.now_ns() // 1_000)


def to_epoch_ms(dt: datetime) -> int:
    """Milliseconds since 1970, to the millisecond below. Raises ``ValueError`` on a naive datetime."""
    return (ensure_utc(dt) - EPOCH) // MILLISECOND


def from_epoch_ms(ms: int) -> datetime:
    """The instant of a count of milliseconds since 1970.

    Raises ``ValueError`` outside 1980 to 2100, where a count of seconds, microseconds or nanoseconds falls, and
    ``TypeError`` on what is not a whole number.
    """
    if isinstance(ms, bool) or not isinstance(ms, int):
        raise TypeError(f"milliseconds since 1970 are a whole number, not {ms!r}")
    if not _EARLIEST_MS <= ms < _LATEST_MS:
        unit = "seconds" if 0 <= ms < _EARLIEST_MS else "microseconds or nanoseconds" if ms > 0 else "before 1970"
        raise ValueError(f"{ms} is no count of milliseconds between 1980 and 2100 ({unit}?)")
    return EPOCH + ms * MILLISECOND


def ensure_utc(dt: datetime) -> datetime:
    """The same instant in UTC. Raises ``ValueError`` on a naive datetime."""
    if dt.utcoffset() is None:
        raise ValueError(f"a time needs its zone, and {dt.isoformat()} has none; for UTC add +00:00")
    return dt.astimezone(UTC)


def parse_iso8601(text: str) -> datetime:
    """The instant that ``text`` names, such as ``2024-02-29T23:59:59Z`` or ``...+02:00``.

    Raises ``ValueError`` on what is no such text and on one without a zone.
    """
    return ensure_utc(datetime.fromisoformat(text))


def format_iso8601(dt: datetime) -> str:
    """``2024-02-29T23:59:59Z``: in UTC, always with ``Z``; a fraction of a second only where there is one."""
    return ensure_utc(dt).replace(tzinfo=None).isoformat() + "Z"


def to_timezone(dt: datetime, zone: str) -> datetime:
    """The same instant on the clocks of ``zone`` (``America/Chicago``). The one function here that leaves UTC.

    Never add a day to its result: clocks change in between. Raises ``ValueError`` on an unknown zone.
    """
    return ensure_utc(dt).astimezone(zone_of(zone))


def zone_of(zone: str) -> ZoneInfo:
    """The zone of that IANA name. Raises ``ValueError`` when there is none."""
    try:
        return ZoneInfo(zone)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"unknown time zone {zone!r}; name it as America/New_York or UTC") from error


def server_time_offset(local_sent: datetime, server: datetime, local_received: datetime) -> timedelta:
    """How far the server's clock is ahead: its time less the middle of sending and receiving (Cristian 1989).

    The error is at most half of the way there and back. Raises ``ValueError`` when it was received before it was sent.
    """
    sent, received = ensure_utc(local_sent), ensure_utc(local_received)
    if received < sent:
        raise ValueError(f"an answer is not received ({received}) before its question is sent ({sent})")
    return ensure_utc(server) - (sent + (received - sent) / 2)


def is_timestamp_fresh(ts_ms: int, now_ms: int, recv_window_ms: int) -> bool:
    """True when the venue would take a request of ``ts_ms``: ``now - window <= ts < now + 1 s``, as Binance has it.

    Raises ``ValueError`` on a window of 0 or less.
    """
    if recv_window_ms <= 0:
        raise ValueError(f"a window is above 0 ms, not {recv_window_ms}")
    return ts_ms < now_ms + _AHEAD_MS and now_ms - ts_ms <= recv_window_ms


def utc_day_start(dt: datetime) -> datetime:
    """Midnight UTC at or before ``dt``."""
    return ensure_utc(dt).replace(hour=0, minute=0, second=0, microsecond=0)


def utc_day_end(dt: datetime) -> datetime:
    """The midnight UTC after ``dt``: the exclusive end of its day."""
    return utc_day_start(dt) + DAY


def iso_week(dt: datetime) -> tuple[int, int]:
    """ISO year and week. The year is that of the week's Thursday: 2024-12-30 is in (2025, 1)."""
    year, week, _ = ensure_utc(dt).isocalendar()
    return year, week


def week_start(dt: datetime) -> datetime:
    """Monday 00:00 UTC at or before ``dt``."""
    midnight = utc_day_start(dt)
    return midnight - midnight.weekday() * DAY


def month_start(dt: datetime) -> datetime:
    """The first of the month, 00:00 UTC, at or before ``dt``."""
    return utc_day_start(dt).replace(day=1)


def month_end(dt: datetime) -> datetime:
    """The first of the next month, 00:00 UTC: the exclusive end of the month of ``dt``."""
    first = month_start(dt)
    return first + days_in_month(first.year, first.month) * DAY


def quarter_of(dt: datetime) -> int:
    """1 to 4."""
    return (ensure_utc(dt).month + 2) // 3


def days_in_month(year: int, month: int) -> int:
    """28 to 31."""
    return calendar.monthrange(year, month)[1]


def days_in_year(year: int) -> int:
    """365, or 366 in a leap year."""
    return 366 if calendar.isleap(year) else 365


def year_fraction(a: datetime, b: datetime) -> float:
    """Years from ``a`` to ``b`` by ACT/365 (fixed): actual days with their fraction, over 365. Negative backwards."""
    return (ensure_utc(b) - ensure_utc(a)) / (_DAYS_IN_ACT_365 * DAY)


def hour_of_week(dt: datetime) -> int:
    """0 to 167; Monday 00:00 UTC is 0."""
    utc = ensure_utc(dt)
    return utc.weekday() * 24 + utc.hour


def is_weekend(dt: datetime) -> bool:
    """True on Saturday and Sunday, UTC."""
    return ensure_utc(dt).weekday() >= 5
