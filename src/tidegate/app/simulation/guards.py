"""What guards the daemon against each fault, and how to take it away in the running process.

A guard is named by where it stands (``module:Class.attribute``) and by what stands there when it is gone. Taken away,
the fault must be noticed by an oracle: the proof that it is the guard that saves us, and not luck. Where several layers
guard against one fault all of them have to go; the name of the guard says so.
"""

import asyncio
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tidegate.domain.errors import OrderRefused, VenueError
from tidegate.domain.orders import OrderCanceled

_BINANCE: Final = "tidegate.adapters.binance."
_KERNEL: Final = "tidegate.kernel."

Swap = tuple[str, Callable[[Any], Any]]
"""Where, and what makes the replacement out of the original."""


@dataclass(frozen=True, slots=True)
class Guard:
    """``name`` in words; ``swaps`` are what is put in its place while it is removed."""

    name: str
    swaps: tuple[Swap, ...]


@contextmanager
def removed(guard: Guard) -> Iterator[None]:
    """Run the block without the guard. Raises ``LookupError`` when it is not where it is said to be."""
    undo: list[tuple[Any, str, Any]] = []
    try:
        for where, make in guard.swaps:
            owner, name, original = _found(where)
            undo.append((owner, name, original))
            setattr(owner, name, make(original))
        yield
    finally:
        for owner, name, original in reversed(undo):
            setattr(owner, name, original)


def _found(where: str) -> tuple[Any, str, Any]:
    module, _, path = where.partition(":")
    *classes, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in classes:
        owner = getattr(owner, each)
    if name not in vars(owner):
        raise LookupError(f"guard: {where} is not there")
    return owner, name, vars(owner)[name]


# ---- what stands in place of guards -------------------------------------------------------------------------------


def _always(value: Any) -> Callable[[Any], Any]:
    """Say ``value``, whatever is asked."""

    def make(_: Any) -> Any:
        return lambda *_args, **_named: value

    return make


_nothing: Final = _always(None)


def _forever(_: Any) -> Any:
    async def wait(*_args: Any, **_named: Any) -> None:
        await asyncio.Event().wait()

    return wait


def _gone(_: Any) -> Any:
    """An order that is asked for is taken for cancelled."""

    async def query(self: Any, order: Any) -> None:
        now_ns = self._clock.now_ns()
        self._emit(OrderCanceled(order.id, order.instrument, now_ns, now_ns))

    return query


def _resent(original: Any) -> Any:
    async def place(self: Any, order: Any, sending: Any) -> Any:
        for _ in range(2):
            try:
                return await original(self, order, sending)
            except VenueError as error:
                if type(error).__name__ != "Unknown":
                    raise
        return await original(self, order, sending)

    return place


def _refused(original: Any) -> Any:
    def failure(self: Any, error: VenueError) -> VenueError:
        if type(error).__name__ == "Unknown":
            return OrderRefused("-1", "taken for refused", "OTHER")
        found: VenueError = original(self, error)
        return found

    return failure


def _once_an_order(original: Any) -> Any:
    """Executions told apart by their order instead of by their own id."""

    def on_fill(self: Any, fill: Any) -> Any:
        order = self._trading.blotter.find(fill.id)
        return () if order is not None and order.filled else original(self, fill)

    return on_fill


def _twice(original: Any) -> Any:
    """Every execution is new, however often it is told."""

    def fill(self: Any, report: Any) -> bool:
        self.trade_ids.discard(report.trade_id)
        told: bool = original(self, report)
        return told

    return fill


def _forgetful(original: Any) -> Any:
    def add(self: Any, trade_id: int) -> bool:
        original(self, trade_id)
        return True

    return add


def _back_to(original: Any) -> Any:
    """An acknowledgement sets an order to working, whatever has happened to it before."""

    def apply(self: Any, report: Any) -> bool:
        told: bool = original(self, report)
        if type(report).__name__ == "OrderAccepted" and self.state.name == "FILLED":
            self.state = type(self.state).WORKING
        return told

    return apply


def _only_ours(original: Any) -> Any:
    def order(self: Any, event: Any, recv_ns: int) -> None:
        if (event.order.client_id or "").startswith("p1-"):
            original(self, event, recv_ns)

    return order


def _deaf_to(name: str) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def receive(self: Any, link: Any, event: Any) -> None:
            if type(event).__name__ != name:
                original(self, link, event)

        return receive

    return make


def _once(original: Any) -> Any:
    """A connection is made once, and never again."""

    async def run(self: Any) -> None:
        limit = self._delay_s
        self._delay_s = lambda _failures: 1e9
        try:
            await original(self)
        finally:
            self._delay_s = limit

    return run


def _believed(original: Any) -> Any:
    """Diffs follow on one another whatever they say."""

    def apply(self: Any, first_id: int, last_id: int, previous_id: int, bids: Any, asks: Any) -> Any:
        previous = self.last_id if self._joined else previous_id
        return original(self, first_id, last_id, previous, bids, asks)

    return apply


def _any_quote(original: Any) -> Any:
    def best(instrument: str, ts_ms: int, recv_ns: int, bid: Any, ask: Any) -> Any:
        made = original(instrument, ts_ms, recv_ns, (1.0, 1.0), (2.0, 1.0))
        return type(made)(made.instrument, made.ts_ns, made.recv_ns, bid[0], ask[0], bid[1], ask[1])

    return best


def _as_it_comes(_: Any) -> Any:
    """Bars go on as they come: doubles, holes and all."""

    def bar(self: Any, bar: Any, _now_ns: int) -> None:
        self.last_ts_ns = max(self.last_ts_ns, bar.ts_ns)
        self._emit(bar)

    return bar


def _unsorted(_: Any) -> Any:
    async def stream(self: Any, subscriptions: Any) -> Any:
        async for event in self._feed.stream(subscriptions):
            yield event

    return stream


def _ordinary(original: Any) -> Any:
    """A stop is doubted like any other order."""

    def doubt(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.conditional = False

    return doubt


def _accepted(_: Any) -> Any:
    def item(self: Any, order: Any, sending: Any, row: Any) -> None:
        """Whatever an item says, it is taken for an acceptance."""

    return item


_RESEND: Final[Swap] = (f"{_BINANCE}order_sender:OrderSender.place", _resent)
_TAKEN_FOR_REFUSED: Final[Swap] = (f"{_BINANCE}order_entry:Sending.failure", _refused)
_UNRESOLVED: Final[Swap] = (f"{_KERNEL}resolving:Resolving.doubt", _nothing)
_NO_PROOF: Final[Swap] = (f"{_KERNEL}resolving:Resolving._proof_ns", _always(0))
_DEAF_STALE: Final[Swap] = (f"{_KERNEL}kernel:Kernel._on_feed_state", _always(()))
_NO_AUDIT: Final[Swap] = (f"{_KERNEL}reconciling:Reconciling.on_audit", _nothing)
_BOOKED_ONCE: Final[tuple[Swap, ...]] = (
    ("tidegate.portfolio.positions:PositionManager.is_booked", _always(False)),
    ("tidegate.portfolio.positions:Booked.add", _forgetful),
    ("tidegate.domain.orders:Order._fill", _twice),
)
_STREAM: Final = f"{_BINANCE}user_stream:UserStream"
_NO_SUSPICION: Final[tuple[Swap, ...]] = ((f"{_STREAM}.suspect", _nothing), (f"{_STREAM}._probe", _forever))
_NO_SILENCE: Final[tuple[Swap, ...]] = (
    (f"{_BINANCE}feed_channel:Channel.silent_at_ns", _always(None)),
    (f"{_BINANCE}freshness:Watch.stale_at_ns", _always(None)),
)
_RAW_BARS: Final[tuple[Swap, ...]] = (
    (f"{_BINANCE}bar_feed:BarKeeper.bar", _as_it_comes),
    (f"{_BINANCE}bar_feed:BarKeeper.missing", _always(None)),
    ("tidegate.app.live:Seamless.stream", _unsorted),
)

_NEVER_AGAIN = "an order whose outcome is not known is never sent again"
_ASKED_FOR = "an order whose outcome is not known is asked for until it is known"
_UNCLEAR = "an answer that says nothing certain is taken for unknown, not for refused"
_SILENCE_COUNTS = "a stream without payload is dead, whatever its socket says"

GUARDS: Final[dict[str, Guard]] = {
    "N01": Guard(_NEVER_AGAIN, (_RESEND,)),
    "N02": Guard("no entry while data are stale, a burst of old ones included", (_DEAF_STALE,)),
    "N03": Guard(f"{_SILENCE_COUNTS} (market and user streams)", (*_NO_SILENCE, *_NO_SUSPICION)),
    "N04": Guard(_NEVER_AGAIN, (_RESEND,)),
    "N05": Guard("sent or not is told by the bytes that left; what was sent is unknown", (_TAKEN_FOR_REFUSED,)),
    "N06": Guard(_UNCLEAR, (_TAKEN_FOR_REFUSED,)),
    "N07": Guard(
        "a connection that brings nonsense is replaced",
        ((f"{_BINANCE}ws:ManagedConnection.run", _once), (f"{_STREAM}._backoff_s", _always(1e9))),
    ),
    "N08": Guard("what was told already is dropped (in the feed and before the kernel)", _RAW_BARS),
    "V01": Guard(_NEVER_AGAIN, (_RESEND,)),
    "V02": Guard(_ASKED_FOR, (_UNRESOLVED,)),
    "V03": Guard(_NEVER_AGAIN, (_RESEND,)),
    "V04": Guard(_ASKED_FOR, (_UNRESOLVED,)),
    "V05": Guard("not found proves nothing before fence and grace", (_NO_PROOF,)),
    "V06": Guard(
        "an order that rises after its fence is adopted, told, and taken off again",
        ((f"{_KERNEL}reports:Reports._fence_broken", _nothing),),
    ),
    "V07": Guard(
        "what reduces is tried again, sized from what is held then",
        ((f"{_KERNEL}reports:Reports._retry_later", _nothing),),
    ),
    "V08": Guard(_UNCLEAR, (_TAKEN_FOR_REFUSED,)),
    "V09": Guard(
        "a rate limit silences us until it is over",
        ((f"{_BINANCE}limits:Governor.limited", _nothing), (f"{_BINANCE}limits:Governor.ban", _nothing)),
    ),
    "V10": Guard("streams that were cut are opened again", ((f"{_STREAM}._backoff_s", _always(1e9)),)),
    "V11": Guard(
        "not found proves nothing before fence and grace, for a stop never",
        (_NO_PROOF, (f"{_KERNEL}resolving:Doubt.__init__", _ordinary)),
    ),
    "V12": Guard(
        "an order that the venue does not know at its cancel is asked for, not taken for gone",
        ((f"{_BINANCE}venue:BinanceVenue.query", _gone),),
    ),
    "V13": Guard(
        "executions are booked one by one, by their own ids",
        ((f"{_KERNEL}reports:Reports.on_fill", _once_an_order), _NO_AUDIT),
    ),
    "V14": Guard(
        "each item of a batch has an answer of its own", ((f"{_BINANCE}venue:BinanceVenue._item", _accepted),)
    ),
    "U01": Guard(
        "the end of a listen key is heard, and silence is looked into",
        ((f"{_STREAM}._receive", _deaf_to("ListenKeyExpired")), *_NO_SUSPICION),
    ),
    "U02": Guard("a silent user stream is asked for a word, and each acknowledgement for its event", _NO_SUSPICION),
    "U03": Guard("a listen key that is gone ends the stream, and silence is looked into", _NO_SUSPICION),
    "U04": Guard("an execution is booked once, by its id", _BOOKED_ONCE),
    "U05": Guard("a state only moves forward", (("tidegate.domain.orders:Order.apply", _back_to),)),
    "U06": Guard("an execution is booked once, by its id", _BOOKED_ONCE),
    "U07": Guard(
        "executions of the venue's own orders are booked (from the stream and by audit)",
        ((f"{_BINANCE}user_events_handler:UserEventHandler._order", _only_ours), _NO_AUDIT),
    ),
    "U08": Guard(
        "each acknowledgement waits for its event, and the audit for what both have missed",
        ((f"{_STREAM}.expect", _nothing), _NO_AUDIT),
    ),
    "U09": Guard(
        "the child of a stop is told under the stop's name, and the end of a stop is asked for",
        (
            (f"{_BINANCE}order_names:OrderNames.triggered", _nothing),
            (f"{_BINANCE}user_events_handler:UserEventHandler._algo", _nothing),
            (f"{_BINANCE}user_events_handler:UserEventHandler._candidates", _always([])),
            _NO_AUDIT,
        ),
    ),
    "U10": Guard(
        "executions of orders that are not ours are booked (from the stream and by audit)",
        ((f"{_BINANCE}user_events_handler:UserEventHandler._order", _only_ours), _NO_AUDIT),
    ),
    "B01": Guard(
        "every diff names the one before it, and a crossed book is none",
        (
            ("tidegate.domain.book:OrderBook.apply", _believed),
            ("tidegate.domain.book:OrderBook._crossed", _always(False)),
        ),
    ),
    "B02": Guard(
        "a quote that contradicts itself is refused, and a price beyond belief",
        (
            (f"{_BINANCE}market_translate:_best", _any_quote),
            (f"{_BINANCE}market_routes:PriceGuard.check", _nothing),
        ),
    ),
    "B03": Guard(
        f"{_SILENCE_COUNTS}; the same payload again is silence",
        _NO_SILENCE,
    ),
    "B04": Guard("no entry while a family is stale", (_DEAF_STALE,)),
    "B05": Guard("missing bars are fetched, known ones dropped (in the feed and before the kernel)", _RAW_BARS),
    "B06": Guard(
        "payments are read from the income list (after the event and with every full reading)",
        (
            (f"{_BINANCE}money:IncomeWatch.changed", _nothing),
            (f"{_KERNEL}reconciling:Reconciling.book_income", _nothing),
        ),
    ),
}
"""The guard of every fault."""
