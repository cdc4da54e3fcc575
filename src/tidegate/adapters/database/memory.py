"""The repositories without a database: ``database.url: memory``. They forget everything when the process ends.

Same promises as the others, kept by the same contract suite; made for demos and tests, so a query looks at every row.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np

from tidegate.adapters.database import rows as r
from tidegate.adapters.database.bar_wire import empty
from tidegate.adapters.database.bars import check_multiple, check_series, check_table
from tidegate.adapters.database.models import fit_of, row_of
from tidegate.adapters.database.tables import OPEN_STATES, metadata
from tidegate.domain.errors import DataError, ProjectionMoved
from tidegate.domain.ids import InstrumentId, ModelId, Nanos
from tidegate.domain.market import DAY_NS, BarSpec
from tidegate.domain.messages import ModelFitted
from tidegate.ports import BarCoverage, BarGap, BarSeries, Row
from tidegate.quant.bars import BarTable

Found = list[dict[str, Any]]
_BAR_COLUMNS = ("ts_ns", "open", "high", "low", "close", "volume")
_SERIES = ("source", "symbol", "interval", "account_id", "session_id")


class MemoryTables:
    """Rows by table and primary key: what the three repositories share."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {name: {} for name in metadata.tables}

    def put(self, name: str, rows: Sequence[Row], *, overwrite: bool) -> None:
        """Add rows; those whose key is there already overwrite, or are left out."""
        self.put_whole(name, self.whole(name, rows), overwrite=overwrite)

    def whole(self, name: str, rows: Sequence[Row]) -> Found:
        """The rows as the table would hold them. Raises ``ValueError``."""
        table = r.table_named(name)
        for column in table.columns:
            if r.is_json(table, column.name):
                for row in rows:
                    r.as_json(row.get(column.name))
        return r.to_rows(table, rows)

    def put_whole(self, name: str, rows: Found, *, overwrite: bool) -> None:
        """``put`` for rows that ``whole`` made: cannot fail."""
        keys, held = r.key_names(metadata.tables[name]), self._rows[name]
        for row in rows:
            key = tuple(row[each] for each in keys)
            if overwrite or key not in held:
                held[key] = row

    def get(self, name: str, key: tuple[Any, ...]) -> dict[str, Any] | None:
        """A copy of one row."""
        found = self._rows[name].get(key)
        return None if found is None else dict(found)

    def update(self, name: str, key: tuple[Any, ...], **values: Any) -> None:
        """Change a row that is there."""
        self._rows[name][key].update(values)

    def select(self, name: str, wanted: Callable[[Mapping[str, Any]], bool], order: Sequence[str] = ()) -> Found:
        """Copies of the rows that are wanted, in the order of some columns (else of the key)."""
        names = order or r.key_names(r.table_named(name))
        found = [dict(row) for row in self._rows[name].values() if wanted(row)]
        return sorted(found, key=lambda row: tuple(row[each] for each in names))

    def delete(self, name: str, wanted: Callable[[Mapping[str, Any]], bool]) -> int:
        """Remove rows; returns how many."""
        held = self._rows[name]
        gone = [key for key, row in held.items() if wanted(row)]
        for key in gone:
            del held[key]
        return len(gone)


class MemoryBars:
    """Implements ``ports.BarRepository``."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

    async def save(self, series: BarSeries, tables: Iterable[BarTable]) -> int:
        check_series(series)
        rows: Found = []
        for table in tables:
            check_table(series, table)
            columns = [getattr(table, name).tolist() for name in _BAR_COLUMNS]
            rows += [_bar_row(series, values) for values in zip(*columns, strict=True)]
        self._tables.put("market_data", rows, overwrite=True)
        return len(rows)

    async def load(self, series: BarSeries, start_ns: Nanos, end_ns: Nanos) -> BarTable:
        return _bar_table(self._bars(series, start_ns, end_ns), series.bar)

    async def latest(self, instrument: InstrumentId, bar: BarSpec, count: int, source: str | None = None) -> BarTable:
        def wanted(row: Mapping[str, Any]) -> bool:
            same = row["symbol"] == instrument and row["interval"] == bar.name
            return same and source in (None, row["source"])

        found = self._tables.select("market_data", wanted, ("ts_ns",))
        if not found:
            return empty(bar.interval_ns)
        newest = tuple(found[-1][name] for name in _SERIES)
        same = [row for row in found if tuple(row[name] for name in _SERIES) == newest]
        return _bar_table(same[-count:], bar)

    async def gaps(self, series: BarSeries, start_ns: Nanos, end_ns: Nanos) -> list[BarGap]:
        ends = [row["ts_ns"] for row in self._bars(series, start_ns, end_ns)]
        return _gaps(ends, series.bar.interval_ns)

    async def coverage(self) -> list[BarCoverage]:
        found: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row in self._tables.select("market_data", lambda _: True, (*_SERIES, "ts_ns")):
            found[tuple(row[name] for name in _SERIES)].append(row["ts_ns"])
        return [_covered(key, ends) for key, ends in found.items()]

    async def delete(self, series: BarSeries, start_ns: Nanos, end_ns: Nanos) -> int:
        return self._tables.delete("market_data", _opens_in(series, start_ns, end_ns))

    async def roll_up(self, series: BarSeries, bar: BarSpec, start_ns: Nanos, end_ns: Nanos) -> int:
        check_multiple(series.bar, bar)
        short = await self.load(series, start_ns, end_ns + bar.interval_ns)
        ends = bar.origin_ns - (bar.origin_ns - short.ts_ns) // bar.interval_ns * bar.interval_ns
        rows = []
        for end_ns_ in np.unique(ends).tolist():
            at = np.flatnonzero(ends == end_ns_)
            opens_ns = end_ns_ - bar.interval_ns
            if len(at) * series.bar.interval_ns == bar.interval_ns and start_ns <= opens_ns < end_ns:
                prices = (short.open[at[0]], short.high[at].max(), short.low[at].min(), short.close[at[-1]])
                volume = sum(short.volume[at].tolist())
                rows.append((end_ns_, *(float(price) for price in prices), volume))
        long = BarSeries(series.source, series.instrument, bar, series.account_id, series.session_id)
        self._tables.put("market_data", [_bar_row(long, row) for row in rows], overwrite=True)
        return len(rows)

    def _bars(self, series: BarSeries, start_ns: Nanos, end_ns: Nanos) -> Found:
        return self._tables.select("market_data", _opens_in(series, start_ns, end_ns), ("ts_ns",))


class MemoryTrading:
    """Implements ``ports.TradingRepository``."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

    async def begin_session(self, session: Row) -> None:
        self._tables.put("sessions", [session], overwrite=False)

    async def cursor(self, account_id: str, session_id: str) -> tuple[int, bytes | None]:
        found = self._tables.get("sessions", (account_id, session_id))
        if found is None:
            raise DataError(f"account {account_id} has no session {session_id}")
        return found["projected_seq"], found["projector"]

    async def latest_state(self, account_id: str, realm: str) -> tuple[str, int, bytes] | None:
        def wanted(row: Mapping[str, Any]) -> bool:
            return row["account_id"] == account_id and row["realm"] == realm and row["projector"] is not None

        found = self._tables.select("sessions", wanted, ("gen", "started_at"))
        return (found[-1]["session_id"], found[-1]["projected_seq"], found[-1]["projector"]) if found else None

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
        session = self._tables.get("sessions", (account_id, session_id))
        if session is None or session["projected_seq"] != after_seq:
            raise ProjectionMoved(f"session {session_id} of {account_id} is not projected to {after_seq} any more")
        whole = {name: self._tables.whole(name, some) for name, some in rows.items()}
        for name, some in whole.items():
            self._tables.put_whole(name, some, overwrite=name in r.STATES)
        self._tables.update("sessions", (account_id, session_id), projected_seq=projected_seq, projector=state)

    async def known_trade_ids(self, account_id: str, realm: str, symbol: str, ids: Collection[int]) -> set[int]:
        return {each for each in ids if self._tables.get("fills", (account_id, realm, symbol, each))}

    async def delete_session(self, account_id: str, session_id: str) -> int:
        where = {"account_id": account_id, "session_id": session_id}
        return sum(self._tables.delete(name, lambda row: r.matches(row, where)) for name in r.OF_SESSIONS)

    async def save_rows(self, table: str, rows: Sequence[Row]) -> int:
        self._tables.put(r.crud_table(table).name, rows, overwrite=True)
        return len(rows)

    async def get_row(self, table: str, key: Row) -> dict[str, Any] | None:
        return self._tables.get(table, r.whole_key(r.table_named(table), key))

    async def list_rows(self, table: str, where: Row, limit: int = 1000) -> Found:
        r.checked_names(r.table_named(table), where)
        return self._tables.select(table, lambda row: r.matches(row, where))[:limit]

    async def delete_rows(self, table: str, where: Row) -> int:
        r.checked_names(r.crud_table(table), where)
        if not where:
            raise ValueError(f"all rows of {table} would go; say which")
        return self._tables.delete(table, lambda row: r.matches(row, where))

    async def sessions(self, account_id: str | None = None) -> Found:
        found = self._tables.select(
            "sessions", lambda row: account_id in (None, row["account_id"]), ("started_at", "session_id", "account_id")
        )
        return [{name: value for name, value in row.items() if name != "projector"} for row in reversed(found)]

    async def open_positions(self, account_id: str) -> Found:
        return self._of("positions", account_id, lambda row: row["qty"] != 0, ("symbol", "realm"))

    async def open_orders(self, account_id: str, symbol: str | None = None) -> Found:
        def wanted(row: Mapping[str, Any]) -> bool:
            return row["state"] in OPEN_STATES and symbol in (None, row["symbol"])

        return self._of("orders", account_id, wanted, ("symbol", "created_ns", "client_order_id"))

    async def orders_in_state(self, account_id: str, state: str, limit: int = 1000) -> Found:
        r.check_word("orders", "state", state)
        order = ("created_ns", "client_order_id")
        return self._of("orders", account_id, lambda row: row["state"] == state, order)[::-1][:limit]

    async def orders_since(self, account_id: str, since_ns: Nanos, limit: int = 1000) -> Found:
        order = ("created_ns", "client_order_id")
        return self._of("orders", account_id, lambda row: row["created_ns"] >= since_ns, order)[:limit]

    async def orders_of_parent(self, account_id: str, session_id: str, parent_id: str) -> Found:
        where = {"session_id": session_id, "parent_id": parent_id}
        order = ("created_ns", "client_order_id")
        return self._of("orders", account_id, lambda row: r.matches(row, where), order)

    async def parent_orders_since(self, account_id: str, since_ns: Nanos, limit: int = 1000) -> Found:
        return self._since("parent_orders", account_id, since_ns, ("ts_ns", "parent_id"), limit)

    async def fills_since(
        self, account_id: str, since_ns: Nanos, symbol: str | None = None, limit: int = 1000
    ) -> Found:
        return self._since("fills", account_id, since_ns, ("ts_ns", "symbol", "trade_id"), limit, symbol=symbol)

    async def fills_of_order(self, account_id: str, client_order_id: str) -> Found:
        where = {"client_order_id": client_order_id}
        return self._of("fills", account_id, lambda row: r.matches(row, where), ("ts_ns", "trade_id"))

    async def trades_closed(self, account_id: str, start_ns: Nanos, end_ns: Nanos, symbol: str | None = None) -> Found:
        def wanted(row: Mapping[str, Any]) -> bool:
            return start_ns <= row["closed_ns"] < end_ns and symbol in (None, row["symbol"])

        return self._of("trades", account_id, wanted, ("closed_ns", "symbol", "closing_trade_id"))

    async def equity_curve(
        self, account_id: str, start_ns: Nanos, end_ns: Nanos, session_id: str | None = None
    ) -> Found:
        def wanted(row: Mapping[str, Any]) -> bool:
            return start_ns <= row["ts_ns"] < end_ns and session_id in (None, row["session_id"])

        return self._of("portfolios", account_id, wanted, ("ts_ns", "session_id"))

    async def latest_risk(self, account_id: str, count: int = 1) -> Found:
        found = self._of("risk_metrics", account_id, lambda _: True, ("session_id",))
        return sorted(found, key=lambda row: row["ts"], reverse=True)[:count]

    async def performance(self, account_id: str, start_ns: Nanos, end_ns: Nanos, strategy: str | None = None) -> Found:
        def wanted(row: Mapping[str, Any]) -> bool:
            return start_ns <= row["ts_ns"] < end_ns and strategy in (None, row["strategy"])

        words = metadata.tables["strategy_performances"].columns["scenario"].type.enums  # type: ignore[attr-defined]
        names = ("price_pnl", "fees", "funding", "slippage", "turnover", "fills")
        sums: dict[tuple[str, str, str], dict[str, Any]] = {}
        for row in self._of("strategy_performances", account_id, wanted, ("ts_ns",)):
            into = sums.setdefault((row["strategy"], row["symbol"], row["scenario"]), dict.fromkeys(names, 0))
            for name in names:
                into[name] += row[name]
        keys = sorted(sums, key=lambda key: (key[0], key[1], words.index(key[2])))
        rows = [dict(zip(("strategy", "symbol", "scenario"), key, strict=True)) | sums[key] for key in keys]
        return [row | {"net_pnl": row["price_pnl"] - row["fees"] + row["funding"]} for row in rows]

    async def income_since(self, account_id: str, since_ns: Nanos, limit: int = 1000) -> Found:
        return self._since("income_lines", account_id, since_ns, ("ts_ns", "line"), limit)

    async def money_by_day(self, account_id: str, start_ns: Nanos, end_ns: Nanos) -> Found:
        sums: dict[tuple[int, str, str, str], Decimal] = defaultdict(Decimal)

        def wanted(row: Mapping[str, Any]) -> bool:
            return bool(start_ns <= row["ts_ns"] < end_ns)

        def add(row: Mapping[str, Any], asset: str, kind: str, amount: Decimal) -> None:
            sums[row["ts_ns"] - row["ts_ns"] % DAY_NS, row["realm"], asset, kind] += amount

        for row in self._of("fills", account_id, wanted):
            add(row, "USDT", "REALISED_PNL", row["realised_pnl"])
            add(row, row["fee_asset"], "FEE", -row["fee"])
        for row in self._of("funding_payments", account_id, wanted):
            add(row, row["asset"], "FUNDING", row["amount"])
        for row in self._of("income_lines", account_id, wanted):
            add(row, row["asset"], row["kind"], row["amount"])
        names = ("day_ns", "realm", "asset", "kind", "amount")
        return [dict(zip(names, (*key, sums[key]), strict=True)) for key in sorted(sums)]

    async def wallet_at(self, account_id: str, asset: str, ts_ns: Nanos) -> dict[str, Any] | None:
        def wanted(row: Mapping[str, Any]) -> bool:
            return bool(row["asset"] == asset and row["ts_ns"] <= ts_ns)

        found = self._of("wallets", account_id, wanted, ("ts_ns", "seq"))
        return found[-1] if found else None

    async def funding_since(
        self, account_id: str, since_ns: Nanos, symbol: str | None = None, limit: int = 1000
    ) -> Found:
        return self._since("funding_payments", account_id, since_ns, ("ts_ns", "line"), limit, symbol=symbol)

    async def regimes_since(self, account_id: str, since_ns: Nanos, limit: int = 1000) -> Found:
        return self._since("regimes", account_id, since_ns, ("ts_ns", "seq"), limit)

    async def audit_since(
        self,
        account_id: str,
        since_ns: Nanos,
        *,
        kind: str | None = None,
        subject: str | None = None,
        limit: int = 1000,
    ) -> Found:
        order = ("ts_ns", "seq", "place")
        return self._since("audit_trail", account_id, since_ns, order, limit, kind=kind, subject=subject)

    def _of(
        self, table: str, account_id: str, wanted: Callable[[Mapping[str, Any]], bool], order: Sequence[str] = ()
    ) -> Found:
        return self._tables.select(table, lambda row: row["account_id"] == account_id and wanted(row), order)

    def _since(
        self, table: str, account_id: str, since_ns: int, order: Sequence[str], limit: int, **where: str | None
    ) -> Found:
        given = {name: value for name, value in where.items() if value is not None}
        found = self._of(table, account_id, lambda row: row["ts_ns"] >= since_ns and r.matches(row, given), order)
        return found[:limit]


class MemoryModels:
    """Implements ``ports.ModelRepository``."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

    async def save(self, account_id: str, session_id: str, fit: ModelFitted, seq: int) -> None:
        self._tables.put("model_fits", [row_of(account_id, session_id, fit, seq)], overwrite=False)

    async def latest(self, account_id: str, model: ModelId, at_ns: Nanos) -> ModelFitted | None:
        def wanted(row: Mapping[str, Any]) -> bool:
            same = row["account_id"] == account_id and row["model"] == model
            return bool(same and row["activation_ns"] <= at_ns)

        found = self._tables.select("model_fits", wanted, ("activation_ns", "seq"))
        return fit_of(found[-1]) if found else None


def _opens_in(series: BarSeries, start_ns: int, end_ns: int) -> Callable[[Mapping[str, Any]], bool]:
    key = (series.source, series.instrument, series.bar.name, series.account_id, series.session_id)
    first, last = start_ns + series.bar.interval_ns, end_ns + series.bar.interval_ns

    def wanted(row: Mapping[str, Any]) -> bool:
        return bool(first <= row["ts_ns"] < last and tuple(row[name] for name in _SERIES) == key)

    return wanted


def _bar_row(series: BarSeries, values: Sequence[Any]) -> dict[str, Any]:
    key = (series.source, series.instrument, series.bar.name, series.account_id, series.session_id)
    return dict(zip((*_SERIES, *_BAR_COLUMNS), (*key, *values), strict=True))


def _bar_table(rows: Found, bar: BarSpec) -> BarTable:
    ends = np.array([row["ts_ns"] for row in rows], dtype=np.int64)
    columns = [np.array([row[name] for row in rows], dtype=np.float64) for name in _BAR_COLUMNS[1:]]
    return BarTable(bar.interval_ns, ends, *columns)


def _gaps(ends: Sequence[int], interval_ns: int) -> list[BarGap]:
    steps = [(before, now - before) for before, now in pairwise(ends)]
    return [BarGap(before, step // interval_ns - 1) for before, step in steps if step > interval_ns]


def _covered(key: tuple[str, ...], ends: Sequence[int]) -> BarCoverage:
    source, symbol, interval, account_id, session_id = key
    bar = BarSpec.of(interval)
    series = BarSeries(source, InstrumentId(symbol), bar, account_id, session_id)
    gaps = _gaps(ends, bar.interval_ns)
    first, last = ends[0] - bar.interval_ns, ends[-1] - bar.interval_ns
    return BarCoverage(series, first, last, len(ends), len(gaps), sum(gap.bars for gap in gaps))
