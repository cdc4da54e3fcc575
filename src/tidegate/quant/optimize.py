"""Target weights: mean-variance with trading costs under constraints, and other methods behind the same call.

``max mu'w - (g/2) w'Sw - kp'|w - w0| - ki'|w - w0|^1.5 - fund'w`` under bounds, gross, net, beta, turnover and factor
caps. Weights are fractions of equity, shorts negative. ``mu``, ``S``, funding and costs belong to **one horizon**: a
daily ``mu`` beside a cost paid once needs the cost divided by the days it will be held, else nothing ever trades.

1. Check the arguments; lift eigenvalues that are not positive; scale the objective so that a unit weight has a
   curvature of about one.
2. Solve (``optimize_cones``). Only the status ``Solved`` counts.
3. Not solved, but something is feasible: the nearest feasible portfolio to what is held, and the status says so.
4. Nothing is feasible: the constraints contradict one another. Take them away in the order of ``RELAXED_FIRST`` until
   something is feasible; put them back in the opposite order, whole where they fit, else widened by the least that
   makes them fit. ``relaxed`` names what was widened. The largest weights and the gross limit are never relaxed.
5. Trades smaller than the solver's accuracy are no trades.

Source: Boyd et al. 2017, Multi-period trading via convex optimization; Markowitz 1952.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.quant.covariance import clip_eigenvalues
from tidegate.quant.optimize_cones import ConeProblem, ConeSolver, Group
from tidegate.quant.weighting import (
    black_litterman,
    equal_risk_contribution,
    hierarchical_risk_parity,
    inverse_volatility,
)

Vector = NDArray[np.float64]
Method = Literal[
    "mean_variance",
    "minimum_variance",
    "risk_parity",
    "hierarchical_risk_parity",
    "inverse_volatility",
    "black_litterman",
]
Status = Literal["optimal", "projected", "nearest_feasible", "clipped"]
"""``projected``: a method without an objective, moved to its nearest feasible portfolio; ``nearest_feasible`` and
``clipped``: no optimum was found, the weights are the nearest feasible ones to what is held, or what is held cut to
bounds and gross."""

RELAXED_FIRST: tuple[Literal["turnover", "factors", "beta", "net", "bounds"], ...] = (
    "turnover",
    "factors",
    "beta",
    "net",
    "bounds",
)
"""Which constraint yields first. ``bounds`` yields only where a bound forbids holding nothing: it then allows zero."""

_NO_TRADE = 1e-9
_SMALL_TRADE = 1e-6
_FEASIBLE = 1e-8
_TARGETS: dict[str, Callable[[ArrayLike], Vector]] = {
    "risk_parity": equal_risk_contribution,
    "hierarchical_risk_parity": hierarchical_risk_parity,
    "inverse_volatility": inverse_volatility,
}
_METHODS = ("mean_variance", "minimum_variance", "black_litterman", *_TARGETS)


@dataclass(frozen=True, slots=True, eq=False)
class Constraints:
    """What the weights must obey; ``None`` is no constraint.

    ``lower`` and ``upper`` bound each weight, one number or ``(N,)``, may be infinite. ``gross`` caps ``sum |w|``.
    ``net`` is ``sum w``: a number, or (low, high). ``beta`` ``(N,)`` asks for ``w'beta = 0``. ``turnover`` caps
    ``sum |w - held|``. ``factors`` ``(K, N)`` with ``factor_caps`` (a number or ``(K,)``) caps ``|F w|``.
    """

    lower: float | Vector = -1.0
    upper: float | Vector = 1.0
    gross: float | None = None
    net: float | tuple[float, float] | None = None
    beta: Vector | None = None
    turnover: float | None = None
    factors: Vector | None = None
    factor_caps: float | Vector | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OptimalWeights:
    """The weights ``(N,)``, how they were come by, which constraints had to be widened, the objective at the weights
    (per horizon, fraction of equity) and the solver's iterations in all."""

    weights: Vector
    status: Status
    relaxed: tuple[str, ...]
    objective: float
    iterations: int


class PortfolioOptimizer:
    """Turns forecasts, risk and costs into target weights. One object per portfolio: it keeps the solver's layout."""

    def __init__(
        self,
        method: Method = "mean_variance",
        *,
        risk_aversion: float = 5.0,
        constraints: Constraints | None = None,
        market_weights: ArrayLike | None = None,
        view_confidence: float = 0.05,
    ) -> None:
        """``risk_aversion`` is ``g``, for a unit of variance over the horizon. ``market_weights`` (equal when left
        out) and ``view_confidence`` (tau) belong to ``black_litterman``."""
        if method not in _METHODS:
            raise ValueError(f"method must be one of {' '.join(_METHODS)}, not {method!r}")
        if not (np.isfinite(risk_aversion) and risk_aversion >= 0.0):
            raise ValueError(f"risk_aversion must be a number of at least 0, not {risk_aversion!r}")
        self._method: Method = method
        self._risk_aversion = risk_aversion
        self._constraints = constraints or Constraints()
        self._market_weights = market_weights
        self._tau = view_confidence
        self._solver = ConeSolver()

    def solve(
        self,
        mu: ArrayLike,
        covariance: ArrayLike,
        held: ArrayLike,
        *,
        proportional_cost: ArrayLike = 0.0,
        impact_cost: ArrayLike | None = None,
        funding: ArrayLike | None = None,
        constraints: Constraints | None = None,
    ) -> OptimalWeights:
        """The weights for ``mu`` ``(N,)``, ``covariance`` ``(N, N)`` and the ``held`` weights ``(N,)``.

        Costs are fractions of the traded weight (``proportional_cost``) and of its power 3/2 (``impact_cost``);
        ``funding`` is what a long of weight one pays over the horizon. All per symbol or one number. For
        ``black_litterman`` ``mu`` holds the views, NaN where there is none; ``minimum_variance`` and the methods
        without forecasts use ``mu`` for the reported objective only. ``constraints`` replace those of the object.
        Raises ``ValueError`` on shapes that disagree, numbers that are not finite, negative costs, and a lower bound
        above its upper bound.
        """
        given = clip_eigenvalues(covariance)
        size = len(given)
        view = _vector("mu", mu, size, gaps=self._method == "black_litterman")
        forecast = self._posterior(view, given) if self._method == "black_litterman" else view
        net = _vector("funding", 0.0 if funding is None else funding, size)
        rules = constraints or self._constraints
        if rules.net is None and self._method == "minimum_variance":
            rules = replace(rules, net=1.0)  # the least risk of all is to hold nothing
        reward = np.zeros(size) if self._method == "minimum_variance" else forecast
        problem = _problem(
            self._risk_aversion * given,
            net - reward,
            _vector("held", held, size),
            _vector("proportional_cost", proportional_cost, size, least=0.0),
            _vector("impact_cost", 0.0 if impact_cost is None else impact_cost, size, least=0.0),
            rules,
        )
        target = _TARGETS[self._method](given) * _budget(rules) if self._method in _TARGETS else None
        weights, status, relaxed, iterations = self._search(problem, target)
        objective = -replace(problem, linear=net - forecast).value(weights)
        return OptimalWeights(weights, status, relaxed, objective, iterations)

    def _posterior(self, view: Vector, covariance: Vector) -> Vector:
        size = len(view)
        market = np.full(size, 1.0 / size) if self._market_weights is None else self._market_weights
        said = np.isfinite(view)
        weights = _vector("market_weights", market, size)
        picks = np.eye(size)[said]
        return black_litterman(covariance, weights, picks, view[said], risk_aversion=self._risk_aversion, tau=self._tau)

    def _search(self, problem: ConeProblem, target: Vector | None) -> tuple[Vector, Status, tuple[str, ...], int]:
        wanted = _scaled(problem) if target is None else _nearest(problem, target)
        solution = self._solver.solve(wanted)
        iterations = solution.iterations
        relaxed: tuple[str, ...] = ()
        if solution.weights is None:
            problem, relaxed, spent = self._relaxed(problem)
            iterations += spent
            if relaxed:
                wanted = _scaled(problem) if target is None else _nearest(problem, target)
                solution = self._solver.solve(wanted)
                iterations += solution.iterations
        if solution.weights is not None:
            weights = _settled(wanted, solution.weights)
            moved = target is not None and float(np.abs(weights - target).max()) > _FEASIBLE
            if target is not None and not moved and problem.violation(target) <= _FEASIBLE:
                weights = target
            return weights, "projected" if moved else "optimal", relaxed, iterations
        nearest = _nearest(problem, problem.held)
        fallback = self._solver.solve(nearest)
        iterations += fallback.iterations
        if fallback.weights is not None:
            return _settled(nearest, fallback.weights), "nearest_feasible", relaxed, iterations
        return _clipped(problem), "clipped", relaxed, iterations

    def _relaxed(self, problem: ConeProblem) -> tuple[ConeProblem, tuple[str, ...], int]:
        """The problem made feasible, what was widened for it, and the iterations that took."""
        bare, iterations = _nearest(problem, problem.held), 0
        taken: list[str] = []
        while True:
            found = self._solver.solve(bare)
            iterations += found.iterations
            left = [name for name in RELAXED_FIRST[len(taken) :] if _present(bare, name)]
            if found.weights is not None or not left:
                break
            taken = list(RELAXED_FIRST[: RELAXED_FIRST.index(left[0]) + 1])
            bare = _allowing_zero(bare) if left[0] == "bounds" else bare.without(left[0])
        names: list[str] = []
        for name in reversed(taken):
            if name == "bounds":
                names.append(name)
                problem = _allowing_zero(problem)
                continue
            if not _present(problem, name):
                continue
            group: Group = name  # type: ignore[assignment]
            whole = _with(bare, problem, group)
            found = self._solver.solve(whole)
            iterations += found.iterations
            if found.weights is None:
                least = self._solver.solve(whole, elastic=group)
                iterations += least.iterations
                names.append(name)
                # without a figure for the least violation the constraint stays away
                excess = least.excess * (1.0 + 1e-6) + _FEASIBLE if least.weights is not None else np.inf
                problem = problem.widened(group, excess) if np.isfinite(excess) else problem.without(group)
                whole = _with(bare, problem, group)
            bare = whole
        return problem, tuple(name for name in RELAXED_FIRST if name in names), iterations


def _vector(name: str, value: ArrayLike, size: int, *, least: float = -np.inf, gaps: bool = False) -> Vector:
    vector = np.asarray(value, dtype=np.float64)
    if vector.ndim == 0:
        vector = np.full(size, float(vector))
    if vector.shape != (size,):
        raise ValueError(f"{name} must be one number or {size} of them, not of shape {vector.shape}")
    fine = (np.isfinite(vector) | np.isnan(vector)) if gaps else np.isfinite(vector)
    if (bad := np.flatnonzero(~fine | (vector < least))).size:
        limit = f" of at least {least:g}" if np.isfinite(least) else ""
        raise ValueError(f"{name} needs finite numbers{limit}, not {vector[bad[0]]} at index {bad[0]}")
    return vector


def _bound(name: str, value: float | Vector, size: int) -> Vector:
    vector = np.broadcast_to(np.asarray(value, dtype=np.float64), (size,)).copy()
    if np.isnan(vector).any():
        raise ValueError(f"{name} bound {int(np.isnan(vector).argmax())} is NaN; use an infinite one for none")
    return vector


def _problem(
    quadratic: Vector, linear: Vector, held: Vector, proportional: Vector, impact: Vector, rules: Constraints
) -> ConeProblem:
    size = len(held)
    lower, upper = _bound("lower", rules.lower, size), _bound("upper", rules.upper, size)
    if (crossed := np.flatnonzero(lower > upper)).size:
        at = crossed[0]
        raise ValueError(f"the lower bound {lower[at]} of asset {at} lies above its upper bound {upper[at]}")
    for name in ("gross", "turnover"):
        limit = getattr(rules, name)
        if limit is not None and not limit >= 0.0:
            raise ValueError(f"{name} must be at least 0, not {limit!r}")
    net = None if rules.net is None else _pair(rules.net)
    factors = caps = None
    if rules.factors is not None:
        factors = np.atleast_2d(np.asarray(rules.factors, dtype=np.float64))
        if factors.shape[1] != size or rules.factor_caps is None:
            raise ValueError(f"factors must be (K, {size}) and have factor_caps, not of shape {factors.shape}")
        caps = _vector("factor_caps", rules.factor_caps, len(factors), least=0.0)
    return ConeProblem(
        quadratic=quadratic,
        linear=linear,
        held=held,
        lower=lower,
        upper=upper,
        proportional=proportional,
        impact=impact,
        gross=rules.gross,
        net=net,
        beta=None if rules.beta is None else _vector("beta", rules.beta, size),
        turnover=rules.turnover,
        factors=factors,
        factor_caps=caps,
    )


def _pair(net: float | tuple[float, float]) -> tuple[float, float]:
    low, high = net if isinstance(net, tuple) else (net, net)
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"net must be a number or (low, high), not {net!r}")
    return float(low), float(high)


def _budget(rules: Constraints) -> float:
    """What the weights of a method without forecasts sum to: the wanted net, else 1, at most the gross limit."""
    low, high = (1.0, 1.0) if rules.net is None else _pair(rules.net)
    return min(max(low, min(1.0, high)), np.inf if rules.gross is None else rules.gross)


def _scaled(problem: ConeProblem) -> ConeProblem:
    """The same objective with a mean curvature of one, or with prices of at most 1000 where curvature is less."""
    curvature = float(np.diag(problem.quadratic).mean())
    prices = float(max(np.abs(problem.linear).max(), problem.proportional.max(), problem.impact.max()))
    size = max(curvature, 1e-3 * prices)
    if not size > 0.0:
        return problem
    return replace(
        problem,
        quadratic=problem.quadratic / size,
        linear=problem.linear / size,
        proportional=problem.proportional / size,
        impact=problem.impact / size,
    )


def _nearest(problem: ConeProblem, point: Vector) -> ConeProblem:
    """The program whose optimum is the feasible portfolio nearest to ``point``."""
    free = np.zeros(len(point))
    return replace(problem, quadratic=np.eye(len(point)), linear=-point, proportional=free, impact=free)


def _present(problem: ConeProblem, name: str) -> bool:
    if name == "bounds":
        return bool((problem.lower > 0.0).any() or (problem.upper < 0.0).any())
    return getattr(problem, name) is not None


def _allowing_zero(problem: ConeProblem) -> ConeProblem:
    return replace(problem, lower=np.minimum(problem.lower, 0.0), upper=np.maximum(problem.upper, 0.0))


def _with(bare: ConeProblem, problem: ConeProblem, group: Group) -> ConeProblem:
    """``bare`` with one constraint as ``problem`` has it."""
    if group == "beta":
        return replace(bare, beta=problem.beta, beta_cap=problem.beta_cap)
    if group == "factors":
        return replace(bare, factors=problem.factors, factor_caps=problem.factor_caps)
    return replace(bare, turnover=problem.turnover) if group == "turnover" else replace(bare, net=problem.net)


def _settled(problem: ConeProblem, weights: Vector) -> Vector:
    """Onto the bounds exactly, and trades that are the solver's inaccuracy back to what is held.

    Below ``_NO_TRADE`` each trade is; up to ``_SMALL_TRADE`` they are when the objective is no worse without them. At
    the very edge of a no-trade region the solver ends that far off.
    """
    inside = _within_gross(problem, np.clip(weights, problem.lower, problem.upper))
    still = np.clip(problem.held, problem.lower, problem.upper)
    room = max(problem.violation(inside), _NO_TRADE)
    trade = np.abs(inside - still)
    for size in (_SMALL_TRADE, _NO_TRADE):
        quiet = np.where(trade <= size, still, inside)
        fits = problem.violation(quiet) <= room
        if fits and (size == _NO_TRADE or problem.value(quiet) <= problem.value(inside)):
            return quiet
    return inside


def _clipped(problem: ConeProblem) -> Vector:
    """What is held, cut to the bounds and shrunk to the gross limit: the last resort."""
    return _within_gross(problem, np.clip(problem.held, problem.lower, problem.upper))


def _within_gross(problem: ConeProblem, weights: Vector) -> Vector:
    """Shrunk alike where they exceed the gross limit by more than rounding."""
    gross = float(np.abs(weights).sum())
    return weights if problem.gross is None or gross <= problem.gross + _NO_TRADE else weights * (problem.gross / gross)
