"""Kelly: published bets, the closed forms, and the exact sample answer."""

import numpy as np

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant.kelly import bet_growth, exact_kelly, growth_rate, growth_volatility, probability_of_falling_to
from tidegate.quant.measures import kelly_fraction


@case("kelly.json", "thorp-coin")
def thorp_coin(oracle: Oracle) -> None:
    p, b = oracle.inputs["p_win"], oracle.inputs["win_loss_ratio"]
    fraction = kelly_fraction(p=p, b=b)
    oracle.check("fraction", fraction)
    oracle.check("growth_per_bet", bet_growth(fraction, p, b))


@case("kelly.json", "thorp-sp500")
def thorp_sp500(oracle: Oracle) -> None:
    mu, sigma, r = (oracle.inputs[name] for name in ("mu", "sigma", "r"))
    fraction, growth = kelly_fraction(mu, sigma**2, r=r), growth_rate(1.0, (mu - r) / sigma, r)
    oracle.check("fraction", fraction)
    oracle.check("growth_rate", growth)
    oracle.check("fraction_published", round(fraction, 2))
    oracle.check("growth_published", round(growth, 4))


@case("kelly.json", "binary-general")
def binary_general(oracle: Oracle) -> None:
    bets = list(zip(oracle.inputs["p_win"], oracle.inputs["win_loss_ratio"], strict=True))
    oracle.check("fraction", [kelly_fraction(p=p, b=b, allow_short=True) for p, b in bets])
    oracle.check("fraction_floored", [kelly_fraction(p=p, b=b) for p, b in bets])


@case("kelly.json", "fractional-growth")
def fractional_growth(oracle: Oracle) -> None:
    multiples, sharpe = oracle.inputs["c"], oracle.inputs["sharpe_annual"]
    oracle.check("growth", [growth_rate(c, sharpe, oracle.inputs["r"]) for c in multiples])
    oracle.check("volatility", [growth_volatility(c, sharpe) for c in multiples])
    oracle.check("prob_ever_halve", [probability_of_falling_to(oracle.inputs["x"], c) for c in multiples])


@case("kelly.json", "empirical-log-growth")
def empirical_log_growth(oracle: Oracle) -> None:
    returns = np.asarray(oracle.inputs["returns"])
    oracle.check("fraction_exact", exact_kelly(returns))
    oracle.check("mean_over_variance", kelly_fraction(float(returns.mean()), float(returns.var(ddof=1))))
