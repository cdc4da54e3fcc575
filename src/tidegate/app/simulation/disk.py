"""A disk that forgets: real files in a real folder, of which a killed node keeps what it had synced, and a torn rest.

The journal and everything else that says ``os.fsync`` runs unmodified. While the disk is mounted, ``os.fsync`` is an
effect boundary that notes how much of the file is safe (and spares the machine the wait). When the node of a folder
is killed, every file in it is cut: to the safe length, or somewhere between it and the end, as the seed has it.
Names are durable at once: renames and removals are not undone.
"""

import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tidegate.app.simulation.loop import VirtualLoop
from tidegate.app.simulation.nodes import NODE, Node
from tidegate.app.simulation.randomness import replaced
from tidegate.domain.messages import Record
from tidegate.ports import Journal

_Inode = tuple[int, int]
_TAIL_BYTES = 1 << 16


class SimDisk:
    """The folders of the nodes of one run, and what of them is safe. ``lost_bytes`` counts what kills have taken."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.lost_bytes = 0
        self._loop = loop
        self._folders: dict[str, Path] = {}
        self._safe_bytes: dict[_Inode, int] = {}
        loop.on_kill.append(self._lose)

    def own(self, node: str, folder: Path) -> None:
        """Say that ``folder`` is ``node``'s: what is unsynced in it dies with the node. What is there now is safe."""
        self._folders[node] = folder
        for path in _files(folder):
            self._note(path.stat())

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Stand in for ``os.fsync`` until the end of the block."""
        with replaced(os, "fsync", self.fsync):
            yield

    def fsync(self, fd: int) -> None:
        """Note that the file is safe as it is: an effect boundary before and after."""
        self._loop.point("disk.fsync before")
        self._note(os.fstat(fd))
        self._loop.point("disk.fsync after")

    def holds(self, node: str, text: bytes) -> bool:
        """Whether ``text`` is in what a crash now would certainly leave of the journals in ``node``'s folder."""
        newest_first = [path for path in reversed(_files(self._folders[node])) if path.suffix == ".log"]
        return any(self._finds(path, text) for path in newest_first)

    def _finds(self, path: Path, text: bytes) -> bool:
        stat = path.stat()
        safe_bytes = self._safe_bytes.get((stat.st_dev, stat.st_ino), 0)
        with path.open("rb") as file:
            for start in dict.fromkeys((max(0, safe_bytes - _TAIL_BYTES), 0)):  # mostly it is near the end
                file.seek(start)
                if text in file.read(safe_bytes - start):
                    return True
        return False

    def _note(self, stat: os.stat_result) -> None:
        self._safe_bytes[stat.st_dev, stat.st_ino] = stat.st_size

    def _lose(self, node: Node) -> None:
        folder = self._folders.get(node.name)
        rng = random.Random(f"{self._loop.seed}:disk:{node.name}:{node.life}:{node.effects}")  # new at every place
        for path in _files(folder) if folder is not None else ():
            stat = path.stat()
            safe_bytes = min(stat.st_size, self._safe_bytes.get((stat.st_dev, stat.st_ino), 0))
            if stat.st_size > safe_bytes:
                kept_bytes = rng.choice((safe_bytes, stat.st_size, rng.randint(safe_bytes, stat.st_size)))
                os.truncate(path, kept_bytes)
                self.lost_bytes += stat.st_size - kept_bytes
            self._note(path.stat())  # whatever survived has reached the disk


class SimJournal:
    """The ``Journal`` port of a node that can be killed: appending is an effect boundary before and after.

    When the node dies, ``close`` closes the files that its kernel would have closed. It may write: what it writes is
    not synced, and so at the mercy of the disk, whose ``mounted`` block must be entered.
    """

    def __init__(self, journal: Journal, loop: VirtualLoop, close: Callable[[], None]) -> None:
        self._journal, self._loop = journal, loop
        self._close = close
        NODE.get().ends.append(self._die)

    async def append(self, record: Record, *, durable: bool) -> None:
        """Append, unless the node dies."""
        self._loop.point("journal.append before")
        await self._journal.append(record, durable=durable)
        self._loop.point("journal.append after")

    async def replay(self, from_seq: int = 0) -> AsyncIterator[Record]:
        """The records from ``from_seq`` on."""
        async for record in self._journal.replay(from_seq):
            yield record

    async def close(self) -> None:
        """Flush and close, unless the node dies."""
        self._loop.point("journal.close before")
        await self._journal.close()

    def _die(self, _node: Node) -> None:
        with replaced(os, "fsync", lambda _: None), suppress(Exception):  # it may have died within a write
            self._close()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
