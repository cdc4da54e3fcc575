"""C5: ten seconds after SIGTERM the daemon has left, whatever is down meanwhile; its protective stops stay.

And E4 beside it: a database that refuses or says nothing delays no start.
"""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.chaos.reader import VenueReader
from tests.chaos.relay import Mode, Relay
from tests.fakes.command_line import tidegate
from tests.fakes.processes import DaemonProcess, Localnet, until

LEAVES_WITHIN_S = READY_WITHIN_S = 10.0
SYMBOLS = ("BTCUSDT",)

STRATEGY = """
from tidegate import BaseStrategy, Signal, View


class Always(BaseStrategy):
    def decide(self, view: View) -> Signal:
        return Signal(1.0, stop=0.97 * view.close)
"""


@dataclass
class Scene:
    """One exchange behind a relay; daemons come and go."""

    folder: Path
    venue: Localnet
    relay: Relay
    reader: VenueReader
    mute_port: int
    starts: int = 0

    def start(self, database: str) -> DaemonProcess:
        """A daemon that writes to this database."""
        self.starts += 1
        state = self.folder / "state" / "main-testnet"
        name = f"daemon{self.starts}"
        return DaemonProcess(
            self.folder, name, self.folder / "main.json", "testnet", state, TIDEGATE__DATABASE__URL=database
        )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("leaving")
    (folder / "always.py").write_text(STRATEGY)
    with ExitStack() as stack:
        venue = Localnet(folder)
        stack.callback(venue.kill)
        port = int(venue.address.rpartition(":")[2])
        relay = Relay(port, Random(1))
        stack.callback(relay.close)
        config = {
            "account": "main",
            "symbols": SYMBOLS,
            "timeframe": "1m",
            "strategies": [{"class": f"{folder}/always.py:Always"}],
            "venue": {"rest": f"http://127.0.0.1:{relay.port}", "leverage": 10},
            "state": {"dir": str(folder / "state")},
        }
        (folder / "main.json").write_text(json.dumps(config))
        set_up = tidegate("account", "setup", "--apply", "--config", folder / "main.json", "--mode", "testnet")
        assert set_up.code == 0, set_up
        mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # takes connections, and says nothing
        scene = Scene(folder, venue, relay, VenueReader(port, SYMBOLS), mute.getsockname()[1])
        first = scene.start("memory")
        stack.callback(first.kill)
        first.ready_s()
        until("a stop rests", lambda: scene.reader.glance().stops or None, 90.0, first.said)
        first.kill()
        yield scene


def nothing(scene: Scene) -> None:
    """Everything works."""


def line(mode: Mode) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        scene.relay.mode = mode

    return act


def frozen(scene: Scene) -> None:
    scene.venue.send(signal.SIGSTOP)


@pytest.mark.parametrize(
    ("database", "trouble"),
    [
        pytest.param("postgresql://nobody@127.0.0.1:9/nothing", nothing, id="the database refuses"),
        pytest.param("postgresql://nobody@127.0.0.1:{mute}/nothing", nothing, id="the database does not answer"),
        pytest.param("memory", line(Mode.HOLE), id="the line is a black hole"),
        pytest.param("memory", line(Mode.UP_ONLY), id="the line is dead downward"),
        pytest.param("memory", line(Mode.REFUSE), id="the line is refused"),
        pytest.param("memory", frozen, id="the exchange stands still"),
    ],
)
def test_it_leaves_in_time(scene: Scene, database: str, trouble: Callable[[Scene], None]) -> None:
    daemon = scene.start(database.format(mute=scene.mute_port))
    try:
        assert daemon.ready_s(60.0) < READY_WITHIN_S
        trouble(scene)
        daemon.send(signal.SIGTERM)
        assert daemon.ended(LEAVES_WITHIN_S) == 0, daemon.said()
    finally:
        scene.relay.mode = Mode.PASS
        scene.venue.send(signal.SIGCONT)
        daemon.kill()
    account = scene.reader.account()
    assert account.positions
    assert account.unprotected() == set()
