"""Environments of the clients, one per folder, made from its lock with hashes. Standard library only.

They stand in ``.conformance/`` and are made anew when the lock, the interpreter or the place changes. A file written
last holds the digest of what an environment was made from: an interrupted set-up is never believed.
"""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HOME = ROOT / ".conformance"
INSTALL_S = 180.0


class MissingPackages(Exception):
    """The packages of a client cannot be installed here. The text is one line that says why."""


def environment(folder: str) -> str:
    """The interpreter of the environment of ``tests/conformance/<folder>``, made if need be.

    Raises ``MissingPackages``.
    """
    home, marker = HOME / folder, HOME / folder / "digest"
    python, wanted = str(home / "bin" / "python"), _digest(folder, home)
    if marker.is_file() and marker.read_text() == wanted:
        return python
    uv = shutil.which("uv")
    venv.create(home, with_pip=not uv, symlinks=True, clear=True)
    tool = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install", "--retries", "1"]
    lock = str(HERE / folder / "requirements.txt")
    options = ["--quiet", "--require-hashes", "--only-binary", ":all:", "-r", lock]
    try:
        done = subprocess.run([*tool, *options], capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise MissingPackages(f"its packages were not installed within {INSTALL_S:g} s") from None
    if done.returncode:
        told = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise MissingPackages(f"its packages cannot be installed: {told[-1] if told else done.returncode}")
    marker.write_text(wanted)
    return python


def _digest(folder: str, home: Path) -> str:
    made_from = f"{sys.version} {sys.base_prefix} {home}".encode() + (HERE / folder / "requirements.txt").read_bytes()
    return hashlib.sha256(made_from).hexdigest()
