"""``scripts/run.py`` in a small repository: the real launcher, a real environment, a wheel made on the spot."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, signal, sys, time
import tiny
if "wait" in sys.argv:
    try:
        print("waiting", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("stopped by hand")
        sys.exit(130)
print(json.dumps(sys.argv[1:]))
sys.exit(7)
"""


def make_wheel(folder: Path) -> str:
    """A wheel of one module, and the line of a lock file that names it."""
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return f"tiny @ {wheel.as_uri()} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


class Clone:
    """A repository with the launcher, two locks and a program called tidegate; uv is not on its PATH."""

    refused: subprocess.CompletedProcess[str]

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("scripts", "requirements", "src/tidegate", "bin"):
            (root / folder).mkdir(parents=True)
        shutil.copy(ROOT / "scripts/run.py", root / "scripts/run.py")
        (root / "src/tidegate/__init__.py").touch()
        (root / "src/tidegate/__main__.py").write_text(PROGRAM)
        self.line = make_wheel(root)
        self.lock(self.line)
        folders = os.environ["PATH"].split(os.pathsep)
        path = os.pathsep.join([str(root / "bin"), *(f for f in folders if not (Path(f) / "uv").exists())])
        self.env = {**os.environ, "PATH": path}

    def lock(self, line: str) -> None:
        for name in ("core", "dev"):
            (self.root / f"requirements/{name}.txt").write_text(line)

    def command(self, *args: str) -> list[str]:
        return [sys.executable, str(self.root / "scripts/run.py"), *args]

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*args), env=self.env, cwd=self.root, capture_output=True, text=True, check=False
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(*args), env=self.env, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in a folder with a space in its name. Its first start met a wrong hash, the next made the environment."""
    clone = Clone(tmp_path_factory.mktemp("a clone"))
    clone.lock(clone.line.replace("--hash=sha256:", "--hash=sha256:0")[:-2] + "\n")
    clone.refused = clone.run("demo")
    clone.lock(clone.line)
    first = clone.run("demo", "--seconds", "3", "two words")
    assert first.returncode == 7, first.stderr
    assert first.stdout == '["demo", "--seconds", "3", "two words"]\n'
    assert "setting up .venv with pip" in first.stderr
    return clone


def test_a_second_start_sets_nothing_up(ready: Clone) -> None:
    again = ready.run("demo")
    assert (again.returncode, again.stdout, again.stderr) == (7, '["demo"]\n', "")


def test_the_command_is_there_and_keeps_its_arguments(ready: Clone) -> None:
    done = subprocess.run([ready.root / ".venv/bin/tidegate", "a b", "c"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, '["a b", "c"]\n')


def test_ctrl_c_reaches_the_program(ready: Clone) -> None:
    with ready.start("demo", "wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate()[0] == "stopped by hand\n"
    assert process.returncode == 130


def test_a_wrong_hash_is_refused(ready: Clone) -> None:
    assert (ready.refused.returncode, ready.refused.stdout) == (1, "")
    assert "HASHES" in ready.refused.stderr


def test_uv_is_used_when_it_is_there_and_an_interrupted_set_up_is_not_believed(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    uv = clone.root / "bin/uv"
    uv.write_text('#!/bin/sh\necho "$@" > called\nexec sleep 60\n')
    uv.chmod(0o755)
    process = subprocess.Popen(clone.command("test"), env=clone.env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        assert "with uv" in process.stderr.readline()
        while not (tmp_path / "called").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert "--require-hashes" in (tmp_path / "called").read_text()
    assert not list((tmp_path / ".venv").glob("*.digest"))


@pytest.mark.parametrize(("args", "code"), [((), 2), (("fly",), 2), (("--help",), 0)])
def test_usage_makes_nothing(tmp_path: Path, args: tuple[str, ...], code: int) -> None:
    clone = Clone(tmp_path)
    shown = clone.run(*args)
    assert (shown.returncode, shown.stdout) == (code, "")
    assert shown.stderr.startswith("usage: python3 scripts/run.py demo")
    assert not (tmp_path / ".venv").exists()


def test_an_older_python_is_told_in_one_line() -> None:
    pretend = f"import sys, runpy; sys.version_info = (3, 10, 9); runpy.run_path({str(ROOT / 'scripts/run.py')!r})"
    told = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr.startswith("tidegate needs Python 3.11 or newer; ")
    assert told.stderr.count("\n") == 1
