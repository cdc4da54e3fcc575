"""Adaptive allocation: exponentiated gradient, Hedge and its bound, and the shrinkage of Sharpe ratios.

The sizes of the same file are computed where sizing is.
"""

import math

import numpy as np

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant.allocation import exponentiated_gradient_step, hedge_step
from tidegate.quant.kelly import shrunk_sharpe, shrunk_sharpe_variance


@case("sizing_allocation.json", "exponentiated-gradient")
def exponentiated_gradient(oracle: Oracle) -> None:
    relatives = np.asarray(oracle.inputs["price_relatives"])
    weights, log_wealth = np.full(relatives.shape[1], 1.0 / relatives.shape[1]), 0.0
    for row in relatives:
        log_wealth += math.log(weights @ row)
        weights = exponentiated_gradient_step(weights, row, oracle.inputs["eta"])
    oracle.check("weights_last", weights)
    oracle.check("log_wealth", log_wealth)


@case("sizing_allocation.json", "hedge")
def hedge(oracle: Oracle) -> None:
    losses = np.asarray(oracle.inputs["losses"])
    rounds, experts = losses.shape
    weights, total = np.full(experts, 1.0 / experts), 0.0
    for row in losses:
        used = weights
        total += float(weights @ row)
        weights = hedge_step(weights, row, oracle.inputs["eta"])
    best = float(losses.sum(axis=0).min())
    oracle.check("total_loss", total)
    oracle.check("best_expert_loss", best)
    oracle.check("regret", total - best)
    oracle.check("bound", math.sqrt(rounds * math.log(experts) / 2.0))
    oracle.check("weights_used_last_round", used)


@case("sizing_allocation.json", "normal-shrinkage")
def normal_shrinkage(oracle: Oracle) -> None:
    given = oracle.inputs
    spread, noise = math.sqrt(given["prior_var"]), given["obs_var"]
    oracle.check(
        "posterior_mean", [shrunk_sharpe(each, 1.0, given["prior_mean"], spread, noise) for each in given["observed"]]
    )
    oracle.check("posterior_var", shrunk_sharpe_variance(1.0, spread, noise))
