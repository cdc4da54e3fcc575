"""The tier, five enums, and the books: sessions, orders, fills, positions, trades, parent orders."""

from alembic import context, op
from sqlalchemy import text

from tidegate.adapters.database.tiers import detect_tier

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ENUMS = {
    "side": ("BUY", "SELL"),
    "order_type": ("MARKET", "LIMIT", "STOP_MARKET", "TAKE_PROFIT_MARKET"),
    "order_state": (
        "IN_FLIGHT",
        "UNCERTAIN",
        "WORKING",
        "TRIGGERED",
        "PARTIALLY_FILLED",
        "NOT_PLACED",
        "ABANDONED",
        "REJECTED",
        "CANCELED",
        "EXPIRED",
        "FILLED",
    ),
    "time_in_force": ("GTC", "IOC", "FOK", "GTX"),
    "position_side": ("BOTH", "LONG", "SHORT"),
}

TABLES = {
    "sessions": """
create table sessions (
    account_id text not null,
    session_id text not null,
    realm text not null,
    mode text not null,
    gen bigint not null,
    started_at timestamptz not null,
    configuration_sha256 text not null,
    configuration jsonb not null,
    journal text,
    constraint pk_sessions primary key (account_id, session_id)
)""",
    "orders": """
create table orders (
    account_id text not null,
    session_id text not null,
    client_order_id text not null,
    realm text not null,
    symbol text not null,
    side side not null,
    order_type order_type not null,
    state order_state not null,
    time_in_force time_in_force not null,
    position_side position_side not null,
    purpose text not null,
    qty numeric not null,
    filled_qty numeric default 0 not null,
    avg_price numeric,
    limit_price numeric,
    trigger_price numeric,
    reduce_only boolean not null,
    strategy text,
    parent_id text,
    venue_order_id bigint,
    reason text,
    seq bigint not null,
    created_ns bigint not null,
    updated_ns bigint not null,
    constraint pk_orders primary key (account_id, session_id, client_order_id)
)""",
    "fills": """
create table fills (
    account_id text not null,
    realm text not null,
    symbol text not null,
    trade_id bigint not null,
    session_id text not null,
    client_order_id text not null,
    side side not null,
    position_side position_side not null,
    qty numeric not null,
    price numeric not null,
    fee numeric not null,
    fee_asset text not null,
    fee_price numeric,
    realised_pnl numeric not null,
    reference_price numeric,
    maker boolean not null,
    cause text not null,
    seq bigint not null,
    ts timestamptz not null,
    ts_ns bigint not null,
    recv_ns bigint not null,
    constraint pk_fills primary key (account_id, realm, symbol, trade_id)
)""",
    "positions": """
create table positions (
    account_id text not null,
    realm text not null,
    symbol text not null,
    session_id text not null,
    qty numeric not null,
    cost numeric not null,
    entry_price numeric,
    realised_pnl numeric not null,
    fees numeric not null,
    updated_ns bigint not null,
    constraint pk_positions primary key (account_id, realm, symbol)
)""",
    "trades": """
create table trades (
    account_id text not null,
    realm text not null,
    symbol text not null,
    closing_trade_id bigint not null,
    session_id text not null,
    side side not null,
    opened_ns bigint not null,
    closed_ns bigint not null,
    max_qty numeric not null,
    entry_price numeric not null,
    exit_price numeric not null,
    price_pnl numeric not null,
    slippage numeric not null,
    fees numeric not null,
    exit_reason text not null,
    constraint pk_trades primary key (account_id, realm, symbol, closing_trade_id)
)""",
    "parent_orders": """
create table parent_orders (
    account_id text not null,
    session_id text not null,
    parent_id text not null,
    symbol text not null,
    side side not null,
    qty numeric not null,
    purpose text not null,
    strategy text,
    arrival_price double precision,
    ts_ns bigint not null,
    constraint pk_parent_orders primary key (account_id, session_id, parent_id)
)""",
}

INDEXES = (
    "create index ix_orders_open on orders (account_id, symbol) where state in"
    " ('IN_FLIGHT', 'UNCERTAIN', 'WORKING', 'TRIGGERED', 'PARTIALLY_FILLED')",
    "create index ix_orders_state on orders (account_id, state, created_ns)",
    "create index ix_orders_parent on orders (account_id, session_id, parent_id)",
    "create index ix_orders_created on orders (account_id, created_ns)",
    "create index ix_fills_time on fills (account_id, ts_ns)",
    "create index ix_fills_order on fills (account_id, client_order_id)",
    "create index ix_fills_symbol_time on fills (account_id, symbol, ts_ns)",
    "create index ix_trades_closed on trades (account_id, closed_ns)",
    "create index ix_trades_symbol on trades (account_id, symbol, closed_ns)",
    "create index ix_positions_open on positions (account_id, symbol) where qty <> 0",
    "create index ix_parent_orders_time on parent_orders (account_id, ts_ns)",
)


def upgrade() -> None:
    tier = detect_tier(op.get_bind(), context.config.attributes.get("tier", "auto"))
    op.execute(
        "create table schema_tier (tier text not null, one boolean default true not null,"
        " constraint pk_schema_tier primary key (one), constraint ck_schema_tier_one check (one))"
    )
    op.execute(text("insert into schema_tier (tier) values (:tier)").bindparams(tier=tier))
    for name, values in ENUMS.items():
        op.execute(f"create type {name} as enum {values}")
    for statement in (*TABLES.values(), *INDEXES):
        op.execute(statement)


def downgrade() -> None:
    for name in reversed(TABLES):
        op.execute(f"drop table {name}")
    for name in reversed(ENUMS):
        op.execute(f"drop type {name}")
    op.execute("drop table schema_tier")
