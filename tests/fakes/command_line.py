"""The command as a person runs it: in this process, which is quick, or in one of its own, which is the real thing."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from tidegate.app.cli import main

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_DATABASE = {"TIDEGATE__DATABASE__URL": "memory"}
"""Unless the test's environment says otherwise: a server for each command would be slow."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def tidegate(*arguments: object) -> Outcome:
    """Run the command in this process. Whatever it raises comes out as it is."""
    out, err = io.StringIO(), io.StringIO()
    given = patch.object(sys, "argv", ["tidegate", *map(str, arguments)])
    with given, patch.dict(os.environ, WITHOUT_DATABASE | os.environ), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code: object = 0
        except SystemExit as leaving:
            code = leaving.code or 0
    assert isinstance(code, int), code
    return Outcome(code, out.getvalue(), err.getvalue())


def process(*arguments: object, cwd: Path | None = None, **environment: str) -> Outcome:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", *map(str, arguments)],
        env={**WITHOUT_DATABASE, **os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def assert_refused(outcome: Outcome, *said: str, code: int = 2) -> None:
    """Exit ``code``, one line on stderr that says all of ``said``, and nothing on stdout."""
    assert (outcome.code, outcome.out) == (code, ""), outcome
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("error: "), outcome.err
    for part in said:
        assert part in outcome.err, outcome.err
