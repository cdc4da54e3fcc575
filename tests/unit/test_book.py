"""The local order book: joining, continuity, bad levels, and what it says."""

import pytest

from tidegate.domain.book import BookOutcome, OrderBook
from tidegate.domain.errors import InvariantBroken

NAN, INF = float("nan"), float("inf")


def loaded() -> OrderBook:
    """A book joined at update 100."""
    book = OrderBook()
    assert book.load(100, [(99.0, 1.0), (98.0, 2.0)], [(101.0, 1.0), (102.0, 3.0)]) is BookOutcome.APPLIED
    assert not book.valid
    assert book.apply(95, 100, 90, [], []) is BookOutcome.APPLIED
    assert book.valid
    return book


def test_absolute_quantities_zero_removes_and_unknown_levels_may_be_removed() -> None:
    book = loaded()
    changes = [(99.0, 0.0), (97.5, 4.0), (50.0, 0.0)]
    assert book.apply(103, 110, 100, changes, [(101.0, 9.0)]) is BookOutcome.APPLIED
    assert book.best_bid() == (98.0, 2.0)
    assert book.best_ask() == (101.0, 9.0)
    assert book.ladder(2) == (((98.0, 2.0), (97.5, 4.0)), ((101.0, 9.0), (102.0, 3.0)))
    assert len(book) == 4


def test_ids_jump_and_only_the_previous_id_counts() -> None:
    book = loaded()
    assert book.apply(500, 510, 100, [], []) is BookOutcome.APPLIED
    assert book.apply(511, 520, 509, [], []) is BookOutcome.GAP
    assert not book.valid


@pytest.mark.parametrize(
    ("first_id", "last_id", "outcome"),
    [
        (80, 99, BookOutcome.STALE),
        (95, 100, BookOutcome.APPLIED),
        (100, 100, BookOutcome.APPLIED),
        (100, 130, BookOutcome.APPLIED),
        (101, 130, BookOutcome.GAP),
    ],
)
def test_the_first_diff_must_hold_the_snapshots_id(first_id: int, last_id: int, outcome: BookOutcome) -> None:
    book = OrderBook()
    book.load(100, [(99.0, 1.0)], [(101.0, 1.0)])
    assert book.apply(first_id, last_id, 0, [], []) is outcome
    assert book.valid is (outcome is BookOutcome.APPLIED)


@pytest.mark.parametrize(
    ("bids", "asks", "outcome"),
    [
        ([(101.0, 1.0)], [], BookOutcome.CROSSED),
        ([], [(99.0, 1.0)], BookOutcome.CROSSED),
        ([(9_900.0, 1.0)], [(10_100.0, 1.0)], BookOutcome.CROSSED),
        ([(99.0, -1.0)], [], BookOutcome.BAD_LEVEL),
        ([(-5.0, 1.0)], [], BookOutcome.BAD_LEVEL),
        ([(0.0, 1.0)], [], BookOutcome.BAD_LEVEL),
        ([], [(NAN, 1.0)], BookOutcome.BAD_LEVEL),
        ([], [(INF, 1.0)], BookOutcome.BAD_LEVEL),
        ([(99.0, NAN)], [], BookOutcome.BAD_LEVEL),
        ([], [(101.0, 0.0), (102.0, 0.0), (10_000.0, 1.0)], BookOutcome.ABSURD),
    ],
)
def test_what_makes_no_sense_drops_the_book(bids, asks, outcome) -> None:  # type: ignore[no-untyped-def]
    book = loaded()
    assert book.apply(101, 110, 100, bids, asks) is outcome
    assert not book.valid
    assert len(book) == 0
    assert book.apply(111, 120, 110, [], []) is BookOutcome.NOT_LOADED


@pytest.mark.parametrize(
    ("bids", "asks"), [([(99.0, -1.0)], []), ([(NAN, 1.0)], []), ([(99.0, 1.0)], [(99.0, 1.0)]), ([], [(INF, 2.0)])]
)
def test_a_bad_snapshot_is_not_loaded(bids, asks) -> None:  # type: ignore[no-untyped-def]
    book = OrderBook()
    assert book.load(5, bids, asks) in (BookOutcome.BAD_LEVEL, BookOutcome.CROSSED)
    assert book.apply(5, 6, 4, [], []) is BookOutcome.NOT_LOADED


def test_walking_the_ladder() -> None:
    book = loaded()
    taken = book.walk(2.0, buy=True)
    assert (taken.qty, taken.average, taken.worst) == (2.0, 101.5, 102.0)
    given = book.walk(0.5, buy=False)
    assert (given.qty, given.average, given.worst) == (0.5, 99.0, 99.0)
    short = book.walk(100.0, buy=True)
    assert (short.qty, short.worst) == (4.0, 102.0)
    for qty in (0.0, -1.0, NAN):
        with pytest.raises(ValueError, match="positive"):
            book.walk(qty, buy=True)


def test_a_book_that_is_not_valid_says_nothing() -> None:
    book = OrderBook()
    book.load(100, [(99.0, 1.0)], [(101.0, 1.0)])
    for ask in (book.best_bid, book.best_ask, lambda: book.ladder(1), lambda: book.walk(1.0, buy=True)):
        with pytest.raises(InvariantBroken):
            ask()


def test_an_empty_side_has_no_best() -> None:
    book = loaded()
    book.apply(101, 110, 100, [(99.0, 0.0), (98.0, 0.0)], [])
    assert book.best_bid() is None
    assert book.walk(1.0, buy=False).qty == 0.0
