"""A demo and a backtest with a database beside them, and the verbs that read it."""

import asyncio
import csv
import io
import json
import os
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.fakes.command_line import assert_refused, tidegate
from tests.fakes.database_books import compare, rows_of
from tests.fakes.projection_world import ACCOUNT, QUICK, GrowingJournal, demo_records, session
from tidegate.adapters.database.projector import Projector, SessionJournal
from tidegate.adapters.database.schema import migrate
from tidegate.adapters.files.journal_follower import JournalFollower
from tidegate.app.bootstrap_database import connected, open_database
from tidegate.app.config_database import DatabaseSettings


@pytest.fixture
def url(plain_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    asyncio.run(migrate(plain_database))
    plain = plain_database.replace("postgresql+asyncpg", "postgresql")
    monkeypatch.setenv("TIDEGATE__DATABASE__URL", plain)
    return plain_database


def test_a_demo_its_verbs_and_its_rows_made_anew(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    done = tidegate("demo", "--seconds", "8", "--speed", "1e7", "--journal", folder, "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    name = summary["database"]["session"]
    assert summary["database"]["records_behind"] == 0
    books = asyncio.run(compare(url, [folder], ACCOUNT))
    assert len(books.fills) == summary["fills"] > 0

    fills = list(csv.DictReader(io.StringIO(tidegate("fills", "--csv").out)))
    assert len(fills) == summary["fills"]
    orders = json.loads(tidegate("orders", "--json", "--session", name).out)
    assert len(orders) == summary["orders"]
    assert {each["state"] for each in json.loads(tidegate("orders", "--state", "filled", "--json").out)} <= {"FILLED"}
    held = json.loads(tidegate("positions", "--json").out)
    assert len(held) == summary["open_positions"]
    income = list(csv.DictReader(io.StringIO(tidegate("income", "--csv").out)))
    total = sum((Decimal(line["amount"]) for line in income), Decimal(10_000))
    assert total == Decimal(books.wallet.numerator) / Decimal(books.wallet.denominator)
    assert {line["kind"] for line in income} >= {"COMMISSION", "REALIZED_PNL"}
    assert all(line["usdt_value"] == line["amount"] for line in income)
    (wallet,) = json.loads(tidegate("balance", "--json").out)
    assert (wallet["asset"], wallet["venue_wallet"]) == ("USDT", "10000")
    people = tidegate("income", "--symbol", "btcusdt")
    assert "Income: account demo" in people.out

    before = asyncio.run(everything(url))
    asyncio.run(damage(url))
    again = tidegate("db", "rebuild", "--session", name, "--json")
    assert (again.code, json.loads(again.out)) == (0, {name: summary["events"]})
    assert asyncio.run(everything(url)) == before


async def everything(url: str) -> dict[str, list[tuple[Any, ...]]]:
    tables = "orders fills trades positions parent_orders funding_payments income_lines wallets portfolios audit_trail"
    return {
        table: sorted((tuple(row) for row in await rows_of(url, f"select * from {table}")), key=str)
        for table in tables.split()
    }


async def damage(url: str) -> None:
    await rows_of(url, "delete from fills where trade_id % 2 = 0")
    await rows_of(url, "update orders set state = 'EXPIRED'")


def test_a_backtest_is_a_session_of_its_own(url: str, shared: Path) -> None:
    span = ("--timeframe", "1h", "--data", shared / "data" / "um", "--from", "2022-05-01", "--to", "2022-06-30")
    done = tidegate("backtest", "--strategy", "TrendFollowing", "--symbols", "BTCUSDT,ETHUSDT", *span, "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    name = summary["database"]["session"]
    found = asyncio.run(rows_of(url, "select count(*), sum(fee), sum(realised_pnl) from fills"))
    funding = asyncio.run(rows_of(url, "select coalesce(sum(amount), 0) from funding_payments"))
    assert found[0][0] == summary["fills"]
    assert found[0][1] == Decimal(summary["fees_usdt"])
    assert funding[0][0] == Decimal(summary["funding_usdt"])
    trades = asyncio.run(rows_of(url, "select count(*) from trades"))
    assert trades[0][0] == summary["trades"]
    last = asyncio.run(rows_of(url, "select equity from portfolios order by ts_ns desc limit 1"))
    assert last[0][0] == Decimal(summary["final_equity_usdt"])
    assert asyncio.run(rows_of(url, "select count(*) from market_data"))[0][0] == 0
    assert len(json.loads(tidegate("fills", "--session", name, "--json").out)) == summary["fills"]


def test_what_is_wrong_is_one_line(url: str) -> None:
    assert_refused(tidegate("fills"), "no session", code=3)
    assert_refused(tidegate("orders", "--state", "gone"), "--state", "WORKING")
    assert_refused(tidegate("income", "--json", "--csv"), "--json", "--csv")
    assert_refused(tidegate("income", "--from", "soon"), "--from")
    assert_refused(tidegate("db", "rebuild", "--session", "none"), "none", code=3)


def test_without_a_database_it_says_so_and_trades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ("demo", "--seconds", "0.5", "--speed", "1e7")
    done = tidegate(*run, "--no-db", "--journal", tmp_path / "a")
    assert done.code == 0
    assert "database: none" in done.err
    monkeypatch.setenv("TIDEGATE__DATABASE__URL", "postgresql://nobody@127.0.0.1:9/none")
    done = tidegate(*run, "--journal", tmp_path / "b", "--json")
    assert done.code == 0
    assert json.loads(done.out)["database"]["records_behind"] > 0
    assert "trading goes on" in done.err
    assert "tidegate db rebuild --session demo-b-" in done.err


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the server's account can reach, also when we are root."""
    with TemporaryDirectory(prefix="tidegate-projector-", dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def journal(tmp_path: Path) -> GrowingJournal:
    demo_records()
    return GrowingJournal(tmp_path / "journal")


async def test_an_embedded_server_that_is_killed_is_started_again(place: Path, journal: GrowingJournal) -> None:
    """The records after the kill are there as well, each once."""
    settings = DatabaseSettings(dir=str(place / "pg"))
    records, notices = demo_records(), list[str]()
    followed = SessionJournal(session(journal.folder), lambda after_seq: JournalFollower(journal.folder, after_seq))
    projector = Projector(lambda: connected(settings), [followed], notices.append, QUICK)
    projector.start()
    await projector.begun(120.0)
    journal.write(records[:3000])
    async with open_database(settings, migrate=False) as database:
        assert database.place.server is not None
        os.kill(_postmaster(database.place.server.data_dir), signal.SIGKILL)
    for start in range(3000, len(records), 500):
        journal.write(records[start : start + 500])
        await asyncio.sleep(0.05)
    journal.files.close_now()
    assert await projector.finish(120.0), notices
    async with open_database(settings, migrate=False) as database:
        await compare(database.place.url, [journal.folder], ACCOUNT)
    assert notices[-1] == "the database answers again, and is catching up"


def _postmaster(folder: Path) -> int:
    (found,) = folder.rglob("postmaster.pid")
    return int(found.read_text().splitlines()[0])
