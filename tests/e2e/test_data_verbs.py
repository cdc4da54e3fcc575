"""``tidegate data``: files into a real database and out again."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.fakes.command_line import Outcome, assert_refused, tidegate
from tests.fakes.migrated_database import migrated_database

HOUR_MS = 3_600_000
START_MS = 1_704_067_200_000


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    with migrated_database(postgres_url) as made:
        yield made.replace("postgresql+asyncpg://", "postgresql://")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two contracts, one with a gap of two bars."""
    write(tmp_path / "data" / "BTCUSDT" / "1h.csv", [n for n in range(100) if n not in (50, 51)])
    write(tmp_path / "data" / "ETHUSDT" / "1h.csv", list(range(48)))
    return tmp_path / "data"


def write(path: Path, hours: list[int], bad: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["open_time,open,high,low,close,volume"]
    for n in hours:
        high = 0.5 if n == bad else 102.25
        lines.append(f"{START_MS + n * HOUR_MS},{100 + n / 64},{high},99.5,101.125,{n}.5")
    path.write_text("\n".join(lines) + "\n")
    return path


def run(url: str, *arguments: object) -> Outcome:
    with patch.dict(os.environ, {"TIDEGATE__DATABASE__URL": url}):
        return tidegate("data", *arguments)


def test_what_goes_in_is_listed_and_comes_out_the_same(url: str, data: Path, tmp_path: Path) -> None:
    for _ in range(2):  # twice is once
        done = run(url, "import", data, "--json")
        assert done.code == 0, done
        assert json.loads(done.out)["bars"] == 146
    listed = json.loads(run(url, "list", "--json").out)["series"]
    assert [(each["symbol"], each["bars"], each["gaps"], each["missing"]) for each in listed] == [
        ("BTCUSDT", 98, 1, 2),
        ("ETHUSDT", 48, 0, 0),
    ]
    assert (listed[1]["first"], listed[1]["last"]) == ("2024-01-01T00:00Z", "2024-01-02T23:00Z")
    table = run(url, "list").out
    assert "2024-01-05T03:00Z" in table
    out = tmp_path / "out" / "BTCUSDT" / "1h.parquet"
    assert json.loads(run(url, "export", "BTCUSDT", out, "-t", "1h", "--json").out)["bars"] == 98
    part = tmp_path / "part.csv"
    assert run(url, "export", "btc/usdt", part, "-t", "1h", "--from", "2024-01-02", "--to", "2024-01-02").code == 0
    assert len(part.read_text().splitlines()) == 25
    assert not list(tmp_path.rglob("*.draft"))
    again = run(url, "import", out, "--source", "again", "--json")
    assert json.loads(again.out)["bars"] == 98
    assert_refused(run(url, "export", "BTCUSDT", part, "-t", "1h"), "several series", "again file")
    both = [
        run(url, "export", "BTCUSDT", tmp_path / f"{name}.csv", "-t", "1h", "--source", name)
        for name in ("file", "again")
    ]
    assert [each.code for each in both] == [0, 0]
    assert (tmp_path / "file.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()


def test_a_bad_row_is_refused_with_its_place_and_nothing_of_its_file_is_stored(url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "XRPUSDT" / "1h.csv", list(range(40)), bad=30)
    assert_refused(run(url, "import", path), f"{path}: line 32", "high 0.5 is below low 99.5", "nothing is stored")
    assert "XRPUSDT" not in run(url, "list", "--json").out


def test_wrong_words_are_one_line(url: str, data: Path, tmp_path: Path) -> None:
    assert_refused(run(url, "import", tmp_path / "none"), "none: no such folder")
    assert_refused(run(url, "import", data, "-t", "7m"), "--timeframe", "unknown interval '7m'")
    assert_refused(run(url, "export", "DOGEUSDT", tmp_path / "x.csv", "-t", "1h"), "no such 1h bars of DOGEUSDT")
    assert_refused(run(url, "export", "BTCUSDT", tmp_path / "x.xlsx", "-t", "1h"), "written as .parquet or .csv")
    assert_refused(run("memory", "list"), "database.url is memory")
    odd = write(tmp_path / "bars" / "some.csv", list(range(5)))
    assert_refused(run(url, "import", odd), "its folder 'bars' is no contract", "--symbols")
