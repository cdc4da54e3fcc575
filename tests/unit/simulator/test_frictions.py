"""What an ideal market would not charge, by hand."""

from math import log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.simulator.bench import hour_bar
from tidegate.domain.market import HOUR_NS
from tidegate.quant.impact import square_root_impact_frac
from tidegate.simulator.frictions import FixedSlippage, Frictions, Latency, NoSlippage, SpreadImpactSlippage

BEFORE = hour_bar(0, (100.0, 104.0, 99.0, 100.0), 400.0)


def test_without_slippage_only_a_known_spread_is_paid() -> None:
    assert NoSlippage().adverse_frac(5.0, BEFORE, 0.0) == 0.0
    assert NoSlippage().adverse_frac(5.0, BEFORE, 0.0002) == 0.0002


def test_fixed_slippage_adds_to_the_spread() -> None:
    assert FixedSlippage(2.0).adverse_frac(5.0, None, 0.0) == pytest.approx(0.0002)
    assert FixedSlippage(2.0).adverse_frac(5.0, None, 0.0003) == pytest.approx(0.0005)


def test_impact_is_two_thirds_of_the_square_root_law_in_the_bar_before() -> None:
    sigma = 0.05 / sqrt(4 * log(2))
    expected = 0.0001 + 2 / 3 * 0.8 * sigma * sqrt(4.0 / 400.0)
    assert SpreadImpactSlippage(1.0, 0.8).adverse_frac(4.0, BEFORE, 0.0) == pytest.approx(expected, rel=1e-4)
    known = SpreadImpactSlippage(1.0, 0.8).adverse_frac(4.0, BEFORE, 0.0004)
    assert known == pytest.approx(expected + 0.0003, rel=1e-4)
    assert SpreadImpactSlippage(1.0, 0.8).adverse_frac(4.0, None, 0.0) == 0.0001


@given(st.floats(1e-6, 1e6), st.floats(1.0, 100.0), st.floats(1e-3, 1e9), st.floats(0.0, 0.5))
def test_a_larger_order_moves_the_price_more_by_the_root(qty: float, more: float, volume: float, sigma: float) -> None:
    one = square_root_impact_frac(qty, volume, sigma, 0.7)
    assert square_root_impact_frac(qty * more, volume, sigma, 0.7) == pytest.approx(one * sqrt(more))
    assert square_root_impact_frac(qty, volume * more, sigma, 0.7) == pytest.approx(one / sqrt(more))


def test_without_volume_or_size_there_is_no_impact() -> None:
    assert square_root_impact_frac(1.0, 0.0, 0.1, 1.0) == 0.0
    assert square_root_impact_frac(0.0, 1.0, 0.1, 1.0) == 0.0


@given(
    st.floats(50.0, 150.0),
    st.floats(0.0, 20.0),
    st.floats(0.0, 20.0),
    st.integers(0, 3 * HOUR_NS),
    st.sampled_from([1, -1]),
)
def test_latency_stays_inside_the_range(opened: float, up: float, down: float, latency_ns: int, sign: int) -> None:
    bar = hour_bar(0, (opened, opened + up, opened - down, opened))
    paid = opened * (1 + sign * Latency(latency_ns).adverse_frac(bar, sign))
    assert bar.low - 1e-9 <= paid <= bar.high + 1e-9
    assert sign * (paid - opened) >= -1e-9
    if latency_ns == 0:
        assert paid == opened
    if latency_ns >= HOUR_NS:
        assert paid == pytest.approx(bar.high if sign > 0 else bar.low)


def test_every_assumption_is_stated() -> None:
    texts = Frictions(FixedSlippage(2.5), Latency(250_000_000), 0.1, True).texts
    assert len(texts) == 4
    for words, text in zip(("2.5 bps", "250 ms", "10%", "without volume"), texts, strict=True):
        assert words in text
    for slippage in (NoSlippage(), SpreadImpactSlippage(1.0, 0.7)):
        assert "slippage" in Frictions(slippage).texts[0]
    assert "whatever the volume" in Frictions().texts[2]
    assert "nothing fills" in Frictions().texts[3]
