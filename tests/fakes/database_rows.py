"""Rows of every table, whole and sensible, by their number."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

DAY_NS = 86_400 * 10**9
T0 = 1_767_225_600 * 10**9  # 2026-01-01
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def session_row(session_id: str = "s1", **changed: Any) -> dict[str, Any]:
    """A session of account ``main`` at the live venue."""
    row = {
        "account_id": "main",
        "session_id": session_id,
        "realm": "live",
        "mode": "live",
        "gen": 1,
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "configuration_sha256": "0" * 64,
        "configuration": {"symbols": ["BTCUSDT"], "risk": {"max_leverage": 3.5}},
        "journal": "/journals/one",
    }
    return row | changed


def row_of(table: str, n: int, **changed: Any) -> dict[str, Any]:
    """Row ``n`` of a table, an hour after the one before it."""
    ts_ns = T0 + n * 3_600 * 10**9
    base = {"account_id": "main", "session_id": "s1"}
    return base | _MAKERS[table](n, ts_ns) | changed


def rows_of(table: str, count: int, **changed: Any) -> list[dict[str, Any]]:
    """The first rows of a table."""
    return [row_of(table, n, **changed) for n in range(count)]


def _order(n: int, ts_ns: int) -> dict[str, Any]:
    from tidegate.domain.orders import OrderState

    states = [each.value for each in OrderState]
    return {
        "client_order_id": f"o{n:04d}",
        "realm": "live",
        "symbol": SYMBOLS[n % 3],
        "side": "BUY" if n % 2 else "SELL",
        "order_type": "LIMIT",
        "state": states[n % len(states)],
        "time_in_force": "GTC",
        "position_side": "BOTH",
        "purpose": "ENTRY",
        "qty": Decimal("0.012"),
        "filled_qty": Decimal("0.006"),
        "avg_price": Decimal("61234.50") if n % 2 else None,
        "limit_price": Decimal("61000.1"),
        "reduce_only": n % 4 == 0,
        "strategy": "Trend",
        "parent_id": f"p{n % 5}" if n % 3 else None,
        "venue_order_id": 10**15 + n,
        "seq": n,
        "created_ns": ts_ns,
        "updated_ns": ts_ns + 1,
    }


def _fill(n: int, ts_ns: int) -> dict[str, Any]:
    return {
        "realm": "live",
        "symbol": SYMBOLS[n % 3],
        "trade_id": 1000 + n,
        "client_order_id": f"o{n // 2:04d}",
        "side": "BUY" if n % 2 else "SELL",
        "position_side": "BOTH",
        "qty": Decimal("0.006"),
        "price": Decimal("61234.5"),
        "fee": Decimal("0.14696280"),
        "fee_asset": "BNB" if n % 4 == 0 else "USDT",
        "realised_pnl": Decimal(n) / 8,
        "reference_price": Decimal("61234.4"),
        "maker": bool(n % 2),
        "cause": "TRADE",
        "seq": n,
        "ts_ns": ts_ns,
        "recv_ns": ts_ns + 5_000_000,
    }


def _trade(n: int, ts_ns: int) -> dict[str, Any]:
    return {
        "realm": "live",
        "symbol": SYMBOLS[n % 3],
        "closing_trade_id": 1000 + n,
        "side": "BUY",
        "opened_ns": ts_ns - 1,
        "closed_ns": ts_ns,
        "max_qty": Decimal("0.5"),
        "entry_price": Decimal("100"),
        "exit_price": Decimal("101"),
        "price_pnl": Decimal("0.5"),
        "slippage": Decimal("0.01"),
        "fees": Decimal("0.02"),
        "funding": Decimal("-0.001"),
        "net_pnl": Decimal("0.479"),
        "exit_reason": "SIGNAL",
    }


def _position(n: int, ts_ns: int) -> dict[str, Any]:
    return {
        "realm": "live",
        "symbol": f"C{n:04d}USDT",
        "qty": Decimal(n % 3 - 1),
        "cost": Decimal("-12.25"),
        "entry_price": Decimal("12.25") if n % 3 != 1 else None,
        "realised_pnl": Decimal("1.5"),
        "fees": Decimal("0.1"),
        "funding": Decimal("0"),
        "updated_ns": ts_ns,
    }


def _parent(n: int, ts_ns: int) -> dict[str, Any]:
    return {
        "parent_id": f"p{n}",
        "symbol": SYMBOLS[n % 3],
        "side": "SELL",
        "qty": Decimal("5"),
        "purpose": "ENTRY",
        "strategy": "Trend",
        "arrival_price": 61234.25,
        "ts_ns": ts_ns,
    }


def _funding(n: int, ts_ns: int) -> dict[str, Any]:
    return {
        "realm": "live",
        "line": f"f{n:04d}",
        "symbol": SYMBOLS[n % 3],
        "asset": "USDT",
        "amount": Decimal("-0.0125"),
        "rate": 0.0001,
        "mark": 61234.25,
        "mark_is_last": False,
        "seq": n,
        "ts_ns": ts_ns,
    }


def _income(n: int, ts_ns: int) -> dict[str, Any]:
    return {
        "realm": "live",
        "line": f"i{n:04d}",
        "kind": "TRANSFER" if n % 2 else "ADJUSTMENT",
        "asset": "USDT",
        "amount": Decimal("1000"),
        "seq": n,
        "ts_ns": ts_ns,
    }


def _wallet(n: int, ts_ns: int) -> dict[str, Any]:
    asset = "USDT" if n % 3 else "BNB"
    return {"asset": asset, "seq": n, "realm": "live", "wallet": Decimal(1000 + n), "ts_ns": ts_ns}


def _portfolio(n: int, ts_ns: int) -> dict[str, Any]:
    return {
        "realm": "live",
        "ts_ns": ts_ns,
        "wallet": Decimal("1000"),
        "unrealised_pnl": Decimal("-1.25"),
        "equity": Decimal("998.75"),
        "gross_notional": Decimal("500"),
        "net_notional": Decimal("-500"),
        "open_positions": 2,
    }


def _risk(n: int, ts_ns: int) -> dict[str, Any]:
    later = ts_ns + n * 5 * DAY_NS  # over several months
    return {"ts_ns": later, "drawdown_frac": 0.01, "leverage": 1.5, "daily_loss_frac": 0.002, "volatility": None}


def _performance(n: int, ts_ns: int) -> dict[str, Any]:
    from tidegate.domain.signals import Scenario

    words = [each.value for each in Scenario]
    return {
        "strategy": "Trend" if n % 2 else "Reversal",
        "symbol": SYMBOLS[n % 3],
        "scenario": words[n % len(words)],
        "ts_ns": ts_ns,
        "realm": "live",
        "from_ns": ts_ns - DAY_NS,
        "price_pnl": Decimal(n) / 4,
        "fees": Decimal("0.5"),
        "funding": Decimal("-0.25"),
        "slippage": Decimal("0.125"),
        "turnover": Decimal("1000"),
        "fills": n,
    }


def _regime(n: int, ts_ns: int) -> dict[str, Any]:
    probabilities = {"calm": 0.25, "wild": 0.75}
    rest = {"probabilities": probabilities, "weights": {"Trend": 1.0}, "reason": "hidden Markov"}
    return {"ts_ns": ts_ns, "seq": n, "scenario": _performance(n, ts_ns)["scenario"], **rest}


def _fit(n: int, ts_ns: int) -> dict[str, Any]:
    return {"model": f"m{n % 2}", "activation_ns": ts_ns, "parameters": bytes([n]), "seq": n, "ts_ns": ts_ns - 1}


def _audit(n: int, ts_ns: int) -> dict[str, Any]:
    kind = ("REFUSAL", "HALT", "DECISION")[n % 3]
    detail = {"why": 'quote " and \\ and ü', "n": [n, None]}
    return {"seq": n, "place": n % 2, "kind": kind, "subject": SYMBOLS[n % 2], "detail": detail, "ts_ns": ts_ns}


def _bar(n: int, ts_ns: int) -> dict[str, Any]:
    prices = {"open": 1.5, "high": 2.5, "low": 1.0, "close": 2.0, "volume": 10.0 + n}
    return {"source": "demo", "symbol": SYMBOLS[n % 3], "interval": "1h", "ts_ns": ts_ns, **prices}


_MAKERS = {
    "orders": _order,
    "fills": _fill,
    "trades": _trade,
    "positions": _position,
    "parent_orders": _parent,
    "funding_payments": _funding,
    "income_lines": _income,
    "wallets": _wallet,
    "portfolios": _portfolio,
    "risk_metrics": _risk,
    "strategy_performances": _performance,
    "regimes": _regime,
    "model_fits": _fit,
    "audit_trail": _audit,
    "market_data": _bar,
}
TABLES = tuple(_MAKERS)
