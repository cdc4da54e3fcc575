"""What happened to a symbol in the last 24 hours."""

from dataclasses import dataclass
from typing import Final

from tidegate.adapters.localnet.line import Line

_DAY_MINUTES: Final = 1_440
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class DayStats:
    """A rolling day. Prices and volumes as the wire says them, times in ms."""

    change: str
    change_percent: str
    weighted: str
    last: str
    last_qty: str
    open: str
    high: str
    low: str
    volume: str
    quote_volume: str
    open_ms: int
    close_ms: int
    first_id: int
    last_id: int
    count: int

    @classmethod
    def of(cls, line: Line, now_ms: int) -> "DayStats":
        """The day that ends now, from one-minute candles."""
        rows = line.candles.rows("1m", _DAY_MINUTES)
        price, qty = line.tick_grid.text_of, line.step_grid.text_of
        opened, last = float(rows[0, 1]), line.tick_grid.value(line.last)
        volume, quote = float(rows[:, 5].sum()), float(rows[:, 7].sum())
        count = int(rows[:, 8].sum())
        newest = line.trades[-1]
        return cls(
            change=price(last - opened),
            change_percent=f"{(last / opened - 1) * 100:.3f}",
            weighted=price(quote / volume if volume else last),
            last=line.tick_grid.text(line.last),
            last_qty=line.step_grid.text(newest.qty),
            open=price(opened),
            high=price(float(rows[:, 2].max())),
            low=price(float(rows[:, 3].min())),
            volume=qty(volume),
            quote_volume=f"{quote:.2f}",
            open_ms=now_ms - _DAY_MS,
            close_ms=now_ms,
            first_id=max(0, newest.id - count + 1),
            last_id=newest.id,
            count=count,
        )
