"""Full tables, made by the server itself: an account that trades ten contracts, and others beside it."""

import asyncio
from contextlib import closing

from tidegate.adapters.database.connecting import admin_engine
from tidegate.adapters.database.partitions import ensure_partitions
from tidegate.adapters.database.tables import metadata
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import BarSpec
from tidegate.ports import BarSeries

ACCOUNT, SESSION = "a1", "s1"
ROWS = 20_000
STEP_NS = 600 * 10**9  # a row every ten minutes
START_NS = 1_767_225_600 * 10**9  # 2026-01-01
END_NS = START_NS + ROWS * STEP_NS
BARS = 20_000
BAR_SERIES = BarSeries("file", InstrumentId("S3USDT"), BarSpec.of("1m"))

_TS_NS = f"({START_NS} + i * {STEP_NS}::bigint)"
_TS = f"to_timestamp({START_NS // 10**9} + i * {STEP_NS // 10**9})"
_ACCOUNT = "'a' || i % 3"
_SESSION = "'s' || i / 5000"
_SYMBOL = "'S' || i % 10 || 'USDT'"
_SIDE = "(array['BUY', 'SELL'])[1 + i % 2]::side"
_KEY = f"{_ACCOUNT}, 's1'"

_INSERTS = {
    # of a hundred orders, one is still open and one was rejected
    "orders": f"""(account_id, session_id, client_order_id, realm, symbol, side, order_type, state, time_in_force,
        position_side, purpose, qty, reduce_only, parent_id, seq, created_ns, updated_ns)
        select {_KEY}, 'o' || i, 'live', {_SYMBOL}, {_SIDE}, 'LIMIT', (case i % 100 when 0 then 'WORKING'
        when 1 then 'REJECTED' else 'FILLED' end)::order_state, 'GTC', 'BOTH', 'ENTRY', 1, false, 'p' || i / 5, i,
        {_TS_NS}, {_TS_NS}""",
    "fills": f"""(account_id, realm, symbol, trade_id, session_id, client_order_id, side, position_side, qty, price,
        fee, fee_asset, realised_pnl, maker, cause, seq, ts, ts_ns, recv_ns)
        select {_ACCOUNT}, 'live', {_SYMBOL}, i, 's1', 'o' || i / 2, {_SIDE}, 'BOTH', 1, 100, 0.04, 'USDT', 0, false,
        'TRADE', i, {_TS}, {_TS_NS}, {_TS_NS}""",
    "trades": f"""select {_ACCOUNT}, 'live', {_SYMBOL}, i, 's1', {_SIDE}, {_TS_NS}, {_TS_NS}, 1, 100, 101, 1, 0.01,
        0.08, 0, 0.9, 'SIGNAL'""",
    # simulated sessions leave positions that are flat; a few are open
    "positions": f"""select {_ACCOUNT}, 's' || i / 10, {_SYMBOL}, 's' || i / 10, case when i > {ROWS - 30} then 1 else 0
        end, 0, null, 0, 0, 0, {_TS_NS}""",
    "parent_orders": f"select {_KEY}, 'p' || i, {_SYMBOL}, {_SIDE}, 1, 'ENTRY', null, 100, {_TS_NS}",
    "funding_payments": f"""select {_ACCOUNT}, 'live', 'l' || i, 's1', {_SYMBOL}, 'USDT', 0.1, 0.0001, 100, false, i,
        {_TS}, {_TS_NS}""",
    "income_lines": f"""select {_ACCOUNT}, 'live', 'l' || i, 's1', 'TRANSFER', null, 'USDT', 1, '', i, {_TS},
        {_TS_NS}""",
    "wallets": f"select {_ACCOUNT}, {_SESSION}, (array['USDT', 'BNB'])[1 + i % 2], i, 'live', 1000, {_TS_NS}",
    "portfolios": f"select {_ACCOUNT}, {_SESSION}, {_TS_NS}, 'live', {_TS}, 1000, 0, 1000, 0, 0, 0",
    "risk_metrics": f"select {_ACCOUNT}, {_SESSION}, {_TS}, {_TS_NS}, 0.01, 1, 0, null, null, null",
    "strategy_performances": f"""select {_ACCOUNT}, {_SESSION}, (array['Trend', 'Reversal'])[1 + i % 2], {_SYMBOL},
        (enum_range(null::scenario))[1 + i % 2], {_TS_NS}, 'live', {_TS_NS}, 1, 0.1, 0, 0, 100, 1""",
    "regimes": f"""select {_KEY}, {_TS_NS}, i, {_TS}, (enum_range(null::scenario))[1], '{{}}', '{{}}', 'why'""",
    "model_fits": f"select {_KEY}, 'm' || i % 7, {_TS_NS}, '\\x00', i, {_TS_NS}",
    # of a hundred lines, one is a halt
    "audit_trail": f"""select {_KEY}, i, 0, case i % 100 when 0 then 'HALT' else 'DECISION' end, {_SYMBOL}, '{{}}',
        {_TS}, {_TS_NS}""",
}


def fill(url: str) -> None:
    """Fill every table of a migrated database and analyse it."""
    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(_fill(url))


async def _fill(url: str) -> None:
    engine = admin_engine(url)
    minute = 60 * 10**9
    names = "source, account_id, session_id, symbol, interval, ts, ts_ns, open, high, low, close, volume"
    first_ns = END_NS - BARS * minute
    bars = f"""insert into market_data ({names})
        select (array['binance', 'file', 'demo', 'paper'])[1 + s / 3], '', '', 'S' || 1 + s % 3 || 'USDT', '1m',
        to_timestamp({first_ns // 10**9} + i * 60), {first_ns} + i * {minute}::bigint, 1, 2, 0.5, 1.5, 10
        from generate_series(1, {BARS}) i, generate_series(0, 11) s"""
    async with engine.begin() as connection:
        for table in ("market_data", "risk_metrics"):
            await ensure_partitions(connection, table, START_NS, END_NS)
        for table, select in _INSERTS.items():
            columns = "" if select.startswith("(") else f"({', '.join(metadata.tables[table].columns.keys())})"
            await connection.exec_driver_sql(
                f"insert into {table} {columns} {select} from generate_series(1, {ROWS}) i"
            )
        await connection.exec_driver_sql(bars)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("vacuum analyze")
    await engine.dispose()
