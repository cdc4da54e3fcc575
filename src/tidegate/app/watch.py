"""What watches the daemon from inside: the kill switch, and the lag of the loop.

The kill switch has two doors besides the control socket: the signal SIGUSR1, and a file ``KILL`` in the state folder.
It works while the inbox is full and no data comes, for the command goes past the queue.
"""

import asyncio
import signal
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from tidegate.app.dispatch import OnAlert
from tidegate.domain.messages import Alert, Severity
from tidegate.ports import Clock

LOOK_EVERY_S = 0.25
BEAT_S = 0.1
_KEPT = 6_000
_LATE_NS = 1_000_000_000

Kill = Callable[[str], Awaitable[None]]


class KillSwitch:
    """Calls ``kill`` once, with what asked for it. The file stays: it is removed by whoever lifts the latch."""

    def __init__(self, folder: Path, kill: Kill, look_every_s: float = LOOK_EVERY_S) -> None:
        self.path = folder / "KILL"
        self._kill = kill
        self._look_every_s = look_every_s
        self._signalled = asyncio.Event()

    async def run(self) -> None:
        """Watch both doors until one opens; then see that the file is gone before it can be opened again."""
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
            loop.add_signal_handler(signal.SIGUSR1, self._signalled.set)
        while True:
            await self._kill(await self._asked())
            self._signalled.clear()
            while self.path.exists():  # noqa: ASYNC110  a folder tells nobody
                await asyncio.sleep(self._look_every_s)

    async def _asked(self) -> str:
        while True:
            if self.path.exists():
                return f"the file {self.path.name} is in the state folder"
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_every_s):
                    await self._signalled.wait()
                    return "SIGUSR1"


class Heartbeat:
    """How late the loop runs what is due: a beat every ``beat_s``, of which the last ``_KEPT`` are kept."""

    def __init__(self, clock: Clock, on_alert: OnAlert, beat_s: float = BEAT_S) -> None:
        self._clock, self._on_alert, self._beat_s = clock, on_alert, beat_s
        self._lags_ns: deque[int] = deque(maxlen=_KEPT)
        self.worst_ns = 0

    async def run(self) -> None:
        """Beat until cancelled; a lag of a second is told."""
        while True:
            due_ns = self._clock.monotonic_ns() + int(self._beat_s * 1e9)
            await asyncio.sleep(self._beat_s)
            lag_ns = max(0, self._clock.monotonic_ns() - due_ns)
            self._lags_ns.append(lag_ns)
            self.worst_ns = max(self.worst_ns, lag_ns)
            if lag_ns > _LATE_NS:
                text = f"the event loop was held up for {lag_ns / 1e9:.1f} s"
                self._on_alert(Alert(Severity.WARNING, "loop", text, self._clock.now_ns()))

    def lag_ms(self, share: float) -> float:
        """The lag that this share of the kept beats did not exceed, in milliseconds."""
        if not self._lags_ns:
            return 0.0
        ordered = sorted(self._lags_ns)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e6
