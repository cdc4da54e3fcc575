"""Reading the account over REST: the snapshot in its fixed order, executions by id, income lines, single orders."""

from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar

from tidegate.adapters.binance.account_schemas import (
    AccountConfigRow,
    AlgoRow,
    BalanceRow,
    Count,
    IncomeRow,
    OrderRow,
    PositionRow,
    SymbolConfigRow,
    TradeRow,
    flag,
    integer,
)
from tidegate.adapters.binance.account_translate import (
    MS,
    FeePrice,
    algo_row_reports,
    balances,
    fill_cause,
    income,
    income_line,
    open_algo,
    open_order,
    positions,
    row_end,
    settings,
    side,
    trade_fill,
)
from tidegate.adapters.binance.errors import Kind, Refused
from tidegate.adapters.binance.limits import Lane
from tidegate.adapters.binance.order_entry import ALGO, ORDER
from tidegate.adapters.binance.order_names import Known, OrderNames
from tidegate.adapters.binance.rest import BinanceRest, Security
from tidegate.domain.account import (
    AccountMode,
    AccountSnapshot,
    ContractSetting,
    FundingPaid,
    Income,
    OpenOrder,
    Transfer,
)
from tidegate.domain.errors import VenueUnavailable
from tidegate.domain.ids import ClientOrderId, InstrumentId, Nanos
from tidegate.domain.messages import TakeSnapshot
from tidegate.domain.orders import (
    FillCause,
    OrderAccepted,
    OrderFilled,
    OrderNotFound,
    OrderReport,
    OrderTriggered,
    QueryOrder,
)
from tidegate.ports import Clock

T = TypeVar("T")
Line = FundingPaid | Transfer | Income
Rates = Callable[[InstrumentId], tuple[float, float] | None]
"""Funding rate and mark price of an instrument, as last heard."""

_PAGE: Final = 1_000
_WEEK_MS: Final = 7 * 24 * 3600 * 1000
_KEPT_MS: Final = 13 * _WEEK_MS  # the venue keeps three months of executions
_SETTINGS_AGE_NS: Final = 60 * 1_000_000_000
_READ_S: Final = 5.0
_OURS: Final = "p1-"


class AccountReader:
    """Asks the venue about our account. What it raises is a ``VenueError``, and then nothing was learned.

    ``symbols`` are the contracts whose settings matter. Ids of orders are learned into ``names`` along the way.
    """

    def __init__(
        self,
        rest: BinanceRest,
        clock: Clock,
        names: OrderNames,
        symbols: Collection[InstrumentId],
        *,
        count: Count,
        fee_price: FeePrice,
        rates: Rates,
    ) -> None:
        self._rest, self._clock, self._names, self._symbols = rest, clock, names, tuple(symbols)
        self._count, self._fee_price, self._rates = count, fee_price, rates
        self._settings: tuple[tuple[ContractSetting, ...], AccountMode] | None = None
        self._settings_mono_ns = 0

    # ---- the snapshot ------------------------------------------------------------------------------------------------

    async def snapshot(self, request: TakeSnapshot) -> AccountSnapshot:
        """Orders, stops, positions, balances, settings; then executions and income. ``ts_ns`` is before the first.

        Settings may be a minute old: they change by hand only, and cost as much as everything else.
        """
        if not self._rest.clock.synced:
            await self._rest.resync()
        began_ns = self._rest.clock.now_ns()
        orders = await self._open_orders()
        held = await self._get("/fapi/v3/positionRisk", (), list[PositionRow], 5)
        wallets = await self._get("/fapi/v3/balance", (), list[BalanceRow], 5)
        contracts, mode = await self._read_settings()
        fills: list[OrderFilled] = []
        for each in request.since:
            fills += await self.fills_after(each.instrument, each.trade_id, request.income_since_ns)
        lines: list[Line] = []
        if request.income_since_ns:
            lines = await self.income_since(request.income_since_ns // MS)
        return AccountSnapshot(
            began_ns,
            self._clock.now_ns(),
            balances(wallets),
            positions(held),
            orders,
            request.name,
            tuple(fills),
            tuple(lines),
            contracts,
            mode,
        )

    async def _open_orders(self) -> tuple[OpenOrder, ...]:
        found: list[OpenOrder] = []
        for row in await self._get("/fapi/v1/openOrders", (), list[OrderRow], 40):
            order = open_order(row, self._count)
            parent = self._names.parent(order.instrument, order.venue_id)
            if parent is None:
                self._learn(row)
                found.append(order)
        for stop in await self._get("/fapi/v1/openAlgoOrders", (), list[AlgoRow], 40):
            order = open_algo(stop, self._count)
            self._names.sent(Known(order.id, order.instrument, order.side, True, order.limit))
            found.append(order)
        return tuple(found)

    async def _read_settings(self) -> tuple[tuple[ContractSetting, ...], AccountMode]:
        now_ns = self._clock.monotonic_ns()
        if self._settings is None or now_ns - self._settings_mono_ns > _SETTINGS_AGE_NS:
            contracts = await self._get("/fapi/v1/symbolConfig", (), list[SymbolConfigRow], 5, Lane.HISTORY)
            account = await self._get("/fapi/v1/accountConfig", (), AccountConfigRow, 5, Lane.HISTORY)
            mode = AccountMode(flag(account.dual_side_position), flag(account.multi_assets_margin))
            self._settings = settings(contracts, self._symbols), mode
            self._settings_mono_ns = now_ns
        return self._settings

    def forget_settings(self) -> None:
        """The venue said that a setting has changed: the next snapshot reads them."""
        self._settings = None

    # ---- executions --------------------------------------------------------------------------------------------------

    async def fills_after(self, instrument: InstrumentId, trade_id: int, from_ns: Nanos) -> list[OrderFilled]:
        """Executions after ``trade_id``, oldest first; when none is known (-1), those from ``from_ns`` on, if any."""
        if trade_id >= 0:
            rows = await self._trades_from(instrument, trade_id + 1)
        elif from_ns:
            rows = await self._trades_since(instrument, from_ns // MS)
        else:
            rows = []
        children_read = False
        fills = []
        for row in rows:
            order_id = integer(row.order_id)
            own = self._names.name(instrument, order_id)
            if own is None:
                own = await self._look_up(instrument, order_id)
                if not own.startswith(_OURS) and fill_cause(own) is FillCause.ORDER and not children_read:
                    children_read = True
                    await self._learn_children(instrument)
                    own = self._names.name(instrument, order_id) or own
            if row.price and row.qty:
                fills.append(trade_fill(row, own, fill_cause(own), self._clock.now_ns(), self._fee_price))
            else:
                self._count("execution without a price in the trade list")
        return fills

    async def _trades_from(self, instrument: InstrumentId, first_id: int) -> list[TradeRow]:
        found: list[TradeRow] = []
        while True:
            params = (("symbol", str(instrument)), ("fromId", str(first_id)), ("limit", str(_PAGE)))
            page = await self._get("/fapi/v1/userTrades", params, list[TradeRow], 5)
            found += page
            last = integer(page[-1].id) if page else None
            if len(page) < _PAGE or last is None or last < first_id:
                return found
            first_id = last + 1

    async def _trades_since(self, instrument: InstrumentId, start_ms: int) -> list[TradeRow]:
        now_ms = self._rest.clock.now_ms()
        start_ms = max(start_ms, now_ms - _KEPT_MS)
        while start_ms <= now_ms:
            window = (("startTime", str(start_ms)), ("endTime", str(min(start_ms + _WEEK_MS - 1, now_ms))))
            params = (("symbol", str(instrument)), *window, ("limit", str(_PAGE)))
            page = await self._get("/fapi/v1/userTrades", params, list[TradeRow], 5)
            if page:
                last = integer(page[-1].id)
                return page if last is None else page + await self._trades_from(instrument, last + 1)
            start_ms += _WEEK_MS
        return []

    async def _look_up(self, instrument: InstrumentId, order_id: int | None) -> ClientOrderId:
        """The client id of an order of the venue's. An order that is not to be found any more has the venue's own."""
        unnamed = ClientOrderId(f"venue-{order_id}")
        try:
            row = await self._order(instrument, "orderId", str(order_id))
        except Refused as error:
            if not _not_found(error):
                raise
            return unnamed
        self._learn(row)
        return ClientOrderId(row.client_order_id) if row.client_order_id else unnamed

    async def _learn_children(self, instrument: InstrumentId) -> None:
        """Which ordinary orders were made by the triggers of conditional ones, as far back as the venue tells."""
        params = (("symbol", str(instrument)), ("limit", str(_PAGE)))
        for row in await self._get("/fapi/v1/allAlgoOrders", params, list[AlgoRow], 5):
            child = integer(row.actual_order_id)
            if child and row.client_algo_id:
                self._names.triggered(instrument, child, row.client_algo_id)

    # ---- income ------------------------------------------------------------------------------------------------------

    async def income_since(self, start_ms: int) -> list[Line]:
        """Lines from ``start_ms`` on, oldest first, each once; without those that the fills tell already."""
        found: list[Line] = []
        seen: dict[str, None] = {}
        while True:
            params = (("startTime", str(start_ms)), ("limit", str(_PAGE)))
            page = await self._get("/fapi/v1/income", params, list[IncomeRow], 30, Lane.HISTORY)
            for row in page:
                name = income_line(row)
                if name not in seen:
                    seen[name] = None
                    line = income(row, self._clock.now_ns(), self._rates)
                    found += [] if line is None else [line]
            last_ms = max((integer(row.time) or 0 for row in page), default=0)
            if len(page) < _PAGE:
                return sorted(found, key=lambda line: line.ts_ns)
            start_ms = last_ms if last_ms > start_ms else start_ms + 1

    # ---- one order ---------------------------------------------------------------------------------------------------

    async def state_of(self, order: QueryOrder) -> list[OrderReport]:
        """All that the venue knows of an order: accepted, its executions, its end. Executions come before the end.

        That it knows none is said as of the time at which we asked: what was true then proves nothing about later.
        """
        asked_ns = self._rest.clock.now_ns()
        if order.conditional:
            try:
                row = await self._get(ALGO, (("clientAlgoId", str(order.id)),), AlgoRow, 1)
            except Refused as error:
                if not _not_found(error):
                    raise
            else:
                return await self._algo_state(row)
        try:
            found = await self._order(order.instrument, "origClientOrderId", str(order.id))
        except Refused as error:
            if not _not_found(error):
                raise
            return [OrderNotFound(order.id, order.instrument, asked_ns, self._clock.now_ns())]
        self._learn(found)
        return await self._order_state(found, order.id, child=order.conditional)

    async def child_state(self, instrument: InstrumentId, child_id: int, id_: ClientOrderId) -> list[OrderReport]:
        """What became of the ordinary order that a trigger made, under the id of the conditional one."""
        row = await self._order(instrument, "orderId", str(child_id))
        return await self._order_state(row, id_, child=True)

    async def _algo_state(self, row: AlgoRow) -> list[OrderReport]:
        now_ns = self._clock.now_ns()
        reports = algo_row_reports(row, self._names, (integer(row.update_time) or 0) * MS, now_ns, self._count)
        child = integer(row.actual_order_id)
        if child and row.client_algo_id:
            instrument = InstrumentId(row.symbol or "")
            reports += await self.child_state(instrument, child, ClientOrderId(row.client_algo_id))
        return reports

    async def _order_state(self, row: OrderRow, id_: ClientOrderId, *, child: bool) -> list[OrderReport]:
        instrument, order_id = InstrumentId(row.symbol or ""), integer(row.order_id) or 0
        ts_ns, now_ns = (integer(row.update_time) or integer(row.time) or 0) * MS, self._clock.now_ns()
        first: OrderReport = OrderAccepted(id_, instrument, order_id, ts_ns, now_ns)
        reports: list[OrderReport] = [OrderTriggered(id_, instrument, ts_ns, now_ns) if child else first]
        filled = row.executed_qty or 0
        if filled:
            params = (("symbol", str(instrument)), ("orderId", str(order_id)), ("limit", str(_PAGE)))
            rows = await self._get("/fapi/v1/userTrades", params, list[TradeRow], 5)
            cause = fill_cause(row.client_order_id or "")
            fills = [trade_fill(each, id_, cause, now_ns, self._fee_price) for each in rows if each.price and each.qty]
            reports += fills
            if sum(fill.qty for fill in fills) < filled:
                raise LateTrades(f"{id_}: the venue lists fewer executions than the {filled} it reports", reports)
        end = row_end(row, id_, ts_ns, now_ns, self._count)
        return reports if end is None else [*reports, end]

    def _learn(self, row: OrderRow) -> None:
        if row.symbol and row.client_order_id and (order_id := integer(row.order_id)) is not None:
            before = self._names.known(row.client_order_id)
            if before is not None and before.conditional:  # a child that kept its parent's id
                self._names.triggered(row.symbol, order_id, row.client_order_id)
                return
            self._names.placed(row.symbol, order_id, row.client_order_id)
            known = Known(
                ClientOrderId(row.client_order_id), InstrumentId(row.symbol), side(row.side), False, row.price or None
            )
            self._names.sent(known)

    async def _order(self, instrument: InstrumentId, key: str, value: str) -> OrderRow:
        return await self._get(ORDER, (("symbol", str(instrument)), (key, value)), OrderRow, 1)

    async def _get(
        self, path: str, params: Iterable[tuple[str, str]], answer: type[T], weight: int, lane: Lane = Lane.CANCEL
    ) -> T:
        return await self._rest.get(
            path,
            tuple(params),
            answer=answer,
            weight=weight,
            lane=lane,
            security=Security.SIGNED,
            timeout_s=_READ_S,
        )


class LateTrades(VenueUnavailable):
    """The trade list lags behind the order: ``reports`` holds what is known, and the order's end has to wait."""

    def __init__(self, message: str, reports: list[OrderReport]) -> None:
        super().__init__(message)
        self.reports = reports


def _not_found(error: Refused) -> bool:
    return error.entry is not None and error.entry.kind is Kind.NOT_FOUND
