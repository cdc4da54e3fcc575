"""Bars, regimes, what models were fitted to, and the audit trail."""

from alembic import op

from tidegate.adapters.database.tiers import (
    DAILY_BARS,
    DAILY_BARS_POLICY,
    TIMESCALE,
    partition_clause,
    recorded_tier,
    spread,
)

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MARKET_DATA = """
create table market_data (
    source text not null,
    account_id text not null,
    session_id text not null,
    symbol text not null,
    interval text not null,
    ts timestamptz not null,
    ts_ns bigint not null,
    open double precision not null,
    high double precision not null,
    low double precision not null,
    close double precision not null,
    volume double precision not null,
    constraint pk_market_data primary key (source, account_id, session_id, symbol, interval, ts)
)"""

TABLES = {
    "regimes": """
create table regimes (
    account_id text not null,
    session_id text not null,
    ts_ns bigint not null,
    seq bigint not null,
    ts timestamptz not null,
    scenario scenario not null,
    probabilities jsonb not null,
    weights jsonb not null,
    reason text not null,
    constraint pk_regimes primary key (account_id, session_id, ts_ns, seq)
)""",
    "model_fits": """
create table model_fits (
    account_id text not null,
    session_id text not null,
    model text not null,
    activation_ns bigint not null,
    parameters bytea not null,
    seq bigint not null,
    ts_ns bigint not null,
    constraint pk_model_fits primary key (account_id, session_id, model, activation_ns)
)""",
    "audit_trail": """
create table audit_trail (
    account_id text not null,
    session_id text not null,
    seq bigint not null,
    place integer not null,
    kind text not null,
    subject text not null,
    detail jsonb not null,
    ts timestamptz not null,
    ts_ns bigint not null,
    constraint pk_audit_trail primary key (account_id, session_id, seq, place)
)""",
}

INDEXES = (
    "create index ix_market_data_symbol on market_data (symbol, interval, ts)",
    "create index ix_regimes_time on regimes (account_id, ts_ns)",
    "create index ix_model_fits_latest on model_fits (account_id, model, activation_ns)",
    "create index ix_audit_time on audit_trail (account_id, ts_ns)",
    "create index ix_audit_kind on audit_trail (account_id, kind, ts_ns)",
    "create index ix_audit_subject on audit_trail (account_id, subject, ts_ns)",
)


def upgrade() -> None:
    tier = recorded_tier(op.get_bind())
    op.execute(MARKET_DATA + partition_clause(tier))
    segments = "source, account_id, session_id, symbol, interval"
    for statement in (*spread(tier, "market_data", segments), *TABLES.values(), *INDEXES):
        op.execute(statement)
    if tier == TIMESCALE:
        op.execute(DAILY_BARS)
        op.execute(DAILY_BARS_POLICY)


def downgrade() -> None:
    if recorded_tier(op.get_bind()) == TIMESCALE:
        op.execute("drop materialized view market_data_daily")
    for name in (*reversed(TABLES), "market_data"):
        op.execute(f"drop table {name}")
