"""Time functions: units and zones, bars and grids, settlements and expiries, the clocks of the world."""

import inspect
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.domain.market import INTERVALS_NS, BarSpec
from tidegate.quant import calendar as c
from tidegate.quant import intervals, sessions

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
NAIVE = NOON.replace(tzinfo=None)
HOUR, DAY, TICK = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-5)), timezone(5.5 * HOUR)])


def times_between(first: date, last: date) -> st.SearchStrategy[datetime]:
    return st.datetimes(datetime.combine(first, time.min), datetime.combine(last, time.min), timezones=ZONES)


TIMES = times_between(date(2000, 1, 1), date(2040, 1, 1))
INTERVALS = st.sampled_from([*intervals.INTERVALS, "1M"])
FUNDING_HOURS = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24])


def at(text: str) -> datetime:
    return c.parse_iso8601(text)


def test_the_module_has_the_47() -> None:
    assert len(c.__all__) == 47
    assert all(callable(getattr(c, name)) for name in c.__all__)


NAIVE_CALLS = {
    "to_epoch_ms": (NAIVE,),
    "ensure_utc": (NAIVE,),
    "format_iso8601": (NAIVE,),
    "to_timezone": (NAIVE, "UTC"),
    "server_time_offset": (NOON, NAIVE, NOON),
    "floor_to_interval": (NAIVE, "1h"),
    "ceil_to_interval": (NAIVE, "1h"),
    "bar_open_time": (NAIVE, "1M"),
    "bar_close_time": (NAIVE, "1h"),
    "is_bar_closed": (NOON, "1h", NAIVE),
    "last_closed_bar": (NAIVE, "1h"),
    "next_bar_open": (NAIVE, "1h"),
    "bar_range": (NOON, NAIVE, "1h"),
    "bars_between": (NOON, NAIVE, "1h"),
    "find_gaps": ([NAIVE], "1h"),
    "find_duplicates": ([NAIVE],),
    "align_to_grid": ([NAIVE], [1.0], "1h"),
    "resample_boundaries": (NAIVE, NOON, "1h", "4h"),
    "utc_day_start": (NAIVE,),
    "utc_day_end": (NAIVE,),
    "iso_week": (NAIVE,),
    "week_start": (NAIVE,),
    "month_start": (NAIVE,),
    "month_end": (NAIVE,),
    "quarter_of": (NAIVE,),
    "year_fraction": (NOON, NAIVE),
    "hour_of_week": (NAIVE,),
    "funding_times": (NOON, NAIVE, 8),
    "next_funding_time": (NAIVE, 8),
    "time_to_funding": (NAIVE, 8),
    "next_quarterly_expiry": (NAIVE,),
    "days_to_expiry": (NOON, NAIVE),
    "delivery_symbol": ("BTCUSDT", NAIVE),
    "trading_session": (NAIVE,),
    "is_weekend": (NAIVE,),
    "is_dst": (NAIVE, "Europe/London"),
    "next_dst_transition": (NAIVE, "Europe/London"),
    "business_days_between": (NOON, NAIVE, ()),
    "cme_crypto_gap": (NAIVE,),
}


@pytest.mark.parametrize("name", NAIVE_CALLS)
def test_a_naive_datetime_raises(name: str) -> None:
    with pytest.raises(ValueError, match="needs its zone"):
        getattr(c, name)(*NAIVE_CALLS[name])


def test_every_function_of_a_datetime_is_tried_with_a_naive_one() -> None:
    takes_datetimes = {
        name
        for name in c.__all__
        if any("datetime" in str(each.annotation) for each in inspect.signature(getattr(c, name)).parameters.values())
    }
    assert takes_datetimes <= set(NAIVE_CALLS)


# Instants


def test_the_clock_is_the_one_given() -> None:
    class Stopped:
        def now_ns(self) -> int:
            return 1_709_251_199_123_456_789

    assert c.utc_now(Stopped()) == datetime(2024, 2, 29, 23, 59, 59, 123_456, UTC)
    assert inspect.signature(c.utc_now).parameters["clock"].default is inspect.Parameter.empty


@given(st.integers(315_532_800_000, 4_102_444_799_999))
def test_milliseconds_make_the_round_trip(ms: int) -> None:
    assert c.to_epoch_ms(c.from_epoch_ms(ms)) == ms


@given(TIMES)
def test_texts_make_the_round_trip(dt: datetime) -> None:
    text = c.format_iso8601(dt)
    assert text.endswith("Z")
    assert c.parse_iso8601(text) == dt
    assert c.parse_iso8601(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("ms", "unit"),
    [
        (1_709_251_199, "seconds"),
        (1_709_251_199_000_000, "microseconds"),
        (1_709_251_199_000_000_000, "nanoseconds"),
        (-1, "before 1970"),
    ],
)
def test_other_units_are_not_taken_for_milliseconds(ms: int, unit: str) -> None:
    with pytest.raises(ValueError, match=unit):
        c.from_epoch_ms(ms)


@pytest.mark.parametrize("ms", [1.7e12, True, "1709251199000"])
def test_milliseconds_are_whole(ms: object) -> None:
    with pytest.raises(TypeError, match="whole number"):
        c.from_epoch_ms(ms)  # type: ignore[arg-type]


def test_epoch_ms_goes_down_also_before_1970() -> None:
    assert c.to_epoch_ms(at("1970-01-01T00:00:00.000999Z")) == 0
    assert c.to_epoch_ms(at("1969-12-31T23:59:59.999999Z")) == -1


@pytest.mark.parametrize("text", ["2025-03-01T12:00:00", "2025-03-01", "yesterday", ""])
def test_a_text_without_a_zone_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError):
        c.parse_iso8601(text)


def test_zones() -> None:
    assert c.to_timezone(NOON, "America/Chicago").isoformat() == "2025-03-01T06:00:00-06:00"
    for zone in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(ValueError, match="unknown time zone"):
            c.to_timezone(NOON, zone)


def test_offset_of_the_server() -> None:
    received = NOON + timedelta(milliseconds=100)
    assert c.server_time_offset(NOON, NOON + timedelta(milliseconds=350), received) == timedelta(milliseconds=300)
    with pytest.raises(ValueError, match="not received"):
        c.server_time_offset(received, NOON, NOON)


@pytest.mark.parametrize(
    ("ts_ms", "fresh"), [(5_000, True), (4_999, False), (10_000, True), (10_999, True), (11_000, False)]
)
def test_freshness_has_both_edges(ts_ms: int, fresh: bool) -> None:
    assert c.is_timestamp_fresh(ts_ms, 10_000, 5_000) is fresh


def test_a_window_is_positive() -> None:
    with pytest.raises(ValueError, match="window"):
        c.is_timestamp_fresh(0, 0, 0)


@given(TIMES)
def test_days_weeks_and_months_hold_their_time(dt: datetime) -> None:
    assert c.utc_day_start(dt) <= dt < c.utc_day_end(dt)
    assert c.utc_day_end(dt) - c.utc_day_start(dt) == DAY
    assert c.week_start(dt) <= dt < c.week_start(dt) + 7 * DAY
    assert c.month_start(dt) <= dt < c.month_end(dt)
    assert c.month_start(c.month_end(dt)) == c.month_end(dt)
    assert c.week_start(dt) + c.hour_of_week(dt) * HOUR == c.floor_to_interval(dt, "1h")
    assert c.is_weekend(dt) == (c.hour_of_week(dt) >= 120)
    assert c.iso_week(dt) == c.iso_week(c.week_start(dt))


def test_years() -> None:
    assert [c.days_in_year(year) for year in (1900, 2000, 2023, 2024)] == [365, 366, 365, 366]
    assert c.year_fraction(at("2024-01-01T00:00Z"), at("2025-01-01T00:00Z")) == 366 / 365
    assert c.year_fraction(NOON, NOON - HOUR) == pytest.approx(-1 / 8_760)
    assert [c.quarter_of(datetime(2025, month, 1, tzinfo=UTC)) for month in (1, 3, 4, 12)] == [1, 1, 2, 4]


# Bars


def test_intervals_and_origins_are_those_of_the_domain() -> None:
    assert {name: length // TICK * 1_000 for name, length in intervals.INTERVALS.items()} == INTERVALS_NS
    for name in INTERVALS_NS:
        assert (intervals.origin_of(name) - intervals.EPOCH) // TICK * 1_000 == BarSpec.of(name).origin_ns


def test_a_month_has_no_length() -> None:
    for function in (c.interval_to_timedelta, c.interval_to_ms):
        with pytest.raises(ValueError, match="1M has no fixed length"):
            function("1M")
        with pytest.raises(ValueError, match="unknown interval '1D'"):
            function("1D")
    assert c.interval_to_ms("15m") == 900_000


@given(TIMES, INTERVALS)
def test_floor_and_ceiling_hold_the_time(dt: datetime, interval: str) -> None:
    floor, ceiling = c.floor_to_interval(dt, interval), c.ceil_to_interval(dt, interval)
    assert floor <= dt <= ceiling
    assert dt < c.next_bar_open(dt, interval) == c.bar_close_time(floor, interval)
    assert ceiling == (floor if floor == dt else c.next_bar_open(dt, interval))
    assert c.floor_to_interval(floor, interval) == floor == c.bar_open_time(dt, interval)
    assert floor.utcoffset() == timedelta(0)


@given(TIMES, INTERVALS)
def test_the_last_closed_bar_is_closed_and_the_next_is_not(now: datetime, interval: str) -> None:
    last = c.last_closed_bar(now, interval)
    assert c.is_bar_closed(last, interval, now)
    assert not c.is_bar_closed(c.next_bar_open(last, interval), interval, now)


def test_weeks_start_on_monday_and_months_on_the_first() -> None:
    dt = at("2024-02-29T23:59:59Z")
    assert c.floor_to_interval(dt, "1w") == at("2024-02-26T00:00Z")
    assert c.floor_to_interval(dt, "1M") == at("2024-02-01T00:00Z")
    assert c.ceil_to_interval(dt, "1M") == at("2024-03-01T00:00Z")
    assert c.last_closed_bar(at("2024-03-01T00:00Z"), "1M") == at("2024-02-01T00:00Z")


def test_a_bar_is_known_at_its_end_and_not_before() -> None:
    assert c.bar_close_time(NOON, "1h") == NOON + HOUR
    assert c.is_bar_closed(NOON, "1h", NOON + HOUR)
    assert not c.is_bar_closed(NOON, "1h", NOON + HOUR - TICK)
    with pytest.raises(ValueError, match=r"no 1h bar opens at 2025-03-01T12:00:00\.000001Z"):
        c.bar_close_time(NOON + TICK, "1h")


@given(TIMES, st.integers(-100, 100), INTERVALS)
def test_the_range_counts_what_lies_between(start: datetime, thirds: int, interval: str) -> None:
    end = start + thirds * intervals.INTERVALS.get(interval, 30 * DAY) / 3
    bars = c.bar_range(start, end, interval)
    assert all(start <= each < end for each in bars)
    assert c.bars_between(start, end, interval) == (len(bars) if thirds >= 0 else -c.bars_between(end, start, interval))
    assert all(c.next_bar_open(a, interval) == b for a, b in pairwise(bars))


@given(TIMES, INTERVALS, st.sets(st.integers(0, 40), min_size=2))
def test_gaps_and_bars_make_the_whole_grid(start: datetime, interval: str, kept: set[int]) -> None:
    grid = [c.floor_to_interval(start, interval)]
    while len(grid) < 41:
        grid.append(c.next_bar_open(grid[-1], interval))
    there = {grid[index] for index in kept}
    missing = set()
    for first, last, count in c.find_gaps(there, interval):
        run = c.bar_range(first, c.bar_close_time(last, interval), interval)
        assert len(run) == count
        missing.update(run)
    assert missing.isdisjoint(there)
    assert missing | there == set(c.bar_range(min(there), c.next_bar_open(max(there), interval), interval))


def test_gaps_do_not_guess_about_a_bar_off_the_grid() -> None:
    assert c.find_gaps([], "1h") == []
    with pytest.raises(ValueError, match="no 1h bar opens"):
        c.find_gaps([NOON, NOON + 90 * TICK], "1h")


def test_duplicates_are_instants_not_spellings() -> None:
    assert c.find_duplicates([NOON, NOON + HOUR, NOON.astimezone(timezone(HOUR)), NOON]) == [NOON]


def test_alignment_never_fills_a_gap_unasked() -> None:
    times, values = [NOON + 3 * HOUR, NOON], [4.0, 1.0]
    grid, exact = c.align_to_grid(times, values, "1h")
    assert grid == [NOON + n * HOUR for n in range(4)]
    np.testing.assert_array_equal(exact, [1.0, math.nan, math.nan, 4.0])
    np.testing.assert_array_equal(c.align_to_grid(times, values, "1h", "ffill")[1], [1.0, 1.0, 1.0, 4.0])
    assert c.align_to_grid([], [], "1h")[0] == []


def test_alignment_within_the_bar() -> None:
    times = [NOON + timedelta(minutes=50), NOON + timedelta(minutes=10), NOON + 2 * HOUR]
    values = [3.0, 1.0, 7.0]
    for how, expected in {"last": 3.0, "mean": 2.0, "sum": 4.0}.items():
        np.testing.assert_array_equal(c.align_to_grid(times, values, "1h", how)[1], [expected, math.nan, 7.0])  # type: ignore[arg-type]


def test_alignment_refuses_what_it_would_have_to_choose() -> None:
    with pytest.raises(ValueError, match="no 1h bar opens"):
        c.align_to_grid([NOON + TICK], [1.0], "1h")
    with pytest.raises(ValueError, match="two values for 2025-03-01T12:00:00Z"):
        c.align_to_grid([NOON, NOON], [1.0, 2.0], "1h")
    with pytest.raises(ValueError, match="as many values"):
        c.align_to_grid([NOON], [1.0, 2.0], "1h")
    with pytest.raises(ValueError, match="unknown way"):
        c.align_to_grid([NOON], [1.0], "1h", "linear")  # type: ignore[arg-type]


def test_long_bars_are_whole() -> None:
    bars = c.resample_boundaries(at("2025-03-01T01:00Z"), at("2025-03-01T15:59Z"), "1h", "4h")
    assert bars == [(at("2025-03-01T04:00Z"), at("2025-03-01T08:00Z")), (at("2025-03-01T08:00Z"), NOON)]
    assert c.resample_boundaries(NOON, NOON - HOUR, "1h", "4h") == []
    assert c.resample_boundaries(at("2025-02-01T00:00Z"), NOON, "1d", "1M") == [
        (at("2025-02-01T00:00Z"), at("2025-03-01T00:00Z"))
    ]


@pytest.mark.parametrize(("source", "target"), [("4h", "1h"), ("3d", "1w"), ("1w", "1M"), ("3d", "1M"), ("8h", "12h")])
def test_long_bars_are_made_of_bars_that_fill_them(source: str, target: str) -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        c.resample_boundaries(NOON, NOON + 60 * DAY, source, target)


# The exchange


@given(TIMES, st.integers(0, 300), FUNDING_HOURS, st.integers(0, 23))
def test_settlements_are_on_their_grid_and_in_the_span(start: datetime, hours: int, every: int, anchor: int) -> None:
    end = start + hours * HOUR
    times = c.funding_times(start, end, every, anchor)
    assert all(start < each <= end for each in times)
    assert all((each.hour - anchor) % every == 0 and each == c.floor_to_interval(each, "1h") for each in times)
    assert all(b - a == every * HOUR for a, b in pairwise(times))
    assert len(times) in (hours // every, hours // every + 1)
    middle = start + hours * HOUR / 2
    assert c.funding_times(start, middle, every, anchor) + c.funding_times(middle, end, every, anchor) == times


@given(TIMES, FUNDING_HOURS)
def test_the_next_settlement_is_ahead(now: datetime, every: int) -> None:
    assert timedelta(0) < c.time_to_funding(now, every) <= every * HOUR
    assert c.funding_times(now, now + every * HOUR, every) == [c.next_funding_time(now, every)]


def test_a_settlement_belongs_to_the_span_that_ends_with_it() -> None:
    eight = at("2025-03-01T08:00Z")
    assert c.funding_times(eight - HOUR, eight, 8) == [eight]
    assert c.funding_times(eight, eight + HOUR, 8) == []
    assert c.time_to_funding(eight, 8) == 8 * HOUR


@pytest.mark.parametrize(("hours", "anchor"), [(0, 0), (5, 0), (-8, 0), (8, 24), (8, -1)])
def test_settlements_refuse_what_no_venue_has(hours: int, anchor: int) -> None:
    with pytest.raises(ValueError, match=r"funding interval|anchor"):
        c.funding_times(NOON, NOON + DAY, hours, anchor)


@given(st.integers(2000, 2100), st.integers(1, 4))
def test_expiry_is_the_last_friday(year: int, quarter: int) -> None:
    expiry = c.quarterly_expiry(year, quarter)
    assert (expiry.isoweekday(), expiry.hour, expiry.month) == (5, 8, 3 * quarter)
    assert (expiry + 7 * DAY).month != expiry.month


@given(TIMES)
def test_the_next_expiry_is_the_first_one_after(now: datetime) -> None:
    expiry = c.next_quarterly_expiry(now)
    assert 0.0 < c.days_to_expiry(now, expiry) <= 98.0
    assert c.next_quarterly_expiry(expiry - TICK) == expiry < c.next_quarterly_expiry(expiry)


def test_expiries_by_name() -> None:
    christmas = c.quarterly_expiry(2026, 4)
    assert christmas == at("2026-12-25T08:00Z")
    assert c.delivery_symbol("BTCUSDT", christmas) == c.delivery_symbol("btc", christmas) == "BTCUSDT_261225"
    assert c.delivery_symbol("BTCUSD", christmas) == "BTCUSD_261225"
    assert c.days_to_expiry(christmas - 36 * HOUR, christmas) == 1.5
    assert c.days_to_expiry(christmas + DAY, christmas) == -1.0
    with pytest.raises(ValueError, match="does on 2026-12-25"):
        c.delivery_symbol("BTCUSDT", christmas - DAY)
    with pytest.raises(ValueError, match="pair"):
        c.delivery_symbol("BTC/USDT", christmas)
    with pytest.raises(ValueError, match="quarter is 1 to 4"):
        c.quarterly_expiry(2026, 5)


# The world


@pytest.mark.parametrize(
    ("text", "fixed", "local"),
    [
        ("2025-01-15T06:59Z", ("ASIA",), ("ASIA",)),
        ("2025-01-15T07:00Z", ("ASIA", "EUROPE"), ("ASIA", "EUROPE")),
        ("2025-01-15T12:59Z", ("EUROPE",), ("EUROPE",)),
        ("2025-01-15T15:59Z", ("EUROPE", "US"), ("EUROPE", "US")),
        ("2025-01-15T22:00Z", (), ()),
        ("2025-07-15T06:00Z", ("ASIA",), ("ASIA", "EUROPE")),
        ("2025-07-15T12:00Z", ("EUROPE",), ("EUROPE", "US")),
        ("2025-07-15T21:00Z", ("US",), ()),
        ("2025-03-20T15:00Z", ("EUROPE", "US"), ("EUROPE", "US")),  # New York has changed its clocks, London has not
        ("2025-03-20T12:00Z", ("EUROPE",), ("EUROPE", "US")),
    ],
)
def test_sessions(text: str, fixed: tuple[str, ...], local: tuple[str, ...]) -> None:
    assert c.trading_session(at(text)) == fixed
    assert c.trading_session(at(text), local_clocks=True) == local


def test_daylight_saving() -> None:
    for zone, winter, summer in (
        ("America/New_York", False, True),
        ("Europe/Dublin", False, True),  # its winter is a saving below zero
        ("Australia/Sydney", True, False),
        ("Asia/Seoul", False, False),
    ):
        assert (c.is_dst(at("2025-01-15T00:00Z"), zone), c.is_dst(at("2025-07-15T00:00Z"), zone)) == (winter, summer)
    assert c.next_dst_transition(NOON, "Asia/Seoul") is None


@given(TIMES, st.sampled_from(["America/New_York", "Europe/London", "Australia/Lord_Howe"]))
def test_the_next_transition_changes_the_offset_and_nothing_before_does(dt: datetime, zone: str) -> None:
    transition = c.next_dst_transition(dt, zone)
    assert transition is not None
    assert transition > dt
    offset = c.to_timezone(dt, zone).utcoffset()
    assert c.to_timezone(transition, zone).utcoffset() != offset
    assert c.to_timezone(transition - timedelta(seconds=1), zone).utcoffset() == offset
    assert c.next_dst_transition(transition, zone) != transition


def test_business_days_take_dates_and_holidays() -> None:
    friday, monday = date(2025, 7, 4), date(2025, 7, 7)
    assert c.business_days_between(friday, monday) == 1
    assert c.business_days_between(friday, monday, [friday]) == 0
    assert c.business_days_between(at("2025-07-03T23:00-02:00"), at("2025-07-07T00:00Z")) == 1


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("2025-06-06T20:59:59.999999Z", None),
        ("2025-06-06T21:00Z", ("2025-06-06T21:00Z", "2025-06-08T22:00Z")),  # a weekend
        ("2025-06-08T21:59:59Z", ("2025-06-06T21:00Z", "2025-06-08T22:00Z")),
        ("2025-06-08T22:00Z", None),
        ("2025-06-10T21:30Z", ("2025-06-10T21:00Z", "2025-06-10T22:00Z")),  # the hour of each day
        ("2025-01-15T22:30Z", ("2025-01-15T22:00Z", "2025-01-15T23:00Z")),  # and in winter
        ("2025-03-08T12:00Z", ("2025-03-07T22:00Z", "2025-03-09T22:00Z")),  # clocks change within: 48 h
        ("2024-12-25T12:00Z", ("2024-12-24T18:15Z", "2024-12-25T23:00Z")),  # early close, then Christmas
        ("2021-01-18T19:00Z", ("2021-01-18T18:00Z", "2021-01-18T23:00Z")),  # a holiday of the old kind
        ("2023-01-16T19:00Z", None),  # the same holiday since 2022
        ("2022-04-16T12:00Z", ("2022-04-14T21:00Z", "2022-04-17T22:00Z")),  # Good Friday and its weekend
        ("2022-12-26T12:00Z", ("2022-12-23T22:00Z", "2022-12-26T23:00Z")),  # Christmas on a Sunday
        ("2026-05-28T21:30Z", ("2026-05-28T21:00Z", "2026-05-28T22:00Z")),  # the last daily hour
        ("2026-05-29T20:59Z", None),
        ("2026-05-29T21:00Z", None),  # around the clock from here
        ("2026-05-30T12:00Z", None),
        ("2026-12-25T12:00Z", None),
    ],
)
def test_cme_gaps(text: str, gap: tuple[str, str] | None) -> None:
    assert c.cme_crypto_gap(at(text)) == (None if gap is None else (at(gap[0]), at(gap[1])))


@given(times_between(date(2017, 12, 19), date(2026, 5, 29)))
def test_a_cme_gap_is_one_span_with_trading_on_both_sides(dt: datetime) -> None:
    gap = c.cme_crypto_gap(dt)
    if gap is not None:
        close, reopen = gap
        assert close <= dt < reopen
        assert c.cme_crypto_gap(close) == c.cme_crypto_gap(reopen - TICK) == gap
        assert c.cme_crypto_gap(close - TICK) is None
        assert c.cme_crypto_gap(reopen) is None


def test_cme_crypto_futures_have_a_beginning() -> None:
    assert c.cme_crypto_gap(sessions.CME_CRYPTO_START) is None
    with pytest.raises(ValueError, match="begin at"):
        c.cme_crypto_gap(sessions.CME_CRYPTO_START - TICK)
    with pytest.raises(ValueError, match="no trade date"):
        sessions.cme_crypto_session(date(2024, 12, 25))
