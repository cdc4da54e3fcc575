"""What the verbs over our books show: rows of the database, chosen and shaped for people, programs and tax forms."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tidegate.app.tally import plain
from tidegate.domain.errors import NotRunning
from tidegate.ports import TradingRepository

_EVERYTHING = 10_000_000
_QUOTE_ASSET = "USDT"

View = list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows are wanted; what is None is not asked for. Times are nanoseconds, ``[start_ns, end_ns)``."""

    account: str | None = None
    session: str | None = None
    symbol: str | None = None
    state: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None

    def within(self, ts_ns: int) -> bool:
        """Whether a time is wanted."""
        return (self.start_ns is None or ts_ns >= self.start_ns) and (self.end_ns is None or ts_ns < self.end_ns)


async def chosen_session(trading: TradingRepository, choice: Choice) -> Mapping[str, Any]:
    """The named session, or the newest one of the account. Raises ``NotRunning`` when there is none."""
    found = await trading.sessions(choice.account)
    if choice.session is None and found:
        return found[0]
    for each in found:
        if each["session_id"] == choice.session:
            return each
    of = f" of account {choice.account}" if choice.account else ""
    raise NotRunning(f"the database has no session {choice.session or ''}{of}".replace("  ", " "))


async def positions(trading: TradingRepository, session: Mapping[str, Any], choice: Choice) -> View:
    """What is held; what is flat with ``--state all``."""
    where = {"account_id": session["account_id"], "realm": session["realm"]}
    rows = await trading.list_rows("positions", where | _symbol(choice), _EVERYTHING)
    return [
        {
            "symbol": row["symbol"],
            "qty": plain(row["qty"]),
            "entry_price": _plain(row["entry_price"]),
            "cost_usdt": plain(row["cost"]),
            "realised_pnl_usdt": plain(row["realised_pnl"]),
            "fees_usdt": plain(row["fees"]),
            "funding_usdt": plain(row["funding"]),
            "updated": _utc(row["updated_ns"]),
        }
        for row in rows
        if row["qty"] or choice.state == "all"
    ]


async def orders(trading: TradingRepository, session: Mapping[str, Any], choice: Choice) -> View:
    """Orders of a session, oldest first."""
    where = _scope(session) | _symbol(choice) | ({"state": choice.state} if choice.state else {})
    rows = await trading.list_rows("orders", where, _EVERYTHING)
    rows = sorted(
        (row for row in rows if choice.within(row["created_ns"])), key=lambda row: (row["created_ns"], row["seq"])
    )
    return [
        {
            "created": _utc(row["created_ns"]),
            "order": row["client_order_id"],
            "symbol": row["symbol"],
            "side": row["side"],
            "type": row["order_type"],
            "purpose": row["purpose"],
            "qty": plain(row["qty"]),
            "filled": plain(row["filled_qty"]),
            "avg_price": _plain(row["avg_price"]),
            "limit": _plain(row["limit_price"]),
            "trigger": _plain(row["trigger_price"]),
            "reduce_only": row["reduce_only"],
            "state": row["state"],
            "reason": row["reason"],
        }
        for row in rows
    ]


async def fills(trading: TradingRepository, session: Mapping[str, Any], choice: Choice) -> View:
    """Executions of a session, oldest first."""
    rows = await trading.list_rows("fills", _scope(session) | _symbol(choice), _EVERYTHING)
    rows = sorted((row for row in rows if choice.within(row["ts_ns"])), key=lambda row: (row["ts_ns"], row["seq"]))
    return [
        {
            "time": _utc(row["ts_ns"]),
            "symbol": row["symbol"],
            "trade_id": row["trade_id"],
            "order": row["client_order_id"],
            "side": row["side"],
            "qty": plain(row["qty"]),
            "price": plain(row["price"]),
            "fee": plain(row["fee"]),
            "fee_asset": row["fee_asset"],
            "realised_pnl_usdt": plain(row["realised_pnl"]),
            "maker": row["maker"],
            "cause": row["cause"],
        }
        for row in rows
    ]


async def balance(trading: TradingRepository, session: Mapping[str, Any], choice: Choice) -> View:
    """Each wallet as the venue said last; for USDT also what our lines made of it, and equity, at the last close."""
    del choice
    wallets: dict[str, Mapping[str, Any]] = {}
    for row in await trading.list_rows("wallets", _scope(session), _EVERYTHING):
        if row["asset"] not in wallets or row["seq"] > wallets[row["asset"]]["seq"]:
            wallets[row["asset"]] = row
    curve = await trading.list_rows("portfolios", _scope(session), _EVERYTHING)
    last = max(curve, key=lambda row: int(row["ts_ns"]), default=None)
    shown: View = []
    for asset in sorted(wallets.keys() | ({_QUOTE_ASSET} if last else set())):
        said = wallets.get(asset)
        ours = last if asset == _QUOTE_ASSET else None
        shown.append(
            {
                "asset": asset,
                "venue_wallet": None if said is None else plain(said["wallet"]),
                "venue_time": None if said is None else _utc(said["ts_ns"]),
                "wallet": None if ours is None else plain(ours["wallet"]),
                "unrealised_pnl": None if ours is None else plain(ours["unrealised_pnl"]),
                "equity": None if ours is None else plain(ours["equity"]),
                "time": None if ours is None else _utc(ours["ts_ns"]),
            }
        )
    return shown


async def income(trading: TradingRepository, session: Mapping[str, Any], choice: Choice) -> View:
    """Every change of a wallet as one line: of one session when it was named, else of all whose books it goes on."""
    sessions = [session]
    if choice.session is None:
        found = await trading.sessions(session["account_id"])
        sessions = [each for each in found if each["realm"] == session["realm"]]
    lines: list[tuple[int, int, dict[str, object]]] = []
    for each in sessions:
        lines += await _lines_of(trading, each, choice)
    return [line for _, _, line in sorted(lines, key=lambda line: line[:2])]


async def _lines_of(
    trading: TradingRepository, session: Mapping[str, Any], choice: Choice
) -> list[tuple[int, int, dict[str, object]]]:
    where = _scope(session)
    lines: list[tuple[int, int, dict[str, object]]] = []

    def put(
        row: Mapping[str, Any], kind: str, asset: str, amount: Decimal, reference: object, price: Decimal | None = None
    ) -> None:
        if not choice.within(row["ts_ns"]) or choice.symbol not in (None, row["symbol"]):
            return
        value = amount if asset == _QUOTE_ASSET else None if price is None else amount * price
        line = {
            "time_utc": _utc(row["ts_ns"]),
            "kind": kind,
            "asset": asset,
            "amount": plain(amount),
            "symbol": row["symbol"],
            "reference": str(reference),
            "usdt_value": _plain(value),
            "session": session["session_id"],
        }
        lines.append((row["ts_ns"], row["seq"], line))

    for row in await trading.list_rows("fills", where, _EVERYTHING):
        if row["realised_pnl"]:
            put(row, "REALIZED_PNL", _QUOTE_ASSET, row["realised_pnl"], row["trade_id"])
        if row["fee"]:
            put(row, "COMMISSION", row["fee_asset"], -row["fee"], row["trade_id"], row["fee_price"])
    for row in await trading.list_rows("funding_payments", where, _EVERYTHING):
        put(row, "FUNDING_FEE", row["asset"], row["amount"], row["line"])
    for row in await trading.list_rows("income_lines", where, _EVERYTHING):
        if row["kind"] != "OPENING":  # what was there at the first look is no income
            put(row, row["kind"], row["asset"], row["amount"], row["line"])
    return lines


def _scope(session: Mapping[str, Any]) -> dict[str, Any]:
    return {"account_id": session["account_id"], "session_id": session["session_id"]}


def _symbol(choice: Choice) -> dict[str, Any]:
    return {} if choice.symbol is None else {"symbol": choice.symbol}


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)


def _utc(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="milliseconds" if rest else "seconds").replace("+00:00", "Z")
