"""A fault as asked for, checked against the catalogue, and the rule it becomes: its window, its odds, its count."""

import random
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from tidegate.adapters.localnet.fault_catalogue import CATALOGUE, FaultKind, Param
from tidegate.adapters.localnet.fault_words import ADMIN, GROUPS, WORDS
from tidegate.domain.errors import ConfigError

_S_NS = 1_000_000_000
_FIELDS = ("fault", "at_s", "for_s", "on", "probability", "skip", "count", "params")


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault to inject, as a scenario file or the admin endpoint names it.

    ``fault`` is an id of the catalogue. It holds from ``at_s`` after it was added, for ``for_s``; it strikes what
    ``on`` names (words of the fault's layer, joined by ``|``), lets the first ``skip`` pass, strikes each one with
    ``probability``, and at most ``count`` times. Without ``for_s`` and ``count`` the catalogue's bounds hold.
    """

    fault: str
    at_s: float = 0.0
    for_s: float | None = None
    on: str | None = None
    probability: float = 1.0
    skip: int = 0
    count: int | None = None
    params: dict[str, float | int | bool | str] = {}

    @property
    def kind(self) -> FaultKind:
        """Its line of the catalogue."""
        return CATALOGUE[self.fault]


def nearest(name: str, names: Iterable[str]) -> str:
    """``; did you mean X?`` or what there is."""
    known = list(names)
    found = get_close_matches(name, known, 1, 0.4) or get_close_matches(name.upper(), known, 1, 0.4)
    return f"did you mean {found[0]}?" if found else f"there are {', '.join(known) or 'none'}"


def fault_of(raw: object, where: str) -> Fault:
    """Check and convert a fault that was read as plain objects. Raises ``ConfigError``: one line that starts with
    ``where`` and names the nearest right thing."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: a fault is a mapping with the keys {', '.join(_FIELDS)}")
    for key in raw:
        if key not in _FIELDS:
            raise ConfigError(f"{where}: {key} is not a key of a fault; {nearest(str(key), _FIELDS)}")
    if (name := raw.get("fault")) not in CATALOGUE:
        raise ConfigError(f"{where}: {name} is not a fault; {nearest(str(name), CATALOGUE)}")
    try:
        fault = msgspec.convert(raw, Fault)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from None
    _check(fault, where)
    return fault


def _check(fault: Fault, where: str) -> None:
    if not 0.0 < fault.probability <= 1.0:
        raise ConfigError(f"{where}: probability {fault.probability} is not above 0 and at most 1")
    for field, value in (("at_s", fault.at_s), ("for_s", fault.for_s), ("skip", fault.skip)):
        if value is not None and value < 0:
            raise ConfigError(f"{where}: {field} {value} is negative")
    if fault.count is not None and fault.count < 1:
        raise ConfigError(f"{where}: count {fault.count} is below 1")
    words = WORDS[fault.kind.layer]
    for word in (fault.on or fault.kind.on).split("|"):
        if word not in words:
            raise ConfigError(f"{where}: {fault.fault} strikes no {word}; {nearest(word, words)}")
    check_params(fault.params, fault.kind.params, fault.fault, where)


def check_params(given: Mapping[str, object], known: Mapping[str, Param], owner: str, where: str) -> None:
    """Check names, types and choices of parameters of ``owner``. Raises ``ConfigError``: one line with ``where``."""
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"{where}: {name} is not a parameter of {owner}; {nearest(name, known)}")
        _check_param(known[name], value, f"{where}: params.{name}")


def _check_param(default: Param, value: object, where: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, tuple):
        if value not in default:
            raise ConfigError(f"{where} is {value}; {nearest(str(value), default)}")
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{where} is {value}, not true or false")
    elif isinstance(default, str):
        if not isinstance(value, str):
            raise ConfigError(f"{where} is {value}, not a text")
    elif not number:
        raise ConfigError(f"{where} is {value}, not a number")
    elif isinstance(default, int) and not isinstance(value, int):
        raise ConfigError(f"{where} is {value}, not a whole number")


class Rule:
    """A fault that was added. ``injected`` counts its strikes; ``memory`` is the injector's own."""

    def __init__(self, fault: Fault, number: int, now_ns: int) -> None:
        kind = fault.kind
        own = fault.for_s is not None or fault.count is not None
        self.fault = fault
        self.number = number
        self.injected = 0
        self.memory: dict[str, Any] = {}
        self.start_ns = now_ns + round(fault.at_s * _S_NS)
        self.for_s = fault.for_s if own else kind.for_s
        self.count = fault.count if own else kind.count
        self._skip = fault.skip
        words = (fault.on or kind.on).split("|")
        self._any = "any" in words
        self._on = frozenset(name for word in words for name in GROUPS.get(word, (word,)))

    @property
    def id(self) -> str:
        """The fault's id."""
        return self.fault.fault

    def __getitem__(self, name: str) -> float | int | bool | str:
        """A parameter: as given, or the catalogue's default."""
        default = self.fault.kind.params[name]
        return self.fault.params.get(name, default[0] if isinstance(default, tuple) else default)

    def number_of(self, name: str) -> float:
        """A parameter that is a number."""
        return float(self[name])

    @property
    def end_ns(self) -> int | None:
        """When it stops by itself; None when only its count stops it."""
        return None if self.for_s is None else self.start_ns + round(self.for_s * _S_NS)

    def active(self, now_ns: int) -> bool:
        """Whether it may still strike now."""
        end_ns = self.end_ns
        in_time = self.start_ns <= now_ns and (end_ns is None or now_ns < end_ns)
        return in_time and (self.count is None or self.injected < self.count)

    def over(self, now_ns: int) -> bool:
        """Whether it will never strike again."""
        end_ns = self.end_ns
        return (end_ns is not None and now_ns >= end_ns) or (self.count is not None and self.injected >= self.count)

    def hits(self, operation: str) -> bool:
        """Whether ``on`` names it. The admin endpoint is out of reach of every fault."""
        return operation in self._on or (self._any and operation != ADMIN)

    def strikes(self, operation: str, now_ns: int, rng: random.Random) -> bool:
        """Decide about one occasion, and count it when it is struck."""
        if not self.active(now_ns) or not self.hits(operation):
            return False
        if self._skip > 0:
            self._skip -= 1
            return False
        if self.fault.probability < 1.0 and rng.random() >= self.fault.probability:
            return False
        self.injected += 1
        return True

    def begins(self, rng: random.Random) -> bool:
        """Decide, at the time of the rule, about an act that needs no occasion."""
        if self.fault.probability < 1.0 and rng.random() >= self.fault.probability:
            return False
        self.injected += 1
        return True
