"""Kelly: what multiples do, the exact answer against a search, and how far a sample is believed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.quant.kelly import (
    annual_sharpe,
    bet_growth,
    exact_kelly,
    fallback_multiplier,
    growth_rate,
    growth_volatility,
    mixture_fraction,
    multi_asset_kelly,
    pooled_mean,
    probability_of_falling_to,
    shrinkage_factor,
    shrunk_sharpe,
    shrunk_sharpe_variance,
)
from tidegate.quant.measures import kelly_fraction


def test_half_kelly_keeps_three_quarters_of_the_growth_and_twice_kelly_none() -> None:
    full = growth_rate(1.0, 0.8) - growth_rate(0.0, 0.8)
    assert growth_rate(0.5, 0.8) == pytest.approx(0.75 * full)
    assert growth_rate(2.0, 0.8, r=0.03) == pytest.approx(0.03)
    assert growth_volatility(0.5, -0.8) == 0.4


def test_a_halving_at_full_and_at_quarter_kelly() -> None:
    assert probability_of_falling_to(0.5, 1.0) == 0.5
    assert probability_of_falling_to(0.5, 0.25) == 1 / 128
    assert probability_of_falling_to(0.5, 3.0) == 1.0
    for x, multiple in ((0.0, 1.0), (1.1, 1.0), (0.5, 0.0), (math.nan, 1.0), (0.5, math.nan)):
        with pytest.raises(ValueError, match="share above 0"):
            probability_of_falling_to(x, multiple)


@given(st.floats(0.05, 0.95), st.floats(0.1, 10.0), st.floats(-0.09, 0.99))
def test_no_bet_grows_faster_than_kelly(p: float, b: float, other: float) -> None:
    best = kelly_fraction(p=p, b=b, allow_short=True)
    if 1.0 + best * b > 1e-9 and 1.0 + other * b > 0.0 and best < 1.0:
        assert bet_growth(best, p, b) >= bet_growth(other, p, b) - 1e-12


def test_the_growth_of_ruinous_bets_is_undefined() -> None:
    assert math.isnan(bet_growth(1.0, 0.6, 1.0))
    assert math.isnan(bet_growth(-0.5, 0.6, 2.0))
    assert bet_growth(1.0, 1.0, 1.0) == math.log(2.0)
    assert bet_growth(-1.0, 0.0, 1.0) == math.log(2.0)


def heavy(seed: int, mean: float = 0.002) -> np.ndarray:
    return np.maximum(mean + 0.03 * np.random.default_rng(seed).standard_t(3, 400) / math.sqrt(3.0), -0.9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mean", [0.003, -0.003])
def test_the_exact_fraction_is_the_maximum_of_log_growth(seed: int, mean: float) -> None:
    returns = heavy(seed, mean)
    best = exact_kelly(returns)
    assert best * returns.mean() > 0.0
    assert -1.0 / returns.max() < best < -1.0 / returns.min()

    def growth(fraction: float) -> float:
        return float(np.mean(np.log1p(fraction * returns)))

    assert all(growth(best) >= growth(best * part) for part in (0.0, 0.5, 0.99, 1.01))


def test_the_ratio_overstates_the_fraction_of_a_crash() -> None:
    returns = np.append(np.full(200, 0.01), -0.6)  # small gains, one crash
    ratio = kelly_fraction(float(returns.mean()), float(returns.var(ddof=1)))
    assert 0.0 < exact_kelly(returns) < ratio
    assert math.isnan(exact_kelly([0.01, 0.02]))
    assert math.isnan(exact_kelly([-0.01, -0.02]))
    assert math.isnan(exact_kelly([0.01]))
    assert math.isnan(exact_kelly([0.01, math.nan, -0.01]))
    assert exact_kelly([0.01, -0.01]) == 0.0


def test_several_assets() -> None:
    covariance = np.array([[0.04, 0.012], [0.012, 0.09]])
    fractions = multi_asset_kelly([0.10, 0.12], covariance, r=0.02)
    assert covariance @ fractions == pytest.approx([0.08, 0.10])
    assert multi_asset_kelly([0.08], [[0.04]]) == pytest.approx([kelly_fraction(0.08, 0.04)])
    assert np.isnan(multi_asset_kelly([0.1, 0.1], [[1.0, 1.0], [1.0, 1.0]])).all()
    assert np.isnan(multi_asset_kelly([0.1, math.nan], covariance)).all()
    with pytest.raises(ValueError, match="2 means"):
        multi_asset_kelly([0.1, 0.2], [[1.0]])


def test_both_shrinkages_agree_when_the_prior_is_as_wide_as_what_was_seen() -> None:
    assert shrinkage_factor(1.0, 1.0) == 0.5
    for sharpe, years in ((1.0, 1.0), (0.7, 4.0), (2.0, 0.25)):
        assert shrunk_sharpe(sharpe, years, 0.0, sharpe) == pytest.approx(sharpe * shrinkage_factor(sharpe, years))
    assert shrunk_sharpe(1.8, 0.0, 0.4) == 0.4
    assert shrunk_sharpe(1.8, 1e12, 0.4) == pytest.approx(1.8)
    assert shrunk_sharpe(1.8, 2.0, 0.4, 0.5, 1.0) == pytest.approx((0.4 * 4 + 1.8 * 2) / 6)
    assert shrunk_sharpe_variance(2.0) == pytest.approx(1 / 6)
    for years, spread in ((-1.0, 0.5), (1.0, 0.0), (math.nan, 0.5)):
        with pytest.raises(ValueError, match="shrinking needs"):
            shrunk_sharpe(1.0, years, 0.0, spread)


def test_pooling_believes_a_regime_as_its_days_grow() -> None:
    assert pooled_mean(0.01, 0, 0.001) == 0.001
    assert pooled_mean(0.01, 250, 0.0) == 0.005
    assert pooled_mean(0.01, 1e9, 0.001) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="pooling needs"):
        pooled_mean(0.01, -1, 0.0)


@pytest.mark.parametrize(
    ("regime", "short", "multiplier"),
    [
        ("BULL", True, 1.0),
        ("bull_low", True, 1.0),
        ("SIDEWAYS", True, 0.6),
        ("BEAR", True, 0.5),
        ("BEAR", False, 0.25),
        ("BEAR_LOW", False, 0.25),
        ("BEAR_HIGH", False, 0.35),
        ("BULL_HIGH", True, 0.35),
        ("VOLATILE", True, 0.35),
        ("TRANSITION_LOW", True, 0.3),
        ("UNKNOWN", True, 0.3),
        ("", True, 0.3),
    ],
)
def test_fallback_multipliers(regime: str, short: bool, multiplier: float) -> None:
    assert fallback_multiplier(regime, allow_short=short) == multiplier


def test_regimes_mix_by_their_probability() -> None:
    fractions = {"BULL": 0.4, "BEAR": -0.2}
    assert mixture_fraction({"BULL": 0.75, "BEAR": 0.25}, fractions) == pytest.approx(0.25)
    assert mixture_fraction({"BULL": 0.5}, fractions) == 0.2  # the rest is cash
    for wrong in ({"BULL": 0.9, "BEAR": 0.2}, {"BULL": -0.1}, {"BULL": math.nan}):
        with pytest.raises(ValueError, match="add up to at most 1"):
            mixture_fraction(wrong, fractions)
    with pytest.raises(ValueError, match="no fraction for regime SIDEWAYS"):
        mixture_fraction({"SIDEWAYS": 1.0}, fractions)


def test_an_annual_sharpe_without_variance_is_undefined() -> None:
    assert annual_sharpe(0.001, 0.02, 365) == pytest.approx(0.05 * math.sqrt(365))
    assert math.isnan(annual_sharpe(0.01, 1e-18, 365))
