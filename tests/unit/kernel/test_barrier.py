"""The barrier: one step per close, whoever comes late, never comes, joins or leaves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kernel.worlds import BTC, ETH, SOL
from tidegate.kernel.barrier import Arrival, Barrier


def begun(*names: str) -> Barrier:
    """A barrier to which these instruments are known, their close at 1 done."""
    barrier = Barrier()
    for name in names:
        barrier.arrive(name, 1)
    barrier.give_up()
    return barrier


def test_one_instrument_completes_every_close() -> None:
    barrier = Barrier()
    assert [barrier.arrive(BTC, ts) for ts in (1, 2, 3)] == [Arrival.COMPLETE] * 3
    assert not barrier.give_up()


@pytest.mark.parametrize("order", [(BTC, ETH, SOL), (SOL, BTC, ETH)])
def test_the_last_of_several_completes_the_close(order: tuple[str, ...]) -> None:
    barrier = begun(BTC, ETH, SOL)
    for ts in (2, 3):
        assert [barrier.arrive(name, ts) for name in order] == [Arrival.FIRST, Arrival.WAITING, Arrival.COMPLETE]
        assert not barrier.give_up()


def test_a_late_joiner_counts_from_its_second_bar() -> None:
    barrier = Barrier()
    assert barrier.arrive(BTC, 1) is Arrival.COMPLETE
    assert barrier.arrive(ETH, 1) is Arrival.LATE
    assert barrier.arrive(BTC, 2) is Arrival.FIRST
    assert barrier.arrive(ETH, 2) is Arrival.COMPLETE


def test_a_joiner_before_the_close_is_done_is_waited_for() -> None:
    barrier = begun(BTC, ETH)
    assert barrier.arrive(BTC, 2) is Arrival.FIRST
    assert barrier.arrive(SOL, 2) is Arrival.WAITING
    assert barrier.arrive(ETH, 2) is Arrival.COMPLETE


def test_when_the_grace_is_over_the_close_is_done_and_the_missing_one_stale() -> None:
    barrier = begun(BTC, ETH)
    barrier.arrive(BTC, 2)
    assert barrier.give_up()
    assert not barrier.give_up()
    assert barrier.missing(ETH)
    assert not barrier.missing(BTC)
    assert barrier.arrive(ETH, 2) is Arrival.LATE
    assert not barrier.missing(ETH)


def test_a_bar_of_an_older_close_leaves_the_instrument_stale() -> None:
    barrier = begun(BTC, ETH)
    barrier.arrive(BTC, 3)
    assert barrier.arrive(ETH, 2) is Arrival.LATE
    assert barrier.missing(ETH)
    assert barrier.arrive(ETH, 3) is Arrival.COMPLETE


def test_a_repeated_bar_counts_once() -> None:
    barrier = begun(BTC, ETH, SOL)
    barrier.arrive(BTC, 2)
    assert barrier.arrive(BTC, 2) is Arrival.LATE
    assert barrier.arrive(ETH, 2) is Arrival.WAITING


def test_who_leaves_is_not_waited_for() -> None:
    barrier = begun(BTC, ETH, SOL)
    barrier.arrive(BTC, 2)
    barrier.arrive(ETH, 2)
    assert barrier.leave(SOL)
    assert not barrier.leave(SOL)
    assert barrier.arrive(BTC, 3) is Arrival.FIRST
    assert not barrier.leave(BTC)
    assert barrier.arrive(ETH, 3) is Arrival.COMPLETE


def test_who_was_never_seen_is_not_missing() -> None:
    assert not begun(BTC).missing(ETH)


@given(st.lists(st.sets(st.sampled_from([BTC, ETH, SOL]), min_size=1), min_size=1, max_size=12), st.data())
def test_every_close_is_stepped_exactly_once(closes: list[set[str]], data: st.DataObject) -> None:
    """With the grace timer standing in wherever the barrier asked for it; restored from a dump at every close."""
    barrier = Barrier()
    for ts, present in enumerate(closes, 1):
        steps = asked = 0
        for name in data.draw(st.permutations(sorted(present))):
            arrival = barrier.arrive(name, ts)
            steps += arrival is Arrival.COMPLETE
            asked += arrival is Arrival.FIRST
        steps += barrier.give_up()
        assert steps == 1
        assert asked <= 1
        again = Barrier()
        again.load(**barrier.dump())  # type: ignore[arg-type]
        assert again.dump() == barrier.dump()
        barrier = again
