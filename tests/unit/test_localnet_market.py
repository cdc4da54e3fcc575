"""The local market: prices by the clock, candles of every interval, history, funding, the ladder and its feeds."""

from decimal import Decimal
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.adapters.localnet.candles import INTERVALS, end_of, open_times
from tidegate.adapters.localnet.ladder import DepthChange, Ladder
from tidegate.adapters.localnet.market import LocalMarket, MarketConfig
from tidegate.adapters.localnet.path import ReplayPath, grouped, split
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import DAY_NS, HOUR_NS, MINUTE_NS
from tidegate.quant.bars import BarTable
from tidegate.simulator.synthetic import DEFAULT_UNIVERSE, SyntheticMarket

NOON_NS = 19_700 * DAY_NS + 12 * HOUR_NS + 7 * MINUTE_NS
TWO = DEFAULT_UNIVERSE[:2]


class Hand:
    """A clock moved by hand."""

    def __init__(self, now_ns: int = NOON_NS) -> None:
        self.at_ns = now_ns

    def now_ns(self) -> int:
        return self.at_ns

    def monotonic_ns(self) -> int:
        return self.at_ns

    async def sleep_until(self, at_ns: int) -> None:
        self.at_ns = max(self.at_ns, at_ns)


def market_at(clock: Hand, **changes: object) -> LocalMarket:
    config = MarketConfig(**{"instruments": TWO, "history_bars": 40, **changes})  # type: ignore[arg-type]
    return LocalMarket(clock, Random(7), config)


def run(market: LocalMarket, clock: Hand, seconds: float, tick_s: float = 1.0) -> None:
    for _ in range(round(seconds / tick_s)):
        clock.at_ns += round(tick_s * 1e9)
        market.tick()


def test_the_same_seed_makes_the_same_market() -> None:
    def prints(seed: int) -> list[object]:
        clock = Hand()
        market = market_at(clock, seed=seed)
        run(market, clock, 90)
        return [*market.lines["BTCUSDT"].trades, *market.lines["ETHUSDT"].trades]

    assert prints(3) == prints(3)
    assert prints(3) != prints(4)


def test_no_extreme_is_lost_however_coarse_the_ticks() -> None:
    candles = []
    for tick_s in (0.25, 20.0, 600.0):
        clock = Hand()
        market = market_at(clock)
        run(market, clock, 1_200, tick_s)
        candles.append(market.lines["ETHUSDT"].candles.rows("1m", 20)[:19, 1:5])
    np.testing.assert_array_equal(candles[0], candles[1])
    np.testing.assert_array_equal(candles[0], candles[2])


def test_the_minutes_are_those_of_the_invented_market() -> None:
    clock = Hand()
    market = market_at(clock, seed=5)
    run(market, clock, 600, 5.0)
    expected = next(SyntheticMarket(5, TWO, MINUTE_NS, 0).chunks(10))[InstrumentId("ETHUSDT")].table.rows()
    np.testing.assert_allclose(market.lines["ETHUSDT"].candles.rows("1m", 11)[:10, 1:5], expected[:, :4], rtol=1e-12)


def test_speed_moves_the_path_and_not_the_clock() -> None:
    clock = Hand()
    market = market_at(clock, seed=5, speed=30.0)
    run(market, clock, 600, 5.0)
    rows = market.lines["ETHUSDT"].candles.rows("1m", 11)[:10]
    expected = next(SyntheticMarket(5, TWO, 30 * MINUTE_NS, 0).chunks(10))[InstrumentId("ETHUSDT")].table.rows()
    np.testing.assert_allclose(rows[:, 1:5], expected[:, :4], rtol=1e-12)
    assert np.diff(rows[:, 0]).tolist() == [60_000] * 9


def test_prices_are_on_the_grid_and_the_touch_never_crosses() -> None:
    clock = Hand()
    market = market_at(clock)
    seen: list[str] = []

    def look(symbol: str, now_ns: int) -> None:
        bid, bid_qty, ask, ask_qty = market.best(symbol)
        instrument = market.symbols[symbol].instrument
        assert bid < ask
        assert market.last(symbol) in (bid, ask)
        assert not bid % instrument.tick
        assert not ask % instrument.tick
        assert bid_qty >= instrument.step
        assert ask_qty >= instrument.step
        assert abs(market.mark(symbol) / market.last(symbol) - 1) < Decimal("0.002")
        assert now_ns <= clock.at_ns
        seen.append(symbol)

    market.subscribe(look)
    run(market, clock, 120)
    assert {"BTCUSDT", "ETHUSDT"} == set(seen)


def test_a_clock_set_back_moves_nothing() -> None:
    clock = Hand()
    market = market_at(clock)
    run(market, clock, 10)
    rows = market.lines["BTCUSDT"].candles.rows("1m")
    clock.at_ns -= 5 * MINUTE_NS
    market.tick()
    assert market.lines["BTCUSDT"].candles.rows("1m")[:, 0].tolist() == rows[:, 0].tolist()
    assert market.now_ms == (clock.at_ns + 5 * MINUTE_NS) // 1_000_000


@pytest.mark.parametrize("interval", INTERVALS)
def test_history_reaches_back_and_joins_the_present(interval: str) -> None:
    clock = Hand()
    market = market_at(clock)
    run(market, clock, 3 * 86_400, 3_600.0)
    candles = market.lines["BTCUSDT"].candles
    rows = candles.rows(interval)
    begun = int(np.searchsorted(rows[:, 0], market.start_ms, side="right"))
    assert begun >= (9 if interval == "1M" else 40)
    ends = [end_of(interval, int(at_ms)) for at_ms in rows[:, 0]]
    assert ends[:-1] == rows[1:, 0].astype(int).tolist(), "no gap, no overlap"
    assert (rows[:, 2] >= rows[:, [1, 4]].max(axis=1)).all()
    assert (rows[:, 3] <= rows[:, [1, 4]].min(axis=1)).all()
    np.testing.assert_allclose(rows[1:, 1], rows[:-1, 4], rtol=2e-4, err_msg="an open far from the last close")
    np.testing.assert_array_equal(candles.rows(interval, 5), rows[-5:])


@pytest.mark.parametrize("interval", [name for name in INTERVALS if name not in ("1m", "1M")])
def test_longer_candles_are_made_of_the_minutes(interval: str) -> None:
    clock = Hand()
    market = market_at(clock)
    run(market, clock, 8 * 86_400, 600.0)
    candles = market.lines["ETHUSDT"].candles
    minutes, longer = candles.rows("1m"), candles.rows(interval)
    for row in longer[longer[:, 0] >= minutes[0, 0]]:
        inside = minutes[(minutes[:, 0] >= row[0]) & (minutes[:, 0] <= row[6])]
        assert row[1] == inside[0, 1]
        assert row[2] == inside[:, 2].max()
        assert row[3] == inside[:, 3].min()
        assert row[4] == inside[-1, 4]
        assert row[5] == pytest.approx(inside[:, 5].sum())


def test_months_follow_the_calendar() -> None:
    at_ms = np.array([1_709_164_800_000, 1_709_251_200_000], dtype=np.int64)  # 29 February and 1 March 2024
    assert open_times("1M", at_ms).tolist() == [1_706_745_600_000, 1_709_251_200_000]
    assert end_of("1M", 1_706_745_600_000) == 1_709_251_200_000
    assert end_of("1M", 1_701_388_800_000) == 1_704_067_200_000  # over the new year


def test_closed_candles_are_noted_in_the_tick_that_closes_them() -> None:
    clock = Hand(19_700 * DAY_NS + 59 * MINUTE_NS + 50 * 10**9)
    market = market_at(clock)
    closed: list[list[str]] = []
    market.on_tick(lambda _: closed.append([name for name, _ in market.lines["BTCUSDT"].candles.closed]))
    run(market, clock, 11)
    assert [names for names in closed if names] == [["1m", "3m", "5m", "15m", "30m", "1h"]]
    assert closed[9]
    assert not closed[10]


def test_funding_is_settled_every_eight_hours_and_can_be_forced() -> None:
    clock = Hand(19_700 * DAY_NS + 8 * HOUR_NS - 30 * 10**9)
    market = market_at(clock)
    paid: list[tuple[str, Decimal, Decimal, int]] = []
    market.on_funding(lambda *settled: paid.append(settled))
    at_ms = (19_700 * DAY_NS + 8 * HOUR_NS) // 1_000_000
    assert market.funding("BTCUSDT")[1] == at_ms
    run(market, clock, 60)
    assert [(symbol, when) for symbol, _, _, when in paid] == [("BTCUSDT", at_ms), ("ETHUSDT", at_ms)]
    assert market.funding("BTCUSDT")[1] == at_ms + 8 * 3_600_000
    market.set_funding("BTCUSDT", -0.0375, 1)
    assert market.funding("BTCUSDT") == (Decimal("-0.03750000"), at_ms + 3_600_000)
    run(market, clock, 3_600, 60.0)
    assert (paid[-1][0], paid[-1][1], paid[-1][3]) == ("BTCUSDT", Decimal("-0.0375"), at_ms + 3_600_000)
    with pytest.raises(ValueError, match="1, 4 or 8"):
        market.set_funding("BTCUSDT", None, 5)


def test_past_settlements_are_invented_and_followed_by_real_ones() -> None:
    clock = Hand()
    market = market_at(clock)
    run(market, clock, 86_400, 600.0)
    times = [each.at_ms for each in market.lines["BTCUSDT"].settled()]
    assert len(times) >= 40
    assert np.diff(times).tolist() == [8 * 3_600_000] * (len(times) - 1)


def test_the_venue_may_move_a_price_and_change_a_contract() -> None:
    clock = Hand()
    market = market_at(clock)
    told: list[str] = []
    market.on_listing(told.append)
    before = market.last("BTCUSDT")
    market.shift("BTCUSDT", -0.2)
    assert market.last("BTCUSDT") / before == pytest.approx(Decimal("0.8"), rel=Decimal("0.002"))
    run(market, clock, 60)
    assert market.last("BTCUSDT") < before * Decimal("0.85")
    market.set_status("BTCUSDT", "SETTLING")
    market.set_contract("BTCUSDT", {"min_notional": Decimal(123)})
    listed = market.symbols["BTCUSDT"]
    assert listed.info["status"] == "SETTLING"
    assert {"filterType": "MIN_NOTIONAL", "notional": "123"} in listed.info["filters"]
    assert listed.instrument.min_notional == 123
    assert told == ["BTCUSDT", "BTCUSDT"]
    with pytest.raises(ValueError, match="no price"):
        market.shift("BTCUSDT", -1.0)


def test_stored_bars_are_replayed_and_then_the_price_stands() -> None:
    tables = next(SyntheticMarket(9, TWO, MINUTE_NS, 0).chunks(40))
    path = ReplayPath(["BTCUSDT", "ETHUSDT"], lambda name: iter([tables[InstrumentId(name)].table]))
    clock = Hand()
    market = LocalMarket(clock, Random(1), MarketConfig(instruments=TWO, history_bars=30), path)
    run(market, clock, 25 * 60, 10.0)
    rows, expected = market.lines["ETHUSDT"].candles.rows("1m"), tables[InstrumentId("ETHUSDT")].table.rows()
    live = rows[rows[:, 0] >= market.start_ms]
    np.testing.assert_allclose(live[:20, 1:5], expected[20:, :4], rtol=1e-12)
    assert set(live[21:, 4].tolist()) == {expected[-1, 3]}
    np.testing.assert_allclose(rows[-46:-26, 4], expected[:20, 3])


def test_a_replay_begins_where_every_symbol_has_bars() -> None:
    tables = next(SyntheticMarket(9, TWO, MINUTE_NS, 0).chunks(40))
    late = tables[InstrumentId("ETHUSDT")].table
    short = BarTable(late.interval_ns, late.ts_ns[10:], *np.ascontiguousarray(late.rows()[10:].T))
    stored = {"BTCUSDT": tables[InstrumentId("BTCUSDT")].table, "ETHUSDT": short}
    past = ReplayPath(["BTCUSDT", "ETHUSDT"], lambda name: iter([stored[name]])).before()
    np.testing.assert_array_equal(past["BTCUSDT"][0], stored["BTCUSDT"].rows()[10])
    np.testing.assert_array_equal(past["ETHUSDT"][0], late.rows()[10])


def test_a_replay_without_bars_names_the_symbol() -> None:
    with pytest.raises(ValueError, match="no bars of ETHUSDT"):
        ReplayPath(["ETHUSDT"], lambda _: iter(()))


@given(st.integers(2, 60), st.integers(0, 2**32))
def test_minutes_of_a_split_bar_hold_its_extremes(count: int, seed: int) -> None:
    rows = next(SyntheticMarket(seed, TWO, HOUR_NS, 0).chunks(3))[InstrumentId("BTCUSDT")].table.rows()
    minutes = split(rows, count)
    assert len(minutes) == 3 * count
    np.testing.assert_allclose(grouped(minutes, count), rows, rtol=1e-9)
    assert (minutes[:, 1] >= minutes[:, [0, 3]].max(axis=1) - 1e-9).all()
    assert (minutes[:, 2] <= minutes[:, [0, 3]].min(axis=1) + 1e-9).all()


Move = tuple[int, int, int, int]
MOVES = st.lists(
    st.tuples(st.integers(-40, 40), st.integers(1, 500), st.integers(1, 9), st.integers(1, 500)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60)
@given(MOVES, st.integers(0, 2**32), st.data())
def test_a_book_kept_from_the_feed_is_the_ladder(moves: list[Move], seed: int, data: st.DataObject) -> None:
    ladder = Ladder(Random(seed), 12)
    bid = 400_000
    ladder.move(bid, 10, bid + 1, 10)
    feed = ladder.watch()
    snapshot_at = data.draw(st.integers(0, len(moves) - 1))
    changes: list[DepthChange] = []
    books: tuple[dict[int, int], dict[int, int]] = ({}, {})
    snapshot_id = -1
    for step, (by, bid_qty, spread, ask_qty) in enumerate(moves):
        bid += by
        ladder.move(bid, bid_qty, bid + spread, ask_qty)
        if step == snapshot_at:
            books, snapshot_id = (dict(ladder.bids), dict(ladder.asks)), ladder.next_id
        if data.draw(st.booleans()) and (change := feed.take()):
            changes.append(change)
    if change := feed.take():
        changes.append(change)
    for earlier, later in pairwise(changes):
        assert later.previous_id == earlier.last_id
        assert later.first_id > earlier.last_id + 1, "ids jump"
    todo = [change for change in changes if change.last_id >= snapshot_id]
    if todo:
        assert todo[0].first_id <= snapshot_id <= todo[0].last_id
    for change in todo:
        for book, side in zip(books, (change.bids, change.asks), strict=True):
            book.update(side)
            for price in [price for price, qty in side.items() if not qty]:
                del book[price]
    assert books == (ladder.bids, ladder.asks)
    assert max(ladder.bids) < min(ladder.asks)
    assert len(ladder.bids) == len(ladder.asks) == 12
