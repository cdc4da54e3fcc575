"""The world's clocks: trading sessions, daylight saving, business days and the hours of Chicago's crypto futures.

CME cryptocurrency futures (from 17 December 2017) traded Sunday to Friday, 17:00 to 16:00 of the next day in Chicago. A
trade date's session opens at 17:00 on the calendar day before it and closes at 16:00, or earlier on some holidays; on
others there is none. From Friday 29 May 2026, 16:00 in Chicago, they trade around the clock, as announced on 19
February 2026 subject to review; a weekend maintenance of two hours or more was announced with it, its hour was not.
Source: CME Group's Globex holiday calendar, as pandas_market_calendars 5.5.0 carries it up to the change.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np

from tidegate.quant.instants import DAY, ensure_utc, to_timezone, zone_of

Session = Literal["ASIA", "EUROPE", "US"]

_SESSION_HOURS_UTC: dict[Session, tuple[int, int]] = {"ASIA": (0, 8), "EUROPE": (7, 16), "US": (13, 22)}
_SESSION_HOURS_LOCAL: dict[Session, tuple[str, int, int]] = {
    "ASIA": ("Asia/Tokyo", 9, 17),
    "EUROPE": ("Europe/London", 7, 16),
    "US": ("America/New_York", 8, 17),
}
_TRANSITION_HORIZON = 400 * DAY
_SECOND = timedelta(seconds=1)
_HALF_YEAR = 182 * DAY
_NO_SAVING = timedelta(0)

CME_CRYPTO_START = datetime(2017, 12, 17, 23, tzinfo=UTC)
"""First trade of CME bitcoin futures: Sunday 17:00 in Chicago."""

CME_ROUND_THE_CLOCK = datetime(2026, 5, 29, 21, tzinfo=UTC)
"""From here on CME cryptocurrency futures trade seven days a week, as announced."""

_CHICAGO = "America/Chicago"
_CME_OPEN, _CME_CLOSE = time(17), time(16)
_LONGEST_CLOSURE_DAYS = 7

_CME_NO_SESSION = frozenset(
    date(year, month, day)
    for (month, day), years in {
        (1, 1): (2018, 2019, 2020, 2021, 2024, 2025, 2026),
        (1, 2): (2023,),
        (3, 30): (2018,),
        (4, 10): (2020,),
        (4, 15): (2022,),
        (4, 19): (2019,),
        (12, 24): (2021,),
        (12, 25): (2017, 2018, 2019, 2020, 2023, 2024, 2025),
        (12, 26): (2022,),
    }.items()
    for year in years
)
"""Trade dates without a session: New Year, Christmas, most Good Fridays."""

_CME_EARLY_CLOSE = {
    date.fromisoformat(day): time.fromisoformat(closing)
    for closing, days in {
        "08:15": "2021-04-02",
        "10:15": "2023-04-07 2024-03-29 2025-04-18 2026-04-03",
        "12:00": (
            "2018-01-15 2018-02-19 2018-05-28 2018-07-04 2018-09-03 2018-11-22 2019-01-21 2019-02-18 2019-05-27 "
            "2019-07-04 2019-09-02 2019-11-28 2020-01-20 2020-02-17 2020-05-25 2020-07-03 2020-09-07 2020-11-26 "
            "2021-01-18 2021-02-15 2021-05-31 2021-07-05 2021-09-06 2021-11-25"
        ),
        "12:15": (
            "2018-07-03 2018-11-23 2018-12-24 2019-07-03 2019-11-29 2019-12-24 2020-11-27 2020-12-24 2023-07-03 "
            "2024-07-03 2024-12-24 2025-07-03 2025-12-24"
        ),
        "12:45": "2021-11-26 2022-11-25 2023-11-24 2024-11-29 2025-11-28",
    }.items()
    for day in days.split()
}
"""Trade dates that close early, Chicago time; until 2021 all United States holidays did, since 2022 only some."""


def trading_session(dt: datetime, *, local_clocks: bool = False) -> tuple[Session, ...]:
    """The sessions open at ``dt``, by hour of the day alone: none, one, or two where they overlap.

    Fixed in UTC: ASIA 00-08, EUROPE 07-16, US 13-22. With ``local_clocks`` they are Tokyo 09-17, London 07-16 and New
    York 08-17, which is the same in winter and an hour earlier in UTC while daylight saving runs there.
    """
    utc = ensure_utc(dt)
    if not local_clocks:
        return tuple(name for name, (start, end) in _SESSION_HOURS_UTC.items() if start <= utc.hour < end)
    return tuple(
        name for name, (zone, start, end) in _SESSION_HOURS_LOCAL.items() if start <= to_timezone(utc, zone).hour < end
    )


def is_dst(dt: datetime, zone: str) -> bool:
    """True while the clocks of ``zone`` are put forward. Raises ``ValueError`` on a naive time or an unknown zone.

    The time zone database has Dublin put back in winter instead, by a saving below zero: its summer counts too.
    """
    utc = ensure_utc(dt)
    saving = _saving(utc, zone)
    put_back = min(_saving(utc - _HALF_YEAR, zone), _saving(utc + _HALF_YEAR, zone))
    return saving > _NO_SAVING or (saving == _NO_SAVING and put_back < _NO_SAVING)


def next_dst_transition(dt: datetime, zone: str) -> datetime | None:
    """The first instant after ``dt`` with another offset from UTC than the one before it; None within 400 days.

    To the second, in UTC. Raises ``ValueError`` on a naive time or an unknown zone.
    """
    clocks = zone_of(zone)
    before = ensure_utc(dt).replace(microsecond=0)
    horizon = before + _TRANSITION_HORIZON
    while before < horizon:
        after = before + DAY
        if _offset(after, clocks) != _offset(before, clocks):
            return _first_with_offset_of(after, before, clocks)
        before = after
    return None


def business_days_between(a: date, b: date, holidays: Iterable[date] = ()) -> int:
    """Monday to Friday without ``holidays``, ``a`` included and ``b`` not; negative backwards (``numpy.busday_count``).

    Datetimes count by their UTC date; naive ones raise ``ValueError``.
    """
    days = [np.datetime64(_date_of(each), "D") for each in (a, b)]
    off = np.array([np.datetime64(_date_of(each), "D") for each in holidays], dtype="datetime64[D]")
    return int(np.busday_count(days[0], days[1], holidays=off))


def cme_crypto_gap(dt: datetime) -> tuple[datetime, datetime] | None:
    """The span ``[close, reopen)`` around ``dt`` in which CME crypto futures do not trade; None while they do.

    Weekends, the hour from 16:00 each day, and holidays; all None from ``CME_ROUND_THE_CLOCK`` on, where the hour of
    the weekly maintenance is not known. Raises ``ValueError`` on a naive time and before ``CME_CRYPTO_START``.
    """
    utc = ensure_utc(dt)
    if utc < CME_CRYPTO_START:
        raise ValueError(f"CME crypto futures begin at {CME_CRYPTO_START.isoformat()}, after {utc.isoformat()}")
    if utc >= CME_ROUND_THE_CLOCK:
        return None
    today = to_timezone(utc, _CHICAGO).date()
    around = (today + offset * DAY for offset in range(-_LONGEST_CLOSURE_DAYS, _LONGEST_CLOSURE_DAYS + 1))
    sessions = [cme_crypto_session(each) for each in around if has_cme_crypto_session(each)]
    closed = max(close for open, close in sessions if open <= utc)
    return None if utc < closed else (closed, min(open for open, _ in sessions if open > utc))


def has_cme_crypto_session(trade_date: date) -> bool:
    """True on the trade dates of CME crypto futures, by the old week."""
    return trade_date.weekday() < 5 and trade_date not in _CME_NO_SESSION


def cme_crypto_session(trade_date: date) -> tuple[datetime, datetime]:
    """``[open, close)`` of a trade date in UTC, by the old week. Raises ``ValueError`` on a day without a session."""
    if not has_cme_crypto_session(trade_date):
        raise ValueError(f"{trade_date} is no trade date of CME crypto futures")
    closing = _CME_EARLY_CLOSE.get(trade_date, _CME_CLOSE)
    clocks = zone_of(_CHICAGO)
    opened = datetime.combine(trade_date - DAY, _CME_OPEN, clocks)
    return opened.astimezone(UTC), datetime.combine(trade_date, closing, clocks).astimezone(UTC)


def _first_with_offset_of(after: datetime, before: datetime, clocks: ZoneInfo) -> datetime:
    while after - before > _SECOND:
        middle = before + (after - before) // _SECOND // 2 * _SECOND
        if _offset(middle, clocks) == _offset(after, clocks):
            after = middle
        else:
            before = middle
    return after


def _saving(utc: datetime, zone: str) -> timedelta:
    return to_timezone(utc, zone).dst() or _NO_SAVING


def _offset(utc: datetime, clocks: ZoneInfo) -> timedelta | None:
    return utc.astimezone(clocks).utcoffset()


def _date_of(day: date) -> date:
    return ensure_utc(day).date() if isinstance(day, datetime) else day
