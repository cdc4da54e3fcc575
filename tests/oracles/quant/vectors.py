"""The quantitative oracle vectors: who computes a case, and the only door to an expected value.

1. A case function is registered with ``@case(file, id)``; it computes and calls ``oracle.check(key, actual)``.
2. ``check`` walks what is expected under ``key`` beside ``actual``, leaf by leaf, and records each comparison. Nothing
   else hands out an expected value, so a function cannot echo one.
3. The index test runs every case, and fails unless each leaf of it was compared.
4. It then moves each leaf by ten tolerances: the recorded figure must not pass any more.

A leaf is a number, a text, a truth value or null; tolerances are read as ``index.json`` says.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "oracles" / "quant"
"""Where the vectors lie: beside the repository, for tests only."""

LATER = frozenset({"almgren_chriss.json", "execution.json", "backtest_statistics.json"})
"""Files of parts that are not built yet."""

CASES: dict[tuple[str, str], Callable[["Oracle"], None]] = {}
"""Every registered case function by file and case."""

Leaf = float | int | str | bool | None


def case(file: str, name: str) -> Callable[[Callable[["Oracle"], None]], Callable[["Oracle"], None]]:
    """Register the function that computes a case: ``@case("kelly.json", "thorp-coin")``."""

    def register(function: Callable[["Oracle"], None]) -> Callable[["Oracle"], None]:
        if (file, name) in CASES:
            raise ValueError(f"{file} {name} has a function already")
        CASES[file, name] = function
        return function

    return register


@dataclass(frozen=True, slots=True)
class Comparison:
    """One leaf beside the figure that we computed."""

    path: str
    expected: Leaf
    actual: object
    abs_tolerance: float
    rel_tolerance: float

    def passes(self) -> bool:
        return _agrees(self.expected, self.actual, self.abs_tolerance, self.rel_tolerance)

    def notices(self) -> bool:
        """True when the figure would not pass, were the leaf ten tolerances elsewhere, on either side."""
        return all(not _agrees(moved, self.actual, self.abs_tolerance, self.rel_tolerance) for moved in self._moved())

    def _moved(self) -> Iterator[Leaf]:
        if self.expected is None:
            yield 0.0
        elif isinstance(self.expected, bool):
            yield not self.expected
        elif isinstance(self.expected, str):
            yield self.expected + "'"
        else:
            size = abs(float(self.expected))
            by = 10.0 * (self.abs_tolerance + self.rel_tolerance * size) or max(1.0, size) * 1e-9
            yield self.expected + by
            yield self.expected - by


@dataclass(slots=True)
class Oracle:
    """One case: its inputs for all to see, its expected values behind ``check``."""

    file: str
    name: str
    inputs: dict[str, Any]
    comparisons: list[Comparison] = field(default_factory=list)
    _expected: dict[str, Any] = field(default_factory=dict, repr=False)
    _tolerance: dict[str, Any] = field(default_factory=dict, repr=False)

    def check(self, key: str, actual: object) -> None:
        """Compare ``actual`` with all that is expected under the dotted ``key`` (``"band"``, ``"day.iso"``).

        ``actual`` has the shape of what is expected: mappings for objects, sequences or arrays for lists. ``key`` may
        be ``""`` for the whole.
        """
        found: Any = self._expected
        for part in key.split(".") if key else ():
            found = found[int(part)] if isinstance(found, list) else found[part]
        before = len(self.comparisons)
        self._walk(key, found, actual)
        wrong = [each for each in self.comparisons[before:] if not each.passes()]
        if wrong:
            first = wrong[0]
            raise AssertionError(
                f"{self.file} {self.name}: {first.path} is {first.actual!r}, expected {first.expected!r} "
                f"(abs {first.abs_tolerance:g}, rel {first.rel_tolerance:g}), and {len(wrong) - 1} more"
            )

    def keys(self, key: str = "") -> list[str]:
        """The names expected under ``key``: names only, never values."""
        found: Any = self._expected
        for part in key.split(".") if key else ():
            found = found[int(part)] if isinstance(found, list) else found[part]
        return list(found)

    def uncompared(self) -> list[str]:
        """The leaves that no ``check`` has reached."""
        compared = {each.path for each in self.comparisons}
        return [path for path in _leaves("", self._expected) if path not in compared]

    def _walk(self, path: str, expected: Any, actual: Any) -> None:
        if hasattr(actual, "tolist"):
            actual = actual.tolist()
        if isinstance(expected, dict):
            if not isinstance(actual, Mapping):
                raise AssertionError(f"{self.file} {self.name}: {path} takes a mapping, not {type(actual).__name__}")
            for name, value in expected.items():
                if name not in actual:
                    raise AssertionError(f"{self.file} {self.name}: {path} lacks {name}; it has {sorted(actual)}")
                self._walk(_joined(path, name), value, actual[name])
        elif isinstance(expected, list):
            if isinstance(actual, str) or not isinstance(actual, Sequence) or len(actual) != len(expected):
                size = len(actual) if isinstance(actual, Sequence) else type(actual).__name__
                raise AssertionError(f"{self.file} {self.name}: {path} has {len(expected)} values, not {size}")
            for index, (value, ours) in enumerate(zip(expected, actual, strict=True)):
                self._walk(_joined(path, str(index)), value, ours)
        else:
            absolute, relative = self._tolerances(path)
            self.comparisons.append(Comparison(path, expected, actual, absolute, relative))

    def _tolerances(self, path: str) -> tuple[float, float]:
        given: Mapping[str, float] = self._tolerance
        parts = path.split(".")
        for pattern, special in self._tolerance.get("per_key", {}).items():
            wanted = pattern.split(".")
            if len(wanted) <= len(parts) and all(
                fnmatchcase(part, each) for part, each in zip(parts, wanted, strict=False)
            ):
                given = special
        return float(given.get("abs", 0.0)), float(given.get("rel", 0.0))


def load(file: str) -> dict[str, Oracle]:
    """The cases of a file by their id."""
    content = json.loads((FOLDER / file).read_text())
    return {
        each["id"]: Oracle(
            file, each["id"], each.get("inputs", {}), _expected=each["expected"], _tolerance=each.get("tolerance", {})
        )
        for each in content["cases"]
    }


def indexed() -> list[tuple[str, str]]:
    """Every (file, case) of the index."""
    content = json.loads((FOLDER / "index.json").read_text())
    return [(entry["file"], each["id"]) for entry in content["files"] for each in entry["cases"]]


def _agrees(expected: Leaf, actual: object, absolute: float, relative: float) -> bool:
    if expected is None:
        return actual is None or (isinstance(actual, float) and math.isnan(actual))
    if isinstance(expected, (bool, str)) or isinstance(actual, (bool, str)):
        return type(expected) is type(actual) and expected == actual
    if not isinstance(actual, (int, float)) or not math.isfinite(actual):
        return False
    slack = absolute + relative * abs(expected)
    return abs(actual - expected) <= slack or actual == expected


def _leaves(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(_joined(path, name), each)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _leaves(_joined(path, str(index)), each)
    else:
        yield path


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
