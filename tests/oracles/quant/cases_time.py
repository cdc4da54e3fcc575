"""Calendars and clocks against pandas, zoneinfo, pandas_market_calendars and the venues' own rules."""

from datetime import date, datetime, timedelta

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant import calendar as c
from tidegate.quant.sessions import CME_ROUND_THE_CLOCK

HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)


def at_midnight(day: str) -> datetime:
    return c.parse_iso8601(day + "T00:00:00Z")


@case("time.json", "floors-and-iso")
def floors(oracle: Oracle) -> None:
    for text in oracle.inputs["timestamps"]:
        dt = c.parse_iso8601(text)
        figures = {
            "epoch_ms": c.to_epoch_ms(dt),
            "day_floor": c.format_iso8601(c.utc_day_start(dt)),
            "week_floor_monday": c.format_iso8601(c.week_start(dt)),
            "month_floor": c.format_iso8601(c.month_start(dt)),
            "quarter": c.quarter_of(dt),
            "iso": [*c.iso_week(dt), c.hour_of_week(dt) // 24 + 1],
            "floor_15m": c.format_iso8601(c.floor_to_interval(dt, "15m")),
            "ceil_4h": c.format_iso8601(c.ceil_to_interval(dt, "4h")),
            "floor_8h": c.format_iso8601(c.floor_to_interval(dt, "8h")),
            "hour_of_week": c.hour_of_week(dt),
        }
        for name, figure in figures.items():
            oracle.check(f"{text}.{name}", figure)


@case("time.json", "quarterly-expiry")
def expiries(oracle: Oracle) -> None:
    years = oracle.inputs["years"]
    oracle.check(
        "expiries", [c.format_iso8601(c.quarterly_expiry(year, quarter)) for year in years for quarter in (1, 2, 3, 4)]
    )


@case("time.json", "funding-8h")
def funding(oracle: Oracle) -> None:
    start, end = c.parse_iso8601(oracle.inputs["start"]), c.parse_iso8601(oracle.inputs["end"])
    settlements = c.funding_times(start, end, oracle.inputs["interval_hours"])
    oracle.check("settlements", [c.format_iso8601(each) for each in settlements])


@case("time.json", "cme-crypto-schedule-dec-2024")
def cme_schedule(oracle: Oracle) -> None:
    """Sessions are what lies between the gaps; a session's trade date is that of its close in Chicago."""
    at = at_midnight(oracle.inputs["start"]) - HOUR
    end = at_midnight(oracle.inputs["end"])
    sessions = []
    while at < end:
        gap = c.cme_crypto_gap(at)
        opened = at if gap is None else gap[1]
        closes = opened
        while c.cme_crypto_gap(closes) is None:
            closes += timedelta(minutes=15)
        day = c.to_timezone(closes, "America/Chicago").date().isoformat()
        sessions.append([day, c.format_iso8601(opened), c.format_iso8601(closes)])
        at = closes
    oracle.check("sessions_trade_date_open_close", sessions)


@case("time.json", "cme-247-cutover")
def cutover(oracle: Oracle) -> None:
    saturday = timedelta(hours=15)
    oracle.check("cutover_utc", c.format_iso8601(CME_ROUND_THE_CLOCK))
    oracle.check("weekend_gap_before", c.cme_crypto_gap(CME_ROUND_THE_CLOCK - timedelta(days=7) + saturday) is not None)
    oracle.check("weekend_gap_after", c.cme_crypto_gap(CME_ROUND_THE_CLOCK + saturday) is not None)


@case("time.json", "dst-2025")
def daylight_saving(oracle: Oracle) -> None:
    zones = {
        "new_york": "America/New_York",
        "london": "Europe/London",
        "seoul": "Asia/Seoul",
        "chicago": "America/Chicago",
    }
    year = oracle.inputs["year"]
    end = at_midnight(f"{year + 1}-01-01")
    for name, zone in zones.items():
        transitions = []
        at = c.next_dst_transition(at_midnight(f"{year}-01-01") - TICK, zone)
        while at is not None and at < end:
            offset = c.to_timezone(at, zone).utcoffset()
            assert offset is not None
            transitions.append({"utc": c.format_iso8601(at), "offset_hours": offset / HOUR})
            at = c.next_dst_transition(at, zone)
        oracle.check(name, transitions)


@case("time.json", "gaps")
def gaps(oracle: Oracle) -> None:
    opens = [c.parse_iso8601(each) for each in oracle.inputs["open_times"]]
    oracle.check(
        "gaps",
        [
            {"first_missing": c.format_iso8601(first), "last_missing": c.format_iso8601(last), "count": count}
            for first, last, count in c.find_gaps(opens, oracle.inputs["interval"])
        ],
    )
    oracle.check("duplicates", [c.format_iso8601(each) for each in c.find_duplicates(opens)])


@case("time.json", "business-days")
def business_days(oracle: Oracle) -> None:
    holidays = [date.fromisoformat(each) for each in oracle.inputs["holidays"]]
    oracle.check(
        "counts",
        [c.business_days_between(at_midnight(a), at_midnight(b), holidays) for a, b in oracle.inputs["ranges"]],
    )
