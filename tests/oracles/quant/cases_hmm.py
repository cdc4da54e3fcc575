"""The filter oracles: our forward recursion. What a backtest may not use is computed here, with ``hmmlearn`` alone."""

import math

import numpy as np
from hmmlearn.hmm import CategoricalHMM, GaussianHMM

from tests.oracles.quant.vectors import Oracle, case
from tidegate.quant.hmm import HmmFilter, HmmParameters, forward_filter, predicted


def smoother(parameters: HmmParameters) -> GaussianHMM:
    """The same model in the library that knows the future of a sequence."""
    model = GaussianHMM(parameters.states, "full")
    model.startprob_, model.transmat_ = parameters.start, parameters.transition
    model.means_, model.covars_ = parameters.means, parameters.covariances
    return model


@case("hmm_filter.json", "umbrella")
def umbrella(oracle: Oracle) -> None:
    transition, likelihoods = np.array(oracle.inputs["transition"]), np.array(oracle.inputs["likelihoods"])
    start = predicted(oracle.inputs["prior"], transition)
    filtered, _ = forward_filter(np.log(likelihoods), start, transition)
    oracle.check("filtered", filtered)
    model = CategoricalHMM(2)
    model.startprob_, model.transmat_ = start, transition
    model.emissionprob_ = np.column_stack([likelihoods[0], 1.0 - likelihoods[0]])
    oracle.check("smoothed_day1", model.predict_proba(np.zeros((2, 1), dtype=int))[0])


def gaussian(oracle: Oracle) -> tuple[HmmParameters, np.ndarray, np.ndarray]:
    """Checks what the filter gives, by scan and by step."""
    given = oracle.inputs
    parameters = HmmParameters.plain(given["start"], given["transition"], given["means"], given["variances"])
    rows = np.array(given["observations"])
    whole, single = HmmFilter(parameters), HmmFilter(parameters)
    filtered = whole.scan(rows)
    assert np.array([single.push(row) for row in rows]).tobytes() == filtered.tobytes()
    oracle.check("filtered", filtered)
    oracle.check("loglik", whole.log_likelihood)
    return parameters, rows, filtered


def forbidden(oracle: Oracle) -> None:
    parameters, rows, filtered = gaussian(oracle)
    oracle.check("one_step_ahead_state_probability_last", predicted(filtered[-1], parameters.transition))
    model = smoother(parameters)
    smoothed = model.predict_proba(rows)
    oracle.check("smoothed_forbidden_in_backtest", smoothed[: len(oracle.keys("smoothed_forbidden_in_backtest"))])
    share = float((model.predict(rows) != filtered.argmax(axis=1)).mean())
    oracle.check("viterbi_forbidden_in_backtest_share_disagreeing", share)


case("hmm_filter.json", "gauss-2state-300")(forbidden)
case("hmm_filter.json", "gauss-3state-300")(forbidden)


@case("hmm_filter.json", "underflow")
def underflow(oracle: Oracle) -> None:
    _, _, filtered = gaussian(oracle)
    assert all(math.isfinite(each) for each in filtered.ravel())
