"""M1: for every UTC day and asset, results + commissions + funding + transfers + other = the change of the wallet.

To the last digit, in SQL, over rows that the projector wrote while it ran. The wallets come from the venue: its
snapshots over REST in a live run, its own ledger at each midnight in a demo. By contract and kind the lines of a live
run are those of the venue's income list.
"""

import asyncio
import hashlib
import hmac
import json
import signal
import time
from collections import Counter
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.fakes.command_line import tidegate
from tests.fakes.database_books import compare, rows_of
from tests.fakes.processes import DaemonProcess, Localnet
from tests.fakes.projection_world import ACCOUNT, QUICK, GrowingJournal, connecting, followed
from tests.fakes.small_demo import CutMarket, rig
from tidegate.adapters.database.projector import Projector
from tidegate.adapters.database.schema import migrate
from tidegate.app.demo import run_demo
from tidegate.domain.market import DAY_NS
from tidegate.domain.messages import Record

LINES = """
select ts_ns, seq, asset, amount, symbol, kind, reference from (
    select ts_ns, seq, 'USDT' as asset, realised_pnl as amount, symbol, 'REALIZED_PNL' as kind,
           trade_id::text as reference from fills where account_id = $1
    union all
    select ts_ns, seq, fee_asset, -fee, symbol, 'COMMISSION', trade_id::text from fills where account_id = $1
    union all
    select ts_ns, seq, asset, amount, symbol, 'FUNDING_FEE', line from funding_payments where account_id = $1
    union all
    select ts_ns, seq, asset, amount, symbol, kind, line from income_lines where account_id = $1 and kind <> 'OPENING'
) as lines
"""

BY_DAY = f"""
select (ts_ns - 1) / {DAY_NS} as day, asset, sum(amount) from ({LINES}) as each group by 1, 2 order by 1, 2
"""

SINCE_FIRST_SNAPSHOT = f"""
select wallets.asset, wallets.wallet - first.wallet,
       (select coalesce(sum(amount), 0) from ({LINES}) as each
        where each.asset = wallets.asset and each.seq <= wallets.seq)
from wallets join (
    select distinct on (asset) asset, wallet from wallets where account_id = $1 order by asset, seq
) as first using (asset)
where account_id = $1 order by wallets.seq desc limit 1
"""


async def test_each_day_of_a_demo(plain_database: str, tmp_path: Path) -> None:
    await migrate(plain_database)
    journal = GrowingJournal(tmp_path / "journal")
    made = rig(lambda _: Written(journal), source=CutMarket(chunks=4))  # type: ignore[arg-type, return-value]
    exchange = made.parts.session.exchange
    wallets: dict[int, Decimal] = {}

    def midnight(record: Record) -> None:
        """The venue's own wallet after the last event of each day; one at midnight belongs to the day that it ends."""
        now_ns = record.event.recv_ns
        wallets[(now_ns - 1) // DAY_NS] = exchange.snapshot(now_ns).balances[0].wallet

    await run_demo(made.parts, observers=[midnight])
    projector = Projector(connecting(plain_database), [followed(tmp_path / "journal")], print, QUICK)
    projector.start()
    assert await projector.finish(120.0)
    found = {(row[0], row[1]): row[2] for row in await rows_of(plain_database, BY_DAY, ACCOUNT)}
    before, checked = Decimal(10_000), 0
    for day in sorted(wallets)[1:]:
        assert found.get((day, "USDT"), Decimal(0)) == wallets[day] - before, day
        before, checked = wallets[day], checked + (wallets[day] != before)
    assert checked >= 5
    assert all(asset == "USDT" for _, asset in found)


class Written:
    """The journal of ``GrowingJournal`` for a daemon."""

    def __init__(self, journal: GrowingJournal) -> None:
        self._journal = journal

    async def append(self, record: Record, *, durable: bool) -> None:
        del durable
        self._journal.seq = record.seq
        self._journal.files.write(record, durable=False)

    async def close(self) -> None:
        self._journal.files.close_now()


STRATEGY = '''
from tidegate import BaseStrategy, Signal, View


class Turning(BaseStrategy):
    """Always in the market, and on the other side after every bar."""

    def decide(self, view: View) -> Signal:
        return Signal(1.0 if view.ts_ns // 60_000_000_000 % 2 else -1.0)
'''

CONFIG = """
account: main
symbols: [BTCUSDT, ETHUSDT]
timeframe: 1m
strategies: [{{class: turning.py:Turning}}]
venue: {{rest: "{rest}", leverage: 10}}
state: {{dir: "{state}"}}
database: {{url: "{url}"}}
"""


def test_a_live_run_on_the_local_exchange(plain_database: str, tmp_path: Path) -> None:
    asyncio.run(migrate(plain_database))
    url = plain_database.replace("postgresql+asyncpg", "postgresql")
    with ExitStack() as stack:
        venue = Localnet(tmp_path)
        stack.callback(venue.kill)
        (tmp_path / "turning.py").write_text(STRATEGY)
        config = tmp_path / "main.yaml"
        config.write_text(CONFIG.format(rest=venue.address, state=tmp_path / "state", url=url))
        assert tidegate("account", "setup", "--apply", "--config", config, "--mode", "testnet").code == 0
        state = tmp_path / "state" / "main-testnet"
        daemon = DaemonProcess(tmp_path, "daemon", config, "testnet", state, TIDEGATE__DATABASE__URL=url)
        stack.callback(daemon.kill)
        daemon.ready_s(150.0)
        venue.act("deposit", key="demo-key", asset="USDT", amount="125.5")
        daemon.when("it has turned", lambda status: status["fills"] >= 4, 200.0)
        time.sleep(25.0)  # two audits at least without an execution
        daemon.send(signal.SIGTERM)
        assert daemon.ended(40.0) == 0, daemon.said()
        listed = income_list(venue.address)
    asyncio.run(check(plain_database, sorted((state / "journal").iterdir()), listed))


def income_list(address: str) -> list[dict[str, Any]]:
    """What the venue says moved the account, in its own words."""
    query = f"limit=1000&timestamp={time.time_ns() // 1_000_000}"
    signature = hmac.new(b"demo-secret", query.encode(), hashlib.sha256).hexdigest()
    request = Request(f"{address}/fapi/v1/income?{query}&signature={signature}", headers={"X-MBX-APIKEY": "demo-key"})
    with urlopen(request, timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)
        return found


async def check(url: str, journals: list[Path], listed: list[dict[str, Any]]) -> None:
    await compare(url, journals, "main")
    last = await rows_of(url, SINCE_FIRST_SNAPSHOT, "main")
    asset, changed, told = last[0]
    assert (asset, changed) == ("USDT", told)
    assert changed != 0
    ours: Counter[tuple[str, str, Decimal]] = Counter()
    for row in await rows_of(url, LINES, "main"):
        if row["amount"]:
            ours[row["symbol"] or "", row["kind"], row["amount"]] += 1
    first = min(line["time"] for line in listed)
    theirs = Counter(
        (line["symbol"], line["incomeType"], Decimal(line["income"]))
        for line in listed
        if Decimal(line["income"]) and line["time"] > first  # the first deposit was there before we looked
    )
    assert ours == theirs
