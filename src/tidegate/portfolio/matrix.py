"""StrategyMatrix: what each strategy's share of the risk budget is in each of the eight scenarios.

1. A row per scenario, a column per style of strategy; a row sums to at most 1, the rest is cash. The table is a prior,
   not a finding.
2. The rows are blended by the probabilities of the scenarios; while nothing is known, the row of a nervous transition
   counts by half.
3. A strategy whose style has no column gets an even part, and the table the rest. Strategies of one style share it.
4. Hysteresis: the blend is taken over when it has moved by more than ``band`` (half the sum of absolute changes), or
   when the scenario has become known or unknown.

Source: the table of the roadmap; its axes are the direction and the volatility of the market.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tidegate.domain.ids import StrategyId
from tidegate.domain.signals import Scenario

SCENARIOS: Final = tuple(each for each in Scenario if each is not Scenario.UNKNOWN)
"""The eight scenarios in the order of every probability vector."""

STYLES: Final = ("trend", "mean_reversion", "range", "funding")
"""The columns of the table."""

PRIOR: Final[dict[Scenario, tuple[float, ...]]] = {
    Scenario.BULL_LOW: (0.60, 0.05, 0.05, 0.20),
    Scenario.BULL_HIGH: (0.45, 0.05, 0.00, 0.20),
    Scenario.BEAR_LOW: (0.55, 0.05, 0.05, 0.15),
    Scenario.BEAR_HIGH: (0.40, 0.05, 0.00, 0.10),
    Scenario.SIDEWAYS_LOW: (0.20, 0.20, 0.20, 0.30),
    Scenario.SIDEWAYS_HIGH: (0.20, 0.15, 0.05, 0.20),
    Scenario.TRANSITION_LOW: (0.30, 0.10, 0.10, 0.20),
    Scenario.TRANSITION_HIGH: (0.20, 0.05, 0.00, 0.15),
}
"""Shares of the risk budget by scenario and style."""

UNKNOWN_SHARE: Final = 0.5
"""How much of the TRANSITION_HIGH row is used while the regime is unknown."""

Table = Mapping[Scenario, Sequence[float]]


class MatrixState(msgspec.Struct):
    """What a matrix remembers: the weights in force, and whether the regime was known when they were taken."""

    weights: dict[StrategyId, float] = {}
    known: bool | None = None


class StrategyMatrix:
    """The weights of the configured strategies. ``styles`` says which column each strategy belongs to."""

    def __init__(self, styles: Mapping[StrategyId, str], table: Table = PRIOR, band: float = 0.05) -> None:
        """Raises ``ValueError`` for a table that lacks a scenario, or whose rows are not shares."""
        for scenario in SCENARIOS:
            row = table.get(scenario)
            if row is None or len(row) != len(STYLES):
                raise ValueError(f"the matrix needs {len(STYLES)} shares ({' '.join(STYLES)}) for {scenario.value}")
            if min(row) < 0.0 or sum(row) > 1.0 + 1e-12:
                raise ValueError(f"the shares of {scenario.value} must be positive and sum to at most 1, not {row}")
        if not 0.0 <= band < 1.0:
            raise ValueError(f"the band of the matrix must lie in [0, 1), not {band}")
        self._styles, self._table, self._band = dict(styles), table, band
        self._columns = {name: self._column(style) for name, style in self._styles.items()}
        self.state = MatrixState()

    @property
    def weights(self) -> Mapping[StrategyId, float]:
        """The shares in force; empty before the first reading."""
        return self.state.weights

    def blend(self, probabilities: Sequence[float]) -> dict[StrategyId, float]:
        """The shares that follow from the probabilities of the eight scenarios, or from knowing nothing (empty)."""
        if probabilities:
            rows = [self._table[scenario] for scenario in SCENARIOS]
            row = [sum(p * each[i] for p, each in zip(probabilities, rows, strict=True)) for i in range(len(STYLES))]
        else:
            row = [UNKNOWN_SHARE * share for share in self._table[Scenario.TRANSITION_HIGH]]
        even = 1.0 / len(self._styles) if self._styles else 0.0
        others = sum(even for column, _ in self._columns.values() if column is None)
        cash = UNKNOWN_SHARE if not probabilities else 1.0
        return {
            name: even * cash if column is None else (1.0 - others) * row[column] / among
            for name, (column, among) in self._columns.items()
        }

    def read(self, probabilities: Sequence[float]) -> bool:
        """Take a reading in; True when the weights in force have changed."""
        wanted, known = self.blend(probabilities), bool(probabilities)
        moved = sum(abs(share - self.weights.get(name, 0.0)) for name, share in wanted.items()) / 2.0
        if self.state.known == known and moved <= self._band:
            return False
        self.state = MatrixState(wanted, known)
        return moved > 0.0

    def _column(self, style: str) -> tuple[int | None, int]:
        """The column of a style, and how many strategies share it."""
        among = sum(each == style for each in self._styles.values())
        return (STYLES.index(style) if style in STYLES else None), among
