"""The configuration: every wrong key and value is one clear line, and sources win in the stated order."""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from decimal import Decimal
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.app.config import Settings, load_settings
from tidegate.app.config_fields import normalise_symbol
from tidegate.domain.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))
FRACTION = "; it is a fraction: 0.25 means 25 %"
BASE: dict[str, Any] = {"symbols": ["BTCUSDT", "ETHUSDT"], "strategies": [{"class": "TrendFollowing"}]}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("TIDEGATE__"):
            monkeypatch.delenv(name)


def refused(overrides: Mapping[str, object], path: Path | None = None) -> str:
    """The one line that these settings are refused with."""
    with pytest.raises(ConfigError) as error:
        load_settings(path, {**BASE, **overrides} if path is None else overrides)
    text = str(error.value)
    assert len(text.splitlines()) == 1
    return text


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# -- what is accepted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads_and_survives_a_round_trip(path: Path) -> None:
    loaded = load_settings(path)
    assert Settings.model_validate(json.loads(json.dumps(loaded.as_dict()))) == loaded


def test_the_examples_are_there() -> None:
    assert {path.name for path in EXAMPLES} >= {"demo.yaml", "backtest.yaml"}
    assert load_settings(ROOT / "config/demo.yaml").symbols == ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")


def test_defaults_are_the_documented_ones() -> None:
    loaded = load_settings(None, BASE)
    assert loaded.as_dict() == {
        "mode": None,
        "symbols": ["BTCUSDT", "ETHUSDT"],
        "timeframe": "1h",
        "seed": 7,
        "account": "demo",
        "strategies": [{"class": "TrendFollowing", "name": "TrendFollowing", "symbols": None, "params": {}}],
        "risk": {
            "initial_capital_usdt": 10000.0,
            "var_daily_pct": 0.02,
            "cvar_daily_pct": 0.03,
            "max_drawdown_pct": 0.12,
            "max_consecutive_loss_days": 7,
            "allow_short": True,
            "kelly_fraction": 0.25,
            "max_position_pct": 0.25,
            "max_leverage": 3.0,
            "target_volatility": 0.1,
            "min_liquidation_distance": 0.3,
            "max_daily_loss_pct": 0.03,
            "brake": "grossman_zhou",
            "max_orders_per_minute": 300,
            "price_collar_frac": 0.05,
        },
        "sizing": {"method": "risk", "risk_per_trade_frac": 0.005, "fixed_qty": None},
        "regime": {
            "model": "none",
            "states": 3,
            "first_fit_bars": 1095,
            "refit_bars": 180,
            "window_bars": 5475,
            "volatility_bars": 42,
            "trend_bars": 180,
            "percentile_bars": 4380,
            "activation_lag_bars": 1,
        },
        "portfolio": {
            "no_trade_band_frac": 0.1,
            "gross_leverage": 1.0,
            "optimizer": "none",
            "rebalance": "4h",
            "risk_scale": 3.0,
            "risk_aversion": 10.0,
            "holding_days": 10.0,
            "volatility_days": 20.0,
            "correlation_days": 90.0,
            "warmup_bars": 60,
            "allocator": "none",
        },
        "protection": {"mode": "stop", "disaster_stop_frac": 0.15},
        "execution": {"algo": "immediate"},
        "simulation": {
            "taker_fee": "0.0005",
            "maker_fee": "0.0002",
            "slippage": {"model": "spread_impact", "bps": 1.0, "impact": 0.8},
            "latency_ms": 0.0,
            "volume_share": 0.1,
            "delisting": True,
            "funding": True,
            "reset_after_days": 30,
        },
        "data": {"dir": None, "exchange_info": None, "brackets": None},
        "demo": {"speed": 600.0, "history_days": 30, "flatten_on_stop": False},
        "journal": {"dir": None, "fsync": True, "segment_mib": 16, "snapshot_every": 50_000},
        "venue": {
            "rest": None,
            "streams": None,
            "ws_api": None,
            "rights": None,
            "routed": True,
            "order_entry": "rest",
            "transport": "websockets",
            "leverage": 5,
            "margin_type": "cross",
            "position_mode": "one_way",
            "contracts": {},
            "dead_man_s": None,
            "audit_busy_s": 10.0,
            "audit_idle_s": 60.0,
        },
        "keys": {"key_file": None, "secret_file": None, "kind": "auto"},
        "live": {"confirm": "", "fingerprint": "", "hosts": ["fapi.binance.com"]},
        "positions": {"adopt": []},
        "state": {"dir": None},
        "database": {
            "url": "embedded",
            "tier": "auto",
            "dir": None,
            "pg_bin": None,
            "keep": {
                "journal_days": 30,
                "market_data_days": None,
                "risk_metrics_days": None,
                "plan_days": 30,
                "journal_mib_per_day": 16,
                "tape_mib_per_day": 64,
                "database_mib_per_day": 16,
                "reserve_mib": 256,
            },
        },
        "logging": {"level": "info", "format": "auto"},
    }


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("BTCUSDT", "BTCUSDT"),
        ("btcusdt", "BTCUSDT"),
        ("BTC/USDT:USDT", "BTCUSDT"),
        ("btc/usdt", "BTCUSDT"),
        ("BTC-USDT", "BTCUSDT"),
        ("BTCUSDT-PERP", "BTCUSDT"),
        ("1000PEPE/USDT:USDT", "1000PEPEUSDT"),
        ("ETHUSDC", "ETHUSDC"),
        (" ETHUSDT ", "ETHUSDT"),
    ],
)
def test_symbols_are_read_in_every_common_spelling(text: str, symbol: str) -> None:
    assert normalise_symbol(text) == symbol
    assert load_settings(None, {**BASE, "symbols": [text]}).symbols == (symbol,)


@pytest.mark.parametrize("text", ["", "BTC/USD:BTC", "BTC USDT", "BTCUSDT_240628", "BTC//USDT", "-USDT"])
def test_what_is_no_symbol_is_refused(text: str) -> None:
    assert "symbols is" in refused({"symbols": [text]})


def test_timeframes_of_other_programs_are_read() -> None:
    assert load_settings(None, {**BASE, "timeframe": "1D"}).timeframe == "1d"


def test_a_bare_protection_is_its_mode_and_merges_with_the_section() -> None:
    assert load_settings(None, {**BASE, "protection": "none"}).protection.mode == "none"
    both = load_settings(ROOT / "config/demo.yaml", {"protection": "none"}).protection
    assert (both.mode, both.disaster_stop_frac) == ("none", 0.15)


def test_strategies_are_named_by_their_class_or_by_the_user() -> None:
    classes = ["TrendFollowing", "my.module:Breakout", "my/file.py:Other", {"class": "A", "name": "b"}, {"class": "C"}]
    chosen = load_settings(None, {**BASE, "strategies": classes}).strategies
    assert [each.name for each in chosen] == ["TrendFollowing", "Breakout", "Other", "b", "C"]


def test_parameters_keep_their_types() -> None:
    params = {"a": 1, "b": 1.0, "c": True, "d": "x"}
    kept = load_settings(None, {**BASE, "strategies": [{"class": "A", "params": params}]}).strategies[0].params
    assert {key: (type(value), value) for key, value in kept.items()} == {k: (type(v), v) for k, v in params.items()}


@pytest.mark.parametrize("fee", ["0.0004", "4e-4", "0.00040"])
def test_money_is_read_from_the_text_of_the_number(tmp_path: Path, fee: str) -> None:
    for spelled in (fee, f'"{fee}"'):
        path = written(tmp_path, f"symbols: [BTCUSDT]\nstrategies: [A]\nsimulation: {{taker_fee: {spelled}}}")
        assert load_settings(path).simulation.taker_fee == Decimal("0.0004")


def test_settings_cannot_be_changed() -> None:
    loaded = load_settings(None, BASE)
    with pytest.raises(ValueError, match="frozen"):
        loaded.risk.max_leverage = 9.0  # type: ignore[misc]


# -- sources -----------------------------------------------------------------------------------------------------------


def test_command_line_over_environment_over_file_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(
        tmp_path,
        "symbols: [BTCUSDT]\nstrategies: [{class: A}]\n"
        "risk: {max_leverage: 4, max_position_pct: 0.4, price_collar_frac: 0.04}\n",
    )
    monkeypatch.setenv("TIDEGATE__RISK__MAX_LEVERAGE", "5")
    monkeypatch.setenv("TIDEGATE__RISK__MAX_POSITION_PCT", "0.5")
    risk = load_settings(path, {"risk.max_leverage": 6}).risk
    assert (risk.max_leverage, risk.max_position_pct, risk.price_collar_frac) == (6.0, 0.5, 0.04)
    assert risk.max_orders_per_minute == 300
    assert load_settings(path, {"risk": {"max_leverage": 6}}).risk == risk


@pytest.mark.parametrize(
    ("name", "value", "path", "result"),
    [
        ("TIDEGATE__SYMBOLS", "btcusdt,ETH/USDT:USDT", ("symbols",), ["BTCUSDT", "ETHUSDT"]),
        ("TIDEGATE__SYMBOLS", '["SOLUSDT"]', ("symbols",), ["SOLUSDT"]),
        ("tidegate__seed", "11", ("seed",), 11),
        ("TIDEGATE__PROTECTION", "none", ("protection", "mode"), "none"),
        ("TIDEGATE__PROTECTION__MODE", "none", ("protection", "mode"), "none"),
        ("TIDEGATE__SIMULATION__SLIPPAGE__MODEL", "bps", ("simulation", "slippage", "model"), "bps"),
        ("TIDEGATE__SIMULATION__SLIPPAGE", "{model: bps}", ("simulation", "slippage", "model"), "bps"),
        ("TIDEGATE__SIMULATION__VOLUME_SHARE", "null", ("simulation", "volume_share"), None),
        ("TIDEGATE__SIMULATION__TAKER_FEE", "0.0004", ("simulation", "taker_fee"), "0.0004"),
        ("TIDEGATE__RISK__ALLOW_SHORT", "false", ("risk", "allow_short"), False),
        ("TIDEGATE__STRATEGIES", "[{class: X}]", ("strategies", 0, "class"), "X"),
        ("TIDEGATE__TIMEFRAME", "", ("timeframe",), "5m"),
    ],
)
def test_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, path: tuple[Any, ...], result: object
) -> None:
    monkeypatch.setenv(name, value)
    node: Any = load_settings(ROOT / "config/demo.yaml").as_dict()
    for key in path:
        node = node[key]
    assert node == result


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "TIDEGATE__RISK__MAX_LEVRAGE",
            "2",
            "environment TIDEGATE__RISK__MAX_LEVRAGE: risk.max_levrage is not a key; did you mean risk.max_leverage?",
        ),
        ("TIDEGATE__RIKS__X", "2", "environment TIDEGATE__RIKS: riks is not a key; did you mean risk?"),
        ("TIDEGATE__SEED", "x", "environment TIDEGATE__SEED: seed is 'x'; it must be a whole number"),
        ("TIDEGATE__RISK", "[", "environment TIDEGATE__RISK: risk is '['; it must be a section with keys of its own"),
    ],
)
def test_mistakes_in_the_environment_name_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    monkeypatch.setenv(name, value)
    assert refused({}) == line


def test_none_at_the_top_means_not_given_and_below_it_is_null() -> None:
    loaded = load_settings(ROOT / "config/demo.yaml", {"symbols": None, "risk": None, "simulation.volume_share": None})
    assert loaded.symbols[0] == "BTCUSDT"
    assert loaded.simulation.volume_share is None


def test_an_empty_section_is_all_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "symbols: [BTCUSDT]\nstrategies: [A]\nrisk:\n  # max_leverage: 3\n")
    assert load_settings(path).risk.max_leverage == 3.0


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"risk.max_levrage": 1}, "risk.max_levrage is not a key; did you mean risk.max_leverage?"),
        ({"max_leverage": 1}, "max_leverage is not a key; did you mean risk.max_leverage?"),
        (
            {"simulation.slippage.modl": 1},
            "simulation.slippage.modl is not a key; did you mean simulation.slippage.model?",
        ),
        (
            {"strategies": [{"clas": "A"}]},
            "strategies[0].clas is not a key; did you mean strategies[0].class? (and 1 more)",
        ),
        ({"sizing.zzz": 1}, "sizing.zzz is not a key; the keys there are method, risk_per_trade_frac, fixed_qty"),
        ({"dry_run": True}, "dry_run is not a key; the command chooses the mode: tidegate demo or tidegate backtest"),
        ({"pair_whitelist": []}, "pair_whitelist is not a key; use symbols"),
        ({"stake_currency": "USDT"}, "stake_currency is not a key; every amount is in USDT; leave it out"),
        ({"risk.max_leverage": 300}, "risk.max_leverage is 300; it must be at most 125"),
        ({"risk.max_leverage": -1}, "risk.max_leverage is -1; it must be above 0"),
        ({"risk.max_leverage": float("nan")}, "risk.max_leverage is nan; it must be a finite number"),
        ({"risk.max_leverage": True}, "risk.max_leverage is True; it must be a number"),
        ({"risk.max_leverage": "lots"}, "risk.max_leverage is 'lots'; it must be a number"),
        ({"risk.max_position_pct": 25}, "risk.max_position_pct is 25; it must be below 1" + FRACTION),
        ({"protection.disaster_stop_frac": 1}, "protection.disaster_stop_frac is 1; it must be below 1" + FRACTION),
        ({"simulation.taker_fee": 5}, "simulation.taker_fee is 5; it must be below 0.1" + FRACTION),
        ({"simulation.taker_fee": "x"}, "simulation.taker_fee is 'x'; it must be a number"),
        (
            {"simulation.maker_fee": "1e-999999999"},
            "simulation.maker_fee is '1e-999999999'; it must be a number of at most 28 digits",
        ),
        ({"seed": 1.5}, "seed is 1.5; it must be a whole number"),
        (
            {"risk.cvar_daily_pct": 0.01},
            "risk.cvar_daily_pct 0.01 is below risk.var_daily_pct 0.02: the mean of the worst losses cannot be smaller "
            "than the least of them",
        ),
        (
            {"regime.model": "hmm"},
            "regime.model needs a portfolio that it can move: set portfolio.optimizer to mean_variance",
        ),
        (
            {"portfolio.rebalance": "3d"},
            "portfolio.rebalance is '3d'; a day must be a whole number of them: 1h, 2h, 4h, 6h, 8h, 12h or 1d, not 3d",
        ),
        ({"risk.allow_short": 7}, "risk.allow_short is 7; it must be true or false"),
        ({"timeframe": 1}, "timeframe is 1; it must be text"),
        ({"timeframe": "7h"}, "timeframe is '7h'; it must be one of 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w"),
        ({"account": "My Account"}, "account is 'My Account'; it must be 1 to 12 characters of a-z and 0-9"),
        ({"risk": 5}, "risk is 5; it must be a section with keys of its own"),
        ({"strategies": "A"}, "strategies is 'A'; it must be a list"),
        ({"strategies": []}, "strategies is empty; name at least one, like {class: TrendFollowing}"),
        ({"strategies": ["A", "A"]}, "strategies[1].name 'A' is taken; give each strategy a name of its own"),
        (
            {"strategies": [{"class": "A", "symbols": ["XRPUSDT"]}]},
            "strategies[0].symbols has XRPUSDT, which is not in symbols (BTCUSDT, ETHUSDT)",
        ),
        (
            {"strategies": [{"class": "A", "params": {"x": None}}]},
            "strategies[0].params.x is None; it must be a finite number, true, false or text",
        ),
        (
            {"strategies": [{"class": "a b", "name": "x"}]},
            "strategies[0].class is 'a b'; it must be written like TrendFollowing, "
            "package.module:Class or folder/file.py:Class",
        ),
        ({"symbols": ["BTCUSDT", "btc-usdt"]}, "symbols is ['BTCUSDT', 'btc-usdt']; BTCUSDT is there twice"),
        ({"symbols": []}, "symbols is []; it must name at least one symbol, like [BTCUSDT]"),
        ({"symbols": [1]}, "symbols is [1]; it must be a list of symbols, like [BTCUSDT, ETHUSDT]"),
        ({"sizing.method": "kelly"}, "sizing.method is 'kelly'; it must be 'risk' or 'fixed_qty'"),
        (
            {"sizing.method": "fixed_qty"},
            "sizing.fixed_qty is missing; sizing.method: fixed_qty needs a quantity, like 0.01",
        ),
        ({"sizing": {"method": "fixed_qty", "fixed_qty": 0}}, "sizing.fixed_qty is 0; it must be above 0"),
        ({"protection": "off"}, "protection.mode is 'off'; it must be 'stop' or 'none'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_mistake_is_one_clear_line(overrides: dict[str, object], line: str) -> None:
    assert refused(overrides) == f"command line: {line}"


def test_several_problems_are_counted_and_a_missing_key_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "symbols: [BTCUSDT]\nrisk: {max_leverage: 0, max_levrage: 1, allow_short: maybe}\n")
    line = refused({}, path)
    assert line == f"{path}: risk.max_levrage is not a key; did you mean risk.max_leverage? (and 3 more)"
    assert refused({}, written(tmp_path, "symbols: [BTCUSDT]")) == f"{path}: strategies is missing"
    nameless = written(tmp_path, "symbols: [BTCUSDT]\nstrategies: [{name: x}]")
    assert refused({}, nameless) == f"{path}: strategies[0].class is missing"


def test_without_a_file_the_missing_keys_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^configuration: symbols is missing \(and 1 more\)$"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("symbols: [BTCUSDT\ntimeframe: 1h", " line 2: expected ',' or ']', but got ':'"),
        ("seed: 1\nrisk:\n  a: 1\nseed: 2", " line 4: key 'seed' is twice"),
        ("risk: {}\n1: x", " line 2: key 1 is not text"),
        ("- a\n- b", ": holds ['a', 'b']; it must be keys with values, like 'timeframe: 1h'"),
        ("account: 2020-13-45", ": not YAML (month must be in 1..12)"),
        ("a: !!python/object:os.system x", " line 1: could not determine a constructor for the tag"),
        ("a: \x07", ": not YAML ("),
    ],
)
def test_text_that_is_not_ours_names_file_and_line(tmp_path: Path, text: str, rest: str) -> None:
    path = written(tmp_path, text)
    assert refused({}, path).startswith(f"{path}{rest}")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert refused({}, tmp_path / "none.yaml") == f"{tmp_path / 'none.yaml'}: no such file"
    assert refused({}, tmp_path) == f"{tmp_path}: cannot be read (Is a directory)"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: \xff")
    assert refused({}, latin).startswith(f"{latin}: not YAML (")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
LEAVES = [
    f"{section}.{key}" if isinstance(value, dict) else section
    for section, value in load_settings(None, BASE).as_dict().items()
    for key in (value if isinstance(value, dict) else [""])
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LEAVES), JSON)
def test_any_value_anywhere_is_taken_exactly_or_refused_in_one_line_with_its_path(key: str, value: object) -> None:
    outcome = settings_or_line({**BASE, key: value})
    if isinstance(outcome, str):
        assert len(outcome.splitlines()) == 1
        assert key.split(".")[0] in outcome
    else:
        assert Settings.model_validate(outcome.as_dict()) == outcome
        assert len(outcome.digest()) == 64


def settings_or_line(overrides: Mapping[str, object]) -> Settings | str:
    try:
        return load_settings(None, overrides)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("path", [path for path in LEAVES if len(path.rpartition(".")[2]) > 4])
def test_a_key_with_a_letter_missing_finds_its_nearest_cousin(path: str) -> None:
    section, _, key = path.rpartition(".")
    for at in range(len(key)):
        wrong = key[:at] + key[at + 1 :]
        written = f"{section}.{wrong}" if section else wrong
        if written in LEAVES:
            continue  # "cvar_daily_pct" without its first letter is a key
        text = refused({written: 1})
        found = re.search(r"did you mean (.+)\?", text)
        assert found, text
        meant = found[1]  # "aker_fee" may be either fee, "seed" is a key of its own
        assert meant == path or likeness(wrong, meant.rpartition(".")[2]) >= likeness(wrong, key), text


def likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_as_a_file_is_refused_in_one_line(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        path.write_text(text, encoding="utf-8", newline="")
        with pytest.raises(ConfigError) as error:
            load_settings(path)
        assert len(str(error.value).splitlines()) == 1
        assert str(path) in str(error.value)


# -- digest ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"journal.dir": "x"},
        {"journal.fsync": False},
        {"logging.level": "debug"},
        {"data.dir": "elsewhere"},
        {"database.url": "memory"},
    ],
    ids=str,
)
def test_the_digest_does_not_see_what_changes_no_result(change: dict[str, object]) -> None:
    assert load_settings(None, {**BASE, **change}).digest() == load_settings(None, BASE).digest()


@pytest.mark.parametrize(
    "change",
    [{"seed": 8}, {"risk.max_leverage": 2}, {"simulation.taker_fee": "0.0004"}, {"symbols": ["BTCUSDT"]}],
    ids=str,
)
def test_the_digest_sees_what_changes_a_result(change: dict[str, object]) -> None:
    assert load_settings(None, {**BASE, **change}).digest() != load_settings(None, BASE).digest()


def test_the_digest_does_not_depend_on_spelling() -> None:
    spelled = {"symbols": "btc-usdt, ETH/USDT:USDT", "simulation": {"taker_fee": Decimal("0.00050"), "latency_ms": 0}}
    assert load_settings(None, {**BASE, **spelled}).digest() == load_settings(None, BASE).digest()
