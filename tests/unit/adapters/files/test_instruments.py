"""Contracts from the venue's answers and from bars."""

import gzip
import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.files.history import DataFolder
from tidegate.adapters.files.instruments import infer_instrument, price_decimals, read_brackets, read_exchange_info
from tidegate.domain.errors import DataError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.margin import DEFAULT_BRACKETS, maintenance
from tidegate.domain.market import HOUR_NS, BarSpec
from tidegate.quant.bars import BarTable

BTC = InstrumentId("BTCUSDT")


def table(prices: list[float], volumes: list[float]) -> BarTable:
    column = np.array(prices)
    ts_ns = HOUR_NS * np.arange(1, len(prices) + 1)
    return BarTable(HOUR_NS, ts_ns, column, column, column, column, np.array(volumes))


@pytest.mark.parametrize(
    ("age", "count", "tick", "market_max"), [("20210722", 119, "0.01", "1000"), ("20260704", 816, "0.1", "120")]
)
def test_both_ages_of_the_venues_answer_load(shared: Path, age: str, count: int, tick: str, market_max: str) -> None:
    path = shared / "data" / "reference" / f"um_exchangeInfo_{age}.json.gz"
    found = read_exchange_info(path)
    btc = found[BTC]
    assert len(found) == count
    assert (btc.base, btc.quote) == ("BTC", "USDT")
    assert (btc.tick, btc.step, btc.market_max_qty) == (Decimal(tick), Decimal("0.001"), Decimal(market_max))
    assert btc.brackets == DEFAULT_BRACKETS
    for instrument in found.values():
        assert instrument.tick > 0, instrument.id
        assert 0 < instrument.step <= instrument.min_qty <= instrument.max_qty, instrument.id
        assert 0 < instrument.min_price < instrument.max_price, instrument.id
        assert instrument.min_notional > 0, instrument.id
        assert 0 < instrument.price_band_frac < 1, instrument.id
    assert btc.liquidation_fee == {"20210722": Decimal("0.012"), "20260704": Decimal("0.0125")}[age]


def test_brackets_of_the_venue_are_continuous_and_go_into_the_contract(shared: Path) -> None:
    reference = shared / "data" / "reference"
    found = read_brackets(reference / "um_leverageBracket_20241024.json.gz")
    assert len(found) == 318
    for name, brackets in found.items():
        for lower, upper in pairwise(brackets):
            assert lower.cap_usdt == upper.floor_usdt, name
            left = upper.floor_usdt * lower.maintenance_frac - lower.cum_usdt
            right = upper.floor_usdt * upper.maintenance_frac - upper.cum_usdt
            assert left == pytest.approx(right, rel=1e-9), name
    assert maintenance(found[BTC], 50_000.0) == 200.0
    btc = read_exchange_info(reference / "um_exchangeInfo_20260704.json.gz", found)[BTC]
    assert btc.brackets == found[BTC]


def test_a_bare_object_of_brackets_in_any_order(tmp_path: Path) -> None:
    def tier(floor: float, cap: float, frac: float) -> dict[str, float]:
        return {"initialLeverage": 5, "notionalFloor": floor, "notionalCap": cap, "maintMarginRatio": frac, "cum": 0}

    path = tmp_path / "brackets.json"
    path.write_text(json.dumps({"symbol": BTC, "brackets": [tier(10, 1e18, 0.02), tier(0, 10, 0.01)]}))
    assert [bracket.cap_usdt for bracket in read_brackets(path)[BTC]] == [10.0, 1e18]
    path.write_text(json.dumps([{"symbol": BTC, "brackets": [tier(20, 30, 0.02), tier(0, 10, 0.01)]}]))
    with pytest.raises(DataError, match="BTCUSDT: the brackets do not follow on one another"):
        read_brackets(path)


def test_what_is_no_answer_of_the_venue_is_refused(tmp_path: Path, shared: Path) -> None:
    with pytest.raises(DataError, match="no perpetual contract among 1695 symbols"):
        read_exchange_info(shared / "data" / "reference" / "spot_exchangeInfo_20211012.json.gz")
    with pytest.raises(DataError, match="no such file"):
        read_exchange_info(tmp_path / "nothing.json")
    path = tmp_path / "info.json.gz"
    path.write_bytes(b"{}")
    with pytest.raises(DataError, match="cannot be read"):
        read_brackets(path)
    symbol = {"symbol": BTC, "baseAsset": "BTC", "quoteAsset": "USDT", "contractType": "PERPETUAL", "filters": []}
    path.write_bytes(gzip.compress(json.dumps({"symbols": [symbol]}).encode()))
    with pytest.raises(DataError, match="BTCUSDT: no PRICE_FILTER among its filters"):
        read_exchange_info(path)
    plain = tmp_path / "info.json"
    plain.write_text('{"symbols": 3}')
    with pytest.raises(DataError, match="not what the venue answers"):
        read_exchange_info(plain)


@pytest.mark.parametrize(
    ("symbol", "interval", "tick", "step"),
    [("BTCUSDT", "1h", "0.01", "0.001"), ("DOGEUSDT", "1h", "0.000001", "1"), ("XRPUSDT", "4h", "0.0001", "0.1")],
)
def test_grids_of_real_bars(shared: Path, symbol: str, interval: str, tick: str, step: str) -> None:
    name = InstrumentId(symbol)
    bars = list(DataFolder(shared / "data" / "um").bars(name, BarSpec.of(interval), 0, 2**62))
    found = infer_instrument(name, bars)
    assert (found.tick, found.step, found.min_qty) == (Decimal(tick), Decimal(step), Decimal(step))
    for price in bars[0].close[:500].tolist():
        assert found.price(price, up=True) == found.price(price, up=False) == Decimal(repr(price))


@given(st.lists(st.decimals(min_value="0.000000000001", max_value=99_999, places=None, allow_nan=False), min_size=1))
def test_decimals_are_those_of_the_shortest_print(values: list[Decimal]) -> None:
    prices = [float(round(value, 9)) for value in values]
    printed = max(max(0, -int(Decimal(repr(price)).normalize().as_tuple().exponent)) for price in prices)
    assert price_decimals(np.array(prices)) == printed


def test_decimals_over_several_columns_have_an_end() -> None:
    assert price_decimals() == 0
    assert price_decimals(np.array([100.0, 5.0]), np.array([0.25, 1e-7])) == 7
    assert price_decimals(np.array([1 / 3])) == 12


def test_volumes_give_the_step_and_the_limits_are_none() -> None:
    assert infer_instrument(BTC, [table([10.0], [3.0]), table([10.5], [4.0])]).step == 1
    assert infer_instrument(BTC, [table([10.0], [3.25])]).step == Decimal("0.01")
    assert infer_instrument(BTC, [table([10.0], [1 / 3])]).step == Decimal("1e-8")
    silent = infer_instrument(BTC, [table([10.0, 10.25], [0.0, 0.0])])
    assert (silent.tick, silent.step, silent.min_notional) == (Decimal("0.01"), Decimal("0.001"), 5)
    assert silent.qty(1e9) == Decimal(10**9)
    assert silent.price(1e8, up=True) == Decimal(10**8)
    with pytest.raises(DataError, match="BTCUSDT: no bars"):
        infer_instrument(BTC, [])


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("BTCUSDT", ("BTC", "USDT")),
        ("ETHBTC", ("ETH", "BTC")),
        ("1000PEPEUSDC", ("1000PEPE", "USDC")),
        ("BNBFDUSD", ("BNB", "FDUSD")),
        ("GOLD", ("GOLD", "USDT")),
        ("BTC", ("BTC", "USDT")),
    ],
)
def test_base_and_quote_come_from_the_name(name: str, pair: tuple[str, str]) -> None:
    found = infer_instrument(InstrumentId(name), [table([1.0], [1.0])])
    assert (found.base, found.quote) == pair
