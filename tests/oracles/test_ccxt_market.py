"""What ccxt reads out of the official examples of market data, and what we read out of them: the same figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from tidegate.adapters.binance import market_schemas as wire
from tidegate.adapters.binance import market_translate as translate


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, Any]:
    listed = json.loads((shared / "oracles/binance/ccxt_parsed_examples.json").read_text())["cases"]
    return {case["ccxt_method"]: case for case in listed}


def test_funding_rate(cases: dict[str, Any]) -> None:
    case = cases["parse_funding_rate"]
    row = wire.decoder(wire.PremiumIndex).decode(json.dumps(case["http_response"]))
    mark, theirs = translate.premium_mark(row, 0), case["parsed"]
    assert (mark.price, mark.ts_ns) == (theirs["markPrice"], theirs["timestamp"] * 10**6)
    assert (float(row.last_funding_rate), row.next_funding_time) == (theirs["fundingRate"], theirs["fundingTimestamp"])


def test_best_quote(cases: dict[str, Any]) -> None:
    case = cases["parse_ticker"]
    row = wire.decoder(wire.RestBookTicker).decode(json.dumps(case["http_response"]))
    quote, theirs = translate.rest_quote(row, 0), case["parsed"]
    ours = (quote.bid, quote.bid_qty, quote.ask, quote.ask_qty)
    assert ours == tuple(theirs[name] for name in ("bid", "bidVolume", "ask", "askVolume"))
    assert quote.ts_ns == theirs["timestamp"] * 10**6


def test_order_book(cases: dict[str, Any]) -> None:
    case = cases["parse_order_book"]
    row = wire.decoder(wire.DepthSnapshot).decode(json.dumps(case["http_response"]))
    depth = translate.snapshot_depth("BTCUSDT", row, 0)
    for ours, theirs in ((depth.bids, case["parsed"]["bids"]), (depth.asks, case["parsed"]["asks"])):
        assert [list(level) for level in ours] == theirs
