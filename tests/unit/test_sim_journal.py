"""The real journal on the simulated disk: killed at any boundary, it reopens and has lost nothing that was durable."""

import asyncio
from pathlib import Path

import pytest

from tidegate.adapters.files.journal import FileJournal, JournalHeader, read_journal
from tidegate.app.simulation import SimDisk, SimJournal, VirtualLoop, run
from tidegate.domain.messages import KernelSnapshot, Record, SetTimer, TimerFired
from tidegate.ports import Journal

HEADER = JournalHeader("simulated", 1_750_000_000, {}, "ab", ())
RECORDS = 12
DURABLE = 3
"""Every third record is durable, the others are only written."""


class Life:
    """One life of a daemon that does nothing but journal; ``promised`` is the last record it was told is durable."""

    promised = 0

    def __init__(self, loop: VirtualLoop, folder: Path) -> None:
        self.loop, self.folder, self.seq = loop, folder, 0

    def snapshot(self) -> KernelSnapshot:
        return KernelSnapshot(1, self.seq, b"")

    def open(self) -> Journal:
        if any(self.folder.glob("ledger-*.log*")):
            for record in read_journal(self.folder).records():
                self.seq = record.seq
            journal = FileJournal.reopen(self.folder, HEADER, self.snapshot, segment_bytes=400)
        else:
            for leftover in self.folder.iterdir():  # a draft that had not got its name
                leftover.unlink()
            journal = FileJournal.create(self.folder, HEADER, self.snapshot, segment_bytes=400)
        return SimJournal(journal, self.loop, journal.close_now)

    async def live(self) -> None:
        journal = self.open()
        assert self.seq >= Life.promised
        while self.seq < RECORDS:
            self.seq += 1
            durable = self.seq % DURABLE == 0
            timer = SetTimer(f"s{self.seq}", self.seq)
            await journal.append(Record(self.seq, TimerFired("t", self.seq, self.seq), (timer,)), durable=durable)
            if durable:
                Life.promised = self.seq
            await asyncio.sleep(1)
        await journal.close()


def lives_after_a_kill(folder: Path, seed: int, effect: int) -> tuple[int, list[int], int]:
    """Effects of the first life, the numbers of the records in the end, and the bytes lost."""
    folder.mkdir()
    Life.promised = 0

    async def main(loop: VirtualLoop) -> tuple[int, int]:
        disk = SimDisk(loop)
        disk.own("daemon", folder)
        loop.kill_at("daemon", effect)
        with disk.mounted():
            first = loop.spawn("daemon", Life(loop, folder).live())
            node = loop.nodes.get("daemon")
            await asyncio.wait([first, loop.create_task(node.died.wait())], return_when=asyncio.FIRST_COMPLETED)
            effects = node.effects
            loop.kill("daemon")  # or its process has come to its end
            await loop.spawn("daemon", Life(loop, folder).live())
        return effects, disk.lost_bytes

    outcome = run(main, seed)
    assert outcome.errors == ()
    return outcome.result[0], [record.seq for record in read_journal(folder).records()], outcome.result[1]


@pytest.mark.parametrize("seed", range(3))
def test_a_journal_killed_at_any_boundary_goes_on_without_a_gap(tmp_path: Path, seed: int) -> None:
    boundaries, lost_bytes = lives_after_a_kill(tmp_path / "whole", seed, 10**9)[0], 0
    assert boundaries > 2 * RECORDS
    for effect in range(1, boundaries + 1):
        died_at, numbers, lost = lives_after_a_kill(tmp_path / str(effect), seed, effect)
        assert died_at == effect
        assert numbers == list(range(1, RECORDS + 1))
        lost_bytes += lost
    assert lost_bytes > 0
