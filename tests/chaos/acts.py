"""What happens to a running daemon, one act at a time. Each leaves a world in which everything works again.

An act that this machine cannot do is not run, and told so: ``needs`` names the ability.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.chaos.relay import Mode
from tests.chaos.stage import STATE_MIB, SYMBOLS, Stage
from tests.fakes.processes import Running

_FULL_FOR_S = (5.0, 15.0)
_LEAVES_WITHIN_S = 12.0


@dataclass(frozen=True)
class Act:
    """``weight``: how often it is drawn, compared with the others. ``needs``: what the machine must be able to do."""

    name: str
    do: Callable[[Stage], str]
    weight: int = 1
    needs: str = ""


def _draw_s(stage: Stage, low: float, high: float) -> float:
    return stage.rng.uniform(low, high)


# ---- processes --------------------------------------------------------------------------------------------------


def _kill_daemon(stage: Stage) -> str:
    """``kill -9`` at any moment; started again at once or after a while."""
    stage.daemon.kill()
    away_s = stage.rng.choice((0.0, 0.0, 2.0, 8.0))
    time.sleep(away_s)
    stage.start_daemon()
    return f"away {away_s:.0f} s"


def _kill_twice(stage: Stage) -> str:
    """A second ``kill -9`` while the first one is still being recovered from."""
    stage.daemon.kill()
    stage.start_daemon()
    after_s = _draw_s(stage, 0.5, 5.0)
    time.sleep(after_s)
    stage.daemon.kill()
    stage.start_daemon()
    return f"the second after {after_s:.1f} s"


def _terminate(stage: Stage) -> str:
    """SIGTERM, and a new start."""
    stage.daemon.send(signal.SIGTERM)
    code = stage.daemon.ended(_LEAVES_WITHIN_S)
    stage.start_daemon()
    return f"exit code {code}"


def _kill_venue(stage: Stage) -> str:
    """``kill -9`` of the exchange; it comes back with everything that it had acknowledged."""
    stage.venue.kill()
    away_s = stage.rng.choice((0.0, 3.0, 10.0))
    time.sleep(away_s)
    stage.restart_venue()
    return f"away {away_s:.0f} s"


def _freeze(stage: Stage, process: Running) -> str:
    for_s = _draw_s(stage, 2.0, 15.0)
    process.send(signal.SIGSTOP)
    time.sleep(for_s)
    process.send(signal.SIGCONT)
    return f"{for_s:.0f} s"


# ---- the line -----------------------------------------------------------------------------------------------------


def _line(mode: Mode, low_s: float, high_s: float) -> Callable[[Stage], str]:
    def act(stage: Stage) -> str:
        for_s = _draw_s(stage, low_s, high_s)
        stage.relay.delay_s = stage.rng.choice((0.3, 1.0, 2.5))
        stage.relay.mode = mode
        time.sleep(for_s)
        stage.relay.mode = Mode.PASS
        detail = f", up to {stage.relay.delay_s:g} s" if mode is Mode.DELAY else ""
        return f"{for_s:.0f} s{detail}"

    return act


def _cut(stage: Stage) -> str:
    times = stage.rng.randint(1, 6)
    for _ in range(times):
        stage.relay.cut()
        time.sleep(_draw_s(stage, 0.1, 1.5))
    return f"{times} times"


def _freeze_line(stage: Stage) -> str:
    stage.relay.freeze()
    return "what was open is dead"


# ---- disk, clock, database ----------------------------------------------------------------------------------------


def _fill_disk(stage: Stage) -> str:
    """No byte is free where the journal lies, for a while; then the space is back, and a person resumes."""
    filler = stage.state_dir / "filler"
    for_s = _draw_s(stage, *_FULL_FOR_S)
    with filler.open("wb", buffering=0) as file:
        try:
            for _ in range(STATE_MIB * 16 + 1):
                file.write(b"\0" * 65_536)
        except OSError:
            pass
        try:
            while True:
                file.write(b"\0")
        except OSError:
            pass
    time.sleep(for_s)
    filler.unlink()
    return f"{for_s:.0f} s; {_looked_at(stage)}"


def _read_only(stage: Stage) -> str:
    """Nothing can be made in the daemon's folders, for a start too; then it may write, and a person resumes."""
    stage.daemon.kill()
    began = stage.rng.random() < 0.5
    if began:
        stage.start_daemon(obeys_modes=True)
        stage.wait("READY", lambda: (stage.status() or {}).get("state") == "READY", 20.0)
    folders = [stage.home, *(each for each in stage.home.rglob("*") if each.is_dir())]
    modes = {each: each.stat().st_mode & 0o777 for each in folders}
    for each in folders:
        each.chmod(0o555)
    if not began:
        stage.start_daemon(obeys_modes=True)
    for_s = _draw_s(stage, *_FULL_FOR_S)
    time.sleep(for_s)
    for each, mode in modes.items():
        if each.exists():
            each.chmod(mode)
    return f"{'under it' if began else 'at its start'}, {for_s:.0f} s; {_looked_at(stage)}"


def _looked_at(stage: Stage) -> str:
    """What a person does afterwards: start again what has left or cannot go on, and resume what has halted."""
    status = stage.status()
    if stage.daemon_runs and status is not None and status["state"] == "READY":
        return "it went on"
    before = "it had left" if not stage.daemon_runs else f"it was {status['state'] if status else 'mute'}"
    if stage.daemon_runs:
        stage.daemon.send(signal.SIGTERM)
        stage.daemon.ended(_LEAVES_WITHIN_S)
    stage.start_daemon()
    stage.wait("it answers", stage.status, 30.0)
    time.sleep(2.0)
    now: dict[str, Any] = stage.status() or {}
    if now.get("state") == "HALTED":
        stage.tell("resume", reset=True)
    return before


def _turn_clock(stage: Stage) -> str:
    """The wall clock jumps, stays wrong for a while, and jumps back."""
    off_s = stage.rng.choice((1, -1, 3600, -3600, 86_400))
    for_s = _draw_s(stage, 5.0, 15.0)
    stage.set_clock(off_s)
    time.sleep(for_s)
    stage.set_clock(0)
    return f"{off_s:+d} s for {for_s:.0f} s"


def _kill_database(stage: Stage) -> str:
    for_s = _draw_s(stage, 3.0, 12.0)
    stage.kill_database()
    time.sleep(for_s)
    stage.start_database()
    return f"away {for_s:.0f} s"


# ---- the venue's and the market's own --------------------------------------------------------------------------------


def _jump(stage: Stage) -> str:
    """Prices jump: stops trigger."""
    symbol, by_frac = stage.rng.choice(SYMBOLS), stage.rng.choice((-0.05, -0.02, 0.02, 0.05))
    stage.reader.act("move_price", symbol=symbol, by_frac=by_frac)
    return f"{symbol} {by_frac:+.0%}"


def _jump_and_kill(stage: Stage) -> str:
    """A stop triggers while nobody looks."""
    stage.daemon.kill()
    told = _jump(stage)
    time.sleep(_draw_s(stage, 0.0, 3.0))
    stage.start_daemon()
    return told


def _lose_listen_key(stage: Stage) -> str:
    silent = stage.rng.random() < 0.5
    stage.reader.act("expire_listen_key", silent=silent)
    return "silently" if silent else "with its event"


def _resume(stage: Stage) -> None:
    """A person looks, and resumes: again until it is possible, for a sweep has to be done first."""

    def up() -> bool:
        stage.tell("resume", reset=True)
        return (stage.status() or {}).get("state") in ("READY", "RECONCILING")

    stage.wait("it is up again", up, 20.0)


def _word(verb: str) -> Callable[[Stage], str]:
    def act(stage: Stage) -> str:
        answer = stage.tell(verb)
        flat = stage.wait("flat", lambda: not stage.reader.glance().positions, 10.0)
        _resume(stage)
        assert answer is not None, f"{verb} was not answered"
        assert flat, f"not flat 10 s after {verb}"
        return "flat"

    return act


def _signal_kill(stage: Stage) -> str:
    """SIGUSR1, the kill switch without a socket."""
    os.kill(stage.daemon.process.pid, signal.SIGUSR1)
    flat = stage.wait("flat", lambda: not stage.reader.glance().positions, 10.0)
    _resume(stage)
    assert flat, "not flat 10 s after SIGUSR1"
    return "flat"


ACTS = (
    Act("kill -9 of the daemon", _kill_daemon, 6),
    Act("kill -9 twice", _kill_twice, 2),
    Act("SIGTERM of the daemon", _terminate, 2),
    Act("kill -9 of the exchange", _kill_venue, 3),
    Act("SIGSTOP of the daemon", lambda stage: _freeze(stage, stage.daemon), 3),
    Act("SIGSTOP of the exchange", lambda stage: _freeze(stage, stage.venue), 3),
    Act("line: delays", _line(Mode.DELAY, 5.0, 15.0), 2),
    Act("line: cuts", _cut, 4),
    Act("line: black hole", _line(Mode.HOLE, 3.0, 15.0), 3),
    Act("line: only up", _line(Mode.UP_ONLY, 3.0, 12.0), 2),
    Act("line: only down", _line(Mode.DOWN_ONLY, 3.0, 12.0), 2),
    Act("line: refused", _line(Mode.REFUSE, 3.0, 12.0), 2),
    Act("line: repeats", _line(Mode.REPEAT, 10.0, 20.0), 2),
    Act("line: open connections die", _freeze_line, 2),
    Act("disk full", _fill_disk, 2, "small disk"),
    Act("disk read-only", _read_only, 2, "read-only folders"),
    Act("clock jumps", _turn_clock, 3, "clock"),
    Act("database killed", _kill_database, 2),
    Act("price jumps", _jump, 3),
    Act("price jumps while it is away", _jump_and_kill, 3),
    Act("listen key lost", _lose_listen_key, 2),
    Act("flatten", _word("flatten"), 1),
    Act("kill switch", _word("kill"), 1),
    Act("SIGUSR1", _signal_kill, 1),
)
