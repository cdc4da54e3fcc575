"""The answer to ``tidegate status`` as a page for people."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_STYLES = {"READY": "green", "REDUCE_ONLY": "yellow", "HALTED": "bold red", "STOPPED": "dim"}


def status_page(status: Mapping[str, Any]) -> RenderableType:
    """State, money, positions with their stops, orders, and everything that is not as it should be."""
    parts: list[RenderableType] = [_headline(status)]
    if status["positions"]:
        parts.append(_table("Positions", status["positions"]))
    if status["orders"]:
        parts.append(_table("Orders", status["orders"]))
    for title in ("unresolved", "foreign"):
        if status[title]:
            parts.append(Text(f"{title}: {', '.join(map(str, status[title]))}", style="yellow"))
    for title in ("blocked", "stale"):
        for name, why in status[title].items():
            parts.append(Text(f"{title}: {name} {why}", style="yellow"))
    for alert in status["alerts"]:
        style = "red" if alert["severity"] == "CRITICAL" else "yellow"
        parts.append(Text(f"{alert['severity'].lower()}: {alert['subject']}: {alert['text']}", style=style))
    return Group(*parts)


def _headline(status: Mapping[str, Any]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    state = status["state"]
    table.add_row("state", Text(state, style=_STYLES.get(state, "cyan")))
    if status["latch"] is not None:
        table.add_row("latch", Text(f"{status['latch']['cause']}: {status['latch']['reason']}", style="red"))
    table.add_row("account", f"{status['account']} ({status['mode']}), up {status['uptime_s']:,.0f} s")
    table.add_row("equity", f"{status['equity_usdt']:,.2f} USDT")
    at_ns = status["last_reconciled_ns"]
    if at_ns:
        table.add_row("reconciled", datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))
    lag = status["loop_lag_ms"]
    table.add_row("loop lag", f"{lag['p50']:.1f} ms median, {lag['p99']:.1f} ms p99")
    return table


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for key in rows[0]:
        table.add_column(key.replace("_", " "), overflow="fold", no_wrap=key == "id")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    return table


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.8g}" if isinstance(value, float) else str(value)
