"""Every Protocol that the shell needs. Adapters implement them, ``app/bootstrap`` chooses, the kernel knows none."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tidegate.domain.account import AccountSnapshot
from tidegate.domain.ids import InstrumentId, ModelId, Nanos
from tidegate.domain.instrument import Instrument
from tidegate.domain.market import BarSpec, FundingRate, MarketEvent
from tidegate.domain.messages import (
    Alert,
    ExecutionReport,
    FitModel,
    ModelFitted,
    Record,
    SetTimer,
    Subscription,
    TakeSnapshot,
    TimerFired,
)
from tidegate.domain.orders import AmendOrder, ApprovedOrder, CancelOrder, QueryOrder
from tidegate.quant.bars import BarTable


class Clock(Protocol):
    """Where the shell reads the time; the kernel has none."""

    def now_ns(self) -> Nanos:
        """The time in nanoseconds since 1970, UTC. It can be set, and so can jump."""
        ...

    def monotonic_ns(self) -> Nanos:
        """A count of nanoseconds that never jumps: what durations are measured with."""
        ...

    async def sleep_until(self, at_ns: Nanos) -> None:
        """Return when the clock has reached ``at_ns``; at once if it has passed."""
        ...


class Timers(Protocol):
    """Answers ``SetTimer`` with ``TimerFired``: by the clock, or in the order of a simulated market."""

    def set(self, timer: SetTimer) -> None:
        """Fire ``timer`` once, not before its time; a timer of the same name is replaced."""
        ...

    def fired(self) -> AsyncIterator[TimerFired]:
        """The timers that came due, in the order of their times."""
        ...


class MarketDataFeed(Protocol):
    """A source of market events that reconnects by itself; loss appears as ``FeedGap``, never as silence."""

    def stream(self, subscriptions: Collection[Subscription]) -> AsyncIterator[MarketEvent]:
        """Market events in the order in which they became known. Ends when the feed ends.

        The next event is asked for when the last one has been handled, so a simulated feed can run in lock-step.
        """
        ...


class ExecutionVenue(Protocol):
    """Where orders go. Requests return when sent; every outcome comes through ``reports``."""

    async def instruments(self) -> Sequence[Instrument]:
        """The contracts that the venue lists for us."""
        ...

    async def snapshot(self, request: TakeSnapshot) -> AccountSnapshot:
        """The truth at start and after any doubt. Raises ``VenueError``."""
        ...

    async def submit(self, order: ApprovedOrder) -> None:
        """Send an order; what the venue says comes through ``reports``.

        Raises ``OrderNotSent``, ``OrderRefused``, ``OrderOutcomeUnknown``, or ``NotAuthorised``.
        """
        ...

    async def amend(self, order: AmendOrder) -> None:
        """Change a working order."""
        ...

    async def cancel(self, order: CancelOrder) -> None:
        """Cancel a working order."""
        ...

    async def query(self, order: QueryOrder) -> None:
        """Ask for the state of an order; the answer comes as a report."""
        ...

    async def keep_alive(self, ttl_ms: int) -> None:
        """Renew the dead man's switch: the venue cancels all orders when it is not renewed in time."""
        ...

    def reports(self) -> AsyncIterator[ExecutionReport]:
        """Everything that happens to our account, in the venue's order."""
        ...


class Journal(Protocol):
    """The append-only record of every event and its commands."""

    async def append(self, record: Record, *, durable: bool) -> None:
        """Write a record; with ``durable`` it is on disk before this returns. Raises ``JournalError``."""
        ...

    def replay(self, from_seq: int = 0) -> AsyncIterator[Record]:
        """The records from ``from_seq`` on, both streams merged by sequence number."""
        ...

    async def close(self) -> None:
        """Flush and close."""
        ...


class HistorySource(Protocol):
    """Stored market data, synchronous: for backtests, replays and warm-up. Times select bars by their open."""

    def bars(self, instrument: InstrumentId, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> Iterator[BarTable]:
        """Closed bars that open in ``[start_ns, end_ns)``, in chunks, in order. Raises ``DataError``."""
        ...

    def funding(self, instrument: InstrumentId, start_ns: Nanos, end_ns: Nanos) -> Iterator[FundingRate]:
        """Settlements in ``[start_ns, end_ns)``, their times floored to the minute; nothing when none is stored."""
        ...

    def marks(self, instrument: InstrumentId, start_ns: Nanos, end_ns: Nanos) -> Iterator[BarTable]:
        """Mark price bars that open in ``[start_ns, end_ns)``; nothing when none is stored."""
        ...


class ModelWorker(Protocol):
    """Fits models away from the loop. The same request gives the same parameters, wherever it is fitted."""

    async def fit(self, request: FitModel) -> bytes:
        """The parameters, in the model's own encoding. Raises ``ModelError``."""
        ...


class Notifier(Protocol):
    """Tells a person."""

    async def send(self, alert: Alert) -> None:
        """Deliver one alert."""
        ...


@dataclass(frozen=True, slots=True)
class BarSeries:
    """Which bars: where they came from, of what, how long. Bars that belong to a run name its account and session."""

    source: str  # binance, demo, backtest, file
    instrument: InstrumentId
    bar: BarSpec
    account_id: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class BarGap:
    """Bars that the grid has and the series has not: the open of the first one, and how many."""

    open_ns: Nanos
    bars: int


@dataclass(frozen=True, slots=True)
class BarCoverage:
    """What is stored of a series: first and last open, bars, gaps between them and the bars missing there."""

    series: BarSeries
    first_open_ns: Nanos
    last_open_ns: Nanos
    bars: int
    gaps: int
    missing: int


class BarRepository(Protocol):
    """Stored bars. Times select bars by their open, as in ``HistorySource``. Raises ``DatabaseError``."""

    async def save(self, series: BarSeries, tables: Iterable[BarTable]) -> int:
        """Store bars, all or none, and return how many were handed over.

        A bar that is there already is overwritten, so the same bars saved twice stand once. What ``tables`` raises on
        the way is passed on, and nothing is stored.
        """
        ...

    async def load(self, series: BarSeries, start_ns: Nanos, end_ns: Nanos) -> BarTable:
        """Bars that open in ``[start_ns, end_ns)``, in order; an empty table when there is none."""
        ...

    async def latest(self, instrument: InstrumentId, bar: BarSpec, count: int, source: str | None = None) -> BarTable:
        """The last ``count`` bars in order, of the series whose last bar is the newest (of one source, if named)."""
        ...

    async def gaps(self, series: BarSeries, start_ns: Nanos, end_ns: Nanos) -> list[BarGap]:
        """The gaps between the stored bars that open in ``[start_ns, end_ns)``."""
        ...

    async def coverage(self) -> list[BarCoverage]:
        """All series, in the order of source, instrument, interval, account, session."""
        ...

    async def delete(self, series: BarSeries, start_ns: Nanos, end_ns: Nanos) -> int:
        """Remove the bars that open in ``[start_ns, end_ns)`` and return how many there were."""
        ...

    async def roll_up(self, series: BarSeries, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> int:
        """Make the longer bars that open in ``[start_ns, end_ns)`` out of stored ones, and return how many.

        Only those of which no shorter bar is missing; run again, it overwrites. Raises ``ValueError`` when ``bar`` is
        no whole multiple of the interval of ``series``.
        """
        ...


Row = Mapping[str, Any]
"""One row of a table by the names of its columns: text for enums, ``Decimal`` for money, Python objects for JSON.

``ts`` (a datetime in UTC) may be left out where there is ``ts_ns``: it follows from it.
"""


class TradingRepository(Protocol):
    """A projection of the journal into tables, written off the hot path. Raises ``DatabaseError``.

    Names of tables and columns are those of the database; ``docs/database.md`` lists them. Queries answer with rows in
    the order of time unless they say otherwise. Where a query takes ``session_id``, None is every session.
    """

    async def begin_session(self, session: Row) -> None:
        """Add a row of ``sessions``; one that is there already stays as it is."""
        ...

    async def cursor(self, account_id: str, session_id: str) -> tuple[int, bytes | None]:
        """How far the session is projected and the projector's state there. Raises ``DataError`` for no session."""
        ...

    async def latest_state(self, account_id: str, realm: str) -> tuple[str, int, bytes] | None:
        """Session, sequence number and state of the realm's last projected session: where its books go on from."""
        ...

    async def write(
        self,
        account_id: str,
        session_id: str,
        rows: Mapping[str, Sequence[Row]],
        projected_seq: int,
        state: bytes,
        *,
        after_seq: int,
    ) -> None:
        """Store rows by table and move the cursor from ``after_seq`` to ``projected_seq``, in one transaction.

        Facts that are there already stay; whole rows of ``orders`` and ``positions`` overwrite, the last one of a key
        wins. Raises ``ProjectionMoved`` when the cursor is not at ``after_seq``: another projector was here.
        """
        ...

    async def known_trade_ids(self, account_id: str, realm: str, symbol: str, ids: Collection[int]) -> set[int]:
        """Those of ``ids`` that are stored as fills."""
        ...

    async def delete_session(self, account_id: str, session_id: str) -> int:
        """Remove every row of a session, its own included, to project it anew; returns how many."""
        ...

    async def save_rows(self, table: str, rows: Sequence[Row]) -> int:
        """Insert or overwrite rows by their keys, all or none; returns how many were handed over."""
        ...

    async def get_row(self, table: str, key: Row) -> dict[str, Any] | None:
        """The row with this whole primary key."""
        ...

    async def list_rows(self, table: str, where: Row, limit: int = 1000) -> list[dict[str, Any]]:
        """Rows whose columns equal those of ``where``, in the order of the primary key."""
        ...

    async def delete_rows(self, table: str, where: Row) -> int:
        """Remove the rows whose columns equal those of ``where``; returns how many. An empty ``where`` is refused."""
        ...

    async def sessions(self, account_id: str | None = None) -> list[dict[str, Any]]:
        """Sessions, the newest first, without the projector's state."""
        ...

    async def open_positions(self, account_id: str) -> list[dict[str, Any]]:
        """Positions whose quantity is not zero, by symbol."""
        ...

    async def open_orders(self, account_id: str, symbol: str | None = None) -> list[dict[str, Any]]:
        """Orders that may still trade, by symbol."""
        ...

    async def orders_in_state(self, account_id: str, state: str, limit: int = 1000) -> list[dict[str, Any]]:
        """Orders in one state, the newest first."""
        ...

    async def orders_since(self, account_id: str, since_ns: Nanos, limit: int = 1000) -> list[dict[str, Any]]:
        """Orders created at or after ``since_ns``."""
        ...

    async def orders_of_parent(self, account_id: str, session_id: str, parent_id: str) -> list[dict[str, Any]]:
        """The slices of a parent order."""
        ...

    async def parent_orders_since(self, account_id: str, since_ns: Nanos, limit: int = 1000) -> list[dict[str, Any]]:
        """Parent orders that began at or after ``since_ns``."""
        ...

    async def fills_since(
        self, account_id: str, since_ns: Nanos, symbol: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """Fills at or after ``since_ns``."""
        ...

    async def fills_of_order(self, account_id: str, client_order_id: str) -> list[dict[str, Any]]:
        """The fills of one order."""
        ...

    async def trades_closed(
        self, account_id: str, start_ns: Nanos, end_ns: Nanos, symbol: str | None = None
    ) -> list[dict[str, Any]]:
        """Round trips closed in ``[start_ns, end_ns)``."""
        ...

    async def equity_curve(
        self, account_id: str, start_ns: Nanos, end_ns: Nanos, session_id: str | None = None
    ) -> list[dict[str, Any]]:
        """Rows of ``portfolios`` in ``[start_ns, end_ns)``."""
        ...

    async def latest_risk(self, account_id: str, count: int = 1) -> list[dict[str, Any]]:
        """The last rows of ``risk_metrics``, the newest first."""
        ...

    async def performance(
        self, account_id: str, start_ns: Nanos, end_ns: Nanos, strategy: str | None = None
    ) -> list[dict[str, Any]]:
        """Sums of ``strategy_performances`` with ``ts_ns`` in ``[start_ns, end_ns)``.

        By strategy, symbol and scenario: ``price_pnl fees funding slippage turnover fills`` and ``net_pnl``, which is
        ``price_pnl - fees + funding`` (slippage is inside the prices already).
        """
        ...

    async def income_since(self, account_id: str, since_ns: Nanos, limit: int = 1000) -> list[dict[str, Any]]:
        """Lines of income at or after ``since_ns``."""
        ...

    async def money_by_day(self, account_id: str, start_ns: Nanos, end_ns: Nanos) -> list[dict[str, Any]]:
        """What moved the wallet, by UTC day, realm, asset and kind: ``day_ns realm asset kind amount``.

        Kinds are ``REALISED_PNL`` and ``FEE`` (of fills; a fee is negative), ``FUNDING``, and those of the lines of
        income. Their sum over all kinds is the change of the wallet.
        """
        ...

    async def wallet_at(self, account_id: str, asset: str, ts_ns: Nanos) -> dict[str, Any] | None:
        """The last word of the venue about a wallet at or before ``ts_ns``."""
        ...

    async def funding_since(
        self, account_id: str, since_ns: Nanos, symbol: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """Funding payments at or after ``since_ns``."""
        ...

    async def regimes_since(self, account_id: str, since_ns: Nanos, limit: int = 1000) -> list[dict[str, Any]]:
        """Regimes that began at or after ``since_ns``."""
        ...

    async def audit_since(
        self,
        account_id: str,
        since_ns: Nanos,
        *,
        kind: str | None = None,
        subject: str | None = None,
        limit: int = 1000,
    ) -> list[dict[str, Any]]:
        """Lines of the audit trail at or after ``since_ns``."""
        ...


class ModelRepository(Protocol):
    """The fits of models. Raises ``DatabaseError``."""

    async def save(self, account_id: str, session_id: str, fit: ModelFitted, seq: int) -> None:
        """Store a fit; one of the same session, model and activation stays as it is."""
        ...

    async def latest(self, account_id: str, model: ModelId, at_ns: Nanos) -> ModelFitted | None:
        """The fit that was activated last at or before ``at_ns``."""
        ...
