"""AdaptiveAllocator: lets what the strategies have earned move the weights that the matrix gives them, a little.

Once a UTC day:

1. each strategy's net return on its own share of equity is taken in: exponential means and covariances, half-life 180
   days or more, for the annual Sharpe ratio of a quarter is known to +-2;
2. the method makes the weights that it would have: inverse covariance on shrunk Sharpe ratios (``shrinkage``),
   ``hedge`` with a fixed share, ``exponentiated_gradient``, or ``thompson``; none above the cap;
3. they are taken over when they differ from those in force by more than the band, and what they are expected to gain
   over the horizon, by the shrunk means, is more than the turnover costs. Both figures are kept in ``last``.

``tilt`` then multiplies the matrix's weights by ``1 + strength (N v_i - 1)``, ``v`` the weights in force. What the
matrix has at zero stays there, and the sum never grows: what a poor strategy loses may go to better ones or to cash.

It is no finding that this helps: a fixed mix nearly always wins over short samples. ``none`` is the default.
Sources: quant.allocation; Jorion 1986, Bayes-Stein estimation for portfolio analysis, for the common mean.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.domain.ids import Nanos, StrategyId
from tidegate.domain.market import DAY_NS
from tidegate.quant.allocation import (
    capped,
    exponentiated_gradient_step,
    fixed_share,
    hedge_rate,
    hedge_step,
    long_only_weights,
    probability_best,
)
from tidegate.quant.covariance import EwmaCovariance, half_life_to_lambda
from tidegate.quant.kelly import shrunk_sharpe

Floats = NDArray[np.float64]
Method = Literal["none", "shrinkage", "hedge", "exponentiated_gradient", "thompson"]

_YEAR: Final = 365.0
_NO_VARIANCE: Final = 1e-14
_LEAST_RANGE: Final = 0.01
"""Daily returns are scaled to losses in [0, 1] by the largest one so far, or by this."""


class AllocatorSettings(msgspec.Struct, frozen=True):
    """``prior_sharpe`` and ``prior_sd`` are annual; ``correlation_days`` is how many days of evidence uncorrelated
    strategies are assumed with; ``switch_days`` is one change of the best strategy in so many days; ``rate`` is the
    learning rate of the exponentiated gradient. ``cost_frac`` is paid on each unit of weight that is moved."""

    half_life_days: float = 180.0
    warmup_days: int = 180
    cap: float = 0.4
    strength: float = 0.5
    prior_sharpe: float = 0.25
    prior_sd: float = 0.5
    correlation_days: float = 60.0
    switch_days: int = 365
    rate: float = 0.05
    draws: int = 1000
    horizon_days: float = 30.0
    cost_frac: float = 0.0012
    band: float = 0.05
    seed: int = 7


class AllocationStep(msgspec.Struct, frozen=True):
    """What was weighed on a day: the weights proposed, the gain expected over the horizon and the cost, as fractions of
    the capital that the strategies share, how far they lie from those in force, and whether they were taken."""

    day_ns: Nanos
    proposed: tuple[float, ...]
    expected_gain: float
    cost: float
    deviation: float
    taken: bool


class AdaptiveAllocator:
    """The tilt of the strategies ``names``; see the module for the rules."""

    def __init__(
        self, names: Sequence[StrategyId], method: Method = "none", settings: AllocatorSettings | None = None
    ) -> None:
        """Raises ``ValueError`` for an unknown method, names that repeat, and settings that are none."""
        chosen = settings or AllocatorSettings()
        if method not in get_args(Method):
            raise ValueError(f"an allocator's method is one of {' '.join(get_args(Method))}, not {method!r}")
        if not names or len(set(names)) != len(names):
            raise ValueError(f"an allocator needs strategies whose names differ, not {' '.join(names) or 'none'}")
        _check(chosen)
        self.names, self.method, self.settings = tuple(names), method, chosen
        self.last: AllocationStep | None = None
        count = len(self.names)
        self._lam = half_life_to_lambda(chosen.half_life_days)
        self._cap = max(chosen.cap, 1.0 / count)
        self._covariance = EwmaCovariance(count, self._lam, min_periods=2)
        self._mean, self._weight, self._squares = np.zeros(count), np.zeros(count), np.zeros(count)
        self._learned = np.full(count, 1.0 / count)
        self._force = np.full(count, 1.0 / count)
        self._range, self._days, self._day_ns = _LEAST_RANGE, 0, 0

    @property
    def weights(self) -> dict[StrategyId, float]:
        """The weights in force; equal until there is something to say."""
        return dict(zip(self.names, self._force.tolist(), strict=True))

    def record(self, day_ns: Nanos, returns: Mapping[StrategyId, float]) -> AllocationStep | None:
        """Take the net returns of the UTC day that ended at ``day_ns`` in; what was weighed, None before the warm-up.

        A return is a strategy's result after fees, funding and slippage, over the equity that its weight stood for. A
        strategy that had none is left out of ``returns``. Raises ``ValueError`` on a day that is not later than the
        last or no midnight, on an unknown name, and on what is no return.
        """
        if day_ns % DAY_NS or day_ns <= self._day_ns:
            raise ValueError(f"a day ends at a UTC midnight after {self._day_ns}, not at {day_ns}")
        if unknown := set(returns) - set(self.names):
            raise ValueError(f"no strategy is called {min(unknown)}; there is {' '.join(self.names)}")
        if not all(-1.0 < each < math.inf for each in returns.values()):
            raise ValueError(f"a daily return is a number above -1, not {dict(returns)}")
        row = np.array([returns.get(name, math.nan) for name in self.names])
        self._day_ns, self._days = day_ns, self._days + 1
        self._observe(row)
        self.last = None
        if self.method == "none" or self._days < self.settings.warmup_days:
            return None
        self.last = self._weighed(capped(self._proposed(), self._cap))
        if self.last.taken:
            self._force = np.array(self.last.proposed)
        return self.last

    def tilt(self, weights: Mapping[StrategyId, float]) -> dict[StrategyId, float]:
        """The matrix's weights, moved toward those in force; their sum is never more than it was.

        Strategies that the allocator does not know keep their weight.
        """
        strength, count = self.settings.strength, len(self.names)
        factors = {name: 1.0 + strength * (count * each - 1.0) for name, each in self.weights.items()}
        if all(abs(factor - 1.0) < 1e-12 for factor in factors.values()):
            return dict(weights)
        known = [name for name in weights if name in factors]
        before = math.fsum(weights[name] for name in known)
        after = math.fsum(weights[name] * factors[name] for name in known)
        scale = before / after if after > before else 1.0
        return {name: weight * factors[name] * scale if name in factors else weight for name, weight in weights.items()}

    # ---- learning -----------------------------------------------------------------------------------------------

    def _observe(self, row: Floats) -> None:
        there = ~np.isnan(row)
        seen = np.where(there, row, 0.0)
        self._covariance.push(row)
        keep = np.where(there, self._lam, 1.0)
        self._weight = keep * self._weight + there
        self._squares = keep * keep * self._squares + there
        step = np.divide(1.0, self._weight, out=np.zeros(there.size), where=there)
        self._mean = self._mean + step * (seen - self._mean)
        if not there.any():
            return
        if self.method == "hedge":
            self._range = max(self._range, float(np.abs(seen).max()))
            # who was not there loses what the others lose on average
            losses = 0.5 - np.where(there, seen, seen[there].mean()) / (2.0 * self._range)
            rate = hedge_rate(len(self.names), self._days)
            self._learned = fixed_share(hedge_step(self._learned, losses, rate), 1.0 / (self.settings.switch_days - 1))
        elif self.method == "exponentiated_gradient":
            relatives = 1.0 + np.where(there, seen, seen[there].mean())
            self._learned = exponentiated_gradient_step(self._learned, relatives, self.settings.rate)

    def _proposed(self) -> Floats:
        """The weights that the method would have."""
        if self.method in ("hedge", "exponentiated_gradient"):
            return self._learned
        count = len(self.names)
        known, covariance = self._risk()
        result = np.full(count, 1.0 / count)
        if not known.any():
            return result
        if self.method == "shrinkage":
            inside = long_only_weights(self._expected()[known], covariance)
        else:
            variance = np.diag(covariance)
            inside = probability_best(
                self._mean[known],
                np.maximum(variance - self._mean[known] ** 2, _NO_VARIANCE),
                self._evidence()[known],
                prior_count=_YEAR / self.settings.prior_sd**2,  # a Sharpe ratio of 0, give or take prior_sd
                prior_variance=float(variance.mean()),
                seed=[self.settings.seed, self._day_ns // DAY_NS],
                draws=self.settings.draws,
            )
        result[known] = inside * float(known.sum()) / count
        return result

    def _evidence(self) -> Floats:
        """How many equally weighted days the decayed ones are worth."""
        return np.divide(self._weight**2, self._squares, out=np.zeros(len(self.names)), where=self._squares > 0.0)

    def _risk(self) -> tuple[NDArray[np.bool_], Floats]:
        """Which strategies have a risk that is known, and their covariance, correlations drawn in toward 0."""
        matrix = self._covariance.matrix()
        known = np.diag(matrix) > _NO_VARIANCE  # False for NaN
        inside = matrix[np.ix_(known, known)]
        days = float(self._evidence()[known].min(initial=math.inf))
        believed = days / (days + self.settings.correlation_days) if known.any() else 0.0
        return known, np.where(np.eye(len(inside), dtype=np.bool_), inside, believed * inside)

    def _expected(self) -> Floats:
        """Expected daily returns ``(N,)``: Sharpe ratios shrunk to the common one, that to the prior; 0 if unknown."""
        chosen, known = self.settings, np.diag(self._covariance.matrix()) > _NO_VARIANCE
        result = np.zeros(len(self.names))
        if not known.any():
            return result
        deviation = np.sqrt(np.diag(self._covariance.matrix())[known] * _YEAR)
        seen, years = self._mean[known] * _YEAR / deviation, self._evidence()[known] / _YEAR
        common = shrunk_sharpe(float(seen.mean()), float(years.mean()), chosen.prior_sharpe, chosen.prior_sd)
        believed = [
            shrunk_sharpe(float(each), float(over), common, chosen.prior_sd)
            for each, over in zip(seen, years, strict=True)
        ]
        result[known] = np.array(believed) * deviation / _YEAR
        return result

    def _weighed(self, proposed: Floats) -> AllocationStep:
        """Whether the proposed weights are worth their turnover."""
        moved = proposed - self._force
        gain = float(moved @ self._expected()) * self.settings.horizon_days
        turnover = float(np.abs(moved).sum())
        cost, deviation = turnover * self.settings.cost_frac, turnover / 2.0
        taken = gain - cost > 0.0 and deviation > self.settings.band
        return AllocationStep(self._day_ns, tuple(proposed.tolist()), gain, cost, deviation, taken)

    # ---- state --------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """The state as plain numbers and lists; an allocator of the same settings that loads it goes on bit for bit."""
        return {
            "names": list(self.names),
            "method": self.method,
            "days": self._days,
            "day_ns": self._day_ns,
            "range": self._range,
            "mean": self._mean.tolist(),
            "weight": self._weight.tolist(),
            "squares": self._squares.tolist(),
            "learned": self._learned.tolist(),
            "force": self._force.tolist(),
            "covariance": self._covariance.dump(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``dump``. Raises ``ValueError`` when it is of other strategies or another method."""
        if tuple(state["names"]) != self.names or state["method"] != self.method:
            raise ValueError(
                f"the stored allocator is {state['method']} of {' '.join(state['names'])}, not {self.method} of "
                f"{' '.join(self.names)}"
            )
        self._days, self._day_ns, self._range = int(state["days"]), int(state["day_ns"]), float(state["range"])
        self._mean, self._weight, self._squares = (np.array(state[each]) for each in ("mean", "weight", "squares"))
        self._learned, self._force = np.array(state["learned"]), np.array(state["force"])
        self._covariance.load(state["covariance"])
        self.last = None


def _check(chosen: AllocatorSettings) -> None:
    bounds = {
        "half_life_days": (180.0, math.inf),
        "warmup_days": (2, math.inf),
        "cap": (0.01, 1.0),
        "strength": (0.0, 1.0),
        "prior_sharpe": (-5.0, 5.0),
        "prior_sd": (0.01, 10.0),
        "correlation_days": (0.0, math.inf),
        "switch_days": (2, math.inf),
        "rate": (0.0, 10.0),
        "draws": (1, 1_000_000),
        "horizon_days": (1.0, 3650.0),
        "cost_frac": (0.0, 1.0),
        "band": (0.0, 1.0),
    }
    for name, (low, high) in bounds.items():
        value = getattr(chosen, name)
        if not low <= value <= high:
            raise ValueError(f"an allocator's {name} must lie in [{low}, {high}], not {value}")
