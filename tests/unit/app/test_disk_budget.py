"""A start is refused when the disk cannot hold the configured days."""

from pathlib import Path

import pytest

from tidegate.app.disk_budget import MIB, Store, check_disk_budget, free_space, measure_store
from tidegate.domain.errors import ConfigError


def store(name: str = "journal", *, device: int = 1, used: int = 0, days: int = 30) -> Store:
    return Store(name, Path("/x") / name, device, used, 10 * MIB, days, f"database.keep.{name}_days")


def test_what_fits_to_the_byte_passes_and_one_more_does_not() -> None:
    stores = [store(), store("tape", days=7)]
    need = 370 * MIB + 5
    check_disk_budget(stores, {1: need}, 5)
    with pytest.raises(ConfigError) as refused:
        check_disk_budget(stores, {1: need - 1}, 5)
    said = str(refused.value)
    assert "\n" not in said
    for part in ("disk of /x/journal", "journal 300 MiB for 30 days", "tape 70 MiB for 7 days", "keep.journal_days"):
        assert part in said


def test_what_is_there_already_need_not_be_free() -> None:
    check_disk_budget([store(used=290 * MIB)], {1: 10 * MIB}, 0)
    check_disk_budget([store(used=999 * MIB)], {1: 0}, 0)
    with pytest.raises(ConfigError):
        check_disk_budget([store(used=289 * MIB)], {1: 10 * MIB}, 0)


def test_each_file_system_is_judged_by_itself() -> None:
    stores = [store(), store("database", device=2)]
    check_disk_budget(stores, {1: 300 * MIB, 2: 300 * MIB, 3: 0}, 0)
    with pytest.raises(ConfigError, match="disk of /x/database"):
        check_disk_budget(stores, {1: 900 * MIB, 2: 299 * MIB}, 0)


def test_a_store_is_measured_where_it_is_or_will_be(tmp_path: Path) -> None:
    (tmp_path / "j" / "deep").mkdir(parents=True)
    (tmp_path / "j" / "deep" / "a.log").write_bytes(bytes(1000))
    found = measure_store("journal", tmp_path / "j", 16, 30, "x")
    absent = measure_store("tape", tmp_path / "not" / "there", 1, 1, "x")
    assert (found.used_bytes, absent.used_bytes) == (1000, 0)
    assert found.growth_bytes == 16 * 30 * MIB - 1000
    assert found.device == absent.device == tmp_path.stat().st_dev
    assert free_space([found, absent]).keys() == {found.device}
