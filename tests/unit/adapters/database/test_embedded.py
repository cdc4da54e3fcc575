"""The embedded server within one process: its folders, its address, and what it refuses."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tidegate.adapters.database import embedded
from tidegate.adapters.database.embedded import EmbeddedServer, EmbeddedUnavailable, find_binaries

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """The data folder of a server that was stopped, for copies of it."""
    import asyncio

    async def make(folder: Path) -> None:
        await (await EmbeddedServer.start(folder)).stop()

    folder = Path(tempfile.mkdtemp(prefix="tidegate-cluster-", dir="/tmp"))
    folder.chmod(0o711)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(make(folder / "pg"))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    yield folder / "pg"
    shutil.rmtree(folder)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-embedded-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def copy(cluster: Path, target: Path) -> Path:
    """With owners and permissions."""
    target.parent.mkdir(parents=True, exist_ok=True)
    assert os.spawnlp(os.P_WAIT, "cp", "cp", "-a", str(cluster), str(target)) == 0
    return target


async def refusal(folder: Path, pg_bin: Path | None = None) -> str:
    with pytest.raises(EmbeddedUnavailable) as error:
        await EmbeddedServer.start(folder, pg_bin=pg_bin)
    assert "\n" not in str(error.value)
    return str(error.value)


async def test_its_address_serves_sqlalchemy(cluster: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "1", "PGHOST": "nowhere", "PGUSER": "x", "PGDATABASE": "x"}.items():
        monkeypatch.setenv(name, value)
    async with await EmbeddedServer.start(copy(cluster, place / "pg")) as server:
        assert server.url.startswith("postgresql+asyncpg://tidegate@")
        assert server.owner
        engine = create_async_engine(server.url)
        async with engine.connect() as connection:
            assert (await connection.scalar(text("show server_version"))).split()[0] == server.server_version
            assert await connection.scalar(text("select current_database()")) == server.database
        await engine.dispose()
        assert (server.tools / "pg_dump").is_file()
    assert not server.owner


async def test_two_in_one_process_share_one_server(cluster: Path, place: Path) -> None:
    folder = copy(cluster, place / "pg")
    first = await EmbeddedServer.start(folder)
    second = await EmbeddedServer.start(folder)
    assert (first.owner, second.owner) == (True, False)
    await second.stop()  # not its own: nothing happens
    await first.ensure()
    assert first.owner
    await first.stop()
    await second.ensure()
    assert second.owner
    await second.stop()
    await second.stop()


async def test_a_long_path_has_its_socket_elsewhere(cluster: Path, place: Path) -> None:
    folder = copy(cluster, place / ("deep/" * 20) / "pg with a blank")
    async with await EmbeddedServer.start(folder) as server:
        assert server.socket_dir.parent == Path("/tmp")
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700
        assert server.socket_dir.stat().st_uid == folder.stat().st_uid
    assert not server.socket_dir.exists()
    server.socket_dir.symlink_to(place)
    try:
        assert "no folder" in await refusal(folder)
    finally:
        server.socket_dir.unlink()


@needs_root
async def test_data_out_of_reach_is_kept_elsewhere(cluster: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "UNREACHABLE_DATA", place / "var/lib")
    home = place / "home"
    home.mkdir(mode=0o700)
    (place / "var/lib").mkdir(parents=True)
    found = []
    for name in ("one", "two"):
        server = await EmbeddedServer.start(home / name)
        found.append(server.data_dir)
        await server.stop()
    assert {folder.parent for folder in found} == {place / "var/lib"}
    assert found[0] != found[1]  # two databases do not become one
    assert not list(home.iterdir())
    assert home.stat().st_mode & 0o777 == 0o700


async def test_the_data_of_another_version_are_refused(cluster: Path, place: Path) -> None:
    folder = copy(cluster, place / "pg")
    (folder / "cluster/PG_VERSION").write_text("15\n")
    said = await refusal(folder)
    assert "PostgreSQL 15" in said
    assert "database.pg_bin" in said


async def test_a_folder_that_holds_something_else_is_refused_and_not_touched(place: Path) -> None:
    folder = place / "home"
    folder.mkdir(mode=0o755)
    (folder / "letter").write_text("dear")
    before = folder.stat()
    assert "holds files" in await refusal(folder)
    after = folder.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [path.name for path in folder.iterdir()] == ["letter"]


@needs_root
async def test_a_folder_of_another_account_is_refused(place: Path) -> None:
    folder = place / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 54_321, 54_321)
    assert "another account" in await refusal(folder)


async def test_a_file_in_the_way_is_refused(place: Path) -> None:
    (place / "file").write_text("")
    assert "no folder" in await refusal(place / "file")
    assert "cannot be made" in await refusal(place / "file/pg")


async def test_a_cluster_that_does_not_start_says_why(cluster: Path, place: Path) -> None:
    folder = copy(cluster, place / "pg")
    (folder / "cluster/global/pg_control").unlink()
    said = await refusal(folder)
    assert "did not start" in said
    assert "server.log" in said
    with (folder / "lock").open() as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_programs_that_cannot_make_a_cluster_say_why(place: Path) -> None:
    folder = place / "bin"
    folder.mkdir()
    (folder / "postgres").symlink_to(find_binaries() / "postgres")
    (folder / "initdb").write_text("#!/bin/sh\necho 'initdb: error: no space left' >&2\nexit 1\n")
    for path in (folder, folder / "initdb"):
        path.chmod(0o755)
    said = await refusal(place / "pg", folder)
    if "cannot run" not in said:  # the wheel is out of the account's reach where the repository is in a private folder
        assert "no space left" in said
    assert not (place / "pg/cluster").exists()


async def test_without_any_postgresql_there_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.adapters.database.binaries._WHEEL", "no_such_wheel")
    monkeypatch.setattr("tidegate.adapters.database.binaries.SYSTEM", place)
    assert "no PostgreSQL" in await refusal(place / "pg")
    assert not (place / "pg").exists()
