"""The live daemon: paper, testnet and live are this file with other connections.

Around the kernel and its door stand: the bars that the features lack at the start, the kill switch, the heartbeat of
the loop, the regular write-out of the journal, and the control socket through which an operator speaks.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate.app.bystanders import Bystander
from tidegate.app.config import Settings
from tidegate.app.control import ControlServer, Verb, socket_path
from tidegate.app.daemon import Connections, Daemon
from tidegate.app.dispatch import OnAlert
from tidegate.app.inbox import Observer
from tidegate.app.tally import plain
from tidegate.app.watch import BEAT_S, LOOK_EVERY_S, Heartbeat, KillSwitch
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import Bar, BarSpec, FeedState, MarketEvent
from tidegate.domain.messages import Alert, Operation, Record, Severity, Subscription
from tidegate.domain.orders import OrderFilled
from tidegate.kernel.kernel import Kernel
from tidegate.kernel.lifecycle import State
from tidegate.ports import Clock, Journal, MarketDataFeed
from tidegate.quant.bars import BarTable

EXIT_NOT_OURS, EXIT_LATCHED = 4, 6
_WRITE_OUT_S = 0.02
_ALERTS_KEPT = 50

History = Callable[[InstrumentId, BarSpec, Nanos, Nanos], Awaitable[BarTable]]
Companion = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class LiveParts:
    """What the composition root puts together.

    ``boot`` is the generation of this process, ``last_seq`` the last record of the journal before it. ``diagnosis``
    tells what the adapters count; ``write_out`` hands the journal's buffers to the operating system.
    """

    settings: Settings
    mode: str
    kernel: Kernel
    journal: Journal
    connections: Connections
    state: Path
    boot: str
    last_seq: int
    write_out: Callable[[], None]
    diagnosis: Callable[[], dict[str, Any]] = dict
    companions: Sequence[Companion] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often the daemon looks at itself, and what it hears besides bars: less of both for long simulated runs."""

    beat_s: float = BEAT_S
    look_every_s: float = LOOK_EVERY_S
    quotes: bool = True
    marks: bool = True
    depth: bool = False


@dataclass(frozen=True, slots=True)
class LiveResult:
    """What a run leaves behind, and its exit code: 0, 4 when it left the account to another daemon, or 6 when a latched
    process left."""

    summary: dict[str, object]
    exit_code: int


class Seamless:
    """A live feed after stored bars: bars come in order, each once, and what lies between the two is fetched."""

    def __init__(self, feed: MarketDataFeed, history: History, bar: BarSpec, clock: Clock) -> None:
        self._feed, self._history, self._bar, self._clock = feed, history, bar, clock
        self._last_ns: dict[InstrumentId, Nanos] = {}

    async def warm_up(self, wanted: Mapping[InstrumentId, Nanos]) -> AsyncIterator[Bar]:
        """The closed bars of each instrument from the wanted open on, all in the order of their ends."""
        now_ns = self._clock.now_ns()
        bars: list[Bar] = []
        for name, start_ns in wanted.items():
            bars += await self._fetch(name, start_ns, now_ns)
        bars.sort(key=lambda bar: (bar.ts_ns, bar.instrument))
        for bar in bars:
            self._last_ns[bar.instrument] = bar.ts_ns
            yield bar

    async def stream(self, subscriptions: Collection[Subscription]) -> AsyncIterator[MarketEvent]:
        """The feed's events; a bar that does not follow the last one brings those before it."""
        async for event in self._feed.stream(subscriptions):
            if type(event) is not Bar:
                yield event
                continue
            last_ns = self._last_ns.get(event.instrument)
            if last_ns is not None and event.ts_ns <= last_ns:
                continue
            if last_ns is not None and event.ts_ns > last_ns + self._bar.interval_ns:
                for bar in await self._fetch(event.instrument, last_ns, event.ts_ns - self._bar.interval_ns):
                    yield bar
            self._last_ns[event.instrument] = event.ts_ns
            yield event

    async def _fetch(self, name: InstrumentId, start_ns: Nanos, end_ns: Nanos) -> list[Bar]:
        if start_ns >= end_ns:
            return []
        table = await self._history(name, self._bar, start_ns, end_ns)
        recv_ns = self._clock.now_ns()
        columns = (table.ts_ns, table.open, table.high, table.low, table.close, table.volume)
        return [
            Bar(name, self._bar.interval_ns, int(ts), max(recv_ns, int(ts)), *map(float, prices))
            for ts, *prices in zip(*columns, strict=True)
        ]


@dataclass(slots=True)
class Gazette:
    """What an operator asks about and the kernel does not keep: alerts, counts, what is stale."""

    alerts: list[dict[str, str]] = field(default_factory=list)
    records: int = 0
    fills: int = 0
    stale: dict[str, str] = field(default_factory=dict)

    def alert(self, alert: Alert) -> None:
        """Keep the newest alerts."""
        if alert.severity is not Severity.INFO:
            self.alerts.append({"severity": alert.severity.value, "subject": alert.subject, "text": alert.text})
            del self.alerts[:-_ALERTS_KEPT]

    def __call__(self, record: Record) -> None:
        """Take a record in, as an observer of the inbox."""
        self.records += 1
        event = record.event
        if type(event) is OrderFilled:
            self.fills += 1
        elif type(event) is FeedState:
            name = f"{event.instrument or 'all'} {event.family.value.lower()}"
            if event.fresh:
                self.stale.pop(name, None)
            else:
                self.stale[name] = event.detail


class Desk:
    """The operator's verbs over one daemon."""

    def __init__(self, daemon: Daemon, parts: LiveParts, gazette: Gazette, heartbeat: Heartbeat) -> None:
        self._daemon, self._parts, self._gazette, self._heartbeat = daemon, parts, gazette, heartbeat
        self._began_ns = parts.connections.clock.monotonic_ns()

    def verbs(self) -> dict[str, Verb]:
        """Names and what they do, for the control socket."""
        return {
            "status": self._status,
            "pause": lambda request: self._operate(Operation.PAUSE, request),
            "resume": self._resume,
            "flatten": lambda request: self._operate(Operation.FLATTEN, request),
            "kill": lambda request: self._operate(Operation.KILL, request),
            "stop": self._stop,
        }

    async def kill(self, why: str) -> None:
        """The kill switch was thrown."""
        await self._daemon.operate(Operation.KILL, why)

    async def _operate(self, operation: Operation, request: Mapping[str, Any]) -> dict[str, Any]:
        await self._daemon.operate(operation, str(request.get("detail", "control socket")))
        return {"state": self._parts.kernel.state.value}

    async def _resume(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Up again; from a latch only when the operator says that they have looked, and no KILL file lies there."""
        if self._parts.kernel.state is not State.HALTED:
            return await self._operate(Operation.RESUME, request)
        if not request.get("reset"):
            return {"ok": False, "error": "the daemon is halted: look, then resume with --reset"}
        if (self._parts.state / "KILL").exists():
            return {"ok": False, "error": "the file KILL is still in the state folder: remove it first"}
        return await self._operate(Operation.RESET, request)

    async def _stop(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._daemon.stop("asked to stop")
        return {"state": self._parts.kernel.state.value}

    async def _status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return self.status()

    def status(self) -> dict[str, Any]:
        """Everything that an operator looks at first, as plain data."""
        parts, kernel, gazette = self._parts, self._parts.kernel, self._gazette
        latch = kernel.latch
        positions = [
            {
                "instrument": name,
                "qty": plain(held.qty),
                "entry_price": None if held.entry_price is None else plain(held.entry_price),
                "last_price": kernel.last_prices.get(name),
                "stop": kernel.protection_level(name),
            }
            for name, held in kernel.ledger.positions.items()
            if held.qty
        ]
        orders = [
            {
                "id": order.approved.id,
                "instrument": order.approved.instrument,
                "side": order.approved.side.value,
                "type": order.approved.order_type.value,
                "qty": plain(order.qty),
                "filled": plain(order.filled),
                "purpose": order.approved.purpose.value,
                "state": order.state.value,
            }
            for order in kernel.open_orders
        ]
        return {
            "mode": parts.mode,
            "account": parts.settings.account,
            "state": kernel.state.value,
            "latch": None if latch is None else {"cause": latch.cause.value, "reason": latch.reason},
            "uptime_s": round((parts.connections.clock.monotonic_ns() - self._began_ns) / 1e9, 1),
            "equity_usdt": round(kernel.equity_usdt, 8),
            "wallet_usdt": plain(kernel.ledger.wallet),
            "unit_value": kernel.unit_value,
            "positions": positions,
            "orders": orders,
            "unresolved": list(kernel.unresolved),
            "foreign": list(kernel.foreign),
            "blocked": dict(kernel.blocked),
            "stale": dict(gazette.stale),
            "last_reconciled_ns": kernel.last_reconciled_ns,
            "records": gazette.records,
            "fills": gazette.fills,
            "loop_lag_ms": {"p50": self._heartbeat.lag_ms(0.5), "p99": self._heartbeat.lag_ms(0.99)},
            "alerts": gazette.alerts[-10:],
            "journal": str(parts.state / "journal"),
            "adapters": parts.diagnosis(),
        }


async def run_live(
    parts: LiveParts,
    *,
    observers: Sequence[Observer] = (),
    on_alert: OnAlert = lambda _: None,
    seconds: float | None = None,
    control: bool = True,
    rhythm: Rhythm = Rhythm(),
) -> LiveResult:
    """Run until something asks to stop. ``control`` opens the socket in the state folder."""
    gazette = Gazette()

    def alerted(alert: Alert) -> None:
        gazette.alert(alert)
        on_alert(alert)

    def failed(text: str) -> None:
        alerted(Alert(Severity.WARNING, "observer", text, parts.connections.clock.now_ns()))

    heartbeat = Heartbeat(parts.connections.clock, alerted, rhythm.beat_s)
    group_commit = GroupCommit(parts.write_out)
    companions: list[Companion] = [heartbeat.run, group_commit.run, *parts.companions]
    interval_ns = BarSpec.of(parts.settings.timeframe).interval_ns
    daemon = Daemon(
        parts.kernel,
        parts.journal,
        parts.connections,
        [
            Subscription(name, interval_ns, rhythm.quotes, rhythm.marks, depth=rhythm.depth)
            for name in parts.settings.symbols
        ],
        observers=[gazette, group_commit, *(Bystander(each, failed) for each in observers)],
        on_alert=alerted,
        companions=companions,
        deadline_s=seconds,
        lock_step=False,
        last_seq=parts.last_seq,
        boot=parts.boot,
    )
    desk = Desk(daemon, parts, gazette, heartbeat)
    companions.append(KillSwitch(parts.state, desk.kill, rhythm.look_every_s).run)
    if control:
        companions.append(ControlServer(socket_path(parts.state), desk.verbs()).run)
    daemon.accompany(companions)
    for note in parts.notes:
        alerted(Alert(Severity.INFO, "start", note, parts.connections.clock.now_ns()))
    ended = await daemon.run()
    status = desk.status()
    summary = {
        key: status[key] for key in ("mode", "account", "state", "latch", "uptime_s", "equity_usdt", "positions")
    }
    summary |= {"stopped": ended.reason, "records": gazette.records, "fills": gazette.fills}
    summary |= {"warnings": list(ended.warnings), "journal": status["journal"]}
    if ended.left_to_another:
        return LiveResult(summary, EXIT_NOT_OURS)
    return LiveResult(summary, EXIT_LATCHED if parts.kernel.latch is not None else 0)


class GroupCommit:
    """What need not be on disk before its effects leaves our memory soon after: ``_WRITE_OUT_S`` after a record."""

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._written = asyncio.Event()

    def __call__(self, _: Record) -> None:
        """There is something to hand over, as an observer of the inbox."""
        self._written.set()

    async def run(self) -> None:
        """Hand it over until cancelled."""
        while True:
            await self._written.wait()
            self._written.clear()
            await asyncio.sleep(_WRITE_OUT_S)
            self._flush()
