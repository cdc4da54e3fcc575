"""The fit behind the regime detector: an HMM, the week's pattern of volatility and a variance recursion, as bytes.

A request carries the window, its answer the parameters; both are bytes, so that a fit can run in another process and be
kept in a journal. The same request gives the same bytes wherever it runs, see ``quant.hmm_fit``.

Bars of a few hours have a pattern of volatility over the week. Returns are divided by it before the variance recursion
sees them (Andersen & Bollerslev 1997 for the pattern of the day), or each night would look like a calmer market.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from tidegate.quant.fold import Floats
from tidegate.quant.hmm import HmmParameters
from tidegate.quant.hmm_fit import WINSOR_MADS, Ints, fit_hmm
from tidegate.quant.volatility import SLOW_DECAY, GarchParameters
from tidegate.quant.volatility_fit import fit_garch

_WEEK_NS: Final = 7 * 24 * 3600 * 1_000_000_000
_PATTERN_PRIOR_ROWS: Final = 50  # the weight of "no pattern" in each slot of the week


class RegimeModel(msgspec.Struct, frozen=True):
    """Fitted parameters of the detector: an HMM (or why there is none), a week's pattern and a variance recursion.

    ``week_pattern`` holds, for each bar of the week from Thursday 00:00 UTC (as 1970 began), how many times the usual
    volatility its return has.
    """

    hmm: bytes | None
    reason: str
    garch: GarchParameters
    week_pattern: tuple[float, ...]

    def to_bytes(self) -> bytes:
        """An exact picture of the model."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "RegimeModel":
        """The model that ``to_bytes`` wrote. Raises ``ValueError`` when the bytes are something else."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise ValueError(f"these bytes are no regime model: {error}") from None


class FitRequest(msgspec.Struct, frozen=True):
    """A window to fit: T rows up to ``end_ns``. What comes of it is used from ``activation_ns`` on.

    ``ts``, ``features`` and ``moves`` are the bytes of bar ends ``(T,)`` int64, observations ``(T, D)`` and log returns
    ``(T,)`` float64. ``warm`` is the previous HMM.
    """

    end_ns: int
    activation_ns: int
    bar_ns: int
    states: int
    seed: int
    restarts: int
    ts: bytes
    features: bytes
    moves: bytes
    warm: bytes | None

    @property
    def ts_ns(self) -> Ints:
        """Ends of the bars, ``(T,)``."""
        return np.frombuffer(self.ts, dtype="<i8")

    @property
    def start_ns(self) -> int:
        """End of the first bar of the window."""
        return int(self.ts_ns[0])

    @property
    def returns(self) -> Floats:
        """Log returns, ``(T,)``."""
        return np.frombuffer(self.moves, dtype="<f8")

    @property
    def observations(self) -> Floats:
        """What the HMM sees, ``(T, D)``."""
        return np.frombuffer(self.features, dtype="<f8").reshape(self.returns.size, -1)

    def to_bytes(self) -> bytes:
        """The request for ``fit_regime``."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "FitRequest":
        """The request that ``to_bytes`` wrote. Raises ``ValueError`` when the bytes are something else."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise ValueError(f"these bytes are no request for a fit: {error}") from None


def fit_regime(request: bytes) -> bytes:
    """Fit a ``FitRequest``'s window; the bytes of a ``RegimeModel``. Pure: the same bytes in any process.

    Made to run in a process pool or inline. Raises ``ValueError`` only when the bytes are no request.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    asked = FitRequest.from_bytes(request)
    warm = HmmParameters.from_bytes(asked.warm) if asked.warm is not None else None
    with threadpool_limits(1):
        fit = fit_hmm(asked.observations, asked.states, seed=asked.seed, restarts=asked.restarts, warm=warm)
        slots = week_slots(asked.ts_ns, asked.bar_ns)
        pattern = week_pattern(asked.returns, slots, slots_in_week(asked.bar_ns))
        garch = fit_garch(asked.returns / pattern[slots], fallback_decay=SLOW_DECAY)
    hmm = fit.parameters.to_bytes() if fit.parameters is not None else None
    return RegimeModel(hmm, fit.reason, garch, tuple(pattern.tolist())).to_bytes()


def slots_in_week(bar_ns: int) -> int:
    """How many bars a week has, 1 when it is no whole number of bars: then there is no pattern."""
    return _WEEK_NS // bar_ns if _WEEK_NS % bar_ns == 0 else 1


def week_slots(ts_ns: ArrayLike, bar_ns: int) -> Ints:
    """The bar of the week that ends at each instant, 0 for the one that ends on Thursday 00:00 UTC."""
    return (np.asarray(ts_ns, dtype=np.int64) // bar_ns) % slots_in_week(bar_ns)


def week_pattern(returns: ArrayLike, slots: Ints, slots_per_week: int) -> Floats:
    """Volatility of each slot of the week over the usual one, ``(slots_per_week,)``, drawn toward 1.

    Returns are winsorised at 5 MAD first; each slot's mean square is averaged with 50 rows of the usual one.
    """
    column = np.asarray(returns, dtype=np.float64)
    if not column.size or not bool(np.isfinite(column).all()):
        return np.ones(slots_per_week)
    median = float(np.median(column))
    reach = WINSOR_MADS * float(np.median(np.abs(column - median)))
    squares = np.clip(column - median, -reach, reach) ** 2
    usual = float(squares.mean())
    if not usual > 0.0:
        return np.ones(slots_per_week)
    sums = np.bincount(slots, weights=squares, minlength=slots_per_week)
    counts = np.bincount(slots, minlength=slots_per_week)
    pattern: Floats = np.sqrt((sums / usual + _PATTERN_PRIOR_ROWS) / (counts + _PATTERN_PRIOR_ROWS))
    return pattern
