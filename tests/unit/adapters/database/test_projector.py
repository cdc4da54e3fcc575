"""The projector before real databases: whatever they do, the journal's records are rows in the end, each once."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from tests.fakes.command_line import ROOT
from tests.fakes.database_books import compare, rows_of
from tests.fakes.projection_world import ACCOUNT, QUICK, GrowingJournal, connecting, demo_records, followed
from tidegate.adapters.database.connecting import connect
from tidegate.adapters.database.projector import Projector
from tidegate.adapters.database.schema import migrate
from tidegate.domain.errors import DatabaseError
from tidegate.domain.messages import Alert, Record, Severity
from tidegate.ports import Row, TradingRepository

Records = Sequence[Record]


@pytest.fixture(scope="module", autouse=True)
def a_demo() -> None:
    """It is run once, on a loop of its own."""
    demo_records()


@pytest.fixture
async def url(database: str) -> str:
    await migrate(database)
    return database


@pytest.fixture
async def plain(plain_database: str) -> str:
    await migrate(plain_database)
    return plain_database


@dataclass
class Rig:
    """A journal that grows while a projector follows it."""

    url: str
    folder: Path
    records: Records = field(default_factory=demo_records)
    notices: list[str] = field(default_factory=list)
    written: int = 0

    def __post_init__(self) -> None:
        self.journal = GrowingJournal(self.folder)

    def projector(self, around: Callable[[TradingRepository], TradingRepository] = lambda each: each) -> Projector:
        return Projector(connecting(self.url, around), [followed(self.folder)], self.notices.append, QUICK)

    async def grow(self, share: float, steps: int = 10) -> None:
        """Write on, to a share of all records, while everybody else has their turn."""
        until = round(share * len(self.records))
        step = max(1, (until - self.written) // steps)
        while self.written < until:
            end = min(until, self.written + step)
            self.journal.write(self.records[self.written : end])
            self.written = end
            await asyncio.sleep(0.01)

    async def finish(self, projector: Projector) -> None:
        self.journal.files.close_now()
        assert await projector.finish(120.0), self.notices
        await self.equal()

    async def equal(self) -> None:
        books = await compare(self.url, [self.folder], ACCOUNT)
        assert len(books.fills) > 5
        assert len(books.orders) > 20
        cursor = await rows_of(self.url, "select projected_seq from sessions")
        assert [row[0] for row in cursor] == [books.last_seq]


@asynccontextmanager
async def admin(url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def until(told: Callable[[], bool]) -> None:
    async with asyncio.timeout(60.0):
        while not told():  # noqa: ASYNC110  what is waited for is in the projector, and it tells nobody
            await asyncio.sleep(0.01)


def last_tape(folder: Path) -> Path:
    return sorted(folder.glob("tape-*.log"))[-1]


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_first_tape(folder: Path) -> None:
    sorted(folder.glob("tape-*"))[0].unlink()


async def test_rows_follow_the_journal(url: str, tmp_path: Path) -> None:
    rig = Rig(url, tmp_path)
    projector = rig.projector()
    projector.start()
    await rig.grow(1.0)
    await rig.finish(projector)
    assert rig.notices == []


async def test_a_projector_that_comes_later_or_again_changes_nothing_twice(plain: str, tmp_path: Path) -> None:
    rig = Rig(plain, tmp_path)
    for share in (0.2, 0.2, 0.9, 1.0):
        await rig.grow(share)
        projector = rig.projector()
        projector.start()
        assert await projector.finish(60.0)
        await rig.equal() if share > 0.5 else None
    rig.journal.files.close_now()


async def test_read_only_for_a_while(url: str, tmp_path: Path) -> None:
    rig = Rig(url, tmp_path)
    projector = rig.projector()
    projector.start()
    await rig.grow(0.3)
    async with admin(url) as connection:
        name = await connection.fetchval("select current_database()")
        await connection.execute(f"alter database {name} set default_transaction_read_only = on")
        await _disconnect_others(connection)
        await rig.grow(0.6)
        await until(lambda: "read-only" in (projector.trouble or ""))
        await connection.execute("set default_transaction_read_only = off")
        await connection.execute(f"alter database {name} reset default_transaction_read_only")
        await _disconnect_others(connection)
    await rig.grow(1.0)
    await rig.finish(projector)
    assert rig.notices[-1] == "the database answers again, and is catching up"


async def _disconnect_others(connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )


async def test_connections_cut_in_mid_transaction(url: str, tmp_path: Path) -> None:
    rig = Rig(url, tmp_path)
    projector = rig.projector()
    projector.start()
    async with admin(url) as connection:
        for n in range(1, 20):
            await rig.grow(n / 20, steps=3)
            await _disconnect_others(connection)
    await rig.grow(1.0)
    await rig.finish(projector)


async def test_slow_and_locked_nothing_waits_for_it(url: str, tmp_path: Path) -> None:
    """Somebody holds a lock on the fills for seconds: the loop goes on, the journal too, and nothing is lost."""
    rig = Rig(url, tmp_path)
    projector = rig.projector()
    projector.start()
    await rig.grow(0.2)
    async with admin(url) as connection, connection.transaction():
        await connection.execute("lock table fills in access exclusive mode")
        await rig.grow(0.9)
        await asyncio.sleep(5.0)
        assert projector.projected_seq < rig.written
    await rig.grow(1.0)
    await rig.finish(projector)


async def test_no_connection_left(plain: str, tmp_path: Path) -> None:
    rig = Rig(plain, tmp_path)
    async with admin(plain) as connection:
        name = await connection.fetchval("select current_database()")
        await connection.execute(f"alter database {name} connection limit 0")
        await connection.execute("create role guest login")
    guest = plain.replace("tidegate@", "guest@", 1)
    try:
        async with admin(plain) as connection:
            await connection.execute(
                "grant all on schema public to guest; grant all on all tables in schema public to guest"
            )
            projector = Projector(connecting(guest), [followed(tmp_path)], rig.notices.append, QUICK)
            projector.start()
            await rig.grow(0.5)
            await until(lambda: projector.trouble is not None)
            assert "too many connections" in rig.notices[0]
            await connection.execute(f"alter database {name} connection limit -1")
            await connection.execute("alter table market_data owner to guest; alter table risk_metrics owner to guest")
            await rig.grow(1.0)
            await rig.finish(projector)
    finally:
        async with admin(plain) as connection:
            await connection.execute("reassign owned by guest to current_user; drop owned by guest; drop role guest")


class Forgetful:
    """A repository whose commits happen and whose answers are lost, now and then."""

    def __init__(self, trading: TradingRepository, dice: Random) -> None:
        self._trading, self._dice = trading, dice

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trading, name)

    async def write(self, *arguments: Any, **more: Any) -> None:
        await self._trading.write(*arguments, **more)
        if self._dice.random() < 0.3:
            raise DatabaseError("the connection was closed in the middle of the answer")


async def test_a_commit_whose_answer_is_lost_is_not_made_again(plain: str, tmp_path: Path) -> None:
    rig, dice = Rig(plain, tmp_path), Random(5)
    projector = rig.projector(lambda trading: Forgetful(trading, dice))  # type: ignore[arg-type, return-value]
    projector.start()
    await rig.grow(1.0)
    await rig.finish(projector)
    assert any("catching up" in line for line in rig.notices)


async def test_a_row_that_is_refused_goes_to_quarantine_and_the_rest_goes_on(url: str, tmp_path: Path) -> None:
    rig = Rig(url, tmp_path)
    bad = Alert(Severity.WARNING, "zero\0byte", "half \ud800 a pair", 5)
    records = list(rig.records)
    records[700] = replace(records[700], commands=(*records[700].commands, replace(bad, text="whole")))
    records[900] = replace(records[900], commands=(*records[900].commands, replace(bad, subject="x", text="\0")))
    rig.records = records
    projector = rig.projector()
    projector.start()
    await rig.grow(1.0)
    await rig.finish(projector)
    found = await rows_of(url, "select subject, seq, detail from audit_trail where kind = 'QUARANTINE' order by seq")
    assert [(row["subject"], row["seq"]) for row in found] == [("audit_trail", 701), ("audit_trail", 901)]
    assert "zero\\\\0byte" in found[0]["detail"]
    assert projector.quarantined == 2
    assert projector.trouble is None


async def test_a_refusal_of_everything_is_an_outage_not_a_heap_of_quarantine(plain: str, tmp_path: Path) -> None:
    rig = Rig(plain, tmp_path)
    async with admin(plain) as connection:
        await connection.execute("alter table market_data add constraint nothing check (close < 0)")
        projector = rig.projector()
        projector.start()
        await rig.grow(0.5)
        await until(lambda: projector.trouble is not None)
        assert "nothing" in rig.notices[0]
        await connection.execute("alter table market_data drop constraint nothing")
    await rig.grow(1.0)
    await rig.finish(projector)
    assert await rows_of(plain, "select 1 from audit_trail where kind = 'QUARANTINE'") == []


async def test_a_journal_that_lost_its_tail_has_its_rows_made_anew(plain: str, tmp_path: Path) -> None:
    rig = Rig(plain, tmp_path)
    await rig.grow(0.7)
    first = rig.projector()
    first.start()
    assert await first.finish(60.0)
    rig.journal.files.close_now()
    halve(last_tape(tmp_path))  # the power failed, and took the end of the last segments
    second = rig.projector()
    second.start()
    assert await second.finish(60.0)
    await rig.equal()
    assert "its rows are made anew" in "".join(rig.notices)


async def test_a_damaged_journal_ends_the_projection_with_a_word(plain: str, tmp_path: Path) -> None:
    rig = Rig(plain, tmp_path)
    await rig.grow(1.0)
    rig.journal.files.close_now()
    remove_first_tape(tmp_path)
    projector = rig.projector()
    projector.start()
    assert not await projector.finish(60.0)
    assert projector.given_up
    assert "not projected any more" in rig.notices[0]


# ---- break it and see it fail ---------------------------------------------------------------------------------------


class Broken:
    """A repository that loses one fill of a batch, or puts one line in twice under another name."""

    def __init__(self, trading: TradingRepository, how: str) -> None:
        self._trading, self._how, self._done = trading, how, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trading, name)

    async def write(
        self, account: str, session_id: str, rows: Mapping[str, Sequence[Row]], *rest: Any, **more: Any
    ) -> None:
        if not self._done and rows.get("fills" if self._how == "lose" else "funding_payments"):
            self._done = True
            if self._how == "lose":
                rows = {**rows, "fills": rows["fills"][1:]}
            else:
                line = rows["funding_payments"][0]
                rows = {**rows, "funding_payments": [*rows["funding_payments"], {**line, "line": "again"}]}
        await self._trading.write(account, session_id, rows, *rest, **more)


@pytest.mark.parametrize("how", ["lose", "double"])
async def test_the_comparison_sees_what_is_lost_and_what_is_double(how: str, plain: str, tmp_path: Path) -> None:
    rig = Rig(plain, tmp_path)
    projector = rig.projector(lambda trading: Broken(trading, how))  # type: ignore[arg-type, return-value]
    projector.start()
    await rig.grow(1.0)
    rig.journal.files.close_now()
    assert await projector.finish(60.0)
    with pytest.raises(AssertionError):
        await compare(plain, [tmp_path], ACCOUNT)


# ---- kill -9 --------------------------------------------------------------------------------------------------------

KILLS = 100


def test_a_hundred_kills_at_random_points(plain_database: str, tmp_path: Path) -> None:
    """A process projects a journal that grows beside it, and is killed again and again, wherever it is."""
    asyncio.run(migrate(plain_database))
    dice, rig = Random(9), Rig(plain_database, tmp_path)
    cursors = set()
    with _processes(plain_database, tmp_path) as made:
        for _ in range(KILLS):
            child = _ask(made, "follow")
            for _ in range(dice.randint(1, 3)):
                end = min(len(rig.records), rig.written + dice.randint(1, len(rig.records) // KILLS))
                rig.journal.write(rig.records[rig.written : end])
                rig.written = end
            time.sleep(dice.uniform(0.0, 0.9))
            os.kill(int(child), signal.SIGKILL)
            found = asyncio.run(rows_of(plain_database, "select projected_seq from sessions"))
            cursors.add(found[0][0] if found else 0)
        rig.journal.write(rig.records[rig.written :])
        rig.journal.files.close_now()
        _ask(made, "finish")
        assert made.stdout is not None
        assert made.stdout.readline() == "done\n"
    assert len(cursors) > KILLS / 8  # they died on the way, not before it
    asyncio.run(rig.equal())


@contextmanager
def _processes(url: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.projection_world", url, str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as made:
        try:
            yield made
        finally:
            made.kill()


def _ask(made: "subprocess.Popen[str]", word: str) -> str:
    assert made.stdin is not None
    assert made.stdout is not None
    made.stdin.write(f"{word}\n")
    made.stdin.flush()
    return made.stdout.readline().strip()
