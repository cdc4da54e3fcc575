"""What a strategy is: typed parameters, declared features, and a decision per closed bar.

A strategy states a wish (``Signal``), never an order. It sees ``Feature.now`` and ``Feature.prev`` and a ``View``;
it has no clock, no file, no order and no history, so there is no door through which the future could come in.
"""

import difflib
import inspect
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, TypeVar, cast, dataclass_transform

import msgspec

from tidegate.domain.ids import InstrumentId, Nanos
from tidegate.domain.market import Bar, BarSpec
from tidegate.domain.signals import Signal
from tidegate.quant.fold import Fold

Value = int | float | bool | str
"""What a parameter can be."""

_ASSIGNABLE: Final = frozenset({"memory", "_declarations", "_in_setup", "_legs"})

T = TypeVar("T", int, float, bool, str)

_KINDS: Final[dict[object, type[Value]]] = {k: k for k in (int, float, bool, str)} | {
    k.__name__: k for k in (int, float, bool, str)
}


class View(msgspec.Struct, frozen=True, gc=False):
    """What a strategy may know when it decides, besides its features.

    ``position`` is what it holds itself, as a signed fraction of its budget; ``entry_price`` is the book's, None when
    that is flat; ``funding_rate`` (of the last settlement, at ``funding_ts_ns``) is None when none is known. ``regime``
    holds the probabilities of the eight scenarios in the order of ``Scenario``, nothing while it is unknown. ``stale``
    says that the instrument has no bar for this close: the one shown is its last.
    """

    bar: Bar
    position: float = 0.0
    entry_price: float | None = None
    funding_rate: float | None = None
    funding_ts_ns: Nanos = 0
    regime: tuple[float, ...] = ()
    stale: bool = False

    @property
    def instrument(self) -> InstrumentId:
        return self.bar.instrument

    @property
    def ts_ns(self) -> Nanos:
        """The end of the bar, which is now."""
        return self.bar.ts_ns

    @property
    def open(self) -> float:
        return self.bar.open

    @property
    def high(self) -> float:
        return self.bar.high

    @property
    def low(self) -> float:
        return self.bar.low

    @property
    def close(self) -> float:
        return self.bar.close

    @property
    def volume(self) -> float:
        """In base units."""
        return self.bar.volume


class Feature:
    """A fold's output as a strategy sees it: the value of the last closed bar and the one before, NaN when undefined.

    ``feature["upper"]`` is another output of the same fold.
    """

    __slots__ = ("_outputs", "now", "prev")

    def __init__(self, outputs: Mapping[str, "Feature"]) -> None:
        self.now = math.nan
        self.prev = math.nan
        self._outputs = outputs

    def __getitem__(self, output: str) -> "Feature":
        if output not in self._outputs:
            raise KeyError(f"no output {output!r} here; it has {' '.join(self._outputs)}")
        return self._outputs[output]

    def __repr__(self) -> str:
        return f"Feature(now={self.now}, prev={self.prev})"


@dataclass(frozen=True, slots=True)
class Declaration:
    """One declared feature: a fold, the interval it runs on (None: the strategy's own) and what feeds it.

    ``source`` is the index of the feeding declaration and of its output, None for bar columns. ``features`` are the
    handles of the fold's outputs, in their order.
    """

    fold: Fold
    every: BarSpec | None
    source: tuple[int, int] | None
    features: tuple[Feature, ...]

    def base_bars(self, interval_ns: int) -> int:
        """How many bars of ``interval_ns`` make one of its own. Raises ``ValueError`` when no whole number does."""
        if self.every is None:
            return 1
        bars, rest = divmod(self.every.interval_ns, interval_ns)
        if rest or not bars:
            raise ValueError(f"{self.fold.name}: every={self.every.name!r} is no whole multiple of the strategy's bars")
        return bars


@dataclass(frozen=True, slots=True)
class Parameter:
    """A typed field of a strategy with its bounds, both inclusive."""

    name: str
    kind: type[Value]
    default: Value
    low: float | None
    high: float | None

    def check(self, owner: str, value: object) -> Value:
        """The value as the parameter's type; raises ``TypeError`` or ``ValueError``, naming the parameter."""
        where = f"{owner}.{self.name}"
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind or not isinstance(value, Value):
            raise TypeError(f"{where} must be {self.kind.__name__}, not {type(value).__name__} {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where} must be a finite number, not {value}")
        if not isinstance(value, str) and (
            (self.low is not None and value < self.low) or (self.high is not None and value > self.high)
        ):
            raise ValueError(f"{where} must lie in {self._bounds()}, not {value}")
        return value

    def _bounds(self) -> str:
        low = "-inf" if self.low is None else str(self.low)
        return f"[{low}, {'inf' if self.high is None else self.high}]"


class _Declared:
    """What ``param`` leaves in a class body until the class is made."""

    def __init__(self, default: Value, low: float | None, high: float | None) -> None:
        self.default, self.low, self.high = default, low, high


def param(*, default: T, low: float | None = None, high: float | None = None) -> T:
    """A parameter of a strategy: ``fast_bars: int = param(default=20, low=5, high=60)``; the bounds are inclusive.

    Its annotation must be int, float, bool or str. Put the unit in the name: ``_bars``, ``_frac``, ``_bps``, ``_atrs``.
    """
    return cast(T, _Declared(default, low, high))


@dataclass_transform(kw_only_default=True, field_specifiers=(param,))
class Strategy(ABC):  # noqa: B024  the two ways to decide differ, and neither is the other
    """What every strategy has: parameters declared with ``param``, features declared in ``setup``, and a memory.

    The features of one instance belong to one instrument. Parameters are fixed for its life, and nothing but
    ``memory`` may be assigned once it is set up: a strategy with path-dependent memory declares one field
    ``memory: MyMemory = MyMemory()`` with a ``msgspec.Struct`` of its own, of which every instance gets a fresh copy
    and which snapshots hold. Its constructor takes the parameters as keywords and raises ``TypeError`` for an unknown
    name or a wrong type, ``ValueError`` for a value out of bounds.
    """

    style: ClassVar[str] = "own"
    """Its column in the matrix of scenarios: trend, mean_reversion, range, funding, or one of its own."""

    _parameters: ClassVar[dict[str, Parameter]] = {}
    _blank_memory: ClassVar[msgspec.Struct | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        annotations = inspect.get_annotations(cls)
        own: dict[str, Parameter] = {}
        for name, value in list(vars(cls).items()):
            if isinstance(value, _Declared):
                own[name] = _parameter(cls.__name__, name, annotations.get(name), value)
                setattr(cls, name, own[name].default)
            elif name in cls._parameters or (
                name in annotations and name != "memory" and "ClassVar" not in str(annotations[name])
            ):
                raise TypeError(f"{cls.__name__}.{name}: a parameter is declared with param(default=...)")
        cls._parameters = cls._parameters | own
        if "memory" in annotations or "memory" in vars(cls):
            cls._blank_memory = _memory(cls, annotations.get("memory"))

    def __init__(self, **params: object) -> None:
        owner = type(self).__name__
        known = type(self)._parameters
        for name in params:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                raise TypeError(
                    f"{owner} has no parameter {name!r}" + (f"; the nearest is {near[0]!r}" if near else "")
                )
        for name, spec in known.items():
            object.__setattr__(self, name, spec.check(owner, params.get(name, spec.default)))
        self._declarations: list[Declaration] | None = None
        self._in_setup = False
        blank = type(self)._blank_memory
        if blank is not None:
            self.load_memory(msgspec.msgpack.encode(blank))

    def setup(self) -> None:
        """Declare features; called once, before the first bar."""
        return

    def feature(self, fold: Fold, *, on: Feature | None = None, every: str | None = None) -> Feature:
        """Declare a feature; legal inside ``setup`` only.

        ``on`` feeds the fold with an earlier feature instead of a bar column, and on that feature's interval.
        ``every`` runs it on bars of a longer interval (``"4h"``): its values change when such a bar has closed.
        """
        declarations = self._declarations
        if declarations is None or not self._in_setup:
            raise RuntimeError(f"{type(self).__name__}: a feature is declared in setup(), nowhere else")
        source = None if on is None else _find(on, declarations, type(self).__name__)
        spec = None if every is None else BarSpec.of(every)
        if source is not None:
            parent = declarations[source[0]]
            if len(fold.inputs) != 1:
                raise ValueError(f"{fold.name} takes {' '.join(fold.inputs)}: it cannot run on one feature")
            if spec is not None and spec != parent.every:
                raise ValueError(
                    f"{fold.name}: a feature on another runs on the interval of that one; leave every= out"
                )
            spec = parent.every
        outputs: dict[str, Feature] = {}
        features = tuple(Feature(outputs) for _ in fold.outputs)
        outputs.update(zip(fold.outputs, features, strict=True))
        declarations.append(Declaration(fold, spec, source, features))
        return features[0]

    @classmethod
    def parameters(cls) -> Mapping[str, Parameter]:
        """The declared parameters, those of its base classes first."""
        return dict(cls._parameters)

    def params(self) -> dict[str, Value]:
        """The values of the parameters."""
        return {name: getattr(self, name) for name in type(self)._parameters}

    def fresh(self) -> Self:
        """Another instance with the same parameters, not set up and with a blank memory."""
        return type(self)(**self.params())

    def prepare(self) -> tuple[Declaration, ...]:
        """Run ``setup`` and return what it declared, in order: for the feeder. Raises when it was run before."""
        if self._declarations is not None:
            raise RuntimeError(f"{type(self).__name__} is set up already; every instrument needs its own: use fresh()")
        declarations: list[Declaration] = []
        self._declarations = declarations
        self._in_setup = True
        try:
            self.setup()
        finally:
            self._in_setup = False
        return tuple(declarations)

    def warmup_bars(self, interval_ns: int) -> int:
        """How many bars of ``interval_ns`` without a gap, begun at any time, make every feature warm."""
        return self._base_bars_needed(interval_ns, lambda fold, upstream: fold.warmup_bars + max(0, upstream - 1))

    def memory_bars(self, interval_ns: int) -> int:
        """How many bars of ``interval_ns`` make a cold start agree with the full history to about 1e-12."""
        return self._base_bars_needed(interval_ns, lambda fold, upstream: fold.memory_bars + upstream)

    def _base_bars_needed(self, interval_ns: int, needed: Callable[[Fold, int], int]) -> int:
        declared = self.fresh().prepare() if self._declarations is None else self._declarations
        own_bars: list[int] = []
        longest = 0
        for declaration in declared:
            upstream = 0 if declaration.source is None else own_bars[declaration.source[0]]
            own_bars.append(needed(declaration.fold, upstream))
            # a stream that begins inside a long bar loses what is left of it
            ratio = declaration.base_bars(interval_ns)
            longest = max(longest, own_bars[-1] * ratio + ratio - 1)
        return longest

    def dump_memory(self) -> bytes | None:
        """The declared memory, None without one."""
        return None if type(self)._blank_memory is None else msgspec.msgpack.encode(vars(self)["memory"])

    def load_memory(self, data: bytes | None) -> None:
        """Restore a dumped memory. Raises ``ValueError`` when it is not one of this strategy."""
        blank = type(self)._blank_memory
        if (blank is None) != (data is None):
            raise ValueError(f"{type(self).__name__}: the stored memory is not one of this strategy")
        if blank is not None and data is not None:
            setattr(self, "memory", msgspec.msgpack.decode(data, type=type(blank)))  # noqa: B010

    def __setattr__(self, name: str, value: object) -> None:
        owner = type(self).__name__
        if name in type(self)._parameters:
            raise AttributeError(f"{owner}.{name} is a parameter: fixed for the life of a strategy")
        if name == "memory" and type(value) is not type(type(self)._blank_memory):
            raise AttributeError(f"{owner}.memory must be declared in the class, and keep its type")
        if name not in _ASSIGNABLE and self._declarations is not None and not self._in_setup:
            raise AttributeError(f"{owner}.{name}: what must last from bar to bar belongs in a declared `memory`")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.params().items())})"


class BaseStrategy(Strategy):
    """Subclass it, declare parameters with ``param``, features in ``setup`` and the wish in ``decide``.

    One instance belongs to one instrument.
    """

    @abstractmethod
    def decide(self, view: View) -> Signal | None:
        """The wish after this closed bar, or None to keep the last one. Called only when every feature is warm."""


class CrossSectionalStrategy(Strategy):
    """Decides for all its instruments at once, when each has closed the bar or the wait for the missing ones is over.

    Each instrument has an instance of its own, set up like any other, which keeps its features: ``self.leg(name)``.
    The instance that decides is another one; its ``memory`` is the memory of the whole.
    """

    @abstractmethod
    def decide(self, views: Mapping[InstrumentId, View]) -> Mapping[InstrumentId, Signal]:
        """The wishes after this close; who is not named keeps the last one.

        ``views`` holds the instruments whose features are all warm, those without a bar for this close as ``stale``.
        """

    def leg(self, instrument: InstrumentId) -> Self:
        """The instance that keeps the features of one instrument. Raises ``KeyError`` when it does not trade it."""
        legs: Mapping[InstrumentId, Self] = vars(self).get("_legs", {})
        if instrument not in legs:
            raise KeyError(f"{type(self).__name__} has no leg {instrument}; it has {' '.join(legs) or 'none'}")
        return legs[instrument]

    def lead(self, legs: Mapping[InstrumentId, Self]) -> None:
        """Become the instance that decides over these legs: for the kernel."""
        self._legs = dict(legs)


def _find(feature: Feature, declarations: Sequence[Declaration], owner: str) -> tuple[int, int]:
    for index, declaration in enumerate(declarations):
        for output, declared in enumerate(declaration.features):
            if declared is feature:
                return index, output
    raise ValueError(f"{owner}: on= takes a feature that this strategy has declared before")


def _parameter(owner: str, name: str, annotation: object, declared: _Declared) -> Parameter:
    if annotation not in _KINDS:
        raise TypeError(f"{owner}.{name}: annotate a parameter as int, float, bool or str, not {annotation}")
    spec = Parameter(name, _KINDS[annotation], declared.default, declared.low, declared.high)
    return Parameter(name, spec.kind, spec.check(owner, declared.default), declared.low, declared.high)


def _memory(cls: type, annotation: object) -> msgspec.Struct:
    """A blank memory: the class attribute when there is one, else the annotated struct with its defaults."""
    blank = vars(cls).get("memory")
    if blank is None:
        kind = getattr(sys.modules[cls.__module__], annotation, None) if isinstance(annotation, str) else annotation
        blank = kind() if isinstance(kind, type) else None
    if not isinstance(blank, msgspec.Struct):
        raise TypeError(f"{cls.__name__}.memory must be a msgspec.Struct, for snapshots hold it")
    return blank
