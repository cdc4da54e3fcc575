"""The venue's clock: the sample of the smallest round trip, its error, its age."""

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.binance.clock import MAX_AGE_NS, MAX_ERROR_NS, VenueClock, measure
from tidegate.domain.errors import VenueUnavailable

MS = 1_000_000


class Hand:
    """A monotonic clock set by hand."""

    def __init__(self) -> None:
        self.ns = 10_000 * MS

    def __call__(self) -> int:
        return self.ns


def test_before_the_first_sample_there_is_no_time() -> None:
    clock = VenueClock(Hand())
    assert not clock.synced
    assert clock.doubt == "the venue's clock has not been measured"
    with pytest.raises(VenueUnavailable):
        clock.now_ms()


def test_the_offset_is_the_servers_time_less_the_midpoint() -> None:
    hand = Hand()
    clock = VenueClock(hand)
    clock.sample(9_900 * MS, 10_000 * MS, 1_700_000_000_000)
    assert clock.now_ns() == 1_700_000_000_000 * MS + 50 * MS
    assert clock.error_ns == 50 * MS
    hand.ns += 1_000 * MS
    assert clock.now_ms() == 1_700_000_001_050
    assert clock.age_ns == 1_000 * MS
    assert clock.doubt is None


def test_a_round_keeps_its_smallest_round_trip_and_a_new_round_begins_anew() -> None:
    clock = VenueClock(Hand())
    clock.sample(0, 40 * MS, 1_000)
    clock.sample(50 * MS, 60 * MS, 2_000)
    clock.sample(70 * MS, 90 * MS, 3_000)
    assert (clock.error_ns, clock.offset_ns) == (5 * MS, 2_000 * MS - 55 * MS)
    clock.begin_round()
    assert clock.offset_ns == 2_000 * MS - 55 * MS, "the old sample serves until there is a new one"
    clock.sample(100 * MS, 180 * MS, 4_000)
    assert clock.error_ns == 40 * MS


@given(
    st.integers(-(10**15), 10**15),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=8),
)
def test_the_true_offset_lies_within_the_error(true_offset_ms: int, trips_ms: list[tuple[int, int]]) -> None:
    clock = VenueClock(Hand())
    at_ms = 0
    for there_ms, back_ms in trips_ms:
        server_ms = at_ms + there_ms + true_offset_ms
        clock.sample(at_ms * MS, (at_ms + there_ms + back_ms) * MS, server_ms)
        at_ms += there_ms + back_ms + 10
    assert clock.offset_ns is not None
    assert abs(clock.offset_ns - true_offset_ms * MS) <= clock.error_ns
    assert clock.error_ns == min(there + back for there, back in trips_ms) * MS // 2


def test_an_old_or_a_wide_measurement_is_doubted() -> None:
    hand = Hand()
    clock = VenueClock(hand)
    clock.sample(hand.ns, hand.ns, 1)
    hand.ns += MAX_AGE_NS
    assert clock.doubt is None
    hand.ns += 1
    assert "old" in (clock.doubt or "")
    clock.begin_round()
    clock.sample(hand.ns - 2 * MAX_ERROR_NS - 2, hand.ns, 1)
    assert "off" in (clock.doubt or "")
    clock.sample(hand.ns - 2 * MAX_ERROR_NS, hand.ns, 1)
    assert clock.doubt is None


def test_an_answer_before_its_question_is_a_defect() -> None:
    with pytest.raises(ValueError):
        VenueClock(Hand()).sample(2, 1, 0)


async def test_measure_takes_a_round() -> None:
    class Source:
        clock = VenueClock(Hand())
        trips_ms: ClassVar = [30, 10, 20]

        async def server_time(self) -> tuple[int, int, int]:
            return 0, self.trips_ms.pop(0) * MS, 100

    source = Source()
    await measure(source, samples=3)
    assert not source.trips_ms
    assert source.clock.error_ns == 5 * MS
