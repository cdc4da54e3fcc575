"""How long journals are kept, and whether the disk has room for what the configured days will write.

A journal is removed whole, ledger and tape, when it has not been written to for ``database.keep.journal_days``. The
newest one is never removed: the next start goes on from it. A daemon removes nothing before the database has all of it.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tidegate.app.config import Settings
from tidegate.app.config_database import EMBEDDED
from tidegate.app.disk_budget import MIB, Store, check_disk_budget, free_space, measure_store
from tidegate.domain.ids import Nanos
from tidegate.domain.market import DAY_NS


def check_room(settings: Settings, journals: Path, database: Path | None) -> None:
    """Refuse a start whose journals, tape and embedded database may outgrow their disk. Raises ``ConfigError``.

    ``journals`` is the folder that holds those of all starts; ``database`` that of the embedded server, None without.
    """
    keep = settings.database.keep
    days = keep.journal_days or keep.plan_days
    setting = "database.keep.journal_days" if keep.journal_days else "database.keep.plan_days"
    whole = measure_store("journal", journals, keep.journal_mib_per_day + keep.tape_mib_per_day, days, setting)
    used = {"ledger": 0, "tape": 0}
    for path in journals.rglob("*.log*") if journals.is_dir() else ():
        stream = path.name.partition("-")[0]
        if stream in used:
            used[stream] += path.stat().st_size
    stores = [
        Store("journal", journals, whole.device, used["ledger"], keep.journal_mib_per_day * MIB, days, setting),
        Store("tape", journals, whole.device, used["tape"], keep.tape_mib_per_day * MIB, days, setting),
    ]
    if settings.database.url == EMBEDDED and database is not None:
        planned = keep.plan_days
        stores.append(
            measure_store("database", database, keep.database_mib_per_day, planned, "database.keep.plan_days")
        )
    check_disk_budget(stores, free_space(stores), keep.reserve_mib * MIB)


def remove_old_journals(root: Path, keep_days: int | None, now_ns: Nanos) -> Sequence[Path]:
    """Remove the journals under ``root`` that are older than their days, but the newest; returns their folders.

    The age of a journal is that of its newest file. None keeps all. What cannot be removed stays.
    """
    if keep_days is None or not root.is_dir():
        return []
    found = sorted(folder for folder in root.iterdir() if any(folder.glob("ledger-*.log*")))
    removed = []
    for folder in found[:-1]:
        newest_ns = max(path.stat().st_mtime_ns for path in folder.iterdir())
        if newest_ns < now_ns - keep_days * DAY_NS:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed
