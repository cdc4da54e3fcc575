"""The live path from end to end: a local exchange and the daemon as processes of their own, over real sockets.

One session of about three minutes, for bars close once a minute: a strategy that is always in the market and turns
at every close trades two contracts; it is killed, deceived by another hand, stopped, and shut down by the kill switch.
Meanwhile a paper daemon watches the same prices. The tests look at what was seen on the way.
"""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command_line import Outcome, assert_refused, process, tidegate
from tests.fakes.processes import DaemonProcess, Localnet, until
from tidegate.adapters.files.journal import read_journal
from tidegate.domain.ids import parse_client_order_id
from tidegate.domain.orders import ApprovedOrder

READY_WITHIN_S = FLAT_WITHIN_S = STOP_WITHIN_S = 10.0
CLOSE_WITHIN_S = 80.0
SETTLE_WITHIN_S = 20.0

STRATEGY = '''
from tidegate import BaseStrategy, Signal, View


class Turning(BaseStrategy):
    """Always in the market, and on the other side after every bar."""

    def decide(self, view: View) -> Signal:
        return Signal(1.0 if view.ts_ns // 60_000_000_000 % 2 else -1.0)
'''

CONFIG = """
account: {account}
symbols: [BTCUSDT, ETHUSDT, SOLUSDT]
timeframe: 1m
strategies:
  - class: turning.py:Turning
    symbols: [BTCUSDT, ETHUSDT]
venue: {{rest: "{rest}", leverage: 10}}
positions: {{adopt: [{adopt}]}}
state: {{dir: "{state}"}}
logging: {{level: debug}}
"""

Books = dict[str, Any]
Status = dict[str, Any]


@dataclass
class Scene:
    """What ours and the venue's said at one moment, when they had come to rest."""

    status: Status
    books: Books

    def check(self) -> None:
        """Ours is the venue's, and every position has one stop of its full size on the right side."""
        held = positions(self.books)
        assert ours(self.status) == held
        stops = stops_of(self.books)
        for name, qty in held.items():
            assert stops.pop(name) == [-qty], (name, qty, self.books["open_algo_orders"])
        assert stops == {}, "stops without a position"
        assert self.books["open_orders"] == []


@dataclass
class Session:
    """The whole session, as it was seen."""

    folder: Path
    ready_s: list[float] = field(default_factory=list)
    scenes: dict[str, Scene] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    paper: Status = field(default_factory=dict)
    books: Books = field(default_factory=dict)

    def journals(self, account: str, mode: str = "testnet") -> list[Path]:
        """The journal folders of one account, oldest first."""
        return sorted((self.folder / "state" / f"{account}-{mode}" / "journal").iterdir())


def positions(books: Books) -> dict[str, Decimal]:
    return {name: Decimal(qty) for name, qty in books["positions"].items()}


def ours(status: Status) -> dict[str, Decimal]:
    return {each["instrument"]: Decimal(each["qty"]) for each in status["positions"]}


def stops_of(books: Books) -> dict[str, list[Decimal]]:
    """The signed quantities of the resting stops."""
    found: dict[str, list[Decimal]] = {}
    for each in books["open_algo_orders"]:
        assert each["reduceOnly"]
        sign = 1 if each["side"] == "BUY" else -1
        found.setdefault(each["symbol"], []).append(sign * Decimal(each["quantity"]))
    return found


def at_rest(daemon: DaemonProcess, venue: Localnet) -> Scene | None:
    """Both sides, when they agree about positions and stops."""
    status = daemon.status()
    if status is None or status["unresolved"]:
        return None
    scene = Scene(status, venue.books())
    try:
        scene.check()
    except (AssertionError, KeyError):
        return None
    return scene


class Stage:
    """The actors of the session, and their script."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.session = Session(folder)
        self._folder, self._stack = folder, stack
        (folder / "turning.py").write_text(STRATEGY)
        self.venue = self._track(Localnet(folder))
        self.config = self._configured("main")
        self._starts = 0

    def _track(self, running: Any) -> Any:
        self._stack.callback(running.kill)
        return running

    def _configured(self, name: str, account: str | None = None, adopt: str = "", state: str = "state") -> Path:
        path = self._folder / f"{name}.yaml"
        text = CONFIG.format(account=account or name, rest=self.venue.address, adopt=adopt, state=self._folder / state)
        path.write_text(text)
        return path

    def _run(self, config: Path, account: str, mode: str = "testnet") -> DaemonProcess:
        self._starts += 1
        state = self._folder / "state" / f"{account}-{mode}"
        daemon = DaemonProcess(self._folder, f"{account}-{self._starts}", config, mode, state)
        found: DaemonProcess = self._track(daemon)
        return found

    def _start(self) -> DaemonProcess:
        daemon = self._run(self.config, "main")
        self.session.ready_s.append(daemon.ready_s())
        return daemon

    def _say(self, name: str, *words: object, config: Path | None = None) -> Outcome:
        outcome = tidegate(*words, "--config", config or self.config, "--mode", "testnet")
        self.session.outcomes[name] = outcome
        return outcome

    def _scene(self, name: str, daemon: DaemonProcess) -> Scene:
        scene = until(
            f"ours is the venue's, with stops ({name})",
            lambda: at_rest(daemon, self.venue),
            SETTLE_WITHIN_S,
            lambda: f"{daemon.status()}\n{self.venue.books()}\n{daemon.said()}",
        )
        self.session.scenes[name] = scene
        return scene

    # ---- the script ---------------------------------------------------------------------------------------------

    def play(self) -> Session:
        """All of it."""
        self._before_the_first_start()
        paper = self._run(self._configured("paper"), "paper", "paper")
        self._trade_and_be_killed()
        self._stop_and_leave_the_stops()
        self.session.paper = paper.when("paper has traded", lambda status: status["fills"] >= 2, CLOSE_WITHIN_S)
        paper.send(signal.SIGTERM)
        self.session.codes["paper"] = paper.ended()
        self._throw_the_kill_switch()
        self.session.books = self.venue.books()
        return self.session

    def _before_the_first_start(self) -> None:
        self._say("doctor before", "doctor", "--json")
        self._say("setup shown", "account", "setup")
        self._say("setup applied", "account", "setup", "--apply", "--json")
        self._say("setup shown again", "account", "setup", "--json")
        self._say("doctor after", "doctor", "--json")
        self._say("status of nobody", "status")
        self.venue.act("by_hand", symbol="SOLUSDT", quantity="5")
        self._say("foreign", "reconcile", "--json")
        adopting = self._configured("adopting", adopt="SOLUSDT")
        self._say("adoption shown", "reconcile", "--json", config=adopting)
        self.session.outcomes["adoption applied"] = process(
            "reconcile", "--apply", "--config", adopting, "--mode", "testnet", cwd=self._folder
        )
        daemon = self._run(adopting, "adopting")
        daemon.ready_s()
        self._scene("adopted", daemon)
        self._say("flatten", "flatten", "--json", config=adopting)
        until("flat", lambda: not self.venue.books()["positions"], FLAT_WITHIN_S, daemon.said)
        self._scene("flattened", daemon)
        self._say("stop", "stop", config=adopting)
        self.session.codes["stopped by word"] = daemon.ended()

    def _trade_and_be_killed(self) -> None:
        daemon = self._start()
        daemon.when("both contracts are held", lambda status: len(status["positions"]) == 2, CLOSE_WITHIN_S)
        self._scene("after the first close", daemon)
        rival = self._configured("rival", state="elsewhere")
        self.session.outcomes["rival"] = process("run", "--config", rival, "--mode", "testnet", cwd=self._folder)
        self._say("status", "status", "--json")
        self._say("status page", "status")
        self._say("pause", "pause", "--json")
        self._say("resume", "resume", "--json")
        self.session.statuses["resumed"] = daemon.when("READY again", lambda status: status["state"] == "READY", 10.0)
        daemon.kill()

        daemon = self._start()
        self._scene("after kill -9", daemon)
        daemon.kill()

        self.venue.act("by_hand", symbol="ETHUSDT", mode="flip")
        daemon = self._start_deceived()
        before = ours(self._scene("after another hand", daemon).status)
        daemon.when("BTC is turned", lambda status: _turned(before, ours(status), "BTCUSDT"), CLOSE_WITHIN_S)
        self._scene("after the second close", daemon)
        self.daemon = daemon

    def _start_deceived(self) -> DaemonProcess:
        daemon = self._run(self.config, "main")
        daemon.when("it has reconciled", lambda status: status["state"] in ("READY", "REDUCE_ONLY"), 30.0)
        return daemon

    def _stop_and_leave_the_stops(self) -> None:
        began_s = time.monotonic()
        self.daemon.send(signal.SIGTERM)
        self.session.codes["SIGTERM"] = self.daemon.ended()
        self.session.seconds["SIGTERM"] = time.monotonic() - began_s
        self.session.scenes["left alone"] = Scene(self.daemon.summary(), self.venue.books())
        for verb in ("status", "pause", "resume", "flatten", "kill", "stop"):
            self._say(f"{verb} of nobody", verb)

    def _throw_the_kill_switch(self) -> None:
        daemon = self._start()
        switch = daemon.state / "KILL"
        began_s = time.monotonic()
        switch.touch()
        until("flat", self._is_flat, 60.0, daemon.said)
        self.session.seconds["flat"] = time.monotonic() - began_s
        self.session.statuses["killed"] = daemon.when(
            "flat is said", lambda status: any("flat after" in each["text"] for each in status["alerts"]), 30.0
        )
        self._say("resume a latched one", "resume")
        self._say("reset under the file", "resume", "--reset")
        self._say("stop a latched one", "stop")
        self.session.codes["latched"] = daemon.ended()

        daemon = self._run(self.config, "main")
        self.session.statuses["latched again"] = daemon.when(
            "it has looked", lambda status: status["state"] == "HALTED" and status["last_reconciled_ns"], 30.0
        )
        switch.unlink()
        self._say("reset", "resume", "--reset", "--json")
        daemon.when("READY", lambda status: status["state"] == "READY", 30.0)
        daemon.send(signal.SIGTERM)
        self.session.codes["after the reset"] = daemon.ended()

    def _is_flat(self) -> bool:
        books = self.venue.books()
        return not (books["positions"] or books["open_orders"] or books["open_algo_orders"])


def _turned(before: dict[str, Decimal], now: dict[str, Decimal], name: str) -> bool:
    return before[name] * now.get(name, Decimal(0)) < 0


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("live")
    with ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        for name in ("DATA", "STATE", "CONFIG"):
            environment.setenv(f"XDG_{name}_HOME", str(folder / "home"))
        environment.chdir(folder)
        yield Stage(folder, stack).play()


# ---- before the first start ----------------------------------------------------------------------------------------


def test_the_doctor_sees_what_is_wrong_and_that_it_was_put_right(session: Session) -> None:
    before, after = session.outcomes["doctor before"], session.outcomes["doctor after"]
    assert (before.code, after.code) == (1, 0)
    wrong = [each for each in json.loads(before.out)["findings"] if each["verdict"] != "ok"]
    assert [each["check"] for each in wrong] == ["account settings"]
    assert "leverage: is 20, wished 10" in wrong[0]["detail"]
    found = json.loads(after.out)
    assert found["healthy"] is True
    checks = {each["check"] for each in found["findings"]}
    assert {"disk", "journal", "lock", "venue", "contracts", "key rights", "account settings"} <= checks


def test_account_setup_shows_sets_and_then_has_nothing_to_do(session: Session) -> None:
    shown, applied, again = (session.outcomes[name] for name in ("setup shown", "setup applied", "setup shown again"))
    assert shown.code == applied.code == again.code == 0
    assert shown.out.splitlines() == [
        f"{name} leverage: is 20, wished 10" for name in ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    ]
    assert json.loads(applied.out) == {"applied": True, "differences": []}
    assert json.loads(again.out) == {"applied": False, "differences": []}


def test_a_foreign_position_is_left_alone_or_adopted_with_a_stop(session: Session) -> None:
    def line(name: str) -> dict[str, str]:
        outcome = session.outcomes[name]
        assert outcome.code == 0, outcome
        found: dict[str, str] = next(each for each in json.loads(outcome.out) if each["instrument"] == "SOLUSDT")
        return found

    assert (line("foreign")["ours"], line("foreign")["venue"]) == ("0", "5")
    assert "not ours: left alone" in line("foreign")["action"]
    assert "adopt 5 at" in line("adoption shown")["action"]
    assert "place STOP_MARKET SELL 5" in line("adoption shown")["action"]
    applied = session.outcomes["adoption applied"]
    assert applied.code == 0, applied
    scene = session.scenes["adopted"]
    scene.check()
    assert ours(scene.status) == {"SOLUSDT": Decimal(5)}


def test_flatten_closes_everything_and_stop_leaves_well(session: Session) -> None:
    assert json.loads(session.outcomes["flatten"].out)["state"] == "REDUCE_ONLY"
    scene = session.scenes["flattened"]
    scene.check()
    assert positions(scene.books) == {}
    assert session.outcomes["stop"].code == session.codes["stopped by word"] == 0


# ---- trading, and the worst that can happen ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["after the first close", "after kill -9", "after another hand", "after the second close"]
)
def test_ours_is_the_venues_and_every_position_has_its_stop(session: Session, name: str) -> None:
    scene = session.scenes[name]
    scene.check()
    assert len(positions(scene.books)) >= 1


def test_a_restart_is_ready_soon(session: Session) -> None:
    """The first start compiles what the others find compiled."""
    _, *restarts = session.ready_s
    assert len(restarts) >= 2
    assert max(restarts) <= READY_WITHIN_S


def test_a_crash_changes_nothing_at_the_venue(session: Session) -> None:
    before, after = (session.scenes[name].books for name in ("after the first close", "after kill -9"))
    for part in ("positions", "fills", "placed"):
        assert after[part] == before[part], part
    assert after["open_algo_orders"] == before["open_algo_orders"]


def test_what_another_hand_did_is_taken_over_and_told(session: Session) -> None:
    before, after = (session.scenes[name] for name in ("after kill -9", "after another hand"))
    assert positions(after.books)["ETHUSDT"] == -positions(before.books)["ETHUSDT"]
    assert positions(after.books)["BTCUSDT"] == positions(before.books)["BTCUSDT"]
    assert any("a fill of an order that is not ours" in each["text"] for each in after.status["alerts"])


def test_no_order_was_sent_twice_and_none_was_filled_beyond_its_size(session: Session) -> None:
    ordered = {
        command.id: command.qty
        for account in ("main", "adopting")
        for folder in session.journals(account)
        for record in read_journal(folder).records()
        for command in record.commands
        if isinstance(command, ApprovedOrder)
    }
    placed = {name: times for name, times in session.books["placed"].items() if parse_client_order_id(name)}
    assert placed
    assert set(placed.values()) == {1}
    assert set(placed) <= set(ordered)
    for name, fills in session.books["fills"].items():
        if name in placed:
            assert sum(Decimal(each["qty"]) for each in fills) <= ordered[name]


def test_a_second_daemon_on_the_same_key_is_refused(session: Session) -> None:
    assert_refused(session.outcomes["rival"], "another daemon trades with this key")


def test_the_verbs_reach_the_daemon(session: Session) -> None:
    assert json.loads(session.outcomes["pause"].out)["state"] == "REDUCE_ONLY"
    assert session.outcomes["resume"].code == 0
    assert session.statuses["resumed"]["state"] == "READY"
    status = json.loads(session.outcomes["status"].out)
    assert (status["mode"], status["account"], status["state"]) == ("testnet", "main", "READY")
    page = session.outcomes["status page"]
    assert page.code == 0
    for word in ("READY", "BTCUSDT", "ETHUSDT"):
        assert word in page.out


@pytest.mark.parametrize("verb", ["status", "pause", "resume", "flatten", "kill", "stop"])
def test_a_verb_to_nobody_says_so(session: Session, verb: str) -> None:
    assert_refused(session.outcomes[f"{verb} of nobody"], "no daemon is running", code=3)


def test_sigterm_leaves_the_stops(session: Session) -> None:
    assert session.codes["SIGTERM"] == 0
    assert session.seconds["SIGTERM"] <= STOP_WITHIN_S
    scene = session.scenes["left alone"]
    assert scene.status["stopped"] == "SIGTERM"
    assert scene.status["warnings"] == []
    assert positions(scene.books) != {}
    scene.check()


# ---- the kill switch -----------------------------------------------------------------------------------------------


def test_the_kill_file_makes_it_flat_and_latches(session: Session) -> None:
    assert session.seconds["flat"] <= FLAT_WITHIN_S
    status = session.statuses["killed"]
    assert (status["state"], status["latch"]["cause"]) == ("HALTED", "KILL")
    assert status["positions"] == status["orders"] == []


def test_a_flat_account_is_worth_its_wallet_at_the_venue(session: Session) -> None:
    wallet = Decimal(session.books["wallet"]["USDT"])
    assert Decimal(repr(session.statuses["killed"]["equity_usdt"])) == wallet.quantize(Decimal("1e-8"))


def test_a_latch_is_lifted_by_a_person_who_has_looked_and_by_nobody_else(session: Session) -> None:
    assert_refused(session.outcomes["resume a latched one"], "--reset")
    assert_refused(session.outcomes["reset under the file"], "KILL")
    assert session.codes["latched"] == 6
    assert session.statuses["latched again"]["latch"]["cause"] == "KILL"
    assert session.outcomes["reset"].code == 0
    assert session.codes["after the reset"] == 0


# ---- paper, and the record -----------------------------------------------------------------------------------------


def test_paper_trades_the_same_prices_and_touches_no_account(session: Session) -> None:
    assert session.paper["mode"] == "paper"
    assert session.codes["paper"] == 0
    assert {each["instrument"] for each in session.paper["positions"]} == {"BTCUSDT", "ETHUSDT"}
    accounts = {parsed[0] for name in session.books["placed"] if (parsed := parse_client_order_id(name))}
    assert "pa" not in accounts


def test_every_journal_replays_without_a_difference(session: Session) -> None:
    folders = [*session.journals("adopting"), *session.journals("main"), *session.journals("paper", "paper")]
    assert len(folders) >= 8
    for folder in folders:
        outcome = tidegate("replay", folder, "--json")
        assert outcome.code == 0, (folder, outcome)
        assert json.loads(outcome.out)["same"] is True


def test_no_daemon_said_more_than_it_should(session: Session) -> None:
    for path in sorted(session.folder.glob("*.err")):
        text = path.read_text()
        assert "Traceback" not in text, path
        assert "demo-secret" not in text, path
