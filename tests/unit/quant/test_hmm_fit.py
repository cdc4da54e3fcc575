"""Fits of the HMM: planted regimes are found, labels stay, and what cannot be fitted says so."""

import itertools

import numpy as np
import pytest

from tests.unit.quant.regime_worlds import VOLATILITIES, planted, planted_fit
from tidegate.quant.hmm import HmmFilter, HmmParameters
from tidegate.quant.hmm_fit import COVARIANCE_FLOOR, fit_hmm, matching, states_by_bic

LAG_BARS = 5
FITTED_BARS = 3_000


def settled(states: np.ndarray) -> np.ndarray:
    """Bars whose true state began at least ``LAG_BARS`` bars ago."""
    changes = np.flatnonzero(np.diff(states)) + 1
    begun = np.zeros(len(states), dtype=int)
    begun[changes] = changes
    return np.arange(len(states)) - np.maximum.accumulate(begun) >= LAG_BARS


def known(fit: object) -> HmmParameters:
    parameters = fit.parameters  # type: ignore[attr-defined]
    assert isinstance(parameters, HmmParameters), fit
    return parameters


@pytest.mark.parametrize("seed", range(20))
def test_planted_regimes_are_told_by_fitted_parameters_on_later_bars(seed: int) -> None:
    states, rows = planted(seed, 2 * FITTED_BARS)
    parameters = known(fit_hmm(rows[:FITTED_BARS], 3, seed=seed, restarts=2))
    told = HmmFilter(parameters).scan(rows).argmax(axis=1)[FITTED_BARS:]
    truth = states[FITTED_BARS:]
    right = told == truth
    assert right[settled(truth)].mean() >= 0.85
    assert (told[LAG_BARS:] == truth[:-LAG_BARS]).mean() >= 0.85
    shuffled = np.random.default_rng(seed).permutation(truth)
    assert (told == shuffled).mean() == pytest.approx(1.0 / 3.0, abs=0.06)
    assert parameters.raw_deviations()[:, 0] == pytest.approx(VOLATILITIES, rel=0.3)


def test_labels_keep_their_identity_over_twenty_refits() -> None:
    """Were two labels exchanged in a refit, about one bar of three would bear its true state from then on."""
    states, rows = planted(5, 6_000)
    warm = known(fit_hmm(rows[:2_000], 3, seed=0, restarts=2))
    for refit in range(1, 21):
        window = slice(190 * refit, 190 * refit + 2_000)
        warm = known(fit_hmm(rows[window], 3, seed=refit, restarts=1, warm=warm))
        right = HmmFilter(warm).scan(rows[window]).argmax(axis=1) == states[window]
        assert right[settled(states[window])].mean() > 2.0 / 3.0, refit


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_states_are_matched_to_the_previous_fit_and_not_by_their_index(order: tuple[int, ...]) -> None:
    fit, _ = planted_fit()
    parameters = known(fit)
    shuffled = parameters.reordered(order)
    assert shuffled.reordered(matching(shuffled, parameters)).to_bytes() == parameters.to_bytes()


def test_a_label_survives_where_sorting_would_change_it() -> None:
    """Two states of nearly the same volatility swap their rank between fits; their trend says which is which."""

    def market(low: float, high: float) -> np.ndarray:
        rng = np.random.default_rng(0)
        up = (np.arange(2_000) // 100) % 2 == 0
        first = rng.normal(0.0, np.where(up, low, high))
        return np.column_stack([first, rng.normal(0.0, 0.1, 2_000), rng.normal(np.where(up, 2.0, -2.0), 0.5)])

    before = known(fit_hmm(market(0.0100, 0.0125), 2, seed=0, restarts=2))
    after = known(fit_hmm(market(0.0125, 0.0100), 2, seed=0, restarts=2, warm=before))
    assert np.sign(after.raw_means()[:, 2]).tolist() == np.sign(before.raw_means()[:, 2]).tolist()
    alone = known(fit_hmm(market(0.0125, 0.0100), 2, seed=0, restarts=2))
    assert np.sign(alone.raw_means()[:, 2]).tolist() != np.sign(before.raw_means()[:, 2]).tolist()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_fit_from_another_start_still_bears_the_previous_labels(sign: float) -> None:
    """The previous fit hardly tells its states apart, so that EM stays there and a random start is the better one."""
    rng = np.random.default_rng(6)
    up = (np.arange(1_000) // 80) % 2 == 0
    rows = np.column_stack([rng.normal(0.0, 1.0, 1_000), rng.normal(np.where(up, 2.0, -2.0), 0.5)])
    near = sign * 1e-3 * np.array([[0.0, -1.0], [0.0, 1.0]])
    previous = HmmParameters.plain([0.5, 0.5], np.full((2, 2), 0.5), near, np.tile(np.diag([1.0, 4.0]), (2, 1, 1)))
    fit = fit_hmm(rows, 2, seed=0, restarts=2, warm=previous)
    stuck = fit_hmm(rows, 2, seed=0, restarts=0, warm=previous)
    assert fit.log_likelihood > stuck.log_likelihood + 100.0
    assert np.sign(known(fit).raw_means()[:, 1]).tolist() == [-sign, sign]


def test_a_first_fit_is_sorted_by_volatility_then_mean() -> None:
    fit, _ = planted_fit()
    assert np.diff(known(fit).raw_deviations()[:, 0]).min() > 0.0


def test_the_same_seed_gives_the_same_bytes() -> None:
    fit, rows = planted_fit()
    again = fit_hmm(rows.copy(), 3, seed=1, restarts=2)
    assert known(again).to_bytes() == known(fit).to_bytes()
    assert again.log_likelihood == fit.log_likelihood


def test_more_starts_are_never_worse() -> None:
    _, rows = planted(9, 1_200)
    fits = [fit_hmm(rows, 3, seed=3, restarts=restarts) for restarts in (1, 3)]
    assert fits[1].log_likelihood >= fits[0].log_likelihood - 1e-6


def test_a_warm_start_is_no_worse_than_the_fit_it_starts_from() -> None:
    fit, rows = planted_fit()
    warm = fit_hmm(rows, 3, seed=1, restarts=0, warm=known(fit))
    assert warm.log_likelihood >= fit.log_likelihood - 0.1
    assert warm.iterations <= 5


def test_covariances_have_a_floor() -> None:
    rng = np.random.default_rng(2)
    stuck = np.where(np.arange(1_500) % 3 == 0, 0.0, rng.normal(0.0, 1.0, 1_500))
    rows = np.column_stack([rng.normal(0.0, 0.01, 1_500), stuck])
    parameters = known(fit_hmm(rows, 2, seed=0, restarts=3))
    smallest = np.linalg.eigvalsh(parameters.covariances).min()
    assert smallest >= COVARIANCE_FLOOR * (1.0 - 1e-9)
    assert (parameters.transition > 0.0).all()


def test_outliers_are_clipped_and_make_no_state_of_their_own() -> None:
    _, rows = planted_fit()
    wild = rows.copy()
    wild[::400, 0] = 50.0
    parameters = known(fit_hmm(wild, 3, seed=1, restarts=2))
    assert parameters.high[0] < 0.2
    assert parameters.raw_deviations()[:, 0] == pytest.approx(VOLATILITIES, rel=0.35)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda rows: rows[:499], "499 rows, fewer than 500"),
        (lambda rows: np.where(rows == rows[7], np.nan, rows), "not finite"),
        (lambda rows: rows * [1.0, 0.0, 1.0], "does not vary"),
        (lambda rows: rows[:, [0, 1, 1]], "singular"),
        (lambda rows: np.zeros_like(rows), "does not vary"),
    ],
)
def test_what_cannot_be_fitted_is_unknown_and_says_why(spoil: object, reason: str) -> None:
    _, rows = planted_fit()
    fit = fit_hmm(spoil(rows), 3, seed=0, restarts=2)  # type: ignore[operator]
    assert not fit.known
    assert reason in fit.reason
    assert np.isnan(fit.bic)
    assert np.isnan(fit.log_likelihood)


def test_no_convergence_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    _, rows = planted_fit()
    monkeypatch.setattr("tidegate.quant.hmm_fit.MOST_ITERATIONS", 2)
    fit = fit_hmm(rows, 3, seed=0, restarts=2)
    assert (fit.known, fit.reason) == (False, "no start converged")


def test_bic_finds_the_number_of_states() -> None:
    rng = np.random.default_rng(4)
    up = (np.arange(1_000) // 80) % 2 == 0
    rows = np.column_stack([rng.normal(0.0, 0.01, 1_000), rng.normal(np.where(up, 2.0, -2.0), 0.5)])
    assert states_by_bic(rows, (2, 3), seed=0, restarts=3) == 2
    assert states_by_bic(planted_fit()[1], (2, 3), seed=0, restarts=2) == 3
    assert states_by_bic(rows[:100], (2, 3), seed=0, restarts=1) is None


def test_wrong_arguments_are_named() -> None:
    _, rows = planted_fit()
    with pytest.raises(ValueError, match="at least 2 states"):
        fit_hmm(rows, 1, seed=0)
    with pytest.raises(ValueError, match="restarts of at least 1"):
        fit_hmm(rows, 3, seed=0, restarts=0)
    with pytest.raises(ValueError, match="rows of shape"):
        fit_hmm(rows[:, 0], 3, seed=0)
    with pytest.raises(ValueError, match="cannot be matched"):
        matching(known(planted_fit()[0]), HmmParameters.plain([1.0], [[1.0]], [[0.0]], [[1.0]]))
