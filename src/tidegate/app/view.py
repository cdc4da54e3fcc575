"""The live view of a daemon in a terminal: what we have, what it costs, and why.

``render`` draws a board for a width and a height; ``LiveView`` keeps it fresh. Colours only where the terminal has
them and NO_COLOR is not set; below ``_NARROW`` columns the tables keep what matters most.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

from rich.align import Align
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tidegate.app.board import Board, Line, OrderRow, PositionRow, amount, price, signed
from tidegate.domain.ids import Nanos

_NARROW = 100
_REFRESH_S = 0.25
_BLOCKS = "▁▂▃▄▅▆▇█"
_TONES = {"good": "green", "bad": "red", "plain": ""}


class LiveView:
    """Draws ``board`` on ``console`` until cancelled; ``run`` is a companion of the daemon.

    ``title`` says what market this is, ``speed`` how many market seconds pass in a second, None for as many as can.
    """

    def __init__(self, board: Board, console: Console, title: str, speed: float | None = None) -> None:
        self._board, self._console = board, console
        self._title, self._speed = title, speed

    async def run(self) -> None:
        """Show the board, several times a second, on the terminal's second screen."""
        with Live(console=self._console, screen=True, auto_refresh=False, transient=True) as live:
            while True:
                size = self._console.size
                live.update(render(self._board, self._title, self._speed, size.width, size.height), refresh=True)
                await asyncio.sleep(_REFRESH_S)


def render(board: Board, title: str, speed: float | None, width: int, height: int) -> RenderableType:
    """The whole screen, at most ``height`` lines: decisions and trades get what the tables leave."""
    narrow = width < _NARROW
    positions, orders = board.positions(), board.orders()
    positions = positions[: max(height // 6, sum(bool(row.qty) for row in positions))]
    parts: list[RenderableType] = [_header(board, title, speed, width), *_account(board, width)]
    parts += [_section("Positions"), _positions(positions, narrow)]
    used = 4 + 2 + len(positions) + 1
    room = height - used - 1
    shown = max(1, min(len(orders), room // 3))
    parts += [_section("Orders"), _orders(orders[:shown], narrow) if orders else _nothing("none")]
    alerts = min(2, len(board.alerts))
    room -= shown + 2 + alerts  # and two headings
    decisions = max(1, min(10, room * 2 // 3))
    trades = max(1, min(8, room - decisions))
    parts += [_section("Decisions"), _lines(board.decisions, decisions, width)]
    parts += [_section("Fills"), _lines(board.trades, trades, width)]
    if alerts:
        parts += [_lines(board.alerts, alerts, width)]
    return Group(*parts)


def _header(board: Board, title: str, speed: float | None, width: int) -> RenderableType:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(" tidegate ", "bold reverse")
    line.append(f" {title} ", "bold yellow")
    line.append(f" {_time(board.now_ns)} UTC")
    if speed is not None and width >= 70:
        line.append(f"  {speed:g}x", "dim")
    stop = Text("Ctrl-C stops ", "dim")
    if width < _NARROW:
        return line
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column()
    grid.add_row(line, Align.right(stop))
    return grid


def _account(board: Board, width: int) -> Iterable[RenderableType]:
    total = board.equity / board.capital - 1.0 if board.capital else 0.0
    first = Text(no_wrap=True, overflow="ellipsis")
    first.append(f" equity {board.equity:,.2f} USDT ", "bold")
    first.append(f"{total:+.2%}", "green" if total >= 0 else "red")
    first.append(f"   drawdown {board.drawdown_frac:.2%} (most {board.max_drawdown_frac:.2%})")
    yield first
    yield Text(" " + sparkline(board.curve(max(8, min(width - 2, 160)))), "cyan", no_wrap=True, overflow="crop")
    costs = f" fees {board.fees_usdt:,.2f}   funding {board.funding_usdt:+,.2f}   slippage {board.slippage_usdt:,.2f}"
    yield Text(f"{costs}   fills {board.fills:,}   events {board.events:,}", "dim", no_wrap=True, overflow="ellipsis")


def _positions(rows: Iterable[PositionRow], narrow: bool) -> Table:
    table = _table()
    for name, right in (("", False), ("qty", True), ("entry", True), ("last", True), ("open P&L", True)):
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    table.add_column("stop", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("away", justify="right", no_wrap=True)
    for row in rows:
        side, style = ("flat", "dim") if not row.qty else ("long", "green") if row.qty > 0 else ("short", "red")
        away = "" if row.stop_distance_frac is None else f"{row.stop_distance_frac:.2%}"
        cells: list[RenderableType] = [
            Text(f"{row.instrument} ", "bold").append(side, style),
            signed(row.qty) if row.qty else "",
            "" if row.entry is None else price(row.entry),
            price(row.last),
            Text(f"{row.pnl_usdt:+,.2f}", "green" if row.pnl_usdt >= 0 else "red") if row.qty else "",
            "" if row.stop is None else price(row.stop),
        ]
        table.add_row(*cells, *([] if narrow else [away]))
    return table


def _orders(rows: Iterable[OrderRow], narrow: bool) -> Table:
    table = _table(header=False)
    for _ in range(4 if narrow else 6):
        table.add_column(no_wrap=True)
    for row in rows:
        at = "at the market" if row.price is None else f"at {price(float(row.price))}"
        cells = [str(row.instrument), f"{row.side} {amount(row.qty)}", f"{row.kind} {at}", row.purpose]
        table.add_row(*cells, *([] if narrow else [Text(row.state, "dim")]))
    return table


def _lines(lines: Iterable[Line], count: int, width: int) -> RenderableType:
    """The newest lines first, one row each."""
    newest = list(lines)[-count:][::-1]
    if not newest:
        return _nothing("none yet")
    rows = []
    for line in newest:
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f" {_time(line.ts_ns, short=width < _NARROW)}  ", "dim")
        text.append(line.text, _TONES[line.tone])
        rows.append(text)
    return Group(*rows)


def _section(name: str) -> Rule:
    return Rule(Text(name, "bold"), align="left", style="dim", characters="─")


def _nothing(text: str) -> Text:
    return Text(f" {text}", "dim")


def _table(header: bool = True) -> Table:
    return Table(box=None, show_header=header, header_style="dim", pad_edge=True, padding=(0, 2, 0, 0))


def _time(ns: Nanos, short: bool = False) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%d. %H:%M" if short else "%Y-%m-%d %H:%M")


def sparkline(values: list[float]) -> str:
    """A curve in block characters, one for each value, between the least and the greatest."""
    low, high = min(values), max(values)
    if high <= low:
        return _BLOCKS[0] * len(values)
    return "".join(_BLOCKS[round((value - low) / (high - low) * (len(_BLOCKS) - 1))] for value in values)
