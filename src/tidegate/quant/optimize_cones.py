"""The convex program behind the optimiser, put to Clarabel directly.

1. ``ConeProblem`` holds the numbers: minimise ``1/2 w'Qw + c'w + kp'|d| + ki'|d|^1.5`` with ``d = w - w0``, under
   bounds, gross, net, beta, turnover and factor caps.
2. ``shape_of`` says which rows and variables those numbers need: constraints that cannot bind are left out.
   Variables: ``w (N)``, ``t >= |d|`` where it is priced or capped, ``u >= |w|`` for gross, ``z >= |d|^1.5`` as a power
   cone ``(z, 1, d)`` with exponents (2/3, 1/3), and an elastic ``e`` when the least violation is asked for. The power
   cone is one cone per asset; the two second-order cones that say the same took as long and ended less exactly.
3. Per shape the matrices are laid out once; later problems change only their numbers. The solver's own equilibration
   is off there: it belongs to the first problem it saw, and the same problem must give the same bits whatever came
   before. The caller scales the objective instead.
4. Where the fast settings do not end in ``Solved``, a fresh solver tries again with equilibration, iterative
   refinement and, step by step, the looser of the tolerances.

Source: Goulart & Chen 2024, Clarabel; Boyd et al. 2017, Multi-period trading via convex optimization, section 4.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Group = Literal["turnover", "factors", "beta", "net"]
"""A constraint that may be widened; bounds and gross may not."""

QUADRATIC_TOLERANCE = 1e-12
POWER_TOLERANCE = 1e-10
"""What the fast attempt must reach; power cones do not get nearer reliably."""

CAREFUL_TOLERANCES = (1e-9, 1e-8)
_MAX_ITERATIONS = 200


@dataclass(frozen=True, slots=True, eq=False)
class ConeProblem:
    """The numbers of one program, already scaled. ``None`` and infinite bounds are no constraint.

    ``quadratic`` is ``(N, N)`` and positive semi-definite; vectors are ``(N,)``; ``net`` is (low, high), ``beta`` a
    vector with ``|beta'w| <= beta_cap``, ``factors`` ``(K, N)`` with ``|F w| <= factor_caps``.
    """

    quadratic: Vector
    linear: Vector
    held: Vector
    lower: Vector
    upper: Vector
    proportional: Vector
    impact: Vector
    gross: float | None = None
    net: tuple[float, float] | None = None
    beta: Vector | None = None
    beta_cap: float = 0.0
    turnover: float | None = None
    factors: Vector | None = None
    factor_caps: Vector | None = None

    def widened(self, group: Group, by: float) -> "ConeProblem":
        """The same with one constraint further out by ``by``."""
        if group == "turnover":
            return replace(self, turnover=None if self.turnover is None else self.turnover + by)
        if group == "beta":
            return replace(self, beta_cap=self.beta_cap + by)
        if group == "net":
            return replace(self, net=None if self.net is None else (self.net[0] - by, self.net[1] + by))
        return replace(self, factor_caps=None if self.factor_caps is None else self.factor_caps + by)

    def without(self, group: Group) -> "ConeProblem":
        """The same without one constraint."""
        if group == "turnover":
            return replace(self, turnover=None)
        if group == "beta":
            return replace(self, beta=None)
        if group == "net":
            return replace(self, net=None)
        return replace(self, factors=None, factor_caps=None)

    def has(self, group: Group) -> bool:
        """True when the constraint is there."""
        return getattr(self, group) is not None

    def value(self, weights: Vector) -> float:
        """What is minimised, at ``weights``."""
        trade = np.abs(weights - self.held)
        priced = float(self.proportional @ trade) + float(self.impact @ trade**1.5)
        return 0.5 * float(weights @ self.quadratic @ weights) + float(self.linear @ weights) + priced

    def violation(self, weights: Vector) -> float:
        """By how much the worst constraint is broken at ``weights``; 0 when all hold."""
        broken = [float(np.max(self.lower - weights)), float(np.max(weights - self.upper))]
        if self.gross is not None:
            broken.append(float(np.abs(weights).sum()) - self.gross)
        if self.net is not None:
            net = float(weights.sum())
            broken += [self.net[0] - net, net - self.net[1]]
        if self.beta is not None:
            broken.append(abs(float(self.beta @ weights)) - self.beta_cap)
        if self.turnover is not None:
            broken.append(float(np.abs(weights - self.held).sum()) - self.turnover)
        if self.factors is not None and self.factor_caps is not None and len(self.factors):
            broken.append(float(np.max(np.abs(self.factors @ weights) - self.factor_caps)))
        return max(0.0, *broken)


@dataclass(frozen=True, slots=True)
class Shape:
    """Which variables and rows a program has; asset sets as bytes, so that a shape is a key."""

    size: int
    upper: bytes
    lower: bytes
    traded: bytes
    impact: bytes
    gross: bool
    turnover: bool
    net: Literal["", "equal", "range"]
    beta: Literal["", "equal", "range"]
    factors: int
    elastic: Group | None


def shape_of(problem: ConeProblem, elastic: Group | None = None) -> Shape:
    """The shape of a program. ``elastic`` is the constraint whose least violation is wanted instead."""
    reach = np.maximum(np.abs(problem.lower), np.abs(problem.upper))
    furthest = np.maximum(problem.upper - problem.held, problem.held - problem.lower)
    gross = problem.gross is not None and not float(reach.sum()) <= problem.gross
    turnover = problem.turnover is not None and not float(furthest.sum()) <= problem.turnover
    traded = np.ones(len(reach), dtype=bool) if turnover else problem.proportional > 0.0
    free = elastic is not None  # the objective is the violation alone, so nothing prices the trades
    return Shape(
        size=len(reach),
        upper=np.isfinite(problem.upper).tobytes(),
        lower=np.isfinite(problem.lower).tobytes(),
        traded=(traded & turnover if free else traded).tobytes(),
        impact=(np.zeros(len(reach), dtype=bool) if free else problem.impact > 0.0).tobytes(),
        gross=gross,
        turnover=turnover,
        net="" if problem.net is None else _sided(problem.net[1] - problem.net[0], elastic == "net"),
        beta="" if problem.beta is None else _sided(problem.beta_cap, elastic == "beta"),
        factors=0 if problem.factors is None else len(problem.factors),
        elastic=elastic,
    )


def _sided(width: float, elastic: bool) -> Literal["equal", "range"]:
    return "range" if width > 0.0 or elastic else "equal"


@dataclass(frozen=True, slots=True, eq=False)
class ConeSolution:
    """What Clarabel ended with. ``weights`` is None unless it said ``Solved``; ``excess`` is the elastic's value."""

    weights: Vector | None
    excess: float
    infeasible: bool
    iterations: int


class ConeSolver:
    """Solves programs and keeps a laid-out solver per shape; the answer depends on the program alone."""

    def __init__(self, *, kept_shapes: int = 8) -> None:
        self._kept_shapes = kept_shapes
        self._layouts: dict[Shape, _Layout] = {}

    def solve(self, problem: ConeProblem, elastic: Group | None = None) -> ConeSolution:
        """Minimise, or with ``elastic`` find the least violation of that constraint under all the others."""
        shape = shape_of(problem, elastic)
        layout = self._layouts.pop(shape, None) or _Layout(shape)
        self._layouts[shape] = layout  # the shape used last is dropped last
        while len(self._layouts) > self._kept_shapes:
            self._layouts.pop(next(iter(self._layouts)))
        solution = layout.fast(problem)
        iterations = int(solution.iterations)
        for tolerance in CAREFUL_TOLERANCES:
            before = _named(solution)
            if before == "Solved":
                break
            solution = layout.careful(problem, tolerance)
            iterations += int(solution.iterations)
            if before == _named(solution) == "PrimalInfeasible":
                break  # two differently scaled attempts agree
        if _named(solution) != "Solved":
            return ConeSolution(None, np.nan, _named(solution) == "PrimalInfeasible", iterations)
        found = np.asarray(solution.x, dtype=np.float64)
        return ConeSolution(found[: shape.size].copy(), max(0.0, float(found[-1])), False, iterations)


def _named(solution: Any) -> str:
    return str(solution.status)


class _Layout:
    """Rows and variables of one shape, laid out once: where each number goes."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        size = shape.size
        self._upper = np.flatnonzero(np.frombuffer(shape.upper, dtype=bool))
        self._lower = np.flatnonzero(np.frombuffer(shape.lower, dtype=bool))
        self._traded = np.flatnonzero(np.frombuffer(shape.traded, dtype=bool))
        self._impact = np.flatnonzero(np.frombuffer(shape.impact, dtype=bool))
        self._t = size
        self._u = self._t + self._traded.size
        self._z = self._u + (size if shape.gross else 0)
        self._e = self._z + self._impact.size
        self.variables = self._e + (shape.elastic is not None)
        self._rows = 0
        self._cones: list[tuple[str, int]] = []
        self._entries: list[tuple[NDArray[np.int64], NDArray[np.int64], Vector]] = []
        self._special: dict[str, slice] = {}
        self._lay_rows()
        self._columns = np.tril_indices(size)
        self._solver: Any = None
        row, column, value = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        self._order = np.lexsort((row, column))
        self._value = value
        self._index = row[self._order]
        self._start = np.searchsorted(column[self._order], np.arange(self.variables + 1))

    def fast(self, problem: ConeProblem) -> Any:
        """Change the numbers of the kept solver and solve."""
        quadratic, linear, values, bounds = self._numbers(problem)
        if self._solver is None:
            tolerance = POWER_TOLERANCE if self._impact.size else QUADRATIC_TOLERANCE
            self._solver = self._made(quadratic, linear, values, bounds, _settings(tolerance, careful=False))
        else:
            self._solver.update(P=quadratic, q=linear, A=values, b=bounds)
        return self._solver.solve()

    def careful(self, problem: ConeProblem, tolerance: float) -> Any:
        """A fresh solver with everything that helps a hard program."""
        return self._made(*self._numbers(problem), _settings(tolerance, careful=True)).solve()

    def _lay_rows(self) -> None:
        """Every row's columns and coefficients; those that vary are filled in by ``_numbers``."""
        shape, size = self._shape, self._shape.size
        for name in ("net", "beta"):
            if getattr(shape, name) == "equal":
                self._dense(name, "equal", 1)
        self._close("zero")
        self._add([(self._upper, 1.0)])
        self._add([(self._lower, -1.0)])
        every, traded = np.arange(size), self._traded
        for sign in (1.0, -1.0):
            self._add([(traded, sign), (self._t + np.arange(traded.size), -1.0)])
            if shape.gross:
                self._add([(every, sign), (self._u + every, -1.0)])
        if shape.gross:
            self._sum(self._u + every)
        if shape.turnover:
            self._sum(self._t + np.arange(traded.size), elastic=shape.elastic == "turnover")
        for name, count in (("net", 1), ("beta", 1), ("factors", shape.factors)):
            if getattr(shape, name) == "range" or (name == "factors" and count):
                self._dense(name, "+", count, elastic=shape.elastic == name)
                self._dense(name, "-", count, elastic=shape.elastic == name)
        if shape.elastic is not None:
            self._add([(np.array([self._e]), -1.0)])
        self._close("positive")
        for number, asset in enumerate(self._impact):
            # the cone holds z, the constant 1 and the trade
            self._put([self._rows, self._rows + 2], [self._z + number, asset], [-1.0, -1.0])
            self._rows += 3
            self._close("power")

    def _put(self, rows: Any, columns: Any, values: Any) -> None:
        shape = np.broadcast_shapes(np.shape(rows), np.shape(columns), np.shape(values))
        self._entries.append(
            (
                np.broadcast_to(np.asarray(rows, dtype=np.int64), shape).ravel(),
                np.broadcast_to(np.asarray(columns, dtype=np.int64), shape).ravel(),
                np.broadcast_to(np.asarray(values, dtype=np.float64), shape).ravel().copy(),
            )
        )

    def _add(self, parts: list[tuple[NDArray[Any], float]]) -> None:
        count = parts[0][0].size
        for columns, value in parts:
            self._put(self._rows + np.arange(count), columns, value)
        self._rows += count

    def _sum(self, columns: NDArray[Any], *, elastic: bool = False) -> None:
        self._put(self._rows, columns, 1.0)
        if elastic:
            self._put([self._rows], [self._e], -1.0)
        self._rows += 1

    def _dense(self, name: str, side: str, count: int, *, elastic: bool = False) -> None:
        size = self._shape.size
        at = sum(entry[2].size for entry in self._entries)
        self._put(self._rows + np.repeat(np.arange(count), size), np.tile(np.arange(size), count), 1.0)
        self._special[name + side] = slice(at, at + count * size)
        if elastic:
            self._put(self._rows + np.arange(count), self._e, -1.0)
        self._rows += count

    def _close(self, kind: str) -> None:
        count = self._rows - sum(rows for _, rows in self._cones)
        if count:
            self._cones.append((kind, count))

    def _numbers(self, problem: ConeProblem) -> tuple[Vector, Vector, Vector, Vector]:
        shape = self._shape
        quadratic = problem.quadratic.T[self._columns]
        linear = np.zeros(self.variables)
        if shape.elastic is None:
            linear[: shape.size] = problem.linear
            linear[self._t : self._u] = problem.proportional[self._traded]
            linear[self._z : self._e] = problem.impact[self._impact]
        else:
            quadratic = np.zeros_like(quadratic)
            linear[self._e] = 1.0
        values = self._value.copy()
        for name, rows in (("beta", problem.beta), ("factors", problem.factors)):
            for side, sign in (("equal", 1.0), ("+", 1.0), ("-", -1.0)):
                if rows is not None and name + side in self._special:
                    values[self._special[name + side]] = sign * rows.ravel()
        if "net-" in self._special:
            values[self._special["net-"]] = -1.0
        return quadratic, linear, values[self._order], self._bounds(problem)

    def _bounds(self, problem: ConeProblem) -> Vector:
        """The right-hand sides, in the order of ``_lay_rows``."""
        shape, held = self._shape, problem.held[self._traded]
        low, high = problem.net or (0.0, 0.0)
        parts: list[Any] = []
        parts += [[high]] if shape.net == "equal" else []
        parts += [[0.0]] if shape.beta == "equal" else []
        parts += [problem.upper[self._upper], -problem.lower[self._lower]]
        for sign in (1.0, -1.0):
            parts += [sign * held, np.zeros(shape.size if shape.gross else 0)]
        parts += [[problem.gross]] if shape.gross else []
        parts += [[problem.turnover]] if shape.turnover else []
        parts += [[high], [-low]] if shape.net == "range" else []
        parts += [[problem.beta_cap] * 2] if shape.beta == "range" else []
        if problem.factor_caps is not None:
            parts += [problem.factor_caps] * 2
        parts += [[0.0]] if shape.elastic is not None else []
        cones = np.zeros((self._impact.size, 3))
        cones[:, 1] = 1.0
        cones[:, 2] = -problem.held[self._impact]
        return np.concatenate([np.asarray(each, dtype=np.float64) for each in [*parts, cones.ravel()]])

    def _made(self, quadratic: Vector, linear: Vector, values: Vector, bounds: Vector, settings: Any) -> Any:
        import clarabel
        from scipy.sparse import csc_matrix

        size, more = self._shape.size, self.variables - self._shape.size
        starts = np.concatenate((np.cumsum(np.arange(size + 1)), np.full(more, len(quadratic))))
        rows = np.concatenate([np.arange(column + 1) for column in range(size)])
        matrix = csc_matrix((quadratic, rows, starts), shape=(self.variables, self.variables))
        table = csc_matrix((values, self._index, self._start), shape=(self._rows, self.variables))
        makers = {"zero": clarabel.ZeroConeT, "positive": clarabel.NonnegativeConeT}
        cones = [
            clarabel.PowerConeT(2.0 / 3.0) if kind == "power" else makers[kind](count) for kind, count in self._cones
        ]
        return clarabel.DefaultSolver(matrix, linear, table, bounds, cones, settings)


def _settings(tolerance: float, *, careful: bool) -> Any:
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_iter = _MAX_ITERATIONS
    settings.max_threads = 1
    settings.direct_solve_method = "qdldl"
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    settings.presolve_enable = False  # it would forbid changing the numbers
    settings.input_sparse_dropzeros = False
    settings.equilibrate_enable = careful
    settings.iterative_refinement_enable = careful
    return settings
