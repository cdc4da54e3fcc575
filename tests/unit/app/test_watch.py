"""The kill switch's doors and the heartbeat."""

import asyncio
import os
import signal
import time
from pathlib import Path

from tidegate.adapters.system.clock import SystemClock
from tidegate.app.watch import Heartbeat, KillSwitch
from tidegate.domain.messages import Alert


async def test_file_and_signal_kill_once_each(tmp_path: Path) -> None:
    asked: list[str] = []
    thrown = asyncio.Event()

    async def kill(why: str) -> None:
        asked.append(why)
        thrown.set()

    watcher = asyncio.create_task(KillSwitch(tmp_path, kill).run())
    await asyncio.sleep(0)
    (tmp_path / "KILL").touch()
    await asyncio.wait_for(thrown.wait(), 5)
    thrown.clear()
    await asyncio.sleep(0.6)
    assert len(asked) == 1  # the file still lies there
    (tmp_path / "KILL").unlink()
    await asyncio.sleep(0.6)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(thrown.wait(), 5)
    assert [why.split()[-1] for why in asked] == ["folder", "SIGUSR1"]
    watcher.cancel()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)


async def test_a_held_up_loop_is_told() -> None:
    alerts: list[Alert] = []
    heartbeat = Heartbeat(SystemClock(), alerts.append)
    beating = asyncio.create_task(heartbeat.run())
    await asyncio.sleep(0.25)
    time.sleep(1.3)  # noqa: ASYNC251  holds the loop up on purpose
    await asyncio.sleep(0.25)
    beating.cancel()
    assert heartbeat.worst_ns > 1e9
    assert "held up" in alerts[0].text
    assert heartbeat.lag_ms(1.0) >= 1000 > heartbeat.lag_ms(0.0)
