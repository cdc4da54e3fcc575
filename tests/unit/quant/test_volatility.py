"""Variance recursions against their formulas in plain Python, and fits that fall back instead of failing."""

import itertools
import math

import numpy as np
import pytest
from statsmodels.api import OLS

from tidegate.quant.fold import Fold, scan
from tidegate.quant.volatility import (
    GARCH,
    GJR,
    EWMAVariance,
    GarchParameters,
    conditional_variances,
    half_life_bars,
    log_likelihood,
    variance_forecast,
)
from tidegate.quant.volatility_fit import fit_garch, fit_har, har_forecast

RETURNS = np.random.default_rng(3).normal(0.0, 0.02, 300)


def column(fold: Fold, values: np.ndarray) -> list[float]:
    result: list[float] = scan(fold, fold.initial(), values[:, None])[:, 0].tolist()
    return result


def simulated(omega: float, alpha: float, gamma: float, beta: float, rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    h, returns = omega / (1.0 - alpha - 0.5 * gamma - beta), np.empty(rows)
    for t in range(rows):
        e = math.sqrt(h) * float(rng.standard_t(6.0)) * math.sqrt(4.0 / 6.0)
        returns[t] = e
        h = omega + (alpha + (gamma if e < 0.0 else 0.0)) * e * e + beta * h
    return returns


# --- folds -----------------------------------------------------------------------------------------------------------


def test_ewma_is_the_weighted_sum_of_squares() -> None:
    decay = 0.94
    expected, s2 = [], 0.0004
    for r in RETURNS:
        s2 = decay * s2 + (1.0 - decay) * r * r
        expected.append(s2)
    fold = EWMAVariance(half_life_bars(decay), 0.0004, returns="returns")
    assert column(fold, RETURNS) == pytest.approx(expected, rel=1e-12)


def test_garch_and_gjr_follow_their_recursions() -> None:
    omega, alpha, gamma, beta, mean, presample = 2e-6, 0.05, 0.08, 0.88, 1e-4, 3e-4
    h = omega + (alpha + gamma / 2.0 + beta) * presample
    expected = []
    for r in RETURNS:
        e = r - mean
        h = omega + (alpha + (gamma if e < 0.0 else 0.0)) * e * e + beta * h
        expected.append(h)
    assert column(GJR(omega, alpha, gamma, beta, presample, mean=mean, returns="returns"), RETURNS) == pytest.approx(
        expected, rel=1e-13
    )
    plain = GARCH(omega, alpha, beta, presample, returns="returns")
    assert column(plain, RETURNS) == column(GJR(omega, alpha, 0.0, beta, presample, returns="returns"), RETURNS)


@pytest.mark.parametrize("returns", ["simple", "log"])
def test_prices_give_the_variances_of_their_returns(returns: str) -> None:
    prices = 100.0 * np.exp(np.cumsum(RETURNS))
    moves = np.diff(np.log(prices)) if returns == "log" else prices[1:] / prices[:-1] - 1.0
    of_prices = column(EWMAVariance(20.0, returns=returns), prices)  # type: ignore[arg-type]
    assert math.isnan(of_prices[0])
    assert of_prices[1:] == pytest.approx(column(EWMAVariance(20.0, returns="returns"), moves), rel=1e-9)


def test_a_price_that_is_not_positive_leaves_the_variance_as_it_is() -> None:
    prices = np.array([100.0, 101.0, 0.0, 99.0, 100.0])
    got = column(EWMAVariance(5.0), prices)
    assert [math.isnan(each) for each in got] == [True, False, True, True, False]


def test_memory_is_enough_to_forget_the_start() -> None:
    fold = GARCH(2e-6, 0.08, 0.9, 1.0, returns="returns")
    returns = np.random.default_rng(5).normal(0.0, 0.02, fold.memory_bars)
    other = GARCH(2e-6, 0.08, 0.9, 1e-4, returns="returns")
    assert column(fold, returns)[-1] == pytest.approx(column(other, returns)[-1], abs=2e-12)


def test_a_variance_that_leaves_the_floats_is_undefined() -> None:
    assert math.isnan(column(GARCH(1.0, 5.0, 5.0, returns="returns"), np.full(3_000, 1.0))[-1])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: EWMAVariance(0.0), "half_life_bars must be a positive number, not 0"),
        (lambda: GARCH(-1.0, 0.1, 0.8), "omega must be a number of at least 0"),
        (lambda: GARCH(1.0, 0.1, 0.8, math.inf), "presample must be a number"),
        (lambda: GJR(1.0, 0.1, -0.2, 0.8), "gamma must be a number of at least -alpha"),
        (lambda: GARCH(1.0, 0.1, 0.8, returns="percent"), "returns must be one of simple log returns"),  # type: ignore[arg-type]
        (lambda: GARCH(1.0, 0.1, 0.8, of="mid"), "of must be one of open high"),  # type: ignore[arg-type]
        (lambda: half_life_bars(1.0), "a decay per bar lies between 0 and 1"),
    ],
)
def test_wrong_arguments_are_named(make: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()  # type: ignore[operator]


# --- forecasts and likelihoods ---------------------------------------------------------------------------------------


def test_forecast_returns_to_the_long_run_variance_at_the_persistence() -> None:
    parameters = GarchParameters("gjr", 0.0, 2e-6, 0.03, 0.04, 0.93, math.nan, 1e-4)
    persistence, s2 = 0.98, 2e-6 / 0.02
    forecast = variance_forecast(parameters, 5e-4, 200)
    expected = [s2 + persistence**k * (5e-4 - s2) for k in range(200)]
    assert forecast == pytest.approx(expected, rel=1e-12)
    assert parameters.long_run_variance == pytest.approx(s2)


def test_forecast_of_an_ewma_is_flat_and_it_has_no_long_run() -> None:
    parameters = GarchParameters.ewma(0.94, 1e-4)
    assert variance_forecast(parameters, 3e-4, 5).tolist() == [3e-4] * 5
    assert math.isnan(parameters.long_run_variance)


def test_forecast_refuses_what_it_cannot_do() -> None:
    egarch = GarchParameters("egarch", 0.0, -0.1, 0.1, 0.0, 0.98, math.nan, 1e-4)
    with pytest.raises(ValueError, match="no closed forecast beyond one bar"):
        variance_forecast(egarch, 1e-4, 2)
    with pytest.raises(ValueError, match="horizon of at least 1"):
        variance_forecast(egarch, 1e-4, 0)
    with pytest.raises(ValueError, match="no fold"):
        egarch.fold()


@pytest.mark.parametrize("kind", ["garch", "gjr", "egarch"])
@pytest.mark.parametrize("nu", [5.0, math.nan])
def test_the_likelihood_of_scaled_returns_differs_by_the_jacobian_alone(kind: str, nu: float) -> None:
    omega, beta = (-0.4, 0.95) if kind == "egarch" else (2e-6, 0.88)
    gamma = 0.0 if kind == "garch" else 0.05
    parameters = GarchParameters(kind, 1e-4, omega, 0.06, gamma, beta, nu, 4e-4)  # type: ignore[arg-type]
    in_percent = log_likelihood(RETURNS * 100.0, parameters.scaled(100.0))
    assert in_percent == pytest.approx(log_likelihood(RETURNS, parameters) - RETURNS.size * math.log(100.0), rel=1e-12)


def test_an_undefined_likelihood_is_nan() -> None:
    assert math.isnan(log_likelihood([], GarchParameters.ewma(0.94, 1e-4)))
    assert math.isnan(log_likelihood(RETURNS, GarchParameters.ewma(0.94, math.nan)))
    assert math.isnan(log_likelihood(RETURNS, GarchParameters("garch", 0.0, 1e-6, 0.1, 0.0, 0.8, 2.0, 1e-4)))


# --- fits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "gamma"), [("garch", 0.0), ("gjr", 0.08)])
def test_planted_parameters_are_found(kind: str, gamma: float) -> None:
    returns = simulated(4e-6, 0.08, gamma, 0.87, 20_000, seed=11)
    fitted = fit_garch(returns, kind)  # type: ignore[arg-type]
    assert fitted.fallback == ""
    assert (fitted.alpha, fitted.gamma, fitted.beta) == pytest.approx((0.08, gamma, 0.87), abs=0.03)
    assert fitted.nu == pytest.approx(6.0, abs=1.0)
    assert fitted.long_run_variance == pytest.approx(float(returns.var()), rel=0.15)


def test_the_fit_is_no_worse_than_the_planted_parameters() -> None:
    returns = simulated(4e-6, 0.08, 0.0, 0.87, 3_000, seed=12)
    fitted = fit_garch(returns)
    planted = GarchParameters("garch", 0.0, 4e-6, 0.08, 0.0, 0.87, 6.0, fitted.presample)
    assert log_likelihood(returns, fitted) > log_likelihood(returns, planted)


@pytest.mark.parametrize(
    ("returns", "why"),
    [
        (RETURNS[:100], "100 returns, fewer than 250"),
        (np.where(np.arange(300) == 7, np.nan, RETURNS), "not finite"),
        (np.full(300, 0.01), "do not vary"),
        (np.concatenate([RETURNS * 0.01, RETURNS * 10.0]), "persistence of"),
    ],
)
def test_what_cannot_be_fitted_becomes_an_ewma_that_says_why(returns: np.ndarray, why: str) -> None:
    fitted = fit_garch(returns, fallback_decay=0.97)
    assert fitted.kind == "ewma"
    assert why in fitted.fallback
    assert (fitted.omega, fitted.beta) == (0.0, 0.97)
    assert fitted.alpha == pytest.approx(0.03)
    assert conditional_variances(RETURNS, fitted)[-1] > 0.0


def test_wild_returns_never_raise() -> None:
    rng = np.random.default_rng(0)
    for power in (0, 5, 9):
        wild = rng.standard_cauchy(250) * 10.0 ** (power - 5)
        for kind, dist in itertools.product(("garch", "gjr", "egarch"), ("t", "normal")):
            assert fit_garch(wild, kind, dist).kind in (kind, "ewma")  # type: ignore[arg-type]


def test_unknown_models_are_named() -> None:
    with pytest.raises(ValueError, match="kind must be one of garch gjr egarch"):
        fit_garch(RETURNS, "arch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dist must be t or normal"):
        fit_garch(RETURNS, "garch", "cauchy")  # type: ignore[arg-type]


# --- HAR-RV ----------------------------------------------------------------------------------------------------------


def realized_variances(days: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    log_rv = np.full(days, -7.0)
    for t in range(30, days):
        rv = np.exp(log_rv[t - 30 : t])
        mean = -0.7 + 0.4 * log_rv[t - 1] + 0.3 * math.log(rv[-7:].mean()) + 0.2 * math.log(rv.mean())
        log_rv[t] = mean + 0.3 * float(rng.normal())
    return np.exp(log_rv)


def test_har_agrees_with_least_squares_of_another_library() -> None:
    rv = realized_variances(700, seed=1)
    fitted = fit_har(rv)
    assert fitted is not None
    rows, targets = [], []
    for t in range(29, 699):
        rows.append([1.0, math.log(rv[t]), math.log(rv[t - 6 : t + 1].mean()), math.log(rv[t - 29 : t + 1].mean())])
        targets.append(math.log(rv[t + 1]))
    ols = OLS(targets, rows).fit()
    assert (fitted.const, fitted.daily, fitted.weekly, fitted.monthly) == pytest.approx(tuple(ols.params), rel=1e-8)
    assert fitted.error_variance == pytest.approx(float(ols.mse_resid), rel=1e-8)
    last = np.array([1.0, math.log(rv[-1]), math.log(rv[-7:].mean()), math.log(rv[-30:].mean())])
    expected = math.exp(float(last @ ols.params) + 0.5 * float(ols.mse_resid))
    assert har_forecast(fitted, rv) == pytest.approx(expected, rel=1e-8)


def test_har_finds_planted_coefficients_and_its_forecast_is_a_mean() -> None:
    rv = realized_variances(8_000, seed=2)
    fitted = fit_har(rv)
    assert fitted is not None
    assert (fitted.daily, fitted.weekly, fitted.monthly) == pytest.approx((0.4, 0.3, 0.2), abs=0.08)
    ratios = [rv[t] / har_forecast(fitted, rv[t - 30 : t]) for t in range(100, 8_000, 7)]
    assert float(np.mean(ratios)) == pytest.approx(1.0, abs=0.03)


def test_har_is_undefined_without_data() -> None:
    rv = realized_variances(700, seed=1)
    assert fit_har(rv[:59]) is None
    assert fit_har(np.where(np.arange(700) == 9, 0.0, rv)) is None
    assert fit_har(np.full(700, 1e-4)) is None
    fitted = fit_har(rv)
    assert fitted is not None
    assert math.isnan(har_forecast(fitted, rv[:29]))
    with pytest.raises(ValueError, match="1 < week_days < month_days"):
        fit_har(rv, week_days=30)
