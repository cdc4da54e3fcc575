"""The law of folds: cut the input anywhere, carry the state across, and the output is the same, bit for bit.

The test finds the folds by itself: every public function of the numbers and the strategies that is annotated to return
a ``Fold``. Its arguments are drawn from its annotations, so that a new indicator is under the law from its first day.
"""

import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal, Union

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import tidegate.quant
import tidegate.strategies
from tidegate.quant.fold import Floats, Fold, Step, advance, scan
from tidegate.quant.indicators import EMA
from tidegate.quant.resample import LongBars, Resampler

Maker = Callable[..., Fold]


def modules() -> Iterator[types.ModuleType]:
    for package in (tidegate.quant, tidegate.strategies):
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            yield importlib.import_module(info.name)


def makers() -> dict[str, Maker]:
    """Every public function that returns a fold, by name."""
    found = {}
    for module in modules():
        for name, value in vars(module).items():
            if name.startswith("_") or not inspect.isfunction(value) or value.__module__ != module.__name__:
                continue
            if typing.get_type_hints(value).get("return") is Fold:
                found[f"{module.__name__}.{name}"] = value
    return found


def compiled_steps() -> set[Any]:
    """Everything that ``@step`` compiled: it is known by its signature."""
    signatures = EMA(2).step.signatures  # type: ignore[attr-defined]
    return {
        value
        for module in modules()
        for value in vars(module).values()
        if getattr(value, "signatures", None) == signatures
    }


def values(annotation: object) -> st.SearchStrategy[Any]:
    """Values for a parameter of a maker. An annotation that is not known here fails, so that it gets known."""
    if annotation is int:
        return st.integers(1, 12)
    if annotation is float:
        return st.floats(0.05, 5.0)
    if annotation is bool:
        return st.booleans()
    if annotation is type(None):
        return st.none()
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([values(argument) for argument in arguments])
    raise AssertionError(f"the law does not know how to draw {annotation}: teach it in tests/laws")


@st.composite
def folds(draw: st.DrawFn, maker: Maker) -> Fold:
    hints = typing.get_type_hints(maker)
    arguments: dict[str, Any] = {name: draw(values(hints[name])) for name in inspect.signature(maker).parameters}
    try:
        return maker(**arguments)
    except ValueError:
        assume(False)
        raise


@st.composite
def series(draw: st.DrawFn, columns: tuple[str, ...], *, undefined: bool = True) -> Floats:
    """Rows ``(T, n)`` of prices that look like bars: walks, flat stretches, jumps, and rows with a NaN."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(0, 90))
    moves = rng.normal(0.0, draw(st.sampled_from([0.0, 1e-3, 0.05])), rows)
    moves[rng.random(rows) < draw(st.sampled_from([0.0, 0.5, 0.95]))] = 0.0
    close = np.exp(np.cumsum(moves)) * draw(st.sampled_from([1e-5, 100.0, 60_000.0]))
    open_ = np.concatenate([close[:1], close[:-1]])
    reach = 1.0 + np.abs(moves) * rng.random(rows)
    bars = {
        "open": open_,
        "high": np.maximum(open_, close) * reach,
        "low": np.minimum(open_, close) / reach,
        "close": close,
        "volume": rng.exponential(10.0, rows),
    }
    xs = np.ascontiguousarray(np.array([bars[name] for name in columns]).T.reshape(rows, len(columns)))
    if undefined:
        xs[rng.random(rows) < draw(st.sampled_from([0.0, 0.1])), 0] = np.nan
    return xs


@st.composite
def chunks(draw: st.DrawFn, rows: int) -> list[slice]:
    cuts = sorted(draw(st.lists(st.integers(0, rows), max_size=5)))
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, rows], strict=True)]


def same_bits(a: Floats, b: Floats) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def stepped(fold: Fold, xs: Floats, step: Step) -> Floats:
    state, params = fold.initial(), fold.params_array()
    ys = np.empty((len(xs), len(fold.outputs)))
    for x, y in zip(xs, ys, strict=True):
        advance(step, state, params, x, y)
    return ys


LAW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_the_folds_are_found() -> None:
    names = {name.rpartition(".")[2] for name in makers()}
    assert names >= {"EMA", "SMA", "RSI", "ATR", "Bollinger", "Donchian", "ADX", "ZScore", "RealizedVol", "MACD"}


@pytest.mark.parametrize("name", makers())
@LAW
@given(data=st.data())
def test_whole_chunked_and_stepped_are_the_same(name: str, data: st.DataObject) -> None:
    fold = data.draw(folds(makers()[name]))
    xs = data.draw(series(fold.inputs))
    whole = scan(fold, fold.initial(), xs)
    state = fold.initial()
    parts = [scan(fold, state, xs[part]) for part in data.draw(chunks(len(xs)))]
    assert same_bits(whole, np.concatenate(parts))
    assert same_bits(whole, stepped(fold, xs, fold.step))
    assert same_bits(whole, stepped(fold, xs, fold.step.py_func))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", makers())
@LAW
@given(data=st.data())
def test_later_rows_change_nothing_before_them(name: str, data: st.DataObject) -> None:
    fold = data.draw(folds(makers()[name]))
    xs, others = data.draw(series(fold.inputs)), data.draw(series(fold.inputs))
    t = data.draw(st.integers(0, len(xs)))
    changed = np.concatenate([xs[:t], others])
    assert same_bits(scan(fold, fold.initial(), xs)[:t], scan(fold, fold.initial(), changed)[:t])


@pytest.mark.parametrize("name", makers())
@LAW
@given(data=st.data())
def test_a_row_that_is_undefined_does_not_happen(name: str, data: st.DataObject) -> None:
    fold = data.draw(folds(makers()[name]))
    xs = data.draw(series(fold.inputs))
    defined = ~np.isnan(xs).any(axis=1)
    ys = scan(fold, fold.initial(), xs)
    assert np.isnan(ys[~defined]).all()
    assert same_bits(ys[defined], scan(fold, fold.initial(), xs[defined]))
    assert not np.isinf(ys).any()


MAY_SAY_NOTHING = {"tidegate.quant.pivots.SupportResistance"}
"""Folds whose outputs are there or not: a market has no level that was never touched twice."""


@pytest.mark.parametrize("name", sorted(makers().keys() - MAY_SAY_NOTHING))
@LAW
@given(data=st.data())
def test_outputs_are_defined_from_the_warmup_on(name: str, data: st.DataObject) -> None:
    fold = data.draw(folds(makers()[name]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    close = 100.0 + np.cumsum(rng.normal(0.0, 0.1, fold.warmup_bars + 5))
    bars = {"open": close, "high": close + 0.3, "low": close - 0.3, "close": close, "volume": close}
    xs = np.ascontiguousarray(np.array([bars[name] for name in fold.inputs]).T)
    ys = scan(fold, fold.initial(), xs)
    assert not np.isnan(ys[fold.warmup_bars - 1 :]).any()


def test_every_step_belongs_to_a_fold() -> None:
    reached: set[Any] = set()

    @settings(max_examples=60, deadline=None, database=None)
    @given(data=st.data())
    def draw_all(data: st.DataObject) -> None:
        for maker in makers().values():
            reached.add(data.draw(folds(maker)).step)

    draw_all()
    assert {s.__name__ for s in compiled_steps() - reached} == set()


# --- longer bars -----------------------------------------------------------------------------------------------------


@st.composite
def base_bars(draw: st.DrawFn) -> tuple[Resampler, np.ndarray, Floats]:
    base_ns = draw(st.integers(1, 7))
    ratio = draw(st.integers(2, 6))
    rows = draw(series(("open", "high", "low", "close", "volume"), undefined=False))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    origin = draw(st.integers(0, 50)) * base_ns
    steps = np.where(rng.random(len(rows)) < draw(st.sampled_from([0.0, 0.3])), rng.integers(1, 15, len(rows)), 1)
    ts = origin + (draw(st.integers(-20, 20)) + np.cumsum(steps)) * base_ns
    return Resampler(base_ns, base_ns * ratio, origin), ts.astype(np.int64), rows


def joined(parts: list[tuple[int, LongBars]]) -> list[tuple[Any, ...]]:
    return [
        (ts, at + offset, complete, row.tobytes())
        for offset, long in parts
        for ts, at, complete, row in zip(long.ts_ns, long.closed_at, long.complete, long.rows, strict=True)
    ]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_longer_bars_obey_the_law(data: st.DataObject) -> None:
    resampler, ts, rows = data.draw(base_bars())
    blank = resampler.dump()
    whole = joined([(0, resampler.push(ts, rows))])
    resampler.load(blank)
    parts = data.draw(chunks(len(ts)))
    assert joined([(part.start, resampler.push(ts[part], rows[part])) for part in parts]) == whole
    resampler.load(blank)
    one_by_one = [(i, resampler.push(ts[i : i + 1], rows[i : i + 1])) for i in range(len(ts))]
    assert joined(one_by_one) == whole
