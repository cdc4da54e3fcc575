"""Journals go when they are old enough, and a disk that is too small for the configured days refuses the start."""

import os
from pathlib import Path

import pytest

from tidegate.app.config import Settings
from tidegate.app.keeping import check_room, remove_old_journals
from tidegate.domain.errors import ConfigError
from tidegate.domain.market import DAY_NS

NOW_NS = 1_800_000_000 * 10**9


def journal(root: Path, name: str, age_days: float) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for stream in ("ledger", "tape"):
        path = folder / f"{stream}-000001.log"
        path.write_bytes(b"x" * 1000)
        at_ns = NOW_NS - int(age_days * DAY_NS)
        os.utime(path, ns=(at_ns, at_ns))
    return folder


def settings(**keep: object) -> Settings:
    return Settings.model_validate(
        {"symbols": ["BTCUSDT"], "strategies": ["TrendFollowing"], "database": {"keep": keep}}
    )


def test_what_is_older_than_its_days_goes_but_never_the_newest(tmp_path: Path) -> None:
    old, young, newest = journal(tmp_path, "1", 40), journal(tmp_path, "2", 20), journal(tmp_path, "3", 35)
    (tmp_path / "other").mkdir()
    assert remove_old_journals(tmp_path, 30, NOW_NS) == [old]
    assert not old.exists()
    assert young.exists()
    assert newest.exists()
    assert (tmp_path / "other").exists()


def test_null_days_keep_everything(tmp_path: Path) -> None:
    journal(tmp_path, "1", 4000), journal(tmp_path, "2", 1)
    assert remove_old_journals(tmp_path, None, NOW_NS) == []
    assert remove_old_journals(tmp_path / "nowhere", 30, NOW_NS) == []
    assert len(list(tmp_path.iterdir())) == 2


def test_a_disk_with_room_is_no_obstacle(tmp_path: Path) -> None:
    check_room(
        settings(journal_mib_per_day=0, tape_mib_per_day=0, database_mib_per_day=0, reserve_mib=0), tmp_path, None
    )


@pytest.mark.parametrize(
    ("keep", "blamed"),
    [
        ({"journal_mib_per_day": 10**6}, "database.keep.journal_days"),
        ({"tape_mib_per_day": 10**6}, "database.keep.journal_days"),
        ({"database_mib_per_day": 10**6}, "database.keep.plan_days"),
        ({"journal_days": None, "journal_mib_per_day": 10**6}, "database.keep.plan_days"),
    ],
)
def test_a_disk_that_is_too_small_is_told_with_what_to_lower(tmp_path: Path, keep: dict, blamed: str) -> None:
    with pytest.raises(ConfigError, match="are free, and") as error:
        check_room(settings(**keep), tmp_path / "journal", tmp_path / "pg")
    assert blamed in str(error.value)
    assert len(str(error.value).splitlines()) == 1
