"""Every repository keeps the same promises: in memory, on plain PostgreSQL, on TimescaleDB."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fakes.database_rows import DAY_NS, T0, TABLES, row_of, rows_of, session_row
from tests.fakes.migrated_database import migrated_database
from tidegate.adapters.database.bar_wire import decode, encode
from tidegate.adapters.database.bars import PostgresBars
from tidegate.adapters.database.connecting import open_engine
from tidegate.adapters.database.memory import MemoryBars, MemoryModels, MemoryTables, MemoryTrading
from tidegate.adapters.database.models import PostgresModels
from tidegate.adapters.database.rows import OF_SESSIONS
from tidegate.adapters.database.tables import metadata
from tidegate.adapters.database.trading import PostgresTrading
from tidegate.domain.errors import DatabaseError, DataError, InvalidBar, ProjectionMoved
from tidegate.domain.ids import InstrumentId, ModelId
from tidegate.domain.market import HOUR_NS, MINUTE_NS, BarSpec
from tidegate.domain.messages import ModelFitted
from tidegate.ports import BarGap, BarRepository, BarSeries, ModelRepository, TradingRepository
from tidegate.quant.bars import BarTable
from tidegate.quant.resample import resample

BTC = InstrumentId("BTCUSDT")
ONE_MINUTE = BarSpec.of("1m")
SERIES = BarSeries("file", BTC, ONE_MINUTE)
FOREVER = 4 * 10**18
COLUMNS = ("ts_ns", "open", "high", "low", "close", "volume")


@dataclass
class Repositories:
    """One implementation of each port; ``engine`` is None in memory."""

    bars: BarRepository
    trading: TradingRepository
    models: ModelRepository
    engine: AsyncEngine | None


def in_memory() -> Repositories:
    tables = MemoryTables()
    return Repositories(MemoryBars(tables), MemoryTrading(tables), MemoryModels(tables), None)


@pytest.fixture(scope="module", params=["memory", "plain", "timescale"])
def place(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where the rows go: the address of a database, or None."""
    if request.param == "memory":
        yield None
        return
    server = request.getfixturevalue("postgres_url" if request.param == "plain" else "timescale_url")
    with migrated_database(server) as url:
        yield url


@pytest_asyncio.fixture
async def repositories(place: str | None) -> AsyncIterator[Repositories]:
    if place is None:
        yield in_memory()
        return
    engine = open_engine(place)
    async with engine.begin() as connection:
        await connection.execute(text(f"truncate {', '.join(OF_SESSIONS)}"))
    yield Repositories(PostgresBars(engine), PostgresTrading(engine), PostgresModels(engine), engine)
    await engine.dispose()


@pytest_asyncio.fixture
async def trading(repositories: Repositories) -> TradingRepository:
    """With session ``s1`` of account ``main``."""
    await repositories.trading.begin_session(session_row())
    return repositories.trading


@pytest.fixture
def bars(repositories: Repositories) -> BarRepository:
    return repositories.bars


def walk(count: int, start_ns: int = T0, interval_ns: int = MINUTE_NS, seed: int = 1) -> BarTable:
    """Bars that open from ``start_ns`` on, without gaps."""
    rng = np.random.default_rng(seed)
    open_ = 100 + rng.normal(size=count).cumsum() / 64
    close = open_ + rng.normal(size=count) / 64
    high, low = np.maximum(open_, close) + 0.125, np.minimum(open_, close) - 0.125
    ends = start_ns + interval_ns * np.arange(1, count + 1, dtype=np.int64)
    return BarTable(interval_ns, ends, open_, high, low, close, rng.random(count))


def rows(table: BarTable, at: Any) -> BarTable:
    return BarTable(table.interval_ns, *(getattr(table, name)[at] for name in COLUMNS))


def same(one: BarTable, two: BarTable) -> bool:
    pairs = [(getattr(one, name), getattr(two, name)) for name in COLUMNS]
    return one.interval_ns == two.interval_ns and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


# Bars


async def test_bars_come_back_bit_for_bit_and_by_their_open(bars: BarRepository) -> None:
    table = walk(40 * 1440)
    assert await bars.save(SERIES, [table]) == len(table)
    assert same(await bars.load(SERIES, T0, FOREVER), table)
    assert same(await bars.load(SERIES, T0 + MINUTE_NS, T0 + 3 * MINUTE_NS), rows(table, slice(1, 3)))
    assert len(await bars.load(SERIES, T0 - DAY_NS, T0)) == 0
    assert same(await bars.load(SERIES, T0 + 1, T0 + MINUTE_NS + 1), rows(table, slice(1, 2)))
    assert len(await bars.load(BarSeries("binance", BTC, ONE_MINUTE), T0, FOREVER)) == 0


async def test_the_same_bars_twice_stand_once(bars: BarRepository) -> None:
    table = walk(500)
    await bars.save(SERIES, [table])
    await bars.save(SERIES, [table])
    assert same(await bars.load(SERIES, T0, FOREVER), table)


async def test_a_later_save_overwrites_what_differs_and_adds_what_is_new(bars: BarRepository) -> None:
    table = walk(500)
    await bars.save(SERIES, [rows(table, slice(0, 300))])
    changed = walk(500, seed=2)
    await bars.save(SERIES, [rows(changed, slice(200, 500))])
    found = await bars.load(SERIES, T0, FOREVER)
    assert same(rows(found, slice(0, 200)), rows(table, slice(0, 200)))
    assert same(rows(found, slice(200, 500)), rows(changed, slice(200, 500)))


async def test_bars_that_fill_a_hole_are_copied_and_nothing_else_is_touched(bars: BarRepository) -> None:
    table = walk(300)
    hole = np.r_[0:100, 200:300]
    await bars.save(SERIES, [rows(table, hole)])
    assert await bars.gaps(SERIES, T0, FOREVER) == [BarGap(T0 + 100 * MINUTE_NS, 100)]
    await bars.save(SERIES, [rows(table, slice(100, 200))])
    assert same(await bars.load(SERIES, T0, FOREVER), table)
    assert await bars.gaps(SERIES, T0, FOREVER) == []


async def test_two_tables_in_one_save_may_overlap(bars: BarRepository) -> None:
    table = walk(300)
    assert await bars.save(SERIES, [rows(table, slice(0, 200)), rows(table, slice(100, 300))]) == 400
    assert same(await bars.load(SERIES, T0, FOREVER), table)


async def test_what_goes_wrong_on_the_way_leaves_nothing_behind(bars: BarRepository) -> None:
    def broken() -> Iterator[BarTable]:
        yield walk(100)
        raise InvalidBar("x.csv: line 102: high is below low")

    with pytest.raises(InvalidBar, match="line 102"):
        await bars.save(SERIES, broken())
    assert await bars.coverage() == []


async def test_series_of_runs_do_not_mix(bars: BarRepository) -> None:
    mine, theirs = (BarSeries("demo", BTC, ONE_MINUTE, "main", session) for session in ("s1", "s2"))
    await bars.save(mine, [walk(10)])
    await bars.save(theirs, [walk(20, seed=3)])
    assert same(await bars.load(mine, T0, FOREVER), walk(10))
    assert await bars.delete(mine, T0, T0 + 5 * MINUTE_NS) == 5
    assert [(each.series, each.bars) for each in await bars.coverage()] == [(mine, 5), (theirs, 20)]


async def test_latest_is_of_the_series_that_is_newest(bars: BarRepository) -> None:
    assert len(await bars.latest(BTC, ONE_MINUTE, 5)) == 0
    old, new = walk(100), walk(100, T0 + DAY_NS, seed=2)
    await bars.save(SERIES, [old])
    await bars.save(BarSeries("binance", BTC, ONE_MINUTE), [new])
    assert same(await bars.latest(BTC, ONE_MINUTE, 3), rows(new, slice(97, 100)))
    assert same(await bars.latest(BTC, ONE_MINUTE, 3, "file"), rows(old, slice(97, 100)))
    assert len(await bars.latest(InstrumentId("ETHUSDT"), ONE_MINUTE, 3)) == 0


async def test_coverage_counts_gaps_and_what_is_missing(bars: BarRepository) -> None:
    table = walk(100)
    await bars.save(SERIES, [rows(table, np.r_[0:10, 11:50, 60:100])])
    hourly = BarSeries("file", InstrumentId("ETHUSDT"), BarSpec.of("1h"))
    await bars.save(hourly, [walk(24, interval_ns=HOUR_NS)])
    one, two = await bars.coverage()
    assert (one.series, one.bars, one.gaps, one.missing) == (SERIES, 89, 2, 11)
    assert (one.first_open_ns, one.last_open_ns) == (T0, T0 + 99 * MINUTE_NS)
    assert (two.series, two.bars, two.gaps, two.missing) == (hourly, 24, 0, 0)


@pytest.mark.parametrize("name", ["5m", "1h", "1d", "1w"])
async def test_rolled_up_bars_are_those_of_the_resampler(bars: BarRepository, name: str) -> None:
    spec, table = BarSpec.of(name), walk(20 * 1440)
    await bars.save(SERIES, [table])
    long = BarSeries(SERIES.source, BTC, spec)
    want = resample(table, spec.interval_ns, spec.origin_ns)
    for _ in range(2):
        assert await bars.roll_up(SERIES, spec, 0, FOREVER) == len(want)
        found = await bars.load(long, 0, FOREVER)
        assert all(np.array_equal(getattr(found, column), getattr(want, column)) for column in COLUMNS[:-1])
        assert np.allclose(found.volume, want.volume, rtol=1e-13, atol=0)


async def test_a_rolled_up_bar_is_whole_or_absent_and_opens_in_the_range(bars: BarRepository) -> None:
    table, five = walk(60), BarSpec.of("5m")
    await bars.save(SERIES, [rows(table, np.r_[0:12, 13:60])])
    assert await bars.roll_up(SERIES, five, T0, T0 + 20 * MINUTE_NS) == 3
    found = await bars.load(BarSeries("file", BTC, five), 0, FOREVER)
    assert ((found.ts_ns - T0) // MINUTE_NS).tolist() == [5, 10, 20]
    assert await bars.roll_up(SERIES, five, FOREVER - DAY_NS, FOREVER) == 0
    with pytest.raises(ValueError, match="no whole multiple"):
        await bars.roll_up(BarSeries("file", BTC, five), BarSpec.of("3m"), 0, FOREVER)


async def test_bars_of_a_nameless_interval_are_refused(bars: BarRepository) -> None:
    with pytest.raises(ValueError, match="use one of 1m"):
        await bars.save(BarSeries("file", BTC, BarSpec("90s", 90 * 10**9)), [])
    with pytest.raises(ValueError, match="cannot be saved as 1m"):
        await bars.save(SERIES, [walk(2, interval_ns=HOUR_NS)])


async def test_two_savers_of_the_same_new_bars_do_not_fail(repositories: Repositories) -> None:
    table = walk(30_000)
    await asyncio.gather(*(repositories.bars.save(SERIES, [table]) for _ in range(3)))
    assert same(await repositories.bars.load(SERIES, T0, FOREVER), table)


@given(st.integers(0, 40_000), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
@settings(max_examples=20, deadline=None)
def test_the_wire_of_bars_has_one_size_for_each(count: int, name: str) -> None:
    messages = list(encode(BarSeries(name, InstrumentId(name), ONE_MINUTE), walk(count)))
    key = 2 * len(name.encode()) + len("1m")
    assert sum(map(len, messages)) == 19 + 2 + count * (2 + 12 * 4 + key + 7 * 8)


def test_an_answer_of_another_shape_is_refused() -> None:
    for answer in (b"", b"PGCOPY", b"PGCOPY\n\xff\r\n\0" + bytes(8) + bytes(30) + b"\xff\xff"):
        with pytest.raises(DatabaseError):
            decode(answer, MINUTE_NS)
    nulls = b"PGCOPY\n\xff\r\n\0" + bytes(8) + bytes(74) + b"\xff\xff"
    with pytest.raises(DatabaseError, match="another size"):
        decode(nulls, MINUTE_NS)


# The projector's side


async def state_of(trading: TradingRepository) -> dict[str, list[dict[str, Any]]]:
    return {name: await trading.list_rows(name, {}, 100_000) for name in (*TABLES, "sessions")}


async def test_a_batch_and_its_cursor_are_there_together(trading: TradingRepository) -> None:
    assert await trading.cursor("main", "s1") == (0, None)
    batch = {name: rows_of(name, 24) for name in TABLES}
    await trading.write("main", "s1", batch, 24, b"state", after_seq=0)
    assert await trading.cursor("main", "s1") == (24, b"state")
    for name, written in batch.items():
        found = await trading.list_rows(name, {})
        assert len(found) == len(written), name
        key = [
            column.name.replace("ts_ns", "ts").replace("ts", "ts_ns") for column in metadata.tables[name].primary_key
        ]
        by_key = {tuple(row[each] for each in key): row for row in found}
        for row in written:
            assert by_key[tuple(row[each] for each in key)].items() >= row.items(), name


async def test_stamps_follow_from_nanoseconds(trading: TradingRepository) -> None:
    odd = T0 + 123_456_789
    await trading.write("main", "s1", {"fills": [row_of("fills", 0, ts_ns=odd)]}, 1, b"", after_seq=0)
    (row,) = await trading.fills_since("main", 0)
    assert row["ts"] == datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
    assert row["ts_ns"] == odd


async def test_money_keeps_every_digit(trading: TradingRepository) -> None:
    exact = Decimal("-12345678901234567890.123456789012345678")
    await trading.write("main", "s1", {"fills": [row_of("fills", 0, realised_pnl=exact)]}, 1, b"", after_seq=0)
    (row,) = await trading.fills_since("main", 0)
    assert str(row["realised_pnl"]) == str(exact)


async def test_facts_stay_states_move_and_the_last_of_a_batch_wins(trading: TradingRepository) -> None:
    first = {"orders": rows_of("orders", 1), "fills": rows_of("fills", 1), "positions": rows_of("positions", 1)}
    await trading.write("main", "s1", first, 1, b"1", after_seq=0)
    second = {
        "orders": [row_of("orders", 0, state="WORKING"), row_of("orders", 0, state="FILLED", avg_price=Decimal("7"))],
        "fills": [row_of("fills", 0, price=Decimal("1"))],
        "positions": [row_of("positions", 0, qty=Decimal("9"))],
    }
    await trading.write("main", "s1", second, 2, b"2", after_seq=1)
    (order,) = await trading.list_rows("orders", {})
    (fill,) = await trading.list_rows("fills", {})
    (position,) = await trading.list_rows("positions", {})
    assert (order["state"], order["avg_price"]) == ("FILLED", Decimal("7"))
    assert fill["price"] == Decimal("61234.5")
    assert position["qty"] == Decimal("9")


async def test_a_projector_that_is_behind_is_refused_and_writes_nothing(trading: TradingRepository) -> None:
    await trading.write("main", "s1", {"fills": rows_of("fills", 2)}, 5, b"5", after_seq=0)
    before = await state_of(trading)
    with pytest.raises(ProjectionMoved, match="not projected to 0"):
        await trading.write("main", "s1", {"fills": rows_of("fills", 9)}, 9, b"9", after_seq=0)
    with pytest.raises(ProjectionMoved):
        await trading.write("main", "unknown", {}, 1, b"", after_seq=0)
    assert await state_of(trading) == before


async def test_of_two_projectors_at_once_one_wins(trading: TradingRepository) -> None:
    async def project(n: int) -> bool:
        try:
            some = {"fills": rows_of("fills", 300, trade_id=n), "audit_trail": [row_of("audit_trail", n)]}
            await trading.write("main", "s1", some, n, bytes([n]), after_seq=0)
        except ProjectionMoved:
            return False
        return True

    won = await asyncio.gather(*(project(n) for n in range(1, 5)))
    assert sum(won) == 1
    seq, state = await trading.cursor("main", "s1")
    assert (seq, state) == (won.index(True) + 1, bytes([won.index(True) + 1]))
    assert [row["seq"] for row in await trading.audit_since("main", 0)] == [seq]


async def test_a_batch_that_fails_late_leaves_nothing(trading: TradingRepository) -> None:
    before = await state_of(trading)
    bad = {"fills": rows_of("fills", 3), "regimes": [row_of("regimes", 0, weights={"x": float("nan")})]}
    with pytest.raises(ValueError, match="JSON"):
        await trading.write("main", "s1", bad, 1, b"", after_seq=0)
    assert await state_of(trading) == before


@pytest.mark.parametrize(
    ("table", "changed", "said"),
    [
        ("orders", {"sate": "WORKING"}, "orders has no column 'sate'; did you mean state?"),
        ("orders", {"state": "OPEN"}, "orders.state cannot be 'OPEN'; use one of"),
        ("orders", {"qty": None}, "orders.qty must have a value"),
        ("fills", {"ts_ns": None}, "ts"),
    ],
)
async def test_rows_that_do_not_fit_are_refused_by_name(
    trading: TradingRepository, table: str, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=said.replace("?", r"\?")):
        await trading.write("main", "s1", {table: [row_of(table, 0, **changed)]}, 1, b"", after_seq=0)
    with pytest.raises(ValueError, match="no table 'order'; did you mean orders"):
        await trading.write("main", "s1", {"order": [{}]}, 1, b"", after_seq=0)


async def test_defaults_stand_where_nothing_was_said(trading: TradingRepository) -> None:
    order = row_of("orders", 0)
    del order["filled_qty"], order["avg_price"]
    await trading.write(
        "main", "s1", {"orders": [order], "income_lines": rows_of("income_lines", 1)}, 1, b"", after_seq=0
    )
    (found,) = await trading.list_rows("orders", {})
    assert (found["filled_qty"], found["avg_price"], found["reason"]) == (0, None, None)
    assert [row["detail"] for row in await trading.income_since("main", 0)] == [""]


async def test_a_session_begins_once(trading: TradingRepository) -> None:
    await trading.write("main", "s1", {}, 7, b"seven", after_seq=0)
    await trading.begin_session(session_row(mode="paper"))
    assert await trading.cursor("main", "s1") == (7, b"seven")
    (row,) = await trading.sessions("main")
    assert row["mode"] == "live"
    assert "projector" not in row
    assert row["configuration"]["risk"] == {"max_leverage": 3.5}
    with pytest.raises(DataError, match="no session s9"):
        await trading.cursor("main", "s9")


async def test_the_books_of_a_real_venue_go_on_from_the_last_session(trading: TradingRepository) -> None:
    assert await trading.latest_state("main", "live") is None
    await trading.write("main", "s1", {}, 3, b"one", after_seq=0)
    await trading.begin_session(session_row("s2", gen=2))
    assert await trading.latest_state("main", "live") == ("s1", 3, b"one")
    await trading.write("main", "s2", {}, 4, b"two", after_seq=0)
    assert await trading.latest_state("main", "live") == ("s2", 4, b"two")
    assert await trading.latest_state("main", "testnet") is None
    assert await trading.latest_state("other", "live") is None


async def test_known_trades_are_those_of_the_realm_and_symbol(trading: TradingRepository) -> None:
    await trading.write("main", "s1", {"fills": rows_of("fills", 9)}, 1, b"", after_seq=0)
    assert await trading.known_trade_ids("main", "live", "BTCUSDT", range(2000)) == {1000, 1003, 1006}
    assert await trading.known_trade_ids("main", "live", "BTCUSDT", [1001, 1003]) == {1003}
    assert await trading.known_trade_ids("main", "testnet", "BTCUSDT", [1003]) == set()
    assert await trading.known_trade_ids("main", "live", "BTCUSDT", []) == set()


async def test_a_deleted_session_leaves_the_others(trading: TradingRepository) -> None:
    await trading.begin_session(session_row("s2", gen=2))
    await trading.write(
        "main", "s2", {name: [row_of(name, 99, session_id="s2")] for name in TABLES}, 1, b"", after_seq=0
    )
    before = await state_of(trading)
    await trading.write("main", "s1", {name: rows_of(name, 5) for name in TABLES}, 1, b"", after_seq=0)
    assert await trading.delete_session("main", "s1") == 5 * len(TABLES) + 1
    before["sessions"] = [row for row in before["sessions"] if row["session_id"] == "s2"]
    assert await state_of(trading) == before


# Rows one by one


@pytest.mark.parametrize(
    "table",
    ["positions", "trades", "orders", "market_data", "portfolios", "risk_metrics", "strategy_performances"],
)
async def test_rows_are_saved_read_listed_and_removed(trading: TradingRepository, table: str) -> None:
    written = rows_of(table, 6)
    assert await trading.save_rows(table, written) == 6
    found = await trading.list_rows(table, {"account_id": "main"})
    assert len(found) == 6
    key = {column.name: found[2][column.name] for column in metadata.tables[table].primary_key}
    assert await trading.get_row(table, key) == found[2]
    numbers = {name for name, value in found[2].items() if isinstance(value, Decimal | float) and name not in key}
    changed = found[2] | {name: type(found[2][name])("0.5") for name in numbers}
    await trading.save_rows(table, [changed])
    assert await trading.get_row(table, key) == changed
    assert await trading.delete_rows(table, key) == 1
    assert await trading.get_row(table, key) is None
    assert len(await trading.list_rows(table, {"account_id": "main"}, 3)) == 3
    assert await trading.delete_rows(table, {"session_id": "s1"}) == 5
    assert await trading.list_rows(table, {}) == []


async def test_facts_are_not_edited_and_nothing_is_removed_wholesale(trading: TradingRepository) -> None:
    with pytest.raises(ValueError, match="'fills' are not kept one by one"):
        await trading.save_rows("fills", [])
    with pytest.raises(ValueError, match="'audit_trail' are not kept one by one"):
        await trading.delete_rows("audit_trail", {"account_id": "main"})
    with pytest.raises(ValueError, match="all rows of orders would go"):
        await trading.delete_rows("orders", {})
    with pytest.raises(ValueError, match="no column 'symbl'; did you mean symbol"):
        await trading.list_rows("orders", {"symbl": "x"})
    with pytest.raises(ValueError, match="key of positions is account_id, realm, symbol"):
        await trading.get_row("positions", {"symbol": "x"})


# Questions: each answer worked out by hand here, then all of them against the one in memory


async def test_open_positions_and_orders(trading: TradingRepository) -> None:
    await trading.write(
        "main", "s1", {"positions": rows_of("positions", 6), "orders": rows_of("orders", 30)}, 1, b"", after_seq=0
    )
    symbols = [row["symbol"] for row in await trading.open_positions("main")]
    assert symbols == ["C0000USDT", "C0002USDT", "C0003USDT", "C0005USDT"]
    found = await trading.open_orders("main")
    assert found
    assert {row["state"] for row in found}.isdisjoint({"FILLED", "CANCELED", "REJECTED", "EXPIRED"})
    assert await trading.open_orders("main", "BTCUSDT") == [row for row in found if row["symbol"] == "BTCUSDT"]
    newest = await trading.orders_in_state("main", "FILLED", 2)
    assert [row["created_ns"] for row in newest] == sorted((row["created_ns"] for row in newest), reverse=True)
    with pytest.raises(ValueError, match="use one of"):
        await trading.orders_in_state("main", "DONE")


async def test_money_by_day_adds_up_to_the_wallet(trading: TradingRepository) -> None:
    some = {name: rows_of(name, 30) for name in ("fills", "funding_payments", "income_lines")}
    await trading.write("main", "s1", some, 1, b"", after_seq=0)
    found = await trading.money_by_day("main", T0, T0 + 2 * DAY_NS)
    fees = sum((row["fee"] for row in some["fills"] if row["fee_asset"] == "BNB"), Decimal())
    assert sum(row["amount"] for row in found if row["asset"] == "BNB") == -fees
    realised = {row["day_ns"]: row["amount"] for row in found if row["kind"] == "REALISED_PNL"}
    assert realised == {T0: Decimal(276) / 8, T0 + DAY_NS: Decimal(159) / 8}
    assert {row["kind"] for row in found} == {"REALISED_PNL", "FEE", "FUNDING", "TRANSFER", "ADJUSTMENT"}


async def test_performance_is_net_of_fees_and_funding(trading: TradingRepository) -> None:
    await trading.write(
        "main", "s1", {"strategy_performances": rows_of("strategy_performances", 60)}, 1, b"", after_seq=0
    )
    found = await trading.performance("main", 0, FOREVER, "Trend")
    assert {row["strategy"] for row in found} == {"Trend"}
    assert sum(row["fills"] for row in found) == sum(range(1, 60, 2))
    assert sum(row["net_pnl"] for row in found) == Decimal(sum(range(1, 60, 2))) / 4 - 30 * Decimal("0.75")


async def test_every_question_has_the_answer_of_the_one_in_memory(repositories: Repositories) -> None:
    twin = in_memory()
    for each in (repositories, twin):
        for session in ("s1", "s2"):
            await each.trading.begin_session(session_row(session, gen=int(session[1:])))
            offset = 50 * (session == "s2")
            batch = {name: [row_of(name, offset + n, session_id=session) for n in range(50)] for name in TABLES}
            await each.trading.write("main", session, batch, 50, session.encode(), after_seq=0)
            await each.trading.begin_session(session_row(session, account_id="other"))
    early, late = T0 + 20 * HOUR_NS, T0 + 80 * HOUR_NS
    asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("sessions", (), {}),
        ("sessions", ("main",), {}),
        ("latest_state", ("main", "live"), {}),
        ("open_positions", ("main",), {}),
        ("open_orders", ("main",), {}),
        ("open_orders", ("main", "ETHUSDT"), {}),
        *[("orders_in_state", ("main", state, 3), {}) for state in ("WORKING", "FILLED")],
        ("orders_since", ("main", early, 30), {}),
        ("orders_of_parent", ("main", "s1", "p2"), {}),
        ("parent_orders_since", ("main", early), {}),
        ("fills_since", ("main", early), {"limit": 7}),
        ("fills_since", ("main", early, "SOLUSDT"), {}),
        ("fills_of_order", ("main", "o0003"), {}),
        ("trades_closed", ("main", early, late), {}),
        ("trades_closed", ("main", early, late, "BTCUSDT"), {}),
        ("equity_curve", ("main", early, late), {}),
        ("equity_curve", ("main", early, late, "s2"), {}),
        ("latest_risk", ("main", 5), {}),
        ("performance", ("main", early, late), {}),
        ("performance", ("main", early, late, "Reversal"), {}),
        ("income_since", ("main", early, 5), {}),
        ("money_by_day", ("main", early, late), {}),
        ("wallet_at", ("main", "BNB", late), {}),
        ("wallet_at", ("main", "BNB", 0), {}),
        ("funding_since", ("main", early), {}),
        ("funding_since", ("main", early, "BTCUSDT"), {"limit": 4}),
        ("regimes_since", ("main", early), {}),
        ("audit_since", ("main", early), {}),
        ("audit_since", ("main", early), {"kind": "HALT"}),
        ("audit_since", ("main", early), {"subject": "BTCUSDT", "limit": 5}),
        ("audit_since", ("main", early), {"kind": "HALT", "subject": "BTCUSDT"}),
        ("list_rows", ("market_data", {"symbol": "BTCUSDT"}), {}),
        ("open_positions", ("nobody",), {}),
    ]
    for name, arguments, named in asked:
        answer = await getattr(repositories.trading, name)(*arguments, **named)
        assert answer == await getattr(twin.trading, name)(*arguments, **named), (name, arguments, named)


# Models


async def test_the_latest_fit_is_the_one_in_force(repositories: Repositories) -> None:
    models, garch = repositories.models, ModelId("garch")
    assert await models.latest("main", garch, FOREVER) is None
    fits = [ModelFitted(garch, T0 + n * DAY_NS, bytes([n, 0, 255]), T0 + n, T0 + n) for n in range(3)]
    for seq, fit in enumerate(fits):
        await models.save("main", "s1", fit, seq)
        await models.save("main", "s1", fit, seq)
    assert await models.latest("main", garch, T0 + DAY_NS) == fits[1]
    assert await models.latest("main", garch, T0 + DAY_NS - 1) == fits[0]
    assert await models.latest("main", garch, FOREVER) == fits[2]
    assert await models.latest("main", garch, T0 - 1) is None
    assert await models.latest("other", garch, FOREVER) is None
    assert await models.latest("main", ModelId("hmm"), FOREVER) is None
