"""Parameters, features and memory of a strategy."""

import math
from typing import ClassVar

import msgspec
import pytest

from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import DAY_NS, HOUR_NS, Bar
from tidegate.domain.signals import Signal
from tidegate.quant.fold import Fold
from tidegate.quant.indicators import ATR, EMA, RSI, SMA, Bollinger
from tidegate.strategies.base import BaseStrategy, Feature, View, param


class Trail(msgspec.Struct):
    """Memory."""

    best: float = 0.0
    seen: list[int] = []


class Quiet(BaseStrategy):
    """Says nothing."""

    UNITS: ClassVar[str] = "bars"

    fast_bars: int = param(default=10, low=2, high=50)
    band_atrs: float = param(default=2.0, low=0.5)
    long_only: bool = param(default=False)
    label: str = param(default="quiet")

    def decide(self, view: View) -> Signal | None:
        return None


class Louder(Quiet):
    """Adds one parameter and changes another."""

    band_atrs: float = param(default=1.0, low=0.5)
    slow_bars: int = param(default=40)


class Remembering(Quiet):
    """Has a memory."""

    memory: Trail = Trail(best=1.0)


class Bare(Quiet):
    """Has a memory by annotation alone."""

    memory: Trail


def test_parameters_have_defaults_and_keywords() -> None:
    assert Quiet().params() == {"fast_bars": 10, "band_atrs": 2.0, "long_only": False, "label": "quiet"}
    strategy = Quiet(fast_bars=50, band_atrs=3, long_only=True, label="x")
    assert strategy.params() == {"fast_bars": 50, "band_atrs": 3.0, "long_only": True, "label": "x"}
    assert type(strategy.band_atrs) is float
    assert repr(strategy) == "Quiet(fast_bars=50, band_atrs=3.0, long_only=True, label='x')"


def test_parameters_are_inherited_and_can_be_declared_again() -> None:
    assert Louder().params() == {
        "fast_bars": 10, "band_atrs": 1.0, "long_only": False, "label": "quiet", "slow_bars": 40,
    }  # fmt: skip
    assert Quiet().band_atrs == 2.0
    spec = Louder.parameters()["fast_bars"]
    assert (spec.kind, spec.default, spec.low, spec.high) == (int, 10, 2, 50)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"fast_bar": 3}, TypeError, "Quiet has no parameter 'fast_bar'; the nearest is 'fast_bars'"),
        ({"memory": 3}, TypeError, "Quiet has no parameter 'memory'"),
        ({"fast_bars": "3"}, TypeError, "Quiet.fast_bars must be int, not str '3'"),
        ({"fast_bars": 3.0}, TypeError, "Quiet.fast_bars must be int, not float 3.0"),
        ({"fast_bars": True}, TypeError, "Quiet.fast_bars must be int, not bool True"),
        ({"band_atrs": True}, TypeError, "Quiet.band_atrs must be float, not bool True"),
        ({"band_atrs": None}, TypeError, "Quiet.band_atrs must be float, not NoneType None"),
        ({"long_only": 1}, TypeError, "Quiet.long_only must be bool, not int 1"),
        ({"label": 1}, TypeError, "Quiet.label must be str"),
        ({"fast_bars": 1}, ValueError, r"Quiet.fast_bars must lie in \[2, 50\], not 1"),
        ({"fast_bars": 51}, ValueError, r"Quiet.fast_bars must lie in \[2, 50\], not 51"),
        ({"band_atrs": 0.25}, ValueError, r"Quiet.band_atrs must lie in \[0.5, inf\], not 0.25"),
        ({"band_atrs": math.nan}, ValueError, "Quiet.band_atrs must be a finite number, not nan"),
        ({"band_atrs": math.inf}, ValueError, "Quiet.band_atrs must be a finite number, not inf"),
    ],
)
def test_wrong_parameters_are_named(given: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Quiet(**given)


def test_a_strategy_without_parameters_says_so() -> None:
    class Plain(BaseStrategy):
        def decide(self, view: View) -> Signal | None:
            return None

    assert Plain().params() == {}
    with pytest.raises(TypeError, match=r"^Plain has no parameter 'x'$"):
        Plain(x=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ({"bars": param(default=3)}, TypeError, "S.bars: annotate a parameter as int, float, bool or str, not None"),
        ({"bars": param(default=3), "__annotations__": {"bars": list}}, TypeError, "annotate a parameter"),
        ({"bars": param(default="3"), "__annotations__": {"bars": int}}, TypeError, "S.bars must be int"),
        ({"bars": param(default=3, low=4), "__annotations__": {"bars": "int"}}, ValueError, "S.bars must lie in"),
        ({"bars": 3, "__annotations__": {"bars": int}}, TypeError, r"S.bars: a parameter is declared with param"),
        ({"fast_bars": 3}, TypeError, r"S.fast_bars: a parameter is declared with param"),
        ({"memory": 3, "__annotations__": {"memory": int}}, TypeError, "S.memory must be a msgspec.Struct"),
        ({"__annotations__": {"memory": "Nowhere"}}, TypeError, "S.memory must be a msgspec.Struct"),
    ],
)
def test_a_class_that_declares_wrongly_is_not_made(
    body: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        type("S", (Quiet,), {"__module__": __name__} | body)


def test_a_strategy_must_decide() -> None:
    with pytest.raises(TypeError, match="abstract"):
        BaseStrategy()  # type: ignore[abstract]


# --- features --------------------------------------------------------------------------------------------------------


class Declaring(Quiet):
    """Every kind of feature."""

    def setup(self) -> None:
        self.band = self.feature(Bollinger(20))
        self.smooth = self.feature(EMA(5), on=self.band["upper"])
        self.daily = self.feature(RSI(14), every="1d")
        self.average = self.feature(SMA(3), on=self.daily)


def test_features_are_declared_in_order() -> None:
    strategy = Declaring()
    band, smooth, daily, average = strategy.prepare()
    assert (band.source, smooth.source, daily.source, average.source) == (None, (0, 1), None, (2, 0))
    assert band.every is None
    assert daily.every == average.every
    assert daily.base_bars(HOUR_NS) == average.base_bars(HOUR_NS) == 24
    assert band.features[0] is strategy.band
    assert strategy.band["middle"] is strategy.band
    assert strategy.band["upper"]["lower"] is strategy.band["lower"]
    assert math.isnan(strategy.band.now)
    assert math.isnan(strategy.band.prev)
    with pytest.raises(KeyError, match="no output 'top' here; it has middle upper lower sd"):
        strategy.band["top"]
    with pytest.raises(AttributeError):
        strategy.band.column = []  # type: ignore[attr-defined]


def test_lengths_in_the_bars_of_the_strategy() -> None:
    # 15 days of RSI and 3 of its average make 17, plus at worst 23 hours of a first day that began too early
    assert Declaring().warmup_bars(HOUR_NS) == 17 * 24 + 23
    assert Declaring().warmup_bars(DAY_NS) == 20 + 5 - 1
    assert Declaring().memory_bars(HOUR_NS) == (28 * 14 + 1 + 3) * 24 + 23
    assert Quiet().warmup_bars(HOUR_NS) == Quiet().memory_bars(HOUR_NS) == 0
    prepared = Declaring()
    prepared.prepare()
    assert prepared.warmup_bars(HOUR_NS) == Declaring().warmup_bars(HOUR_NS)
    with pytest.raises(ValueError, match="RSI: every='1d' is no whole multiple"):
        Declaring().warmup_bars(7 * DAY_NS)


def setting_up(declare: object) -> BaseStrategy:
    return type("S", (Quiet,), {"setup": declare})()


@pytest.mark.parametrize(
    ("declare", "error", "message"),
    [
        (
            lambda s: s.feature(EMA(3), on=Feature({})),
            ValueError,
            "on= takes a feature that this strategy has declared",
        ),
        (lambda s: s.feature(ATR(3), on=s.feature(EMA(3))), ValueError, "ATR takes high low close: it cannot run on"),
        (lambda s: s.feature(EMA(3), on=s.feature(EMA(3)), every="4h"), ValueError, "EMA: .* leave every= out"),
        (lambda s: s.feature(EMA(3), every="5h"), ValueError, "unknown interval '5h'"),
    ],
)
def test_wrong_declarations(declare: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        setting_up(declare).prepare()


def test_features_belong_into_setup() -> None:
    strategy = Quiet()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"a feature is declared in setup\(\)"):
            strategy.feature(EMA(3))
        if strategy._declarations is None:
            strategy.prepare()
    with pytest.raises(RuntimeError, match="set up already"):
        strategy.prepare()


# --- what lasts ------------------------------------------------------------------------------------------------------


def test_parameters_are_fixed_and_nothing_is_kept_on_the_side() -> None:
    strategy = Declaring()
    with pytest.raises(AttributeError, match=r"Declaring\.fast_bars is a parameter"):
        strategy.fast_bars = 3
    strategy.prepare()
    with pytest.raises(AttributeError, match=r"Declaring\.last_price: what must last .* declared `memory`"):
        strategy.last_price = 3.0  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="memory must be declared"):
        strategy.memory = Trail()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "best"), [(Remembering, 1.0), (Bare, 0.0)])
def test_memory_is_each_instances_own(kind: type[Remembering], best: float) -> None:
    one, other = kind(fast_bars=5), kind()
    assert one.memory.best == best
    one.memory.best = 7.0
    one.memory.seen.append(3)
    assert (other.memory.best, other.memory.seen) == (best, [])
    other.load_memory(one.dump_memory())
    assert other.memory == one.memory
    assert other.memory is not one.memory
    fresh = one.fresh()
    assert (fresh.params(), fresh.memory.best) == (one.params(), best)


def test_memory_can_be_replaced_by_its_kind_only() -> None:
    strategy = Remembering()
    strategy.prepare()
    strategy.memory = Trail(best=9.0)
    assert strategy.memory.best == 9.0
    with pytest.raises(AttributeError, match="keep its type"):
        strategy.memory = Bar  # type: ignore[assignment]


def test_a_stored_memory_must_fit() -> None:
    assert Quiet().dump_memory() is None
    Quiet().load_memory(None)
    for strategy, data in ((Quiet(), b"x"), (Remembering(), None)):
        with pytest.raises(ValueError, match="the stored memory is not one of this strategy"):
            strategy.load_memory(data)


def test_a_view_is_a_bar_and_where_we_stand() -> None:
    bar = Bar(InstrumentId("BTCUSDT"), HOUR_NS, 2 * HOUR_NS, 0, 1.0, 4.0, 0.5, 2.0, 9.0)
    view = View(bar, position=-0.5, entry_price=3.0, funding_rate=1e-4)
    assert (view.open, view.high, view.low, view.close, view.volume) == (1.0, 4.0, 0.5, 2.0, 9.0)
    assert (view.instrument, view.ts_ns) == ("BTCUSDT", 2 * HOUR_NS)
    with pytest.raises(AttributeError):
        view.position = 1.0  # type: ignore[misc]


def test_the_same_fold_declared_twice_is_two_features() -> None:
    def both(fold: Fold) -> BaseStrategy:
        return setting_up(lambda s: [s.feature(fold), s.feature(fold)])

    one, two = both(EMA(3)).prepare()
    assert one.features[0] is not two.features[0]
