"""Make the environment, then run: ``python3 scripts/run.py demo | test | check | conformance``. Standard library only.

The environment is ``.venv``, filled from the locked requirements by uv when it is on the PATH, else by pip.
A file in it, written last, holds the digest of what it was made from: an interrupted set-up is never believed.
All talk goes to stderr; stdout belongs to what is run.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  an older Python can read this far and must be told
    sys.exit("tidegate needs Python 3.11 or newer; {} is {}.{}".format(sys.executable, *sys.version_info))

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BIN = Path(sysconfig.get_path("scripts", "venv", {"base": str(VENV)}))
PYTHON = str(BIN / "python")
SITE = Path(sysconfig.get_path("purelib", "venv", {"base": str(VENV)}))
CHECKS = (
    "ruff format --check",
    "ruff check",
    "mypy",
    "lint-imports --no-logo",
    "pytest tests/unit/test_architecture.py",
)


def digest(lock: str) -> str:
    """What an environment depends on: its lock, the interpreter, its folder (it holds absolute paths), this file."""
    files = Path(__file__).read_bytes() + (ROOT / f"requirements/{lock}.txt").read_bytes()
    return hashlib.sha256(f"{sys.version} {sys.base_prefix} {ROOT}".encode() + files).hexdigest()


def made(lock: str) -> bool:
    """True when the environment is whole and was made from this lock."""
    marker = VENV / f"{lock}.digest"
    return marker.is_file() and marker.read_text() == digest(lock)


def make(lock: str) -> None:
    """Make the environment, or add the development tools to one that was made for the demo."""
    uv = shutil.which("uv")
    print(f"run.py: setting up .venv with {'uv' if uv else 'pip'}, this once", file=sys.stderr, flush=True)
    venv.create(VENV, with_pip=not uv, symlinks=True, clear=not made("core"))
    (VENV / "core.digest").unlink(missing_ok=True)
    tool = [uv, "pip", "install", "--python", PYTHON] if uv else [PYTHON, "-m", "pip", "install"]
    lock_file = str(ROOT / f"requirements/{lock}.txt")
    options = ["--quiet", "--require-hashes", "--only-binary", ":all:", "-r", lock_file]
    subprocess.run([*tool, *options], check=True, stdout=sys.stderr)
    # The package needs no build: its source folder goes on the path, and its command is two lines of shell.
    (SITE / "tidegate.pth").write_text(f"{ROOT / 'src'}\n")
    (BIN / "tidegate").write_text(f'#!/bin/sh\nexec {shlex.quote(PYTHON)} -m tidegate "$@"\n')
    (BIN / "tidegate").chmod(0o755)
    (VENV / f"{lock}.digest").write_text(digest(lock))


def main(verb: str = "", *args: str) -> int:
    if verb not in ("demo", "test", "check", "conformance"):
        usage = (
            "demo [OPTIONS] | test [PYTEST OPTIONS] | check | conformance [--client NAME] [--json] [--allow-missing]"
        )
        print(f"usage: python3 scripts/run.py {usage}", file=sys.stderr)
        return 0 if verb in ("-h", "--help") else 2
    lock = "core" if verb in ("demo", "conformance") else "dev"
    with Path(__file__).open() as held:  # two first starts at once: the second waits for the first
        fcntl.flock(held, fcntl.LOCK_EX)
        if not made(lock) and not made("dev"):
            make(lock)
    if verb == "demo":  # in the caller's folder, which its paths start from
        os.execv(PYTHON, [PYTHON, "-m", "tidegate", "demo", *args])
    os.chdir(ROOT)
    if verb == "test":
        every_core = ("-n", "auto", "--dist", "loadfile")  # the whole suite; a chosen test runs alone, in sight
        os.execv(PYTHON, [PYTHON, "-m", "pytest", *(args or every_core)])
    if verb == "conformance":  # third-party clients against localnet: tests/conformance
        os.execv(PYTHON, [PYTHON, "-m", "tests.conformance", *args])
    failed = [check for check in CHECKS if subprocess.call([BIN / check.split()[0], *check.split()[1:]])]
    print(f"run.py: {'failed: ' + ', '.join(failed) if failed else 'all checks passed'}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"run.py: {error}")
