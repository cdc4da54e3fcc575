"""Real processes on this machine: the local exchange, and a daemon that trades there. For tests of the whole."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import Request, urlopen

from tests.fakes.command_line import ROOT, WITHOUT_DATABASE
from tidegate.app.control import ask
from tidegate.domain.errors import NotRunning

T = TypeVar("T")
_LOOK_EVERY_S = 0.1


def until(what: str, look: Callable[[], T | None], patience_s: float, told: Callable[[], str] = str) -> T:
    """The first answer of ``look`` that is not None or False. Fails with ``what`` and what was ``told`` meanwhile."""
    ends_s = time.monotonic() + patience_s
    while (found := look()) is None or found is False:
        assert time.monotonic() < ends_s, f"not within {patience_s:g} s: {what}\n{told()}"
        time.sleep(_LOOK_EVERY_S)
    return found


class Running:
    """``tidegate`` with arguments in a process of its own; what it says goes into files of ``folder``.

    ``through`` is a command that becomes ours, like ``setpriv`` with its options: the process stays the same.
    """

    def __init__(
        self, folder: Path, name: str, *arguments: object, through: Sequence[str] = (), **environment: str
    ) -> None:
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        self.began_s = time.monotonic()
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*through, sys.executable, "-m", "tidegate", *map(str, arguments)],
                env={**WITHOUT_DATABASE, **os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
                cwd=folder,
                stdout=out,
                stderr=err,
            )

    def said(self) -> str:
        """The end of what it said."""
        return f"exit code {self.process.poll()}\n{self.out.read_text()[-2000:]}\n{self.err.read_text()[-6000:]}"

    def ended(self, patience_s: float = 15.0) -> int:
        """Its exit code, when it leaves by itself."""
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not leave within {patience_s:g} s\n{self.said()}") from None

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """``kill -9``; harmless when it has left."""
        self.process.kill()
        self.process.wait()


class Localnet(Running):
    """The local exchange, on a free port unless one is named."""

    def __init__(self, folder: Path, *arguments: object, port: int = 0) -> None:
        super().__init__(folder, "localnet", "localnet", "--port", port, *arguments)
        self.address = until("localnet says where it is", self._address, 60.0, self.said)

    def _address(self) -> str | None:
        found = re.search(r"REST (http://\S+)", self.out.read_text())
        return found[1] if found else None

    def books(self) -> dict[str, Any]:
        """The venue's own books of the ready-made account."""
        with urlopen(f"{self.address}/admin/books", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)["demo-key"]
            return found

    def act(self, name: str, **params: object) -> Any:
        """Something that the venue, or another hand, does."""
        body = json.dumps({"act": name, "params": params}).encode()
        with urlopen(Request(f"{self.address}/admin/act", body, method="POST"), timeout=10) as answer:
            return json.load(answer)["done"]


class DaemonProcess(Running):
    """``tidegate run`` with a configuration; ``state`` is the folder in which its socket lies."""

    def __init__(
        self,
        folder: Path,
        name: str,
        config: Path,
        mode: str,
        state: Path,
        *,
        through: Sequence[str] = (),
        **environment: str,
    ) -> None:
        arguments = ("run", "--config", config, "--mode", mode, "--json")
        super().__init__(folder, name, *arguments, through=through, **environment)
        self.state = state

    def status(self) -> dict[str, Any] | None:
        """What it answers to ``status``; None while nobody answers."""
        assert self.process.poll() is None, f"it has left\n{self.said()}"
        try:
            return ask(self.state, "status")
        except NotRunning:
            return None

    def when(self, what: str, holds: Callable[[dict[str, Any]], object], patience_s: float) -> dict[str, Any]:
        """Its status as soon as ``holds`` says so."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            return status if status is not None and holds(status) else None

        return until(what, look, patience_s, lambda: f"{self.status()}\n{self.said()}")

    def ready_s(self, patience_s: float = 30.0) -> float:
        """How long it took from the start of the process until it was READY."""
        self.when("READY", lambda status: status["state"] == "READY", patience_s)
        return time.monotonic() - self.began_s

    def summary(self) -> dict[str, Any]:
        """What it printed when it left."""
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found
