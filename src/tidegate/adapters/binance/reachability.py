"""Whether the venue can be reached, told once per change: its order entry, and the stream of our account."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from tidegate.adapters.binance.background import Background
from tidegate.adapters.binance.errors import Banned, NotSent, Unknown
from tidegate.adapters.binance.limits import Lane
from tidegate.adapters.binance.rest import BinanceRest
from tidegate.domain.errors import VenueError
from tidegate.domain.messages import VenueState, VenueStatus
from tidegate.ports import Clock

_FIRST_S: Final = 0.5
_LAST_S: Final = 10.0


class Reachability:
    """DOWN when the first of its parts is lost, UP when the last is back. A failed request is followed by a probe."""

    def __init__(
        self, rest: BinanceRest, clock: Clock, emit: Callable[[VenueStatus], None], background: Background
    ) -> None:
        self._rest, self._clock, self._emit, self._background = rest, clock, emit, background
        self._lost: dict[str, str] = {}
        self._probing = False

    def lost(self, part: str, detail: str, state: VenueState = VenueState.DOWN) -> None:
        """``part`` cannot be reached; a refusal is told each time."""
        first = not self._lost
        self._lost[part] = detail
        if first or state is VenueState.REFUSED:
            self._tell(state, detail)

    def back(self, part: str, detail: str) -> None:
        """``part`` is there again."""
        self._lost.pop(part, None)
        if not self._lost:
            self._tell(VenueState.UP, detail)

    def failed(self, error: VenueError) -> None:
        """A request failed: a ban is waited for, silence is looked into."""
        if isinstance(error, NotSent | Unknown | Banned) and not self._probing:
            self._probing = True
            self._background.spawn(self._probe(error))

    async def _probe(self, error: VenueError) -> None:
        wait_s = _FIRST_S
        while True:
            if isinstance(error, Banned):
                self.lost("rest", str(error))
                await asyncio.sleep(max(error.until_ns - self._rest.clock.now_ns(), 0) / 1e9 + _FIRST_S)
            try:
                await self._rest.get("/fapi/v1/ping", answer=msgspec.Raw, weight=1, lane=Lane.CANCEL, timeout_s=3.0)
            except VenueError as found:
                error = found
                self.lost("rest", str(error))
            else:
                break
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LAST_S)
        self._probing = False
        if "rest" in self._lost:
            self.back("rest", "order entry answers again")

    def _tell(self, state: VenueState, detail: str) -> None:
        now_ns = self._clock.now_ns()
        self._emit(VenueStatus(state, detail, now_ns, now_ns))
