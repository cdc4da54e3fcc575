"""Finding a strategy by its name: built in, in a module, in a file; and one clear line when it is not there."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.app.loading import BUILT_IN, load_strategy
from tidegate.domain.errors import ConfigError
from tidegate.strategies.trend_following import TrendFollowing

SOURCE = """
import msgspec

from tidegate import BaseStrategy, Signal, param


class Kept(msgspec.Struct):
    seen: int = 0
    which: str = "{which}"


class Mine(BaseStrategy):
    n_bars: int = param(default={n}, low=1, high=99)
    memory: Kept = Kept()

    def decide(self, view):
        return Signal(1.0)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, which: str = "one", n: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SOURCE.replace("{which}", which).replace("{n}", str(n)))
    return path


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_strategy_needs_no_module(name: str) -> None:
    assert load_strategy(name) is load_strategy(f"{BUILT_IN[name]}:{name}")


def test_trend_following_is_built_in() -> None:
    assert load_strategy("TrendFollowing") is TrendFollowing


def test_a_file_may_lie_anywhere(folder: Path) -> None:
    path = write(folder / "some where" / "mine.py", n=7)
    for spelling in ("some where/mine.py:Mine", f"{path}:Mine", "./some where/../some where/mine.py:Mine"):
        found = load_strategy(spelling)
        assert (found.__name__, found().params()) == ("Mine", {"n_bars": 7})


def test_a_module_in_the_current_folder_is_found(folder: Path) -> None:
    write(folder / "own_package_of_mine" / "deep.py", n=3)
    assert load_strategy("own_package_of_mine.deep:Mine")().params() == {"n_bars": 3}


def test_files_of_one_name_in_two_folders_stay_apart(folder: Path) -> None:
    one = load_strategy(f"{write(folder / 'a' / 'mine.py', 'one', 5)}:Mine")
    two = load_strategy(f"{write(folder / 'b' / 'mine.py', 'two', 6)}:Mine")
    assert (one().params(), two().params()) == ({"n_bars": 5}, {"n_bars": 6})
    assert one.__module__ != two.__module__
    for kind, which in ((one, "one"), (two, "two")):
        assert sys.modules[kind.__module__].Kept().which == which
        strategy = kind()
        strategy.load_memory(strategy.dump_memory())
        assert strategy.memory.which == which


@pytest.mark.parametrize(
    ("class_path", "said"),
    [
        ("TrendFolowing", r"'TrendFolowing' is not built in; did you mean 'TrendFollowing', or module:TrendFolowing\?"),
        ("Zzz", "'Zzz' is not built in; did you mean 'TrendFollowing'"),
        ("nope.py:Mine", "strategy file nope.py is not there"),
        ("a:Mine", "strategy module 'a' is not found, on the import path or in "),
        ("tidegate.nope:Mine", "strategy module 'tidegate.nope' is not found"),
        ("mine.py:Min", r"mine.py has no class 'Min'; did you mean 'Mine'\?"),
        ("empty.py:Mine", "empty.py has no class 'Mine'$"),
        ("mine.py:Kept", "mine.py:Kept is no subclass of tidegate.BaseStrategy"),
        ("mine.py:BaseStrategy", "mine.py:BaseStrategy has no decide method"),
        ("mine.py:msgspec", "is no subclass"),
        ("raises.py:Mine", "strategy file raises.py cannot be imported: ZeroDivisionError: division by zero"),
        ("raises:Mine", "strategy module 'raises' cannot be imported: ZeroDivisionError: division by zero"),
        ("leaves.py:Mine", "strategy file leaves.py cannot be imported: SystemExit: 3"),
        ("leaves:Mine", "strategy module 'leaves' cannot be imported: SystemExit: 3"),
        ("needs.py:Mine", "cannot be imported: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("needs:Mine", "cannot be imported: No module named 'not_there_at_all'"),
        ("bare.py:Mine", "Mine.n: a parameter is declared with param"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, class_path: str, said: str) -> None:
    write(folder / "mine.py")
    (folder / "empty.py").write_text("")
    (folder / "raises.py").write_text("1 / 0\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    (folder / "needs.py").write_text("import not_there_at_all\n")
    (folder / "bare.py").write_text(
        "from tidegate import BaseStrategy\n\n\nclass Mine(BaseStrategy):\n    n: int = 3\n"
    )
    with pytest.raises(ConfigError, match=said) as caught:
        load_strategy(class_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_could_not_be_imported_leaves_no_module_behind(folder: Path) -> None:
    before = set(sys.modules)
    (folder / "half.py").write_text("x = 1\n1 / 0\n")
    with pytest.raises(ConfigError):
        load_strategy("half.py:Mine")
    assert set(sys.modules) == before
