"""PostgreSQL's own programs over a database: ``pg_dump``, ``pg_restore``, ``psql``.

The address is given to them without its password, which goes by ``PGPASSWORD``: arguments can be read by everybody.
Backups are in the custom format. A draft file becomes the backup when it is whole, and a restore first reads the whole
file, so that neither leaves something half done.
"""

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tidegate.adapters.database.binaries import last_line
from tidegate.adapters.database.connecting import libpq_url, without_password
from tidegate.domain.errors import ConfigError, DatabaseError

_TIMESCALE_NOTES = re.compile(r"circular foreign-key|^pg_dump: (detail|hint)")


@dataclass(frozen=True, slots=True)
class Archive:
    """What a backup says of itself."""

    server_major: int
    needs_timescale: bool


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one folder, over one database."""

    folder: Path
    url: str

    def dump(self, target: Path) -> int:
        """Write a backup; returns its size in bytes. Raises ``ConfigError`` for a wrong place, ``DatabaseError``."""
        draft = target.with_name(f".{target.name}.draft")
        try:
            draft.touch(mode=0o600)
        except OSError as error:
            raise ConfigError(f"{target} cannot be written ({error.strerror})") from None
        try:
            self._run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={draft}", self._address)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(target)
            return target.stat().st_size
        finally:
            draft.unlink(missing_ok=True)

    def inspect(self, source: Path) -> Archive:
        """Read a backup from its first byte to its last. Raises ``ConfigError`` for what is none."""
        if not source.is_file():
            raise ConfigError(f"{source}: no such file")
        try:
            listed = self._run("pg_restore", "--list", str(source))
            self._run("pg_restore", "--file=/dev/null", str(source))
        except DatabaseError as error:
            raise ConfigError(f"{source} is not a whole backup ({error})") from None
        version = re.search(r"Dumped from database version: (\d+)", listed)
        return Archive(int(version[1]) if version else 0, " EXTENSION - timescaledb" in listed)

    def restore(self, source: Path) -> None:
        """Fill an empty database; all of it or nothing."""
        options = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
        self._run("pg_restore", *options, f"--dbname={self._address}", str(source))

    def shell(self) -> int:
        """Run ``psql`` in the foreground until it ends; returns its exit code. Ctrl-C is for it alone."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return subprocess.run([self._program("psql"), self._address], env=self._environment, check=False).returncode
        finally:
            signal.signal(signal.SIGINT, before)

    def major(self) -> int:
        """The main version of the programs."""
        found = re.search(r"\(PostgreSQL\) (\d+)", self._run("pg_dump", "--version"))
        if found is None:
            raise DatabaseError(f"{self.folder}/pg_dump does not say its version")
        return int(found[1])

    @property
    def _address(self) -> str:
        return without_password(self.url)

    @property
    def _environment(self) -> dict[str, str]:
        password = urlsplit(libpq_url(self.url)).password
        own = {"PGPASSWORD": unquote(password)} if password else {}
        return {**os.environ, **own, "PGAPPNAME": "tidegate", "PGCONNECT_TIMEOUT": "10"}

    def _program(self, name: str) -> str:
        path = self.folder / name
        if not path.is_file():
            raise ConfigError(f"no {name} in {self.folder}; install PostgreSQL's client programs, see database.pg_bin")
        return str(path)

    def _run(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._program(name), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            said = "\n".join(line for line in done.stderr.splitlines() if not _TIMESCALE_NOTES.search(line))
            raise DatabaseError(last_line(said) or f"{name} failed with exit code {done.returncode}")
        return done.stdout
