"""The command line: what is wrong is refused by one line and leaves nothing behind; replay tells sound from damaged."""

import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tests.fakes.command_line import Outcome, assert_refused, process, tidegate
from tests.unit.adapters.files.bar_files import FIRST_MS, HOUR_MS, Row, csv_lines, hours, write_bars, write_lines
from tidegate.adapters.files.journal_lines import frame, unframe
from tidegate.app.cli import app

HEAVY = {"hmmlearn", "numba", "numpy", "pandas", "plotly", "pyarrow", "scipy", "sklearn"}
VERBS = [command.callback.__name__ for command in app.registered_commands if command.callback]

STRATEGIES = """
from tidegate import EMA, BaseStrategy, Signal, param


class Fine(BaseStrategy):
    n_bars: int = param(default=5, low=2, high=50)

    def setup(self):
        self.ema = self.feature(EMA(self.n_bars))

    def decide(self, view):
        return Signal(1.0 if view.close > self.ema.now else -1.0)


class RaisesInDecide(Fine):
    def decide(self, view):
        if view.ts_ns > 0:
            raise ValueError("two\\nlines")


class ReturnsNonsense(Fine):
    def decide(self, view):
        return 3


class RaisesInSetup(Fine):
    def setup(self):
        self.feature(EMA({}["n"]))


class OddInterval(Fine):
    def setup(self):
        self.feature(EMA(3), every="1d")
        self.feature(EMA(3), every="30m")


class NoDecide(BaseStrategy):
    pass


not_a_class = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with data and strategies. No command of these tests may leave anything in it."""
    symbol = tmp_path / "data" / "BTCUSDT"
    symbol.mkdir(parents=True)
    write_bars(symbol, "1h", "csv", hours(60))
    (tmp_path / "mine.py").write_text(STRATEGIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mine", None)


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def backtest(**options: object) -> tuple[object, ...]:
    """The arguments of a backtest that would run, with some of them changed; None leaves one out."""
    given = {"strategy": "mine.py:Fine", "symbols": "BTCUSDT", "timeframe": "1h", "data": "data"} | options
    said = [part for name, value in given.items() if value is not None for part in (f"--{name.rstrip('_')}", value)]
    return ("backtest", *said)


def refused(folder: Path, *arguments: object, said: tuple[str, ...], code: int = 2) -> None:
    """Refused by one line, and nothing written, though a report was asked for."""
    before = contents(folder)
    if arguments[0] == "backtest" and "--report" not in arguments:
        arguments = (*arguments, "--json", "--report", "report.html")
    assert_refused(tidegate(*arguments), *said, code=code)
    assert contents(folder) == before


def test_the_arguments_under_test_would_run(folder: Path) -> None:
    done = tidegate(*backtest(), "--json", "--report", "report.html")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["bars"] == 60
    assert set(contents(folder)) == {"report.html", "mine.py", "data/BTCUSDT/1h.csv"}


# ---- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("risk: {max_leverag: 2}", ("c.yaml", "risk.max_leverag ", "did you mean risk.max_leverage?")),
        ("risk: {max_leverage: plenty}", ("c.yaml", "risk.max_leverage is 'plenty'", "number")),
        ("simulation: {slippage: {model: bp}}", ("c.yaml", "simulation.slippage.model is 'bp'", "bps")),
        ("strategys: [x]", ("c.yaml", "strategys", "did you mean strategies?")),
        ("symbols: [BTCUSDT, ]\nrisk: [", ("c.yaml line ",)),
        ("- a\n- b", ("c.yaml", "keys with values")),
        ("data: {exchange_info: nope.json}", ("nope.json: no such file",)),
        ("data: {brackets: nope.json}", ("nope.json: no such file",)),
        ("symbols: [BTCUSDT]\nsymbols: [ETHUSDT]", ("c.yaml line 2", "'symbols' is twice")),
    ],
)
def test_a_wrong_configuration_is_named_by_file_and_path(folder: Path, yaml: str, said: tuple[str, ...]) -> None:
    (folder / "c.yaml").write_text(yaml)
    refused(folder, *backtest(config="c.yaml"), said=said)


def test_a_missing_configuration_file_is_named(folder: Path) -> None:
    refused(folder, *backtest(config="nope.yaml"), said=("nope.yaml: no such file",))
    refused(folder, *backtest(config="."), said=("cannot be read",))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"symbols": "BTCUSD"}, ("no 1h bars of BTCUSD", "did you mean BTCUSDT?")),
        ({"symbols": "ADA/USDT"}, ("no 1h bars of ADAUSDT", "BTCUSDT")),
        ({"symbols": "BTC/USDT:BTC"}, ("symbols", "is no symbol", "BTC/USDT:USDT")),
        ({"symbols": "BTCUSDT,BTC/USDT"}, ("BTCUSDT is there twice",)),
        ({"symbols": ""}, ("symbols", "is no symbol")),
        ({"symbols": None}, ("symbols is missing",)),
        ({"strategy": None}, ("strategies is missing",)),
        ({"data": "nowhere"}, ("nowhere: no such folder of market data",)),
        ({"data": "mine.py"}, ("mine.py: no such folder of market data",)),
        ({"data": None}, ("data.dir is missing", "--data DIR")),
        ({"timeframe": "4h"}, ("no 4h bars; there are 1h",)),
        ({"timeframe": "7m"}, ("timeframe is '7m'", "1m 3m 5m")),
        ({"capital": "-1"}, ("risk.initial_capital_usdt is -1", "above 0")),
        ({"capital": "nan"}, ("risk.initial_capital_usdt is nan", "finite")),
        ({"from_": "2023-02-01"}, ("no bar opens from 2023-02-01", "the file has 2023-01-01T00:00Z to")),
        ({"to": "2022-12-30"}, ("no bar opens from", "2022-12-31", "the file has 2023-01-01T00:00Z to")),
        ({"from_": "2023-01-02", "to": "2023-01-01"}, ("--from 2023-01-02 is not before --to 2023-01-01", "empty")),
        ({"from_": "2023-01-01T05", "to": "2023-01-01T05:00"}, ("is not before", "empty")),
        ({"from_": "yesterday"}, ("--from 'yesterday' is no date", "2020-01-01")),
        ({"to": "2023-02-30"}, ("--to '2023-02-30' is no date",)),
        ({"to": "9999-12-31"}, ("--to '9999-12-31' is out of range",)),
        ({"from_": "0001-01-01T00:00+05:00"}, ("--from", "is out of range")),
        ({"timerange": "20230101"}, ("--timerange '20230101'", "20200101-20240831")),
        ({"timerange": "2023-01-01"}, ("--timerange '2023' is no date",)),
        ({"timerange": "20230101-", "from_": "2023-01-01"}, ("one or the other",)),
        ({"report": "nowhere/report.html"}, ("--report: the folder nowhere is not there",)),
        ({"report": "mine.py/report.html"}, ("--report: the folder mine.py is not there",)),
        ({"report": "."}, ("--report: . is a folder", "report.html")),
        ({"report": "data"}, ("--report: data is a folder", "data/report.html")),
    ],
)
def test_a_wrong_option_is_named_with_the_nearest_right_thing(
    folder: Path, options: dict[str, object], said: tuple[str, ...]
) -> None:
    refused(folder, *backtest(**options), said=said)


def test_the_end_of_1969_is_no_open_end(folder: Path) -> None:
    refused(
        folder, *backtest(to="1970-01-01T00:00"), said=("empty range: from 1970-01-01T00:00Z to 1970-01-01T00:00Z",)
    )


def test_symbols_may_be_spelt_the_other_ways(folder: Path) -> None:
    plain = tidegate(*backtest(), "--json")
    for spelling in ("BTC/USDT:USDT", "btcusdt", "BTC-USDT", "BTCUSDT-PERP"):
        found, expected = (json.loads(each.out) for each in (tidegate(*backtest(symbols=spelling), "--json"), plain))
        del found["bars_per_s"], expected["bars_per_s"]
        assert found == expected


# ---- data ------------------------------------------------------------------------------------------------------------


def _set(row: int, column: int, value: float) -> Callable[[list[Row]], None]:
    def spoil(rows: list[Row]) -> None:
        cells = list(rows[row])
        cells[column] = value
        rows[row] = tuple(cells)  # type: ignore[call-overload]

    return spoil


def _swap(rows: list[Row]) -> None:
    rows[20], rows[21] = rows[21], rows[20]


SPOILT: dict[str, tuple[Callable[[list[Row]], None], str]] = {
    "duplicate": (lambda rows: rows.insert(20, rows[20]), "duplicate open_time 2023-01-01T20:00Z"),
    "unordered": (_swap, "out of order: 2023-01-01T20:00Z after 2023-01-01T21:00Z"),
    "nan": (_set(20, 4, math.nan), "close nan is NaN"),
    "infinite": (_set(20, 2, math.inf), "high inf is infinite"),
    "negative": (_set(20, 3, -1.0), "low -1.0 is negative"),
    "high below low": (_set(20, 2, 50.0), "high 50.0 is below low"),
    "close above high": (_set(20, 4, 500.0), "close 500.0 lies above high"),
    "off the grid": (_set(20, 0, FIRST_MS + 20 * HOUR_MS + 1_000), "1.0 s off the 1h grid"),
    "no rows": (lambda rows: rows.clear(), "the file has no rows"),
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", SPOILT)
def test_bad_bars_are_refused_with_file_row_and_reason(folder: Path, name: str, kind: str) -> None:
    spoil, reason = SPOILT[name]
    rows = hours(60)
    spoil(rows)
    symbol = folder / "data" / "BTCUSDT"
    (symbol / "1h.csv").unlink()
    if rows or kind == "parquet":
        write_bars(symbol, "1h", kind, rows or [(FIRST_MS, 1.0, 0.5, 1.0, 1.0, 1.0)])
    else:
        write_lines(symbol / "1h.csv", csv_lines([]))
    if not rows and kind == "parquet":
        reason = "high 0.5 is below low"
    refused(folder, *backtest(), said=(f"data/BTCUSDT/1h.{kind}: ", reason))
    if rows:
        refused(folder, *backtest(from_="2023-01-02"), said=(reason,))  # a bad row before the range too


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{FIRST_MS + 8 * HOUR_MS},nan", "funding.csv: line 3: funding_rate is NaN"),
        (f"{FIRST_MS},0.0002", "funding.csv: line 3: duplicate settlement"),
        (f"{FIRST_MS + 8 * HOUR_MS},0.4", "beyond any cap"),
    ],
)
def test_bad_settlements_are_refused_though_they_are_read_while_running(folder: Path, line: str, said: str) -> None:
    path = folder / "data" / "BTCUSDT" / "funding.csv"
    write_lines(path, ["funding_time,funding_rate", f"{FIRST_MS},0.0001", line])
    refused(folder, *backtest(), said=(said,))


def test_bad_mark_prices_are_refused_though_they_are_read_while_running(folder: Path) -> None:
    rows = hours(60)
    _swap(rows)
    write_bars(folder / "data" / "BTCUSDT", "mark_1h", "csv", rows)
    refused(folder, *backtest(), said=("mark_1h.csv: line 23: out of order",))


def test_a_file_that_is_none_is_refused(folder: Path) -> None:
    symbol = folder / "data" / "BTCUSDT"
    (symbol / "1h.parquet").write_bytes(b"PAR1 nothing of the kind")
    refused(folder, *backtest(), said=("1h.parquet: cannot be read",))
    (symbol / "1h.parquet").unlink()
    write_lines(symbol / "1h.csv", ["open_time,open,high,low,volume", f"{FIRST_MS},1,1,1,1"])
    refused(folder, *backtest(), said=("1h.csv: no column 'close'", "open_time, open, high, low, volume"))


# ---- strategies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ("TrendFolowing", ("'TrendFolowing' is not built in", "did you mean 'TrendFollowing'")),
        ("no_such.module:Fine", ("'no_such.module' is not found",)),
        ("nope.py:Fine", ("strategy file nope.py is not there",)),
        ("mine.py:Fin", ("mine.py has no class 'Fin'", "did you mean 'Fine'?")),
        ("mine:Fin", ("mine has no class 'Fin'", "did you mean 'Fine'?")),
        ("mine.py:not_a_class", ("mine.py:not_a_class is no subclass of tidegate.BaseStrategy",)),
        ("mine.py:NoDecide", ("mine.py:NoDecide has no decide method",)),
        ("a b:c d", ("strategies[0].class is 'a b:c d'", "package.module:Class")),
        ("mine.py:RaisesInSetup", ("strategy RaisesInSetup: setup raised KeyError: 'n' (mine.py:28)",)),
        ("mine.py:OddInterval", ("strategy OddInterval", "every='30m' is no whole multiple")),
        ("quits.py:Fine", ("strategy file quits.py cannot be imported: SystemExit: 0",)),
        ("broken.py:Fine", ("strategy file broken.py cannot be imported: SyntaxError",)),
        ("needs.py:Fine", ("strategy file needs.py cannot be imported", "no_such_module_at_all")),
    ],
)
def test_a_strategy_that_cannot_be_had_is_refused(folder: Path, strategy: str, said: tuple[str, ...]) -> None:
    (folder / "quits.py").write_text("raise SystemExit(0)\n")
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "needs.py").write_text("import no_such_module_at_all\n")
    refused(folder, *backtest(strategy=strategy), said=said)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("{n_bar: 3}", ("strategy Fine: Fine has no parameter 'n_bar'; the nearest is 'n_bars'",)),
        ("{n_bars: 500}", ("Fine.n_bars must lie in [2, 50], not 500",)),
        ("{n_bars: 2.5}", ("Fine.n_bars must be int, not float 2.5",)),
        ("{n_bars: .nan}", ("strategies[0].params.n_bars", "finite number")),
    ],
)
def test_a_wrong_parameter_is_named(folder: Path, params: str, said: tuple[str, ...]) -> None:
    (folder / "c.yaml").write_text(f"strategies:\n- class: mine.py:Fine\n  params: {params}\n")
    refused(folder, *backtest(strategy=None, config="c.yaml"), said=said)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("RaisesInDecide", "strategy RaisesInDecide: switched off: ValueError: two lines (mine.py:18)"),
        ("ReturnsNonsense", "strategy ReturnsNonsense: switched off: decide returned int, not a Signal"),
    ],
)
def test_a_strategy_that_fails_while_running_ends_the_run_with_one_line(folder: Path, name: str, said: str) -> None:
    refused(folder, *backtest(strategy=f"mine.py:{name}"), said=(said,), code=1)


# ---- demo ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--symbols", "FOOUSDT"), ("the invented market has no FOOUSDT; did you mean ", "--replay")),
        (("--replay", "MISSING"), ("MISSING: no such folder of market data",)),
        (("--replay", "data"), ("data: no 1h bars of ",)),
        (("--replay", "data", "--symbols", "BTCUSDT", "--timeframe", "5m"), ("no 5m bars; there are 1h",)),
        (("--speed", "0"), ("demo.speed is 0",)),
        (("--config", "mine.yaml"), ("mine.yaml: no such file",)),
        (("--seed", "-1"), ("seed is -1",)),
    ],
)
def test_a_demo_that_cannot_be_is_refused_and_keeps_no_journal(
    folder: Path, arguments: tuple[str, ...], said: tuple[str, ...]
) -> None:
    refused(folder, "demo", *arguments, "--seconds", "1", "--json", said=said)


def test_a_demo_with_a_strategy_that_cannot_be_set_up_keeps_no_journal(folder: Path) -> None:
    (folder / "c.yaml").write_text("symbols: [BTCUSDT]\ntimeframe: 5m\nstrategies: ['mine.py:RaisesInSetup']\n")
    refused(folder, "demo", "--config", "c.yaml", "--journal", "j", said=("setup raised KeyError",))


# ---- replay ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def journaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a short demo over stored bars, kept by the real command."""
    root = tmp_path_factory.mktemp("journaled")
    (root / "data" / "BTCUSDT").mkdir(parents=True)
    rows = [
        (at, *(round(x * (1 + 0.2 * math.sin(n / 9)), 2) for x in rest)) for n, (at, *rest) in enumerate(hours(250))
    ]
    write_bars(root / "data" / "BTCUSDT", "1h", "csv", rows)
    (root / "c.yaml").write_text(
        "symbols: [BTCUSDT]\nrisk: {max_orders_per_minute: 1000}\ndemo: {history_days: 1}\n"
        "strategies: [{class: TrendFollowing, params: {fast_bars: 5, slow_bars: 20}}]\n"
    )
    options = ("--config", "c.yaml", "--replay", "data", "--journal", "journal", "--speed", "1e7", "--seconds", "60")
    done = process("demo", *options, "--json", cwd=root)
    assert (done.code, done.err) == (0, "")
    summary = json.loads(done.out)
    assert summary["orders"] > 2
    assert summary["ledger_difference_usdt"] == "0"
    return root / "journal"


def ledger(journal: Path, into: Path) -> Path:
    """The ledger file of a copy of the journal."""
    shutil.copytree(journal, into)
    return next(into.glob("ledger-*.log"))


def test_an_honest_journal_replays_without_a_difference(journaled: Path) -> None:
    done = process("replay", journaled, "--json")
    report = json.loads(done.out)
    assert (done.code, done.err, report["same"], report["difference"]) == (0, "", True, None)
    assert report["records"] > 250
    spoken = tidegate("replay", journaled)
    assert (spoken.code, spoken.err) == (0, "")
    assert spoken.out.startswith(f"no difference: {report['records']:,} records")


@pytest.mark.parametrize(
    ("path", "said"),
    [("MISSING", "MISSING: no such file or folder"), ("data", "no journal there"), ("mine.py", "not a part")],
)
def test_replay_of_what_is_no_journal_is_refused(folder: Path, path: str, said: str) -> None:
    refused(folder, "replay", path, said=(said,))


def test_a_flipped_byte_in_the_middle_is_damage(journaled: Path, tmp_path: Path) -> None:
    path = ledger(journaled, tmp_path / "journal")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    for options in ((), ("--json",)):
        assert_refused(tidegate("replay", tmp_path / "journal", *options), path.name, "damaged", "line ")


def test_a_changed_command_with_a_right_checksum_is_the_first_difference(journaled: Path, tmp_path: Path) -> None:
    path = ledger(journaled, tmp_path / "journal")
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(k for k, line in enumerate(lines) if b'"ApprovedOrder"' in line and b'"n":' in line)
    body = msgspec.json.decode(unframe(lines[at]) or b"")
    order = next(each for each in body["commands"] if each["type"] == "ApprovedOrder")
    honest = order["qty"]
    order["qty"] = str(Decimal(honest) + 1)
    lines[at] = frame(msgspec.json.encode(body))
    path.write_bytes(b"".join(lines))
    done = tidegate("replay", tmp_path / "journal")
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith(f"first difference: record {body['seq']}, ")
    assert order["qty"] in done.out.partition("replay gives")[0]
    assert honest in done.out.partition("replay gives")[2]
    report = json.loads(tidegate("replay", tmp_path / "journal", "--json").out)
    assert report["same"] is False
    assert report["difference"]["seq"] == body["seq"]


def test_replay_of_a_strategy_that_is_gone_is_refused(journaled: Path, tmp_path: Path) -> None:
    path = ledger(journaled, tmp_path / "journal")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[0] = frame(
        (unframe(lines[0]) or b"").replace(b'"class":"TrendFollowing"', b'"class":"gone.py:TrendFollowing"')
    )
    path.write_bytes(b"".join(lines))
    assert_refused(tidegate("replay", tmp_path / "journal"), "strategy file gone.py is not there")


# ---- the command itself ----------------------------------------------------------------------------------------------


def test_the_real_command_refuses_in_one_line_and_writes_nothing(folder: Path) -> None:
    before = contents(folder)
    refusal = process(*backtest(timeframe="4h"), "--json", "--report", "report.html", cwd=folder)
    assert_refused(refusal, "data/BTCUSDT: no 4h bars; there are 1h")
    failed = process(*backtest(strategy="mine.py:RaisesInDecide"), "--report", "report.html", cwd=folder)
    assert_refused(failed, "ValueError: two lines (mine.py:18)", code=1)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "arguments", [("backtest", "--strateg", "x"), ("nope",), ("replay",), ("demo", "--seconds", "-1")]
)
def test_wrong_usage_is_explained_and_exits_2(arguments: tuple[str, ...]) -> None:
    done = tidegate(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Usage:" in done.err
    assert "Traceback" not in done.err


def loaded(verb: str) -> tuple[Outcome, set[str]]:
    done = process(verb, "--help", PYTHONPROFILEIMPORTTIME="1", COLUMNS="120")
    return done, {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.err.splitlines()}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_loads_nothing_heavy(verb: str) -> None:
    done, modules = loaded(verb)
    assert done.code == 0
    assert re.search(rf"Usage:.* tidegate {verb}\b", done.out)
    assert "tidegate" in modules
    assert "Traceback" not in done.err
    assert modules & HEAVY == set()


def test_the_version_is_printed() -> None:
    done = tidegate("version")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"\d+\.\d+.*\n|from a source tree\n", done.out)
