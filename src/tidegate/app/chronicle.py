"""What a run of several strategies says of itself besides trades: regimes, risk, results, what bound, what halted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tidegate.domain.messages import Command, Halt
from tidegate.domain.signals import BookRisk, Decision, RegimeChanged, StrategyResult


@dataclass(slots=True)
class Chronicle:
    """Collected in the order of time. ``bindings`` counts, by name, the limit that bound each new target."""

    regimes: list[RegimeChanged] = field(default_factory=list)
    risks: list[BookRisk] = field(default_factory=list)
    results: list[StrategyResult] = field(default_factory=list)
    bindings: Counter[str] = field(default_factory=Counter)
    halts: list[Halt] = field(default_factory=list)
    resets: int = 0
    fits: int = 0

    def commands(self, commands: Sequence[Command]) -> None:
        """Take in what the kernel answered."""
        for command in commands:
            kind = type(command)
            if kind is Decision:
                if command.strategy is None and command.binding_limit is not None:  # type: ignore[union-attr]
                    self.bindings[command.binding_limit] += 1  # type: ignore[union-attr]
            elif isinstance(command, RegimeChanged):
                self.regimes.append(command)
            elif isinstance(command, BookRisk):
                self.risks.append(command)
            elif isinstance(command, StrategyResult):
                self.results.append(command)
            elif isinstance(command, Halt):
                self.halts.append(command)
