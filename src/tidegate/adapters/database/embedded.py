"""The embedded PostgreSQL server: started with the daemon, gone with the daemon, nothing to administer.

1. One lock file decides who starts the server. The lock is handed to the server itself and to no one else: it is
   free exactly when no process of the server is left, however its starter ended. Nothing about it can be stale.
2. Whoever finds the server answering uses it. Whoever finds the lock free makes the cluster if there is none, and
   starts the server. Whoever finds neither waits: another process is starting or stopping it.
3. A cluster is made under another name and renamed when it is whole, so none is ever half made.
4. Access is by the socket alone, in a folder that only the server's account (and root) can enter.
5. The server is told to shut down by Linux when the thread that started it is gone, so call ``start`` from one that
   lasts: the main thread, as a rule. Elsewhere a server that was left behind is found by the next start, and used.

As root the server runs as the account ``postgres`` or ``nobody``. No account is made, and no permission of a folder
that is not our own is changed: what the account cannot reach is copied to, or kept in, a place that it can reach.
"""

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tidegate.adapters.database.binaries import (
    Account,
    Binaries,
    EmbeddedUnavailable,
    find_binaries,
    last_line,
    launch_command,
    plain_environment,
    server_account,
    usable_binaries,
)

__all__ = ["EmbeddedServer", "EmbeddedUnavailable", "find_binaries"]

ROLE = "tidegate"
DATABASE = "tidegate"
PORT = 5432  # a part of the socket's name; nothing listens on the network
UNREACHABLE_DATA = Path("/var/lib/tidegate/pg")
_SOCKET_PATH_LIMIT = 90  # of the 107 bytes that a socket's path may have
_PATIENCE_S = 60.0
_ANSWER_S = 5.0
_POLL_S = 0.02
_SETTINGS = {
    "port": str(PORT),
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "dynamic_shared_memory_type": "mmap",  # /dev/shm is small in containers
    "shared_buffers": "64MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
}


class EmbeddedServer:
    """A server that answers. Make one with ``start``; all processes of one data folder share one server.

    ``data_dir`` is where the data really is: see ``UNREACHABLE_DATA``. ``tools`` holds ``psql``, ``pg_dump`` and
    ``pg_restore`` where the binaries have them. Everything raises ``EmbeddedUnavailable``.
    """

    user = ROLE
    database = DATABASE

    def __init__(self, data_dir: Path, account: Account | None, binaries: Binaries) -> None:
        self.data_dir = data_dir
        self.socket_dir = _socket_dir(data_dir)
        self.tools = binaries.folder
        self.server_version = binaries.version
        self._account = account
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    async def start(cls, data_dir: Path, *, pg_bin: Path | None = None) -> "EmbeddedServer":
        """The server of this folder, started if need be; the folder is made, private, if it is not there."""
        server = await asyncio.to_thread(cls._prepare, data_dir, pg_bin)
        await server.ensure()
        return server

    @classmethod
    def _prepare(cls, data_dir: Path, pg_bin: Path | None) -> "EmbeddedServer":
        folder = data_dir.expanduser().resolve()
        _make_open(folder.parent)
        account = server_account(folder)
        if account is not None and not _can_enter(account, folder.parent):
            _make_open(UNREACHABLE_DATA)
            folder = UNREACHABLE_DATA / f"{folder.name}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
            account = server_account(folder)
        binaries = usable_binaries(find_binaries(pg_bin), account)
        _make_private(folder, account)
        return cls(folder, account, binaries)

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+asyncpg://{ROLE}@:{PORT}/{DATABASE}?host={quote(str(self.socket_dir))}"

    @property
    def owner(self) -> bool:
        """True while the server is a child of this process; it ends with it."""
        return self._process is not None and self._process.poll() is None

    async def ensure(self) -> None:
        """Return when the server answers: it may have to be started, again or by us for the first time."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + _PATIENCE_S
        while clock() < deadline:
            if await self._answers():
                return
            lock = None if self.owner else _take(self.data_dir / "lock")
            if lock is not None:
                try:
                    await self._start_holding(lock)
                finally:
                    os.close(lock)  # by now the server holds it, or nobody
                return
            await asyncio.sleep(_POLL_S)
        raise EmbeddedUnavailable(
            f"the PostgreSQL server of {self.data_dir} is running and does not answer; see {self._log}"
        )

    async def stop(self) -> None:
        """Shut the server down if it is ours; the last committed transaction is on disk already."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        await _end_of(process)
        self._process = None
        if self.socket_dir.parent != self.data_dir and (lock := _take(self.data_dir / "lock")) is not None:
            with suppress(OSError):
                self.socket_dir.rmdir()
            os.close(lock)

    async def __aenter__(self) -> "EmbeddedServer":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def _log(self) -> Path:
        return self.data_dir / "server.log"

    @property
    def _cluster(self) -> Path:
        return self.data_dir / "cluster"

    async def _start_holding(self, lock: int) -> None:
        if not self._cluster.exists():
            await self._make_cluster(lock)
        self._check_major()
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)  # we hold the lock: there is no such process
        _make_private(self.socket_dir, self._account)
        settings = {**_SETTINGS, "unix_socket_directories": str(self.socket_dir)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        argv: list[str | Path] = [self.tools / "postgres", "-D", self._cluster, *options]
        self._process = self._launch(argv, lock, stdout=subprocess.DEVNULL, log=self._log)
        try:
            await self._answer_of(self._process)
        except BaseException:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None
            raise

    async def _answer_of(self, process: "subprocess.Popen[bytes]") -> None:
        """Recovery after a loss of power may take its time: we wait as long as the server lives."""
        while not await self._answers():
            if process.poll() is not None:
                raise EmbeddedUnavailable(f"PostgreSQL did not start: {_last_line_of(self._log)}; see {self._log}")
            await asyncio.sleep(_POLL_S)

    async def _make_cluster(self, lock: int) -> None:
        """Not synced, which would take seconds on a busy disk: the machine has it on disk within half a minute.

        Should the power fail in that time the folder must be removed; the journal fills the next one.
        """
        draft = self.data_dir / "cluster.draft"
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        locale = ["--locale=C"]
        if self._binaries.major >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options = ["-U", ROLE, "-A", "trust", "-E", "UTF8", *locale, "--data-checksums", "--no-sync", "-D", str(draft)]
        await self._run([self.tools / "initdb", *options], lock)
        single = ["--single", "-c", "fsync=off", "-D", str(draft), "postgres"]
        await self._run([self.tools / "postgres", *single], lock, stdin=f"create database {DATABASE}\n")
        draft.rename(self._cluster)

    async def _run(self, argv: Sequence[str | Path], lock: int, stdin: str = "") -> None:
        log = self.data_dir / "initdb.log"
        log.unlink(missing_ok=True)
        process = self._launch(argv, lock, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, log=log)
        assert process.stdin is not None
        try:
            process.stdin.write(stdin.encode())
            process.stdin.close()
            await _end_of(process)
        except BaseException:
            process.send_signal(signal.SIGINT)  # initdb removes what it has made
            process.wait()
            raise
        if process.returncode != 0:
            raise EmbeddedUnavailable(f"{Path(argv[0]).name} failed: {_last_line_of(log)}; see {log}")

    def _launch(
        self, argv: Sequence[str | Path], lock: int, *, log: Path, stdout: int, stdin: int = subprocess.DEVNULL
    ) -> "subprocess.Popen[bytes]":
        """Not asyncio's own child: the end of its event loop would kill the server instead of asking it to stop."""
        try:
            return subprocess.Popen(
                launch_command(self._account, argv, log),
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=plain_environment(),
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C is for us: what we have to write comes before the shutdown
            )
        except OSError as error:
            raise EmbeddedUnavailable(f"{argv[0]} cannot be started: {error}") from None

    def _check_major(self) -> None:
        made_by = (self._cluster / "PG_VERSION").read_text().strip()
        if made_by != str(self._binaries.major):
            raise EmbeddedUnavailable(
                f"the data in {self.data_dir} is of PostgreSQL {made_by}, {self.tools} is {self.server_version}; "
                f"set database.pg_bin to a PostgreSQL {made_by}"
            )

    async def _answers(self) -> bool:
        import asyncpg

        try:
            connection: Any = await asyncpg.connect(
                host=str(self.socket_dir), port=PORT, user=ROLE, database=DATABASE, ssl=False, timeout=_ANSWER_S
            )
            self.server_version = str(connection.get_settings().server_version).split()[0]
            await connection.close(timeout=_ANSWER_S)
        except asyncpg.TooManyConnectionsError:
            return True
        except (OSError, asyncpg.OperatorInterventionError, asyncpg.PostgresConnectionError):  # or TimeoutError
            return False
        except asyncpg.PostgresError as error:
            raise EmbeddedUnavailable(f"the PostgreSQL server of {self.data_dir} refuses us: {error}") from None
        return True


async def _end_of(process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:  # noqa: ASYNC110  a poll needs no thread that waits, and can be cancelled
        await asyncio.sleep(_POLL_S)


def _socket_dir(data_dir: Path) -> Path:
    """In the data folder, if a socket's path may be so long and an URL may hold it; else a short one of its own."""
    inside = data_dir / "socket"
    plain = re.fullmatch(r"[A-Za-z0-9/._-]+", str(inside))
    if plain and len(os.fsencode(inside / f".s.PGSQL.{PORT}")) <= _SOCKET_PATH_LIMIT:
        return inside
    return Path("/tmp") / f"tidegate-pg-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}"


def _can_enter(account: Account, folder: Path) -> bool:
    """True when the account may pass through this folder and every one above it."""
    for step in (folder, *folder.parents):
        found = step.stat()
        bit = 0o100 if found.st_uid == account.uid else 0o010 if found.st_gid == account.gid else 0o001
        if not found.st_mode & bit:
            return False
    return True


def _make_open(folder: Path) -> None:
    """Make what is missing down to this folder, with the permissions that our umask gives."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedUnavailable(f"{folder} cannot be made: {error}") from None


def _make_private(folder: Path, account: Account | None) -> None:
    """Make a folder that only the server's account can enter, or make sure that an old one is such a folder.

    An empty one of ours is made so. One that holds anything is not touched.
    """
    uid = account.uid if account else os.geteuid()
    try:
        if account is not None and not _can_enter(account, folder.parent):
            raise EmbeddedUnavailable(f"the account {account.name} cannot reach {folder}; choose another folder")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (uid, os.geteuid()):
            raise EmbeddedUnavailable(f"{folder} is no folder or belongs to another account; choose another folder")
        if found.st_uid == uid and not found.st_mode & 0o077:
            return
        if any(folder.iterdir()):
            raise EmbeddedUnavailable(f"{folder} holds files and is open to others; choose a new or an empty folder")
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        folder.chmod(0o700)
    except OSError as error:
        raise EmbeddedUnavailable(f"{folder} cannot be made private: {error}") from None


def _take(path: Path) -> int | None:
    """The lock, as an open file that must be closed; ``None`` while a server, or one who starts it, holds it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if os.geteuid() == 0:  # the account may take it too, when it starts a server as itself
            owner = path.parent.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise EmbeddedUnavailable(f"{path} cannot be opened: {error}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _last_line_of(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            return last_line(file.read().decode(errors="replace")) or "it said nothing"
    except OSError:
        return "it said nothing"
