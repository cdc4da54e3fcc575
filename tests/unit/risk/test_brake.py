"""The brake day by day: what is cut, when it comes back, what survives a restart, what only an operator lifts."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.domain.market import DAY_NS, HOUR_NS
from tidegate.risk.brake import REENTRY_NS, DrawdownBrake, RiskMemory, RiskState, severity_of
from tidegate.risk.view import RiskLimits

LIMITS = RiskLimits()
START_NS = 20_000 * DAY_NS


def brake(**limits: float) -> DrawdownBrake:
    return DrawdownBrake(msgspec.structs.replace(LIMITS, **limits))


def feed(each: DrawdownBrake, *units: float, start_ns: int = START_NS, step_ns: int = DAY_NS) -> RiskState:
    for n, unit in enumerate(units):
        each.observe(start_ns + n * step_ns, unit)
    return each.state


@pytest.mark.parametrize(
    ("used", "level"),
    [
        (0.0, "NORMAL"),
        (0.249, "NORMAL"),
        (0.25, "MILD"),
        (0.5, "MODERATE"),
        (0.75, "SEVERE"),
        (0.999, "SEVERE"),
        (1.0, "BREACH"),
        (3.0, "BREACH"),
    ],
)
def test_levels(used: float, level: str) -> None:
    assert severity_of(used) == level


def test_the_brake_is_that_of_grossman_and_zhou_or_the_straight_line() -> None:
    state = feed(brake(), 1.0, 1.1, 1.045)
    assert state.drawdown_frac == pytest.approx(0.05)
    assert state.exposure_multiplier == pytest.approx((0.12 - 0.05) / (0.12 * 0.95))
    assert (state.severity, state.no_new_risk, state.reason) == ("MILD", False, "")
    straight = feed(DrawdownBrake(LIMITS, "linear"), 1.0, 1.1, 1.045)
    assert straight.exposure_multiplier == pytest.approx(1.0 - 0.05 / 0.12)
    with pytest.raises(ValueError, match="unknown curve 'steep'"):
        DrawdownBrake(LIMITS, "steep")  # type: ignore[arg-type]


def test_it_cuts_at_once_and_restores_after_the_drawdown_has_halved() -> None:
    each = brake()
    cut = feed(each, 1.0, 0.94).exposure_multiplier
    assert cut < 0.6
    assert feed(each, 0.955, start_ns=START_NS + 2 * DAY_NS).exposure_multiplier == cut
    assert feed(each, 0.945, start_ns=START_NS + 3 * DAY_NS).exposure_multiplier == cut
    restored = feed(each, 0.971, start_ns=START_NS + 4 * DAY_NS)
    assert restored.exposure_multiplier == pytest.approx((0.12 - 0.029) / (0.12 * 0.971))
    again = feed(each, 0.969, start_ns=START_NS + 5 * DAY_NS)  # deeper than at the restoring: cut again
    assert again.exposure_multiplier < restored.exposure_multiplier
    assert feed(each, 1.0, start_ns=START_NS + 6 * DAY_NS).exposure_multiplier == 1.0


def test_a_book_does_not_freeze_at_the_bottom() -> None:
    each = brake()
    low = feed(each, 1.0, 0.89)
    assert low.exposure_multiplier < 0.1
    assert "less than 0.25" in low.reason
    assert each.observe(START_NS + DAY_NS + REENTRY_NS - 1, 0.895).exposure_multiplier == low.exposure_multiplier
    back = each.observe(START_NS + DAY_NS + REENTRY_NS, 0.89)
    assert back.exposure_multiplier == 0.25
    assert "20 days" in back.reason
    assert not back.no_new_risk
    deeper = each.observe(START_NS + 2 * DAY_NS + REENTRY_NS, 0.888)
    assert deeper.exposure_multiplier == pytest.approx((0.12 - 0.112) / (0.12 * 0.888))
    assert each.observe(START_NS + 3 * DAY_NS + 2 * REENTRY_NS, 0.889).exposure_multiplier == 0.25


def test_the_latch_holds_over_recovery_days_and_restarts() -> None:
    each = brake()
    state = feed(each, 1.0, 0.95, 0.88)
    assert state.latched
    assert state.no_new_risk
    assert (state.exposure_multiplier, state.severity) == (0.0, "BREACH")
    assert "12.0%" in state.reason
    stored = msgspec.json.encode(each.dump())
    other = brake()
    other.load(msgspec.json.decode(stored, type=RiskMemory))
    assert other.state == state
    recovered = feed(other, 0.9, 1.0, 1.2, start_ns=START_NS + 40 * DAY_NS)
    assert recovered.latched
    assert recovered.exposure_multiplier == 0.0
    assert feed(each, 0.9, 1.0, 1.2, start_ns=START_NS + 40 * DAY_NS) == recovered


def test_only_an_operator_lifts_the_latch_and_the_peak_begins_anew() -> None:
    each = brake()
    feed(each, 1.0, 0.85)
    after = each.reset()
    assert after == RiskState()
    assert feed(each, 0.80, start_ns=START_NS + 2 * DAY_NS).drawdown_frac == pytest.approx(1 - 0.80 / 0.85)
    ruined = brake()
    feed(ruined, 1.0, -0.1)
    assert ruined.state.latched
    with pytest.raises(ValueError, match="no equity to start again"):
        ruined.reset()


def test_the_day_blocked_by_its_loss_stays_blocked_and_the_next_is_free() -> None:
    each = brake()
    feed(each, 1.0, 0.98, step_ns=HOUR_NS)
    assert each.state.daily_loss_frac == pytest.approx(0.02)
    blocked = each.observe(START_NS + 2 * HOUR_NS, 0.97)
    assert blocked.no_new_risk
    assert not blocked.latched
    assert "daily loss" in blocked.reason
    assert each.observe(START_NS + 3 * HOUR_NS, 1.01).no_new_risk  # won back, still blocked
    midnight = each.observe(START_NS + DAY_NS, 1.0)
    assert not midnight.no_new_risk
    assert midnight.daily_loss_frac == 0.0
    each.observe(START_NS + DAY_NS + HOUR_NS, 1.005)
    assert each.observe(START_NS + DAY_NS + 2 * HOUR_NS, 0.975).daily_loss_frac == pytest.approx(0.025)


def test_without_a_close_at_midnight_a_day_opens_where_the_last_one_ended() -> None:
    each = brake()
    feed(each, 1.0, 1.01, step_ns=HOUR_NS)
    assert each.observe(START_NS + DAY_NS + HOUR_NS, 0.99).daily_loss_frac == pytest.approx(1 - 0.99 / 1.01)
    assert each.dump().loss_days == 0  # the first day was won


def test_seven_losing_days_halt_and_a_day_without_a_loss_ends_it() -> None:
    each = brake()
    units = [1.0 - 0.001 * n for n in range(8)]
    assert not feed(each, *units[:7]).no_new_risk
    halted = each.observe(START_NS + 7 * DAY_NS, units[7])
    assert halted.no_new_risk
    assert "7 losing days" in halted.reason
    assert each.observe(START_NS + 7 * DAY_NS + 5 * HOUR_NS, units[7]).no_new_risk
    assert not each.observe(START_NS + 8 * DAY_NS, units[7]).no_new_risk  # a flat day


def test_days_that_were_not_seen_neither_count_nor_end_a_run() -> None:
    each = brake()
    feed(each, 1.0, 0.999, 0.998)
    assert each.dump().loss_days == 2
    each.observe(START_NS + 10 * DAY_NS, 0.997)
    assert each.dump().loss_days == 3


def test_the_first_equity_opens_the_day_and_no_loss_is_made_up() -> None:
    state = brake().observe(START_NS + HOUR_NS, 0.95)
    assert state.daily_loss_frac == 0.0
    assert state.drawdown_frac == pytest.approx(0.05)  # the start belongs to the peak


def test_what_makes_no_sense_is_refused_and_changes_nothing() -> None:
    each = brake()
    feed(each, 1.0, 0.99)
    before = each.dump()
    for ts_ns, unit, match in (
        (START_NS, 1.0, "time order"),
        (START_NS + 9 * DAY_NS, math.nan, "must be a number"),
        (START_NS + 9 * DAY_NS, math.inf, "must be a number"),
    ):
        with pytest.raises(ValueError, match=match):
            each.observe(ts_ns, unit)
    with pytest.raises(ValueError, match="result of a day"):
        each.record_day(math.nan)
    assert each.dump() == before


def test_a_dump_does_not_move_on() -> None:
    each = brake()
    feed(each, 1.0)
    before = each.dump()
    feed(each, 0.5, start_ns=START_NS + DAY_NS)
    assert before.unit == 1.0
    assert not before.latched


steps = st.lists(st.tuples(st.integers(0, 40), st.floats(0.9, 1.1)), max_size=60)


@given(steps, st.floats(0.02, 0.5), st.integers(0, 60))
def test_a_restart_anywhere_changes_nothing_and_the_multiplier_keeps_its_bounds(
    path: list[tuple[int, float]], limit: float, stop: int
) -> None:
    one, other = brake(max_drawdown_pct=limit), brake(max_drawdown_pct=limit)
    ts_ns, unit, latched = START_NS, 1.0, False
    for n, (hours, factor) in enumerate(path):
        ts_ns, unit = ts_ns + hours * HOUR_NS, unit * factor
        said = one.observe(ts_ns, unit)
        if n == stop:
            kept, other = other.dump(), brake(max_drawdown_pct=limit)
            other.load(kept)
        assert other.observe(ts_ns, unit) == said
        assert 0.0 <= said.exposure_multiplier <= 1.0
        assert 0.0 <= said.drawdown_frac < 1.0
        assert said.latched or not latched
        assert said.latched is (latched or said.drawdown_frac >= limit - 1e-12)
        latched = said.latched
        allowed = max(0.0, (limit - said.drawdown_frac) / (limit * (1 - said.drawdown_frac)))
        assert said.exposure_multiplier <= max(allowed, 0.25) + 1e-12
