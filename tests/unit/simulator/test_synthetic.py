"""The invented market: always the same, always sensible, and no way to be rich by holding it."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.domain.market import DAY_NS, HOUR_NS, MINUTE_NS, WEEK_ORIGIN_NS
from tidegate.simulator.synthetic import BLOCK_BARS, DEFAULT_START_NS, DEFAULT_UNIVERSE, SyntheticChunk, SyntheticMarket

YEAR_HOURS = 8760
PRICES = ("open", "high", "low", "close")
Chunks = dict[str, SyntheticChunk]


@pytest.fixture(scope="module")
def hourly() -> list[Chunks]:
    """Twelve markets of 20,000 hours."""
    return [next(SyntheticMarket(seed, interval_ns=HOUR_NS).chunks(20_000)) for seed in range(12)]


def columns(parts: Sequence[SyntheticChunk]) -> dict[str, np.ndarray]:
    table = {name: np.concatenate([getattr(p.table, name) for p in parts]) for name in ("ts_ns", *PRICES, "volume")}
    return table | {
        n: np.concatenate([getattr(p, n) for p in parts]) for n in ("mark", "half_spread_frac", "depth_qty")
    }


def returns(chunk: SyntheticChunk) -> np.ndarray:
    return np.diff(np.log(chunk.table.close))


def memory(moves: np.ndarray, lag: int) -> float:
    """Autocorrelation of the size of moves."""
    return float(np.corrcoef(np.abs(moves[lag:]), np.abs(moves[:-lag]))[0, 1])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**63), sizes=st.lists(st.integers(1, 3 * BLOCK_BARS), min_size=1, max_size=3))
def test_the_numbers_do_not_depend_on_how_they_are_read(seed: int, sizes: list[int]) -> None:
    whole = next(SyntheticMarket(seed, interval_ns=HOUR_NS).chunks(1700))
    for rows in sizes:
        source = SyntheticMarket(seed, interval_ns=HOUR_NS).chunks(rows)
        parts = [next(source) for _ in range(-(-1700 // rows))]
        for instrument in DEFAULT_UNIVERSE:
            one, many = whole[instrument.id], [part[instrument.id] for part in parts]
            for name, column in columns([one]).items():
                np.testing.assert_array_equal(columns(many)[name][:1700], column)
            funding = [event for part in many for event in part.funding if event.ts_ns <= one.table.ts_ns[-1]]
            assert funding == one.funding
            for part in many:
                first_open = part.table.ts_ns[0] - part.table.interval_ns
                assert all(first_open < event.ts_ns <= part.table.ts_ns[-1] for event in part.funding)


def test_another_seed_is_another_market_and_every_reading_begins_anew() -> None:
    market = SyntheticMarket(7)
    one, again, other = (next(source.chunks(50))["BTCUSDT"] for source in (market, market, SyntheticMarket(8)))
    np.testing.assert_array_equal(one.table.close, again.table.close)
    assert not np.array_equal(one.table.close, other.table.close)


@pytest.mark.parametrize("interval_ns", [MINUTE_NS, 5 * MINUTE_NS, HOUR_NS, DAY_NS, 7 * DAY_NS])
def test_every_bar_is_valid_and_on_the_contracts_grids(interval_ns: int) -> None:
    start_ns = WEEK_ORIGIN_NS if interval_ns == 7 * DAY_NS else DEFAULT_START_NS
    chunks = next(SyntheticMarket(3, interval_ns=interval_ns, start_ns=start_ns).chunks(3000))
    assert list(chunks) == [instrument.id for instrument in DEFAULT_UNIVERSE]
    for instrument in DEFAULT_UNIVERSE:
        chunk = chunks[instrument.id]
        bars = chunk.table
        np.testing.assert_array_equal(bars.ts_ns, start_ns + interval_ns * np.arange(1, 3001))
        assert np.all(bars.low > 0)
        assert np.all(bars.low <= np.minimum(bars.open, bars.close))
        assert np.all(bars.high >= np.maximum(bars.open, bars.close))
        assert np.all(np.abs(bars.open[1:] - bars.close[:-1]) <= float(instrument.tick) * 1.001)
        for name in PRICES:
            for price in getattr(bars, name)[:300].tolist():
                assert Decimal(repr(price)) % instrument.tick == 0
        for qty in (*bars.volume[:300].tolist(), *chunk.depth_qty[:300].tolist()):
            assert qty > 0
            assert Decimal(repr(qty)) % instrument.step == 0
        assert np.all((chunk.half_spread_frac > 0) & (chunk.half_spread_frac < 0.01))
        assert np.all(chunk.half_spread_frac * bars.close >= float(instrument.tick) / 2 * 0.999)
        assert np.all(np.abs(chunk.mark / bars.close - 1.0) < 0.001)


def test_volatility_is_plausible_clusters_and_has_fat_tails(hourly: list[Chunks]) -> None:
    for chunks in hourly:
        for name, chunk in chunks.items():
            moves = returns(chunk)
            assert 0.3 < moves.std() * np.sqrt(YEAR_HOURS) < 1.5, name
            assert ((moves - moves.mean()) ** 4).mean() / moves.var() ** 2 > 4, name
            assert min(memory(moves, lag) for lag in (1, 5, 24)) > 0.03, name
            assert abs(np.corrcoef(moves[1:], moves[:-1])[0, 1]) < 0.05, name


def test_volatility_clusters_within_a_regime_too() -> None:
    """A regime lasts for thousands of minutes: without a memory of its own, variance would recall five hours as one."""
    for name, chunk in next(SyntheticMarket(2).chunks(60_000)).items():
        moves = returns(chunk)
        calm = np.clip(moves, -6 * np.median(np.abs(moves)), 6 * np.median(np.abs(moves)))
        assert memory(calm, 1) > memory(calm, 300) + 0.04, name


def test_symbols_move_together_but_not_as_one(hourly: list[Chunks]) -> None:
    for chunks in hourly:
        for one, two in combinations(chunks.values(), 2):
            assert 0.35 < np.corrcoef(returns(one), returns(two))[0, 1] < 0.92


def test_holding_it_earns_nothing_in_the_long_run(hourly: list[Chunks]) -> None:
    """The mean simple return over all markets lies within three standard errors of zero, for every symbol."""
    for instrument in DEFAULT_UNIVERSE:
        closes = [chunks[instrument.id].table.close for chunks in hourly]
        moves = np.concatenate([np.diff(close) / close[:-1] for close in closes])
        assert abs(moves.mean()) < 3 * moves.std() / np.sqrt(len(moves)), instrument.id


def test_busy_bars_trade_more_at_a_wider_spread_and_less_at_the_touch(hourly: list[Chunks]) -> None:
    for instrument in DEFAULT_UNIVERSE:
        chunk = hourly[0][instrument.id]
        close, spread = chunk.table.close, chunk.half_spread_frac
        size = np.log(chunk.table.high / chunk.table.low)
        free = spread > 0.51 * float(instrument.tick) / close  # elsewhere the spread is one tick
        assert np.corrcoef(size[free], spread[free])[0, 1] > 0.2, instrument.id
        assert np.corrcoef(size, chunk.table.volume * close)[0, 1] > 0.2, instrument.id
        assert np.corrcoef(size, chunk.depth_qty * close)[0, 1] < -0.2, instrument.id


def test_funding_is_settled_every_eight_hours_around_the_base_rate(hourly: list[Chunks]) -> None:
    rates = []
    for chunks in hourly:
        for name, chunk in chunks.items():
            stamps = [event.ts_ns for event in chunk.funding]
            assert stamps == list(range(DEFAULT_START_NS + 8 * HOUR_NS, int(chunk.table.ts_ns[-1]) + 1, 8 * HOUR_NS))
            assert {event.instrument for event in chunk.funding} == {name}
            assert all(event.recv_ns == event.ts_ns and abs(event.rate) <= 0.0075 for event in chunk.funding)
            rates += [event.rate for event in chunk.funding]
    assert np.mean(rates) == pytest.approx(0.0001, abs=0.0001)
    assert min(rates) < 0 < max(rates)


def test_a_settlement_averages_over_its_eight_hours_at_any_interval(hourly: list[Chunks]) -> None:
    """Eight hours are 480 minutes, so settlements of the minute market straddle the blocks."""
    chunks = next(SyntheticMarket(5).chunks(60_000))
    minute = [event.rate for chunk in chunks.values() for event in chunk.funding]
    hour = [event.rate for chunk in hourly[0].values() for event in chunk.funding]
    assert max(map(abs, minute)) < 1.5 * max(map(abs, hour))
    assert np.std(minute) < 1.5 * np.std(hour)


def test_a_bar_longer_than_eight_hours_holds_several_settlements() -> None:
    chunk = next(SyntheticMarket(1, interval_ns=DAY_NS).chunks(3))["BTCUSDT"]
    assert [event.ts_ns - DEFAULT_START_NS for event in chunk.funding] == [8 * HOUR_NS * n for n in range(1, 10)]


def test_the_contracts_and_start_prices_can_be_chosen() -> None:
    named = SyntheticMarket(1, ["SOLUSDT", DEFAULT_UNIVERSE[0]], start_prices={"SOLUSDT": 25.0})
    assert [instrument.id for instrument in named.instruments] == ["SOLUSDT", "BTCUSDT"]
    chunk = next(named.chunks(1))
    assert chunk["SOLUSDT"].table.open[0] == pytest.approx(25.0, abs=0.011)
    for wrong, reason in (
        (lambda: SyntheticMarket(1, ["DOGEUSDT"]), "no contract 'DOGEUSDT'.* it has BTCUSDT"),
        (lambda: SyntheticMarket(1, []), "at least one"),
        (lambda: SyntheticMarket(1, start_ns=1), "does not lie on the grid"),
        (lambda: SyntheticMarket(1, start_prices={"DOGEUSDT": 1.0}), "start_prices: DOGEUSDT"),
        (lambda: SyntheticMarket(1, start_prices={"BTCUSDT": 0.0}), "start_prices: BTCUSDT"),
        (lambda: next(SyntheticMarket(1).chunks(0)), "rows must be at least 1"),
    ):
        with pytest.raises(ValueError, match=reason):
            wrong()
