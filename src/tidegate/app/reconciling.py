"""``tidegate reconcile``: our books against the venue's, and what a start would do about it.

The kernel itself is asked: it is brought to where its journal ends, told to start, and given the venue's snapshot. What
it answers is what a daemon would do; here it is only shown. With ``apply`` a daemon does it, and leaves.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal

from tidegate.app.bootstrap_live import (
    World,
    binance_venue,
    check_key,
    live_parts,
    lock_path,
    measure_clock,
    open_access,
    public_contracts,
    recovered_kernel,
    state_folder,
    transport_of,
    try_lock,
)
from tidegate.app.config import Settings
from tidegate.app.live import run_live
from tidegate.app.tally import plain
from tidegate.domain.account import AccountSnapshot
from tidegate.domain.errors import ConfigError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import MarketEvent
from tidegate.domain.messages import (
    Adjustment,
    Command,
    Event,
    Operation,
    OperatorCommand,
    SetTimer,
    Subscription,
    TakeSnapshot,
    TimerFired,
)
from tidegate.domain.orders import ApprovedOrder, CancelOrder, QueryOrder
from tidegate.kernel.kernel import Kernel
from tidegate.kernel.lifecycle import State
from tidegate.kernel.reconciling import AGAIN_TIMER
from tidegate.ports import Clock, ExecutionVenue

_MOST_ROUNDS = 8
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Line:
    """One contract: what our books hold, what the venue says, and what is done about it."""

    instrument: str
    ours: str
    venue: str
    action: str

    def as_dict(self) -> dict[str, str]:
        """For tables and programs."""
        return asdict(self)


async def reconcile_account(settings: Settings, mode: str, world: World, *, apply: bool) -> list[Line]:
    """The lines; with ``apply`` they are carried out first seen, then done. Raises ``VenueError``, ``ConfigError``."""
    if mode == "paper":
        raise ConfigError("a paper account lives in its daemon: there is nothing to reconcile with")
    settings = settings.model_copy(update={"mode": mode})
    lines = await _shown(settings, mode, world)
    if apply:
        await _applied(settings, mode, world)
    return lines


async def _shown(settings: Settings, mode: str, world: World) -> list[Line]:
    async with open_access(settings, mode, world) as access:
        state = state_folder(settings, mode)
        try_lock(lock_path(access, state))
        await measure_clock(access, world)
        await check_key(access)
        await public_contracts(access, settings)  # names the symbol that the venue does not list
        venue = binance_venue(settings, access, transport_of(settings, world), world)
        instruments = {each.id: each for each in await venue.instruments()}
        kernel, _, _ = recovered_kernel(settings, instruments, state / "journal", world.clock.now_ns())
        before = {name: held.qty for name, held in kernel.ledger.positions.items()}
        snapshot, commands = await _rehearse(kernel, venue, world.clock)
    return _lines(settings.symbols, before, snapshot, kernel, commands)


async def _rehearse(
    kernel: Kernel, venue: ExecutionVenue, clock: Clock
) -> tuple[AccountSnapshot | None, list[Command]]:
    """Start the kernel against the venue's truth, read as often as it asks; nothing that it wants is done."""
    wanted: list[Command] = []
    queue: list[Event] = []
    newest: AccountSnapshot | None = None
    now_ns = clock.now_ns()
    queue += [OperatorCommand(operation, now_ns, now_ns) for operation in (Operation.BOOT, Operation.START)]
    rounds = 0
    while queue and rounds < _MOST_ROUNDS:
        for command in kernel.handle(queue.pop(0)):
            if isinstance(command, TakeSnapshot):
                rounds += 1
                newest = await venue.snapshot(command)
                queue.append(newest)
            elif isinstance(command, SetTimer) and command.name == AGAIN_TIMER:
                await clock.sleep_until(command.at_ns)
                queue.append(TimerFired(command.name, command.at_ns, clock.now_ns()))
            else:
                wanted.append(command)
    return newest, wanted


def _lines(
    symbols: Sequence[InstrumentId],
    before: dict[InstrumentId, Decimal],
    snapshot: AccountSnapshot | None,
    kernel: Kernel,
    commands: Sequence[Command],
) -> list[Line]:
    there: dict[InstrumentId, Decimal] = {}
    for position in snapshot.positions if snapshot is not None else ():
        there[position.instrument] = there.get(position.instrument, Decimal(0)) + position.qty
    foreign = {each.instrument for each in kernel.foreign}
    lines = []
    for name in dict.fromkeys([*symbols, *before, *there]):
        actions = [text for command in commands if (text := _action(command, name))]
        if name in foreign:
            actions.append("not ours: left alone (positions.adopt takes it over)")
        ours, venue = before.get(name, Decimal(0)), there.get(name, Decimal(0))
        lines.append(Line(name, plain(ours), plain(venue), "; ".join(actions) or "nothing"))
    return lines


def _action(command: Command, name: InstrumentId) -> str | None:
    if getattr(command, "instrument", None) != name:
        return None
    match command:
        case Adjustment():
            kind = "adopt" if command.adopted else "adjust by"
            return f"{kind} {plain(command.qty)} at {plain(command.price)}"
        case ApprovedOrder():
            at = "" if command.trigger is None else f" at {plain(command.trigger)}"
            kind, side = command.order_type.value, command.side.value
            return f"place {kind} {side} {plain(command.qty)}{at} for {command.purpose.value.lower()}"
        case CancelOrder():
            return f"cancel {command.id}"
        case QueryOrder():
            return f"ask what became of {command.id}"
        case _:
            return None


class Silence:
    """A feed that says nothing, and ends when the kernel has reconciled."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def stream(self, subscriptions: Collection[Subscription]) -> AsyncIterator[MarketEvent]:  # noqa: ARG002
        """Nothing."""
        while self._kernel.state in (State.STARTING, State.RECONCILING):  # noqa: ASYNC110  it has no bell
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)  # what was sent is answered
        for event in tuple[MarketEvent, ...]():
            yield event


async def _applied(settings: Settings, mode: str, world: World) -> None:
    """Run a daemon that sees no market until it has reconciled, and let it leave."""
    async with live_parts(settings, mode, world) as parts:
        connections = replace(parts.connections, feed=Silence(parts.kernel), warm_up=None)
        await run_live(replace(parts, connections=connections), seconds=_PATIENCE_S, control=False)
