"""Every question that the repositories ask, each as one statement with a name.

``tests/contracts/test_index_plans.py`` explains exactly these over full tables; ``INDEXED_BY`` there says which index
each of them is for. The predicates of partial indexes stand as text, as in ``tables``: a parameter in their place
would hide from the planner that the index applies.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CompoundSelect,
    Delete,
    Double,
    Select,
    Update,
    and_,
    any_,
    case,
    cast,
    delete,
    func,
    literal,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import Insert, aggregate_order_by, insert
from sqlalchemy.sql.elements import ColumnElement

from tidegate.adapters.database import tables as t
from tidegate.adapters.database.rows import stamp, table_named
from tidegate.domain.market import DAY_NS, INTERVALS_NS, BarSpec
from tidegate.ports import BarSeries, Row

Rows: TypeAlias = Select[Any]

_ORDER_OPEN = text(f"state in {t.OPEN_STATES}")
_POSITION_OPEN = text("qty <> 0")


# Sessions and the projector's cursor


def sessions(account_id: str | None) -> Rows:
    columns = [column for column in t.sessions.columns if column.name != "projector"]
    query = select(*columns).order_by(
        t.sessions.c.started_at.desc(), t.sessions.c.session_id.desc(), t.sessions.c.account_id.desc()
    )
    return query if account_id is None else query.where(t.sessions.c.account_id == account_id)


def cursor(account_id: str, session_id: str) -> Rows:
    s = t.sessions.c
    return select(s.projected_seq, s.projector).where(s.account_id == account_id, s.session_id == session_id)


def move_cursor(account_id: str, session_id: str, after_seq: int, projected_seq: int, state: bytes) -> Update:
    s = t.sessions.c
    here = and_(s.account_id == account_id, s.session_id == session_id, s.projected_seq == after_seq)
    return update(t.sessions).where(here).values(projected_seq=projected_seq, projector=state)


def latest_state(account_id: str, realm: str) -> Rows:
    s = t.sessions.c
    query = select(s.session_id, s.projected_seq, s.projector)
    query = query.where(s.account_id == account_id, s.realm == realm, s.projector.is_not(None))
    return query.order_by(s.gen.desc(), s.started_at.desc()).limit(1)


def rows_of_session(table: str, account_id: str, session_id: str) -> Delete:
    found = table_named(table)
    return delete(found).where(found.c.account_id == account_id, found.c.session_id == session_id)


# Any table


def rows_where(table: str, where: Row, limit: int | None = None) -> Rows:
    found = table_named(table)
    query = select(found).where(*(found.c[name] == value for name, value in where.items()))
    return query.order_by(*found.primary_key).limit(limit)


def delete_where(table: str, where: Row) -> Delete:
    found = table_named(table)
    return delete(found).where(*(found.c[name] == value for name, value in where.items()))


# Orders, fills, trades, positions


def open_positions(account_id: str) -> Rows:
    p = t.positions.c
    return select(t.positions).where(p.account_id == account_id, _POSITION_OPEN).order_by(p.symbol, p.realm)


def open_orders(account_id: str, symbol: str | None = None) -> Rows:
    o = t.orders.c
    query = select(t.orders).where(o.account_id == account_id, _ORDER_OPEN)
    query = query if symbol is None else query.where(o.symbol == symbol)
    return query.order_by(o.symbol, o.created_ns, o.client_order_id)


def orders_in_state(account_id: str, state: str, limit: int) -> Rows:
    o = t.orders.c
    query = select(t.orders).where(o.account_id == account_id, o.state == state)
    return query.order_by(o.created_ns.desc(), o.client_order_id.desc()).limit(limit)


def orders_since(account_id: str, since_ns: int, limit: int) -> Rows:
    o = t.orders.c
    query = select(t.orders).where(o.account_id == account_id, o.created_ns >= since_ns)
    return query.order_by(o.created_ns, o.client_order_id).limit(limit)


def orders_of_parent(account_id: str, session_id: str, parent_id: str) -> Rows:
    o = t.orders.c
    here = and_(o.account_id == account_id, o.session_id == session_id, o.parent_id == parent_id)
    return select(t.orders).where(here).order_by(o.created_ns, o.client_order_id)


def parent_orders_since(account_id: str, since_ns: int, limit: int) -> Rows:
    p = t.parent_orders.c
    query = select(t.parent_orders).where(p.account_id == account_id, p.ts_ns >= since_ns)
    return query.order_by(p.ts_ns, p.parent_id).limit(limit)


def fills_since(account_id: str, since_ns: int, limit: int, symbol: str | None = None) -> Rows:
    f = t.fills.c
    query = select(t.fills).where(f.account_id == account_id, f.ts_ns >= since_ns)
    query = query if symbol is None else query.where(f.symbol == symbol)
    return query.order_by(f.ts_ns, f.symbol, f.trade_id).limit(limit)


def fills_of_order(account_id: str, client_order_id: str) -> Rows:
    f = t.fills.c
    query = select(t.fills).where(f.account_id == account_id, f.client_order_id == client_order_id)
    return query.order_by(f.ts_ns, f.trade_id)


def known_trade_ids(account_id: str, realm: str, symbol: str, ids: Collection[int]) -> Rows:
    f = t.fills.c
    wanted = any_(literal(list(ids), ARRAY(BigInteger)))
    here = and_(f.account_id == account_id, f.realm == realm, f.symbol == symbol, f.trade_id == wanted)
    return select(f.trade_id).where(here)


def trades_closed(account_id: str, start_ns: int, end_ns: int, symbol: str | None = None) -> Rows:
    d = t.trades.c
    query = select(t.trades).where(d.account_id == account_id, d.closed_ns >= start_ns, d.closed_ns < end_ns)
    query = query if symbol is None else query.where(d.symbol == symbol)
    return query.order_by(d.closed_ns, d.symbol, d.closing_trade_id)


# Equity, risk, performance


def equity_curve(account_id: str, start_ns: int, end_ns: int, session_id: str | None = None) -> Rows:
    p = t.portfolios.c
    query = select(t.portfolios).where(p.account_id == account_id, p.ts_ns >= start_ns, p.ts_ns < end_ns)
    query = query if session_id is None else query.where(p.session_id == session_id)
    return query.order_by(p.ts_ns, p.session_id)


def latest_risk(account_id: str, count: int) -> Rows:
    r = t.risk_metrics.c
    return select(t.risk_metrics).where(r.account_id == account_id).order_by(r.ts.desc(), r.session_id).limit(count)


def performance(account_id: str, start_ns: int, end_ns: int, strategy: str | None = None) -> Rows:
    p = t.strategy_performances.c
    keys = (p.strategy, p.symbol, p.scenario)
    names = ("price_pnl", "fees", "funding", "slippage", "turnover", "fills")
    sums = [func.sum(p[name]).label(name) for name in names]
    net = func.sum(p.price_pnl - p.fees + p.funding).label("net_pnl")
    query = select(*keys, *sums, net).where(p.account_id == account_id, p.ts_ns >= start_ns, p.ts_ns < end_ns)
    query = query if strategy is None else query.where(p.strategy == strategy)
    return query.group_by(*keys).order_by(*keys)


# Money


def income_since(account_id: str, since_ns: int, limit: int) -> Rows:
    i = t.income_lines.c
    query = select(t.income_lines).where(i.account_id == account_id, i.ts_ns >= since_ns)
    return query.order_by(i.ts_ns, i.line).limit(limit)


def money_by_day(account_id: str, start_ns: int, end_ns: int) -> CompoundSelect[Any]:
    f, p, i = t.fills.c, t.funding_payments.c, t.income_lines.c
    parts = [
        _daily(f, literal("USDT"), literal("REALISED_PNL"), f.realised_pnl, account_id, start_ns, end_ns),
        _daily(f, f.fee_asset, literal("FEE"), -f.fee, account_id, start_ns, end_ns),
        _daily(p, p.asset, literal("FUNDING"), p.amount, account_id, start_ns, end_ns),
        _daily(i, i.asset, i.kind, i.amount, account_id, start_ns, end_ns),
    ]
    return union_all(*parts).order_by("day_ns", "realm", "asset", "kind")


def _daily(
    columns: Any,
    asset: ColumnElement[str],
    kind: ColumnElement[str],
    amount: Any,
    account_id: str,
    start: int,
    end: int,
) -> Rows:
    day = (columns.ts_ns - columns.ts_ns % _nanos(DAY_NS)).label("day_ns")
    names = (day, columns.realm, asset.label("asset"), kind.label("kind"))
    query = select(*names, func.sum(amount).label("amount"))
    query = query.where(columns.account_id == account_id, columns.ts_ns >= start, columns.ts_ns < end)
    return query.group_by(text("1, 2, 3, 4"))


def wallet_at(account_id: str, asset: str, ts_ns: int) -> Rows:
    w = t.wallets.c
    query = select(t.wallets).where(w.account_id == account_id, w.asset == asset, w.ts_ns <= ts_ns)
    return query.order_by(w.ts_ns.desc(), w.seq.desc()).limit(1)


def funding_since(account_id: str, since_ns: int, limit: int, symbol: str | None = None) -> Rows:
    p = t.funding_payments.c
    query = select(t.funding_payments).where(p.account_id == account_id, p.ts_ns >= since_ns)
    query = query if symbol is None else query.where(p.symbol == symbol)
    return query.order_by(p.ts_ns, p.line).limit(limit)


# Regimes, audit, models


def regimes_since(account_id: str, since_ns: int, limit: int) -> Rows:
    r = t.regimes.c
    query = select(t.regimes).where(r.account_id == account_id, r.ts_ns >= since_ns)
    return query.order_by(r.ts_ns, r.seq).limit(limit)


def audit_since(
    account_id: str, since_ns: int, limit: int, kind: str | None = None, subject: str | None = None
) -> Rows:
    a = t.audit_trail.c
    query = select(t.audit_trail).where(a.account_id == account_id, a.ts_ns >= since_ns)
    query = query if kind is None else query.where(a.kind == kind)
    query = query if subject is None else query.where(a.subject == subject)
    return query.order_by(a.ts_ns, a.seq, a.place).limit(limit)


def latest_model(account_id: str, model: str, at_ns: int) -> Rows:
    m = t.model_fits.c
    query = select(t.model_fits).where(m.account_id == account_id, m.model == model, m.activation_ns <= at_ns)
    return query.order_by(m.activation_ns.desc(), m.seq.desc()).limit(1)


# Bars


def _of_series(series: BarSeries, columns: Any) -> ColumnElement[bool]:
    return and_(
        columns.source == series.source,
        columns.account_id == series.account_id,
        columns.session_id == series.session_id,
        columns.symbol == series.instrument,
        columns.interval == series.bar.name,
    )


def _opens_in(series: BarSeries, start_ns: int, end_ns: int) -> ColumnElement[bool]:
    """Bars are stored by their end."""
    b, length = t.market_data.c, series.bar.interval_ns
    return and_(_of_series(series, b), b.ts >= _stamp_from(start_ns + length), b.ts < _stamp_from(end_ns + length))


def _stamp_from(ts_ns: int) -> datetime:
    """The first whole microsecond that is not before a time: bars end on one."""
    return stamp(ts_ns + 999)


def bars_in_range(series: BarSeries, start_ns: int, end_ns: int) -> Rows:
    b = t.market_data.c
    query = select(b.ts_ns, b.open, b.high, b.low, b.close, b.volume)
    return query.where(_opens_in(series, start_ns, end_ns)).order_by(b.ts)


def any_bar_in_range(series: BarSeries, start_ns: int, end_ns: int) -> Rows:
    return select(literal(1)).where(_opens_in(series, start_ns, end_ns)).limit(1)


def delete_bars(series: BarSeries, start_ns: int, end_ns: int) -> Delete:
    return delete(t.market_data).where(_opens_in(series, start_ns, end_ns))


def newest_series(symbol: str, interval: str, source: str | None = None) -> Rows:
    b = t.market_data.c
    query = select(b.source, b.account_id, b.session_id).where(b.symbol == symbol, b.interval == interval)
    query = query if source is None else query.where(b.source == source)
    return query.order_by(b.ts.desc()).limit(1)


def last_bars(series: BarSeries, count: int) -> Rows:
    b = t.market_data.c
    query = select(b.ts_ns, b.open, b.high, b.low, b.close, b.volume).where(_of_series(series, b))
    return query.order_by(b.ts.desc()).limit(count)


def gaps_in_range(series: BarSeries, start_ns: int, end_ns: int) -> Rows:
    """Rows ``(ts_ns, step_ns)`` of the bars before which at least one is missing."""
    b = t.market_data.c
    step = (b.ts_ns - func.lag(b.ts_ns).over(order_by=b.ts)).label("step_ns")
    inner = select(b.ts_ns, step).where(_opens_in(series, start_ns, end_ns)).subquery()
    return (
        select(inner.c.ts_ns, inner.c.step_ns).where(inner.c.step_ns > series.bar.interval_ns).order_by(inner.c.ts_ns)
    )


def stored_range(series: BarSeries, start_ns: int, end_ns: int) -> Rows:
    b = t.market_data.c
    ends = (func.min(b.ts_ns).label("first_ns"), func.max(b.ts_ns).label("last_ns"))
    return select(*ends).where(_opens_in(series, start_ns, end_ns))


def roll_up(series: BarSeries, bar: BarSpec, start_ns: int, end_ns: int) -> Insert:
    """Longer bars that open in the range, of which no shorter one is missing, over those that are there."""
    b, length = t.market_data.c, _nanos(bar.interval_ns)
    end = ((b.ts_ns - _nanos(bar.origin_ns) + length - 1) // length * length + _nanos(bar.origin_ns)).label("end_ns")
    # whole numbers divide without a rest here: what lies before the origin is no market
    short = select(b.ts, b.ts_ns, b.open, b.high, b.low, b.close, b.volume, end)
    inner = short.where(_opens_in(series, start_ns, end_ns + bar.interval_ns)).subquery()
    i = inner.c
    values = (
        func.max(i.ts).label("ts"),
        i.end_ns,
        func.array_agg(aggregate_order_by(i.open, i.ts), type_=ARRAY(Double))[1],
        func.max(i.high),
        func.min(i.low),
        func.array_agg(aggregate_order_by(i.close, i.ts.desc()), type_=ARRAY(Double))[1],
        func.sum(aggregate_order_by(i.volume, i.ts)),
    )
    key = (series.source, series.account_id, series.session_id, str(series.instrument), bar.name)
    whole = and_(
        func.count() == bar.interval_ns // series.bar.interval_ns,
        i.end_ns >= _nanos(start_ns + bar.interval_ns),
        i.end_ns < _nanos(end_ns + bar.interval_ns),
    )
    made = select(*(literal(text) for text in key), *values).group_by(i.end_ns).having(whole)
    statement = insert(t.market_data).from_select(t.market_data.columns.keys(), made)
    changed = {column.name: statement.excluded[column.name] for column in b if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(t.market_data.primary_key), set_=changed)


def _nanos(value: int) -> ColumnElement[int]:
    return literal(value, BigInteger)


def coverage() -> Rows:
    """One row for each series: its key, ``first_ns last_ns bars gaps missing``. Reads every bar."""
    b = t.market_data.c
    keys = (b.source, b.symbol, b.interval, b.account_id, b.session_id)
    length = case(INTERVALS_NS, value=b.interval)
    before = func.lag(b.ts_ns).over(partition_by=keys, order_by=b.ts)
    absent = ((b.ts_ns - before) // length - 1).label("absent")
    inner = select(*keys, b.ts_ns, absent).subquery()
    names = [inner.c[key.name] for key in keys]
    counted = (
        func.min(inner.c.ts_ns).label("first_ns"),
        func.max(inner.c.ts_ns).label("last_ns"),
        func.count().label("bars"),
        func.count().filter(inner.c.absent > 0).label("gaps"),
        cast(func.coalesce(func.sum(inner.c.absent), 0), BigInteger).label("missing"),
    )
    return select(*names, *counted).group_by(*names).order_by(*names)
