"""``tidegate doctor`` and ``tidegate account setup``: an account and its surroundings, before trading."""

import shutil
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate.app.access import check_hosts
from tidegate.app.bootstrap_live import (
    Access,
    World,
    account_setup,
    check_key,
    lock_path,
    measure_clock,
    newest_journal,
    open_access,
    public_contracts,
    state_folder,
    symbol_setups,
    try_lock,
)
from tidegate.app.config import Settings
from tidegate.domain.errors import AlreadyRunning, ConfigError, NotAuthorised, TidegateError

_LEAST_FREE_BYTES = 1 << 30
_MOST_SKEW_S = 1.0
_MOST_ERROR_S = 0.25

OK, WRONG, UNKNOWN = "ok", "wrong", "not checkable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    verdict: str
    detail: str


@dataclass(slots=True)
class Report:
    """All findings. ``exit_code`` is 0 when nothing is wrong, 4 when the venue refuses the key, else 1."""

    findings: list[Finding] = field(default_factory=list)
    refused: bool = False

    @property
    def exit_code(self) -> int:
        """What the command leaves with."""
        if self.refused:
            return 4
        return 1 if any(each.verdict == WRONG for each in self.findings) else 0

    def rows(self) -> list[dict[str, Any]]:
        """For a table."""
        return [{"check": each.check, "verdict": each.verdict, "detail": each.detail} for each in self.findings]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {"healthy": self.exit_code == 0, "findings": self.rows()}

    def add(self, check: str, verdict: str, detail: str) -> None:
        """One more finding."""
        self.findings.append(Finding(check, verdict, detail))

    async def look(self, check: str, examine: Callable[[], Awaitable[tuple[str, str]]]) -> bool:
        """Run one examination; what it raises is what it found. True when it is not wrong."""
        try:
            verdict, detail = await examine()
        except NotAuthorised as error:
            self.refused = True
            verdict, detail = WRONG, str(error)
        except TidegateError as error:
            verdict, detail = WRONG, str(error)
        self.add(check, verdict, detail)
        return verdict != WRONG


async def examine(settings: Settings, mode: str, world: World) -> Report:
    """Everything that must be right before a daemon starts; nothing is changed."""
    report = Report()
    report.add("python", OK if sys.version_info >= (3, 11) else WRONG, sys.version.split()[0])
    state = state_folder(settings, mode)
    _disk(report, state)
    async with AsyncExitStack() as stack:

        async def opened() -> tuple[str, str]:
            check_hosts(settings, mode, settings.venue.endpoints(mode))
            access.append(await stack.enter_async_context(open_access(settings, mode, world)))
            return OK, f"{access[0].endpoints.rest}, key fingerprint {access[0].fingerprint or '(none)'}"

        access: list[Access] = []
        if not await report.look("interlocks and key", opened):
            return report
        _lock(report, access[0], state)
        if not await report.look("venue", lambda: _clock(access[0], world)):
            return report
        await report.look("contracts", lambda: _contracts(access[0], settings))
        if mode == "paper":
            return report
        await report.look("key rights", lambda: _rights(access[0]))
        await report.look("account settings", lambda: _account(access[0], settings))
    return report


def _disk(report: Report, state: Path) -> None:
    place = state
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    text = f"{free / (1 << 30):.1f} GiB free for {state}"
    report.add("disk", OK if free >= _LEAST_FREE_BYTES else WRONG, text)
    journal = newest_journal(state / "journal")
    report.add("journal", OK, "none yet: the next start is the first" if journal is None else str(journal))


def _lock(report: Report, access: Access, state: Path) -> None:
    path = lock_path(access, state)
    try:
        try_lock(path)
    except AlreadyRunning as error:
        report.add("lock", WRONG, str(error))
    else:
        report.add("lock", OK, "free")


async def _clock(access: Access, world: World) -> tuple[str, str]:
    skew_s, error_s = await measure_clock(access, world)
    text = (
        f"this clock is {-skew_s * 1000:+.0f} ms off the venue's (known to {error_s * 1000:.0f} ms); requests follow it"
    )
    return (OK if abs(skew_s) <= _MOST_SKEW_S and error_s <= _MOST_ERROR_S else WRONG), text


async def _contracts(access: Access, settings: Settings) -> tuple[str, str]:
    found = await public_contracts(access, settings)
    return OK, ", ".join(
        f"{each.id} tick {each.tick} step {each.step} from {each.min_notional} USDT" for each in found.values()
    )


async def _rights(access: Access) -> tuple[str, str]:
    notes = await check_key(access)
    return (UNKNOWN if any("not checkable" in note for note in notes) else OK), "; ".join(notes) or "no withdrawal"


async def _account(access: Access, settings: Settings) -> tuple[str, str]:
    state = await account_setup(access).read(settings.symbols)
    if state.account.multi_assets_margin:
        return WRONG, "the account is in multi-assets mode, which is not supported: switch it off"
    hedge = settings.venue.position_mode == "hedge"
    differences = state.differences(symbol_setups(settings), hedge_mode=hedge)
    if differences:
        return WRONG, "; ".join(map(str, differences)) + "; run tidegate account setup --apply"
    return OK, "leverage, margin type and position mode are as configured"


async def set_up_account(settings: Settings, mode: str, world: World, *, apply: bool) -> list[str]:
    """What differs from the configuration; with ``apply`` what still does after it was set.

    Raises ``VenueError``, ``ConfigError``.
    """
    if mode == "paper":
        raise ConfigError("a paper account lives in its daemon: there is nothing to set up")
    hedge = settings.venue.position_mode == "hedge"
    async with open_access(settings, mode, world) as access:
        await measure_clock(access, world)
        setup, wished = account_setup(access), symbol_setups(settings)
        if apply:
            return [str(each) for each in await setup.apply(wished, hedge_mode=hedge)]
        state = await setup.read(settings.symbols)
        return [str(each) for each in state.differences(wished, hedge_mode=hedge)]
