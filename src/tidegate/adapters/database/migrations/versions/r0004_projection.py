"""The projection's cursor, the realm of every sum of money, and the views that ask for the money's identity.

Wallets and portfolios get the realm of their session; one whose session is not known is a realm of its own, as for
every simulated venue.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CURSOR = (
    "alter table sessions add column projected_seq bigint default 0 not null",
    "alter table sessions add column projector bytea",
)

REALM = (
    "alter table {table} add column realm text",
    "update {table} set realm = coalesce((select sessions.realm from sessions"
    " where sessions.account_id = {table}.account_id and sessions.session_id = {table}.session_id), session_id)",
    "alter table {table} alter column realm set not null",
)

WALLET_CHANGES = """
create view wallet_changes as
select account_id, realm, session_id, 'USDT' as asset, symbol, 'REALIZED_PNL' as kind, ts_ns,
       realised_pnl as amount, trade_id::text as line
from fills where realised_pnl <> 0
union all
select account_id, realm, session_id, fee_asset, symbol, 'COMMISSION', ts_ns, -fee, trade_id::text
from fills where fee <> 0
union all
select account_id, realm, session_id, asset, symbol, 'FUNDING_FEE', ts_ns, amount, line
from funding_payments
union all
select account_id, realm, session_id, asset, symbol, kind, ts_ns, amount, line
from income_lines"""

DAY_NS = 86_400_000_000_000

DAILY_WALLETS = f"""
create view daily_wallets as
with changes as (
    select account_id, realm, asset, ts_ns / {DAY_NS} as day_no, sum(amount) as change
    from wallet_changes group by 1, 2, 3, 4
), said as (
    select distinct on (account_id, realm, asset, ts_ns / {DAY_NS})
           account_id, realm, asset, ts_ns / {DAY_NS} as day_no, wallet
    from wallets order by account_id, realm, asset, ts_ns / {DAY_NS}, ts_ns desc, seq desc
), days as (
    select account_id, realm, asset, day_no, coalesce(change, 0) as change, wallet,
           sum(coalesce(change, 0)) over (partition by account_id, realm, asset order by day_no) as booked
    from changes full join said using (account_id, realm, asset, day_no)
)
select account_id, realm, asset, date '1970-01-01' + day_no::integer as day, change, wallet,
       case when wallet is not null then
           wallet - booked - lag(wallet - booked) over (
               partition by account_id, realm, asset, wallet is null order by day_no)
       end as difference
from days"""


def upgrade() -> None:
    for statement in CURSOR:
        op.execute(statement)
    for table in ("wallets", "portfolios"):
        for statement in REALM:
            op.execute(statement.format(table=table))
    op.execute(WALLET_CHANGES)
    op.execute(DAILY_WALLETS)


def downgrade() -> None:
    op.execute("drop view daily_wallets")
    op.execute("drop view wallet_changes")
    for table in ("portfolios", "wallets"):
        op.execute(f"alter table {table} drop column realm")
    op.execute("alter table sessions drop column projector, drop column projected_seq")
