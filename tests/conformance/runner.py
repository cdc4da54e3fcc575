"""Third-party clients, as their makers publish them, against localnet as a process of its own."""

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.environments import HERE, HOME, ROOT, MissingPackages, environment

CAPABILITIES = (
    "markets",
    "account",
    "limit order",
    "market order",
    "algo stop",
    "batch",
    "user stream",
    "depth book",
    "rate limit",
)
PASS, FAIL, NOT_RUN, ELSEWHERE = "PASS", "FAIL", "NOT RUN", "-"
START_S, SCRIPT_S, SIDE_BY_SIDE = 60.0, 150.0, 2


@dataclass(frozen=True, slots=True)
class Client:
    """A client: its script and its lock are in ``folder``. ``elsewhere`` are capabilities that another one covers."""

    name: str
    folder: str
    script: str = "client.py"
    elsewhere: tuple[str, ...] = ()
    localnet: tuple[str, ...] = ()


CLIENTS = (
    Client("ccxt", "ccxt", "rest.py", ("user stream", "depth book")),
    Client("ccxt.pro", "ccxt", "pro.py", ("batch",)),
    Client("binance-futures-connector", "futures_connector"),
    Client("official SDK", "official_sdk"),
    Client("python-binance", "python_binance", localnet=("--lenient-signatures",)),
)


@dataclass(slots=True)
class Report:
    """What came of one client: for every capability a state, and a reason or a detail."""

    client: str
    version: str = ""
    seconds: float = 0.0
    states: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def put(self, capability: str, state: str, detail: str = "") -> None:
        self.states[capability] = state
        self.details[capability] = detail

    def having(self, state: str) -> list[str]:
        """The capabilities in that state."""
        return [name for name, each in self.states.items() if each == state]


def run(clients: Sequence[Client] = CLIENTS) -> list[Report]:
    """Run the clients, each against an exchange of its own, two at a time. Never raises for what a client does."""
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        pythons: dict[str, str | MissingPackages] = {}
        for folder in {client.folder: None for client in clients}:
            try:
                pythons[folder] = environment(folder)
            except MissingPackages as error:
                pythons[folder] = error
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            return list(pool.map(lambda client: _run(client, pythons[client.folder]), clients))


def _run(client: Client, python: str | MissingPackages) -> Report:
    report = Report(client.name)
    for capability in CAPABILITIES:
        report.put(capability, ELSEWHERE if capability in client.elsewhere else NOT_RUN)
    if isinstance(python, MissingPackages):
        for capability in report.having(NOT_RUN):
            report.put(capability, NOT_RUN, str(python))
        return report
    start = time.monotonic()
    try:
        with localnet(client) as address:
            ending = _script(client, python, address, report)
    except OSError as error:
        ending = str(error)
    for capability in report.having(NOT_RUN):
        report.put(capability, FAIL, f"not reported: {ending}")
    report.seconds = time.monotonic() - start
    return report


@contextlib.contextmanager
def localnet(client: Client) -> Iterator[str]:
    """``tidegate localnet`` as a process on a free port; gives its address. Raises ``OSError`` when it does not start.

    What it writes is kept in ``.conformance/``.
    """
    log = HOME / f"{client.name.replace(' ', '_')}.localnet.log"
    command = [sys.executable, "-m", "tidegate", "localnet", "--port", "0", "--seed", "7", *client.localnet]
    with log.open("w") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + START_S
    while not (found := re.search(r"http://[\w.]+:\d+", log.read_text())):
        if process.poll() is not None or time.monotonic() > end:
            raise OSError(f"localnet did not start: {_last_line(log.read_text())}")
        time.sleep(0.05)
    return found.group()


def _script(client: Client, python: str, address: str, report: Report) -> str:
    """Run the client's script and read its lines into the report; returns how it ended."""
    command = [python, "-W", "ignore", str(HERE / client.folder / client.script), address]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    setting = {**inherited, "PYTHONPATH": str(HERE / "common"), "NO_PROXY": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SCRIPT_S, check=False, env=setting)
        said, ending = done.stdout, f"exit {done.returncode}, {_last_line(done.stderr)}"
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        ending = f"not done within {SCRIPT_S:g} s"
    _read(said, report)
    return ending


def _read(said: str, report: Report) -> None:
    """Put the records among a script's lines into the report; whatever else a library prints is passed over."""
    for line in said.splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "version" in record:
            report.version = record["version"]
        elif isinstance(record, dict) and record.get("capability") in CAPABILITIES:
            report.put(record["capability"], PASS if record["passed"] else FAIL, record["detail"])


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing said"


def table(reports: Sequence[Report]) -> str:
    """Clients down, capabilities across, and below it why what did not pass did not."""
    names = [f"{report.client} {report.version}".strip() for report in reports]
    width = max(map(len, names))
    rows = ["  ".join([" " * width, *CAPABILITIES])]
    for name, report in zip(names, reports, strict=True):
        cells = [report.states[each].ljust(len(each)) for each in CAPABILITIES]
        rows.append("  ".join([name.ljust(width), *cells, f"{report.seconds:5.1f} s"]))
    for report in reports:
        if missing := report.having(NOT_RUN):
            rows.append(f"NOT RUN {report.client}: {report.details[missing[0]]}")
        rows += [f"FAIL {report.client}, {each}: {report.details[each]}" for each in report.having(FAIL)]
    return "\n".join(rows)
