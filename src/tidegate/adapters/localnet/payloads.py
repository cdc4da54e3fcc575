"""The messages of the market streams, field by field as the venue's pages show them."""

from typing import Any, Final

from tidegate.adapters.localnet.candles import Candle
from tidegate.adapters.localnet.ladder import DepthChange, Side
from tidegate.adapters.localnet.line import Line, Print
from tidegate.adapters.localnet.symbols import DELIVERY_MS, ONBOARDED_MS
from tidegate.adapters.localnet.ticker import DayStats

Json = dict[str, Any]
_UM: Final = 1  # ``st`` of a USD-M contract


def _tail(line: Line) -> Json:
    return {"st": _UM, "ps": line.name}


def trade(line: Line, now_ms: int, each: Print) -> Json:
    """``<symbol>@trade``, which no page describes and captures show."""
    price, qty = line.tick_grid.text(each.price), line.step_grid.text(each.qty)
    head = {"e": "trade", "E": now_ms, "T": each.at_ms, "s": line.name, "t": each.id, "p": price, "q": qty}
    return {**head, "X": "MARKET", "m": each.buyer_is_maker, **_tail(line)}


def agg_trade(line: Line, now_ms: int, each: Print) -> Json:
    """``<symbol>@aggTrade``; every aggregate here holds one trade."""
    price, qty = line.tick_grid.text(each.price), line.step_grid.text(each.qty)
    head = {"e": "aggTrade", "E": now_ms, "s": line.name, "a": each.id, "p": price, "q": qty, "nq": qty}
    return {**head, "f": each.id, "l": each.id, "T": each.at_ms, "m": each.buyer_is_maker, **_tail(line)}


def book_ticker(line: Line, now_ms: int) -> Json:
    """``<symbol>@bookTicker``."""
    price, qty = line.tick_grid.text, line.step_grid.text
    touch = {"b": price(line.bid), "B": qty(line.bid_qty), "a": price(line.ask), "A": qty(line.ask_qty)}
    head = {"e": "bookTicker", "u": line.ladder.last_id, "E": now_ms, "T": line.traded_ms, "s": line.name}
    return {**head, "ps": line.name, **touch, "st": _UM}


def depth(line: Line, now_ms: int, change: DepthChange) -> Json:
    """``<symbol>@depth``: absolute quantities of the levels that changed."""
    return _depth(line, now_ms, change.first_id, change.last_id, change.previous_id, change.bids, change.asks)


def partial_depth(line: Line, now_ms: int, levels: int, previous_id: int) -> Json:
    """``<symbol>@depth5`` and its like: the best levels, whole."""
    bids, asks = line.ladder.top(levels)
    ladder = line.ladder
    return _depth(line, now_ms, previous_id + 1, ladder.last_id, previous_id, dict(bids), dict(asks))


def _depth(line: Line, now_ms: int, first_id: int, last_id: int, previous_id: int, bids: Side, asks: Side) -> Json:
    price, qty = line.tick_grid.text, line.step_grid.text
    head = {"e": "depthUpdate", "E": now_ms, "T": line.traded_ms, "s": line.name}
    levels = {name: [[price(p), qty(q)] for p, q in side.items()] for name, side in (("b", bids), ("a", asks))}
    return {**head, "U": first_id, "u": last_id, "pu": previous_id, **levels, **_tail(line)}


def kline(line: Line, now_ms: int, interval: str, candle: Candle, *, closed: bool) -> Json:
    """``<symbol>@kline_<interval>``."""
    return {"e": "kline", "E": now_ms, "s": line.name, "k": _k(line, interval, candle, closed=closed), **_tail(line)}


def continuous_kline(line: Line, now_ms: int, interval: str, candle: Candle, *, closed: bool) -> Json:
    """``<pair>_perpetual@continuousKline_<interval>``: its ``k`` names no symbol."""
    inner = _k(line, interval, candle, closed=closed)
    del inner["s"]
    return {"e": "continuous_kline", "E": now_ms, "ps": line.name, "ct": "PERPETUAL", "k": inner, "st": _UM}


def _k(line: Line, interval: str, candle: Candle, *, closed: bool) -> Json:
    price, qty = line.tick_grid.text_of, line.step_grid.text_of
    head = {"t": candle.open_ms, "T": candle.end_ms - 1, "s": line.name, "i": interval}
    prices = {"o": price(candle.open), "c": price(candle.close), "h": price(candle.high), "l": price(candle.low)}
    flow = {"v": qty(candle.volume), "n": candle.trades, "x": closed, "q": f"{candle.quote:.5f}"}
    taker = {"V": qty(candle.taker), "Q": f"{candle.taker_quote:.5f}", "B": "0"}
    return {**head, "f": candle.first_id, "L": candle.last_id, **prices, **flow, **taker}


def mark_price(line: Line, now_ms: int) -> Json:
    """``<symbol>@markPrice``."""
    mark, index = f"{line.mark:.8f}", f"{line.index:.8f}"
    head = {"e": "markPriceUpdate", "E": now_ms, "s": line.name, "p": mark, "ap": mark, "P": index, "i": index}
    return {**head, "r": f"{line.rate:.8f}", "T": line.next_funding_ms, "st": _UM}


def day_ticker(line: Line, now_ms: int) -> Json:
    """``<symbol>@ticker``."""
    day = DayStats.of(line, now_ms)
    change = {"p": day.change, "P": day.change_percent, "w": day.weighted, "c": day.last, "Q": day.last_qty}
    prices = {"o": day.open, "h": day.high, "l": day.low, "v": day.volume, "q": day.quote_volume}
    span = {"O": day.open_ms, "C": day.close_ms, "F": day.first_id, "L": day.last_id, "n": day.count}
    return {"e": "24hrTicker", "E": now_ms, "s": line.name, **change, **prices, **span, **_tail(line)}


def mini_ticker(line: Line, now_ms: int) -> Json:
    """``<symbol>@miniTicker``."""
    day = DayStats.of(line, now_ms)
    prices = {"c": day.last, "o": day.open, "h": day.high, "l": day.low, "v": day.volume, "q": day.quote_volume}
    return {"e": "24hrMiniTicker", "E": now_ms, "s": line.name, **prices, **_tail(line)}


def force_order(now_ms: int, order: Json) -> Json:
    """``<symbol>@forceOrder`` from the ``o`` of the account's own event."""
    inner = {key: order[key] for key in ("s", "S", "o", "f", "q", "p", "ap", "X", "l", "z", "T")}
    return {"e": "forceOrder", "E": now_ms, "o": inner, "st": _UM, "ps": order["s"]}


def contract_info(line: Line, now_ms: int, status: str) -> Json:
    """``!contractInfo``: status and brackets of a contract."""
    brackets = [
        {
            "bs": number,
            "bnf": bracket.floor_usdt,
            "bnc": min(bracket.cap_usdt, 1e12),
            "mmr": bracket.maintenance_frac,
            "cf": bracket.cum_usdt,
            "mi": 1,
            "ma": bracket.max_leverage,
        }
        for number, bracket in enumerate(line.listed.instrument.brackets, 1)
    ]
    head = {"e": "contractInfo", "E": now_ms, "s": line.name, "ct": "PERPETUAL"}
    return {**head, "dt": DELIVERY_MS, "ot": ONBOARDED_MS, "cs": status, "bks": brackets, "st": _UM}
