"""The composition root: settings become the parts of a run, and what cannot be put together is refused first."""

import itertools
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.adapters.files.bar_files import FIRST_MS, hours, write_bars, write_lines
from tidegate.adapters.files.history import DataFolder
from tidegate.app.bootstrap import (
    DEMO_DEFAULTS,
    Backtest,
    Demo,
    frictions,
    journal_reader,
    kernel_settings,
    stored_instruments,
    strategy_specs,
    with_fees,
)
from tidegate.app.config import Settings
from tidegate.domain.errors import ConfigError, DataError
from tidegate.domain.ids import InstrumentId
from tidegate.domain.instrument import Instrument
from tidegate.domain.margin import DEFAULT_BRACKETS
from tidegate.domain.market import HOUR_NS, Bar, BarSpec
from tidegate.simulator.frictions import FixedSlippage, NoSlippage, SpreadImpactSlippage

BTC, ETH = InstrumentId("BTCUSDT"), InstrumentId("ETHUSDT")
HOUR = BarSpec.of("1h")
EVER = (0, 2**62)
FIRST_NS = FIRST_MS * 10**6


def settings(**sections: Any) -> Settings:
    base = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframe": "1h", "strategies": ["TrendFollowing"]}
    return Settings.model_validate(base | sections)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for name, rows in (("BTCUSDT", 60), ("ETHUSDT", 50)):
        (root / name).mkdir(parents=True)
        write_bars(root / name, "1h", "csv", hours(60)[60 - rows :])
    return root


# ---- settings --------------------------------------------------------------------------------------------------------


def test_every_setting_of_the_kernel_arrives() -> None:
    made = kernel_settings(
        settings(
            account="paper1",
            timeframe="4h",
            risk={
                "max_position_pct": 0.5,
                "max_leverage": 7,
                "allow_short": False,
                "min_liquidation_distance": 0.2,
                "max_orders_per_minute": 11,
                "price_collar_frac": 0.07,
            },
            sizing={"method": "fixed_qty", "fixed_qty": "0.25", "risk_per_trade_frac": 0.01},
            portfolio={"no_trade_band_frac": 0.3, "gross_leverage": 2},
            protection={"mode": "none", "disaster_stop_frac": 0.4},
        ),
        gen=3,
    )
    assert (made.interval_ns, made.account, made.gen) == (4 * HOUR_NS, "paper1", 3)
    limits = made.limits
    assert (limits.max_position_pct, limits.max_leverage, limits.allow_short) == (0.5, 7.0, False)
    assert (limits.min_liquidation_distance, limits.max_orders_per_minute) == (0.2, 11)
    assert limits.price_collar_frac == 0.07
    assert (made.sizing.method, made.sizing.fixed_qty) == ("fixed_qty", Decimal("0.25"))
    assert made.sizing.risk_per_trade_frac == 0.01
    assert (made.portfolio.no_trade_band_frac, made.portfolio.gross_leverage) == (0.3, 2.0)
    assert (made.protection.enabled, made.protection.disaster_stop_frac) == (False, 0.4)


@pytest.mark.parametrize(
    ("slippage", "expected"),
    [
        ({"model": "none"}, NoSlippage()),
        ({"model": "bps", "bps": 2.5}, FixedSlippage(2.5)),
        ({"model": "spread_impact", "bps": 2.5, "impact": 0.3}, SpreadImpactSlippage(2.5, 0.3)),
    ],
)
def test_the_frictions_are_those_configured(slippage: dict[str, object], expected: object) -> None:
    simulation = {"slippage": slippage, "latency_ms": 12.5, "volume_share": 0.2, "delisting": False}
    made = frictions(settings(simulation=simulation))
    assert made.slippage == expected
    assert made.latency.latency_ns == 12_500_000
    assert (made.volume_share, made.trade_empty_bars) == (0.2, True)


def test_fees_are_the_configured_ones_or_the_instruments_own(data: Path) -> None:
    own = stored_instruments(settings(simulation={"taker_fee": None, "maker_fee": None}), DataFolder(data), HOUR, *EVER)
    assert (own[BTC].taker_fee, own[BTC].maker_fee) == defaults()
    changed = with_fees(own[BTC], settings(simulation={"taker_fee": "0.0007", "maker_fee": "-0.0001"}))
    assert (changed.taker_fee, changed.maker_fee) == (Decimal("0.0007"), Decimal("-0.0001"))
    assert changed.tick == own[BTC].tick


def defaults() -> tuple[Decimal, Decimal]:
    fields = dict(zip(reversed(Instrument.__struct_fields__), reversed(Instrument.__struct_defaults__), strict=False))
    return fields["taker_fee"], fields["maker_fee"]


# ---- strategies ------------------------------------------------------------------------------------------------------


def test_strategies_get_their_names_parameters_and_symbols() -> None:
    first, second = strategy_specs(
        settings(
            strategies=[
                "TrendFollowing",
                {"class": "TrendFollowing", "name": "quick", "symbols": ["ETHUSDT"], "params": {"fast_bars": 6}},
            ]
        )
    )
    assert (first.id, first.instruments) == ("TrendFollowing", (BTC, ETH))
    assert (second.id, second.instruments) == ("quick", (ETH,))
    assert second.strategy.params()["fast_bars"] == 6
    assert first.strategy.params()["fast_bars"] != 6


RAISING = """
from tidegate import EMA, BaseStrategy, param


def grow(x):
    return {body}


class Raising(BaseStrategy):
    n_bars: int = param(default=5)

    def setup(self):
        self.feature(EMA(self.n_bars))
        grow(self)

    def decide(self, view):
        return None
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{}['n']", "KeyError: 'n' (raising.py:6)"),
        ("1 / 0", "ZeroDivisionError: division by zero (raising.py:6)"),
        ("x.feature(EMA(0))", "(raising.py:6)"),
        ("exit(0)", "SystemExit: 0 (raising.py:6)"),
        ("setattr(x, 'n_bars', 3)", "Raising.n_bars is a parameter: fixed for the life of a strategy (raising.py:6)"),
    ],
)
def test_a_setup_that_raises_is_refused_with_its_own_line(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "raising.py").write_text(RAISING.replace("{body}", body))
    with pytest.raises(ConfigError) as caught:
        strategy_specs(settings(strategies=[f"{tmp_path}/raising.py:Raising"]))
    assert str(caught.value).startswith("strategy Raising: setup raised ")
    assert str(caught.value).endswith(said)


# ---- stored data -----------------------------------------------------------------------------------------------------


def test_contracts_are_inferred_from_the_bars_of_the_range(data: Path) -> None:
    found = stored_instruments(settings(), DataFolder(data), HOUR, *EVER)
    assert list(found) == [BTC, ETH]
    assert (found[BTC].tick, found[BTC].step, found[BTC].brackets) == (Decimal("0.1"), Decimal(1), DEFAULT_BRACKETS)


def test_contracts_come_from_the_exchanges_own_file_when_one_is_named(shared: Path, data: Path) -> None:
    info = str(shared / "data/reference/um_exchangeInfo_20210722.json.gz")
    brackets = str(shared / "data/reference/um_leverageBracket_20241024.json.gz")
    configured = settings(data={"exchange_info": info, "brackets": brackets})
    found = stored_instruments(configured, DataFolder(data), HOUR, *EVER)
    assert (found[BTC].tick, found[BTC].step) == (Decimal("0.01"), Decimal("0.001"))
    assert found[BTC].brackets != DEFAULT_BRACKETS
    (data / "NOSUCHUSDT").mkdir()
    write_bars(data / "NOSUCHUSDT", "1h", "csv", hours(5))
    with pytest.raises(ConfigError, match="has no perpetual NOSUCHUSDT"):
        stored_instruments(
            settings(symbols=["NOSUCHUSDT"], data={"exchange_info": info}), DataFolder(data), HOUR, *EVER
        )


@pytest.mark.parametrize("named", [True, False])
def test_every_bar_is_checked_before_anything_runs(shared: Path, data: Path, named: bool) -> None:
    rows = hours(60)
    rows[57] = (*rows[57][:4], float("nan"), 1.0)
    write_bars(data / "ETHUSDT", "1h", "csv", rows)
    info = {"exchange_info": str(shared / "data/reference/um_exchangeInfo_20210722.json.gz")} if named else {}
    with pytest.raises(DataError, match=r"ETHUSDT/1h\.csv: line 59: close nan is NaN"):
        Backtest(settings(data={"dir": str(data)} | info), None, None)


# ---- backtest --------------------------------------------------------------------------------------------------------


def test_a_backtest_needs_a_folder() -> None:
    with pytest.raises(ConfigError, match=r"data.dir is missing: say where the bars are, with --data DIR"):
        Backtest(settings(), None, None)


def test_the_range_and_the_configuration_are_in_the_digest(data: Path) -> None:
    configured = settings(data={"dir": str(data)})
    later = settings(data={"dir": str(data)}, seed=8)
    runs = [
        Backtest(configured, None, None).run(),
        Backtest(configured, None, None).run(),
        Backtest(configured, FIRST_NS + 20 * HOUR_NS, None).run(),
        Backtest(configured, None, FIRST_NS + 50 * HOUR_NS).run(),
        Backtest(later, None, None).run(),
    ]
    digests = [run.summary["config_sha256"] for run in runs]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
    assert len({run.summary["data_sha256"] for run in runs}) == 1
    assert [run.summary["bars"] for run in runs] == [110, 110, 80, 90, 110]
    assert runs[2].settings["from_ns"] == FIRST_NS + 20 * HOUR_NS


def test_an_end_at_the_epoch_is_an_end(data: Path) -> None:
    with pytest.raises(DataError, match="empty range"):
        Backtest(settings(data={"dir": str(data)}), None, 0)


def test_gaps_are_warned_of_and_progress_is_told(data: Path) -> None:
    rows = hours(60)
    write_bars(data / "BTCUSDT", "1h", "csv", [*rows[:30], *rows[33:]])
    told: list[int] = []
    result = Backtest(settings(data={"dir": str(data)}), None, None).run(told.append)
    assert any("BTCUSDT 1h: 1 gap, 3 missing bars" in warning for warning in result.warnings)
    assert len(told) >= 3
    assert all(one < other for one, other in itertools.pairwise(told))


@pytest.mark.parametrize(
    ("simulation", "said"),
    [
        ({"funding": False}, "funding not paid"),
        ({"funding": True}, "funding paid at each settlement"),
        ({"delisting": False}, "contracts without trades stay tradable"),
        ({"delisting": True}, "settled at its last price"),
        ({"taker_fee": "0.001"}, "fees 0.1"),
    ],
)
def test_the_assumptions_say_what_was_simulated(data: Path, simulation: dict[str, object], said: str) -> None:
    result = Backtest(settings(data={"dir": str(data)}, simulation=simulation), None, None).run()
    assert any(said in text for text in result.assumptions), result.assumptions
    assert any("inferred from the bars" in text for text in result.assumptions)


def test_funding_without_mark_prices_uses_the_last_price_and_says_so(data: Path) -> None:
    (data.parent / "long.py").write_text(
        "from tidegate import BaseStrategy, Signal\n\n\n"
        "class Long(BaseStrategy):\n    def decide(self, view):\n        return Signal(1.0)\n"
    )
    settlement = f"{FIRST_MS + 16 * 3_600_000},0.0001"
    write_lines(data / "BTCUSDT" / "funding.csv", ["funding_time,funding_rate", settlement])
    configured = settings(strategies=[f"{data.parent}/long.py:Long"], data={"dir": str(data)})
    result = Backtest(configured, None, None).run()
    assert result.summary["funding_at_last_price"] == 1
    assert any("1 settlements had no mark price" in text for text in result.assumptions)


# ---- demo ------------------------------------------------------------------------------------------------------------


async def test_the_demo_runs_what_it_is_said_to_run_without_a_file(tmp_path: Path) -> None:
    demo = Demo(Settings.model_validate(DEMO_DEFAULTS), None, tmp_path / "journal")
    assert list(demo.instruments) == DEMO_DEFAULTS["symbols"]
    assert demo.parts.journal_path == tmp_path / "journal"
    await demo.parts.journal.close()
    reader, kernel = journal_reader(tmp_path / "journal")
    assert reader.header.account == demo.settings.account
    assert kernel.snapshot() == demo.kernel.snapshot()


def test_a_contract_that_the_invented_market_has_not_is_named_and_no_journal_begun(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no FOOUSDT; did you mean \w+USDT\? Real bars come with --replay"):
        Demo(settings(symbols=["FOOUSDT"]), None, tmp_path / "journal")
    assert not (tmp_path / "journal").exists()


async def test_a_replayed_demo_begins_when_all_its_contracts_are_there(data: Path, tmp_path: Path) -> None:
    demo = Demo(settings(), data, tmp_path / "journal")
    assert demo.started_ns == FIRST_NS + 10 * HOUR_NS
    bars = Counter(event.instrument for event in demo.parts.session.events() if isinstance(event, Bar))
    assert bars == {BTC: 50, ETH: 50}
    await demo.parts.journal.close()


def test_bad_bars_are_refused_before_a_journal_is_begun(data: Path, tmp_path: Path) -> None:
    rows = hours(60)
    rows[40] = rows[39]
    write_bars(data / "BTCUSDT", "1h", "csv", rows)
    with pytest.raises(DataError, match="duplicate open_time"):
        Demo(settings(), data, tmp_path / "journal")
    assert not (tmp_path / "journal").exists()
