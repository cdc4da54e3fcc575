"""The order book equals a plain one that sorts two dictionaries, whatever diffs come; and no break goes unnoticed."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.binance.book_feed import BookSync
from tidegate.adapters.binance.market_schemas import DepthSnapshot, DepthUpdate
from tidegate.domain.book import BookOutcome, OrderBook, breaks

BIDS = st.lists(st.tuples(st.integers(1, 40).map(float), st.sampled_from([0.0, 1.0, 2.5])), max_size=6)
ASKS = st.lists(st.tuples(st.integers(60, 99).map(float), st.sampled_from([0.0, 1.0, 2.5])), max_size=6)
DIFFS = st.lists(st.tuples(BIDS, ASKS, st.integers(0, 3)), min_size=3, max_size=25)


def events(diffs) -> list[DepthUpdate]:  # type: ignore[no-untyped-def]
    """Diffs with ids that jump and follow on one another; the first holds id 10."""
    last, found = 9, []
    for bids, asks, jump in diffs:
        first = 10 if last == 9 else last + 1 + jump
        found.append(DepthUpdate(first, first + 2, last, bids, asks))
        last = first + 2
    return found


def applied(updates: list[DepthUpdate]) -> tuple[dict[float, float], dict[float, float]]:
    """The plain way."""
    bids: dict[float, float] = {20.0: 1.0}
    asks: dict[float, float] = {80.0: 1.0}
    for update in updates:
        for side, levels in ((bids, update.bids), (asks, update.asks)):
            side.update(levels)
            for price in [price for price, qty in side.items() if not qty]:
                del side[price]
    return bids, asks


@given(DIFFS)
def test_the_book_equals_a_plain_one(diffs) -> None:  # type: ignore[no-untyped-def]
    updates = events(diffs)
    book = OrderBook(max_jump_frac=10.0)
    book.load(10, [(20.0, 1.0)], [(80.0, 1.0)])
    for count, update in enumerate(updates, 1):
        outcome = book.apply(update.first_id, update.last_id, update.previous_id, update.bids, update.asks)
        assert outcome is BookOutcome.APPLIED
        bids, asks = applied(updates[:count])
        assert book.ladder(200) == (
            tuple((price, bids[price]) for price in sorted(bids, reverse=True)),
            tuple((price, asks[price]) for price in sorted(asks)),
        )


@given(DIFFS, st.integers(0, 10**6), st.sampled_from(["dropped", "doubled", "swapped"]), st.integers(0, 4))
def test_any_damage_is_noticed_and_healed(diffs, place: int, damage: str, late: int) -> None:  # type: ignore[no-untyped-def]
    """After the damage a snapshot comes ``late`` events later; at the end the book equals the plain one again."""
    updates = events(diffs)
    at = 1 + place % (len(updates) - 2)
    seen = list(updates)
    if damage == "dropped":
        del seen[at]
    elif damage == "doubled":
        seen.insert(at, seen[at])
    else:
        seen[at], seen[at + 1] = seen[at + 1], seen[at]
    sync = BookSync(OrderBook(max_jump_frac=10.0))
    sync.diff(seen[0])
    sync.snapshot(DepthSnapshot(10, [(20.0, 1.0)], [(80.0, 1.0)]))
    noticed, waited, newest = False, 0, seen[0].last_id
    for update in seen[1:]:
        noticed = breaks(sync.diff(update)) or noticed
        newest = max(newest, update.last_id)
        if sync.needs_snapshot:
            waited += 1
            if waited > late:
                bids, asks = applied([each for each in updates if each.last_id <= newest])
                sync.snapshot(DepthSnapshot(newest, list(bids.items()), list(asks.items())))
                waited = 0
    assert noticed
    tail = DepthUpdate(updates[-1].last_id + 1, updates[-1].last_id + 1, updates[-1].last_id, [], [])
    sync.diff(tail)
    bids, asks = applied(updates)
    if sync.needs_snapshot:
        sync.snapshot(DepthSnapshot(tail.last_id, list(bids.items()), list(asks.items())))
    assert sync.book.valid
    assert {level for side in sync.book.ladder(200) for level in side} == {*bids.items(), *asks.items()}
