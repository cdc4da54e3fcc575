"""The HTML report: everything on one page, nothing from elsewhere, all or nothing on disk."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tidegate.app import report
from tidegate.app.performance import summarise
from tidegate.app.report import write_report
from tidegate.app.result import BacktestResult
from tidegate.domain.ids import InstrumentId
from tidegate.domain.market import DAY_NS, HOUR_NS
from tidegate.domain.round_trips import RoundTrip

START_NS = int(datetime(2021, 3, 10, tzinfo=UTC).timestamp()) * 1_000_000_000
PRICES = {"BTCUSDT": 42_000.0, "ETHUSDT": 2_600.0, "SOLUSDT": 95.0}
CENT = Decimal("0.01")


def money(value: float) -> Decimal:
    return Decimal(value).quantize(CENT)


def invented_trades(count: int, rng: np.random.Generator) -> list[RoundTrip]:
    trades = []
    names = list(PRICES)
    gaps_h = rng.integers(6, 2 * 1_050 * 24 // count - 6, count).cumsum()
    for opened_h in gaps_h:
        name = names[rng.integers(3)]
        entry = PRICES[name] * float(np.exp(0.3 * rng.standard_normal()))
        move = 0.02 * float(rng.standard_t(3)) + 0.004
        qty = 4_000 / entry
        side = 1 if rng.random() < 0.55 else -1
        trades.append(
            RoundTrip(
                instrument=InstrumentId(name),
                side=side,
                opened_ns=START_NS + int(opened_h) * HOUR_NS,
                closed_ns=START_NS + (int(opened_h) + int(rng.integers(2, 80))) * HOUR_NS,
                max_qty=Decimal(qty).quantize(Decimal("0.001")),
                entry_price=money(entry),
                exit_price=money(entry * (1 + side * move)),
                price_pnl=money(4_000 * move),
                slippage=money(0.8),
                fees=money(4.0),
                funding=money(-1.2 * side),
                exit_reason=("target", "protection", "protection", "end")[rng.integers(4)],
            )
        )
    return trades


def invented_result(trades: int = 300, seed: int = 11) -> BacktestResult:
    """A made-up run of 1,100 days whose equity is the sum of its trades, each day with some noise between."""
    rng = np.random.default_rng(seed)
    rows = invented_trades(trades, rng) if trades else []
    days = 1_100
    closed = np.zeros(days + 1)
    for trade in rows:
        closed[min((trade.closed_ns - START_NS) // DAY_NS + 1, days)] += float(trade.net)
    noise = np.append(60.0 * rng.standard_normal(days), 0.0)
    equity = [
        (START_NS + i * DAY_NS, money(10_000 + total + noise[i] * (i > 0))) for i, total in enumerate(closed.cumsum())
    ]
    totals = {
        "fees_usdt": sum((row.fees for row in rows), Decimal(0)),
        "slippage_usdt": sum((row.slippage for row in rows), Decimal(0)),
        "funding_usdt": sum((row.funding for row in rows), Decimal(0)),
    }
    summary: dict[str, object] = {
        "bars": 79_200,
        "orders": 2 * len(rows) + 41,
        "fills": 2 * len(rows),
        "trades": len(rows),
        **{key: str(value) for key, value in totals.items()},
        "final_equity_usdt": str(equity[-1][1]),
        **summarise(equity),
        "turnover": 231.4567,
        "ledger_difference_usdt": "0",
        "bars_per_s": 251_234.5,
        "data_sha256": "3f" * 32,
        "config_sha256": "a7" * 32,
    }
    per_symbol: dict[InstrumentId, dict[str, object]] = {}
    for name in PRICES:
        own = [row for row in rows if row.instrument == name]
        per_symbol[InstrumentId(name)] = {
            "trades": len(own),
            "net_usdt": str(sum((row.net for row in own), Decimal(0))),
            "fees_usdt": str(sum((row.fees for row in own), Decimal(0))),
            "funding_usdt": str(sum((row.funding for row in own), Decimal(0))),
            "slippage_usdt": str(sum((row.slippage for row in own), Decimal(0))),
            "win_rate": sum(row.net > 0 for row in own) / len(own) if own else None,
        }
    return BacktestResult(
        summary=summary,
        equity=equity,
        trades=rows,
        per_symbol=per_symbol,
        assumptions=[
            "Market orders that are decided at a close fill at the open of the next bar.",
            "Taker fee 0.05 %, maker fee 0.02 %.",
            "Slippage: 1 bp of the reference price on every market fill.",
            "Funding is paid at each settlement on the mark price; where no mark price is stored, on the last price.",
        ],
        settings={
            "symbols": list(PRICES),
            "timeframe": "1h",
            "strategies": [{"class": "TrendFollowing", "name": "trend", "params": {"fast_bars": 20, "slow_bars": 80}}],
            "risk": {"initial_capital_usdt": 10_000.0, "max_leverage": 3.0},
            "seed": 7,
        },
        warnings=["SOLUSDT has no stored mark price for 312 hours: the last price stood in."],
    )


class Page(HTMLParser):
    """The text, the tags with their attributes, and the texts of cells that carry a summary key."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: dict[str, str] = {}
        self.text = ""
        self._key: str | None = None
        self._skipped = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._key = dict(attrs).get("data-key")
        self._skipped = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._key = None
        self._skipped = False

    def handle_data(self, data: str) -> None:
        if self._key:
            self.figures[self._key] = data
        if not self._skipped:
            self.text += data


def written(result: BacktestResult, folder: Path) -> str:
    path = folder / "run.html"
    write_report(result, path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(invented_result(), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def charts(source: str) -> dict[str, dict]:
    found = re.search(r"^const charts = (.*);$", source, re.MULTILINE)
    assert found
    return json.loads(found.group(1))


def test_nothing_is_loaded_from_elsewhere(source: str, page: Page) -> None:
    loading = {"src", "href", "srcset", "data", "action", "poster"}
    assert [(tag, attrs) for tag, attrs in page.tags if loading & set(attrs)] == []
    assert not {"link", "iframe", "img", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    styles = "".join(re.findall(r"<style>(.*?)</style>", source, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_browser_is_told_to_load_nothing(page: Page) -> None:
    (policy,) = (attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_the_chart_script_is_there_once(source: str) -> None:
    assert source.count("* plotly.js v") == 1
    assert len(source) < 8_000_000


def test_every_figure_of_the_summary_is_on_the_page(page: Page) -> None:
    summary = invented_result().summary
    digests = {"config_sha256", "data_sha256"}
    assert set(page.figures) == set(summary) - digests
    for key in digests:
        assert str(summary[key]) in page.text


def test_figures_are_shown_in_their_units(page: Page) -> None:
    summary = invented_result().summary
    assert page.figures["fees_usdt"] == "1,200.00"
    assert page.figures["bars"] == "79,200"
    assert page.figures["ledger_difference_usdt"] == "0"
    assert page.figures["turnover"] == "231.46"
    assert page.figures["total_return"] == f"{summary['total_return']:.2%}"
    assert page.figures["sharpe"] == f"{summary['sharpe']:.2f}"


def test_beside_the_sharpe_ratio_stand_what_it_rests_on(page: Page) -> None:
    text = re.sub(r"\s+", " ", page.text)
    beside = text[text.index("What they rest on") : text.index("Activity")]
    for figure in ("Fees USDT", "Slippage USDT", "Funding USDT", "Number of trials1", "Annualisation factor365"):
        assert figure in beside
    assert "A backtest is not a forecast." in text


def test_assumptions_warnings_settings_and_versions_are_listed(page: Page) -> None:
    result = invented_result()
    for line in [*result.assumptions, *result.warnings]:
        assert line in page.text
    assert json.dumps(result.settings, indent=2) in page.text
    assert f"numpy {np.__version__}" in page.text


def test_a_plausible_run_has_no_banner(page: Page) -> None:
    assert not any(attrs.get("id") == "sanity" for _, attrs in page.tags)


def test_an_implausible_run_has_a_banner_and_the_sentence_among_the_warnings(tmp_path: Path) -> None:
    result = invented_result()
    result.summary |= {"sharpe": 7.3, "fees_usdt": "0"}
    source = written(result, tmp_path)
    banner = re.search(r'<section class="card warning" id="sanity".*?</section>', source, re.DOTALL)
    assert banner
    assert banner.group().count("<li>") == 2
    assert source.count("No fees were charged although there were trades.") == 2


def test_the_curve_and_its_drawdown_are_drawn(source: str) -> None:
    result = invented_result()
    equity, drawdown = charts(source)["equity"]["data"]
    assert equity["y"] == [float(value) for _, value in result.equity]
    assert (equity["x"][0], equity["x"][-1]) == ("2021-03-10T00:00:00", "2024-03-14T00:00:00")
    assert min(drawdown["y"]) == pytest.approx(-float(str(result.summary["max_drawdown"])))


def test_the_cost_split_adds_up_to_the_change_of_equity(source: str) -> None:
    result = invented_result()
    (waterfall,) = charts(source)["costs"]["data"]
    *parts, change = waterfall["y"]
    assert waterfall["x"] == ["Price P&L", "Slippage", "Fees", "Funding", "Change of equity"]
    assert sum(parts) == pytest.approx(change)
    assert change == pytest.approx(float(result.equity[-1][1] - result.equity[0][1]))
    assert parts[2] == -1_200.0


@pytest.mark.parametrize("seed", range(5))
def test_every_trade_is_in_the_distribution_and_no_bin_spans_zero(seed: int, tmp_path: Path) -> None:
    result = invented_result(trades=120, seed=seed)
    result.trades += [
        replace(result.trades[0], price_pnl=Decimal(net), slippage=Decimal(0), fees=Decimal(0), funding=Decimal(0))
        for net in ("0", "0.01", "-0.01")
    ]
    (bars,) = charts(written(result, tmp_path))["distribution"]["data"]
    assert sum(bars["y"]) == 123
    losing = sum(trade.net < 0 for trade in result.trades)
    colours = bars["marker"]["color"]
    assert sum(count for count, colour in zip(bars["y"], colours, strict=True) if colour == "var(--loss)") == losing


def test_months_by_years_with_totals(source: str) -> None:
    table = re.search(r'<table class="heat">.*?</table>', source, re.DOTALL)
    assert table
    rows = re.findall(r'<tr><th scope="row">(\d+)</th>(.*?)</tr>', table.group(), re.DOTALL)
    assert [year for year, _ in rows] == ["2021", "2022", "2023", "2024"]
    filled = [len(re.findall(r"--heat", cells)) for _, cells in rows]
    assert filled == [10 + 1, 12 + 1, 12 + 1, 3 + 1]
    assert all(len(re.findall(r"<td", cells)) == 13 for _, cells in rows)


def trade_rows(source: str) -> list[list[str]]:
    section = re.search(r'<section class="card" id="trades">.*?</section>', source, re.DOTALL)
    assert section
    rows = re.findall(r"<tr><td.*?</tr>", section.group(), re.DOTALL)
    return [[unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)] for row in rows]


def test_all_trades_are_listed_up_to_the_limit(source: str) -> None:
    rows = trade_rows(source)
    trades = invented_result().trades
    assert "All 300 trades." in source
    assert [row[0] for row in rows] == [str(i) for i in range(1, 301)]
    assert [row[13] for row in rows] == [f"{trade.net:,.2f}" for trade in trades]


def test_of_many_trades_the_best_and_the_worst_are_listed(tmp_path: Path) -> None:
    result = invented_result(trades=700)
    source = written(result, tmp_path)
    assert "The 250 best and the 250 worst by net result, of 700 trades." in source
    shown = sorted(float(row[13].replace(",", "")) for row in trade_rows(source))
    nets = sorted(float(trade.net) for trade in result.trades)
    assert shown == nets[:250] + nets[-250:]


def test_text_is_escaped_everywhere(tmp_path: Path) -> None:
    evil = "</script><script>alert('x')</script><b a=\"1\">&"
    result = invented_result(trades=3)
    result.trades = [replace(trade, instrument=InstrumentId(evil), exit_reason=evil) for trade in result.trades]
    result.per_symbol = {InstrumentId(evil): {evil: evil, "trades": 3}}
    result.assumptions, result.warnings = [evil], [evil]
    result.settings = {"strategies": [{"name": evil}], "timeframe": evil, evil: evil}
    result.summary |= {evil: evil, "config_sha256": evil}
    source = written(result, tmp_path)
    assert "alert('x')" not in source
    assert "<b a=" not in source
    page = Page(source)
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert page.text.count(evil) >= 10


def test_undefined_figures_are_a_dash(tmp_path: Path) -> None:
    result = invented_result(trades=0)
    result.equity = result.equity[:1]
    result.summary |= summarise(result.equity)
    source = written(result, tmp_path)
    page = Page(source)
    assert page.figures["sharpe"] == "–"
    assert "nan" not in page.text.lower().split()
    assert "No trade was closed." in source
    assert "distribution" not in charts(source)


def test_the_same_result_gives_the_same_bytes(source: str, tmp_path: Path) -> None:
    assert written(invented_result(), tmp_path) == source


def test_the_folder_is_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "run.html"
    write_report(invented_result(trades=3), path)
    assert [entry.name for entry in path.parent.iterdir()] == ["run.html"]


def test_when_rendering_fails_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text("the report of before")
    result = invented_result(trades=3)
    result.equity = []
    with pytest.raises(ValueError, match="equity curve"):
        write_report(result, path)
    assert path.read_text() == "the report of before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.html"]


def test_when_writing_fails_nothing_half_written_is_left(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError):
        write_report(invented_result(trades=3), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.html"]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("net_usdt", "-1234567.895", "-1,234,567.90"),
        ("net_usdt", "-0.001", "0.00"),
        ("win_rate", 0.5, "50.00%"),
        ("max_leverage_frac", 0.25, "25.00%"),
        ("orders", 1234567, "1,234,567"),
        ("flag", True, "yes"),
        ("nothing", None, "–"),
        ("bars_per_s", 251_234.56789, "251,235"),
        ("days", 1_703.0, "1,703"),
        ("exposure", 0.123456, "0.1235"),
        ("worst", "n/a", "n/a"),
        ("ledger_difference_usdt", "0.00000001", "0.00000001"),
        ("detail", {"a": 1}, '{"a": 1}'),
    ],
)
def test_how_a_figure_reads(key: str, value: object, text: str) -> None:
    assert report._shown(key, value).text == text


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (Decimal(100) / 3, "33.33333"),
        (Decimal("44937.5"), "44,937.50"),
        (Decimal("0.0000123456789"), "0.0000123457"),
    ],
)
def test_an_average_price_is_cut_to_what_can_be_read(price: Decimal, text: str) -> None:
    assert report._price(price) == text


def test_labels_are_words() -> None:
    assert report._label("final_equity_usdt") == "Final equity USDT"
    assert report._label("config_sha256") == "Config SHA-256"
    assert report._label("cagr") == "CAGR"
