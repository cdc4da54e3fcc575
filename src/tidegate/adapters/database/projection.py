"""The projection: a pure fold from journal records to rows of the tables. No I/O, no clock.

1. A record goes through the books (``books``): what it booked becomes facts (fills, payments, lines of income, round
   trips), what it moved becomes states (orders, positions).
2. A bar is a row of market data; when all contracts that trade have theirs, or their time is over, the close makes one
   row of the portfolio and one of its risk (``closes``).
3. What a person asks for later goes to the audit trail: words of the operator, halts, alerts, refusals, decisions on a
   target, adjustments, regimes.
4. ``take`` hands over the rows that were made since the last time; ``dump`` is everything needed to go on from here, in
   this session or in the next one of the same books.

The same records make the same rows, however they are cut into batches and wherever a dump was loaded in between.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zlib import compress, decompress

import msgspec

from tidegate.adapters.database.books import Books, BooksState, Entry, Opening
from tidegate.adapters.database.closes import Closes, ClosesState, Made
from tidegate.adapters.database.rows import stamp
from tidegate.domain.account import AccountSnapshot, FundingPaid, Income, Transfer
from tidegate.domain.errors import DataError
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.ledger import CENT, EXACT, ROUNDED, ZERO
from tidegate.domain.market import INTERVALS_NS, Bar, InstrumentStatus
from tidegate.domain.messages import (
    Adjustment,
    Alert,
    Command,
    Halt,
    ModelFitted,
    OperatorCommand,
    Record,
    Severity,
    TimerFired,
)
from tidegate.domain.orders import (
    ApprovedOrder,
    Order,
    OrderAmended,
    OrderFilled,
    ParentOrder,
    Purpose,
    Side,
)
from tidegate.domain.round_trips import RoundTrip, RoundTrips, exit_reason
from tidegate.domain.signals import BookRisk, Decision, RegimeChanged, StrategyResult
from tidegate.execution.blotter import KEPT_CLOSED
from tidegate.portfolio.positions import QUOTE_ASSET

__all__ = ["Projection", "SessionInfo"]

VERSION = 1
_INTERVAL_NAMES = {ns: name for name, ns in INTERVALS_NS.items()}

_NOTED = frozenset((AccountSnapshot, OperatorCommand, TimerFired, InstrumentStatus, ModelFitted))

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One start of a demo, a backtest or a daemon. ``realm`` says which executions are the same (see ``tables``);
    ``live`` that the kernel reconciles with a real venue, and that the books go on from session to session."""

    account_id: str
    session_id: str
    realm: str
    mode: str
    gen: int
    started_ns: Nanos
    configuration: dict[str, Any]
    configuration_sha256: str
    journal: str | None
    interval_ns: Nanos
    instruments: tuple[InstrumentId, ...]
    source: str
    live: bool

    def row(self) -> dict[str, Any]:
        """The row of ``sessions``, before anything is projected."""
        return {
            "account_id": self.account_id,
            "session_id": self.session_id,
            "realm": self.realm,
            "mode": self.mode,
            "gen": self.gen,
            "started_at": stamp(self.started_ns),
            "configuration_sha256": self.configuration_sha256,
            "configuration": self.configuration,
            "journal": self.journal,
            "projected_seq": 0,
            "projector": None,
        }


@dataclass(slots=True)
class _Sent:
    """What the row of an order has besides the order itself."""

    session_id: str
    seq: int
    created_ns: Nanos
    filled: Decimal = ZERO  # by executions that we know one by one
    cost: Decimal = ZERO
    limit: Decimal | None = None
    trigger: Decimal | None = None


class _State(msgspec.Struct):
    version: int
    seq: int
    books: BooksState
    trips: RoundTrips
    sent: dict[ClientOrderId, _Sent]
    parents: list[str]
    funded_ns: dict[InstrumentId, Nanos]
    closes: ClosesState


class Projection:
    """Folds the records of one session. ``state`` is a dump: of this session to go on with it, or of the session before
    in the same books, with ``begins``. Without ``bars`` they are not rows, and closes are told by ``close``. Raises
    ``DataError`` for a dump of another version."""

    def __init__(
        self, session: SessionInfo, state: bytes | None = None, *, begins: bool = False, bars: bool = True
    ) -> None:
        self.session = session
        self._bars = bars
        self.seq = 0
        self.books = Books(session.account_id, session.gen, session.live, session.instruments)
        self._trips = RoundTrips()
        self._sent: dict[ClientOrderId, _Sent] = {}
        self._parents: dict[str, None] = {}
        self._funded_ns: dict[InstrumentId, Nanos] = {}
        self._closes = Closes(session.interval_ns, session.instruments)
        self._risk: BookRisk | None = None  # what the kernel said of a close, before the row of that close
        self._rows: Rows = defaultdict(list)
        self._scope = {"account_id": session.account_id, "session_id": session.session_id}
        self._realm = self._scope | {"realm": session.realm}
        self._place = 0
        if state is not None:
            self._load(state, begins=begins)

    # ---- the fold -----------------------------------------------------------------------------------------------

    def fold(self, record: Record) -> None:
        """Take the next record in."""
        self.seq, self._place = record.seq, 0
        event, kind = record.event, type(record.event)
        touched = self.books.apply(record)
        for entry in touched.entries:
            self._book(entry, record)
        for command in record.commands:
            self._place += 1
            self._on_command(command, record)
        if kind is Bar:
            if self._bars:
                self._on_bar(event)  # type: ignore[arg-type]
        elif kind is OrderAmended:
            self._amended(event)  # type: ignore[arg-type]
        elif kind in _NOTED:
            self._on_event(event, record)
        for name, order in touched.orders.items():
            self._order(name, order, event.recv_ns)
        if len(self._sent) > 4 * KEPT_CLOSED:
            self._sent = {name: sent for name, sent in self._sent.items() if self.books.blotter.find(name) is not None}

    def close(self, ts_ns: Nanos, prices: Mapping[InstrumentId, float]) -> None:
        """A close that no bar tells of, at these prices."""
        self.books.last.update(prices)
        self._close([self._closes.rows(ts_ns, self.books)])

    def take(self) -> Rows:
        """The rows made since the last time, by table."""
        rows, self._rows = self._rows, defaultdict(list)
        return dict(rows)

    @property
    def waiting(self) -> int:
        """How many rows ``take`` would hand over."""
        return sum(map(len, self._rows.values()))

    def _put(self, table: str, scope: dict[str, Any], **columns: Any) -> None:
        self._rows[table].append(scope | columns)

    # ---- events -------------------------------------------------------------------------------------------------

    def _on_bar(self, bar: Bar) -> None:
        if bar.interval_ns != self.session.interval_ns:
            return
        self._put(
            "market_data",
            self._scope,
            source=self.session.source,
            symbol=bar.instrument,
            interval=_INTERVAL_NAMES[bar.interval_ns],
            ts_ns=bar.ts_ns,
            open=bar.open,
            high=bar.high,
            low=bar.low,
            close=bar.close,
            volume=bar.volume,
        )
        self._close(self._closes.on_bar(bar, self.books))

    def _on_event(self, event: Any, record: Record) -> None:
        if isinstance(event, AccountSnapshot):
            for each in event.balances:
                self._put(
                    "wallets", self._realm, asset=each.asset, seq=record.seq, wallet=each.wallet, ts_ns=event.ts_ns
                )
        elif isinstance(event, OperatorCommand):
            self._closes.on_operation(event)
            detail = {"operation": event.operation.value, "detail": event.detail}
            self._audit(0, record.seq, "OPERATOR", event.operation.value, detail, event.ts_ns)
        elif isinstance(event, TimerFired):
            self._close(self._closes.on_timer(event, self.books))
        elif isinstance(event, InstrumentStatus):
            self._closes.on_status(event)
        elif isinstance(event, ModelFitted):
            self._put(
                "model_fits",
                self._scope,
                model=event.model,
                activation_ns=event.activation_ns,
                parameters=event.parameters,
                seq=record.seq,
                ts_ns=event.ts_ns,
            )

    def _close(self, made: list[Made]) -> None:
        for portfolio, risk in made:
            self._put("portfolios", self._realm, **portfolio)
            if self._risk is not None and self._risk.ts_ns == risk["ts_ns"]:
                said = self._risk
                risk |= {"volatility": said.volatility, "var_frac": said.var_frac, "cvar_frac": said.cvar_frac}
            self._put("risk_metrics", self._scope, **risk)

    # ---- what was booked ----------------------------------------------------------------------------------------

    def _book(self, entry: Entry, record: Record) -> None:
        what = entry.what
        match what:
            case OrderFilled():
                self._fill(what, entry.realised, record)
            case FundingPaid():
                self._funding(what, record)
            case Adjustment():
                self._adjusted(what, entry.realised, record)
            case Transfer():
                line = what.line or f"transfer-{record.seq}"
                self._line(line, "TRANSFER", None, what.asset, what.amount, "", what.ts_ns, record)
            case Income():
                line = what.line or f"income-{record.seq}"
                self._line(line, what.kind, what.instrument, what.asset, what.amount, "", what.ts_ns, record)
            case Opening():
                line = f"opening-{what.asset}-{what.ts_ns}"
                self._line(line, "OPENING", None, what.asset, what.amount, "the first look", what.ts_ns, record)

    def _fill(self, fill: OrderFilled, realised: Decimal, record: Record) -> None:
        order = self.books.blotter.find(fill.id)
        sent = self._sent.get(fill.id)
        if sent is not None:
            sent.filled = EXACT.add(sent.filled, fill.qty)
            sent.cost = EXACT.fma(fill.qty, fill.price, sent.cost)
        self._put(
            "fills",
            self._realm,
            symbol=fill.instrument,
            trade_id=fill.trade_id,
            client_order_id=fill.id,
            side=fill.side.value,
            position_side=fill.position_side.value,
            qty=fill.qty,
            price=fill.price,
            fee=fill.fee,
            fee_asset=fill.fee_asset,
            fee_price=fill.fee_price,
            realised_pnl=realised,
            reference_price=fill.reference,
            maker=fill.maker,
            cause=fill.cause.value,
            seq=record.seq,
            ts_ns=fill.ts_ns,
            recv_ns=fill.recv_ns,
        )
        fee = fill.fee
        if fill.fee_asset != QUOTE_ASSET:
            fee = ZERO if fill.fee_price is None else EXACT.multiply(fill.fee, fill.fee_price)
        reason = exit_reason(fill, None if order is None else order.approved.purpose)
        self._trade(self._trips.fill(fill, fee, reason), fill.trade_id)
        self._position(fill.instrument, record)

    def _trade(self, trip: RoundTrip | None, closing_trade_id: int) -> None:
        if trip is None:
            return
        self._put(
            "trades",
            self._realm,
            symbol=trip.instrument,
            closing_trade_id=closing_trade_id,
            side=(Side.BUY if trip.side > 0 else Side.SELL).value,
            opened_ns=trip.opened_ns,
            closed_ns=trip.closed_ns,
            max_qty=trip.max_qty,
            entry_price=trip.entry_price,
            exit_price=trip.exit_price,
            price_pnl=trip.price_pnl,
            slippage=trip.slippage,
            fees=trip.fees,
            funding=trip.funding,
            net_pnl=trip.net,
            exit_reason=trip.exit_reason,
        )

    def _funding(self, paid: FundingPaid, record: Record) -> None:
        line = paid.line or f"{paid.instrument}-{paid.ts_ns}"
        if not paid.line and self._funded_ns.get(paid.instrument) == paid.ts_ns:
            line = f"{line}-{record.seq}"  # two payments of one instant, and no list that tells them apart
        self._funded_ns[paid.instrument] = paid.ts_ns
        self._put(
            "funding_payments",
            self._realm,
            line=line,
            symbol=paid.instrument,
            asset=QUOTE_ASSET,
            amount=paid.amount,
            rate=paid.rate,
            mark=paid.mark,
            mark_is_last=paid.mark_is_last,
            seq=record.seq,
            ts_ns=paid.ts_ns,
        )
        self._trips.funded(paid.instrument, paid.amount)
        self._position(paid.instrument, record)

    def _adjusted(self, line: Adjustment, realised: Decimal, record: Record) -> None:
        """A correction is a line of its own: what it realised changes the wallet, its quantity the position."""
        text = f"{line.qty:f} at {line.price:f}: {line.reason}"
        self._line(line.id, "ADJUSTMENT", line.instrument, QUOTE_ASSET, realised, text, line.ts_ns, record)
        side = Side.BUY if line.qty > 0 else Side.SELL
        number = -1 - int(line.id.rpartition("-")[2][:15], 16)  # below all ids of the venue, and always the same
        as_fill = OrderFilled(
            ClientOrderId(line.id),
            line.instrument,
            side,
            abs(line.qty),
            line.price,
            ZERO,
            QUOTE_ASSET,
            number,
            False,
            line.ts_ns,
            record.event.recv_ns,
        )
        self._trade(self._trips.fill(as_fill, ZERO, "adjustment"), number)
        self._position(line.instrument, record)

    def _line(
        self,
        line: str,
        kind: str,
        symbol: InstrumentId | None,
        asset: str,
        amount: Decimal,
        detail: str,
        ts_ns: Nanos,
        record: Record,
    ) -> None:
        self._put(
            "income_lines",
            self._realm,
            line=line,
            kind=kind,
            symbol=symbol,
            asset=asset,
            amount=amount,
            detail=detail,
            seq=record.seq,
            ts_ns=ts_ns,
        )

    def _position(self, symbol: InstrumentId, record: Record) -> None:
        held = self.books.positions.holding(symbol).exact
        entry = held.entry_price
        self._put(
            "positions",
            self._realm,
            symbol=symbol,
            qty=held.qty,
            cost=held.cost,
            entry_price=None if entry is None else ROUNDED.quantize(entry, CENT),
            realised_pnl=held.realised,
            fees=held.fees_usdt,
            funding=held.funding,
            updated_ns=record.event.recv_ns,
        )

    # ---- orders -------------------------------------------------------------------------------------------------

    def _order(self, name: ClientOrderId, order: Order, now_ns: Nanos) -> None:
        approved = order.approved
        sent = self._sent.get(name)
        if sent is None:
            sent = self._sent[name] = _Sent(self.session.session_id, self.seq, now_ns)
            sent.limit, sent.trigger = approved.limit, approved.trigger
        avg = ROUNDED.quantize(ROUNDED.divide(sent.cost, sent.filled), CENT) if sent.filled else None
        self._put(
            "orders",
            self._realm | {"session_id": sent.session_id},
            client_order_id=name,
            symbol=approved.instrument,
            side=approved.side.value,
            order_type=approved.order_type.value,
            state=order.state.value,
            time_in_force=approved.tif.value,
            position_side=approved.position_side.value,
            purpose=approved.purpose.value,
            qty=order.qty,
            filled_qty=order.filled,
            avg_price=avg,
            limit_price=sent.limit,
            trigger_price=sent.trigger,
            reduce_only=approved.reduce_only,
            strategy=approved.strategy,
            parent_id=approved.parent,
            venue_order_id=order.venue_id,
            reason=order.reason,
            seq=sent.seq,
            created_ns=sent.created_ns,
            updated_ns=now_ns,
        )

    def _amended(self, report: OrderAmended) -> None:
        sent = self._sent.get(report.id)
        order = self.books.blotter.find(report.id)
        if sent is not None and order is not None and order.open:
            sent.limit, sent.trigger = report.limit, report.trigger

    def _parent(self, order: ApprovedOrder, record: Record) -> None:
        """A parent that nobody announced is known by its children: as large as those that were sent together."""
        if order.parent is None or order.parent in self._parents:
            return
        children = [each for each in record.commands if isinstance(each, ApprovedOrder) and each.parent == order.parent]
        qty = ZERO
        for each in children:
            qty = EXACT.add(qty, each.qty)
        price = self.books.last.get(order.instrument)
        parent = (order.parent, order.instrument, order.side, qty, order.purpose, order.strategy, price)
        self._parent_row(*parent, record.event.recv_ns)

    def _parent_row(
        self,
        name: str,
        symbol: InstrumentId,
        side: Side,
        qty: Decimal,
        purpose: Purpose,
        strategy: str | None,
        arrival_price: float | None,
        ts_ns: Nanos,
    ) -> None:
        if name in self._parents:
            return
        self._parents[name] = None
        while len(self._parents) > KEPT_CLOSED:
            del self._parents[next(iter(self._parents))]
        self._put(
            "parent_orders",
            self._scope,
            parent_id=name,
            symbol=symbol,
            side=side.value,
            qty=qty,
            purpose=purpose.value,
            strategy=strategy,
            arrival_price=arrival_price,
            ts_ns=ts_ns,
        )

    # ---- commands -----------------------------------------------------------------------------------------------

    def _on_command(self, command: Command, record: Record) -> None:
        if isinstance(command, ApprovedOrder):
            self._parent(command, record)
        elif isinstance(command, ParentOrder):
            side = Side.BUY if command.qty > 0 else Side.SELL
            parent = (command.id, command.instrument, side, abs(command.qty), command.purpose, command.strategy)
            self._parent_row(*parent, command.arrival_price, command.ts_ns)
        elif isinstance(command, Decision):
            self._decided(command)
        elif isinstance(command, StrategyResult):
            self._performed(command)
        elif isinstance(command, RegimeChanged):
            self._regime(command)
        elif isinstance(command, BookRisk):
            self._risk = command
        elif isinstance(command, Alert):
            if command.severity is not Severity.INFO:
                self._told("ALERT", command.subject, command, command.ts_ns)
        elif isinstance(command, Halt):
            self._told("HALT", command.cause.value, command, command.ts_ns)
        elif isinstance(command, Adjustment):
            self._told("ADJUSTMENT", command.instrument, command, command.ts_ns)

    def _decided(self, decision: Decision) -> None:
        if decision.refusal is not None:
            self._told("REFUSAL", decision.instrument, decision, decision.ts_ns)
        elif decision.target is not None:
            self._told("DECISION", decision.instrument, decision, decision.ts_ns)

    def _performed(self, result: StrategyResult) -> None:
        self._put(
            "strategy_performances",
            self._realm,
            strategy=result.strategy,
            symbol=result.instrument,
            scenario=result.scenario.value,
            ts_ns=result.ts_ns,
            from_ns=result.from_ns,
            price_pnl=result.price_pnl,
            fees=result.fees,
            funding=result.funding,
            slippage=result.slippage,
            turnover=result.turnover,
            fills=result.fills,
        )

    def _regime(self, regime: RegimeChanged) -> None:
        self._put(
            "regimes",
            self._scope,
            ts_ns=regime.ts_ns,
            seq=self.seq,
            scenario=regime.scenario.value,
            probabilities=list(regime.probabilities),
            weights=dict(regime.weights),
            reason=regime.reason,
        )
        self._told("REGIME", regime.scenario.value, regime, regime.ts_ns)

    def _told(self, kind: str, subject: str, what: Command, ts_ns: Nanos) -> None:
        detail = msgspec.to_builtins(what)
        detail.pop("type", None)
        self._audit(self._place, self.seq, kind, subject, detail, ts_ns)

    def _audit(self, place: int, seq: int, kind: str, subject: str, detail: dict[str, Any], ts_ns: Nanos) -> None:
        what = {"kind": kind, "subject": subject, "detail": detail}
        self._put("audit_trail", self._scope, seq=seq, place=place, ts_ns=ts_ns, **what)

    # ---- state --------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """All that is needed to go on after record ``seq``."""
        state = {
            "version": VERSION,
            "seq": self.seq,
            "books": self.books.dump(),
            "trips": self._trips,
            "sent": self._sent,
            "parents": list(self._parents),
            "funded_ns": self._funded_ns,
            "closes": self._closes.dump(),
        }
        return compress(msgspec.msgpack.encode(state), 1)

    def _load(self, data: bytes, *, begins: bool) -> None:
        try:
            raw = decompress(data)
            version = msgspec.msgpack.decode(raw, type=_Version).version
            if version != VERSION:
                raise DataError(f"the projection is of version {version}, this program reads {VERSION}: db rebuild")
            state = msgspec.msgpack.decode(raw, type=_State)
        except (msgspec.MsgspecError, OSError, ValueError) as error:
            raise DataError(
                f"the state of the projection cannot be read ({error}): db rebuild makes it anew"
            ) from error
        self.books.load(state.books)
        self._trips, self._sent, self._funded_ns = state.trips, state.sent, state.funded_ns
        self._closes.load(state.closes, begins=begins)
        if begins:
            for name, held in self.books.positions.ledger.positions.items():
                if held.qty or held.realised or held.fees_usdt or held.funding:
                    self._carry(name)
        else:
            self.seq = state.seq
            self._parents = dict.fromkeys(state.parents)

    def _carry(self, symbol: InstrumentId) -> None:
        """The row of a position that goes on: the session before may be made anew without it."""
        start = Record(0, TimerFired("carry", self.books.now_ns, self.books.now_ns), ())
        self._position(symbol, start)


class _Version(msgspec.Struct):
    version: int
