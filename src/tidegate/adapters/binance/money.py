"""Money that moves outside of executions, and what a fee in another asset is worth."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from tidegate.adapters.binance.account_schemas import PriceRow
from tidegate.adapters.binance.account_translate import MS, QUOTE_ASSET
from tidegate.adapters.binance.background import Background
from tidegate.adapters.binance.limits import Lane
from tidegate.adapters.binance.order_names import Remembered
from tidegate.adapters.binance.rest import BinanceRest
from tidegate.domain.account import FundingPaid, Income, Transfer
from tidegate.domain.errors import VenueError
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.ports import Clock

Line = FundingPaid | Transfer | Income

_DELAYS_S: Final = (1.0, 2.0, 5.0, 10.0)
_EARLIER_MS: Final = 5_000
_FRESH_NS: Final = 60 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A line that must appear: a funding fee (of one contract, where the venue names it), or any other."""

    funding: bool
    instrument: InstrumentId | None
    from_ns: Nanos

    def is_met_by(self, line: Line) -> bool:
        if isinstance(line, FundingPaid) is not self.funding or line.ts_ns < self.from_ns:
            return False
        return self.instrument is None or getattr(line, "instrument", None) == self.instrument


class IncomeWatch:
    """Books nothing from the event that a wallet has changed: it fetches the lines that say by how much, and why.

    ``read`` gives the lines from a venue time (ms) on, ``emit`` takes each new one once. The list lags behind the
    event, so it is asked after 1, 2, 5 and 10 s; ``missed`` hears when a line did not appear (the hourly audit reads
    it then).
    """

    def __init__(
        self,
        read: Callable[[int], Awaitable[Sequence[Line]]],
        emit: Callable[[Line], None],
        missed: Callable[[str], None],
        background: Background,
    ) -> None:
        self._read, self._emit, self._missed, self._background = read, emit, missed, background
        self._told: Remembered[str, None] = Remembered()
        self._awaited: list[_Awaited] = []
        self._busy = False
        self._tries = 0

    def changed(self, reason: str, symbol: str | None, at_ms: int) -> None:
        """The venue says that a wallet has changed for ``reason`` at ``at_ms``."""
        instrument = InstrumentId(symbol) if symbol else None
        self._awaited.append(_Awaited(reason == "FUNDING_FEE", instrument, (at_ms - _EARLIER_MS) * MS))
        self._tries = 0
        if not self._busy:
            self._busy = True
            self._background.spawn(self._follow())

    async def _follow(self) -> None:
        while self._awaited and self._tries < len(_DELAYS_S):
            delay_s = _DELAYS_S[self._tries]
            self._tries += 1
            await asyncio.sleep(delay_s)
            try:
                lines = await self._read(min(each.from_ns for each in self._awaited) // MS)
            except VenueError:
                continue
            for line in lines:
                self._tell(line)
            self._awaited = [each for each in self._awaited if not any(map(each.is_met_by, lines))]
        if self._awaited:
            self._missed(f"{len(self._awaited)} changes of the wallet have no line in the income list yet")
            self._awaited.clear()
        self._busy = False

    def _tell(self, line: Line) -> None:
        if line.line not in self._told:
            self._told.put(line.line, None)
            self._emit(line)


class FeePrices:
    """What one unit of an asset costs in USDT, as last read; asked for anew when it is older than a minute."""

    def __init__(self, rest: BinanceRest, clock: Clock, background: Background) -> None:
        self._rest, self._clock, self._background = rest, clock, background
        self._prices: dict[str, tuple[Nanos, Decimal | None]] = {}

    def of(self, asset: str) -> Decimal | None:
        """The last known price; ``None`` before the first is there, or when there is none."""
        known = self._prices.get(asset)
        now_ns = self._clock.monotonic_ns()
        if known is None or now_ns - known[0] > _FRESH_NS:
            self._prices[asset] = now_ns, known[1] if known else None
            self._background.spawn(self.refresh(asset))
        return known[1] if known else None

    async def refresh(self, asset: str) -> None:
        """Read the price; what cannot be read stays as it was."""
        params = (("symbol", f"{asset}{QUOTE_ASSET}"),)
        try:
            row = await self._rest.get(
                "/fapi/v2/ticker/price", params, answer=PriceRow, weight=1, lane=Lane.HISTORY, timeout_s=3.0
            )
        except VenueError:
            return
        if row.price:
            self._prices[asset] = self._clock.monotonic_ns(), row.price
