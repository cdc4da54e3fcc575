"""Margin and liquidation against the venue's help page and its table, and against itself. The worked examples and the
bracket amounts are in ``quant/cases_margin.py``."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tidegate.domain.margin import (
    DEFAULT_BRACKETS,
    Bracket,
    is_distant,
    liquidation_price,
    liquidation_price_in,
    maintenance,
    max_qty_at_distance,
    with_amounts,
)


def test_the_examples_of_the_help_page(shared: Path) -> None:
    page = json.loads((shared / "oracles/binance/liquidation_examples.json").read_text())
    for case in page["cases"]:
        maintained, result = float(case["tmm_other"]), float(case["upnl_other"])
        if other := case.get("other"):
            qty, mark, entry = (float(other[key]) for key in ("qty", "mark", "entry"))
            tier = Bracket(0.0, 1e18, float(other["mmr"]), float(other["cum"]))
            assert maintenance([tier], qty * mark) == pytest.approx(maintained, abs=0.01)
            assert qty * (mark - entry) == pytest.approx(result, abs=0.02)
        price = liquidation_price_in(
            Bracket(0.0, 1e18, float(case["mmr"]), float(case["cum"])),
            wallet=float(case["wallet_balance"]),
            side=case["side"],
            qty=float(case["qty"]),
            entry=float(case["entry"]),
            other_maintenance=maintained,
            other_unrealised=result,
        )
        assert price == pytest.approx(float(case["recomputed"]), abs=6e-5)
        assert price == pytest.approx(float(case["expected_liquidation_price"]), abs=0.006)


@pytest.mark.parametrize("bracket", DEFAULT_BRACKETS[1:])
def test_the_margin_is_continuous_across_the_edge_of_a_bracket(bracket: Bracket) -> None:
    below, above = bracket.floor_usdt * (1 - 1e-12), bracket.floor_usdt * (1 + 1e-12)
    assert maintenance(DEFAULT_BRACKETS, below) == pytest.approx(maintenance(DEFAULT_BRACKETS, above), rel=1e-9)


def test_a_real_bracket_table_is_continuous(shared: Path) -> None:
    entries = json.loads(gzip.decompress((shared / "data/reference/um_leverageBracket_20241024.json.gz").read_bytes()))
    (tiers,) = [entry["brackets"] for entry in entries if entry["symbol"] == "BTCUSDT"]
    ours = with_amounts([(tier["notionalFloor"], tier["notionalCap"], tier["maintMarginRatio"]) for tier in tiers])
    assert [bracket.cum_usdt for bracket in ours] == pytest.approx([tier["cum"] for tier in tiers], rel=1e-9)


# ---- against itself --------------------------------------------------------------------------------------------------

WALLETS, PRICES = st.floats(10.0, 1e8), st.floats(1e-3, 1e5)
SIDES, DISTANCES = st.sampled_from([1, -1]), st.floats(0.01, 0.9)


@given(WALLETS, PRICES, SIDES, st.floats(0.1, 100.0))
def test_at_the_liquidation_price_the_margin_is_just_used_up(
    wallet: float, entry: float, side: int, leverage: float
) -> None:
    qty = wallet * leverage / entry
    price = liquidation_price(DEFAULT_BRACKETS, wallet=wallet, side=side, qty=qty, entry=entry)

    def spare(at: float) -> float:
        return wallet + side * qty * (at - entry) - maintenance(DEFAULT_BRACKETS, qty * at)

    if price is None:
        assert spare(entry * 1e-9 if side > 0 else entry * 1e9) > 0 or side > 0
        assert side < 0 or spare(1e-12) > -1e-6 * wallet
        return
    assert spare(price) == pytest.approx(0.0, abs=1e-7 * (wallet + qty * max(price, entry)))
    assert spare(price * (1 - side * 1e-4)) < spare(price) < spare(price * (1 + side * 1e-4))


@pytest.mark.parametrize("bracket", DEFAULT_BRACKETS[:-1])
@pytest.mark.parametrize("side", [1, -1])
def test_a_liquidation_price_on_the_edge_of_a_bracket_is_found(bracket: Bracket, side: int) -> None:
    for n in range(1, 500):  # rounding puts some of these on neither side of the edge
        price = n * 0.37
        qty, entry = bracket.cap_usdt / price, price * (1 + side * 0.07)
        wallet = maintenance(DEFAULT_BRACKETS, bracket.cap_usdt) - side * qty * (price - entry)
        found = liquidation_price(DEFAULT_BRACKETS, wallet=wallet, side=side, qty=qty, entry=entry)
        assert found == pytest.approx(price, rel=1e-6)


@given(WALLETS, PRICES, SIDES, DISTANCES)
def test_the_largest_position_at_a_distance_is_liquidated_at_that_distance(
    equity: float, price: float, side: int, distance: float
) -> None:
    qty = max_qty_at_distance(
        DEFAULT_BRACKETS, equity=equity, other_maintenance=0.0, price=price, side=side, distance_frac=distance
    )
    found = liquidation_price(DEFAULT_BRACKETS, wallet=equity, side=side, qty=qty, entry=price)
    assert found == pytest.approx(price * (1 - side * distance), rel=1e-6)


@given(WALLETS, PRICES, SIDES, DISTANCES, st.floats(0.0, 1.0), st.floats(1.0, 3.0))
def test_more_room_never_buys_more_and_more_equity_never_less(
    equity: float, price: float, side: int, distance: float, used: float, more: float
) -> None:
    def most(equity: float, distance: float, used: float) -> float:
        return max_qty_at_distance(
            DEFAULT_BRACKETS, equity=equity, other_maintenance=used, price=price, side=side, distance_frac=distance
        )

    base, tied = most(equity, distance, 0.0), used * equity
    assert base > 0
    assert most(equity * more, distance, 0.0) >= base * (1 - 1e-12)
    assert most(equity, distance, tied) <= base * (1 + 1e-12)
    assume(distance * more < 1.0)
    assert most(equity, distance * more, 0.0) <= base * (1 + 1e-12)


@given(WALLETS, PRICES, SIDES, DISTANCES, st.floats(0.01, 3.0))
def test_the_quick_answer_is_the_slow_one(equity: float, price: float, side: int, distance: float, part: float) -> None:
    most = max_qty_at_distance(
        DEFAULT_BRACKETS, equity=equity, other_maintenance=0.0, price=price, side=side, distance_frac=distance
    )
    assume(abs(part - 1.0) > 1e-6)
    distant = is_distant(
        DEFAULT_BRACKETS,
        most * part,
        equity=equity,
        other_maintenance=0.0,
        price=price,
        side=side,
        distance_frac=distance,
    )
    assert distant is (part < 1.0)


def test_no_equity_no_position() -> None:
    for used in (100.0, 200.0):
        assert not max_qty_at_distance(
            DEFAULT_BRACKETS, equity=100.0, other_maintenance=used, price=1.0, side=1, distance_frac=0.1
        )


def test_a_well_covered_long_has_no_liquidation_price() -> None:
    assert liquidation_price(DEFAULT_BRACKETS, wallet=1000.0, side=1, qty=1.0, entry=100.0) is None
