"""The simulated world: the whole daemon and the local exchange as two nodes of one virtual loop, from one seed."""

import asyncio
import random
import signal
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from tidegate.app.bootstrap_live import World, live_parts
from tidegate.app.bootstrap_localnet import SimulatedVenue
from tidegate.app.config import Settings
from tidegate.app.config_sources import merge, nested
from tidegate.app.live import LiveParts, LiveResult, Rhythm, run_live
from tidegate.app.simulation.clock import EPOCH_NS, VirtualClock
from tidegate.app.simulation.disk import SimDisk, SimJournal
from tidegate.app.simulation.loop import SimTask, VirtualLoop
from tidegate.app.simulation.nodes import NODE, Node
from tidegate.app.simulation.runner import Outcome, run
from tidegate.app.simulation.scenarios import SETTINGS
from tidegate.app.simulation.witness import Witness
from tidegate.app.workers import InlineWorker
from tidegate.domain.errors import AlreadyRunning
from tidegate.domain.ids import Nanos
from tidegate.domain.messages import Alert, Record
from tidegate.kernel.kernel import Kernel

T = TypeVar("T")

VENUE, DAEMON = "venue", "daemon"
PORT: Final = 8800


@dataclass(frozen=True, slots=True)
class SimPlan:
    """What a run is made of; with the seed it names the run. ``settings`` are laid over ``scenarios.SETTINGS``.

    ``faults`` are as in a scenario file. ``tick_ms`` is the pace of the venue's market, ``ping_s`` of its pings,
    ``watch_every_s`` of the witness.
    """

    seed: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)
    faults: Sequence[Mapping[str, Any]] = ()
    start_ns: Nanos = EPOCH_NS
    tick_ms: int = 250
    history_bars: int = 600
    ping_s: float = 180.0
    watch_every_s: float = 0.25
    rhythm: Rhythm = field(default_factory=Rhythm)


@dataclass(frozen=True, slots=True)
class Said:
    """An alert, and when it came (virtual seconds)."""

    at_s: float
    alert: Alert


class SimWorld:
    """One run. Make it inside the loop, ``open`` the venue, start, kill and restart the daemon, then ask the oracles.

    ``venue`` is the exchange with its books, ``kernel`` and ``parts`` the daemon's as they are now, or were when it
    ended. ``alerts`` are those of all its lives; ``witness`` has watched the wires and the exposure.
    """

    def __init__(self, loop: VirtualLoop, plan: SimPlan, folder: Path) -> None:
        self.loop, self.plan, self.folder = loop, plan, folder
        self.clock = VirtualClock(loop, plan.start_ns)
        self.disk = SimDisk(loop)
        self.disk.own(DAEMON, folder)
        self.venue_clock = VirtualClock(loop, plan.start_ns)
        with loop.node(VENUE):
            symbols = [str(each) for each in self.settings.symbols]
            self.venue = SimulatedVenue(
                self.venue_clock,
                plan.seed,
                symbols,
                tick_ms=plan.tick_ms,
                history_bars=plan.history_bars,
                ping_s=plan.ping_s,
            )
        self.witness = Witness(loop, self.disk, self.venue, DAEMON, plan.watch_every_s)
        self.alerts: list[Said] = []
        self.records = 0
        self.results: list[LiveResult] = []
        self.crashes: list[str] = []
        self.parts: LiveParts | None = None
        self._locks: dict[Path, Node] = {}
        self._life: SimTask[None] | None = None

    @property
    def settings(self) -> Settings:
        """The daemon's configuration; the environment of this process has no part in it."""
        own = {"mode": "testnet", "state.dir": str(self.folder), "venue.rest": f"http://127.0.0.1:{PORT}"}
        tree = merge(merge(nested(SETTINGS), nested(self.plan.settings)), nested(own))
        return Settings.model_validate(tree)

    @property
    def kernel(self) -> Kernel:
        """The daemon's kernel. Raises ``LookupError`` before it has got so far."""
        if self.parts is None:
            raise LookupError("the daemon has not got as far as to have a kernel")
        return self.parts.kernel

    @property
    def node(self) -> Node:
        """The daemon's present or last life."""
        return self.loop.nodes.get(DAEMON)

    # ---- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the venue and put the faults of the plan in force."""
        with self.loop.node(VENUE):
            await self.loop.create_task(self.venue.start(PORT))
            self.venue.add_faults(self.plan.faults)
        self.witness.begin()

    async def close(self) -> None:
        """Close the venue. What the daemon still does is cancelled by the runner."""
        with self.loop.node(VENUE):
            await self.loop.create_task(self.venue.close())

    def start_daemon(self) -> SimTask[None]:
        """Begin a life of the daemon; it ends with its task, or when it is killed."""
        self.parts = None
        life = self._life = self.loop.spawn(DAEMON, self._live())
        return life

    async def _live(self) -> None:
        world = World(
            self.clock,
            random.Random(f"{self.plan.seed}:{DAEMON}:{NODE.get().life}"),
            {},
            journal=lambda files: SimJournal(files, self.loop, files.close_now),
            lock=self._lock,
            worker=InlineWorker,
        )
        try:
            async with live_parts(self.settings, "testnet", world, self._alerted) as parts:
                self.parts = parts
                result = await run_live(
                    parts,
                    observers=[self._recorded],
                    on_alert=self._alerted,
                    control=False,
                    rhythm=self.plan.rhythm,
                )
                self.results.append(result)
        except Exception as error:
            self.crashes.append(f"{self.loop.time():.3f} s: {type(error).__name__}: {error}")

    def kill(self) -> None:
        """``kill -9``."""
        self.loop.kill(DAEMON)

    def restart(self) -> SimTask[None]:
        """Kill the daemon if it lives, and start it again."""
        self.kill()
        return self.start_daemon()

    async def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self.loop.send_signal(DAEMON, signal.SIGTERM)
        if self._life is not None:
            await self._life

    @property
    def alive(self) -> bool:
        """Whether the daemon runs."""
        return self._life is not None and not self._life.done() and not self.node.dead

    async def run_for(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    async def until(self, seen: Callable[[], bool], within_s: float, every_s: float = 0.1) -> bool:
        """Let time pass until ``seen``; False when it has not come about in time."""
        end_s = self.loop.time() + within_s
        while not seen():
            if self.loop.time() >= end_s:
                return False
            await asyncio.sleep(every_s)
        return True

    # ---- what it sees ------------------------------------------------------------------------------------------------

    def _alerted(self, alert: Alert) -> None:
        self.alerts.append(Said(self.loop.time(), alert))

    def _recorded(self, _: Record) -> None:
        self.records += 1

    @contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        """The lock of one key: let go by whoever dies."""
        holder, me = self._locks.get(path), NODE.get()
        if holder is not None and not holder.dead:
            raise AlreadyRunning(f"another daemon trades with this key: life {holder.life} holds {path.name}")
        self._locks[path] = me
        try:
            yield
        finally:
            if self._locks.get(path) is me:
                del self._locks[path]


def simulate(
    plan: SimPlan,
    script: Callable[[SimWorld], Coroutine[Any, Any, T]],
    *,
    folder: Path | None = None,
    limit_s: float = float("inf"),
) -> Outcome[T]:
    """Run ``script(world)`` in a world of ``plan``, whose venue is open; the daemon is for the script to start.

    State lies in ``folder``, else in a temporary one. Raises what the script and ``runner.run`` raise.
    """

    async def main(loop: VirtualLoop) -> T:
        with tempfile.TemporaryDirectory(prefix="tidegate-sim-") as made:
            world = SimWorld(loop, plan, folder or Path(made))
            with world.disk.mounted():
                await world.open()
                try:
                    return await script(world)
                finally:
                    if world.alive:
                        world.kill()
                    await world.close()

    return run(main, plan.seed, epoch_ns=plan.start_ns, limit_s=limit_s)
