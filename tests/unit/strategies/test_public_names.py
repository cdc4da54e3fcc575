"""What a strategy's author imports from ``tidegate``, and that asking for nothing costs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

import tidegate

SOURCES = Path(tidegate.__file__).resolve().parents[1]


def test_every_public_name_is_there() -> None:
    for name in tidegate.__all__:
        assert getattr(tidegate, name).__name__ == name
    assert set(tidegate.__all__) <= set(dir(tidegate))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = tidegate.Nothing


def test_importing_the_package_loads_no_compiler() -> None:
    program = "import sys, tidegate, tidegate.ports; print(sorted({'numba', 'pandas'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=SOURCES, timeout=60
    )
    assert run.stdout.strip() == "[]"
