"""Whether the disk holds what the configured days will write: asked before a start, not when it is full.

1. Each store says how much it may still grow: its size a day times its days, less what it has already.
2. Stores on one file system share its free space.
3. When what they may still grow, and the reserve, are more than is free, the start is refused.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.domain.errors import ConfigError

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Store:
    """Something that grows by the day: ``journal``, ``tape`` or ``database``.

    ``device`` is the number of its file system, ``setting`` the key of its days.
    """

    name: str
    folder: Path
    device: int
    used_bytes: int
    bytes_per_day: int
    days: int
    setting: str

    @property
    def growth_bytes(self) -> int:
        """How much it may still grow."""
        return max(0, self.bytes_per_day * self.days - self.used_bytes)


def check_disk_budget(stores: Sequence[Store], free_bytes: Mapping[int, int], reserve_bytes: int) -> None:
    """Raise ``ConfigError``, one line, when a file system cannot hold what its stores may still write."""
    for device, free in free_bytes.items():
        here = [store for store in stores if store.device == device]
        growth = sum(store.growth_bytes for store in here)
        if not here or growth + reserve_bytes <= free:
            continue
        largest = max(here, key=lambda store: store.growth_bytes)
        parts = ", ".join(f"{each.name} {_size(each.growth_bytes)} for {each.days} days" for each in here)
        raise ConfigError(
            f"disk of {largest.folder}: {_size(free)} are free, and {_size(growth + reserve_bytes)} are needed "
            f"({parts}, {_size(reserve_bytes)} in reserve): make room, or lower {largest.setting}"
        )


def measure_store(name: str, folder: Path, mib_per_day: int, days: int, setting: str) -> Store:
    """A store as it is on disk; a folder that is not there yet lies where its nearest parent does."""
    place = folder
    while not place.exists():
        place = place.parent
    used = sum(_bytes_in(root, files) for root, _, files in os.walk(folder))
    return Store(name, folder, place.stat().st_dev, used, mib_per_day * MIB, days, setting)


def free_space(stores: Sequence[Store]) -> dict[int, int]:
    """The free bytes of every file system that stores lie on."""
    found = {}
    for store in stores:
        place = store.folder
        while not place.exists():
            place = place.parent
        found[store.device] = shutil.disk_usage(place).free
    return found


def _bytes_in(root: str, files: Sequence[str]) -> int:
    total = 0
    for name in files:
        try:
            total += os.stat(os.path.join(root, name), follow_symlinks=False).st_size
        except OSError:  # gone in between: a segment that was closed, a file of the server
            continue
    return total


def _size(count: int) -> str:
    return f"{count / 1024**3:,.1f} GiB" if count >= 1024**3 else f"{count / MIB:,.0f} MiB"
