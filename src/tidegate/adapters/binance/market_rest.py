"""Market data over REST: typed answers, and closed bars by the page."""

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from tidegate.adapters.binance.market_schemas import Counters, KlineRow, decoder
from tidegate.adapters.binance.market_translate import INTERVAL_NAMES, MS_NS, row_bar
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import Bar

T = TypeVar("T")
PAGE_BARS: Final = 1500
_DECODERS: Final[dict[Any, "msgspec.json.Decoder[Any]"]] = {}


class MarketRest(Protocol):
    """What the feed needs of the REST client: a read that waits for its weight and retries by itself."""

    async def get(self, path: str, params: Sequence[tuple[str, str]] = (), *, answer: type[T], weight: int) -> T:
        """The answer, decoded into ``answer``. Raises ``VenueError`` when there is none."""
        ...


async def fetch(rest: MarketRest, path: str, params: Sequence[tuple[str, str]], kind: type[T], weight: int) -> T:
    """An answer with its quoted numbers read as numbers. Raises ``VenueError``, and ``DataError`` for another shape."""
    raw = await rest.get(path, params, answer=msgspec.Raw, weight=weight)
    reader = _DECODERS.get(kind)
    if reader is None:
        reader = _DECODERS[kind] = decoder(kind)
    try:
        found: T = reader.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not what the venue answers: {error}") from None
    return found


def bars_weight(limit: int) -> int:
    """What a request for so many bars costs."""
    for below, weight in ((100, 1), (500, 2), (1001, 5)):
        if limit < below:
            return weight
    return 10


async def closed_bars(
    rest: MarketRest,
    instrument: InstrumentId,
    interval_ns: Nanos,
    start_ns: Nanos,
    end_ns: Nanos,
    venue_now_ns: Nanos,
    recv_ns: Nanos,
    counters: Counters,
) -> list[Bar]:
    """One page: the closed bars that open in ``[start_ns, end_ns)``, in order, 1500 at most.

    A row whose close lies at or after the venue's time is still open and left out; one that contradicts itself too,
    and is counted. Raises ``VenueError`` or ``DataError`` when there is no answer.
    """
    limit = max(1, min(PAGE_BARS, -(-(end_ns - start_ns) // interval_ns)))
    params = (
        ("symbol", instrument),
        ("interval", INTERVAL_NAMES[interval_ns]),
        ("startTime", str(start_ns // MS_NS)),
        ("endTime", str(end_ns // MS_NS - 1)),
        ("limit", str(limit)),
    )
    rows = await fetch(rest, "/fapi/v1/klines", params, list[KlineRow], bars_weight(limit))
    bars: list[Bar] = []
    for row in rows:
        if row[6] * MS_NS >= venue_now_ns or not start_ns <= row[0] * MS_NS < end_ns:
            continue
        try:
            bar = row_bar(instrument, interval_ns, row, recv_ns)
        except DataError:
            counters.add("bar refused")
            continue
        if not bars or bar.ts_ns > bars[-1].ts_ns:
            bars.append(bar)
    return bars
