"""The tables, enums and indexes: what the last migration leads to, and what the repositories speak of.

Every row belongs to an account and a session (one start of a demo, a backtest or a daemon). ``realm`` says which
executions are the same: the mode for a real venue (``live``, ``testnet``), whose trade ids are unique for ever, and the
session for a simulated one, whose ids begin anew. Stamps of the venue are ``timestamptz`` (microseconds), ``ts_ns`` and
``recv_ns`` are ``bigint``; money and quantities are ``numeric`` without a scale, market data ``double precision``.

Facts (fills, payments, lines of income) are only ever added. Orders, positions and cursors are states: the projector
overwrites them in the transaction that moves its cursor. Only ``market_data`` and ``risk_metrics`` are partitioned
(plain PostgreSQL) or hypertables (TimescaleDB); which, the migration decides before it creates them.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Enum,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tidegate.domain import orders as words
from tidegate.domain.signals import Scenario

metadata = MetaData(naming_convention={"pk": "pk_%(table_name)s"})

side = Enum(*(each.value for each in words.Side), name="side", metadata=metadata)
order_type = Enum(*(each.value for each in words.OrderType), name="order_type", metadata=metadata)
order_state = Enum(*(each.value for each in words.OrderState), name="order_state", metadata=metadata)
time_in_force = Enum(*(each.value for each in words.TimeInForce), name="time_in_force", metadata=metadata)
position_side = Enum(*(each.value for each in words.PositionSide), name="position_side", metadata=metadata)
scenario = Enum(*(each.value for each in Scenario), name="scenario", metadata=metadata)

OPEN_STATES = tuple(each.value for each in words.OrderState if each.rank < words.TERMINAL_RANK)
"""The states of an order that may still trade."""

_STAMP = DateTime(timezone=True)


def _key(name: str, kind: Any = Text) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False)


def _must(name: str, kind: Any, default: str | None = None) -> Column[Any]:
    return Column(name, kind, nullable=False, server_default=None if default is None else text(default))


def _may(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=True)


schema_tier = Table(
    "schema_tier",
    metadata,
    _must("tier", Text),  # plain, apache or timescale: what the first migration found
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    CheckConstraint("one", name="ck_schema_tier_one"),  # there is one row
)

sessions = Table(
    "sessions",
    metadata,
    _key("account_id"),
    _key("session_id"),
    _must("realm", Text),
    _must("mode", Text),  # demo, paper, backtest, testnet, live
    _must("gen", BigInteger),
    _must("started_at", _STAMP),
    _must("configuration_sha256", Text),
    _must("configuration", JSONB),
    _may("journal", Text),
    # how far the projection is, and its state there; in the same transaction as the rows
    _must("projected_seq", BigInteger, "0"),
    _may("projector", LargeBinary),
)

orders = Table(
    "orders",
    metadata,
    _key("account_id"),
    _key("session_id"),
    _key("client_order_id"),
    _must("realm", Text),
    _must("symbol", Text),
    _must("side", side),
    _must("order_type", order_type),
    _must("state", order_state),
    _must("time_in_force", time_in_force),
    _must("position_side", position_side),
    _must("purpose", Text),
    _must("qty", Numeric),
    _must("filled_qty", Numeric, "0"),
    _may("avg_price", Numeric),
    _may("limit_price", Numeric),
    _may("trigger_price", Numeric),
    _must("reduce_only", Boolean),
    _may("strategy", Text),
    _may("parent_id", Text),
    _may("venue_order_id", BigInteger),
    _may("reason", Text),
    _must("seq", BigInteger),  # of the record that sent it
    _must("created_ns", BigInteger),
    _must("updated_ns", BigInteger),
    Index("ix_orders_open", "account_id", "symbol", postgresql_where=text(f"state in {OPEN_STATES}")),
    Index("ix_orders_state", "account_id", "state", "created_ns"),
    Index("ix_orders_parent", "account_id", "session_id", "parent_id"),
    Index("ix_orders_created", "account_id", "created_ns"),
)

fills = Table(
    "fills",
    metadata,
    _key("account_id"),
    _key("realm"),
    _key("symbol"),
    _key("trade_id", BigInteger),
    _must("session_id", Text),
    _must("client_order_id", Text),
    _must("side", side),
    _must("position_side", position_side),
    _must("qty", Numeric),
    _must("price", Numeric),
    _must("fee", Numeric),
    _must("fee_asset", Text),
    _may("fee_price", Numeric),
    _must("realised_pnl", Numeric),  # in USDT, before the fee
    _may("reference_price", Numeric),
    _must("maker", Boolean),
    _must("cause", Text),
    _must("seq", BigInteger),
    _must("ts", _STAMP),
    _must("ts_ns", BigInteger),
    _must("recv_ns", BigInteger),
    Index("ix_fills_time", "account_id", "ts_ns"),
    Index("ix_fills_order", "account_id", "client_order_id"),
    Index("ix_fills_symbol_time", "account_id", "symbol", "ts_ns"),
)

trades = Table(
    "trades",
    metadata,
    _key("account_id"),
    _key("realm"),
    _key("symbol"),
    _key("closing_trade_id", BigInteger),
    _must("session_id", Text),
    _must("side", side),
    _must("opened_ns", BigInteger),
    _must("closed_ns", BigInteger),
    _must("max_qty", Numeric),
    _must("entry_price", Numeric),
    _must("exit_price", Numeric),
    _must("price_pnl", Numeric),
    _must("slippage", Numeric),
    _must("fees", Numeric),
    _must("funding", Numeric),
    _must("net_pnl", Numeric),
    _must("exit_reason", Text),
    Index("ix_trades_closed", "account_id", "closed_ns"),
    Index("ix_trades_symbol", "account_id", "symbol", "closed_ns"),
)

positions = Table(
    "positions",
    metadata,
    _key("account_id"),
    _key("realm"),
    _key("symbol"),
    _must("session_id", Text),
    _must("qty", Numeric),
    _must("cost", Numeric),
    _may("entry_price", Numeric),
    _must("realised_pnl", Numeric),
    _must("fees", Numeric),
    _must("funding", Numeric),
    _must("updated_ns", BigInteger),
    Index("ix_positions_open", "account_id", "symbol", postgresql_where=text("qty <> 0")),
)

parent_orders = Table(
    "parent_orders",
    metadata,
    _key("account_id"),
    _key("session_id"),
    _key("parent_id"),
    _must("symbol", Text),
    _must("side", side),
    _must("qty", Numeric),
    _must("purpose", Text),
    _may("strategy", Text),
    _may("arrival_price", Double),
    _must("ts_ns", BigInteger),
    Index("ix_parent_orders_time", "account_id", "ts_ns"),
)

funding_payments = Table(
    "funding_payments",
    metadata,
    _key("account_id"),
    _key("realm"),
    _key("line"),  # of the venue's income list, or symbol and time where no list names it
    _must("session_id", Text),
    _must("symbol", Text),
    _must("asset", Text),
    _must("amount", Numeric),
    _must("rate", Double),
    _must("mark", Double),
    _must("mark_is_last", Boolean),
    _must("seq", BigInteger),
    _must("ts", _STAMP),
    _must("ts_ns", BigInteger),
    Index("ix_funding_time", "account_id", "ts_ns"),
    Index("ix_funding_symbol", "account_id", "symbol", "ts_ns"),
)

income_lines = Table(
    "income_lines",
    metadata,
    _key("account_id"),
    _key("realm"),
    _key("line"),
    _must("session_id", Text),
    _must("kind", Text),  # TRANSFER, ADJUSTMENT, or the venue's word
    _may("symbol", Text),
    _must("asset", Text),
    _must("amount", Numeric),
    _must("detail", Text, "''"),
    _must("seq", BigInteger),
    _must("ts", _STAMP),
    _must("ts_ns", BigInteger),
    Index("ix_income_lines_time", "account_id", "ts_ns"),
)

wallets = Table(
    "wallets",
    metadata,
    _key("account_id"),
    _key("session_id"),
    _key("asset"),
    _key("seq", BigInteger),
    _must("realm", Text),
    _must("wallet", Numeric),  # as the venue said, at that instant
    _must("ts_ns", BigInteger),
    Index("ix_wallets_time", "account_id", "asset", "ts_ns"),
)

portfolios = Table(
    "portfolios",
    metadata,
    _key("account_id"),
    _key("session_id"),
    _key("ts_ns", BigInteger),
    _must("realm", Text),
    _must("ts", _STAMP),
    _must("wallet", Numeric),
    _must("unrealised_pnl", Numeric),
    _must("equity", Numeric),
    _must("gross_notional", Numeric),
    _must("net_notional", Numeric),
    _must("open_positions", Integer),
    Index("ix_portfolios_curve", "account_id", "ts_ns"),
)

risk_metrics = Table(
    "risk_metrics",
    metadata,
    _key("account_id"),
    _key("session_id"),
    _key("ts", _STAMP),
    _must("ts_ns", BigInteger),
    _must("drawdown_frac", Double),
    _must("leverage", Double),
    _must("daily_loss_frac", Double),
    _may("volatility", Double),
    _may("var_frac", Double),
    _may("cvar_frac", Double),
    Index("ix_risk_metrics_latest", "account_id", "ts"),
)

strategy_performances = Table(
    "strategy_performances",
    metadata,
    _key("account_id"),
    _key("session_id"),
    _key("strategy"),
    _key("symbol"),
    _key("scenario", scenario),
    _key("ts_ns", BigInteger),
    _must("realm", Text),
    _must("from_ns", BigInteger),
    _must("price_pnl", Numeric),
    _must("fees", Numeric),
    _must("funding", Numeric),
    _must("slippage", Numeric),
    _must("turnover", Numeric),
    _must("fills", Integer),
    Index("ix_strategy_performances_time", "account_id", "strategy", "ts_ns"),
)

regimes = Table(
    "regimes",
    metadata,
    _key("account_id"),
    _key("session_id"),
    _key("ts_ns", BigInteger),
    _key("seq", BigInteger),
    _must("ts", _STAMP),
    _must("scenario", scenario),
    _must("probabilities", JSONB),
    _must("weights", JSONB),
    _must("reason", Text),
    Index("ix_regimes_time", "account_id", "ts_ns"),
)

model_fits = Table(
    "model_fits",
    metadata,
    _key("account_id"),
    _key("session_id"),
    _key("model"),
    _key("activation_ns", BigInteger),
    _must("parameters", LargeBinary),
    _must("seq", BigInteger),
    _must("ts_ns", BigInteger),
    Index("ix_model_fits_latest", "account_id", "model", "activation_ns"),
)

audit_trail = Table(
    "audit_trail",
    metadata,
    _key("account_id"),
    _key("session_id"),
    _key("seq", BigInteger),
    _key("place", Integer),  # 0 is the event, n its n-th command
    _must("kind", Text),  # OPERATOR, HALT, ALERT, REFUSAL, DECISION, REGIME, ADJUSTMENT, QUARANTINE
    _must("subject", Text),
    _must("detail", JSONB),
    _must("ts", _STAMP),
    _must("ts_ns", BigInteger),
    Index("ix_audit_time", "account_id", "ts_ns"),
    Index("ix_audit_kind", "account_id", "kind", "ts_ns"),
    Index("ix_audit_subject", "account_id", "subject", "ts_ns"),
)

market_data = Table(
    "market_data",
    metadata,
    _key("source"),  # binance, demo, backtest, file
    _key("account_id"),  # '' and '' for bars that belong to no run
    _key("session_id"),
    _key("symbol"),
    _key("interval"),
    _key("ts", _STAMP),  # the exclusive end of the bar
    _must("ts_ns", BigInteger),
    _must("open", Double),
    _must("high", Double),
    _must("low", Double),
    _must("close", Double),
    _must("volume", Double),
    Index("ix_market_data_symbol", "symbol", "interval", "ts"),
)

PARTITIONED = ("market_data", "risk_metrics")
"""Partitioned by month of ``ts``, or hypertables."""
