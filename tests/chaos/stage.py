"""The processes of a chaos run: local exchange, relay, database server, daemon, in folders of their own.

Everything is real: processes, sockets, signals, file systems, PostgreSQL. What this machine cannot do is kept in
``missing`` with its reason, and the acts that need it are not run.
"""

import asyncio
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.reader import VenueReader
from tests.chaos.relay import Relay
from tests.fakes.command_line import ROOT, WITHOUT_DATABASE
from tests.fakes.processes import DaemonProcess, Localnet, until
from tidegate.adapters.database.embedded import EmbeddedServer
from tidegate.app.control import ask
from tidegate.domain.errors import NotRunning

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")
STATE_MIB = 48
"""The size of the file system that the journal lies on."""

STRATEGY = '''
import random

from tidegate import BaseStrategy, Signal, View, param


class Whim(BaseStrategy):
    """A new draw at every close, the same one for the same bar: any side and size, any stop, or no opinion."""

    draw: int = param(default=1, low=0, high=10**6)
    nearest_frac: float = param(default=0.002, low=0.0001, high=0.5)

    def decide(self, view: View) -> Signal | None:
        dice = random.Random(f"{self.draw} {view.ts_ns} {view.close}")
        if dice.random() < 0.2:
            return None
        strength = dice.choice((-1.0, -0.6, -0.3, 0.0, 0.3, 0.6, 1.0))
        away = view.close * dice.uniform(self.nearest_frac, 15 * self.nearest_frac)
        return Signal(strength, stop=view.close - away if strength > 0 else view.close + away)
'''


class Stage:
    """All actors of a run. Use as a context; ``folder`` is kept when ``keep``."""

    def __init__(self, seed: int, *, keep: bool = False) -> None:
        self.rng = Random(seed)
        self.seed = seed
        self.missing: dict[str, str] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-chaos-", dir="/tmp"))
        self.folder.chmod(0o711)
        self.trouble_s = time.monotonic()
        """When the last trouble of our making was over."""
        self.in_act = False
        self.order_entry = self.rng.choice(("rest", "websocket"))
        self._started_s = 0.0
        self._stack = ExitStack()
        if not keep:
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._starts = 0
        self._database: EmbeddedServer | None = None
        self._loop = asyncio.new_event_loop()
        self._stack.callback(self._loop.close)

    def __enter__(self) -> "Stage":
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # ---- setting up ---------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        self.state_dir = self._small_disk()
        self._through = self._without_root()
        self._clock_file, self._clock_environment = self._false_clock()
        self.start_database()
        self._stack.callback(self.stop_database)
        self.venue = Localnet(self.folder, *self._venue_arguments())
        self._stack.callback(lambda: self.venue.kill())
        self.venue_port = int(self.venue.address.rpartition(":")[2])
        self.reader = VenueReader(self.venue_port, SYMBOLS)
        self.relay = Relay(self.venue_port, Random(self.rng.random()))
        self._stack.callback(self.relay.close)
        self.config = self._configured()
        self.command("account", "setup", "--apply")
        self.start_daemon()
        self._stack.callback(self._end_daemon)

    def _venue_arguments(self) -> tuple[object, ...]:
        kept = self.folder / "exchange.json"
        return ("--seed", self.seed, "--speed", 20, "--symbols", ",".join(SYMBOLS), "--state", kept)

    def _small_disk(self) -> Path:
        """A folder on a small file system of its own, where we may mount one."""
        place = self.folder / "state"
        place.mkdir()
        mount = shutil.which("mount")
        done = mount and subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={STATE_MIB}m", "tmpfs", place], capture_output=True, check=False
        )
        if not done or done.returncode:
            self.missing["small disk"] = "a tmpfs cannot be mounted here (it takes root)"
            return place
        self._stack.callback(subprocess.run, ["umount", "-l", place], check=False)
        return place

    def _without_root(self) -> tuple[str, ...]:
        """What takes from the daemon the right to write into read-only folders."""
        if os.getuid() != 0:
            return ()
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            self.missing["read-only folders"] = "root writes everywhere, and there is no setpriv"
            return ()
        return (setpriv, "--bounding-set", "-dac_override,-dac_read_search")

    def _false_clock(self) -> tuple[Path, dict[str, str]]:
        """The file that says how far off the daemon's wall clock is; its monotonic clock stays true."""
        told = self.folder / "clock"
        told.write_text("+0")
        found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        if not found:
            self.missing["clock"] = "libfaketime is not installed"
            return told, {}
        return told, {
            "LD_PRELOAD": found[0],
            "FAKETIME_TIMESTAMP_FILE": str(told),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def _configured(self) -> Path:
        (self.folder / "whim.py").write_text(STRATEGY)
        whims = [
            {
                "class": f"{self.folder}/whim.py:Whim",
                "name": f"whim-{number}",
                "params": {"draw": self.rng.randrange(10**6), "nearest_frac": self.rng.choice((0.001, 0.002, 0.005))},
                **({} if number == 1 else {"symbols": list(SYMBOLS[:2])}),
            }
            for number in (1, 2)
        ]
        config = self.folder / "chaos.yaml"
        config.write_text(
            json.dumps(
                {
                    "mode": "testnet",
                    "account": "chaos",
                    "symbols": list(SYMBOLS),
                    "timeframe": "1m",
                    "strategies": whims,
                    "venue": {
                        "rest": f"http://127.0.0.1:{self.relay.port}",
                        "leverage": 20,
                        "order_entry": self.order_entry,
                    },
                    "risk": {"max_drawdown_pct": 0.9, "max_daily_loss_pct": 0.9, "brake": "none"},
                    "journal": {"segment_mib": 1},
                    "state": {"dir": str(self.state_dir)},
                    "database": {
                        "keep": {"journal_mib_per_day": 0, "tape_mib_per_day": 0, "reserve_mib": 1},
                    },
                }
            )
        )
        return config

    # ---- the daemon ---------------------------------------------------------------------------------------------

    @property
    def home(self) -> Path:
        """The daemon's own folder, with journal and socket."""
        return self.state_dir / "chaos-testnet"

    def start_daemon(self, *, obeys_modes: bool = False) -> None:
        """A new process; the one before it has ended. ``obeys_modes``: even as root it cannot write where it may not.

        Such a one cannot reach the socket of another account's PostgreSQL either, so it is for the act that needs it.
        """
        self._starts += 1
        self.daemon = DaemonProcess(
            self.folder,
            f"daemon{self._starts:03d}",
            self.config,
            "testnet",
            self.home,
            through=self._through if obeys_modes else (),
            TIDEGATE__DATABASE__URL=self._database_url,
            HOME=str(self.folder),
            XDG_DATA_HOME=str(self.folder / "data"),
            **self._clock_environment,
        )
        self._started_s = time.monotonic()

    def started_since(self, moment_s: float) -> bool:
        """Whether a daemon was started around or after this moment: it has its time to get READY."""
        return self._started_s >= moment_s - 1.0

    @contextmanager
    def acting(self) -> Iterator[None]:
        """While we make trouble."""
        self.in_act = True
        try:
            yield
        finally:
            self.trouble_s = time.monotonic()
            self.in_act = False

    @property
    def daemon_runs(self) -> bool:
        """Whether the newest process has not left."""
        return self.daemon.process.poll() is None

    def status(self) -> dict[str, Any] | None:
        """What the daemon says, None when it does not answer."""
        try:
            return ask(self.home, "status", timeout_s=5.0)
        except (NotRunning, TimeoutError, ValueError, OSError):
            return None

    def tell(self, verb: str, **more: object) -> dict[str, Any] | None:
        """A word to the daemon; None when it does not answer."""
        try:
            return ask(self.home, verb, more, timeout_s=15.0)
        except (NotRunning, TimeoutError, ValueError, OSError):
            return None

    def command(self, *arguments: object) -> None:
        """A command of ours that must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "tidegate", *map(str, arguments), "--config", str(self.config)],
            env={**os.environ, **WITHOUT_DATABASE, "PYTHONPATH": str(ROOT / "src")},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"tidegate {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}{done.stderr}"
            )

    def _end_daemon(self) -> None:
        with suppress(ProcessLookupError):
            self.daemon.send(signal.SIGCONT)
            self.daemon.send(signal.SIGTERM)
        with suppress(AssertionError):
            self.daemon.ended(12.0)
        self.daemon.kill()

    def set_clock(self, off_s: int) -> None:
        """Set the daemon's wall clock off the true time by this much, from now on."""
        self._clock_file.write_text(f"{off_s:+d}")

    # ---- the exchange and the database ----------------------------------------------------------------------------

    def restart_venue(self) -> None:
        """The exchange again, after it was killed, at the same address."""
        self.venue.kill()
        self.venue = Localnet(self.folder, *self._venue_arguments(), port=self.venue_port)

    def start_database(self) -> None:
        """A PostgreSQL server of our own; the same one again after it was killed."""
        if self._database is None:
            self._database = self._loop.run_until_complete(EmbeddedServer.start(self.folder / "pg"))
        elif not self._database.owner:  # which also buries the process that was killed
            self._loop.run_until_complete(self._database.ensure())
        self._database_url = self._database.url.replace("postgresql+asyncpg", "postgresql")

    def stop_database(self) -> None:
        """In good order."""
        if self._database is not None:
            self._loop.run_until_complete(self._database.stop())
            self._database = None

    def kill_database(self) -> None:
        """``kill -9`` of the server and all its workers."""
        folder = str(self.folder / "pg")
        for each in Path("/proc").iterdir():
            with suppress(OSError):
                if each.name.isdigit() and folder.encode() in (each / "cmdline").read_bytes():
                    os.kill(int(each.name), signal.SIGKILL)

    def wait(self, what: str, look: Callable[[], object], patience_s: float) -> bool:
        """True when ``look`` came true in time."""
        with suppress(AssertionError):
            until(what, lambda: look() or None, patience_s)
            return True
        return False
