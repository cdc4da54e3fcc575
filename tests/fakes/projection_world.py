"""Journals that grow, and a projector over them: what the tests of outages and of kill -9 run.

As a program, ``python -m tests.fakes.projection_world URL FOLDER`` makes processes that project the journal in FOLDER:
for each line on its standard input one, forked off, of which it says the number. One for ``follow`` goes on until it is
killed, one for ``finish`` until all is in the database, which it says.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.fakes.journal import MemoryJournal
from tests.fakes.small_demo import INTERVAL_NS, SYMBOLS, CutMarket, rig
from tidegate.adapters.database.connecting import open_engine
from tidegate.adapters.database.projection import SessionInfo
from tidegate.adapters.database.projector import Pace, Projector, SessionJournal
from tidegate.adapters.database.trading import PostgresTrading
from tidegate.adapters.files.journal import FileJournal, JournalHeader
from tidegate.adapters.files.journal_follower import JournalFollower
from tidegate.app.demo import run_demo
from tidegate.domain.ids import InstrumentId
from tidegate.domain.messages import KernelSnapshot, Record
from tidegate.ports import TradingRepository

ACCOUNT = "demo"
QUICK = Pace(
    share=1.0, batch_rows=60, batch_age_s=0.02, idle_s=0.005, first_pause_s=0.02, longest_pause_s=0.2, most_refused=5
)
HASTY = Pace(share=0.5, slice_s=0.001, batch_rows=25, batch_age_s=0.0, idle_s=0.001)


@cache
def demo_records() -> tuple[Record, ...]:
    """A demo of a market that ends: a week and a half of 5-minute bars of four contracts, with all that follows."""
    journal = MemoryJournal()
    made = rig(lambda _: journal, source=CutMarket(chunks=1))
    asyncio.run(run_demo(made.parts))
    return tuple(journal.records)


class GrowingJournal:
    """A journal on disk that is written record by record, with small segments."""

    def __init__(self, folder: Path, segment_bytes: int = 200_000) -> None:
        self.folder, self.seq = folder, 0
        header = JournalHeader(ACCOUNT, 0, {"timeframe": "5m"}, "", ())
        self.files = FileJournal.create(folder, header, self._snapshot, segment_bytes=segment_bytes, fsync=False)

    def _snapshot(self) -> KernelSnapshot:
        return KernelSnapshot(2, self.seq, b"")

    def write(self, records: Sequence[Record]) -> None:
        """Write records out to the operating system."""
        for record in records:
            self.seq = record.seq
            self.files.write(record, durable=False)
        self.files.flush()


def session(folder: Path) -> SessionInfo:
    names = tuple(InstrumentId(each) for each in SYMBOLS)
    return SessionInfo(
        ACCOUNT, "demo-1", "demo-1", "demo", 0, 0, {"a": 1}, "", str(folder), INTERVAL_NS, names, "demo", live=False
    )


def followed(folder: Path) -> SessionJournal:
    return SessionJournal(session(folder), lambda after_seq: JournalFollower(folder, after_seq))


class Opened:
    """An open database, as the projector wants it."""

    def __init__(self, trading: TradingRepository) -> None:
        self.trading = trading

    async def ensure(self) -> None:
        """Somebody else's server."""


def connecting(
    url: str, around: Callable[[TradingRepository], TradingRepository] = lambda trading: trading
) -> Callable[[], Any]:
    """The way to a database; ``around`` may put something between."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[Opened]:
        engine = open_engine(url)
        try:
            yield Opened(around(PostgresTrading(engine)))
        finally:
            await engine.dispose()

    return connect


async def _project(url: str, folder: Path, word: str) -> None:
    projector = Projector(connecting(url), [followed(folder)], lambda line: print(line, flush=True), HASTY)
    if word == "follow":
        await projector.run()
    projector.start()
    print("done" if await projector.finish(120.0) else "behind", flush=True)


def _serve(url: str, folder: Path) -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                asyncio.run(_project(url, folder, line.strip()))
            finally:
                os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]))
