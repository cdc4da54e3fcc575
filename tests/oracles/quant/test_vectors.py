"""Every case of the quantitative oracles is computed, every leaf of it compared, and a moved leaf is noticed."""

import importlib
from pathlib import Path

import pytest

from tests.oracles.quant.vectors import CASES, FOLDER, LATER, Oracle, indexed, load

for _module in sorted(Path(__file__).parent.glob("cases_*.py")):
    importlib.import_module(f"tests.oracles.quant.{_module.stem}")

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"needs the oracle vectors in {FOLDER}, beside the repository"
)

INDEX = [each for each in indexed() if each[0] not in LATER] if FOLDER.is_dir() else []


def computed(file: str, name: str) -> Oracle:
    oracle = load(file)[name]
    CASES[file, name](oracle)
    return oracle


@pytest.mark.parametrize(("file", "name"), INDEX)
def test_every_leaf_is_compared_and_a_moved_one_is_noticed(file: str, name: str) -> None:
    assert (file, name) in CASES, f"no function computes {file} {name}"
    oracle = computed(file, name)
    assert not (left := oracle.uncompared()), f"{len(left)} leaves were never compared, the first is {left[0]}"
    blind = [each.path for each in oracle.comparisons if not each.notices()]
    assert not blind, f"moved by ten tolerances, these still pass: {blind[:5]}"


def test_the_index_names_every_file_and_every_function_a_case() -> None:
    named = {file for file, _ in indexed()}
    assert {each.name for each in FOLDER.glob("*.json")} - {"index.json"} == named
    for file in named:
        assert {name for each, name in indexed() if each == file} == set(load(file))
    assert set(CASES) <= set(INDEX)
