"""What every test may ask for."""

import os
from pathlib import Path

import pytest

from tests.databases import database, plain_database, postgres_url, timescale_database, timescale_url

__all__ = ["database", "plain_database", "postgres_url", "shared", "timescale_database", "timescale_url"]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; tests that need it skip, and say so, when it is missing."""
    folder = Path(os.environ.get("TIDEGATE_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"shared data not there: {folder}")
    return folder
