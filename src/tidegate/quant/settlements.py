"""Funding settlements of perpetuals and expiries of delivery contracts, on the venue's clock (UTC).

A settlement at ``t`` is paid on the position held at ``t``: a position opened exactly then does not pay it, so spans
are ``(start, end]``. Source: Binance USD-M futures, pages "Introduction to funding rates" and "Delivery contracts".
"""

import calendar
from datetime import UTC, datetime, timedelta

from tidegate.quant.instants import DAY, ensure_utc, quarter_of, utc_day_start

_EXPIRY_HOUR = 8
_QUOTES = ("USDT", "USDC", "USD")


def funding_times(start: datetime, end: datetime, interval_hours: int, anchor: int = 0) -> list[datetime]:
    """The settlements in ``(start, end]``, oldest first, of a symbol that settles every ``interval_hours``.

    ``anchor`` is an hour of the day (UTC) with a settlement. The interval is the symbol's own and changes over time (8,
    4 or 1 hours): take it from the venue's history. Raises ``ValueError`` on an interval that does not divide 24 hours,
    an ``anchor`` outside 0 to 23, or a naive datetime.
    """
    at, until = next_funding_time(start, interval_hours, anchor), ensure_utc(end)
    times = []
    while at <= until:
        times.append(at)
        at += timedelta(hours=interval_hours)
    return times


def next_funding_time(now: datetime, interval_hours: int, anchor: int = 0) -> datetime:
    """The first settlement after ``now``; the one at ``now`` itself is being paid. Raises as ``funding_times``."""
    if interval_hours < 1 or 24 % interval_hours:
        raise ValueError(f"a funding interval divides 24 hours (1, 2, 4, 8), and {interval_hours} does not")
    if not 0 <= anchor < 24:
        raise ValueError(f"an anchor is an hour of the day, 0 to 23, not {anchor}")
    utc, step = ensure_utc(now), timedelta(hours=interval_hours)
    first = utc_day_start(utc) + timedelta(hours=anchor % interval_hours)
    return first + ((utc - first) // step + 1) * step


def time_to_funding(now: datetime, interval_hours: int, anchor: int = 0) -> timedelta:
    """From ``now`` to ``next_funding_time``: above zero, up to a whole interval."""
    return next_funding_time(now, interval_hours, anchor) - ensure_utc(now)


def quarterly_expiry(year: int, quarter: int) -> datetime:
    """The last Friday of March, June, September or December, 08:00 UTC; holidays do not move it (25 Dec 2026 is one).

    Raises ``ValueError`` unless ``quarter`` is 1 to 4.
    """
    if quarter not in (1, 2, 3, 4):
        raise ValueError(f"a quarter is 1 to 4, not {quarter}")
    month = 3 * quarter
    last = datetime(year, month, calendar.monthrange(year, month)[1], _EXPIRY_HOUR, tzinfo=UTC)
    return last - (last.weekday() - calendar.FRIDAY) % 7 * DAY


def next_quarterly_expiry(now: datetime) -> datetime:
    """The first quarterly expiry after ``now``; at the instant of one, the next."""
    utc = ensure_utc(now)
    year, quarter = utc.year, quarter_of(utc)
    expiry = quarterly_expiry(year, quarter)
    if expiry > utc:
        return expiry
    return quarterly_expiry(year + quarter // 4, quarter % 4 + 1)


def days_to_expiry(now: datetime, expiry: datetime) -> float:
    """Actual days with their fraction; negative once expired."""
    return (ensure_utc(expiry) - ensure_utc(now)) / DAY


def delivery_symbol(base: str, expiry: datetime) -> str:
    """``BTCUSDT_261225``: the delivery contract on ``base``, a pair (``BTCUSDT``) or an asset quoted in USDT (``BTC``).

    Raises ``ValueError`` on an empty ``base``, a naive datetime, and a day on which no quarterly contract expires.
    """
    utc = ensure_utc(expiry)
    if not base.isalnum():
        raise ValueError(f"a delivery contract is on a pair such as BTCUSDT, not {base!r}")
    due = quarterly_expiry(utc.year, quarter_of(utc))
    if utc.date() != due.date():
        raise ValueError(f"no quarterly contract expires on {utc.date()}; that quarter's one does on {due.date()}")
    pair = base.upper()
    if not pair.endswith(_QUOTES) or pair in _QUOTES:
        pair += "USDT"
    return f"{pair}_{utc:%y%m%d}"
