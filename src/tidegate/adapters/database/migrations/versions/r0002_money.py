"""Money and portfolio: funding, income, wallets, equity, risk, results by strategy and scenario.

Positions and trades learn of funding. Those from before had none booked: they get 0, and a trade's net result is what
it already knew: price result less slippage and fees.
"""

from alembic import op

from tidegate.adapters.database.tiers import (
    partition_clause,
    recorded_tier,
    spread,
)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCENARIOS = (
    "BULL_LOW",
    "BULL_HIGH",
    "BEAR_LOW",
    "BEAR_HIGH",
    "SIDEWAYS_LOW",
    "SIDEWAYS_HIGH",
    "TRANSITION_LOW",
    "TRANSITION_HIGH",
    "UNKNOWN",
)

TABLES = {
    "funding_payments": """
create table funding_payments (
    account_id text not null,
    realm text not null,
    line text not null,
    session_id text not null,
    symbol text not null,
    asset text not null,
    amount numeric not null,
    rate double precision not null,
    mark double precision not null,
    mark_is_last boolean not null,
    seq bigint not null,
    ts timestamptz not null,
    ts_ns bigint not null,
    constraint pk_funding_payments primary key (account_id, realm, line)
)""",
    "income_lines": """
create table income_lines (
    account_id text not null,
    realm text not null,
    line text not null,
    session_id text not null,
    kind text not null,
    symbol text,
    asset text not null,
    amount numeric not null,
    detail text default '' not null,
    seq bigint not null,
    ts timestamptz not null,
    ts_ns bigint not null,
    constraint pk_income_lines primary key (account_id, realm, line)
)""",
    "wallets": """
create table wallets (
    account_id text not null,
    session_id text not null,
    asset text not null,
    seq bigint not null,
    wallet numeric not null,
    ts_ns bigint not null,
    constraint pk_wallets primary key (account_id, session_id, asset, seq)
)""",
    "portfolios": """
create table portfolios (
    account_id text not null,
    session_id text not null,
    ts_ns bigint not null,
    ts timestamptz not null,
    wallet numeric not null,
    unrealised_pnl numeric not null,
    equity numeric not null,
    gross_notional numeric not null,
    net_notional numeric not null,
    open_positions integer not null,
    constraint pk_portfolios primary key (account_id, session_id, ts_ns)
)""",
    "strategy_performances": """
create table strategy_performances (
    account_id text not null,
    session_id text not null,
    strategy text not null,
    symbol text not null,
    scenario scenario not null,
    ts_ns bigint not null,
    realm text not null,
    from_ns bigint not null,
    price_pnl numeric not null,
    fees numeric not null,
    funding numeric not null,
    slippage numeric not null,
    turnover numeric not null,
    fills integer not null,
    constraint pk_strategy_performances primary key (account_id, session_id, strategy, symbol, scenario, ts_ns)
)""",
}

RISK_METRICS = """
create table risk_metrics (
    account_id text not null,
    session_id text not null,
    ts timestamptz not null,
    ts_ns bigint not null,
    drawdown_frac double precision not null,
    leverage double precision not null,
    daily_loss_frac double precision not null,
    volatility double precision,
    var_frac double precision,
    cvar_frac double precision,
    constraint pk_risk_metrics primary key (account_id, session_id, ts)
)"""

INDEXES = (
    "create index ix_funding_time on funding_payments (account_id, ts_ns)",
    "create index ix_funding_symbol on funding_payments (account_id, symbol, ts_ns)",
    "create index ix_income_lines_time on income_lines (account_id, ts_ns)",
    "create index ix_wallets_time on wallets (account_id, asset, ts_ns)",
    "create index ix_portfolios_curve on portfolios (account_id, ts_ns)",
    "create index ix_risk_metrics_latest on risk_metrics (account_id, ts)",
    "create index ix_strategy_performances_time on strategy_performances (account_id, strategy, ts_ns)",
)

EARLIER = (
    "alter table positions add column funding numeric",
    "update positions set funding = 0",
    "alter table positions alter column funding set not null",
    "alter table trades add column funding numeric, add column net_pnl numeric",
    "update trades set funding = 0, net_pnl = price_pnl - slippage - fees",
    "alter table trades alter column funding set not null, alter column net_pnl set not null",
)


def upgrade() -> None:
    tier = recorded_tier(op.get_bind())
    op.execute(f"create type scenario as enum {SCENARIOS}")
    for statement in (*TABLES.values(), RISK_METRICS + partition_clause(tier)):
        op.execute(statement)
    for statement in (*spread(tier, "risk_metrics", "account_id, session_id"), *INDEXES, *EARLIER):
        op.execute(statement)


def downgrade() -> None:
    op.execute("alter table trades drop column funding, drop column net_pnl")
    op.execute("alter table positions drop column funding")
    for name in ("risk_metrics", *reversed(TABLES)):
        op.execute(f"drop table {name}")
    op.execute("drop type scenario")
